"""The phrase book: an adversary without a model. It reads the question, never the context, and says
a fluent sentence.

For every form of question it draws sentences from a small grammar, asks its copy of the judge which
of them scores best on training questions, and keeps that one (best of n). The value it names is a
guess, the same word for a kind of question whatever the context says; where leaving the value out
scores better, it names none.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

import numpy as np

from otr_paper.poq.judges import Judge
from otr_paper.poq.questions import KINDS, Question, draw_questions, words

DRAWS, TRIED_ON = 48, 6
"""Sentences drawn for a form of question, and training questions each is tried on."""

_SUBJECTS = {
    "city": ("The city where {name} lives", "{name}'s home", "The place {name} lives", "{name}"),
    "job": ("{name}'s job", "What {name} does for a living", "{name}'s work", "{name}"),
    "pet": ("{name}'s pet", "The pet {name} has", "The animal that {name} keeps", "{name}"),
    "colour": ("{name}'s favourite colour", "The colour {name} likes", "The colour that {name} likes best", "{name}"),
}
_PREDICATES = {
    "city": ("is {guess}", "lives in {guess}", "lives in a city", "is the city of {guess}"),
    "job": ("is that of a {guess}", "works as a {guess}", "is a job", "does a job for a living"),
    "pet": ("is a {guess}", "has a {guess} as a pet", "keeps a pet animal", "is a pet {guess}"),
    "colour": ("is {guess}", "likes the colour {guess}", "is a colour", "has a favourite colour"),
}
_ENDS = (".", ", as one can tell.", " and nothing else.", ", of course.")

Book = dict[tuple[str, int], str]
"""Sentence with ``{name}`` for each kind of question and number of words in it."""


def write_book(judge: Judge, *, seed: int) -> Book:
    """The phrase book of one ``seed``: for every form of question the best of ``DRAWS``
    sentences."""
    draws, book = random.Random(f"poq phrases {seed}"), {}
    asked = draw_questions(400, "training", seed + 3_000_000)
    for kind in KINDS:
        for form in sorted({_form(question) for question in asked if question.kind == kind}):
            tries = [question for question in asked if _form(question) == form][:TRIED_ON]
            sentences = sorted({_draw(kind, draws) for _ in range(DRAWS)})
            answers = [_fill(sentence, question) for sentence in sentences for question in tries]
            scores = judge(tries * len(sentences), answers).reshape(len(sentences), len(tries)).mean(axis=1)
            book[form] = sentences[int(np.argmax(scores))]
    return book


def answer_from(book: Book, questions: Sequence[Question]) -> list[str]:
    """The book's answers; only ``question.question`` is read."""
    return [_fill(book[_form(question)], question) for question in questions]


def _draw(kind: str, draws: random.Random) -> str:
    sentence = f"{draws.choice(_SUBJECTS[kind])} {draws.choice(_PREDICATES[kind])}{draws.choice(_ENDS)}"
    return sentence.replace("{guess}", draws.choice(words(kind, "training")))


def _form(question: Question) -> tuple[str, int]:
    return question.kind, len(question.question.split())


def _fill(sentence: str, question: Question) -> str:
    name = re.findall(r"[A-Z]\w+", question.question)[1]  # the first capital begins the question
    return sentence.replace("{name}", name)
