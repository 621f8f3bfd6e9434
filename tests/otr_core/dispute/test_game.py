"""Random games to the end, and moves that are not allowed."""

from __future__ import annotations

import functools
import itertools
import re
import struct
from dataclasses import replace
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otr_core import merkle
from otr_core.dispute import game as table_of_moves
from otr_core.dispute import state
from otr_core.dispute.accounts import batch_id
from otr_core.dispute.court import Court
from otr_core.dispute.game import MOVES, open_game
from otr_core.dispute.moves_steps import places
from otr_core.dispute.play import Step, play
from otr_core.dispute.players import HonestChallenger, HonestOperator, choice
from otr_core.dispute.records import ChallengeStatus
from otr_core.dispute.rules import ENTERED
from otr_core.dispute.state import STATES, Level, Turn, Verdict
from otr_core.errors import MoveError
from otr_core.lane import program as pr
from otr_node.commitment import commit_model
from otr_node.integers.packed import pack
from otr_node.run import Run
from otr_paper.benches.workbench import Served
from otr_paper.labs.disputes.cheats import Griefer, Inconsistent, Withholder
from otr_paper.labs.disputes.parties import CLIENT, FISHERMAN, OPERATOR, registered_model
from otr_paper.labs.disputes.world import SEED, START, TERMS, random_tamper, salted_wrongly, tiny, tiny_signed
from otr_paper.studies import dispute_costs
from tests.helpers.tiny_disputes import filed, tiny_court

#: The moves as a court makes them, by name.
table = SimpleNamespace(**{name: rule.make for name, rule in MOVES.items()})
TEMPERATURES = (0, 1500)


@functools.cache
def courts(temperature: int, bits: int) -> Court:
    served = tiny(temperature)
    court = tiny_court(served, replace(TERMS, arity_bits=bits))
    court = court.commit_batch(START, OPERATOR, bytes(32), 1)
    return court.escrow(START, CLIENT, batch_id(OPERATOR, bytes(32)), 12_345)


def conserved(before: Court, after: Court) -> None:
    """To the wei: what came in (a bond) is held, credited or burnt."""
    assert after.held_wei == before.held_wei + before.terms.bond_wei
    for court in (before, after):
        assert all(value >= 0 for value in court.credits.values())


def check_game(served: Served, court: Court, after: Court, log: list[Step], number: int, loser: Verdict) -> None:
    challenge = after.challenges[number - 1]
    assert challenge.game is not None
    assert challenge.game.verdict == loser
    assert challenge.status == (ChallengeStatus.WON if loser == Verdict.OPERATOR_LOSES else ChallengeStatus.LOST)
    counted = dispute_costs.tally(log)
    assert counted.rounds <= dispute_costs.most_rounds(
        served.trees.dims, len(served.honest.fed), court.terms.arity_bits
    )
    conserved(court, after)
    start = log[0].now
    assert log[-1].now - start <= dispute_costs.longest_game_s(court.terms, counted.rounds)
    # whoever ran out of time is the loser, never the side that keeps its clock
    if log[-1].move == ("timeout",):
        assert log[-1].who == ("operator" if loser == Verdict.OPERATOR_LOSES else "challenger")


def paces(random: Random, keeps: str):
    """The side ``keeps`` moves within its increment; the other takes its time, now and then more
    than it has."""

    def pace(who: str) -> int:
        return random.randrange(1, TERMS.increment_s + 1) if who == keeps else random.choice((1, 29, 700))

    return pace


seeds = st.integers(0, 2**40)


# Of the cheats some two thirds reach the trace; with them these are more than 2,000 games.
@settings(max_examples=700)
@given(seeds)
def test_an_honest_operator_beats_every_griefer(seed):
    random = Random(seed)
    served = tiny(random.choice(TEMPERATURES))
    court = courts(served.honest.decoding.temperature_milli, random.randint(1, 6))
    token = random.choice((0, 0, random.randrange(len(served.honest.fed) + 1)))
    start = filed(court, served.honest, token)
    silent = random.choice((10**9, random.randrange(8)))
    after, log = play(
        start.court, start.number, HonestOperator(served.honest), Griefer(random, silent), now=start.now,
        pace_s=paces(random, "operator"),
    )  # fmt: skip
    check_game(served, court, after, log, start.number, Verdict.CHALLENGER_LOSES)
    assert not after.operators[OPERATOR].convicted
    assert after.operators[OPERATOR].stake_wei == court.operators[OPERATOR].stake_wei


@settings(max_examples=1500)
@given(seeds)
def test_a_cheat_in_any_element_is_found_and_judged(seed):
    random = Random(seed)
    served = tiny(random.choice(TEMPERATURES))
    court = courts(served.honest.decoding.temperature_milli, random.randint(1, 6))
    tamper = random_tamper(served, random)
    false = served.run(tamper)
    honest = served.honest
    if false.trace.root == honest.trace.root:  # rounded away: nothing false was committed
        return
    start = filed(court, false)
    after, log = play(
        start.court, start.number, HonestOperator(false), HonestChallenger(honest), now=start.now,
        pace_s=paces(random, "challenger"),
    )  # fmt: skip
    check_game(served, court, after, log, start.number, Verdict.OPERATOR_LOSES)
    game = after.challenges[start.number - 1].game
    assert game is not None
    if log[-1].move != ("timeout",):
        found = (game.position, game.layer, game.operator, game.element)
        assert found == (tamper.position, tamper.layer, tamper.operator, tamper.element)
        bits = court.terms.arity_bits
        expected = dispute_costs.expected_rounds(served.trees.dims, len(honest.fed), game.operator, game.position, bits)
        assert dispute_costs.tally(log).rounds == expected
    assert false.inferences <= 2


@settings(max_examples=500)
@given(seeds)
def test_other_cheats_lose_too(seed):
    """A false token, levels that do not fit, wrong salts, data withheld, stalling."""
    random = Random(seed)
    served = tiny(random.choice(TEMPERATURES))
    court = courts(served.honest.decoding.temperature_milli, random.randint(1, 6))
    cheat = random.choice(("token", "inconsistent", "salt", "withhold"))
    token = 0
    if cheat == "token":
        step = random.randrange(len(served.honest.token_ids))
        wrong = (served.honest.token_ids[step] + random.randrange(1, served.trees.dims.vocab)) % served.trees.dims.vocab
        false = served.with_token(step, wrong)
        honest = served.run(token_ids=false.token_ids)
        token = honest.wrong_token
        assert false.trace.root == honest.trace.root  # the states are right for the tokens
        assert token == len(false.prompt_ids) + step
        operator: HonestOperator = HonestOperator(false)
    elif cheat == "salt":
        false, honest = salted_wrongly(served, random), served.honest
        operator = HonestOperator(false)
    else:
        false = served.run(replace(random_tamper(served, random, pr.LayerOperator.OUTPUT), delta=2**20))
        honest = served.honest
        operator = Inconsistent(false, honest) if cheat == "inconsistent" else Withholder(false, random.randrange(8))
    start = filed(court, false, token)
    after, log = play(
        start.court, start.number, operator, HonestChallenger(honest), now=start.now, pace_s=paces(random, "challenger")
    )  # fmt: skip
    check_game(served, court, after, log, start.number, Verdict.OPERATOR_LOSES)
    if cheat == "salt":
        assert log[-1].move[0] in ("accuse_salt", "timeout")


def test_a_downgraded_model_is_convicted_at_the_first_weight_it_uses():
    """Weights rounded to 8 bits throughout: every leaf differs, and the game ends at a product with
    a false weight."""
    served = tiny()
    whole = {name: packed.dense() for name, packed in served.bench.portable.matrices.items()}
    matrices = {name: pack(((values / 2**9).round() * 2**9).astype(np.int32)) for name, values in whole.items()}
    cheap = replace(served.bench.portable, matrices=matrices)
    run = served.honest
    false = replace(run, model=cheap, trees=commit_model(cheap))
    assert all(a != b for a, b in zip(false.trace.leaves, run.trace.leaves, strict=True))
    for bits in (1, 3):
        start = filed(courts(0, bits), false)
        after, log = play(start.court, start.number, HonestOperator(false), HonestChallenger(run), now=start.now)
        check_game(served, courts(0, bits), after, log, start.number, Verdict.OPERATOR_LOSES)
        game = after.challenges[start.number - 1].game
        assert game is not None
        assert (game.position, game.layer, game.operator) == (0, 0, 0)  # the embedding row itself,
        # which it cannot open under the registered weights
        assert log[-1].refused == "opening root"


def test_silence_costs_what_fraud_costs():
    served = tiny()
    court = courts(0, 2)
    false = served.run(replace(random_tamper(served, Random(1), pr.LayerOperator.OUTPUT), delta=2**20))
    start = filed(court, false)
    ends = []
    for operator in (HonestOperator(false), Withholder(false, 0), Withholder(false, 5)):
        after, _ = play(start.court, start.number, operator, HonestChallenger(served.honest), now=start.now)
        ends.append((after.operators[OPERATOR].stake_wei, after.burnt_wei, dict(after.credits)))
    assert ends[0] == ends[1] == ends[2]


def games() -> list[state.Game]:
    """A game at every level and height, and over."""
    served = tiny()
    seen: dict[tuple[Level, bool, Turn], state.Game] = {}
    start = filed(courts(0, 2), served.honest)
    false = served.run(replace(random_tamper(served, Random(5), pr.LayerOperator.MIXED), delta=2**24))
    bad = filed(courts(0, 2), false)
    demanded = filed(courts(0, 2), served.honest, state.SEED)
    for filing, operator, challenger in (
        (start, HonestOperator(served.honest), Griefer(Random(1))),
        (bad, HonestOperator(false), HonestChallenger(served.honest)),
        (demanded, HonestOperator(served.honest), HonestChallenger(served.honest.with_seed(bytes(32)))),
    ):
        court, log = play(filing.court, filing.number, operator, challenger, now=filing.now)
        for step in log:
            seen.setdefault((step.before.level, step.before.height > 0, step.before.turn), step.before)
        ended = court.challenges[filing.number - 1].game
        assert ended is not None
    return [*seen.values(), ended]


ARGUMENTS = {
    "reveal_seed": (bytes(32),),
    "dispute": (2**31,),
    "retract": (),
    "bisect": ((bytes(32),),),
    "choose": (0, bytes(32), ()),
    "choose_last": (),
    "choose_kept": (),
    "choose_token": (),
    "expand_layer": (bytes(32), (bytes(32),), ()),
    "expand_first": (bytes(32), (bytes(32),), bytes(40), (), ()),
    "show_given": (bytes(40), (), ()),
    "expand_token": (bytes(40), (), (bytes(32),)),
    "expand_operator": ((bytes(32),),),
    "publish": (bytes(64),),
    "element": (2**31, 0),
    "accuse_salt": (bytes(64), bytes(32)),
    "misquoted": (bytes(64),),
    "expand_steps": (b"", bytes(64)),
    "choose_step": (2**31,),
    "prove": (bytes(8), ()),
}
#: Moves that are right at their level without any content.
BARE = {"retract": Level.SEED, "choose_kept": Level.OPERATORS, "choose_last": Level.OPERATORS}
BARE |= {"choose_token": Level.OPERATORS}


def test_the_table_in_words_names_every_move():
    (rows,) = [part for part in table_of_moves.__doc__.split("\n\n") if "    level " in part]
    assert {name for name in MOVES if not re.search(rf"\b{name}\b", rows)} == set()
    assert MOVES.keys() == ARGUMENTS.keys() == ENTERED.keys()


def test_no_move_with_made_up_content_is_accepted_anywhere():
    found = games()
    assert {game.level for game in found} == set(Level)
    for game in found:
        for name in MOVES:
            if BARE.get(name) == game.level and game.turn == Turn.CHALLENGER:
                continue
            with pytest.raises(MoveError) as failure:
                MOVES[name].make(game, *ARGUMENTS[name])
            if game.verdict != Verdict.NONE:
                assert failure.value.reason == "over"
            elif game.turn != MOVES[name].turn:
                assert failure.value.reason == "turn", name


@pytest.mark.parametrize("size", [0, 1, 2_048])
def test_a_move_of_any_length_is_refused_by_name_at_any_place(size):
    """Arguments as long as an attacker likes, 64 kB of hashes among them, and numbers of any size."""
    longest = {bytes: (32 * size * b"\xff",), tuple: (size * (b"\xff" * 32,),), int: (2**255, -1, 2**31)}
    seen = set()
    for game in games():
        for name, args in ARGUMENTS.items():
            if BARE.get(name) == game.level and game.turn == Turn.CHALLENGER:
                continue
            for made in itertools.product(*(longest[type(each)] for each in args)):
                with pytest.raises(MoveError) as failure:
                    MOVES[name].make(game, *made)
                seen.add(failure.value.reason)
    assert len(seen) > 8


def test_moves_at_another_height_of_the_right_level_are_refused():
    """With content that would fit: a leaf is not bisected, and an inner node not opened."""
    for game in games():
        if game.verdict != Verdict.NONE or game.turn != Turn.OPERATOR:
            continue
        moves: list[tuple[str, tuple[object, ...]]] = []
        if game.level in (Level.TRACE, Level.OPERATORS, Level.TILES) and game.height == 0:
            moves.append(("bisect", ((game.node,),)))
        elif game.level in (Level.TRACE, Level.OPERATORS, Level.TILES):
            moves += [("expand_operator", ((),)), ("publish", (bytes(64),))]
            moves.append(("expand_layer", (bytes(32), (bytes(32),), ())))
        for name, args in moves:
            with pytest.raises(MoveError) as failure:
                MOVES[name].make(game, *args)
            assert failure.value.reason == "level", name


def test_what_the_trace_holds_is_disputed_right_after_the_program_is_shown():
    served = tiny()
    start = filed(courts(0, 1), served.honest)
    _, log = play(start.court, start.number, HonestOperator(served.honest), Griefer(Random(3)), now=start.now)
    at = [s.before for s in log if s.before.level == Level.OPERATORS and s.before.turn == Turn.CHALLENGER]
    assert [table.choose_kept(game).operator for game in at] == [len(at[0].program)]
    token = filed(courts(0, 1), served.honest, len(served.honest.prompt_ids))
    _, log = play(token.court, token.number, HonestOperator(served.honest), Griefer(Random(3)), now=token.now)
    (game,) = [s.before for s in log if s.before.level == Level.OPERATORS and s.before.turn == Turn.CHALLENGER]
    refused("level", table.choose_kept, game)
    refused("level", table.choose_token, game)
    for layer_game in at:
        refused("level", table.choose_last, layer_game)
        assert (layer_game.layer == 0) == (_reason(table.choose_token, layer_game) == "")


def test_what_is_shown_must_be_what_was_committed():
    """Every move of real games with one hash or value exchanged: refused, each by its rule."""
    served = tiny()
    false = served.run(replace(random_tamper(served, Random(5), pr.LayerOperator.MIXED), delta=2**24))
    wrong = served.with_token(3, 0)
    reasons: set[tuple[str, str]] = set()
    for run, token in ((false, 0), (wrong, len(wrong.prompt_ids) + 3), (salted_wrongly(served, Random(2)), 0)):
        start = filed(courts(0, 2), run, token)
        honest = served.run(token_ids=run.token_ids) if token else served.honest
        _, log = play(start.court, start.number, HonestOperator(run), HonestChallenger(honest), now=start.now)
        for step in log:
            name, *args = step.move
            for i, arg in enumerate(args):
                if isinstance(arg, bytes) and arg:
                    changed: object = bytes([arg[0] ^ 1]) + arg[1:]
                elif isinstance(arg, tuple) and arg and isinstance(arg[0], bytes):
                    changed = (bytes([arg[0][0] ^ 1]) + arg[0][1:], *arg[1:])
                else:
                    continue
                # What the operator commits to freely may be anything; it is bound from then on.
                free = name in ("expand_layer", "expand_first", "expand_token") and i == (2 if "token" in name else 1)
                reason = _reason(MOVES[name].make, step.before, *args[:i], changed, *args[i + 1 :])
                inner = name == "expand_steps" and i == 1
                assert free or inner or reason, (name, i)
                reasons.add((name, reason))
    assert {
        ("bisect", "children"), ("choose", "path"), ("expand_layer", "content"), ("expand_token", "path"),
        ("expand_operator", "content"), ("publish", "tile"), ("accuse_salt", "tile"), ("accuse_salt", "seed"),
        ("expand_steps", "points"), ("prove", "points"),
    } <= reasons  # fmt: skip


def _reason(move, *args) -> str:
    try:
        move(*args)
    except MoveError as error:
        return error.reason
    return ""


def refused(reason: str, move, *args) -> None:
    with pytest.raises(MoveError) as failure:
        move(*args)
    assert failure.value.reason == reason


def played(run: Run, honest: Run, token: int = 0, bits: int = 2) -> dict[str, Step]:
    """A game to its end; its last step of each move."""
    start = filed(courts(run.decoding.temperature_milli, bits), run, token)
    _, log = play(start.court, start.number, HonestOperator(run), HonestChallenger(honest), now=start.now)
    return {step.move[0]: step for step in log}


def test_sizes_and_places_are_checked():
    served = tiny()
    false = served.run(replace(random_tamper(served, Random(5), pr.LayerOperator.SHARES), delta=2**18))
    log = played(false, served.honest)
    game, move = log["element"].before, log["element"].move
    for number in (-1, served.trees.dims.heads, 10**9):  # the tile of shares has one value a head
        refused("element", table.element, game, number, move[2])
    for value in (-(2**63) - 1, 2**63, 10**40):
        refused("value", table.element, game, move[1], value)
    data = log["publish"].move[1]
    refused("level", table.accuse_salt, game, data, SEED)
    game = log["publish"].before
    assert game.level == Level.OPERATORS  # a single tile: nothing to choose
    refused("level", table.expand_operator, game, (bytes(32),))
    refused("tile", table.publish, game, bytes(len(data)))
    refused("tile length", table.publish, game, data[:-8])
    game = log["expand_layer"].before if "expand_layer" in log else log["expand_first"].before
    refused("level", table.expand_token, game, *served.honest.token(5), (bytes(32),))
    wrong = served.with_token(3, 0)
    log = played(wrong, served.run(token_ids=wrong.token_ids), len(wrong.prompt_ids) + 3)
    game, move = log["expand_token"].before, log["expand_token"].move
    refused("content", table.expand_token, game, move[1] + bytes(8), *move[2:])
    refused("children", table.expand_token, game, *move[1:3], (*move[3], bytes(32)))
    refused("level", table.expand_layer, game, move[1][:32], move[3], ())
    refused("level", table.show_given, game, *move[1:3], ())


def test_each_first_layer_opens_its_token_and_no_other_does():
    served = tiny()
    tamper = replace(random_tamper(served, Random(5), pr.LayerOperator.OUTPUT), delta=2**20)
    for layer in (0, 1):
        log = played(served.run(replace(tamper, layer=layer)), served.honest)
        name, other = ("expand_first", "expand_layer") if layer == 0 else ("expand_layer", "expand_first")
        game, move = log[name].before, log[name].move
        given = (*move[1:3], ()) if layer == 0 else (*move[1:3], *served.honest.token(game.position), ())
        refused("level", MOVES[other].make, game, *given)
        if layer == 0:
            data, path, known = move[3:]
            assert known == ()
            refused("content", table.expand_first, game, *move[1:3], data[:-1], path, ())
            refused("path", table.expand_first, game, *move[1:3], data, path[:-1], ())
            refused("path", table.expand_first, game, *move[1:3], *served.honest.token(game.position + 1), ())


def test_a_state_that_is_named_at_once_is_opened_with_its_path():
    served = tiny()
    run, signed, model = served.honest, tiny_signed(served.honest), registered_model(served.trees)
    size = run.states.size
    refused("token", open_game, signed.order, signed.receipt, model, 2, STATES + size)
    for leaf in (4 * run.trace.shape.layers, size - 1):
        game = open_game(signed.order, signed.receipt, model, 2, STATES + leaf)
        name, content, children, *rest = HonestOperator(run).move(game)
        make = MOVES[name].make
        assert make(game, content, children, *rest).leaf == leaf
        for other in ((), rest[-1][1:], (*rest[-1], rest[-1][0]), tuple(run.states.path(leaf - 1))):
            refused("path", make, game, content, children, *rest[:-1], other)
        refused("path", make, game, bytes(32), children, *rest)
        refused("content", make, game, content[:31], children, *rest)
        # walked down to, it is known
        known = replace(game, node=run.states.node(0, leaf))
        assert make(known, content, children, *rest[:-1], ()).leaf == leaf
        refused("path", make, known, content, children, *rest)
        refused("content", make, known, bytes(32), children, *rest[:-1], ())


def test_accumulators_are_bound_and_lists_have_their_length():
    served = tiny()
    false = served.run(replace(random_tamper(served, Random(5), pr.LayerOperator.MIXED), delta=2**24))
    log = played(false, served.honest)
    game, (_, before, points) = log["expand_steps"].before, log["expand_steps"].move
    assert before == b""
    for other in (points[:-8], points + bytes(8), bytes([1]) + points[1:], points[:-1] + bytes([points[-1] ^ 1]), b""):
        refused("points", table.expand_steps, game, b"", other)
    refused("points", table.expand_steps, game, points, points)
    shown = table.expand_steps(game, b"", points)
    for number in (-1, game.size, 10**9):
        refused("child", table.choose_step, shown, number)
    game, move = log["prove"].before, log["prove"].move
    refused("points", table.prove, game, b"", move[2])
    refused("points", table.prove, game, points[:-8] + bytes(8), move[2])
    refused("level", table.misquoted, game, bytes(64))


def test_a_long_accumulation_is_narrowed_in_two_lists_and_each_holds_the_last():
    """More steps than a list has intervals: the second list lies between two entries of the
    first."""
    served = tiny()
    false = served.run(replace(random_tamper(served, Random(5), pr.LayerOperator.MIXED), delta=2**24))
    game = replace(played(false, served.honest)["expand_steps"].before, size=1000)
    assert len(places(game)) == 251
    entry = struct.Struct(">q")
    points = bytes(8) + b"".join(entry.pack(n) for n in range(249)) + entry.pack(game.value)
    game = table.choose_step(table.expand_steps(game, b"", points), 7)
    assert (game.index, game.size, game.level) == (28, 4, Level.STEPS)
    inside = points[56:64] + bytes(24) + points[64:72]
    refused("points", table.expand_steps, game, b"", inside)
    refused("points", table.expand_steps, game, points, bytes(8) + inside[8:])
    refused("points", table.expand_steps, game, points, inside[:-8] + bytes(8))
    game = table.choose_step(table.expand_steps(game, points, inside), 2)
    assert (game.index, game.size, game.step, game.level) == (30, 1, 30, Level.LEAF)
    refused("points", table.prove, game, points, ())


def test_a_token_that_was_walked_down_to_is_the_node_and_has_no_path():
    served = tiny()
    wrong = served.with_token(3, 0)
    log = played(wrong, served.run(token_ids=wrong.token_ids), len(wrong.prompt_ids) + 3)
    game, (_, data, path, children) = log["expand_token"].before, log["expand_token"].move
    known = replace(game, node=merkle.leaf_hash(data))
    assert table.expand_token(known, data, (), children).kept == known.node
    refused("path", table.expand_token, known, data, path, children)
    for at in (0, 32, 36):  # salt, id, number
        refused("path", table.expand_token, known, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], (), children)


def test_a_token_leaf_is_accused_of_its_salt_alone():
    """By the leaf that was shown and the trace's seed; an operator that salts as it likes loses."""
    served = tiny()
    wrong = served.with_token(3, 0)
    log = played(wrong, served.run(token_ids=wrong.token_ids), len(wrong.prompt_ids) + 3)
    game, (_, data, _, children) = log["expand_token"].before, log["expand_token"].move
    for salt in (data[:32], bytes(32), served.honest.token(game.leaf - 1)[0][:32]):
        own = salt + data[32:]
        shown = table.expand_token(replace(game, node=merkle.leaf_hash(own)), own, (), children)
        refused("tile", table.accuse_salt, shown, bytes([own[0] ^ 1]) + own[1:], SEED)
        refused("seed", table.accuse_salt, shown, own, bytes(32))
        refused("seed", table.accuse_salt, shown, own, SEED + b"0")
        if salt == data[:32]:
            refused("salt", table.accuse_salt, shown, own, SEED)
        else:
            assert table.accuse_salt(shown, own, SEED).verdict == Verdict.OPERATOR_LOSES


def test_a_layer_right_after_its_program_is_not_accused_of_a_salt():
    """Of a trace leaf with a single piece, the content is the hash of that piece's leaf: whoever
    showed it as a token's would call a right salt wrong."""
    served = tiny()
    tamper = replace(random_tamper(served, Random(5), pr.LayerOperator.OUTPUT), delta=2**20, layer=1)
    log = played(served.run(tamper), served.honest)
    shown = table.expand_layer(log["expand_layer"].before, *log["expand_layer"].move[1:])
    piece = served.honest.piece(shown.position, shown.layer, 0)[0]
    refused("level", table.accuse_salt, replace(shown, kept=merkle.leaf_hash(piece)), piece, SEED)


def test_of_several_tiles_none_is_published_as_the_only_one():
    """Even under a leaf that commits to one tile: the others would never have been shown."""
    served = tiny()
    false = served.run(replace(random_tamper(served, Random(5), pr.LayerOperator.MIXED), delta=2**24))
    game = replace(played(false, served.honest)["publish"].before, height=0, level=Level.OPERATORS)
    several = [n for n, op in enumerate(game.program) if game.model.dims.tiles(op.length) > 1]
    assert several
    data = bytes(8 * game.model.dims.tile)
    node = merkle.leaf_hash(merkle.leaf_hash(data))
    for number in several:
        refused("level", table.publish, replace(game, operator=number, node=node), data)


def test_a_value_of_one_step_is_proven_without_accumulators():
    served = tiny()
    false = served.run(replace(random_tamper(served, Random(5), pr.LayerOperator.SHARES), delta=2**18))
    log = played(false, served.honest)
    game, (_, points, openings) = log["prove"].before, log["prove"].move
    assert (game.interval, points) == (-1, b"")
    for other in (b"\0", bytes(16)):
        refused("points", table.prove, game, other, openings)
    assert table.prove(game, b"", openings).verdict == Verdict.OPERATOR_LOSES


def test_a_false_quotation_loses_and_a_true_one_cannot_be_called_false():
    served = tiny()
    for operator in (pr.LayerOperator.SHARES, pr.LayerOperator.MIXED, pr.LayerOperator.PRODUCT):
        false = served.run(replace(random_tamper(served, Random(5), operator), delta=2**24))
        log = played(false, served.honest)
        game, (_, number, value) = log["element"].before, log["element"].move
        data = log["publish"].move[1]
        refused("quoted", table.misquoted, table.element(game, number, value), data)
        lied = table.element(game, number, value + 1)
        refused("tile", table.misquoted, lied, bytes(len(data)))
        assert table.misquoted(lied, data).verdict == Verdict.CHALLENGER_LOSES
        assert HonestOperator(false).move(lied) == ("misquoted", data)


@pytest.mark.parametrize(
    ("bits", "token", "reason"), [(0, 0, "arity"), (10**9, 0, "arity"), (2, 99, "token"), (2, -1, "token")]
)
def test_unusable_games_are_not_started(bits, token, reason):
    served = tiny()
    signed = tiny_signed(served.honest)
    with pytest.raises(MoveError) as failure:
        open_game(signed.order, signed.receipt, registered_model(served.trees), bits, token)
    assert failure.value.reason == reason


def test_a_choice_must_be_of_what_was_shown():
    served = tiny()
    start = filed(courts(0, 2), served.honest)
    court = start.court
    shown = _first(served.honest, 2)
    court = court.move(start.now + 1, OPERATOR, start.number, "bisect", shown)
    for move, reason in (
        (("choose", 4, shown[0], ()), "child"),
        (("choose", -1, shown[0], ()), "child"),
        (("choose", 0, bytes(32), choice(shown, 0)[3]), "path"),
        (("choose", 1, *choice(shown, 0)[2:]), "path"),
        (("choose", 0, shown[0], choice(shown, 0)[3][:-1]), "path"),
        (("choose_kept",), "level"),
    ):
        with pytest.raises(MoveError) as failure:
            court.move(start.now + 2, FISHERMAN, start.number, *move)
        assert failure.value.reason == reason
    assert court.move(start.now + 2, FISHERMAN, start.number, *choice(shown, 1)) != court


def _first(run: Run, bits: int) -> tuple[bytes, ...]:
    tree = run.states
    return tree.children((tree.size - 1).bit_length(), 0, bits)


def test_a_given_token_was_not_chosen():
    served = tiny()
    start = filed(courts(0, 2), served.honest, token=2)  # of the prompt
    after, log = play(start.court, start.number, HonestOperator(served.honest), Griefer(Random(1)), now=start.now)
    assert [step.move[0] for step in log] == ["show_given"]
    assert after.challenges[start.number - 1].status == ChallengeStatus.LOST


@settings(max_examples=40)
@given(seeds)
def test_bytes_are_the_closed_form(seed):
    random = Random(seed)
    served, bits = tiny(), random.randint(1, 6)
    tamper = random_tamper(served, random, random.choice((None, pr.LayerOperator.OUTPUT)))
    false = served.run(replace(tamper, delta=2**22))
    if false.trace.root == served.honest.trace.root:
        return
    start = filed(courts(0, bits), false)
    _, log = play(start.court, start.number, HonestOperator(false), HonestChallenger(served.honest), now=start.now)
    counted = sum(step.payload_bytes for step in log[:-1])
    place = log[-1].before.place
    assert log[-1].move[0] == "prove"
    assert counted == dispute_costs.expected_bytes(served.trees.dims, len(served.honest.fed), place, bits)
    if place.operator == pr.LayerOperator.OUTPUT:
        assert log[-1].payload_bytes == dispute_costs.opening_bytes(served.trees.dims, place)


def test_levels_bound_covers_all_operators():
    d = tiny().trees.dims
    for bits in range(1, 7):
        for position in (0, 5, 12):
            for number in range(len(pr.layer_program(d, position)) + 1):
                rounds = dispute_costs.expected_rounds(d, 13, number, position, bits)
                assert rounds <= dispute_costs.most_rounds(d, 13, bits)
