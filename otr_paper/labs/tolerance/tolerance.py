"""The tolerance leaf rule of the native lanes: is a claimed operator output what floating point could have given?

A leaf holds one operator's committed inputs and its claimed output. The judge computes the exact output in float64 and,
for every element, the largest distance from it that *any* honest computation can reach: whatever the order of the sums,
with or without fused multiply-adds, with subnormals kept or flushed. An honest output is never outside (``Reference``'s
bound is a theorem under the assumptions of ``ASSUMPTIONS``), so that the false-slash probability of this rule is zero.
A calibrated rule multiplies the bound by an envelope below one, measured on honest runs (``calibration``).

Standard model of IEEE 754 arithmetic: fl(a op b) = (a op b)(1 + d), |d| <= u; a sum of n products in any order, fused
or not, is within gamma_n |x|·|w| of the exact one, gamma_n = n u / (1 - n u) (Higham, Accuracy and Stability of
Numerical Algorithms, 2nd ed., chapter 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from otr_core.errors import InputError, ParameterError
from otr_core.lane.architecture import Architecture

ASSUMPTIONS = (
    "sums and products are computed in fp32 or better and each rounded to nearest (no TF32, no Winograd or Strassen)",
    "bf16 results are fp32 results rounded to nearest; elementwise bf16 operators round once each",
    "exp errs by at most 20 units in the last place, rsqrt, sin, cos and pow by at most 2",
    "values that overflow do not occur; results below 2^-126 may be flushed to zero",
    "the judge's float64 errs by less than 2^-20 of the bound",
)
EXP_ULPS, OTHER_ULPS = 20, 2
# Of a rotary frequency, relative, in fp32 roundings: the exponent's own (times ln theta, below 14), pow, the division.
_FREQUENCY_ROUNDINGS = 32
_FLUSH = 2.0**-126
_SLACK = 1 + 2.0**-20
_LOG = 1.01  # -log(1 - x) <= 1.01 x for the roundings here (x below 0.01)


@dataclass(frozen=True)
class Format:
    """How a native lane stores and accumulates.

    Attributes:
        u: unit roundoff of stored values and of elementwise operators. accumulate: of sums, exp and the like.
    """

    name: str
    u: float
    accumulate: float

    @property
    def narrow(self) -> float:
        """Relative error of storing an accumulated value; none where both are the same format."""
        return 0.0 if self.u == self.accumulate else self.u

    def round(self, values: np.ndarray) -> np.ndarray:
        """Nearest values (ties to even) that the format can hold, as float64."""
        single = np.asarray(values, np.float32)
        if self.u > 2.0**-24:
            bits = single.view(np.uint32)
            single = ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
        return single.astype(np.float64)


FORMATS: Mapping[str, Format] = {
    "native-float32": Format("float32", 2.0**-24, 2.0**-24),
    "native-bfloat16": Format("bfloat16", 2.0**-8, 2.0**-24),
}


@dataclass(frozen=True)
class Reference:
    """The exact output of an operator (to float64) and the honest distance from it, both (rows, width).

    ``allowed`` narrowed by an envelope in (0, 1] is what a rule accepts.
    """

    value: np.ndarray
    bound: np.ndarray

    def ratios(self, claimed: np.ndarray) -> np.ndarray:
        """Error over bound of each element; infinite for what is not finite, so that it is never accepted."""
        if np.shape(claimed) != self.value.shape:
            raise InputError(f"claimed output: found shape {np.shape(claimed)}, expected {self.value.shape}")
        with np.errstate(invalid="ignore"):
            ratio = np.abs(claimed - self.value) / self.bound
        return np.where(np.isfinite(ratio) & np.isfinite(self.bound), ratio, np.inf)

    def accepts(self, claimed: np.ndarray, envelope: float = 1.0) -> bool:
        """The leaf rule: every element of ``claimed`` (rows, width) is within ``envelope`` times the bound.

        Args:
            envelope: 1 is the IEEE rule; a calibrated rule is narrower.

        Raises:
            InputError: a claimed output of another shape. ParameterError: an envelope outside (0, 1].
        """
        if not 0 < envelope <= 1:
            raise ParameterError("envelope", envelope, "above 0, at most 1")
        return bool((self.ratios(claimed) <= envelope).all())


def gamma(terms: int, u: float) -> float:
    """Higham's gamma_n = n u / (1 - n u).

    Raises:
        ParameterError: n u >= 1, where nothing is known of a sum.
    """
    if not 0 <= terms * u < 1:
        raise ParameterError("terms", terms, f"terms times the unit roundoff {u} below 1")
    return terms * u / (1 - terms * u)


def _narrowed(value: np.ndarray, error: np.ndarray, fmt: Format) -> Reference:
    """An accumulated result with its error, stored: one more rounding, underflow, and the judge's own error."""
    return Reference(value, ((1 + fmt.narrow) * error + fmt.narrow * np.abs(value) + _FLUSH) * _SLACK)


def linear(x: np.ndarray, weight: np.ndarray, fmt: Format) -> Reference:
    """x (rows, n) times weight (m, n) transposed: gamma_n |x|·|w|."""
    terms = x.shape[-1]
    scale = np.abs(x) @ np.abs(weight).T
    return _narrowed(x @ weight.T, gamma(terms, fmt.accumulate) * scale + terms * _FLUSH, fmt)


def rms_norm(x: np.ndarray, weight: np.ndarray, eps: float, fmt: Format) -> Reference:
    """x / sqrt(mean(x²) + eps) · weight. The mean is a sum of positive terms: relative error gamma_(n + 4)."""
    v = fmt.accumulate
    value = x / np.sqrt(np.mean(x * x, -1, keepdims=True) + eps) * weight
    root = (1 - gamma(x.shape[-1] + 4, v)) ** -0.5
    relative = root * (1 + 2 * OTHER_ULPS * v) * (1 + v) * (1 + fmt.narrow) * (1 + fmt.u) - 1
    return Reference(value, (relative * np.abs(value) + _FLUSH * (1 + np.abs(weight))) * _SLACK)


def rotary_frequencies(architecture: Architecture) -> np.ndarray:
    """Radians per position of each of the head_dim / 2 rotations, Llama 3 scaling included."""
    a = architecture
    plain: np.ndarray = a.rope_theta ** (-np.arange(0, a.head_dim, 2) / a.head_dim)
    s = a.rope_scaling
    if s is None:
        return plain
    turns = s.original_context * plain / (2 * np.pi)
    kept = np.clip((turns - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor), 0, 1)
    return plain * ((1 - kept) / s.factor + kept)


def rotary(x: np.ndarray, positions: np.ndarray, frequencies: np.ndarray, fmt: Format) -> Reference:
    """Each head's halves (a, b) turned by the position's angles: a cos - b sin, b cos + a sin.

    Args:
        x: (rows, heads · head_dim). positions: (rows,). frequencies: (head_dim / 2,), radians per position.
    """
    v = fmt.accumulate
    angles = positions[:, None, None] * frequencies
    heads = x.reshape(len(x), -1, 2, len(frequencies))
    a, b = heads[:, :, 0], heads[:, :, 1]
    cos, sin = np.cos(angles), np.sin(angles)
    # of a cosine or sine: the angle's own error, the function's, the rounding to the stored format
    table = angles * (_FREQUENCY_ROUNDINGS * v) + 2 * OTHER_ULPS * v + fmt.narrow
    value = np.stack([a * cos - b * sin, b * cos + a * sin], 2)
    twice = gamma(2, fmt.u)
    errors = [
        np.abs(one) * (table + twice * (np.abs(cos) + table)) + np.abs(other) * (table + twice * (np.abs(sin) + table))
        for one, other in ((a, b), (b, a))
    ]
    error = np.stack(errors, 2).reshape(x.shape)
    return Reference(value.reshape(x.shape), (error + 3 * _FLUSH) * _SLACK)


def attention(query: np.ndarray, keys: np.ndarray, values: np.ndarray, head_dim: int, fmt: Format) -> Reference:
    """Causal softmax attention of the last positions over all, eager order: scores, softmax, mixture.

    Args:
        query: (rows, heads · head_dim), the last ``rows`` of the positions. keys, values: (positions, kv · head_dim).
    """
    rows, positions, v = len(query), len(keys), fmt.accumulate
    if not 1 <= rows <= positions or keys.shape != values.shape:
        raise InputError(f"attention: found {rows} rows over {keys.shape} and {values.shape}, expected the last rows")
    group = query.shape[1] // keys.shape[1]
    hidden = np.arange(positions)[None] > np.arange(positions - rows, positions)[:, None]
    parts, errors = [], []
    scale, stored = head_dim**-0.5, (1 + fmt.narrow) * (1 + fmt.u) ** 2 - 1
    mixing = gamma(positions, v)
    for head in range(query.shape[1] // head_dim):
        q = query[:, head * head_dim :][:, :head_dim]
        k, w = (side[:, head // group * head_dim :][:, :head_dim] for side in (keys, values))
        dots = q @ k.T
        score_error = scale * (
            gamma(head_dim, v) * (np.abs(q) @ np.abs(k).T) * (1 + stored) + stored * np.abs(dots) + head_dim * _FLUSH
        )
        below = np.where(hidden, -np.inf, scale * dots)
        below -= below.max(-1, keepdims=True)
        weights = np.exp(below)
        weights /= weights.sum(-1, keepdims=True)
        score_error = np.where(hidden, 0, score_error)
        gap = np.where(hidden, 0, np.abs(below)) + score_error + score_error.max(-1, keepdims=True)
        # log of how far each exponential, then their sum, then the quotient can be off; |log| of the sum is at most
        # log sum p e^A on either side (Jensen)
        each = np.minimum(score_error + v * gap + _LOG * 2 * EXP_ULPS * v, 50)
        total = np.log((weights * np.exp(each)).sum(-1, keepdims=True))
        off = np.minimum(each + total + _LOG * (mixing + 2 * v + fmt.narrow), 50)
        out, largest = weights @ w, np.abs(w).max(0)
        error = (weights * (np.expm1(off) * (1 + mixing) + mixing)) @ np.abs(w) + 2 * positions * _FLUSH * (1 + largest)
        parts.append(out)
        errors.append(np.minimum(error, 2.1 * largest + 2 * positions * _FLUSH))  # weights sum to one: never farther
    return _narrowed(np.concatenate(parts, 1), np.concatenate(errors, 1), fmt)


def swiglu(gate: np.ndarray, up: np.ndarray, fmt: Format) -> Reference:
    """silu(gate) · up, silu(g) = g / (1 + exp(-g))."""
    v = fmt.accumulate
    with np.errstate(over="ignore"):
        value = gate / (1 + np.exp(-gate)) * up
    relative = (1 + 2 * EXP_ULPS * v) * (1 + v) ** 3 * (1 + fmt.narrow) * (1 + fmt.u) - 1
    return Reference(value, (relative * np.abs(value) + 128 * _FLUSH * (1 + np.abs(up))) * _SLACK)


def residual(stream: np.ndarray, update: np.ndarray, fmt: Format) -> Reference:
    """stream + update, rounded once."""
    value = stream + update
    return Reference(value, (fmt.u * np.abs(value) + _FLUSH) * _SLACK)
