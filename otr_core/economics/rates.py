"""The cheapest spot-check rate: a proof costs money, and so does the stake that replaces it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from otr_core.economics import quantities as q
from otr_core.economics.deterrence import kept_share
from otr_core.economics.quantities import Quantity


def optimal_rho(
    *,
    gain_usd: Quantity,
    proof_cost_usd: Quantity,
    capital_cost_usd: Quantity,
    d: Quantity,
    slash_fraction: Quantity,
    reward_share: Quantity = 0.0,
) -> Quantity:
    """Cheapest spot-check rate by the square-root law: ``sqrt(g iota / (d s C))``, at most 1, where
    ``s = (1 - alpha) sigma`` is the part of the stake that a caught cheat loses for good.

    Minimises ``rho C + iota S`` under ``rho d (v + s S) = g``. The price v moves the stake, not
    the rate, as long as the stake stays positive; ``best_rate`` minds that too.

    Args:
        gain_usd: g, gain of one cheat.
        proof_cost_usd: C, cost of one proof, 0 or more. Free proofs give rate 1.
        capital_cost_usd: iota, cost of holding one dollar of stake for one query (yearly rate /
            queries per year), 0 or more. Free capital gives rate 0: the stake does all the work.
        d: probability that a sampled cheat is caught, [0, 1].
        slash_fraction, reward_share: sigma and alpha, [0, 1].

    Returns:
        The rate; 0 without a gain; infinity where no rate deters (d or s 0).
    """
    gained, proof = q.gain("gain_usd", gain_usd), q.amount("proof_cost_usd", proof_cost_usd)
    capital = q.amount("capital_cost_usd", capital_cost_usd)
    reach = q.probability("d", d) * kept_share(slash_fraction=slash_fraction, reward_share=reward_share)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.minimum(np.sqrt(gained * capital / (reach * proof)), 1.0)
    rate = np.where(capital == 0, 0.0, rate)
    rate = np.where(proof == 0, 1.0, rate)
    rate = np.where(reach == 0, np.inf, rate)
    return q.shaped(np.where(gained <= 0, 0.0, rate))


@dataclass(frozen=True)
class Rate:
    """A rate, the stake that goes with it, and what both cost per query: proofs and interest."""

    rho: float
    stake_usd: float
    cost_usd: float


def best_rate(
    *,
    gain_usd: float,
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
    harm_usd: float = 0.0,
) -> Rate | None:
    """Rate and stake within limits that just deter and cost least, harm to users included; None where
    no pair deters.

    A cheat is detected with ``D = f + (1 - f) rho d``. Minimises ``rho C + iota S + eta (1 - D)/D``
    under ``v + s S - R (g - v)^+ = g / D``, the loss that deters every schedule
    (``guarantee.deterring_loss``). Without limits ``D^2 = (g iota / s + eta) (1 - f) d / C``: harm works
    as dearer capital does, and for ``f = eta = 0`` this is ``optimal_rho``. The sum is convex in the
    rate, so a limit that binds is met exactly: the largest stake, the largest rate, or the rate from
    which on the price alone deters and only harm is left to pay for.

    Args:
        price_usd: v, lost by a caught cheat besides the stake.
        pending: R, most answers of the operator between a caught cheat and its verdict.
        most_stake_usd: largest stake an operator can be asked for, above 0, may be infinite.
        most_rho: largest rate the provers or the budget allow, [0, 1].
        looked: f, chance that a fisherman convicts whom the adversary does not own, [0, 1].
        harm_usd: eta, 0 or more: harm of one answer times those expected to cheat regardless, per query;
            ``(1 - D)/D`` of their answers become final (``harm.Exposure``).
    """
    gained, price = float(q.gain("gain_usd", gain_usd)), float(q.amount("price_usd", price_usd))
    proof, capital = float(q.amount("proof_cost_usd", proof_cost_usd)), q.amount("capital_cost_usd", capital_cost_usd)
    caught, floor = float(q.probability("d", d)), float(q.probability("looked", looked))
    kept = float(kept_share(slash_fraction=slash_fraction, reward_share=reward_share))
    others, harm = q.whole("pending", pending), float(q.amount("harm_usd", harm_usd))
    limit = float(q.probability("most_rho", most_rho))
    stake_limit = np.inf if np.isposinf(most_stake_usd) else float(q.positive("most_stake_usd", most_stake_usd))
    per_rate = (1.0 - floor) * caught
    if not np.isfinite(gained):
        return None

    def rate_of(weight: float) -> float:
        """The rate at which proofs cost as much at the margin as ``weight`` times ``1/D``."""
        if weight == 0 or per_rate == 0:
            return 0.0
        return np.inf if proof == 0 else max((np.sqrt(weight * per_rate / proof) - floor) / per_rate, 0.0)

    def rate_for(detection: float) -> float:
        if detection <= floor:
            return 0.0
        return (detection - floor) / per_rate if per_rate > 0 else np.inf

    # What is lost without any stake; below 0 where cheats in flight keep more than one price.
    spared = price - others * max(gained - price, 0.0)
    least = free = 0.0
    if gained > 0:
        # The largest stake sets the least rate; beyond the other one no stake is needed.
        lost = spared + (kept * stake_limit if kept > 0 else 0.0)
        least = rate_for(gained / lost) if lost > 0 else np.inf
        free = rate_for(gained / spared) if spared > 0 else np.inf
        if least > limit or (caught == 0 and floor == 0) or limit == floor == 0:
            return None
    # Without an interest on it, or a part of it that is lost, a stake is worth no proof.
    rate = rate_of((gained * float(capital) / kept if kept > 0 else np.inf) + harm) if gained > 0 else 0.0
    rate = rate if rate < free else max(free, rate_of(harm))
    rate = float(min(max(rate, least), limit))
    detection = floor + per_rate * rate
    stake = 0.0
    if rate < free:
        # Free capital, no limit: an ever larger stake replaces ever more proofs.
        stake = max(gained / detection - spared, 0.0) / kept if detection > 0 and kept > 0 else np.inf
        stake = min(stake, stake_limit)  # where the limit binds, but for rounding
    cost = rate * proof + (float(capital) * stake if capital > 0 else 0.0)
    return Rate(rate, float(stake), float(cost))
