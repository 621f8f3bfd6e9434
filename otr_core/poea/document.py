"""The receipt file ("otr-receipt/2"): one JSON document with all that ``verify_receipt`` needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from otr_core.encoding import canonical_json, json_object, json_value, parse_canonical, strict_hex
from otr_core.errors import InputError, OtrError
from otr_core.poea.manifest import ModelManifest
from otr_core.poea.message import Message
from otr_core.poea.order import Order
from otr_core.poea.receipt import AttestedKeys, Receipt

FORMAT = "otr-receipt/2"

_MOST_HASHES = 64  # a consistency proof of two trees of up to 2^32 leaves has fewer


@dataclass(frozen=True)
class ReceiptFile:
    """An answer with its receipt and evidence.

    Attributes:
        order: what was ordered, as the answering side states it; a client compares with its own.
        model: manifest behind the order's model id.
        query, response: as they travelled, sealed or plain.
        prompt_proof: hashes that show the ordered prompt's tree to be the beginning of the trace's
            token tree (RFC 6962 section 2.1.2), without showing a token.
        configuration: exact description of how the answer was computed.
        receipt, signature: what the TEE signed, and the 65 bytes of its signature.
        keys, evidence: the TEE's public keys, and what attests them.
    """

    order: Order
    model: ModelManifest
    query: Message
    response: Message
    prompt_proof: tuple[bytes, ...]
    configuration: Mapping[str, Any]
    receipt: Receipt
    signature: bytes
    keys: AttestedKeys
    evidence: Mapping[str, Any]

    def dump(self) -> bytes:
        """The document as canonical JSON and a line end: the only form in which it is read."""
        parts = {own.name: json_value(getattr(self, own.name)) for own in fields(self)}
        parts["prompt_proof"] = [each.hex() for each in self.prompt_proof]
        return canonical_json({"format": FORMAT, **parts}) + b"\n"


_PARTS = ("format", *(field.name for field in fields(ReceiptFile)))


def load_receipt_file(raw: bytes) -> ReceiptFile:
    """Read a receipt file. Whether to believe it is decided by ``verify_receipt``, not here.

    Raises:
        InputError: not canonical JSON, another format, or parts missing, extra or of the wrong
            form.
    """
    document = parse_canonical(raw, FORMAT, _PARTS, what="receipt file")
    for name in ("configuration", "evidence"):
        json_object(document[name], what=f"receipt file {name}")
    proof = document["prompt_proof"]
    if not isinstance(proof, list) or len(proof) > _MOST_HASHES:
        raise InputError(f"receipt file prompt_proof: expected a list of at most {_MOST_HASHES} hashes")
    try:
        return ReceiptFile(
            order=Order.from_json(document["order"]),
            model=ModelManifest.from_json(document["model"]),
            query=Message.from_json("query", document["query"]),
            response=Message.from_json("response", document["response"]),
            prompt_proof=tuple(strict_hex(each, length=32, what="receipt file prompt_proof") for each in proof),
            configuration=document["configuration"],
            receipt=Receipt.from_json(document["receipt"]),
            signature=strict_hex(document["signature"], length=65, what="receipt file signature"),
            keys=AttestedKeys.from_json(document["keys"]),
            evidence=document["evidence"],
        )
    except InputError as error:
        raise InputError(str(error) if str(error).startswith("receipt file") else f"receipt file: {error}") from error
    except OtrError as error:
        raise InputError(f"receipt file: {error}") from error
