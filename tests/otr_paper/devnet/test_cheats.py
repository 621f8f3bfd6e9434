"""An operator of a devnet that cheats does so in one answer, or by keeping all: else it is an honest one. And a client
goes on whatever a server gives it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from otr_core.dispute.duties import LeafPlace
from otr_core.dispute.profile import FILE, read_profile
from otr_core.dispute.records import ChallengeStatus
from otr_core.errors import NodeError
from otr_core.poea.document import ReceiptFile
from otr_core.poea.message import Message, Response
from otr_node.ask import RemoteServer
from otr_node.chain.followed import Followed
from otr_node.chain.places import dump_place
from otr_node.server.batches import BatchReader
from otr_paper.devnet.attacks import FALSE_CHALLENGES, SILENT, WITHHELD, LyingFisherman, attack_named
from otr_paper.devnet.cheats import CheatingOperator
from otr_paper.devnet.faults import CLIENTS, answer_name
from otr_paper.devnet.ground import Ground
from otr_paper.devnet.parties import Client
from otr_paper.devnet.standing import CHEAT, LIED_TO, NetworkStanding
from otr_paper.labs.disputes.parties import KEYS
from otr_paper.labs.disputes.statement_lies import Told
from otr_paper.labs.disputes.world import tiny, tiny_bench
from tests.helpers.networks import FISHERMAN, OPERATOR, OWN, embedded
from tests.otr_node.server.test_operating import Served, act

LIE = "tokensRoot: another token than the model's"
TOLD = attack_named(LIE).lie.tell()


@pytest.fixture
def served(project: Any, tmp_path: Path) -> Iterator[Served]:
    found = Served(embedded(replace(read_profile(project.data / FILE).court, arity_bits=2), tmp_path))
    yield found
    found.journal.close()


def cheating(served: Served, attack: str) -> CheatingOperator:
    return served.operator(partial(CheatingOperator, attack=attack_named(attack)))


def lied(served: Served, told: Told = TOLD) -> ReceiptFile:
    """The journal of a server that has told the lie."""
    placed, run = tiny(told.signed.order.decoding.temperature_milli).placed, told.operator.run
    said = Message("response", plain=Response(run.token_ids, run.seed).to_json())
    file = ReceiptFile(
        order=placed.order, model=OWN.model.manifest, query=placed.query, response=said, prompt_proof=(),
        configuration={}, receipt=told.signed.receipt, signature=told.signed.signature, keys=KEYS, evidence={},
    )  # fmt: skip
    assert served.journal.begin(placed.order.id, placed.sent, b"b" * 32).result()
    served.journal.add_receipt(placed.order.id, file.dump()).result()
    return file


@pytest.mark.parametrize("name", [LIE, "promptTokens: one less than ordered"], ids=["a run", "a receipt that convicts"])
def test_a_lying_operator_commits_its_lie_and_else_what_an_honest_one_would(served, name):
    lied(served, attack_named(name).lie.tell())
    served.answer()
    operator = cheating(served, name)
    act(operator)
    assert served.batches() == [1]  # the other receipt's key is not registered, and in a batch it would convict
    assert [each["event"] for each in served.network.events].count("waiting") == 1
    served.register()
    served.now = 60.0
    act(operator)
    assert served.batches() == [1, 1]
    served.now = 120.0
    act(operator)
    assert served.batches() == [1, 1]


def test_a_lying_operator_defends_its_true_answers_and_its_lie_if_it_is_not_silent(served):
    lied(served)
    served.register()
    placed, file = served.answer(temperature_milli=800, seed=3)
    operator = cheating(served, f"{SILENT}{LIE}")
    order, receipt = TOLD.signed.order, TOLD.signed.receipt
    assert operator.honest_player(order, receipt) is None
    assert operator.honest_player(placed.order, file.receipt).run.decoding == placed.order.decoding
    operator.attack = attack_named(LIE)
    assert operator.honest_player(order, receipt).run.token_ids == TOLD.operator.run.token_ids
    act(operator)
    folder = served.network.folder
    (folder / "own.order.json").write_bytes(placed.dump())
    (folder / "own.receipt.json").write_bytes(file.dump())
    with BatchReader(served.state) as book:
        place = book.place(file.receipt.order_id)
        assert place.batch == book.place(receipt.order_id).batch
    (folder / "own.place.json").write_bytes(dump_place(place))
    base = served.network.fisherman()
    about = base.chain, base.me, base.models, base.folder, served.network.report, base.secret, base.budget_wei
    liar = LyingFisherman(*about, base.store, way=FALSE_CHALLENGES[0])
    served.network.play(liar, operator)
    assert served.network.status() == [ChallengeStatus.LOST]


def test_who_withholds_commits_nothing_and_shows_nothing(served):
    served.register()
    _, file = served.answer()
    operator = cheating(served, WITHHELD)
    act(operator)
    served.demand(file)
    act(operator)
    assert served.batches() == []
    assert served.network.status() == [ChallengeStatus.DEMAND]


def standing(served: Served, attack: str = "") -> NetworkStanding:
    """Of a run in which operator 2 is the helper's operator, and operator 1 has done nothing yet."""
    names = {OPERATOR.address.lower(): CHEAT, FISHERMAN.address.lower(): "operator-1"}
    followed = Followed(served.network.court(FISHERMAN), {})
    followed.read()
    ground = Ground(served.network.folder, None, tiny_bench().folder, OWN, names)
    return NetworkStanding(ground, served.network.folder, attack_named(attack), followed, frozenset({"operator-1"}))


def test_stakes_are_registered_first_and_a_key_by_a_receipt_that_is_no_lie(served):
    stake = {"operator-1 stakes for operator-1": ["--stake", "1"]}
    assert standing(served, LIE).to_register() == stake
    (served.network.folder / f"{LIED_TO}.receipt.json").write_bytes(lied(served).dump())
    assert standing(served, LIE).to_register() == stake
    shown = served.network.folder / f"{answer_name(CHEAT, CLIENTS[1])}.receipt.json"
    shown.write_bytes(served.answer()[1].dump())
    key = {f"registrar of {CHEAT}": ["--receipt", str(shown), "--operator", OPERATOR.address.lower()]}
    assert standing(served, LIE).to_register() == stake | key
    served.register()
    assert standing(served, LIE).to_register() == stake
    court = served.network.court(FISHERMAN)
    court.call(None, FISHERMAN.address.lower(), "register", value=court.terms.least_stake_wei)
    assert standing(served, LIE).to_register() == {}


def test_nothing_is_waited_for_from_who_withholds_or_plays(served):
    lie = lied(served)
    served.register()
    act(cheating(served, LIE))
    assert not standing(served, LIE).commits_nothing(CHEAT)
    assert standing(served, WITHHELD).commits_nothing(CHEAT)
    assert not standing(served, WITHHELD).commits_nothing("operator-1")
    placed = tiny(TOLD.signed.order.decoding.temperature_milli).placed
    folder = served.network.folder
    (folder / "own.order.json").write_bytes(placed.dump())
    (folder / "own.receipt.json").write_bytes(lie.dump())
    with BatchReader(served.state) as book:
        (folder / "own.place.json").write_bytes(dump_place(book.place(placed.order.id)))
    fisherman = served.network.fisherman()
    while served.network.status() != [ChallengeStatus.OPEN]:
        assert fisherman.step()
    assert standing(served, LIE).commits_nothing(CHEAT)


class Junk(BaseHTTPRequestHandler):
    """A server that answers whatever is asked with what is none of ours."""

    said = b"{}"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(self.said)))
        self.end_headers()
        self.wfile.write(self.said)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.do_GET()

    def log_message(self, *about: Any) -> None:
        """Nothing is logged."""


@pytest.fixture
def junk() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Junk) as door:
        threading.Thread(target=door.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{door.server_address[1]}"
        door.shutdown()


def client(served: Served, url: str, *, sealed: bool) -> Client:
    name = answer_name(CHEAT, CLIENTS[0])
    at, say = served.network.court(FISHERMAN), served.network.report
    asked, ids = {name: RemoteServer(url, wait_s=5.0)}, (3, 5, 7, 9)
    about = at, FISHERMAN.address.lower(), {}, served.network.folder, say
    return Client(*about, OWN.id, ids, asked, lambda ids: "", sealed=sealed)


@pytest.mark.parametrize(("sealed", "why"), [(False, "response"), (True, "bad_answer")])
def test_a_client_that_gets_junk_says_so_once_and_asks_again(served, junk, sealed, why):
    own = client(served, junk, sealed=sealed)
    for _ in range(3):
        assert not own.step()
    said = [(each["event"], each.get("why")) for each in served.network.events]
    assert said == [("ordered", None)] * (not sealed) + [("waiting", why)]


def test_a_client_keeps_what_does_not_hold_and_pays_once_its_place_stands(served, junk, monkeypatch):
    """It ordered, and got the answer to another order."""
    served.register()
    _, file = served.answer()
    act(served.operator())
    own, name = client(served, junk, sealed=False), answer_name(CHEAT, CLIENTS[0])
    with BatchReader(served.state) as book:
        place = dump_place(book.place(file.receipt.order_id))
    monkeypatch.setattr(RemoteServer, "receipt", lambda self, placed: file)
    monkeypatch.setattr(RemoteServer, "leaves", lambda self, file: b"")
    elsewhere = dump_place(LeafPlace(bytes(32), 0, ()))
    monkeypatch.setattr(RemoteServer, "place", lambda self, file, wait_s: elsewhere)
    assert not own.step()  # that batch is not on chain: nothing is paid for it
    assert "paid" not in {each["event"] for each in served.network.events}
    (served.network.folder / f"{name}.place.json").write_bytes(place)
    ordered = (served.network.folder / f"{name}.order.json").read_bytes()
    assert own.step()
    said = {each["event"]: each for each in served.network.events}
    assert (said["checked"]["holds"], said["paid"]["answer"]) == (False, name)
    assert (served.network.folder / f"{name}.receipt.json").read_bytes() == file.dump()
    assert not own.step()
    again = client(served, junk, sealed=False)  # as after a kill
    assert not again.step()
    assert [each["event"] for each in served.network.events].count("paid") == 1
    assert (served.network.folder / f"{name}.order.json").read_bytes() == ordered

    def gone(*about: Any, **more: Any) -> bool:
        raise NodeError("chain-id", "another chain", "this one")

    third = client(served, junk, sealed=False)
    monkeypatch.setattr(third.followed.logs, "payments", {})
    monkeypatch.setattr(third, "read", lambda: None)
    monkeypatch.setattr(third.followed, "court", own.followed.court)
    monkeypatch.setattr(third, "call", gone)
    with pytest.raises(NodeError, match="chain-id"):  # which is no server that does not answer
        third.step()
