"""What rate, what stake, how many fishermen: the answer for one use case, and what it hangs on.

The recommendation costs least in proofs, capital, looks and expected harm to users, among all that
deter every schedule of cheats (``guarantee.deterring_loss``) with the scenario's margins against wrong
numbers; what a caught operator gets back through a fisherman of its own is already taken off. What
sets the rate:

* nothing to deter: no gain, and nobody is harmed.
* users' harm: what those that cheat regardless do to users is worth more proofs than deterrence.
* cost: the square-root optimum between proofs and capital.
* stake limit: the largest stake an operator can post; the rate makes up for it.
* prover capacity: more proofs than this cannot be made in time, so the stake makes up for it.
* verdict latency (value in flight): answers served before the verdict on a caught one are worth more
  to a cheat than their price.

Fishermen count only where tests of each by itself make looking its only sensible choice (hypotheses H7
and H8 hold, and the scenario says what a test costs); then their number, stake and share of looks are
chosen with the rate. The loser's dispute cost is left out, which errs on the safe side. Where no pair
deters, the answer says so, and which limit is in the way. A user acts on a provisional answer only
where the harm expected of that is small enough; the answer says of what harm of one false answer on it
is not. Where a hypothesis fails that deterrence rests on, nothing is advised, and it is named; where
judge or prover breaks together with the platforms (H12), harm is that of cheats that nobody ever finds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from otr_core.economics.detection import detection_probability, served_before_verdict, undetected_cheats
from otr_core.economics.deterrence import safe_value
from otr_core.economics.game import least_bounty
from otr_core.economics.guarantee import most_in_flight
from otr_core.economics.harm import (
    MOST_FISHERMEN,
    NOBODY,
    Crew,
    bearable_harm,
    crew,
    harm_per_query,
    harm_weight,
)
from otr_core.economics.premises import NEEDS
from otr_core.economics.rates import Rate, best_rate
from otr_core.economics.scenarios import Scenario
from otr_core.economics.search import least_at

NOTHING, COST, STAKE, HARM = "nothing to deter", "cost", "stake limit", "users' harm"
FLIGHT, PROVERS, BUDGET, VALUE = "verdict latency (value in flight)", "prover capacity", "budget", "value at risk"
FINAL, PROVISIONAL, NEITHER = "wait for finality", "act on the provisional answer", "do not rely on spot checks"
LATE = "wait for finality, longer than it can: acting earlier harms too much"


@dataclass(frozen=True)
class Guidance:
    """The recommendation for one use case.

    Attributes:
        deters: whether a rate and a stake within the limits deter.
        binds: what sets the rate, or what is in the way.
        rho, stake_usd, cost_usd: the pair, and what it and the fishermen cost per query; where
            nothing deters, what it would take.
        fishermen, look_rate, fisherman_stake_usd, tested, watched, looks_usd: as in ``harm.Crew``, the
            last its cost; 0 where none count.
        detection: D of one cheat, margins included.
        harm_usd: expected harm per query to users who act as advised; harm_final_usd, harm_served_usd:
            to those who wait for finality, and to those who do not.
        bearable_harm_usd: the harm of one false answer up to which a user may act early under these terms.
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
    fishermen: int
    look_rate: float
    fisherman_stake_usd: float
    tested: float
    watched: float
    looks_usd: float
    detection: float
    harm_usd: float
    harm_final_usd: float
    harm_served_usd: float
    bearable_harm_usd: float
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


def attentive(scenario: Scenario) -> bool:
    """Whether fishermen count: tests of each by itself are there, and hypotheses H7 and H8 hold."""
    return scenario.attention is not None and not scenario.failing & {"H7", "H8"}


RESTS_ON = (*NEEDS["deterrence"], "H4 independent", "H6 freeze")
"""Hypotheses without which the advice has no formula."""


def premise_in_the_way(scenario: Scenario) -> str:
    """The first hypothesis that fails and that the advice rests on, in words; empty where none does."""
    failed = [name for name in RESTS_ON if name in scenario.failing]
    return f"hypothesis {failed[0]} fails" if failed else ""


def harm_known(scenario: Scenario, detection: float) -> float:
    """What of ``detection`` limits harm in a break: nothing, where who judges or proves breaks with the platforms."""
    return 0.0 if "H12" in scenario.failing else detection


@dataclass(frozen=True)
class _Plan:
    rate: Rate
    crew: Crew
    detection: float
    total_usd: float

    @property
    def cost_usd(self) -> float:
        return self.rate.cost_usd + self.crew.cost_usd


class _Planner:
    """The cheapest plans of one scenario, its margins included, within limits that vary."""

    def __init__(self, scenario: Scenario) -> None:
        answer, limits, self.scenario = scenario.answer, scenario.limits, scenario
        self.gain = answer.gain_usd * limits.gain_margin if answer.gain_usd > 0 else answer.gain_usd
        self.caught = scenario.watch.d * limits.detection_margin
        self.won = scenario.watch.w * limits.detection_margin
        self.harm = harm_weight(scenario.exposure, scenario.market)
        self.terms = {
            "gain_usd": self.gain,
            "price_usd": answer.price_usd,
            "proof_cost_usd": scenario.market.proof_cost_usd * limits.proof_cost_margin,
            "capital_cost_usd": scenario.market.capital_cost_usd,
            "d": self.caught,
            "slash_fraction": scenario.bond.slash_fraction,
            "reward_share": scenario.bond.reward_share,
        }

    def plan(self, most_stake: float, most_rho: float, pending: int, weight: float = 1.0) -> _Plan | None:
        """The cheapest plan, harm counted ``weight`` times."""
        case, harm = self.scenario, self.harm * weight

        def with_crew(own: Crew) -> _Plan | None:
            looked = own.watched * self.won
            rate = best_rate(
                **self.terms,
                pending=pending,
                most_stake_usd=most_stake,
                most_rho=most_rho,
                looked=looked,
                harm_usd=harm,
            )
            if rate is None:
                return None
            detection = float(detection_probability(rho=rate.rho, d=self.caught, phi=own.watched, w=self.won))
            known = harm_known(case, detection)
            hurt = harm_per_query(case.exposure, case.market, case.flow, detection=known) if weight else 0.0
            return _Plan(rate, own, detection, rate.cost_usd + own.cost_usd + weight * hurt)

        def total(plan: _Plan | None) -> float:
            return np.inf if plan is None else plan.total_usd

        plans = [with_crew(NOBODY)]
        attention, money = case.attention, {"check_cost_usd": case.watch.check_cost_usd}
        money["capital_cost_usd"] = case.market.capital_cost_usd
        if attention is not None and attentive(case) and case.watch.check_cost_usd > 0:
            possible = with_crew(crew(attention, MOST_FISHERMEN, 1.0, **money)) is not None
            for number in range(1, MOST_FISHERMEN + 1 if possible else 1):
                some: Any = partial(crew, attention, number, **money)

                def spent(share: float, some: Any = some) -> float:
                    plan = with_crew(some(share))
                    return 1e30 / share if plan is None else plan.total_usd  # more looks may make it possible

                plans.append(with_crew(some(least_at(spent, 1e-9, 1.0))))
                if plans[-1] is not None and plans[-1].crew.watched > 0 and total(plans[-1]) > total(plans[-2]):
                    break  # one more than are needed
        best = min(plans, key=total)
        # Harm bounded by a patch can be too small to pay for: then what deters alone is cheaper.
        plain = self.plan(most_stake, most_rho, pending, 0.0) if weight else None
        if plain is None or best is None:
            return best
        known = harm_known(case, plain.detection)
        hurt = weight * harm_per_query(case.exposure, case.market, case.flow, detection=known)
        return best if best.total_usd <= plain.total_usd + hurt else plain

    def affordable(self, most_stake: float, most_rho: float, pending: int, most_usd: float) -> _Plan | None:
        """The plan that limits harm most at ``most_usd`` a query; None where deterring alone costs more."""
        found = self.plan(most_stake, most_rho, pending, 0.0)
        if found is None or found.cost_usd > most_usd:
            return None
        low, high = 0.0, 1.0
        for _ in range(20):
            middle = (low + high) / 2
            tried = self.plan(most_stake, most_rho, pending, middle)
            if tried is not None and tried.cost_usd <= most_usd:
                low, found = middle, tried
            else:
                high = middle
        return found


def guide(scenario: Scenario) -> Guidance:
    """The recommendation for ``scenario`` with its margins, or the statement that none exists."""
    answer, limits, flow = scenario.answer, scenario.limits, scenario.flow
    planner, watch = _Planner(scenario), scenario.watch
    gain = planner.gain
    work = flow.queries_per_s * limits.proof_s
    capacity = min(1.0, limits.provers / work) if work > 0 else 1.0
    most_stake, pending, pair = limits.most_stake_usd, flow.pending, planner.plan
    found, binds = pair(most_stake, capacity, pending), COST
    if found is None and pair(most_stake, 1.0, 0) is None:
        found, binds = pair(np.inf, 1.0, pending), VALUE
    elif found is None and pair(most_stake, 1.0, pending) is None:
        found, binds = pair(np.inf, 1.0, pending), FLIGHT
    elif found is None:
        found, binds = pair(most_stake, 1.0, pending), PROVERS
    else:
        free, single = pair(np.inf, 1.0, pending), pair(most_stake, capacity, 0)
        bare = pair(most_stake, capacity, pending, 0.0)
        if free is not None and found.rate.rho != free.rate.rho:
            binds = STAKE if found.rate.rho > free.rate.rho else PROVERS
        if single is not None and found.rate.rho > single.rate.rho:
            binds = FLIGHT
        if bare is not None and found.detection > bare.detection and binds != PROVERS:
            binds = HARM
        if found.detection == 0:
            binds = NOTHING
        if found.cost_usd > limits.most_cost_usd:
            binds = BUDGET
    lower = planner.affordable(most_stake, capacity, pending, limits.most_cost_usd) if binds == BUDGET else None
    plan = lower or found or _Plan(Rate(1.0, np.inf, np.inf), NOBODY, planner.caught, np.inf)
    made, detection = plan.rate, plan.detection
    within = made.rho <= capacity and made.stake_usd <= most_stake
    kept = scenario.bond.kept_share
    lost = kept * made.stake_usd if kept else 0.0
    # A stake that only just deters leaves no room for rounding. Anyone would post a little more: a
    # billionth of what is at risk.
    lost += 1e-9 * (answer.price_usd + lost + (gain if np.isfinite(gain) else 0.0))
    premise = premise_in_the_way(scenario)
    binds = premise or binds
    most = np.inf if gain <= 0 else 0.0
    if gain > 0 and np.isfinite(lost):
        most = most_in_flight(gain_usd=gain, price_usd=answer.price_usd, loss_usd=lost, detection=detection)
    deterred = within and binds != VALUE and (binds != BUDGET or lower is not None) and most > pending
    deters = not premise and (binds == NOTHING or deterred)
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
            slash_fraction=scenario.bond.slash_fraction,
            reward_share=scenario.bond.reward_share,
        )
    undetected = float(undetected_cheats(detection=detection))
    served = float(served_before_verdict(detection=detection, pending=pending))
    exposed, known = (scenario.exposure, scenario.market, flow), harm_known(scenario, detection)
    hurts = [harm_per_query(*exposed, detection=known, provisional=early) for early in (False, True)]
    bearable = bearable_harm(*exposed, detection=known, most_harm_usd=limits.most_harm_usd)
    waits = flow.verdict_s <= limits.most_wait_s
    acts = FINAL if waits else PROVISIONAL if hurts[1] <= limits.most_harm_usd else LATE
    acts = acts if deters else NEITHER
    planted = watch.planted_rate * watch.bounty_usd
    bounty = least_bounty(check_cost_usd=watch.check_cost_usd, planted_rate=watch.planted_rate)
    return Guidance(
        name=scenario.name,
        title=scenario.title,
        deters=deters,
        binds=binds,
        rho=made.rho,
        stake_usd=made.stake_usd,
        cost_usd=plan.cost_usd,
        fishermen=plan.crew.fishermen,
        look_rate=plan.crew.look_rate,
        fisherman_stake_usd=plan.crew.stake_usd,
        tested=plan.crew.tested,
        watched=plan.crew.watched,
        looks_usd=plan.crew.cost_usd,
        detection=detection,
        harm_usd=hurts[acts == PROVISIONAL],
        harm_final_usd=hurts[0],
        harm_served_usd=hurts[1],
        bearable_harm_usd=bearable,
        worst_gain_usd=gain,
        safe_value_usd=float(safe),
        in_flight=pending + 1.0,
        most_in_flight=most,
        undetected=undetected,
        served=served,
        look_pays=planted > watch.check_cost_usd,
        least_bounty_usd=bounty,
        acts=acts,
        statement=_statement(scenario, binds, plan, gain, deters, undetected, served)
        + _early(acts, hurts[1], limits.most_harm_usd, bearable),
    )


def _usd(amount: float) -> str:
    return f"{amount:,.0f} USD" if amount >= 100 else f"{amount:.3g} USD"


def _statement(
    scenario: Scenario, binds: str, plan: _Plan, gain: float, deters: bool, undetected: float, served: float
) -> str:
    made, own = plan.rate, plan.crew
    looks = f", {own.fishermen} fishermen each looking at {own.look_rate:.3g} of them" if own.fishermen else ""
    if premise_in_the_way(scenario):
        text = f"{binds}, on which this advice rests."
    elif binds == NOTHING:
        text = "a cheat earns nothing, so nothing needs to be checked."
    elif deters:
        text = (
            f"check {made.rho:.3g} of the answers behind {_usd(made.stake_usd)} of stake{looks}; a cheat of "
            f"{_usd(gain)} then does not pay (set by {binds}). Who cheats regardless gets {undetected:,.0f} wrong "
            f"answers through on one stake, and serves {served:,.0f} before its verdict."
        )
    elif binds == VALUE:
        most = scenario.answer.price_usd + scenario.limits.most_stake_usd * scenario.bond.kept_share
        text = (
            f"spot checks alone cannot deter: a cheat earns {_usd(gain)}, a caught one loses at most {_usd(most)}, and "
            "no rate makes up for that."
        )
    elif binds == BUDGET:
        budget = _usd(scenario.limits.most_cost_usd)
        text = f"deterring costs {_usd(plan.cost_usd)} a query, more than the {budget} it may."
    elif binds == FLIGHT:
        text = "too much is unfinalised on one stake at once: serve slower, or split the queries over more stakes."
    else:
        text = f"a rate of {made.rho:.3g} would deter, but the provers cannot make that many proofs."
    return f"{scenario.title}: {text}"


def _early(acts: str, harm: float, most: float, bearable: float) -> str:
    """Why a user who cannot wait may act early, or may not."""
    if acts not in (PROVISIONAL, LATE):
        return ""
    return (
        f" Acting early costs its users {_usd(harm)} of harm a query; they bear {_usd(most)}, which is reached where "
        f"one false answer harms by {_usd(bearable)}."
    )
