"""Numbers in what a reader reads come from data: titles, captions and result paragraphs."""

import ast
import json
import re

import pytest

from otr_node.project import find_project
from otr_paper.press.reproduce import notebook_names

PROJECT = find_project()
NAMES = notebook_names(PROJECT)

#: Names that hold digits and are no numbers.
ALLOWED = re.compile(
    r"(?<![\d.])\b([HBA]\d{2,3}s?|H100's|\d+(\.\d)?[BM]|Llama-[\d.]+(-\d+B)?|SmolLM2(-135M)?|SHA-256|(fp|bf)\d+|int8|\d-bit|L[12]|[LTF]\d\d[a-e]?"
    r"|[Nn]otebook \d\d|[Tt]iers? \d( and \d)?|EIP-\d+|\d{4}-\d\d-\d\d)\b|\*\*[TF]\d\d\w*\*\*"
)

#: Typed numbers that stand today, by notebook. A number may only go down, and a notebook not named has none.
TYPED = {"04_zk_spot_checks": 12}
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
    return re.findall(r"\d[\d.,]*", ALLOWED.sub("", text))


def typed(name):
    return [word for text in written(name) for word in numbers(text)]


@pytest.mark.parametrize("name", NAMES)
def test_no_number_is_typed_into_a_title_a_caption_a_heading_or_a_result(name):
    found = typed(name)
    assert len(found) <= TYPED.get(name, 0), f"{found}: render it from data; when one has gone, lower the count"


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
