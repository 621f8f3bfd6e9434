"""The PoEA receipt: what a TEE signs about one answer, as canonical JSON and as EIP-712 typed data.

The paper's own formula is not public to us; this definition is ours. Digests are tagged SHA-256
(``otr_core.encoding``); the signature is secp256k1 over the EIP-712 hash, so that a contract recovers the signer with
``ecrecover``.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from otr_core.encoding import canonical_json, from_hex, tagged_hash, tagged_json_hash
from otr_core.errors import InputError, OtrError, ReceiptError
from otr_core.lane.sampling import Decoding
from otr_core.poea.trace import Trace, TraceShape

#: Order of the secp256k1 group (SEC 2, section 2.4.1).
_CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

#: EIP-712 domain. A job id belongs to one contract on one chain, so the domain needs neither.
DOMAIN = {"name": "Optimistic TEE-Rollup receipt", "version": "1"}

#: EIP-712 members of the struct ``Receipt``: name and type, in order.
TYPED_FIELDS = (
    ("jobId", "bytes32"),
    ("nonce", "bytes32"),
    ("modelId", "bytes32"),
    ("queryDigest", "bytes32"),
    ("maxTokens", "uint32"),
    ("seed", "uint64"),
    ("temperatureMilli", "uint32"),
    ("responseDigest", "bytes32"),
    ("tracePositions", "uint32"),
    ("traceLayers", "uint32"),
    ("traceOutputBytes", "uint32"),
    ("traceKvBytes", "uint32"),
    ("traceRoot", "bytes32"),
    ("configurationDigest", "bytes32"),
    ("keyId", "bytes32"),
)


@dataclass(frozen=True)
class Message:
    """A query or a response as it travels: sealed bytes, or (only where privacy is not asked for) a plain document.

    Attributes:
        role: "query" or "response".
        plain: the document, when it travels in the clear. sealed: HPKE output, when it does not. Exactly one is set.
    """

    role: str
    plain: Mapping[str, Any] | None = None
    sealed: bytes | None = None

    def __post_init__(self) -> None:
        if self.role not in ("query", "response"):
            raise InputError(f"message role: found {self.role!r}, expected 'query' or 'response'")
        if (self.plain is None) == (self.sealed is None):
            raise InputError(f"{self.role}: expected either a plain document or sealed bytes")

    @property
    def digest(self) -> bytes:
        """H("query", bytes) or H("response", bytes); sealed bytes have tags of their own."""
        if self.sealed is not None:
            return tagged_hash(f"sealed-{self.role}", self.sealed)
        return tagged_hash(self.role, canonical_json(self.plain))

    def to_json(self) -> dict[str, Any]:
        return {"plain": dict(self.plain)} if self.plain is not None else {"sealed": (self.sealed or b"").hex()}

    @classmethod
    def from_json(cls, role: str, document: Any) -> Message:
        if isinstance(document, dict) and document.keys() == {"plain"} and isinstance(document["plain"], dict):
            return cls(role, plain=document["plain"])
        if isinstance(document, dict) and document.keys() == {"sealed"}:
            return cls(role, sealed=from_hex(document["sealed"], what=f"sealed {role}"))
        raise InputError(f"{role}: expected an object with one key, 'plain' or 'sealed'")


@dataclass(frozen=True)
class Job:
    """What the client ordered: 32-byte ``job_id``, ``nonce``, ``model_id``, ``query_digest``, and decoding parameters.

    The query's digest is part of the order, so that an answer to another query is no answer to this job.
    """

    job_id: bytes
    nonce: bytes
    model_id: bytes
    query_digest: bytes
    decoding: Decoding

    def __post_init__(self) -> None:
        _check_digests(self, "job")

    def to_json(self) -> dict[str, Any]:
        return _to_json(self)

    @classmethod
    def from_json(cls, document: Any) -> Job:
        return cls(**_from_json(cls, document, "job"))


@dataclass(frozen=True)
class AttestedKeys:
    """Public keys of a TEE: secp256k1 (65 bytes, uncompressed) to sign with, X25519 (32 bytes) to be sealed to."""

    signing: bytes
    hpke: bytes

    def __post_init__(self) -> None:
        if len(self.signing) != 65 or self.signing[0] != 4:
            raise InputError(f"signing key: found {len(self.signing)} bytes, expected 65 beginning with 04")
        if len(self.hpke) != 32:
            raise InputError(f"HPKE key: found {len(self.hpke)} bytes, expected 32")

    @property
    def digest(self) -> bytes:
        """H("keys", both public keys): the first half of report_data, and the receipt's key id."""
        return tagged_json_hash("keys", self.to_json())

    @property
    def address(self) -> bytes:
        """20-byte Ethereum address of the signing key."""
        return keccak256(self.signing[1:])[12:]

    def to_json(self) -> dict[str, str]:
        return {"signing": self.signing.hex(), "hpke": self.hpke.hex()}

    @classmethod
    def from_json(cls, document: Any) -> AttestedKeys:
        if not isinstance(document, dict) or document.keys() != {"signing", "hpke"}:
            raise InputError("keys: expected an object with 'signing' and 'hpke'")
        return cls(from_hex(document["signing"], what="signing key"), from_hex(document["hpke"], what="HPKE key"))


@dataclass(frozen=True)
class Receipt:
    """One answer, bound to job, model, query, decoding parameters, trace and key. All digests are 32 bytes.

    Attributes:
        configuration_digest: H("configuration", …) over the exact description of how it was computed.
        key_id: ``AttestedKeys.digest`` of the signer.
    """

    job_id: bytes
    nonce: bytes
    model_id: bytes
    query_digest: bytes
    decoding: Decoding
    response_digest: bytes
    trace: TraceShape
    trace_root: bytes
    configuration_digest: bytes
    key_id: bytes

    def __post_init__(self) -> None:
        _check_digests(self, "receipt")

    def to_json(self) -> dict[str, Any]:
        return _to_json(self)

    @classmethod
    def from_json(cls, document: Any) -> Receipt:
        return cls(**_from_json(cls, document, "receipt"))

    def typed_values(self) -> dict[str, Any]:
        """Values of ``TYPED_FIELDS``, in order."""
        values = (
            self.job_id,
            self.nonce,
            self.model_id,
            self.query_digest,
            self.decoding.max_tokens,
            self.decoding.seed,
            self.decoding.temperature_milli,
            self.response_digest,
            self.trace.positions,
            self.trace.layers,
            self.trace.output_bytes,
            self.trace.kv_bytes,
            self.trace_root,
            self.configuration_digest,
            self.key_id,
        )
        return {name: value for (name, _), value in zip(TYPED_FIELDS, values, strict=True)}

    def typed_data(self) -> dict[str, Any]:
        """The EIP-712 document that wallets and ``eth_account`` take; its hash is ``signing_hash``."""
        return {
            "types": {
                "EIP712Domain": [{"name": name, "type": "string"} for name in DOMAIN],
                "Receipt": [{"name": name, "type": kind} for name, kind in TYPED_FIELDS],
            },
            "primaryType": "Receipt",
            "domain": dict(DOMAIN),
            "message": self.typed_values(),
        }

    def signing_hash(self) -> bytes:
        """keccak256(0x1901 ‖ domain separator ‖ struct hash), EIP-712; every member is one 32-byte word."""
        words = [
            value if isinstance(value, bytes) else value.to_bytes(32, "big") for value in self.typed_values().values()
        ]
        struct_hash = keccak256(type_hash() + b"".join(words))
        return keccak256(b"\x19\x01" + domain_separator() + struct_hash)


@dataclass(frozen=True)
class SignedReceipt:
    """A receipt and its signature: r ‖ s ‖ v, 65 bytes, v 27 or 28, s in the lower half of the group order."""

    receipt: Receipt
    signature: bytes


def issue_receipt(
    signing_key: bytes, keys: AttestedKeys, job: Job, response: Message, trace: Trace, configuration: Mapping[str, Any]
) -> SignedReceipt:
    """Sign what was done for ``job``. Deterministic (RFC 6979).

    Args:
        signing_key: 32-byte secret scalar whose public half is ``keys.signing``.
        trace: the committed trace of the answer.
        configuration: ``Answer.configuration``.
    """
    from eth_keys import keys as eth_keys

    receipt = Receipt(
        job_id=job.job_id,
        nonce=job.nonce,
        model_id=job.model_id,
        query_digest=job.query_digest,
        decoding=job.decoding,
        response_digest=response.digest,
        trace=trace.shape,
        trace_root=trace.root,
        configuration_digest=configuration_digest(configuration),
        key_id=keys.digest,
    )
    return sign_receipt(eth_keys.PrivateKey(signing_key), receipt)


def sign_receipt(signing_key: Any, receipt: Receipt) -> SignedReceipt:
    """Signature of ``receipt`` under an ``eth_keys`` private key, whatever the receipt says."""
    signature = signing_key.sign_msg_hash(receipt.signing_hash())
    raw = signature.r.to_bytes(32, "big") + signature.s.to_bytes(32, "big") + bytes([27 + signature.v])
    return SignedReceipt(receipt, raw)


def recover_signer(receipt: Receipt, signature: bytes) -> bytes:
    """20-byte address that ``ecrecover`` gives for this receipt and signature; malleable forms are refused.

    Raises:
        ReceiptError: check "signature": not 65 bytes, s in the upper half (EIP-2), v not 27 or 28, or no such point.
    """
    from eth_keys import keys as eth_keys
    from eth_keys.exceptions import BadSignature, ValidationError

    if len(signature) != 65:
        raise ReceiptError("signature", f"{len(signature)} bytes", "65 bytes r ‖ s ‖ v")
    r, s, v = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big"), signature[64]
    if v not in (27, 28) or not 0 < r < _CURVE_ORDER or not 0 < s <= _CURVE_ORDER // 2:
        raise ReceiptError("signature", f"v {v} or r, s out of range", "v 27 or 28, s in the lower half of the order")
    try:
        public = eth_keys.Signature(vrs=(v - 27, r, s)).recover_public_key_from_msg_hash(receipt.signing_hash())
    except (BadSignature, ValidationError, ValueError) as error:
        raise ReceiptError("signature", f"no key ({error})", "a signature by the attested key") from error
    return bytes(public.to_canonical_address())


def configuration_digest(configuration: Mapping[str, Any]) -> bytes:
    """H("configuration", …)."""
    return tagged_json_hash("configuration", dict(configuration))


def keccak256(data: bytes) -> bytes:
    """Keccak-256 as Ethereum uses it (not SHA3-256: the padding differs)."""
    from Crypto.Hash import keccak

    return keccak.new(digest_bits=256, data=data).digest()


@functools.cache
def domain_separator() -> bytes:
    """EIP-712 hash of ``DOMAIN``, a constant that a contract can hold."""
    kind = keccak256(b"EIP712Domain(string name,string version)")
    return keccak256(kind + b"".join(keccak256(value.encode()) for value in DOMAIN.values()))


@functools.cache
def type_hash() -> bytes:
    """EIP-712 hash of the struct's type, another."""
    return keccak256(f"Receipt({','.join(f'{kind} {name}' for name, kind in TYPED_FIELDS)})".encode())


def _check_digests(value: Any, what: str) -> None:
    for field in fields(value):
        content = getattr(value, field.name)
        if field.type == "bytes" and (not isinstance(content, bytes) or len(content) != 32):
            raise InputError(f"{what} {field.name}: expected 32 bytes")


def _to_json(value: Any) -> dict[str, Any]:
    contents = {field.name: getattr(value, field.name) for field in fields(value)}
    return {name: item.hex() if isinstance(item, bytes) else item.to_json() for name, item in contents.items()}


def _from_json(cls: type, document: Any, what: str) -> dict[str, Any]:
    """Constructor arguments out of a JSON object with exactly the class's fields."""
    names = {field.name: field.type for field in fields(cls)}
    if not isinstance(document, dict) or document.keys() != names.keys():
        keys = sorted(document) if isinstance(document, dict) else type(document).__name__
        raise InputError(f"{what}: found {keys}, expected an object with {sorted(names)}")
    result: dict[str, Any] = {}
    for name, kind in names.items():
        if kind == "bytes":
            result[name] = from_hex(document[name], length=32, what=f"{what} {name}")
        else:
            parts = {"Decoding": Decoding, "TraceShape": TraceShape}
            try:
                result[name] = parts[str(kind)](**document[name])
            except (TypeError, OtrError) as error:
                raise InputError(f"{what} {name}: {error}") from error
    return result
