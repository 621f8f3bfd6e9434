"""The parent's side of ``otr_node.hashing``: starts the process, sends it states, fetches leaves.

One process serves all answers of this program, so that its start is paid once. States go through a
ring of shared memory, which holds what a prompt of some hundred tokens leaves behind; when it is
full the sender waits. So neither side keeps more than that, however long the prompt.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import mmap
import os
import select
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence

from otr_core.errors import RecorderError
from otr_node.hashing import COLLECT, COUNT, DONE, DROP, FRAME, OPEN, REPLY, ROWS, Rows, place

RING_BYTES = 2**25
FRAME_BYTES = 2**20
"""Of the states that one frame tells of, at most."""
STALL_S = 60.0
_PARTS_AT_ONCE = 64  # below IOV_MAX everywhere
_GONE = "hashing process: found it gone, expected it to hash the trace"


class HashingProcess:
    """A running process that hashes.

    Args:
        stall_s: seconds after which a process that neither takes nor gives anything has failed.

    Attributes:
        pid: number of the process. cpu_s: its CPU seconds as of its last reply.

    Raises:
        OSError: no process can be started.
        RecorderError: it did not begin.
    """

    def __init__(self, *, stall_s: float = STALL_S) -> None:
        shared = os.memfd_create("otr-states")  # memory that no disk sees
        try:
            os.ftruncate(shared, RING_BYTES)
            self._ring = memoryview(mmap.mmap(shared, RING_BYTES))
            command = [sys.executable, "-m", "otr_node.hashing", str(shared)]
            self._child = subprocess.Popen(
                command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(shared,)
            )
        finally:
            os.close(shared)
        self._used = 0
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._input, self._output = self._child.stdin.fileno(), self._child.stdout.fileno()
        self._closed = False
        self._stall_s, self._lock, self._numbers = STALL_S, threading.Lock(), itertools.count()
        # Answers that nobody holds any more. They come in from the garbage collector, at any time:
        # the process hears of them with the next frame.
        self._dropped: deque[int] = deque()
        self.pid, self.cpu_s = self._child.pid, 0.0
        # At the end of this program, before the interpreter takes its modules apart.
        atexit.register(self.close)
        for pipe in (self._input, self._output):
            os.set_blocking(pipe, False)
        with self._exchange():
            self._receive()
        self._stall_s = stall_s

    @property
    def running(self) -> bool:
        return self._child.poll() is None

    def answer(self, seed: bytes, *, plain: bool) -> AnswerHashes:
        """A new answer's hashes, made there; arguments as of ``hashing.LeafHashes``."""
        hashes = AnswerHashes(self, next(self._numbers), plain=plain)
        self.send(OPEN, hashes.number, (plain,), [seed])
        weakref.finalize(hashes, self._dropped.append, hashes.number).atexit = False
        return hashes

    def send(self, kind: int, number: int, given: Sequence[int] = (), data: Rows = ()) -> None:
        """Send one frame; waits while the pipe is full.

        Raises:
            RecorderError: the process is gone, failed, or stands still.
        """
        with self._exchange():
            self._send(kind, number, given, data)

    def send_rows(self, number: int, given: Sequence[int], rows: Rows) -> None:
        """Send states: a frame ``hashing.ROWS``; waits while the ring is full.

        Raises:
            RecorderError: as ``send``.
        """
        with self._exchange():
            data, size = self._ring[COUNT.size :], sum(map(len, rows))
            begin = place(self._used, size, len(data))
            self._make_room(begin + size - len(data))
            at, self._used = begin % len(data), begin + size
            for row in rows:
                data[at : at + len(row)] = row
                at += len(row)
            self._send(ROWS, number, given)

    def collect(self, number: int) -> bytes:
        """All hashes of an answer so far (the reply to ``hashing.COLLECT``); waits for them.

        Raises:
            RecorderError: the process is gone, failed, or stands still.
        """
        with self._exchange():
            self._send(COLLECT, number)
            return self._receive()

    def close(self) -> None:
        """End the process; it has nothing to save."""
        atexit.unregister(self.close)
        self._closed = True
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                pipe.close()

    @contextlib.contextmanager
    def _exchange(self) -> Iterator[None]:
        """One frame, and its reply, undisturbed by other threads. A frame that was cut off leaves
        the process useless, whatever cut it off."""
        with self._lock:
            if not self.running:
                raise RecorderError(self._gone())
            try:
                yield
            except BrokenPipeError as error:
                raise RecorderError(self._gone()) from error
            except BaseException:
                self.close()
                raise

    def _gone(self) -> str:
        """Why the process is not there, with its last words if it has left any."""
        if not self._closed:
            try:
                self._receive()
            except RecorderError as error:
                return str(error)
            finally:
                self.close()
        return _GONE

    def _send(self, kind: int, number: int, given: Sequence[int] = (), data: Rows = ()) -> None:
        dropped = [_header(DROP, self._dropped.popleft()) for _ in range(len(self._dropped))]
        waiting = [memoryview(part).cast("B") for part in (*dropped, _header(kind, number, given), *data)]
        while waiting:
            try:
                taken = os.writev(self._input, waiting[:_PARTS_AT_ONCE])
            except BlockingIOError:
                self._wait(self._input, select.POLLOUT)
                continue
            while waiting and taken >= len(waiting[0]):
                taken -= len(waiting.pop(0))
            if waiting:
                waiting[0] = waiting[0][taken:]

    def _make_room(self, needed: int) -> None:
        """Wait until ``needed`` bytes of all that were put into the ring are hashed."""
        hashed, deadline = -1, 0.0
        while (now := COUNT.unpack(self._ring[: COUNT.size])[0]) < needed:
            if now != hashed:
                hashed, deadline = now, time.monotonic() + self._stall_s
            if time.monotonic() > deadline:
                raise self._stalled()
            if not self.running:
                raise BrokenPipeError
            time.sleep(0.001)

    def _stalled(self) -> RecorderError:
        return RecorderError(f"hashing process: found it standing still for {self._stall_s:g} s")

    def _receive(self) -> bytes:
        """The body of the next reply."""
        status, length, self.cpu_s = REPLY.unpack(self._read(REPLY.size))
        body = self._read(length)
        if status != DONE:
            raise RecorderError(f"hashing process: failed with {body.decode(errors='replace')}")
        return body

    def _read(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size:
            try:
                part = os.read(self._output, min(size, FRAME_BYTES))
            except BlockingIOError:
                self._wait(self._output, select.POLLIN)
                continue
            if not part:
                raise RecorderError(_GONE)
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _wait(self, pipe: int, event: int) -> None:
        poll = select.poll()
        poll.register(pipe, event)
        if not poll.poll(1000 * self._stall_s):
            raise self._stalled()


def _header(kind: int, number: int, given: Sequence[int] = ()) -> bytes:
    return FRAME.pack(kind, number, *given, *[0] * (6 - len(given)))


class AnswerHashes:
    """What ``hashing.LeafHashes`` is, of an answer whose hashes are made in ``process``."""

    def __init__(self, process: HashingProcess, number: int, *, plain: bool) -> None:
        self.number = number
        self._process, self._plain = process, plain

    def add(self, layer: int, position: int, shape: tuple[int, int], rows: Rows, sizes: tuple[int, int]) -> None:
        """Send states, as ``LeafHashes.add`` takes them, in frames of bounded size."""
        layers, positions = shape
        state_bytes = sizes[0] + 2 * sizes[1]
        # A few positions come with all their layers in one frame, many layer by layer.
        together = layers if layers * positions * state_bytes <= FRAME_BYTES else 1
        step = positions if together == layers > 1 else max(1, FRAME_BYTES // state_bytes)
        row_sizes = (sizes[0], sizes[1], sizes[1])
        for i in range(0, layers, together):
            for j in range(0, positions, step):
                count = min(step, positions - j)
                begin, end = i * positions + j, i * positions + j + together * count
                parts = [row[begin * size : end * size] for row, size in zip(rows, row_sizes, strict=True)]
                self._process.send_rows(self.number, (layer + i, together, position + j, count, *sizes), parts)

    def collect(self) -> tuple[bytes, bytes]:
        """Wait for the hashes, and fetch them."""
        body = self._process.collect(self.number)
        half = len(body) // 2 if self._plain else len(body)
        return body[:half], body[half:]


_shared: dict[int, HashingProcess] = {}
_sharing = threading.Lock()


def shared_process() -> HashingProcess | None:
    """The process that hashes for this program, started when it is first asked for, and again when
    it has died; None where none can be started."""
    with _sharing:
        own = os.getpid()
        process = _shared.get(own)
        if process is None or not process.running:
            # After a fork the parent's process is not this program's: its pipe has two writers.
            _shared.clear()
            process = None
            if hasattr(os, "memfd_create"):  # Linux alone has it
                with contextlib.suppress(OSError, RecorderError):
                    process = _shared[own] = HashingProcess()
        return process
