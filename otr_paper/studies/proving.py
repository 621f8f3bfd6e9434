"""What a proof costs: a line fitted to the measured circuits, and the size of the circuit of a
block of weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import linear_regression, pvariance
from typing import Any


@dataclass(frozen=True)
class CostFit:
    """Least squares over measured circuits: CPU seconds = fixed_s + per_row_s · 2^k.

    Attributes:
        exponent, exponent_error: of the power law through the same points, with its standard error.
        log_exponent: what N log N looks like as a power law over these sizes.
        linear_rms, log_linear_rms: relative residuals of a·N and of a·N·log N, one free number
            each.
        per_weight_s: CPU seconds per weight at the best-filled of the large circuits.
    """

    fixed_s: float
    per_row_s: float
    exponent: float
    exponent_error: float
    log_exponent: float
    linear_rms: float
    log_linear_rms: float
    per_weight_s: float

    def seconds(self, k: int) -> float:
        """CPU seconds of a proof with 2^k rows."""
        return self.fixed_s + self.per_row_s * 2.0**k


def fit_cost(rows: Sequence[Mapping[str, Any]]) -> CostFit:
    """Fit the rows of ``data/results/proof_cost.json``.

    The straight line weighs each point by its own size (relative residuals), so that small circuits
    count.
    """
    sizes = [2.0 ** row["k"] for row in rows]
    seconds = [float(row["prove_cpu_s"]) for row in rows]
    fixed, per_row = _relative_line(sizes, seconds)
    exponent, error = fitted_exponent(sizes, seconds)
    expected, _ = fitted_exponent(sizes, [n * math.log(n) for n in sizes])
    large = [row for row in rows if row["k"] >= 15]
    per_weight = min(row["prove_cpu_s"] / (row["rows"] * row["columns"]) for row in large)
    return CostFit(
        fixed_s=fixed,
        per_row_s=per_row,
        exponent=exponent,
        exponent_error=error,
        log_exponent=expected,
        linear_rms=_rms(sizes, seconds),
        log_linear_rms=_rms([n * math.log(n) for n in sizes], seconds),
        per_weight_s=per_weight,
    )


def fitted_exponent(sizes: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """Least-squares exponent of ``seconds ~ sizes^e``, and its standard error (0 for two
    points)."""
    x, y = [math.log(size) for size in sizes], [math.log(second) for second in seconds]
    slope, intercept = linear_regression(x, y)
    rest = sum((b - intercept - slope * a) ** 2 for a, b in zip(x, y, strict=True))
    return slope, math.sqrt(rest / max(len(x) - 2, 1) / (len(x) * pvariance(x)))


def circuit_k(rows: int, columns: int) -> int:
    """k of the circuit of ``rows`` x ``columns`` weights: 2^k is the least power of two that holds
    its rows.

    A weight is a row; an output takes 25.5 more, two inputs one: this is exactly what ezkl assigned
    to every measured circuit. Seven of the 2^k are kept for blinding.
    """
    used = math.ceil(rows * columns + 25.5 * rows + columns / 2)
    return math.ceil(math.log2(used + 7))


def _relative_line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """a, b of y ≈ a + b·x with least squared relative residuals.

    ``numpy.polyfit`` gives the same but for the last digits, which the stored simulations hold.
    """
    weights = [1 / value**2 for value in y]
    total = sum(weights)
    mx = sum(w * v for w, v in zip(weights, x, strict=True)) / total
    my = sum(w * v for w, v in zip(weights, y, strict=True)) / total
    moments = [(w, xi - mx, yi - my) for w, xi, yi in zip(weights, x, y, strict=True)]
    slope = sum(w * dx * dy for w, dx, dy in moments) / sum(w * dx * dx for w, dx, _ in moments)
    return my - slope * mx, slope


def _rms(shape: Sequence[float], y: Sequence[float]) -> float:
    """Relative root mean square of y ≈ a·shape at the best a."""
    ratios = [value / s for s, value in zip(shape, y, strict=True)]
    # best a for relative residuals (y − a·s)/y: sum(s/y) / sum((s/y)²)
    inverse = [1 / ratio for ratio in ratios]
    a = sum(inverse) / sum(v * v for v in inverse)
    return math.sqrt(sum((1 - a * v) ** 2 for v in inverse) / len(inverse))
