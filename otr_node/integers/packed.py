"""A matrix of integers in little more than two bytes a weight."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otr_core.lane import formats as bits
from otr_node.integers import twins

LEAST, MOST = -(2**15), 2**15 - 129
"""What the dense part holds: so much that two limbs of eight bits hold it as well."""


@dataclass(frozen=True)
class RowSizes:
    """What the rows of an integer matrix are like, each number the largest among them.

    Attributes:
        largest: magnitude of a value. longest: Euclidean length, or a little more. total: sum of
            magnitudes, exact up to 2^53.
    """

    largest: float
    longest: float
    total: float

    @classmethod
    def of(cls, values: NDArray[np.int32]) -> RowSizes:
        """Sizes of int32 (rows, columns)."""
        wide = np.abs(values.astype(np.float64))
        longest = math.sqrt(float((wide * wide).sum(-1).max())) * (1 + 1e-9)
        return cls(float(wide.max()), longest, float(wide.sum(-1).max()))


@dataclass(frozen=True)
class Packed:
    """An integer matrix (rows, columns) as an int16 matrix and the few values beyond it.

    Attributes:
        low: int16, each value cut to ``LEAST`` … ``MOST``.
        starts, columns, extra: int32; row r differs from ``low`` by ``extra[j]`` in column
            ``columns[j]``, for j from ``starts[r]`` up to ``starts[r + 1]``.
        units: float64; no row of ``low`` is longer within each unit of columns (``twins.UNIT``).
        bound: proven of the lane: no sum of products with a row is larger in magnitude.
    """

    low: NDArray[np.int16]
    starts: NDArray[np.int32]
    columns: NDArray[np.int32]
    extra: NDArray[np.int32]
    units: NDArray[np.float64]
    bound: float = math.inf

    @property
    def shape(self) -> tuple[int, int]:
        return self.low.shape[0], self.low.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return sum(part.nbytes for part in self.parts)

    @property
    def parts(self) -> tuple[NDArray[Any], ...]:
        """The arrays, in the order in which kernels take them."""
        return self.low, self.starts, self.columns, self.extra

    @property
    def has_rest(self) -> bool:
        """Whether any value of these rows is beyond the dense part."""
        return bool(self.starts[-1] > self.starts[0])

    @property
    def in_floats(self) -> bool:
        """Whether float64 sums of its products are exact in any order."""
        return self.bound < bits.LIMIT

    def rows(self, first: int, end: int) -> Packed:
        """Rows ``first`` up to ``end``; nothing is copied."""
        return Packed(
            self.low[first:end], self.starts[first : end + 1], self.columns, self.extra, self.units, self.bound
        )

    def dense(self, first: int = 0, end: int | None = None) -> NDArray[np.int32]:
        """Rows ``first`` up to ``end`` (all by default) as they are: int32."""
        own = self.rows(first, self.shape[0] if end is None else end)
        values = own.low.astype(np.int32)
        row = np.repeat(np.arange(len(values)), np.diff(own.starts))
        at = slice(own.starts[0], own.starts[-1]) if len(own.starts) else slice(0)
        values[row, own.columns[at]] += own.extra[at]
        return values

    def __getitem__(self, row: int) -> NDArray[np.int32]:
        """One row, int32 (columns,)."""
        values: NDArray[np.int32] = self.dense(row, row + 1)[0]
        return values

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Some rows, in any order: int32 (len(rows), columns)."""
        return np.stack([self[int(row)] for row in rows])


class Blocks:
    """Memory in which the dense parts of many matrices lie behind one another.

    NumPy asks for large pages where it allocates ``BLOCK`` bytes, and not for a matrix of a megabyte. A decoded
    token meets each weight once, so that without them it waits for the pages' addresses as well.
    """

    BLOCK = 2**25

    def __init__(self) -> None:
        self._left = np.empty(0, np.int16)

    def take(self, shape: tuple[int, int]) -> NDArray[np.int16]:
        """Room for int16 (rows, columns), void."""
        size = math.prod(shape)
        if 2 * size >= self.BLOCK:
            return np.empty(shape, np.int16)
        if size > len(self._left):
            self._left = np.empty(self.BLOCK // 2, np.int16)
        # The next one begins where this one does within a line of the cache.
        own, self._left = self._left[:size], self._left[-(-size // 32) * 32 :]
        return own.reshape(shape)


class Packer:
    """Fills a packed matrix, a part at a time, in any order.

    Args:
        shape: of the whole. loops: have ``round_rows``, ``cut_rest`` and ``unit_lengths``
            (``forms.Form.loops``). blocks: where its dense part is to lie.
    """

    def __init__(self, shape: tuple[int, int], loops: ModuleType, blocks: Blocks) -> None:
        self._low = blocks.take(shape)
        self._counts = np.zeros(shape[0], np.int32)
        self._rests: dict[int, tuple[NDArray[np.int32], NDArray[np.int32]]] = {}
        self._loops = loops

    def add(
        self, first: int, source: NDArray[np.float32], columns: NDArray[np.float64], factor: float
    ) -> tuple[NDArray[np.int32], RowSizes]:
        """Round the rows from row ``first`` on: source · columns · factor, to nearest, ties to even.

        Returns:
            the integers, void where the largest magnitude is beyond int32; and what they are like.
        """
        values = np.empty(source.shape, np.int32)
        own = slice(first, first + len(source))
        low, counts = self._low[own], self._counts[own]
        squares, sums = np.empty(len(source)), np.empty(len(source))
        largest = float(
            self._loops.round_rows(source, columns, float(factor), LEAST, MOST, values, low, counts, squares, sums)
        )
        sizes = RowSizes(largest, math.sqrt(float(squares.max())) * (1 + 1e-9), float(sums.max()))
        if largest <= bits.INT32:
            starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
            rest = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.int32)
            self._loops.cut_rest(values, low, starts, *rest)
            self._rests[first] = rest
        return values, sizes

    def finish(self) -> Packed:
        """The matrix, without a bound."""
        starts = np.concatenate([[0], np.cumsum(self._counts)]).astype(np.int32)
        rests = [rest for _, rest in sorted(self._rests.items())]
        columns, extra = (np.concatenate(side) for side in zip(*rests, strict=True))
        return Packed(self._low, starts, columns, extra, _units(self._low, self._loops))


def _units(low: NDArray[np.int16], loops: ModuleType) -> NDArray[np.float64]:
    units = np.empty(-(-low.shape[1] // twins.UNIT))
    loops.unit_lengths(low, units)
    return units


def pack(values: NDArray[np.int32], bound: float = math.inf) -> Packed:
    """Pack int32 values (rows, columns)."""
    low = np.clip(values, LEAST, MOST).astype(np.int16)
    starts = np.concatenate([[0], np.cumsum((low != values).sum(-1))]).astype(np.int32)
    columns, extra = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.int32)
    twins.cut_rest(values, low, starts, columns, extra)  # type: ignore[no-untyped-call]
    return Packed(low, starts, columns, extra, _units(low, twins), bound)
