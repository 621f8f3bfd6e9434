"""Appraisal of GPU evidence: the complete real bundle, its window, and one rejecting twin per
check."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from otr_core.attestation import Appraisal, Bundle, Policy, appraise, load_bundle
from otr_core.attestation.chain import VerifiedCache
from otr_core.attestation.claims import CHECKS, ClaimLog, Status
from otr_core.attestation.nvidia import DeviceAppraisal
from otr_core.errors import EvidenceError, InputError, PolicyError

IN_WINDOW = datetime(2025, 1, 15, tzinfo=UTC)
NONCE = bytes.fromhex("931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb")
DEFAULT = Policy.default().expecting("gpu")


def stands_against(appraisal: Appraisal) -> set[str]:
    assert not appraisal.accepted
    return {claim.id for claim in appraisal.because}


def test_complete_bundle_is_accepted_with_33_golden_values(h100: Bundle) -> None:
    result = appraise(h100, DEFAULT, IN_WINDOW, nonce=NONCE)
    assert result.accepted
    assert result.because == ()
    assert result.claim("gpu.0.measurements.driver").reason == "21 of 21 golden values match"
    assert result.claim("gpu.0.measurements.vbios").reason == "12 of 12 golden values match"
    assert result.claim("gpu.0.nonce").status is Status.ASSERTED
    assert result.claim("gpu.0.measurements.covered").status is Status.ASSERTED
    results = [row.result for row in result.devices[0].coverage]
    assert results.count("matched") + results.count("alternative") == 33
    assert set(results) == {"matched", "alternative", "unused"}


@pytest.mark.parametrize(
    ("as_of", "claim", "reason"),
    [
        (datetime(2024, 2, 1, tzinfo=UTC), "gpu.0.rim.vbios.validity", "valid from 2024-02-23"),
        (datetime(2024, 5, 31, tzinfo=UTC), "gpu.0.rim.driver.validity", "valid from 2024-06-01"),
        (datetime(2026, 2, 23, tzinfo=UTC), "gpu.0.rim.vbios.validity", "expired at 2026-02-22T23:17:58Z"),
        (datetime(2026, 6, 2, tzinfo=UTC), "gpu.0.rim.driver.validity", "expired at 2026-06-01T02:08:29Z"),
        (datetime(2020, 1, 1, tzinfo=UTC), "gpu.0.chain.validity", "valid from 2020-10-17"),
    ],
)
def test_outside_its_window_the_bundle_is_rejected(h100: Bundle, as_of: datetime, claim: str, reason: str) -> None:
    result = appraise(h100, DEFAULT, as_of)
    assert claim in stands_against(result)
    assert reason in result.claim(claim).reason


def test_appraisal_agrees_with_nvidias_recorded_claims(h100: Bundle, outside: Callable[[str], bytes]) -> None:
    recorded = json.loads(outside("nvidia-attestation-sdk/eat/hopperClaimsv3_decoded.json"))["GPU-0"]
    result = appraise(h100, DEFAULT, IN_WINDOW, nonce=bytes.fromhex(recorded["eat_nonce"]))
    facts = result.devices[0].facts
    assert facts["ueid"] == recorded["ueid"]
    assert facts["hwmodel"] == recorded["hwmodel"]
    assert facts["driver"] == recorded["x-nvidia-gpu-driver-version"]
    assert facts["vbios"] == recorded["x-nvidia-gpu-vbios-version"]
    assert (recorded["measres"], recorded["x-nvidia-gpu-attestation-report-cert-chain-fwid-match"]) == ("success", True)
    signers = {rim.kind: rim.chain[0].not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ") for rim in h100.rims}
    for kind in ("driver", "vbios"):
        assert signers[kind] == recorded[f"x-nvidia-gpu-{kind}-rim-cert-chain"]["x-nvidia-cert-expiration-date"]
        assert recorded[f"x-nvidia-gpu-{kind}-rim-signature-verified"] is True
        assert result.claim(f"gpu.0.rim.{kind}.signature").status is Status.ASSERTED


def test_what_the_wheel_ships_does_not_fit_its_own_report(
    h100_report: bytes, h100_chain: bytes, wheel_rims: list[bytes]
) -> None:
    bundle = load_bundle(gpu=[h100_report], gpu_certs=[h100_chain], rims=wheel_rims)
    result = appraise(bundle, DEFAULT, datetime(2024, 6, 1, tzinfo=UTC))
    assert stands_against(result) == {
        *("gpu.0.rim.driver.identity", "gpu.0.measurements.driver"),
        *("gpu.0.rim.vbios.identity", "gpu.0.measurements.vbios"),
    }
    assert result.claim("gpu.0.rim.driver.identity").reason == "manifest is for 545.00, the device runs 550.90.07"
    assert result.claim("gpu.0.measurements.driver").reason.startswith("15 of 21 golden values do not hold")
    assert result.claim("gpu.0.measurements.vbios").reason.startswith("5 of 12 golden values do not hold")
    for claim in ("signature", "chain.links", "chain.root", "fwid", "rim.driver.signature", "rim.vbios.signature"):
        assert result.claim(f"gpu.0.{claim}").status is Status.ASSERTED


def test_without_manifests_the_measurements_stay_unknown(h100_report: bytes, h100_chain: bytes) -> None:
    result = appraise(load_bundle(gpu=[h100_report], gpu_certs=[h100_chain]), DEFAULT, IN_WINDOW)
    assert {claim.status for claim in result.because} == {Status.UNKNOWN}
    assert "gpu.0.measurements.driver" in stands_against(result)
    assert "NV_GPU_DRIVER_GH100_550.90.07" in result.claim("gpu.0.rim.driver.identity").reason


def test_without_a_chain_the_signature_stays_unknown(h100_report: bytes, matching_rims: list[bytes]) -> None:
    result = appraise(load_bundle(gpu=[h100_report], rims=matching_rims), DEFAULT, IN_WINDOW)
    assert {"gpu.0.signature", "gpu.0.chain.root", "gpu.0.fwid"} <= stands_against(result)


def certificates(pem: bytes) -> list[bytes]:
    return re.findall(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", pem, re.S)


@pytest.mark.parametrize(
    ("change", "refuted"),
    [
        (lambda c: c[:4], {"gpu.0.chain.length", "gpu.0.chain.root"}),
        (lambda c: [c[0], c[2], c[3], c[4]], {"gpu.0.chain.length", "gpu.0.chain.links"}),
        (lambda c: [c[0], c[2], c[1], c[3], c[4]], {"gpu.0.chain.links"}),
        (lambda c: [*c, c[4]], {"gpu.0.chain.length"}),
        (lambda c: [c[1], *c[1:]], {"gpu.0.chain.usage", "gpu.0.chain.links", "gpu.0.signature"}),
        (lambda c: [*c[:4], c[3]], {"gpu.0.chain.root", "gpu.0.chain.links"}),
        (lambda c: [c[0], c[0], *c[2:]], {"gpu.0.chain.usage", "gpu.0.chain.links"}),
    ],
)
def test_a_changed_chain_is_refuted(
    h100_report: bytes,
    h100_chain: bytes,
    change: Callable[[list[bytes]], list[bytes]],
    refuted: set[str],
) -> None:
    pem = b"".join(change(certificates(h100_chain)))
    result = appraise(load_bundle(gpu=[h100_report], gpu_certs=[pem]), DEFAULT, IN_WINDOW)
    assert refuted <= {claim.id for claim in result.because if claim.status is Status.REFUTED}


def test_another_devices_leaf_is_refuted(h100_files: dict[str, Any], outside: Callable[[str], bytes]) -> None:
    other = certificates(outside("google-go-nvattest-tools/test_switch_attestation_certificate_chain.dat"))
    pem = b"".join([other[0], *certificates(h100_files["gpu_certs"][0])[1:]])
    result = appraise(load_bundle(**{**h100_files, "gpu_certs": [pem]}), DEFAULT, IN_WINDOW)
    against = {claim_id.split(".", 2)[2] for claim_id in stands_against(result) if ".0." in claim_id}
    assert {"chain.links", "signature", "fwid"} <= against


def test_another_nonce_is_a_replay(h100: Bundle) -> None:
    result = appraise(h100, DEFAULT, IN_WINDOW, nonce=bytes(32))
    assert stands_against(result) == {"gpu.0.nonce"}
    assert NONCE.hex() in result.claim("gpu.0.nonce").reason


def test_no_nonce_leaves_freshness_unknown(h100: Bundle) -> None:
    assert appraise(h100, DEFAULT, IN_WINDOW).claim("gpu.0.nonce").status is Status.UNKNOWN
    demanding = dataclasses.replace(DEFAULT, require=(*DEFAULT.require, "gpu.nonce"))
    assert stands_against(appraise(h100, demanding, IN_WINDOW)) == {"gpu.0.nonce"}


@pytest.mark.parametrize(
    ("change", "claim"),
    [
        ({"gpu_drivers": ("550.54.14",)}, "gpu.0.driver"),
        ({"gpu_vbios": ("96.00.5E.00.01",)}, "gpu.0.vbios"),
        ({"gpu_count": 2}, "gpu.count"),
        ({"gpu_protected_pcie": True}, "gpu.0.mode"),
        ({"gpu_ids": ("1",)}, "gpu.0.platform"),
        ({"evidence": ("cpu",)}, "evidence.present"),
        ({"evidence": ("switch",)}, "evidence.present"),
    ],
)
def test_each_policy_field_can_refuse(h100: Bundle, change: dict[str, Any], claim: str) -> None:
    assert claim in stands_against(appraise(h100, dataclasses.replace(DEFAULT, **change), IN_WINDOW))


def test_each_policy_field_can_pass(h100: Bundle) -> None:
    ueid = h100.devices[0].ueid
    change = {
        "gpu_drivers": ("550.90.07",),
        "gpu_vbios": ("96.00.9F.00.01",),
        "gpu_count": 1,
        "gpu_protected_pcie": False,
        "gpu_ids": (ueid,),
        "evidence": ("gpu",),
        "gpu_max_nodes": 2,
    }
    policy = dataclasses.replace(DEFAULT, **change)
    assert appraise(h100, policy, IN_WINDOW, registered={ueid: 1}).accepted
    assert stands_against(appraise(h100, policy, IN_WINDOW, registered={ueid: 2})) == {"gpu.0.platform"}
    unsure = dataclasses.replace(policy, require=(*policy.require, "gpu.platform"))
    assert stands_against(appraise(h100, unsure, IN_WINDOW)) == {"gpu.0.platform"}


def test_same_input_same_bytes_whatever_is_cached(h100: Bundle, h100_files: dict[str, Any]) -> None:
    cache = VerifiedCache(max_entries=2)
    first = appraise(h100, DEFAULT, IN_WINDOW, cache=cache).to_json()
    assert appraise(h100, DEFAULT, IN_WINDOW, cache=cache).to_json() == first
    assert appraise(load_bundle(**h100_files), DEFAULT, IN_WINDOW).to_json() == first
    tokyo = IN_WINDOW.astimezone(timezone(timedelta(hours=9)))
    assert appraise(h100, DEFAULT, tokyo).to_json() == first
    assert appraise(h100, DEFAULT, IN_WINDOW + timedelta(days=1)).to_json() != first
    parsed = json.loads(first)
    assert parsed["verdict"] == "accepted"
    assert {claim["check"] for claim in parsed["claims"]} <= set(CHECKS)
    assert len(parsed["coverage"]) == 64


def test_claims_name_the_bytes_they_rest_on(h100: Bundle) -> None:
    result = appraise(h100, DEFAULT, IN_WINDOW)
    (device,) = h100.devices
    chain = hashlib.sha256(b"".join(one.public_bytes(Encoding.DER) for one in device.chain)).hexdigest()
    assert result.claim("gpu.0.signature").evidence == hashlib.sha256(device.report.raw).hexdigest()
    assert {result.claim(f"gpu.0.chain.{part}").evidence for part in ("length", "links", "root")} == {chain}
    driver = next(rim for rim in h100.rims if rim.kind == "driver")
    assert result.claim("gpu.0.rim.driver.signature").evidence == driver.sha256
    both = hashlib.sha256(device.report.raw + driver.raw).hexdigest()
    assert result.claim("gpu.0.measurements.driver").evidence == both
    assert result.claim("gpu.0.nonce").evidence is None


def test_the_table_ends_in_the_verdict(h100: Bundle) -> None:
    rows = appraise(h100, DEFAULT, IN_WINDOW).table()
    assert rows[-1][:3] == ("verdict", "accepted", "policy default for gpu")
    assert rows[-1][3].startswith("every required check is asserted; not required and unknown: ")
    assert "not required and not made: " in rows[-1][3]
    assert ("gpu.0.nonce (not required)", "unknown") in [row[:2] for row in rows]


def test_a_claim_is_about_a_check_that_there_is() -> None:
    log = ClaimLog("gpu.0", "gpu", [])
    with pytest.raises(PolicyError, match=r"^check: found 'gpu\.colour', expected one of"):
        log.unknown(["colour"], "nobody looked")
    assert log.claims == []


def test_a_required_check_that_is_not_made_is_not_passed(h100: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should the code ever forget a check, the verdict must not: the policy asks for it by name."""
    idle = DeviceAppraisal("gpu.0", {})
    monkeypatch.setattr("otr_core.attestation.appraisal.appraise_device", lambda *given: idle)
    result = appraise(h100, DEFAULT, IN_WINDOW)
    assert "gpu.0.signature" in stands_against(result)
    assert {claim.status for claim in result.because} == {Status.NOT_MADE}


def test_time_without_zone_and_short_nonce_are_input_errors(h100: Bundle) -> None:
    with pytest.raises(InputError, match="without a time zone"):
        appraise(h100, DEFAULT, datetime(2025, 1, 15))
    with pytest.raises(InputError, match="found 3 bytes"):
        appraise(h100, DEFAULT, IN_WINDOW, nonce=b"abc")


@pytest.mark.parametrize("slot", ["gpu", "gpu_certs", "rims", "ocsp"])
@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"\xff\xd8\xff\xe0JFIF", "a JPEG image"),
        (b"", "an empty file"),
        (b"\0" * 5000, "zeros"),
        (b"\0" * 20_000_000, "found 20000000 bytes"),
        (b'{"claims": []}', "a JSON file"),
        (b"hello world", "text"),
        (b"<html></html>", "an XML file"),
        (b"a", "text"),
    ],
)
def test_any_file_in_any_slot_is_named(h100_files: dict[str, Any], slot: str, data: bytes, found: str) -> None:
    files = {**h100_files, slot: [data]}
    if slot in ("gpu", "gpu_certs"):
        with pytest.raises(EvidenceError, match=found):
            load_bundle(**files)
    else:  # a side file costs what it would have shown, and no more
        result = appraise(load_bundle(**files), DEFAULT, IN_WINDOW)
        claim = result.claim("evidence.readable")
        assert claim.status is Status.UNKNOWN
        assert found in claim.reason
        assert result.accepted == (slot == "ocsp")


def test_a_reason_is_told_once_however_many_claims_it_is_of(h100_files: dict[str, Any]) -> None:
    bare = load_bundle(gpu=h100_files["gpu"], gpu_certs=h100_files["gpu_certs"])
    result = appraise(bare, DEFAULT.expecting("gpu"), IN_WINDOW)
    said = result.summary()
    driver = [claim for claim in result.because if "NV_GPU_DRIVER" in claim.reason]
    assert f"gpu.0.rim.driver.identity and {len(driver) - 1} more: {driver[0].reason}" in said
    assert said.count("NV_GPU_DRIVER") == said.count("NV_GPU_VBIOS") == 1
    numbers = [int(one) for one in re.findall(r"and (\d+) more", said)]
    told = said.split("; and ")[0].count("; ") + 1
    assert told + sum(numbers) == len(result.because)


def test_a_broken_file_of_the_right_kind_is_told_as_such(h100_report: bytes, outside: Callable[[str], bytes]) -> None:
    with pytest.raises(EvidenceError, match=r"^gpu: found an NVIDIA report that cannot be read: signature: found 95"):
        load_bundle(gpu=[h100_report[:-1]])
    with pytest.raises(EvidenceError, match=r"^quote: found a TDX quote that cannot be read: "):
        load_bundle(quote=outside("phala-dcap-qvl/tdx_quote")[:900])


def test_files_in_each_others_slots_are_named(h100_files: dict[str, Any]) -> None:
    report, pem, rim = h100_files["gpu"][0], h100_files["gpu_certs"][0], h100_files["rims"][0]
    with pytest.raises(EvidenceError, match=r"gpu: found an XML file \(a RIM\?\), expected an NVIDIA report"):
        load_bundle(gpu=[rim])
    with pytest.raises(EvidenceError, match="gpu: found PEM certificates, expected an NVIDIA report"):
        load_bundle(gpu=[pem])
    with pytest.raises(EvidenceError, match="gpu-certs: found an NVIDIA report, expected a PEM chain"):
        load_bundle(gpu=[report], gpu_certs=[report])
    assert "rim: found PEM certificates, expected a RIM" in load_bundle(gpu=[report], rims=[pem]).unread[0]
    assert "ocsp: found an XML file" in load_bundle(gpu=[report], ocsp=[rim]).unread[0]
    with pytest.raises(EvidenceError, match="found 2 chains, expected 1"):
        load_bundle(gpu=[report], gpu_certs=[pem, pem])
    with pytest.raises(EvidenceError, match="no report and no quote"):
        load_bundle()


def test_one_unreadable_side_file_does_not_cost_the_verdict(h100_files: dict[str, Any]) -> None:
    rims = [*h100_files["rims"], b"no manifest"]
    result = appraise(
        load_bundle(**{**h100_files, "rims": rims, "ocsp": [b"\x30\x03\x0a\x01\x01"]}), DEFAULT, IN_WINDOW
    )
    assert result.accepted
    assert result.claim("evidence.readable").status is Status.UNKNOWN
    assert "not required and unknown: evidence.readable" in result.summary()
    whole = load_bundle(**h100_files)
    assert appraise(whole, DEFAULT, IN_WINDOW).claim("evidence.readable").status is Status.ASSERTED
