"""Readings of evidence that use none of this project's code: raw offsets, ``cryptography``, lxml and openssl.

Each says whether the vendor's signatures hold, at whatever time.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import itertools
import json
import re
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

DS = "{http://www.w3.org/2000/09/xmldsig#}"


def ecdsa(key: Any, signature: bytes, signed: bytes, digest: hashes.HashAlgorithm) -> bool:
    """Whether r ‖ s (big endian) is the key's signature."""
    half = len(signature) // 2
    r, s = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
    try:
        key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(digest))
    except (InvalidSignature, ValueError):
        return False
    return True


@functools.lru_cache(maxsize=512)
def openssl_chain(chain: tuple[bytes, ...], root: bytes) -> bool:
    """Whether openssl follows the chain (DER, leaf first) to the root (PEM)."""
    pems = [x509.load_der_x509_certificate(one).public_bytes(Encoding.PEM) for one in chain]
    with tempfile.TemporaryDirectory() as folder:
        for name, data in (("root", root), ("leaf", pems[0]), ("rest", b"".join(pems[1:]))):
            (Path(folder) / name).write_bytes(data)
        words = ["openssl", "verify", "-no_check_time", "-CAfile", "root", "-untrusted", "rest", "leaf"]
        return subprocess.run(words, cwd=folder, capture_output=True, check=False).returncode == 0


def report(raw: bytes, pem: bytes, root: bytes) -> bool:
    """An NVIDIA report: all but its last 96 bytes are signed by the leaf of a chain to NVIDIA's root."""
    chain = x509.load_pem_x509_certificates(pem)
    signed = ecdsa(chain[0].public_key(), raw[-96:], raw[:-96], hashes.SHA384())
    return signed and openssl_chain(tuple(one.public_bytes(Encoding.DER) for one in chain), root)


def manifest(raw: bytes, root: bytes) -> bool:
    """A manifest: the digest of all but its signature, that signature, and the signer's chain."""
    document = etree.fromstring(raw)
    (signature,) = document.iter(f"{DS}Signature")
    info = signature.find(f"{DS}SignedInfo")
    method = info.find(f"{DS}CanonicalizationMethod").get("Algorithm")

    def canonical(element: Any) -> bytes:
        comments = method.endswith("WithComments")
        return bytes(etree.tostring(element, method="c14n", exclusive="exc-c14n" in method, with_comments=comments))

    value = base64.b64decode(signature.find(f"{DS}SignatureValue").text)
    ders = [base64.b64decode(one.text) for one in signature.iter(f"{DS}X509Certificate")]
    key = x509.load_der_x509_certificate(ders[0]).public_key()
    if not ecdsa(key, value, canonical(info), hashes.SHA384()):
        return False
    stated = base64.b64decode(info.find(f".//{DS}DigestValue").text)
    before, tail = signature.getprevious(), signature.tail or ""
    if before is None:
        document.text = (document.text or "") + tail
    else:
        before.tail = (before.tail or "") + tail
    document.remove(signature)
    return hashlib.sha384(canonical(document)).digest() == stated and openssl_chain(tuple(ders), root)


def intel_quote(raw: bytes) -> bool:
    """A TDX or SGX quote: its own key signed it, the quoting enclave vouches for that key, a certified
    platform for the enclave, and that certificate's chain is Intel's."""
    version = int.from_bytes(raw[:2], "little")
    size = {3: 384, 4: 584}.get(version) or 6 + int.from_bytes(raw[50:54], "little")
    signed, at = raw[: 48 + size], 48 + size + 4
    signature, point = raw[at : at + 64], raw[at + 64 : at + 128]
    at += 128 if version == 3 else 134  # behind version 3 the certification data has a head of its own
    enclave, vouched = raw[at : at + 384], raw[at + 384 : at + 448]
    extra = int.from_bytes(raw[at + 448 : at + 450], "little")
    said = raw[at + 450 : at + 450 + extra]
    pem = raw[at + 450 + extra + 6 :]
    found = re.findall(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", pem, re.S)
    chain = [x509.load_pem_x509_certificate(one) for one in found]
    if len(chain) != 3 or enclave[320:352] != hashlib.sha256(point + said).digest():
        return False
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\4" + point)
    holds = ecdsa(key, signature, signed, hashes.SHA256())
    holds &= ecdsa(chain[0].public_key(), vouched, enclave, hashes.SHA256())
    whose = hashlib.sha256(chain[2].public_bytes(Encoding.DER)).hexdigest()
    return holds and whose == INTEL_ROOT and all(_issued(child, parent) for child, parent in itertools.pairwise(chain))


#: SHA-256 of "Intel SGX Root CA" as Intel publishes it (certificates.trustedservices.intel.com).
INTEL_ROOT = "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"


def _issued(child: x509.Certificate, parent: x509.Certificate) -> bool:
    try:
        child.verify_directly_issued_by(parent)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def token(text: str, keys: Iterable[dict[str, Any]]) -> bool:
    """A token (JWT, ES384) under one of the published keys that it names."""
    first, second, third = text.split(".")
    head = json.loads(_b64(first))
    for one in keys:
        if one.get("kid") == head.get("kid") and one.get("crv") == "P-384":
            x, y = (int.from_bytes(_b64(one[name]), "big") for name in ("x", "y"))
            key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP384R1()).public_key()
            if ecdsa(key, _b64(third), f"{first}.{second}".encode(), hashes.SHA384()):
                return True
    return False


def _b64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def amd_report(raw: bytes, pem: bytes) -> bool:
    """An AMD report: signed by the key (P-384) of one of the certificates, numbers lowest byte first.

    Whether those are AMD's, openssl is asked elsewhere (``test_snp.py``).
    """
    signature = raw[672:720][::-1] + raw[744:792][::-1]
    keys = [one.public_key() for one in x509.load_pem_x509_certificates(pem)]
    curve = [key for key in keys if isinstance(key, ec.EllipticCurvePublicKey)]
    return any(ecdsa(key, signature, raw[:672], hashes.SHA384()) for key in curve)
