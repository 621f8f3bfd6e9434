"""Honest presentations of recorded evidence: each bundle with a policy that accepts it.

They are the targets of the attacks in ``matrix.py``.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from otr_core.attestation.bundle import DeviceFiles, load_bundle
from otr_core.attestation.policy import Policy
from otr_paper.labs.attestation.cases import recorded_machine_policy
from otr_paper.labs.attestation.frame import Attempt, Evidence, authentic_policy, shown
from otr_paper.labs.attestation.machines import guest_in_attestation, machine_devices


def _day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _certificates(*files: bytes) -> bytes:
    """AMD's certificates as DER, one after another, from PEM or DER files."""
    ders = []
    for data in files:
        blocks = re.findall(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", data, re.S)
        ders += [base64.b64decode(b"".join(one.split())) for one in blocks] or [data]
    return b"".join(ders)


def _snp(quote: bytes, *files: bytes, day: str = "2025-06-01", **more: bytes) -> Attempt:
    policy = dataclasses.replace(Policy.default().expecting("snp"), snp_min_tcb=(("snp", 1),))
    return Attempt({"quote": quote, "collateral": _certificates(*files), **more}, policy, _day(day))


def _snp_dstack(e: Evidence) -> Attempt:
    parts = guest_in_attestation(e["snp_dstack"])
    ark = e["amd_milan"].partition(b"-----END CERTIFICATE-----")[2]
    return _snp(parts["quote"], parts["certificates"], ark, day="2026-08-01", config=parts["config"])


def _hgx(e: Evidence) -> Attempt:
    devices = machine_devices(e["hgx"])
    policy = dataclasses.replace(authentic_policy("gpu", "switch"), gpu_count=8, switch_count=4)
    return Attempt({"gpu": [*devices["gpu"], *devices["switch"]]}, policy, _day("2026-08-14"))


def _blackwell(e: Evidence) -> Attempt:
    policy = dataclasses.replace(authentic_policy(), gpu_count=2)
    return Attempt({"gpu": machine_devices(e["blackwell"])["gpu"]}, policy, _day("2026-08-14"))


def _h100(e: Evidence) -> Attempt:
    files = shown(gpu=["report"], gpu_certs=["chain"], rims=["rim_driver", "rim_vbios"])(e)
    policy = dataclasses.replace(Policy.default().expecting("gpu"), gpu_count=1)
    return Attempt(files, policy, _day("2025-01-15"))


def _h100_stapled(e: Evidence) -> Attempt:
    names = ("ocsp_l2", "ocsp_l3", "ocsp_l4", "ocsp_rim_l2", "ocsp_rim_l3", "ocsp_driver", "ocsp_vbios")
    policy = dataclasses.replace(Policy.default().expecting("gpu"), gpu_count=1)
    asked = tuple(name for name in Policy.strict().require if name.endswith("revocation"))
    policy = dataclasses.replace(policy, require=(*policy.require, *asked))
    return _h100(e).but({"ocsp": [e[name] for name in names]}, policy=policy, as_of=_day("2025-10-24T12:00:00"))


def _machine(e: Evidence) -> Attempt:
    files = shown(gpu=["machine_gpu"], rims=["machine_rim"], quote="machine_quote", collateral="machine_collateral")(e)
    return Attempt(files, dataclasses.replace(recorded_machine_policy(), gpu_count=1), _day("2026-08-14"))


def _switch(e: Evidence) -> Attempt:
    policy = dataclasses.replace(Policy.default().expecting("switch"), switch_count=1)
    return Attempt(shown(gpu=["switch"], rims=["switch_rim"])(e), policy, _day("2026-08-14"))


def _cpu(quote: str, collateral: str, day: str, kind: str = "tdx", **changes: Any) -> Callable[[Evidence], Attempt]:
    policy = dataclasses.replace(Policy.default().expecting(kind), **changes)
    return lambda e: Attempt(shown(quote=quote, collateral=collateral)(e), policy, _day(day))


def _dstack(e: Evidence) -> Attempt:
    document = json.loads(e["dstack_quote"])
    policy = Policy.default().expecting("tdx", "event_log", "compose")
    logged = tuple(name for name in Policy.strict().require if name.startswith(("cpu.rtmr", "cpu.event", "cpu.bound")))
    policy = dataclasses.replace(policy, require=(*policy.require, *logged, "cpu.compose"))
    files = {
        "quote": document["quote"].encode(),
        "collateral": e["dstack_collateral"],
        "event_log": document["event_log"].encode(),
        "compose": json.loads(e["dstack_info"])["tcb_info"]["app_compose"].encode(),
    }
    return Attempt(files, policy, _day("2025-09-03"))


_SGX = {"tcb_statuses": ("ConfigurationAndSWHardeningNeeded",), "advisories": ("INTEL-SA-00289", "INTEL-SA-00615")}
_TARGETS: dict[str, Callable[[Evidence], Attempt]] = {
    "H100, manifests": _h100,
    "H100, OCSP": _h100_stapled,
    "HGX machine": _hgx,
    "Blackwell pair": _blackwell,
    "NVSwitch": _switch,
    "H100 + TDX": _machine,
    "TDX v4": _cpu("old_quote", "old_collateral", "2025-06-20"),
    "TDX v5": _cpu("v5_quote", "v5_collateral", "2026-02-19"),
    "TDX, log": _dstack,
    "SGX": _cpu("sgx_quote", "sgx_collateral", "2025-06-20", "sgx", **_SGX),
    "SNP VCEK": lambda e: _snp(e["snp_report"], e["snp_vcek"], e["amd_milan"]),
    "SNP VLEK": lambda e: _snp(e["snp_vlek_report"], e["snp_vlek"], e["amd_milan_vlek"]),
    "SNP dstack": _snp_dstack,
}


def targets(evidence: Evidence) -> Iterator[tuple[str, Attempt]]:
    """The honest presentations whose files are at hand, by name, their devices taken apart."""
    for name, build in _TARGETS.items():
        try:
            attempt = build(evidence)
        except KeyError:
            continue
        bundle = load_bundle(**attempt.files)
        devices = [DeviceFiles(one.report.raw, pem_of(one.chain), one.stated_nonce) for one in bundle.devices]
        yield name, attempt.but({"gpu": devices, "gpu_certs": []} if devices else {}, others=evidence)


def pem_of(chain: Sequence[x509.Certificate]) -> bytes:
    """The chain's certificates as PEM, in their order."""
    return b"".join(one.public_bytes(Encoding.PEM) for one in chain)
