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
    LayerState,
    StateKeeper,
    Trace,
    TraceRecorder,
    TraceShape,
    open_piece,
    salts,
    verify_opening,
)

SEED = bytes(range(32))


def states(positions: int, layers: int, output: int, kv: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(3)
    return tuple(rng.integers(0, 256, (layers, positions, width), dtype=np.uint8) for width in (output, kv, kv))


def record(arrays: tuple[np.ndarray, ...], splits: list[int]) -> Trace:
    """Absorb positions in runs that end at ``splits``, alternately all layers at once and layer by
    layer."""
    recorder, begin = TraceRecorder(SEED), 0
    for turn, end in enumerate(splits):
        step = len(arrays[0]) if turn % 2 else 1
        for layer in range(0, len(arrays[0]), step):
            recorder.absorb(layer, begin, *(array[layer : layer + step, begin:end] for array in arrays))
        begin = end
    return recorder.finish()


def second_opinion(arrays: tuple[np.ndarray, ...]) -> bytes:
    """The definition, with none of the code under test but RFC 6962 itself."""
    layers, positions, _ = arrays[0].shape
    leaves = []
    for position in range(positions):
        for layer in range(layers):
            pieces = []
            for array in arrays:
                row = array[layer, position].tobytes()
                for at in range(0, len(row), 1024):
                    where = b"otr/1/salt" + SEED + struct.pack("<III", position, layer, len(pieces))
                    pieces.append(hashlib.sha256(where).digest() + row[at : at + 1024])
            leaves.append(merkle.root(pieces))
    both = hashlib.sha256(b"\x01" + merkle.root(leaves) + hashlib.sha256(b"").digest()).digest()
    return hashlib.sha256(b"\x01" + both + hashlib.sha256(b"otr/1/trace-seed" + SEED).digest()).digest()


@pytest.mark.parametrize(("output", "kv"), [(2304, 768), (1024, 1024), (100, 4), (2049, 1025)])
def test_root_is_the_definition_however_it_is_fed(output: int, kv: int) -> None:
    arrays = states(7, 3, output, kv)
    expected = second_opinion(arrays)
    for splits in ([7], [3, 4, 7], [1, 2, 3, 4, 5, 6, 7]):
        trace = record(arrays, splits)
        assert trace.root == expected
        assert trace.shape == TraceShape(7, 3, output, kv)


@settings(max_examples=30)
@given(st.data())
def test_every_piece_opens_and_no_altered_one_does(data: st.DataObject) -> None:
    arrays = states(3, 2, 2304, 768)
    trace = record(arrays, [3])
    position, layer = data.draw(st.integers(0, 2)), data.draw(st.integers(0, 1))
    piece = data.draw(st.integers(0, trace.shape.pieces - 1))
    state = LayerState(*(array[layer, position].tobytes() for array in arrays))
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
    trace = record(arrays, [2])
    state = LayerState(*(array[0, 1].tobytes() for array in arrays))
    with pytest.raises(ProofError, match="not the committed one"):
        open_piece(trace, SEED, 1, 0, 0, replace(state, value=bytes(32)))
    with pytest.raises(ProofError, match="not the committed one"):
        open_piece(trace, bytes(32), 1, 0, 0, state)


def test_salts_hide_equal_states_from_each_other() -> None:
    """Two leaves over the same bytes look unrelated, so an opened leaf tells nothing about its
    neighbours."""
    zeros = tuple(np.zeros((2, 2, width), np.uint8) for width in (64, 32, 32))
    assert len(set(record(zeros, [2]).leaves)) == 4


def test_positions_must_come_in_order_and_for_all_layers() -> None:
    arrays = states(2, 2, 64, 32)
    recorder = TraceRecorder(SEED)
    with pytest.raises(InputError, match="found position 1, expected 0"):
        recorder.absorb(0, 1, *(array[:1] for array in arrays))
    recorder.absorb(0, 0, *(array[:1] for array in arrays))
    recorder.absorb(1, 0, *(array[1:, :1] for array in arrays))
    with pytest.raises(InputError, match="different numbers"):
        recorder.finish()
    with pytest.raises(InputError, match="different numbers"):
        TraceRecorder(SEED).finish()


def test_guessable_seed_and_wrong_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="found 31 bytes"):
        TraceRecorder(bytes(31))
    with pytest.raises(ParameterError, match="layers"):
        TraceShape(1, 0, 4, 4)
    with pytest.raises(InputError, match="found 1 leaves, expected 2"):
        Trace(TraceShape(1, 2, 4, 4), (bytes(32),), bytes(32))
    with pytest.raises(InputError, match="piece"):
        TraceShape(1, 1, 4, 4).piece_bytes(3)


def test_keeper_keeps_only_what_is_wanted() -> None:
    arrays = states(5, 3, 64, 32)
    keeper = StateKeeper([(4, 2), (0, 0)])
    for layer in range(3):
        keeper.absorb(layer, 0, *(array[layer : layer + 1] for array in arrays))
    assert keeper.states.keys() == {(4, 2), (0, 0)}
    assert keeper.states[4, 2].key == arrays[1][2, 4].tobytes()


def test_token_ids_are_committed_beside_the_states() -> None:
    arrays = states(2, 2, 64, 32)
    recorder = TraceRecorder(SEED)
    recorder.absorb(0, 0, *arrays)
    trace = recorder.finish([5, 7, 9], 2)
    for at, (token, step) in enumerate([(5, 2**32 - 1), (7, 2**32 - 1), (9, 0)]):
        salt = hashlib.sha256(b"otr/1/salt" + SEED + struct.pack("<III", at, 2**32 - 1, 0)).digest()
        assert trace.tokens[at] == salt + struct.pack("<II", token, step)
    assert len({recorder.finish(*given).root for given in (([5, 7, 9], 2), ([5, 7, 8], 2), ([5, 7, 9], 1))}) == 3
    with pytest.raises(InputError, match="found 2 tokens, expected 3"):
        recorder.finish([5, 7])
