"""What exact integers cost, measured now beside floats: the same tokens through every lane, in turns.

    python -m otr_paper.benches.lane FOLDER [ROUNDS PROMPT CONTEXT SEED]

prints the ratios of the process as it is, without those of a wide layer; of a folder alone, the memory
that loading takes.
"""

from __future__ import annotations

import ctypes
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import torch

from otr_core.errors import ModelError
from otr_core.lane import formats as bits
from otr_core.lane.architecture import Architecture
from otr_core.lane.dims import Dims, Matrix
from otr_core.lane.tables import rotary_table
from otr_node.batching import ContinuousBatch
from otr_node.checkpoint import torch_threads
from otr_node.integers.forms import chosen_form
from otr_node.integers.layers import Layers
from otr_node.lanes import load_model
from otr_node.model import Model
from otr_node.portable import PortableModel, load_portable
from otr_node.rounding import STACKS, round_model
from otr_paper.benches.lane_bits import MACHINES
from otr_paper.benches.turns import check_counts

WIDE = Architecture(
    hidden=4096,
    intermediate=11008,
    layers=1,
    heads=32,
    kv_heads=32,
    head_dim=128,
    vocab=64,
    context=4096,
    rms_eps=1e-5,
    rope_theta=10000.0,
    tied=True,
    stop_ids=(2,),
)
"""One layer of a Llama of 7 billion weights, over a vocabulary that costs nothing."""


BATCHES = (1, 4, 16)
"""Sequences that are decoded together."""


@dataclass(frozen=True)
class LanePlan:
    """How much is measured.

    Attributes:
        rounds: turns of every way. prompt: tokens of a prefill. context: tokens before a decoded
            one; both cut to the model's context. wide: whether ``WIDE`` is measured as well, which takes 2 GB.
            seed: of the tokens that are fed and of a layer's weights.

    Raises:
        ParameterError: nothing to measure.
    """

    rounds: int = 7
    prompt: int = 256
    context: int = 100
    wide: bool = True
    seed: int = 1

    def __post_init__(self) -> None:
        check_counts(self, "rounds", "prompt", "context")


Work = Callable[[], object]


def in_turns(rounds: int, works: Mapping[str, Work]) -> dict[str, float]:
    """CPU seconds of each work: the least of ``rounds`` turns, after one that is not counted.

    The works take turns, so that what else runs on the machine meets all of them; the least is what
    remains when nothing else did.
    """
    spent: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            before = time.process_time()
            work()
            if turn:
                spent[name].append(time.process_time() - before)
    return {name: min(times) for name, times in spent.items()}


def measure_lane(folder: Path, plan: LanePlan | None = None) -> dict[str, Any]:
    """Measure the portable lane on one thread against torch's float32 and bfloat16, and against the
    products of its matrices alone by NumPy's float32 (OpenBLAS in the published wheels).

    Args:
        folder: a checkpoint.

    Returns:
        JSON values. decode_over_fp32, decode_over_bf16, prefill_over_fp32, prefill_over_bf16: CPU
        time of a token and of a prompt over that of the native lanes. decode_over_openblas: over the
        float32 products alone. bytes_per_weight: held after loading. load_cpu_s: to load and commit,
        median of three. form: how the operations ran (``forms.Form``). cpu_ms: all times; by batch,
        those of one token of one of so many sequences decoded together.
        wide, where measured: the same ratios for one layer of ``WIDE``.
    """
    plan = plan or LanePlan()
    loads = []
    chosen_form()  # tested once in a process, before the clock runs
    for _ in range(3):
        before = time.process_time()
        model = load_portable(folder)
        loads.append(time.process_time() - before)
    most = model.architecture.context
    prompt, context = min(plan.prompt, most), max(1, min(plan.context, most - plan.rounds - 1))
    natives = {lane: load_model(folder, lane=f"native-{name}") for lane, name in _NATIVE.items()}
    ids = _drawn_ids(model, plan.seed, max(prompt, context))
    sessions = {"portable": model.session()} | {lane: native.session() for lane, native in natives.items()}
    for session in sessions.values():
        session.feed(ids[:context])
    decode: dict[str, Work] = {lane: lambda of=session: of.feed(ids[:1]) for lane, session in sessions.items()}  # type: ignore[misc]
    products = _products(model)
    with _one_thread():
        ms = in_turns(plan.rounds, decode | {"openblas": lambda: [matrix @ x for matrix, x in products]})
        whole: dict[str, Any] = {"portable": model, **natives}
        prefill = in_turns(
            max(2, plan.rounds // 2),
            {lane: lambda of=each: of.session().feed(ids[:prompt]) for lane, each in whole.items()},  # type: ignore[misc]
        )
        batched = {}
        for size in BATCHES:
            batch = ContinuousBatch(model, context)
            fed: list[int] = []
            numbers = [batch.add(ids[:context]) for _ in range(size)]
            while len(fed) < size:
                fed += batch.step({})
            work = {"portable": lambda of=batch, all_=numbers: of.step(dict.fromkeys(all_, ids[0]))}
            batched[str(size)] = in_turns(plan.rounds, work)["portable"] / size
    weights = sum(rows * columns for rows, columns in (matrix.shape for matrix in model.matrices.values()))
    return {
        "decode_over_fp32": _ratio(ms, "fp32"),
        "decode_over_openblas": _ratio(ms, "openblas"),
        "decode_over_bf16": _ratio(ms, "bf16"),
        "prefill_over_fp32": _ratio(prefill, "fp32"),
        "prefill_over_bf16": _ratio(prefill, "bf16"),
        "bytes_per_weight": round(sum(matrix.nbytes for matrix in model.matrices.values()) / weights, 3),
        "load_cpu_s": round(statistics.median(loads), 4),
        "form": model.form.describe(),
        "cpu_ms": {
            "decode": _milliseconds(ms),
            "prefill": _milliseconds(prefill),
            "token_by_batch": _milliseconds(batched),
        },
        "prompt": prompt,
        "context": context,
        **({"wide": measure_layer(WIDE, plan)} if plan.wide else {}),
    }


def measure_layer(architecture: Architecture, plan: LanePlan) -> dict[str, Any]:
    """The same ratios of one layer with random weights, as those of an untrained Llama.

    Args:
        architecture: of one layer.
    """
    from transformers import LlamaConfig, LlamaModel

    torch.manual_seed(plan.seed)
    config = LlamaConfig(**{**architecture.config(), "torch_dtype": "float32"})
    module = LlamaModel(config).eval()
    tensors = {f"model.{name}": value for name, value in module.state_dict().items()}
    form = chosen_form()
    matrices, bounds, _ = round_model(architecture, tensors, form)
    d = Dims.of(architecture)

    def matrix(which: Matrix, layer: int) -> Any:
        return matrices[f"{layer}.{list(STACKS)[which - Matrix.QKV]}"]

    layers = Layers(d, matrix, bounds.saturation, bounds.accumulators["attention"] < bits.LIMIT, form)
    room = max(plan.prompt, plan.context + 1)
    sides = rotary_table(architecture.rope_theta, d.tile, room, bits.ROTARY)
    turns = np.array(sides[0], np.int32), np.array(sides[1], np.int32)
    keys, values = (np.zeros((1, d.kv_heads, room, d.tile), np.int32) for _ in range(2))
    ids = np.arange(room) % architecture.vocab
    stream = matrices["embed"].gather(ids)[None]
    out, pads = np.empty_like(stream), np.zeros(1, np.int64)

    def ours(begin: int, end: int) -> None:
        layers.layer(0, stream[:, begin:end].copy(), keys, values, begin, pads, turns, out[:, begin:end].copy())

    tokens = torch.from_numpy(ids)[None]
    cache = {}
    works: dict[str, tuple[Work, Work]] = {
        "portable": (lambda: ours(plan.context, plan.context + 1), lambda: ours(0, plan.prompt))
    }
    with _one_thread(), torch.inference_mode():
        ours(0, plan.context)
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            cast = module.to(dtype) if dtype == torch.float32 else LlamaModel(config).eval().to(dtype)
            cache[name] = cast(tokens[:, : plan.context], use_cache=True).past_key_values
            works[name] = (
                lambda of=cast, name=name: of(tokens[:, :1], past_key_values=cache[name], use_cache=True),  # type: ignore[misc]
                lambda of=cast: of(tokens[:, : plan.prompt]),  # type: ignore[misc]
            )
        decode = in_turns(plan.rounds, {name: pair[0] for name, pair in works.items()})
        prefill = in_turns(2, {name: pair[1] for name, pair in works.items()})
    return {
        "hidden": architecture.hidden,
        "decode_over_fp32": _ratio(decode, "fp32"),
        "decode_over_bf16": _ratio(decode, "bf16"),
        "prefill_over_fp32": _ratio(prefill, "fp32"),
        "cpu_ms": {"decode": _milliseconds(decode), "prefill": _milliseconds(prefill)},
    }


def measure_growth(folder: Path, contexts: Sequence[int], widths: Sequence[int], plan: LanePlan) -> dict[str, Any]:
    """How cost grows: of a token with the context before it, and of one layer with its width.

    Args:
        contexts: tokens before the decoded one. widths: of layers shaped as ``WIDE``, multiples of 128.

    Returns:
        JSON values. context: rows {context, portable, fp32}, CPU ms. width: as ``measure_layer``.
    """
    models = {"portable": load_portable(folder), "fp32": load_model(folder, lane="native-float32")}
    sessions = {name: model.session() for name, model in models.items()}
    fed, rows = 0, []
    with _one_thread():
        for context in sorted(contexts):
            ids = _drawn_ids(models["portable"], plan.seed, context)[fed:]
            for session in sessions.values():
                session.feed(ids)
            works: dict[str, Work] = {name: lambda of=each: of.feed([1]) for name, each in sessions.items()}  # type: ignore[misc]
            rows.append({"context": context, **_milliseconds(in_turns(plan.rounds, works))})
            fed = context + plan.rounds + 1
    layers = []
    for width in widths:
        heads = width // WIDE.head_dim
        wide = replace(WIDE, hidden=width, intermediate=11 * width // 4, heads=heads, kv_heads=heads)
        layers.append(measure_layer(wide, plan))
    return {"context": rows, "width": layers}


def measure_capped(folder: Path, plan: LanePlan, machines: Sequence[str]) -> list[dict[str, Any]]:
    """The lane compiled for other processors, against the floats of the processor at hand: the lane
    without an instruction, the floats with all.

    Args:
        machines: of ``lane_bits.MACHINES``; what they say about compilation counts here.

    Returns:
        rows {machine, form, decode_over_fp32, prefill_over_fp32}.

    Raises:
        ModelError: a process failed; says how.
    """
    rows = []
    for machine in machines:
        compiled_for = {name: value for name, value in MACHINES[machine].items() if name.startswith("NUMBA_")}
        arguments = [str(folder), *(str(number) for number in (plan.rounds, plan.prompt, plan.context, plan.seed))]
        found = _child(arguments, machine, compiled_for)
        kept = {name: found[name] for name in ("form", "decode_over_fp32", "prefill_over_fp32")}
        rows.append({"machine": machine, **kept})
    return rows


def measure_memory(folder: Path) -> dict[str, float]:
    """Memory that loading takes, in a process of its own.

    Returns:
        peak_bytes_per_weight, kept_bytes_per_weight: private memory at most and after loading, beyond
        what the process had before, seen every two milliseconds. Pages of the checkpoint's file are
        not in it: they are the system's, which may drop them.

    Raises:
        ModelError: the process failed; says how.
    """
    return _child([str(folder)], "this machine", {})


def _child(arguments: Sequence[str], machine: str, environment: Mapping[str, str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "otr_paper.benches.lane", *arguments]
    done = subprocess.run(command, env=os.environ | dict(environment), capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip() or "nothing").splitlines()[-1]
        raise ModelError(f"the lane on {machine}: the process ended with {done.returncode} and said {said}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _drawn_ids(model: Model, seed: int, count: int) -> list[int]:
    drawn: list[int] = np.random.default_rng(seed).integers(0, model.architecture.vocab, count).tolist()
    return drawn


_NATIVE = {"fp32": "float32", "bf16": "bfloat16"}


def _products(model: PortableModel) -> Sequence[tuple[np.ndarray, np.ndarray]]:
    """The model's matrices in float32, each with a vector to multiply."""
    names = [name for name in model.matrices if name != "embed"]
    dense = [model.matrices[name].dense().astype(np.float32) for name in names]
    return [(matrix, np.linspace(-1, 1, matrix.shape[1], dtype=np.float32)) for matrix in dense]


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for torch, and for the OpenBLAS that NumPy's wheels bring, whose idle threads would
    be counted as well."""
    libraries = sorted((Path(np.__file__).parents[1] / "numpy.libs").glob("libscipy_openblas64_*.so"))
    calls = [ctypes.CDLL(str(path)) for path in libraries]
    before = [library.scipy_openblas_get_num_threads64_() for library in calls]
    for library in calls:
        library.scipy_openblas_set_num_threads64_(1)
    try:
        with torch_threads(1):
            yield
    finally:
        for library, count in zip(calls, before, strict=True):
            library.scipy_openblas_set_num_threads64_(count)


def _ratio(times: Mapping[str, float], over: str) -> float:
    return round(times["portable"] / times[over], 3)


def _milliseconds(times: Mapping[str, float]) -> dict[str, float]:
    return {name: round(1000 * spent, 4) for name, spent in times.items()}


def _private_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def _loading_memory(folder: Path) -> dict[str, float]:
    chosen_form()  # compiled before what is measured
    before, seen, done = _private_bytes(), [0], Event()

    def watch() -> None:
        while not done.wait(0.002):
            seen.append(_private_bytes())

    watcher = Thread(target=watch)
    watcher.start()
    model = load_portable(folder)
    done.set()
    watcher.join()
    weights = sum(rows * columns for rows, columns in (matrix.shape for matrix in model.matrices.values()))
    kept = _private_bytes()
    sizes = {"peak_bytes_per_weight": max(*seen, kept), "kept_bytes_per_weight": kept}
    return {name: round((size - before) / weights, 2) for name, size in sizes.items()}


def _main() -> None:
    folder = Path(sys.argv[1])
    if len(sys.argv) == 2:
        print(json.dumps(_loading_memory(folder)))
        return
    rounds, prompt, context, seed = (int(each) for each in sys.argv[2:])
    print(json.dumps(measure_lane(folder, LanePlan(rounds, prompt, context, wide=False, seed=seed))))


if __name__ == "__main__":
    _main()
