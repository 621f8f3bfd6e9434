"""Exhaustive search over the players of a dispute: whatever a free opponent does, the honest side
wins.

The real game is searched, by its own moves and with real hashes. The honest player is asked for its
move wherever it is to play; at every other place all moves of the opponent are followed.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from otr_core.dispute.game import MOVES
from otr_core.dispute.moves_steps import places
from otr_core.dispute.play import ChallengerPlayer, OperatorPlayer
from otr_core.dispute.players import Move, choice
from otr_core.dispute.state import SEED, STATES, TOKENS, Game, Level, Turn, Verdict
from otr_core.errors import MoveError
from otr_core.merkle import leaf_hash
from otr_core.poea.trace import SALT_BYTES


class FreePlayer(Protocol):
    """Lists all that it can do; silence, (), is always one of its moves."""

    def moves(self, game: Game, shown: Move) -> Iterable[Move]:
        """Its moves at ``game``, the operator's last one being ``shown``."""


@dataclass
class Searched:
    """What a search has seen.

    Attributes:
        places: games at which a player was asked. ends: by who lost and how: "verdict", "silence"
            of the free side, or a move of it that was "refused".
        most_moves: of one game. losses: the moves of every game that the honest side lost.
        latest_read: as in ``FreeOperator``, of all games.
    """

    places: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    most_moves: int = 0
    losses: list[tuple[str, ...]] = field(default_factory=list)
    latest_read: int = -(10**9)

    def add(self, other: Searched) -> None:
        """Count another search to this one."""
        self.places += other.places
        self.ends += other.ends
        self.most_moves = max(self.most_moves, other.most_moves)
        self.losses += other.losses
        self.latest_read = max(self.latest_read, other.latest_read)


def search(game: Game, honest: OperatorPlayer | ChallengerPlayer, free: FreePlayer, honest_turn: Turn) -> Searched:
    """Play ``game`` in all ways that the free side can play it.

    A free side that is silent, or whose move is refused, loses by its clock. The honest side must
    neither be silent, unless it has won, nor be refused.
    """
    found = Searched()
    stack: list[tuple[Game, Move, tuple[str, ...]]] = [(game, (), ())]
    while stack:
        game, shown, path = stack.pop()
        found.most_moves = max(found.most_moves, len(path))
        if game.verdict != Verdict.NONE:
            lost = Verdict.OPERATOR_LOSES if honest_turn == Turn.OPERATOR else Verdict.CHALLENGER_LOSES
            found.ends[game.verdict.name] += 1
            if game.verdict == lost:
                found.losses.append(path)
            continue
        found.places += 1
        if game.turn == honest_turn:
            move = honest.move(game) if honest_turn == Turn.OPERATOR else honest.move(game, shown)  # type: ignore[call-arg]
            try:
                after = made(game, move)
            except MoveError as error:
                found.losses.append((*path, f"{move[:1]} refused: {error.reason}"))
                continue
            stack.append((after, move if honest_turn == Turn.OPERATOR else shown, (*path, move[0])))
            continue
        for move in free.moves(game, shown):
            if not move:
                found.ends["silence"] += 1
                continue
            try:
                after = made(game, move)
            except MoveError:
                found.ends["refused"] += 1
                continue
            stack.append((after, shown if honest_turn == Turn.OPERATOR else move, (*path, move[0])))
    return found


def made(game: Game, move: Move) -> Game:
    """``game`` after ``move``.

    Raises:
        MoveError: it is refused; ``silence`` where there is none.
    """
    if not move:
        raise MoveError("silence", "no move", "a move")
    return MOVES[move[0]].make(game, *move[1:])


@dataclass
class FreeChallenger:
    """Every move of a challenger, right or not: it points at every node and value it is shown."""

    seed: bytes

    def moves(self, game: Game, shown: Move) -> Iterator[Move]:
        """As ``FreePlayer.moves``."""
        yield ()
        if game.level == Level.SEED:
            tokens, states = range(game.claim.positions + 2), range(game.claim.positions * game.model.dims.layers + 1)
            yield from (("dispute", token) for token in (*tokens, TOKENS, SEED))
            yield from (("dispute", STATES + leaf) for leaf in states)
            yield ("retract",)
        elif game.level == Level.ELEMENT:
            data: bytes = shown[1]
            start, layout = (SALT_BYTES, "<i") if game.at_kept else (0, ">q")
            for number, (value,) in enumerate(struct.iter_unpack(layout, data[start:])):
                yield from (("element", number, quoted) for quoted in (value, value + 1))
            yield "element", number + 1, value
            yield from (("accuse_salt", data, seed) for seed in (self.seed, bytes(32)))
        elif game.level == Level.STEPS:
            yield from (("choose_step", number) for number in range(len(places(game))))
        else:
            children: Sequence[bytes] = shown[2] if shown[0] in ("expand_layer", "expand_first") else shown[-1]
            if shown[0] == "expand_token":
                children = (*children, leaf_hash(leaf_hash(struct.pack(">q", game.value))))
                yield "accuse_salt", shown[1], self.seed
            yield from (choice(children, child) for child in range(len(children)))
            yield from (("choose_kept",), ("choose_token",), ("choose_last",))
