"""The PoEA receipt: what a TEE signs about one answer, as canonical JSON and as EIP-712 typed data.

The paper's own formula is not public to us; this definition is ours. Digests are tagged SHA-256
(``otr_core.encoding``). The signature is secp256k1 over the EIP-712 hash, so that a contract can
recover the signer with ``ecrecover``.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

from Crypto.Hash import keccak

from otr_core.encoding import canonical_json, from_hex, json_object, json_value, tagged_hash, tagged_json_hash
from otr_core.errors import InputError, OtrError, ReceiptError
from otr_core.lane.sampling import Decoding
from otr_core.poea.trace import Trace, TraceShape

#: EIP-712 domain. A job id belongs to one contract on one chain, so the domain repeats neither of
#: them.
DOMAIN = {"name": "Optimistic TEE-Rollup receipt", "version": "1"}

#: EIP-712 members of the struct ``Receipt``, in order: name, type, and the attribute of ``Receipt``
#: that fills it.
TYPED_FIELDS = (
    ("jobId", "bytes32", "job_id"),
    ("nonce", "bytes32", "nonce"),
    ("modelId", "bytes32", "model_id"),
    ("queryDigest", "bytes32", "query_digest"),
    ("maxTokens", "uint32", "decoding.max_tokens"),
    ("seed", "uint64", "decoding.seed"),
    ("temperatureMilli", "uint32", "decoding.temperature_milli"),
    ("responseDigest", "bytes32", "response_digest"),
    ("tracePositions", "uint32", "trace.positions"),
    ("traceLayers", "uint32", "trace.layers"),
    ("traceOutputBytes", "uint32", "trace.output_bytes"),
    ("traceKvBytes", "uint32", "trace.kv_bytes"),
    ("traceRoot", "bytes32", "trace_root"),
    ("configurationDigest", "bytes32", "configuration_digest"),
    ("keyId", "bytes32", "key_id"),
)


@dataclass(frozen=True)
class Message:
    """A query or a response as it travels: sealed bytes, or plain where nobody asked for privacy.

    Attributes:
        role: "query" or "response".
        plain: the document, when it travels in the clear. sealed: HPKE output, when it does not.
            Exactly one is set.
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
        part = "plain" if self.sealed is None else "sealed"
        return {part: json_value(getattr(self, part))}

    @classmethod
    def from_json(cls, role: str, document: Any) -> Message:
        if isinstance(document, dict) and document.keys() == {"plain"} and isinstance(document["plain"], dict):
            return cls(role, plain=document["plain"])
        if isinstance(document, dict) and document.keys() == {"sealed"}:
            return cls(role, sealed=from_hex(document["sealed"], what=f"sealed {role}"))
        raise InputError(f"{role}: expected an object with one key, 'plain' or 'sealed'")


@dataclass(frozen=True)
class Document:
    """A dataclass that travels as a JSON object of its fields, byte strings as hex.

    All byte strings have 32 bytes, unless a subclass says otherwise.
    """

    what: ClassVar[str]
    """What messages call such a document."""

    def __post_init__(self) -> None:
        for field in fields(self):
            content = getattr(self, field.name)
            if field.type == "bytes" and (not isinstance(content, bytes) or len(content) != 32):
                found = f"{len(content)} bytes" if isinstance(content, bytes) else type(content).__name__
                raise InputError(f"{self.what} {field.name}: found {found}, expected 32 bytes")

    def to_json(self) -> dict[str, Any]:
        return {name: json_value(part) for name, part in vars(self).items()}

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """Read ``to_json``'s object.

        Raises:
            InputError: fields are missing or extra, or one of them is not what it should be.
        """
        parts = {"Decoding": Decoding, "TraceShape": TraceShape}
        kinds = {field.name: str(field.type) for field in fields(cls)}
        values: dict[str, Any] = {}
        for name, content in json_object(document, kinds, what=cls.what).items():
            if kinds[name] == "bytes":
                values[name] = from_hex(content, what=f"{cls.what} {name}")
                continue
            try:
                values[name] = parts[kinds[name]](**content)
            except (TypeError, OtrError) as error:
                raise InputError(f"{cls.what} {name}: {error}") from error
        return cls(**values)


@dataclass(frozen=True)
class Job(Document):
    """What the client ordered.

    The query's digest is part of the order, so that an answer to another query is no answer to this
    job.
    """

    what = "job"
    job_id: bytes
    nonce: bytes
    model_id: bytes
    query_digest: bytes
    decoding: Decoding


@dataclass(frozen=True)
class AttestedKeys(Document):
    """Public keys of a TEE: secp256k1 (65 bytes, uncompressed) to sign, X25519 (32) to seal to."""

    what = "keys"
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


@dataclass(frozen=True)
class Receipt(Job):
    """One answer: a receipt repeats the fields of its job, and adds what was done for it.

    Attributes:
        response_digest: ``Message.digest`` of the answer.
        trace, trace_root: shape and root of the committed execution trace.
        configuration_digest: H("configuration", …) over the exact description of how the answer was
            computed.
        key_id: ``AttestedKeys.digest`` of the signer.
    """

    what = "receipt"
    response_digest: bytes
    trace: TraceShape
    trace_root: bytes
    configuration_digest: bytes
    key_id: bytes

    def typed_values(self) -> dict[str, Any]:
        """Values of ``TYPED_FIELDS`` by name, in order: 32-byte strings and unsigned integers."""
        return {name: operator.attrgetter(path)(self) for name, _, path in TYPED_FIELDS}

    def signing_hash(self) -> bytes:
        """keccak256(0x1901 ‖ domain separator ‖ struct hash); every member is one 32-byte word."""
        values = self.typed_values().values()
        words = [value if isinstance(value, bytes) else value.to_bytes(32, "big") for value in values]
        struct_hash = keccak256(type_hash() + b"".join(words))
        return keccak256(b"\x19\x01" + domain_separator() + struct_hash)


@dataclass(frozen=True)
class SignedReceipt:
    """A receipt and its signature: r ‖ s ‖ v, 65 bytes; see ``recover_signer`` for their ranges."""

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
        **vars(job),
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
    """20-byte address that ``ecrecover`` gives for this receipt and signature.

    Every signature (r, s) has a twin (r, order − s) that is valid too; only the one with the lower
    s is taken (EIP-2).

    Raises:
        ReceiptError: of check "signature": not 65 bytes, r or s out of range, v not 27 or 28, or no
            key fits.
    """
    from eth_keys import keys as eth_keys
    from eth_keys.constants import SECPK1_N
    from eth_keys.exceptions import BadSignature, ValidationError

    if len(signature) != 65:
        raise ReceiptError("signature", f"{len(signature)} bytes", "65 bytes r ‖ s ‖ v")
    r, s, v = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big"), signature[64]
    if v not in (27, 28) or not 0 < r < SECPK1_N or not 0 < s <= SECPK1_N // 2:
        raise ReceiptError("signature", f"v {v} or r, s out of range", "v 27 or 28, s in the lower half of the order")
    try:
        public = eth_keys.Signature(vrs=(v - 27, r, s)).recover_public_key_from_msg_hash(receipt.signing_hash())
    except (BadSignature, ValidationError, ValueError) as error:
        raise ReceiptError("signature", f"no key ({error})", "a signature by the attested key") from error
    return bytes(public.to_canonical_address())


def configuration_digest(configuration: Mapping[str, Any]) -> bytes:
    """32-byte H("configuration", …) over the description of how an answer was computed."""
    return tagged_json_hash("configuration", dict(configuration))


def keccak256(data: bytes) -> bytes:
    """Keccak-256 as Ethereum uses it (not SHA3-256: the padding differs)."""
    return keccak.new(digest_bits=256, data=data).digest()


@functools.cache
def domain_separator() -> bytes:
    """EIP-712 domain separator (32 bytes): equal for all receipts, so a contract can hold it."""
    kind = keccak256(b"EIP712Domain(string name,string version)")
    return keccak256(kind + b"".join(keccak256(value.encode()) for value in DOMAIN.values()))


@functools.cache
def type_hash() -> bytes:
    """EIP-712 hash of the type of the struct ``Receipt`` (32 bytes): a contract can hold it too."""
    members = ",".join(f"{kind} {name}" for name, kind, _ in TYPED_FIELDS)
    return keccak256(f"Receipt({members})".encode())
