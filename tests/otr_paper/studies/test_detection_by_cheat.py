"""Detection by cheat: formulas against enumeration, simulation, and attacks that try to beat
them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otr_core.errors import ParameterError
from otr_core.lane.architecture import Architecture
from otr_core.spotcheck import selection
from otr_core.spotcheck.units import Layout
from otr_paper.studies import detection

SMOLLM2 = Layout(
    Architecture(hidden=576, intermediate=1536, layers=30, heads=9, kv_heads=3, head_dim=64, vocab=49152, context=8192,
                 rms_eps=1e-5, rope_theta=100000.0, tied=True, stop_ids=(2,))
)  # fmt: skip


def test_the_default_shares_make_every_place_for_a_fault_equally_bad():
    found = {f.operator: detection.per_unit({f.operator: f.share}) for f in detection.least_broken(SMOLLM2)}
    assert found == pytest.approx(dict.fromkeys(found, 1 / 18))
    assert detection.worst_fault(SMOLLM2)[1] == pytest.approx(1 / 18)
    assert set(found) <= set(SMOLLM2.blocks) == set(selection.SHARES)


def test_equal_shares_are_worse_against_an_operator_who_chooses():
    name, least = detection.worst_fault(SMOLLM2, dict.fromkeys(SMOLLM2.blocks, 1))
    assert (name, least) == ("gate", pytest.approx(0.375 / 13))
    assert least < detection.worst_fault(SMOLLM2)[1]


@given(places=st.floats(0, 1), unit=st.floats(0, 0.99), units=st.integers(0, 200))
def test_more_units_never_help_a_cheater(places, unit, units):
    now = detection.per_query(places, unit, units)
    assert 0 <= now <= detection.per_query(places, unit, units + 1) <= places + 1e-12
    assert now == pytest.approx(places * (1 - (1 - unit) ** units), abs=1e-12)


def test_a_unit_always_broken_is_always_found():
    assert detection.per_query(0.5, 1.0, 1) == 0.5
    assert detection.per_query(0.5, 1.0, 0) == 0.0
    with pytest.raises(ParameterError):
        detection.per_query(1.5, 0.1, 1)


@pytest.mark.parametrize(("values", "changed", "opened"), [(6, 2, 3), (7, 1, 7), (5, 0, 3), (5, 5, 1), (8, 3, 0)])
def test_the_element_link_against_enumeration(values, changed, opened):
    draws = list(itertools.combinations(range(values), opened))
    hit = sum(any(place < changed for place in draw) for draw in draws) / len(draws)
    assert detection.element_link(values, changed, opened) == pytest.approx(hit)


def test_the_sparse_fit_beats_the_element_link_at_once():
    """A unit known before the row is committed: eight changed values of 576 explain any eight
    outputs."""
    rng = np.random.default_rng(3)
    w, x = rng.integers(-(2**13), 2**13, (8, 576)), rng.integers(-(2**20), 2**20, 576)
    wanted = ((w @ x + (1 << 17)) >> 18) + rng.integers(-500, 500, 8)
    fitted = detection.sparse_fit(w, x, wanted, 18, rng)
    assert np.array_equal((w @ fitted + (1 << 17)) >> 18, wanted)
    assert np.count_nonzero(fitted != x) <= 8
    assert detection.element_link(576, 8, 32) == pytest.approx(0.3688, abs=1e-4)
    with pytest.raises(ParameterError):
        detection.sparse_fit(np.zeros((8, 16), np.int64), x[:16], wanted, 18, rng)


def test_the_simulation_draws_as_the_protocol_does():
    blocks = {"a": 4, "b": 2}
    place = {"a": np.array([True, False, False, False]), "b": np.array([True, True])}
    maps = [place, None]
    shares = {"a": 1, "b": 1}
    exact = detection.per_query(0.5, detection.per_unit({"a": 0.25, "b": 1.0}, shares), 2)
    caught = detection.simulate_draws(maps, shares, blocks, 2, 4000, b"r" * 32)
    assert abs(caught / 4000 - exact) < 5 * (exact * (1 - exact) / 4000) ** 0.5
    assert detection.simulate_draws([None], shares, blocks, 2, 100, b"r" * 32) == 0
