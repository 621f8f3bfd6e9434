"""The figure of what a token costs in the portable lane: by batch, context, width and processor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otr_paper.press import figures
from otr_paper.store.records import Records, records

_SHORT = {"as it is": "all", "AVX-512 without VNNI": "no\nVNNI", "AVX2": "AVX2", "SSE4.1": "SSE\n4.1"}


def lane_costs(bench: Mapping[str, Any]) -> Records:
    """Each measured cost of ``lane_bench`` as {panel, at, series, value, least, most}; ``value`` is CPU ms a token in
    the panels batch and context, and a multiple of fp32 in the panels width and processor. ``least`` and ``most``
    are of its runs; what was run once has itself there."""
    ends = [_costs(bench.get(end, bench)) for end in ("least", "most")]
    rows = [(*key, value, *(end[key] for end in ends)) for key, value in _costs(bench).items()]
    return records("panel, at, series, value, least, most", rows)


def _costs(bench: Mapping[str, Any]) -> dict[tuple[str, str, str], float]:
    """(panel, at, series) -> value."""
    rows = [
        ("batch", size, "portable", value)
        for size, value in sorted(bench["cpu_ms"]["token_by_batch"].items(), key=_size)
    ]
    for row in bench["growth"]["context"]:
        rows += [("context", str(row["context"]), name, row[name]) for name in ("portable", "fp32")]
    for layer in [*bench["growth"]["width"], bench["wide"]]:
        rows += [("width", str(layer["hidden"]), part, layer[f"{part}_over_fp32"]) for part in ("decode", "prefill")]
    here = {"machine": "as it is", **{name: bench[name] for name in ("decode_over_fp32", "prefill_over_fp32")}}
    for machine in [here, *bench["capped"]]:
        rows += [
            ("processor", machine["machine"], part, machine[f"{part}_over_fp32"]) for part in ("decode", "prefill")
        ]
    return {(panel, at, series): value for panel, at, series, value in rows}


def draw_lane_costs(axes: Any, costs: Records) -> None:
    """Four panels, left to right: batch, context, width, processor. Medians; a bar from least to most of the runs."""
    looks = {"portable": "o-", "fp32": "s--", "decode": "o-", "prefill": "^--"}
    colours = {
        "portable": figures.SEQUENCE[0],
        "fp32": "#555555",
        "decode": figures.SEQUENCE[0],
        "prefill": figures.SEQUENCE[1],
    }
    words = {
        "batch": ("sequences together", "CPU ms a token"),
        "context": ("tokens before", "CPU ms a token"),
        "width": ("width of a layer", "multiples of fp32"),
        "processor": ("compiled for", "multiples of fp32"),
    }
    for ax, (panel, (x, y)) in zip(axes, words.items(), strict=True):
        own = [row for row in costs if row["panel"] == panel]
        ticks = list(dict.fromkeys(row["at"] for row in own))
        for series in dict.fromkeys(row["series"] for row in own):
            line = [row for row in own if row["series"] == series]
            places, look = [ticks.index(row["at"]) for row in line], {"color": colours[series]}
            ax.plot(places, [row["value"] for row in line], looks[series], label=series, markersize=4, **look)
            ax.vlines(places, [row["least"] for row in line], [row["most"] for row in line], **look)
        ax.set_xticks(range(len(ticks)), [_SHORT.get(tick, tick) for tick in ticks])
        ax.set(xlabel=x, ylabel=y, ylim=(0, None), xlim=(-0.4, len(ticks) - 0.6))
        if y.startswith("multiples"):
            ax.axhline(1.0, color=figures.PAPER_COLOUR, linewidth=0.9, linestyle=(0, (4, 2)))
        if panel != "batch":
            ax.legend(loc="best")


def _size(pair: tuple[str, float]) -> int:
    return int(pair[0])
