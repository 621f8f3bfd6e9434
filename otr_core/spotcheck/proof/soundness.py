"""How likely a false statement is accepted: the error of each step, from a statement's own sizes.

All are for the interactive protocol; by Fiat–Shamir each hash that a forger computes is one more
try (random oracle model), so that 2^k tries take k bits off.
"""

from __future__ import annotations

import math

from otr_core.spotcheck.proof.blocks import BLOWUP_BITS, OPENING_BITS, CellLayout, hidden_code
from otr_core.spotcheck.proof.committed import COMMITTED, WeightLayout
from otr_core.spotcheck.proof.field import P
from otr_core.spotcheck.proof.layout import Sizes
from otr_core.spotcheck.proof.masked import MOST_MASKS

FIELD_BITS = 2 * math.log2(P)
POLICY_BITS = 100
"""What a verifier asks for at least."""
MOST_RELATIONS, MOST_PRODUCTS, MOST_CLAIMS = 40, 12, 100
"""Of any statement: equalities at random weights, sum-checks of three factors, and claims about
columns; of each tree of look-ups come at most ``TREE_CLAIMS`` more."""
MOST_HIDDEN_PRODUCTS, MOST_HIDDEN_CLAIMS = 24, 130
"""The same where rows are hidden: each of their numbers is one claim or more."""
TREE_CLAIMS = 2


def errors(s: Sizes, weights: WeightLayout | None = None) -> dict[str, float]:
    """Largest probability, by step, with which a false statement survives it, as log2.

    Args:
        weights: of a model that is committed to; None: the verifier evaluates its matrices.
    """
    bits = {name: sum((n - 1).bit_length() for n in c.shape) for name, c in s.columns.items()}
    widest = max(bits.values())
    groups = [group for groups in s.lookup_groups.values() for group in groups]
    trees = sum(len(s.trees(group.cells)) + 1 for group in groups)
    # A false look-up is in one group, before any challenge: that group's fractions alone must cancel.
    looked_up = max(group.cells for group in groups)
    entries = max(math.prod(s.columns[f"count_{name}"].shape[1:]) for name in s.lookup_groups)
    levels = _levels(s)
    products, claims = (MOST_HIDDEN_PRODUCTS, MOST_HIDDEN_CLAIMS) if s.hidden else (MOST_PRODUCTS, MOST_CLAIMS)
    claims += TREE_CLAIMS * trees
    found = {
        "random weights of relations (degree 1 in each bit)": math.log2(MOST_RELATIONS * widest) - FIELD_BITS,
        "sum-checks of relations (degree 3 a round)": math.log2(products * 3 * widest) - FIELD_BITS,
        # a key that is no entry's: it meets one of theirs by β, or its pole is cancelled by α
        "look-up keys (α, β)": math.log2(2 * entries + looked_up + entries) - FIELD_BITS,
        "sums of fractions (degree 3 a round, mixing)": math.log2(trees * levels * (3 * levels + 2)) - FIELD_BITS,
        **_opening(s, claims, bool(weights and weights.answers)),
    }
    if weights is not None:
        own = _opening(weights, len(COMMITTED), weights.answers)
        found |= {f"weights: {step}": error for step, error in own.items()}
    if weights is not None and weights.answers:
        found |= {
            "products of masks (degree 3 a round, mixing)": math.log2(4 * MOST_MASKS.bit_length()) - FIELD_BITS,
            "relations between masked numbers": math.log2(MOST_MASKS) - FIELD_BITS,
            "round masks: columns drawn": -hidden_code(s.row_bits).column_bits,
        }
    return found


def _levels(layout: CellLayout) -> int:
    return max((layout.rows << layout.row_bits) - 1, 1).bit_length()


def _opening(layout: CellLayout, claims: int, openings: int) -> dict[str, float]:
    """Of the one opening of a commitment.

    Args:
        openings: for how many its rows have tails; 0: they have none.
    """
    size = layout.row_bits + BLOWUP_BITS
    # Masks lie in rows of their own, and a random row hides the combined one: a line more.
    more = (2 * MOST_MASKS >> layout.row_bits) + 1 if openings else 0
    lines = max(layout.rows + more - 1, 1).bit_length() + bool(openings)
    levels = _levels(layout) + bool(openings)
    return {
        "joining the claims": math.log2(claims + 2 * levels) - FIELD_BITS,
        "proximity of combined rows": math.log2(lines + 1) + size - FIELD_BITS,
        # a code word's distance is 1 − rate; half of it is the unique decoding radius
        "columns drawn": -(hidden_code(layout.row_bits, openings).column_bits if openings else OPENING_BITS),
    }


def soundness_bits(s: Sizes, weights: WeightLayout | None = None) -> float:
    """−log2 of the sum of all errors; arguments as in ``errors``."""
    return -math.log2(sum(2.0**error for error in errors(s, weights).values()))
