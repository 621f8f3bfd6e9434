"""A laboratory node: one complete bundle, GPU and CPU, under roots of the laboratory.

It is what a dstack-like guest with an H100 would hand in after loading one model, and the only
bundle there is that the strict policy accepts: no public record has an event log with the two
events that receipts need. Every part is built from its layout and signed with keys from a seed, so
that an attacker can be played who re-signs everything: who owns the node, or one of its roots.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from otr_core.attestation.chain import Chain, TrustRoots, fingerprint
from otr_core.attestation.eventlog import RUNTIME_EVENT, parse_event_log, runtime_digest
from otr_core.attestation.nvidia import DICE_OID
from otr_core.attestation.policy import Policy
from otr_core.attestation.report import SIGNATURE_BYTES
from otr_core.attestation.rim import HASH, SWID
from otr_core.encoding import tagged_hash
from otr_core.poea.tee import BOUNDARY_EVENT, KEYS_EVENT, MODEL_EVENT, PINNED_REGISTERS
from otr_paper.labs.attestation.lab import LabDevice, lab_certificate, lab_key, redated_ocsp, sign_rim
from otr_paper.labs.attestation.platform import LabPlatform

VERSIONS = {"driver": "550.90.07", "vbios": "96.00.9F.00.01"}
DEVICE_NAMES = (
    *("GH100 A01 GSP FMC LF", "GH100 A01 GSP BROM", "Lab GH100 Provisioner ICA 1", "Lab GH100 Identity"),
    "Lab Device Identity CA",
)
COMPOSE = json.dumps({"docker_compose_file": "services: {otr: {image: lab}}\n", "runner": "docker-compose"}).encode()
#: Measurement indices (0-based) that the driver's manifest speaks for, and the VBIOS's.
INDICES = {"driver": range(6), "vbios": range(6, 10)}


def _digest(text: str) -> bytes:
    return hashlib.sha384(text.encode()).digest()


@dataclass(frozen=True)
class LabChain:
    """Certificates with the private keys behind them, leaf first."""

    chain: Chain
    keys: tuple[ec.EllipticCurvePrivateKey, ...]

    @classmethod
    def made(cls, seed: bytes, names: Sequence[str], *, signer: bytes = b"", **leaf: Any) -> LabChain:
        """Each certificate issued by the next, the last by itself.

        Args:
            signer: seed of a key that signs the leaf in place of its issuer's. leaf: further
                arguments of ``lab_certificate`` for the leaf.
        """
        keys = tuple(lab_key(seed + name.encode()) for name in names)
        certificates = []
        for at, name in enumerate(names):
            issuer = min(at + 1, len(names) - 1)
            by = lab_key(signer) if signer and at == 0 else keys[issuer]
            certificates.append(lab_certificate(name, names[issuer], keys[at], by, ca=at > 0, **({} if at else leaf)))
        return cls(tuple(certificates), keys)

    def revocation(self, positions: Sequence[int], at: datetime, revoked: Sequence[int] = ()) -> list[bytes]:
        """OCSP responses (DER) of the issuers on the certificates at ``positions``."""
        return [self._response(position, at, position in revoked) for position in positions]

    def _response(self, position: int, at: datetime, revoked: bool) -> bytes:
        certificate, issuer = self.chain[position], self.chain[position + 1]
        status = ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD
        why = (at, x509.ReasonFlags.key_compromise) if revoked else (None, None)
        single = (certificate, issuer, hashes.SHA384(), status, at, at + timedelta(days=1))
        builder = ocsp.OCSPResponseBuilder().add_response(*single, *why)
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, issuer)
        key = self.keys[position + 1]
        return redated_ocsp(builder.sign(key, hashes.SHA384()), key, at)


@dataclass(frozen=True)
class LabGpu:
    """A GPU and its maker's signing keys.

    Attributes:
        seed: of all keys. name: of this one, so that two GPUs under one root have different keys.
        values: measurements by index; those left out are as the manifests expect.
        firmware: id in the report. certified: the one in the leaf.
        chained: further arguments of ``LabChain.made``. names: of the certificates.
        fields: opaque fields of the report by number, in place of those it has, or beside them.
    """

    seed: bytes
    name: str = "one"
    values: Mapping[int, bytes] = field(default_factory=dict)
    firmware: bytes = _digest("firmware")
    certified: bytes = _digest("firmware")
    chained: Mapping[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] = DEVICE_NAMES
    fields: Mapping[int, bytes] = field(default_factory=dict)

    @property
    def made(self) -> LabChain:
        digest = bytes.fromhex("303d06096086480165030402020430") + self.certified
        names = tuple(f"{name} {self.name}" if at < 2 else name for at, name in enumerate(self.names))
        dice = x509.UnrecognizedExtension(x509.ObjectIdentifier(DICE_OID), digest)
        return LabChain.made(self.seed, names, extensions=[dice], **self.chained)

    def report(self, nonce: bytes, *, signer: LabChain | None = None) -> bytes:
        """A signed SPDM report over ``nonce``."""
        blocks = b"".join(
            bytes([at + 1, 1]) + _sized(51, 2) + b"\x01" + _sized(48, 2) + self.values.get(at, golden(at))
            for at in range(max([*self.values, *INDICES["vbios"]]) + 1)
        )
        count = max([*self.values, *INDICES["vbios"]]) + 1
        stated = {3: VERSIONS["driver"].encode() + b"\0", 6: bytes.fromhex("009f009601000000"), 20: self.firmware}
        stated |= {17: b"1010\0", 18: b"0200\0", 15: b"882\0", 21: b"\x55", **self.fields}
        opaque = b"".join(_sized(number, 2) + _sized(len(value), 2) + value for number, value in stated.items())
        request = b"\x11\xe0\x01\xff" + nonce + b"\0"
        response = b"\x11\x60\0\0" + bytes([count]) + _sized(len(blocks), 3) + blocks
        unsigned = request + response + bytes(32) + _sized(len(opaque), 2) + opaque
        made = signer or self.made
        return LabDevice(made.chain, made.keys[0]).sign(unsigned + bytes(SIGNATURE_BYTES))


def golden(index: int) -> bytes:
    """The measurement that a manifest expects at ``index``."""
    return _digest(f"measurement {index}")


def _sized(number: int, width: int) -> bytes:
    return number.to_bytes(width, "little")


@dataclass(frozen=True)
class LabManifest:
    """A reference manifest and its signer's keys.

    Attributes:
        seed: of all keys. kind: driver or vbios. version: what it is for. values: golden ones by
            index; those left out are as the GPU reports them. indices: active ones.
        chained: further arguments of ``LabChain.made``.
    """

    seed: bytes
    kind: str
    version: str
    indices: Sequence[int]
    values: Mapping[int, bytes] = field(default_factory=dict)
    chained: Mapping[str, Any] = field(default_factory=dict)

    @property
    def made(self) -> LabChain:
        names = (f"Lab RIM signer {self.kind}", "Lab RIM L3", "Lab RIM CA GH100", "Lab RIM Root CA")
        return LabChain.made(self.seed, names, **self.chained)

    @property
    def raw(self) -> bytes:
        rows = "".join(
            f'<Resource type="Measurement" index="{at}" name="m{at}" active="True" alternatives="1" size="48"'
            f' h:Hash0="{self.values.get(at, golden(at)).hex()}"/>'
            for at in self.indices
        )
        head = f'<SoftwareIdentity xmlns="{SWID}" xmlns:h="{HASH}" name="lab" tagId="lab-{self.kind}">'
        meta = f'<Meta product="GH100" colloquialVersion="{self.version}" edition="lab"/>'
        made = self.made
        unsigned = f"{head}{meta}<Payload>{rows}</Payload></SoftwareIdentity>".encode()
        return sign_rim(unsigned, made.keys[0], made.chain)


@dataclass(frozen=True)
class LabNode:
    """All parts of the node; ``replace`` one and the rest is signed anew around it.

    Attributes:
        now: when it is appraised; its evidence is an hour old. nonce: the verifier's.
        keys: canonical JSON of both public keys. model_id: of the model that it loads.
        platform, gpus, driver, vbios: what signs its evidence.
        events: what its program extends into RTMR3 after the image has booted: names and payloads.
        registers: of the quote, where they are to differ from what was measured.
        answered: nonces that the GPUs sign, where it is not ``nonce``; bound: the one in
            report_data, likewise. bound_keys: the keys in report_data.
        revoked: names of OCSP sets (gpu, driver, vbios) with the position that is revoked there.
        patched: the register (0 to 2) for which it boots something else.
    """

    now: datetime
    nonce: bytes
    keys: bytes
    model_id: bytes
    platform: LabPlatform
    gpus: tuple[LabGpu, ...]
    driver: LabManifest
    vbios: LabManifest
    events: tuple[tuple[str, bytes], ...]
    registers: Mapping[str, bytes] = field(default_factory=dict)
    answered: tuple[bytes, ...] = ()
    bound: bytes = b""
    bound_keys: bytes = b""
    revoked: Mapping[str, int] = field(default_factory=dict)
    patched: int = -1

    @property
    def log(self) -> list[dict[str, Any]]:
        """The event log in dstack's form: firmware and kernel, boot of the image, the program."""
        boot = ("system-preparing", b""), ("app-id", hashlib.sha256(COMPOSE).digest()[:20])
        more = ("compose-hash", hashlib.sha256(COMPOSE).digest()), ("instance-id", b"\1" * 20), ("boot-mr-done", b"")
        runtime = (*boot, *more, ("system-ready", b""), *self.events)
        firmware = [
            {"imr": at, "event_type": 1, "digest": _digest(f"rtmr{at} {n} {at == self.patched}").hex()}
            for at in range(3)
            for n in range(2)
        ]
        return firmware + [log_entry(name, payload) for name, payload in runtime]

    @property
    def measured(self) -> dict[str, bytes]:
        """Registers of the TD as they are."""
        log = parse_event_log(json.dumps(self.log).encode())
        config = b"\1" + hashlib.sha256(COMPOSE).digest() + bytes(15)
        report_data = tagged_hash("keys", self.bound_keys or self.keys) + (self.bound or self.nonce)
        replayed = {f"rt_mr{number}": log.replay(number) for number in range(4)}
        return {"mr_td": _digest("firmware image"), "mr_config_id": config, "report_data": report_data, **replayed}

    @property
    def roots(self) -> TrustRoots:
        """Roots under which the node's evidence verifies: Intel's and NVIDIA's stand-ins."""
        quote = self.platform.root.public_bytes(Encoding.DER)
        return TrustRoots(fingerprint(self.gpus[0].made.chain[-1]), fingerprint(self.driver.made.chain[-1]), quote)

    @property
    def policy(self) -> Policy:
        """The strict policy with the node's launch values, allowing a laboratory's roots."""
        names = (*PINNED_REGISTERS, "mr_config_id")
        values = tuple((name, self.measured[name].hex()) for name in sorted(names))
        strict = Policy.strict()
        require = (*strict.require, "cpu.measurements")
        return replace(strict, allow_simulated=True, require=require, measurements=values)

    def files(self) -> dict[str, Any]:
        """Arguments of ``load_bundle``."""
        at = self.now - timedelta(hours=1)
        nonces = self.answered or (self.nonce,) * len(self.gpus)
        sets = [("gpu", gpu.made, range(1, 4)) for gpu in self.gpus]
        sets += [(manifest.kind, manifest.made, range(3)) for manifest in (self.driver, self.vbios)]
        return {
            "gpu": [gpu.report(nonce) for gpu, nonce in zip(self.gpus, nonces, strict=True)],
            "gpu_certs": [LabDevice(gpu.made.chain, gpu.made.keys[0]).pem for gpu in self.gpus],
            "rims": [self.driver.raw, self.vbios.raw],
            "ocsp": [
                response
                for name, made, positions in sets
                for response in made.revocation(positions, at, [self.revoked.get(name, -1)])
            ],
            "quote": self.platform.quote({**self.measured, **self.registers}),
            "collateral": self.platform.collateral(),
            "event_log": json.dumps(self.log).encode(),
            "compose": COMPOSE,
        }


def log_entry(name: str, payload: bytes) -> dict[str, Any]:
    """One runtime event as dstack guests list it."""
    digest = runtime_digest(RUNTIME_EVENT, name, payload).hex()
    runtime = {"imr": 3, "event_type": RUNTIME_EVENT, "digest": digest}
    return {**runtime, "event": name, "event_payload": payload.hex()}


def honest_node(now: datetime, nonce: bytes, keys: bytes, model_id: bytes, seed: bytes = b"lab node") -> LabNode:
    """A node that does what docs/guest.md asks: one model, then its keys, then it opens its door."""
    released = (MODEL_EVENT, model_id), (KEYS_EVENT, tagged_hash("keys", keys)), (BOUNDARY_EVENT, b"")
    driver, vbios = (LabManifest(seed, kind, version, INDICES[kind]) for kind, version in VERSIONS.items())
    platform = LabPlatform(seed, now - timedelta(hours=1))
    return LabNode(now, nonce, keys, model_id, platform, (LabGpu(seed),), driver, vbios, released)
