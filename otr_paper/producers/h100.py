"""What was measured on a lent H100: data/results/NAME.json for each part of ``python -m otr_paper.producers.h100``.

* ``h100_blocks``: millions of blocks, and products of whole rows in several ways, beside the replay; seconds of
  each matrix of a layer as wide as an 8B model's.
* ``h100_answers``: answers of SmolLM2 in the lane h100-bf16, and their digests.
* ``h100_tolerance``: honest native runs on the GPU under the envelopes of ``tolerance``, which CPUs gave.

And without a GPU, from these:

* ``h100_hunted``: the single blocks of ``h100_blocks`` drawn again, and why some differed from the replay of that day.
* ``h100_replayed``: the answers of ``h100_answers`` computed again on this machine.

What ``otr record`` printed there is data/results/h100_record.json, written down by hand: its own files were lost.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

import torch

from otr_core.lane.sampling import Decoding
from otr_core.lane.tensor_steps import LANE
from otr_node.block_check import unchecked_block_device
from otr_node.generate import generate, prompt_tokens
from otr_node.hardware import LocalHardware
from otr_node.lanes import load_model
from otr_node.model import Model
from otr_node.native import load_native
from otr_node.tensor_device import BlockDevice
from otr_paper.benches import gpu
from otr_paper.benches.block_record import recorded_blocks
from otr_paper.labs.tolerance.native_operators import Referee, Schedule, record
from otr_paper.producers import frame, tolerance
from otr_paper.store.results import read_result

DEVICE = "cuda"
PROMPTS = (*tolerance.CALIBRATION, *tolerance.HELD_OUT)
ANSWERED, TOKENS = 6, 24
JUDGED = (("native-bfloat16", 0), ("native-float32", 0), ("native-bfloat16", 6), ("native-float32", 6),
          ("native-bfloat16", 7))  # fmt: skip
"""Lanes, and prompts by number: one from those that the envelopes were made of, two held back."""
JUDGED_TOKENS = 32
GROUPED = (64, 128, 64)
"""A tile of so many tokens that Triton takes the instruction of a whole warp group, ``wgmma``."""


def _grouped(x: torch.Tensor, w: torch.Tensor, tile: tuple[int, int, int] = GROUPED, warps: int = 4) -> torch.Tensor:
    """The lane's kernel with other tiles, whatever it is compiled to."""
    from otr_node.integers.block_triton import OPTIONS, blocks_kernel, instructions

    out = torch.zeros((len(x), len(w)), dtype=torch.float32, device=x.device)
    grid = (-(-len(w) // tile[1]), -(-len(x) // tile[0]), 1)
    strides = 0, x.stride(0), 0, w.stride(0)
    made = blocks_kernel[grid](x, w, out, len(x), len(w), x.shape[1], *strides, *tile, **OPTIONS | {"num_warps": warps})
    _CODE.update(instructions(made.asm["ptx"]))
    return out


_CODE: dict[str, int] = {}


def _library(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return torch.mm(x, w.t(), out_dtype=torch.float32)


def _ways(device: BlockDevice) -> dict[str, gpu.Product]:
    return {
        "blocks": lambda x, w: device.product(x[None], w[None])[0],
        "blocks, warp groups": _grouped,
        "blocks, two warp groups": partial(_grouped, tile=(128, 128, 64), warps=8),
        "blocks, wide tiles": partial(_grouped, tile=(128, 256, 64), warps=8),
        "blocks, deep tiles": partial(_grouped, tile=(16, 32, 256)),
        "library": _library,
    }


def _facts() -> dict[str, Any]:
    """The GPU in words, and the libraries that compute."""
    import triton

    found = torch.cuda.get_device_properties(0)
    return {
        "gpu": found.name, "memory": found.total_memory, "processors": found.multi_processor_count,
        "cuda": torch.version.cuda, "triton": triton.__version__, "driver": LocalHardware(DEVICE).facts(),
    }  # fmt: skip


def _blocks() -> dict[str, Any]:
    device, plan = unchecked_block_device(DEVICE), gpu.GpuPlan()
    ways = _ways(device)
    frame.progress("blocks beside the replay")
    words = gpu.compare_device_further(device, plan, recorded_blocks(frame.checkout()))
    hunt = gpu.hunt_blocks(device, plan)
    frame.progress("products")
    products = gpu.compare_products(device, ways, plan)
    frame.progress("times")
    return {
        "facts": _facts(), "blocks": words, "hunt": hunt, "products": products,
        "times": gpu.time_products(device, ways, plan),
        "instructions": dict(_CODE),
    }  # fmt: skip


def _answer(model: Model, prompt: str) -> dict[str, Any]:
    """An answer's tokens, and the digest of all its states."""
    ids = prompt_tokens(model, prompt, TOKENS)
    answer = generate(model, ids, Decoding(TOKENS), trace_seed=bytes(32), digest=True)
    assert answer.execution_digest is not None
    return {"prompt": prompt, "tokens": list(answer.token_ids), "digest": answer.execution_digest.hex()}


def _answers() -> dict[str, Any]:
    model = load_model(frame.model_files(), lane=LANE, device=DEVICE)
    return {"facts": _facts(), "answers": [_answer(model, prompt) for prompt in PROMPTS[:ANSWERED]]}


def _honest(case: tuple[str, int]) -> dict[str, Any]:
    """One prompt in a native lane on the GPU: its answer, and the ratios of its ways of running by operator."""
    torch.set_num_threads(1)
    lane, number = case
    model = load_native(frame.model_files(), lane=lane, device=DEVICE)
    referee = Referee.of(model)
    ids = prompt_tokens(model, PROMPTS[number], JUDGED_TOKENS)
    answer = generate(model, ids, Decoding(JUDGED_TOKENS))
    fed, prompt = [*answer.prompt_ids, *answer.token_ids[:-1]], len(answer.prompt_ids)
    limits = read_result(frame.checkout().results, "tolerance")[1]["lanes"][lane]["operators"]
    ways: dict[str, Any] = {}
    for way in (
        Schedule("the lane's own", first_piece=prompt),
        Schedule("whole at once"),
        Schedule("batch of 4", rows=4),
        Schedule("left padding", pad=7),
    ):
        checked = tolerance.ratios_of_run(referee, record(model, fed, way))
        ways[way.name] = {
            name: {
                "checks": len(ratios),
                "largest": float(ratios.max()),
                "violations": {rule: int((ratios > limits[name]["envelopes"][rule]).sum()) for rule in tolerance.RULES},
            }
            for name, ratios in checked.items()
        }
    return {"lane": lane, "prompt": number, "tokens": answer.token_ids, "ways": ways}


def _tolerance() -> dict[str, Any]:
    with ProcessPoolExecutor(len(JUDGED), get_context("spawn")) as pool:
        return {"facts": _facts(), "runs": list(pool.map(_honest, JUDGED))}


def _hunted() -> dict[str, Any]:
    """Whether what differed on the GPU is what ``blocks.vanishes``, block for block of those that are stored."""
    hunt = read_result(frame.checkout().results, "h100_blocks")[1]["hunt"]
    rows = []
    for row, there in zip(gpu.hunt_again(gpu.GpuPlan()), hunt, strict=True):
        first = row.pop("first")
        same = [{name: each[name] for name in ("x", "w", "start")} for each in there["examples"]]
        rows.append({**row, "differing": there["differing"], "same_blocks": first[: len(same)] == same})
        frame.progress(f"{row['blocks']} blocks")
    return {"rows": rows, "checked": gpu.check_again(gpu.GpuPlan())}


def _again(case: dict[str, Any]) -> dict[str, Any]:
    model = load_model(frame.model_files(), lane=LANE)
    found = _answer(model, case["prompt"])
    positions = len(prompt_tokens(model, case["prompt"], TOKENS)) + len(found["tokens"]) - 1
    same = {f"same_{name}": found[name] == case[name] for name in ("tokens", "digest")}
    return {"prompt": case["prompt"], "positions": positions, **same}


def _replayed() -> dict[str, Any]:
    answered = read_result(frame.checkout().results, "h100_answers")[1]
    with ProcessPoolExecutor(os.cpu_count() or 1, get_context("spawn")) as pool:
        return {"answered_on": answered["facts"]["gpu"], "answers": list(pool.map(_again, answered["answers"]))}


PARTS = {
    "h100_blocks": _blocks,
    "h100_answers": _answers,
    "h100_tolerance": _tolerance,
    "h100_hunted": _hunted,
    "h100_replayed": _replayed,
}


def main() -> None:
    frame.store_parts(__doc__, PARTS, seed=5, packages=("numpy", "numba", "torch", "transformers"))


if __name__ == "__main__":
    main()
