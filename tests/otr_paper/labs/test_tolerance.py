"""The tolerance leaf rule: bounds against exact arithmetic, honest runs inside, cheats outside, the rates stated."""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from fractions import Fraction
from functools import reduce
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otr_core.errors import InputError, ParameterError
from otr_core.lane.architecture import RopeScaling
from otr_paper.labs.tolerance import bound_aware, calibration, native_operators, tolerance
from otr_paper.labs.tolerance.native_operators import OPERATORS, Referee, Schedule, record
from otr_paper.labs.tolerance.tolerance import FORMATS, Reference, judge_tolerance
from otr_paper.series import tolerance as tolerance_views
from otr_paper.store import results

F32, BF16 = FORMATS["native-float32"], FORMATS["native-bfloat16"]
IDS = [5, 9, 33, 12, 60, 7, 7, 21, 48, 3, 17, 30, 44, 11, 5, 28]
seeds = st.integers(0, 2**32 - 1)


# --- the bounds, against exact rational arithmetic -------------------------------------------------------------------


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
        assert least <= bound <= least * Fraction(101, 100) + exact(2.0**-120)  # and no wider than the theorem's


def test_products_flushed_to_zero_are_honest():
    tiny, few = np.full((1, 4), 2.0**-70), np.full((1, 4), 2.0**-57)
    assert judge_tolerance(tolerance.linear(tiny, few, F32), np.zeros((1, 1))).accepted  # four products of 2^-127
    assert judge_tolerance(tolerance.swiglu(np.full((1, 1), -90.0), np.ones((1, 1)), F32), np.zeros((1, 1))).accepted
    assert judge_tolerance(tolerance.residual(tiny * 2.0**-57, tiny * 0, F32), np.zeros((1, 4))).accepted
    assert not judge_tolerance(tolerance.linear(tiny, tiny, F32), np.full((1, 1), 2.0**-100)).accepted


@given(seeds, st.integers(1, 12))
def test_norm_bound_holds_for_any_order(seed, width):
    rng, order = np.random.default_rng(seed), random.Random(seed)
    x, w = floats(rng, 1, width, spread=6), floats(rng, width, spread=3)
    reference = tolerance.rms_norm(x.astype(float), w.astype(float), 1e-5, F32)
    mean = summed([a * a for a in x[0]], order) / np.float32(width)
    root = np.float32(1) / np.sqrt(mean + np.float32(1e-5))
    for step in (-2, 0, 2):  # as far off as an approximate rsqrt may be
        near = reduce(lambda r, _: np.nextafter(r, np.float32(np.inf if step > 0 else 0)), range(abs(step)), root)
        assert judge_tolerance(reference, ((x * near) * w).astype(float)).accepted
    assert not judge_tolerance(reference, ((x * root) * w).astype(float) * (1 + 2.0**-13)).accepted


@given(seeds)
def test_residual_is_right_only_when_rounded_to_nearest(seed):
    rng = np.random.default_rng(seed)
    a, b = floats(rng, 1, 16), floats(rng, 1, 16)
    reference = tolerance.residual(a.astype(float), b.astype(float), F32)
    assert judge_tolerance(reference, (a + b).astype(float)).accepted
    moved = (a + b).astype(float)
    moved[0, 3] = np.nextafter(np.nextafter((a + b)[0, 3], np.float32(np.inf)), np.float32(np.inf))
    assert not judge_tolerance(reference, moved).accepted


def off(values: np.ndarray, ulps: int, rng: np.random.Generator) -> np.ndarray:
    """fp32 values each moved by up to ``ulps`` units in the last place, as a library's function may be."""
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
    assert judge_tolerance(reference, found).accepted
    assert not judge_tolerance(reference, found + 2 * reference.bound).accepted


@given(seeds)
def test_swiglu_bound_holds_with_an_inexact_exp(seed):
    rng = np.random.default_rng(seed)
    gate, up = floats(rng, 1, 16, spread=7), floats(rng, 1, 16, spread=4)
    reference = tolerance.swiglu(gate.astype(float), up.astype(float), F32)
    with np.errstate(over="ignore", under="ignore"):
        exp = off(np.minimum(np.exp(-gate.astype(float)), 3e38), tolerance.EXP_ULPS, rng)
        found = ((gate / (np.float32(1) + exp)) * up).astype(float)
    assert judge_tolerance(reference, found).accepted
    assert not judge_tolerance(reference, found + 2.1 * reference.bound).accepted


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
    assert judge_tolerance(reference, claimed).accepted
    assert not judge_tolerance(reference, claimed + 2.1 * reference.bound).accepted
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
    assert judge_tolerance(reference, (weights @ np.eye(8, 4))[None]).accepted


def test_bf16_rotary_counts_the_stored_cosine_and_both_elementwise_roundings():
    reference, u = tolerance.rotary(np.ones((1, 2)), np.array([1]), np.ones(1), BF16), 2.0**-8
    sizes = np.cos(1) + np.sin(1)
    assert (2 * u * (1 + sizes) <= reference.bound).all()
    assert (reference.bound <= 2.1 * u * (1 + sizes)).all()


def test_enormous_scores_do_not_widen_the_bound_beyond_the_values():
    reference = tolerance.attention(np.full((1, 4), 1e30), np.full((2, 4), 1e30), np.eye(2, 4), 4, F32)
    assert (reference.bound < 2.2).all()
    assert not judge_tolerance(reference, np.full((1, 4), 1e9)).accepted


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


# --- the judge -------------------------------------------------------------------------------------------------------


def test_judge_accepts_inside_and_names_what_is_outside():
    reference = Reference(np.array([[1.0, 2.0], [3.0, 4.0]]), np.full((2, 2), 0.1))
    assert judge_tolerance(reference, reference.value + 0.09).accepted
    claimed = reference.value.copy()
    claimed[1, 0] -= 0.11
    found = judge_tolerance(reference, claimed)
    assert (found.accepted, found.row, found.element, found.expected) == (False, 1, 0, 3.0)
    assert (found.ratio, found.found) == pytest.approx((1.1, 2.89))
    claimed[1, 0] = 3.0 - 0.06
    assert judge_tolerance(reference, claimed).accepted
    assert not judge_tolerance(reference, claimed, 0.5).accepted


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(value):
    reference = Reference(np.zeros((1, 3)), np.ones((1, 3)))
    claimed = np.zeros((1, 3))
    claimed[0, 1] = value
    assert not judge_tolerance(reference, claimed).accepted
    assert judge_tolerance(reference, claimed).ratio == np.inf
    assert not judge_tolerance(tolerance.residual(claimed, np.zeros((1, 3)), F32), np.zeros((1, 3))).accepted
    assert not judge_tolerance(Reference(np.zeros((1, 3)), np.full((1, 3), np.inf)), np.zeros((1, 3))).accepted


def test_bad_shapes_and_envelopes_are_named_errors():
    reference = Reference(np.zeros((1, 3)), np.ones((1, 3)))
    with pytest.raises(InputError, match="shape"):
        judge_tolerance(reference, np.zeros((1, 1)))  # would broadcast
    for envelope in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(ParameterError, match="envelope"):
            judge_tolerance(reference, np.zeros((1, 3)), envelope)


# --- runs of a real decoder (tiny random weights) --------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from otr_paper.labs.tiny import TINY, write_tiny

    return {
        "plain": write_tiny(tmp_path_factory.mktemp("tiny")),
        "llama3": write_tiny(
            tmp_path_factory.mktemp("llama3"), replace(TINY, rope_scaling=RopeScaling(8.0, 1.0, 4.0, 32), tied=False)
        ),
    }


@pytest.fixture(scope="module", params=["native-float32", "native-bfloat16"])
def lane(request):
    return request.param


@pytest.fixture(scope="module")
def model(folder, lane):
    from otr_node.native import load_native

    return load_native(folder["plain"], lane=lane)


WAYS = [Schedule("whole"), Schedule("2 threads", threads=2), Schedule("batch", rows=3), Schedule("padding", pad=5)]
WAYS += [Schedule("steps", first_piece=1), Schedule("own", first_piece=7)]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_honest_runs_are_inside_at_every_operator(model, way):
    referee, run = Referee.of(model), record(model, IDS, way)
    for layer, state in enumerate(run):
        for operator in referee.operators(layer):
            assert state[operator.output].shape[0] == len(IDS)
            assert judge_tolerance(referee.reference(operator, layer, state), state[operator.output]).accepted, (
                operator.name
            )


def test_the_recorded_run_is_the_lane_s_own(model):
    session = model.session()
    session.feed(IDS[:7])
    logits = [session.feed([token]) for token in IDS[7:]]
    run = record(model, IDS, Schedule("own", first_piece=7))
    assert (run[-1]["logits"][7:] == np.stack(logits)).all()
    for before, after in pairwise(run):
        assert (before["out"] == after["in"]).all()


def test_llama_3_positions_are_inside_and_plain_ones_are_not(folder):
    from otr_node.native import load_native

    model = load_native(folder["llama3"])
    referee, run = Referee.of(model), record(model, IDS, Schedule("whole"))
    assert referee.judge_leaf(run, 1, 15, OPERATORS["k rotary"]).accepted
    assert referee.judge_leaf(run, 3, 15, OPERATORS["lm_head"]).accepted
    plain = replace(referee, architecture=replace(referee.architecture, rope_scaling=None))
    assert not plain.judge_leaf(run, 1, 15, OPERATORS["k rotary"]).accepted


@pytest.mark.parametrize("name", OPERATORS)
def test_a_moved_element_is_refused_at_its_operator_alone(model, name):
    referee, run = Referee.of(model), record(model, IDS, Schedule("own", first_piece=7))
    operator, position = OPERATORS[name], 11
    layer = 1 if operator in referee.operators(1) else 3
    assert referee.judge_leaf(run, layer, position, operator).accepted
    values = run[layer][operator.output].copy()
    values[position, 2] += 0.2 * np.sqrt(np.mean(values[position] ** 2)) + 0.05 * abs(values[position, 2])
    forged = [{**state, operator.output: values} if at == layer else state for at, state in enumerate(run)]
    assert not referee.judge_leaf(forged, layer, position, operator).accepted
    assert referee.judge_leaf(forged, layer, position - 1, operator).accepted
    for place in ((layer, 16), (4, 0), (-1, 0), (layer, -1)):
        with pytest.raises(InputError, match="leaf"):
            referee.judge_leaf(run, *place, operator)


def test_other_weights_and_other_formats_are_refused(folder):
    from otr_node.native import load_native
    from otr_paper.labs.variants import requantised

    honest = Referee.of(load_native(folder["plain"]))
    eight = record(load_native(folder["plain"], alter=lambda t: requantised(t, 8)), IDS, Schedule("whole"))
    half = record(load_native(folder["plain"], lane="native-bfloat16"), IDS, Schedule("whole"))
    dropped = record(load_native(folder["plain"], drop_layers=[1]), IDS, Schedule("whole"))
    for position in range(len(IDS)):
        for operator in honest.operators(1):
            verdict = honest.judge_leaf(eight, 1, position, operator)
            assert verdict.accepted == (operator.kind != "linear"), operator.name
        assert not honest.judge_leaf(half, 1, position, OPERATORS["gate"]).accepted
        assert not honest.judge_leaf(dropped, 1, position, OPERATORS["q"]).accepted


# --- the adversary who knows the bounds ------------------------------------------------------------------------------


@pytest.mark.parametrize("envelope", [1.0, 0.25])
def test_the_pushed_run_passes_everywhere_and_moves_the_gap(folder, lane, envelope):
    from otr_node.native import load_native

    model = load_native(folder["plain"])
    referee = replace(Referee.of(load_native(folder["plain"], lane=lane)))
    # A rounded output must fit: operators that round once keep the whole bound, all of them do in bf16.
    once = (
        {"residual", "rotary", "norm", "swiglu"} if lane == "native-float32" else {o.kind for o in OPERATORS.values()}
    )
    limits = {name: 1.0 if operator.kind in once else envelope for name, operator in OPERATORS.items()}
    found, run = bound_aware.attack(model, referee, IDS, limits)
    on_edge = 0
    for layer, state in enumerate(run):
        for operator in referee.operators(layer):
            verdict = judge_tolerance(
                referee.reference(operator, layer, state), state[operator.output], limits[operator.name]
            )
            assert verdict.accepted, operator.name
            assert (referee.fmt.round(state[operator.output]) == state[operator.output]).all()
            on_edge += verdict.ratio > 0.9 * limits[operator.name]
    assert on_edge > 10
    assert found.drift > 0
    assert found.gap >= 0
    logits = run[-1]["logits"][-1]
    assert found.flipped == (logits.argmax() != found.first)


def test_the_adversary_s_gradient_is_the_slope_of_the_gap(folder):
    from otr_node.native import load_native

    model = load_native(folder["plain"])
    referee = Referee.of(model)
    slope = bound_aware.gradient(model, IDS, 4, 9)
    everything = {(layer, o.output) for layer in range(4) for o in referee.operators(layer)}
    assert {(layer, name) for layer in range(4) for name in slope[layer]} >= everything

    def gap(layer, name, step):
        hidden, run = referee.tensors["model.embed_tokens.weight"][IDS], []
        for at in range(4):
            state = {"in": hidden}
            for operator in referee.operators(at):
                value = referee.reference(operator, at, state).value.copy()
                if (at, operator.output) == (layer, name):
                    value[6, 3] += step
                state[operator.output] = value
            hidden = state.get("out", hidden)
            run.append(state)
        logits = run[-1]["logits"][-1]
        return logits[9] - logits[4]

    for layer, name in ((0, "k rotated"), (0, "v"), (1, "activated"), (0, "mixed"), (1, "middle"), (0, "normed")):
        numeric = (gap(layer, name, 1e-5) - gap(layer, name, -1e-5)) / 2e-5
        assert slope[layer][name][6, 3] == pytest.approx(numeric, rel=2e-3, abs=1e-5), name


# --- calibration -----------------------------------------------------------------------------------------------------


@given(st.integers(0, 20), st.integers(1, 3000), st.floats(0.5, 0.999))
@settings(max_examples=60)
def test_false_slash_limit_is_where_so_few_violations_become_unlikely(violations, checks, confidence):
    from scipy.stats import binom

    violations = min(violations, checks)
    limit = calibration.false_slash_limit(violations, checks, confidence)
    if violations == checks:
        assert limit == 1
    else:
        assert binom.cdf(violations, checks, limit) == pytest.approx(1 - confidence, rel=1e-6)


def test_rule_of_three_and_bad_counts():
    assert calibration.false_slash_limit(0, 10_000) == pytest.approx(3e-4, rel=0.01)
    for violations, checks, confidence in ((2, 1, 0.95), (-1, 5, 0.95), (0, 0, 0.95), (0, 5, 1.0)):
        with pytest.raises(ParameterError):
            calibration.false_slash_limit(violations, checks, confidence)


def test_envelopes_are_quantiles_a_margin_and_one():
    found = calibration.envelopes(np.arange(1, 1001) / 4000)
    assert found["90 %"] == pytest.approx(0.225, rel=0.01)
    assert found["largest"] == 0.25
    assert (found["calibrated"], found["IEEE"]) == (0.5, 1.0)
    assert calibration.envelopes(np.array([0.9]))["calibrated"] == 1.0
    for bad in (np.array([]), np.array([1.01]), np.array([np.inf])):
        with pytest.raises(ParameterError, match="ratios"):
            calibration.envelopes(bad)


def test_left_out_counts_what_the_others_did_not_foresee():
    maxima = {"a": [0.1, 0.2], "b": [0.15, 0.3, 0.5], "c": [0.05]}
    assert calibration.left_out(maxima, 1.0) == {"a": 0, "b": 2, "c": 0}
    assert calibration.left_out(maxima, 2.0) == {"a": 0, "b": 1, "c": 0}


def test_smallest_caught_against_the_closed_form(model):
    """A moved element is caught from (envelope · bound - error) on: the grid must bracket that."""
    referee, run = Referee.of(model), record(model, IDS, Schedule("whole"))
    operator, fmt = OPERATORS["down"], FORMATS["native-float32"]
    reference = referee.reference(operator, 1, run[1])
    claimed = reference.value  # exact: no error of its own
    single, whole = calibration.perturbed_ratios(reference, claimed, fmt, np.random.default_rng(0))
    rms = np.sqrt(np.mean(claimed**2, -1))
    least, most = (reference.bound.min(-1) / rms).min(), (reference.bound.max(-1) / rms).max()
    every = calibration.smallest_caught(single, 1.0, 1.0)
    half = calibration.smallest_caught(single, 1.0, 0.5)
    assert least <= half <= every <= most * 2**0.5 * (1 + 1e-6)
    assert calibration.smallest_caught(whole, 1.0, 1.0) <= every
    assert calibration.smallest_caught(single, 0.25, 1.0) < every
    assert calibration.smallest_caught(np.zeros_like(single), 1.0, 0.5) is None


# --- the real model, and the stored measurement ----------------------------------------------------------------------


def test_smollm2_is_inside_and_its_int8_copy_is_not(smollm2):
    from otr_node.native import load_native
    from otr_paper.labs.variants import requantised

    ids = [1, 9690, 198, 2683, 359, 253, 5356, 5646]
    model = load_native(smollm2)
    referee = Referee.of(model)
    run = record(model, ids, Schedule("own", first_piece=5))
    eight = record(load_native(smollm2, alter=lambda t: requantised(t, 8)), ids, Schedule("own", first_piece=5))
    for layer in (0, 14, 29, 30):
        for operator in referee.operators(layer):
            assert judge_tolerance(referee.reference(operator, layer, run[layer]), run[layer][operator.output]).accepted
            ratios = referee.reference(operator, layer, eight[layer]).ratios(eight[layer][operator.output]).max(-1)
            assert (ratios > 1).all() == (operator.kind == "linear"), (layer, operator.name)


@pytest.fixture(scope="module")
def stored(project):
    return results.read_result(project.results, "tolerance")[1]


def test_stored_campaign_meets_the_bar(stored):
    for found in stored["lanes"].values():
        assert found["checks"] >= 10_000
        assert found["ieee_violations"] == 0
        assert all(o["held_out_violations"]["calibrated"] == 0 for o in found["operators"].values())
        assert set(found["operators"]) == set(OPERATORS)
        linear = {name for name, operator in OPERATORS.items() if operator.kind == "linear"}
        for row in found["cheats"]:
            if row["cheat"].startswith("layer") or (row["cheat"] == "int8 weights" and row["operator"] in linear):
                assert row["caught"] == row["trials"] > 0, row


def test_views_of_the_stored_campaign(stored):
    rows = tolerance_views.tradeoff(stored)
    assert len(rows) == 2 * len(OPERATORS) * 6
    for row in rows:
        limit = calibration.false_slash_limit(row["violations"], row["checks"])
        assert row["false_slash"] == (0 if row["envelope"] == 1 else limit)
        assert row["envelope"] == 1 or row["rule"] != "IEEE"
        assert 0 < row["output_half"] <= row["output_every"]
        assert 0 < row["element_half"] <= row["element_every"]
    assert {row["cheat"] for row in tolerance_views.cheats(stored)} >= {"int8 weights", "int4 weights"}
    pushed = tolerance_views.adversary(stored)
    assert len(pushed) == 8
    assert all(0 <= row["flipped"] <= row["attacks"] > 0 for row in pushed)


def test_importing_the_rule_loads_no_heavy_library():
    import subprocess

    code = "import sys, otr_paper.labs.tolerance.bound_aware, otr_paper.series.tolerance; "
    code += "print(*sorted({'torch', 'transformers', 'scipy'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
    assert native_operators.LAYER_OPERATORS[0].name == "attention norm"
