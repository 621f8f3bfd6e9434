"""Tables as lists of records: one mapping a row, from column name to value; and how shares are spelled."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

Records = list[dict[str, Any]]


def records(columns: str, rows: Iterable[Sequence[Any]]) -> Records:
    """Rows of equal width as records; ``columns`` names their values in order, as in ``"system,
    usd"``."""
    names = columns.split(", ")
    return [dict(zip(names, row, strict=True)) for row in rows]


def spelled(text: str) -> str:
    """A text as a reader is shown it: what Python writes ``9%`` is ``9 %``; bytes of an address, ``9%2F``, are left."""
    return re.sub(r"(?<=\d)%(?![0-9A-F]{2})", " %", text)
