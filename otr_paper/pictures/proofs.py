"""Figures of spot checks and proofs of whole answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otr_paper.press import figures

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def draw_checks(kinds: pd.DataFrame) -> Figure:
    """What each way of checking one answer costs, and whom.

    Args:
        kinds: check, bearer, cost_s (CPU seconds).
    """
    fig, ax = figures.subplots(figures.PAGE_IN, 2.6)
    rows = range(len(kinds))
    for at, (bearer, part) in enumerate(kinds.assign(row=rows).groupby("bearer", sort=False)):
        ax.plot(part.cost_s, part.row, "osD^"[at], color=figures.SEQUENCE[at], linestyle="", markersize=6, label=bearer)
    near: dict[str, Any] = {"xytext": (7, 0), "textcoords": "offset points", "va": "center", "fontsize": 7}
    for row, seconds in zip(rows, kinds.cost_s, strict=True):
        ax.annotate(f"{seconds:.2g} s", (seconds, row), **near)
    ax.set_yticks(list(rows), kinds.check)
    ax.set(xscale="log", xlabel="checking one answer (CPU s, one core)", ylim=(len(kinds) - 0.4, -0.6))
    ax.set_xlim(kinds.cost_s.min() / 2, kinds.cost_s.max() * 4)
    ax.legend(title="borne by the", loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=7, title_fontsize=7)
    return fig
