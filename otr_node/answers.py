"""What ``otr infer`` does: order, serve and sign one answer, with secrets and time as arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otr_core.errors import InputError
from otr_core.lane.sampling import Decoding
from otr_core.poea import order
from otr_node.enclave import SimulatedEnclave
from otr_node.generate import prompt_tokens
from otr_node.lanes import load_model
from otr_node.model import Model
from otr_node.models import model_folder
from otr_node.project import Project
from otr_node.serve import serve

LANES = {"native": "native-float32", "portable": "portable-1"}
"""Lane as a user names it -> lane of the model's identity."""


@dataclass(frozen=True)
class ServedAnswer:
    """An answer as it leaves the operator.

    Attributes:
        summary: what to tell the user: text, counts, lane, model id, trace root. receipt: the
            receipt file's bytes.
    """

    summary: Mapping[str, Any]
    receipt: bytes


def answer_prompt(
    project: Project,
    *,
    prompt: str,
    lane: str,
    max_tokens: int,
    seed: int,
    temperature: float,
    device: str,
    folder: Path | None,
    secret: Callable[[int], bytes],
    now: int,
    report: Callable[[str], None],
) -> ServedAnswer:
    """Order, serve and sign one answer.

    Args:
        lane: ``native`` (fp32) or ``portable``. folder: a checkpoint, or None for SmolLM2.
        max_tokens, seed: of the decoding. temperature: 0 to 100; 0 is greedy. device: "cpu" or
            "cuda".
        secret: gives that many secret random bytes. now: Unix seconds. report: gets lines of
            progress.

    Raises:
        InputError: empty or too long prompt, parameter outside its domain; nothing has run then.
        ModelError, MissingDataError: the model cannot be loaded.
    """
    if not prompt.strip():
        raise InputError("prompt: found nothing, expected a text")
    if not 0 <= temperature <= 100:
        raise InputError(f"temperature: found {temperature}, expected 0 to 100")
    decoding = Decoding(max_tokens=max_tokens, seed=seed, temperature_milli=round(temperature * 1000))
    model = load_lane(project, lane=lane, device=device, folder=folder, report=report)
    prompt_tokens(model, prompt, max_tokens)
    model_id = model.manifest.model_id
    enclave = SimulatedEnclave(secret=secret(32), model_id=model_id, gpu_nonce=secret(32), issued_at=now)
    job, query = order(prompt, model_id=model_id, decoding=decoding, job_id=secret(32), nonce=secret(32))

    chosen: list[int] = []

    def progress(token: int) -> None:
        chosen.append(token)
        if len(chosen) % 16 == 0:
            report(f"  {len(chosen)} of at most {max_tokens} tokens")

    report(f"answering in the {lane} lane")
    file, answer = serve(enclave, model, job, query, on_token=progress)
    summary = {
        "answer": answer.text,
        "finish": answer.finish,
        "prompt_tokens": len(answer.prompt_ids),
        "answer_tokens": len(answer.token_ids),
        "lane": lane,
        "model_id": model_id.hex(),
        "trace_root": file.receipt.trace_root.hex(),
        "trace_leaves": file.receipt.trace.leaves,
        "tee": "simulated",
    }
    return ServedAnswer(summary, file.dump())


def load_lane(project: Project, *, lane: str, device: str, folder: Path | None, report: Callable[[str], None]) -> Model:
    """The model of ``lane`` from ``folder`` (default: SmolLM2), weights committed.

    Raises:
        InputError: no such lane. ModelError: not a usable checkpoint.
    """
    place = folder or model_folder(project, report=report)
    report("loading the model and committing its weights")
    if lane not in LANES:
        raise InputError(f"lane: found {lane!r}, expected one of {', '.join(LANES)}")
    return load_model(place, lane=LANES[lane], device=device)
