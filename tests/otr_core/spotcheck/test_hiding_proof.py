"""Proofs under a commitment that hides the model: an honest one passes, no forged one does, and what is
said tells nothing but the statement.

Forgers are free: each lies once, and from there on says whatever makes the checks before the last one
hold, so that one check alone can find it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from otr_core.errors import AnswerProofError
from otr_core.lane.sampling import Decoding
from otr_core.spotcheck.proof import hiding as protocol
from otr_core.spotcheck.proof.blocks import OPENING_BITS, hidden_code
from otr_core.spotcheck.proof.commitment import code_word_at
from otr_core.spotcheck.proof.field import ZERO, Ext, P, Words, add, dot, sub
from otr_core.spotcheck.proof.hiding import SALT
from otr_core.spotcheck.proof.masked import Book, Masked
from otr_core.spotcheck.proof.soundness import POLICY_BITS, errors, soundness_bits
from otr_core.spotcheck.proof.sumcheck import interpolate
from otr_core.spotcheck.proof.transcript import Channel
from otr_core.spotcheck.proof.verify import COMMITTED_HEADER, HIDING_HEADER
from otr_node.portable import load_portable
from otr_node.proof.answers import prove_answer
from otr_node.proof.hiding import HidingProver
from otr_paper.labs.tiny import TINY, tiny_tensors, write_tiny
from tests.helpers.answer_proofs import provable, refused, refused_under
from tests.helpers.hiding_proofs import ANSWERS, Draws, Programmed, hiding_commitment, hiding_prover, speak

AT_THE_END = "rounds opening"
"""The check that a false relation between masked numbers ends at, whichever it is."""


# --- honest ones


def test_an_honest_proof_passes_and_is_never_the_same_twice(hidden_answer, hiding, hiding_proof):
    found = hidden_answer.check_under(hiding_proof, hiding.commitment)
    assert (found.tokens, found.model) == (3, hiding.commitment.digest.hex())
    assert found.soundness_bits >= POLICY_BITS
    a = hidden_answer
    again = prove_answer(a.model, a.file, a.said, a.response, lambda line: None, under=hiding)
    assert again != hiding_proof
    assert len(again) == pytest.approx(len(hiding_proof), rel=0.01)  # of columns some are drawn twice
    a.check_under(again, hiding.commitment)


def test_a_proof_is_of_one_mode(hidden_answer, hiding, hiding_proof, tiny_commitment, committed_proof):
    plain = tiny_commitment.commitment
    assert hiding_proof.startswith(HIDING_HEADER)
    assert refused_under(hidden_answer, hiding_proof, plain) == "header"
    assert refused_under(hidden_answer, committed_proof, hiding.commitment) == "header"
    assert refused(hidden_answer, hiding_proof) == "header"
    swapped = COMMITTED_HEADER + hiding_proof[len(HIDING_HEADER) :]
    assert refused_under(hidden_answer, swapped, plain)
    assert refused_under(hidden_answer, hiding_proof, replace(hiding.commitment, answers=ANSWERS + 1))


@pytest.mark.parametrize("milli", [1, 900, 5000])
def test_a_drawn_answer_is_proven_so(tiny_portable, hiding, milli):
    drawn = provable(tiny_portable, "w3 w4", Decoding(4, 1, milli))
    proof = prove_answer(drawn.model, drawn.file, drawn.said, drawn.response, lambda line: None, under=hiding)
    assert drawn.check_under(proof, hiding.commitment).temperature_milli == milli


def test_rows_with_tails_keep_what_columns_are_to_give(hidden_answer, hiding):
    layout = hiding.commitment.layout(hidden_answer.model.architecture)
    for code, openings in ((hidden_code(hidden_answer.sizes.row_bits), 1), (hidden_code(layout.row_bits, 2), ANSWERS)):
        assert code.terms == (1 << code.row_bits) + openings * code.queries
        assert OPENING_BITS <= code.column_bits < OPENING_BITS + 1
    found = errors(hidden_answer.sizes, layout)
    assert found["round masks: columns drawn"] == found["columns drawn"] <= -OPENING_BITS
    assert found["weights: columns drawn"] == -hidden_code(layout.row_bits, ANSWERS).column_bits
    assert soundness_bits(hidden_answer.sizes, layout) < soundness_bits(hidden_answer.sizes, replace(layout, answers=0))
    with pytest.raises(AnswerProofError, match="longer rows"):
        hidden_code(8)


# --- what is said tells nothing


def _said(answer, kept, *others: int, prover: type[HidingProver] = HidingProver) -> tuple[Programmed, HidingProver]:
    """A conversation whose challenges and draws are fixed, but for those that are named."""
    channel = Programmed()
    side = hiding_prover(answer, kept, prover, channel)
    side.source = Draws(*others)
    speak(answer, kept, side, answer.witness())
    return channel, side


def _told(left: Words, right: Words) -> list[int]:
    """Where two conversations are not hidden from each other: numbers that are the same in both, or differ by as
    much as others do, as when one mask serves twice."""
    steps = sub(left.ravel(), right.ravel())
    _, at, count = np.unique(steps, return_inverse=True, return_counts=True)
    return np.flatnonzero((steps == 0) | (count[at] > 1)).tolist()


LAST = ("join", "cells", "mask sum", "row", "rounds mask sum", "rounds row")
"""What is said of the last opening, under masks of its own or under a random row."""
OPEN = ("header", "commitment", "mask commitment", "weights row", "weights columns", "weights mask columns", "columns")


@pytest.fixture(scope="module")
def conversation(hidden_answer, hiding):
    return _said(hidden_answer, hiding)


def _parts(answer, kept, channel: Programmed) -> dict[str, Words]:
    """The numbers of a conversation by what hides them."""
    labels = [label for label, _ in channel.said if "paths" not in label and label not in (*OPEN, *LAST)]
    code, model = hidden_code(answer.sizes.row_bits), kept.commitment.layout(answer.model.architecture)
    columns = channel.words_of("columns")
    places = len(channel.words_of("weights mask columns")) // (2 + SALT)
    own = columns.reshape(-1, _rows_shown(channel))
    hides = channel.words_of("weights mask columns").reshape(places, 2 + SALT)
    tail = channel.words_of("row").reshape(-1, 2)[1 << code.row_bits :]
    return {
        "masks": np.concatenate([channel.words_of(label) for label in dict.fromkeys(labels)]),
        "last rows": np.concatenate([*(channel.words_of(label) for label in LAST), own[:, -6 - SALT : -SALT].ravel()]),
        "tails": np.concatenate([own[:, : -6 - SALT].ravel(), tail.ravel()]),
        "salts": own[:, -SALT:],
        "hiding row": np.concatenate([channel.words_of("weights row"), hides[:, :2].ravel()]),
        "its salts": hides[:, 2:],
        "seed": np.concatenate([channel.words_of("weights columns")]).reshape(-1, model.rows + SALT),
    }


def _rows_shown(channel: Programmed) -> int:
    """Rows of a shown column: paths say how many columns there are."""
    (paths,) = [raw for label, raw in channel.said if label == "paths"]
    size = len(channel.words_of("rounds row")) // 2
    depth = size.bit_length()  # of a code word of twice the cells
    return len(channel.words_of("columns")) // (len(paths) // (32 * depth))


HIDDEN_BY = ("masks", "last rows", "tails", "salts", "hiding row", "its salts")
"""What is drawn, in the order in which it is."""


@pytest.mark.parametrize("drawn", HIDDEN_BY)
def test_each_number_is_hidden_by_what_is_drawn_for_it(hidden_answer, hiding, conversation, drawn):
    """One draw is another, all else stays: whatever it hides is another, each number by itself."""
    other, _ = _said(hidden_answer, hiding, HIDDEN_BY.index(drawn))
    one, two = (_parts(hidden_answer, hiding, each)[drawn] for each in (conversation[0], other))
    assert one.size == two.size > 0
    assert _told(one, two) == []


def test_the_columns_of_the_model_are_hidden_by_the_seed_of_its_commitment(hidden_answer, hiding, conversation):
    kept = hiding_commitment(hidden_answer.model, b"o" * 32)
    other, _ = _said(hidden_answer, kept)
    one, two = (_parts(hidden_answer, hiding, each)["seed"] for each in (conversation[0], other))
    assert _told(one, two) == []


def test_every_message_has_a_mask_and_every_mask_one_message(hidden_answer, hiding, conversation):
    channel, side = conversation
    said = _parts(hidden_answer, hiding, channel)["masks"].size // 2
    # two masks are of no message, and "factors" are two numbers without masks
    assert side.book.count == said + len(side.book.products)
    again, _ = _said(hidden_answer, hiding)
    assert again.said == channel.said  # the measure sees nothing but what is drawn


class _OneShort(HidingProver):
    """Leaves out one mask."""

    short = 0

    def commit_to_cells(self) -> bytes:
        self.book.masks[self.short] = 0
        self.cells[self.sizes.rows :].reshape(-1)[2 * self.short : 2 * self.short + 2] = 0
        return super().commit_to_cells()


@pytest.mark.parametrize("share", [0.0, 0.37, 0.81])
def test_a_mask_that_is_left_out_is_seen(hidden_answer, hiding, conversation, share):
    numbers = sorted(set(range(conversation[1].book.count)) - set(conversation[1].book.products.values()))
    prover = type("_", (_OneShort,), {"short": numbers[int(share * len(numbers))]})
    one, two = (_said(hidden_answer, hiding, *which, prover=prover)[0] for which in ((), (0,)))
    told = _told(*(_parts(hidden_answer, hiding, each)["masks"] for each in (one, two)))
    assert len(told) in (1, 2)


class _Twice(HidingProver):
    """Uses one mask for two messages."""

    def commit_to_cells(self) -> bytes:
        flat = self.cells[self.sizes.rows :].reshape(-1)
        self.book.masks[7], flat[14:16] = self.book.masks[3], self.book.masks[3]
        return super().commit_to_cells()


def test_a_mask_that_serves_twice_is_seen(hidden_answer, hiding):
    one, two = (_said(hidden_answer, hiding, *which, prover=_Twice)[0] for which in ((), (0,)))
    assert len(_told(*(_parts(hidden_answer, hiding, each)["masks"] for each in (one, two)))) == 4


def test_as_much_is_said_whatever_the_witness_is(hidden_answer, hiding, conversation):
    other = provable(hidden_answer.model, "w9 w14", Decoding(3))
    other.sizes = replace(hidden_answer.sizes)
    channel, _ = _said(other, hiding)
    shape = [(label, len(raw)) for label, raw in channel.said]
    assert shape == [(label, len(raw)) for label, raw in conversation[0].said]


# --- forged ones: a false relation, and what is said at the end


class Lying:
    """Rounds of a sum-check that begin with a false sum, and go on with what follows from it."""

    def __init__(self, rounds: Any, claim: Ext) -> None:
        self._rounds, self.claim, self._values = rounds, claim, []
        self.point: list[Ext] = []

    def message(self) -> Words:
        values = [Ext.of(each) for each in self._rounds.message()]
        values[0] = self.claim - values[1]
        self._values = values
        return np.stack([each.words for each in values])

    def bind(self, challenge: Ext) -> None:
        self.claim = interpolate(self._values, challenge)
        self.point.append(challenge)
        self._rounds.bind(challenge)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rounds, name)


class Liar(HidingProver):
    """A prover of a false relation, as honest as ``lies`` let it be.

    Attributes:
        of: the opening at which it lies. lies: "sum" (rounds of the joining sum-check, not its end), "opened"
            (what the cells open to, with such rounds), "row" (the combined one), "columns", "mask columns".
    """

    of = ""
    lies: tuple[str, ...] = ()

    def true(self, number: Ext) -> Ext:
        """A masked number's value."""
        if not isinstance(number, Masked):
            return number
        found = number.said
        for mask, weight in number.masks.items():
            found = found + weight * Ext.of(number.book.masks[mask])
        return found

    def begin(self, value: Ext, weight_at: Any) -> None:
        self._false_claim, self._weight_at = self.true(value), weight_at

    def lying(self, rounds: Any) -> Any:
        lies = {"sum", "opened"}.intersection(self.lies)
        self._rounds_of = Lying(rounds, self._false_claim) if lies else rounds
        return self._rounds_of

    def join(self, claim_powers: list[Ext]) -> Any:
        rounds = super().join(claim_powers)
        return self.lying(rounds) if not self.of else rounds

    def weight_opener(self) -> Any:
        opener = super().weight_opener()
        if self.of == "weights " and not isinstance(opener, _LyingOpener):
            opener = self._opening = _LyingOpener(opener, self)
        return opener

    def cells_at(self) -> Ext:
        return self.falsely_opened(super().cells_at()) if not self.of else super().cells_at()

    def falsely_opened(self, honest: Ext) -> Ext:
        if "opened" not in self.lies:
            return honest
        found = self._rounds_of.claim * self._weight_at(self._rounds_of.point).inverse
        self._step = found - honest
        return found

    def mask_sum(self, of: str, across: Words) -> Words:
        self._across = across
        return super().mask_sum(of, across)

    def hidden_row(self, of: str, high: Words, epsilon: Ext) -> Words:
        row = super().hidden_row(of, high, epsilon)
        if of == self.of and "row" in self.lies:
            step = self._row_step(of, epsilon) * Ext.of(self._across[0]).inverse
            self.more = np.zeros_like(row)
            self.more[0] = step.words
            row = add(row, self.more)
        return row

    def _row_step(self, of: str, epsilon: Ext) -> Ext:
        if of == "rounds ":  # what the round masks should give, and what they do
            return (self.last_said - dot(self.round_masks(), self._across)) * epsilon
        return self._step * epsilon

    def with_step(self, columns: Words, places: list[int], first: int, size_bits: int) -> Words:
        """Columns whose two rows from ``first`` on make the combined row's code word the false one's."""
        found = columns.copy()
        found[:, first : first + 2] = add(found[:, first : first + 2], code_word_at(self.more, places, size_bits))
        return found

    def columns_at(self, places: list[int]) -> Words:
        columns = super().columns_at(places)
        if "columns" not in self.lies or self.of == "weights ":
            return columns
        first = len(self.cells) + (4 if self.of else 0)
        return self.with_step(columns, places, first, hidden_code(self.sizes.row_bits).size_bits)

    def hiding_columns(self) -> Any:
        return (
            _LyingColumns(super().hiding_columns(), self) if "mask columns" in self.lies else super().hiding_columns()
        )


class _LyingColumns:
    def __init__(self, honest: Any, liar: Liar) -> None:
        self._honest, self._liar = honest, liar

    def columns_at(self, places: list[int]) -> Words:
        bits = hidden_code(self._liar.layout.row_bits, ANSWERS).size_bits
        return self._liar.with_step(self._honest.columns_at(places), places, 0, bits)

    def paths_at(self, places: list[int]) -> bytes:
        return self._honest.paths_at(places)


class _LyingOpener:
    """Opens the model's commitment to what was falsely claimed."""

    def __init__(self, honest: Any, liar: Liar) -> None:
        self._honest, self._liar = honest, liar

    def join(self, powers: list[Ext]) -> Any:
        return self._liar.lying(self._honest.join(powers))

    def cells_at(self) -> Ext:
        return self._liar.falsely_opened(self._honest.cells_at())

    def columns_at(self, places: list[int]) -> Words:
        columns = self._honest.columns_at(places)
        if "columns" not in self._liar.lies:
            return columns
        # The first row alone is another: by as much as makes the combined one the false one's, over the first weight.
        liar = self._liar
        bits = hidden_code(liar.layout.row_bits, ANSWERS).size_bits
        found = columns.copy()
        found[:, 0] = add(found[:, 0], code_word_at(liar.more, places, bits)[:, 0])
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._honest, name)


@pytest.fixture(autouse=True)
def told_before(monkeypatch):
    """A liar knows what it is asked to open to, and what is left of the round masks."""
    honest, joined = protocol.join, Book.joined

    def join(party, value, cells, weight_at, powers, opener, of):
        if isinstance(party, Liar) and of == party.of:
            party.begin(value, weight_at)
        return honest(party, value, cells, weight_at, powers, opener, of)

    def remembered(book, power):
        found = joined(book, power)
        for liar in Book.liars:
            liar.last_said = ZERO - found.said
        return found

    Book.liars = []
    monkeypatch.setattr(protocol, "join", join)
    monkeypatch.setattr(Book, "joined", remembered)
    yield
    del Book.liars


def _lie(answer, kept, witness, of: str, *lies: str, model=None) -> bytes:
    side = hiding_prover(answer, kept, type("_", (Liar,), {"of": of, "lies": lies}), model=model)
    Book.liars = [side]
    try:
        return speak(answer, kept, side, witness)
    finally:
        Book.liars = []


def _one_more(name: str):
    def change(column, row, values):
        if column == name and row == 0:
            values = values.copy()
            values.flat[3] += 1
        return values

    return change


@pytest.mark.parametrize(
    ("of", "lies", "check"),
    [
        ("", (), AT_THE_END),
        ("", ("sum",), AT_THE_END),
        ("", ("opened",), AT_THE_END),
        ("", ("opened", "row"), "code word"),
        ("", ("opened", "row", "columns"), "columns"),
        ("rounds ", ("row",), "rounds code word"),
        ("rounds ", ("row", "columns"), "columns"),
    ],
)
def test_a_false_relation_is_found_wherever_the_prover_covers_it(hidden_answer, hiding, of, lies, check):
    witness = hidden_answer.witness()
    witness.numbers["mixed_rest"][0, 0, 0] += 1  # one operator's result is another
    assert refused_under(hidden_answer, _lie(hidden_answer, hiding, witness, of, *lies), hiding.commitment) == check


@pytest.fixture(scope="module")
def other_model(tmp_path_factory):
    """The model with one weight of its last layer changed by little."""
    tensors = tiny_tensors(TINY)
    name = f"model.layers.{TINY.layers - 1}.mlp.down_proj.weight"
    tensors[name] = tensors[name].copy()
    tensors[name].flat[5] += 2.0**-9
    return load_portable(write_tiny(tmp_path_factory.mktemp("other-hidden"), TINY, tensors))


class _OtherWeights(Liar):
    """Runs and claims other weights, and opens the ones that are committed to."""

    opened: Any = None

    def weight_opener(self) -> Any:
        claimed, self.model = self.model, self.opened
        try:
            return super().weight_opener()
        finally:
            self.model = claimed


@pytest.mark.parametrize(
    ("lies", "check"),
    [
        ((), AT_THE_END),
        (("sum",), AT_THE_END),
        (("opened",), AT_THE_END),
        (("opened", "row"), "weights code word"),
        (("opened", "row", "mask columns"), "weights mask columns"),
    ],
)
def test_other_weights_are_found_wherever_the_prover_covers_them(hidden_answer, hiding, other_model, lies, check):
    kind = type("_", (_OtherWeights,), {"of": "weights ", "lies": lies, "opened": hidden_answer.model})
    side = hiding_prover(hidden_answer, hiding, kind, model=other_model)
    proof = speak(hidden_answer, hiding, side, hidden_answer.witness(model=other_model))
    assert refused_under(hidden_answer, proof, hiding.commitment) == check


def test_columns_of_the_model_are_those_under_its_root(hidden_answer, hiding, hiding_proof):
    """Another commitment's root, whose columns are not shown."""
    other = hiding_commitment(hidden_answer.model, b"o" * 32)
    mixed = replace(other, hashes=other.hashes)
    side = hiding_prover(hidden_answer, mixed)
    side.seed = hiding.seed  # the columns of the one under the root of the other
    proof = speak(hidden_answer, mixed, side, hidden_answer.witness())
    assert refused_under(hidden_answer, proof, mixed.commitment) == "weights columns"


# --- products of masks, and fractions


class _FalseProduct(HidingProver):
    """One mask is not the product that it stands for; the sum-check over products is made to come out."""

    factors_too = False

    def commit_to_cells(self) -> bytes:
        number = max(self.rehearsed.products.values())  # that of the two masks of no message
        flat = self.cells[self.sizes.rows :].reshape(-1)
        flat[2 * number] = self.book.masks[number, 0] = (int(self.book.masks[number, 0]) + 5) % P
        return super().commit_to_cells()

    def make_factors(self, kind: str, tables: tuple[Any, ...]) -> Any:
        made = super().make_factors(kind, tables)
        if kind != "products":
            return made
        triples, tau = tables
        claim = ZERO
        for (_, _, product), own in zip(triples, tau, strict=True):
            claim = claim + Ext.of(own) * Ext.of(self.book.masks[product])
        self._lying = Lying(made, claim)
        return self._lying

    def mask_product(self, triples: list[tuple[int, int, int]]) -> Words:
        tau, left, right = (Ext.of(each) for each in self.of_masks.left)
        if self.factors_too:
            left = self._lying.claim * (tau * right).inverse
        return np.stack([left.words, right.words])


@pytest.mark.parametrize("factors_too", [False, True])
def test_a_mask_that_is_no_product_is_found(hidden_answer, hiding, factors_too):
    side = hiding_prover(hidden_answer, hiding, type("_", (_FalseProduct,), {"factors_too": factors_too}))
    proof = speak(hidden_answer, hiding, side, hidden_answer.witness())
    assert refused_under(hidden_answer, proof, hiding.commitment) == AT_THE_END


class _Swapped(HidingProver):
    """Says the two factors that are left in each other's place: two false relations whose errors cancel."""

    def mask_product(self, triples: list[tuple[int, int, int]]) -> Words:
        return super().mask_product(triples)[::-1].copy()


def test_false_relations_that_cancel_are_found(hidden_answer, hiding):
    side = hiding_prover(hidden_answer, hiding, _Swapped)
    proof = speak(hidden_answer, hiding, side, hidden_answer.witness())
    assert refused_under(hidden_answer, proof, hiding.commitment) == AT_THE_END


class _FalseLevels:
    """A tree whose inverse, asked for second, is one that makes the group's fractions cancel."""

    def __init__(self, tree: Any, prover: _FalseInverse, last: bool) -> None:
        self._tree, self._prover, self._last, self._asked = tree, prover, last, 0

    def root(self) -> Words:
        p, q = (Ext.of(each) for each in self._tree.root())
        self._asked += 1
        if self._asked == 1:
            return self._tree.root()
        if self._last:
            q = p * (ZERO - self._prover.others).inverse  # p / q is then minus the others' sum
        self._prover.others = ZERO if self._last else self._prover.others + p * q.inverse
        return np.stack([p.words, q.words])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tree, name)


class _FalseInverse(HidingProver):
    """Carries from limb to limb as no honest prover does, so that every number is what it was, and says inverses
    with which the look-ups seem to cancel."""

    others = ZERO
    lies = True

    def commit_to_cells(self) -> bytes:
        s, flat = self.sizes, self.cells.reshape(-1)
        column = s.columns["qkv"]
        low = s.first_block["qkv"] * s.block_cells
        high = low + s.limb_blocks(column) * s.block_cells
        flat[low] += np.uint64(1 << column.widths[0])
        flat[high] = (int(flat[high]) - 1) % P
        return super().commit_to_cells()

    def levels(self, label: str, count_bits: int, what: tuple[Any, ...]) -> Any:
        made = super().levels(label, count_bits, what)
        return _FalseLevels(made, self, label.startswith("table")) if self.lies else made


@pytest.mark.parametrize("lies", [True, False])
def test_a_value_out_of_its_range_is_found_whatever_inverse_is_said(hidden_answer, hiding, lies):
    side = hiding_prover(hidden_answer, hiding, type("_", (_FalseInverse,), {"lies": lies}))
    proof = speak(hidden_answer, hiding, side, hidden_answer.witness())
    assert refused_under(hidden_answer, proof, hiding.commitment) == AT_THE_END


# --- bounds, and bytes


def test_no_product_is_left_that_nothing_shows_to_be_one(hidden_answer, hiding, conversation):
    """Neither of the masks of the conversation, nor of those of its last opening."""
    book = conversation[1].book
    x, y = (Masked(1, 0, {mask: Ext(1)}, book) for mask in (0, book.count - 1))
    with pytest.raises(AssertionError, match="nothing shows to be one"):
        x * y
    with pytest.raises(AssertionError, match="nothing shows to be one"):
        Book(closed=True).product(0, 1)


def test_no_more_masks_are_used_than_the_error_counts(hidden_answer, hiding, hiding_proof, monkeypatch):
    monkeypatch.setattr(protocol, "MOST_MASKS", 10)
    assert refused_under(hidden_answer, hiding_proof, hiding.commitment) == "mode"


def test_no_relation_comes_after_they_were_joined(hidden_answer, hiding, hiding_proof, monkeypatch):
    joined = Book.joined

    def late(book, power):
        own = list(book.zeros)
        found = joined(book, power)
        book.zeros.extend(own[:1])
        return found

    monkeypatch.setattr(Book, "joined", late)
    assert refused_under(hidden_answer, hiding_proof, hiding.commitment) == "ledger"


def test_no_message_can_be_another(hidden_answer, hiding, hiding_proof, conversation):
    rng, at, refusals = np.random.default_rng(5), 0, set()
    seen: dict[str, int] = {}
    spans = []
    channel = _Marked(hiding_proof)
    for label, start, size in channel.marks(hidden_answer, hiding):
        seen[label] = seen.get(label, 0) + 1
        if seen[label] == 1 and size:
            spans.append((label, start, size))
    for label, start, size in spans:
        at = start + 8 * int(rng.integers(max(size // 8, 1)))
        word = int.from_bytes(hiding_proof[at : at + 8], "little")
        other = ((word + 1) % P).to_bytes(8, "little") if "paths" not in label else bytes(8)
        changed = hiding_proof[:at] + other + hiding_proof[at + 8 :]
        assert changed != hiding_proof
        refusals.add(refused_under(hidden_answer, changed, hiding.commitment))
    assert {"header", AT_THE_END} <= refusals
    assert refused_under(hidden_answer, hiding_proof + b"\0", hiding.commitment) == "length"
    assert refused_under(hidden_answer, hiding_proof[:-1], hiding.commitment) == "length"


class _Marked(Channel):
    """Reads a proof and keeps where each message lies."""

    def marks(self, answer, kept) -> list[tuple[str, int, int]]:
        from otr_core.spotcheck.proof.party import Party
        from otr_core.spotcheck.proof.verify import converse, proven_statement

        self._marks: list[tuple[str, int, int]] = []
        own = (answer.sizes, answer.model.architecture, None, answer.tokens, answer.draws, kept.commitment)
        bound = proven_statement(answer.file, answer.said, answer.response, kept.commitment)
        converse(Party(self, *own), bound, b"", None)
        return self._marks

    def data(self, label, size, make):
        start = self._at
        found = super().data(label, size, make)
        self._marks.append((label, start, size))
        return found
