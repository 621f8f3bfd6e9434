"""The operator's side of a court, as a process: it answers every question about its answers, shows what
is demanded, and finalises its batches.

It needs its own folder of answers and nothing else: a game is read from the chain each time, so that
it goes on wherever it was stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from otr_core import merkle
from otr_core.dispute.court import receipt_leaf
from otr_core.dispute.duties import LeafPlace
from otr_core.dispute.play import OperatorPlayer
from otr_core.dispute.players import HonestOperator
from otr_core.dispute.records import Challenge, ChallengeStatus
from otr_core.dispute.state import Turn
from otr_core.errors import MoveError
from otr_core.poea.order import Order
from otr_core.poea.receipt import Receipt
from otr_node.chain.party import ChainParty
from otr_node.chain.places import place_alone

_PLAYED = (ChallengeStatus.OPEN, ChallengeStatus.DEMAND, ChallengeStatus.SPOT)


@dataclass
class Defender(ChainParty):
    """One operator's account.

    Attributes:
        player: who plays for an order and its receipt; None: the honest strategy on the folder's
            answers. collect: whether batches are finalised and what is owed is withdrawn.
    """

    player: Callable[[Order, Receipt], OperatorPlayer | None] | None = None
    collect: bool = True
    _players: dict[int, OperatorPlayer | None] = field(default_factory=dict, init=False)

    def act(self) -> bool:
        for number, challenge in enumerate(self.followed.court.challenges, 1):
            if challenge.operator == self.me and self._answer(number, challenge):
                return True
        return self.collect and self._collect()

    def forget(self) -> None:
        self._players.clear()

    def _answer(self, number: int, challenge: Challenge) -> bool:
        """What a challenge or duty asks for now; whether something was sent."""
        if challenge.status == ChallengeStatus.DEMAND:
            return self._show(number, challenge)
        if challenge.status == ChallengeStatus.SPOT:
            due = challenge.time + self.followed.court.terms.duty_s
            why = f"the beacon drew answer {challenge.index} of batch {challenge.batch.hex()}: attest by {due}"
            self.say_once("summoned", str(number), why=why)
        if challenge.status != ChallengeStatus.OPEN or challenge.game is None:
            return False
        if challenge.game.turn == Turn.CHALLENGER:
            return self.end_by_time(number, "challenger")
        if number not in self._players:
            order, receipt = self.followed.opened[number]
            self._players[number] = (self.player or self.honest_player)(order, receipt)
        player = self._players[number]
        if player is None:
            self.say_once("undefended", str(number), why="its order and answer are not in the folder")
            return False
        try:
            move = player.move(challenge.game)
        except (MoveError, IndexError, KeyError) as error:  # a run that is not what was committed to
            self.say_once("no move", str(number), why=f"{type(error).__name__}: {error}")
            return False
        return bool(move) and self.play(number, move, "it is what our own run holds there")

    def honest_player(self, order: Order, receipt: Receipt) -> OperatorPlayer | None:
        """The honest strategy on the answer to an order; None: it is not at hand."""
        for answer in self.answers.values():
            if answer.placed.order == order and answer.file.receipt == receipt:
                run = answer.claimed_run(self.models[order.model_id])
                return None if run is None else HonestOperator(run)
        return None

    def _show(self, number: int, challenge: Challenge) -> bool:
        """Show or publish a demanded receipt."""
        # What was published once is shown where it lies then: it may be demanded again.
        for place in (self.place_of(challenge.commitment), place_alone(self.me, challenge.commitment)):
            if place is not None and place.batch in self.followed.court.batches:
                self.report("show", game=number, why="the demanded receipt is in a batch")
                return self.call("show", number, tuple(place))
        if self.followed.court.operators[self.me].convicted:
            self.say_once(
                "not published", str(number), why="the court takes no receipt of an operator it has convicted"
            )
            return False
        self.report("publish", game=number, why="the demanded receipt is in no batch yet")
        return self.call("publish_receipt", number)

    def place_of(self, commitment: bytes) -> LeafPlace | None:
        """Where the receipt lies that a demand names by the hash of its leaf; None: nowhere yet."""
        for answer in self.answers.values():
            leaf = receipt_leaf(self.chain.domain, answer.file.receipt, answer.file.signature)
            if merkle.leaf_hash(leaf) == commitment:
                return answer.place
        return None

    def _collect(self) -> bool:
        court, logs, now = self.followed.court, self.followed.logs, self.chain.chain.time
        operator = court.operators.get(self.me)
        if operator is None or operator.convicted:
            return False
        if not any(each.operator == self.me and each.status in _PLAYED for each in court.challenges):
            for batch, held in court.batches.items():
                final = court.window_start(batch) + court.terms.window_s + court.terms.reveal_s
                if held.operator == self.me and not held.closed and now > final:
                    self.report("finalise", batch=batch.hex(), why="its window has passed unchallenged")
                    return self.call("finalise", batch)
        if logs.credits.get(self.me):
            self.report("withdraw", wei=logs.credits[self.me], why="the court owes it")
            return self.call("withdraw")
        return False
