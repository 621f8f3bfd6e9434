"""Receipts of others: how they are read, and those of ACI (``aci/1``) checked and written.

An ACI receipt is the log of one request, hashes of bodies under an attested Ed25519 key. A
Computation Receipt (CR: ``otr_paper.formats.computation``) is the unsigned hash of a manifest. What each
binds, beside ours: ``receipt_formats``. Sources, whose sections are named below: Dstack-TEE's
private-ai-gateway, ``spec/aci.md``; anomly-labs' computation-receipts, ``spec/CR-v0.1.md``.

Every refusal is a ``ReceiptError`` of one of these checks:

=================  =================================================================================
size               documents, samples and sample spaces are no larger than this reader takes
document           the bytes are one JSON object in UTF-8, no key twice, all of it canonical
field              every member is there and of its kind
version            the version is one of those named above
keyset             ACI 9.3: the keyset shown gives the digest that the receipt names
report-data        ACI 3.2: the quote's report_data is the hash of keyset digest and nonce
keyset-date        ACI 9.1: the keyset has not ended
key, signature     ACI 9.3: key_id names one Ed25519 key of the keyset, and that key signed
events             ACI 7.4: request received first and once, forwarded at most once, response once
request, response  ACI 9.3: the bodies give the hashes in the receipt
session            ACI 9.2: the session shown is cited, holds its evidence, covers the time served
sections           CR 10: a version has its own section and no other's
profile            CR 6.1: the arithmetic declared is the registered profile's
sample, chunk      CR 10, 12: these sections agree with themselves and with the output
certificate        CR 5: the certificate is the digest of the manifest
profile-known      CR 6.1: the profile is registered, so that its claim can be judged
order-independent  CR 6: the arithmetic gives the same bits in every order
recomputation      CR 6: the verifier's own computation gives the same sections
chain              CR 12: chunks follow each other, and a closing receipt counts and hashes them
=================  =================================================================================
"""

from __future__ import annotations

import base64
import csv
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from otr_core.encoding import canonical_json, parse_json
from otr_core.errors import InputError, ReceiptError, one_line
from otr_core.files import data_folder

#: Largest document read, in bytes, and its deepest nesting.
MOST_BYTES, MOST_LEVELS = 2**20, 32

#: Kinds of members: a tuple of types, or a pattern that strings fit.
TEXT, WHOLE, FLAG, LIST, OBJECT = (str,), (int,), (bool,), (list,), (dict,)
SHA256, HEX32, HEX64 = "sha256:[0-9a-f]{64}", "[0-9a-f]{64}", "[0-9a-f]{128}"
_DATA = "data:[^,]*;base64,([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"


def receipt_formats() -> list[dict[str, str]]:
    """What each format binds and leaves open: the rows of ``data/receipt_formats.csv``.

    A cell of ``otr``, ``aci`` or ``computation`` is "bound" (a check refuses another) or "open"
    (nothing refuses another); ``<format>_how`` says by what, ``source`` where the others say so.
    """
    with (data_folder() / "receipt_formats.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def hold(check: str, right: object, found: object, expected: object) -> None:
    """Refuse by this check, in one line, unless ``right``."""
    if not right:
        raise ReceiptError(check, *(ascii(str(text))[1:-1][:200] for text in (found, expected)))


def hold_same(check: str, what: str, found: object, expected: object) -> None:
    """Refuse ``what`` by this check unless it is found as expected."""
    hold(check, found == expected, f"{what} {found}", expected)


def foreign_object(raw: bytes, what: str, *, integers: bool = False) -> dict[str, Any]:
    """The JSON object in ``raw``, in any encoding.

    Args:
        what: what messages call it. integers: its numbers are whole, of any size; otherwise they
            may have fractions and lie within 53 bits (RFC 8785).
    """
    hold("document", isinstance(raw, bytes), f"{what} of {type(raw).__name__}", "bytes")
    hold("size", len(raw) <= MOST_BYTES, f"{what} of {len(raw)} bytes", f"at most {MOST_BYTES}")
    try:
        document = parse_json(raw.decode("utf-8"), what=what)
    except (UnicodeDecodeError, InputError) as error:
        raise ReceiptError("document", one_line(error), f"{what} as JSON in UTF-8") from error
    hold("document", isinstance(document, dict), f"{what} {type(document).__name__}", "an object")
    waiting: list[tuple[tuple[Any, ...], Any]] = [((what,), document)]
    while waiting:
        path, parent = waiting.pop()
        hold("document", len(path) <= MOST_LEVELS, f"{what} of more levels", MOST_LEVELS)
        for key, value in parent.items() if isinstance(parent, dict) else enumerate(parent):
            odd = bool(re.search("[\ud800-\udfff]", f"{key} {value}" if isinstance(value, str) else str(key)))
            if isinstance(value, dict | list):
                waiting.append(((*path, key), value))
            elif isinstance(value, int | float):
                odd |= isinstance(value, float) if integers else not abs(value) < 2**53
            if odd:
                where = ".".join(str(part)[:40] for part in (*path, key))
                hold("document", False, f"{where} {value}", f"Unicode and {'integers' if integers else '53 bits'}")
    return dict(document)


def members(document: Any, what: str, **kinds: Any) -> list[Any]:
    """These members of an object, in order, if all are there and of their kind."""
    hold("field", isinstance(document, dict), f"{what} {type(document).__name__}", "an object")
    found = []
    for name, kind in kinds.items():
        value = document.get(name)
        if type(value) is float and kind is WHOLE and value.is_integer():
            value = int(value)  # the same number in canonical JSON
        right = isinstance(value, str) and re.fullmatch(kind, value) if isinstance(kind, str) else type(value) in kind
        expected = kind if isinstance(kind, str) else " or ".join(one.__name__ for one in kind)
        hold("field", right and name in document, f"{what}.{name} {document.get(name, 'absent')}", expected)
        found.append(value)
    return found


def _hash(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(document)).hexdigest()


def _body_hash(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def aci_keyset_digest(keyset: bytes) -> str:
    """``sha256:<hex>`` over the canonical form of a workload keyset (ACI 3.1)."""
    return f"sha256:{_hash(foreign_object(keyset, 'keyset'))}"


def aci_report_data(keyset_digest: str, nonce: str | None) -> bytes:
    """64 bytes of report_data that bind a keyset, fresh with a nonce of 64 hex digits (ACI 3.2)."""
    statement = {"keyset_digest": keyset_digest, "nonce": nonce, "purpose": "aci.report_data.v1"}
    members(statement, "statement", keyset_digest=SHA256, nonce=HEX32 if nonce is not None else (str, type(None)))
    return bytes.fromhex(_hash(statement)) + bytes(32)


def check_aci_session(session: bytes, cited: Sequence[str], at: int) -> dict[str, Any]:
    """The session that a receipt cites (ACI 8, 9.2); its claims are for the caller to judge.

    Args:
        cited: its id, 64 hex digits, is among these. at: Unix seconds, which it covers.
    """
    document = foreign_object(session, "session")
    hold_same("version", "session.api_version", document.get("api_version"), "aci/1")
    hold("session", _hash(document) in cited, f"session {_hash(document)}", " or ".join(cited) or "none cited")
    kinds: dict[str, Any] = {"evidence": OBJECT, "established_at": WHOLE, "expires_at": WHOLE}
    evidence, begin, end = members(document, "session", **kinds)
    data, digest = members(evidence, "session.evidence", data=_DATA, digest=SHA256)
    hold_same("session", "evidence", _body_hash(base64.b64decode(data.partition(",")[2])), digest)
    hold("session", begin <= at < end, f"served at {at}", f"from {begin} to before {end}")
    return document


@dataclass(frozen=True)
class AciAnswer:
    """What an accepted ACI receipt says.

    Attributes:
        document: the receipt. Its model is the name asked for, its time the signer's own.
        forwarded: "same" bytes went to the model, "rewritten" ones, or "refused": none did.
        upstream: "none" (a direct service), "failed", "asserted" (verified, as the signer says) or
            "shown" (in the session that was shown).
    """

    document: Mapping[str, Any]
    forwarded: str
    upstream: str


def check_aci_receipt(
    receipt: bytes,
    bodies: tuple[bytes, bytes],
    *,
    keyset: bytes,
    quoted: tuple[bytes, str | None],
    as_of: int,
    session: bytes | None = None,
) -> AciAnswer:
    """Check a receipt against keyset, quote and the bytes sent and received (ACI 9.1 to 9.3).

    Args:
        receipt, keyset, session: documents of at most ``MOST_BYTES``, in any JSON encoding. A
            session is required where the upstream must have been verified.
        bodies: request and response as they were on the wire.
        quoted: 64 bytes of report_data out of an appraised quote; the verifier's nonce in them,
            None if they are not fresh.
        as_of: time of the judgement, Unix seconds.

    Raises:
        ReceiptError: the first check that fails.
    """
    document, keys = foreign_object(receipt, "receipt"), foreign_object(keyset, "keyset")
    hold_same("version", "receipt.api_version", document.get("api_version"), "aci/1")
    kinds: dict[str, Any] = {"key_id": TEXT, "signature": HEX64, "served_at": WHOLE, "event_log": LIST}
    kinds |= {"workload_keyset_digest": SHA256, "receipt_id": TEXT, "endpoint": TEXT, "method": TEXT}
    kinds |= {"chat_id": (str, type(None)), "model": (str, type(None))}
    key_id, signature, served_at, log, named, *_ = members(document, "receipt", **kinds)
    digest = f"sha256:{_hash(keys)}"
    hold_same("keyset", "receipt.workload_keyset_digest", named, digest)
    hold_same("report-data", "report_data", quoted[0].hex(), aci_report_data(digest, quoted[1]).hex())
    end, entries = members(keys, "keyset", not_after=WHOLE, receipt_signing_keys=LIST)
    hold("keyset-date", as_of < end, f"a keyset until {end}", f"one that is valid at {as_of}")

    usable = [key for key in entries if isinstance(key, dict) and key.get("algo") == "ed25519"]
    usable = [key for key in usable if key.get("key_id") == key_id]
    hold("key", len(usable) == 1, f"{len(usable)} Ed25519 keys called {key_id}", "one")
    (public,) = members(usable[0], "keyset.receipt_signing_keys", public_key=HEX32)
    signed = canonical_json({name: value for name, value in document.items() if name != "signature"})
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(bytes.fromhex(signature), signed)
    except InvalidSignature as error:
        raise ReceiptError("signature", "receipt.signature of other bytes or by another key", public) from error

    types = [members(event, f"receipt.event_log.{at}", type=TEXT)[0] for at, event in enumerate(log)]
    hashes: dict[str, str] = {}
    for name, least in (("request.received", 1), ("request.forwarded", 0), ("response.returned", 1)):
        hold("events", least <= types.count(name) <= 1, f"{name} {types.count(name)} times", "once")
        if name in types:
            (hashes[name],) = members(log[types.index(name)], name, body_hash=SHA256)
    hold_same("events", "first event", types[0], "request.received")
    hold_same("request", "request.received", hashes["request.received"], _body_hash(bodies[0]))
    hold_same("response", "response.returned", hashes["response.returned"], _body_hash(bodies[1]))
    forwarded = hashes.get("request.forwarded")
    how = "refused" if forwarded is None else "same" if forwarded == hashes["request.received"] else "rewritten"

    tries = [event for event, kind in zip(log, types, strict=True) if kind == "upstream.verified"]
    good = [event for event in tries if members(event, "upstream.verified", result=TEXT) == ["verified"]]
    cited = [members(event, "upstream.verified", session_id=HEX32)[0] for event in good]
    if session is not None:
        check_aci_session(session, cited, served_at)
    upstream = "shown" if session is not None else "asserted" if cited else "failed" if tries else "none"
    return AciAnswer(document, how, upstream)


#: What of our receipt an ACI verifier does not judge; why: see ``to_aci``.
UNSAID_IN_ACI = (
    *("order_id", "prompt_tokens", "answer_tokens", "finish", "states_root", "tokens_root", "seed_hash"),
    *("lane", "layers", "output_bytes", "kv_bytes", "configuration_digest", "response_digest"),
)


def to_aci(
    bodies: tuple[bytes, bytes],
    *,
    model: str,
    served_at: int,
    receipt_id: str,
    keyset_digest: str,
    key_id: str,
    statement: Mapping[str, str | int],
    key: Ed25519PrivateKey | None = None,
) -> dict[str, Any]:
    """One answer as the ACI receipt of a direct service, as far as that format can say it.

    It cannot say ``UNSAID_IN_ACI``: a request is its bytes, with no order, nonce, chain or court;
    lengths, finish, execution, arithmetic and configuration have no place; the model is a name. All
    that travels in an event of a type of ours, ``otr.statement``, which the signature covers and an
    ACI verifier ignores. Our own signature (secp256k1, which contracts can check) and the evidence
    are left out: ACI's keys are Ed25519, and evidence stands in its attestation report.

    Args:
        bodies: the query and the response as they travelled.
        model: our model id, 64 hex digits, in the place of a name. served_at: Unix seconds.
        receipt_id: for example the order id in hex.
        keyset_digest, key_id: the attested keyset, and its entry that signs.
        statement: fields of our receipt by name, byte strings in hex.
        key: signs; without it the document has no signature.
    """
    request, response = map(_body_hash, bodies)
    events: list[Any] = [{"type": f"request.{done}", "body_hash": request} for done in ("received", "forwarded")]
    events += [{**statement, "type": "otr.statement"}, {"type": "response.returned", "body_hash": response}]
    document: dict[str, Any] = {"api_version": "aci/1", "receipt_id": receipt_id, "chat_id": None, "model": model}
    document |= {"endpoint": "/v1/completions", "method": "POST", "served_at": served_at, "event_log": events}
    document |= {"workload_keyset_digest": keyset_digest, "key_id": key_id}
    return document if key is None else {**document, "signature": key.sign(canonical_json(document)).hex()}
