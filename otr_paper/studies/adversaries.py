"""Classes of adversaries, and what the protocol can and cannot do about each.

"Byzantine fault tolerance against rational adversaries" mixes two worlds. A rational adversary is
deterred where the inequality of ``otr_core.economics.guarantee`` holds; a Byzantine one acts
whatever it costs, and then the protocol only bounds the number of wrong answers per stake and
evicts. No fault threshold protects a single answer, because a single operator makes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from otr_core.economics import quantities as q
from otr_core.economics.detection import served_before_verdict, undetected_cheats
from otr_core.economics.guarantee import attack_profit, deterring_loss
from otr_core.economics.model import AnswerValue, Bond, Watch
from otr_core.errors import ParameterError

RATIONAL = "rational, no break"
BREAK = "rational, software break until the patch"
PERMANENT = "rational, key extracted from one platform"
CLONES = "rational, one extracted key on many identities"
GENERATION = "rational, whole hardware generation broken"
COLLUDING = "operator and fishermen collude"
MALICIOUS = "malicious, whatever it costs"
CLASSES = (RATIONAL, BREAK, PERMANENT, CLONES, GENERATION, COLLUDING, MALICIOUS)


@dataclass(frozen=True)
class Outcome:
    """What one class of adversary does.

    Attributes:
        adversary: one of ``CLASSES``.
        detection: D it faces per cheat.
        deterred: whether honesty pays strictly more than every schedule of cheats.
        profit_usd: profit over honesty of the best schedule until the verdict or the patch, per
            identity and before the attack's cost.
        undetected: expected wrong answers that become final if it cheats anyway, per identity;
            served: those served until its verdict, which hit whoever acts on provisional ones.
        total_undetected, total_served: the same over all identities it controls.
    """

    adversary: str
    detection: float
    deterred: bool
    profit_usd: float
    undetected: float
    served: float
    total_undetected: float
    total_served: float


def outcome(
    adversary: str,
    *,
    answer: AnswerValue,
    bond: Bond,
    watch: Watch,
    someone_checks: float,
    attestation: float,
    until_patch: float,
    pending: int,
    identities: int,
) -> Outcome:
    """What ``adversary`` does and what it costs the users.

    Args:
        someone_checks: phi, from the equilibrium or measured.
        attestation: probability that the gate stops an operator without a break, [0, 1].
        until_patch: N, answers per identity while a software break is open, whole.
        pending: R, most answers of an identity between a caught cheat and its verdict.
        identities: staked identities that one extracted key (clones) or one broken generation
            serves.

    A key extracted from one platform, or a broken hardware generation, is not patched: only a catch
    ends it. Colluding fishermen do not check. That a fisherman of the operator is paid for catching it
    needs no collusion, so ``Bond.loss_usd`` counts it for all. The malicious class holds a break.

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
    if adversary == BREAK:
        attempts = until_patch
    terms = {"gain_usd": answer.gain_usd, "price_usd": answer.price_usd, "detection": detection}
    profit = float(attack_profit(**terms, loss_usd=loss, pending=pending, attempts=attempts))
    deterred = loss > deterring_loss(**terms, pending=pending)
    served = float(served_before_verdict(detection=detection, pending=pending, attempts=attempts))
    undetected = float(undetected_cheats(detection=detection, attempts=attempts))
    if adversary == RATIONAL:
        # One try at the gate. A refused answer is not paid, earns nothing elsewhere and convicts nobody.
        gate = float(q.probability("attestation", attestation))
        spared = answer.honest_cost_usd - answer.cheat_cost_usd
        if gate == 1.0:
            profit, undetected, served = 0.0, 0.0, 0.0
        profit = (1.0 - gate) * profit - gate * (answer.price_usd - spared)
        undetected, served = (1.0 - gate) * undetected, (1.0 - gate) * served
        detection, deterred = gate + detection - gate * detection, profit < 0.0
    deterred = deterred and adversary != MALICIOUS
    return Outcome(adversary, detection, deterred, profit, undetected, served, undetected * copies, served * copies)


def outcomes(**terms: Any) -> list[Outcome]:
    """``outcome`` for every class, in order, on the same ``terms``."""
    return [outcome(name, **terms) for name in CLASSES]
