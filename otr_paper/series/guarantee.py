"""What must break before a false answer counts: the hypotheses of the composed guarantee beside what
this artifact measures of each, the price of the best cheat, and the lemmas, as rows and as a page.

Every number comes from stored results, the court's terms and the use cases.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from otr_core.economics import scenarios
from otr_core.economics.deterrence import kept_share, loss_if_caught
from otr_core.economics.guarantee import Cheat, Setting, attack_profit, class_break, deterring_loss
from otr_core.economics.guidance import guide
from otr_core.economics.honesty import GRIEF_RATIO
from otr_core.economics.premises import HYPOTHESES, NEEDS
from otr_node.project import Project
from otr_paper.series.spotchecks import unit_detection_curves
from otr_paper.store.records import Records, records, spelled
from otr_paper.store.results import read_result
from otr_paper.studies.dispute_costs import TERMS

PAGE = "docs/guarantee.md"
"""Where the page stands in a checkout."""
RULE, MEASURED, ASSUMED, PARTLY, FAILS = "rule of the court", "measured", "assumed", "in part", "fails"
"""Verdicts: a test plays it in the court; a stored measurement supports it; nothing here does; some of
it is one of these; this artifact does not have it."""
RATE, SAVED_USD, UNITS = 0.01, 10.0, 16
"""The case of ``best_cheats``: the paper's rate, a gain, and the units that a drawn proof opens."""

_COURT = "tests/otr_core/dispute/test_"
TESTS = {
    "H1": ("duties.py::test_two_answers_under_one_order_convict", "duties.py::test_one_receipt_in_two_places_convicts"),
    "H3": (
        "duties.py::test_a_withheld_receipt_convicts_in_time_and_pays_who_demanded_it",
        "duties.py::test_a_draw_is_the_first_value_after_the_batch_and_nobody_picks_it",
    ),
    "H5": (
        "duties.py::test_a_drawn_answer_whose_verdict_is_not_shown_in_time_convicts",
        "incentives.py::test_silence_after_a_decoy_does_not_help_either",
    ),
    "H6": ("coalition.py::test_the_bound_is_met_by_who_convicts_itself_first",),
    "H6 freeze": ("incentives.py::test_nothing_becomes_final_while_another_batch_is_disputed",),
    "H8": ("incentives.py::test_a_decoy_that_convicts_first_takes_nothing_of_what_the_earlier_challenge_earns",),
    "H9": ("incentives.py::test_a_griefer_pays_more_than_the_operator_for_each_freeze_and_it_ends",),
    "H10": ("incentives.py::test_no_more_is_in_flight_than_the_stake_stands_for",),
    "H12": ("roles.py::test_the_first_conviction_of_a_trusted_key_is_a_fuse_for_its_class",),
}
"""Tests that play a hypothesis in the court, below ``tests/otr_core/dispute``."""
_STORED = ("attacks", "attestation_cases", "statement_lies", "disputes", "four_systems")
#: Hypothesis -> what its numbers are; the kind of a stored result is its card's.
_NUMBERS = {
    "H1": "{attacks}; {statement_lies}",
    "H2": "{attestation_cases}",
    "H4": "drawn: recomputed from `spot_detection`; looked: {four_systems}",
    "H7": "recomputed from the use cases, whose bounties and rates are assumed",
    "H9": "gas: {disputes}; bond and its share: terms of the court, assumed; ratio cited",
    "H10": "terms of the court, assumed",
}


def _results(project: Project, *names: str) -> list[Mapping[str, Any]]:
    return [read_result(project.results, name)[1] for name in names]


def hypotheses(project: Project) -> Records:
    """Records of hypothesis, says, here (what this artifact has of it), verdict, tests, needed_by."""
    attacks, evidence, lies = _results(project, "attacks", "attestation_cases", "statement_lies")
    disputes, spot, four = _results(project, "disputes", "spot_detection", "four_systems")
    caught = [row for row in attacks["rows"] if row["caught_by"]]
    stopped = [row for row in evidence["attack_matrix"] if row["result"] == "stopped"]
    tried = [row for row in evidence["attack_matrix"] if row["result"] != "no attack"]
    convicted = [row for row in lies["rows"] if row["convicted"]]
    frauds = [fraud for row in four["rows"] for fraud in row["frauds"].values()]
    found = [fraud for fraud in frauds if fraud["re_execution"]]
    whole = max(row["computed"] for row in spot["rows"] if row["units"] == UNITS)
    layer = min(row["computed"] for row in spot["rows"] if row["units"] == UNITS)
    gas = max(row["gas_dispute"] for row in disputes["disputes"])
    paid = TERMS.bond_wei * TERMS.compensation_bps / 10_000
    ratio_gwei = TERMS.bond_wei / (GRIEF_RATIO * gas) / 1e9
    cases = scenarios.load(project.data).values()
    looks = sum(guide(case).look_pays for case in cases)
    rows = {
        "H1": (
            f"{len(caught)} of {len(attacks['rows'])} false receipts refused, {len(convicted)} of {len(lies['rows'])} "
            "lies about a statement convicted",
            MEASURED,
        ),
        "H2": (
            f"{len(stopped)} of {len(tried)} attacks on recorded evidence stopped; that the guest measures what it "
            "runs is taken from its image, and the TEE of the stored receipts is simulated",
            PARTLY,
        ),
        "H3": (
            "a withheld receipt is a duty with a clock, and the first beacon value after the batch draws; that a "
            "public beacon cannot be biased is assumed",
            RULE,
        ),
        "H4": (
            f"drawn: {whole:.4f} of whole-model and {layer:.4f} of one-layer cheats with {UNITS} units; "
            f"looked: {len(found)} of {len(frauds)} frauds found by running the answer again; "
            "how many fishermen look is not measured",
            PARTLY,
        ),
        "H4 independent": ("common outages of fishermen are not measured", ASSUMED),
        "H5": ("a missed clock, a missing verdict and a withheld receipt slash as a lost dispute does", RULE),
        "H6": ("one conviction voids all batches that are not final", RULE),
        "H6 freeze": ("no batch of an operator is paid while a challenge or duty of it is open", RULE),
        "H7": (
            f"no test of a fisherman by itself exists here; planted faults pay a look in {looks} of {len(cases)} use "
            "cases, and a shared bounty falls with each further claim",
            FAILS,
        ),
        "H8": ("the earliest committed challenge that is right is paid, on whichever answer", RULE),
        "H9": (
            f"the dearest stored dispute takes {gas:,} gas: a lost bond covers it up to {paid / gas / 1e9:,.0f} gwei, "
            f"and is {GRIEF_RATIO:g} times as much up to {ratio_gwei:,.1f} gwei",
            MEASURED,
        ),
        "H10": (
            f"escrow in flight is capped at {TERMS.cap_bps / 10_000:.0%} of the stake; what a false answer earns "
            "elsewhere no contract sees",
            PARTLY,
        ),
        "H11": ("no price of censoring is modelled", ASSUMED),
        "H12": (
            "the first conviction of a trusted key holds up its class; that the arbiter's platform is of another class "
            "is left to who sets it up",
            PARTLY,
        ),
    }
    needed = {
        name: ", ".join(theorem for theorem, needs in NEEDS.items() if name in needs) or "tighter bounds"
        for name in rows
    }
    return records(
        "hypothesis, says, here, verdict, tests, needed_by",
        [(name, HYPOTHESES[name], *rows[name], TESTS.get(name, ()), needed[name]) for name in HYPOTHESES],
    )


def best_cheats(project: Project, *, rho: float = RATE, gain_usd: float = SAVED_USD) -> Records:
    """The price of the best cheat: records of cheat, check, detection (given drawn), price_usd (gain
    over detection at rate ``rho``, which the loss of a conviction has to cover), all for one gain.

    A cheat of few values gains as much as one of the whole model where a paid token changes. By units
    its price has no useful bound; a proof of the whole answer or a run of it is one check for all.
    """
    spot, four = _results(project, "spot_detection", "four_systems")
    measured = unit_detection_curves(
        spot, units=(UNITS,), worst=0.0, leaves=spot["leaves"], down_blocks=four["units"]["down_blocks"]
    )
    kinds = [(row["cheat"], f"{UNITS} drawn units", row["detection"]) for row in measured if row["detection"] > 0]
    kinds += [("any of these", "proof of the whole answer", 1.0), ("any of these", "another run of it", 1.0)]
    rows = []
    for name, check, drawn in kinds:
        cheat = Cheat(name=name, gain_usd=gain_usd, drawn=drawn, looked=0.0)
        setting = Setting(price_usd=0.0, loss_usd=0.0, rho=rho, phi=0.0, pending=0, cheats=(cheat,))
        rows.append((name, check, drawn, setting.price_of_best_cheat()[1]))
    return records("cheat, check, detection, price_usd", rows)


def class_breaks(case: scenarios.Scenario, *, operators: int) -> Records:
    """False answers that a broken class yields in a use case: records of fuse, final, served. The
    window is as long as a verdict takes."""
    flow = case.flow
    terms: dict[str, Any] = {
        "verdict_s": flow.verdict_s,
        "window_s": flow.verdict_s,
        "answers_per_s": flow.queries_per_s,
    }
    terms |= {"attempts": round(flow.until_patch), "operators": operators, "detection": case.watch.detection(0.0)}
    breaks = [(fuse, class_break(**terms, fuse=fuse)) for fuse in (False, True)]
    return records("fuse, final, served", [(fuse, found.final, found.served) for fuse, found in breaks])


def _schedules(case: scenarios.Scenario, reward_share: float) -> list[tuple[str, int, float]]:
    """Ways to cheat in a use case: name, answers after the caught one, what comes back of a slash."""
    return [
        ("one answer at a time", 0, 0.0),
        ("until the verdict", case.flow.pending, 0.0),
        ("and its own fisherman is paid", case.flow.pending, reward_share),
    ]


def profit_curves(case: scenarios.Scenario, *, stakes_usd: Iterable[float], reward_share: float) -> Records:
    """What an operator of a use case with a broken platform earns against its stake: records of
    stake_usd, schedule, profit_usd. Sampling at the stated rate alone finds it out.

    The schedules: one answer at a time, and on each until the verdict, with nothing of the slash back;
    and the latter with ``reward_share`` of it back to an own fisherman.
    """
    terms = _cheat(case)
    rows = []
    for name, pending, share in _schedules(case, reward_share):
        for stake in stakes_usd:
            loss = loss_if_caught(
                stake_usd=stake, slash_fraction=case.bond.slash_fraction, dispute_cost_usd=0.0, reward_share=share
            )
            rows.append((float(stake), name, attack_profit(**terms, loss_usd=loss, pending=pending)))
    return records("stake_usd, schedule, profit_usd", rows)


def least_stakes(case: scenarios.Scenario, *, reward_share: float) -> dict[str, float]:
    """By schedule of ``profit_curves``, the stake at which it stops to pay, USD; infinite where all that is
    slashed comes back."""
    found = {}
    for name, pending, share in _schedules(case, reward_share):
        kept = kept_share(slash_fraction=case.bond.slash_fraction, reward_share=share)
        found[name] = deterring_loss(**_cheat(case), pending=pending) / kept if kept else math.inf
    return found


def _cheat(case: scenarios.Scenario) -> dict[str, float]:
    found = {"gain_usd": case.answer.gain_usd, "price_usd": case.answer.price_usd}
    return found | {"detection": case.watch.detection(0.0)}


def class_curves(case: scenarios.Scenario, *, operators: int, verdicts_s: Iterable[float]) -> Records:
    """A broken class of a use case against the time to a verdict, the window as long: records of
    verdict_s, what, answers."""
    rows = []
    for verdict_s in verdicts_s:
        slow = replace(case, flow=replace(case.flow, verdict_s=float(verdict_s)))
        for row in class_breaks(slow, operators=operators):
            fuse = "with a fuse" if row["fuse"] else "no fuse"
            rows += [(float(verdict_s), f"{what}, {fuse}", row[what]) for what in ("served", "final")]
    return records("verdict_s, what, answers", rows)


def lemma_rows(stored: Mapping[str, Any]) -> Records:
    """Records of lemma, says, verdict, without: what each hypothesis holds up."""
    rows = []
    for row in stored["lemmas"]:
        verdict = "refuted, as it must be" if row["false"] else "proven"
        rows.append((row["name"], row["says"], verdict, "; ".join(row["dropped"]) or _numbers(row["refuted"])))
    return records("lemma, says, verdict, without", rows)


def _numbers(found: Mapping[str, str]) -> str:
    return "counter-example " + ", ".join(f"{name} = {value}" for name, value in found.items())


def _table(rows: Iterable[Iterable[object]], *head: str) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def breaking_page(project: Project) -> str:
    """The page of the stored results."""
    (stored,) = _results(project, "guarantee")
    mixed = stored["mixed"]
    case = scenarios.load(project.data)["chatbot"]
    operators = 100
    kinds = {name: f"{read_result(project.results, name)[0].kind} (`{name}`)" for name in _STORED}
    held = [
        (row["hypothesis"], row["says"], row["here"], _NUMBERS.get(row["hypothesis"], "none").format(**kinds),
         row["verdict"], row["needed_by"],
         "<br>".join(f"`{_COURT}{test}`" for test in row["tests"]) or "none")
        for row in hypotheses(project)
    ]  # fmt: skip
    prices = [
        (row["cheat"], row["check"], f"{row['detection']:.3g}", f"{row['price_usd']:,.4g} USD")
        for row in best_cheats(project)
    ]
    broken = [
        ("yes" if row["fuse"] else "no", f"{row['final']:,.0f}", f"{row['served']:,.0f}")
        for row in class_breaks(case, operators=operators)
    ]
    steps = [(row["lemma"], row["says"], row["verdict"], row["without"]) for row in lemma_rows(stored)]
    page = _PAGE.format(
        held=_table(
            held, "hypothesis", "says", "what this artifact has", "its numbers", "verdict", "needed for", "in the court"
        ),
        prices=_table(prices, "cheat", "check of a drawn answer", "found if drawn", "gain over detection"),
        broken=_table(broken, "fuse", "final", "served"),
        steps=_table(steps, "lemma", "says", "z3", "without, a counter-example is stored for"),
        gain=f"{SAVED_USD:g} USD", rate=f"{RATE:.0%}", operators=operators, case=case.title.lower(),
        checked=read_result(project.results, "guarantee")[0].kind,
        **_shares(case), away=f"{stored['away']:.0%}", mixed_away=f"{mixed['slack_most'] - 1:.0%}", **_counts(stored),
    )  # fmt: skip
    return spelled(page)


def _shares(case: scenarios.Scenario) -> dict[str, str]:
    """What comes back of a slash in a use case and in the court, and what that does to a stake."""
    ours, court = case.bond.reward_share, TERMS.reward_bps / 10_000
    return {"share": f"{ours:.0%}", "court": f"{court:.0%}", "dearer": f"{(1 - ours) / (1 - court):.3g}"}


def _counts(stored: Mapping[str, Any]) -> dict[str, str]:
    exact, mixed, single, classes = (stored[name] for name in ("exact", "mixed", "operators", "classes"))
    return {
        "points": f"{exact['points']:,}",
        "right": f"{exact['right']:,}",
        "gap": f"{exact['largest_gap']:.1g}",
        "searched": f"{exact['searched']:,}",
        "within": f"{exact['search_within']:,}",
        "above": f"{exact['search_above']:,}",
        "mixed": f"{mixed['points']:,}",
        "enough": f"{mixed['enough']:,}",
        "played": f"{classes['points']:,}",
        "over": f"{classes['above']:,}",
        "inside": f"{single['inside']:,}",
        "single": f"{single['points']:,}",
    }


_PAGE = """# What must break

Made by `python -m otr_paper.producers.guarantee`. The theorem and its proof stand in `otr_core/economics/guarantee.py`:
a false answer becomes final only if the platform is broken *and* no spot check refuses it *and* no fisherman outside
the adversary convicts; and no schedule of cheats pays if `D (v + L - R G) >= g` for every kind of cheat, where
`L = (1 - alpha) sigma S + k` is what a conviction costs when the operator's own fisherman is paid for it.

Of each kind of cheat, `g` is its gain over honesty (kept even when caught) and `D` the chance that it is detected;
`G` is the most by which a kind's gain exceeds the price. `v` is the price of an answer, `R` the most answers that are
served between a cheat and its verdict, `S` the stake, `sigma` the share of it that is slashed, `alpha` the share of a
slash that comes back to the operator's own fisherman, and `k` what else a conviction costs. `rho` is the share of
answers drawn, `d` the chance that a drawn check refuses the cheat, `phi` the chance that a fisherman looks, and `w` the
chance that such a look convicts: `D = 1 - (1 - rho d)(1 - phi w)`.

## Hypotheses, and what supports each

{held}

What follows from those that fail or are assumed: without tests of each fisherman by itself, the chance that anybody
looks while nobody cheats is to be taken as none, and the rate of spot checks alone has to deter. That is what
`otr economics` advises. Without independence the larger of the two detections counts alone.

## The price of the best cheat

A cheat that gains {gain} at a rate of {rate}, nobody else looking. The stake that a conviction loses for good has to
cover the last column; the rows differ in how much of the answer the cheat touches, and it touches as little as it can.

{prices}

Recomputed: detection by drawn units from what `spot_detection` and `four_systems` store; that of the two checks of a
whole answer is 1 by what they are. The rate is cited from the paper, the gain is assumed.

## A broken class

{operators} operators of one broken class in the {case} use case, until the patch; all cheat on every answer. With
a fuse the first conviction holds up what is not final of the whole class. What is served is hit only if somebody acts
on it before it is final: what is left is the time to a verdict, not the rate.

{broken}

Recomputed; rate, chance to find a drawn cheat, speed, time to a verdict and to the patch are those of the use case, the
rate cited and the rest assumed (`data/scenarios` gives each source), the number of operators assumed.

Where the window is shorter than a verdict takes, the fuse comes late by that much: a challenge freezes its operator,
and not yet its class.

## What comes back of a slash

The share alpha that the operator's own fisherman gets stands in two places, and both are assumed: {share} in the use
cases (`data/scenarios`), which `otr economics` and notebook 05 size stakes with, and {court} in the court's terms
(`data/deployment.toml`), which the disputes and the simulation of deterrence use.
The use cases pay a part of the slash to the user; the court pays the user nothing. All else equal, a stake that just
deters by the share of the use cases has to be {dearer} times as large by the court's.

## How it was checked

All of it is {checked}; what is played event by event is simulated.

* Value iteration over all strategies in a window of slots, {away} on either side of the threshold: {right} of {points}
  random points as the closed form says; the largest difference in value is {gap} of what is at stake.
* Hill climbing that does not know the answer comes within {away} of the bound in {within} of {searched} points, and
  above it in {above}.
* Mixes of two and three kinds, windows longer and shorter than a verdict: the bound is enough in {enough} of {mixed};
  it asks for {mixed_away} more than needed at the worst.
* One operator that cheats until its verdict, played event by event, with the freeze and without: {inside} of {single}
  mean profits within four standard errors of the closed form.
* Classes of operators played event by event: {over} of {played} means above the counts of the theorem.
* Lemmas, by z3; the counter-examples are stored in `data/results/guarantee.json`:

{steps}

Not covered: a gain that no contract bounds (a position against the operator's own stake), a stake that loses its value
with the break, adversaries who like risk, and the price of keeping a transaction out of every block. That a
supermartingale stays one under optional stopping is proven by hand.
"""
