"""A court on a chain with its parties, as tests run them: on a node, or on the embedded chain."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from otr_core import merkle
from otr_core.dispute.accounts import batch_id
from otr_core.dispute.court import receipt_leaf
from otr_core.dispute.players import HonestOperator
from otr_core.dispute.records import ChallengeStatus, Terms
from otr_core.dispute.registry import Key
from otr_core.poea.document import ReceiptFile
from otr_core.poea.message import Message, Response
from otr_node.chain.answers import OwnModel
from otr_node.chain.anvil import Anvil, known_keys
from otr_node.chain.defender import Defender
from otr_node.chain.deployment import load_deployment
from otr_node.chain.evm import Chain
from otr_node.chain.fisherman import Fisherman
from otr_node.chain.followed import Followed
from otr_node.chain.onchain import NOBODY, ChainCourt, deploy_arbiter
from otr_node.chain.outbox import Outbox
from otr_node.chain.places import write_places
from otr_node.chain.rpc import RpcChain
from otr_paper.labs.disputes.parties import KEY_ID, KEYS
from otr_paper.labs.disputes.statement_lies import LIES, Told
from otr_paper.labs.disputes.world import tiny, tiny_bench, tiny_signed
from tests.helpers.nodes import ask

REGISTRAR, OPERATOR, FISHERMAN = known_keys(3)
OWN = OwnModel(tiny_bench().model, tiny_bench().trees)
BY_NAME = {lie.name: lie for lie in LIES}


@dataclass
class Network:
    """A court on a node, whose operator has staked and holds the broken TEE's key.

    Attributes:
        events: what the parties have said. own: the model of its answers.
    """

    node: Anvil
    stands: Any
    folder: Path
    events: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    own: OwnModel = OWN

    def court(self, key: Any, **more: Any) -> ChainCourt:
        chain = RpcChain(self.node.url, [key], poll_s=0.01, **more)
        at = ChainCourt(chain, self.stands.terms, self.stands.registrar, self.stands.arbiter, self.stands)
        at.attach_judge(self.own.id, self.stands.judges[self.own.id.hex()], self.own.trees)
        return at

    def report(self, event: str, **about: Any) -> None:
        self.events.append({"event": event, **about})

    def fisherman(self, budget_wei: int = 10**18, **more: Any) -> Fisherman:
        box = Outbox(self.folder / f"{len(self.events)}.{time.monotonic_ns()}.state")
        me = FISHERMAN.address.lower()
        return Fisherman(
            self.court(FISHERMAN, outbox=box, **more),
            me,
            {self.own.id: self.own},
            self.folder,
            self.report,
            b"s" * 32,
            budget_wei,
            box,
        )

    def defender(self, told: Told | None) -> Defender:
        me = OPERATOR.address.lower()
        player = None if told is None else (lambda order, receipt: told.operator)
        return Defender(
            self.court(OPERATOR), me, {self.own.id: self.own}, self.folder, lambda event, **about: None, player
        )

    def answered(self, told: Told, name: str = "mystery", others: Sequence[bytes] = ()) -> bytes:
        """The operator commits to what it tells, and the client gets the files; the batch's id.

        Args:
            others: leaves that stand in the batch behind it.
        """
        run = told.operator.run
        served = tiny(told.signed.order.decoding.temperature_milli, lane=self.own.trees.dims.lane)
        placed = served.placed
        if told.signed.order != placed.order:  # the client has ordered what no model can read
            pytest.skip("the order itself is false")
        said = Message("response", plain=Response(run.token_ids, run.seed).to_json())
        file = ReceiptFile(
            order=placed.order, model=self.own.model.manifest, query=placed.query, response=said, prompt_proof=(),
            configuration={}, receipt=told.signed.receipt, signature=told.signed.signature, keys=KEYS, evidence={},
        )  # fmt: skip
        (self.folder / f"{name}.order.json").write_bytes(placed.dump())
        (self.folder / f"{name}.receipt.json").write_bytes(file.dump())
        court = self.court(OPERATOR)
        leaves = [receipt_leaf(court.domain, told.signed.receipt, told.signed.signature), *others]
        court.call(None, OPERATOR.address.lower(), "commit_batch", merkle.root(leaves), len(leaves))
        batch = batch_id(OPERATOR.address.lower(), merkle.root(leaves))
        write_places(self.folder, [name], batch, leaves)
        return batch

    def later(self, seconds: int) -> None:
        ask(self.node, "evm_increaseTime", seconds)
        ask(self.node, "evm_mine")

    def status(self) -> list[ChallengeStatus]:
        followed = Followed(self.court(FISHERMAN), {self.own.id: self.own.registered})
        followed.read()
        return [each.status for each in followed.court.challenges]

    def play(self, *players: Any, each_round: Callable[[int], object] = lambda number: None) -> None:
        """Let players take turns until the first challenge is over; where none acts, time goes on past a clock.

        Args:
            players: each acts in ``step()`` and says whether it did. each_round: called with the round's number.
        """
        for number in range(80):
            acted = [player.step() for player in players]
            each_round(number)
            if self.status() and self.status()[0] not in (ChallengeStatus.COMMITTED, ChallengeStatus.OPEN):
                return
            if not any(acted):
                self.later(self.stands.terms.clock_s + 10)


@dataclass
class Embedded(Network):
    """The same on the embedded chain, whose accounts are the same: no process, no key."""

    node: Any

    def court(self, key: Any, **more: Any) -> ChainCourt:
        at = ChainCourt(self.node, self.stands.terms, self.stands.registrar, self.stands.arbiter, self.stands)
        at.attach_judge(self.own.id, self.stands.judges[self.own.id.hex()], self.own.trees)
        return at

    def later(self, seconds: int) -> None:
        self.node.travel(self.node.time + seconds)


def embedded(terms: Terms, folder: Path, signers: Sequence[Any] = (), own: OwnModel = OWN) -> Embedded:
    """A court on a fresh embedded chain, whose operator has staked.

    Args:
        signers: keys of its two arbiters; none: it has no arbiter. own: the model that is registered.
    """
    chain = Chain(accounts=6)
    # By another account, so that the court stands where receipts of the lab expect it.
    arbiter = deploy_arbiter(chain, *(each.address for each in signers), chain.accounts[5]) if signers else NOBODY
    court = ChainCourt(chain, terms, REGISTRAR.address.lower(), arbiter)
    court.register_model(own.id, own.trees)
    court.register_key(KEY_ID, Key(OPERATOR.address.lower(), own.id, KEYS.address))
    court.call(None, OPERATOR.address.lower(), "register", value=10**18)
    return Embedded(chain, load_deployment(court.deployment.dump()), folder, own=own)


def honest() -> Told:
    served = tiny()
    return Told(tiny_signed(served.honest), HonestOperator(served.honest), served.honest)


def settle(network: Network, fisherman: Callable[[], Fisherman], operator: Defender, steps: int = 120) -> None:
    """Both act in turn until neither has anything to do; then time goes on, once past each clock."""
    quiet, player = 0, fisherman()
    for _ in range(steps):
        acted = player.step()
        acted = operator.step() or acted
        quiet = 0 if acted else quiet + 1
        if quiet:
            network.later(network.stands.terms.clock_s + 10)
        if quiet > 2:
            return
        player = fisherman()
    raise AssertionError(f"no end after {steps} steps: {network.events[-5:]}")
