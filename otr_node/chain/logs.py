"""The state of a court from its logs alone, as a watcher knows it that reads neither calldata nor
storage."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from otr_core.dispute.records import BASIS, ChallengeStatus, Terms
from otr_node.chain.interface import LogEntry


@dataclass
class FromLogs:
    """What the logs of court and registry say. Addresses as logged; wei.

    Attributes:
        terms: of the court. stakes, rewards, costs: of operators. leaving, convicted: operators.
        batches: operator, root, size and payment, by id. final: ids of batches.
        payments: by batch and payer. challengers, statuses, accused: by number of the challenge.
        credits, burnt_wei: as in ``Court``. fuses, draws, pauses, revoked: what was logged of them.
    """

    terms: Terms
    stakes: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    rewards: dict[str, int] = field(default_factory=dict)
    costs: dict[str, int] = field(default_factory=dict)
    leaving: set[str] = field(default_factory=set)
    convicted: set[str] = field(default_factory=set)
    batches: dict[bytes, tuple[str, bytes, int, int]] = field(default_factory=dict)
    final: set[bytes] = field(default_factory=set)
    payments: dict[tuple[bytes, str], int] = field(default_factory=lambda: defaultdict(int))
    challengers: dict[int, str] = field(default_factory=dict)
    statuses: dict[int, ChallengeStatus] = field(default_factory=dict)
    accused: dict[int, str] = field(default_factory=dict)
    credits: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    burnt_wei: int = 0
    fuses: list[bytes] = field(default_factory=list)
    draws: list[bytes] = field(default_factory=list)
    pauses: list[int] = field(default_factory=list)
    revoked: dict[bytes, int] = field(default_factory=dict)

    def read(self, entries: Iterable[LogEntry]) -> FromLogs:
        """Take entries in their order; those of other kinds (moves of games) change nothing here."""
        for entry in entries:
            take: Callable[..., None] | None = getattr(self, f"_{entry.name.lower()}", None)
            if take is not None:
                take(**entry.args)
        return self

    def _staked(self, operator: str, stake: int) -> None:
        self.stakes[operator] = stake

    def _committed(self, operator: str, batch: bytes, root: bytes, size: int, platform: bytes) -> None:
        self.batches[batch] = operator, root, size, 0

    def _paid(self, batch: bytes, payer: str, value: int) -> None:
        operator, root, size, payment = self.batches[batch]
        self.batches[batch] = operator, root, size, payment + value
        self.payments[batch, payer] += value

    _escrowed = _paid

    def _finalised(self, batch: bytes, paid: int) -> None:
        self.final.add(batch)
        self.credits[self.batches[batch][0]] += paid

    def _refunded(self, batch: bytes, payer: str, value: int) -> None:
        self._paid(batch, payer, -value)
        self.credits[payer] += value

    def _leaving(self, operator: str) -> None:
        self.leaving.add(operator)

    def _left(self, operator: str, stake: int) -> None:
        self.stakes[operator] = 0
        self.credits[operator] += stake

    def _withdrawn(self, who: str, value: int) -> None:
        self.credits[who] -= value

    def _challenged(self, number: int, challenger: str, commitment: bytes) -> None:
        self.challengers[number], self.statuses[number] = challenger, ChallengeStatus.COMMITTED

    def _opened(self, number: int, operator: str, **about: Any) -> None:
        self.accused[number], self.statuses[number] = operator, ChallengeStatus.OPEN

    def _due(self, number: int, operator: str, challenger: str, status: int, **about: Any) -> None:
        self.challengers[number], self.accused[number] = challenger, operator
        self.statuses[number] = ChallengeStatus(status)

    def _ended(self, number: int, status: int) -> None:
        old, bond = self.statuses[number], self.terms.bond_wei
        self.statuses[number] = ChallengeStatus(status)
        if old == ChallengeStatus.SPOT:
            return
        if status != ChallengeStatus.LOST:
            self.credits[self.challengers[number]] += bond
            return
        compensation = bond * self.terms.compensation_bps // BASIS if old != ChallengeStatus.COMMITTED else 0
        self.burnt_wei += bond - compensation
        if compensation:
            self.credits[self.accused[number]] += compensation

    def _convicted(self, operator: str, game: int, slashed: int, reward: int, costs: int, burnt: int) -> None:
        self.convicted.add(operator)
        self.stakes[operator] -= slashed
        self.rewards[operator], self.costs[operator] = reward, costs
        self.burnt_wei += burnt

    def _repaid(self, number: int, value: int) -> None:
        self.credits[self.challengers[number]] += value
        self.costs[self.accused[number]] -= value

    def _rewarded(self, operator: str, number: int, value: int, burnt: int) -> None:
        self.credits[self.challengers[number]] += value
        self.rewards[operator] = self.costs[operator] = 0
        self.burnt_wei += burnt

    def _fused(self, platform: bytes) -> None:
        self.fuses.append(platform)

    def _drawn(self, draw: int, beacon: bytes) -> None:
        self.draws.append(beacon)

    def _paused(self, until: int) -> None:
        self.pauses.append(until)

    def _revoked(self, subject: bytes, since: int) -> None:
        self.revoked[subject] = since
