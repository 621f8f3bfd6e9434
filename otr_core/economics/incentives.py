"""The conditions around the game: timeouts, self-reports, bribes, frivolous challenges, and who takes part."""

from __future__ import annotations

import numpy as np

from otr_core.economics import quantities as q
from otr_core.economics.quantities import Quantity


def effective_loss(*, fraud_loss_usd: Quantity, timeout_loss_usd: Quantity) -> Quantity:
    """What a caught cheater really loses, USD: the cheaper of losing the dispute and falling silent.

    Unless silence costs at least as much as fraud, a timeout is the way out and the fraud penalty is never paid.
    """
    fraud, silence = q.amount("fraud_loss_usd", fraud_loss_usd), q.amount("timeout_loss_usd", timeout_loss_usd)
    return q.shaped(np.minimum(fraud, silence))


def outage_cost(*, rho: Quantity, outage: Quantity, timeout_loss_usd: Quantity) -> Quantity:
    """What an honest operator loses per query because its prover is down when sampled, USD: ``rho eta L``.

    Args:
        outage: eta, probability that an honest operator cannot answer a spot check in time, [0, 1].
    """
    unanswered = q.probability("rho", rho) * q.probability("outage", outage)
    return q.shaped(unanswered * q.amount("timeout_loss_usd", timeout_loss_usd))


def self_report_loss(
    *, stake_usd: Quantity, slash_fraction: Quantity, reward_share: Quantity, dispute_cost_usd: Quantity
) -> Quantity:
    """Loss of a cheater whose own fisherman reports it, USD: ``(1 - alpha) sigma S + k``.

    Args:
        reward_share: alpha, the share of the slash paid to who caught the cheat, [0, 1].
    """
    kept = 1.0 - q.probability("reward_share", reward_share)
    slashed = q.positive("stake_usd", stake_usd) * q.probability("slash_fraction", slash_fraction)
    return q.shaped(kept * slashed + q.amount("dispute_cost_usd", dispute_cost_usd))


def most_reward_share(
    *,
    gain_usd: Quantity,
    price_usd: Quantity,
    stake_usd: Quantity,
    slash_fraction: Quantity,
    dispute_cost_usd: Quantity,
    detection: Quantity,
) -> Quantity:
    """Largest reward share at which self-reporting does not undo deterrence: ``1 - (g/D - v - k) / (sigma S)``.

    Between 0 and 1; negative where even share 0 does not deter (there is then no good share).
    """
    slashed = q.positive("stake_usd", stake_usd) * q.probability("slash_fraction", slash_fraction)
    spared = q.amount("price_usd", price_usd) + q.amount("dispute_cost_usd", dispute_cost_usd)
    with np.errstate(divide="ignore", invalid="ignore"):
        needed = q.gain("gain_usd", gain_usd) / q.probability("detection", detection) - spared
        share = 1.0 - np.maximum(needed, 0.0) / slashed
    needs_nothing = needed <= 0
    return q.shaped(np.where(needs_nothing | np.isnan(needed), 1.0, share))


def least_bribe_proof_share(
    *,
    gain_usd: Quantity,
    price_usd: Quantity,
    stake_usd: Quantity,
    slash_fraction: Quantity,
    dispute_cost_usd: Quantity,
    sampled_detection: Quantity,
    fishermen: Quantity,
) -> Quantity:
    """Least reward share at which bribing every fisherman costs more than it brings.

    With all n silent only spot checks remain, so cheating brings ``g - rho d (v + sigma S + k)``; each fisherman must
    be paid the whole reward ``alpha sigma S`` it would get by breaking ranks alone, together ``n alpha sigma S``. The
    rule of thumb ``alpha > 1/n`` is enough only where the gain is at most ``sigma S + rho d (v + sigma S + k)``.

    Args:
        sampled_detection: ``rho d``, detection by spot checks alone, [0, 1].
        fishermen: n, at least 1.

    Returns:
        The share; 0 where spot checks alone deter; above 1 where no share is bribe-proof.
    """
    slashed = q.positive("stake_usd", stake_usd) * q.probability("slash_fraction", slash_fraction)
    at_risk = q.amount("price_usd", price_usd) + slashed + q.amount("dispute_cost_usd", dispute_cost_usd)
    left = q.gain("gain_usd", gain_usd) - q.probability("sampled_detection", sampled_detection) * at_risk
    with np.errstate(divide="ignore", invalid="ignore"):
        share = left / (q.count("fishermen", fishermen, least=1) * slashed)
    return q.shaped(np.where(left <= 0, 0.0, share))


def least_challenge_bond(*, defender_cost_usd: Quantity, move_cost_usd: Quantity, ratio: Quantity = 10.0) -> Quantity:
    """Bond that makes a frivolous challenge cost ``ratio`` times what it costs the defender, USD.

    Args:
        defender_cost_usd: what answering one challenge costs; move_cost_usd: what raising it costs besides the bond.
        ratio: resource ratio, above 0; 10 is the target of Arbitrum's BoLD (arXiv 2404.10491).
    """
    needed = q.positive("ratio", ratio) * q.amount("defender_cost_usd", defender_cost_usd)
    return q.shaped(np.maximum(needed - q.amount("move_cost_usd", move_cost_usd), 0.0))


def griefing_factor(*, defender_cost_usd: Quantity, bond_usd: Quantity, move_cost_usd: Quantity) -> Quantity:
    """Harm to the defender per dollar the challenger loses: ``cost / (bond + move)``; infinity if it loses none."""
    spent = q.amount("bond_usd", bond_usd) + q.amount("move_cost_usd", move_cost_usd)
    cost = q.amount("defender_cost_usd", defender_cost_usd)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = cost / spent
    return q.shaped(np.where(cost == 0, 0.0, factor))


def least_price(
    *,
    honest_cost_usd: Quantity,
    attestation_cost_usd: Quantity,
    rho: Quantity,
    proof_cost_usd: Quantity,
    outage: Quantity,
    timeout_loss_usd: Quantity,
    stake_usd: Quantity,
    capital_cost_usd: Quantity,
) -> Quantity:
    """Least price at which an honest operator takes part, USD: ``c_H + c_att + rho C_ZK + rho eta L + iota S``.

    Args:
        honest_cost_usd: computing one answer; attestation_cost_usd: attesting and posting it.
        proof_cost_usd: C_ZK, one proof; outage and timeout_loss_usd: see ``outage_cost``.
        stake_usd: S; capital_cost_usd: iota, holding a dollar of it for one query.
    """
    proofs = q.probability("rho", rho) * q.amount("proof_cost_usd", proof_cost_usd)
    silent = outage_cost(rho=rho, outage=outage, timeout_loss_usd=timeout_loss_usd)
    capital = q.amount("capital_cost_usd", capital_cost_usd) * q.positive("stake_usd", stake_usd)
    computed = q.amount("honest_cost_usd", honest_cost_usd) + q.amount("attestation_cost_usd", attestation_cost_usd)
    return q.shaped(computed + proofs + silent + capital)
