"""The terms a network is advised to set: stake, rates by value, penalty, bounty, fishermen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np

from otr_core.economics.deterrence import safe_value
from otr_core.economics.game import least_bounty
from otr_core.economics.guidance import (
    BUDGET,
    FINAL,
    LATE,
    NEITHER,
    PROVISIONAL,
    VALUE,
    guide,
    harm_known,
    premise_in_the_way,
)
from otr_core.economics.harm import harm_per_query, harm_weight
from otr_core.economics.scenarios import Scenario
from otr_core.economics.values import ValueRates, rates_by_value
from otr_core.errors import ParameterError
from otr_node.sizing.claims import Claims, Column
from otr_node.sizing.losses import Losses, yearly_losses

_SURE = 1.0 + 1e-9
"""Constants stand a billionth above the point of indifference, so that honesty is strictly better."""


@dataclass(frozen=True)
class NetworkTerms:
    """What a network is advised to set.

    Attributes:
        deters: whether these terms deter, within the limits; binds: what sets them, or is in the way.
        stake_usd, rho: stake of an operator, mean rate of spot checks. penalty_usd: slashed of a caught
            operator; reward_usd: of that, to who caught it first; burnt_usd: of that, to nobody.
        bounty_usd: for a planted fault, so that a look pays while nobody cheats, for one who looks alone.
        fishermen, look_rate, fisherman_stake_usd, tested: as in ``guidance.Guidance``.
        values_usd, shares, rhos, detections: by value of an answer, rising. cap_usd: the largest value
            served; refused: share of the answers above it.
        cost_usd: per query, proofs, looks and interest. acts: when users may act.
        early_usd, bearable: expected harm per query to who acts early, and how many times as much harm a false
            answer may do before acting early harms more than users bear.
        safe_usd: the largest value of a single answer that the stake deters at the largest rate here.
    """

    deters: bool
    binds: str
    stake_usd: float
    rho: float
    penalty_usd: float
    reward_usd: float
    burnt_usd: float
    bounty_usd: float
    fishermen: int
    look_rate: float
    fisherman_stake_usd: float
    tested: float
    values_usd: Column
    shares: Column
    rhos: Column
    detections: Column
    cap_usd: float
    refused: float
    cost_usd: float
    acts: str
    safe_usd: float
    harms_usd: Column
    early_usd: float = 0.0
    bearable: float = math.inf


def set_terms(scenario: Scenario, claims: Claims | None = None) -> NetworkTerms:
    """The cheapest terms that deter every schedule of cheats, users' harm counted, margins included.

    Without claims all answers are worth what the scenario says. With them each value has its own rate,
    a false answer earns its value and harms its user by as much, or by ``exposure.harm_usd`` where that is
    more; values that no allowed stake can back are refused.
    """
    answer, bond, watch, limits = scenario.answer, scenario.bond, scenario.watch, scenario.limits
    values = np.array([answer.outside_gain_usd]) if claims is None else claims.values_usd
    shares = np.ones(1) if claims is None else claims.shares
    typical = scenario if claims is None else _worth(scenario, claims.mean_usd)
    advice = guide(typical)
    harms = np.full(1, scenario.exposure.harm_usd) if claims is None else np.maximum(values, scenario.exposure.harm_usd)
    served, binds, deters = values.size, advice.binds, advice.deters
    rhos, stake, cost = np.array([advice.rho]), advice.stake_usd, advice.cost_usd
    detections = np.array([advice.detection])
    if claims is not None:
        looked = advice.watched * watch.w * limits.detection_margin
        found, served, over = _rates(scenario, values, shares, harms, looked)
        premise = premise_in_the_way(scenario)
        deters = found is not None and not over and not premise
        binds = premise or (BUDGET if over else VALUE if found is None else "value by value")
        if found is not None:
            rhos, stake, detections = found.rhos, found.stake_usd, found.detections
            cost = found.cost_usd + advice.looks_usd
        else:
            served = 0
    part = shares[:served] / shares[:served].sum() if served else shares
    penalty = bond.slash_fraction * stake
    terms = NetworkTerms(
        deters=deters,
        binds=binds,
        stake_usd=stake * _SURE,
        rho=float(rhos @ part) if served else 1.0,
        penalty_usd=penalty * _SURE,
        reward_usd=bond.reward_share * penalty,
        burnt_usd=bond.burnt_share * penalty,
        bounty_usd=least_bounty(check_cost_usd=watch.check_cost_usd, planted_rate=watch.planted_rate),
        fishermen=advice.fishermen,
        look_rate=advice.look_rate,
        fisherman_stake_usd=advice.fisherman_stake_usd,
        tested=advice.tested,
        values_usd=values[:served],
        shares=part,
        rhos=rhos,
        detections=detections,
        cap_usd=float(values[served - 1]) if served else 0.0,
        refused=float(shares[served:].sum()) if served else 1.0,
        cost_usd=cost,
        acts=advice.acts if deters else NEITHER,
        safe_usd=safe_at(scenario, stake, float(detections.max())),
        harms_usd=harms[:served],
    )
    if not served:
        return terms
    early = mean_harm(scenario, terms, provisional=True)
    terms = replace(terms, early_usd=early, bearable=limits.most_harm_usd / early if early > 0 else math.inf)
    if claims is None or not deters:
        return terms
    waits = scenario.flow.verdict_s <= limits.most_wait_s
    return replace(terms, acts=FINAL if waits else PROVISIONAL if early <= limits.most_harm_usd else LATE)


def safe_at(scenario: Scenario, stake_usd: float, detection: float) -> float:
    """The largest value of a single answer at which a stake deters every schedule of cheats, each detected with
    ``detection``: USD beyond the compute saved; 0 without a stake, or with none that is enough."""
    answer, bond = scenario.answer, scenario.bond
    if not 0 < stake_usd < math.inf:
        return 0.0
    return float(
        safe_value(
            price_usd=answer.price_usd,
            stake_usd=stake_usd,
            slash_fraction=bond.slash_fraction,
            reward_share=bond.reward_share,
            dispute_cost_usd=0.0,
            compute_saved_usd=max(answer.honest_cost_usd - answer.cheat_cost_usd, 0.0),
            detection=detection,
            pending=scenario.flow.pending,
        )
    )


def _worth(scenario: Scenario, value_usd: float) -> Scenario:
    harm = max(value_usd, scenario.exposure.harm_usd)
    return replace(
        scenario,
        answer=replace(scenario.answer, outside_gain_usd=value_usd),
        exposure=replace(scenario.exposure, harm_usd=harm),
    )


def _rates(
    scenario: Scenario, values: Column, shares: Column, harms: Column, looked: float
) -> tuple[ValueRates | None, int, bool]:
    """Rates for as many of the values, the smaller ones, as can be backed; how many; and whether they cost
    more than they may."""
    answer, limits, market = scenario.answer, scenario.limits, scenario.market
    saved = answer.honest_cost_usd - answer.cheat_cost_usd
    gains = (values + saved) * np.where(values + saved > 0, limits.gain_margin, 1.0)
    work = scenario.flow.queries_per_s * limits.proof_s
    unit = harm_weight(replace(scenario.exposure, harm_usd=1.0), market)

    def rates(number: int, weight: float) -> ValueRates | None:
        return rates_by_value(
            gains_usd=gains[:number],
            shares=shares[:number] / shares[:number].sum(),
            harms_usd=harms[:number],
            weight=unit * weight,
            price_usd=answer.price_usd,
            proof_cost_usd=market.proof_cost_usd * limits.proof_cost_margin,
            capital_cost_usd=market.capital_cost_usd,
            d=scenario.watch.d * limits.detection_margin,
            slash_fraction=scenario.bond.slash_fraction,
            reward_share=scenario.bond.reward_share,
            pending=scenario.flow.pending,
            most_stake_usd=limits.most_stake_usd,
            most_rho=min(1.0, limits.provers / work) if work > 0 else 1.0,
            looked=looked,
        )

    low, high = 0, values.size + 1
    while high - low > 1:  # the fewer and smaller the values, the easier to back
        middle = (low + high) // 2
        low, high = (middle, high) if rates(middle, 0.0) is not None else (low, middle)
    if low == 0:
        return None, 0, False
    found, bare = rates(low, 1.0), rates(low, 0.0)
    if found is None or found.cost_usd <= limits.most_cost_usd:
        return found or bare, low, False
    if bare is None or bare.cost_usd > limits.most_cost_usd:
        return bare, low, True
    return bare, low, False  # what deters alone is what the budget buys


def losses_of(scenario: Scenario, terms: NetworkTerms, *, provisional: bool, years: int = 20_000) -> Losses:
    """``losses.yearly_losses`` of a network under ``terms``."""
    return yearly_losses(
        scenario,
        detections=terms.detections * harm_known(scenario, 1.0),
        shares=terms.shares,
        harms_usd=terms.harms_usd,
        provisional=provisional,
        years=years,
    )


def mean_harm(scenario: Scenario, terms: NetworkTerms, *, provisional: bool) -> float:
    """Expected harm per query, USD: what ``losses_of`` draws, in closed form. Of what becomes final each
    value has its share of the missed cheats, of what is served its share of the answers."""
    mean = harm_known(scenario, float(terms.detections @ terms.shares))
    mix = terms.shares if provisional else terms.shares * (1.0 - terms.detections)
    each = float(mix @ terms.harms_usd / mix.sum()) if mix.sum() > 0 else 0.0
    exposure = replace(scenario.exposure, harm_usd=each)
    return harm_per_query(exposure, scenario.market, scenario.flow, detection=mean, provisional=provisional)


def changed(scenario: Scenario, changes: Mapping[str, float]) -> Scenario:
    """``scenario`` with other numbers, each named as in its file: ``{"market.proof_cost_usd": 0.05}``.

    Raises:
        ParameterError: no such number, or one outside its range.
    """
    parts: dict[str, dict[str, float]] = {}
    for name, value in changes.items():
        part, _, key = name.partition(".")
        table = getattr(scenario, part, None) if part in ("answer", "bond", "watch", "market", "flow") else None
        table = getattr(scenario, part) if part in ("exposure", "attention", "limits") else table
        if table is None or key not in asdict(table):
            raise ParameterError(name, value, "a number of the network file, as part.key")
        parts.setdefault(part, {})[key] = value
    return replace(scenario, **{part: replace(getattr(scenario, part), **own) for part, own in parts.items()})
