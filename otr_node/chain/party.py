"""What a fisherman and an operator have in common: a court that is read, and calls that are sent to
it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from otr_core.dispute.players import Move
from otr_core.errors import ChainError, JournalError, MoveError, NodeError
from otr_node.chain.answers import AnswerFiles, OwnModel, answers_in
from otr_node.chain.followed import Followed
from otr_node.chain.onchain import ChainCourt

Report = Callable[..., None]
"""Called with the name of an event, and what it was about by name."""
_HOPELESS = ("chain-id", "contract", "key", "deployment")  # what no waiting mends


@dataclass
class ChainParty(ABC):
    """One account at one court.

    Attributes:
        chain: the court. me: the account, lower-case. models: by id, at hand. folder: of answers
            (``answers``). report: is told what is done and why. followed: the court as read.
        answers: of the folder, by name.
    """

    chain: ChainCourt
    me: str
    models: Mapping[bytes, OwnModel]
    folder: Path
    report: Report
    followed: Followed = field(init=False)
    answers: dict[str, AnswerFiles] = field(default_factory=dict, init=False)
    _said: set[tuple[str, ...]] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self.followed = Followed(self.chain, {own: model.registered for own, model in self.models.items()})

    def step(self) -> bool:
        """Read on, and do the first thing that is to be done, if any; whether something was."""
        self.read()
        self.read_answers()
        return self.act()

    def read(self) -> None:
        """Read on what has come to the court."""
        before = self.followed.times_over
        self.followed.read()
        if self.followed.times_over > before:
            self.report("reorganised", why="blocks that were read are gone: all was read again")
            self.forget()

    def read_answers(self) -> None:
        """Read the folder's answers again."""
        for answer in answers_in(self.folder, lambda name, error: self.say_once("unreadable", name, why=str(error))):
            self.answers[answer.name] = answer

    @abstractmethod
    def act(self) -> bool:
        """Do the first thing that is to be done; whether something was."""

    @abstractmethod
    def forget(self) -> None:
        """What was made from the court as it was is worth nothing now."""

    def play(self, number: int, move: Move, why: str) -> bool:
        """Make a move in a game, if the rules allow it; whether the court took it."""
        court = self.followed.court
        try:
            court.move(self.chain.chain.time, self.me, number, *move)
        except MoveError as error:
            self.say_once("no move", str(number), why=str(error))
            return False
        self.report("move", game=number, move=move[0], why=why)
        return self.send(self.chain.move, court, number, *move)

    def end_by_time(self, number: int, whose: str) -> bool:
        """End a game whose side to move has run out of time; whether it has."""
        court = self.followed.court
        try:
            court.timeout(self.chain.chain.time, number)
        except MoveError:
            return False
        self.report("timeout", game=number, why=f"the {whose}'s clock has run out")
        return self.send(self.chain.timeout, court, number)

    def call(self, name: str, *args: Any, value: int = 0) -> bool:
        """Any other call of the court; whether it took it."""
        return self.send(self.chain.call, name, *args, value=value)

    def send(self, call: Callable[..., Any], *args: Any, **more: Any) -> bool:
        """Send a call; whether the court took it. A refusal is said: after it the court is read
        again, and may ask for something else."""
        try:
            call(None, self.me, *args, **more)
        except MoveError as error:
            self.say_once("refused", call.__name__, str(self.followed.height), why=str(error))
            return False
        return True

    def say_once(self, event: str, *about: str, why: str) -> None:
        """Report once what stays so for long."""
        if (event, *about, why) not in self._said:
            self._said.add((event, *about, why))
            self.report(event, about=about[0], why=why)


def run_party(
    party: ChainParty, *, until: Callable[[bool], bool], poll_s: float, heartbeat: Path | None = None
) -> None:
    """Let a party act until told to stop. A node that does not answer, an account that cannot pay just
    now, or a disk that is full, is said once and waited for.

    Args:
        until: told whether something was done just now, says whether to stop. poll_s: seconds between
            two looks at a chain where nothing was to be done. heartbeat: file that is touched after
            each look at the chain that came to its end.
    """
    while True:
        acted = False
        try:
            acted = party.step()
            if heartbeat is not None:
                heartbeat.touch()
        except NodeError as error:
            if error.check in _HOPELESS:
                party.report("ended", why=str(error))
                raise
            party.say_once("waiting", error.check, why=str(error))
        except ChainError as error:
            party.say_once("refused", error.check, str(party.followed.height), why=str(error))
        except (OSError, JournalError) as error:
            why = error if isinstance(error, JournalError) else error.strerror
            party.say_once("waiting", "disk", why=f"a file that cannot be read or written ({why})")
        if until(acted):
            return
        if not acted:
            time.sleep(poll_s)
