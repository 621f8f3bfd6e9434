"""Measure what notebook 02 shows of inference: ``python -m otr_paper.producers.inference [part …]``.

Parts, each written to data/results/<part>.json with its card:

* ``divergence``: rows {lane, change, kind, max_logit, mean_logit, argmax_agree} over 256 teacher-forced positions. kind
  "honest" is the same model run another way, "downgrade" a cheaper one; logits against the plain run of the same lane
  (downgrades: of fp32). Threads, batch and padding: prompts of several lengths taken together.
* ``portable_lane``: agreement with fp32 over 2,048 positions, perplexities, CPU time per lane, proven bounds (log2).
* ``trace_cost``: CPU per token of decoding with and without the trace, by lane; bytes; peak memory of 512 positions.
* ``attacks``: the attack table on the real model, one row per attack.

CPU times are of this process and one thread, medians. The text is prose from Python's own documentation (pydoc).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import math
import os
import pydoc_data.topics
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from otr_core.lane.formats import LOGIT
from otr_core.lane.sampling import Decoding
from otr_core.poea.trace import TraceRecorder
from otr_node.checkpoint import torch_threads
from otr_node.generate import generate
from otr_node.lanes import load_model
from otr_node.models import model_folder
from otr_node.native import NativeModel, load_native
from otr_node.portable import PortableModel, PortableSession, load_portable
from otr_node.project import find_project
from otr_paper.benches.answers import ATTACK_SETTINGS
from otr_paper.labs.receipts import run_receipt_attacks
from otr_paper.labs.variants import requantised
from otr_paper.press.notebook import quiet
from otr_paper.store import results

AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
SEED = bytes(range(32))
LENGTH, LENGTHS = 256, (1, 2, 5, 8, 33, 64, 128, 256)


def passage(tokenizer: Any, positions: int) -> list[int]:
    """Token ids of prose: long topics of Python's documentation, one after the other."""
    text = " ".join(" ".join(pydoc_data.topics.topics[name].split()) for name in ("objects", "import", "execmodel"))
    return tokenizer(text)["input_ids"][:positions]


def logits(model: NativeModel, ids: list[int], *, rows: int = 1, pad: int = 0) -> np.ndarray:
    """Logits (positions, vocab) of ``ids``, as one of ``rows`` equal rows, after ``pad`` tokens of left padding."""
    mask = torch.tensor([[0] * pad + [1] * len(ids)] * rows)
    batch = torch.tensor([[0] * pad + ids] * rows)
    with torch_threads(model.threads), torch.inference_mode():
        result = model.module(batch, attention_mask=mask, position_ids=(mask.cumsum(-1) - 1).clamp(min=0)).logits
    return result[0, pad:].float().numpy()


def stepwise(model: NativeModel | PortableModel, ids: list[int]) -> np.ndarray:
    session = model.session()
    return np.stack([session.feed(ids[:1]), *(session.feed([token]) for token in ids[1:])])


def portable_logits(model: PortableModel, ids: list[int], padding: tuple[int, ...] = (0,)) -> np.ndarray:
    rows = [[0] * pad + ids + [0] * (max(padding) - pad) for pad in padding]
    out = PortableSession(model, padding).feed_batch(rows, all_logits=True)
    return out[-1, padding[-1] : padding[-1] + len(ids)].numpy() / 2.0**LOGIT


def compared(plain: np.ndarray, other: np.ndarray) -> dict[str, float]:
    gap = np.abs(plain.astype(np.float64) - other)
    agree = float((plain.argmax(-1) == other.argmax(-1)).mean())
    return {"max_logit": float(gap.max()), "mean_logit": float(gap.mean()), "argmax_agree": agree}


def child(folder: Path, lane: str, where: str) -> None:
    """In a process restricted to AVX2 kernels: the plain run's logits into a file."""
    assert torch.backends.cpu.get_cpu_capability() == "AVX2"
    model = load_model(folder, lane=lane)
    ids = passage(model.tokenizer, LENGTH)
    np.save(where, portable_logits(model, ids) if isinstance(model, PortableModel) else logits(model, ids))


def avx2_logits(lane: str) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        where = str(Path(folder) / "logits.npy")
        subprocess.run([sys.executable, __file__, "child", lane, where], env=os.environ | AVX2, check=True)
        return np.load(where)


def divergence(folder: Path) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    plain = {}
    for lane in ("native-float32", "native-bfloat16"):
        model = load_native(folder, lane=lane)
        ids = passage(model.tokenizer, LENGTH)
        plain[lane] = logits(model, ids)
        changes: dict[str, tuple[Any, dict[str, int]]] = {
            "run again": (model, {}),
            "2 threads": (replace(model, threads=2), {}),
            "batch of 4": (model, {"rows": 4}),
            "left padding": (model, {"pad": 7}),
        }
        # Kernels differ by shape: several lengths, against the plain run of the same length, all positions together.
        short = np.concatenate([logits(model, ids[:n]) for n in LENGTHS])
        for change, (how, options) in changes.items():
            found = np.concatenate([logits(how, ids[:n], **options) for n in LENGTHS])
            rows.append({"lane": lane, "change": change, "kind": "honest", **compared(short, found)})
        honest = {"token by token": stepwise(model, ids), "AVX2 kernels": avx2_logits(lane)}
        rows += [{"lane": lane, "change": c, "kind": "honest", **compared(plain[lane], x)} for c, x in honest.items()]
    del model
    exact = load_portable(folder)
    base = portable_logits(exact, ids)
    same = {
        "2 threads": portable_logits(replace(exact, threads=2), ids),
        "batch of 4": portable_logits(exact, ids, (0, 0, 0, 0)),
        "left padding": portable_logits(exact, ids, (0, 7)),
        "token by token": stepwise(exact, ids) / 2.0**LOGIT,
        "AVX2 kernels": avx2_logits("portable-1"),
    }
    rows += [{"lane": "portable-1", "change": c, "kind": "honest", **compared(base, x)} for c, x in same.items()]
    del exact
    cheaper: dict[str, Any] = {
        "bf16 for fp32": {"lane": "native-bfloat16"},
        "int8 weights": {"alter": lambda tensors: requantised(tensors, 8)},
        "int4 weights": {"alter": lambda tensors: requantised(tensors, 4)},
        "1 layer dropped": {"drop_layers": [14]},
        "6 layers dropped": {"drop_layers": range(12, 18)},
    }
    for change, how in cheaper.items():
        found = logits(load_native(folder, **how), ids)
        rows.append(
            {"lane": "native-float32", "change": change, "kind": "downgrade"} | compared(plain["native-float32"], found)
        )
    return {
        "positions": LENGTH,
        "lengths": list(LENGTHS),
        "logit_std": float(plain["native-float32"].std()),
        "rows": rows,
    }


def cpu_s(call: Any, runs: int) -> float:
    times = []
    for _ in range(runs + 1):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return statistics.median(times[1:])


def step_ms(session: Any, token: int, recorder: TraceRecorder | None) -> float:
    start = time.process_time()
    session.feed([token], recorder)
    return 1000 * (time.process_time() - start)


def decode_ms(model: Any, ids: list[int], steps: int = 48) -> float:
    session = model.session()
    session.feed(ids)
    return statistics.median(step_ms(session, 1000 + token, None) for token in range(steps))


def portable_lane(folder: Path) -> dict[str, Any]:
    native, exact = load_native(folder), load_portable(folder)
    ids = passage(native.tokenizer, 8 * LENGTH)
    agree, gaps, worst, losses, count = 0, 0.0, 0.0, np.zeros(2), 0
    for begin in range(0, len(ids), LENGTH):
        part = ids[begin : begin + LENGTH]
        ours, theirs = portable_logits(exact, part), logits(native, part).astype(np.float64)
        agree += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
        gaps, worst = gaps + float(np.abs(ours - theirs).mean()), max(worst, float(np.abs(ours - theirs).max()))
        for i, x in enumerate((ours, theirs)):
            after = torch.tensor(part[1:])
            losses[i] += float(torch.nn.functional.cross_entropy(torch.tensor(x[:-1]), after, reduction="sum"))
        count += len(part) - 1
    ours_loss, fp32_loss = (float(x) / count for x in losses)
    cost = []
    for lane in ("native-float32", "native-bfloat16", "portable-1"):
        model = {"native-float32": native, "portable-1": exact}.get(lane) or load_model(folder, lane=lane)
        part = ids[:LENGTH]
        prefill = cpu_s(lambda model=model, part=part: model.session().feed(part), 3)
        decode = statistics.median(decode_ms(model, part) for _ in range(2))
        cost.append({"lane": lane, "prefill_cpu_ms_per_token": 1000 * prefill / LENGTH, "decode_cpu_ms": decode})
    fp32, ours_cost = cost[0], cost[2]
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
        "limit_log2": 52,
        "model_id": exact.manifest.model_id.hex(),
    }


def memory_child(folder: Path, traced: str) -> None:
    """512 positions (a prompt of 256 and as many steps), with or without the trace; prints the peak resident bytes."""
    model = load_model(folder)
    ids, session = passage(model.tokenizer, 512), model.session()
    recorder = TraceRecorder(SEED) if traced == "traced" else None
    Path("/proc/self/clear_refs").write_text("5")  # loading needs more than running: forget its peak (Linux)
    session.feed(ids[:256], recorder)
    for token in ids[256:]:
        session.feed([token], recorder)
    if recorder is not None:
        recorder.finish()
    status = Path("/proc/self/status").read_text()
    print(1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]))  # type: ignore[index]


def peak_bytes(traced: str) -> int:
    command = [sys.executable, __file__, "memory", traced]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def attacks(folder: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as work:
        rows = run_receipt_attacks(folder, Path(work), **ATTACK_SETTINGS)
    return {"lane": ATTACK_SETTINGS["lane"], "rows": [asdict(row) for row in rows]}


def trace_cost(folder: Path) -> dict[str, Any]:
    rows = []
    for lane in ("native-float32", "portable-1"):
        model = load_model(folder, lane=lane)
        ids = passage(model.tokenizer, 40)
        pairs = []
        for _ in range(6):
            plain, traced, recorder = model.session(), model.session(), TraceRecorder(SEED)
            plain.feed(ids), traced.feed(ids, recorder)
            for token in range(1000, 1024):  # in turns, so that the machine's drift hits both alike
                pairs.append((step_ms(plain, token, None), step_ms(traced, token, recorder)))
        without = statistics.median(a for a, _ in pairs)
        extra = statistics.median(b - a for a, b in pairs)
        shape = generate(model, "Hello", Decoding(2), trace_seed=SEED).trace.shape  # type: ignore[union-attr]
        bytes_per_token = shape.layers * (shape.output_bytes + 2 * shape.kv_bytes)
        rows.append(
            {
                "lane": lane,
                "decode_cpu_ms": without,
                "trace_cpu_ms": extra,
                "trace_share": extra / without,
                "bytes_per_token": bytes_per_token,
            }
        )
    peaks = [[peak_bytes(traced) for traced in ("plain", "traced")] for _ in range(3)]
    piece = b"x" * 1024
    hashing = cpu_s(lambda: [hashlib.sha256(piece).digest() for _ in range(20_000)], 5)
    return {
        "rows": rows,
        "trace_512_extra_peak_bytes": statistics.median(traced - plain for plain, traced in peaks),
        "sha256_1kib_bytes_per_cpu_s": 20_000 * 1024 / hashing,
    }


PARTS = {"divergence": divergence, "portable_lane": portable_lane, "trace_cost": trace_cost, "attacks": attacks}


def main() -> None:
    quiet()
    project = find_project()
    folder = model_folder(project, report=print)
    if sys.argv[1:2] == ["child"]:
        return child(folder, *sys.argv[2:4])
    if sys.argv[1:2] == ["memory"]:
        return memory_child(folder, sys.argv[2])
    for part in sys.argv[1:] or PARTS:
        card = results.Card(
            command=f"python -m otr_paper.producers.inference {part}",
            date=dt.datetime.now(dt.UTC).date().isoformat(),
            machine=results.this_machine(os.cpu_count() or 1),
            versions=results.versions(("numpy", "torch", "transformers")),
            seed=None,
            kind="measured",
        )
        payload = PARTS[part](folder)
        results.write_result(project.results, part, card, payload)
        print(part, {key: value for key, value in payload.items() if key != "rows"})
        for row in payload.get("rows", ()):
            print("  ", row)


if __name__ == "__main__":
    main()
