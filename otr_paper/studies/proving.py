"""What a proof costs: a line fitted to the measured circuits, and the size of the circuit of a
block of weights; and what a proof of a whole answer costs with models that were not measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import linear_regression, pvariance
from typing import Any

import numpy as np

from otr_core.errors import DataError
from otr_core.lane import formats as bits
from otr_core.lane.dims import Dims, Matrix, Norm
from otr_core.spotcheck.proof.layout import Sizes


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


def multiplied_weights(d: Dims) -> int:
    """Weights of a model that are multiplied with: its layers' matrices and its head; the embedding is looked up."""
    layer = sum(rows * columns for rows, columns in map(d.matrix_shape, d.layer_matrices))
    return d.layers * layer + math.prod(d.matrix_shape(Matrix.HEAD))


def committed_cells(d: Dims, prompt: int, answer: int) -> int:
    """Cells that a proof of a greedy answer commits to, whole rows of them. They are counted, not fitted: of any plain
    model, from its dimensions and the numbers of tokens given and chosen."""
    sizes = answer_sizes(d, prompt, answer)
    return sizes.rows << sizes.row_bits


def answer_sizes(d: Dims, prompt: int, answer: int) -> Sizes:
    """Sizes of the statement about a greedy answer. Where the product saturates is made up: the number of cells does
    not hang on it. The norm's last shift is that of the model's width."""
    whole = replace(d, drop=Norm.of(1, d.hidden, 0.0, bits.RESIDUAL).drop)
    return Sizes(whole, prompt, answer, (1 << 26,) * d.layers)


@dataclass(frozen=True)
class AnswerCost:
    """CPU seconds of one proof of a whole answer, with the half-width of what they may be, as a share of them."""

    seconds: float
    error: float


@dataclass(frozen=True)
class AnswerFit:
    """CPU seconds of proofs of whole answers = fixed + per cell · cells + per weight · weights, least squares of
    relative residuals.

    Attributes:
        coefficients: s, s a cell, s a weight. covariance: of them. worst_left_out: the largest relative error with
            which a measured proof is predicted from all others. largest: cells and weights of the largest measured.
    """

    coefficients: tuple[float, float, float]
    covariance: np.ndarray
    worst_left_out: float
    largest: tuple[float, float]

    def cost(self, cells: float, weights: float) -> AnswerCost:
        """Of a proof over so many cells, of a model of so many weights. The error is two standard errors of the fit
        there, or what a left-out proof was missed by, whichever is larger."""
        at = np.array([1.0, cells, weights])
        seconds = float(at @ self.coefficients)
        spread = 2.0 * math.sqrt(float(at @ self.covariance @ at)) / seconds
        return AnswerCost(seconds, max(spread, self.worst_left_out))


FEWEST_PROOFS = 6
"""Measured proofs of which a fit of three numbers says anything of its error."""


def fit_answers(points: Sequence[tuple[float, float, float]]) -> AnswerFit:
    """Fit measured proofs of whole answers: cells, weights, CPU seconds of each.

    Raises:
        DataError: too few of them, or none apart enough to tell cells from weights, or a negative cost of either:
            then they are no line.
    """
    if len(points) < FEWEST_PROOFS:
        raise DataError(f"proofs of whole answers: found {len(points)}, expected at least {FEWEST_PROOFS}")
    given = np.array([[1.0, cells, weights] for cells, weights, _ in points])
    seconds = np.array([second for *_, second in points])
    relative = given / seconds[:, None]
    scale = np.abs(relative).max(axis=0)
    if np.linalg.matrix_rank(relative / scale) < relative.shape[1]:
        raise DataError("proofs of whole answers: found cells and weights in one proportion, expected others")

    def solved(rows: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.linalg.lstsq(rows / scale, np.ones(len(rows)), rcond=None)[0] / scale
        return found

    fitted = solved(relative)
    if fitted[1] <= 0 or fitted[2] < 0:
        raise DataError(
            f"proofs of whole answers: found {fitted[1]:g} s a cell, {fitted[2]:g} s a weight, expected more"
        )
    variance = float(((1 - relative @ fitted) ** 2).sum()) / (len(points) - len(fitted))
    inverse = np.linalg.inv((relative / scale).T @ (relative / scale)) / np.outer(scale, scale)
    others = [np.delete(relative, row, axis=0) for row in range(len(points))]
    left_out = max(abs(1 - float(own @ solved(rest))) for own, rest in zip(relative, others, strict=True))
    coefficients = (float(fitted[0]), float(fitted[1]), float(fitted[2]))
    largest = (float(given[:, 1].max()), float(given[:, 2].max()))
    return AnswerFit(coefficients, variance * inverse, left_out, largest)
