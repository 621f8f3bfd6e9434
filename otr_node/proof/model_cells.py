"""The commitment to a model: its matrices as cells, their code words, and how they are opened.

Cells and code words are made a few rows at a time, each time they are needed, so that beside the
packed matrices little more than ``ModelCells.at_once`` of them are held.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from otr_core.lane.dims import Matrix
from otr_core.spotcheck.proof.blocks import Column, HiddenCode, hidden_code
from otr_core.spotcheck.proof.claims import RowWeights, Weights
from otr_core.spotcheck.proof.committed import REACH, ModelCommitment, WeightLayout
from otr_core.spotcheck.proof.field import Ext, Words, xmul
from otr_core.spotcheck.proof.hiding import SALT
from otr_core.spotcheck.proof.sumcheck import Rounds
from otr_node.portable import PortableModel
from otr_node.proof import kernels
from otr_node.proof.cells import AT_ONCE, CodeWords, paths_at, tree_over
from otr_node.proof.joining import Joining, fold_rows
from otr_node.proof.journal import Later
from otr_node.proof.randomness import field_numbers, seeded

k: Any = kernels  # loops without types


@dataclass(frozen=True)
class ModelCells:
    """The cells of a model's matrices.

    Attributes:
        seed: of the tails and salts that hide them, where the layout says so.
        at_once: about so many are made at once; no bit depends on it.
    """

    model: PortableModel
    layout: WeightLayout
    seed: bytes = b""
    at_once: int = AT_ONCE

    @property
    def code(self) -> HiddenCode:
        """Of rows with tails."""
        return hidden_code(self.layout.row_bits, self.layout.answers)

    @property
    def salts(self) -> Words | None:
        """What stands behind the columns in the leaves, (columns, words); None where nothing is hidden."""
        if not self.layout.answers:
            return None
        shape = 1 << self.code.size_bits, SALT
        return field_numbers(shape, seeded(self.seed, "salts"))

    def rows(self) -> Iterator[tuple[int, Words]]:
        """``chunks``, each row with its tail where something is hidden: (count, terms)."""
        for first, cells in self.chunks():
            if not self.layout.answers:
                yield first, cells
                continue
            length = self.code.terms - cells.shape[1]
            numbers = range(first, first + len(cells))
            tails = [field_numbers((length,), seeded(self.seed, f"tail of row {number}")) for number in numbers]
            yield first, np.concatenate([cells, np.stack(tails)], 1)

    def chunks(self) -> Iterator[tuple[int, Words]]:
        """All committed rows in order: the number of the first, and some of them (count, 2^row_bits).

        What is given is overwritten when the next ones are asked for.
        """
        s, row_cells = self.layout, 1 << self.layout.row_bits
        room = np.empty(max(self.at_once >> s.row_bits, 1) * row_cells, np.uint64)
        first, at = 0, 0
        for part in self._parts():
            while len(part):
                count = min(len(part), len(room) - at)
                room[at : at + count], part = part[:count], part[count:]
                at += count
                if at == len(room):
                    yield first, room.reshape(-1, row_cells)
                    first, at = first + len(room) // row_cells, 0
        if at:
            end = -(-at // row_cells) * row_cells
            room[at:end] = 0
            yield first, room[:end].reshape(-1, row_cells)

    def _parts(self) -> Iterator[Words]:
        """The cells of a few bands of blocks after the other."""
        s = self.layout
        down, along = s.block
        none = np.zeros(1, np.int64)
        for column in s.columns.values():
            layers, height, width = column.shape
            band = max(self.at_once // (4 * width * down), 1) * down
            for layer in range(layers):
                held = self.model.matrix(Matrix[column.name.upper()], layer)
                for first in range(0, height, band):
                    dense = held.dense(first, min(first + band, height))[None]
                    out = np.zeros((1, -(-dense.shape[1] // down), width // along, down, along), np.uint64)
                    k.cut_limb(dense, none, 0, 0, out)
                    yield out.ravel()

    @property
    def words(self) -> CodeWords:
        """Their code words."""
        return CodeWords(self.rows, self.layout.row_bits)


Report = Callable[[str], None]
Claims = list[tuple[Column, Weights, Ext]]
Join = Callable[[ModelCells, list[Ext]], Rounds]


def bound_bits(model: PortableModel) -> dict[str, int]:
    """By kind of accumulator, the least power of two that none reaches."""
    return {kind: math.frexp(model.bounds.accumulators[kind])[1] for kind in REACH}


def commit_to_model(model: PortableModel, layout: WeightLayout, seed: bytes = b"") -> tuple[ModelCommitment, bytes]:
    """The commitment to a model, of the same model and seed the same bytes on every machine; and the hashes
    of its columns.

    Args:
        seed: as in ``ModelCells``.
    """
    cells = ModelCells(model, layout, seed)
    hashes = cells.words.column_hashes(cells.salts)
    saturation = tuple(bound.bit_length() - 1 for bound in model.bounds.saturation)
    model_id, root = model.manifest.model_id, tree_over(hashes).root
    return ModelCommitment(model_id, root, saturation, bound_bits(model), layout.answers), hashes


def joining_weights(cells: ModelCells, claims: Claims, powers: list[Ext], sums: dict[str, Words]) -> Joining:
    """The sum-check Σ W · cell over a model's cells, W from one claim about each matrix.

    Args:
        claims: a ledger's. powers: of the joining challenge, one a claim. sums: by a matrix' name,
            Σ rows · W of its claim, (columns, 2).
    """
    s = cells.layout
    down, along = s.block
    found = [(column, weights, sums[column.name]) for column, weights, _ in claims if isinstance(weights, RowWeights)]
    across = [xmul(own.across, power.words) for (_, own, _), power in zip(found, powers, strict=True)]

    def fold(point: list[Ext], left: list[Words]) -> tuple[Words, Words]:
        values, joined = (np.zeros(((s.rows << s.row_bits) // along, 2), np.uint64) for _ in range(2))
        per_row = (1 << s.row_bits) // along
        for first, part in cells.chunks():
            fold_rows(part.reshape(-1, along), point, values[first * per_row : first * per_row + part.size // along])
        for (column, weights, _), own in zip(found, left, strict=True):
            layers, high, wide = s.blocks_of(column)
            padded = np.zeros((layers, high * down, 2), np.uint64)
            padded[:, : weights.rows.shape[1]] = weights.rows
            written = xmul(padded.reshape(layers, high, 1, down, 2), own.reshape(1, 1, wide, 1, 2))
            at = s.first_block[column.name] * down
            joined[at : at + written.size // 2] = written.reshape(-1, 2)
        return values, joined

    own_sums = [np.ascontiguousarray(own).reshape(-1, along, 2) for *_, own in found]
    return Joining(along.bit_length() - 1, own_sums, [own.reshape(-1, along, 2) for own in across], fold)


class WeightOpening:
    """Opens the commitment to a model (``party.Opener``).

    Args:
        hashes: of the columns of its code words. join: the sum-check that joins claims.
    """

    def __init__(self, cells: ModelCells, hashes: bytes, join: Join, report: Report) -> None:
        self._cells, self._hashes, self._make, self._report = cells, hashes, join, report

    def join(self, powers: list[Ext]) -> Rounds:
        self._report(f"  joining {len(powers)} claims about the model")
        self._joining = Later(lambda: self._make(self._cells, powers))
        return self._joining

    def cells_at(self) -> Ext:
        return self._joining.last

    def combined_row(self, high: Words) -> Words:
        """The rows combined with the weights ``high``."""
        terms = self._cells.code.terms if self._cells.layout.answers else 1 << self._cells.layout.row_bits
        out = np.zeros((terms, 2), np.uint64)
        for first, rows in self._cells.rows():
            k.combine_rows(rows, high[first : first + len(rows)], out)
        return out

    def columns_at(self, places: list[int]) -> Words:
        """Columns of the code words, which are made again: (places, rows)."""
        self._report(f"  encoding {self._cells.layout.rows} rows of the model")
        found, salts = self._cells.words.columns_at(places), self._cells.salts
        return found if salts is None else np.concatenate([found, salts[places]], 1)

    def paths_at(self, places: list[int]) -> bytes:
        return paths_at(tree_over(self._hashes), places)
