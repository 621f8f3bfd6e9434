"""A network under chaos: real processes that die, a node that restarts, requests that go astray, wrong
clocks, full disks, cheats and liars. And the judge of it sees what it should."""

from __future__ import annotations

import json
import resource
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from otr_core.errors import NodeError, ParameterError
from otr_node.chain.outbox import Outbox
from otr_paper.devnet.attacks import FALSE_CHALLENGES, SILENT, WITHHELD, tellable
from otr_paper.devnet.conductor import Devnet
from otr_paper.devnet.faults import ANSWERS, PARTIES, PROCESSES, Door, Plan, answered_by, plan_of
from otr_paper.devnet.ground import ANVIL, DevnetEnd, Ground, anvil_or_none, break_ground
from otr_paper.devnet.processes import Stem
from otr_paper.devnet.standing import CHEAT
from otr_paper.producers.chaos import chaos_summary, run_seed
from otr_paper.store.results import read_result
from tests.helpers.nodes import anvil, forward, needs_anvil

LIE = "tokensRoot: another token than the model's"


@pytest.fixture(scope="module")
def ground(project, tmp_path_factory) -> Ground:
    return break_ground(tmp_path_factory.mktemp("ground"), "correct horse", anvil_or_none(project, ANVIL))


@pytest.fixture(scope="module")
def stem(tmp_path_factory) -> Iterator[Stem]:
    made = Stem(tmp_path_factory.mktemp("stem"), "correct horse")
    yield made
    made.close()


@pytest.mark.slow
@needs_anvil
@pytest.mark.parametrize("seed", [1, 2, 4, 1001, 1002, 5002])
def test_nothing_honest_is_slashed_no_receipt_is_lost_and_every_cheat_is_slashed(ground, stem, tmp_path, seed):
    row = run_seed(ground, stem, tmp_path / "run", plan_of(seed))
    assert not row["broken"], (row, (tmp_path / "run" / "events.jsonl").read_text()[-3000:])
    assert row["restarts"] >= 1
    assert row["receipts"] == len(ANSWERS)


@pytest.mark.slow
@needs_anvil
def test_the_judge_of_a_run_would_see_an_honest_operator_slashed_and_a_receipt_that_is_gone(ground, stem, tmp_path):
    stem.folder, seen = tmp_path, set[tuple[str, str]]()
    due = {("slashed", ""), *(("paid", name) for name in ANSWERS if answered_by(name) == "operator-1")}

    def emit(event: dict[str, Any]) -> None:
        seen.add((event["event"], event.get("answer", "")))
        if due <= seen and run.seconds:  # nobody asks for these receipts again, and what is judged has happened
            (tmp_path / "client" / "operator-1.client-1.receipt.json").unlink()
            run.seconds = 0.0

    run = Devnet(ground, tmp_path, Plan(attack=LIE), 300.0, emit, stem, idle_s=0.3, blameless=(CHEAT,))
    found = run.run()
    broken = found.broken(cheats=True)
    assert "an honest operator was slashed" in broken
    assert "an accepted receipt was lost" in broken
    assert found.lost_receipts == 1


@pytest.mark.slow
@needs_anvil
def test_the_judge_of_a_run_would_see_a_bond_of_an_honest_fisherman_that_was_never_opened(ground, stem, tmp_path):
    stem.folder, plan = tmp_path, Plan(false_challenges="never opens")
    run = Devnet(ground, tmp_path, plan, 300.0, lambda event: None, stem, idle_s=0.3, blameless=PARTIES[3:4])
    found = run.run()
    assert found.settled
    assert found.broken(cheats=False) == ["an honest fisherman lost a bond"]


def test_an_end_is_good_only_if_all_that_was_promised_holds():
    good = DevnetEnd(settled=True, receipts=2, bound_s=100, taken_s=100)
    assert not good.broken(cheats=True)
    for change, what in (
        ({"settled": False}, "not settled"),
        ({"honest_slashed": True}, "an honest operator was slashed"),
        ({"lost_bonds": 1}, "an honest fisherman lost a bond"),
        ({"lost_receipts": 1}, "an accepted receipt was lost"),
        ({"receipts": 0}, "an accepted receipt was lost"),
        ({"taken_s": 101}, "a cheat was not slashed within the bound"),
        ({"taken_s": None}, "a cheat was not slashed within the bound"),
        ({"left": 1}, "processes were left"),
    ):
        assert replace(good, **change).broken(cheats=True) == [what]
    assert not replace(good, taken_s=None).broken(cheats=False)


def test_plans_follow_from_their_seeds_and_all_kinds_come():
    plans = [plan_of(seed) for seed in range(1, 201)]
    assert plans[:5] == [plan_of(seed) for seed in range(1, 6)]
    kinds = Counter(fault.kind for plan in plans for fault in plan.faults)
    assert {*kinds} == {"kill", "node", "disk"}
    killed = {fault.who for plan in plans for fault in plan.faults if fault.kind == "kill"}
    assert killed == {*PROCESSES, "registrar"}
    attacks = {plan.attack for plan in plans}
    assert {"", WITHHELD} < attacks
    assert any(each.startswith(SILENT) for each in attacks)
    assert len(attacks.intersection(lie.name for lie in tellable())) > 30
    assert {plan.false_challenges for plan in plans} == {"", *FALSE_CHALLENGES}
    assert sum(plan.troubled > 0 for plan in plans) > 40
    assert sum(bool(plan.skews_s) for plan in plans) > 40
    with pytest.raises(ParameterError, match="troubled"):
        Plan(troubled=0.6)


@needs_anvil
def test_a_door_lets_every_kind_of_trouble_through():
    """Late, twice, an error, unanswered, stale: each comes, and what comes through is the node's answer."""
    with anvil() as node:
        door = Door(node.url, 0.5, 7)
        asked = {"jsonrpc": "2.0", "id": 5, "method": "eth_blockNumber", "params": []}
        failed, heads = 0, set()
        for _ in range(60):
            try:
                answer = forward(door.url, asked)
            except OSError:
                failed += 1
                forward(node.url, {"jsonrpc": "2.0", "id": 1, "method": "evm_mine", "params": []})
                continue
            assert answer["id"] == 5
            heads.add(int(answer["result"], 16))
        door.stop()
    assert {"late", "twice", "error", "unanswered", "stale", "through"} == door.done.keys()
    assert failed == door.done["error"] + door.done["unanswered"]
    assert len(heads) > 1


def test_the_stored_runs_are_those_of_their_seeds_and_the_summary_counts_them(project):
    card, result = read_result(project.results, "chaos")
    rows = result["runs"]
    assert card.kind == "measured"
    assert len({row["seed"] for row in rows}) == len(rows)
    assert result["summary"] == json.loads(json.dumps(chaos_summary(rows)))
    for row in rows:
        plan = plan_of(row["seed"])
        assert (row["attack"], row["false_challenges"]) == (plan.attack, plan.false_challenges)
        assert row["skews_s"].keys() == dict(plan.skews_s).keys()
        came = Counter(kind.partition(" ")[0] for kind, count in row["faults"].items() for _ in range(count))
        assert came <= Counter(fault.kind for fault in plan.faults)
    assert result["summary"]["honest_slashed"] == 0
    assert result["summary"]["lost_receipts"] == 0


def test_a_process_whose_disk_is_full_waits_and_sends_nothing(tmp_path):
    box, without = Outbox(tmp_path / "state"), resource.getrlimit(resource.RLIMIT_FSIZE)
    box.put("a", 1, b"raw")
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, without[1]))
    try:
        for call in (lambda: box.put("a", 2, b"raw"), lambda: box.done("a", 1), lambda: box.note("a", "b")):
            with pytest.raises(NodeError) as failure:
                call()
            assert failure.value.check == "disk"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, without)
    box.put("a", 2, b"raw")
    assert [nonce for _, nonce, _ in box.waiting()] == [1, 2]
