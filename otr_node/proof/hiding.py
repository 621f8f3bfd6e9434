"""The prover of the mode that hides: its masks, and the rows that hide what is opened.

How many masks a conversation takes, and which products of them, is found by a *rehearsal*: the
verifier's side runs once over messages that say nothing. Then all are drawn and committed to, and the
conversation is held.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from otr_core.merkle import Tree
from otr_core.spotcheck.proof.blocks import hidden_code
from otr_core.spotcheck.proof.field import ZERO, Ext, Words, dot, xmul, xtotal
from otr_core.spotcheck.proof.hiding import SALT, mask_rows, say_hidden
from otr_core.spotcheck.proof.masked import Book
from otr_core.spotcheck.proof.party import Columns, Opener, Party
from otr_core.spotcheck.proof.sumcheck import bits_of
from otr_core.spotcheck.proof.transcript import Channel
from otr_core.spotcheck.proof.verify import relate_all
from otr_node.proof import kernels
from otr_node.proof.cells import AT_ONCE, CodeWords, lay_cells, paths_at, tree_over
from otr_node.proof.products import Products, words_apart
from otr_node.proof.prover import AnswerProver
from otr_node.proof.randomness import Source, field_numbers
from otr_node.proof.witness import Witness

k: Any = kernels  # loops without types


class _Silent(Channel):
    """A side that sends, and says nothing: every message is zeros, none is made."""

    def clear(self, label: str, count: int, make: Callable[[], Words]) -> list[Ext]:
        self.absorb(label, b"")
        return [ZERO] * count

    def words(self, label: str, shape: tuple[int, ...], make: Callable[[], Words]) -> Words:
        self.absorb(label, b"")
        return np.zeros(shape, np.uint64)

    def data(self, label: str, size: int, make: Callable[[], bytes]) -> bytes:
        self.absorb(label, b"")
        return bytes(size)


class _Absent:
    """Whoever would make the messages of a rehearsal."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *_: self


def rehearse(party: Party) -> Book:
    """Which masks a conversation takes: the party's own is left as it is."""
    own = (party.sizes, party.architecture, None, party.tokens, party.draws, party.committed)
    side = Party(_Silent(), *own)
    side.sender = side.hider = _Absent()  # type: ignore[assignment]
    side.channel.book = book = Book()
    relate_all(side)
    say_hidden(side, b"")
    return book


class HidingRow:
    """The random row that hides a combined row of the model, under a commitment of its own.

    Args:
        terms, size_bits: of the model's code.
    """

    def __init__(self, terms: int, size_bits: int, row_bits: int, source: Source) -> None:
        self._row = field_numbers((2, terms), source)
        self._salts = field_numbers((1 << size_bits, SALT), source)
        self._words = CodeWords(lambda: [(0, self._row)], row_bits)
        self._tree = tree_over(self._words.column_hashes(self._salts))

    @property
    def root(self) -> bytes:
        return self._tree.root

    @property
    def row(self) -> Words:
        """(terms, 2)."""
        return np.ascontiguousarray(self._row.T)

    def columns_at(self, places: list[int]) -> Words:
        """Columns with their salts."""
        return np.concatenate([self._words.columns_at(places), self._salts[places]], 1)

    def paths_at(self, places: list[int]) -> bytes:
        return paths_at(self._tree, places)


class HidingProver(AnswerProver):
    """The side that sends where what is said is hidden."""

    source: Source = staticmethod(os.urandom)
    """Of all that is drawn; it must never give the same bytes for two proofs."""

    def commit(self, witness: Witness) -> bytes:
        """Draw all masks; lay out, encode and hash the cells with them: the root."""
        self.sender = self.hider = self
        self.witness = witness
        s = self.sizes
        self.report("counting masks")
        self.rehearsed = rehearsed = rehearse(self)
        masks = field_numbers((rehearsed.count, 2), self.source)
        for (x, y), product in rehearsed.products.items():
            masks[product] = xmul(masks[x], masks[y])
        self.book = Book(masks)
        more = mask_rows(len(masks), s.row_bits)
        self.cells = lay_cells(s, witness, more)
        self.cells[s.rows :].reshape(-1)[: masks.size] = masks.reshape(-1)
        code = hidden_code(s.row_bits)
        length = self.cells.shape[1]
        rounds = 3 * bits_of(self.cells.size) + 2  # messages of the last opening: its rounds, and two numbers
        # Three pairs of rows, each one of the extension: what hides the cells, the round masks, and what hides these.
        self._last = field_numbers((6, code.terms), self.source)
        self._last[2:4, rounds:length] = 0
        self._rounds = rounds
        self._tails = field_numbers((len(self.cells), code.terms - length), self.source)
        self._salts = field_numbers((1 << code.size_bits, SALT), self.source)
        assert self.layout is not None
        assert self.committed is not None
        own = hidden_code(self.layout.row_bits, self.committed.answers)
        self._hiding = HidingRow(own.terms, own.size_bits, own.row_bits, self.source)
        self.mask_root = self._hiding.root
        return self.commit_to_cells()

    def commit_to_cells(self) -> bytes:
        self.tree: Tree = tree_over(self._code_words.column_hashes(self._salts))
        return self.tree.root

    @property
    def _code_words(self) -> CodeWords:
        return CodeWords(self._chunks, self.sizes.row_bits)

    def _chunks(self) -> Iterator[tuple[int, Words]]:
        count = max(AT_ONCE // self.cells.shape[1], 1)
        for at in range(0, len(self.cells), count):
            yield at, np.concatenate([self.cells[at : at + count], self._tails[at : at + count]], 1)
        yield len(self.cells), self._last

    def _pair(self, first: int) -> Words:
        """Two of the last rows as one of the extension, (terms, 2)."""
        return np.ascontiguousarray(self._last[first : first + 2].T)

    # --- products of masks

    def make_factors(self, kind: str, tables: tuple[Any, ...]) -> Products:
        if kind != "products":
            return super().make_factors(kind, tables)
        triples, tau = tables
        sides = [self.book.masks[[triple[side] for triple in triples]] for side in (0, 1)]
        self.of_masks = Products([words_apart(each) for each in (tau, *sides)], (len(triples),))
        return self.of_masks

    def mask_product(self, triples: list[tuple[int, int, int]]) -> Words:
        return np.stack(self.of_masks.left[1:])

    # --- openings

    def round_masks(self) -> Words:
        return self._pair(2)[: self._rounds]

    def mask_sum(self, of: str, across: Words) -> Words:
        return dot(self._hiding_row(of)[: len(across)], across).words[None]

    def _hiding_row(self, of: str) -> Words:
        return self._hiding.row if of == "weights " else self._pair(4 if of else 0)

    def hidden_row(self, of: str, high: Words, epsilon: Ext) -> Words:
        if of == "weights ":
            row = self.weight_opener().combined_row(high)
        else:
            row = self._pair(2) if of else self.combined_row(high)
        hidden: Words = xmul(row, epsilon.words)
        return xtotal(np.stack([hidden, self._hiding_row(of)]))

    def combined_row(self, high: Words) -> Words:
        out = np.zeros((self._tails.shape[1], 2), np.uint64)
        k.combine_rows(self._tails, np.ascontiguousarray(high), out)
        return np.concatenate([super().combined_row(np.ascontiguousarray(high)), out])

    def hiding_columns(self) -> Columns:
        return self._hiding

    def opener_with_masks(self, dense: Words) -> Opener:
        self.dense = dense
        return self

    def columns_at(self, places: list[int]) -> Words:
        return np.concatenate([self._code_words.columns_at(places), self._salts[places]], 1)
