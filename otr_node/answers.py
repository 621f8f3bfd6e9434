"""What ``otr order`` and ``otr infer`` do, with secrets and time as arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otr_core.errors import InputError
from otr_core.lane.sampling import MAX_TEMPERATURE_MILLI, Decoding
from otr_core.poea import Domain, OnceStore, PlacedOrder, place_order
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
        summary: what to tell the user: text, counts, lane, model id, digests. receipt: the receipt
            file's bytes.
    """

    summary: Mapping[str, Any]
    receipt: bytes


def order_prompt(
    model: Model,
    prompt: str,
    *,
    max_tokens: int,
    seed: int,
    temperature: float,
    secret: Callable[[int], bytes],
    domain: Domain | None = None,
) -> PlacedOrder:
    """Order an answer to ``prompt`` from ``model``, as a client does that has its tokenizer.

    Args:
        max_tokens, seed: of the decoding. temperature: 0 to 5; 0 is greedy. secret: gives that many
            secret random bytes. domain: court and chain; None: no court.

    Raises:
        InputError: empty or too long prompt, parameter outside its domain.
    """
    if not 0 <= temperature <= MAX_TEMPERATURE_MILLI / 1000:
        raise InputError(f"temperature: found {temperature}, expected 0 to {MAX_TEMPERATURE_MILLI // 1000}")
    decoding = Decoding(max_tokens=max_tokens, seed=seed, temperature_milli=round(temperature * 1000))
    ids = prompt_tokens(model, prompt, max_tokens)
    model_id, job_id, nonce, own = model.manifest.model_id, secret(32), secret(32), secret(32)
    return place_order(
        ids, model_id=model_id, decoding=decoding, job_id=job_id, nonce=nonce, client_secret=own, domain=domain
    )


def answer_order_file(
    model: Model,
    placed: PlacedOrder,
    *,
    served: OnceStore,
    secret: Callable[[int], bytes],
    now: int,
    report: Callable[[str], None],
) -> ServedAnswer:
    """Serve and sign the answer to an order, in a simulated TEE that is booted for it.

    Args:
        served: the operator's store of orders that were answered. secret: gives that many secret
            random bytes. now: Unix seconds. report: gets lines of progress.

    Raises:
        ModelError: the order is for another model. InputError: the prompt cannot be used.
        ReceiptError: the order was answered before.
    """
    manifest, most = model.manifest, placed.order.decoding.max_tokens
    enclave = SimulatedEnclave(secret=secret(32), model_id=manifest.model_id, gpu_nonce=secret(32), issued_at=now)
    chosen: list[int] = []

    def progress(token: int) -> None:
        chosen.append(token)
        if len(chosen) % 16 == 0:
            report(f"  {len(chosen)} of at most {most} tokens")

    report(f"answering in the lane {manifest.lane}")
    file, answer = serve(
        enclave, model, placed.order, placed.query, served=served, digest=True, on_token=progress
    )
    digest = answer.execution_digest
    summary = {
        "answer": model.tokenizer.decode(answer.token_ids),
        "finish": answer.finish,
        "prompt_tokens": len(answer.prompt_ids),
        "answer_tokens": len(answer.token_ids),
        "lane": manifest.lane,
        "model_id": manifest.model_id.hex(),
        "order_id": placed.order.id.hex(),
        "trace_root": file.receipt.trace_root.hex(),
        "trace_leaves": file.receipt.trace.leaves,
        "execution_digest": None if digest is None else digest.hex(),
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
