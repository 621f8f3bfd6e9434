"""Random games to the end, and moves that are not allowed."""

from __future__ import annotations

import functools
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otr_core.dispute import game as table
from otr_core.dispute import state
from otr_core.dispute.court import Court
from otr_core.dispute.game import MOVES
from otr_core.dispute.play import Step, play
from otr_core.dispute.players import HonestChallenger, HonestOperator, choice
from otr_core.dispute.records import ChallengeStatus
from otr_core.dispute.state import Level, Turn, Verdict
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

TEMPERATURES = (0, 1500)


@functools.cache
def courts(temperature: int, bits: int) -> Court:
    served = tiny(temperature)
    court = tiny_court(served, replace(TERMS, arity_bits=bits))
    court = court.commit_batch(START, OPERATOR, bytes(32), 1)
    return court.escrow(START, CLIENT, 0, 12_345)


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
    for filing, operator, challenger in (
        (start, HonestOperator(served.honest), Griefer(Random(1))),
        (bad, HonestOperator(false), HonestChallenger(served.honest)),
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
    "withdraw": (),
    "bisect": ((bytes(32),),),
    "choose": (0, bytes(32), ()),
    "choose_last": (),
    "choose_kept": (),
    "choose_token": (),
    "expand_layer": (bytes(32), (bytes(32),)),
    "expand_first": (bytes(32), (bytes(32),), bytes(40), ()),
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
BARE = {"withdraw": Level.SEED, "choose_kept": Level.OPERATORS, "choose_last": Level.OPERATORS}
BARE |= {"choose_token": Level.OPERATORS}


def test_the_table_in_words_names_every_move():
    rows = table.__doc__.split("\n\n")[-2]
    assert {name for name in MOVES if name not in rows} == set()
    assert MOVES.keys() == ARGUMENTS.keys()


def test_no_move_with_made_up_content_is_accepted_anywhere():
    found = games()
    assert {game.level for game in found} == set(Level)
    for game in found:
        for name in MOVES:
            if BARE.get(name) == game.level and game.turn == Turn.CHALLENGER:
                continue
            with pytest.raises(MoveError) as failure:
                getattr(table, name)(game, *ARGUMENTS[name])
            if game.verdict != Verdict.NONE:
                assert failure.value.reason == "over"
            elif game.turn != MOVES[name].turn:
                assert failure.value.reason == "turn", name


def test_moves_at_another_height_of_the_right_level_are_refused():
    """With content that would fit: a leaf is not bisected, and an inner node not opened."""
    for game in games():
        if game.verdict != Verdict.NONE or game.turn != Turn.OPERATOR:
            continue
        moves: list[tuple[str, tuple[object, ...]]] = []
        if game.level in (Level.TRACE, Level.OPERATORS, Level.TILES) and game.height == 0:
            moves.append(("bisect", ((game.node,),)))
        elif game.level in (Level.TRACE, Level.OPERATORS, Level.TILES):
            moves += [("expand_operator", (bytes(32), ())), ("publish", (bytes(64),))]
            moves.append(("expand_layer", (bytes(32), bytes(32), (bytes(32),))))
        for name, args in moves:
            with pytest.raises(MoveError) as failure:
                getattr(table, name)(game, *args)
            assert failure.value.reason == "level", name


def test_what_the_trace_holds_is_disputed_right_after_the_program_is_shown():
    served = tiny()
    start = filed(courts(0, 1), served.honest)
    _, log = play(start.court, start.number, HonestOperator(served.honest), Griefer(Random(3)), now=start.now)
    at = [s.before for s in log if s.before.level == Level.OPERATORS and s.before.turn == Turn.CHALLENGER]
    assert table.choose_kept(at[0]).operator == len(at[0].program)
    for game in at[1:]:
        with pytest.raises(MoveError) as failure:
            table.choose_kept(game)
        assert failure.value.reason == "level"
    assert len(at) > 1


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
                if isinstance(arg, bytes):
                    changed: object = bytes([arg[0] ^ 1]) + arg[1:]
                elif isinstance(arg, tuple) and arg and isinstance(arg[0], bytes):
                    changed = (bytes([arg[0][0] ^ 1]) + arg[0][1:], *arg[1:])
                else:
                    continue
                with pytest.raises(MoveError) as failure:
                    getattr(table, name)(step.before, *args[:i], changed, *args[i + 1 :])
                reasons.add((name, failure.value.reason))
    assert {
        ("bisect", "children"), ("choose", "path"), ("expand_layer", "content"),
        ("expand_layer", "children"), ("expand_token", "path"), ("expand_operator", "content"), ("publish", "tile"),
        ("element", "tile"), ("accuse_salt", "tile"), ("accuse_salt", "seed"), ("expand_steps", "children"),
    } <= reasons  # fmt: skip


def refused(reason: str, move, *args) -> None:
    with pytest.raises(MoveError) as failure:
        move(*args)
    assert failure.value.reason == reason


def test_sizes_and_places_are_checked():
    served = tiny()
    false = served.run(replace(random_tamper(served, Random(5), pr.LayerOperator.SHARES), delta=2**18))
    start = filed(courts(0, 2), false)
    _, log = play(start.court, start.number, HonestOperator(false), HonestChallenger(served.honest), now=start.now)
    before = {step.move[0]: (step.before, step.move) for step in log}
    game, move = before["element"]
    for number in (-1, served.trees.dims.heads, 10**9):  # the tile of shares has one value a head
        refused("element", table.element, game, number, move[2])
    refused("level", table.accuse_salt, game, move[2], SEED)
    game, move = before["expand_operator"]
    assert move[2] == ()  # a single tile: nothing to choose
    refused("children", table.expand_operator, game, move[1], (move[1],))
    game, _ = before["expand_layer"]
    refused("level", table.expand_token, game, *served.honest.token(5), bytes(32), (bytes(32),))
    wrong = served.with_token(3, 0)
    start = filed(courts(0, 2), wrong, len(wrong.prompt_ids) + 3)
    honest = served.run(token_ids=wrong.token_ids)
    _, log = play(start.court, start.number, HonestOperator(wrong), HonestChallenger(honest), now=start.now)
    game, move = log[0].before, log[0].move
    refused("content", table.expand_token, game, move[1] + bytes(8), *move[2:])
    refused("level", table.expand_layer, game, move[1][:32], *move[3:])


def test_steps_are_committed_once_and_before_they_are_bisected():
    served = tiny()
    false = served.run(replace(random_tamper(served, Random(5), pr.LayerOperator.MIXED), delta=2**24))
    start = filed(courts(0, 1), false)
    _, log = play(start.court, start.number, HonestOperator(false), HonestChallenger(served.honest), now=start.now)
    at = [step.before for step in log if step.before.level == Level.STEPS and step.before.turn == Turn.OPERATOR]
    for game, move in ((at[0], ("bisect", (bytes(32),) * 2)), (at[1], ("expand_steps", bytes(32), ()))):
        with pytest.raises(MoveError) as failure:
            getattr(table, move[0])(game, *move[1:])
        assert failure.value.reason == "level"


@pytest.mark.parametrize(
    ("bits", "token", "reason"), [(0, 0, "arity"), (10**9, 0, "arity"), (2, 99, "token"), (2, -1, "token")]
)
def test_unusable_games_are_not_started(bits, token, reason):
    served = tiny()
    signed = tiny_signed(served.honest)
    with pytest.raises(MoveError) as failure:
        table.open_game(signed.order, signed.receipt, registered_model(served.trees), bits, token)
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
    assert [step.move[0] for step in log] == ["expand_token"]
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
