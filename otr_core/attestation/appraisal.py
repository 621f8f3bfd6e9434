"""``appraise`` states every check as a claim, then the verdict. Same input, same bytes out.

The verdict is *accepted* only if every check that the policy requires was made and is asserted, and
no claim about evidence that it expects is refuted (``Policy.against``), waivers apart.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from otr_core.attestation.binding import check_binding
from otr_core.attestation.bundle import Bundle
from otr_core.attestation.chain import VENDOR_ROOTS, OwnCache, TrustRoots, VerifiedCache, as_utc, stamp
from otr_core.attestation.claims import CHECKS, Claim, ClaimLog, Source, Status
from otr_core.attestation.cpu import appraise_cpu
from otr_core.attestation.machine import check_machine
from otr_core.attestation.nvidia import DeviceAppraisal, appraise_device
from otr_core.attestation.policy import OF_GPUS, WITHOUT, Inquiry, Policy, Waiver
from otr_core.attestation.report import NONCE_BYTES
from otr_core.encoding import canonical_json
from otr_core.errors import InputError

#: Checks made once over all devices of a bundle.
_ACROSS = (*("gpu.same_nonce", "gpu.unique", "gpu.count", "gpu.switch_count", "gpu.one_mode", "gpu.topology"),)


@dataclass(frozen=True)
class Appraisal:
    """Outcome of an appraisal.

    Attributes:
        accepted: the verdict.
        because: the claims that stand against acceptance; empty when accepted.
        waived: claims that would, each with the policy's waiver that lets it fail.
        claims: all claims, in the order they were checked.
        policy, as_of, bundle: what was judged by, when, and what was judged.
        devices: facts and coverage by NVIDIA device.
        cpu: facts from the quote; None without one.
        simulated: whether other roots than the vendors' were given, so that no hardware vouches.
    """

    accepted: bool
    because: tuple[Claim, ...]
    waived: tuple[tuple[Claim, Waiver], ...]
    claims: tuple[Claim, ...]
    policy: Policy
    as_of: datetime
    bundle: Bundle
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
            "waived": [{"claim": claim.id, "until": one.until, "why": one.why} for claim, one in self.waived],
            "not_made": [claim.id for claim in self.claims if claim.status is Status.NOT_MADE],
            "as_of": stamp(self.as_of),
            "policy": {"name": self.policy.name, "sha256": hashlib.sha256(self.policy.to_bytes()).hexdigest()},
            "bundle": self.bundle.digest,
            "claims": [claim.as_json() for claim in self.claims],
            "devices": [{"subject": one.subject, **one.facts} for one in self.devices],
            "coverage": [{"subject": one.subject, **row._asdict()} for one in self.devices for row in one.coverage],
            "cpu": None if self.cpu is None else dict(self.cpu),
        }

    def to_json(self) -> bytes:
        """Canonical JSON (RFC 8785): byte-identical for the same bundle, policy and time."""
        return canonical_json(self.as_json())

    def summary(self) -> str:
        """The verdict's grounds in one line: what stands against it, or what it does not rest on."""
        grounds: dict[str, list[str]] = {}  # many claims fail for one reason: it is told once
        for claim in self.because:
            grounds.setdefault(claim.reason, []).append(claim.id)
        told = list(grounds.items())[:3]
        why = [f"{ids[0]}{f' and {len(ids) - 1} more' * (len(ids) > 1)}: {reason}" for reason, ids in told]
        others = len(self.because) - sum(len(ids) for _, ids in told)
        said = ["; ".join(why) + f"; and {others} more" * (others > 0) or "every required check is asserted"]
        for status in (Status.REFUTED, Status.UNKNOWN, Status.NOT_MADE):
            idle = [one.id for one in self.claims if one.status is status and one not in self.because]
            idle = [one for one in idle if one not in {claim.id for claim, _ in self.waived}]
            if idle and self.accepted:
                rest = f" and {len(idle) - 6} more" if len(idle) > 6 else ""
                said.append(f"not required and {status.value}: {', '.join(idle[:6])}{rest}")
        said += [f"waived until {one.until}: {claim.id} ({one.why})" for claim, one in self.waived]
        return "; ".join(said)

    def table(self) -> list[tuple[str, str, str, str]]:
        """Rows (claim, status, source, reason) for a terminal or a notebook, verdict last."""
        rows = []
        for claim in self.claims:
            name = claim.id if claim.check in self.policy.require else f"{claim.id} (not required)"
            rows.append((name, claim.status.value, claim.source.value, claim.reason))
        rows.append(("verdict", self.verdict, f"policy {self.policy.name}", self.summary()))
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
    3. All devices are one machine: one nonce, no device twice, counts, one mode, and the wiring
       between GPUs and NVSwitches (``machine.check_machine``).
    4. The CPU quote or report is appraised (``cpu.appraise_cpu``).
    5. It is bound to the devices and to the serving key (``binding.check_binding``).
    6. Every other check is *not made*, for each subject that it would be about.
    7. The verdict: nothing stands against it but what the policy waives.

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
    known = OwnCache(cache or VerifiedCache())
    given = Inquiry(bundle, policy, as_utc(as_of), nonce, key, registered, known, roots)
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
            devices.append(appraise_device(device, subject, ClaimLog(subject, "gpu", claims), given))

        # 3. All devices are one machine: one nonce, no device twice, counts, one mode, and the wiring
        # between GPUs and NVSwitches.
        check_machine(bundle.devices, policy, ClaimLog("gpu", "gpu", claims))

    cpu = None
    if bundle.quote is not None:
        # 4. The CPU quote or report is appraised.
        log = ClaimLog("cpu", "cpu", claims)
        cpu = appraise_cpu(bundle.quote, given, log)

        # 5. It is bound to the devices and to the serving key. An unverified quote is only the
        # operator's word.
        nonces = frozenset(device.report.nonce for device in bundle.devices)
        both = ClaimLog("binding", "binding", claims)
        both.authentic = log.authentic
        report_data = bundle.quote.registers["report_data"]
        check_binding(policy.binding, report_data, nonces, key, both, bundle.preimage)

    # 6. Every other check is *not made*, for each subject that it would be about.
    _fill(claims, [one.subject for one in devices], bundle)

    # 7. The verdict: nothing stands against it but what the policy waives.
    against, waived = [], []
    for claim in policy.against(claims):
        waiver = next((one for one in policy.waivers if one.covers(claim, given.as_of)), None)
        if waiver is None:
            against.append(claim)
        else:
            waived.append((claim, waiver))
    judged = (policy, given.as_of, bundle, tuple(devices), cpu)
    simulated = roots != VENDOR_ROOTS
    return Appraisal(not against, tuple(against), tuple(waived), tuple(claims), *judged, simulated=simulated)


_SPLIT = {name: (name.partition(".")[0], name.partition(".")[2]) for name in CHECKS}


def _fill(claims: list[Claim], devices: Sequence[str], bundle: Bundle) -> None:
    """A claim *not made* for each check that left none, so that no verdict passes over it."""
    made = {claim.id for claim in claims}  # of subject and check
    quote = "" if bundle.quote is None else bundle.quote.kind
    claims += [one for one in _unmade(tuple(devices), quote) if one.id not in made]


@functools.lru_cache(maxsize=64)
def _unmade(devices: tuple[str, ...], quote: str) -> tuple[Claim, ...]:
    """A claim *not made* for every check and subject; ``quote`` is the quote's kind, empty without."""
    claims = []
    for name, (family, check) in _SPLIT.items():
        single = family != "gpu" or name in _ACROSS or not devices
        subjects = devices if name not in OF_GPUS else [one for one in devices if not one.startswith("switch")]
        for subject in [family] if single or not subjects else subjects:
            why = _why_not(name, bool(devices), quote)
            claims.append(Claim(f"{subject}.{check}", name, Status.NOT_MADE, Source.DERIVED, why))
    return tuple(claims)


def _why_not(check: str, devices: bool, quote: str) -> str:
    family = check.partition(".")[0]
    if family == "gpu" and not devices:
        return "no NVIDIA device in the bundle"
    if family in ("cpu", "binding") and not quote:
        return "no CPU quote in the bundle"
    if check == "binding.gpu_nonce":
        return "no GPU in the bundle to bind to"
    if family == "cpu" and check in WITHOUT[quote.lower()]:
        return f"{quote} evidence has nothing to make this check on"
    return "the policy states no value, or the evidence has nothing, to compare with"


def _check_evidence(given: Inquiry, claims: list[Claim]) -> None:
    log, bundle = ClaimLog("evidence", "evidence", claims), given.bundle
    kinds = [device.kind for device in bundle.devices]
    there = [f"{kinds.count(kind)} {kind}" for kind in ("gpu", "switch") if kind in kinds]
    if bundle.quote is not None:
        kinds += ["cpu", bundle.quote.kind.lower()]
        there.append(f"1 {bundle.quote.kind} quote")
    if bundle.event_log is not None:
        kinds.append("event_log")
        there.append(f"an event log of {len(bundle.event_log.events)} events")
    if bundle.compose is not None:
        kinds.append("compose")
        there.append("a compose file")
    missing = [kind for kind in given.policy.evidence if kind not in kinds]
    bad = f"no {', no '.join(missing)} in the bundle"
    log.decide("present", not missing, ", ".join(there), bad, Source.DERIVED)
    if bundle.unread:  # what they would have shown is unknown where it is asked for
        log.unknown(["readable"], "; ".join(bundle.unread[:3]))
    else:
        log.judge("readable", None, "every file handed in was read", Source.DERIVED)
    genuine = given.roots == VENDOR_ROOTS
    bad = "judged against a laboratory's roots: a simulated TEE"
    good = "judged against the vendors' own roots"
    if not genuine:
        good = "judged against a laboratory's roots, which the policy allows"
    log.decide("genuine", genuine or given.policy.allow_simulated, good, bad, Source.DERIVED)
