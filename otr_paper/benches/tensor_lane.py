"""The lane h100-bf16 on a real model, replayed on this CPU: its bits, its cost, and how near fp32 it is."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from otr_core.lane.tensor_steps import LANE
from otr_node.accuracy import TEXT
from otr_node.checkpoint import torch_threads
from otr_node.native import load_native
from otr_node.tensor_lane import TensorModel, load_tensor_lane
from otr_paper.producers.frame import timed

PREFILL, DECODED = 64, 16
"""Tokens that are fed at once, and then one by one, where cost is measured."""


def measure_tensor_lane(folder: Path, positions: int = 256) -> dict[str, Any]:
    """Compare the lane with the native ones on the built-in text, and time it on one thread.

    Args:
        positions: most tokens of the text; its context at most.

    Returns:
        JSON values. positions: compared. perplexity: by lane, of the text. agree: by lane, positions at
        which the most likely token is that of fp32. prefill_cpu_s, decode_cpu_s: CPU seconds a token.
        fingerprints: by way of computing the same logits, how many there are (of one, all agree).
        logits_sha256: of the text's logits.
    """
    model = load_tensor_lane(folder)
    ids = list(model.tokenizer.encode(TEXT))[: min(positions, model.architecture.context)]
    logits, prefill = timed(lambda: model.session().feed_all(ids))
    found = {LANE: logits}
    for lane in ("native-float32", "native-bfloat16"):
        native = load_native(folder, lane=lane)
        with torch_threads(1), torch.inference_mode():
            found[lane] = native.module(input_ids=torch.tensor([ids])).logits[0].float().numpy()
    best = found["native-float32"].argmax(axis=1)
    session, fed = model.session(), min(PREFILL, len(ids) // 2)
    session.feed(ids[:fed])
    _, decode = timed(lambda: [session.feed([token]) for token in ids[fed : fed + DECODED]])
    return {
        "positions": len(ids),
        "perplexity": {lane: perplexity(each, ids) for lane, each in found.items()},
        "agree": {lane: int((each.argmax(axis=1) == best).sum()) for lane, each in found.items()},
        "prefill_cpu_s": prefill / len(ids),
        "decode_cpu_s": decode / len(ids[fed : fed + DECODED]),
        "fingerprints": len(set(_ways(model, ids[:24]))),
        "logits_sha256": _digest(logits),
    }


def perplexity(logits: np.ndarray, ids: list[int]) -> float:
    """e to the mean surprise at each token after the first, in float64."""
    wide = logits[:-1].astype(np.float64)
    most = wide.max(axis=1, keepdims=True)
    totals = np.log(np.exp(wide - most).sum(axis=1)) + most[:, 0]
    return float(np.exp((totals - wide[np.arange(len(wide)), ids[1:]]).mean()))


def _ways(model: TensorModel, ids: list[int]) -> list[str]:
    """Digests of the last logits: in one piece, in two, token by token, and on two threads."""
    found = []
    for way, pieces in (
        (model, [ids]),
        (model, [ids[:7], ids[7:]]),
        (model, [[token] for token in ids]),
        (replace(model, threads=2), [ids]),
    ):
        session = way.session()
        found.append(_digest([session.feed(piece) for piece in pieces][-1]))
    return found


def _digest(logits: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(logits, "<f4").tobytes()).hexdigest()
