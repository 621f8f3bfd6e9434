"""The contract that judges a block, against the definition: recorded, drawn and special blocks; no
input goes without a verdict."""

import numpy as np
import pytest

from otr_core.lane.blocks import BF16_BLOCK, FP32, block
from otr_node.chain.block_judge import BlockJudge, packed_words
from otr_node.chain.evm import Chain
from otr_paper.benches.block_fuzz import SPECIAL, compare_blocks, extreme_blocks, judge_recordings
from otr_paper.benches.blocks import recordings

pytestmark = pytest.mark.slow
MOST_GAS = 60_000
"""What a transaction that judges a block may cost (issue 18)."""


@pytest.fixture(scope="module")
def judge() -> BlockJudge:
    return BlockJudge(Chain())


def test_extreme_blocks_are_the_definitions(judge):
    found = compare_blocks(600, {"contract": lambda one: judge.result(*one)}, seed=11)
    assert found["differing"] == {"contract": 0}
    assert min(found["results"].values()) > 20
    assert found["laid_by_floor"] > 5


@pytest.mark.outside
def test_recorded_blocks_are_judged_as_the_chip_computed_them(outside_file):
    records = recordings(outside_file("vectors/h100-mma/h100_mma_vectors.tar.gz"), "bf16")[::40]
    found = judge_recordings(records, 20)
    assert found["right"] == found["wrong"] == len(records) == 125
    assert found["gas"]["most"] <= MOST_GAS


def test_no_block_costs_more_than_its_target(judge):
    blocks = [
        *extreme_blocks(40, 12),
        *([[word] * 16, [word] * 16, 0x4B7FFFFF] for word in (0x3FFF, 0x4000, 0x7F80, 1, 0)),
    ]
    gas = [judge.judge(a, b, c, block(BF16_BLOCK, a, b, c)).gas for a, b, c in blocks]
    assert max(gas) <= MOST_GAS


@pytest.mark.parametrize("special", SPECIAL)
@pytest.mark.parametrize("place", ["a", "b", "c"])
@pytest.mark.parametrize("partner", [0, 0x8000, 0x3F80, 0xBF80, 0x0001, 0x7F80, 0xFF80, 0x7FC0])
def test_special_values_are_judged_not_refused(judge, special, place, partner):
    a, b, c = [0x3F80] * 16, [0x3F80] * 16, 0x3F800000
    if place == "c":
        a[0], c = partner, special << 16
    else:
        (a if place == "a" else b)[3] = special
        (b if place == "a" else a)[3] = partner
    expected = block(BF16_BLOCK, a, b, c)
    assert judge.result(a, b, c) == expected
    assert judge.right(a, b, c, expected)
    assert not judge.right(a, b, c, expected ^ 1)


def test_every_input_has_a_verdict(judge):
    """Any three words of 256 bits, a NaN's other words and what is no fp32 word among the claims."""
    random = np.random.default_rng(1)
    for _ in range(60):
        a, b = (random.integers(0, 2**16, 16).tolist() for _ in range(2))
        c = int(random.integers(2**32))
        expected = block(BF16_BLOCK, a, b, c)
        assert judge.right(a, b, c, expected)
        for claimed in (expected + 2**32, expected ^ FP32.sign, 2**256 - 1):
            assert not judge.right(a, b, c, claimed)
        # what lies above the accumulator's 32 bits is not read
        assert judge.result(a, b, c + (int(random.integers(1, 2**62)) << 32)) == expected
    quiet = block(BF16_BLOCK, [0x7FC0] * 16, [0x3F80] * 16, 0)
    assert quiet == FP32.nan
    assert not judge.right([0x7FC0] * 16, [0x3F80] * 16, 0, 0x7FC00000)


def test_words_are_packed_in_their_order():
    assert packed_words(range(16)) >> 224 == 1
    assert packed_words(range(16)) & 0xFFFF == 15
