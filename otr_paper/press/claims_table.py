"""The ledger as people and machines read it: terminal tables, JSON, tables of README and docs, one
line a claim in a notebook.

What stands in it is read and judged in ``otr_paper.claims.ledger``.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otr_core.errors import ClaimsError, InputError
from otr_paper.claims import ledger
from otr_paper.claims.grounds import Grounds
from otr_paper.claims.published import Published
from otr_paper.claims.rows import ClaimRow, read_ledger
from otr_paper.claims.verdict import CONDITIONAL, CONTRADICTED, REPRODUCED, VERDICTS, Reading
from otr_paper.store.records import spelled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

HEAD = ["id", "claim", "whose", "stated", "follows", "evidence", "flips at", "stands in", "verdict"]
READING_HEAD = ["reading", "assumption", "value", "asked", "kind", "holds", "misses by"]
CONDITION_HEAD = ["what would have to be true", "asked", "nearest row", "met", "misses by", "gives up"]
_WHOSE = {"texts": "the texts", "ours": "ours", "others": "others"}


def stated_text(row: ClaimRow) -> str:
    """The stated number with its relation and unit; words as they are."""
    relation = {"=": "", "words": "", "range": "", "~": "about "}.get(row.relation, f"{row.relation} ")
    if isinstance(row.stated, str) and row.relation != "words":
        relation = ""
    value = _digits(row.stated) if isinstance(row.stated, int | float) else row.stated
    return f"{relation}{value}{'' if row.relation == 'words' else _unit(row.unit)}"


def read_text(row: ClaimRow, published: Published) -> str:
    """``stated_text``, and what words are read as, of which the row says where its verdict flips."""
    if row.relation != "words" or not row.stated_rows:
        return stated_text(row)
    unit = ledger.stated_unit(row, published)
    ends = dict.fromkeys(_digits(end) for end in published[row.stated_rows[0]].bounds(unit))
    return f"{stated_text(row)}, read as {' to '.join(ends)}{_unit(unit)}"


def _unit(unit: str) -> str:
    """A unit as it stands behind a number, with its space; none of what is counted or compared."""
    return {"1": "", "words": "", "ratio": "", "count": "", "pct": " %", "tok": " tokens"}.get(unit, f" {unit}")


def _digits(value: float) -> str:
    """Four significant digits and no powers of ten, as people write them: 0.0002501, 12.49; no more than the whole of
    what is above a thousand: 604,800."""
    if value == round(value) or abs(value) >= 1000:
        return f"{value:,.0f}" if abs(value) < 1e12 else f"{value:g}"
    text = f"{float(f'{value:.4g}'):.{3 - math.floor(math.log10(abs(value)))}f}"
    return text.rstrip("0").rstrip(".")


def _plain(text: str) -> str:
    """A text of the ledger whose numbers of six digits are shown with four."""
    return re.sub(r"(?<![\w.,-])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w-]|[.,]\d)", _shorter, text)


def _shorter(found: re.Match[str]) -> str:
    digits = found.group().lstrip("-").split("e")[0].replace(".", "").strip("0")
    return _digits(float(found.group())) if len(digits) > 4 or "e" in found.group() else found.group()


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


def whose_text(row: ClaimRow) -> str:
    """Who claims it, and where."""
    return f"{_WHOSE[row.origin]}: {row.made_in}"


def _times(factor: float | None) -> str:
    return "" if factor is None else f"{factor:.3g} times"


def follows_text(row: ClaimRow) -> str:
    """Whether the claim follows from the stated inputs."""
    if row.follows is None:
        return "no input stated"
    return "yes" if row.follows["holds"] else f"no, missed by {_times(row.follows['factor'])}"


def evidence_text(row: ClaimRow) -> str:
    """Whether measured, published and simulated values meet it, and by what factor the nearest misses."""
    if row.evidence is None:
        return "none"
    met = f"{row.evidence['meets']} of {row.evidence['of']} meet it"
    missed = not row.evidence["meets"] and row.evidence["factor"] is not None
    return f"{met}, the nearest misses by {_times(row.evidence['factor'])}" if missed else met


def conditions_text(row: ClaimRow) -> str:
    """What would have to be true, and whether any row makes it so."""
    return "; ".join(map(_condition_text, row.conditions))


def _condition_text(one: Mapping[str, Any]) -> str:
    asked, nearest = f"{one['text']} ({_plain(one['asked'])}{_unit(one['unit'])})", _plain(one["nearest"])
    if one["met"]:
        return f"{asked}: met by {nearest}" + (f", which gives up “{one['gives_up']}”" if one["gives_up"] else "")
    return asked + (f": missed by {_times(one['factor'])} ({nearest})" if nearest else ": no number says so")


def flips_text(row: ClaimRow, unit: str) -> str:
    """Where the verdict flips, and to what; ``unit`` is that of the stated number."""
    signs = (("below", "under"), ("above", "over"))
    ends = [
        f"{sign} {_digits(row.flips[side]['at'])}{_unit(unit)}: {row.flips[side]['verdict']}"
        for side, sign in signs
        if row.flips[side]
    ]
    return "; ".join(ends)


def stands_text(row: ClaimRow) -> str:
    """In how much of the ranges of its prices the verdict stands, and how often if one of its sources is left out.
    The plain reading keeps its own: without them nothing is left to judge."""
    prices, sources = row.stands["prices"], row.stands["sources"]
    named = [] if prices is None else [f"{'all' if prices == 1 else f'{prices:.0%}'} of its prices' ranges"]
    if sources is not None:
        left = "whichever source is left out" if sources == 1 else f"{sources:.0%} of its sources left out in turn"
        named += [f"{left}, the plain reading's own kept"]
    return ", ".join(named) or "nothing varies"


def claims_table(rows: list[ClaimRow], published: Published) -> list[list[str]]:
    """Rows of the terminal table, in the order of ``HEAD``."""
    cells = [
        [
            row.id,
            row.claim,
            _WHOSE[row.origin],
            stated_text(row),
            follows_text(row),
            evidence_text(row),
            flips_text(row, ledger.stated_unit(row, published)),
            stands_text(row),
            str(row.verdict),
        ]
        for row in rows
    ]
    return [[spelled(cell) for cell in line] for line in cells]


def condition_rows(row: ClaimRow) -> list[list[str]]:
    """Conditions for the terminal, in the order of ``CONDITION_HEAD``."""
    return [
        [
            one["text"],
            f"{one['asked']} {'' if one['unit'] == '1' else one['unit']}".strip(),
            one["nearest"] or "none",
            "yes" if one["met"] else "no",
            "" if one["met"] else _times(one["factor"]),
            one["gives_up"],
        ]
        for one in row.conditions
    ]


def readings_rows(readings: list[dict[str, Any]]) -> list[list[str]]:
    """Readings of ``claims_json`` for the terminal, in the order of ``READING_HEAD``."""
    return [
        [
            one["name"],
            one["assumption"],
            f"{one['value']:.4g} {'' if one['unit'] == '1' else one['unit']}".strip(),
            one["asked"],
            one["kind"],
            "yes" if one["holds"] else "no",
            "" if one["holds"] else _times(one["factor"]),
        ]
        for one in readings
    ]


def claims_json(rows: list[ClaimRow], grounds: Grounds) -> list[dict[str, Any]]:
    """The rows with the readings behind their verdicts, judged now."""
    found = []
    for row in rows:
        readings = [reading_json(reading) for reading in ledger.evaluate(row, grounds).readings]
        found.append({**row.as_dict(), "readings": readings})
    return found


def reading_json(reading: Reading) -> dict[str, Any]:
    """One reading as plain values."""
    return {
        "name": reading.name,
        "assumption": reading.assumption,
        "value": reading.value,
        "unit": reading.rule.unit,
        "asked": ledger.rule_text(reading.rule),
        "kind": reading.kind,
        "holds": reading.holds,
        "factor": reading.factor,
        "follows": reading.follows,
        "sources": list(reading.sources),
    }


#: The rows of README: the numbers of the abstract that the paper's case rests on, and what it says of its three tiers.
HEADLINES = ("L01", "L03", "L06", "L09", "L16", "L18", "L22", "L23", "L26", "L42")


def headlines_markdown(rows: list[ClaimRow]) -> str:
    """The short table of README.md: ``HEADLINES`` with their verdicts."""
    chosen = [
        [row.id, row.claim, row.made_in, stated_text(row), f"**{row.verdict}**", flips_text(row, "1")]
        for row in rows
        if row.id in HEADLINES
    ]
    return f"{counts_text(rows)}\n\n" + _table(["", "claim", "claimed in", "stated", "verdict", "flips at"], chosen)


LEDGER_HEAD = ["id", "claim", "whose", "stated", "follows", "evidence", "what would have to be true", "flips at",
               "stands in", "verdict", "why"]  # fmt: skip


def ledger_rows(rows: list[ClaimRow], published: Published) -> list[list[str]]:
    """The whole ledger, in the order of ``LEDGER_HEAD``."""
    return [
        [
            row.id,
            row.claim,
            whose_text(row),
            read_text(row, published),
            follows_text(row),
            evidence_text(row),
            conditions_text(row),
            flips_text(row, ledger.stated_unit(row, published)),
            stands_text(row),
            str(row.verdict),
            row.why,
        ]
        for row in rows
    ]


def claims_markdown(rows: list[ClaimRow], published: Published) -> str:
    """The whole table, of ``docs/claims.md``."""
    return f"{counts_text(rows)}\n\n{_table(LEDGER_HEAD, ledger_rows(rows, published))}"


def counts(rows: list[ClaimRow]) -> dict[str, int]:
    """Verdict -> how many claims of the texts have it; other rows of the ledger do not count."""
    found = Counter(str(row.verdict) for row in rows if row.origin == "texts")
    return {name: found[name] for name in VERDICTS if found[name]}


def counts_text(rows: list[ClaimRow], *, short: bool = False) -> str:
    """How the claims of the texts were judged; unless ``short``, by every verdict, and what else the
    ledger holds."""
    found, rest = counts(rows), Counter(row.origin for row in rows)
    named = (REPRODUCED, CONDITIONAL, CONTRADICTED) if short else tuple(found)
    summary = ", ".join(f"{found.get(name, 0)} {name}" for name in named)
    counted = f"{sum(found.values())} claims of the texts: {summary}"
    if short:
        return counted
    return (
        f"{counted}. Not counted: {rest['ours']} figures of our own from "
        f"their numbers and {rest['others']} of other texts."
    )


#: Topic -> first and last row of the ledger on it.
TOPICS = {
    "latency": (1, 8), "cost": (9, 16), "throughput": (17, 18), "integrity and PoQ quality": (19, 25),
    "disputes": (26, 28), "deterrence": (29, 33), "scaling and PoQ": (34, 39), "framing": (40, 42),
}  # fmt: skip


def verdicts_by_topic(rows: list[ClaimRow]) -> list[dict[str, Any]]:
    """How many claims of the texts have each verdict: one record a topic, a key a verdict that occurs."""
    order, found = counts(rows), []
    for topic, (first, last) in TOPICS.items():
        own = [row for row in rows if row.origin == "texts" and first <= int(row.id[1:]) <= last]
        found.append({"topic": topic} | {name: sum(row.verdict == name for row in own) for name in order})
    return found


_HATCHES = ("", "//", "xx", "++", "..", "\\\\")


def verdicts_figure(counted: pd.DataFrame) -> Figure:
    """Bars of ``verdicts_by_topic``, each part with its number."""
    from otr_paper.press import figures

    figure, axes = figures.subplots(figures.PAGE_IN, 2.8)
    start = 0 * counted.index
    for verdict, hatch in zip(counted.columns[1:], _HATCHES, strict=False):
        width = counted[verdict]
        axes.barh(counted.topic, width, left=start, color=figures.VERDICT_COLOURS[verdict], label=verdict, hatch=hatch,
                  edgecolor="white", linewidth=0.5)  # fmt: skip
        box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"}
        for place, number in enumerate(width):
            if number:
                middle = start[place] + number / 2
                axes.annotate(str(number), (middle, place), ha="center", va="center", bbox=box)
        start = start + width.to_numpy()
    axes.invert_yaxis()
    axes.set(xlabel="claims (count)")
    axes.grid(axis="y", visible=False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=len(counted.columns) // 2)
    return figure


def _table(head: list[str], cells: list[list[str]]) -> str:
    """A table as Markdown."""
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += ["| " + " | ".join(one.replace("|", "\\|").replace("\n", " ") for one in row) + " |" for row in cells]
    return "\n".join(lines)


def chosen_rows(data: Path, ids: list[str]) -> list[ClaimRow]:
    """The rows of these claims in the ledger of the folder ``data``, in the order asked for.

    Raises:
        InputError: an unknown id.
    """
    rows = {row.id: row for row in read_ledger(data)}
    if unknown := [claim for claim in ids if claim not in rows]:
        raise InputError(f"claims: found {', '.join(unknown) or repr('')}, expected L01 to L42")
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
    return [
        f"{row.id}  {row.verdict!s:18} {_WHOSE[row.origin]}, stated {stated_text(row)} | {computed_text(row) or '-'}"
        for row in rows
    ]
