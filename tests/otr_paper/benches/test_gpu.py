"""What is measured on a GPU, run through with the replay as the device, so that no time here says anything. And what
an H100 gave, which is stored, against the definition, its replays and the contract."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from otr_core.lane.blocks import BF16_BLOCK, block, vanishes
from otr_core.lane.sampling import Decoding
from otr_core.lane.tensor_steps import LANE
from otr_node.block_check import Compared, require_replayed
from otr_node.chain.block_judge import BlockJudge
from otr_node.chain.evm import Chain
from otr_node.generate import generate, prompt_tokens
from otr_node.integers import block_kernels, block_twins
from otr_node.lanes import load_model
from otr_node.models import model_folder
from otr_node.tensor_device import BlockDevice
from otr_paper.benches import gpu
from otr_paper.producers import h100, tolerance
from otr_paper.store.results import read_result

PLAN = gpu.GpuPlan(
    products=1, hunts=1, hunted=(32, 64), layer=(("a", (40, 24)), ("b", (64, 8))), tokens=(1, 20), repeats=2, calls=2
)


def plus_zero(x, w, out):
    """What every block of the hunt gives on a chip that knows no other number."""
    out.zero_()


def test_the_hunt_counts_what_differs_and_keeps_some():
    device = BlockDevice("cpu", plus_zero)
    rows = gpu.hunt_blocks(device, PLAN)
    assert [(row["share"], row["zeros"]) for row in rows] == list(gpu.SHARES)
    for row in rows:
        assert row["blocks"] == 32 * 64
        assert len(row["examples"]) == min(row["differing"], gpu.EXAMPLES)
        for each in row["examples"]:
            assert each["device"] == 0 != each["replay"] == block(BF16_BLOCK, each["x"], each["w"], each["start"])
    assert max(row["differing"] for row in rows) > 100


def replay(x, w, out):
    """The replay as a device, whole blocks as its kernel takes them."""
    words = (
        np.pad(each[0].view(torch.int16).numpy().view(np.uint16), ((0, 0), (0, -each.shape[2] % 16))) for each in (x, w)
    )
    block_kernels.project(*words, out[0].numpy().view(np.uint32))


def test_the_replay_hunts_nothing_in_itself():
    assert {row["differing"] for row in gpu.hunt_blocks(BlockDevice("cpu", replay), PLAN)} == {0}


def test_the_hunt_is_drawn_again():
    plan = replace(PLAN, hunted=(64, 2048))
    again = list(gpu.hunt_again(plan))
    assert sum(row["vanishing"] for row in again) > 0
    for row in again:
        assert len(row["first"]) == min(row["vanishing"], gpu.EXAMPLES)
        for each in row["first"]:
            assert block(BF16_BLOCK, each["x"], each["w"], each["start"]) == 0


def test_the_self_checks_blocks_are_drawn_again():
    found = gpu.check_again(replace(PLAN, products=30))
    assert list(found) == ["blocks of numbers", "blocks at the ends", "blocks of any words"]
    assert found["blocks of numbers"] == 0


def test_products_and_times_have_a_row_each():
    def single(x, w):
        return torch.nn.functional.linear(x.float(), w.float())

    def missing(x, w):
        raise RuntimeError("no such product\nand more")

    device = BlockDevice("cpu", replay)
    ways = {"blocks": lambda x, w: device.product(x[None], w[None])[0], "floats": single}
    rows = gpu.compare_products(device, ways | {"missing": missing}, PLAN, rows=16)
    times = gpu.time_products(device, ways, PLAN)
    assert {row["way"]: row["error"] for row in rows} == {"blocks": None, "floats": None, "missing": "no such product"}
    assert {(row["columns"], row["tokens"]) for row in rows} == {(c, t) for c in (40, 64, 576, 1536) for t in (1, 20)}
    assert {row["differing"] for row in rows if row["way"] == "blocks"} == {0}
    assert sum(row["differing"] for row in rows if row["way"] == "floats") > 100  # the comparison can see
    assert all(row["blocks: differing"] == 0 < row["blocks"] for row in times)
    assert len(times) == 4


@pytest.fixture(scope="module")
def stored(project):
    return read_result(project.results, "h100_blocks")[1]


def test_every_block_that_differed_is_now_given_by_all(stored):
    """The words that an H100 gave where the definition of before said −0."""
    judge, seen = BlockJudge(Chain()), 0
    for row in stored["hunt"]:
        for each in row["examples"]:
            a, b, start, found = each["x"], each["w"], each["start"], each["device"]
            assert found != each["replay"]
            assert block(BF16_BLOCK, a, b, start) == found == judge.result(a, b, start)
            assert vanishes(a, b, start)
            for loops in (block_kernels, block_twins):
                out = np.array([[start]], np.uint32)
                loops.project(np.array([a], np.uint16), np.array([b], np.uint16), out)
                assert out[0, 0] == found
            seen += 1
    assert seen == sum(min(row["differing"], gpu.EXAMPLES) for row in stored["hunt"]) > 40


def test_nothing_else_differed(stored, project):
    """As many blocks differed as vanish, of each share, and the ones that are stored are the same."""
    again = read_result(project.results, "h100_hunted")[1]["rows"]
    for row, there in zip(again, stored["hunt"], strict=True):
        assert (row["share"], row["zeros"], row["blocks"]) == (there["share"], there["zeros"], there["blocks"])
        assert row["vanishing"] == row["differing"] == there["differing"]
        assert row["same_blocks"]
    checked = read_result(project.results, "h100_hunted")[1]["checked"]
    words = {name: Compared(**each) for name, each in stored["blocks"]["words"].items()}
    assert checked == {name: words[name].differing for name in checked}
    assert (len(checked), checked["blocks of any words"]) == (3, 4)
    require_replayed("the H100", {name: each for name, each in words.items() if name not in checked})
    assert {row["differing"] for row in stored["products"] if row["way"] != "library"} == {0}
    ways = {row["way"] for row in stored["products"]} - {"library"}
    assert {row[f"{way}: differing"] for row in stored["times"] for way in ways} == {0}


def test_answers_of_an_h100_are_given_again_by_another_processor(project):
    card, replayed = read_result(project.results, "h100_replayed")
    there, answered = read_result(project.results, "h100_answers")
    assert card.machine != there.machine
    assert "H100" in replayed["answered_on"]
    assert [each["prompt"] for each in replayed["answers"]] == [each["prompt"] for each in answered["answers"]]
    assert all(each["same_tokens"] and each["same_digest"] for each in replayed["answers"])


@pytest.mark.model
@pytest.mark.slow
def test_the_shortest_answer_of_an_h100_is_computed_again_here(project):
    """A GPU's own tokens and states, from this processor."""
    answers = read_result(project.results, "h100_answers")[1]["answers"]
    stored = min(answers, key=lambda each: len(each["tokens"]))
    model = load_model(model_folder(project, report=lambda line: None), lane=LANE, threads=2)
    ids = prompt_tokens(model, stored["prompt"], h100.TOKENS)
    answer = generate(model, ids, Decoding(h100.TOKENS), trace_seed=bytes(32), digest=True)
    assert list(answer.token_ids) == stored["tokens"]
    assert answer.execution_digest.hex() == stored["digest"]


def test_honest_runs_on_an_h100_keep_within_the_envelopes_of_cpus(project):
    runs = read_result(project.results, "h100_tolerance")[1]["runs"]
    assert {run["lane"] for run in runs} == set(tolerance.LANES)
    limits = read_result(project.results, "tolerance")[1]["lanes"]
    for run in runs:
        for operators in run["ways"].values():
            for name, found in operators.items():
                envelopes = limits[run["lane"]]["operators"][name]["envelopes"]
                for rule in tolerance.RULES:
                    assert (found["largest"] > envelopes[rule]) == (found["violations"][rule] > 0)
                    assert found["violations"][rule] == 0
