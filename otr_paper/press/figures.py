"""One look for all figures, helpers for the kinds of plot that recur, and the one writer of files.

A scheme keeps its colour everywhere (after Okabe and Ito: safe for colour-blind readers). Colour
never carries meaning alone: markers and line styles differ too. The same figure is always the same
bytes.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Mapping
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from cycler import cycler
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from otr_core.files import whole_file, write_bytes, write_text
from otr_paper.store.records import spelled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Looks = Mapping[Any, tuple[str, Any]]
"""Colour, and dashes or sign, of each value that a plot tells apart."""

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
    "conditional": "#BF8100",
    "contradicted": "#D55E00",
    "undefined": "#CC79A7",
    "not testable here": "#767676",
    "definition": "#3391CC",
    "arithmetic": "#949494",
    "cited": "#8A8A8A",
}
SEQUENCE = ("#0072B2", "#BF8100", "#009E73", "#D55E00", "#CC79A7", "#3391CC", "#555555")
"""Okabe and Ito's palette, its orange and its sky blue darkened until they stand out from white by 3 to 1."""
DASHES: tuple[Any, ...] = ("", (3.7, 1.6), (6.4, 1.6, 1, 1.6), (1, 1.65), (5, 1, 1, 1, 1, 1))
"""Lengths of ink and gap in line widths, as seaborn takes them; the empty one is a solid line."""
LINE_STYLES: tuple[Any, ...] = tuple((0, pattern) if pattern else "-" for pattern in DASHES)
"""The same patterns as matplotlib takes them."""
RATE_LOOKS: Looks = {
    rate: (SEQUENCE[number], DASHES[number]) for number, rate in enumerate((0.0001, 0.001, 0.01, 0.05))
}
"""Colour and dashes of a spot-check rate ρ, the same in every figure that compares rates."""
READABLE_PT = 8
"""Least size of text in a figure that one of the helpers below draws."""
DPI = 200
"""Of the PNGs: 1432 pixels for a double column, enough for print and for a wide screen."""


def percent(share: float) -> str:
    """A share as the figures and texts write it: ``0.01`` is ``1 %``."""
    return f"{share * 100:.3g} %"


def rate_looks(rates: Iterable[float]) -> Looks:
    """Colour and dashes of each rate: its own of ``RATE_LOOKS``, and of the rest what is left of the palette."""
    values = sorted(set(rates))
    spare = zip(SEQUENCE[4:], cycle(DASHES[::-1]), strict=False)
    return {rate: RATE_LOOKS[rate] if rate in RATE_LOOKS else next(spare) for rate in values}


def use_style() -> None:
    """Set matplotlib's defaults for this process: fonts, sizes, palette, repeatable output."""
    import matplotlib as mpl

    mpl.rcParams.update(mpl.rcParamsDefault)
    mpl.use("agg")
    mpl.rc("font", family="DejaVu Sans", size=READABLE_PT)
    mpl.rc(
        "axes", titlesize=9, titleweight="bold", titlelocation="left", labelsize=READABLE_PT, axisbelow=True, grid=True
    )
    mpl.rc("axes", prop_cycle=cycler(color=SEQUENCE))
    mpl.rc("axes.spines", top=False, right=False)
    mpl.rc("grid", color="#E5E5E5", linewidth=0.6)
    mpl.rc("legend", fontsize=READABLE_PT, frameon=False)
    mpl.rc("xtick", labelsize=READABLE_PT)
    mpl.rc("ytick", labelsize=READABLE_PT)
    mpl.rc("lines", linewidth=1.5, markersize=4)
    mpl.rc("path", simplify=False)
    mpl.rc("figure", dpi=100)
    mpl.rc("figure.constrained_layout", use=True)
    mpl.rc("savefig", dpi=DPI)
    mpl.rc("pdf", fonttype=42)
    mpl.rc("svg", fonttype="path", hashsalt="otr")


def subplots(width_in: float = PAGE_IN, height_in: float = 2.6, **options: Any) -> tuple[Figure, Any]:
    """``plt.subplots`` at a size that is readable in print at 100 %."""
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width_in, height_in), **options)


def paper_line(
    axes: Axes, value: float, label: str, *, vertical: bool = False, at_start: bool = False, along: float = 0.0
) -> None:
    """Mark a number the paper states: thin black dashes, with a label at the end of the line.

    ``at_start`` puts the label of a horizontal line at its left end, ``along`` at that share of its length.
    """
    draw = axes.axvline if vertical else axes.axhline
    draw(value, color=PAPER_COLOUR, linewidth=0.9, linestyle=(0, (4, 2)), zorder=3)
    place: dict[str, Any]
    if vertical:
        place = {"xy": (value, 1), "xycoords": ("data", "axes fraction"), "xytext": (3, -2), "va": "top"}
    elif at_start or along:
        place = {"xy": (along, value), "xycoords": ("axes fraction", "data"), "xytext": (2, 2), "ha": "left"}
    else:
        place = {"xy": (1, value), "xycoords": ("axes fraction", "data"), "xytext": (-2, 2), "ha": "right"}
    axes.annotate(label, textcoords="offset points", **place)


def curves(
    axes: Axes,
    data: pd.DataFrame,
    x: str,
    y: str,
    by: str,
    *,
    looks: Looks | None = None,
    name: Callable[[Any], str] = str,
    legend: Any = None,
    spread: bool = False,
) -> None:
    """A family of curves, one for each value of ``by``, told apart by colour and dashes.

    Args:
        data: long form, one row a point.
        looks: colour and dashes of each value, such as ``RATE_LOOKS``; default: the palette, in
            order of appearance.
        name: what a value is called in the legend.
        legend: where in the axes it stands (matplotlib's ``loc``); default: nowhere.
        spread: several rows share one ``x``: draw their mean, and a band from least to greatest.
    """
    import seaborn as sns

    values = list(dict.fromkeys(data[by]))
    looks = looks or dict(zip(values, zip(SEQUENCE, cycle(DASHES), strict=False), strict=False))
    told_apart = {
        "hue": by,
        "hue_order": values,
        "palette": {value: looks[value][0] for value in values},
        "style": by,
        "style_order": values,
        "dashes": {value: looks[value][1] for value in values},
    }
    whole_range = {"estimator": "mean", "errorbar": ("pi", 100), "err_kws": {"alpha": 0.2, "linewidth": 0}}
    several = whole_range if spread else {"estimator": None}
    sns.lineplot(data, x=x, y=y, ax=axes, **told_apart, **several)
    for handle, value in zip(axes.get_legend_handles_labels()[0], values, strict=True):
        handle.set_label(name(value))
    shown = axes.legend(loc=legend or "upper left", fontsize=READABLE_PT)
    if legend is None:
        shown.remove()
    axes.tick_params(labelsize=READABLE_PT)


def key(figure: Any, looks: Looks) -> None:
    """Below the figure: what each colour and hatch means. ``looks``: meaning -> colour, hatch."""
    from matplotlib.patches import Patch

    swatches = [
        Patch(facecolor=colour, hatch=hatch, edgecolor=ink_on(colour), linewidth=0, label=meaning)
        for meaning, (colour, hatch) in looks.items()
    ]
    figure.legend(handles=swatches, loc="outside lower center", ncols=len(swatches), fontsize=READABLE_PT)


def luminance(colour: Any) -> float:
    """Relative luminance of a colour, 0 to 1 (WCAG 2.2)."""
    from matplotlib.colors import to_rgb

    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def contrast(one: Any, other: Any) -> float:
    """How far two colours stand out from each other, 1 to 21 (WCAG 2.2)."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def ink_on(colour: str) -> str:
    """Black or white, whichever stands out more against ``colour``."""
    return "black" if contrast(colour, "black") > contrast(colour, "white") else "white"


MARKS_CONTRAST, TEXT_CONTRAST = 3.0, 4.5
"""By how much marks and text have to stand out from what is behind them (WCAG 2.2, 1.4.11 and 1.4.3)."""


def text_tone(colour: Any) -> tuple[float, float, float]:
    """``colour``, darkened until text in it stands out from white by ``TEXT_CONTRAST``."""
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(colour)
    while contrast((red, green, blue), "white") < TEXT_CONTRAST:
        red, green, blue = (part * 0.97 for part in (red, green, blue))
    return red, green, blue


def faint_marks(figure: Figure) -> list[str]:
    """Lines, markers, hatches and words of a figure that do not stand out enough from what is behind them.

    Not looked at: grids and ticks, areas (``axvspan``, ``fill_between``: what they mean is written beside them), and
    lines with some transparency, which accompany a mark.
    """
    found = []
    for axes in figure.axes:
        for line in axes.lines:
            inked = line.get_linestyle() != "None" or line.get_marker() not in ("None", "", None)
            if inked and np.size(line.get_xdata()) and line.get_alpha() is None and line.get_zorder() > 0:
                tone = line.get_color()
                if contrast(tone, "white") < MARKS_CONTRAST:
                    found.append(f"line {line.get_label()!r} in {tone}")
        for patch in axes.patches:
            if patch.get_hatch() and contrast(patch.get_edgecolor(), patch.get_facecolor()) < MARKS_CONTRAST:
                found.append(f"hatch {patch.get_hatch()!r} on {patch.get_facecolor()}")
        for note in (*axes.texts, axes.title, axes.xaxis.label, axes.yaxis.label):
            tone = note.get_color()
            if note.get_text() and tone != "white" and contrast(tone, "white") < TEXT_CONTRAST:
                found.append(f"text {note.get_text()!r} in {tone}")
    return found


def hard_to_read(figure: Figure) -> list[str]:
    """Words of a figure that are smaller than ``READABLE_PT``, or that its edge cuts off."""
    from matplotlib.text import Text

    figure.set_dpi(DPI)  # letters are fitted to pixels: words are as long as in the file at its own resolution
    figure.canvas.draw()
    page, found, not_drawn = figure.bbox.padded(1), list[str](), set[int]()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        beyond = [tick for tick in axis.get_major_ticks() if not low <= float(tick.get_loc()) <= high]
        not_drawn |= {id(label) for tick in beyond for label in (tick.label1, tick.label2)}
    for words in figure.findobj(Text):
        if not (words.get_text().strip() and words.get_visible()) or id(words) in not_drawn:
            continue
        at = words.get_window_extent()
        if float(words.get_fontsize()) < READABLE_PT:
            found.append(f"{words.get_text()!r} in {words.get_fontsize():g} pt")
        if not (page.contains(at.x0, at.y0) and page.contains(at.x1, at.y1)):
            found.append(f"{words.get_text()!r} beyond the edge")
    return found


def word_map(axes: Axes, words: pd.DataFrame, looks: Looks, blank: str) -> None:
    """A table of words drawn as coloured squares, each with a sign that stands out against its colour; below the
    figure what each means.

    Args:
        words: one word a square; index and columns become the axes' labels.
        looks: colour and sign of each word. blank: what the key calls squares without a sign.
    """
    import seaborn as sns
    from matplotlib.colors import ListedColormap

    codes, signs = words.map(list(looks).index), words.map(lambda word: looks[word][1])
    colours = {"cmap": ListedColormap([colour for colour, _ in looks.values()]), "vmin": 0, "vmax": len(looks)}
    writing = {"annot": signs, "fmt": "", "annot_kws": {"size": READABLE_PT}}
    sns.heatmap(codes, ax=axes, cbar=False, linewidths=1, **colours, **writing)
    for sign, word in zip(axes.texts, words.to_numpy().flat, strict=True):
        sign.set_color(ink_on(looks[word][0]))
    axes.set(xlabel="", ylabel="")
    axes.tick_params(labelsize=READABLE_PT)
    there = {word: look for word, look in looks.items() if (words == word).any(axis=None)}
    key(axes.figure, {f"{sign} {word}" if sign else blank: (colour, "") for word, (colour, sign) in there.items()})


def stretches(cells: pd.DataFrame, along: str, of: str) -> pd.DataFrame:
    """A map's cells as a reader sees them: neighbours with the same value become one stretch.

    Args:
        cells: one row a cell; columns beside ``along`` and ``of`` name the line of cells it is in.
        along: the axis along which cells are neighbours.
        of: the column whose value is compared.

    Returns:
        One row a stretch: its line, ``along`` of its first and of its last cell, and the value.
    """
    others = [name for name in cells.columns if name not in (along, of)]
    ordered = cells.sort_values([*others, along])
    begins = (ordered[[*others, of]] != ordered[[*others, of]].shift()).any(axis=1)
    ends = begins.shift(-1, fill_value=True)
    found = ordered.loc[begins, [*others, along, of]].rename(columns={along: f"{along} from"})
    found.insert(len(others) + 1, f"{along} to", ordered.loc[ends, along].to_numpy())
    return found


def headline(figure: Figure, finding: str) -> None:
    """The figure's title: it states the finding, and starts at the left edge of the page."""
    figure.suptitle(finding, x=0.005, ha="left", fontsize=9, fontweight="bold")


def _make_readable(figure: Figure) -> None:
    """Spell its words, give notes a white rim where they cross lines, and axes that count things no fractions."""
    from matplotlib.patheffects import withStroke
    from matplotlib.text import Text
    from matplotlib.ticker import AutoLocator, MaxNLocator

    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        if "(count)" in axis.get_label_text() and isinstance(axis.get_major_locator(), AutoLocator):
            axis.set_major_locator(MaxNLocator("auto", integer=True))
    for shown in figure.findobj(Text):
        if isinstance(shown, Text) and shown.get_text() != (text := spelled(shown.get_text())):
            shown.set_text(text)
    for note in (text for axes in figure.axes for text in axes.texts):
        if not note.get_bbox_patch() and note.get_color() != "white":
            note.set_path_effects([withStroke(linewidth=2, foreground="white")])


def cell(x: float, y: float, colour: str) -> Any:
    """A square of side 1 from (x, y), with a thin white frame: the swatch of a colour in a
    legend."""
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="white", linewidth=1)


def png_bytes(figure: Figure, **about: str) -> bytes:
    """The figure as PNG; the same figure gives the same bytes. ``about``: see ``encode_png``."""
    _make_readable(figure)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", pil_kwargs={"compress_level": 0})
    return encode_png(Image.open(drawn).convert("RGB"), **about)


_PALETTE, _FREQUENT = 256, 128
"""Colours of a picture that is stored, and how many of them are its most frequent ones."""


def encode_png(picture: Image.Image, **about: str) -> bytes:
    """The picture, mode RGB, as a PNG with a palette: half the bytes of full colour for a plot.

    ``about`` is written into the file as text, keyword by keyword; no pixel changes by it.

    A plot has a few plain colours, and hundreds of shades where edges are smoothed. The palette
    holds its most frequent colours as they are; then, one after another, the colour that is
    farthest from all chosen so far. Pillow brings its own zlib, which the lock pins: the bytes are
    the same on every machine.
    """
    pixels = np.asarray(picture, dtype=np.int64)
    keys, index, counts = np.unique(pixels @ (65536, 256, 1), return_inverse=True, return_counts=True)
    colours = np.stack([keys >> 16, keys >> 8 & 255, keys & 255], axis=1)
    chosen = [int(at) for at in np.argsort(-counts, kind="stable")[:_FREQUENT]]
    distances = np.square(colours[:, None] - colours[chosen]).sum(axis=2)
    nearest, distance = distances.argmin(axis=1), distances.min(axis=1)
    while len(chosen) < _PALETTE and distance.max():
        chosen.append(int(distance.argmax()))
        beside = np.square(colours - colours[chosen[-1]]).sum(axis=1)
        nearest = np.where(beside < distance, len(chosen) - 1, nearest)
        distance = np.minimum(distance, beside)
    stored = Image.frombytes("P", picture.size, nearest.astype(np.uint8)[index.reshape(-1)].tobytes())
    stored.putpalette(colours[chosen].astype(np.uint8).tobytes())
    written, said = io.BytesIO(), PngInfo()
    for keyword, value in about.items():
        said.add_text(keyword, value)
    stored.save(written, format="PNG", optimize=True, dpi=(DPI, DPI), pnginfo=said)
    return written.getvalue()


def save_figure(figure: Figure, folder: Path, name: str, data: pd.DataFrame, *, note: str) -> bytes:
    """Write ``name``.png, .svg, .pdf and the .csv behind the figure; returns the PNG's bytes.

    PNG and CSV are committed; SVG and PDF are for print, and git ignores them. The PNG says its name
    and the SHA-256 of its CSV, so that a picture that was swapped, or whose data have changed since,
    can be told.

    Args:
        data: the columns and rows that the figure draws, and no others.
        note: what kind of numbers these are and where they come from; the first line of the CSV.

    Raises:
        InputError: the folder cannot be written.
    """
    text = csv_text(data, note, digits=6)
    png = png_bytes(figure, name=name, csv=hashlib.sha256(text.encode()).hexdigest())
    write_bytes(folder / f"{name}.png", png)
    for suffix in ("svg", "pdf"):
        with whole_file(folder / f"{name}.{suffix}") as part:
            dated = {"Date": None} if suffix == "svg" else {"CreationDate": None, "Producer": None, "Creator": None}
            figure.savefig(part, format=suffix, metadata=dated)
    write_text(folder / f"{name}.csv", text)
    return png


def title(figure: Figure) -> str:
    """What the figure says it shows: its headline, or the first title of its axes; "" without one."""
    titles = [figure.get_suptitle(), *(axes.get_title(side) for axes in figure.axes for side in ("left", "center"))]
    return " ".join(next(filter(None, titles), "").split())


def csv_text(data: pd.DataFrame, note: str, *, digits: int) -> str:
    """CSV with a comment line above the header; fractions have ``digits`` significant digits."""
    body = data.to_csv(index=False, float_format=f"%.{digits}g", lineterminator="\n")
    return f"# {' '.join(note.split())}\n{body}"


def markdown_table(data: pd.DataFrame) -> str:
    """The frame as a Markdown table; cells are printed as they are, so format numbers before."""

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    rows = [line([str(cell) for cell in row]) for row in data.itertuples(index=False)]
    return "\n".join([line([str(c) for c in data.columns]), line(["---"] * len(data.columns)), *rows]) + "\n"


def save_table(folder: Path, name: str, data: pd.DataFrame, *, note: str) -> str:
    """Write ``name``.csv and ``name``.md; returns the Markdown."""
    text = spelled(markdown_table(data))
    write_text(folder / f"{name}.csv", spelled(csv_text(data, note, digits=10)))
    write_text(folder / f"{name}.md", f"{text}\n{note}\n")
    return text
