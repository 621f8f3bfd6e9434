"""The replay of projections: kernels and twins against the definition, at the ends of the range, and
whatever runs beside them."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from otr_core.errors import InputError
from otr_core.lane.blocks import BF16_BLOCK, block, dot_product
from otr_node.integers import block_kernels, block_twins
from otr_node.integers.projections import block_loops, replay_projection
from otr_paper.benches.block_fuzz import SPECIAL, compare_blocks, extreme_blocks, replays
from otr_paper.benches.lane_bits import MACHINES

LOOPS = pytest.mark.parametrize("loops", [block_kernels, block_twins], ids=["kernels", "twins"])


def words(random: np.random.Generator, shape: tuple[int, int], least: int = 110, most: int = 135) -> np.ndarray:
    found = (
        random.integers(least, most, shape) << 7 | random.integers(0, 128, shape) | random.integers(0, 2, shape) << 15
    )
    return np.where(random.random(shape) < 0.05, 0, found).astype(np.uint16)


def defined(x: np.ndarray, w: np.ndarray) -> list[list[int]]:
    return [[dot_product(a, b) for b in w.tolist()] for a in x.tolist()]


@LOOPS
@pytest.mark.parametrize(("least", "most"), [(110, 135), (0, 255), (0, 80), (150, 255), (0, 256)])
def test_a_projection_is_its_dot_products(loops, least, most):
    random = np.random.default_rng(least + most)
    for columns in (16, 40, 96):
        x, w = (words(random, (count, columns), least, most) for count in (3, 17))
        assert replay_projection(x, w, loops=loops).tolist() == defined(x, w)


def test_extreme_blocks_are_the_definitions():
    found = compare_blocks(3000, replays(), seed=7)
    assert found["differing"] == {"kernel": 0, "twin": 0}
    assert min(found["results"].values()) > 100
    assert found["laid_by_floor"] > 30


@pytest.mark.parametrize("change", ["fraction", "subnormal", "sign", "order"])
def test_the_comparison_finds_a_replay_that_is_nearly_right(change):
    """Judges that err once in a while: in the last bit, of subnormals, in a sign, in the order."""

    def nearly(one):
        result = block(BF16_BLOCK, *one)
        if change == "order":
            half = [0] * 8
            first = block(BF16_BLOCK, one.a[:8] + half, one.b[:8] + half, one.c)
            return block(BF16_BLOCK, one.a[8:] + half, one.b[8:] + half, first)
        if change == "sign":
            return 0x80000000 if result == 0 else result
        if change == "subnormal":
            return result if result & 0x7FFFFFFF >= 0x00800000 else result & 0xFFFFFFFE
        return result ^ (result & 7 == 7)

    assert compare_blocks(500, {"nearly": nearly})["differing"]["nearly"] > 3


def test_sums_as_long_as_they_can_be_are_exact():
    """All significands 255 at one exponent: the sum comes within a fifth of a bit of 32 bits."""
    for sign, c in ((0, 0x3FFFFFFF), (0x8000, 0xBFFFFFFF)):
        x, w = (np.full((1, 16), 0x3FFF | bit, np.uint16) for bit in (0, sign))
        for loops in (block_kernels, block_twins):
            out = np.array([[c]], np.uint32)
            loops.project(x, w, out)
            assert int(out[0, 0]) == block(BF16_BLOCK, x[0].tolist(), w[0].tolist(), c)


@LOOPS
def test_threads_and_batches_change_no_bit(loops):
    random = np.random.default_rng(1)
    x, w = words(random, (9, 80)), words(random, (1100, 80))
    w[5, 3] = SPECIAL[0]
    whole = replay_projection(x, w, loops=loops)
    for threads in (2, 3, 16):
        assert np.array_equal(replay_projection(x, w, loops=loops, threads=threads), whole)
    for token in (0, 4, 8):
        assert np.array_equal(replay_projection(x[token : token + 1], w, loops=loops), whole[token : token + 1])
    assert np.array_equal(replay_projection(x[::-1], w[::-1], loops=loops), whole[::-1, ::-1])


def test_kernels_run_where_numba_is():
    assert block_loops() is block_kernels


SCRIPT = """
import hashlib
from tests.otr_node.integers.test_blocks import fingerprint
from otr_node.integers.projections import block_loops
print(block_loops().__name__.rpartition("_")[2], fingerprint())
"""


def fingerprint() -> str:
    random = np.random.default_rng(3)
    found = replay_projection(words(random, (4, 112), 0, 256), words(random, (60, 112), 0, 256))
    return hashlib.sha256(found.astype("<u4").tobytes()).hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["AVX-512 without VNNI", "AVX2", "SSE4.1", "no compilation"])
def test_instruction_sets_change_no_bit(machine, project):
    environment = os.environ | MACHINES[machine]
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=project.root)
    assert done.stdout.split() == ["twins" if machine == "no compilation" else "kernels", fingerprint()]


@pytest.mark.parametrize(
    ("x", "w", "threads", "reason"),
    [
        (np.zeros((1, 16), np.int16), np.zeros((1, 16), np.uint16), 1, "x: found int16 of 2 dimensions"),
        (np.zeros((1, 16), np.uint16), np.zeros(16, np.uint16), 1, "w: found uint16 of 1 dimensions"),
        (np.zeros((1, 16), np.uint16), np.zeros((1, 32), np.uint16), 1, "columns: found 16 and 32, expected as many"),
        (np.zeros((1, 16), np.uint16), np.zeros((1, 16), np.uint16), 0, "threads: found 0, expected 1 or more"),
    ],
)
def test_what_is_no_projection_is_refused(x, w, threads, reason):
    with pytest.raises(InputError, match=reason):
        replay_projection(x, w, threads=threads)


def test_extreme_blocks_repeat():
    assert list(extreme_blocks(20, 3)) == list(extreme_blocks(20, 3)) != list(extreme_blocks(20, 4))
