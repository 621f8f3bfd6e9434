"""Kernels against their twins, and both against Python's integers, at the edges of their formats."""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otr_core.lane import formats as bits
from otr_node.integers import kernels, twins
from otr_node.integers.forms import EXP2, SIGMOID, Form, Scratch
from otr_node.integers.packed import LEAST, MOST, Blocks, Packer, RowSizes, pack
from otr_node.integers.products import cut_dots, rest_sums

LOOPS = pytest.mark.parametrize("loops", [kernels, twins], ids=["kernels", "twins"])
SEEDS = st.integers(0, 2**32 - 1)
EDGES = np.array([0, 1, -1, 127, 128, -128, -129, 2**15, 2**23 - 1, -(2**23), 2**30, -(2**30)])


def values(random: np.random.Generator, shape: tuple[int, ...], most: int) -> np.ndarray:
    """Int64 values up to ±most of every order of magnitude, edges among them."""
    size = 2.0 ** random.uniform(0, math.log2(most), shape)
    made = np.clip(np.rint(size * random.choice([-1.0, 1.0], shape)).astype(np.int64), -most, most)
    edges = random.choice(np.append(np.clip(EDGES, -most, most), [most, -most]), shape)
    return np.where(random.random(shape) < 0.3, edges, made)


def shifted(x: int, count: int) -> int:
    return (x + (1 << (count - 1))) >> count


@given(SEEDS)
def test_a_packed_matrix_is_the_matrix(seed: int) -> None:
    random = np.random.default_rng(seed)
    matrix = values(random, (9, 13), 2**31 - 1).astype(np.int32)
    matrix[0] = MOST
    matrix[1] = LEAST
    packed = pack(matrix)
    assert (packed.dense() == matrix).all()
    assert (packed.dense(2, 7) == matrix[2:7]).all()
    assert (packed[4] == matrix[4]).all()
    assert (packed.gather(np.array([3, 3, 0])) == matrix[[3, 3, 0]]).all()
    assert packed.low.min() >= LEAST
    assert packed.low.max() <= MOST
    assert packed.starts[2] == 0
    assert not packed.rows(0, 2).has_rest
    assert (packed.rows(2, 9).dense() == matrix[2:]).all()


FORMS = [Form(loops, limb_bits) for loops in (kernels, twins) for limb_bits in (8, 7, 0)]
FORMS += [Form(kernels, 8, True), Form(kernels, 8, False)]


@pytest.mark.parametrize("form", FORMS, ids=str)
@given(SEEDS, st.sampled_from([1, 2, 7, 8, 30, 70]), st.sampled_from([7, 15, 23, 30]), st.sampled_from([33, 98]))
def test_every_form_of_the_product_is_exact(form: Form, seed: int, tokens: int, magnitude: int, width: int) -> None:
    random = np.random.default_rng(seed)
    weights = values(random, (21, width), 2**20).astype(np.int32)
    if seed % 3 == 0:  # no rest, and the largest sums that weights without one have
        weights = random.choice(np.array([LEAST, MOST]), weights.shape).astype(np.int32)
    x = values(random, (tokens, width), 2**magnitude).astype(np.int32)
    if seed % 2:  # most tokens need fewer limbs
        x[1:] = np.clip(x[1:], -100, 100)
    sums = x.astype(np.int64) @ weights.astype(np.int64).T
    bound = float(np.abs(x.astype(np.int64)).sum(-1).max()) * 2**20
    assert bound < 2**62
    expected = [[shifted(int(value), 17) for value in row] for row in sums]
    for packed in (pack(weights), pack(weights, bound)):  # the second may be summed in floats
        out = np.full((tokens, 21), -1, np.int64)
        assert form.product(x, packed, 17, Scratch(), out).tolist() == expected


@pytest.mark.parametrize("wide", [True, False])
def test_sums_leave_int32_in_time(wide: bool) -> None:
    """Weights and tokens at their largest and of one sign: sums that grow as fast as any can, at the
    edges of what one limb, two and four hold."""
    form = Form(kernels, 0, wide)
    for weight in (LEAST, MOST, 2**22, 1, 300):
        matrix = pack(np.full((7, 320), weight, np.int32))
        for edge in (1, 2**7, 2**8, 2**15 - 1, 2**15, 2**23, 2**26 - 1, 2**26, 2**27, 2**30, 2**31 - 1):
            for value in (edge, -edge, -edge + 1, edge // 2):
                x = np.full((70, 320), value, np.int32)
                x[40:] //= 2**12
                for tokens in (1, 70):
                    out = np.zeros((tokens, 7), np.int64)
                    form.product(x[:tokens], matrix, 9, Scratch(), out)
                    expected = [shifted(int(row[0]) * weight * 320, 9) for row in x[:tokens]]
                    assert out.tolist() == [[each] * 7 for each in expected]


@given(SEEDS, st.sampled_from([1, 2, 4]), st.integers(0, 40), st.sampled_from([2**15 - 1, 2**13, 2**11, 300, 1]))
def test_a_stretch_of_a_dot_is_the_longest_that_no_row_can_overflow(
    seed: int, limbs: int, vectors: int, most: int
) -> None:
    """By plain integers: a lane meets two neighbours of every vector, and weights of −2^15 at worst."""
    planes = np.random.default_rng(seed).integers(-most, most + 1, (4, 32 * vectors)).astype(np.int16)
    ends = np.zeros(vectors, np.int64)
    count = cut_dots(planes, limbs, ends)
    wide = np.abs(planes[:limbs].astype(object)).reshape(limbs, vectors, 16, 2).sum(-1) * 2**15
    begin = 0
    for number, end in enumerate(ends[:count].tolist()):
        assert begin < end <= vectors
        assert wide[:, begin:end].sum(1).max() < 2**31
        assert number == count - 1 or wide[:, begin : end + 1].sum(1).max() >= 2**31
        begin = end
    assert begin == vectors


@given(SEEDS, st.sampled_from([1, 63, 64, 65, 200]), st.sampled_from([0.0, 0.02, 0.5]))
def test_the_sparse_rest_is_summed_by_rows(seed: int, rows: int, share: float) -> None:
    """Rows without a rest, one that is a rest throughout, and sums that wrap around on the way and come back."""
    random = np.random.default_rng(seed)
    matrix = np.where(random.random((rows, 40)) < share, random.integers(2**20, 2**31 - 1, (rows, 40)), 0)
    matrix[random.integers(rows)] = 2**31 - 1 - 2**15
    packed = pack(matrix.astype(np.int32))
    x = random.choice(np.array([2**52, -(2**52), 3]), (3, 40))
    found = rest_sums(x, *packed.parts[1:])
    expected = x.astype(object) @ (matrix - packed.low.astype(np.int64)).astype(object).T
    wrapped = (expected + 2**63) % 2**64 - 2**63
    assert found.tolist() == wrapped.tolist()


@LOOPS
def test_a_product_that_leaves_float64_is_exact(loops: ModuleType) -> None:
    """Sums near 2^61, odd to the last bit: what a sum in floats would lose."""
    x = np.full((9, 4), 2**30 - 1, np.int32)
    weights = np.full((5, 4), 2**29 + 1, np.int32)
    for limb_bits, tiles in ((8, None), (7, None), (0, None), (0, True if loops is kernels else None)):
        out = np.zeros((9, 5), np.int64)
        Form(loops, limb_bits, tiles).product(x, pack(weights, 2.0**61), 1, Scratch(), out)
        assert (out == ((2**30 - 1) * (2**29 + 1) * 4 + 1) // 2).all()


@given(SEEDS, st.sampled_from([8, 7]))
def test_limbs_add_up(seed: int, width: int) -> None:
    random = np.random.default_rng(seed)
    x = values(random, (3, 17), 2**30).astype(np.int32)
    low = np.clip(values(random, (5, 17), 2**15), LEAST, MOST).astype(np.int16)
    low[0, :2] = LEAST, MOST
    for loops in (kernels, twins):
        planes, digits = np.zeros((3, 4, 17), np.int8), np.zeros((5, -(-16 // width), 17), np.int8)
        loops.split_tokens(x, planes)
        loops.split_weights(low, width, digits)
        assert (sum(planes[:, i].astype(np.int64) << 8 * i for i in range(4)) == x).all()
        limbs = digits[:, ::-1].astype(np.int64)
        assert (sum(limbs[:, i] << width * i for i in range(digits.shape[1])) == low).all()
        assert np.abs(digits.astype(int) + 0.5).max() < 2 ** (width - 1)


@given(st.integers(0, 2**61), st.integers(0, 2**30))
def test_square_roots_are_exact(x: int, root: int) -> None:
    for value in (x, root * root, max(root * root - 1, 0), root * root + 1):
        assert int(kernels.square_root(value)) == math.isqrt(value)
        assert int(twins.square_root(np.array([value]))[0]) == math.isqrt(value)


@given(SEEDS, st.sampled_from([32, 4096, 8192]), st.integers(0, 2**48))
def test_norm(seed: int, width: int, epsilon: int) -> None:
    random = np.random.default_rng(seed)
    hidden = values(random, (4, width), 2**31 - 1).astype(np.int32)
    hidden[0] = 2**31 - 1
    hidden[1] = random.integers(-2, 3, width)
    hidden[2] = 0
    drop = 51 - (bits.NORMED + 1 + (width.bit_length() + 1) // 2)
    numerator = math.isqrt(width << (2 * (bits.NORMED + 1 + drop)))
    made = [np.zeros((4, width), np.int32) for _ in range(2)]
    for loops, out in zip((kernels, twins), made, strict=True):
        loops.norm(hidden, epsilon, numerator, drop, out)
    assert (made[0] == made[1]).all()
    row = [int(x) for x in hidden[3]]
    power = min(bits.NORM_INPUT - max(map(abs, row)).bit_length(), 8)
    scaled = [x << power if power >= 0 else shifted(x, -power) for x in row]
    whole = sum(x * x for x in scaled) + (epsilon << 2 * power if power >= 0 else shifted(epsilon, -2 * power))
    factor = numerator // math.isqrt(max(4 * whole, 1))
    assert made[0][3].tolist() == [shifted(x * factor, drop) for x in scaled]


@given(SEEDS, st.integers(1, 4), st.sampled_from([0, 5]), st.lists(st.integers(0, 7), min_size=1, max_size=3))
def test_turns_and_attention(seed: int, count: int, begin: int, padding: list[int]) -> None:
    random = np.random.default_rng(seed)
    batch, heads, groups, size, room = len(padding), 4, 2, 6, 12
    pads = np.array(padding, np.int64)
    qkv = values(random, (batch, count, heads + 2 * groups, size), 2**21)
    cosines, sines = (values(random, (room, size // 2), 2**20).astype(np.int32) for _ in range(2))
    found = []
    for loops in (kernels, twins):
        query = np.zeros((batch, heads, count, size), np.int32)
        keys = values(np.random.default_rng(seed), (batch, groups, room, size), 2**21).astype(np.int32)
        kept = keys[::-1].copy()
        loops.turn(qkv, begin, pads, cosines, sines, query, keys, kept)
        mixed = np.full((batch, count, heads, size), 7, np.int32)
        loops.attend(query, keys, kept, begin, pads, EXP2, mixed)
        scores = twins.attention_scores(query, keys[:, :, : begin + count], begin, pads)[0].astype(np.float64)
        loops.soften(scores, begin, pads[0], EXP2)
        found.append((query, keys, kept, mixed, scores))
    for one, other in zip(*found, strict=True):
        assert (one == other).all()
    query, keys, kept, mixed, scores = found[0]
    seen = range(padding[0], begin + count)
    if not seen:
        assert (mixed[0, -1] == 0).all()
        return
    own = [sum(int(q) * int(k) for q, k in zip(query[0, 3, -1], keys[0, 1, at], strict=True)) for at in seen]
    exps = [int(EXP2[min((max(own) - score) >> bits.SCORE_SHIFT, len(EXP2) - 1)]) for score in own]
    weights = [exp * (bits.ONE_SHARE // sum(exps)) >> bits.EXP for exp in exps]
    assert scores[3, -1, list(seen)].tolist() == weights
    expected = sum(weight * int(kept[0, 1, at, 2]) for weight, at in zip(weights, seen, strict=True))
    assert mixed[0, -1, 3, 2] == shifted(expected, bits.PROBABILITY)


@given(SEEDS, st.integers(21, 30))
def test_gate_and_sum(seed: int, power: int) -> None:
    random = np.random.default_rng(seed)
    gate_up = values(random, (3, 20), 2**30)
    hidden, delta = values(random, (3, 10), 2**31 - 1).astype(np.int32), values(random, (3, 10), 2**40)
    found = []
    for loops in (kernels, twins):
        made, total = np.zeros((3, 10), np.int32), np.zeros((3, 10), np.int32)
        loops.gate(gate_up, SIGMOID, 2**power, made)
        loops.add(hidden, delta, total)
        found.append((made, total))
    for at in range(10):
        gate, up = int(gate_up[1, at]), int(gate_up[1, 10 + at])
        index = min(max(shifted(gate, bits.SIGMOID_SHIFT) + bits.SIGMOID_ZERO, 0), len(SIGMOID) - 1)
        product = shifted(shifted(int(SIGMOID[index]) * gate, bits.SIGMOID) * up, bits.PRODUCT_SHIFT)
        assert found[0][0][1, at] == max(-(2**power), min(2**power, product))
        assert found[0][1][1, at] == max(-bits.INT32, min(bits.INT32, int(hidden[1, at]) + int(delta[1, at])))
    for one, other in zip(*found, strict=True):
        assert (one == other).all()


def test_matrices_of_a_block_do_not_touch():
    """Also one that a block has no room left for, and one larger than a block."""
    blocks, half = Blocks(), Blocks.BLOCK // 4
    shapes = [(1, 33), (half, 1), (3, 5), (1, half), (1, 2 * half + 1), (7, 1)]
    taken = [blocks.take(shape) for shape in shapes]
    for number, own in enumerate(taken):
        own[:] = number
    assert [(own.shape, set(own.flat[:: max(own.size // 99, 1)])) for own in taken] == [
        (shape, {number}) for number, shape in enumerate(shapes)
    ]
    # small ones share memory of the size at which NumPy asks for large pages
    assert taken[0].base is taken[1].base is taken[2].base
    assert taken[0].base is not None
    assert taken[0].base.nbytes == Blocks.BLOCK


@LOOPS
@given(SEEDS, st.sampled_from([1.0, 2.0**16, bits.LOG2E * 2.0**16]))
def test_packing_rounds_as_the_definition_says(loops: ModuleType, seed: int, factor: float) -> None:
    from fractions import Fraction

    random = np.random.default_rng(seed)
    source = random.normal(0, 2**14 / factor, (6, 11)).astype(np.float32)
    source[0, :4] = np.array([0.5, 1.5, -2.5, 40000]) / factor
    columns = random.uniform(0.5, 3, 11).astype(np.float32).astype(np.float64)
    columns[:4] = 1
    packer = Packer((8, 11), loops, Blocks())
    under, _ = packer.add(6, np.ones((2, 11), np.float32), np.ones(11), 70000.0)
    found, sizes = packer.add(0, source, columns, factor)
    # the product with a column is exact in float64, that with the factor is rounded once
    exact = [
        [round(Fraction(float(float(w) * c) * factor)) for w, c in zip(row, columns, strict=True)] for row in source
    ]
    assert found.tolist() == exact
    assert (packer.finish().dense() == np.concatenate([found, under])).all()
    expected = RowSizes.of(found)
    assert (sizes.largest, sizes.total) == (expected.largest, expected.total)
    assert sizes.longest == pytest.approx(expected.longest)
