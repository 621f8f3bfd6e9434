"""Receipts from hardware: what appraised evidence of a CPU TEE and its GPUs says.

The other implementation of the seam in ``tee.py``. Evidence of kind "hardware" holds the files of
one node, each in base64, under the names of ``PARTS`` and no other:

    keys                 canonical JSON of both public keys
    quote, collateral    TDX quote over report_data; Intel's collateral for it
    event_log, compose   of the quote's run-time registers; the guest's compose file
    gpu, gpu_certs       lists: SPDM reports and their certificate chains
    rims, ocsp           lists: NVIDIA's reference manifests; revocation responses

**Nonces.** The verifier picks 32 random bytes for one appraisal. They are the GPU nonce itself, not
a hash of it: the guest has each GPU sign them in its SPDM request, and a quote made over
report_data = H("keys", public keys) ‖ these 32 bytes. So whoever reads receipt and evidence can
compare with the nonce that he sent, and neither half of the evidence is older than it. Several
verifiers who trust one source of randomness may share a nonce.

Signatures cover quotes only in part (certificates and padding behind the signed body can change
without effect), so two files may say the same. What they say is what the checks here rest on.
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from otr_core.attestation.appraisal import Appraisal, appraise
from otr_core.attestation.bundle import MAX_FILE_BYTES, describe, load_bundle
from otr_core.attestation.claims import Status
from otr_core.encoding import json_object, parse_json
from otr_core.errors import InputError, ReceiptError, one_line, reported_as
from otr_core.poea import simulated
from otr_core.poea.tee import Appraiser, EvidencePolicy, TeeClaims, evidence_policy, measured_model

KIND = "hardware"
SINGLE = ("keys", "quote", "collateral", "event_log", "compose")
PARTS = (*SINGLE, "gpu", "gpu_certs", "rims", "ocsp")

#: Checks that must be asserted, whatever else the policy requires: on the guest, and on its GPUs.
GUEST_CHECKS = (
    *("evidence.present", "evidence.genuine", "cpu.quote", "cpu.debug", "cpu.measurements"),
    *("cpu.event_log", "cpu.rtmr3"),
)
GPU_CHECKS = (
    *("gpu.chain.length", "gpu.chain.links", "gpu.chain.validity", "gpu.chain.usage", "gpu.chain.root"),
    *("gpu.signature", "gpu.nonce", "gpu.same_nonce", "gpu.unique", "binding.gpu_nonce", "binding.key"),
)
_LIMIT = 64  # files of a list
_RAW = {"gpu": "an NVIDIA report", "quote": "a TDX quote"}
#: What files of each part look like to ``describe``; JSON objects are told apart by their members.
_LOOKS = {
    **{look + form: name for name, look in _RAW.items() for form in ("", " as hex text")},
    **{"PEM certificates": "gpu_certs", "an XML file (a RIM?)": "rims", "a DER file (an OCSP response?)": "ocsp"},
}
_SIGNS = (
    *((KIND, {"kind", *PARTS}), ("keys", {"hpke", "signing"}), ("collateral", {"tcb_info", "qe_identity"})),
    *(("quote", {"quote"}), ("event_log", {"event_log"}), ("compose", {"docker_compose_file"})),
    *(("gpu", {"evidence_list"}), ("gpu", {"evidence", "certificate"})),
)


def appraise_evidence(evidence: Mapping[str, Any], policy: EvidencePolicy, as_of: int) -> TeeClaims:
    """What evidence of either kind says: its member ``kind`` chooses the implementation.

    Raises:
        ReceiptError: of check "appraisal", also where the policy does not accept the kind.
        PolicyError: ``policy`` is none for evidence of receipts.
    """
    appraisers = {simulated.KIND: simulated.appraise_simulated, KIND: appraise_hardware}
    kind = evidence.get("kind")
    if not isinstance(kind, str) or kind not in appraisers:
        raise ReceiptError("appraisal", f"evidence of kind {str(kind)[:40]!r}", " or ".join(map(repr, appraisers)))
    return appraisers[kind](evidence, policy, as_of)


def appraise_hardware(
    evidence: Mapping[str, Any], policy: EvidencePolicy, as_of: int, *, beside: Mapping[str, Any] | None = None
) -> TeeClaims:
    """What evidence of hardware says at ``as_of`` (Unix seconds). In this order:

    1. The policy accepts evidence of hardware, and the files are there and can be read.
    2. They are appraised under the policy's ``hardware`` with the verifier's nonce (``attested``).

    Args:
        beside: further files of the node by the names of ``PARTS``, which do not come with the
            receipt, such as collateral and revocation that the verifier fetched.

    Raises:
        ReceiptError: of check "appraisal" (1), or as ``attested``.
        PolicyError: ``policy`` is none for evidence of receipts.
    """
    # 1. The policy accepts evidence of hardware, and the files are there and can be read.
    rules = evidence_policy(policy).hardware
    if rules is None:
        raise ReceiptError("appraisal", "evidence of hardware", "another kind (the policy states no hardware)")
    try:
        files = _merged(unpack_evidence(evidence), beside or {})
        keys = files.pop("keys")
        bundle, moment = load_bundle(**files), datetime.fromtimestamp(as_of, UTC)
    except (InputError, OverflowError, ValueError, OSError) as error:
        raise ReceiptError("appraisal", f"unreadable evidence ({one_line(error, 400)})", "files of one node") from error

    # 2. They are appraised under the policy's ``hardware`` with the verifier's nonce.
    return attested(appraise(bundle, rules, moment, nonce=policy.nonce, key=keys, roots=policy.roots), policy)


def attested(appraisal: Appraisal, policy: EvidencePolicy) -> TeeClaims:
    """What an appraisal with the verifier's nonce and the serving keys says to a receipt check:

    1. It is accepted, and each of ``GUEST_CHECKS`` was made and is asserted.
    2. No laboratory's root vouches, unless the policy allows a simulated TEE.
    3. Whatever was extended into RTMR3 is a runtime event, so that none can be hidden.
    4. The log names one model, then the keys in report_data, then the boundary.
    5. Each of ``GPU_CHECKS`` was made and is asserted on every device, one of which is a GPU.

    Raises:
        ReceiptError: of check "appraisal" (1 to 3 and 5), "measured-model" or "keys-bound" (4).
    """
    # 1. It is accepted, and each of ``GUEST_CHECKS`` was made and is asserted.
    _require(appraisal, GUEST_CHECKS)
    cpu = appraisal.cpu or {}

    # 2. No laboratory's root vouches, unless the policy allows a simulated TEE.
    if appraisal.simulated and policy.allow_simulated is not True:
        raise ReceiptError("appraisal", "evidence under a laboratory's root", "the vendors' (no allow_simulated)")

    # 3. Whatever was extended into RTMR3 is a runtime event, so that none can be hidden.
    log = cpu["runtime_events"]
    if any(event["event"] is None for event in log):
        raise ReceiptError("appraisal", "an extension of RTMR3 that is no runtime event", "runtime events only")

    # 4. The log names one model, then the keys in report_data, then the boundary.
    report_data = bytes.fromhex(cpu["measured"]["report_data"])
    model = measured_model(log, policy.boundary, report_data)

    # 5. Each of ``GPU_CHECKS`` was made and is asserted on every device, one of which is a GPU.
    _require(appraisal, GPU_CHECKS)
    nonces = [bytes.fromhex(one.facts["nonce"]) for one in appraisal.devices if one.facts["kind"] == "gpu"]
    if not nonces:
        raise ReceiptError("appraisal", "reports of switches alone", "one of a GPU")
    return TeeClaims(report_data, nonces[0], model, appraisal.simulated)


def _require(appraisal: Appraisal, checks: Sequence[str]) -> None:
    weak = [one for one in appraisal.claims if one.check in checks and one.status is not Status.ASSERTED]
    wrong = [f"{one.id}: {one.reason}" for one in (*appraisal.because, *weak)]
    wrong += [f"{check}: not made" for check in checks if check not in {one.check for one in appraisal.claims}]
    if wrong:
        raise ReceiptError("appraisal", f"rejected evidence ({wrong[0][:400]})", f"policy {appraisal.policy.name!r}")


def pack_evidence(files: Mapping[str, Any]) -> dict[str, Any]:
    """Evidence of kind "hardware" from files by the names of ``PARTS``; absent ones stay empty."""
    singles = {name: None if files.get(name) is None else _text(files[name]) for name in SINGLE}
    lists = {name: [_text(data) for data in files.get(name, ())] for name in PARTS if name not in SINGLE}
    return {"kind": KIND, **singles, **lists}


def unpack_evidence(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """The files in evidence of kind "hardware", by the names of ``PARTS``.

    Raises:
        InputError: a part is missing, unknown, too large, or not canonical base64.
    """
    if json_object(evidence, what="evidence").get("kind") != KIND:
        raise InputError(f"evidence kind: found {str(evidence.get('kind'))[:40]!r}, expected {KIND!r}")
    json_object(evidence, ("kind", *PARTS), what="evidence")
    files: dict[str, Any] = {}
    for name in PARTS:
        part = evidence[name]
        if name in SINGLE:
            files[name] = None if part is None else _bytes(part, name)
        elif isinstance(part, list) and len(part) <= _LIMIT:
            files[name] = [_bytes(one, name) for one in part]
        else:
            raise InputError(f"evidence {name}: expected a list of at most {_LIMIT} files")
    for name, data in (*(("gpu", one) for one in files["gpu"]), ("quote", files["quote"] or b"")):
        if data and describe(data) != _RAW[name]:
            raise InputError(f"evidence {name}: found {describe(data)}, expected {_RAW[name]}, raw")
    return files


def appraiser_with(files: Sequence[bytes]) -> Appraiser:
    """An appraiser of evidence of hardware that has these files beside what comes with the receipt.

    Files are told apart by content, and may have any form that ``load_bundle`` reads, or be
    evidence of kind "hardware" as ``otr collect`` writes it.

    Raises:
        InputError: a file is none of these, or a part that there is one of comes twice.
    """
    found: dict[str, Any] = {}
    for data in files:
        name = _LOOKS.get(describe(data), "ocsp" if data[:3] == b"MII" else "")  # base64 of DER
        document = parse_json(data, what="evidence file") if describe(data) == "a JSON file" else None
        if isinstance(document, dict):
            name = next((part for part, signs in _SIGNS if signs <= document.keys()), "")
        elif document:
            name = "event_log" if isinstance(document[0], dict) and "imr" in document[0] else "gpu"
        if not name:
            raise InputError(f"evidence file: found {describe(data)}, expected one of {', '.join(PARTS)}")
        part = {name: data if name in SINGLE else [data]}
        found = _merged(found, unpack_evidence(document) if name == KIND and isinstance(document, dict) else part)
    return functools.partial(appraise_hardware, beside=found)


def _merged(files: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(files)
    for name, part in more.items():
        if name in SINGLE and None not in (part, result.get(name)) and part != result[name]:
            raise InputError(f"evidence {name}: found two that differ, expected one")
        result[name] = (result.get(name) or part) if name in SINGLE else [*result.get(name, ()), *part]
    return result


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: Any, name: str) -> bytes:
    if not isinstance(text, str) or len(text) > 2 * MAX_FILE_BYTES:
        raise InputError(f"evidence {name}: expected a file of at most {MAX_FILE_BYTES} bytes in base64")
    with reported_as(InputError, f"evidence {name}: found text that is not base64", ValueError):
        raw = base64.b64decode(text)
    if _text(raw) != text:
        raise InputError(f"evidence {name}: found another spelling of the same bytes, expected canonical base64")
    return raw
