from __future__ import annotations

import hashlib
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otr_core import merkle
from otr_core.errors import InputError, ParameterError, ProofError
from otr_core.poea.trace import (
    GIVEN,
    LayerState,
    PieceOpening,
    Trace,
    TraceShape,
    check_state,
    open_piece,
    prompt_leaves,
    prompt_root,
    salts,
    seed_hash,
    state_leaf,
    token_leaf,
    token_leaves,
    verify_opening,
)

SEED = bytes(range(32))


def states(positions: int, layers: int, output: int, kv: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(3)
    return tuple(rng.integers(0, 256, (layers, positions, width), dtype=np.uint8) for width in (output, kv, kv))


def state_at(arrays: tuple[np.ndarray, ...], position: int, layer: int) -> LayerState:
    return LayerState(*(array[layer, position].tobytes() for array in arrays))


def commit(arrays: tuple[np.ndarray, ...]) -> Trace:
    """The trace of states, leaf by leaf."""
    layers, positions, output = arrays[0].shape
    places = [(position, layer) for position in range(positions) for layer in range(layers)]
    leaves = tuple(state_leaf(SEED, *place, state_at(arrays, *place).pieces()) for place in places)
    return Trace(TraceShape(positions, layers, output, arrays[1].shape[2]), leaves, seed_hash(SEED))


@settings(max_examples=30)
@given(st.data())
def test_every_piece_opens_and_no_altered_one_does(data: st.DataObject) -> None:
    arrays = states(3, 2, 2304, 768)
    trace = commit(arrays)
    position, layer = data.draw(st.integers(0, 2)), data.draw(st.integers(0, 1))
    piece = data.draw(st.integers(0, trace.shape.pieces - 1))
    state = state_at(arrays, position, layer)
    opening = open_piece(trace, SEED, position, layer, piece, state)
    assert opening.data == state.pieces()[piece]
    verify_opening(trace.root, trace.shape, opening)
    at = data.draw(st.integers(0, len(opening.data) - 1))
    bad = [
        replace(opening, data=opening.data[:at] + bytes([opening.data[at] ^ 1]) + opening.data[at + 1 :]),
        replace(opening, salt=salts(SEED, position, layer, piece + 2)[-1]),
        replace(opening, leaf=bytes(32)),
        replace(opening, piece=(piece + 1) % trace.shape.pieces),
        replace(opening, layer=1 - layer),
        replace(opening, position=(position + 1) % 3),
        replace(opening, position=3),
        replace(opening, layer=-1),
        replace(opening, piece=trace.shape.pieces),
        replace(opening, data=opening.data + b"\0"),
        replace(opening, salt=opening.salt[:-1], data=opening.salt[-1:] + opening.data),
        replace(opening, piece_proof=opening.piece_proof[:-1]),
        replace(opening, leaf_proof=(*opening.leaf_proof, bytes(32))),
    ]
    for altered in bad:
        with pytest.raises(ProofError):
            verify_opening(trace.root, trace.shape, altered)
    for beside in ((bytes(32), trace.seed_hash), (trace.tokens_root, b""), (trace.tokens_root,), ()):
        with pytest.raises(ProofError):
            verify_opening(trace.root, trace.shape, replace(opening, beside=beside))
    with pytest.raises(ProofError):
        verify_opening(bytes(32), trace.shape, opening)


def test_a_wrongly_rebuilt_state_does_not_open() -> None:
    arrays = states(2, 2, 64, 32)
    trace = commit(arrays)
    state = state_at(arrays, 1, 0)
    with pytest.raises(ProofError, match="not the committed one"):
        open_piece(trace, SEED, 1, 0, 0, replace(state, value=bytes(32)))
    with pytest.raises(ProofError, match="not the committed one"):
        open_piece(trace, bytes(32), 1, 0, 0, state)


def test_salts_hide_equal_states_from_each_other() -> None:
    """Two leaves over the same bytes look unrelated, so an opened leaf tells nothing about its
    neighbours."""
    zeros = tuple(np.zeros((2, 2, width), np.uint8) for width in (64, 32, 32))
    assert len(set(commit(zeros).leaves)) == 4


def forged(salt: bytes, data: bytes, beside: tuple[bytes, ...] = (bytes(32), bytes(32))) -> tuple[bytes, PieceOpening]:
    """(root, opening) of a committer who is free: one leaf over one piece, and whatever else it
    likes. Shape: 1 position, 1 layer, rows of 40 and twice 8 bytes."""
    others = [merkle.leaf_hash(b"key"), merkle.leaf_hash(b"value")]
    leaf = merkle.root_of_hashes([merkle.leaf_hash(salt + data), *others])
    root = merkle.root_of_hashes([merkle.root([leaf]), *beside])
    path = tuple(merkle.inclusion_proof_of_hashes([merkle.leaf_hash(salt + data), *others], 0))
    return root, PieceOpening(0, 0, 0, salt, data, leaf, path, (), beside)  # type: ignore[arg-type]


def test_a_piece_has_its_length_and_its_salt_whatever_was_committed() -> None:
    """A committer may put a leaf over anything under its root; only lengths tell that it is no
    piece."""
    shape = TraceShape(1, 1, 40, 8)
    verify_opening(forged(bytes(32), bytes(40))[0], shape, forged(bytes(32), bytes(40))[1])
    for salt, data in ((32, 39), (32, 41), (32, 0), (31, 40), (33, 40), (0, 40), (31, 41), (33, 39), (0, 72)):
        root, opening = forged(bytes(salt), bytes(data))
        with pytest.raises(ProofError, match=f"piece 0: found {data} bytes under a {salt}-byte salt"):
            verify_opening(root, shape, opening)


def test_two_hashes_stand_beside_the_states_root_whatever_was_committed() -> None:
    shape, one = TraceShape(1, 1, 40, 8), bytes(32)
    for beside in ((), (one,), (one, one, one), (bytes(33), one), (one, bytes(31)), (bytes(96), one), (one, b"")):
        root, opening = forged(bytes(32), bytes(40), beside)
        with pytest.raises(ProofError, match="beside the states' root"):
            verify_opening(root, shape, opening)


def test_a_leaf_goes_by_one_place_only() -> None:
    """Leaf (1, 0) has number 2 of 6, and so would (0, 2) and (2, -2)."""
    arrays = states(3, 2, 64, 32)
    trace = commit(arrays)
    opening = open_piece(trace, SEED, 1, 0, 0, state_at(arrays, 1, 0))
    verify_opening(trace.root, trace.shape, opening)
    for position, layer in ((0, 2), (2, -2), (-1, 4), (3, -4), (3, 0), (-1, 0)):
        with pytest.raises(ProofError, match="expected position below 3 and layer below 2"):
            verify_opening(trace.root, trace.shape, replace(opening, position=position, layer=layer))
        with pytest.raises(ProofError, match="expected position below 3 and layer below 2"):
            check_state(trace, SEED, position, layer, state_at(arrays, 1, 0))


def test_a_piece_outside_the_leaf_is_no_piece() -> None:
    arrays = states(1, 1, 64, 32)
    trace = commit(arrays)
    opening = open_piece(trace, SEED, 0, 0, 2, state_at(arrays, 0, 0))
    for piece in (-1, 3, 2**32):
        with pytest.raises(ProofError, match=f"piece: found {piece}, expected 0 to 2"):
            verify_opening(trace.root, trace.shape, replace(opening, piece=piece))


def test_a_leaf_of_another_trace_is_refused_by_each_path() -> None:
    arrays, others = states(2, 2, 64, 32), tuple(array ^ 1 for array in states(2, 2, 64, 32))
    trace, other = commit(arrays), commit(others)
    opening = open_piece(trace, SEED, 1, 1, 0, state_at(arrays, 1, 1))
    foreign = open_piece(other, SEED, 1, 1, 0, state_at(others, 1, 1))
    with pytest.raises(ProofError, match="root: computed"):  # the piece is not under the leaf
        verify_opening(trace.root, trace.shape, replace(opening, data=foreign.data))
    with pytest.raises(ProofError, match="not under the trace root"):  # the leaf not under the root
        verify_opening(trace.root, trace.shape, foreign)


@pytest.mark.parametrize("name", ["positions", "layers", "output_bytes", "kv_bytes"])
@pytest.mark.parametrize("value", [0, -1, 2**32, 1.0, True, "1", None])
def test_sizes_of_a_trace_are_counts(name: str, value: object) -> None:
    TraceShape(**{"positions": 1, "layers": 1, "output_bytes": 1, "kv_bytes": 1, name: 2**32 - 1})
    with pytest.raises(ParameterError, match=f"trace {name}"):
        TraceShape(**{"positions": 1, "layers": 1, "output_bytes": 1, "kv_bytes": 1, name: value})  # type: ignore[arg-type]


def test_a_trace_has_the_leaves_and_tokens_of_its_shape() -> None:
    shape, leaf, token = TraceShape(1, 2, 4, 4), bytes(32), bytes(40)
    for count in (0, 1, 3):
        with pytest.raises(InputError, match=f"found {count} leaves, expected 2"):
            Trace(shape, (leaf,) * count, bytes(32))
    for count in (1, 3):
        with pytest.raises(InputError, match=f"found {count} tokens, expected 2"):
            Trace(shape, (leaf, leaf), bytes(32), (token,) * count)
    assert Trace(shape, (leaf, leaf), bytes(32), (token, token)).tokens_root == merkle.root([token, token])
    for piece in (3, 4):
        with pytest.raises(InputError, match=f"piece: found {piece}, expected 0 to 2"):
            shape.piece_bytes(piece)


def test_an_order_begins_the_token_tree() -> None:
    """The root over the prompt's leaves is that of the first leaves of every answer, and depends on
    the client's seed alone."""
    prompt, chosen, secret = [5, 7, 5], [9, 5], bytes(range(32, 64))
    leaves = token_leaves(prompt, secret, chosen, SEED)
    for at, (seed, token, step) in enumerate(
        [(secret, 5, GIVEN), (secret, 7, GIVEN), (secret, 5, GIVEN), (SEED, 9, 0), (SEED, 5, 1)]
    ):
        salt = hashlib.sha256(b"otr/1/salt" + seed + struct.pack("<III", at, 2**32 - 1, 0)).digest()
        assert leaves[at] == salt + struct.pack("<II", token, step)
    assert token_leaf(SEED, 0, 5, -2)[-4:] == struct.pack("<I", GIVEN)
    assert prompt_leaves(prompt, secret) == leaves[:3] == token_leaves(prompt, secret, [8], bytes(32))[:3]
    assert prompt_root(prompt, secret) == merkle.root(leaves[:3]) != prompt_root(prompt, SEED)
    proof = merkle.consistency_proof(leaves, 3)
    merkle.verify_consistency(prompt_root(prompt, secret), merkle.root(leaves), 3, 5, proof)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_guessable_seeds_are_refused(size: int) -> None:
    for call in (
        lambda seed: prompt_leaves([], seed),
        lambda seed: prompt_root([5], seed),
        lambda seed: token_leaves([5], seed, [], SEED),
        lambda seed: token_leaves([5], SEED, [], seed),
    ):
        with pytest.raises(InputError, match=f"trace seed: found {size} bytes, expected 32"):
            call(bytes(size))
