"""A *simulated* TEE: same evidence, same checks, no hardware. Whoever reads this file can forge it, hence its name: a
policy that does not say ``allow_simulated`` refuses it.

Its evidence has the shape of the real thing: a quote whose report_data is H("keys", public keys) ‖ GPU nonce, a GPU
report that carries the same nonce, and an event log whose replay gives a measured register (as TDX RTMR3, SHA-384). The
model's id is extended into the register before the serving keys are, so the log names the model the keys speak for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from otr_core.encoding import from_hex, tagged_json_hash
from otr_core.errors import InputError, ReceiptError
from otr_core.poea.tee import KEYS_EVENT, EvidencePolicy, TeeClaims, measured_model

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KIND = "simulated"

#: Seed of the key that signs simulated evidence. It is published here, so the evidence proves nothing about hardware.
TEST_ROOT = hashlib.sha256(b"otr simulated TEE test root: not a secret").digest()

_APPLICATION_EVENT = 0x08000001  # the event type that dstack uses for application events in RTMR3


def appraise_simulated(evidence: Mapping[str, Any], policy: EvidencePolicy, as_of: int) -> TeeClaims:
    """What evidence of a simulated TEE says at ``as_of`` (Unix seconds), if ``policy`` takes such evidence at all.

    Raises:
        ReceiptError: check "appraisal", with the reason. check "measured-model": the log is genuine and names no model.
    """
    if evidence.get("kind") != KIND:
        raise ReceiptError("appraisal", f"evidence of kind {evidence.get('kind')!r}", f"{KIND!r}")
    if policy.allow_simulated is not True:
        raise ReceiptError("appraisal", "evidence of a simulated TEE", "hardware (the policy has no allow_simulated)")
    try:
        quote, gpu_report, log = (dict(evidence["quote"]), dict(evidence["gpu_report"]), list(evidence["event_log"]))
        _check_signature("simulated-quote", quote, {"report_data", "rtmr3", "issued_at", "expires_at"})
        _check_signature("simulated-gpu-report", gpu_report, {"nonce"})
        report_data = from_hex(quote["report_data"], length=64, what="report_data")
        register = from_hex(quote["rtmr3"], length=48, what="rtmr3")
        gpu_nonce = from_hex(gpu_report["nonce"], length=32, what="GPU nonce")
        begin, end = int(quote["issued_at"]), int(quote["expires_at"])
        replayed = replay_log(log)
    except (KeyError, TypeError, ValueError, AttributeError, InputError) as error:
        raise ReceiptError("appraisal", f"unreadable evidence ({error})", "quote, gpu_report and event_log") from error
    if not begin <= as_of < end:
        raise ReceiptError("appraisal", f"time {as_of}", f"within the quote's {begin} to {end}")
    if replayed != register:
        raise ReceiptError("appraisal", f"event log that replays to {replayed.hex()}", f"rtmr3 {register.hex()}")
    model = measured_model(log)
    released = next(event["payload"] for event in log if event["event"] == KEYS_EVENT)
    if released != report_data[:32].hex():
        raise ReceiptError("keys-bound", f"keys {released} released", f"those in report_data, {report_data[:32].hex()}")
    return TeeClaims(report_data, gpu_nonce, model, simulated=True)


def replay_log(log: Sequence[Mapping[str, Any]]) -> bytes:
    """48-byte register after extending each event's digest: R ← SHA-384(R ‖ digest), from zero.

    An event's digest is SHA-384(type, u32 LE ‖ ":" ‖ name ‖ ":" ‖ payload), as dstack forms it, and is computed here,
    never read from the log.
    """
    register = bytes(48)
    for event in log:
        if event.keys() != {"event", "payload"}:
            raise InputError(f"event log: found {sorted(event)}, expected 'event' and 'payload'")
        payload = from_hex(event["payload"], what="event payload")
        kind = _APPLICATION_EVENT.to_bytes(4, "little")
        digest = hashlib.sha384(b":".join((kind, event["event"].encode(), payload))).digest()
        register = hashlib.sha384(register + digest).digest()
    return register


def signer(root: bytes) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(root)


def _check_signature(tag: str, fields: dict[str, Any], names: set[str]) -> None:
    """Take ``signature`` out of ``fields`` and check it under the published test root."""
    from cryptography.exceptions import InvalidSignature

    signature = from_hex(fields.pop("signature"), length=64, what=f"{tag} signature")
    if fields.keys() != names:
        raise ReceiptError("appraisal", f"{tag} with {sorted(fields)}", f"{sorted(names)}")
    try:
        signer(TEST_ROOT).public_key().verify(signature, tagged_json_hash(tag, fields))
    except InvalidSignature as error:
        raise ReceiptError("appraisal", f"{tag} not signed by the simulated root", "its signature") from error
