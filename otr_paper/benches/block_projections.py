"""The projections of a real model, replayed as blocks of a tensor core: bits and cost."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from otr_core.lane.blocks import BF16_BLOCK, dot_product
from otr_node.checkpoint import StoredTensors, read_checkpoint
from otr_node.integers.projections import replay_projection


def measure_projections(folder: Path, checked: int = 8, seed: int = 1) -> dict[str, Any]:
    """Put one random state through every matrix of a checkpoint, its head among them, on one thread.

    Args:
        checked: elements of each matrix's product that the definition computes as well.

    Returns:
        JSON values. blocks: of one token. cpu_s: the replay of one token. ns_per_block: of the same.
        checked, differing: elements compared with the definition, and those with another word.
        threads_differing: elements of all that two threads make otherwise.
    """
    random = np.random.default_rng(seed)
    tensors = StoredTensors(folder, read_checkpoint(folder).architecture)
    replay_projection(np.zeros((1, 16), np.uint16), np.zeros((1, 16), np.uint16))  # compiles
    found = dict.fromkeys(("matrices", "blocks", "checked", "differing", "threads_differing"), 0)
    cpu_s = 0.0
    for name in tensors:
        matrix = tensors[name]
        if matrix.ndim != 2:
            continue
        w, x = bf16_words(matrix), bf16_words(torch.from_numpy(random.normal(size=(1, matrix.shape[1]))))
        before = time.process_time()
        out = replay_projection(x, w)
        cpu_s += time.process_time() - before
        found["threads_differing"] += int((out != replay_projection(x, w, threads=2)).sum())
        rows = random.integers(0, len(w), checked)
        defined = [dot_product(x[0].tolist(), w[row].tolist()) for row in rows]
        found["differing"] += sum(a != b for a, b in zip(defined, out[0, rows].tolist(), strict=True))
        found["checked"] += checked
        found["matrices"] += 1
        found["blocks"] += len(w) * -(-w.shape[1] // BF16_BLOCK.terms)
    return {**found, "cpu_s": cpu_s, "ns_per_block": 1e9 * cpu_s / found["blocks"]}


def bf16_words(values: torch.Tensor) -> np.ndarray:
    """Values rounded to bf16, as words: uint16, of the same shape."""
    return values.to(torch.bfloat16).contiguous().view(torch.int16).numpy().view(np.uint16)
