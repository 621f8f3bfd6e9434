"""The portable lane: a whole Llama decoder in exact integers. Same bits on any machine, thread count, batch, padding,
instruction set, and for any way of cutting a sequence into pieces.

Fixed point throughout: a value v with b fraction bits is the integer v · 2^b. The norms' weights and the factor
log2(e)/√head_dim are multiplied into the matrices that follow them before those are rounded to integers, so that a
layer is nothing but dot products, shifts, table look-ups, one division and one square root per row (``primitives``).
The integer matrices are what is executed and what ``weights_root`` commits to. What stays between steps (residual
stream, keys, values) fits int32 and is what the trace's leaves hold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otr_core.errors import InputError
from otr_core.lane import formats
from otr_core.lane.architecture import Architecture
from otr_core.lane.formats import (
    EXP,
    GATE,
    HEAD,
    INT32,
    LOG2E,
    LOGIT,
    MLP,
    NORM_INPUT,
    NORM_LEAST_SCALE,
    NORMED,
    PROBABILITY,
    RESIDUAL,
    ROTARY,
    SCORE,
    SIGMOID,
    SIGMOID_INDEX,
    SIGMOID_LIMIT,
    WEIGHT,
    norm_epsilon,
)
from otr_core.lane.sampling import Decoding
from otr_core.poea.manifest import ModelManifest
from otr_core.poea.trace import Recorder
from otr_node import primitives as p
from otr_node.rounding import STACKS, Bounds, check_bounds, to_integers

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


LANE = "portable-1"

_BLOCK = 256  # positions computed at once; bounds memory, changes no bit


@dataclass(frozen=True)
class PortableModel:
    """A checkpoint in integers.

    Attributes:
        matrices: float64 tensors of integers by name, stacked as they are used (``qkv``, ``gate_up``).
        bounds: what was proven about its accumulators.
    """

    architecture: Architecture
    manifest: ModelManifest
    tokenizer: Any
    matrices: dict[str, Tensor]
    bounds: Bounds
    device: str
    threads: int

    def session(self) -> PortableSession:
        return PortableSession(self)

    def choose(self, logits: np.ndarray, decoding: Decoding, step: int) -> int:
        return choose_exact(logits, decoding, step)

    def configuration(self) -> dict[str, Any]:
        """Nothing but the lane: no other fact changes a bit."""
        return {"lane": LANE}


def load_portable(
    folder: Path | str,
    *,
    device: str = "cpu",
    threads: int = 1,
    drop_layers: Sequence[int] = (),
    alter: Any = None,
) -> PortableModel:
    """Load a checkpoint into the portable lane: round its matrices, prove the accumulators' bounds, commit to them.

    Arguments as ``model.load_model``; needs 8 bytes per weight.

    Raises:
        ModelError: as ``load_model``, or a bound of 2^52 that the weights do not keep.
    """
    import torch

    from otr_node.checkpoint import commit_tensors, load_tokenizer, make_manifest, read_variant

    folder = Path(folder)
    architecture, tensors = read_variant(folder, drop_layers, alter)
    integers = to_integers(architecture, tensors)
    bounds = check_bounds(architecture, integers)
    manifest = make_manifest(folder, architecture, LANE, commit_tensors(integers))
    matrices: dict[str, Tensor] = {"embed": integers.pop("model.embed_tokens.weight").to(device)}
    for layer in range(architecture.layers):
        prefix = f"model.layers.{layer}."
        for stacked, parts in STACKS.items():
            rows = [integers.pop(f"{prefix}{part}.weight") for part in parts]
            matrices[f"{layer}.{stacked}"] = torch.cat(rows).to(device, torch.float64)
    matrices["lm_head"] = integers.pop("lm_head.weight").to(device, torch.float64)
    return PortableModel(architecture, manifest, load_tokenizer(folder), matrices, bounds, device, threads)


class PortableSession:
    """One or more sequences being computed in integers.

    Args:
        padding: per sequence, how many of its first tokens are padding (left); they are computed and seen by nobody.
        watch: (position, layer) of the first sequence at which every operator's result is kept in ``operators``.
    """

    def __init__(
        self, model: PortableModel, padding: Sequence[int] = (0,), *, watch: tuple[int, int] | None = None
    ) -> None:
        import torch

        a = model.architecture
        self._model, self._padding = model, tuple(padding)
        self._pad = torch.tensor(self._padding, device=model.device)
        self._watched = watch
        self.operators: dict[str, np.ndarray] = {}
        self._seen = 0  # tokens fed so far, padding included
        self._keys = [torch.empty(0) for _ in range(a.layers)]
        self._values = [torch.empty(0) for _ in range(a.layers)]
        self._rotary = (torch.empty(0), torch.empty(0))
        self._tables = lookup_tables(model.device)

    def feed(self, ids: Sequence[int], recorder: Recorder | None = None) -> np.ndarray:
        """Logits (vocab,) with LOGIT fraction bits after the tokens ``ids``; for a session of one sequence."""
        logits: np.ndarray = self.feed_batch([ids], [recorder])[0, -1].cpu().numpy()
        return logits

    def feed_batch(
        self,
        rows: Sequence[Sequence[int]],
        recorders: Sequence[Recorder | None] = (),
        *,
        all_logits: bool = False,
    ) -> Tensor:
        """Feed each sequence the same number of tokens.

        Returns:
            integers in float64, (sequences, 1 or tokens, vocab): logits of the last or of all tokens.
        """
        import torch

        from otr_node.checkpoint import torch_threads

        if len(rows) != len(self._padding) or len({len(row) for row in rows}) != 1 or not rows[0]:
            raise InputError(
                f"batch: found {[len(row) for row in rows]} tokens, expected {len(self._padding)} equal rows"
            )
        ids = torch.tensor([list(row) for row in rows], device=self._model.device)
        logits = []
        with torch_threads(self._model.threads), torch.inference_mode():
            for begin in range(0, ids.shape[1], _BLOCK):
                hidden = self._block(ids[:, begin : begin + _BLOCK], recorders)
                if all_logits:
                    logits.append(self._logits(hidden))
            return torch.cat(logits, 1) if all_logits else self._logits(hidden[:, -1:])

    def _block(self, ids: Tensor, recorders: Sequence[Recorder | None]) -> Tensor:
        model, begin = self._model, self._seen
        count = ids.shape[1]
        self._grow(begin + count)
        hidden = model.matrices["embed"][ids].double()
        outputs = []
        for layer in range(model.architecture.layers):
            hidden = self._layer(layer, hidden, begin)
            outputs.append(hidden)
        for row, recorder in enumerate(recorders):
            if recorder is not None:
                self._record(recorder, row, begin, outputs)
        self._seen = begin + count
        return hidden

    def _layer(self, layer: int, hidden: Tensor, begin: int) -> Tensor:
        a, matrices = self._model.architecture, self._model.matrices
        batch, count, _ = hidden.shape
        end = begin + count

        normed = self._norm(hidden)
        self._note(layer, begin, "attention.normed", normed)
        qkv = p.shift(p.dot(normed, matrices[f"{layer}.qkv"]), NORMED + WEIGHT - HEAD)
        self._note(layer, begin, "attention.qkv", qkv)
        heads = qkv.view(batch, count, a.heads + 2 * a.kv_heads, a.head_dim).transpose(1, 2)
        query, key, value = heads.split([a.heads, a.kv_heads, a.kv_heads], dim=1)
        keys, values = self._keys[layer], self._values[layer]
        query, key = self._rotate(query, begin), self._rotate(key, begin)
        self._note(layer, begin, "attention.query", query.transpose(1, 2))
        self._note(layer, begin, "attention.key", key.transpose(1, 2))
        keys[:, :, begin:end] = key
        values[:, :, begin:end] = value
        weights = self._attention_weights(query, keys[:, :, :end], begin)
        self._note(layer, begin, "attention.weights", weights.transpose(1, 2))
        mixed = self._mix(weights, values[:, :, :end])
        self._note(layer, begin, "attention.mixed", mixed)
        hidden = hidden + p.shift(p.dot(mixed, matrices[f"{layer}.o"]), HEAD + WEIGHT - RESIDUAL)
        p.saturate(hidden, INT32)
        self._note(layer, begin, "attention.residual", hidden)

        normed = self._norm(hidden)
        self._note(layer, begin, "mlp.normed", normed)
        gate_up = p.shift(p.dot(normed, matrices[f"{layer}.gate_up"]), NORMED + WEIGHT - GATE)
        self._note(layer, begin, "mlp.gate_up", gate_up)
        gate, up = gate_up.split(a.intermediate, dim=-1)
        index = p.shift(gate + 0.0, GATE - SIGMOID_INDEX).add_(SIGMOID_LIMIT << SIGMOID_INDEX)
        silu = p.shift(p.lookup(self._tables["sigmoid"], index).mul_(gate), SIGMOID)
        product = p.saturate(p.shift(silu.mul_(up), 2 * GATE - MLP), self._model.bounds.saturation[layer])
        self._note(layer, begin, "mlp.product", product)
        hidden = hidden.add_(p.shift(p.dot(product, matrices[f"{layer}.down"]), MLP + WEIGHT - RESIDUAL))
        p.saturate(hidden, INT32)
        self._note(layer, begin, "output", hidden)
        return hidden

    def _note(self, layer: int, begin: int, operator: str, rows: Tensor) -> None:
        """Keep an operator's result at the watched place; rows are (batch, tokens, …) of the first sequence."""
        if self._watched is not None and self._watched[1] == layer:
            at = self._watched[0] - begin
            if 0 <= at < rows.shape[1]:
                self.operators[operator] = rows[0, at].flatten().long().cpu().numpy()

    def _norm(self, hidden: Tensor) -> Tensor:
        """RMSNorm without its weight: hidden / √(mean square + epsilon), NORMED fraction bits."""
        n = self._model.architecture.hidden
        power = (NORM_INPUT - p.bit_length(p.largest(hidden.abs()))).clamp_(max=-NORM_LEAST_SCALE)
        scaled = p.scale(hidden, power)
        squares = scaled.square().sum(-1, keepdim=True)
        squares = squares + p.scale(squares.new_tensor([float(norm_epsilon(self._model.architecture))]), 2 * power)
        root = p.square_root(squares.mul_(4.0).clamp_(min=1.0))  # twice the length of the row
        drop = 51 - (NORMED + 1 + (n.bit_length() + 1) // 2)
        numerator = squares.new_tensor(float(math.isqrt(n << (2 * (NORMED + 1 + drop)))))
        return p.shift(scaled.mul_(p.divide(numerator, root)), drop)

    def _rotate(self, x: Tensor, begin: int) -> Tensor:
        """Rotary embedding of (batch, heads, tokens, head_dim), the halves of a head paired."""
        import torch

        count, half = x.shape[2], x.shape[3] // 2
        # (batch, 1, tokens, half); a sequence's own position 0 is its first token after the padding
        at = (torch.arange(begin, begin + count, device=x.device)[None] - self._pad[:, None]).clamp_(min=0)
        cosine, sine = (table[at][:, None] for table in self._rotary)
        first, second = x[..., :half], x[..., half:]
        turned = torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
        return p.shift(turned, ROTARY)

    def _attention_weights(self, query: Tensor, keys: Tensor, begin: int) -> Tensor:
        """Softmax of the new tokens over all so far: (batch, heads, tokens, seen), PROBABILITY fraction bits."""
        import torch

        batch, heads, count, size = query.shape
        groups, end = keys.shape[1], keys.shape[2]
        query = query.reshape(batch, groups, heads // groups * count, size)
        scores = torch.matmul(query, keys.transpose(2, 3)).view(batch, heads, count, end)
        if count > 1 or any(self._padding):
            place = torch.arange(end, device=query.device)
            hidden_from = place[None, None] > torch.arange(begin, end, device=query.device)[None, :, None]
            hidden_from = hidden_from | (place[None, None] < self._pad[:, None, None])
            scores.masked_fill_(hidden_from[:, None], -float(formats.LIMIT))
        below = (p.largest(scores) - scores).mul_(2.0 ** (SCORE - 2 * HEAD))
        weights = p.lookup(self._tables["exp2"], below)
        share = p.divide(weights.new_tensor(2.0 ** (EXP + PROBABILITY)), weights.sum(-1, keepdim=True))
        return weights.mul_(share).mul_(2.0**-EXP).floor_()

    def _mix(self, weights: Tensor, values: Tensor) -> Tensor:
        """Weighted values: (batch, tokens, heads · head_dim), HEAD fraction bits."""
        import torch

        batch, heads, count, end = weights.shape
        groups, size = values.shape[1], values.shape[3]
        weights = weights.reshape(batch, groups, heads // groups * count, end)
        mixed = p.shift(torch.matmul(weights, values), PROBABILITY)
        return mixed.view(batch, heads, count, size).transpose(1, 2).reshape(batch, count, heads * size)

    def _logits(self, hidden: Tensor) -> Tensor:
        return p.shift(p.dot(self._norm(hidden), self._model.matrices["lm_head"]), NORMED + WEIGHT - LOGIT)

    def _grow(self, needed: int) -> None:
        """Room for ``needed`` tokens in cache and rotary table; doubled, so that growing costs little per token."""
        import torch

        from otr_core.lane.tables import rotary_table

        have = self._rotary[0].shape[0]
        if needed <= have:
            return
        a, device = self._model.architecture, self._model.device
        room = max(_BLOCK, 1 << (needed - 1).bit_length())
        shape = (len(self._padding), a.kv_heads, room, a.head_dim)
        for store in (self._keys, self._values):
            for layer, old in enumerate(store):
                store[layer] = torch.zeros(shape, dtype=torch.float64, device=device)
                if self._seen:
                    store[layer][:, :, : self._seen] = old[:, :, : self._seen]
        cosines, sines = rotary_table(a.rope_theta, a.head_dim, room, ROTARY, a.rope_scaling)
        self._rotary = (
            torch.tensor(cosines, dtype=torch.float64, device=device),
            torch.tensor(sines, dtype=torch.float64, device=device),
        )

    def _record(self, recorder: Recorder, row: int, begin: int, outputs: list[Tensor]) -> None:
        import torch

        pad = self._padding[row]
        first, end = max(begin, pad), begin + outputs[0].shape[1]
        if first >= end:
            return
        rows = torch.stack([output[row, first - begin :] for output in outputs])
        keys, values = (
            torch.stack([held[row, :, first:end] for held in store]).transpose(1, 2).flatten(2)
            for store in (self._keys, self._values)
        )
        recorder.absorb(0, first - pad, _int32_bytes(rows), _int32_bytes(keys), _int32_bytes(values))


def choose_exact(logits: np.ndarray, decoding: Decoding, step: int) -> int:
    """Next token from integer logits (LOGIT fraction bits): the first largest, or drawn by seed; integers throughout.

    Weights are 2^−x of the distance to the largest logit over the temperature, in token-id order.
    """
    import numpy as np

    from otr_core.lane.sampling import draw

    if decoding.temperature_milli == 0:
        return int(np.argmax(logits))
    below = (logits.max() - logits).astype(np.int64)
    # distance · log2(e) · 1000 / temperature, rescaled from LOGIT to SCORE fraction bits
    factor = round(LOG2E * 1000 * 2**20)
    index = below * factor // (decoding.temperature_milli << (20 + LOGIT - SCORE))
    table = lookup_tables("cpu")["exp2"].numpy().astype(np.int64)
    cumulative = np.cumsum(table[np.minimum(index, len(table) - 1)])
    target = draw(decoding.seed, step) * int(cumulative[-1]) >> 53
    return int(np.searchsorted(cumulative, target, side="right"))


_TABLES: dict[str, dict[str, Tensor]] = {}


def lookup_tables(device: str) -> dict[str, Tensor]:
    """The look-up tables as tensors: 2^−x down to where it rounds to 0, and the sigmoid."""
    if device not in _TABLES:
        import torch

        from otr_core.lane.tables import exp2_table, sigmoid_table

        one = torch.tensor(exp2_table(SCORE, EXP), dtype=torch.float64)
        octaves = [torch.floor(one * 2.0**-octave) for octave in range(EXP + 1)]
        exp2 = torch.cat([*octaves, torch.zeros(1, dtype=torch.float64)])
        sigmoid = torch.tensor(sigmoid_table(SIGMOID_INDEX, SIGMOID, SIGMOID_LIMIT), dtype=torch.float64)
        _TABLES[device] = {"exp2": exp2.to(device), "sigmoid": sigmoid.to(device)}
    return _TABLES[device]


def _int32_bytes(rows: Tensor) -> np.ndarray:
    """(layers, positions, values) to (layers, positions, bytes), little-endian int32."""
    import torch

    result: np.ndarray = rows.to(torch.int32).contiguous().cpu().numpy().astype("<i4", copy=False).view("u1")
    return result
