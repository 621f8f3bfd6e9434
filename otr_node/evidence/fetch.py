"""What vendors say about a bundle, fetched once and kept beside it, so that it appraises offline for ever.

NVIDIA's manifests (RIM service) for each device's driver and VBIOS, its revocation answers (OCSP)
for devices and manifests, Intel's collateral (PCS) for each platform family, AMD's certificates (KDS)
for each chip. Each reply is one file, written whole; what is there is not asked for again, so a
fetch that was cut off goes on. A reply is kept only if it is what was asked for.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from otr_core.attestation.chain import Chain, VerifiedCache
from otr_core.attestation.nvidia import REVOCABLE
from otr_core.attestation.quote import Quote
from otr_core.attestation.snp import SnpReport
from otr_core.errors import DataError, EvidenceError, InputError
from otr_core.files import read_input, write_bytes
from otr_node.evidence.intake import Node, read_evidence
from otr_node.evidence.pieces import PieceReader

RIM_SERVICE = "https://rim.attestation.nvidia.com/v1/rim"
OCSP_SERVICE = "https://ocsp.ndis.nvidia.com"
PCS = "https://api.trustedservices.intel.com"
INTEL_ROOT_CRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
KDS = "https://kdsintf.amd.com"
MAX_REPLY_BYTES = 2**20
MAX_REQUESTS = 512
MAX_FILES = 512  # of a bundle
TRIES = 4
TIMEOUT_S = 30.0
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_FETCHED = "fetched"


@dataclass(frozen=True)
class Request:
    """One question. ``file`` names the reply's file, ``kind`` what must be found in it (``pieces``)."""

    file: str
    kind: str
    url: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """What a service answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Transport = Callable[[Request], Reply]
"""Asks one question; raises ``OSError`` where no answer comes."""


def over_https(request: Request) -> Reply:
    """The transport that asks the services themselves."""
    asked = urllib.request.Request(request.url, data=request.body, headers=dict(request.headers))
    try:
        with urllib.request.urlopen(asked, timeout=TIMEOUT_S) as answer:
            return Reply(answer.status, dict(answer.headers), answer.read(MAX_REPLY_BYTES + 1))
    except urllib.error.HTTPError as error:
        return Reply(error.code, dict(error.headers), b"")
    except http.client.HTTPException as error:
        raise OSError(f"broken answer ({type(error).__name__})") from error


@dataclass(frozen=True)
class FetchReport:
    """Names of files: fetched now, there before, and what could not be had, with the reason."""

    fetched: tuple[str, ...]
    kept: tuple[str, ...]
    missing: Mapping[str, str]


def bundle_files(path: Path) -> list[Path]:
    """The files of a bundle: one file, or those of a folder and of the folders in it.

    Raises:
        InputError: there is none, or too many.
    """
    if not path.is_dir():
        return [path]
    found = sorted(one for pattern in ("*", "*/*") for one in path.glob(pattern) if one.is_file())
    if not 1 <= len(found) <= MAX_FILES:
        raise InputError(f"{path}: found {len(found)} files, expected 1 to {MAX_FILES} with evidence")
    return found


def fetch_for(
    bundle: Path, *, transport: Transport = over_https, pause: Callable[[float], None] = time.sleep
) -> FetchReport:
    """Add to a bundle what vendors say about it.

    Args:
        bundle: a folder; replies go into its folder ``fetched``. Or a file; its replies go into a
            folder beside it, ``<name>.fetched``.
        pause: called with seconds before another try.

    Raises:
        EvidenceError: the bundle holds no evidence. InputError: it cannot be read or written.
    """
    target = bundle / _FETCHED if bundle.is_dir() else bundle.with_name(f"{bundle.name}.{_FETCHED}")
    found, kept, missing, asked = list[str](), list[str](), dict[str, str](), 0
    done: set[str] = set()
    # Twice: the second round asks about the manifests that the first has brought.
    for _ in range(2):
        paths = bundle_files(bundle)
        paths += [one for one in sorted(target.glob("*")) if one not in paths] if target.is_dir() else []
        files = [(str(path), read_input(path, what="evidence")) for path in paths]
        for request in _requests(read_evidence(files, cache=VerifiedCache()).nodes):
            if request.file in done:
                continue
            done.add(request.file)
            if (target / request.file).exists():
                kept.append(request.file)
                continue
            asked += 1
            if asked > MAX_REQUESTS:
                raise InputError(f"{bundle}: found more than {MAX_REQUESTS} questions, expected those of some machines")
            try:
                reply = _ask(request, transport, pause)
                write_bytes(target / request.file, _checked(request, reply))
                found.append(request.file)
            except DataError as error:
                missing[request.file] = str(error)
    return FetchReport(tuple(found), tuple(kept), missing)


def _ask(request: Request, transport: Transport, pause: Callable[[float], None]) -> Reply:
    """A reply with status 200, after some tries.

    Raises:
        DataError: none came.
    """
    said = ""
    for number in range(TRIES):
        wait = float(2**number)
        try:
            reply = transport(request)
            said = f"status {reply.status}"
            if reply.status == http.client.OK:
                return reply
            if reply.status not in _AGAIN:
                break
            after = {name.lower(): value for name, value in reply.headers.items()}.get("retry-after", "")
            wait = min(float(after), 60.0) if after.isdigit() else wait
        except OSError as error:
            said = " ".join(str(error).split())[:120]
        if number + 1 < TRIES:
            pause(wait)
    raise DataError(f"{request.url.split('?')[0]}: found {said}, expected an answer")


def _checked(request: Request, reply: Reply) -> bytes:
    """The reply as it is kept: its body, with its headers where they carry certificates.

    Raises:
        DataError: it is not what was asked for.
    """
    if len(reply.body) > MAX_REPLY_BYTES:
        raise DataError(f"{request.url}: found over {MAX_REPLY_BYTES} bytes, expected an answer of fewer")
    chains = {name: value for name, value in reply.headers.items() if name.lower().endswith("issuer-chain")}
    kept = reply.body
    if chains:
        body = base64.b64encode(reply.body).decode()
        kept = json.dumps({"url": request.url, "headers": chains, "body": body}, indent=1).encode() + b"\n"
    try:
        found = PieceReader([]).file(request.file, kept)
    except EvidenceError as error:
        raise DataError(f"{request.url}: {error}") from error
    if not found.of(request.kind):
        raise DataError(f"{request.url}: found something else, expected {request.kind}")
    return kept


def _requests(nodes: Sequence[Node]) -> Iterator[Request]:
    for node in nodes:
        bundle = node.bundle
        for device in bundle.devices:
            for name in device.report.rim_ids(device.architecture).values() if device.chain else ():
                yield Request(f"rim_{as_word(name)}.json", "reference manifest", f"{RIM_SERVICE}/{as_word(name)}")
            if len(device.chain) > max(REVOCABLE) + 1:
                yield from _revocation(device.chain, REVOCABLE)
        for rim in bundle.rims:
            yield from _revocation(rim.chain, range(len(rim.chain) - 1))
        if isinstance(bundle.quote, SnpReport):
            yield from _amd(bundle.quote)
        elif bundle.quote is not None and bundle.quote.fmspc:
            yield from _intel(bundle.quote)


def as_word(text: str) -> str:
    """A name that a report states, as part of an address and of a file name."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in text)[:100]


def _revocation(chain: Chain, positions: Sequence[int]) -> Iterator[Request]:
    for position in positions:
        certificate, issuer = chain[position], chain[position + 1]
        asked = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, hashes.SHA384()).build()
        body = asked.public_bytes(Encoding.DER)
        name = hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()[:24]
        headers = {"Content-Type": "application/ocsp-request"}
        yield Request(f"ocsp_{name}.der", "OCSP response", OCSP_SERVICE, body, headers)


def _intel(quote: Quote) -> Iterator[Request]:
    tee = quote.kind.lower()
    names = quote.chain[0].issuer.get_attributes_for_oid(x509.NameOID.COMMON_NAME) if quote.chain else []
    ca = "platform" if names and "Platform" in str(names[0].value) else "processor"
    api = f"{PCS}/{tee}/certification/v4"
    yield Request(f"tcb_{tee}_{quote.fmspc}.json", "tcb_info", f"{api}/tcb?fmspc={quote.fmspc}")
    yield Request(f"qe_{tee}.json", "qe_identity", f"{api}/qe/identity")
    yield Request(f"pckcrl_{ca}.json", "crl", f"{PCS}/sgx/certification/v4/pckcrl?ca={ca}&encoding=der")
    yield Request("intel_root.crl", "crl", INTEL_ROOT_CRL)


def _amd(report: SnpReport) -> Iterator[Request]:
    if report.signer != "VCEK" or not report.family:
        return  # a cloud's own key comes from that cloud
    spl = {"bootloader": "blSPL", "tee": "teeSPL", "snp": "snpSPL", "microcode": "ucodeSPL", "fmc": "fmcSPL"}
    versions = "&".join(f"{spl[part]}={number:02d}" for part, number in report.tcb("reported_tcb").items())
    chip = report.registers["chip_id"].hex()
    api = f"{KDS}/vcek/v1/{report.family}"
    yield Request(f"vcek_{chip[:24]}.der", "AMD certificates", f"{api}/{chip}?{versions}")
    yield Request(f"amd_{report.family}.pem", "AMD certificates", f"{api}/cert_chain")
