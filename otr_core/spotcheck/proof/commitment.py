"""The commitment to all cells and its one opening (Ligero's code, as in Brakedown and Diamond–Posen).

The cells are rows of 2^k; each row is encoded by Reed–Solomon at rate 1/2, and a Merkle tree is made
over the columns. To open the cells' multilinear extension at a point, the rows are combined with
the weights of the point's high bits; the combination is sent in the clear and held against columns
that are drawn after it. The point comes out of a sum-check, so that its coordinates are random, and
the same combination tests that the rows are near code words.
"""

from __future__ import annotations

import numpy as np

from otr_core import merkle
from otr_core.errors import AnswerProofError, ProofError
from otr_core.spotcheck.proof.field import Ext, Words, dot, eq_table, total, transform, xscale
from otr_core.spotcheck.proof.layout import BLOWUP_BITS, QUERIES
from otr_core.spotcheck.proof.party import Party
from otr_core.spotcheck.proof.sumcheck import sumcheck


def column_leaf(column: np.ndarray) -> bytes:
    """Hash of one column of code words, uint64 (rows,)."""
    return merkle.leaf_hash(np.ascontiguousarray(column, "<u8").tobytes())


def open_claims(party: Party, root: bytes) -> None:
    """Join all claims of the ledger, and open the commitment once.

    Raises:
        AnswerProofError: check "join", "opening", "code word" or "columns".
    """
    s, channel = party.sizes, party.channel
    value, powers = party.ledger.joined(channel.challenge("gamma"))
    cells = s.rows << s.row_bits
    (point,), left = sumcheck(channel, "join", value, (cells,), 2, lambda: party.sender.join(powers))
    (opened,) = channel.exts("cells", 1, lambda: party.sender.cells_at().words[None])
    party.equal("join", left, lambda: party.ledger.weight_at(point, powers) * opened)
    party.ledger.numbers.clear()
    party.ledger.flat.clear()
    open_cells(party, root, point, opened)


def open_cells(party: Party, root: bytes, point: list[Ext], opened: Ext) -> None:
    """Check that the committed cells' extension at a point is ``opened``."""
    s, channel = party.sizes, party.channel
    high = eq_table(point[s.row_bits :], s.rows)
    row = channel.words("row", (1 << s.row_bits, 2), lambda: party.sender.combined_row(high))
    party.equal("opening", opened, lambda: dot(row, eq_table(point[: s.row_bits])))
    size_bits = s.row_bits + BLOWUP_BITS
    places = channel.places("columns", QUERIES, size_bits)
    columns = channel.words("columns", (len(places), s.rows), lambda: party.sender.columns_at(places))
    depth = merkle.HASH_BYTES * size_bits
    paths = channel.data("paths", depth * len(places), lambda: party.sender.paths_at(places))
    if channel.sends:
        return
    word = encode(row)
    for at, column in enumerate(columns):
        place = places[at]
        if total(xscale(high, column), 0).tolist() != word[:, place].tolist():
            raise AnswerProofError("code word", f"column {place} of another code word", "the combined row's")
        path = paths[depth * at : depth * (at + 1)]
        hashes = [path[i : i + merkle.HASH_BYTES] for i in range(0, depth, merkle.HASH_BYTES)]
        try:
            merkle.verify_inclusion(root, column_leaf(column), place, 1 << size_bits, hashes)
        except ProofError as error:
            raise AnswerProofError("columns", error, "a column under the commitment") from error


def encode(row: Words) -> Words:
    """Code word of a row of the extension (cells, 2): (2, 2 · cells)."""
    padded = np.zeros((2, len(row) << BLOWUP_BITS), np.uint64)
    padded[:, : len(row)] = row.T
    return transform(padded)
