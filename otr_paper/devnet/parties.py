"""The processes of a devnet that are not commands of their own: operators, one of whom may cheat, and
a client. Started as ``python -m otr_paper.devnet.parties``; what they do they say in JSON lines.

An operator answers the orders in its inbox, commits each receipt as a batch, gives the client the
receipt and its place, and defends. One that is told to cheat has broken its TEE: it answers with a
lie of ``statement_lies``, and defends that.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from otr_core import merkle
from otr_core.dispute.accounts import batch_id
from otr_core.dispute.court import receipt_leaf
from otr_core.dispute.play import OperatorPlayer
from otr_core.errors import OtrError
from otr_core.files import read_input, write_bytes
from otr_core.lane.sampling import Decoding
from otr_core.poea import OnceStore, load_order, place_order
from otr_core.poea.document import ReceiptFile, load_receipt_file
from otr_core.poea.message import Message, Response
from otr_core.poea.order import Order
from otr_core.poea.receipt import Receipt
from otr_node.chain.access import attached, reporter, with_models
from otr_node.chain.answers import OwnModel, dump_leaves, load_place, write_places
from otr_node.chain.defender import Defender
from otr_node.chain.deployment import load_deployment
from otr_node.chain.keys import load_key, read_password
from otr_node.chain.options import PartyOptions
from otr_node.chain.party import run_party
from otr_node.chain.rpc import RpcChain
from otr_node.checkpoint import read_checkpoint
from otr_node.enclave import SimulatedEnclave
from otr_node.generate import prompt_tokens
from otr_node.run import Run
from otr_node.serve import serve
from otr_paper.labs.disputes.parties import KEYS
from otr_paper.labs.disputes.statement_lies import LIES, Lie
from otr_paper.labs.disputes.world import tiny

_POLL_S = 0.3
PAYMENT_WEI = 10**15
PROMPT = "w3 w5 w7 w9"
"""In the words of the tiny model."""


def lie_named(name: str) -> Lie:
    """A lie of the table, by its name or a part of it.

    Raises:
        OtrError: none, several, or one that the client's order tells.
    """
    found = [lie for lie in LIES if name == lie.name] or [lie for lie in LIES if name and name in lie.name]
    if len(found) != 1:
        names = "; ".join(lie.name for lie in found or LIES)
        raise OtrError(f"--attack: found {len(found)} lies named {name!r}, expected one of: {names}")
    (lie,) = found
    if lie.tell().signed.order != tiny(lie.tell().signed.order.decoding.temperature_milli).order:
        raise OtrError(f"--attack: {lie.name!r} is told by the order, expected one that the operator tells")
    return lie


@dataclass
class AnsweringOperator(Defender):
    """A defender that answers orders as well.

    Attributes:
        own: the model served. inbox: folder of orders. lie: what it answers with; None: the truth.
    """

    own: OwnModel | None = None
    inbox: Path = Path()
    lie: Lie | None = None
    _served: OnceStore = field(default_factory=OnceStore, init=False)
    _enclave: SimulatedEnclave | None = field(default=None, init=False)

    def act(self) -> bool:
        return self._answer_one() or self._commit_one() or super().act()

    def lying(self, order: Order, receipt: Receipt) -> OperatorPlayer | None:
        """Who plays for the lie."""
        told = None if self.lie is None else self.lie.tell()
        return told.operator if told is not None and told.signed.receipt == receipt else None

    def _answer_one(self) -> bool:
        for path in sorted(self.inbox.glob("*.order.json")):
            name = path.name.removesuffix(".order.json")
            out = self.folder / f"{name}.receipt.json"
            if out.exists():
                continue
            placed = load_order(read_input(path, what="an order (JSON)"))
            assert self.own is not None
            if self.lie is None:
                file, answer = serve(self._tee(), self.own.model, placed.order, placed.query, served=self._served)
                trace = answer.trace
            else:
                told = self.lie.tell()
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
            shutil.copy(path, self.folder / path.name)
            write_bytes(self.folder / f"{name}.leaves", dump_leaves(trace))
            write_bytes(out, file.dump())
            self.report("answered", answer=name, lie=None if self.lie is None else self.lie.name)
            return True
        return False

    def _tee(self) -> SimulatedEnclave:
        if self._enclave is None:
            assert self.own is not None
            secret, nonce = os.urandom(32), os.urandom(32)
            self._enclave = SimulatedEnclave(secret, self.own.id, nonce, int(time.time()))
        return self._enclave

    def _commit_one(self) -> bool:
        for answer in self.answers.values():
            receipt = answer.file.receipt
            if answer.place is not None or receipt.key_id not in self.followed.court.keys:
                continue
            leaves = [receipt_leaf(self.chain.domain, receipt, answer.file.signature)]
            root = merkle.root(leaves)
            batch = batch_id(self.me, root)
            if batch in self.followed.court.batches or self.call("commit_batch", root, 1):
                write_places(self.folder, [answer.name], batch, leaves)
                self.report("committed", answer=answer.name, batch=batch.hex())
                return True
        return False


def run_operator(rpc: str, key: Path, court: Path, model: Path, folder: Path, attack: str, state: Path) -> None:
    """Answer, commit and defend, until ended."""
    lie = lie_named(attack) if attack else None
    at, owned, chain = with_models(PartyOptions(rpc=rpc, key=key, court=court, model=[model], state=state))
    (own,) = owned.values()
    (folder / "answers").mkdir(exist_ok=True)
    me = chain.accounts[0].lower()
    who = reporter("cheating operator" if lie else "operator")
    operator = AnsweringOperator(at, me, owned, folder / "answers", who, own=own, inbox=folder / "inbox", lie=lie)
    operator.player = operator.lying if lie else None
    operator.call("register", value=10**18)
    who("staked", wei=10**18)
    run_party(operator, until=lambda acted: False, poll_s=_POLL_S)


def run_client(rpc: str, key: Path, court: Path, model: Path, folder: Path, attack: str, state: Path) -> None:
    """Order one answer of each operator, take what comes back, and pay for it in escrow."""
    report, account = reporter("client"), load_key(key, read_password(None))
    at = attached(RpcChain(rpc, [account]), court)
    me, ids = account.address.lower(), prompt_tokens(read_checkpoint(model), PROMPT, 8)
    (ordered,) = load_deployment(court.read_bytes()).judges
    waiting = {}
    for operator in sorted(folder.parent.glob("operator-[0-9]")):
        name = operator.name
        given = folder / f"{name}.order.json"
        if given.exists():  # an order to which the table has a lie
            placed = load_order(given.read_bytes())
        else:
            about: dict[str, Any] = {"model_id": bytes.fromhex(ordered), "decoding": Decoding(8), "domain": at.domain}
            about |= {name: os.urandom(32) for name in ("job_id", "nonce", "client_secret")}
            placed = place_order(ids, **about)
            write_bytes(given, placed.dump())
        write_bytes(operator / "inbox" / f"{name}.order.json", placed.sent)
        report("ordered", answer=name, order=placed.order.id.hex())
        waiting[name] = operator / "answers"
    while waiting:
        for name, theirs in list(waiting.items()):
            for kind in ("leaves", "receipt.json", "place.json"):
                there, here = theirs / f"{name}.{kind}", folder / f"{name}.{kind}"
                if there.exists() and not here.exists():
                    write_bytes(here, there.read_bytes())
                    report("received", answer=name, what=kind.removesuffix(".json"))
            if (folder / f"{name}.place.json").exists():
                load_receipt_file((folder / f"{name}.receipt.json").read_bytes())
                batch = load_place((folder / f"{name}.place.json").read_bytes()).batch
                at.call(None, me, "escrow", batch, value=PAYMENT_WEI)
                report("paid", answer=name, wei=PAYMENT_WEI)
                del waiting[name]
        time.sleep(_POLL_S)


ROLES: dict[str, Callable[..., None]] = {"operator": run_operator, "client": run_client}


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
