"""The PoEA receipt: what a TEE signs about one answer, as canonical JSON and as EIP-712 typed data.

The paper's own formula is not public to us; this definition is ours. A receipt is the *statement of
an answer* (which order, how long, how it ended, the roots of its states and tokens, its bytes, how
it was computed) with the id of the key that signs it. The signature is secp256k1 over the EIP-712
hash under the order's domain, so that a contract can recover the signer with ``ecrecover``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from coincurve import PrivateKey, PublicKey

from otr_core import merkle
from otr_core.encoding import tagged_json_hash
from otr_core.errors import InputError, ReceiptError
from otr_core.poea.message import Message
from otr_core.poea.order import Document, Domain, Members, Order, keccak256, struct_hash
from otr_core.poea.trace import Trace, TraceShape

#: How an answer ended, by the number that stands for it in typed data: the most tokens ordered were
#: chosen, or the last one is a stop token of the model.
FINISHES = ("length", "stop")

#: Order of the group of secp256k1 (SEC 2, section 2.4.1).
GROUP_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@dataclass(frozen=True)
class AttestedKeys(Document):
    """Public keys of a TEE: secp256k1 (65 bytes, uncompressed) to sign, X25519 (32) to seal to."""

    what = "keys"
    lengths: ClassVar[Mapping[str, int]] = {"signing": 65}
    signing: bytes
    hpke: bytes

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.signing[0] != 4:
            raise InputError(f"keys signing: found a first byte {self.signing[0]}, expected 4 (an uncompressed point)")

    @property
    def digest(self) -> bytes:
        """H("keys", both public keys): the first half of report_data, and the receipt's key id."""
        return tagged_json_hash("keys", self.to_json())

    @property
    def address(self) -> bytes:
        """20-byte Ethereum address of the signing key."""
        return keccak256(self.signing[1:])[12:]


@dataclass(frozen=True)
class Receipt(Document):
    """The statement of one answer, and who makes it.

    Attributes:
        order_id: ``Order.id``: all that was ordered.
        prompt_tokens, answer_tokens: how many tokens were given, and how many chosen.
        finish: one of ``FINISHES``.
        states_root, tokens_root, seed_hash: the three hashes under the trace root.
        response_digest: ``Message.digest`` of the answer.
        lane: in which it was computed. layers, output_bytes, kv_bytes: shape of the trace.
        configuration_digest: H("configuration", …) over the exact description of how the answer was
            computed.
        key_id: ``AttestedKeys.digest`` of the signer.
    """

    what = "receipt"
    members: ClassVar[Members] = (
        ("orderId", "bytes32", "order_id"),
        ("promptTokens", "uint32", "prompt_tokens"),
        ("answerTokens", "uint32", "answer_tokens"),
        ("finish", "uint8", "finish_number"),
        ("statesRoot", "bytes32", "states_root"),
        ("tokensRoot", "bytes32", "tokens_root"),
        ("seedHash", "bytes32", "seed_hash"),
        ("responseDigest", "bytes32", "response_digest"),
        ("lane", "string", "lane"),
        ("layers", "uint32", "layers"),
        ("outputBytes", "uint32", "output_bytes"),
        ("kvBytes", "uint32", "kv_bytes"),
        ("configurationDigest", "bytes32", "configuration_digest"),
        ("keyId", "bytes32", "key_id"),
    )
    order_id: bytes
    prompt_tokens: int
    answer_tokens: int
    finish: str
    states_root: bytes
    tokens_root: bytes
    seed_hash: bytes
    response_digest: bytes
    lane: str
    layers: int
    output_bytes: int
    kv_bytes: int
    configuration_digest: bytes
    key_id: bytes

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.finish not in FINISHES:
            raise InputError(f"receipt finish: found {self.finish!r}, expected one of {', '.join(FINISHES)}")
        for name in ("prompt_tokens", "answer_tokens", "layers", "output_bytes", "kv_bytes"):
            if not getattr(self, name):
                raise InputError(f"receipt {name}: found 0, expected at least 1")

    @property
    def finish_number(self) -> int:
        return FINISHES.index(self.finish)

    @property
    def positions(self) -> int:
        """Tokens that were fed: all but the last one chosen."""
        return self.prompt_tokens + self.answer_tokens - 1

    @property
    def trace(self) -> TraceShape:
        """Shape of the committed trace."""
        return TraceShape(self.positions, self.layers, self.output_bytes, self.kv_bytes)

    @property
    def trace_root(self) -> bytes:
        """RFC 6962 root over the roots of states and tokens and the seed's hash."""
        return merkle.root_of_hashes([self.states_root, self.tokens_root, self.seed_hash])

    def signing_hash(self, domain: Domain) -> bytes:
        """EIP-712 hash of the receipt under the domain of its order: what is signed, 32 bytes."""
        return domain.hash(struct_hash("Receipt", self))


@dataclass(frozen=True)
class SignedReceipt:
    """A receipt, the order it answers, and its signature r ‖ s ‖ v, 65 bytes (``recover_signer``)."""

    order: Order
    receipt: Receipt
    signature: bytes


def make_receipt(
    order: Order,
    trace: Trace,
    *,
    prompt_tokens: int,
    finish: str,
    response: Message,
    configuration: Mapping[str, Any],
    keys: AttestedKeys,
) -> Receipt:
    """The receipt of an answer with the committed ``trace``.

    Args:
        finish: one of ``FINISHES``. configuration: how the answer was computed; it names its lane.
    """
    return Receipt(
        order_id=order.id,
        prompt_tokens=prompt_tokens,
        answer_tokens=trace.shape.positions + 1 - prompt_tokens,
        finish=finish,
        states_root=trace.states_root,
        tokens_root=trace.tokens_root,
        seed_hash=trace.seed_hash,
        response_digest=response.digest,
        lane=str(configuration["lane"]),
        layers=trace.shape.layers,
        output_bytes=trace.shape.output_bytes,
        kv_bytes=trace.shape.kv_bytes,
        configuration_digest=configuration_digest(configuration),
        key_id=keys.digest,
    )


def sign_receipt(signing_key: bytes, order: Order, receipt: Receipt) -> SignedReceipt:
    """Sign whatever ``receipt`` says, under the domain of ``order``. Deterministic (RFC 6979).

    Args:
        signing_key: 32-byte secret scalar.
    """
    raw = PrivateKey(signing_key).sign_recoverable(receipt.signing_hash(order.domain), hasher=None)
    return SignedReceipt(order, receipt, raw[:64] + bytes([27 + raw[64]]))


def recover_signer(domain: Domain, receipt: Receipt, signature: bytes) -> bytes:
    """``recover_address`` for this receipt under a court's domain."""
    return recover_address(receipt.signing_hash(domain), signature)


def recover_address(digest: bytes, signature: bytes) -> bytes:
    """20-byte address that ``ecrecover`` gives for a 32-byte digest and a signature.

    Every signature (r, s) has a twin (r, order − s) that is valid too; only the one with the lower
    s is taken (EIP-2).

    Raises:
        ReceiptError: of check "signature": not 65 bytes, r or s out of range, v not 27 or 28, or no
            key fits.
    """
    if len(signature) != 65:
        raise ReceiptError("signature", f"{len(signature)} bytes", "65 bytes r ‖ s ‖ v")
    s, v = int.from_bytes(signature[32:64], "big"), signature[64]
    if v not in (27, 28) or s > GROUP_ORDER // 2:
        raise ReceiptError("signature", f"v {v} or s out of range", "v 27 or 28, s in the lower half of the order")
    try:
        raw = signature[:64] + bytes([v - 27])
        public = PublicKey.from_signature_and_message(raw, digest, hasher=None)
    except Exception as error:  # the library raises a plain Exception where no key fits
        raise ReceiptError("signature", f"no key ({error})", "a signature by the attested key") from error
    return keccak256(public.format(compressed=False)[1:])[12:]


def configuration_digest(configuration: Mapping[str, Any]) -> bytes:
    """32-byte H("configuration", …) over the description of how an answer was computed."""
    return tagged_json_hash("configuration", dict(configuration))
