"""What the moves of a dispute have in common: how one is entered and refused, and the tree it is at.

Each move stands with those of its level, in ``moves_trace``, ``moves_operators`` or ``moves_steps``;
``game`` has the table of all.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Concatenate, NamedTuple, ParamSpec

from otr_core import merkle
from otr_core.dispute.state import NOTHING, Game, Level, Turn, Verdict
from otr_core.errors import MoveError, ProofError
from otr_core.lane.element import TOKEN
from otr_core.poea.trace import seed_hash as hash_of_seed


def require(good: bool, reason: str, found: object, expected: object) -> None:
    """Refuse a move or a call that breaks a rule, as ``assert … , reason`` does in the contracts.

    Raises:
        MoveError: not ``good``; ``reason`` names the rule.
    """
    if not good:
        raise MoveError(reason, found, expected)


def require_leaf(root: bytes, leaf: bytes, index: int, size: int, path: Sequence[bytes], what: str) -> None:
    """Refuse a leaf that ``path`` does not show to be number ``index`` of ``size`` under ``root``.

    Raises:
        MoveError: reason ``path``; ``what`` says in words what was expected.
    """
    try:
        merkle.verify_inclusion(root, leaf, index, size, path)
    except ProofError as error:
        raise MoveError("path", error, what) from error


Args = ParamSpec("Args")
"""What a move brings, besides the game."""
Function = Callable[Concatenate[Game, Args], Game]


class MoveRule(NamedTuple):
    """A move in the table: whose it is, and the function that makes it."""

    turn: Turn
    make: Callable[..., Game]


ENTERED: dict[str, MoveRule] = {}
"""The moves of all modules that are loaded. ``game.MOVES`` is the table, in its order and whole."""


def move_of(turn: Turn, *levels: Level) -> Callable[[Function[Args]], Function[Args]]:
    """Enter a function into ``ENTERED`` as a move of ``turn`` at ``levels``, refused at other times.

    Raises (the function):
        MoveError: ``over``, ``turn`` or ``level``, in this order, before anything that the move
            brings is looked at.
    """

    def enter(make: Function[Args]) -> Function[Args]:
        @functools.wraps(make)
        def checked(game: Game, *args: Args.args, **named: Args.kwargs) -> Game:
            require(game.verdict == Verdict.NONE, "over", game.verdict.name, "a game that goes on")
            require(game.turn == turn, "turn", game.turn.name, turn.name)
            allowed = " or ".join(level.name for level in levels)
            require(game.level in levels, "level", game.level.name, allowed)
            return make(game, *args, **named)

        ENTERED[make.__name__] = MoveRule(turn, checked)
        return checked  # type: ignore[return-value]  # same arguments: ``wraps`` loses the name of the first

    return enter


def at_root(game: Game, node: bytes, size: int) -> Game:
    """The dispute at the root ``node`` of a tree of ``size`` leaves."""
    return replace(game, node=node, index=0, size=size, height=merkle.height(size))


def at_leaf(game: Game, token: int) -> Game:
    """The dispute about a token, of which the tokens' root is all that is known."""
    return replace(at_root(game, NOTHING, 1), target=TOKEN, leaf=token)


def round_bits(game: Game) -> int:
    """Levels that a round goes down: a program is shown whole."""
    return game.height if game.level == Level.OPERATORS else game.arity_bits


def root_shown(game: Game, children: Sequence[bytes]) -> bytes:
    """Root over ``children``, if they are as many as this round must show."""
    _, _, count = merkle.span(game.size, game.height, game.index, round_bits(game))
    whole = len(children) == count and all(len(child) == 32 for child in children)
    require(whole, "children", len(children), count)
    return merkle.root_of_hashes(children)


def require_content(game: Game, content: bytes) -> None:
    """Refuse a hash that is not what the disputed leaf commits to."""
    good = len(content) == 32 and merkle.leaf_hash(content) == game.node
    require(good, "content", content.hex(), "what the leaf commits to")


def require_seed(game: Game, seed: bytes) -> None:
    """Refuse a seed that is not the one that the receipt commits to."""
    committed = len(seed) == 32 and hash_of_seed(seed) == game.claim.seed_hash
    require(committed, "seed", "another seed", "the committed one")
