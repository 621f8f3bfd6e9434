"""A beacon of the laboratory's own: whoever has its secret signs any round, so it is for tests and
shows alone. Its rounds pass the very checks that the public beacon's pass."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from py_ecc.bls.point_compression import compress_G1, compress_G2
from py_ecc.optimized_bls12_381 import G2, multiply

from otr_core.spotcheck import beacon


@dataclass(frozen=True)
class LabBeacon:
    """A chain of rounds with a known key.

    Attributes:
        secret: scalar of its key. genesis_s: when round 1 was due, Unix seconds. period_s: between
            two rounds, seconds.
    """

    secret: int = 0x1234567890ABCDEF1234567890ABCDEF
    genesis_s: int = 1000
    period_s: int = 3

    @functools.cached_property
    def chain(self) -> dict[str, Any]:
        """Its information, as drand writes it."""
        key = b"".join(int(half).to_bytes(48, "big") for half in compress_G2(multiply(G2, self.secret)))
        times = {"period": self.period_s, "genesis_time": self.genesis_s}
        return {"public_key": key.hex(), **times, "schemeID": beacon.SCHEME}

    def sign(self, number: int) -> bytes:
        """Signature of a round, 48 bytes."""
        hashed = beacon.hash_to_g1(beacon.round_message(number), beacon.DOMAIN)
        return int(compress_G1(multiply(hashed, self.secret))).to_bytes(48, "big")
