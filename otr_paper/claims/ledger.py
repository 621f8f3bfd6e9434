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
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from otr_core.errors import ClaimsError, InputError
from otr_core.files import write_text
from otr_paper.claims import power
from otr_paper.claims.grounds import Grounds
from otr_paper.claims.published import UNITS, Published
from otr_paper.claims.rows import IDS, ClaimRow, read_ledger
from otr_paper.claims.verdict import Condition, Evaluation, Reading, Rule

DIGITS = 6
TEXTS = ("DGrid blog 2026-01-14", "arXiv:2512.20176")
"""The authors' summary and the paper: what a claim of the texts is made in."""
_PACKAGE = "otr_paper.claims."
_HEADER = """\
# The claims ledger. Claim, why and note are written by hand; all else comes from data/published and from the function
# named in code (`otr claims --refresh`). Numbers keep six significant digits.
"""


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
    number would change, a claim of the texts whose number stands in another source, a code path that
    does not exist or belongs to another claim, and any stored value that is not what the published
    rows and the code say.
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
        for name in row.stated_rows if row.origin == "texts" else ():
            source = grounds.published[name].source
            if not any(text in source for text in TEXTS):
                return [f"{row.id}: {name} is of {source!r}, expected one of {TEXTS}, whose claim it is said to be"]
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
