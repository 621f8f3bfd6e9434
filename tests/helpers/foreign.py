"""Receipts in the formats of others, made and signed freely: whoever writes one chooses every
member, and has the attested key."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from otr_core.encoding import canonical_json
from otr_paper.formats.aci import AciAnswer, aci_keyset_digest, aci_report_data, check_aci_receipt
from otr_paper.formats.computation import (
    chain_digest,
    computation_canonical,
    computation_digest,
    tensor_digest,
    tensors_digest,
)

KEY, OTHER_KEY = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (7, 8))
NONCE, NOW = "5a" * 32, 1_800_000_000
REQUEST = b'{"messages":[{"content":"Why?","role":"user"}],"model":"m","temperature":0.7}'
RESPONSE = b'{"choices":[{"message":{"content":"Because."},"finish_reason":"stop"}],"id":"c-1"}'

Change = Callable[[dict[str, Any]], object]


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def keyset_of(key: Ed25519PrivateKey = KEY, **changes: Any) -> dict[str, Any]:
    entry = {"key_id": "r-1", "algo": "ed25519", "public_key": key.public_key().public_bytes_raw().hex()}
    fixed = {"subject": None, "not_after": NOW + 3600, "e2ee_public_keys": [], "tls_public_keys": []}
    return {**fixed, "receipt_signing_keys": [entry], **changes}


def session_of(**changes: Any) -> dict[str, Any]:
    data = "data:text/plain;base64," + base64.b64encode(b"evidence").decode()
    evidence = {"digest": sha256(b"evidence"), "data": data}
    fixed = {"api_version": "aci/1", "upstream_name": "u", "endpoint": None, "verifier_id": "v/1", "claims": {}}
    times = {"established_at": NOW - 60, "expires_at": NOW + 60}
    return {**fixed, **times, "channel_binding": [], "evidence": evidence, **changes}


def session_id(session: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(session)).hexdigest()


def receipt_of(keyset: dict[str, Any], session: dict[str, Any] | None = None) -> dict[str, Any]:
    events: list[dict[str, Any]] = [
        {"type": "request.received", "body_hash": sha256(REQUEST)},
        {"type": "request.forwarded", "body_hash": sha256(REQUEST)},
        {"type": "response.returned", "body_hash": sha256(RESPONSE)},
    ]
    if session is not None:
        verified = {"type": "upstream.verified", "result": "verified", "required": True, "model_id": "m"}
        events.insert(2, {**verified, "session_id": session_id(session)})
    names = {"receipt_id": "rcpt-1", "chat_id": "c-1", "model": "m", "endpoint": "/v1/chat/completions"}
    digest = aci_keyset_digest(canonical_json(keyset))
    rest = {"method": "POST", "served_at": NOW, "key_id": "r-1", "workload_keyset_digest": digest}
    return {"api_version": "aci/1", **names, **rest, "event_log": events}


def sign(document: dict[str, Any], key: Ed25519PrivateKey = KEY) -> dict[str, Any]:
    unsigned = {name: value for name, value in document.items() if name != "signature"}
    return {**unsigned, "signature": key.sign(canonical_json(unsigned)).hex()}


def aci(
    change: Change = lambda receipt: None,
    *,
    key: Ed25519PrivateKey = KEY,
    keyset: dict[str, Any] | None = None,
    session: dict[str, Any] | None = None,
    shown: bytes | None = None,
    bodies: tuple[bytes, bytes] = (REQUEST, RESPONSE),
    after: Change = lambda receipt: None,
    **options: Any,
) -> AciAnswer:
    """Check a receipt that its signer changed before signing, and somebody else after it.

    The quote binds the honest keyset unless ``options`` say otherwise.
    """
    keys = keyset_of() if keyset is None else keyset
    document = receipt_of(keys, session)
    change(document)
    document = sign(document, key)
    after(document)
    honest = aci_report_data(aci_keyset_digest(canonical_json(keyset_of())), NONCE)
    fixed: dict[str, Any] = {"keyset": json.dumps(keys).encode(), "quoted": (honest, NONCE), "as_of": NOW}
    shown = canonical_json(session) if shown is None and session is not None else shown
    return check_aci_receipt(json.dumps(document).encode(), bodies, **(fixed | {"session": shown} | options))


WEIGHTS, INPUTS = {"w": np.arange(8, dtype=np.int8).reshape(2, 4)}, {"x": np.arange(4, dtype=np.int32)}
OUTPUT = np.arange(64, dtype=np.int64).reshape(16, 4)
ARITHMETIC: dict[str, Any] = {
    "profile": "bposit16-quire256",
    "accumulation": "exact",
    "order_independent": True,
    "params": {"n": 16, "es": 3, "quire_bits": 256, "frac_bits": 96},
}


def manifest_of(
    *,
    model: dict[str, np.ndarray] = WEIGHTS,
    inputs: dict[str, np.ndarray] = INPUTS,
    output: np.ndarray = OUTPUT,
    **parts: Any,
) -> dict[str, Any]:
    """A manifest of version 0.1, unless ``parts`` say otherwise."""
    return {
        "cr": "0.1",
        "digest_alg": "sha256",
        "arithmetic": copy.deepcopy(ARITHMETIC),
        "computation": {"id": "test", "version": "1"},
        "model": {"digest": tensors_digest(model), "n_tensors": len(model)},
        "input": {"digest": tensors_digest(inputs), "n_tensors": len(inputs)},
        "output": {"digest": tensor_digest(output), "shape": list(output.shape)},
        **parts,
    }


def certified(manifest: dict[str, Any], **more: Any) -> bytes:
    """The receipt of a manifest, as anybody can write it."""
    alg = manifest.get("digest_alg")
    certificate = computation_digest(computation_canonical(manifest), alg if alg == "sha512" else "sha256")
    return json.dumps({"manifest": manifest, "certificate": certificate, **more}).encode()


def sampled(rows: Callable[[dict[str, Any]], np.ndarray], **parts: Any) -> dict[str, Any]:
    """A manifest of version 0.1.1 whose sample is ``rows(manifest)``; it carries their digest."""
    sample = {"rule": "sha256-ctr-reject-v1", "n_units": 16, "size": 4, "challenge": "beef", "digest": ""}
    manifest = manifest_of(cr="0.1.1", sample=sample | parts.pop("sample", {}), **parts)
    manifest["sample"]["digest"] = tensor_digest(rows(manifest))
    return manifest


def chain(length: int = 3, change: Callable[[list[dict[str, Any]]], object] = lambda chunks: None) -> list[bytes]:
    """Chunk receipts of the same output and their closing one; ``change`` sees the manifests of the
    chunks before they are certified, one after the other."""
    raws: list[bytes] = []
    certificates = [""]
    manifests = [manifest_of(cr="0.1.2", chunk={"index": at, "closing": False}) for at in range(length)]
    change(manifests)
    for manifest in manifests:
        manifest["chunk"].setdefault("prev_certificate", certificates[-1])
        raws.append(certified(manifest))
        certificates.append(json.loads(raws[-1])["certificate"])
    end = {"index": len(raws), "closing": True, "n_chunks": len(raws), "prev_certificate": certificates[-1]}
    raws.append(certified(manifest_of(cr="0.1.2", chunk={**end, "chain_digest": chain_digest(certificates[1:])})))
    return raws
