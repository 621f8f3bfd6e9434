"""L23 to L25 follow the attack table: one attack that passes changes the verdict."""

import pytest

from otr_node.project import find_project
from otr_paper.claims import receipts
from otr_paper.claims.grounds import Grounds

PROJECT = find_project()


def row(attack, group, caught_by):
    return {"attack": attack, "group": group, "caught_by": caught_by}


ROWS = [
    row("int8 weights", "model", "measured-model"),
    row("4-layer model", "model", "serving"),
    row("receipt replayed", "answer", "freshness"),
    row("cached answer", "answer", "freshness"),
    row("a word dropped", "model", "ineffective"),
    row("order served twice", "answer", "serving"),
    row("another trace seed shown", "statement", "trace-seed"),
    row("an empty answer, stated", "statement", "reading"),
    row("order served by two enclaves", "statement", "equivocation"),
    row("layers dropped, trace made up", "broken TEE", "only by dispute or spot check"),
]


def grounds(rows=ROWS, honest_rejected=0):
    run = {"honest_count": 30, "honest_rejected_count": honest_rejected}
    return Grounds(PROJECT.data, results={"attacks": {"rows": rows}, "native_run": run})


def passing(attack, by="only by dispute or spot check"):
    """The table after ``attack`` got through."""
    return [{**r, "caught_by": by} if r["attack"] == attack else r for r in ROWS]


def test_downgrades_are_conditional_on_measured_weights_and_an_unbroken_tee():
    found = receipts.L23_downgrade_rejected(grounds())
    assert found.verdict == "conditional"
    assert found.computed["downgrades_rejected_count"] == found.computed["downgrades_count"] == 3
    assert found.computed["downgrades_by_broken_tee_rejected_count"] == 0
    assert [reading.holds for reading in found.readings] == [False]
    assert found.conditions[0].met


@pytest.mark.parametrize(("rows", "rejected"), [(passing("int8 weights"), 0), (ROWS, 1)])
def test_one_downgrade_through_or_one_honest_rejection_contradicts(rows, rejected):
    assert receipts.L23_downgrade_rejected(grounds(rows, rejected)).verdict == "contradicted"


def test_binding_holds_as_our_definition_only():
    found = receipts.L24_poea_binds(grounds())
    assert (found.verdict, found.computed["attacks_rejected_count"]) == ("conditional", 9)
    assert [reading.holds for reading in found.readings] == [False]
    assert found.conditions[0].met


@pytest.mark.parametrize("attack", ["cached answer", "another trace seed shown", "a word dropped"])
def test_one_forgery_or_false_statement_through_contradicts(attack):
    assert receipts.L24_poea_binds(grounds(passing(attack))).verdict == "contradicted"


def test_replays():
    assert receipts.L25_replay_rejected(grounds()).verdict == "reproduced"
    assert receipts.L25_replay_rejected(grounds(passing("receipt replayed"))).verdict == "contradicted"


def test_an_unknown_check_name_is_not_a_rejection():
    assert (
        receipts.L25_replay_rejected(grounds(passing("cached answer", by="a check that no receipt has"))).verdict
        == "contradicted"
    )
