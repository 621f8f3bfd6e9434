"""The one form of a manifest's signature: signxml, which reads every form, agrees on what is genuine,
and each point in which a signature differs is refused."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable

import pytest
from lxml import etree
from signxml import (
    CanonicalizationMethod,
    DigestAlgorithm,
    SignatureConfiguration,
    SignatureConstructionMethod,
    SignatureMethod,
    XMLSigner,
    XMLVerifier,
)

from otr_core.attestation.enveloped import DSIG, enveloped_problem
from otr_core.attestation.rim import parse_rim
from otr_core.errors import EvidenceError
from otr_paper.labs.attestation.lab import lab_key, lab_rim
from tests.otr_core.attestation.test_rim import WHEEL_RIMS


@pytest.fixture(scope="module")
def driver(sample: Callable[[str], bytes]) -> bytes:
    """NVIDIA's driver manifest from the wheel."""
    return sample("Driver_RIM_test_no_gpu.swidtag")


def problem(raw: bytes) -> str:
    return enveloped_problem(raw, parse_rim(raw).chain[0].public_key()) or ""


def signxml_accepts(raw: bytes) -> bool:
    signer = parse_rim(raw).chain[0]
    config = SignatureConfiguration(
        expect_references=1,
        signature_methods=frozenset({SignatureMethod.ECDSA_SHA384}),
        digest_algorithms=frozenset({DigestAlgorithm.SHA384}),
        verification_time=signer.not_valid_before_utc,
    )
    try:
        XMLVerifier().verify(raw, x509_cert=signer, expect_config=config)
    except Exception:
        return False
    return True


@pytest.mark.parametrize("name", WHEEL_RIMS)
def test_signxml_accepts_what_is_accepted(sample: Callable[[str], bytes], name: str) -> None:
    raw = sample(f"{name}.swidtag")
    assert problem(raw) == ""
    assert signxml_accepts(raw)


@pytest.mark.parametrize(
    "name",
    [
        "NV_GPU_DRIVER_GH100_535.86.09_measurement_mismatch",
        "NV_SWITCH_BIOS_5612_0002_890_9610550001_invalid_signature",
    ],
)
def test_signxml_refuses_the_recorded_forgeries_too(outside: Callable[[str], bytes], name: str) -> None:
    raw = outside(f"nvidia-attestation-sdk/rims/{name}.xml")
    assert "manifest hashes to" in problem(raw)
    assert not signxml_accepts(raw)


def test_no_edit_is_accepted_that_signxml_refuses(driver: bytes) -> None:
    rng, accepted = random.Random(5), 0
    for _ in range(400):
        at = rng.randrange(len(driver))
        piece = rng.choice((b"<!-- c -->", b" ", b"\n", b"x", b"<?p q?>", bytes([rng.randrange(256)])))
        edited = driver[:at] + piece + driver[at + rng.randrange(2) :]
        try:
            ours = problem(edited)
        except EvidenceError:
            continue
        accepted += not ours
        assert ours or signxml_accepts(edited)
    assert accepted  # as of a comment, which canonical XML leaves out


def test_a_comment_outside_counts_for_nothing_and_one_inside_the_signature_is_refused(driver: bytes) -> None:
    assert (
        problem(driver.replace(b"<ns0:Meta", b"<!-- c --><ns0:Meta", 1).replace(b"<Meta", b"<!-- c --><Meta", 1)) == ""
    )
    commented = re.sub(rb"(<ds:DigestValue>.{8})", rb"\1<!-- c -->", driver)
    assert commented != driver
    assert problem(commented).startswith("found <cyfunction Comment")


FORM = (
    *("Signature", "SignedInfo", "CanonicalizationMethod", "SignatureMethod", "Reference", "Transforms"),
    *("Transform", "DigestMethod", "DigestValue", "SignatureValue", "KeyInfo", "X509Data"),
)


@pytest.mark.parametrize("name", FORM)
def test_each_part_of_the_form_can_refuse(driver: bytes, name: str) -> None:
    """Whoever signs can write what he likes: the attribute alone is refused, before any signature."""
    extra = re.sub(rb"<ds:" + name.encode() + rb"(?=[ />])", rb'\g<0> Id="x"', driver)
    assert extra != driver
    assert re.match(rf"found {name} {{.*'Id': 'x'.*}}, expected {name}", problem(extra))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda root, at: at("Transforms").append(at("Transform")), "found Transform"),
        (lambda root, at: at("Transforms").remove(at("Transform")), "found Transform"),
        (
            lambda root, at: at("SignedInfo").append(copy.deepcopy(at("Reference"))),
            "found Reference {'URI': ''}, expected S",
        ),
        (
            lambda root, at: at("Signature").append(etree.Element(f"{{{DSIG}}}Object")),
            "found Object {}, expected nothing",
        ),
        (lambda root, at: at("KeyInfo").insert(0, etree.Element(f"{{{DSIG}}}KeyValue")), "found KeyValue {}, expected"),
        (lambda root, at: at("X509Certificate").set("Id", "x"), "found X509Certificate {'Id': 'x'}, expected nothing"),
        (lambda root, at: at("Signature").remove(at("KeyInfo")), "found no KeyInfo"),
        (lambda root, at: root.append(etree.Element(f"{{{DSIG}}}Signature")), "found 2 signatures, expected one"),
        (lambda root, at: root[0].append(at("Signature")), "found 1 signatures, expected one, in the root"),
        (lambda root, at: root.remove(at("Signature")), "found 0 signatures, expected one"),
        (lambda root, at: setattr(at("SignatureValue"), "text", "é"), "found a value that is not base64"),
        (lambda root, at: setattr(at("SignatureValue"), "text", "AAAA"), "signature has 3 bytes, expected 96"),
        (lambda root, at: setattr(at("DigestValue"), "text", "A" * 64), "secp384r1 signature does not verify"),
        (lambda root, at: root.set("tagId", "other"), "manifest hashes to"),
    ],
)
def test_each_other_structure_is_named(driver: bytes, change: Callable[..., object], reason: str) -> None:
    key, root = parse_rim(driver).chain[0].public_key(), etree.fromstring(driver)
    change(root, lambda name: next(root.iter(f"{{{DSIG}}}{name}")))
    assert (enveloped_problem(etree.tostring(root), key) or "accepted").startswith(reason)


def test_what_a_forger_writes_stays_one_short_line(driver: bytes) -> None:
    long = driver.replace(b"<ds:Reference ", b'<ds:Reference Id="' + b"x&#10;" * 500 + b'" ')
    assert len(problem(long)) < 200
    assert problem(long).isprintable()


def test_text_behind_the_signature_is_signed_too(driver: bytes) -> None:
    key, root = lab_key(b"key"), etree.fromstring(driver)
    at = root.find(f"{{{DSIG}}}Signature")
    place = etree.SubElement(root, f"{{{DSIG}}}Signature", Id="placeholder")
    place.tail, root[0].tail = "\n  behind\n", "\n"
    root.remove(at)
    for first in (False, True):
        if first:
            root.insert(0, place)
        signer = XMLSigner(
            method=SignatureConstructionMethod.enveloped,
            signature_algorithm=SignatureMethod.ECDSA_SHA384,
            digest_algorithm=DigestAlgorithm.SHA384,
            c14n_algorithm=CanonicalizationMethod.CANONICAL_XML_1_1,
        )
        signed = etree.tostring(signer.sign(root, key=key, cert=list(parse_rim(driver).chain)))
        assert b"behind" in signed
        assert enveloped_problem(signed, key.public_key()) is None
        assert "manifest hashes to" in (enveloped_problem(signed.replace(b"behind", b"beside"), key.public_key()) or "")


def test_another_key_did_not_sign(driver: bytes) -> None:
    other = lab_rim(driver, parse_rim(driver).chain, b"s")
    assert problem(other) == ""
    assert "does not verify" in (enveloped_problem(other, parse_rim(driver).chain[0].public_key()) or "")


def test_what_has_no_canonical_form_is_refused(driver: bytes) -> None:
    """Found by fuzzing: canonical XML has no relative namespaces."""
    relative = re.sub(rb"<((?:\w+:)?Payload)", rb'<\1 xmlns:a="b"', driver, count=1)
    assert problem(relative) == "C14N failed"
