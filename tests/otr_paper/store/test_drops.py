"""What was left out of each stored result is written down: one entry a result, none more."""

from __future__ import annotations

import tomllib

import pytest

from otr_paper.store.results import read_result

#: Results that draw something, with fewer than three seeds. The number may only go down.
TOO_FEW = 30


@pytest.fixture(scope="module")
def drops(project):
    return tomllib.loads((project.data / "drops.toml").read_text())


def test_every_result_has_an_entry_and_every_entry_a_result(drops, project):
    assert drops.keys() == {path.stem for path in project.results.glob("*.json")}
    for name, entry in drops.items():
        assert {"seeds", "left_out"} <= entry.keys() <= {"seeds", "left_out", "why"}, name
        assert entry["left_out"].strip(), name


def test_seeds_are_those_of_the_card(drops, project):
    for name, entry in drops.items():
        card, _ = read_result(project.results, name)
        assert (card.seed is None) == (entry["seeds"] == 0), name


def test_at_least_three_seeds_or_a_reason(drops):
    few = [name for name, entry in drops.items() if 0 < entry["seeds"] < 3]
    assert all(drops[name]["why"].strip() for name in few)
    assert len(few) == TOO_FEW, "a result drawn with three seeds lowers the count"


def test_several_seeds_are_in_the_result(drops, project):
    assert drops["poq_adversary"]["seeds"] == len(read_result(project.results, "poq_adversary")[1]["training"])
