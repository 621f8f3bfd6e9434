"""The operator of a server, as a process beside it: commits what the server has answered in batches on
a schedule, shows what is demanded, defends what is challenged, and finalises.

It reads the server's journal and takes no lock there, so that serving goes on; either can be killed
and started again without the other. Defending takes what the enclave knows (a sealed query is open
to nobody else). Here the enclave is simulated and its secret lies in the state folder; a real
enclave would answer for its own answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from otr_core import merkle
from otr_core.dispute.court import receipt_leaf
from otr_core.dispute.duties import LeafPlace
from otr_core.dispute.play import OperatorPlayer
from otr_core.dispute.players import HonestOperator
from otr_core.dispute.records import ChallengeStatus
from otr_core.poea.document import load_receipt_file
from otr_core.poea.order import Order
from otr_core.poea.receipt import Receipt
from otr_node.chain.defender import Defender
from otr_node.chain.places import place_alone
from otr_node.enclave import SimulatedEnclave
from otr_node.run import Run
from otr_node.serve import answer_order, open_query, trace_seed
from otr_node.server.batches import BatchBook, PlannedLeaf
from otr_node.server.journal import JournalReader
from otr_node.server.wording import SentOrder

MOST_OF_A_BATCH = 4096
"""Receipts that are held in memory for one batch."""


@dataclass(kw_only=True)
class ServingOperator(Defender):
    """The account of an operator whose answers a server journals; ``folder`` is the server's state.

    Attributes:
        journal, book: of the server, and what was made of it. secret: the simulated enclave's.
        every_s: seconds between two batches. most: receipts that a batch is made of; for so many no time is
            waited for.
        clock: monotonic seconds.
    """

    journal: JournalReader
    book: BatchBook
    secret: bytes
    every_s: float
    most: int = MOST_OF_A_BATCH
    clock: Callable[[], float] = time.monotonic
    _due: float = field(default=0.0, init=False)

    def read_answers(self) -> None:
        """Answers are looked up in the journal, where a game or a demand asks for one."""

    def act(self) -> bool:
        return self._settle() or super().act() or self._plan()

    def forget(self) -> None:
        super().forget()
        self.book.doubt_all()

    def place_of(self, commitment: bytes) -> LeafPlace | None:
        return self.book.place_of_leaf(commitment)

    def honest_player(self, order: Order, receipt: Receipt) -> OperatorPlayer | None:
        """Runs the answer again: in the portable lane it is the same to the bit."""
        begun, raw = self.journal.begun(order.id), self.journal.receipt(order.id)
        if begun is None or raw is None or load_receipt_file(raw).receipt != receipt:
            return None
        own, sent = self.models[order.model_id], SentOrder.parse(begun.sent)
        enclave = SimulatedEnclave(self.secret, order.model_id, bytes(32), 0)
        said, seed = open_query(enclave, sent.order, sent.query), trace_seed(enclave, order)
        tokens, asked = answer_order(enclave, own.model, order, said).token_ids, order.decoding
        run = Run(own.model, own.trees, said.prompt_ids, tokens, seed, asked, None, said.prompt_seed, order.id)
        return HonestOperator(run)

    # batches

    def _settle(self) -> bool:
        """See which planned batches stand, and send, or plan again, the first that does not; whether one was."""
        court = self.followed.court
        for planned in self.book.pending():
            if planned.batch in court.batches:
                self.book.stands(planned.number)
                self.report("committed", batch=planned.batch.hex(), receipts=planned.size)
                continue
            if self._frozen:
                return False
            # What was right when it was planned may have been published, or its key revoked, since.
            before = self.book.leaves_of(planned.number)
            now = [self._fate(each.order_id, each.journalled) for each in before]
            if now != before:
                self.book.plan([each or old for each, old in zip(now, before, strict=True)], planned.number)
                return True
            return self.call("commit_batch", planned.root, planned.size)
        return False

    @property
    def _frozen(self) -> bool:
        """Whether a game against the operator is open, in which the court takes no batch."""
        playing = (each for each in self.followed.court.challenges if each.operator == self.me)
        return any(each.status == ChallengeStatus.OPEN for each in playing)

    def _plan(self) -> bool:
        """Write down the next batch once it is due; whether one was."""
        after = self.book.last_journalled
        # Numbers have no holes, so that one receipt says how many wait.
        full = bool(self.journal.receipts_after(after + self.most - 1, 1))
        if self.clock() < self._due and not full:
            return False
        found = list[PlannedLeaf]()
        for row in self.journal.receipts_after(after, self.most):
            fate = self._fate(row.order_id, row.number)
            if fate is None:  # those behind it wait, too
                break
            found.append(fate)
        if found:
            self.book.plan(found)
        if not any(each.together for each in found):
            return False
        self._due = self.clock() + self.every_s
        return True

    def _fate(self, order_id: bytes, journalled: int) -> PlannedLeaf | None:
        """What becomes of a receipt as the court stands now; None: its key is not registered yet."""
        raw, court = self.journal.receipt(order_id), self.followed.court
        assert raw is not None  # nothing is ever deleted from a journal
        file = load_receipt_file(raw)
        receipt, leaf = file.receipt, receipt_leaf(court.domain, file.receipt, file.signature)
        if place_alone(self.me, merkle.leaf_hash(leaf)).batch in court.batches:
            return PlannedLeaf(order_id, journalled, leaf, alone=True)
        fault = court.fault_if_committed(self.chain.chain.time, self.me, file.order, receipt, file.signature)
        if fault == "key" and receipt.key_id not in court.keys:
            name = receipt.key_id.hex()
            self.say_once("waiting", name, why="the key of its receipts is not registered at the court")
            return None
        if fault:  # committed it would convict; kept back, it can only be demanded
            self.say_once("left aside", order_id.hex(), why=f"this court would convict it ({fault})")
            leaf = b""
        return PlannedLeaf(order_id, journalled, leaf)
