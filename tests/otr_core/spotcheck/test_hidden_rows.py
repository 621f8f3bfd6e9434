"""Proofs whose rows are hidden: no fact of a row stands in the clear, and none can be another.

Forgers are free, as in ``test_answer_proof``: each changes the witness, makes whatever follows from it
fit, and is honest from there on, so that one check alone can find it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from otr_core.errors import AnswerProofError, ProverError
from otr_core.lane import formats as bits
from otr_core.lane.dims import Dims, Norm
from otr_core.lane.sampling import Decoding
from otr_core.spotcheck.proof.facts import EXCEPTIONS
from otr_core.spotcheck.proof.layout import Sizes
from otr_core.spotcheck.proof.party import Party
from otr_core.spotcheck.proof.scales import by_length, factor_bits, least_peaks, most_peaks, root_bits, squares_bits
from otr_core.spotcheck.proof.soundness import (
    MOST_HIDDEN_CLAIMS,
    MOST_HIDDEN_PRODUCTS,
    MOST_RELATIONS,
    POLICY_BITS,
    soundness_bits,
)
from otr_core.spotcheck.proof.transcript import Channel
from otr_core.spotcheck.proof.verify import converse, proven_statement
from otr_node.integers import twins
from otr_node.portable import load_portable
from otr_node.proof.prover import AnswerProver
from otr_node.proof.witness_rows import RowColumns
from otr_paper.claims.published import smollm2
from otr_paper.labs.tiny import TINY, tiny_tensors, write_tiny
from otr_paper.studies.proving import answer_sizes
from tests.helpers.answer_proofs import Marking, ProvableAnswer, counting, one_more_each, provable

END = bits.SIGMOID_ENTRIES - 1
SITE, HEAD, LAYER, AT = 3, 5, 1, 6
"""Where forgers are at work: a site, a head, a layer, and a position."""
Row = Callable[[np.ndarray], np.ndarray]


def hidden(answer: ProvableAnswer) -> ProvableAnswer:
    """The same answer, proven with its rows hidden."""
    found = replace(answer)
    found.sizes = replace(answer.sizes, hidden=True)
    return found


def check(answer: ProvableAnswer, proof: bytes, under=None) -> None:
    """What a verifier does who knows that rows are hidden."""
    assert soundness_bits(answer.sizes) >= POLICY_BITS
    committed = None if under is None else under.commitment
    of = (answer.model.architecture, answer.model if under is None else None, answer.tokens, answer.draws, committed)
    party = Party(Channel(proof), answer.sizes, *of)
    converse(party, proven_statement(answer.file, answer.said, answer.response, committed), b"", None)
    assert not hasattr(party, "facts")


def refused(answer: ProvableAnswer, proof: bytes) -> str:
    """The check that refuses a proof."""
    with pytest.raises(AnswerProofError) as caught:
        check(answer, proof)
    return caught.value.check


@pytest.fixture(scope="module")
def own(answer):
    """The nine tokens of the tiny model."""
    return hidden(answer)


@pytest.fixture(scope="module")
def bent(tmp_path_factory):
    """An answer of a model with gates beyond the sigmoid's table, above and beneath, and nothing else beyond."""
    return scaled_model(tmp_path_factory.mktemp("bent"), gate=16)


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """An answer of a model with rows of many lengths: what enters is 0, some bits, or nearly all an int32 has."""
    return scaled_model(tmp_path_factory.mktemp("uneven"), embed=np.exp2(np.arange(64) % 31 - 17.0)[:, None])


def scaled_model(folder, **by) -> ProvableAnswer:
    """An answer of the tiny model in two layers, tensors times a factor by a part of their name."""
    architecture = replace(TINY, layers=2, tied="embed" not in by)
    tensors = tiny_tensors(architecture)
    if "embed" in by:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    for part, factor in by.items():
        for name in tensors:
            if part in name:
                tensors[name] = (tensors[name] * factor).astype(np.float32)
    if "embed" in by:
        tensors["model.embed_tokens.weight"][4] = 0
    model = load_portable(write_tiny(folder, architecture, tensors))
    return hidden(provable(model, "w3 w4 w9 w40 w33 w28", Decoding(3)))


# --- honest proofs


def test_an_honest_proof_passes_held_and_committed(own, tiny_commitment):
    proof = own.prove()
    check(own, proof)
    assert own.prove() == proof
    check(own, own.prove(under=tiny_commitment), tiny_commitment)


@pytest.mark.parametrize(("words", "tokens"), [(1, 1), (7, 1), (12, 5), (3, 12)])
def test_answers_of_any_length_are_proven(tiny_portable, words, tokens):
    answer = hidden(provable(tiny_portable, " ".join(f"w{3 + at}" for at in range(words)), Decoding(tokens)))
    check(answer, answer.prove())


SIZES = (
    replace(TINY, layers=1, heads=2, kv_heads=1, head_dim=16, intermediate=80, vocab=70),
    replace(TINY, layers=2, heads=9, kv_heads=3, hidden=72, vocab=90),
    replace(TINY, layers=1, context=120),
)


@pytest.mark.parametrize("size", range(len(SIZES)))
def test_models_of_other_sizes_are_proven(tmp_path, size):
    """The last one of more positions than a block has."""
    model = load_portable(write_tiny(tmp_path, SIZES[size]))
    words = " ".join(f"w{3 + at % 60}" for at in range(SIZES[size].context // 2))
    answer = hidden(provable(model, words, Decoding(10)))
    assert size < 2 or answer.sizes.positions > 64
    check(answer, answer.prove())


def test_rows_of_many_lengths_are_proven(uneven):
    lengths = uneven.witness().numbers["length"].sum((1, 2))
    assert lengths[0]
    assert (lengths > 0).sum() > 5
    assert lengths[20:].any()  # scaled down
    check(uneven, uneven.prove())


def test_gates_beyond_the_table_are_proven(bent):
    beyond = bent.witness().numbers
    assert min((beyond[name] > 0).sum() for name in ("gate_above", "gate_beneath")) > 10
    check(bent, bent.prove())


# --- what is said


def test_nothing_of_a_row_stands_in_the_clear(own, bent, uneven):
    """Claims and rounds alone lie between the commitment and its opening; and their form tells nothing."""
    channels = {name: Marking() for name in ("own", "bent", "uneven")}
    for name, answer in (("own", own), ("bent", bent), ("uneven", uneven)):
        answer.prove(channel=channels[name])
    labels = [label for label, *_ in channels["own"].marks]
    first, last = labels.index("commitment"), labels.index("row")
    assert labels[: first + 1] == ["header", "commitment"]
    assert labels[last:] == ["row", "columns", "paths"]
    assert {size for _, _, size in channels["own"].marks[first + 1 : last]} == {16, 32, 48, 64}
    assert own.sizes != bent.sizes == replace(uneven.sizes, saturation=bent.sizes.saturation)
    assert bent.witness().numbers["gate_above"].any() != uneven.witness().numbers["gate_above"].any()
    last = next(at for at, mark in enumerate(channels["bent"].marks) if mark[0] == "row")
    assert channels["bent"].marks[:last] == channels["uneven"].marks[:last]


def test_no_statement_has_more_steps_than_soundness_counts(own):
    seen = {}

    check(own, own.prove(prover=counting(seen)))
    assert 30 < seen["equal"] <= MOST_RELATIONS
    assert 20 < seen["reduce"] <= MOST_HIDDEN_PRODUCTS
    assert 110 < seen["columns"] <= MOST_HIDDEN_CLAIMS


def test_hidden_rows_of_a_real_model_take_so_many_cells_as_the_page_says():
    """Of SmolLM2 and 64 positions, greedy, 21 of them chosen."""
    norm = Norm.of(1, 576, 1e-5, bits.RESIDUAL)
    d = replace(smollm2(), epsilon=norm.epsilon, numerator=norm.numerator, drop=norm.drop)
    sizes = replace(answer_sizes(d, 44, 21), hidden=True)
    more = (sizes.blocks - replace(sizes, hidden=False).blocks) * sizes.block_cells
    assert round(more / 1e6, 1) == 12.0
    assert (root_bits(d), factor_bits(d)) == (25, 32)
    assert soundness_bits(sizes) > POLICY_BITS


def test_columns_are_as_wide_as_the_page_says(own):
    """docs/proof.md: with wider ones both sides of a relation could differ by p; a place is 0 or 1."""
    columns, d = own.sizes.columns, own.sizes.d
    root, total = root_bits(d), (own.sizes.positions << 20).bit_length()
    widths = {"length": 1, "peak_at": 1, "top_at": 1, "peak_low": 30, "peak_high": 30, "peak_value": 32}
    widths |= {"norm_rest": 12, "norm_room": 12, "squares": squares_bits(d), "root": root, "factor": factor_bits(d)}
    widths |= {"root_low": root + 1, "root_high": root + 1, "quotient_low": root, "quotient_room": root}
    widths |= {"top": 54, "total": total, "share": 25, "share_low": total, "share_room": total}
    widths |= {"gate_above": 20, "gate_beneath": 20, "logit": 44, "chosen_room": 18}
    assert {name: sum(columns[name].widths) for name in widths} == widths
    assert {column.name for column in own.sizes.row_columns()} == set(widths) - {"norm_rest"}
    ranged = own.sizes.ranged_blocks
    assert all(own.sizes.first_block[name] < ranged for name in widths)
    assert not any(column.open or column.per_row for column in columns.values())


# --- what is refused unread, or by the prover


def test_what_cannot_be_hidden_is_refused_by_both_sides(own):
    d = own.sizes.d
    cases = {
        "epsilon of 0": replace(own.sizes, d=replace(d, epsilon=0)),
        "root of 38 bits": replace(own.sizes, d=replace(d, hidden=2**34, numerator=2**20)),
        "times its factor 6[4-9]": replace(own.sizes, d=replace(d, numerator=2**62)),
    }
    for found, sizes in cases.items():
        of = (sizes, own.model.architecture, own.model, own.tokens)
        for side in (Party(Channel(b""), *of), AnswerProver(Channel(), *of)):
            with pytest.raises(AnswerProofError, match=f"mode: found .*{found}"):
                converse(side, {}, b"", None)


@pytest.mark.parametrize("width", [576, 2048, 4096, 8192, 2**14])
def test_models_of_real_widths_can_be_hidden(width):
    """By what the lane's norm gives them, with the least and the largest epsilon in use."""
    for epsilon in (1e-6, 1e-5):
        norm = Norm.of(1, width, epsilon, bits.RESIDUAL)
        d = replace(Dims.of(TINY), hidden=width, epsilon=norm.epsilon, numerator=norm.numerator, drop=norm.drop)
        Party(Channel(b""), Sizes(d, 9, 9, (2**23,) * d.layers, hidden=True), TINY, None, (3,) * 18).refuse_beyond()


def test_a_value_that_leaves_its_column_is_told_by_the_prover(own, tmp_path):
    s = own.sizes
    for name in (*EXCEPTIONS, "gate_above", "gate_beneath"):
        beyond = {name: (np.array([1, 5]), np.array([3, 4]))}
        with pytest.raises(ProverError, match=f"values of {name}: found one beyond its column by 3 .* and 1 more"):
            RowColumns(s, own.witness().numbers, None, ()).end({"room": np.zeros(s.answer, np.int64)}, beyond)
    for number, (name, by) in enumerate({"scaled": {"down": 4096.0}, "gate_above": {"gate": 900.0}}.items()):
        with pytest.raises(ProverError, match=f"values of {name}: found one beyond"):
            scaled_model(tmp_path / str(number), **by).prove()


# --- forgers

RAW = {
    "length": {"embedding", "peak", "length"},
    **{
        "peak_low": {"embedding", "peak"},
        "peak_high": {"peak length"},
        "peak_at": {"peak one"},
        "peak_value": {"peak place"},
    },
    **{"norm_room": {"scaled rest"}, "squares": {"squares"}, "root": {"root"}, "root_low": {"root"}},
    **{"root_high": {"root end"}, "factor": {"factor"}, "quotient_low": {"factor"}, "quotient_room": {"factor end"}},
    **{"top": {"scores"}, "top_at": {"top one", "top"}, "total": {"total"}, "share": {"share"}, "share_low": {"share"}},
    **{"share_room": {"share end"}, "gate_above": {"dot gate_up"}, "gate_beneath": {"dot gate_up"}},
    **{"logit": {"dot head"}, "chosen_room": {"choice"}},
}
"""By column, what tells one of its numbers from another."""


@pytest.mark.parametrize("name", RAW)
def test_another_number_at_any_limb_of_a_column_of_rows_is_refused(own, name):
    column, rng = own.sizes.columns[name], np.random.default_rng(3)
    for shift in column.shifts:
        for step in (1, -1):

            class Changed(AnswerProver):
                def commit(self, witness, step=step * 2**shift):
                    place = tuple(int(rng.integers(n)) for n in column.shape)
                    changed = witness.numbers[name].copy()
                    changed[place] += step
                    return super().commit(replace(witness, numbers={**witness.numbers, name: changed}))

            assert refused(own, own.prove(prover=Changed)) in RAW[name], (shift, step)


def changing(*changes: tuple[str, int, Row]):
    """A forger's change: some columns' rows, by what is made of the honest ones."""

    def change(name, row, values):
        for column, at, make in changes:
            if (column, at) == (name, row):
                values = make(values.copy())
        return values

    return change


def add(by: int, *place: int) -> Row:
    def make(values):
        values[place] += by
        return values

    return make


def put(number, *place) -> Row:
    def make(values):
        values[place] = number
        return values

    return make


FITTED = {
    "root below": ("look-ups", ("root", SITE, add(-1, AT))),
    "root below, its end kept": ("root end", ("root", SITE, add(-1, AT)), ("root_high", SITE, put(0, AT))),
    "root above": ("look-ups", ("root", SITE, add(1, AT))),
    "root above, its rest kept": ("root", ("root", SITE, add(1, AT)), ("root_low", SITE, put(0, AT))),
    "factor below": ("look-ups", ("factor", SITE, add(-1, AT))),
    "factor below, its room kept": ("factor end", ("factor", SITE, add(-1, AT)), ("quotient_room", SITE, put(0, AT))),
    "factor above": ("look-ups", ("factor", SITE, add(1, AT))),
    "factor above, its rest kept": ("factor", ("factor", SITE, add(1, AT)), ("quotient_low", SITE, put(0, AT))),
    "place of a smaller value": ("peak value", ("peak_at", SITE, lambda places: np.roll(places, 1, -1))),
    "squares": ("squares", ("squares", SITE, add(1, AT))),
    "scaled": ("look-ups", ("scaled", SITE, add(-1, AT, 2))),
    "scaled, its room kept": ("scaled rest", ("scaled", SITE, add(-1, AT, 2)), ("norm_room", SITE, put(0, AT, 2))),
    "scaled, its rest kept": ("scaled", ("scaled", SITE, add(-1, AT, 2)), ("norm_rest", SITE, put(0, AT, 2))),
    "total": ("total", ("total", HEAD, add(1, AT))),
    "share below": ("look-ups", ("share", HEAD, add(-1, AT))),
    "share below, its room kept": ("share end", ("share", HEAD, add(-1, AT)), ("share_room", HEAD, put(0, AT))),
    "share above": ("look-ups", ("share", HEAD, add(1, AT))),
    "share above, its rest kept": ("share", ("share", HEAD, add(1, AT)), ("share_low", HEAD, put(0, AT))),
    "weight": ("weight", ("weight", HEAD, add(1, AT, 2))),
    "normed": ("normed", ("normed", SITE, add(1, AT, 2))),
    "top above": ("top", ("top", HEAD, add(1, AT))),
    "top far above": ("top", ("top", HEAD, add(1 << bits.SCORE_SHIFT, AT))),
    "top above, at no place": ("top one", ("top", HEAD, add(1, AT)), ("top_at", HEAD, put(0, AT))),
    "top below": ("top", ("top", HEAD, add(-1, AT))),
    "gate above": ("gate ends", ("gate_index", LAYER, add(-3, AT, 2)), ("gate_above", LAYER, add(3, AT, 2))),
    "gate beneath": ("gate ends", ("gate_index", LAYER, add(3, AT, 2)), ("gate_beneath", LAYER, add(3, AT, 2))),
    "gate on both sides": ("gate ends", ("gate_above", LAYER, add(3, AT, 2)), ("gate_beneath", LAYER, add(3, AT, 2))),
    "logit above": ("look-ups", ("logit", 0, add(1, 4, 0))),
    "logit above, its room kept": ("choice", ("logit", 0, add(1, 4, 0)), ("chosen_room", 0, lambda room: room % 2**18)),
    "logit below": ("look-ups", ("logit", 0, add(-1, 4, 0))),
}
"""By forgery, what refuses it, and numbers that are others; all else follows from them."""


@pytest.mark.parametrize("kind", FITTED)
def test_a_number_of_a_row_with_all_that_follows_is_refused(own, kind):
    by, *changes = FITTED[kind]
    assert refused(own, own.prove(changing(*changes))) == by


def two_faced(kind: str, *fake: tuple[str, Row]) -> type[AnswerProver]:
    """A prover who makes the rounds of one sum-check of other numbers than those that are committed to."""

    class Forger(AnswerProver):
        def factors(self, own_kind, tables):
            if own_kind != kind:
                return super().factors(own_kind, tables)
            honest = self.witness
            told = {name: make(honest.numbers[name].copy()) for name, make in fake}
            self.witness = replace(honest, numbers={**honest.numbers, **told})
            made = super().factors(kind, tables)
            made.message()  # they are made when they are first asked for
            self.witness = honest
            return made

    return Forger


ROOT, SHARE = (0, AT, SITE), (0, AT, HEAD)


@pytest.mark.parametrize(
    "kind", ["peak place", "peak value", "scaled", "root", "factor", "normed", "top", "share", "weight", "gate ends"]
)
def test_the_end_of_each_sum_check_is_of_what_is_committed_to(own, kind):
    """A relation is false of the cells, and its rounds are those of numbers of which it is true."""
    honest, d = own.witness().numbers, own.sizes.d
    place = int(honest["peak_at"][SITE, AT].argmax())
    other = (place + 1) % d.hidden
    scaled, exps = honest["scaled"][SITE, AT], honest["exp"][HEAD, AT]
    factor, share = int(honest["factor"][ROOT]), int(honest["share"][SHARE])
    values, weighed = scaled * factor + (1 << (d.drop - 1)), exps * share
    values[2] += factor
    weighed[2] += share
    changes, fake = {
        "peak place": ([("peak_value", SITE, add(1, AT))], ("below", add(-1, SITE, AT, place))),
        "peak value": (
            [("peak_at", SITE, put(np.arange(d.hidden) == other, AT))],
            ("peak_value", put(abs(honest["peak_value"][ROOT]), *ROOT)),
        ),
        "scaled": (FITTED["scaled, its rest kept"][1:], ("scaled", put(scaled[2], SITE, AT, 2))),
        "root": (
            [("root", SITE, add(1, AT)), ("root_low", SITE, put(honest["root_low"][ROOT], AT))],
            ("root", add(-1, *ROOT)),
        ),
        "factor": (
            [("factor", SITE, add(1, AT)), ("quotient_low", SITE, put(honest["quotient_low"][ROOT], AT))],
            ("factor", add(-1, *ROOT)),
        ),
        "normed": (
            [
                ("normed", SITE, put(values[2] >> d.drop, AT, 2)),
                ("normed_rest", SITE, put(values[2] % (1 << d.drop), AT, 2)),
            ],
            ("scaled", add(1, SITE, AT, 2)),
        ),
        "top": ([("top", HEAD, add(1, AT))], ("top_at", put(0, HEAD, AT))),
        "share": (
            [("share", HEAD, add(1, AT)), ("share_low", HEAD, put(honest["share_low"][SHARE], AT))],
            ("share", add(-1, *SHARE)),
        ),
        "weight": (
            [
                ("weight", HEAD, put(weighed[2] >> bits.EXP, AT, 2)),
                ("weight_rest", HEAD, put(weighed[2] % (1 << bits.EXP), AT, 2)),
            ],
            ("exp", add(1, HEAD, AT, 2)),
        ),
        "gate ends": (FITTED["gate above"][1:], ("gate_index", put(END, LAYER, AT, 2))),
    }[kind]
    forger = two_faced(kind, fake)
    with pytest.raises(AnswerProofError, match=f"{kind}: found a value that does not follow"):
        check(own, own.prove(changing(*changes), prover=forger))


def test_a_top_at_a_place_that_is_not_seen_is_refused(own):
    """Top and distances grow; the place named is the next position, at distance 0."""
    after = AT + 1
    unseen = ("top_at", HEAD, put(np.arange(own.sizes.positions) == after, AT))
    near = ("distance", HEAD, put(0, AT, after))
    for changes, by in (((unseen,), "top one"), ((unseen, near), "top one"), ((near,), "mask")):
        higher = ("top", HEAD, add(1 if len(changes) > 1 else 0, AT))
        assert refused(own, own.prove(changing(higher, *changes))) == by


def test_places_of_a_top_are_0_or_1(own):
    """2 and −1: twice the distance of one place is that of another, and neither is 0."""
    honest = own.witness().numbers
    away = (honest["distance"] + honest["far"]) * 2**15 + honest["distance_low"]
    # top grows by the gap g between the largest and another score; their distances are then g and 2g, limb by limb
    fits = (away > 0) & (away % 2**15 < 2**14) & (away < 2**15 * (END // 4)) & np.tri(own.sizes.positions, dtype=bool)
    row, t, j = (int(axis[0]) for axis in np.nonzero(fits & (honest["far"] == 0)))
    first = int(honest["top_at"][row, t].argmax())
    places = np.zeros(own.sizes.positions, np.int64)
    places[first], places[j] = 2, -1
    forger = changing(("top", row, add(int(away[row, t, j]), t)), ("top_at", row, put(places, t)))
    assert refused(own, own.prove(forger)) == "look-ups"


class OtherLength:
    """Another column of lengths at one row; scaled row, remainders and all that follows fit it."""

    def __init__(self, answer, lengths: Callable[[int], dict[int, int]], *more: tuple[str, int, Row]):
        self.answer, self.lengths, self.more = answer, lengths, changing(*more)

    def of(self, name: str) -> int:
        return int(np.dot(self.length, by_length(name, self.answer.sizes.d)))

    def __call__(self, name, row, values):
        if row != SITE:
            return values
        values = values.copy()
        if name == "below":
            self.below = values[AT]
        elif name == "above":
            self.x = (values[AT] - self.below) // 2
            self.length = np.zeros(32, np.int64)
            for at, own in self.lengths(int(abs(self.x).max()).bit_length()).items():
                self.length[at] += own
            self.wide = self.x * self.of("up") + self.of("half")
        elif name == "scaled":
            values[AT] = self.wide // self.of("down")
            self.scaled = values[AT]
        elif name == "norm_rest":
            values[AT] = self.wide - self.scaled * self.of("down")
        elif name == "length":
            values[:, AT] = self.length
        return self.more(name, row, values)


def test_another_length_of_a_peak_is_refused(own):
    def proof(lengths, *more):
        return own.prove(OtherLength(own, lengths, *more))

    check(own, proof(lambda length: {length: 1}))  # the forger is honest but for the length
    assert refused(own, proof(lambda length: {length + 1: 1})) == "look-ups"
    assert refused(own, proof(lambda length: {length - 1: 1})) == "look-ups"
    # what keeps a peak in its length is kept in range
    assert refused(own, proof(lambda length: {length + 1: 1}, ("peak_low", SITE, put(0, AT)))) == "peak"
    assert refused(own, proof(lambda length: {length - 1: 1}, ("peak_high", SITE, put(0, AT)))) == "peak length"
    assert refused(own, proof(lambda length: {length: 1, 0: 1})) == "length"
    assert refused(own, proof(lambda length: {length: 1, 1: 1, 0: -1})) == "look-ups"
    assert refused(own, proof(lambda length: {length: 2, length - 1: -2, 0: 1})) == "look-ups"


@pytest.mark.parametrize(
    ("peak", "places", "value", "by"),
    [
        (lambda x, a, b: x[a] + 1, {"a": 1}, None, "peak value"),
        (lambda x, a, b: x[a] + 1, {"a": 1}, lambda x, a, b: x[a] + 1, "peak place"),
        (lambda x, a, b: x[a] + 1, {"a": 1}, lambda x, a, b: -x[a] - 1, "peak place"),
        (lambda x, a, b: 2 * x[a] + 5, {"b": 1}, None, "peak value"),
        (lambda x, a, b: x[a] + x[b], {"a": 1, "b": 1}, None, "peak one"),
        (lambda x, a, b: 2 * x[a] - x[b], {"a": 2, "b": -1}, None, "look-ups"),
        (lambda x, a, b: x[a] - 1, {"a": 1}, lambda x, a, b: x[a] - 1, "peak place"),
        (lambda x, a, b: x[b], {"b": 1}, None, "look-ups"),
    ],
)
def test_a_peak_that_is_not_the_largest_magnitude_is_refused(own, monkeypatch, peak, places, value, by):
    """All that follows from it fits: ``below`` and ``above``, its length and what is scaled by it. a and b are the
    places of the largest and of the least positive value of a row whose largest magnitude is a positive one."""
    honest, calls = own.witness().numbers, []
    stream = (honest["above"] - honest["below"])[SITE] // 2
    t = next(t for t in range(own.sizes.positions) if stream[t].max() == abs(stream[t]).max())
    x = stream[t]
    a, b = int(x.argmax()), int(np.where(x > 0, x, 2**40).argmin())
    assert a != b
    own_peak = twins.norm_peak

    def norm_peak(rows):
        found = own_peak(rows)
        calls.append(1)
        if len(calls) == SITE + 1:
            found = found.copy()
            found[t] = peak(x, a, b)
        return found

    def taken(values):
        values[t] = 0
        for at, own in places.items():
            values[t, {"a": a, "b": b}[at]] = own
        return values

    changes = [("peak_at", SITE, taken)]
    if value is not None:
        changes.append(("peak_value", SITE, put(value(x, a, b), t)))
    forger = changing(*changes)  # which also keeps the model's own loss of other exceptions out of the way
    monkeypatch.setattr(twins, "norm_peak", norm_peak)
    assert refused(own, own.prove(forger)) == by


def test_minus_the_peak_where_the_peak_is_is_refused(own):
    forger = changing(("peak_value", SITE, lambda value: -value))
    assert refused(own, own.prove(forger)) == "peak place"


def test_an_index_beyond_the_table_is_cut_at_its_nearer_end(bent):
    """What is cut is cut one short of the end, or at the other one, and all follows."""
    honest = bent.witness().numbers
    for name, end, inward in (("gate_above", END, -1), ("gate_beneath", 0, 1)):
        layer, t, j = (int(axis[0]) for axis in np.nonzero(honest[name]))
        far, other = int(honest[name][layer, t, j]), {"gate_above": "gate_beneath", "gate_beneath": "gate_above"}[name]
        short = (("gate_index", layer, put(end + inward, t, j)), (name, layer, put(far + 1, t, j)))
        assert refused(bent, bent.prove(changing(*short))) == "gate ends"
        # above the first entry, or beneath the last: with another sign's amount of what the index is
        crossed = (("gate_index", layer, put(END - end, t, j)), (name, layer, put(END + far, t, j)))
        assert refused(bent, bent.prove(changing(*crossed))) == "gate ends"
        both = ((name, layer, put(far + 1, t, j)), (other, layer, put(1, t, j)))
        assert refused(bent, bent.prove(changing(*both))) == "gate ends"


RELATIONS = {
    *("embedding", "peak", "length", "peak one", "peak length", "peak place", "peak value", "scaled rest", "scaled"),
    *("squares", "root", "root end", "factor", "factor end", "normed", "turned", "scores", "top one", "top", "far"),
    *("mask", "total", "share", "share end", "weight", "mix", "silu", "product", "gate ends", "choice"),
    *(f"dot {name}" for name in ("qkv", "out", "gate_up", "down", "head")),
    *("ranges", "look up exp", "look up sigmoid", "table range", "table exp", "table sigmoid"),
    *("join", "opening", "code word", "columns"),
}


def test_a_message_that_is_changed_is_refused_by_its_own_relation(own):
    """Each relation refuses something, so that none could be left out."""
    assert {refused(own, proof) for proof in one_more_each(own, "commitment").values()} == RELATIONS


def test_numbers_by_length_are_those_of_each_peak(own):
    """Against the lane's own scaling, at both ends of every length."""
    d = own.sizes.d
    for length, ends in enumerate(zip(least_peaks(), most_peaks(), strict=True)):
        for peak in ends:
            assert peak.bit_length() == length
            power = int(twins.norm_power(np.array([peak]))[0])
            up, down, half = (by_length(name, d)[length] for name in ("up", "down", "half"))
            assert (up, down) == (2 ** max(power, 0), 2 ** max(-power, 0))
            assert half == down // 2
            x = np.array([peak, -peak, peak // 3])
            assert ((x * up + half) // down == twins.scale(x, np.array([power]))).all()
            epsilon = twins.scale(np.array([d.epsilon]), np.array([2 * power]))[0]
            assert by_length("epsilon", d)[length] == epsilon
