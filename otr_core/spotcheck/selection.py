"""What is checked, drawn from a beacon's randomness and a committed root; anyone can draw it again.

Which answers of a batch are drawn is the court's own rule (``dispute.duties.is_drawn``). Two draws
follow here: which place (position, layer) of a drawn answer, and, from a later round and the root of
the rows committed meanwhile, which unit of that layer. Each is SHA-256 of a tag, the randomness, the root and an
index, read as an integer. An integer beyond the last multiple of the number of outcomes would
favour the first outcomes, and is replaced by the next one of the stream.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from otr_core.encoding import tagged_hash
from otr_core.errors import ParameterError
from otr_core.poea.receipt import Receipt

SPAN = 2**256


def uniform(randomness: bytes, root: bytes, label: str, index: int, below: int) -> int:
    """A whole number from 0 to ``below`` − 1, each equally likely.

    It is the first of a stream of 256-bit numbers that lies below the largest multiple of
    ``below``, reduced.

    Args:
        randomness, root: what is drawn from: 32 bytes each. label, index: what is drawn, and its
            number.

    Raises:
        ParameterError: ``below`` is not positive.
    """
    if below < 1:
        raise ParameterError("below", below, "at least 1")
    limit = SPAN - SPAN % below
    attempt = 0
    while True:
        data = struct.pack("<QI", index, attempt)
        value = int.from_bytes(tagged_hash(f"spot-check/{label}", randomness + root + data), "big")
        if value < limit:
            return value % below
        attempt += 1


def draw_place(randomness: bytes, batch_root: bytes, query: int, receipt: Receipt) -> tuple[int, int]:
    """(position, layer) of a drawn query: every leaf of the trace that its ``receipt`` states
    equally likely."""
    return divmod(uniform(randomness, batch_root, "place", query, receipt.trace.leaves), receipt.layers)


def draw_unit(
    randomness: bytes, rows_root: bytes, number: int, shares: Mapping[str, int], blocks: Mapping[str, int]
) -> tuple[str, int]:
    """(operator, block): the operator by its share, then each of its blocks equally likely.

    Args:
        rows_root: what the operator committed to after the place was known.
        number: 0-based count of units drawn there. shares: whole numbers by operator. blocks: how
            many each has.

    Raises:
        ParameterError: no operator has a share.
    """
    at = uniform(randomness, rows_root, "operator", number, sum(shares.values()))
    for operator, share in shares.items():
        if at < share:
            return operator, uniform(randomness, rows_root, f"block {operator}", number, blocks[operator])
        at -= share
    raise ParameterError("shares", dict(shares), "whole numbers above 0")


_OPERATORS = "attention.norm q k v query key attention o mlp.norm gate up product down"

#: Chance of each operator in the last draw, in proportion. A fault in the middle of the MLP can be
#: confined to a part hidden / intermediate of an operator's units (3/8 for SmolLM2), one elsewhere
#: to no less than all of them. With these shares every choice of the operator is equally bad for a
#: cheat: it is caught with chance 1/18 per unit drawn.
SHARES: Mapping[str, int] = dict.fromkeys(_OPERATORS.split(), 3) | dict.fromkeys(("gate", "up", "product"), 8)
