"""When honesty is the only sensible choice for one answer, given a broken TEE.

Per answer: price v (held in escrow until finality), gain g from cheating (compute saved plus
whatever the wrong answer earns elsewhere, kept even when caught), stake S of which the fraction
sigma is slashed, dispute cost k borne by the loser, detection probability D. Of a slash the share
alpha goes to whoever was first to catch the cheat. That can be a fisherman of the operator, who
knows before all others what is false; so a caught cheat costs ``L = (1 - alpha) sigma S + k``, not
``sigma S + k``. Honest minus cheating pay is ``D (v + L) - g``: honesty is strictly better iff
``D > tau``, where ``tau = g / (v + L)``. The rule of Proof of Sampling (arXiv 2405.00295) is its
special case phi = 0, d = 1 - r, sigma = 1, alpha = k = 0.

This is one answer by itself. What many answers on one stake need, ``guarantee`` says.

Bounds returned here are the points of indifference; strictly beyond them honesty is strictly
better. Where no value deters, the bound is infinity.
"""

from __future__ import annotations

import numpy as np

from otr_core.economics import quantities as q
from otr_core.economics.detection import detection_probability
from otr_core.economics.quantities import Quantity


def kept_share(*, slash_fraction: Quantity, reward_share: Quantity) -> Quantity:
    """Part of the stake that a caught cheat is rid of for good: ``(1 - alpha) sigma``."""
    slashed = q.probability("slash_fraction", slash_fraction)
    return q.shaped(slashed * (1.0 - q.probability("reward_share", reward_share)))


def loss_if_caught(
    *, stake_usd: Quantity, slash_fraction: Quantity, dispute_cost_usd: Quantity, reward_share: Quantity = 0.0
) -> Quantity:
    """What a caught cheat loses besides the price of the answer: ``(1 - alpha) sigma S + k``, USD.

    Args:
        stake_usd: S, above 0.
        slash_fraction: sigma, [0, 1].
        dispute_cost_usd: k, what the loser of a dispute pays on top, 0 or more.
        reward_share: alpha, share of the slash that goes to who caught the cheat, [0, 1]; 0 where
            nobody is paid.
    """
    kept = kept_share(slash_fraction=slash_fraction, reward_share=reward_share)
    return q.shaped(q.positive("stake_usd", stake_usd) * kept + q.amount("dispute_cost_usd", dispute_cost_usd))


def deterrence_threshold(
    *,
    gain_usd: Quantity,
    price_usd: Quantity,
    stake_usd: Quantity,
    slash_fraction: Quantity,
    dispute_cost_usd: Quantity,
    reward_share: Quantity = 0.0,
) -> Quantity:
    """Detection tau at which cheating and honesty pay the same: ``g / (v + L)``.

    Above 1 nothing deters; 0 or below, honesty is better even unwatched.

    Args:
        gain_usd: g, gain of one cheat over the honest answer; may be infinite or negative.
        price_usd: v, paid for the answer if it is not caught, 0 or more.
        stake_usd, slash_fraction, dispute_cost_usd, reward_share: see ``loss_if_caught``.

    Raises:
        ParameterError: an argument outside its range.
    """
    gained = q.gain("gain_usd", gain_usd)
    at_risk = q.amount("price_usd", price_usd) + loss_if_caught(
        stake_usd=stake_usd,
        slash_fraction=slash_fraction,
        dispute_cost_usd=dispute_cost_usd,
        reward_share=reward_share,
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        threshold = gained / at_risk
    # Nothing at risk and nothing to gain: indifferent whatever the detection, hence the bound 0.
    return q.shaped(np.where((gained == 0) & (at_risk == 0), 0.0, threshold))


def deters(*, detection: Quantity, threshold: Quantity) -> Quantity:
    """True where honesty is strictly better: ``D > tau``. At equality both pay the same."""
    better = q.probability("detection", detection) > q.gain("threshold", threshold)
    return bool(better) if np.ndim(better) == 0 else better


def min_rho(
    *,
    gain_usd: Quantity,
    price_usd: Quantity,
    stake_usd: Quantity,
    slash_fraction: Quantity,
    dispute_cost_usd: Quantity,
    d: Quantity,
    phi: Quantity,
    w: Quantity,
    reward_share: Quantity = 0.0,
) -> Quantity:
    """Least spot-check rate that deters; infinity where even a rate of 1 does not.

    ``max(0, (tau - phi w) / (d (1 - phi w)))``.

    Args:
        d, phi, w: see ``detection_probability``; the others as in ``deterrence_threshold``.
    """
    threshold = np.asarray(
        deterrence_threshold(
            gain_usd=gain_usd,
            price_usd=price_usd,
            stake_usd=stake_usd,
            slash_fraction=slash_fraction,
            dispute_cost_usd=dispute_cost_usd,
            reward_share=reward_share,
        )
    )
    caught = q.probability("d", d)
    convicted = q.probability("phi", phi) * q.probability("w", w)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = (threshold - convicted) / (caught * (1.0 - convicted))
    rate = np.where(threshold <= convicted, 0.0, rate)
    return q.shaped(np.where(rate <= 1.0, rate, np.inf))


def min_stake(
    *,
    gain_usd: Quantity,
    price_usd: Quantity,
    slash_fraction: Quantity,
    dispute_cost_usd: Quantity,
    rho: Quantity,
    d: Quantity,
    phi: Quantity,
    w: Quantity,
    reward_share: Quantity = 0.0,
) -> Quantity:
    """Least stake that deters, USD: ``max(0, g/D - v - k) / ((1 - alpha) sigma)``.

    Infinity where none does: nothing is slashed, or all that is comes back.
    """
    gained = q.gain("gain_usd", gain_usd)
    detection = np.asarray(detection_probability(rho=rho, d=d, phi=phi, w=w))
    kept = np.asarray(kept_share(slash_fraction=slash_fraction, reward_share=reward_share))
    spared = q.amount("price_usd", price_usd) + q.amount("dispute_cost_usd", dispute_cost_usd)
    with np.errstate(divide="ignore", invalid="ignore"):
        needed = gained / detection - spared
        stake = needed / kept
    # No gain is deterred by any stake, even where nothing is ever caught.
    needed = np.where(gained <= 0, 0.0, needed)
    return q.shaped(np.where(needed <= 0, 0.0, stake))


def safe_value(
    *,
    price_usd: Quantity,
    stake_usd: Quantity,
    slash_fraction: Quantity,
    dispute_cost_usd: Quantity,
    compute_saved_usd: Quantity,
    detection: Quantity,
    reward_share: Quantity = 0.0,
    pending: Quantity = 0,
) -> Quantity:
    """Largest outside gain that is still deterred, USD, never below 0.

    The gain g solves ``g = D (v + L - R (g - v)^+)``: it is ``D (v + L)`` where that is at most v,
    else ``D (v + L + R v) / (1 + D R)``. The compute saved is a part of it.

    Whoever acts on a provisional answer that is worth more to a cheat than this must wait for
    finality; so must everybody where no rule convicts of an answer that was signed and never
    committed.

    Args:
        compute_saved_usd: ``c_H - c_L``, what the cheat saves in computation, 0 or more.
        detection: D, [0, 1].
        pending: R, most answers of the operator between a caught cheat and its verdict.
    """
    caught, price = q.probability("detection", detection), q.amount("price_usd", price_usd)
    others = q.count("pending", pending)
    loss = loss_if_caught(
        stake_usd=stake_usd, slash_fraction=slash_fraction, dispute_cost_usd=dispute_cost_usd, reward_share=reward_share
    )
    single = caught * (price + loss)
    gained = np.where(single <= price, single, (single + caught * others * price) / (1.0 + caught * others))
    return q.shaped(np.maximum(gained - q.amount("compute_saved_usd", compute_saved_usd), 0.0))
