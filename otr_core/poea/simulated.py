"""A *simulated* TEE: same evidence, same checks, no hardware. Whoever reads this file can forge it, hence its name: a
policy that does not say ``allow_simulated`` refuses it.

Its evidence has the shape of the real thing: a quote whose report_data is H("keys", public keys) ‖ GPU nonce, a GPU
report that carries the same nonce, and an event log whose replay gives a measured register (as TDX RTMR3, SHA-384). The
model's id is extended into the register before the serving keys are, so the log names the model the keys speak for.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from otr_core.encoding import from_hex, tagged_hash, tagged_json_hash
from otr_core.errors import InputError, ReceiptError
from otr_core.poea.receipt import AttestedKeys

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KIND = "simulated"
#: A simulated quote is good for one day, so that time means something here as well.
LIFETIME_S = 86_400

MODEL_EVENT, KEYS_EVENT = "otr-model", "otr-keys"
_APPLICATION_EVENT = 0x08000001  # the event type that dstack uses for application events in RTMR3


class EvidencePolicy(Protocol):
    """What ``verify_receipt`` asks of a policy: whether evidence of a simulated TEE is acceptable at all."""

    @property
    def allow_simulated(self) -> bool: ...


@dataclass(frozen=True)
class TeeClaims:
    """What appraised evidence says, whatever TEE it came from.

    Attributes:
        report_data: 64 bytes that the guest chose. gpu_nonce: 32 bytes out of the GPU's signed report.
        measured_model: model id out of the replayed event log.
        simulated: no hardware stands behind it.
    """

    report_data: bytes
    gpu_nonce: bytes
    measured_model: bytes
    simulated: bool


#: ``appraiser(evidence, policy, as_of)`` gives what the evidence says or raises ``ReceiptError("appraisal", …)``.
Appraiser = Callable[[Mapping[str, Any], EvidencePolicy, int], TeeClaims]


@dataclass(frozen=True)
class SimulatedEnclave:
    """A booted simulated TEE that has loaded one model.

    Attributes:
        secret: 32 bytes from which its keys and trace salts derive; a real one never leaves the TEE.
        model_id: 32 bytes, measured at boot. gpu_nonce: 32 bytes. issued_at: Unix seconds of its quote.
        root: 32-byte seed of the key that signs its evidence; the default is the published test root.
    """

    secret: bytes
    model_id: bytes
    gpu_nonce: bytes
    issued_at: int
    root: bytes = hashlib.sha256(b"otr simulated TEE test root: not a secret").digest()

    def __post_init__(self) -> None:
        for name in ("secret", "model_id", "gpu_nonce", "root"):
            if len(getattr(self, name)) != 32:
                raise InputError(f"simulated enclave {name}: found {len(getattr(self, name))} bytes, expected 32")

    @property
    def signing_key(self) -> bytes:
        """32-byte secp256k1 secret, below the group order except with chance 2^-128."""
        return self.derive("signing")

    @property
    def hpke_key(self) -> bytes:
        """32-byte X25519 secret."""
        return self.derive("hpke")

    @functools.cached_property
    def keys(self) -> AttestedKeys:
        """The public keys, as bound by the quote."""
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        from otr_core.poea.sealing import hpke_public

        public = ec.derive_private_key(int.from_bytes(self.signing_key, "big"), ec.SECP256K1()).public_key()
        raw = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return AttestedKeys(raw, hpke_public(self.hpke_key))

    def derive(self, purpose: str, context: bytes = b"") -> bytes:
        """32 secret bytes for one purpose (HMAC-SHA256 under the enclave's secret)."""
        return hmac.digest(self.secret, tagged_hash(f"enclave-{purpose}", context), "sha256")

    def evidence(self) -> dict[str, Any]:
        """Quote, GPU report and event log, as JSON values."""
        log = [_event(MODEL_EVENT, self.model_id), _event(KEYS_EVENT, self.keys.digest)]
        quote = {
            "report_data": (self.keys.digest + self.gpu_nonce).hex(),
            "rtmr3": replay(log).hex(),
            "issued_at": self.issued_at,
            "expires_at": self.issued_at + LIFETIME_S,
        }
        gpu_report = {"nonce": self.gpu_nonce.hex()}
        return {
            "kind": KIND,
            "quote": {**quote, "signature": self._sign("simulated-quote", quote)},
            "gpu_report": {**gpu_report, "signature": self._sign("simulated-gpu-report", gpu_report)},
            "event_log": log,
        }

    def _sign(self, tag: str, fields: Mapping[str, Any]) -> str:
        return _signer(self.root).sign(tagged_json_hash(tag, fields)).hex()


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
        replayed = replay(log)
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


def replay(log: Sequence[Mapping[str, Any]]) -> bytes:
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


def measured_model(log: Sequence[Mapping[str, Any]]) -> bytes:
    """The one model id that the log names before it names the keys.

    Raises:
        ReceiptError: check "measured-model": no model, two models, or keys released before the model was measured.
    """
    names = [event["event"] for event in log]
    if [name for name in names if name in (MODEL_EVENT, KEYS_EVENT)] != [MODEL_EVENT, KEYS_EVENT]:
        raise ReceiptError("measured-model", f"events {names}", f"one {MODEL_EVENT}, then one {KEYS_EVENT}")
    return from_hex(log[names.index(MODEL_EVENT)]["payload"], what="measured model id")


def _event(name: str, payload: bytes) -> dict[str, str]:
    return {"event": name, "payload": payload.hex()}


def _signer(root: bytes) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(root)


def _check_signature(tag: str, fields: dict[str, Any], names: set[str]) -> None:
    """Take ``signature`` out of ``fields`` and check it under the published test root."""
    from cryptography.exceptions import InvalidSignature

    signature = from_hex(fields.pop("signature"), length=64, what=f"{tag} signature")
    if fields.keys() != names:
        raise ReceiptError("appraisal", f"{tag} with {sorted(fields)}", f"{sorted(names)}")
    try:
        _signer(SimulatedEnclave.root).public_key().verify(signature, tagged_json_hash(tag, fields))
    except InvalidSignature as error:
        raise ReceiptError("appraisal", f"{tag} not signed by the simulated root", "its signature") from error
