"""Reference manifests: all of the wheel's verify, an independent schema agrees, and each forged part is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from otr_core.attestation import chain as chains
from otr_core.attestation.attacks.lab import lab_rim
from otr_core.attestation.chain import NVIDIA_RIM_ROOT_SHA256, VerifiedCache
from otr_core.attestation.report import parse_report
from otr_core.attestation.rim import GoldenValue, coverage, parse_rim
from otr_core.errors import EvidenceError

NV = "nv-local-gpu-verifier"
WHEEL_RIMS = (
    *("1010_0200_882_96005E0001_PROD", "1010_0200_882_96005E0001_test_no_gpu", "1010_0200_882_96005E0003_PROD"),
    *("1010_0200_882_960074001A_PROD", "1010_0200_882_960074001C_PROD", "1010_0205_862_96005E0002_PROD"),
    *("1010_0205_862_96005E0004_PROD", "1010_0205_862_960074001F_PROD", "1010_0205_862_9600740020_PROD"),
    *("1010_0210_886_9600740011_PROD", "1010_0215_866_9600740010_PROD", "Driver_RIM_test_no_gpu"),
    *("g520_0200_885_9600740001_PROD", "g520_0200_885_960074000D_PROD", "g520_0202_885_96006D0008_PROD"),
    *("g520_0202_885_96006D0027_PROD", "g520_0202_885_9600740014_PROD", "g520_0202_885_9600740018_PROD"),
    *("g520_0205_865_9600740006_PROD", "g520_0205_865_960074000F_PROD", "g520_0207_865_9600740015_PROD"),
    *("g520_0207_865_9600740019_PROD", "g520_0213_881_96006D0007_PROD", "g520_0213_881_96006D0026_PROD"),
    *("g520_0228_889_96006D000A_PROD", "g520_0228_889_96006D0029_PROD"),
)


@pytest.fixture(scope="module")
def driver(sample: Callable[[str], bytes]) -> bytes:
    return sample("Driver_RIM_test_no_gpu.swidtag")


@pytest.mark.parametrize("name", WHEEL_RIMS)
def test_every_manifest_of_the_wheel_verifies_in_its_time(sample: Callable[[str], bytes], name: str) -> None:
    rim, cache = parse_rim(sample(f"{name}.swidtag")), VerifiedCache()
    assert rim.signature_problem(cache) is None
    assert rim.chain_problem(NVIDIA_RIM_ROOT_SHA256, cache) is None
    assert chains.validity_problem(rim.chain, datetime(2024, 6, 1, tzinfo=UTC)) is None
    assert "expired" in (chains.validity_problem(rim.chain, datetime(2026, 11, 22, tzinfo=UTC)) or "")
    assert rim.signed_golden(cache) == rim.golden
    assert rim.kind == ("driver" if name.startswith("Driver") else "vbios")
    if rim.kind == "vbios":
        assert rim.version.replace(".", "") in name


def test_an_xml_schema_validator_accepts_what_the_parser_accepts(
    sample: Callable[[str], bytes], wheel_file: Callable[[str, str], Path]
) -> None:
    from lxml import etree

    schema = etree.XMLSchema(file=str(wheel_file(NV, "verifier/rim/swidSchema2015.xsd")))
    for name in WHEEL_RIMS[:3]:
        raw = sample(f"{name}.swidtag")
        assert schema.validate(etree.fromstring(raw))
        broken = raw.replace(b"<ns0:Entity ", b"<ns0:Entitie ").replace(b"<ns0:Meta ", b"<ns0:Mete ")
        assert not schema.validate(etree.fromstring(broken))
        with pytest.raises(EvidenceError):
            parse_rim(broken)


def test_one_changed_digit_breaks_the_signature(driver: bytes) -> None:
    forged = parse_rim(re.sub(rb'(active="True"[^>]*Hash0=")[0-9a-f]{2}', rb"\g<1>00", driver, count=1))
    assert "InvalidDigest" in (forged.signature_problem(VerifiedCache()) or "")
    assert forged.signed_golden(VerifiedCache()) == ()


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (rb"ecdsa-sha384", rb"ecdsa-sha256", "does not verify"),
        (rb"xmldsig-more#sha384\"/><ds:DigestValue", rb"xmldsig-more#sha224\"/><ds:DigestValue", "does not verify"),
        (rb'URI=""', rb'URI="#x"', "does not verify"),
        (rb"(?s)<ds:Reference .*</ds:Reference>", rb"", "does not verify"),
    ],
)
def test_other_algorithms_and_references_are_refused(driver: bytes, old: bytes, new: bytes, reason: str) -> None:
    changed = re.sub(old, new, driver)
    assert changed != driver
    assert reason in (parse_rim(changed).signature_problem(VerifiedCache()) or "")


def test_a_manifest_signed_by_someone_else_fails_in_its_chain_only(driver: bytes) -> None:
    rim = parse_rim(driver)
    forged = parse_rim(lab_rim(driver, rim.chain, b"seed"))
    cache = VerifiedCache()
    assert forged.signature_problem(cache) is None
    assert "is not signed by" in (forged.chain_problem(NVIDIA_RIM_ROOT_SHA256, cache) or "")
    assert "expected" in (rim.chain_problem("00" * 32, cache) or "")


@pytest.mark.parametrize(
    "name",
    [
        *("hash_empty_namespace", "invalid_alternatives", "invalid_base64_cert", "invalid_index", "invalid_pem_data"),
        *("missing_alternatives", "missing_colloquial_version", "missing_index", "missing_meta", "missing_size"),
        *("missing_x509_certificate", "missing_x509_data", "no_payload"),
    ],
)
def test_recorded_malformed_manifests_are_unreadable(outside: Callable[[str], bytes], name: str) -> None:
    with pytest.raises(EvidenceError):
        parse_rim(outside(f"google-go-nvattest-tools/rim/failure_{name}.xml"))


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("NV_GPU_DRIVER_GH100_535.86.09_measurement_mismatch", "signature"),
        ("NV_SWITCH_BIOS_5612_0002_890_9610550001_invalid_signature", "signature"),
        ("incorrect_cert_chain_driver_rim", "chain"),
    ],
)
def test_recorded_forged_manifests_are_refuted(outside: Callable[[str], bytes], name: str, problem: str) -> None:
    rim, cache = parse_rim(outside(f"nvidia-attestation-sdk/rims/{name}.xml")), VerifiedCache()
    if problem == "signature":
        assert rim.signature_problem(cache) is not None
    else:
        assert rim.chain_problem(NVIDIA_RIM_ROOT_SHA256, cache) is not None


def resource(old: str, new: str) -> Callable[[bytes], bytes]:
    return lambda raw: raw.replace(old.encode(), new.encode(), 1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (resource('index="1"', 'index="0"'), "index twice"),
        (resource('index="1"', 'index="one"'), "expected a number"),
        (resource('alternatives="1"', 'alternatives="2"'), "found 1 hashes, expected 2"),
        (resource('alternatives="1"', 'alternatives="0"'), "found 1 hashes, expected 0"),
        (resource('active="False"', 'active="maybe"'), "active found 'maybe'"),
        (resource('size="48"', 'size="32"'), "expected 32"),
        (resource('Hash0="0', 'Hash0="x'), "not hex"),
        (resource("colloquialVersion", "colloquial"), "no attribute colloquialVersion"),
        (resource("<SoftwareIdentity", "<!DOCTYPE a><SoftwareIdentity"), "document type"),
        (resource("SoftwareIdentity", "Software"), "no well-formed XML"),
        (lambda raw: b"<a/>", "root element a"),
        (lambda raw: b"", "no well-formed XML"),
        (lambda raw: b" " * 2_000_000, "at most"),
    ],
)
def test_malformed_parts_are_named(driver: bytes, change: Callable[[bytes], bytes], reason: str) -> None:
    changed = change(re.sub(rb"<\?xml[^>]*\?>", b"", driver))
    with pytest.raises(EvidenceError, match=reason):
        parse_rim(changed)


def test_external_entities_are_not_read(driver: bytes, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("545.00")
    plain = re.sub(rb"<\?xml[^>]*\?>", b"", driver)
    doctype = f'<!DOCTYPE a [<!ENTITY e SYSTEM "file://{secret}">]>'.encode()
    with pytest.raises(EvidenceError, match=r"document type|well-formed"):
        parse_rim(doctype + plain.replace(b"</ns0:Payload>", b"&e;</ns0:Payload>"))


def test_coverage_says_what_each_index_is(h100_report: bytes) -> None:
    report = parse_report(h100_report)
    value = {block.index - 1: block.value for block in report.measurements}
    live = [index for index, bytes_ in value.items() if any(bytes_)]
    golden = (
        GoldenValue(live[0], True, (value[live[0]],), "same"),
        GoldenValue(live[1], True, (bytes(48), value[live[1]]), "second of two"),
        GoldenValue(live[2], True, (b"\1" * 48,), "other"),
        GoldenValue(live[3], False, (b"\1" * 48,), "inactive"),
        GoldenValue(99, True, (b"\1" * 48,), "absent"),
    )
    rows = {row.index: row.result for row in coverage(report, {"driver": golden})}
    assert [rows[index] for index in (*live[:4], 99)] == [
        *("matched", "alternative", "mismatched", "no golden value", "no runtime block")
    ]
    assert len(rows) == 65
    assert {rows[index] for index in value if index not in live} == {"unused"}
