"""How losses are spread: what users lose a year to a broken class, and an honest operator to outages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from otr_core.economics.honesty import honesty_cost
from otr_core.economics.scenarios import Scenario
from otr_core.errors import ParameterError
from otr_node.sizing.claims import Column

YEARS = 20_000
MOST_RUNS = 2_000_000
"""Most sequences of answers that are drawn, of all years together; where a year has many, fewer are drawn."""
SEED = 20251223
QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True)
class Losses:
    """Losses of all users of a class in a year, USD, simulated.

    Attributes:
        mean_usd, standard_error_usd: over the years drawn. at_risk_usd: quantile -> loss that a year
            stays below with that chance (VaR). beyond_usd: mean of the years above the largest of them.
    """

    mean_usd: float
    standard_error_usd: float
    at_risk_usd: dict[float, float]
    beyond_usd: float


def yearly_losses(
    scenario: Scenario,
    *,
    detections: Column,
    shares: Column,
    harms_usd: Column,
    provisional: bool,
    years: int = YEARS,
    seed: int = SEED,
) -> Losses:
    """Draw ``years`` years of a class whose cheating operators answer falsely until they are convicted.

    Breaks come as a Poisson process; in each the answers come as ``shares`` says, each cheat is detected
    by its own chance, and the class stops with its fuse or one by one. Its mean is
    ``harm.harm_per_query`` times the queries of a year, for answers of one kind.

    Args:
        provisional: whether users act on what is served, or wait for what becomes final.

    Raises:
        ParameterError: so many breaks a year that a hundred years of them cannot be drawn.
    """
    exposure, flow = scenario.exposure, scenario.flow
    draws = np.random.default_rng(seed)
    a_year = exposure.breaks_per_year * (1 if exposure.fuse else exposure.cheating)
    if a_year > MOST_RUNS / 100:
        raise ParameterError("breaks_per_year", exposure.breaks_per_year, "fewer breaks, or operators that cheat")
    years = min(years, int(MOST_RUNS / max(a_year, 1.0)))
    breaks = draws.poisson(exposure.breaks_per_year, years)
    cheating, attempts = int(exposure.cheating), float(np.floor(flow.until_patch))
    runs = 1 if exposure.fuse else cheating
    tries = attempts * (cheating if exposure.fuse else 1)
    mean = float(detections @ shares)
    first = (
        draws.geometric(mean, (breaks.sum(), runs)).astype(float) if mean > 0 else np.full((breaks.sum(), runs), np.inf)
    )
    missed = shares * (1.0 - detections)
    final = np.minimum(first - 1.0, tries)
    counted, mix = final, missed
    if provisional:
        flying = float(flow.pending) if not exposure.fuse else cheating * (flow.pending + 1.0) - 1.0
        counted, mix = np.minimum(flying + first, tries), shares
    total = counted.sum(1).astype(np.int64)
    per_break = draws.multinomial(total, mix / mix.sum()) @ harms_usd if mix.sum() > 0 else np.zeros(total.size)
    lost = np.bincount(np.repeat(np.arange(years), breaks), weights=per_break, minlength=years)
    at_risk = {level: float(np.quantile(lost, level)) for level in QUANTILES}
    tail = lost[lost >= at_risk[QUANTILES[-1]]]
    return Losses(float(lost.mean()), float(lost.std() / np.sqrt(years)), at_risk, float(tail.mean()))


@dataclass(frozen=True)
class Outage:
    """What outages cost an honest operator: per answer, and a year; how likely a slash in it is; and
    what one costs, USD."""

    answer_usd: float
    year_usd: float
    slashed_in_a_year: float
    slash_usd: float


def outage_cost(scenario: Scenario, *, rho: float, stake_usd: float) -> Outage:
    """An honest operator that misses a duty with ``flow.outage`` loses the whole slash, its own fisherman
    gets nothing back, and the price of all that is not final."""
    bond, flow = scenario.bond, scenario.flow
    slash = bond.slash_fraction * stake_usd + bond.dispute_cost_usd
    cost = honesty_cost(
        slash_usd=slash,
        price_usd=scenario.answer.price_usd,
        unfinal=flow.pending + 1,
        rho=rho,
        outage=flow.outage,
        false_conviction=0.0,
        bond_usd=0.0,
        compensation_share=0.0,
        defence_usd=0.0,
        attack_usd=0.0,
        window_s=flow.verdict_s,
        reveal_s=0.0,
        clock_s=0.0,
        increment_s=0.0,
        moves=0,
        check_cost_usd=scenario.watch.check_cost_usd,
        tested=0.0,
        lost_usd=0.0,
    )
    year = scenario.market.queries_per_year
    ruined = slash + (flow.pending + 1) * scenario.answer.price_usd
    chance = -np.expm1(year * np.log1p(-rho * flow.outage)) if rho * flow.outage < 1 else 1.0
    # A slash ends the operator, so that a year holds one at most.
    return Outage(cost.operator_usd, float(chance) * ruined, float(chance), ruined)
