"""The figures of notebook 01: what an appraisal costs and what becomes of attacks, from stored rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from otr_paper.press import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKS: Mapping[str, tuple[str, str]] = {
    "asserted": ("#009E73", "✓"),
    "refuted": ("#D55E00", "✗"),
    "unknown": ("#BF8100", "?"),
    "not made": ("#F2F2F2", ""),
    "": ("#F2F2F2", ""),
}
"""Colour and sign of a check's end."""
OUTCOMES: Mapping[str, tuple[str, str]] = {
    "refuted": ("#009E73", ""),
    "unknown": ("#BF8100", "//"),
    "unreadable": ("#3391CC", ".."),
    "no effect": ("#8A8A8A", "xx"),
    "accepted": ("#D55E00", "\\\\"),
}
"""Colour and hatch of what became of an attack; the first three refuse it."""
REFUSED = ("refuted", "unknown", "unreadable")
TARGETS: Mapping[str, str] = {
    "gpu": "GPU report, chain, nonce",
    "rim": "reference manifests",
    "ocsp": "revocation",
    "cpu": "CPU quote",
    "log": "event log",
    "binding": "CPU–GPU binding",
    "limit": "limits of attestation",
}
"""What is attacked, and what an axis calls it."""
_GOLDEN = ("gpu.measurements.driver", "gpu.measurements.vbios")
ACCEPTED, REJECTED = "#009E73", "#E8B9A0"


def attack_counts(attacks: pd.DataFrame) -> pd.DataFrame:
    """How many attacks on each target ended how; index target, one column an outcome.

    Args:
        attacks: stored rows with target and happened.
    """
    ended = attacks.happened.str.split().str[0].replace({"no": "no effect"})
    named = attacks.assign(outcome=ended, target=attacks.target.replace(dict(TARGETS)))
    return named.groupby(["target", "outcome"], sort=False).size().unstack(fill_value=0)


def draw_attack_counts(grouped: pd.DataFrame) -> Figure:
    """``attack_counts`` as bars."""
    fig, ax = figures.subplots(figures.PAGE_IN, 2.2)
    left = pd.Series(0, index=grouped.index)
    for outcome, (tone, hatch) in OUTCOMES.items():
        if outcome in grouped:
            look = {"color": tone, "hatch": hatch, "edgecolor": figures.ink_on(tone), "linewidth": 0.5}
            ax.barh(grouped.index, grouped[outcome], left=left, label=outcome, **look)
            left = left + grouped[outcome]
    ax.invert_yaxis()
    ax.set(xlabel="attacks (count)", xlim=(0, 1.02 * left.max()))
    ax.grid(axis="y", visible=False)
    ax.legend(loc="lower right")
    return fig


def draw_verdicts_over_time(calendar: pd.DataFrame, windows: pd.DataFrame, cases: list[str]) -> Figure:
    """The verdict on each case month by month, and the window in which all dated parts hold.

    Args:
        calendar: case, from, verdict: one row where the verdict begins. windows: case, from, to.
    """
    fig, ax = figures.subplots(figures.PAGE_IN, 2.9)
    first, last = pd.Timestamp("2024-01-01", tz="UTC"), pd.Timestamp("2027-12-01", tz="UTC")
    for y, case in enumerate(cases):
        spans = calendar[calendar.case == case].sort_values("from").to_dict("records")
        for row, following in zip(spans, [*spans[1:], {"from": str(last)}], strict=True):
            begin, end = pd.Timestamp(row["from"]), pd.Timestamp(following["from"])
            good = row["verdict"] == "accepted"
            tone = ACCEPTED if good else REJECTED
            look: dict[str, Any] = {"color": tone, "hatch": "" if good else "///"}
            ax.barh(y, end - begin, left=begin, height=0.62, edgecolor=figures.ink_on(tone), linewidth=0.4, **look)
        window = windows[windows.case == case].iloc[0]
        dated = [pd.Timestamp(window[key][:10], tz="UTC") if window[key] < "2200" else last for key in ("from", "to")]
        ax.plot([min(max(day, first), last) for day in dated], [y + 0.42] * 2, color="black", linewidth=1.2)
    ax.set_yticks(range(len(cases)), cases)
    ax.invert_yaxis()
    ax.set(xlabel="date of the appraisal", xlim=(first, last))
    looks = {"accepted": (ACCEPTED, ""), "rejected": (REJECTED, "///")}
    figures.key(fig, looks | {"all dated parts hold at once": (figures.PAPER_COLOUR, "")})
    ax.grid(axis="y", visible=False)
    return fig


def draw_appraisal_cost(cost: pd.DataFrame, stated_s: float) -> Figure:
    """CPU time of an appraisal by kind of evidence: a dot on a logarithmic axis, its value at the right.

    Args:
        cost: what, ours, cpu_ms. stated_s: the paper's time of an answer.
    """
    fig, ax = figures.subplots(figures.PAGE_IN, 2.1)
    for y, row in enumerate(cost.itertuples()):
        colour, marker = (figures.SCHEME_COLOURS["OTR"], "o") if row.ours else ("#555555", "s")
        ax.plot(row.cpu_ms, y, marker, color=colour, markersize=6)
        place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        ax.annotate(f"{row.cpu_ms:.3g} ms", (1, y), xytext=(6, 0), va="center", **place)
    figures.paper_line(ax, stated_s * 1e3, f"paper: {stated_s * 1e3:g} ms", vertical=True)
    ax.set_yticks(range(len(cost)), cost.what)
    ax.set(xscale="log", xlabel="CPU time (ms)", xlim=(0.3, 6000), ylim=(len(cost) - 0.5, -0.8))
    handles = [
        ax.plot([], [], marker, color=colour, linestyle="", label=name)[0]
        for name, marker, colour in (("this project", "o", figures.SCHEME_COLOURS["OTR"]), ("others", "s", "#555555"))
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return fig


def golden_values(matrix: Iterable[Mapping[str, str]], case: str) -> str:
    """How many golden values of a case's manifests match, "n of m", from the reasons of its checks."""
    told = [row["reason"].split() for row in matrix if row["case"] == case and row["check"] in _GOLDEN]
    return f"{sum(int(words[0]) for words in told)} of {sum(int(words[2]) for words in told)}"


SAME_QUOTE = ("TDX v4, 2025", "the same, 2026")
"""The cases that appraise the same quote at two dates."""


def quote_by_year(rows: Mapping[str, Sequence[Mapping[str, str]]], cases: Sequence[str] = SAME_QUOTE) -> str:
    """What the platform's TCB status is in the year that each case is appraised in, as words.

    Args:
        rows: the stored verdicts and matrix.
    """
    year = {row["case"]: row["as_of"][:4] for row in rows["verdicts"]}
    status = {row["case"]: row["reason"].split()[3] for row in rows["matrix"] if row["check"] == "cpu.tcb"
              and row["case"] in cases}  # fmt: skip
    return ", ".join(f"{status[case]} in {year[case]}" for case in cases)
