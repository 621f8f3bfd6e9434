"""Tokens of third parties (JWT): what another verifier says of the same evidence, beside our own word.

A token proves that its issuer said something, never that it is so. Its claims are *relayed*: they
are shown beside the claims on the same report, disagreements are named, and no verdict rests on
them. Two forms are read: NVIDIA's NRAS (a token of the whole, and one for each device, whose SHA-256
the first one states) and Intel Trust Authority.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from otr_core.attestation.appraisal import Appraisal
from otr_core.attestation.chain import UNREADABLE, signature_problem
from otr_core.attestation.claims import Status
from otr_core.attestation.eventlog import evidence_json
from otr_core.errors import EvidenceError, InputError, one_line, reported_as

MAX_TOKEN_BYTES = 64 * 1024
_HASHES: dict[str, hashes.HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_CURVES: dict[str, tuple[str, ec.EllipticCurve]] = {
    "ES256": ("P-256", ec.SECP256R1()),
    "ES384": ("P-384", ec.SECP384R1()),
}
#: Claims of NRAS on a device, and the checks here that ask the same.
_NRAS = {
    "attestation-report-signature-verified": ("signature",),
    "attestation-report-cert-chain-validated": ("chain.links", "chain.validity", "chain.root"),
    "attestation-report-nonce-match": ("nonce",),
    "driver-rim-signature-verified": ("rim.driver.signature",),
    "driver-rim-cert-validated": ("rim.driver.chain", "rim.driver.validity"),
    "vbios-rim-signature-verified": ("rim.vbios.signature",),
    "vbios-rim-cert-validated": ("rim.vbios.chain", "rim.vbios.validity"),
    "vbios-index-no-conflict": ("measurements.conflict",),
}
_NRAS_FACTS = {"driver-version": "driver", "vbios-version": "vbios"}


@dataclass(frozen=True)
class Token:
    """One token. ``problem`` is None once its signature verifies under one of the keys given."""

    text: str
    form: str
    issuer: str
    claims: Mapping[str, Any]
    problem: str | None

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class Relayed:
    """One claim of a third party beside ours.

    Attributes:
        token: SHA-256 of the token, hex. subject, claim: what it is about.
        theirs, ours: what either says. outcome: agrees, disagrees, or not compared.
    """

    token: str
    issuer: str
    subject: str
    claim: str
    theirs: str
    ours: str
    outcome: str


def read_token(text: str, keys: Iterable[Mapping[str, Any]], as_of: datetime) -> Token:
    """A token, its signature checked under the key it names, its dates at ``as_of``.

    Raises:
        EvidenceError: not three parts of base64url with JSON objects in the first two.
    """
    if len(text) > MAX_TOKEN_BYTES or text.count(".") != 2:
        raise EvidenceError(f"token: found {len(text)} letters, expected three parts, at most {MAX_TOKEN_BYTES}")
    first, second, third = text.split(".")
    head, claims = (evidence_json(_decode(part), "token") for part in (first, second))
    if not isinstance(head, dict) or not isinstance(claims, dict):
        raise EvidenceError("token: found another form, expected JSON objects")
    issuer = str(claims.get("iss", "nobody"))[:80]
    form = "Intel Trust Authority" if "attester_type" in claims or "tdx" in claims else "NRAS"
    named = [key for key in keys if key.get("kid") == head.get("kid")]
    problem = "no key of its issuer is in the files" if not named else None
    for key in named[:2]:
        problem = _signature_problem(head, key, f"{first}.{second}".encode(), _decode(third))
        if problem is None:
            break
    return Token(text, form, issuer, claims, problem or _date_problem(claims, as_of))


def _decode(part: str) -> bytes:
    with reported_as(EvidenceError, "token: found a part that is not base64url", ValueError):
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _number(text: Any) -> int:
    return int.from_bytes(_decode(str(text)), "big")


def _signature_problem(head: Mapping[str, Any], key: Mapping[str, Any], signed: bytes, signature: bytes) -> str | None:
    name = str(head.get("alg"))
    kind = _HASHES.get(name[2:])
    try:
        if name in _CURVES and kind is not None and key.get("crv") == _CURVES[name][0]:
            curve = _CURVES[name][1]
            public = ec.EllipticCurvePublicNumbers(_number(key["x"]), _number(key["y"]), curve).public_key()
            return signature_problem(public, signature, signed, kind, type(curve))
        if name[:2] in ("RS", "PS") and kind is not None and key.get("kty") == "RSA":
            salted = padding.PSS(padding.MGF1(kind), kind.digest_size)
            scheme = padding.PKCS1v15() if name[:2] == "RS" else salted
            public_rsa = rsa.RSAPublicNumbers(_number(key["e"]), _number(key["n"])).public_key()
            public_rsa.verify(signature, signed, scheme, kind)
            return None
    except (KeyError, InputError, *UNREADABLE) as error:
        return f"its key cannot be read ({one_line(error, 80)})"
    except InvalidSignature:
        return "its signature does not verify under the key it names"
    return f"algorithm {name[:10]} does not go with the key it names"


def _date_problem(claims: Mapping[str, Any], as_of: datetime) -> str | None:
    seconds = as_of.timestamp()
    start, end = claims.get("nbf", claims.get("iat")), claims.get("exp")
    if isinstance(start, int) and seconds < start:
        return "it is from the future"
    return "it has expired" if isinstance(end, int) and seconds > end else None


def relay(tokens: Sequence[Token], appraisal: Appraisal) -> tuple[Relayed, ...]:
    """What the tokens say on the evidence that ``appraisal`` judged, beside what it says."""
    digests = {device: one for one in tokens for device in _devices_of(one).values()}
    rows = list[Relayed]()
    for token in tokens:
        trusted = token.problem is None
        about = _intel(token, appraisal) if token.form == "Intel Trust Authority" else _nras(token, appraisal)
        whole = digests.get(token.sha256)
        found = [(subject, name, theirs, ours, agrees) for subject, name, theirs, ours, agrees in about]
        if found and token.form == "NRAS":
            stated = whole is not None and whole.problem is None
            good = "listed in a verified token of the whole" if stated else "in no verified token of the whole"
            found.insert(0, (found[0][0], "token", token.problem or "signature verifies", good, trusted and stated))
        elif found:
            found.insert(0, (found[0][0], "token", token.problem or "signature verifies", "", trusted))
        rows += [
            Relayed(
                token.sha256,
                token.issuer,
                subject,
                name,
                theirs,
                ours,
                _OUTCOMES[agrees] if trusted else "not compared",
            )
            for subject, name, theirs, ours, agrees in found
        ]
    # A token on the whole concerns this node if one of its devices, or its nonce, is this node's.
    nonces = {device.facts["nonce"] for device in appraisal.devices}
    here = {row.subject for row in rows}
    for token in tokens:
        result = token.claims.get("x-nvidia-overall-att-result")
        mine = str(token.claims.get("eat_nonce")).lower() in nonces
        if isinstance(result, bool) and (mine or (here and not nonces)):
            theirs = token.problem or f"{'accepted' if result else 'rejected'} as a whole"
            refuted = any(claim.status is Status.REFUTED for claim in appraisal.because)
            judged = token.problem is None and (appraisal.accepted or refuted)
            agrees = result == appraisal.accepted if judged else None
            rows.append(
                Relayed(
                    token.sha256, token.issuer, "node", "overall result", theirs, appraisal.verdict, _OUTCOMES[agrees]
                )
            )
    return tuple(rows)


def unrelated(tokens: Sequence[Token], rows: Iterable[Relayed]) -> tuple[Relayed, ...]:
    """The tokens that no row tells of: on other evidence, or on none, with the reason they give."""
    told, found = {row.token for row in rows}, list[Relayed]()
    for token in tokens:
        if token.sha256 not in told:
            details = token.claims.get("x-nvidia-error-details")
            said = str(details.get("description")).strip() if isinstance(details, dict) else "on other evidence"
            theirs = token.problem or said[:160]
            found.append(Relayed(token.sha256, token.issuer, "none here", "token", theirs, "", "not compared"))
    return tuple(found)


_OUTCOMES = {True: "agrees", False: "disagrees", None: "not compared"}
_Found = tuple[str, str, str, str, bool | None]


def _devices_of(token: Token) -> dict[str, str]:
    """Submodule -> SHA-256 of its token, as a token of the whole states them."""
    parts = token.claims.get("submods")
    found = {}
    for name, part in parts.items() if isinstance(parts, dict) else ():
        if isinstance(part, list) and len(part) == 2 and isinstance(part[1], list) and len(part[1]) == 2:
            found[str(name)] = str(part[1][1]).lower()
    return found


def _nras(token: Token, appraisal: Appraisal) -> Iterator[_Found]:
    claims = token.claims
    for device in appraisal.devices:
        facts = device.facts
        if claims.get("ueid") != facts["ueid"] or str(claims.get("eat_nonce")).lower() != facts["nonce"]:
            continue
        statuses = {claim.id: claim.status for claim in appraisal.claims}
        prefix = f"x-nvidia-{facts['kind']}-"
        for name, checks in _NRAS.items():
            said = claims.get(prefix + name)
            if isinstance(said, bool):
                yield _judged(device.subject, name, said, [statuses.get(f"{device.subject}.{one}") for one in checks])
        kinds = ("driver", "vbios") if facts["kind"] == "gpu" else ("vbios",)
        measured = [statuses.get(f"{device.subject}.measurements.{kind}") for kind in kinds]
        if "measres" in claims:
            yield _judged(device.subject, "measres", claims["measres"] == "success", measured)
        for name, fact in _NRAS_FACTS.items():
            if prefix + name in claims:
                said = str(claims[prefix + name])[:40]
                yield device.subject, name, said, str(facts[fact]), said == facts[fact]


def _judged(subject: str, name: str, said: bool, ours: Sequence[Status | None]) -> _Found:
    theirs = "true" if said else "false"
    if Status.REFUTED in ours:
        return subject, name, theirs, "refuted", not said
    if all(one is Status.ASSERTED for one in ours):
        return subject, name, theirs, "asserted", said
    return subject, name, theirs, "unknown", None


def _intel(token: Token, appraisal: Appraisal) -> Iterator[_Found]:
    claims = token.claims.get("tdx", token.claims)
    measured = dict((appraisal.cpu or {}).get("measured", {}))
    if not isinstance(claims, dict):
        return
    if str(claims.get("tdx_report_data")).lower() != measured.get("report_data"):
        return
    for number in ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"):
        said = str(claims.get(f"tdx_{number}", "")).lower()
        own = measured.get(f"{number[:2]}_{number[2:]}" if number == "mrtd" else f"rt_mr{number[-1]}")
        if said:
            yield "cpu", number, said[:16], str(own)[:16], said == own
    statuses = {claim.id: claim.status for claim in appraisal.claims}
    if isinstance(claims.get("tdx_is_debuggable"), bool):
        yield _judged("cpu", "tdx_is_debuggable (denied)", not claims["tdx_is_debuggable"], [statuses.get("cpu.debug")])
    if "attester_tcb_status" in claims:
        said, own = str(claims["attester_tcb_status"])[:40], str((appraisal.cpu or {}).get("tcb_status") or "unknown")
        yield "cpu", "TCB status", said, own, said.lower() == own.lower() if own != "unknown" else None
