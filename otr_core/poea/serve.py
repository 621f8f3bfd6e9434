"""Both ends of one query: the client orders and opens, the TEE answers and signs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otr_core.encoding import canonical_json, from_hex, parse_json, tagged_hash
from otr_core.errors import InputError, ModelError, SealError
from otr_core.inference.generate import Answer, generate
from otr_core.inference.model import Model
from otr_core.inference.sampling import Decoding
from otr_core.poea.document import ReceiptFile
from otr_core.poea.receipt import Job, Message, issue_receipt
from otr_core.poea.sealing import derive_secret, hpke_public, open_sealed, seal
from otr_core.poea.simulated import SimulatedEnclave


def order(
    prompt: str,
    *,
    model_id: bytes,
    decoding: Decoding,
    job_id: bytes,
    nonce: bytes,
    seal_to: bytes | None = None,
    client_secret: bytes | None = None,
) -> tuple[Job, Message]:
    """The client's order and query.

    Args:
        model_id: the model that is paid for. job_id, nonce: 32 bytes each, never used before.
        seal_to: the enclave's attested HPKE key; without it the query travels in the clear.
        client_secret: 32 secret bytes of this job; the answer comes back sealed to a key derived from it.
    """
    document: dict[str, Any] = {"prompt": prompt}
    if seal_to is None:
        query = Message("query", plain=document)
    else:
        if client_secret is None or len(client_secret) != 32:
            raise InputError("client secret: expected 32 bytes to seal with")
        document["reply_to"] = hpke_public(_client_key(client_secret, nonce)).hex()
        info = _query_info(job_id, nonce)
        plaintext = canonical_json(document)
        # The plaintext is part of it: two queries under one nonce, a mistake, still get two keys.
        ephemeral = tagged_hash("client-ephemeral", client_secret + nonce + plaintext)
        query = Message("query", sealed=seal(seal_to, plaintext, info=info, ephemeral=ephemeral))
    return Job(job_id, nonce, model_id, query.digest, decoding), query


def open_response(file: ReceiptFile, client_secret: bytes) -> dict[str, Any]:
    """The answer document {text, token_ids, finish, trace_seed} of a response, for the client that ordered it.

    Raises:
        SealError: not this client's, or altered.
    """
    if file.response.sealed is None:
        return dict(file.response.plain or {})
    key = _client_key(client_secret, file.job.nonce)
    return dict(parse_json(open_sealed(key, file.response.sealed, info=_response_info(file.job)), what="response"))


def serve(
    enclave: SimulatedEnclave,
    model: Model,
    job: Job,
    query: Message,
    *,
    on_token: Callable[[int], None] | None = None,
) -> tuple[ReceiptFile, Answer]:
    """Answer ``query`` inside the (simulated) TEE and issue the receipt; sealed queries get sealed answers.

    Raises:
        ModelError: the job asks for another model than the one measured at boot, or that is not the one loaded.
        InputError: the query is not the one ordered, or the prompt cannot be used. Nothing has run then.
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
    """The receipt file for an ``answer`` that the enclave vouches for; sealed to ``reply_to`` when given."""
    if answer.trace is None:
        raise InputError("answer: found no trace, expected one committed while generating")
    document = {
        "text": answer.text,
        "token_ids": list(answer.token_ids),
        "finish": answer.finish,
        # with it the client can rebuild the trace's leaves, and so find and dispute a wrong one
        "trace_seed": trace_seed(enclave, job).hex(),
    }
    if reply_to is None:
        response = Message("response", plain=document)
    else:
        ephemeral = enclave.derive("response", job.nonce + canonical_json(document))
        response = Message(
            "response", sealed=seal(reply_to, canonical_json(document), info=_response_info(job), ephemeral=ephemeral)
        )
    signed = issue_receipt(enclave.signing_key, enclave.keys, job, response, answer.trace, answer.configuration)
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
    """The query document, and the key to seal the answer to (None for a plain query)."""
    if query.sealed is None:
        document, reply_to = dict(query.plain or {}), None
    else:
        raw = open_sealed(enclave.hpke_key, query.sealed, info=_query_info(job.job_id, job.nonce))
        document = parse_json(raw, what="sealed query")
        if not isinstance(document, dict) or not isinstance(document.get("reply_to"), str):
            raise SealError("sealed query: found no reply_to, expected the key to seal the answer to")
        reply_to = from_hex(document.pop("reply_to"), length=32, what="reply_to")
    if document.keys() != {"prompt"} or not isinstance(document["prompt"], str):
        raise InputError(f"query: found {sorted(document)}, expected an object with 'prompt'")
    return document, reply_to


def trace_seed(enclave: SimulatedEnclave, job: Job) -> bytes:
    """32 secret bytes that the salts of this job's trace derive from; derived again when a leaf is to be opened."""
    return enclave.derive("trace", job.job_id + job.nonce)


def _client_key(client_secret: bytes, nonce: bytes) -> bytes:
    return derive_secret(tagged_hash("client-key", client_secret + nonce))


def _query_info(job_id: bytes, nonce: bytes) -> bytes:
    return b"otr/1/query" + job_id + nonce


def _response_info(job: Job) -> bytes:
    return b"otr/1/response" + job.job_id + job.nonce + job.query_digest
