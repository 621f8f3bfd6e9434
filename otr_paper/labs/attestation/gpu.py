"""Attacks on GPU evidence, reference values and revocation; two that attestation cannot see."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from otr_core.attestation.chain import parse_chain
from otr_core.attestation.policy import Policy
from otr_core.attestation.report import parse_report
from otr_core.attestation.rim import parse_rim
from otr_paper.labs.attestation.frame import Attack, Attempt, Evidence, authentic_policy, collector, flip
from otr_paper.labs.attestation.lab import lab_device, lab_ocsp, lab_rim

ATTACKS: list[Attack] = []
_attack = collector(ATTACKS)
SEED = b"otr attack lab"
NEW_NONCE = bytes(range(32))
GPU_TIME = datetime(2024, 7, 1, tzinfo=UTC)
OCSP_TIME = datetime(2025, 8, 21, 12, tzinfo=UTC)


def _raw(evidence: Evidence) -> bytes:
    """The report's bytes; NVIDIA's wheel holds it as hex."""
    data = evidence["report"]
    return bytes.fromhex(data.decode()) if data[:1] == b"1" else data


def _gpu(evidence: Evidence) -> Attempt:
    """The recorded H100 answers the nonce that its report holds."""
    files = {"gpu": [_raw(evidence)], "gpu_certs": [evidence["chain"]]}
    return Attempt(files, authentic_policy(), GPU_TIME, {"nonce": parse_report(_raw(evidence)).nonce})


def _rims(evidence: Evidence) -> Attempt:
    """With the matching manifests if they are there, else with those that NVIDIA ships."""
    kinds = (("rim_driver", "shipped_driver"), ("rim_vbios", "shipped_vbios"))
    rims = [evidence[best] if best in evidence else evidence[shipped] for best, shipped in kinds]
    return _gpu(evidence).but({"rims": rims}, policy=Policy.default().expecting("gpu"))


def _stapled(evidence: Evidence) -> Attempt:
    """With the OCSP answers about its certificates, to a policy that wants them."""
    policy = authentic_policy()
    policy = dataclasses.replace(policy, require=(*policy.require, "gpu.revocation"))
    stapled = [evidence[name] for name in ("ocsp_l2", "ocsp_l3", "ocsp_l4")]
    return _gpu(evidence).but({"ocsp": stapled}, policy=policy, as_of=OCSP_TIME)


def _pems(pem: bytes) -> list[bytes]:
    return re.findall(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", pem, re.S)


def _flipped(at: int) -> Callable[[Evidence, Attempt], Attempt]:
    return lambda e, twin: twin.but({"gpu": [flip(_raw(e), at)]})


_attack("gpu.measurement", "flips one bit of a measurement", _gpu, claim="gpu.0.signature")(_flipped(200))
_attack("gpu.request nonce", "flips one bit of the signed nonce", _gpu, claim="gpu.0.signature")(_flipped(10))
_attack("gpu.signature", "flips one bit of the signature", _gpu, claim="gpu.0.signature")(_flipped(-7))


@_attack("gpu.driver version", "writes a newer driver version into the report", _gpu, claim="gpu.0.signature")
def _(e: Evidence, twin: Attempt) -> Attempt:
    return twin.but({"gpu": [_raw(e).replace(b"550.90.07", b"570.90.07")]})


@_attack("gpu.other leaf", "puts a leaf of its own before the genuine chain", _gpu, claim="gpu.0.chain.links")
def _(e: Evidence, twin: Attempt) -> Attempt:
    fake = lab_device(parse_chain(e["chain"]), SEED)
    pem = b"".join([_pems(fake.pem)[0], *_pems(e["chain"])[1:]])
    return twin.but({"gpu": [fake.sign(_raw(e))], "gpu_certs": [pem]})


@_attack("gpu.other root", "re-issues the whole chain under a root of its own", _gpu, claim="gpu.0.chain.root")
def _(e: Evidence, twin: Attempt) -> Attempt:
    fake = lab_device(parse_chain(e["chain"]), SEED)
    return twin.but({"gpu": [fake.sign(_raw(e))], "gpu_certs": [fake.pem]})


@_attack("gpu.grafted root", "hangs its own chain under NVIDIA's root certificate", _gpu, claim="gpu.0.chain.links")
def _(e: Evidence, twin: Attempt) -> Attempt:
    fake = lab_device(parse_chain(e["chain"]), SEED)
    pem = b"".join([*_pems(fake.pem)[:4], _pems(e["chain"])[4]])
    return twin.but({"gpu": [fake.sign(_raw(e))], "gpu_certs": [pem]})


@_attack("gpu.leaf as issuer", "lets the device key issue another device", _gpu, claim="gpu.0.chain.usage")
def _(e: Evidence, twin: Attempt) -> Attempt:
    pems = _pems(e["chain"])
    return twin.but({"gpu_certs": [b"".join([pems[0], pems[0], *pems[2:]])]})


@_attack("gpu.short chain", "leaves out an intermediate certificate", _gpu, claim="gpu.0.chain.length")
def _(e: Evidence, twin: Attempt) -> Attempt:
    pems = _pems(e["chain"])
    return twin.but({"gpu_certs": [b"".join(pems[:2] + pems[3:])]})


@_attack("gpu.no chain", "hands in the report alone", _gpu, claim="gpu.0.signature", outcome="unknown")
def _(e: Evidence, twin: Attempt) -> Attempt:
    return twin.but({"gpu_certs": []})


@_attack("gpu.truncated", "cuts the report short", _gpu, outcome="unreadable")
def _(e: Evidence, twin: Attempt) -> Attempt:
    return twin.but({"gpu": [_raw(e)[:-1]]})


@_attack("gpu.trailing byte", "appends one byte to the report", _gpu, outcome="unreadable")
def _(e: Evidence, twin: Attempt) -> Attempt:
    return twin.but({"gpu": [_raw(e) + b"\0"]})


@_attack("gpu.claims as evidence", "hands in another verifier's claims", _gpu, outcome="unreadable")
def _(e: Evidence, twin: Attempt) -> Attempt:
    return twin.but({"gpu": [b'{"claims": [{"measres": "success", "secboot": true}]}'], "gpu_certs": []})


@_attack("gpu.replay", "answers a new nonce with an old report", _gpu, claim="gpu.0.nonce")
def _(e: Evidence, twin: Attempt) -> Attempt:
    return twin.but(given={"nonce": NEW_NONCE})


@_attack("gpu.nonce echo", "writes the new nonce beside the old report", _gpu, claim="gpu.0.stated_nonce")
def _(e: Evidence, twin: Attempt) -> Attempt:
    report, chain = (base64.b64encode(part).decode() for part in (_raw(e), e["chain"]))
    document = {"nonce": NEW_NONCE.hex(), "evidence_list": [{"evidence": report, "certificate": chain}]}
    return twin.but({"gpu": [json.dumps(document).encode()], "gpu_certs": []}, given={"nonce": NEW_NONCE})


@_attack("gpu.twice", "presents one GPU as two", _gpu, claim="gpu.unique")
def _(e: Evidence, twin: Attempt) -> Attempt:
    return twin.but({"gpu": [_raw(e)] * 2, "gpu_certs": [e["chain"]] * 2})


@_attack("gpu.mixed nonces", "mixes GPUs that answered different nonces", _gpu, claim="gpu.same_nonce")
def _(e: Evidence, twin: Attempt) -> Attempt:
    return twin.but({"gpu": [_raw(e), e["machine_gpu"]]})


@_attack("gpu.too many nodes", "registers a second node on the same GPU", _gpu, claim="gpu.0.platform")
def _(e: Evidence, twin: Attempt) -> Attempt:
    ueid = str(parse_chain(e["chain"])[0].serial_number)
    policy = dataclasses.replace(twin.policy, gpu_max_nodes=1)
    return twin.but(policy=policy, given={"registered": {ueid: 1}})


@_attack("gpu.simulated", "presents a simulated TEE to a production policy", _gpu, claim="evidence.genuine")
def _(e: Evidence, twin: Attempt) -> Attempt:
    fake = lab_device(parse_chain(e["chain"]), SEED)
    return twin.but({"gpu": [fake.sign(_raw(e))], "gpu_certs": [fake.pem]}, given={"roots": fake.roots})


# -- attacks on reference values and revocation ------------------------------------------------------------------------


def _changed_hash(rim: bytes) -> bytes:
    """One hex digit of the first active golden value changed."""

    def change(found: re.Match[bytes]) -> bytes:
        digit = b"1" if found[2] != b"1" else b"2"
        return found[1] + digit

    return re.sub(rb'(active="True"[^>]*?:Hash0=")([0-9a-f])', change, rim, count=1)


@_attack("rim.other version", "offers the manifest of another driver", _rims, claim="gpu.0.rim.driver.identity")
def _(e: Evidence, twin: Attempt) -> Attempt:
    return twin.but({"rims": [e["shipped_driver"], e["rim_vbios"]]})


@_attack("rim.changed hash", "changes one golden value", _rims, claim="gpu.0.rim.driver.signature")
def _(e: Evidence, twin: Attempt) -> Attempt:
    return twin.but({"rims": [_changed_hash(twin.files["rims"][0]), twin.files["rims"][1]]})


@_attack("rim.wrapped", "hides the signed manifest inside a forged one", _rims, claim="gpu.0.rim.driver.signature")
def _(e: Evidence, twin: Attempt) -> Attempt:
    genuine, vbios = twin.files["rims"]
    inner = re.sub(rb"^\s*<\?xml[^>]*\?>", b"", genuine)
    wrapped = b'<ds:Object Id="genuine">' + inner + b"</ds:Object></ds:Signature>"
    forged = _changed_hash(genuine)
    at = forged.rindex(b"</ds:Signature>")
    return twin.but({"rims": [forged[:at] + wrapped + forged[at + 15 :], vbios]})


@_attack("rim.re-signed", "re-signs changed golden values with its own key", _rims, claim="gpu.0.rim.driver.chain")
def _(e: Evidence, twin: Attempt) -> Attempt:
    forged = lab_rim(_changed_hash(twin.files["rims"][0]), parse_rim(twin.files["rims"][0]).chain, SEED)
    return twin.but({"rims": [forged, twin.files["rims"][1]]})


@_attack("rim.expired", "offers a manifest years after its signer expired", _rims, claim="gpu.0.rim.vbios.validity")
def _(e: Evidence, twin: Attempt) -> Attempt:
    return twin.but(as_of=datetime(2027, 1, 1, tzinfo=UTC))


@_attack("rim.too early", "sets the clock back before the manifest was signed", _rims, claim="gpu.0.rim.vbios.validity")
def _(e: Evidence, twin: Attempt) -> Attempt:
    return twin.but(as_of=datetime(2023, 1, 1, tzinfo=UTC))


@_attack("rim.withheld", "leaves the manifests out", _rims, claim="gpu.0.rim.driver.signature", outcome="unknown")
def _(e: Evidence, twin: Attempt) -> Attempt:
    return twin.but({"rims": []})


@_attack(
    "rim.entity bomb",
    "sends a manifest that expands to gigabytes",
    _rims,
    claim="gpu.0.rim.driver.signature",
    outcome="unknown",
)
def _(e: Evidence, twin: Attempt) -> Attempt:
    levels = b"".join(b'<!ENTITY e%d "%s">' % (i + 1, b"&e%d;" % i * 10) for i in range(9))
    return twin.but({"rims": [b'<!DOCTYPE r [<!ENTITY e0 "lol">' + levels + b"]><r>&e9;</r>"]})


@_attack("ocsp.stale", "staples revocation answers of last year", _stapled, claim="gpu.0.revocation")
def _(e: Evidence, twin: Attempt) -> Attempt:
    return twin.but(as_of=OCSP_TIME + timedelta(days=365))


@_attack("ocsp.future", "staples answers from the future", _stapled, claim="gpu.0.revocation")
def _(e: Evidence, twin: Attempt) -> Attempt:
    return twin.but(as_of=OCSP_TIME - timedelta(days=7))


@_attack("ocsp.wrong responder", "signs the answer with a responder of its own", _stapled, claim="gpu.0.revocation")
def _(e: Evidence, twin: Attempt) -> Attempt:
    chain = parse_chain(e["chain"])
    forged = lab_ocsp(chain[1], chain[2], OCSP_TIME - timedelta(hours=1), SEED)
    return twin.but({"ocsp": [e["ocsp_l2"], e["ocsp_l3"], forged]})


@_attack("ocsp.withheld", "leaves the revoked one out", _stapled, claim="gpu.0.revocation", outcome="unknown")
def _(e: Evidence, twin: Attempt) -> Attempt:
    return twin.but({"ocsp": [e["ocsp_l2"], e["ocsp_l3"]]})


# -- what attestation accepts ------------------------------------------------------------------------------------------


@_attack("limit.extracted key", "signs any report with a key taken out of the device", _gpu, outcome="accepted")
def _(e: Evidence, twin: Attempt) -> Attempt:
    # stands for a genuine device: under its own roots it is one
    stolen = lab_device(parse_chain(e["chain"]), SEED)
    forged = stolen.sign(_raw(e), nonce=NEW_NONCE)
    policy = dataclasses.replace(twin.policy, allow_simulated=True)
    files = {"gpu": [forged], "gpu_certs": [stolen.pem]}
    return twin.but(files, policy=policy, given={"roots": stolen.roots, "nonce": NEW_NONCE})


@_attack("limit.relay", "forwards the nonce to a genuine GPU elsewhere", _gpu, outcome="accepted")
def _(e: Evidence, twin: Attempt) -> Attempt:
    return twin  # the bytes are the same: nothing in GPU evidence names the host that shows it
