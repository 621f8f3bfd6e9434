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


def _size(parameters: float) -> str:
    """A number of parameters as it is spoken of: 124M, 7B."""
    factor, unit = (1e9, "B") if parameters >= 1e9 else (1e6, "M")
    return f"{parameters / factor:.2g}{unit}" if parameters < 1e8 else f"{parameters / factor:.3g}{unit}"


def draw_proof_cost(
    costs: pd.DataFrame, points: pd.DataFrame, reach: pd.DataFrame, line: CostFit, stated: tuple[float, float]
) -> Figure:
    """What one proof costs: left, circuits of this project by their rows; right, published provers, a row each, with
    the sizes of the models proved beside their times, in that order.

    Args:
        costs: k, rows, columns, prove_cpu_s of measured circuits. points: system, params, seconds, as published.
        reach: weights, core_s, extrapolated by ``line``. stated: the paper's seconds and parameters.
    """
    fig, (left, right) = figures.subplots(figures.PAGE_IN, 4.3, ncols=2, width_ratios=[1, 1.1])
    ours, grid = figures.SEQUENCE[0], np.arange(8, 18)
    law = f"{line.fixed_s:.2f} s + {1e3 * line.per_row_s:.2f} ms × rows"
    left.plot(2.0**grid, [line.seconds(int(k)) for k in grid], "-", color=ours, label=law)
    anchor = costs[costs.k == 13].prove_cpu_s.median()
    through = anchor * (2.0 ** (grid - 13)) * grid / 13
    left.plot(2.0**grid, through, ":", color="#555555", label="N log N through k = 13")
    left.plot(2.0**costs.k, costs.prove_cpu_s, "o", color=ours, label="measured")
    left.set(xscale="log", yscale="log", xlabel="rows of the circuit (count)", ylabel="proving (CPU s)")
    left.set_title(f"rows to the power {line.exponent:.2f} ± {line.exponent_error:.2f}")
    left.legend(loc="lower right")
    # Fifteen signs have no colours that a reader tells apart: each prover has a row, and its name before it.
    rows = {name: list(zip(part.seconds, part.params, strict=True)) for name, part in points.groupby("system")}
    rows = dict(sorted(rows.items(), key=lambda row: max(row[1])))
    carried = f"this circuit, carried to {CORES} cores"
    looks = {"paper: more than": ("X", figures.PAPER_COLOUR, [stated])}
    looks |= {name: ("o", "#555555", found) for name, found in rows.items()}
    looks |= {carried: ("s", ours, list(zip(reach.core_s / CORES, reach.weights, strict=True)))}
    for place, (marker, colour, found) in enumerate(looks.values()):
        seconds, sizes = zip(*sorted(found), strict=True)
        right.plot(seconds, [place] * len(seconds), marker, markersize=5, color=colour)
        told = ", ".join(dict.fromkeys(_size(each) for each in sizes))
        right.annotate(
            told, (seconds[-1], place), (5, 0), textcoords="offset points", va="center", fontsize=figures.READABLE_PT
        )
    right.set_yticks(range(len(looks)), looks)
    right.set(xscale="log", xlabel="proving (s); beside it: parameters")
    right.set_xlim(right=4000 * max(max(found)[0] for _, _, found in looks.values()))
    right.invert_yaxis()
    return fig
