"""One side of a proof, as the relations see it. This class is the verifier; the prover's side
derives from it and adds how each message is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from otr_core.errors import AnswerProofError
from otr_core.lane.architecture import Architecture
from otr_core.lane.dims import Matrix
from otr_core.spotcheck.proof.claims import Flat, Ledger, RowWeights, Weights, by_rows
from otr_core.spotcheck.proof.committed import ModelCommitment, fed_rows
from otr_core.spotcheck.proof.facts import Facts
from otr_core.spotcheck.proof.field import (
    ONE,
    ZERO,
    Ext,
    Words,
    combine,
    dot,
    dot_base,
    eq_table,
    outer,
    residues,
    xtotal,
)
from otr_core.spotcheck.proof.layout import Sizes
from otr_core.spotcheck.proof.masked import Book
from otr_core.spotcheck.proof.scales import refuse_unhidden
from otr_core.spotcheck.proof.sumcheck import Fraction, Levels, Rounds, sum_fractions, sumcheck
from otr_core.spotcheck.proof.transcript import Channel

_ROWS = 4096  # of a matrix, made dense at once


class Dense(Protocol):
    """A matrix of integers."""

    def dense(self, first: int = 0, end: int | None = None) -> NDArray[np.int32]:
        """Some rows as they are."""


class HeldModel(Protocol):
    """The model as its holder has it, its bounds proven (``otr_node.rounding.check_bounds``)."""

    def matrix(self, which: Matrix, layer: int) -> Dense:
        """A matrix of a layer, or of the model."""


class Columns(Protocol):
    """How the side that sends shows columns of code words."""

    def columns_at(self, places: list[int]) -> Words:
        """Columns of the code words: (places, rows)."""

    def paths_at(self, places: list[int]) -> bytes:
        """Their Merkle paths, from the leaf upwards."""


class Opener(Columns, Protocol):
    """How the side that sends opens a commitment, step by step."""

    def join(self, powers: list[Ext]) -> Rounds:
        """The sum-check that joins the ledger's claims."""

    def cells_at(self) -> Ext:
        """The cells' extension at the point that joining left."""

    def combined_row(self, high: Words) -> Words:
        """The rows combined with the weights ``high``."""


class Sender(Opener, Protocol):
    """How the side that sends makes each message; it opens the commitment to the witness."""

    def functional(self, name: str, weights: Weights) -> Ext:
        """The value of a claim."""

    def flat_functional(self, flat: Flat) -> Ext:
        """The value of a claim over cells."""

    def factors(self, kind: str, tables: tuple[Any, ...]) -> Rounds:
        """The factors of a sum-check."""

    def levels(self, label: str, bits: int, what: tuple[Any, ...]) -> Levels:
        """The leaves of a sum of fractions."""

    def weight_value(self, matrix: Matrix, layers: Words, rows: Words, columns: Words) -> Ext:
        """The value of a claim about a matrix (``Party.weight``)."""

    def weight_opener(self) -> Opener:
        """What opens the commitment to the model."""


class Hider(Protocol):
    """What the side that sends adds to an ``Opener`` where it hides (``hiding``).

    Attributes:
        book: of all masks but the last opening's. mask_root: of the row that hides the model's combined one.
    """

    book: Book
    mask_root: bytes

    def mask_product(self, triples: list[tuple[int, int, int]]) -> Words:
        """What is left of two masks at the point of the sum-check over their products, (2, 2)."""

    def round_masks(self) -> Words:
        """The values of the last opening's masks, (count, 2)."""

    def mask_sum(self, of: str, across: Words) -> Words:
        """Σ across · the row that hides a combined one, (1, 2)."""

    def hidden_row(self, of: str, high: Words, epsilon: Ext) -> Words:
        """The rows combined, times epsilon, and the row that hides them: (terms, 2)."""

    def hiding_columns(self) -> Columns:
        """Shows the columns of the row that hides the model's combined one."""

    def opener_with_masks(self, dense: Words) -> Opener:
        """Opens the commitment to the witness; ``dense`` are the weights of the rows of masks, (rows, cells, 2)."""


class Party:
    """The verifier's side.

    Attributes:
        channel: the proof's messages and challenges. sizes: of the statement. architecture: of
            its model. facts: as sent; absent where rows are hidden.
        ledger: claims that are still open. model: whose matrices this side evaluates; None of a
            verifier who holds none. committed: the commitment to the model, against which claims
            about its matrices are checked; None where the verifier evaluates them. weight_ledger:
            such claims that are still open. layout: of its cells.
        tokens: all tokens, those of the prompt first. draws: of a drawn answer, one a chosen token,
            each below 2^53 (``lane.sampling.draw``). sender: who makes the messages; a verifier
            has none, and reads them. hider: likewise, where what is said is hidden.
    """

    facts: Facts
    sender: Sender
    hider: Hider

    def __init__(
        self,
        channel: Channel,
        sizes: Sizes,
        architecture: Architecture,
        model: HeldModel | None,
        tokens: tuple[int, ...],
        draws: tuple[int, ...] = (),
        committed: ModelCommitment | None = None,
    ) -> None:
        self.channel, self.sizes, self.architecture, self.model = channel, sizes, architecture, model
        self.tokens, self.draws = tokens, draws
        self.ledger = Ledger(sizes)
        self.committed = committed
        self.layout = None if committed is None else committed.layout(architecture)
        self.weight_ledger = None if self.layout is None else Ledger(self.layout)

    @property
    def hides(self) -> bool:
        """Whether what is said is hidden: where the commitment to the model is one that hides it."""
        return self.committed is not None and self.committed.answers > 0

    def refuse_beyond(self) -> None:
        """
        Raises:
            AnswerProofError: check "mode": a statement that this proof does not cover.
        """
        if any(not 0 <= token < self.sizes.d.vocab for token in self.tokens):
            raise AnswerProofError("mode", "a token beyond the vocabulary", f"ids below {self.sizes.d.vocab}")
        if self.sizes.hidden:
            refuse_unhidden(self.sizes.d)

    def tables(self, label: str, shape: tuple[int, ...]) -> list[Words]:
        """A random weight vector for each axis: the equality with a random point."""
        return [eq_table(self.channel.point(label, (n - 1).bit_length()), n) for n in shape]

    def claim(self, name: str, weights: Weights) -> Ext:
        """Σ weight · number over a column, as the prover says; it goes to the ledger."""
        (value,) = self.channel.exts(name, 1, lambda: self.sender.functional(name, weights).words[None])
        column = self.sizes.columns[name]
        cells = value + weights.sum() * column.offset if column.offset else value
        if column.bounds:
            cells = cells + dot_base(weights.row_sums(len(column.bounds)), residues(np.array(column.bounds)))
        if column.open and len(self.facts.exceptions[name][0]):
            at = weights.at(self.facts.places(name, column.shape))
            cells = cells - Ext.of(xtotal(by_rows(at, self.facts.added(self.sizes, name))))
        self.ledger.numbers.append((column, weights, cells))
        return value

    def claim_flat(self, flat: Flat, label: str) -> Ext:
        """Σ weight · cell over cells as they lie, as the prover says; it goes to the ledger."""
        (value,) = self.channel.exts(label, 1, lambda: self.sender.flat_functional(flat).words[None])
        self.ledger.flat.append((flat, value))
        return value

    def equal(self, check: str, found: Ext, expected: Ext | Callable[[], Ext]) -> None:
        """Compare; what takes long to expect is computed by the verifier alone.

        Raises:
            AnswerProofError: ``check``: the two differ.
        """
        expected = expected if isinstance(expected, Ext) else expected()
        self.channel.same(check, found, expected, ("a value that does not follow", "the relation to hold"))

    def between(self, check: str, found: list[int], first: list[int], end: list[int]) -> None:
        """Compare plain integers: first ≤ found < end.

        Raises:
            AnswerProofError: ``check``: one is not; names it.
        """
        for at, (value, low, high) in enumerate(zip(found, first, end, strict=True)):
            if not low <= value < high:
                raise AnswerProofError(check, f"number {at} at {value}", f"{low} to below {high}")

    def reduce(self, kind: str, claim: Ext, shape: tuple[int, ...], *tables: Any) -> tuple[list[Words], Ext]:
        """A sum-check of three factors; the prover makes them by its ``kind`` from ``tables``.

        Returns:
            weight vectors of the point, one for each axis; and the product there.
        """
        points, value = sumcheck(self.channel, kind, claim, shape, 3, lambda: self.sender.factors(kind, tables))
        return [eq_table(point, n) for point, n in zip(points, shape, strict=True)], value

    def fractions(self, label: str, bits: int, *what: Any) -> Fraction:
        """A sum of fractions; the prover makes them from ``what``."""
        return sum_fractions(self.channel, label, bits, lambda: self.sender.levels(label, bits, what))

    def cancel(self, check: str, fractions: list[Fraction]) -> None:
        """Whether fractions sum to zero.

        Raises:
            AnswerProofError: ``check``: they do not.
        """
        numerator, denominator = ZERO, ONE
        for each in fractions:
            if each.value is not None:
                numerator = numerator + each.value
                continue
            numerator = numerator * each.denominator + each.numerator * denominator
            denominator = denominator * each.denominator
        self.equal(check, numerator, ZERO)

    def weight(self, matrix: Matrix, layers: Words, rows: Words, columns: Words) -> Callable[[], Ext]:
        """Σ layers[l] · rows[j] · columns[k] · W_l[j, k]: a claim about the model that is committed
        to, or from the matrices held when it is asked."""
        if self.committed is not None:
            return self.claim_weight(matrix, layers, rows, columns)
        return lambda: self.evaluated(matrix, layers, rows, columns)

    def claim_weight(self, matrix: Matrix, layers: Words, rows: Words, columns: Words) -> Callable[[], Ext]:
        """The same as the prover says; it goes to the ledger of the model."""
        assert self.weight_ledger is not None
        name, of = matrix.name.lower(), (layers, rows, columns)
        (value,) = self.channel.exts(f"weights {name}", 1, lambda: self.sender.weight_value(matrix, *of).words[None])
        column = self.weight_ledger.sizes.columns[name]
        self.weight_ledger.numbers.append((column, RowWeights(outer(layers, rows), columns), value))
        return lambda: value

    def evaluated(self, matrix: Matrix, layers: Words, rows: Words, columns: Words) -> Ext:
        """The same from the matrices held."""
        result = ZERO
        for layer, own in enumerate(layers):
            result = result + Ext.of(own) * dot(self.combined(matrix, layer, rows), columns)
        return result

    def combined(self, matrix: Matrix, layer: int, rows: Words) -> Words:
        """Σ rows[j] · W[j]: (columns, 2)."""
        held, parts = self._held(matrix, layer), []
        for first in range(0, len(rows), _ROWS):
            end = min(first + _ROWS, len(rows))
            parts.append(combine(held.dense(first, end), rows[first:end]))
        return xtotal(np.stack(parts))

    def embedded(self, tokens: tuple[int, ...], t: Words, j: Words) -> Callable[[], Ext]:
        """Σ t[i] · j[k] · (row of token i of the embedding)[k], as ``weight``."""
        if self.committed is not None:
            return self.claim_weight(Matrix.EMBED, ONE.words[None], fed_rows(tokens, self.sizes.d.vocab, t), j)
        return lambda: dot_base(outer(t, j), residues(self._rows(tokens)))

    def _rows(self, tokens: tuple[int, ...]) -> NDArray[np.int64]:
        held = self._held(Matrix.EMBED, 0)
        return np.stack([held.dense(token, token + 1)[0] for token in tokens]).astype(np.int64)

    def _held(self, matrix: Matrix, layer: int) -> Dense:
        assert self.model is not None
        return self.model.matrix(matrix, layer)
