"""Who cheats, who checks: the game of an operator and n fishermen under a committed rate.

Operator and fishermen move at once; all are risk-neutral; the rate rho is committed and its beacon
cannot be biased. A fisherman pays ``c`` to check. Those who checked a real cheat that the spot
check missed share ``alpha sigma S`` if the dispute is won (probability w); those who checked a
planted fault (rate psi per query, not told apart from a real one) share the bounty beta. With
everyone checking at rate x, a checker's expected part of a prize is
``h(x) = (1 - (1-x)^n) / (n x)``, which falls from 1 to 1/n.

The operator may be its own catcher, so a caught cheat costs it ``L = (1 - alpha) sigma S + k``. Where
fishermen check for catches (mixed, always cheat) the reward is taken to reach them: the best case for
them, and no regime in which nobody cheats hangs on it.

The symmetric equilibria, by ``tau = g/(v + L)`` and
``D(x) = 1 - (1 - rho d)(1 - w (1 - (1-x)^n))``:

* honest dominant: ``rho d > tau``. Honesty is strictly dominant; fishermen do not matter.
* honest watched: ``D(x0) > tau``, where x0 is what planted faults alone make worth while.
* mixed: ``D(x0) < tau < D(1)``. The operator cheats at rate y, fishermen check at the x where
  ``D(x) = tau``.
* always cheat: checking is too dear (y would exceed 1), or even full checking does not deter.
* boundary: ``D(x0) = tau``; the operator is indifferent and there are many equilibria.

Off the boundaries, and with a positive checking cost, the symmetric equilibrium is unique: the more
the operator cheats, the more checking pays, so that ``D(x(y)) >= D(x(0))`` for every y > 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from otr_core.economics import quantities as q
from otr_core.economics.detection import detection_probability
from otr_core.economics.deterrence import deterrence_threshold, loss_if_caught

HONEST_DOMINANT = "honest dominant"
HONEST_WATCHED = "honest watched"
MIXED = "mixed"
ALWAYS_CHEAT = "always cheat"
BOUNDARY = "boundary"
REGIMES = (HONEST_DOMINANT, HONEST_WATCHED, MIXED, ALWAYS_CHEAT, BOUNDARY)


@dataclass(frozen=True)
class Equilibrium:
    """The symmetric equilibrium.

    Attributes:
        regime: one of ``REGIMES``.
        threshold: tau, the detection at which the operator is indifferent.
        detection: D, the detection it faces.
        check_rate: x, how often each fisherman checks.
        someone_checks: phi, probability that at least one does.
        cheat_rate: y, how often the operator cheats.
        unique: whether this is the only symmetric equilibrium.
    """

    regime: str
    threshold: float
    detection: float
    check_rate: float
    someone_checks: float
    cheat_rate: float
    unique: bool


def _someone(rate: float, count: int) -> float:
    if count == 0 or rate == 0.0:
        return 0.0
    return 1.0 if rate >= 1.0 else -math.expm1(count * math.log1p(-rate))


def _part(rate: float, count: int) -> float:
    """``h(x)``: a checker's expected part of a prize shared by all who checked."""
    return 1.0 if rate == 0.0 else _someone(rate, count) / (count * rate)


def check_rate(*, prize_usd: float, check_cost_usd: float, fishermen: int) -> float:
    """Rate x at which checking for a prize that checkers share just pays: ``prize h(x) = cost``.

    The rate is 1 where it pays even if all check (``prize >= n cost``), and 0 where it does not
    pay even alone (``prize <= cost``).
    """
    prize, cost = float(q.amount("prize_usd", prize_usd)), float(q.amount("check_cost_usd", check_cost_usd))
    count = q.whole("fishermen", fishermen)
    if count == 0:
        return 0.0
    if prize >= count * cost:
        return 1.0
    if prize <= cost:
        return 0.0
    low, high = 0.0, 1.0
    while True:
        middle = 0.5 * (low + high)
        if middle in (low, high):
            return middle
        if prize * _part(middle, count) > cost:
            low = middle
        else:
            high = middle


def least_bounty(*, check_cost_usd: float, planted_rate: float, claims: int = 1) -> float:
    """Bounty at which looking pays although nobody cheats: ``claims c / psi``, USD.

    Args:
        claims: among how many a bounty is shared: 1 for who looks alone, n where all fishermen
            look; each further name under which somebody claims counts too, so that no bounty holds
            against an operator that files claims without end.

    Returns:
        The bounty; infinity where nothing is planted and a look costs something.
    """
    cost, planted = q.amount("check_cost_usd", check_cost_usd), float(q.probability("planted_rate", planted_rate))
    shared = q.whole("claims", claims, least=1) * float(cost)
    return shared / planted if planted > 0 else math.inf if shared > 0 else 0.0


def equilibrium(
    *,
    gain_usd: float,
    price_usd: float,
    stake_usd: float,
    slash_fraction: float,
    dispute_cost_usd: float,
    rho: float,
    d: float,
    w: float,
    fishermen: int,
    check_cost_usd: float,
    reward_share: float,
    planted_rate: float = 0.0,
    bounty_usd: float = 0.0,
) -> Equilibrium:
    """The symmetric equilibrium of the operator and the fishermen.

    Args:
        gain_usd, price_usd, stake_usd, slash_fraction, dispute_cost_usd: see
            ``deterrence_threshold``.
        rho, d, w: see ``detection_probability``.
        fishermen: n, how many; 0 is allowed.
        check_cost_usd: c, cost of one check. At 0 checking is weakly dominant and everyone checks.
        reward_share: alpha, share of the slash paid to those who caught the cheat, [0, 1]; the
            operator can be among them.
        planted_rate: psi, planted faults per query, [0, 1]; bounty_usd: beta, paid to those who
            checked one.

    Raises:
        ParameterError: an argument outside its range.
    """
    bond = {"stake_usd": stake_usd, "slash_fraction": slash_fraction}
    at_risk = {"price_usd": price_usd, "dispute_cost_usd": dispute_cost_usd, "reward_share": reward_share, **bond}
    threshold = deterrence_threshold(gain_usd=gain_usd, **at_risk)
    sampled = float(q.probability("rho", rho) * q.probability("d", d))
    won, count = float(q.probability("w", w)), q.whole("fishermen", fishermen)
    cost = float(q.amount("check_cost_usd", check_cost_usd))
    slashed = float(loss_if_caught(dispute_cost_usd=0.0, **bond))
    reward = (1.0 - sampled) * won * float(q.probability("reward_share", reward_share)) * slashed
    planted = float(q.probability("planted_rate", planted_rate) * q.amount("bounty_usd", bounty_usd))

    def detection(rate: float) -> float:
        return float(detection_probability(rho=sampled, d=1.0, phi=_someone(rate, count), w=won))

    def found(regime: str, rate: float, cheats: float, *, unique: bool = True) -> Equilibrium:
        someone = _someone(rate, count)
        return Equilibrium(regime, threshold, detection(rate), rate, someone, cheats, unique)

    watched = check_rate(prize_usd=planted, check_cost_usd=cost, fishermen=count)
    # free checking leaves fishermen indifferent while nobody cheats
    strict = cost > 0 or count == 0
    if sampled > threshold:
        return found(HONEST_DOMINANT, watched, 0.0, unique=strict)
    if detection(watched) > threshold:
        return found(HONEST_WATCHED, watched, 0.0, unique=strict)
    if detection(watched) == threshold:
        return found(BOUNDARY, watched, 0.0, unique=False)
    cheating = check_rate(prize_usd=reward + planted, check_cost_usd=cost, fishermen=count)
    if detection(1.0) > threshold:
        # D(x) = tau, solved for the probability that someone checks, then for x.
        someone = (threshold - sampled) / ((1.0 - sampled) * won)
        rate = -math.expm1(math.log1p(-someone) / count)
        cheats = (cost / _part(rate, count) - planted) / reward if reward > 0 else math.inf
        if cheats <= 1.0:
            return found(MIXED, rate, cheats)
    elif detection(1.0) == threshold and cheating == 1.0:
        return found(BOUNDARY, 1.0, 1.0, unique=False)
    return found(ALWAYS_CHEAT, cheating, 1.0)
