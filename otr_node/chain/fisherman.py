"""A fisherman: runs again what it may see, challenges what is false, plays, and claims what it earned.

It decides from the chain and its own folder of answers, nothing else: what a secret salt hides is
derived from its key and what is challenged, so that after a kill the same answer gives the same
commitment, and its games are found again by that. What is known of judged answers only saves work.

A watcher that is wrong pays. So it never challenges what it could not run (missing files are no
case), and each call is tried on the court that was read before it is sent.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from otr_core import merkle
from otr_core.dispute.court import receipt_leaf
from otr_core.dispute.duties import challenge_hash
from otr_core.dispute.game import open_game
from otr_core.dispute.players import HonestChallenger, case
from otr_core.dispute.records import Challenge, ChallengeStatus
from otr_core.dispute.registry import receipt_fault
from otr_core.dispute.state import SEED, STATES, TOKENS, Turn
from otr_core.errors import ProofError
from otr_node.chain.answers import AnswerFiles
from otr_node.chain.outbox import Outbox
from otr_node.chain.party import ChainParty

_PLAYED = (ChallengeStatus.OPEN, ChallengeStatus.DEMAND, ChallengeStatus.SPOT)
_AT_STAKE = (ChallengeStatus.COMMITTED, ChallengeStatus.OPEN, ChallengeStatus.DEMAND, ChallengeStatus.LOST)
MARGIN_S = 60
"""Seconds before a deadline from which nothing new is begun: five blocks."""


_DISPUTED = {0: "states", TOKENS: "tree of tokens", SEED: "seed than the one that came with the answer"}


@dataclass
class Fisherman(ChainParty):
    """One account that watches one court.

    Attributes:
        secret: 32 bytes that salts derive from. budget_wei: most bonds that may be lost or at stake.
            store: what was judged before.
    """

    secret: bytes
    budget_wei: int
    store: Outbox
    _players: dict[int, HonestChallenger] = field(default_factory=dict, init=False)
    _reasons: dict[str, str] = field(default_factory=dict, init=False)

    def act(self) -> bool:
        for number, challenge in enumerate(self.followed.court.challenges, 1):
            if challenge.challenger == self.me and self._pursue(number, challenge):
                return True
        return any(self._judge(answer) for answer in self.answers.values()) or self._collect()

    def forget(self) -> None:
        self._players.clear()

    # --- answers

    def _judge(self, answer: AnswerFiles) -> bool:
        """Challenge an answer if there is a case; whether something was sent."""
        court, place, now = self.followed.court, answer.place, self.chain.chain.time
        if place is None or place.batch not in court.batches:
            return False
        batch = court.batches[place.batch]
        signed = receipt_leaf(court.domain, answer.file.receipt, answer.file.signature)
        try:
            merkle.verify_inclusion(batch.root, merkle.leaf_hash(signed), place.at, batch.size, place.path)
        except ProofError as error:
            self.say_once("misplaced", answer.name, why=f"the receipt is not where its place says: {error}")
            return False
        token = self._verdict(answer, batch.operator)
        if token is None:
            return False
        if self._commitment(answer, token) in {each.commitment for each in court.challenges}:
            return False
        late = now + MARGIN_S > court.window_start(place.batch) + court.terms.window_s
        convicted = court.operators[batch.operator].convicted
        if late or convicted:  # a batch is closed after its window alone
            why = "its operator is convicted" if convicted else "its window has passed"
            self.say_once("not challenged", answer.name, why=why)
            return False
        staked = sum(
            court.terms.bond_wei for each in court.challenges if each.challenger == self.me and each.status in _AT_STAKE
        )
        if staked + court.terms.bond_wei > self.budget_wei:
            self.say_once("not challenged", answer.name, why=f"the budget of {self.budget_wei} wei in bonds is used up")
            return False
        self.report("challenge", answer=answer.name, batch=place.batch.hex(), why=self._reasons[answer.name])
        return self.call("challenge", self._commitment(answer, token), value=court.terms.bond_wei)

    def _verdict(self, answer: AnswerFiles, operator: str) -> int | None:
        """What is disputed of an answer (``players.case``), found by running it once; None: nothing."""
        name = f"{self.chain.court.address}:{answer.file.receipt.order_id.hex()}:{answer.file.signature.hex()}"
        known = self.store.known(name)
        if known is None:
            order, receipt = answer.placed.order, answer.file.receipt
            if receipt.order_id != order.id or order.model_id not in self.followed.court.models:
                why = "another order's receipt" if receipt.order_id != order.id else "its model is not at hand"
                self.say_once("not judged", answer.name, why=f"{why}: what cannot be run again is not disputed")
                return None
            found, why = self.run_again(answer, operator)
            known = f"{'' if found is None else found}:{why}"
            self.store.note(name, known)
            self.report("judged", answer=answer.name, case=found, why=why)
        case_found, _, why = known.partition(":")
        self._reasons[answer.name] = why
        return int(case_found) if case_found else None

    def run_again(self, answer: AnswerFiles, operator: str) -> tuple[int | None, str]:
        """The verdict on an answer, and why."""
        court, order, receipt = self.followed.court, answer.placed.order, answer.file.receipt
        model, key = court.models[order.model_id], court.keys.get(receipt.key_id)
        assert answer.place is not None
        vouched = (court.domain, operator, key, model, order, receipt, answer.file.signature)
        fault = receipt_fault(*vouched, platform=court.batches[answer.place.batch].platform)
        if fault:
            return 0, f"the receipt is false by itself: {fault}"
        run = answer.own_run(self.models[order.model_id])
        game = open_game(order, receipt, model, court.terms.arity_bits, 0)
        found = case(run, game.claim, model.stop_ids, answer.leaves)
        if found is None:
            return None, "our own run gives the receipt's roots"
        named = f"state in leaf {found - STATES}" if found >= STATES else f"token {found}"
        return found, "our own run gives another " + _DISPUTED.get(found, named)

    def _commitment(self, answer: AnswerFiles, token: int) -> bytes:
        assert answer.place is not None
        return challenge_hash(self.me, answer.place.batch, answer.place.at, token, self._salt(answer, token))

    def _salt(self, answer: AnswerFiles, token: int) -> bytes:
        """The secret of one challenge: the same again after a restart."""
        assert answer.place is not None
        subject = answer.place.batch + answer.place.at.to_bytes(8, "big") + token.to_bytes(8, "big")
        return hmac.digest(self.secret, b"otr/1/challenge-salt" + self.chain.domain.separator + subject, "sha256")

    # --- games

    def _pursue(self, number: int, challenge: Challenge) -> bool:
        """The next thing to do in an own challenge; whether something was sent."""
        if challenge.status == ChallengeStatus.COMMITTED:
            return self._open(number, challenge)
        if challenge.status != ChallengeStatus.OPEN or challenge.game is None:
            return False
        if challenge.game.turn == Turn.OPERATOR:
            return self.end_by_time(number, "operator")
        move = self.player(number).move(challenge.game, self.followed.shown.get(number, ()))
        if not move:
            self.say_once("silent", str(number), why="nothing that was shown differs from our own run")
            return False
        return self.play(number, move, "the first difference from our own run")

    def _open(self, number: int, challenge: Challenge) -> bool:
        for answer in self.answers.values():
            if answer.place is None or answer.place.batch not in self.followed.court.batches:
                continue
            token = self._verdict(answer, self.followed.court.batches[answer.place.batch].operator)
            if token is None or self._commitment(answer, token) != challenge.commitment:
                continue
            self.report("open", game=number, answer=answer.name, why=self._reasons[answer.name])
            return self.send(
                self.chain.open,
                number,
                batch=answer.place.batch,
                index=answer.place.at,
                token=token,
                salt=self._salt(answer, token),
                order=answer.placed.order,
                receipt=answer.file.receipt,
                signature=answer.file.signature,
                path=answer.place.path,
            )
        self.say_once("unknown challenge", str(number), why="no answer in the folder was committed to by it")
        return False

    def player(self, number: int) -> HonestChallenger:
        """Who plays a game: with the run that the case was found by, under a seed revealed since."""
        if number not in self._players:
            order, receipt = self.followed.opened[number]
            answer = next(
                each for each in self.answers.values() if each.file.receipt == receipt and each.placed.order == order
            )
            run = answer.own_run(self.models[order.model_id])
            seed = self.followed.seeds.get(number)
            self._players[number] = HonestChallenger(run if seed is None else run.with_seed(seed), answer.leaves)
        return self._players[number]

    # --- money

    def _collect(self) -> bool:
        """Claim a reward that is due, then take what is owed."""
        court, logs, now = self.followed.court, self.followed.logs, self.chain.chain.time
        mine = {each.operator for each in court.challenges if each.challenger == self.me and each.operator}
        for operator in sorted(mine & logs.convicted):
            playing = any(each.operator == operator and each.status in _PLAYED for each in court.challenges)
            due = court.operators[operator].convicted_at + court.terms.claim_s < now
            if logs.rewards.get(operator) and due and not playing:
                self.report("reward", operator=operator, why="the time to open earlier challenges has passed")
                return self.call("pay_reward", operator)
        if logs.credits.get(self.me):
            self.report("withdraw", wei=logs.credits[self.me], why="the court owes it")
            return self.call("withdraw")
        return False
