"""The commitment to all cells and its one opening (Ligero's code, as in Brakedown and Diamond–Posen).

The cells are rows of 2^k; each row is encoded by Reed–Solomon at rate 1/2, and a Merkle tree is made
over the columns. To open the cells' multilinear extension at a point, the rows are combined with
the weights of the point's high bits; the combination is sent in the clear and held against columns
that are drawn after it. The point comes out of a sum-check, so that its coordinates are random, and
the same combination tests that the rows are near code words.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from otr_core import merkle
from otr_core.errors import AnswerProofError, ProofError
from otr_core.spotcheck.proof.blocks import BLOWUP_BITS, QUERIES, CellLayout
from otr_core.spotcheck.proof.claims import Ledger
from otr_core.spotcheck.proof.field import (
    Ext,
    Words,
    add,
    combine,
    dot,
    eq_table,
    mul,
    powers,
    root_of_unity,
    total,
    transform,
)
from otr_core.spotcheck.proof.party import Opener, Party
from otr_core.spotcheck.proof.sumcheck import sumcheck


def column_leaf(column: np.ndarray) -> bytes:
    """Hash of one column of code words, uint64 (rows,)."""
    return merkle.leaf_hash(np.ascontiguousarray(column, "<u8").tobytes())


def open_claims(party: Party, ledger: Ledger, root: bytes, opener: Callable[[], Opener], of: str = "") -> None:
    """Join all claims of a ledger, and open its commitment once.

    Args:
        opener: makes the messages, asked by a side that sends. of: what the names of checks and
            messages begin with.

    Raises:
        AnswerProofError: check "join", "opening", "code word" or "columns", after ``of``.
    """
    s, channel = ledger.sizes, party.channel
    value, powers = ledger.joined(channel.challenge(f"{of}gamma"))
    cells = s.rows << s.row_bits
    (point,), left = sumcheck(channel, f"{of}join", value, (cells,), 2, lambda: opener().join(powers))
    (opened,) = channel.exts(f"{of}cells", 1, lambda: opener().cells_at().words[None])
    party.equal(f"{of}join", left, lambda: ledger.weight_at(point, powers) * opened)
    ledger.clear()
    open_cells(party, s, root, point, opened, opener, of)


def open_cells(
    party: Party, s: CellLayout, root: bytes, point: list[Ext], opened: Ext, opener: Callable[[], Opener], of: str
) -> None:
    """Check that the committed cells' extension at a point is ``opened``."""
    channel = party.channel
    high = eq_table(point[s.row_bits :], s.rows)
    row = channel.words(f"{of}row", (1 << s.row_bits, 2), lambda: opener().combined_row(high))
    party.equal(f"{of}opening", opened, lambda: dot(row, eq_table(point[: s.row_bits])))
    size_bits = s.row_bits + BLOWUP_BITS
    places = channel.places(f"{of}columns", QUERIES, size_bits)
    columns = channel.words(f"{of}columns", (len(places), s.rows), lambda: opener().columns_at(places))
    depth = merkle.HASH_BYTES * size_bits
    paths = channel.data(f"{of}paths", depth * len(places), lambda: opener().paths_at(places))
    if channel.sends:
        return
    same = (combined_columns(columns, high) == code_word_at(row, places)).all(1)
    for at, column in enumerate(columns):
        place = places[at]
        if not same[at]:
            raise AnswerProofError(f"{of}code word", f"column {place} of another code word", "the combined row's")
        path = paths[depth * at : depth * (at + 1)]
        hashes = [path[i : i + merkle.HASH_BYTES] for i in range(0, depth, merkle.HASH_BYTES)]
        try:
            merkle.verify_inclusion(root, column_leaf(column), place, 1 << size_bits, hashes)
        except ProofError as error:
            raise AnswerProofError(f"{of}columns", error, "a column under the commitment") from error


def combined_columns(columns: Words, high: Words) -> Words:
    """Σ over rows of high · (a column's number): (columns, rows) and (rows, 2) to (columns, 2)."""
    # A number is four of 16 bits, lowest first, so that they are combined as integers are.
    parts = combine(np.ascontiguousarray(columns.T, "<u8").view("<u2"), high).reshape(-1, 4, 2)
    result = parts[:, 3]
    for part in (2, 1, 0):
        result = add(mul(result, np.uint64(2**16)), parts[:, part])
    return result


def code_word_at(row: Words, places: list[int]) -> Words:
    """Some places of the code word of a row of the extension: (cells, 2) to (places, 2).

    The code word is the row's polynomial at all roots of unity of twice its length, in the order of their exponents.
    """
    # Of the polynomial's terms those whose numbers leave the same rest are transformed, and summed at the places alone.
    size, at = len(row) << BLOWUP_BITS, np.array(places)
    rests = 1 << size.bit_length() // 2
    parts = np.zeros((2, rests, size // rests), np.uint64)
    parts[..., : len(row) // rests] = row.reshape(-1, rests, 2).T
    terms = transform(parts)[..., at % (size // rests)].transpose(0, 2, 1)
    turns = powers(root_of_unity(size.bit_length() - 1), size)[at[:, None] * np.arange(rests) % size]
    return total(mul(terms, turns)).T
