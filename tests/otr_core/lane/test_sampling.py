from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otr_core.encoding import tagged_hash
from otr_core.errors import ParameterError
from otr_core.lane.sampling import Decoding, choose_token, draw


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 0},
        {"max_tokens": True},
        {"max_tokens": 1.5},
        {"max_tokens": 5, "seed": -1},
        {"max_tokens": 5, "seed": 2**53},
        {"max_tokens": 5, "temperature_milli": 5001},
        {"max_tokens": 5, "temperature_milli": -1},
    ],
)
def test_parameters_out_of_range(fields: dict) -> None:
    with pytest.raises(ParameterError, match=list(fields)[-1]):
        Decoding(**fields)


def test_greedy_takes_the_first_largest() -> None:
    assert choose_token(np.array([1, 5, 5, 2], np.float32), 0, 2**52) == 1


def test_draws_are_uniform_and_differ_by_seed_and_step() -> None:
    draws = [draw(7, step) / 2**53 for step in range(4000)]
    assert min(draws) >= 0
    assert max(draws) < 1
    assert abs(np.mean(draws) - 0.5) < 5 / math.sqrt(12 * 4000)
    assert draw(7, 0) != draw(7, 1) != draw(8, 1)
    assert draw(7, 3) == draw(7, 3)


def test_nobody_chooses_draws_by_choosing_a_seed() -> None:
    """The order's id is part of every draw: other orders have other draws under one seed, and those
    of an order are not those of its seed alone."""
    first, second = b"a" * 32, b"b" * 32
    found = {draw(0, 0), draw(0, 0, first), draw(0, 0, second), draw(0, 1, first), draw(1, 0, first)}
    assert len(found) == 5
    assert draw(7, 3, first) == draw(7, 3, first)
    draws = [draw(0, 0, number.to_bytes(32, "big")) / 2**53 for number in range(4000)]
    assert abs(np.mean(draws) - 0.5) < 5 / math.sqrt(12 * 4000)


def test_recorded_draws_without_an_order_keep_their_bits() -> None:
    """By the definition: SHA-256 of the tag, seed and step as 64-bit little-endian integers."""
    assert draw(7, 3) == int.from_bytes(tagged_hash("sample", struct.pack("<QQ", 7, 3))[:8], "little") >> 11


def test_frequencies_follow_softmax_at_the_temperature() -> None:
    logits = np.log(np.array([0.1, 0.6, 0.3], np.float32))
    for milli, expected in ((1000, [0.1, 0.6, 0.3]), (500, np.array([0.01, 0.36, 0.09]) / 0.46)):
        counts = np.bincount([choose_token(logits, milli, draw(5, step)) for step in range(6000)], minlength=3)
        for count, p in zip(counts, expected, strict=True):
            assert abs(count - 6000 * p) < 5 * math.sqrt(6000 * p * (1 - p))


@given(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=20), st.integers(0, 2**53 - 1), st.integers(1, 5000))
def test_always_a_valid_id_of_positive_probability(values: list[float], seed: int, milli: int) -> None:
    logits = np.array(values, np.float32)
    token = choose_token(logits, milli, draw(seed, 0))
    assert 0 <= token < len(values)
    # exp of less is 0 in float64
    assert (float(logits[token]) - float(logits.max())) * 1000 / milli > -746
