"""Measure what notebook 02 shows of inference. Parts, each stored as data/results/<part>.json:

* ``divergence``: rows {lane, change, kind, max_logit, mean_logit, argmax_agree} over 256
  teacher-forced positions. kind "honest" is the same model run another way, "downgrade" a cheaper
  one; logits against the plain run of the same lane (downgrades: of fp32). Threads, batch and
  padding: prompts of several lengths taken together.
* ``portable_lane``: agreement with fp32 over 2,048 positions, perplexities, CPU time per lane,
  proven bounds (log2).
* ``trace_cost``: what ``otr bench trace`` measures, by lane, with the CPU per token of decoding
  without the trace and what the trace adds, in both processes; peak memory of 512 positions.
* ``attacks``: the attack table on the real model, one row per attack.

CPU times are of this process and one thread, medians. The text is prose from Python's own
documentation (pydoc).
"""

from __future__ import annotations

import hashlib
import math
import pydoc_data.topics
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from otr_core.lane.formats import LOGIT
from otr_node.checkpoint import torch_threads
from otr_node.lanes import load_model
from otr_node.model import Model
from otr_node.native import NativeModel, load_native
from otr_node.portable import PortableModel, PortableSession, load_portable
from otr_node.recorder import TraceRecorder
from otr_node.rounding import INT64
from otr_node.tokenizer import ChatTokenizer
from otr_node.worker import peak_kb
from otr_paper.benches.answers import ATTACK_SETTINGS, attack_rows
from otr_paper.benches.tracing import measure_trace
from otr_paper.labs.variants import requantised
from otr_paper.press.notebook import quiet
from otr_paper.producers import frame

PROGRAM = "otr_paper.producers.inference"
TRACE_SEED = bytes(range(32))
LENGTH, LENGTHS = 256, (1, 2, 5, 8, 33, 64, 128, 256)
PIECE, PIECES = 1024, 20_000  # bytes, and how many are hashed
Numbers = NDArray[Any]


def _passage(tokenizer: ChatTokenizer, positions: int) -> list[int]:
    """Token ids of prose: long topics of Python's documentation, one after the other."""
    text = " ".join(" ".join(pydoc_data.topics.topics[name].split()) for name in ("objects", "import", "execmodel"))
    return list(tokenizer.encode(text)[:positions])


def _logits(model: NativeModel, ids: list[int], *, rows: int = 1, pad: int = 0) -> Numbers:
    """Logits (positions, vocab) of ``ids``, as one of ``rows`` equal rows, after ``pad`` tokens of
    left padding."""
    mask = torch.tensor([[0] * pad + [1] * len(ids)] * rows)
    batch = torch.tensor([[0] * pad + ids] * rows)
    with torch_threads(model.threads), torch.inference_mode():
        result = model.module(batch, attention_mask=mask, position_ids=(mask.cumsum(-1) - 1).clamp(min=0)).logits
    return np.asarray(result[0, pad:].float())


def _stepwise(model: Model, ids: list[int]) -> Numbers:
    session = model.session()
    return np.stack([session.feed([token]) for token in ids])


def _portable_logits(model: PortableModel, ids: list[int], padding: Sequence[int] = (0,)) -> Numbers:
    """The same of the portable lane: of the last of several equal rows with ``padding`` tokens of
    left padding each."""
    rows = [[0] * pad + ids + [0] * (max(padding) - pad) for pad in padding]
    out = PortableSession(model, tuple(padding)).feed_batch(rows, all_logits=True)
    return np.asarray(out[-1, padding[-1] : padding[-1] + len(ids)]) / 2.0**LOGIT


def _plain_logits(model: Model, ids: list[int]) -> Numbers:
    if isinstance(model, PortableModel):
        return _portable_logits(model, ids)
    assert isinstance(model, NativeModel)
    return _logits(model, ids)


def _row(lane: str, change: str, plain: Numbers, other: Numbers, kind: str = "honest") -> dict[str, Any]:
    gap = np.abs(plain.astype(np.float64) - other)
    return {
        "lane": lane,
        "change": change,
        "kind": kind,
        "max_logit": float(gap.max()),
        "mean_logit": float(gap.mean()),
        "argmax_agree": float((plain.argmax(-1) == other.argmax(-1)).mean()),
    }


def _store_avx2_logits(lane: str, target: str) -> None:
    """In a process restricted to AVX2 kernels: the plain run's logits into a file."""
    assert torch.backends.cpu.get_cpu_capability() == "AVX2"
    model = load_model(frame.model_files(), lane=lane)
    np.save(target, _plain_logits(model, _passage(model.tokenizer, LENGTH)))


def _avx2_logits(lane: str) -> Numbers:
    with tempfile.TemporaryDirectory() as folder:
        target = str(Path(folder) / "logits.npy")
        frame.run_child(PROGRAM, "avx2", lane, target, **frame.AVX2)
        return np.asarray(np.load(target))


def _divergence() -> dict[str, Any]:
    folder = frame.model_files()
    rows: list[dict[str, Any]] = []
    plain = {}
    for lane in ("native-float32", "native-bfloat16"):
        model = load_native(folder, lane=lane)
        ids = _passage(model.tokenizer, LENGTH)
        plain[lane] = _logits(model, ids)
        changes: dict[str, tuple[NativeModel, dict[str, int]]] = {
            "run again": (model, {}),
            "2 threads": (replace(model, threads=2), {}),
            "batch of 4": (model, {"rows": 4}),
            "left padding": (model, {"pad": 7}),
        }
        # Kernels differ by shape: several lengths, against the plain run of the same length, all
        # positions together.
        short = np.concatenate([_logits(model, ids[:n]) for n in LENGTHS])
        for change, (how, options) in changes.items():
            found = np.concatenate([_logits(how, ids[:n], **options) for n in LENGTHS])
            rows.append(_row(lane, change, short, found))
        rows.append(_row(lane, "token by token", plain[lane], _stepwise(model, ids)))
        rows.append(_row(lane, "AVX2 kernels", plain[lane], _avx2_logits(lane)))
    del model
    exact = load_portable(folder)
    base = _portable_logits(exact, ids)
    same = {
        "2 threads": _portable_logits(replace(exact, threads=2), ids),
        "batch of 4": _portable_logits(exact, ids, (0, 0, 0, 0)),
        "left padding": _portable_logits(exact, ids, (0, 7)),
        "token by token": _stepwise(exact, ids) / 2.0**LOGIT,
        "AVX2 kernels": _avx2_logits("portable-1"),
    }
    rows += [_row("portable-1", change, base, found) for change, found in same.items()]
    del exact
    cheaper: dict[str, Any] = {
        "bf16 for fp32": {"lane": "native-bfloat16"},
        "int8 weights": {"alter": lambda tensors: requantised(tensors, 8)},
        "int4 weights": {"alter": lambda tensors: requantised(tensors, 4)},
        "1 layer dropped": {"drop_layers": [14]},
        "6 layers dropped": {"drop_layers": range(12, 18)},
    }
    fp32 = plain["native-float32"]
    for change, how_else in cheaper.items():
        found = _logits(load_native(folder, **how_else), ids)
        rows.append(_row("native-float32", change, fp32, found, "downgrade"))
    return {"positions": LENGTH, "lengths": list(LENGTHS), "logit_std": float(fp32.std()), "rows": rows}


def _decode_ms(model: Model, ids: list[int], steps: int = 48) -> float:
    session = model.session()
    session.feed(ids)
    return statistics.median(frame.median_cpu_ms(1, session.feed, [1000 + token]) for token in range(steps))


def _cost(lane: str, model: Model, ids: list[int]) -> dict[str, Any]:
    prefill_ms = frame.median_cpu_ms(3, lambda: model.session().feed(ids), warm_up=1)
    decode_ms = statistics.median(_decode_ms(model, ids) for _ in range(2))
    return {"lane": lane, "prefill_cpu_ms_per_token": prefill_ms / LENGTH, "decode_cpu_ms": decode_ms}


def _portable_lane() -> dict[str, Any]:
    folder = frame.model_files()
    native, exact = load_native(folder), load_portable(folder)
    ids = _passage(native.tokenizer, 8 * LENGTH)
    agree, gaps, worst, losses, count = 0, 0.0, 0.0, np.zeros(2), 0
    for begin in range(0, len(ids), LENGTH):
        part = ids[begin : begin + LENGTH]
        ours, theirs = _portable_logits(exact, part), _logits(native, part).astype(np.float64)
        agree += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
        gaps, worst = gaps + float(np.abs(ours - theirs).mean()), max(worst, float(np.abs(ours - theirs).max()))
        for i, x in enumerate((ours, theirs)):
            after = torch.tensor(part[1:])
            losses[i] += float(torch.nn.functional.cross_entropy(torch.tensor(x[:-1]), after, reduction="sum"))
        count += len(part) - 1
    ours_loss, fp32_loss = (float(x) / count for x in losses)
    bf16 = load_model(folder, lane="native-bfloat16")
    models: dict[str, Model] = {"native-float32": native, "native-bfloat16": bf16, "portable-1": exact}
    fp32, *_, ours_cost = cost = [_cost(lane, model, ids[:LENGTH]) for lane, model in models.items()]
    return {
        "positions": len(ids),
        "text_sha256": hashlib.sha256(np.array(ids, "<i4").tobytes()).hexdigest(),
        "argmax_agree": agree / len(ids),
        "mean_logit": gaps / (len(ids) / LENGTH),
        "max_logit": worst,
        "loss_fp32": fp32_loss,
        "loss_portable": ours_loss,
        "perplexity_change": math.expm1(ours_loss - fp32_loss),
        "cost": cost,
        "prefill_ratio": ours_cost["prefill_cpu_ms_per_token"] / fp32["prefill_cpu_ms_per_token"],
        "decode_ratio": ours_cost["decode_cpu_ms"] / fp32["decode_cpu_ms"],
        "bounds_log2": {name: math.log2(bound) for name, bound in exact.bounds.accumulators.items()},
        "limit_log2": math.log2(INT64),
        "model_id": exact.manifest.model_id.hex(),
    }


def _print_peak(traced: str) -> None:
    """512 positions (a prompt of 256 and as many steps), with or without the trace; prints the peak
    resident bytes."""
    model = load_model(frame.model_files())
    ids, session = _passage(model.tokenizer, 512), model.session()
    recorder = TraceRecorder(TRACE_SEED) if traced == "traced" else None
    # loading needs more than running: forget its peak (Linux)
    Path("/proc/self/clear_refs").write_text("5")
    session.feed(ids[:256], recorder)
    for token in ids[256:]:
        session.feed([token], recorder)
    if recorder is not None:
        recorder.finish()
    print(1024 * peak_kb())


def _trace_cost() -> dict[str, Any]:
    rows = []
    for lane in ("native-float32", "portable-1"):
        row = measure_trace(load_model(frame.model_files(), lane=lane))
        without, extra = 1000 * row["decode_cpu_s"], 1000 * row["trace_decode_cpu_s"]
        rows.append(row | {"decode_cpu_ms": without, "trace_cpu_ms": extra, "trace_share": extra / without})
    peaks = [[int(frame.run_child(PROGRAM, "peak", how).split()[-1]) for how in ("plain", "traced")] for _ in range(3)]
    piece = b"x" * PIECE
    hashing_ms = frame.median_cpu_ms(5, lambda: [hashlib.sha256(piece).digest() for _ in range(PIECES)], warm_up=1)
    return {
        "rows": rows,
        "trace_512_extra_peak_bytes": statistics.median(traced - plain for plain, traced in peaks),
        "sha256_1kib_bytes_per_cpu_s": 1000 * PIECES * PIECE / hashing_ms,
    }


def _attacks() -> dict[str, Any]:
    rows = attack_rows(frame.checkout(), fresh=True, report=frame.progress)
    return {"lane": ATTACK_SETTINGS["lane"], "rows": rows}


PARTS = {"divergence": _divergence, "portable_lane": _portable_lane, "trace_cost": _trace_cost, "attacks": _attacks}


def main() -> None:
    quiet()
    if sys.argv[1:2] == ["avx2"]:
        _store_avx2_logits(*sys.argv[2:])
    elif sys.argv[1:2] == ["peak"]:
        _print_peak(*sys.argv[2:])
    else:
        frame.store_parts(__doc__, PARTS, seed=None, packages=frame.MODEL_LIBRARIES)


if __name__ == "__main__":
    main()
