"""The operator's end of one query: the enclave opens it, answers, and signs the receipt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otr_core.encoding import canonical_json, from_hex, parse_json
from otr_core.errors import InputError, ModelError, SealError
from otr_core.poea.client import query_info, response_info
from otr_core.poea.document import ReceiptFile
from otr_core.poea.receipt import Job, Message, issue_receipt
from otr_core.poea.sealing import open_sealed, seal
from otr_node.enclave import SimulatedEnclave
from otr_node.generate import Answer, generate
from otr_node.model import Model


def serve(
    enclave: SimulatedEnclave,
    model: Model,
    job: Job,
    query: Message,
    *,
    on_token: Callable[[int], None] | None = None,
) -> tuple[ReceiptFile, Answer]:
    """Answer ``query`` inside the (simulated) TEE, sealed if it was sealed, and issue the receipt.

    Raises:
        ModelError: the job asks for another model than the one measured at boot, or that is not the
            one loaded.
        InputError: the query is not the one ordered, or the prompt cannot be used. Nothing has run
            then.
        SealError: the query was sealed for another key or job.
    """
    if not job.model_id == enclave.model_id == model.manifest.model_id:
        raise ModelError(
            f"model: found {model.manifest.model_id.hex()} loaded and {enclave.model_id.hex()} measured, "
            f"expected the job's {job.model_id.hex()}"
        )
    if query.digest != job.query_digest:
        raise InputError(f"query: found digest {query.digest.hex()}, expected the job's {job.query_digest.hex()}")
    document, reply_to = open_query(enclave, job, query)
    answer = generate(model, document["prompt"], job.decoding, trace_seed=trace_seed(enclave, job), on_token=on_token)
    return sign_answer(enclave, model, job, query, answer, reply_to), answer


def sign_answer(
    enclave: SimulatedEnclave, model: Model, job: Job, query: Message, answer: Answer, reply_to: bytes | None = None
) -> ReceiptFile:
    """The receipt file for an ``answer`` that the enclave vouches for.

    Args:
        reply_to: 32-byte X25519 key that the answer is sealed to; None leaves it in the open.

    Raises:
        InputError: the answer has no trace.
    """
    document = {
        "text": answer.text,
        "token_ids": list(answer.token_ids),
        "finish": answer.finish,
        # With the seed the client can rebuild the leaves of the trace, and so find and dispute a
        # wrong one.
        "trace_seed": trace_seed(enclave, job).hex(),
    }
    if reply_to is None:
        response = Message("response", plain=document)
    else:
        plain = canonical_json(document)
        ephemeral = enclave.derive("response", job.nonce + plain)
        response = Message("response", sealed=seal(reply_to, plain, info=response_info(job), ephemeral=ephemeral))
    signed = issue_receipt(enclave.signing_key, enclave.keys, job, response, answer.committed, answer.configuration)
    return ReceiptFile(
        job=job,
        model=model.manifest,
        query=query,
        response=response,
        configuration=answer.configuration,
        receipt=signed.receipt,
        signature=signed.signature,
        keys=enclave.keys,
        evidence=enclave.evidence(),
    )


def open_query(enclave: SimulatedEnclave, job: Job, query: Message) -> tuple[dict[str, Any], bytes | None]:
    """The query document, and the key to seal the answer to (None for a plain query).

    Raises:
        SealError: sealed for another key or job, or without a key to reply to. InputError: no
            prompt, or more than one.
    """
    if query.sealed is None:
        document, reply_to = dict(query.plain or {}), None
    else:
        raw = open_sealed(enclave.hpke_key, query.sealed, info=query_info(job.job_id, job.nonce))
        document = parse_json(raw, what="sealed query")
        if not isinstance(document, dict) or not isinstance(document.get("reply_to"), str):
            raise SealError("sealed query: found no reply_to, expected the key to seal the answer to")
        reply_to = from_hex(document.pop("reply_to"), length=32, what="reply_to")
    if document.keys() != {"prompt"} or not isinstance(document["prompt"], str):
        raise InputError(f"query: found {sorted(document)}, expected an object with 'prompt'")
    return document, reply_to


def trace_seed(enclave: SimulatedEnclave, job: Job) -> bytes:
    """32 secret bytes from which the salts of this job's trace derive; the same at every call."""
    return enclave.derive("trace", job.job_id + job.nonce)
