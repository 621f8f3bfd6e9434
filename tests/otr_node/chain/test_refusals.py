"""Games in which every move is first tried wrongly, in all ways that change one thing of it: Python and
contracts refuse alike, each time by the rule that was broken, and go on as if nothing had been."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from otr_core import merkle
from otr_core.dispute.game import MOVES
from otr_core.dispute.judge import Opening
from otr_core.dispute.players import HonestChallenger, HonestOperator, Move, choice
from otr_core.dispute.records import ChallengeStatus
from otr_core.dispute.state import SEED as THE_SEED
from otr_core.dispute.state import STATES, TOKENS, Game, Level, Turn
from otr_core.errors import MoveError
from otr_core.lane import program as pr
from otr_core.lane.element import TOKEN
from otr_node.chain.onchain import BRINGS_CLAIM, BRINGS_REST
from otr_node.run import Run
from otr_paper.labs.disputes.both import Both, both
from otr_paper.labs.disputes.cheats import Griefer
from otr_paper.labs.disputes.parties import FISHERMAN, OPERATOR
from otr_paper.labs.disputes.world import SEED, TERMS, random_tamper, salted_wrongly, tiny, tiny_signed

pytestmark = pytest.mark.slow
SALT = b"s" * 32
ONE, FEW = bytes(32), (bytes(32),)
#: Arguments of the right types, with which each move is tried where it does not belong.
ANY: dict[str, tuple[Any, ...]] = {
    "reveal_seed": (SEED,), "dispute": (2**40,), "retract": (), "bisect": (FEW,), "choose": (0, ONE, ()),
    "choose_last": (), "choose_kept": (), "choose_token": (), "expand_layer": (ONE, FEW, ()),
    "expand_first": (ONE, FEW, bytes(40), (), ()), "show_given": (bytes(40), (), ()),
    "expand_token": (bytes(40), (), FEW), "expand_operator": (FEW,), "publish": (bytes(64),), "element": (0, 0),
    "accuse_salt": (bytes(40), SEED), "misquoted": (bytes(64),), "expand_steps": (b"", bytes(16)),
    "choose_step": (0,), "prove": (b"", ()),
}  # fmt: skip


def test_all_moves_are_tried():
    assert set(ANY) == set(MOVES)


def changed(part: Any) -> Iterator[Any]:
    """A move's argument with one thing changed."""
    if isinstance(part, bytes):
        yield from (bytes([part[0] ^ 1]) + part[1:], part[:-1] + bytes([part[-1] ^ 1])) if part else ()
        # a hash has its length by its type
        yield from (part[:-8], part + bytes(8)) if len(part) != 32 else ()
    elif isinstance(part, Opening):
        yield from (replace(part, data=data) for data in changed(part.data))
    elif isinstance(part, (tuple, list)):
        yield from (tuple(part[:-1]), (*part[:-1], next(changed(part[-1])))) if part else ()
        yield (*part, part[-1] if part else ONE)
    else:
        yield from (part + 1, part + 10**6, 2**70, -(2**70))


def wrong(game: Game, move: Move) -> Iterator[Move]:
    """Moves of the same side that break a rule: this one with one thing changed, and any other."""
    name, *args = move
    if name == "prove" and not args[1]:
        args = args[:1]  # there is no opening that could be another
    tries = [
        (*move[: at + 1], other, *move[at + 2 :]) for at, arg in enumerate(args) for other in changed(arg)
    ]  # fmt: skip
    tries += [(other, *more) for other, more in ANY.items() if MOVES[other].turn == game.turn]
    for each in tries:
        try:
            MOVES[each[0]].make(game, *each[1:])
        except MoveError:
            yield each


def brought_wrongly(pair: Both, number: int, who: str, move: Move) -> Counter[str]:
    """The same move with another game, rest or claim than the hash binds: only the contract takes them."""
    refused: Counter[str] = Counter()
    name = move[0]
    words = [list(part) for part in pair.chain.standing_words(pair.court, number)]
    words = words[: 3 if name in BRINGS_CLAIM else 2 if name in BRINGS_REST else 1]
    for at, reason in zip(range(len(words)), ("state", "rest", "claim"), strict=False):
        other = [list(part) for part in words]
        other[at][3] = other[at][3] + 1 if isinstance(other[at][3], int) else bytes([other[at][3][0] ^ 1]) + bytes(31)
        args = [[[o.data, list(o.proof)] for o in arg] if _openings(arg) else arg for arg in move[1:]]
        with pytest.raises(MoveError) as failure:
            pair.chain.call(pair.chain.chain.time, pair.names[who], name, number, *other, *args)
        assert failure.value.reason == reason, (name, at)
        refused[reason] += 1
    return refused


def _openings(arg: Any) -> bool:
    return isinstance(arg, tuple) and bool(arg) and isinstance(arg[0], Opening)


def probed(pair: Both, number: int, operator: Any, challenger: Any) -> tuple[Counter[str], list[str]]:
    """The refusals of a whole game by move and reason, and its moves."""
    seen: Counter[str] = Counter()
    shown: Move = ()
    made = []
    pair.lenient, pair.number = True, number
    while (challenge := pair.court.challenges[number - 1]).status == ChallengeStatus.OPEN:
        game = challenge.game
        assert game is not None
        who = OPERATOR if game.turn == Turn.OPERATOR else FISHERMAN
        move = operator.move(game) if who == OPERATOR else challenger.move(game, shown)
        tries = list(wrong(game, move)) if move[0] not in made else []
        if game.level in (Level.STEPS, Level.LEAF) and game.interval < 0 and not game.is_choice:
            # what was quoted is what was published
            tries += [each for each in wrong(game, ("misquoted", operator.published(game))) if who == OPERATOR]
            tries += [("misquoted", operator.published(game))] if move[0] != "misquoted" else []
        if move[0] == "expand_token":
            tries.append((*move[:3], FEW * 64))  # as many as a round may show
        if who == FISHERMAN and game.target == TOKEN and game.level == Level.OPERATORS:
            tries.append(("accuse_salt", shown[1], SEED))  # the salt is right
            leaves = (*shown[3], merkle.leaf_hash(merkle.leaf_hash(struct.pack(">q", game.value))))
            tries.append(choice(leaves, len(leaves) - 1))  # ``choose_last`` is for that
        for each in tries:
            reason = pair.do(pair.chain.chain.time, who, "move", number, *each)
            assert reason, each
            seen[f"{each[0]}: {reason}"] += 1
        seen += brought_wrongly(pair, number, who, move)
        stranger = FISHERMAN if who == OPERATOR else OPERATOR
        assert pair.do(pair.chain.chain.time, stranger, "move", number, *move) == "sender"
        assert pair.do(pair.chain.chain.time, who, "move", number, *move) == ""
        made.append(move[0])
        shown = move if who == OPERATOR else shown
    # and when it is over, nothing moves any more
    assert pair.do(pair.chain.chain.time, OPERATOR, "move", number, "bisect", FEW) == "over"
    return seen, made


class Pointing(Griefer):
    """Walks the tokens down to the first, or to the last; then it is at random."""

    def __init__(self, last: bool) -> None:
        super().__init__(Random(1))
        self.last = last

    def move(self, game: Game, shown: Move) -> Move:
        if game.level == Level.TRACE:
            return choice(shown[1], len(shown[1]) - 1 if self.last else 0)
        return super().move(game, shown)


def _strong(operator: int, delta: int = 2**24) -> Run:
    return tiny().run(replace(random_tamper(tiny(), Random(5), operator), delta=delta))


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("states", {"bisect: children", "choose: child", "choose: path", "publish: tile", "element: element",
                    "expand_steps: points", "choose_step: child", "prove: points", "prove: level", "rest", "claim"}),
        ("named", {"expand_layer: path", "expand_layer: children", "expand_operator: content", "choose_last: level",
                   "misquoted: quoted", "publish: level"}),
        ("token", {"expand_token: path", "expand_token: content", "expand_token: children", "choose_kept: level",
                   "choose_token: level", "prove: points", "choose: child", "accuse_salt: salt"}),
        ("salt", {"accuse_salt: seed", "accuse_salt: tile", "accuse_salt: level", "publish: tile length"}),
        ("given", {"show_given: given", "show_given: content", "show_given: path", "expand_token: level"}),
        ("seed", {"reveal_seed: seed", "dispute: token"}),
        ("walked", {"show_given: path", "show_given: level", "bisect: children"}),
        ("walked on", {"expand_token: path", "expand_token: children"}),
        ("griefed", {"misquoted: tile", "misquoted: tile length", "bisect: level"}),
    ],
)  # fmt: skip
def test_every_move_is_tried_wrongly_first(name, refused):
    honest = tiny().honest
    if name in ("states", "named"):
        run = _strong(pr.LayerOperator.MIXED if name == "states" else pr.LayerOperator.OUTPUT)
        first = next(at for at, leaf in enumerate(run.trace.leaves) if leaf != honest.trace.leaves[at])
        token, players = STATES + first if name == "named" else 0, (HonestOperator(run), HonestChallenger(honest))
    elif name == "token":
        run = tiny().with_token(3, 0)
        own = tiny().run(token_ids=run.token_ids)
        token, players = own.wrong_token, (HonestOperator(run), HonestChallenger(own))
    elif name == "salt":
        run = salted_wrongly(tiny(), Random(2))
        token, players = 0, (HonestOperator(run), HonestChallenger(honest))
    else:
        run = honest
        token = {"given": 2, "seed": THE_SEED, "griefed": STATES + 4}.get(name, TOKENS)
        players = HonestOperator(run), Griefer(Random(1))
    if token == TOKENS:
        players = HonestOperator(honest), Pointing(name == "walked on")
    if name == "seed":
        players = HonestOperator(honest), HonestChallenger(honest.with_seed(bytes(32)))
    # two nodes a round where a result is walked down
    bits = 1 if name == "named" else TERMS.arity_bits
    pair = both(honest, replace(TERMS, arity_bits=bits, clock_s=10**6, increment_s=10**6, exit_s=10**7))
    number, _ = pair.open_challenge(tiny_signed(run), [bytes(97)], token=token, salt=SALT)
    seen, made = probed(pair, number, *players)
    assert refused - set(seen) == set(), made
