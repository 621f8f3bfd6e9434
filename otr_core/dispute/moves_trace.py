"""Moves about the seed and the trace: what is disputed, and what its leaves commit to.

Levels SEED and TRACE of the table in ``game``; the nodes of the trace's trees are shown and pointed
at with ``bisect`` and ``choose`` of ``moves_operators``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace

from otr_core import merkle
from otr_core.dispute.rules import (
    at_leaf,
    at_root,
    move_of,
    require,
    require_content,
    require_leaf,
    require_seed,
    root_shown,
)
from otr_core.dispute.state import NOTHING, STATES, TOKENS, Game, Level, Turn, Verdict
from otr_core.errors import MoveError, ProofError
from otr_core.lane.element import LAYER, TOKEN
from otr_core.poea.receipt import FINISHES
from otr_core.poea.trace import GIVEN, SALT_BYTES

STOPPED = FINISHES.index("stop")


@move_of(Turn.OPERATOR, Level.SEED)
def reveal_seed(game: Game, seed: bytes) -> Game:
    """Show the seed from which the trace's salts derive.

    Without it nobody can rebuild the leaves. An operator that has committed to a hash of nothing, or
    keeps the seed to itself, runs out of time here.

    Raises:
        MoveError: ``seed``: not the one that the receipt commits to.
    """
    require_seed(game, seed)
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
    return dispute_begun(replace(game, level=Level.TRACE, turn=Turn.OPERATOR), token)


@move_of(Turn.CHALLENGER, Level.SEED)
def retract(game: Game) -> Game:
    """Dispute nothing, now that the seed is known and the trace is right: nobody loses anything.

    A response with another seed than the statement's looks like fraud to whoever gets it, and only
    who can open the response can judge it.
    """
    return replace(game, verdict=Verdict.WITHDRAWN)


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
    _require_state(game, content, path)
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
    _require_state(game, content, path)
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


def dispute_begun(game: Game, token: int) -> Game:
    """The game where a dispute begins (``dispute``)."""
    claim = game.claim
    if token == 0:
        return at_root(game, claim.states_root, claim.positions * game.model.dims.layers)
    if token == TOKENS:
        return at_root(replace(game, target=TOKEN), claim.tokens_root, claim.positions + 1)
    if token >= STATES:
        leaf, size = token - STATES, claim.positions * game.model.dims.layers
        require(leaf < size, "token", leaf, f"a state below {size}")
        return replace(at_root(game, NOTHING, 1), leaf=leaf)
    require(0 <= token <= claim.positions, "token", token, f"0 to {claim.positions}")
    return at_leaf(game, token)


def _at_layer(game: Game) -> bool:
    return game.target == LAYER and game.height == 0


def _at_token(game: Game) -> bool:
    return game.target == TOKEN and game.height == 0


def _require_state(game: Game, content: bytes, path: Sequence[bytes]) -> None:
    """Refuse a hash that is not what the disputed leaf of the states commits to."""
    if game.node != NOTHING:
        require_content(game, content)
        require(not path, "path", f"{len(path)} hashes", "none: the root was walked down")
        return
    require(len(content) == 32, "content", f"{len(content)} bytes", 32)
    leaf, size = merkle.leaf_hash(content), game.claim.positions * game.model.dims.layers
    require_leaf(game.claim.states_root, leaf, game.leaf, size, path, "to the states' root")


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


def _program_shown(game: Game, children: Sequence[bytes]) -> Game:
    """The dispute at the root of the program's results, with the leaves of all operators shown."""
    game = at_root(replace(game, level=Level.OPERATORS), NOTHING, len(game.program))
    root = root_shown(game, children)
    return replace(game, node=root, operators_root=root, turn=Turn.CHALLENGER)
