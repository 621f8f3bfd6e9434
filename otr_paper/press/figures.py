"""One look for all figures, and one function that writes them with repeatable bytes.

A scheme keeps its colour everywhere (Okabe-Ito palette: safe for colour-blind readers), and never carries meaning by
colour alone: markers and line styles differ too.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otr_core.files import whole_file, write_bytes, write_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN_IN = 3.5
"""Width of a single column, inches; a double column is 7.16."""
PAGE_IN = 7.16

SCHEME_COLOURS: Mapping[str, str] = {
    "OTR": "#0072B2",
    "ZKML": "#D55E00",
    "opML": "#009E73",
    "PoQ": "#CC79A7",
    "centralised": "#555555",
}
SCHEME_MARKERS: Mapping[str, str] = {"OTR": "o", "ZKML": "s", "opML": "^", "PoQ": "D", "centralised": "x"}
PAPER_COLOUR = "#000000"
"""Lines and marks that show a number the paper states."""
VERDICT_COLOURS: Mapping[str, str] = {
    "reproduced": "#009E73",
    "conditional": "#E69F00",
    "contradicted": "#D55E00",
    "not testable here": "#999999",
    "not yet evaluated": "#DDDDDD",
}
SEQUENCE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#555555")
LINE_STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))


def use_style() -> None:
    """Set matplotlib's defaults for this process: fonts, sizes, palette, repeatable output."""
    import matplotlib as mpl
    from cycler import cycler

    mpl.rcParams.update(mpl.rcParamsDefault)
    mpl.use("agg")
    mpl.rcParams.update(
        {
            "font.family": "DejaVu Sans", "font.size": 8, "axes.titlesize": 9, "axes.titleweight": "bold",
            "axes.titlelocation": "left", "axes.labelsize": 8, "legend.fontsize": 7, "legend.frameon": False,
            "xtick.labelsize": 7, "ytick.labelsize": 7, "axes.spines.top": False, "axes.spines.right": False,
            "axes.grid": True, "grid.color": "#E5E5E5", "grid.linewidth": 0.6, "axes.axisbelow": True,
            "axes.prop_cycle": cycler(color=SEQUENCE), "lines.linewidth": 1.5, "lines.markersize": 4,
            "figure.dpi": 100, "savefig.dpi": 200, "figure.constrained_layout.use": True,
            "pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "otr", "path.simplify": False,
        }
    )  # fmt: skip


def subplots(width_in: float = PAGE_IN, height_in: float = 2.6, **options: Any) -> tuple[Figure, Any]:
    """``plt.subplots`` at a size that is readable in print at 100 %."""
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width_in, height_in), **options)


def paper_line(axes: Axes, value: float, label: str, *, vertical: bool = False, at_start: bool = False) -> None:
    """Mark a number the paper states: thin black dashes, and a label at the end (or the start) of the line."""
    draw = axes.axvline if vertical else axes.axhline
    draw(value, color=PAPER_COLOUR, linewidth=0.9, linestyle=(0, (4, 2)), zorder=3)
    if vertical:
        axes.annotate(label, (value, 1), xycoords=("data", "axes fraction"), xytext=(3, -2),
                      textcoords="offset points", va="top", fontsize=7)  # fmt: skip
    else:
        axes.annotate(label, (0 if at_start else 1, value), xycoords=("axes fraction", "data"),
                      xytext=(2 if at_start else -2, 2), textcoords="offset points",
                      ha="left" if at_start else "right", fontsize=7)  # fmt: skip


def headline(figure: Figure, finding: str) -> None:
    """The figure's title: states the finding, starts at the left edge of the page, dollar signs are dollars."""
    figure.suptitle(finding, x=0.005, ha="left", fontsize=9, fontweight="bold")


def _make_readable(figure: Figure) -> None:
    """Words are words (``$`` is money, not mathematics), and notes stay readable where they cross a line."""
    from matplotlib.patheffects import withStroke

    words = [figure.get_suptitle() and figure._suptitle]  # type: ignore[attr-defined]
    for axes in figure.axes:
        legend = axes.get_legend()
        words += [*axes.texts, axes.xaxis.label, axes.yaxis.label, *(legend.get_texts() if legend else [])]
        for note in axes.texts:
            if not note.get_bbox_patch() and note.get_color() != "white":
                note.set_path_effects([withStroke(linewidth=2, foreground="white")])
    for text in words:
        if text:
            text.set_parse_math(False)


def cell(x: float, y: float, colour: str) -> Any:
    """One square of a matrix drawn by hand, its upper left corner at (x, y), with a thin white frame."""
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="white", linewidth=1)


def png_bytes(figure: Figure) -> bytes:
    """The figure as PNG, the same bytes for the same figure."""
    _make_readable(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def save_figure(figure: Figure, folder: Path, name: str, data: pd.DataFrame, *, note: str) -> bytes:
    """Write ``name``.png, .svg, .pdf and the .csv behind the figure; returns the PNG's bytes.

    Args:
        note: what kind of numbers these are and where they come from; first line of the CSV, as a comment.

    Raises:
        InputError: the folder cannot be written.
    """
    png = png_bytes(figure)
    write_bytes(folder / f"{name}.png", png)
    for suffix in ("svg", "pdf"):
        with whole_file(folder / f"{name}.{suffix}") as part:
            dated = {"Date": None} if suffix == "svg" else {"CreationDate": None, "Producer": None, "Creator": None}
            figure.savefig(part, format=suffix, metadata=dated)
    write_text(folder / f"{name}.csv", csv_text(data, note))
    return png


def csv_text(data: pd.DataFrame, note: str) -> str:
    """CSV with a comment line above the header and numbers to 10 significant digits (the same on every machine)."""
    body = data.to_csv(index=False, float_format="%.10g", lineterminator="\n")
    return f"# {' '.join(note.split())}\n{body}"


def markdown_table(data: pd.DataFrame) -> str:
    """The frame as a Markdown table; cells are printed as they are, so format numbers before."""

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    rows = [line([str(cell) for cell in row]) for row in data.itertuples(index=False)]
    return "\n".join([line([str(c) for c in data.columns]), line(["---"] * len(data.columns)), *rows]) + "\n"


def save_table(folder: Path, name: str, data: pd.DataFrame, *, note: str) -> str:
    """Write ``name``.csv and ``name``.md; returns the Markdown."""
    text = markdown_table(data)
    write_text(folder / f"{name}.csv", csv_text(data, note))
    write_text(folder / f"{name}.md", f"{text}\n{note}\n")
    return text
