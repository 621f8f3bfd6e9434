"""The data of the figures: lists of records, one per point, ready for a table or a plot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from otr_core.economics.detection import cheats_for_detection, detection_after, detection_probability
from otr_core.economics.deterrence import min_rho, min_stake

Records = list[dict[str, float]]


def detection_curves(*, rhos: Sequence[float], most_cheats: int) -> Records:
    """Detection against the number of cheats: records of rho, cheats, detection.

    Cheats run from 1 to ``most_cheats`` in about 60 steps of equal ratio.
    """
    cheats = np.unique(np.geomspace(1, most_cheats, 60).round())
    return [
        {"rho": float(rho), "cheats": float(number), "detection": detection_after(cheats=number, rho=rho)}
        for rho in rhos
        for number in cheats
    ]


def detection_marks(*, rhos: Sequence[float], probabilities: Sequence[float]) -> Records:
    """Cheats needed for given detections: records of rho, probability, cheats (infinity where none suffices)."""
    return [
        {"rho": float(rho), "probability": float(share), "cheats": cheats_for_detection(probability=share, rho=rho)}
        for rho in rhos
        for share in probabilities
    ]


def stake_curves(
    *,
    gains_usd: Sequence[float],
    rhos: Sequence[float],
    price_usd: float = 0.0,
    slash_fraction: float = 1.0,
    dispute_cost_usd: float = 0.0,
    d: float = 1.0,
    phi: float = 0.0,
    w: float = 0.0,
) -> Records:
    """Least stake against the rate: records of gain_usd, rho, stake_usd, detection."""
    fixed = {"price_usd": price_usd, "slash_fraction": slash_fraction, "dispute_cost_usd": dispute_cost_usd}
    watch = {"d": d, "phi": phi, "w": w}
    return [
        {
            "gain_usd": float(gain),
            "rho": float(rho),
            "stake_usd": min_stake(gain_usd=gain, rho=rho, **fixed, **watch),
            "detection": detection_probability(rho=rho, **watch),
        }
        for gain in gains_usd
        for rho in rhos
    ]


def rho_curves(
    *,
    gains_usd: Sequence[float],
    stakes_usd: Sequence[float],
    price_usd: float = 0.0,
    slash_fraction: float = 1.0,
    dispute_cost_usd: float = 0.0,
    d: float = 1.0,
    phi: float = 0.0,
    w: float = 0.0,
) -> Records:
    """Least rate against the stake: records of gain_usd, stake_usd, rho (infinity where none deters)."""
    fixed = {"price_usd": price_usd, "slash_fraction": slash_fraction, "dispute_cost_usd": dispute_cost_usd}
    return [
        {
            "gain_usd": float(gain),
            "stake_usd": float(stake),
            "rho": min_rho(gain_usd=gain, stake_usd=stake, **fixed, d=d, phi=phi, w=w),
        }
        for gain in gains_usd
        for stake in stakes_usd
    ]
