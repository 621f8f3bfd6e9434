"""Proof of Quality: questions and their truth, rewards against hand calculation, intervals, the stored experiment."""

import json
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otr_core.errors import DataError, InputError, ParameterError
from otr_paper.poq import intervals, phrases, questions, rewards, scores, under_otr
from otr_paper.poq.judges import lexical_judge
from otr_paper.series import poq as series
from otr_paper.store.results import read_result

SEED = 20251223
UNIT = st.floats(0, 1)


# questions


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
    asked = questions.comparison_questions(SEED)
    assert len(asked) == 32
    assert asked == questions.held_out_questions(SEED)[:32]
    assert all([one.kind for one in asked].count(kind) == 8 for kind in questions.KINDS)
    assert asked != questions.comparison_questions(SEED + 1)


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


# rewards


def test_original_reward_by_hand():
    assert rewards.reward_share(0.5, alpha=2.0, upper=1.0) == pytest.approx(math.exp(-1))
    assert rewards.reward_share(1.0, alpha=2.0, upper=1.0) == 1.0


@given(st.lists(UNIT, min_size=1, max_size=9), st.floats(0, 50))
def test_assessor_shares_sum_to_one_and_favour_closeness(values, beta):
    shares = rewards.assessor_shares(values, beta=beta)
    assert shares.sum() == pytest.approx(1.0)
    assert (shares >= 0).all()
    order = np.argsort(np.abs(np.array(values) - np.mean(values)))
    assert (np.diff(shares[order]) <= 1e-12).all()


def test_assessor_shares_by_hand_and_equal_when_all_agree():
    weights = np.exp(-4 * np.array([0.25, 0.0, 0.25]))
    assert rewards.assessor_shares([0.0, 0.5, 1.0], beta=4.0) == pytest.approx(weights / weights.sum())
    assert rewards.assessor_shares([0.3] * 4, beta=9.0) == pytest.approx([0.25] * 4)


def test_cost_aware_reward_by_hand_and_refusing_what_is_not_normalised():
    assert rewards.cost_aware_reward([0.8, 0.4], [1.0, 0.5], alpha=1.0, beta=0.5) == pytest.approx([0.3, 0.15])
    for quality, cost in (([8.0], [0.1]), ([0.5], [-0.1])):
        with pytest.raises(ParameterError):
            rewards.cost_aware_reward(quality, cost, alpha=1.0, beta=1.0)
    with pytest.raises(InputError):
        rewards.cost_aware_reward([], [], alpha=1.0, beta=1.0)


@given(st.lists(UNIT, min_size=5, max_size=5), st.floats(0, 1))
def test_fewer_than_half_move_the_median_no_further_than_the_honest_scores(values, boost):
    honest = np.array(values)[:, None]
    moved = rewards.median(rewards.boosted(honest, (3, 4), boost))[0]
    assert min(values[:3]) <= moved <= max(values[:3])


def test_aggregations_by_hand():
    column = np.array([[0.0], [0.2], [0.3], [0.4], [1.0]])
    assert rewards.mean(column) == pytest.approx([0.38])
    assert rewards.median(column) == pytest.approx([0.3])
    assert rewards.trimmed_mean(0.2)(column) == pytest.approx([0.3])
    assert rewards.trimmed_mean(0.0)(column) == pytest.approx([0.38])
    with pytest.raises(ParameterError):
        rewards.trimmed_mean(0.5)


def test_trust_follows_the_published_update_and_saturates():
    scores_in = np.array([[0.2], [0.8]])
    consensus, history = rewards.trust_weighted(scores_in, rate=0.1, low=0.1, high=2.0)
    assert consensus == pytest.approx([0.5])
    assert history[0] == pytest.approx([1 + 0.1 * (0.5 - 0.3)] * 2)
    far = np.tile([[0.0], [0.0], [1.0]], (1, 400))
    _, history = rewards.trust_weighted(far)
    assert history[-1][0] == 2.0
    assert history[-1][2] == pytest.approx(0.1)
    near = np.tile([[0.5], [0.5], [0.9]], (1, 400))
    consensus, history = rewards.trust_weighted(near)
    assert (history[-1] == 2.0).all()
    assert consensus[-1] == pytest.approx(near[:, -1].mean())


def test_boost_stops_at_the_top_and_leaves_the_others_alone():
    assert rewards.boosted(np.array([[0.9], [0.5]]), (0,), 0.4)[:, 0].tolist() == [1.0, 0.5]


# intervals


def test_bootstrap_agrees_with_the_normal_interval_of_a_mean():
    draws = np.random.default_rng(7).normal(3, 2, 400)
    found = intervals.bootstrap(intervals.mean_of, [draws], seed=1, resamples=4000)
    half = 1.96 * draws.std(ddof=1) / 20
    assert found.value == pytest.approx(draws.mean())
    assert (found.low, found.high) == pytest.approx((draws.mean() - half, draws.mean() + half), abs=0.03)
    assert found == intervals.bootstrap(intervals.mean_of, [draws], seed=1, resamples=4000)


def test_pairing_is_kept():
    one = np.random.default_rng(8).random(50)
    found = intervals.bootstrap(intervals.relative_loss, [0.7 * one, one], seed=2)
    assert (found.value, found.low, found.high) == pytest.approx((0.3, 0.3, 0.3))
    with pytest.raises(InputError):
        intervals.bootstrap(intervals.mean_of, [one, one[1:]], seed=2)


# judges and adversaries that need no model


def test_lexical_judge_counts_content_words():
    one = questions.Question("Tom", "Tom lives in Oslo.", "Where does Tom live?", "Oslo", "city")
    given_scores = lexical_judge([one] * 3, ["Tom lives in Oslo.", "Tom lives in the sunny Madrid.", "is the of"])
    assert given_scores == pytest.approx([1.0, 0.5, 0.0])


def length_judge(asked, answers):
    """Likes long answers: enough to see that selection follows the judge."""
    return np.array([min(1.0, len(answer) / 200) for answer in answers])


def test_a_phrase_book_follows_its_judge_and_never_the_context():
    book = phrases.write_book(length_judge, seed=3)
    short = phrases.write_book(lambda asked, answers: 1.0 - length_judge(asked, answers), seed=3)
    asked = questions.held_out_questions(SEED, 40)
    long_answers, short_answers = phrases.answer_from(book, asked), phrases.answer_from(short, asked)
    assert sum(map(len, long_answers)) > sum(map(len, short_answers))
    blind = [questions.Question(q.name, "", q.question, q.truth, q.kind) for q in asked]
    assert phrases.answer_from(book, blind) == long_answers
    assert all(one.name in answer for one, answer in zip(asked, long_answers, strict=True))
    assert questions.accuracy(asked, long_answers) == 0.0  # it guesses training words, which are never the truth


def test_selection_against_the_identity_gains_a_bit_a_doubling():
    from otr_core.poea.manifest import ModelManifest

    honest = ModelManifest("11" * 32, 3, "22" * 32, "33" * 32, "44" * 32, "native-float32")
    found = under_otr.closest_id(honest.model_id, honest, 1024)
    bits = [b for _, b in found]
    assert [t for t, _ in found] == [2**k for k in range(11)]
    assert bits == sorted(bits)
    assert 6 <= bits[-1] <= 20  # ten doublings: ten bits, give or take; 2^-10 a time for each beyond


def test_not_yet_caught_by_hand():
    assert under_otr.not_yet_caught([1, 100], rho=0.01, looked_at=0.0) == pytest.approx([0.99, 0.99**100])
    assert under_otr.not_yet_caught([2], rho=0.01, looked_at=0.5) == pytest.approx([(0.99 * 0.5) ** 2])
    assert under_otr.not_yet_caught([7], rho=0.0, looked_at=0.0) == [1.0]


# the stored experiment


@pytest.fixture(scope="module")
def stored(project):
    return read_result(project.results, scores.RESULT)[1]


@pytest.fixture(scope="module")
def experiment(stored):
    return scores.read_experiment(stored)


def test_the_stored_experiment_is_of_the_size_asked_for(experiment):
    assert len(experiment.questions) >= 200
    assert len(experiment.adversaries()) >= 3
    assert {one.stage for one in experiment.answers.values()} >= {"honest", "echo"}


def test_lexical_scores_follow_from_the_stored_texts(experiment):
    for one in experiment.answers.values():
        again = lexical_judge(experiment.questions, one.texts)
        assert np.abs(again - one.scores["lexical"]).max() < 1e-5


def test_judges_give_the_stored_scores_again(project, experiment):
    from otr_node.models import judge_folder
    from otr_paper.poq import judges

    embedder = judges.load_embedder(judge_folder(project))
    judge = judges.question_judge(embedder)
    one = experiment.answers["honest"]
    again = judge(experiment.questions[:24], one.texts[:24])
    assert np.abs(again - one.scores["question"][:24]).max() < 1e-3
    assert judge(experiment.questions[:2], [q.question for q in experiment.questions[:2]]) == pytest.approx([1, 1])
    swapped = judge(experiment.questions[:24], one.texts[24:48])
    assert swapped.mean() < again.mean() - 0.1  # answers to other questions


def test_reward_rows_by_a_second_calculation(experiment):
    rows = {(r["formula"], r["assessors"]): r for r in series.reward_rows(experiment)}
    honest = experiment.answers["honest"].scores["question"]
    row = rows["original, alpha 2, scores to 1", "one light judge"]
    assert row["honest"] == pytest.approx(np.exp(-2 * (1 - honest)).mean())
    panel = [experiment.answers["honest"].scores[j] for j in ("question", "context", "lexical")]
    middle = np.sort(panel, axis=0)[1]
    row = rows["median, alpha 2, scores to 1", "one of each kind"]
    assert row["honest"] == pytest.approx(np.exp(-2 * (1 - middle)).mean())
    assert all(r["ratio_low"] <= r["ratio"] <= r["ratio_high"] for r in rows.values())


def test_hacks_by_a_second_calculation(experiment):
    for hack in series.hacks(experiment, seed=1):
        mine, honest = experiment.answers[hack.name], experiment.answers["honest"]
        gap = 1 - mine.scores["question"].sum() / honest.scores["question"].sum()
        assert hack.gap.value == pytest.approx(gap)
        assert hack.gap.low <= gap <= hack.gap.high
        right = [questions.accuracy(experiment.questions, one.texts) for one in (mine, honest)]
        assert hack.loss.value == pytest.approx(1 - right[0] / right[1])


def test_a_stored_result_that_is_cut_or_odd_is_refused(stored):
    for change in (
        lambda d: d["answers"][0]["texts"].pop(),
        lambda d: d["answers"][0].pop("likelihood"),
        lambda d: d["answers"].pop(0),
    ):
        broken = json.loads(json.dumps(stored))
        change(broken)
        with pytest.raises(DataError):
            scores.read_experiment(broken)


def test_receipts_are_rejected_by_the_measured_model_unless_the_tee_is_broken(experiment):
    case = under_otr.case_of(
        experiment.questions[0], bytes.fromhex(experiment.stored["model_id"]),
        experiment.stored["recipe"]["max_tokens"],
    )  # fmt: skip
    kept = experiment.stored["receipts"]
    assert list(under_otr.ATTEMPTS) == [name for name in under_otr.ATTEMPTS if name in kept]
    for name in under_otr.ATTEMPTS:
        check, _ = under_otr.caught_by(case, kept[name]["receipt"])
        assert check == ("only by dispute or spot check" if name in under_otr.BROKEN else "measured-model")
        assert bool(kept[name]["where"]) == (name in under_otr.BROKEN)
    edited = json.loads(json.dumps(kept["trace made up"]["receipt"]))
    edited["receipt"]["trace_root"] = "00" * 32
    assert under_otr.caught_by(case, edited)[0] == "signature"


def test_token_f1_by_hand():
    assert scores.token_f1("Tom lives in the Oslo", "Tom lives in Oslo.") == 1.0
    assert scores.token_f1("Tom", "Tom lives in Oslo.") == pytest.approx(2 * 1 / (1 + 4))
    assert scores.token_f1("", "Tom") == 0.0
