"""The court's parameters and records: what is staked, committed, challenged and owed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from otr_core.dispute.state import MOST_ARITY_BITS, Game
from otr_core.errors import ParameterError

BASIS = 10_000
"""Basis points in the whole."""
MOST_RECEIPTS = 2**32
"""In a batch: an audit path to one of them has at most 32 hashes, as many as the contract takes."""


class ChallengeStatus(IntEnum):
    """Where a challenge stands."""

    COMMITTED = 1  # its hash and bond are there; what it is about is still secret
    OPEN = 2  # the game goes on
    WON = 3  # the operator is convicted
    LOST = 4  # the answer stands; the bond is lost
    MOOT = 5  # the operator was convicted in another game; the bond goes back


@dataclass(frozen=True)
class Terms:
    """The court's parameters: wei, seconds, basis points (hundredths of a per cent).

    Attributes:
        arity_bits: d = log2 k: a round of every descent goes d levels down a tree.
        window_s: from a batch's commitment, in which it can be challenged.
        reveal_s: from a challenge's commitment, in which it must be opened.
        clock_s: on each side's chess clock, which never holds more. increment_s: added after each
            move.
        exit_s: from asking for the stake back to getting it. claim_s: for an earlier challenger to
            claim a reward.
        least_stake_wei: of an operator. bond_wei: of a challenge.
        slash_bps: of the stake, on conviction. reward_bps: of what is slashed, to the challenger;
            the rest is burnt.
        compensation_bps: of a lost challenge's bond, to the operator; the rest is burnt.
    """

    arity_bits: int
    window_s: int
    reveal_s: int
    clock_s: int
    increment_s: int
    exit_s: int
    claim_s: int
    least_stake_wei: int
    bond_wei: int
    slash_bps: int
    reward_bps: int
    compensation_bps: int

    def __post_init__(self) -> None:
        def check(name: str, good: bool, allowed: str) -> None:
            if not good:
                raise ParameterError(name, getattr(self, name), allowed)

        check("arity_bits", 1 <= self.arity_bits <= MOST_ARITY_BITS, f"1 to {MOST_ARITY_BITS} (k = 2 to 64)")
        for name in ("window_s", "reveal_s", "clock_s", "claim_s", "exit_s"):
            check(name, 1 <= getattr(self, name) <= 2**31, "1 to 2^31 seconds")
        check("increment_s", 0 <= self.increment_s <= self.clock_s, "0 to clock_s")
        for name in ("least_stake_wei", "bond_wei"):
            check(name, 1 <= getattr(self, name) <= 2**96, "1 to 2^96 wei")
        check("slash_bps", 1 <= self.slash_bps <= BASIS, "1 to 10,000 basis points")
        check("reward_bps", 0 <= self.reward_bps < BASIS, "0 to 9,999 basis points: part of a slash is burnt")
        check("compensation_bps", 0 <= self.compensation_bps < BASIS, "0 to 9,999: part of a lost bond is burnt")
        check("claim_s", self.claim_s >= self.reveal_s, "at least reveal_s, so that whoever was earlier can open")
        check("exit_s", self.exit_s > self.window_s + self.reveal_s, "more than window_s + reveal_s")


@dataclass(frozen=True)
class StakedOperator:
    """An operator's stake and standing.

    Attributes:
        stake_wei: what a conviction slashes.
        exit_at: Unix seconds after which the stake may be withdrawn; 0 until it is asked for.
        open_games: challenges against it that have not ended. live_batches: neither final nor
            refunded.
        convicted: for good. convicted_batch, convicted_index: the answer that it was convicted of.
        reward_wei: waits for the earliest right challenger. best_game: the earliest challenge so
            far.
        claims_until: Unix seconds until which an earlier challenge may claim the reward.
    """

    stake_wei: int
    exit_at: int = 0
    open_games: int = 0
    live_batches: int = 0
    convicted: bool = False
    convicted_batch: int = 0
    convicted_index: int = 0
    reward_wei: int = 0
    best_game: int = 0
    claims_until: int = 0


@dataclass(frozen=True)
class Batch:
    """A committed batch of receipts and its escrowed payment.

    Attributes:
        operator: address of who committed it. root, size: of the tree over ``receipt_leaf``. time:
            Unix seconds.
        payer: address of who paid for it, "" for nobody yet. payment_wei: held until the batch is
            final or void.
        open_games: challenges of it that have not ended. closed: final, or refunded.
    """

    operator: str
    root: bytes
    size: int
    time: int
    payer: str = ""
    payment_wei: int = 0
    open_games: int = 0
    closed: bool = False


@dataclass(frozen=True)
class Challenge:
    """One challenge and its game; numbered by order of commitment, from 1.

    Attributes:
        challenger: address. batch: number of the batch. commitment: ``challenge_hash``. time: of
            it, Unix seconds.
        status: where it stands. index: of the receipt in the batch, known once it is ``opened``.
        game: where the dispute stands; None before it is opened, and where no game is needed.
        left_s: seconds on the operator's and on the challenger's clock, as of ``last_time`` (Unix
            seconds).
    """

    challenger: str
    batch: int
    commitment: bytes
    time: int
    status: ChallengeStatus = ChallengeStatus.COMMITTED
    index: int = 0
    opened: bool = False
    game: Game | None = None
    left_s: tuple[int, int] = (0, 0)
    last_time: int = 0
