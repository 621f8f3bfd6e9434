"""How a run of a devnet stands, read off the chain and the clients' files: what is still to be registered, which
receipts are committed, whether all has come that had to, and what became of the receipts, the honest and the cheat.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from pathlib import Path

from otr_core import merkle
from otr_core.dispute.court import receipt_leaf
from otr_core.dispute.records import ChallengeStatus
from otr_node.chain.answers import answers_in
from otr_node.chain.fisherman import PATIENCE_S
from otr_node.chain.followed import Followed
from otr_paper.devnet.attacks import OperatorAttack
from otr_paper.devnet.faults import ANSWERS, CLIENTS, SERVERS, answer_name, answered_by
from otr_paper.devnet.ground import DevnetEnd, Ground
from otr_paper.labs.disputes.parties import KEY_ID

OPERATORS, CHEAT = tuple(SERVERS), "operator-2"
LIED_TO = answer_name(CHEAT, CLIENTS[0])
"""The answer in which an operator lies that is told to."""
CLIENTS_FOLDER = "client"
"""Where the clients keep their answers, and fishermen look at them."""
_REACTION_S = 600
"""Of the chain's time, in which what is to be done at once is done, restarts included."""


@dataclass(frozen=True)
class NetworkStanding:
    """One run, as it stands now.

    Attributes:
        ground: what it began with. folder: of the clients' answers. attack: of operator 2. followed: the
            court as read. honest: parties.
    """

    ground: Ground
    folder: Path
    attack: OperatorAttack
    followed: Followed
    honest: frozenset[str]

    def address(self, name: str) -> str:
        """A party's account."""
        return next(address for address, own in self.ground.names.items() if own == name)

    def convicted(self, name: str) -> bool:
        """Whether an operator is."""
        return self.address(name) in self.followed.logs.convicted

    def has_stake(self, name: str) -> bool:
        """Whether an operator has put its stake down, if it has lost it since or not."""
        own = self.followed.court.operators.get(self.address(name))
        return own is not None and (own.stake_wei > 0 or own.convicted)

    def lied(self, answer: str) -> bool:
        """Whether an answer is the one that is a lie."""
        return answer == LIED_TO and self.attack.lie is not None

    def withholds(self, name: str) -> bool:
        """Whether an operator keeps its receipts from the court."""
        return name == CHEAT and self.attack.withholds

    def commits_nothing(self, operator: str) -> bool:
        """Whether an operator can, or will, commit nothing now: it is convicted, or withholds, or the court takes
        no batch of it while it plays."""
        games = (each for each in self.followed.court.challenges if each.operator == self.address(operator))
        frozen = any(each.status == ChallengeStatus.OPEN for each in games)
        return frozen or self.convicted(operator) or self.withholds(operator)

    def to_register(self) -> dict[str, list[str]]:
        """What is still to be registered at the court, and for which there is all that it takes: the words of
        ``otr chain register``, by the name of the process, which begins with who sends and ends with an operator.
        Stakes; and keys, of operators whose receipt is there."""
        known = {key.operator for own, key in self.followed.court.keys.items() if own != KEY_ID}
        jobs = dict[str, list[str]]()
        for name in OPERATORS:
            if not self.has_stake(name):
                stake = f"{Decimal(self.followed.court.terms.least_stake_wei) / 10**18:f}"
                jobs[f"{name} stakes for {name}"] = ["--stake", stake]
            of_own = (answer_name(name, client) for client in CLIENTS)
            paths = [self.folder / f"{each}.receipt.json" for each in of_own if not self.lied(each)]
            shown = next((str(path) for path in paths if path.exists()), None)
            if shown is not None and self.address(name) not in known:
                jobs[f"registrar of {name}"] = ["--receipt", shown, "--operator", self.address(name)]
        return jobs

    def placed(self) -> dict[str, bytes]:
        """Batches in which the clients' receipts lie, by the answer's name; each path is checked."""
        found, court = {}, self.followed.court
        for answer in answers_in(self.folder, lambda name, error: None):
            batch = None if answer.place is None else court.batches.get(answer.place.batch)
            if batch is not None and answer.place is not None:
                leaf = merkle.leaf_hash(receipt_leaf(court.domain, answer.file.receipt, answer.file.signature))
                merkle.verify_inclusion(batch.root, leaf, answer.place.at, batch.size, answer.place.path)
                found[answer.name] = answer.place.batch
        return found

    def settled(self, end: DevnetEnd) -> bool:
        """Whether all that had to come has come; who was paid and what is final is noted in ``end``."""
        court, logs = self.followed.court, self.followed.logs
        playing = any(each.status in (ChallengeStatus.OPEN, ChallengeStatus.DEMAND) for each in court.challenges)
        at, honest = self.placed(), self.honest.intersection(OPERATORS)
        own = [each for each in court.batches.values() if self.ground.names.get(each.operator) in honest]
        placed = all(name in at for name in ANSWERS if answered_by(name) in honest)
        end.finalised = placed and all(each.closed for each in own)
        won = {each.challenger for each in court.challenges if each.status == ChallengeStatus.WON}
        owed = {each for each in won if logs.credits.get(each)}
        end.paid = sorted(self.ground.names[each] for each in won - owed)
        owed = {each for each in owed if self.ground.names[each] in self.honest}
        rewarded = all(logs.rewards.get(each) == 0 for each in logs.convicted)
        slashed = CHEAT in self.honest or self.convicted(CHEAT)
        return bool(not playing and end.finalised and slashed and rewarded and not owed)

    def judge(
        self,
        end: DevnetEnd,
        received: Mapping[str, int],
        hashes: Mapping[str, str],
        moves: int,
        blameless: Collection[str] = (),
    ) -> None:
        """Note in ``end`` what became of the receipts, of the honest, and of the cheat in the time it had.

        Args:
            received: when each receipt was, seconds of the chain. hashes: of the receipts then. moves: made in
                all games. blameless: taken for honest too.
        """
        court, at = self.followed.court, self.placed()
        for name in sorted(hashes):
            path = self.folder / f"{name}.receipt.json"
            kept = path.exists() and sha256(path.read_bytes()).hexdigest() == hashes[name]
            end.receipts += 1
            end.lost_receipts += not kept or not (name in at or self.convicted(answered_by(name)))
        convicted = {self.ground.names.get(each, each) for each in self.followed.logs.convicted}
        honest = {*self.honest, *blameless}
        end.honest_slashed = bool(convicted & honest)
        end.lost_bonds = sum(
            # One that was never opened has lost its bond too, though nobody has said so on the chain.
            each.status in (ChallengeStatus.LOST, ChallengeStatus.COMMITTED)
            and self.ground.names.get(each.challenger) in honest
            for each in court.challenges
        )
        if CHEAT in self.honest:
            return
        terms, own = court.terms, {name: batch for name, batch in at.items() if answered_by(name) == CHEAT}
        false = [court.batches[own[LIED_TO]].time] if LIED_TO in own else []
        taken = [time for name, time in received.items() if answered_by(name) == CHEAT]
        began = min(false or taken, default=0)
        bound = terms.window_s + terms.reveal_s + 2 * terms.clock_s + moves * terms.increment_s
        end.bound_s = PATIENCE_S + terms.duty_s + _REACTION_S if self.attack.withholds else bound
        operator = court.operators.get(self.address(CHEAT))
        if operator is not None and operator.convicted:
            end.taken_s = operator.convicted_at - began
