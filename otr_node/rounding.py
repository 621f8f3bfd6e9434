"""A checkpoint in integers: the portable lane's rounding of matrices, and the proof of its bounds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from otr_core.errors import ModelError
from otr_core.lane import formats as bits
from otr_core.lane.architecture import FUSED, Architecture
from otr_core.lane.dims import KEY, QUERY, Dims, Matrix
from otr_node import weights
from otr_node.integers.forms import Form
from otr_node.integers.packed import Blocks, Packed, Packer, RowSizes

INT64 = 2**62
"""What integer sums stay below: half of what int64 holds, so that there is room for rounding."""
_LEAST_MLP_ROOM = 8  # the product that enters the down projection must have room for ±2^8 at least


@dataclass(frozen=True)
class Bounds:
    """Proven from the weights, whatever the input.

    Attributes:
        accumulators: the largest magnitude of each kind of accumulator.
        matrices: of the sums of products with each stacked matrix, by its name. Below 2^52 they may
            be computed in float64.
        saturation: per layer, where the product that enters the down projection saturates, so that
            that projection's sums stay below 2^52.
    """

    accumulators: dict[str, float]
    matrices: dict[str, float]
    saturation: tuple[int, ...]


STACKS = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "o": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
_MATRICES = dict(zip(STACKS, (Matrix.QKV, Matrix.OUT, Matrix.GATE_UP, Matrix.DOWN), strict=True))
SCALES = {
    "query_scale": Matrix.QUERY_SCALE,
    "key_scale": Matrix.KEY_SCALE,
    "out_scale": Matrix.OUT_SCALE,
    "down_scale": Matrix.DOWN_SCALE,
}
"""Weights of norms that no matrix follows, in families that have such norms."""


@dataclass(frozen=True)
class _Part:
    """A tensor's place in a stacked matrix, and how it is rounded.

    Attributes:
        name: of the tensor that is committed to. source: of the checkpoint's tensor. norm: of the
            norm whose weight multiplies its columns.
        stack: name of the stacked matrix. first: row in it.
        factor: by which it is multiplied, fraction bits included.
        bias: name of the biases that become a column, where ``tile`` columns are added for them.
        begin, rows: which rows of the source, where it is fused; 0 rows: all of them.
        head: values of a head of which some are not turned, so that its rows change places.
        repeat: a norm's weight, as a row repeated so often; 0 for a matrix.
    """

    name: str
    source: str
    stack: str
    norm: str | None = None
    first: int = 0
    factor: float = 2.0**bits.WEIGHT
    bias: str | None = None
    begin: int = 0
    rows: int = 0
    head: int = 0
    repeat: int = 0


def matrix_name(matrix: Matrix, layer: int) -> str:
    """Name under which a stacked matrix is kept."""
    shared = {Matrix.EMBED: "embed", Matrix.HEAD: "lm_head"}
    per_layer = {each: name for name, each in (_MATRICES | SCALES).items()}
    return shared.get(matrix) or f"{layer}.{per_layer[matrix]}"


def _parts(a: Architecture) -> Iterator[_Part]:
    """All matrices, in the order in which they are committed to."""
    embedding, head, norm = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
    scale = a.embedding_scale * (math.sqrt(a.hidden) if a.scaled_by_width else 1.0)
    parts = [
        _Part(embedding, embedding, "embed", factor=scale * 2.0**bits.RESIDUAL),
        _Part(head, embedding if a.tied else head, "lm_head", norm, factor=2.0**bits.WEIGHT / a.logit_divisor),
    ]
    for layer in range(a.layers):
        parts += _layer_parts(a, layer)
    yield from sorted(parts, key=lambda part: part.name)


def _layer_parts(a: Architecture, layer: int) -> Iterator[_Part]:
    prefix = f"model.layers.{layer}."
    before, after_attention, before_mlp, after_mlp = (name and f"{prefix}{name}.weight" for name in a.layer_norms)
    norms = {"qkv": before, "gate_up": before_mlp}
    scaled = _score_factor(a)
    factors = dict.fromkeys(("self_attn.o_proj", "mlp.down_proj"), a.residual_scale)
    if not a.head_norms:
        factors["self_attn.q_proj"] = scaled
    values = {"q": a.heads * a.head_dim, "k": a.kv_heads * a.head_dim, "v": a.kv_heads * a.head_dim}
    rows = {f"self_attn.{side}_proj": count for side, count in values.items()}
    rows |= {"mlp.gate_proj": a.intermediate, "mlp.up_proj": a.intermediate}
    turned = ("self_attn.q_proj", "self_attn.k_proj") if a.rotary < a.head_dim else ()
    for stack, members in STACKS.items():
        first = 0
        fused = [whole for whole, halves in FUSED.items() if halves == members and a.fused]
        for member in members:
            name = f"{prefix}{member}.weight"
            yield _Part(
                name,
                f"{prefix}{fused[0]}.weight" if fused else name,
                f"{layer}.{stack}",
                norms.get(stack),
                first,
                factors.get(member, 1.0) * 2.0**bits.WEIGHT,
                f"{prefix}{member}.bias" if a.biased and stack == "qkv" else None,
                begin=first if fused else 0,
                rows=rows[member] if fused else 0,
                head=a.head_dim if member in turned else 0,
            )
            first += rows.get(member, 0)
    if a.head_norms:
        for side, stack, heads in (("q", "query_scale", a.heads), ("k", "key_scale", a.kv_heads)):
            name, factor = f"{prefix}self_attn.{side}_norm.weight", scaled if side == "q" else 1.0
            repeat = heads if a.head_norms == "head" else 1
            yield _Part(name, name, f"{layer}.{stack}", factor=factor * 2.0**bits.WEIGHT, repeat=repeat)
    for norm, stack in ((after_attention, "out_scale"), (after_mlp, "down_scale")):
        if norm is not None:
            yield _Part(norm, norm, f"{layer}.{stack}", factor=a.residual_scale * 2.0**bits.WEIGHT, repeat=1)


def _score_factor(a: Architecture) -> float:
    """By what queries are multiplied: scores are exponents of two, scaled as the family says."""
    sharpened = a.rope_scaling.attention_factor() ** 2 if a.rope_scaling is not None else 1.0
    if a.attention_scale:
        return bits.LOG2E * a.attention_scale * sharpened
    return bits.LOG2E / math.sqrt(a.query_scalar or a.head_dim) * sharpened


def _values(a: Architecture, tensors: Mapping[str, Tensor], part: _Part) -> tuple[np.ndarray, np.ndarray]:
    """A part's float32 values (rows, columns), and by what its columns are multiplied, float64."""
    source = tensors[part.source].float().numpy()
    if part.repeat:
        row = np.tile(source.astype(np.float64) + a.one_plus, part.repeat)[None]
        return row.astype(np.float32), np.ones(row.shape[1])
    if part.rows:
        source = np.ascontiguousarray(source[part.begin : part.begin + part.rows])
    if part.head:
        heads = source.reshape(-1, part.head, source.shape[1])
        source = heads[:, _turned_first(part.head, a.rotary)].reshape(source.shape)
    columns = np.ones(source.shape[1])
    if part.norm is not None:
        columns = tensors[part.norm].double().numpy() + a.one_plus
    if part.bias is not None:
        more = np.zeros((len(source), a.head_dim), np.float32)
        more[:, 0] = tensors[part.bias].float().numpy()
        source, columns = np.concatenate([source, more], axis=1), np.concatenate([columns, np.ones(a.head_dim)])
    return source, columns


def _turned_first(size: int, turned: int) -> list[int]:
    """Order of a head's values in which those that are turned with each other lie half a head
    apart, as where all are turned; the rest follow in each half."""
    half, rest = turned // 2, (size - turned) // 2
    first = [*range(half), *range(turned, turned + rest)]
    return [*first, *range(half, turned), *range(turned + rest, size)]


_PAIRS = {
    "self_attn.v_proj": "self_attn.o_proj",
    "self_attn.q_proj": "self_attn.k_proj",
    "self_attn.q_norm": "self_attn.k_norm",
    "mlp.up_proj": "mlp.down_proj",
}
"""Tensors of which one may be multiplied and the other divided by any number: the decoder stays the
same function, but fixed point would not serve it as well."""
_KEPT = 2.0**-5, 2.0**2
"""Ratios of the largest magnitudes of such a pair at which nothing is changed."""


def balance(a: Architecture, tensors: Mapping[str, Tensor]) -> dict[str, float]:
    """Powers of two by which tensors are multiplied before they are rounded, by their names; 1 for
    those that are not there.

    Where a pair's magnitudes lie far apart, the ratio comes to between 1/8 and 1/2. Norms of queries
    and keys are always brought together, so that what they give has the same magnitude, within a
    factor of two, and loses the same when it is rounded. Only powers of two and largest magnitudes
    enter, which every machine finds alike.
    """
    factors: dict[str, float] = {}
    parts = {part.name: part for layer in range(a.layers) for part in _layer_parts(a, layer)}
    for layer in range(a.layers):
        for names in _PAIRS.items():
            norms = names[0] == "self_attn.q_norm"
            if names[0] == ("self_attn.q_proj" if a.head_norms else "self_attn.q_norm"):
                continue  # a norm between queries and matrices takes any factor away
            first, second = (f"model.layers.{layer}.{name}.weight" for name in names)
            ours, theirs = (_largest(*_values(a, tensors, parts[name])) for name in (first, second))
            ratio = ours / theirs if ours and theirs else 1.0
            if norms:
                ratio *= _score_factor(a)
            if norms or not _KEPT[0] <= ratio < _KEPT[1]:
                half = ((1 if norms else -1) - math.frexp(ratio)[1]) // 2
                factors |= {first: 2.0**half, second: 2.0**-half}
    return factors


def _largest(values: np.ndarray, columns: np.ndarray) -> float:
    """The largest magnitude of a matrix whose columns are multiplied."""
    return float((np.abs(values).max(0) * np.abs(columns)).max())


def stack_shapes(a: Architecture) -> dict[str, tuple[int, int]]:
    """Shape of each stacked matrix, by its name."""
    d = Dims.of(a)
    layers = {
        matrix_name(matrix, layer): d.matrix_shape(matrix) for layer in range(a.layers) for matrix in d.layer_matrices
    }
    return {"embed": d.matrix_shape(Matrix.EMBED), "lm_head": d.matrix_shape(Matrix.HEAD), **layers}


def round_model(
    architecture: Architecture, tensors: Mapping[str, Tensor], form: Form
) -> tuple[dict[str, Packed], Bounds, weights.WeightCommitment]:
    """The executed integer matrices of a checkpoint, packed, with their bounds and the commitment to
    them: int32 tensors under the checkpoint's own names (of a fused one under its parts').

    One tensor is read, rounded, hashed and packed after the other, so that little more is held than
    what stays. Products with a norm's weight are exact in float64 for 24-bit weights, and rounding
    is to nearest, ties to even: the same integers on every machine.

    Args:
        tensors: each read a few times, when it comes to it.

    Raises:
        ModelError: a weight beyond int32, or a bound that does not hold.
    """
    shapes, factors = stack_shapes(architecture), balance(architecture, tensors)
    packers: dict[str, Packer] = {}
    blocks = Blocks()
    sizes: dict[str, RowSizes] = {}

    def integers() -> Iterator[weights.Tensor]:
        for part in _parts(architecture):
            source, columns = _values(architecture, tensors, part)
            if part.stack not in packers:
                packers[part.stack] = Packer(shapes[part.stack], form.loops, blocks)
            factor = part.factor * factors.get(part.name, 1.0)
            values, sizes[part.name] = packers[part.stack].add(part.first, source, columns, factor)
            del source
            if sizes[part.name].largest > bits.INT32:
                found = f"{sizes[part.name].largest:.0f}"
                raise ModelError(f"tensor {part.name}: largest integer weight {found}, expected at most {bits.INT32}")
            yield weights.Tensor(part.name, "I32", values.shape, values.reshape(-1).view(np.uint8).data)

    commitment = weights.commit_weights(integers())
    bounds = check_bounds(architecture, sizes)
    matrices = {
        name: replace(packers[name].finish(), bound=bounds.matrices.get(name, math.inf)) for name in list(packers)
    }
    return matrices, bounds, commitment


def check_bounds(architecture: Architecture, sizes: Mapping[str, RowSizes]) -> Bounds:
    """Prove from the weights that every integer fits its format, whatever the input.

    A normalised row has Euclidean length at most √n · 2^NORMED, times 1 + 2^-8 because the root is
    rounded down (it is at least 2^9) and plus √n / 2 for rounding each value. A dot product with
    it, and any part of that sum, is at most that times the matrix row's length (Cauchy–Schwarz).
    Attention weights sum to at most 1, so attention's output is bounded by the values. What enters
    the down projection is saturated. Biases are multiplied with one. Where a family has no norm
    before a matrix, int32 bounds each value of the stream, and what the matrix gives saturates there.

    Sums are int64. Queries, keys and values are kept as int32, and a trace holds keys and values so;
    the sums that they come from, and those that rotate and mix them, are then far below 2^62.
    Scores stay below 2^52, which is the score of a place that is not there.

    Args:
        sizes: of the integer matrices, by their names in the checkpoint.

    Raises:
        ModelError: a bound does not hold; names the matrix.
    """
    a = architecture
    normed = math.sqrt(a.hidden) * (2.0**bits.NORMED * (1 + 2**-8) + 1)
    d = Dims.of(a)
    fed = math.hypot(normed, 2.0**bits.NORMED) if a.biased else normed
    epsilon = max(norm.epsilon for norm in d.norms if norm) * 2.0 ** (-2 * bits.NORM_LEAST_SCALE)
    worst: dict[str, float] = {}
    matrices: dict[str, float] = {}
    saturation: list[int] = []

    def keep(kind: str, name: str, bound: float, limit: int = INT64) -> float:
        if not bound < limit:
            found, most = math.log2(bound), math.log2(limit)
            raise ModelError(f"accumulator bound of {name} ({kind}): found 2^{found:.1f}, expected below 2^{most:.0f}")
        return state(kind, bound)

    def state(kind: str, bound: float) -> float:
        worst[kind] = max(worst.get(kind, 0.0), bound)
        return bound

    widest = max(norm.width for norm in d.norms if norm)
    keep("norm", "RMSNorm", 4 * (widest * 2.0 ** (2 * bits.NORM_INPUT) + epsilon))
    for name, cap in (("scores", d.score_cap), ("logits", d.logit_cap)):
        if cap > bits.CAP_MOST:
            raise ModelError(f"cap of {name}: found 2^{math.log2(cap):.1f}, expected at most 2^36")
    matrices["lm_head"] = keep("logits", "lm_head", sizes["lm_head.weight"].longest * normed)
    for layer in range(a.layers):
        prefix = f"model.layers.{layer}."

        def size(part: str, prefix: str = prefix) -> RowSizes:
            return sizes[f"{prefix}{part}.weight"]

        out, sums = {}, {}
        for kind, part, shift in (
            ("query", "self_attn.q_proj", Matrix.QKV.shift),
            ("key", "self_attn.k_proj", Matrix.QKV.shift),
            ("value", "self_attn.v_proj", Matrix.QKV.shift),
            ("gate", "mlp.gate_proj", Matrix.GATE_UP.shift),
            ("up", "mlp.up_proj", Matrix.GATE_UP.shift),
        ):
            if a.normed_before:
                sums[kind] = size(part).longest * (normed if shift == Matrix.GATE_UP.shift else fed)
                out[kind] = sums[kind] * 2.0**-shift + 1
            else:
                sums[kind] = size(part).total * 2.0**31
                out[kind] = float(bits.INT32)
            if shift == Matrix.GATE_UP.shift or not a.normed_before or a.head_norms:
                keep(kind, f"{prefix}{part}.weight", sums[kind])
            state(kind, sums[kind])
        # a norm of queries and keys, whose values its weight multiplies
        if a.head_norms:
            for which, kind in ((QUERY, "query"), (KEY, "key")):
                length = math.sqrt(d.norm(which).width) * (2.0**bits.NORMED * (1 + 2**-8) + 1)
                part = f"self_attn.{kind[0]}_norm"
                product = keep("scale", f"{prefix}{part}.weight", size(part).largest * length)
                out[kind] = product * 2.0**-Matrix.QUERY_SCALE.shift + 1
        for norm in a.layer_norms[1::2]:
            if norm is not None:
                keep("scale", f"{prefix}{norm}.weight", size(norm).largest * normed)
        # a rotation: cosine and sine parts, at most √2 in all, rounded
        for kind in ("query", "key"):
            state("rotation", 2 * out[kind] * 2.0**bits.ROTARY)
            out[kind] = 1.5 * out[kind] + 1
        for kind in ("query", "key", "value"):
            if out[kind] > bits.INT32:
                raise ModelError(f"bound of {prefix}{kind}: found {out[kind]:.0f}, expected at most {bits.INT32}")
        keep("score", prefix, 2 * a.head_dim * out["query"] * out["key"], bits.LIMIT)
        state("attention", 2.0**bits.PROBABILITY * out["value"])
        sums["o"] = keep("output", prefix, size("self_attn.o_proj").total * out["value"])
        keep("silu", prefix, out["gate"] * 2.0**bits.SIGMOID)
        keep("product", prefix, out["gate"] * out["up"])
        name = f"{prefix}mlp.down_proj.weight"
        total = max(size("mlp.down_proj").total, 1.0)
        room = min(30, math.floor(math.log2(bits.LIMIT / total) - 1e-9))
        if room < bits.MLP + _LEAST_MLP_ROOM:
            raise ModelError(
                f"accumulator bound of {name}: leaves 2^{room}, expected 2^{bits.MLP + _LEAST_MLP_ROOM} or more"
            )
        saturation.append(2**room)
        sums["down"] = state("down", total * saturation[-1])
        sums |= {"qkv": max(sums[kind] for kind in ("query", "key", "value")), "gate_up": max(sums["gate"], sums["up"])}
        matrices |= {f"{layer}.{stack}": sums[stack] for stack in STACKS}
    return Bounds(worst, matrices, tuple(saturation))
