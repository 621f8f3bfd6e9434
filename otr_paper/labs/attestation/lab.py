"""A laboratory device: real report bytes re-signed under keys that the laboratory holds.

Whoever extracts a device's attestation key can do what these functions do under the vendor's own
root. Here the root is the laboratory's, so that such evidence is *simulated* for everyone else.
Keys come from a seed: same seed, same keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import NameOID
from lxml import etree
from signxml import CanonicalizationMethod, DigestAlgorithm, SignatureConstructionMethod, SignatureMethod, XMLSigner

from otr_core.attestation.chain import Chain, TrustRoots, common_name, fingerprint
from otr_core.attestation.report import SIGNATURE_BYTES

_FROM, _TO = datetime(2020, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
_NONCE_AT = 4  # offset of the nonce in the SPDM request


@dataclass(frozen=True)
class LabDevice:
    """A chain with the names and the firmware id of a real one, and the leaf's key.

    Attributes:
        chain: five certificates, leaf first, under the laboratory's root.
        key: the leaf's private key: what an attacker extracts.
    """

    chain: Chain
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in self.chain)

    @property
    def roots(self) -> TrustRoots:
        """Roots under which this device verifies."""
        return TrustRoots(device=fingerprint(self.chain[-1]))

    def sign(self, report: bytes, *, nonce: bytes | None = None) -> bytes:
        """``report`` signed with this device's key, after replacing its nonce if one is given."""
        signed = report[:-SIGNATURE_BYTES]
        if nonce is not None:
            signed = signed[:_NONCE_AT] + nonce + signed[_NONCE_AT + len(nonce) :]
        der = self.key.sign(signed, ec.ECDSA(hashes.SHA384(), deterministic_signing=True))
        return signed + b"".join(part.to_bytes(SIGNATURE_BYTES // 2, "big") for part in decode_dss_signature(der))


def lab_key(seed: bytes) -> ec.EllipticCurvePrivateKey:
    """P-384 key derived from ``seed``."""
    curve = ec.SECP384R1()
    return ec.derive_private_key(int.from_bytes(hashlib.sha384(seed).digest(), "big") % (2**383) + 1, curve)


def lab_device(
    model: Chain, seed: bytes, *, serial: int | None = None, firmware: x509.UnrecognizedExtension | None = None
) -> LabDevice:
    """A device with the names and firmware id of the real ``model``, under the laboratory's root.

    Args:
        serial, firmware: the leaf's serial number and DICE extension, if they are to differ from
            the model's.
    """
    keys = [lab_key(seed + bytes([position])) for position in range(len(model))]
    certificates = []
    for position, original in enumerate(model):
        issuer = min(position + 1, len(model) - 1)
        number = serial if serial is not None and position == 0 else original.serial_number
        ca = position > 0
        builder = _builder(original.subject, model[issuer].subject, keys[position], number)
        builder = builder.add_extension(lab_usage(ca=ca), critical=True)
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        for extension in original.extensions:
            if isinstance(extension.value, x509.UnrecognizedExtension):  # the firmware id
                builder = builder.add_extension(firmware or extension.value, critical=False)
        certificates.append(builder.sign(keys[issuer], hashes.SHA384(), ecdsa_deterministic=True))
    return LabDevice(tuple(certificates), keys[0])


def lab_name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def lab_certificate(
    subject: str,
    issuer: str,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    *,
    ca: bool = False,
    path_length: int | None = None,
    usage: x509.KeyUsage | None = None,
    until: datetime = _TO,
    extensions: Sequence[x509.UnrecognizedExtension] = (),
) -> x509.Certificate:
    """A certificate that says ``issuer`` vouches for ``key``; the serial number is the key's hash.

    Args:
        usage: of the key; None for what a CA or an end entity needs. until: end of its validity.
    """
    identity = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    number = int.from_bytes(identity.digest[:8], "big") | 1
    builder = x509.CertificateBuilder(lab_name(issuer), lab_name(subject), key.public_key(), number, _FROM, until)
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
    builder = builder.add_extension(usage or lab_usage(ca=ca), critical=True)
    by = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    for extension in (identity, by, *extensions):
        builder = builder.add_extension(extension, critical=False)
    digest = hashes.SHA384() if isinstance(signer.curve, ec.SECP384R1) else hashes.SHA256()
    return builder.sign(signer, digest, ecdsa_deterministic=True)


def tlv(tag: int, *parts: bytes) -> bytes:
    """DER of one element of fewer than 65536 bytes."""
    body = b"".join(parts)
    size = len(body)
    return bytes([tag, size] if size < 128 else [tag, 0x82, *size.to_bytes(2, "big")]) + body


def redated_ocsp(response: ocsp.OCSPResponse, key: ec.EllipticCurvePrivateKey, at: datetime) -> bytes:
    """The response (DER) as if produced at ``at`` and signed then with ``key``.

    cryptography writes the hour of the machine's clock, which is no argument of its builder.
    """
    wall, wanted = (f"{moment:%Y%m%d%H%M%SZ}".encode() for moment in (response.produced_at_utc, at))
    signed = response.tbs_response_bytes.replace(wall, wanted)
    algorithm = tlv(0x30, bytes.fromhex("06082a8648ce3d040303"))  # ecdsa-with-SHA384
    signature = key.sign(signed, ec.ECDSA(hashes.SHA384(), deterministic_signing=True))
    basic = tlv(0x30, signed, algorithm, tlv(0x03, b"\0", signature))
    content = tlv(0x30, bytes.fromhex("06092b0601050507300101"), tlv(0x04, basic))
    return tlv(0x30, b"\x0a\x01\0", tlv(0xA0, content))


def lab_ocsp(certificate: x509.Certificate, issuer: x509.Certificate, at: datetime, seed: bytes) -> bytes:
    """An OCSP *good* for ``certificate`` (DER), not by ``issuer`` but by a laboratory responder."""
    key = lab_key(seed + b"ocsp")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Lab responder for {common_name(issuer.subject)}")])
    responder = (
        _builder(name, name, key, 1)
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.OCSP_SIGNING]), critical=False)
        .sign(key, hashes.SHA384(), ecdsa_deterministic=True)
    )
    builder = ocsp.OCSPResponseBuilder().add_response(
        certificate, issuer, hashes.SHA384(), ocsp.OCSPCertStatus.GOOD, at, None, None, None
    )
    builder = builder.certificates([responder]).responder_id(ocsp.OCSPResponderEncoding.HASH, responder)
    return builder.sign(key, hashes.SHA384()).public_bytes(Encoding.DER)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, serial: int
) -> x509.CertificateBuilder:
    """A certificate of ``key`` that is valid at all times, to be extended and signed."""
    return x509.CertificateBuilder(issuer, subject, key.public_key(), serial, _FROM, _TO)


def lab_usage(*, ca: bool) -> x509.KeyUsage:
    """What a CA (certificates and revocation lists) or an end entity (data) may sign."""
    no = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False)
    return x509.KeyUsage(
        digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, encipher_only=False, decipher_only=False, **no
    )


def lab_rim(rim: bytes, chain: Chain, seed: bytes) -> bytes:
    """A manifest re-signed by a leaf with the real signer's name; the rest of the chain is real."""
    key, original = lab_key(seed + b"rim"), chain[0]
    leaf = (
        _builder(original.subject, original.issuer, key, original.serial_number)
        .add_extension(lab_usage(ca=False), critical=True)
        .sign(key, hashes.SHA384(), ecdsa_deterministic=True)
    )
    return sign_rim(rim, key, [leaf, *chain[1:]])


def sign_rim(rim: bytes, key: ec.EllipticCurvePrivateKey, chain: Sequence[x509.Certificate]) -> bytes:
    """The manifest with ``key``'s signature in place of its own; ``chain`` stands in it."""
    root = etree.fromstring(rim, parser=etree.XMLParser(resolve_entities=False, no_network=True))
    for signature in root.findall("{http://www.w3.org/2000/09/xmldsig#}Signature"):
        root.remove(signature)
    signer = XMLSigner(
        method=SignatureConstructionMethod.enveloped,
        signature_algorithm=SignatureMethod.ECDSA_SHA384,
        digest_algorithm=DigestAlgorithm.SHA384,
        c14n_algorithm=CanonicalizationMethod.CANONICAL_XML_1_1,
    )
    signed: bytes = etree.tostring(signer.sign(root, key=key, cert=list(chain)))
    return signed
