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
    r"(?<![\d.])\b([HBA]\d{2,3}s?|H100's|\d+(\.\d)?[BM]|Llama-[\d.]+(-\d+B)?|SmolLM2(-135M)?|SHA-256|(fp|bf)\d+|int8|L[12]|[LTF]\d\d[a-e]?"
    r"|[Nn]otebook \d\d|EIP-\d+|\d{4}-\d\d-\d\d)\b|\*\*[TF]\d\d\w*\*\*"
)

#: Typed numbers that stand today, by notebook. A number may only go down, and a notebook not named has none.
TYPED = {
    "00_overview": 10,
    "01_attestation": 10,
    "02_poea_binding": 5,
    "03_dispute_bisection": 19,
    "04_zk_spot_checks": 7,
    "05_spot_check_economics": 16,
    "06_poq_vs_otr": 22,
    "07_latency_cost_throughput": 52,
}


def written(name):
    """Titles, captions and result paragraphs of a notebook, what data fills in left out."""
    cells = json.loads((PROJECT.notebooks / f"{name}.ipynb").read_text())["cells"]
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            if "**Result.**" in source:
                yield source.split("**Result.**")[1].split("\n\n")[0]
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
                shown = [word.value for word in node.keywords if word.arg == "caption"]
                shown += node.args[1:2] if called == "headline" else []
                for one in shown:
                    yield " ".join(
                        part.value
                        for part in ast.walk(one)
                        if isinstance(part, ast.Constant) and isinstance(part.value, str) and not _format(part.value)
                    )


def _format(text):
    """Whether a constant is the format of a number in an f-string, and no text: ``.2f``."""
    return re.fullmatch(r"[,.\d]*[a-z%]?", text.strip()) is not None


def typed(name):
    return [word for text in written(name) for word in re.findall(r"\d[\d.,]*", ALLOWED.sub("", text))]


@pytest.mark.parametrize("name", NAMES)
def test_no_new_number_is_typed_into_a_title_a_caption_or_a_result(name):
    found = typed(name)
    assert len(found) == TYPED.get(name, 0), f"{found}: render it from data; when one has gone, lower the count"


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
    assert re.findall(r"\d[\d.,]*", ALLOWED.sub("", "On 4 H100s a 70B model (T01) takes 2.5 s")) == ["4", "2.5"]
    assert sum(len(list(written(name))) for name in NAMES) > 100
