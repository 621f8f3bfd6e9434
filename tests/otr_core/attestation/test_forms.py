"""Vendor JSON of every nesting found in the field, many devices at once, and newer
architectures."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509

from otr_core.attestation import Policy, appraise, load_bundle
from otr_core.attestation.bundle import MAX_FILE_BYTES, Bundle, describe
from otr_core.attestation.chain import parse_chain
from otr_core.attestation.claims import Status
from otr_core.attestation.eventlog import RUNTIME_EVENT
from otr_core.attestation.nvidia import DICE_OID, TCB_INFO_OID, certified_fwids
from otr_core.attestation.report import parse_report
from otr_core.errors import EvidenceError
from otr_paper.labs.attestation import authentic_policy
from otr_paper.labs.attestation.lab import lab_device
from otr_paper.labs.attestation.machines import machine_devices

Outside = Callable[[str], bytes]

NOW = datetime(2026, 8, 14, tzinfo=UTC)
AUTHENTIC = authentic_policy()
NONCE = "931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@pytest.fixture(scope="module")
def entry(h100_report: bytes, h100_chain: bytes) -> dict[str, str]:
    """The real report and its chain, in the encoding of vendors' responses."""
    return {"evidence": b64(h100_report), "certificate": b64(h100_chain)}


FORMS: list[Callable[[dict[str, str]], Any]] = [
    lambda one: {"arch": "HOPPER", **one, "nonce": NONCE},
    lambda one: [{"arch": "HOPPER", **one, "nonce": NONCE, "version": "1.0"}],
    lambda one: {"nonce": NONCE, "arch": "HOPPER", "evidence_list": [one]},
    lambda one: {"nvidia_payload": json.dumps({"nonce": NONCE, "evidence_list": [one]})},
    lambda one: {"gpus": {"0": {**one, "nonce": "0x" + NONCE}}, "switches": []},
    lambda one: {
        "__cmwc_t": "tag:example.com,2026:verifier-input",
        "nonce": ["application/octet-stream", url64(bytes.fromhex(NONCE))],
        "gpu_0": {
            "evidence": ["application/vnd.example.spdm", url64(base64.b64decode(one["evidence"]))],
            "certificate": ["application/vnd.example.pem", url64(base64.b64decode(one["certificate"]))],
        },
    },
    lambda one: {**one, "certificate": base64.b64decode(one["certificate"]).decode(), "nonce": NONCE},
]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_device(entry: dict[str, str], h100_report: bytes, form: Any) -> None:
    bundle = load_bundle(gpu=[json.dumps(form(entry)).encode()])
    (device,) = bundle.devices
    assert device.report.raw == h100_report
    result = appraise(bundle, AUTHENTIC, NOW)
    assert result.accepted
    assert result.claim("gpu.0.stated_nonce").status is Status.ASSERTED


@pytest.mark.parametrize("form", FORMS)
def test_a_stated_nonce_that_is_not_the_signed_one_is_refuted(entry: dict[str, str], form: Any) -> None:
    other = json.dumps(form(entry)).replace(NONCE, "00" * 32).replace(url64(bytes.fromhex(NONCE)), url64(bytes(32)))
    result = appraise(load_bundle(gpu=[other.encode()]), AUTHENTIC, NOW)
    assert {claim.id for claim in result.because} == {"gpu.0.stated_nonce"}


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"claims": []}, "no object with 'evidence'"),
        ([], "no object with 'evidence'"),
        ({"evidence": "!!", "certificate": ""}, "not base64"),
        ({"evidence": b64(b"\x11\xe0"), "certificate": b64(b"no")}, "truncated report"),
        ({"evidence": "", "certificate": "", "nonce": "00"}, "found 1 bytes, expected 32"),
        ({"nvidia_payload": "{"}, "not readable as JSON"),
        ({"evidence": 1, "certificate": 2}, "no object with 'evidence'"),
    ],
)
def test_json_without_evidence_is_named(document: Any, reason: str) -> None:
    with pytest.raises(EvidenceError, match=reason):
        load_bundle(gpu=[json.dumps(document).encode()])


def test_json_nested_without_end_is_refused(entry: dict[str, str]) -> None:
    document: Any = entry
    for _ in range(15):
        document = [document]
    assert len(load_bundle(gpu=[json.dumps(document).encode()]).devices) == 1
    with pytest.raises(EvidenceError, match="more than 16 levels"):
        load_bundle(gpu=[json.dumps([document]).encode()])


def test_a_bundles_digest_is_of_each_of_its_parts(
    entry: dict[str, str], h100_report: bytes, matching_rims: list[bytes], h100_ocsp: dict[str, bytes], outside: Outside
) -> None:
    log = [{"imr": 3, "event_type": RUNTIME_EVENT, "event": "app-id", "event_payload": "07"}]
    whole = load_bundle(
        gpu=[json.dumps({**entry, "nonce": NONCE}).encode()],
        rims=[*matching_rims, b"none"],
        ocsp=list(h100_ocsp.values()),
        quote=outside("phala-dcap-qvl/tdx_quote"),
        collateral=outside("phala-dcap-qvl/tdx_quote_collateral.json"),
        event_log=json.dumps(log).encode(),
        **{name: name.encode() for name in ("compose", "preimage", "config")},
    )
    (device,) = whole.devices
    changed = [
        *({"report": parse_report(h100_report[:4] + bytes(8) + h100_report[12:])}, {"chain": device.chain[:-1]}),
        {"stated_nonce": bytes(32)},
    ]
    others = [{"devices": (dataclasses.replace(device, **one),)} for one in changed]
    for field in dataclasses.fields(Bundle):
        value = getattr(whole, field.name)
        assert value, field.name
        others.append({field.name: value[:-1] if isinstance(value, (tuple, bytes)) else None})
    found = {dataclasses.replace(whole, **one).digest for one in others}
    assert len(found | {whole.digest}) == len(others) + 1
    assert dataclasses.replace(whole).digest == whole.digest


def test_too_many_devices_are_refused(entry: dict[str, str]) -> None:
    with pytest.raises(EvidenceError, match="found 65 devices"):
        load_bundle(gpu=[json.dumps([entry] * 65).encode()])


def test_eight_gpus_and_a_switch_with_one_nonce(h100_report: bytes, h100_chain: bytes, outside: Any) -> None:
    """Eight laboratory GPUs (distinct serial numbers, one nonce) beside a real NVSwitch with that
    nonce."""
    model = parse_chain(h100_chain)
    entries = []
    for number in range(8):
        device = lab_device(model, bytes([number]), serial=1000 + number)
        entries.append({"evidence": b64(device.sign(h100_report)), "certificate": b64(device.pem), "arch": "HOPPER"})
    switch = outside("nvidia-attestation-sdk/evidence/switch_evidence_ls10.json")
    bundle = load_bundle(gpu=[json.dumps({"nonce": NONCE, "evidence_list": entries}).encode(), switch])
    result = appraise(bundle, AUTHENTIC, NOW, nonce=bytes.fromhex(NONCE))
    assert [one.subject for one in result.devices] == [f"gpu.{number}" for number in range(8)] + ["switch.0"]
    # theirs is the laboratory's
    assert {claim.check for claim in result.because} == {"gpu.chain.root", "gpu.topology"}
    assert len(result.because) == 9
    assert "gpu.0 does not list switch" in result.claim("gpu.topology").reason  # it is another machine's
    assert result.claim("gpu.unique").reason == "9 different devices"
    assert result.claim("gpu.same_nonce").reason == "9 devices, one nonce"
    assert result.claim("switch.0.signature").status is Status.ASSERTED


def test_every_device_must_pass(entry: dict[str, str], h100_report: bytes, h100_chain: bytes) -> None:
    broken = bytes([*h100_report[:-1], h100_report[-1] ^ 1])
    other = lab_device(parse_chain(h100_chain), b"x", serial=5)
    document = [entry, {"evidence": b64(broken), "certificate": b64(other.pem)}]
    result = appraise(load_bundle(gpu=[json.dumps(document).encode()]), AUTHENTIC, NOW)
    assert {claim.id for claim in result.because} == {"gpu.1.signature", "gpu.1.chain.root"}


def test_another_devices_manifest_is_not_held_against_a_device(
    entry: dict[str, str], matching_rims: list[bytes], outside: Any
) -> None:
    """Two GPUs with different drivers and the manifests of the first: nothing is known of the
    second, not refuted."""
    files = [json.dumps(entry).encode(), outside("secretvm-verify/gpu_attest.txt")]
    result = appraise(
        load_bundle(gpu=files, rims=matching_rims), Policy.default().expecting("gpu"), datetime(2025, 1, 15, tzinfo=UTC)
    )
    assert result.claim("gpu.0.measurements.driver").status is Status.ASSERTED
    assert result.claim("gpu.1.rim.driver.identity").status is Status.UNKNOWN
    assert {claim.id for claim in result.because if claim.status is Status.REFUTED} == {"gpu.same_nonce"}


@pytest.mark.parametrize(
    ("name", "driver", "vbios", "mode"),
    [
        ("nvidia-attestation-sdk/evidence/hopper_evidence.json", "590.12", "96.00.A5.00.01", "on"),
        ("nvidia-attestation-sdk/evidence/evidence_hopper_590_12.json", "590.12", "96.00.A5.00.01", "on"),
        ("nvidia-attestation-sdk/evidence/hopper_evidence_cert_hold.json", "570.86.10", "96.00.AF.00.01", "off"),
        ("secretvm-verify/gpu_attest.txt", "550.144.03", "96.00.9F.00.02", "off"),
    ],
)
def test_other_recorded_gpus_are_authentic(outside: Any, name: str, driver: str, vbios: str, mode: str) -> None:
    result = appraise(load_bundle(gpu=[outside(name)]), AUTHENTIC, NOW)
    # under protected PCIe one GPU is not a machine: the switches that it lists are not shown
    assert [claim.id for claim in result.because] == (["gpu.topology"] if mode == "on" else [])
    facts = result.devices[0].facts
    assert (facts["driver"], facts["vbios"], facts["protected_pcie"]) == (driver, vbios, mode)
    # no reference values
    assert not appraise(load_bundle(gpu=[outside(name)]), Policy.default(), NOW).accepted


def test_a_switch_matches_its_own_manifest(outside: Any) -> None:
    switch = outside("nvidia-attestation-sdk/evidence/switch_evidence_ls10.json")
    rim = outside("nvidia-attestation-sdk/rims/switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml")
    result = appraise(load_bundle(gpu=[switch], rims=[rim]), Policy.default().expecting("switch"), NOW)
    assert result.accepted
    assert result.claim("switch.0.measurements.vbios").reason == "31 of 31 golden values match"
    assert result.claim("switch.0.switch_fwid").status is Status.UNKNOWN
    other = outside("nvidia-attestation-sdk/rims/NV_SWITCH_BIOS_5612_0002_890_9610550001_invalid_signature.xml")
    assert not appraise(load_bundle(gpu=[switch], rims=[other]), Policy.default(), NOW).accepted


def test_a_recorded_trailing_byte_is_refused(outside: Any) -> None:
    with pytest.raises(EvidenceError, match="found 1 bytes after its end"):
        load_bundle(gpu=[outside("coco-trustee/nvidia/hopper_coco_report1.txt")])


@pytest.mark.parametrize("case", ["hopper_cert_chain_case3", "hopper_coco_certs1"])
def test_recorded_broken_or_foreign_chains_are_refuted(outside: Any, h100_report: bytes, case: str) -> None:
    chain = outside(f"coco-trustee/nvidia/{case}.txt")
    result = appraise(load_bundle(gpu=[h100_report], gpu_certs=[chain]), AUTHENTIC, NOW)
    assert not result.accepted
    assert "gpu.0.signature" in {claim.id for claim in result.because} or case.endswith("case3")


# -- architectures without reference values ----------------------------------------------------------------------------


def with_extension(value: bytes, h100_chain: bytes) -> x509.Certificate:
    oid = x509.ObjectIdentifier(DICE_OID)
    return lab_device(parse_chain(h100_chain), b"x", firmware=x509.UnrecognizedExtension(oid, value)).chain[0]


def nested(levels: int) -> bytes:
    body = b""
    for _ in range(levels):
        body = b"\x30\x83" + len(body).to_bytes(3, "big") + body
    return body


@pytest.mark.parametrize("value", [b"", b"\x30", b"\x30\x84\xff", b"\x30\x80" * 300, b"\xff" * 40, nested(3000)])
def test_malformed_firmware_extensions_certify_nothing(value: bytes, h100_chain: bytes) -> None:
    assert certified_fwids(with_extension(value, h100_chain)) == ()


def test_another_certified_firmware_is_refuted(h100_report: bytes, h100_chain: bytes, outside: Any) -> None:
    (other,) = load_bundle(gpu=machine_devices(outside("hgx/blackwell_two_of_mpt.json"))["gpu"][:1]).devices
    theirs = next(one for one in other.chain[0].extensions if one.oid.dotted_string == TCB_INFO_OID)
    device = lab_device(parse_chain(h100_chain), b"x", firmware=theirs.value)
    bundle = load_bundle(gpu=[device.sign(h100_report)], gpu_certs=[device.pem])
    assert appraise(bundle, AUTHENTIC, NOW).claim("gpu.0.fwid").status is Status.REFUTED


def test_a_report_without_firmware_id_is_not_passed(h100_report: bytes, h100_chain: bytes) -> None:
    """What other verifiers skip in silence stays unknown here."""
    report, device = parse_report(h100_report), lab_device(parse_chain(h100_chain), b"x")
    kept = [(number, value) for number, value in report.opaque if number != 20]
    opaque = b"".join(number.to_bytes(2, "little") + len(value).to_bytes(2, "little") + value for number, value in kept)
    start = 37 + 8 + 3520 + 32
    raw = device.sign(h100_report[:start] + len(opaque).to_bytes(2, "little") + opaque + report.signature)
    result = appraise(load_bundle(gpu=[raw], gpu_certs=[device.pem]), AUTHENTIC, NOW)
    assert result.claim("gpu.0.fwid").status is Status.UNKNOWN
    assert "gpu.0.fwid" in {claim.id for claim in result.because}


def test_a_gpu_cannot_pass_as_a_switch(h100_report: bytes, h100_chain: bytes) -> None:
    """Without a driver version and with one PDI a report looks like a switch's; the certificate
    decides."""
    report, device = parse_report(h100_report), lab_device(parse_chain(h100_chain), b"x")
    kept = [(number, value) for number, value in report.opaque if number != 3] + [(22, b"\1" * 8)]
    opaque = b"".join(number.to_bytes(2, "little") + len(value).to_bytes(2, "little") + value for number, value in kept)
    start = 37 + 8 + 3520 + 32
    raw = device.sign(h100_report[:start] + len(opaque).to_bytes(2, "little") + opaque + report.signature)
    assert parse_report(raw).kind == "switch"
    result = appraise(load_bundle(gpu=[raw], gpu_certs=[device.pem]), Policy.default(), NOW)
    assert [one.subject for one in result.devices] == ["gpu.0"]
    assert "gpu.0.rim.driver.identity" in {claim.id for claim in result.because}


def test_the_strict_policy_says_what_recorded_evidence_lacks(outside: Any) -> None:
    """A production machine as it is recorded: authentic, but not what admission of a live node
    would ask for."""
    files = {
        "gpu": [outside("secretvm-verify/gpu_attest.txt")],
        "quote": outside("secretvm-verify/cpu_quote.txt"),
        "collateral": outside("near-mpc/collateral.json"),
        "rims": [outside("nvidia-attestation-sdk/rims/NV_GPU_DRIVER_GH100_550.144.03.xml")],
    }
    against = {claim.id for claim in appraise(load_bundle(**files), Policy.strict(), NOW).because}
    assert {
        "evidence.present",
        "gpu.0.nonce",
        "gpu.0.revocation",
        "cpu.event_log",
        "cpu.rtmr3",
        "binding.key",
    } <= against
    assert not {"gpu.0.signature", "cpu.quote", "cpu.tcb", "binding.gpu_nonce"} & against


def test_a_leaf_without_firmware_id_leaves_it_unknown(h100_report: bytes, h100_chain: bytes) -> None:
    whole = load_bundle(gpu=[h100_report], gpu_certs=[h100_chain])
    short = dataclasses.replace(whole.devices[0], chain=whole.devices[0].chain[1:])
    result = appraise(dataclasses.replace(whole, devices=(short,)), Policy.default(), datetime(2025, 1, 15, tzinfo=UTC))
    claim = result.claim("gpu.0.fwid")
    assert certified_fwids(short.chain[0]) == ()
    assert (claim.status, claim.reason) == (Status.UNKNOWN, "the leaf certificate carries no firmware id")


def test_one_manifest_of_two_leaves_conflicts_and_coverage_unknown(
    h100_report: bytes, h100_chain: bytes, matching_rims: list[bytes]
) -> None:
    bundle = load_bundle(gpu=[h100_report], gpu_certs=[h100_chain], rims=matching_rims[:1])
    result = appraise(bundle, Policy.default(), datetime(2025, 1, 15, tzinfo=UTC))
    for name in ("conflict", "covered"):
        claim = result.claim(f"gpu.0.measurements.{name}")
        assert (claim.status, claim.reason) == (Status.UNKNOWN, "not all reference manifests are in the bundle")


def test_a_manifest_whose_signature_fails_vouches_for_no_measurement(
    h100_report: bytes, h100_chain: bytes, matching_rims: list[bytes]
) -> None:
    forged = matching_rims[0].replace(b'name="Measurement_0"', b'name="Measurement_x"', 1)
    assert forged != matching_rims[0]
    bundle = load_bundle(gpu=[h100_report], gpu_certs=[h100_chain], rims=[forged, matching_rims[1]])
    claim = appraise(bundle, Policy.default(), datetime(2025, 1, 15, tzinfo=UTC)).claim("gpu.0.measurements.driver")
    assert (claim.status, claim.reason) == (Status.UNKNOWN, "the manifest has no signed active golden value")


def test_a_firmware_id_that_breaks_off_certifies_nothing(h100_chain: bytes) -> None:
    oid = bytes.fromhex("0609608648016503040202")
    whole = b"\x30\x3d" + oid + b"\x04\x30" + b"\7" * 48
    for value, found in ((whole, (b"\7" * 48,)), (whole[:-1], ())):
        assert certified_fwids(with_extension(value, h100_chain)) == found


def test_what_goes_with_a_quote_needs_one_and_files_are_bounded(h100_report: bytes, h100_chain: bytes) -> None:
    for part in ("collateral", "event_log", "compose"):
        with pytest.raises(EvidenceError, match="without a quote to go with it"):
            load_bundle(gpu=[h100_report], gpu_certs=[h100_chain], **{part: b"{}"})
    with pytest.raises(EvidenceError, match="with evidence of at most 8388608 bytes"):
        load_bundle(gpu=[b"{" + b" " * MAX_FILE_BYTES])
    assert describe(h100_report.hex().encode()) == "an NVIDIA report as hex text"
    assert describe(b"ab" * 40) == "hex text"
