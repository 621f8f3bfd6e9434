"""The processes of a devnet that are not commands of their own: operators, one of whom may cheat, and
a client. Started as ``python -m otr_paper.devnet.parties``; what they do they say in JSON lines.

An operator answers the orders in its inbox, commits each receipt as a batch, gives the client the
receipt and its place, and defends. One that is told to cheat has broken its TEE: it answers with a
lie of ``statement_lies``, and defends that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from otr_core import merkle
from otr_core.dispute.accounts import batch_id
from otr_core.dispute.court import receipt_leaf
from otr_core.dispute.play import OperatorPlayer
from otr_core.dispute.records import Challenge
from otr_core.files import read_input, write_bytes
from otr_core.lane.sampling import Decoding
from otr_core.poea import OnceStore, load_order, place_order
from otr_core.poea.document import ReceiptFile, load_receipt_file
from otr_core.poea.message import Message, Response
from otr_core.poea.order import Order
from otr_core.poea.receipt import Receipt
from otr_node.chain.access import entered, fisherman_of, reporter, with_models
from otr_node.chain.answers import OwnModel, dump_leaves
from otr_node.chain.defender import Defender
from otr_node.chain.deployment import load_deployment
from otr_node.chain.options import CourtOptions, PartyOptions
from otr_node.chain.party import ChainParty, run_party
from otr_node.chain.places import load_place, write_places
from otr_node.checkpoint import read_checkpoint
from otr_node.enclave import SimulatedEnclave
from otr_node.generate import prompt_tokens
from otr_node.run import Run
from otr_node.serve import serve
from otr_paper.devnet.attacks import NO_ATTACK, LyingFisherman, OperatorAttack, attack_named
from otr_paper.labs.disputes.parties import KEYS

_POLL_S = 0.2
PAYMENT_WEI = 10**15
LIARS_BUDGET = "0.5"
"""Ether: five bonds of the deployment."""
PROMPT = "w3 w5 w7 w9"
"""In the words of the tiny model."""


@dataclass
class AnsweringOperator(Defender):
    """A defender that answers orders as well.

    Attributes:
        own: the model served. inbox: folder of orders. attack: how it cheats. stake_wei: put down before
            anything else.
    """

    own: OwnModel | None = None
    inbox: Path = Path()
    attack: OperatorAttack = NO_ATTACK
    stake_wei: int = 10**18
    _served: OnceStore = field(default_factory=OnceStore, init=False)
    _enclave: SimulatedEnclave | None = field(default=None, init=False)

    def act(self) -> bool:
        return self._stake_once() or self._answer_one() or self._commit_one() or super().act()

    def lying(self, order: Order, receipt: Receipt) -> OperatorPlayer | None:
        """Who plays for the lie."""
        told = None if self.attack.lie is None or self.attack.silent else self.attack.lie.tell()
        return told.operator if told is not None and told.signed.receipt == receipt else None

    def _stake_once(self) -> bool:
        """After a restart the stake is there already."""
        if self.me in self.followed.court.operators:
            return False
        self.report("staked", wei=self.stake_wei)
        return self.call("register", value=self.stake_wei)

    def _show(self, number: int, challenge: Challenge) -> bool:
        return not self.attack.withholds and super()._show(number, challenge)

    def _answer_one(self) -> bool:
        for path in sorted(self.inbox.glob("*.order.json")):
            name = path.name.removesuffix(".order.json")
            out = self.folder / f"{name}.receipt.json"
            if out.exists():
                continue
            placed = load_order(read_input(path, what="an order (JSON)"))
            assert self.own is not None
            if self.attack.lie is None:
                file, answer = serve(self._tee(), self.own.model, placed.order, placed.query, served=self._served)
                trace = answer.trace
            else:
                told = self.attack.lie.tell()
                run = told.operator.run
                assert isinstance(run, Run)
                trace = run.trace
                file = ReceiptFile(
                    order=placed.order,
                    model=self.own.model.manifest,
                    query=placed.query,
                    response=Message("response", plain=Response(run.token_ids, run.seed).to_json()),
                    prompt_proof=(),
                    configuration={},
                    receipt=told.signed.receipt,
                    signature=told.signed.signature,
                    keys=KEYS,
                    evidence={},
                )
            assert trace is not None
            write_bytes(self.folder / path.name, path.read_bytes())
            write_bytes(self.folder / f"{name}.leaves", dump_leaves(trace))
            write_bytes(out, file.dump())
            lie = self.attack.lie
            self.report("answered", answer=name, lie=None if lie is None else lie.name)
            return True
        return False

    def _tee(self) -> SimulatedEnclave:
        if self._enclave is None:
            assert self.own is not None
            secret, nonce = os.urandom(32), os.urandom(32)
            # By the chain's clock: a machine's own may be wrong, and who appraises goes by the chain's, too.
            self._enclave = SimulatedEnclave(secret, self.own.id, nonce, self.chain.chain.time)
        return self._enclave

    def _commit_one(self) -> bool:
        for answer in self.answers.values():
            receipt = answer.file.receipt
            placed = answer.place is not None and answer.place.batch in self.followed.court.batches
            known = receipt.key_id in self.followed.court.keys or self.attack.lie is not None
            if placed or self.attack.withholds or not known:
                continue
            leaves = [receipt_leaf(self.chain.domain, receipt, answer.file.signature)]
            root = merkle.root(leaves)
            batch = batch_id(self.me, root)
            if batch in self.followed.court.batches or self.call("commit_batch", root, 1):
                write_places(self.folder, [answer.name], batch, leaves)
                self.report("committed", answer=answer.name, batch=batch.hex())
                return True
        return False


def heartbeat_of(state: Path) -> Path:
    """The file that a party with this state touches after each look at the chain."""
    return state.with_suffix(".heartbeat")


def run_operator(rpc: str, key: Path, court: Path, model: Path, folder: Path, attack: str, state: Path) -> None:
    """Answer, commit and defend, until ended."""
    how = attack_named(attack)
    at, owned, chain = with_models(PartyOptions(rpc=rpc, key=key, court=court, model=[model], state=state))
    (own,) = owned.values()
    me = chain.accounts[0].lower()
    who = reporter("cheating operator" if attack else "operator")
    operator = AnsweringOperator(at, me, owned, folder / "answers", who, own=own, inbox=folder / "inbox", attack=how)
    operator.player = operator.lying if how.lie else None
    who("started", account=me)
    run_party(operator, until=lambda acted: False, poll_s=_POLL_S, heartbeat=heartbeat_of(state))


@dataclass
class Client(ChainParty):
    """Orders one answer of each operator, takes what comes back, and pays for it in escrow, once.

    Attributes:
        model_id: that is ordered. prompt_ids: of the orders. operators: their folders.
    """

    model_id: bytes
    prompt_ids: tuple[int, ...]
    operators: tuple[Path, ...]
    _waiting: set[str] = field(default_factory=set, init=False)

    def order(self) -> None:
        """Order of each operator, or go on with what was ordered before."""
        for operator in self.operators:
            name = operator.name
            given = self.folder / f"{name}.order.json"
            if given.exists():  # from before, or one to which the table has a lie
                placed = load_order(given.read_bytes())
            else:
                about: dict[str, Any] = {
                    "model_id": self.model_id,
                    "decoding": Decoding(8),
                    "domain": self.chain.domain,
                }
                about |= {name: os.urandom(32) for name in ("job_id", "nonce", "client_secret")}
                placed = place_order(self.prompt_ids, **about)
                write_bytes(given, placed.dump())
            write_bytes(operator / "inbox" / f"{name}.order.json", placed.sent)
            self.report("ordered", answer=name, order=placed.order.id.hex())
            self._waiting.add(name)

    def act(self) -> bool:
        return any([self._take(operator) for operator in self.operators if operator.name in self._waiting])

    def forget(self) -> None:
        """Nothing is kept of the court."""

    def _take(self, operator: Path) -> bool:
        """Take what an operator has given; whether something was sent."""
        name, theirs = operator.name, operator / "answers"
        for kind in ("leaves", "receipt.json", "place.json"):
            there, here = theirs / f"{name}.{kind}", self.folder / f"{name}.{kind}"
            if there.exists() and not here.exists():
                raw = there.read_bytes()
                if kind == "receipt.json":
                    load_receipt_file(raw)
                write_bytes(here, raw)
                self.report("received", answer=name, what=kind.removesuffix(".json"), hash=sha256(raw).hexdigest())
        placed = self.folder / f"{name}.place.json"
        batch = load_place(placed.read_bytes()).batch if placed.exists() else b""
        if batch not in self.followed.court.batches:
            return False
        self._waiting.discard(name)
        if self.followed.logs.payments.get((batch, self.me)):
            return False
        self.report("paid", answer=name, wei=PAYMENT_WEI)
        return self.call("escrow", batch, value=PAYMENT_WEI)


def run_client(rpc: str, key: Path, court: Path, model: Path, folder: Path, attack: str, state: Path) -> None:
    """Order, take and pay, until ended."""
    ids = prompt_tokens(read_checkpoint(model), PROMPT, 8)
    at, me = entered(CourtOptions(rpc=rpc, key=key, court=court, state=state))
    (ordered,) = load_deployment(court.read_bytes()).judges
    operators = tuple(sorted(folder.parent.glob("operator-[0-9]")))
    client = Client(at, me, {}, folder, reporter("client"), bytes.fromhex(ordered), tuple(ids), operators)
    client.order()
    run_party(client, until=lambda acted: False, poll_s=_POLL_S, heartbeat=heartbeat_of(state))


def run_liar(rpc: str, key: Path, court: Path, model: Path, folder: Path, attack: str, state: Path) -> None:
    """A fisherman that challenges what is right; ``attack``: how, and the seed of its choices."""
    way, _, seed = attack.partition("/")
    base = fisherman_of(folder, PartyOptions(rpc=rpc, key=key, court=court, model=[model], state=state), LIARS_BUDGET)
    about = base.chain, base.me, base.models, base.folder, reporter("lying fisherman"), base.secret, base.budget_wei
    liar = LyingFisherman(*about, base.store, way=way, seed=int(seed or 0))
    liar.report("started", account=base.me)
    run_party(liar, until=lambda acted: False, poll_s=_POLL_S, heartbeat=heartbeat_of(state))


ROLES: dict[str, Callable[..., None]] = {"operator": run_operator, "client": run_client, "liar": run_liar}


def main() -> None:
    """Entry point: role, URL, key, court, model, folder, attack ("" for none), state."""
    role, rpc, *rest = sys.argv[1:]
    key, court, model, folder, attack, state = rest
    try:
        ROLES[role](rpc, Path(key), Path(court), Path(model), Path(folder), attack, Path(state))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
