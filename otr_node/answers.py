"""What ``otr order`` and ``otr infer`` do, with secrets and time as arguments."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otr_core.errors import InputError
from otr_core.lane.sampling import Decoding
from otr_core.poea import Domain, OnceStore, Order, PlacedOrder, place_order
from otr_core.poea.audit import registered_lanes, registered_models
from otr_core.poea.trace import Trace
from otr_node.accuracy import check_accuracy
from otr_node.checkpoint import read_checkpoint
from otr_node.enclave import SimulatedEnclave
from otr_node.generate import prompt_tokens
from otr_node.lanes import load_model
from otr_node.model import Model
from otr_node.models import model_folder
from otr_node.native import load_native
from otr_node.portable import PortableModel
from otr_node.project import Project
from otr_node.serve import serve

LANES = {"native": "native-float32", "portable": "portable-1", "h100-bf16": "h100-bf16"}
"""Lane as a user names it -> lane of the model's identity; portable-2 has the same name here."""


DIGEST_READERS = "whoever may see the answer: it has no salts, so that anybody can confirm a guess with it"
"""What is said beside an execution digest."""


@dataclass(frozen=True)
class ServedAnswer:
    """An answer as it leaves the operator.

    Attributes:
        summary: what to tell the user: text, counts, lane, model id, digests. receipt: the receipt
            file's bytes. trace: what the operator keeps, and may hand to whoever runs the answer again.
    """

    summary: Mapping[str, Any]
    receipt: bytes
    trace: Trace


def order_prompt(
    project: Project,
    prompt: str,
    *,
    lane: str,
    folder: Path | None,
    model_id: bytes | None,
    decoding: Decoding,
    domain: Domain,
    date: datetime.date | None,
    secret: Callable[[int], bytes],
    report: Callable[[str], None],
    seal_to: bytes | None = None,
) -> PlacedOrder:
    """Order an answer to ``prompt``, tokenised by a checkpoint's small files alone.

    Args:
        lane: of ``LANES``' values. folder: the checkpoint, or None for SmolLM2.
        model_id: 32 bytes; None: the registered model of this lane, or, of another ``folder``, the
            id found by loading it.
        domain: court and chain. date: for a chat template that asks for one. secret: gives that
            many secret random bytes.

    Raises:
        InputError: empty or too long prompt. ModelError: not a usable checkpoint.
    """
    place = folder or model_folder(project, report=report)
    checkpoint = read_checkpoint(place, outlined=lane.startswith("native"))
    ids = prompt_tokens(checkpoint, prompt, decoding.max_tokens, date)
    if model_id is None:
        model_id = _own_id(project, checkpoint.folder, lane, folder is None, report)
    return _placed(ids, model_id, decoding, secret, domain, seal_to)


def order_of_model(model: Model, prompt: str, decoding: Decoding, *, secret: Callable[[int], bytes]) -> PlacedOrder:
    """Order an answer to ``prompt`` from a loaded ``model``, of no court.

    Args:
        secret: gives that many secret random bytes.

    Raises:
        InputError: empty or too long prompt.
    """
    ids = prompt_tokens(model, prompt, decoding.max_tokens)
    return _placed(ids, model.manifest.model_id, decoding, secret, Domain())


def _placed(
    ids: Sequence[int],
    model_id: bytes,
    decoding: Decoding,
    secret: Callable[[int], bytes],
    domain: Domain,
    seal_to: bytes | None = None,
) -> PlacedOrder:
    fresh = {"job_id": secret(32), "nonce": secret(32), "client_secret": secret(32)}
    return place_order(ids, model_id=model_id, decoding=decoding, domain=domain, seal_to=seal_to, **fresh)


def answer_order_file(
    model: Model,
    placed: PlacedOrder,
    *,
    served: OnceStore,
    secret: Callable[[int], bytes],
    now: int,
    report: Callable[[str], None],
    boot: Callable[[bytes], SimulatedEnclave] | None = None,
) -> ServedAnswer:
    """Serve and sign the answer to an order, in a TEE that is booted for it.

    Args:
        boot: starts the TEE that has loaded the model with this id; None: a simulated one.
        served: the operator's store of orders that were answered. secret: gives that many secret
            random bytes. now: Unix seconds. report: gets lines of progress.

    Raises:
        ModelError: the order is for another model. InputError: the prompt cannot be used.
        ReceiptError: the order was answered before.
    """
    manifest, most = model.manifest, placed.order.decoding.max_tokens
    if boot is None:
        enclave = SimulatedEnclave(secret=secret(32), model_id=manifest.model_id, gpu_nonce=secret(32), issued_at=now)
    else:
        enclave = boot(manifest.model_id)
    chosen: list[int] = []

    def progress(token: int) -> None:
        chosen.append(token)
        if len(chosen) % 16 == 0:
            report(f"  {len(chosen)} of at most {most} tokens")

    report(f"answering in the lane {manifest.lane}")
    file, answer = serve(enclave, model, placed.order, placed.query, served=served, digest=True, on_token=progress)
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
        "execution_digest_is_for": DIGEST_READERS,
        "tee": file.evidence["kind"],
    }
    assert answer.trace is not None  # an answer that is signed has one
    return ServedAnswer(summary, file.dump(), answer.trace)


def client_side(
    project: Project, *, lane: str, folder: Path | None, model_id: bytes | None, report: Callable[[str], None]
) -> tuple[Path, bytes, Callable[[Sequence[int]], str]]:
    """What a client needs of the model that it orders: its folder, its id, and what decodes its tokens.

    Args:
        folder, model_id: as of ``order_prompt``.
    """
    place = folder or model_folder(project, report=report)
    checkpoint = read_checkpoint(place, outlined=lane.startswith("native"))
    return (
        place,
        model_id or _own_id(project, checkpoint.folder, lane, folder is None, report),
        checkpoint.tokenizer.decode,
    )


def _own_id(project: Project, place: Path, lane: str, registered: bool, report: Callable[[str], None]) -> bytes:
    if registered:
        return next(bytes.fromhex(own) for own, its in registered_lanes(project.data).items() if its == lane)
    report("loading the model, whose id is what is ordered")
    return load_model(place, lane=lane).manifest.model_id


def served_name(project: Project, model: Model, folder: Path | None) -> str:
    """What a server calls a model: its registered name, or its folder's, and its lane."""
    known = registered_models(project.data).get(model.manifest.model_id.hex())
    bare = known.rpartition(" (")[0] if known else (folder or Path("model")).resolve().name
    return f"{bare}@{model.manifest.lane}"


def load_lane(
    project: Project,
    *,
    lane: str,
    device: str,
    folder: Path | None,
    report: Callable[[str], None],
    threads: int = 1,
) -> Model:
    """The model of ``lane`` (a value of ``LANES``) from ``folder`` (default: SmolLM2), weights
    committed, and in the portable lane its accuracy known.

    Raises:
        ModelError: not a usable checkpoint. AccuracyError: one that integers serve badly.
    """
    place = folder or model_folder(project, report=report)
    report("loading the model and committing its weights")
    model = load_model(place, lane=lane, device=device, threads=threads)
    if isinstance(model, PortableModel):
        check_accuracy(model, lambda: load_native(place), project.build / "accuracy", report=report)
    return model


def lane_name(lane: str) -> str:
    """The lane of a model's identity that a user names.

    Raises:
        InputError: there is no such lane.
    """
    if lane not in LANES:
        raise InputError(f"--lane: found {lane!r}, expected one of {', '.join(LANES)}")
    return LANES[lane]


def lane_ordered(project: Project, order: Order, otherwise: str) -> str:
    """The lane of the model that is ordered, if it is registered; else the one that a user names."""
    return registered_lanes(project.data).get(order.model_id.hex()) or lane_name(otherwise)
