"""One random game played in Python and on chain at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from otr_core.dispute.play import ChallengerPlayer, play
from otr_core.dispute.players import HonestChallenger, HonestOperator
from otr_core.dispute.records import ChallengeStatus
from otr_core.dispute.state import STATES
from otr_core.errors import ChainError
from otr_core.lane.dims import Dims
from otr_core.lane.element import LAYER, program
from otr_node.run import Run
from otr_paper.benches.workbench import Served
from otr_paper.labs.disputes.both import Both
from otr_paper.labs.disputes.cheats import Griefer, Inconsistent, Withholder
from otr_paper.labs.disputes.world import random_tamper, salted_wrongly, tiny, tiny_signed

KINDS = ("griefer", "griefer token", *3 * ("cheat",), "token", "inconsistent", "salt", "silent", "lazy griefer")
"""Who does not play honestly: a challenger who griefs, else an operator who cheats. Game after game
takes its turn."""


def differential_game(
    number: int, pair_for: Callable[[int, int], Both], *, seed: int = 0, lane: str = Dims.lane
) -> tuple[str, int]:
    """Play game ``number`` of a stream; its kind and the number of calls compared.

    Args:
        pair_for: courts in which no operator is convicted, by temperature (thousandths) and arity
            (bits). seed: of the stream. lane: of the answer, and of the model that the courts know.

    Raises:
        ChainError: the courts differ, or the honest side lost.
    """
    random = Random(f"{seed} {number}")
    kind = KINDS[number % len(KINDS)]
    temperature, bits = random.choice((0, 1500)), random.choice((1, 2, 4))
    pair = pair_for(temperature, bits)
    salt = random.randbytes(32)
    run, token, operator, challenger = _players(kind, tiny(temperature, lane=lane), random)
    before = pair.calls
    others = [random.randbytes(97), random.randbytes(97)]
    signed = tiny_signed(run)
    opened, now = pair.open_challenge(signed, others, index=1, token=token, salt=salt, pay=1_000 + number)
    how: dict[str, Any] = {"now": now, "observe": pair.observe, "pace_s": lambda who: random.choice((1, 5, 40))}
    court, _ = play(pair.court, opened, operator, challenger, **how)
    status = court.challenges[opened - 1].status
    if status != (ChallengeStatus.LOST if "griefer" in kind else ChallengeStatus.WON):
        raise ChainError(kind, status.name, "the honest side to win")
    return kind, pair.calls - before


def _players(kind: str, served: Served, random: Random) -> tuple[Run, int, HonestOperator, ChallengerPlayer]:
    """The run that is claimed, the number of the disputed token (0: the trace), and the two
    players."""
    honest = served.honest
    if kind == "griefer token":
        return honest, random.randrange(1, len(honest.fed) + 1), HonestOperator(honest), Griefer(random)
    if "griefer" in kind:
        patience = random.randrange(6) if kind == "lazy griefer" else 10**9
        named = random.choice((0, STATES + random.randrange(honest.states.size)))
        return honest, named, HonestOperator(honest), Griefer(random, patience)
    if kind == "token":
        step = random.randrange(len(honest.token_ids))
        false = served.with_token(step, honest.token_ids[step] + 1)
        right = served.run(token_ids=false.token_ids)
        return false, right.wrong_token, HonestOperator(false), HonestChallenger(right)
    challenger = HonestChallenger(honest)
    if kind == "salt":
        false = salted_wrongly(served, random)
        return false, _named(false, honest, random), HonestOperator(false), challenger
    count = len(program(served.trees.dims, LAYER, 0, 0))
    false = _false_run(served, random, random.randrange(count) if kind == "cheat" else count - 1)
    if kind == "inconsistent":
        return false, 0, Inconsistent(false, honest), challenger
    if kind == "silent":
        return false, 0, Withholder(false, random.randrange(6)), challenger
    return false, _named(false, honest, random), HonestOperator(false), challenger


def _named(false: Run, honest: Run, random: Random) -> int:
    """The states, or the first leaf of them that differs, as whoever has all leaves can tell."""
    differs = (mine != right for mine, right in zip(false.trace.leaves, honest.trace.leaves, strict=True))
    return random.choice((0, STATES + next(at for at, other in enumerate(differs) if other)))


def _false_run(served: Served, random: Random, operator: int) -> Run:
    """A run with one value of ``operator`` changed, by so much that its trace is false."""
    for power in (0, 12, 20, 28, 36) if served.trees.dims.lane == Dims.lane else (0, 12, 16, 20, 24):
        false = served.run(replace(random_tamper(served, random, operator), delta=2**power))
        if false.trace.root != served.honest.trace.root:
            return false
    # this operator's values hardly reach the trace; the last one's do
    last = len(program(served.trees.dims, LAYER, 0, 0)) - 1
    return served.run(replace(random_tamper(served, random, last), delta=2**20))
