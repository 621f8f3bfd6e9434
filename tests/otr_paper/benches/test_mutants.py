"""Mutants of the court: how they are made, what kills one, and that the stored run is of today's checks."""

from __future__ import annotations

import ast
import importlib
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from otr_core.dispute import contracts
from otr_core.errors import ChainError
from otr_node.chain.evm import Chain, compile_source, compile_vyper
from otr_paper.benches import python_mutants
from otr_paper.benches.contract_mutants import Prober, split_conjunction, vyper_mutants
from otr_paper.producers.court_mutants import EQUIVALENT, MODULES, Kept, content_digest
from otr_paper.store.results import read_result

FOLDER = Path(contracts.__file__).parent
DOOR = """# pragma version 0.4.3
least: uint256

@deploy
def __init__(least: uint256):
    assert least > 0, "least"
    self.least = least

@external
def enter(x: uint256, y: uint256):
    assert x >= self.least and y < 9, "low"
    assert x != 7, "seven"
"""


def test_a_conjunction_is_split_at_its_outermost_parts():
    assert split_conjunction("a and (b and c) and d[e and f]") == ["a", "(b and c)", "d[e and f]"]


def test_every_assert_and_each_part_of_one_makes_a_mutant(tmp_path):
    path = tmp_path / "door.vy"
    path.write_text(DOOR)
    source, mutants = vyper_mutants(path)
    assert [(each.reason, each.text) for each in mutants] == [
        ("least", "least > 0"),
        ("low", "x >= self.least and y < 9"),
        ("low", "x >= self.least"),
        ("low", "y < 9"),
        ("seven", "x != 7"),
    ]
    chain, contract = Chain(accounts=1), compile_source(source, str(path))
    # without a check its calls go through, and those of the others are refused as before
    tries = {"low": [(1, 1), (5, 9)], "seven": [(7, 1)]}
    passed = {}
    for number in range(6):
        made, _ = chain.deploy(contract, 2, number)
        passed[number] = [
            args for calls in tries.values() for args in calls if not chain.reason_with({}, made, "enter", *args)
        ]
    assert passed == {0: [], 1: [], 2: [(1, 1), (5, 9)], 3: [(1, 1)], 4: [(5, 9)], 5: [(7, 1)]}
    chain.deploy(contract, 0, 1)
    with pytest.raises(ChainError, match="least"):
        chain.deploy(contract, 0, 2)


def test_a_refused_call_kills_what_would_have_let_it_through(tmp_path, monkeypatch):
    for name in ("deploy", "transact", "call"):
        monkeypatch.setattr(Chain, name, getattr(Chain, name))  # put back after the test
    (tmp_path / "door.vy").write_text(DOOR)
    prober = Prober(tmp_path, {("door.vy", "x != 7")})
    assert prober.hopeful == 4
    prober.install()
    prober.pytest_runtest_call(SimpleNamespace(nodeid="tests/a/test_b.py::test_c[d/e f]"))
    chain, contract = Chain(accounts=1), compile_vyper(tmp_path / "door.vy")
    with pytest.raises(ChainError, match="least"):
        chain.deploy(contract, 0)
    made, _ = chain.deploy(contract, 2)
    chain.transact(made, "enter", 3, 3)
    assert prober.refused == 0
    with pytest.raises(ChainError, match="low"):
        chain.transact(made, "enter", 1, 3)
    killed = {each.text: each.killed_by for each in prober.mutants if each.killed_by}
    assert set(killed) == {"least > 0", "x >= self.least and y < 9", "x >= self.least"}
    assert set(killed.values()) == {"test_b.py::test_c[d/e f]"}
    assert (prober.refused, prober.hopeful) == (1, 1)
    again = Prober(tmp_path)
    again.killed_before({each.place: each.killed_by for each in prober.mutants if each.killed_by})
    assert {each.text for each in again.mutants if not each.killed_by} == {"y < 9", "x != 7"}


SOURCE = """
class Door:
    def enter(self, x):
        if x < 2:
            raise ValueError("low")
        require(x != 7, "seven")
        for y in range(x):
            if y > 100:
                return "high"
        return x

def outside(x):
    if x:
        return 3
    return require_leaf
"""


def test_statements_that_only_refuse_are_found_wherever_they_stand():
    found = [(scope, body[at].lineno) for scope, body, at in python_mutants.refusals(ast.parse(SOURCE), "")]
    assert found == [("Door.enter", 4), ("Door.enter", 6), ("Door.enter", 8)]


def test_a_check_is_taken_out_of_the_loaded_function_and_put_back():
    module = importlib.import_module("otr_core.dispute.rules")
    mutant = next(iter(python_mutants.python_mutants("otr_core.dispute.rules", module)))
    assert mutant.file == "rules.py"
    (function,) = [each for each in python_mutants.functions(module) if each.__qualname__ == mutant.qualname][:1]
    before = function.__code__
    python_mutants.swap(mutant)
    try:
        assert function.__code__ != before
    finally:
        function.__code__ = before


def test_what_was_found_is_kept_by_the_content_of_files(tmp_path):
    kept, file = Kept(tmp_path / "build" / "kept.json"), tmp_path / "source"
    file.write_text("one")
    key = f"place {content_digest([file])}"
    assert kept.get("python", key) is None
    kept.put("python", key, {"by": "test"})
    again = Kept(tmp_path / "build" / "kept.json")
    assert again.get("python", key) == {"by": "test"}
    assert again.all("python", content_digest([file])) == [{"by": "test"}]
    file.write_text("two")
    assert again.all("python", content_digest([file])) == []


@pytest.fixture(scope="module")
def stored(project):
    if not (project.results / "court_mutants.json").is_file():
        pytest.skip("no run of all mutants is stored: make mutants")
    return read_result(project.results, "court_mutants")[1]


def test_the_stored_run_is_of_todays_checks_and_nothing_survives(stored):
    today = Counter((each.name, each.text) for path in FOLDER.glob("*.vy") for each in vyper_mutants(path)[1])
    for name in MODULES:
        module = importlib.import_module(name)
        today.update((each.file, each.text) for each in python_mutants.python_mutants(name, module))
    tried = Counter((each["file"], each["check"]) for each in stored["mutants"])
    assert today == tried
    assert [each for each in stored["mutants"] if each["state"] == "survived"] == []
    assert stored["survivors"] == 0
    contracts_alone = [each for each in stored["mutants"] if each["file"].endswith(".vy")]
    assert sum(each["state"] == "killed" for each in contracts_alone) >= 200
    assert stored["refused_calls"] > 1_000


def test_what_is_called_equivalent_says_why_and_is_not_killed(stored):
    named = {(each["file"], each["check"]): each for each in stored["mutants"] if each["state"] == "equivalent"}
    assert named.keys() == EQUIVALENT.keys()
    assert all(each["by"] == EQUIVALENT[key] for key, each in named.items())


def test_killers_are_tests_that_are_there(stored, project):
    for each in stored["mutants"]:
        if each["state"] == "killed":
            file, _, name = each["by"].partition("::")
            room = "otr_node/chain" if each["file"].endswith(".vy") else "otr_core/dispute"
            assert f"def {name.partition('[')[0]}(" in (project.root / "tests" / room / file).read_text(), each
