"""Figures: repeatable bytes, the CSV beside them, tables as Markdown, and the helpers that draw."""

import hashlib
import io
from itertools import pairwise

import matplotlib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

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
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "F00_test.csv", comment="#"), DATA, rtol=1e-6)
    assert "0,0.333333\n" in text  # six significant digits


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


def test_the_png_holds_the_pixels_that_were_drawn():
    picture = Image.effect_noise((37, 11), 90).convert("RGB")  # noise: every pixel matters; 256 shades
    read = Image.open(io.BytesIO(figures.encode_png(picture)))
    read.verify()  # the check sums of all its parts
    read = Image.open(io.BytesIO(figures.encode_png(picture)))
    assert (read.mode, read.size, round(read.info["dpi"][0])) == ("P", (37, 11), figures.DPI)
    assert read.convert("RGB").tobytes() == picture.tobytes()


def test_a_picture_of_many_colours_keeps_its_frequent_ones_and_the_rest_closely():
    shades = np.stack(np.meshgrid(np.arange(0, 256, 4), np.arange(0, 256, 8), indexing="ij"), axis=-1)  # 2,048
    pixels = np.concatenate([np.full((64, 32, 3), (0, 114, 178)), np.dstack([shades, np.zeros((64, 32))])]).astype("u1")
    read = Image.open(io.BytesIO(figures.encode_png(Image.fromarray(pixels))))
    found = np.asarray(read.convert("RGB")).astype(int)
    assert (found[:64] == pixels[:64]).all()
    assert np.abs(found - pixels).max() <= 24


def family():
    return pd.DataFrame({"x": [1, 2, 1, 2], "y": [3.0, 4.0, 5.0, 6.0], "rate": [0.01, 0.01, 0.05, 0.05]})


def test_curves_keep_the_look_and_the_name_of_their_value():
    figures.use_style()
    _, axes = figures.subplots()
    looks = figures.RATE_LOOKS
    figures.curves(axes, family(), "x", "y", "rate", looks=looks, name="ρ = {:.0%}".format, legend="upper left")
    drawn = [line for line in axes.lines if len(line.get_xdata())]
    assert [line.get_color() for line in drawn] == [looks[rate][0] for rate in (0.01, 0.05)]
    assert [list(line.get_ydata()) for line in drawn] == [[3.0, 4.0], [5.0, 6.0]]
    texts = axes.get_legend().get_texts()
    assert [text.get_text() for text in texts] == ["ρ = 1%", "ρ = 5%"]
    assert all(text.get_fontsize() >= figures.READABLE_PT for text in texts)


def test_curves_without_a_legend_still_name_themselves_for_the_figure_s():
    figures.use_style()
    _, axes = figures.subplots()
    figures.curves(axes, family(), "x", "y", "rate", name={0.01: "low", 0.05: "high"}.get)
    assert axes.get_legend() is None
    assert axes.get_legend_handles_labels()[1] == ["low", "high"]


def test_a_spread_reaches_from_the_least_to_the_greatest():
    figures.use_style()
    _, axes = figures.subplots()
    data = pd.DataFrame({"x": [1, 1, 1, 2, 2, 2], "y": [1.0, 2.0, 9.0, 4.0, 5.0, 9.0], "case": ["a"] * 6})
    figures.curves(axes, data, "x", "y", "case", spread=True)
    assert list(axes.lines[0].get_ydata()) == [4.0, 6.0]
    (band,) = axes.collections
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices}
    assert corners == {(1.0, 1.0), (1.0, 9.0), (2.0, 4.0), (2.0, 9.0)}


def test_a_matrix_shows_each_word_in_its_colour_and_sign():
    figures.use_style()
    _, axes = figures.subplots()
    looks = {"": ("#F2F2F2", ""), "yes": ("#009E73", "✓"), "no": ("#D55E00", "✗")}
    words = pd.DataFrame([["yes", "no"], ["", "yes"]], index=["a", "b"], columns=["c", "d"])
    figures.word_map(axes, words, looks, "not asked")
    axes.figure.canvas.draw()
    assert [text.get_text() for text in axes.texts] == ["✓", "✗", "", "✓"]
    squares = axes.collections[0].get_facecolors()
    assert [matplotlib.colors.to_hex(square).upper() for square in squares] == [
        looks[w][0] for w in words.to_numpy().flat
    ]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    (key,) = axes.figure.legends
    assert [text.get_text() for text in key.get_texts()] == ["not asked", "✓ yes", "✗ no"]


@given(st.lists(st.lists(st.sampled_from("ab"), min_size=5, max_size=5), min_size=1, max_size=4))
def test_stretches_lose_no_cell(lines):
    cells = pd.DataFrame(
        [(line, place, word) for line, words in enumerate(lines) for place, word in enumerate(words)],
        columns=["line", "place", "word"],
    )
    found = figures.stretches(cells.sample(frac=1, random_state=1), along="place", of="word")
    assert list(found.columns) == ["line", "place from", "place to", "word"]
    again = [
        (row.line, place, row.word)
        for row in found.itertuples(index=False, name="Row")
        for place in range(row[1], row[2] + 1)
    ]
    assert again == list(cells.itertuples(index=False, name=None))
    changes = sum(a != b for words in lines for a, b in pairwise(words))
    assert len(found) == len(lines) + changes


def test_stored_csvs_hold_what_a_figure_shows_and_no_grid_behind_it(project):
    """40 kB is more than any of them needs; a grid of points takes megabytes."""
    sizes = {path.name: path.stat().st_size for path in project.figures.glob("*.csv")}
    assert sizes
    assert not {name: size for name, size in sizes.items() if size > 40_000}


def test_the_png_says_its_name_and_the_digest_of_its_data(tmp_path):
    png = figures.save_figure(draw(), tmp_path, "F00_test", DATA, note="[simulated] a test")
    said = Image.open(io.BytesIO(png)).text
    assert said == {"name": "F00_test", "csv": hashlib.sha256((tmp_path / "F00_test.csv").read_bytes()).hexdigest()}
    assert (tmp_path / "F00_test.png").read_bytes() == png


def test_a_title_is_the_headline_or_the_first_of_the_axes():
    figures.use_style()
    figure, (_, right) = figures.subplots(ncols=2)
    assert figures.title(figure) == ""
    right.set_title("of the\nright")
    assert figures.title(figure) == "of the right"
    figures.headline(figure, "a finding")
    assert figures.title(figure) == "a finding"


def test_stored_pictures_are_of_the_stored_data(project):
    for path in sorted(project.figures.glob("*.png")):
        said = Image.open(path).text
        assert said["name"] == path.stem
        assert said["csv"] == hashlib.sha256(path.with_suffix(".csv").read_bytes()).hexdigest(), path.name


def test_signs_stand_out_against_their_squares():
    """At least 3:1 for a mark, as WCAG asks; white on orange had 2.3:1."""
    assert [figures.ink_on(colour) for colour in ("#E69F00", "#56B4E9", "#D55E00", "#000000")] == [
        *("black", "black", "black", "white")
    ]
    assert figures.ink_on("#0072B2") == "white"
    figures.use_style()
    _, axes = figures.subplots()
    figures.word_map(axes, pd.DataFrame([["a", "b"]]), {"a": ("#E69F00", "?"), "b": ("#0072B2", "+")}, "")
    assert [text.get_color() for text in axes.texts] == ["black", "white"]


def test_axes_that_count_have_no_fractions_and_a_key_names_each_colour():
    figures.use_style()
    figure, axes = figures.subplots(figures.COLUMN_IN, 1.5)
    axes.barh(["a"], [3])
    axes.set_xlabel("attacks (count)")
    figures.key(figure, {"stopped": ("#009E73", ""), "not stopped": ("#D55E00", "///")})
    figures.png_bytes(figure)
    assert all(tick == round(tick) for tick in axes.get_xticks())
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["stopped", "not stopped"]
