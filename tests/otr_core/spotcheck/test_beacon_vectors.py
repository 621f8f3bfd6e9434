"""drand rounds and RFC 9380 points recorded by others: every verdict and every byte must be
theirs."""

from __future__ import annotations

import json

import pytest

from otr_core.errors import BeaconError
from otr_core.spotcheck import beacon

pytestmark = pytest.mark.outside


def test_all_drand_rounds(outside_file):
    records = json.loads(outside_file("vectors/drand-quicknet/beacons.json").read_bytes())
    for record in records:
        signature = bytes.fromhex(record["signature"])
        assert beacon.round_message(record["round"]).hex() == record["message_sha256"]
        if record["valid"]:
            randomness = beacon.verify_round(record["chain"], record["round"], signature)
            assert randomness.hex() == record["randomness"]
        else:
            with pytest.raises(BeaconError) as failure:
                beacon.verify_round(record["chain"], record["round"], signature)
            assert failure.value.check == "signature"
    assert [sum(r["valid"] == kind for r in records) for kind in (True, False)] == [4, 4]


def test_rfc_9380_points_of_g1(outside_file):
    from py_ecc.optimized_bls12_381 import normalize

    document = json.loads(outside_file("vectors/rfc9380-h2c/BLS12381G1_XMD-SHA-256_SSWU_RO_.json").read_bytes())
    assert document["ciphersuite"] in "BLS12381G1_XMD:SHA-256_SSWU_RO_"
    for vector in document["vectors"]:
        point = normalize(beacon.hash_to_g1(vector["msg"].encode(), document["dst"].encode()))
        assert [int(c) for c in point] == [int(vector["P"][axis], 16) for axis in "xy"]
    assert len(document["vectors"]) == 5


def test_rfc_9380_points_of_g2_which_quicknet_does_not_use(outside_file):
    import hashlib

    from py_ecc.bls.hash_to_curve import hash_to_G2
    from py_ecc.optimized_bls12_381 import normalize

    document = json.loads(outside_file("vectors/rfc9380-h2c/BLS12381G2_XMD-SHA-256_SSWU_RO_.json").read_bytes())
    for vector in document["vectors"]:
        x, y = normalize(hash_to_G2(vector["msg"].encode(), document["dst"].encode(), hashlib.sha256))
        found = [[int(part) for part in axis.coeffs] for axis in (x, y)]
        assert found == [[int(part, 16) for part in vector["P"][axis].split(",")] for axis in "xy"]
