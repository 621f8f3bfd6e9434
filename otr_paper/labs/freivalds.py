"""Freivalds' check of a matrix product, as a fisherman's audit: what it would cost, and what it
does *not* prove.

For a claimed Y = X·Wᵀ and a random vector r, the audit compares X·(Wᵀr) with Y·r modulo a prime p
of 20 bits. Wᵀr is made once per model, so that auditing a position costs the width of a matrix, not
its area. It needs the rows X and the unrounded accumulators Y (a row's outputs, and the remainders
that rounding left), and works in the portable lane only: float arithmetic is no ring.

**It does not show that Y = X·Wᵀ over the integers.** It shows equality modulo p, and p is public:
an operator who adds any multiple of p to an accumulator passes always, with every r and however
often the audit is repeated. The error probability 1/p per repetition (R. Freivalds, 1977) holds
only for a Y that is wrong *modulo p*, and only against an operator who knows nothing of r. Nothing
else in this project relies on the audit: ``producers.spotchecks`` times it, and notebook 04 shows
its cost in a table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from otr_core.errors import ParameterError

PRIME = 1_048_573
"""The largest prime below 2^20: products of two residues summed over 2^12 terms stay exact in
float64."""
_MOST_TERMS = 2**12


@dataclass(frozen=True)
class Audit:
    """A secret r and Wᵀr for one matrix.

    Attributes:
        challenge: (rows, repeats) residues. folded: (columns, repeats), Wᵀr. prime: of the field.
    """

    challenge: np.ndarray
    folded: np.ndarray
    prime: int

    @property
    def soundness_error(self) -> float:
        """Largest probability that a product passes which is wrong modulo the prime; one that is
        right modulo the prime, and wrong, passes always."""
        return math.pow(self.prime, -self.challenge.shape[1])

    def holds(self, x: np.ndarray, accumulators: np.ndarray) -> np.ndarray:
        """Per position, whether the accumulators pass for its row (modulo the prime); bool
        (positions,).

        Args:
            x: int64 (positions, columns). accumulators: int64 (positions, rows), X·Wᵀ before
                rounding.
        """
        left = _product(x % self.prime, self.folded, self.prime)
        right = _product(accumulators % self.prime, self.challenge, self.prime)
        return np.asarray((left == right).all(axis=1))


def prepare(weights: np.ndarray, rng: np.random.Generator, *, repeats: int = 2, prime: int = PRIME) -> Audit:
    """Draw a challenge for a matrix and fold the matrix with it.

    Args:
        weights: int64 (rows, columns). rng: the auditor's secret randomness.

    Raises:
        ParameterError: no repetition, or a prime above PRIME.
    """
    if repeats < 1:
        raise ParameterError("repeats", repeats, "at least 1")
    if not 2 <= prime <= PRIME:
        raise ParameterError("prime", prime, f"a prime up to {PRIME}")
    challenge = rng.integers(0, prime, (weights.shape[0], repeats))
    return Audit(challenge, _product((weights % prime).T, challenge, prime), prime)


def _product(a: np.ndarray, b: np.ndarray, prime: int) -> np.ndarray:
    """a·b modulo the prime, for residues; exact in float64, in pieces of 2^12 terms."""
    total = np.zeros((a.shape[0], b.shape[1]))
    for at in range(0, a.shape[1], _MOST_TERMS):
        part = a[:, at : at + _MOST_TERMS].astype(np.float64) @ b[at : at + _MOST_TERMS].astype(np.float64)
        total = (total + part) % prime
    return total
