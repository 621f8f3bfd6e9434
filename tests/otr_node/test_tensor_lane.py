"""The lane h100-bf16: equal to a second opinion in integers, whatever runs beside it, and refused by
name where it is not defined."""

import json
from dataclasses import replace

import numpy as np
import pytest

from otr_core.errors import InputError, ModelError, ReceiptError
from otr_core.lane.blocks import fp32_to_bf16
from otr_core.lane.sampling import Decoding
from otr_core.lane.tensor_steps import LANE
from otr_core.poea import OnceStore, check_answer, place_order
from otr_core.poea.audit import registered_lanes
from otr_core.poea.tee import EvidencePolicy
from otr_core.poea.trace import Trace
from otr_node.enclave import SimulatedEnclave
from otr_node.generate import generate, prompt_tokens
from otr_node.integers import block_twins, projections
from otr_node.lanes import load_model
from otr_node.recorder import open_recorder
from otr_node.serve import serve
from otr_node.tensor_lane import load_tensor_lane
from otr_node.tensor_values import to_words
from otr_paper.labs.tiny import TINY, tiny_tensors, write_tiny
from tests.helpers.exact_floats import canonical
from tests.helpers.tensor_second_opinion import integer_logits
from tests.otr_core.lane.test_blocks import some_words

#: Of SmolLM2's states over the question about France and its answer, on the machine of the stored results.
DIGEST = "4899eca603fe48d08b17b347ed34c5363a347739976554c8c7a37f31255bc816"
IDS = [5, 9, 33, 60, 7, 21, 1, 40, 11, 12, 13, 3, 58, 30, 31, 32, 44, 2, 19, 6]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(write_tiny(tmp_path_factory.mktemp("lane") / "tiny"), lane=LANE)


def traced(model, pieces) -> Trace:
    """The trace of tokens that are fed in pieces."""
    recorder = open_recorder(bytes(range(32)), digest=False)
    session = model.session()
    for piece in pieces:
        session.feed(piece, recorder)
    ids = [token for piece in pieces for token in piece]
    return recorder.finish([*ids, 0], len(ids), None)


@pytest.mark.slow
def test_logits_are_those_of_a_second_opinion_in_integers(model):
    found = model.session().feed_all(IDS[:18])
    assert found.view(np.uint32).tolist() == integer_logits(model, IDS[:18])


def test_pieces_threads_and_loops_change_no_bit(model, monkeypatch):
    whole = model.session().feed(IDS).tobytes()
    trace = traced(model, [IDS])
    for pieces in ([IDS[:7], IDS[7:]], [[token] for token in IDS]):
        session = model.session()
        assert [session.feed(piece) for piece in pieces][-1].tobytes() == whole
        assert traced(model, pieces).root == trace.root
    many = replace(model, threads=3)
    assert many.session().feed(IDS).tobytes() == whole
    assert traced(many, [IDS]).root == trace.root
    monkeypatch.setattr(projections, "block_loops", lambda: block_twins)
    assert model.session().feed(IDS).tobytes() == whole
    assert traced(model, [IDS[:3], IDS[3:]]).root == trace.root


def test_logits_are_near_those_of_fp32(model, tmp_path):
    native = load_model(write_tiny(tmp_path / "tiny"))
    ours, theirs = model.session().feed(IDS), native.session().feed(IDS)
    assert 0 < np.abs(ours - theirs).max() < 0.1 * theirs.std()


def test_the_lane_is_in_the_models_identity(model, tmp_path):
    folder = write_tiny(tmp_path / "tiny")
    assert model.manifest.lane == LANE
    assert model.configuration() == {"lane": LANE}
    native = load_model(folder, lane="native-bfloat16")
    assert model.manifest.weights_root == native.manifest.weights_root
    assert model.manifest.model_id != native.manifest.model_id


def test_answers_repeat_and_draws_follow_their_seed(model):
    decoding = Decoding(max_tokens=8, seed=3, temperature_milli=900)
    one, two = (generate(model, IDS[:5], decoding, trace_seed=bytes(32)) for _ in range(2))
    assert one.token_ids == two.token_ids
    assert one.committed.root == two.committed.root
    others = {generate(model, IDS[:5], replace(decoding, seed=seed)).token_ids for seed in range(6)}
    assert len(others) > 1
    greedy = generate(model, IDS[:5], Decoding(max_tokens=1)).token_ids[0]
    assert greedy == int(np.argmax(model.session().feed(IDS[:5])))
    cold = Decoding(max_tokens=1, seed=9, temperature_milli=1)
    assert generate(model, IDS[:5], cold).token_ids == (greedy,)


def test_rounding_to_bf16_is_the_definitions():
    words = np.array(some_words(np.random.default_rng(4), 32, 5000), np.uint32)
    found = to_words(words.view(np.float32))
    assert found.tolist() == [fp32_to_bf16(canonical(word)) for word in words.tolist()]


def test_a_state_that_is_no_number_is_refused(tmp_path):
    tensors = tiny_tensors(TINY)
    tensors["model.layers.1.mlp.down_proj.weight"][:] = np.float32(3e38)
    loaded = load_tensor_lane(write_tiny(tmp_path / "large", TINY, tensors))
    with pytest.raises(ModelError, match="layer 1: found a state that is infinite or a NaN"):
        loaded.session().feed(IDS[:2])


def test_other_decoders_are_refused(tmp_path, model):
    folder = write_tiny(tmp_path / "tiny")
    config = json.loads((folder / "config.json").read_text())
    biased = replace(TINY, family="qwen2", biased=True)
    other = write_tiny(tmp_path / "biased", biased, tiny_tensors(biased))
    with pytest.raises(ModelError, match="h100-bf16: found a decoder of family qwen2"):
        load_tensor_lane(other)
    assert config["model_type"] == "llama"
    with pytest.raises(InputError, match="feed: found no token"):
        model.session().feed([])


def test_a_receipt_of_the_lane_is_accepted_and_with_another_lane_refused(model):
    own = model.manifest.model_id
    placed = place_order(
        IDS[:5], model_id=own, decoding=Decoding(4), job_id=b"j" * 32, nonce=b"n" * 32, client_secret=b"c" * 32
    )
    enclave = SimulatedEnclave(b"s" * 32, own, b"g" * 32, 1_800_000_000)
    file, _ = serve(enclave, model, placed.order, placed.query, served=OnceStore())
    policy = EvidencePolicy(allow_simulated=True)
    assert file.receipt.lane == LANE
    assert file.receipt.trace.output_bytes == 4 * TINY.hidden
    check_answer(file, placed, policy=policy, as_of=1_800_000_000, nonces=None)
    for lane in ("portable-1", "native-bfloat16"):
        other = replace(file, configuration={"lane": lane})
        with pytest.raises(ReceiptError) as caught:
            check_answer(other, placed, policy=policy, as_of=1_800_000_000, nonces=None)
        assert caught.value.check == "lane"


@pytest.mark.slow
@pytest.mark.model
def test_smollm2_answers_in_the_lane(smollm2, project):
    """Its identity is the registered one, its answer that of the other lanes, and its bits those that
    were once computed elsewhere."""
    loaded = load_model(smollm2, lane=LANE, threads=2)
    assert registered_lanes(project.data)[loaded.manifest.model_id.hex()] == LANE
    ids = prompt_tokens(loaded, "What is the capital of France?", 8)
    answer = generate(loaded, ids, Decoding(8), trace_seed=bytes(32), digest=True)
    assert loaded.tokenizer.decode(answer.token_ids) == "The capital of France is Paris."
    assert answer.execution_digest.hex() == DIGEST
