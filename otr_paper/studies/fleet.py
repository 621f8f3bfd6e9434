"""Fleets under a broken class of platforms: owners with clones, a court that gets through so many cases an
epoch, stakes that leave, lose value or stand for several networks at once.

Everything here is simulated or exact. In epoch one a class breaks; of the fleet's owners those on it cheat
on every answer until they are convicted, they leave, or the patch comes. Each detected cheat is a case;
the court (or the pool of provers whose proofs decide) takes at most ``capacity`` cases an epoch, in the order
they came, and a verdict takes ``verdict_epochs`` on top. A conviction voids all of an owner that is not
final: what it served from its first detected cheat on.

* Clones: ``clones`` identities of one owner share a machine. With a common slash the first conviction is
  that of all; without, each is found by itself.
* Unbonding: owners ask for their stakes in epoch one and leave with them after ``unbonding_epochs``, unless
  a case is open against them (``freeze``) or they are convicted.
* Reuse: the stake also backs ``reuse - 1`` other networks, attacked at once; a slash is shared by all.
* Token: once the break is known the stake is worth ``price_left`` of what it was.
* Insurance: ``insured`` of what is slashed goes to the users harmed.

``expected_counts`` is exact: the number of cases is a Markov chain of those not yet found and those in court.
``play_fleet`` draws every owner by itself, answer by answer, and shares no code with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from otr_core.economics import quantities as q
from otr_core.economics.detection import undetected_cheats
from otr_core.errors import ParameterError

ERRORS = 2.576
"""Standard errors within which a played mean agrees with the exact one."""
INSIDE = math.erf(ERRORS / math.sqrt(2))
"""The share of a normal law that lies within them."""
NAMES = ("final", "served", "slashed_usd", "profit_usd", "uninsured_usd")
"""What is counted of one network: false answers that become final and that are served, stake slashed, what
the owners earn over honesty, and harm of final answers that no insurance covers."""
Column: TypeAlias = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """One fleet; amounts in USD, times in epochs.

    Attributes:
        owners: on the broken class; clones: identities of each; answers: of an identity in an epoch.
        detection: D of one cheat. gain_usd, price_usd, harm_usd: g, v and h of one false answer.
        stake_usd: of an identity; slash_fraction, reward_share: sigma and alpha.
        patch_epochs: the break is open so long; the rest as in the module's text.
    """

    owners: int
    clones: int
    answers: int
    detection: float
    gain_usd: float
    price_usd: float
    harm_usd: float
    stake_usd: float
    slash_fraction: float
    reward_share: float
    capacity: int
    verdict_epochs: int
    patch_epochs: int
    unbonding_epochs: int
    reuse: int
    price_left: float
    insured: float
    common: bool
    freeze: bool

    def __post_init__(self) -> None:
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if name in ("owners", "clones", "answers", "capacity", "patch_epochs", "unbonding_epochs", "reuse"):
                if q.whole(name, value, least=1) > 10_000:
                    raise ParameterError(name, value, "a whole number, 1 to 10000")
            elif name == "verdict_epochs":
                q.whole(name, value)
            elif name.endswith("_usd"):
                q.amount(name, value)
            elif name not in ("common", "freeze"):
                q.probability(name, value)

    @property
    def parties(self) -> int:
        """Who is convicted by itself: owners with a common slash, else identities."""
        return self.owners if self.common else self.owners * self.clones

    @property
    def each(self) -> int:
        """Answers of one of them in an epoch."""
        return self.answers * self.clones if self.common else self.answers

    @property
    def slash_usd(self) -> float:
        """What a conviction takes for this network."""
        stake = self.stake_usd * (self.clones if self.common else 1)
        return self.slash_fraction * stake * self.price_left / self.reuse


def _money(fleet: Fleet, final: Column, served: Column, slashes: Column) -> Column:
    slashed = slashes * fleet.slash_usd
    earned = served * fleet.gain_usd - (served - final) * fleet.price_usd - slashed * (1.0 - fleet.reward_share)
    return np.array([final, served, slashed, earned, final * fleet.harm_usd - fleet.insured * slashed])


def _binomial(number: int, chance: float) -> Column:
    """Chances of 0 to ``number`` successes, by adding one trial after another."""
    row = np.ones(1)
    for _ in range(number):
        row = np.append(row * (1.0 - chance), 0.0) + np.append(0.0, row * chance)
    return row


def cases_in_court(fleet: Fleet, epochs: int) -> tuple[Column, Column]:
    """Expected parties found by the end of each epoch, and those whose case the court has taken by then
    (entry 0: none); nobody is found after ``min(patch, unbonding)`` epochs."""
    chance = -np.expm1(fleet.each * np.log1p(-fleet.detection)) if fleet.detection < 1 else 1.0
    steps = [_binomial(number, chance) for number in range(fleet.parties + 1)]
    last = min(fleet.patch_epochs, fleet.unbonding_epochs)
    state = np.zeros((fleet.parties + 1, fleet.parties + 1))  # not yet found, in court
    state[fleet.parties, 0] = 1.0
    found, taken = [0.0], [0.0]
    count = np.arange(fleet.parties + 1)
    for epoch in range(1, epochs + 1):
        after = np.zeros_like(state)
        for free, waiting in zip(*np.nonzero(state), strict=True):
            chances = steps[free] if epoch <= last else np.ones(1)
            for new, share in enumerate(chances):
                in_court = max(waiting + new - fleet.capacity, 0)
                after[free - new, in_court] += state[free, waiting] * share
        state = after
        found.append(fleet.parties - float(state.sum(1) @ count))
        taken.append(found[-1] - float(state.sum(0) @ count))
    return np.array(found), np.array(taken)


def expected_counts(fleet: Fleet) -> dict[str, float]:
    """Exact means of ``NAMES``."""
    last = min(fleet.patch_epochs, fleet.unbonding_epochs)
    found, taken = cases_in_court(fleet, max(fleet.patch_epochs, fleet.unbonding_epochs))

    def convicted(epoch: int) -> float:
        return float(taken[max(epoch - fleet.verdict_epochs, 0)])

    final = fleet.parties * undetected_cheats(detection=fleet.detection, attempts=fleet.each * last)
    serving = [fleet.parties - convicted(epoch - 1) for epoch in range(1, last + 1)]
    if fleet.freeze:  # who has a case cannot leave, and answers on until its verdict
        serving += [float(found[last]) - convicted(epoch - 1) for epoch in range(last + 1, fleet.patch_epochs + 1)]
    served = fleet.each * float(np.sum(serving))
    slashes = float(found[last]) if fleet.freeze else convicted(fleet.unbonding_epochs)
    return dict(
        zip(NAMES, map(float, _money(fleet, np.array(final), np.array(served), np.array(slashes))), strict=True)
    )


def play_fleet(fleet: Fleet, *, runs: int, seed: int) -> Column:
    """``NAMES`` of ``runs`` plays, one column each: every party draws its answers, epoch by epoch."""
    draws, shape = np.random.default_rng(seed), (runs, fleet.parties)
    final, served = np.zeros(shape), np.zeros(shape)
    serving, found = np.ones(shape, bool), np.zeros(shape, bool)
    ticket, verdict = np.full(shape, np.inf), np.full(shape, np.inf)  # place in the queue; epoch of conviction
    horizon = max(fleet.patch_epochs, fleet.unbonding_epochs)
    filed, taken = np.zeros(runs), np.zeros(runs)
    for epoch in range(1, horizon + 1):
        if epoch <= fleet.patch_epochs:
            first = draws.geometric(fleet.detection, shape) if fleet.detection > 0 else np.full(shape, fleet.each + 1)
            missed = np.minimum(first - 1, fleet.each)
            served += serving * fleet.each
            clean = serving & ~found
            final += clean * missed
            new = clean & (first <= fleet.each)
            order = np.argsort(np.where(new, first, fleet.each + 1) + draws.random(shape), axis=1)
            place = np.argsort(order, axis=1)
            ticket = np.where(new, filed[:, None] + place, ticket)
            filed += new.sum(1)
            found |= new
        taken = np.minimum(taken + fleet.capacity, filed)
        heard = (ticket < taken[:, None]) & np.isinf(verdict)
        verdict[heard] = epoch + fleet.verdict_epochs
        serving &= verdict > epoch
        if epoch == fleet.unbonding_epochs:
            serving &= found & fleet.freeze
    kept = found if fleet.freeze else verdict <= fleet.unbonding_epochs
    return _money(fleet, final.sum(1), served.sum(1), kept.sum(1).astype(float))


def random_fleet(seed: int) -> Fleet:
    """A fleet drawn from wide ranges, the same for the same seed."""
    draws = np.random.default_rng(seed)

    def whole(low: int, high: int) -> int:
        return int(draws.integers(low, high + 1))

    return Fleet(
        owners=whole(1, 6),
        clones=whole(1, 3),
        answers=whole(1, 30),
        detection=float(10 ** draws.uniform(-2.5, -0.2)),
        gain_usd=float(10 ** draws.uniform(-3, 2)),
        price_usd=float(10 ** draws.uniform(-3, 1)),
        harm_usd=float(10 ** draws.uniform(-3, 2)),
        stake_usd=float(10 ** draws.uniform(0, 4)),
        slash_fraction=float(draws.uniform(0.05, 1)),
        reward_share=float(draws.uniform(0, 0.9)),
        capacity=whole(1, 5),
        verdict_epochs=whole(0, 6),
        patch_epochs=whole(1, 25),
        unbonding_epochs=whole(1, 30),
        reuse=whole(1, 4),
        price_left=float(draws.uniform(0.1, 1)),
        insured=float(draws.uniform(0, 1)),
        common=bool(draws.integers(0, 2)),
        freeze=bool(draws.integers(0, 2)),
    )


def resolution(fleet: Fleet, runs: int) -> dict[str, float]:
    """What one party's conviction, an epoch sooner or not at all, changes in the mean of ``runs`` plays: no
    smaller error can be read from them, since what never came up in any has no spread."""
    each = float(fleet.each)
    earned = each * (fleet.gain_usd + fleet.price_usd) + fleet.slash_usd
    units = (each, each, fleet.slash_usd, earned, each * fleet.harm_usd + fleet.insured * fleet.slash_usd)
    return {name: unit / runs for name, unit in zip(NAMES, units, strict=True)}


def fleet_point(config: dict[str, Any], seed: int) -> dict[str, Any]:
    """One random fleet as a point of a sweep: of each count its exact mean, the mean of ``config["runs"]``
    plays and its error (standard error, or ``resolution``)."""
    fleet, runs = random_fleet(seed), int(config["runs"])
    played, exact, least = play_fleet(fleet, runs=runs, seed=seed + 1), expected_counts(fleet), resolution(fleet, runs)
    errors = played.std(axis=1, ddof=1) / np.sqrt(runs)
    return {
        name: {"exact": exact[name], "played": float(mean), "error": float(max(error, least[name]))}
        for name, mean, error in zip(NAMES, played.mean(axis=1), errors, strict=True)
    }


def agreement(points: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    """Of the results of ``fleet_point``: how many, the share of the counts within ``ERRORS``, and the farthest in
    errors; by name."""
    away = {
        name: np.array([abs(point[name]["played"] - point[name]["exact"]) / point[name]["error"] for point in points])
        for name in NAMES
    }
    return {
        "fleets": len(points),
        "inside": {name: float((row <= ERRORS).mean()) for name, row in away.items()},
        "farthest": {name: float(row.max()) for name, row in away.items()},
    }
