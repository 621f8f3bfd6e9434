"""``appraise(bundle, policy, as_of)``: every check stated, then the verdict. Pure: same input, same bytes out.

The verdict is *accepted* only if no claim is refuted and every check that the policy requires, and that applies to the
evidence in the bundle, is asserted.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from otr_core.attestation.binding import check_binding
from otr_core.attestation.bundle import Bundle
from otr_core.attestation.chain import VENDOR_ROOTS, TrustRoots, VerifiedCache, as_utc, stamp
from otr_core.attestation.claims import Claim, ClaimLog, Source, Status
from otr_core.attestation.cpu import appraise_cpu
from otr_core.attestation.nvidia import DeviceAppraisal, DeviceInputs, appraise_device
from otr_core.attestation.policy import Policy
from otr_core.encoding import canonical_json
from otr_core.errors import InputError

NONCE_BYTES = 32
# Checks made only if the policy gives them a value, or the evidence has the part they are about.
_CONDITIONAL = {
    *("gpu.stated_nonce", "gpu.switch_fwid", "gpu.count", "gpu.driver", "gpu.vbios", "gpu.mode", "gpu.platform"),
}
_ACROSS = {"gpu.same_nonce", "gpu.unique"}  # made once, over all devices


@dataclass(frozen=True)
class Appraisal:
    """Outcome of an appraisal.

    Attributes:
        accepted: the verdict.
        because: the claims that stand against acceptance; empty when accepted.
        claims: all claims, in the order they were checked.
        devices: facts and coverage by NVIDIA device.
        cpu: facts from the quote; None without one.
    """

    accepted: bool
    because: tuple[Claim, ...]
    claims: tuple[Claim, ...]
    policy: Policy
    as_of: datetime
    bundle: str
    devices: tuple[DeviceAppraisal, ...] = ()
    cpu: Mapping[str, Any] | None = None

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
            "coverage": [row for one in self.devices for row in one.coverage_rows()],
            "cpu": None if self.cpu is None else dict(self.cpu),
        }

    @functools.cached_property
    def _bytes(self) -> bytes:
        return canonical_json(self.as_json())

    def to_json(self) -> bytes:
        """Canonical JSON (RFC 8785): byte-identical for the same bundle, policy and time."""
        return self._bytes

    def table(self) -> list[tuple[str, str, str, str]]:
        """Rows (claim, status, source, reason) for a terminal or a notebook, verdict last."""
        required = set(self.policy.require)
        rows = [
            (f"{claim.id}{'' if claim.check in required else ' (not required)'}", *_columns(claim))
            for claim in self.claims
        ]
        why = "; ".join(f"{claim.id}: {claim.reason}" for claim in self.because[:3])
        more = f"; and {len(self.because) - 3} more" if len(self.because) > 3 else ""
        good = "every required check is asserted"
        rows.append(("verdict", self.verdict, f"policy {self.policy.name}", f"{why}{more}" or good))
        return rows


def _columns(claim: Claim) -> tuple[str, str, str]:
    return claim.status.value, claim.source.value, claim.reason


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
    """Appraise ``bundle`` under ``policy`` as of a moment in time.

    Args:
        as_of: aware; every validity, age and revocation is judged at this time.
        nonce: the 32 bytes the verifier asked the GPU to sign; without it freshness stays *unknown*.
        key: what the verifier knows of the serving key, in the form the policy's binding profile hashes (``binding``).
        registered: nodes already admitted, by platform id (GPU ueid or PPID), for the policy's caps.
        cache: remembers verified signatures between calls; it never changes the outcome.
        roots: other roots than the vendors' are for laboratories; they make the evidence simulated.

    Raises:
        InputError: ``as_of`` has no time zone, or ``nonce`` is not 32 bytes.
    """
    moment = as_utc(as_of)
    if nonce is not None and len(nonce) != NONCE_BYTES:
        raise InputError(f"nonce: found {len(nonce)} bytes, expected {NONCE_BYTES}")
    claims: list[Claim] = []
    _check_evidence(bundle, policy, roots, claims)
    devices = _check_devices(bundle, policy, moment, nonce, registered, cache or VerifiedCache(), roots, claims)
    cpu = None
    if bundle.quote is not None:
        log = ClaimLog("cpu", "cpu", claims)
        parts = (bundle.quote, bundle.collateral, bundle.event_log, bundle.compose)
        cpu = appraise_cpu(*parts, policy, moment, registered, log)
        nonces = frozenset(device.report.nonce for device in bundle.devices)
        both = ClaimLog("binding", "binding", claims)
        both.authentic = log.authentic
        check_binding(policy.binding, bundle.quote.report_data, nonces, key, both)
    against = tuple(claim for claim in claims if _against(claim, policy))
    return Appraisal(not against, against, tuple(claims), policy, moment, bundle.digest, devices, cpu)


def _against(claim: Claim, policy: Policy) -> bool:
    if claim.status is Status.REFUTED:
        return True
    return claim.status is Status.UNKNOWN and claim.check in policy.require


def _check_evidence(bundle: Bundle, policy: Policy, roots: TrustRoots, claims: list[Claim]) -> None:
    log = ClaimLog("evidence", "evidence", claims)
    kinds = [device.kind for device in bundle.devices]
    there = [f"{kinds.count(kind)} {kind}" for kind in ("gpu", "switch") if kind in kinds]
    if bundle.quote is not None:
        kinds.append("cpu")
        there.append(f"1 {bundle.quote.kind} quote")
    if bundle.event_log is not None:
        kinds.append("event_log")
        there.append(f"an event log of {len(bundle.event_log.events)} events")
    missing = [kind for kind in policy.evidence if kind not in kinds]
    problem = f"no {', no '.join(missing)} in the bundle" if missing else None
    log.judge("present", problem, ", ".join(there), Source.DERIVED)
    problem, good = None, "judged against the vendors' own roots"
    if not roots.genuine:
        good = "judged against a laboratory's roots, which the policy allows"
        problem = None if policy.allow_simulated else "judged against a laboratory's roots: a simulated TEE"
    log.judge("genuine", problem, good, Source.DERIVED)


def _check_devices(
    bundle: Bundle,
    policy: Policy,
    as_of: datetime,
    nonce: bytes | None,
    registered: Mapping[str, int] | None,
    cache: VerifiedCache,
    roots: TrustRoots,
    claims: list[Claim],
) -> tuple[DeviceAppraisal, ...]:
    if not bundle.devices:
        return ()
    reports = [device.report for device in bundle.devices]
    versions = {("driver", (one.driver_version or "").upper()) for one in reports}
    versions |= {("vbios", one.vbios_version or "") for one in reports}
    given = DeviceInputs(policy, as_of, nonce, bundle.rims, bundle.ocsp, registered, cache, roots, frozenset(versions))
    results = []
    counts = {"gpu": 0, "switch": 0}
    for device in bundle.devices:
        kind = device.kind
        subject = f"{kind}.{counts[kind]}"
        counts[kind] += 1
        log = ClaimLog(subject, "gpu", claims)
        before = len(claims)
        results.append(appraise_device(device, subject, log, given))
        made = {claim.check for claim in claims[before:]}
        absent = [
            name for name in policy.require if name.startswith("gpu.") and name not in made | _CONDITIONAL | _ACROSS
        ]
        skipped = [name[4:] for name in absent if kind == "gpu" or not (".driver" in name or name == "gpu.fwid")]
        log.unknown(skipped, "this check was not made")
    log = ClaimLog("gpu", "gpu", claims)
    raw = b"".join(one.raw for one in reports)
    nonces = {one.nonce for one in reports}
    problem = None if len(nonces) == 1 else f"{len(nonces)} different nonces in {len(reports)} signed requests"
    log.judge("same_nonce", problem, f"{len(reports)} devices, one nonce", Source.HARDWARE, raw)
    identities = [device.ueid or device.report.sha256 for device in bundle.devices]
    twice = sorted({one for one in identities if identities.count(one) > 1})
    problem = f"device {', '.join(twice)} appears more than once" if twice else None
    log.judge("unique", problem, f"{len(identities)} different devices", Source.HARDWARE, raw)
    if policy.gpu_count is not None:
        found = counts["gpu"]
        problem = None if found == policy.gpu_count else f"found {found} GPUs, expected {policy.gpu_count}"
        log.judge("count", problem, f"{found} GPUs", Source.HARDWARE, raw)
    return tuple(results)
