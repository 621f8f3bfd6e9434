"""How CPU and GPU evidence, and the key a verifier talks to, are tied together by the quote's report_data (64 bytes).

Each profile says which half commits to what, as found in production systems or, for ``otr``, as defined here:

    near      signing address or key, right-padded to 32 bytes ‖ nonce        (NEAR AI, Phala vllm-proxy)
    near_tls  SHA-256(address ‖ TLS fingerprint) ‖ nonce                      (NEAR AI with TLS)
    secretvm  SHA-256(TLS SubjectPublicKeyInfo) ‖ nonce                       (SecretVM, SecretAI)
    chutes    SHA-256(request nonce ‖ end-to-end key), which is also the GPU nonce, ‖ anything
    otr       H("keys", both public keys) ‖ nonce                             (this project)

``auto`` takes what all but ``chutes`` share: the second half is the nonce in the GPU's signed request. A relay is not
excluded by any of them: a genuine GPU elsewhere can be asked to sign the same nonce.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from otr_core.attestation.claims import ClaimLog, Source
from otr_core.encoding import tagged_hash

HALF = 32


def _padded(key: bytes) -> bytes:
    return key.ljust(HALF, b"\0") if key else b""


# What the first half commits to, computed from the key material the caller holds.
KEY_COMMITMENTS: dict[str, Callable[[bytes], bytes]] = {
    "near": _padded,
    "near_tls": lambda key: hashlib.sha256(key).digest(),
    "secretvm": lambda key: hashlib.sha256(key).digest(),
    "chutes": lambda key: hashlib.sha256(key).digest(),
    "otr": lambda key: tagged_hash("keys", key),
}


def check_binding(
    profile: str, report_data: bytes, gpu_nonces: frozenset[bytes], key: bytes | None, log: ClaimLog
) -> None:
    """Claims on the binding between one quote and the GPUs of a bundle.

    Args:
        report_data: 64 bytes from the quote.
        gpu_nonces: nonces in the signed requests of all devices; empty if the bundle has none.
        key: what the verifier knows of the serving key, in the form the profile hashes: address or raw key (near),
            address ‖ fingerprint (near_tls), SubjectPublicKeyInfo (secretvm), request nonce ‖ key (chutes), canonical
            JSON of both public keys (otr).
    """
    if gpu_nonces:
        half = report_data[:HALF] if profile == "chutes" else report_data[HALF:]
        problem = None
        if gpu_nonces != {half}:
            found = ", ".join(sorted(nonce.hex() for nonce in gpu_nonces))
            problem = f"report_data commits to {half.hex()}, the GPU's signed request carries {found}"
        good = f"report_data commits to the GPU's nonce {half.hex()} (profile {profile})"
        log.judge("gpu_nonce", problem, good, Source.HARDWARE, report_data)
    if profile == "auto":
        log.unknown(["key"], "the policy names no binding profile, so it is not known what the first half commits to")
    elif key is None:
        log.unknown(["key"], f"no key was given to compare with report_data (profile {profile})")
    else:
        expected = KEY_COMMITMENTS[profile](key)
        problem = None
        if expected != report_data[:HALF]:
            problem = f"report_data commits to {report_data[:HALF].hex()}, the key gives {expected.hex()}"
        log.judge("key", problem, f"report_data commits to the key (profile {profile})", Source.HARDWARE, report_data)
