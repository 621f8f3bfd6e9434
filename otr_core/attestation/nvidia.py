"""Appraisal of one NVIDIA device (GPU or NVSwitch): from its report, chain, reference manifests and OCSP responses.

The checks, in this order (each a claim; ``claims.CHECKS`` has a sentence on each):

1. report parses (done when the bundle was loaded)
2. certificate chain: length, links, validity, usage, root
3. signature of the report with the leaf key
4. firmware id of the report against the one certified in the leaf
5. nonce: the expected one, and the one written beside the evidence
6. policy on driver, VBIOS, mode and identity
7. revocation of the device chain
8. for driver and VBIOS: manifest identity, signature, chain, validity, revocation, golden values
9. what the golden values leave uncovered

Checks across devices (one nonce, no device twice) are made by ``appraisal.py``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from otr_core.attestation import chain as chains
from otr_core.attestation.chain import VENDOR_ROOTS, Chain, TrustRoots, VerifiedCache
from otr_core.attestation.claims import CHECKS, ClaimLog, Source
from otr_core.attestation.ocsp import OcspResponse, revocation
from otr_core.attestation.policy import Policy
from otr_core.attestation.report import Report, field_name, parse_report
from otr_core.attestation.rim import CoverageRow, GoldenValue, Rim, rim_coverage

__all__ = ["Device", "DeviceAppraisal", "appraise_device", "certified_fwids", "parse_report"]

CHAIN_LENGTH = 5  # firmware (FMC) leaf, boot ROM, provisioner, architecture identity, root
REVOCABLE = (
    1,
    2,
    3,
)  # the leaf is never listed by NVIDIA's responders: a GPU is revoked through its boot ROM's certificate
SWITCHES = ("LS10",)  # architectures of NVSwitches; all others are GPUs
DICE_OID = "2.23.133.5.4.1"  # TCG DICE TcbInfo / legacy composite device id
_SHA384_OID = bytes.fromhex("0609608648016503040202")


@dataclass(frozen=True)
class Device:
    """One device's evidence.

    Attributes:
        report, chain: parsed; an empty chain means that none was handed in.
        stated_nonce: nonce written beside the evidence in a vendor's JSON, if any. Nobody signed it.
    """

    report: Report
    chain: Chain
    stated_nonce: bytes | None = None

    @property
    def architecture(self) -> str:
        """Chip name certified in the leaf (``GH100``, ``GB100``, ``LS10``, …); empty without a chain."""
        name = chains.common_name(self.chain[0].subject) if self.chain else ""
        return name.split(" ")[0].replace("_", "")  # certificates say LS_10 where manifests say LS10

    @property
    def kind(self) -> str:
        """``switch`` or ``gpu``, on the word of the certificate: a GPU cannot escape its driver's check as a switch."""
        return ("switch" if self.architecture in SWITCHES else "gpu") if self.chain else self.report.kind

    @property
    def ueid(self) -> str:
        """Identity NVIDIA uses: the leaf's serial number in decimal; empty without a chain."""
        return str(self.chain[0].serial_number) if self.chain else ""


@dataclass(frozen=True)
class DeviceAppraisal:
    """What one device's evidence says beside the claims."""

    subject: str
    facts: Mapping[str, Any]
    coverage: tuple[CoverageRow, ...] = field(default=())

    def coverage_rows(self) -> list[dict[str, Any]]:
        """Coverage as JSON-typed rows, the device's name in each."""
        return [{"subject": self.subject, **dataclasses.asdict(row)} for row in self.coverage]


@dataclass(frozen=True)
class DeviceInputs:
    """What a device is appraised with: everything that is not its own evidence."""

    policy: Policy
    as_of: datetime
    nonce: bytes | None
    rims: Sequence[Rim]
    ocsp: Sequence[OcspResponse]
    registered: Mapping[str, int] | None
    cache: VerifiedCache
    roots: TrustRoots = VENDOR_ROOTS
    versions: frozenset[tuple[str, str]] = frozenset()  # (kind, version) run by any device of the bundle


def appraise_device(device: Device, subject: str, log: ClaimLog, given: DeviceInputs) -> DeviceAppraisal:
    """Append all claims about ``device`` to ``log``; see the module for the list."""
    report, chain = device.report, device.chain
    # 1
    good = f"{len(report.measurements)} measurements and {len(report.opaque)} opaque fields, no byte left over"
    log.judge("report", None, good, Source.DERIVED, report.raw)
    # 2, 3, 4
    if chain:
        authentic = _check_chain(device, log, given)
        problem = _signature_problem(device, given.cache)
        log.judge("signature", problem, "the leaf key signed this report", Source.HARDWARE, report.raw)
        log.authentic = authentic and problem is None
        _check_fwid(device, log)
    else:
        parts = [f"chain.{part}" for part in ("length", "links", "validity", "usage", "root")]
        log.unknown([*parts, "signature", "fwid"], "no certificate chain in the bundle")
        log.authentic = False
    # 5
    _check_nonces(device, log, given)
    # 6
    _check_policy(device, log, given)
    # 7
    if not chain or len(chain) <= max(REVOCABLE) + 1:
        log.unknown(["revocation"], "no complete certificate chain in the bundle")
    else:
        _check_revocation("revocation", chain, REVOCABLE, log, given)
    # 8
    golden = {}
    for kind in ("driver", "vbios") if device.kind == "gpu" else ("vbios",):
        values = _check_rim(kind, device, log, given)
        if values is not None:
            golden[kind] = values
    # 9
    rows = rim_coverage(report, golden) if golden else ()
    _check_coverage(rows, golden, device, log)
    return DeviceAppraisal(subject, facts(device), rows)


def facts(device: Device) -> dict[str, Any]:
    """What the report and chain say about the device, JSON-typed; byte strings as hex."""
    report = device.report
    named = {field_name(number): value.hex() for number, value in report.opaque}
    mode = report.field("PROTECTED_PCIE_STATUS")
    return {
        "kind": device.kind,
        "architecture": device.architecture,
        "hwmodel": chains.common_name(device.chain[1].subject) if len(device.chain) > 1 else "",
        "ueid": device.ueid,
        "nonce": report.nonce.hex(),
        "driver": report.driver_version or "",
        "vbios": report.vbios_version or "",
        "rim_ids": report.rim_ids(device.architecture),
        "board": " ".join(report.text(name) or "" for name in ("PROJECT", "PROJECT_SKU", "CHIP_SKU")).strip(),
        "protected_pcie": {b"\x55": "off", b"\xaa": "on"}.get(mode or b"", "not stated"),
        "switch_pdis": _pdis(report),
        "opaque": named,
        "report_sha256": report.sha256,
    }


def _pdis(report: Report) -> list[str]:
    """Ids of the switches a GPU is wired to (one per link), or a switch's own id; each once, in order."""
    value = report.field("SWITCH_PDI") or b""
    found = [value[i : i + 8].hex() for i in range(0, len(value) - 7, 8)]
    return sorted({pdi for pdi in found if pdi.strip("0")})


def _check_chain(device: Device, log: ClaimLog, given: DeviceInputs) -> bool:
    """Claims on the device chain; returns whether all of them are asserted."""
    chain, raw = device.chain, chains.der(device.chain)
    problem = chains.length_problem(chain, CHAIN_LENGTH)
    good = log.judge("chain.length", problem, f"{CHAIN_LENGTH} certificates", Source.DERIVED, raw)
    problem = chains.link_problem(chain, given.cache)
    good &= log.judge("chain.links", problem, "each certificate is signed by the next", Source.COLLATERAL, raw)
    problem = chains.validity_problem(chain, given.as_of)
    valid = f"all certificates valid at {chains.stamp(given.as_of)}"
    good &= log.judge("chain.validity", problem, valid, Source.COLLATERAL, raw)
    problem = chains.usage_problem(chain)
    good &= log.judge("chain.usage", problem, "CA flags, key usages and path lengths hold", Source.COLLATERAL, raw)
    problem = chains.root_problem(chain, given.roots.device)
    return good & log.judge("chain.root", problem, "ends in the pinned device root", Source.COLLATERAL, raw)


def _signature_problem(device: Device, cache: VerifiedCache) -> str | None:
    key, report = device.chain[0].public_key(), device.report
    memo = ("report", chains.fingerprint(device.chain[0]), report.sha256)
    problem: str | None = cache.once(
        memo, lambda: chains.signature_problem(key, report.signature, report.signed, hashes.SHA384(), ec.SECP384R1)
    )
    return problem


def _check_fwid(device: Device, log: ClaimLog) -> None:
    certified, reported = certified_fwids(device.chain[0]), device.report.field("FWID")
    if not certified:
        log.unknown(["fwid"], "the leaf certificate carries no firmware id")
    elif reported is None and device.kind == "switch":
        log.unknown(["switch_fwid"], "NVSwitch reports carry no firmware id to compare with the certified one")
    elif reported is None:
        log.unknown(["fwid"], "the report carries no firmware id to compare with the certified one")
    else:
        problem = None
        if reported not in certified:
            problem = f"report says {reported.hex()}, leaf certifies {', '.join(value.hex() for value in certified)}"
        good = f"firmware id {reported.hex()[:16]}… as certified"
        log.judge("fwid", problem, good, Source.HARDWARE, device.report.raw + b"".join(certified))


def certified_fwids(leaf: x509.Certificate) -> tuple[bytes, ...]:
    """SHA-384 firmware ids in the leaf's DICE extension, all-zero ones left out.

    Hopper uses the legacy composite id, Blackwell DiceTcbInfo; in both a firmware id is SEQUENCE { hash OID, digest }.
    """
    for extension in leaf.extensions:
        if extension.oid.dotted_string == DICE_OID:
            value = extension.value
            raw = value.value if isinstance(value, x509.UnrecognizedExtension) else b""
            return tuple(digest for digest in _sha384_digests(raw) if any(digest))
    return ()


def _sha384_digests(data: bytes, depth: int = 8) -> Iterator[bytes]:
    """Digests of every SEQUENCE { SHA-384 OID, OCTET STRING } in DER ``data``, at most ``depth`` levels down.

    Malformed DER yields none.
    """
    at = 0
    while at + 2 <= len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(data[at : at + size], "big"), at + size
        body = data[at : at + length]
        if len(body) != length:
            return
        if tag == 0x30 and body[:11] == _SHA384_OID and body[11:13] == b"\x04\x30" and length == 61:
            yield body[13:]
        elif tag & 0x20 and depth:  # constructed: look inside
            yield from _sha384_digests(body, depth - 1)
        at += length


def _check_nonces(device: Device, log: ClaimLog, given: DeviceInputs) -> None:
    found = device.report.nonce
    if given.nonce is None:
        log.unknown(["nonce"], "no expected nonce was given: the report may be a replay")
    else:
        problem = None
        if found != given.nonce:
            problem = f"signed request carries {found.hex()}, expected {given.nonce.hex()}"
        log.judge("nonce", problem, f"signed request carries {found.hex()}", Source.HARDWARE, device.report.raw)
    if device.stated_nonce is not None:
        problem = None
        if device.stated_nonce != found:
            problem = f"written beside the evidence: {device.stated_nonce.hex()}, in the signed request: {found.hex()}"
        log.judge("stated_nonce", problem, "written nonce is the signed one", Source.OPERATOR, device.report.raw)


def _check_policy(device: Device, log: ClaimLog, given: DeviceInputs) -> None:
    report, policy = device.report, given.policy
    versions = (
        ("driver", policy.gpu_drivers, report.driver_version),
        ("vbios", policy.gpu_vbios, report.vbios_version),
    )
    if device.kind == "gpu":
        for check, allowed, found in versions:
            if allowed is not None:
                problem = None if found in allowed else f"found {found}, allowed {', '.join(allowed)}"
                log.judge(check, problem, f"{found} is allowed", Source.HARDWARE, report.raw)
        if policy.gpu_protected_pcie is not None:
            state, wanted = facts(device)["protected_pcie"], "on" if policy.gpu_protected_pcie else "off"
            problem = None if state == wanted else f"protected PCIe is {state}, expected {wanted}"
            log.judge("mode", problem, f"protected PCIe is {state}", Source.HARDWARE, report.raw)
    admit(log, "platform", device.ueid, policy.gpu_ids, policy.gpu_max_nodes, given.registered)


def admit(
    log: ClaimLog,
    check: str,
    identity: str,
    admitted: Sequence[str] | None,
    max_nodes: int | None,
    registered: Mapping[str, int] | None,
) -> None:
    """Admission of one platform: on the policy's list, and below its cap given the nodes already ``registered``."""
    if admitted is None and max_nodes is None:
        return
    if not identity:
        log.unknown([check], "the evidence names no platform")
    elif admitted is not None and identity not in admitted:
        log.judge(check, f"platform {identity} is not on the list of admitted ones", "", Source.HARDWARE)
    elif max_nodes is not None and registered is None:
        log.unknown([check], "no registry was given to count nodes on this platform")
    elif max_nodes is not None and registered is not None and registered.get(identity, 0) >= max_nodes:
        found = registered[identity]
        log.judge(check, f"platform {identity} already carries {found} nodes, allowed {max_nodes}", "", Source.OPERATOR)
    else:
        log.judge(check, None, f"platform {identity} is admitted", Source.HARDWARE)


def _check_revocation(check: str, chain: Chain, positions: Sequence[int], log: ClaimLog, given: DeviceInputs) -> None:
    status, reason, used = revocation(
        chain, positions, given.ocsp, given.as_of, given.policy.ocsp_max_staleness_s, given.cache
    )
    log.add(check, status, Source.COLLATERAL, reason, used or None)


def _check_rim(kind: str, device: Device, log: ClaimLog, given: DeviceInputs) -> Sequence[GoldenValue] | None:
    """Claims on the manifest of ``kind``; returns its signed golden values, or None if there are none to compare."""
    report = device.report
    version = report.driver_version if kind == "driver" else report.vbios_version
    of_kind = [rim for rim in given.rims if rim.kind == kind and rim.product == device.architecture]
    exact = [rim for rim in of_kind if rim.version.upper() == (version or "").upper()]
    # A manifest that another device of the bundle runs is not this device's; one that none runs is offered for it.
    offered = exact or [rim for rim in of_kind if (kind, rim.version.upper()) not in given.versions]
    if not offered:
        checks = [name[4:] for name in CHECKS if name.startswith((f"gpu.rim.{kind}", f"gpu.measurements.{kind}"))]
        name = report.rim_ids(device.architecture).get(kind, f"{kind} {version}")
        log.unknown(checks, f"no reference manifest {name} in the bundle")
        return None
    # A manifest can be re-signed, and a forged one can lie beside it: take one that verifies now, if there is one.
    rim = next((one for one in offered if _rim_problem(one, given) is None), offered[0])
    problem = None if exact else f"manifest is for {rim.version}, the device runs {version}"
    log.judge(f"rim.{kind}.identity", problem, f"manifest is for {rim.version}", Source.COLLATERAL, rim.raw)
    problem = rim.signature_problem(given.cache)
    log.judge(f"rim.{kind}.signature", problem, "signature covers the whole manifest", Source.COLLATERAL, rim.raw)
    problem = rim.chain_problem(given.roots.rim, given.cache)
    log.judge(f"rim.{kind}.chain", problem, "ends in the pinned reference-value root", Source.COLLATERAL, rim.raw)
    problem = chains.validity_problem(rim.chain, given.as_of)
    good = f"signer chain valid at {chains.stamp(given.as_of)}"
    log.judge(f"rim.{kind}.validity", problem, good, Source.COLLATERAL, rim.raw)
    if len(rim.chain) > 1:
        _check_revocation(f"rim.{kind}.revocation", rim.chain, range(len(rim.chain) - 1), log, given)
    else:
        log.unknown([f"rim.{kind}.revocation"], "the manifest carries no signer chain")
    golden = rim.signed_golden(given.cache)
    if not any(value.active for value in golden):
        log.unknown([f"measurements.{kind}"], "the manifest has no signed active golden value")
        return None
    rows = [row for row in rim_coverage(report, {kind: golden}) if row.kind == kind]
    wrong = [row for row in rows if row.result not in ("matched", "alternative")]
    problem = None
    if wrong:
        listed = ", ".join(f"{row.index} ({row.result})" for row in wrong[:20])
        problem = f"{len(wrong)} of {len(rows)} golden values do not hold at index {listed}"
    good = f"{len(rows)} of {len(rows)} golden values match"
    log.judge(f"measurements.{kind}", problem, good, Source.HARDWARE, report.raw + rim.raw)
    return golden


def _rim_problem(rim: Rim, given: DeviceInputs) -> str | None:
    return (
        chains.validity_problem(rim.chain, given.as_of)
        or rim.chain_problem(given.roots.rim, given.cache)
        or rim.signature_problem(given.cache)
    )


def _check_coverage(
    rows: Sequence[CoverageRow], golden: Mapping[str, Sequence[GoldenValue]], device: Device, log: ClaimLog
) -> None:
    report = device.report
    needed = 2 if device.kind == "gpu" else 1
    if len(golden) < needed:
        log.unknown(["measurements.conflict", "measurements.covered"], "not all reference manifests are in the bundle")
        return
    active = [row.index for row in rows if row.kind]
    twice = sorted({index for index in active if active.count(index) > 1})
    problem = f"index {', '.join(map(str, twice))} is active in both manifests" if twice else None
    log.judge("measurements.conflict", problem, "no index is active in both manifests", Source.COLLATERAL, report.raw)
    bare = [row.index for row in rows if row.result == "no golden value"]
    if bare:
        log.unknown(["measurements.covered"], f"no golden value for the measurements {', '.join(map(str, bare))}")
    else:
        log.judge(
            "measurements.covered", None, "every non-zero measurement has a golden value", Source.DERIVED, report.raw
        )
