"""The figures of notebook 07: latency, cost and throughput, from records of ``series``."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from otr_paper.press import figures
from otr_paper.series.trilemma import duration

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LATENCY_MARKS = ("FlashProve 400B, amortised", "slowest proof", "zkLLM", "stated inputs", "largest rate", "ZKTorch")
COST_MARKS = ("FlashProve", "zkLLM", "dearest proof", "stated inputs", "largest rate")
"""How the names of the points begin that a consistency figure marks, from left to right."""
_SIGNS = "os^vDP"
OWN_CASE = "your case"
_SYSTEMS = ("OTR", "opML", "ZKML", "PoQ")
_KINDS = ("first token", "answer", "provisional", "proof", "final")
PAYERS: Mapping[str, tuple[str, str]] = {
    "operator": ("o", figures.SEQUENCE[0]),
    "user": ("s", figures.SEQUENCE[3]),
    "watcher": ("^", figures.SEQUENCE[2]),
}
"""Marker and colour of who pays first."""
_QUANTITIES = {"first_token_s": "first token (s)", "answer_s": "whole answer (s)"}
SHOWN_USD = 1e-6
"""Items of a query that cost less are left out of the picture."""


def rate_name(rho: float) -> str:
    """A spot-check rate as a legend names it."""
    return f"ρ = {figures.percent(rho)}"


def draw_consistency(
    curves: pd.DataFrame, marks: pd.DataFrame, *, x: str, y: str, unit: str, stated: str, shown: Sequence[str]
) -> tuple[Figure, Axes]:
    """Curves of ``y`` over ``x``, one a spot-check rate, with a sign for each mark, whose value the key tells.

    Args:
        curves, marks: records of ``series.consistency``. unit: of ``y``. stated: label of the paper's line, which
            stands at the curves' ``stated_*`` number. shown: how the names of marks begin; the own case is hollow.
    """
    fig, ax = figures.subplots(figures.PAGE_IN, 2.8)
    looks = figures.rate_looks(curves.rho)
    figures.curves(ax, curves, x, y, "rho", looks=looks, name=rate_name, legend="upper left")
    level = curves[f"stated_{y.rsplit('_', 1)[1]}"].iloc[0]
    figures.paper_line(ax, level, stated, at_start=unit == "USD")
    signs = []
    for start, sign in zip((*shown, OWN_CASE), (*_SIGNS[: len(shown)], "D"), strict=True):
        look = {"markersize": 8, "fillstyle": "none"} if start == OWN_CASE else {"markersize": 5}
        for row in marks[marks.name.str.startswith(start) & (marks[x] > 0) & (marks[y] > 0)].to_dict("records"):
            name = textwrap.fill(f"{row['name']}: {row[y]:.3g}\N{NO-BREAK SPACE}{unit}", 24)
            signs += ax.plot(row[x], row[y], sign, color="black", linestyle="", zorder=4, label=name, **look)
    rates = ax.get_legend()
    ax.legend(handles=signs, loc="center left", bbox_to_anchor=(1.01, 0.5), labelspacing=0.9)
    ax.add_artist(rates)
    ax.set(xscale="log", yscale="log")
    return fig, ax


def draw_serving_law(runs: pd.DataFrame, errors: Mapping[str, Mapping[str, float]]) -> Figure:
    """Published against simulated means of the runs that each model's law was fitted to, and of the others: a row of
    two axes a model.

    Args:
        runs: records of ``accuracy.runs``. errors: model -> mean error of each quantity on its tested runs.
    """
    fig, rows = figures.subplots(figures.PAGE_IN, 4.4, nrows=len(errors), ncols=2)
    for axes, (model, known) in zip(rows, runs.groupby("model", sort=False), strict=True):
        size = model.rsplit("_", 1)[1].upper()
        for ax, (name, label) in zip(axes, _QUANTITIES.items(), strict=True):
            for (half, part), colour, marker in zip(known.groupby("half"), figures.SEQUENCE, "ox", strict=False):
                shown, text = {"color": colour, "markersize": 4, "linestyle": ""}, f"{size}, {half}: {len(part)} runs"
                ax.plot(part[f"{name}.published"], part[f"{name}.simulated"], marker, label=text, **shown)
            ends = np.array([known[f"{name}.published"].min() * 0.6, known[f"{name}.published"].max() * 1.6])
            ax.plot(ends, ends, color="#767676", linewidth=0.8, zorder=0)
            ax.set(xscale="log", yscale="log", xlabel=f"published {label}", ylabel=f"simulated {label}")
            note = f"mean error on the tested runs {errors[model][name]:.0%}"
            ax.annotate(note, (0.97, 0.03), xycoords="axes fraction", ha="right")
        axes[0].legend(loc="upper left")
    return fig


def draw_costs(items: pd.DataFrame, stated_usd: Mapping[str, float]) -> Figure:
    """What a query costs, item by item and in all, by system: a dot on a logarithmic axis, its value at the right.

    Args:
        items: records of ``series.simulation.cost_rows``. stated_usd: system -> the paper's number.
    """
    fig, ax = figures.subplots(figures.PAGE_IN, 4.6)
    labels: list[str] = []
    for system, part in items.groupby("system", sort=False):
        shown = part[part.usd >= SHOWN_USD]
        for row in shown.itertuples():
            marker, colour = PAYERS[row.payer]
            _cost_row(ax, len(labels), row.usd, marker, colour, f"{row.usd:.2g}")
            labels.append(f"{system}: {row.item}")
        total, paper = part.usd.sum(), stated_usd.get(system)
        if len(shown) > 1 or paper is not None:
            text = f"{total:.2g}" + (f"  (paper: {paper:g})" if paper is not None else "")
            _cost_row(ax, len(labels), total, "D", "#555555", text)
            if paper is not None:
                ax.plot(paper, len(labels), "X", color=figures.PAPER_COLOUR, markersize=6)
            labels.append(f"{system}: all")
        ax.axhline(len(labels) - 0.5, color="#BBBBBB", linewidth=0.6, zorder=0)
    ax.set_yticks(range(len(labels)), labels)
    for label in ax.get_yticklabels():
        label.set_fontweight("bold" if label.get_text().endswith(": all") else "normal")
    ax.set(xscale="log", xlabel="USD per query", ylim=(len(labels) - 0.5, -0.7))
    looks = {f"paid first by the {payer}": look for payer, look in PAYERS.items()}
    looks |= {"all items": ("D", "#555555"), "paper": ("X", figures.PAPER_COLOUR)}
    handles = [
        ax.plot([], [], marker, color=tone, linestyle="", label=name)[0] for name, (marker, tone) in looks.items()
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    ax.grid(visible=False, axis="y")
    return fig


def _cost_row(ax: Axes, y: int, usd: float, marker: str, colour: str, text: str) -> None:
    ax.axhline(y, color="#EEEEEE", linewidth=0.6, zorder=0)
    ax.plot(usd, y, marker, color=colour, markersize=5)
    place: dict[str, Any] = {
        "xycoords": ("axes fraction", "data"),
        "textcoords": "offset points",
        "annotation_clip": False,
    }
    ax.annotate(text, (1, y), xytext=(6, 0), va="center", **place)


def draw_throughput(lost: pd.DataFrame, against: pd.DataFrame, *, band: tuple[float, float], stated: float) -> Figure:
    """Above: throughput lost in confidential mode, each published result, those of other GPUs hollow, and the
    paper's two statements. Below: throughput over four baselines.

    Args:
        lost, against: rows from below upwards. band: the paper's overhead, shares. stated: its throughput, a share.
    """
    fig, (above, below) = figures.subplots(figures.PAGE_IN, 6.2, nrows=2, height_ratios=[4.6, 1.25])
    for y, row in enumerate(lost.itertuples()):
        colour = figures.PAPER_COLOUR if row.group == "stated" else figures.SEQUENCE[0]
        ends = [row.low * 100, row.high * 100]
        other = row.group == "other GPU"
        look = {"linewidth": 1, "fillstyle": "none"} if other else {"linewidth": 4}
        above.plot(ends, [y, y], "o-", color=colour, markersize=5, solid_capstyle="round", **look)
    above.axvspan(*(100 * end for end in band), color="#DDDDDD", zorder=0)
    names = lost.name.str.replace("/io.net/Fudan", " 2024").str.replace(" (Wang, Smith)", " 2026")
    names = names.str.replace(" (Chrapek et al., IISWC 2025)", " 2025")
    names = names.str.replace(" (Yin, Wang) Serialized Bridge", " 2026").str.replace(", throughput loss range", "")
    above.set_yticks(range(len(lost)), names)
    above.set(xlabel="throughput lost to confidential mode (%)", xlim=(-1, 29))
    colour = figures.SCHEME_COLOURS["OTR"]
    for y, row in enumerate(against.itertuples()):
        below.plot([row.low * 100, row.high * 100], [y, y], color=colour, linewidth=4, alpha=0.4, solid_capstyle="butt")
        below.plot(row.value * 100, y, "o", color=colour)
        # A value stands on the side of its bar where the paper's line is not.
        left_of = row.low > 0.2 and row.value < 1
        side: dict[str, Any] = {"xytext": (-5, 0), "ha": "right"} if left_of else {"xytext": (5, 0), "ha": "left"}
        at = (100 * (row.low if left_of else row.value), y)
        below.annotate(figures.percent(row.value), at, textcoords="offset points", va="center", **side)
    figures.paper_line(below, stated * 100, f"paper: {figures.percent(stated)}", vertical=True)
    below.set_yticks(range(len(against)), against.baseline)
    below.set(xlabel="OTR's throughput over the baseline's (%)", xlim=(0, 130), ylim=(-0.6, len(against) - 0.2))
    looks = {
        "on an H100": {"color": figures.SEQUENCE[0]},
        "on another GPU": {"color": figures.SEQUENCE[0], "fillstyle": "none"},
        "the paper": {"color": figures.PAPER_COLOUR},
    }
    handles = [above.plot([], [], "o", label=name, markersize=5, **look)[0] for name, look in looks.items()]
    fig.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return fig


def draw_rate_sweep(
    curves: Mapping[str, pd.DataFrame],
    deterred: Mapping[float, pd.DataFrame],
    *,
    stated_s: float,
    stated_usd: float,
    cheats: int,
) -> Figure:
    """What more spot checks cost and buy: latency, cost, the largest gain deterred, and the chance of a catch.

    Args:
        curves: prover, as the legend names it -> points of a sweep in order of ``rho``. deterred: stake (USD) -> the
            same. stated_s, stated_usd: the paper's mean latency and cost of a query. cheats: of the series that is
            to be caught.
    """
    fig, axes = figures.subplots(figures.PAGE_IN, 4.4, nrows=2, ncols=2, sharex=True)
    (waited, cost), (gain, catch) = axes
    most = max(part["waited mean_s"].max() for part in curves.values())
    for number, (name, part) in enumerate(curves.items()):
        look = {"color": figures.SEQUENCE[number], "linestyle": figures.LINE_STYLES[number], "marker": "o"}
        stable, gone = part[part.unstable == ""], part[part.unstable != ""]
        waited.plot(stable.rho * 100, stable["waited mean_s"], markersize=3, label=name, **look)
        height = np.full(len(gone), most * 4 * 1.7**number)
        waited.plot(gone.rho * 100, height, "x", color=look["color"], markersize=4)
        cost.plot(part.rho * 100, part.cost_usd, markersize=3, **look)
    waited.annotate("✕ more than the\npool can prove", (0.03, 0.97), xycoords="axes fraction", va="top")
    figures.paper_line(waited, stated_s, f"paper: {stated_s:g} s", at_start=True)
    figures.paper_line(cost, stated_usd, f"paper: {stated_usd:g} USD", at_start=True)
    for (stake, part), colour, style in zip(deterred.items(), figures.SEQUENCE[4:], figures.LINE_STYLES, strict=False):
        gain.plot(
            part.rho * 100, part["deterred gain_usd"], color=colour, linestyle=style, label=f"stake {stake:,.0f} USD"
        )
    gain.legend(loc="upper left")
    catch.plot(part.rho * 100, part.detection, color="#555555")
    for ax, title, label in (
        (waited, "if proofs are awaited", "mean latency (s)"),
        (cost, "all payers", "cost of a query (USD)"),
        (gain, "what it deters", "largest gain deterred (USD)"),
        (catch, "what it catches", f"chance to catch one of\n{cheats} cheats (probability)"),
    ):
        ax.set(xscale="log", yscale="linear" if ax is catch else "log", ylabel=label)
        ax.set_title(title, fontsize=8)
    waited.set(ylim=(0.4, most * 60))
    for ax in (gain, catch):
        ax.set_xlabel("spot-check rate ρ (%)")
    fig.legend(*waited.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def draw_swings(
    found: pd.DataFrame, verdicts: Mapping[str, tuple[str, ...]], ticks: Mapping[str, Sequence[float]]
) -> Figure:
    """For each claim the five inputs that move it most: a mark at each end of an input, and the base between.

    Args:
        found: records of ``series.simulation.tornado``. verdicts: claim -> what its verdict hangs on, axis label,
            published row, unit. ticks: claim -> marks of its axis.
    """
    fig, axes = figures.subplots(figures.PAGE_IN, 5.2, nrows=2, ncols=2)
    ends = {"low": ("o", figures.SEQUENCE[0]), "high": ("s", figures.SEQUENCE[3])}
    for ax, (claim, (_, label, _, unit)) in zip(axes.flat, verdicts.items(), strict=True):
        part = found[found.claim == claim].head(5).iloc[::-1].reset_index(drop=True)
        base, stated = part.base.iloc[0], part.stated.iloc[0]
        top = max(part[["low", "high"]].max().max(), stated) * (2.2 if claim != "L18" else 1.02)
        for y, row in enumerate(part.itertuples()):
            for end, (marker, colour) in ends.items():
                value = getattr(row, end)
                gone = value is None or np.isnan(value)
                ax.plot(
                    [base, top if gone else value], [y, y], color=colour, linewidth=2, linestyle=":" if gone else "-"
                )
                ax.plot(top if gone else value, y, ">" if gone else marker, color=colour, markersize=4.5)
        ax.axvline(base, color="#767676", linewidth=0.8)
        ax.axvline(stated, color=figures.PAPER_COLOUR, linewidth=0.9, linestyle=(0, (4, 2)))
        ax.set_title(f"{claim}: paper {stated:g} {unit if unit != '1' else ''}", fontsize=8)
        ax.set_yticks(range(len(part)), [textwrap.fill(each, 26) for each in part.input])
        ax.set_xlabel(label)
        ax.set(xscale="linear" if claim == "L18" else "log")
        ax.set_xticks(ticks[claim], [f"{mark:g}" for mark in ticks[claim]])
        ax.minorticks_off()
    looks: dict[str, Any] = {"first end named": ends["low"], "second end named": ends["high"]}
    looks["no number: too much load"] = (">", "#555555")
    handles = [
        ax.plot([], [], marker, color=tone, linestyle="", label=name)[0] for name, (marker, tone) in looks.items()
    ]
    handles += ax.plot([], [], color="#767676", linewidth=0.8, label="all at their middle")
    handles += ax.plot([], [], color=figures.PAPER_COLOUR, linewidth=0.9, linestyle=(0, (4, 2)), label="paper")
    fig.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return fig


def draw_latencies(found: pd.DataFrame, stated_s: Sequence[float]) -> Figure:
    """Each kind of latency of each system: bar from median (tick, and the number before it) to the 99th percentile,
    marker at the mean with its interval.

    Args:
        found: records of ``series.simulation.latencies``. stated_s: the paper's times, as dashed lines; the first
            one's label stands to its left.
    """
    there = set(zip(found.system, found.kind, strict=True))
    order = [(system, kind) for system, kind in product(_SYSTEMS, _KINDS) if (system, kind) in there]
    fig, ax = figures.subplots(figures.PAGE_IN, 4.0)
    small: dict[str, Any] = {"textcoords": "offset points", "va": "center"}
    for y, (system, kind) in enumerate(order):
        colour = figures.SCHEME_COLOURS[system]
        part = found[(found.system == system) & (found.kind == kind)].set_index("statistic")
        p50, p99, mean = (part.loc[name] for name in ("p50", "p99", "mean"))
        ax.plot([p50.value_s, p99.value_s], [y, y], color=colour, linewidth=3, alpha=0.35, solid_capstyle="butt")
        ax.plot([mean.low_s, mean.high_s], [y, y], color="black", linewidth=1)
        ax.plot(p50.value_s, y, "|", color=colour, markersize=9, markeredgewidth=1.6)
        ax.plot(mean.value_s, y, figures.SCHEME_MARKERS[system], color=colour, markersize=4)
        ax.annotate(duration(p50.value_s), (p50.value_s, y), xytext=(-5, 0), ha="right", **small)
        if y and system != order[y - 1][0]:
            ax.axhline(y - 0.5, color="#BBBBBB", linewidth=0.7, zorder=0)
    for number, value in enumerate(stated_s):
        side, dx = ("left", 2) if number else ("right", -2)
        ax.axvline(value, color=figures.PAPER_COLOUR, linewidth=0.8, linestyle=(0, (4, 2)), zorder=0)
        words = duration(value) if number else f"paper: {duration(value)}"
        ax.annotate(words, (value, -0.85), xytext=(dx, 0), ha=side, **small)
    ax.set_yticks(range(len(order)), [f"{system}: {kind}" for system, kind in order])
    ax.set(xscale="log", xlabel="time since the request arrived (s)", xlim=(0.02, 4e6), ylim=(len(order) - 0.4, -1.3))
    grey: dict[str, Any] = {"color": "#555555", "linestyle": ""}
    handles = [
        *ax.plot([], [], "|", markersize=9, markeredgewidth=1.6, label="median, the number", **grey),
        *ax.plot([], [], "o", label="mean", **grey),
        *ax.plot([], [], color="black", linewidth=1, label="its interval"),
        *ax.plot([], [], color="#555555", linewidth=3, alpha=0.35, label="to the 99th percentile"),
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return fig


def draw_frontiers(spend: pd.DataFrame, waits: pd.DataFrame, systems: Sequence[str]) -> Figure:
    """Left: cost of finding a share of the cheats. Right: when an answer is final, by the challenge window.

    Args:
        spend, waits: records of ``series.equal_security``. systems: in the order of their looks.
    """
    dashes: tuple[Any, ...] = ("", (4, 2), "", "", "")
    looks = {
        name: (figures.SCHEME_COLOURS[name.split(",")[0]], dash) for name, dash in zip(systems, dashes, strict=True)
    }
    fig, (left, right) = figures.subplots(figures.PAGE_IN, 3.0, ncols=2)
    hours = waits.assign(hours=waits.window_s / 3600, final_h=waits.final_s / 3600)
    figures.curves(left, spend, "target", "usd", "system", looks=looks)
    figures.curves(right, hours, "hours", "final_h", "system", looks=looks)
    left.set(xlabel="share of the cheats found (probability)", ylabel="cost beside inference (USD)")
    right.set(xlabel="challenge window (h)", ylabel="answer final after (h)")
    for ax in (left, right):
        ax.set(xscale="log", yscale="log")
        # What opML does is what OTR does by re-running: a broad line lies under the dashes of the other.
        for line in (*ax.lines, *ax.get_legend_handles_labels()[0]):
            if line.get_color() == figures.SCHEME_COLOURS["opML"]:
                line.set(linewidth=5, alpha=0.45, zorder=1)
    fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return fig


def draw_crossover(
    proving: pd.DataFrame,
    values: pd.DataFrame,
    *,
    windows_s: Mapping[str, float],
    billions: float,
    priced: Mapping[float, str],
) -> Figure:
    """Left: time of a proof by the model's size, beside challenge windows. Right: the least value to prove, by window.

    Args:
        proving, values: records of ``series.equal_security``. windows_s: label -> window. billions: of parameters of
            the notebook's model. priced: price of a proof (USD) -> whose it is.
    """
    fig, (left, right) = figures.subplots(figures.PAGE_IN, 3.1, ncols=2)
    provers = proving.prover.unique()
    looks = dict(zip(provers, zip(figures.SEQUENCE, figures.DASHES, strict=False), strict=False))
    sized = proving.assign(billions=proving.parameters / 1e9)
    figures.curves(left, sized, "billions", "proof_s", "prover", looks=looks)
    most = 1.2e4
    place: dict[str, Any] = {"textcoords": "offset points", "va": "center", "annotation_clip": False}
    for label, seconds in windows_s.items():
        left.axhline(seconds, color="#767676", linewidth=0.7)
        left.annotate(label, (most, seconds), xytext=(3, 0), **place)
    left.axvline(billions, color="#767676", linewidth=0.7, linestyle=(0, (1, 2)))
    top: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "va": "top"}
    left.annotate(f"{billions:g}B", (billions, 1), xytext=(3, 0), **top)
    left.set(xlabel="parameters (billions)", ylabel="time of a proof (s)", xlim=(0.1, most))
    names = {usd: f"{name}: {usd:,.2g} USD" for usd, name in priced.items()}
    hours = values.assign(hours=values.window_s / 3600)
    # A prover keeps its look from the left; the paper's proof is no prover's.
    system = {name.split(",")[0]: look for name, look in looks.items()}
    same = {usd: system.get(name.split(",")[0], (figures.PAPER_COLOUR, "")) for usd, name in priced.items()}
    figures.curves(right, hours, "hours", "value_usd", "proof_usd", looks=same, name=names.__getitem__)
    right.set(xlabel="challenge window (h)", ylabel="least value to prove (USD)")
    for ax in (left, right):
        ax.set(xscale="log", yscale="log")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.24), ncols=1)
    return fig
