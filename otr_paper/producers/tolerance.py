"""Measure the tolerance leaf rule on real answers: ``python -m otr_paper.producers.tolerance [lane …]``.

Writes data/results/tolerance.json with its card, for each native lane: honest operator checks over prompts and ways of
running (calibration prompts, and held-out ones that the false-slash counts come from), envelopes, the smallest caught
perturbations, real cheats, and the adversary who knows the bounds. A check is one operator at one layer and position.
One thread, about half an hour of CPU time.
"""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from otr_core.lane.sampling import Decoding
from otr_node.generate import generate
from otr_node.models import model_folder
from otr_node.native import NativeModel, load_native
from otr_node.project import find_project
from otr_paper.labs.tolerance.bound_aware import attack
from otr_paper.labs.tolerance.calibration import (
    MARGIN,
    SIZES,
    envelopes,
    false_slash_limit,
    left_out,
    perturbed_ratios,
    smallest_caught,
)
from otr_paper.labs.tolerance.native_operators import OPERATORS, Referee, Run, Schedule, State, record
from otr_paper.labs.tolerance.tolerance import ASSUMPTIONS
from otr_paper.labs.variants import requantised
from otr_paper.press.notebook import quiet
from otr_paper.store import results

AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
SEED, TOKENS = 20251223, 64
CALIBRATION = (
    "Ada lives in Lisbon and works as a baker. Where does Ada live?",
    "Write a short story about a lighthouse keeper who finds a letter in a bottle.",
    "Explain to a child why the sky is blue.",
    "List the steps to plant a tomato in a pot on a balcony.",
    "Un homme entre dans un café. Continue this story in English.",
    "Compare trains and planes for a trip of 600 kilometres.",
)
HELD_OUT = (
    "Describe the water cycle in a few sentences.",
    "Give arguments for and against remote work.",
    "Summarise: a bank grants loans, checks risk, and asks for collateral. When does it lose money?",
    "Write a polite e-mail that asks for a refund of a broken kettle.",
)
LANES = ("native-float32", "native-bfloat16")
ELSEWHERE = "AVX2 kernels"


def schedules(prompt: int) -> tuple[Schedule, ...]:
    """The ways of running, after the lane's own."""
    return (
        Schedule("the lane's own", first_piece=prompt),
        Schedule("whole at once"),
        Schedule("2 threads", threads=2),
        Schedule("batch of 4", rows=4),
        Schedule("left padding", pad=7),
        Schedule("token by token", first_piece=1),
    )


def answered(model: NativeModel, prompt: str) -> tuple[list[int], int]:
    """Token ids of prompt and answer, and how many are the prompt's."""
    answer = generate(model, prompt, Decoding(TOKENS, 0, 0))
    return [*answer.prompt_ids, *answer.token_ids[:-1]], len(answer.prompt_ids)


def checked(referee: Referee, run: Run) -> dict[str, np.ndarray]:
    """Operator -> the ratio of each of its checks (layers x positions, in that order)."""
    found = defaultdict(list)
    for layer, state in enumerate(run):
        for operator in referee.operators(layer):
            ratios = referee.reference(operator, layer, state).ratios(state[operator.output])
            found[operator.name].append(ratios.max(-1))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def tolerance_child(lane: str, source: str, target: str) -> None:
    """In a process restricted to AVX2 kernels: check the sequences of ``source``."""
    assert torch.backends.cpu.get_cpu_capability() == "AVX2"
    model = load_native(model_folder(find_project(), report=print), lane=lane)
    referee, found = Referee.of(model), {}
    with np.load(source) as sequences:
        for number, (name, ids) in enumerate(sequences.items()):
            prompt = int(name.rsplit(" ", 1)[1])
            way = Schedule(ELSEWHERE, first_piece=prompt if number % 2 else None)
            for operator, ratios in checked(referee, record(model, ids.tolist(), way)).items():
                found[f"{number}/{operator}"] = ratios
    np.savez(target, **found)


def measure_honest(lane: str, model: NativeModel, referee: Referee, sequences: list[tuple[list[int], int]]) -> Any:
    """(change, prompt number) -> operator -> ratios."""
    found = {}
    for number, (ids, prompt) in enumerate(sequences):
        for way in schedules(prompt):
            found[way.name, number] = checked(referee, record(model, ids, way))
        say(lane, f"honest, prompt {number}")
    with tempfile.TemporaryDirectory() as folder:
        source, target = (str(Path(folder) / name) for name in ("in.npz", "out.npz"))
        np.savez(source, **{f"{n} {prompt}": np.array(ids) for n, (ids, prompt) in enumerate(sequences)})
        subprocess.run([sys.executable, __file__, "child", lane, source, target], env=os.environ | AVX2, check=True)
        with np.load(target) as elsewhere:
            for number in range(len(sequences)):
                names = [key for key in elsewhere if key.startswith(f"{number}/")]
                found[ELSEWHERE, number] = {key.split("/", 1)[1]: elsewhere[key] for key in names}
    say(lane, f"honest, {ELSEWHERE}")
    return found


def calibrated(found: Any) -> dict[str, Any]:
    """Envelopes per operator from the calibration prompts; violations counted on the held-out ones."""
    known = range(len(CALIBRATION))
    ways = list(dict.fromkeys(way for way, _ in found))
    operators: dict[str, Any] = {}
    for name in OPERATORS:
        fit = np.concatenate([rows[name] for (_, number), rows in found.items() if number in known])
        test = np.concatenate([rows[name] for (_, number), rows in found.items() if number not in known])
        rules = envelopes(fit)
        by_way = {way: [float(r) for (w, _), rows in found.items() if w == way for r in rows[name]] for way in ways}
        operators[name] = {
            "envelopes": rules,
            "calibration_checks": len(fit),
            "held_out_checks": len(test),
            "held_out_violations": {rule: int((test > envelope).sum()) for rule, envelope in rules.items()},
            "largest_by_way": {way: max(values) for way, values in by_way.items()},
            "left_out_violations": {str(m): left_out(by_way, m) for m in (1.0, MARGIN)},
        }
    answers = {
        rule: {
            "violations": sum(
                any((ratios > operators[name]["envelopes"][rule]).any() for name, ratios in rows.items())
                for (_, number), rows in found.items()
                if number not in known
            ),
            "runs": sum(number not in known for _, number in found),
        }
        for rule in rules
    }
    for entry in answers.values():
        entry["limit"] = false_slash_limit(entry["violations"], entry["runs"])
    checks = sum(len(ratios) for rows in found.values() for ratios in rows.values())
    return {
        "operators": operators,
        "held_out_runs": answers,
        "checks": checks,
        "ieee_violations": sum(int((r > 1).sum()) for rows in found.values() for r in rows.values()),
        "runs": len(found),
        "ways": ways,
    }


def sizes(referee: Referee, runs: Iterable[Run], rules: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Smallest perturbation caught in every trial, and in half, by operator, rule and kind."""
    rng = np.random.default_rng(SEED)
    seen: dict[str, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
    for run in runs:
        for layer, state in enumerate(run):
            for op in referee.operators(layer):
                reference = referee.reference(op, layer, state)
                seen[op.name].append(perturbed_ratios(reference, state[op.output], referee.fmt, rng))
    result: dict[str, Any] = {}
    for name, parts in seen.items():
        single, whole = (np.concatenate([part[kind] for part in parts], 1) for kind in (0, 1))
        result[name] = {"trials": single.shape[1]} | {
            kind: {
                rule: {"every": smallest_caught(r, e, 1.0), "half": smallest_caught(r, e, 0.5)}
                for rule, e in rules[name].items()
            }
            for kind, r in (("element", single), ("output", whole))
        }
    return result


def caught(ratios: np.ndarray, envelope: float) -> list[int]:
    return [int((ratios > envelope).sum()), len(ratios)]


def measure_cheats(
    folder: Path,
    lane: str,
    referee: Referee,
    sequences: list[tuple[list[int], int]],
    rules: dict[str, dict[str, float]],
) -> list[dict[str, Any]]:
    """Real cheats: rows of {cheat, operator, rule, caught, trials}; a trial is one position of one layer."""
    rows: list[dict[str, Any]] = []

    def add(cheat: str, found: dict[str, np.ndarray]) -> None:
        for name, ratios in found.items():
            for rule in ("IEEE", "calibrated"):
                hit, trials = caught(ratios, rules[name][rule])
                rows.append({"cheat": cheat, "operator": name, "rule": rule, "caught": hit, "trials": trials})

    def judged(model: NativeModel) -> dict[str, np.ndarray]:
        parts = [checked(referee, record(model, ids, Schedule("", first_piece=p))) for ids, p in sequences]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    for bits in (8, 4):
        model = load_native(folder, lane=lane, alter=lambda tensors, b=bits: requantised(tensors, b))
        add(f"int{bits} weights", judged(model))
        say(lane, f"int{bits}")
    if lane == "native-float32":
        add("bf16 for fp32", judged(load_native(folder, lane="native-bfloat16")))
    # A dropped layer: its slot in the trace must hold something.
    ids, prompt = sequences[0]
    plain = record(load_native(folder, lane=lane), ids, Schedule("", first_piece=prompt))
    layers = range(len(plain) - 1)
    add(
        "layer skipped, zero updates claimed",
        worst_of(referee, plain, layers, lambda state: {**state, "o": 0 * state["o"], "down": 0 * state["down"]}, "o"),
    )
    taken: list[np.ndarray] = []
    for layer in range(2, len(plain) - 2, 5):
        short = record(load_native(folder, lane=lane, drop_layers=[layer]), ids, Schedule("", first_piece=prompt))
        # the next layer's values stand in the dropped one's place: same input, other weights
        taken.append(worst_linear(referee, layer, short[layer], rules))
    for number, rule in enumerate(("IEEE", "calibrated")):
        hits = np.concatenate([part[number] for part in taken])
        rows.append(
            {"cheat": "layer dropped, the next in its place", "operator": "any of the layer's", "rule": rule}
            | {"caught": int(hits.sum()), "trials": len(hits)}
        )
    say(lane, "dropped layers")
    return rows


def worst_of(referee: Referee, run: Run, layers: Iterable[int], change: Any, output: str) -> dict[str, np.ndarray]:
    """Ratios of one operator after ``change`` of each layer's values."""
    operator, found = OPERATORS[output], []
    for layer in layers:
        state = change(run[layer])
        found.append(referee.reference(operator, layer, state).ratios(state[output]).max(-1))
    return {operator.name: np.concatenate(found)}


def worst_linear(
    referee: Referee, layer: int, state: State, rules: dict[str, dict[str, float]]
) -> tuple[np.ndarray, np.ndarray]:
    """Per position, whether some operator of the layer refuses ``state``: by the IEEE rule, by the calibrated one."""
    ratios = {
        op.name: referee.reference(op, layer, state).ratios(state[op.output]).max(-1) for op in referee.operators(layer)
    }
    ieee, narrow = (np.any([r > rules[name][rule] for name, r in ratios.items()], 0) for rule in ("IEEE", "calibrated"))
    return ieee, narrow


def measure_adversary(
    folder: Path,
    lane: str,
    referee: Referee,
    sequences: list[tuple[list[int], int]],
    rules: dict[str, dict[str, float]],
) -> list[dict[str, Any]]:
    """Each answer's two closest calls and two random positions, pushed under either rule."""
    # Gradients in fp32, with the lane's weights.
    stored = getattr(torch, lane.removeprefix("native-"))
    model = load_native(folder, alter=lambda tensors: {name: t.to(stored).float() for name, t in tensors.items()})
    rng, rows = np.random.default_rng(SEED), []
    for number, (ids, prompt) in enumerate(sequences):
        logits = record(model, ids, Schedule(""))[-1]["logits"][prompt - 1 :]
        top = np.sort(logits, -1)[:, -2:]
        close = np.argsort(top[:, 1] - top[:, 0])[:2]
        for choice, places in (("closest", close), ("random", rng.choice(len(logits), 2, replace=False))):
            for place in places:
                for rule in ("IEEE", "calibrated"):
                    limits = {name: values[rule] for name, values in rules.items()}
                    found, _ = attack(model, referee, ids[: prompt + int(place)], limits)
                    row = {"rule": rule, "position": choice, "gap": found.gap, "drift": found.drift}
                    rows.append(row | {"largest_logit": found.largest_logit, "flipped": found.flipped})
        say(lane, f"adversary, prompt {number}")
    return rows


def say(lane: str, what: str) -> None:
    print(f"{lane}: {what} ({time.process_time():.0f} CPU s)", file=sys.stderr, flush=True)


def measure_tolerance(folder: Path, lane: str) -> dict[str, Any]:
    model = load_native(folder, lane=lane)
    referee = Referee.of(model)
    sequences = [answered(model, prompt) for prompt in (*CALIBRATION, *HELD_OUT)]
    found = measure_honest(lane, model, referee, sequences)
    summary = calibrated(found)
    rules = {name: entry["envelopes"] for name, entry in summary["operators"].items()}
    unseen = sequences[-2:]
    summary["sizes"] = sizes(referee, (record(model, i, Schedule("", first_piece=p)) for i, p in unseen[:1]), rules)
    say(lane, "sizes")
    summary["cheats"] = measure_cheats(folder, lane, referee, unseen, rules)
    summary["adversary"] = measure_adversary(folder, lane, referee, sequences[-4:], rules)
    summary["answer_tokens"] = [len(ids) - prompt + 1 for ids, prompt in sequences]
    return summary


def main() -> None:
    quiet()
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["child"]:
        return tolerance_child(*sys.argv[2:5])
    project = find_project()
    folder = model_folder(project, report=print)
    lanes = {lane: measure_tolerance(folder, lane) for lane in sys.argv[1:] or LANES}
    if (project.results / "tolerance.json").is_file():  # lanes not measured now stay as they are
        lanes = {**results.read_result(project.results, "tolerance")[1]["lanes"], **lanes}
    payload = {"assumptions": ASSUMPTIONS, "margin": MARGIN, "sizes": [min(SIZES), max(SIZES)], "lanes": lanes}
    card = results.Card(
        command="python -m otr_paper.producers.tolerance",
        date=dt.datetime.now(dt.UTC).date().isoformat(),
        machine=results.this_machine(os.cpu_count() or 1),
        versions=results.versions(("numpy", "torch", "transformers")),
        seed=SEED,
        kind="measured",
    )
    print(results.write_result(project.results, "tolerance", card, payload).name, f"{time.process_time():.0f} CPU s")


if __name__ == "__main__":
    main()
