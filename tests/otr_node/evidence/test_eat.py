"""The claims set of a token, held against the one that NVIDIA recorded for the same report."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

from otr_core.attestation import Bundle, Policy, appraise, load_bundle
from otr_core.encoding import canonical_json
from otr_node.evidence.eat import eat_claims

DEFAULT = Policy.default()
IN_WINDOW = datetime(2025, 1, 15, tzinfo=UTC)


def test_eat_claims_equal_nvidias_where_both_speak(h100: Bundle, outside: Callable[[str], bytes]) -> None:
    recorded = json.loads(outside("nvidia-attestation-sdk/eat/hopperClaimsv3_decoded.json"))["GPU-0"]
    result = appraise(h100, DEFAULT.expecting("gpu"), IN_WINDOW, nonce=bytes.fromhex(recorded["eat_nonce"]))
    ours = eat_claims(result)
    canonical_json(ours)
    gpu = ours["submods"]["GPU-0"]
    shared = set(gpu) & set(recorded)
    assert len(shared) >= 13
    assert {name: gpu[name] for name in shared} == {name: recorded[name] for name in shared}
    assert ours["x-otr-verdict"] == "accepted"


def test_eat_claims_leave_out_what_is_unknown(h100_report: bytes, outside: Callable[[str], bytes]) -> None:
    result = appraise(load_bundle(gpu=[h100_report]), DEFAULT, IN_WINDOW)
    gpu = eat_claims(result)["submods"]["GPU-0"]
    assert gpu["measres"] == "absent"
    assert not [name for name in gpu if name.endswith(("verified", "match"))]
    quote = load_bundle(quote=outside("phala-dcap-qvl/tdx_quote"))
    cpu = eat_claims(appraise(quote, DEFAULT, IN_WINDOW))["submods"]["CPU"]
    assert "ueid" not in cpu
    assert "x-otr-tcb-status" not in cpu
