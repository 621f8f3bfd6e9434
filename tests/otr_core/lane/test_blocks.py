"""Blocks and fp32 steps against fractions, the machine's IEEE units and torch; and their special values."""

import struct

import numpy as np
import pytest
import torch

from otr_core.errors import InputError
from otr_core.lane.blocks import (
    BF16,
    BF16_BLOCK,
    E4M3,
    E5M2,
    FP16,
    FP32,
    INSTRUCTIONS,
    block,
    dot_product,
    fp32_add,
    fp32_divide,
    fp32_fma,
    fp32_multiply,
    fp32_root,
    fp32_to_bf16,
    parts,
    round_to,
    vanishes,
)
from tests.helpers import exact_floats as exact

INF, NAN, ONE = 0x7F80, 0x7FC0, 0x3F80
ZEROS = [0] * 16


def row(*words: int) -> list[int]:
    return [*words, *ZEROS[len(words) :]]


def some_words(random: np.random.Generator, bits: int, count: int) -> list[int]:
    """Random words of 16 or 32 bits: any exponent, few exponents, few bits, and the borders."""
    top = 1 << (bits - 1)
    infinity = 0x7F80 << (bits - 16)
    words = random.integers(0, 2 * top, count)
    near = (random.integers(100, 150, count) << (bits - 9)) | (words & ((1 << (bits - 9)) - 1)) | (words & top)
    small = words & (top | ((1 << random.integers(1, bits - 8)) - 1))
    borders = random.choice([0, top, 1, infinity - 1, infinity, infinity + 1, top | infinity, 2 * top - 1], count)
    choice = random.integers(0, 10, count)
    return [int(x) for x in np.select([choice < 4, choice < 7, choice < 9], [words, near, small], borders)]


def test_fp32_steps_are_those_of_the_machine():
    random = np.random.default_rng(1)
    a, b, c = (some_words(random, 32, 20_000) for _ in range(3))
    x, y = (np.array(words, np.uint32).view(np.float32) for words in (a, b))
    with np.errstate(all="ignore"):
        sums, products = ((x + y).view(np.uint32), (x * y).view(np.uint32))
        quotients, roots = ((x / y).view(np.uint32), np.sqrt(x).view(np.uint32))
    for i in range(len(a)):
        assert fp32_add(a[i], b[i]) == exact.canonical(int(sums[i])), (a[i], b[i])
        assert fp32_multiply(a[i], b[i]) == exact.canonical(int(products[i])), (a[i], b[i])
        assert fp32_divide(a[i], b[i]) == exact.canonical(int(quotients[i])), (a[i], b[i])
        assert fp32_root(a[i]) == exact.canonical(int(roots[i])), a[i]
        assert fp32_fma(a[i], b[i], c[i]) == exact.libm_fma(a[i], b[i], c[i]), (a[i], b[i], c[i])


def test_a_fused_step_rounds_once():
    # (1 + 2^−12)² − (1 + 2^−11) is 2^−24, which a rounded product has lost
    near, other = 0x3F800800, 0xBF801000
    assert fp32_fma(near, near, other) == 0x33800000
    assert fp32_add(fp32_multiply(near, near), other) == 0


def test_narrowing_is_that_of_torch():
    words = np.array([*some_words(np.random.default_rng(2), 32, 50_000), 0x3F808000, 0x3F818000], np.uint32)
    theirs = (
        torch.from_numpy(words.view(np.float32).copy()).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    )
    for word, other in zip(words.tolist(), theirs.tolist(), strict=True):
        assert fp32_to_bf16(word) == (0x7FFF if other & 0x7FFF > 0x7F80 else other)


@pytest.mark.parametrize(
    ("form", "theirs"),
    [(BF16, torch.bfloat16), (FP16, torch.float16), (E5M2, torch.float8_e5m2), (E4M3, torch.float8_e4m3fn)],
)
def test_words_are_the_numbers_that_torch_reads(form, theirs):
    words = np.arange(2 * form.sign, dtype=np.uint16 if form.sign > 128 else np.uint8)
    numbers = torch.from_numpy(words.view(np.int16 if form.sign > 128 else np.uint8)).view(theirs).double().tolist()
    for word, number in enumerate(numbers):
        x = parts(form, word)
        if number != number or abs(number) == float("inf"):
            assert (x.finite, x.significand > 0) == (False, number != number)
        else:
            assert x.finite
            assert x.sign * x.significand * 2.0 ** (x.exponent - form.fraction_bits) == number
            assert (x.sign < 0) == (word >= form.sign)
            if form.infinities:
                value = x.sign * x.significand
                assert round_to(form, value, x.exponent - form.fraction_bits) == (word if value else 0)


def test_rounding_to_fp16_is_that_of_numpy():
    random = np.random.default_rng(3)
    for value in np.concatenate([random.normal(size=2000), random.normal(size=2000) * 1e-6, [65519.9, 65520.0]]):
        numerator, denominator = float(value).as_integer_ratio()
        with np.errstate(over="ignore"):
            word = int(np.float16(value).view(np.uint16))
        # rounding to zero keeps the sign in both
        assert round_to(FP16, numerator, 1 - denominator.bit_length()) == word


def test_blocks_of_every_exponent_are_those_of_fractions():
    random = np.random.default_rng(4)
    agreed = 0
    for _ in range(3000):
        spread = int(random.integers(0, 128))
        centre = int(random.integers(0, 256))
        a, b = (_around(random, centre if side else 254 - centre, spread) for side in (0, 1))
        c = _around(random, int(random.integers(0, 256)), 127)[0] << 16 | int(random.integers(65536))
        agreed += block(BF16_BLOCK, a, b, c) == exact.bf16_block(a, b, c)
    assert agreed == 3000


def _around(random: np.random.Generator, centre: int, spread: int) -> list[int]:
    """Finite bf16 words whose exponents lie about a centre."""
    fields = np.clip(random.integers(centre - spread, centre + spread + 1, 16), 0, 254)
    words = fields << 7 | random.integers(0, 128, 16) | random.integers(0, 2, 16) << 15
    return [int(word) for word in np.where(random.random(16) < 0.1, 0, words)]


def test_terms_are_cut_25_bits_below_the_largest():
    tiny = 0x3F80 - (13 << 7)  # 2^−13: its square is 2^−26
    assert block(BF16_BLOCK, row(tiny), row(tiny), 0x3F800000) == 0x3F800000
    # two terms of 2^−26 would make 2^−25, if they were not cut one by one
    assert block(BF16_BLOCK, [tiny] * 16, [tiny] * 16, 0) == 0x34800000
    assert block(BF16_BLOCK, [*[tiny] * 15, 0], [*[tiny] * 15, 0], 0x3F800000) == 0x3F800000
    # terms of 2^−24 are kept, and four of them reach the last bit of the result
    less = tiny + (1 << 7)
    assert block(BF16_BLOCK, row(*[less] * 2), row(*[less] * 2), 0x3F800000) == 0x3F800001


def test_a_product_weighs_by_its_exponents_and_not_by_its_size():
    # 1.5 · 1.5 is above 2, yet the grid is laid by 2^0: 2^−25 beside it is kept
    a, b = row(0x3FC0, 0x3FC0, 0x3F80 - (12 << 7)), row(0x3FC0, 0xBFC0, 0x3F80 - (13 << 7))
    assert block(BF16_BLOCK, a, b, 0) == 0x33000000
    # beside an accumulator of 2.25 it is cut
    assert block(BF16_BLOCK, row(0x3FC0, a[2]), row(0x3FC0, b[2]), 0xC0100000) == 0


def test_the_grid_has_a_floor():
    # 2^−126 · 2^−33 is below the grid of 2^−158
    assert block(BF16_BLOCK, row(0x0080, *[0x0080] * 15), row(*[0x3F80 - (33 << 7)] * 16), 0) == 0
    # and 16 of 2^−153 are exactly the least subnormal number
    assert block(BF16_BLOCK, [0x0080] * 16, [0x3F80 - (27 << 7)] * 16, 0) == 1
    # an accumulator that is subnormal comes back
    assert block(BF16_BLOCK, ZEROS, ZEROS, 0x00000001) == 1
    assert block(BF16_BLOCK, ZEROS, ZEROS, 0x80000001) == 0x80000001


def test_zeros_lay_no_grid():
    # 0 · 2^127 would lay it by 2^1, far above 2^−60 · 2^−60; a zero accumulator by 2^−126
    small = 0x3F80 - (60 << 7)
    assert block(BF16_BLOCK, row(0, 0x8000, small), row(0x7F00, 0x7F00, small), 0) == 0x3F800000 - (120 << 23)
    tiny = 0x3F80 - (65 << 7)
    assert block(BF16_BLOCK, [tiny] * 16, [tiny] * 16, 0x80000000) == 0x3F800000 - (126 << 23)


def test_zeros_of_any_sign_sum_to_plus_zero():
    assert block(BF16_BLOCK, [0x8000] * 16, [ONE] * 16, 0x80000000) == 0
    assert block(BF16_BLOCK, row(ONE, ONE), row(ONE, 0xBF80), 0x80000000) == 0


def test_what_rounds_to_zero_is_plus_zero():
    # −2^−152: on the grid, below every number of fp32
    a, b = row(0x8080), row(0x3F80 - (26 << 7))
    assert block(BF16_BLOCK, a, b, 0) == 0
    assert vanishes(a, b, 0)
    assert not vanishes(row(0x0080), b, 0)  # from above
    assert not vanishes(ZEROS, ZEROS, 0x80000001)  # the least number below zero stays
    assert not vanishes(row(ONE, ONE), row(ONE, 0xBF80), 0x80000000)  # nothing was there


@pytest.mark.parametrize(
    ("a", "b", "c", "result"),
    [
        (row(INF), row(ONE), 0, 0x7F800000),
        (row(INF), row(0xBF80), 0, 0xFF800000),
        (row(INF, INF), row(ONE, ONE), 0x7F800000, 0x7F800000),
        (row(INF), row(ONE), 0xFF800000, 0x7FFFFFFF),
        (row(INF, INF), row(ONE, 0xBF80), 0, 0x7FFFFFFF),
        (row(INF), row(0), 0, 0x7FFFFFFF),
        (row(0x8000), row(INF), 0, 0x7FFFFFFF),
        (row(NAN), row(0), 0, 0x7FFFFFFF),
        (row(0), row(0xFFFF), 0, 0x7FFFFFFF),
        (row(NAN), row(INF), 0, 0x7FFFFFFF),
        (ZEROS, ZEROS, 0xFF800001, 0x7FFFFFFF),
        (ZEROS, ZEROS, 0xFF800000, 0xFF800000),
        (row(0x0001), row(INF), 0, 0x7F800000),
        (row(0x7F7F), row(0x7F7F), 0, 0x7F800000),  # too large, and every term finite
        (row(0x7F7F), row(0xFF7F), 0, 0xFF800000),
        (row(0x7F7F, 0x7F7F), row(0x7F7F, 0xFF7F), ONE << 16, 0),  # the accumulator lies below the grid
    ],
)
def test_special_values_are_defined(a, b, c, result):
    assert block(BF16_BLOCK, a, b, c) == result


def test_units_without_infinities_have_a_nan():
    instruction = INSTRUCTIONS["E4M3"]
    assert block(instruction, [0x7E] * 32, [0x7E] * 32, 0) == struct.unpack("<I", struct.pack("<f", 32 * 448.0**2))[0]
    assert block(instruction, [0x7F] + [0] * 31, [0] * 32, 0) == 0x7FFFFFFF


def test_fp16_results_round_to_nearest_even():
    instruction = INSTRUCTIONS["fp16 to fp16"]
    # 1 + 2^−11 is a tie and goes to 1; 1 + 3 · 2^−11 is one too and goes up
    for factor, result in ((0x1000, 0x3C00), (0x1600, 0x3C02)):
        assert block(instruction, row(factor), row(0x3C00), 0x3C00) == result
    assert block(instruction, row(0x7BFF), row(0x7BFF), 0) == 0x7C00
    assert block(instruction, row(0x7E00), row(0x3C00), 0) == 0x7FFF


def test_a_dot_product_is_its_blocks_in_order():
    random = np.random.default_rng(5)
    a, b = (_around(random, 127, 3) + _around(random, 127, 3) + _around(random, 127, 3)[:5] for _ in range(2))
    total = block(BF16_BLOCK, a[:16], b[:16], 0)
    total = block(BF16_BLOCK, a[16:32], b[16:32], total)
    assert dot_product(a, b) == block(BF16_BLOCK, row(*a[32:]), row(*b[32:]), total)
    assert dot_product([], []) == 0


def test_what_is_no_block_is_refused():
    with pytest.raises(InputError, match="found 15 and 16 factors, expected 16 each"):
        block(BF16_BLOCK, ZEROS[:15], ZEROS, 0)
    for a, c in ((row(1 << 16), 0), (row(-1), 0), (ZEROS, 1 << 32)):
        with pytest.raises(InputError, match="word: found"):
            block(BF16_BLOCK, a, ZEROS, c)
    with pytest.raises(InputError, match="dot product: found 3 and 2"):
        dot_product([0] * 3, [0] * 2)
    with pytest.raises(InputError, match="word: found"):
        parts(FP32, -1)
