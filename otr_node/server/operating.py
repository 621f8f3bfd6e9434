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
from pathlib import Path
from typing import Any

from otr_core import merkle
from otr_core.dispute.court import receipt_leaf
from otr_core.dispute.duties import LeafPlace
from otr_core.dispute.play import OperatorPlayer
from otr_core.dispute.players import HonestOperator
from otr_core.dispute.records import ChallengeStatus
from otr_core.poea.document import ReceiptFile, load_receipt_file
from otr_core.poea.order import Order
from otr_core.poea.receipt import Receipt
from otr_node.chain.access import reporter, with_models
from otr_node.chain.defender import Defender
from otr_node.chain.options import PartyOptions
from otr_node.chain.places import place_alone
from otr_node.enclave import SimulatedEnclave
from otr_node.run import Run
from otr_node.serve import answer_order, open_query, trace_seed
from otr_node.server.batches import BatchBook, PlannedLeaf
from otr_node.server.journal import JournalReader
from otr_node.server.program import kept_secret
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
            if self._frozen or self._convicted:
                return False
            # What was right when it was planned may have been published, or its key revoked, since.
            before = self.book.leaves_of(planned.number)
            now = [self._fate(each.order_id, each.journalled) for each in before]
            if now != before:
                self.book.plan(now, planned.number)
                return True
            return self.call("commit_batch", planned.root, planned.size)
        return False

    @property
    def _convicted(self) -> bool:
        """Whether the operator is, whose batches the court takes no more."""
        own = self.followed.court.operators.get(self.me)
        if own is None or not own.convicted:
            return False
        self.say_once("convicted", self.me, why="the court takes no more batches of it: what it answers is in none")
        return True

    @property
    def _frozen(self) -> bool:
        """Whether a game against the operator is open, in which the court takes no batch."""
        playing = (each for each in self.followed.court.challenges if each.operator == self.me)
        return any(each.status == ChallengeStatus.OPEN for each in playing)

    def _plan(self) -> bool:
        """Write down the next batch once it is due, and what waits or is left aside; whether anything was."""
        if self._convicted:
            return False
        after = self.book.last_journalled
        # Numbers have no holes, so that one receipt says how many are new.
        full = bool(self.journal.receipts_after(after + self.most - 1, 1))
        if self.clock() < self._due and not full:
            return False
        rows = self._released()[: self.most]
        rows += [(row.order_id, row.number) for row in self.journal.receipts_after(after, self.most - len(rows))]
        found = [self._fate(*row) for row in rows]
        if found:
            self.book.plan(found)
        self._say_what_waits()
        if any(each.together for each in found):
            self._due = self.clock() + self.every_s
        return bool(found)

    def _released(self) -> list[tuple[bytes, int]]:
        """Receipts that have waited for a key that the court knows by now."""
        known = [key for key in self.book.waiting_for() if key in self.followed.court.keys]
        return [row for key in known for row in self.book.waiting_of(key, self.most)]

    def _say_what_waits(self) -> None:
        why = "the key of these receipts is not registered at the court: they wait, others are committed"
        for key in self.book.waiting_for():
            if key not in self.followed.court.keys:
                self.say_once("waiting", key.hex(), why=why)

    def _fate(self, order_id: bytes, journalled: int) -> PlannedLeaf:
        """What becomes of a receipt as the court stands now."""
        raw, court = self.journal.receipt(order_id), self.followed.court
        assert raw is not None  # nothing is ever deleted from a journal
        file = load_receipt_file(raw)
        receipt, leaf = file.receipt, receipt_leaf(court.domain, file.receipt, file.signature)
        if place_alone(self.me, merkle.leaf_hash(leaf)).batch in court.batches:
            return PlannedLeaf(order_id, journalled, leaf, alone=True)
        fault = self._fault(file)
        if fault == "key" and receipt.key_id not in court.keys:
            return PlannedLeaf(order_id, journalled, b"", waits_for=receipt.key_id)
        if fault:  # committed it would convict; kept back, it can only be demanded
            self.say_once("left aside", order_id.hex(), why=f"this court would convict it ({fault})")
            leaf = b""
        return PlannedLeaf(order_id, journalled, leaf)

    def _fault(self, file: ReceiptFile) -> str:
        """What a receipt would be convicted for in a batch that is sent now; "" for nothing."""
        about = self.chain.chain.time, self.me, file.order, file.receipt, file.signature
        return self.followed.court.fault_if_committed(*about)


def operator_beside(
    served: Path,
    options: PartyOptions,
    *,
    every_s: float,
    most: int = MOST_OF_A_BATCH,
    kind: Callable[..., ServingOperator] = ServingOperator,
    who: str = "operator",
) -> ServingOperator:
    """The operator beside the server whose state folder is ``served``, by the commands' options; who is
    done with it closes its book.

    Args:
        every_s, most: as of ``ServingOperator``. kind: makes it. who: signs what it says.

    Raises:
        InputError: no journal or secret there, or the book is another operator's. NodeError: as ``with_models``.
    """
    journal = JournalReader(served)
    at, owned, chain = with_models(options)
    me = chain.accounts[0].lower()
    about: dict[str, Any] = {"journal": journal, "secret": kept_secret(served), "every_s": every_s, "most": most}
    about["book"] = BatchBook(served, me, at.domain)
    return kind(at, me, owned, served, reporter(who), **about)
