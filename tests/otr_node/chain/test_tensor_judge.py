"""The judge of the lane h100-bf16 on chain: the programs and verdicts of the definition, in every kind of
step; a whole dispute by transactions, on the embedded chain and on a node."""

from __future__ import annotations

import os
from dataclasses import replace
from random import Random

import pytest

from otr_core.dispute.judge import Opening
from otr_core.dispute.play import play
from otr_core.dispute.players import HonestChallenger
from otr_core.dispute.registry import configuration_of
from otr_core.dispute.state import Verdict
from otr_core.dispute.words import tensor_words
from otr_core.errors import ChainError, NodeError
from otr_core.lane.dims import Dims
from otr_core.lane.element import LAYER, TOKEN, program
from otr_core.lane.program import Kind
from otr_core.lane.tensor_steps import LANE
from otr_node.chain.evm import Chain, compile_source, compile_vyper
from otr_node.chain.onchain import FOLDER, STEP_JUDGES, TENSOR_JUDGE, ChainCourt
from otr_node.commitment import ModelTrees, commit_model
from otr_node.tensor_lane import load_tensor_lane
from otr_paper.benches.block_disputes import OperatorOfFalseBlock, dispute_block, false_block, honest_block
from otr_paper.benches.judge_steps import StepTally, by_batches, compare_at_judge, deploy_judge
from otr_paper.labs.disputes.both import both
from otr_paper.labs.disputes.parties import FISHERMAN, OPERATOR, registered_model
from otr_paper.labs.disputes.world import TERMS, tiny, tiny_signed
from otr_paper.labs.tiny import TINY, write_tiny
from tests.helpers.nodes import anvil, moved_chain, needs_anvil
from tests.otr_paper.benches.test_judge_steps import embedded

JUDGE, FLOATS = FOLDER / f"{TENSOR_JUDGE}.vy", FOLDER / "floats.vy"
SALT = bytes(32)


def trees_of(tile: int, folder) -> ModelTrees:
    sizes = {"head_dim": tile, "hidden": max(32, tile), "intermediate": 3 * max(16, tile)}
    return commit_model(load_tensor_lane(write_tiny(folder / f"tiny{tile}", replace(TINY, **sizes))))


@pytest.fixture(scope="module")
def deployed():
    chain, trees = Chain(accounts=1), tiny(lane=LANE).trees
    return chain, trees, deploy_judge(chain, compile_vyper(JUDGE), trees)


def test_its_programs_are_the_definitions(deployed):
    chain, trees, judge = deployed
    d = trees.dims
    for position in (0, 7, 8, 15, 16, 40):
        for target, temperature in ((LAYER, 0), (TOKEN, 0), (TOKEN, 700)):
            operators = program(d, target, position, temperature)
            assert list(chain.call(judge, "program_size", target, temperature)) == [len(operators), d.layers]
            leaf = position * d.layers + 1 if target == LAYER else position + 1
            for number, op in enumerate(operators):
                found = chain.call(judge, "operator_shape", target, leaf, temperature, number)
                assert list(found) == [op.length, d.tiles(op.length), op.steps, d.tile], op.name
    assert list(chain.call(judge, "operator_shape", LAYER, 0, 0, len(program(d, LAYER, 0, 0)))) == [0, 0, 1, d.tile]
    assert list(chain.call(judge, "trace_shape")) == [d.layers, 4 * d.hidden, 4 * d.kv, d.context]
    for id, expected in ((2, [True, True]), (3, [True, False]), (d.vocab, [False, False]), (2**32 - 1, [False, True])):
        assert list(chain.call(judge, "token", id)) == expected
    for piece in range(d.pieces):
        row, first = d.piece_place(piece)
        assert list(chain.call(judge, "pieces", piece)) == [d.pieces, min(256, d.row_values(row) - first)]


def test_both_judges_name_their_lanes(deployed):
    chain, _, judge = deployed
    portable = deploy_judge(chain, compile_vyper(FOLDER / "judge.vy"), tiny().trees)
    for contract, lane in ((judge, LANE), (portable, Dims.lane)):
        name, configuration = chain.call(contract, "lane")
        assert (name, configuration) == (keccak_of(lane), configuration_of(lane))


def keccak_of(text: str) -> bytes:
    from eth_utils import keccak

    return bytes(keccak(text=text))


@pytest.mark.parametrize(
    ("at", "number"),
    [
        (0, 0),
        (0, 40),
        (0, 2**24),
        (1, 40),
        (3, 3),
        (4, 0),
        (5, 4),
        (5, 512),
        (6, 2),
        (7, 2**30),
        (8, 255 << 23),
        (2, 2**32),
    ],
)
def test_dimensions_that_it_cannot_hold_are_refused_at_deployment(deployed, at, number):
    chain, trees, judge = deployed
    words = tensor_words(trees.dims)
    steps = [chain.call(judge, f"JUDGE_OF_{name.upper()}") for name in STEP_JUDGES]
    args = trees.weights_root, trees.tables_root, list(trees.stop_ids), *steps
    chain.deploy(compile_vyper(JUDGE), words, *args)
    with pytest.raises(ChainError) as failure:
        chain.deploy(compile_vyper(JUDGE), [*words[:at], number, *words[at + 1 :]], *args)
    assert failure.value.check == "dims"


def test_without_contracts_that_judge_its_steps_it_is_not_deployed(deployed):
    chain, trees, judge = deployed
    there = chain.call(judge, "JUDGE_OF_BLOCKS")
    for steps in ((there, chain.accounts[0]), (chain.accounts[0], there)):
        args = tensor_words(trees.dims), trees.weights_root, trees.tables_root, list(trees.stop_ids), *steps
        with pytest.raises(ChainError):
            chain.deploy(compile_vyper(JUDGE), *args)


@pytest.mark.slow
def test_steps_of_every_kind_are_judged_the_same_on_the_embedded_chain():
    tally, trees = StepTally(), tiny(lane=LANE).trees
    judge, ask = embedded(compile_vyper(JUDGE), trees)
    compare_at_judge(trees, ask, judge, Random(8), 500, tally, each=1)
    assert not tally.differing
    assert tally.refused


@needs_anvil
@pytest.mark.parametrize("tile", [8, 16, 32, 64, 256])
def test_steps_of_every_kind_are_judged_the_same(tile, tmp_path):
    tally, trees = StepTally(), trees_of(tile, tmp_path)
    with anvil() as node:
        judge = deploy_judge(moved_chain(node), compile_vyper(JUDGE), trees)
        compare_at_judge(trees, by_batches(node.url, judge), judge, Random(tile), 700, tally, each=2)
    assert not tally.differing, tally.differing[:3]
    assert tally.right == tally.false >= 350
    assert tally.refused > 2
    tensor = {kind.name.lower() for kind in Kind if kind > Kind.GELU}
    assert tensor - tally.steps.keys() <= {"fixed", "first_highest"}
    assert tally.steps["kept"]


#: Checks and steps as they stand in the sources, and what stands there instead: the definition differs.
MUTANTS = [
    (JUDGE, "used == len(o.proof) and node == root", "used == len(o.proof)"),
    (JUDGE, "used == len(o.proof) and node == root", "node == root"),
    (JUDGE, 'assert len(o.data) == length, "opening length"', "pass"),
    (JUDGE, "if place.step > 0:\n        start", "if place.step > 1:\n        start"),
    (JUDGE, "value == roots.after and index", "value == roots.after or index"),
    (JUDGE, "value == roots.after and index == roots.after_index", "value == roots.after"),
    (JUDGE, "convert(x & LOW, uint256)", "convert(x & (LOW >> 1), uint256)"),
    (JUDGE, "if magnitude > INFINITY:", "if False:"),
    (JUDGE, "(step * T + i) % 32 == e % 32", "i % 32 == e % 32"),
    (JUDGE, "MINUS_INFINITY: constant(uint256) = 511 << 23", "MINUS_INFINITY: constant(uint256) = 255 << 23"),
    (JUDGE, "if step == 0:\n            best", "if step == 1:\n            best"),
    (JUDGE, "        if at > place.position:\n            return 0, 0\n", ""),
    (JUDGE, "(HEAD_COUNT + KV_COUNT) * T if mark == 2 else 0", "HEAD_COUNT * T if mark == 2 else 0"),
    (JUDGE, "e % T >= half", "e % T > half"),
    (FLOATS, "unsafe_add(rest << 1, significand & 1) > unit", "rest << 1 > unit"),
    (FLOATS, "if up > 60:", "if up > 20:"),
    (FLOATS, "min(unsafe_add(significand", "max(unsafe_add(significand"),
    (FLOATS, "    if x % y > 0:\n", "    if False:\n"),
    (FLOATS, "    if unsafe_mul(root, root) != square:\n", "    if False:\n"),
    (FLOATS, "return NAN if x > INFINITY or y > INFINITY or x == 0 or y == 0 else ", "return "),
    (FLOATS, "(x == INFINITY and y == INFINITY) or ", ""),
    (FLOATS, " or (x == 0 and y == 0)", ""),
    (FLOATS, "if x == INFINITY or y == 0:", "if x == INFINITY:"),
    (FLOATS, "if a & NAN > INFINITY:\n        return 32767 << 16", "if False:\n        return 32767 << 16"),
    (FLOATS, "if x & NAN > INFINITY:\n        return NAN", "if False:\n        return NAN"),
    (FLOATS, "if x > SIGN and x & NAN > LEAST:\n        return 0", "if False:\n        return 0"),
    (FLOATS, "if x < SIGN and x > MOST:", "if False:"),
    (FLOATS, "if a >= INFINITY:\n        return NAN", "if False:\n        return NAN"),
    (FLOATS, "more if more & NAN != 0 else more & less", "more"),
    (FLOATS, "min(significand << convert(-drop, uint256), INT32)", "significand << convert(-drop, uint256)"),
    (FLOATS, "if 2 * (significand & (unit - 1)) + (found & 1) > unit:", "if False:"),
]  # fmt: skip


@needs_anvil
@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("OTR_MUTANTS"), reason="compiles each change: half an hour, OTR_MUTANTS=1")
def test_without_a_check_or_with_another_step_the_definition_differs(tmp_path):
    """Each is deleted once: the same steps then show it."""
    models, missed = [trees_of(tile, tmp_path) for tile in (8, 64)], []
    with anvil() as node:
        chain = moved_chain(node)
        for source, what, instead in MUTANTS:
            text = source.read_text()
            assert text.count(what) >= 1, what
            changed, killed = compile_source(text.replace(what, instead), str(source)), False
            for seed in range(12):
                tally, trees = StepTally(), models[seed % 2]
                judge = deploy_changed(chain, trees, source, changed)
                try:
                    compare_at_judge(trees, by_batches(node.url, judge), judge, Random(seed), 300, tally, each=2)
                except AssertionError:
                    killed = True
                if killed := killed or bool(tally.differing):
                    break
            if not killed:
                missed.append((source.name, what))
    assert not missed


def deploy_changed(chain, trees, source, changed):
    """The judge with one of its contracts changed."""
    parts = {name: compile_vyper(FOLDER / f"{name}.vy") for name in (*STEP_JUDGES, TENSOR_JUDGE)}
    parts[source.stem] = changed
    steps = [chain.deploy(parts[name])[0].address for name in STEP_JUDGES]
    words = tensor_words(trees.dims), trees.weights_root, trees.tables_root, list(trees.stop_ids)
    return chain.deploy(parts[TENSOR_JUDGE], *words, *steps)[0]


@pytest.mark.slow
def test_a_false_block_is_convicted_and_an_honest_one_is_not_by_transactions():
    """Both courts are compared after every move."""
    served = tiny(lane=LANE)
    names = [op.name for op in program(served.trees.dims, LAYER, 9, 0)]
    false = false_block(served.honest, LAYER, 9, 1, names.index("mlp.gate_up"), 40, 1)
    row = dispute_block(served, served.honest, false, TERMS)
    assert (row["verdict"], row["operator"], row["element"], row["step"]) == ("OPERATOR_LOSES", "mlp.gate_up", 40, 1)
    assert row["gas_dispute"] < 1_200_000
    right = honest_block(served, served.honest, 9, 1, "output", 5, TERMS)
    assert (right["verdict"], right["operator"]) == ("CHALLENGER_LOSES", "output")


@needs_anvil
def test_a_false_block_is_convicted_on_a_node():
    """By the chain's interface; and whoever finds the court there finds the judges of steps, too."""
    served = tiny(lane=LANE)
    names = [op.name for op in program(served.trees.dims, LAYER, 9, 0)]
    false = false_block(served.honest, LAYER, 9, 1, names.index("output"), 5, 2)
    run = served.run(false.tamper)
    with anvil() as node:
        pair = both(served.honest, TERMS, chain=moved_chain(node))  # type: ignore[arg-type]
        number, now = pair.open_challenge(tiny_signed(run), [], token=0, salt=SALT)
        players = OperatorOfFalseBlock(run, false), HonestChallenger(replace(served.honest))
        court, log = play(pair.court, number, *players, now=now, observe=pair.observe)
        game = court.challenges[number - 1].game
        assert game is not None
        assert (game.verdict, game.element, game.step) == (Verdict.OPERATOR_LOSES, 5, 2)
        assert log[-1].move[0] == "prove"
        assert court.operators[pair.names[OPERATOR]].convicted
        assert pair.do(log[-1].now + TERMS.claim_s + 1, FISHERMAN, "pay_reward", OPERATOR) == ""
        stands, model_id = pair.chain.deployment, served.bench.model.manifest.model_id
        again = ChainCourt(pair.chain.chain, stands.terms, stands.registrar, stands.arbiter, stands)
        again.attach_judge(model_id, stands.judges[model_id.hex()], served.trees)
        assert again.judges[model_id].address == pair.chain.judges[model_id].address
        other = replace(served.trees)
        other.stop_ids = (3,)
        with pytest.raises(NodeError):
            again.attach_judge(model_id, stands.judges[model_id.hex()], other)
        with pytest.raises(NodeError):
            again.attach_judge(model_id, pair.names[OPERATOR], served.trees)


def test_a_changed_opening_is_refused_in_both(deployed):
    """Nothing is judged then; who cannot open what it has committed to runs out of time."""
    chain, trees, judge = deployed
    assert registered_model(trees).dims.lane == LANE
    where, roots = (0, 3, 1, 2, 0, 0, 0, 0, 0), (SALT, SALT, SALT, 0, 0, 0, 0, 5, SALT, 0, 0)
    bad = Opening(bytes(8 * trees.dims.tile), (SALT,) * 3)
    assert chain.reason_with({}, judge, "judge", where, roots, [(bad.data, list(bad.proof))])
