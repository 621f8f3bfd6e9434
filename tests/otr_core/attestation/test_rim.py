"""Reference manifests: all of the wheel's verify, an independent schema agrees, and each forged
part is refused."""

from __future__ import annotations

import base64
import contextlib
import copy
import dataclasses
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree
from signxml import CanonicalizationMethod, DigestAlgorithm, SignatureConstructionMethod, SignatureMethod, XMLSigner

from otr_core.attestation import Policy, appraise, load_bundle
from otr_core.attestation import chain as chains
from otr_core.attestation.chain import NVIDIA_RIM_ROOT_SHA256, VerifiedCache
from otr_core.attestation.report import parse_report
from otr_core.attestation.rim import (
    NVDEC0_INDEX,
    NVDEC_DISABLED,
    SWID,
    GoldenValue,
    golden_rows,
    parse_rim,
    rim_coverage,
    safe_parser,
)
from otr_core.errors import EvidenceError
from otr_paper.labs.attestation.lab import lab_key, lab_rim

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
    """NVIDIA's driver manifest from the wheel."""
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


def test_a_signer_certificate_of_an_unknown_version_is_unreadable(driver: bytes) -> None:
    """Found by the fuzzer: the library raises an error of its own for it."""
    der = bytearray(parse_rim(driver).chain[0].public_bytes(Encoding.DER))
    at = der.index(b"\xa0\x03\x02\x01\x02")  # [0] EXPLICIT version INTEGER 2, that is v3
    der[at + 4] = 106
    first = re.compile(rb"(?s)(<ds:X509Certificate>).*?(</ds:X509Certificate>)")
    changed = first.sub(lambda found: found[1] + base64.b64encode(der) + found[2], driver, count=1)
    with pytest.raises(EvidenceError, match="106 is not a valid X509 version"):
        parse_rim(changed)


def test_external_entities_are_not_read(driver: bytes, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("545.00")
    plain = re.sub(rb"<\?xml[^>]*\?>", b"", driver)
    doctype = f'<!DOCTYPE a [<!ENTITY e SYSTEM "file://{secret}">]>'.encode()
    with pytest.raises(EvidenceError, match=r"document type|well-formed"):
        parse_rim(doctype + plain.replace(b"</ns0:Payload>", b"&e;</ns0:Payload>"))


def test_a_manifest_without_its_signers_certificates_is_named(driver: bytes) -> None:
    bare = re.sub(rb"<((?:\w+:)?X509Data)[ >].*?</\1>", b"", driver, flags=re.S)
    with pytest.raises(EvidenceError, match="found no X509Certificate"):
        parse_rim(bare)


def test_a_payload_without_canonical_form_is_named(driver: bytes) -> None:
    """Found by fuzzing: canonical XML has no relative namespaces."""
    relative = re.sub(rb"<((?:\w+:)?Payload)", rb'<\1 xmlns:a="b"', driver, count=1)
    with pytest.raises(EvidenceError, match="without a canonical form"):
        parse_rim(relative)


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
    rows = {row.index: row.result for row in rim_coverage(report, golden_rows(report, "driver", golden))}
    assert [rows[index] for index in (*live[:4], 99)] == [
        *("matched", "alternative", "mismatched", "no golden value", "no runtime block")
    ]
    assert len(rows) == 65
    assert {rows[index] for index in value if index not in live} == {"unused"}


# -- manifests signed here, by a key that any verifier may distrust ----------------------------------------------------


def re_signed(raw: bytes, *, method: str = "ECDSA_SHA384", digest: str = "SHA384", inner: bool = False) -> bytes:
    """``raw`` signed with the laboratory's key by other algorithms, or only over a copy of itself
    inside itself."""
    leaf = parse_rim(lab_rim(raw, parse_rim(raw).chain, b"s")).chain[0]
    root = etree.fromstring(raw)
    root.remove(root.find("{http://www.w3.org/2000/09/xmldsig#}Signature"))
    if inner:
        copied = copy.deepcopy(root)
        copied.set("Id", "inner")
        root.append(copied)
    signer = XMLSigner(
        method=SignatureConstructionMethod.enveloped,
        signature_algorithm=SignatureMethod[method],
        digest_algorithm=DigestAlgorithm[digest],
        c14n_algorithm=CanonicalizationMethod.CANONICAL_XML_1_1,
    )
    assert isinstance(leaf, x509.Certificate)
    signed = signer.sign(root, key=lab_key(b"srim"), cert=[leaf], reference_uri="#inner" if inner else None)
    return bytes(etree.tostring(signed))


def test_algorithms_are_pinned(driver: bytes) -> None:
    assert parse_rim(re_signed(driver)).signature_problem(VerifiedCache()) is None
    for change in ({"method": "ECDSA_SHA256"}, {"digest": "SHA256"}):
        assert parse_rim(re_signed(driver, **change)).signature_problem(VerifiedCache()) is not None


def test_a_signature_over_a_part_is_not_one_over_the_whole(driver: bytes) -> None:
    problem = parse_rim(re_signed(driver, inner=True)).signature_problem(VerifiedCache())
    assert problem == "XML signature covers ['#inner'] and not the whole manifest"


def test_each_rule_on_the_signer_chain_can_refuse(driver: bytes) -> None:
    rim, cache = parse_rim(driver), VerifiedCache()
    leaf, *rest = rim.chain

    def problem(*chain: object) -> str:
        return dataclasses.replace(rim, chain=chain).chain_problem(NVIDIA_RIM_ROOT_SHA256, cache) or ""

    assert problem(leaf, *rest) == ""
    assert "found 5 certificates" in problem(leaf, *rest, rest[-1])
    assert "is a CA, expected an end entity" in problem(rest[0], *rest)
    assert "chain ends in" in problem(leaf, rest[0], rest[1], rest[1])
    assert "is not signed by" in problem(leaf, rest[1], rest[1], rest[2])


def edited(raw: bytes, index: int, **attributes: str) -> bytes:
    """One Resource of a manifest changed, the manifest re-signed by the laboratory."""
    root = etree.fromstring(raw)
    (entry,) = [one for one in root.iter("{*}Resource") if one.get("index") == str(index)]
    for name, value in attributes.items():
        entry.set("{http://www.w3.org/2001/04/xmlenc#sha384}Hash0" if name == "hash" else name, value)
    return lab_rim(etree.tostring(root), parse_rim(raw).chain, b"s")


def measurement_claims(report: bytes, chain: bytes, *rims: bytes) -> dict[str, str]:
    bundle = load_bundle(gpu=[report], gpu_certs=[chain], rims=list(rims))
    result = appraise(bundle, Policy.default().expecting("gpu"), datetime(2025, 1, 15, tzinfo=UTC))
    return {claim.id[6:]: claim.status.value for claim in result.claims if claim.id.startswith("gpu.0.")}


def test_an_index_claimed_by_both_manifests_is_a_conflict(
    h100_report: bytes, h100_chain: bytes, matching_rims: list[bytes]
) -> None:
    value = next(block.value for block in parse_report(h100_report).measurements if block.index == 8)
    both = edited(matching_rims[1], 7, active="True", hash=value.hex())
    claims = measurement_claims(h100_report, h100_chain, matching_rims[0], both)
    assert claims["measurements.vbios"] == "asserted"
    assert claims["measurements.conflict"] == "refuted"


def test_a_measurement_nobody_vouches_for_is_shown(
    h100_report: bytes, h100_chain: bytes, matching_rims: list[bytes]
) -> None:
    less = edited(matching_rims[0], 7, active="False")
    claims = measurement_claims(h100_report, h100_chain, less, matching_rims[1])
    assert (claims["measurements.driver"], claims["measurements.covered"]) == ("asserted", "unknown")


@pytest.mark.parametrize("forged_first", [True, False])
@pytest.mark.parametrize("re_sign", [True, False])
def test_a_forged_manifest_beside_the_genuine_one_changes_nothing(
    h100_report: bytes, h100_chain: bytes, matching_rims: list[bytes], forged_first: bool, re_sign: bool
) -> None:
    driver, vbios = matching_rims
    broken = re.sub(rb'(active="True"[^>]*Hash0=")[0-9a-f]{2}', rb"\g<1>00", driver, count=1)
    forged = edited(driver, 7, hash="11" * 48) if re_sign else broken
    rims = [forged, driver, vbios] if forged_first else [driver, forged, vbios]
    bundle = load_bundle(gpu=[h100_report], gpu_certs=[h100_chain], rims=rims)
    assert appraise(bundle, Policy.default().expecting("gpu"), datetime(2025, 1, 15, tzinfo=UTC)).accepted


def test_a_manifest_for_another_chip_is_no_manifest(
    h100_report: bytes, h100_chain: bytes, matching_rims: list[bytes]
) -> None:
    other = lab_rim(
        matching_rims[0].replace(b'product="GH100"', b'product="GB100"'), parse_rim(matching_rims[0]).chain, b""
    )
    claims = measurement_claims(h100_report, h100_chain, other, matching_rims[1])
    assert claims["rim.driver.identity"] == "unknown"


def test_a_version_cannot_write_lines_of_its_own(matching_rims: list[bytes]) -> None:
    """What stands in the table's reason comes from the file: it is one short printable line."""
    for version in (b"550&#10;gpu.0.signature asserted", b"550&#13;", b"550&#x202E;", b"5" * 300):
        with pytest.raises(EvidenceError, match="printable characters"):
            parse_rim(
                matching_rims[0].replace(b'colloquialVersion="550.90.07"', b'colloquialVersion="' + version + b'"')
            )


def test_a_root_element_of_another_namespace_is_told_by_it(matching_rims: list[bytes]) -> None:
    other = matching_rims[0].replace(SWID.encode(), b"http://example.com/other", 1)
    with pytest.raises(
        EvidenceError, match=r"found root element {http://example.com/other}SoftwareIdentity, expected {"
    ):
        parse_rim(other)


def test_the_decoders_measurement_says_nothing_where_it_is_disabled(h100_report: bytes) -> None:
    """As NVIDIA's verifiers treat index 35; a mismatch anywhere else counts, and so does this one
    on a GPU whose decoder is enabled."""
    report = parse_report(h100_report)
    assert report.field("NVDEC0_STATUS") == NVDEC_DISABLED
    golden = [GoldenValue(index, True, (b"\1" * 48,), "") for index in (NVDEC0_INDEX, NVDEC0_INDEX + 1)]
    assert [row.result for row in rim_coverage(report, golden_rows(report, "driver", golden)) if row.kind] == [
        "disabled",
        "mismatched",
    ]
    fields = tuple((number, b"\xaa" if number == 11 else value) for number, value in report.opaque)
    enabled = dataclasses.replace(report, opaque=fields)
    assert [row.result for row in rim_coverage(enabled, golden_rows(enabled, "driver", golden)) if row.kind] == [
        "mismatched"
    ] * 2


def test_a_manifest_of_too_many_certificates_is_named(driver: bytes) -> None:
    found = re.search(rb"<((?:\w+:)?X509Certificate)>.*?</\1>", driver, re.S)
    assert found is not None
    with pytest.raises(EvidenceError, match="found 12 certificates, expected 4"):
        parse_rim(driver.replace(found[0], found[0] * 9))


class TestWhatAPublisherCouldSlipIn:
    """Each on a manifest that the laboratory signs, so that only the one check stands in the way."""

    def test_nothing_outside_the_document_is_read(self, tmp_path: Path) -> None:
        """No entity is expanded, no file and no document type is read, and nesting is bounded."""
        (tmp_path / "secret").write_text("550.90.07")
        (tmp_path / "types.dtd").write_text('<!ENTITY e "550.90.07">')
        for declared in (
            '<!DOCTYPE a [<!ENTITY e "550.90.07">]>',
            f'<!DOCTYPE a [<!ENTITY e SYSTEM "file://{tmp_path}/secret">]>',
            f'<!DOCTYPE a SYSTEM "file://{tmp_path}/types.dtd" []>',
        ):
            with contextlib.suppress(etree.XMLSyntaxError):
                read = etree.fromstring(f"{declared}<a>&e;</a>", parser=safe_parser())
                assert "550" not in "".join(read.itertext())
            bare = etree.fromstring(f"{declared}<a/>", parser=safe_parser())
            assert bare.getroottree().docinfo.externalDTD is None
        with pytest.raises(EvidenceError, match="no well-formed XML"):
            parse_rim(b"<a>" * 1000 + b"</a>" * 1000)

    def test_of_two_parts_neither_is_taken(self, driver: bytes) -> None:
        for name in ("Payload", "Meta"):
            root = etree.fromstring(driver)
            root.append(copy.deepcopy(root.find(f"{{{SWID}}}{name}")))
            with pytest.raises(EvidenceError, match=f"found 2 {name} elements"):
                parse_rim(etree.tostring(root))

    def test_hashes_are_as_many_as_stated_and_numbered_from_0(self, driver: bytes) -> None:
        def changed(old: str, new: str) -> bytes:
            root = etree.fromstring(driver)
            entry = next(one for one in root.iter("{*}Resource") if one.get("alternatives") == "1")
            names = {name: value for name, value in entry.items() if "Hash0" in name}
            ((name, value),) = names.items()
            if not new:
                del entry.attrib[name]
            entry.set(name.replace("Hash0", old), value)
            return bytes(etree.tostring(root))

        with pytest.raises(EvidenceError, match="found 2 hashes, expected 1 named Hash0 upwards"):
            parse_rim(changed("Hash1", "beside"))
        with pytest.raises(EvidenceError, match="found 1 hashes, expected 1 named Hash0 upwards"):
            parse_rim(changed("Hash1", ""))

    def test_only_measurements_are_golden_values(self, driver: bytes) -> None:
        root = etree.fromstring(driver)
        entry = next(root.iter("{*}Resource"))
        entry.addnext(copy.deepcopy(entry))
        entry.getnext().set("type", "Note")
        assert parse_rim(etree.tostring(root)).golden == parse_rim(driver).golden

    def test_a_version_that_only_begins_like_a_vbios_is_a_drivers(self, driver: bytes) -> None:
        for version, kind in (("96.00.9F.00.01", "vbios"), ("96.00.9F.00.01.1", "driver"), ("1.96.00.9F.00", "driver")):
            assert dataclasses.replace(parse_rim(driver), version=version).kind == kind

    def test_a_certificate_is_base64_and_nothing_else(self, driver: bytes) -> None:
        with pytest.raises(EvidenceError, match="not base64"):
            parse_rim(re.sub(rb"(<(?:\w+:)?X509Certificate>)", rb"\1!", driver, count=1))

    def test_golden_values_inside_a_signature_are_not_signed(self, driver: bytes) -> None:
        """An enveloped signature leaves itself out: one inside the payload can carry values that are in
        the file, and in no signed part. They never count."""
        ds = "{http://www.w3.org/2000/09/xmldsig#}"
        leaf = parse_rim(lab_rim(driver, parse_rim(driver).chain, b"s")).chain[0]
        root = etree.fromstring(driver)
        payload, outer = root.find(f"{{{SWID}}}Payload"), root.find(f"{ds}Signature")
        certificate = base64.b64encode(leaf.public_bytes(Encoding.DER)).decode()
        next(outer.iter(f"{ds}X509Certificate")).text = certificate
        entry = copy.deepcopy(next(payload.iter("{*}Resource")))
        entry.set("index", "200")
        payload.append(etree.Element(f"{ds}Signature", Id="placeholder"))
        signer = XMLSigner(
            method=SignatureConstructionMethod.enveloped,
            signature_algorithm=SignatureMethod.ECDSA_SHA384,
            digest_algorithm=DigestAlgorithm.SHA384,
            c14n_algorithm=CanonicalizationMethod.CANONICAL_XML_1_1,
        )
        signed = signer.sign(root, key=lab_key(b"srim"), cert=[leaf])
        inner = signed.find(f"{{{SWID}}}Payload/{ds}Signature")
        etree.SubElement(inner, f"{ds}Object").append(entry)
        forged, cache = parse_rim(etree.tostring(signed)), VerifiedCache()
        assert forged.signature_problem(cache) is None
        assert {one.index for one in forged.golden} - {one.index for one in forged.signed_golden(cache)} == {200}
        assert forged.signed_golden(cache) == parse_rim(driver).golden
