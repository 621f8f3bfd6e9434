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
) -> Rate | None:
    """Cheapest rate and stake within limits that just deter; None where no pair does.

    The unlimited answer is ``optimal_rho`` with ``v + s S - R (g - v)^+ = g / (rho d)``: the loss
    that deters every schedule (``guarantee.deterring_loss``). Cost is convex in the rate, so a limit
    that binds is met exactly: a price that alone deters at a smaller rate, the largest stake, the
    largest rate.

    Args:
        price_usd: v, lost by a caught cheat besides the stake.
        pending: R, most answers of the operator between a caught cheat and its verdict.
        most_stake_usd: largest stake an operator can be asked for, above 0, may be infinite.
        most_rho: largest rate the provers or the budget allow, [0, 1].
    """
    gained, price = float(q.gain("gain_usd", gain_usd)), float(q.amount("price_usd", price_usd))
    proof, capital = q.amount("proof_cost_usd", proof_cost_usd), q.amount("capital_cost_usd", capital_cost_usd)
    caught = float(q.probability("d", d))
    kept = float(kept_share(slash_fraction=slash_fraction, reward_share=reward_share))
    others = q.whole("pending", pending)
    limit = float(q.probability("most_rho", most_rho))
    stake_limit = np.inf if np.isposinf(most_stake_usd) else float(q.positive("most_stake_usd", most_stake_usd))
    if gained <= 0:
        return Rate(0.0, 0.0, 0.0)
    if not np.isfinite(gained) or caught == 0:
        return None
    # What is lost without any stake; below 0 where cheats in flight keep more than one price.
    spared = price - others * max(gained - price, 0.0)
    # The largest stake sets the least rate, the price alone the largest one that is of use.
    lost = spared + (kept * stake_limit if kept > 0 else 0.0)
    least = gained / (caught * lost) if lost > 0 else np.inf
    most = min(limit, gained / (caught * spared) if spared > 0 else np.inf)
    if least > most or most == 0:
        return None
    unlimited = optimal_rho(
        gain_usd=gained,
        proof_cost_usd=proof,
        capital_cost_usd=capital,
        d=caught,
        slash_fraction=slash_fraction,
        reward_share=reward_share,
    )
    rate = float(min(max(unlimited, least), most))
    if rate == 0.0:
        # free capital, no limit: an ever larger stake replaces ever more proofs
        return Rate(0.0, np.inf, 0.0)
    stake = max(gained / (rate * caught) - spared, 0.0) / kept if kept > 0 else 0.0
    stake = min(stake, stake_limit)  # where the limit binds, but for rounding
    return Rate(rate, float(stake), float(rate * proof + capital * stake))
