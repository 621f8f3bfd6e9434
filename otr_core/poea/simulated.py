"""A *simulated* TEE: evidence in the shape of the real thing, signed with a published key.

Such evidence must pass checks like those on hardware evidence, but nobody needs hardware for it:
whoever reads this file can forge it. That is why it is called simulated, and why a policy that does
not say ``allow_simulated`` refuses it.

The evidence consists of a quote whose report_data is H("keys", public keys) ‖ GPU nonce, a GPU
report that carries the same nonce, and an event log whose replay gives a measured register (by the
rule of TDX RTMR3). The model's id is extended into the register before the serving keys are, so
that the log names the model which the keys speak for; an event of its own ends start-up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from otr_core.attestation.eventlog import MAX_EVENTS, RUNTIME_EVENT, Event, EventLog
from otr_core.encoding import json_object, strict_hex, tagged_json_hash
from otr_core.errors import InputError, ReceiptError
from otr_core.poea.tee import EvidencePolicy, TeeClaims, evidence_policy, measured_model

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

    Every part is an object of exactly its members, numbers are integers, and bytes are lower-case
    hex: there is one way to write the same evidence.

    Raises:
        ReceiptError: of check "appraisal" (1 to 4), "measured-model" or "keys-bound" (5).
        PolicyError: ``policy`` is none for evidence of receipts.
    """
    # 1. The evidence is of a simulated TEE, and the policy accepts such evidence.
    if evidence.get("kind") != KIND:
        raise ReceiptError("appraisal", f"evidence of kind {str(evidence.get('kind'))[:40]!r}", f"{KIND!r}")
    if evidence_policy(policy).allow_simulated is not True:
        raise ReceiptError("appraisal", "evidence of a simulated TEE", "hardware (the policy has no allow_simulated)")

    # 2. Quote and GPU report are signed with the published key, and all parts are readable.
    try:
        json_object(evidence, ("kind", "quote", "gpu_report", "event_log"), what="evidence")
        log = evidence["event_log"]
        quote = _signed(evidence["quote"], "simulated-quote", ("report_data", "rtmr3", "issued_at", "expires_at"))
        gpu_report = _signed(evidence["gpu_report"], "simulated-gpu-report", ("nonce",))
        report_data = strict_hex(quote["report_data"], length=64, what="report_data")
        register = strict_hex(quote["rtmr3"], length=48, what="rtmr3")
        gpu_nonce = strict_hex(gpu_report["nonce"], length=32, what="GPU nonce")
        begin, end = (_integer(quote[name], name) for name in ("issued_at", "expires_at"))
        replayed = replay_log(log)
    except InputError as error:
        raise ReceiptError("appraisal", f"unreadable evidence ({error})", "quote, gpu_report and event_log") from error

    # 3. The quote is in date.
    if not begin <= as_of < end:
        raise ReceiptError("appraisal", f"time {as_of}", f"within the quote's {begin} to {end}")

    # 4. The event log replays to the register in the quote.
    if replayed != register:
        raise ReceiptError("appraisal", f"event log that replays to {replayed.hex()}", f"rtmr3 {register.hex()}")

    # 5. The log names one model before it names the keys, and these are the keys in report_data.
    return TeeClaims(report_data, gpu_nonce, measured_model(log, policy.boundary, report_data), simulated=True)


def replay_log(log: Any) -> bytes:
    """48-byte register after the events of ``log``, by ``attestation.eventlog``'s rule for RTMR3.

    The log states no digests: they are computed from each event's name and payload (hex).

    Raises:
        InputError: not a list of at most ``MAX_EVENTS``, an entry has other keys than ``event`` and
            ``payload``, a name that is no text or has a colon, or a payload that is not hex.
    """
    if not isinstance(log, list) or len(log) > MAX_EVENTS:
        raise InputError(f"event log: expected a list of at most {MAX_EVENTS} events")
    events = []
    for entry in log:
        fields = json_object(entry, ("event", "payload"), what="event log")
        name = fields["event"]
        if not isinstance(name, str) or not name.isprintable() or ":" in name:
            raise InputError(f"event: found {str(name)[:40]!r}, expected a printable name without a colon")
        events.append(Event(3, RUNTIME_EVENT, b"", name, strict_hex(fields["payload"], what="event payload")))
    return EventLog(b"", tuple(events)).replay(3)


def signer(root: bytes) -> Ed25519PrivateKey:
    """The key that signs simulated evidence, from its 32-byte seed."""
    return Ed25519PrivateKey.from_private_bytes(root)


def _integer(value: Any, what: str) -> int:
    if type(value) is not int:  # True and 1.0 equal 1, and are other documents
        raise InputError(f"{what}: found {str(value)[:40]!r}, expected an integer")
    return value


def _signed(part: Any, tag: str, names: Sequence[str]) -> dict[str, Any]:
    """The members ``names`` of ``part``, after checking its signature under the test root."""
    fields = dict(json_object(part, (*names, "signature"), what=tag))
    signature = strict_hex(fields.pop("signature"), length=64, what=f"{tag} signature")
    try:
        signer(TEST_ROOT).public_key().verify(signature, tagged_json_hash(tag, fields))
    except InvalidSignature as error:
        raise ReceiptError("appraisal", f"{tag} not signed by the simulated root", "its signature") from error
    return fields
