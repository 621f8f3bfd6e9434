"""Stapled OCSP: the real responses, and one rejecting twin per rule with a CA of our own."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from otr_core.attestation import Bundle, Policy, appraise, load_bundle
from otr_core.attestation.chain import VerifiedCache, parse_chain
from otr_core.attestation.claims import Status
from otr_core.attestation.ocsp import MAX_RESPONSE_BYTES, parse_ocsp, response_problem, revocation
from otr_core.errors import EvidenceError
from otr_paper.labs.attestation.lab import lab_device, lab_key, lab_ocsp

DAY = 86_400
OCSP = "gpu.0.revocation", "gpu.0.rim.driver.revocation", "gpu.0.rim.vbios.revocation"


def everything(files: dict[str, Any], responses: dict[str, bytes]) -> Bundle:
    return load_bundle(**files, ocsp=list(responses.values()))


def test_all_seven_real_responses_say_good(h100_files: dict[str, Any], h100_ocsp: dict[str, bytes]) -> None:
    when = datetime(2025, 10, 24, 12, tzinfo=UTC)
    policy = dataclasses.replace(Policy.default().expecting("gpu"), ocsp_max_staleness_s=65 * DAY)
    result = appraise(everything(h100_files, h100_ocsp), policy, when)
    assert result.accepted
    assert [result.claim(name).status for name in OCSP] == [Status.ASSERTED] * 3
    assert [result.claim(name).reason for name in OCSP] == ["3 stapled responses say good"] * 3


def test_no_moment_has_all_seven_fresh_by_one_day(h100_files: dict[str, Any], h100_ocsp: dict[str, bytes]) -> None:
    policy = dataclasses.replace(Policy.default().expecting("gpu"), ocsp_max_staleness_s=DAY)
    bundle = everything(h100_files, h100_ocsp)
    summer = appraise(bundle, policy, datetime(2025, 8, 21, 12, tzinfo=UTC))
    autumn = appraise(bundle, policy, datetime(2025, 10, 24, 12, tzinfo=UTC))
    assert [summer.claim(name).status.value for name in OCSP] == ["asserted", "refuted", "refuted"]
    assert "from the future" in summer.claim(OCSP[1]).reason
    assert [autumn.claim(name).status.value for name in OCSP] == ["refuted", "asserted", "asserted"]
    assert "stale" in autumn.claim(OCSP[0]).reason


@pytest.mark.parametrize("missing", ["gpu_l3", "driver_l4", "rim_l2"])
def test_a_missing_response_leaves_revocation_unknown(
    h100_files: dict[str, Any], h100_ocsp: dict[str, bytes], missing: str
) -> None:
    rest = {name: data for name, data in h100_ocsp.items() if name != missing}
    required = (*Policy.default().expecting("gpu").require, *(name.replace(".0.", ".") for name in OCSP))
    policy = dataclasses.replace(Policy.default().expecting("gpu"), require=required)
    result = appraise(everything(h100_files, rest), policy, datetime(2025, 10, 24, 12, tzinfo=UTC))
    assert not result.accepted
    assert {claim.status for claim in result.because} == {Status.UNKNOWN}


def test_der_and_base64_are_the_same_response(h100_ocsp: dict[str, bytes]) -> None:
    text = h100_ocsp["gpu_l3"]
    (first,), (second,) = parse_ocsp(text), parse_ocsp(base64.b64decode(text))
    assert first.raw == second.raw


@pytest.mark.parametrize("raw", [b"", b"\x30\x03\x0a\x01\x01", b"\x30\x82", b"hello?", b"\x30" * 100, b"A" * 100_000])
def test_what_is_no_response_is_unreadable(raw: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_ocsp(raw)


def test_an_error_response_is_unreadable() -> None:
    raw = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER).public_bytes(Encoding.DER)
    with pytest.raises(EvidenceError, match="TRY_LATER"):
        parse_ocsp(raw)


# -- a CA of our own ---------------------------------------------------------------------------------------------------

NOW = datetime(2025, 3, 1, tzinfo=UTC)
CODE_SIGNING = x509.oid.ExtendedKeyUsageOID.CODE_SIGNING
GOOD, REVOKED = ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED
Change = Callable[[x509.CertificateBuilder], x509.CertificateBuilder]


class OwnCa:
    """The laboratory chain's certificate 1 as subject, 2 as issuer, and a responder that 2
    certified."""

    def __init__(self, chain_pem: bytes) -> None:
        device = lab_device(parse_chain(chain_pem), b"ca")
        self.chain = device.chain
        self.subject, self.issuer = device.chain[1], device.chain[2]
        self.issuer_key = lab_key(b"ca" + bytes([2]))

    def responder(
        self, *, usage: bool | x509.ObjectIdentifier = True, until: datetime = NOW + timedelta(days=9)
    ) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "responder")])
        builder = x509.CertificateBuilder(
            self.issuer.subject, name, lab_key(b"responder").public_key(), 5, NOW - timedelta(days=9), until
        )
        if usage:
            named = x509.oid.ExtendedKeyUsageOID.OCSP_SIGNING if isinstance(usage, bool) else usage
            builder = builder.add_extension(x509.ExtendedKeyUsage([named]), critical=False)
        return builder.sign(self.issuer_key, hashes.SHA384())

    def answer(
        self,
        status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
        *,
        responder: x509.Certificate | None = None,
        at: datetime = NOW,
        about: x509.Certificate | None = None,
    ) -> bytes:
        revoked = status is ocsp.OCSPCertStatus.REVOKED
        builder = ocsp.OCSPResponseBuilder().add_response(
            about or self.subject,
            self.issuer,
            hashes.SHA384(),
            status,
            at,
            at + timedelta(days=1),
            at if revoked else None,
            x509.ReasonFlags.certificate_hold if revoked else None,
        )
        signer = responder or self.issuer
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, signer)
        if responder is not None:
            builder = builder.certificates([responder])
        own = self.issuer_key if responder is None else lab_key(b"responder")
        return builder.sign(own, hashes.SHA384()).public_bytes(Encoding.DER)

    def problem(self, raw: bytes, *, as_of: datetime | None = None) -> str | None:
        (one,) = parse_ocsp(raw)
        return response_problem(one, self.issuer, as_of or datetime.now(UTC), 10**10, VerifiedCache())


@pytest.fixture(scope="module")
def own_ca(h100_chain: bytes) -> OwnCa:
    """An authority of our own beside the real chain, so that responses can be signed."""
    return OwnCa(h100_chain)


def test_issuer_and_certified_responder_may_answer(own_ca: OwnCa) -> None:
    assert own_ca.problem(own_ca.answer()) is None
    responder = own_ca.responder(until=datetime(2099, 1, 1, tzinfo=UTC))
    assert own_ca.problem(own_ca.answer(responder=responder)) is None


def test_revoked_and_unknown_are_no_good(own_ca: OwnCa) -> None:
    revoked = own_ca.problem(own_ca.answer(ocsp.OCSPCertStatus.REVOKED))
    assert revoked == "certificate status is revoked at 2025-03-01T00:00:00Z (certificate_hold)"
    assert own_ca.problem(own_ca.answer(ocsp.OCSPCertStatus.UNKNOWN)) == "certificate status is unknown"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda ca: ca.answer()[:-1] + b"\0", "signed neither by the issuer nor by its responder"),
        (lambda ca: ca.answer(responder=ca.responder(usage=False)), "may not sign OCSP responses"),
        (lambda ca: ca.answer(responder=ca.responder(usage=CODE_SIGNING)), "may not sign OCSP responses"),
        (lambda ca: ca.answer(responder=ca.responder(until=NOW)), "was not valid when it signed"),
        (lambda ca: lab_ocsp(ca.subject, ca.issuer, NOW, b"x"), "was not certified by"),
    ],
)
def test_answers_from_anyone_else_are_refused(own_ca: OwnCa, make: Callable[[OwnCa], bytes], reason: str) -> None:
    assert reason in (own_ca.problem(make(own_ca)) or "")


def test_the_latest_answer_counts(own_ca: OwnCa) -> None:
    old, new = own_ca.answer(), own_ca.answer(ocsp.OCSPCertStatus.REVOKED, at=NOW + timedelta(days=1))
    responses = [one for raw in (new, old) for one in parse_ocsp(raw)]
    as_of = datetime.now(UTC)
    status, reason, _used = revocation(own_ca.chain, [1], responses, as_of, 10**10, VerifiedCache())
    assert status is Status.REFUTED
    assert "revoked" in reason


def test_of_two_answers_of_one_moment_the_worse_counts(own_ca: OwnCa) -> None:
    both = [one for kind in (GOOD, REVOKED) for one in parse_ocsp(own_ca.answer(kind))]
    for responses in (both, both[::-1]):
        found = revocation(own_ca.chain, [1], responses, datetime.now(UTC), 10**10, VerifiedCache())
        assert found[0] is Status.REFUTED


def test_an_answer_from_the_future_takes_no_older_ones_place(own_ca: OwnCa) -> None:
    """What was said before the appraisal stands, whatever will be said after it."""
    now = datetime.now(UTC)
    old, later = (one for at in (NOW, now + timedelta(days=10)) for one in parse_ocsp(own_ca.answer(at=at)))
    for responses in ([old, later], [later, old]):
        when = now + timedelta(days=1)
        assert revocation(own_ca.chain, [1], responses, when, 10**10, VerifiedCache())[0] is Status.ASSERTED
    assert revocation(own_ca.chain, [1], [later], when, 10**10, VerifiedCache())[0] is Status.REFUTED


def test_an_answer_about_another_certificate_does_not_count(own_ca: OwnCa) -> None:
    (about_leaf,) = parse_ocsp(own_ca.answer(about=own_ca.chain[0]))
    status, reason, used = revocation(own_ca.chain, [1], [about_leaf], datetime.now(UTC), 10**10, VerifiedCache())
    assert (status, used) == (Status.UNKNOWN, b"")
    assert reason.startswith("no stapled OCSP response for")


# -- the recorded responses, at other times and beside others ----------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(h100: Bundle, h100_ocsp: dict[str, bytes]) -> tuple[Any, Any]:
    """The response on the device's certificate 2, and the certificate that issued that one."""
    (one,) = parse_ocsp(h100_ocsp["gpu_l3"])
    return one, h100.devices[0].chain[3]


@pytest.mark.parametrize(
    ("late_s", "grace_s", "found"),
    [(0, 0.0, None), (10, 0.0, "10 s past its nextUpdate"), (10, 9.0, "allowed 9 s"), (10, 10.0, None)],
)
def test_an_answer_is_good_until_its_next_update_and_the_grace(
    recorded: tuple[Any, Any], late_s: int, grace_s: float, found: str | None
) -> None:
    one, issuer = recorded
    problem = response_problem(
        one, issuer, one.next_update + timedelta(seconds=late_s), 10**10, VerifiedCache(), grace_s
    )
    assert problem is None if found is None else found in (problem or "")


def test_an_answer_produced_in_the_future_is_told_by_that_time(recorded: tuple[Any, Any]) -> None:
    one, issuer = recorded
    early = dataclasses.replace(one, this_update=one.this_update - timedelta(days=1))
    problem = response_problem(early, issuer, one.produced_at - timedelta(seconds=1), 10**10, VerifiedCache())
    assert "from the future (producedAt 2025-08-21T06:47:07Z" in (problem or "")


def test_policies_read_next_update(h100_files: dict[str, Any], h100_ocsp: dict[str, bytes]) -> None:
    policy = dataclasses.replace(Policy.default().expecting("gpu"), ocsp_grace_s=0)
    policy = dataclasses.replace(policy, require=(*policy.require, "gpu.rim.driver.revocation"))
    bundle = everything(h100_files, h100_ocsp)
    assert appraise(bundle, policy, datetime(2025, 10, 25, 11, tzinfo=UTC)).accepted
    late = appraise(bundle, policy, datetime(2025, 10, 26, 12, tzinfo=UTC))
    assert "past its nextUpdate" in late.claim("gpu.0.rim.driver.revocation").reason
    assert not late.accepted
    assert Policy.strict().ocsp_grace_s == 0


def test_responder_certificates_may_stand_in_any_order(recorded: tuple[Any, Any], own_ca: OwnCa) -> None:
    one, issuer = recorded
    strangers = own_ca.chain[:2]
    for responders in (
        (*strangers, *one.responders),
        (*one.responders, *strangers),
        (own_ca.chain[0], *one.responders),
    ):
        mixed = dataclasses.replace(one, responders=responders)
        assert response_problem(mixed, issuer, one.this_update, 10**10, VerifiedCache(), 0.0) is None
    alone = dataclasses.replace(one, responders=strangers)
    assert "was not certified by" in (response_problem(alone, issuer, one.this_update, 10, VerifiedCache()) or "")


def test_a_forged_answer_beside_the_genuine_one_changes_nothing(recorded: tuple[Any, Any], h100: Bundle) -> None:
    one, _ = recorded
    later = one.this_update + timedelta(seconds=1)
    forged = dataclasses.replace(one, raw=b"forged", responders=(), this_update=later, status="revoked")
    chain, when = h100.devices[0].chain, one.this_update + timedelta(hours=1)
    for responses in ([forged, one], [one, forged]):
        assert revocation(chain, [2], responses, when, 10**10, VerifiedCache(), 0.0)[0] is Status.ASSERTED
    assert revocation(chain, [2], [forged], when, 10**10, VerifiedCache(), 0.0)[0] is Status.REFUTED


def test_a_response_padded_beyond_any_is_refused_for_its_size(h100_ocsp: dict[str, bytes]) -> None:
    with pytest.raises(EvidenceError, match="expected at most"):
        parse_ocsp(h100_ocsp["gpu_l3"] + b"\n" * MAX_RESPONSE_BYTES)


def test_only_ecdsa_signs_and_only_known_hashes_name(own_ca: OwnCa) -> None:
    made = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "responder")])
    allowed = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.OCSP_SIGNING])
    dates = (NOW - timedelta(days=9), datetime(2099, 1, 1, tzinfo=UTC))
    responder = (
        x509.CertificateBuilder(own_ca.issuer.subject, name, made.public_key(), 6, *dates)
        .add_extension(allowed, critical=False)
        .sign(own_ca.issuer_key, hashes.SHA384())
    )

    def answer(kind: hashes.HashAlgorithm, by: x509.Certificate = own_ca.issuer) -> ocsp.OCSPResponseBuilder:
        dates = (NOW, NOW + timedelta(days=1), None, None)
        builder = ocsp.OCSPResponseBuilder().add_response(
            own_ca.subject, own_ca.issuer, kind, ocsp.OCSPCertStatus.GOOD, *dates
        )
        return builder.responder_id(ocsp.OCSPResponderEncoding.HASH, by)

    by_rsa = answer(hashes.SHA384(), responder).certificates([responder]).sign(made, hashes.SHA384())
    assert own_ca.problem(by_rsa.public_bytes(Encoding.DER)) == "OCSP response is not signed with ECDSA"
    short = answer(hashes.SHA224()).sign(own_ca.issuer_key, hashes.SHA384()).public_bytes(Encoding.DER)
    good = answer(hashes.SHA256()).sign(own_ca.issuer_key, hashes.SHA384()).public_bytes(Encoding.DER)
    for raw, status in ((short, Status.UNKNOWN), (good, Status.ASSERTED)):
        found = revocation(own_ca.chain, [1], parse_ocsp(raw), datetime.now(UTC), 10**10, VerifiedCache())
        assert found[0] is status
