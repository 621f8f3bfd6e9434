"""A checkpoint in integers: the portable lane's number formats, its rounding of matrices, the proof
of its bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from otr_core.errors import ModelError
from otr_core.lane import formats as bits
from otr_core.lane.architecture import Architecture
from otr_core.lane.program import Dims, Matrix

_LEAST_MLP_ROOM = 8  # the product that enters the down projection must have room for ±2^8 at least


@dataclass(frozen=True)
class Bounds:
    """Proven from the weights: the largest magnitude of each kind of accumulator, below 2^52, and
    per layer the value at which the product that enters the down projection saturates so that this
    holds for that projection as well."""

    accumulators: dict[str, float]
    saturation: tuple[int, ...]


STACKS = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "o": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}


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


def check_bounds(architecture: Architecture, integers: dict[str, Tensor]) -> Bounds:
    """Prove from the weights that no accumulator can reach 2^52, whatever the input and the order
    of summation.

    A normalised row has Euclidean length at most √n · 2^NORMED, times 1 + 2^-8 because the root is
    rounded down (it is at least 2^9) and plus √n / 2 for rounding each value. A dot product with
    it, and any part of that sum, is at most that times the matrix row's length (Cauchy–Schwarz).
    Attention weights sum to at most 1, so attention's output is bounded by the values. What enters
    the down projection is saturated.

    Raises:
        ModelError: a bound reaches 2^52; names the matrix.
    """
    a = architecture
    normed = math.sqrt(a.hidden) * (2.0**bits.NORMED * (1 + 2**-8) + 1)
    epsilon = Dims.of(a).epsilon * 2.0 ** (-2 * bits.NORM_LEAST_SCALE)
    worst: dict[str, float] = {}
    saturation: list[int] = []

    def keep(kind: str, name: str, bound: float) -> float:
        if not bound < bits.LIMIT:
            raise ModelError(
                f"accumulator bound of {name} ({kind}): found 2^{math.log2(bound):.1f}, expected below 2^52"
            )
        worst[kind] = max(worst.get(kind, 0.0), bound)
        return bound

    def length(name: str) -> float:
        return float(integers[name].to(torch.float64).square().sum(-1).max().sqrt()) * (1 + 1e-9)

    def total(name: str) -> float:
        return float(integers[name].to(torch.float64).abs().sum(-1).max())

    keep("norm", "RMSNorm", 4 * (a.hidden * 2.0 ** (2 * bits.NORM_INPUT) + epsilon))
    keep("logits", "lm_head", length("lm_head.weight") * normed)
    for layer in range(a.layers):
        prefix = f"model.layers.{layer}."
        out = {}
        for kind, part, shift in (
            ("query", "self_attn.q_proj", Matrix.QKV.shift),
            ("key", "self_attn.k_proj", Matrix.QKV.shift),
            ("value", "self_attn.v_proj", Matrix.QKV.shift),
            ("gate", "mlp.gate_proj", Matrix.GATE_UP.shift),
            ("up", "mlp.up_proj", Matrix.GATE_UP.shift),
        ):
            name = f"{prefix}{part}.weight"
            out[kind] = keep(kind, name, length(name) * normed) * 2.0**-shift + 1
        # a rotation: cosine and sine parts, at most √2 in all, rounded
        for kind in ("query", "key"):
            keep("rotation", prefix, 2 * out[kind] * 2.0**bits.ROTARY)
            out[kind] = 1.5 * out[kind] + 1
            if out[kind] > bits.INT32:
                raise ModelError(f"bound of {prefix}{kind}: found {out[kind]:.0f}, expected at most {bits.INT32}")
        keep("score", prefix, 2 * a.head_dim * out["query"] * out["key"])
        keep("attention", prefix, 2.0**bits.PROBABILITY * out["value"])
        keep("output", prefix, total(f"{prefix}self_attn.o_proj.weight") * out["value"])
        keep("silu", prefix, out["gate"] * 2.0**bits.SIGMOID)
        keep("product", prefix, out["gate"] * out["up"])
        name = f"{prefix}mlp.down_proj.weight"
        room = min(30, math.floor(math.log2(bits.LIMIT / total(name)) - 1e-9))
        if room < bits.MLP + _LEAST_MLP_ROOM:
            raise ModelError(
                f"accumulator bound of {name}: leaves 2^{room}, expected 2^{bits.MLP + _LEAST_MLP_ROOM} or more"
            )
        saturation.append(2**room)
        keep("down", name, total(name) * saturation[-1])
    return Bounds(worst, tuple(saturation))
