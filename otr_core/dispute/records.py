"""The court's parameters and records: what is staked, committed, challenged and owed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from otr_core.dispute.state import MOST_ARITY_BITS, NOTHING, Game
from otr_core.errors import ParameterError

BASIS = 10_000
"""Basis points in the whole."""
MOST_RECEIPTS = 2**32
"""In a batch: an audit path to one of them has at most 32 hashes, as many as the contract takes."""
LEAST_SECONDS = 60
"""Of every window and clock: five blocks, in which a transaction is included unless it is censored."""
MOST_REPAID = 8
"""Right challenges beside the earliest whose costs are repaid: more than anyone would insure against."""
SLOT_S = 12
"""Seconds between two blocks: the least increment, so that after any move the other side has a block."""


class ChallengeStatus(IntEnum):
    """Where a challenge stands."""

    COMMITTED = 1  # its hash and bond are there; what it is about is still secret
    OPEN = 2  # the game goes on
    WON = 3  # it was right: the operator is convicted, by it or before
    LOST = 4  # the answer stands, or it was never opened; the bond is lost
    MOOT = 5  # nobody was shown to be wrong, or its owner gave up what is decided; the bond goes back
    DEMAND = 6  # of a withheld receipt: the operator has to show or to publish it
    SPOT = 7  # an answer that the beacon drew: its verdict has to be shown; no bond


@dataclass(frozen=True)
class Terms:
    """The court's parameters: wei, seconds, basis points (hundredths of a per cent).

    Attributes:
        arity_bits: d = log2 k: a round of every descent goes d levels down a tree.
        window_s: from a batch's commitment, in which a challenge of it can be committed.
        reveal_s: from a challenge's commitment, in which it must be opened.
        clock_s: on each side's chess clock, which never holds more. increment_s: added after each
            move: at least as long as the slowest honest move takes.
        exit_s: from asking for the stake back to getting it. claim_s: from a conviction to the
            reward for it at the earliest.
        least_stake_wei: of an operator. bond_wei: of a challenge.
        slash_bps: of the stake, on conviction. reward_bps: of what is slashed, to the challenger;
            the rest is burnt.
        compensation_bps: of a lost challenge's bond, to the operator; the rest is burnt.
        cap_bps: most escrow in flight, in parts of the stake that stands behind it.
        duty_s: in which an operator must show a withheld receipt, or the verdict on a drawn answer.
        spot_bps: chance that the beacon draws an answer.
        cost_wei: what a right challenge that is not the earliest has cost: a million gas at 2 gwei.
        pause_s: how long a pause stops all clocks; four times as long there is no second one.

    The defaults are for courts that are built to be tested; a deployment's profile states every one.
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
    cap_bps: int = BASIS
    duty_s: int = 3_600
    spot_bps: int = 100
    pause_s: int = 86_400
    cost_wei: int = 2 * 10**15

    def __post_init__(self) -> None:
        def check(name: str, good: bool, allowed: str) -> None:
            if not good:
                raise ParameterError(name, getattr(self, name), allowed)

        check("arity_bits", 1 <= self.arity_bits <= MOST_ARITY_BITS, f"1 to {MOST_ARITY_BITS} (k = 2 to 64)")
        for name in ("window_s", "reveal_s", "clock_s", "claim_s", "exit_s", "duty_s", "pause_s"):
            check(name, LEAST_SECONDS <= getattr(self, name) <= 2**31, f"{LEAST_SECONDS} to 2^31 seconds")
        check("increment_s", SLOT_S <= self.increment_s <= self.clock_s, f"{SLOT_S} to clock_s")
        for name in ("least_stake_wei", "bond_wei"):
            check(name, 1 <= getattr(self, name) <= 2**96, "1 to 2^96 wei")
        check("cost_wei", 0 <= self.cost_wei <= self.bond_wei, "0 to bond_wei")
        check("slash_bps", 1 <= self.slash_bps <= BASIS, "1 to 10,000 basis points")
        check("reward_bps", 0 <= self.reward_bps < BASIS, "0 to 9,999 basis points: part of a slash is burnt")
        check("compensation_bps", 0 <= self.compensation_bps < BASIS, "0 to 9,999: part of a lost bond is burnt")
        check("cap_bps", 0 <= self.cap_bps <= 100 * BASIS, "0 to 1,000,000 basis points")
        check("spot_bps", 0 <= self.spot_bps <= BASIS, "0 to 10,000 basis points")
        check("claim_s", self.claim_s >= self.reveal_s, "at least reveal_s, so that whoever was earlier can open")
        check("exit_s", self.exit_s > self.window_s + self.reveal_s, "more than window_s + reveal_s")


@dataclass(frozen=True)
class StakedOperator:
    """An operator's stake and standing.

    Attributes:
        stake_wei: what a conviction slashes.
        exit_at: Unix seconds at which it asked for its stake; 0 until then.
        open_games: opened challenges and duties that have not ended: while there is one, nothing of
            the operator becomes final. live_games: those of them that are played, while which it
            commits to nothing new. live_batches: not final.
        in_flight_wei: escrow of batches that are not final.
        convicted_at: Unix seconds of the first conviction; 0 while it stands.
        reward_wei: waits for the earliest right challenger. costs_wei: put by for what the others
            have spent. best_game: the earliest right challenge so far.
    """

    stake_wei: int
    exit_at: int = 0
    open_games: int = 0
    live_games: int = 0
    live_batches: int = 0
    in_flight_wei: int = 0
    convicted_at: int = 0
    reward_wei: int = 0
    costs_wei: int = 0
    best_game: int = 0

    @property
    def convicted(self) -> bool:
        """Whether it was convicted, for good."""
        return self.convicted_at > 0


@dataclass(frozen=True)
class Batch:
    """A committed batch of receipts and its escrowed payments; known by ``court.batch_id``.

    Attributes:
        operator: address of who committed it. root, size: of the tree over ``receipt_leaf``. time:
            Unix seconds. platform: class of the operator's platform at that time.
        payment_wei: of all payers, held until the batch is final or void. closed: final.
    """

    operator: str
    root: bytes
    size: int
    time: int
    platform: bytes
    payment_wei: int = 0
    closed: bool = False


@dataclass(frozen=True)
class Challenge:
    """One challenge, and its game or duty; numbered by order of commitment, from 1.

    Attributes:
        challenger: address. commitment: ``challenge_hash``; of a duty what has to be shown. time:
            of it, Unix seconds.
        status: where it stands. opened: whether it was.
        operator: address of whom it is against, "" until it is opened.
        batch: id of the batch of a challenged or drawn answer. index: of its receipt in it.
        game: where the dispute stands; None before it is opened, and where no game is needed.
        left_s: seconds on the operator's and on the challenger's clock, as of ``last_time`` (Unix
            seconds).
    """

    challenger: str
    commitment: bytes
    time: int
    status: ChallengeStatus = ChallengeStatus.COMMITTED
    opened: bool = False
    operator: str = ""
    batch: bytes = NOTHING
    index: int = 0
    game: Game | None = None
    left_s: tuple[int, int] = (0, 0)
    last_time: int = 0
