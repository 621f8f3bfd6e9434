"""Classes of adversaries, and what the protocol can and cannot do about each.

"Byzantine fault tolerance against rational adversaries" mixes two worlds. A rational adversary is
deterred where the inequality of ``otr_core.economics.deterrence`` holds; a Byzantine one acts
whatever it costs, and then the protocol only bounds the number of wrong answers per stake and
evicts. No fault threshold protects a single answer, because a single operator makes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from otr_core.economics import quantities as q
from otr_core.economics.detection import undetected_cheats
from otr_core.economics.model import AnswerValue, Bond, Watch
from otr_core.economics.quantities import Quantity
from otr_core.errors import ParameterError

RATIONAL = "rational, no break"
BREAK = "rational, software break until the patch"
PERMANENT = "rational, key extracted from one platform"
CLONES = "rational, one extracted key on many identities"
GENERATION = "rational, whole hardware generation broken"
COLLUDING = "operator and fishermen collude"
MALICIOUS = "malicious, whatever it costs"
CLASSES = (RATIONAL, BREAK, PERMANENT, CLONES, GENERATION, COLLUDING, MALICIOUS)


def break_profit(
    *,
    gain_usd: Quantity,
    price_usd: Quantity,
    loss_usd: Quantity,
    detection: Quantity,
    attempts: Quantity,
    discount: Quantity = 1.0,
    attack_cost_usd: Quantity = 0.0,
) -> Quantity:
    """Profit over honesty of cheating one query after another until caught or patched, USD.

    ``[g - D (v + L)] (1 - (delta (1-D))^N) / (1 - delta (1-D)) - K``. The sign of the bracket is
    the one-shot condition: patch time, patience and attack cost change the size of the profit,
    never whether cheating starts to pay.

    Args:
        attempts: N, queries until the patch (rate x patch time); infinity for a permanent break.
        discount: delta per query, [0, 1].
        attack_cost_usd: K, fixed cost of obtaining the break.
    """
    caught, patience = q.probability("detection", detection), q.probability("discount", discount)
    at_risk = q.amount("price_usd", price_usd) + q.amount("loss_usd", loss_usd)
    each = q.gain("gain_usd", gain_usd) - caught * at_risk
    turns = np.asarray(attempts, dtype=np.float64)
    turns = np.where(np.isposinf(turns), np.inf, q.count("attempts", np.where(np.isposinf(turns), 0, turns)))
    stay = patience * (1.0 - caught)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        expected = np.where(stay == 1.0, turns, (1.0 - stay**turns) / (1.0 - stay))
        profit = np.where((expected == 0) | (each == 0), 0.0, each * expected)
    return q.shaped(profit - q.amount("attack_cost_usd", attack_cost_usd))


@dataclass(frozen=True)
class Outcome:
    """What one class of adversary does.

    Attributes:
        adversary: one of ``CLASSES``.
        detection: D it faces per cheat.
        deterred: whether honesty pays strictly more.
        profit_usd: profit over honesty of cheating until caught or patched, per identity and before
            the attack's cost.
        undetected: expected wrong answers before the first catch if it cheats anyway, per identity.
        total_undetected: the same over all identities it controls.
    """

    adversary: str
    detection: float
    deterred: bool
    profit_usd: float
    undetected: float
    total_undetected: float


def outcome(
    adversary: str,
    *,
    answer: AnswerValue,
    bond: Bond,
    watch: Watch,
    someone_checks: float,
    attestation: float,
    until_patch: float,
    identities: int,
) -> Outcome:
    """What ``adversary`` does and what it costs the users.

    Args:
        someone_checks: phi, from the equilibrium or measured.
        attestation: probability that the gate stops an operator without a break, [0, 1].
        until_patch: N, answers per identity while a software break is open.
        identities: staked identities that one extracted key (clones) or one broken generation
            serves.

    A key extracted from one platform, or a broken hardware generation, is not patched: only a catch
    ends it. Colluding fishermen do not check, and of the slash they return their reward to the
    operator. The malicious class holds a break.

    Raises:
        ParameterError: unknown class or an argument outside its range.
    """
    if adversary not in CLASSES:
        raise ParameterError("adversary", adversary, f"one of {CLASSES}")
    phi = 0.0 if adversary == COLLUDING else someone_checks
    detection = watch.detection(phi)
    loss = bond.loss_usd
    attempts = np.inf
    copies = q.whole("identities", identities, least=1) if adversary in (CLONES, GENERATION) else 1
    if adversary == RATIONAL:  # stopped by the attestation gate, or behind it
        gate = float(q.probability("attestation", attestation))
        detection = gate + detection - gate * detection
    if adversary == BREAK:
        attempts = until_patch
    if adversary == COLLUDING:  # its own fisherman reports it, and hands the reward back
        loss = (1.0 - bond.reward_share) * (bond.stake_usd * bond.slash_fraction) + bond.dispute_cost_usd
    profit = break_profit(
        gain_usd=answer.gain_usd, price_usd=answer.price_usd, loss_usd=loss, detection=detection, attempts=attempts
    )
    undetected = float(undetected_cheats(detection=detection, attempts=attempts))
    deterred = adversary != MALICIOUS and detection * (answer.price_usd + loss) > answer.gain_usd
    return Outcome(adversary, detection, deterred, float(profit), undetected, undetected * copies)


def outcomes(**terms: Any) -> list[Outcome]:
    """``outcome`` for every class, in order, on the same ``terms``."""
    return [outcome(name, **terms) for name in CLASSES]
