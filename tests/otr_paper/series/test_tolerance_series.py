"""The stored tolerance campaign, and the data of its figures."""

from __future__ import annotations

import math

import pytest

from otr_paper.labs.tolerance import calibration
from otr_paper.labs.tolerance.native_operators import OPERATORS
from otr_paper.series import tolerance as tolerance_views
from otr_paper.store import results


@pytest.fixture(scope="module")
def stored(project):
    """The stored tolerance campaign."""
    return results.read_result(project.results, "tolerance")[1]


def test_stored_campaign_meets_the_bar(stored):
    for found in stored["lanes"].values():
        assert found["checks"] >= 10_000
        assert found["ieee_violations"] == 0
        assert all(o["held_out_violations"]["calibrated"] == 0 for o in found["operators"].values())
        assert set(found["operators"]) == set(OPERATORS)
        linear = {name for name, operator in OPERATORS.items() if operator.kind == "linear"}
        for row in found["cheats"]:
            if row["cheat"].startswith("layer") or (row["cheat"] == "int8 weights" and row["operator"] in linear):
                assert row["caught"] == row["trials"] > 0, row


def test_views_of_the_stored_campaign(stored):
    rows = tolerance_views.tradeoff(stored)
    assert len(rows) == 2 * len(OPERATORS) * 6
    for row in rows:
        limit = calibration.false_slash_limit(row["violations"], row["checks"])
        assert row["false_slash"] == (0 if row["envelope"] == 1 else limit)
        assert row["envelope"] == 1 or row["rule"] != "IEEE"
        assert 0 < row["output_half"] <= row["output_every"]
        assert 0 < row["element_half"] <= row["element_every"]
    for row in tolerance_views.caught_by_seed(stored):
        own = [r["element_every"] for r in rows if (r["lane"], r["rule"]) == (row["lane"], "calibrated")]
        assert 0 < row["element_every"] <= max(own)  # more trials are caught no sooner
    assert {row["cheat"] for row in tolerance_views.cheats(stored)} >= {"int8 weights", "int4 weights"}
    pushed = tolerance_views.adversary(stored)
    assert len(pushed) == 8
    assert all(0 <= row["flipped"] <= row["attacks"] > 0 for row in pushed)


def test_what_is_caught_with_each_seed_is_of_the_worst_operator():
    def drawn(seed, *least):
        sizes = {str(n): {"element": {"calibrated": {"every": size}}} for n, size in enumerate(least)}
        return {"seed": seed, "sizes": sizes}

    lanes = {"a": {"sizes_by_seed": [drawn(5, 0.1, 0.3, 0.2), drawn(6, 0.1, None)]}, "b": {}}
    found = tolerance_views.caught_by_seed({"lanes": lanes})
    assert [(row["lane"], row["seed"], row["element_every"]) for row in found] == [("a", 5, 0.3), ("a", 6, math.inf)]
