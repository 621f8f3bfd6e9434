"""The figures of notebook 06: scores, pay and detection of adversaries, from records of ``series.poq``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from otr_paper.press import figures

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

STAGES: Mapping[str, tuple[str, str]] = {
    "honest": ("o", "#0072B2"),
    "echo": ("X", "#555555"),
    "distilled": ("s", "#3391CC"),
    "tuned": ("^", "#D55E00"),
    "phrases": ("D", "#CC79A7"),
}
"""Marker and colour of a kind of answers."""
FORMULAS: Mapping[str, str] = {
    "original, alpha 2, scores to 1": "original, α = 2, to 1",
    "original, alpha 0.5, scores to 10": "original, α = 0.5, to 10",
    "cost-aware, 1 quality - 0.5 cost": "cost-aware, β = 0.5",
    "median, alpha 2, scores to 1": "median of five",
    "trust-weighted, alpha 2, scores to 1": "trust-weighted, five",
}
"""Formulas of pay that the figure shows, and what its axis calls them."""
_STEEP = (2.0, 5.0)
"""By how much the first two formulas weigh a difference of scores from 0 to 1 in the exponent."""


def draw_scores(
    rows: pd.DataFrame, titles: Mapping[str, str], names: Mapping[str, str], stated: Mapping[str, float]
) -> Figure:
    """Share of right answers against the mean score of each judge, with intervals.

    Args:
        rows: records of ``series.poq.score_rows``. titles: judge -> its words. names: stage -> its words.
        stated: the paper's scores of its adversary and of its honest model.
    """
    fig, axes = figures.subplots(figures.PAGE_IN, 3.0, ncols=3, sharey=True)
    for ax, (judge, title) in zip(axes, titles.items(), strict=True):
        for stage, part in rows.groupby("stage", sort=False):
            marker, colour = STAGES[stage]
            x, y = part[judge], part.accuracy * 100
            across = [x - part[f"{judge}_low"], part[f"{judge}_high"] - x]
            along = [y - part.accuracy_low * 100, part.accuracy_high * 100 - y]
            look = {"fmt": marker, "color": colour, "markersize": 5, "elinewidth": 0.8}
            ax.errorbar(x, y, xerr=across, yerr=along, label=names[stage], **look)
        ax.set(xlabel="mean score (0 to 1)", xlim=(-0.03, 1.05), ylim=(-4, 100))
        ax.set_title(title, fontsize=8, fontweight="normal")
    axes[0].set_ylabel("right answers (%)")
    for value, (side, dx) in zip(sorted(stated.values()), (("right", -2), ("left", 3)), strict=True):
        axes[0].axvline(value, color=figures.PAPER_COLOUR, linewidth=0.9, linestyle=(0, (4, 2)))
        place = {"xytext": (dx, 0), "textcoords": "offset points", "ha": side, "va": "top", "rotation": 90}
        axes[0].annotate(f"paper: {value:.2f}", (value, 96), **place)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(names))
    return fig


def draw_pay_and_detection(pay: pd.DataFrame, lines: pd.DataFrame, cases: Sequence[str], stated_gap: float) -> Figure:
    """Left: pay of the adversaries over honest pay, by formula. Right: chance that nothing has caught them yet.

    Args:
        pay: records of ``series.poq.reward_rows``. lines: case, answers, undetected. cases: in the order of their
            looks. stated_gap: the paper's honest score less its adversary's.
    """
    part = pay[pay.formula.isin(FORMULAS)].drop_duplicates("formula").iloc[::-1]
    labels, colour = [FORMULAS[formula] for formula in part.formula], figures.SCHEME_COLOURS["PoQ"]
    fig, (left, right) = figures.subplots(figures.PAGE_IN, 3.1, ncols=2)
    left.hlines(labels, part.ratio_low, part.ratio_high, color=colour, linewidth=4, alpha=0.4)
    left.plot(part.ratio, labels, "D", color=colour, label="our adversaries")
    as_stated = np.exp([-weight * stated_gap for weight in _STEEP])
    left.plot(as_stated, list(FORMULAS.values())[:2], "x", color=figures.PAPER_COLOUR, label="the paper's scores")
    left.legend(loc="lower right", fontsize=8)
    left.tick_params(labelsize=8)
    figures.paper_line(left, 1.0, "as much as honest", vertical=True)
    left.set(xlabel="adversary's pay over honest pay (ratio)", ylim=(-0.5, len(part) - 0.2))
    # Two cases fall together where no answer is proved: there are four then.
    shades = (colour, *figures.SEQUENCE[1 : len(cases) - 1], figures.SCHEME_COLOURS["OTR"])
    looks = dict(zip(cases, zip(shades, figures.DASHES, strict=False), strict=True))
    figures.curves(right, lines, "answers", "undetected", "case", looks=looks)
    right.set(xscale="log", xlabel="answers of the adversary (count)", ylabel="probability of not being caught yet")
    right.set(ylim=(-0.04, 1.08))
    fig.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return fig
