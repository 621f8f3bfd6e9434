"""The trace recorder: what it commits to, that hashing elsewhere changes no byte, and what happens
when the process that hashes fails."""

from __future__ import annotations

import hashlib
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otr_core import merkle
from otr_core.errors import InputError, RecorderError
from otr_core.poea.trace import GIVEN, Trace, TraceShape, prompt_leaves, prompt_root
from otr_node.hashing import COLLECT, DONE, FAILED, FRAME, OPEN, REPLY, ROWS
from otr_node.hashing_process import FRAME_BYTES, RING_BYTES, HashingProcess, shared_process
from otr_node.recorder import StateKeeper, TraceRecorder, open_recorder

SEED, PROMPT_SEED = bytes(range(32)), bytes(range(32, 64))
Arrays = tuple[np.ndarray, ...]


@pytest.fixture(scope="module")
def process() -> Iterator[HashingProcess]:
    """A process that hashes, for this module alone."""
    started = HashingProcess()
    yield started
    started.close()


def states(positions: int, layers: int, output: int, kv: int) -> Arrays:
    rng = np.random.default_rng(3)
    return tuple(rng.integers(0, 256, (layers, positions, width), dtype=np.uint8) for width in (output, kv, kv))


def absorb(recorder: TraceRecorder, arrays: Arrays, splits: list[int]) -> TraceRecorder:
    """Feed positions in runs that end at ``splits``, alternately layer by layer and all layers at
    once."""
    begin = 0
    for turn, end in enumerate(splits):
        step = len(arrays[0]) if turn % 2 else 1
        for layer in range(0, len(arrays[0]), step):
            recorder.absorb(layer, begin, *(array[layer : layer + step, begin:end] for array in arrays))
        begin = end
    return recorder


def second_opinion(arrays: Arrays) -> tuple[list[bytes], bytes]:
    """Leaves and the root without tokens, by the definition: with none of the code under test but
    RFC 6962 itself."""
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
    return leaves, hashlib.sha256(b"\x01" + both + hashlib.sha256(b"otr/1/trace-seed" + SEED).digest()).digest()


def second_opinion_digest(arrays: Arrays, token_ids: list[int], prompt_tokens: int) -> bytes:
    layers, positions, output = arrays[0].shape
    numbers = (positions, layers, output, arrays[1].shape[2], prompt_tokens, len(token_ids), *token_ids)
    text = struct.pack(f"<{len(numbers)}I", *numbers)
    for position in range(positions):
        for layer in range(layers):
            text += hashlib.sha256(b"".join(array[layer, position].tobytes() for array in arrays)).digest()
    return hashlib.sha256(b"\x0fotr/1/execution" + text).digest()


# what is committed


@pytest.mark.parametrize(("output", "kv"), [(2304, 768), (1024, 1024), (100, 4), (2049, 1025)])
def test_root_is_the_definition_however_it_is_fed(output: int, kv: int, process: HashingProcess) -> None:
    arrays = states(7, 3, output, kv)
    leaves, root = second_opinion(arrays)
    for splits in ([7], [3, 4, 7], [1, 2, 3, 4, 5, 6, 7]):
        for where in (None, process):
            trace = absorb(TraceRecorder(SEED, process=where), arrays, splits).finish()
            assert list(trace.leaves) == leaves
            assert trace.root == root
            assert trace.shape == TraceShape(7, 3, output, kv)


@given(st.data())
def test_hashing_elsewhere_changes_no_byte(data: st.DataObject) -> None:
    positions, layers = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 4))
    arrays = states(positions, layers, data.draw(st.integers(1, 3000)), data.draw(st.integers(1, 1500)))
    splits = [*sorted(data.draw(st.sets(st.integers(1, positions - 1)))), positions] if positions > 1 else [1]
    prompt, digest = data.draw(st.integers(0, positions + 1)), data.draw(st.booleans())
    ids = data.draw(st.lists(st.integers(0, GIVEN), min_size=positions + 1, max_size=positions + 1))
    found = []
    for recorder in (TraceRecorder(SEED, digest=digest), open_recorder(SEED, digest=digest)):
        absorb(recorder, arrays, splits)
        found.append((recorder.finish(ids, prompt, PROMPT_SEED), recorder.execution_digest))
    assert found[0] == found[1]
    assert found[0][1] == (second_opinion_digest(arrays, ids, prompt) if digest else None)


def test_more_states_than_one_frame_holds_change_no_byte(process: HashingProcess) -> None:
    """Frames are cut by positions where one layer is long, and by layers where all are."""
    arrays = states(300, 3, 4096, 1024)
    assert arrays[0][0].nbytes > FRAME_BYTES
    expected = absorb(TraceRecorder(SEED), arrays, [300]).finish()
    assert absorb(TraceRecorder(SEED, process=process), arrays, [300]).finish() == expected
    at_once = TraceRecorder(SEED, process=process)
    at_once.absorb(0, 0, *arrays)
    assert at_once.finish() == expected


def test_answers_that_are_computed_together_are_kept_apart(process: HashingProcess) -> None:
    first, second = states(4, 2, 64, 32), tuple(array[:, ::-1] for array in states(4, 2, 64, 32))
    recorders = [TraceRecorder(SEED, process=process) for _ in range(2)]
    for position in range(4):
        for recorder, arrays in zip(recorders, (first, second), strict=True):
            recorder.absorb(0, position, *(array[:, position : position + 1] for array in arrays))
    for recorder, arrays in zip(recorders, (first, second), strict=True):
        assert list(recorder.finish().leaves) == second_opinion(arrays)[0]


def test_positions_must_come_in_order_and_for_all_layers(process: HashingProcess) -> None:
    arrays = states(2, 2, 64, 32)
    for where in (None, process):
        recorder = TraceRecorder(SEED, process=where)
        with pytest.raises(InputError, match="found position 1, expected 0"):
            recorder.absorb(0, 1, *(array[:1] for array in arrays))
        recorder.absorb(0, 0, *(array[:1] for array in arrays))
        with pytest.raises(InputError, match="layer 0: found position 0, expected 2"):
            recorder.absorb(0, 0, *(array[:1] for array in arrays))
        recorder.absorb(1, 0, *(array[1:, :1] for array in arrays))
        with pytest.raises(InputError, match="different numbers"):
            recorder.finish()
        recorder.absorb(1, 1, *(array[1:, 1:] for array in arrays))
        assert list(recorder.finish().leaves) == second_opinion(arrays)[0]
        with pytest.raises(InputError, match="different numbers"):
            TraceRecorder(SEED, process=where).finish()


def test_rows_must_fit_each_other_and_those_before() -> None:
    output, key, value = states(1, 1, 64, 32)
    for rows in ((output, key, value[..., :31]), (output, np.repeat(key, 2, 1), value), (output, key[:0], value)):
        with pytest.raises(InputError, match="trace rows"):
            TraceRecorder(SEED).absorb(0, 0, *rows)
    recorder = TraceRecorder(SEED)
    recorder.absorb(0, 0, output, key, value)
    for changed in ((output[..., :60], key, value), (output, key[..., :28], value[..., :28])):
        with pytest.raises(InputError, match="trace rows"):
            recorder.absorb(0, 1, *changed)


def test_guessable_seeds_are_refused() -> None:
    with pytest.raises(InputError, match="found 31 bytes"):
        TraceRecorder(bytes(31))
    recorder = absorb(TraceRecorder(SEED), states(1, 1, 4, 4), [1])
    with pytest.raises(InputError, match="found 33 bytes"):
        recorder.finish([1, 2], 1, bytes(33))


def test_token_ids_are_committed_beside_the_states() -> None:
    recorder = absorb(TraceRecorder(SEED), states(2, 2, 64, 32), [2])

    def leaf(seed: bytes, at: int, token: int, step: int) -> bytes:
        salt = hashlib.sha256(b"otr/1/salt" + seed + struct.pack("<III", at, 2**32 - 1, 0)).digest()
        return salt + struct.pack("<II", token, step)

    expected = [(0, 5, 2**32 - 1), (1, 7, 2**32 - 1), (2, 9, 0)]
    assert recorder.finish([5, 7, 9], 2).tokens == tuple(leaf(SEED, *each) for each in expected)
    ordered = recorder.finish([5, 7, 9], 2, PROMPT_SEED).tokens
    assert ordered == (*(leaf(PROMPT_SEED, *each) for each in expected[:2]), leaf(SEED, *expected[2]))
    assert list(ordered[:2]) == prompt_leaves([5, 7], PROMPT_SEED)
    assert merkle.root(ordered[:2]) == prompt_root([5, 7], PROMPT_SEED)
    assert len({recorder.finish(*given).root for given in (([5, 7, 9], 2), ([5, 7, 8], 2), ([5, 7, 9], 1))}) == 3
    with pytest.raises(InputError, match="found 2 tokens, expected 3"):
        recorder.finish([5, 7])


def test_execution_digest_knows_states_and_tokens_but_no_seed(process: HashingProcess) -> None:
    arrays = states(3, 2, 64, 32)

    def digest(changed: Arrays, seed: bytes, *finish: object) -> bytes | None:
        recorder = absorb(TraceRecorder(seed, digest=True, process=process), changed, [3])
        recorder.finish(*finish)  # type: ignore[arg-type]
        return recorder.execution_digest

    plain = digest(arrays, SEED, [1, 2, 3, 4], 2)
    assert plain == second_opinion_digest(arrays, [1, 2, 3, 4], 2)
    assert digest(arrays, PROMPT_SEED, [1, 2, 3, 4], 2, SEED) == plain
    other = tuple(array.copy() for array in arrays)
    other[2][1, 2, -1] ^= 1
    changes = [digest(other, SEED, [1, 2, 3, 4], 2), digest(arrays, SEED, [1, 2, 3, 5], 2)]
    changes.append(digest(arrays, SEED, [1, 2, 3, 4], 3))
    assert len({plain, *changes}) == 4


def test_keeper_keeps_only_what_is_wanted() -> None:
    arrays = states(5, 3, 64, 32)
    keeper = StateKeeper([(4, 2), (0, 0)])
    for layer in range(3):
        keeper.absorb(layer, 0, *(array[layer : layer + 1] for array in arrays))
    assert keeper.states.keys() == {(4, 2), (0, 0)}
    assert keeper.states[4, 2].key == arrays[1][2, 4].tobytes()


# the process that hashes


def feed_forever(recorder: TraceRecorder) -> None:
    """Positions from 2 on, one layer after the other."""
    row, position, end = states(1, 2, 64, 32), 2, time.monotonic() + 30
    while time.monotonic() < end:
        recorder.absorb(0, position, *row)
        position += 1


def test_a_process_killed_mid_answer_is_a_named_error_and_the_next_answer_has_a_new_one() -> None:
    before = shared_process()
    assert before is not None
    waiting, recorder = (absorb(open_recorder(SEED), states(2, 2, 64, 32), [2]) for _ in range(2))
    os.kill(before.pid, signal.SIGKILL)
    with pytest.raises(RecorderError, match="gone"):
        feed_forever(recorder)
    with pytest.raises(RecorderError, match="gone"):
        waiting.finish()
    after = shared_process()
    assert after is not None
    assert after.pid != before.pid
    arrays = states(2, 2, 64, 32)
    assert list(absorb(open_recorder(SEED), arrays, [2]).finish().leaves) == second_opinion(arrays)[0]


def test_a_process_killed_before_its_leaves_are_fetched_is_a_named_error() -> None:
    own = HashingProcess()
    recorder = absorb(TraceRecorder(SEED, process=own), states(2, 2, 64, 32), [2])
    os.kill(own.pid, signal.SIGKILL)
    with pytest.raises(RecorderError, match="gone"):
        recorder.finish()
    with pytest.raises(RecorderError, match="gone"):
        TraceRecorder(SEED, process=own)


def absorb_more_than_the_ring(recorder: TraceRecorder) -> None:
    recorder.absorb(0, 2, *(np.zeros((2, RING_BYTES // 200, width), np.uint8) for width in (64, 32, 32)))


@pytest.mark.parametrize("work", [feed_forever, absorb_more_than_the_ring, TraceRecorder.finish])
def test_a_process_that_stands_still_is_a_named_error(work: Callable[[TraceRecorder], object]) -> None:
    """Nothing is waited for without end: neither the pipe, nor the ring, nor the leaves."""
    own = HashingProcess(stall_s=2)
    recorder = absorb(TraceRecorder(SEED, process=own), states(2, 2, 64, 32), [2])
    os.kill(own.pid, signal.SIGSTOP)
    with pytest.raises(RecorderError, match=r"standing still for 2 s"):
        work(recorder)
    assert not own.running


def test_a_process_killed_while_the_ring_is_full_is_a_named_error() -> None:
    own = HashingProcess()
    recorder = absorb(TraceRecorder(SEED, process=own), states(2, 2, 64, 32), [2])
    os.kill(own.pid, signal.SIGSTOP)
    killer = threading.Timer(1.0, os.kill, (own.pid, signal.SIGKILL))
    killer.start()
    with pytest.raises(RecorderError, match="gone"):
        absorb_more_than_the_ring(recorder)
    killer.join()


def test_what_the_process_says_of_its_failure_is_passed_on() -> None:
    own = HashingProcess()
    own.send(9, 0)
    with pytest.raises(RecorderError, match="ValueError: frame: found kind 9"):
        own.collect(0)
    assert not own.running


def test_where_no_process_can_be_started_the_answer_is_hashed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    own = shared_process()
    assert own is not None
    own.close()
    monkeypatch.setattr(sys, "executable", str(Path(__file__).with_name("no such program")))
    arrays = states(2, 2, 64, 32)
    recorder = open_recorder(SEED)
    assert shared_process() is None
    assert list(absorb(recorder, arrays, [2]).finish().leaves) == second_opinion(arrays)[0]
    monkeypatch.undo()
    assert shared_process() is not None  # as soon as one can be started again


_PARENT = """
import os, signal
from otr_node.recorder import open_recorder
from otr_node.hashing_process import shared_process
recorder = open_recorder(bytes(32))
print(shared_process().pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_process_ends_when_its_parent_dies() -> None:
    done = subprocess.run([sys.executable, "-c", _PARENT], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL
    child, end = Path("/proc") / done.stdout.strip(), time.monotonic() + 120
    while child.is_dir() and " Z " not in (child / "stat").read_text():
        assert time.monotonic() < end, "the process that hashes outlived its parent by 120 s"
        time.sleep(0.05)


def memory_kb(pid: int, line: str) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return next(int(row.split()[1]) for row in text.splitlines() if row.startswith(line))


def test_neither_side_keeps_more_than_ring_and_frame() -> None:
    """80 MB of states in one piece."""
    own = HashingProcess()
    recorder = TraceRecorder(SEED, process=own)
    arrays = tuple(np.zeros((1, 20_000, width), np.uint8) for width in (2048, 1024, 1024))
    bound = (RING_BYTES + 12 * FRAME_BYTES) // 1024
    before, here = memory_kb(own.pid, "VmHWM"), memory_kb(os.getpid(), "VmRSS")
    recorder.absorb(0, 0, *arrays)
    assert memory_kb(os.getpid(), "VmRSS") - here < bound
    recorder.finish()
    assert memory_kb(own.pid, "VmHWM") - before < bound
    own.close()


def test_an_answer_that_nobody_holds_is_forgotten(process: HashingProcess) -> None:
    arrays = tuple(np.zeros((1, 20_000, 8), np.uint8) for _ in range(3))
    kept = absorb(TraceRecorder(SEED, process=process), states(1, 1, 4, 4), [1])
    sizes = []
    for _ in range(8):
        absorb(TraceRecorder(SEED, process=process), arrays, [20_000]).finish()
        sizes.append(memory_kb(process.pid, "RssAnon"))
    assert sizes[-1] - sizes[1] < 1000  # each of these answers is 640 kB of leaves
    kept.finish()


def test_the_wire_is_as_documented(tmp_path: Path) -> None:
    """Frames written by hand, without the parent's side; the ring holds one of them."""
    row, seed = bytes(range(40)), SEED
    frames = FRAME.pack(OPEN, 5, 1, 0, 0, 0, 0, 0) + seed
    for layer in range(2):
        frames += FRAME.pack(ROWS, 5, layer, 1, 0, 1, 20, 10)
    frames += FRAME.pack(COLLECT, 5, *[0] * 6) + FRAME.pack(COLLECT, 6, *[0] * 6)
    (tmp_path / "ring").write_bytes(bytes(8) + row + b"rest")
    with open(tmp_path / "ring", "r+b") as ring:
        command = [sys.executable, "-m", "otr_node.hashing", str(ring.fileno())]
        done = subprocess.run(command, input=frames, capture_output=True, pass_fds=[ring.fileno()])
    assert (tmp_path / "ring").read_bytes()[:8] == struct.pack("<Q", 84)  # 40, 4 left out, 40
    assert (done.returncode, done.stderr) == (0, b"")
    replies, rest = [], done.stdout
    while rest:
        status, length, _ = REPLY.unpack(rest[: REPLY.size])
        replies.append((status, rest[REPLY.size : REPLY.size + length]))
        rest = rest[REPLY.size + length :]
    arrays = tuple(
        np.frombuffer(row[a:b], np.uint8).reshape(1, 1, -1).repeat(2, 0) for a, b in ((0, 20), (20, 30), (30, 40))
    )
    plain = hashlib.sha256(row).digest() * 2
    assert replies == [(DONE, b""), (DONE, b"".join(second_opinion(arrays)[0]) + plain), (FAILED, b"KeyError: 6")]


def test_a_trace_is_a_plain_value() -> None:
    """It carries no digest, so that none gets into a receipt."""
    recorder = absorb(TraceRecorder(SEED, digest=True), states(1, 1, 4, 4), [1])
    assert set(vars(recorder.finish())) == set(vars(Trace(TraceShape(1, 1, 4, 4), (bytes(32),), bytes(32))))
    assert set(vars(recorder.finish())) == {"shape", "leaves", "seed_hash", "tokens"}
