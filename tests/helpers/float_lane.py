"""The portable lane as it was first executed: integers in float64 tensors, every sum below 2^52.

An oracle for the lane in integers: another number format, another library, no code shared. It runs
models whose bounds stay below 2^52 and needs eight bytes a weight.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from otr_core.errors import InputError, ModelError
from otr_core.lane import formats as bits
from otr_core.lane.architecture import Architecture
from otr_core.lane.dims import Dims, Matrix
from otr_core.lane.program import LayerOperator
from otr_core.lane.tables import exp2_entries, rotary_table, sigmoid_entries
from otr_core.poea.trace import Recorder
from otr_node.checkpoint import commit_tensors, read_checkpoint, read_variant, torch_threads
from otr_node.model import ROWS_AT_ONCE
from otr_node.rounding import STACKS
from tests.helpers import float_primitives as p
from tests.helpers.token_operators import SampledOperator

_BLOCK = 256


@dataclass(frozen=True)
class FloatModel:
    """Integer matrices as float64, and where each layer's MLP saturates."""

    architecture: Architecture
    matrices: dict[str, Tensor]
    saturation: tuple[int, ...]
    weights_root: bytes
    device: str = "cpu"
    threads: int = 1

    @property
    def dims(self) -> Dims:
        return Dims.of(self.architecture)

    def matrix(self, which: Matrix, layer: int) -> Tensor:
        shared = {Matrix.EMBED: "embed", Matrix.HEAD: "lm_head"}
        return self.matrices[shared.get(which) or f"{layer}.{list(STACKS)[which - Matrix.QKV]}"]


def load_float(folder: Path, alter=None) -> FloatModel:  # type: ignore[no-untyped-def]
    """The model of a checkpoint folder."""
    architecture, tensors = read_variant(read_checkpoint(folder), alter=alter)
    integers = to_integers(architecture, tensors)
    root, saturation = commit_tensors(integers).root, []
    matrices = {"embed": integers["model.embed_tokens.weight"], "lm_head": integers["lm_head.weight"].double()}
    for layer in range(architecture.layers):
        prefix = f"model.layers.{layer}."
        for stacked, parts in STACKS.items():
            matrices[f"{layer}.{stacked}"] = torch.cat([integers[f"{prefix}{part}.weight"] for part in parts]).double()
        widest = float(integers[f"{prefix}mlp.down_proj.weight"].double().abs().sum(-1).max())
        saturation.append(2 ** min(30, math.floor(math.log2(bits.LIMIT / widest) - 1e-9)))
    return FloatModel(architecture, matrices, tuple(saturation), root)


def to_integers(architecture: Architecture, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The executed integer matrices (int32) of a checkpoint, by the checkpoint's own names.

    Products with a norm's weight are exact in float64 for 24-bit weights, and rounding is to
    nearest, ties to even: the same integers on every machine.

    Raises:
        ModelError: a weight beyond int32.
    """

    def rounded(name: str, fraction: int, columns: Tensor | None = None, factor: float = 1.0) -> Tensor:
        value = tensors[name].to(torch.float64)
        if columns is not None:
            value = value * columns.to(torch.float64)
        value = (value * (factor * 2.0**fraction)).round_()
        if value.abs().max() > bits.INT32:
            raise ModelError(
                f"tensor {name}: largest integer weight {value.abs().max():.0f}, expected at most {bits.INT32}"
            )
        return value.to(torch.int32)

    head = tensors["model.embed_tokens.weight" if architecture.tied else "lm_head.weight"]
    result = {"model.embed_tokens.weight": rounded("model.embed_tokens.weight", bits.RESIDUAL)}
    tensors = {**tensors, "lm_head.weight": head}
    result["lm_head.weight"] = rounded("lm_head.weight", bits.WEIGHT, tensors["model.norm.weight"])
    for layer in range(architecture.layers):
        prefix = f"model.layers.{layer}."
        before = {
            "qkv": tensors[f"{prefix}input_layernorm.weight"],
            "gate_up": tensors[f"{prefix}post_attention_layernorm.weight"],
        }
        for stacked, parts in STACKS.items():
            for part in parts:
                factor = bits.LOG2E / math.sqrt(architecture.head_dim) if part == "self_attn.q_proj" else 1.0
                name = f"{prefix}{part}.weight"
                result[name] = rounded(name, bits.WEIGHT, before.get(stacked), factor)
    return result


class FloatSession:
    """One or more sequences being computed in integers.

    Args:
        padding: per sequence, how many of its first tokens are padding (left); they are computed
            and seen by nobody.
    """

    def __init__(
        self,
        model: FloatModel,
        padding: Sequence[int] = (0,),
        *,
        watch: tuple[int, int] | None = None,
        alter: Callable[[int, np.ndarray], np.ndarray] | None = None,
    ) -> None:
        a = model.architecture
        self._model, self._padding = model, tuple(padding)
        self._pad = torch.tensor(self._padding, device=model.device)
        self._watch, self._alter, self._watching = watch, alter, False
        self.operators: dict[int, np.ndarray] = {}
        self._seen = 0  # tokens fed so far, padding included
        self._keys = [torch.empty(0) for _ in range(a.layers)]
        self._values = [torch.empty(0) for _ in range(a.layers)]
        self._rotary = [torch.empty(0), torch.empty(0)]  # cosines, sines: (positions, head_dim / 2)
        self._tables = lookup_tables(model.device)

    def feed(self, ids: Sequence[int], recorder: Recorder | None = None) -> np.ndarray:
        """Logits (vocab,) with LOGIT fraction bits after the tokens ``ids``; for a session of one
        sequence."""
        return np.asarray(self.feed_batch([ids], [recorder])[0, -1].cpu())

    def feed_batch(
        self,
        rows: Sequence[Sequence[int]],
        recorders: Sequence[Recorder | None] = (),
        *,
        all_logits: bool = False,
    ) -> Tensor:
        """Feed each sequence the same number of tokens.

        Returns:
            integers in float64, (sequences, 1 or tokens, vocab): logits of the last or of all
            tokens.
        """
        if len(rows) != len(self._padding) or len({len(row) for row in rows}) != 1 or not rows[0]:
            raise InputError(
                f"batch: found {[len(row) for row in rows]} tokens, expected {len(self._padding)} equal rows"
            )
        ids = torch.tensor([list(row) for row in rows], device=self._model.device)
        logits = []
        with torch_threads(self._model.threads), torch.inference_mode():
            for block in self._blocks(ids):
                hidden = self._block(block, recorders)
                if all_logits:
                    logits.append(self._logits(hidden))
            return torch.cat(logits, 1) if all_logits else self._logits(hidden[:, -1:])

    def run_layer(self, position: int, layer: int, stream: np.ndarray, keys: np.ndarray, values: np.ndarray) -> None:
        """Watch one layer at one position, computed from what a trace holds, in a session that has
        fed nothing.

        Args:
            stream: (hidden,) what enters the layer. keys, values: (position, kv) of earlier
                positions; all int64.
        """
        a, device = self._model.architecture, self._model.device
        self._watch = (position, layer)
        with torch_threads(self._model.threads), torch.inference_mode():
            self._grow(position + 1)
            for store, rows in ((self._keys, keys), (self._values, values)):
                heads = torch.from_numpy(rows).view(position, a.kv_heads, a.head_dim)
                store[layer][0, :, :position] = heads.transpose(0, 1)
            self._layer(layer, torch.from_numpy(stream).to(device, torch.float64).view(1, 1, -1), position)

    def run_head(self, stream: np.ndarray) -> None:
        """Watch norm and logits of one position, from the last layer's output (hidden,), int64."""
        self._watching = True
        with torch_threads(self._model.threads), torch.inference_mode():
            self._logits(torch.from_numpy(stream).to(self._model.device, torch.float64).view(1, 1, -1))

    def _blocks(self, ids: Tensor) -> Sequence[Tensor]:
        """(batch, tokens) cut into what is computed at once; the watched position comes alone."""
        count = ids.shape[1]
        cuts = set(range(0, count, _BLOCK))
        if self._watch is not None:
            at = self._watch[0] - self._seen
            cuts |= {cut for cut in (at, at + 1) if 0 <= cut < count}
        sizes = np.diff([*sorted(cuts), count]).tolist()
        return torch.split(ids, sizes, dim=1)

    def _block(self, ids: Tensor, recorders: Sequence[Recorder | None]) -> Tensor:
        model, begin = self._model, self._seen
        count = ids.shape[1]
        self._grow(begin + count)
        hidden = model.matrices["embed"][ids].double()
        recording = [(row, recorder) for row, recorder in enumerate(recorders) if recorder is not None]
        made: list[tuple[Tensor, Tensor, Tensor]] = []
        last = model.architecture.layers - 1
        for layer in range(last + 1):
            made.append(self._layer(layer, hidden, begin))
            hidden = made[-1][0]
            if len(made) * count >= ROWS_AT_ONCE or layer == last:
                if recording:
                    self._record(recording, begin, layer + 1 - len(made), made)
                made = []
        self._seen = begin + count
        return hidden

    def _layer(self, layer: int, hidden: Tensor, begin: int) -> tuple[Tensor, Tensor, Tensor]:
        """One layer on (batch, count, hidden) tokens from position ``begin`` on; operator by
        operator as in the program, with those made together that are only told apart for a
        dispute.

        Returns:
            output, of that shape; new keys and new values, (batch, heads, count, head_dim).
        """
        op, model, note = LayerOperator, self._model, self._note
        a = model.architecture
        batch, count, _ = hidden.shape
        end = begin + count
        self._watching = self._watch == (begin, layer)
        # attention in whole tiles, as the program has it; the places beyond weigh nothing
        if self._watching:
            end = model.dims.padded(end)

        hidden = note(op.INPUT, hidden)
        normed = self.norm(hidden, op.ATTENTION_PEAK)
        qkv = note(op.QKV, self._product(normed, Matrix.QKV, layer))
        heads = qkv.view(batch, count, a.heads + 2 * a.kv_heads, a.head_dim).transpose(1, 2)
        query, key, value = heads.split([a.heads, a.kv_heads, a.kv_heads], dim=1)
        keys, values = self._keys[layer], self._values[layer]
        query = note(op.QUERY, self._rotate(query, begin))
        key = note(op.KEY, self._rotate(key, begin))
        keys[:, :, begin : begin + count] = key
        values[:, :, begin : begin + count] = value
        weights = self._attention_weights(query, keys[:, :, :end], begin)
        mixed = note(op.MIXED, self._mix(weights, values[:, :, :end]))
        hidden = hidden + self._product(mixed, Matrix.OUT, layer)
        hidden = note(op.RESIDUAL_SUM, p.saturate(hidden, bits.INT32))

        normed = self.norm(hidden, op.MLP_PEAK)
        gate_up = note(op.GATE_UP, self._product(normed, Matrix.GATE_UP, layer))
        gate, up = gate_up.split(a.intermediate, dim=-1)
        index = p.shift(gate + 0.0, bits.SIGMOID_SHIFT).add_(bits.SIGMOID_ZERO)
        silu = p.shift(p.lookup(self._tables["sigmoid"], index).mul_(gate), bits.SIGMOID)
        product = p.saturate(p.shift(silu.mul_(up), bits.PRODUCT_SHIFT), model.saturation[layer])
        product = note(op.PRODUCT, product)
        hidden = hidden.add_(self._product(product, Matrix.DOWN, layer))
        hidden = note(op.OUTPUT, p.saturate(hidden, bits.INT32))
        self._watching = False
        return hidden, key, value

    def _note(self, operator: int, values: Tensor) -> Tensor:
        """Keep an operator's values at the watched place, where one token of one sequence is
        computed: flattened they are the operator's vector. What comes back is what the computation
        goes on with."""
        if not self._watching:
            return values
        made = values.flatten().long().cpu().numpy()
        if self._alter is None:
            self.operators[operator] = made
            return values
        self.operators[operator] = made = self._alter(operator, made)
        return torch.from_numpy(made).to(values).view_as(values)

    def _product(self, x: Tensor, matrix: Matrix, layer: int) -> Tensor:
        """Products of (batch, count, columns) with a matrix, rounded: (batch, count, rows)."""
        return p.shift(p.dot(x, self._model.matrix(matrix, layer)), matrix.shift)

    def norm(self, hidden: Tensor, first: int) -> Tensor:
        """RMSNorm without its weight: hidden / √(mean square + epsilon), NORMED fraction bits.

        Args:
            first: number of the first of its four operators (peak, squares, factor, normed).
        """
        d = self._model.dims
        peak = self._note(first, p.largest(hidden.abs()))
        power = (bits.NORM_INPUT - p.bit_length(peak)).clamp_(max=-bits.NORM_LEAST_SCALE)
        scaled = p.scale(hidden, power)
        squares = self._note(first + 1, scaled.square().sum(-1, keepdim=True))
        squares = squares + p.scale(squares.new_tensor([float(d.epsilon)]), 2 * power)
        root = p.square_root(squares.mul_(4.0).clamp_(min=1.0))  # twice the length of the row
        factor = self._note(first + 2, p.divide(squares.new_tensor(float(d.numerator)), root))
        return self._note(first + 3, p.shift(scaled.mul_(factor), d.drop))

    def _rotate(self, x: Tensor, begin: int) -> Tensor:
        """Rotary embedding of (batch, heads, tokens, head_dim), the halves of a head paired."""
        count, half = x.shape[2], x.shape[3] // 2
        # (batch, 1, tokens, half); a sequence's own position 0 is its first token after the padding
        at = (torch.arange(begin, begin + count, device=x.device)[None] - self._pad[:, None]).clamp_(min=0)
        cosine, sine = (table[at][:, None] for table in self._rotary)
        first, second = x[..., :half], x[..., half:]
        turned = torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
        return p.shift(turned, bits.ROTARY)

    def _attention_weights(self, query: Tensor, keys: Tensor, begin: int) -> Tensor:
        """Softmax of the new tokens over all places: (batch, heads, tokens, places), PROBABILITY
        fraction bits.

        Args:
            query: (batch, heads, tokens, head_dim). keys: (batch, kv_heads, places, head_dim).
        """
        op, note = LayerOperator, self._note
        batch, heads, count, size = query.shape
        groups, end = keys.shape[1], keys.shape[2]
        query = query.reshape(batch, groups, heads // groups * count, size)
        scores = torch.matmul(query, keys.transpose(2, 3)).view(batch, heads, count, end)
        if end > begin + 1 or any(self._padding):  # some token does not see every place
            place = torch.arange(end, device=query.device)
            unseen = place[None, None] > torch.arange(begin, begin + count, device=query.device)[None, :, None]
            unseen = unseen | (place[None, None] < self._pad[:, None, None])
            scores.masked_fill_(unseen[:, None], -float(bits.LIMIT))
        scores = note(op.SCORES, scores)
        below = (note(op.TOPS, p.largest(scores)) - scores).mul_(2.0**-bits.SCORE_SHIFT)
        weights = note(op.EXPS, p.lookup(self._tables["exp2"], below))
        total = note(op.TOTALS, weights.sum(-1, keepdim=True)).clamp(min=1.0)
        share = note(op.SHARES, p.divide(total.new_tensor(float(bits.ONE_SHARE)), total))
        return note(op.WEIGHTS, weights.mul_(share).mul_(2.0**-bits.EXP).floor_())

    def _mix(self, weights: Tensor, values: Tensor) -> Tensor:
        """Weighted values: (batch, tokens, heads · head_dim), HEAD fraction bits."""
        batch, heads, count, end = weights.shape
        groups, size = values.shape[1], values.shape[3]
        weights = weights.reshape(batch, groups, heads // groups * count, end)
        mixed = p.shift(torch.matmul(weights, values), bits.PROBABILITY)
        return mixed.view(batch, heads, count, size).transpose(1, 2).reshape(batch, count, heads * size)

    def _logits(self, hidden: Tensor) -> Tensor:
        normed = self.norm(hidden, SampledOperator.PEAK)
        return self._note(SampledOperator.LOGITS, self._product(normed, Matrix.HEAD, 0))

    def _grow(self, needed: int) -> None:
        """Room for ``needed`` tokens in cache and rotary table; doubled, so that growing costs
        little per token."""
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
        turns = rotary_table(a.rope_theta, a.head_dim, room, bits.ROTARY, a.rope_scaling)
        self._rotary = [torch.tensor(side, dtype=torch.float64, device=device) for side in turns]

    def _record(
        self,
        recording: Sequence[tuple[int, Recorder]],
        begin: int,
        layer: int,
        made: Sequence[tuple[Tensor, Tensor, Tensor]],
    ) -> None:
        """Hand over what the layers from ``layer`` on left behind, for each sequence that is
        recorded."""
        outputs, keys, values = (torch.stack(each) for each in zip(*made, strict=True))
        # (layers, batch, heads, count, head_dim) to (layers, batch, count, heads · head_dim)
        rows = [_int32_bytes(outputs), *(_int32_bytes(each.transpose(2, 3).flatten(3)) for each in (keys, values))]
        for row, recorder in recording:
            unseen = max(self._padding[row] - begin, 0)
            if unseen < rows[0].shape[2]:
                recorder.absorb(layer, begin + unseen - self._padding[row], *(each[:, row, unseen:] for each in rows))


@functools.cache
def lookup_tables(device: str) -> dict[str, Tensor]:
    """The look-up tables as tensors."""
    made = {"exp2": exp2_entries(), "sigmoid": sigmoid_entries()}
    return {name: torch.tensor(entries, dtype=torch.float64, device=device) for name, entries in made.items()}


def _int32_bytes(rows: Tensor) -> np.ndarray:
    """(…, values) to (…, bytes), little-endian int32."""
    return np.asarray(rows.to(torch.int32).contiguous().cpu()).astype("<i4", copy=False).view("u1")
