"""An operator of a devnet that cheats: the program and the process of an honest one, but that its TEE is
broken and signs a lie of ``statement_lies``, or that it commits nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from otr_core.dispute.play import OperatorPlayer
from otr_core.dispute.records import Challenge
from otr_core.poea.document import ReceiptFile
from otr_core.poea.message import Message, Response
from otr_core.poea.order import Order
from otr_core.poea.receipt import Receipt
from otr_node.chain.answers import dump_leaves
from otr_node.recorder import TraceRecorder
from otr_node.run import Run
from otr_node.server.desk import Desk, Issued, Task
from otr_node.server.operating import ServingOperator
from otr_paper.devnet.attacks import NO_ATTACK, OperatorAttack
from otr_paper.labs.disputes.parties import KEYS
from otr_paper.labs.disputes.statement_lies import Lie


class LyingDesk(Desk):
    """The desk of a server whose TEE is broken: the order that a lie is told about is answered with it,
    under the key that the operator has got hold of. All else is an honest server's.

    Args:
        lie: that it tells. about: as of ``Desk``.
    """

    def __init__(self, *parts: Any, lie: Lie, **about: Any) -> None:
        super().__init__(*parts, **about)
        self._told = lie.tell()

    def issue(self, task: Task, token_ids: tuple[int, ...], finish: str, recorder: TraceRecorder | None) -> Issued:
        """As ``Desk``, but for the order that the lie is about."""
        true, signed, run = super().issue(task, token_ids, finish, recorder), self._told.signed, self._told.operator.run
        if signed.order.id != task.order.id:
            return true
        assert isinstance(run, Run)
        file = ReceiptFile(
            order=task.order,
            model=self.model.manifest,
            query=task.query,
            response=Message("response", plain=Response(run.token_ids, run.seed).to_json()),
            prompt_proof=(),
            configuration={},
            receipt=signed.receipt,
            signature=signed.signature,
            keys=KEYS,
            evidence={},
        )
        return Issued(file.dump(), dump_leaves(run.trace))


@dataclass(kw_only=True)
class CheatingOperator(ServingOperator):
    """The operator beside such a server, or one that keeps to itself what was answered.

    Attributes:
        attack: how it cheats.
    """

    attack: OperatorAttack = NO_ATTACK

    def honest_player(self, order: Order, receipt: Receipt) -> OperatorPlayer | None:
        """Who plays for the lie; None: nobody does. Its other answers are defended as an honest operator's."""
        if not self._lies(receipt):
            return super().honest_player(order, receipt)
        return None if self.attack.silent or self.attack.lie is None else self.attack.lie.tell().operator

    def _lies(self, receipt: Receipt) -> bool:
        return self.attack.lie is not None and receipt == self.attack.lie.tell().signed.receipt

    def _show(self, number: int, challenge: Challenge) -> bool:
        return not self.attack.withholds and super()._show(number, challenge)

    def _plan(self) -> bool:
        return not self.attack.withholds and super()._plan()

    def _fault(self, file: ReceiptFile) -> str:
        """What would convict is committed all the same, in the hope that nobody looks."""
        return "" if self._lies(file.receipt) else super()._fault(file)
