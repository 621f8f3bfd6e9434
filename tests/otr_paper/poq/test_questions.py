"""Questions and their truth."""

import re

import pytest

from otr_core.errors import ParameterError
from otr_paper.poq import questions

SEED = 20251223


def test_held_out_and_training_questions_share_no_word_of_any_pool():
    for kind in ("name", *questions.KINDS):
        held, trained = questions.words(kind, "held-out"), questions.words(kind, "training")
        assert not {w.lower() for w in held} & {w.lower() for w in trained}
        assert len(set(held)) == len(held)
        assert len(set(trained)) == len(trained)
    asked = questions.held_out_questions(SEED)
    assert len(asked) == len(set(asked)) == 200
    known = {word for kind in ("name", *questions.KINDS) for word in questions.words(kind, "training")}
    assert not any(known & set(re.findall(r"\w+", one.prompt)) for one in asked)


def test_truth_stands_in_the_context_and_the_reference_is_right():
    for one in questions.held_out_questions(SEED):
        assert re.search(rf"\b{one.truth}\b", one.context)
        assert one.name in one.question
        assert one.truth not in one.question
        assert questions.is_right(one, one.reference)


def test_the_comparison_asks_32_balanced_questions_of_the_held_out_ones():
    seeds = (SEED, SEED + 1, SEED + 2)
    asked = questions.comparison_questions(seeds)
    assert len(asked) == len(set(asked)) == 32
    assert asked[12:24] == questions.held_out_questions(SEED + 1)[:12]
    assert all([one.kind for one in asked].count(kind) == 8 for kind in questions.KINDS)
    assert asked != questions.comparison_questions((SEED, SEED + 1, SEED))
    with pytest.raises(ValueError, match="longer"):
        questions.comparison_questions(seeds[:2])


def test_right_needs_the_true_value_as_a_word_and_no_other_of_its_kind():
    one = questions.Question("Tom", "Tom lives in Oslo.", "Where does Tom live?", "Oslo", "city")
    assert questions.is_right(one, "tom lives in OSLO, in the north.")
    for wrong in ("", "Tom lives in Osloborg.", "Tom lives in Oslo or Madrid.", "Where does Tom live?", "In Lisbon."):
        assert not questions.is_right(one, wrong)
    assert questions.accuracy([one, one], ["Oslo", "Madrid"]) == 0.5


@pytest.mark.parametrize(("count", "side"), [(0, "training"), (3, "test")])
def test_questions_refuse_what_they_cannot_draw(count, side):
    with pytest.raises(ParameterError):
        questions.draw_questions(count, side, 1)
