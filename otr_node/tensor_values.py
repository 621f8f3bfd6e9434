"""Every value of one program of the lane ``h100-bf16``, as arrays: what a player commits to in a dispute.

The operators are those of ``otr_core.lane.tensor_program``, in their order. A value is a fp32 word, as a
signed number in int64; NaNs are the one that the definition gives, whatever the processor makes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from otr_core.lane import formats as bits
from otr_core.lane.architecture import Architecture
from otr_core.lane.blocks import BF16, FP32
from otr_core.lane.tables import rotary_table
from otr_core.lane.tensor_primitives import MINUS_INFINITY
from otr_core.lane.tensor_program import TensorDims
from otr_core.lane.tensor_steps import (
    LANES_OF_SUM,
    exponential,
    factor_of_norm,
    folded,
    gated_silu,
    score_scale,
    turned,
)
from otr_node.integers.projections import Words, replay_projection

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
_TURN_BITS = 40  # of the integer tables that cosines and sines are rounded from
Alter = Callable[[int, np.ndarray], np.ndarray]
"""(operator, its values) → the values that are gone on with; for cheats."""


def bf16_floats(words: Words) -> Floats:
    """Bf16 words as the numbers they are."""
    return (words.astype(np.uint32) << 16).view(np.float32)


def to_words(values: Floats) -> Words:
    """Fp32 numbers rounded to bf16, to nearest even (``blocks.fp32_to_bf16``)."""
    words = np.ascontiguousarray(values).view(np.uint32).astype(np.int64)
    near = (words + 0x7FFF + (words >> 16 & 1)) >> 16
    return np.where(words & FP32.nan > FP32.infinity, BF16.nan, near).astype(np.uint16)


def one_nan(values: Floats) -> Floats:
    """The same numbers, with the definition's NaN for every other."""
    words = np.ascontiguousarray(values).view(np.uint32)
    return np.where(words & FP32.nan > FP32.infinity, np.uint32(FP32.nan), words).view(np.float32)


def _floats(values: Ints) -> Floats:
    return (values & 0xFFFFFFFF).astype(np.uint32).view(np.float32)


def _upper(values: Ints) -> Words:
    """The upper halves of words: all of a bf16 number."""
    return (values >> 16 & 0xFFFF).astype(np.uint16)


def rotary_floats(a: Architecture, positions: int) -> Floats:
    """Cosines and sines of the first positions, rounded from integers: (2, positions, head_dim / 2)."""
    tables = rotary_table(a.rope_theta, a.head_dim, positions, _TURN_BITS, a.rope_scaling)
    return (np.array(tables, np.float64) / 2.0**_TURN_BITS).astype(np.float32)


class WordModel(Protocol):
    """What is read of a model of this lane (``tensor_lane.TensorModel``)."""

    @property
    def architecture(self) -> Architecture: ...

    @property
    def matrices(self) -> Mapping[str, Words]: ...

    @property
    def norms(self) -> Mapping[str, Floats]: ...

    @property
    def threads(self) -> int: ...


class _Made:
    """The values of the operators so far, each as it may have been changed."""

    def __init__(self, alter: Alter | None) -> None:
        self.values: list[Ints] = []
        self._alter = alter

    def ints(self, values: np.ndarray) -> Ints:
        """The next operator's values, flat; given back as they are gone on with."""
        flat = values.reshape(-1).astype(np.int64)
        if self._alter is not None:
            flat = self._alter(len(self.values), flat)
        self.values.append(flat)
        return flat

    def floats(self, values: Floats) -> Floats:
        return _floats(self.ints(one_nan(values).view(np.int32))).reshape(values.shape)

    def narrow(self, values: Floats) -> Words:
        """Rounded to bf16; so is what a cheat makes of it, which is passed on in 16 bits."""
        self.values.append(self.ints(bf16_floats(to_words(values)).view(np.int32)) >> 16 << 16)
        del self.values[-2]
        return _upper(self.values[-1]).reshape(values.shape)


def layer_values(
    model: WordModel,
    layer: int,
    position: int,
    stream: Ints,
    keys: Ints,
    values: Ints,
    turn: Ints,
    alter: Alter | None = None,
) -> list[Ints]:
    """All operators' values of one layer at one position.

    Args:
        stream: what enters, (hidden,). keys, values: of earlier positions, (position, kv). turn:
            cosines, then sines, (head_dim,).
        alter: changes values where they are made, and what is computed from them; None: nothing.
    """
    a, made = model.architecture, _Made(alter)
    d = TensorDims.of(a)
    t, seen, padded = a.head_dim, position + 1, d.padded(position + 1)
    group = a.heads // a.kv_heads
    with np.errstate(all="ignore"):
        x = _floats(made.ints(stream))
        before = _normed(model, made, x, f"{layer}.before")
        qkv = made.floats(_times(model, before, f"{layer}.qkv")).reshape(-1, t)
        angle = _floats(turn)
        sides = angle[: t // 2], angle[t // 2 :]
        query = made.narrow(turned(qkv[: a.heads], *sides))
        key = made.narrow(turned(qkv[a.heads : a.heads + a.kv_heads], *sides))
        value = made.narrow(qkv[a.heads + a.kv_heads :])
        columns = np.zeros((d.kv, padded), np.int64)
        columns[:, :position] = values.T
        columns[:, position] = bf16_floats(value).view(np.int32).reshape(-1)
        gathered = _upper(made.ints(columns)).reshape(a.kv_heads, t, padded)
        rows = np.concatenate([_upper(keys).reshape(position, a.kv_heads, t), key[None]])
        scores = np.full((a.heads, padded), _minus_infinity(), np.float32)
        for shared in range(a.kv_heads):
            own = slice(shared * group, (shared + 1) * group)
            products = replay_projection(query[own], np.ascontiguousarray(rows[:, shared])).view(np.float32)
            scores[own, :seen] = products * score_scale(t)
        scores = made.floats(scores)
        top = made.floats(scores[np.arange(a.heads), scores.argmax(axis=1)])
        power = np.zeros((a.heads, padded), np.float32)
        power[:, :seen] = exponential(scores[:, :seen] - top[:, None])
        power = made.floats(power)
        total = made.floats(folded(made.floats(_lanes(power)))[:, 0])
        weights = made.narrow(power)
        mix = np.empty((a.heads, t), np.uint32)
        for shared in range(a.kv_heads):
            own = slice(shared * group, (shared + 1) * group)
            mix[own] = replay_projection(weights[own, :seen], np.ascontiguousarray(gathered[shared, :, :seen]))
        mixed = made.narrow(made.floats(mix.view(np.float32)) / total[:, None])
        residual = made.floats(x + _times(model, mixed, f"{layer}.out"))
        after = _normed(model, made, residual, f"{layer}.after")
        gate_up = made.floats(_times(model, after, f"{layer}.gate_up"))
        product = made.narrow(gated_silu(gate_up[: a.intermediate], gate_up[a.intermediate :]))
        made.floats(residual + _times(model, product, f"{layer}.down"))
    return made.values


def head_values(model: WordModel, stream: Ints) -> list[Ints]:
    """The operators' values from the last layer's output up to the logits."""
    made = _Made(None)
    with np.errstate(all="ignore"):
        x = _floats(made.ints(stream))
        made.floats(_times(model, _normed(model, made, x, "final"), "head"))
    return made.values


def fixed_logits(logits: Floats) -> Ints:
    """Logits as the integers that draws are made from (``tensor_primitives.fixed``)."""
    rounded = np.rint(logits.astype(np.float64) * 2.0**bits.LOGIT)  # exact but for the rounding
    most = float(bits.INT32)
    return np.where(np.isnan(rounded), most, np.clip(rounded, -most, most)).astype(np.int64)


def _normed(model: WordModel, made: _Made, x: Floats, name: str) -> Words:
    lanes = made.floats(_lanes((x * x)[None]))
    total = made.floats(folded(lanes)[0])
    factor = made.floats(factor_of_norm(total, len(x), np.float32(model.architecture.rms_eps)))
    return made.narrow((x * factor) * model.norms[name])


def _lanes(x: Floats) -> Floats:
    """32 running sums of rows (…, n), which begin at +0."""
    missing = -x.shape[-1] % LANES_OF_SUM
    rows = np.pad(x, ((0, 0), (0, missing))).reshape(len(x), -1, LANES_OF_SUM)
    total = np.zeros((len(x), LANES_OF_SUM), np.float32)
    for number in range(rows.shape[1]):
        total = total + rows[:, number]
    return total


def _times(model: WordModel, x: Words, matrix: str) -> Floats:
    made = replay_projection(x.reshape(1, -1), model.matrices[matrix], threads=model.threads)
    products: Floats = made[0].view(np.float32)
    return products


def _minus_infinity() -> np.float32:
    return np.uint32(MINUS_INFINITY).view(np.float32)
