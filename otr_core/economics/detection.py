"""How likely a cheat is caught: per answer, per cheat type, and over many cheats.

All formulas are for an operator who holds a working break of the TEE and so has passed the
attestation gate. How rare such breaks are does not enter: that others have none does not deter the
one who does.
"""

from __future__ import annotations

import numpy as np

from otr_core.economics import quantities as q
from otr_core.economics.quantities import Quantity
from otr_core.errors import ParameterError


def detection_probability(*, rho: Quantity, d: Quantity, phi: Quantity, w: Quantity) -> Quantity:
    """Probability D that one cheat is caught: ``1 - (1 - rho d)(1 - phi w)``.

    Args:
        rho: committed spot-check rate, [0, 1], drawn after the answer is committed.
        d: probability that a sampled cheat is caught (see ``coverage``), [0, 1].
        phi: probability that at least one fisherman checks the answer, [0, 1].
        w: probability that a checked cheat is also convicted, [0, 1].

    Assumes that sampling and checking are independent of each other and of the cheat.

    Raises:
        ParameterError: an argument outside its range.
    """
    sampled = q.probability("rho", rho) * q.probability("d", d)
    convicted = q.probability("phi", phi) * q.probability("w", w)
    # The product form of the docstring loses precision where both are tiny; this form does not.
    return q.shaped(sampled + convicted - sampled * convicted)


def coverage(*, units: Quantity, deviating: Quantity, opened: Quantity) -> Quantity:
    """Probability that a proof over ``opened`` units hits one of the ``deviating`` units.

    ``1 - C(units - deviating, opened) / C(units, opened)``: drawing without replacement. A
    whole-model downgrade changes every unit and is hit by a single one; a local edit changes few
    and is nearly never hit. Multiplied by the proof's soundness this is the ``d`` of
    ``detection_probability``.

    Args:
        units: provable units of the answer (token, layer, matrix, row block), at least 1.
        deviating: how many of them the cheat changes, at most ``units``.
        opened: how many of them one spot check proves, at most ``units``.

    Raises:
        ParameterError: not whole numbers, or more than ``units``.
    """
    total = q.count("units", units, least=1)
    changed, proved = q.count("deviating", deviating), q.count("opened", opened)
    for field, part in (("deviating", changed), ("opened", proved)):
        if np.any(part > total):
            raise ParameterError(field, float(np.max(part)), f"at most units = {float(np.min(total)):.0f}")
    return q.shaped(_coverage(total, changed, proved))


@np.vectorize
def _coverage(total: float, changed: float, proved: float) -> float:
    few, many = sorted((int(changed), int(proved)))
    if few + many > total:
        return 1.0
    # C(N-m, u)/C(N, u) is symmetric in m and u, so the shorter product serves both.
    steps = np.arange(few, dtype=np.float64)
    return float(-np.expm1(np.log1p(-many / (total - steps)).sum()))


def detection_after(*, cheats: Quantity, rho: Quantity) -> Quantity:
    """Probability that one of ``cheats`` or more is caught: ``1 - (1 - rho)^cheats``.

    Args:
        cheats: how many, whole number.
        rho: detection probability of each one, [0, 1]; the bare spot-check rate when a sampled
            cheat is always caught.
    """
    number, rate = q.count("cheats", cheats), q.probability("rho", rho)
    with np.errstate(divide="ignore", invalid="ignore"):
        caught = -np.expm1(number * np.log1p(-rate))
    return q.shaped(np.where(number == 0, 0.0, caught))


def cheats_for_detection(*, probability: Quantity, rho: Quantity) -> Quantity:
    """Least whole number of cheats after which detection has at least ``probability``.

    ``ceil(ln(1 - probability) / ln(1 - rho))``; 0 for probability 0, infinity where no number
    suffices.

    Args:
        probability: wanted chance of at least one catch, [0, 1].
        rho: detection probability of each cheat, [0, 1].
    """
    wanted, rate = np.broadcast_arrays(q.probability("probability", probability), q.probability("rho", rho))
    with np.errstate(divide="ignore", invalid="ignore"):
        number = np.ceil(np.log1p(-wanted) / np.log1p(-rate))
    number = np.where(rate == 1.0, 1.0, np.where(rate == 0.0, np.inf, number))
    number = np.where(wanted == 0.0, 0.0, number)
    # The quotient of two logarithms can round across a whole number: settle it on the formula being
    # inverted.
    finite = np.isfinite(number) & (number >= 1)
    below = np.where(finite, number - 1, 0.0)
    enough = finite & (detection_after(cheats=below, rho=rate) >= wanted)
    number = np.where(enough, below, number)
    here = np.where(finite, number, 0.0)
    short = finite & (detection_after(cheats=here, rho=rate) < wanted)
    return q.shaped(np.where(short, number + 1, number))


def _attempts(attempts: Quantity) -> q.Array:
    """Whole numbers of attempts, or infinity for no end."""
    number = np.asarray(attempts, dtype=np.float64)
    endless = np.isposinf(number)
    return np.where(endless, np.inf, q.count("attempts", np.where(endless, 0.0, number)))


def undetected_cheats(*, detection: Quantity, attempts: Quantity = np.inf) -> Quantity:
    """Expected undetected cheats of an operator who cheats until caught, or ``attempts`` times.

    ``(1 - D)(1 - (1 - D)^N) / D``: at most ``(1 - D)/D``, and never above N.

    Args:
        detection: D per cheat, [0, 1].
        attempts: N, for example the answers served before the break is patched; infinity for no
            end.
    """
    caught, number = q.probability("detection", detection), _attempts(attempts)
    miss = 1.0 - caught
    with np.errstate(divide="ignore", invalid="ignore"):
        ended = -np.expm1(number * np.log1p(-caught))
        expected = miss * np.where(number == 0, 0.0, ended) / caught
    return q.shaped(np.where(caught == 0.0, number, expected))


def served_before_verdict(*, detection: Quantity, pending: Quantity, attempts: Quantity = np.inf) -> Quantity:
    """Expected false answers that an operator serves who cheats on each until its verdict, or
    ``attempts`` times: those before the first caught one, that one, and what it serves meanwhile.

    ``R + (1 - (1 - D)^(N - R)) / D``, at most N. Whoever acts on provisional answers is hit by all
    of them; ``undetected_cheats`` counts those that also become final.

    Args:
        detection: D per cheat, [0, 1].
        pending: R, answers of the operator between a caught cheat and its verdict.
        attempts: N, whole, or infinity for no end.
    """
    others, number = q.count("pending", pending), _attempts(attempts)
    before = np.maximum(number - others, 0.0)
    first = undetected_cheats(detection=detection, attempts=before) + detection_after(
        cheats=np.where(np.isposinf(before), 2.0**53, before), rho=detection
    )
    return q.shaped(np.minimum(others + first, number))
