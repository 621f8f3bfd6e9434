"""Figures: repeatable bytes, the CSV beside them, tables as Markdown."""

import pandas as pd
import pytest

from otr_core.errors import InputError
from otr_paper.press import figures


def draw():
    figures.use_style()
    figure, axes = figures.subplots()
    axes.plot([0, 1, 2], [0, 1, 4], label="a line")
    axes.fill_between([0, 1, 2], [0, 1, 4], alpha=0.2)
    axes.legend()
    figures.paper_line(axes, 2, "stated: 2")
    return figure


DATA = pd.DataFrame({"x": [0, 1], "y": [1 / 3, 2.0]})


def test_the_same_figure_gives_the_same_bytes_in_all_forms(tmp_path):
    for folder in ("one", "two"):
        figures.save_figure(draw(), tmp_path / folder, "F00_test", DATA, note="[simulated] a test")
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["F00_test.csv", "F00_test.pdf", "F00_test.png", "F00_test.svg"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_the_csv_says_what_it_is_and_reads_back(tmp_path):
    figures.save_figure(draw(), tmp_path, "F00_test", DATA, note="[simulated]\na test")
    text = (tmp_path / "F00_test.csv").read_text()
    assert text.splitlines()[0] == "# [simulated] a test"
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "F00_test.csv", comment="#"), DATA, rtol=1e-9)


def test_a_read_only_folder_is_one_clear_error(tmp_path):
    blocked = tmp_path / "figures"
    blocked.write_text("a file where the folder should be")
    with pytest.raises(InputError, match="cannot write here"):
        figures.save_figure(draw(), blocked, "F00_test", DATA, note="x")


def test_tables_escape_what_markdown_would_eat(tmp_path):
    frame = pd.DataFrame({"a|b": ["x|y", "two\nlines"]})
    text = figures.save_table(tmp_path, "T00_test", frame, note="[cited] x")
    assert text == "| a\\|b |\n| --- |\n| x\\|y |\n| two lines |\n"
    assert (tmp_path / "T00_test.md").read_text().endswith("\n[cited] x\n")


def test_schemes_differ_by_more_than_colour():
    assert set(figures.SCHEME_COLOURS) == set(figures.SCHEME_MARKERS)
    assert len(set(figures.SCHEME_COLOURS.values())) == len(set(figures.SCHEME_MARKERS.values())) == 5
