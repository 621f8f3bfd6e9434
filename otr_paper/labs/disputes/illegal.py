"""Random games in Python and on chain at once, in which either side breaks rules all the time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from otr_core.dispute.game import MOVES
from otr_core.dispute.players import Move
from otr_core.dispute.records import ChallengeStatus
from otr_core.dispute.state import Turn
from otr_core.lane.dims import Dims
from otr_core.lane.element import LAYER, program
from otr_paper.labs.disputes.both import Both
from otr_paper.labs.disputes.chance import RandomChallenger, RandomChoices, RandomOperator, random_trace, spoilt
from otr_paper.labs.disputes.free import FreeOperator, FreeTrace
from otr_paper.labs.disputes.parties import CLIENT, FISHERMAN, OPERATOR, OTHER
from otr_paper.labs.disputes.search import FreeChallenger
from otr_paper.labs.disputes.world import tiny, tiny_signed

ILLEGAL = 3
"""Broken rules before a move, on average."""


def illegal_game(
    number: int, pair_for: Callable[[int, int], Both], *, seed: int = 0, lane: str = Dims.lane
) -> Counter[str]:
    """Play game ``number`` of a stream with free players on both sides; how often each reason was given,
    by "move: reason" ("" for a move that was made).

    Args:
        pair_for, seed, lane: as in ``differential_game``; the courts must be ``lenient``.

    Raises:
        ChainError: the courts differ in a reason, or in what they hold.
    """
    random = Random(f"illegal {seed} {number}")
    temperature, bits = random.choice((0, 1500)), random.choice((1, 2, 4))
    pair, served = pair_for(temperature, bits), tiny(temperature, lane=lane)
    honest = served.honest
    false = random.random() < 0.3
    claimed = served.with_token(3, honest.token_ids[3] + 1) if false else honest
    trace = FreeTrace(claimed) if false else random_trace(honest, random, [random.randrange(len(honest.trace.leaves))])
    token = random.choice(
        (0, 0, len(honest.prompt_ids) + 3, random.randrange(1, len(honest.fed)), 2**32 - 1, 2**32 - 2)
    )
    signed = tiny_signed(claimed, states_root=trace.states.root, tokens_root=trace.tokens.root)
    number, now = pair.open_challenge(signed, [random.randbytes(97)], index=1, token=token, salt=random.randbytes(32))
    first = random.randrange(len(program(served.trees.dims, LAYER, 0, 0)) + 2)
    operator = RandomOperator(FreeOperator(trace, RandomChoices(random, first), claimed.seed), random, 1, 1)
    challenger = RandomChallenger(FreeChallenger(claimed.seed), random, 1)
    seen: Counter[str] = Counter()
    made: list[Move] = [("retract",), ("choose_kept",), ("choose_last",), ("choose_token",)]
    shown: Move = ()
    while (challenge := pair.court.challenges[number - 1]).status == ChallengeStatus.OPEN:
        game = challenge.game
        assert game is not None
        turn = game.turn
        move = operator.move(game) if turn == Turn.OPERATOR else challenger.move(game, shown)
        for bad, sender, at in _broken(random, move, made, turn, number):
            now = max(now + random.choice((0, 0, 7)), pair.chain.chain.time)
            reason = pair.do(now, sender, "move", at, *bad)
            seen[f"{bad[0]}: {reason}"] += 1
            if not reason:  # it was legal after all, and the game has gone on
                break
        else:
            now, bad = max(now, pair.chain.chain.time), move
            reason = pair.do(now, (OPERATOR, FISHERMAN)[turn], "move", number, *move) if move else "silence"
            seen[f"{move[0]}: {reason}" if move else reason] += 1
            if reason:  # it has nothing that it could open: its time runs out
                seen[f"timeout: {pair.do(pair.chain.chain.time, OTHER, 'timeout', number)}"] += 1  # too early
                now = pair.chain.chain.time + pair.court.terms.clock_s + 1
                seen[f"timeout: {pair.do(now, OTHER, 'timeout', number)}"] += 1
                continue
        made.append(bad)
        shown = bad if turn == Turn.OPERATOR else shown
    return seen


def _broken(random: Random, move: Move, made: list[Move], turn: Turn, number: int) -> list[tuple[Move, str, int]]:
    """Calls that most likely break a rule: (move, sender, number of the challenge)."""
    sender = (OPERATOR, FISHERMAN)[turn]
    calls: list[tuple[Move, str, int]] = []
    for _ in range(random.randrange(2 * ILLEGAL + 1)):
        kind = random.choice(("spoilt", "spoilt", "other", "sender", "again"))
        if kind == "spoilt" and move:
            calls.append((spoilt(move, random), sender, number))
        elif kind == "sender" and move:
            calls.append((move, random.choice((OPERATOR, FISHERMAN, CLIENT, OTHER)), number))
            if calls[-1][1] == sender:
                calls.pop()
        elif kind == "again":
            again: Move = random.choice(made)
            calls.append(
                (again, (OPERATOR, FISHERMAN)[MOVES[again[0]].turn], random.choice((number, number, 0, number + 1)))
            )
        else:
            name = random.choice(list(MOVES))
            calls.append(((name, *_arguments(random, name)), (OPERATOR, FISHERMAN)[MOVES[name].turn], number))
    return calls


def _arguments(random: Random, name: str) -> tuple[Any, ...]:
    """Arguments of a move, out of the air."""
    one, few = random.randbytes(32), tuple(random.randbytes(32) for _ in range(random.choice((0, 1, 4))))
    token, number = random.randbytes(40), random.randrange(70)
    made: dict[str, tuple[Any, ...]] = {
        "reveal_seed": (one,), "bisect": (few,),
        "dispute": (random.choice((number, 2**32 - 1, 2**32 - 2, 2**31, 2**32 + number)),),
        "choose": (number, one, few), "expand_layer": (one, few, few),
        "expand_first": (one, few, token, few, few),
        "show_given": (token, few, few), "expand_token": (token, few, few), "expand_operator": (few,),
        "publish": (random.randbytes(random.choice((0, 8, 64, 1056))),), "element": (number, random.randrange(-9, 9)),
        "accuse_salt": (random.randbytes(64), one), "misquoted": (random.randbytes(64),),
        "expand_steps": (random.randbytes(random.choice((0, 16))), random.randbytes(random.choice((0, 32)))),
        "choose_step": (number,), "prove": (random.randbytes(random.choice((0, 16))), ()),
    }  # fmt: skip
    return made.get(name, ())
