"""The laboratory node: accepted by the strict policy but for its roots, and a twin for each check."""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime, timedelta

import pytest

from otr_core.attestation import Appraisal, Policy, appraise, load_bundle
from otr_core.attestation.chain import VENDOR_ROOTS
from otr_core.attestation.claims import CHECKS, Source, Status
from otr_paper.labs.attestation import ATTACKS, TWINS, run_twins
from otr_paper.labs.attestation.frame import Attack, Attempt, run
from otr_paper.labs.attestation.node import honest_node
from otr_paper.labs.attestation.platform import LabPlatform, td_report
from otr_paper.labs.attestation.twins import NODE, NOW, presented


def judged(attempt: Attempt) -> Appraisal:
    return appraise(load_bundle(**attempt.files), attempt.policy, attempt.as_of, **attempt.given)


def test_the_strict_policy_accepts_the_node() -> None:
    """All that strict requires is asserted; only who signed is a laboratory's word."""
    own = dataclasses.replace(Policy.strict(), allow_simulated=True)
    found = judged(presented(NODE).but(policy=own))
    assert found.accepted
    assert found.simulated
    made = {claim.check for claim in found.claims if claim.status is Status.ASSERTED}
    assert set(Policy.strict().require) <= made
    rest = {claim.check: claim.status for claim in found.claims if claim.status is not Status.ASSERTED}
    assert rest.pop("gpu.confidential") is Status.UNKNOWN  # no report states it
    assert set(rest.values()) == {Status.NOT_MADE}
    assert not set(rest) & set(Policy.strict().require)


def test_unchanged_strict_has_one_thing_against_it() -> None:
    """The roots are what own keys cannot replace: the one claim that a policy has to waive."""
    found = judged(presented(NODE).but(policy=Policy.strict()))
    assert [claim.id for claim in found.because] == ["evidence.genuine"]


def test_under_the_vendors_roots_nothing_of_it_holds() -> None:
    given = {**presented(NODE).given, "roots": VENDOR_ROOTS}
    found = judged(presented(NODE).but(given=given))
    assert not found.simulated
    against = {claim.id for claim in found.because}
    assert {"gpu.0.chain.root", "gpu.0.rim.driver.chain", "gpu.0.rim.vbios.chain", "cpu.quote"} <= against


@pytest.mark.parametrize("field", ["device", "rim", "quote"])
def test_each_root_is_held_against_by_itself(field: str) -> None:
    roots = dataclasses.replace(NODE.roots, **{field: getattr(VENDOR_ROOTS, field)})
    found = judged(presented(NODE).but(given={**presented(NODE).given, "roots": roots}))
    expected = {"device": "gpu.0.chain.root", "rim": "gpu.0.rim.driver.chain", "quote": "cpu.quote"}[field]
    assert found.simulated
    assert expected in [claim.id for claim in found.because]


@pytest.mark.parametrize("twin", TWINS, ids=lambda one: one.id)
def test_a_twin_is_stopped_by_its_check(twin: Attack) -> None:
    row = run([twin], {})[0]
    assert row["result"] == "as expected", row


def test_no_required_check_is_without_a_twin() -> None:
    claimed = {one.claim or "gpu.0.report" for one in TWINS}
    checks = {re.sub(r"^gpu\.\d+\.", "gpu.", name) for name in claimed}
    assert set(Policy.strict().require) <= checks
    assert checks <= CHECKS.keys()
    assert "cpu.measurements" in checks


#: Twins that cannot help breaking more than their check, and what else they break.
ALSO = {
    "gpu.same_nonce": {"gpu.1.nonce", "binding.gpu_nonce"},  # one of two nonces is not the verifier's
    "cpu.debug": {"cpu.quote", "cpu.tcb", "cpu.advisories"},  # dcap-qvl refuses such a quote as well
    "cpu.migration": {"cpu.quote", "cpu.tcb", "cpu.advisories"},  # and such a one
    # nothing is made on a GPU that is not there
    "evidence.present": {name for name in CHECKS if name.startswith("gpu.")} | {"binding.gpu_nonce"},
    "cpu.quote": {"cpu.tcb", "cpu.advisories", "binding.gpu_nonce"},  # nothing is known of its platform
    "gpu.0.rim.driver.signature": {f"gpu.0.measurements.{part}" for part in ("driver", "conflict", "covered")},
    "gpu.0.rim.vbios.signature": {f"gpu.0.measurements.{part}" for part in ("vbios", "conflict", "covered")},
    "gpu.0.revocation": {f"gpu.0.rim.{kind}.revocation" for kind in ("driver", "vbios")},  # all responses are stale
}


@pytest.mark.parametrize("twin", [one for one in TWINS if one.claim], ids=lambda one: one.id)
def test_a_twin_has_one_thing_wrong(twin: Attack) -> None:
    against = {claim.id for claim in judged(twin.attack({}, twin.honest({}))).because}
    assert against - {twin.claim} <= ALSO.get(twin.claim, set())


def test_the_table_of_twins_is_complete() -> None:
    rows = run_twins()
    assert len(rows) == len(TWINS) > 50
    assert {row["attack"] for row in rows}.isdisjoint(one.id for one in ATTACKS)


def test_an_unsigned_node_is_the_operators_word() -> None:
    """Without a quote that verifies, nothing that the log says rests on hardware."""
    other = dataclasses.replace(NODE, platform=dataclasses.replace(NODE.platform, seed=b"other"))
    found = judged(presented(other))
    assert found.claim("cpu.rtmr3").source is Source.OPERATOR
    assert judged(presented(NODE)).claim("cpu.rtmr3").source is Source.HARDWARE


def test_a_node_of_any_year() -> None:
    """The laboratory's clock is an argument: responses are dated by it, not by the machine's."""
    for year in (2024, 2031):
        now = datetime(year, 3, 1, tzinfo=UTC)
        node = honest_node(now, NODE.nonce, NODE.keys, NODE.model_id)
        given = {"nonce": node.nonce, "key": node.keys, "roots": node.roots}
        assert judged(Attempt(node.files(), node.policy, now, given)).accepted
        late = now + timedelta(days=1)
        assert "gpu.0.revocation" in [one.id for one in judged(Attempt(node.files(), node.policy, late, given)).because]


def test_a_td_report_has_its_published_size() -> None:
    body = td_report({"mr_td": b"a" * 48, "report_data": b"r" * 64})
    assert len(body) == 584
    assert body[136:184] == b"a" * 48
    assert body[-64:] == b"r" * 64
    with pytest.raises(AssertionError):
        td_report({"mr_tdx": b"a"})


def test_platforms_of_one_seed_are_one() -> None:
    made = [LabPlatform(b"seed", NOW).quote({}) for _ in range(2)]
    assert made[0] == made[1] != LabPlatform(b"other", NOW).quote({})
