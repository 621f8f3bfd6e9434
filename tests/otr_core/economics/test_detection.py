"""Detection: against Monte Carlo, counting and exact fractions."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from otr_core import economics as eco
from otr_core.economics.detection import (
    cheats_for_detection,
    coverage,
    detection_after,
    served_before_verdict,
    undetected_cheats,
)
from otr_core.errors import ParameterError

unit = st.floats(0, 1)


@given(unit, unit, unit, unit)
def test_detection_is_the_complement_of_being_missed_twice(rho, d, phi, w):
    found = eco.detection_probability(rho=rho, d=d, phi=phi, w=w)
    assert found == pytest.approx(1 - (1 - rho * d) * (1 - phi * w), abs=1e-12)
    assert 0 <= found <= 1


def test_detection_agrees_with_monte_carlo_within_its_interval():
    draws, n = np.random.default_rng(7), 400_000
    rho, d, phi, w = 0.3, 0.8, 0.4, 0.5
    caught = (draws.random(n) < rho) & (draws.random(n) < d) | (draws.random(n) < phi) & (draws.random(n) < w)
    exact = eco.detection_probability(rho=rho, d=d, phi=phi, w=w)
    assert abs(caught.mean() - exact) < 2.576 * np.sqrt(exact * (1 - exact) / n)


@pytest.mark.parametrize("field", ["rho", "d", "phi", "w"])
@pytest.mark.parametrize("bad", [-1e-9, 1.0000001, float("nan"), float("inf"), "0.5", None, [0.5, 2.0]])
def test_each_probability_is_checked_by_name(field, bad):
    good = {"rho": 0.1, "d": 1.0, "phi": 0.2, "w": 1.0}
    eco.detection_probability(**good)
    with pytest.raises(ParameterError) as error:
        eco.detection_probability(**{**good, field: bad})
    assert error.value.field == field


def test_more_spot_checks_never_help_a_cheater():
    rates = np.linspace(0, 1, 101)
    detection = eco.detection_probability(rho=rates, d=0.7, phi=0.2, w=0.9)
    assert (np.diff(detection) > 0).all()


def test_tiny_rates_keep_their_precision():
    assert eco.detection_probability(rho=4.7e-10, d=1, phi=0, w=0) == 4.7e-10


@pytest.mark.parametrize(("units", "deviating", "opened"), [(6, 2, 3), (7, 1, 1), (5, 0, 3), (5, 3, 3), (8, 8, 1)])
def test_coverage_counts_all_draws(units, deviating, opened):
    draws = list(combinations(range(units), opened))
    hits = sum(any(unit < deviating for unit in draw) for draw in draws)
    assert coverage(units=units, deviating=deviating, opened=opened) == pytest.approx(hits / len(draws))


def test_coverage_tells_a_downgrade_from_a_local_edit():
    assert coverage(units=10**6, deviating=10**6, opened=1) == 1.0
    assert coverage(units=10**6, deviating=1, opened=1) == pytest.approx(1e-6)
    assert list(coverage(units=[4, 4], deviating=[1, 4], opened=2)) == pytest.approx([0.5, 1.0])


@pytest.mark.parametrize("field", ["deviating", "opened"])
def test_coverage_refuses_more_than_there_is(field):
    with pytest.raises(ParameterError, match=field):
        coverage(**{"units": 5, "deviating": 5, "opened": 5, field: 6})


@given(st.integers(0, 2000), unit)
def test_detection_after_is_a_product_of_misses(cheats, rho):
    assert detection_after(cheats=cheats, rho=rho) == pytest.approx(1 - (1 - rho) ** cheats, abs=1e-12)


def test_detection_after_extremes():
    assert detection_after(cheats=0, rho=1.0) == 0.0
    assert detection_after(cheats=1, rho=1.0) == 1.0
    assert detection_after(cheats=5, rho=0.0) == 0.0


@given(st.integers(1, 99), st.integers(1, 99))
def test_cheats_for_detection_is_the_least_number(wanted, rate):
    number = int(cheats_for_detection(probability=wanted / 100, rho=rate / 100))
    missed = Fraction(100 - rate, 100)
    # Exact ties (for example 1 - 1/2 = 50 %) may fall either way in floats, by one unit of the last
    # place.
    assert 1 - missed**number >= Fraction(wanted, 100) - Fraction(1, 10**15)
    assert 1 - missed ** (number - 1) < Fraction(wanted, 100) + Fraction(1, 10**15)


def test_cheats_for_detection_boundaries():
    exact = cheats_for_detection(probability=[0.0, 0.5, 0.75, 1.0, 1.0], rho=[0.0, 0.5, 0.5, 0.5, 1.0])
    assert list(exact) == [0.0, 1.0, 2.0, np.inf, 1.0]
    assert cheats_for_detection(probability=np.nextafter(0.75, 1), rho=0.5) == 3.0
    assert cheats_for_detection(probability=0.99, rho=0.0) == np.inf
    assert cheats_for_detection(probability=0.99, rho=0.01) == 459
    assert cheats_for_detection(probability=0.95, rho=0.05) == 59


@given(st.integers(1, 5000), st.floats(1e-6, 0.5))
def test_cheats_for_detection_inverts_detection_after_exactly(cheats, rho):
    reached = detection_after(cheats=cheats, rho=rho)
    assume(reached < 1 - 1e-9)  # closer to 1 neighbouring numbers of cheats give the same float
    least = cheats_for_detection(probability=reached, rho=rho)
    assert detection_after(cheats=least, rho=rho) >= reached
    assert least <= cheats
    assert detection_after(cheats=least - 1, rho=rho) < reached
    assert cheats_for_detection(probability=np.nextafter(reached, 1), rho=rho) == cheats + 1


def test_undetected_cheats_by_summing_survival():
    for detection, attempts in [(0.01, 250), (0.3, 7), (0.9, 3), (1.0, 5), (0.2, 0)]:
        by_hand = sum((1 - detection) ** turn for turn in range(1, attempts + 1))
        found = undetected_cheats(detection=detection, attempts=attempts)
        assert found == pytest.approx(by_hand, abs=1e-12)
        assert found <= attempts
    assert undetected_cheats(detection=0.01) == pytest.approx(99.0)
    assert undetected_cheats(detection=0.0) == np.inf
    assert undetected_cheats(detection=0.0, attempts=12) == 12
    with pytest.raises(ParameterError, match="attempts"):
        undetected_cheats(detection=0.1, attempts=2.5)


def test_served_before_the_verdict_by_counting_answers():
    """Against the definition, summed over which answer is the first caught one."""
    for detection, pending, attempts in [
        (0.01, 5, 300),
        (0.3, 7, 4),
        (0.3, 2, 9),
        (1.0, 3, 10),
        (0.2, 0, 6),
        (0.0, 3, 8),
    ]:
        missed = (1 - detection) ** attempts
        by_hand = missed * attempts + sum(
            (1 - detection) ** (first - 1) * detection * min(first + pending, attempts)
            for first in range(1, attempts + 1)
        )
        found = served_before_verdict(detection=detection, pending=pending, attempts=attempts)
        assert found == pytest.approx(by_hand, abs=1e-12)
    assert served_before_verdict(detection=0.0099, pending=1239) == pytest.approx(1 / 0.0099 + 1239)
    assert served_before_verdict(detection=0.0, pending=3) == np.inf
    with pytest.raises(ParameterError, match="pending"):
        served_before_verdict(detection=0.1, pending=2.5)
