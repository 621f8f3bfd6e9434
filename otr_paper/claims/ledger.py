"""The claims ledger: ``data/claims.yaml``, one row per claim, and its check against what the code computes.

A row says what is claimed, where, by which rule it is judged, and which function judges it (``code``). That function is
called through one door, ``evaluate``, whatever it reads. ``inputs``, ``verdict``, ``computed``, ``assumption`` and
``note`` of a row are written from the function's result and never by hand. How a row reads in a table or a notebook is
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
from otr_paper.claims.verdict import KINDS, NOT_TESTABLE, NOT_YET, VERDICTS, Evaluation

#: Every claim of the ledger.
IDS = tuple(f"L{number:02d}" for number in range(1, 43))
RELATIONS = ("=", "<", ">", "<=", ">=", "~", "range", "words")
DIGITS = 6
_PACKAGE = "otr_paper.claims."
_HEADER = """\
# The claims ledger. Texts are written by hand; inputs, verdict, computed, assumption and the note of an evaluated row
# come from the function named in code (`otr claims --refresh`). Numbers keep six significant digits.
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
        code: dotted path of the judging function, None while there is none.
        verdict: one of ``VERDICTS``; None or empty is a problem ``check`` reports.
        computed: headline numbers by name.
        assumption: for *conditional*: name, value, unit, text.
        note: what a reader must know besides; the reason for a row not judged.
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
    code: str | None
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
_TEXTS = ("id", "claim", "made_in", "unit", "relation", "kind", "rule", "note", "notebook", "figure")


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise ClaimsError(f"claims ledger, line {node.start_mark.line + 1}: key {twice[0]!r} found twice")
        return super().construct_mapping(node, deep)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _row(raw: object, position: int) -> ClaimRow:
    """One parsed row, every key checked; ``position`` names a row that has no id."""
    if not isinstance(raw, dict):
        raise ClaimsError(f"claims ledger, row {position}: found {type(raw).__name__}, expected a mapping")
    where = f"claims ledger, row {raw.get('id', position)}"
    if missing := [key for key in _KEYS if key not in raw]:
        raise ClaimsError(f"{where}: key {missing[0]!r} missing, expected {list(_KEYS)}")
    if unknown := [key for key in raw if key not in _KEYS]:
        raise ClaimsError(f"{where}: key {unknown[0]!r} unknown, expected {list(_KEYS)}")

    def expect(key: str, good: bool, allowed: str) -> None:
        if not good:
            raise ClaimsError(f"{where}: {key} found {raw[key]!r}, expected {allowed}")

    for key in _TEXTS:
        expect(key, isinstance(raw[key], str), "text")
    for key in ("claim", "made_in", "rule", "notebook"):
        expect(key, bool(raw[key].strip()), "text that is not empty")
    expect("id", raw["id"] in IDS, f"{IDS[0]} to {IDS[-1]}")
    expect("stated", isinstance(raw["stated"], str) or _number(raw["stated"]), "a finite number or words")
    expect("relation", raw["relation"] in RELATIONS, f"one of {RELATIONS}")
    expect("kind", raw["kind"] in KINDS, f"one of {KINDS}")
    expect("inputs", isinstance(raw["inputs"], list) and all(isinstance(i, str) for i in raw["inputs"]), "row ids")
    expect("tolerance", raw["tolerance"] is None or _number(raw["tolerance"]), "a finite number or null")
    expect("code", raw["code"] is None or isinstance(raw["code"], str), "a dotted path or null")
    expect("verdict", not raw["verdict"] or raw["verdict"] in VERDICTS, f"one of {VERDICTS}")
    computed, assumption = raw["computed"], raw["assumption"]
    expect(
        "computed",
        isinstance(computed, dict) and all(isinstance(k, str) and _number(v) for k, v in computed.items()),
        "a mapping of names to finite numbers",
    )
    good = assumption is None or (
        isinstance(assumption, dict) and list(assumption) == ["name", "value", "unit", "text"]
    )
    expect("assumption", good, "null, or name, value, unit and text")
    if assumption is not None:
        texts = all(isinstance(assumption[key], str) for key in ("name", "unit", "text"))
        expect("assumption", _number(assumption["value"]) and texts, "a finite value; name, unit and text in words")
    return ClaimRow(**{**raw, "inputs": tuple(raw["inputs"])})


def parse_ledger(text: str) -> list[ClaimRow]:
    """The rows of a ledger.

    Raises:
        ClaimsError: not YAML, not a list, or a row with a missing, unknown or ill-typed key; names row and key.
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


def evaluate(row: ClaimRow, grounds: Grounds) -> Evaluation | None:
    """Judge one row by calling the function that its ``code`` names; None for a row that names none.

    The function takes one argument: the published rows, and then it can read nothing else, or all the grounds.

    Raises:
        ClaimsError: no such function, or one that takes something else.
    """
    if not row.code:
        return None
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
    """Whether ``stored`` is ``computed`` rounded: at most half a unit of the last kept digit away."""
    if computed == 0:
        return abs(stored) <= 1e-12
    unit = 10.0 ** (math.floor(math.log10(abs(computed))) - DIGITS + 1)
    return abs(stored - computed) <= 0.5 * unit * (1 + 1e-6)


def _used(evaluation: Evaluation) -> tuple[str, ...]:
    """Ids of the published rows behind all readings, each once, in the order of their first use."""
    sources = (source for reading in evaluation.readings for source in reading.sources)
    return tuple(dict.fromkeys(sources))


def _differences(row: ClaimRow, found: Evaluation) -> Iterable[str]:
    """What the row says otherwise than the evaluation, one line each."""
    if found.claim != row.id:
        yield f"{row.id}: code {row.code} judges {found.claim}"
    if row.verdict != found.verdict:
        yield f"{row.id}: verdict stored {row.verdict!r}, computed {found.verdict!r}"
    if set(row.computed) != set(found.computed):
        yield f"{row.id}: computed names stored {sorted(row.computed)}, expected {sorted(found.computed)}"
    for name in row.computed.keys() & found.computed.keys():
        if not _same(row.computed[name], found.computed[name]):
            yield f"{row.id}: {name} stored {row.computed[name]!r}, computed {rounded(found.computed[name])!r}"
    stored, now = row.assumption, found.assumption
    if (stored is None) != (now is None):
        yield f"{row.id}: assumption stored {stored}, computed {now}"
    elif stored is not None and now is not None:
        if (stored["name"], stored["unit"], stored["text"]) != (now.name, now.unit, now.text):
            yield f"{row.id}: assumption stored {dict(stored)}, computed {now}"
        elif not _same(float(stored["value"]), now.value):
            yield f"{row.id}: assumption {now.name} stored {stored['value']!r}, computed {rounded(now.value)!r}"
    if row.inputs != _used(found):
        yield f"{row.id}: inputs stored {list(row.inputs)}, computed {list(_used(found))}"
    if row.note != found.note:
        yield f"{row.id}: note differs from the one the code gives"


def check(rows: Iterable[ClaimRow], grounds: Grounds) -> list[str]:
    """What is wrong with the ledger, one line each; an empty list says all is well.

    A claim without a row or with two, a row without a verdict, a row not judged without a reason, a code path that does
    not exist, and a stored verdict, number, assumption, input list or note that is not what the code computes.
    """
    rows = list(rows)
    ids = [row.id for row in rows]
    problems = [f"{claim}: found {ids.count(claim)} rows, expected 1" for claim in IDS if ids.count(claim) != 1]
    return problems + [problem for row in rows for problem in check_row(row, grounds)]


def check_row(row: ClaimRow, grounds: Grounds) -> list[str]:
    """What is wrong with one row, which alone is judged; see ``check``."""
    if not row.verdict:
        return [f"{row.id}: no verdict; refresh the ledger"]
    try:
        found = evaluate(row, grounds)
    except ClaimsError as error:
        return [f"{row.id}: {error}"]
    if found is not None:
        return list(_differences(row, found))
    if row.verdict not in (NOT_YET, NOT_TESTABLE):
        return [f"{row.id}: verdict {row.verdict!r} has no code that computes it"]
    if not row.note.strip():
        return [f"{row.id}: {row.verdict!r} without a note that gives the reason"]
    return []


def refreshed(row: ClaimRow, found: Evaluation | None) -> ClaimRow:
    """``row`` with what the code computes; a row without code keeps its texts and is *not yet evaluated*."""
    if found is None:
        return replace(row, verdict=row.verdict or NOT_YET)
    assumption = found.assumption
    return replace(
        row,
        inputs=_used(found),
        verdict=found.verdict,
        computed={name: rounded(value) for name, value in found.computed.items()},
        assumption=None
        if assumption is None
        else {
            "name": assumption.name,
            "value": rounded(assumption.value),
            "unit": assumption.unit,
            "text": assumption.text,
        },
        note=found.note,
    )


def ledger_text(rows: Iterable[ClaimRow]) -> str:
    """The ledger as it is written: same rows, same bytes."""
    written = (yaml.safe_dump([row.as_dict()], sort_keys=False, width=116, allow_unicode=True) for row in rows)
    return _HEADER + "\n" + "\n".join(written)


def refresh(data: Path) -> bool:
    """Write what the code computes now into the ledger of ``data``; returns whether anything changed."""
    path, grounds = data / "claims.yaml", Grounds(data)
    text = ledger_text(refreshed(row, evaluate(row, grounds)) for row in read_ledger(data))
    changed = text != path.read_text("utf-8")
    if changed:
        write_text(path, text)
    return changed
