"""Certificate chains (each rule with a chain that breaks it) and ECDSA in raw form against
Wycheproof."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509 import verification

from otr_core.attestation import chain as chains
from otr_core.attestation.chain import Chain, VerifiedCache
from otr_core.errors import EvidenceError, InputError
from otr_paper.labs.attestation.lab import lab_device, lab_key

NOW = datetime(2025, 1, 1, tzinfo=UTC)


def build(
    position: int,
    *,
    ca: bool | None = None,
    path_length: int | None = None,
    sign_data: bool | None = None,
    sign_certificates: bool | None = None,
    critical: str | None = None,
    basic: bool = True,
    usage: bool = True,
) -> x509.Certificate:
    """Certificate ``position`` of a chain of three (0 leaf, 2 root), with one property changed."""
    names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) for name in ("leaf", "middle", "root")]
    keys = [lab_key(bytes([number])) for number in range(3)]
    issuer = min(position + 1, 2)
    is_ca = position > 0 if ca is None else ca
    no = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False)
    builder = x509.CertificateBuilder(
        names[issuer], names[position], keys[position].public_key(), 7, NOW, NOW + timedelta(days=10 + position)
    )
    if basic:
        builder = builder.add_extension(x509.BasicConstraints(is_ca, path_length), critical=True)
    if usage:
        flags = x509.KeyUsage(
            digital_signature=position == 0 if sign_data is None else sign_data,
            key_cert_sign=position > 0 if sign_certificates is None else sign_certificates,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
            **no,
        )
        builder = builder.add_extension(flags, critical=True)
    if critical:
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier(critical), b"\x05\x00")
        builder = builder.add_extension(unknown, critical=True)
    return builder.sign(keys[issuer], hashes.SHA384())


def chain(**changes: dict[str, Any]) -> Chain:
    return tuple(build(number, **changes.get(f"c{number}", {})) for number in range(3))


def test_a_sound_chain_has_no_problem() -> None:
    sound = chain()
    assert chains.length_problem(sound, 3) is None
    assert chains.link_problem(sound, VerifiedCache()) is None
    assert chains.validity_problem(sound, NOW) is None
    assert chains.usage_problem(sound) is None
    assert chains.root_problem(sound, chains.fingerprint(sound[2])) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"c0": {"ca": True}}, "leaf is a CA"),
        ({"c0": {"sign_data": False}}, "leaf may not sign data"),
        ({"c0": {"usage": False}}, "leaf may not sign data"),
        ({"c1": {"ca": False}}, "middle is no CA"),
        ({"c1": {"basic": False}}, "middle is no CA"),
        ({"c1": {"sign_certificates": False}}, "middle may not sign certificates"),
        ({"c2": {"usage": False}}, "root may not sign certificates"),
        ({"c2": {"path_length": 0}}, "root allows 0 intermediate certificates below it, found 1"),
        ({"c1": {"critical": "1.2.3.4"}}, "unknown critical extension 1.2.3.4"),
    ],
)
def test_each_usage_rule_can_refuse(changes: dict[str, Any], reason: str) -> None:
    assert reason in (chains.usage_problem(chain(**changes)) or "")


def test_path_lengths_that_suffice_pass() -> None:
    assert chains.usage_problem(chain(c1={"path_length": 0}, c2={"path_length": 1})) is None


def test_validity_names_the_certificate_and_both_ends_are_inside() -> None:
    sound = chain()
    assert chains.validity_problem(sound, NOW + timedelta(days=10)) is None
    assert "leaf expired" in (chains.validity_problem(sound, NOW + timedelta(days=10, seconds=1)) or "")
    assert "is valid from" in (chains.validity_problem(sound, NOW - timedelta(seconds=1)) or "")


def test_links_need_name_and_signature() -> None:
    leaf, middle, root = chain()
    assert "certificate 0 (leaf)" in (chains.link_problem((leaf, root), VerifiedCache()) or "")
    other = lab_device(chain(), b"other").chain  # same names, other keys
    assert "certificate 1 (middle)" in (chains.link_problem((leaf, middle, other[2]), VerifiedCache()) or "")


def test_a_root_is_pinned_by_its_fingerprint() -> None:
    other = lab_device(chain(), b"other").chain
    assert "expected" in (chains.root_problem(other, chains.fingerprint(chain()[2])) or "")


def test_pinned_roots_are_the_ones_nvidia_ships(wheel_file: Callable[[str, str], Path]) -> None:
    for name, pinned in (
        ("verifier_device_root.pem", chains.NVIDIA_DEVICE_ROOT_SHA256),
        ("verifier_RIM_root.pem", chains.NVIDIA_RIM_ROOT_SHA256),
    ):
        (root,) = chains.parse_chain(wheel_file("nv-local-gpu-verifier", f"verifier/certs/{name}").read_bytes())
        assert chains.fingerprint(root) == pinned


def test_the_library_agrees_on_the_real_device_chain(h100_chain: bytes) -> None:
    real = chains.parse_chain(h100_chain)
    assert chains.link_problem(real, VerifiedCache()) is None
    permissive = verification.ExtensionPolicy.permit_all()
    issuers = permissive.require_present(x509.BasicConstraints, verification.Criticality.CRITICAL, None)
    verifier = (
        verification.PolicyBuilder()
        .store(verification.Store([real[-1]]))
        .time(NOW)
        .max_chain_depth(8)
        .extension_policies(ca_policy=issuers, ee_policy=permissive)
        .build_client_verifier()
    )
    assert verifier.verify(real[0], list(real[1:-1])).chain == list(real)


@pytest.mark.parametrize("raw", [b"", b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----", b"x" * 100_000])
def test_unreadable_chains_are_named(raw: bytes) -> None:
    with pytest.raises(EvidenceError):
        chains.parse_chain(raw)


@pytest.mark.filterwarnings("ignore")  # the test makes them
@pytest.mark.parametrize("name", ["google-go-sev-guest/vcek.testcer", "country"])
def test_breaches_of_the_standard_are_refused(outside: Callable[[str], bytes], name: str) -> None:
    """A certificate with serial number zero (a real AMD one), or with a country of more than two
    letters."""
    if name == "country":
        names = x509.Name([x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "USA", _validate=False)])
        builder = x509.CertificateBuilder(names, names, lab_key(b"k").public_key(), 1, NOW, NOW)
        certificate = builder.sign(lab_key(b"k"), hashes.SHA384())
    else:
        certificate = x509.load_der_x509_certificate(outside(name))
    with pytest.raises(EvidenceError, match="cannot be read"):
        chains.readable(lambda: [certificate], what="chain")


def test_the_cache_is_bounded_and_asks_once() -> None:
    cache, asked = VerifiedCache(max_entries=2), []

    def ask(key: int) -> int:
        return cache.once(key, lambda: asked.append(key) or key)

    assert [ask(1), ask(2), ask(1), ask(3), ask(1), ask(2)] == [1, 2, 1, 3, 1, 2]
    assert asked == [1, 2, 3, 2]
    with pytest.raises(InputError):
        VerifiedCache(max_entries=0)


# -- Wycheproof ------------------------------------------------------------------------------------------------------


def raw_from_der(signature: bytes, size: int) -> bytes | None:
    """r‖s of a strictly DER-encoded signature, None if it is not one: what a DER format's reader
    does first."""
    try:
        r, s = decode_dss_signature(signature)
        if encode_dss_signature(r, s) != signature:
            return None
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
    except (ValueError, OverflowError):
        return None


@pytest.mark.parametrize(
    ("name", "curve", "algorithm", "is_der"),
    [
        ("ecdsa_secp384r1_sha384_p1363", ec.SECP384R1, hashes.SHA384, False),
        ("ecdsa_secp256r1_sha256_p1363", ec.SECP256R1, hashes.SHA256, False),
        ("ecdsa_secp384r1_sha384", ec.SECP384R1, hashes.SHA384, True),
        ("ecdsa_secp256r1_sha256", ec.SECP256R1, hashes.SHA256, True),
        ("ecdsa_secp256k1_sha256", ec.SECP256K1, hashes.SHA256, True),
    ],
)
def test_wycheproof_verdicts(
    outside_file: Callable[[str], Path], name: str, curve: Any, algorithm: Any, is_der: bool
) -> None:
    document = json.loads(outside_file(f"vectors/wycheproof/{name}_test.json").read_text())
    wrong, count = [], 0
    for group in document["testGroups"]:
        key = load_der_public_key(bytes.fromhex(group["publicKeyDer"]))
        size = curve().key_size // 8
        for case in group["tests"]:
            signature, message = bytes.fromhex(case["sig"]), bytes.fromhex(case["msg"])
            raw = raw_from_der(signature, size) if is_der else signature
            found = raw is not None and chains.signature_problem(key, raw, message, algorithm(), curve) is None
            count += 1
            if found != (case["result"] == "valid"):
                wrong.append((case["tcId"], case["comment"], case["result"]))
    assert count == document["numberOfTests"]
    assert wrong == []


def test_a_signature_needs_the_right_curve_length_and_data() -> None:
    key = lab_key(b"k")
    r, s = decode_dss_signature(key.sign(b"data", ec.ECDSA(hashes.SHA384())))
    raw = r.to_bytes(48, "big") + s.to_bytes(48, "big")

    def problem(key: object, signature: bytes, data: bytes, curve: Any = ec.SECP384R1) -> str:
        return chains.signature_problem(key, signature, data, hashes.SHA384(), curve) or ""

    assert problem(key.public_key(), raw, b"data") == ""
    assert "does not verify" in problem(key.public_key(), raw, b"Data")
    assert "96 bytes, expected" not in problem(key.public_key(), raw, b"data")
    assert "95 bytes, expected 96" in problem(key.public_key(), raw[1:], b"data")
    assert "not on secp256r1" in problem(key.public_key(), raw, b"data", ec.SECP256R1)
    assert "not on secp384r1" in problem(None, raw, b"data")
    assert "does not verify" in problem(key.public_key(), bytes(96), b"data")


def test_fingerprints_are_sha256_of_der(h100_chain: bytes) -> None:
    (leaf, *_rest) = chains.parse_chain(h100_chain)
    assert chains.fingerprint(leaf) == hashlib.sha256(chains.der([leaf])).hexdigest()


def test_chains_are_bounded_and_pem(h100_chain: bytes) -> None:
    with pytest.raises(EvidenceError, match="bytes, expected at most"):
        chains.parse_chain(h100_chain + b"\n" * chains.MAX_CHAIN_BYTES)
    with pytest.raises(EvidenceError, match="found no PEM certificate"):
        chains.parse_chain(b"-----BEGIN RSA PUBLIC KEY-----")


def test_one_appraisals_own_cache_computes_nothing_twice_however_small_the_shared_one_is() -> None:
    computed = list[int]()

    def ask(cache: VerifiedCache, number: int) -> int:
        return cache.once(number, lambda: computed.append(number) or number)

    shared = VerifiedCache(max_entries=1)
    own = chains.OwnCache(shared)
    assert [ask(own, number) for number in (1, 2, 1, 2)] == [1, 2, 1, 2]
    assert computed == [1, 2]
    assert ask(chains.OwnCache(shared), 2) == 2  # the shared one remembers what it holds
    assert computed == [1, 2]
