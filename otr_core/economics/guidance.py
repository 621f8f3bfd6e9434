"""What rate, what stake: the answer for one use case, and what it hangs on.

The recommended pair is the cheapest that deters with the scenario's margins against wrong numbers.
What sets the rate:

* nothing to deter: no gain.
* cost: the square-root optimum between proofs and capital.
* stake limit: the largest stake an operator can post; the rate makes up for it.
* prover capacity: more proofs than this cannot be made in time, so the stake makes up for it.
* verdict latency (value in flight): answers unfinalised at once are worth more to a cheat than a
  single one.

Where no pair deters, the answer says so, and which limit is in the way: no rate helps once the gain
exceeds what a caught cheat can lose. Fishermen and the loser's dispute cost are left out, which
errs on the safe side: only the committed rate is certain.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from otr_core.economics.bursts import burst_loss, most_in_flight
from otr_core.economics.detection import undetected_cheats
from otr_core.economics.rates import Rate, best_rate
from otr_core.economics.scenarios import Scenario

NOTHING, COST, STAKE = "nothing to deter", "cost", "stake limit"
FLIGHT, PROVERS, BUDGET, VALUE = "verdict latency (value in flight)", "prover capacity", "budget", "value at risk"
FINAL, PROVISIONAL, NEITHER = "wait for finality", "act on the provisional answer", "do not rely on spot checks"


@dataclass(frozen=True)
class Guidance:
    """The recommendation for one use case.

    Attributes:
        deters: whether a rate and a stake within the limits deter.
        binds: what sets the rate, or what is in the way.
        rho, stake_usd, cost_usd: the pair and its cost per query; where nothing deters, what it
            would take.
        worst_gain_usd: the gain it is made for, margins included.
        safe_value_usd: largest gain of one answer that this pair still deters, beyond the compute
            saved.
        in_flight: answers unfinalised at once on one stake, as the flow is; most_in_flight: as many
            as the pair allows when a catch voids the batch.
        undetected: expected wrong answers of an operator who cheats regardless.
        acts: when the user may act.
        statement: all this in one sentence.
    """

    name: str
    title: str
    deters: bool
    binds: str
    rho: float
    stake_usd: float
    cost_usd: float
    worst_gain_usd: float
    safe_value_usd: float
    in_flight: float
    most_in_flight: float
    undetected: float
    acts: str
    statement: str


def _burst_stake(scenario: Scenario, gain: float, detection: float, flying: float) -> float:
    """Stake that deters ``flying`` cheats at once as well as a single one, USD."""
    slash = scenario.bond.slash_fraction
    if slash == 0 or detection == 0:
        return np.inf
    both: list[float] = [
        burst_loss(cheats=number, gain_usd=gain, price_usd=scenario.answer.price_usd, detection=detection, void=True)
        for number in (1.0, flying)
    ]
    return max(both) / slash


def _rate_for_flight(scenario: Scenario, gain: float, caught: float, rho: float, most: float, flying: float) -> float:
    """Least rate from ``rho`` to ``most`` whose burst stake is within the limit, or infinity."""
    limit = scenario.limits.most_stake_usd * (1 + 1e-12)
    if _burst_stake(scenario, gain, rho * caught, flying) <= limit:
        return rho
    if _burst_stake(scenario, gain, most * caught, flying) > limit:
        return np.inf
    low, high = rho, most
    while (middle := 0.5 * (low + high)) not in (low, high):
        enough = _burst_stake(scenario, gain, middle * caught, flying) <= limit
        low, high = (low, middle) if enough else (middle, high)
    return high


def guide(scenario: Scenario) -> Guidance:
    """The recommendation for ``scenario`` with its margins, or the statement that none exists."""
    answer, slash, limits, flow = scenario.answer, scenario.bond.slash_fraction, scenario.limits, scenario.flow
    gain = answer.gain_usd * limits.gain_margin if answer.gain_usd > 0 else answer.gain_usd
    caught = scenario.watch.d * limits.detection_margin
    proof, capital = scenario.market.proof_cost_usd * limits.proof_cost_margin, scenario.market.capital_cost_usd
    work = flow.queries_per_s * limits.proof_s
    capacity = min(1.0, limits.provers / work) if work > 0 else 1.0
    flying = max(float(np.ceil(flow.in_flight)), 1.0)

    costs = {"proof_cost_usd": proof, "capital_cost_usd": capital}
    cheat = {"gain_usd": gain, "price_usd": answer.price_usd, "d": caught, "slash_fraction": slash}

    def pair(most_stake: float, most_rho: float) -> Rate | None:
        return best_rate(**cheat, **costs, most_stake_usd=most_stake, most_rho=most_rho)

    found, binds = pair(limits.most_stake_usd, capacity), COST
    if gain <= 0:
        binds = NOTHING
    elif found is None:
        wider = pair(limits.most_stake_usd, 1.0)
        found, binds = (pair(np.inf, 1.0), VALUE) if wider is None else (wider, PROVERS)
    else:
        free = pair(np.inf, 1.0)
        if free is not None and found.rho != free.rho:
            binds = STAKE if found.rho > free.rho else PROVERS
        rate = _rate_for_flight(scenario, gain, caught, found.rho, capacity, flying)
        stake = _burst_stake(scenario, gain, rate * caught, flying) if np.isfinite(rate) else np.inf
        if rate != found.rho:
            binds = FLIGHT
        if np.isfinite(stake):
            # the halving ends within rounding of the limit
            stake = min(stake, limits.most_stake_usd)
            found = Rate(rate, stake, rate * proof + capital * stake)
        if found.cost_usd > limits.most_cost_usd:
            binds = BUDGET
    made = found or Rate(1.0, np.inf, np.inf)
    within = made.rho <= capacity and made.stake_usd <= limits.most_stake_usd * (1 + 1e-9)
    detection = made.rho * caught
    lost = answer.price_usd + (slash * made.stake_usd if slash else 0.0)
    # A stake that only just deters leaves no room for rounding. Anyone would post a little more: a
    # billionth.
    slashed = max(lost - answer.price_usd, 0.0) * (1 + 1e-9)
    most = np.inf if gain <= 0 else 0.0
    if gain > 0 and np.isfinite(slashed):
        most = most_in_flight(gain_usd=gain, price_usd=answer.price_usd, loss_usd=slashed, detection=detection)
    deters = binds == NOTHING or (within and binds not in (VALUE, BUDGET) and most >= 1 and most >= flying)
    saved = max(answer.honest_cost_usd - answer.cheat_cost_usd, 0.0)
    undetected = float(undetected_cheats(detection=detection))
    acts = (FINAL if flow.verdict_s <= limits.most_wait_s else PROVISIONAL) if deters else NEITHER
    return Guidance(
        name=scenario.name,
        title=scenario.title,
        deters=deters,
        binds=binds,
        rho=made.rho,
        stake_usd=made.stake_usd,
        cost_usd=made.cost_usd,
        worst_gain_usd=gain,
        safe_value_usd=max(detection * lost - saved, 0.0) if np.isfinite(lost) else 0.0,
        in_flight=flying,
        most_in_flight=most,
        undetected=undetected,
        acts=acts,
        statement=_statement(scenario, binds, made, gain, deters, undetected),
    )


def _usd(amount: float) -> str:
    return f"{amount:,.0f} USD" if amount >= 100 else f"{amount:.3g} USD"


def _statement(scenario: Scenario, binds: str, made: Rate, gain: float, deters: bool, undetected: float) -> str:
    if binds == NOTHING:
        text = "a cheat earns nothing, so nothing needs to be checked."
    elif deters:
        text = (
            f"check {made.rho:.3g} of the answers behind {_usd(made.stake_usd)} of stake; a cheat of {_usd(gain)} "
            f"then does not pay (set by {binds}). Who cheats regardless gets {undetected:,.0f} wrong answers "
            "through on one stake."
        )
    elif binds == VALUE:
        most = scenario.answer.price_usd + scenario.limits.most_stake_usd * scenario.bond.slash_fraction
        text = (
            f"spot checks alone cannot deter: a cheat earns {_usd(gain)}, a caught one loses at most {_usd(most)}, and "
            "no rate makes up for that."
        )
    elif binds == BUDGET:
        budget = _usd(scenario.limits.most_cost_usd)
        text = f"deterring costs {_usd(made.cost_usd)} a query, more than the {budget} it may."
    elif binds == FLIGHT:
        text = "too much is unfinalised on one stake at once: serve slower, or split the queries over more stakes."
    else:
        text = f"a rate of {made.rho:.3g} would deter, but the provers cannot make that many proofs."
    return f"{scenario.title}: {text}"


def guidance_table(scenarios: Iterable[Scenario]) -> list[dict[str, Any]]:
    """``guide`` for each scenario, as records."""
    return [asdict(guide(scenario)) for scenario in scenarios]
