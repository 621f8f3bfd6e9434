"""Rates by value: answers of unlike value on one stake, each checked as often as its value asks for.

The rate follows from what an answer is worth and is committed before it is given. Two needs, both in
proportion to the value: a cheat worth ``g`` has to be detected with ``g / (v + L - R G)``, and who
cheats regardless picks the answers whose harm ``h (1 - D)/D`` until it is caught is the largest, so
that this should be the same for all: ``D = h / (M + h)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from otr_core.economics import quantities as q
from otr_core.economics.deterrence import kept_share
from otr_core.economics.quantities import Array, Quantity
from otr_core.economics.search import least_at
from otr_core.errors import ParameterError


@dataclass(frozen=True)
class ValueRates:
    """Rates by value on one stake.

    Attributes:
        rhos: rate of each kind of answer; detections: D of a cheat on it.
        rho: mean rate over the answers. cost_usd: proofs and interest per query.
        worst_harm_usd: M, most expected harm of final answers until one operator's conviction, whatever
            it picks; infinity where harm is not counted.
    """

    rhos: Array
    detections: Array
    stake_usd: float
    rho: float
    cost_usd: float
    worst_harm_usd: float


def rates_by_value(
    *,
    gains_usd: Quantity,
    shares: Quantity,
    price_usd: float,
    proof_cost_usd: float,
    capital_cost_usd: float,
    d: float,
    slash_fraction: float,
    reward_share: float = 0.0,
    pending: int = 0,
    most_stake_usd: float = np.inf,
    most_rho: float = 1.0,
    looked: float = 0.0,
    harms_usd: Quantity = 0.0,
    weight: float = 0.0,
) -> ValueRates | None:
    """Cheapest stake and rates that deter cheats on answers of every value; None where none do.

    Minimises ``sum share rho C + iota S + weight M``, which is convex in stake and M; for one value it
    is ``rates.best_rate``.

    Args:
        gains_usd: g of a cheat on each kind of answer; shares: of all answers, they sum to 1.
        harms_usd: h of each kind, 0 or more. weight: expected convictions of those who cheat
            regardless, per query (``harm.harm_weight`` for a harm of 1 USD).
        most_rho: largest mean rate. The others as in ``rates.best_rate``.
    """
    gains, part, harms = np.broadcast_arrays(
        q.gain("gains_usd", gains_usd), q.probability("shares", shares), q.amount("harms_usd", harms_usd)
    )
    if abs(part.sum() - 1.0) > 1e-9:
        raise ParameterError("shares", float(part.sum()), "shares of all answers, summing to 1")
    price, proof = float(q.amount("price_usd", price_usd)), float(q.amount("proof_cost_usd", proof_cost_usd))
    capital, caught = float(q.amount("capital_cost_usd", capital_cost_usd)), float(q.probability("d", d))
    floor, limit = float(q.probability("looked", looked)), float(q.probability("most_rho", most_rho))
    kept = float(kept_share(slash_fraction=slash_fraction, reward_share=reward_share))
    most_stake = min(q.MOST_GIVEN, most_stake_usd) if kept > 0 else 0.0
    over = q.whole("pending", pending) * max(float(gains.max()) - price, 0.0)
    per_rate, count = (1.0 - floor) * caught, bool(weight > 0 and harms.max() > 0)
    most = floor + per_rate

    def rates(stake: float, worst: float) -> Array | None:
        lost = price + kept * stake - over
        if lost <= 0 and (gains > 0).any():
            return None
        wanted = np.where(gains > 0, gains / lost if lost > 0 else 0.0, 0.0)
        if wanted.max() > most * (1 + 1e-12):
            return None
        if count:
            wanted = np.maximum(wanted, np.minimum(harms / (worst + harms), most))
        needed = np.maximum(wanted - floor, 0.0)
        return np.minimum(needed / per_rate, 1.0) if per_rate > 0 else needed

    def cost(stake: float, worst: float) -> float:
        found = rates(stake, worst)
        if found is None or (rate := float(found @ part)) > limit * (1 + 1e-9):
            return 1e30 / max(stake, 1e-9) if found is None else 1e20 * rate
        return rate * proof + capital * stake + (weight * worst if count else 0.0)

    top = float(harms.max()) if count else 1.0
    least = top * max(1.0 - most, 1e-12) / most if most > 0 else top

    def worst_at(stake: float) -> float:
        return least_at(lambda worst: cost(stake, worst), least, top * 1e12) if count else np.inf

    stakes = [0.0]
    if most_stake > 0:
        stakes.append(least_at(lambda stake: cost(stake, worst_at(stake)), min(1e-9, most_stake), most_stake))
    stake = min(stakes, key=lambda one: cost(one, worst_at(one)))
    worst = worst_at(stake)
    found = rates(stake, worst)
    if found is None or float(found @ part) > limit * (1 + 1e-9):
        return None
    mean = float(found @ part)
    return ValueRates(found, floor + per_rate * found, stake, mean, mean * proof + capital * stake, worst)
