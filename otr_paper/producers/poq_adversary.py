"""Make the adversary of Proof of Quality and measure it: data/results/poq_adversary.json.

The answers of the honest model and of the adversaries to 200 held-out questions, their scores,
likelihoods and costs, and receipts. Steps are kept in build/poq, and a run that was stopped goes on
there. ``--seeds 0`` leaves out the adversaries that are trained; ``--smoke`` runs all in small.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from otr_core.files import write_text
from otr_node.models import judge_folder
from otr_node.native import NativeModel, load_native
from otr_paper.poq import adversary, experiment, judges, phrases, questions, scores, under_otr
from otr_paper.press.notebook import quiet
from otr_paper.producers import frame

QUESTION_SEED = 20251223
SEEDS = (1, 2, 3)
#: Questions on which serving is timed.
COSTED = 16


def _once(path: Path, make: Callable[[], Any]) -> Any:
    """What ``make()`` gave, once: read from ``path`` when it is there."""
    if not path.is_file():
        write_text(path, json.dumps(make()))
    return json.loads(path.read_text("utf-8"))


def _one_adversary(seed: int, recipe: adversary.Recipe, count: int, work: Path) -> None:
    """Everything of one seed, into ``work``."""
    quiet()
    own, folder = work / f"seed-{seed}", frame.model_files()
    own.mkdir(parents=True, exist_ok=True)
    asked = questions.held_out_questions(QUESTION_SEED, count)

    def report(line: str) -> None:
        frame.progress(f"seed {seed}: {line}")

    judge = judges.question_judge(judges.load_embedder(judge_folder(frame.checkout())))
    experiment.make_adversary(folder, own, judge, recipe, seed=seed, report=report)
    for stage in experiment.STAGES:
        model = experiment.load_adversary(folder, own, stage, recipe)
        answers = partial(experiment.adversary_answers, model, asked, recipe.max_tokens)
        report(f"{stage}: {len(_once(own / f'{stage}.json', answers))} answers")


def _assemble(recipe: adversary.Recipe, count: int, seeds: tuple[int, ...], work: Path) -> dict[str, Any]:
    """The stored result out of the files in ``work``."""
    folder = frame.model_files()
    asked = questions.held_out_questions(QUESTION_SEED, count)
    embedder = judges.load_embedder(judge_folder(frame.checkout()))
    honest = load_native(folder)
    experiment.answer_all(honest, asked, recipe.max_tokens, work / "honest.json", report=frame.progress)
    _once(work / "echo.json", lambda: _with_tokens([one.question for one in asked], honest))
    for seed in SEEDS:
        _once(work / f"phrases-{seed}.json", partial(_phrase_answers, seed, asked, honest, embedder))
    sets = [("honest", 0, work / "honest"), ("echo", 0, work / "echo")]
    sets += [("phrases", seed, work / f"phrases-{seed}") for seed in SEEDS]
    sets += [(stage, seed, work / f"seed-{seed}" / stage) for seed in seeds for stage in experiment.STAGES]
    read = {
        scores.answerer(stage, seed): json.loads(path.with_suffix(".json").read_text("utf-8"))
        for stage, seed, path in sets
    }
    likelihood = _once(
        work / f"likelihood-{len(sets)}.json",
        lambda: experiment.likelihoods(
            honest, asked, [[row["token_ids"] for row in rows] for rows in read.values()], report=frame.progress
        ),
    )
    entries: list[dict[str, Any]] = []
    judging: dict[str, float] = {}
    for (stage, seed, path), nats in zip(sets, likelihood, strict=True):
        rows = read[scores.answerer(stage, seed)]
        ids, texts = [row["token_ids"] for row in rows], [row["text"] for row in rows]
        given, scored_s = frame.timed(_scores, embedder, asked, texts)
        frame.progress(f"{path.name} {seed}: scored in {scored_s:.1f} CPU s")
        packed: dict[str, Any] = {"texts": texts, "token_ids": [" ".join(map(str, row)) for row in ids]}
        packed |= {"likelihood": scores.packed(nats, 4)}
        entries.append({"stage": stage, "seed": seed, **packed, "scores": given})
    models = {"honest": honest} | {
        scores.answerer("tuned", seed): experiment.load_adversary(folder, work / f"seed-{seed}", "tuned", recipe)
        for seed in seeds
    }
    frame.progress("timing the models in turns")
    cost = _once(
        work / f"cost-{len(models)}.json", lambda: experiment.serving_cost(models, asked[:COSTED], recipe.max_tokens)
    )
    texts = entries[0]["texts"]
    for name, batch in (("judge_ms", 64), ("judge_single_ms", 1)):
        _, embedded_s = frame.timed(embedder.embed, texts, batch)
        judging[name] = round(1000 * embedded_s / len(texts), 3)
    cost |= {scores.answerer("phrases", seed): {"answer_ms": _phrase_ms(asked)} for seed in SEEDS}
    files = {seed: work / f"seed-{seed}" for seed in seeds}
    case = under_otr.asked(asked[0], honest, recipe.max_tokens)
    last = models.get(scores.answerer("tuned", 1)) or experiment.load_cut(folder, recipe)
    receipts = _once(work / f"receipts-{len(models)}.json", lambda: under_otr.attempt_all(case, honest, last)[0])
    return {
        "question_seed": QUESTION_SEED,
        "questions": count,
        "recipe": asdict(recipe),
        "answers": entries,
        "cost": cost,
        "parameters": {name: _layer_parameters(model) for name, model in models.items()},
        "training": {str(seed): json.loads((path / "history.json").read_text()) for seed, path in files.items()},
        "model_id": honest.manifest.model_id.hex(),
        "receipts": receipts,
        **judging,
    }


def _scores(embedder: judges.Embedder, asked: Any, texts: list[str]) -> dict[str, str]:
    """Judge -> its scores of the texts, packed."""
    by_judge = judges.all_judges(embedder) | {scores.REFERENCE: judges.reference_likeness(embedder)}
    return {name: scores.packed(list(judge(asked, texts)), 5) for name, judge in by_judge.items()}


def _with_tokens(texts: list[str], honest: NativeModel) -> list[dict[str, Any]]:
    """Texts with the tokens the honest model would read them as."""
    return [{"text": text, "token_ids": list(honest.tokenizer.encode(text))} for text in texts]


def _phrase_answers(seed: int, asked: Any, honest: NativeModel, embedder: judges.Embedder) -> list[dict[str, Any]]:
    """One phrase book's answers."""
    book = phrases.write_book(judges.question_judge(embedder), seed=seed)
    return _with_tokens(phrases.answer_from(book, asked), honest)


def _phrase_ms(asked: Any) -> float:
    """CPU milliseconds of one answer from a phrase book, whichever sentences it holds."""
    book = phrases.write_book(lambda _, answers: np.zeros(len(answers)), seed=0)
    _, spent = frame.timed(lambda: [phrases.answer_from(book, asked) for _ in range(100)])
    return round(1000 * spent / (100 * len(asked)), 5)


def _layer_parameters(model: NativeModel) -> int:
    """Parameters of the decoder layers; the embeddings are the same in all models."""
    return sum(value.numel() for value in model.module.model.layers.parameters())


def main() -> None:
    parser = frame.arguments(__doc__)
    parser.add_argument("--workers", type=int, default=2, help="adversaries made at a time, one thread each")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="adversaries that are trained, 0 to 3")
    parser.add_argument("--smoke", action="store_true", help="every step in small, into build/poq-smoke")
    options = parser.parse_args()
    work = frame.checkout().build / ("poq-smoke" if options.smoke else "poq")
    recipe, count, seeds = adversary.Recipe(), questions.HELD_OUT, SEEDS[: options.seeds]
    if options.smoke:
        recipe, count, seeds = adversary.SMOKE, 4, SEEDS[:1]
    work.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(options.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for job in [pool.submit(_one_adversary, seed, recipe, count, work) for seed in seeds]:
            job.result()
    payload = _assemble(recipe, count, seeds, work)
    if options.smoke:
        write_text(work / "result.json", json.dumps(payload))
        return
    frame.store(scores.RESULT, payload, seed=QUESTION_SEED, packages=frame.MODEL_LIBRARIES)


if __name__ == "__main__":
    main()
