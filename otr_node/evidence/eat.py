"""An appraisal's result as the claims set of an attestation token.

Its shape follows RFC 9711 (EAT) and the claims of NVIDIA's remote attestation service (NRAS v3).
The set is unsigned: ``export`` signs it. What the evidence does not show is left out
rather than filled in.
"""

from __future__ import annotations

from typing import Any

from otr_core.attestation.appraisal import Appraisal
from otr_core.attestation.claims import Status

PROFILE = "tag:otr-core,2026:appraisal/1"
_NVIDIA_OEM_ID = "5703"  # IANA private enterprise number of NVIDIA, as NRAS writes it
#: Claims of NRAS that are the outcome of one check here, by the end of their names.
_CHECKS = {
    "report-signature-verified": "signature",
    "report-cert-chain-links-verified": "chain.links",
    "report-cert-chain-root-pinned": "chain.root",
    "report-cert-chain-fwid-match": "fwid",
    "report-nonce-match": "nonce",
    "driver-rim-signature-verified": "rim.driver.signature",
    "driver-rim-version-match": "rim.driver.identity",
    "vbios-rim-signature-verified": "rim.vbios.signature",
    "vbios-rim-version-match": "rim.vbios.identity",
    "vbios-index-no-conflict": "measurements.conflict",
}


def eat_claims(appraisal: Appraisal) -> dict[str, Any]:
    """The claims set, with one submodule per device and one for the CPU.

    A check that is *asserted* is true, one that is *refuted* false, and one that is *unknown* is
    absent. ``iat`` is the time of the appraisal, in seconds since the epoch.
    """
    submodules: dict[str, Any] = {}
    for device in appraisal.devices:
        kind, _, number = device.subject.partition(".")
        submodules[f"{kind.upper()}-{number}"] = _device(appraisal, device.subject, dict(device.facts))
    if appraisal.cpu is not None:
        submodules["CPU"] = _cpu(appraisal, dict(appraisal.cpu))
    return {
        "eat_profile": PROFILE,
        "iat": int(appraisal.as_of.timestamp()),
        "x-otr-verdict": appraisal.verdict,
        "x-otr-policy": appraisal.policy.name,
        "x-otr-bundle": appraisal.bundle.digest,
        "submods": submodules,
    }


def _status(appraisal: Appraisal, claim_id: str) -> bool | None:
    """Whether the claim is asserted (True) or refuted (False); None if it is unknown or absent."""
    found = next((claim.status for claim in appraisal.claims if claim.id == claim_id), None)
    return {Status.ASSERTED: True, Status.REFUTED: False}.get(found) if found is not None else None


def _device(appraisal: Appraisal, subject: str, facts: dict[str, Any]) -> dict[str, Any]:
    prefix = f"x-nvidia-{facts['kind']}"
    kinds = ("driver", "vbios") if facts["kind"] == "gpu" else ("vbios",)
    measured = [_status(appraisal, f"{subject}.measurements.{kind}") for kind in kinds]
    result = {
        "ueid": facts["ueid"],
        "oemid": _NVIDIA_OEM_ID,
        "hwmodel": facts["hwmodel"],
        "eat_nonce": facts["nonce"],
        "measres": "fail" if False in measured else "success" if all(measured) else "absent",
        f"{prefix}-driver-version": facts["driver"],
        f"{prefix}-vbios-version": facts["vbios"],
    }
    for name, check in _CHECKS.items():
        found = _status(appraisal, f"{subject}.{check}")
        if found is not None:
            result[f"{prefix}-{'attestation-' if name.startswith('report') else ''}{name}"] = found
    return {key: value for key, value in result.items() if value != ""}


def _cpu(appraisal: Appraisal, facts: dict[str, Any]) -> dict[str, Any]:
    result = {
        "hwmodel": facts["kind"],
        "ueid": facts["ppid"],
        "x-otr-tcb-status": facts["tcb_status"],
        "x-otr-quote-identity": facts["identity"],
        "measurements": facts["measured"],
    }
    if _status(appraisal, "cpu.quote"):  # only a verified quote says whether it may be debugged
        result["dbgstat"] = "disabled" if _status(appraisal, "cpu.debug") else "enabled"
        result["x-otr-advisories"] = facts["advisories"]
    return {key: value for key, value in result.items() if value != ""}
