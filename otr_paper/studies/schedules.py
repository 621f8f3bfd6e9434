"""All schedules of an adversary against one stake, solved exactly, and found by search.

Time runs in slots of one answer each. In each the operator leaves its answer alone or cheats by one of
several kinds. The verdict on a cheat is known ``pending`` slots later; a detected one then ends the
game, costs the loss once and the price of every answer that is not final: those that came after it,
and ``kept`` earlier ones where the window is longer than a verdict takes. Of the later ones the first
``late`` become final before the verdict, unless they are detected themselves, where the window is
shorter and nothing freezes the operator. An honest answer is not in the state: left alone is worth 0,
as if a job could be turned down at no cost, which favours the adversary.

The state is what was done in the last slots whose cheats can still be void. ``best_value`` is value
iteration over all strategies in it: deterred is where it is 0. ``searched_value`` knows nothing of the
answer and climbs from random strategies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from otr_core.economics import quantities as q
from otr_core.errors import ParameterError

Values: TypeAlias = NDArray[np.float64]
Policy: TypeAlias = NDArray[np.int64]
_MOST_STATES = 10_000
_TOLERANCE = 1e-12


@dataclass(frozen=True, kw_only=True)
class Schedules:
    """One stake and all that can be done with it.

    Attributes:
        gains_usd, detections: of each kind of cheat. price_usd, loss_usd: v and L.
        pending: R. late: F of them, final before the verdict. kept: answers before a caught one that
            are still void with it.
    """

    gains_usd: tuple[float, ...]
    detections: tuple[float, ...]
    price_usd: float
    loss_usd: float
    pending: int
    late: int = 0
    kept: int = 0

    def __post_init__(self) -> None:
        if len(self.gains_usd) != len(self.detections) or not self.gains_usd:
            raise ParameterError("detections", len(self.detections), f"one for each gain, {len(self.gains_usd)}")
        for gain, caught in zip(self.gains_usd, self.detections, strict=True):
            q.amount("gains_usd", gain)
            if q.probability("detections", caught) == 0:
                raise ParameterError("detections", caught, "above 0: else there is no end")
        q.amount("price_usd", self.price_usd)
        q.amount("loss_usd", self.loss_usd)
        if q.whole("late", self.late) > q.whole("pending", self.pending) or (self.late and q.whole("kept", self.kept)):
            raise ParameterError("late", self.late, "at most pending; and none where earlier ones are kept")
        if self.states > _MOST_STATES:
            raise ParameterError("pending + kept", self.pending + self.kept, f"at most {_MOST_STATES} states")

    @property
    def states(self) -> int:
        """How many states there are: what was done in each of the last slots."""
        return int((len(self.gains_usd) + 1) ** (self.pending + self.kept))

    def table(self) -> tuple[Values, Values, Policy]:
        """Per state and action: the expected pay, the chance that the game goes on, the next state."""
        kinds, slots = len(self.gains_usd) + 1, self.pending + self.kept
        gains, caught = np.array((0.0, *self.gains_usd)), np.array((0.0, *self.detections))
        done = np.stack(np.unravel_index(np.arange(self.states * kinds), (kinds,) * (slots + 1)))  # oldest first
        judged = done[self.kept]
        void: Values = (done[: self.kept] > 0).sum(0).astype(np.float64)
        for place, later in enumerate(done[self.kept + 1 :]):
            share = caught[later] if place < self.late else 1.0
            void += (later > 0) * share
        ends = caught[judged]
        pay = gains[done[-1]] - ends * (self.loss_usd + self.price_usd * (1.0 + void))
        following = np.arange(self.states * kinds) % self.states
        shape = (self.states, kinds)
        return pay.reshape(shape), (1.0 - ends).reshape(shape), following.reshape(shape)


def _idle(pay: Values, on: Values, after: Policy, slots: int) -> Values:
    """The value of never cheating again, in each state: all verdicts are in after ``slots`` slots."""
    value = np.zeros(len(pay))
    for _ in range(slots + 1):
        value = pay[:, 0] + on[:, 0] * value[after[:, 0]]
    return value


def best_value(game: Schedules) -> float:
    """What the best of all strategies earns over honesty, USD: 0 where honesty is a best reply.

    Value iteration from the strategy that never cheats again, which every round improves.
    """
    pay, on, after = game.table()
    value = _idle(pay, on, after, game.pending + game.kept)
    scale = game.price_usd + game.loss_usd + max(game.gains_usd)
    while True:
        better = (pay + on * value[after]).max(axis=1)
        if np.abs(better - value).max() <= _TOLERANCE * scale:
            return float(better[0])
        value = better


def _policy_values(pay: Values, on: Values, after: Policy, policy: Policy) -> Values:
    """What one strategy, an action for each state, is worth in each. Every state but the first holds a
    cheat that will be judged, so only who never cheats again plays on for ever, at 0."""
    rows = np.arange(len(policy))
    system = np.eye(len(policy))
    np.add.at(system, (rows, after[rows, policy]), -on[rows, policy])
    right = pay[rows, policy].copy()
    if policy[0] == 0:
        system[0], right[0] = np.eye(len(policy))[0], 0.0
    return np.asarray(np.linalg.solve(system, right), dtype=np.float64)


def searched_value(game: Schedules, draws: np.random.Generator) -> float:
    """The best that hill climbing finds from a random strategy: single actions are changed as long
    as the strategy is worth more, over all states together."""
    pay, on, after = game.table()
    policy = draws.integers(0, pay.shape[1], len(pay))
    values = _policy_values(pay, on, after, policy)
    changed = True
    while changed:
        changed = False
        for place in draws.permutation(len(policy)):
            for action in range(pay.shape[1]):
                tried = policy.copy()
                tried[place] = action
                found = _policy_values(pay, on, after, tried)
                if found.sum() > values.sum() + 1e-12 * np.abs(values).sum():
                    policy, values, changed = tried, found, True
    return float(values[0])


def draw_game(draws: np.random.Generator, *, most_pending: int, least_detection: float = 0.05) -> dict[str, Any]:
    """A random single kind of cheat: gains below and above the price, both far and near."""
    price = 10 ** draws.uniform(-3, 2)
    return {
        "gains_usd": (float(price * 10 ** draws.uniform(-1.5, 2)),),
        "detections": (float(10 ** draws.uniform(np.log10(least_detection), 0) * 0.95),),
        "price_usd": float(price),
        "pending": int(draws.integers(0, most_pending + 1)),
    }


def play_class(
    draws: np.random.Generator,
    *,
    detection: float,
    operators: int,
    attempts: int,
    answers_per_s: float,
    verdict_s: float,
    window_s: float,
    fuse: bool,
    freeze: bool,
) -> tuple[int, int]:
    """Operators of one broken class that cheat on every answer, by events in seconds: false answers
    that became final, and that were served.

    A challenge comes as late as the window allows and its verdict as late as it may, so that as much
    as possible is final before. With a fuse the first verdict ends all.
    """
    sent = []
    for name in range(operators):
        start, first = float(draws.random()) / answers_per_s, np.inf
        for number in range(attempts):
            now = start + number / answers_per_s
            if now >= first + verdict_s:
                break
            detected = bool(draws.random() < detection)
            first = min(first, now) if detected else first
            sent.append((now, name, detected))
    firsts = {name: np.inf for name in range(operators)}
    for now, name, detected in sent:
        if detected:
            firsts[name] = min(firsts[name], now)
    blown = min(firsts.values()) + verdict_s if fuse else np.inf
    final = served = 0
    for now, name, detected in sent:
        if now >= blown:
            continue
        served += 1
        ended = min(firsts[name] + verdict_s, blown)
        frozen = freeze and now > firsts[name]
        final += not detected and not frozen and (now + window_s <= ended or ended == np.inf)
    return final, served


def play_operator(
    draws: np.random.Generator,
    *,
    gain_usd: float,
    price_usd: float,
    loss_usd: float,
    detection: float,
    answers_per_s: float,
    verdict_s: float,
    window_s: float,
    freeze: bool,
) -> float:
    """Profit over honesty of one operator that cheats on every answer until its verdict, by events
    in seconds, as in ``play_class``."""
    times: list[tuple[float, bool]] = []
    first = np.inf
    while (now := len(times) / answers_per_s) < first + verdict_s:
        times.append((now, bool(draws.random() < detection)))
        first = min(first, now) if times[-1][1] else first
    profit = -loss_usd
    for now, detected in times:
        paid = not detected and not (freeze and now > first) and now + window_s <= first + verdict_s
        profit += gain_usd if paid else gain_usd - price_usd
    return profit
