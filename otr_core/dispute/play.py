"""Play a dispute to its end: two players, the court between them, and a log of every move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from otr_core import merkle
from otr_core.dispute.court import Court
from otr_core.dispute.judge import Opening
from otr_core.dispute.players import Move
from otr_core.dispute.records import ChallengeStatus, Terms
from otr_core.dispute.state import MOST_INTERVALS, Game
from otr_core.errors import MoveError
from otr_core.lane.dims import Dims
from otr_core.lane.element import LAYER, TOKEN, program

SIDES = ("operator", "challenger")
"""Names of the sides, by ``Turn``."""


class OperatorPlayer(Protocol):
    """Plays the operator."""

    def move(self, game: Game) -> Move:
        """The next move in ``game``; () is silence."""


class ChallengerPlayer(Protocol):
    """Plays the challenger."""

    def move(self, game: Game, shown: Move) -> Move:
        """The answer to the operator's last move ``shown``; () is silence."""


@dataclass(frozen=True)
class Step:
    """One move of a game.

    Attributes:
        now: Unix seconds. who: "operator" or "challenger". move: its name and arguments, or
            ("timeout",).
        before: where the game stood.
        payload_bytes: of the hashes and values that the move carries, without numbers and encoding.
        refused: reason for which the move that was tried before a timeout was not allowed.
    """

    now: int
    who: str
    move: Move
    before: Game
    payload_bytes: int
    refused: str = ""


Observer = Callable[[Step, Court], None]
"""Called after every move with the court as it is then, as for a second court beside the first."""


def play(
    court: Court,
    number: int,
    operator: OperatorPlayer,
    challenger: ChallengerPlayer,
    *,
    now: int,
    pace_s: Callable[[str], int] = lambda who: 1,
    observe: Observer = lambda step, court: None,
) -> tuple[Court, list[Step]]:
    """Play challenge ``number`` from where it stands to its verdict.

    A side that is silent, slower than its clock, or whose move is refused (such as a proof with
    weights that are not the registered ones) is timed out as soon as its clock allows.

    Args:
        now: Unix seconds of the last event.
        pace_s: seconds that a side ("operator", "challenger") takes for a move, at least 1.
    """
    log: list[Step] = []
    shown: Move = ()
    while (challenge := court.challenges[number - 1]).status == ChallengeStatus.OPEN:
        game = challenge.game
        assert game is not None
        who, left = SIDES[game.turn], challenge.left_s[game.turn]
        move = operator.move(game) if who == "operator" else challenger.move(game, shown)
        then, refused, moved = now + pace_s(who), "", None
        if move and then - challenge.last_time <= left:
            try:
                moved = court.move(then, court.player(number, game.turn), number, *move)
            except MoveError as error:
                refused = error.reason
        if moved is not None:
            now, court = then, moved
        else:
            now = max(now, challenge.last_time + left) + 1
            court = court.timeout(now, number)
            move = ("timeout",)
        log.append(Step(now, who, move, game, _payload(move), refused))
        observe(log[-1], court)
        shown = move if who == "operator" else shown
    return court, log


def _payload(value: Any) -> int:
    """Bytes of all hashes and values in a move, however deep they lie in it."""
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, Opening):
        return _payload((value.data, value.proof))
    return sum(_payload(each) for each in value) if isinstance(value, (tuple, list)) else 0


def most_moves(d: Dims, positions: int, arity_bits: int) -> int:
    """Most moves of a game about an answer of ``positions`` fed tokens, both sides' counted.

    Of a round the operator makes one move, the challenger the other. From the top of the table:
    seed and what is disputed; down a tree of states or tokens; a layer's program, and if it is the
    token that is wrong, the program of its choice; down the tiles of a result, or the pieces of the
    trace; a tile, and the value in it; down the accumulators; the step.

    Args:
        arity_bits: as in ``Terms``.
    """
    trace = merkle.rounds(max(positions * d.layers, positions + 1), arity_bits)
    programs = program(d, LAYER, positions - 1, 0), program(d, TOKEN, 0, 0), program(d, TOKEN, 0, 1)
    operators = [operator for each in programs for operator in each]
    tiles = max(merkle.rounds(d.tiles(operator.length), arity_bits) for operator in operators)
    steps = max(operator.steps for operator in operators) + 1
    lists = 0
    while steps > 1:
        steps, lists = -(-steps // MOST_INTERVALS), lists + 1
    return 2 * (1 + trace + 2 + max(tiles, merkle.rounds(d.pieces, arity_bits)) + 1 + lists) + 1


def most_seconds(terms: Terms, moves: int) -> int:
    """Most seconds from a game's opening to its verdict: both clocks, which grow with every move."""
    return 2 * terms.clock_s + moves * terms.increment_s
