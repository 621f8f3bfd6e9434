"""Play a dispute to its end: two players, the court between them, and a log of every move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from otr_core.dispute.court import Court, challenge_hash, receipt_leaf
from otr_core.dispute.game import Game, Turn
from otr_core.dispute.players import Move
from otr_core.dispute.records import ChallengeStatus
from otr_core.errors import MoveError
from otr_core.poea.receipt import Receipt


class OperatorPlayer(Protocol):
    """Decides the operator's move; () is silence."""

    def move(self, game: Game) -> Move: ...


class ChallengerPlayer(Protocol):
    """Decides the challenger's move, knowing the operator's last one."""

    def move(self, game: Game, shown: Move) -> Move: ...


@dataclass(frozen=True)
class Step:
    """One move of a game: when, by whom ("operator" or "challenger"), what, where the game stood, and its bytes.

    Attributes:
        payload_bytes: of the hashes and values the move carries, numbers and encoding apart.
        refused: reason for which the move that was tried before a timeout was not allowed.
    """

    now: int
    who: str
    move: Move
    before: Game
    payload_bytes: int
    refused: str = ""


Observer = Callable[[Step, Court], None]
"""Called after every move with the court as it is then: for a second court beside the first, or a picture."""


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

    Args:
        now: Unix seconds of the last event. pace_s: seconds that a side ("operator", "challenger") takes for a move, at
            least 1. A side that is silent, slower than its clock, or whose move is refused (such as a proof with
            weights that are not the registered ones) is timed out as soon as its clock allows.
    """
    log: list[Step] = []
    shown: Move = ()
    while court.challenges[number - 1].status == ChallengeStatus.OPEN:
        challenge = court.challenges[number - 1]
        game = challenge.game
        assert game is not None
        operators = game.turn == Turn.OPERATOR
        who = "operator" if operators else "challenger"
        move = operator.move(game) if operators else challenger.move(game, shown)
        left = challenge.operator_left_s if operators else challenge.challenger_left_s
        then, refused, moved = now + pace_s(who), "", None
        if move and then - challenge.last_time <= left:
            sender = court.batches[challenge.batch].operator if operators else challenge.challenger
            try:
                moved = court.move(then, sender, number, *move)
            except MoveError as error:
                refused = error.reason
        if moved is not None:
            now, court = then, moved
        else:
            now = max(now, challenge.last_time + left) + 1
            court = court.timeout(now, number)
            move = ("timeout",)
        step = Step(now, who, move, game, _payload(move), refused)
        log.append(step)
        observe(step, court)
        shown = move if operators else shown
    return court, log


def _payload(value: Any) -> int:
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, (tuple, list)):
        return sum(_payload(each) for each in value)
    return _payload((value.data, value.proof)) if hasattr(value, "proof") else 0


@dataclass(frozen=True)
class Filed:
    """A batch with one receipt in it, and a challenge about it, opened."""

    court: Court
    number: int
    now: int


def file_challenge(
    court: Court,
    *,
    now: int,
    operator: str,
    challenger: str,
    receipt: Receipt,
    signature: bytes,
    token: int,
    salt: bytes,
) -> Filed:
    """Commit a batch of one receipt, commit to a challenge of it and open it, a second apart."""
    from otr_core import merkle

    batch = len(court.batches)
    court = court.commit_batch(now, operator, merkle.root([receipt_leaf(receipt, signature)]), 1)
    commitment = challenge_hash(challenger, batch, 0, token, salt)
    court = court.challenge(now + 1, challenger, batch, commitment, court.terms.bond_wei)
    number = len(court.challenges)
    court = court.open(
        now + 2, challenger, number, index=0, token=token, salt=salt, receipt=receipt, signature=signature, path=()
    )
    return Filed(court, number, now + 2)
