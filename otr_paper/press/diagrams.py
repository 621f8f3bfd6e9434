"""Diagrams drawn from data: what an order and a receipt bind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from otr_paper.press.figures import SEQUENCE
from otr_paper.studies.binding import RUN_AGAIN, Bound

_ROW, _PAD = 1.0, 0.4


def draw_bindings(axes: Any, rows: Sequence[Bound], sources: Mapping[str, str]) -> None:
    """Fields of both documents in the middle, what they bind beside them, and a line to what a
    verifier compares each with; dashed where only running the answer again tells.

    Args:
        sources: key of ``Bound.source`` -> words.
    """
    colours = dict(zip(sources, SEQUENCE, strict=False))
    places: dict[int, float] = {}
    y = 0.0
    for number, row in enumerate(rows):
        if not number or rows[number - 1].document != row.document:
            y -= _ROW * (0.4 if not number else 0.9)
            title = "ORDER, kept by the client" if row.document == "order" else "RECEIPT, signed by the TEE"
            axes.text(0.475, y, title, ha="right", va="center", fontsize=8, fontweight="bold")
            y -= _ROW
        places[number] = y
        y -= _ROW
    top, bottom = 0.0, y
    spots = {name: top + (bottom - top) * (at + 0.9) / (len(sources) + 0.8) for at, name in enumerate(sources)}
    for number, row in enumerate(rows):
        at, colour = places[number], colours[row.source]
        box = {"boxstyle": "round,pad=0.18", "facecolor": "white", "edgecolor": colour, "linewidth": 1.1}
        axes.text(0.465, at, row.field.replace("_", " "), ha="right", va="center", fontsize=8, bbox=box)
        axes.text(0.255, at, row.binds, ha="right", va="center", fontsize=8, color="#333333")
        again = row.check == RUN_AGAIN
        axes.annotate(
            "",
            (0.745, spots[row.source]),
            (0.48, at),
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 1.1, "linestyle": "--" if again else "-"},
        )
    for name, at in spots.items():
        box = {"boxstyle": "round,pad=0.3", "facecolor": colours[name], "edgecolor": "none", "alpha": 0.16}
        axes.text(0.75, at, sources[name], ha="left", va="center", fontsize=8, bbox=box)
    axes.set(xlim=(0, 1.13), ylim=(bottom + _PAD, top + _PAD))
    axes.axis("off")
