"""The prover's side of a sum-check of three factors, and how factors are made of integers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from otr_core.spotcheck.proof.field import Ext, Words
from otr_node.proof import kernels, rounds

k: Any = kernels  # loops without types
r: Any = rounds


class Products:
    """A sum-check of three factors over a box: (2, …, last axis) each, words apart, of one shape."""

    def __init__(self, factors: list[Words], shape: tuple[int, ...]) -> None:
        self._factors, self._shape = factors, list(shape)

    def _rows(self) -> list[Words]:
        """The factors as rows along the axis whose bits are bound; of an even one the pairs are all alike."""
        while len(self._shape) > 1 and self._shape[-1] == 1:
            self._shape.pop()
        length = -1 if self._shape[-1] % 2 == 0 else self._shape[-1]
        return [each.reshape(2, *((1, -1) if length < 0 else (-1, length))) for each in self._factors]

    @property
    def left(self) -> list[Words]:
        """The factors at the point, once all bits are bound: (2,) each."""
        return [each.reshape(2) for each in self._factors]

    def message(self) -> Words:
        """Values at 0 … 3."""
        found: Words = r.products(*self._rows())
        return found

    def bind(self, challenge: Ext) -> None:
        bound = []
        for each in self._rows():
            out = np.empty((2, each.shape[1], -(-each.shape[2] // 2)), np.uint64)
            r.bind_axis(each, *challenge.words, out)
            bound.append(out)
        self._factors, self._shape[-1] = bound, -(-self._shape[-1] // 2)


def words_apart(values: Words) -> Words:
    """(…, 2) to (2, …)."""
    return np.ascontiguousarray(np.moveaxis(values, -1, 0))


def combined_integers(values: NDArray[Any], weights: Words) -> Words:
    """Σ weights[i] · values[i]: signed integers (n, m) and (n, 2) to (m, 2)."""
    out = np.zeros((values.shape[1], 2), np.uint64)
    k.combine_integers(values, np.ascontiguousarray(weights), out)
    return out


def lifted(values: NDArray[np.int64]) -> Words:
    """Signed integers (…) as elements of the extension, (2, …)."""
    out = np.empty((2, *values.shape), np.uint64)
    r.lift(np.ascontiguousarray(values).ravel(), out.reshape(2, -1))
    return out


def spread_to(weights: Words, like: Words) -> Words:
    """Weights (…, 2) with axes of one value, as wide as another array (2, …)."""
    return np.ascontiguousarray(np.broadcast_to(np.moveaxis(weights, -1, 0), like.shape))


def pointwise(tables: tuple[Words, Words, Words], f: Words, g: Words) -> Products:
    """The product of weights of three axes and two factors (2, …) over them."""
    eq = np.empty_like(f)
    r.outer_three(tables[0], tables[1], words_apart(tables[2]), eq)
    return Products([eq, f, g], f.shape[1:])
