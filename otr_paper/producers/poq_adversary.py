"""Make the adversary of Proof of Quality and measure it: ``python -m otr_paper.producers.poq_adversary``.

Writes data/results/poq_adversary.json with its card: the answers of the honest model and of the adversaries to 200
held-out questions, their scores, likelihoods and costs, and receipts. Steps are kept in build/poq, and a run that was
stopped goes on there. ``--seeds 0`` leaves out the adversaries that are trained; ``--smoke`` runs all in small.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from otr_core.files import write_text
from otr_node.models import judge_folder, model_folder
from otr_node.project import find_project
from otr_paper.poq import adversary, experiment, judges, phrases, questions, scores, under_otr
from otr_paper.press.notebook import quiet
from otr_paper.store import results

QUESTION_SEED = 20251223
SEEDS = (1, 2, 3)
COSTED = 16
"""Questions on which serving is timed."""


def say(line: str) -> None:
    print(line, flush=True)


def stored(path: Path, make: Any) -> Any:
    """What ``make()`` gave, once: read from ``path`` when it is there."""
    if not path.is_file():
        write_text(path, json.dumps(make()))
    return json.loads(path.read_text("utf-8"))


def one_adversary(seed: int, recipe: adversary.Recipe, count: int, work: Path) -> None:
    """Everything of one seed, into ``work``."""
    quiet()
    project, own = find_project(), work / f"seed-{seed}"
    own.mkdir(parents=True, exist_ok=True)
    folder = model_folder(project, report=say)
    asked = questions.held_out_questions(QUESTION_SEED, count)

    def report(line: str) -> None:
        say(f"seed {seed}: {line}")

    judge = judges.question_judge(judges.load_embedder(judge_folder(project)))
    experiment.make_adversary(folder, own, judge, recipe, seed=seed, report=report)
    for stage in experiment.STAGES:
        model = experiment.load_adversary(folder, own, stage, recipe)
        rows = stored(
            own / f"{stage}.json", lambda model=model: experiment.adversary_answers(model, asked, recipe.max_tokens)
        )
        report(f"{stage}: {len(rows)} answers")


def assemble(recipe: adversary.Recipe, count: int, seeds: tuple[int, ...], work: Path) -> dict[str, Any]:
    """The stored result out of the files in ``work``."""
    project = find_project()
    folder = model_folder(project, report=say)
    asked = questions.held_out_questions(QUESTION_SEED, count)
    embedder = judges.load_embedder(judge_folder(project))
    honest = experiment.load_native(folder)
    experiment.answer_all(honest, asked, recipe.max_tokens, work / "honest.json", report=say)
    stored(work / "echo.json", lambda: [
        {"text": one.question, "token_ids": honest.tokenizer(one.question)["input_ids"]} for one in asked
    ])  # fmt: skip
    for seed in SEEDS:
        stored(work / f"phrases-{seed}.json", lambda seed=seed: phrase_answers(seed, asked, honest, embedder))
    sets = [("honest", 0, work / "honest"), ("echo", 0, work / "echo")]
    sets += [("phrases", seed, work / f"phrases-{seed}") for seed in SEEDS]
    sets += [(stage, seed, work / f"seed-{seed}" / stage) for seed in seeds for stage in experiment.STAGES]
    read = {
        scores.answerer(stage, seed): json.loads(path.with_suffix(".json").read_text("utf-8"))
        for stage, seed, path in sets
    }
    likelihood = stored(
        work / f"likelihood-{len(sets)}.json",
        lambda: experiment.likelihoods(
            honest, asked, [[row["token_ids"] for row in rows] for rows in read.values()], report=say
        ),
    )
    entries, timed = [], {}
    for (stage, seed, path), nats in zip(sets, likelihood, strict=True):
        rows = read[scores.answerer(stage, seed)]
        ids, texts = [row["token_ids"] for row in rows], [row["text"] for row in rows]
        started = time.process_time()
        given = {name: judge(asked, texts) for name, judge in judges.all_judges(embedder).items()}
        given[scores.REFERENCE] = judges.reference_likeness(embedder)(asked, texts)
        say(f"{path.name} {seed}: scored in {time.process_time() - started:.1f} CPU s")
        entries.append({
            "stage": stage, "seed": seed, "texts": texts, "token_ids": [" ".join(map(str, row)) for row in ids],
            "likelihood": scores.pack(nats, 4),
            "scores": {name: scores.pack(list(values), 5) for name, values in given.items()},
        })  # fmt: skip
    models = {"honest": honest} | {
        scores.answerer("tuned", seed): experiment.load_adversary(folder, work / f"seed-{seed}", "tuned", recipe)
        for seed in seeds
    }
    say("timing the models in turns")
    cost = stored(
        work / f"cost-{len(models)}.json", lambda: experiment.serving_cost(models, asked[:COSTED], recipe.max_tokens)
    )
    texts = entries[0]["texts"]
    for name, batch in (("judge_ms", 64), ("judge_single_ms", 1)):
        started = time.process_time()
        embedder.embed(texts, batch)
        timed[name] = round(1000 * (time.process_time() - started) / len(texts), 3)
    cost |= {scores.answerer("phrases", seed): {"answer_ms": phrase_ms(asked)} for seed in SEEDS}
    files = {seed: work / f"seed-{seed}" for seed in seeds}
    case = under_otr.case_of(asked[0], honest.manifest.model_id, recipe.max_tokens)
    last = models.get(scores.answerer("tuned", 1)) or experiment.load_cut(folder, recipe)
    receipts = stored(work / f"receipts-{len(models)}.json", lambda: under_otr.attempt_all(case, honest, last)[0])
    return {
        "question_seed": QUESTION_SEED, "questions": count, "recipe": asdict(recipe), "answers": entries, "cost": cost,
        "parameters": {name: _layer_parameters(model) for name, model in models.items()},
        "training": {str(seed): json.loads((path / "history.json").read_text()) for seed, path in files.items()},
        "model_id": honest.manifest.model_id.hex(),
        "receipts": receipts,
        **timed,
    }  # fmt: skip


def phrase_answers(seed: int, asked: Any, honest: Any, embedder: Any) -> list[dict[str, Any]]:
    """One phrase book's answers, with the tokens the honest model would read them as."""
    book = phrases.write_book(judges.question_judge(embedder), seed=seed)
    return [
        {"text": text, "token_ids": honest.tokenizer(text)["input_ids"]} for text in phrases.answer_from(book, asked)
    ]


def phrase_ms(asked: Any) -> float:
    """CPU milliseconds of one answer from a phrase book, whichever sentences it holds."""
    book = phrases.write_book(lambda _, answers: np.zeros(len(answers)), seed=0)
    started = time.process_time()
    for _ in range(100):
        phrases.answer_from(book, asked)
    return round(1000 * (time.process_time() - started) / (100 * len(asked)), 5)


def _layer_parameters(model: Any) -> int:
    """Parameters of the decoder layers; the embeddings are the same in all models."""
    return sum(value.numel() for value in model.module.model.layers.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2, help="adversaries made at a time, one thread each")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="adversaries that are trained, 0 to 3")
    parser.add_argument("--smoke", action="store_true", help="every step in small, into build/poq-smoke")
    options = parser.parse_args()
    quiet()
    project = find_project()
    work = project.build / ("poq-smoke" if options.smoke else "poq")
    recipe, count, seeds = (
        (adversary.SMOKE, 4, SEEDS[:1])
        if options.smoke
        else (adversary.Recipe(), questions.HELD_OUT, SEEDS[: options.seeds])
    )
    work.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with ProcessPoolExecutor(options.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for job in [pool.submit(one_adversary, seed, recipe, count, work) for seed in seeds]:
            job.result()
    payload = assemble(recipe, count, seeds, work)
    say(f"{time.perf_counter() - started:.0f} s in all")
    if options.smoke:
        write_text(work / "result.json", json.dumps(payload))
        return
    card = results.Card(
        command="make bench", date=dt.date.today().isoformat(), machine=results.this_machine(os.cpu_count() or 1),
        versions=results.versions(("numpy", "torch", "transformers")), seed=QUESTION_SEED, kind="measured",
    )  # fmt: skip
    say(results.write_result(project.results, scores.RESULT, card, payload).name)


if __name__ == "__main__":
    main()
