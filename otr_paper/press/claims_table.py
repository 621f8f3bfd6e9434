"""The ledger as people and machines read it: terminal tables, JSON, tables of README and docs, one
line a claim in a notebook.

What stands in it is read and judged in ``otr_paper.claims.ledger``.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from otr_core.errors import ClaimsError, InputError
from otr_paper.claims import ledger
from otr_paper.claims.grounds import Grounds
from otr_paper.claims.ledger import ClaimRow
from otr_paper.claims.verdict import VERDICTS

HEAD = ["id", "claim", "stated", "computed here", "verdict"]
READING_HEAD = ["reading", "assumption", "value", "kind", "holds", "gives up"]


def stated_text(row: ClaimRow) -> str:
    """The stated number with its relation and unit; words as they are."""
    relation = {"=": "", "words": "", "range": "", "~": "about "}.get(row.relation, f"{row.relation} ")
    value = f"{row.stated:g}" if isinstance(row.stated, int | float) else row.stated
    unit = "" if row.unit in ("1", "words", "ratio") else f" {row.unit}"
    return f"{relation}{value}{unit}"


#: Last word of a computed number's name -> its unit as printed.
_UNITS = {
    "s": " s",
    "ms": " ms",
    "usd": " USD",
    "gas": " gas",
    "gb": " GB",
    "tok": " tokens",
    "gwei": " gwei",
    "score": "",
    "count": "",
    "ratio": " times",
    "pct": " %",
}


def _named(name: str, value: float) -> str:
    """``answer_70b_s``, 2.44447 as ``answer 70b = 2.444 s``: names of computed numbers end in their
    unit."""
    words, _, last = name.rpartition("_")
    text = str(round(value)) if value == round(value) and abs(value) < 1e9 else f"{value:.4g}"
    if words and last in _UNITS:
        return f"{words.replace('_', ' ')} = {text}{_UNITS[last]}"
    return f"{name.replace('_', ' ')} = {text}"


def computed_text(row: ClaimRow, *, limit: int | None = None) -> str:
    """The computed numbers with their units, four significant digits; at most ``limit`` of them."""
    items = [_named(name, value) for name, value in row.computed.items()]
    hidden = len(items) - limit if limit and len(items) > limit else 0
    return "; ".join(items[:limit] + ([f"and {hidden} more"] if hidden else []))


def verdict_text(row: ClaimRow) -> str:
    """The verdict, with what it hangs on when conditional."""
    return f"{row.verdict} ({assumption_text(row)})" if row.assumption is not None else str(row.verdict)


def assumption_text(row: ClaimRow) -> str:
    """The assumption of a conditional row: its computed limit, then its words."""
    if row.assumption is None:
        return ""
    unit = "" if row.assumption["unit"] == "1" else f" {row.assumption['unit']}"
    name = str(row.assumption["name"]).removesuffix(f"_{row.assumption['unit']}").replace("_", " ")
    return f"{name} = {float(row.assumption['value']):.4g}{unit}: {row.assumption['text']}"


def claims_table(rows: list[ClaimRow]) -> list[list[str]]:
    """Rows of the terminal table, in the order of ``HEAD``."""
    return [[row.id, row.claim, stated_text(row), computed_text(row, limit=3), str(row.verdict)] for row in rows]


def readings_rows(readings: list[dict[str, Any]]) -> list[list[str]]:
    """Readings of ``claims_json`` for the terminal, in the order of ``READING_HEAD``."""
    return [
        [
            one["name"],
            one["assumption"],
            f"{one['value']:.4g} {'' if one['unit'] == '1' else one['unit']}".strip(),
            one["kind"],
            "yes" if one["holds"] else "no",
            one["replaces"],
        ]
        for one in readings
    ]


def claims_json(rows: list[ClaimRow], grounds: Grounds) -> list[dict[str, Any]]:
    """The rows with the readings behind their verdicts, judged now."""
    found = []
    for row in rows:
        readings = [vars(reading) for reading in ledger.evaluate(row, grounds).readings]
        found.append({**row.as_dict(), "readings": readings})
    return found


#: The rows of README: the numbers of the abstract that the paper's case rests on, and what it says of its three tiers.
HEADLINES = ("L01", "L03", "L06", "L09", "L12", "L18", "L22", "L23", "L26", "L42")


def headlines_markdown(rows: list[ClaimRow]) -> str:
    """The short table of README.md: ``HEADLINES`` with their verdicts."""
    chosen = [[row.id, row.claim, stated_text(row), _judged(row)] for row in rows if row.id in HEADLINES]
    return _table(rows, ["", "claim", "stated", "verdict"], chosen)


def claims_markdown(rows: list[ClaimRow]) -> str:
    """The whole table, of ``docs/claims.md``."""
    cells = [[row.id, row.claim, stated_text(row), computed_text(row, limit=3), _judged(row)] for row in rows]
    return _table(rows, ["", "claim", "stated", "computed here", "verdict"], cells)


def _judged(row: ClaimRow) -> str:
    """A verdict in bold, with what it hangs on."""
    return f"**{row.verdict}**" + (f", {assumption_text(row)}" if row.assumption is not None else "")


def _table(rows: list[ClaimRow], head: list[str], cells: list[list[str]]) -> str:
    """Markdown: how all ``rows`` of the ledger were judged, and a table of ``cells``."""
    counts = Counter(str(row.verdict) for row in rows)
    summary = ", ".join(f"{counts[name]} {name}" for name in VERDICTS if counts[name])
    lines = [f"{len(rows)} claims: {summary}.", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += ["| " + " | ".join(one.replace("|", "\\|").replace("\n", " ") for one in row) + " |" for row in cells]
    return "\n".join(lines)


def chosen_rows(data: Path, ids: list[str]) -> list[ClaimRow]:
    """The rows of these claims in the ledger of the folder ``data``, in the order asked for.

    Raises:
        InputError: an unknown id.
    """
    rows = {row.id: row for row in ledger.read_ledger(data)}
    if unknown := [claim for claim in ids if claim not in rows]:
        raise InputError(f"claims: found {', '.join(unknown)}, expected L01 to L42")
    return [rows[claim] for claim in ids]


def claim_lines(data: Path, ids: list[str]) -> list[str]:
    """One line a claim for a notebook, after checking that the stored row is what the code computes
    now.

    Raises:
        InputError: an unknown id. ClaimsError: a row that no longer matches.
    """
    rows, grounds = chosen_rows(data, ids), Grounds(data)
    if problems := [line for row in rows for line in ledger.check_row(row, grounds)]:
        raise ClaimsError("; ".join(problems))
    return [f"{row.id}  {row.verdict!s:18} stated {stated_text(row)} | {computed_text(row) or '-'}" for row in rows]
