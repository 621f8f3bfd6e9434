"""Numbers that are sent less a mask, and what is still to be shown of the masks.

Before anything is said the prover commits to random numbers, the *masks*. A message then is its
number less a mask, which tells nothing; the verifier goes on with *said + mask*, a sum whose second
part it does not know. Sums of such numbers, and products with numbers that both sides know, are
again said + Σ weight · mask. A product of two of them has products of masks in it; these are masks
too, each committed to beside the others, and that it is the product is shown at the end
(``hiding``). A relation between such numbers becomes a sum that has to be zero, which is linear in
masks and joins all other claims about committed cells (Frigo and Shelat, 2024, do so for circuits).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from otr_core.spotcheck.proof.field import ONE, ZERO, Ext, P, Words

MOST_MASKS = 2**20
"""Of any conversation: bounds how many sums and products are joined."""


class Book:
    """Which masks were used, and for what.

    Args:
        values: of the masks, (count, 2), on the side that knows them.

    Attributes:
        count: masks used. products: by two masks' numbers, that of the mask which is their product.
        zeros: sums that have to be zero. closed: the products were shown, so that there can be no other.
    """

    def __init__(self, values: Words | None = None, *, closed: bool = False) -> None:
        self._values, self.closed = values, closed
        self.count = 0
        self.products: dict[tuple[int, int], int] = {}
        self.zeros: list[Masked] = []

    @property
    def masks(self) -> Words:
        """Their values."""
        assert self._values is not None
        return self._values

    def take(self, count: int) -> int:
        """The first of so many masks that were not used before."""
        self.count += count
        return self.count - count

    def product(self, x: int, y: int) -> int:
        """The mask that is the product of two."""
        key = (x, y) if x <= y else (y, x)
        if key not in self.products:
            if self.closed:
                raise AssertionError(f"masks {key}: a product that nothing shows to be one")
            self.products[key] = self.take(1)
        return self.products[key]

    def joined(self, power: Ext) -> Masked:
        """Σ of the zeros, each times a power of a challenge; their list is emptied."""
        powers = [ONE]
        for _ in self.zeros[1:]:
            powers.append(powers[-1] * power)
        found = Masked.combined(self.zeros, powers[: len(self.zeros)])
        self.zeros.clear()
        return found


@dataclass(frozen=True, eq=False)
class Masked(Ext):
    """a + b·√7 + Σ weight · mask.

    Attributes:
        masks: weights by the masks' numbers. book: of the masks.
    """

    masks: dict[int, Ext] = field(default_factory=dict)
    book: Book = field(default_factory=Book)

    @property
    def said(self) -> Ext:
        """The part that is known."""
        return Ext(self.a, self.b)

    @staticmethod
    def combined(numbers: Sequence[Ext], weights: Sequence[Ext]) -> Masked:
        """Σ weight · number, of numbers that are all masked, by one book."""
        said, masks, book = ZERO, dict[int, Ext](), Book()
        for number, weight in zip(numbers, weights, strict=True):
            assert isinstance(number, Masked)
            said, book = said + number.said * weight, number.book
            for mask, own in number.masks.items():
                step = weight if own is ONE else own * weight
                masks[mask] = masks[mask] + step if mask in masks else step
        return Masked(said.a, said.b, masks, book)

    def _with(self, said: Ext, masks: dict[int, Ext]) -> Masked:
        return Masked(said.a, said.b, masks, self.book)

    def __add__(self, other: Ext | int) -> Masked:
        if not isinstance(other, Masked):
            return self._with(self.said + other, self.masks)
        masks = dict(self.masks)
        for mask, own in other.masks.items():
            masks[mask] = masks[mask] + own if mask in masks else own
        return self._with(self.said + other.said, masks)

    def __mul__(self, other: Ext | int) -> Masked:
        if not isinstance(other, Masked):
            weight = other if isinstance(other, Ext) else Ext(other % P)
            # a number as it is sent has the weight one
            masks = {mask: weight if own is ONE else own * weight for mask, own in self.masks.items()}
            return self._with(self.said * weight, masks)
        result = self._with(self.said * other.said, {})
        for own, side in ((self.said, other), (other.said, self)):
            for mask, weight in side.masks.items():
                result.masks[mask] = result.masks.get(mask, ZERO) + weight * own
        for x, left in self.masks.items():
            for y, right in other.masks.items():
                mask = self.book.product(x, y)
                result.masks[mask] = result.masks.get(mask, ZERO) + left * right
        return result

    def __neg__(self) -> Masked:
        return self._with(0 - self.said, {mask: 0 - own for mask, own in self.masks.items()})

    def __sub__(self, other: Ext | int) -> Masked:
        return self + (-other if isinstance(other, Masked) else 0 - other)

    def __rsub__(self, other: Ext | int) -> Masked:
        return -self + other

    __radd__, __rmul__ = __add__, __mul__

    def __bool__(self) -> bool:
        raise AssertionError("whether a masked number is zero is not known")

    def __eq__(self, other: object) -> bool:
        raise AssertionError("whether a masked number equals another is not known")

    __hash__ = None  # type: ignore[assignment]

    @property
    def words(self) -> Words:
        raise AssertionError("a masked number has no words")

    def weights(self, count: int) -> Words:
        """Weights of the first ``count`` masks, (count, 2)."""
        found = np.zeros((count, 2), np.uint64)
        for mask, own in self.masks.items():
            found[mask] = own.a, own.b
        return found
