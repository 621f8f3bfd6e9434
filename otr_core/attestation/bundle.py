"""A bundle: all evidence about one node, parsed. Files are told apart by content, never by name.

A file that cannot be read raises ``EvidenceError`` while the bundle is loaded, so that appraisal
never meets an unreadable part: all it can find is that a check fails or cannot be made.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from otr_core.attestation import chain as chains
from otr_core.attestation.chain import Chain, VerifiedCache
from otr_core.attestation.eventlog import EventLog, evidence_json, parse_event_log
from otr_core.attestation.ocsp import OcspResponse, parse_ocsp
from otr_core.attestation.quote import Collateral, Quote, parse_collateral, parse_quote
from otr_core.attestation.report import NONCE_BYTES, Report, parse_report
from otr_core.attestation.rim import Rim, parse_rim
from otr_core.attestation.snp import SnpCertificates, SnpReport, parse_snp_certificates
from otr_core.encoding import canonical_json, from_hex
from otr_core.errors import EvidenceError, InputError, reported_as

T = TypeVar("T")
MAX_FILE_BYTES = 8 * 1024 * 1024
MAX_DEVICES = 64
MAX_MANIFESTS, MAX_RESPONSES = 256, 1024  # of a bundle; two for each device, and seven
MAX_DEPTH = 16  # of vendor JSON
SWITCHES = ("LS10",)  # architectures of NVSwitches; all others are GPUs

#: First bytes of files that people hand in, and what to call such a file in a message.
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89PNG", "a PNG image"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"%PDF", "a PDF file"),
    (b"\x7fELF", "a program"),
    (b"\x11\xe0", "an NVIDIA report"),
    (b"-----BEGIN CERTIFICATE-----", "PEM certificates"),
    (b"\x03\x00\x02\x00", "an SGX quote"),
    (b"\x04\x00\x02\x00", "a TDX quote"),
    (b"\x05\x00\x02\x00", "a TDX quote"),
    (b"<", "an XML file (a RIM?)"),
    (b"\x30\x82", "a DER file (an OCSP response?)"),
)

#: What each slot of ``load_bundle`` takes, for messages.
_EXPECTED = {
    "gpu": "an NVIDIA report (raw, hex) or vendor JSON with evidence",
    "gpu-certs": "a PEM chain, leaf first",
    "rim": "a RIM (SWID XML)",
    "ocsp": "an OCSP response",
    "quote": "a TDX or SGX quote or a SEV-SNP report",
    "collateral": "Intel quote collateral (JSON) or AMD certificates",
    "event-log": "an event log (dstack JSON or CCEL)",
}


class NamedBytes(bytes):
    """A file's bytes that know where they come from, for messages: a path, and a place in it."""

    name: str

    def __new__(cls, data: bytes, name: str) -> NamedBytes:
        made = super().__new__(cls, data)
        made.name = name
        return made


class DeviceFiles(NamedTuple):
    """One device's files: its report, its chain (None if it comes in a file of its own), and the
    nonce that is written beside them."""

    report: bytes
    pem: bytes | None = None
    nonce: bytes | None = None


@dataclass(frozen=True)
class Device:
    """One device's evidence.

    Attributes:
        report, chain: parsed; an empty chain means that none was handed in.
        stated_nonce: nonce written beside the evidence in a vendor's JSON, if any. Nobody signed
            it.
    """

    report: Report
    chain: Chain
    stated_nonce: bytes | None = None

    @functools.cached_property
    def chain_sha256(self) -> str:
        """Lower-case hex SHA-256 of the chain's certificates, DER, leaf first."""
        return hashlib.sha256(chains.der(self.chain)).hexdigest()

    @functools.cached_property
    def architecture(self) -> str:
        """Chip name certified in the leaf (``GH100``, ``LS10``, …); empty without a chain."""
        name = chains.common_name(self.chain[0].subject) if self.chain else ""
        # certificates say LS_10 where manifests say LS10
        return name.split(" ")[0].replace("_", "")

    @functools.cached_property
    def kind(self) -> str:
        """``switch`` or ``gpu``.

        The certificate decides where there is one. A report could otherwise make a GPU look like a
        switch, for which no driver is checked.
        """
        certified = "switch" if self.architecture in SWITCHES else "gpu"
        return certified if self.chain else self.report.kind

    @property
    def ueid(self) -> str:
        """Identity NVIDIA uses: the leaf's serial number in decimal; empty without a chain."""
        return str(self.chain[0].serial_number) if self.chain else ""


@dataclass(frozen=True)
class Bundle:
    """Parsed evidence. Build it with ``load_bundle``."""

    devices: tuple[Device, ...] = ()
    rims: tuple[Rim, ...] = ()
    ocsp: tuple[OcspResponse, ...] = ()
    quote: Quote | SnpReport | None = None
    collateral: Collateral | SnpCertificates | None = None
    event_log: EventLog | None = None
    compose: bytes | None = None
    preimage: bytes | None = None
    config: bytes | None = None
    unread: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.devices and self.quote is None:
            raise EvidenceError("bundle: found no report and no quote, expected at least one of them")

    @functools.cached_property
    def versions(self) -> frozenset[tuple[str, str]]:
        """The pairs (kind, version) that some device runs; kind is ``driver`` or ``vbios``."""
        reports = [device.report for device in self.devices]
        drivers = {("driver", (one.driver_version or "").upper()) for one in reports}
        return frozenset(drivers | {("vbios", one.vbios_version or "") for one in reports})

    @functools.cached_property
    def digest(self) -> str:
        """Lower-case hex SHA-256 over the hashes of all parts: the bundle's content address."""

        def sha256(data: bytes) -> str:
            return hashlib.sha256(data).hexdigest()

        parts = {
            "devices": [[one.report.sha256, one.chain_sha256, (one.stated_nonce or b"").hex()] for one in self.devices],
            "rims": [rim.sha256 for rim in self.rims],
            "ocsp": [one.sha256 for one in self.ocsp],
            "quote": self.quote and self.quote.identity,
            "collateral": self.collateral and self.collateral.sha256,
            "event_log": self.event_log and sha256(self.event_log.raw),
            "compose": None if self.compose is None else sha256(self.compose),
            "preimage": None if self.preimage is None else sha256(self.preimage),
            "config": None if self.config is None else sha256(self.config),
            "unread": list(self.unread),
        }
        return sha256(canonical_json(parts))


def load_bundle(
    *,
    gpu: Sequence[bytes | DeviceFiles] = (),
    gpu_certs: Sequence[bytes] = (),
    rims: Sequence[bytes] = (),
    ocsp: Sequence[bytes] = (),
    quote: bytes | None = None,
    collateral: bytes | None = None,
    event_log: bytes | None = None,
    compose: bytes | None = None,
    preimage: bytes | None = None,
    config: bytes | None = None,
    cache: VerifiedCache | None = None,
) -> Bundle:
    """Parse the files of one node, given as bytes by slot.

    Args:
        gpu: NVIDIA evidence, of GPUs and NVSwitches: reports (raw or hex text) or vendor JSON with
            one or many devices.
        gpu_certs: PEM chains, leaf first, one per report that comes without its own, in the same
            order.
        rims: reference manifests (SWID XML).
        ocsp: stapled OCSP responses (DER or base64).
        quote: TDX or SGX quote, or SEV-SNP report (raw, hex text, or JSON with ``quote``, whose
            ``event_log`` is used if none is given).
        collateral: Intel's collateral for it (JSON), or AMD's certificates (PEM or DER).
        event_log: dstack JSON or binary CCEL.
        preimage: what report_data's first half is the SHA-256 of, where a provider says it.
        compose: the dstack app compose file, byte for byte. config: the dstack configuration
            document (MrConfigV3), byte for byte.
        cache: remembers parsed manifests by content; it never changes the outcome.

    Raises:
        EvidenceError: a file is not what its slot expects; the message says what was found and what
            was expected. A manifest or a revocation response that cannot be read costs only what it
            would have shown: its message stands in the bundle's ``unread``.
    """
    known = cache or VerifiedCache()
    if len(rims) > MAX_MANIFESTS:
        raise EvidenceError(f"rim: found {len(rims)} manifests, expected at most {MAX_MANIFESTS}")
    devices = _devices(gpu, gpu_certs, known)
    if event_log is None and quote is not None:
        event_log = _log_beside(quote)
    if quote is None and (collateral is not None or event_log is not None or compose is not None):
        raise EvidenceError("bundle: found collateral, event log or compose file without a quote to go with it")
    parsed = _in_slot("quote", quote, parse_quote)
    amd, unread = isinstance(parsed, SnpReport), list[str]()
    manifests = _readable(rims, lambda data: _rim(data, known), unread)
    answers = _readable(ocsp, functools.partial(_in_slot, "ocsp", parse=parse_ocsp), unread)
    if (count := sum(map(len, answers))) > MAX_RESPONSES:
        raise EvidenceError(f"ocsp: found {count} responses, expected at most {MAX_RESPONSES}")
    return Bundle(
        devices=devices,
        rims=tuple(manifests),
        ocsp=tuple(one for found in answers for one in found),
        quote=parsed,
        collateral=_collateral(collateral, amd, known),
        event_log=_in_slot("event-log", event_log, parse_event_log),
        compose=compose,
        preimage=preimage,
        config=config,
        unread=tuple(unread),
    )


def describe(data: bytes) -> str:
    """What a file looks like, in words, for error messages."""
    head = data[:4096].lstrip()
    if not data:
        return "an empty file"
    if not any(data[:4096]):
        return f"{len(data)} bytes beginning with zeros"
    for magic, name in _MAGIC:
        if data.startswith(magic) or (magic[:1] in b"<-" and head.startswith(magic)):
            return name
    if head[:1] in (b"{", b"["):
        return "a JSON file"
    text = re.sub(rb"\s", b"", head[:64])
    if re.fullmatch(rb"(0x)?[0-9a-fA-F]+", text):
        digits = text.removeprefix(b"0x").decode()[:16]
        inner = bytes.fromhex(digits[: len(digits) & ~1])
        return next((f"{name} as hex text" for magic, name in _MAGIC if inner.startswith(magic)), "hex text")
    return "text" if re.fullmatch(rb"[ -~\s]+", head) else "unknown bytes"


def _in_slot(slot: str, data: bytes | None, parse: Callable[[bytes], Any]) -> Any:
    """What ``parse`` gives, None for no file; what it refuses is told in terms of the slot."""
    if data is None:
        return None
    expected, slot = _EXPECTED[slot], getattr(data, "name", slot)
    if len(data) > MAX_FILE_BYTES:
        raise EvidenceError(f"{slot}: found {len(data)} bytes, expected {expected} of at most {MAX_FILE_BYTES} bytes")
    try:
        return parse(data)
    except InputError as error:
        found, detail = describe(data), " ".join(str(error).split())
        # Of a broken file of the right kind, "found a report, expected a report" would tell nothing.
        words = set(found.split()[1:])
        right = bool(words) and words <= set(expected.split())
        said = f"{found} that cannot be read" if right else f"{found}, expected {expected}"
        raise EvidenceError(f"{slot}: found {said}: {detail}") from error


def _chain(data: bytes, cache: VerifiedCache) -> Chain:
    key = ("parsed chain", hashlib.sha256(data).digest())
    chain: Chain = cache.once(key, lambda: _in_slot("gpu-certs", data, chains.parse_chain))
    return chain


def _collateral(data: bytes | None, amd: bool, cache: VerifiedCache) -> Collateral | SnpCertificates | None:
    if data is None:
        return None
    key = ("parsed collateral", amd, hashlib.sha256(data).digest())
    parse = parse_snp_certificates if amd else parse_collateral
    found: Collateral | SnpCertificates = cache.once(key, lambda: _in_slot("collateral", data, parse))
    return found


def _readable(files: Sequence[bytes], parse: Callable[[bytes], T], unread: list[str]) -> list[T]:
    """What ``parse`` gives for each file; the messages about others go to ``unread``."""
    found = []
    for data in files:
        try:
            found.append(parse(data))
        except EvidenceError as error:
            unread.append(str(error))
    return found


def _rim(data: bytes, cache: VerifiedCache) -> Rim:
    key = ("parsed rim", hashlib.sha256(data).digest())
    rim: Rim = cache.once(key, lambda: _in_slot("rim", data, functools.partial(parse_rim, cache=cache)))
    return rim


def _log_beside(quote: bytes) -> bytes | None:
    """The event log that dstack guests put beside the quote in one JSON object, if there is one."""
    if not quote.lstrip().startswith(b"{"):
        return None
    document = _in_slot("quote", quote, lambda data: evidence_json(data, "quote"))
    beside = document.get("event_log")
    return None if not beside else json.dumps(beside).encode()


# -- NVIDIA devices ------------------------------------------------------------------------------------------------


def _devices(
    files: Sequence[bytes | DeviceFiles], chain_files: Sequence[bytes], cache: VerifiedCache
) -> tuple[Device, ...]:
    found = [
        one for data in files for one in ([data] if isinstance(data, tuple) else _in_slot("gpu", data, _evidence_in))
    ]
    if len(found) > MAX_DEVICES:
        raise EvidenceError(f"gpu: found {len(found)} devices, expected at most {MAX_DEVICES}")
    bare = sum(one.pem is None for one in found)
    if len(chain_files) > bare:
        expected = f"{bare}, one per report without its own"
        raise EvidenceError(f"gpu-certs: found {len(chain_files)} chains, expected {expected}")
    loose = iter(chain_files)
    devices = []
    for one in found:
        pem = one.pem if one.pem is not None else next(loose, None)
        report = _in_slot("gpu", one.report, parse_report)
        devices.append(Device(report, _chain(pem, cache) if pem is not None else (), one.nonce))
    return tuple(devices)


def _evidence_in(data: bytes) -> list[DeviceFiles]:
    if data.lstrip()[:1] not in (b"{", b"["):
        return [DeviceFiles(data)]
    found = list(_walk(evidence_json(data, "vendor JSON"), None, MAX_DEPTH))
    if not found:
        raise EvidenceError(
            "found no object with 'evidence' and 'certificate' in the JSON (a verifier's claims are no evidence)"
        )
    return found


def _walk(value: Any, nonce: bytes | None, depth: int) -> Iterator[DeviceFiles]:
    """Devices in vendor JSON of whatever nesting: any object with ``evidence`` and ``certificate``.

    A device's stated nonce is the ``nonce`` of the innermost object around it that has one. A value
    may be a string, or [media type, base64url] as in the conceptual message wrapper of NVIDIA's
    newer tools.
    """
    if depth == 0:
        raise EvidenceError(f"vendor JSON: found more than {MAX_DEPTH} levels")
    if isinstance(value, list):
        for item in value:
            yield from _walk(item, nonce, depth - 1)
    elif isinstance(value, dict):
        if isinstance(_text(value.get("nonce")), str):
            nonce = _nonce(value["nonce"])
        evidence, certificate = _text(value.get("evidence")), _text(value.get("certificate"))
        if evidence is not None and certificate is not None:
            yield DeviceFiles(_decode(evidence, "evidence"), _decode(certificate, "certificate"), nonce)
            return
        for key, item in value.items():
            # Inference gateways send this one as JSON inside JSON.
            if key == "nvidia_payload" and isinstance(item, str):
                item = evidence_json(item, "nvidia_payload")
            if isinstance(item, (dict, list)):
                yield from _walk(item, nonce, depth - 1)


def _text(value: Any) -> str | None:
    """The string in a value of ``_walk``, or None."""
    if isinstance(value, list) and len(value) == 2 and all(isinstance(item, str) for item in value):
        return str(value[1])
    return value if isinstance(value, str) else None


def _nonce(value: Any) -> bytes:
    if isinstance(value, list):
        return _decode(str(value[1]), "nonce")
    return from_hex(value, length=NONCE_BYTES, what="nonce beside the evidence")


def _decode(text: str, what: str) -> bytes:
    if text.lstrip().startswith("-----BEGIN"):
        return text.encode()
    compact = "".join(text.split()).rstrip("=").replace("-", "+").replace("_", "/")
    with reported_as(EvidenceError, f"{what}: found text that is not base64", ValueError):
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
