"""What whoever vouches for a commitment has to lose: pledges beside one court, in Python and as ``pledges.vy``.

A signer puts a pledge down. It is lost, whole, to whoever shows that its word is false: by two of its statements
that contradict each other, which anybody can check, or by an arbiter's word that one of them is not what the
weights give, which whoever holds them finds in seconds. At least half of it is burnt, so that nobody gains by
catching itself. It comes back after a notice, in which it can still be lost; a verifier counts no pledge that was
asked back, so that what it has relied on stays for a whole notice more.

Both kinds of evidence could be copied on their way to the chain. A contradiction is therefore announced first,
under a salt and with the catcher's address; what an arbiter signs names the catcher.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256

from otr_core.dispute.rules import require
from otr_core.errors import AnswerProofError, MoveError, ParameterError, ReceiptError
from otr_core.poea.order import Domain
from otr_core.spotcheck.proof.vouching import ADDRESS_BYTES, SignedStatement

BASIS = 10_000
MOST_REWARD_BPS = BASIS // 2
MOST_LANE_BYTES = 64
"""Of a lane's name, which the contract has room for."""
_NOTICES = "whole seconds, above 0 and below 2^32"


@dataclass(frozen=True)
class PledgeTerms:
    """Of all pledges in one place.

    Attributes:
        notice_s: seconds for which a pledge can still be lost once it was asked back, above 0.
        reward_bps: the catcher's share of a pledge that is lost, in 10,000, at most half.

    Raises:
        ParameterError: one of them is outside its domain.
    """

    notice_s: int
    reward_bps: int

    def __post_init__(self) -> None:
        if not _is_notice(self.notice_s):
            raise ParameterError("notice_s", self.notice_s, _NOTICES)
        if type(self.reward_bps) is not int or not 0 <= self.reward_bps <= MOST_REWARD_BPS:
            raise ParameterError("reward_bps", self.reward_bps, f"0 to {MOST_REWARD_BPS}: the rest is burnt")


@dataclass(frozen=True)
class Pledge:
    """Of one signer.

    Attributes:
        value: wei. asked_at, lost_at: Unix seconds; 0: it was not.
    """

    value: int = 0
    asked_at: int = 0
    lost_at: int = 0


@dataclass(frozen=True)
class PledgePolicy:
    """What a verifier asks of a pledge behind a word.

    Attributes:
        least_wei: above 0. least_notice_s: seconds, above 0, for which it can still be lost once it is asked back.
        arbiter: 20-byte address of the contract whose word costs a pledge; None: any, or none at all.

    Raises:
        ParameterError: one of them is outside its domain.
    """

    least_wei: int
    least_notice_s: int = 1
    arbiter: bytes | None = None

    def __post_init__(self) -> None:
        if type(self.least_wei) is not int or self.least_wei <= 0:
            raise ParameterError("least_wei", self.least_wei, "wei above 0: who has left has none")
        if not _is_notice(self.least_notice_s):
            raise ParameterError("least_notice_s", self.least_notice_s, _NOTICES)
        if self.arbiter is not None and (len(self.arbiter) != ADDRESS_BYTES or not any(self.arbiter)):
            raise ParameterError("arbiter", self.arbiter.hex(), f"an address of {ADDRESS_BYTES} bytes, not all zero")

    def check_place(self, notice_s: int, arbiter: bytes) -> None:
        """Whether pledges count where they stand.

        Args:
            notice_s, arbiter: of the contract there, zeros where it has no arbiter.

        Raises:
            AnswerProofError: ``vouched notice``: it is shorter. ``vouched arbiter``: it is another, or none.
        """
        if notice_s < self.least_notice_s:
            raise AnswerProofError("vouched notice", f"{notice_s} s", f"at least {self.least_notice_s} s")
        if self.arbiter not in (None, arbiter):
            raise AnswerProofError("vouched arbiter", arbiter.hex(), self.arbiter.hex())

    def takes(self, pledge: Pledge) -> bool:
        """Whether a pledge stands behind a word: of a lost one nothing is left."""
        return pledge.value >= self.least_wei and not pledge.asked_at


def announcement(catcher: bytes, first: SignedStatement, second: SignedStatement, salt: bytes) -> bytes:
    """What is announced before a contradiction is shown (32 bytes): it tells nobody what will be shown.

    Args:
        catcher: 20-byte address of who will show it. salt: 32 secret bytes.
    """
    return sha256(catcher + first.statement.signing_hash + second.statement.signing_hash + salt).digest()


def refutation(signed: SignedStatement, catcher: bytes) -> bytes:
    """What an arbiter signs of a statement that is not what the weights give (32 bytes).

    Args:
        catcher: 20-byte address of who is paid for it.
    """
    return sha256(b"otr/1/refuted" + signed.statement.signing_hash + catcher).digest()


def check_about(signed: SignedStatement, domain: Domain) -> None:
    """Whether a statement can cost a pledge beside the court of ``domain``. The contract hashes what it is given as of
    its own court, so that there another court's signature is nobody's who has a pledge.

    Raises:
        MoveError: ``about``: it is of another court, or its lane has a name that the contract has no room for.
    """
    told = signed.statement
    require(told.domain == domain, "about", told.domain.to_json(), domain.to_json())
    require(len(told.lane.encode()) <= MOST_LANE_BYTES, "about", told.lane, f"at most {MOST_LANE_BYTES} bytes")


@dataclass(frozen=True)
class Pledges:
    """The state of all pledges in one place. Every method returns a new value, or raises ``MoveError`` and changes
    nothing. Addresses have 20 bytes.

    Attributes:
        terms: the parameters. domain: chain and court whose statements count. arbiter: (statement, proof) ->
            whether the proof shows it (``duties.two_keys``); None: nobody's word is taken.
        pledges: by signer. announced: Unix seconds, by what was announced. credits: wei that may be withdrawn.
        burnt_wei: lost to everyone.
    """

    terms: PledgeTerms
    domain: Domain
    arbiter: Callable[[bytes, bytes], bool] | None = None
    pledges: Mapping[bytes, Pledge] = field(default_factory=dict)
    announced: Mapping[bytes, int] = field(default_factory=dict)
    credits: Mapping[bytes, int] = field(default_factory=dict)
    burnt_wei: int = 0

    def of(self, signer: bytes) -> Pledge:
        """A signer's pledge, of nothing if it has none."""
        return self.pledges.get(signer, Pledge())

    def put(self, sender: bytes, value: int) -> Pledges:
        """Put down a pledge, or more of it.

        Raises:
            MoveError: ``lost``: it was lost before; another key is needed. ``notice``: it was asked back.
                ``value``: nothing is put down.
        """
        own = self.of(sender)
        require(not own.lost_at, "lost", own.lost_at, "a key that has never lost its pledge")
        require(not own.asked_at, "notice", own.asked_at, "a pledge that was not asked back")
        require(value > 0, "value", value, "wei above 0")
        return self._with(sender, replace(own, value=own.value + value))

    def ask_back(self, now: int, sender: bytes) -> Pledges:
        """Begin the notice.

        Raises:
            MoveError: ``pledge``: there is none. ``notice``: it was asked back before.
        """
        own = self.of(sender)
        require(own.value > 0, "pledge", own.value, "a pledge")
        require(not own.asked_at, "notice", own.asked_at, "a pledge that was not asked back")
        return self._with(sender, replace(own, asked_at=now))

    def take_back(self, now: int, sender: bytes) -> Pledges:
        """Take it back after the notice.

        Raises:
            MoveError: ``pledge``: there is none. ``notice``: not asked back, or not as long ago.
        """
        own = self.of(sender)
        require(own.value > 0, "pledge", own.value, "a pledge")
        over = own.asked_at and now > own.asked_at + self.terms.notice_s
        require(bool(over), "notice", now, f"more than {self.terms.notice_s} s after it was asked back")
        return self._with(sender, Pledge())._credit(sender, own.value)

    def announce(self, now: int, digest: bytes) -> Pledges:
        """Say that something will be shown, as ``announcement`` makes it. Whoever copies it on its way has
        announced it for its author, whose address is in it; the first time stays."""
        return replace(self, announced={digest: now, **self.announced})

    def contradict(
        self, now: int, sender: bytes, first: SignedStatement, second: SignedStatement, salt: bytes
    ) -> Pledges:
        """Show that one key has signed two commitments to one model.

        Raises:
            MoveError: ``about``: they are of another court, or not both of one model and lane. ``statement``: they
                name the same commitment. ``signature``: two keys, or no key's. ``announced``: this sender has not
                announced them, or not before this second. ``pledge``: the key has none.
        """
        about = first.statement.about
        require(about == second.statement.about, "about", second.statement.to_json(), "the same model and lane")
        check_about(first, self.domain)
        found = first.statement.commitment
        require(found != second.statement.commitment, "statement", found.hex(), "two that differ")
        signer = _signer(first)
        require(_signer(second) == signer, "signature", _signer(second).hex(), signer.hex())
        time = self.announced.get(announcement(sender, first, second, salt), 0)
        require(bool(time and now > time), "announced", time, "an earlier second, by this sender")
        return self._lose(now, sender, signer)

    def refute(self, now: int, sender: bytes, signed: SignedStatement, proof: bytes) -> Pledges:
        """Show an arbiter's word that a statement is not what the weights give.

        Args:
            proof: of ``refutation``, with this sender.

        Raises:
            MoveError: ``about``: it is of another court. ``signature``: no key's. ``arbiter``: there is none.
                ``proof``: it does not show it. ``pledge``: the key has none.
        """
        check_about(signed, self.domain)
        signer = _signer(signed)
        require(self.arbiter is not None, "arbiter", "none", "one")
        assert self.arbiter is not None
        require(self.arbiter(refutation(signed, sender), proof), "proof", "another", "of this refutation")
        return self._lose(now, sender, signer)

    def withdraw(self, sender: bytes) -> tuple[Pledges, int]:
        """Take what is owed to the sender; also the amount, wei.

        Raises:
            MoveError: ``credit``: nothing is owed.
        """
        amount = self.credits.get(sender, 0)
        require(amount > 0, "credit", 0, "more than nothing")
        return replace(self, credits={**self.credits, sender: 0}), amount

    def _lose(self, now: int, catcher: bytes, signer: bytes) -> Pledges:
        value = self.of(signer).value
        require(value > 0, "pledge", value, f"a pledge of {signer.hex()}")
        reward = value * self.terms.reward_bps // BASIS
        burnt = self.burnt_wei + value - reward
        return replace(self._with(signer, Pledge(lost_at=now))._credit(catcher, reward), burnt_wei=burnt)

    def _with(self, signer: bytes, pledge: Pledge) -> Pledges:
        return replace(self, pledges={**self.pledges, signer: pledge})

    def _credit(self, who: bytes, value: int) -> Pledges:
        return replace(self, credits={**self.credits, who: self.credits.get(who, 0) + value})


def _signer(signed: SignedStatement) -> bytes:
    try:
        return signed.signer
    except ReceiptError as error:
        raise MoveError("signature", error.found, error.expected) from error


def _is_notice(seconds: object) -> bool:
    return type(seconds) is int and 0 < seconds < 2**32
