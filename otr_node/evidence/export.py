"""An appraisal's result for other programs: a signed token, and a flat document for policy engines.

The token is an EAT (RFC 9711) in the form of a JWT (RFC 7519): the claims set of ``eat_claims``, and
around it an attestation result (EAR, draft-ietf-rats-ear) with its trustworthiness vector (AR4SI,
draft-ietf-rats-ar4si).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from otr_core.attestation.appraisal import Appraisal
from otr_core.attestation.claims import CHECKS, Status
from otr_core.encoding import canonical_json
from otr_core.errors import InputError, reported_as
from otr_node.evidence.eat import PROFILE, eat_claims

#: Parts of the trustworthiness vector, and the beginnings of the checks that they rest on.
_VECTOR = {
    "instance-identity": ("gpu.signature", "gpu.chain", "gpu.fwid", "gpu.platform", "cpu.quote", "cpu.platform"),
    "configuration": ("gpu.mode", "cpu.debug", "cpu.compose"),
    "executables": ("gpu.measurements", "gpu.driver", "gpu.vbios", "cpu.measurements", "cpu.event_log", "cpu.rtmr"),
    "hardware": ("gpu.revocation", "cpu.tcb", "cpu.advisories"),
}
_AFFIRMING, _WARNING, _CONTRAINDICATED = 2, 32, 96  # AR4SI section 2.3
_ALGORITHMS = {"secp256r1": ("ES256", hashes.SHA256()), "secp384r1": ("ES384", hashes.SHA384())}


def result_claims(appraisals: Sequence[Appraisal]) -> dict[str, Any]:
    """The claims set of one result: a node's, or one with a submodule for each of several nodes."""
    sets = [
        {
            **eat_claims(one),
            "ear.status": "affirming" if one.accepted else "contraindicated",
            "ear.trustworthiness-vector": _vector(one),
        }
        for one in appraisals
    ]
    accepted = all(one.accepted for one in appraisals)
    common = {
        "eat_profile": PROFILE,
        "iat": int(appraisals[0].as_of.timestamp()),
        "ear.verifier-id": {"developer": "otr-core", "build": PROFILE},
        "ear.appraisal-policy-id": f"sha-256:{hashlib.sha256(appraisals[0].policy.to_bytes()).hexdigest()}",
    }
    if len(sets) == 1:
        return sets[0] | common
    whole = {"ear.status": "affirming" if accepted else "contraindicated"}
    return common | whole | {"submods": {f"NODE-{number}": one for number, one in enumerate(sets)}}


def _vector(appraisal: Appraisal) -> dict[str, int]:
    """Affirming where all checks of a part that were made are asserted and none is unknown."""
    vector = {}
    for part, checks in _VECTOR.items():
        found = {claim.status for claim in appraisal.claims if claim.check.startswith(checks)}
        if Status.REFUTED in found:
            vector[part] = _CONTRAINDICATED
        elif Status.ASSERTED in found:
            vector[part] = _WARNING if Status.UNKNOWN in found else _AFFIRMING
    return vector


def signing_key(pem: bytes | None) -> ec.EllipticCurvePrivateKey:
    """A private key for tokens, from PEM; a new one, on P-384, for None.

    Raises:
        InputError: not a private key on P-256 or P-384 without a password.
    """
    if pem is None:
        return ec.generate_private_key(ec.SECP384R1())
    with reported_as(InputError, "token key: not readable as PEM", ValueError, TypeError):
        key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in _ALGORITHMS:
        raise InputError("token key: found another kind, expected an EC key on P-256 or P-384")
    return key


def sign_token(claims: Mapping[str, Any], key: ec.EllipticCurvePrivateKey) -> str:
    """The claims as a signed JWT; its header carries the public key (JWK), named by thumbprint."""
    name, digest = _ALGORITHMS[key.curve.name]
    size, point = key.key_size // 8, key.public_key().public_numbers()
    jwk = {"kty": "EC", "crv": f"P-{key.key_size}", "x": _url64(point.x, size), "y": _url64(point.y, size)}
    kid = base64.urlsafe_b64encode(hashlib.sha256(canonical_json(jwk)).digest()).decode().rstrip("=")  # RFC 7638
    head = {"alg": name, "typ": "eat+jwt", "kid": kid, "jwk": jwk}
    parts = [base64.urlsafe_b64encode(canonical_json(part)).decode().rstrip("=") for part in (head, dict(claims))]
    signed = ".".join(parts)
    r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(digest, deterministic_signing=True)))
    return f"{signed}.{_url64((r << 8 * size) | s, 2 * size)}"


def _url64(number: int, size: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(size, "big")).decode().rstrip("=")


def flat_input(nodes: Sequence[Appraisal]) -> dict[str, Any]:
    """One flat object for policy engines: texts, whole numbers, truth values and lists of texts only.

    Under ``asserted``, ``refuted``, ``unknown`` and ``not_made`` stand the checks with at least one
    claim of that status, on whatever node and device; ``checks`` has the worst status of each.
    """
    order = [Status.REFUTED.value, Status.UNKNOWN.value, "not made", Status.ASSERTED.value]
    found: dict[str, set[str]] = {name: set() for name in order}
    worst: dict[str, str] = {}
    for claim in (claim for one in nodes for claim in one.claims):
        found[claim.status.value].add(claim.check)
        worst[claim.check] = min(worst.get(claim.check, claim.status.value), claim.status.value, key=order.index)
    cpus = [dict(one.cpu) for one in nodes if one.cpu is not None]
    devices = [device.facts for one in nodes for device in one.devices]
    return {
        "format": "otr-flat/1",
        "accepted": all(one.accepted for one in nodes),
        "as_of": int(nodes[0].as_of.timestamp()),
        "policy": nodes[0].policy.name,
        "nodes": len(nodes),
        "gpus": sum(facts["kind"] == "gpu" for facts in devices),
        "switches": sum(facts["kind"] == "switch" for facts in devices),
        **{status.replace(" ", "_"): sorted(checks) for status, checks in found.items()},
        "checks": {name: worst.get(name, "not made") for name in CHECKS},
        "cpu_kinds": sorted({str(cpu["kind"]) for cpu in cpus}),
        "tcb_statuses": sorted({str(cpu.get("tcb_status") or "unknown") for cpu in cpus}),
        "advisories": sorted({str(one) for cpu in cpus for one in cpu.get("advisories", ())}),
        **{f"{name}s": sorted({str(facts[name]) for facts in devices}) for name in ("driver", "architecture", "ueid")},
        "vbios_versions": sorted({str(facts["vbios"]) for facts in devices}),
    }
