"""Bursts, voiding and patches: against Monte Carlo, recursion, linear programming and the lemma's
random cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otr_core.economics.bursts import burst_loss, burst_surplus, most_in_flight
from otr_core.errors import ParameterError

GOOD = {"cheats": 40, "gain_usd": 0.3, "price_usd": 0.5, "detection": 0.04}


def play_bursts(draws, runs, *, cheats, gain_usd, price_usd, loss_usd, detection, void):
    caught = draws.random((runs, cheats)) < detection
    paid = np.where(caught.any(1), 0.0, cheats * price_usd) if void else (~caught).sum(1) * price_usd
    return cheats * price_usd - (paid + cheats * gain_usd - caught.any(1) * loss_usd)


@pytest.mark.parametrize("void", [True, False])
def test_surplus_within_the_interval_of_played_bursts(void):
    terms = {**GOOD, "loss_usd": 9.0, "void": void}
    played = play_bursts(np.random.default_rng(1), 60_000, **terms)
    half = 2.576 * played.std() / np.sqrt(played.size)
    assert abs(played.mean() - burst_surplus(**terms)) < half


@given(st.integers(1, 10**5), st.floats(1e-4, 10), st.floats(0, 10), st.floats(1e-5, 1), st.booleans())
def test_burst_loss_is_the_root_of_the_surplus(cheats, gain, price, detection, void):
    terms = {"cheats": cheats, "gain_usd": gain, "price_usd": price, "detection": detection, "void": void}
    loss = burst_loss(**terms)
    surplus = burst_surplus(**terms, loss_usd=loss)
    scale = 1e-9 * (cheats * (gain + price) + loss)
    assert abs(surplus) <= scale if loss > 0 else surplus >= -scale


def test_worked_figures_of_a_one_per_cent_rate():
    terms = {"gain_usd": 0.00047, "price_usd": 0.00055, "detection": 0.01, "void": False}
    found = [burst_loss(cheats=count, **terms) for count in (1, 100, 1_000, 10_000)]
    assert found == pytest.approx([0.0464, 0.0733, 0.4645, 4.645], rel=2e-3)


def test_voiding_lemma_on_random_cases():
    draws = np.random.default_rng(2)
    gain = 10 ** draws.uniform(-4, 2, 20_000)
    price = gain * (1 + draws.exponential(1.0, gain.size))
    detection = 10 ** draws.uniform(-6, 0, gain.size)
    cheats = np.floor(10 ** draws.uniform(0, 5, gain.size))
    single = burst_loss(cheats=1, gain_usd=gain, price_usd=price, detection=detection, void=True)
    surplus = burst_surplus(
        cheats=cheats, gain_usd=gain, price_usd=price, loss_usd=single, detection=detection, void=True
    )
    assert (surplus >= -1e-9 * cheats * price).all()


def test_voiding_lemma_fails_where_the_gain_exceeds_the_price():
    single = burst_loss(cheats=1, gain_usd=2.0, price_usd=1.0, detection=0.1, void=True)
    many = burst_surplus(cheats=200, gain_usd=2.0, price_usd=1.0, loss_usd=single, detection=0.1, void=True)
    assert many < 0


@pytest.mark.parametrize("seed", range(25))
def test_most_in_flight_by_counting(seed):
    draws = np.random.default_rng(seed)
    price = draws.uniform(0, 1)
    terms = {"gain_usd": price + draws.uniform(0.05, 2), "price_usd": price}
    terms |= {"loss_usd": draws.uniform(1, 60), "detection": draws.uniform(0.02, 0.9)}
    counts = np.arange(1, 3000)
    fits = burst_surplus(cheats=counts, **terms, void=True) >= 0
    by_counting = 0 if not fits[0] else int(np.argmin(fits))
    assert most_in_flight(**terms) == by_counting


def test_most_in_flight_extremes():
    assert most_in_flight(gain_usd=1.0, price_usd=1.0, loss_usd=100.0, detection=0.5) == np.inf
    assert most_in_flight(gain_usd=1.0, price_usd=1.0, loss_usd=1.0, detection=0.01) == 0.0
    assert most_in_flight(gain_usd=3.0, price_usd=1.0, loss_usd=1000.0, detection=1.0) == 500.0


def test_no_cheats_no_surplus():
    for void in (True, False):
        assert burst_surplus(**{**GOOD, "cheats": 0}, loss_usd=5.0, void=void) == 0.0


@pytest.mark.parametrize(
    ("field", "bad"), [("cheats", 1.5), ("cheats", -1), ("gain_usd", float("nan")), ("price_usd", -1), ("detection", 2)]
)
def test_bad_input_names_the_field(field, bad):
    burst_surplus(**GOOD, loss_usd=1.0, void=True)
    with pytest.raises(ParameterError) as error:
        burst_surplus(**{**GOOD, field: bad}, loss_usd=1.0, void=True)
    assert error.value.field == field
    with pytest.raises(ParameterError, match="loss_usd"):
        burst_surplus(**GOOD, loss_usd=-1.0, void=True)
