"""The figures of notebook 03: disputes, tolerances and crowds of challengers, from records of ``series``."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from otr_paper.labs.tolerance.native_operators import LAYER_OPERATORS
from otr_paper.press import figures

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEVELS = ("receipt", "token × layer", "operator", "tile", "element", "step", "one step")
"""Levels of a dispute, from the whole answer down."""
KINDS: Mapping[str, str] = {
    "linear": "matrix products",
    "attention": "attention",
    "rotary": "rotary",
    "norm": "RMSNorm",
    "swiglu": "SiLU · up",
    "residual": "residual",
}
"""Kind of a floating-point operator, and what a legend calls it."""
_PROOF = 3e-6
"""Where a probability of 0 stands on the logarithmic axis of false slashes, which has no zero."""


def draw_dispute(path: pd.DataFrame) -> Figure:
    """Every move of a dispute: what is still in doubt before it, and the gas of its transaction.

    Args:
        path: records of ``series.disputes.narrowing``.
    """
    colours = dict(zip(LEVELS, ("#000000", *figures.SEQUENCE), strict=False))
    fig, (left, right) = figures.subplots(figures.PAGE_IN, 3.6, ncols=2, sharey=True, width_ratios=(1.5, 1))
    for row in path.itertuples():
        y, colour = row.move, colours[row.level]
        left.barh(y, 1, color="#F0F0F0", height=0.8)
        left.barh(y, max(row.right - row.left, 0.006), left=row.left, color=colour, height=0.8)
        text, whole = f"{row.units:,} of {row.of:,}", row.right - row.left == 1
        side = "center" if whole else "left" if row.right < 0.55 else "right"
        place = 0.5 if whole else row.right + 0.01 if side == "left" else row.left - 0.01
        ink = figures.ink_on(colour) if whole else "black"
        left.annotate(text, (place, y), va="center", ha=side, color=ink)
        hatch = {"hatch": "" if row.by == "operator" else "////", "edgecolor": figures.ink_on(colour), "linewidth": 0}
        right.barh(y, row.gas / 1e3, color=colour, height=0.8, **hatch)
    left.set_yticks(path.move, [f"{row.by[:10]}: {row.name.replace('_', ' ')}" for row in path.itertuples()])
    left.invert_yaxis()
    left.set(xlim=(0, 1), xlabel="share of the level's tree still in doubt (fraction)")
    left.grid(visible=False)
    right.set(xlabel="gas of the transaction (thousand)")
    used = {level: colours[level] for level in dict.fromkeys(path.level)}
    swatches = [figures.cell(0, 0, colour) for colour in used.values()]
    sizes = {"title": "level (hatched: challenger)", "title_fontsize": figures.READABLE_PT}
    fig.legend(swatches, used, loc="outside lower center", ncols=len(used), **sizes)
    return fig


def draw_growth(curves: pd.DataFrame, played: pd.DataFrame, *, played_tokens: int, marked_tokens: int) -> Figure:
    """Rounds and bytes of a dispute against the length of the answer, by the arity k, and its gas by k.

    Args:
        curves: records of ``series.disputes.growth`` with a column model. played: the same dispute at each arity.
        played_tokens, marked_tokens: tokens of the answer that was played about, and of the one that the title names.
    """
    fig, (rounds, sent, gas) = figures.subplots(figures.PAGE_IN, 3.1, ncols=3)
    models = list(dict.fromkeys(curves.model))
    styles = dict(zip(models, ("-", (0, (3, 1.2))), strict=True))
    arities = sorted(curves.k.unique())
    colours = dict(zip(arities, figures.SEQUENCE, strict=False))
    for k, (model, style) in product(arities, styles.items()):
        part = curves[(curves.k == k) & (curves.model == model)]
        name = f"k = {k}" if model == models[0] else None
        rounds.plot(part.tokens, part.rounds, color=colours[k], linestyle=style, linewidth=1.2, label=name)
        sent.plot(part.tokens, part.bytes / 1024, color=colours[k], linestyle=style, linewidth=1.2)
    for k in arities:
        point = played[played.arity == k].iloc[0]
        rounds.plot(played_tokens, point.rounds, "o", color=colours[k])
        sent.plot(played_tokens, point.payload_bytes / 1024, "o", color=colours[k])
        gas.plot(np.log2(k), point.gas_dispute / 1e6, "o", color=colours[k], markersize=5)
    gas.plot(np.log2(played.arity), played.gas_dispute / 1e6, "o-", color="#767676", zorder=1, linewidth=0.9)
    for ax in (rounds, sent):
        ax.axvline(marked_tokens, color="#767676", linewidth=0.8)
        near = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        ax.annotate(f"{marked_tokens:,}", (marked_tokens, 0.02), xytext=(3, 0), **near)
        ax.set(xscale="log", xlabel="tokens of prompt and answer (count)", ylim=(0, None))
    rounds.set_ylabel("rounds of a dispute (count)")
    sent.set_ylabel("hashes and values sent (KiB)")
    gas.set(xlabel="parts k that a round cuts into", ylabel="gas of a dispute (million)", ylim=(0, None))
    gas.set_xticks(np.log2(played.arity), played.arity)
    shown, names = rounds.get_legend_handles_labels()
    for model, style in styles.items():
        shown += rounds.plot([], [], color="#555555", linestyle=style, linewidth=1.2)
        names.append(model)
    shown += rounds.plot([], [], "o", color="#555555")
    fig.legend(shown, [*names, "played"], loc="outside lower center", ncols=len(names) + 1)
    return fig


def worst_of_kinds(rules: pd.DataFrame, lane: str) -> pd.DataFrame:
    """The worst operator of each kind by rule: the likeliest false slash, and the smallest change that is caught in
    every trial; records of kind, rule, false_slash, element_every."""
    kinds = {operator.name: operator.kind for operator in LAYER_OPERATORS}
    own = rules[rules.lane == lane]
    own = own.assign(kind=own.operator.map(kinds))
    return own.groupby(["kind", "rule"])[["false_slash", "element_every"]].max().reset_index()


def least_caught(rules: pd.DataFrame, lane: str) -> float:
    """The smallest change of one element, over its output's root mean square, that calibrated bounds catch in every
    trial whatever the operator."""
    worst = worst_of_kinds(rules, lane)
    return float(worst[worst.rule == "calibrated"].element_every.max())


def draw_tolerance(rules: pd.DataFrame, pushes: pd.DataFrame, lanes: Mapping[str, str]) -> Figure:
    """What tolerance rules risk and what they catch, by lane and kind of operator; and how far a cheat inside every
    bound moves the logits.

    Args:
        rules, pushes: records of ``series.tolerance``. lanes: lane -> its short name.
    """
    fig, (*axes, last) = figures.subplots(figures.PAGE_IN, 3.6, ncols=3, width_ratios=(1, 1, 0.8))
    for ax, (lane, short) in zip(axes, lanes.items(), strict=True):
        worst = worst_of_kinds(rules, lane)
        for (kind, name), colour, marker in zip(KINDS.items(), figures.SEQUENCE, "oD^svP", strict=False):
            part = worst[worst.kind == kind].sort_values(["false_slash", "element_every"], ascending=[True, False])
            look = {"marker": marker, "markersize": 3.5, "color": colour, "linewidth": 0.9}
            ax.plot(part.false_slash.replace(0, _PROOF), part.element_every, label=name, **look)
        ax.set(xscale="log", yscale="log", ylim=(1e-6, 5), xlim=(1.5e-6, 0.3), title=short)
        ax.set_xlabel("false slash of one check, at most\n(probability)")
        ax.set_xticks([_PROOF, 1e-4, 1e-2], ["0\n(proof)", "1e-4", "1e-2"])
        ax.minorticks_off()
    axes[0].set_ylabel("smallest change of one element caught\nin every trial, over the output's RMS")
    places = list(product(lanes, ("IEEE", "calibrated")))
    for x, (lane, rule) in enumerate(places):
        found = pushes[(pushes.lane == lane) & (pushes.rule == rule)]
        faces = np.where(found.flipped, "#D55E00", "white")
        shown = {"facecolors": faces, "edgecolors": "#D55E00", "linewidths": 0.7}
        last.scatter(x + np.linspace(-0.3, 0.3, len(found)), found.drift, s=9, **shown)
    last.set_xticks(range(len(places)), [f"{lanes[lane]} {rule}" for lane, rule in places], rotation=40, ha="right")
    last.set(yscale="log", title="bound-aware cheat", ylabel="logit gap closed (filled: token flipped)")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(KINDS))
    return fig


def draw_crowds(found: pd.DataFrame, *, bound_s: float, clock_s: float) -> Figure:
    """How a crowd of challengers delays a verdict, and how much of the operator's clock it takes.

    Args:
        found: one row a crowd: games, stall, last_verdict_s, least_clock_s.
        bound_s: longest game. clock_s: a player's clock.
    """
    fig, (left, right) = figures.subplots(figures.PAGE_IN, 2.6, ncols=2)
    late = found[found.stall]
    counts, single = late.games.to_numpy(), late.last_verdict_s.iloc[0]
    left.plot(counts, counts * single / 3600, "s--", color="#D55E00", label="one after another (recomputed)")
    left.plot(counts, late.last_verdict_s / 3600, "o-", color="#0072B2", label="all at once (simulated)")
    left.axhline(bound_s / 3600, color="#555555", linewidth=0.9, linestyle=":", label=f"bound: {bound_s / 3600:.1f} h")
    left.set(xscale="log", yscale="log", ylabel="last verdict after opening (h)")
    left.legend()
    for stall, colour, style in ((True, "#0072B2", "o-"), (False, "#D55E00", "^--")):
        part = found[found.stall == stall]
        used = 100 * (1 - part.least_clock_s / clock_s)
        right.plot(part.games, used, style, color=colour, label="stalling" if stall else "in a rush")
    right.set(xscale="log", ylabel="operator's clock used, at most (%)", ylim=(0, 100))
    right.legend()
    for ax in (left, right):
        _counted(ax, counts)
    return fig


def _counted(ax: Axes, counts: np.ndarray) -> None:
    ax.set_xlabel("Sybil challengers (count)")
    ax.set_xticks(counts, counts)
    ax.minorticks_off()
