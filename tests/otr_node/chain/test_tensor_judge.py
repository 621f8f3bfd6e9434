"""The judge of the lane h100-bf16 on chain: the programs and verdicts of the definition, in every kind of
step; a whole dispute by transactions, on the embedded chain and on a node."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from otr_core.dispute.play import play
from otr_core.dispute.players import HonestChallenger
from otr_core.dispute.registry import configuration_of
from otr_core.dispute.state import Verdict
from otr_core.errors import NodeError
from otr_core.lane.dims import Dims
from otr_core.lane.element import LAYER, TOKEN, program
from otr_core.lane.program import Kind
from otr_core.lane.tensor_steps import LANE
from otr_node.chain.evm import Chain, compile_vyper
from otr_node.chain.onchain import FOLDER, TENSOR_JUDGE, ChainCourt
from otr_node.commitment import ModelTrees, commit_model
from otr_node.tensor_lane import load_tensor_lane
from otr_paper.benches.block_disputes import OperatorOfFalseBlock, dispute_block, false_block, honest_block
from otr_paper.benches.judge_steps import StepTally, by_batches, compare_at_judge, deploy_judge
from otr_paper.labs.disputes.both import both
from otr_paper.labs.disputes.parties import FISHERMAN, OPERATOR
from otr_paper.labs.disputes.world import TERMS, tiny, tiny_signed
from otr_paper.labs.tiny import TINY, write_tiny
from tests.helpers.nodes import anvil, moved_chain, needs_anvil
from tests.otr_paper.benches.test_judge_steps import embedded

JUDGE = FOLDER / f"{TENSOR_JUDGE}.vy"
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
        for stranger in (pair.names[OPERATOR], pair.chain.court.address):
            with pytest.raises(NodeError):
                again.attach_judge(model_id, stranger, served.trees)


@pytest.mark.slow
@pytest.mark.parametrize(("own", "other"), [(LANE, Dims.lane), (Dims.lane, LANE)])
def test_a_receipt_of_the_other_lane_convicts_in_both_courts(own, other):
    """Whatever its answer: the judge of the ordered model says which lane that is."""
    served = tiny(lane=own)
    for changes in ({"lane": other}, {"configuration_digest": configuration_of(other)}):
        pair = both(served.honest, TERMS)
        pair.open_challenge(tiny_signed(served.honest, **changes), [], token=0, salt=SALT)
        assert pair.court.operators[pair.names[OPERATOR]].convicted
    pair = both(served.honest, TERMS)
    pair.open_challenge(tiny_signed(served.honest), [], token=0, salt=SALT)
    assert not pair.court.operators[pair.names[OPERATOR]].convicted
