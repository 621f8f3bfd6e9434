"""What lies on what in a drawn figure: found where it does, and nowhere else."""

import matplotlib.pyplot as plt
import pytest

from otr_paper.press import figures
from otr_paper.press.overlaps import overlaps, place_notes


@pytest.fixture
def axes():
    figures.use_style()
    fig, ax = figures.subplots()
    ax.set(xlim=(0, 10), ylim=(0, 10), xlabel="time (s)", ylabel="share (%)")
    yield ax
    plt.close(fig)


def found(axes):
    return overlaps(axes.figure)


def test_a_plain_figure_has_nothing_on_anything(axes):
    axes.plot([0, 10], [0, 10], "o-", label="line")
    axes.errorbar([2], [4], xerr=[0.3], fmt="s", label="bars")
    axes.annotate("a note", (1, 8))
    axes.legend(loc="lower right")
    axes.set_title("a finding")
    axes.axvspan(0, 3, color="#EEEEEE")
    axes.barh([8], [4], zorder=-1)
    axes.axhline(8.1, zorder=0)
    assert found(axes) == []


def test_words_on_words(axes):
    axes.annotate("one", (5, 5))
    axes.annotate("other", (5.1, 5.1))
    assert found(axes) == ["'one' over 'other'"]


def test_words_on_a_number_of_an_axis(axes):
    axes.annotate("a note", (-0.4, 3.8), annotation_clip=False)
    assert "'a note' over '4'" in found(axes)


@pytest.mark.parametrize("style", ["-", ":"])
def test_words_on_a_line(axes, style):
    axes.plot([0, 10], [5, 5], style, label="level")
    note = axes.annotate("a note", (4, 4.8))
    assert found(axes) == ["'a note' on line 'level'"]
    note.set_bbox({"facecolor": "white"})
    assert found(axes) == []


def test_words_on_a_sign_of_a_line_and_of_a_cloud(axes):
    axes.plot([5], [5], "o", label="dot")
    axes.annotate("a note", (4.8, 4.9))
    assert found(axes) == ["'a note' on a sign of line 'dot'"]
    axes.scatter([5], [5])
    assert found(axes) == ["'a note' on a sign of line 'dot'", "'a note' on points"]


def test_words_on_segments(axes):
    axes.vlines([5], 0, 10)
    axes.annotate("a note", (4.8, 4.9))
    assert found(axes) == ["'a note' on lines"]


@pytest.mark.parametrize(("at", "side"), [((-0.3, 4.3), "left"), ((5.2, -0.15), "lower")])
def test_words_across_an_end_of_the_axes(axes, at, side):
    axes.annotate("a note", at, annotation_clip=False)
    assert f"'a note' across the {side} end of its axes" in found(axes)


def test_a_legend_on_a_line(axes):
    axes.plot([0, 10], [0, 10], label="up")
    axes.legend(loc="center")
    assert "the legend's 'up' on line 'up'" in found(axes) or "the legend's sign on line 'up'" in found(axes)


def test_slanted_words_are_not_judged_by_their_boxes(axes):
    axes.plot([0, 10], [5, 5])
    axes.annotate("a slanted note", (4, 3), rotation=40)
    assert found(axes) == []


def test_notes_are_settled_where_they_lie_on_nothing(axes):
    axes.plot([2, 2.3, 5], [5, 5, 5], "o")
    axes.plot([2, 5], [5.5, 5.5], "-", label="level")
    near = {"xytext": (-2, 5), "textcoords": "offset points"}
    notes = [axes.annotate(words, (x, 5), **near) for words, x in (("first", 2), ("second", 2.3), ("third", 5))]
    before = found(axes)
    place_notes(axes, notes)
    assert any("over" in each for each in before)
    assert any("level" in each for each in before)
    assert found(axes) == []
    assert not any(note.get_bbox_patch() for note in notes)


def test_a_note_without_a_free_place_gets_a_ground_of_its_own(axes):
    for level in range(20):
        axes.plot([0, 10], [level / 2, level / 2], "-")
    note = axes.annotate("crowded", (5, 5), xytext=(-2, 5), textcoords="offset points")
    found(axes)
    place_notes(axes, [note])
    assert note.get_bbox_patch() is not None
    assert found(axes) == []


def test_a_note_at_the_end_of_its_axes_is_placed_within_them(axes):
    axes.figure.canvas.draw()
    for x in (0.1, 9.9):
        note = axes.annotate("a long enough note", (x, 5), textcoords="offset points", xytext=(0, 0))
        place_notes(axes, [note])
        box, frame = note.get_window_extent(), axes.get_window_extent()
        assert frame.x0 <= box.x0 < box.x1 <= frame.x1, x
        note.remove()
