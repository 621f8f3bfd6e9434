"""What an answer waits for after it is written: batch and block, the beacon's round, a dispute.
Times in s."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otr_core.errors import ParameterError

Times = NDArray[np.float64]


def next_tick(times: Times, period_s: float, phase: float) -> Times:
    """The first tick at or after each time; ticks every ``period_s`` from ``phase`` x period on (0:
    no waiting)."""
    if period_s < 0:
        raise ParameterError("period_s", period_s, "zero or more")
    if period_s == 0:
        return times.copy()
    shift = phase * period_s
    return np.ceil((times - shift) / period_s) * period_s + shift


def next_round(times: Times, period_s: float, phase: float) -> Times:
    """The first beacon round strictly after each time: a round already out could have been known
    before."""
    if period_s <= 0:
        raise ParameterError("beacon period_s", period_s, "above zero")
    shift = phase * period_s
    return (np.floor((times - shift) / period_s) + 1) * period_s + shift


def dispute_s(
    count: int, *, moves: int, move_s: float, block_s: float, clock_s: float, silent: float, rng: np.random.Generator
) -> Times:
    """How long each of ``count`` disputes lasts.

    The sides move in turn; a move takes an exponential time of mean ``move_s`` and a block. Each
    side has a clock of ``clock_s`` for all its moves and loses when it runs out, which ends the
    dispute. A share ``silent`` of the accused never answers: that dispute lasts one clock.
    """
    if moves < 1 or min(move_s, block_s) < 0 or not clock_s > 0:
        raise ParameterError("dispute", (moves, move_s, block_s, clock_s), "one move or more, times of zero or more")
    if not 0 <= silent <= 1:
        raise ParameterError("silent", silent, "a share in [0, 1]")
    # Play all disputes at once, move by move: (count,) seconds lasted, whether a clock ran out,
    # (count, 2) clocks used.
    each = rng.exponential(move_s, (count, moves)) + block_s
    lasted = np.zeros(count)
    over = np.zeros(count, dtype=bool)
    clocks = np.zeros((count, 2))
    for move in range(moves):
        side = move % 2
        left = clock_s - clocks[:, side]
        used = np.minimum(each[:, move], left)
        lasted += np.where(over, 0.0, used)
        clocks[:, side] += np.where(over, 0.0, used)
        over |= each[:, move] >= left
    # Where the accused stays silent, the challenger has made its first move (a block) and waits for
    # one whole clock.
    quiet = rng.random(count) < silent
    return np.where(quiet, clock_s + block_s, lasted)
