"""Stakes, batches, challenges, clocks and money around the games: the whole contract as a frozen value.

Every method returns a new ``Court`` or raises ``MoveError`` and changes nothing. Time (Unix seconds) and sender are
arguments. ``court.vy`` does the same on chain, reason by reason; both are played side by side in the tests.

* An operator stakes, has its TEE's key registered, and commits to batches of signed receipts (RFC 6962 root over
  ``receipt_leaf``). A batch is final when its window has passed without an open challenge; then its payment is due.
* A challenge is committed first (a hash and a bond) and opened later, so that nobody can copy it; of several that were
  right about the same answer the earliest commitment is paid, whichever game ended first.
* Each side has a clock that grows by an increment a move. Who runs out of time loses exactly what a false answer costs.
* A conviction slashes the stake, of which a part goes to the challenger and the rest is burnt, voids every batch that
  is not final yet (payers are refunded), and ends the operator's other games with their bonds returned.
* What is owed is credited and withdrawn by its owner: no payment can fail on another's account or re-enter a move.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from otr_core import merkle
from otr_core.dispute import game as table
from otr_core.dispute.game import Game, RegisteredModel, Turn, Verdict
from otr_core.dispute.records import BASIS, MOST_RECEIPTS, Batch, Challenge, ChallengeStatus, Key, StakedOperator, Terms
from otr_core.errors import MoveError, ProofError, ReceiptError
from otr_core.poea.receipt import Receipt, recover_signer

Arbiter = Callable[[bytes, bytes], bool]
"""(statement, proof) -> whether the proof shows it: a sealed arbiter's signature, or a ZK proof of the sub-range."""


@dataclass(frozen=True)
class Court:
    """The state of all stakes, batches and games. Addresses are lower-case hex."""

    terms: Terms
    registrar: str
    arbiter: Arbiter | None = None
    operators: Mapping[str, StakedOperator] = field(default_factory=dict)
    models: Mapping[bytes, RegisteredModel] = field(default_factory=dict)
    keys: Mapping[bytes, Key] = field(default_factory=dict)
    batches: tuple[Batch, ...] = ()
    challenges: tuple[Challenge, ...] = ()
    credits: Mapping[str, int] = field(default_factory=dict)
    burnt_wei: int = 0

    # --- operators, keys, batches

    def register(self, now: int, sender: str, value: int) -> Court:
        """Stake, or add to a stake."""
        old = self.operators.get(sender, StakedOperator(0))
        if old.convicted or old.exit_at:
            raise MoveError("standing", "convicted or leaving", "a new or standing operator")
        new = replace(old, stake_wei=old.stake_wei + value)
        if new.stake_wei < self.terms.least_stake_wei:
            raise MoveError("stake", new.stake_wei, self.terms.least_stake_wei)
        return self._operator(sender, new)

    def register_model(self, sender: str, model_id: bytes, model: RegisteredModel) -> Court:
        """Name a model that may be served, with what its disputes are judged by."""
        self._registrar(sender)
        return replace(self, models={**self.models, model_id: model})

    def register_key(self, sender: str, key_id: bytes, key: Key) -> Court:
        """Name a TEE's key, after its attestation was appraised (on chain an appraisal costs millions of gas)."""
        self._registrar(sender)
        if key_id in self.keys:
            raise MoveError("key", "registered before", "a new key")
        return replace(self, keys={**self.keys, key_id: key})

    def commit_batch(self, now: int, sender: str, root: bytes, size: int) -> Court:
        """Commit to a batch of ``size`` receipts; its number is the count of batches before it."""
        operator = self.operators.get(sender, StakedOperator(0))
        if operator.convicted or operator.exit_at or operator.stake_wei < self.terms.least_stake_wei:
            raise MoveError("standing", "no stake, convicted or leaving", "a standing operator")
        if not 1 <= size <= MOST_RECEIPTS:
            raise MoveError("size", size, f"1 to {MOST_RECEIPTS}")
        batch = Batch(sender, root, size, now)
        court = self._operator(sender, replace(operator, live_batches=operator.live_batches + 1))
        return replace(court, batches=(*court.batches, batch))

    def escrow(self, now: int, sender: str, batch: int, value: int) -> Court:
        """Pay for a batch; the money waits until it is final."""
        old = self._batch(batch)
        if old.closed or self.operators[old.operator].convicted or old.payer not in ("", sender) or not value:
            raise MoveError("escrow", "closed, void, empty or another's", "an open batch of this payer")
        return self._set_batch(batch, replace(old, payer=sender, payment_wei=old.payment_wei + value))

    def finalise(self, now: int, batch: int) -> Court:
        """Pay the operator for a batch that was not successfully challenged in time."""
        old = self._batch(batch)
        operator = self.operators[old.operator]
        if old.closed or operator.convicted:
            raise MoveError("void", "closed or void", "a live batch")
        if now <= old.time + self.terms.window_s + self.terms.reveal_s or old.open_games:
            raise MoveError("early", now, old.time + self.terms.window_s + self.terms.reveal_s)
        court = self._set_batch(batch, replace(old, closed=True))
        court = court._operator(old.operator, replace(operator, live_batches=operator.live_batches - 1))
        return court._credit(old.operator, old.payment_wei)

    def refund(self, batch: int) -> Court:
        """Give a void batch's payment back: its operator was convicted before it was final."""
        old = self._batch(batch)
        operator = self.operators[old.operator]
        if old.closed or not operator.convicted:
            raise MoveError("void", "closed, or not void", "a void batch")
        court = self._set_batch(batch, replace(old, closed=True))
        court = court._operator(old.operator, replace(operator, live_batches=operator.live_batches - 1))
        return court._credit(old.payer, old.payment_wei)

    def request_exit(self, now: int, sender: str) -> Court:
        """Ask for the stake back; no batch can be committed after it."""
        old = self._known(sender)
        if old.exit_at:
            raise MoveError("exit", "asked before", "once")
        return self._operator(sender, replace(old, exit_at=now + self.terms.exit_s))

    def withdraw_stake(self, now: int, sender: str) -> Court:
        """Take the stake (or what a conviction left of it) back, when nothing can be slashed any more."""
        old = self._known(sender)
        if not old.exit_at or now <= old.exit_at or old.open_games or (old.live_batches and not old.convicted):
            raise MoveError("exit", now, "after the delay, without open games or live batches")
        return self._operator(sender, replace(old, stake_wei=0))._credit(sender, old.stake_wei)

    def withdraw(self, sender: str) -> tuple[Court, int]:
        """Take what is owed to the sender; also the amount."""
        amount = self.credits.get(sender, 0)
        if not amount:
            raise MoveError("credit", 0, "more than nothing")
        return replace(self, credits={**self.credits, sender: 0}), amount

    # --- challenges

    def challenge(self, now: int, sender: str, batch: int, commitment: bytes, value: int) -> Court:
        """Commit to a challenge (``challenge_hash``) with its bond; its number is one more than those before it."""
        old = self._batch(batch)
        operator = self.operators[old.operator]
        if old.closed or operator.convicted:
            raise MoveError("void", "closed or void", "a live batch")
        if now > old.time + self.terms.window_s:
            raise MoveError("window", now, old.time + self.terms.window_s)
        if value != self.terms.bond_wei:
            raise MoveError("bond", value, self.terms.bond_wei)
        court = self._set_batch(batch, replace(old, open_games=old.open_games + 1))
        court = court._operator(old.operator, replace(operator, open_games=operator.open_games + 1))
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
        receipt: Receipt,
        signature: bytes,
        path: Sequence[bytes],
    ) -> Court:
        """Say which answer is challenged and show its receipt. A receipt that no registered key of the operator has
        signed for that model convicts at once; against an operator already convicted the challenge is moot, but may
        still claim the reward if it was the earliest."""
        challenge = self._challenge(number, ChallengeStatus.COMMITTED)
        batch = self.batches[challenge.batch]
        if sender != challenge.challenger:
            raise MoveError("sender", sender, challenge.challenger)
        if now > challenge.time + self.terms.reveal_s:
            raise MoveError("late", now, challenge.time + self.terms.reveal_s)
        if challenge_hash(sender, challenge.batch, index, token, salt) != challenge.commitment:
            raise MoveError("commitment", "another challenge", "the committed one")
        try:
            leaf = merkle.leaf_hash(receipt_leaf(receipt, signature))
            merkle.verify_inclusion(batch.root, leaf, index, batch.size, path)
        except ProofError as error:
            raise MoveError("path", error, "a receipt of the batch") from error
        challenge = replace(challenge, index=index, opened=True)
        if self.operators[batch.operator].convicted:
            return self._end(number, challenge, ChallengeStatus.MOOT)
        if not self._vouched(batch.operator, receipt, signature):
            return self._convict(now, number, challenge)
        clock = self.terms.clock_s
        started = table.start(receipt, self.models[receipt.model_id], self.terms.arity_bits, token)
        challenge = replace(
            challenge,
            status=ChallengeStatus.OPEN,
            game=started,
            operator_left_s=clock,
            challenger_left_s=clock,
            last_time=now,
        )
        return self._set_challenge(number, challenge)

    def expire(self, now: int, number: int) -> Court:
        """End a challenge that was not opened in time; its bond is lost."""
        challenge = self._challenge(number, ChallengeStatus.COMMITTED)
        if now <= challenge.time + self.terms.reveal_s:
            raise MoveError("early", now, challenge.time + self.terms.reveal_s)
        return self._acquit(number, challenge)

    def move(self, now: int, sender: str, number: int, name: str, *args: Any) -> Court:
        """Make the move ``name`` of ``MOVES`` in a game; a verdict settles it at once."""
        challenge, game = self._game(number)
        if name not in MOVES:
            raise MoveError("move", name, f"one of {', '.join(MOVES)}")
        mover = self.batches[challenge.batch].operator if MOVES[name] == Turn.OPERATOR else challenge.challenger
        if sender != mover:
            raise MoveError("sender", sender, mover)
        if game.turn != MOVES[name]:
            raise MoveError("turn", game.turn.name, MOVES[name].name)
        challenge = self._tick(now, challenge, game)
        after = getattr(table, name)(game, *args)
        challenge = replace(challenge, game=after)
        return self._settle(now, number, challenge, after.verdict)

    def arbitrate(self, now: int, number: int, verdict: Verdict, proof: bytes) -> Court:
        """End a game by a proof of its verdict, at any point."""
        challenge, game = self._game(number)
        if verdict == Verdict.NONE or self.arbiter is None:
            raise MoveError("arbiter", "none, or no verdict", "an arbiter and a verdict")
        if not self.arbiter(table.statement(number, game.trace_root, verdict), proof):
            raise MoveError("proof", "not accepted", "a proof of the verdict")
        return self._settle(now, number, challenge, verdict)

    def timeout(self, now: int, number: int) -> Court:
        """End a game in which the side to move has run out of time: it loses."""
        challenge, game = self._game(number)
        left = challenge.operator_left_s if game.turn == Turn.OPERATOR else challenge.challenger_left_s
        if now <= challenge.last_time + left:
            raise MoveError("early", now, challenge.last_time + left)
        loser = Verdict.OPERATOR_LOSES if game.turn == Turn.OPERATOR else Verdict.CHALLENGER_LOSES
        return self._settle(now, number, challenge, loser)

    def close(self, number: int) -> Court:
        """End a challenge against an operator convicted in another game; the bond goes back."""
        if not 1 <= number <= len(self.challenges):
            raise MoveError("challenge", number, f"1 to {len(self.challenges)}")
        challenge = self.challenges[number - 1]
        operator = self.operators[self.batches[challenge.batch].operator]
        if challenge.status not in (ChallengeStatus.COMMITTED, ChallengeStatus.OPEN) or not operator.convicted:
            raise MoveError("over", challenge.status.name, "a game whose operator is convicted")
        return self._end(number, challenge, ChallengeStatus.MOOT)

    def claim_reward(self, now: int, number: int) -> Court:
        """Say that a challenge about the convicted answer was committed to before the best one so far."""
        if not 1 <= number <= len(self.challenges):
            raise MoveError("challenge", number, f"1 to {len(self.challenges)}")
        challenge = self.challenges[number - 1]
        name = self.batches[challenge.batch].operator
        operator = self.operators[name]
        same = (challenge.batch, challenge.index) == (operator.convicted_batch, operator.convicted_index)
        if not (operator.reward_wei and challenge.opened and same) or challenge.status == ChallengeStatus.LOST:
            raise MoveError("reward", "none, or another answer", "an open challenge about the convicted answer")
        if now > operator.claims_until:
            raise MoveError("late", now, operator.claims_until)
        if number >= operator.best_game:
            raise MoveError("order", number, f"below {operator.best_game}")
        return self._operator(name, replace(operator, best_game=number))

    def pay_reward(self, now: int, name: str) -> Court:
        """Pay the reward to the earliest right challenger."""
        operator = self._known(name)
        if not operator.reward_wei:
            raise MoveError("reward", 0, "one that is due")
        if now <= operator.claims_until:
            raise MoveError("early", now, operator.claims_until)
        winner = self.challenges[operator.best_game - 1].challenger
        return self._operator(name, replace(operator, reward_wei=0))._credit(winner, operator.reward_wei)

    @property
    def held_wei(self) -> int:
        """All the money the court must hold: stakes, rewards, payments, bonds, credits and what is burnt."""
        stakes = sum(o.stake_wei + o.reward_wei for o in self.operators.values())
        payments = sum(b.payment_wei for b in self.batches if not b.closed)
        bonds = sum(
            self.terms.bond_wei
            for c in self.challenges
            if c.status in (ChallengeStatus.COMMITTED, ChallengeStatus.OPEN)
        )
        return stakes + payments + bonds + sum(self.credits.values()) + self.burnt_wei

    # --- inside

    def _vouched(self, operator: str, receipt: Receipt, signature: bytes) -> bool:
        """Whether a registered key of this operator signed the receipt for the model it names, as that model's."""
        key, model = self.keys.get(receipt.key_id), self.models.get(receipt.model_id)
        if key is None or model is None or key.operator != operator or key.model_id != receipt.model_id:
            return False
        d, shape = model.dims, receipt.trace
        if (shape.layers, shape.output_bytes, shape.kv_bytes) != (d.layers, 4 * d.hidden, 4 * d.kv):
            return False
        if shape.positions > d.context:
            return False
        try:
            return recover_signer(receipt, signature) == key.address
        except ReceiptError:
            return False

    def _tick(self, now: int, challenge: Challenge, game: Game) -> Challenge:
        """The mover's clock after its move."""
        operators = game.turn == Turn.OPERATOR
        left = challenge.operator_left_s if operators else challenge.challenger_left_s
        spent = now - challenge.last_time
        if spent < 0:
            raise MoveError("time", now, f"at least {challenge.last_time}")
        if spent > left:
            raise MoveError("late", spent, left)
        left = min(left - spent + self.terms.increment_s, self.terms.clock_s)
        if operators:
            return replace(challenge, operator_left_s=left, last_time=now)
        return replace(challenge, challenger_left_s=left, last_time=now)

    def _settle(self, now: int, number: int, challenge: Challenge, verdict: Verdict) -> Court:
        if verdict == Verdict.NONE:
            return self._set_challenge(number, challenge)
        if challenge.game is not None:
            challenge = replace(challenge, game=replace(challenge.game, verdict=verdict))
        if verdict == Verdict.OPERATOR_LOSES:
            return self._convict(now, number, challenge)
        return self._acquit(number, challenge)

    def _convict(self, now: int, number: int, challenge: Challenge) -> Court:
        name = self.batches[challenge.batch].operator
        operator, terms = self.operators[name], self.terms
        slashed = operator.stake_wei * terms.slash_bps // BASIS
        reward = slashed * terms.reward_bps // BASIS
        court = self._operator(
            name,
            replace(
                operator, stake_wei=operator.stake_wei - slashed, convicted=True, reward_wei=reward, best_game=number,
                convicted_batch=challenge.batch, convicted_index=challenge.index, claims_until=now + terms.claim_s,
            ),
        )  # fmt: skip
        court = replace(court, burnt_wei=court.burnt_wei + slashed - reward)
        return court._end(number, challenge, ChallengeStatus.WON)

    def _acquit(self, number: int, challenge: Challenge) -> Court:
        batch, bond = self.batches[challenge.batch], self.terms.bond_wei
        compensation = bond * self.terms.compensation_bps // BASIS
        court = replace(self, burnt_wei=self.burnt_wei + bond - compensation)._credit(batch.operator, compensation)
        return court._end(number, challenge, ChallengeStatus.LOST)

    def _end(self, number: int, challenge: Challenge, status: ChallengeStatus) -> Court:
        batch = self.batches[challenge.batch]
        operator = self.operators[batch.operator]
        court = self._set_challenge(number, replace(challenge, status=status))
        court = court._set_batch(challenge.batch, replace(batch, open_games=batch.open_games - 1))
        court = court._operator(batch.operator, replace(operator, open_games=operator.open_games - 1))
        return court if status == ChallengeStatus.LOST else court._credit(challenge.challenger, self.terms.bond_wei)

    def _registrar(self, sender: str) -> None:
        if sender != self.registrar:
            raise MoveError("sender", sender, self.registrar)

    def _known(self, sender: str) -> StakedOperator:
        if sender not in self.operators:
            raise MoveError("standing", "unknown", "a registered operator")
        return self.operators[sender]

    def _batch(self, batch: int) -> Batch:
        if not 0 <= batch < len(self.batches):
            raise MoveError("batch", batch, f"below {len(self.batches)}")
        return self.batches[batch]

    def _challenge(self, number: int, status: ChallengeStatus) -> Challenge:
        if not 1 <= number <= len(self.challenges):
            raise MoveError("challenge", number, f"1 to {len(self.challenges)}")
        challenge = self.challenges[number - 1]
        if challenge.status != status:
            raise MoveError("over" if status == ChallengeStatus.OPEN else "opened", challenge.status.name, status.name)
        return challenge

    def _game(self, number: int) -> tuple[Challenge, Game]:
        challenge = self._challenge(number, ChallengeStatus.OPEN)
        if self.operators[self.batches[challenge.batch].operator].convicted:
            raise MoveError("moot", "convicted operator", "a standing one; close the game")
        assert challenge.game is not None
        return challenge, challenge.game

    def _operator(self, name: str, operator: StakedOperator) -> Court:
        return replace(self, operators={**self.operators, name: operator})

    def _set_batch(self, number: int, batch: Batch) -> Court:
        return replace(self, batches=(*self.batches[:number], batch, *self.batches[number + 1 :]))

    def _set_challenge(self, number: int, challenge: Challenge) -> Court:
        return replace(self, challenges=(*self.challenges[: number - 1], challenge, *self.challenges[number:]))

    def _credit(self, name: str, amount: int) -> Court:
        return replace(self, credits={**self.credits, name: self.credits.get(name, 0) + amount}) if amount else self


MOVES: Mapping[str, Turn] = {
    "show_roots": Turn.OPERATOR,
    "bisect": Turn.OPERATOR,
    "choose": Turn.CHALLENGER,
    "choose_kept": Turn.CHALLENGER,
    "expand_layer": Turn.OPERATOR,
    "expand_token": Turn.OPERATOR,
    "expand_operator": Turn.OPERATOR,
    "publish": Turn.OPERATOR,
    "element": Turn.CHALLENGER,
    "accuse_salt": Turn.CHALLENGER,
    "expand_steps": Turn.OPERATOR,
    "prove": Turn.OPERATOR,
}
"""The moves of ``game`` by name, and whose they are."""


def receipt_leaf(receipt: Receipt, signature: bytes) -> bytes:
    """Content of a batch leaf: the receipt's EIP-712 hash and the 65-byte signature."""
    return receipt.signing_hash() + signature


def challenge_hash(challenger: str, batch: int, index: int, token: int, salt: bytes) -> bytes:
    """What a challenger commits to: five 32-byte words; ``salt`` is 32 secret bytes, or the answer could be guessed."""
    words = [int(challenger, 16), batch, index, token]
    return sha256(b"".join(word.to_bytes(32, "big") for word in words) + salt).digest()
