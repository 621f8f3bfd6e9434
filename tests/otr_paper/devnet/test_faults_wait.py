"""A fault is of a process: it waits until the process runs, and does not let others wait."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from otr_paper.devnet.conductor import Devnet
from otr_paper.devnet.faults import NetworkFault, Plan


class Running:
    """Processes by name, of which a kill ends one at once."""

    def __init__(self, *names: str) -> None:
        self.pids = dict.fromkeys(names, 1)
        self.killed: list[str] = []

    def kill(self, name: str) -> None:
        self.killed.append(name)
        del self.pids[name]


class Node:
    """A node that is stopped, and started again by what it stands on."""

    port = 1

    def __init__(self, stopped: list[str]) -> None:
        self.stopped = stopped

    def stop(self) -> None:
        self.stopped.append("node")

    def node(self, state: Path, port: int) -> Node:
        return self


class Chain:
    """A clock, which a node that comes back is moved on to."""

    time = 100

    def advance(self, seconds: int) -> None:
        assert seconds >= 0


@pytest.fixture
def network(tmp_path: Path):
    """A conductor in the middle of a run: processes that run, faults that are due; with both, what it tells."""

    def build(running: tuple[str, ...], *faults: NetworkFault) -> tuple[Devnet, Running, list[dict[str, Any]]]:
        told: list[dict[str, Any]] = []
        processes: Any = Running(*running)
        node: Any = Node(processes.killed)
        assert isinstance(processes, Running)
        net = Devnet(node, tmp_path, Plan(), 1.0, told.append, processes)
        net._start, net._stood, net._events = time.monotonic(), -1, 0
        net._due, net._again, net._full = list(faults), {}, {}
        net._node, net._chain, net._state = node, Chain(), tmp_path / "chain.json"
        return net, processes, told

    return build


def kill(who: str, after: int = 0) -> NetworkFault:
    return NetworkFault("kill", who, after, 0.0, 0.5)


def test_a_fault_waits_until_the_process_that_it_meets_runs(network):
    fault = kill("server-2")
    net, processes, told = network(("server-1",), fault)
    net._events = 9
    net._strike()
    assert (processes.killed, net._due, told, net.outcome.faults) == ([], [fault], [], 0)
    processes.pids["server-2"] = 2
    net._strike()
    assert (processes.killed, net._due, net.outcome.faults) == (["server-2"], [], 1)
    assert [(event["event"], event["kind"], event["part"]) for event in told] == [("fault", "kill", "server-2")]
    assert "server-2" in net._again
    net._strike()
    assert processes.killed == ["server-2"]


def test_one_that_waits_holds_no_other_up(network):
    """Nor the conductor, which would sleep until its moment at every look."""
    waits, falls = NetworkFault("kill", "operator-1", 0, 2.0, 0.5), kill("client-1")
    net, processes, _ = network(("client-1",), waits, falls)
    begun = time.monotonic()
    net._strike()
    assert time.monotonic() - begun < 1
    assert (processes.killed, net._due) == (["client-1"], [waits])


def test_a_process_is_met_by_the_beginning_of_its_name(network):
    """What registers for an operator is called after the registrar and what it registers."""
    net, processes, _ = network(("registrar operator-1", "operator-1"), kill("registrar"))
    net._strike()
    assert processes.killed == ["registrar operator-1"]


def test_no_fault_falls_before_its_moment(network):
    fault = kill("client-1", after=3)
    net, processes, _ = network(("client-1",), fault)
    for events, met in ((0, []), (2, []), (3, ["client-1"])):
        net._events = events
        net._strike()
        assert processes.killed == met


def test_two_faults_of_one_process_do_not_fall_on_it_at_once(network):
    """The first has ended it: the second waits until it runs again."""
    first, second = kill("client-1"), kill("client-1", after=1)
    net, processes, _ = network(("client-1",), first, second)
    net._events = 1
    net._strike()
    assert (processes.killed, net._due) == (["client-1"], [second])
    processes.pids["client-1"] = 2
    net._strike()
    assert (processes.killed, net._due) == (["client-1", "client-1"], [])


def test_a_fault_of_the_node_waits_for_no_process(network):
    net, processes, told = network((), NetworkFault("node", "", 0, 0.0, 0.0))
    net._strike()
    assert (processes.killed, net._due, [event["kind"] for event in told]) == (["node"], [], ["node"])
