"""``appraise`` states every check as a claim, then the verdict. Same input, same bytes out.

The verdict is *accepted* only if no claim is refuted and every check that the policy requires, and
that applies to the evidence in the bundle, is asserted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from otr_core.attestation.binding import check_binding
from otr_core.attestation.bundle import Bundle, Device
from otr_core.attestation.chain import VENDOR_ROOTS, TrustRoots, VerifiedCache, as_utc, stamp
from otr_core.attestation.claims import CHECKS, Claim, ClaimLog, Source, Status
from otr_core.attestation.cpu import appraise_cpu
from otr_core.attestation.nvidia import DeviceAppraisal, appraise_device
from otr_core.attestation.policy import Inquiry, Policy
from otr_core.attestation.report import NONCE_BYTES
from otr_core.encoding import canonical_json
from otr_core.errors import InputError

# Device checks that may be absent without having been left out: those made once over all devices,
# those that need a value from the policy, and those about a part that evidence may lack.
_MAY_BE_ABSENT = {
    *("gpu.same_nonce", "gpu.unique"),
    *("gpu.count", "gpu.driver", "gpu.vbios", "gpu.mode", "gpu.platform"),
    *("gpu.stated_nonce", "gpu.switch_fwid"),
}


@dataclass(frozen=True)
class Appraisal:
    """Outcome of an appraisal.

    Attributes:
        accepted: the verdict.
        because: the claims that stand against acceptance; empty when accepted.
        claims: all claims, in the order they were checked.
        policy, as_of, bundle: what was judged by, when, and the digest of the bundle that was
            judged.
        devices: facts and coverage by NVIDIA device.
        cpu: facts from the quote; None without one.
        simulated: whether other roots than the vendors' were given, so that no hardware vouches.
    """

    accepted: bool
    because: tuple[Claim, ...]
    claims: tuple[Claim, ...]
    policy: Policy
    as_of: datetime
    bundle: str
    devices: tuple[DeviceAppraisal, ...] = ()
    cpu: Mapping[str, Any] | None = None
    simulated: bool = False

    @property
    def verdict(self) -> str:
        return "accepted" if self.accepted else "rejected"

    def claim(self, claim_id: str) -> Claim:
        """The claim with this id.

        Raises:
            InputError: there is none.
        """
        for one in self.claims:
            if one.id == claim_id:
                return one
        raise InputError(f"claim: found {claim_id!r}, expected one of {', '.join(one.id for one in self.claims)}")

    def as_json(self) -> dict[str, Any]:
        return {
            "format": "otr-appraisal/1",
            "verdict": self.verdict,
            "because": [claim.id for claim in self.because],
            "as_of": stamp(self.as_of),
            "policy": {"name": self.policy.name, "sha256": hashlib.sha256(self.policy.to_bytes()).hexdigest()},
            "bundle": self.bundle,
            "claims": [claim.as_json() for claim in self.claims],
            "devices": [{"subject": one.subject, **one.facts} for one in self.devices],
            "coverage": [{"subject": one.subject, **vars(row)} for one in self.devices for row in one.coverage],
            "cpu": None if self.cpu is None else dict(self.cpu),
        }

    def to_json(self) -> bytes:
        """Canonical JSON (RFC 8785): byte-identical for the same bundle, policy and time."""
        return canonical_json(self.as_json())

    def table(self) -> list[tuple[str, str, str, str]]:
        """Rows (claim, status, source, reason) for a terminal or a notebook, verdict last."""
        rows = []
        for claim in self.claims:
            name = claim.id if claim.check in self.policy.require else f"{claim.id} (not required)"
            rows.append((name, claim.status.value, claim.source.value, claim.reason))
        why = "; ".join(f"{claim.id}: {claim.reason}" for claim in self.because[:3])
        more = f"; and {len(self.because) - 3} more" if len(self.because) > 3 else ""
        good = "every required check is asserted"
        rows.append(("verdict", self.verdict, f"policy {self.policy.name}", f"{why}{more}" or good))
        return rows


def appraise(
    bundle: Bundle,
    policy: Policy,
    as_of: datetime,
    *,
    nonce: bytes | None = None,
    key: bytes | None = None,
    registered: Mapping[str, int] | None = None,
    cache: VerifiedCache | None = None,
    roots: TrustRoots = VENDOR_ROOTS,
) -> Appraisal:
    """Appraise ``bundle`` under ``policy`` as of a moment in time, in this order:

    1. The kinds of evidence that the policy demands are there, and the trust roots are the
       vendors'.
    2. Each NVIDIA device is appraised by itself (``nvidia.appraise_device``).
    3. All devices answered one nonce, none appears twice, and there are as many GPUs as the policy
       states.
    4. The CPU quote is appraised (``cpu.appraise_cpu``).
    5. The quote is bound to the devices and to the serving key (``binding.check_binding``).
    6. The verdict: nothing is refuted, and no required check is unknown.

    Args:
        as_of: aware; every validity, age and revocation is judged at this time.
        nonce: the 32 bytes the verifier asked the GPU to sign; without it freshness stays
            *unknown*.
        key: what the verifier knows of the serving key, in the form the policy's binding profile
            hashes (``binding``).
        registered: nodes already admitted, by platform id (GPU ueid or PPID), for the policy's
            caps.
        cache: remembers verified signatures between calls; it never changes the outcome.
        roots: other roots than the vendors' are for laboratories; they make the evidence simulated.

    Raises:
        InputError: ``as_of`` has no time zone, or ``nonce`` is not 32 bytes.
    """
    if nonce is not None and len(nonce) != NONCE_BYTES:
        raise InputError(f"nonce: found {len(nonce)} bytes, expected {NONCE_BYTES}")
    given = Inquiry(bundle, policy, as_utc(as_of), nonce, key, registered, cache or VerifiedCache(), roots)
    claims: list[Claim] = []

    # 1. The kinds of evidence that the policy demands are there, and the trust roots are the
    # vendors'.
    _check_evidence(given, claims)

    devices: list[DeviceAppraisal] = []
    if bundle.devices:
        # 2. Each NVIDIA device is appraised by itself.
        kinds = [device.kind for device in bundle.devices]
        for position, device in enumerate(bundle.devices):
            # Devices of a kind are numbered: gpu.0, gpu.1, switch.0, …
            subject = f"{device.kind}.{kinds[:position].count(device.kind)}"
            devices.append(_check_device(device, subject, given, claims))

        # 3. All devices answered one nonce, none appears twice, and there are as many GPUs as the
        # policy states.
        _check_across_devices(given, claims)

    cpu = None
    if bundle.quote is not None:
        # 4. The CPU quote is appraised.
        log = ClaimLog("cpu", "cpu", claims)
        cpu = appraise_cpu(bundle.quote, given, log)

        # 5. The quote is bound to the devices and to the serving key. An unverified quote is only
        # the operator's word.
        nonces = frozenset(device.report.nonce for device in bundle.devices)
        both = ClaimLog("binding", "binding", claims)
        both.authentic = log.authentic
        report_data = bundle.quote.registers["report_data"]
        check_binding(policy.binding, report_data, nonces, key, both, bundle.preimage)

    # 6. The verdict: nothing is refuted, and no required check is unknown.
    against = tuple(
        claim
        for claim in claims
        if claim.status is Status.REFUTED or (claim.status is Status.UNKNOWN and claim.check in policy.require)
    )
    judged = (policy, given.as_of, bundle.digest, tuple(devices), cpu)
    return Appraisal(not against, against, tuple(claims), *judged, simulated=roots != VENDOR_ROOTS)


def _check_evidence(given: Inquiry, claims: list[Claim]) -> None:
    log, bundle = ClaimLog("evidence", "evidence", claims), given.bundle
    kinds = [device.kind for device in bundle.devices]
    there = [f"{kinds.count(kind)} {kind}" for kind in ("gpu", "switch") if kind in kinds]
    if bundle.quote is not None:
        kinds.append("cpu")
        there.append(f"1 {bundle.quote.kind} quote")
    if bundle.event_log is not None:
        kinds.append("event_log")
        there.append(f"an event log of {len(bundle.event_log.events)} events")
    missing = [kind for kind in given.policy.evidence if kind not in kinds]
    bad = f"no {', no '.join(missing)} in the bundle"
    log.decide("present", not missing, ", ".join(there), bad, Source.DERIVED)
    genuine = given.roots == VENDOR_ROOTS
    bad = "judged against a laboratory's roots: a simulated TEE"
    good = "judged against the vendors' own roots"
    if not genuine:
        good = "judged against a laboratory's roots, which the policy allows"
    log.decide("genuine", genuine or given.policy.allow_simulated, good, bad, Source.DERIVED)


def _check_device(device: Device, subject: str, given: Inquiry, claims: list[Claim]) -> DeviceAppraisal:
    """All claims about one device. A required check that was not made becomes *unknown*."""
    log = ClaimLog(subject, "gpu", claims)
    before = len(claims)
    result = appraise_device(device, subject, log, given)
    accounted = _MAY_BE_ABSENT | {claim.check for claim in claims[before:]}
    if device.kind == "switch":  # it has no driver, and its reports carry no firmware id
        accounted |= {name for name in CHECKS if ".driver" in name or name == "gpu.fwid"}
    missed = [name[4:] for name in given.policy.require if name.startswith("gpu.") and name not in accounted]
    log.unknown(missed, "this check was not made")
    return result


def _check_across_devices(given: Inquiry, claims: list[Claim]) -> None:
    log, bundle, policy = ClaimLog("gpu", "gpu", claims), given.bundle, given.policy
    reports = [device.report for device in bundle.devices]
    raw = b"".join(one.raw for one in reports)
    nonces = {one.nonce for one in reports}
    bad = f"{len(nonces)} different nonces in {len(reports)} signed requests"
    log.decide("same_nonce", len(nonces) == 1, f"{len(reports)} devices, one nonce", bad, Source.HARDWARE, raw)
    identities = [device.ueid or device.report.sha256 for device in bundle.devices]
    twice = sorted({one for one in identities if identities.count(one) > 1})
    good, bad = f"{len(identities)} different devices", f"device {', '.join(twice)} appears more than once"
    log.decide("unique", not twice, good, bad, Source.HARDWARE, raw)
    if policy.gpu_count is not None:
        found = [device.kind for device in bundle.devices].count("gpu")
        bad = f"found {found} GPUs, expected {policy.gpu_count}"
        log.decide("count", found == policy.gpu_count, f"{found} GPUs", bad, Source.HARDWARE, raw)
