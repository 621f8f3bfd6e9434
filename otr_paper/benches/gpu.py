"""What a GPU computes in the lane ``h100-bf16``, beside what it computes without it: millions of blocks, the
products of a library, and each matrix of a wide layer.

Every word is compared with the replay on this machine's CPU. Speed is that of the device alone where one can
record a graph of calls (CUDA), since the calls themselves would hide it.
"""

from __future__ import annotations

import functools
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from otr_core.lane.blocks import vanishes
from otr_node.block_check import compare_device
from otr_node.integers.projections import block_loops, replay_projection
from otr_node.tensor_device import BlockDevice

LAYER = {"qkv": (4096, 6144), "out": (4096, 4096), "gate_up": (4096, 28672), "down": (14336, 4096)}
"""Columns and rows of the matrices of a layer of Llama 3 8B, whose weights are not here: random ones are as fast."""
SHARES = tuple(product((0.0, 0.01, 0.05, 1.0), (0.0, 0.1)))
"""Of the words of a hunt: how many may be large, infinite or no numbers, and how many are zeros."""
_SCALE = 0.02  # of random weights
EXAMPLES = 8
"""Blocks of each share that are kept."""
Recorded = Sequence[tuple[np.ndarray, np.ndarray, int, int]]
"""Blocks that an H100 has computed before (``block_check.compare_device``)."""


@dataclass(frozen=True)
class GpuPlan:
    """How much is computed.

    Attributes:
        products: of 2,048 blocks each, of each of three kinds of numbers. hunts: batches of blocks of any words, of
            each of ``SHARES``; hunted: x rows and w rows of one.
        layer: columns and rows of matrices, by name. tokens: rows that meet a matrix at once.
        repeats: of each time. calls: of one time.
    """

    products: int = 4000
    hunts: int = 20
    hunted: tuple[int, int] = (512, 4096)
    layer: tuple[tuple[str, tuple[int, int]], ...] = tuple(LAYER.items())
    tokens: tuple[int, ...] = (1, 16, 64, 256)
    repeats: int = 7
    calls: int = 10


def compare_device_further(device: BlockDevice, plan: GpuPlan, recorded: Recorded) -> dict[str, Any]:
    """``block_check.compare_device`` on many more blocks, and how long it took, in seconds."""
    before = time.perf_counter()
    found = compare_device(device, products=plan.products, recorded=recorded)
    return {"words": {name: asdict(each) for name, each in found.items()}, "wall_s": time.perf_counter() - before}


Product = Callable[[Tensor, Tensor], Tensor]
"""x · wᵀ of bf16 (tokens, columns) and (rows, columns): float32 (tokens, rows)."""


def compare_products(device: BlockDevice, ways: dict[str, Product], plan: GpuPlan, rows: int = 512) -> list[Any]:
    """Products of whole rows computed in several ways, beside the replay.

    Args:
        ways: by name. rows: of each matrix, no more.

    Returns:
        Rows of columns, tokens, way, words, differing, and error: what the way says where it cannot.
    """
    random, found = np.random.default_rng(5), []
    widths = sorted({576, 1536} | {columns for _, (columns, _) in plan.layer})  # those of SmolLM2, and the layer's
    for columns in widths:
        w = _words(random, (rows, columns))
        for tokens in plan.tokens:
            x = _words(random, (tokens, columns))
            expected = replay_projection(x, w, threads=min(8, os.cpu_count() or 1))
            for name, way in ways.items():
                row: dict[str, Any] = {"columns": columns, "rows": rows, "tokens": tokens, "way": name}
                try:
                    made = way(device.words(x), device.words(w)).cpu().numpy().view(np.uint32)
                except RuntimeError as error:  # a product that this build does not have
                    found.append({**row, "words": 0, "differing": 0, "error": str(error).splitlines()[0][:200]})
                    continue
                found.append({**row, "words": made.size, "differing": int((made != expected).sum()), "error": None})
    return found


def hunt_blocks(device: BlockDevice, plan: GpuPlan) -> list[dict[str, Any]]:
    """Single blocks of any words beside the replay: how many results differ, and some of them.

    Returns:
        Rows of share and zeros (``SHARES``), blocks, differing, and examples: the words of the factors, the
        accumulator, what the replay gives and what the device gives.
    """
    found = []
    random = np.random.default_rng(9)
    for share, zeros in SHARES:
        blocks = differing = 0
        examples: list[dict[str, Any]] = []
        for x, w, start, ours in _drawn(random, plan, share, zeros):
            out = torch.from_numpy(start.view(np.float32)).to(device.name)[None].clone()
            device.kernel(device.words(x)[None], device.words(w)[None], out)
            theirs = out[0].cpu().numpy().view(np.uint32)
            places = np.argwhere(ours != theirs)
            blocks, differing = blocks + ours.size, differing + len(places)
            for i, j in places[: max(0, EXAMPLES - len(examples))]:
                words = {"x": x[i].tolist(), "w": w[j].tolist(), "start": int(start[i, j])}
                examples.append({**words, "replay": int(ours[i, j]), "device": int(theirs[i, j])})
        found.append({"share": share, "zeros": zeros, "blocks": blocks, "differing": differing, "examples": examples})
    return found


def hunt_again(plan: GpuPlan) -> Iterator[dict[str, Any]]:
    """The blocks of ``hunt_blocks`` once more, without a GPU: but for the few that start near what vanishes.

    Yields:
        Rows of share, zeros, blocks, vanishing: how many have a sum below zero of which nothing is left
        (``blocks.vanishes``), and first: the words of the first ``EXAMPLES`` of them.
    """
    random = np.random.default_rng(9)
    for share, zeros in SHARES:
        blocks = vanishing = 0
        first: list[dict[str, Any]] = []
        for x, w, start, ours in _drawn(random, plan, share, zeros):
            blocks += ours.size
            for i, j in np.argwhere(ours == 0):
                words: dict[str, Any] = {"x": x[i].tolist(), "w": w[j].tolist(), "start": int(start[i, j])}
                if vanishes(words["x"], words["w"], words["start"]):
                    vanishing += 1
                    first += [words] if len(first) < EXAMPLES else []
        yield {"share": share, "zeros": zeros, "blocks": blocks, "vanishing": vanishing, "first": first}


def check_again(plan: GpuPlan) -> dict[str, int]:
    """How many of the single blocks of ``compare_device_further`` vanish, by kind, without a GPU."""
    counts: list[int] = []

    def counted(x: Tensor, w: Tensor, out: Tensor) -> None:
        left, right = (each[0].view(torch.int16).numpy().view(np.uint16) for each in (x, w))
        made = out[0].numpy().view(np.uint32)
        start = made.copy()
        if left.shape[1] == 16:  # a single block; whole products come after them, and are not counted
            block_loops().project(left, right, made)
            places = np.argwhere(made == 0)
            counts.append(sum(vanishes(left[i].tolist(), right[j].tolist(), int(start[i, j])) for i, j in places))

    found = compare_device(BlockDevice("cpu", counted), products=plan.products)
    kinds = [name for name in found if name.startswith("blocks ")]
    each = plan.products
    return {name: sum(counts[at * each : (at + 1) * each]) for at, name in enumerate(kinds)}


_Drawn = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _drawn(random: np.random.Generator, plan: GpuPlan, share: float, zeros: float) -> Iterator[_Drawn]:
    """Batches of x rows, w rows, accumulators, half of them near what the products take away, and results."""
    tokens, rows = plan.hunted
    for _ in range(plan.hunts):
        x, w = (_mixed(random, (count, 16), share, zeros) for count in (tokens, rows))
        start = np.zeros((tokens, rows), np.uint32)
        _project(x, w, start)
        start = np.where(random.random(start.shape) < 0.5, start ^ np.uint32(0x80000003), np.uint32(0))
        out = start.copy()
        _project(x, w, out)
        yield x, w, start, out


def _mixed(random: np.random.Generator, shape: tuple[int, int], share: float, zeros: float) -> np.ndarray:
    """Words below 2, but for a share that may be anything, infinities and NaNs too; and zeros of both signs."""
    words = random.integers(0, 2**16, shape).astype(np.uint16)
    words &= np.where(random.random(shape) < zeros, np.uint16(0x8000), np.uint16(0xFFFF))
    return np.where(random.random(shape) < share, words, words & np.uint16(0xBFFF))


def _project(x: np.ndarray, w: np.ndarray, out: np.ndarray) -> None:
    """The replay's blocks, some rows on each of this machine's processors."""
    count = min(len(x), os.cpu_count() or 1)
    with ThreadPoolExecutor(count) as pool:
        parts = [slice(at * len(x) // count, (at + 1) * len(x) // count) for at in range(count)]
        list(pool.map(lambda part: block_loops().project(x[part], w, out[part]), parts))


def _words(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    numbers = random.standard_normal(shape).astype(np.float32) * np.float32(_SCALE)
    return (numbers.view(np.uint32) >> 16).astype(np.uint16)


def time_products(device: BlockDevice, ways: dict[str, Product], plan: GpuPlan) -> list[dict[str, Any]]:
    """Seconds of each matrix of a layer, by way: medians of one call among ``calls`` in a row, over copies of the
    matrix that together are larger than a cache; and how many of its words differ from the lane's kernel on the
    device."""
    found = []
    for matrix, (columns, rows) in plan.layer:
        copies = 1 if device.name == "cpu" else max(1, -(-200_000_000 // (2 * columns * rows)))
        ws = [_random_tensor(device, (rows, columns), seed) for seed in range(copies)]
        for tokens in plan.tokens:
            x = _random_tensor(device, (tokens, columns), 99)
            row: dict[str, Any] = {"matrix": matrix, "columns": columns, "rows": rows, "tokens": tokens}
            ours = device.product(x[None], ws[0][None])[0]
            for name, way in ways.items():
                row[f"{name}: differing"] = int((way(x, ws[0]).view(torch.int32) != ours.view(torch.int32)).sum())
                row[name] = _seconds(device, [functools.partial(way, x, w) for w in ws], plan)
            found.append(row)
    return found


def _random_tensor(device: BlockDevice, shape: tuple[int, ...], seed: int) -> Tensor:
    source = torch.Generator(device=device.name).manual_seed(seed)
    made = torch.randn(shape, generator=source, device=device.name, dtype=torch.float32) * _SCALE
    return made.to(torch.bfloat16)


def _seconds(device: BlockDevice, calls: Sequence[Callable[[], Any]], plan: GpuPlan) -> float:
    """Of one call: on a GPU those of the device alone, from a recorded graph."""

    def all_calls() -> None:
        for number in range(plan.calls):
            calls[number % len(calls)]()

    if not device.name.startswith("cuda"):
        times = [_wall(all_calls) for _ in range(plan.repeats)]
        return statistics.median(times) / plan.calls
    for call in calls:
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        all_calls()
    graph.replay()
    times = []
    for _ in range(plan.repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / 1000)
    return statistics.median(times) / plan.calls


def _wall(call: Callable[[], Any]) -> float:
    before = time.perf_counter()
    call()
    return time.perf_counter() - before
