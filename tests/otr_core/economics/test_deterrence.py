"""One-shot deterrence: against payoffs written out, root finding and the published sampling
rule."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from otr_core import economics as eco
from otr_core.economics.deterrence import deters, loss_if_caught, safe_value
from otr_core.economics.guarantee import attack_profit
from otr_core.errors import ParameterError
from otr_paper.series import economics

unit = st.floats(0, 1)
money = st.floats(1e-6, 1e6)
GOOD = {"gain_usd": 1.0, "price_usd": 0.5, "stake_usd": 9.0, "slash_fraction": 0.5, "dispute_cost_usd": 1.0}
BACK = {"reward_share": 0.25}
WATCH = {"d": 0.5, "phi": 0.25, "w": 0.5}


def honest_minus_cheating(
    detection, *, gain_usd, price_usd, stake_usd, slash_fraction, dispute_cost_usd, reward_share=0.0
):
    """Payoffs by outcome: an answer is caught (unpaid, slashed, dispute lost, and the operator's own
    fisherman paid) or it is not."""
    slashed = slash_fraction * stake_usd
    caught = -slashed - dispute_cost_usd + reward_share * slashed
    return price_usd - ((1 - detection) * price_usd + detection * caught + gain_usd)


@given(unit, money, money, money, unit, money, unit)
def test_threshold_is_where_the_payoffs_meet(detection, gain, price, stake, slash, cost, back):
    terms = {
        "gain_usd": gain, "price_usd": price, "stake_usd": stake, "slash_fraction": slash, "dispute_cost_usd": cost,
        "reward_share": back,
    }  # fmt: skip
    surplus = honest_minus_cheating(detection, **terms)
    assume(abs(surplus) > 1e-9 * (gain + price + stake + cost))
    assert deters(detection=detection, threshold=eco.deterrence_threshold(**terms)) == (surplus > 0)


def test_boundary_is_hit_exactly():
    threshold = eco.deterrence_threshold(**GOOD)
    assert threshold == float(Fraction(1) / (Fraction(1, 2) + Fraction(9, 2) + 1))
    # A quarter of the slash comes back to the operator's own fisherman.
    returned = eco.deterrence_threshold(**GOOD, **BACK)
    assert returned == pytest.approx(float(Fraction(1) / (Fraction(1, 2) + Fraction(9, 2) * Fraction(3, 4) + 1)))
    assert not deters(detection=threshold, threshold=threshold)
    assert deters(detection=np.nextafter(threshold, 1), threshold=threshold)
    assert not deters(detection=np.nextafter(threshold, 0), threshold=threshold)


@given(money, money, money, st.floats(0.01, 1), money, st.floats(0.01, 1), unit, unit, unit)
def test_min_rho_is_the_root_of_detection_minus_threshold(gain, price, stake, slash, cost, d, phi, w, back):
    terms = {
        "gain_usd": gain, "price_usd": price, "stake_usd": stake, "slash_fraction": slash, "dispute_cost_usd": cost,
        "reward_share": back,
    }  # fmt: skip
    rate = eco.min_rho(**terms, d=d, phi=phi, w=w)
    threshold = eco.deterrence_threshold(**terms)
    at = {end: eco.detection_probability(rho=end, d=d, phi=phi, w=w) for end in (0.0, 1.0)}
    if rate == 0.0:
        assert at[0.0] >= threshold - 1e-12
    elif rate == np.inf:
        assert at[1.0] <= threshold + 1e-12
    else:
        assert eco.detection_probability(rho=rate, d=d, phi=phi, w=w) == pytest.approx(threshold, rel=1e-9, abs=1e-12)


@given(money, money, st.floats(0.01, 1), money, st.floats(1e-4, 1), st.floats(0.01, 1), unit, unit, st.floats(0, 0.99))
def test_min_stake_is_the_stake_of_indifference(gain, price, slash, cost, rho, d, phi, w, back):
    bond = {"slash_fraction": slash, "dispute_cost_usd": cost, "reward_share": back}
    stake = eco.min_stake(gain_usd=gain, price_usd=price, **bond, rho=rho, d=d, phi=phi, w=w)
    detection = eco.detection_probability(rho=rho, d=d, phi=phi, w=w)
    surplus = honest_minus_cheating(detection, gain_usd=gain, price_usd=price, stake_usd=stake, **bond)
    if stake > 0:
        assert surplus == pytest.approx(0, abs=1e-9 * (gain + price + stake + cost))
    else:
        assert surplus >= -1e-9 * (gain + price + cost)


def test_rates_and_stakes_of_the_guidance_table():
    stakes = np.array([1.0, 100.0, 10_000.0, 1_000_000.0])
    for gain, expected in (
        (0.00047, [4.7e-4, 4.7e-6, 4.7e-8, 4.7e-10]),
        (10.0, [np.inf, 0.1, 1e-3, 1e-5]),
        (10_000.0, [np.inf, np.inf, 1.0, 0.01]),
    ):
        found = eco.min_rho(
            gain_usd=gain, price_usd=0, stake_usd=stakes, slash_fraction=1, dispute_cost_usd=0, d=1, phi=0, w=0
        )
        assert found == pytest.approx(expected)


def test_published_sampling_rule_is_a_special_case(outside_file):
    import json

    cases = json.loads(outside_file("vectors/game-theory/known_results.json").read_text())["posp"]["examples"]
    assert cases
    for case in cases:
        cost, r, reward, stake = (float(Fraction(str(case[key]))) for key in ("C", "r", "R", "S"))
        found = eco.min_rho(
            gain_usd=cost, price_usd=reward, stake_usd=stake, slash_fraction=1, dispute_cost_usd=0, d=1 - r, phi=0, w=0
        )
        assert found == pytest.approx(float(Fraction(case["p_threshold"])), rel=1e-12)


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("gain_usd", float("nan")),
        ("gain_usd", -float("inf")),
        ("price_usd", -0.01),
        ("price_usd", float("inf")),
        ("stake_usd", 0.0),
        ("stake_usd", -1.0),
        ("stake_usd", float("inf")),
        ("slash_fraction", 1.5),
        ("dispute_cost_usd", -1.0),
        ("dispute_cost_usd", float("inf")),
        ("reward_share", 1.01),
        ("d", 1.1),
        ("phi", -0.1),
        ("w", "high"),
    ],
)
def test_bad_input_names_the_field(field, bad):
    eco.min_rho(**GOOD, **WATCH)
    with pytest.raises(ParameterError) as error:
        eco.min_rho(**{**GOOD, **WATCH, field: bad})
    assert error.value.field == field
    assert "allowed" in str(error.value)


def test_unit_mix_up_is_caught_by_the_name():
    with pytest.raises(TypeError, match="gain"):
        eco.deterrence_threshold(**{**GOOD, "gain_cents": 100})


def test_extremes_have_right_answers():
    assert eco.min_rho(**{**GOOD, **WATCH, "gain_usd": 0.0}) == 0.0
    assert eco.min_rho(**{**GOOD, **WATCH, "gain_usd": np.inf}) == np.inf
    assert eco.min_rho(**{**GOOD, **WATCH, "d": 0.0}) == np.inf
    assert eco.min_rho(**{**GOOD, "d": 0.0, "phi": 1.0, "w": 1.0}) == 0.0
    nothing = {"gain_usd": 0.0, "price_usd": 0.0, "stake_usd": 1.0, "slash_fraction": 0.0, "dispute_cost_usd": 0.0}
    assert eco.deterrence_threshold(**nothing) == 0.0
    assert eco.deterrence_threshold(**{**nothing, "gain_usd": 1.0}) == np.inf
    stake = {"price_usd": 0.0, "slash_fraction": 1.0, "dispute_cost_usd": 0.0, "d": 1.0, "phi": 0.0, "w": 0.0}
    assert eco.min_stake(gain_usd=1.0, rho=0.0, **stake) == np.inf
    assert eco.min_stake(gain_usd=0.0, rho=0.0, **stake) == 0.0
    assert eco.min_stake(gain_usd=1.0, rho=1.0, **stake) == 1.0
    assert eco.min_stake(gain_usd=1.0, rho=0.5, **{**stake, "slash_fraction": 0.0}) == np.inf


def test_where_no_share_is_named_nothing_comes_back():
    bond = {"stake_usd": 9.0, "slash_fraction": 0.5, "dispute_cost_usd": 1.0}
    assert loss_if_caught(**bond) == 5.5
    assert loss_if_caught(**bond, **BACK) == 5.5 - 4.5 / 4
    no_stake = {name: value for name, value in GOOD.items() if name != "stake_usd"}
    for call, given_ in (
        (eco.deterrence_threshold, GOOD),
        (eco.min_rho, {**GOOD, **WATCH}),
        (eco.min_stake, {**no_stake, **WATCH, "rho": 0.01}),
        (safe_value, {**bond, "price_usd": 0.5, "compute_saved_usd": 0.0, "detection": 0.5}),
    ):
        assert call(**given_) == call(**given_, reward_share=0.0) != call(**given_, **BACK)


def test_a_slash_that_all_comes_back_deters_nothing():
    stake = {"price_usd": 0.5, "slash_fraction": 1.0, "dispute_cost_usd": 0.0, "reward_share": 1.0}
    watch = {"rho": 0.5, "d": 1.0, "phi": 0.0, "w": 0.0}
    assert eco.min_stake(gain_usd=1.0, **stake, **watch) == np.inf
    assert eco.min_stake(gain_usd=0.2, **stake, **watch) == 0.0  # the price alone deters


@pytest.mark.parametrize("pending", [0, 1, 7, 1239])
@pytest.mark.parametrize("price", [0.5, 40.0])
def test_safe_value_is_the_gain_that_no_schedule_makes_pay(pending, price):
    terms = {"price_usd": price, "stake_usd": 100.0, "slash_fraction": 0.5, "dispute_cost_usd": 2.0, **BACK}
    value = safe_value(**terms, compute_saved_usd=0.1, detection=0.04, pending=pending)
    loss = 50 * 0.75 + 2
    assert value > 0
    for more, pays in ((1e-6, True), (-1e-6, False)):
        attack = {"gain_usd": 0.1 + value + more, "price_usd": price, "loss_usd": loss, "detection": 0.04}
        assert (attack_profit(**attack, pending=pending) > 0) == pays


def test_safe_value_is_the_outside_gain_of_indifference():
    terms = {"price_usd": 0.5, "stake_usd": 100.0, "slash_fraction": 0.5, "dispute_cost_usd": 2.0, **BACK}
    value = safe_value(**terms, compute_saved_usd=0.1, detection=0.04)
    assert honest_minus_cheating(0.04, gain_usd=0.1 + value, **terms) == pytest.approx(0, abs=1e-12)
    assert safe_value(**terms, compute_saved_usd=50.0, detection=0.04) == 0.0


def test_grids_give_grids_and_scalars_give_floats():
    stakes = np.array([1.0, 2.0, 4.0])
    grid = eco.deterrence_threshold(**{**GOOD, "stake_usd": stakes})
    assert [eco.deterrence_threshold(**{**GOOD, "stake_usd": stake}) for stake in stakes] == list(grid)
    assert type(eco.deterrence_threshold(**GOOD)) is float
    assert deters(detection=0.5, threshold=0.4) is True
    assert list(deters(detection=[0.5, 0.3], threshold=0.4)) == [True, False]


def test_curves_repeat_the_formulas():
    record = economics.stake_curves(gains_usd=[2.0], rhos=[0.5], reward_share=0.5)[0]
    assert record == {"gain_usd": 2.0, "rho": 0.5, "stake_usd": 8.0}
    rates = economics.rho_curves(gains_usd=[2.0], stakes_usd=[16.0, 3.0], reward_share=0.5)
    assert [rate["rho"] for rate in rates] == [0.25, np.inf]
    last = economics.detection_curves(rhos=[0.01], most_cheats=459)[-1]
    assert last["cheats"] == 459
    assert last["detection"] >= 0.99
    assert economics.detection_marks(rhos=[0.01], probabilities=[0.99])[0]["cheats"] == 459


def test_import_is_light_and_fast():
    code = (
        "import sys, time; start = time.process_time(); import otr_core.economics; took = time.process_time() - start;"
        "heavy = {'torch', 'scipy', 'pandas', 'ezkl', 'joblib', 'dask', 'nashpy'} & set(sys.modules);"
        "print(took); sys.exit(f'{heavy}' if heavy else 0)"
    )
    # In a fresh clone the first import also compiles the modules to bytecode: the second one counts.
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.3
