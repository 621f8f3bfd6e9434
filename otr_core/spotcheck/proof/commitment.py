"""The commitment to all cells and its one opening (Ligero's code, as in Brakedown and Diamond–Posen).

The cells are rows of 2^k; each row is encoded by Reed–Solomon at rate 1/2, and a Merkle tree is made
over the columns. To open the cells' multilinear extension at a point, the rows are combined with
the weights of the point's high bits; the combination is sent in the clear and held against columns
that are drawn after it. The point comes out of a sum-check, so that its coordinates are random, and
the same combination tests that the rows are near code words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
from otr_core.spotcheck.proof.party import Columns, Opener, Party
from otr_core.spotcheck.proof.sumcheck import sumcheck
from otr_core.spotcheck.proof.transcript import Channel


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
    point, opened = join(
        party, value, s.rows << s.row_bits, lambda at: ledger.weight_at(at, powers), powers, opener, of
    )
    ledger.clear()
    open_cells(party, s, root, point, opened, opener, of)


def join(
    party: Party,
    value: Ext,
    cells: int,
    weight_at: Callable[[list[Ext]], Ext],
    powers: list[Ext],
    opener: Callable[[], Opener],
    of: str,
) -> tuple[list[Ext], Ext]:
    """Reduce Σ W · cell = value to a point: it, and the cells' extension there, as it is said.

    Args:
        weight_at: W at a point. powers: of the joining challenge, for the side that sends.
    """
    channel = party.channel
    (point,), left = sumcheck(channel, f"{of}join", value, (cells,), 2, lambda: opener().join(powers))
    (opened,) = channel.exts(f"{of}cells", 1, lambda: opener().cells_at().words[None])
    party.equal(f"{of}join", left, lambda: weight_at(point) * opened)
    return point, opened


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
    shown = show_columns(channel, places, s.rows, size_bits, opener, of)
    same_code_word(channel, shown.columns, high, row, places, size_bits, of)
    shown.check(channel, root)


@dataclass(frozen=True)
class Shown:
    """Columns of code words, (places, rows), and their paths.

    Attributes:
        size_bits: of a code word's length. of: what the names of checks begin with.
    """

    columns: Words
    paths: bytes
    places: list[int]
    size_bits: int
    of: str

    def check(self, channel: Channel, root: bytes) -> None:
        """
        Raises:
            AnswerProofError: check "columns", after ``of``: a column is not under the root.
        """
        depth = merkle.HASH_BYTES * self.size_bits
        for at, column in enumerate([] if channel.sends else self.columns):
            path = self.paths[depth * at : depth * (at + 1)]
            hashes = [path[i : i + merkle.HASH_BYTES] for i in range(0, depth, merkle.HASH_BYTES)]
            try:
                merkle.verify_inclusion(root, column_leaf(column), self.places[at], 1 << self.size_bits, hashes)
            except ProofError as error:
                raise AnswerProofError(f"{self.of}columns", error, "a column under the commitment") from error


def show_columns(
    channel: Channel, places: list[int], rows: int, size_bits: int, opener: Callable[[], Columns], of: str
) -> Shown:
    """Columns of code words of 2^size_bits values, as the side that sends shows them."""
    columns = channel.words(f"{of}columns", (len(places), rows), lambda: opener().columns_at(places))
    size = merkle.HASH_BYTES * size_bits * len(places)
    paths = channel.data(f"{of}paths", size, lambda: opener().paths_at(places))
    return Shown(columns, paths, places, size_bits, of)


def same_code_word(
    channel: Channel, columns: Words, weights: Words, row: Words, places: list[int], size_bits: int, of: str
) -> None:
    """Hold columns (places, rows), combined with weights (rows, 2), against the code word of a row.

    Raises:
        AnswerProofError: check "code word", after ``of``: they are not of it.
    """
    if channel.sends:
        return
    same = (combined_columns(columns, weights) == code_word_at(row, places, size_bits)).all(1)
    if not same.all():
        place = places[int(np.argmin(same))]
        raise AnswerProofError(f"{of}code word", f"column {place} of another code word", "the combined row's")


def combined_columns(columns: Words, high: Words) -> Words:
    """Σ over rows of high · (a column's number): (columns, rows) and (rows, 2) to (columns, 2)."""
    # A number is four of 16 bits, lowest first, so that they are combined as integers are.
    parts = combine(np.ascontiguousarray(columns.T, "<u8").view("<u2"), high).reshape(-1, 4, 2)
    result = parts[:, 3]
    for part in (2, 1, 0):
        result = add(mul(result, np.uint64(2**16)), parts[:, part])
    return result


def code_word_at(row: Words, places: list[int], size_bits: int) -> Words:
    """Some places of the code word of a row of the extension: (terms, 2) to (places, 2).

    The code word is the row's polynomial at all roots of unity of order 2^size_bits, in the order of their exponents.
    """
    # Of the polynomial's terms those whose numbers leave the same rest are transformed, and summed at the places alone.
    size, at = 1 << size_bits, np.array(places)
    rests = 1 << size.bit_length() // 2
    parts = np.zeros((2, rests, size // rests), np.uint64)
    whole = np.pad(row, ((0, -len(row) % rests), (0, 0)))
    parts[..., : len(whole) // rests] = whole.reshape(-1, rests, 2).T
    terms = transform(parts)[..., at % (size // rests)].transpose(0, 2, 1)
    turns = powers(root_of_unity(size.bit_length() - 1), size)[at[:, None] * np.arange(rests) % size]
    return total(mul(terms, turns)).T
