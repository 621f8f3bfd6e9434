"""The figures of notebook 05: rates, stakes and what they deter, from records of ``series.economics``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from otr_paper.press import figures

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

REGIMES: Mapping[str, tuple[str, str]] = {
    "honest watched": ("#0072B2", ""),
    "honest dominant": ("#8CCBF2", ".."),
    "mixed": ("#F0B93A", "//"),
    "always cheat": ("#E58A4E", "xx"),
}
"""Colour and hatch of a regime of the game."""
SMALL = {"fontsize": figures.READABLE_PT}


def draw_detection(curves: pd.DataFrame, marks: pd.DataFrame) -> Figure:
    """Chance that a repeated cheat is caught, by the spot-check rate; a dot where it reaches a mark's probability."""
    fig, ax = figures.subplots(figures.PAGE_IN, 2.6)
    looks = figures.rate_looks(curves.rho)
    names = {rho: f"ρ = {figures.percent(rho)}" for rho in looks}
    figures.curves(ax, curves, "cheats", "detection", "rho", looks=looks, name=names.__getitem__, legend="upper left")
    for mark in marks[np.isfinite(marks.cheats)].itertuples():
        ax.plot(mark.cheats, mark.probability, "o", color=looks[mark.rho][0])
        place = {"xytext": (4, -12), "textcoords": "offset points"}
        ax.annotate(f"K = {mark.cheats:,.0f}", (mark.cheats, mark.probability), **place)
    ax.set(xscale="log", xlabel="cheated answers K (count)", ylabel="probability of at least one catch")
    return fig


def draw_deterrence(
    cells: pd.DataFrame, names: Mapping[float, str], least_usd: Mapping[float, float], rho: float
) -> Figure:
    """Where honesty pays, over stake and rate, by what a cheat gains; the least stake at ``rho`` is marked.

    Args:
        cells: records of ``series.economics.deterrence_map``. names: gain (USD) -> what it is.
        least_usd: gain -> least stake at ``rho``, USD.
    """
    fig, axes = figures.subplots(figures.PAGE_IN, 2.7, ncols=len(names), sharey=True, squeeze=False)
    for ax, (gain, name) in zip(axes[0], names.items(), strict=True):
        part = cells[cells.gain_usd == gain]
        deterred = part.pivot(index="rho", columns="stake_usd", values="deterred").astype(float)
        shades = {"levels": [-0.5, 0.5, 1.5], "colors": ["#F4D3C2", "#CDE4F2"]}
        ax.contourf(deterred.columns, deterred.index * 100, deterred.values, **shades)
        ax.annotate("cheating\npays", (0.05, 0.06), xycoords="axes fraction", **SMALL)
        ax.annotate("honesty\npays", (0.95, 0.94), xycoords="axes fraction", ha="right", va="top", **SMALL)
        ax.set(xscale="log", yscale="log", xlabel="stake per answer (USD)")
        ax.set_title(name, fontsize=8, fontweight="normal")
        least = least_usd[gain]
        if rho > 0:
            ax.axhline(rho * 100, color=figures.PAPER_COLOUR, linewidth=0.9, linestyle=(0, (4, 2)))
        if rho > 0 and 0 < least < np.inf:
            side, dx = ("right", -4) if least > 1e5 else ("left", 4)
            ax.plot(least, rho * 100, "o", color=figures.PAPER_COLOUR)
            text = f"{least:,.2f} USD" if least < 1 else f"{least:,.0f} USD"
            place = {"xytext": (dx, 5), "ha": side, "textcoords": "offset points"}
            ax.annotate(text, (least, rho * 100), **place, **SMALL)
        ax.set(xlim=(deterred.columns[0], deterred.columns[-1]))
    axes[0][0].set_ylabel("spot-check rate ρ (%)")
    return fig


def draw_least_stake_and_rate(least: pd.DataFrame, names: Mapping[float, str], paper_rho: float) -> Figure:
    """Left: least stake against the rate. Right: least rate against the stake, from where any rate deters.

    Args:
        least: panel (left, right), gain_usd, rho, stake_usd.
    """
    least = least[np.isfinite(least.stake_usd) & np.isfinite(least.rho)]
    shown = least.assign(percent=least.rho * 100)
    fig, (left, right) = figures.subplots(figures.PAGE_IN, 2.9, ncols=2)
    for ax, panel, axes in ((left, "left", ("percent", "stake_usd")), (right, "right", ("stake_usd", "percent"))):
        if panel in set(shown.panel):
            figures.curves(ax, shown[shown.panel == panel], *axes, "gain_usd", name=names.__getitem__)
    starts = shown[shown.panel == "right"].groupby("gain_usd", sort=False).head(1)
    for start, colour in zip(starts.itertuples(), figures.SEQUENCE, strict=False):
        right.plot(start.stake_usd, start.percent, "|", markersize=9, color=colour)
    label = f"paper: {figures.percent(paper_rho)}"
    figures.paper_line(left, paper_rho * 100, label, vertical=True)
    figures.paper_line(right, paper_rho * 100, label)
    left.set(xscale="log", yscale="log", xlabel="spot-check rate ρ (%)", ylabel="least stake per answer (USD)")
    right.set(xscale="log", yscale="log", xlim=(4e-3, 1e10))
    right.set(xlabel="stake per answer (USD)", ylabel="least spot-check rate ρ (%)")
    fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return fig


def draw_regimes(found: pd.DataFrame, titles: Mapping[float, str]) -> Figure:
    """The equilibrium over rate and gain, one map for each share of planted faults.

    Every cell is drawn in the colour of its own regime: a contour between two regimes would pass through those that
    are between them in the list and nowhere in the data.

    Args:
        found: records of ``series.economics.regime_map`` with a column planted. titles: share planted -> its words.
    """
    from matplotlib.colors import ListedColormap

    names = [name for name in REGIMES if name in set(found.regime)]
    names += sorted(set(found.regime) - set(names))
    looks = {name: REGIMES.get(name, ("#8A8A8A", "")) for name in names}
    colours = ListedColormap([colour for colour, _ in looks.values()])
    fig, axes = figures.subplots(figures.PAGE_IN, 2.9, ncols=len(titles), sharey=True, squeeze=False)
    for ax, (planted, title) in zip(axes[0], titles.items(), strict=True):
        part = found[found.planted == planted]
        codes = part.pivot(index="gain_usd", columns="rho", values="regime").map(names.index)
        cells = {"cmap": colours, "vmin": -0.5, "vmax": len(names) - 0.5, "shading": "nearest", "rasterized": True}
        ax.pcolormesh(codes.columns * 100, codes.index, codes.values, **cells)
        for number, name in enumerate(names):
            inside = np.argwhere(codes.to_numpy() == number)
            if len(inside) > 0.03 * codes.size:
                y, x = inside[np.abs(inside - np.median(inside, axis=0)).sum(axis=1).argmin()]
                ax.annotate(name, (codes.columns[x] * 100, codes.index[y]), ha="center", va="center", **SMALL)
        ax.set(xscale="log", yscale="log", xlabel="spot-check rate ρ (%)")
        ax.grid(visible=False)
        ax.set_title(title, fontsize=8, fontweight="normal")
    axes[0][0].set_ylabel("gain of a cheat (USD)")
    swatches = [figures.cell(0, 0, colour) for colour, _ in looks.values()]
    fig.legend(swatches, names, loc="outside lower center", ncols=len(names))
    return fig


def draw_best_rates(
    best: pd.DataFrame, names: Mapping[float, str], known_usd: Mapping[str, float], rho: float
) -> Figure:
    """The cheapest rate that deters, and its cost, against the price of a proof; known prices as grey lines.

    Args:
        best: records of ``series.economics.best_rate_curves``. known_usd: prover -> price of its proof.
        rho: the paper's rate.
    """
    fig, (left, right) = figures.subplots(figures.PAGE_IN, 2.9, ncols=2)
    shown = best.assign(percent=best.rho * 100)
    figures.curves(left, shown, "proof_cost_usd", "percent", "gain_usd", name=names.__getitem__)
    figures.curves(right, best, "proof_cost_usd", "cost_usd", "gain_usd")
    for ax in (left, right):
        for usd in known_usd.values():
            ax.axvline(usd, color="#767676", linewidth=0.7)
        ax.set(xscale="log", yscale="log", xlabel="price of one proof (USD)")
    for name, usd in known_usd.items():
        place = {"xycoords": ("data", "axes fraction"), "rotation": 90, "ha": "right"}
        left.annotate(name, (usd, 0.02), **place)
    figures.paper_line(left, rho * 100, f"paper: {figures.percent(rho)}", along=0.53)
    left.set(ylabel="best spot-check rate ρ (%)", ylim=(1e-10, None))
    right.set_ylabel("cost of deterrence per query (USD)")
    fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return fig


def draw_break_and_patch(
    lines: pd.DataFrame, titles: Mapping[str, str], *, queries_per_epoch: int, break_epoch: int, patch_epoch: int
) -> Figure:
    """Cheated answers and evicted operators by epoch, mean and range over seeds; grey: the break is open.

    Args:
        lines: case, run, epoch, cheats, evicted. titles: case -> its title.
    """
    fig, (cheats, evicted) = figures.subplots(figures.PAGE_IN, 2.7, ncols=2)
    for ax, column, label in (
        (cheats, "cheats", "cheated answers per epoch (count)"),
        (evicted, "evicted", "operators evicted, in all (count)"),
    ):
        legend = "upper right" if ax is cheats else None
        figures.curves(ax, lines, "epoch", column, "case", name=titles.__getitem__, legend=legend, spread=True)
        ax.axvspan(break_epoch, patch_epoch, color="#EEEEEE", zorder=0)
        ax.set(xlabel=f"epoch ({queries_per_epoch} queries per operator)", ylabel=label, yscale="symlog")
        ax.set(ylim=(-0.3, 2 * lines[column].max() + 1))
    cheats.annotate("break open", (break_epoch + 6, 0.98), xycoords=("data", "axes fraction"), va="top")
    return fig


def draw_must_break(earned: pd.DataFrame, classes: pd.DataFrame, *, stake_usd: float, verdict_s: float) -> Figure:
    """Left: what schedules of cheats earn, over the stake. Right: wrong answers of a broken class, over the time to a
    verdict. Grey: where the case stands.

    Args:
        earned, classes: records of ``series.guarantee``.
    """
    fig, (left, right) = figures.subplots(figures.PAGE_IN, 3.1, ncols=2)
    figures.curves(left, earned, "stake_usd", "profit_usd", "schedule")
    figures.curves(right, classes, "verdict_s", "answers", "what")
    left.axhline(0, color="#555555", linewidth=0.8)
    for ax, at, name, height in (
        (left, stake_usd, "stake of the case", 0.9),
        (right, verdict_s, "verdict of the case", 0.1),
    ):
        ax.axvline(at, color="#767676", linewidth=0.7)
        place = {"xytext": (3, 0), "textcoords": "offset points"}
        ax.annotate(name, (at, height), xycoords=("data", "axes fraction"), **place, **SMALL)
    left.locator_params(axis="x", nbins=4)
    left.set(xlabel="stake (USD)", ylabel="profit over honesty (USD)")
    right.set(xscale="log", yscale="log", xlabel="time to a verdict (s)", ylabel="wrong answers (count)")
    for ax in (left, right):
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.24), ncols=1)
    return fig
