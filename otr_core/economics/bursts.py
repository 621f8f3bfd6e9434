"""Many cheats on one stake: bursts before the first catch, batch voiding, value in flight.

``D`` is the detection probability of one cheat, ``L`` what a catch costs besides the price
(``sigma S + k``), ``q = 1 - D``. Detection takes a while, so M answers are out before the first
verdict.

Lemma: with voiding, if the price v is at least the gain g and a single cheat is deterred, so is a
burst of any size: the stake need not grow with the number of cheats. At the boundary of M = 1,
where ``L = g/D - v``, the claim is ``(1-q^M)(g/D + (M-1) v) >= M g``; with ``v >= g`` it follows
from ``1 + q + ... + q^(M-1) >= 1 + (M-1) q^M``, true term by term.
"""

from __future__ import annotations

import numpy as np

from otr_core.economics import quantities as q
from otr_core.economics.detection import detection_after
from otr_core.economics.quantities import Quantity


def burst_surplus(
    *, cheats: Quantity, gain_usd: Quantity, price_usd: Quantity, loss_usd: Quantity, detection: Quantity, void: bool
) -> Quantity:
    """What honesty earns over a burst of ``cheats``, USD; above 0 the burst is deterred.

    Without voiding only caught answers are unpaid: ``(1 - q^M) L + M D v - M g``. With ``void`` any
    catch voids every unfinalised payment of the batch: ``(1 - q^M)(L + M v) - M g``.

    Args:
        cheats: M, whole number.
        gain_usd: g of each; price_usd: v of each; loss_usd: L, once.
        detection: D of each, independent.
    """
    number, caught = q.count("cheats", cheats), q.probability("detection", detection)
    gained, price = q.gain("gain_usd", gain_usd), q.amount("price_usd", price_usd)
    any_catch = detection_after(cheats=number, rho=caught)
    unpaid = any_catch * number * price if void else number * caught * price
    with np.errstate(invalid="ignore"):
        taken = np.where(number == 0, 0.0, number * gained)
    return q.shaped(any_catch * q.amount("loss_usd", loss_usd) + unpaid - taken)


def burst_loss(
    *, cheats: Quantity, gain_usd: Quantity, price_usd: Quantity, detection: Quantity, void: bool
) -> Quantity:
    """Least loss L at which a burst of ``cheats`` (at least 1) pays no more than honesty, USD.

    Infinity where no loss is enough: nothing is ever caught.
    """
    number, caught = q.count("cheats", cheats, least=1), q.probability("detection", detection)
    gained, price = q.gain("gain_usd", gain_usd), q.amount("price_usd", price_usd)
    any_catch = np.asarray(detection_after(cheats=number, rho=caught))
    unpaid = any_catch * number * price if void else number * caught * price
    with np.errstate(divide="ignore", invalid="ignore"):
        loss = (number * gained - unpaid) / any_catch
    return q.shaped(np.where(number * gained <= unpaid, 0.0, loss))


def most_in_flight(*, gain_usd: float, price_usd: float, loss_usd: float, detection: float) -> float:
    """Largest burst that voiding deters: up to this M ``burst_surplus`` never turns negative.

    Infinity where ``v >= g`` and a single cheat is deterred (the lemma above); 0 where a single
    cheat already pays. For ``g > v`` it is close to ``L / (g - v)`` once catches are sure:
    unfinalised value at risk must not exceed what can be slashed.
    """
    terms = {"gain_usd": gain_usd, "price_usd": price_usd, "loss_usd": loss_usd, "detection": detection}

    def fits(number: float) -> bool:
        return bool(burst_surplus(cheats=number, **terms, void=True) >= 0)

    if not fits(1.0):
        return 0.0
    if price_usd >= gain_usd:
        return np.inf
    # The surplus is at most L + M (v - g): beyond this M nothing fits. It is unimodal in M after a
    # deterred first cheat, so the last M that fits is found by halving.
    low, high = 1.0, np.floor(loss_usd / (gain_usd - price_usd)) + 1.0
    while high - low > 1.0:
        middle = np.floor(0.5 * (low + high))
        low, high = (middle, high) if fits(middle) else (low, middle)
    return float(low)
