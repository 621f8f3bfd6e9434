"""Measure the tolerance leaf rule on real answers: data/results/tolerance.json. About half an hour
on one core. With --drawn only what is drawn runs again, against the stored envelopes; the rest stays as it was
stored.

For each native lane: honest operator checks over prompts and ways of running (calibration prompts,
and held-out ones that the false-slash counts come from), envelopes, the smallest caught
perturbations, real cheats, and the adversary who knows the bounds. A check is one operator at one
layer and position.
"""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from otr_core.errors import DataError
from otr_core.lane.sampling import Decoding
from otr_node.generate import generate, prompt_tokens
from otr_node.native import NativeModel, load_native
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
from otr_paper.producers import frame
from otr_paper.store.results import read_result

SEEDS, TOKENS = (20251223, 20251224, 20251225), 64
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
#: Token ids of prompt and answer, and how many are the prompt's.
AnswerIds: TypeAlias = tuple[list[int], int]
#: Operator -> the ratio of each of its checks (layers x positions, in that order).
Ratios: TypeAlias = dict[str, NDArray[Any]]
#: (way of running, number of the prompt) -> the ratios found.
Found: TypeAlias = dict[tuple[str, int], Ratios]
#: Operator -> the ratios of perturbed outputs, of one element and of the whole output.
Perturbed: TypeAlias = dict[str, list[tuple[NDArray[Any], NDArray[Any]]]]
#: Operator -> rule -> the largest ratio that the rule lets pass.
Envelopes: TypeAlias = dict[str, dict[str, float]]
RULES = ("IEEE", "calibrated")


def _schedules(prompt: int) -> tuple[Schedule, ...]:
    """The ways of running, after the lane's own."""
    return (
        Schedule("the lane's own", first_piece=prompt),
        Schedule("whole at once"),
        Schedule("2 threads", threads=2),
        Schedule("batch of 4", rows=4),
        Schedule("left padding", pad=7),
        Schedule("token by token", first_piece=1),
    )


def _layer_ratios(referee: Referee, layer: int, state: State) -> Ratios:
    """The worst ratio at each position, operator by operator of one layer."""
    return {
        op.name: referee.reference(op, layer, state).ratios(state[op.output]).max(-1) for op in referee.operators(layer)
    }


def ratios_of_run(referee: Referee, run: Run) -> Ratios:
    found = defaultdict(list)
    for layer, state in enumerate(run):
        for name, ratios in _layer_ratios(referee, layer, state).items():
            found[name].append(ratios)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _check_elsewhere(lane: str, source: str, target: str) -> None:
    """In a process restricted to AVX2 kernels: check the sequences of ``source``."""
    assert torch.backends.cpu.get_cpu_capability() == "AVX2"
    model = load_native(frame.model_files(), lane=lane)
    referee, found = Referee.of(model), {}
    with np.load(source) as sequences:
        for number, (name, ids) in enumerate(sequences.items()):
            prompt = int(name.rsplit(" ", 1)[1])
            way = Schedule(ELSEWHERE, first_piece=prompt if number % 2 else None)
            for operator, ratios in ratios_of_run(referee, record(model, ids.tolist(), way)).items():
                found[f"{number}/{operator}"] = ratios
    np.savez(target, allow_pickle=False, **found)


def _honest(lane: str, model: NativeModel, referee: Referee, sequences: list[AnswerIds]) -> Found:
    found: Found = {}
    for number, (ids, prompt) in enumerate(sequences):
        for way in _schedules(prompt):
            found[way.name, number] = ratios_of_run(referee, record(model, ids, way))
        frame.progress(f"{lane}: honest, prompt {number}")
    with tempfile.TemporaryDirectory() as folder:
        source, target = (str(Path(folder) / name) for name in ("in.npz", "out.npz"))
        arrays = {f"{number} {prompt}": np.array(ids) for number, (ids, prompt) in enumerate(sequences)}
        np.savez(source, allow_pickle=False, **arrays)
        frame.run_child("otr_paper.producers.tolerance", "child", lane, source, target, **frame.AVX2)
        with np.load(target) as elsewhere:
            for number in range(len(sequences)):
                names = [key for key in elsewhere if key.startswith(f"{number}/")]
                found[ELSEWHERE, number] = {key.split("/", 1)[1]: elsewhere[key] for key in names}
    frame.progress(f"{lane}: honest, {ELSEWHERE}")
    return found


def _calibrated(found: Found) -> dict[str, Any]:
    """Envelopes per operator from the calibration prompts; violations counted on the held-out
    ones."""
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
    unseen = [rows for (_, number), rows in found.items() if number not in known]
    answers: dict[str, dict[str, float]] = {}
    for rule in rules:
        limits = {name: entry["envelopes"][rule] for name, entry in operators.items()}
        bad = sum(any((ratios > limits[name]).any() for name, ratios in rows.items()) for rows in unseen)
        limit = false_slash_limit(bad, len(unseen))
        answers[rule] = {"violations": bad, "runs": len(unseen), "limit": limit}
    checks = sum(len(ratios) for rows in found.values() for ratios in rows.values())
    return {
        "operators": operators,
        "held_out_runs": answers,
        "checks": checks,
        "ieee_violations": sum(int((r > 1).sum()) for rows in found.values() for r in rows.values()),
        "runs": len(found),
        "ways": ways,
    }


def _sizes(referee: Referee, run: Run, rules: Envelopes) -> dict[str, Any]:
    """``sizes`` of all seeds' perturbations, and ``sizes_by_seed`` of each's alone."""
    rngs = [np.random.default_rng(seed) for seed in SEEDS]
    seen: list[Perturbed] = [defaultdict(list) for _ in SEEDS]
    for layer, state in enumerate(run):
        for op in referee.operators(layer):
            reference = referee.reference(op, layer, state)
            for rng, found in zip(rngs, seen, strict=True):
                found[op.name].append(perturbed_ratios(reference, state[op.output], referee.fmt, rng))
    together = {name: [part for found in seen for part in found[name]] for name in seen[0]}
    alone = [{"seed": seed, "sizes": _caught(found, rules)} for seed, found in zip(SEEDS, seen, strict=True)]
    return {"sizes": _caught(together, rules), "sizes_by_seed": alone}


def _caught(seen: Perturbed, rules: Envelopes) -> dict[str, Any]:
    """Smallest perturbation caught in every trial, and in half, by operator, rule and kind."""
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


def _cheats(
    folder: Path, lane: str, referee: Referee, sequences: list[AnswerIds], rules: Envelopes
) -> list[dict[str, Any]]:
    """Real cheats: rows of {cheat, operator, rule, caught, trials}; a trial is one position of one
    layer."""
    rows: list[dict[str, Any]] = []

    def add(cheat: str, operator: str, rule: str, hits: NDArray[np.bool_]) -> None:
        row = {"cheat": cheat, "operator": operator, "rule": rule}
        rows.append(row | {"caught": int(hits.sum()), "trials": len(hits)})

    def add_ratios(cheat: str, found: Ratios) -> None:
        for name, ratios in found.items():
            for rule in RULES:
                add(cheat, name, rule, ratios > rules[name][rule])

    def judged(model: NativeModel) -> Ratios:
        parts = [ratios_of_run(referee, record(model, ids, Schedule("", first_piece=p))) for ids, p in sequences]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    for bits in (8, 4):
        model = load_native(folder, lane=lane, alter=partial(requantised, bits=bits))
        add_ratios(f"int{bits} weights", judged(model))
        frame.progress(f"{lane}: int{bits}")
    if lane == "native-float32":
        add_ratios("bf16 for fp32", judged(load_native(folder, lane="native-bfloat16")))
    # A dropped layer: its slot in the trace must hold something.
    ids, prompt = sequences[0]
    plain = record(load_native(folder, lane=lane), ids, Schedule("", first_piece=prompt))
    # A skipped layer claims to add nothing to the residual: its first such operator is judged.
    idle = [{**state, "o": 0 * state["o"], "down": 0 * state["down"]} for state in plain[:-1]]
    parts = [_layer_ratios(referee, layer, state)["o"] for layer, state in enumerate(idle)]
    add_ratios("layer skipped, zero updates claimed", {"o": np.concatenate(parts)})
    taken: list[dict[str, NDArray[np.bool_]]] = []
    for layer in range(2, len(plain) - 2, 5):
        short = record(load_native(folder, lane=lane, drop_layers=[layer]), ids, Schedule("", first_piece=prompt))
        # the next layer's values stand in the dropped one's place: same input, other weights
        taken.append(_refused(referee, layer, short[layer], rules))
    for rule in RULES:
        hits = np.concatenate([part[rule] for part in taken])
        add("layer dropped, the next in its place", "any of the layer's", rule, hits)
    frame.progress(f"{lane}: dropped layers")
    return rows


def _refused(referee: Referee, layer: int, state: State, rules: Envelopes) -> dict[str, NDArray[np.bool_]]:
    """Rule -> whether some operator of the layer refuses ``state``, position by position."""
    ratios = _layer_ratios(referee, layer, state)
    return {rule: np.any([r > rules[name][rule] for name, r in ratios.items()], 0) for rule in RULES}


def _adversary(
    folder: Path, lane: str, referee: Referee, sequences: list[AnswerIds], rules: Envelopes
) -> list[dict[str, Any]]:
    """Each answer's two closest calls and two random positions of each seed, pushed under either rule; a closest
    call has no seed."""
    # Gradients in fp32, with the lane's weights.
    stored = getattr(torch, lane.removeprefix("native-"))
    model = load_native(folder, alter=lambda tensors: {name: t.to(stored).float() for name, t in tensors.items()})
    rngs, rows = {seed: np.random.default_rng(seed) for seed in SEEDS}, []
    for number, (ids, prompt) in enumerate(sequences):
        logits = record(model, ids, Schedule(""))[-1]["logits"][prompt - 1 :]
        top = np.sort(logits, -1)[:, -2:]
        close = np.argsort(top[:, 1] - top[:, 0])[:2]
        drawn = [(seed, rng.choice(len(logits), 2, replace=False)) for seed, rng in rngs.items()]
        for seed, places in [(None, close), *drawn]:
            for place, rule in product(places, RULES):
                limits = {name: values[rule] for name, values in rules.items()}
                found, _ = attack(model, referee, ids[: prompt + int(place)], limits)
                told = {name: getattr(found, name) for name in ("gap", "drift", "largest_logit", "flipped")}
                rows.append({"rule": rule, "position": "random" if seed else "closest", "seed": seed, **told})
        frame.progress(f"{lane}: adversary, prompt {number}")
    return rows


def _measure(folder: Path, lane: str, stored: dict[str, Any] | None) -> dict[str, Any]:
    """One lane. stored: what it has, of which only what is drawn is made anew; None: nothing."""
    model = load_native(folder, lane=lane)
    referee = Referee.of(model)
    prompts = [prompt_tokens(model, prompt, TOKENS) for prompt in (*CALIBRATION, *HELD_OUT)]
    answers = [generate(model, ids, Decoding(TOKENS, 0, 0)) for ids in prompts]
    sequences = [([*one.prompt_ids, *one.token_ids[:-1]], len(one.prompt_ids)) for one in answers]
    tokens = [len(ids) - prompt + 1 for ids, prompt in sequences]
    if stored is not None and stored["answer_tokens"] != tokens:
        raise DataError(f"{lane}: found answers of {tokens} tokens, expected those stored, {stored['answer_tokens']}")
    kept = stored or _calibrated(_honest(lane, model, referee, sequences))
    rules = {name: entry["envelopes"] for name, entry in kept["operators"].items()}
    ids, prompt = sequences[-2]
    drawn = _sizes(referee, record(model, ids, Schedule("", first_piece=prompt)), rules)
    frame.progress(f"{lane}: sizes")
    cheats = stored["cheats"] if stored else _cheats(folder, lane, referee, sequences[-2:], rules)
    adversary = _adversary(folder, lane, referee, sequences[-4:], rules)
    return {**kept, **drawn, "cheats": cheats, "adversary": adversary, "answer_tokens": tokens}


def main() -> None:
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["child"]:
        quiet()
        return _check_elsewhere(*sys.argv[2:5])
    parser = frame.arguments(__doc__)
    parser.add_argument("lane", nargs="*", help=f"{', '.join(LANES)}; lanes not named stay as they are stored")
    parser.add_argument("--drawn", action="store_true", help="only what is drawn, against the stored envelopes")
    given = parser.parse_args()
    if unknown := set(given.lane) - set(LANES):
        parser.error(f"lane: found {', '.join(sorted(unknown))}, expected some of {', '.join(LANES)}")
    folder, results = frame.model_files(), frame.checkout().results
    stored = read_result(results, "tolerance")[1]["lanes"] if (results / "tolerance.json").is_file() else {}
    found = {lane: _measure(folder, lane, stored[lane] if given.drawn else None) for lane in given.lane or LANES}
    payload = {"assumptions": ASSUMPTIONS, "margin": MARGIN, "sizes": [min(SIZES), max(SIZES)], "seeds": SEEDS}
    frame.store("tolerance", payload | {"lanes": stored | found}, seed=SEEDS[0], packages=frame.MODEL_LIBRARIES)


if __name__ == "__main__":
    main()
