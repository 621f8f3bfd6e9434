"""The long part of the experiment: honest answers, and one adversary a seed. Each step leaves a
file, so a stopped run goes on where it was; texts, token ids and CPU times come out, weights stay
in the work folder.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from otr_core.files import whole_file, write_text
from otr_core.lane.sampling import Decoding
from otr_node.checkpoint import Tensors, read_checkpoint, torch_threads
from otr_node.generate import generate, prompt_tokens
from otr_node.model import Model
from otr_node.native import NativeModel, load_native
from otr_paper.poq.adversary import (
    Example,
    Recipe,
    Report,
    answer_batches,
    distil,
    read,
    tensors_of,
    trainable_copy,
    tune_against,
)
from otr_paper.poq.judges import Judge
from otr_paper.poq.names import made_up_names
from otr_paper.poq.questions import Question, draw_questions

#: Stages of the adversary that are measured, in the order in which they come about.
STAGES = ("distilled", "tuned")


def answer_all(
    model: Model, questions: Sequence[Question], max_tokens: int, store: Path, *, report: Report
) -> list[dict[str, Any]]:
    """Greedy answers at batch 1, as they would be served: text, token ids. Written to ``store``
    every 20 answers."""
    rows: list[dict[str, Any]] = json.loads(store.read_text("utf-8")) if store.is_file() else []
    with torch_threads(1):
        while len(rows) < len(questions):
            ids = prompt_tokens(model, questions[len(rows)].prompt, max_tokens)
            answer = generate(model, ids, Decoding(max_tokens))
            rows.append({"text": model.tokenizer.decode(answer.token_ids), "token_ids": list(answer.token_ids)})
            if len(rows) % 20 == 0 or len(rows) == len(questions):
                write_text(store, json.dumps(rows))
                report(f"{store.stem}: {len(rows)} of {len(questions)} answers")
    return rows


def make_adversary(
    folder: Path, work: Path, judge: Judge, recipe: Recipe, *, seed: int, report: Report
) -> dict[str, Any]:
    """Read, buy answers, distil, tune. ``work`` then holds the weights of both stages; returns the
    history.

    Args:
        folder: the honest checkpoint. seed: of questions, order and draws; seeds share nothing.
    """
    done = work / "history.json"
    if done.is_file():
        return dict(json.loads(done.read_text("utf-8")))
    small, started = load_cut(folder, recipe), time.process_time()
    with torch_threads(1):
        module = trainable_copy(small)
        names = made_up_names(small.tokenizer.vocab(), seed)
        reading = read(module, small, recipe, names, seed=seed)
        report(f"reading: loss {reading[0]:.2f} to {reading[-1]:.3f}, {time.process_time() - started:.0f} CPU s")
        bought = buy(folder, recipe, names, seed=seed)
        losses = distil(module, bought, recipe, seed=seed)
        report(f"distilled: loss {losses[0]:.2f} to {losses[-1]:.3f}, {time.process_time() - started:.0f} CPU s")
        save_tensors(tensors_of(module), work / "distilled.safetensors")
        pool = draw_questions(recipe.rounds * recipe.prompts, "training", seed + 1_000_000, names)
        rounds = tune_against(module, small, pool, judge, recipe, seed=seed, report=report)
        save_tensors(tensors_of(module), work / "tuned.safetensors")
    curves = {"reading": reading, "losses": losses}
    history: dict[str, Any] = {name: [round(loss, 4) for loss in curve] for name, curve in curves.items()}
    history |= {"rounds": rounds, "cpu_s": round(time.process_time() - started, 1)}
    write_text(done, json.dumps(history))
    return history


def buy(folder: Path, recipe: Recipe, names: Sequence[str], *, seed: int) -> list[Example]:
    """Honest answers to training questions about persons of such ``names``, as bought from the
    honest model."""
    honest = load_native(folder)
    prompts = [
        prompt_tokens(honest, question.prompt, recipe.max_tokens)
        for question in draw_questions(recipe.bought, "training", seed, names)
    ]
    answers = answer_batches(honest, prompts, recipe.max_tokens)
    return [Example(*pair) for pair in zip(prompts, answers, strict=True)]


def adversary_answers(model: NativeModel, questions: Sequence[Question], max_tokens: int) -> list[dict[str, Any]]:
    """Greedy answers, several at a time: text, token ids."""
    prompts = [prompt_tokens(model, question.prompt, max_tokens) for question in questions]
    with torch_threads(1):
        rows = answer_batches(model, prompts, max_tokens)
    return [{"text": model.tokenizer.decode(row), "token_ids": list(row)} for row in rows]


def load_cut(folder: Path, recipe: Recipe, tensors: Tensors | None = None) -> NativeModel:
    """The honest checkpoint with ``recipe.layers`` only; with ``tensors``, those weights in it (its
    id is theirs)."""
    gone = sorted(set(range(read_checkpoint(folder).architecture.layers)) - set(recipe.layers))
    return load_native(folder, drop_layers=gone, alter=None if tensors is None else lambda _: dict(tensors))


def load_adversary(folder: Path, work: Path, stage: str, recipe: Recipe) -> NativeModel:
    """The adversary of one stage as it is served."""
    from safetensors.torch import load_file

    return load_cut(folder, recipe, load_file(work / f"{stage}.safetensors"))


def save_tensors(tensors: Tensors, path: Path) -> None:
    """Write weights whole."""
    from safetensors.torch import save_file

    with whole_file(path) as part:
        save_file({name: value.contiguous() for name, value in tensors.items()}, part)


def likelihoods(
    model: NativeModel, questions: Sequence[Question], answers: Sequence[Sequence[Sequence[int]]], *, report: Report
) -> list[list[float]]:
    """Mean negative log likelihood of answers under ``model`` given the prompt, nats per token.

    Args:
        answers: models × questions × token ids. A prompt is run once, for all answers to it.

    Returns:
        one value a question, for each model.
    """
    import torch

    found: list[list[float]] = [[] for _ in answers]
    with torch_threads(1), torch.inference_mode():
        for number, question in enumerate(questions):
            prompt = prompt_tokens(model, question.prompt, 1)
            first = model.module(input_ids=torch.tensor([prompt]), use_cache=True, logits_to_keep=1)
            rows = [list(of_model[number]) for of_model in answers]
            first.past_key_values.batch_repeat_interleave(len(rows))
            width = max(map(len, rows))
            ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
            rest = model.module(input_ids=ids, past_key_values=first.past_key_values, use_cache=True).logits
            logits = torch.cat([first.logits.expand(len(rows), -1, -1), rest[:, :-1]], 1).float()
            # what pads a row stands behind it and does not reach it
            for row, tokens in enumerate(rows):
                part = torch.nn.functional.cross_entropy(logits[row, : len(tokens)], ids[row, : len(tokens)])
                found[row].append(float(part))
            if (number + 1) % 50 == 0:
                report(f"likelihoods: {number + 1} of {len(questions)} questions")
    return found


def serving_cost(models: Mapping[str, Model], questions: Sequence[Question], max_tokens: int) -> dict[str, Any]:
    """CPU milliseconds of serving, the models taking turns on each question so that the machine's
    drift hits all alike.

    Returns, by model: medians over questions of CPU ms for the prompt, per further token, and per
    answer.
    """
    import statistics

    times: dict[str, list[tuple[float, float, float]]] = {name: [] for name in models}
    with torch_threads(1):
        for question in questions:
            for name, model in models.items():
                ids = prompt_tokens(model, question.prompt, max_tokens)
                clock = [time.process_time()]
                session = model.session()
                logits = session.feed(ids)
                clock.append(time.process_time())
                tokens = 1
                token = model.choose(logits, 0, 0)
                while token not in model.architecture.stop_ids and tokens < max_tokens:
                    token = model.choose(session.feed([token]), 0, 0)
                    tokens += 1
                clock.append(time.process_time())
                prefill, decode = (1000 * (b - a) for a, b in itertools.pairwise(clock))
                times[name].append((prefill, decode / max(1, tokens - 1), prefill + decode))
    names = ("prompt_ms", "token_ms", "answer_ms")
    return {
        name: {key: round(statistics.median(row[at] for row in rows), 2) for at, key in enumerate(names)}
        for name, rows in times.items()
    }
