"""Sealed queries and answers: HPKE (RFC 9180), base mode, X25519, HKDF-SHA256, AES-128-GCM.

The key schedule is written out here because the HPKE of ``cryptography`` takes neither associated
data nor the ephemeral key: the RFC's vectors could not be run through it, and sealing would draw
randomness of its own. Curve, AEAD and HMAC are the library's, and its HPKE is the second opinion in
the tests.
"""

from __future__ import annotations

import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from otr_core.errors import InputError, SealError

#: Bytes that sealing adds: the encapsulated key (32) and the AEAD tag (16).
OVERHEAD_BYTES = 48

_KEM, _KDF, _AEAD = 0x0020, 0x0001, 0x0001  # RFC 9180 section 7
_KEM_SUITE = b"KEM" + _KEM.to_bytes(2, "big")
_HPKE_SUITE = b"HPKE" + b"".join(number.to_bytes(2, "big") for number in (_KEM, _KDF, _AEAD))


def seal(public_key: bytes, plaintext: bytes, *, ephemeral: bytes, info: bytes = b"", aad: bytes = b"") -> bytes:
    """``enc ‖ ciphertext`` for the holder of an X25519 key (RFC 9180 section 6.1, SealBase).

    Args:
        public_key: 32 bytes of the receiver.
        info, aad: what the message belongs to; opening needs the same.
        ephemeral: at least 32 fresh secret bytes (ikmE); used for one message only.

    Raises:
        InputError: not an X25519 public key, or too little randomness.
    """
    if len(ephemeral) < 32:
        raise InputError(f"ephemeral secret: found {len(ephemeral)} bytes, expected at least 32")
    secret = derive_secret(ephemeral)
    enc = hpke_public(secret)
    try:
        shared = _exchange(secret, public_key)
    except ValueError as error:  # wrong length, or a point of small order
        raise InputError("HPKE public key: not usable, expected 32 bytes of an X25519 key") from error
    key, nonce = key_schedule(_kem_secret(shared, enc, public_key), info)
    return enc + AESGCM(key).encrypt(nonce, plaintext, aad)


def open_sealed(secret_key: bytes, sealed: bytes, *, info: bytes = b"", aad: bytes = b"") -> bytes:
    """The plaintext that ``seal`` was given (RFC 9180 section 6.1, OpenBase).

    Args:
        secret_key: 32 bytes of the receiver.
        info, aad: what the message belongs to, as in ``seal``.

    Raises:
        SealError: the message was sealed for another key or with another ``info`` or ``aad``, or it
            was altered. HPKE cannot tell these apart.
    """
    if len(sealed) < OVERHEAD_BYTES:
        raise SealError(f"sealed message: found {len(sealed)} bytes, expected at least {OVERHEAD_BYTES}")
    enc = sealed[:32]
    try:
        shared = _kem_secret(_exchange(secret_key, enc), enc, hpke_public(secret_key))
        key, nonce = key_schedule(shared, info)
        return AESGCM(key).decrypt(nonce, sealed[32:], aad)
    except (InvalidTag, ValueError) as error:
        raise SealError("sealed message: does not open; expected the key and order that it was sealed for") from error


def derive_secret(ikm: bytes) -> bytes:
    """DeriveKeyPair for X25519 (RFC 9180 section 7.1.3): the 32-byte secret of ``ikm``."""
    return _expand(_extract(_KEM_SUITE, b"", b"dkp_prk", ikm), _KEM_SUITE, b"sk", b"", 32)


def hpke_public(secret_key: bytes) -> bytes:
    """32-byte X25519 public key of a 32-byte secret."""
    return X25519PrivateKey.from_private_bytes(secret_key).public_key().public_bytes_raw()


def key_schedule(shared_secret: bytes, info: bytes) -> tuple[bytes, bytes]:
    """Key (16 bytes) and nonce (12 bytes) of an exchange's first message, the only one it has here.

    This is KeySchedule of base mode (section 5.1), which knows no pre-shared key.
    """
    psk_id_hash = _extract(_HPKE_SUITE, b"", b"psk_id_hash", b"")
    info_hash = _extract(_HPKE_SUITE, b"", b"info_hash", info)
    context = b"\x00" + psk_id_hash + info_hash
    secret = _extract(_HPKE_SUITE, shared_secret, b"secret", b"")
    key = _expand(secret, _HPKE_SUITE, b"key", context, 16)
    return key, _expand(secret, _HPKE_SUITE, b"base_nonce", context, 12)


def _exchange(secret_key: bytes, public_key: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(secret_key).exchange(X25519PublicKey.from_public_bytes(public_key))


def _kem_secret(dh: bytes, enc: bytes, receiver: bytes) -> bytes:
    """ExtractAndExpand of the DHKEM (section 4.1)."""
    prk = _extract(_KEM_SUITE, b"", b"eae_prk", dh)
    return _expand(prk, _KEM_SUITE, b"shared_secret", enc + receiver, 32)


def _extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    """LabeledExtract (section 4)."""
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, "sha256")


def _expand(prk: bytes, suite: bytes, label: bytes, info: bytes, length: int) -> bytes:
    """LabeledExpand (section 4) of at most 32 bytes, one HKDF block: this suite needs no more."""
    return hmac.digest(prk, length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info + b"\x01", "sha256")[:length]
