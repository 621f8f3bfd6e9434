"""A checkpoint in integers: the portable lane's rounding of matrices, and the proof of its bounds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from otr_core.errors import ModelError
from otr_core.lane import formats as bits
from otr_core.lane.architecture import Architecture
from otr_core.lane.program import Dims, Matrix
from otr_node import weights
from otr_node.integers.forms import Form
from otr_node.integers.packed import Packed, Packer, RowSizes

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


@dataclass(frozen=True)
class _Part:
    """A tensor's place in a stacked matrix, and how it is rounded.

    Attributes:
        name: of the tensor that is committed to. source: of the checkpoint's tensor. norm: of the
            norm whose weight multiplies its columns.
        stack: name of the stacked matrix. first: row in it.
        factor: by which it is multiplied, fraction bits included.
    """

    name: str
    source: str
    stack: str
    norm: str | None = None
    first: int = 0
    factor: float = 2.0**bits.WEIGHT


def _parts(a: Architecture) -> Iterator[_Part]:
    """All matrices, in the order in which they are committed to."""
    embedding, head, norm = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
    parts = [
        _Part(embedding, embedding, "embed", factor=2.0**bits.RESIDUAL),
        _Part(head, embedding if a.tied else head, "lm_head", norm),
    ]
    for layer in range(a.layers):
        prefix = f"model.layers.{layer}."
        norms = {"qkv": f"{prefix}input_layernorm.weight", "gate_up": f"{prefix}post_attention_layernorm.weight"}
        for stack, members in STACKS.items():
            first = 0
            for member in members:
                name = f"{prefix}{member}.weight"
                factor = bits.LOG2E / math.sqrt(a.head_dim) if member == "self_attn.q_proj" else 1.0
                parts.append(_Part(name, name, f"{layer}.{stack}", norms.get(stack), first, factor * 2.0**bits.WEIGHT))
                first += a.tensors()[name][0] if len(members) > 1 else 0
    yield from sorted(parts, key=lambda part: part.name)


def stack_shapes(a: Architecture) -> dict[str, tuple[int, int]]:
    """Shape of each stacked matrix, by its name."""
    shapes = Dims.of(a).matrix_shape
    named = dict(zip(STACKS, (Matrix.QKV, Matrix.OUT, Matrix.GATE_UP, Matrix.DOWN), strict=True))
    layers = {f"{layer}.{stack}": shapes(matrix) for layer in range(a.layers) for stack, matrix in named.items()}
    return {"embed": shapes(Matrix.EMBED), "lm_head": shapes(Matrix.HEAD), **layers}


def round_model(
    architecture: Architecture, tensors: Mapping[str, Tensor], form: Form
) -> tuple[dict[str, Packed], Bounds, weights.WeightCommitment]:
    """The executed integer matrices of a checkpoint, packed, with their bounds and the commitment to
    them: int32 tensors under the checkpoint's own names.

    One tensor is read, rounded, hashed and packed after the other, so that little more is held than
    what stays. Products with a norm's weight are exact in float64 for 24-bit weights, and rounding
    is to nearest, ties to even: the same integers on every machine.

    Args:
        tensors: each read once or twice, when it comes to it.

    Raises:
        ModelError: a weight beyond int32, or a bound that does not hold.
    """
    shapes = stack_shapes(architecture)
    packers: dict[str, Packer] = {}
    sizes: dict[str, RowSizes] = {}

    def integers() -> Iterator[weights.Tensor]:
        for part in _parts(architecture):
            source = tensors[part.source].float().numpy()
            columns = np.ones(source.shape[1])
            if part.norm is not None:
                columns = tensors[part.norm].double().numpy()
            if part.stack not in packers:
                packers[part.stack] = Packer(shapes[part.stack], form.loops)
            values, sizes[part.name] = packers[part.stack].add(part.first, source, columns, part.factor)
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
    the down projection is saturated.

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
    epsilon = Dims.of(a).epsilon * 2.0 ** (-2 * bits.NORM_LEAST_SCALE)
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

    keep("norm", "RMSNorm", 4 * (a.hidden * 2.0 ** (2 * bits.NORM_INPUT) + epsilon))
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
            sums[kind] = size(part).longest * normed
            if shift == Matrix.GATE_UP.shift:
                keep(kind, f"{prefix}{part}.weight", sums[kind])
            state(kind, sums[kind])
            out[kind] = sums[kind] * 2.0**-shift + 1
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
