"""RFC 6962 proof cases written by others (transparency-dev/merkle): every verdict must be
theirs."""

import base64
import json

import pytest

from otr_core import merkle
from otr_core.errors import ProofError


def _bytes(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def test_all_plain_inclusion_and_consistency_cases(outside_file):
    records = json.loads(outside_file("vectors/transparency-dev-merkle/rfc6962_proofs.json").read_bytes())
    judged = 0
    for record in records:
        case = record["case"]
        proof = [_bytes(item) for item in case["proof"] or []]
        if "treeSize" in case:
            call = (
                merkle.verify_inclusion,
                _bytes(case["root"]),
                _bytes(case["leafHash"]),
                case["leafIdx"],
                case["treeSize"],
            )
        elif "size1" in case:
            call = (
                merkle.verify_consistency,
                _bytes(case["root1"]),
                _bytes(case["root2"]),
                case["size1"],
                case["size2"],
            )
        else:
            continue  # records with start and end: subtree proofs, another form
        judged += 1
        verify, *args = call
        if case["wantErr"]:
            with pytest.raises(ProofError):
                verify(*args, proof)
        else:
            verify(*args, proof)
    assert judged == 122
