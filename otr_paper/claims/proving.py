"""What proofs cost: a fit of the measured circuits, carried to whole models, beside what others have printed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from otr_paper.claims.landscape import fitted_exponent, proving_points
from otr_paper.claims.published import Published

#: Weights that enter a matrix product once per token: SmolLM2-135M's own count (its embedding is its output matrix),
#: and the nominal sizes of the paper.
MODELS: Mapping[str, float] = {"SmolLM2-135M": 134.5e6, "7B": 7e9, "70B": 70e9}
CORES = 64
"""Cores of the CPU server that published figures and extrapolations are compared on."""


@dataclass(frozen=True)
class CostFit:
    """Least squares over measured circuits: CPU seconds = fixed_s + per_row_s · 2^k.

    Attributes:
        exponent, exponent_error: of the power law through the same points, with its standard error.
        log_exponent: what N log N looks like as a power law over these sizes.
        linear_rms, log_linear_rms: relative residuals of a·N and of a·N·log N, one free number each.
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

    The straight line weighs each point by its own size (relative residuals), so that small circuits count.
    """
    sizes = [2.0 ** row["k"] for row in rows]
    seconds = [float(row["prove_cpu_s"]) for row in rows]
    a, b = _relative_line(sizes, seconds)
    exponent, error = fitted_exponent(sizes, seconds)
    expected, _ = fitted_exponent(sizes, [n * math.log(n) for n in sizes])
    large = [row for row in rows if row["k"] >= 15]
    per_weight = min(row["prove_cpu_s"] / (row["rows"] * row["columns"]) for row in large)
    return CostFit(
        a,
        b,
        exponent,
        error,
        expected,
        _rms(sizes, seconds),
        _rms([n * math.log(n) for n in sizes], seconds),
        per_weight,
    )


def circuit_k(rows: int, columns: int) -> int:
    """k of the circuit of ``rows`` x ``columns`` weights: 2^k is the least power of two that holds its rows.

    A weight is a row; an output takes 25.5 more, two inputs one: this is exactly what ezkl assigned to every measured
    circuit. Seven of the 2^k are kept for blinding.
    """
    used = math.ceil(rows * columns + 25.5 * rows + columns / 2)
    return math.ceil(math.log2(used + 7))


def extrapolated(found: CostFit) -> list[dict[str, Any]]:
    """Records of model, weights, core_s (CPU seconds to prove every weight block for one token), core_h, machine_h
    (64 perfectly used cores)."""
    return [
        {"model": name, "weights": weights, "core_s": weights * found.per_weight_s,
         "core_h": weights * found.per_weight_s / 3600, "machine_h": weights * found.per_weight_s / 3600 / CORES}
        for name, weights in MODELS.items()
    ]  # fmt: skip


def published_points(published: Published) -> list[dict[str, Any]]:
    """Records of system, params, seconds, setting: every published whole-model proof with a size."""
    return [
        {"system": system, "params": params, "seconds": seconds, "setting": published[row].setting or "not stated",
         "level": published[row].level, "id": row}
        for row, system, params, seconds in proving_points(published)
    ]  # fmt: skip


def where_it_holds(published: Published, found: CostFit) -> list[dict[str, Any]]:
    """The stated 20 minutes and 45 USD for 7B, system by system: records of system, hardware, seconds, over_20min, usd,
    over_45usd and kind. Every machine is taken at the published hourly price of one H100."""
    stated_s, stated_usd = published.number("zkml.latency_7b", "s"), published.number("zkml.cost_query", "USD")
    hourly = published.number("gpu.h100_median", "USD/GPU-h")
    llama = published.number("zk.zktorch.llama2_7b.prove", "s")
    core_s = dict((r["model"], r["core_s"]) for r in extrapolated(found))["7B"]
    token = published.number("zk.zkpytorch.llama3_8b.prove", "s")
    flash = published.number("zk.flashprove.400b.prove", "s")
    rows = [
        ("zkLLM", "7B, 2048 positions, one A100", published.number("zk.zkllm.7b.prove", "s"), "cited"),
        ("ZKTorch", "7B, 1 token, 64 CPU threads", llama, "cited"),
        ("zkPyTorch", "8B, 1 token, CPU", token, "cited"),
        ("zkPyTorch", "8B, 100 tokens, CPU", 100 * token, "recomputed"),
        ("FlashProve", "400B, one token of a batch of 24, one H100", flash, "cited"),
        ("ezkl (this circuit)", "7B, 1 token, 64 cores, extrapolated", core_s / CORES, "recomputed"),
    ]  # fmt: skip
    return [
        {"system": system, "setting": setting, "seconds": seconds, "over_20min": seconds > stated_s,
         "usd": seconds / 3600 * hourly, "over_45usd": seconds / 3600 * hourly >= stated_usd, "kind": kind}
        for system, setting, seconds, kind in rows
    ]  # fmt: skip


def _relative_line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """a, b of y ≈ a + b·x with least squared relative residuals."""
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
