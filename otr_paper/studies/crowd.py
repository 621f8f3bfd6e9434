"""Many challengers at once: does the honest verdict wait for them?

All games about a batch run at the same time, each on its own clocks, so that the last verdict is
late by one game's length, whatever the number of challengers, as long as the operator can send its
moves: with one transaction every ``slot_s`` seconds, N games wait for one another's slots, and the
operator's clock must hold that wait.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from otr_core.dispute.court import Court
from otr_core.dispute.play import ChallengerPlayer, OperatorPlayer
from otr_core.dispute.players import Move
from otr_core.dispute.records import ChallengeStatus
from otr_core.dispute.state import Turn


@dataclass(frozen=True)
class Crowd:
    """How a crowd of games went.

    Attributes:
        last_verdict_s: from the start to the last verdict. games: played. moves: of the operator.
        least_clock_s: the least the operator had left on any clock after a move. operator_lost: 1
            if it was convicted.
    """

    games: int
    last_verdict_s: int
    moves: int
    least_clock_s: int
    operator_lost: int


def play_crowd(
    court: Court,
    numbers: Sequence[int],
    operator: OperatorPlayer,
    challenger: Callable[[], ChallengerPlayer],
    *,
    now: int,
    slot_s: int,
    stall: bool,
) -> Crowd:
    """Play the open challenges ``numbers`` at once against one operator.

    Args:
        challenger: makes the player of each challenge. slot_s: seconds between two transactions of
            the operator.
        stall: challengers move at the last second of their clocks, else after a second.
    """
    start, sent, least, lost, last = now, now, court.terms.clock_s, 0, now
    players = {number: challenger() for number in numbers}
    shown: dict[int, Move] = dict.fromkeys(numbers, ())
    waiting = deque(numbers)  # games in which the operator is to move
    moving: list[tuple[int, int]] = []  # (time, game) of challengers' moves to come
    operator_moves = 0
    while waiting or moving:
        slot = max(sent + slot_s, now) if waiting else None
        if slot is not None and (not moving or slot <= moving[0][0]):
            now, number = slot, waiting.popleft()
            sent = now
            challenge = court.challenges[number - 1]
            game = challenge.game
            assert game is not None
            if now - challenge.last_time > challenge.left_s[Turn.OPERATOR]:
                court = court.timeout(now, number)
            else:
                move = operator.move(game)
                name = challenge.operator
                court = court.move(now, name, number, *move)
                shown[number], operator_moves = move, operator_moves + 1
                least = min(least, court.challenges[number - 1].left_s[Turn.OPERATOR])
        else:
            now, number = heapq.heappop(moving)
            challenge = court.challenges[number - 1]
            game = challenge.game
            assert game is not None
            court = court.move(now, challenge.challenger, number, *players[number].move(game, shown[number]))
        challenge = court.challenges[number - 1]
        if challenge.status != ChallengeStatus.OPEN:
            last, lost = now, lost + (challenge.status == ChallengeStatus.WON)
            if lost:  # convicted: what the other games come to changes a reward alone
                break
            continue
        assert challenge.game is not None
        if challenge.game.turn == Turn.OPERATOR:
            waiting.append(number)
        else:
            heapq.heappush(moving, (now + (challenge.left_s[Turn.CHALLENGER] if stall else 1), number))
    return Crowd(len(numbers), last - start, operator_moves, least, lost)
