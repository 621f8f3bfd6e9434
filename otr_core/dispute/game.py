"""One dispute as a table of moves over a frozen state: who may do what when, and why.

The operator has signed a receipt whose roots commit to what every layer left behind at every
position of an answer, and to its tokens. A challenger says that something under a root is wrong.
Nobody runs the answer again to decide this; the two narrow it down. In turns the operator *shows* the nodes below
the disputed node of a Merkle tree, and the challenger *chooses* the first of them that differs from
its own run. At a leaf the operator opens what the leaf commits to and commits to the next, finer
tree. In the end one arithmetic step is left. The operator proves it with the few values that it
reads, and ``judge`` decides.

An operator that is right can always show nodes that hash to the disputed one, and its step passes.
Under a wrong node it has to show at least one wrong node again, whichever way it turns. The
challenger points at the first: all that comes before agrees with its own run. So the last step
reads right values and gives a wrong one, and fails. The clocks of ``court`` see to it that a side
without an answer loses.

    level       what is disputed                    operator's move     challenger's answer
    SEED        the seed of all salts               reveal_seed         dispute, or retract
    TRACE       a node of the tree of states        bisect              choose
                or of the tree of tokens
                its leaf: a layer at a position,    expand_layer        choose, or choose_kept
                come to, or named at once
                the first layer at a position       expand_first        the same, or choose_token
                a token of the prompt               show_given          (ends the game)
                a token that was chosen             expand_token        choose, choose_last,
                                                                        or accuse_salt
    OPERATORS   one operator                        expand_operator     choose
                one operator of one tile            publish             (turns to ELEMENT)
    TILES       a node of the operator's tiles      bisect              choose
                its leaf: one tile                  publish             (turns to ELEMENT)
    ELEMENT     one value of a published tile       (none)              element, or accuse_salt
    STEPS       how that value was accumulated      expand_steps        choose_step
                (a value that was not published)    misquoted           (ends the game)
    LEAF        one arithmetic step                 prove               (the step decides)
                (a value that was not published)    misquoted           (ends the game)

What a court sees of a token it judges as soon as the leaf is shown: a prompt's token is the one
ordered, leaf by leaf; a chosen one has its number and an id of the vocabulary, and stop ids end an
answer, there and nowhere else.

A move is a function here. It returns a new ``Game``, or raises ``MoveError`` and changes nothing;
``reason`` names the rule that was broken. Every move is first checked against its row of the table
(``over``, ``turn``, ``level``), then against what was committed. ``court`` adds clocks, money and
the other games; ``table.vy`` is the same table on chain, with the same reasons.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Concatenate, NamedTuple, ParamSpec

from otr_core import merkle
from otr_core.dispute import judge
from otr_core.dispute.judge import Opening
from otr_core.dispute.state import (
    MOST_ARITY_BITS,
    MOST_INTERVALS,
    NOTHING,
    SEED,
    STATES,
    TOKENS,
    TREES,
    AnswerClaim,
    Game,
    Level,
    RegisteredModel,
    Turn,
    Verdict,
)
from otr_core.errors import MoveError, ProofError
from otr_core.lane import program as pr
from otr_core.lane.element import LAYER, TOKEN, Accumulator
from otr_core.poea.order import Domain, Order, word
from otr_core.poea.receipt import FINISHES, Receipt
from otr_core.poea.trace import GIVEN, SALT_BYTES, salts, token_salt
from otr_core.poea.trace import seed_hash as hash_of_seed

STOPPED = FINISHES.index("stop")


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


MOVES: dict[str, MoveRule] = {}
"""All moves by name."""


def move_of(turn: Turn, *levels: Level) -> Callable[[Function[Args]], Function[Args]]:
    """Enter a function into ``MOVES`` as a move of ``turn`` at ``levels``, refused at other times.

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

        MOVES[make.__name__] = MoveRule(turn, checked)
        return checked  # type: ignore[return-value]  # same arguments: ``wraps`` loses the name of the first

    return enter


def open_game(order: Order, receipt: Receipt, model: RegisteredModel, arity_bits: int, token: int) -> Game:
    """A dispute about the states under a receipt's root, about its tokens, or one that begins with
    the demand to be shown the seed.

    Args:
        token: as ``disputed`` takes it, or ``SEED``.

    Raises:
        MoveError: ``arity``: not 2 to 64 nodes a round. ``token``: the answer has no such token.
    """
    require(1 <= arity_bits <= MOST_ARITY_BITS, "arity", arity_bits, f"1 to {MOST_ARITY_BITS} bits")
    how = order.decoding
    claim = AnswerClaim(
        receipt.states_root,
        receipt.tokens_root,
        receipt.seed_hash,
        receipt.positions,
        receipt.order_id,
        how.seed,
        how.temperature_milli,
        order.prompt_root,
        order.prompt_tokens,
        receipt.finish_number,
    )
    game = Game(claim, model, arity_bits, LAYER, 0)
    return replace(game, level=Level.SEED) if token == SEED else _disputed(game, token)


@move_of(Turn.OPERATOR, Level.SEED)
def reveal_seed(game: Game, seed: bytes) -> Game:
    """Show the seed from which the trace's salts derive.

    Without it nobody can rebuild the leaves. An operator that has committed to a hash of nothing, or
    keeps the seed to itself, runs out of time here.

    Raises:
        MoveError: ``seed``: not the one that the receipt commits to.
    """
    _is_seed(game, seed)
    return replace(game, turn=Turn.CHALLENGER)


@move_of(Turn.CHALLENGER, Level.SEED)
def dispute(game: Game, token: int) -> Game:
    """Say what is disputed, now that the seed is known.

    Args:
        token: 0: the states, which are walked down. ``TOKENS``: the tree of all tokens, likewise.
            ``STATES`` and above: that leaf of the states, told by whoever has compared the leaves.
            Else the number of the disputed token, counted from the first of the prompt.

    Raises:
        MoveError: ``token``: the answer has no such token or state.
    """
    return _disputed(replace(game, level=Level.TRACE, turn=Turn.OPERATOR), token)


@move_of(Turn.CHALLENGER, Level.SEED)
def retract(game: Game) -> Game:
    """Dispute nothing, now that the seed is known and the trace is right: nobody loses anything.

    A response with another seed than the statement's looks like fraud to whoever gets it, and only
    who can open the response can judge it.
    """
    return replace(game, verdict=Verdict.WITHDRAWN)


@move_of(Turn.OPERATOR, Level.TRACE, Level.TILES)
def bisect(game: Game, children: Sequence[bytes]) -> Game:
    """Show the nodes d levels below the disputed one (or the leaves, if they are nearer).

    Raises:
        MoveError: ``level``: the node is a leaf. ``children``: they are not below it.
    """
    require(game.height > 0, "level", "a leaf", "a node above the leaves")
    return _shown(game, children)


@move_of(Turn.CHALLENGER, *TREES)
def choose(game: Game, child: int, node: bytes, path: Sequence[bytes]) -> Game:
    """Point at number ``child`` of the nodes just shown, the first that differs from one's own run.

    The state does not hold what was shown, only its root. The path proves that ``node`` was shown.

    Raises:
        MoveError: ``child``: there is no such node. ``path``: it was not shown.
    """
    below, first, count = merkle.span(game.size, game.height, game.index, _bits(game))
    # The last operator of a token is its choice, whose value is known (``choose_last``).
    below_last = count - 1 if game.level == Level.OPERATORS and game.target == TOKEN else count
    require(0 <= child < below_last, "child", child, f"below {below_last}")
    require_leaf(game.node, node, child, count, path, "to a node that was shown")
    index = first + child
    game = replace(game, turn=Turn.OPERATOR, node=node, height=below, index=index)
    if below:
        return game
    # A leaf: its number says what is singled out on this level.
    if game.level == Level.TRACE:
        return replace(game, leaf=index)
    if game.level == Level.TILES:
        return replace(game, piece=index)
    return replace(game, operator=index)


@move_of(Turn.CHALLENGER, Level.OPERATORS)
def choose_last(game: Game) -> Game:
    """Agree with all results that a token was chosen from, but not with the choice.

    Its value is known, the id that the token's leaf holds: nothing has to be published.

    Raises:
        MoveError: ``level``: it is a layer.
    """
    require(game.target == TOKEN, "level", "a layer", "a token")
    last = len(game.program) - 1
    return _valued(replace(game, operator=last), game.value, NOTHING, game.program[last].steps)


@move_of(Turn.CHALLENGER, Level.OPERATORS)
def choose_kept(game: Game) -> Game:
    """Agree with the results of all operators, but not with what the trace holds of them.

    Raises:
        MoveError: ``level``: the challenger has already pointed at an operator, or it is a token,
            whose id is the result of its last operator.
    """
    require(game.target == LAYER, "level", "a token", "a layer")
    game = replace(game, turn=Turn.OPERATOR, operator=len(game.program), level=Level.TILES)
    return _at_root(game, game.kept, game.model.dims.pieces)


@move_of(Turn.CHALLENGER, Level.OPERATORS)
def choose_token(game: Game) -> Game:
    """Say that it is the token fed here which is wrong: it is not the one that was chosen, or
    ordered, for this position.

    A first layer reads the token, of which a challenger may know no more than the tokens' root.
    All states before agree, so that the token's choice is judged from right ones.

    Raises:
        MoveError: ``level``: not in the first layer.
    """
    first = game.target == LAYER and game.layer == 0
    require(first, "level", "another layer", "the first layer, which reads the token")
    game = replace(game, level=Level.TRACE, turn=Turn.OPERATOR, operators_root=NOTHING, kept=NOTHING)
    return _at_leaf(game, game.position)


@move_of(Turn.OPERATOR, Level.TRACE)
def expand_layer(game: Game, content: bytes, children: Sequence[bytes], path: Sequence[bytes]) -> Game:
    """Open the disputed trace leaf, and commit to the results of the layer's operators.

    The leaf's content binds the pieces that the operator must come up with if the challenger says
    ``choose_kept``.

    Args:
        children: the hash of every operator's leaf, whose content is the root over its tiles.
        path: of the leaf to the states' root; none where that root was walked down.

    Raises:
        MoveError: ``level``: not at a trace leaf, or in the first layer. ``content``: not what the
            leaf commits to. ``path``: not that leaf of the states. ``children``: another number of
            them than there are operators.
    """
    require(_at_layer(game) and game.layer > 0, "level", "not at it", "a trace leaf above the first layer")
    _is_state(game, content, path)
    return _program_shown(replace(game, kept=content), children)


@move_of(Turn.OPERATOR, Level.TRACE)
def expand_first(
    game: Game,
    content: bytes,
    children: Sequence[bytes],
    data: bytes,
    token_path: Sequence[bytes],
    path: Sequence[bytes],
) -> Game:
    """``expand_layer`` in the first layer, which reads a token: the token is opened too.

    Without it a challenger could not tell a false token from a false layer.

    Args:
        data, token_path: the leaf of the token fed at this position, as in ``show_given``.

    Raises:
        MoveError: as ``expand_layer``; ``content``: no token leaf; ``path``: not that token's leaf.
    """
    require(_at_layer(game) and game.layer == 0, "level", "not at it", "a trace leaf of the first layer")
    _is_state(game, content, path)
    _token(game, game.position, data, token_path)
    return _program_shown(replace(game, kept=content), children)


@move_of(Turn.OPERATOR, Level.TRACE)
def show_given(game: Game, data: bytes, path: Sequence[bytes], given_path: Sequence[bytes]) -> Game:
    """Open the disputed token of the prompt, and show that it is the one ordered.

    The client's tree holds the very leaf, with its salt and mark. Whoever signs an answer to an
    order whose prompt no model can read has read something else: it loses as well.

    Args:
        data: the token leaf: salt (32 bytes), token id and number in the answer (4 bytes each,
            little-endian).
        path: its audit path to the tokens' root; none where that root was walked down.
        given_path: its audit path to the order's prompt root.

    Raises:
        MoveError: ``level``: no token of the prompt. ``content``: wrong length. ``path``: not that
            token's leaf. ``given``: not the leaf that was ordered.
    """
    claim = game.claim
    require(_at_token(game) and game.leaf < claim.prompt_tokens, "level", "not at it", "a token of the prompt")
    leaf, token, step = _token(game, game.leaf, data, path)
    try:
        merkle.verify_inclusion(claim.prompt_root, leaf, game.leaf, claim.prompt_tokens, given_path)
    except ProofError as error:
        raise MoveError("given", error, "the leaf that was ordered") from error
    good = step == GIVEN and token < game.model.dims.vocab
    return replace(game, verdict=Verdict.CHALLENGER_LOSES if good else Verdict.OPERATOR_LOSES)


@move_of(Turn.OPERATOR, Level.TRACE)
def expand_token(game: Game, data: bytes, path: Sequence[bytes], children: Sequence[bytes]) -> Game:
    """Open the disputed token, and commit to the results of the operators that chose it.

    The court sees at once whether the leaf has its number in the answer, an id of the vocabulary,
    and a stop id where the answer stops and nowhere else; if not, the operator loses.

    Args:
        data, path: as in ``show_given``.
        children: the hash of every operator's leaf but the last, which is made here from the id.

    Raises:
        MoveError: ``level``: no chosen token. ``content``: wrong length. ``path``: not that token's
            leaf. ``children``: see ``expand_layer``.
    """
    claim = game.claim
    require(_at_token(game) and game.leaf >= claim.prompt_tokens, "level", "not at it", "a token that was chosen")
    leaf, token, step = _token(game, game.leaf, data, path)
    game = replace(game, kept=leaf, value=token)
    ends = game.leaf == claim.positions and claim.finish == STOPPED
    stops = token in game.model.stop_ids
    if step != game.token_step or token >= game.model.dims.vocab or stops != ends:
        return replace(game, verdict=Verdict.OPERATOR_LOSES)
    chosen = merkle.leaf_hash(merkle.leaf_hash(struct.pack(">q", token)))
    return _program_shown(game, (*children, chosen))


@move_of(Turn.OPERATOR, Level.OPERATORS)
def expand_operator(game: Game, children: Sequence[bytes]) -> Game:
    """Show the nodes over the tiles of the disputed operator's result, which its leaf commits to.

    Raises:
        MoveError: ``level``: a single tile is published instead. ``children``: not as many as this
            round shows. ``content``: the leaf commits to another root.
    """
    tiles = game.model.dims.tiles(game.program[game.operator].length)
    require(tiles > 1, "level", "one tile", "several tiles")
    at_root = _at_root(replace(game, level=Level.TILES), NOTHING, tiles)
    root = _root_shown(at_root, children)
    _is_leaf(game, root)
    return replace(at_root, node=root, turn=Turn.CHALLENGER)


@move_of(Turn.OPERATOR, Level.TILES, Level.OPERATORS)
def publish(game: Game, data: bytes) -> Game:
    """Publish the values of the disputed tile (of what the trace holds: the piece, with its salt).

    Raises:
        MoveError: ``level``: not at one tile. ``tile length``, ``tile``: not the data that the leaf
            commits to.
    """
    if game.level == Level.OPERATORS:
        tiles = game.model.dims.tiles(game.program[game.operator].length)
        require(tiles == 1, "level", f"{tiles} tiles", "one tile")
        tile = merkle.leaf_hash(data)
        # The operator's leaf holds the root over its tiles: of one tile, the hash of its leaf.
        game = replace(game, node=tile if merkle.leaf_hash(tile) == game.node else NOTHING, piece=0)
    require(game.height == 0, "level", "above the tiles", "one tile")
    count, first = len(_tile(game, data)), 0 if game.at_kept else game.piece * game.model.dims.tile
    steps = 1 if game.at_kept else game.program[game.operator].steps
    return replace(game, level=Level.ELEMENT, turn=Turn.CHALLENGER, element=first, index=steps, size=count)


@move_of(Turn.CHALLENGER, Level.ELEMENT)
def element(game: Game, number: int, value: int) -> Game:
    """Name a wrong value of the published tile: value number ``number``, and what it is there.

    The tile is not sent again. Whoever quotes another value than was published loses
    (``misquoted``). A value that takes several steps to accumulate is disputed on; any other is one
    step.

    Raises:
        MoveError: ``element``: the tile has no such value. ``value``: no number of 64 bits.
    """
    require(0 <= number < game.size, "element", number, f"below {game.size}")
    require(-(2**63) <= value < 2**63, "value", value, "64 bits")
    return _valued(replace(game, element=game.element + number), value, game.node, game.index)


@move_of(Turn.CHALLENGER, Level.ELEMENT, Level.OPERATORS)
def accuse_salt(game: Game, data: bytes, seed: bytes) -> Game:
    """Show that the salt of a piece, or of a chosen token, is not the one of the trace's seed: the
    operator loses.

    Whoever has the seed, as the client does, must be able to rebuild every leaf. With salts of its
    own choice an operator could commit to right values under leaves that nobody else can compare.

    Args:
        data: the published piece or the token leaf, again.

    Raises:
        MoveError: ``level``: it is no piece of a layer's state and no token. ``tile length``,
            ``tile``: other data. ``seed``: not the one that the receipt commits to. ``salt``: the
            salt is right.
    """
    if game.level == Level.OPERATORS:
        require(game.target == TOKEN, "level", "a layer", "a token, or a piece of the trace")
        require(merkle.leaf_hash(data) == game.kept, "tile", "other data", "the token's leaf")
        _is_seed(game, seed)
        right = token_salt(seed, game.leaf)
    else:
        require(game.at_kept, "level", "a tile of an operator", "a piece of the trace")
        _tile(game, data)
        _is_seed(game, seed)
        right = salts(seed, game.position, game.layer, game.piece + 1)[-1]
    require(data[:SALT_BYTES] != right, "salt", "the right salt", "a wrong one")
    return replace(game, verdict=Verdict.OPERATOR_LOSES)


@move_of(Turn.OPERATOR, Level.STEPS, Level.LEAF)
def misquoted(game: Game, data: bytes) -> Game:
    """Show that the published tile has another value than the one quoted: the challenger loses.

    Raises:
        MoveError: ``level``: accumulators were shown since. ``tile length``, ``tile``: not the
            published data. ``quoted``: the value is as quoted.
    """
    require(game.interval < 0, "level", "accumulators were shown", "right after the value was named")
    values = _tile(game, data)
    number = game.element if game.at_kept else game.element - game.piece * game.model.dims.tile
    require(values[number] != game.value, "quoted", "as quoted", "another value")
    return replace(game, verdict=Verdict.CHALLENGER_LOSES)


@move_of(Turn.OPERATOR, Level.STEPS)
def expand_steps(game: Game, before: bytes, points: bytes) -> Game:
    """Show the accumulators at both ends of the disputed interval and at some places inside it.

    Args:
        before: the list shown last, which holds both ends; nothing at first, when they are what
            every accumulation starts from, written as zeros, and the published value.
        points: the accumulator after each of the places that ``places`` names: 8 bytes; of a
            token's operators 16, with the index that a choice carries along.

    Raises:
        MoveError: ``points``: not the list shown last, or a list of another length or with other
            ends.
    """
    width, intervals = _width(game), len(places(game)) - 1
    first, last = _ends(game, before)
    whole = len(points) == width * (intervals + 1) and points[:width] == first and points[-width:] == last
    require(whole, "points", f"{len(points)} bytes", f"{intervals + 1} entries between the disputed ends")
    return replace(game, node=_list_hash(points), turn=Turn.CHALLENGER)


@move_of(Turn.CHALLENGER, Level.STEPS)
def choose_step(game: Game, number: int) -> Game:
    """Point at the first interval of the list just shown that ends in a wrong accumulator.

    Raises:
        MoveError: ``child``: there is no such interval.
    """
    ends = places(game)
    require(0 <= number < len(ends) - 1, "child", number, f"below {len(ends) - 1}")
    first, size = ends[number], ends[number + 1] - ends[number]
    game = replace(game, turn=Turn.OPERATOR, interval=number, index=first, size=size)
    return replace(game, level=Level.LEAF, step=first) if size == 1 else game


@move_of(Turn.OPERATOR, Level.LEAF)
def prove(game: Game, points: bytes, openings: Sequence[Opening]) -> Game:
    """Open the values that the disputed step reads; doing the step on them gives the verdict.

    Args:
        points: the accumulators shown last, among them those before and after the step; nothing
            where there is one step.

    Raises:
        MoveError: ``points``: not what was shown. An opening is missing, superfluous or not under
            its root (reasons of ``judge``). Nothing is judged then, and the operator may try again
            while its clock runs.
    """
    model, first, last = game.model, b"", b""
    if game.interval < 0:
        require(not points, "points", f"{len(points)} bytes", "none were shown")
    else:
        first, last = _ends(game, points)
    good = judge.verdict(
        model.dims,
        game.claim,
        game.place,
        openings,
        weights_root=model.weights_root,
        tables_root=model.tables_root,
        operators_root=game.operators_root,
        ends=(_accumulator(first), _accumulator(last)),
    )
    return replace(game, verdict=Verdict.CHALLENGER_LOSES if good else Verdict.OPERATOR_LOSES)


def statement(domain: Domain, game_id: int, trace_root: bytes, verdict: Verdict) -> bytes:
    """What an arbiter signs, or a proof shows, to end a game of a court at any point (32 bytes)."""
    words = word(domain.chain_id) + word(domain.court) + word(game_id)
    return sha256(b"otr/2/arbitration" + words + trace_root + bytes([verdict])).digest()


def places(game: Game) -> tuple[int, ...]:
    """After how many steps the accumulators of a list are, for the disputed interval of ``game``:
    both ends, and between them at equal distances, ``MOST_INTERVALS`` intervals at most."""
    stride = -(-game.size // MOST_INTERVALS)
    return (*range(game.index, game.index + game.size, stride), game.index + game.size)


def accumulator_bytes(game: Game, entry: Accumulator) -> bytes:
    """An accumulator as lists of the disputed operator have it."""
    return struct.pack(">qq", *entry)[: _width(game)]


def _disputed(game: Game, token: int) -> Game:
    """The game where a dispute begins (``dispute``)."""
    claim = game.claim
    if token == 0:
        return _at_root(game, claim.states_root, claim.positions * game.model.dims.layers)
    if token == TOKENS:
        return _at_root(replace(game, target=TOKEN), claim.tokens_root, claim.positions + 1)
    if token >= STATES:
        leaf, size = token - STATES, claim.positions * game.model.dims.layers
        require(leaf < size, "token", leaf, f"a state below {size}")
        return replace(_at_root(game, NOTHING, 1), leaf=leaf)
    require(0 <= token <= claim.positions, "token", token, f"0 to {claim.positions}")
    return _at_leaf(game, token)


def _at_leaf(game: Game, token: int) -> Game:
    """The dispute about a token, of which the tokens' root is all that is known."""
    return replace(_at_root(game, NOTHING, 1), target=TOKEN, leaf=token)


def _bits(game: Game) -> int:
    """Levels that a round goes down: a program is shown whole."""
    return game.height if game.level == Level.OPERATORS else game.arity_bits


def _at_root(game: Game, node: bytes, size: int) -> Game:
    """The dispute at the root ``node`` of a tree of ``size`` leaves."""
    return replace(game, node=node, index=0, size=size, height=merkle.height(size))


def _is_leaf(game: Game, content: bytes) -> None:
    """Refuse a hash that is not what the disputed leaf commits to."""
    good = len(content) == 32 and merkle.leaf_hash(content) == game.node
    require(good, "content", content.hex(), "what the leaf commits to")


def _is_state(game: Game, content: bytes, path: Sequence[bytes]) -> None:
    """Refuse a hash that is not what the disputed leaf of the states commits to."""
    if game.node != NOTHING:
        _is_leaf(game, content)
        require(not path, "path", f"{len(path)} hashes", "none: the root was walked down")
        return
    require(len(content) == 32, "content", f"{len(content)} bytes", 32)
    leaf, size = merkle.leaf_hash(content), game.claim.positions * game.model.dims.layers
    require_leaf(game.claim.states_root, leaf, game.leaf, size, path, "to the states' root")


def _is_seed(game: Game, seed: bytes) -> None:
    committed = len(seed) == 32 and hash_of_seed(seed) == game.claim.seed_hash
    require(committed, "seed", "another seed", "the committed one")


def _root_shown(game: Game, children: Sequence[bytes]) -> bytes:
    """Root over ``children``, if they are as many as this round must show."""
    _, _, count = merkle.span(game.size, game.height, game.index, _bits(game))
    whole = len(children) == count and all(len(child) == 32 for child in children)
    require(whole, "children", len(children), count)
    return merkle.root_of_hashes(children)


def _shown(game: Game, children: Sequence[bytes]) -> Game:
    """The challenger's turn, if ``children`` are all nodes that this round must show."""
    found = _root_shown(game, children)
    require(found == game.node, "children", found.hex(), game.node.hex())
    return replace(game, turn=Turn.CHALLENGER)


def _program_shown(game: Game, children: Sequence[bytes]) -> Game:
    """The dispute at the root of the program's results, with the leaves of all operators shown."""
    game = _at_root(replace(game, level=Level.OPERATORS), NOTHING, len(game.program))
    root = _root_shown(game, children)
    return replace(game, node=root, operators_root=root, turn=Turn.CHALLENGER)


def _at_layer(game: Game) -> bool:
    return game.target == LAYER and game.height == 0


def _at_token(game: Game) -> bool:
    return game.target == TOKEN and game.height == 0


def _token(game: Game, at: int, data: bytes, path: Sequence[bytes]) -> tuple[bytes, int, int]:
    """Hash, id and number in the answer of token leaf ``at``."""
    require(len(data) == SALT_BYTES + 8, "content", f"{len(data)} bytes", SALT_BYTES + 8)
    claim, leaf = game.claim, merkle.leaf_hash(data)
    if game.target == LAYER or game.node == NOTHING:
        require_leaf(claim.tokens_root, leaf, at, claim.positions + 1, path, "to the tokens' root")
    else:
        require(leaf == game.node and not path, "path", leaf.hex(), game.node.hex())
    token, step = struct.unpack("<II", data[SALT_BYTES:])
    return leaf, token, step


def _valued(game: Game, value: int, node: bytes, steps: int) -> Game:
    """The dispute about the value of an element, which the operator is to account for next.

    Args:
        node: hash of the published tile's leaf; ``NOTHING`` where none was published. steps: in
            which the value was made.
    """
    level, size = (Level.LEAF, 1) if steps == 1 else (Level.STEPS, steps + 1)
    game = replace(game, level=level, turn=Turn.OPERATOR, value=value, node=node)
    return replace(game, height=0, index=0, size=size, step=0, interval=-1)


def _width(game: Game) -> int:
    """Bytes of an accumulator in a list: in a layer no operator carries an index along."""
    return 16 if game.target == TOKEN else 8


def _ends(game: Game, before: bytes) -> tuple[bytes, bytes]:
    """The accumulators at both ends of the disputed interval, out of the list shown last."""
    width = _width(game)
    if game.interval < 0:
        require(not before, "points", f"{len(before)} bytes", "none were shown")
        return bytes(width), accumulator_bytes(game, (game.value, 0))
    require(_list_hash(before) == game.node, "points", "another list", "the one shown last")
    at = width * game.interval
    return before[at : at + width], before[at + width : at + 2 * width]


def _accumulator(entry: bytes) -> Accumulator:
    first, second = struct.unpack(">qq", entry.ljust(16, b"\0"))
    return first, second


def _list_hash(points: bytes) -> bytes:
    """Hash of a list of accumulators; its prefix tells it from a tile."""
    return sha256(b"\x02" + points).digest()


def _tile_values(game: Game) -> int:
    """Values of the disputed tile or piece: the last of a result or row may have fewer."""
    d = game.model.dims
    if game.at_kept:
        row, first = d.piece_place(game.piece)
        return min(pr.PIECE_VALUES, d.row_values(row) - first)
    return min(d.tile, game.program[game.operator].length - game.piece * d.tile)


def _tile(game: Game, data: bytes) -> tuple[int, ...]:
    """The values of a published tile, after checking that it is the disputed one.

    A tile of an operator holds 64-bit big-endian values; a piece of the trace a salt and 32-bit
    little-endian ones.

    Raises:
        MoveError: ``tile length``, ``tile``: other data than the disputed leaf commits to.
    """
    count = _tile_values(game)
    layout, start = (f"<{count}i", SALT_BYTES) if game.at_kept else (f">{count}q", 0)
    length = start + struct.calcsize(layout)
    require(len(data) == length, "tile length", len(data), length)
    require(merkle.leaf_hash(data) == game.node, "tile", "other data", "what the tile's leaf commits to")
    return struct.unpack(layout, data[start:])
