"""The receipt file ("otr-receipt/1"): one JSON document with all that ``verify_receipt`` needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from otr_core.encoding import canonical_json, from_hex, json_object, json_value, parse_json
from otr_core.errors import InputError, OtrError
from otr_core.poea.manifest import ModelManifest
from otr_core.poea.receipt import AttestedKeys, Job, Message, Receipt

FORMAT = "otr-receipt/1"


@dataclass(frozen=True)
class ReceiptFile:
    """An answer with its receipt and evidence.

    Attributes:
        job: the order, as the answering side states it; a client compares with its own copy.
        model: manifest behind the receipt's model id.
        query, response: as they travelled, sealed or plain.
        configuration: exact description of how the answer was computed.
        receipt, signature: what the TEE signed, and the 65 bytes of its signature.
        keys, evidence: the TEE's public keys, and what attests them.
    """

    job: Job
    model: ModelManifest
    query: Message
    response: Message
    configuration: Mapping[str, Any]
    receipt: Receipt
    signature: bytes
    keys: AttestedKeys
    evidence: Mapping[str, Any]

    def dump(self) -> bytes:
        """The document as canonical JSON and a line end."""
        parts = {name: json_value(part) for name, part in vars(self).items()}
        return canonical_json({"format": FORMAT, **parts}) + b"\n"


_PARTS = ("format", *(field.name for field in fields(ReceiptFile)))


def load_receipt_file(raw: bytes) -> ReceiptFile:
    """Read a receipt file. Whether to believe it is decided by ``verify_receipt``, not here.

    Raises:
        InputError: not JSON, another format, or parts missing, extra or of the wrong form.
    """
    document = parse_json(raw, what="receipt file")
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        found = document.get("format") if isinstance(document, dict) else type(document).__name__
        raise InputError(
            f"receipt file: found format {found!r}, expected {FORMAT!r} (as written by: otr infer --out F)"
        )
    json_object(document, _PARTS, what="receipt file")
    for name in ("model", "configuration", "evidence"):
        json_object(document[name], what=f"receipt file {name}")
    try:
        return ReceiptFile(
            job=Job.from_json(document["job"]),
            model=ModelManifest.from_json(document["model"]),
            query=Message.from_json("query", document["query"]),
            response=Message.from_json("response", document["response"]),
            configuration=document["configuration"],
            receipt=Receipt.from_json(document["receipt"]),
            signature=from_hex(document["signature"], what="signature"),
            keys=AttestedKeys.from_json(document["keys"]),
            evidence=document["evidence"],
        )
    except InputError:
        raise
    except OtrError as error:
        raise InputError(f"receipt file: {error}") from error
