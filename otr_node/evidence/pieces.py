"""Pieces: what stands in a file, told by its own bytes alone, through whatever it is wrapped in.

Magic numbers and structure tell a quote from a report from a manifest; JSON of any nesting, JSON
inside JSON, hex, base64, percent-encoding and gzip are undone on the way. While the nesting is
walked, reports and the certificates in the smallest object around them become devices, and what
stands around one quote and around no other becomes one tree.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from otr_core.attestation.bundle import MAX_FILE_BYTES, describe
from otr_core.attestation.chain import UNREADABLE, extension, parse_chain
from otr_core.attestation.eventlog import evidence_json, parse_event_log
from otr_core.attestation.ocsp import parse_ocsp
from otr_core.attestation.quote import parse_collateral, parse_quote
from otr_core.attestation.rim import parse_rim
from otr_core.attestation.snp import is_snp_report
from otr_core.errors import EvidenceError, reported_as

MAX_LEVELS = 40  # of nesting, JSON inside JSON included
MAX_VALUES = 200_000  # objects and lists in one file, as many quotes, reports and the like below
MAX_PIECES = 2_048
_SHORTEST = 256  # letters; no evidence is encoded in fewer

_HEX = re.compile(rb"(?:0x)?((?:[0-9a-fA-F]{2}\s*)+)")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_\-\s]+={0,2}\s*")
_JWT = re.compile(rb"eyJ[\w-]+\.eyJ[\w-]+\.[\w-]+")
_QUOTE = re.compile(rb"[\x03-\x05]\x00[\x02\x03]\x00(?:\x00|\x81)\x00\x00\x00", re.DOTALL)
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----")
_AMD = b"Advanced Micro Devices"
_COLLATERAL_PARTS = {"tcbInfo": "tcb_info", "enclaveIdentity": "qe_identity"}


@dataclass(frozen=True)
class Recognised:
    """Something recognised. ``place`` is a JSON pointer in the file, empty for the whole of it."""

    kind: str
    data: bytes
    file: str
    place: str
    parsed: Any = None

    @property
    def where(self) -> str:
        return f"{self.file}{' at ' + self.place if self.place else ''}"


@dataclass(frozen=True)
class Use:
    """One line of what intake did: ``use`` is what a piece was taken for, or why it was not."""

    what: str
    file: str
    place: str
    use: str


@dataclass
class Found:
    """What stands in a part of the files: devices and pieces, and nodes that are complete."""

    pieces: list[Recognised] = field(default_factory=list)
    devices: list[tuple[Recognised, bytes | None, bytes | None]] = field(default_factory=list)
    nonces: list[bytes] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    preimages: list[bytes] = field(default_factory=list)
    nodes: list[Found] = field(default_factory=list)

    def of(self, *kinds: str) -> list[Recognised]:
        return [one for one in self.pieces if one.kind in kinds]

    @property
    def quotes(self) -> set[str]:
        return {one.parsed.identity for one in self.of("quote")}

    def add(self, other: Found) -> None:
        for name, values in vars(other).items():
            getattr(self, name).extend(values)


class PieceReader:
    """Takes files apart; ``ignored`` collects what was recognised and is of no use."""

    def __init__(self, ignored: list[Use]) -> None:
        self._ignored, self.name = ignored, ""

    def file(self, name: str, data: bytes) -> Found:
        """All that stands in one file.

        Raises:
            EvidenceError: a quote in it cannot be read, or it holds more than any response does.
        """
        self.name, self._values, self._pieces, self._inflated = name, 0, 0, 0
        if len(data) > MAX_FILE_BYTES:
            raise EvidenceError(f"{name}: found {len(data)} bytes, expected evidence of at most {MAX_FILE_BYTES}")
        before = len(self._ignored)
        found = self._bytes(data, "", MAX_LEVELS)
        if (found is None or not any(vars(found).values())) and len(self._ignored) == before:
            self.leave(describe(data), "", "nothing in it is evidence")
        return found or Found()

    def leave(self, what: str, place: str, why: str) -> None:
        self._ignored.append(Use(what, self.name, place, why))

    # -- what bytes are ------------------------------------------------------------------------

    def _bytes(self, data: bytes, place: str, levels: int) -> Found | None:
        """What ``data`` is; None for nothing known. Encodings are undone, a level each."""
        if levels <= 0:
            raise EvidenceError(f"{self.name} at {place[:80]}: found more than {MAX_LEVELS} levels of nesting")
        head = data[:64].lstrip()
        if data[:2] == b"\x11\xe0":
            return self._piece("gpu", data, place)
        if _QUOTE.match(data) and len(data) > 400:
            return self._piece("quote", data, place, parse_quote)
        if is_snp_report(data):
            return self._piece("quote", data, place, parse_quote)
        if data[:1] == b"\0" and data[1:2] in (b"\0", b"\3") and len(data) > 600 and data[2] & 3 == 1:
            return self._dstack(data, place, levels)
        if data[:2] == b"\x1f\x8b":
            return self._bytes(self._unpacked(data, place), place, levels - 1)
        if b"Spec ID Event03\0" in data[:64]:
            return self._side("event log", data, place, parse_event_log)
        if head.startswith(b"-----BEGIN%20CERT"):
            return self._certificates(unquote_to_bytes(data), place)
        if head.startswith(b"-----BEGIN CERT"):
            return self._certificates(data, place)
        if head.startswith(b"<"):
            what = "reference manifest"
            return self._side(what, data, place, parse_rim) if b"SoftwareIdentity" in data[:65536] else None
        if data[:1] == b"\x30" and not data[:_SHORTEST].isascii():
            return self._der(data, place)
        if head[:1] in (b"{", b"["):
            return self._json(data, place, levels)
        text = data.strip()
        if _JWT.fullmatch(text):
            return self._piece("token", text, place)
        return self._encoded(text, place, levels)

    def _dstack(self, data: bytes, place: str, levels: int) -> Found | None:
        """dstack's own binary form: a number, the size of the quote, the quote, and what goes with it,
        of which certificates and the configuration document are taken."""
        size = int.from_bytes(data[2:4], "little") >> 2
        found, rest = [self._bytes(data[4 : 4 + size], place, levels - 1)], data[4 + size :]
        if found[0] is None or not found[0].quotes:
            return None
        for number, pem in enumerate(_PEM.findall(rest)[:16]):
            found.append(self._certificates(pem, f"{place}/certificate {number}"))
        text = rest.decode("latin-1")
        for start in [match.start() for match in re.finditer(r'\{"app_id"', text)][:16]:
            with contextlib.suppress(ValueError):
                end = json.JSONDecoder().raw_decode(text, start)[1]
                found.append(self._piece("configuration", text[start:end].encode("latin-1"), f"{place}/configuration"))
        return merged(found, direct=True)

    def _unpacked(self, data: bytes, place: str) -> bytes:
        unpack, left = zlib.decompressobj(wbits=31), MAX_FILE_BYTES - self._inflated
        with reported_as(EvidenceError, f"{self.name} at {place}: found a broken gzip file", zlib.error):
            found = unpack.decompress(data, max(left, 1))
        self._inflated += len(found)
        if unpack.unconsumed_tail:
            raise EvidenceError(f"{self.name}: found over {MAX_FILE_BYTES} bytes in gzip, expected a response")
        return found

    def _encoded(self, text: bytes, place: str, levels: int) -> Found | None:
        if len(text) < _SHORTEST:
            return None
        if _HEX.fullmatch(text):
            return self._bytes(bytes.fromhex(text.removeprefix(b"0x").decode()), place, levels - 1)
        if _BASE64.fullmatch(text):
            compact = b"".join(text.split()).rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
            if len(compact) % 4 != 1:
                return self._bytes(binascii.a2b_base64(compact + b"=" * (-len(compact) % 4)), place, levels - 1)
        return None

    def _piece(
        self, kind: str, data: bytes, place: str, parse: Callable[[bytes], Any] | None = None, parsed: Any = None
    ) -> Found:
        self._pieces += 1
        if self._pieces > MAX_PIECES:
            raise EvidenceError(f"{self.name}: found more than {MAX_PIECES} pieces of evidence, expected a response")
        try:
            return Found([Recognised(kind, data, self.name, place, parse(data) if parse else parsed)])
        except EvidenceError as error:
            raise EvidenceError(f"{self.name}{' at ' + place if place else ''}: {error}") from error

    def _side(self, kind: str, data: bytes, place: str, parse: Callable[[bytes], Any]) -> Found:
        try:
            return self._piece(kind, data, place, parse)
        except (EvidenceError, *UNREADABLE) as error:
            if self._pieces > MAX_PIECES:
                raise
            detail = str(error).removeprefix(f"{self.name}{' at ' + place if place else ''}: ")
            self.leave(kind, place, f"unreadable: {detail[:200]}")
            return Found()

    def _certificates(self, pem: bytes, place: str) -> Found:
        block = _PEM.search(pem)
        with contextlib.suppress(ValueError):
            if block is not None and _AMD in binascii.a2b_base64(b"".join(block.group().split(b"\n")[1:-1])):
                return self._piece("AMD certificates", pem, place)
        return self._side("certificates", pem, place, parse_chain)

    def _der(self, data: bytes, place: str) -> Found | None:
        body = data[4:] if data[1:2] == b"\x82" else data[2:] if data[1] < 0x80 else data[3:]
        if body[:3] == b"\x0a\x01\x00":
            return self._side("OCSP response", data, place, parse_ocsp)
        try:
            return Found([Recognised("crl", data, self.name, place, x509.load_der_x509_crl(data))])
        except UNREADABLE:
            pass
        if _AMD not in data:
            try:
                x509.load_der_x509_certificate(data)
            except UNREADABLE:
                return None
        lines = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(data) + b"-----END CERTIFICATE-----\n"
        return self._certificates(lines, place)

    # -- JSON ----------------------------------------------------------------------------------

    def _json(self, data: bytes, place: str, levels: int) -> Found | None:
        self._values += data.count(b"{") + data.count(b"[")
        if self._values > MAX_VALUES:
            raise EvidenceError(f"{self.name}: found more than {MAX_VALUES} objects and lists, expected a response")
        try:
            document = evidence_json(data, f"{self.name}{' at ' + place if place else ''}")
        except EvidenceError:
            if place:  # a text that only begins like JSON
                return None
            raise
        if isinstance(document, dict) and {"docker_compose_file"} <= document.keys():
            return self._piece("compose", data, place)
        return self._value(document, place, levels - 1)

    def _value(self, value: Any, place: str, levels: int) -> Found | None:
        if isinstance(value, str):
            return self._bytes(value.encode("utf-8", "replace"), place, levels) if len(value) >= _SHORTEST else None
        if isinstance(value, list):
            return self._list(value, place, levels)
        return self._object(value, place, levels) if isinstance(value, dict) else None

    def _list(self, values: list[Any], place: str, levels: int) -> Found | None:
        if levels <= 0:
            raise EvidenceError(f"{self.name} at {place[:80]}: found more than {MAX_LEVELS} levels of nesting")
        if len(values) >= _SHORTEST:
            with contextlib.suppress(TypeError, ValueError):  # no list of bytes
                return self._bytes(bytes(values), place, levels - 1)
        first = values[0] if values else None
        if isinstance(first, dict) and {"imr", "event_type"} <= first.keys():
            return self._side("event log", json.dumps(values).encode(), place, parse_event_log)
        return merged([self._value(one, f"{place}/{at}", levels - 1) for at, one in enumerate(values)], direct=False)

    def _object(self, members: dict[str, Any], place: str, levels: int) -> Found | None:
        if levels <= 0:
            raise EvidenceError(f"{self.name} at {place[:80]}: found more than {MAX_LEVELS} levels of nesting")
        for name, part in _COLLATERAL_PARTS.items():
            if isinstance(members.get(name), dict) and isinstance(members.get("signature"), str):
                signed = {part: _compact(members[name]), f"{part}_signature": members["signature"]}
                return self._piece(part, signed[part].encode("utf-8", "replace"), place, parsed=(members[name], signed))
        if {"tcb_info", "qe_identity"} <= members.keys() and "pck_crl" in members:
            return self._side("collateral", json.dumps(members).encode(), place, parse_collateral)
        if isinstance(members.get("keys"), list) and all(
            isinstance(one, dict) and "kty" in one for one in members["keys"]
        ):
            return self._piece("keys", b"", place, parsed=members["keys"])
        parts, direct, tree = list[Found | None](), False, Found()
        for key, item in members.items():
            inside = self._value(item, f"{place}/{_pointer(key)}", levels - 1)
            direct |= isinstance(item, str | list) and inside is not None and _is_quote(inside)
            parts.append(inside)
            if isinstance(item, str):
                self._word(key, item, tree)
        hashes = [one for one in members.values() if isinstance(one, str) and re.fullmatch("[0-9a-f]{64}", one)]
        if 2 <= len(hashes) == len(members) <= 8:
            tree.preimages.append(bytes.fromhex("".join(hashes)))
        return merged([*parts, tree], direct=direct, nonce=tree.nonces[0] if tree.nonces else None)

    def _word(self, key: str, text: str, tree: Found) -> None:
        """Nonces and keys are known by the names of their members: their bytes look like any."""
        name = key.lower()
        if "nonce" in name:
            nonce = as_nonce(text)
            if nonce is not None:
                tree.nonces.append(nonce)
        elif "key" in name and len(text) <= 4096:
            tree.words.append(text)


def _is_quote(tree: Found) -> bool:
    return len(tree.pieces) == 1 and tree.pieces[0].kind == "quote"


def as_nonce(text: str) -> bytes | None:
    """32 bytes from hex, with or without 0x, or base64 text; None for anything else."""
    digits = text.strip().removeprefix("0x").removeprefix("0X")
    if re.fullmatch("[0-9a-fA-F]{64}", digits):
        return bytes.fromhex(digits)
    if re.fullmatch("[A-Za-z0-9+/_-]{43}=?", digits):
        return base64.urlsafe_b64decode(digits.rstrip("=").replace("+", "-").replace("/", "_") + "=")
    return None


def _pointer(key: str) -> str:
    return ascii(key)[1:-1][:40].replace("~", "~0").replace("/", "~1")


def _compact(value: Any) -> str:
    """The text that Intel signed: members in their order, no spaces."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


# -- what belongs together ---------------------------------------------------------------------


def merged(parts: Sequence[Found | None], *, direct: bool, nonce: bytes | None = None) -> Found:
    """One tree of the parts of one object or list.

    Args:
        direct: a quote stands in the object itself: what is there without a quote belongs to it.
        nonce: written in this object, for devices that have none yet.
    """
    tree, found = Found(), [one for one in parts if one is not None]
    quotes = list(dict.fromkeys(one for part in found for one in part.quotes))
    own = {quotes[0]} if quotes and (direct or len(quotes) == 1) else set()
    for part in found:
        if part.quotes <= own:
            tree.add(part)
        else:
            tree.nodes += [*part.nodes, Found(**{**vars(part), "nodes": []})]
    _pair(tree)
    tree.devices = [(report, pem, said or nonce) for report, pem, said in tree.devices]
    return tree


def _pair(tree: Found) -> None:
    """Reports and the certificates that stand in one object with them become devices."""
    reports = tree.of("gpu")
    chains = [one for one in tree.of("certificates") if _may_sign_reports(one.parsed[0])] if reports else []
    if not chains or (len(reports) > 1 and len(chains) != len(reports)):
        return
    pems = [one.data for one in chains] if len(reports) == len(chains) else [b"\n".join(one.data for one in chains)]
    tree.devices += [(report, pem, None) for report, pem in zip(reports, pems, strict=True)]
    tree.pieces = [one for one in tree.pieces if one not in reports and one not in chains]


def _may_sign_reports(certificate: x509.Certificate) -> bool:
    """Whether this may be of a device's chain: on P-384, and of no host on the Internet."""
    key = certificate.public_key()
    named = extension(certificate, x509.SubjectAlternativeName)
    hosts = named is not None and named.get_values_for_type(x509.DNSName)
    return isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp384r1" and not hosts
