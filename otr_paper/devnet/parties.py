"""The processes of a devnet that are not commands of their own: clients, a fisherman that lies, and of an
operator that cheats its server and what stands beside that. Started as
``python -m otr_paper.devnet.parties``; what they do they say in JSON lines.

An honest operator is ``otr serve`` and ``otr operate``. One that is told to lie has broken its TEE: its
server answers with a lie of ``statement_lies``, and it commits and defends that (``cheats``).
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from otr_core.cli import run_reported
from otr_core.dispute.profile import own_profile
from otr_core.errors import InputError, NodeError, ReceiptError, ServiceError
from otr_core.files import write_bytes
from otr_core.lane.sampling import Decoding
from otr_core.poea import PlacedOrder, load_order, place_order
from otr_core.poea.client import check_answer
from otr_core.poea.document import ReceiptFile, load_receipt_file
from otr_core.poea.tee import EvidencePolicy
from otr_node.answers import LANES
from otr_node.ask import RemoteServer
from otr_node.chain.access import entered, fisherman_of, go, reporter
from otr_node.chain.deployment import load_deployment
from otr_node.chain.options import CourtOptions, PartyOptions
from otr_node.chain.party import ChainParty, run_party
from otr_node.chain.places import load_place
from otr_node.checkpoint import read_checkpoint
from otr_node.generate import prompt_tokens
from otr_node.lanes import load_model
from otr_node.options import domain_of
from otr_node.server.operating import operator_beside
from otr_node.server.program import ServerPlan, run_server
from otr_paper.devnet.attacks import LyingFisherman, attack_named
from otr_paper.devnet.cheats import CheatingOperator, LyingDesk
from otr_paper.devnet.faults import answer_name
from otr_paper.devnet.ground import PROMPT

_POLL_S = 0.2
_RULES = EvidencePolicy(allow_simulated=True)
PAYMENT_WEI = 10**15
LIARS_BUDGET = "0.3"
"""Ether: three bonds of the deployment."""
_ANSWER_S = 20.0
"""For which the client waits for one request; then it looks at the chain, and asks again."""


def heartbeat_of(state: Path) -> Path:
    """The file that a party with this state touches after each look at the chain."""
    return state.with_suffix(".heartbeat")


@dataclass
class Client(ChainParty):
    """Orders one answer of each operator's server, as ``otr ask`` does, and pays for it in escrow, once. What
    does not hold it says, and keeps: that is what fishermen look at.

    Attributes:
        model_id: that is ordered. prompt_ids: of the orders. servers: by the answer's name.
        decode: token ids to text. sealed: whether queries are sealed to the server's enclave.
    """

    model_id: bytes
    prompt_ids: tuple[int, ...]
    servers: Mapping[str, RemoteServer]
    decode: Callable[[Sequence[int]], str]
    sealed: bool
    _orders: dict[str, PlacedOrder] = field(default_factory=dict, init=False)
    _done: set[str] = field(default_factory=set, init=False)

    def act(self) -> bool:
        return any([self._take(name) for name in sorted(self.servers) if name not in self._done])

    def forget(self) -> None:
        """Nothing is kept of the court."""

    def _take(self, name: str) -> bool:
        """Take what an operator's server gives; whether something was sent to the chain."""
        try:
            return self._taken(name)
        except NodeError:  # of the chain, which whoever lets parties act waits for
            raise
        except (InputError, ServiceError, ReceiptError) as error:  # it is down, stops, or has written nothing down yet
            self.say_once("waiting", name, why=getattr(error, "code", getattr(error, "check", "no server")))
            return False

    def _ordered(self, name: str) -> PlacedOrder:
        """The order of an answer, written down before it is sent; one from before is gone on with, and so is one
        that the table has a lie to."""
        given = self.folder / f"{name}.order.json"
        if not given.exists():
            about: dict[str, Any] = {"model_id": self.model_id, "decoding": Decoding(8), "domain": self.chain.domain}
            about |= {name: os.urandom(32) for name in ("job_id", "nonce", "client_secret")}
            if self.sealed:
                keys = self.servers[name].attested_keys(self.model_id, _RULES, self.chain.chain.time)
                about["seal_to"] = keys.hpke
            write_bytes(given, place_order(self.prompt_ids, **about).dump())
        if name not in self._orders:
            placed = self._orders[name] = load_order(given.read_bytes())
            self.report("ordered", answer=name, order=placed.order.id.hex(), sealed=placed.secret is not None)
        return self._orders[name]

    def _taken(self, name: str) -> bool:
        path, placed = self.folder / f"{name}.receipt.json", self._ordered(name)
        if path.exists():
            file = load_receipt_file(path.read_bytes())
        else:
            file = self.servers[name].receipt(placed)
            self._check(name, placed, file)
            self._leaves(name, file)
            self._keep(name, "receipt.json", file.dump())
        place = self.folder / f"{name}.place.json"
        if not place.exists():
            raw = self.servers[name].place(file, wait_s=0.0)
            self._keep(name, "place.json", raw, batch=load_place(raw).batch.hex())
        batch = load_place(place.read_bytes()).batch
        if batch not in self.followed.court.batches:
            return False
        self._done.add(name)
        if self.followed.logs.payments.get((batch, self.me)):
            return False
        self.report("paid", answer=name, wei=PAYMENT_WEI)
        return self.call("escrow", batch, value=PAYMENT_WEI)

    def _check(self, name: str, placed: PlacedOrder, file: ReceiptFile) -> None:
        now = self.chain.chain.time
        try:
            check_answer(file, placed, policy=_RULES, as_of=now, nonces=None, decode=self.decode)
        except ReceiptError as error:
            self.report("checked", answer=name, holds=False, why=str(error))
        else:
            self.report("checked", answer=name, holds=True)

    def _leaves(self, name: str, file: ReceiptFile) -> None:
        """Hashes that are not those of the receipt help nobody; a game is played without them."""
        try:
            self._keep(name, "leaves", self.servers[name].leaves(file))
        except ReceiptError as error:
            self.report("checked", answer=name, holds=False, why=str(error))

    def _keep(self, name: str, kind: str, raw: bytes, **about: str) -> None:
        write_bytes(self.folder / f"{name}.{kind}", raw)
        self.report("received", answer=name, what=kind.removesuffix(".json"), hash=sha256(raw).hexdigest(), **about)


def run_client(rpc: str, key: Path, court: Path, model: Path, folder: Path, given: str, state: Path) -> None:
    """Order, take and pay, until ended; ``given``: JSON, the client's ``name``, ``servers``: URLs by the operator's
    name, ``sealed``: whether queries are."""
    told, checkpoint = json.loads(given), read_checkpoint(model)
    at, me = entered(CourtOptions(rpc=rpc, key=key, court=court, state=state))
    (ordered,) = load_deployment(court.read_bytes()).judges
    asked = {
        answer_name(operator, told["name"]): RemoteServer(url, wait_s=_ANSWER_S)
        for operator, url in told["servers"].items()
    }
    about = bytes.fromhex(ordered), tuple(prompt_tokens(checkpoint, PROMPT, 8)), asked, checkpoint.tokenizer.decode
    client = Client(at, me, {}, folder, reporter("client"), *about, sealed=told["sealed"])
    client.report("started", account=me)
    run_party(client, until=lambda acted: False, poll_s=_POLL_S, heartbeat=heartbeat_of(state))


def run_cheat(rpc: str, key: Path, court: Path, model: Path, served: Path, attack: str, state: Path) -> None:
    """What ``otr operate`` does, by an operator that cheats, until ended."""
    options = PartyOptions(
        rpc=rpc, key=key, court=court, model=[model], state=state, poll=_POLL_S, heartbeat=heartbeat_of(state)
    )
    kind = functools.partial(CheatingOperator, attack=attack_named(attack))
    every = float(own_profile().parties.batch_s)
    party = operator_beside(served, options, every_s=every, kind=kind, who="cheating operator")
    with party.book:
        go(party, lambda acted: False, options)


def run_lying_server(model: Path, served: Path, port: str, chain_id: str, court: str, attack: str) -> None:
    """What ``otr serve`` does, under a TEE that is broken, until ended."""
    lie = attack_named(attack).lie
    assert lie is not None  # with another attack the server is an honest one
    desk = functools.partial(LyingDesk, lie=lie)
    run_server(
        ServerPlan(served, port=int(port), domain=domain_of(int(chain_id), court), desk=desk),
        lambda: load_model(model, lane=LANES["portable"]),
        name=lambda loaded: model.name,
    )


def run_liar(rpc: str, key: Path, court: Path, model: Path, folder: Path, attack: str, state: Path) -> None:
    """A fisherman that challenges what is right; ``attack``: how, and the seed of its choices."""
    way, _, seed = attack.partition("/")
    base = fisherman_of(folder, PartyOptions(rpc=rpc, key=key, court=court, model=[model], state=state), LIARS_BUDGET)
    about = base.chain, base.me, base.models, base.folder, reporter("lying fisherman"), base.secret, base.budget_wei
    liar = LyingFisherman(*about, base.store, way=way, seed=int(seed or 0))
    liar.report("started", account=base.me)
    run_party(liar, until=lambda acted: False, poll_s=_POLL_S, heartbeat=heartbeat_of(state))


ROLES: dict[str, Callable[..., None]] = {"operator": run_cheat, "client": run_client, "liar": run_liar}


def main() -> None:
    """Entry point: role, URL, key, court, model, folder, what the role takes, state; or ``server``, model, folder,
    port, chain, court's address, attack."""
    role, *rest = sys.argv[1:]

    def act() -> None:
        if role == "server":
            run_lying_server(Path(rest[0]), Path(rest[1]), *rest[2:])
            return
        rpc, key, court, model, folder, about, state = rest
        ROLES[role](rpc, Path(key), Path(court), Path(model), Path(folder), about, Path(state))

    run_reported(act)


if __name__ == "__main__":
    main()
