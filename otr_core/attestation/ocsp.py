"""Revocation from stapled OCSP responses (RFC 6960), checked offline at a given time.

A response counts for a certificate if its certificate id names that certificate and its issuer, and
it is signed by the issuer or by a responder which the issuer certified for OCSP signing. It is
fresh until its ``nextUpdate`` and a grace that the verifier grants, and for at most
``max_staleness_s`` seconds after ``thisUpdate``; one from the future is refused.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from otr_core.attestation.chain import Chain, VerifiedCache, common_name, extension, issued_by, readable, stamp
from otr_core.attestation.claims import Status
from otr_core.errors import EvidenceError, reported_as

MAX_RESPONSE_BYTES = 64 * 1024
#: How the reason of a claim begins, behind the certificate's name, when its vendor revoked it.
REVOKED = "certificate status is revoked"


@dataclass(frozen=True)
class OcspResponse:
    """One single response (RFC 6960 ``SingleResponse``) with what is needed to check it.

    Attributes:
        raw: DER bytes of the whole response.
        certificate_id: (hash name, issuer name hash, issuer key hash, serial number).
        status: ``good``, ``revoked`` or ``unknown``; ``detail`` says when and why it was revoked.
    """

    raw: bytes
    response: ocsp.OCSPResponse
    certificate_id: tuple[str, bytes, bytes, int]
    status: str
    detail: str
    this_update: datetime
    next_update: datetime | None
    produced_at: datetime
    responders: Chain

    @functools.cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.raw).hexdigest()


def parse_ocsp(data: bytes) -> tuple[OcspResponse, ...]:
    """The single responses in one OCSP response, given as DER or base64 text.

    Raises:
        EvidenceError: not an OCSP response, or one that reports an error instead of a status.
    """
    raw = _der(data)
    # The parser decodes lazily and raises exceptions of many kinds; each means unreadable.
    unreadable = "OCSP response: found bytes that cannot be read"
    with reported_as(EvidenceError, unreadable, Exception, expected="DER or base64"):
        response = ocsp.load_der_ocsp_response(raw)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise EvidenceError(f"OCSP response: found status {response.response_status.name}, expected SUCCESSFUL")
        responders = readable(lambda: response.certificates, what="OCSP responder certificate")
        _ = (response.signature, response.tbs_response_bytes, response.signature_hash_algorithm)
        return tuple(
            OcspResponse(
                raw=raw,
                response=response,
                certificate_id=(one.hash_algorithm.name, one.issuer_name_hash, one.issuer_key_hash, one.serial_number),
                status=one.certificate_status.name.lower(),
                detail=_detail(one),
                this_update=one.this_update_utc,
                next_update=one.next_update_utc,
                produced_at=response.produced_at_utc,
                responders=responders,
            )
            for one in response.responses
        )


def _der(data: bytes) -> bytes:
    if len(data) > MAX_RESPONSE_BYTES:
        raise EvidenceError(f"OCSP response: found {len(data)} bytes, expected at most {MAX_RESPONSE_BYTES}")
    if data[:1] == b"\x30":
        return data
    with reported_as(EvidenceError, "OCSP response: found neither DER nor base64", ValueError):
        return base64.b64decode(b"".join(data.split()), validate=True)


def _detail(one: ocsp.OCSPSingleResponse) -> str:
    if one.revocation_time_utc is None:
        return ""
    reason = one.revocation_reason
    return f" at {stamp(one.revocation_time_utc)}" + (f" ({reason.name})" if reason is not None else "")


def revocation(
    chain: Chain,
    positions: Sequence[int],
    responses: Sequence[OcspResponse],
    as_of: datetime,
    max_staleness_s: float,
    cache: VerifiedCache,
    grace_s: float | None = None,
) -> tuple[Status, str, bytes]:
    """Revocation status of certificates of ``chain``, each of which is issued by the next one.

    Args:
        positions: which certificates are asked about.
        max_staleness_s: greatest age of a response, in seconds since ``thisUpdate``.
        grace_s: how long a response still counts after its ``nextUpdate``; None for as long as
            ``max_staleness_s`` lets it.

    Returns:
        Status, reason, and the responses the status rests on (joined; empty if there are none). It
        is asserted only if each certificate has a fresh *good*, and unknown if some have no
        response while no response speaks against any.
    """
    missing, used, hashed = [], [], {one.certificate_id[0] for one in responses}
    for position in positions:
        certificate, issuer = chain[position], chain[position + 1]
        # Of several responses on a certificate the latest that is signed and not from the future
        # counts, and among equally late ones that which says *revoked*.
        ids = {_certificate_id(certificate, issuer, name) for name in hashed}
        matching = [one for one in responses if one.certificate_id in ids]
        matching = [one for one in matching if _signed_problem(one, issuer, cache) is None] or matching
        if not matching:
            missing.append(common_name(certificate.subject))
            continue
        past = [one for one in matching if one.this_update <= as_of]
        latest = max(past or matching, key=lambda one: (one.this_update, one.status == "revoked"))
        used.append(latest.raw)
        problem = response_problem(latest, issuer, as_of, max_staleness_s, cache, grace_s)
        if problem is not None:
            return Status.REFUTED, f"{common_name(certificate.subject)}: {problem}", b"".join(used)
    if missing:
        return Status.UNKNOWN, f"no stapled OCSP response for {', '.join(missing)}", b"".join(used)
    return Status.ASSERTED, f"{len(positions)} stapled responses say good", b"".join(used)


def response_problem(
    one: OcspResponse,
    issuer: x509.Certificate,
    as_of: datetime,
    max_staleness_s: float,
    cache: VerifiedCache,
    grace_s: float | None = None,
) -> str | None:
    """None, or why ``one`` does not say a fresh *good* on the word of ``issuer``."""
    problem = _signed_problem(one, issuer, cache)
    if problem is not None:
        return problem
    for name, moment in (("thisUpdate", one.this_update), ("producedAt", one.produced_at)):
        if moment > as_of:
            return f"OCSP response is from the future ({name} {stamp(moment)}, appraised at {stamp(as_of)})"
    if one.status != "good":  # however old: nothing later takes it back
        return f"{REVOKED}{one.detail}" if one.status == "revoked" else f"certificate status is {one.status}"
    age_s = (as_of - one.this_update).total_seconds()
    if age_s > max_staleness_s:
        return f"OCSP response of {stamp(one.this_update)} is stale, allowed age {max_staleness_s:.0f} s"
    late_s = (as_of - one.next_update).total_seconds() if one.next_update is not None else 0.0
    if grace_s is not None and late_s > grace_s:
        return f"OCSP response is {late_s:.0f} s past its nextUpdate, allowed {grace_s:.0f} s"
    return None


def _signed_problem(one: OcspResponse, issuer: x509.Certificate, cache: VerifiedCache) -> str | None:
    return cache.once(("ocsp", one.sha256, issuer), lambda: _signature_problem(one, issuer))


def _signature_problem(one: OcspResponse, issuer: x509.Certificate) -> str | None:
    # The issuer signs itself, or one of the responders whose certificates come with the response, in
    # whatever order.
    problems = []
    for signer in (issuer, *one.responders):
        if signer is not issuer and (problem := _responder_problem(signer, issuer, one)) is not None:
            problems.append(problem)
            continue
        key, algorithm = signer.public_key(), one.response.signature_hash_algorithm
        if not isinstance(key, ec.EllipticCurvePublicKey) or algorithm is None:
            problems.append("OCSP response is not signed with ECDSA")
            continue
        try:
            key.verify(one.response.signature, one.response.tbs_response_bytes, ec.ECDSA(algorithm))
        except InvalidSignature:
            continue
        return None
    return problems[0] if problems else "OCSP response is signed neither by the issuer nor by its responder"


def _responder_problem(responder: x509.Certificate, issuer: x509.Certificate, one: OcspResponse) -> str | None:
    name = common_name(responder.subject)
    if not issued_by(responder, issuer):
        return f"OCSP responder {name} was not certified by {common_name(issuer.subject)}"
    usage = extension(responder, x509.ExtendedKeyUsage)
    if usage is None or ExtendedKeyUsageOID.OCSP_SIGNING not in usage:
        return f"OCSP responder {name} may not sign OCSP responses"
    if not responder.not_valid_before_utc <= one.produced_at <= responder.not_valid_after_utc:
        return f"OCSP responder {name} was not valid when it signed ({stamp(one.produced_at)})"
    return None


def _certificate_id(
    certificate: x509.Certificate, issuer: x509.Certificate, name: str
) -> tuple[str, bytes, bytes, int] | None:
    """The id (RFC 6960 CertID) that a response on ``certificate`` carries under the hash ``name``."""
    key = issuer.public_key()
    if name not in ("sha1", "sha256", "sha384", "sha512") or not isinstance(key, ec.EllipticCurvePublicKey):
        return None
    point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    hashed = [hashlib.new(name, data).digest() for data in (issuer.subject.public_bytes(), point)]
    return name, hashed[0], hashed[1], certificate.serial_number
