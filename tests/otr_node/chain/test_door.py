"""The embedded chain behind its door: what it answers, what it refuses, and that it is the same chain after
whatever ended it. Whole disputes over it are in ``test_rpc``, a network of processes in ``test_devnet``."""

from __future__ import annotations

import http.client
import json
import os
import resource
import signal
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from eth_account import Account

from otr_core.errors import ChainError, InputError, NodeError
from otr_node.chain.anvil import EmbeddedNode, known_keys
from otr_node.chain.delivery import Delivery
from otr_node.chain.door import MOST_BYTES
from otr_node.chain.embedded import EmbeddedChain, RefusalError
from otr_node.chain.evm import GAS_LIMIT, GENESIS_TIME, Chain, call_data, compile_source
from otr_node.chain.node import RpcNode
from otr_node.chain.rpc import RpcChain
from tests.helpers.nodes import CHAIN_ID, ask, embedded_door, forward, needs_anvil
from tests.helpers.nodes import anvil as anvil_node

KEY, OTHER = known_keys(2)
CONTRACT = """
# pragma version 0.4.3
held: uint256
event Noted:
    number: indexed(uint256)
@external
@payable
def note(number: uint256):
    assert number != 13, "unlucky"
    self.held = number
    log Noted(number=number)
@external
@view
def shown() -> uint256:
    return self.held
@external
def spend(times: uint256):
    total: uint256 = 0
    for i: uint256 in range(times, bound=100000):
        total += i
    self.held = total
@external
def pass_on(to: address, data: Bytes[68]):
    raw_call(to, data)
@external
def forget():
    self.held = 0
"""


@pytest.fixture(scope="module")
def contract() -> Any:
    return compile_source(CONTRACT, "/nowhere/noted.vy")


def signed(key: Any = KEY, **other: Any) -> bytes:
    fields = {"type": 2, "chainId": CHAIN_ID, "nonce": 0, "gas": 21_000, "to": OTHER.address, "value": 7}
    fields |= {"maxFeePerGas": 10**10, "maxPriorityFeePerGas": 1}
    return bytes(key.sign_transaction(fields | other).raw_transaction)


def blocks(door: Any) -> list[Any]:
    head = int(ask(door, "eth_blockNumber"), 16)
    return [ask(door, "eth_getBlockByNumber", hex(number), False) for number in range(head + 1)]


def test_it_begins_as_the_embedded_chain_and_answers_as_a_chain_by_url_asks(contract):
    embedded = Chain()
    with embedded_door() as door:
        chain = RpcChain(door.url, [KEY, OTHER], chain_id=embedded.id, poll_s=0.01)
        assert chain.accounts == embedded.accounts[:2]
        assert [chain.balance(each) for each in chain.accounts] == [embedded.balance(each) for each in chain.accounts]
        assert chain.block_hash(0) == embedded.block_hash(0)
        assert chain.block_hash(1) == ""
        where = chain.next_address(KEY.address)
        code = chain.runtime_of(contract, address=where)
        at, made = chain.deploy(contract)
        beside, there = embedded.deploy(contract)
        assert (at.address, made.gas, chain.code(at.address)) == (where, there.gas, code)
        assert embedded.code(beside.address) == code
        first = chain.transact(at, "note", 5, value=3)
        assert (first.gas, first.events) == (embedded.transact(beside, "note", 5, value=3).gas, first.events)
        assert [each.args for each in first.events] == [{"number": 5}]
        assert (chain.call(at, "shown"), chain.balance(at.address)) == (5, 3)
        chain.transact(at, "note", 6)
        (one, two), (last,) = chain.entries([at], 0, chain.head), chain.entries([at], chain.head, chain.head)
        assert (one.transaction, one.block, one.time) == (first.transaction, 2, first.block_time)
        assert (two, two.entry.args["number"]) == (last, 6)
        assert chain.entries([replace(at, address=OTHER.address)], 0, chain.head) == []
        logged = [
            len(ask(door, "eth_getLogs", {"fromBlock": "0x0", **about}))
            for about in ({}, {"address": at.address}, {"address": [OTHER.address, at.address.lower()]})
        ]
        assert logged == [2, 2, 2]
        assert ask(door, "eth_getLogs", {"fromBlock": "0x0", "address": [OTHER.address]}) == []
        (call,) = chain.calls(first.transaction, [at.address])
        assert (call.sender, call.to, call.value) == (KEY.address.lower(), at.address.lower(), 3)
        assert chain.calls("0x" + "11" * 32, [at.address]) == []
        with pytest.raises(ChainError) as failure:
            chain.transact(at, "note", 13)
        assert failure.value.check == "unlucky"
        with pytest.raises(ChainError) as failure:
            chain.call(replace(at, address=OTHER.address), "shown")
        assert failure.value.check == "abi"
        about = {"to": at.address, "data": "0x" + call_data(at.entry("shown"), ()).hex(), "gas": hex(100)}
        request = {"jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": [about, "latest"]}
        assert forward(door.url, request)["error"]["code"] == 3  # no more than the gas that was given
        # A transaction of another contract has calls within: no trace of them is made up.
        through, _ = chain.deploy(contract)
        passed = chain.transact(through, "pass_on", at.address, call_data(at.entry("note"), [7]))
        with pytest.raises(NodeError) as refused:
            chain.calls(passed.transaction, [at.address])
        assert refused.value.check == "trace"


def test_an_estimate_is_enough_and_no_more_than_it_needs(contract):
    """Refunds, and a call within a call, which is given all but a 64th of what is left."""
    with embedded_door() as door:
        chain = RpcChain(door.url, [KEY], poll_s=0.01)
        at, _ = chain.deploy(contract)
        chain.transact(at, "note", 5)
        through, _ = chain.deploy(contract)
        spend = call_data(at.entry("spend"), [3_000]).ljust(68, b"\0")
        for to, name, args in (
            (at, "forget", ()),
            (through, "pass_on", (at.address, spend)),
            (at, "note", (6,)),
        ):
            data = "0x" + call_data(to.entry(name), args).hex()
            about = {"from": KEY.address, "to": to.address, "data": data}
            found = int(ask(door, "eth_estimateGas", about), 16)
            nonce = int(ask(door, "eth_getTransactionCount", KEY.address), 16)
            raw = signed(nonce=nonce, gas=found, to=to.address, value=0, data=data)
            receipt = ask(door, "eth_getTransactionReceipt", ask(door, "eth_sendRawTransaction", "0x" + raw.hex()))
            assert receipt["status"] == "0x1", name
            used = int(receipt["gasUsed"], 16)
            assert used <= found <= used * 5 // 4 + 1, (name, used, found)


def test_a_chain_is_the_same_after_it_was_killed(tmp_path):
    """Blocks, times and hashes; its clock goes on from the latest block; half a line is no block."""
    state = tmp_path / "chain.json"
    with EmbeddedNode(chain_id=CHAIN_ID, state=state) as node:
        chain = RpcChain(node.url, [KEY], poll_s=0.01)
        chain.fund(OTHER.address, 7)
        chain.advance(5_000)
        chain.fund(OTHER.address, 7)
        whole = blocks(node)
        os.kill(node.pid, signal.SIGKILL)
    with state.open("a") as file:
        file.write('{"time": 99')
    with EmbeddedNode(chain_id=CHAIN_ID, state=state, port=node.port) as node:
        assert blocks(node) == whole
        assert len(whole) == 4
        assert len({each["hash"] for each in whole}) == 4
        again = RpcChain(node.url, [KEY], poll_s=0.01)
        assert int(whole[3]["timestamp"], 16) - int(whole[1]["timestamp"], 16) >= 5_000
        assert 0 < again.time - int(whole[3]["timestamp"], 16) < 600
        again.fund(OTHER.address, 7)
        whole = blocks(node)
    with embedded_door(state) as door:
        assert blocks(door) == whole
    for junk in (b"junk\n", b'{"time": 1}\n', b'{"time": 1800000009, "raw": "02ff"}\n'):
        (tmp_path / "junk").write_bytes(junk)
        with pytest.raises(InputError, match="expected its journal"):
            EmbeddedChain(tmp_path / "junk")


def test_what_cannot_be_kept_is_not_mined(tmp_path):
    without = resource.getrlimit(resource.RLIMIT_FSIZE)
    chain = EmbeddedChain(tmp_path / "chain.json")
    raw = "0x" + signed().hex()
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, without[1]))
    try:
        with pytest.raises(RefusalError, match="journal"):
            chain.answer("eth_sendRawTransaction", [raw])
        with pytest.raises(RefusalError, match="journal"):
            chain.answer("evm_mine", [])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, without)
    assert chain.answer("eth_blockNumber", []) == "0x0"
    assert chain.answer("eth_getTransactionCount", [KEY.address, "pending"]) == "0x0"
    mark = chain.answer("eth_sendRawTransaction", [raw])
    assert chain.answer("eth_getTransactionReceipt", [mark])["status"] == "0x1"
    assert EmbeddedChain(tmp_path / "chain.json").answer("eth_blockNumber", []) == "0x1"


def test_time_goes_on_by_itself_and_is_moved_as_nodes_for_tests_let_it_be():
    now = [50.0]
    chain = EmbeddedChain(clock=lambda: now[0])

    def latest(which: str = "latest") -> int:
        return int(chain.answer("eth_getBlockByNumber", [which, False])["timestamp"], 16) - GENESIS_TIME

    assert (latest(), latest("pending")) == (0, 1)
    now[0] += 30
    assert latest("pending") == 30
    chain.answer("evm_increaseTime", [hex(100)])
    chain.answer("evm_mine", [])
    assert (latest(), latest("pending")) == (130, 131)
    chain.answer("evm_setNextBlockTimestamp", [GENESIS_TIME + 500])
    now[0] += 60
    chain.answer("evm_mine", [])
    assert (latest(), latest("pending")) == (500, 560)
    with pytest.raises(RefusalError, match="after the latest"):
        chain.answer("evm_setNextBlockTimestamp", [GENESIS_TIME + 500])
    for wrong in (-1, 2**40, "soon", None, 1.5, True):
        with pytest.raises(RefusalError) as failure:
            chain.answer("evm_increaseTime", [wrong])
        assert failure.value.error["code"] == -32602
    assert latest("pending") == 560


def test_a_transaction_that_cannot_come_is_refused_as_other_nodes_do():
    poor = Account.from_key(b"p" * 32)
    cases = {
        "nonce too high": signed(nonce=1),
        "insufficient funds": signed(poor),
        "another type": bytes(KEY.sign_transaction({"nonce": 0, "gas": 21_000, "gasPrice": 10**10, "to": OTHER.address,
                                                    "value": 7, "chainId": CHAIN_ID}).raw_transaction),
        "gas limit too high": signed(gas=GAS_LIMIT + 1),
        "base fee": signed(maxFeePerGas=1),
        "gas": signed(gas=20_000),
        "chain": signed(chainId=5),
        "empty": b"",
        "RLP": b"\x02junk",
    }  # fmt: skip
    with embedded_door() as door:
        for said, raw in cases.items():
            request = {"jsonrpc": "2.0", "id": 7, "method": "eth_sendRawTransaction", "params": ["0x" + raw.hex()]}
            answer = forward(door.url, request)
            assert answer["error"]["code"] == -32000, said
            assert said.lower() in answer["error"]["message"].lower(), answer
            assert "\n" not in answer["error"]["message"]
        assert ask(door, "eth_blockNumber") == "0x0"
        ask(door, "eth_sendRawTransaction", "0x" + signed().hex())
        for said, raw in (("already known", signed()), ("nonce too low", signed(value=8))):
            request = {"jsonrpc": "2.0", "id": 7, "method": "eth_sendRawTransaction", "params": ["0x" + raw.hex()]}
            assert said in forward(door.url, request)["error"]["message"]
        assert ask(door, "eth_blockNumber") == "0x1"
        mean = RpcChain(door.url, [poor])
        with pytest.raises(NodeError) as failure:
            mean.fund(KEY.address, 1)
        assert failure.value.check == "funds"


def test_what_is_no_question_is_refused_and_the_door_stays_open():
    asked: list[tuple[Any, int]] = [
        (b"junk", -32700),
        (b"[" * 100_000, -32700),
        (b"[]", -32600),
        (b"7", -32600),
        (b"{}", -32601),
        ({"method": "eth_nothing"}, -32601),
        ({"method": "__init__"}, -32601),
        ({"method": ["eth_chainId"]}, -32601),
        ({"method": "debug_traceTransaction", "params": ["0x"]}, -32601),
        ({"method": "eth_getCode"}, -32602),
        ({"method": "eth_getCode", "params": ["0x11"]}, -32602),
        ({"method": "eth_getCode", "params": [["0x"]]}, -32602),
        ({"method": "eth_getBlockByNumber", "params": ["0x" + "f" * 65, False]}, -32602),
        ({"method": "eth_getBlockByNumber", "params": [{}, False]}, -32602),
        ({"method": "eth_chainId", "params": [1]}, -32602),
        ({"method": "eth_chainId", "params": "0x"}, 0),
        ({"method": "eth_getLogs", "params": [{"topics": []}]}, -32602),
        ({"method": "eth_getLogs", "params": [7]}, -32602),
        ({"method": "eth_call", "params": [{"to": "0x", "data": "0x"}]}, -32602),
        ({"method": "eth_call", "params": [{"data": "0xfe"}]}, 3),
        ({"method": "eth_call", "params": [{"data": "0x5b600056", "gas": "0xffff"}]}, 3),  # for ever
        ({"method": "eth_estimateGas", "params": [{"from": KEY.address, "value": hex(2**256 - 1)}]}, -32000),
    ]
    with embedded_door() as door:
        for each, code in asked:
            line = http.client.HTTPConnection("127.0.0.1", door.server_address[1], timeout=60)
            line.request("POST", "/", each if isinstance(each, bytes) else json.dumps({"id": 1, **each}))
            answer = json.loads(line.getresponse().read())
            assert answer.get("error", {"code": 0})["code"] == code, (each, answer)
            line.close()
        for size, status in ((str(MOST_BYTES + 1), 413), ("many", 411), (None, 411)):
            line = http.client.HTTPConnection("127.0.0.1", door.server_address[1], timeout=60)
            line.putrequest("POST", "/")
            if size is not None:
                line.putheader("content-length", size)
            line.endheaders()
            assert line.getresponse().status == status
            line.close()
        assert ask(door, "eth_chainId") == hex(CHAIN_ID)


@pytest.mark.slow
@needs_anvil
def test_gas_is_that_of_anvil(contract):
    found = {}
    with embedded_door() as door, anvil_node() as node:
        for name, each in (("door", door), ("anvil", node)):
            chain = RpcChain(each.url, [KEY], poll_s=0.01)
            at, made = chain.deploy(contract)
            calls = [("note", (5,)), ("note", (6,)), ("spend", (500,)), ("forget", ())]
            found[name] = [made.gas, *(chain.transact(at, call, *args).gas for call, args in calls)]
    assert found["door"] == found["anvil"]


class Late(RpcNode):
    """A node that tells that a number is taken before it finds the transaction that took it."""

    left = 0

    def ask(self, method: str, *params: Any, patience_s: float | None = None) -> Any:
        found = super().ask(method, *params, patience_s=patience_s)
        if method in ("eth_getTransactionReceipt", "eth_getTransactionByHash") and found and self.left:
            self.left -= 1
            return None
        return found


def test_what_the_node_refuses_is_said_and_not_tried_till_patience_ends():
    fields = {"type": 2, "chainId": CHAIN_ID, "nonce": 0, "gas": 21_000, "to": OTHER.address, "value": 7}
    fields |= {"maxFeePerGas": 10**10, "maxPriorityFeePerGas": 1}
    with embedded_door() as door:
        delivery = Delivery(RpcNode(door.url, 5.0), None, 0, 10**12, 20.0, 0.01)
        for changes, kind, check in (
            ({"value": 10**30}, NodeError, "funds"),
            ({"gas": 20_000}, ChainError, "transaction"),
        ):
            with pytest.raises(kind) as failure:
                delivery.deliver(KEY, fields | changes)
            assert failure.value.check == check


class Wavering(RpcNode):
    """Shows and hides what it has, as ``hidden`` says, then shows it."""

    hidden: ClassVar[list[bool]] = []

    def ask(self, method: str, *params: Any, **more: Any) -> Any:
        found = super().ask(method, *params, **more)
        looked = method in ("eth_getTransactionReceipt", "eth_getTransactionByHash") and found and self.hidden
        return None if looked and self.hidden.pop(0) else found


def test_a_number_that_is_seen_taken_now_and_then_is_not_another_s(monkeypatch):
    """So often in a row it has to be: a receipt that was seen in between is ours."""
    first, look, seen = [True], [True] * 3, [True, True, False]
    monkeypatch.setattr(Wavering, "hidden", [*first, *look * 3, *seen, *look * 3])
    fields = {"type": 2, "chainId": CHAIN_ID, "nonce": 0, "gas": 21_000, "to": OTHER.address, "value": 7}
    fields |= {"maxFeePerGas": 10**10, "maxPriorityFeePerGas": 1}
    with embedded_door() as door:
        delivery = Delivery(Wavering(door.url, 5.0), None, 0, 10**12, 20.0, 0.01)
        assert int(str(delivery.deliver(KEY, fields)["blockNumber"]), 16) == 1
        assert Wavering.hidden == []


def test_a_receipt_that_comes_late_is_waited_for_and_another_s_transaction_is_named():
    fields = {"type": 2, "chainId": CHAIN_ID, "nonce": 0, "gas": 21_000, "to": OTHER.address, "value": 7}
    fields |= {"maxFeePerGas": 10**10, "maxPriorityFeePerGas": 1}
    with embedded_door() as door:
        node = Late(door.url, 5.0)
        delivery = Delivery(node, None, 0, 10**12, 20.0, 0.01)
        node.left = 8  # the first look asks twice, the second three times
        assert int(str(delivery.deliver(KEY, fields)["blockNumber"]), 16) == 1
        assert node.left == 0
        with pytest.raises(ChainError) as failure:
            delivery.deliver(KEY, fields | {"value": 8})
        assert failure.value.check == "nonce"
