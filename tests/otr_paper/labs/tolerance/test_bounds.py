"""The bounds of each operator, against exact rational arithmetic and against inexact libraries."""

from __future__ import annotations

import random
from fractions import Fraction
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otr_core.errors import InputError, ParameterError
from otr_paper.labs.tolerance import tolerance
from otr_paper.labs.tolerance.tolerance import FORMATS

F32, BF16 = FORMATS["native-float32"], FORMATS["native-bfloat16"]

seeds = st.integers(0, 2**32 - 1)


def nearest(exact: Fraction) -> np.float32:
    """The fp32 value nearest to an exact number."""
    near = np.float32(float(exact))
    options = [np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))]
    return min((o for o in options if np.isfinite(o)), key=lambda o: abs(Fraction(float(o)) - exact))


def exact(value: np.floating | float) -> Fraction:
    return Fraction(float(value))


def summed(terms: list[np.float32], order: random.Random) -> np.float32:
    """The terms added in fp32 in a random order and nesting."""
    terms = list(terms)
    while len(terms) > 1:
        i, j = order.sample(range(len(terms)), 2)
        both = terms[i] + terms[j]
        terms = [t for k, t in enumerate(terms) if k not in (i, j)] + [both]
    return terms[0]


def any_dot(x: list[np.float32], w: list[np.float32], order: random.Random) -> np.float32:
    """A dot product in fp32: random order and nesting, some products fused into a running sum."""
    pairs = list(zip(x, w, strict=True))
    order.shuffle(pairs)
    cut = order.randrange(len(pairs) + 1)
    fused = np.float32(0)
    for a, b in pairs[:cut]:
        fused = nearest(exact(fused) + exact(a) * exact(b))
    return summed([fused, *(a * b for a, b in pairs[cut:])], order)


def floats(rng: np.random.Generator, *shape: int, spread: int = 12) -> np.ndarray:
    """fp32 values over many magnitudes, some cancelling one another."""
    values = rng.normal(size=shape) * 2.0 ** rng.integers(-spread, spread, shape)
    half = shape[-1] // 2
    values[..., :half] = np.where(rng.random((*shape[:-1], half)) < 0.5, -values[..., -half:], values[..., :half])
    return values.astype(np.float32)


@given(seeds, st.integers(2, 14))
def test_linear_bound_holds_for_any_order_and_any_fusing(seed, terms):
    rng, order = np.random.default_rng(seed), random.Random(seed)
    x, w = floats(rng, 1, terms), floats(rng, 3, terms)
    reference = tolerance.linear(x.astype(float), w.astype(float), F32)
    for row in range(3):
        true = sum((exact(a) * exact(b) for a, b in zip(x[0], w[row], strict=True)), Fraction(0))
        scale = sum((abs(exact(a) * exact(b)) for a, b in zip(x[0], w[row], strict=True)), Fraction(0))
        found, bound = any_dot(list(x[0]), list(w[row]), order), exact(reference.bound[0, row])
        assert abs(exact(found) - true) <= scale * terms * Fraction(1, 2**24) / (1 - terms * Fraction(1, 2**24))
        assert abs(exact(found) - exact(reference.value[0, row])) <= bound
        least = scale * terms * Fraction(1, 2**24)
        # and no wider than the theorem's
        assert least <= bound <= least * Fraction(101, 100) + exact(2.0**-120)


def test_products_flushed_to_zero_are_honest():
    tiny, few = np.full((1, 4), 2.0**-70), np.full((1, 4), 2.0**-57)
    assert tolerance.linear(tiny, few, F32).accepts(np.zeros((1, 1)))  # four products of 2^-127
    assert tolerance.swiglu(np.full((1, 1), -90.0), np.ones((1, 1)), F32).accepts(np.zeros((1, 1)))
    assert tolerance.residual(tiny * 2.0**-57, tiny * 0, F32).accepts(np.zeros((1, 4)))
    assert not tolerance.linear(tiny, tiny, F32).accepts(np.full((1, 1), 2.0**-100))


@given(seeds, st.integers(1, 12))
def test_norm_bound_holds_for_any_order(seed, width):
    rng, order = np.random.default_rng(seed), random.Random(seed)
    x, w = floats(rng, 1, width, spread=6), floats(rng, width, spread=3)
    reference = tolerance.rms_norm(x.astype(float), w.astype(float), 1e-5, F32)
    mean = summed([a * a for a in x[0]], order) / np.float32(width)
    root = np.float32(1) / np.sqrt(mean + np.float32(1e-5))
    for step in (-2, 0, 2):  # as far off as an approximate rsqrt may be
        near = reduce(lambda r, _: np.nextafter(r, np.float32(np.inf if step > 0 else 0)), range(abs(step)), root)
        assert reference.accepts(((x * near) * w).astype(float))
    assert not reference.accepts(((x * root) * w).astype(float) * (1 + 2.0**-13))


@given(seeds)
def test_residual_is_right_only_when_rounded_to_nearest(seed):
    rng = np.random.default_rng(seed)
    a, b = floats(rng, 1, 16), floats(rng, 1, 16)
    reference = tolerance.residual(a.astype(float), b.astype(float), F32)
    assert reference.accepts((a + b).astype(float))
    moved = (a + b).astype(float)
    moved[0, 3] = np.nextafter(np.nextafter((a + b)[0, 3], np.float32(np.inf)), np.float32(np.inf))
    assert not reference.accepts(moved)


def off(values: np.ndarray, ulps: int, rng: np.random.Generator) -> np.ndarray:
    """fp32 values each moved by up to ``ulps`` units in the last place, as a library's function may
    be."""
    single = values.astype(np.float32)
    return single + rng.integers(-ulps, ulps + 1, single.shape).astype(np.float32) * np.spacing(single)


@given(seeds)
def test_rotary_bound_holds_with_inexact_sines(seed):
    rng = np.random.default_rng(seed)
    x, positions = floats(rng, 4, 16, spread=3), rng.integers(0, 8192, 4)
    frequencies = 1e5 ** (-np.arange(4) / 4)
    reference = tolerance.rotary(x.astype(float), positions, frequencies, F32)
    angles = positions[:, None].astype(np.float32) * off(frequencies, 2, rng)
    cos, sin = off(np.cos(angles.astype(float)), 2, rng)[:, None], off(np.sin(angles.astype(float)), 2, rng)[:, None]
    a, b = x.reshape(4, 2, 2, 4)[:, :, 0], x.reshape(4, 2, 2, 4)[:, :, 1]
    found = np.stack([a * cos - b * sin, b * cos + a * sin], 2).reshape(4, 16).astype(float)
    assert reference.accepts(found)
    assert not reference.accepts(found + 2 * reference.bound)


@given(seeds)
def test_swiglu_bound_holds_with_an_inexact_exp(seed):
    rng = np.random.default_rng(seed)
    gate, up = floats(rng, 1, 16, spread=7), floats(rng, 1, 16, spread=4)
    reference = tolerance.swiglu(gate.astype(float), up.astype(float), F32)
    with np.errstate(over="ignore", under="ignore"):
        exp = off(np.minimum(np.exp(-gate.astype(float)), 3e38), tolerance.EXP_ULPS, rng)
        found = ((gate / (np.float32(1) + exp)) * up).astype(float)
    assert reference.accepts(found)
    assert not reference.accepts(found + 2.1 * reference.bound)


@given(seeds, st.integers(1, 9))
def test_attention_bound_holds_for_any_order_and_an_inexact_exp(seed, positions):
    rng, order = np.random.default_rng(seed), random.Random(seed)
    query, keys, values = (floats(rng, n, d, spread=2) for n, d in ((1, 8), (positions, 4), (positions, 4)))
    reference = tolerance.attention(query.astype(float), keys.astype(float), values.astype(float), 4, F32)
    found = []
    for head in (0, 1):
        q = list(query[0, 4 * head :][:4])
        scores = np.array([any_dot(q, list(k), order) * np.float32(0.5) for k in keys], np.float32)
        exp = off(np.exp((scores - scores.max()).astype(float)), tolerance.EXP_ULPS, rng)
        weights = exp / summed(list(exp), order)
        found += [any_dot(list(weights), list(values[:, c]), order) for c in range(4)]
    claimed = np.array([found], float)
    assert reference.accepts(claimed)
    assert not reference.accepts(claimed + 2.1 * reference.bound)
    assert (reference.bound <= 1e-3 * np.abs(values).max()).all()


def test_attention_sees_no_later_position_and_uses_the_right_key_head():
    rng = np.random.default_rng(3)
    query, keys, values = rng.normal(size=(5, 16)), rng.normal(size=(5, 8)), rng.normal(size=(5, 8))
    whole = tolerance.attention(query, keys, values, 4, F32)
    for row in range(5):
        one = tolerance.attention(query[row : row + 1], keys[: row + 1], values[: row + 1], 4, F32)
        assert np.allclose(whole.value[row], one.value[0], rtol=1e-12, atol=1e-14)
        for head in range(4):
            q, k, v = query[row, 4 * head :][:4], keys[: row + 1, head // 2 * 4 :], values[: row + 1, head // 2 * 4 :]
            weights = np.exp(k[:, :4] @ q / 2)
            mixed = weights / weights.sum() @ v[:, :4]
            assert np.allclose(whole.value[row, 4 * head :][:4], mixed, rtol=1e-12, atol=1e-14)
    with pytest.raises(InputError, match="attention"):
        tolerance.attention(query, keys[:3], values[:3], 4, F32)


def test_softmax_may_err_one_way_in_a_term_and_the_other_in_the_sum():
    reference = tolerance.attention(np.zeros((1, 4)), np.zeros((8, 4)), np.eye(8, 4), 4, F32)
    ulp = tolerance.EXP_ULPS * 2.0**-23
    weights = np.array([1 + ulp, *[1 - ulp] * 7])
    weights /= weights.sum()
    assert reference.accepts((weights @ np.eye(8, 4))[None])


def test_bf16_rotary_counts_the_stored_cosine_and_both_elementwise_roundings():
    reference, u = tolerance.rotary(np.ones((1, 2)), np.array([1]), np.ones(1), BF16), 2.0**-8
    sizes = np.cos(1) + np.sin(1)
    assert (2 * u * (1 + sizes) <= reference.bound).all()
    assert (reference.bound <= 2.1 * u * (1 + sizes)).all()


def test_enormous_scores_do_not_widen_the_bound_beyond_the_values():
    reference = tolerance.attention(np.full((1, 4), 1e30), np.full((2, 4), 1e30), np.eye(2, 4), 4, F32)
    assert (reference.bound < 2.2).all()
    assert not reference.accepts(np.full((1, 4), 1e9))


def test_gamma():
    assert tolerance.gamma(576, 2.0**-24) == pytest.approx(float(Fraction(576, 2**24) / (1 - Fraction(576, 2**24))))
    with pytest.raises(ParameterError, match="terms"):
        tolerance.gamma(2**24, 2.0**-24)


def test_library_functions_err_less_than_the_rule_assumes():
    torch = pytest.importorskip("torch")
    x = torch.linspace(-80, 0, 200_001)
    plain, soft = torch.exp(x), torch.softmax(x.view(-1, 3), -1).double().numpy()
    ulp = np.spacing(plain.numpy())
    assert (np.abs(plain.double().numpy() - np.exp(x.double().numpy())) <= tolerance.EXP_ULPS * ulp).all()
    true = torch.softmax(x.double().view(-1, 3), -1).numpy()
    assert (np.abs(soft - true) <= (2 * tolerance.EXP_ULPS + 6) * 2.0**-24 * true).all()
    y = torch.linspace(1e-6, 500, 100_001)
    for name in ("rsqrt", "sin", "cos"):
        true = getattr(torch, name)(y.double()).numpy()
        assert (np.abs(getattr(torch, name)(y).double().numpy() - true) <= tolerance.OTHER_ULPS * 2.0**-23).all() or (
            np.abs(getattr(torch, name)(y).double().numpy() - true)
            <= 2 * tolerance.OTHER_ULPS * 2.0**-24 * np.abs(true)
        ).all()


@given(st.lists(st.floats(width=32, min_value=-(2.0**126), max_value=2.0**126)))
def test_formats_store_as_torch_does(values):
    torch = pytest.importorskip("torch")
    single = torch.tensor(values, dtype=torch.float32)
    assert (BF16.round(single.double().numpy()) == single.bfloat16().double().numpy()).all()
    assert (F32.round(single.double().numpy()) == single.double().numpy()).all()
