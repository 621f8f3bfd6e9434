"""Numbers in what a reader reads come from data: prose, titles, captions and prints."""

import ast
import json
import re

import pandas as pd
import pytest

from otr_node.project import find_project
from otr_paper.press import figures
from otr_paper.press.notebook import NotebookSession
from otr_paper.press.reproduce import notebook_names

PROJECT = find_project()
NAMES = notebook_names(PROJECT)

#: Names that hold digits and are no numbers: hardware, models, formats, standards, and what a process, notebook or
#: figure is called.
ALLOWED = re.compile(
    r"(?<![\d.])\b([HBA]\d{2,3}s?|H100's|\d+(\.\d)?[BM]|Llama-[\d.]+(-\d+B)?|SmolLM2(-135M)?|SHA-(256|384)|(fp|bf)\d+|int8|\d-bit|L[12]|[LTF]\d\d[a-e]?"
    r"|[Nn]otebook \d\d|[Tt]iers? \d( and \d)?|EIP-\d+|\d{4}-\d\d-\d\d|RFC \d+|IEEE 754|Groth16"
    r"|Azure \d{4}|operator \d)\b|\*\*[TF]\d\d\w*\*\*|^# \d\d · "
)
#: Digits and words of number that are no result and no parameter, and why.
NO_RESULT = re.compile(
    r"\b1 − |\b2\^"  # a complement in a formula, a power of two
    r"|w3 w4 w5 w6 w7"  # the words that a tiny model knows
    r"|[Tt]hree tiers|[Ff]our systems"  # what the texts describe
    r"|million USD|\(billions\)"  # units
    r"|\*\*Budget\*\* .*"  # what a run may take
)
#: Numbers in words from which on nobody writes them as grammar: one and two, half and twice are.
WORDS = r"\b(?:three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|(?:hundred|thousand|million|billion)s?)\b"

#: Calls whose texts a reader sees in a picture or above it.
SHOWN_BY = {"headline", "reading", "set_title", "paper_line", "annotate"}


def written(name):
    """Titles, captions, headings, results and readings of a notebook, what data fills in left out."""
    cells = json.loads((PROJECT.notebooks / f"{name}.ipynb").read_text())["cells"]
    for number, cell in enumerate(cells):
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            yield from shown_texts(ast.parse(source))
        else:
            for start in ("**Result.**", "**Reading.**"):
                if start in source:
                    yield source.split(start)[1].split("\n\n")[0]
            yield from re.findall(r"^#+ (.*)$", source, re.MULTILINE)[0 if number else 1 :]


def told(name):
    """All prose of a notebook, and every text in its code, what data fills in left out."""
    for cell in json.loads((PROJECT.notebooks / f"{name}.ipynb").read_text())["cells"]:
        source = "".join(cell["source"])
        yield from texts(ast.parse(source)) if cell["cell_type"] == "code" else source.splitlines()


def texts(node):
    """Literals with a space in them, whatever is done with them: a key, a name or a colour has none."""
    if isinstance(node, ast.JoinedStr):
        yield " ".join(part.value for part in node.values if isinstance(part, ast.Constant))
        node = ast.Tuple([part for part in node.values if not isinstance(part, ast.Constant)])
    for field, child in ast.iter_fields(node):
        for one in child if isinstance(child, list) and field != "format_spec" else [child]:
            if isinstance(one, ast.Constant) and isinstance(one.value, str) and " " in one.value:
                yield one.value
            elif isinstance(one, ast.AST) and field != "format_spec":
                yield from texts(one)


def shown_texts(tree):
    """What the code shows in titles, captions and readings, without what it fills in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            shown = [word.value for word in node.keywords if word.arg == "caption"]
            shown += node.args[:3] if called in SHOWN_BY else []
            for one in shown:
                yield " ".join(constants(one))


def constants(node):
    """Texts in an expression; not the formats of numbers, nor keys and names by which it asks for what it fills in."""
    if isinstance(node, ast.Constant):
        yield from [node.value] if isinstance(node.value, str) else []
        return
    for field, child in ast.iter_fields(node):
        if field in ("format_spec", "slice", "func", "keywords", "comparators"):
            continue
        for one in child if isinstance(child, list) else [child]:
            asked = isinstance(node, ast.Call) and isinstance(one, ast.Constant)
            if isinstance(one, ast.AST) and not asked:
                yield from constants(one)


def numbers(text):
    """Numbers in a text, in digits or in words."""
    return re.findall(rf"\d[\d.,]*|{WORDS}", NO_RESULT.sub("", ALLOWED.sub("", text)), re.IGNORECASE)


@pytest.mark.parametrize("name", NAMES)
def test_no_number_is_typed_into_what_a_notebook_says(name):
    """Prose, titles, captions, prints, labels: all that is neither a name nor listed above comes from data."""
    assert [(word, text) for text in told(name) for word in numbers(text)] == [], "render it from data"


def test_no_number_is_typed_into_the_words_of_a_picture():
    """The labels that figure code writes: all their numbers come with the data."""
    for path in sorted((PROJECT.root / "otr_paper" / "pictures").glob("*.py")):
        found = [word for text in shown_texts(ast.parse(path.read_text())) for word in numbers(text)]
        assert not found, f"{path.name}: {found}"


@pytest.mark.parametrize("name", NAMES)
def test_a_because_in_a_title_or_caption_names_a_check_that_exists(name):
    """``because … (test_name)``: an explanation that no check makes is prose that nobody tests."""
    for text in written(name):
        for after in re.split(r"\bbecause\b", text, flags=re.IGNORECASE)[1:]:
            checks = re.findall(r"\((test_\w+)\)", after)
            assert checks or (name, after.split()[0]) in EXCUSED, f"{name}: because{after[:60]}"
            for check in checks:
                assert any(f"def {check}(" in path.read_text() for path in (PROJECT.root / "tests").rglob("test_*.py"))


#: Explanations that are definitions and no findings: what a verifier is not given it cannot see.
EXCUSED = {("01_attestation", "no")}


def test_the_finder_finds():
    assert numbers("On 4 H100s a 70B model (T01) of tier 2 takes 2.5 s") == ["4", "2.5"]
    code = """run.table("T1", x, caption=f"a 5 {b['6']:.7f} {c.number('8', 's')} {'9' if d else ''}")
figures.headline(fig, f"at {rate:.1%} of 3 s")"""
    assert [word for text in shown_texts(ast.parse(code)) for word in numbers(text)] == ["5", "9", "3"]
    assert sum(len(list(written(name))) for name in NAMES) > 100
    code = """x = "a 5"
print(f"b {c['6 7']:.7f}8{d('9 0')}", "k1", *[f"{e}4 "])"""
    assert sorted(word for text in texts(ast.parse(code)) for word in numbers(text)) == [
        "0",
        "4",
        "5",
        "6",
        "7",
        "8",
        "9",
    ]
    assert numbers("Three of four systems in a dozen, 10 million USD, 1 − ρ") == ["Three", "dozen", "10"]


def shares(tree, loose=False):
    """Shares that code writes as ``9%`` where nothing spells them: typed into a text, or formatted to be printed."""
    for node in ast.iter_child_nodes(tree):
        called = ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""
        within = called != "spelled" and (loose or called == "print")
        if isinstance(node, ast.FormattedValue):
            spec = ast.unparse(node.format_spec or ast.Constant("")).rstrip("'\"")
            yield from [spec] if within and spec.endswith("%") else []
            node = node.value
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from re.findall(r"\S*\d%", node.value)
        yield from shares(node, within)


@pytest.mark.parametrize("name", NAMES)
def test_shares_have_one_spelling(name):
    """``9 %``, in headings, texts and prints; captions, titles and tables are spelled on their way out."""
    found = []
    for cell in json.loads((PROJECT.notebooks / f"{name}.ipynb").read_text())["cells"]:
        source = "".join(cell["source"])
        found += shares(ast.parse(source)) if cell["cell_type"] == "code" else re.findall(r"\S*\d%", source)
    assert found == []


def test_a_share_that_is_not_spelled_is_seen():
    for bad in ('print(f"{x:.0%} of it")', 'print("so", f"{x:+.1%}")', 'run.reading("5% of it")'):
        assert len(list(shares(ast.parse(bad)))) == 1, bad
    for good in ('print(spelled(f"{x:.0%}"))', 'run.reading(f"{x:.0%}")', 'print(f"{x:.0f} %")'):
        assert not list(shares(ast.parse(good))), good


def test_pictures_tables_and_captions_are_spelled(tmp_path):
    fig, ax = figures.subplots()
    ax.annotate("about 9%", (0, 0))
    figures.headline(fig, "Found: 12.5% of it")
    ax.set_xlabel("share, 5% at most")
    figures.png_bytes(fig)
    assert figures.title(fig) == "Found: 12.5 % of it"
    assert (ax.texts[0].get_text(), ax.get_xlabel()) == ("about 9 %", "share, 5 % at most")
    text = figures.save_table(tmp_path, "T", pd.DataFrame({"x": ["9%"]}), note="measured")
    assert "| 9 % |" in text
    assert "9 %" in (tmp_path / "T.csv").read_text()


def test_captions_are_spelled_where_they_are_shown_and_where_they_are_kept(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda one: shown.append(one.data))
    session, data = NotebookSession("00_x", PROJECT, tmp_path), pd.DataFrame({"x": [1]})
    fig, _ = figures.subplots()
    session.figure(fig, "F", data, kind="measured", caption="Of all 3% fail.")
    session.table("T", data, kind="measured", caption="Of all 4% fail.")
    session.reading("Of all 5% fail.")
    assert [re.findall(r"Of all \d ?% fail", one)[-1] for one in shown[1:]] == [f"Of all {n} % fail" for n in (3, 4, 5)]
    for name, share in (("F", 3), ("T", 4)):
        assert f"Of all {share} % fail" in (tmp_path / f"{name}.csv").read_text()
