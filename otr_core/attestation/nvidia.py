"""Appraisal of one NVIDIA device (GPU or NVSwitch), with reference manifests and OCSP responses.

``appraise_device`` lists the checks in their order; ``claims.CHECKS`` has a sentence on each claim.
Checks across devices (all answered one nonce, none appears twice) are made by ``appraisal.py``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from otr_core.attestation import chain as chains
from otr_core.attestation.bundle import Device
from otr_core.attestation.chain import Chain, VerifiedCache
from otr_core.attestation.claims import CHECKS, ClaimLog, Source
from otr_core.attestation.machine import linked_pdis, mode, own_pdi
from otr_core.attestation.ocsp import revocation
from otr_core.attestation.policy import MODES, Inquiry, admit
from otr_core.attestation.report import Report, field_name
from otr_core.attestation.rim import CoverageRow, Rim, golden_rows, rim_coverage

CHAIN_LENGTH = 5  # firmware (FMC) leaf, boot ROM, provisioner, architecture identity, root
#: Positions in the chain whose revocation can be asked for. NVIDIA's responders do not list the
#: leaf: a GPU is revoked through the certificate of its boot ROM.
REVOCABLE = (1, 2, 3)
#: TCG DICE extensions that hold firmware ids: the legacy composite device id in Hopper's and
#: NVSwitches' leaves, TcbInfo (DICE attestation architecture 1.1, section 6.1.1) in Blackwell's.
DICE_OID, TCB_INFO_OID = "2.23.133.5.4.1", "2.23.133.5.4.1.1"
_NO_CONFIDENTIAL = (
    "not shown: no field of the signed report is known to state confidential or developer mode; "
    "where the guest asks the driver and measures the answer, its event log shows it"
)
_SHA384_OID = bytes.fromhex("0609608648016503040202")


@dataclass(frozen=True)
class DeviceAppraisal:
    """What one device's evidence says, apart from the claims about it.

    Attributes:
        subject: the device's name in claim ids.
        facts: what the function ``facts`` reads out of report and chain.
        coverage: which measurements the manifests vouch for; empty without manifests.
    """

    subject: str
    facts: Mapping[str, Any]
    coverage: tuple[CoverageRow, ...] = ()


def appraise_device(device: Device, subject: str, log: ClaimLog, given: Inquiry) -> DeviceAppraisal:
    """Append all claims about ``device`` to ``log``, in this order:

    1. The report parses completely (``parse_report`` did this when the bundle was loaded).
    2. The certificate chain has NVIDIA's length, its links, validity and usage hold, and it ends in
       the pinned root.
    3. The leaf key signed the report.
    4. The report's firmware id is the one certified in the leaf.
    5. The nonce in the signed request is the expected one, and the one written beside the evidence.
    6. The policy allows architecture, board, driver, VBIOS, mode and the device's identity.
    7. OCSP responses say good for the device chain.
    8. For driver and VBIOS: manifest identity, signature, chain, validity and revocation; golden
       values match.
    9. No measurement has golden values in two manifests, and none is without a golden value.

    Args:
        subject: the device's name in claim ids, for example ``gpu.0``.
    """
    report, chain = device.report, device.chain

    # 1. The report parses completely (``parse_report`` did this when the bundle was loaded).
    parts = f"{len(report.measurements)} measurements and {len(report.opaque)} opaque fields"
    log.judge("report", None, f"{parts}, no byte left over", Source.DERIVED, report.sha256)

    if chain:
        # 2. The certificate chain has NVIDIA's length, its links, validity and usage hold, and it
        # ends in the pinned root.
        chain_holds = _check_chain(chain, log, given)

        # 3. The leaf key signed the report. Only then do the report's fields count as the
        # hardware's word.
        problem = _signature_problem(device, given.cache)
        good = "the leaf key signed this report"
        signed = log.judge("signature", problem, good, Source.HARDWARE, report.sha256)
        log.authentic = chain_holds and signed

        # 4. The report's firmware id is the one certified in the leaf.
        _check_fwid(device, log)
    else:
        checks = ("chain.length", "chain.links", "chain.validity", "chain.usage", "chain.root")
        log.unknown([*checks, "signature", "fwid"], "no certificate chain in the bundle")
        log.authentic = False

    # 5. The nonce in the signed request is the expected one, and the one written beside the
    # evidence.
    _check_nonces(device, log, given)

    # 6. The policy allows architecture, board, driver, VBIOS, mode and the device's identity.
    _check_policy(device, log, given)

    # 7. OCSP responses say good for the device chain.
    if len(chain) <= max(REVOCABLE) + 1:
        log.unknown(["revocation"], "no complete certificate chain in the bundle")
    else:
        _check_revocation("revocation", chain, REVOCABLE, log, given)

    # 8. For driver and VBIOS: manifest identity, signature, chain, validity and revocation; golden
    # values match.
    kinds = ("driver", "vbios") if device.kind == "gpu" else ("vbios",)
    found = {kind: _check_rim(kind, device, log, given) for kind in kinds}
    compared = [rows for rows in found.values() if rows is not None]

    # 9. No measurement has golden values in two manifests, and none is without a golden value.
    rows = rim_coverage(report, [row for rows in compared for row in rows]) if compared else ()
    if len(compared) < len(kinds):
        missing = "not all reference manifests are in the bundle"
        log.unknown(["measurements.conflict", "measurements.covered"], missing)
    else:
        _check_coverage(rows, report, log)
    return DeviceAppraisal(subject, facts(device), rows)


def facts(device: Device) -> dict[str, Any]:
    """What the report and chain say about the device, JSON-typed; byte strings as hex."""
    report = device.report
    return {
        "kind": device.kind,
        "architecture": device.architecture,
        "hwmodel": chains.common_name(device.chain[1].subject) if len(device.chain) > 1 else "",
        "ueid": device.ueid,
        "nonce": report.nonce.hex(),
        "driver": report.driver_version or "",
        "vbios": report.vbios_version or "",
        "rim_ids": report.rim_ids(device.architecture),
        "board": _board(report),
        "mode": mode(report) if device.kind == "gpu" else "",
        "protected_pcie": _protected_pcie(report),
        "pdi": own_pdi(device),
        "linked_pdis": list(linked_pdis(device)),
        "opaque": {field_name(number): value.hex() for number, value in report.opaque},
        "report_sha256": report.sha256,
    }


def _protected_pcie(report: Report) -> str:
    return {MODES[0]: "off", MODES[1]: "off", MODES[2]: "on"}.get(mode(report), "not stated")


def _board(report: Report) -> str:
    return " ".join(report.text(name) or "" for name in ("PROJECT", "PROJECT_SKU", "CHIP_SKU")).strip()


def _check_chain(chain: Chain, log: ClaimLog, given: Inquiry) -> bool:
    """Claims on the device chain; returns whether all of them are asserted."""
    root = given.roots.device
    raw, links, usage, ends = given.cache.once(
        ("device chain", chain, root),
        lambda: (
            chains.der(chain),
            chains.link_problem(chain, given.cache),
            chains.usage_problem(chain),
            chains.root_problem(chain, root),
        ),
    )
    problem = chains.length_problem(chain, CHAIN_LENGTH)
    holds = log.judge("chain.length", problem, f"{CHAIN_LENGTH} certificates", Source.DERIVED, raw)
    valid = f"all certificates valid at {chains.stamp(given.as_of)}"
    for part, problem, good in (
        ("links", links, "each certificate is signed by the next"),
        ("validity", chains.validity_problem(chain, given.as_of), valid),
        ("usage", usage, "CA flags, key usages and path lengths hold"),
        ("root", ends, "ends in the pinned device root"),
    ):
        holds &= log.judge(f"chain.{part}", problem, good, Source.COLLATERAL, raw)
    return holds


def _signature_problem(device: Device, cache: VerifiedCache) -> str | None:
    key, report = device.chain[0].public_key(), device.report
    memo = ("report", device.chain[0], report.sha256)
    signed = (key, report.signature, report.signed)
    return cache.once(memo, lambda: chains.signature_problem(*signed, hashes.SHA384(), ec.SECP384R1))


def _check_fwid(device: Device, log: ClaimLog) -> None:
    certified, reported = certified_fwids(device.chain[0]), device.report.field("FWID")
    if not certified:
        log.unknown(["fwid"], "the leaf certificate carries no firmware id")
    elif reported is None and device.kind == "switch":
        log.unknown(["switch_fwid"], "NVSwitch reports carry no firmware id to compare with the certified one")
    elif reported is None:
        log.unknown(["fwid"], "the report carries no firmware id to compare with the certified one")
    else:
        bad = f"report says {reported.hex()}, leaf certifies {', '.join(value.hex() for value in certified)}"
        good = f"firmware id {reported.hex()[:16]}… as certified"
        log.decide("fwid", reported in certified, good, bad, Source.HARDWARE, device.report.raw + b"".join(certified))


def certified_fwids(leaf: x509.Certificate) -> tuple[bytes, ...]:
    """SHA-384 firmware ids in the leaf's DICE extensions, all-zero ones left out.

    In both of them a firmware id is SEQUENCE { hash OID, digest }.
    """
    names, found = (DICE_OID, TCB_INFO_OID), (one for one in leaf.extensions)
    dice = [one.value for one in found if one.oid.dotted_string in names]
    values = [one.value for one in dice if isinstance(one, x509.UnrecognizedExtension)]
    return tuple(digest for value in values for digest in _sha384_digests(value) if any(digest))


def _sha384_digests(data: bytes, depth: int = 8) -> Iterator[bytes]:
    """Digests of all SEQUENCE { SHA-384 OID, OCTET STRING } in DER, at most ``depth`` levels down.

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


def _check_nonces(device: Device, log: ClaimLog, given: Inquiry) -> None:
    found, raw = device.report.nonce, device.report.sha256
    if given.nonce is None:
        log.unknown(["nonce"], "no expected nonce was given: the report may be a replay")
    else:
        # Some providers have the GPU sign the digest of the verifier's nonce (hex digits) and a key.
        preimage = given.bundle.preimage or b""
        derived = preimage.startswith(given.nonce.hex().encode()) and hashlib.sha256(preimage).digest() == found
        good = f"signed request carries {found.hex()}{', the digest of the nonce and a key' * derived}"
        bad = f"{good}, expected {given.nonce.hex()}"
        log.decide("nonce", found == given.nonce or derived, good, bad, Source.HARDWARE, raw)
    stated = device.stated_nonce
    if stated is not None:
        bad = f"written beside the evidence: {stated.hex()}, in the signed request: {found.hex()}"
        log.decide("stated_nonce", found == stated, "written nonce is the signed one", bad, Source.OPERATOR, raw)


def _check_policy(device: Device, log: ClaimLog, given: Inquiry) -> None:
    report, policy = device.report, given.policy
    log.unknown(["confidential"], _NO_CONFIDENTIAL)
    versions = (
        ("architecture", policy.gpu_architectures, device.architecture),
        ("board", policy.gpu_boards, _board(report)),
        ("driver", policy.gpu_drivers, report.driver_version),
        ("vbios", policy.gpu_vbios, report.vbios_version),
    )
    if device.kind == "gpu":
        for check, allowed, found in versions:
            if allowed is not None:
                bad = f"found {found}, allowed {', '.join(allowed)}"
                log.decide(check, found in allowed, f"{found} is allowed", bad, Source.HARDWARE, report.sha256)
        wanted = {True: ["on"], False: ["off"], None: ["on", "off", "not stated"]}[policy.gpu_protected_pcie]
        if policy.gpu_protected_pcie is not None or policy.gpu_modes is not None:
            good = f"mode {mode(report)}, protected PCIe {_protected_pcie(report)}"
            modes = policy.gpu_modes or (*MODES, "not stated")
            bad = f"{good}, expected mode {' or '.join(modes)}, protected PCIe {' or '.join(wanted)}"
            holds = mode(report) in modes and _protected_pcie(report) in wanted
            log.decide("mode", holds, good, bad, Source.HARDWARE, report.sha256)
        admit(log, device.ueid, policy.gpu_ids, policy.gpu_max_nodes, given.registered)


def _check_revocation(check: str, chain: Chain, positions: Sequence[int], log: ClaimLog, given: Inquiry) -> None:
    ages = given.policy.ocsp_max_staleness_s, given.cache, given.policy.ocsp_grace_s
    status, reason, used = revocation(chain, positions, given.bundle.ocsp, given.as_of, *ages)
    log.add(check, status, Source.COLLATERAL, reason, used or None)


def _check_rim(kind: str, device: Device, log: ClaimLog, given: Inquiry) -> list[CoverageRow] | None:
    """Claims on the device's manifest of ``kind`` (``driver`` or ``vbios``).

    Returns:
        Its signed golden values compared; None without a manifest, or if no value counts.
    """
    report = device.report
    version = report.driver_version if kind == "driver" else report.vbios_version
    of_kind = [rim for rim in given.bundle.rims if rim.kind == kind and rim.product == device.architecture]
    exact = [rim for rim in of_kind if rim.version.upper() == (version or "").upper()]
    # Without an exact one, a manifest is taken to be meant for this device (and refuted as such),
    # unless another device of the bundle runs its version: then it was handed in for that one.
    offered = exact or [rim for rim in of_kind if (kind, rim.version.upper()) not in given.bundle.versions]
    if not offered:
        checks = [name[4:] for name in CHECKS if name.startswith((f"gpu.rim.{kind}", f"gpu.measurements.{kind}"))]
        name = report.rim_ids(device.architecture).get(kind, f"{kind} {version}")
        log.unknown(checks, f"no reference manifest {name} in the bundle")
        return None
    # NVIDIA re-signs manifests, and a forged one can lie beside the genuine one: prefer one that
    # verifies now.
    rim = next((one for one in offered if _rim_problem(one, given) is None), offered[0])
    mismatch = None if exact else f"manifest is for {rim.version}, the device runs {version}"
    valid = f"signer chain valid at {chains.stamp(given.as_of)}"
    for part, problem, good in (
        ("identity", mismatch, f"manifest is for {rim.version}"),
        ("signature", rim.signature_problem(given.cache), "signature covers the whole manifest"),
        ("chain", rim.chain_problem(given.roots.rim, given.cache), "ends in the pinned reference-value root"),
        ("validity", chains.validity_problem(rim.chain, given.as_of), valid),
    ):
        log.judge(f"rim.{kind}.{part}", problem, good, Source.COLLATERAL, rim.sha256)
    if len(rim.chain) > 1:
        _check_revocation(f"rim.{kind}.revocation", rim.chain, range(len(rim.chain) - 1), log, given)
    else:
        log.unknown([f"rim.{kind}.revocation"], "the manifest carries no signer chain")
    rows = golden_rows(report, kind, rim.signed_golden(given.cache))
    if not rows:
        log.unknown([f"measurements.{kind}"], "the manifest has no signed active golden value")
        return None
    wrong = [row for row in rows if row.result not in ("matched", "alternative", "disabled")]
    listed = ", ".join(f"{row.index} ({row.result})" for row in wrong[:20])
    bad = f"{len(wrong)} of {len(rows)} golden values do not hold at index {listed}"
    good = f"{len(rows)} of {len(rows)} golden values match"
    if skipped := sum(row.result == "disabled" for row in rows):
        good = f"{len(rows) - skipped} of {len(rows)} golden values match, {skipped} is of a disabled engine"
    log.decide(f"measurements.{kind}", not wrong, good, bad, Source.HARDWARE, report.raw + rim.raw)
    return rows


def _rim_problem(rim: Rim, given: Inquiry) -> str | None:
    """None, or why nobody can rely on the manifest at the time of the appraisal."""
    return (
        chains.validity_problem(rim.chain, given.as_of)
        or rim.chain_problem(given.roots.rim, given.cache)
        or rim.signature_problem(given.cache)
    )


def _check_coverage(rows: Sequence[CoverageRow], report: Report, log: ClaimLog) -> None:
    active = [row.index for row in rows if row.kind]
    twice = sorted({index for index in active if active.count(index) > 1})
    bad = f"index {', '.join(map(str, twice))} is active in both manifests"
    good = "no index is active in both manifests"
    log.decide("measurements.conflict", not twice, good, bad, Source.COLLATERAL, report.sha256)
    bare = ", ".join(str(row.index) for row in rows if row.result == "no golden value")
    if bare:
        log.unknown(["measurements.covered"], f"no golden value for the measurements {bare}")
    else:
        good = "every non-zero measurement has a golden value"
        log.judge("measurements.covered", None, good, Source.DERIVED, report.sha256)
