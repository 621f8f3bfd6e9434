"""The client's side of one query: to order an answer, and to open the one that comes back."""

from __future__ import annotations

from typing import Any

from otr_core.encoding import canonical_json, parse_json, tagged_hash
from otr_core.errors import InputError
from otr_core.lane.sampling import Decoding
from otr_core.poea.document import ReceiptFile
from otr_core.poea.receipt import Job, Message
from otr_core.poea.sealing import derive_secret, hpke_public, open_sealed, seal


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
        client_secret: 32 secret bytes of this job; the answer comes back sealed to a key derived
            from it.

    Raises:
        InputError: a query is to be sealed and ``client_secret`` is not 32 bytes.
    """
    document: dict[str, Any] = {"prompt": prompt}
    if seal_to is None:
        query = Message("query", plain=document)
    else:
        if client_secret is None or len(client_secret) != 32:
            raise InputError("client secret: expected 32 bytes to seal with")
        document["reply_to"] = hpke_public(_client_key(client_secret, nonce)).hex()
        info = query_info(job_id, nonce)
        plaintext = canonical_json(document)
        # An ephemeral key must never seal two messages. Should a client reuse a nonce by mistake,
        # the plaintext, which is hashed in as well, still makes the keys differ.
        ephemeral = tagged_hash("client-ephemeral", client_secret + nonce + plaintext)
        query = Message("query", sealed=seal(seal_to, plaintext, info=info, ephemeral=ephemeral))
    return Job(job_id, nonce, model_id, query.digest, decoding), query


def open_response(file: ReceiptFile, client_secret: bytes) -> dict[str, Any]:
    """The answer document {text, token_ids, finish, trace_seed}, for the client that ordered it.

    Raises:
        SealError: not this client's, or altered.
    """
    if file.response.sealed is None:
        return dict(file.response.plain or {})
    key = _client_key(client_secret, file.job.nonce)
    plaintext = open_sealed(key, file.response.sealed, info=response_info(file.job))
    return dict(parse_json(plaintext, what="response"))


def _client_key(client_secret: bytes, nonce: bytes) -> bytes:
    return derive_secret(tagged_hash("client-key", client_secret + nonce))


def query_info(job_id: bytes, nonce: bytes) -> bytes:
    """HPKE ``info`` of a sealed query: it opens for this job only."""
    return b"otr/1/query" + job_id + nonce


def response_info(job: Job) -> bytes:
    """HPKE ``info`` of a sealed response: it opens as the answer to this order only."""
    return b"otr/1/response" + job.job_id + job.nonce + job.query_digest
