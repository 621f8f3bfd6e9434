"""A key's life at a court: what is appraised, registered, refused, revoked, and what follows from it."""

from __future__ import annotations

import pytest

from otr_core.dispute.profile import own_profile
from otr_node import outside
from otr_paper.labs import registration
from otr_paper.labs.attestation.evidence import EVIDENCE


@pytest.fixture(scope="module")
def rows(project) -> list[dict]:
    files = [outside.get(project, EVIDENCE[name].source, EVIDENCE[name].file) for name in ("report", "chain")]
    return registration.key_life(own_profile(), *(file.read_bytes() for file in files))


def test_each_step_goes_as_the_rules_say(rows):
    assert [row["what"] for row in rows if not row["good"]] == []
    assert len(rows) == 12


def test_evidence_is_refused_at_the_expected_check(rows):
    outcomes = {row["what"]: row["outcome"] for row in rows}
    assert outcomes["appraises the operator's simulated evidence"] == "accepted"
    assert "not signed" in outcomes["the same with another nonce written into it"]
    assert "evidence.present: no cpu" in outcomes["NVIDIA's recorded H100 report in its place"]
    assert "evidence of hardware" in outcomes["the same, where only simulated evidence is accepted"]
    assert outcomes["a key of the revoked class"] == "refused by check key"


def test_a_revocation_counts_after_its_notice_and_no_sooner(rows):
    by_what = {row["what"]: row for row in rows}
    within, after = (
        by_what["challenges an answer committed within the notice"],
        by_what["opens an answer by the revoked key"],
    )
    assert within["outcome"].startswith("a game")
    assert within["minutes"] < registration.NOTICE_S / 60 < after["minutes"]
    assert after["outcome"] == "convicted at once"
