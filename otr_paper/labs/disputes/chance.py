"""Free adversaries that play at random, on models too large to search: real traces, whole courts.

The operator fixes every leaf by itself as ``free.FreeOperator`` does, one choice at a time. It is
guided only in where its first lie stands, so that every operator of a program is come to. The
challenger makes any move that it can. Either now and then is silent or breaks a rule.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from otr_core import merkle
from otr_core.dispute.accounts import batch_id
from otr_core.dispute.court import Court
from otr_core.dispute.duties import challenge_hash
from otr_core.dispute.game import MOVES
from otr_core.dispute.judge import Opening
from otr_core.dispute.openings import OwnExecution, OwnRun
from otr_core.dispute.play import Step, play
from otr_core.dispute.players import HonestChallenger, HonestOperator, Move, case
from otr_core.dispute.state import STATES, TOKENS, Game
from otr_core.errors import MoveError
from otr_core.poea.order import Order
from otr_core.poea.receipt import SignedReceipt
from otr_core.poea.trace import SALT_BYTES
from otr_node.run import Run
from otr_paper.labs.disputes.alphabets import token_change
from otr_paper.labs.disputes.free import (
    FreeOperator,
    FreeState,
    FreeTrace,
    Leaves,
    other_value,
    told_leaves,
    unopenable,
)
from otr_paper.labs.disputes.parties import FISHERMAN, OPERATOR, leaf_of, vouched
from otr_paper.labs.disputes.search import FreeChallenger


@dataclass
class RandomChoices:
    """Choices of ``FreeOperator``, one at a time.

    Attributes:
        first: number of the operator up to which all results are right; its own may not be.
    """

    random: Random
    first: int

    def results(self, game: Game, honest: OwnExecution) -> Iterator[Mapping[int, Leaves | bytes | None]]:
        """As ``Choices.results``."""
        count = len(honest.program)
        first = min(self.first, count)
        false = [first] * (first < count) + [n for n in range(first + 1, count) if self.random.random() < 0.1]
        yield {number: self._result(honest, number) for number in false}

    def _result(self, honest: OwnExecution, number: int) -> Leaves | bytes | None:
        random = self.random
        if random.random() < 0.05:
            return random.choice((None, unopenable(random.random())))
        tiles = honest.dims.tiles(honest.program[number].length)
        return {
            tile: self._tile(honest.tile_data(number, tile))
            for tile in {random.randrange(tiles) for _ in range(random.choice((1, 1, 2, 5)))}
        }

    def _tile(self, data: bytes) -> bytes | None:
        if self.random.random() < 0.03:
            return self.random.choice((None, data[:-8], data + bytes(8)))
        return other_value(data, self.random.randrange(len(data) // 8), layout=">q", delta=self.delta())

    def delta(self) -> int:
        """A change of a value, small or large."""
        return self.random.choice((-1, 1)) * self.random.choice((1, 7, 2**12, 2**30))

    def accumulators(self, game: Game, entries: Sequence[bytes]) -> Iterator[Mapping[int, bytes]]:
        """As ``Choices.accumulators``: the right ones, or some false ones, or all from somewhere."""
        inside = range(1, len(entries) - 1)
        kind = self.random.choice(("right", "some", "from"))
        if kind == "right" or not inside:
            yield {}
            return
        start = self.random.choice(inside)
        false = (
            [n for n in inside if n >= start] if kind == "from" else [n for n in inside if self.random.random() < 0.2]
        )
        delta = self.delta()
        last = len(entries[0]) // 8 - 1
        yield {n: other_value(entries[n], self.random.choice((0, 0, last)), layout=">q", delta=delta) for n in false}


@dataclass
class RandomOperator:
    """Plays one of the moves of a free operator.

    Attributes:
        patience: chance of a move not to be silence. candour: chance of one not to be spoilt.
    """

    free: FreeOperator
    random: Random
    patience: float = 0.99
    candour: float = 0.99

    def move(self, game: Game) -> Move:
        """As ``OperatorPlayer.move``."""
        moves = [move for move in self.free.moves(game) if move and move[0] != "misquoted"]
        if not moves or self.random.random() > self.patience:
            return ()
        move: Move = self.random.choice(moves)
        return move if self.random.random() < self.candour else spoilt(move, self.random)


@dataclass
class RandomChallenger:
    """Plays any move that a challenger may make; now and then it is silent, or breaks a rule."""

    free: FreeChallenger
    random: Random
    patience: float = 0.97

    def move(self, game: Game, shown: Move) -> Move:
        """As ``ChallengerPlayer.move``."""
        if self.random.random() > self.patience:
            return ()
        moves = [move for move in self.free.moves(game, shown) if move and allowed(game, move)]
        return self.random.choice(moves) if moves else ()


def allowed(game: Game, move: Move) -> bool:
    """Whether ``move`` is legal at ``game``."""
    try:
        MOVES[move[0]].make(game, *move[1:])
    except MoveError:
        return False
    return True


def spoilt(move: Move, random: Random) -> Move:
    """``move`` with one argument changed in value, in length or in number."""
    if len(move) == 1:
        return random.choice((("choose_kept",), ("choose_token",), ("choose_last",), ("retract",)))
    at = random.randrange(1, len(move))
    if move[0] == "prove" and not move[at] and at == 2:
        return (*move[:at], (Opening(bytes(8), ()),))
    return (*move[:at], _spoilt(move[at], random), *move[at + 1 :])


def _spoilt(value: Any, random: Random) -> Any:
    if isinstance(value, bytes):
        place = random.randrange(len(value)) if value else 0
        changes = [value[:place] + bytes([value[place] ^ 1]) + value[place + 1 :]] if value else []
        return random.choice([*changes, value[:-1] if len(value) not in (0, 32) else value[::-1], bytes(len(value))])
    if isinstance(value, int):
        return random.choice((value + 1, max(value - 1, 0), 2**31 - 1))
    if isinstance(value, Opening):
        part = random.choice(("data", "proof"))
        return replace(value, **{part: _spoilt(getattr(value, part), random)})
    items = tuple(value)
    if not items:
        return (bytes(32),)
    place = random.randrange(len(items))
    other = (*items[:place], _spoilt(items[place], random), *items[place + 1 :])
    return random.choice((items[:-1], (*items, items[-1]), other, other))


def random_trace(run: OwnRun, random: Random, leaves: Sequence[int]) -> FreeTrace:
    """A trace that is false at some of ``leaves``, at some after them, and now and then in a token."""
    choices = RandomChoices(random, 0)

    def state(leaf: int) -> FreeState | bytes | None:
        if random.random() < 0.05:
            return random.choice((None, unopenable("state", leaf)))
        pieces: dict[int, bytes | None] = {}
        for piece in {random.randrange(run.trace.shape.pieces) for _ in range(random.choice((1, 1, 3)))}:
            data = run.piece(*divmod(leaf, run.trace.shape.layers), piece)[0]
            if random.random() < 0.1:
                pieces[piece] = random.choice((None, bytes([data[0] ^ 1]) + data[1:]))
                continue
            number = random.randrange((len(data) - SALT_BYTES) // 4)
            (value,) = struct.unpack_from("<i", data, SALT_BYTES + 4 * number)
            delta = max(min(value + choices.delta(), 2**31 - 1), -(2**31)) - value
            pieces[piece] = other_value(data, number, layout="<i", start=SALT_BYTES, delta=delta)
        return FreeState(pieces)

    false = {random.choice(leaves)} | {n for n in random.sample(range(len(run.trace.leaves)), 2) if n > max(leaves)}
    tokens = {}
    if random.random() < 0.15:
        at = random.randrange(len(run.trace.tokens))
        tokens[at] = token_change(run, at, random.choice("ISNVEGLX"))
    return FreeTrace(run, {leaf: state(leaf) for leaf in false}, tokens)


@dataclass(frozen=True)
class Opened:
    """A challenge that was opened in ``court`` at ``now`` (Unix seconds)."""

    court: Court
    number: int
    now: int


def challenged(court: Court, signed: SignedReceipt, token: int, now: int) -> Opened:
    """Commit a batch of one receipt, and challenge it."""
    root, number, salt = merkle.root([leaf_of(signed)]), len(court.challenges) + 1, hashlib.sha256(b"salt").digest()
    batch, court = batch_id(OPERATOR, root), court.commit_batch(now, OPERATOR, root, 1)
    commitment = challenge_hash(FISHERMAN, batch, 0, token, salt)
    court = court.challenge(now + 1, FISHERMAN, commitment, court.terms.bond_wei)
    opened: dict[str, Any] = {"batch": batch, "index": 0, "token": token, "salt": salt, "path": (), **vars(signed)}
    return Opened(court.open(now + 2, FISHERMAN, number, **opened), number, now + 2)


@dataclass(frozen=True)
class Played:
    """One random game to its end.

    Attributes:
        kind: who was free. log: all moves. status: of the challenge. reached: operator that the last
            move was about, "" above it.
        paid_wei: what the honest side has more than before, gas apart.
    """

    kind: str
    log: Sequence[Step]
    status: str
    reached: str
    paid_wei: int


def against_operator(
    court: Court, order: Order, trace: FreeTrace, own: Run, random: Random, *, first: int, now: int
) -> Played | None:
    """A random operator that has signed ``trace`` against the honest challenger who has run ``own``;
    None where there is nothing to dispute."""
    claimed = trace.honest
    assert isinstance(claimed, Run)
    signed = vouched(order, claimed, states_root=trace.states.root, tokens_root=trace.tokens.root)
    model = court.models[order.model_id]
    claim = challenged(court, signed, 0, now).court.challenges[-1].game
    assert claim is not None
    leaves = random.choice(((), told_leaves(trace)))
    token = case(own, claim.claim, model.stop_ids, leaves)
    if token is None:
        return None
    start = challenged(court, signed, token, now)
    operator = RandomOperator(FreeOperator(trace, RandomChoices(random, first), claimed.seed), random)
    return _played("operator", court, start, operator, HonestChallenger(own, leaves), FISHERMAN)


def against_challenger(court: Court, order: Order, run: Run, random: Random, *, now: int) -> Played:
    """A random challenger against the honest operator of ``run``."""
    named = STATES + random.randrange(run.states.size)
    token = random.choice((0, 0, 0, named, TOKENS, random.randrange(1, len(run.trace.tokens))))
    start = challenged(court, vouched(order, run), token, now)
    return _played(
        "challenger", court, start, HonestOperator(run), RandomChallenger(FreeChallenger(run.seed), random), OPERATOR
    )


def _played(kind: str, before: Court, start: Opened, operator: Any, challenger: Any, honest: str) -> Played:
    after, log = play(start.court, start.number, operator, challenger, now=start.now)
    last = log[-1].before
    at = (
        last.program[last.operator].name
        if last.operator < len(last.program) and last.operators_root != bytes(32)
        else ""
    )
    name = "" if last.operators_root == bytes(32) else at or "kept"
    paid = (
        after.credits.get(honest, 0)
        - before.credits.get(honest, 0)
        - (before.terms.bond_wei if honest == FISHERMAN else 0)
    )
    status = after.challenges[start.number - 1].status.name
    if kind == "operator" and status == "WON":
        # the reward waits for an earlier challenger; it is the catcher's unless there is one
        paid += after.operators[OPERATOR].reward_wei
    return Played(kind, log, status, name, paid)
