"""A fisherman: runs again what it may see, challenges what is false, plays, and claims what it earned.

It decides from the chain and its own folder of answers, nothing else: what a secret salt hides is
derived from its key and what is challenged, so that after a kill the same answer gives the same
commitment, and its games are found again by that. What is known of judged answers only saves work.

A watcher that is wrong pays. So it never challenges what it could not run (missing files are no
case), and each call is tried on the court that was read before it is sent.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field, replace
from typing import Any

from otr_core import merkle
from otr_core.dispute.court import receipt_leaf
from otr_core.dispute.duties import challenge_hash, is_drawn, spot_subject
from otr_core.dispute.game import open_game
from otr_core.dispute.players import HonestChallenger, case
from otr_core.dispute.profile import own_profile
from otr_core.dispute.records import Challenge, ChallengeStatus
from otr_core.dispute.registry import receipt_fault
from otr_core.dispute.state import SEED, STATES, TOKENS, Turn
from otr_core.errors import MoveError, ProofError
from otr_node.chain.answers import AnswerFiles
from otr_node.chain.onchain import NOBODY
from otr_node.chain.outbox import Outbox
from otr_node.chain.party import ChainParty
from otr_node.chain.places import place_alone

_PLAYED = (ChallengeStatus.OPEN, ChallengeStatus.DEMAND, ChallengeStatus.SPOT)
_AT_STAKE = (ChallengeStatus.COMMITTED, ChallengeStatus.OPEN, ChallengeStatus.DEMAND, ChallengeStatus.LOST)
PATIENCE_S = own_profile().parties.patience_s
"""As long as an operator may take to commit a receipt and to say where; one demanded too early costs gas."""
MARGIN_S = own_profile().parties.margin_s
"""Seconds before a deadline from which nothing new is begun: five blocks."""


_DISPUTED = {0: "states", TOKENS: "tree of tokens", SEED: "seed than the one that came with the answer"}


@dataclass
class Fisherman(ChainParty):
    """One account that watches one court.

    Attributes:
        secret: 32 bytes that salts derive from. budget_wei: most bonds that may be lost or at stake.
            store: what was judged before. patience_s: of the chain's time, after which a receipt that
            came without its place is demanded.
    """

    secret: bytes
    budget_wei: int
    store: Outbox
    patience_s: int = PATIENCE_S
    _players: dict[int, HonestChallenger] = field(default_factory=dict, init=False)
    _reasons: dict[str, str] = field(default_factory=dict, init=False)

    def act(self) -> bool:
        self.answers = {name: self._placed(answer) for name, answer in self.answers.items()}
        for number, challenge in enumerate(self.followed.court.challenges, 1):
            if challenge.challenger == self.me and self._pursue(number, challenge):
                return True
        answers = self.answers.values()
        return any(self._judge(each) or self._summon(each) for each in answers) or self._collect()

    def forget(self) -> None:
        self._players.clear()

    # --- answers

    def _judge(self, answer: AnswerFiles) -> bool:
        """Challenge an answer if there is a case; whether something was sent."""
        court, place = self.followed.court, answer.place
        signed = receipt_leaf(court.domain, answer.file.receipt, answer.file.signature)
        if place is None or place.batch not in court.batches:
            return self._demand(answer, merkle.leaf_hash(signed))
        batch = court.batches[place.batch]
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
        if not self._open_to(answer, place.batch):
            return False
        self.read()  # While the answer was run, others may have convicted its operator: the bond would be lost.
        if not self._open_to(answer, place.batch):
            return False
        self.report("challenge", answer=answer.name, batch=place.batch.hex(), why=self._reasons[answer.name])
        return self.call("challenge", self._commitment(answer, token), value=court.terms.bond_wei)

    def _open_to(self, answer: AnswerFiles, place: bytes) -> bool:
        """Whether an answer of the batch ``place`` can be challenged, as far as the court was read."""
        court = self.followed.court
        if place not in court.batches:
            return False
        late = self.chain.chain.time + MARGIN_S > court.window_start(place) + court.terms.window_s
        convicted = court.operators[court.batches[place].operator].convicted
        if late or convicted:  # a batch is closed after its window alone
            why = "its operator is convicted" if convicted else "its window has passed"
            self.say_once("not challenged", answer.name, why=why)
            return False
        return self._affordable("not challenged", answer)

    def _affordable(self, event: str, answer: AnswerFiles) -> bool:
        """Whether the budget allows one more bond."""
        bond, own = (
            self.followed.court.terms.bond_wei,
            [each for each in self.followed.court.challenges if each.challenger == self.me],
        )
        if bond * (1 + sum(each.status in _AT_STAKE for each in own)) <= self.budget_wei:
            return True
        self.say_once(event, answer.name, why=f"the budget of {self.budget_wei} wei in bonds is used up")
        return False

    def _demand(self, answer: AnswerFiles, subject: bytes) -> bool:
        """Demand a receipt that is in no batch that is known here; whether something was sent.

        Once for each receipt: what was shown on demand was in a batch, and a second bond would be
        lost.
        """
        court, now, receipt = self.followed.court, self.chain.chain.time, answer.file.receipt
        key = court.keys.get(receipt.key_id)
        operator = None if key is None else court.operators.get(key.operator)
        if key is None or operator is None or operator.convicted:
            return False
        if any(each.commitment == subject for each in court.challenges):
            return False
        name = f"seen:{subject.hex()}"
        seen = self.store.known(name)
        if seen is None:
            self.store.note(name, str(now))
            return False
        if now <= int(seen) + self.patience_s or not self._affordable("not demanded", answer):
            return False
        why = f"its receipt came more than {self.patience_s} s ago, and its place did not"
        self.report("demand", answer=answer.name, operator=key.operator, why=why)
        bond = court.terms.bond_wei
        return self.send(self.chain.demand, key.operator, receipt, answer.file.signature, value=bond)

    def _summon(self, answer: AnswerFiles) -> bool:
        """Say that the beacon drew an answer, so that its verdict is due; whether it was sent. It costs
        gas alone, and who is silent is convicted."""
        court, place = self.followed.court, answer.place
        if self.chain.arbiter == NOBODY or place is None or place.batch not in court.batches:
            return False
        batch, subject = court.batches[place.batch], spot_subject(place.batch, place.at)
        number = next((at for at, (_, time) in enumerate(court.draws) if time > batch.time), None)
        if number is None or subject in court.drawn or place.at >= batch.size or batch.closed:
            return False
        late = self.chain.chain.time + MARGIN_S > court.window_start(place.batch) + court.terms.window_s
        drawn = is_drawn(court.draws[number][0], subject, court.terms.spot_bps)
        if late or not drawn or court.operators[batch.operator].convicted:
            return False
        self.report(
            "summon", answer=answer.name, draw=number, why="the first value of the beacon after its batch drew it"
        )
        return self.call("summon", place.batch, place.at, number)

    def _placed(self, answer: AnswerFiles) -> AnswerFiles:
        """An answer with its place, which follows from the receipt where that was published on demand."""
        court, signed = self.followed.court, answer.file
        key = court.keys.get(signed.receipt.key_id)
        if key is None or (answer.place is not None and answer.place.batch in court.batches):
            return answer
        leaf = merkle.leaf_hash(receipt_leaf(court.domain, signed.receipt, signed.signature))
        alone = place_alone(key.operator, leaf)
        return replace(answer, place=alone) if alone.batch in court.batches else answer

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
        if challenge.status in (ChallengeStatus.DEMAND, ChallengeStatus.SPOT):
            return self._lapse(number)
        if challenge.status != ChallengeStatus.OPEN or challenge.game is None:
            return False
        if challenge.game.turn == Turn.OPERATOR:
            return self.end_by_time(number, "operator")
        move = self.player(number).move(challenge.game, self.followed.shown.get(number, ()))
        if not move:
            self.say_once("silent", str(number), why="nothing that was shown differs from our own run")
            return False
        return self.play(number, move, "the first difference from our own run")

    def _lapse(self, number: int) -> bool:
        """End a duty that was not done in time; whether it was sent."""
        try:
            self.followed.court.lapse(self.chain.chain.time, number)
        except MoveError:
            return False
        self.report("lapse", game=number, why="what was due was not shown in time")
        return self.call("lapse", number)

    def _open(self, number: int, challenge: Challenge) -> bool:
        for answer in self.answers.values():
            if answer.place is None or answer.place.batch not in self.followed.court.batches:
                continue
            token = self._verdict(answer, self.followed.court.batches[answer.place.batch].operator)
            if token is None or self._commitment(answer, token) != challenge.commitment:
                continue
            shown: dict[str, Any] = {"batch": answer.place.batch, "index": answer.place.at, "token": token}
            shown |= {"salt": self._salt(answer, token), "order": answer.placed.order, "path": answer.place.path}
            shown |= {"receipt": answer.file.receipt, "signature": answer.file.signature}
            try:
                self.followed.court.open(self.chain.chain.time, self.me, number, **shown)
            except MoveError as error:  # too late, or the operator was convicted before: the bond is lost
                self.say_once("not opened", str(number), why=str(error))
                return False
            self.report("open", game=number, answer=answer.name, why=self._reasons[answer.name])
            return self.send(self.chain.open, number, **shown)
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
