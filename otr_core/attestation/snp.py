"""AMD SEV-SNP attestation reports and the certificates of the keys that sign them.

Report: 1184 bytes (SEV-SNP firmware ABI specification, section 7.3), its first 672 signed with
ECDSA P-384 by a chip's own key (VCEK) or one of a cloud (VLEK). Certificates: key ← ASK or ASVK ←
ARK (VCEK certificate and KDS interface specification). AMD's key certificates have serial number 0,
which RFC 5280 forbids and the X.509 library is about to refuse, so they are read here.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from otr_core.attestation import chain as chains
from otr_core.attestation.chain import UNREADABLE, Chain, VerifiedCache
from otr_core.errors import EvidenceError, reported_as

REPORT_BYTES, SIGNED_BYTES = 1184, 0x2A0
MAX_CERTIFICATE_BYTES = 64 * 1024
_SIGNATURE_PART = 72  # r and s, lowest byte first; P-384 fills 48 of each
#: Fields by name: offset and size (bytes).
_FIELDS = {
    **{"guest_svn": (0x04, 4), "policy": (0x08, 8), "family_id": (0x10, 16), "image_id": (0x20, 16), "vmpl": (0x30, 4)},
    **{"report_data": (0x50, 64), "measurement": (0x90, 48), "host_data": (0xC0, 32), "id_key_digest": (0xE0, 48)},
    **{"author_key_digest": (0x110, 48), "chip_id": (0x1A0, 64), "platform_info": (0x40, 8)},
    **{"current_tcb": (0x38, 8), "reported_tcb": (0x180, 8), "committed_tcb": (0x1E0, 8), "launch_tcb": (0x1F0, 8)},
}
#: Where a TCB version keeps its components (byte), in this order of their certified numbers.
_COMPONENTS = {"bootloader": 0, "tee": 1, "snp": 6, "microcode": 7}
_TURIN_COMPONENTS = {"fmc": 0, "bootloader": 1, "tee": 2, "snp": 3, "microcode": 7}
_AMD_OID = bytes.fromhex("2b060104019c78") + b"\x01"  # 1.3.6.1.4.1.3704.1
_SPL = {b"\x03\x01": "bootloader", b"\x03\x02": "tee", b"\x03\x03": "snp", b"\x03\x08": "microcode", b"\x03\x09": "fmc"}
#: Families that a report names since version 3 (family and model of CPUID).
_FAMILIES = {
    (0x19, 0x0): "Milan",
    (0x19, 0x1): "Genoa",
    (0x19, 0xA): "Genoa",
    (0x1A, 0x0): "Turin",
    (0x1A, 0x1): "Turin",
}
_SIGNERS = {0: "VCEK", 1: "VLEK"}
DEBUG_BIT, MIGRATE_BIT = 19, 18  # of the guest policy


@dataclass(frozen=True)
class SnpReport:
    """A parsed report; its shape is that of ``quote.Quote`` where both have a part.

    Attributes:
        raw: all bytes. version: of the layout, 2 to 5.
        registers: ``_FIELDS`` by name; numbers as they stand, lowest byte first.
        signer: ``VCEK`` or ``VLEK``, as the report says; empty for another. family: processor
            family; empty where the report is of a version that does not say.
    """

    raw: bytes
    version: int
    registers: Mapping[str, bytes]
    signer: str
    family: str
    kind: str = "SNP"
    fmspc: str = ""
    chain: Chain = ()

    @property
    def signed(self) -> bytes:
        return self.raw[:SIGNED_BYTES]

    @property
    def identity(self) -> str:
        """Lower-case hex SHA-256 of the signed part."""
        return hashlib.sha256(self.signed).hexdigest()

    @property
    def guest_policy(self) -> int:
        return int.from_bytes(self.registers["policy"], "little")

    @property
    def debuggable(self) -> bool:
        return bool(self.guest_policy >> DEBUG_BIT & 1)

    @property
    def migratable(self) -> bool:
        return bool(self.guest_policy >> MIGRATE_BIT & 1)

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names of what the guest policy allows."""
        names = {16: "smt", MIGRATE_BIT: "migration agent", DEBUG_BIT: "debug", 20: "single socket"}
        return tuple(name for bit, name in names.items() if self.guest_policy >> bit & 1)

    def tcb(self, name: str) -> dict[str, int]:
        """The version in the field ``name`` (``reported_tcb``, …) by component."""
        places = _TURIN_COMPONENTS if self.family == "Turin" else _COMPONENTS
        return {part: self.registers[name][at] for part, at in places.items()}


@dataclass(frozen=True)
class SnpKey:
    """The certificate of a key that signs reports.

    Attributes:
        signer: ``VCEK`` or ``VLEK``. family: processor family. chip_id: 64 bytes, 8 on Turin; empty for
            a VLEK.
        tcb: components that the key was derived for.
        signed, signature, issuer: of the certificate, DER; start, end: of its validity.
    """

    raw: bytes
    signer: str
    family: str
    chip_id: bytes
    tcb: Mapping[str, int]
    key: ec.EllipticCurvePublicKey
    signed: bytes
    signature: bytes
    issuer: bytes
    start: datetime
    end: datetime


@dataclass(frozen=True)
class SnpCertificates:
    """What vouches for a report: the signing key's certificate, then its issuer and AMD's root."""

    raw: bytes
    leaf: SnpKey
    issuers: Chain

    @functools.cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.raw).hexdigest()

    @property
    def windows(self) -> tuple[tuple[str, datetime, datetime], ...]:
        """Validity of every certificate (name, from, to)."""
        names = [(chains.common_name(c.subject), c.not_valid_before_utc, c.not_valid_after_utc) for c in self.issuers]
        return ((self.leaf.signer, self.leaf.start, self.leaf.end), *names)


def is_snp_report(raw: bytes) -> bool:
    """Whether this is an AMD report, by size, version and signature algorithm."""
    version = int.from_bytes(raw[:4], "little")
    return len(raw) == REPORT_BYTES and 2 <= version <= 5 and raw[52:56] == b"\x01\0\0\0"


def parse_snp_report(raw: bytes) -> SnpReport:
    """Parse a report (1184 raw bytes).

    Raises:
        EvidenceError: of another size, version or algorithm.
    """
    if not is_snp_report(raw):
        raise EvidenceError(f"SNP report: found {len(raw)} bytes, expected {REPORT_BYTES} of version 2 to 5")
    registers = {name: raw[at : at + size] for name, (at, size) in _FIELDS.items()}
    version, signing = int.from_bytes(raw[:4], "little"), int.from_bytes(raw[0x48:0x4C], "little") >> 2 & 7
    family = _FAMILIES.get((raw[0x188], raw[0x189] >> 4), "") if version >= 3 else ""
    return SnpReport(raw, version, registers, _SIGNERS.get(signing, ""), family)


def parse_snp_certificates(data: bytes) -> SnpCertificates:
    """Certificates as PEM, or as DER one after another, in any order: one VCEK or VLEK, and issuers.

    Raises:
        EvidenceError: not that.
    """
    if len(data) > MAX_CERTIFICATE_BYTES:
        raise EvidenceError(f"AMD certificates: found {len(data)} bytes, expected at most {MAX_CERTIFICATE_BYTES}")
    blocks = re.findall(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", data, re.S)
    with reported_as(EvidenceError, "AMD certificates: found what cannot be read", *UNREADABLE, expected="PEM or DER"):
        ders = [base64.b64decode(b"".join(one.split())) for one in blocks] or [raw for _, _, raw in _tlv(data)]
        keys = [_key(one) for one in ders]
        others = [one for one, key in zip(ders, keys, strict=True) if key is None]
        leaves = [key for key in keys if key is not None]
        if len(leaves) != 1:
            raise EvidenceError(f"AMD certificates: found {len(leaves)} of a VCEK or VLEK, expected one")
        issuers = _ordered(leaves[0], chains.parse_ders(others, what="AMD certificates"))
        return SnpCertificates(b"".join([leaves[0].raw, *others]), leaves[0], issuers)


def _ordered(leaf: SnpKey, others: Sequence[x509.Certificate]) -> Chain:
    """The issuers in their order, as far as they are there."""
    found: list[x509.Certificate] = []
    wanted = leaf.issuer
    while (one := next((c for c in others if c.subject.public_bytes() == wanted and c not in found), None)) is not None:
        found.append(one)
        wanted = one.issuer.public_bytes()
    return tuple(found)


def _tlv(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Tag, body and whole of each DER element in ``data``."""
    at = 0
    while at < len(data):
        tag, first = data[at], data[at + 1] if at + 1 < len(data) else 0
        size = first & 0x7F if first & 0x80 else 0
        length = int.from_bytes(data[at + 2 : at + 2 + size], "big") if size else first
        end = at + 2 + size + length
        if size > 4 or end > len(data):
            raise ValueError("DER that breaks off")
        yield tag, data[at + 2 + size : end], data[at:end]
        at = end


def _key(der: bytes) -> SnpKey | None:
    """A key's certificate; None for another one."""
    ((_, whole, raw),) = _tlv(der)
    (_, tbs, signed), _, (_, bits, _) = _tlv(whole)
    parts = [part for part in _tlv(tbs) if part[0] != 0x02]  # without the serial number
    (version, _, issuer, validity, subject, info, *rest) = parts
    found = re.search(rb"SEV-(VCEK|VLEK)\Z", subject[1])  # the common name stands last
    if found is None:
        return None
    key = load_der_public_key(info[2])
    if version[0] != 0xA0 or not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("an AMD key that is not on an elliptic curve")
    start, end = (_moment(tag, body) for tag, body, _ in _tlv(validity[1]))
    (extensions,) = (body for tag, body, _ in rest if tag == 0xA3)
    named = _extensions(extensions)
    # The id stands there bare in older certificates, and as an octet string in newer ones; it has 64
    # bytes, or 8 on Turin, whose reports fill up with zeros.
    chip = named.get(b"\x04", b"")
    if chip[:1] == b"\x04" and len(chip) in (66, 10) and chip[1] == len(chip) - 2:
        chip = chip[2:]
    text = named.get(b"\x02", b"")[2:].decode("ascii", "replace")
    tcb = {part: int.from_bytes(named[oid][2:], "big") for oid, part in _SPL.items() if oid in named}
    family = text.partition("-")[0]
    signer = found[1].decode()
    return SnpKey(raw, signer, family, chip, tcb, key, signed, bits[1:], issuer[2], start, end)


def _extensions(body: bytes) -> dict[bytes, bytes]:
    """AMD's extensions: what follows AMD's arc in the id -> value."""
    result = {}
    ((_, listed, _),) = _tlv(body)
    for _, entry, _ in _tlv(listed):
        (_, oid, _), *_, (_, value, _) = _tlv(entry)
        if oid.startswith(_AMD_OID):
            result[oid[len(_AMD_OID) :]] = value
    return result


def _moment(tag: int, body: bytes) -> datetime:
    text = body.decode("ascii")
    if tag == 0x17:  # UTCTime has two digits of the year, those of this century here
        text = "20" + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def snp_problem(
    report: SnpReport,
    held: SnpCertificates,
    as_of: datetime,
    roots: Sequence[tuple[str, str]],
    cache: VerifiedCache,
) -> str | None:
    """None, or why the report is not one of AMD's hardware at ``as_of``:

    1. The report is of a key that its certificate is for: VCEK or VLEK, family, chip.
    2. The chain is key, ASK or ASVK, ARK; it ends in the pinned root of the family.
    3. Each is signed by the next, and valid at ``as_of``.
    4. The key signed the report.
    """
    leaf, issuers = held.leaf, held.issuers

    # 1. The report is of a key that its certificate is for: VCEK or VLEK, family, chip.
    if report.signer != leaf.signer:
        return f"report says that {report.signer or 'no key'} signed it, the certificate is of a {leaf.signer}"
    if report.family and leaf.family != report.family:
        return f"report is of a {report.family} processor, the certificate of {leaf.family!r}"
    chip = report.registers["chip_id"]
    if leaf.signer == "VCEK" and leaf.chip_id.ljust(len(chip), b"\0") != chip:
        return f"report is of chip {chip.hex()[:16]}…, the certificate of {leaf.chip_id.hex()[:16]}…"

    # 2. The chain is key, ASK or ASVK, ARK; it ends in the pinned root of the family.
    if len(issuers) != 2:
        return f"found {len(issuers)} certificates of AMD above the {leaf.signer}, expected 2 (ASK or ASVK, and ARK)"
    if problem := chains.root_problem(issuers, dict(roots).get(leaf.family, "none for this family")):
        return problem

    # 3. Each is signed by the next, and valid at ``as_of``.
    key = ("snp", leaf.raw, *(chains.fingerprint(one) for one in issuers))
    if problem := cache.once(key, lambda: _link_problem(leaf, issuers)):
        return problem
    if not leaf.start <= as_of <= leaf.end:
        return f"{leaf.signer} is valid from {chains.stamp(leaf.start)} to {chains.stamp(leaf.end)}"
    if problem := chains.validity_problem(issuers, as_of):
        return problem

    # 4. The key signed the report.
    at = SIGNED_BYTES
    halves = (report.raw[at : at + _SIGNATURE_PART], report.raw[at + _SIGNATURE_PART : at + 2 * _SIGNATURE_PART])
    if any(half[48:].strip(b"\0") for half in halves):
        return "signature is longer than P-384 numbers"
    signature = b"".join(half[:48][::-1] for half in halves)
    return chains.signature_problem(leaf.key, signature, report.signed, hashes.SHA384(), ec.SECP384R1)


def _link_problem(leaf: SnpKey, issuers: Chain) -> str | None:
    issuer, root = issuers
    key = issuer.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        return "AMD's issuer has no RSA key"
    pss = padding.PSS(padding.MGF1(hashes.SHA384()), salt_length=48)
    try:
        key.verify(leaf.signature, leaf.signed, pss, hashes.SHA384())
    except InvalidSignature:
        return f"{leaf.signer} is not signed by {chains.common_name(issuer.subject)}"
    for child, parent in ((issuer, root), (root, root)):
        if not chains.issued_by(child, parent):
            return f"{chains.common_name(child.subject)} is not signed by {chains.common_name(parent.subject)}"
    basic = chains.extension(issuer, x509.BasicConstraints)
    return None if basic is not None and basic.ca else f"{chains.common_name(issuer.subject)} is no CA"


def tcb_problem(report: SnpReport, held: SnpCertificates) -> str | None:
    """None, or how the report's TCB is not the one that its key was derived for, or runs ahead.

    The reported version is at most the committed one, and that at most the current one.
    """
    reported, committed, current = (report.tcb(f"{name}_tcb") for name in ("reported", "committed", "current"))
    if reported != held.leaf.tcb:
        return f"reported TCB is {_shown(reported)}, the certificate is for {_shown(held.leaf.tcb)}"
    for low, high, names in ((reported, committed, "reported, committed"), (committed, current, "committed, current")):
        if any(low[part] > high[part] for part in low):
            return f"TCB versions {names} are out of order: {_shown(low)}, {_shown(high)}"
    return None


def _shown(tcb: Mapping[str, int]) -> str:
    return " ".join(f"{part} {number}" for part, number in sorted(tcb.items()))
