"""A laboratory CPU platform: a TDX quote and its collateral, all under keys of the laboratory.

Nothing is copied from a recorded quote: header, body, certificates, revocation lists and Intel's
signed documents are built from their published layouts (Intel DCAP quote version 4, PCK certificate
profile, PCS API version 4). Whoever owns Intel's root could make the same bytes; under the
laboratory's root they are *simulated* for everyone else. Keys come from a seed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from otr_core.attestation.chain import Chain, stamp
from otr_paper.labs.attestation.lab import lab_certificate, lab_name, tlv

#: Family and platform id that the certificate and Intel's documents name.
FMSPC, PPID = bytes.fromhex("b0c06f000000"), bytes.fromhex("0a" * 16)
_QE_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
_QE_SIGNER, _SEAM_SIGNER = hashlib.sha256(b"lab QE signer").digest(), bytes(48)
_SGX_OID = "1.2.840.113741.1.13.1"
_SVN = 5  # of every component, in certificate and TCB info alike


def _key(seed: bytes) -> ec.EllipticCurvePrivateKey:
    """P-256 key derived from ``seed``."""
    return ec.derive_private_key(int.from_bytes(hashlib.sha256(seed).digest(), "big") >> 1 or 1, ec.SECP256R1())


def _raw_signature(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]


@dataclass(frozen=True)
class LabPlatform:
    """A platform's quoting keys and Intel's, all the laboratory's own.

    Attributes:
        seed: of all keys. issued: when TCB info, QE identity and revocation lists are issued; they
            hold for ``days``.
        tcb_status, advisories: what the TCB info says of this platform. evaluation: its
            tcbEvaluationDataNumber.
        revoked: serial numbers on the list of the PCK issuer.
    """

    seed: bytes
    issued: datetime
    tcb_status: str = "UpToDate"
    advisories: tuple[str, ...] = ()
    evaluation: int = 17
    revoked: tuple[int, ...] = ()
    days: int = 30

    @property
    def expires(self) -> datetime:
        return self.issued + timedelta(days=self.days)

    def key(self, name: str) -> ec.EllipticCurvePrivateKey:
        """The private key of ``root``, ``platform``, ``pck``, ``tcb`` or ``quote``."""
        return _key(self.seed + name.encode())

    @property
    def root(self) -> x509.Certificate:
        """The laboratory's counterpart of Intel's root."""
        return self._certificate("root", "Lab SGX Root CA", "root", "Lab SGX Root CA", path_length=1)

    @property
    def pck_chain(self) -> Chain:
        """PCK certificate, its issuer, root."""
        platform = self._certificate("platform", "Lab SGX PCK Platform CA", "root", "Lab SGX Root CA", path_length=0)
        pck = self._certificate("pck", "Lab SGX PCK Certificate", "platform", "Lab SGX PCK Platform CA", sgx=True)
        return (pck, platform, self.root)

    def quote(self, registers: Mapping[str, bytes]) -> bytes:
        """A version 4 quote over a TD with these registers; those left out are zero."""
        header = b"\x04\0\x02\0\x81\0\0\0\0\0\0\0" + _QE_VENDOR + bytes(20)
        signed = header + td_report(registers)
        attestation = self.key("quote")
        bound = hashlib.sha256(_point(attestation) + _AUTH).digest()
        enclave = _qe_report(bound)
        pem = b"".join(one.public_bytes(Encoding.PEM) for one in self.pck_chain)
        certification = _sized(2, len(_AUTH)) + _AUTH + b"\x05\0" + _sized(4, len(pem)) + pem
        inner = enclave + _raw_signature(self.key("pck"), enclave) + certification
        outer = _raw_signature(attestation, signed) + _point(attestation) + b"\x06\0" + _sized(4, len(inner)) + inner
        return signed + _sized(4, len(outer)) + outer

    def collateral(self) -> bytes:
        """What Intel's service would say of this platform (JSON, as dcap-qvl takes it)."""
        window = {"issueDate": stamp(self.issued), "nextUpdate": stamp(self.expires)}
        tcb_info = json.dumps(self._tcb_info(window), separators=(",", ":"))
        qe_identity = json.dumps(self._qe_identity(window), separators=(",", ":"))
        signer = self._certificate("tcb", "Lab SGX TCB Signing", "root", "Lab SGX Root CA")
        signers, issuers = (_pem([one, self.root]) for one in (signer, self.pck_chain[1]))
        return json.dumps(
            {
                "pck_crl_issuer_chain": issuers,
                "root_ca_crl": self._crl("root", "Lab SGX Root CA", ()).hex(),
                "pck_crl": self._crl("platform", "Lab SGX PCK Platform CA", self.revoked).hex(),
                "tcb_info_issuer_chain": signers,
                "tcb_info": tcb_info,
                "tcb_info_signature": _raw_signature(self.key("tcb"), tcb_info.encode()).hex(),
                "qe_identity_issuer_chain": signers,
                "qe_identity": qe_identity,
                "qe_identity_signature": _raw_signature(self.key("tcb"), qe_identity.encode()).hex(),
            }
        ).encode()

    def _tcb_info(self, window: Mapping[str, str]) -> dict[str, Any]:
        module = {"mrsigner": _SEAM_SIGNER.hex(), "attributes": "0" * 16, "attributesMask": "F" * 16}
        level = {"tcbDate": "2024-03-13T00:00:00Z", "tcbStatus": "UpToDate"}
        components = [{"svn": _SVN}] * 16
        tcb = {"sgxtcbcomponents": components, "pcesvn": _SVN, "tdxtcbcomponents": components}
        stated = {"tcbStatus": self.tcb_status, "advisoryIDs": list(self.advisories)}
        modules = [{"id": "TDX_05", **module, "tcbLevels": [{"tcb": {"isvsvn": _SVN}, **level}]}]
        head = {"id": "TDX", "version": 3, **window, "fmspc": FMSPC.hex().upper(), "pceId": "0000", "tcbType": 0}
        rest = {"tdxModule": module, "tdxModuleIdentities": modules, "tcbLevels": [{"tcb": tcb, **level, **stated}]}
        return {**head, "tcbEvaluationDataNumber": self.evaluation, **rest}

    def _qe_identity(self, window: Mapping[str, str]) -> dict[str, Any]:
        masks = {"miscselect": "0" * 8, "miscselectMask": "F" * 8, "attributes": _QE_ATTRIBUTES.hex()}
        signer = {"attributesMask": "FBFFFFFFFFFFFFFF0000000000000000", "mrsigner": _QE_SIGNER.hex(), "isvprodid": 2}
        level = {"tcb": {"isvsvn": _SVN}, "tcbDate": "2024-03-13T00:00:00Z", "tcbStatus": "UpToDate"}
        head = {"id": "TD_QE", "version": 2, **window, "tcbEvaluationDataNumber": self.evaluation}
        return {**head, **masks, **signer, "tcbLevels": [level]}

    def _certificate(
        self, name: str, subject: str, issuer: str, issued_by: str, *, path_length: int | None = None, sgx: bool = False
    ) -> x509.Certificate:
        keys, ca = (self.key(name), self.key(issuer)), path_length is not None
        more = [x509.UnrecognizedExtension(x509.ObjectIdentifier(_SGX_OID), _sgx_extension())] if sgx else []
        return lab_certificate(subject, issued_by, *keys, ca=ca, path_length=path_length, extensions=more)

    def _crl(self, issuer: str, name: str, revoked: Sequence[int]) -> bytes:
        key = self.key(issuer)
        builder = x509.CertificateRevocationListBuilder(lab_name(name), self.issued, self.expires)
        builder = builder.add_extension(x509.CRLNumber(1), critical=False)
        by = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
        builder = builder.add_extension(by, critical=False)
        for serial in revoked:
            entry = x509.RevokedCertificateBuilder(serial, self.issued)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True).public_bytes(Encoding.DER)


_AUTH = bytes(range(32))
_QE_ATTRIBUTES = bytes.fromhex("11000000000000000000000000000000")
#: Registers of a TD report version 1.0 in their order, with their sizes (bytes).
_TD_LAYOUT = (
    *(("tee_tcb_svn", 16), ("mr_seam", 48), ("mr_signer_seam", 48), ("seam_attributes", 8), ("td_attributes", 8)),
    *(("xfam", 8), ("mr_td", 48), ("mr_config_id", 48), ("mr_owner", 48), ("mr_owner_config", 48)),
    *(("rt_mr0", 48), ("rt_mr1", 48), ("rt_mr2", 48), ("rt_mr3", 48), ("report_data", 64)),
)


def td_report(registers: Mapping[str, bytes]) -> bytes:
    """The 584-byte body of a quote; registers that are left out are zero but for the module's."""
    fixed = {"tee_tcb_svn": bytes([_SVN, 5] + [_SVN] * 14), "td_attributes": bytes.fromhex("0000001000000000")}
    filled = {**fixed, **registers}
    body = b"".join(filled.get(name, bytes(size)).ljust(size, b"\0") for name, size in _TD_LAYOUT)
    assert filled.keys() <= dict(_TD_LAYOUT).keys()
    assert len(body) == 584
    return body


def _qe_report(bound: bytes) -> bytes:
    """The quoting enclave's SGX report (384 bytes): its signer, its version, what it vouches for."""
    head = bytes([_SVN] * 16) + bytes(32) + _QE_ATTRIBUTES + bytes(32) + bytes(32) + _QE_SIGNER + bytes(96)
    return head + _sized(2, 2) + _sized(2, _SVN) + bytes(60) + bound + bytes(32)


def _sized(width: int, number: int) -> bytes:
    return number.to_bytes(width, "little")


def _pem(chain: Sequence[x509.Certificate]) -> str:
    return b"".join(one.public_bytes(Encoding.PEM) for one in chain).decode()


def _sgx_extension() -> bytes:
    """Intel's PCK extension: platform id, TCB, PCE id, family, type and configuration (DER)."""
    base = bytes.fromhex("2a864886f84d010d01")

    def entry(path: Sequence[int], *value: bytes) -> bytes:
        return tlv(0x30, tlv(0x06, base + bytes(path)), *value)

    svns = [entry((2, number), tlv(0x02, bytes([_SVN]))) for number in range(1, 18)]
    tcb = entry((2,), tlv(0x30, *svns, entry((2, 18), tlv(0x04, bytes([_SVN] * 16)))))
    settings = [entry((7, number), tlv(0x01, b"\xff")) for number in range(1, 4)]
    return tlv(
        0x30,
        entry((1,), tlv(0x04, PPID)),
        tcb,
        entry((3,), tlv(0x04, bytes(2))),
        entry((4,), tlv(0x04, FMSPC)),
        entry((5,), tlv(0x0A, b"\x01")),
        entry((6,), tlv(0x04, bytes(16))),
        entry((7,), tlv(0x30, *settings)),
    )
