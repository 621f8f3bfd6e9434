"""Stakes, keys, batches, escrow, finality and pauses: the part of the court that holds money.

``duties`` adds verdicts and duties, ``court.Court`` challenges and games. As there, every method
returns a new value, or raises ``MoveError`` and changes nothing; a batch that was never committed
is refused with the reason ``batch``.

Two times stretch here, and none can shrink. A *pause* stops every clock while it lasts: a deadline
that would pass in it passes as much later (``_passed``). And when a class of platforms is revoked,
or one of its operators is convicted (``fuses``), the batches that its operators have committed are
*reopened*: what was not final then can be challenged for a whole window more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Self

from otr_core.dispute.records import BASIS, MOST_RECEIPTS, Batch, Challenge, ChallengeStatus, StakedOperator, Terms
from otr_core.dispute.registry import NOTICE_S, Key, judgeable
from otr_core.dispute.rules import require
from otr_core.dispute.state import NOTHING, RegisteredModel
from otr_core.poea.order import Domain

Arbiter = Callable[[bytes, bytes], bool]
"""(statement, proof) -> whether the proof shows it: an arbiter's signature, or a ZK proof."""
MOST_WEI = 2**96 - 1
"""Largest stake: the contract stores it, and what is paid out of it, in 96 bits."""
PAUSE_REST = 4
"""Pauses that must have gone by before the next one: clocks run at least four fifths of the time."""


@dataclass(frozen=True)
class Accounts:
    """The state of all stakes, batches and games. Addresses are lower-case hex.

    Attributes:
        terms: the parameters. domain: chain and address of this court, under which its receipts
            are signed. registrar: address that names models and keys, and may pause. arbiter:
            accepts proofs of verdicts.
        heir: who takes the registrar's place, and from when on, Unix seconds.
        operators: by address. models: by model id. keys: by key id.
        revoked: Unix seconds from which a key or a class of platforms is not trusted, by its id.
        platforms: class of the platform that an operator's latest key was attested on.
        fuses: Unix seconds of the first conviction of an operator of a class of platforms.
        batches: by ``batch_id``. payments: wei in escrow, by batch and payer.
        challenges: numbered from 1, so that 0 can mean none.
        draws: values of the beacon, and when each came. drawn: subjects of all spot checks.
        credits: wei that may be withdrawn, by address. burnt_wei: lost to everyone.
        pause: from when to when all clocks stood still last, Unix seconds.
    """

    terms: Terms
    domain: Domain
    registrar: str
    arbiter: Arbiter | None = None
    heir: tuple[str, int] = ("", 0)
    operators: Mapping[str, StakedOperator] = field(default_factory=dict)
    models: Mapping[bytes, RegisteredModel] = field(default_factory=dict)
    keys: Mapping[bytes, Key] = field(default_factory=dict)
    revoked: Mapping[bytes, int] = field(default_factory=dict)
    platforms: Mapping[str, bytes] = field(default_factory=dict)
    fuses: Mapping[bytes, int] = field(default_factory=dict)
    batches: Mapping[bytes, Batch] = field(default_factory=dict)
    payments: Mapping[tuple[bytes, str], int] = field(default_factory=dict)
    challenges: tuple[Challenge, ...] = ()
    draws: tuple[tuple[bytes, int], ...] = ()
    drawn: frozenset[bytes] = frozenset()
    credits: Mapping[str, int] = field(default_factory=dict)
    burnt_wei: int = 0
    pause: tuple[int, int] = (0, 0)

    # --- roles

    def register_model(self, sender: str, model_id: bytes, model: RegisteredModel) -> Self:
        """Name a model that may be served, with what its disputes are judged by. That is never
        replaced: whoever has a new judge registers a new model.

        Raises:
            MoveError: ``sender``: not the registrar. ``dims``: the contracts cannot hold its
                disputes. ``model``: registered before.
        """
        require(sender == self.registrar, "sender", sender, self.registrar)
        require(judgeable(model.dims, model.stop_ids), "dims", model, "dimensions that the contracts hold")
        require(model_id not in self.models, "model", "registered before", "a new model")
        return replace(self, models={**self.models, model_id: model})

    def register_key(self, now: int, sender: str, key_id: bytes, key: Key) -> Self:
        """Name a TEE's key, once its attestation was appraised off chain (on it: millions of gas).

        An operator's keys are of one class of platforms as long as that class is trusted, so that a
        batch is known by one class. Whoever changes platforms without need stakes under a new address.

        Raises:
            MoveError: ``sender``: not the registrar. ``key``: another was registered under this id,
                or it, or its class of platforms, was revoked. ``platform``: of another class than
                the operator's other keys, whose revocation does not count yet.
        """
        require(sender == self.registrar, "sender", sender, self.registrar)
        new = key_id not in self.keys and key_id not in self.revoked and key.platform not in self.revoked
        require(new, "key", "registered or revoked before", "a new key")
        former = self.platforms.get(key.operator, NOTHING)
        moved = former in (NOTHING, key.platform) or (former in self.revoked and now > self.revoked[former])
        require(moved, "platform", key.platform.hex(), f"{former.hex()}, which the operator's other keys are of")
        platforms = {**self.platforms, key.operator: key.platform}
        return replace(self, keys={**self.keys, key_id: key}, platforms=platforms)

    def revoke(self, now: int, sender: str, subject: bytes) -> Self:
        """Stop trusting a key, or a class of platforms, for ever, and before it was ever trusted
        too.

        It counts after ``NOTICE_S``, so that no batch on its way is caught. What was committed
        until then is not convicted by it; that of a class can be challenged for a window more.

        Args:
            subject: key id, or id of the class.

        Raises:
            MoveError: ``sender``: not the registrar. ``revoked``: it was before.
        """
        require(sender == self.registrar, "sender", sender, self.registrar)
        require(subject not in self.revoked, "revoked", "before", "once")
        return replace(self, revoked={**self.revoked, subject: now + NOTICE_S})

    def name_heir(self, now: int, sender: str, heir: str) -> Self:
        """Name who becomes registrar after a notice, which everyone has time to leave in.

        Raises:
            MoveError: ``sender``: not the registrar.
        """
        require(sender == self.registrar, "sender", sender, self.registrar)
        return replace(self, heir=(heir, now + self.terms.exit_s))

    def inherit(self, now: int, sender: str) -> Self:
        """Become registrar.

        Raises:
            MoveError: ``sender``: not named. ``early``: the notice has not passed.
        """
        heir, since = self.heir
        require(sender == heir, "sender", sender, heir)
        require(now > since, "early", now, since)
        return replace(self, registrar=heir, heir=("", 0))

    def pause_clocks(self, now: int, sender: str) -> Self:
        """Stop all clocks for ``pause_s``: nothing that has a deadline can miss it meanwhile.

        Raises:
            MoveError: ``sender``: not the registrar. ``early``: too soon after the last pause.
        """
        require(sender == self.registrar, "sender", sender, self.registrar)
        terms = self.terms
        # So long a rest that no deadline can fall into two pauses: of the latest alone is known.
        rest = max(PAUSE_REST * terms.pause_s, terms.exit_s, terms.clock_s, terms.claim_s, terms.duty_s)
        rested = self.pause[1] + rest if self.pause[1] else 0
        require(now > rested, "early", now, rested)
        return replace(self, pause=(now, now + self.terms.pause_s))

    # --- stakes, batches, escrow

    def register(self, now: int, sender: str, value: int) -> Self:
        """Stake ``value`` wei, or add it to a stake.

        Raises:
            MoveError: ``standing``: convicted, or on the way out. ``stake``: less than the least in
                all, or more than ``MOST_WEI``.
        """
        old = self.operators.get(sender, StakedOperator(0))
        stake = old.stake_wei + value
        require(not (old.convicted or old.exit_at), "standing", "convicted or leaving", "a new or standing operator")
        enough = self.terms.least_stake_wei <= stake <= MOST_WEI
        require(enough, "stake", stake, f"{self.terms.least_stake_wei} to {MOST_WEI}")
        return self._operator(sender, stake_wei=stake)

    def commit_batch(self, now: int, sender: str, root: bytes, size: int) -> Self:
        """Commit to a batch of ``size`` receipts under ``root``.

        Raises:
            MoveError: ``standing``: no stake that could be slashed. ``frozen``: a game against the
                operator is open. ``size``: none, or more than a path is made for. ``batch``: the
                operator has committed to this root before.
        """
        operator = self.operators.get(sender, StakedOperator(0))
        standing = not (operator.convicted or operator.exit_at) and operator.stake_wei >= self.terms.least_stake_wei
        require(standing, "standing", "no stake, convicted or leaving", "a standing operator")
        require(not operator.live_games, "frozen", operator.live_games, "no open game")
        require(1 <= size <= MOST_RECEIPTS, "size", size, f"1 to {MOST_RECEIPTS}")
        return self._new_batch(now, sender, root, size)

    def escrow(self, now: int, sender: str, batch: bytes, value: int) -> Self:
        """Pay ``value`` wei for a batch; the money waits until the batch is final. Anyone may pay,
        and everyone gets the own payment back from a void batch.

        Raises:
            MoveError: ``escrow``: nothing paid, or a batch that is final or void. ``cap``: more in
                flight than the operator's stake stands for.
        """
        old = self._batch(batch)
        operator = self.operators[old.operator]
        require(not (old.closed or operator.convicted) and value != 0, "escrow", "closed, void or empty", "a payment")
        most, flying = operator.stake_wei * self.terms.cap_bps // BASIS, operator.in_flight_wei + value
        require(flying <= most, "cap", flying, most)
        paid = {**self.payments, (batch, sender): self.payments.get((batch, sender), 0) + value}
        court = self._set_batch(batch, payment_wei=old.payment_wei + value)
        return replace(court._operator(old.operator, in_flight_wei=flying), payments=paid)

    def finalise(self, now: int, batch: bytes) -> Self:
        """Pay the operator for a batch that was not successfully challenged in time.

        Raises:
            MoveError: ``void``: paid before, or the operator was convicted. ``early``: a challenge
                may still be opened. ``frozen``: one against the operator is, or a duty waits.
        """
        old = self._live_batch(batch)
        final, operator = self.terms.window_s + self.terms.reveal_s, self.operators[old.operator]
        start = self.window_start(batch)
        require(self._passed(now, start, final), "early", now, start + final)
        require(not operator.open_games, "frozen", operator.open_games, "no open game or duty")
        court = self._set_batch(batch, closed=True)._operator(
            old.operator,
            live_batches=operator.live_batches - 1,
            in_flight_wei=operator.in_flight_wei - old.payment_wei,
        )
        return court._credit(old.operator, old.payment_wei)

    def refund(self, sender: str, batch: bytes) -> Self:
        """Take back one's payment for a void batch: its operator was convicted before it was final.

        Raises:
            MoveError: ``void``: the batch is final, or the operator stands. ``credit``: the sender
                has paid nothing, or has it back.
        """
        old, paid = self._batch(batch), self.payments.get((batch, sender), 0)
        void = not old.closed and self.operators[old.operator].convicted
        require(void, "void", "closed, or not void", "a void batch")
        require(paid != 0, "credit", 0, "more than nothing")
        court = self._set_batch(batch, payment_wei=old.payment_wei - paid)
        return replace(court, payments={**self.payments, (batch, sender): 0})._credit(sender, paid)

    def request_exit(self, now: int, sender: str) -> Self:
        """Ask for the stake back; no batch can be committed after it.

        Raises:
            MoveError: ``standing``: unknown. ``exit``: asked before.
        """
        old = self._known(sender)
        require(not old.exit_at, "exit", "asked before", "once")
        return self._operator(sender, exit_at=now)

    def withdraw_stake(self, now: int, sender: str) -> Self:
        """Take back the stake, or what a conviction left of it, once nothing can be slashed.

        Raises:
            MoveError: ``standing``: unknown. ``exit``: not asked, too early, or a game or batch is
                still open.
        """
        old = self._known(sender)
        left = old.exit_at and self._passed(now, old.exit_at, self.terms.exit_s)
        free = not old.open_games and (not old.live_batches or old.convicted)
        require(bool(left and free), "exit", now, "after the delay, without open games or live batches")
        return self._operator(sender, stake_wei=0)._credit(sender, old.stake_wei)

    def withdraw(self, sender: str) -> tuple[Self, int]:
        """Take what is owed to the sender; also the amount, wei.

        Raises:
            MoveError: ``credit``: nothing is owed.
        """
        amount = self.credits.get(sender, 0)
        require(amount != 0, "credit", 0, "more than nothing")
        return replace(self, credits={**self.credits, sender: 0}), amount

    # --- views

    @property
    def held_wei(self) -> int:
        """All money in the court: stakes, rewards, payments, bonds, credits and what is burnt."""
        bonded = (ChallengeStatus.COMMITTED, ChallengeStatus.OPEN, ChallengeStatus.DEMAND)
        stakes = sum(o.stake_wei + o.reward_wei + o.costs_wei for o in self.operators.values())
        payments = sum(b.payment_wei for b in self.batches.values() if not b.closed)
        bonds = self.terms.bond_wei * sum(c.status in bonded for c in self.challenges)
        return stakes + payments + bonds + sum(self.credits.values()) + self.burnt_wei

    def window_start(self, batch: bytes) -> int:
        """Unix seconds from which the window of a batch counts: its commitment, or when it was
        reopened before it could be final."""
        found = self.batches[batch]
        last = found.time + self.terms.window_s + self.terms.reveal_s
        again = (self.revoked.get(found.platform, 0), self.fuses.get(found.platform, 0))
        return max(found.time, *(time for time in again if time <= last))

    # --- inside

    def _passed(self, now: int, start: int, seconds: int) -> bool:
        """Whether more than ``seconds`` have gone by since ``start``, the last pause apart."""
        still = max(min(now, self.pause[1]) - max(start, self.pause[0]), 0)
        return now - start - still > seconds

    def _new_batch(self, now: int, operator: str, root: bytes, size: int) -> Self:
        batch = batch_id(operator, root)
        require(batch not in self.batches, "batch", "committed before", "a new root")
        court = self._operator(operator, live_batches=self.operators[operator].live_batches + 1)
        made = Batch(operator, root, size, now, self.platforms.get(operator, NOTHING))
        return replace(court, batches={**self.batches, batch: made})

    def _known(self, sender: str) -> StakedOperator:
        require(sender in self.operators, "standing", "unknown", "a registered operator")
        return self.operators[sender]

    def _batch(self, batch: bytes) -> Batch:
        require(batch in self.batches, "batch", batch.hex(), "a committed batch")
        return self.batches[batch]

    def _live_batch(self, batch: bytes) -> Batch:
        """A batch that is neither final nor void."""
        found = self._batch(batch)
        live = not (found.closed or self.operators[found.operator].convicted)
        require(live, "void", "closed or void", "a live batch")
        return found

    def _operator(self, name: str, **changes: Any) -> Self:
        old = self.operators.get(name, StakedOperator(0))
        return replace(self, operators={**self.operators, name: replace(old, **changes)})

    def _set_batch(self, batch: bytes, **changes: Any) -> Self:
        return replace(self, batches={**self.batches, batch: replace(self.batches[batch], **changes)})

    def _credit(self, name: str, amount: int) -> Self:
        return replace(self, credits={**self.credits, name: self.credits.get(name, 0) + amount}) if amount else self


def batch_id(operator: str, root: bytes) -> bytes:
    """What a batch is known by (32 bytes): who committed it, and its root. No number: after a
    re-organisation of the chain the same number would be another batch."""
    return sha256(int(operator, 16).to_bytes(32, "big") + root).digest()
