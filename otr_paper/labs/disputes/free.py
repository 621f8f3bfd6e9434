"""An operator that is free in every commitment: it fixes leaf by leaf what a tree holds.

Such an adversary is no honest player with one value changed. Its trace, its program's results, its
tiles and its accumulators need not fit each other; a leaf may hold what nobody can open. What it
has committed to binds it, and nothing else does: below a new root it may go on in any way.
``FreeOperator.moves`` lists what it can do at a given place. ``search`` follows all of it, and
``RandomOperator`` one at a time.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol, TypeAlias, TypeVar

from otr_core import merkle
from otr_core.dispute.judge import Opening
from otr_core.dispute.moves_steps import accumulator_bytes, places
from otr_core.dispute.openings import CommittedModel, DataAndPath, Openings, OwnExecution, OwnRun
from otr_core.dispute.players import Move
from otr_core.dispute.state import NOTHING, Game, Level
from otr_core.lane.dims import Dims
from otr_core.lane.element import LAYER, Accumulator
from otr_core.lane.program import Operator
from otr_core.lane.step import right
from otr_core.merkle import Tree, leaf_hash

T = TypeVar("T")
Leaves: TypeAlias = Mapping[int, bytes | None]
"""Changed leaves of a tree by number: another content, or None: a hash that nobody can open."""


class UnknownError(LookupError):
    """A content that the adversary has committed to without having one."""


def unopenable(*place: object) -> bytes:
    """A hash that is no known content's, a different one for each place."""
    return sha256(b"unopenable" + repr(place).encode()).digest()


def changed_tree(contents: Iterable[bytes], changes: Leaves) -> Tree:
    """The tree over leaf ``contents`` with some of them changed."""
    leaves = [changes.get(number, content) for number, content in enumerate(contents)]
    return Tree([unopenable(number) if each is None else leaf_hash(each) for number, each in enumerate(leaves)])


def revealed(content: bytes | None) -> bytes:
    """A leaf's content.

    Raises:
        UnknownError: nobody has it.
    """
    if content is None:
        raise UnknownError("a leaf without content")
    return content


def known(made: Mapping[bytes, T], root: bytes) -> T:
    """What was committed to under ``root``.

    Raises:
        UnknownError: nobody knows.
    """
    if root not in made:
        raise UnknownError("a root over nothing known")
    return made[root]


@dataclass(frozen=True)
class FreeState:
    """What a trace leaf holds: the pieces of an honest one, some of them changed."""

    pieces: Leaves


@dataclass
class FreeTrace:
    """A trace whose leaves are free, those of states as well as those of tokens.

    Attributes:
        honest: the right run of some tokens. changes: what changed leaves of the states hold: a
            state, or a content that has no pieces (32 bytes), or None: a hash without any content.
        token_changes: changed token leaves.
    """

    honest: OwnRun
    changes: Mapping[int, FreeState | bytes | None] = field(default_factory=dict)
    token_changes: Leaves = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._contents: dict[int, bytes | None] = {}
        self._pieces: dict[int, Tree] = {}
        for leaf, change in self.changes.items():
            if isinstance(change, FreeState):
                self._pieces[leaf] = changed_tree(self._honest_pieces(leaf), change.pieces)
            self._contents[leaf] = self._pieces[leaf].root if isinstance(change, FreeState) else change
        self.states = changed_tree(self.honest.trace.leaves, self._contents)
        self.tokens = changed_tree(self.honest.trace.tokens, self.token_changes)

    def place(self, leaf: int) -> tuple[int, int]:
        """(position, layer) of a leaf."""
        return divmod(leaf, self.honest.trace.shape.layers)

    def _honest_pieces(self, leaf: int) -> list[bytes]:
        return [self.honest.piece(*self.place(leaf), piece)[0] for piece in range(self.honest.trace.shape.pieces)]

    def content(self, leaf: int) -> bytes:
        """Content of a trace leaf."""
        return revealed(self._contents.get(leaf, self.honest.trace.leaves[leaf]))

    def pieces(self, leaf: int) -> Tree:
        """Tree over the pieces of a leaf."""
        if leaf not in self.changes:
            return self.honest.pieces(*self.place(leaf))
        if leaf not in self._pieces:
            raise UnknownError("pieces of a content that has none")
        return self._pieces[leaf]

    def piece_data(self, leaf: int, piece: int) -> bytes:
        """Salt and values of a piece."""
        change = self.changes.get(leaf)
        if isinstance(change, FreeState) and piece in change.pieces:
            return revealed(change.pieces[piece])
        if leaf in self.changes and not isinstance(change, FreeState):
            raise UnknownError("a piece of a content that has none")
        return self.honest.piece(*self.place(leaf), piece)[0]

    def piece(self, position: int, layer: int, piece: int) -> DataAndPath:
        """As ``OwnRun.piece``."""
        leaf = position * self.honest.trace.shape.layers + layer
        return self.piece_data(leaf, piece), self.pieces(leaf).path(piece) + self.states.path(leaf)

    def token(self, at: int) -> DataAndPath:
        """As ``OwnRun.token``."""
        return revealed(self.token_changes.get(at, self.honest.trace.tokens[at])), self.tokens.path(at)


def told_leaves(trace: FreeTrace) -> tuple[bytes, ...]:
    """The hashes of all leaves of a trace's states, as an operator hands them over that keeps nothing back."""
    return tuple(trace.states.node(0, number) for number in range(trace.states.size))


@dataclass
class FreeExecution:
    """The results of a program, some of them changed.

    Attributes:
        honest: the right execution. changes: by number of the operator: changed tiles, or a content
            that has no tiles (32 bytes), or None: a hash without any content.
    """

    honest: OwnExecution
    changes: Mapping[int, Leaves | bytes | None]

    def __post_init__(self) -> None:
        contents: dict[int, bytes | None] = {}
        self._tiles: dict[int, Tree] = {}
        for number, change in self.changes.items():
            if isinstance(change, Mapping):
                self._tiles[number] = changed_tree(self._honest_tiles(number), change)
            contents[number] = self._tiles[number].root if isinstance(change, Mapping) else change
        roots = [self.honest.tiles(number).root for number in range(len(self.honest.program))]
        self.operators = changed_tree(roots, contents)

    @property
    def dims(self) -> Dims:
        return self.honest.dims

    @property
    def model(self) -> CommittedModel:
        return self.honest.model

    @property
    def program(self) -> tuple[Operator, ...]:
        return self.honest.program

    def _honest_tiles(self, operator: int) -> list[bytes]:
        count = self.dims.tiles(self.program[operator].length)
        return [self.honest.tile_data(operator, tile) for tile in range(count)]

    def tiles(self, operator: int) -> Tree:
        """As ``OwnExecution.tiles``."""
        if operator not in self.changes:
            return self.honest.tiles(operator)
        if operator not in self._tiles:
            raise UnknownError("tiles of a content that has none")
        return self._tiles[operator]

    def tile_data(self, operator: int, tile: int) -> bytes:
        """As ``OwnExecution.tile_data``."""
        change = self.changes.get(operator)
        if isinstance(change, Mapping) and tile in change:
            return revealed(change[tile])
        if operator in self.changes and not isinstance(change, Mapping):
            raise UnknownError("a tile of a content that has none")
        return self.honest.tile_data(operator, tile)

    def accumulators(self, operator: int, element: int) -> Sequence[Accumulator]:
        """As ``OwnExecution.accumulators``; those that are shown are chosen apart."""
        return self.honest.accumulators(operator, element)


class Choices(Protocol):
    """What a free operator may commit to when it makes a new tree, or shows a list."""

    def results(self, game: Game, honest: OwnExecution) -> Iterable[Mapping[int, Leaves | bytes | None]]:
        """Changes of a program's results, as in ``FreeExecution``."""

    def accumulators(self, game: Game, entries: Sequence[bytes]) -> Iterable[Mapping[int, bytes]]:
        """Changes of the list of accumulators, whose right ``entries`` have both disputed ends
        among them: those are fixed, and a change of them is refused."""


@dataclass
class FreeOperator:
    """Everything that an operator can do which has signed ``trace``.

    Attributes:
        choices: what it considers where it commits to a new tree. seed: what it reveals as one; ""
            for none.
        latest_read: number of the last trace leaf that a step about a layer read, less that of the
            disputed one: what comes after it has no say in the verdict.
    """

    trace: FreeTrace
    choices: Choices
    seed: bytes = b""
    latest_read: int = field(default=-(10**9), init=False)
    _executions: dict[bytes, FreeExecution] = field(default_factory=dict, init=False)
    _lists: dict[bytes, bytes] = field(default_factory=dict, init=False)

    def moves(self, game: Game, shown: Move = ()) -> Iterator[Move]:
        """Its moves at ``game``, of which silence is always one, and the last."""
        with suppress(UnknownError):
            yield from self._moves(game)
        yield ()

    def _moves(self, game: Game) -> Iterator[Move]:
        if game.level == Level.SEED:
            yield "reveal_seed", self.seed
        elif game.level in (Level.STEPS, Level.LEAF):
            fresh = game.interval < 0
            if fresh and not game.is_choice:
                yield "misquoted", self._published(game)
            before = b"" if fresh else known(self._lists, game.node)
            if game.level == Level.LEAF:
                yield "prove", before, self._openings(game)
            else:
                yield from (("expand_steps", before, points) for points in self._accounts(game, before))
        elif game.height:
            yield "bisect", self._tree(game).children(game.height, game.index, game.arity_bits)
        elif game.level == Level.TRACE:
            yield from self._expanded(game)
        elif game.level == Level.OPERATORS and (tree := self._made(game).tiles(game.operator)).size > 1:
            yield "expand_operator", tree.children(merkle.height(tree.size), 0, game.arity_bits)
        else:
            yield "publish", self._published(game)

    def _expanded(self, game: Game) -> Iterator[Move]:
        """A leaf of the states or of the tokens, and any program below it."""
        if game.target == LAYER:
            token: tuple[object, ...] = () if game.layer else self.trace.token(game.position)
            content, name = self.trace.content(game.leaf), "expand_layer" if game.layer else "expand_first"
            known = () if game.node != NOTHING else tuple(self.trace.states.path(game.leaf))
            for children in self._programs(game, {}):
                yield name, content, children, *token, known
            return
        data, path = self.trace.token(game.leaf)
        path = path if game.size == 1 else []
        if game.leaf < game.claim.prompt_tokens:
            given = self.trace.honest.prompt.path(game.leaf)
            yield "show_given", data, path, given
            return
        honest = self.trace.honest.execution(game.target, game.position, game.layer)
        last, chosen = len(honest.program) - 1, int.from_bytes(data[32:36], "little")
        for children in self._programs(game, {last: {0: struct.pack(">q", chosen)}}):
            yield "expand_token", data, path, children[:-1]

    def _programs(self, game: Game, fixed: Mapping[int, Leaves]) -> Iterator[tuple[bytes, ...]]:
        honest = self.trace.honest.execution(game.target, game.position, game.layer)
        for changes in self.choices.results(game, honest):
            made = FreeExecution(honest, {**changes, **fixed})
            self._executions[made.operators.root] = made
            yield tuple(made.operators.node(0, number) for number in range(made.operators.size))

    def _accounts(self, game: Game, before: bytes) -> Iterator[bytes]:
        """Lists of accumulators between the disputed ends."""
        own = self.trace.honest.execution(game.target, game.position, game.layer)
        whole = ((0, 0), *own.accumulators(game.operator, game.element), (game.value, 0))
        entries = [accumulator_bytes(game, whole[place]) for place in places(game)]
        if before:
            width = len(entries[0])
            entries[0], entries[-1] = (
                before[width * at : width * (at + 1)] for at in (game.interval, game.interval + 1)
            )
        for changes in self.choices.accumulators(game, entries):
            points = b"".join(changes.get(number, entry) for number, entry in enumerate(entries))
            self._lists[list_hash(points)] = points
            yield points

    def _made(self, game: Game) -> FreeExecution:
        return known(self._executions, game.operators_root)

    def _published(self, game: Game) -> bytes:
        if game.at_kept:
            return self.trace.piece_data(game.leaf, game.piece)
        return self._made(game).tile_data(game.operator, game.piece)

    def _tree(self, game: Game) -> Tree:
        if game.level == Level.TRACE:
            return self.trace.states if game.target == LAYER else self.trace.tokens
        return self.trace.pieces(game.leaf) if game.at_kept else self._made(game).tiles(game.operator)

    def _openings(self, game: Game) -> tuple[Opening, ...]:
        """What the step reads, as far as the adversary can follow it over the values it has made up."""
        read: list[int] = []

        def piece(position: int, layer: int, piece: int) -> DataAndPath:
            read.append(position * game.model.dims.layers + layer)
            return self.trace.piece(position, layer, piece)

        reader = Openings(self._made(game), game.place, piece=piece, token=self.trace.token)
        # At a leaf of another length or without content it can go no further; the court refuses.
        with suppress(UnknownError, struct.error, IndexError, ValueError):
            right(game.model.dims, game.claim, game.place, reader)
        if game.target == LAYER and read:
            self.latest_read = max(self.latest_read, max(read) - game.leaf)
        return tuple(reader.made)


def list_hash(points: bytes) -> bytes:
    """The hash by which a game remembers a list of accumulators."""
    return sha256(b"\x02" + points).digest()


def other_value(data: bytes, number: int, *, layout: str, start: int = 0, delta: int = 1) -> bytes:
    """``data`` with one of its values changed; ``layout`` and ``start`` as in a tile or a piece."""
    at = start + number * struct.calcsize(layout)
    (value,) = struct.unpack_from(layout, data, at)
    return data[:at] + struct.pack(layout, value + delta) + data[at + struct.calcsize(layout) :]
