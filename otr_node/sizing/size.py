"""A network, sized: its terms, what they leave at risk, and what they hang on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from otr_core.economics.guarantee import deterring_loss
from otr_core.economics.guidance import PROVISIONAL, attentive
from otr_core.economics.premises import HYPOTHESES, NEEDS
from otr_core.economics.scenarios import Scenario
from otr_node.sizing.claims import Claims
from otr_node.sizing.losses import Losses, Outage, outage_cost
from otr_node.sizing.terms import NetworkTerms, changed, losses_of, mean_harm, safe_at, set_terms


def sweep_point(scenario: Scenario, claims: Claims | None = None) -> Callable[[Mapping[str, float]], dict[str, float]]:
    """A plain function from parameters to results, for sweeps such as radCAD's: keys as in ``changed``.

    It is pure: what it is given is all that its result depends on. Booleans come as 0 and 1, and what is
    without bound as infinity.
    """

    def point(parameters: Mapping[str, float]) -> dict[str, float]:
        case = changed(scenario, parameters)
        terms = set_terms(case, claims)
        names = ("stake_usd", "rho", "penalty_usd", "reward_usd", "cap_usd", "refused", "cost_usd", "safe_usd")
        found = {name: float(getattr(terms, name)) for name in (*names, "fishermen", "fisherman_stake_usd")}
        found |= {"deters": float(terms.deters), "provisional": float(terms.acts == PROVISIONAL)}
        if terms.values_usd.size:
            for name, early in (("final", False), ("served", True)):
                found[f"harm_{name}_usd"] = mean_harm(case, terms, provisional=early)
        return found

    return point


CHANGES: tuple[tuple[str, str, float], ...] = (
    ("a proof at a tenth of its price", "market.proof_cost_usd", 0.1),
    ("a proof at ten times its price", "market.proof_cost_usd", 10.0),
    ("capital twice as dear", "market.capital_rate_per_year", 2.0),
    ("verdicts twice as late", "flow.verdict_s", 2.0),
    ("a drawn cheat found half as often", "watch.d", 0.5),
    ("half of what is slashed now", "bond.slash_fraction", 0.5),
    ("harm ten times as large", "exposure.harm_usd", 10.0),
    ("breaks ten times as often", "exposure.breaks_per_year", 10.0),
)
"""What the report varies: words, number of the network file, factor."""


def sensitivity(scenario: Scenario, claims: Claims | None) -> list[tuple[str, NetworkTerms]]:
    """The terms advised had one number been another."""
    rows = []
    for words, name, factor in CHANGES:
        part, _, key = name.partition(".")
        value = getattr(getattr(scenario, part), key) * factor
        rows.append((words, set_terms(changed(scenario, {name: value}), claims)))
    if attentive(scenario):
        rows.append(("no fishermen: spot checks alone", set_terms(replace(scenario, attention=None), claims)))
    if claims is not None:
        twice = replace(claims, values_usd=claims.values_usd * 2.0)
        rows.append(("values twice as large", set_terms(scenario, twice)))
    else:
        gain = {"answer.outside_gain_usd": scenario.answer.outside_gain_usd + scenario.answer.gain_usd}
        rows.append(("a cheat gains twice as much", set_terms(changed(scenario, gain))))
    return rows


def what_breaks(scenario: Scenario, terms: NetworkTerms) -> list[tuple[str, str, str]]:
    """Hypothesis of the guarantee, what it says, and what becomes of these terms without it."""
    answer, bond, limits, flow = scenario.answer, scenario.bond, scenario.limits, scenario.flow
    largest = int(np.argmax(terms.values_usd)) if terms.values_usd.size else 0
    saved = answer.honest_cost_usd - answer.cheat_cost_usd
    value = float(terms.values_usd[largest]) if terms.values_usd.size else answer.outside_gain_usd
    gain = max((value + saved) * limits.gain_margin, 0.0)
    detection, drawn = (
        float(terms.detections[largest]),
        float(terms.rhos[largest]) * scenario.watch.d * limits.detection_margin,
    )
    looked = 1.0 - (1.0 - detection) / (1.0 - drawn) if drawn < 1 else 0.0

    def stake(caught: float, late: int = 0) -> str:
        loss = float(
            deterring_loss(gain_usd=gain, price_usd=answer.price_usd, detection=caught, pending=flow.pending, late=late)
        )
        need = loss / bond.kept_share if bond.kept_share else math.inf
        shown = f"{need:,.0f}" if need >= 1000 else f"{need:.4g}"
        return f"the stake would have to be {shown} USD" if math.isfinite(need) else "no stake deters"

    formulas = {
        "H3": "a provisional answer is covered by nothing, whatever its value",
        "H4 independent": stake(max(drawn, max(looked, 0.0))),
        "H6 freeze": stake(detection, flow.pending),
        "H7": f"{stake(drawn)}; the rate alone deters up to {safe_at(scenario, terms.stake_usd, drawn):,.4g} USD"
        if terms.fishermen
        else "nothing changes: no fisherman is counted here",
        "H10": f"a cheat that gains more than {terms.safe_usd:,.4g} USD beyond the compute saved pays",
        "H12": "in a break of the platform nobody is convicted, so that all that is answered until the patch is lost; "
        "outside a break the terms still deter",
    }
    formulas["H8"] = formulas["H7"]
    rows = []
    for name, says in HYPOTHESES.items():
        needed = ", ".join(theorem for theorem, needs in NEEDS.items() if name in needs)
        rows.append((name, says, formulas.get(name, f"no bound is left for {needed}")))
    return rows


@dataclass(frozen=True)
class NetworkReport:
    """All that ``otr size`` says of a network."""

    scenario: Scenario
    claims: Claims | None
    terms: NetworkTerms
    final: Losses | None
    served: Losses | None
    outage: Outage | None
    changes: list[tuple[str, NetworkTerms]]
    breaks: list[tuple[str, str, str]]

    def document(self) -> dict[str, Any]:
        """Plain values. JSON has no infinity: None says that nothing is enough, or limits."""
        terms = {
            name: value.tolist() if isinstance(value, np.ndarray) else _plain(value)
            for name, value in asdict(self.terms).items()
        }
        losses = {
            name: None
            if one is None
            else {"mean_usd": one.mean_usd, "beyond_usd": one.beyond_usd}
            | {f"var_{level:g}_usd": usd for level, usd in one.at_risk_usd.items()}
            for name, one in (("final", self.final), ("served", self.served))
        }
        names = ("deters", "rho", "stake_usd", "cost_usd")
        return {
            "name": self.scenario.name,
            "title": self.scenario.title,
            "failing": sorted(self.scenario.failing),
            "sources": dict(self.scenario.sources),
            "terms": terms,
            "losses_a_year": losses,
            "outage": None if self.outage is None else asdict(self.outage),
            "sensitivity": [
                {"change": words} | {name: _plain(getattr(one, name)) for name in names} for words, one in self.changes
            ],
            "breaks": [dict(zip(("hypothesis", "says", "without"), row, strict=True)) for row in self.breaks],
        }


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def size_network(scenario: Scenario, claims: Claims | None = None) -> NetworkReport:
    """The report on one network."""
    terms = set_terms(scenario, claims)
    known = bool(terms.values_usd.size) and math.isfinite(terms.stake_usd)
    final, served = (
        (losses_of(scenario, terms, provisional=False), losses_of(scenario, terms, provisional=True))
        if known
        else (None, None)
    )
    return NetworkReport(
        scenario=scenario,
        claims=claims,
        terms=terms,
        final=final,
        served=served,
        outage=outage_cost(scenario, rho=terms.rho, stake_usd=terms.stake_usd) if known else None,
        changes=sensitivity(scenario, claims),
        breaks=what_breaks(scenario, terms),
    )
