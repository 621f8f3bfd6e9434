"""The data of the figures: lists of records, one per point, ready for a table or a plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from otr_core.economics.detection import cheats_for_detection, detection_after, detection_probability, undetected_cheats
from otr_core.economics.deterrence import min_rho, min_stake
from otr_core.economics.model import AnswerValue, Bond, Watch, play_strategies
from otr_core.economics.rates import best_rate

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


def deterrence_map(
    *,
    rhos: Sequence[float],
    stakes_usd: Sequence[float],
    gains_usd: Sequence[float],
    price_usd: float = 0.0,
    slash_fraction: float = 1.0,
    d: float = 1.0,
    someone_checks: float = 0.0,
    w: float = 1.0,
) -> list[dict[str, float | bool]]:
    """Rate x stake x value at risk: records of rho, stake_usd, gain_usd, surplus_usd and deterred.

    ``surplus_usd`` is what honesty earns over cheating on one answer with the break open: ``D (v + sigma S) - g``.
    """
    records: list[dict[str, float | bool]] = []
    for gain in gains_usd:
        for stake in stakes_usd:
            for rho in rhos:
                detection = detection_probability(rho=rho, d=d, phi=someone_checks, w=w)
                surplus = detection * (price_usd + slash_fraction * stake) - gain
                records.append(
                    {
                        "gain_usd": float(gain),
                        "stake_usd": float(stake),
                        "rho": float(rho),
                        "surplus_usd": surplus,
                        "deterred": bool(surplus > 0),
                    }
                )
    return records


def regime_map(
    *, answer: AnswerValue, bond: Bond, watch: Watch, rhos: Sequence[float], gains_usd: Sequence[float]
) -> list[dict[str, float | str]]:
    """Equilibrium over rate and gain: records of rho, gain_usd, regime, cheat_rate, check_rate, detection, threshold.

    ``answer`` gives price and compute costs; its outside gain is replaced so that the whole gain is ``gain_usd``.
    """
    saved = answer.honest_cost_usd - answer.cheat_cost_usd
    records: list[dict[str, float | str]] = []
    for gain in gains_usd:
        worth = replace(answer, outside_gain_usd=gain - saved)
        for rho in rhos:
            found = play_strategies(worth, bond, replace(watch, rho=rho))
            records.append(
                {
                    "gain_usd": float(gain),
                    "rho": float(rho),
                    "regime": found.regime,
                    "cheat_rate": found.cheat_rate,
                    "check_rate": found.check_rate,
                    "detection": found.detection,
                    "threshold": found.threshold,
                }
            )
    return records


def best_rate_curves(
    *,
    proof_costs_usd: Sequence[float],
    gains_usd: Sequence[float],
    price_usd: float,
    capital_cost_usd: float,
    d: float = 1.0,
    slash_fraction: float = 1.0,
    most_stake_usd: float = np.inf,
) -> Records:
    """Best rate as proofs get cheaper: records of proof_cost_usd, gain_usd, rho, stake_usd, cost_usd.

    NaN where no rate deters with the largest stake.
    """
    records: Records = []
    for gain in gains_usd:
        for proof in proof_costs_usd:
            found = best_rate(
                gain_usd=gain,
                price_usd=price_usd,
                proof_cost_usd=proof,
                capital_cost_usd=capital_cost_usd,
                d=d,
                slash_fraction=slash_fraction,
                most_stake_usd=most_stake_usd,
            )
            pair = (found.rho, found.stake_usd, found.cost_usd) if found else (np.nan, np.nan, np.nan)
            names = ("rho", "stake_usd", "cost_usd")
            records.append({"proof_cost_usd": proof, "gain_usd": gain, **dict(zip(names, pair, strict=True))})
    return records


def what_a_rate_buys(*, rho: float, gains_usd: Sequence[float], price_usd: float, slash_fraction: float) -> Records:
    """One rate over gains: records of gain_usd, least stake_usd, stake_per_gain, undetected cheats of one stake."""
    undetected = undetected_cheats(detection=rho)
    records: Records = []
    for gain in gains_usd:
        stake = min_stake(
            gain_usd=gain,
            price_usd=price_usd,
            slash_fraction=slash_fraction,
            dispute_cost_usd=0.0,
            rho=rho,
            d=1.0,
            phi=0.0,
            w=0.0,
        )
        multiple = stake / gain if gain > 0 else 0.0
        records.append(
            {"gain_usd": float(gain), "stake_usd": stake, "stake_per_gain": multiple, "undetected": undetected}
        )
    return records
