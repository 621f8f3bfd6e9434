"""The data of the figures on economics: lists of records, one per point, ready for a table or a
plot.

Unless a function takes other terms, an operator with a broken TEE is seen by sampling alone: nobody
else looks, a sampled cheat is always caught, and the loser of a dispute pays no costs. Of a slash the
share ``reward_share`` goes to the catcher, who may be the operator's own fisherman.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from otr_core.economics.detection import (
    cheats_for_detection,
    detection_after,
    detection_probability,
    served_before_verdict,
    undetected_cheats,
)
from otr_core.economics.deterrence import kept_share, min_rho, min_stake
from otr_core.economics.guarantee import deterring_loss
from otr_core.economics.model import AnswerValue, Bond, Watch, play_strategies
from otr_core.economics.rates import best_rate
from otr_core.economics.scenarios import Limits
from otr_paper.store.records import Records, records

SAMPLING = {"d": 1.0, "phi": 0.0, "w": 0.0}
"""Detection by sampling alone: d, phi and w of ``detection_probability``."""


def margins_text(limits: Limits) -> str:
    """By how much a recommendation may be wrong about gain, proofs and detection, in words."""
    by = f"gain {limits.gain_margin:g} times, proofs {limits.proof_cost_margin:g} times as dear"
    return f"{by}, {limits.detection_margin:.0%} of the detection"


def detection_curves(*, rhos: Sequence[float], most_cheats: int) -> Records:
    """Detection against the number of cheats: records of rho, cheats, detection.

    Cheats run from 1 to ``most_cheats`` in about 60 steps of equal ratio.
    """
    cheats = np.unique(np.geomspace(1, most_cheats, 60).round())
    points = ((float(rho), float(n), detection_after(cheats=n, rho=rho)) for rho, n in product(rhos, cheats))
    return records("rho, cheats, detection", points)


def detection_marks(*, rhos: Sequence[float], probabilities: Sequence[float]) -> Records:
    """Cheats needed for given detections: records of rho, probability, cheats (infinity where none
    suffices)."""
    pairs = product(rhos, probabilities)
    marks = ((float(rho), float(p), cheats_for_detection(probability=p, rho=rho)) for rho, p in pairs)
    return records("rho, probability, cheats", marks)


def stake_curves(
    *,
    gains_usd: Sequence[float],
    rhos: Sequence[float],
    reward_share: float,
    price_usd: float = 0.0,
    slash_fraction: float = 1.0,
) -> Records:
    """Least stake against the rate: records of gain_usd, rho,
    stake_usd."""
    fixed = {"price_usd": price_usd, "slash_fraction": slash_fraction, "dispute_cost_usd": 0.0, **SAMPLING}
    fixed["reward_share"] = reward_share
    pairs = product(gains_usd, rhos)
    points = ((float(gain), float(rho), min_stake(gain_usd=gain, rho=rho, **fixed)) for gain, rho in pairs)
    return records("gain_usd, rho, stake_usd", points)


def rho_curves(
    *,
    gains_usd: Sequence[float],
    stakes_usd: Sequence[float],
    reward_share: float,
    price_usd: float = 0.0,
    slash_fraction: float = 1.0,
) -> Records:
    """Least rate against the stake: records of gain_usd, stake_usd, rho.

    The rate is infinity where none deters.
    """
    fixed = {"price_usd": price_usd, "slash_fraction": slash_fraction, "dispute_cost_usd": 0.0, **SAMPLING}
    fixed["reward_share"] = reward_share
    pairs = product(gains_usd, stakes_usd)
    points = ((float(gain), float(stake), min_rho(gain_usd=gain, stake_usd=stake, **fixed)) for gain, stake in pairs)
    return records("gain_usd, stake_usd, rho", points)


def deterrence_map(
    *,
    rhos: Sequence[float],
    stakes_usd: Sequence[float],
    gains_usd: Sequence[float],
    price_usd: float,
    reward_share: float,
    slash_fraction: float = 1.0,
) -> Records:
    """Rate x stake x value at risk: records of gain_usd, stake_usd, rho
    and deterred.

    Deterred is whether honesty earns strictly more than cheating on one answer:
    ``D (v + (1 - alpha) sigma S) - g > 0``.
    """
    kept = kept_share(slash_fraction=slash_fraction, reward_share=reward_share)
    points = []
    for gain, stake, rho in product(gains_usd, stakes_usd, rhos):
        surplus = detection_probability(rho=rho, **SAMPLING) * (price_usd + kept * stake) - gain
        points.append((float(gain), float(stake), float(rho), bool(surplus > 0)))
    return records("gain_usd, stake_usd, rho, deterred", points)


def regime_map(
    *, answer: AnswerValue, bond: Bond, watch: Watch, rhos: Sequence[float], gains_usd: Sequence[float]
) -> Records:
    """Equilibrium over rate and gain: records of gain_usd, rho, regime, detection, threshold.

    ``answer`` gives price and compute costs; its outside gain is replaced so that the whole gain is
    ``gain_usd``.
    """
    saved = answer.honest_cost_usd - answer.cheat_cost_usd
    points = []
    for gain, rho in product(gains_usd, rhos):
        worth = replace(answer, outside_gain_usd=gain - saved)
        found = play_strategies(worth, bond, replace(watch, rho=rho))
        points.append((float(gain), float(rho), found.regime, found.detection, found.threshold))
    return records("gain_usd, rho, regime, detection, threshold", points)


def best_rate_curves(
    *,
    proof_costs_usd: Sequence[float],
    gains_usd: Sequence[float],
    price_usd: float,
    capital_cost_usd: float,
    most_stake_usd: float,
    reward_share: float,
    slash_fraction: float = 1.0,
) -> Records:
    """Best rate as proofs get cheaper: records of proof_cost_usd,
    gain_usd, rho, stake_usd, cost_usd.

    NaN where no rate deters with the largest stake.
    """
    fixed = {"price_usd": price_usd, "capital_cost_usd": capital_cost_usd, "most_stake_usd": most_stake_usd}
    fixed |= {"reward_share": reward_share, "slash_fraction": slash_fraction}
    points = []
    for gain, proof in product(gains_usd, proof_costs_usd):
        found = best_rate(gain_usd=gain, proof_cost_usd=proof, d=1.0, pending=0, **fixed)
        best = (found.rho, found.stake_usd, found.cost_usd) if found else (np.nan, np.nan, np.nan)
        points.append((proof, gain, *best))
    return records("proof_cost_usd, gain_usd, rho, stake_usd, cost_usd", points)


def what_a_rate_buys(
    *,
    rho: float,
    gains_usd: Sequence[float],
    price_usd: float,
    slash_fraction: float,
    reward_share: float,
    pending: int,
) -> Records:
    """One rate over gains: records of gain_usd, least stake_usd for one answer by itself,
    stake_per_gain, rolling_usd (the least stake that deters every schedule with ``pending`` answers
    served before a verdict), and the wrong answers of one stake that become final (undetected) and
    that are served."""
    fixed = {"price_usd": price_usd, "slash_fraction": slash_fraction, "dispute_cost_usd": 0.0, **SAMPLING}
    fixed["reward_share"] = reward_share
    kept = kept_share(slash_fraction=slash_fraction, reward_share=reward_share)
    undetected = undetected_cheats(detection=rho)
    served = served_before_verdict(detection=rho, pending=pending)
    points = []
    for gain in gains_usd:
        stake = min_stake(gain_usd=gain, rho=rho, **fixed)
        loss = deterring_loss(gain_usd=gain, price_usd=price_usd, detection=rho, pending=pending)
        ratio = stake / gain if gain > 0 else 0.0
        points.append((float(gain), stake, ratio, loss / kept if kept else np.inf, undetected, served))
    return records("gain_usd, stake_usd, stake_per_gain, rolling_usd, undetected, served", points)
