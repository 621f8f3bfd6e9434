"""The execution trace: one salted leaf per (position, layer), committed while generating.

*Positions* are the tokens that were fed to the decoder, 0-based: the P prompt tokens and all but
the last of the G answer tokens, P + G − 1 in all. (The last answer token is chosen, but never fed.)
The leaf of a position and a layer has the number ``position × layers + layer``.

A leaf is itself the root of a small RFC 6962 tree over what later steps read: the layer's output
row, its new key row (rotated, as cached) and its new value row, in this order, each cut into pieces
of 1 KiB. A piece's content is ``salt ‖ bytes`` with salt SHA-256(tag ‖ seed ‖ position ‖ layer ‖
piece). All salts follow from one secret seed, so none is stored; and without its salt nobody can
guess a piece from the hash that the opening of its neighbour shows. Rows are little-endian in the
lane's number format.

Token ids are committed in a second tree, over salted leaves: the P prompt tokens and the G answer
tokens, P + G in all, each with its number among the answer tokens (prompt tokens have ``GIVEN``).
The prompt's salts derive from a seed of the client's, so that the tree begins with the one whose
root, ``prompt_root``, the client has ordered; all other salts derive from the operator's.
The trace root is the RFC 6962 root over three hashes: the root of the states, the root of the
tokens, and the hash of the seed. The last one commits the operator to its seed: whoever is shown
the seed can check every salt.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from otr_core import merkle
from otr_core.errors import InputError, ParameterError, ProofError

if TYPE_CHECKING:
    import numpy as np

PIECE_BYTES = 1024
SALT_BYTES = 32


@dataclass(frozen=True)
class TraceShape:
    """Size of a trace: fed positions, layers, bytes of an output and of a key or value row."""

    positions: int
    layers: int
    output_bytes: int
    kv_bytes: int

    def __post_init__(self) -> None:
        for name in ("positions", "layers", "output_bytes", "kv_bytes"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**32:
                raise ParameterError(f"trace {name}", value, "an integer, 1 to 2^32 - 1")

    @property
    def leaves(self) -> int:
        return self.positions * self.layers

    @property
    def pieces(self) -> int:
        """Pieces under one leaf."""
        return -(-self.output_bytes // PIECE_BYTES) + 2 * -(-self.kv_bytes // PIECE_BYTES)

    def piece_bytes(self, piece: int) -> int:
        """Length of piece number ``piece``."""
        for row in (self.output_bytes, self.kv_bytes, self.kv_bytes):
            count = -(-row // PIECE_BYTES)
            if piece < count:
                return min(PIECE_BYTES, row - piece * PIECE_BYTES)
            piece -= count
        raise InputError(f"piece: found {piece + self.pieces}, expected 0 to {self.pieces - 1}")


@dataclass(frozen=True)
class LayerState:
    """What one layer leaves behind at one position: output, new key and new value row, as bytes."""

    output: bytes
    key: bytes
    value: bytes

    def pieces(self) -> list[bytes]:
        """The pieces under the leaf, in order."""
        rows = (self.output, self.key, self.value)
        return [row[at : at + PIECE_BYTES] for row in rows for at in range(0, len(row), PIECE_BYTES)]


class Recorder(Protocol):
    """Receives what layers leave behind."""

    def absorb(self, layer: int, position: int, output: np.ndarray, key: np.ndarray, value: np.ndarray) -> None:
        """Take rows of layers from ``layer`` on, at positions from ``position`` on.

        Args:
            output, key, value: uint8, each of shape (layers, positions, bytes of a row).
        """


@dataclass(frozen=True)
class Trace:
    """A committed trace.

    Attributes:
        leaves: 32 bytes each, all layers of position 0 first. seed_hash: ``seed_hash`` of the
            salts' seed.
        tokens: token leaves, 40 bytes each, one more than there are positions; empty where only the
            states matter.
    """

    shape: TraceShape
    leaves: tuple[bytes, ...]
    seed_hash: bytes
    tokens: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if len(self.leaves) != self.shape.leaves:
            raise InputError(f"trace: found {len(self.leaves)} leaves, expected {self.shape.leaves}")
        if self.tokens and len(self.tokens) != self.shape.positions + 1:
            raise InputError(f"trace: found {len(self.tokens)} tokens, expected {self.shape.positions + 1}")

    @property
    def states_root(self) -> bytes:
        """RFC 6962 root over the leaves."""
        return merkle.root(self.leaves)

    @property
    def tokens_root(self) -> bytes:
        """RFC 6962 root over the salted token ids."""
        return merkle.root(self.tokens)

    @property
    def root(self) -> bytes:
        """The RFC 6962 root over the two roots and the seed's hash."""
        return merkle.root_of_hashes([self.states_root, self.tokens_root, self.seed_hash])


def check_seed(seed: bytes) -> None:
    """Refuse a seed that is not 32 bytes long: a shorter one could be guessed."""
    if len(seed) != SALT_BYTES:
        raise InputError(f"trace seed: found {len(seed)} bytes, expected {SALT_BYTES}")


def salts(seed: bytes, position: int, layer: int, count: int) -> list[bytes]:
    """The salts of one leaf's ``count`` pieces, 32 bytes each.

    A salt is the plain SHA-256 of an input of fixed length, so that a contract can compute it too.
    """
    start = b"otr/1/salt" + seed + struct.pack("<II", position, layer)
    return [sha256(start + struct.pack("<I", piece)).digest() for piece in range(count)]


def seed_hash(seed: bytes) -> bytes:
    """The hash under the trace root that commits to the seed without telling it."""
    return sha256(b"otr/1/trace-seed" + seed).digest()


def state_leaf(seed: bytes, position: int, layer: int, pieces: Sequence[bytes]) -> bytes:
    """32-byte content of one trace leaf: the RFC 6962 root over the salted pieces."""
    own = salts(seed, position, layer, len(pieces))
    return merkle.root_of_hashes(
        [sha256(b"\x00" + salt + piece).digest() for salt, piece in zip(own, pieces, strict=True)]
    )


#: Salts of token leaves are derived as if they belonged to a layer of this number. No real layer
#: has it, so that no salt of a token is also the salt of a state.
_TOKEN_LAYER = 2**32 - 1

#: Step number of a token that was not chosen but given: one of the prompt.
GIVEN = 2**32 - 1


def token_salt(seed: bytes, at: int) -> bytes:
    """The salt of token leaf ``at``, 32 bytes."""
    return salts(seed, at, _TOKEN_LAYER, 1)[0]


def token_leaf(seed: bytes, at: int, token: int, step: int) -> bytes:
    """Content of token leaf ``at`` (0-based, prompt first), 40 bytes: salt ‖ token id ‖ step.

    Args:
        step: number of the token among the answer's tokens, 0-based; any negative number says that
            the token is the prompt's, and becomes ``GIVEN``. Token id and step are little-endian
            32-bit integers.
    """
    return token_salt(seed, at) + struct.pack("<II", token, step if step >= 0 else GIVEN)


def prompt_leaves(prompt_ids: Sequence[int], prompt_seed: bytes) -> list[bytes]:
    """Token leaves of a prompt, salted from the client's ``prompt_seed`` (32 secret bytes)."""
    check_seed(prompt_seed)
    return [token_leaf(prompt_seed, at, token, -1) for at, token in enumerate(prompt_ids)]


def prompt_root(prompt_ids: Sequence[int], prompt_seed: bytes) -> bytes:
    """RFC 6962 root over the prompt's leaves: what an order says of the prompt. It tells nobody the
    prompt who lacks the seed."""
    return merkle.root(prompt_leaves(prompt_ids, prompt_seed))


def token_leaves(prompt_ids: Sequence[int], prompt_seed: bytes, token_ids: Sequence[int], seed: bytes) -> list[bytes]:
    """All token leaves of an answer: the prompt's, then those of the chosen ``token_ids``, salted
    from the operator's ``seed``."""
    check_seed(seed)
    begin = len(prompt_ids)
    chosen = [token_leaf(seed, begin + step, token, step) for step, token in enumerate(token_ids)]
    return prompt_leaves(prompt_ids, prompt_seed) + chosen


@dataclass(frozen=True)
class PieceOpening:
    """One piece of one leaf, tied to a trace root. It tells nothing about any other piece.

    Attributes:
        position, layer: the leaf. piece: its number in the leaf, counted through output, key and
            value row.
        salt, data: the salt of this piece (32 bytes), and its bytes.
        leaf: the leaf's content, 32 bytes.
        piece_proof, leaf_proof: audit paths from the piece to the leaf, and from the leaf to the
            states' root.
        beside: the other two hashes under the trace root: the tokens' root and the seed's hash.
    """

    position: int
    layer: int
    piece: int
    salt: bytes
    data: bytes
    leaf: bytes
    piece_proof: tuple[bytes, ...]
    leaf_proof: tuple[bytes, ...]
    beside: tuple[bytes, bytes]


def open_piece(trace: Trace, seed: bytes, position: int, layer: int, piece: int, state: LayerState) -> PieceOpening:
    """Open one piece of a leaf whose ``state`` was rebuilt by running the answer again.

    Raises:
        ProofError: the rebuilt state is not the one that was committed.
    """
    index = check_state(trace, seed, position, layer, state)
    pieces = state.pieces()
    own = salts(seed, position, layer, len(pieces))
    salted = [salt + content for salt, content in zip(own, pieces, strict=True)]
    return PieceOpening(
        position,
        layer,
        piece,
        own[piece],
        pieces[piece],
        trace.leaves[index],
        tuple(merkle.inclusion_proof(salted, piece)),
        tuple(merkle.inclusion_proof(trace.leaves, index)),
        (trace.tokens_root, trace.seed_hash),
    )


def check_state(trace: Trace, seed: bytes, position: int, layer: int, state: LayerState) -> int:
    """Index of leaf (``position``, ``layer``), after checking that the leaf commits to ``state``.

    Raises:
        ProofError: there is no such leaf, or it commits to another state.
    """
    index = _leaf_index(trace.shape, position, layer)
    if state_leaf(seed, position, layer, state.pieces()) != trace.leaves[index]:
        raise ProofError(f"leaf ({position}, {layer}): the rebuilt state is not the committed one")
    return index


def verify_opening(root: bytes, shape: TraceShape, opening: PieceOpening) -> None:
    """Check an opened piece against a trace root, in this order:

    1. Position, layer and piece lie within the trace's shape, and data and salt have their lengths.
    2. The piece is under the leaf.
    3. The leaf is under the states' root, and with the two hashes beside it this root gives
       ``root``.

    Raises:
        ProofError: one of these does not hold.
    """
    # 1. Position, layer and piece lie within the trace's shape, and data and salt have their
    # lengths.
    index = _leaf_index(shape, opening.position, opening.layer)
    if not 0 <= opening.piece < shape.pieces:
        raise ProofError(f"piece: found {opening.piece}, expected 0 to {shape.pieces - 1}")
    if len(opening.data) != shape.piece_bytes(opening.piece) or len(opening.salt) != SALT_BYTES:
        found = f"{len(opening.data)} bytes under a {len(opening.salt)}-byte salt"
        raise ProofError(f"piece {opening.piece}: found {found}")

    # 2. The piece is under the leaf.
    piece = merkle.leaf_hash(opening.salt + opening.data)
    merkle.verify_inclusion(opening.leaf, piece, opening.piece, shape.pieces, opening.piece_proof)

    # 3. The leaf is under the states' root, and with the two hashes beside it this root gives
    # ``root``.
    leaf_hash = merkle.leaf_hash(opening.leaf)
    states_root = merkle.root_of_inclusion(leaf_hash, index, shape.leaves, opening.leaf_proof)
    if any(len(each) != merkle.HASH_BYTES for each in opening.beside) or len(opening.beside) != 2:
        raise ProofError(f"hashes beside the states' root: found {opening.beside}, expected two of 32 bytes")
    if merkle.root_of_hashes([states_root, *opening.beside]) != root:
        raise ProofError(f"leaf ({opening.position}, {opening.layer}): not under the trace root {root.hex()}")


def _leaf_index(shape: TraceShape, position: int, layer: int) -> int:
    if not (0 <= position < shape.positions and 0 <= layer < shape.layers):
        expected = f"position below {shape.positions} and layer below {shape.layers}"
        raise ProofError(f"leaf ({position}, {layer}): expected {expected}")
    return position * shape.layers + layer
