"""Runs of several seeds: their medians under the names of one run, and every run."""

from __future__ import annotations

import pytest

from otr_core.errors import DataError
from otr_paper.producers.frame import by_seed


def measured(seed: int) -> dict:
    return {"cost": {"ms": seed * 1.5, "at": [seed, 10 - seed]}, "form": {"compiled": True, "tiles": None}, "of": "a"}


def test_medians_have_the_names_of_a_run_and_every_run_is_there() -> None:
    found = by_seed((4, 1, 9), measured)
    assert found["cost"] == {"ms": 6.0, "at": [4, 6]}
    assert found["least"]["cost"] == {"ms": 1.5, "at": [1, 1]}
    assert found["most"]["cost"] == {"ms": 13.5, "at": [9, 9]}
    for part in (found, found["least"], found["most"]):
        assert (part["form"], part["of"]) == ({"compiled": True, "tiles": None}, "a")
    assert found["seeds"] == [4, 1, 9]
    assert found["runs"] == [measured(4), measured(1), measured(9)]


@pytest.mark.parametrize("changed", [{"of": "b"}, {"form": {"compiled": False, "tiles": None}}, {"cost": {"ms": 1.0}}])
def test_runs_of_several_forms_have_no_median(changed: dict) -> None:
    with pytest.raises(DataError, match="expected one form"):
        by_seed((1, 2), lambda seed: measured(seed) | (changed if seed == 2 else {}))
    assert by_seed((2, 2), lambda seed: measured(seed) | changed)["least"] == measured(2) | changed


def test_a_list_that_is_longer_has_no_median() -> None:
    with pytest.raises(DataError, match="expected one form"):
        by_seed((1, 2), lambda seed: {"rows": [1] * seed})
