"""The tolerance leaf rule of the native lanes: is a claimed operator output what floating point
could have given?

A leaf holds one operator's committed inputs and its claimed output. The judge computes the exact
output in float64 and, for every element, the largest distance from it that *any* honest computation
can reach: whatever the order of the sums, with or without fused multiply-adds, with subnormals kept
or flushed. An honest output is never outside (``Reference``'s bound is a theorem under the
assumptions of ``ASSUMPTIONS``), so that the false-slash probability of this rule is zero. A
calibrated rule multiplies the bound by an envelope below one, measured on honest runs
(``calibration``).

Standard model of IEEE 754 arithmetic: fl(a op b) = (a op b)(1 + d), |d| <= u; a sum of n products
in any order, fused or not, is within gamma_n |x|·|w| of the exact one, gamma_n = n u / (1 - n u)
(Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., chapter 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from otr_core.errors import InputError, ParameterError
from otr_core.lane.architecture import Architecture
from otr_core.lane.rotary import RopeScaling

ASSUMPTIONS = (
    "sums and products are computed in fp32 or better and each rounded to nearest (no TF32, no Winograd or Strassen)",
    "bf16 results are fp32 results rounded to nearest; elementwise bf16 operators round once each",
    "exp errs by at most 20 units in the last place, rsqrt, sin, cos and pow by at most 2",
    "values that overflow do not occur; results below 2^-126 may be flushed to zero",
    "the judge's float64 errs by less than 2^-20 of the bound",
)
EXP_ULPS, OTHER_ULPS = 20, 2
# Relative error of a rotary frequency, counted in fp32 roundings: of the exponent, which pow turns
# into a relative error ln theta times as large (below 14), of pow itself, and of the division.
_FREQUENCY_ROUNDINGS = 32
_FLUSH = 2.0**-126  # least normal number: what flushing a subnormal to zero can take away
_SLACK = 1 + 2.0**-20  # covers the judge's own float64 error
_LOG = 1.01  # -log(1 - x) <= 1.01 x for the roundings here (x below 0.01)


@dataclass(frozen=True)
class Format:
    """How a native lane stores and accumulates.

    Attributes:
        u: unit roundoff of stored values and of elementwise operators.
        accumulate: unit roundoff in which sums, exponentials and other functions are computed.
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
            # bf16 is the upper half of fp32. Half a unit is added below it (one less where the kept
            # part is even), so that cutting the lower half rounds to nearest, ties to even.
            bits = single.view(np.uint32)
            single = ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
        return single.astype(np.float64)


FORMATS: Mapping[str, Format] = {
    "native-float32": Format("float32", 2.0**-24, 2.0**-24),
    "native-bfloat16": Format("bfloat16", 2.0**-8, 2.0**-24),
}


@dataclass(frozen=True)
class Reference:
    """What an honest computation of an operator can give.

    Attributes:
        value: the exact output, computed in float64, (rows, width).
        bound: how far from it an honest output can lie, (rows, width). A rule accepts the bound
            times an envelope in (0, 1].
    """

    value: np.ndarray
    bound: np.ndarray

    def ratios(self, claimed: np.ndarray) -> np.ndarray:
        """Error over bound of each element; infinite for what is not finite, so that it is never
        accepted."""
        if np.shape(claimed) != self.value.shape:
            raise InputError(f"claimed output: found shape {np.shape(claimed)}, expected {self.value.shape}")
        with np.errstate(invalid="ignore"):
            ratio = np.abs(claimed - self.value) / self.bound
        return np.where(np.isfinite(ratio) & np.isfinite(self.bound), ratio, np.inf)

    def accepts(self, claimed: np.ndarray, envelope: float = 1.0) -> bool:
        """The leaf rule: every element of ``claimed`` (rows, width) is within ``envelope`` times
        the bound.

        Args:
            envelope: 1 is the IEEE rule; a calibrated rule is narrower.

        Raises:
            InputError: a claimed output of another shape. ParameterError: an envelope outside (0,
                1].
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
    """An accumulated result with its error, stored: one more rounding, underflow, and the judge's
    own error."""
    return Reference(value, ((1 + fmt.narrow) * error + fmt.narrow * np.abs(value) + _FLUSH) * _SLACK)


def linear(x: np.ndarray, weight: np.ndarray, fmt: Format) -> Reference:
    """x (rows, n) times weight (m, n) transposed: gamma_n |x|·|w|."""
    terms = x.shape[-1]
    scale = np.abs(x) @ np.abs(weight).T
    return _narrowed(x @ weight.T, gamma(terms, fmt.accumulate) * scale + terms * _FLUSH, fmt)


def rms_norm(x: np.ndarray, weight: np.ndarray, eps: float, fmt: Format) -> Reference:
    """x / sqrt(mean(x²) + eps) · weight. The mean is a sum of positive terms: relative error
    gamma_(n + 4)."""
    v = fmt.accumulate
    value = x / np.sqrt(np.mean(x * x, -1, keepdims=True) + eps) * weight  # (rows, n)
    # A relative error e below the root becomes (1 - e)^-1/2 above it; the root's own error, two
    # products and the storing of the factor and of the result follow.
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
    if not isinstance(s, RopeScaling):
        raise InputError(f"rope scaling: found {s.config()['rope_type']!r}, expected 'llama3' or none")
    turns = s.original_context * plain / (2 * np.pi)
    kept = np.clip((turns - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor), 0, 1)
    return plain * ((1 - kept) / s.factor + kept)


def rotary(x: np.ndarray, positions: np.ndarray, frequencies: np.ndarray, fmt: Format) -> Reference:
    """Each head's halves (a, b) turned by the position's angles: a cos - b sin, b cos + a sin.

    Args:
        x: (rows, heads · head_dim). positions: (rows,). frequencies: (head_dim / 2,), radians per
            position.
    """
    v = fmt.accumulate
    angles = positions[:, None, None] * frequencies  # (rows, 1, head_dim / 2)
    heads = x.reshape(len(x), -1, 2, len(frequencies))  # (rows, heads, half, head_dim / 2)
    a, b = heads[:, :, 0], heads[:, :, 1]
    cos, sin = np.cos(angles), np.sin(angles)
    # Error of a cosine or sine: the angle's own, the function's, and the rounding to the stored
    # format.
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
    """Causal softmax attention of the last positions over all, eager order: scores, softmax,
    mixture.

    Args:
        query: (rows, heads · head_dim), the last ``rows`` of the positions. keys, values:
            (positions, kv · head_dim).
    """
    rows, positions, v = len(query), len(keys), fmt.accumulate
    if not 1 <= rows <= positions or keys.shape != values.shape:
        raise InputError(f"attention: found {rows} rows over {keys.shape} and {values.shape}, expected the last rows")
    group = query.shape[1] // keys.shape[1]  # query heads that share a head of keys and values
    # A position does not see the later ones.
    hidden = np.arange(positions)[None] > np.arange(positions - rows, positions)[:, None]
    parts, errors = [], []
    scale, stored = head_dim**-0.5, (1 + fmt.narrow) * (1 + fmt.u) ** 2 - 1
    mixing = gamma(positions, v)
    for head in range(query.shape[1] // head_dim):
        q = query[:, head * head_dim :][:, :head_dim]
        k, w = (side[:, head // group * head_dim :][:, :head_dim] for side in (keys, values))
        # Scores: the dot product's error, then the scaling and the storing of the result.
        dots = q @ k.T  # (rows, positions)
        score_error = scale * (
            gamma(head_dim, v) * (np.abs(q) @ np.abs(k).T) * (1 + stored) + stored * np.abs(dots) + head_dim * _FLUSH
        )
        # Softmax of the exact scores, taken from their largest, so that nothing overflows.
        below = np.where(hidden, -np.inf, scale * dots)
        below -= below.max(-1, keepdims=True)
        weights = np.exp(below)
        weights /= weights.sum(-1, keepdims=True)
        score_error = np.where(hidden, 0, score_error)
        # An honest run subtracts a largest score that has an error of its own.
        gap = np.where(hidden, 0, np.abs(below)) + score_error + score_error.max(-1, keepdims=True)
        # Logarithm of the factor by which each exponential can be off, then their sum, then the
        # quotient. With A the error of each, the sum's is at most log(sum p e^A) on either side
        # (Jensen). Beyond e^50 nothing is bounded.
        each = np.minimum(score_error + v * gap + _LOG * 2 * EXP_ULPS * v, 50)
        total = np.log((weights * np.exp(each)).sum(-1, keepdims=True))
        off = np.minimum(each + total + _LOG * (mixing + 2 * v + fmt.narrow), 50)
        # Mixture: weights that are off by these factors, summed with the values in any order.
        out, largest = weights @ w, np.abs(w).max(0)
        error = (weights * (np.expm1(off) * (1 + mixing) + mixing)) @ np.abs(w) + 2 * positions * _FLUSH * (1 + largest)
        parts.append(out)
        # The weights sum to one (rounded), so that no mixture lies farther from another than twice
        # the largest value.
        errors.append(np.minimum(error, 2.1 * largest + 2 * positions * _FLUSH))
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
