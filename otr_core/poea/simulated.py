"""A *simulated* TEE: evidence in the shape of the real thing, signed with a published key.

Such evidence must pass checks like those on hardware evidence, but nobody needs hardware for it:
whoever reads this file can forge it. That is why it is called simulated, and why a policy that does
not say ``allow_simulated`` refuses it.

The evidence consists of a quote whose report_data is H("keys", public keys) ‖ GPU nonce, a GPU
report that carries the same nonce, and an event log whose replay gives a measured register (by the
rule of TDX RTMR3). The model's id is extended into the register before the serving keys are, so
that the log names the model which the keys speak for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from otr_core.attestation.eventlog import RUNTIME_EVENT, Event, EventLog
from otr_core.encoding import from_hex, json_object, tagged_json_hash
from otr_core.errors import InputError, ReceiptError
from otr_core.poea.tee import KEYS_EVENT, EvidencePolicy, TeeClaims, measured_model

KIND = "simulated"

#: Seed of the key that signs simulated evidence. It is published here, so the evidence proves
#: nothing about hardware.
TEST_ROOT = hashlib.sha256(b"otr simulated TEE test root: not a secret").digest()


def appraise_simulated(evidence: Mapping[str, Any], policy: EvidencePolicy, as_of: int) -> TeeClaims:
    """What evidence of a simulated TEE says at ``as_of`` (Unix seconds). In this order:

    1. The evidence is of a simulated TEE, and the policy accepts such evidence.
    2. Quote and GPU report are signed with the published key, and all parts are readable.
    3. The quote is in date.
    4. The event log replays to the register in the quote.
    5. The log names one model before it names the keys, and these are the keys in report_data.

    Raises:
        ReceiptError: of check "appraisal" (1 to 4), "measured-model" or "keys-bound" (5).
    """
    # 1. The evidence is of a simulated TEE, and the policy accepts such evidence.
    if evidence.get("kind") != KIND:
        raise ReceiptError("appraisal", f"evidence of kind {evidence.get('kind')!r}", f"{KIND!r}")
    if policy.allow_simulated is not True:
        raise ReceiptError("appraisal", "evidence of a simulated TEE", "hardware (the policy has no allow_simulated)")

    # 2. Quote and GPU report are signed with the published key, and all parts are readable.
    try:
        quote, gpu_report = dict(evidence["quote"]), dict(evidence["gpu_report"])
        log = list(evidence["event_log"])
        _check_signature("simulated-quote", quote, {"report_data", "rtmr3", "issued_at", "expires_at"})
        _check_signature("simulated-gpu-report", gpu_report, {"nonce"})
        report_data = from_hex(quote["report_data"], length=64, what="report_data")
        register = from_hex(quote["rtmr3"], length=48, what="rtmr3")
        gpu_nonce = from_hex(gpu_report["nonce"], length=32, what="GPU nonce")
        begin, end = int(quote["issued_at"]), int(quote["expires_at"])
        replayed = replay_log(log)
    except (KeyError, TypeError, ValueError, AttributeError, InputError) as error:
        raise ReceiptError("appraisal", f"unreadable evidence ({error})", "quote, gpu_report and event_log") from error

    # 3. The quote is in date.
    if not begin <= as_of < end:
        raise ReceiptError("appraisal", f"time {as_of}", f"within the quote's {begin} to {end}")

    # 4. The event log replays to the register in the quote.
    if replayed != register:
        raise ReceiptError("appraisal", f"event log that replays to {replayed.hex()}", f"rtmr3 {register.hex()}")

    # 5. The log names one model before it names the keys, and these are the keys in report_data.
    model = measured_model(log)
    released = next(event["payload"] for event in log if event["event"] == KEYS_EVENT)
    if released != report_data[:32].hex():
        raise ReceiptError("keys-bound", f"keys {released} released", f"those in report_data, {report_data[:32].hex()}")
    return TeeClaims(report_data, gpu_nonce, model, simulated=True)


def replay_log(log: Sequence[Mapping[str, Any]]) -> bytes:
    """48-byte register after the events of ``log``, by ``attestation.eventlog``'s rule for RTMR3.

    The log states no digests: they are computed from each event's name and payload (hex).

    Raises:
        InputError: an entry has other keys than ``event`` and ``payload``, or a payload that is not
            hex.
    """
    events = []
    for entry in log:
        fields = json_object(entry, ("event", "payload"), what="event log")
        payload = from_hex(fields["payload"], what="event payload")
        events.append(Event(3, RUNTIME_EVENT, b"", fields["event"], payload))
    return EventLog(b"", tuple(events)).replay(3)


def signer(root: bytes) -> Ed25519PrivateKey:
    """The key that signs simulated evidence, from its 32-byte seed."""
    return Ed25519PrivateKey.from_private_bytes(root)


def _check_signature(tag: str, fields: dict[str, Any], names: set[str]) -> None:
    """Take ``signature`` out of ``fields`` and check it under the published test root."""
    signature = from_hex(fields.pop("signature"), length=64, what=f"{tag} signature")
    if fields.keys() != names:
        raise ReceiptError("appraisal", f"{tag} with {sorted(fields)}", f"{sorted(names)}")
    try:
        signer(TEST_ROOT).public_key().verify(signature, tagged_json_hash(tag, fields))
    except InvalidSignature as error:
        raise ReceiptError("appraisal", f"{tag} not signed by the simulated root", "its signature") from error
