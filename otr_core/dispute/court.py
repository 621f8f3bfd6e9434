"""Stakes, batches, challenges, clocks and money around the games: the contract as a frozen value.

Every method returns a new ``Court``, or raises ``MoveError`` and changes nothing; ``reason`` names
the broken rule. A number that no batch, challenge or game has is refused with the reason ``batch``,
``challenge``, ``opened`` or ``over``. Time (``now``, Unix seconds), the caller (``sender``) and the
money sent along (``value``, wei) are arguments. ``court.vy`` does the same on chain, reason by
reason; both are played side by side in the tests.

* An operator stakes, has its TEE's key registered, and commits to batches of signed receipts (RFC
  6962 root over ``receipt_leaf``). A batch is final when its window has passed without an open
  challenge; then its payment is due.
* A challenge is committed first (a hash and a bond) and opened later, so that nobody can copy it;
  of several that were right about the same answer the earliest commitment is paid, whichever game
  ended first.
* Each side has a clock that grows by an increment a move. Who runs out of time loses exactly what a
  false answer costs.
* A conviction slashes the stake, of which a part goes to the challenger and the rest is burnt,
  voids every batch that is not final yet (payers are refunded), and ends the operator's other games
  with their bonds returned.
* What is owed is credited and withdrawn by its owner: no payment can fail on another's account or
  re-enter a move.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from otr_core import merkle
from otr_core.dispute.accounts import Accounts
from otr_core.dispute.game import MOVES, open_game, require, require_leaf, statement
from otr_core.dispute.records import BASIS, Challenge, ChallengeStatus
from otr_core.dispute.registry import receipt_fault
from otr_core.dispute.state import Game, Turn, Verdict
from otr_core.errors import MoveError
from otr_core.poea.order import Domain, Order
from otr_core.poea.receipt import Receipt


@dataclass(frozen=True)
class Court(Accounts):
    """The state of all stakes, batches and games; its fields are those of ``Accounts``."""

    # --- challenges

    def challenge(self, now: int, sender: str, batch: int, commitment: bytes, value: int) -> Court:
        """Commit to a challenge of some answer in a batch. Challenges are numbered from 1.

        Args:
            commitment: ``challenge_hash`` of what is challenged. value: the bond, wei.

        Raises:
            MoveError: ``void``: the batch is final, or its operator convicted. ``window``: too
                late. ``bond``: another sum.
        """
        old, terms = self._live_batch(batch), self.terms
        require(now <= old.time + terms.window_s, "window", now, old.time + terms.window_s)
        require(value == terms.bond_wei, "bond", value, terms.bond_wei)
        court = self._set_batch(batch, open_games=old.open_games + 1)
        court = court._operator(old.operator, open_games=self.operators[old.operator].open_games + 1)
        return replace(court, challenges=(*court.challenges, Challenge(sender, batch, commitment, now)))

    def open(
        self,
        now: int,
        sender: str,
        number: int,
        *,
        index: int,
        token: int,
        salt: bytes,
        order: Order,
        receipt: Receipt,
        signature: bytes,
        path: Sequence[bytes],
    ) -> Court:
        """Say which answer is challenged, show its order and receipt, and start the game about it.

        A receipt that no registered key of the operator has signed, or whose statement is no answer
        to its own order, convicts at once (``receipt_fault``): the operator has sold it in its
        batch. Against an operator already convicted the challenge is moot, but may still claim the
        reward if it was the earliest about the answer that convicted.

        Args:
            index: of the receipt in the batch. token: 0 to dispute the states, else the token's
                number. salt: 32 bytes, as committed. order: the one that the receipt names; it
                counts under this court's domain. path: audit path from ``receipt_leaf`` to the
                batch's root.

        Raises:
            MoveError: ``sender``: not who committed. ``late``. ``commitment``: another challenge
                than was committed to. ``order``: not the one that the receipt names (whoever could
                bring any order could convict any operator). ``path``: not a receipt of the batch.
                ``token``: the answer has no such token.
        """
        challenge = self._challenge(number, ChallengeStatus.COMMITTED)
        batch, terms = self.batches[challenge.batch], self.terms
        require(sender == challenge.challenger, "sender", sender, challenge.challenger)
        require(now <= challenge.time + terms.reveal_s, "late", now, challenge.time + terms.reveal_s)
        committed = challenge_hash(sender, challenge.batch, index, token, salt) == challenge.commitment
        require(committed, "commitment", "another challenge", "the committed one")
        ordered = replace(order, domain=self.domain).id
        require(receipt.order_id == ordered, "order", ordered.hex(), receipt.order_id.hex())
        require(len(signature) == 65, "path", f"{len(signature)} bytes of signature", 65)
        leaf = merkle.leaf_hash(receipt_leaf(self.domain, receipt, signature))
        require_leaf(batch.root, leaf, index, batch.size, path, "a receipt of the batch")
        court = self._set_challenge(number, index=index, opened=True)
        if self.operators[batch.operator].convicted:
            return court._end(number, ChallengeStatus.MOOT)
        key, model = self.keys.get(receipt.key_id), self.models.get(order.model_id)
        if model is None or receipt_fault(self.domain, batch.operator, key, model, order, receipt, signature):
            return court._convict(now, number)
        game = open_game(order, receipt, model, terms.arity_bits, token)
        clocks = (terms.clock_s, terms.clock_s)
        return court._set_challenge(number, status=ChallengeStatus.OPEN, game=game, left_s=clocks, last_time=now)

    def expire(self, now: int, number: int) -> Court:
        """End a challenge that was not opened in time; its bond is lost.

        Raises:
            MoveError: ``early``: it may still be opened.
        """
        until = self._challenge(number, ChallengeStatus.COMMITTED).time + self.terms.reveal_s
        require(now > until, "early", now, until)
        return self._acquit(number)

    def move(self, now: int, sender: str, number: int, name: str, *args: Any) -> Court:
        """Make the move ``name`` of ``game.MOVES`` in a game; a verdict settles it at once.

        Raises:
            MoveError: ``sender``, ``turn``: not this side's move. ``late``: its clock has run out.
                Else as the move.
        """
        game = self._game(number)
        require(name in MOVES, "move", name, f"one of {', '.join(MOVES)}")
        rule, mover = MOVES[name], self.player(number, MOVES[name].turn)
        require(sender == mover, "sender", sender, mover)
        require(game.turn == rule.turn, "turn", game.turn.name, rule.turn.name)
        court = self._tick(now, number, rule.turn)
        return court._settle(now, number, rule.make(game, *args))

    def arbitrate(self, now: int, number: int, verdict: Verdict, proof: bytes) -> Court:
        """End a game by a proof of its verdict, at any point.

        Raises:
            MoveError: ``arbiter``: the court has none, or no verdict is given. ``proof``: not
                accepted.
        """
        game = self._game(number)
        if verdict not in (Verdict.OPERATOR_LOSES, Verdict.CHALLENGER_LOSES) or self.arbiter is None:
            raise MoveError("arbiter", "none, or no verdict", "an arbiter and a verdict")
        shown = self.arbiter(statement(self.domain, number, game.claim.trace_root, verdict), proof)
        require(shown, "proof", "not accepted", "a proof of the verdict")
        return self._settle(now, number, replace(game, verdict=verdict))

    def timeout(self, now: int, number: int) -> Court:
        """End a game in which the side to move has run out of time: it loses.

        Raises:
            MoveError: ``early``: its clock still runs.
        """
        game, challenge = self._game(number), self.challenges[number - 1]
        until = challenge.last_time + challenge.left_s[game.turn]
        require(now > until, "early", now, until)
        loses = Verdict.OPERATOR_LOSES if game.turn == Turn.OPERATOR else Verdict.CHALLENGER_LOSES
        return self._settle(now, number, replace(game, verdict=loses))

    def close(self, number: int) -> Court:
        """End a challenge against an operator convicted in another game; the bond goes back.

        Raises:
            MoveError: ``over``: it has ended, or the operator stands.
        """
        challenge = self._numbered(number)
        going = challenge.status in (ChallengeStatus.COMMITTED, ChallengeStatus.OPEN)
        moot = going and self.operators[self.batches[challenge.batch].operator].convicted
        require(moot, "over", challenge.status.name, "a game whose operator is convicted")
        return self._end(number, ChallengeStatus.MOOT)

    def claim_reward(self, now: int, number: int) -> Court:
        """Say that a challenge about the convicted answer is earlier than the best one so far.

        Raises:
            MoveError: ``reward``: none is due, or the challenge is lost, unopened or about another
                answer. ``late``. ``order``: it is not the earlier one.
        """
        challenge = self._numbered(number)
        name = self.batches[challenge.batch].operator
        operator = self.operators[name]
        same = (challenge.batch, challenge.index) == (operator.convicted_batch, operator.convicted_index)
        due = operator.reward_wei != 0 and challenge.opened and same and challenge.status != ChallengeStatus.LOST
        require(due, "reward", "none, or another answer", "an open challenge about the convicted answer")
        require(now <= operator.claims_until, "late", now, operator.claims_until)
        require(number < operator.best_game, "order", number, f"below {operator.best_game}")
        return self._operator(name, best_game=number)

    def pay_reward(self, now: int, name: str) -> Court:
        """Pay the reward for convicting operator ``name`` to the earliest right challenger.

        Raises:
            MoveError: ``standing``: unknown. ``reward``: none is due. ``early``: an earlier
                challenger may still claim it.
        """
        operator = self._known(name)
        require(operator.reward_wei != 0, "reward", 0, "one that is due")
        require(now > operator.claims_until, "early", now, operator.claims_until)
        winner = self.challenges[operator.best_game - 1].challenger
        return self._operator(name, reward_wei=0)._credit(winner, operator.reward_wei)

    def player(self, number: int, turn: Turn) -> str:
        """Address of a side of challenge ``number``."""
        challenge = self.challenges[number - 1]
        return self.batches[challenge.batch].operator if turn == Turn.OPERATOR else challenge.challenger

    # --- inside

    def _tick(self, now: int, number: int, turn: Turn) -> Court:
        """Charge the mover's clock: less what the move took, plus the increment, clock_s at
        most."""
        challenge = self.challenges[number - 1]
        left, spent = list(challenge.left_s), now - challenge.last_time
        require(spent >= 0, "time", now, f"at least {challenge.last_time}")
        require(spent <= left[turn], "late", spent, left[turn])
        left[turn] = min(left[turn] - spent + self.terms.increment_s, self.terms.clock_s)
        return self._set_challenge(number, left_s=tuple(left), last_time=now)

    def _settle(self, now: int, number: int, game: Game) -> Court:
        """Store a game as it stands now; its verdict, if it has one, decides the challenge."""
        status = self.challenges[number - 1].status
        require(game.verdict == Verdict.NONE or status == ChallengeStatus.OPEN, "opened", status.name, "OPEN")
        court = self._set_challenge(number, game=game)
        if game.verdict == Verdict.OPERATOR_LOSES:
            return court._convict(now, number)
        if game.verdict == Verdict.WITHDRAWN:
            return court._end(number, ChallengeStatus.MOOT)
        return court._acquit(number) if game.verdict == Verdict.CHALLENGER_LOSES else court

    def _convict(self, now: int, number: int) -> Court:
        """Slash the operator. Part of it is a reward, which an earlier challenger may still claim.

        The rest is burnt, so that an operator cannot save its stake by challenging itself first.
        """
        challenge, terms = self.challenges[number - 1], self.terms
        name = self.batches[challenge.batch].operator
        stake = self.operators[name].stake_wei
        slashed = stake * terms.slash_bps // BASIS
        reward = slashed * terms.reward_bps // BASIS
        court = self._operator(
            name,
            stake_wei=stake - slashed,
            convicted=True,
            convicted_batch=challenge.batch,
            convicted_index=challenge.index,
            reward_wei=reward,
            best_game=number,
            claims_until=now + terms.claim_s,
        )
        return replace(court, burnt_wei=self.burnt_wei + slashed - reward)._end(number, ChallengeStatus.WON)

    def _acquit(self, number: int) -> Court:
        """Take the bond: part of it compensates the operator for playing, the rest is burnt."""
        bond, name = self.terms.bond_wei, self.player(number, Turn.OPERATOR)
        compensation = bond * self.terms.compensation_bps // BASIS
        court = replace(self, burnt_wei=self.burnt_wei + bond - compensation)._credit(name, compensation)
        return court._end(number, ChallengeStatus.LOST)

    def _end(self, number: int, status: ChallengeStatus) -> Court:
        """End a challenge. The bond goes back unless the challenge is lost."""
        challenge = self.challenges[number - 1]
        batch = self.batches[challenge.batch]
        court = self._set_challenge(number, status=status)
        court = court._set_batch(challenge.batch, open_games=batch.open_games - 1)
        court = court._operator(batch.operator, open_games=self.operators[batch.operator].open_games - 1)
        return court if status == ChallengeStatus.LOST else court._credit(challenge.challenger, self.terms.bond_wei)

    def _numbered(self, number: int) -> Challenge:
        require(1 <= number <= len(self.challenges), "challenge", number, f"1 to {len(self.challenges)}")
        return self.challenges[number - 1]

    def _challenge(self, number: int, status: ChallengeStatus) -> Challenge:
        """A challenge that stands at ``status``."""
        challenge = self._numbered(number)
        reason = "over" if status == ChallengeStatus.OPEN else "opened"
        require(challenge.status == status, reason, challenge.status.name, status.name)
        return challenge

    def _game(self, number: int) -> Game:
        """A game that goes on."""
        found = self.challenges[number - 1] if 1 <= number <= len(self.challenges) else None
        if found is None or found.game is None:
            raise MoveError("game", f"number {number}", "a challenge whose game was begun")
        ended = found.game.verdict != Verdict.NONE
        require(not ended, "over", found.status.name, ChallengeStatus.OPEN.name)
        return found.game

    def _set_challenge(self, number: int, **changes: Any) -> Court:
        new = replace(self.challenges[number - 1], **changes)
        return replace(self, challenges=(*self.challenges[: number - 1], new, *self.challenges[number:]))


def receipt_leaf(domain: Domain, receipt: Receipt, signature: bytes) -> bytes:
    """Content of a batch leaf: the receipt's hash under a court's domain, and the 65-byte
    signature."""
    return receipt.signing_hash(domain) + signature


def challenge_hash(challenger: str, batch: int, index: int, token: int, salt: bytes) -> bytes:
    """What a challenger commits to: five 32-byte words. The secret ``salt`` hides the rest."""
    words = [int(challenger, 16), batch, index, token]
    return sha256(b"".join(word.to_bytes(32, "big") for word in words) + salt).digest()
