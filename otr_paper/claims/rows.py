"""The rows of the claims ledger as they stand in ``data/claims.yaml``: what each says, and how they are read."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from otr_core.errors import ClaimsError
from otr_paper.claims.verdict import KINDS, VERDICTS

#: Every claim of the ledger.
IDS = tuple(f"L{number:02d}" for number in range(1, 43))
STATED_RELATIONS = ("=", "<", ">", "<=", ">=", "~", "range", "words")
ORIGINS = ("texts", "ours", "others")
"""Who makes a claim: the abstract or the authors' summary; this project, from their numbers; another
text on another system. Headlines count the first alone."""


@dataclass(frozen=True)
class ClaimRow:
    """One row of the ledger, keys in file order.

    Attributes:
        id: L01 to L42.
        claim: the claim in our words.
        origin: one of ``ORIGINS``. made_in: the sources of the rows that state it.
        unit: of ``stated``. relation: one of ``STATED_RELATIONS``: how the claim uses the number.
        stated_rows: ids of the published rows that state the number, or what its words are read as.
        stated: the number as those rows print it, or the words.
        kind: how the number of the plain reading is got: measured, recomputed, simulated or cited.
        inputs: ids of the published rows used.
        rule: what is asked of the plain reading.
        code: dotted path of the judging function.
        verdict: one of ``VERDICTS``; None or empty is a problem ``check`` reports.
        why: in one sentence, why this verdict.
        follows: whether it follows from the stated inputs, and by what factor it misses; None where
            the texts state none.
        evidence: how many of the measured, published and simulated readings meet it, and by what
            factor the nearest misses.
        conditions: what would have to be true, and whether any row makes it so.
        flips: the stated number below and above at which the verdict changes, and to what.
        stands: the share of the ranges of its dated prices, and of its sources left out one at a
            time, in which the verdict stands.
        computed: headline numbers by name.
        note: what a reader must know besides.
        notebook, figure: where it is shown.
    """

    id: str
    claim: str
    origin: str
    made_in: str
    unit: str
    stated: float | str
    relation: str
    stated_rows: tuple[str, ...]
    kind: str
    inputs: tuple[str, ...]
    rule: str
    code: str
    verdict: str | None
    why: str
    follows: Mapping[str, Any] | None
    evidence: Mapping[str, Any] | None
    conditions: tuple[Mapping[str, Any], ...]
    flips: Mapping[str, Any]
    stands: Mapping[str, Any]
    computed: Mapping[str, float]
    note: str
    notebook: str
    figure: str

    def as_dict(self) -> dict[str, Any]:
        """Plain mapping in file order, as written to YAML and to JSON."""
        row = {field.name: getattr(self, field.name) for field in fields(self)}
        return row | {name: list(row[name]) for name in ("stated_rows", "inputs", "conditions")}


_KEYS = tuple(field.name for field in fields(ClaimRow))


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise ClaimsError(f"claims ledger, line {node.start_mark.line + 1}: key {twice[0]!r} found twice")
        return super().construct_mapping(node, deep)


def _text(value: object) -> bool:
    return isinstance(value, str)


def _words(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _numbers(value: object) -> bool:
    return isinstance(value, dict) and all(_text(name) and _number(number) for name, number in value.items())


def _with_keys(*keys: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, dict) and list(value) == list(keys)


_CONDITION = ("name", "text", "asked", "unit", "met", "nearest", "factor", "gives_up")

#: Key of a row -> (whether a value is allowed, what is allowed in words).
_CHECKS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("unit", "note", "figure", "made_in", "rule", "why"), (_text, "text")),
    **dict.fromkeys(("claim", "code", "notebook"), (_words, "text that is not empty")),
    "id": (IDS.__contains__, f"{IDS[0]} to {IDS[-1]}"),
    "origin": (ORIGINS.__contains__, f"one of {ORIGINS}"),
    "stated": (lambda value: _text(value) or _number(value), "a finite number or words"),
    "relation": (STATED_RELATIONS.__contains__, f"one of {STATED_RELATIONS}"),
    "kind": (KINDS.__contains__, f"one of {KINDS}"),
    "inputs": (lambda value: isinstance(value, list) and all(map(_text, value)), "row ids"),
    "stated_rows": (
        lambda value: isinstance(value, list) and bool(value) and all(map(_text, value)),
        "row ids, one or more",
    ),
    "verdict": (lambda value: not value or value in VERDICTS, f"one of {VERDICTS}"),
    "follows": (lambda value: value is None or _with_keys("holds", "factor")(value), "null, or holds and factor"),
    "evidence": (
        lambda value: value is None or _with_keys("meets", "of", "factor")(value),
        "null, or meets, of, factor",
    ),
    "conditions": (
        lambda value: isinstance(value, list) and all(map(_with_keys(*_CONDITION), value)),
        f"each {_CONDITION}",
    ),
    "flips": (_with_keys("below", "above"), "below and above"),
    "stands": (_with_keys("prices", "sources"), "prices and sources"),
    "computed": (_numbers, "a mapping of names to finite numbers"),
}


def _row(raw: object, position: int) -> ClaimRow:
    """One parsed row, every key checked; ``position`` names a row that has no id."""
    if not isinstance(raw, dict):
        raise ClaimsError(f"claims ledger, row {position}: found {type(raw).__name__}, expected a mapping")
    where = f"claims ledger, row {raw.get('id', position)}"
    if missing := [key for key in _KEYS if key not in raw]:
        raise ClaimsError(f"{where}: key {missing[0]!r} missing, expected {list(_KEYS)}")
    if unknown := [key for key in raw if key not in _KEYS]:
        raise ClaimsError(f"{where}: key {unknown[0]!r} unknown, expected {list(_KEYS)}")
    for key, (allows, allowed) in _CHECKS.items():
        if not allows(raw[key]):
            raise ClaimsError(f"{where}: {key} found {raw[key]!r}, expected {allowed}")
    return ClaimRow(**{**raw, **{key: tuple(raw[key]) for key in ("inputs", "stated_rows", "conditions")}})


def parse_ledger(text: str) -> list[ClaimRow]:
    """The rows of a ledger.

    Raises:
        ClaimsError: not YAML, not a list, or a row with a missing, unknown or ill-typed key; names
            row and key.
    """
    try:
        document = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise ClaimsError(f"claims ledger: not readable as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(document, list):
        raise ClaimsError(f"claims ledger: found {type(document).__name__}, expected a list of rows")
    return [_row(raw, position) for position, raw in enumerate(document, start=1)]


def read_ledger(data: Path) -> list[ClaimRow]:
    """All rows of ``claims.yaml`` in the folder ``data`` of a checkout.

    Raises:
        ClaimsError: the file is absent or malformed.
    """
    path = data / "claims.yaml"
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ClaimsError(f"{path}: cannot be read ({error.strerror}); restore it from git") from error
    return parse_ledger(text)
