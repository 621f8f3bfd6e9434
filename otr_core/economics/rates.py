"""The cheapest spot-check rate: a proof costs money, and so does the stake that replaces it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from otr_core.economics import quantities as q
from otr_core.economics.quantities import Quantity


def optimal_rho(
    *, gain_usd: Quantity, proof_cost_usd: Quantity, capital_cost_usd: Quantity, d: Quantity, slash_fraction: Quantity
) -> Quantity:
    """Cheapest spot-check rate by the square-root law: ``sqrt(g iota / (d sigma C))``, at most 1.

    Minimises ``rho C + iota S`` under ``rho d (v + sigma S) = g``. The price v moves the stake, not
    the rate, as long as the stake stays positive; ``best_rate`` minds that too.

    Args:
        gain_usd: g, gain of one cheat.
        proof_cost_usd: C, cost of one proof, 0 or more. Free proofs give rate 1.
        capital_cost_usd: iota, cost of holding one dollar of stake for one query (yearly rate /
            queries per year), 0 or more. Free capital gives rate 0: the stake does all the work.
        d: probability that a sampled cheat is caught, [0, 1].
        slash_fraction: sigma, [0, 1].

    Returns:
        The rate; 0 without a gain; infinity where no rate deters (d or sigma 0).
    """
    gained, proof = q.gain("gain_usd", gain_usd), q.amount("proof_cost_usd", proof_cost_usd)
    capital = q.amount("capital_cost_usd", capital_cost_usd)
    reach = q.probability("d", d) * q.probability("slash_fraction", slash_fraction)
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
    most_stake_usd: float = np.inf,
    most_rho: float = 1.0,
) -> Rate | None:
    """Cheapest rate and stake within limits that just deter; None where no pair does.

    The unlimited answer is ``optimal_rho`` with ``v + sigma S = g / (rho d)``. Cost is convex in
    the rate, so a limit that binds is met exactly: a price that alone deters at a smaller rate, the
    largest stake, the largest rate.

    Args:
        price_usd: v, lost by a caught cheat besides the stake.
        most_stake_usd: largest stake an operator can be asked for, above 0, may be infinite.
        most_rho: largest rate the provers or the budget allow, [0, 1].
    """
    gained, price = float(q.gain("gain_usd", gain_usd)), float(q.amount("price_usd", price_usd))
    proof, capital = q.amount("proof_cost_usd", proof_cost_usd), q.amount("capital_cost_usd", capital_cost_usd)
    caught, slashed = float(q.probability("d", d)), float(q.probability("slash_fraction", slash_fraction))
    limit = float(q.probability("most_rho", most_rho))
    stake_limit = np.inf if np.isposinf(most_stake_usd) else float(q.positive("most_stake_usd", most_stake_usd))
    if gained <= 0:
        return Rate(0.0, 0.0, 0.0)
    if not np.isfinite(gained) or caught == 0:
        return None
    # The largest stake sets the least rate, the price alone the largest one that is of use.
    lost = price + (slashed * stake_limit if slashed > 0 else 0.0)
    least = gained / (caught * lost) if lost > 0 else np.inf
    most = min(limit, gained / (caught * price) if price > 0 else np.inf)
    if least > most or most == 0:
        return None
    unlimited = optimal_rho(
        gain_usd=gained, proof_cost_usd=proof, capital_cost_usd=capital, d=caught, slash_fraction=slashed
    )
    rate = float(min(max(unlimited, least), most))
    if rate == 0.0:
        # free capital, no limit: an ever larger stake replaces ever more proofs
        return Rate(0.0, np.inf, 0.0)
    stake = max(gained / (rate * caught) - price, 0.0) / slashed if slashed > 0 else 0.0
    return Rate(rate, float(stake), float(rate * proof + capital * stake))
