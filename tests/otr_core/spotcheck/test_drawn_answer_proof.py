"""The proof of a drawn answer: temperature, draws and sums are the order's and the lane's, or it is
refused by name.

Forgers change the witness before proving, facts in the clear, tokens that a receipt then signs, or
the temperature they compute with, and are honest from there on.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from otr_core.errors import ProverError
from otr_core.lane import formats as bits
from otr_core.lane.dims import Dims
from otr_core.lane.sampling import MAX_TEMPERATURE_MILLI, Decoding, draw
from otr_core.spotcheck.proof import layout, party, verify
from otr_core.spotcheck.proof.field import P
from otr_core.spotcheck.proof.layout import TEMPER_END, Sizes
from otr_core.spotcheck.proof.soundness import (
    MOST_CLAIMS,
    MOST_PRODUCTS,
    MOST_RELATIONS,
    POLICY_BITS,
    TREE_CLAIMS,
    soundness_bits,
)
from otr_core.spotcheck.proof.verify import draws_of
from otr_node.generate import generate
from otr_node.proof.prover import AnswerProver
from otr_node.proof.witness import make_witness
from otr_paper.benches.verify import SIZE
from tests.helpers.answer_proofs import counting, provable, refused, signed_lie

CHOICE = ("below_top", "logit_rest", "chance_far", "chance_index", "chance")
TEMPER = ("temper_low", "temper_high", "temper_room")


@pytest.fixture(scope="module")
def drawn(drawn_answer):
    return drawn_answer


def test_an_honest_proof_of_drawn_tokens_passes(drawn, drawn_proof):
    greedy = provable(drawn.model, "w3 w4 w5", Decoding(7))
    assert drawn.response.token_ids != greedy.response.token_ids
    found = drawn.check(drawn_proof)
    assert found.tokens == len(drawn.response.token_ids)
    assert found.soundness_bits >= 100
    assert found.temperature_milli == 900
    assert drawn.prove() == drawn_proof
    # neither kind of statement is proven by the other's proof
    assert refused(greedy, drawn_proof)


@pytest.mark.parametrize("milli", [1, 2, 30, 1000, 5000])
def test_every_temperature_is_proven(tiny_portable, milli):
    answer = provable(tiny_portable, "w7 w9", Decoding(3, 5, milli))
    witness = answer.witness()
    assert (witness.numbers["chance_far"].max() > 0) == (milli < 1000)  # both sides of the table's end
    assert answer.check(answer.prove()).tokens == len(answer.response.token_ids)


@pytest.mark.parametrize("name", [*CHOICE, *TEMPER])
def test_a_changed_value_of_the_draw_is_refused(drawn, name):
    """One place, by steps of all sizes; of the choice computed from there on, too."""
    rng = np.random.default_rng(len(name))
    for step in (1, -1, 2**13):
        place = int(rng.integers(drawn.sizes.answer)), int(rng.integers(drawn.sizes.d.vocab))

        def change(column, at, own, place=place, step=step):
            if column != name:
                return own
            own = own.copy()
            own[place] += step
            return own

        assert refused(drawn, drawn.prove(change)), (name, step)


def told(answer, name: str, step: int, at: int = 2, change=None) -> bytes:
    """A proof with one fact of the choice changed."""

    def facts(own):
        values = own.choices[name].copy()
        values[at] += step
        return replace(own, choices={**own.choices, name: values})

    return answer.prove(change, facts)


def test_a_changed_fact_of_the_draw_is_refused_by_its_relation(drawn):
    assert refused(drawn, told(drawn, "logit", 1)) == "dot head"
    assert refused(drawn, told(drawn, "logit_at", 1)) == "choice top"
    assert refused(drawn, told(drawn, "chances", 1)) == "chances"
    assert refused(drawn, told(drawn, "before", -1)) == "before"
    assert refused(drawn, told(drawn, "chance", 1)) == "chance"


def test_a_larger_largest_logit_is_refused(drawn):
    """All distances grown by one keep every logit: then none of them is 0."""

    def change(column, at, own):
        if column == "below_top":
            own = own.copy()
            own[2] += 1
        return own

    assert refused(drawn, told(drawn, "logit", 1, change=change)) == "choice top"


@pytest.mark.parametrize("beside", [1, -1])
def test_a_token_beside_the_drawn_one_is_refused_though_a_receipt_signs_it(drawn, beside):
    ids = list(drawn.response.token_ids)
    ids[-1] = 3 + (ids[-1] - 3 + beside) % 61  # the last one: nothing is computed from it
    lie = signed_lie(drawn, tuple(ids))
    with pytest.raises(ProverError, match="found"):
        lie.witness()
    same = lambda name, row, own: own  # noqa: E731
    assert refused(lie, lie.prove(same)) == "draw"
    # the sum before it told as the draw needs it
    proven = lie.witness(same).facts.choices
    seed, order = lie.file.order.decoding.seed, lie.file.order.id
    target = draw(seed, lie.sizes.answer - 1, order) * int(proven["chances"][-1]) >> 53
    assert refused(lie, told(lie, "before", target - int(proven["before"][-1]), -1, same)) == "before"
    # and its weight, with the sum before as it is
    if target >= proven["before"][-1]:
        wide = target + 1 - int(proven["before"][-1] + proven["chance"][-1])
        assert refused(lie, told(lie, "chance", wide, -1, same)) == "chance"
    # and the total
    if target:
        shrunk = int(proven["before"][-1]) * 2**53 // draw(seed, lie.sizes.answer - 1, order) + 1
        assert refused(lie, told(lie, "chances", shrunk - int(proven["chances"][-1]), -1, same)) == "chances"


def test_a_draw_is_compared_at_both_ends_of_the_chosen_tokens_weights(drawn, drawn_proof, monkeypatch):
    """The least draw that reaches each end, of every step: one less than its first passes the token before."""
    proven, seen = drawn.witness().facts.choices, set()
    for at in range(drawn.sizes.answer):
        total, before, own = (int(proven[name][at]) for name in ("chances", "before", "chance"))
        ends = {before - 1: False, before: True, before + own - 1: True, before + own: False}
        for target, good in ends.items():
            if 0 <= target < total:
                draws = [*drawn.draws]
                draws[at] = -(-target * 2**53 // total)
                monkeypatch.setattr(verify, "draws_of", lambda *given, draws=draws: tuple(draws))
                assert good or refused(drawn, drawn_proof) == "draw"
                assert not good or drawn.check(drawn_proof)
                seen.add((target - before, total % 2) if target <= before else (target - before - own, total % 2))
    assert {end for end, _ in seen} == {-1, 0}
    assert (0, 1) in seen  # of an odd total, which no draw of half of it gives


@pytest.mark.parametrize("kind", ["seed", "order"])
def test_tokens_of_other_draws_are_refused(drawn, kind):
    """Tokens by another seed or another order's draws, honest in all else."""
    order = drawn.file.order
    decoding = replace(order.decoding, seed=order.decoding.seed + (kind == "seed"))
    by = {"seed": order.id, "order": bytes(32)}[kind]
    ids = generate(drawn.model, drawn.said.prompt_ids, decoding, order_id=by).token_ids
    assert ids != drawn.response.token_ids
    lie = signed_lie(drawn, ids)
    assert refused(lie, lie.prove(lambda name, row, own: own)) == "draw"


@pytest.mark.parametrize("milli", [899, 901, 800, 1000])
def test_another_temperature_than_the_orders_is_refused(drawn, milli):
    """Weights and sums are of another temperature, and tokens are drawn at it."""
    order, prompt = drawn.file.order, drawn.said.prompt_ids
    decoding = replace(order.decoding, temperature_milli=milli)
    lie = signed_lie(drawn, generate(drawn.model, prompt, decoding, order_id=order.id).token_ids)
    other = replace(lie.sizes, temperature_milli=milli)
    witness = make_witness(lie.model, other, lie.tokens, draws=draws_of(order, other.answer))
    proof = lie.prove(of_witness(witness), lambda facts: replace(facts, choices=witness.facts.choices))
    assert refused(lie, proof) in ("temper", "temper rest")


def of_witness(witness):
    """A change that puts another witness's values of the choice."""
    return lambda name, row, own: witness.numbers[name][row] if name in (*CHOICE, *TEMPER) else own


def test_a_remainder_as_large_as_the_divisor_is_refused(drawn):
    """The index one less, and the remainder the divisor more: the relation holds, the range does not."""
    s = drawn.sizes
    step = s.temper >> s.limb_bits

    def change(column, at, own):
        by = {"chance_index": -1, "temper_high": step, "temper_room": room}.get(column, 0)
        if by:
            own = own.copy()
            place = tuple(np.argwhere(witness.numbers["chance_index"][0] > 0)[0])
            own[place] += by
        return own

    witness = drawn.witness()
    room = 0  # which is made from the high part, and is negative now
    assert refused(drawn, drawn.prove(change)) == "look-ups"
    room = step  # as it was: then the two do not add up
    assert refused(drawn, drawn.prove(change)) == "temper rest"


def test_a_weight_that_is_near_is_not_told_to_be_far(drawn):
    """Index and excess shared otherwise: the sum is the same, the entry is not."""
    witness = drawn.witness()
    place = tuple(np.argwhere((witness.numbers["chance_index"][0] > 9) & (witness.numbers["chance"][0] > 0))[0])

    def change(column, at, own):
        by = {"chance_index": -9, "chance_far": 9}.get(column, 0)
        if by:
            own = own.copy()
            own[place] += by
        return own

    assert refused(drawn, drawn.prove(change)) == "far chance"


class Halves:
    """Rounds that are right in themselves and of no sum at all: each is constant, half of what is claimed."""

    def __init__(self, claim, degree):
        self.claim, self.degree = claim, degree

    def message(self):
        self.claim = self.claim * pow(2, -1, P)
        return np.stack([self.claim.words] * (self.degree + 1))

    def bind(self, challenge):
        """A constant stays what it is."""


def test_where_a_sum_check_ends_its_value_is_compared(tiny_portable, monkeypatch):
    """Of every product that is proven: a forger that is free in all rounds passes each of them, and not the end."""
    cold = provable(tiny_portable, "w7 w9", Decoding(3, 5, 30))
    assert all(cold.witness().numbers[name].any() for name in ("far", "chance_far"))  # products that are not 0
    honest, kinds = party.sumcheck, list[str]()

    def free(channel, label, claim, shape, degree, build):
        if channel.sends:
            kinds.append(label)
            if label == forged:
                return honest(channel, label, claim, shape, degree, lambda: Halves(claim, degree))
        return honest(channel, label, claim, shape, degree, build)

    monkeypatch.setattr(party, "sumcheck", free)
    forged = ""
    assert cold.check(cold.prove())
    products = {*kinds}
    assert {kind.partition(" ")[0] for kind in products} == {
        *("squares", "dot", "scores", "far", "mix", "silu", "product")
    }
    for forged in sorted(products):
        assert refused(cold, cold.prove()) == forged, forged


def test_no_side_of_the_draws_relations_wraps_around(drawn):
    """Of every temperature: what is claimed, by its ranges, differs by less than p."""
    for milli in range(1, MAX_TEMPERATURE_MILLI + 1):
        s = replace(drawn.sizes, temperature_milli=milli)
        for limb_bits in (14, 20):
            s.__dict__["limb_bits"] = limb_bits
            most = {column.name: (1 << sum(column.widths)) - 1 for column in s.choice_columns()}
            right = (most["chance_far"] + TEMPER_END) * s.temper + (most["temper_high"] << limb_bits) + 2**limb_bits
            left = most["below_top"] * bits.TEMPERATURE_FACTOR
            assert max(left, right) < 2**63 < P - 2**62
            # the divisor is whole limbs, and what is farthest fits and lies beyond the table
            assert s.temper % (1 << limb_bits) == 0
            assert most["temper_high"] >= (s.temper >> limb_bits) - 1
            assert TEMPER_END < left // s.temper <= most["chance_far"]


def test_look_ups_in_many_groups_are_proven_one_by_one(tiny_portable, monkeypatch):
    """As of long answers, at a small size; a false look-up in any of them is refused."""
    monkeypatch.setattr(layout, "MOST_LOOKUPS_BITS", 15)
    monkeypatch.setattr(layout, "MOST_LEAVES_BITS", 13)
    answer = provable(tiny_portable, "w3 w4", Decoding(5, 1, 900))
    groups = answer.sizes.lookup_groups
    assert len(groups["range"]) > 2
    assert answer.check(answer.prove()).tokens == len(answer.response.token_ids)
    ends = {"below": (0, 0), "temper_room": (0, 1), "chance": (0, 3), "sigmoid": (2, 4)}
    for name, (row, t) in ends.items():

        def change(column, at, own, name=name, row=row, t=t):
            if (column, at) != (name, row):
                return own
            own = own.copy()
            own[t, 1] += 2**40
            return own

        assert refused(answer, answer.prove(change)), name
    # multiplicities that make up for a false look-up of another group

    class Borrowed(AnswerProver):
        def commit(self, witness):
            super().commit(witness)
            first, cells = self.sizes.cells_of("count_range")
            counts = self.cells.reshape(-1)[first : first + cells].reshape(len(groups["range"]), -1)
            at = int(np.flatnonzero(counts[0])[0])
            counts[0, at] -= np.uint64(1)
            counts[1, at] += np.uint64(1)
            return self.commit_to_cells()

    assert refused(answer, answer.prove(prover=Borrowed)) == "look-ups"


@pytest.mark.parametrize("kind", ["answer", "drawn_answer"])
def test_no_statement_has_more_steps_than_soundness_counts(request, kind):
    answer, seen = request.getfixturevalue(kind), {}

    answer.check(answer.prove(prover=counting(seen)))
    groups = [group for each in answer.sizes.lookup_groups.values() for group in each]
    trees = sum(len(answer.sizes.trees(group.cells)) + 1 for group in groups)
    assert 20 < seen["equal"] <= MOST_RELATIONS
    assert 10 < seen["reduce"] <= MOST_PRODUCTS
    assert 50 < seen["columns"] <= MOST_CLAIMS
    assert trees <= seen["flat"] <= TREE_CLAIMS * trees


def test_soundness_does_not_fall_with_the_number_of_look_ups():
    """A model of SmolLM2's dimensions, up to the most positions."""
    d = Dims.of(SIZE)
    found = {n: soundness_bits(Sizes(d, n // 2, n // 2 + 1, (2**23,) * d.layers)) for n in (64, 256, 1024)}
    assert all(bits > POLICY_BITS for bits in found.values()), found
    drawn = Sizes(d, 512, 513, (2**23,) * d.layers, 700)
    assert soundness_bits(drawn) > POLICY_BITS
    assert max(group.cells for groups in drawn.lookup_groups.values() for group in groups) == 2**26
