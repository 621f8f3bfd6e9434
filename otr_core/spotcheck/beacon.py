"""drand rounds of the quicknet scheme (BLS12-381, signatures in G1), verified from recorded bytes.

What a round signs is its number, and a key has one signature of a number. Once the round is fixed,
neither the operator nor a fisherman can choose what it draws. ``round_after`` fixes the round by
the time of a commitment: it is due strictly later. Chain information and signatures are arguments;
so is ``fetch``, for whoever has a network.

py_ecc takes a second to import, and most users of the core draw nothing: it is imported where it is
used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from otr_core.encoding import from_hex
from otr_core.errors import BeaconError, InputError, ParameterError

SCHEME = "bls-unchained-g1-rfc9380"
#: Domain tag of that scheme (drand's crypto/schemes.go; RFC 9380 section 8.8.1 names the suite). An
#: older scheme of drand signs in G1 under the tag of G2; its rounds are refused here.
DOMAIN = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"
SIGNATURE_BYTES, KEY_BYTES = 48, 96

#: Names of the checks of ``verify_round``, in order; numbered there from 1.
CHECKS = ("scheme", "key", "round", "signature encoding", "signature group", "signature")


def round_message(round_number: int) -> bytes:
    """What a round signs: SHA-256 of its number as 8 bytes, big-endian. No earlier round enters."""
    return hashlib.sha256(round_number.to_bytes(8, "big")).digest()


def hash_to_g1(message: bytes, domain: bytes) -> Any:
    """RFC 9380 BLS12381G1_XMD:SHA-256_SSWU_RO_, as a projective point of py_ecc."""
    from py_ecc.bls.hash_to_curve import hash_to_G1

    sha256: Any = hashlib.sha256
    return hash_to_G1(message, domain, sha256)


def round_time(chain: Mapping[str, Any], round_number: int) -> int:
    """Unix seconds at which a round is due; round 1 is due at genesis."""
    return int(chain["genesis_time"]) + (round_number - 1) * int(chain["period"])


def round_after(chain: Mapping[str, Any], committed_at: int, *, margin_s: int = 0) -> int:
    """The first round due strictly later than a commitment, when its signature was still unknown.

    Args:
        committed_at: Unix seconds of the commitment's block. margin_s: how far that clock may be
            off, s.

    Raises:
        BeaconError: the commitment is older than the chain, whose first rounds everyone knows.
    """
    if margin_s < 0:
        raise ParameterError("margin_s", margin_s, "0 or more seconds")
    genesis, period = int(chain["genesis_time"]), int(chain["period"])
    if committed_at < genesis:
        raise BeaconError("round", f"a commitment at {committed_at}", f"one after the chain's genesis at {genesis}")
    return (committed_at + margin_s - genesis) // period + 2


def verify_round(chain: Mapping[str, Any], round: int, signature: bytes) -> bytes:
    """The 32 bytes of randomness of a round, after checking that they are the chain's.

    1. The chain's scheme is quicknet's.
    2. Its key is a canonical point of G2's subgroup and not the identity.
    3. The round number is a positive 64-bit integer.
    4. The signature is a canonical compressed point.
    5. The point is of G1's subgroup and not the identity.
    6. The point is the key's signature of this round.

    Args:
        chain: drand's chain information (public_key in hex, schemeID).
        round: number of the round. signature: 48 bytes.

    Raises:
        BeaconError: ``check`` names the failed one of ``CHECKS``.
    """
    from py_ecc.optimized_bls12_381 import FQ12, G2, final_exponentiate, neg, pairing

    # 1. The chain's scheme is quicknet's.
    if chain.get("schemeID") != SCHEME:
        raise BeaconError("scheme", chain.get("schemeID"), SCHEME)

    # 2. Its key is a canonical point of G2's subgroup and not the identity.
    try:
        key_bytes = from_hex(chain.get("public_key", ""), length=KEY_BYTES, what="public_key")
    except InputError as error:
        raise BeaconError("key", str(error), f"{KEY_BYTES} bytes of hex") from error
    key = _point(key_bytes, "key", "key")

    # 3. The round number is a positive 64-bit integer.
    if not isinstance(round, int) or isinstance(round, bool) or not 1 <= round < 2**64:
        raise BeaconError("round", round, "1 to 2^64 - 1")

    # 4. The signature is a canonical compressed point.
    # 5. The point is of G1's subgroup and not the identity.
    if len(signature) != SIGNATURE_BYTES:
        expected = f"{SIGNATURE_BYTES}, a compressed point of G1"
        raise BeaconError("signature encoding", f"{len(signature)} bytes", expected)
    point = _point(signature, "signature encoding", "signature group")

    # 6. The point is the key's signature of this round: e(signature, G2) = e(H(round), key).
    hashed = hash_to_g1(round_message(round), DOMAIN)
    product = pairing(G2, point, final_exponentiate=False) * pairing(key, neg(hashed), final_exponentiate=False)
    if final_exponentiate(product) != FQ12.one():
        raise BeaconError("signature", f"one that is not the chain's for round {round}", "the chain's")
    return hashlib.sha256(signature).digest()


def read_round(
    chain: Mapping[str, Any],
    round_number: int,
    recorded: Mapping[int, bytes],
    *,
    fetch: Callable[[int], bytes] | None = None,
) -> bytes:
    """Verified randomness of a round, from recorded signatures or from ``fetch(round)``.

    Raises:
        BeaconError: neither has it, or it does not verify.
    """
    signature = fetch(round_number) if fetch and round_number not in recorded else recorded.get(round_number)
    if signature is None:
        raise BeaconError("round", f"no signature of round {round_number}", f"one of {sorted(recorded)}, or a fetch")
    return verify_round(chain, round_number, signature)


def _point(raw: bytes, encoding_check: str, group_check: str) -> Any:
    """The point of G1 (48 bytes) or G2 (96), after checks of its encoding and its group."""
    from py_ecc.bls.g2_primitives import subgroup_check
    from py_ecc.bls.point_compression import decompress_G1, decompress_G2
    from py_ecc.bls.typing import G1Compressed, G2Compressed
    from py_ecc.optimized_bls12_381 import is_inf

    parts = [int.from_bytes(raw[at : at + 48], "big") for at in range(0, len(raw), 48)]
    try:
        # py_ecc does not look at the flag bits of the second half: one point would have several
        # encodings. (It also takes an identity with a sign bit; no identity passes below.)
        if len(parts) == 2 and parts[1] >> 381:
            raise ValueError("flag bits in the second half")
        if len(parts) == 2:
            point: Any = decompress_G2(G2Compressed((parts[0], parts[1])))
        else:
            point = decompress_G1(G1Compressed(parts[0]))
    except ValueError as error:
        raise BeaconError(encoding_check, f"no canonical point ({error})", "a canonical compressed point") from error
    if is_inf(point):
        raise BeaconError(group_check, "the identity", "a point of the prime-order subgroup")
    if not subgroup_check(point):
        raise BeaconError(group_check, "a point outside the subgroup", "a point of the prime-order subgroup")
    return point
