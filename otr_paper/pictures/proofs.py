"""Figures of spot checks and proofs of whole answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from otr_paper.press import figures
from otr_paper.series.spotchecks import CORES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from otr_paper.studies.proving import CostFit


def draw_checks(kinds: pd.DataFrame) -> Figure:
    """What each way of checking one answer costs, and whom.

    Args:
        kinds: check, bearer, cost_s (CPU seconds).
    """
    fig, ax = figures.subplots(figures.PAGE_IN, 2.6)
    rows = range(len(kinds))
    for at, (bearer, part) in enumerate(kinds.assign(row=rows).groupby("bearer", sort=False)):
        ax.plot(part.cost_s, part.row, "osD^"[at], color=figures.SEQUENCE[at], linestyle="", markersize=6, label=bearer)
    near: dict[str, Any] = {"xytext": (7, 0), "textcoords": "offset points", "va": "center"}
    for row, seconds in zip(rows, kinds.cost_s, strict=True):
        ax.annotate(f"{seconds:.2g} s", (seconds, row), **near)
    ax.set_yticks(list(rows), kinds.check)
    ax.set(xscale="log", xlabel="checking one answer (CPU s, one core)", ylim=(len(kinds) - 0.4, -0.6))
    ax.set_xlim(kinds.cost_s.min() / 2, kinds.cost_s.max() * 4)
    ax.legend(title="borne by the", loc="center left", bbox_to_anchor=(1.01, 0.5))
    return fig


def draw_proof_cost(costs: pd.DataFrame, points: pd.DataFrame, reach: pd.DataFrame, line: CostFit) -> Figure:
    """What one proof costs: left, circuits of this project by their rows; right, beside published provers.

    Args:
        costs: k, rows, columns, prove_cpu_s of measured circuits. points: system, params, seconds, as published.
        reach: weights, core_s, extrapolated by ``line``.
    """
    fig, (left, right) = figures.subplots(figures.PAGE_IN, 4.3, ncols=2, width_ratios=[1, 1.35])
    ours, grid = figures.SEQUENCE[0], np.arange(8, 18)
    law = f"{line.fixed_s:.2f} s + {1e3 * line.per_row_s:.2f} ms × rows"
    left.plot(2.0**grid, [line.seconds(int(k)) for k in grid], "-", color=ours, label=law)
    anchor = costs[costs.k == 13].prove_cpu_s.median()
    through = anchor * (2.0 ** (grid - 13)) * grid / 13
    left.plot(2.0**grid, through, ":", color="#555555", label="N log N through k = 13")
    left.plot(2.0**costs.k, costs.prove_cpu_s, "o", color=ours, label="measured")
    left.set(xscale="log", yscale="log", xlabel="rows of the circuit (count)", ylabel="proving (CPU s)")
    left.set_title(f"rows to the power {line.exponent:.2f} ± {line.exponent_error:.2f}")
    left.legend(loc="upper left")
    # More provers than colours: where the palette begins again, signs are hollow.
    for number, ((system, part), marker) in enumerate(zip(points.groupby("system"), "osD^v<>Ph8pXd*H+", strict=False)):
        fill = "none" if number >= len(figures.SEQUENCE) else "full"
        colour = figures.SEQUENCE[number % len(figures.SEQUENCE)]
        right.plot(part.params, part.seconds, marker, markersize=5, color=colour, fillstyle=fill, label=system)
    shares, carried = reach.core_s / CORES, f"this circuit, extrapolated, {CORES} cores"
    right.plot(reach.weights, shares, "--k", marker="s", markerfacecolor="white", label=carried)
    weights = costs["rows"] * costs["columns"]
    right.plot(weights, costs.prove_cpu_s, ".", color=ours, label="this circuit, measured, one core")
    right.plot(7e9, 1200, "x", color=figures.PAPER_COLOUR, markersize=8, label="paper: > 20 min for 7B")
    right.set(xscale="log", yscale="log", xlabel="parameters (count)", ylabel="proving (s)")
    fig.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig
