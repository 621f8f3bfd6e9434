"""Stakes, keys, batches, escrow and finality: the half of the court that holds money.

``court.Court`` adds challenges and games. As there, every method returns a new value, or raises
``MoveError`` and changes nothing; a number that no batch has is refused with the reason ``batch``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from otr_core.dispute.game import require
from otr_core.dispute.records import MOST_RECEIPTS, Batch, Challenge, ChallengeStatus, StakedOperator, Terms
from otr_core.dispute.registry import Key
from otr_core.dispute.state import RegisteredModel
from otr_core.poea.order import Domain

Arbiter = Callable[[bytes, bytes], bool]
"""(statement, proof) -> whether the proof shows it: an arbiter's signature, or a ZK proof."""


@dataclass(frozen=True)
class Accounts:
    """The state of all stakes, batches and games. Addresses are lower-case hex.

    Attributes:
        terms: the parameters. domain: chain and address of this court, under which its receipts
            are signed. registrar: address that names models and keys. arbiter: accepts proofs of
            verdicts.
        operators: by address. models: by model id. keys: by key id.
        batches: numbered from 0. challenges: numbered from 1, so that 0 can mean none.
        credits: wei that may be withdrawn, by address. burnt_wei: lost to everyone.
    """

    terms: Terms
    domain: Domain
    registrar: str
    arbiter: Arbiter | None = None
    operators: Mapping[str, StakedOperator] = field(default_factory=dict)
    models: Mapping[bytes, RegisteredModel] = field(default_factory=dict)
    keys: Mapping[bytes, Key] = field(default_factory=dict)
    batches: tuple[Batch, ...] = ()
    challenges: tuple[Challenge, ...] = ()
    credits: Mapping[str, int] = field(default_factory=dict)
    burnt_wei: int = 0

    def register(self, now: int, sender: str, value: int) -> Self:
        """Stake ``value`` wei, or add it to a stake.

        Raises:
            MoveError: ``standing``: convicted, or on the way out. ``stake``: less than the least in
                all.
        """
        old = self.operators.get(sender, StakedOperator(0))
        stake = old.stake_wei + value
        require(not (old.convicted or old.exit_at), "standing", "convicted or leaving", "a new or standing operator")
        require(stake >= self.terms.least_stake_wei, "stake", stake, self.terms.least_stake_wei)
        return self._operator(sender, stake_wei=stake)

    def register_model(self, sender: str, model_id: bytes, model: RegisteredModel) -> Self:
        """Name a model that may be served, with what its disputes are judged by.

        Raises:
            MoveError: ``sender``: not the registrar.
        """
        require(sender == self.registrar, "sender", sender, self.registrar)
        return replace(self, models={**self.models, model_id: model})

    def register_key(self, sender: str, key_id: bytes, key: Key) -> Self:
        """Name a TEE's key, once its attestation was appraised off chain (on it: millions of gas).

        Raises:
            MoveError: ``sender``: not the registrar. ``key``: another was registered under this id.
        """
        require(sender == self.registrar, "sender", sender, self.registrar)
        require(key_id not in self.keys, "key", "registered before", "a new key")
        return replace(self, keys={**self.keys, key_id: key})

    def commit_batch(self, now: int, sender: str, root: bytes, size: int) -> Self:
        """Commit to a batch of ``size`` receipts under ``root``. Batches are numbered from 0.

        Raises:
            MoveError: ``standing``: no stake that could be slashed. ``size``: none, or more than a
                path is made for.
        """
        operator = self.operators.get(sender, StakedOperator(0))
        standing = not (operator.convicted or operator.exit_at) and operator.stake_wei >= self.terms.least_stake_wei
        require(standing, "standing", "no stake, convicted or leaving", "a standing operator")
        require(1 <= size <= MOST_RECEIPTS, "size", size, f"1 to {MOST_RECEIPTS}")
        court = self._operator(sender, live_batches=operator.live_batches + 1)
        return replace(court, batches=(*court.batches, Batch(sender, root, size, now)))

    def escrow(self, now: int, sender: str, batch: int, value: int) -> Self:
        """Pay ``value`` wei for a batch; the money waits until the batch is final.

        Raises:
            MoveError: ``escrow``: nothing paid, another's batch, or one that is final or void.
        """
        old = self._batch(batch)
        live = not (old.closed or self.operators[old.operator].convicted)
        good = live and old.payer in ("", sender) and value != 0
        require(good, "escrow", "closed, void, empty or another's", "an open batch of this payer")
        return self._set_batch(batch, payer=sender, payment_wei=old.payment_wei + value)

    def finalise(self, now: int, batch: int) -> Self:
        """Pay the operator for a batch that was not successfully challenged in time.

        Raises:
            MoveError: ``void``: paid before, or the operator was convicted. ``early``: a challenge
                may still be opened, or one is open.
        """
        old, final = self._live_batch(batch), self.terms.window_s + self.terms.reveal_s
        require(now > old.time + final and not old.open_games, "early", now, old.time + final)
        return self._close(batch, old.operator)

    def refund(self, batch: int) -> Self:
        """Give a void batch's payment back: the operator was convicted before it was final.

        Raises:
            MoveError: ``void``: paid or refunded before, or the operator stands.
        """
        old = self._batch(batch)
        void = not old.closed and self.operators[old.operator].convicted
        require(void, "void", "closed, or not void", "a void batch")
        return self._close(batch, old.payer)

    def request_exit(self, now: int, sender: str) -> Self:
        """Ask for the stake back; no batch can be committed after it.

        Raises:
            MoveError: ``standing``: unknown. ``exit``: asked before.
        """
        old = self._known(sender)
        require(not old.exit_at, "exit", "asked before", "once")
        return self._operator(sender, exit_at=now + self.terms.exit_s)

    def withdraw_stake(self, now: int, sender: str) -> Self:
        """Take back the stake, or what a conviction left of it, once nothing can be slashed.

        Raises:
            MoveError: ``standing``: unknown. ``exit``: not asked, too early, or a game or batch is
                still open.
        """
        old = self._known(sender)
        left = old.exit_at and now > old.exit_at
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

    @property
    def held_wei(self) -> int:
        """All money in the court: stakes, rewards, payments, bonds, credits and what is burnt."""
        going = (ChallengeStatus.COMMITTED, ChallengeStatus.OPEN)
        stakes = sum(o.stake_wei + o.reward_wei for o in self.operators.values())
        payments = sum(b.payment_wei for b in self.batches if not b.closed)
        bonds = self.terms.bond_wei * sum(c.status in going for c in self.challenges)
        return stakes + payments + bonds + sum(self.credits.values()) + self.burnt_wei

    # --- inside

    def _close(self, batch: int, payee: str) -> Self:
        """Close a batch and pay its payment to ``payee``."""
        old = self.batches[batch]
        court = self._set_batch(batch, closed=True)
        court = court._operator(old.operator, live_batches=self.operators[old.operator].live_batches - 1)
        return court._credit(payee, old.payment_wei)

    def _known(self, sender: str) -> StakedOperator:
        require(sender in self.operators, "standing", "unknown", "a registered operator")
        return self.operators[sender]

    def _batch(self, batch: int) -> Batch:
        require(0 <= batch < len(self.batches), "batch", batch, f"below {len(self.batches)}")
        return self.batches[batch]

    def _live_batch(self, batch: int) -> Batch:
        """A batch that is neither final nor void."""
        found = self._batch(batch)
        live = not (found.closed or self.operators[found.operator].convicted)
        require(live, "void", "closed or void", "a live batch")
        return found

    def _operator(self, name: str, **changes: Any) -> Self:
        old = self.operators.get(name, StakedOperator(0))
        return replace(self, operators={**self.operators, name: replace(old, **changes)})

    def _set_batch(self, number: int, **changes: Any) -> Self:
        new = replace(self.batches[number], **changes)
        return replace(self, batches=(*self.batches[:number], new, *self.batches[number + 1 :]))

    def _credit(self, name: str, amount: int) -> Self:
        return replace(self, credits={**self.credits, name: self.credits.get(name, 0) + amount}) if amount else self
