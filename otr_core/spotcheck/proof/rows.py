"""What relations ask about the rows of an answer: peaks and sums of norms, tops and totals of
attention, the chosen tokens' logits, and where values leave their columns.

There are two ways to know: these numbers stand in the clear (``rows_open``), or they are columns,
and each use of them is a claim (``rows_hidden``). A relation has one body for both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from otr_core.spotcheck.proof.claims import RowWeights
from otr_core.spotcheck.proof.field import Ext, Words, ones, outer
from otr_core.spotcheck.proof.party import Party

Factor = tuple[int, str, str]
"""A sign, a number of rows, and a column whose values it multiplies."""


def seen(t: Words, j: Words) -> Words:
    """t[t] · j[s] where position t sees position s."""
    return np.where(np.tri(len(t), dtype=bool)[..., None], outer(t, j), np.uint64(0))


class KnownRows(ABC):
    """Rows as one side of a proof knows them. Weights of rows, where they are one array, are (rows,
    positions, 2): rows are sites of the stream, or layers · heads.

    All methods that prove something raise AnswerProofError, with the relation's name as check.
    """

    def __init__(self, party: Party) -> None:
        self.party = party

    def stream(self, weights: RowWeights) -> Ext:
        """Σ weight · residual stream: the row's peak less ``below``."""
        peaks = self.peaks(weights.rows) * ones(weights.across)
        return peaks - self.party.claim("below", weights)

    @abstractmethod
    def peaks(self, rows: Words) -> Ext:
        """Σ row · its peak."""

    @abstractmethod
    def peak_taken(self) -> None:
        """One value of each row is its peak, or minus that."""

    @abstractmethod
    def products(
        self, check: str, rest: Callable[[], Ext], rows: tuple[Words, Words], across: Words, *factors: Factor
    ) -> None:
        """Σ of rows · across · sign · (the row's number) · (a column's value), over all factors, is ``rest``.

        Args:
            rows: weights of the rows and of positions. rest: makes its claims when it is asked.
            factors: numbers are up and down (powers of two of a norm's row), factor, and share;
                columns are those committed, and stream.
        """

    @abstractmethod
    def rests(self, weights: RowWeights) -> Ext:
        """Σ weight · (``norm_rest`` less half of what the row is divided by); that a remainder is below
        what the row is divided by is proven here, or by its cells' ranges."""

    @abstractmethod
    def squares(self, rows: Words) -> Ext:
        """Σ row · the sum of its squares."""

    @abstractmethod
    def factors(self, n: Words, t: Words) -> None:
        """A norm's factors follow from squares and peaks; n, t: weights of sites and positions."""

    @abstractmethod
    def tops(self, rows: Words) -> Ext:
        """Σ row · its top."""

    @abstractmethod
    def top_taken(self) -> None:
        """One distance of each row is 0, of a position that is seen."""

    @abstractmethod
    def totals(self, rows: Words) -> Ext:
        """Σ row · its total."""

    @abstractmethod
    def shares(self, o: Words, t: Words) -> None:
        """Shares follow from totals; o, t: weights of heads and positions."""

    @abstractmethod
    def gate_index(self, weights: RowWeights) -> Ext:
        """Σ weight · a gate's index, as it is before it is cut to the table."""

    @abstractmethod
    def cut_off(self, name: str, weights: RowWeights) -> Ext:
        """Σ weight · what a saturation of ``stream`` or ``product`` cut off."""

    @abstractmethod
    def gate_ends(self) -> None:
        """Gates and products that were cut were cut at their nearer end."""

    @abstractmethod
    def stream_ends(self) -> None:
        """What a saturation of the stream cut off was cut off at its bound."""

    @abstractmethod
    def logits(self, g: Words) -> Ext:
        """Σ g · the logit of a chosen token."""

    @abstractmethod
    def logit_taken(self) -> None:
        """One logit of each step of a drawn answer is the largest."""

    @abstractmethod
    def draws(self, g: Words, chosen: NDArray[np.int64]) -> None:
        """The drawn part of all weights is passed by the chosen token, and by none before it."""

    @abstractmethod
    def rooms(self, w: Words) -> Ext:
        """Σ w · the chosen token's room, which is below 2^18."""
