"""A sized network on one page, and its constants for programs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from otr_core.economics.guidance import BUDGET, VALUE
from otr_node.sizing.size import NetworkReport
from otr_node.sizing.terms import NetworkTerms

USD6, PPB = 10**6, 10**9
"""Units of the constants: millionths of a USD, as in tokens with six decimals, and parts per billion."""


def usd(amount: float, infinite: str = "none is enough") -> str:
    """An amount in words of a page: four digits, thousands apart."""
    if not math.isfinite(amount):
        return infinite
    return f"{amount:,.0f} USD" if amount >= 1000 else f"{amount:.4g} USD"


def _share(value: float) -> str:
    return f"{100 * value:.3g} %"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in lines]


def _steps(terms: NetworkTerms, most: int = 6) -> list[tuple[float, float, float]]:
    """At most ``most`` of the rates by value, evenly spread, the largest value among them: value up to
    which, share of the answers up to it, rate."""
    size = terms.values_usd.size
    ends = sorted({round((size - 1) * number / max(min(most, size) - 1, 1)) for number in range(min(most, size))})
    below = terms.shares.cumsum()
    return [(float(terms.values_usd[end]), float(below[end]), float(terms.rhos[end])) for end in ends]


def report_page(report: NetworkReport) -> str:
    """The report, Markdown."""
    case, terms = report.scenario, report.terms
    verdict = (
        f"Under these terms no schedule of cheats pays (set by: {terms.binds}). Users: {terms.acts}."
        if terms.deters
        else f"**No terms within the limits deter** (in the way: {terms.binds}). What follows is what it would take."
    )
    if terms.refused > 0 and terms.deters:
        verdict += (
            f" {_share(terms.refused)} of the answers are worth more than any allowed stake can back: refuse them."
        )
    if terms.deters:
        verdict += (
            f" Who acts early loses {usd(terms.early_usd)} a query in expectation, of at most "
            f"{usd(case.limits.most_harm_usd)} that it bears: so until a false answer does {terms.bearable:.3g} times "
            "the harm that is assumed."
        )
    looks = "none counted"
    if terms.fishermen:
        looks = (
            f"{terms.fishermen}, each with {usd(terms.fisherman_stake_usd)} at stake, looking at "
            f"{_share(terms.look_rate)} of the answers and tested on {_share(terms.tested)} of its looks"
        )
    claimed = "one value for all, as the network file says"
    if report.claims is not None:
        kinds, days = report.claims.values_usd.size, " to ".join(report.claims.dates)
        claimed = f"{report.claims.answers:,.0f} of {kinds} values, {days}"
    lines = [f"# {case.title}: stake, rate, penalty, bounty", "", case.about, "", verdict, ""]
    lines += _table(
        ("term", "value"),
        [
            ("stake of an operator", usd(terms.stake_usd)),
            ("answers spot-checked", f"{_share(terms.rho)} (mean)"),
            ("penalty: slashed of a caught operator", usd(terms.penalty_usd)),
            ("of it to who caught it first", usd(terms.reward_usd)),
            ("of it burnt", usd(terms.burnt_usd)),
            ("bounty for a planted fault, so that a look pays", usd(terms.bounty_usd)),
            ("fishermen", looks),
            ("largest value served", usd(terms.cap_usd)),
            ("proofs, looks and interest, a query", usd(terms.cost_usd)),
            ("answers valued", claimed),
        ],
    )
    if len(terms.rhos) > 1:
        rows = [(usd(value), _share(below), _share(rho)) for value, below, rho in _steps(terms)]
        lines += ["", "## Rate by value", "", *_table(("value up to", "answers up to it", "spot-checked"), rows)]
    lines += ["", "## What a broken class costs its users in a year (simulated)", ""]
    if report.final and report.served:
        names = (("who wait for finality", report.final), ("who act on provisional answers", report.served))
        head = ("users", "mean", "half of the years below", "95 % (VaR)", "99 % (VaR)", "mean beyond that")
        lines += _table(
            head,
            [
                (name, usd(one.mean_usd), *map(usd, one.at_risk_usd.values()), usd(one.beyond_usd))
                for name, one in names
            ],
        )
        exposure = case.exposure
        fuse = "the first conviction stops the class" if exposure.fuse else "each is stopped by its own conviction"
        lines += [
            "",
            f"Breaks a year: {exposure.breaks_per_year:g}; in each {exposure.cheating:.0f} of {exposure.operators:.0f} "
            f"operators answer falsely whatever it costs them; {fuse}.",
        ]
    else:
        lines += ["Nothing to simulate: no terms."]
    lines += ["", "## What honesty costs", ""]
    if report.outage is not None:
        lost = report.outage
        lines += [
            f"An honest operator misses a duty with {_share(case.flow.outage)}: {usd(lost.answer_usd)} an answer, "
            f"{usd(lost.year_usd)} a year. A slash costs it {usd(lost.slash_usd)}; one comes in a year with "
            f"{_share(lost.slashed_in_a_year)}.",
        ]
    lines += ["", "## Had one number been another", ""]
    changes = [
        (
            words,
            "yes" if one.deters else "no",
            usd(one.stake_usd),
            _share(one.rho),
            usd(one.cap_usd),
            f"{one.fishermen}, {_share(one.look_rate)}",
            usd(one.cost_usd),
        )
        for words, one in (("as stated", terms), *report.changes)
    ]
    lines += _table(
        ("change", "deters", "stake", "spot-checked", "largest value", "fishermen, looks", "cost a query"), changes
    )
    lines += ["", "## What breaks it", ""]
    held = [
        (name, says, "**fails here**" if name in case.failing else "taken to hold", without)
        for name, says, without in report.breaks
    ]
    lines += _table(("hypothesis", "says", "here", "without it"), held)
    assumed = sum(source.startswith("assumption") for source in case.sources.values())
    lines += [
        "",
        "Beyond the hypotheses: a stake in a token that falls with a break is worth less when needed; at half its "
        f"price twice as many tokens are needed for {usd(terms.stake_usd)}. Of the {len(case.sources)} numbers of the "
        f"network file {assumed} are assumed; report.json names the source of each.",
    ]
    return "\n".join(lines) + "\n"


def _constants(report: NetworkReport) -> dict[str, int]:
    """Whole numbers, rounded to the side that deters."""
    terms = report.terms
    amounts = {
        "stake": terms.stake_usd,
        "penalty": terms.penalty_usd,
        "reward": terms.reward_usd,
        "burnt": terms.burnt_usd,
        "fisherman_stake": terms.fisherman_stake_usd,
    }
    found = {f"{name}_usd6": math.ceil(amount * USD6) for name, amount in amounts.items()}
    if math.isfinite(terms.bounty_usd):
        found["bounty_usd6"] = math.ceil(terms.bounty_usd * USD6)
    found["value_cap_usd6"] = math.floor(terms.cap_usd * USD6)
    shares = {"look_rate": terms.look_rate, "test_rate": terms.tested}
    found |= {f"{name}_ppb": min(math.ceil(share * PPB), PPB) for name, share in shares.items()}
    return found | {"fishermen": terms.fishermen}


def _rates_ppb(report: NetworkReport) -> list[tuple[int, int]]:
    """Value up to which, millionths of a USD, and rate, parts per billion; equal rates together."""
    pairs: list[tuple[int, int]] = []
    for value, rho in zip(report.terms.values_usd, report.terms.rhos, strict=True):
        upto, rate = math.floor(value * USD6), min(math.ceil(rho * PPB), PPB)
        if pairs and pairs[-1][1] == rate:
            pairs.pop()
        pairs.append((upto, rate))
    return pairs


def constants_toml(report: NetworkReport) -> str:
    """The terms as TOML: whole numbers, amounts in millionths of a USD, shares in parts per billion."""
    lines = [f"# Terms of {_word(report)} by otr size; amounts in millionths of a USD, shares in parts per billion."]
    lines += [f"{name} = {number}" for name, number in _constants(report).items()]
    for upto, rate in _rates_ppb(report):
        lines += ["", "[[rates]]", f"value_up_to_usd6 = {upto}", f"spot_ppb = {rate}"]
    return "\n".join(lines) + "\n"


def constants_solidity(report: NetworkReport) -> str:
    """The terms as a Solidity library, in the same units; a value above the cap reverts."""
    lines = [
        "// SPDX-License-Identifier: Apache-2.0",
        "pragma solidity ^0.8.20;",
        "",
        f"// Terms of {_word(report)} by otr size; amounts in millionths of a USD, shares in parts per billion.",
        "library OtrTerms {",
    ]
    lines += [
        f"    uint256 internal constant {name.upper()} = {number};" for name, number in _constants(report).items()
    ]
    lines += ["", "    function spotRatePpb(uint256 valueUsd6) internal pure returns (uint256) {"]
    lines += [f"        if (valueUsd6 <= {upto}) return {rate};" for upto, rate in _rates_ppb(report)]
    lines += ['        revert("value above the cap");', "    }", "}"]
    return "\n".join(lines) + "\n"


def _word(report: NetworkReport) -> str:
    """The network's name, with nothing in it that could end a comment."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", report.scenario.name)


def why_not(report: NetworkReport) -> str:
    """What is in the way, as one line for a terminal."""
    ways = {VALUE: "a cheat gains more than any allowed stake can back", BUDGET: "deterring costs more than it may"}
    return (
        f"{report.scenario.name}: no terms within the limits deter ({ways.get(report.terms.binds, report.terms.binds)})"
    )
