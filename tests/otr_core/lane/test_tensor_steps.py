"""The steps between projections: on NumPy's floats and on integers the same bits, and near the
functions that they stand for."""

import math

import numpy as np
import pytest

from otr_core.lane import tensor_steps as steps
from tests.helpers.exact_floats import float_objects, words_of


def some(random: np.random.Generator, *shape: int, spread: int = 6) -> np.ndarray:
    """Numbers of several orders of magnitude."""
    return (random.normal(size=shape) * 2.0 ** random.integers(-spread, spread + 1, shape)).astype(np.float32)


def same(function, *values):
    """The words that a function gives on floats, once they are those on integers."""
    with np.errstate(invalid="ignore"):  # NaNs are compared with numbers, and are none of them
        found = function(*values)
        defined = function(*(float_objects(value) if isinstance(value, np.ndarray) else value for value in values))
    for one, other in zip(*((x if isinstance(x, tuple) else (x,)) for x in (found, defined)), strict=True):
        assert words_of(one) == words_of(other)
    return found


def test_exponentials_are_those_of_integers_and_near_the_true_ones():
    random = np.random.default_rng(1)
    edges = [
        0.0,
        -0.0,
        -87.0,
        -87.00001,
        88.0,
        88.5,
        1e30,
        -1e30,
        math.inf,
        -math.inf,
        math.nan,
        1e-40,
        0.34657,
        -0.34658,
    ]
    x = np.concatenate([random.uniform(-90, 90, 1500), some(random, 500), edges]).astype(np.float32)
    found = same(steps.exponential, x)
    within = (x >= steps.LEAST) & (x <= steps.MOST)
    true = np.exp(x[within].astype(np.float64))
    assert (abs(found[within] - true) / true).max() < 2.5e-7
    assert (found[x < steps.LEAST] == 0).all()
    assert (found[x > steps.MOST] == found[x == steps.MOST][0]).all()
    assert np.isnan(found[np.isnan(x)]).all()


@pytest.mark.parametrize("width", [1, 31, 32, 33, 96, 130])
def test_sums_are_in_the_stated_order(width):
    x = some(np.random.default_rng(width), 4, width, spread=20)
    found = same(steps.summed, x)
    for row, total in zip(x, found, strict=True):
        running = [np.float32(0)] * 32
        for number, value in enumerate(row):
            running[number % 32] = running[number % 32] + value
        for half in (16, 8, 4, 2, 1):
            running = [running[i] + running[i + half] for i in range(half)]
        assert running[0] == total[0]


def test_norms_turns_gates_and_weights_are_those_of_integers():
    random = np.random.default_rng(2)
    x, weight = some(random, 3, 40), some(random, 40, spread=1)
    found = same(steps.normed, x, weight, np.float32(1e-5))
    true = x / np.sqrt((x.astype(np.float64) ** 2).mean(axis=1, keepdims=True) + 1e-5) * weight
    assert np.abs(found - true).max() < 1e-5
    heads, angle = some(random, 2, 3, 8), random.uniform(0, 6, (2, 1, 4))
    cosines, sines = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    found = same(steps.turned, heads, cosines, sines)
    complex_heads = (heads[..., :4] + 1j * heads[..., 4:]) * np.exp(1j * angle)
    assert np.allclose(found[..., :4] + 1j * found[..., 4:], complex_heads, rtol=1e-5, atol=1e-4)
    gate, up = some(random, 200), some(random, 200)
    found = same(steps.gated_silu, gate, up)
    assert np.allclose(found, gate / (1 + np.exp(-gate.astype(np.float64))) * up, rtol=1e-6, atol=1e-30)
    scores = some(random, 4, 37)
    weights, total = same(steps.weighed_scores, scores, 8)
    true = np.exp((scores - scores.max(axis=1, keepdims=True)) / math.sqrt(8))
    assert np.abs(weights - true).max() < 1e-5
    assert np.abs(total[:, 0] / true.sum(axis=1) - 1).max() < 1e-5


def test_a_nan_goes_on_as_one():
    x = np.array([[1.0, math.nan, 2.0]], np.float32)
    assert np.isnan(steps.gated_silu(x, x)[0, 1])
    assert np.isnan(steps.normed(x, np.ones(3, np.float32), np.float32(0))).all()
