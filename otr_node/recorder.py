"""Recording: the trace that an answer commits to while it is computed, and states kept for a
dispute."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from otr_core.encoding import tagged_hash
from otr_core.errors import InputError
from otr_core.poea.trace import LayerState, Trace, TraceShape, check_seed, seed_hash, token_leaves
from otr_node.hashing import LEAF_BYTES, LeafHashes, Rows
from otr_node.hashing_process import HashingProcess, shared_process

_HELD = 8
"""Single tokens whose states are sent to the process together: a message costs as much as copying
the states of a token."""


class Hashes(Protocol):
    """Where a recorder's leaves are made (``LeafHashes`` says what the methods do)."""

    def add(self, layer: int, position: int, shape: tuple[int, int], rows: Rows, sizes: tuple[int, int]) -> None: ...

    def collect(self) -> tuple[bytes, bytes]: ...


class TraceRecorder:
    """Commits to states as they come and keeps only their hashes.

    Args:
        seed: 32 secret bytes from which all salts derive.
        digest: whether to make ``execution_digest``.
        process: makes the hashes while this program goes on computing. None: this one makes them,
            within ``absorb``. Both give the same bytes.

    Attributes:
        execution_digest: from ``finish`` on, if asked for, 32 bytes: SHA-256 under the tag
            "execution" over the trace's shape, the number of prompt tokens and of all tokens
            (little-endian 32-bit integers), the token ids, and the SHA-256 of every state, without
            salts, all layers of position 0 first. In the portable lane it is the same on every
            machine for one model, prompt and decoding, whatever the seeds. It may be shown to
            whoever may see the answer, and to nobody else: without salts, whoever has a guess of
            prompt and answer can confirm it. So it is part of no trace and no receipt.
    """

    def __init__(self, seed: bytes, *, digest: bool = False, process: HashingProcess | None = None) -> None:
        check_seed(seed)
        self.execution_digest: bytes | None = None
        self._seed, self._digest = seed, digest
        self._hashes: Hashes = process.answer(seed, plain=digest) if process else LeafHashes(seed, plain=digest)
        self._held: tuple[np.ndarray, ...] | None = None  # (layers, _HELD, bytes) each, if there are any
        self._waiting, self._begin = 0, 0  # tokens held, and the position of the first
        self._beside = process is not None
        self._seen: list[int] = []  # positions, by layer
        self._row_bytes: tuple[int, int] | None = None

    def absorb(self, layer: int, position: int, output: np.ndarray, key: np.ndarray, value: np.ndarray) -> None:
        """As ``Recorder.absorb``.

        Raises:
            InputError: the positions of a layer do not follow those before, or a row is of another
                size than those before.
            RecorderError: the process that hashes is gone, failed, or stands still.
        """
        layers, positions = output.shape[:2]
        sizes = (output.shape[2], key.shape[2])
        found = [array.shape for array in (output, key, value)]
        expected = [(layers, positions, size) for size in (*(self._row_bytes or sizes), (self._row_bytes or sizes)[1])]
        if found != expected:
            raise InputError(f"trace rows: found {found}, expected {expected}")
        self._row_bytes = sizes
        self._seen += [0] * (layer + layers - len(self._seen))
        for at in range(layer, layer + layers):
            if self._seen[at] != position:
                raise InputError(f"trace of layer {at}: found position {position}, expected {self._seen[at]}")
        self._seen[layer : layer + layers] = [position + positions] * layers
        if self._beside and positions == 1 and layers == len(self._seen):
            self._hold(position, (output, key, value))
            return
        self._let_go()
        self._send(layer, position, (output, key, value))

    def _hold(self, position: int, arrays: Sequence[np.ndarray]) -> None:
        """Copy the states of one token, and send them with those of the next ones."""
        if self._held is None or len(self._held[0]) != len(arrays[0]):
            self._let_go()
            self._held = tuple(np.empty((len(array), _HELD, array.shape[2]), np.uint8) for array in arrays)
        for kept, array in zip(self._held, arrays, strict=True):
            kept[:, self._waiting] = array[:, 0]
        self._begin = self._begin if self._waiting else position
        self._waiting += 1
        if self._waiting == _HELD:
            self._let_go()

    def _let_go(self) -> None:
        if self._waiting and self._held is not None:
            count, self._waiting = self._waiting, 0
            self._send(0, self._begin, [kept[:, :count] for kept in self._held])

    def _send(self, layer: int, position: int, arrays: Sequence[np.ndarray]) -> None:
        rows = [np.ascontiguousarray(array).reshape(-1).data for array in arrays]
        sizes = (arrays[0].shape[2], arrays[1].shape[2])
        self._hashes.add(layer, position, arrays[0].shape[:2], rows, sizes)

    def finish(self, token_ids: Sequence[int] = (), prompt_tokens: int = 0, prompt_seed: bytes | None = None) -> Trace:
        """The trace of everything absorbed.

        Args:
            token_ids: the tokens that were fed, then the last chosen one: one more than positions;
                none where only the states matter.
            prompt_tokens: how many of them, from the first on, are the prompt's.
            prompt_seed: 32 secret bytes of the client's, from which the salts of the prompt's token
                leaves derive; None where nothing was ordered: the recorder's own seed.

        Raises:
            InputError: layers have seen different numbers of positions, or the number of tokens
                does not fit.
            RecorderError: as ``absorb``.
        """
        if self._row_bytes is None or len(set(self._seen)) != 1:
            raise InputError("trace: layers have seen different numbers of positions")
        shape = TraceShape(self._seen[0], len(self._seen), *self._row_bytes)
        prompt_ids, chosen = token_ids[:prompt_tokens], token_ids[prompt_tokens:]
        tokens = token_leaves(prompt_ids, self._seed if prompt_seed is None else prompt_seed, chosen, self._seed)
        self._let_go()
        joined, unsalted = self._hashes.collect()
        leaves = tuple(joined[at : at + LEAF_BYTES] for at in range(0, len(joined), LEAF_BYTES))
        if self._digest:
            sizes = (shape.positions, shape.layers, shape.output_bytes, shape.kv_bytes)
            numbers = (*sizes, prompt_tokens, len(token_ids), *token_ids)
            self.execution_digest = tagged_hash("execution", struct.pack(f"<{len(numbers)}I", *numbers) + unsalted)
        return Trace(shape, leaves, seed_hash(self._seed), tuple(tokens))


def open_recorder(seed: bytes, *, digest: bool = False) -> TraceRecorder:
    """A recorder that costs the computation least: it hashes in the process that this program
    shares among all answers, or here where no process can be started.

    Args:
        seed, digest: of ``TraceRecorder``.
    """
    return TraceRecorder(seed, digest=digest, process=shared_process())


class StateKeeper:
    """Keeps the states of ``wanted`` (position, layer) pairs while an answer is run again."""

    def __init__(self, wanted: Sequence[tuple[int, int]]) -> None:
        self._wanted = frozenset(wanted)
        self.states: dict[tuple[int, int], LayerState] = {}

    def absorb(self, layer: int, position: int, output: np.ndarray, key: np.ndarray, value: np.ndarray) -> None:
        """As ``Recorder.absorb``."""
        layers, positions = output.shape[:2]
        for at_position, at_layer in self._wanted:
            i, j = at_layer - layer, at_position - position
            if 0 <= i < layers and 0 <= j < positions:
                rows = (array[i, j].tobytes() for array in (output, key, value))
                self.states[at_position, at_layer] = LayerState(*rows)
