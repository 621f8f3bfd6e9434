"""SEV-SNP: all recorded reports with AMD's certificates, and a changed copy for each check."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from otr_core.attestation import Appraisal, Policy, appraise, load_bundle
from otr_core.attestation.chain import VENDOR_ROOTS, VerifiedCache
from otr_core.attestation.claims import Status
from otr_core.attestation.snp import parse_snp_certificates, parse_snp_report, tcb_problem
from otr_core.errors import EvidenceError
from otr_paper.labs.attestation.lab import lab_key
from otr_paper.labs.attestation.machines import guest_in_attestation

NOW = datetime(2025, 6, 1, tzinfo=UTC)
LATER = datetime(2026, 8, 1, tzinfo=UTC)
FLOOR = dataclasses.replace(Policy.default().expecting("snp"), snp_min_tcb=(("microcode", 60), ("snp", 5)))
AMD = "google-go-sev-guest/ask_ark"
Outside = Callable[[str], bytes]

FILES = {"quote": "", "collateral": "_collateral.json"}


def pem(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


def blocks(text: bytes) -> list[bytes]:
    return [one + b"\n" for one in re.findall(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", text, re.S)]


@pytest.fixture(scope="module")
def guests(outside: Outside) -> dict[str, dict[str, Any]]:
    """Arguments of ``load_bundle`` for each recorded guest whose certificates are recorded too."""
    recorded = guest_in_attestation(outside("dstack/sev-snp-attestation.json"))
    milan, milan_vlek = outside(f"{AMD}_milan.pem"), outside(f"{AMD}_milan_vlek.pem")
    folder = "coco-trustee/snp/test"
    return {
        "debug": {
            "quote": outside("google-go-sev-guest/attestation.bin"),
            "collateral": pem(outside("google-go-sev-guest/vcek.testcer")) + milan,
        },
        "vcek": {"quote": outside(f"{folder}-report.bin"), "collateral": pem(outside(f"{folder}-vcek.der")) + milan},
        "vlek": {
            "quote": outside(f"{folder}-vlek-report.bin"),
            "collateral": pem(outside(f"{folder}-vlek.der")) + milan_vlek,
        },
        "dstack": {
            "quote": recorded["quote"],
            "collateral": recorded["certificates"] + blocks(milan)[1],
            "config": recorded["config"],
        },
    }


def judged(files: dict[str, Any], policy: Policy = FLOOR, as_of: datetime = NOW, **given: Any) -> Appraisal:
    return appraise(load_bundle(**files), policy, as_of, **given)


def against(result: Appraisal) -> set[str]:
    return {claim.id for claim in result.because}


@pytest.mark.parametrize(
    ("name", "signer", "tcb"),
    [
        ("vcek", "VCEK", {"bootloader": 3, "tee": 0, "snp": 8, "microcode": 115}),
        ("vlek", "VLEK", {"bootloader": 4, "tee": 0, "snp": 24, "microcode": 217}),
        ("dstack", "VCEK", {"bootloader": 4, "tee": 0, "snp": 23, "microcode": 213}),
    ],
)
def test_recorded_reports_are_accepted(guests: dict[str, Any], name: str, signer: str, tcb: dict[str, int]) -> None:
    result = judged(guests[name], as_of=LATER if name == "dstack" else NOW)
    assert result.accepted, result.summary()
    assert result.cpu is not None
    assert (result.cpu["signer"], result.cpu["family"], result.cpu["tcb"]["reported"]) == (signer, "Milan", tcb)
    assert (result.cpu["ppid"] == "") == (signer == "VLEK")  # a cloud's key names no chip


def test_the_recorded_debug_guest_is_refused_for_that_alone(guests: dict[str, Any]) -> None:
    assert against(judged(guests["debug"])) == {"cpu.debug"}


def test_recorded_reports_without_certificates_stay_unknown(outside: Outside) -> None:
    for name in ("amd_cpu_quote.txt", "amd_cpu_docker_check_quote.txt"):
        result = judged({"quote": outside(f"secretvm-verify/{name}")})
        assert result.claim("cpu.quote").status is Status.UNKNOWN
        assert result.claim("cpu.debug").source.value == "operator"
        assert (result.cpu or {})["family"] == "Genoa"


def test_openssl_agrees_on_the_chains(guests: dict[str, Any], outside: Outside, tmp_path: Path) -> None:
    """A second reading of every recorded chain, and of those of the families without a report."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    chains = {name: blocks(files["collateral"]) for name, files in guests.items()}
    for family in ("genoa", "genoa_vlek", "turin_vcek", "turin_vlek"):
        chains[family] = blocks(outside(f"{AMD}_{family}.pem"))
    for name, certificates in chains.items():
        ark = next(one for one in certificates if self_signed(one))
        rest = sorted((one for one in certificates if one != ark), key=lambda one: not end_entity(one))
        leaf, middle = rest[0], rest[1:]
        for file, data in (("ark", ark), ("ask", b"".join(middle)), ("leaf", leaf)):
            (tmp_path / file).write_bytes(data)
        extra = ["-untrusted", str(tmp_path / "ask")] if middle else []
        command = ["openssl", "verify", "-no_check_time", "-CAfile", str(tmp_path / "ark"), *extra]
        done = subprocess.run([*command, str(tmp_path / "leaf")], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (name, done.stderr)


def der(block: bytes) -> bytes:
    return base64.b64decode(b"".join(block.splitlines()[1:-1]))


def end_entity(block: bytes) -> bool:
    return re.search(rb"SEV-V[CL]EK(?!-)", der(block)) is not None


def self_signed(block: bytes) -> bool:
    names = re.findall(rb"ARK-(?:Milan|Genoa|Turin)", der(block))
    return len(names) == 2


@pytest.mark.parametrize("family", ["Milan", "Genoa", "Turin"])
def test_the_roots_are_those_that_amd_gives_out(outside: Outside, family: str) -> None:
    name = {"Turin": "turin_vcek"}.get(family, family.lower())
    found = hashlib.sha256(der(blocks(outside(f"{AMD}_{name}.pem"))[1])).hexdigest()
    assert dict(VENDOR_ROOTS.amd)[family] == found


# -- a changed copy for each check -------------------------------------------------------------------------------------


def changed(raw: bytes, at: int, value: bytes) -> bytes:
    return raw[:at] + value + raw[at + len(value) :]


def twins(guests: dict[str, Any], outside: Outside) -> list[tuple[str, dict[str, Any], str, str]]:
    """Name, files, the claim that must be refuted, and a word of its reason."""
    good = guests["vcek"]
    report, certificates = good["quote"], blocks(good["collateral"])
    vcek, ask, ark = certificates
    other = blocks(outside(f"{AMD}_genoa.pem"))
    signature = 0x2A0
    invalid = outside("coco-trustee/snp/test-vcek-invalid-new.der")
    bad_link = bytearray(der(vcek))
    bad_link[-1] ^= 1
    return [
        ("measurement", {**good, "quote": changed(report, 0x90, b"\0\1")}, "cpu.quote", "does not verify"),
        ("report data", {**good, "quote": changed(report, 0x50, b"\0\1")}, "cpu.quote", "does not verify"),
        (
            "debug taken off",
            {**guests["debug"], "quote": changed(guests["debug"]["quote"], 10, b"\3")},
            "cpu.quote",
            "",
        ),
        ("signature", {**good, "quote": changed(report, signature, b"\0\1")}, "cpu.quote", "does not verify"),
        ("long signature", {**good, "quote": changed(report, signature + 60, b"\1")}, "cpu.quote", "longer"),
        ("chip", {**good, "collateral": pem(invalid) + ask + ark}, "cpu.quote", "of chip"),
        ("said VLEK", {**good, "quote": changed(report, 0x48, b"\4")}, "cpu.quote", "VLEK signed it"),
        ("said no key", {**good, "quote": changed(report, 0x48, b"\x1c")}, "cpu.quote", "no key signed it"),
        ("VLEK report", {**good, "quote": guests["vlek"]["quote"]}, "cpu.quote", "VLEK signed it"),
        ("no root", {**good, "collateral": vcek + ask}, "cpu.quote", "found 1 certificates"),
        ("no issuer", {**good, "collateral": vcek + ark}, "cpu.quote", "found 0 certificates"),
        ("another family's", {**good, "collateral": vcek + b"".join(other)}, "cpu.quote", "found 0 certificates"),
        ("key not signed", {**good, "collateral": pem(bytes(bad_link)) + ask + ark}, "cpu.quote", "not signed by"),
        ("a root of its own", {**good, "collateral": vcek + ask + pem(own_root(der(ark)))}, "cpu.quote", "expected"),
    ]


def own_root(ark: bytes) -> bytes:
    copy = bytearray(ark)
    copy[-1] ^= 1
    return bytes(copy)


def test_each_changed_copy_is_refused_by_its_check(guests: dict[str, Any], outside: Outside) -> None:
    for name, files, claim, word in twins(guests, outside):
        result = judged(files)
        assert result.claim(claim).status is Status.REFUTED, name
        assert word in result.claim(claim).reason, (name, result.claim(claim).reason)
        assert not result.accepted


@pytest.mark.parametrize("day", [datetime(2022, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC)])
def test_outside_its_validity_a_key_vouches_for_nothing(guests: dict[str, Any], day: datetime) -> None:
    result = judged(guests["vcek"], as_of=day)
    assert "VCEK is valid from 2023-01-24" in result.claim("cpu.quote").reason
    assert not result.accepted


def test_another_familys_root_is_refused(guests: dict[str, Any]) -> None:
    roots = dataclasses.replace(VENDOR_ROOTS, amd=(("Milan", dict(VENDOR_ROOTS.amd)["Genoa"]),))
    result = judged(guests["vcek"], dataclasses.replace(FLOOR, allow_simulated=True), roots=roots)
    assert "chain ends in ARK-Milan" in result.claim("cpu.quote").reason


def test_the_tcb_floor(guests: dict[str, Any]) -> None:
    low = dataclasses.replace(FLOOR, snp_min_tcb=(("microcode", 116), ("snp", 9)))
    assert judged(guests["vcek"], low).claim("cpu.tcb").reason == (
        "TCB is below the policy's: microcode 115 < 116, snp 8 < 9"
    )
    fmc = dataclasses.replace(FLOOR, snp_min_tcb=(("fmc", 0),))  # Milan has none
    assert against(judged(guests["vcek"], fmc)) == {"cpu.tcb"}
    none = judged(guests["vcek"], dataclasses.replace(FLOOR, snp_min_tcb=()))
    assert none.claim("cpu.tcb").status is Status.UNKNOWN
    assert against(none) == {"cpu.tcb"}


def test_a_tcb_that_the_key_is_not_for_is_refused(guests: dict[str, Any]) -> None:
    """Nobody can make such a report without the chip, so the check is asked directly."""
    held = parse_snp_certificates(guests["vcek"]["collateral"])
    raw = guests["vcek"]["quote"]
    assert tcb_problem(parse_snp_report(raw), held) is None
    newer = parse_snp_report(changed(raw, 0x187, b"\x80"))
    assert "the certificate is for bootloader 3 microcode 115" in (tcb_problem(newer, held) or "")
    for at, names in ((0x1E7, "reported, committed"), (0x3F, "committed, current")):
        ahead = parse_snp_report(changed(raw, at, b"\x01"))
        assert names in (tcb_problem(ahead, held) or "")


def test_default_wants_what_amd_does_not_say(guests: dict[str, Any]) -> None:
    result = judged(guests["vcek"], dataclasses.replace(Policy.default().expecting("cpu"), snp_min_tcb=(("snp", 5),)))
    assert [(claim.id, claim.status) for claim in result.because] == [("cpu.advisories", Status.NOT_MADE)]


def test_kinds_do_not_stand_in_for_each_other(guests: dict[str, Any], outside: Outside) -> None:
    sgx = {
        "quote": outside("phala-dcap-qvl/sgx_quote"),
        "collateral": outside("phala-dcap-qvl/sgx_quote_collateral.json"),
    }
    when = datetime(2025, 6, 20, tzinfo=UTC)
    for files in (sgx, guests["vcek"]):
        result = judged(files, Policy.default().expecting("tdx"), when)
        assert result.claim("evidence.present").reason == "no tdx in the bundle"
        assert not result.accepted
    registers = Policy(name="registers", require=("cpu.quote", "cpu.rtmr3"))
    found = judged(sgx, registers, when).claim("cpu.rtmr3")
    assert (found.status, found.reason) == (Status.NOT_MADE, "SGX evidence has nothing to make this check on")
    assert found in judged(sgx, registers, when).because


def test_collateral_that_was_read_for_one_kind_is_not_remembered_for_another(
    guests: dict[str, Any], outside: Outside
) -> None:
    intel = {name: outside(f"phala-dcap-qvl/sgx_quote{end}") for name, end in FILES.items()}
    amd = {name: guests["vcek"][name] for name in FILES}
    for first, second in ((intel, amd), (amd, intel)):
        cache = VerifiedCache()
        load_bundle(**first, cache=cache)
        with pytest.raises(EvidenceError, match="collateral: found"):
            load_bundle(quote=second["quote"], collateral=first["collateral"], cache=cache)


def test_migration_and_measurements(guests: dict[str, Any]) -> None:
    report = parse_snp_report(guests["vcek"]["quote"])
    assert not report.migratable
    assert parse_snp_report(changed(report.raw, 10, b"\7")).migratable
    value = report.registers["measurement"].hex()
    pinned = dataclasses.replace(FLOOR, measurements=(("measurement", value), ("vmpl", "00000000")))
    assert judged(guests["vcek"], pinned).accepted
    assert against(judged(guests["vcek"], dataclasses.replace(FLOOR, measurements=(("vmpl", "01000000"),)))) == {
        "cpu.measurements"
    }


def test_a_configuration_document_binds_the_compose_file(guests: dict[str, Any]) -> None:
    files = guests["dstack"]
    stated = "86e59625be93207bc2351c4d1bba20037cec8e168da6b18f559af5af657b7a23"
    pinned = dataclasses.replace(FLOOR, measurements=(("compose_hash", stated),))
    assert judged(files, pinned, LATER).accepted
    other = {**files, "config": files["config"].replace(b'"kms"', b'"tpm"')}
    assert against(judged(other, pinned, LATER)) == {"cpu.measurements"}
    compose = judged({**files, "compose": b"{}"}, FLOOR, LATER).claim("cpu.compose")
    assert compose.status is Status.REFUTED
    assert stated in compose.reason


@pytest.mark.parametrize(
    "data", [b"", b"\x30", b"\x30\x82\xff\xff", b"hello", pem(b"123"), b"\x30\x80" * 400, b"x" * 70_000]
)
def test_what_are_no_certificates_is_named(guests: dict[str, Any], data: bytes) -> None:
    with pytest.raises(EvidenceError, match="AMD certificates: found"):
        load_bundle(quote=guests["vcek"]["quote"], collateral=data)


def test_a_key_without_extensions_is_named(outside: Outside) -> None:
    """Found by fuzzing."""
    der = outside("google-go-sev-guest/vcek.testcer")
    assert parse_snp_certificates(der).leaf.signer == "VCEK"
    with pytest.raises(EvidenceError, match="AMD certificates: found what cannot be read"):
        parse_snp_certificates(der.replace(b"\xa3\x82\x01\x16", b"\xa4\x82\x01\x16"))


def test_der_certificates_in_any_order_are_the_same(guests: dict[str, Any]) -> None:
    vcek, ask, ark = (der(one) for one in blocks(guests["vcek"]["collateral"]))
    for data in (vcek + ask + ark, ark + vcek + ask):
        assert judged({**guests["vcek"], "collateral": data}).accepted
    with pytest.raises(EvidenceError, match="found 2 of a VCEK"):
        parse_snp_certificates(vcek + vcek)


def test_no_flip_of_a_sampled_report_is_accepted(guests: dict[str, Any]) -> None:
    """Every 29th bit; those behind the signature are not covered by it, and change nothing."""
    raw, held = guests["vcek"]["quote"], guests["vcek"]["collateral"]
    for bit in range(0, 8 * len(raw), 29):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            result = judged({"quote": bytes(flipped), "collateral": held})
        except EvidenceError:
            continue
        assert result.accepted == (bit // 8 >= 0x2A0 + 144), bit


def test_thousands_of_mutations_end_in_a_verdict_or_an_error(guests: dict[str, Any]) -> None:
    rng = random.Random(7)
    files = guests["vcek"]
    for _ in range(2000):
        slot = rng.choice(("quote", "collateral"))
        data = bytearray(files[slot] if slot == "quote" else b"".join(der(one) for one in blocks(files[slot])))
        for _ in range(rng.choice((1, 1, 2, 8))):
            at, size = rng.randrange(len(data)), rng.choice((1, 2, 16))
            data[at : at + size] = rng.randbytes(rng.choice((0, size)))
        try:
            result = judged({**files, slot: bytes(data)})
        except EvidenceError:
            continue
        assert not result.accepted or slot == "collateral" or bytes(data)[:0x2A0] == files["quote"][:0x2A0]


# -- a chip of our own: whoever holds the keys signs everything anew ---------------------------------------------------


class OwnChip:
    """A key, its certificate and AMD's stand-ins, so that twins fail at their own check alone."""

    def __init__(self) -> None:
        self.ark, self.ask = (rsa.generate_private_key(65537, 2048) for _ in range(2))
        self.key = lab_key(b"own chip")
        pss = padding.PSS(padding.MGF1(hashes.SHA384()), salt_length=48)
        self.root = self._certificate("ARK-Milan", "ARK-Milan", self.ark.public_key(), self.ark, pss, ca=True)
        self.issuer = self._certificate("SEV-Milan", "ARK-Milan", self.ask.public_key(), self.ark, pss, ca=True)
        self._pss = pss

    def _certificate(
        self,
        name: str,
        issuer: str,
        key: Any,
        signer: Any,
        pss: Any,
        *,
        ca: bool = False,
        tcb: Any = None,
        until: int = 2040,
    ) -> x509.Certificate:
        names = (x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, one)]) for one in (issuer, name))
        builder = x509.CertificateBuilder(
            *names, key, 7, datetime(2020, 1, 1, tzinfo=UTC), datetime(until, 1, 1, tzinfo=UTC)
        )
        if ca:
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        for arc, value in (tcb or {}).items():
            oid = x509.ObjectIdentifier(f"1.3.6.1.4.1.3704.1.{arc}")
            builder = builder.add_extension(x509.UnrecognizedExtension(oid, value), critical=False)
        return builder.sign(signer, hashes.SHA384(), rsa_padding=pss)

    def certify_issuer(self, key: Any = None, signer: Any = None, **more: Any) -> None:
        """Another certificate of the ASK: of another key, by another signer, without the CA flag, or old."""
        key, signer = key or self.ask.public_key(), signer or self.ark
        self.issuer = self._certificate("SEV-Milan", "ARK-Milan", key, signer, self._pss, **({"ca": True} | more))

    def shown(self, *, certified: int = 8, changes: dict[int, bytes] | None = None, key: Any = None) -> dict[str, Any]:
        """Arguments of ``load_bundle``. ``certified``: the SNP component in the key's certificate;
        ``changes``: bytes of the report by their place, before it is signed; ``key``: certified in place
        of the one that signs."""
        chip = b"\x11" * 64
        fields = {"2": b"\x16\x08Milan-B0", "3.1": b"\2\1\3", "3.2": b"\2\1\0", "3.8": b"\2\1\x73", "4": chip}
        fields["3.3"] = b"\2\1" + bytes([certified])
        public = key or self.key.public_key()
        vcek = self._certificate("SEV-VCEK", "SEV-Milan", public, self.ask, self._pss, tcb=fields)
        raw = bytearray(1184)
        raw[0], raw[0x34], raw[10] = 2, 1, 3
        raw[0x1A0:0x1E0] = chip
        for at in (0x38, 0x180, 0x1E0, 0x1F0):
            raw[at : at + 8] = bytes([3, 0, 0, 0, 0, 0, 8, 0x73])
        for at, value in (changes or {}).items():
            raw[at : at + len(value)] = value
        signed = self.key.sign(bytes(raw[:0x2A0]), ec.ECDSA(hashes.SHA384()))
        for at, number in zip((0x2A0, 0x2A0 + 72), decode_dss_signature(signed), strict=True):
            raw[at : at + 48] = number.to_bytes(48, "little")
        chain = b"".join(one.public_bytes(Encoding.DER) for one in (vcek, self.issuer, self.root))
        return {"quote": bytes(raw), "collateral": chain}

    def judged(self, policy: Policy = FLOOR, **shown: Any) -> Appraisal:
        roots = dataclasses.replace(VENDOR_ROOTS, amd=(("Milan", self.root.fingerprint(hashes.SHA256()).hex()),))
        return judged(self.shown(**shown), dataclasses.replace(policy, allow_simulated=True), roots=roots)


@pytest.fixture(scope="module")
def own_chip() -> OwnChip:
    return OwnChip()


def test_an_own_chip_is_accepted_under_its_own_root_alone(own_chip: OwnChip) -> None:
    assert own_chip.judged().accepted
    assert against(judged(own_chip.shown())) == {"cpu.quote", "cpu.tcb"}


@pytest.mark.parametrize(
    ("shown", "claim", "word"),
    [
        ({"certified": 9}, "cpu.tcb", "the certificate is for"),
        ({"changes": {0x1E6: b"\7"}}, "cpu.tcb", "reported, committed"),
        ({"changes": {0x3F: b"\x72"}}, "cpu.tcb", "committed, current"),
        ({"changes": {10: b"\x0b"}}, "cpu.debug", "debuggable"),
        ({"changes": {10: b"\7"}}, "cpu.migration", "may be migrated"),
        ({"changes": {0: b"\3", 0x188: b"\x19\x11"}}, "cpu.quote", "report is of a Genoa processor"),
        ({"changes": {0x1A0: b"\x12"}}, "cpu.quote", "of chip 12"),
    ],
)
def test_what_an_own_chip_signs_is_refused_by_its_check(
    own_chip: OwnChip, shown: dict[str, Any], claim: str, word: str
) -> None:
    result = own_chip.judged(**shown)
    assert word in result.claim(claim).reason
    assert against(result) - {"cpu.tcb"} == {claim} - {"cpu.tcb"}
    assert claim in against(result)


@pytest.mark.parametrize(
    ("forge", "word"),
    [
        (lambda chip: chip.certify_issuer(signer=chip.ask), "SEV-Milan is not signed by ARK-Milan"),
        (lambda chip: chip.certify_issuer(until=2021), "SEV-Milan expired at 2021"),
        (lambda chip: chip.certify_issuer(ca=False), "SEV-Milan is no CA"),
        (lambda chip: chip.certify_issuer(key=chip.key.public_key()), "has no RSA key"),
        (lambda chip: chip.certify_issuer(key=chip.ark.public_key()), "VCEK is not signed by SEV-Milan"),
    ],
)
def test_an_issuer_between_chip_and_root_is_checked(forge: Callable[[OwnChip], None], word: str) -> None:
    chip = OwnChip()
    forge(chip)
    assert word in chip.judged().claim("cpu.quote").reason


@pytest.mark.parametrize(("at", "value"), [(0, b"\1"), (0, b"\6"), (0x34, b"\2")])
def test_a_report_of_another_layout_or_algorithm_is_not_read_as_this_one(
    own_chip: OwnChip, at: int, value: bytes
) -> None:
    """All but the one number is right and signed."""
    assert parse_snp_report(own_chip.shown()["quote"]).version == 2
    with pytest.raises(EvidenceError, match="SNP report: found 1184 bytes"):
        parse_snp_report(own_chip.shown(changes={at: value})["quote"])


def test_certificates_that_are_cut_padded_or_of_another_key_are_named(own_chip: OwnChip) -> None:
    shown = own_chip.shown()
    turned = shown["collateral"]
    vcek = turned[: 4 + int.from_bytes(turned[2:4], "big")]
    last = turned[len(vcek) :] + vcek
    assert parse_snp_certificates(last).leaf.signer == "VCEK"
    with pytest.raises(EvidenceError, match="breaks off"):
        parse_snp_certificates(last[:-1])
    with pytest.raises(EvidenceError, match="bytes, expected at most"):
        parse_snp_certificates(pem(vcek) + b"\n" * 65_536)
    with pytest.raises(EvidenceError, match="not on an elliptic curve"):
        parse_snp_certificates(own_chip.shown(key=own_chip.ask.public_key())["collateral"])
    for raw in (shown["quote"][:-1], b"\x07" + shown["quote"][1:]):
        with pytest.raises(EvidenceError, match="of version 2 to 5"):
            parse_snp_report(raw)
