"""Numbers printed by others: one row per figure, each with its unit, its source and how far it was
read.

``data/published/*.csv`` share these columns; further ones are kept as text in ``extra``:

==========  ==========================================================================================
id          unique over all files, for example ``zk.zkllm.7b.prove``
subject     the system, model or card; ``quantity`` what was counted
relation    ``=``, ``<``, ``>``, ``~`` (with ``value``), ``range`` (with ``low``, ``high``), ``text`` (none)
unit        one of ``UNITS``
source      where it is printed; ``date`` and ``setting`` as far as stated there; a price has a date
level       claim (of the party that profits), primary, abstract, vendor, secondary, measured,
            extrapolated, reading (a number that this project reads words of a text as)
==========  ==========================================================================================
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from otr_core.economics.quantities import dated
from otr_core.errors import DataError, MissingDataError
from otr_core.lane.dims import Dims

#: Unit -> (dimension, factor to the dimension's base unit).
UNITS: Mapping[str, tuple[str, float]] = {
    "s": ("time", 1.0),
    "ms": ("time", 1e-3),
    "us": ("time", 1e-6),
    "min": ("time", 60.0),
    "h": ("time", 3600.0),
    "d": ("time", 86400.0),
    "core-s": ("core time", 1.0),
    "1": ("number", 1.0),
    "pct": ("number", 0.01),
    "ratio": ("number", 1.0),
    "score": ("score", 1.0),
    "count": ("count", 1.0),
    "params": ("count", 1.0),
    "tok": ("tokens", 1.0),
    "tok/s": ("token rate", 1.0),
    "req/s": ("request rate", 1.0),
    "pairs/s": ("pair rate", 1.0),
    "USD": ("money", 1.0),
    "USD/tok": ("price per token", 1.0),
    "USD/Mtok": ("price per token", 1e-6),
    "USD/GPU-h": ("price per GPU time", 1.0),
    "gas": ("gas", 1.0),
    "wei": ("ether", 1e-18),
    "gwei": ("ether", 1e-9),
    "ETH": ("ether", 1.0),
    "B": ("bytes", 1.0),
    "kB": ("bytes", 1e3),
    "GB": ("bytes", 1e9),
    "TB/s": ("bandwidth", 1e12),
    "B/s": ("bandwidth", 1.0),
}
PRICED = ("money", "price per token", "price per GPU time", "ether")
"""Dimensions of prices, which say nothing without their date."""
RELATIONS = ("=", "<", ">", "~", "range", "text")
LEVELS = ("claim", "primary", "abstract", "vendor", "secondary", "measured", "extrapolated", "reading")
_COLUMNS = ("id", "subject", "quantity", "relation", "value", "low", "high", "unit", "setting", "date", "source")
_ALL_COLUMNS = (*_COLUMNS, "level", "note")


@dataclass(frozen=True)
class Row:
    """One published figure. ``value`` is NaN where a range or only words are printed."""

    id: str
    subject: str
    quantity: str
    relation: str
    value: float
    low: float
    high: float
    unit: str
    setting: str
    date: str
    source: str
    level: str
    note: str
    extra: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("id", "subject", "quantity", "source"):
            if not getattr(self, name).strip():
                raise DataError(f"published row {self.id!r}: {name} found empty, expected text")
        for name, found, allowed in (
            ("relation", self.relation, RELATIONS),
            ("level", self.level, LEVELS),
            ("unit", self.unit, tuple(UNITS)),
        ):
            if found not in allowed:
                raise DataError(f"published row {self.id!r}: {name} found {found!r}, expected one of {allowed}")
        has_value, has_range = not math.isnan(self.value), not (math.isnan(self.low) or math.isnan(self.high))
        no_range = math.isnan(self.low) and math.isnan(self.high)
        good = {"range": not has_value and has_range and self.low < self.high, "text": not has_value and no_range}
        if not good.get(self.relation, has_value and no_range):
            raise DataError(
                f"published row {self.id!r}: found value {self.value}, low {self.low}, high {self.high}, "
                f"expected what relation {self.relation!r} needs"
            )

        if UNITS[self.unit][0] in PRICED and not dated(self.date):
            raise DataError(f"published row {self.id!r}: date found {self.date!r}, expected one: its price moves")

    def number(self, unit: str) -> float:
        """The printed number in ``unit``; the limit itself where only a bound is printed.

        Raises:
            DataError: the row prints a range or only words, or ``unit`` measures something else.
        """
        if math.isnan(self.value):
            raise DataError(f"published row {self.id!r}: relation {self.relation!r} has no single number; use bounds()")
        return self.value * self._factor(unit)

    def bounds(self, unit: str) -> tuple[float, float]:
        """Lowest and highest printed number in ``unit``; both the same for a single number."""
        low, high = (self.low, self.high) if self.relation == "range" else (self.value, self.value)
        if math.isnan(low):
            raise DataError(f"published row {self.id!r}: prints words only, expected numbers")
        factor = self._factor(unit)
        return low * factor, high * factor

    def scaled(self, factor: float) -> Row:
        """The row with every number of it times ``factor``."""
        return replace(self, value=self.value * factor, low=self.low * factor, high=self.high * factor)

    def _factor(self, unit: str) -> float:
        if unit not in UNITS:
            raise DataError(f"unit: found {unit!r}, expected one of {tuple(UNITS)}")
        (dimension, scale), (wanted, wanted_scale) = UNITS[self.unit], UNITS[unit]
        if dimension != wanted:
            raise DataError(
                f"published row {self.id!r}: found unit {self.unit!r}, expected one of {wanted} for {unit!r}"
            )
        return scale / wanted_scale


class Published(Mapping[str, Row]):
    """All published figures by row id."""

    def __init__(self, rows: Mapping[str, Row]) -> None:
        self._rows = dict(rows)

    def __getitem__(self, row_id: str) -> Row:
        try:
            return self._rows[row_id]
        except KeyError:
            raise DataError(f"published row {row_id!r}: not found in data/published") from None

    def __contains__(self, row_id: object) -> bool:
        return row_id in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def number(self, row_id: str, unit: str) -> float:
        """``self[row_id].number(unit)``."""
        return self[row_id].number(unit)

    def bounds(self, row_id: str, unit: str) -> tuple[float, float]:
        """``self[row_id].bounds(unit)``."""
        return self[row_id].bounds(unit)

    def scaled(self, factors: Mapping[str, float]) -> Published:
        """The same rows, with every number of the named ones times its factor.

        Raises:
            DataError: no such row.
        """
        changed = {name: self[name].scaled(factor) for name, factor in factors.items()}
        return Published({**self._rows, **changed})

    def starting(self, prefix: str) -> list[Row]:
        """Rows whose id starts with ``prefix``, in file order."""
        return [row for row in self._rows.values() if row.id.startswith(prefix)]


def _read(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream, strict=True)
        missing = [name for name in _ALL_COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise DataError(f"{path.name}: columns {missing} missing, expected {list(_ALL_COLUMNS)}")
        for record in reader:
            if None in record or None in record.values():
                raise DataError(f"{path.name}, line {reader.line_num}: number of cells differs from the header")
            try:
                numbers = {name: float(record.pop(name) or "nan") for name in ("value", "low", "high")}
            except ValueError as error:
                raise DataError(f"{path.name}, line {reader.line_num}: {error}, expected a number") from error
            texts: dict[str, Any] = {name: record.pop(name) for name in _ALL_COLUMNS if name in record}
            yield Row(**{**texts, **numbers, "extra": record})


def load_published(data_dir: Path | str) -> Published:
    """Every row of ``data_dir/published/*.csv``.

    Raises:
        MissingDataError: no such folder, or no CSV in it.
        DataError: a missing column, a number that is none, an unknown unit, relation or level, an
            id used twice.
    """
    folder = Path(data_dir) / "published"
    files = sorted(folder.glob("*.csv"))
    if not files:
        raise MissingDataError(f"{folder}: no published/*.csv here; restore them from the repository")
    rows: dict[str, Row] = {}
    for path in files:
        for row in _read(path):
            if row.id in rows:
                raise DataError(f"{path.name}: id {row.id!r} found twice, expected once over all files")
            rows[row.id] = row
    return Published(rows)


def llama_70b(published: Published) -> Dims:
    """Dimensions of Llama 3 70B; constants that rounds and bytes do not depend on are those of any
    model."""
    layers = int(published.number("model.llama_70b.layers", "count"))
    return Dims(8192, 28672, layers, 64, 8, 128, 128256, 131072, 1, 1, 1)


def llama_7b() -> Dims:
    """Dimensions of Llama 2 7B (arXiv 2307.09288, and its configuration as published), constants as in
    ``llama_70b``."""
    return Dims(4096, 11008, 32, 32, 32, 128, 32000, 4096, 1, 1, 1)


def smollm2() -> Dims:
    """Dimensions of SmolLM2-135M, constants as in ``llama_70b``."""
    return Dims(576, 1536, 30, 9, 3, 64, 49152, 8192, 1, 1, 1)
