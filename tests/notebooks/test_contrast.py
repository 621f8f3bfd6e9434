"""What a reader has to see stands out: marks by 3 to 1 and words by 4.5 to 1, in every figure as it is drawn;
words are of 8 points at least, whole, and on nothing that they would hide."""

import matplotlib.pyplot as plt
import pytest

from otr_node.project import find_project
from otr_paper.pictures import evidence, lanes, quality, stakes, traffic
from otr_paper.press import figures, overlaps
from otr_paper.press.reproduce import notebook_names
from otr_paper.press.runner import read_notebook
from tests.helpers.slices import SlicedNotebook

PROJECT = find_project()
#: Notebooks whose figures are not held to this yet.
NOT_YET = ()

PALETTES = {
    "sequence": figures.SEQUENCE,
    "schemes": figures.SCHEME_COLOURS.values(),
    "verdicts": figures.VERDICT_COLOURS.values(),
    "rates": [colour for colour, _ in figures.RATE_LOOKS.values()],
    "payers": [colour for _, colour in traffic.PAYERS.values()],
    "lanes": [colour for _, colour in lanes.LANES.values()],
    "answers": [colour for _, colour in quality.STAGES.values()],
    "outcomes": [colour for colour, _ in evidence.OUTCOMES.values()],
}


@pytest.mark.parametrize("palette", PALETTES)
def test_each_colour_of_a_mark_stands_out_from_white(palette):
    faint = {colour: figures.contrast(colour, "white") for colour in PALETTES[palette]}
    assert min(faint.values()) >= figures.MARKS_CONTRAST, faint


def test_light_fills_carry_ink_that_stands_out():
    fills = [colour for colour, _ in (*evidence.MARKS.values(), *stakes.REGIMES.values())]
    fills += [evidence.ACCEPTED, evidence.REJECTED]
    assert min(figures.contrast(colour, figures.ink_on(colour)) for colour in fills) >= figures.TEXT_CONTRAST


def test_contrast_is_that_of_the_guideline():
    """Values of the WCAG's own examples and ends: black on white 21, equal colours 1, #777777 just below 4.5."""
    assert figures.contrast("black", "white") == pytest.approx(21)
    assert figures.contrast("#123456", "#123456") == 1
    assert figures.contrast("#777777", "white") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("colour", [*figures.SEQUENCE, "#FFFF00", "black"])
def test_a_tone_for_words_is_the_colour_or_a_darker_one(colour):
    tone = figures.text_tone(colour)
    assert figures.contrast(tone, "white") >= figures.TEXT_CONTRAST
    assert figures.luminance(tone) <= figures.luminance(colour) + 1e-9


def test_the_finder_of_faint_marks_finds():
    figures.use_style()
    fig, ax = figures.subplots()
    ax.plot([0, 1], [0, 1], color="#E69F00", label="orange")
    ax.plot([0, 1], [1, 0], color="#0072B2")
    ax.barh([0], [1], color="#E69F00", hatch="//", edgecolor="white")
    ax.barh([1], [1], color="#E69F00", hatch="//", edgecolor="black")
    ax.annotate("faint", (0, 0), color="#AAAAAA")
    ax.annotate("plain", (0, 0))
    assert [text.split()[0] for text in figures.faint_marks(fig)] == ["line", "hatch", "text"]
    plt.close(fig)


def test_the_finder_of_words_that_are_hard_to_read_finds():
    figures.use_style()
    fig, ax = figures.subplots(figures.COLUMN_IN)
    ax.plot([0, 1], [0, 1], label="line")
    ax.legend()
    figures.headline(fig, "a finding")
    ax.set(xlabel="time (s)", ylabel="share (%)")
    assert figures.hard_to_read(fig) == []
    ax.annotate("small", (0.5, 0.5), fontsize=7)
    ax.annotate("a long remark that does not fit", (0.8, 0.5)).set_in_layout(False)
    assert [text.split("'")[1] for text in figures.hard_to_read(fig)] == ["small", "a long remark that does not fit"]
    plt.close(fig)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in notebook_names(PROJECT) if name not in NOT_YET])
def test_every_figure_stands_out(name):
    sliced = SlicedNotebook(name, read_notebook(PROJECT.notebooks / f"{name}.ipynb"))
    faint, seen = {}, 0
    for figure, drawn in sliced.figures():
        faint[figure] = figures.faint_marks(drawn) + figures.hard_to_read(drawn) + overlaps.overlaps(drawn)
        seen += 1
        plt.close(drawn)
    assert seen == sum(one.name[0] == "F" for one in sliced.outputs) > 0
    assert not any(faint.values()), {name: marks for name, marks in faint.items() if marks}
