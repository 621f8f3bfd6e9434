"""What must break: every hypothesis has a row, every row its evidence, and the page is made of both."""

from __future__ import annotations

import math
import re

import pytest

from otr_core.dispute.profile import FILE, read_profile
from otr_core.economics import min_stake, scenarios
from otr_core.economics.premises import HYPOTHESES
from otr_paper.series import guarantee


def test_the_page_is_made_of_the_stored_results(project):
    assert (project.root / guarantee.PAGE).read_text() == guarantee.breaking_page(project)


def test_every_row_with_a_digit_says_what_its_numbers_are(project):
    kinds = ("measured", "recomputed", "simulated", "cited", "assumed")
    rows = [line.split(" | ") for line in guarantee.breaking_page(project).splitlines() if line.startswith("| H")]
    assert len(rows) == len(HYPOTHESES)
    for _, _, here, numbers, *_ in rows:
        assert any(kind in numbers for kind in kinds) == bool(re.search(r"\d", here)), here


def test_the_page_states_both_shares_of_a_slash_and_what_the_larger_costs(project):
    terms, (share, *others) = (
        guarantee.TERMS,
        {case.bond.reward_share for case in scenarios.load(project.data).values()},
    )
    assert not others
    court = terms.reward_bps / 10_000
    assert read_profile(project.data / FILE).court == terms
    stakes = [
        min_stake(
            gain_usd=5.0, price_usd=0.1, slash_fraction=0.5, dispute_cost_usd=0.2, rho=0.01, d=0.9, phi=0.0, w=0.0,
            reward_share=alpha,
        )
        for alpha in (share, court)
    ]  # fmt: skip
    text = guarantee.breaking_page(project)
    assert f"both are assumed: {100 * share:.0f} % in the use" in text
    assert f"and {100 * court:.0f} % in the court's terms" in text
    assert f"{stakes[1] / stakes[0]:.3g} times as large" in text


def test_every_hypothesis_has_a_verdict_and_every_named_test_is_there(project):
    rows = guarantee.hypotheses(project)
    assert [row["hypothesis"] for row in rows] == list(HYPOTHESES)
    allowed = {guarantee.RULE, guarantee.MEASURED, guarantee.ASSUMED, guarantee.PARTLY, guarantee.FAILS}
    for row in rows:
        assert row["verdict"] in allowed
        assert row["here"]
        assert row["verdict"] != guarantee.RULE or row["tests"]
        for test in row["tests"]:
            file, name = test.split("::")
            text = (project.root / "tests" / "otr_core" / "dispute" / f"test_{file}").read_text()
            assert re.search(rf"^def {name}\(", text, re.MULTILINE), test


def test_the_stored_checks_keep_their_bars(project):
    from otr_paper.store.results import read_result

    stored = read_result(project.results, "guarantee")[1]
    exact, mixed, single, classes = (stored[name] for name in ("exact", "mixed", "operators", "classes"))
    assert stored["away"] <= 0.02
    assert exact["right"] == exact["points"] >= 2000
    assert exact["largest_gap"] < 1e-9
    assert exact["search_within"] >= 0.99 * exact["searched"] >= 990
    assert exact["search_above"] == 0
    assert mixed["enough"] == mixed["points"] >= 300
    assert single["inside"] >= single["points"] - 1
    assert classes["above"] <= 1
    for part in (exact, mixed, single, classes):
        assert [row["seed"] for row in part["by_seed"]] == stored["seeds"]
        for name in part.keys() - {"by_seed", "largest_gap", "slack_most", "slack_median"}:
            assert part[name] == sum(row[name] for row in part["by_seed"]), name
    assert exact["largest_gap"] == max(row["largest_gap"] for row in exact["by_seed"])
    assert mixed["slack_most"] == max(row["slack_most"] for row in mixed["by_seed"])


def test_the_best_cheat_is_the_one_that_touches_least(project):
    rows = {(row["cheat"], row["check"]): row for row in guarantee.best_cheats(project)}
    units = f"{guarantee.UNITS} drawn units"
    prices = [rows[cheat, units]["price_usd"] for cheat in ("whole model, 4-bit weights", "one layer, 4-bit weights")]
    sparse = rows["one value of one leaf", units]["price_usd"]
    assert prices[0] < prices[1] < sparse
    assert prices[0] == pytest.approx(1000, rel=1e-3)
    assert sparse > 1e8
    whole = rows["any of these", "proof of the whole answer"]
    assert whole["price_usd"] == pytest.approx(1000)


def test_a_fuse_leaves_what_is_in_flight(project):
    plain, fused = guarantee.class_breaks(scenarios.load(project.data)["chatbot"], operators=100)
    assert (round(plain["final"]), round(fused["final"])) == (10_001, 100)
    assert fused["served"] > 1000 * fused["final"]


def test_each_schedule_stops_to_pay_at_its_stake(project):
    case = scenarios.load(project.data)["defi_agent"]
    needs = guarantee.least_stakes(case, reward_share=0.3)
    assert list(needs.values()) == sorted(needs.values())
    for name, stake in needs.items():
        curve = guarantee.profit_curves(case, stakes_usd=[0.999 * stake, stake, 1.001 * stake], reward_share=0.3)
        below, at, above = (row["profit_usd"] for row in curve if row["schedule"] == name)
        assert below > 0 > above
        assert at == pytest.approx(0, abs=1e-9 * stake)


def test_who_gets_all_of_a_slash_back_is_deterred_by_no_stake(project):
    case = scenarios.load(project.data)["defi_agent"]
    *others, own = guarantee.least_stakes(case, reward_share=1.0).values()
    assert own == math.inf
    assert max(others) < math.inf


def test_a_class_is_drawn_as_it_is_counted(project):
    case = scenarios.load(project.data)["chatbot"]
    rows = guarantee.class_curves(case, operators=100, verdicts_s=[10.0, case.flow.verdict_s])
    at = {row["what"]: row["answers"] for row in rows if row["verdict_s"] == case.flow.verdict_s}
    plain, fused = guarantee.class_breaks(case, operators=100)
    assert at == {
        "final, no fuse": plain["final"], "served, no fuse": plain["served"], "final, with a fuse": fused["final"],
        "served, with a fuse": fused["served"],
    }  # fmt: skip
    early = {row["what"]: row["answers"] for row in rows if row["verdict_s"] == 10.0}
    assert early["final, with a fuse"] == at["final, with a fuse"]
    assert early["served, with a fuse"] < at["served, with a fuse"]
