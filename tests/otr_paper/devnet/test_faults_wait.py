"""A fault is of a process: it waits until the process runs, and does not let others wait."""

from __future__ import annotations

import time

from otr_paper.devnet.faults import NetworkFault, strike


def kill(who: str, after: int = 0, wait_s: float = 0.0) -> NetworkFault:
    return NetworkFault("kill", who, after, wait_s, 0.5)


def struck(due: list[NetworkFault], running: list[str], events: int = 9) -> list[str]:
    """What falls, each on the process that it ends."""
    fallen: list[str] = []

    def fall(fault: NetworkFault) -> None:
        met = next((name for name in running if fault.who and name.startswith(fault.who)), "node")
        fallen.append(met)
        if met in running:
            running.remove(met)

    strike(due, events, running, fall)
    return fallen


def test_a_fault_waits_until_the_process_that_it_meets_runs():
    due, running = [kill("server-2")], ["server-1"]
    assert struck(due, running) == []
    assert due == [kill("server-2")]
    running.append("server-2")
    assert struck(due, running) == ["server-2"]
    assert due == []
    assert running == ["server-1"]


def test_one_that_waits_holds_no_other_up():
    """Nor the conductor, which would sleep until its moment at every look."""
    waits = kill("operator-1", wait_s=60.0)
    due, begun = [waits, kill("client-1")], time.monotonic()
    assert struck(due, ["client-1"]) == ["client-1"]
    assert due == [waits]
    assert time.monotonic() - begun < 30


def test_a_process_is_met_by_the_beginning_of_its_name():
    """What registers for an operator is called after the registrar and what it registers."""
    assert struck([kill("registrar")], ["registrar operator-1", "operator-1"]) == ["registrar operator-1"]


def test_no_fault_falls_before_its_moment():
    due = [kill("client-1", after=3)]
    assert [struck(due, ["client-1"], events) for events in (0, 2, 3, 4)] == [[], [], ["client-1"], []]


def test_two_faults_of_one_process_do_not_fall_on_it_at_once():
    """The first has ended it: the second waits until it runs again."""
    due = [kill("client-1"), kill("client-1", after=1)]
    assert struck(due, ["client-1"]) == ["client-1"]
    assert due == [kill("client-1", after=1)]
    assert struck(due, ["client-1"]) == ["client-1"]
    assert due == []


def test_a_fault_of_the_node_waits_for_no_process():
    assert struck([NetworkFault("node", "", 0, 0.0, 0.0)], []) == ["node"]
