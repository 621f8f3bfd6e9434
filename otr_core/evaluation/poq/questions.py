"""Questions whose answer stands in the prompt, so that right and wrong need no rater; drawn from a seed.

Training and held-out questions share sentence forms and nothing else: every name, city, job, pet and colour belongs to
one side only. An answer is right when it names the true value and no other value of that kind.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from otr_core.errors import ParameterError

KINDS = ("city", "job", "pet", "colour")
SIDES = ("training", "held-out")
#: Questions of the evaluation, and how many of them (the first) the comparison of four systems asks.
HELD_OUT, COMPARISON = 200, 32

# Words in even places train, those in odd places are held out.
_WORDS = {
    "name": """Ada Tom Mila Hugo Nora Ivan Elena Omar Lucy Felix Ruth Diego Greta Amir Clara Boris Hana Pavel Irene
        Jonas Selma Victor Wanda Peter Zoe Marco Alice Rafael Yara Simon Petra Oscar Linda Karl Emma Bruno Vera Martin
        Judith Walter""",
    "city": """Lisbon Oslo Vienna Madrid Prague Dublin Athens Berlin Cairo Tokyo Geneva Boston Naples Warsaw Seville
        Helsinki Lyon Munich Bogota Toronto Riga Chicago Porto Delhi""",
    "job": """baker nurse teacher lawyer farmer pilot plumber dentist painter chemist gardener butcher librarian
        mechanic tailor engineer singer carpenter postman architect waiter journalist fisherman translator""",
    "pet": """parrot cat rabbit horse hamster goat turtle dog donkey snake canary lizard goldfish pony duck mouse""",
    "colour": """green blue purple red orange yellow white brown pink black silver grey violet turquoise crimson
        golden""",
}
_POOLS = {kind: words.split() for kind, words in _WORDS.items()}
_CONTEXTS = (
    "{name} lives in {city}, works as a {job}, has a {pet} and likes the colour {colour}.",
    "{name} is a {job} from {city} whose favourite colour is {colour} and whose pet is a {pet}.",
)
_QUESTIONS = {
    "city": ("Where does {name} live?", "In which city does {name} live?"),
    "job": ("What is {name}'s job?", "What does {name} do for a living?"),
    "pet": ("What pet does {name} have?", "Which animal does {name} keep?"),
    "colour": ("What is {name}'s favourite colour?", "Which colour does {name} like?"),
}


_REFERENCES = {
    "city": "{name} lives in {truth}.",
    "job": "{name} is a {truth}.",
    "pet": "{name} has a {truth}.",
    "colour": "{name} likes the colour {truth}.",
}


@dataclass(frozen=True)
class Question:
    """One question about one person.

    Attributes:
        name: the person. context: the sentence that holds the answer. question: what is asked.
        truth: the value that answers it. kind: one of ``KINDS``.
    """

    name: str
    context: str
    question: str
    truth: str
    kind: str

    @property
    def prompt(self) -> str:
        """What the model is asked, as one user message."""
        return f"{self.context} {self.question} Answer in one sentence."

    @property
    def reference(self) -> str:
        """A right answer, in one plain sentence."""
        return _REFERENCES[self.kind].format(name=self.name, truth=self.truth)


def words(kind: str, side: str) -> list[str]:
    """The words of a ``kind`` (one of ``KINDS``, or "name") that belong to a ``side``."""
    return _POOLS[kind][SIDES.index(side) :: 2]


def draw_questions(count: int, side: str, seed: int) -> list[Question]:
    """``count`` different questions of a ``side``; kinds take turns, so that every prefix is balanced.

    Raises:
        ParameterError: count below 1, or an unknown side.
    """
    if count < 1:
        raise ParameterError("count", count, "at least 1")
    if side not in SIDES:
        raise ParameterError("side", side, " or ".join(SIDES))
    draws = random.Random(f"poq questions {side} {seed}")
    found: dict[Question, None] = {}
    while len(found) < count:
        kind = KINDS[len(found) % len(KINDS)]
        name = draws.choice(words("name", side))
        facts = {one: draws.choice(words(one, side)) for one in KINDS}
        context = draws.choice(_CONTEXTS).format(name=name, **facts)
        question = draws.choice(_QUESTIONS[kind]).format(name=name)
        found.setdefault(Question(name, context, question, facts[kind], kind))
    return list(found)


def held_out_questions(seed: int, count: int = HELD_OUT) -> list[Question]:
    """The questions of the evaluation; no adversary sees them before it is measured."""
    return draw_questions(count, "held-out", seed)


def comparison_questions(seed: int) -> list[Question]:
    """The 32 questions put to all four systems: the first of the held-out ones, eight of each kind."""
    return held_out_questions(seed)[:COMPARISON]


def is_right(question: Question, answer: str) -> bool:
    """Whether ``answer`` names the true value and no other value of that kind (of either side), whole words only."""
    given = re.findall(r"[^\W_]+", answer.lower())
    said = {value for value in _POOLS[question.kind] if value.lower() in given}
    return said == {question.truth}


def accuracy(questions: Sequence[Question], answers: Sequence[str]) -> float:
    """Share of right answers."""
    return sum(is_right(q, a) for q, a in zip(questions, answers, strict=True)) / len(questions)
