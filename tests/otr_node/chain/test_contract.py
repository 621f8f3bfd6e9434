"""The contract against the Python court: move by move, reason by reason, wei by wei."""

from __future__ import annotations

import re
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path
from random import Random

import pytest
from eth_utils.abi import function_signature_to_4byte_selector

from otr_core import merkle
from otr_core.dispute import game as table
from otr_core.dispute.accounts import MOST_WEI, batch_id
from otr_core.dispute.duties import challenge_hash, two_keys
from otr_core.dispute.judge import Opening, verdict
from otr_core.dispute.openings import Openings
from otr_core.dispute.play import play
from otr_core.dispute.players import HonestChallenger, HonestOperator, choice
from otr_core.dispute.records import ChallengeStatus, Terms
from otr_core.dispute.state import STATES, Verdict
from otr_core.errors import ChainError, MoveError
from otr_core.lane import program as pr
from otr_core.lane.dims import Dims
from otr_core.lane.element import LAYER, TOKEN, Accumulator, Place
from otr_core.lane.program import Kind
from otr_core.lane.step import right
from otr_core.lane.tensor_steps import LANE
from otr_core.poea.receipt import GROUP_ORDER
from otr_node.chain.evm import Chain, compile_vyper, signature_hash
from otr_node.chain.onchain import FIRST_COURT, FOLDER, NOBODY, ChainCourt, struct_words
from otr_node.execution import Execution
from otr_paper.benches.judge_steps import DrawnProgram
from otr_paper.labs.disputes.both import Both, both
from otr_paper.labs.disputes.cheats import Griefer
from otr_paper.labs.disputes.differential import differential_game
from otr_paper.labs.disputes.parties import CLIENT, FISHERMAN, OPERATOR, OTHER, leaf_of
from otr_paper.labs.disputes.world import TERMS, random_tamper, tiny, tiny_signed
from tests.helpers.ends import ends_of

pytestmark = pytest.mark.slow
SALT = b"s" * 32


@pytest.fixture(scope="module")
def pair() -> Both:
    """One pair of courts for everything that leaves the operator standing."""
    return both(tiny().honest, TERMS)


@pytest.mark.parametrize(
    ("lane", "number"), [*((Dims.lane, number) for number in range(26)), *((LANE, number) for number in range(10))]
)
def test_a_random_game_goes_the_same_way_in_both(lane, number, pair_for):
    """Honest, cheating, silent and inconsistent players, at either temperature; money compared
    after every move."""
    differential_game(number, partial(pair_for, lane), lane=lane)


@pytest.fixture(scope="module")
def pair_for():
    """Courts by lane, temperature and arity; a convicted operator's are replaced."""
    made: dict[tuple[str, int, int], Both] = {}

    def find(lane: str, temperature: int, bits: int) -> Both:
        key = (lane, temperature, bits)
        old = made.get(key)
        if old is None or old.court.operators[old.names[OPERATOR]].convicted:
            made[key] = both(tiny(temperature, lane=lane).honest, replace(TERMS, arity_bits=bits))
        return made[key]

    return find


def test_every_primitive_is_judged_the_same(pair):
    """Right steps and steps with a changed value, one of each operator, straight at the judge."""
    judge = pair.chain.judges[tiny().bench.model.manifest.model_id]
    served, random = tiny(), Random(7)
    d, claim = served.trees.dims, served.honest.claim
    for target, position, layer in ((LAYER, 9, 0), (LAYER, 12, 2), (TOKEN, 8, 2)):
        done = served.honest.execution(target, position, layer)
        for number, op in enumerate(done.program):
            element = random.randrange(op.length)
            step = random.randrange(op.steps + 1) if op.steps > 1 else 0
            before, after = ends_of(done, number, element, step)
            for change in (0, 1):
                value = int(done.vectors[number][element]) + change
                place = Place(target, position, layer, number, element, step, value, token_step=done.token_step)
                reader = Openings(done, place, piece=served.honest.piece, token=served.honest.token)
                expected = right(d, claim, place, reader)
                words = (target, position, layer, number, element, step, 0, done.token_step, value)
                roots = (
                    claim.states_root,
                    claim.tokens_root,
                    done.operators.root,
                    *before,
                    *after,
                    *astuple(claim)[3:],
                )
                openings = [(o.data, list(o.proof)) for o in reader.made]
                assert pair.chain.chain.call(judge, "judge", words, roots, openings) == expected, op.name
                for i, opening in enumerate(openings):
                    false = (opening[0][:-1] + bytes([opening[0][-1] ^ 1]), opening[1])
                    with pytest.raises(ChainError, match="opening root"):
                        pair.chain.chain.call(judge, "judge", words, roots, [*openings[:i], false, *openings[i + 1 :]])
                for others in (openings[:-1], [*openings, openings[-1]]) if openings else ():
                    with pytest.raises(ChainError):
                        pair.chain.chain.call(judge, "judge", words, roots, others)
                if change and openings:  # paths of other lengths, for the same reason in Python
                    (data, path), ends = openings[0], (before, after)
                    under = {"weights_root": served.trees.weights_root, "tables_root": served.trees.tables_root}
                    for wrong in ([], path[:-1], [*path, bytes(32)]):
                        false = [Opening(data, tuple(wrong)), *reader.made[1:]]
                        with pytest.raises(MoveError) as ours:
                            verdict(d, claim, place, false, **under, operators_root=done.operators.root, ends=ends)
                        shown = [(o.data, list(o.proof)) for o in false]
                        with pytest.raises(ChainError) as theirs:
                            pair.chain.chain.call(judge, "judge", words, roots, shown)
                        assert theirs.value.check == ours.value.reason


def test_places_and_openings_beyond_what_there_is_are_refused_by_the_judge(pair):
    """At the judge itself, as the table comes to no such place."""
    judge = pair.chain.judges[tiny().bench.model.manifest.model_id]
    made = DrawnProgram(tiny().trees, LAYER, 5, 1, Random(1))
    steps = list(made.steps(1))
    kept, gate = steps[-1], next(each for each in steps if each.kind == Kind.GATE)
    shown, tile = kept.opened()[1], Opening(b"", ())
    sources = made.program[gate.place.operator].reads[0]
    beyond = replace(gate.place, element=made.program[sources].length)
    for reason, step, openings in (
        ("openings", kept, [*shown, shown[0]]),
        ("operator", replace(kept, place=replace(kept.place, operator=len(made.program) + 1)), shown),
        ("index", replace(gate, place=beyond), [tile] * 4),
    ):
        with pytest.raises(ChainError) as failure:
            pair.chain.chain.call(judge, "judge", *step.words(openings))
        assert failure.value.check == reason
    assert pair.chain.chain.call(judge, "judge", *kept.words(shown))


class Indexed(Execution):
    """An execution whose published accumulators carry indices, right and wrong ones, and now and
    then another value."""

    def accumulators(self, operator: int, element: int) -> list[Accumulator]:
        random = Random(f"{operator} {element}")
        honest = super().accumulators(operator, element)
        return [(a + random.choice((0, 0, 0, 1)), random.choice((b, 0, 3))) for a, b in honest]


@pytest.mark.parametrize(("temperature", "where"), [(0, (LAYER, 12, 2)), (0, (TOKEN, 8, 2)), (1500, (TOKEN, 8, 2))])
def test_an_index_among_accumulators_is_judged_the_same(temperature, where):
    """Random steps over accumulators with indices: where no choice is made, the next index is 0."""
    served, random, seen = tiny(temperature), Random(5), set()
    pair = both(served.honest, TERMS)
    judge = pair.chain.judges[served.bench.model.manifest.model_id]
    d, claim, honest = served.trees.dims, served.honest.claim, served.honest.execution(*where)
    done = Indexed(honest.lane, honest.model, claim, *where, honest.inputs, honest.token_step)
    several = [number for number, op in enumerate(done.program) if op.steps > 1]
    for number in several * 12:
        op = done.program[number]
        element, step = random.randrange(op.length), random.randrange(op.steps + 1)
        value = int(done.vectors[number][element])
        place = Place(*where, number, element, step, value, token_step=done.token_step)
        reader = Openings(done, place, piece=served.honest.piece, token=served.honest.token)
        expected = right(d, claim, place, reader)
        words = (*where, number, element, step, 0, done.token_step, value)
        before, after = ends_of(done, number, element, step)
        roots = (claim.states_root, claim.tokens_root, done.operators.root, *before, *after, *astuple(claim)[3:])
        openings = [(o.data, list(o.proof)) for o in reader.made]
        assert pair.chain.chain.call(judge, "judge", words, roots, openings) == expected, (op.name, step)
        seen.add(expected)
    assert seen == {True, False}


def test_calls_that_break_a_rule_are_refused_alike_and_change_nothing(pair):
    chain = pair.chain.chain
    signed = tiny_signed(tiny().honest)
    root = merkle.root([leaf_of(signed)])
    now = chain.time + 1
    batch, bond = batch_id(pair.names[OPERATOR], root), TERMS.bond_wei
    assert pair.do(now, OPERATOR, "commit_batch", root, 1) == ""
    number = len(pair.court.challenges) + 1
    commitment = challenge_hash(pair.names[FISHERMAN], batch, 0, 0, SALT)
    opening = _opening(pair, signed)
    run = tiny().honest
    shown = run.states.children(merkle.height(run.states.size), 0, TERMS.arity_bits)
    other = replace(signed.order, nonce=bytes(32))
    for step, (expected, sender, name, args, more) in enumerate(
        [
            ("size", OPERATOR, "commit_batch", (root, 0), {}),
            ("standing", OTHER, "commit_batch", (root, 1), {}),
            ("stake", OTHER, "register", (), {"value": 5}),
            ("batch", CLIENT, "escrow", (bytes(32),), {"value": 5}),
            ("", CLIENT, "escrow", (batch,), {"value": 900}),
            ("", OTHER, "escrow", (batch,), {"value": 70}),
            ("escrow", CLIENT, "escrow", (batch,), {"value": 0}),
            ("cap", OTHER, "escrow", (batch,), {"value": 10**20}),
            ("batch", OPERATOR, "commit_batch", (root, 1), {}),
            ("early", OTHER, "finalise", (batch,), {}),
            ("void", OTHER, "refund", (batch,), {}),
            ("bond", FISHERMAN, "challenge", (commitment,), {"value": bond - 1}),
            ("", FISHERMAN, "challenge", (commitment,), {"value": bond}),
            ("sender", OTHER, "open", (number,), opening),
            ("commitment", FISHERMAN, "open", (number,), {**opening, "token": 1}),
            ("order", FISHERMAN, "open", (number,), {**opening, "order": other}),
            ("order", FISHERMAN, "open", (number,), {**opening, "receipt": replace(signed.receipt, order_id=other.id)}),
            ("path", FISHERMAN, "open", (number,), {**opening, "signature": bytes(65)}),
            ("path", FISHERMAN, "open", (number,), {**opening, "signature": signed.signature[:64]}),
            ("path", FISHERMAN, "open", (number,), {**opening, "path": (bytes(32),)}),
            ("challenge", FISHERMAN, "open", (number + 1,), opening),
            ("early", OTHER, "expire", (number,), {}),
            ("", FISHERMAN, "open", (number,), opening),
            ("opened", FISHERMAN, "open", (number,), opening),
            ("sender", FISHERMAN, "move", (number, "bisect", shown), {}),
            ("turn", FISHERMAN, "move", (number, "choose_kept"), {}),
            ("level", OPERATOR, "move", (number, "prove", b"", ()), {}),
            ("level", OPERATOR, "move", (number, "expand_steps", b"", bytes(32)), {}),
            ("children", OPERATOR, "move", (number, "bisect", (bytes(32),) * 3), {}),
            ("children", OPERATOR, "move", (number, "bisect", (bytes(32),) * 4), {}),
            ("early", OTHER, "timeout", (number,), {}),
            ("sender", OTHER, "close", (number,), {}),
            ("over", FISHERMAN, "close", (number,), {}),
            ("reward", OTHER, "pay_reward", (OPERATOR,), {}),
            ("standing", OTHER, "pay_reward", (CLIENT,), {}),
            ("frozen", OPERATOR, "commit_batch", (bytes(32), 1), {}),
            ("opened", OTHER, "expire", (number,), {}),
            ("credit", OTHER, "withdraw", (), {}),
            ("exit", OPERATOR, "withdraw_stake", (), {}),
        ]
    ):  # fmt: skip
        assert pair.do(now + 1 + step, sender, name, *args, **more) == expected, (name, args)
    now += 60
    assert pair.do(now, OPERATOR, "move", number, "bisect", shown) == ""
    path = tuple(merkle.inclusion_proof_of_hashes(shown, 1))
    for step, (expected, move) in enumerate(
        [
            ("child", ("choose", 4, shown[0], path)),
            ("path", ("choose", 0, shown[1], path)),
            ("path", ("choose", 1, shown[1], path[:-1])),
            ("level", ("choose_kept",)),
            ("level", ("element", 0, 0)),
            ("", ("choose", 1, shown[1], path)),
        ]
    ):
        assert pair.do(now + 1 + step, FISHERMAN, "move", number, *move) == expected, move
    late = now + 100 + TERMS.clock_s
    assert pair.do(late, OPERATOR, "move", number, "bisect", shown) == "late"


def test_tokens_drawn_for_another_order_are_found_on_chain():
    """An operator that tries orders (or seeds) until it likes the answer: the draws of this order
    are others."""
    served = tiny(1500)
    liked = served.answered_by(served.bench, order_id=bytes(32)).token_ids
    assert liked != served.answer.token_ids
    false = replace(served.run(token_ids=liked), order_id=bytes(32))
    right = served.run(token_ids=liked)
    pair = both(served.honest, TERMS)
    number, now = pair.open_challenge(tiny_signed(false), [], token=right.wrong_token, salt=SALT)
    players = HonestOperator(false), HonestChallenger(right)
    _, log = play(pair.court, number, *players, now=now, observe=pair.observe)
    assert pair.court.operators[pair.names[OPERATOR]].convicted
    assert log[-1].move[0] == "prove"
    place = log[-1].before.place
    assert log[-1].before.program[place.operator].kind == pr.Kind.DRAW


@pytest.mark.parametrize(("token", "cut", "reason"), [(0, 1, "path"), (16, 0, "token"), (15, 0, "")])
def test_no_game_about_half_a_signature_or_a_token_that_the_answer_lacks(token, cut, reason):
    pair = both(tiny().honest, TERMS)
    assert tiny().honest.trace.shape.positions == 15
    signed = tiny_signed(tiny().honest)
    signed = replace(signed, signature=signed.signature[: 65 - cut])
    batch, now = _opening(pair, signed)["batch"], pair.chain.chain.time + 1
    commitment = challenge_hash(pair.names[FISHERMAN], batch, 0, token, SALT)
    assert pair.do(now, OPERATOR, "commit_batch", merkle.root([leaf_of(signed)]), 1) == ""
    assert pair.do(now + 1, FISHERMAN, "challenge", commitment, value=TERMS.bond_wei) == ""
    assert pair.do(now + 2, FISHERMAN, "open", 1, **_opening(pair, signed) | {"token": token}) == reason


def test_a_state_that_is_named_at_once_is_opened_with_its_path_in_both():
    """Of a first layer and of another one, and none beyond the answer's states."""
    pair, run = both(tiny().honest, TERMS), tiny().honest
    layers, size = run.trace.shape.layers, run.states.size
    signed, now = tiny_signed(run), pair.chain.chain.time + 1
    opening = _opening(pair, signed)
    assert pair.do(now, OPERATOR, "commit_batch", merkle.root([leaf_of(signed)]), 1) == ""
    for number, leaf in enumerate((3 * layers, 3 * layers + 1, size), 1):
        now += 20
        commitment = challenge_hash(pair.names[FISHERMAN], opening["batch"], 0, STATES + leaf, SALT)
        assert pair.do(now, FISHERMAN, "challenge", commitment, value=TERMS.bond_wei) == ""
        named = opening | {"token": STATES + leaf}
        assert pair.do(now + 1, FISHERMAN, "open", number, **named) == ("" if leaf < size else "token")
        if leaf == size:
            return
        game = pair.court.challenges[number - 1].game
        name, *move = HonestOperator(run).move(game)
        assert name == ("expand_layer" if leaf % layers else "expand_first")
        path, other = move[-1], "expand_first" if leaf % layers else "expand_layer"
        assert len(path) == merkle.path_length(leaf, size)
        swapped = [*move[:2], path] if name == "expand_first" else [*move[:2], *run.token(3), path]
        for tries, (reason, args) in enumerate((
            ("path", [name, *move[:-1], ()]),
            ("path", [name, *move[:-1], (*path, path[0])]),
            ("path", [name, bytes(32), *move[1:]]),
            ("path", [name, *move[:-1], (path[1], path[0], *path[2:])]),
            ("children", [name, move[0], move[1][1:], *move[2:]]),
            ("level", [other, *swapped]),
            ("level", ["bisect", (run.states.root,)]),
            ("", [name, *move]),
        )):  # fmt: skip
            assert pair.do(now + 2 + tries, OPERATOR, "move", number, *args) == reason, args[0]


def test_an_honest_operator_wins_about_the_very_first_state_in_both():
    """Position 0, layer 0: a position before it there is none."""
    pair, run, last = both(tiny().honest, TERMS), tiny().honest, set()
    for seed in range(4):
        signed = tiny_signed(run)
        number, now = pair.open_challenge(signed, [bytes([seed]) * 97], token=STATES, salt=SALT)
        griefer = Griefer(Random(seed))
        court, log = play(pair.court, number, HonestOperator(run), griefer, now=now, observe=pair.observe)
        assert court.challenges[number - 1].status == ChallengeStatus.LOST
        last.add(log[-1].move[0])
    assert "prove" in last


def test_a_state_that_was_walked_down_to_brings_no_path_in_both():
    pair, run = both(tiny().honest, TERMS), tiny().honest
    number, now = pair.open_challenge(tiny_signed(run), [], token=0, salt=SALT)
    while (game := pair.court.challenges[number - 1].game).height:
        shown = HonestOperator(run).move(game)
        now += 2
        assert pair.do(now, OPERATOR, "move", number, *shown) == ""
        assert pair.do(now + 1, FISHERMAN, "move", number, *choice(shown[1], 1)) == ""
    name, *move = HonestOperator(run).move(game)
    assert move[-1] == ()
    wrong = [*move[:-1], tuple(run.states.path(game.leaf))], [bytes(32), *move[1:]]
    for tries, (reason, args) in enumerate(zip(("path", "content", ""), (*wrong, move), strict=True)):
        assert pair.do(now + 2 + tries, OPERATOR, "move", number, name, *args) == reason


def test_timeout_refund_reward_and_exit_in_both():
    pair = both(tiny().honest, TERMS)
    false = tiny().run(replace(_strong(), delta=2**20))
    signed = tiny_signed(false)
    now = pair.chain.chain.time + 1
    root = merkle.root([leaf_of(signed)])
    opening = _opening(pair, signed)
    batch = opening["batch"]
    assert pair.do(now, OPERATOR, "commit_batch", root, 1) == ""
    assert pair.do(now + 1, CLIENT, "escrow", batch, value=4_321) == ""
    for i, who in enumerate((FISHERMAN, OTHER, CLIENT)):
        commitment = challenge_hash(pair.names[who], batch, 0, 0, SALT)
        assert pair.do(now + 2 + i, who, "challenge", commitment, value=TERMS.bond_wei) == ""
    for i, (who, number) in enumerate(((FISHERMAN, 1), (OTHER, 2))):
        assert pair.do(now + 5 + i, who, "open", number, **opening) == ""
    late = now + 6 + TERMS.clock_s
    paid = late + 20 + TERMS.claim_s
    steps = [
        ("early", OTHER, "timeout", (2,), late),
        ("", OTHER, "timeout", (2,), late + 1),
        ("late", CLIENT, "open", (3,), late + 2),
        ("sender", OTHER, "close", (1,), late + 3),
        ("void", CLIENT, "finalise", (batch,), late + 4),
        ("", CLIENT, "refund", (batch,), late + 5),
        ("credit", CLIENT, "refund", (batch,), late + 6),
        ("standing", OPERATOR, "commit_batch", (root, 1), late + 7),
        ("early", OTHER, "pay_reward", (OPERATOR,), late + 8),
        ("frozen", OTHER, "pay_reward", (OPERATOR,), paid - 5),
        ("", OTHER, "timeout", (1,), paid - 4),
        ("over", OTHER, "timeout", (1,), paid - 3),
        ("", OTHER, "expire", (3,), paid - 2),
        ("", OTHER, "pay_reward", (OPERATOR,), paid),
        ("reward", OTHER, "pay_reward", (OPERATOR,), paid + 1),
        ("", OTHER, "withdraw", (), paid + 2),
        ("credit", OTHER, "withdraw", (), paid + 3),
        ("", OPERATOR, "request_exit", (), paid + 4),
        ("exit", OPERATOR, "withdraw_stake", (), paid + 4 + TERMS.exit_s),
        ("", OPERATOR, "withdraw_stake", (), paid + 5 + TERMS.exit_s),
        ("", OPERATOR, "withdraw", (), paid + 6 + TERMS.exit_s),
    ]  # fmt: skip
    for expected, sender, name, args, when in steps:
        more = opening if name == "open" else {}
        assert pair.do(when, sender, name, *args, **more) == expected, (name, when - late)
    reward = 3 * TERMS.least_stake_wei * 9 // 10 * 4 // 10
    assert pair.court.credits[pair.names[FISHERMAN]] == TERMS.bond_wei + reward


def _opening(pair, signed):
    batch = batch_id(pair.names[OPERATOR], merkle.root([leaf_of(signed)]))
    return {"batch": batch, "index": 0, "token": 0, "salt": SALT, "path": (), **vars(signed)}


def _strong():
    return random_tamper(tiny(), Random(8), pr.LayerOperator.OUTPUT)


def test_court_and_table_take_orders_from_each_other_alone(pair):
    chain, court, table = pair.chain.chain, pair.chain.court, pair.chain.table
    assert chain.call(court, "TABLE") == table.address.lower()
    assert chain.call(table, "COURT") == court.address.lower()
    words = struct_words(tiny_signed(tiny().honest).order), struct_words(tiny_signed(tiny().honest).receipt)
    nobody = pair.names[OTHER]
    for contract, call, args in (
        (court, "settle", (1, 1)),
        (table, "end", (1,)),
        (table, "start", (99, nobody, nobody, nobody, 0, *words)),
    ):
        with pytest.raises(ChainError) as failure:
            chain.transact(contract, call, *args, sender=nobody)
        assert failure.value.check == "sender"


THIEF = """
# pragma version 0.4.3
interface Court:
    def withdraw(): nonpayable
    def register(): payable
    def request_exit(): nonpayable
    def withdraw_stake(): nonpayable
court: address
greedy: bool
@deploy
@payable
def __init__(court: address, greedy: bool):
    self.court = court
    self.greedy = greedy
@external
def stake(amount: uint256):
    extcall Court(self.court).register(value=amount)
@external
def leave():
    extcall Court(self.court).request_exit()
@external
def unstake():
    extcall Court(self.court).withdraw_stake()
@external
def take():
    extcall Court(self.court).withdraw()
@payable
@external
def __default__():
    if msg.sender == self.court:
        assert self.greedy, "no thanks"
        extcall Court(self.court).withdraw()
"""


@pytest.mark.parametrize("greedy", [True, False])
def test_payouts_neither_re_enter_nor_hang_on_a_refusal(greedy, tmp_path):
    """A contract that asks again while it is paid, and one that refuses to be paid: both stay
    owed."""
    pair = both(tiny().honest, TERMS)
    chain, court = pair.chain.chain, pair.chain.court
    path = tmp_path / "thief.vy"
    path.write_text(THIEF)
    thief, _ = chain.deploy(compile_vyper(path), court.address, greedy)
    chain.fund(thief.address, TERMS.least_stake_wei)
    chain.transact(thief, "stake", TERMS.least_stake_wei)
    chain.transact(thief, "leave")
    chain.travel(chain.time + TERMS.exit_s + 1)
    chain.transact(thief, "unstake")
    before = chain.balance(court.address), chain.call(court, "credits", thief.address)
    assert before[1] == TERMS.least_stake_wei
    with pytest.raises(ChainError) as failure:
        chain.transact(thief, "take")
    assert failure.value.check == "transfer"
    assert (chain.balance(court.address), chain.call(court, "credits", thief.address)) == before


def test_a_sealed_arbiter_ends_a_game_on_chain():
    """The keys of two other TEEs sign the verdict; the contract recovers them, as the Python court
    does. One alone ends nothing, nor does anyone else's signature."""
    from eth_keys import keys

    one, two, other = (keys.PrivateKey(bytes([number]) * 32) for number in (7, 8, 9))
    chain = Chain(accounts=6)
    # by an account that deploys nothing else, so that the court stands where its orders say
    made = compile_vyper(FOLDER / "arbiter.vy")
    named = [key.public_key.to_checksum_address() for key in (one, two)]
    for bad in ((named[0], named[0]), (named[0], NOBODY), (NOBODY, named[1])):
        with pytest.raises(ChainError, match="keys"):
            chain.deploy(made, *bad, sender=chain.accounts[4])
    contract, _ = chain.deploy(made, *named, sender=chain.accounts[5])
    accepts = two_keys(*(bytes.fromhex(each[2:]) for each in named))
    statement = table.statement(FIRST_COURT, 3, b"t" * 32, Verdict.OPERATOR_LOSES)

    def part(key, message):
        signature = key.sign_msg_hash(message)
        return signature.r.to_bytes(32, "big") + signature.s.to_bytes(32, "big") + bytes([27 + signature.v])

    def proof(message):
        return part(one, message) + part(two, message)

    good, twin = proof(statement), part(two, statement)
    flipped = (
        twin[:32] + (GROUP_ORDER - int.from_bytes(twin[32:64], "big")).to_bytes(32, "big") + bytes([55 - twin[64]])
    )
    refused = [
        part(one, statement), part(two, statement), 2 * part(one, statement), 2 * part(two, statement),
        part(two, statement) + part(one, statement), part(one, statement) + part(other, statement),
        part(other, statement) + part(two, statement), proof(bytes(32)), good + b"\0", good[:-1], b"", bytes(65),
        bytes(130), part(one, statement) + flipped, good[:-1] + bytes([good[-1] - 27]),
    ]  # fmt: skip
    for shown in (good, *refused):
        assert chain.call(contract, "shows", statement, shown) == accepts(statement, shown) == (shown == good)
    pair = both(tiny().honest, TERMS, arbiter=accepts, arbiter_address=contract.address, chain=chain)
    signed = tiny_signed(tiny().honest)
    now = chain.time + 1
    root = merkle.root([leaf_of(signed)])
    pair.do(now, OPERATOR, "commit_batch", root, 1)
    opening = _opening(pair, signed)
    commitment = challenge_hash(pair.names[FISHERMAN], opening["batch"], 0, 0, SALT)
    pair.do(now + 1, FISHERMAN, "challenge", commitment, value=TERMS.bond_wei)
    pair.do(now + 2, FISHERMAN, "open", 1, **opening)
    game = pair.court.challenges[0].game
    assert game is not None
    good = proof(table.statement(pair.court.domain, 1, game.claim.trace_root, Verdict.CHALLENGER_LOSES))
    domain, root = pair.court.domain, game.claim.trace_root
    for elsewhere, number in ((replace(domain, chain_id=1), 1), (replace(domain, court=bytes(20)), 1), (domain, 2)):
        now += 1
        other = proof(table.statement(elsewhere, number, root, Verdict.CHALLENGER_LOSES))
        assert pair.arbitrate(now + 2, FISHERMAN, 1, Verdict.CHALLENGER_LOSES, other) == "proof"
    assert pair.arbitrate(now + 3, FISHERMAN, 1, Verdict.OPERATOR_LOSES, good) == "proof"
    assert pair.arbitrate(now + 4, FISHERMAN, 1, Verdict.CHALLENGER_LOSES, good) == ""
    assert pair.arbitrate(now + 5, FISHERMAN, 1, Verdict.CHALLENGER_LOSES, good) == "over"


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"arity_bits": 0}, "arity_bits"), ({"arity_bits": 7}, "arity_bits"), ({"exit_s": TERMS.window_s}, "exit_s"),
     ({"reward_bps": 10_000}, "burn"), ({"claim_s": 60}, "claim_s"), ({"bond_wei": 0}, "wei"),
     ({"increment_s": 5_000}, "increment_s"), ({"slash_bps": 0}, "slash_bps"), ({"clock_s": 2**40}, "seconds"),
     ({"increment_s": 11}, "increment_s"), ({"window_s": 59}, "seconds"), ({"pause_s": 59}, "seconds"),
     ({"duty_s": 2**31 + 1}, "seconds"), ({"spot_bps": 10_001}, "bps"), ({"cap_bps": 10**6 + 1}, "bps"),
     ({"cost_wei": 10**18}, "cost"), ({"bond_wei": 2**96 + 1}, "wei"), ({"slash_bps": 10_001}, "slash_bps"),
     ({"compensation_bps": 10_000}, "burn"), ({"least_stake_wei": 0}, "wei")],
)  # fmt: skip
def test_unusable_terms_do_not_deploy(pair, change, reason):
    terms = object.__new__(Terms)
    for name, value in {**TERMS.__dict__, **change}.items():
        object.__setattr__(terms, name, value)
    with pytest.raises(ChainError) as failure:
        ChainCourt(pair.chain.chain, terms, pair.chain.registrar)
    assert failure.value.check == reason


def test_contracts_fit_the_chain_and_the_build_is_repeatable():
    for path in sorted(Path(FOLDER).glob("*.vy")):
        first = compile_vyper(path)
        # EIP-170, immutables come on top and deploying checks them
        assert first.runtime_bytes < 24_576, path.name


def test_a_stake_fills_its_bits_and_no_more_in_both():
    """And nothing that shares its word is touched when it does."""
    pair = both(tiny().honest, TERMS, chain=Chain(accounts=6, wei=2**100))
    now = pair.chain.chain.time + 1
    for later, (reason, who, value) in enumerate((
        ("stake", OTHER, MOST_WEI + 1), ("", OTHER, MOST_WEI), ("stake", OTHER, 1),
        ("", OPERATOR, MOST_WEI - 3 * TERMS.least_stake_wei), ("stake", OPERATOR, 1),
    )):  # fmt: skip
        assert pair.do(now + later, who, "register", value=value) == reason
    # all of it is at stake, in a game that is lost by time
    signed, bond = tiny_signed(tiny().honest), TERMS.bond_wei
    pair.open_challenge(signed, [bytes(97)], token=0, salt=SALT)
    assert pair.do(now + 30 + TERMS.clock_s, FISHERMAN, "timeout", 1) == ""
    assert pair.court.operators[pair.names[OPERATOR]].convicted
    assert pair.do(now + 60 + TERMS.clock_s + TERMS.claim_s, FISHERMAN, "pay_reward", OPERATOR) == ""
    assert pair.court.credits[pair.names[FISHERMAN]] == MOST_WEI * 9_000 // 10_000 * TERMS.reward_bps // 10_000 + bond


def test_only_the_registrar_registers_on_chain(pair):
    other = pair.names[OTHER]
    with pytest.raises(ChainError) as failure:
        pair.chain.chain.transact(pair.chain.registry, "register_model", b"q" * 32, other, sender=other)
    assert failure.value.check == "sender"


def test_no_contract_asks_who_began_a_transaction():
    """Whoever is asked by a contract that somebody calls would act for that somebody."""
    for path in FOLDER.glob("*.vy"):
        assert "tx.origin" not in path.read_text(), path.name


def test_no_contract_loops_over_what_others_can_lengthen():
    """Every loop is over a literal list, a range with a constant bound, or an argument of bounded length."""
    loop = re.compile(r"^\s*for \w+: \w+ in (.*):$", re.MULTILINE)
    for path in FOLDER.glob("*.vy"):
        source = path.read_text()
        for over in loop.findall(source):
            bounded = re.fullmatch(r"range\((\w+|\d+, \d+|.*, bound=\w+)\)|\[.*\]", over)
            given = re.search(rf"\b{re.escape(over)}: DynArray\[\w+, \d+\][,)]", source)
            assert bounded or given, (path.name, over)
        # nothing that grows is walked through: state is in maps alone
        assert not re.search(r"^\w+: (public\()?DynArray", source, re.MULTILINE), path.name


def test_calldata_that_is_longer_or_shorter_makes_no_second_identity():
    """Bytes after a call's arguments change nothing that is known by a hash of them; too few are
    refused."""
    pair = both(tiny().honest, TERMS)
    chain, court = pair.chain.chain, pair.chain.court
    words = function_signature_to_4byte_selector("commit_batch(bytes32,uint256)") + b"r" * 32 + (7).to_bytes(32, "big")
    operator = pair.names[OPERATOR]
    with pytest.raises(ChainError):
        chain.transact_raw(court.address, words[:-1], contract=court, sender=operator)
    longer = chain.transact_raw(court.address, words + bytes(64_000), contract=court, sender=operator)
    assert longer.events[0].args["batch"] == batch_id(operator, b"r" * 32)
    with pytest.raises(ChainError, match="batch"):
        chain.transact_raw(court.address, words, contract=court, sender=operator)


@pytest.mark.parametrize("filler", [b"\0", b"\xff", b"\x20"])
def test_64_kb_of_calldata_at_any_function_change_nothing(pair, filler):
    """Lengths and places of arguments are whatever an attacker writes. A stranger can change nothing
    here, so that every call has to be refused, and state and money are as before."""
    chain, stranger = pair.chain.chain, pair.names[OTHER]
    contracts = [pair.chain.court, pair.chain.table, pair.chain.registry]
    addresses = [each.address for each in contracts]
    before = [(chain.storage_root(each), chain.balance(each)) for each in addresses]
    tried = 0
    for contract in contracts:
        for entry in contract.abi:
            if entry["type"] != "function" or entry["stateMutability"] in ("view", "pure"):
                continue
            for size in (0, 31, 64_000):
                with pytest.raises(ChainError):
                    chain.transact_raw(
                        contract.address, signature_hash(entry)[:4] + size * filler, contract=contract, sender=stranger
                    )
                tried += 1
    assert tried > 100
    assert [(chain.storage_root(each), chain.balance(each)) for each in addresses] == before
