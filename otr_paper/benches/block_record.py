"""What ``otr record`` adds in the lane h100-bf16: the self-check of a GPU, its speed beside cuBLAS, and one
attested answer that the replay on this machine's CPU must give again. It was run once on an H100."""

from __future__ import annotations

import functools
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from otr_core.errors import HardwareError, MissingDataError, ParameterError
from otr_core.lane.sampling import Decoding
from otr_core.poea import OnceStore
from otr_node import outside
from otr_node.answers import answer_order_file, order_of_model
from otr_node.block_check import compare_device, require_replayed
from otr_node.enclave import SimulatedEnclave
from otr_node.generate import generate
from otr_node.hardware import Hardware
from otr_node.model import Model
from otr_node.project import Project
from otr_node.tensor_device import BlockDevice
from otr_node.tensor_lane import TensorModel
from otr_paper.benches.blocks import RECORDINGS, recordings
from otr_paper.benches.turns import check_counts

FORMAT_BLOCKS = "otr-blocks/1"
Recorded = Sequence[tuple[np.ndarray, np.ndarray, int, int]]


@dataclass(frozen=True)
class BlockPlan:
    """What is measured.

    Attributes:
        tokens: rows that meet a matrix at once, for each of which it is timed. repeats: of each time.
        max_tokens: most tokens of the attested answer. products: as ``block_check.compare_device``. recorded: most
            of the blocks that an H100 computed for others, where they are here.

    Raises:
        ParameterError: no token or no repeat.
    """

    tokens: tuple[int, ...] = (1, 16, 256)
    repeats: int = 20
    max_tokens: int = 16
    products: int = 10
    recorded: int = 5000

    def __post_init__(self) -> None:
        if not self.tokens or min(self.tokens) < 1:
            raise ParameterError("tokens", list(self.tokens), "at least one number, each at least 1")
        check_counts(self, "repeats")


def recorded_blocks(project: Project) -> Recorded:
    """The bf16 blocks that an H100 computed for others, if they are here; else none."""
    try:
        archive = outside.get(project, *RECORDINGS, mirror=outside.mirror_folder())
    except MissingDataError:
        return ()
    return [(np.array(each.a), np.array(each.b), each.c, each.result) for each in recordings(archive, "bf16")]


def record_self_check(device: BlockDevice, plan: BlockPlan, recorded: Recorded) -> dict[str, Any]:
    """How many words of the device differ from the replay, and what it is refused with, if any does."""
    found = compare_device(device, products=plan.products, recorded=recorded)
    refused = None
    try:
        require_replayed(f"device {device.name}", found)
    except HardwareError as error:
        refused = str(error)
    return {"self_check": {name: asdict(each) for name, each in found.items()}, "refused": refused}


def record_speed(model: TensorModel, device: BlockDevice, hardware: Hardware, plan: BlockPlan) -> list[dict[str, Any]]:
    """Seconds of every matrix of the first layer, and of the head, by the kernel and by ``torch.matmul`` in bf16,
    which is cuBLAS on a GPU: medians, after one that is not counted."""
    rows = []
    random = np.random.default_rng(3)
    for name in ("0.qkv", "0.out", "0.gate_up", "0.down", "head"):
        matrix = device.words(model.matrices[name])
        for tokens in plan.tokens:
            x = torch.from_numpy(random.standard_normal((tokens, matrix.shape[1]), np.float32))
            x = x.to(torch.bfloat16).to(device.name)
            times = {
                "blocks_s": _median(functools.partial(device.product, x[None], matrix[None]), hardware, plan.repeats),
                "matmul_s": _median(functools.partial(torch.matmul, x, matrix.t()), hardware, plan.repeats),
            }
            shape = {"tokens": tokens, "columns": matrix.shape[1], "rows": matrix.shape[0]}
            rows.append({"matrix": name, **shape, **times})
    return rows


def _median(call: Callable[[], Any], hardware: Hardware, repeats: int) -> float:
    times = []
    for _ in range(repeats + 1):
        before = hardware.clock()
        call()
        times.append(hardware.clock() - before)
    return statistics.median(times[1:])


def record_answer(
    model: TensorModel,
    prompt: str,
    plan: BlockPlan,
    *,
    secret: Callable[[int], bytes],
    now: int,
    report: Callable[[str], None],
    boot: Callable[[bytes], SimulatedEnclave] | None,
) -> dict[str, Any]:
    """One answer with its receipt, as ``answer_order_file`` serves it, and whether a replay of it on this CPU gives
    the same states ("replayed").

    Args:
        boot: starts the TEE, as there; None: a simulated one, which "tee" says.
    """
    decoding = Decoding(plan.max_tokens)
    placed = order_of_model(model, prompt, decoding, secret=secret)
    served = answer_order_file(
        model, placed, served=OnceStore(), secret=secret, now=now, report=report, boot=boot
    )  # fmt: skip
    report("replaying the answer on this CPU …")
    again = generate(replace(model, device=None), placed.said.prompt_ids, decoding, trace_seed=bytes(32), digest=True)
    assert again.execution_digest is not None
    digest = served.summary["execution_digest"]
    return {
        "receipt": json.loads(served.receipt),
        "tee": served.summary["tee"],
        "execution_digest": digest,
        "replayed": again.execution_digest.hex() == digest,
    }


def record_blocks(
    project: Project,
    device: BlockDevice | None,
    load: Callable[[], Model],
    hardware: Hardware,
    plan: BlockPlan,
    prompt: str,
    **answering: Any,
) -> tuple[TensorModel | None, dict[str, Any]]:
    """Self-check, speed and answer. A device that is refused computes nothing more.

    Args:
        device: None: this CPU, which has no self-check of blocks and no cuBLAS beside it. load: the model, on the
            device. answering: as of ``record_answer``.

    Returns:
        The model, None where the device is refused; and JSON values, for a result file with a card.
    """
    found: dict[str, Any] = {"format": FORMAT_BLOCKS, "self_check": {}, "refused": None, "speed": [], "answer": None}
    if device is not None:
        found |= record_self_check(device, plan, recorded_blocks(project)[: plan.recorded])
        if found["refused"]:
            return None, found
    model = load()
    assert isinstance(model, TensorModel)
    if device is not None:
        found["speed"] = record_speed(model, device, hardware, plan)
    return model, {**found, "answer": record_answer(model, prompt, plan, **answering)}
