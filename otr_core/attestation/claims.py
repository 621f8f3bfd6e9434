"""What an appraisal says: one claim per check, each with its status, its source and its reason.

A claim is *asserted* (checked and true), *refuted* (checked and false), *unknown* (could not be
checked with what the bundle holds) or *not made* (there is nothing in the bundle that the check is
about, or the policy states no value to compare with). The last two never count as true.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from otr_core.errors import PolicyError


class Status(StrEnum):
    """Outcome of one check."""

    ASSERTED = "asserted"
    REFUTED = "refuted"
    UNKNOWN = "unknown"
    NOT_MADE = "not made"


class Source(StrEnum):
    """On whose word a claim rests."""

    HARDWARE = "hardware"  # signed by the device itself
    COLLATERAL = "collateral"  # signed by the vendor: reference values, revocation, TCB information
    DERIVED = "derived"  # computed here from parsed bytes
    OPERATOR = "operator"  # only said by whoever handed the evidence in


#: Every check there is, in the order of checking, with what it asserts. ``gpu`` stands for any
#: NVIDIA device, so for an NVSwitch too.
CHECKS: dict[str, str] = {
    "evidence.present": "the kinds of evidence that the policy demands are in the bundle",
    "evidence.readable": "every manifest and revocation response that was handed in could be read",
    "evidence.genuine": "the evidence comes from hardware, not from a simulated TEE",
    "gpu.report": "SPDM request and response parse completely, with nothing left over",
    "gpu.chain.length": "the certificate chain has the five certificates NVIDIA issues",
    "gpu.chain.links": "each certificate is named and signed by the next",
    "gpu.chain.validity": "every certificate is valid at the time of appraisal",
    "gpu.chain.usage": "issuers are CAs allowed to sign certificates, the leaf may sign data, path lengths hold",
    "gpu.chain.root": "the chain ends in NVIDIA's pinned root",
    "gpu.signature": "the report is signed by the leaf key (ECDSA P-384, SHA-384)",
    "gpu.fwid": "the firmware id in the report equals the one certified in the leaf",
    "gpu.switch_fwid": "the firmware id in an NVSwitch's report equals the one certified in the leaf",
    "gpu.nonce": "the signed SPDM request carries the nonce the verifier expects",
    "gpu.stated_nonce": "the nonce written beside the evidence equals the one in the signed request",
    "gpu.same_nonce": "all devices of the bundle answered one nonce",
    "gpu.unique": "no device appears twice",
    "gpu.count": "the number of GPUs is the one the policy states",
    "gpu.switch_count": "the number of NVSwitches is the one the policy states",
    "gpu.one_mode": "all GPUs state one mode (single, multi or protected PCIe), and each states it without conflict",
    "gpu.topology": "the GPUs list exactly the bundle's NVSwitches, and each NVSwitch exactly the bundle's GPUs",
    "gpu.architecture": "the chip named in the certificate is allowed",
    "gpu.board": "the board (project, project SKU, chip SKU) is allowed",
    "gpu.confidential": "the report states that confidential mode is on and developer mode off",
    "gpu.driver": "the driver version is allowed",
    "gpu.vbios": "the VBIOS version is allowed",
    "gpu.mode": "protected PCIe is in the state, and the mode is one, that the policy states",
    "gpu.platform": "the device is admitted: on the list of ids, and not used by too many nodes",
    "gpu.revocation": "stapled OCSP responses say good for every certificate that can be revoked",
    "gpu.rim.driver.identity": "a reference manifest for this driver is in the bundle",
    "gpu.rim.driver.signature": "the manifest's XML signature verifies and covers the whole document",
    "gpu.rim.driver.chain": "the manifest's signer chain leads to NVIDIA's pinned reference-value root",
    "gpu.rim.driver.validity": "the manifest's signer chain is valid at the time of appraisal",
    "gpu.rim.driver.revocation": "stapled OCSP responses say good for the manifest's signer chain",
    "gpu.measurements.driver": "every golden value of the driver manifest equals the runtime measurement",
    "gpu.rim.vbios.identity": "a reference manifest for this VBIOS is in the bundle",
    "gpu.rim.vbios.signature": "the manifest's XML signature verifies and covers the whole document",
    "gpu.rim.vbios.chain": "the manifest's signer chain leads to NVIDIA's pinned reference-value root",
    "gpu.rim.vbios.validity": "the manifest's signer chain is valid at the time of appraisal",
    "gpu.rim.vbios.revocation": "stapled OCSP responses say good for the manifest's signer chain",
    "gpu.measurements.vbios": "every golden value of the VBIOS manifest equals the runtime measurement",
    "gpu.measurements.conflict": "no measurement index has active golden values in both manifests",
    "gpu.measurements.covered": "every non-zero runtime measurement has a golden value",
    "cpu.quote": "quote or report, certificates and collateral verify to the vendor's root at the time of appraisal",
    "cpu.tcb": "the platform's TCB is allowed: Intel's status of it, or AMD's versions as certified and high enough",
    "cpu.tcb_date": "the platform's TCB is of the date that the policy states, or later",
    "cpu.advisories": "every open security advisory is allowed",
    "cpu.collateral": "the collateral is recent enough and of a high enough evaluation number",
    "cpu.debug": "the TD, guest or enclave is not debuggable",
    "cpu.migration": "no migration agent may move the TD or guest to another machine",
    "cpu.measurements": "measurement registers equal the expected ones",
    "cpu.platform": "the platform (PPID, AMD chip id) is admitted: on the list of ids, and not used by too many nodes",
    "cpu.event_log": "every runtime event's digest is that of its name and payload",
    **{f"cpu.rtmr{number}": f"the event log replays to RTMR{number} of the quote" for number in range(4)},
    "cpu.boundary": "the boundary event is in the log once, and no event of the image stands behind it",
    "cpu.compose": "the compose file's hash is the one in the measured event and in the measured configuration",
    "binding.gpu_nonce": "the quote's report_data commits to the nonce in the GPU's signed request",
    "binding.key": "the quote's report_data commits to the key the verifier talks to",
}


class Claim(NamedTuple):
    """Outcome of one check on one subject.

    Attributes:
        id: ``<subject>.<check without its first word>``, for example ``gpu.0.signature``.
        check: key of ``CHECKS``.
        status, source: outcome, and on whose word it rests. reason: one sentence for a reader.
        evidence: lower-case hex SHA-256 of the bytes the claim rests on; None if there are none.
    """

    id: str
    check: str
    status: Status
    source: Source
    reason: str
    evidence: str | None = None

    def as_json(self) -> dict[str, str | None]:
        return self._asdict()


Evidence = bytes | str | None


class ClaimLog:
    """Collects the claims about one subject (``gpu.0``, ``cpu``, …) in the order they are checked.

    Set ``authentic`` to False as soon as the signature over the subject's fields does not verify.
    Without it the fields are only the word of whoever handed the evidence in, so later claims get
    the source *operator*, not *hardware*.
    """

    def __init__(self, subject: str, family: str, claims: list[Claim]) -> None:
        self._subject, self._family, self.claims = subject, family, claims
        self.authentic = True
        self._hashed: tuple[Evidence, str | None] = (None, None)

    def add(self, check: str, status: Status, source: Source, reason: str, evidence: Evidence = None) -> bool:
        """Record one claim and return whether it is asserted.

        Args:
            check: its name without the family, for example ``signature``.
            evidence: the bytes it rests on, or their SHA-256 (hex) where that is known already.

        Raises:
            PolicyError: there is no such check.
        """
        if evidence is not self._hashed[0]:  # several claims in a row rest on the same bytes
            self._hashed = (evidence, hashlib.sha256(evidence).hexdigest() if isinstance(evidence, bytes) else evidence)
        name = f"{self._family}.{check}"
        if name not in CHECKS:
            raise PolicyError(f"check: found {name!r}, expected one of otr_core.attestation.claims.CHECKS")
        if source is Source.HARDWARE and not self.authentic:
            source = Source.OPERATOR
        self.claims.append(Claim(f"{self._subject}.{check}", name, status, source, reason, self._hashed[1]))
        return status is Status.ASSERTED

    def judge(self, check: str, problem: str | None, good: str, source: Source, evidence: Evidence = None) -> bool:
        """Asserted with the reason ``good`` if there is no ``problem``, else refuted with that."""
        if problem is None:
            return self.add(check, Status.ASSERTED, source, good, evidence)
        return self.add(check, Status.REFUTED, source, problem, evidence)

    def decide(self, check: str, holds: bool, good: str, bad: str, source: Source, evidence: Evidence = None) -> bool:
        """Asserted with the reason ``good`` if the check ``holds``, else refuted with ``bad``."""
        status, reason = (Status.ASSERTED, good) if holds else (Status.REFUTED, bad)
        return self.add(check, status, source, reason, evidence)

    def not_made(self, checks: Iterable[str], reason: str) -> None:
        """Record that ``checks`` have nothing to be about, all for the same reason."""
        for check in checks:
            self.add(check, Status.NOT_MADE, Source.DERIVED, reason)

    def unknown(self, checks: Iterable[str], reason: str, source: Source = Source.DERIVED) -> None:
        """Record that ``checks`` could not be made, all for the same reason."""
        for check in checks:
            self.add(check, Status.UNKNOWN, source, reason)
