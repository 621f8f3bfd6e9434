"""The end of a conversation that hides: what was said under masks is shown to hold.

The mode is for a verifier who holds a commitment to the model alone: from who holds the model nothing can be
hidden. Three things hide: *masks* under what is said (``masked``); *tails*, random terms behind every
row that is encoded, as many as columns of it are ever shown, so that these tell nothing; and *salts*
in the leaves. A combined row is sent under a random row that was committed to with the others.

At the end the model's commitment is opened, its messages under masks like all others; the products of masks
are shown by one more sum-check, at whose end two random numbers more make what is left uniform; and all
that is left, linear now, joins the claims about committed cells, of which masks are the last. Only the
messages of that last opening lie under masks of their own, the *round masks*: these are one row,
whose claim is opened by itself.
"""

from __future__ import annotations

import numpy as np

from otr_core.errors import AnswerProofError
from otr_core.spotcheck.proof.blocks import HiddenCode, hidden_code
from otr_core.spotcheck.proof.commitment import join, same_code_word, show_columns
from otr_core.spotcheck.proof.field import NON_RESIDUE, Ext, Words, dot, eq_table, mul, sub, xmul, xtotal
from otr_core.spotcheck.proof.masked import MOST_MASKS, Book, Masked
from otr_core.spotcheck.proof.party import Party

SALT = 4
"""Random words in each leaf."""
_PAIR = np.array([[1, 0], [0, 1]], np.uint64)
"""By what two rows of the base field are one of the extension: 1 and √7."""


def mask_rows(count: int, row_bits: int) -> int:
    """Rows that so many masks take, two cells each."""
    return -(-2 * count >> row_bits)


def say_hidden(p: Party, mask_root: bytes) -> None:
    """All that is said under masks once the relations are: the model's opening, and products of masks.

    Args:
        mask_root: of the row that hides the model's combined one.

    Raises:
        AnswerProofError: check "weights code word", "weights columns" or "weights mask columns"; a relation that does
            not hold is found by ``open_hidden``.
    """
    _open_model(p, mask_root)
    _show_products(p)


def _open_model(p: Party, mask_root: bytes) -> None:
    assert p.weight_ledger is not None
    assert p.committed is not None
    channel, ledger, of = p.channel, p.weight_ledger, "weights "
    s, code = ledger.sizes, hidden_code(ledger.sizes.row_bits, p.committed.answers)
    opener = lambda: p.sender.weight_opener()  # noqa: E731
    value, powers = ledger.joined(channel.challenge(f"{of}gamma"))
    cells = s.rows << s.row_bits
    point, opened = join(p, value, cells, lambda at: ledger.weight_at(at, powers), powers, opener, of)
    ledger.clear()
    high = eq_table(point[s.row_bits :], s.rows)
    row, epsilon = say_row(p, of, code, opened, high, eq_table(point[: s.row_bits]))
    places = channel.places(f"{of}columns", code.queries, code.size_bits)
    shown = show_columns(channel, places, s.rows + SALT, code.size_bits, opener, of)
    hides = show_columns(channel, places, 2 + SALT, code.size_bits, lambda: p.hider.hiding_columns(), f"{of}mask ")
    columns = np.concatenate([shown.columns[:, :-SALT], hides.columns[:, :-SALT]], 1)
    weights = np.concatenate([xmul(high, epsilon.words), _PAIR])
    same_code_word(channel, columns, weights, row, places, code.size_bits, of)
    shown.check(channel, p.committed.root)
    hides.check(channel, mask_root)


def say_row(p: Party, of: str, code: HiddenCode, opened: Ext, high: Words, across: Words) -> tuple[Words, Ext]:
    """A combined row under the one that hides it; held against what it is said to open to."""
    channel = p.channel
    (hides,) = channel.exts(f"{of}mask sum", 1, lambda: p.hider.mask_sum(of, across))
    epsilon = channel.challenge(f"{of}epsilon")
    row = channel.words(f"{of}row", (code.terms, 2), lambda: p.hider.hidden_row(of, high, epsilon))
    p.equal(f"{of}opening", opened * epsilon + hides, lambda: dot(row[: len(across)], across))
    return row, epsilon


def _show_products(p: Party) -> None:
    """Every mask that stands for a product is one."""
    channel, book = p.channel, p.channel.book
    assert book is not None
    spare = book.take(2)  # of no message: with them what is left of both factors is uniform
    book.product(spare, spare + 1)
    triples = [(x, y, product) for (x, y), product in book.products.items()]
    book.closed = True
    (tau,) = p.tables("products", (len(triples),))
    claim = Masked(0, 0, {product: Ext.of(own) for (_, _, product), own in zip(triples, tau, strict=True)}, book)
    (at,), value = p.reduce("products", claim, (len(triples),), triples, tau)
    left = channel.clear("factors", 2, lambda: p.hider.mask_product(triples))
    for side in (0, 1):
        weights: dict[int, Ext] = {}
        for triple, own in zip(triples, at, strict=True):
            weights[triple[side]] = weights.get(triple[side], Ext(0)) + Ext.of(own)
        p.equal("factors", Masked(0, 0, weights, book), left[side])
    p.equal("products", value, lambda: dot(tau, at) * left[0] * left[1])


def open_hidden(p: Party, root: bytes) -> None:
    """Join what is left, and open the commitment to witness and masks.

    Raises:
        AnswerProofError: check "rounds opening" (a relation between masked numbers, whichever it is), "code word",
            "rounds code word" or "columns"; "mode": more masks than the error counts; "ledger": one was left out.
    """
    channel, book, s = p.channel, p.channel.book, p.sizes
    assert book is not None
    if book.count > MOST_MASKS:
        raise AnswerProofError("mode", f"{book.count} masks", f"at most {MOST_MASKS}")
    code = hidden_code(s.row_bits)
    zeros = book.joined(channel.challenge("zeros"))
    gamma = channel.challenge("gamma")
    value, powers = p.ledger.joined(gamma)
    # Σ weight · cell = said + Σ weight · mask, and 0 = said + Σ weight · mask: masks go to the side of the cells.
    masked = value - zeros * (powers[-1] * gamma)
    assert isinstance(masked, Masked)
    count = mask_rows(book.count, s.row_bits)
    weights = masked.weights(book.count)
    dense = _as_cells(sub(np.zeros_like(weights), weights), count, 1 << s.row_bits)
    rows = s.rows + count

    def weight_at(point: list[Ext]) -> Ext:
        high = eq_table(point[s.row_bits :], rows)[s.rows :]
        return p.ledger.weight_at(point, powers) + dot(_across(dense, point, s.row_bits), high)

    opener = lambda: p.hider.opener_with_masks(dense)  # noqa: E731
    channel.book = rounds = Book(p.hider.round_masks() if channel.sends else None, closed=True)
    point, opened = join(p, masked.said, rows << s.row_bits, weight_at, powers, opener, "")
    p.ledger.clear()
    high = eq_table(point[s.row_bits :], rows)
    row, epsilon = say_row(p, "", code, opened, high, eq_table(point[: s.row_bits]))
    # What is left is about round masks alone.
    last = rounds.joined(channel.challenge("round zeros"))
    channel.book = None
    across = last.weights(rounds.count)
    own, other = say_row(p, "rounds ", code, Ext(0) - last.said, _PAIR, across)
    places = channel.places("columns", code.queries, code.size_bits)
    shown = show_columns(channel, places, rows + 6 + SALT, code.size_bits, lambda: p.sender, "")
    columns = shown.columns[:, :-SALT]
    none = np.zeros((2, 2), np.uint64)
    weights = np.concatenate([xmul(high, epsilon.words), _PAIR, none, none])
    same_code_word(channel, columns, weights, row, places, code.size_bits, "")
    weights = np.concatenate([np.zeros((rows + 2, 2), np.uint64), xmul(_PAIR, other.words), _PAIR])
    same_code_word(channel, columns, weights, own, places, code.size_bits, "rounds ")
    shown.check(channel, root)
    for each in (book, rounds):
        if each.zeros:  # a relation that came after they were joined
            raise AnswerProofError("ledger", f"{len(each.zeros)} relations between masked numbers", "none")


def _as_cells(weights: Words, rows: int, length: int) -> Words:
    """Weights of masks (count, 2) as those of their cells, two a mask, of which the second counts √7."""
    second = np.stack([mul(weights[:, 1], np.uint64(NON_RESIDUE)), weights[:, 0]], 1)
    found = np.zeros((rows * length, 2), np.uint64)
    found[: 2 * len(weights)] = np.stack([weights, second], 1).reshape(-1, 2)
    return found.reshape(rows, length, 2)


def _across(dense: Words, point: list[Ext], row_bits: int) -> Words:
    """The extension of each row at the point's lower bits, (rows, 2)."""
    low = eq_table(point[:row_bits])
    return np.stack([xtotal(xmul(row, low)) for row in dense])
