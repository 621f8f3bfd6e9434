"""Verdicts and what they move, and the duties of an operator beside answering challenges.

* A *conviction* slashes the stake once. Of the slash a part waits for the earliest committed
  challenge that turns out right, on whichever answer; the rest is burnt. Challenges committed before
  the conviction are opened and played as before, so that no second one, by a false friend of the
  operator, takes what the first has earned. The costs of others that turn out right are repaid.
  A false friend that was *first* is paid: an operator that convicts itself loses no more than
  (1 − reward) · slash, and no court can tell. But it has to be first all the time: an unopened
  challenge lasts ``reveal_s`` and costs a bond, and an open one freezes the operator's own business.
* A *withheld receipt*, signed and in no batch, is demanded: the operator shows the batch that it is
  in, or publishes it as a batch of its own, or is convicted.
* An answer that the beacon draws has its *verdict shown* (by a proof of the whole answer, or an
  arbiter's word) in time, or the operator is convicted.
* *Two answers under one order*, and *one receipt in two places*, convict at once.

The last two are challenges like any other: committed first, so that who sees them opened cannot
take the reward. ``duties`` knows no game; ``court.Court`` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, NamedTuple, Self

from otr_core import merkle
from otr_core.dispute.accounts import Accounts, Arbiter
from otr_core.dispute.records import BASIS, MOST_REPAID, Challenge, ChallengeStatus, StakedOperator
from otr_core.dispute.rules import require, require_leaf
from otr_core.dispute.state import NOTHING, Game, Level, Verdict
from otr_core.errors import MoveError, ParameterError, ReceiptError
from otr_core.poea.equivocation import Equivocation
from otr_core.poea.order import Domain
from otr_core.poea.receipt import Receipt, recover_address, recover_signer

TWO_ANSWERS, TWO_PLACES = 2**64, 2**64 + 1
"""In the place of a token's number: what a challenge of this kind commits to."""


class LeafPlace(NamedTuple):
    """Where a leaf lies: the batch's id, its number there, and the audit path."""

    batch: bytes
    at: int
    path: Sequence[bytes]


@dataclass(frozen=True)
class Duties(Accounts):
    """Adds verdicts and duties; the fields are those of ``Accounts``."""

    # --- offences that need no game

    def equivocation(
        self, now: int, sender: str, number: int, operator: str, evidence: Equivocation, salt: bytes
    ) -> Self:
        """Open a challenge that shows two answers of one operator under one order.

        Args:
            salt: as committed, with the order's id, 0 and ``TWO_ANSWERS`` (``challenge_hash``).

        Raises:
            MoveError: as ``two_places``, and ``order``: two orders. ``statement``: the same twice.
                ``signature``: not both are by keys of the operator that are trusted now.
        """
        first, second = evidence.first, evidence.second
        subject = first.receipt.order_id
        self._accusation(now, sender, number, operator, subject, TWO_ANSWERS, salt)
        require(second.receipt.order_id == subject, "order", second.receipt.order_id.hex(), subject.hex())
        require(first.receipt != second.receipt, "statement", "the same twice", "two receipts that differ")
        for each in (first, second):
            require(self._signed(now, operator, each.receipt, each.signature), "signature", "another's", operator)
        return self._set_challenge(number, operator=operator, opened=True)._joined(operator, 0)._convict(now, number)

    def two_places(
        self, now: int, sender: str, number: int, leaf: bytes, first: LeafPlace, second: LeafPlace, salt: bytes
    ) -> Self:
        """Open a challenge that shows one receipt in two places of an operator's batches.

        Args:
            leaf: hash of the leaf. salt: as committed, with the leaf, 0 and ``TWO_PLACES``.

        Raises:
            MoveError: ``opened``, ``sender``, ``late``, ``commitment``: as ``Court.open``.
                ``batch``: unknown, or of two operators. ``place``: the same twice. ``path``: the
                leaf is not there. ``void``: committed after the operator's conviction.
        """
        operator = self._batch(first.batch).operator
        require(self._batch(second.batch).operator == operator, "batch", "of two operators", "of one")
        self._accusation(now, sender, number, operator, leaf, TWO_PLACES, salt)
        require(first[:2] != second[:2], "place", "the same twice", "two places")
        for place in (first, second):
            found = self.batches[place.batch]
            require_leaf(found.root, leaf, place.at, found.size, place.path, "a leaf of the batch")
        return self._set_challenge(number, operator=operator, opened=True)._joined(operator, 0)._convict(now, number)

    # --- withheld receipts

    def demand(self, now: int, sender: str, operator: str, receipt: Receipt, signature: bytes, value: int) -> Self:
        """Demand a signed receipt that is in no batch. It is numbered like a challenge.

        Raises:
            MoveError: ``bond``: another sum. ``standing``: no operator that could be convicted.
                ``signature``: not by a key of the operator that is trusted now.
        """
        require(value == self.terms.bond_wei, "bond", value, self.terms.bond_wei)
        require(not self._known(operator).convicted, "standing", "convicted", "a standing operator")
        require(self._signed(now, operator, receipt, signature), "signature", "another's", operator)
        subject = merkle.leaf_hash(receipt.signing_hash(self.domain) + signature)
        demanded = Challenge(sender, subject, now, ChallengeStatus.DEMAND, opened=True, operator=operator)
        return replace(self, challenges=(*self.challenges, demanded))._joined(operator, 0)

    def show(self, now: int, number: int, place: LeafPlace) -> Self:
        """Show where a demanded receipt was committed; anyone may. The bond is lost if it was there
        before the demand.

        Raises:
            MoveError: ``duty``: no open demand. ``late``: it lapses. ``batch``: not of this operator.
                ``path``: the receipt is not there.
        """
        duty = self._due(now, number, ChallengeStatus.DEMAND)
        found = self._batch(place.batch)
        require(found.operator == duty.operator, "batch", found.operator, duty.operator)
        require_leaf(found.root, duty.commitment, place.at, found.size, place.path, "the demanded receipt")
        return self._acquit(number) if found.time <= duty.time else self._end(number, ChallengeStatus.MOOT)

    def publish_receipt(self, now: int, sender: str, number: int) -> Self:
        """Commit to a demanded receipt as a batch of its own, which no freeze forbids.

        Raises:
            MoveError: ``duty``: no open demand. ``late``: it lapses. ``sender``: not the operator.
                ``standing``: convicted. ``batch``: committed before.
        """
        duty = self._due(now, number, ChallengeStatus.DEMAND)
        require(sender == duty.operator, "sender", sender, duty.operator)
        require(not self.operators[sender].convicted, "standing", "convicted", "a standing operator")
        return self._new_batch(now, sender, duty.commitment, 1)._end(number, ChallengeStatus.MOOT)

    # --- answers that the beacon draws

    def post_draw(self, now: int, sender: str, value: bytes) -> Self:
        """Take a value of the beacon (32 bytes). Who checks it against the beacon is the registrar,
        and anyone off chain: a verifier of drand's signatures on chain would take this place.

        Raises:
            MoveError: ``sender``: not the registrar.
        """
        require(sender == self.registrar, "sender", sender, self.registrar)
        return replace(self, draws=(*self.draws, (value, now)))

    def summon(self, now: int, sender: str, batch: bytes, index: int, draw: int) -> Self:
        """Say that the beacon drew an answer; its verdict is due. Numbered like a challenge, free.

        Args:
            draw: number of the first value of the beacon that came after the batch.

        Raises:
            MoveError: ``void``: no live batch. ``window``: too late. ``index``: no such answer.
                ``draw``: not that value, or it drew another answer. ``drawn``: summoned before.
                ``arbiter``: there is none, to whom a verdict could be shown.
        """
        found, terms = self._live_batch(batch), self.terms
        require(self.arbiter is not None, "arbiter", "none", "an arbiter")
        late = self._passed(now, self.window_start(batch), terms.window_s)
        require(not late, "window", now, "in the batch's window")
        require(0 <= index < found.size, "index", index, f"below {found.size}")
        subject = spot_subject(batch, index)
        known = 0 <= draw < len(self.draws) and self.draws[draw][1] > found.time
        first = known and (draw == 0 or self.draws[draw - 1][1] <= found.time)
        if not first or not is_drawn(self.draws[draw][0], subject, terms.spot_bps):
            raise MoveError("draw", draw, "the first after the batch, and one that draws the answer")
        require(subject not in self.drawn, "drawn", "before", "once")
        due = Challenge(sender, subject, now, ChallengeStatus.SPOT, True, found.operator, batch, index)
        court = replace(self, challenges=(*self.challenges, due), drawn=self.drawn | {subject})
        return court._joined(found.operator, 0)

    def attest(self, now: int, number: int, verdict: Verdict, proof: bytes) -> Self:
        """Show the verdict on a drawn answer; anyone may.

        Raises:
            MoveError: ``duty``: none is due. ``late``: it lapses. ``proof``: the arbiter does not
                accept it, or it shows no verdict.
        """
        duty = self._due(now, number, ChallengeStatus.SPOT)
        shown = verdict in (Verdict.OPERATOR_LOSES, Verdict.CHALLENGER_LOSES) and self.arbiter is not None
        shown = shown and self.arbiter(spot_statement(self.domain, duty.commitment, verdict), proof)  # type: ignore[misc]
        require(shown, "proof", "not accepted", "a proof of the verdict")
        return self._convict(now, number) if verdict == Verdict.OPERATOR_LOSES else self._acquit(number)

    def lapse(self, now: int, number: int) -> Self:
        """End a duty that was not done in time: silence costs what a false answer costs.

        Raises:
            MoveError: ``duty``: none is due. ``early``: it may still be done.
        """
        duty = self._duty(number, ChallengeStatus.DEMAND, ChallengeStatus.SPOT)
        require(self._passed(now, duty.time, self.terms.duty_s), "early", now, duty.time + self.terms.duty_s)
        return self._convict(now, number)

    # --- rewards

    def pay_reward(self, now: int, name: str) -> Self:
        """Pay the reward for convicting operator ``name`` to the earliest right challenge.

        Raises:
            MoveError: ``standing``: unknown. ``reward``: none is due. ``early``: an earlier
                challenge may still be opened. ``frozen``: one is being played.
        """
        operator = self._known(name)
        require(operator.reward_wei != 0, "reward", 0, "one that is due")
        due = self._passed(now, operator.convicted_at, self.terms.claim_s)
        require(due, "early", now, operator.convicted_at + self.terms.claim_s)
        require(not operator.open_games, "frozen", operator.open_games, "no open game or duty")
        winner = self.challenges[operator.best_game - 1].challenger
        court = replace(self, burnt_wei=self.burnt_wei + operator.costs_wei)
        return court._operator(name, reward_wei=0, costs_wei=0)._credit(winner, operator.reward_wei)

    # --- inside

    def _accusation(
        self, now: int, sender: str, number: int, operator: str, subject: bytes, token: int, salt: bytes
    ) -> None:
        """A committed challenge of the kind ``token`` may be opened now against ``operator``."""
        challenge = self._committed(now, sender, number, challenge_hash(sender, subject, 0, token, salt))
        self._timely(challenge, self._known(operator))

    def _committed(self, now: int, sender: str, number: int, commitment: bytes) -> Challenge:
        challenge = self._numbered(number)
        require(challenge.status == ChallengeStatus.COMMITTED, "opened", challenge.status.name, "COMMITTED")
        require(sender == challenge.challenger, "sender", sender, challenge.challenger)
        late = self._passed(now, challenge.time, self.terms.reveal_s)
        require(not late, "late", now, challenge.time + self.terms.reveal_s)
        require(challenge.commitment == commitment, "commitment", "another challenge", "the committed one")
        return challenge

    def _timely(self, challenge: Challenge, operator: StakedOperator) -> None:
        late = operator.convicted and challenge.time > operator.convicted_at
        require(not late, "void", "committed after the conviction", "committed before it")

    def _signed(self, now: int, operator: str, receipt: Receipt, signature: bytes) -> bool:
        """Whether a key of the operator that is trusted at ``now`` has signed a receipt."""
        key = self.keys.get(receipt.key_id)
        if key is None or key.operator != operator or self._revoked(receipt.key_id, now):
            return False
        try:
            return recover_signer(self.domain, receipt, signature) == key.address
        except ReceiptError:
            return False

    def _revoked(self, key_id: bytes, at: int) -> bool:
        """Whether a registered key, or the class of its platform, was revoked before ``at``."""
        since = [self.revoked[each] for each in (key_id, self.keys[key_id].platform) if each in self.revoked]
        return any(at > time for time in since)

    def _convict(self, now: int, number: int) -> Self:
        """A challenge was right. The first one slashes; the earliest committed one will be paid,
        and any other gets what it has cost, as long as what was put by for that lasts."""
        challenge, terms = self.challenges[number - 1], self.terms
        name = challenge.operator
        operator = self.operators[name]
        if operator.convicted:
            best, other = sorted((operator.best_game, number))
            paid = min(terms.cost_wei, operator.costs_wei)
            court = self._operator(name, best_game=best, costs_wei=operator.costs_wei - paid)
            return court._credit(self.challenges[other - 1].challenger, paid)._end(number, ChallengeStatus.WON)
        slashed = operator.stake_wei * terms.slash_bps // BASIS
        reward = slashed * terms.reward_bps // BASIS
        costs = min(MOST_REPAID * terms.cost_wei, slashed - reward)
        court = self._operator(
            name,
            stake_wei=operator.stake_wei - slashed,
            convicted_at=now,
            reward_wei=reward,
            costs_wei=costs,
            best_game=number,
        )
        # An answer that a trusted key has signed is false: what broke this platform may break its like.
        if challenge.game is not None or challenge.status == ChallengeStatus.SPOT:
            platform = self.batches[challenge.batch].platform
            if platform != NOTHING:
                court = replace(court, fuses={platform: now} | dict(self.fuses))
        return replace(court, burnt_wei=self.burnt_wei + slashed - reward - costs)._end(number, ChallengeStatus.WON)

    def _acquit(self, number: int) -> Self:
        """Take the bond, if there is one: part of it compensates the operator, the rest is burnt."""
        challenge = self.challenges[number - 1]
        if challenge.status == ChallengeStatus.SPOT:
            return self._end(number, ChallengeStatus.LOST)
        bond = self.terms.bond_wei
        compensation = bond * self.terms.compensation_bps // BASIS
        court = replace(self, burnt_wei=self.burnt_wei + bond - compensation)
        return court._credit(challenge.operator, compensation)._end(number, ChallengeStatus.LOST)

    def _end(self, number: int, status: ChallengeStatus) -> Self:
        """End a challenge or duty. Its bond goes back unless it is lost."""
        challenge = self.challenges[number - 1]
        operator, game = self.operators[challenge.operator], challenge.game
        playing = challenge.status == ChallengeStatus.OPEN and game is not None and game.level != Level.SEED
        court = self._set_challenge(number, status=status)._operator(
            challenge.operator,
            open_games=operator.open_games - 1,
            live_games=operator.live_games - playing,
        )
        bonded = status != ChallengeStatus.LOST and challenge.status != ChallengeStatus.SPOT
        return court._credit(challenge.challenger, self.terms.bond_wei) if bonded else court

    def _joined(self, operator: str, playing: int, opened: int = 1) -> Self:
        """One more open challenge or duty of an operator."""
        old = self.operators[operator]
        return self._operator(operator, open_games=old.open_games + opened, live_games=old.live_games + playing)

    def _numbered(self, number: int) -> Challenge:
        require(1 <= number <= len(self.challenges), "challenge", number, f"1 to {len(self.challenges)}")
        return self.challenges[number - 1]

    def _duty(self, number: int, *kinds: ChallengeStatus) -> Challenge:
        challenge = self._numbered(number)
        require(challenge.status in kinds, "duty", challenge.status.name, " or ".join(kind.name for kind in kinds))
        return challenge

    def _due(self, now: int, number: int, kind: ChallengeStatus) -> Challenge:
        """A duty that may still be done: from the second on in which it lapses it may not."""
        duty = self._duty(number, kind)
        late = self._passed(now, duty.time, self.terms.duty_s)
        require(not late, "late", now, f"at most {duty.time + self.terms.duty_s}")
        return duty

    def _set_challenge(self, number: int, *, game: Game | None = None, **changes: Any) -> Self:
        changes |= {} if game is None else {"game": game}
        new = replace(self.challenges[number - 1], **changes)
        return replace(self, challenges=(*self.challenges[: number - 1], new, *self.challenges[number:]))


def challenge_hash(challenger: str, subject: bytes, index: int, token: int, salt: bytes) -> bytes:
    """What a challenger commits to: five 32-byte words. The secret ``salt`` hides the rest.

    Args:
        subject: id of the batch; of an offence the order's id or the leaf. token: of the answer, or
            the kind of offence.
    """
    words = int(challenger, 16).to_bytes(32, "big") + subject + index.to_bytes(32, "big") + token.to_bytes(32, "big")
    return sha256(words + salt).digest()


def two_keys(first: bytes, second: bytes) -> Arbiter:
    """An arbiter that accepts what two different keys have both signed: neither ends a game alone.

    Args:
        first, second: their 20-byte addresses. A proof holds the 65-byte signatures in this order.

    Raises:
        ParameterError: the same address twice.
    """
    if first == second:
        raise ParameterError("second", second.hex(), "another address than the first")

    def shows(statement: bytes, proof: bytes) -> bool:
        try:
            return [recover_address(statement, part) for part in (proof[:65], proof[65:])] == [first, second]
        except ReceiptError:
            return False

    return shows


def spot_subject(batch: bytes, index: int) -> bytes:
    """What is due when the beacon drew receipt ``index`` of a batch (32 bytes)."""
    return sha256(b"otr/1/spot-check" + batch + index.to_bytes(32, "big")).digest()


def is_drawn(value: bytes, subject: bytes, spot_bps: int) -> bool:
    """Whether a value of the beacon draws ``spot_subject``: chance ``spot_bps`` in 10,000."""
    return int.from_bytes(sha256(value + subject).digest(), "big") % BASIS < spot_bps


def spot_statement(domain: Domain, subject: bytes, verdict: Verdict) -> bytes:
    """What an arbiter signs, or a proof shows, of a drawn answer (32 bytes)."""
    place = domain.chain_id.to_bytes(32, "big") + domain.court
    return sha256(b"otr/1/spot-verdict" + place + subject + bytes([verdict])).digest()
