"""The local chain: receipts, reasons, events, time; and that a transaction that reverts changes
nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from otr_core.errors import ChainError
from otr_node.chain.evm import GENESIS_TIME, Chain, Contract, compile_vyper
from otr_node.chain.onchain import FOLDER

SOURCE = """
# pragma version 0.4.3
event Ping:
    who: indexed(address)
    n: uint256
struct Pair:
    a: uint256
    b: bytes32
kept: public(uint256)
@external
@payable
def keep(a: uint256, pair: Pair):
    assert a > 2, "too small"
    self.kept = a
    log Ping(who=msg.sender, n=pair.a)
@external
def late(until: uint256):
    assert block.timestamp <= until, "late"
@external
def silent():
    assert self.kept == max_value(uint256)
@view
@external
def both() -> (uint256, uint256):
    return self.kept, block.timestamp
"""


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Chain, Contract]:
    """A chain with the keeper contract on it."""
    path = tmp_path_factory.mktemp("contract") / "keeper.vy"
    path.write_text(SOURCE)
    chain = Chain(accounts=3)
    return chain, chain.deploy(compile_vyper(path))[0]


def test_a_transaction_changes_state_and_says_so(deployed):
    chain, keeper = deployed
    receipt = chain.transact(keeper, "keep", 3, (7, b"x" * 32), value=5, sender=chain.accounts[1])
    assert receipt.gas > 21_000
    assert receipt.calldata_bytes == 4 + 3 * 32
    assert [(e.name, e.args["n"], e.args["who"]) for e in receipt.events] == [("Ping", 7, chain.accounts[1].lower())]
    assert chain.call(keeper, "both")[0] == 3
    assert chain.balance(keeper.address) == 5


def test_a_revert_gives_its_reason_and_changes_nothing(deployed):
    chain, keeper = deployed
    before = chain.call(keeper, "both")[0], chain.balance(keeper.address)
    with pytest.raises(ChainError) as failure:
        chain.transact(keeper, "keep", 2, (7, b"x" * 32), value=5)
    assert failure.value.check == "too small"
    assert (chain.call(keeper, "both")[0], chain.balance(keeper.address)) == before
    with pytest.raises(ChainError) as failure:
        chain.transact(keeper, "silent")
    assert failure.value.check == "reverted"


def test_time_moves_when_asked_and_a_deadline_is_exact(deployed):
    chain, keeper = deployed
    assert chain.time > GENESIS_TIME
    chain.travel(chain.time + 1000)
    deadline = chain.time
    chain.transact(keeper, "late", deadline)
    with pytest.raises(ChainError) as failure:
        chain.transact(keeper, "late", deadline)
    assert failure.value.check == "late"


@pytest.mark.parametrize("call", [("keep", 3), ("keep", "three", (7, b"x" * 32)), ("absent",), ("keep", -1, (7, b""))])
def test_unusable_calls_are_named_errors(deployed, call):
    chain, keeper = deployed
    with pytest.raises(ChainError):
        chain.transact(keeper, *call)


def test_a_contract_that_does_not_compile_is_a_named_error(tmp_path):
    path = tmp_path / "bad.vy"
    path.write_text("# pragma version 0.4.3\n@external\ndef f():\n    x: uint256 = True\n")
    with pytest.raises(ChainError) as failure:
        compile_vyper(path)
    assert failure.value.check == "compile"


def test_hostile_json_does_not_end_a_process_that_has_a_chain():
    """py-evm and py_ecc raise the recursion limit when imported; deeply nested JSON stays a named
    error."""
    code = """
import sys
import py_ecc
from otr_node.chain.evm import Chain
from otr_core.encoding import parse_json
from otr_core.errors import InputError
Chain(accounts=1)
limit = sys.getrecursionlimit()
assert limit > 5_000, limit  # or this test tests nothing
for text in ("[" * 1_000_000, '{"a":' * 1_000_000, "[" * 2_000 + "]" * 2_000):
    try:
        parse_json(text)
    except InputError:
        print("named")
assert parse_json("[" * 300 + "]" * 300)
assert sys.getrecursionlimit() == limit
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout.split() == ["named"] * 3, run.stderr[-400:]


def test_the_place_of_a_contract_is_known_before_it_stands():
    """Before the first transaction of an account, the second, and one whose number takes a byte more."""
    chain = Chain(accounts=2)
    contract, sender = compile_vyper(FOLDER / "arbiter.vy"), chain.accounts[0].lower()
    for between in (0, 0, 126):
        ahead = chain.next_address(sender, between)
        for _ in range(between):
            chain.transact_raw(chain.accounts[1], b"", sender=sender)
        assert chain.next_address(sender) == ahead
        assert chain.deploy(contract, *chain.accounts, sender=sender)[0].address == ahead
