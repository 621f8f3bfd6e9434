"""The values that a network's answers decide about: a CSV with ``value_usd``, ``count`` and ``date``.

``value_usd`` is what a false answer of that kind can earn whoever gives it, and what its user loses;
``count`` how many such answers came in the time the file covers; ``date`` when they were valued.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from otr_core.economics import quantities as q
from otr_core.errors import InputError, ParameterError
from otr_core.files import read_input

COLUMNS = ("value_usd", "count", "date")
MOST_ROWS = 1_000_000
KINDS = 64
"""Most values that are told apart: beyond, each counts as the next larger one that is kept."""
Column: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Claims:
    """Values in rising order, USD, and their shares of all answers, which sum to 1.

    Attributes:
        answers: how many the file counts. dates: first and last day of valuation, ISO 8601.
    """

    values_usd: Column
    shares: Column
    answers: float
    dates: tuple[str, str]

    @property
    def mean_usd(self) -> float:
        return float(self.values_usd @ self.shares)


def read_claims(path: Path) -> Claims:
    """The claims in a CSV file.

    Raises:
        InputError: unreadable, not UTF-8, other columns, no row, too many. ParameterError: a value that
            is no finite amount or beyond ``q.MOST_GIVEN``, a count below 1, a date that is none; each with its line.
    """
    raw = read_input(path, what=f"a CSV with the columns {', '.join(COLUMNS)}")
    try:
        lines = csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""), strict=True)
        head = [name.strip() for name in next(lines, [])]
        if sorted(head) != sorted(COLUMNS):
            raise InputError(f"{path}: found the columns {head}, expected {list(COLUMNS)}")
        rows = [(lines.line_num, dict(zip(head, row, strict=False)), len(row)) for row in lines if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not readable as CSV ({error}), expected UTF-8 text") from error
    if not 1 <= len(rows) <= MOST_ROWS:
        raise InputError(f"{path}: found {len(rows)} rows, expected 1 to {MOST_ROWS}")
    values, counts, dates = [], [], []
    for line, row, width in rows:
        if width != len(COLUMNS):
            raise InputError(f"{path}, line {line}: found {width} values, expected {len(COLUMNS)}")
        field = f"{path.name}, line {line}, value_usd"
        values.append(float(q.given(field, q.amount(field, _number(row["value_usd"])).item())))
        counts.append(float(q.count(f"{path.name}, line {line}, count", _number(row["count"]), least=1)))
        dates.append(_day(f"{path.name}, line {line}, date", row["date"]))
    return grouped(np.array(values), np.array(counts), (min(dates), max(dates)))


def grouped(values: Column, counts: Column, dates: tuple[str, str]) -> Claims:
    """``Claims`` of at most ``KINDS`` values: equal ones together, and of more than that each group
    counted as its largest."""
    kinds, place = np.unique(values, return_inverse=True)
    number = np.bincount(place, weights=counts)
    if kinds.size > KINDS:
        last = np.unique(np.linspace(0, kinds.size - 1, KINDS + 1)[1:].round().astype(int))
        group = np.searchsorted(last, np.arange(kinds.size))
        number, kinds = np.bincount(group, weights=number), kinds[last]
    return Claims(kinds, number / number.sum(), float(number.sum()), dates)


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text  # refused by the check, which names what was found


def _day(field: str, text: str) -> str:
    try:
        return dt.date.fromisoformat(text.strip()).isoformat()
    except ValueError as error:
        raise ParameterError(field, text, "a day such as 2026-11-26: a value without its date says nothing") from error
