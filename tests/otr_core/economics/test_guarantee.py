"""The composed guarantee: against every strategy by value iteration, play by events, and with each
premise left out."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otr_core.economics import guarantee as gt
from otr_core.economics.detection import undetected_cheats
from otr_core.economics.premises import require_premises
from otr_core.errors import ParameterError, PremiseError
from otr_paper.studies.schedules import Schedules, best_value, draw_game, play_class, play_operator, searched_value
from tests.helpers.premises import name_what_fails

TERMS = {"gain_usd": 2.0, "price_usd": 0.5, "detection": 0.05, "pending": 7}
SPARSE = gt.Cheat(name="one value", gain_usd=3.0, drawn=0.1, looked=0.0)
WHOLE = gt.Cheat(name="whole model", gain_usd=1.0, drawn=0.9, looked=0.5)
SETTING = gt.Setting(price_usd=0.5, loss_usd=100.0, rho=0.2, phi=0.5, pending=4, cheats=(SPARSE, WHOLE))


def games(seed, count, most_pending=4):
    draws = np.random.default_rng(seed)
    for _ in range(count):
        given_ = draw_game(draws, most_pending=most_pending, least_detection=0.1)
        terms = {"gain_usd": given_["gains_usd"][0], "price_usd": given_["price_usd"]}
        yield given_, terms | {"detection": given_["detections"][0], "pending": given_["pending"]}


def test_no_strategy_pays_above_the_threshold_and_some_does_below():
    sides = 0
    for given_, terms in games(1, 80):
        needed = gt.deterring_loss(**terms)
        for factor in (0.98, 1.02) if needed > 0 else (1.0,):
            game = Schedules(**given_, loss_usd=needed * factor)
            value, scale = best_value(game), needed + terms["gain_usd"] + terms["price_usd"]
            bound = gt.attack_profit(**terms, loss_usd=needed * factor)
            assert (bound > 0) == (factor < 1 and needed > 0)
            assert value == pytest.approx(max(bound, 0.0), abs=1e-9 * scale)
            sides += needed > 0
    assert sides > 100


def test_hill_climbing_meets_the_bound_and_never_passes_it():
    draws = np.random.default_rng(3)
    for given_, terms in games(2, 25, most_pending=3):
        loss = gt.deterring_loss(**terms) * 0.9
        bound = max(gt.attack_profit(**terms, loss_usd=loss), 0.0)
        found = searched_value(Schedules(**given_, loss_usd=loss), draws)
        assert found == pytest.approx(bound, rel=1e-6, abs=1e-9 * (loss + terms["gain_usd"]))


def test_without_a_freeze_more_is_needed_and_the_value_says_so():
    draws = np.random.default_rng(4)
    for given_, terms in games(5, 40):
        terms["gain_usd"] = terms["price_usd"] * (1 + 10 ** draws.uniform(-1, 1))
        given_["gains_usd"] = (terms["gain_usd"],)
        late = int(draws.integers(0, terms["pending"] + 1))
        needed = gt.deterring_loss(**terms, late=late)
        assert needed >= gt.deterring_loss(**terms)
        for factor, pays in ((0.98, True), (1.02, False)):
            value = best_value(Schedules(**given_, late=late, loss_usd=needed * factor))
            assert (value > 1e-9 * needed) == pays


def test_a_mix_of_kinds_is_covered_by_the_worst_of_both():
    draws = np.random.default_rng(6)
    for number in range(30):
        gains, caught = tuple(draws.uniform(0.1, 5, 2)), tuple(draws.uniform(0.1, 0.9, 2))
        price, pending = float(draws.uniform(0.1, 2)), int(draws.integers(0, 4))
        late, kept = (int(draws.integers(0, pending + 1)), 0) if number % 2 else (0, 1)
        cheats = tuple(gt.Cheat(name="", gain_usd=g, drawn=d, looked=0.0) for g, d in zip(gains, caught, strict=True))
        setting = gt.Setting(
            price_usd=price, loss_usd=0.0, rho=1.0, phi=0.0, pending=pending, late=late, cheats=cheats
        )  # fmt: skip
        needed = setting.deterring_loss_usd()
        game = {"gains_usd": gains, "detections": caught, "price_usd": price, "pending": pending, "late": late}
        assert best_value(Schedules(**game, kept=kept, loss_usd=needed * (1 + 1e-9))) <= 1e-8 * (needed + price)
        assert replace(setting, loss_usd=needed * (1 + 1e-9) + 1e-9).deters()
        assert not replace(setting, loss_usd=needed * (1 - 1e-6)).deters() or needed == 0


@pytest.mark.parametrize("freeze", [True, False])
def test_an_operator_played_by_events_earns_what_the_formula_says(freeze):
    draws, late = np.random.default_rng(7), 0 if freeze else 3
    play = {"answers_per_s": 2.0, "verdict_s": 4.0, "window_s": 4.0 - late / 2, "freeze": freeze}
    bond = {"price_usd": 0.5, "loss_usd": 12.0, "detection": 0.05}
    played = np.array([play_operator(draws, gain_usd=2.0, **bond, **play) for _ in range(6000)])
    exact = gt.deterring_loss(**TERMS, late=late) - 12.0
    assert abs(played.mean() - exact) < 2.576 * played.std() / np.sqrt(played.size)
    if freeze:
        assert gt.attack_profit(**TERMS, loss_usd=12.0) == pytest.approx(exact)


def test_the_profit_until_a_patch_by_summing_over_the_first_detected():
    for gain, attempts in ((2.0, 3), (2.0, 20), (2.0, 400), (0.3, 20), (0.5, 5)):
        terms = {**TERMS, "gain_usd": gain}
        over, by_hand = max(gain - 0.5, 0.0), (0.95**attempts) * attempts * gain
        for first in range(1, attempts + 1):
            chance = 0.95 ** (first - 1) * 0.05
            by_hand += chance * (first * gain - 0.5 - 4.0 + over * min(7, attempts - first))
        found = gt.attack_profit(**terms, loss_usd=4.0, attempts=attempts)
        assert found == pytest.approx(by_hand)
        bought = gt.attack_profit(**terms, loss_usd=4.0, attempts=attempts, break_cost_usd=3.0, break_chance=0.25)
        assert bought == pytest.approx(0.25 * by_hand - 3.0)


def test_what_a_break_costs_never_enters_the_threshold():
    at = gt.deterring_loss(**TERMS)
    for chance, cost in ((1e-6, 0.0), (1.0, 1e6)):
        for factor, sign in ((0.98, 1), (1.02, -1)):
            profit = gt.attack_profit(**TERMS, loss_usd=at * factor, break_chance=chance, break_cost_usd=cost)
            assert np.sign(profit + cost) == sign


@given(st.floats(1e-3, 1e3), st.floats(0, 1e3), st.floats(1e-3, 1), st.integers(0, 2000))
def test_rate_loss_and_what_may_be_in_flight_are_one_condition(gain, price, detection, pending):
    loss = gt.deterring_loss(gain_usd=gain, price_usd=price, detection=detection, pending=pending)
    terms = {"gain_usd": gain, "price_usd": price}
    least = gt.least_detection(**terms, loss_usd=loss * (1 + 1e-9), pending=pending)
    assert least <= detection * (1 + 1e-6)
    if loss > 1e-6 * gain:
        assert least == pytest.approx(detection, rel=1e-5)
        most = gt.most_in_flight(**terms, loss_usd=loss * (1 + 1e-9), detection=detection)
        assert most >= pending + 1
        assert gt.most_in_flight(**terms, loss_usd=loss * (1 - 1e-9), detection=detection) <= pending + 1


@pytest.mark.parametrize("pending", [0, 1, 4, 1239])
def test_what_may_be_in_flight_is_counted_exactly(pending):
    terms = {"gain_usd": 3.0, "price_usd": 1.0, "detection": 0.25}
    loss = gt.deterring_loss(**terms, pending=pending)
    assert gt.most_in_flight(**terms, loss_usd=loss * (1 + 1e-12)) == pending + 1
    assert gt.most_in_flight(**terms, loss_usd=loss * (1 - 1e-12)) == pending


def test_the_burst_rule_of_before_is_never_more_and_up_to_half_as_much():
    """The larger of a single cheat and of all in flight at once was taken for the worst schedule."""
    draws, ratios = np.random.default_rng(8), []
    for _ in range(5000):
        price, caught = 10 ** draws.uniform(-3, 1), 10 ** draws.uniform(-4, 0)
        gain, number = price * 10 ** draws.uniform(-1, 3), int(10 ** draws.uniform(0, 3))
        missed = 1 - (1 - caught) ** number
        burst = max(gain / caught - price, (number * gain - missed * number * price) / missed, 0.0)
        rolling = gt.deterring_loss(gain_usd=gain, price_usd=price, detection=caught, pending=number - 1)
        assert rolling >= burst * (1 - 1e-9)
        ratios.append(rolling / burst if burst else 1.0)
    assert 1.85 < max(ratios) <= 2.0


@pytest.mark.parametrize("attempts", [-1, 0.5, float("nan"), -inf])
def test_attempts_are_whole_even_where_all_of_them_are_in_flight(attempts):
    with pytest.raises(ParameterError, match="attempts"):
        gt.attack_profit(**TERMS, loss_usd=1.0, attempts=attempts)


def test_extremes_of_the_threshold():
    assert gt.deterring_loss(**{**TERMS, "detection": 0.0}) == inf
    assert gt.deterring_loss(**{**TERMS, "gain_usd": 0.0, "detection": 0.0}) == 0.0
    assert gt.deterring_loss(**{**TERMS, "gain_usd": inf}) == inf
    cheap = {"gain_usd": 0.4, "price_usd": 0.5, "detection": 0.05}
    assert gt.deterring_loss(**cheap, pending=10**6) == pytest.approx(0.4 / 0.05 - 0.5)  # whatever is in flight
    assert gt.most_in_flight(**cheap, loss_usd=7.6) == inf
    assert gt.most_in_flight(**cheap, loss_usd=7.4) == 0.0
    assert gt.least_detection(gain_usd=inf, price_usd=1.0, loss_usd=1.0, pending=0) == inf
    assert gt.least_detection(gain_usd=2.0, price_usd=1.0, loss_usd=9.0, pending=9) == inf  # 1 USD is left
    assert gt.least_detection(gain_usd=2.0, price_usd=1.0, loss_usd=9.0, pending=8) == 1.0
    assert gt.least_detection(gain_usd=-1.0, price_usd=1.0, loss_usd=0.0, pending=9) == 0.0
    with pytest.raises(ParameterError, match="late"):
        gt.deterring_loss(**TERMS, late=8)


# ---- the setting, and premises by name


def test_safety_multiplies_what_has_to_be_missed():
    caught = 1 - (1 - 0.2 * 0.9) * (1 - 0.5 * 0.5)
    assert SETTING.final_chance(WHOLE, broken=True, gate=0.99) == pytest.approx(1 - caught)
    assert SETTING.final_chance(WHOLE, broken=False, gate=0.99) == pytest.approx(0.01 * (1 - caught))
    assert SETTING.cost_of_final_usd() == pytest.approx(100 * 0.02 / 0.98)  # of the sparse kind
    sure = replace(SETTING, rho=1.0, cheats=(replace(WHOLE, drawn=1.0),))
    assert sure.cost_of_final_usd() == inf


def test_every_final_false_answer_costs_its_stake_whatever_the_stopping_rule():
    """Restarts and stopping at will: cheats on one identity after another, up to a number of its own."""
    draws, caught = np.random.default_rng(9), 0.2
    for most in (1, 3, 50):
        final = convictions = 0
        for _ in range(20_000):
            for _cheat in range(most):
                if draws.random() < caught:
                    convictions += 1
                    break
                final += 1
        assert final <= (1 - caught) / caught * convictions * 1.03


def test_the_best_kind_is_the_sparse_one():
    assert SETTING.price_of_best_cheat() == ("one value", pytest.approx(3.0 / 0.02))
    assert SETTING.deterring_loss_usd() == pytest.approx(150.0 - 0.5 + 4 * 2.5)
    assert not SETTING.deters()
    assert replace(SETTING, loss_usd=160.0).deters()
    unseen = replace(SETTING, cheats=(replace(SPARSE, drawn=0.0),))
    assert unseen.price_of_best_cheat() == ("one value", inf)
    assert unseen.deterring_loss_usd() == inf
    assert not replace(unseen, loss_usd=1e300).deters()
    idle = replace(SETTING, cheats=(replace(SPARSE, gain_usd=-1.0, drawn=0.0),))
    assert (idle.deterring_loss_usd(), idle.deters()) == (0.0, True)
    assert idle.price_of_best_cheat()[1] == 0.0


def test_without_independence_the_larger_rate_is_left_and_it_is_attained():
    alone = replace(SETTING, failing=frozenset({"H4 independent"}))
    assert alone.detection(WHOLE) == 0.25
    # one coin for both: who is not drawn is not looked at either
    coin = np.random.default_rng(10).random(200_000)
    assert ((coin >= 0.2 * 0.9) & (coin >= 0.25)).mean() == pytest.approx(1 - 0.25, abs=0.003)
    with pytest.raises(ParameterError, match="rho"):
        replace(alone, rho=2.0)
    with pytest.raises(ParameterError, match="phi"):
        replace(alone, phi=2.0)


def test_more_calls_ask_for_their_premises():
    for call in (gt.Setting.cost_of_final_usd, gt.Setting.deters):
        with pytest.raises(PremiseError, match="H6"):
            call(replace(SETTING, failing=frozenset({"H6"})))
    with pytest.raises(ParameterError, match="theorem"):
        require_premises("luck", ())
    with pytest.raises(PremiseError, match="H10"):
        replace(SPARSE, gain_usd=inf)
    for field, bad in (("drawn", 1.1), ("looked", -0.1), ("gain_usd", float("nan"))):
        with pytest.raises(ParameterError, match=field):
            replace(SPARSE, **{field: bad})
    for field, bad in (("price_usd", -1.0), ("loss_usd", inf), ("late", 5), ("pending", 1.5), ("cheats", ())):
        with pytest.raises(ParameterError, match=field):
            replace(SETTING, **{field: bad})


# ---- a broken class

BREAK = {
    "detection": 0.0099, "operators": 100, "attempts": 2_592_000, "answers_per_s": 1.0, "verdict_s": 1240.0,
    "window_s": 1240.0,
}  # fmt: skip


def test_a_fuse_takes_the_number_of_operators_out():
    plain, fused = gt.class_break(**BREAK, fuse=False), gt.class_break(**BREAK, fuse=True)
    assert plain.final == pytest.approx(100 * 0.9901 / 0.0099)
    assert fused.final == pytest.approx(0.9901 / 0.0099)
    assert plain.served == pytest.approx(100 * (1 / 0.0099 + 1239))
    assert fused.served == pytest.approx(1 / 0.0099 + 100 * 1240 - 1)
    again = gt.class_break(**{**BREAK, "operators": 1000, "attempts": inf}, fuse=True)
    assert again.final == pytest.approx(fused.final)


def test_a_window_that_is_shorter_than_a_verdict_lets_some_through():
    short = {**BREAK, "window_s": 1200.0}
    assert gt.class_break(**short, fuse=False).final == pytest.approx(100 * 0.9901 / 0.0099)  # each is frozen
    loose = gt.class_break(**short, fuse=False, freeze=False).final
    assert loose == pytest.approx(100 * (0.9901 / 0.0099 + 40 * 0.9901))
    late = gt.class_break(**short, fuse=True).final
    assert late == pytest.approx(0.9901 / 0.0099 + 0.9901 * (99 * 41 + 40))
    few = gt.class_break(**{**short, "attempts": 3}, fuse=False, freeze=False)
    assert few.final == pytest.approx(100 * 3 * 0.9901)
    assert few.served == 300


@pytest.mark.parametrize("fuse", [False, True])
@pytest.mark.parametrize("freeze", [False, True])
@pytest.mark.parametrize("window_s", [2.3, 5.6, 7.9])
def test_classes_played_by_events_stay_within_the_counts(fuse, freeze, window_s):
    terms = {
        "detection": 0.15, "operators": 5, "attempts": 40, "answers_per_s": 1.0, "verdict_s": 5.6, "window_s": window_s,
        "fuse": fuse, "freeze": freeze,
    }  # fmt: skip
    draws, bound = np.random.default_rng(11), gt.class_break(**terms)
    played = np.array([play_class(draws, **terms) for _ in range(1500)])
    error = 3 * played.std(axis=0) / np.sqrt(len(played))
    assert (played.mean(axis=0) <= np.array([bound.final, bound.served]) + error).all()
    if not fuse:
        assert played[:, 1].mean() == pytest.approx(bound.served, abs=error[1])
        if freeze and window_s == 5.6:
            assert played[:, 0].mean() == pytest.approx(
                5 * undetected_cheats(detection=0.15, attempts=40), abs=error[0]
            )


def test_the_play_leaves_something_to_bound():
    """Without freeze and fuse, and with a short window, more than with them comes through."""
    base = {"detection": 0.15, "operators": 5, "attempts": 40, "answers_per_s": 1.0, "verdict_s": 9.0, "window_s": 2.0}
    means = {}
    for fuse in (False, True):
        for freeze in (False, True):
            draws = np.random.default_rng(12)
            means[fuse, freeze] = np.mean([play_class(draws, **base, fuse=fuse, freeze=freeze)[0] for _ in range(500)])
    assert means[False, False] > means[False, True] > means[True, True]
    assert means[False, False] > means[True, False] > means[True, True]


# ---- which theorem needs what


@pytest.mark.parametrize("theorem", ["safety", "deterrence", "class break"])
def test_each_theorem_names_the_premise_that_fails(theorem):
    calls = {
        "safety": lambda failing: replace(SETTING, failing=failing).final_chance(WHOLE, broken=True, gate=0.9),
        "deterrence": lambda failing: replace(SETTING, failing=failing).deterring_loss_usd(),
        "class break": lambda failing: gt.class_break(**BREAK, fuse=True, failing=failing),
    }
    name_what_fails(theorem, calls[theorem])
