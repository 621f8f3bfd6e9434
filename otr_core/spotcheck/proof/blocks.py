"""Committed cells: columns of integers over three axes, cut into blocks, in rows for a code.

Cells lie in *blocks* of ``block`` = (positions, values), so that the widths of a model need no
padding to a power of two; a limb's blocks come in the order (row, block of positions, block of
values). Rows of 2^row_bits cells are encoded and committed to (``commitment``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache, cached_property
from math import isqrt, log2

from otr_core.errors import AnswerProofError

QUERIES = 248
"""Opened columns of the code word: with rate 1/2, (3/4)^248 = 2^-102.9 at unique decoding."""
BLOWUP_BITS = 1  # the code's rate is 1/2
OPENING_BITS = -QUERIES * log2(1 - (1 - 2.0**-BLOWUP_BITS) / 2)
"""What the columns that are shown give, and are to give where rows have tails."""


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        shape: (rows, positions, values). widths: bits of each limb, lowest first; empty where a
            table bounds the only cell, or nothing does.
        offset: what is taken from the limbs. per_row: the only limb has a width of its own at every
            row and position (of norms). open: the proof may list exceptions.
        bounds: a power of two for each row, which is the offset there; with the limbs of ``widths``
            and one more the cells are in −bound … bound − 1. Empty but for the MLP's product.
    """

    name: str
    shape: tuple[int, int, int]
    widths: tuple[int, ...] = ()
    offset: int = 0
    per_row: bool = False
    open: bool = False
    bounds: tuple[int, ...] = ()

    @property
    def limbs(self) -> int:
        return max(len(self.widths) + bool(self.bounds), 1)

    @property
    def last_widths(self) -> list[int]:
        """Of a bounded column: the width of the last limb in each row."""
        return [bound.bit_length() - sum(self.widths) for bound in self.bounds]

    @property
    def shifts(self) -> list[int]:
        """By which the limbs are shifted: Σ of the widths below."""
        return [sum(self.widths[:i]) for i in range(self.limbs)]


class CellLayout(ABC):
    """Where the cells of columns lie."""

    @property
    @abstractmethod
    def columns(self) -> dict[str, Column]:
        """All columns by name, in the order of their cells."""

    @property
    @abstractmethod
    def block(self) -> tuple[int, int]:
        """(positions, values) of a block of cells, powers of two."""

    def blocks_of(self, column: Column) -> tuple[int, int, int]:
        """Blocks of one limb along the three axes."""
        rows, positions, values = column.shape
        return rows, -(-positions // self.block[0]), -(-values // self.block[1])

    @cached_property
    def first_block(self) -> dict[str, int]:
        """Number of the first block of each column; its limbs follow each other."""
        found, at = {}, 0
        for column in self.columns.values():
            found[column.name] = at
            rows, down, along = self.blocks_of(column)
            at += column.limbs * rows * down * along
        return found

    def limb_blocks(self, column: Column) -> int:
        rows, down, along = self.blocks_of(column)
        return rows * down * along

    @property
    def block_cells(self) -> int:
        return self.block[0] * self.block[1]

    @cached_property
    def blocks(self) -> int:
        """All blocks of cells that belong to a column."""
        return sum(column.limbs * self.limb_blocks(column) for column in self.columns.values())

    @cached_property
    def row_bits(self) -> int:
        """Cells of a committed row, as a power of two: about what makes the proof shortest."""
        cells = self.blocks * self.block_cells
        best = (isqrt(cells * QUERIES // 2).bit_length()) - 1
        return max(best, self.least_row_bits)

    @property
    def least_row_bits(self) -> int:
        """What a row has at least: a whole block."""
        return self.block_cells.bit_length() - 1

    @cached_property
    def rows(self) -> int:
        """Committed rows."""
        return -(-self.blocks * self.block_cells // (1 << self.row_bits))

    def cells_of(self, name: str) -> tuple[int, int]:
        """First cell of a column, and cells of one of its limbs."""
        return self.first_block[name] * self.block_cells, self.limb_blocks(self.columns[name]) * self.block_cells


@dataclass(frozen=True)
class HiddenCode:
    """The code of rows with tails: random terms behind their cells, of which as many columns tell nothing as a
    tail has terms.

    Attributes:
        row_bits: cells of a row, as a power of two. queries: columns that are shown of one opening.
        terms: of a row with its tail.
    """

    row_bits: int
    queries: int
    terms: int

    @property
    def size_bits(self) -> int:
        return self.row_bits + BLOWUP_BITS

    @property
    def column_bits(self) -> float:
        """−log2 of the share of columns that agree by chance, to the power of ``queries``."""
        return -self.queries * log2(_near(self.terms, self.size_bits))


def _near(terms: int, size_bits: int) -> float:
    """1 − half the code's distance: unique decoding."""
    return (1 + terms / (1 << size_bits)) / 2


@cache
def hidden_code(row_bits: int, openings: int = 1) -> HiddenCode:
    """The code of rows that may be opened so many times.

    Raises:
        AnswerProofError: check "mode": no number of columns is enough, as the rows are too short for their tails.
    """
    size_bits = row_bits + BLOWUP_BITS
    for queries in range(QUERIES, (1 << row_bits) // openings):
        terms = (1 << row_bits) + openings * queries
        if -queries * log2(_near(terms, size_bits)) >= OPENING_BITS:
            return HiddenCode(row_bits, queries, terms)
    raise AnswerProofError("mode", f"rows of 2^{row_bits} cells to be opened {openings} times", "longer rows")
