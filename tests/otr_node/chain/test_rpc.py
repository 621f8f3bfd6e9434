"""A node by its URL against the embedded chain: whole disputes with equal gas and equal storage after
every call; and what a node may do to a transaction."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any

import pytest
from eth_account import Account

from otr_core.dispute.court import Court
from otr_core.dispute.play import Step, play
from otr_core.dispute.players import HonestChallenger, HonestOperator
from otr_core.errors import ChainError, NodeError
from otr_node.chain.anvil import known_keys
from otr_node.chain.evm import Chain, call_data, compile_source, compile_vyper, storage_root_of
from otr_node.chain.followed import Followed
from otr_node.chain.interface import AnyChain, TxReceipt
from otr_node.chain.onchain import FOLDER, ChainCourt
from otr_node.chain.outbox import Outbox
from otr_node.chain.rpc import RpcChain
from otr_node.run import Run
from otr_paper.labs.disputes.both import Both, both
from otr_paper.labs.disputes.parties import CLIENT, FISHERMAN, OPERATOR, registered_model
from otr_paper.labs.disputes.world import TERMS, random_tamper, salted_wrongly, tiny, tiny_signed
from tests.helpers.hardhat import hardhat, needs_hardhat, proven_roots
from tests.helpers.nodes import CHAIN_ID, anvil, ask, embedded_door, forward, moved_chain, needs_anvil, storage_roots

pytestmark = [pytest.mark.slow, needs_anvil]
SALT = b"s" * 32


def tampered() -> Run:
    return tiny().run(replace(random_tamper(tiny(), Random(3)), delta=2**20))


def other_token() -> Run:
    ids = tiny().honest.token_ids
    return tiny().run(token_ids=(*ids[:4], ids[4] + 1, *ids[5:]))


#: What the operator runs, and whether it keeps silent in the end.
GAMES = {
    "a false value": tampered,
    "another token": other_token,
    "a false salt": lambda: salted_wrongly(tiny(), Random(3)),
    "an honest operator": lambda: tiny().honest,
}


@dataclass
class Watched:
    """After each call of a game: its gas, and the roots of all that the contracts store."""

    pair: Both
    roots: Any
    seen: list[tuple[Any, ...]] = field(default_factory=list)

    def observe(self, step: Step, court: Court) -> None:
        self.pair.observe(step, court)
        addresses = [each.address for each in self.pair.chain.contracts]
        self.seen.append((step.move[0], self.pair.chain.ledger[-1].gas, *self.roots(addresses)))


def played(chain: AnyChain, false: Run, roots: Any) -> tuple[Both, list[tuple[Any, ...]]]:
    """A dispute from deployment to the end of the reward, compared with the Python court after every
    call."""
    pair = both(tiny().honest, TERMS, chain=chain)  # type: ignore[arg-type]
    right = false is tiny().honest
    number, now = pair.open_challenge(tiny_signed(false), [], token=0, salt=SALT, pay=5_000)
    watched = Watched(pair, roots)
    challenger = tampered() if right else tiny().honest
    _, log = play(
        pair.court, number, HonestOperator(false), HonestChallenger(challenger), now=now, observe=watched.observe
    )
    now = log[-1].now + TERMS.window_s + TERMS.reveal_s + TERMS.clock_s
    batch = next(iter(pair.court.batches))
    ends = [(CLIENT, "finalise", batch)] if right else [(FISHERMAN, "pay_reward", OPERATOR), (CLIENT, "refund", batch)]
    payee = OPERATOR if right else FISHERMAN
    for step, (who, name, *args) in enumerate([*ends, (payee, "withdraw"), (payee, "withdraw")]):
        reason = pair.do(now + step, who, name, *args)
        watched.seen.append((name, reason, *roots([each.address for each in pair.chain.contracts])))
    assert watched.seen[-1][1] == "credit"
    assert pair.court.operators[pair.names[OPERATOR]].convicted is not right
    return pair, watched.seen


@functools.cache
def embedded_game(name: str) -> tuple[Chain, Both, list[tuple[Any, ...]]]:
    """The game on the embedded chain, which each node is compared with."""
    embedded = Chain(accounts=6)
    return embedded, *played(embedded, GAMES[name](), lambda where: [embedded.storage_root(each) for each in where])


@pytest.mark.parametrize(
    ("begun", "stored"),
    [
        pytest.param(anvil, storage_roots, id="anvil"),
        pytest.param(
            embedded_door,
            lambda door, *where: [storage_root_of(door.chain.tester, each) for each in where],
            id="the embedded chain's door",
        ),
        pytest.param(hardhat, proven_roots, id="hardhat", marks=needs_hardhat),
    ],
)
@pytest.mark.parametrize("name", GAMES)
def test_a_whole_dispute_costs_the_same_gas_and_leaves_the_same_storage_on_a_node(name, begun, stored):
    embedded, own, expected = embedded_game(name)
    with begun() as node:
        chain = moved_chain(node)
        assert (chain.accounts, chain.id) == (embedded.accounts, embedded.id)
        pair, found = played(chain, GAMES[name](), lambda where: stored(node, *where))
        assert found == expected
        assert pair.chain.ledger == own.chain.ledger
        assert [chain.code(each.address) for each in pair.chain.contracts] == [
            embedded.code(each.address) for each in own.chain.contracts
        ]
        for made in (own, pair):
            follows_from_logs(made)


def follows_from_logs(pair: Both) -> None:
    """A stranger reads the deployment and all logs, and holds what the court holds."""
    stands = pair.chain.deployment
    served = tiny()
    model_id = served.bench.model.manifest.model_id
    again = ChainCourt(pair.chain.chain, stands.terms, stands.registrar, stands.arbiter, stands)
    again.attach_judge(model_id, stands.judges[model_id.hex()], served.trees)
    followed = Followed(again, {model_id: registered_model(served.trees)})
    followed.read()
    court = pair.court
    assert [(c.challenger, c.status, c.operator, c.batch) for c in followed.court.challenges] == [
        (c.challenger, c.status, c.operator, c.batch) for c in court.challenges
    ]
    assert followed.court.batches.keys() == court.batches.keys()
    assert {who: value for who, value in followed.logs.credits.items() if value} == {
        who: value for who, value in court.credits.items() if value
    }
    assert followed.logs.burnt_wei == court.burnt_wei
    assert {name: each.stake_wei for name, each in followed.court.operators.items()} == {
        name: each.stake_wei for name, each in court.operators.items()
    }


def test_every_position_of_a_game_is_rebuilt_from_logs(pair_on_node):
    """After each move what was read gives the game, its clocks and what was shown."""
    pair, followed, _node = pair_on_node
    false = tampered()
    number, now = pair.open_challenge(tiny_signed(false), [], token=0, salt=SALT)
    moves = []

    def compare(step: Step, court: Court) -> None:
        pair.observe(step, court)
        followed.read()
        mine, other = followed.court.challenges[number - 1], court.challenges[number - 1]
        moves.append(step.move[0])
        if other.status.name == "OPEN":
            assert mine.game == other.game
            assert (mine.left_s, mine.last_time) == (other.left_s, other.last_time)
            assert pair.chain.standing_words(followed.court, number) == pair.chain.standing_words(court, number)
        if step.who == "operator" and other.status.name == "OPEN":
            assert followed.shown[number] == step.move
        assert mine.status == other.status

    play(pair.court, number, HonestOperator(false), HonestChallenger(tiny().honest), now=now, observe=compare)
    assert moves[-1] == "prove"
    assert followed.times_over == 0


@pytest.fixture
def pair_on_node() -> Iterator[tuple[Both, Followed, Any]]:
    with anvil() as node:
        pair = both(tiny().honest, TERMS, chain=moved_chain(node))  # type: ignore[arg-type]
        model_id = tiny().bench.model.manifest.model_id
        yield pair, Followed(pair.chain, {model_id: registered_model(tiny().trees)}), node


def test_a_reading_that_is_cut_off_leaves_nothing_half_done(pair_on_node):
    """The node stops showing transactions after each number of them: the next reading finds the court as
    if nothing had happened, and gets farther each time."""
    pair, followed, _ = pair_on_node
    false = tampered()
    number, now = pair.open_challenge(tiny_signed(false), [], token=0, salt=SALT)
    play(pair.court, number, HonestOperator(false), HonestChallenger(tiny().honest), now=now, observe=pair.observe)
    followed.read()
    whole, shown = followed.court, pair.chain.chain.calls
    count, known, tries = 0, list[str](), 0

    def stingy(transaction: str, addresses: Sequence[str]) -> list[Any]:
        nonlocal count
        count += 1
        if count > 1:
            raise NodeError("node", "no answer", "one")
        known.append(transaction)
        return shown(transaction, addresses)

    pair.chain.chain.calls = stingy
    other = Followed(pair.chain, dict(followed.models))
    while True:
        count = 0
        try:
            other.read()
            break
        except NodeError:
            tries += 1
            assert len(other.court.challenges) == 0  # all of it is read again
    assert (other.court, other.shown, other.opened) == (whole, followed.shown, followed.opened)
    assert len(set(known)) == len(known) == tries + 1 > 5
    # A node that shows other transactions than it logs is asked again.
    lies = [True]
    pair.chain.chain.calls = lambda transaction, addresses: [] if lies[0] else shown(transaction, addresses)
    third = Followed(pair.chain, dict(followed.models))
    with pytest.raises(NodeError) as failure:
        third.read()
    assert failure.value.check == "trace"
    lies[0] = False
    third.read()
    assert third.court == whole


# --- a player that hides behind a contract

FORWARDER = """
# pragma version 0.4.3
@external
@payable
def forward(to: address, data: Bytes[8192]):
    raw_call(to, data, value=msg.value)
@external
@payable
def try_first(to: address, wrong: Bytes[8192], data: Bytes[8192]):
    done: bool = raw_call(to, wrong, gas=8000, revert_on_failure=False)
    raw_call(to, data, value=msg.value)
@external
@payable
def __default__():
    pass
"""


class Behind(RpcChain):
    """Whatever the fisherman sends goes through a contract, which first tries the same call with other
    arguments and hides that it failed."""

    forwarder: Any = None

    def transact(
        self, contract: Any, function: str, *args: Any, sender: str | None = None, value: int = 0
    ) -> TxReceipt:
        if self.forwarder is None or sender != self.forwarder.address.lower():
            return super().transact(contract, function, *args, sender=sender, value=value)
        data, account = call_data(contract.entry(function), args), self.accounts[2]
        wrong = data[:-1] + bytes([data[-1] ^ 1])
        full = "try_first", contract.address, wrong, data
        return super().transact(self.forwarder, *full, sender=account, value=value)


def test_moves_by_a_contract_are_followed_through_traces(tmp_path):
    path = tmp_path / "forwarder.vy"
    path.write_text(FORWARDER)
    false = tampered()
    with anvil() as node:
        chain = Behind(node.url, known_keys(6), chain_id=CHAIN_ID, moved=True, poll_s=0.01)
        pair = both(tiny().honest, TERMS, chain=chain)  # type: ignore[arg-type]
        forwarder, _ = chain.deploy(compile_source(FORWARDER, str(path)), sender=chain.accounts[2])
        events = tuple(each for each in pair.chain.court.abi if each["type"] == "event")
        chain.forwarder = replace(forwarder, abi=(*forwarder.abi, *events))
        pair.names[FISHERMAN] = forwarder.address.lower()
        model_id = tiny().bench.model.manifest.model_id
        followed = Followed(pair.chain, {model_id: registered_model(tiny().trees)})
        number, now = pair.open_challenge(tiny_signed(false), [], token=0, salt=SALT)

        def compare(step: Step, court: Court) -> None:
            pair.observe(step, court)
            followed.read()
            if court.challenges[number - 1].status.name == "OPEN":
                assert followed.court.challenges[number - 1].game == court.challenges[number - 1].game

        play(pair.court, number, HonestOperator(false), HonestChallenger(tiny().honest), now=now, observe=compare)
        assert followed.court.challenges[number - 1].status.name == "WON"
        # A node that does not trace is said, and nothing is guessed.
        door = Door(node)
        door.rule = lambda method, count, params: (
            {"error": {"code": -32601, "message": "no such method"}} if method == "debug_traceTransaction" else None
        )
        blind = ChainCourt(RpcChain(door.url), TERMS, pair.chain.registrar, pair.chain.arbiter, pair.chain.deployment)
        blind.attach_judge(model_id, pair.chain.judges[model_id].address, tiny().trees)
        with pytest.raises(NodeError) as failure:
            Followed(blind, {model_id: registered_model(tiny().trees)}).read()
        assert failure.value.check == "trace"
        door.shutdown()
        door.server_close()


# --- what a node may do


class Door(ThreadingHTTPServer):
    """A door in front of a node that does to requests what a test tells it to.

    Attributes:
        rule: method, number of this call of it, parameters -> None to pass it on, an answer, or an HTTP
            status.
    """

    daemon_threads = True

    def __init__(self, node: Any) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.node, self.counts = node, dict[str, int]()
        self.rule: Any = lambda method, count, params: None
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Door

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        method = request["method"]
        self.server.counts[method] = count = self.server.counts.get(method, 0) + 1
        told = self.server.rule(method, count, request["params"])
        if told is None:
            told = forward(self.server.node.url, request)
        status, body = (told, b"{}") if isinstance(told, int) else (200, told)
        if isinstance(body, dict):
            body = json.dumps({"jsonrpc": "2.0", "id": request["id"], **body}).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *about: Any) -> None:
        pass


@contextmanager
def behind_a_door(**more: Any) -> Iterator[tuple[Any, Door]]:
    with anvil(**more) as node:
        door = Door(node)
        try:
            yield node, door
        finally:
            door.shutdown()
            door.server_close()


def test_a_node_that_fails_now_and_then_is_asked_again():
    """Refused connections, HTTP errors, pages that are no JSON, busy answers: the second try is good."""
    with behind_a_door() as (_node, door):
        faults = [503, b"<html>", {"error": {"code": -32005, "message": "too many requests"}}, {"else": 1}]
        door.rule = lambda method, count, params: faults[count - 1] if count <= len(faults) else None
        chain = RpcChain(door.url, known_keys(2), patience_s=20.0)
        receipt = chain.fund(chain.accounts[1], 7)
        assert receipt.gas == 21_000
        assert door.counts["eth_chainId"] == len(faults) + 1


def test_time_does_not_go_back_with_the_clock_of_a_node():
    """As one that has just started again tells of its pending block, before its clock is right."""
    with behind_a_door() as (node, door):
        chain = RpcChain(door.url, known_keys(2), poll_s=0.01)
        chain.advance(1000)
        latest = int(ask(node, "eth_getBlockByNumber", "latest", False)["timestamp"], 16)
        assert chain.time > latest
        for told in ({"timestamp": hex(latest - 900)}, {}):
            door.rule = lambda method, count, params, told=told: {"result": told} if params[:1] == ["pending"] else None
            assert chain.time == latest + 1


def test_a_transaction_that_the_node_swallows_is_sent_again_and_made_once():
    with behind_a_door() as (node, door):
        chain = RpcChain(door.url, known_keys(2), poll_s=0.01)
        before = chain.balance(chain.accounts[1])
        door.rule = lambda method, count, params: (
            {"result": "0x" + "11" * 32} if method == "eth_sendRawTransaction" and count <= 2 else None
        )
        chain.fund(chain.accounts[1], 7)
        assert door.counts["eth_sendRawTransaction"] == 3 == chain.sent_again
        assert chain.balance(chain.accounts[1]) == before + 7
        # Sent twice, as a node does that answers late: it is one transaction still.
        twice = {"jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction"}
        door.rule = lambda method, count, params: (
            forward(node.url, {**twice, "params": params}) and None if method == twice["method"] else None
        )
        chain.fund(chain.accounts[1], 7)
        assert chain.balance(chain.accounts[1]) == before + 14


def test_a_transaction_that_vanishes_with_its_block_is_sent_again():
    """The block of a transaction is exchanged for another before it has its confirmations."""
    with behind_a_door(block_s=1) as (node, door):
        chain = RpcChain(door.url, known_keys(2), poll_s=0.05, confirmations=2, patience_s=60.0)
        before, gone = chain.balance(chain.accounts[1]), []

        def rule(method: str, count: int, params: list[Any]) -> None:
            if method == "eth_getTransactionReceipt" and len(gone) < 2 and ask(node, method, *params):
                gone.append(params[0])
                if len(gone) == 1:
                    return  # seen once, in a block that nothing stands on
                ask(node, "anvil_reorg", 1, [])
                ask(node, "anvil_dropAllTransactions")

        door.rule = rule
        receipt = chain.fund(chain.accounts[1], 7)
        assert gone == [receipt.transaction] * 2
        assert chain.sent_again == 2
        assert chain.balance(chain.accounts[1]) == before + 7


def test_logs_are_read_in_parts_where_the_node_refuses_more(pair_on_node):
    pair, _followed, node = pair_on_node
    pair.open_challenge(tiny_signed(tampered()), [], token=0, salt=SALT)
    whole = pair.chain.chain.entries(pair.chain.contracts, 0, pair.chain.chain.head)
    door = Door(node)

    def rule(method: str, count: int, params: list[Any]) -> Any:
        wide = method == "eth_getLogs" and int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) >= 3
        return {"error": {"code": -32000, "message": "range too wide"}} if wide else None

    door.rule = rule
    chain = RpcChain(door.url)
    assert chain.entries(pair.chain.contracts, 0, chain.head) == whole
    assert len(whole) > 5
    door.shutdown()
    door.server_close()


def test_a_reorganisation_is_noticed_and_all_is_read_again(pair_on_node):
    pair, followed, node = pair_on_node
    pair.open_challenge(tiny_signed(tampered()), [], token=0, salt=SALT)
    followed.read()
    assert followed.court.challenges[0].game is not None
    ask(node, "anvil_reorg", 1, [])
    followed.read()
    assert followed.times_over == 1
    assert len(followed.court.challenges) == 1
    assert not followed.court.challenges[0].opened  # the block in which it was is gone
    assert followed.court.challenges[0].game is None


# --- unusable input


def test_what_cannot_be_used_is_named():
    with anvil() as node:
        key = known_keys(1)[0]
        chain = RpcChain(node.url, [key], chain_id=CHAIN_ID)
        poor = RpcChain(node.url, [Account.from_key(b"p" * 32)])
        mean = RpcChain(node.url, [key], max_fee_wei=10)
        cases = {
            "chain-id": lambda: RpcChain(node.url, chain_id=1),
            "rpc": lambda: RpcChain("http://127.0.0.1:9/secret-token", patience_s=0.3),
            "funds": lambda: poor.fund(key.address, 1),
            "fee": lambda: mean.fund(key.address, 1),
            "key": lambda: RpcChain(node.url).fund(key.address, 1),
            "time": lambda: chain.travel(2**32),
        }
        for check, call in cases.items():
            with pytest.raises(NodeError) as failure:
                call()
            assert failure.value.check == check
            assert "secret-token" not in str(failure.value)
            assert "\n" not in str(failure.value)
        for url in ("ftp://x", "nonsense", "http://"):
            with pytest.raises(NodeError, match="rpc"):
                RpcChain(url)


def test_a_call_that_would_revert_is_refused_before_it_is_sent():
    with anvil() as node:
        chain = RpcChain(node.url, known_keys(2))
        pair = both(tiny().honest, TERMS, chain=moved_chain(node))  # type: ignore[arg-type]
        sent = int(ask(node, "eth_getTransactionCount", chain.accounts[0], "latest"), 16)
        with pytest.raises(ChainError) as failure:
            chain.transact(pair.chain.court, "commit_batch", bytes(32), 1)
        assert failure.value.check == "standing"
        assert int(ask(node, "eth_getTransactionCount", chain.accounts[0], "latest"), 16) == sent


def test_contracts_of_other_terms_or_another_version_are_refused():
    chain = Chain(accounts=2)
    stands = ChainCourt(chain, TERMS, chain.accounts[0]).deployment
    ChainCourt(chain, TERMS, stands.registrar, stands.arbiter, stands)
    longer = replace(TERMS, clock_s=TERMS.clock_s + 1)
    other, _ = chain.deploy(compile_vyper(FOLDER / "arbiter.vy"), *chain.accounts[:2])
    for changed in (
        replace(stands, terms=longer),
        replace(stands, court=other.address),
        replace(stands, table=stands.court),
        replace(stands, registry="0x" + "11" * 20),
        replace(stands, arbiter=chain.accounts[1]),
    ):
        with pytest.raises(NodeError) as failure:
            ChainCourt(chain, changed.terms, changed.registrar, changed.arbiter, changed)
        assert failure.value.check == "contract"


def test_nothing_is_signed_before_what_was_signed_has_come_to_an_end(tmp_path):
    """The node keeps a transaction to itself for longer than one waits for: the next call sees to that first,
    and decides nothing behind it."""
    with behind_a_door() as (_node, door):
        outbox = Outbox(tmp_path / "state")
        chain = RpcChain(door.url, known_keys(2), patience_s=1.0, poll_s=0.05, outbox=outbox)
        before = chain.balance(chain.accounts[1])
        door.rule = lambda method, count, params: (
            {"result": "0x" + "11" * 32} if method == "eth_sendRawTransaction" else None
        )
        for _ in range(2):
            with pytest.raises(NodeError, match="pending"):
                chain.fund(chain.accounts[1], 7)
            assert len({nonce for _, nonce, _ in outbox.waiting()}) == 1
        door.rule = lambda method, count, params: None
        chain.fund(chain.accounts[1], 7)
        assert chain.balance(chain.accounts[1]) == before + 14
        assert outbox.waiting() == []


def test_what_a_killed_process_has_signed_is_finished_by_the_next(tmp_path):
    """The node swallows the transaction, and the process is gone; the next one sends it, once."""
    with behind_a_door() as (_node, door):
        outbox = Outbox(tmp_path / "state")
        chain = RpcChain(door.url, known_keys(2), patience_s=1.0, poll_s=0.05, outbox=outbox)
        before = chain.balance(chain.accounts[1])
        door.rule = lambda method, count, params: (
            {"result": "0x" + "11" * 32} if method == "eth_sendRawTransaction" else None
        )
        with pytest.raises(NodeError, match="pending"):
            chain.fund(chain.accounts[1], 7)
        assert len(outbox.waiting()) >= 1
        door.rule = lambda method, count, params: None
        again = RpcChain(door.url, known_keys(2), outbox=outbox)
        assert again.balance(again.accounts[1]) == before + 7
        assert outbox.waiting() == []
