"""The judges: by hand where no model is needed, against the stored scores where one is."""

import numpy as np
import pytest

from otr_paper.poq import questions
from otr_paper.poq.judges import lexical_judge


def test_lexical_judge_counts_content_words():
    one = questions.Question("Tom", "Tom lives in Oslo.", "Where does Tom live?", "Oslo", "city")
    given_scores = lexical_judge([one] * 3, ["Tom lives in Oslo.", "Tom lives in the sunny Madrid.", "is the of"])
    assert given_scores == pytest.approx([1.0, 0.5, 0.0])


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
