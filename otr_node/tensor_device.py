"""The lane ``h100-bf16`` on a GPU: the same bits as its replay (``tensor_lane``), or none.

Products with matrices, and both of attention, are blocks of the kernel ``integers.block_triton``. What
stands between them are the lines of ``otr_core.lane.tensor_steps``, one operation of torch a step. A device
is opened only if it is of the lane's generation and gives the replay's bits (``block_check``). An H100 did
(``otr_paper.producers.h100``); the tests run all of it on a CPU, with the kernel in Triton's interpreter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from otr_core.errors import HardwareError, InputError, ModelError
from otr_core.lane.tensor_steps import LANE, gated_silu, normed, turned, weighed_scores
from otr_core.poea.trace import Recorder
from otr_node.integers.device_floats import DeviceFloats, bf16_tensor
from otr_node.tensor_values import WordModel, rotary_floats

GENERATION = (9, 0)
"""Compute capability of an H100, and of an H200."""
_ROOM = 256


@dataclass(frozen=True)
class BlockDevice:
    """A device that computes blocks.

    Attributes:
        name: of torch. kernel: as ``block_triton.project_blocks``.
    """

    name: str
    kernel: Callable[[Tensor, Tensor, Tensor], None]

    def product(self, x: Tensor, w: Tensor) -> Tensor:
        """x · wᵀ of a batch of bf16 matrices in blocks, from +0: float32, (batch, tokens, rows)."""
        out = torch.zeros((*x.shape[:2], w.shape[1]), dtype=torch.float32, device=x.device)
        self.kernel(x, w, out)
        return out

    def words(self, words: np.ndarray) -> Tensor:
        """Bf16 words, uint16, as numbers on the device."""
        return torch.from_numpy(words.view(np.int16)).view(torch.bfloat16).to(self.name)

    def floats(self, values: np.ndarray) -> DeviceFloats:
        """Float32 numbers on the device."""
        return DeviceFloats(torch.from_numpy(values).to(self.name))


def check_generation(name: str, capability: tuple[int, int]) -> None:
    """
    Raises:
        HardwareError: a GPU whose tensor cores are not the lane's.
    """
    if capability != GENERATION:
        found, expected = (".".join(map(str, each)) for each in (capability, GENERATION))
        raise HardwareError(
            f"device: found {name[:40]} of compute capability {found}, expected {expected} (H100, H200) for {LANE}"
        )


class TensorWeights:
    """A model's matrices and norms on a device; each is moved there once."""

    def __init__(self, model: WordModel, device: BlockDevice) -> None:
        moved: dict[int, Tensor] = {}  # a tied head is the embedding
        for words in model.matrices.values():
            if id(words) not in moved:
                moved[id(words)] = device.words(words)
        self.matrices = {name: moved[id(words)] for name, words in model.matrices.items()}
        self.norms = {name: device.floats(norm) for name, norm in model.norms.items()}
        self.architecture, self.device = model.architecture, device


class DeviceSession:
    """One sequence on a device: ``tensor_lane.TensorSession`` as an answer is computed by it."""

    def __init__(self, weights: TensorWeights) -> None:
        a = weights.architecture
        self._weights, self._device, self._seen = weights, weights.device, 0
        self._keys = torch.zeros((a.layers, a.kv_heads, 0, a.head_dim), dtype=torch.bfloat16, device=self._device.name)
        self._values = self._keys.new_zeros((a.layers, a.kv_heads, a.head_dim, 0))
        self._turns = self._device.floats(np.zeros((2, 0, a.head_dim // 2), np.float32))

    def feed(self, ids: Sequence[int], recorder: Recorder | None = None) -> np.ndarray:
        """As ``Session.feed``; float32 logits.

        Raises:
            ModelError: a state that is infinite or a NaN.
        """
        logits: np.ndarray = self.feed_all(ids, recorder, len(ids) - 1)[0]
        return logits

    def feed_all(self, ids: Sequence[int], recorder: Recorder | None = None, first: int = 0) -> np.ndarray:
        """``feed`` with the logits after each token from number ``first`` of them on: (tokens, vocab)."""
        if not len(ids):
            raise InputError("feed: found no token, expected one or more")
        a, count = self._weights.architecture, len(ids)
        self._grow(self._seen + count)
        places = torch.tensor(ids, dtype=torch.int64, device=self._device.name)
        stream = DeviceFloats(self._weights.matrices["embed"][places].float())
        finite = []
        for layer in range(a.layers):
            stream = self._layer(layer, stream)
            finite.append(torch.isfinite(stream.tensor).all())
            if recorder is not None:
                self._record(recorder, layer, stream)
        if not all(there := torch.stack(finite).tolist()):
            raise ModelError(
                f"layer {there.index(False)}: found a state that is infinite or a NaN, expected finite ones"
            )
        self._seen += count
        logits: np.ndarray = self._project(self._norm(stream[first:], "final"), "head").tensor.cpu().numpy()
        return logits

    def _record(self, recorder: Recorder, layer: int, stream: DeviceFloats) -> None:
        begin, count = self._seen, len(stream.tensor)
        keys = self._keys[layer, :, begin : begin + count].transpose(0, 1)
        values = self._values[layer, :, :, begin : begin + count].permute(2, 0, 1)
        rows = (stream.tensor, *(each.float().reshape(count, -1) for each in (keys, values)))
        words = (np.ascontiguousarray(each.cpu().numpy(), "<f4").view("u1")[None] for each in rows)
        recorder.absorb(layer, begin, *words)

    def _project(self, x: Tensor, matrix: str) -> DeviceFloats:
        """Of rows, (tokens, columns)."""
        return DeviceFloats(self._device.product(x[None], self._weights.matrices[matrix][None])[0])

    def _norm(self, stream: DeviceFloats, name: str) -> Tensor:
        epsilon = np.float32(self._weights.architecture.rms_eps)
        return bf16_tensor(normed(stream, self._weights.norms[name], epsilon))

    def _layer(self, layer: int, stream: DeviceFloats) -> DeviceFloats:
        a, begin, count = self._weights.architecture, self._seen, len(stream.tensor)
        made = self._project(self._norm(stream, f"{layer}.before"), f"{layer}.qkv").reshape(count, -1, a.head_dim)
        cosines, sines = (self._turns[side, begin : begin + count, None] for side in range(2))
        heads = bf16_tensor(turned(made[:, : a.heads + a.kv_heads], cosines, sines))
        self._keys[layer, :, begin : begin + count] = heads[:, a.heads :].transpose(0, 1)
        self._values[layer, :, :, begin : begin + count] = bf16_tensor(made[:, a.heads + a.kv_heads :]).permute(1, 2, 0)
        mixed = [self._attend(layer, heads[token, : a.heads], begin + token + 1) for token in range(count)]
        stream = stream + self._project(torch.stack(mixed), f"{layer}.out")
        made = self._project(self._norm(stream, f"{layer}.after"), f"{layer}.gate_up")
        product = bf16_tensor(gated_silu(made[:, : a.intermediate], made[:, a.intermediate :]))
        after: DeviceFloats = stream + self._project(product, f"{layer}.down")
        return after

    def _attend(self, layer: int, queries: Tensor, seen: int) -> Tensor:
        """What one position's queries, (heads, head_dim), take from the values so far: bf16, flat."""
        a = self._weights.architecture
        groups = queries.reshape(a.kv_heads, -1, a.head_dim)  # query heads that share a key and a value
        scores = DeviceFloats(self._device.product(groups, self._keys[layer, :, :seen]))
        weights, total = weighed_scores(scores, a.head_dim)
        summed = self._device.product(bf16_tensor(weights), self._values[layer, :, :, :seen])
        return bf16_tensor(DeviceFloats(summed) / total).reshape(-1)

    def _grow(self, needed: int) -> None:
        """Room for ``needed`` tokens."""
        have, a = self._turns.shape[1], self._weights.architecture
        if needed <= have:
            return
        more = max(_ROOM, 1 << (needed - 1).bit_length()) - have
        self._keys = torch.nn.functional.pad(self._keys, (0, 0, 0, more))
        self._values = torch.nn.functional.pad(self._values, (0, more))
        self._turns = self._device.floats(rotary_floats(a, have + more))
