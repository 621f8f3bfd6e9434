"""Drawn answers whose rows are hidden: which token a draw gives is proven without its sums in the clear."""

from __future__ import annotations

import numpy as np
import pytest

from otr_core.lane.sampling import draw
from otr_core.spotcheck.proof.layout import DRAW_BITS, DRAW_LIMB
from otr_node.proof.witness_rows import RowColumns
from tests.helpers.answer_proofs import ProvableAnswer, signed_lie
from tests.otr_core.spotcheck.test_hidden_rows import check, hidden, refused


@pytest.fixture(scope="module")
def own(drawn_answer) -> ProvableAnswer:
    """Seven tokens, drawn at temperature 0.9."""
    return hidden(drawn_answer)


def _part(witness, step: int) -> tuple[int, int]:
    """The part of all weights that a step draws, and the rest, from its limbs."""
    n = {name: int(witness.numbers[name][0, step, 0]) for name in witness.numbers if name.startswith(("draw", "ch"))}
    rest = (n["draw_high"] << DRAW_LIMB) + n["draw_low"]
    return n["draw_more"], rest


def test_an_honest_draw_passes(own):
    check(own, own.prove())


def test_the_limbs_are_those_of_the_product(own):
    witness = own.witness()
    for step, u in enumerate(own.draws):
        low, high = (int(witness.numbers[name][0, step, 0]) for name in ("chances_low", "chances_high"))
        whole = u * ((high << DRAW_LIMB) + low)
        more, rest = _part(witness, step)
        assert (more + 2 * (u >> DRAW_LIMB) * high, rest) == divmod(whole, 1 << DRAW_BITS)


def test_at_the_ends_of_what_is_drawn_the_limbs_fit(own):
    """The largest total that its limbs hold, and draws from 0 to the largest."""
    s, most = own.sizes, (1 << 48) - 1
    draws = (0, 1, (1 << DRAW_LIMB) - 1, 1 << DRAW_LIMB, (1 << DRAW_BITS) - 1, *(draw(1, i, b"o" * 32) for i in (0, 1)))
    columns = {name: np.zeros(column.shape, np.int64) for name, column in s.columns.items()}
    known = RowColumns(s, columns, None, draws)
    ones = np.ones(s.answer, np.int64)
    known.end({"logit_at": 0 * ones, "chances": most * ones, "before": 0 * ones, "chance": most * ones}, {})
    for name, column in s.columns.items():
        if name.startswith(("draw", "chances")):
            values = columns[name]
            assert int(values.min()) >= 0, name
            assert int(values.max()).bit_length() <= sum(column.widths), name


def _other(name: str, step: int):
    def change(column, row, values):
        if column == name:
            values = values.copy()
            values[step, 0] += 1
        return values

    return change


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("chances_low", "chances"),
        ("chances_high", "chances"),
        ("draw_low", "draw low"),
        ("draw_carry", "draw low"),
        ("draw_high", "draw high"),
        ("draw_more", "draw high"),
        ("draw_room", "draw"),
        ("draw_end", "draw end"),
        ("logit", "choice top"),
    ],
)
def test_a_number_that_is_another_is_found(own, name, found):
    assert refused(own, own.prove(_other(name, 2))) == found


def test_the_largest_logit_is_one_that_is_there(own):
    def two(column, row, values):
        if column == "logit_at":
            values = values.copy()
            values[2, (values[2].argmax() + 1) % values.shape[1]] = 1
        return values

    def elsewhere(column, row, values):
        return np.roll(values, 1, axis=1) if column == "logit_at" else values

    assert refused(own, own.prove(two)) == "choice one"
    assert refused(own, own.prove(elsewhere)) == "choice top"


@pytest.mark.parametrize("name", ["draw_room", "draw_end"])
def test_another_token_of_a_draw_leaves_a_number_below_zero(own, name):
    """The token before or after the one that is drawn, with every number made to fit: one is not in its range."""
    witness = own.witness()
    chances = witness.numbers["chance"][0]
    step = own.sizes.answer - 1
    chosen = own.response.token_ids[step]
    weighs = [i for i in np.flatnonzero(chances[step]).tolist() if i not in own.model.architecture.stop_ids]
    near = [i for i in weighs if (i > chosen if name == "draw_room" else i < chosen)]
    if not near:
        pytest.skip("the drawn token is the first or the last that weighs anything")
    other = near[0] if name == "draw_room" else near[-1]
    ids = list(own.response.token_ids)
    ids[step] = other
    lie = signed_lie(own, tuple(ids))
    lie.sizes = own.sizes
    made = lie.witness(lambda column, row, values: values)
    assert int(made.numbers[name][0, step, 0]) < 0
    assert refused(lie, lie.prove(lambda column, row, values: values)) in ("ranges", "look-ups")


@pytest.mark.parametrize("limb", [0, 1, 2])
def test_a_limb_beyond_its_width_is_found(own, limb):
    """What a carry takes more is taken from the limb above: the sums stay, the range does not."""
    pairs = (("draw_low", "draw_carry", DRAW_LIMB), ("draw_high", "draw_more", DRAW_BITS - DRAW_LIMB))
    pairs += (("chances_low", "chances_high", DRAW_LIMB),)
    low, high, width = pairs[limb]

    def change(column, row, values):
        if column in (low, high):
            values = values.copy()
            values[1, 0] += 1 << width if column == low else -1
        return values

    assert refused(own, own.prove(change))
