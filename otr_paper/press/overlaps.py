"""Words of a drawn figure that lie on what they must not hide or be hidden by: other words, marks, an axis."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from otr_paper.press.figures import DPI

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation, Text
    from matplotlib.transforms import Bbox

_RIM_PX = 2.5
"""What a word's box holds above and below its letters, and may share with its neighbour."""


def overlaps(figure: Figure) -> list[str]:
    """What a reader cannot tell apart: two words on one place, a word or a legend on a line or a sign, a word across
    the end of its axes.

    Not looked at: areas and bars (a word on one of them is its name), words on a ground of their own, grids and other
    lines below everything (``zorder`` 0), and words that are turned other than by a right angle, whose boxes are
    larger than they are.
    """
    figure.set_dpi(DPI)
    figure.canvas.draw()
    found = []
    placed = [(words, box) for words in _words(figure) if (box := _box(words)) is not None]
    for (one, at), (other, there) in combinations(placed, 2):
        if at.overlaps(there):
            found.append(f"{_named(one)} over {_named(other)}")
    for axes in figure.axes:
        marks = list(_marks(axes))
        inside = [(words, _box(words)) for words in axes.texts if not words.get_bbox_patch()]
        notes: list[tuple[str, Bbox]] = [(_named(words), box) for words, box in inside if box is not None]
        if (legend := axes.get_legend()) is not None:
            notes += [(f"the legend's {_named(words)}", box) for words in legend.get_texts() if (box := _box(words))]
            # A sign of error bars says of itself that it is everywhere.
            signs = (sign.get_window_extent() for sign in legend.legend_handles if sign)
            notes += [("the legend's sign", box) for box in signs if np.isfinite(box.extents).all()]
        for name, box in notes:
            found += [f"{name} on {mark}" for mark, hit in marks if hit(box)]
            found += [f"{name} across the {side} end of its axes" for side in _crossed(axes, box)]
    return found


_TRIED = ((-2, 5, "left"), (2, 5, "right"), (9, -3, "left"), (-9, -3, "right"), (-2, -12, "left"), (2, -12, "right"))
"""Places of a note about its point that are tried in turn: points to the right and upwards, and its side there."""
_NOTHING: list[Any] = []


def place_notes(axes: Axes, notes: Iterable[Annotation]) -> None:
    """Move each note, in turn, to the first place about its point where it lies on nothing.

    A note without such a place takes the first one where it lies on no words and no signs, or on no words, and has a
    white ground of its own.

    Args:
        axes: drawn before, so that its marks have their places. notes: with ``textcoords="offset points"``.
    """
    marks, others = list(_marks(axes)), list[Any]()
    signs = [mark for mark in marks if not mark[0].startswith("line")]
    for words in notes:
        clear = next(
            (free for free in (marks, signs, _NOTHING) if any(_fits(axes, words, to, others, free) for to in _TRIED)),
            None,
        )
        if (box := _box(words)) is not None:
            others.append(box.padded(_RIM_PX * 2, 0))
        if clear is not marks:
            words.set_bbox({"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.9})


def _fits(axes: Axes, words: Annotation, place: tuple[int, int, str], others: list[Bbox], marks: list[Any]) -> bool:
    """Whether a note lies on nothing at a place, which it then has."""
    words.xyann = place[:2]
    words.set(horizontalalignment=place[2])
    canvas: Any = axes.figure.canvas
    words.update_positions(canvas.get_renderer())
    box, frame = _box(words), axes.get_window_extent()
    if box is None or box.x0 < frame.x0 or box.x1 > frame.x1 or any(box.overlaps(other) for other in others):
        return False
    return not any(hit(box.padded(_RIM_PX)) for _, hit in marks)


def _named(words: Text) -> str:
    return repr(" ".join(words.get_text().split()))


def _words(figure: Figure) -> Iterator[Text]:
    """All words that are drawn, marks of axes outside their ranges left out."""
    from matplotlib.text import Text

    hidden = set[int]()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low <= float(tick.get_loc()) <= high or not axis.get_visible() or not axis.axes.axison:
                hidden |= {id(tick.label1), id(tick.label2)}
    yield from (words for words in figure.findobj(Text) if id(words) not in hidden and words.get_visible())


def _box(words: Text) -> Bbox | None:
    """The pixels of the letters; None of words that are none, or are slanted."""
    if not words.get_text().strip() or words.get_rotation() % 90:
        return None
    from matplotlib.text import Text

    box = Text.get_window_extent(words)  # an annotation's own would hold its arrow too
    flat = words.get_rotation() % 180 == 0
    across, along = (0.0, _RIM_PX) if flat else (_RIM_PX, 0.0)
    return box.padded(-min(across, box.width / 3), -min(along, box.height / 3))


def _marks(axes: Axes) -> Iterator[tuple[str, Any]]:
    """Lines and signs of axes, each with a function that says whether it touches a box of pixels."""
    from matplotlib.collections import LineCollection, PathCollection

    for line in axes.lines:
        if line.get_zorder() <= 0 or not line.get_visible() or not np.size(line.get_xdata()):
            continue
        path = line.get_transform().transform_path(line.get_path())
        name = f"line {line.get_label()!r}"
        if line.get_linestyle() not in ("None", "", " "):
            yield name, lambda box, path=path: path.intersects_bbox(box, filled=False)
        if line.get_marker() not in ("None", "", " ", None):
            half = line.get_markersize() * axes.figure.dpi / 72 / 2
            yield f"a sign of {name}", _touches(path.vertices, half)
    for drawn in axes.collections:
        if isinstance(drawn, LineCollection):
            paths = [drawn.get_transform().transform_path(path) for path in drawn.get_paths()]
            yield "lines", lambda box, paths=paths: any(path.intersects_bbox(box, filled=False) for path in paths)
        elif isinstance(drawn, PathCollection):
            yield "points", _touches(drawn.get_offset_transform().transform(drawn.get_offsets()), 0)


def _touches(points: Any, half: float) -> Any:
    def hit(box: Bbox) -> bool:
        grown = box.padded(half * 0.8)  # a sign is round: it fills its square only in part
        return any(grown.contains(x, y) for x, y in np.asarray(points) if np.isfinite(x + y))

    return hit


def _crossed(axes: Axes, box: Bbox) -> Iterator[str]:
    """Ends of the axes, drawn as lines, that a box lies across."""
    frame = axes.get_window_extent()
    if not axes.axison or box.y1 < frame.y0 or box.y0 > frame.y1 or box.x1 < frame.x0 or box.x0 > frame.x1:
        return
    for side, low, high, at in (
        *(("left", box.x0, box.x1, frame.x0), ("right", box.x0, box.x1, frame.x1)),
        *(("lower", box.y0, box.y1, frame.y0), ("upper", box.y0, box.y1, frame.y1)),
    ):
        spine = axes.spines[{"lower": "bottom", "upper": "top"}.get(side, side)]
        if low < at - 1 and high > at + 1 and spine.get_visible():
            yield side
