"""A *simulated* enclave: it holds keys, measures a model and signs evidence, without hardware."""

from __future__ import annotations

import functools
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from otr_core.encoding import tagged_hash, tagged_json_hash
from otr_core.errors import InputError
from otr_core.poea.receipt import AttestedKeys
from otr_core.poea.sealing import hpke_public
from otr_core.poea.simulated import KIND, TEST_ROOT, replay_log, signer
from otr_core.poea.tee import BOUNDARY_EVENT, KEYS_EVENT, MODEL_EVENT

#: A simulated quote is good for one day, so that a verifier's clock has something to refuse here as
#: well.
LIFETIME_S = 86_400


@dataclass(frozen=True)
class SimulatedEnclave:
    """A booted simulated TEE that has loaded one model.

    Attributes:
        secret: 32 bytes from which its keys and trace salts derive; a real one never leaves the
            TEE.
        model_id: 32 bytes, measured at boot. gpu_nonce: 32 bytes. issued_at: Unix seconds of its
            quote.
        root: 32-byte seed of the key that signs its evidence; the default is the published test
            root.

    Raises:
        InputError: one of these is not 32 bytes.
    """

    secret: bytes
    model_id: bytes
    gpu_nonce: bytes
    issued_at: int
    root: bytes = TEST_ROOT

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
        public = ec.derive_private_key(int.from_bytes(self.signing_key, "big"), ec.SECP256K1()).public_key()
        raw = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return AttestedKeys(raw, hpke_public(self.hpke_key))

    def derive(self, purpose: str, context: bytes = b"") -> bytes:
        """32 secret bytes for one purpose (HMAC-SHA256 under the enclave's secret)."""
        return hmac.digest(self.secret, tagged_hash(f"enclave-{purpose}", context), "sha256")

    def evidence(self) -> dict[str, Any]:
        """Quote, GPU report and event log, as JSON values."""
        measured = ((MODEL_EVENT, self.model_id), (KEYS_EVENT, self.keys.digest), (BOUNDARY_EVENT, b""))
        log = [{"event": name, "payload": payload.hex()} for name, payload in measured]
        quote = {
            "report_data": (self.keys.digest + self.gpu_nonce).hex(),
            "rtmr3": replay_log(log).hex(),
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
        return signer(self.root).sign(tagged_json_hash(tag, fields)).hex()
