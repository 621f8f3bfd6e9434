"""Loading a checkpoint into the lane that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from otr_core.errors import InputError, ModelError, ParameterError, reported_as
from otr_core.lane.tensor_steps import LANE
from otr_core.poea import manifest
from otr_node.checkpoint import Tensors
from otr_node.model import Model
from otr_node.native import DTYPES, load_native
from otr_node.portable import load_portable
from otr_node.tensor_lane import load_tensor_lane

MOST_THREADS = 1024
"""Of a computation; more than any machine that this was tried on has."""


def load_model(
    folder: Path | str,
    *,
    lane: str = "native-float32",
    device: str = "cpu",
    threads: int = 1,
    drop_layers: Sequence[int] = (),
    alter: Callable[[Tensors], Tensors] | None = None,
) -> Model:
    """Load a checkpoint offline and commit to the tensors that will be executed.

    Args:
        folder: ``config.json``, safetensors weights, tokenizer and chat template.
        lane: one of ``manifest.LANES``; a portable one stands for the one that the family has.
        device: as torch names it. threads: of each forward pass.
        drop_layers: decoder layers (0-based) left out: the layer-dropping downgrade attack.
        alter: replaces the tensors after loading and checking: re-quantised or tampered weights.
            Like dropped layers this changes ``model_id``, because what is hashed is what runs.

    Raises:
        ModelError: no such folder, corrupted or unfitting checkpoint, NaN or infinite weights, or
            an unknown lane.
        InputError: no such device here, or not as many threads.
    """
    check_device(device)
    if not 1 <= threads <= MOST_THREADS:
        raise ParameterError("threads", threads, f"a whole number from 1 to {MOST_THREADS}")
    if lane not in manifest.LANES:
        raise ModelError(f"lane: found {lane!r}, expected one of {', '.join(manifest.LANES)}")
    options: dict[str, Any] = {"device": device, "threads": threads, "drop_layers": drop_layers, "alter": alter}
    if lane in DTYPES:
        return load_native(folder, lane=lane, **options)
    return load_tensor_lane(folder, **options) if lane == LANE else load_portable(folder, **options)


def check_device(name: str) -> None:
    """
    Raises:
        InputError: ``name`` is no device, or one that torch does not find here.
    """
    import torch

    with reported_as(InputError, f"device: found {name[:40]!r}", RuntimeError, expected="cpu, cuda or cuda:1"):
        device = torch.device(name)
    there = {"cpu": 1, "cuda": torch.cuda.device_count()}.get(device.type)
    if there is None:
        raise InputError(f"device: found {name[:40]!r}, expected cpu, cuda or cuda:1")
    if there <= (device.index or 0):
        raise InputError("device: found no CUDA device that torch can use, expected one; leave --device cuda out")
