"""The prover's side of a proof: how each message is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from otr_core.lane import formats as bits
from otr_core.lane.dims import Matrix
from otr_core.merkle import Tree
from otr_core.spotcheck.proof.claims import Flat, PlaneWeights, PrefixWeights, RowWeights, Weights, by_rows
from otr_core.spotcheck.proof.committed import SHARED
from otr_core.spotcheck.proof.field import (
    ONE,
    Ext,
    Words,
    dot,
    dot_base,
    residues,
    sub,
    xmul,
    xscale,
    xtotal,
)
from otr_core.spotcheck.proof.layout import PAD_ID, TEMPER_END
from otr_core.spotcheck.proof.lookups import TABLE_IDS, entries
from otr_core.spotcheck.proof.party import Party
from otr_core.spotcheck.proof.sumcheck import Levels, Rounds, interpolate
from otr_node.portable import PortableModel
from otr_node.proof import kernels, rounds
from otr_node.proof.cells import CodeWords, lay_cells, paths_at, range_widths, tree_over
from otr_node.proof.joining import Cells, Joining
from otr_node.proof.journal import Later
from otr_node.proof.model_cells import ModelCells, WeightOpening, joining_weights
from otr_node.proof.products import Products, combined_integers, lifted, pointwise, spread_to, words_apart
from otr_node.proof.row_factors import row_factors
from otr_node.proof.witness import Witness

_ROWS = 1024  # of a matrix, made dense at once
k: Any = kernels  # loops without types
r: Any = rounds


class Room:
    """Arrays that one tree of fractions after the other is worked out in: a fresh one costs as much as a round."""

    def __init__(self) -> None:
        self._held: dict[str, Words] = {}

    def take(self, name: str, rows: int, length: int) -> Words:
        """An array (rows, length) of any content; the one taken under this name before is lost."""
        if name not in self._held or self._held[name].size < rows * length:
            self._held[name] = np.empty(rows * length, np.uint64)
        return self._held[name][: rows * length].reshape(rows, length)


class Fractions:
    """A tree of fractions.

    Args:
        leaves: (4, n), both words of numerators, then of denominators; or (2, n), denominators of numerators that are
            all one. They may be overwritten.
    """

    def __init__(self, leaves: Words, room: Room | None = None) -> None:
        self._levels = [leaves]
        self._room = room or Room()
        while leaves.shape[1] > 1:
            above = self._room.take(f"level {len(self._levels)}", 4, leaves.shape[1] // 2)
            (r.add_fractions if len(leaves) == 4 else r.add_denominators)(leaves, above)
            self._levels.append(leaves := above)
        self._sides: tuple[Ext, ...] = ()
        self._claim: Ext | None = None  # of the round, less the factor of eq; None: not followed
        self._said: list[Ext] = []

    def root(self) -> Words:
        """Numerator and denominator."""
        return self._levels[-1].reshape(2, 2)

    def level(self, number: int, point: list[Ext], mix: Ext) -> Fractions:
        """The level with ``number`` bits."""
        sides = tuple(Ext.of(each) for each in self.root()) if not number else self._between(point[-1])
        self._claim, self._sides = sides[0] + mix * sides[1] if sides else None, ()
        self._levels.pop()  # the level whose claims are reduced: their values are known
        self._own, self._mix, self._point = self._levels[-1], mix, list(point)
        if len(self._own) == 2 and mix:
            # e (c0 + c1 + mix c0 c1) = e ((1 + mix c0)(1 + mix c1) − 1) / mix: one product, and one number to bind
            r.one_more(*mix.words, self._own)
        elif len(self._own) == 2:
            ones = np.repeat(np.array([[1], [0]], np.uint64), self._own.shape[1], axis=1)
            self._own = np.concatenate([ones, self._own])
        self._eq = ONE.words[:, None]
        for i, own in enumerate(point[:-1]):
            out = self._room.take(f"eq {i % 2}", 2, 2 * self._eq.shape[1])
            r.eq_double(self._eq, *own.words, out)
            self._eq = out
        return self

    def _between(self, high: Ext) -> tuple[Ext, ...]:
        """Numerator and denominator of the level above at its point, from those at both values of its last bit;
        nothing where a journal said these."""
        if not self._sides:
            return ()
        p0, p1, q0, q1 = self._sides
        return p0 + high * (p1 - p0), q0 + high * (q1 - q0)

    def message(self) -> Words:
        """A round's values at 0, 1, 2; the second follows from the claim wherever eq's factor there is not 0."""
        bit = self._point[-1]
        follows = self._claim is not None and bool(bit)
        if len(self._own) == 2:
            found = r.product_round(self._own, self._eq, not follows)
            back = self._mix.inverse
            self._said = [(Ext.of(each) - 1) * back for each in found]  # eq sums to 1
        else:
            found = r.fraction_round(self._own, self._eq, *self._mix.words, not follows)
            self._said = [Ext.of(each) for each in found]
        if follows and self._claim is not None:
            self._said[1] = self._said[0] + (self._claim - self._said[0]) * bit.inverse
        return np.stack([each.words for each in self._said])

    def bind(self, challenge: Ext) -> None:
        # Where a journal said the message, nothing was worked out here, and the next one is worked out whole.
        self._claim = interpolate(self._said, challenge) if self._said else None
        self._said = []
        self._point.pop()
        half = self._own.shape[1] // 2
        out = self._room.take(f"bound {half.bit_length() % 2}", len(self._own), half)
        for first in range(0, len(self._own), 2):
            r.bind_high(self._own[first : first + 2], *challenge.words, out[first : first + 2])
        self._own = out
        if self._eq.shape[1] > 1:
            left = self._room.take(f"half {half.bit_length() % 2}", 2, self._eq.shape[1] // 2)
            r.eq_half(self._eq, left)
            self._eq = left

    def ends(self) -> Words:
        """p0, p1, q0, q1."""
        if len(self._own) == 2:
            back = self._mix.inverse
            self._sides = (ONE, ONE, *((Ext.of(each) - 1) * back for each in self._own.T))
        else:
            self._sides = tuple(Ext.of(each) for each in (*self._own[:2].T, *self._own[2:].T))
        return np.stack([each.words for each in self._sides])


class AnswerProver(Party):
    """The side that sends."""

    witness: Witness
    cells: Words
    tree: Tree
    report: Callable[[str], None] = staticmethod(lambda line: None)
    column_hashes = b""
    """Of the commitment to the model, where there is one."""
    seed = b""
    """Of what hides it, where something does."""
    dense: Words | None = None
    """Weights of the last rows of cells, as the joining challenge made them."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._room = Room()
        self._combined: dict[Matrix, Words] = {}  # by layers, as its relation's sum-check needs them
        self._opening: WeightOpening | None = None
        self._claimed: dict[str, tuple[Words, Words]] = {}  # layers and rows of the claims about matrices

    def commit(self, witness: Witness) -> bytes:
        """Lay out, encode and hash the cells: the root."""
        self.sender = self
        self.witness = witness
        self.cells = lay_cells(self.sizes, witness)
        return self.commit_to_cells()

    def commit_to_cells(self) -> bytes:
        """Encode and hash the cells as they are: the root."""
        self.tree = tree_over(CodeWords.of(self.cells).column_hashes())
        return self.tree.root

    def equal(self, check: str, found: Ext, expected: Any) -> None:
        """An honest prover's relations hold; a forger is not stopped here. Masked ones are kept for the end."""
        if self.channel.book is not None:
            super().equal(check, found, expected)

    def between(self, check: str, found: list[int], first: list[int], end: list[int]) -> None:
        """Likewise."""

    # --- claims

    def functional(self, name: str, weights: Weights) -> Ext:
        numbers = self.witness.numbers[name]
        if isinstance(weights, RowWeights):
            sums = combined_integers(numbers.reshape(-1, numbers.shape[2]), weights.rows.reshape(-1, 2))
            return dot(sums, weights.across)
        if isinstance(weights, PlaneWeights):
            sums = combined_integers(numbers.reshape(len(numbers), -1), weights.first)
            return dot(sums, weights.plane.reshape(-1, 2))
        if isinstance(weights, PrefixWeights):
            sums = np.pad(numbers[0].cumsum(-1), ((0, 0), (1, 0)))
            return dot_base(weights.rows, residues(sums[np.arange(len(sums)), weights.ends]))
        return Ext.of(xtotal(by_rows(weights.weights, numbers[weights.places])))

    def flat_functional(self, flat: Flat) -> Ext:
        return Cells(self.sizes, self.cells).flat_value(flat)

    def combined(self, matrix: Matrix, layer: int, rows: Words) -> Words:
        held, starts = self._held(matrix, layer), range(0, len(rows), _ROWS)
        parts = [(held.dense(at, min(at + _ROWS, len(rows))), rows[at : at + _ROWS]) for at in starts]
        return xtotal(np.stack([combined_integers(dense, own) for dense, own in parts]))

    # --- claims about matrices of a model that is committed to

    def claim_weight(self, matrix: Matrix, layers: Words, rows: Words, columns: Words) -> Callable[[], Ext]:
        self._claimed[matrix.name.lower()] = layers, rows
        return super().claim_weight(matrix, layers, rows, columns)

    def weight_value(self, matrix: Matrix, layers: Words, rows: Words, columns: Words) -> Ext:
        return dot(self._row_sums(matrix.name.lower()), columns)

    def _row_sums(self, name: str) -> Words:
        """Σ layers[l] · rows[j] · W_l[j] of the claim about a matrix: (columns, 2)."""
        layers, rows = self._claimed[name]
        return xtotal(xmul(self._by_layers(Matrix[name.upper()], rows), layers[:, None]))

    def weight_opener(self) -> WeightOpening:
        if self._opening is None:
            if not self.hides:
                self.__dict__.pop("cells", None)  # the commitment to the witness is opened
            assert isinstance(self.model, PortableModel)
            assert self.layout is not None
            cells = ModelCells(self.model, self.layout, self.seed)
            self._opening = WeightOpening(cells, self.column_hashes, self._join_weights, self.report)
        return self._opening

    def _join_weights(self, cells: ModelCells, claim_powers: list[Ext]) -> Rounds:
        ledger = self.weight_ledger
        assert ledger is not None
        sums = {name: self._row_sums(name) for name in self._claimed}
        return joining_weights(cells, ledger.numbers, claim_powers, sums)

    # --- factors of sum-checks

    def factors(self, kind: str, tables: tuple[Any, ...]) -> Rounds:
        return Later(lambda: self.make_factors(kind, tables))

    def make_factors(self, kind: str, tables: tuple[Any, ...]) -> Products:
        self.report(f"  {kind}")
        makers: list[tuple[str, Callable[..., Products]]] = [
            *(("dot", self._dot), ("squares", self._squares), ("far", self._far)),
            *(("scores", self._scores), ("mix", self._mix)),
        ]
        for name, make in makers:
            if kind.partition(" ")[0] == name:
                return make(*tables)
        if made := row_factors(kind, tables, self.witness.numbers, self.sizes):
            return made
        pairs = {"silu": ("sigmoid", "gate"), "product": ("silu", "up")}
        return pointwise(tables, *(self._lifted(name) for name in pairs[kind]))

    def _lifted(self, name: str) -> Words:
        own = self.witness.numbers
        if name != "gate":
            return lifted(own[name])
        index = own["gate_index"] - bits.SIGMOID_ZERO
        if self.sizes.hidden:
            index += own["gate_above"] - own["gate_beneath"]
        return lifted(index * 8 + own["gate_low"] - 4)

    def _squares(self, rows: Words) -> Products:
        scaled = self._lifted("scaled")
        return Products([spread_to(rows[:, :, None], scaled), scaled, scaled], scaled.shape[1:])

    def _far(self, own: Words, t: Words, j: Words, beyond: str = "far", index: str = "distance") -> Products:
        near = lifted(TEMPER_END - self.witness.numbers[index])
        return pointwise((own, t, j), self._lifted(beyond), near)

    def _dot(self, matrix: Matrix, source: str, sites: list[int], layer: Words, t: Words, rows: Words) -> Products:
        values = self.witness.numbers[source]
        folded = words_apart(np.stack([combined_integers(values[site], t) for site in sites]))
        combined = words_apart(self._by_layers(matrix, rows))
        return Products([spread_to(layer[:, None], folded), folded, combined], folded.shape[1:])

    def _by_layers(self, matrix: Matrix, rows: Words) -> Words:
        """Each layer's rows combined: (layers, columns, 2)."""
        layers = self.sizes.d.layers if matrix not in SHARED else 1
        if matrix not in self._combined:
            self._combined[matrix] = np.stack([self.combined(matrix, at, rows) for at in range(layers)])
        return self._combined[matrix]

    def _scores(self, layer: Words, t: Words, head: Words, j: Words) -> Products:
        d, s = self.sizes.d, self.sizes
        turned = self.witness.numbers["turned"].reshape(d.layers, s.positions, -1, d.tile)
        keys = np.ascontiguousarray(turned[:, :, d.heads :])
        seen = np.empty((2, *keys.shape), np.uint64)
        r.seen_keys(keys, j, seen)
        seen = np.repeat(seen, d.heads // d.kv_heads, axis=3)
        query = lifted(turned[:, :, : d.heads])
        small = np.empty((2, d.layers, s.positions, d.heads), np.uint64)
        r.outer_three(layer, t, words_apart(head), small)
        return Products([spread_to(np.moveaxis(small, 0, -1)[..., None, :], seen), query, seen], seen.shape[1:])

    def _mix(self, layer: Words, t: Words, head: Words, c: Words) -> Products:
        d, s = self.sizes.d, self.sizes
        folded = np.stack([combined_integers(own, t) for own in self.witness.numbers["weight"]])
        qkv = self.witness.numbers["qkv"].reshape(d.layers, s.positions, -1, d.tile)
        values = residues(qkv[:, :, d.heads + d.kv_heads :].transpose(0, 2, 1, 3))  # (layers, kv_heads, s, tile)
        own = xtotal(xscale(c, values), 3)
        own = words_apart(np.repeat(own, d.heads // d.kv_heads, axis=1))
        eq = xmul(layer[:, None, None], head[:, None])
        return Products([spread_to(eq, own), words_apart(folded).reshape(own.shape), own], own.shape[1:])

    # --- sums of fractions

    def levels(self, label: str, count_bits: int, what: tuple[Any, ...]) -> Levels:
        return Later(lambda: self._levels(label, count_bits, what))

    def _levels(self, label: str, count_bits: int, what: tuple[Any, ...]) -> Fractions:
        self.report(f"  {label}, from cell {what[2]} of {self.cells.size} on")
        alpha, beta, first, *rest = what
        s, flat = self.sizes, self.cells.reshape(-1)
        count = rest[0] if label == "ranges" else rest[-2]
        # a tree without a gap at its end whose numerators are all one
        ones = count == 1 << count_bits and not label.startswith("table")
        leaves = self._room.take("leaves", 2 if ones else 4, 1 << count_bits)
        bottom = leaves[-2:]
        if label == "ranges":
            begin, end = first // s.block_cells, (first + count) // s.block_cells
            for low, high, ids in range_widths(s, None if s.hidden else self.facts.peak, begin, end):
                blocks = flat[low * s.block_cells : high * s.block_cells].reshape(high - low, s.block_cells)
                at = (low - begin) * s.block_cells
                r.range_leaves(blocks, residues(ids), *alpha.words, *beta.words, at, bottom)
        elif label.startswith("look up"):
            second, _, number = rest
            base, square = (alpha - beta * number).words, (beta * beta).words
            r.pair_leaves(flat[first : first + count], flat[second : second + count], *base, *square, bottom)
        else:
            self._table(flat[first : first + count], rest[1], alpha, beta, bottom)
        if not ones:
            leaves[:2] = np.array([[1], [0]], np.uint64)
            leaves[:, count:] = np.array([[0], [0], [1], [0]], np.uint64)  # beyond: 0 / 1
        if label.startswith("table"):
            leaves[0, :count] = sub(np.zeros(count, np.uint64), flat[first : first + count])
        return Fractions(leaves, self._room)

    def _table(self, counts: Words, name: str, alpha: Ext, beta: Ext, out: Words) -> None:
        index = np.arange(len(counts))
        second = np.zeros(0, np.int64)
        if name == "range":
            width = np.frexp(index.astype(np.float64))[1].astype(np.int64) - 1
            number = np.where(index == 0, PAD_ID, width)
            index = np.where(index == 0, 0, index - (1 << np.maximum(width, 0)))
        else:
            second = entries(name)
            number = np.where(index < len(second), TABLE_IDS[name], PAD_ID)
        r.range_leaves(residues(index)[None], residues(number)[None], *alpha.words, *beta.words, 0, out)
        values = by_rows(np.broadcast_to((beta * beta).words, (len(second), 2)), second)
        out[:, : len(second)] = sub(out[:, : len(second)], values.T)

    # --- the opening

    def join(self, claim_powers: list[Ext]) -> Rounds:
        self._joining = Later(lambda: self._join(claim_powers))
        return self._joining

    def _join(self, claim_powers: list[Ext]) -> Joining:
        self.report(f"  joining {len(claim_powers)} claims")
        del self.witness, self._room  # all claims about it are made
        return Cells(self.sizes, self.cells).joining(self.ledger, claim_powers, self.dense)

    def cells_at(self) -> Ext:
        return self._joining.last

    def combined_row(self, high: Words) -> Words:
        out = np.zeros((self.cells.shape[1], 2), np.uint64)
        k.combine_rows(self.cells, high, out)
        return out

    def columns_at(self, places: list[int]) -> Words:
        return CodeWords.of(self.cells).columns_at(places)

    def paths_at(self, places: list[int]) -> bytes:
        return paths_at(self.tree, places)
