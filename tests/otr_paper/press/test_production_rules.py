"""Rules and findings of production systems: every one has tests that are there, or a reason."""

from __future__ import annotations

import ast
from collections import defaultdict

import pytest

from otr_core.errors import DataError
from otr_paper.press.production_rules import COUNTS, FILE, Lesson, lessons_markdown, read_lessons


@pytest.fixture(scope="module")
def lessons(project):
    return read_lessons(project.data)


def test_every_rule_and_finding_has_a_line(lessons):
    for kind, count in COUNTS.items():
        assert [each.number for each in lessons if each.kind == kind] == list(range(1, count + 1))
    assert sum(bool(each.tests) for each in lessons) >= 38


def collected_in(path) -> set[str]:
    """Names of the test functions that pytest would collect in a file."""
    tree = ast.parse(path.read_text())
    return {each.name for each in tree.body if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")}


def test_each_named_test_is_there(lessons, project):
    named = defaultdict(set)
    for each in lessons:
        for test in each.tests:
            file, _, name = test.partition("::")
            named[file].add(name)
    for file, names in named.items():
        assert names <= collected_in(project.root / file), (file, names - collected_in(project.root / file))


def test_a_lesson_without_tests_has_a_reason_and_the_page_shows_either(lessons, project):
    for each in lessons:
        assert each.tests or each.reason.endswith("."), each
        row = lessons_markdown(project.data, each.kind).splitlines()[1 + each.number]
        assert row.startswith(f"| {each.number}. {each.says} |")
        assert all(test.removeprefix("tests/") in row for test in each.tests)
        assert each.reason in row


GOOD = {"kind": "rule", "number": 1, "says": "x", "sources": (("a", "https://a"),)}


@pytest.mark.parametrize(
    "more",
    [
        {"holds": "y", "tests": (), "reason": ""},
        {"holds": "", "tests": ("a::b",), "reason": ""},
        {"holds": "", "tests": (), "reason": ""},
        {"holds": "y", "tests": (), "reason": "z"},
        {"holds": "y", "tests": ("a::b",), "reason": "", "says": ""},
        {"holds": "y", "tests": ("a::b",), "reason": "", "sources": ()},
    ],
)
def test_a_line_that_shows_nothing_is_refused(more):
    Lesson(**GOOD, holds="y", tests=("a::b",), reason="")
    Lesson(**GOOD, holds="", tests=(), reason="z")
    with pytest.raises(DataError):
        Lesson(**{**GOOD, **more})


@pytest.mark.parametrize(("old", "new"), [('"court:', '"nowhere:'), ('["flash"]', '["nobody"]')])
def test_a_name_that_the_file_lacks_is_said(old, new, project, tmp_path):
    (tmp_path / FILE).write_text((project.data / FILE).read_text().replace(old, new))
    with pytest.raises(DataError, match="found no"):
        read_lessons(tmp_path)
