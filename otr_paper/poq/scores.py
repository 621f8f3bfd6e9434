"""The stored experiment, read back: answers of every model with their scores, and what follows from
them.

Stored are texts, token ids, likelihoods, costs, and the scores the judges gave when the result was
made. ``rescore`` runs the judges again on the texts; ``worst_difference`` says how far the two are
apart.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from otr_core.errors import DataError
from otr_paper.poq.judges import ATTACKED, Judge
from otr_paper.poq.questions import Question, held_out_questions, is_right

RESULT = "poq_adversary"
HONEST = "honest"
#: No model: the question given back as the answer.
ECHO = "echo"
#: Stages that are finished adversaries: the tuned model, and the phrase book.
FINISHED = ("tuned", "phrases")
#: Scores stored beside the judges': likeness to a right answer, which a judge of PoQ does not have
#: (for L39 only).
REFERENCE = "reference"


@dataclass(frozen=True)
class Answers:
    """What one model answered to all questions.

    Attributes:
        stage: "honest", "echo", "distilled", "tuned" or "phrases". seed: of the adversary, 0 for
            those without.
        texts, token_ids: one a question. likelihood: mean negative log likelihood under the honest
            model, nats a token.
        scores: by judge, each of shape (questions,).
    """

    stage: str
    seed: int
    texts: tuple[str, ...]
    token_ids: tuple[tuple[int, ...], ...]
    likelihood: np.ndarray
    scores: Mapping[str, np.ndarray]

    @property
    def name(self) -> str:
        return answerer(self.stage, self.seed)


@dataclass(frozen=True)
class Experiment:
    """Questions, the answers of every model by name, and the rest of the stored result."""

    questions: tuple[Question, ...]
    answers: Mapping[str, Answers]
    stored: Mapping[str, Any]

    def right(self, name: str) -> np.ndarray:
        """1.0 where the answer is right, shape (questions,)."""
        return np.array([is_right(q, a) for q, a in zip(self.questions, self.answers[name].texts, strict=True)], float)

    def adversaries(self) -> list[str]:
        """Names of the finished adversaries."""
        return [name for name, one in self.answers.items() if one.stage in FINISHED]


def answerer(stage: str, seed: int) -> str:
    """Name of a model: "honest", "echo", or stage and seed."""
    return f"{stage} {seed}" if seed else stage


def packed(values: Sequence[float], digits: int) -> str:
    """Numbers as one line of text, so that a stored result stays readable."""
    return " ".join(f"{value:.{digits}f}" for value in values)


def read_experiment(stored: Mapping[str, Any]) -> Experiment:
    """The stored result (``RESULT``) as objects.

    Raises:
        DataError: columns of unequal length, or parts missing.
    """
    try:
        questions = tuple(held_out_questions(stored["question_seed"], stored["questions"]))
        answers = {}
        for entry in stored["answers"]:
            ids = tuple(tuple(map(int, line.split())) for line in entry["token_ids"])
            numbers = {"likelihood": entry["likelihood"], **entry["scores"]}
            given = {name: np.array(line.split(), float) for name, line in numbers.items()}
            one = Answers(entry["stage"], entry["seed"], tuple(entry["texts"]), ids, given.pop("likelihood"), given)
            answers[one.name] = one
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{RESULT}: found no readable experiment ({error!r}); restore it from git") from error
    for one in answers.values():
        lengths = [len(one.texts), len(one.token_ids), len(one.likelihood), *map(len, one.scores.values())]
        if set(lengths) != {len(questions)}:
            raise DataError(f"{RESULT}: {one.name}: found columns of {lengths} values, expected {len(questions)} each")
    if HONEST not in answers:
        raise DataError(f"{RESULT}: found answers of {', '.join(answers)}, expected {HONEST} among them")
    return Experiment(questions, answers, stored)


def rescore(experiment: Experiment, judges: Mapping[str, Judge]) -> dict[str, dict[str, np.ndarray]]:
    """Scores of all answers by every judge, given now: model -> judge -> shape (questions,)."""
    names = list(experiment.answers)
    questions = [question for _ in names for question in experiment.questions]
    texts = [text for name in names for text in experiment.answers[name].texts]
    given = {judge: np.split(score(questions, texts), len(names)) for judge, score in judges.items()}
    return {name: {judge: parts[at] for judge, parts in given.items()} for at, name in enumerate(names)}


def worst_difference(experiment: Experiment, given: Mapping[str, Mapping[str, np.ndarray]]) -> float:
    """Largest difference between a stored score and the one ``given`` now."""
    return max(
        float(np.abs(scores - experiment.answers[name].scores[judge]).max())
        for name, by_judge in given.items()
        for judge, scores in by_judge.items()
    )


def answer_ms(experiment: Experiment, name: str) -> float:
    """CPU milliseconds of one answer."""
    return float(experiment.stored["cost"][name]["answer_ms"])


def pearson(first: np.ndarray, second: np.ndarray) -> float | None:
    """Pearson correlation, None where one side does not vary."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def token_f1(answer: str, reference: str) -> float:
    """F1 of the words that answer and reference share (SQuAD's: lower case, no punctuation, no
    articles), 0 to 1."""
    said, wanted = (
        Counter(word for word in re.findall(r"[^\W_]+", text.lower()) if word not in ("a", "an", "the"))
        for text in (answer, reference)
    )
    common = sum((said & wanted).values())
    if common == 0:
        return 0.0
    return 2 * common / (sum(said.values()) + sum(wanted.values()))


def reference_correlations(experiment: Experiment) -> dict[str, float]:
    """How likeness to a right answer follows token F1 and being right, over honest and adversaries'
    answers."""
    names = [HONEST, *experiment.adversaries()]
    likeness = np.concatenate([experiment.answers[name].scores[REFERENCE] for name in names])
    right = np.concatenate([experiment.right(name) for name in names])
    right_ones = [question.reference for question in experiment.questions]
    said = [pair for name in names for pair in zip(experiment.answers[name].texts, right_ones, strict=True)]
    f1 = np.array([token_f1(*pair) for pair in said])
    honest = slice(0, len(experiment.questions))
    pairs = {"f1": (likeness, f1), "right": (likeness, right), "f1_honest": (likeness[honest], f1[honest])}
    found = {name: pearson(*pair) for name, pair in pairs.items()}
    return {name: value for name, value in found.items() if value is not None}


def measured(experiment: Experiment) -> Measured:
    """The numbers that the claims L19 to L22, L35 to L37 and L39 use."""

    def mean(name: str, judge: str = ATTACKED) -> float:
        return float(experiment.answers[name].scores[judge].mean())

    tuned, follows = experiment.adversaries(), reference_correlations(experiment)
    honest = experiment.answers[HONEST].scores[ATTACKED]
    within = pearson(honest, experiment.right(HONEST))
    if within is None or not tuned:
        raise DataError(
            f"{RESULT}: found {len(tuned)} adversaries, expected some, and an honest model not always right"
        )

    def pay(name: str, alpha: float, scale: float) -> float:
        return float(np.exp(-alpha * scale * (1.0 - experiment.answers[name].scores[ATTACKED])).mean())

    by_context = float(np.mean([mean(name, "context") for name in tuned]))
    settings = [(alpha, scale) for alpha in (0.5, 1.0, 2.0) for scale in (1.0, 10.0)]
    least = {at: min(pay(name, *at) / pay(HONEST, *at) for name in tuned) for at in settings}
    return Measured(
        honest_score=mean(HONEST),
        adversary_scores=tuple(map(mean, tuned)),
        echo_score=mean(ECHO),
        control_scores=(mean(HONEST, "context"), by_context),
        honest_accuracy=float(experiment.right(HONEST).mean()),
        adversary_accuracies=tuple(float(experiment.right(name).mean()) for name in tuned),
        judge_ms=experiment.stored["judge_ms"],
        judge_single_ms=experiment.stored["judge_single_ms"],
        judge_follows=within,
        pay=least,
        likeness_f1=follows["f1"],
        likeness_f1_honest=follows["f1_honest"],
        likeness_right=follows["right"],
        answers=len(experiment.questions),
    )


@dataclass(frozen=True)
class Measured:
    """What the experiment measured, as the claims use it (``poq.scores.measured``). Scores and
    shares in [0, 1].

    Attributes:
        honest_score, adversary_scores, echo_score: mean of the attacked judge's scores; every
            finished adversary; an answer that repeats the question. control_scores: (honest,
            adversaries' mean) by the judge that sees the context.
        honest_accuracy, adversary_accuracies: share of right answers.
        judge_ms, judge_single_ms: CPU time of judging one answer, in a batch of 64 and alone.
        judge_follows: correlation of the attacked judge's score with being right, within the honest
            model's answers.
        pay: adversary's reward over the honest one, least over adversaries, by (alpha, score
            range).
        likeness_f1, likeness_f1_honest, likeness_right: correlation of an answer's likeness to a
            right one with its token F1 (all answers; the honest model's alone) and with being
            right.
        answers: how many each model gave.
    """

    honest_score: float
    adversary_scores: tuple[float, ...]
    echo_score: float
    control_scores: tuple[float, float]
    honest_accuracy: float
    adversary_accuracies: tuple[float, ...]
    judge_ms: float
    judge_single_ms: float
    judge_follows: float
    pay: Mapping[tuple[float, float], float]
    likeness_f1: float
    likeness_f1_honest: float
    likeness_right: float
    answers: int

    @property
    def gaps(self) -> tuple[float, ...]:
        """By what share of the honest score each adversary's score is lower; below 0: higher."""
        return tuple(1.0 - score / self.honest_score for score in self.adversary_scores)

    @property
    def losses(self) -> tuple[float, ...]:
        """By what share of the honest accuracy each adversary is less often right."""
        return tuple(1.0 - share / self.honest_accuracy for share in self.adversary_accuracies)
