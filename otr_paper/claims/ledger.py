"""The claims ledger: ``data/claims.yaml``, one row per claim, and its check against what the code
computes.

A row says what is claimed, where, by which rule it is judged, and which function judges it
(``code``). That function is called through one door, ``evaluate``, whatever it reads. ``inputs``,
``verdict``, ``computed`` and the value of ``assumption`` are written from the function's result and
never by hand; all words of a row are written by hand. How a row reads in a table or a notebook is
the business of ``otr_paper.press.claims_table``.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from otr_core.errors import ClaimsError
from otr_core.files import write_text
from otr_paper.claims.grounds import Grounds
from otr_paper.claims.published import Published
from otr_paper.claims.verdict import CONDITIONAL, KINDS, NOT_TESTABLE, VERDICTS, Evaluation

#: Every claim of the ledger.
IDS = tuple(f"L{number:02d}" for number in range(1, 43))
RELATIONS = ("=", "<", ">", "<=", ">=", "~", "range", "words")
DIGITS = 6
_PACKAGE = "otr_paper.claims."
_HEADER = """\
# The claims ledger. Texts are written by hand; inputs, verdict, computed and the value of the assumption come from the
# function named in code (`otr claims --refresh`). Numbers keep six significant digits.
"""


@dataclass(frozen=True)
class ClaimRow:
    """One row of the ledger, keys in file order.

    Attributes:
        id: L01 to L42.
        claim: the claim in our words.
        made_in: where it is made, or from what it is derived.
        unit: of ``stated``.
        stated: the stated number, or the words where there is none.
        relation: one of ``RELATIONS``: how the claim uses the number.
        kind: how our number is got: measured, recomputed, simulated or cited.
        inputs: ids of the published rows used.
        rule: when the claim counts as holding, in words; ``tolerance`` the number in it, if any.
        code: dotted path of the judging function.
        verdict: one of ``VERDICTS``; None or empty is a problem ``check`` reports.
        computed: headline numbers by name.
        assumption: for *conditional*: name, value and unit of the number it hangs on, and the
            condition in words.
        note: what a reader must know besides; for *not testable here*, the reason.
        notebook, figure: where it is shown.
    """

    id: str
    claim: str
    made_in: str
    unit: str
    stated: float | str
    relation: str
    kind: str
    inputs: tuple[str, ...]
    rule: str
    tolerance: float | None
    code: str
    verdict: str | None
    computed: Mapping[str, float]
    assumption: Mapping[str, float | str] | None
    note: str
    notebook: str
    figure: str

    def as_dict(self) -> dict[str, Any]:
        """Plain mapping in file order, as written to YAML and to JSON."""
        row = {field.name: getattr(self, field.name) for field in fields(self)}
        row["inputs"] = list(self.inputs)
        row["computed"] = dict(self.computed)
        row["assumption"] = dict(self.assumption) if self.assumption else None
        return row


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


def _assumption(value: object) -> bool:
    if not isinstance(value, dict) or list(value) != ["name", "value", "unit", "text"]:
        return value is None
    return _number(value["value"]) and all(_text(value[key]) for key in ("name", "unit", "text"))


#: Key of a row -> (whether a value is allowed, what is allowed in words).
_CHECKS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("unit", "note", "figure"), (_text, "text")),
    **dict.fromkeys(("claim", "made_in", "rule", "code", "notebook"), (_words, "text that is not empty")),
    "id": (IDS.__contains__, f"{IDS[0]} to {IDS[-1]}"),
    "stated": (lambda value: _text(value) or _number(value), "a finite number or words"),
    "relation": (RELATIONS.__contains__, f"one of {RELATIONS}"),
    "kind": (KINDS.__contains__, f"one of {KINDS}"),
    "inputs": (lambda value: isinstance(value, list) and all(map(_text, value)), "row ids"),
    "tolerance": (lambda value: value is None or _number(value), "a finite number or null"),
    "verdict": (lambda value: not value or value in VERDICTS, f"one of {VERDICTS}"),
    "computed": (_numbers, "a mapping of names to finite numbers"),
    "assumption": (_assumption, "null, or a name, a finite value, a unit and a text"),
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
    return ClaimRow(**{**raw, "inputs": tuple(raw["inputs"])})


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


def resolve(path: str) -> Callable[..., Evaluation]:
    """The function at a dotted ``path`` inside this package.

    Raises:
        ClaimsError: outside the package, no such module or no such function.
    """
    module, _, name = path.rpartition(".")
    if not path.startswith(_PACKAGE):
        raise ClaimsError(f"code path: found {path!r}, expected a function below {_PACKAGE[:-1]}")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ClaimsError(f"code path {path!r}: not found ({error})") from error
    if not callable(function):
        raise ClaimsError(f"code path {path!r}: found {type(function).__name__}, expected a function")
    found: Callable[..., Evaluation] = function
    return found


def evaluate(row: ClaimRow, grounds: Grounds) -> Evaluation:
    """Judge one row by calling the function that its ``code`` names.

    The function takes one argument: the published rows, and then it can read nothing else, or all
    the grounds.

    Raises:
        ClaimsError: no such function, or one that takes something else.
    """
    function = resolve(row.code)
    takes = [kind for name, kind in get_type_hints(function).items() if name != "return"]
    if takes == [Published]:
        return function(grounds.published)
    if takes == [Grounds]:
        return function(grounds)
    raise ClaimsError(f"{row.code}: found arguments {takes}, expected one: Published or Grounds")


def rounded(value: float) -> float:
    """A computed number as the ledger keeps it: six significant digits."""
    return float(f"{value:.{DIGITS}g}")


def _same(stored: float, computed: float) -> bool:
    """Whether ``stored`` is ``computed`` rounded: at most half a unit of the last kept digit
    away."""
    if computed == 0:
        return abs(stored) <= 1e-12
    unit = 10.0 ** (math.floor(math.log10(abs(computed))) - DIGITS + 1)
    return abs(stored - computed) <= 0.5 * unit * (1 + 1e-6)


def _limit(evaluation: Evaluation) -> tuple[str, float] | None:
    """What the verdict hangs on: None unless it is conditional, for another verdict hangs on
    nothing."""
    return evaluation.limit if evaluation.verdict == CONDITIONAL else None


def _used(evaluation: Evaluation) -> tuple[str, ...]:
    """Ids of the published rows behind all readings, each once, in the order of their first use."""
    sources = (source for reading in evaluation.readings for source in reading.sources)
    return tuple(dict.fromkeys(sources))


def _differences(row: ClaimRow, found: Evaluation) -> Iterable[str]:
    """What the row says otherwise than the evaluation, one line each."""
    if row.verdict != found.verdict:
        yield f"verdict stored {row.verdict!r}, computed {found.verdict!r}"
    if set(row.computed) != set(found.computed):
        yield f"computed names stored {sorted(row.computed)}, expected {sorted(found.computed)}"
    for name in row.computed.keys() & found.computed.keys():
        if not _same(row.computed[name], found.computed[name]):
            yield f"{name} stored {row.computed[name]!r}, computed {rounded(found.computed[name])!r}"
    if row.inputs != _used(found):
        yield f"inputs stored {list(row.inputs)}, computed {list(_used(found))}"
    limit, stored = _limit(found), row.assumption
    if limit is None or stored is None:
        if limit or stored:
            yield f"assumption stored {stored}, computed {limit}"
    elif stored["name"] != limit[0] or not _same(float(stored["value"]), limit[1]):
        yield f"assumption stored {stored['name']} = {stored['value']!r}, computed {limit}"
    elif not _words(stored["text"]):
        yield "assumption without words that say what is assumed"


def check(rows: Iterable[ClaimRow], grounds: Grounds) -> list[str]:
    """What is wrong with the ledger, one line each; an empty list says all is well.

    A claim without a row or with two, a row without a verdict, one that is not testable and gives
    no reason, a code path that does not exist or belongs to another claim, and a stored verdict,
    number, limit or input list that is not what the code computes.
    """
    rows = list(rows)
    ids = [row.id for row in rows]
    problems = [f"{claim}: found {ids.count(claim)} rows, expected 1" for claim in IDS if ids.count(claim) != 1]
    return problems + [problem for row in rows for problem in check_row(row, grounds)]


def check_row(row: ClaimRow, grounds: Grounds) -> list[str]:
    """What is wrong with one row, which alone is judged; see ``check``."""
    if not row.verdict:
        return [f"{row.id}: no verdict; refresh the ledger"]
    if not row.code.rpartition(".")[2].startswith(f"{row.id}_"):
        return [f"{row.id}: code found {row.code}, expected a function named {row.id}_..."]
    if row.verdict == NOT_TESTABLE and not row.note.strip():
        return [f"{row.id}: {row.verdict!r} without a note that gives the reason"]
    try:
        return [f"{row.id}: {difference}" for difference in _differences(row, evaluate(row, grounds))]
    except ClaimsError as error:
        return [f"{row.id}: {error}"]


def refreshed(row: ClaimRow, found: Evaluation) -> ClaimRow:
    """``row`` with what the code computes and its own words; a new assumption waits for its
    words."""
    limit, words = _limit(found), row.assumption or {"unit": "1", "text": ""}
    return replace(
        row,
        inputs=_used(found),
        verdict=found.verdict,
        computed={name: rounded(value) for name, value in found.computed.items()},
        assumption=limit
        and {"name": limit[0], "value": rounded(limit[1]), "unit": words["unit"], "text": words["text"]},
    )


def ledger_text(rows: Iterable[ClaimRow]) -> str:
    """The ledger as it is written: same rows, same bytes."""
    written = (yaml.safe_dump([row.as_dict()], sort_keys=False, width=116, allow_unicode=True) for row in rows)
    return _HEADER + "\n" + "\n".join(written)


def refresh(data: Path) -> bool:
    """Write what the code computes now into the ledger of ``data``; returns whether anything
    changed."""
    path, grounds = data / "claims.yaml", Grounds(data)
    text = ledger_text(refreshed(row, evaluate(row, grounds)) for row in read_ledger(data))
    changed = text != path.read_text("utf-8")
    if changed:
        write_text(path, text)
    return changed
