"""Hashes of the states of answers, and the process that makes them beside the one that computes
the states: ``python -m otr_node.hashing``.

Hashing holds Python's lock: a piece is below the size from which the hash library lets go of it. So
a thread would only take turns with the computation, and a process does not. It reads frames from
standard input: a header ``FRAME`` (kind, number of the answer, then six numbers as the kind has
them), then what the kind says:

* ``OPEN`` (digest wanted or not): an answer begins; 32 bytes, the seed of its salts.
* ``ROWS`` (layer, layers, position, positions, bytes of an output, bytes of a key or value row):
  three arrays as ``Recorder.absorb`` takes them lie in the ring, as bytes one after the other.
* ``COLLECT``: asks for everything so far. The process writes a header ``REPLY`` (``DONE``, length,
  its CPU seconds since it began) and the leaves, then the plain hashes where a digest is wanted.
* ``DROP``: the answer is forgotten.

The ring is memory that both processes share, a file whose descriptor is the only argument. Its
first 8 bytes count the bytes of the ring that were hashed, which the sender may overwrite; the rest
is filled frame by frame, in a circle (``place``). The sender waits where the ring is full, and
keeps frames small. So memory is bounded on both sides: by the ring, one frame and 32 bytes a leaf.

It says ``DONE`` once when it is ready. Whatever goes wrong is a reply ``FAILED`` with one line, and
the end of the process; so is the end of its input, which comes when its parent is gone.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from struct import Struct
from typing import BinaryIO

from otr_core.errors import one_line
from otr_core.poea.trace import PIECE_BYTES, SALT_BYTES, state_leaf

FRAME, REPLY = Struct("<8I"), Struct("<IQd")
OPEN, ROWS, COLLECT, DROP = range(4)
DONE, FAILED = range(2)
COUNT = Struct("<Q")
LEAF_BYTES = 32
Rows = Sequence[bytes | memoryview]


class LeafHashes:
    """The leaves of one answer, in the order of layers, as its states come.

    Args:
        seed: 32 secret bytes, from which the salts derive. plain: also hash each state unsalted:
            SHA-256 of output, key and value row, one after the other.
    """

    def __init__(self, seed: bytes, *, plain: bool) -> None:
        self._seed, self._plain = seed, plain
        self._leaves: list[bytearray] = []  # by layer
        self._unsalted: list[bytearray] = []

    def add(self, layer: int, position: int, shape: tuple[int, int], rows: Rows, sizes: tuple[int, int]) -> None:
        """Take states of ``shape`` (layers, positions), from ``layer`` and ``position`` on.

        Args:
            rows: all output rows, all key rows, all value rows; the positions of a layer follow
                each other. sizes: bytes of an output row, and of a key or value row.
        """
        layers, positions = shape
        seed, (output_bytes, kv_bytes) = self._seed, sizes
        while len(self._leaves) < layer + layers:
            self._leaves.append(bytearray())
            self._unsalted.append(bytearray())
        cuts = [
            (row, size, begin, min(begin + PIECE_BYTES, size))
            for row, size in zip(map(bytes, rows), (output_bytes, kv_bytes, kv_bytes), strict=True)
            for begin in range(0, size, PIECE_BYTES)
        ]
        for at in range(layers * positions):
            i, j = divmod(at, positions)
            pieces = [row[at * size + begin : at * size + end] for row, size, begin, end in cuts]
            self._leaves[layer + i] += state_leaf(seed, position + j, layer + i, pieces)
            if self._plain:
                self._unsalted[layer + i] += sha256(b"".join(pieces)).digest()

    def collect(self) -> tuple[bytes, bytes]:
        """The leaves, all layers of position 0 first, and the plain hashes (or nothing) alike."""
        return _by_position(self._leaves), _by_position(self._unsalted)


def _by_position(by_layer: Sequence[bytearray]) -> bytes:
    size = LEAF_BYTES
    longest = max(map(len, by_layer), default=0)
    return b"".join(bytes(own[at : at + size]) for at in range(0, longest, size) for own in by_layer)


def place(used: int, size: int, room: int) -> int:
    """Where in a ring of ``room`` bytes, of which ``used`` were filled so far in all rounds, the
    next ``size`` bytes begin, counted on: in one piece, at the start of a round where the rest of
    this one is too short."""
    return used if used % room + size <= room else used - used % room + room


def serve_frames(read: Callable[[int], bytes], write: Callable[[bytes], object], ring: memoryview) -> None:
    """Do what the frames ask for, until there is no more.

    Args:
        read: exactly so many bytes, fewer at the end of the input. write: sends a reply.
    """
    data, used = ring[COUNT.size :], 0

    def reply(*parts: bytes) -> None:
        write(b"".join([REPLY.pack(DONE, sum(map(len, parts)), time.process_time()), *parts]))

    answers: dict[int, LeafHashes] = {}
    reply()
    while header := read(FRAME.size):
        kind, number, *given = FRAME.unpack(header)
        if kind == OPEN:
            answers[number] = LeafHashes(read(SALT_BYTES), plain=bool(given[0]))
        elif kind == ROWS:
            layer, layers, position, positions, *sizes = given
            count, (output_bytes, kv_bytes) = layers * positions, sizes
            begin = place(used, count * (output_bytes + 2 * kv_bytes), len(data))
            at, rows = begin % len(data), []
            for size in (output_bytes, kv_bytes, kv_bytes):
                rows.append(bytes(data[at : at + count * size]))
                at += count * size
            used = begin + sum(map(len, rows))
            ring[: COUNT.size] = COUNT.pack(used)
            answers[number].add(layer, position, (layers, positions), rows, (output_bytes, kv_bytes))
        elif kind == COLLECT:
            reply(*answers[number].collect())
        elif kind == DROP:
            del answers[number]
        else:
            raise ValueError(f"frame: found kind {kind}, expected 0 to {DROP}")


def main(descriptor: str) -> None:
    """Serve standard input."""
    # An interrupt at the terminal is the parent's to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source: BinaryIO = sys.stdin.buffer
    target = sys.stdout.buffer

    def write(message: bytes) -> None:
        target.write(message)
        target.flush()

    try:
        serve_frames(source.read, write, memoryview(mmap.mmap(int(descriptor), 0)))
    except Exception as error:
        words = f"{type(error).__name__}: {one_line(error)}".encode()
        # The parent may be gone, and then nobody is left to be told.
        with contextlib.suppress(OSError):
            write(REPLY.pack(FAILED, len(words), time.process_time()) + words)
    # Nothing is left to clean up, and a parent that is gone must not make this fail.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
