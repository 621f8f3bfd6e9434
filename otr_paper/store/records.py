"""Tables as lists of records: one mapping a row, from column name to value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Records = list[dict[str, Any]]


def records(columns: str, rows: Iterable[Sequence[Any]]) -> Records:
    """Rows of equal width as records; ``columns`` names their values in order, as in ``"system,
    usd"``."""
    names = columns.split(", ")
    return [dict(zip(names, row, strict=True)) for row in rows]
