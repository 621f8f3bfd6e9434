"""A node for tests is started anew, and with it a chain of the same number: what was signed for the old one
is neither sent there nor forgotten, and nobody waits for what cannot come."""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from otr_core.dispute.profile import own_profile
from otr_core.errors import InputError, NodeError
from otr_node.chain.access import connect
from otr_node.chain.anvil import Anvil, free_port, known_keys
from otr_node.chain.defender import Defender
from otr_node.chain.evm import GENESIS_TIME
from otr_node.chain.keys import write_key
from otr_node.chain.onchain import FIRST_COURT, ChainCourt
from otr_node.chain.options import SenderOptions
from otr_node.chain.outbox import Outbox
from otr_node.chain.party import run_party
from otr_node.chain.rpc import RpcChain
from tests.helpers.nodes import PROGRAM, anvil, ask, needs_anvil

pytestmark = [pytest.mark.slow, needs_anvil]
LATER = GENESIS_TIME + 60
SOON_S = 60.0
"""Far below the patience of a command, and far above what a request takes."""


def at(node: Any, state: Path, **more: Any) -> RpcChain:
    return RpcChain(node.url, known_keys(2), outbox=Outbox(state), **{"poll_s": 0.02, **more})


def killed_while_it_sent(node: Any, state: Path, before: int = 1) -> bytes:
    """A process that has sent some transactions and is killed once the next is kept; that one, signed."""
    chain = at(node, state, patience_s=1.0)
    for _ in range(before):
        chain.fund(chain.accounts[1], 7)
    ask(node, "evm_setAutomine", False)
    with pytest.raises(NodeError, match="pending"):
        chain.fund(chain.accounts[1], 7)
    assert chain.outbox is not None
    ((_, nonce, raw),) = {each[1]: each for each in chain.outbox.waiting()}.values()
    assert nonce == before
    chain.outbox.close()
    return raw


def test_what_was_signed_for_a_chain_waits_for_that_chain(tmp_path):
    """It is not waited for on another of the same number, not sent there, and mined where it belongs."""
    state, kept = tmp_path / "state", tmp_path / "chain.json"
    with anvil(state=kept) as node:
        killed_while_it_sent(node, state)
        ask(node, "anvil_dropAllTransactions")  # what the node itself would keep
    with anvil(timestamp=LATER) as node:
        began, chain = time.monotonic(), at(node, state)
        assert chain.elsewhere > 0
        assert chain.outbox is not None
        assert chain.outbox.waiting() == []
        before = chain.balance(chain.accounts[1])
        chain.fund(chain.accounts[1], 3)
        chain.fund(chain.accounts[1], 3)  # here the number of what is kept is taken
        assert chain.balance(chain.accounts[1]) == before + 6
        assert time.monotonic() - began < SOON_S
        chain.outbox.close()
    with anvil(state=kept) as node:
        chain = at(node, state)
        assert int(ask(node, "eth_getTransactionCount", chain.accounts[0], "latest"), 16) == 2
        assert chain.outbox is not None
        assert (chain.elsewhere, chain.outbox.waiting()) == (0, [])
        assert chain.balance(chain.accounts[1]) == before + 14


def test_a_command_goes_on_at_once_and_says_what_it_leaves_aside(tmp_path, capsys):
    key, password = tmp_path / "key", tmp_path / "password"
    password.write_text("correct horse")
    write_key(key, "correct horse")

    def about(node: Any) -> SenderOptions:
        return SenderOptions(rpc=node.url, key=key, password_file=password)

    with anvil() as node:
        box = connect(about(node)).outbox
        assert box is not None
        box.put("me", 9, b"raw")
        box.note("seen", "1")
        box.close()
        assert capsys.readouterr().err == ""
    with anvil(timestamp=LATER) as node:
        began, chain = time.monotonic(), connect(about(node))
        assert time.monotonic() - began < SOON_S
        assert chain.outbox is not None
        assert (chain.outbox.waiting(), chain.outbox.known("seen")) == ([], None)
        said = capsys.readouterr().err
        assert said == f"{chain.outbox.path}: 1 signed for another chain of this number are left aside\n"


def test_on_a_chain_that_begins_alike_what_cannot_come_is_said_at_once(tmp_path):
    """Chains of one time have one first block: the block that a transaction was signed behind tells them
    apart, and the file is named. Where its number may come, it is sent: blocks taken back look the same."""
    state = tmp_path / "state"
    with anvil() as node:
        raw = killed_while_it_sent(node, state, before=2)
    with anvil() as node:
        ask(node, "evm_mine")
        began, box = time.monotonic(), Outbox(state)
        with pytest.raises(NodeError, match="which this chain lacks") as failure:
            RpcChain(node.url, known_keys(2), outbox=box)
        assert time.monotonic() - began < SOON_S
        assert failure.value.check == "pending"
        assert str(state) in str(failure.value)
        assert "delete the file" in str(failure.value)
        assert "\n" not in str(failure.value)
        assert raw in [each for _, _, each in box.waiting()]
        box.close()
        plain = RpcChain(node.url, known_keys(2))
        for _ in range(2):
            plain.fund(plain.accounts[1], 1)
        before = plain.balance(plain.accounts[1])
        chain = at(node, state)
        assert chain.balance(chain.accounts[1]) == before + 7
        assert chain.outbox is not None
        assert chain.outbox.waiting() == []


def test_what_may_still_come_is_waited_for_and_the_file_is_named(tmp_path):
    """The number before it is missing and the block that it was signed behind is not: the node may know why."""
    state = tmp_path / "state"
    with anvil() as node:
        key, chain = known_keys(1)[0], RpcChain(node.url, known_keys(1))
        fields = {"type": 2, "chainId": chain.id, "nonce": 1, "gas": 21_000, "to": key.address, "value": 0}
        raw = bytes(key.sign_transaction(fields | {"maxFeePerGas": 10**11, "maxPriorityFeePerGas": 1}).raw_transaction)
        box = Outbox(state)
        box.stand_on(chain.block_hash(0))
        box.put(key.address.lower(), 1, raw, chain.block_hash(0))
        box.close()
        with pytest.raises(NodeError, match="no receipt for 1 s") as failure:
            at(node, state, patience_s=1.0)
        assert f"transaction 1 of {key.address.lower()}, kept in {state}" in str(failure.value)


def test_a_process_that_runs_sends_nothing_to_a_chain_made_anew_behind_its_url(tmp_path):
    port = free_port()
    with anvil(port=port) as node:
        chain = at(node, tmp_path / "state")
        chain.fund(chain.accounts[1], 7)
    with anvil(port=port, timestamp=LATER) as node:
        with pytest.raises(NodeError) as failure:
            chain.fund(chain.accounts[1], 7)
        assert failure.value.check == "chain-id"
        assert int(ask(node, "eth_getTransactionCount", chain.accounts[0], "latest"), 16) == 0


def test_a_party_that_reads_says_that_another_chain_stands_there_now_and_ends(tmp_path):
    """Blocks that were taken back are read again; where the first block is another one, nothing will come."""
    port, about = free_port(), {"window_s": 60, "reveal_s": 60}
    with anvil(port=port) as node:
        court = ChainCourt(
            RpcChain(node.url, known_keys(2)), replace(own_profile().court, **about), known_keys(1)[0].address
        )
        chain = at(node, tmp_path / "state")
        stands = ChainCourt(chain, court.terms, court.registrar, court.arbiter, court.deployment)
        said = list[tuple[str, Any]]()
        party = Defender(stands, chain.accounts[1], {}, tmp_path, lambda event, **facts: said.append((event, facts)))
        party.read()
        mark = ask(node, "evm_snapshot")
        chain.fund(chain.accounts[1], 7)
        party.read()
        ask(node, "evm_revert", mark)
        party.read()
        assert [event for event, _ in said] == ["reorganised"]
    with anvil(port=port, timestamp=LATER) as node:
        with pytest.raises(NodeError, match="found a chain that begins with block") as failure:
            run_party(party, until=lambda acted: True, poll_s=0.01)
        assert failure.value.check == "chain-id"
        assert said[-1] == ("ended", {"why": str(failure.value)})


def test_a_node_that_is_started_again_goes_on_with_its_chain_and_its_clock(tmp_path):
    """Its first block too, by which processes know a chain; moved time does not go back, and blocks stay in order."""
    kept, chain_id = tmp_path / "chain.json", FIRST_COURT.chain_id
    assert PROGRAM is not None
    with Anvil(PROGRAM, chain_id=chain_id, state=kept) as node:
        chain = at(node, tmp_path / "state")
        chain.advance(5_000)
        chain.fund(chain.accounts[1], 7)
        time.sleep(1.1)  # a clock that begins anew would begin with another second
        first, last = chain.block_hash(0), int(ask(node, "eth_getBlockByNumber", "latest", False)["timestamp"], 16)
    for _ in range(2):
        time.sleep(1.1)
        with Anvil(PROGRAM, chain_id=chain_id, state=kept, port=node.port) as node:
            assert chain.block_hash(0) == first
            assert chain.time >= last
            chain.fund(chain.accounts[1], 7)  # by a process that has been there before
            before, last = last, int(ask(node, "eth_getBlockByNumber", "latest", False)["timestamp"], 16)
            assert before <= last < before + 600
        headers = [each["header"] for each in json.loads(kept.read_bytes())["blocks"]]
        assert [int(each["number"], 16) for each in headers].count(0) == 1  # of two it would show either
    kept.write_text("[]")
    with pytest.raises(InputError, match=r"chain\.json cannot be used .*, expected a chain that anvil has kept"):
        Anvil(PROGRAM, chain_id=chain_id, state=kept)


def test_a_state_file_of_before_is_read_on_as_of_the_chain_it_is_used_with(tmp_path):
    state = tmp_path / "state"
    with sqlite3.connect(state) as old:
        old.execute("CREATE TABLE sent (sender TEXT, nonce INTEGER, raw BLOB)")
        old.execute("INSERT INTO sent VALUES ('me', 1, x'01')")
    old.close()
    box = Outbox(state)
    assert (box.stand_on("0xa"), box.waiting(), box.behind(b"\1")) == (0, [("me", 1, b"\1")], "")
    box.done("other", 1)
    assert (box.stand_on("0xb"), box.waiting()) == (1, [])
    box.done("me", 1)
    box.note("name", "of b")
    assert (box.stand_on("0xa"), box.waiting(), box.known("name")) == (0, [("me", 1, b"\1")], None)
