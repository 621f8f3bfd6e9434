"""Drawings of a network under attack: answers through its processes, tiers in time, runs under chaos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from otr_paper.press.figures import READABLE_PT, SEQUENCE, key
from otr_paper.press.overlaps import place_notes
from otr_paper.series.network import ATTACK_WORDS
from otr_paper.series.trilemma import duration

if TYPE_CHECKING:
    import pandas as pd

KIND_LOOKS: Mapping[str, tuple[str, str]] = {
    "message": ("#555555", "o"),
    "own work": ("#BF8100", "D"),
    "transaction": ("#0072B2", "s"),
    "verdict": ("#D55E00", "*"),
}
"""Kind of an event -> colour and sign."""
TIER_COLOURS = {"1 receipt": "#0072B2", "chain": "#555555", "3 spot check": "#BF8100", "2 dispute": "#009E73"}
ATTACK_LOOKS = dict(
    zip(ATTACK_WORDS, zip(("#555555", *SEQUENCE[3:1:-1], SEQUENCE[0]), "oDs^", strict=True), strict=True)
)
GAME_COLOURS = (SEQUENCE[4], SEQUENCE[5])
_SHOWN = {
    "ordered": "\N{LEFTWARDS ARROW} ordered",
    "staked": "staked",
    "answered": "answered",
    "registers a key": "key appraised",
    "committed": "committed",
    "paid": "paid",
    "judged": "run again",
    "challenge": "challenged",
    "open": "opened",
    "demand": "demanded",
    "slashed": "convicted",
    "timeout": "clock ran out",
    "lapse": "not shown",
    "reward": "reward",
    "withdraw": "withdrawn",
    "finalise": "final",
}
"""Events with a word beside them; the others have a sign alone."""
_NEAR_IN, _LANES = 0.2, ("client", "server", "operator", "court", "fisherman")
"""How near two signs share their words; lanes from top to bottom."""


def draw_answers(axes: Any, events: pd.DataFrame) -> None:
    """Two rows of axes, the honest answer above, the other below: on the left what happened before time was
    moved first, on the right what came after.

    Args:
        axes: 2 x 2, each column sharing its x. events: of ``series.network.answer_events``.
    """
    rows = events.assign(process=events.process.replace("conductor", "court"))
    early = rows[(rows.moved == 0) & (rows.event != "ordered")].since_s
    late = rows[rows.moved > 0].chain_s / 60
    axes[0][0].set_xlim(early.min() - 0.06 * np.ptp(early), early.max() + 0.12 * np.ptp(early))
    axes[0][1].set_xlim(0, late.max() * 1.3 if len(late) else 1)
    parts = []
    for pair, (answer, own) in zip(axes, sorted(rows.groupby("answer"), key=_cheated), strict=True):
        lanes = sorted(set(own.process), key=lambda name: (_LANES.index(name.partition("-")[0]), name))
        for ax, part, x in (
            (pair[0], own[own.moved == 0], own.since_s),
            (pair[1], own[own.moved > 0], own.chain_s / 60),
        ):
            shown = x[part.index].clip(lower=ax.get_xlim()[0])
            _signs(ax, part, shown, lanes)
            parts.append((ax, part, shown, lanes))
        pair[0].set_yticks(range(len(lanes)), lanes, fontsize=READABLE_PT)
        pair[1].set_yticks([])
        word = "cheated" if own.cheated.any() else "honest"
        pair[0].set_title(f"The {word} answer, of {answer}", fontsize=READABLE_PT)
    axes[1][0].set_xlabel("since the order (s, machine's clock)")
    axes[1][1].set_xlabel("(min, chain's clock)")
    signs = [axes[0][0].plot([], [], sign, color=colour)[0] for colour, sign in KIND_LOOKS.values()]
    lines = [axes[0][0].plot([], [], color=colour, linewidth=1.2)[0] for colour in GAME_COLOURS]
    named = [*KIND_LOOKS, "a game", "another game"]
    axes[0][0].figure.legend([*signs, *lines], named, loc="outside lower center", ncols=6, fontsize=READABLE_PT)
    axes[0][0].figure.draw_without_rendering()  # words are grouped by how wide the axes have become
    for ax, own, x, lanes in parts:
        for y, name in enumerate(lanes):
            _words(ax, own[own.process == name], x, y)
        place_notes(ax, ax.texts)


def _cheated(group: tuple[str, pd.DataFrame]) -> bool:
    return bool(group[1].cheated.any())


def _signs(ax: Any, rows: pd.DataFrame, x: pd.Series, lanes: list[str]) -> None:
    """Signs of the events on their lanes, and lines between a game's moves."""
    for game, part in rows[rows.game > 0].groupby("game"):
        heights = [lanes.index(name) for name in part.process]
        ax.plot(x[part.index], heights, color=GAME_COLOURS[int(game) % 2], linewidth=1.2, zorder=1)
    for kind, (colour, sign) in KIND_LOOKS.items():
        part = rows[rows.kind == kind]
        heights = [lanes.index(name) for name in part.process]
        ax.plot(x[part.index], heights, sign, color=colour, markersize=11 if sign == "*" else 4.5, zorder=3)
    ax.set_ylim(len(lanes) - 0.25, -0.8)
    ax.grid(axis="y", visible=False)
    for y in range(len(lanes)):
        ax.axhline(y, color="#E5E5E5", linewidth=0.8, zorder=0)


def _words(ax: Any, rows: pd.DataFrame, x: pd.Series, y: int) -> None:
    """Words of one lane above it: signs close together share a line of them."""
    low, high = ax.get_xlim()
    near = _NEAR_IN * (high - low) * ax.figure.dpi / ax.get_window_extent().width
    groups = list[tuple[float, list[str]]]()
    for index, row in rows.iterrows():
        word = row.about if row.event == "received" else _SHOWN.get(row.event, "")
        if not word:
            continue
        if not groups or x[index] - groups[-1][0] > near:
            groups.append((float(x[index]), []))
        if word not in groups[-1][1]:
            groups[-1][1].append(word)
    for spot, words in groups:
        ax.annotate(", ".join(words), (spot, y), xytext=(-2, 5), textcoords="offset points")


def draw_tiers(ax: Any, rows: pd.DataFrame, first_s: float = 0.1) -> None:
    """Bars of the records of ``series.trilemma.timeline`` on a logarithmic axis that begins at ``first_s``."""
    for y, row in enumerate(rows.itertuples()):
        begin, colour, waited = max(row.start_s, first_s), TIER_COLOURS[row.tier], row.kind == "simulated"
        face, hatch = ("white", "////") if waited else (colour, None)
        width = max(row.end_s - begin, begin * 0.02)
        ax.barh(y, width, left=begin, height=0.62, color=face, edgecolor=colour, hatch=hatch, linewidth=0.9)
        text = f"{duration(row.end_s - row.start_s)}"
        ax.annotate(text, (begin + width, y), xytext=(4, 0), textcoords="offset points", va="center")
    changes = rows.answer.ne(rows.answer.shift()).to_numpy().nonzero()[0]
    for y in changes[1:]:
        ax.axhline(y - 0.5, color="#BBBBBB", linewidth=0.7, zorder=0)
    for y in changes:
        ax.annotate(rows.answer.iloc[y], (1, y), xycoords=("axes fraction", "data"), xytext=(-2, 0), ha="right",
                    textcoords="offset points", va="center", fontsize=READABLE_PT, fontweight="bold")  # fmt: skip
    ax.set(
        xscale="log", xlim=(first_s, 4e4), xlabel="since the operator has the order (s)", ylim=(len(rows) - 0.4, -0.6)
    )
    ax.set_yticks(range(len(rows)), [f"{row.event}  [{row.tier}]" for row in rows.itertuples()])
    ax.grid(axis="y", visible=False)
    looks = {"as it went, by the machine's clock": ("#555555", ""), "a wait, by the chain's": ("white", "////")}
    key(ax.figure, looks)


def draw_chaos(axes: Sequence[Any], runs: pd.DataFrame, restart_s: float) -> None:
    """Three axes: how long a conviction took against the bound, what restarts cost a run, how long the slowest
    restart of a run took.

    Args:
        runs: of ``series.network.chaos_runs``. restart_s: that a restart was to take at most.
    """
    bound, cost, restart = axes
    style: dict[str, Any] = {"linestyle": "", "markersize": 4, "alpha": 0.75}
    for word, (colour, sign) in ATTACK_LOOKS.items():
        part = runs[runs.attack == word]
        if word != ATTACK_WORDS[0]:
            bound.plot(part.bound_s / 3600, part.taken_s.clip(lower=1), sign, color=colour, **style)
        label = f"attack: {word} ({len(part)} {'run' if len(part) == 1 else 'runs'})"
        cost.plot(part.restarts, part.seconds, sign, color=colour, label=label, **style)
    ends = np.linspace(runs.bound_s.min() * 0.8, runs.bound_s.max() * 1.1, 50)
    bound.plot(ends / 3600, ends, color="black", linewidth=0.9, linestyle=(0, (4, 2)))
    bound.annotate("the bound", (ends[-1] / 3600, ends[-1]), xytext=(0, 4), textcoords="offset points", ha="right")
    bound.set(
        yscale="log", xlabel="bound by the terms (h, chain's clock)", ylabel="to the conviction (s, chain's clock)"
    )
    bound.set_ylim(0.7, ends[-1] * 3)
    medians = runs.groupby("restarts").seconds.median()
    (line,) = cost.plot(medians.index, medians, color="black", linewidth=1.1, marker="_", markersize=12)
    cost.set(xlabel="restarts in the run (count)", ylabel="length of the run (s, machine's clock)", ylim=(0, None))
    handles, labels = cost.get_legend_handles_labels()
    about: dict[str, Any] = {"loc": "outside lower center", "ncols": 3, "fontsize": READABLE_PT}
    cost.figure.legend([*handles, line], [*labels, "median"], **about)
    times = np.sort(runs[runs.restarts > 0].slowest_restart_s)
    restart.step([0, *times], np.arange(len(times) + 1) / len(times), where="post", color=SEQUENCE[0])
    restart.axvline(restart_s, color="black", linewidth=0.9, linestyle=(0, (4, 2)))
    restart.annotate("aimed for", (restart_s, 0), xytext=(3, 4), textcoords="offset points")
    restart.set(xlabel="slowest restart of a run (s)", ylabel="share of the runs", ylim=(0, 1.02), xlim=(0, None))
