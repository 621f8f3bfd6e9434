"""Many cheats on one stake: bursts before the first catch, batch voiding, value in flight, yearly harm.

``D`` is the detection probability of one cheat, ``L`` what a catch costs besides the price (``sigma S + k``), ``q = 1 -
D``. Detection takes a while, so M answers are out before the first verdict.
"""

from __future__ import annotations

import numpy as np

from otr_core.economics import quantities as q
from otr_core.economics.detection import undetected_cheats
from otr_core.economics.quantities import Array, Quantity


def _caught(number: Array, detection: Array) -> Array:
    """``1 - (1 - D)^M``, exact for tiny D."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = -np.expm1(number * np.log1p(-detection))
    return np.where(number == 0, 0.0, share)


def in_flight(*, queries_per_s: Quantity, delay_s: Quantity) -> Quantity:
    """Answers served before the first verdict, ``lambda Delta``: the M of this module, not rounded."""
    return q.shaped(q.amount("queries_per_s", queries_per_s) * q.amount("delay_s", delay_s))


def burst_surplus(
    *, cheats: Quantity, gain_usd: Quantity, price_usd: Quantity, loss_usd: Quantity, detection: Quantity, void: bool
) -> Quantity:
    """What honesty earns over a burst of ``cheats``, USD; the burst is deterred where this is positive.

    Without voiding only caught answers are unpaid: ``(1 - q^M) L + M D v - M g``. With ``void`` any catch voids every
    unfinalised payment of the batch: ``(1 - q^M)(L + M v) - M g``.

    Args:
        cheats: M, whole number.
        gain_usd: g of each; price_usd: v of each; loss_usd: L, once.
        detection: D of each, independent.
    """
    number, caught = q.count("cheats", cheats), q.probability("detection", detection)
    gained, price, loss = q.gain("gain_usd", gain_usd), q.amount("price_usd", price_usd), q.amount("loss_usd", loss_usd)
    any_catch = _caught(number, caught)
    unpaid = any_catch * number * price if void else number * caught * price
    with np.errstate(invalid="ignore"):
        taken = np.where(number == 0, 0.0, number * gained)
    return q.shaped(any_catch * loss + unpaid - taken)


def burst_loss(
    *, cheats: Quantity, gain_usd: Quantity, price_usd: Quantity, detection: Quantity, void: bool
) -> Quantity:
    """Least loss L at which a burst of ``cheats`` (at least 1) pays no more than honesty, USD; infinity if none."""
    number, caught = q.count("cheats", cheats, least=1), q.probability("detection", detection)
    gained, price = q.gain("gain_usd", gain_usd), q.amount("price_usd", price_usd)
    any_catch = _caught(number, caught)
    unpaid = any_catch * number * price if void else number * caught * price
    with np.errstate(divide="ignore", invalid="ignore"):
        loss = (number * gained - unpaid) / any_catch
    return q.shaped(np.where(number * gained <= unpaid, 0.0, loss))


def voiding_suffices(*, gain_usd: Quantity, price_usd: Quantity) -> Quantity:
    """True where batch voiding makes the stake independent of the number of cheats: ``v >= g``.

    Lemma: with voiding, if ``v >= g`` and a single cheat is deterred, so is a burst of any size. At the boundary of M =
    1, where ``L = g/D - v``, the claim is ``(1-q^M)(g/D + (M-1) v) >= M g``; with ``v >= g`` it follows from
    ``1 + q + ... + q^(M-1) >= 1 + (M-1) q^M``, true term by term.
    """
    enough = q.amount("price_usd", price_usd) >= q.gain("gain_usd", gain_usd)
    return bool(enough) if np.ndim(enough) == 0 else enough


def most_in_flight(*, gain_usd: float, price_usd: float, loss_usd: float, detection: float) -> float:
    """Largest burst that voiding still deters: the whole M up to which ``burst_surplus`` never turns negative.

    Infinity where ``v >= g`` and a single cheat is deterred; 0 where a single cheat already pays. For ``g > v`` it is
    close to ``L / (g - v)`` once catches are sure: unfinalised value at risk must not exceed what can be slashed.
    """
    gained, price = float(q.gain("gain_usd", gain_usd)), float(q.amount("price_usd", price_usd))
    loss, caught = float(q.amount("loss_usd", loss_usd)), float(q.probability("detection", detection))

    def fits(number: float) -> bool:
        surplus = burst_surplus(
            cheats=number, gain_usd=gained, price_usd=price, loss_usd=loss, detection=caught, void=True
        )
        return bool(surplus >= 0)

    if not fits(1.0):
        return 0.0
    if price >= gained:
        return np.inf
    # The surplus is at most L + M (v - g): beyond this M nothing fits. It is unimodal in M after a deterred first
    # cheat, so the last M that fits is found by halving.
    low, high = 1.0, np.floor(loss / (gained - price)) + 1.0
    while high - low > 1.0:
        middle = np.floor(0.5 * (low + high))
        low, high = (middle, high) if fits(middle) else (low, middle)
    return float(low)


def expected_harm(
    *, breaks_per_year: Quantity, attempts: Quantity, detection: Quantity, identities: Quantity, harm_usd: Quantity
) -> Quantity:
    """Yearly harm of undeterred operators, USD: breaks x identities x undetected cheats of each x harm of a cheat.

    Args:
        attempts: queries each identity serves until the patch; infinity for a permanent break.
        identities: how many staked identities one break serves (clones of one extracted key count once each).
        harm_usd: harm of one undetected wrong answer.
    """
    each = np.asarray(undetected_cheats(detection=detection, attempts=attempts))
    total = q.amount("breaks_per_year", breaks_per_year) * q.count("identities", identities)
    with np.errstate(invalid="ignore"):
        harm = total * each * q.amount("harm_usd", harm_usd)
    return q.shaped(np.where((total == 0) | (np.asarray(harm_usd) == 0), 0.0, harm))
