"""What rate, what stake: the answer for one use case, and what it hangs on.

The recommended pair is the cheapest that deters with the scenario's margins against wrong numbers.
What sets the rate:

* nothing to deter: no gain.
* cost: the square-root optimum between proofs and capital.
* stake limit: the largest stake an operator can post; the rate makes up for it.
* prover capacity: more proofs than this cannot be made in time, so the stake makes up for it.
* verdict latency (value in flight): answers served before the verdict on a caught one are worth more
  to a cheat than their price.

The pair deters every schedule of cheats (``guarantee.deterring_loss``), with what a caught operator
gets back through a fisherman of its own already taken off. Where no pair deters, the answer says so,
and which limit is in the way: no rate helps once the gain exceeds what a caught cheat can lose.
Fishermen and the loser's dispute cost are left out, which errs on the safe side: only the committed
rate is certain, and that planted faults keep fishermen looking is said where it is so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from otr_core.economics.detection import served_before_verdict, undetected_cheats
from otr_core.economics.deterrence import safe_value
from otr_core.economics.game import least_bounty
from otr_core.economics.guarantee import most_in_flight
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
            as the pair allows when a conviction voids all that is not final.
        undetected: expected wrong answers that become final of an operator who cheats regardless;
            served: all that it serves until its verdict, which hit whoever acts on provisional ones.
        look_pays: whether planted faults pay a fisherman for a look while nobody cheats;
            least_bounty_usd: the bounty from which they do, for who looks alone.
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
    served: float
    look_pays: bool
    least_bounty_usd: float
    acts: str
    statement: str


def guide(scenario: Scenario) -> Guidance:
    """The recommendation for ``scenario`` with its margins, or the statement that none exists."""
    answer, slash, limits, flow = scenario.answer, scenario.bond.slash_fraction, scenario.limits, scenario.flow
    gain = answer.gain_usd * limits.gain_margin if answer.gain_usd > 0 else answer.gain_usd
    caught = scenario.watch.d * limits.detection_margin
    proof, capital = scenario.market.proof_cost_usd * limits.proof_cost_margin, scenario.market.capital_cost_usd
    work = flow.queries_per_s * limits.proof_s
    capacity = min(1.0, limits.provers / work) if work > 0 else 1.0
    shares = {"slash_fraction": slash, "reward_share": scenario.bond.reward_share}

    def pair(most_stake: float, most_rho: float, pending: int) -> Rate | None:
        return best_rate(
            gain_usd=gain,
            price_usd=answer.price_usd,
            proof_cost_usd=proof,
            capital_cost_usd=capital,
            d=caught,
            **shares,
            pending=pending,
            most_stake_usd=most_stake,
            most_rho=most_rho,
        )

    most_stake, pending = limits.most_stake_usd, flow.pending
    found, binds = pair(most_stake, capacity, pending), COST
    if gain <= 0:
        binds = NOTHING
    elif found is None and pair(most_stake, 1.0, 0) is None:
        found, binds = pair(np.inf, 1.0, pending), VALUE
    elif found is None and pair(most_stake, 1.0, pending) is None:
        found, binds = pair(np.inf, 1.0, pending), FLIGHT
    elif found is None:
        found, binds = pair(most_stake, 1.0, pending), PROVERS
    else:
        free, single = pair(np.inf, 1.0, pending), pair(most_stake, capacity, 0)
        if free is not None and found.rho != free.rho:
            binds = STAKE if found.rho > free.rho else PROVERS
        if single is not None and found.rho > single.rho:
            binds = FLIGHT
        if found.cost_usd > limits.most_cost_usd:
            binds = BUDGET
    made = found or Rate(1.0, np.inf, np.inf)
    within = made.rho <= capacity and made.stake_usd <= most_stake
    detection = made.rho * caught
    kept = scenario.bond.kept_share
    lost = kept * made.stake_usd if kept else 0.0
    # A stake that only just deters leaves no room for rounding. Anyone would post a little more: a
    # billionth of what is at risk.
    lost += 1e-9 * (answer.price_usd + lost + (gain if np.isfinite(gain) else 0.0))
    most = np.inf if gain <= 0 else 0.0
    if gain > 0 and np.isfinite(lost):
        most = most_in_flight(gain_usd=gain, price_usd=answer.price_usd, loss_usd=lost, detection=detection)
    deters = binds == NOTHING or (within and binds not in (VALUE, BUDGET) and most > pending)
    saved = max(answer.honest_cost_usd - answer.cheat_cost_usd, 0.0)
    safe = 0.0
    if np.isfinite(made.stake_usd) and made.stake_usd > 0:
        safe = safe_value(
            price_usd=answer.price_usd,
            stake_usd=made.stake_usd,
            dispute_cost_usd=0.0,
            compute_saved_usd=saved,
            detection=detection,
            pending=pending,
            **shares,
        )
    undetected = float(undetected_cheats(detection=detection))
    served = float(served_before_verdict(detection=detection, pending=pending))
    acts = (FINAL if flow.verdict_s <= limits.most_wait_s else PROVISIONAL) if deters else NEITHER
    watch = scenario.watch
    planted = watch.planted_rate * watch.bounty_usd
    bounty = least_bounty(check_cost_usd=watch.check_cost_usd, planted_rate=watch.planted_rate)
    return Guidance(
        name=scenario.name,
        title=scenario.title,
        deters=deters,
        binds=binds,
        rho=made.rho,
        stake_usd=made.stake_usd,
        cost_usd=made.cost_usd,
        worst_gain_usd=gain,
        safe_value_usd=float(safe),
        in_flight=pending + 1.0,
        most_in_flight=most,
        undetected=undetected,
        served=served,
        look_pays=planted > watch.check_cost_usd,
        least_bounty_usd=bounty,
        acts=acts,
        statement=_statement(scenario, binds, made, gain, deters, undetected, served),
    )


def _usd(amount: float) -> str:
    return f"{amount:,.0f} USD" if amount >= 100 else f"{amount:.3g} USD"


def _statement(
    scenario: Scenario, binds: str, made: Rate, gain: float, deters: bool, undetected: float, served: float
) -> str:
    if binds == NOTHING:
        text = "a cheat earns nothing, so nothing needs to be checked."
    elif deters:
        text = (
            f"check {made.rho:.3g} of the answers behind {_usd(made.stake_usd)} of stake; a cheat of {_usd(gain)} "
            f"then does not pay (set by {binds}). Who cheats regardless gets {undetected:,.0f} wrong answers "
            f"through on one stake, and serves {served:,.0f} before its verdict."
        )
    elif binds == VALUE:
        most = scenario.answer.price_usd + scenario.limits.most_stake_usd * scenario.bond.kept_share
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
