"""Each operation of the portable lane against Python's integers, up to the edge of what is
allowed."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from otr_core.lane import formats
from otr_core.lane.rotary import RopeScaling
from otr_core.lane.tables import exp2_table, rotary_table, sigmoid_table
from tests.helpers import float_primitives as p

WIDE = st.integers(-formats.LIMIT + 1, formats.LIMIT - 1)
POSITIVE = st.integers(1, formats.LIMIT - 1)


def tensor(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def ints(x: torch.Tensor) -> list[int]:
    assert torch.equal(x, x.floor())
    return [int(value) for value in x.reshape(-1).tolist()]


@given(st.lists(WIDE, min_size=1, max_size=20), st.integers(1, 50))
def test_shift(values: list[int], bits: int) -> None:
    assert ints(p.shift(tensor(*values), bits)) == [(x + (1 << (bits - 1))) >> bits for x in values]


@given(st.lists(st.integers(-(2**31), 2**31), min_size=1, max_size=8), st.integers(-40, 20))
def test_scale(values: list[int], power: int) -> None:
    expected = [x << power if power >= 0 else (x + (1 << (-power - 1))) >> -power for x in values]
    assert ints(p.scale(tensor(*values), torch.tensor([power]))) == expected


@given(st.lists(st.tuples(st.integers(0, formats.LIMIT - 1), POSITIVE), min_size=1, max_size=20))
def test_divide(pairs: list[tuple[int, int]]) -> None:
    a, b = zip(*pairs, strict=True)
    assert ints(p.divide(tensor(*a), tensor(*b))) == [x // y for x, y in pairs]


@given(st.integers(1, 2**26), st.integers(1, 2**25))
def test_divide_next_to_a_multiple(b: int, q: int) -> None:
    for a in (b * q - 1, b * q, b * q + 1):
        assert ints(p.divide(tensor(a), tensor(b))) == [a // b]


@given(st.integers(0, formats.LIMIT - 1), st.integers(0, 2**26 - 1))
def test_square_root(x: int, r: int) -> None:
    for value in (x, r * r, max(0, r * r - 1), r * r + 1):
        assert ints(p.square_root(tensor(value))) == [math.isqrt(value)]


@given(st.integers(0, formats.LIMIT - 1), st.integers(0, 51))
def test_bit_length(x: int, k: int) -> None:
    for value in (x, 2**k, 2**k - 1):
        assert ints(p.bit_length(tensor(value)).double()) == [value.bit_length()]


@given(st.lists(WIDE, min_size=1, max_size=10), st.integers(1, 2**31))
def test_saturate_and_largest(values: list[int], bound: int) -> None:
    assert ints(p.largest(tensor(*values))) == [max(values)]
    assert ints(p.saturate(tensor(*values), bound)) == [max(-bound, min(bound, x)) for x in values]


@given(st.lists(st.integers(-9, 12).map(lambda x: x / 2), min_size=1, max_size=10))
def test_lookup_cuts_and_floors(index: list[float]) -> None:
    table = tensor(5, 7, 11, 13)
    expected = [[5, 7, 11, 13][max(0, min(3, math.floor(i)))] for i in index]
    assert ints(p.lookup(table, torch.tensor(index, dtype=torch.float64))) == expected


def test_dot_is_exact_in_any_order() -> None:
    """Sums that reach 2^51: a format that dropped one bit anywhere would show."""
    rng = random.Random(1)
    n = 513
    x = [[rng.randint(-(2**20), 2**20) for _ in range(n)] for _ in range(7)]
    w = [[rng.randint(-(2**21), 2**21) for _ in range(n)] for _ in range(9)]
    expected = [[sum(a * b for a, b in zip(row, column, strict=True)) for column in w] for row in x]
    order = rng.sample(range(n), n)
    one, two = torch.tensor(x, dtype=torch.float64), torch.tensor(w, dtype=torch.float64)
    assert p.dot(one, two).tolist() == expected
    assert p.dot(one[:, order], two[:, order]).tolist() == expected
    assert p.dot(one[3:4], two).tolist() == expected[3:4]


def test_exp2_table_is_rounded_to_nearest() -> None:
    import decimal

    table = exp2_table(10, 20)
    with decimal.localcontext(decimal.Context(prec=40)):
        ratio = decimal.Decimal(2).ln() / 1024
        for f, value in enumerate(table):
            assert value == int(((-ratio * f).exp() * 2**20).to_integral_value(decimal.ROUND_HALF_UP))


def test_sigmoid_table_is_rounded_to_nearest_and_symmetric() -> None:
    table = sigmoid_table(6, 20, 12)
    assert len(table) == 2 * 12 * 64 + 1
    for i, value in enumerate(table):
        # float64 is good to 1e-10 of a unit here; no entry lies that near to a half
        assert abs(value - 2**20 / (1 + math.exp(-(i / 64 - 12)))) < 0.5 + 1e-9
        assert value + table[-1 - i] == 2**20


@pytest.mark.parametrize("theta", [10000.0, 100000.0, 500000.0])
def test_rotary_table_is_rounded_to_nearest(theta: float) -> None:
    cosines, sines = rotary_table(theta, 16, 300, 20)
    for position in (0, 1, 7, 299):
        for j in range(8):
            angle = position * theta ** (-2 * j / 16)
            assert abs(cosines[position][j] - math.cos(angle) * 2**20) < 0.5 + 1e-7
            assert abs(sines[position][j] - math.sin(angle) * 2**20) < 0.5 + 1e-7


@pytest.mark.parametrize("theta", [10000.0, 500000.0])
def test_stretched_frequencies_are_those_of_the_library(theta: float) -> None:
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaling = RopeScaling(8.0, 1.0, 4.0, 8192)
    rope = {**scaling.config(), "rope_theta": theta}
    config = LlamaConfig(hidden_size=128, num_attention_heads=1, max_position_embeddings=131072, rope_parameters=rope)
    expected, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    cosines, sines = rotary_table(theta, 128, 2, 52, scaling)
    found = [math.atan2(s, c) for c, s in zip(cosines[1], sines[1], strict=True)]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5)  # the library computes in fp32
    plain = rotary_table(theta, 128, 2, 52)
    assert plain[0][1][0] == cosines[1][0]  # a quick rotation stays
    assert plain[1][1][-1] != sines[1][-1]  # a slow one is stretched
