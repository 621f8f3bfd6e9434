"""How an operator of a devnet cheats, by name: a lie of the table of statements, a lie that is not
defended, a receipt that is given and not committed. And how a fisherman lies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from random import Random

from otr_core.dispute.players import HonestChallenger, Move
from otr_core.dispute.records import Challenge
from otr_core.errors import InputError
from otr_core.lane.program import layer_program
from otr_node.chain.answers import AnswerFiles, OwnModel
from otr_node.chain.fisherman import Fisherman
from otr_node.run import Run, Tamper
from otr_paper.labs.disputes.statement_lies import LIES, Lie
from otr_paper.labs.disputes.world import tiny

WITHHELD = "a receipt that is not committed"
SILENT = "silent: "
"""Before the name of a lie: it is told, and not defended."""
FALSE_CHALLENGES = ("plays a false run", "stops playing", "never opens")
"""What a lying fisherman does, who challenges every answer."""


@dataclass(frozen=True)
class OperatorAttack:
    """What an operator does.

    Attributes:
        lie: that it tells; None: it answers honestly. silent: makes no move. withholds: gives a receipt
            and commits it nowhere, and does not show it either.
    """

    lie: Lie | None = None
    silent: bool = False
    withholds: bool = False


NO_ATTACK = OperatorAttack()


@cache
def tellable() -> tuple[Lie, ...]:
    """The lies that an operator tells; others are told by the client's order."""
    return tuple(filter(told_by_operator, LIES))


def told_by_operator(lie: Lie) -> bool:
    """Whether the operator tells a lie, and not the order."""
    order = lie.tell().signed.order
    return order == tiny(order.decoding.temperature_milli).order


def lie_named(name: str) -> Lie:
    """A lie of the table, by its name or a part of it.

    Raises:
        InputError: none, several, or one that the client's order tells.
    """
    found = [lie for lie in LIES if name == lie.name] or [lie for lie in LIES if name and name in lie.name]
    if len(found) != 1:
        told = f"a lie of docs/statement_lies.md, such as {LIES[0].name!r}"
        names = "; ".join([told, WITHHELD, f"{SILENT}LIE", *FALSE_CHALLENGES])
        meant = "".join(f"; it may be {lie.name!r}" for lie in found[:3])
        raise InputError(f"--attack: found {len(found)} lies named {name[:80]!r}, expected one of: {names}{meant}")
    (lie,) = found
    if not told_by_operator(lie):
        raise InputError(f"--attack: {lie.name!r} is told by the order, expected one that the operator tells")
    return lie


def attack_named(name: str) -> OperatorAttack:
    """An operator's attack by its name; "": none.

    Raises:
        InputError: as ``lie_named``.
    """
    if not name or name == WITHHELD:
        return OperatorAttack(withholds=bool(name))
    return OperatorAttack(lie_named(name.removeprefix(SILENT)), silent=name.startswith(SILENT))


@dataclass
class LyingFisherman(Fisherman):
    """Challenges every answer that it sees, with a run of its own that is false.

    Attributes:
        way: one of ``FALSE_CHALLENGES``. seed: of its choices.
    """

    way: str = FALSE_CHALLENGES[0]
    seed: int = 0

    def run_again(self, answer: AnswerFiles, operator: str) -> tuple[int | None, str]:
        """Always a case: the states, or one of the tokens."""
        draw = Random(f"{self.seed}/{answer.name}")
        return draw.choice((0, draw.randint(1, answer.file.receipt.answer_tokens))), "a lie"

    def play(self, number: int, move: Move, why: str) -> bool:
        """As any fisherman, but it may stop."""
        stops = self.way == FALSE_CHALLENGES[1] and Random(f"{self.seed}/{number}/{move[0]}").random() < 0.4
        return not stops and super().play(number, move, why)

    def _open(self, number: int, challenge: Challenge) -> bool:
        return self.way != FALSE_CHALLENGES[2] and super()._open(number, challenge)

    def player(self, number: int) -> HonestChallenger:
        """Who plays for a run with one value changed."""
        if number not in self._players:
            order, receipt = self.followed.opened[number]
            answer = next(each for each in self.answers.values() if each.file.receipt == receipt)
            self._players[number] = HonestChallenger(self._false(answer, self.models[order.model_id]))
        return self._players[number]

    def _false(self, answer: AnswerFiles, own: OwnModel) -> Run:
        run, dims, draw = answer.own_run(own), own.trees.dims, Random(f"{self.seed}/{answer.name}/value")
        position, layer = draw.randrange(len(run.fed)), draw.randrange(dims.layers)
        program = layer_program(dims, position)
        number = draw.randrange(len(program))
        element = draw.randrange(program[number].length)
        return replace(run, tamper=Tamper(position, layer, number, element, 2**20))
