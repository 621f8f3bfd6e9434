"""A fisherman and an operator of the lane h100-bf16, as the commands run them: on the embedded chain."""

from __future__ import annotations

from dataclasses import replace

import pytest

from otr_core.dispute.players import HonestOperator
from otr_core.dispute.profile import FILE, read_profile
from otr_core.dispute.records import ChallengeStatus, Terms
from otr_core.errors import InputError, ModelError
from otr_core.lane.architecture import Architecture
from otr_core.lane.tensor_program import tensor_layer
from otr_core.lane.tensor_steps import LANE
from otr_node.chain.access import load_models
from otr_node.chain.answers import OwnModel
from otr_node.run import Run, Tamper
from otr_paper.labs.disputes.statement_lies import Told
from otr_paper.labs.disputes.world import tiny, tiny_bench, tiny_signed
from otr_paper.labs.tiny import TINY, tiny_tensors, write_tiny
from tests.helpers.networks import OWN, Embedded, embedded, settle


@pytest.fixture(scope="module")
def own() -> OwnModel:
    return OwnModel(tiny_bench(LANE).disputed, tiny_bench(LANE).trees)


@pytest.fixture
def network(project, tmp_path, own) -> Embedded:
    terms: Terms = replace(read_profile(project.data / FILE).court, arity_bits=2)
    return embedded(terms, tmp_path, own=own)


def told_of(run: Run) -> Told:
    return Told(tiny_signed(run), HonestOperator(run), tiny(lane=LANE).honest)


def false_run() -> Run:
    """The honest answer with one product of a matrix that is a little larger."""
    honest = tiny(lane=LANE).honest
    position = len(honest.prompt_ids)
    names = [operator.name for operator in tensor_layer(honest.trees.dims, position)]
    run = replace(honest, tamper=Tamper(position, 1, names.index("mlp.gate_up"), 3, 1 << 16))
    assert run.trace.states_root != honest.trace.states_root
    return run


def test_a_false_block_is_challenged_and_its_operator_loses(network):
    told = told_of(false_run())
    network.answered(told)
    fisherman, operator = network.fisherman(), network.defender(told)
    settle(network, lambda: fisherman, operator, 200)
    assert network.status() == [ChallengeStatus.WON]
    assert {each["event"] for each in network.events} >= {"judged", "challenge", "open", "move", "reward"}


def test_an_honest_answer_is_judged_and_left_alone(network):
    told = told_of(tiny(lane=LANE).honest)
    network.answered(told)
    fisherman = network.fisherman()
    while fisherman.step():
        pass
    assert network.status() == []
    assert [each["event"] for each in network.events] == ["judged"]


def test_models_are_loaded_in_the_lane_that_is_named_or_registered(tmp_path, own):
    folder = write_tiny(tmp_path / "tiny")
    by_lane = {lane: load_models([folder], lane)[0] for lane in ("portable", LANE)}
    assert {lane: each.id for lane, each in by_lane.items()} == {"portable": OWN.id, LANE: own.id}
    assert by_lane[LANE].trees.dims.lane == LANE
    for registered in ([own.id], [OWN.id], [OWN.id, own.id], []):
        found = load_models([folder], registered=[each.hex() for each in registered])
        assert {each.id for each in found} == set(registered)
    for lane in ("native", "h100", ""):
        with pytest.raises(InputError, match=r"--lane: found .*, expected portable or h100-bf16"):
            load_models([folder], lane)


def test_a_decoder_that_one_lane_refuses_is_loaded_in_the_other(tmp_path):
    family: Architecture = replace(TINY, family="qwen2", biased=True)
    folder = write_tiny(tmp_path / "biased", family, tiny_tensors(family))
    (portable,) = load_models([folder], "portable")
    assert [each.id for each in load_models([folder], registered=[portable.id.hex()])] == [portable.id]
    with pytest.raises(ModelError, match="expected a plain Llama"):
        load_models([folder], LANE)
    with pytest.raises(ModelError):
        load_models([tmp_path], registered=[portable.id.hex()])
