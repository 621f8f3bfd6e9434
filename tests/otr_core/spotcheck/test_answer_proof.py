"""The proof of a whole answer: an honest one passes, and no forged one does.

Forgers are free: each changes the witness before proving, or facts, or messages, and is honest from
there on, so that one relation alone can find it.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from otr_core.errors import AnswerProofError, ProverError
from otr_core.lane import formats
from otr_core.lane.dims import Matrix
from otr_core.lane.formats import INT32, SCORE_SHIFT
from otr_core.lane.sampling import Decoding
from otr_core.spotcheck.proof import verify
from otr_core.spotcheck.proof.facts import EXCEPTIONS, exception_shape, fact_shapes
from otr_core.spotcheck.proof.field import ZERO, Ext, P, dot, eq_table
from otr_core.spotcheck.proof.layout import Sizes
from otr_core.spotcheck.proof.party import Party
from otr_core.spotcheck.proof.soundness import POLICY_BITS, errors, soundness_bits
from otr_core.spotcheck.proof.sumcheck import interpolate
from otr_core.spotcheck.proof.transcript import Channel
from otr_core.spotcheck.proof.verify import HEADER
from otr_node.integers import twins
from otr_node.integers.forms import SIGMOID
from otr_node.portable import load_portable
from otr_node.proof import witness
from otr_node.proof.prover import AnswerProver
from otr_node.rounding import matrix_name
from otr_paper.labs.tiny import TINY, tiny_tensors, write_tiny
from tests.helpers.answer_proofs import Marking, one_more_each, provable, refused, signed_lie

SEEN_ONLY = ("distance", "distance_low", "far")
"""Of these only places that are seen mean anything: the rest weighs nothing whatever it is."""

REFUSED_BY = {
    **{"below": "peak", "above": "peak", "scaled": "look-ups", "norm_rest": "scaled"},
    **dict.fromkeys(("normed", "normed_rest"), "normed"),
    **dict.fromkeys(("qkv", "qkv_rest"), "dot qkv"),
    **dict.fromkeys(("turned", "turned_rest"), "turned"),
    **dict.fromkeys(SEEN_ONLY, "scores"),
    **{"exp": "mask", "weight": "weight", "weight_rest": "weight", "mixed": "mix", "mixed_rest": "mix"},
    **{"out_rest": "dot out", "down_rest": "dot down"},
    **dict.fromkeys(("gate_index", "gate_low", "gate_rest", "up", "up_rest"), "dot gate_up"),
    **{"sigmoid": "look-ups", "silu": "silu", "silu_rest": "silu", "product": "product", "product_rest": "product"},
    "room": "dot head",
}
"""By column, what tells one of its values from the one that follows: of a scaled value the range of its remainder, of
a weight that is not seen the mask."""


def test_an_honest_proof_passes_and_is_the_same_bytes_each_time(answer, honest_proof):
    found = answer.check(honest_proof)
    assert (found.positions, found.tokens, found.proof_bytes) == (answer.sizes.positions, 9, len(honest_proof))
    assert found.soundness_bits >= POLICY_BITS
    assert answer.prove() == honest_proof


@pytest.mark.parametrize(("words", "tokens"), [(1, 1), (1, 7), (7, 1), (12, 5)])
def test_answers_of_any_length_are_proven(tiny_portable, words, tokens):
    answer = provable(tiny_portable, " ".join(f"w{3 + at}" for at in range(words)), Decoding(tokens))
    assert answer.check(answer.prove()).tokens == len(answer.response.token_ids)


def test_an_answer_that_stops_before_all_that_was_ordered_is_proven(tiny_portable):
    answers = (provable(tiny_portable, "w3 w4", Decoding(12, seed, 2000)) for seed in range(60))
    stopped = next(each for each in answers if each.file.receipt.finish == "stop")
    assert stopped.check(stopped.prove()).tokens == len(stopped.response.token_ids) < 12


def test_an_answer_of_many_blocks_of_positions_is_proven(tmp_path):
    """More than 256 positions: five blocks of them, the last one not full."""
    architecture = replace(TINY, layers=1, context=300)
    model = load_portable(write_tiny(tmp_path, architecture))
    words = " ".join(f"w{3 + at % 61}" for at in range(250))
    long = provable(model, words, Decoding(9, 4, 800))
    assert long.sizes.positions > 256
    assert len(long.response.token_ids) > 4
    assert long.check(long.prove()).positions == long.sizes.positions
    ids = list(long.response.token_ids)
    ids[-1] = 3 + (ids[-1] - 2) % 61
    lie = signed_lie(long, tuple(ids))
    assert refused(lie, lie.prove(lambda name, row, own: own)) == "draw"


def columns(answer) -> list[str]:
    return [name for name in answer.sizes.columns if not name.startswith("count")]


def inside(rng, *axes: int) -> tuple[int, ...]:
    """A place at no end of an axis, where that has three: random weights cut to either end leave it out."""
    return tuple(int(rng.integers(1, n - 1)) if n > 2 else n - 1 for n in axes)


def flat(place: tuple[int, ...], *axes: int) -> int:
    """Its number, the last axis fastest."""
    return int(np.ravel_multi_index(place, axes))


@pytest.mark.parametrize("part", range(6))
def test_a_changed_value_of_any_column_is_refused(answer, part):
    """One place of each column, by steps of all sizes: by its own relation."""
    rng, d = np.random.default_rng(part), answer.sizes.d
    for name in columns(answer)[part::6]:
        rows, positions, values = answer.sizes.columns[name].shape
        heads, tiles = (d.layers, d.heads), (values // d.tile, d.tile)
        row = flat(inside(rng, *heads), *heads) if rows == d.layers * d.heads else inside(rng, rows)[0]
        (t,) = inside(rng, positions)
        if name in SEEN_ONLY:
            (j,) = inside(rng, t + 1)
        elif name == "exp":
            j = t + 1  # the first that is not seen
        else:
            j = flat(inside(rng, *tiles), *tiles) if values % d.tile == 0 else inside(rng, values)[0]
        step = int(rng.choice([1, 2**13] if name == "far" else [1, -1, 2**13, -(2**20)]))

        def change(column, at, own, name=name, row=row, t=t, j=j, step=step):
            if (column, at) != (name, row):
                return own
            own = own.copy()
            own[t, j] += step
            return own

        assert refused(answer, answer.prove(change)) == REFUSED_BY[name], name


class FedElsewhere:
    """An embedding with one value of one row changed, as it enters."""

    def __init__(self, own, place):
        self.own, self.place = own, place

    def __getattr__(self, name):
        return getattr(self.own, name)

    def gather(self, rows):
        found = self.own.gather(rows)
        found[self.place] += 1
        return found


def test_what_enters_is_the_tokens_embedding_at_every_place(answer):
    """One value of what enters is another, and all that follows is computed from it."""
    name = matrix_name(Matrix.EMBED, 0)
    for place in (inside(np.random.default_rng(9), answer.sizes.positions, answer.sizes.d.hidden), (0, 0), (-1, -1)):
        fed = FedElsewhere(answer.model.matrices[name], place)
        other = replace(answer.model, matrices={**answer.model.matrices, name: fed})
        assert refused(answer, answer.prove(unchanged, model=other)) == "embedding"


def unchanged(name, row, own):
    return own


def test_a_changed_fact_of_any_kind_is_refused(answer):
    by = {"peak_at": "peak place", "peak_sign": "peak place", "top": "scores", "top_at": "top"}
    by |= {"logit": "dot head", "room": "choice"}
    rng = np.random.default_rng(5)
    for name, (shape, least, most) in fact_shapes(answer.sizes).items():
        place = inside(rng, *shape)

        def change(facts, name=name, place=place, least=least, most=most):
            own = facts.choices.get(name, getattr(facts, name, None)).copy()
            if name == "top_at":  # another position seen
                own[place] = (own[place] + 1) % (place[1] + 1)
            else:
                own[place] = own[place] + 1 if own[place] < most else own[place] - 1
            if name in facts.choices:
                return replace(facts, choices={**facts.choices, name: own})
            return replace(facts, **{name: own})

        assert refused(answer, answer.prove(facts=change)) == by.get(name, name), name


@pytest.mark.parametrize("place", [(1, 0), (6, 9)])
@pytest.mark.parametrize(("column", "by"), [("distance", 1 << SCORE_SHIFT), ("distance_low", 1)])
def test_a_top_that_no_score_reaches_is_refused(answer, column, by, place):
    """Top and distances of one row of scores grow by the same, and all else follows."""

    def change(name, row, own):
        if (name, row) != (column, place[0]):
            return own
        own = own.copy()
        own[place[1], : place[1] + 1] += 1
        return own

    def facts(own):
        top = own.top.copy()
        top[place] = answer.witness().facts.top[place] + by
        return replace(own, top=top)

    assert refused(answer, answer.prove(change, facts)) == "top"


def test_the_chosen_tokens_room_is_told_of_every_step(answer):
    for at in range(answer.sizes.answer):

        def change(facts, at=at):
            room = facts.choices["room"].copy()
            room[at] ^= 1
            return replace(facts, choices={**facts.choices, "room": room})

        assert refused(answer, answer.prove(facts=change)) == "choice"


@pytest.mark.parametrize("kind", ["greedy", "drawn"])
def test_what_stands_in_the_clear_is_in_its_range_before_anything_is_computed_with_it(request, kind):
    """Facts and exceptions lie behind the header and the root, so that a forger needs no prover."""
    names = {"greedy": ("answer", "honest_proof"), "drawn": ("drawn_answer", "drawn_proof")}[kind]
    answer, honest_proof = (request.getfixturevalue(name) for name in names)

    def told(at: int, *numbers: int, drop: int = 0) -> str:
        raw = np.array(numbers, "<i8").tobytes()
        return refused(answer, honest_proof[:at] + raw + honest_proof[at + 8 * len(numbers) - drop :])

    at = len(HEADER) + 32
    for name, (shape, least, most) in fact_shapes(answer.sizes).items():
        for beyond in (least - 1, most + 1, -(2**63), 2**63 - 1):
            assert told(at, beyond) == "facts", name
        if name == "top_at":
            assert told(at, 1) == "facts"  # the first position sees itself alone
        at += 8 * int(np.prod(shape))
    for name in EXCEPTIONS:
        last = int(np.prod(exception_shape(answer.sizes, name))) - 1
        for count in (2**20 + 1, 2**63 - 1):
            assert told(at, count) == "facts", name
        for places in ([-1], [last + 1], [5, 5], [6, 5]):
            assert told(at, len(places), *places, *[1] * len(places), drop=16 * len(places)) == "facts", name
        for value in (0, 2**39 + 1, -(2**39) - 1, *([-1] if name == "far" else [])):
            assert told(at, 1, 5, value, drop=16) == "facts", name
        at += 8


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_a_made_up_exception_is_refused(answer, name):
    """One that the cells do not make up for."""
    rng = np.random.default_rng(6)
    axes = exception_shape(answer.sizes, name)
    place, value = np.array([flat(inside(rng, *axes), *axes)]), np.array([3], np.int64)

    class Unmoved(AnswerProver):
        def commit(self, witness):
            none = {each: (place[:0], place[:0]) for each in EXCEPTIONS}
            honest = replace(witness.facts, exceptions={**witness.facts.exceptions, name: none[name]})
            return super().commit(replace(witness, facts=honest))

    def change(facts):
        assert not len(facts.exceptions[name][0])
        return replace(facts, exceptions={**facts.exceptions, name: (place, value)})

    assert refused(answer, answer.prove(facts=change, prover=Unmoved)), name


@pytest.mark.parametrize("at", [0, 4, 8])
def test_wrong_tokens_are_refused_though_a_receipt_signs_them(answer, honest_proof, at):
    """A replaced token; all that follows is computed from it honestly, or is as it was."""
    ids = list(answer.response.token_ids)
    ids[at] = 3 + (ids[at] - 2) % 60
    lie = signed_lie(answer, tuple(ids))
    assert refused(lie, honest_proof)
    with pytest.raises(ProverError, match="found"):
        lie.prove()
    assert refused(lie, lie.prove(change=lambda name, row, own: own))


def test_a_proof_is_of_one_receipt_order_and_model(tiny_portable, answer, honest_proof):
    other = provable(tiny_portable, "w3 w4 w5 w6 w7", Decoding(9), tag=b"\x08")
    assert other.response.token_ids == answer.response.token_ids
    assert refused(other, honest_proof)
    assert refused(answer, honest_proof, model_id=bytes(32)) == "model"
    assert refused(answer, honest_proof, order=other.file.order) == "order"
    file = replace(answer.file, receipt=replace(answer.file.receipt, lane="native-float32"))
    assert refused(answer, honest_proof, file=file) == "lane"
    # a prover that binds another statement, and is honest otherwise
    assert refused(answer, answer.prove(bound={"format": "otr-answer-statement/1"}))


def test_each_member_of_the_statement_is_bound(answer):
    """What stands in it, by the documents themselves; and no proof of less is one of it."""
    file = answer.file
    own = verify.proven_statement(file, answer.said, answer.response)
    assert own == {
        **{"format": "otr-answer-statement/1", "field": str(2**64 - 2**32 + 1), "lane": "portable-1"},
        **{"model_id": answer.model.manifest.model_id.hex(), "order_id": answer.placed.order.id.hex()},
        "receipt": file.receipt.signing_hash(answer.placed.order.domain).hex(),
        "decoding": answer.placed.order.decoding.to_json(),
        **{"prompt": list(answer.said.prompt_ids), "answer": list(answer.response.token_ids)},
    }
    for name in own:
        less = {other: value for other, value in own.items() if other != name}
        assert refused(answer, answer.prove(bound=less)), name


def test_what_is_asked_at_the_door(tiny_portable, answer, honest_proof, monkeypatch):
    """Receipt, order, query and response belong together, before any message is read."""
    other = provable(tiny_portable, "w5 w6", Decoding(4))
    file = answer.file
    assert refused(answer, honest_proof, file=replace(file, query=other.file.query)) == "order"
    assert refused(answer, honest_proof, file=replace(file, response=other.file.response)) == "order"
    assert refused(answer, honest_proof, said=other.said)
    assert refused(answer, honest_proof, response=other.response)

    def under(decoding):
        """The same receipt under another order."""
        order = replace(file.order, decoding=decoding)
        return replace(file, order=order, receipt=replace(file.receipt, order_id=order.id))

    with monkeypatch.context() as own:  # what is asked before would find the other order's seeds
        own.setattr(verify, "check_answered", lambda *given: None)
        for most in (8, 10):  # fewer than were chosen; more, and the answer ended by its length all the same
            assert refused(answer, honest_proof, file=under(Decoding(most))) == "tokens"
    for other_kind in (
        replace(file.model.architecture, context=answer.sizes.positions),  # no room for the answer
        replace(file.model.architecture, biased=True),
    ):
        with monkeypatch.context() as own:
            own.setattr(type(file.model), "architecture", property(lambda self, found=other_kind: found))
            assert refused(answer, honest_proof) == "mode"
    beyond = (*answer.tokens[:-1], answer.sizes.d.vocab)
    with pytest.raises(AnswerProofError, match="beyond the vocabulary"):
        verify.converse(
            Party(Channel(b""), answer.sizes, answer.model.architecture, answer.model, beyond), {}, b"", None
        )
    with monkeypatch.context() as own:
        own.setattr(verify, "MOST_POSITIONS", answer.sizes.positions - 1)
        assert refused(answer, honest_proof) == "mode"


def test_own_order_and_receipt_name_one_order_and_one_model(answer, honest_proof, monkeypatch):
    """Each of the three is asked, where the other two agree."""
    file, order = answer.file, answer.file.order
    beside = replace(file, order=replace(order, job_id=bytes(32)))  # what the statement would be bound to
    assert refused(answer, honest_proof, file=beside, order=order) == "order"
    mine = replace(order, job_id=bytes(32))  # all else in it as in the file's
    assert refused(answer, honest_proof, order=mine) == "order"
    told = replace(file, receipt=replace(file.receipt, order_id=bytes(32)))
    assert refused(answer, honest_proof, file=told) == "order"
    other = replace(order, model_id=bytes(32))
    told = replace(file, order=other, receipt=replace(file.receipt, order_id=other.id))
    assert refused(answer, honest_proof, file=told) == "model"
    # a manifest beside the model that was ordered and is held: sizes and constants would be its own
    beside = replace(file.model, config=replace(file.model.architecture, rms_eps=2e-5).config())
    assert refused(answer, honest_proof, file=replace(file, model=beside)) == "model"
    monkeypatch.setattr(verify, "check_answered", lambda *given: None)
    fewer = replace(order, decoding=Decoding(8))
    receipt = replace(file.receipt, order_id=fewer.id, finish="stop")  # more than ordered, though ended by a stop
    assert refused(answer, honest_proof, file=replace(file, order=fewer, receipt=receipt)) == "tokens"


def test_facts_may_be_as_large_as_the_page_says_and_no_larger(answer, drawn_answer):
    """docs/proof.md, *Why nothing wraps*: with wider ones both sides of a relation could differ by p."""
    hidden, vocab = answer.sizes.d.hidden, answer.sizes.d.vocab
    ends = {"peak": (0, 2**31 - 1), "peak_at": (0, hidden - 1), "peak_sign": (0, 1), "squares": (0, 2**60)}
    ends |= {"top": (-(2**53), 2**53), "total": (0, 2**48), "logit": (-(2**43), 2**43)}
    own = {"answer": {"room": (0, 2**18 - 1)}}
    own["drawn"] = {"logit_at": (0, vocab - 1), **dict.fromkeys(("chances", "before", "chance"), (0, 2**48))}
    for kind, each in (("answer", answer), ("drawn", drawn_answer)):
        found = {name: (least, most) for name, (_, least, most) in fact_shapes(each.sizes).items()}
        assert found == {**ends, "top_at": (0, each.sizes.positions - 1), **own[kind]}


def test_a_comparison_is_of_both_words_and_of_both_ends(answer):
    party = Party(Channel(b""), answer.sizes, answer.model.architecture, answer.model, answer.tokens)
    party.equal("x", Ext(1, 2), Ext(1, 2))
    party.between("x", [5, 6], [5, 0], [6, 7])
    for found in (Ext(1, 3), Ext(3, 2)):
        for expected in (Ext(1, 2), lambda: Ext(1, 2)):
            with pytest.raises(AnswerProofError, match="x: found a value"):
                party.equal("x", found, expected)
    for value in (4, 6, 7):
        with pytest.raises(AnswerProofError, match=f"number 1 at {value}"):
            party.between("x", [5, value], [5, 5], [6, 6])


def test_so_many_columns_are_drawn_as_soundness_counts(
    answer, honest_proof, committed_proof, tiny_commitment, monkeypatch
):
    asked, places = [], Channel.places

    def counted(self, label, count, below_bits):
        asked.append((label, count))
        return places(self, label, count, below_bits)

    monkeypatch.setattr(Channel, "places", counted)
    answer.check(honest_proof)
    answer.check_under(committed_proof, tiny_commitment.commitment)
    assert asked == [("columns", 248), ("columns", 248), ("weights columns", 248)]
    assert -103 < errors(answer.sizes)["columns drawn"] < -102  # as the page says


def test_each_challenge_depends_on_all_that_was_said():
    def challenges(*steps):
        channel = Channel()
        for label, message in steps:
            channel.data(label, len(message), lambda message=message: message)
        return channel.challenge("x"), channel.challenge("x"), tuple(channel.places("y", 200, 20))

    said = [("a", b"12"), ("b", b"3")]
    found = {challenges(*steps) for steps in (said, [("a", b"13"), said[1]], [("b", b"12"), said[1]], said[::-1])}
    assert len(found) == 4
    first, second, places = challenges(*said)
    assert first != second
    assert len(places) > 190


def test_bytes_of_another_form_are_refused(answer, honest_proof):
    assert refused(answer, b"") == "header"
    assert refused(answer, b"\0" * 2**20) == "header"
    assert refused(answer, honest_proof.replace(b"succinct", b"zk      ", 1)) == "header"
    assert refused(answer, honest_proof + b"\0") == "length"
    for end in (len(HEADER), len(HEADER) + 31, len(honest_proof) // 2, len(honest_proof) - 1):
        assert refused(answer, honest_proof[:end])
    # a number that is no element's encoding, in a claim and in the last column
    channel = Marking()
    assert answer.prove(channel=channel) == honest_proof
    for label in ("below", "columns"):
        at = next(at for own, at, size in channel.marks if own == label and size)
        for word in (P, 2**64 - 1):
            forged = honest_proof[:at] + word.to_bytes(8, "little") + honest_proof[at + 8 :]
            assert refused(answer, forged) == "encoding"


def test_replaced_bytes_anywhere_are_refused(answer, honest_proof):
    rng = np.random.default_rng(8)
    for place in rng.integers(0, len(honest_proof), 24):
        forged = bytearray(honest_proof)
        forged[place] ^= 1 << int(rng.integers(8))
        assert refused(answer, bytes(forged)), place


class Adaptive(AnswerProver):
    """Lies in one claim and then says whatever keeps each check true, as long as it can.

    Attributes:
        lie: number of the claim that is changed.
    """

    lie = 0
    number = -1

    def functional(self, name, weights):
        self.number += 1
        value = super().functional(name, weights)
        return value + 1 if self.number == self.lie else value


def test_a_lie_in_any_claim_is_refused(answer):
    found = set()
    for lie in range(0, 55, 6):
        forger = type("Lying", (Adaptive,), {"lie": lie})
        found.add(refused(answer, answer.prove(prover=forger)))
    assert len(found) > 5  # by the relation that it is a claim of


LAYERS = {
    *("embedding", "peak", "peak place", "scaled", "squares", "normed", "turned", "scores", "top", "far", "mask"),
    *("total", "weight", "mix", "silu", "product", *(f"dot {name}" for name in ("qkv", "out", "gate_up", "down"))),
}
LATER = {
    *("ranges", "look up exp", "look up sigmoid", "table range", "table exp", "table sigmoid"),
    *("join", "opening", "code word", "columns"),
}
CHOICES = {
    "answer": {"dot head", "choice"},
    "saturated": {"dot head", "choice", "stream saturation", "gate_index end", "product end"},
    "drawn_answer": {
        *("dot head", "choice top", "temper", "temper rest", "far chance", "chances", "before", "chance"),
        "look up chance",
    },
}


@pytest.fixture(scope="module")
def saturated(tmp_path_factory):
    """An answer of a model whose gates, products and stream leave what their columns hold."""
    architecture = replace(TINY, layers=2)
    by = {"gate_proj": 16, "up_proj": 8, "down_proj": 64}
    scaled = {name: value * by.get(name.split(".")[-2], 1) for name, value in tiny_tensors(architecture).items()}
    model = load_portable(write_tiny(tmp_path_factory.mktemp("saturated"), architecture, scaled))
    answer = provable(model, "w3 w4", Decoding(3))
    counts = {name: len(places) for name, (places, _) in answer.witness().facts.exceptions.items()}
    assert min(counts[name] for name in ("scaled", "gate_index", "product", "stream")) > 0
    return answer


def test_an_answer_with_saturations_is_proven(saturated):
    assert saturated.check(saturated.prove()).tokens == len(saturated.response.token_ids)


@pytest.mark.parametrize("which", [0, 1, -1])
def test_what_a_saturation_cut_off_was_cut_off_at_its_bound(saturated, monkeypatch, which):
    """In any one of the exceptions: it is cut one short of its end, what is cut off is one more, and all follows."""
    honest, s = saturated.witness().facts, saturated.sizes
    axes = exception_shape(s, "stream")
    # the stream: its bound is one less at a place
    _, t, j = (int(axis[which]) for axis in honest.places("stream", axes))
    bounds = np.full(axes[1:], INT32)
    bounds[t, j] -= 1
    with monkeypatch.context() as shorter:
        shorter.setattr(witness, "bits", SimpleNamespace(**{**vars(formats), "INT32": bounds}))
        forged = saturated.prove(unchanged)
    assert refused(saturated, forged) == "stream saturation"
    # a gate's index: its cells hold the entry before the table's last, or the one after its first
    shape = s.columns["gate_index"].shape
    layer, t, j = (int(axis[which]) for axis in honest.places("gate_index", shape))
    inward = 1 if honest.exceptions["gate_index"][1][which] < 0 else -1
    entry = {1: 1, -1: formats.SIGMOID_ENTRIES - 2}[inward]

    def looked_up(name, row, own):
        if (name, row) == ("sigmoid", layer):
            own = own.copy()
            own[t, j] = twins.looked_up(SIGMOID, np.array([entry]))[0]
        return own

    def further(facts):
        places, values = facts.exceptions["gate_index"]
        more = np.where(np.arange(len(places)) == which % len(places), inward, 0)
        return replace(facts, exceptions={**facts.exceptions, "gate_index": (places, values - more)})

    assert refused(saturated, saturated.prove(looked_up, further)) == "gate_index end"


@pytest.mark.parametrize("kind", ["answer", "drawn_answer", "saturated"])
def test_a_message_that_is_changed_is_refused_by_its_own_relation(request, kind):
    """Each relation refuses something, so that none could be left out."""
    answer = request.getfixturevalue(kind)
    refusals = {refused(answer, proof) for proof in one_more_each(answer, "stream").values()}
    assert refusals == LAYERS | CHOICES[kind] | LATER


class Compensating(AnswerProver):
    """Lies in two claims of one relation so that it holds, then in the sum-check that joins all
    claims, in the cells' value and in the combined row; only the drawn columns tell."""

    seen = 0

    def functional(self, name, weights):
        value = super().functional(name, weights)
        if name in ("below", "above") and self.seen < 4:
            # below and above of the peak's relation come after the embedding's claim of below
            self.seen += 1
            return value + (0, 1, P - 1, 0)[self.seen - 1]
        return value


def test_a_lie_that_keeps_its_relation_is_found_when_claims_are_joined(answer):
    assert refused(answer, answer.prove(prover=Compensating)) == "join"


class FreeEnd(Compensating):
    """Goes on where that one is caught: each later message is made to fit."""

    def join(self, powers):
        self.powers, self.bound, side, honest = powers, [], self, super().join(powers)

        class Fitting:
            claim = sum((power * said for power, said in zip(powers, side.said_values(), strict=True)), ZERO)

            def message(self):
                self.values = [Ext.of(each) for each in honest.message()]
                self.values[0] = self.claim - self.values[1]
                return np.stack([each.words for each in self.values])

            def bind(self, challenge):
                honest.bind(challenge)
                self.claim = interpolate(self.values, challenge)
                side.left, side.bound = self.claim, [*side.bound, challenge]

        return Fitting()

    def said_values(self):
        return [said for *_, said in self.ledger.numbers] + [said for _, said in self.ledger.flat]

    def cells_at(self):
        self.opened = self.left * inverse(self.ledger.weight_at(self.bound, self.powers))
        return self.opened

    def combined_row(self, high):
        row, low = super().combined_row(high), eq_table(self.bound[: self.sizes.row_bits])
        off = self.opened - dot(row, low)
        row[0] = (Ext.of(row[0]) + off * inverse(Ext.of(low[0]))).words
        return row


def inverse(x: Ext) -> Ext:
    norm = (x.a * x.a - 7 * x.b * x.b) % P
    scale = pow(norm, -1, P)
    return Ext(x.a * scale % P, -x.b * scale % P)


def test_a_lie_that_fits_every_message_is_found_in_the_drawn_columns(answer):
    assert refused(answer, answer.prove(prover=FreeEnd)) == "code word"


def test_soundness_is_recomputed_and_a_policy_refuses_less(answer, honest_proof):
    bits = soundness_bits(answer.sizes)
    assert bits == pytest.approx(-np.log2(sum(2.0**e for e in errors(answer.sizes).values())))
    assert refused(answer, honest_proof, least_bits=bits + 0.1) == "soundness"
    answer.check(honest_proof, least_bits=bits - 0.1)


def test_sizes_follow_from_manifest_and_receipt_alone(answer):
    s = answer.sizes
    counts = len(answer.said.prompt_ids), len(answer.response.token_ids)
    assert s == Sizes(answer.model.dims, *counts, answer.model.bounds.saturation)
    assert s.rows << s.row_bits >= s.blocks * s.block_cells
