"""The definition of blocks gives every result that an H100 recorded, and rules beside it do not."""

import tarfile

import pytest

from otr_core.errors import DataError
from otr_core.lane.blocks import INSTRUCTIONS
from otr_paper.benches.blocks import HELD_BACK, RECORDED, agree_with_recordings, recordings
from otr_paper.store.results import read_result

#: Of 5,000 recorded results, those that each wrong rule gives (production_rules, section 3.1, names
#: four of them, found by another program).
WRONG = {
    "bf16, 24 bits": 4509,
    "bf16, two halves of 8": 4056,
    "E4M3, 25 bits": 3915,
    "E4M3, result of 23 bits": 3585,
    "E4M3, 25 bits, result of 23": 2011,
    "E5M2, 25 bits": 4373,
    "E5M2, result of 23 bits": 4159,
    "E5M2, 25 bits, result of 23": 3203,
}


@pytest.fixture(scope="module")
def archive(outside_file):
    return outside_file("vectors/h100-mma/h100_mma_vectors.tar.gz")


@pytest.mark.outside
def test_every_recorded_result_is_given_and_rules_beside_it_fail(archive):
    found = agree_with_recordings(archive)
    assert found["known"] == dict.fromkeys(INSTRUCTIONS, RECORDED - HELD_BACK)
    assert found["held_back"] == dict.fromkeys(INSTRUCTIONS, HELD_BACK)
    assert found["controls"] == WRONG
    # what is recorded lies around 1, and says nothing of the ends of the range
    assert (found["least_field"], found["most_field"]) == (111, 129)


@pytest.mark.outside
def test_the_stored_result_is_that(archive, project):
    assert read_result(project.results, "block_recordings")[1] == agree_with_recordings(archive)


def test_other_archives_are_refused(tmp_path):
    for name, line in (("none", None), ("short", "3f800000 " * 16), ("words", "word")):
        with tarfile.open(tmp_path / name, "w:gz") as files:
            for part in ("a_H100_bf16", "b_H100_bf16", "c_H100_fp32", "d_H100_fp32") if line else ():
                (tmp_path / part).write_text((line if part[0] in "ab" or line == "word" else "0" * 32) + "\n")
                files.add(tmp_path / part, f"model_validation/H100/bf16/{part}.txt")
        with pytest.raises(DataError, match=name):
            recordings(tmp_path / name, "bf16")


def test_stored_comparisons_found_no_difference(project):
    stored = {name: read_result(project.results, f"block_{name}")[1] for name in ("fuzz", "contract", "projections")}
    fuzz, judged, projections = stored["fuzz"], stored["contract"], stored["projections"]
    assert (fuzz["blocks"], fuzz["differing"]) == (300_000, {"kernel": 0, "twin": 0})
    assert judged["extreme"]["differing"] == {"contract": 0}
    for found in (fuzz, judged["extreme"]):
        assert sum(found["results"].values()) == found["blocks"]
        assert min(found["results"].values()) > found["blocks"] // 20
    recorded = judged["recorded"]
    assert recorded["right"] == recorded["wrong"] == recorded["blocks"] == RECORDED
    assert recorded["gas"]["most"] <= 60_000
    assert (projections["differing"], projections["threads_differing"]) == (0, 0)
    assert projections["cpu_s"] <= 3


def test_the_stored_lane_keeps_its_targets(project):
    lane = read_result(project.results, "block_lane")[1]
    ours, fp32 = lane["perplexity"]["h100-bf16"], lane["perplexity"]["native-float32"]
    assert abs(ours / fp32 - 1) <= 0.005
    assert max(lane["prefill_cpu_s"], lane["decode_cpu_s"]) <= 3
    assert lane["fingerprints"] == 1
