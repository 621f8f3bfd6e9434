"""The tiny random Llama checkpoint of these tests."""

from __future__ import annotations

import numpy as np

from otr_core.inference.architecture import Architecture

TINY = Architecture(
    hidden=32,
    intermediate=48,
    layers=3,
    heads=4,
    kv_heads=2,
    head_dim=8,
    vocab=64,
    context=48,
    rms_eps=1e-5,
    rope_theta=10000.0,
    tied=True,
    stop_ids=(2,),
)


def tiny_tensors(architecture: Architecture, seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    result = {}
    for name, shape in architecture.tensors().items():
        value = rng.normal(0, 0.4, shape) if len(shape) == 2 else rng.uniform(0.5, 1.5, shape)
        result[name] = value.astype(np.float32)
    return result
