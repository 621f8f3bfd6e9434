"""How a quote's report_data (64 bytes) ties CPU evidence to GPU evidence and to the serving key.

Each profile says what the two halves of report_data commit to. All but ``otr`` were found in
production systems:

    near      signing address or key, right-padded to 32 bytes ‖ nonce        (NEAR AI, Phala vllm-proxy)
    near_tls  SHA-256(address ‖ TLS fingerprint) ‖ nonce                      (NEAR AI with TLS)
    secretvm  SHA-256(TLS SubjectPublicKeyInfo) ‖ nonce                       (SecretVM, SecretAI)
    chutes    SHA-256(request nonce ‖ end-to-end key), which is also the GPU nonce, ‖ anything
    otr       H("keys", both public keys) ‖ nonce                             (this project)

``auto`` checks what all these have in common, whoever's convention it is: report_data commits to
the nonce in the GPU's signed request. One half is that nonce, or the first half is the SHA-256 of
something in the evidence that has it in it (the list of digests of Tinfoil). No profile excludes a
relay, because a genuine GPU in another host can be asked to sign the same nonce.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from otr_core.attestation.claims import ClaimLog, Source
from otr_core.encoding import tagged_hash

HALF = 32


def _sha256(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


#: What the first half commits to, computed from the key material the caller holds.
KEY_COMMITMENTS: dict[str, Callable[[bytes], bytes]] = {
    # An empty key must not pass as a commitment to 32 zero bytes.
    "near": lambda key: key.ljust(HALF, b"\0") if key else b"",
    "near_tls": _sha256,
    "secretvm": _sha256,
    "chutes": _sha256,
    "otr": lambda key: tagged_hash("keys", key),
}


def check_binding(
    profile: str,
    report_data: bytes,
    gpu_nonces: frozenset[bytes],
    key: bytes | None,
    log: ClaimLog,
    preimage: bytes | None = None,
) -> None:
    """Claims on the binding between one quote and the GPUs of a bundle.

    Args:
        report_data: 64 bytes from the quote.
        gpu_nonces: nonces in the signed requests of all devices; empty if the bundle has none.
        key: what the verifier knows of the serving key, in the form the profile hashes: address or
            raw key (near), address ‖ fingerprint (near_tls), SubjectPublicKeyInfo (secretvm),
            request nonce ‖ key (chutes), canonical JSON of both public keys (otr).
        preimage: what the evidence says that the first half is the SHA-256 of; believed once it is.
    """
    first, second = report_data[:HALF], report_data[HALF:]
    if gpu_nonces:
        half = first if profile == "chutes" or (profile == "auto" and gpu_nonces == {first}) else second
        found = ", ".join(sorted(nonce.hex() for nonce in gpu_nonces))
        through = preimage if profile == "auto" and preimage and _sha256(preimage) == first else b""
        listed = len(gpu_nonces) == 1 and min(gpu_nonces) in through
        bad = f"report_data commits to {half.hex()}, the GPU's signed request carries {found}"
        good = f"report_data commits to the GPU's nonce {found} (profile {profile}{', by a digest' * listed})"
        log.decide("gpu_nonce", gpu_nonces == {half} or listed, good, bad, Source.HARDWARE, report_data)
    if profile == "auto":
        reason = "the policy names no binding profile, so it is not known what the first half commits to"
        log.unknown(["key"], reason)
    elif key is None:
        log.unknown(["key"], f"no key was given to compare with report_data (profile {profile})")
    else:
        expected = KEY_COMMITMENTS[profile](key)
        bad = f"report_data commits to {first.hex()}, the key gives {expected.hex()}"
        good = f"report_data commits to the key (profile {profile})"
        log.decide("key", expected == first, good, bad, Source.HARDWARE, report_data)
