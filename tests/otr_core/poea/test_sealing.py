from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from hypothesis import given
from hypothesis import strategies as st

from otr_core.errors import InputError, SealError
from otr_core.poea.sealing import OVERHEAD_BYTES, derive_secret, hpke_public, key_schedule, open_sealed, seal

SECRET, EPHEMERAL = derive_secret(b"r" * 32), b"e" * 32


@pytest.mark.outside
def test_rfc9180_vectors_of_our_suite(outside_file: Callable[[str], Path]) -> None:
    vectors = json.loads(outside_file("vectors/hpke-rfc9180/hpke_rfc9180_base_psk.json").read_bytes())
    own = [v for v in vectors if (v["mode"], v["kem_id"], v["kdf_id"], v["aead_id"]) == (0, 0x20, 1, 1)]
    assert len(own) == 1
    vector = {name: bytes.fromhex(value) for name, value in own[0].items() if isinstance(value, str)}
    assert derive_secret(vector["ikmR"]) == vector["skRm"]
    assert derive_secret(vector["ikmE"]) == vector["skEm"]
    assert hpke_public(vector["skRm"]) == vector["pkRm"]
    assert key_schedule(vector["shared_secret"], vector["info"]) == (vector["key"], vector["base_nonce"])
    first = {name: bytes.fromhex(value) for name, value in own[0]["encryptions"][0].items() if isinstance(value, str)}
    sealed = seal(vector["pkRm"], first["pt"], info=vector["info"], ephemeral=vector["ikmE"], aad=first["aad"])
    assert sealed == vector["enc"] + first["ct"]
    assert open_sealed(vector["skRm"], sealed, info=vector["info"], aad=first["aad"]) == first["pt"]


@given(st.binary(max_size=300), st.binary(max_size=40))
def test_the_library_opens_what_we_seal_and_the_other_way_round(plaintext: bytes, info: bytes) -> None:
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)
    key = X25519PrivateKey.from_private_bytes(SECRET)
    sealed = seal(hpke_public(SECRET), plaintext, info=info, ephemeral=EPHEMERAL)
    assert len(sealed) == len(plaintext) + OVERHEAD_BYTES
    assert suite.decrypt(sealed, key, info=info) == plaintext
    assert open_sealed(SECRET, suite.encrypt(plaintext, key.public_key(), info=info), info=info) == plaintext


@given(st.integers(0, 58), st.integers(1, 255))
def test_any_altered_byte_is_refused(at: int, flip: int) -> None:
    sealed = bytearray(seal(hpke_public(SECRET), b"hello world", info=b"job", ephemeral=EPHEMERAL))
    sealed[at] ^= flip
    if at == 31 and flip == 128:
        # X25519 ignores the highest bit of a coordinate; the key schedule does not, see the next
        # test
        return
    with pytest.raises(SealError):
        open_sealed(SECRET, bytes(sealed), info=b"job")


def test_wrong_key_info_aad_length_and_unused_bit() -> None:
    sealed = seal(hpke_public(SECRET), b"hello", info=b"job", ephemeral=EPHEMERAL, aad=b"a")
    assert open_sealed(SECRET, sealed, info=b"job", aad=b"a") == b"hello"
    high_bit = sealed[:31] + bytes([sealed[31] ^ 128]) + sealed[32:]
    for key, message, info, aad in (
        (derive_secret(b"x" * 32), sealed, b"job", b"a"),
        (SECRET, sealed, b"jobb", b"a"),
        (SECRET, sealed, b"job", b""),
        (SECRET, sealed[:-1], b"job", b"a"),
        (SECRET, sealed[: OVERHEAD_BYTES - 1], b"job", b"a"),
        (SECRET, b"", b"job", b"a"),
        (SECRET, bytes(32) + sealed[32:], b"job", b"a"),  # the point of order 1
        (SECRET, high_bit, b"job", b"a"),
    ):
        with pytest.raises(SealError):
            open_sealed(key, message, info=info, aad=aad)


def test_unusable_keys_and_little_randomness() -> None:
    for key in (b"", bytes(31), bytes(32)):
        with pytest.raises(InputError, match="HPKE public key"):
            seal(key, b"", info=b"", ephemeral=EPHEMERAL)
    with pytest.raises(InputError, match="found 31 bytes"):
        seal(hpke_public(SECRET), b"", info=b"", ephemeral=bytes(31))
