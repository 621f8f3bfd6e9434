"""The claims ledger: ``data/claims.yaml``, one row per claim, and its check against what the code
computes.

A row says who claims what and where, which function judges it (``code``), and why the verdict is the
one it is. That function is called through one door, ``evaluate``, whatever it reads. The words of a
row (claim, why, note) are written by hand; every other value is written from the published rows and
from what the function and ``power`` compute, and never by hand. How a row reads in a table or a
notebook is the business of ``otr_paper.press.claims_table``.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from otr_core.errors import ClaimsError, InputError
from otr_core.files import write_text
from otr_paper.claims import power
from otr_paper.claims.grounds import Grounds
from otr_paper.claims.published import UNITS, Published
from otr_paper.claims.verdict import KINDS, VERDICTS, Condition, Evaluation, Reading, Rule

#: Every claim of the ledger.
IDS = tuple(f"L{number:02d}" for number in range(1, 43))
STATED_RELATIONS = ("=", "<", ">", "<=", ">=", "~", "range", "words")
ORIGINS = ("texts", "ours", "others")
"""Who makes a claim: the abstract or the authors' summary; this project, from their numbers; another
text on another system. Headlines count the first alone."""
DIGITS = 6
_PACKAGE = "otr_paper.claims."
_HEADER = """\
# The claims ledger. Claim, why and note are written by hand; all else comes from data/published and from the function
# named in code (`otr claims --refresh`). Numbers keep six significant digits.
"""


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


def _used(evaluation: Evaluation) -> tuple[str, ...]:
    """Ids of the published rows behind all readings, each once, in the order of their first use."""
    sources = (source for reading in evaluation.all_readings() for source in reading.sources)
    return tuple(dict.fromkeys(sources))


def _factor(reading: Reading | None) -> float | None:
    return rounded(reading.factor) if reading and reading.factor is not None else None


def _nearest(readings: Iterable[Reading]) -> Reading | None:
    """The reading that misses least, of those with a factor."""
    return min((one for one in readings if one.factor is not None), key=lambda one: one.factor or 0.0, default=None)


_ASKS = {"<": "below", "<=": "at most", ">": "above", ">=": "at least", "=": "equal to", "in": "from"}


def rule_text(rule: Rule) -> str:
    """What a rule asks, in words and digits."""
    top = f" to {rule.top:.6g}" if rule.relation == "in" else ""
    slack = f" within {rule.slack:.6g}" if rule.slack else ""
    unit = "" if rule.unit in ("1", "ratio") else f" {rule.unit}"
    return f"{_ASKS[rule.relation]} {rule.asked:.6g}{top}{unit}{slack}"


def _condition(one: Condition) -> dict[str, Any]:
    nearest = one.nearest
    return {
        "name": one.name,
        "text": one.text,
        "asked": f"{_ASKS[one.rule.relation]} {rounded(one.rule.asked):g}"
        + (f" to {rounded(one.rule.top):g}" if one.rule.relation == "in" else ""),
        "unit": one.rule.unit,
        "met": one.met,
        "nearest": f"{nearest.name}: {rounded(nearest.value):g}" if nearest else "",
        "factor": _factor(nearest),
        "gives_up": one.gives_up,
    }


def stated_unit(row: ClaimRow, published: Published) -> str:
    """The unit in which another number may be stated for a row: its own, or that of the row that reads
    its words."""
    return row.unit if row.unit in UNITS and row.relation != "words" else published[row.stated_rows[0]].unit


def _stated(row: ClaimRow, published: Published) -> float | str:
    """The stated number as the published rows print it; words, as they are in the ledger."""
    if row.relation == "words":
        return row.stated
    numbers = [
        f"{number:g}" for name in row.stated_rows for number in published[name].bounds(stated_unit(row, published))
    ]
    unlike = list(dict.fromkeys(numbers))
    if len(unlike) == 1:
        return float(unlike[0])
    return " to ".join(sorted(unlike, key=float)) if row.relation == "range" else " and ".join(unlike)


def _made_in(row: ClaimRow, published: Published) -> str:
    """The sources that the published rows name, each once."""
    return "; ".join(dict.fromkeys(published[name].source for name in row.stated_rows))


def _flip(row: ClaimRow, published: Published, flip: power.Flip | None) -> dict[str, Any] | None:
    if flip is None:
        return None
    name = row.stated_rows[0]
    at = published[name].bounds(stated_unit(row, published))[0] * flip.factor
    return {"at": rounded(at), "verdict": flip.verdict}


def refreshed(row: ClaimRow, grounds: Grounds, found: Evaluation | None = None) -> ClaimRow:
    """``row`` with what the published rows and the code say now, and its own words.

    Args:
        found: what ``evaluate`` gave for the row, where that is known.
    """
    found, published = found or evaluate(row, grounds), grounds.published
    judge = partial(evaluate, row)
    stands = power.standing(judge, grounds)
    below, above = power.flips(judge, grounds, row.stated_rows)
    evidence, stated = found.evidence, found.stated
    return replace(
        row,
        made_in=_made_in(row, published),
        stated=_stated(row, published),
        kind=found.readings[0].kind,
        inputs=_used(found),
        rule=f"{found.readings[0].name}: {rule_text(found.readings[0].rule)}",
        verdict=found.verdict,
        follows={"holds": stated.holds, "factor": _factor(stated)} if stated else None,
        evidence={
            "meets": sum(one.holds for one in evidence),
            "of": len(evidence),
            "factor": _factor(_nearest(evidence)),
        }
        if evidence
        else None,
        conditions=tuple(map(_condition, found.conditions)),
        flips={"below": _flip(row, published, below), "above": _flip(row, published, above)},
        stands={
            "prices": None if stands.prices is None else rounded(stands.prices),
            "sources": None if stands.sources is None else rounded(stands.sources),
        },
        computed={name: rounded(value) for name, value in found.computed.items()},
    )


def restated(row: ClaimRow, grounds: Grounds, text: str) -> tuple[ClaimRow, Grounds]:
    """The row as it would stand had the text stated another number, and the grounds that state it.

    Args:
        text: the number, in the row's unit; for a band its lower end, the other moves along.

    Raises:
        InputError: no finite number above 0, or one that cannot be judged.
    """
    unit = stated_unit(row, grounds.published)
    factor = power.other_number(grounds.published, row.stated_rows, unit, text)
    other = grounds.variant(dict.fromkeys(row.stated_rows, factor))
    if power.judged_at(partial(evaluate, row), grounds, row.stated_rows, factor) is None:
        raise InputError(f"--stated: found {row.id}={text}, expected a number that {row.id} can state, in {unit}")
    return refreshed(row, other), other


def _differences(row: ClaimRow, grounds: Grounds) -> Iterable[str]:
    """What the row says otherwise than published rows and code, one line each."""
    found = evaluate(row, grounds)
    fresh = refreshed(row, grounds, found)
    if set(row.computed) != set(found.computed):
        yield f"computed names stored {sorted(row.computed)}, expected {sorted(found.computed)}"
    for name in row.computed.keys() & found.computed.keys():
        if not _same(row.computed[name], found.computed[name]):
            yield f"{name} stored {row.computed[name]!r}, computed {rounded(found.computed[name])!r}"
    for field in fields(ClaimRow):
        stored, computed = getattr(row, field.name), getattr(fresh, field.name)
        if field.name != "computed" and stored != computed:
            yield f"{field.name} stored {stored!r}, computed {computed!r}"
    if not row.why.strip():
        yield "why: found nothing, expected a sentence that gives the reason"


def check(rows: Iterable[ClaimRow], grounds: Grounds) -> list[str]:
    """What is wrong with the ledger, one line each; an empty list says all is well.

    A claim without a row or with two, a row without a verdict or a reason, a verdict that no stated
    number would change, a code path that does not exist or belongs to another claim, and any stored
    value that is not what the published rows and the code say.
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
    if not (row.flips["below"] or row.flips["above"]):
        return [f"{row.id}: {row.verdict!r} at every stated number from {power.LEAST} to {power.MOST} times"]
    try:
        return [f"{row.id}: {difference}" for difference in _differences(row, grounds)]
    except ClaimsError as error:
        return [f"{row.id}: {error}"]


def ledger_text(rows: Iterable[ClaimRow]) -> str:
    """The ledger as it is written: same rows, same bytes."""
    written = (yaml.safe_dump([row.as_dict()], sort_keys=False, width=116, allow_unicode=True) for row in rows)
    return _HEADER + "\n" + "\n".join(written)


def refresh(data: Path) -> bool:
    """Write what the code computes now into the ledger of ``data``; returns whether anything
    changed."""
    path, grounds = data / "claims.yaml", Grounds(data)
    text = ledger_text(refreshed(row, grounds) for row in read_ledger(data))
    changed = text != path.read_text("utf-8")
    if changed:
        write_text(path, text)
    return changed
