"""Questions whose answer stands in the prompt, so that right and wrong need no rater; drawn from a
seed.

Training and held-out questions share sentence forms and nothing else: every name, city, job, pet
and colour belongs to one side only. An answer is right when it names the true value and no other
value of that kind.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from otr_core.errors import ParameterError

KINDS = ("city", "job", "pet", "colour")
SIDES = ("training", "held-out")
#: Questions of the evaluation.
HELD_OUT = 200
COMPARISON = (12, 12, 8)
"""Questions that the comparison of four systems asks, of each of its seeds: in each, every kind as often."""

_HELD_OUT = {
    "name": """Tom Hugo Ivan Omar Felix Diego Amir Boris Pavel Jonas Victor Peter Marco Rafael Simon Oscar Karl Bruno
        Martin Walter""",
    "city": "Oslo Madrid Dublin Berlin Tokyo Boston Warsaw Helsinki Munich Toronto Chicago Delhi",
    "job": """nurse lawyer pilot dentist chemist butcher mechanic engineer carpenter architect journalist
        translator""",
    "pet": "cat horse goat dog snake lizard pony mouse",
    "colour": "blue red yellow brown black grey turquoise golden",
}
# Many words, so that a model trained on them has to read the prompt instead of learning the words
# by heart.
_TRAINING = {
    "name": """Ada Mila Nora Elena Lucy Ruth Greta Clara Hana Irene Selma Wanda Zoe Alice Yara Petra Linda Emma Vera
        Judith Adam Alan Albert Alex Amanda Amy Andrea Andrew Angela Anna Anthony Arthur Barbara Benjamin Betty Brandon
        Brian Carl Carol Catherine Charles Christine Christopher Cynthia Daniel David Deborah Dennis Diana Donald
        Dorothy Douglas Edward Elizabeth Emily Eric Ethan Eugene Evelyn Frances Frank Fred Gary George Gerald Gloria
        Grace Gregory Hannah Harold Harry Heather Helen Henry Howard Isaac Isabella Jack Jacob Jacqueline James Janet
        Jason Jean Jennifer Jeremy Jessica Joan Joe John Jonathan Jordan Joseph Joshua Joyce Julia Justin Karen Kate
        Keith Kelly Kenneth Kevin Kimberly Kyle Larry Laura Lauren Lawrence Leo Lisa Louis Margaret Maria Marie Mark
        Martha Mary Matthew Megan Melissa Michael Michelle Nancy Natalie Nathan Nicholas Nicole Noah Olivia Pamela
        Patricia Patrick Paul Philip Rachel Ralph Raymond Rebecca Richard Robert Roger Ronald Rose Roy Russell Ryan
        Samantha Samuel Sandra Sara Scott Sean Sharon Shirley Sophia Stephen Steven Susan Teresa Theresa Thomas
        Timothy Tyler Victoria Vincent Virginia Wayne William Zachary""",
    "city": """Lisbon Vienna Prague Athens Cairo Geneva Naples Seville Lyon Bogota Riga Porto London Paris Rome Milan
        Florence Venice Zurich Brussels Amsterdam Rotterdam Hamburg Frankfurt Cologne Dresden Leipzig Barcelona
        Valencia Budapest Sofia Belgrade Kiev Moscow Istanbul Ankara Baghdad Tehran Mumbai Karachi Bangkok Singapore
        Manila Seoul Osaka Beijing Shanghai Sydney Melbourne Perth Auckland Nairobi Lagos Montreal Vancouver Ottawa
        Seattle Denver Dallas Houston Austin Miami Atlanta Detroit Cleveland Philadelphia Baltimore Portland""",
    "job": """baker teacher farmer plumber painter gardener librarian tailor singer postman waiter fisherman doctor
        surgeon scientist accountant actor artist author banker barber biologist builder cashier chef clerk coach
        composer consultant cook dancer designer detective director driver economist editor electrician firefighter
        geologist guard hairdresser historian interpreter judge manager mathematician miner musician optician
        pharmacist photographer physicist poet policeman potter printer professor programmer psychologist sailor
        salesman sculptor secretary shepherd soldier statistician surveyor typist veterinarian watchmaker weaver
        welder writer""",
    "pet": """parrot rabbit hamster turtle donkey canary goldfish duck chicken cow pig sheep goose swan owl falcon
        pigeon ferret hedgehog squirrel rat fox llama camel monkey spider frog toad salamander gecko tortoise carp
        bee crow raven puppy kitten""",
    "colour": """green purple orange white pink violet silver crimson scarlet maroon magenta lavender lilac indigo navy
        teal cyan olive lime amber beige cream ivory bronze copper tan khaki coral salmon peach mint burgundy""",
}
_POOLS = {
    side: {kind: words.split() for kind, words in pool.items()}
    for side, pool in (("training", _TRAINING), ("held-out", _HELD_OUT))
}
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
    return _POOLS[side][kind]


def draw_questions(count: int, side: str, seed: int, names: Sequence[str] = ()) -> list[Question]:
    """``count`` different questions of a ``side``; kinds take turns, so that every prefix is
    balanced.

    Args:
        names: of the persons, instead of those of the ``side``.

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
        name = draws.choice(names or words("name", side))
        facts = {one: draws.choice(words(one, side)) for one in KINDS}
        context = draws.choice(_CONTEXTS).format(name=name, **facts)
        question = draws.choice(_QUESTIONS[kind]).format(name=name)
        found.setdefault(Question(name, context, question, facts[kind], kind))
    return list(found)


def held_out_questions(seed: int, count: int = HELD_OUT) -> list[Question]:
    """The questions of the evaluation; no adversary sees them before it is measured."""
    return draw_questions(count, "held-out", seed)


def comparison_questions(seeds: Sequence[int]) -> list[Question]:
    """The questions put to all four systems: the first ``COMPARISON`` of the held-out ones of each of these
    seeds."""
    counted = zip(seeds, COMPARISON, strict=True)
    return [question for seed, count in counted for question in held_out_questions(seed)[:count]]


def is_right(question: Question, answer: str) -> bool:
    """Whether ``answer`` names the true value and no other value of that kind (of either side),
    whole words only."""
    given = re.findall(r"[^\W_]+", answer.lower())
    said = {value for side in SIDES for value in words(question.kind, side) if value.lower() in given}
    return said == {question.truth}


def accuracy(questions: Sequence[Question], answers: Sequence[str]) -> float:
    """Share of right answers."""
    return sum(is_right(q, a) for q, a in zip(questions, answers, strict=True)) / len(questions)
