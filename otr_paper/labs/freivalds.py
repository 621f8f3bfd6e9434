"""Freivalds' check of a matrix product over a field above every value: exact, and what it would cost
a fisherman.

For claimed accumulators Y = X·Wᵀ (before rounding) and a secret random vector r, the audit compares
X·(Wᵀr) with Y·r modulo p = 2^64 − 2^32 + 1. Wᵀr is made once per matrix, so that auditing a position
takes one multiplication per value read or claimed, not one per weight.

Equality modulo p is equality of integers because of two premises, and both are checked: what a row
can give is at most ``reach`` · max|x|, of which twice stays below p; and a claimed value beyond
that is refused before any arithmetic. A row that is wrong then differs from the right one by a
vector that is not 0 modulo p, and r lies in its kernel with probability 1/p (R. Freivalds, 1977), if
the operator knew nothing of r when it committed to the row.

The audit sees the products alone, and every accumulator of them has to be sent to it.
``benches.spotchecks.measure_audit`` holds that against running the answer again.
"""

# The loop takes arrays as numba sees them.
# mypy: allow-untyped-defs, allow-untyped-calls
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otr_core.errors import ParameterError
from otr_core.spotcheck.proof.field import P, Words, combine
from otr_node.integers.compiled import compiled
from otr_node.proof.arithmetic import ZERO_WORD, plus, residue, times

Integers = NDArray[np.int64]


LANES = 32
"""Sums that run beside each other, so that a compiler makes vectors of them."""


@compiled
def weigh_rows(values, weights, out):
    """out[t] = Σ_j values[t, j] · weights[j] modulo p, of int64 values and words below p."""
    sums = np.empty(LANES, np.uint64)
    whole = values.shape[1] // LANES * LANES
    for t in range(values.shape[0]):
        sums[:] = ZERO_WORD
        row = values[t]
        for first in range(0, whole, LANES):
            some, own = row[first : first + LANES], weights[first : first + LANES]
            for lane in range(LANES):
                sums[lane] = plus(sums[lane], times(residue(some[lane]), own[lane]))
        total = ZERO_WORD
        for lane in range(LANES):
            total = plus(total, sums[lane])
        for j in range(whole, values.shape[1]):
            total = plus(total, times(residue(row[j]), weights[j]))
        out[t] = total


@dataclass(frozen=True)
class Audit:
    """A secret r and Wᵀr for one matrix.

    Attributes:
        challenge: (rows,), below p. folded: (columns,), Wᵀr modulo p.
        reach: largest sum of magnitudes in a row of the matrix.
    """

    challenge: Words
    folded: Words
    reach: int

    @property
    def soundness_error(self) -> float:
        """Probability that a row passes that is not the product's."""
        return 1.0 / P

    def holds(self, x: Integers, accumulators: Integers) -> NDArray[np.bool_]:
        """Per position, whether the accumulators are those of its row; bool (positions,).

        Args:
            x: int64 (positions, columns). accumulators: int64 (positions, rows), X·Wᵀ before
                rounding, as claimed.

        Raises:
            ParameterError: a row of x so large that equality modulo p would not be equality, or a shape
                that is not the matrix's: sums are sent by who is audited.
        """
        sizes = (len(x), len(self.challenge))
        if x.shape[1] != len(self.folded) or accumulators.shape != sizes:
            raise ParameterError("shape", (x.shape, accumulators.shape), f"{(len(x), len(self.folded))}, {sizes}")
        largest = np.maximum(x.max(1, initial=0).view(np.uint64), np.abs(x.min(1, initial=0)).view(np.uint64))
        bounds = [self.reach * most for most in largest.tolist()]
        if 2 * max(bounds) >= P:
            raise ParameterError("x", f"rows that give up to {max(bounds)}", f"twice that below p = {P}")
        low, high = accumulators.min(1).tolist(), accumulators.max(1).tolist()
        within = [-most <= least and greatest <= most for most, least, greatest in zip(bounds, low, high, strict=True)]
        left, right = np.empty(len(x), np.uint64), np.empty(len(x), np.uint64)
        weigh_rows(np.ascontiguousarray(x), self.folded, left)
        weigh_rows(np.ascontiguousarray(accumulators), self.challenge, right)
        equal: NDArray[np.bool_] = left == right
        return np.asarray(within, bool) & equal


def prepare(weights: NDArray[np.int32], rng: np.random.Generator) -> Audit:
    """Draw a challenge for a matrix and fold the matrix with it.

    Args:
        weights: int32 (rows, columns). rng: the auditor's secret randomness.
    """
    challenge = rng.integers(0, P, len(weights), np.uint64)
    folded = np.ascontiguousarray(combine(weights, np.stack([challenge, np.zeros_like(challenge)], 1))[:, 0])
    return Audit(challenge, folded, int(np.abs(weights.astype(np.int64)).sum(1).max()))
