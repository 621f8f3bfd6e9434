"""The figures of notebook 02 about lanes: divergence, bounds and cost, and what the trace costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from otr_paper.press import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LANES: Mapping[str, tuple[str, str]] = {
    "native-float32": ("o", "#0072B2"),
    "native-bfloat16": ("s", "#BF8100"),
    "portable-1": ("^", "#009E73"),
}
"""Marker and colour of a lane."""
_NONE = 1e-6
"""Where a difference of 0 stands on the logarithmic axis, which has no zero."""


def draw_divergence(rows: pd.DataFrame, positions: int) -> Figure:
    """Largest logit difference of honest runs by lane, and of downgrades.

    Args:
        rows: lane, change, kind, max_logit.
    """
    fig, ax = figures.subplots(figures.PAGE_IN, 4.6)
    labels = []
    for y, row in enumerate(rows.itertuples()):
        honest = row.kind == "honest"
        marker, colour = LANES[row.lane] if honest else ("X", "#D55E00")
        filled = "full" if row.max_logit else "none"
        ax.plot(max(row.max_logit, _NONE), y, marker, color=colour, fillstyle=filled)
        labels.append(f"{row.lane if honest else 'downgrade'}: {row.change}")
    ax.axvspan(rows[rows.kind == "downgrade"].max_logit.min(), 40, color="#F4D3C2", zorder=0)
    ax.set_yticks(range(len(rows)), labels)
    ax.invert_yaxis()
    label = f"largest logit difference over {positions} positions (hollow, at the left: none)"
    ax.set(xscale="log", xlabel=label, xlim=(_NONE / 2, 40))
    return fig


def draw_bounds_and_cost(bounds: pd.Series, limit: float, costs: pd.DataFrame) -> Figure:
    """Left: what every accumulator stays below, in bits, under the limit of 64-bit integers. Right: CPU time by lane.

    Args:
        costs: indexed by lane, with CPU ms of a token in prefill and in decoding.
    """
    fig, (left, right) = figures.subplots(figures.PAGE_IN, 3.1, ncols=2)
    bounds = bounds.sort_values()
    left.plot(bounds.values, bounds.index, "o", markersize=3.5, color=figures.SCHEME_COLOURS["OTR"])
    left.axvline(limit, color=figures.PAPER_COLOUR, linewidth=0.9, linestyle=(0, (4, 2)))
    place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "ha": "right"}
    left.annotate("limit", (limit, 0.02), xytext=(-3, 0), **place)
    left.set(xlabel="proven accumulator bound (bits)", xlim=(0, 66))
    base = costs.loc["native-float32"]
    parts = (("prefill_cpu_ms_per_token", "prefill", "//"), ("decode_cpu_ms", "decode", ""))
    for number, (column, name, hatch) in enumerate(parts):
        colour = figures.SEQUENCE[1 - number]  # as in the figure of the lane's cost
        look = {"color": colour, "hatch": hatch, "edgecolor": figures.ink_on(colour), "linewidth": 0}
        right.barh(np.arange(len(costs)) + 0.36 * number, costs[column] / base[column], height=0.34, label=name, **look)
    right.set_yticks(np.arange(len(costs)) + 0.18, costs.index)
    right.set(xlabel="CPU time, multiples of fp32", xlim=(0, None))
    right.legend(loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=2)
    right.grid(axis="y", visible=False)
    return fig


def draw_trace_cost(rows: pd.DataFrame) -> Figure:
    """Share of the time that committing the trace adds, by model and machine.

    Args:
        rows: model, bytes_per_token, share, kind.
    """
    fig, ax = figures.subplots(figures.PAGE_IN, 2.3)
    colours = [figures.SCHEME_COLOURS["OTR"] if kind == "measured" else "#8A8A8A" for kind in rows.kind]
    ax.barh(rows.model, rows.share * 100, color=colours)
    for y, row in enumerate(rows.itertuples()):
        text = f"{row.share:.1%}, {row.bytes_per_token / 1e3:,.0f} kB a token, {row.kind}"
        place: dict[str, Any] = {"xytext": (3, 0), "textcoords": "offset points", "va": "center"}
        ax.annotate(text, (row.share * 100, y), **place)
    ax.invert_yaxis()
    ax.set(xlabel="trace commitment, share of the time without it (%)", xlim=(0, rows.share.max() * 180))
    ax.grid(axis="y", visible=False)
    return fig


def draw_product_times(rows: pd.DataFrame) -> Figure:
    """Time of the lane's products on a GPU over cuBLAS', by instruction, matrix and tokens.

    Args:
        rows: matrix, tokens, way, times_library, same_words.
    """
    fig, axes = figures.subplots(figures.PAGE_IN, 2.6, ncols=2, sharey=True)
    for ax, (way, of_way) in zip(axes, rows.groupby("way", sort=True), strict=True):
        for marker, colour, (matrix, own) in zip(
            "os^D", ("#0072B2", "#BF8100", "#009E73", "#CC79A7"), of_way.groupby("matrix", sort=False), strict=True
        ):
            ax.plot(own.tokens, own.times_library, marker, linestyle="-", color=colour, linewidth=1.1, label=matrix)
            others = own[~own.same_words]
            ax.plot(others.tokens, others.times_library, marker, color=colour, markerfacecolor="white")
        ax.axhline(1, color=figures.PAPER_COLOUR, linewidth=0.9, linestyle=(0, (4, 2)))
        ax.set(xscale="log", yscale="log", xlabel=f"tokens that meet a matrix at once ({way})")
        ax.set_xticks(sorted(set(rows.tokens)), [str(count) for count in sorted(set(rows.tokens))])
        ax.set_yticks([1, 2, 3, 4], ["1", "2", "3", "4"])
        ax.minorticks_off()
    axes[0].set_ylabel("time, multiples of cuBLAS")
    axes[0].legend(loc="upper left", ncols=2)
    return fig
