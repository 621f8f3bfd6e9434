"""Each stored notebook as a reader sees it, in JupyterLab in a real browser: nothing is run."""

import copy
import shutil

import pytest

from otr_node.project import find_project
from otr_paper.press.reproduce import notebook_names
from otr_paper.press.runner import read_notebook
from tests.helpers.browser import HEIGHT, WIDTH, Lab, chromium
from tests.helpers.seen import faults

PROJECT = find_project()
NAMES = notebook_names(PROJECT)
THEMES = ("JupyterLab Light", "JupyterLab Dark")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """One JupyterLab and one page for all tests of this module."""
    with chromium() as browser:
        lab = Lab(tmp_path_factory.mktemp("lab"), browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}))
        try:
            yield lab
        finally:
            lab.close()


def stored(name):
    return read_notebook(PROJECT.notebooks / f"{name}.ipynb")


def outputs(book):
    return [output for cell in book["cells"] for output in cell.get("outputs", ())]


def markdown(output):
    return "".join(output.get("data", {}).get("text/markdown", ""))


def pictures(book):
    return [output for output in outputs(book) if "<img " in "".join(output.get("data", {}).get("text/html", ""))]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_seen_is_what_was_written(lab, name):
    """Light and dark: no mathematics but the probe's, every row, every picture its own, nothing cut off or faint."""
    book = stored(name)
    lab.open(name, book)
    for theme in THEMES:
        lab.theme(theme)
        seen = lab.see()
        assert faults(seen, PROJECT.figures, mathematics=1) == [], theme
        assert len(seen["pictures"]) == len(pictures(book))
        assert len(seen["tables"]) == sum("| --- |" in markdown(output) for output in outputs(book))
        assert seen["texts"] > 20
    lab.end_kernels()


def faults_of(lab, name, book, figures=PROJECT.figures):
    lab.open(name, book)
    lab.theme(THEMES[0])
    found = faults(lab.see(), figures, mathematics=1)
    lab.end_kernels()
    return "\n".join(found)


def test_dollar_signs_are_seen_as_mathematics(lab):
    """The copy that this project once stored: amounts with a dollar sign, of which JupyterLab makes formulae."""
    book = stored("05_spot_check_economics")
    for output in outputs(book):
        if "text/markdown" in output.get("data", {}):
            output["data"]["text/markdown"] = [markdown(output).replace(" USD", "$").replace("ρ", "$ρ")]
    found = faults_of(lab, "dollars", book)
    assert "mathematics: found" in found
    assert ", row " in found


def test_a_swapped_picture_is_seen(lab):
    book = stored("07_latency_cost_throughput")
    one, two, *_ = [output["data"] for output in pictures(book)]
    sources = ["".join(data["text/html"]).partition('src="') for data in (one, two)]
    one["text/html"], two["text/html"] = [
        start + middle + other for (start, middle, _), (*_, other) in zip(sources, reversed(sources), strict=True)
    ]
    found = faults_of(lab, "swapped", book)
    assert "the picture says that it is" in found
    assert "the picture is not that of figures/" in found


def test_a_picture_of_other_data_is_seen(lab, tmp_path):
    shutil.copytree(PROJECT.figures, tmp_path / "figures")
    changed = tmp_path / "figures" / "F00_trilemma.csv"
    changed.write_text(changed.read_text().replace("0.07", "0.08"))
    found = faults_of(lab, "00_overview", stored("00_overview"), tmp_path / "figures")
    assert "F00_trilemma: drawn from other data" in found


def test_lost_rows_missing_texts_and_what_is_cut_off_or_faint_are_seen(lab):
    book = copy.deepcopy(stored("00_overview"))
    table = next(output["data"] for output in outputs(book) if "| --- |" in markdown(output))
    head, line, _, *rest = markdown({"data": table}).splitlines(keepends=True)
    table["text/markdown"] = [head, line, *rest]
    picture = pictures(book)[0]["data"]
    picture["text/html"] = ["".join(picture["text/html"]).replace("alt=", "title=")]
    for style in ("width: 1500px", "color: #bbbbbb"):
        shown = {"text/html": [f'<p style="{style}">{style}</p>']}
        book["cells"][2]["outputs"].append({"output_type": "display_data", "metadata": {}, "data": shown})
    found = faults_of(lab, "bad", book)
    assert "T01_trilemma: found 7 rows" in found
    assert "its text is 'Image'" in found
    assert "cut off at the right" in found
    assert "too faint" in found
