"""What production systems have learned about disputes and keys, and how it stands here: data/production_rules.toml
as a table."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from otr_core.errors import DataError

FILE = "production_rules.toml"
COUNTS = {"rule": 15, "finding": 30}


@dataclass(frozen=True)
class Lesson:
    """One rule, or one finding of an audit.

    Attributes:
        kind: ``rule`` or ``finding``. number: among its kind, from 1. says: what it is. sources: (name,
            address). holds: what holds here, "" if it does not apply. tests: that hold it, as
            ``file::name``. reason: why it, or part of it, does not apply.
    """

    kind: str
    number: int
    says: str
    sources: tuple[tuple[str, str], ...]
    holds: str
    tests: tuple[str, ...]
    reason: str

    def __post_init__(self) -> None:
        where = f"{FILE}: {self.kind} {self.number}"
        if not (self.says and self.sources):
            raise DataError(f"{where}: expected what it says, and a source")
        if bool(self.holds) != bool(self.tests) or not (self.tests or self.reason):
            raise DataError(f"{where}: expected what holds with its tests, or a reason why it does not apply")


def read_lessons(data: Path) -> list[Lesson]:
    """All of them, rules first.

    Raises:
        DataError: an entry says neither which tests hold it nor why it does not apply, or names what
            the file does not.
    """
    table = tomllib.loads((data / FILE).read_text("utf-8"))
    found = []
    for kind in COUNTS:
        for number, entry in enumerate(table[kind], 1):
            try:
                tests = tuple(f"{table['paths'][part]}::{name}" for part, name in map(_split, entry.get("tests", ())))
                sources = tuple(_source(table["sources"], each) for each in entry["source"])
            except KeyError as error:
                raise DataError(f"{FILE}: {kind} {number}: found no {error}") from error
            said = entry["says"], sources, entry.get("holds", ""), tests, entry.get("reason", "")
            found.append(Lesson(kind, number, *said))
    return found


def _split(test: str) -> tuple[str, str]:
    part, _, name = test.partition(":")
    return part, name


def _source(sources: dict[str, list[str]], named: str) -> tuple[str, str]:
    """Name and address; after a slash the number of an issue."""
    key, _, issue = named.partition("/")
    name, address = sources[key]
    return (f"{name} {issue}", f"{address}/{issue}") if issue else (name, address)


def lessons_markdown(data: Path, kind: str) -> str:
    """The table of the rules, or of the findings."""
    lines = [f"| {kind} | source | what holds here | tests, or why it does not apply |", "|---|---|---|---|"]
    for each in read_lessons(data):
        if each.kind == kind:
            sources = "; ".join(f"[{name}]({address})" for name, address in each.sources)
            proof = [f"`{test.removeprefix('tests/')}`" for test in each.tests]
            proof += [f"Not otherwise: {each.reason}" if each.tests else f"Does not apply: {each.reason}"] * bool(
                each.reason
            )
            lines.append(f"| {each.number}. {each.says} | {sources} | {each.holds or '-'} | {'<br>'.join(proof)} |")
    return "\n".join(lines)
