"""What ``otr record`` adds in the lane h100-bf16, run through on a CPU: the device is Triton's interpreter, so that no
time here says anything, and none is called measured on a GPU."""

import functools
from dataclasses import replace

import pytest

from otr_core.errors import HardwareError, ParameterError
from otr_core.lane.tensor_steps import LANE
from otr_node.enclave import SimulatedEnclave
from otr_node.integers import block_twins
from otr_node.lanes import load_model
from otr_paper.benches import answers
from otr_paper.benches.block_record import BlockPlan, record_blocks, recorded_blocks
from otr_paper.labs.tiny import TINY, write_tiny
from otr_paper.store.results import read_result
from tests.helpers.block_interpreter import interpreted
from tests.otr_paper.benches.test_record import Recorded

PLAN = BlockPlan(tokens=(1, 20), repeats=2, max_tokens=3, products=1, recorded=20)
GROUPS = {
    *("blocks of numbers", "blocks at the ends", "blocks of any words", "products", "roundings to bf16", "fp32 steps"),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(write_tiny(tmp_path_factory.mktemp("record") / "tiny"), lane=LANE)


def boot(model_id):
    return SimulatedEnclave(b"s" * 32, model_id, b"g" * 32, 1_800_000_000)


ANSWERING = {"secret": bytes, "now": 1_800_000_000, "report": lambda line: None, "boot": boot}


def test_a_device_is_compared_timed_and_answers(model, project):
    with interpreted() as device:
        on_device = replace(model, device=device)
        made, found = record_blocks(project, device, lambda: on_device, Recorded(), PLAN, "w5 w9", **ANSWERING)
    assert made is on_device
    there = {"recorded blocks"} if recorded_blocks(project) else set()
    assert set(found["self_check"]) == GROUPS | there
    assert {each["differing"] for each in found["self_check"].values()} == {0}
    assert min(each["words"] for each in found["self_check"].values()) > 0
    assert found["refused"] is None
    a = TINY
    shapes = {(row["matrix"], row["tokens"], row["columns"], row["rows"]) for row in found["speed"]}
    qkv = (a.heads + 2 * a.kv_heads) * a.head_dim
    for tokens in (1, 20):
        assert ("0.qkv", tokens, a.hidden, qkv) in shapes
        assert ("0.down", tokens, a.intermediate, a.hidden) in shapes
        assert ("head", tokens, a.hidden, a.vocab) in shapes
    assert len(shapes) == len(found["speed"]) == 10
    # the recorded clock goes on by a quarter second at every reading: one call between two of them
    assert {row[way] for row in found["speed"] for way in ("blocks_s", "matmul_s")} == {0.25}
    answer = found["answer"]
    assert answer["replayed"] is True
    assert answer["tee"] == "simulated"
    assert answer["receipt"]["configuration"] == {"lane": LANE}


def test_a_refused_device_is_recorded_and_computes_no_answer(model, project):
    def flushed(x, w, out):
        block_twins.project(x, w, out)
        out[(out & 0x7F800000) == 0] &= 0x80000000

    def load():
        raise AssertionError("a refused device must not load the model")

    with interpreted(flushed) as device:
        made, found = record_blocks(project, device, load, Recorded(), PLAN, "w5", **ANSWERING)
    assert made is None
    assert found["self_check"]["blocks at the ends"]["differing"] > 0
    assert found["self_check"]["blocks of numbers"]["differing"] == 0
    assert "other than the replay's" in found["refused"]
    assert (found["speed"], found["answer"]) == ([], None)


def test_an_answer_that_the_replay_does_not_give_is_said(model, project):
    """Of a device that computes otherwise once it was compared."""

    def drifted(x, w, out):
        block_twins.project(x, w, out)
        out[out != 0] ^= 1

    with interpreted(drifted) as device:
        on_device = replace(model, device=device)
        _, found = record_blocks(project, None, lambda: on_device, Recorded(), PLAN, "w5 w9", **ANSWERING)
    assert found["answer"]["replayed"] is False


def test_a_plan_that_measures_nothing_is_refused():
    for change in ({"tokens": ()}, {"tokens": (0,)}, {"repeats": 0}):
        with pytest.raises(ParameterError, match=next(iter(change))):
            replace(PLAN, **change)


@pytest.mark.outside
def test_recorded_blocks_are_read_where_they_are(project, outside_file, monkeypatch):
    outside_file("vectors/h100-mma/h100_mma_vectors.tar.gz")
    found = recorded_blocks(project)
    assert len(found) == 5000
    assert {len(a) for a, *_ in found} == {len(b) for _, b, *_ in found} == {16}
    monkeypatch.delenv("OTR_DATA_MIRROR")
    assert recorded_blocks(project) in ((), found)


def record_here(project, tmp_path, **changes):
    options = {
        "folder": write_tiny(tmp_path / "tiny"),
        "lane": LANE,
        "device": "cpu",
        "max_tokens": 2,
        "repeats": 1,
        "secret": bytes,
        "command": "otr record",
        "date": "2026-01-01",
        "cores": 1,
        "out": tmp_path / "record_x.json",
        "report": lambda line: None,
    }
    return answers.record_machine(project, **{**options, **changes})


def test_a_record_of_the_lane_on_a_cpu_has_an_answer_and_no_comparison(project, tmp_path):
    payload = record_here(project, tmp_path)
    card, stored = read_result(tmp_path, "record_x")
    assert stored == payload
    assert card.kind == "measured"
    assert (payload["blocks"]["self_check"], payload["blocks"]["speed"]) == ({}, [])
    assert payload["blocks"]["answer"]["replayed"] is True
    assert payload["model"]["lane"] == LANE
    assert "blocks" not in record_here(project, tmp_path, lane="native")


def test_a_refused_device_is_written_and_named(project, tmp_path, monkeypatch):
    """The command's way through a refusal; the device stands where the GPU would."""

    def nothing(x, w, out):
        out[:] = 0

    with interpreted(nothing) as device:
        monkeypatch.setattr(answers, "check_device", lambda name: None)
        monkeypatch.setattr(answers, "unchecked_block_device", lambda name: device)
        monkeypatch.setattr(answers, "BlockPlan", functools.partial(BlockPlan, products=1, recorded=20))
        with pytest.raises(HardwareError, match=r"blocks of numbers.* other than the replay's.*refused_record_x\.json"):
            record_here(project, tmp_path, device="cuda")
    _, found = read_result(tmp_path, "refused_record_x")
    assert found["self_check"]["blocks of numbers"]["differing"] > 2000
    assert not (tmp_path / "record_x.json").exists()
