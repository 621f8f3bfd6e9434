"""The adversary that answers from a phrase book."""

import numpy as np

from otr_paper.poq import phrases, questions

SEED = 20251223


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
    # it guesses training words, which are never the truth
    assert questions.accuracy(asked, long_answers) == 0.0
