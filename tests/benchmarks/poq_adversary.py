"""Make the adversary of Proof of Quality and measure it: ``python tests/benchmarks/poq_adversary.py`` (`make bench`).

Writes data/results/poq_adversary.json with its card: the answers of the honest model and of three adversaries to 200
held-out questions, their scores, likelihoods and costs, and the adversaries' receipts. About 35 CPU minutes; steps are
kept in build/poq, and a run that was stopped goes on there. ``--smoke`` runs every step in small and stores nothing.
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

from otr_core.artifact import results
from otr_core.artifact.models import judge_folder, model_folder
from otr_core.artifact.notebook import quiet
from otr_core.artifact.project import find_project
from otr_core.evaluation.poq import adversary, experiment, judges, questions, scores, under_otr
from otr_core.files import write_text

QUESTION_SEED = 20251223
SEEDS = (1, 2, 3)
COSTED = 24
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
    honest = experiment.load_native(folder)
    for stage in experiment.STAGES:
        model = experiment.load_adversary(folder, own, stage, recipe)
        rows = experiment.answer_all(model, asked, recipe.max_tokens, own / f"{stage}.json", report=report)
        ids = [row["token_ids"] for row in rows]
        stored(own / f"{stage}-likelihood.json", lambda ids=ids: experiment.likelihoods(honest, asked, ids))
        report(f"{stage}: likelihoods under the honest model")
    case = under_otr.case_of(asked[0], honest.manifest.model_id, recipe.max_tokens)
    stored(own / "receipts.json", lambda: under_otr.attempt_all(case, honest, model)[0])
    report("receipts")


def assemble(recipe: adversary.Recipe, count: int, seeds: tuple[int, ...], work: Path) -> dict[str, Any]:
    """The stored result out of the files in ``work``."""
    project = find_project()
    folder = model_folder(project, report=say)
    asked = questions.held_out_questions(QUESTION_SEED, count)
    embedder = judges.load_embedder(judge_folder(project))
    honest = experiment.load_native(folder)
    experiment.answer_all(honest, asked, recipe.max_tokens, work / "honest.json", report=say)
    sets = [("honest", 0, work / "honest")]
    sets += [(stage, seed, work / f"seed-{seed}" / stage) for seed in seeds for stage in experiment.STAGES]
    entries, timed = [], {}
    for stage, seed, path in sets:
        rows = json.loads(path.with_suffix(".json").read_text("utf-8"))
        ids, texts = [row["token_ids"] for row in rows], [row["text"] for row in rows]
        likelihood = stored(
            path.with_name(f"{path.name}-likelihood.json"), lambda ids=ids: experiment.likelihoods(honest, asked, ids)
        )
        started = time.process_time()
        given = {name: judge(asked, texts) for name, judge in judges.all_judges(embedder).items()}
        given[scores.REFERENCE] = judges.reference_likeness(embedder)(asked, texts)
        say(f"{path.name} {seed}: scored in {time.process_time() - started:.1f} CPU s")
        entries.append({
            "stage": stage, "seed": seed, "texts": texts, "token_ids": [" ".join(map(str, row)) for row in ids],
            "likelihood": scores.pack(likelihood, 4),
            "scores": {name: scores.pack(list(values), 5) for name, values in given.items()},
        })  # fmt: skip
    models = {"honest": honest} | {
        scores.answerer("tuned", seed): experiment.load_adversary(folder, work / f"seed-{seed}", "tuned", recipe)
        for seed in seeds
    }
    say("timing the models in turns")
    cost = stored(work / "cost.json", lambda: experiment.serving_cost(models, asked[:COSTED], recipe.max_tokens))
    texts = entries[0]["texts"]
    for name, batch in (("judge_ms", 64), ("judge_single_ms", 1)):
        started = time.process_time()
        embedder.embed(texts, batch)
        timed[name] = round(1000 * (time.process_time() - started) / len(texts), 3)
    files = {seed: work / f"seed-{seed}" for seed in seeds}
    return {
        "question_seed": QUESTION_SEED, "questions": count, "recipe": asdict(recipe), "answers": entries, "cost": cost,
        "parameters": {name: _layer_parameters(model) for name, model in models.items()},
        "training": {str(seed): json.loads((path / "history.json").read_text()) for seed, path in files.items()},
        "model_id": honest.manifest.model_id.hex(),
        "receipts": {str(seed): json.loads((path / "receipts.json").read_text()) for seed, path in files.items()},
        **timed,
    }  # fmt: skip


def _layer_parameters(model: Any) -> int:
    """Parameters of the decoder layers; the embeddings are the same in all models."""
    return sum(value.numel() for value in model.module.model.layers.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2, help="adversaries made at a time, one thread each")
    parser.add_argument("--smoke", action="store_true", help="every step in small, into build/poq-smoke")
    options = parser.parse_args()
    quiet()
    project = find_project()
    work = project.build / ("poq-smoke" if options.smoke else "poq")
    recipe, count, seeds = (
        (adversary.SMOKE, 4, SEEDS[:1]) if options.smoke else (adversary.Recipe(), questions.HELD_OUT, SEEDS)
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
