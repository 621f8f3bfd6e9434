"""The cheapest spot-check rate: proofs cost money per query, stake costs interest per query, either one deters."""

from __future__ import annotations

import numpy as np

from otr_core.economics import quantities as q
from otr_core.economics.quantities import Quantity


def optimal_rho(
    *, gain_usd: Quantity, proof_cost_usd: Quantity, capital_cost_usd: Quantity, d: Quantity, slash_fraction: Quantity
) -> Quantity:
    """Cost-minimising spot-check rate: ``sqrt(g iota / (d sigma C))``, at most 1 (the square-root law).

    Minimises ``rho C + iota S`` under ``rho d (v + sigma S) = g``. The price v moves the stake, not the rate, as long
    as the stake stays positive; ``best_rate`` minds that too.

    Args:
        gain_usd: g, gain of one cheat.
        proof_cost_usd: C, cost of one proof, 0 or more. Free proofs give rate 1.
        capital_cost_usd: iota, cost of holding one dollar of stake for one query (yearly rate / queries per year), 0 or
            more. Free capital gives rate 0: the stake does all the work.
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
