"""Certificate chains and ECDSA signatures, as NVIDIA and AMD use them.

The path validation of ``cryptography`` refuses NVIDIA's reference-value chain, for its dates, and
AMD's, for RSA-PSS. So the walk along a chain is written out here: length, names and signatures,
validity at a given time, usage, pinned root (RFC 5280 section 6.1). Name constraints and policies
do not occur in these chains; a certificate with an unknown critical extension is refused.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID, NameOID

from otr_core.errors import EvidenceError, InputError, reported_as

# SHA-256 of the DER certificates NVIDIA publishes as roots: "NVIDIA Device Identity CA"
# (verifier_device_root.pem) and "NVIDIA CoRIM signing Root CA" (verifier_RIM_root.pem) of
# nv-local-gpu-verifier 2.7.3.
NVIDIA_DEVICE_ROOT_SHA256 = "102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48"
NVIDIA_RIM_ROOT_SHA256 = "12977b5115acb0381179279fffeb5a8c4d264971ebb32298023a465fa41df5d1"
#: AMD's roots (ARK) by processor family, as its key distribution service gives them out (the same in
#: go-sev-guest, ``verify/trust``).
AMD_ROOTS_SHA256 = (
    ("Milan", "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd"),
    ("Genoa", "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1"),
    ("Turin", "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a"),
)


@dataclass(frozen=True)
class TrustRoots:
    """What chains must end in: fingerprints (hex SHA-256) for devices, manifests and AMD's families,
    DER for quotes.

    Any other roots than the vendors' make evidence *simulated*: it passes only under a policy that
    allows that. None stands for Intel's root, which dcap-qvl pins.
    """

    device: str = NVIDIA_DEVICE_ROOT_SHA256
    rim: str = NVIDIA_RIM_ROOT_SHA256
    quote: bytes | None = None
    amd: tuple[tuple[str, str], ...] = AMD_ROOTS_SHA256


VENDOR_ROOTS = TrustRoots()
MAX_CHAIN_BYTES = 64 * 1024
_UNDERSTOOD_CRITICAL = {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, ExtensionOID.EXTENDED_KEY_USAGE}
#: What the X.509 library raises on bytes that are no certificate or revocation list. Not all of
#: these derive from ValueError.
UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension)

Chain = tuple[x509.Certificate, ...]
T = TypeVar("T")


class VerifiedCache:
    """Remembers results that do not depend on time (signatures, never validity), keyed by content.

    When it is full, the entry that was not asked for the longest is dropped, so that a stream of
    bundles runs in constant memory. A cache that calls share changes how long an appraisal takes,
    never what it says.

    Args:
        max_entries: at least 1.
    """

    def __init__(self, max_entries: int = 1024) -> None:
        if max_entries < 1:
            raise InputError(f"max_entries: found {max_entries}, expected at least 1")
        self._max, self._entries, self._lock = max_entries, OrderedDict[Hashable, Any](), threading.Lock()

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The remembered result for ``key``, or that of ``compute()``.

        Threads may share a cache. Two that ask for the same at once may both compute it: nobody
        waits for another's signature.
        """
        with self._lock:
            found = self._entries.get(key, self)
            if found is not self:
                self._entries.move_to_end(key)
                return cast(T, found)
        result = compute()
        with self._lock:
            self._entries[key] = result
            while len(self._entries) > self._max:
                self._entries.popitem(last=False)
        return result


class OwnCache(VerifiedCache):
    """All that one appraisal asks for, in front of a cache that others share: however small that is,
    and however much a bundle holds, nothing is verified twice in one appraisal."""

    def __init__(self, shared: VerifiedCache) -> None:
        super().__init__()
        self._shared, self._own = shared, dict[Hashable, Any]()

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        if key not in self._own:
            self._own[key] = self._shared.once(key, compute)
        return cast(T, self._own[key])


def as_utc(as_of: datetime) -> datetime:
    """``as_of`` in UTC.

    Raises:
        InputError: it names no time zone.
    """
    if as_of.tzinfo is UTC:
        return as_of
    if as_of.tzinfo is None:
        raise InputError(f"as_of: found {as_of.isoformat()} without a time zone, expected for example ...Z")
    with reported_as(InputError, f"as_of: found {as_of.isoformat()}", OverflowError, expected="a year from 1 to 9999"):
        return as_of.astimezone(UTC)


@functools.lru_cache(maxsize=256)  # an appraisal says one moment many times
def stamp(moment: datetime) -> str:
    """``moment`` in the form ``2025-01-15T00:00:00Z``."""
    return as_utc(moment).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_chain(data: bytes, *, what: str = "certificate chain") -> Chain:
    """Certificates of a PEM file, leaf first.

    Raises:
        EvidenceError: no PEM certificates, or one that cannot be read.
    """
    if len(data) > MAX_CHAIN_BYTES:
        raise EvidenceError(f"{what}: found {len(data)} bytes, expected at most {MAX_CHAIN_BYTES}")
    if b"-----BEGIN CERTIFICATE-----" not in data:
        raise EvidenceError(f"{what}: found no PEM certificate, expected a chain, leaf first")
    return readable(lambda: x509.load_pem_x509_certificates(data), what=what)


def parse_ders(ders: Sequence[bytes], *, what: str, cache: VerifiedCache | None = None) -> Chain:
    """Certificates from their DER bytes, in order.

    Args:
        cache: remembers certificates by content; it never changes the outcome.

    Raises:
        EvidenceError: one of them cannot be read.
    """
    known = cache or VerifiedCache()

    def load(der: bytes) -> x509.Certificate:
        return known.once(("certificate", der), lambda: _read(x509.load_der_x509_certificate(der)))

    with _unreadable(what):
        return tuple([load(der) for der in ders])


def readable(load: Callable[[], Iterable[x509.Certificate]], *, what: str) -> Chain:
    """What ``load`` gives. Every part that is decoded lazily has been read, so nothing fails later.

    Raises:
        EvidenceError: some certificate cannot be read.
    """
    with _unreadable(what):
        return tuple([_read(one) for one in load()])


def _unreadable(what: str) -> AbstractContextManager[None]:
    found = f"{what}: found a certificate that cannot be read"
    return reported_as(EvidenceError, found, *UNREADABLE, UserWarning, limit=100)


def _read(one: x509.Certificate) -> x509.Certificate:
    """``one``, of which every part that is decoded lazily has been decoded."""
    _ = (one.not_valid_before_utc, one.not_valid_after_utc, one.signature_hash_algorithm, one.public_key())
    _ = [each.value for each in one.extensions]
    _check_form(one)
    return one


#: Fewest and most letters of an attribute of a name (RFC 5280 appendix A).
_LETTERS = {NameOID.COUNTRY_NAME: (2, 2), NameOID.JURISDICTION_COUNTRY_NAME: (2, 2), NameOID.COMMON_NAME: (1, 64)}


def _check_form(certificate: x509.Certificate) -> None:
    """Raise ``ValueError`` where cryptography breaks off at most with a warning.

    Whether a warning does anything is the host program's choice, and the list of filters that it
    chose with is one for all threads: so it is neither relied on nor changed.
    """
    if certificate.serial_number < 1:
        raise ValueError(f"serial number {certificate.serial_number}")
    for attribute in (*certificate.subject, *certificate.issuer):
        fewest, most = _LETTERS.get(attribute.oid, (0, 2**16))
        size = len(attribute.value.encode() if isinstance(attribute.value, str) else attribute.value)
        if not fewest <= size <= most:
            raise ValueError(f"a name of {size} letters, expected {fewest} to {most}")


def fingerprint(certificate: x509.Certificate) -> str:
    """Lower-case hex SHA-256 of the DER bytes."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def der(chain: Sequence[x509.Certificate]) -> bytes:
    """All certificates of a chain as one run of DER bytes: what claims about a chain rest on."""
    return b"".join(certificate.public_bytes(Encoding.DER) for certificate in chain)


def common_name(name: x509.Name) -> str:
    """The last common name, or the whole name without one; unprintable letters become ``?``."""
    names = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    text = str(names[-1].value) if names else name.rfc4514_string()
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)


def length_problem(chain: Chain, length: int) -> str | None:
    """None, or how the number of certificates differs from ``length``."""
    return None if len(chain) == length else f"found {len(chain)} certificates, expected {length}"


def link_problem(chain: Chain, cache: VerifiedCache) -> str | None:
    """None, or which certificate is not named and signed by the next one."""
    for position, (child, issuer) in enumerate(itertools.pairwise(chain)):
        if not cache.once(("link", child, issuer), functools.partial(issued_by, child, issuer)):
            signer = f"certificate {position + 1} ({common_name(issuer.subject)})"
            return f"certificate {position} ({common_name(child.subject)}) is not signed by {signer}"
    return None


def issued_by(child: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether ``issuer``'s name and key are those that issued ``child``."""
    try:
        child.verify_directly_issued_by(issuer)
    except (*UNREADABLE, InvalidSignature):
        return False
    return True


def validity_problem(chain: Chain, as_of: datetime) -> str | None:
    """None, or which certificate is not valid at ``as_of``."""
    for certificate in chain:
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if as_of < start:
            return f"{common_name(certificate.subject)} is valid from {stamp(start)}, after {stamp(as_of)}"
        if as_of > end:
            return f"{common_name(certificate.subject)} expired at {stamp(end)}, before {stamp(as_of)}"
    return None


def usage_problem(chain: Chain) -> str | None:
    """None, or which certificate may not be used as it is (RFC 5280 section 6.1.4 k to n)."""
    for position, certificate in enumerate(chain):
        problem = _misuse(position, certificate)
        if problem is not None:
            return f"{common_name(certificate.subject)} {problem}"
    return None


def _misuse(position: int, certificate: x509.Certificate) -> str | None:
    for one in certificate.extensions:
        if one.critical and one.oid not in _UNDERSTOOD_CRITICAL:
            return f"has an unknown critical extension {one.oid.dotted_string}"
    basic, usage = extension(certificate, x509.BasicConstraints), extension(certificate, x509.KeyUsage)
    if position == 0:
        if basic is not None and basic.ca:
            return "is a CA, expected an end entity"
        if usage is None or not usage.digital_signature:
            return "may not sign data (key usage digitalSignature)"
    elif basic is None or not basic.ca:
        return "is no CA but issued a certificate"
    elif usage is None or not usage.key_cert_sign:
        return "may not sign certificates (key usage keyCertSign)"
    elif basic.path_length is not None and basic.path_length < position - 1:
        return f"allows {basic.path_length} intermediate certificates below it, found {position - 1}"
    return None


def root_problem(chain: Chain, sha256: str) -> str | None:
    """None, or how the last certificate differs from the pinned one."""
    found = fingerprint(chain[-1])
    return None if found == sha256 else f"chain ends in {common_name(chain[-1].subject)} {found}, expected {sha256}"


def extension(certificate: x509.Certificate, kind: type[Any]) -> Any | None:
    """Value of the extension of this class; None without it."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def signature_problem(
    key: object, signature: bytes, data: bytes, algorithm: hashes.HashAlgorithm, curve: type[ec.EllipticCurve]
) -> str | None:
    """None, or why ``signature`` is not one of ``data``.

    Args:
        key: public key; anything but an EC key on ``curve`` is a problem, not an error.
        signature: r ‖ s, big endian, each as long as the curve's order.
    """
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, curve):
        return f"signing key is not on {curve.name}"
    size = key.key_size // 8
    if len(signature) != 2 * size:
        return f"signature has {len(signature)} bytes, expected {2 * size}"
    r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
    try:
        # OpenSSL checks that r and s are in range, and refuses zeros.
        key.verify(encode_dss_signature(r, s), data, ec.ECDSA(algorithm))
    except InvalidSignature:
        info = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return f"{curve.name} signature does not verify with the key {hashlib.sha256(info).hexdigest()[:16]}"
    return None
