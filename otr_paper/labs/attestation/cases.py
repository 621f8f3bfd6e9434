"""The recorded evidence as cases, each with the policy by which it is appraised and the time.

Figure F02 (checks × evidence) draws ``matrix``, figure F03 (verdict over time) draws ``calendar``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from otr_core.attestation.appraisal import appraise
from otr_core.attestation.bundle import Bundle, load_bundle
from otr_core.attestation.chain import VerifiedCache, stamp
from otr_core.attestation.policy import Policy
from otr_paper.labs.attestation.frame import Files, authentic_policy, shown
from otr_paper.labs.attestation.window import verdict_over_time, window


@dataclass(frozen=True)
class AppraisalCase:
    """One set of recorded evidence.

    Attributes:
        name: short, for an axis.
        as_of: when it is appraised. policy: by which. files: which of the recorded files are shown.
    """

    name: str
    as_of: datetime
    policy: Policy
    files: Files


def _day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _h100(*rims: str, ocsp: Iterable[str] = ()) -> Files:
    return shown(gpu=["report"], gpu_certs=["chain"], rims=list(rims), ocsp=list(ocsp))


def _quoted(quote: str, collateral: str) -> Files:
    return shown(quote=quote, collateral=collateral)


_MACHINE = shown(gpu=["machine_gpu"], rims=["machine_rim"], quote="machine_quote", collateral="machine_collateral")


def _dstack(e: Mapping[str, bytes]) -> dict[str, Any]:
    compose = json.loads(e["dstack_info"])["tcb_info"]["app_compose"].encode()
    return {**_quoted("dstack_quote", "dstack_collateral")(e), "compose": compose}


def recorded_machine_policy() -> Policy:
    """The default policy without VBIOS reference values: that machine's are not public."""
    default = Policy.default()
    kept = tuple(name for name in default.require if "vbios" not in name and name != "gpu.measurements.conflict")
    return dataclasses.replace(default, name="recorded machine", require=kept, binding="secretvm")


def _for(*kinds: str) -> Policy:
    return Policy.default().expecting(*kinds)


def _not_revoked() -> Policy:
    """For GPUs, with revocation demanded."""
    policy = _for("gpu")
    required = (*policy.require, *(name for name in Policy.strict().require if name.endswith("revocation")))
    return dataclasses.replace(policy, name="default, revocation demanded", require=required)


_ALL_OCSP = ("ocsp_l2", "ocsp_l3", "ocsp_l4", "ocsp_rim_l2", "ocsp_rim_l3", "ocsp_driver", "ocsp_vbios")
CASES: tuple[AppraisalCase, ...] = (
    AppraisalCase("H100 alone", _day("2025-01-15"), authentic_policy(), _h100()),
    AppraisalCase("H100, shipped manifests", _day("2024-06-01"), _for("gpu"), _h100("shipped_driver", "shipped_vbios")),
    AppraisalCase("H100, its manifests", _day("2025-01-15"), _for("gpu"), _h100("rim_driver", "rim_vbios")),
    AppraisalCase(
        "H100, with OCSP", _day("2025-10-24T12:00:00"), _not_revoked(), _h100("rim_driver", "rim_vbios", ocsp=_ALL_OCSP)
    ),
    AppraisalCase("NVSwitch", _day("2026-08-14"), _for("switch"), shown(gpu=["switch"], rims=["switch_rim"])),
    AppraisalCase("H100 + TDX machine", _day("2026-08-14"), recorded_machine_policy(), _MACHINE),
    AppraisalCase("TDX v4, 2025", _day("2025-06-20"), _for("tdx"), _quoted("old_quote", "old_collateral")),
    AppraisalCase("the same, 2026", _day("2026-08-14"), _for("tdx"), _quoted("old_quote", "machine_collateral")),
    AppraisalCase("TDX v5", _day("2026-02-19"), _for("tdx"), _quoted("v5_quote", "v5_collateral")),
    AppraisalCase("TDX, log, compose", _day("2025-09-03"), _for("tdx", "event_log", "compose"), _dstack),
    AppraisalCase("SGX", _day("2025-06-20"), _for("sgx"), _quoted("sgx_quote", "sgx_collateral")),
)


def bundles(evidence: Mapping[str, bytes]) -> dict[AppraisalCase, Bundle]:
    """The cases whose files are all in ``evidence``, loaded."""
    found = {}
    for case in CASES:
        try:
            files = case.files(evidence)
        except KeyError:
            continue
        found[case] = load_bundle(**files)
    return found


def verdicts(evidence: Mapping[str, bytes]) -> list[dict[str, str]]:
    """Rows with case, as_of, policy, verdict and claims against it, for every case at hand."""
    rows = []
    for case, bundle in bundles(evidence).items():
        result = appraise(bundle, case.policy, case.as_of)
        against = ", ".join(claim.id for claim in result.because)
        head = {"case": case.name, "as_of": stamp(case.as_of), "policy": case.policy.name}
        rows.append({**head, "verdict": result.verdict, "against": against})
    return rows


def matrix(evidence: Mapping[str, bytes]) -> list[dict[str, str]]:
    """Rows with case, check, status and reason, for every claim of every available case."""
    rows = []
    for case, bundle in bundles(evidence).items():
        claims = appraise(bundle, case.policy, case.as_of).claims
        rows += [
            {"case": case.name, "check": one.check, "status": one.status.value, "reason": one.reason} for one in claims
        ]
    return rows


def calendar(evidence: Mapping[str, bytes], moments: Iterable[datetime]) -> list[dict[str, str]]:
    """The cases appraised at each of ``moments``, neighbours with the same outcome joined.

    Returns:
        Rows with case, from and to (first and last moment), verdict, claim (the first against it)
        and reason.
    """
    rows: list[dict[str, str]] = []
    cache, times = VerifiedCache(), tuple(moments)
    for case, bundle in bundles(evidence).items():
        for one in verdict_over_time(bundle, case.policy, times, cache=cache):
            claim = one["against"][0] if one["against"] else ""
            outcome = {"case": case.name, "verdict": one["verdict"], "claim": claim}
            if rows and outcome.items() <= rows[-1].items():
                rows[-1]["to"] = one["as_of"]
            else:
                rows.append({**outcome, "from": one["as_of"], "to": one["as_of"], "reason": one["reason"]})
    return rows


def windows(evidence: Mapping[str, bytes]) -> list[dict[str, str]]:
    """Rows with case, part, from, to: when a case can be appraised at all (empty texts: never)."""
    rows = []
    for case, bundle in bundles(evidence).items():
        found = window(bundle, case.policy)
        rows.append({"case": case.name, **(found.as_json() if found else {"part": "", "from": "", "to": ""})})
    return rows


def months(first: int = 2024, last: int = 2027) -> list[datetime]:
    """The first of every month of the years ``first`` to ``last``, UTC."""
    return [datetime(year, month, 1, tzinfo=UTC) for year in range(first, last + 1) for month in range(1, 13)]
