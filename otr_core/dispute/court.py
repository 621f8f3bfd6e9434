"""Challenges and their games, above the money of ``accounts`` and ``duties``: the contract as a value.

Every method returns a new ``Court``, or raises ``MoveError`` and changes nothing; ``reason`` names
the broken rule. A number that no challenge or game has is refused with the reason ``challenge`` or
``game``. Time (``now``, Unix seconds), the caller (``sender``) and the money sent along (``value``,
wei) are arguments. ``court.vy`` and ``table.vy`` do the same on chain, reason by reason; both are
played side by side in the tests.

* An operator stakes, has its TEE's key registered, and commits to batches of signed receipts (RFC
  6962 root over ``receipt_leaf``). A batch is final when its window has passed and nothing is open
  against its operator; then its payments are due.
* A challenge is committed first (a hash and a bond) and opened later. Until then it names nothing,
  not even the operator: who is looked at cannot hurry to accuse itself, nor go silent.
* While a game is open, nothing of the operator becomes final; and once the challenger has said what
  it disputes, and not only asked for the seed, the operator commits to nothing new. A
  challenger that only wants to hold up an operator loses its bond at each game's end, of which the
  operator gets a part, and holds it up no longer than its own clock.
* Each side has a clock that grows by an increment a move. Who runs out of time loses exactly what a
  false answer costs.
* A conviction slashes the stake and voids every batch that is not final yet (``duties``). Games
  against the convicted go on, for the reward goes to the earliest committed challenge that turns out
  right, whichever game ended first.
* What is owed is credited and withdrawn by its owner: no payment can fail on another's account or
  re-enter a move.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from otr_core import merkle
from otr_core.dispute.duties import Duties, challenge_hash
from otr_core.dispute.game import MOVES, open_game, statement
from otr_core.dispute.records import Challenge, ChallengeStatus
from otr_core.dispute.registry import receipt_fault
from otr_core.dispute.rules import require, require_leaf
from otr_core.dispute.state import NOTHING, Game, Level, Turn, Verdict
from otr_core.errors import MoveError
from otr_core.poea.order import Domain, Order
from otr_core.poea.receipt import Receipt


@dataclass(frozen=True)
class Court(Duties):
    """The state of all stakes, batches and games; its fields are those of ``Accounts``."""

    def challenge(self, now: int, sender: str, commitment: bytes, value: int) -> Court:
        """Commit to a challenge of some answer. Challenges are numbered from 1.

        Args:
            commitment: ``challenge_hash`` of what is challenged. value: the bond, wei.

        Raises:
            MoveError: ``bond``: another sum.
        """
        require(value == self.terms.bond_wei, "bond", value, self.terms.bond_wei)
        return replace(self, challenges=(*self.challenges, Challenge(sender, commitment, now)))

    def open(
        self,
        now: int,
        sender: str,
        number: int,
        *,
        batch: bytes,
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
        batch. Against an operator already convicted the challenge goes on as if it stood, for the
        reward, if it was committed before.

        Args:
            batch: its id. index: of the receipt in it. token: what is disputed, as
                ``game.dispute`` takes it, or ``SEED``. salt: 32 bytes, as committed. order: the one
                that the receipt names; it counts under this court's domain. path: audit path from
                ``receipt_leaf`` to the batch's root.

        Raises:
            MoveError: ``opened``, ``sender``: not who committed. ``late``. ``commitment``: another
                challenge than was committed to. ``batch``. ``window``: committed before the batch,
                or after its window. ``void``: the batch is final, or the challenge was committed
                after the operator's conviction. ``order``: not the one that the receipt names
                (whoever could bring any order could convict any operator). ``path``: not a receipt
                of the batch. ``token``: the answer has no such token.
        """
        challenge = self._committed(now, sender, number, challenge_hash(sender, batch, index, token, salt))
        found = self._batch(batch)
        after = self._passed(challenge.time, self.window_start(batch), self.terms.window_s)
        require(found.time <= challenge.time and not after, "window", challenge.time, "in the batch's window")
        require(not found.closed, "void", "a final batch", "one that is not")
        self._timely(challenge, self.operators[found.operator])
        require(len(signature) == 65, "path", f"{len(signature)} bytes of signature", 65)
        ordered = replace(order, domain=self.domain).id
        require(receipt.order_id == ordered, "order", ordered.hex(), receipt.order_id.hex())
        leaf = merkle.leaf_hash(receipt_leaf(self.domain, receipt, signature))
        require_leaf(found.root, leaf, index, found.size, path, "a receipt of the batch")
        model = self.models.get(order.model_id)
        court = self._set_challenge(number, opened=True, operator=found.operator, batch=batch, index=index)
        if model is None or self.fault_in(batch, order, receipt, signature):
            return court._joined(found.operator, 0)._convict(now, number)
        game = open_game(order, receipt, model, self.terms.arity_bits, token)
        clocks = (self.terms.clock_s, self.terms.clock_s)
        court = court._joined(found.operator, game.level != Level.SEED)
        return court._set_challenge(number, status=ChallengeStatus.OPEN, game=game, left_s=clocks, last_time=now)

    def fault_if_committed(self, now: int, operator: str, order: Order, receipt: Receipt, signature: bytes) -> str:
        """Name of what a receipt would be convicted for in a batch that ``operator`` commits ``now``, as
        ``receipt_fault`` has them; "" if for nothing that shows without its answer."""
        return self._fault(now, self.platforms.get(operator, NOTHING), operator, order, receipt, signature)

    def fault_in(self, batch: bytes, order: Order, receipt: Receipt, signature: bytes) -> str:
        """Name of what a receipt of a batch is convicted for, as ``fault_if_committed``.

        Raises:
            MoveError: ``batch``.
        """
        found = self._batch(batch)
        return self._fault(found.time, found.platform, found.operator, order, receipt, signature)

    def _fault(self, at: int, platform: bytes, operator: str, order: Order, receipt: Receipt, signature: bytes) -> str:
        key, model = self.keys.get(receipt.key_id), self.models.get(order.model_id)
        revoked = key is not None and self._revoked(receipt.key_id, at)
        vouched = (self.domain, operator, key, model, order, receipt, signature)
        return receipt_fault(*vouched, revoked=revoked, platform=platform)

    def expire(self, now: int, number: int) -> Court:
        """End a challenge that was not opened in time; its bond is burnt: it has named nobody whom
        it could compensate.

        Raises:
            MoveError: ``challenge``. ``opened``. ``early``: it may still be opened.
        """
        challenge = self._numbered(number)
        require(challenge.status == ChallengeStatus.COMMITTED, "opened", challenge.status.name, "COMMITTED")
        until = challenge.time + self.terms.reveal_s
        require(self._passed(now, challenge.time, self.terms.reveal_s), "early", now, until)
        court = replace(self, burnt_wei=self.burnt_wei + self.terms.bond_wei)
        return court._set_challenge(number, status=ChallengeStatus.LOST)

    def close(self, sender: str, number: int) -> Court:
        """Give up a game against an operator that another challenge has convicted; the bond goes
        back. Its owner alone may: whoever else could would bar it from the reward.

        Raises:
            MoveError: ``challenge``. ``sender``: not the challenger. ``over``: it has ended, or the
                operator stands.
        """
        challenge = self._numbered(number)
        require(sender == challenge.challenger, "sender", sender, challenge.challenger)
        moot = challenge.status == ChallengeStatus.OPEN and self.operators[challenge.operator].convicted
        require(moot, "over", challenge.status.name, "a game whose operator is convicted")
        return self._end(number, ChallengeStatus.MOOT)

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
        court, after = self._tick(now, number, rule.turn), rule.make(game, *args)
        if game.level == Level.SEED != after.level:
            court = court._joined(court.player(number, Turn.OPERATOR), 1, opened=0)
        return court._settle(now, number, after)

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
        start, left = challenge.last_time, challenge.left_s[game.turn]
        require(self._passed(now, start, left), "early", now, start + left)
        loses = Verdict.OPERATOR_LOSES if game.turn == Turn.OPERATOR else Verdict.CHALLENGER_LOSES
        return self._settle(now, number, replace(game, verdict=loses))

    def player(self, number: int, turn: Turn) -> str:
        """Address of a side of challenge ``number``."""
        challenge = self.challenges[number - 1]
        return challenge.operator if turn == Turn.OPERATOR else challenge.challenger

    # --- inside

    def _game(self, number: int) -> Game:
        """A game that goes on."""
        found = self.challenges[number - 1] if 1 <= number <= len(self.challenges) else None
        if found is None or found.game is None:
            raise MoveError("game", f"number {number}", "a challenge whose game was begun")
        require(found.status == ChallengeStatus.OPEN, "over", found.status.name, ChallengeStatus.OPEN.name)
        return found.game

    def _tick(self, now: int, number: int, turn: Turn) -> Court:
        """Charge the mover's clock: less what the move took, plus the increment, clock_s at
        most."""
        challenge = self.challenges[number - 1]
        left, spent = list(challenge.left_s), now - challenge.last_time
        require(spent >= 0, "time", now, f"at least {challenge.last_time}")
        require(not self._passed(now, challenge.last_time, left[turn]), "late", spent, left[turn])
        left[turn] = min(max(left[turn] - spent, 0) + self.terms.increment_s, self.terms.clock_s)
        return self._set_challenge(number, left_s=tuple(left), last_time=now)

    def _settle(self, now: int, number: int, game: Game) -> Court:
        """Store a game as it stands now; its verdict, if it has one, decides the challenge."""
        court = self._set_challenge(number, game=game)
        if game.verdict == Verdict.OPERATOR_LOSES:
            return court._convict(now, number)
        if game.verdict == Verdict.WITHDRAWN:
            return court._end(number, ChallengeStatus.MOOT)
        return court._acquit(number) if game.verdict == Verdict.CHALLENGER_LOSES else court


def receipt_leaf(domain: Domain, receipt: Receipt, signature: bytes) -> bytes:
    """Content of a batch leaf: the receipt's hash under a court's domain, and the 65-byte
    signature."""
    return receipt.signing_hash(domain) + signature
