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

from otr_core.errors import InputError, ModelError
from otr_core.inference import primitives as p
from otr_core.inference.architecture import Architecture
from otr_core.inference.registry import ModelManifest
from otr_core.inference.sampling import Decoding
from otr_core.inference.trace import Recorder

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

LANE = "portable-1"

# Fraction bits, chosen by measured accuracy against fp32; the bounds decide whether a model fits.
RESIDUAL = 15  # residual stream; int32 then holds ±65,536 (SmolLM2 reaches 26,000)
WEIGHT = 16  # all matrices
NORMED = 18  # output of RMSNorm
HEAD = 14  # queries (in log2 units), keys, values, attention output
SCORE = 13  # index of the 2^−x table
PROBABILITY = 24  # normalised attention weights
GATE = 16  # gate and up projections
SIGMOID_INDEX, SIGMOID = 13, 20  # index and value of the sigmoid table
MLP = 13  # product that enters the down projection
ROTARY = 20  # cosines and sines
LOGIT = 16

INT32 = 2**31 - 1
_NORM_INPUT = 19  # a row is scaled to this many bits before it is squared
_NORM_LEAST_SCALE = -8  # … but is not enlarged by more than 2^8, so that the epsilon term stays below 2^52
_EXP = 20  # value bits of the 2^−x table
_SIGMOID_LIMIT = 20
_LEAST_MLP_ROOM = 8  # the product that enters the down projection must have room for ±2^8 at least
_BLOCK = 256  # positions computed at once; bounds memory, changes no bit
_LOG2E = 1.4426950408889634


@dataclass(frozen=True)
class Bounds:
    """Proven from the weights: the largest magnitude of each kind of accumulator, below 2^52, and per layer the value
    at which the product that enters the down projection saturates so that this holds for that projection as well."""

    accumulators: dict[str, float]
    saturation: tuple[int, ...]


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
        return choose(logits, decoding, step)

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

    from otr_core.inference.model import commit_tensors, load_tokenizer, make_manifest, read_variant

    folder = Path(folder)
    architecture, tensors = read_variant(folder, drop_layers, alter)
    integers = to_integers(architecture, tensors)
    bounds = check_bounds(architecture, integers)
    manifest = make_manifest(folder, architecture, LANE, commit_tensors(integers))
    matrices: dict[str, Tensor] = {"embed": integers.pop("model.embed_tokens.weight").to(device)}
    for layer in range(architecture.layers):
        prefix = f"model.layers.{layer}."
        for stacked, parts in _STACKS.items():
            rows = [integers.pop(f"{prefix}{part}.weight") for part in parts]
            matrices[f"{layer}.{stacked}"] = torch.cat(rows).to(device, torch.float64)
    matrices["lm_head"] = integers.pop("lm_head.weight").to(device, torch.float64)
    return PortableModel(architecture, manifest, load_tokenizer(folder), matrices, bounds, device, threads)


_STACKS = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "o": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}


def to_integers(architecture: Architecture, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The executed integer matrices (int32) of a checkpoint, by the checkpoint's own names.

    Products with a norm's weight are exact in float64 for 24-bit weights, and rounding is to nearest, ties to even:
    the same integers on every machine.

    Raises:
        ModelError: a weight beyond int32.
    """
    import torch

    def rounded(name: str, bits: int, columns: Tensor | None = None, factor: float = 1.0) -> Tensor:
        value = tensors[name].to(torch.float64)
        if columns is not None:
            value = value * columns.to(torch.float64)
        value = (value * (factor * 2.0**bits)).round_()
        if value.abs().max() > INT32:
            raise ModelError(f"tensor {name}: largest integer weight {value.abs().max():.0f}, expected at most {INT32}")
        return value.to(torch.int32)

    head = tensors["model.embed_tokens.weight" if architecture.tied else "lm_head.weight"]
    result = {"model.embed_tokens.weight": rounded("model.embed_tokens.weight", RESIDUAL)}
    tensors = {**tensors, "lm_head.weight": head}
    result["lm_head.weight"] = rounded("lm_head.weight", WEIGHT, tensors["model.norm.weight"])
    for layer in range(architecture.layers):
        prefix = f"model.layers.{layer}."
        before = {
            "qkv": tensors[f"{prefix}input_layernorm.weight"],
            "gate_up": tensors[f"{prefix}post_attention_layernorm.weight"],
        }
        for stacked, parts in _STACKS.items():
            for part in parts:
                factor = _LOG2E / math.sqrt(architecture.head_dim) if part == "self_attn.q_proj" else 1.0
                name = f"{prefix}{part}.weight"
                result[name] = rounded(name, WEIGHT, before.get(stacked), factor)
    return result


def check_bounds(architecture: Architecture, integers: dict[str, Tensor]) -> Bounds:
    """Prove from the weights that no accumulator can reach 2^52, whatever the input and the order of summation.

    A normalised row has Euclidean length at most √n · 2^NORMED, times 1 + 2^-8 because the root is rounded down (it is
    at least 2^9) and plus √n / 2 for rounding each value. A dot product with it, and any part of that sum, is at most
    that times the matrix row's length (Cauchy–Schwarz). Attention weights sum to at most 1, so attention's output is
    bounded by the values. What enters the down projection is saturated.

    Raises:
        ModelError: a bound reaches 2^52; names the matrix.
    """
    import torch

    a = architecture
    normed = math.sqrt(a.hidden) * (2.0**NORMED * (1 + 2**-8) + 1)
    epsilon = _epsilon(a) * 2.0 ** (-2 * _NORM_LEAST_SCALE)
    worst: dict[str, float] = {}
    saturation: list[int] = []

    def keep(kind: str, name: str, bound: float) -> float:
        if not bound < p.LIMIT:
            raise ModelError(
                f"accumulator bound of {name} ({kind}): found 2^{math.log2(bound):.1f}, expected below 2^52"
            )
        worst[kind] = max(worst.get(kind, 0.0), bound)
        return bound

    def length(name: str) -> float:
        return float(integers[name].to(torch.float64).square().sum(-1).max().sqrt()) * (1 + 1e-9)

    def total(name: str) -> float:
        return float(integers[name].to(torch.float64).abs().sum(-1).max())

    keep("norm", "RMSNorm", 4 * (a.hidden * 2.0 ** (2 * _NORM_INPUT) + epsilon))
    keep("logits", "lm_head", length("lm_head.weight") * normed)
    for layer in range(a.layers):
        prefix = f"model.layers.{layer}."
        out = {}
        for kind, part, bits in (
            ("query", "self_attn.q_proj", HEAD),
            ("key", "self_attn.k_proj", HEAD),
            ("value", "self_attn.v_proj", HEAD),
            ("gate", "mlp.gate_proj", GATE),
            ("up", "mlp.up_proj", GATE),
        ):
            name = f"{prefix}{part}.weight"
            out[kind] = keep(kind, name, length(name) * normed) * 2.0 ** (bits - NORMED - WEIGHT) + 1
        for kind in ("query", "key"):  # a rotation: cosine and sine parts, at most √2 in all, rounded
            keep("rotation", prefix, 2 * out[kind] * 2.0**ROTARY)
            out[kind] = 1.5 * out[kind] + 1
            if out[kind] > INT32:
                raise ModelError(f"bound of {prefix}{kind}: found {out[kind]:.0f}, expected at most {INT32}")
        keep("score", prefix, 2 * a.head_dim * out["query"] * out["key"])
        keep("attention", prefix, 2.0**PROBABILITY * out["value"])
        keep("output", prefix, total(f"{prefix}self_attn.o_proj.weight") * out["value"])
        keep("silu", prefix, out["gate"] * 2.0**SIGMOID)
        keep("product", prefix, out["gate"] * out["up"])
        name = f"{prefix}mlp.down_proj.weight"
        room = min(30, math.floor(math.log2(p.LIMIT / total(name)) - 1e-9))
        if room < MLP + _LEAST_MLP_ROOM:
            raise ModelError(
                f"accumulator bound of {name}: leaves 2^{room}, expected 2^{MLP + _LEAST_MLP_ROOM} or more"
            )
        saturation.append(2**room)
        keep("down", name, total(name) * saturation[-1])
    return Bounds(worst, tuple(saturation))


class PortableSession:
    """One or more sequences being computed in integers.

    Args:
        padding: per sequence, how many of its first tokens are padding (left); they are computed and seen by nobody.
    """

    def __init__(self, model: PortableModel, padding: Sequence[int] = (0,)) -> None:
        import torch

        a = model.architecture
        self._model, self._padding = model, tuple(padding)
        self._pad = torch.tensor(self._padding, device=model.device)
        self._seen = 0  # tokens fed so far, padding included
        self._keys = [torch.empty(0) for _ in range(a.layers)]
        self._values = [torch.empty(0) for _ in range(a.layers)]
        self._rotary = (torch.empty(0), torch.empty(0))
        self._tables = _tables(model.device)

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

        from otr_core.inference.model import torch_threads

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
        for layer in range(model.architecture.layers):
            hidden = self._layer(layer, hidden, begin)
            for row, recorder in enumerate(recorders):
                if recorder is not None:
                    self._record(recorder, layer, row, begin, hidden)
        self._seen = begin + count
        return hidden

    def _layer(self, layer: int, hidden: Tensor, begin: int) -> Tensor:
        a, matrices = self._model.architecture, self._model.matrices
        batch, count, _ = hidden.shape
        end = begin + count

        qkv = p.shift(p.dot(self._norm(hidden), matrices[f"{layer}.qkv"]), NORMED + WEIGHT - HEAD)
        heads = qkv.view(batch, count, a.heads + 2 * a.kv_heads, a.head_dim).transpose(1, 2)
        query, key, value = heads.split([a.heads, a.kv_heads, a.kv_heads], dim=1)
        keys, values = self._keys[layer], self._values[layer]
        keys[:, :, begin:end] = self._rotate(key, begin)
        values[:, :, begin:end] = value
        mixed = self._attend(self._rotate(query, begin), keys[:, :, :end], values[:, :, :end], begin)
        hidden = hidden + p.shift(p.dot(mixed, matrices[f"{layer}.o"]), HEAD + WEIGHT - RESIDUAL)
        p.saturate(hidden, INT32)

        gate_up = p.shift(p.dot(self._norm(hidden), matrices[f"{layer}.gate_up"]), NORMED + WEIGHT - GATE)
        gate, up = gate_up.split(a.intermediate, dim=-1)
        index = p.shift(gate + 0.0, GATE - SIGMOID_INDEX).add_(_SIGMOID_LIMIT << SIGMOID_INDEX)
        silu = p.shift(p.lookup(self._tables["sigmoid"], index).mul_(gate), SIGMOID)
        product = p.saturate(p.shift(silu.mul_(up), 2 * GATE - MLP), self._model.bounds.saturation[layer])
        hidden = hidden.add_(p.shift(p.dot(product, matrices[f"{layer}.down"]), MLP + WEIGHT - RESIDUAL))
        return p.saturate(hidden, INT32)

    def _norm(self, hidden: Tensor) -> Tensor:
        """RMSNorm without its weight: hidden / √(mean square + epsilon), NORMED fraction bits."""
        n = self._model.architecture.hidden
        power = (_NORM_INPUT - p.bit_length(p.largest(hidden.abs()))).clamp_(max=-_NORM_LEAST_SCALE)
        scaled = p.scale(hidden, power)
        squares = scaled.square().sum(-1, keepdim=True)
        squares = squares + p.scale(squares.new_tensor([float(_epsilon(self._model.architecture))]), 2 * power)
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

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, begin: int) -> Tensor:
        """Attention of the new tokens over all so far: (batch, tokens, heads · head_dim), HEAD fraction bits."""
        import torch

        batch, heads, count, size = query.shape
        groups, end = keys.shape[1], keys.shape[2]
        query = query.reshape(batch, groups, heads // groups * count, size)
        scores = torch.matmul(query, keys.transpose(2, 3)).view(batch, heads, count, end)
        if count > 1 or any(self._padding):
            place = torch.arange(end, device=query.device)
            hidden_from = place[None, None] > torch.arange(begin, end, device=query.device)[None, :, None]
            hidden_from = hidden_from | (place[None, None] < self._pad[:, None, None])
            scores.masked_fill_(hidden_from[:, None], -float(p.LIMIT))
        below = (p.largest(scores) - scores).mul_(2.0 ** (SCORE - 2 * HEAD))
        weights = p.lookup(self._tables["exp2"], below)
        share = p.divide(weights.new_tensor(2.0 ** (_EXP + PROBABILITY)), weights.sum(-1, keepdim=True))
        weights = weights.mul_(share).mul_(2.0**-_EXP).floor_()
        weights = weights.view(batch, groups, heads // groups * count, end)
        mixed = p.shift(torch.matmul(weights, values), PROBABILITY)
        return mixed.view(batch, heads, count, size).transpose(1, 2).reshape(batch, count, heads * size)

    def _logits(self, hidden: Tensor) -> Tensor:
        return p.shift(p.dot(self._norm(hidden), self._model.matrices["lm_head"]), NORMED + WEIGHT - LOGIT)

    def _grow(self, needed: int) -> None:
        """Room for ``needed`` tokens in cache and rotary table; doubled, so that growing costs little per token."""
        import torch

        from otr_core.inference.tables import rotary_table

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
        cosines, sines = rotary_table(a.rope_theta, a.head_dim, room, ROTARY)
        self._rotary = (
            torch.tensor(cosines, dtype=torch.float64, device=device),
            torch.tensor(sines, dtype=torch.float64, device=device),
        )

    def _record(self, recorder: Recorder, layer: int, row: int, begin: int, hidden: Tensor) -> None:
        pad = self._padding[row]
        first, end = max(begin, pad), begin + hidden.shape[1]
        if first >= end:
            return
        key, value = (
            store[layer][row, :, first:end].transpose(0, 1).flatten(1) for store in (self._keys, self._values)
        )
        rows = (_int32_bytes(part) for part in (hidden[row, first - begin :], key, value))
        recorder.absorb(layer, first - pad, *rows)


def choose(logits: np.ndarray, decoding: Decoding, step: int) -> int:
    """Next token from integer logits (LOGIT fraction bits): the first largest, or drawn by seed; integers throughout.

    Weights are 2^−x of the distance to the largest logit over the temperature, in token-id order.
    """
    import numpy as np

    from otr_core.inference.sampling import draw

    if decoding.temperature_milli == 0:
        return int(np.argmax(logits))
    below = (logits.max() - logits).astype(np.int64)
    # distance · log2(e) · 1000 / temperature, rescaled from LOGIT to SCORE fraction bits
    factor = round(_LOG2E * 1000 * 2**20)
    index = below * factor // (decoding.temperature_milli << (20 + LOGIT - SCORE))
    table = _tables("cpu")["exp2"].numpy().astype(np.int64)
    cumulative = np.cumsum(table[np.minimum(index, len(table) - 1)])
    target = draw(decoding.seed, step) * int(cumulative[-1]) >> 53
    return int(np.searchsorted(cumulative, target, side="right"))


_TABLES: dict[str, dict[str, Tensor]] = {}


def _tables(device: str) -> dict[str, Tensor]:
    """The look-up tables as tensors: 2^−x down to where it rounds to 0, and the sigmoid."""
    if device not in _TABLES:
        import torch

        from otr_core.inference.tables import exp2_table, sigmoid_table

        one = torch.tensor(exp2_table(SCORE, _EXP), dtype=torch.float64)
        octaves = [torch.floor(one * 2.0**-octave) for octave in range(_EXP + 1)]
        exp2 = torch.cat([*octaves, torch.zeros(1, dtype=torch.float64)])
        sigmoid = torch.tensor(sigmoid_table(SIGMOID_INDEX, SIGMOID, _SIGMOID_LIMIT), dtype=torch.float64)
        _TABLES[device] = {"exp2": exp2.to(device), "sigmoid": sigmoid.to(device)}
    return _TABLES[device]


def _epsilon(architecture: Architecture) -> int:
    """The norm's epsilon times the row's length, as a sum of squares of residual values."""
    return round(architecture.rms_eps * architecture.hidden * 2.0 ** (2 * RESIDUAL))


def _int32_bytes(rows: Tensor) -> np.ndarray:
    """(positions, values) to (1, positions, bytes), little-endian int32."""
    import torch

    result: np.ndarray = rows.to(torch.int32).contiguous().cpu().numpy().astype("<i4", copy=False).view("u1")[None]
    return result
