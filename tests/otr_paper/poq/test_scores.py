"""The stored experiment, and its tables by a second calculation."""

import json

import numpy as np
import pytest

from otr_core.errors import DataError
from otr_paper.poq import questions, scores
from otr_paper.series import poq as series


def test_the_stored_experiment_is_of_the_size_asked_for(experiment):
    assert len(experiment.questions) >= 200
    assert len(experiment.adversaries()) >= 3
    assert {one.stage for one in experiment.answers.values()} >= {"honest", "echo"}


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


def test_the_numbers_in_words_are_shares_of_right_answers(experiment):
    text = series.hack_numbers(experiment)
    right = [experiment.right(name).mean() for name, one in experiment.answers.items() if one.stage == "tuned"]
    assert len(right) >= 2
    assert ", ".join(f"{share:.1%}" for share in right[:-1]) + f" and {right[-1]:.1%} of the answers" in text


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


def test_token_f1_by_hand():
    assert scores.token_f1("Tom lives in the Oslo", "Tom lives in Oslo.") == 1.0
    assert scores.token_f1("Tom", "Tom lives in Oslo.") == pytest.approx(2 * 1 / (1 + 4))
    assert scores.token_f1("", "Tom") == 0.0
