"""Harm to users, fishermen, and rates by value: closed forms against grids, and guidance against every
plan of a grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from otr_core.economics import guidance, scenarios
from otr_core.economics.guidance import guide
from otr_core.economics.harm import ATTENTION_MARGIN, NOBODY, crew, harm_per_query, harm_weight
from otr_core.economics.model import Attention, Exposure, Flow, Market
from otr_core.economics.rates import best_rate, optimal_rho
from otr_core.economics.search import least_at
from otr_core.economics.values import rates_by_value
from otr_core.errors import ParameterError

EXPOSURE = Exposure(harm_usd=2.0, breaks_per_year=0.5, operators=100, cheating=10)
MARKET = Market(proof_cost_usd=1.0, capital_rate_per_year=0.1, queries_per_year=1e6)
FLOW = Flow(queries_per_s=1.0, verdict_s=30.5, patch_s=1e6)


@pytest.fixture(scope="module")
def cases(project):
    return scenarios.load(project.data)


def terms_at_random(draws):
    return {
        "price_usd": 10 ** draws.uniform(-4, 1),
        "proof_cost_usd": 10 ** draws.uniform(-3, 2),
        "capital_cost_usd": 10 ** draws.uniform(-9, -2),
        "d": draws.uniform(0.3, 1),
        "slash_fraction": draws.uniform(0.05, 1),
        "reward_share": draws.uniform(0, 0.9),
        "pending": int(draws.choice([0, 3])),
        "most_stake_usd": 10 ** draws.uniform(0, 5),
        "most_rho": 10 ** draws.uniform(-3, 0),
        "looked": float(draws.choice([0.0, 1e-3, 0.3])),
    }


def spent_on_a_grid(gain, harm, t):
    """Least of proofs, interest and harm over rates, with the least stake that deters at each."""
    rates = np.append(np.geomspace(1e-9, t["most_rho"], 40_001), [0.0])
    detection = 1 - (1 - t["looked"]) * (1 - rates * t["d"])
    over = t["pending"] * max(gain - t["price_usd"], 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        stakes = np.maximum(gain / detection - t["price_usd"] + over, 0) / (
            t["slash_fraction"] * (1 - t["reward_share"])
        )
        spent = rates * t["proof_cost_usd"] + t["capital_cost_usd"] * stakes + harm * (1 - detection) / detection
    spent = np.where((stakes <= t["most_stake_usd"]) & (detection > 0), spent, np.inf)
    return spent.min()


@pytest.mark.parametrize("seed", range(40))
def test_the_cheapest_rate_with_harm_and_looks_against_a_grid(seed):
    draws = np.random.default_rng(seed)
    terms, gain, harm = terms_at_random(draws), 10 ** draws.uniform(-4, 3), 10 ** draws.uniform(-9, 0)
    found, on_grid = best_rate(gain_usd=gain, harm_usd=harm, **terms), spent_on_a_grid(gain, harm, terms)
    if found is None:
        assert not np.isfinite(on_grid)
        return
    detection = 1 - (1 - terms["looked"]) * (1 - found.rho * terms["d"])
    spent = found.cost_usd + harm * (1 - detection) / detection
    assert spent <= on_grid * (1 + 1e-9)
    assert spent == pytest.approx(on_grid, rel=2e-3)
    assert found.rho <= terms["most_rho"]
    assert found.stake_usd <= terms["most_stake_usd"]


def test_harm_works_as_dearer_capital():
    terms = {"proof_cost_usd": 2.0, "d": 0.8, "slash_fraction": 0.5, "reward_share": 0.2}
    gain, capital, kept = 3.0, 1e-6, 0.4
    dearer = optimal_rho(gain_usd=gain, capital_cost_usd=capital + 7e-6 * kept / gain, **terms)
    found = best_rate(gain_usd=gain, capital_cost_usd=capital, harm_usd=7e-6, price_usd=0.0, **terms)
    assert found.rho == pytest.approx(dearer, rel=1e-12)
    bare = best_rate(gain_usd=gain, capital_cost_usd=capital, price_usd=0.0, **terms)
    assert bare.rho == pytest.approx(optimal_rho(gain_usd=gain, capital_cost_usd=capital, **terms), rel=1e-12)


def test_who_gains_nothing_is_checked_for_the_users_sake_alone():
    terms = {"price_usd": 0.1, "proof_cost_usd": 2.0, "capital_cost_usd": 1e-6, "d": 0.8, "slash_fraction": 0.5}
    found = best_rate(gain_usd=-1.0, harm_usd=1e-4, **terms)
    assert (found.rho, found.stake_usd) == (pytest.approx(np.sqrt(1e-4 / (0.8 * 2.0))), 0.0)
    # Fishermen who find a cheat often enough replace the proofs, and proofs that cost nothing are all made.
    assert best_rate(gain_usd=-1.0, harm_usd=1e-4, looked=0.5, **terms).rho == 0.0
    assert best_rate(gain_usd=-1.0, harm_usd=1e-4, **{**terms, "proof_cost_usd": 0.0}).rho == 1.0


@pytest.mark.parametrize("seed", range(15))
def test_one_value_in_two_halves_is_one_value(seed):
    draws = np.random.default_rng(seed)
    terms, gain = terms_at_random(draws), 10 ** draws.uniform(-4, 3)
    harm, weight = 10 ** draws.uniform(-3, 3), 10 ** draws.uniform(-9, -3)
    one = best_rate(gain_usd=gain, harm_usd=harm * weight, **terms)
    two = rates_by_value(gains_usd=[gain, gain], shares=[0.3, 0.7], harms_usd=harm, weight=weight, **terms)
    assert (one is None) == (two is None)
    if one is not None:
        detection = 1 - (1 - terms["looked"]) * (1 - one.rho * terms["d"])
        spent = one.cost_usd + weight * harm * (1 - detection) / detection
        again = two.cost_usd + weight * harm * (1 - two.detections[0]) / two.detections[0]
        assert again == pytest.approx(spent, rel=1e-6)


def test_rates_rise_with_the_value_and_no_other_choice_is_cheaper():
    gains, shares = np.array([0.1, 1.0, 10.0]), np.array([0.9, 0.09, 0.01])
    terms = {"price_usd": 0.01, "proof_cost_usd": 0.5, "capital_cost_usd": 1e-6, "d": 0.9, "slash_fraction": 1.0}
    terms["reward_share"] = 0.3
    found = rates_by_value(gains_usd=gains, shares=shares, harms_usd=gains, weight=1e-5, pending=2, **terms)
    assert (np.diff(found.rhos) > 0).all()
    lost = 0.01 + 0.7 * found.stake_usd - 2 * (10.0 - 0.01)
    assert (found.detections * lost >= gains * (1 - 1e-9)).all()
    assert found.rho == pytest.approx(found.rhos @ shares)
    spent = found.cost_usd + 1e-5 * found.worst_harm_usd
    assert found.worst_harm_usd == pytest.approx((gains * (1 - found.detections) / found.detections).max(), rel=1e-6)
    for stake in found.stake_usd * np.geomspace(0.5, 3, 40):
        lost = 0.01 + 0.7 * stake - 2 * (10.0 - 0.01)
        for worst in found.worst_harm_usd * np.geomspace(0.3, 3, 40):
            detection = np.maximum(gains / lost if lost > 0 else np.inf, gains / (worst + gains))
            if (detection <= 0.9).all():
                assert spent <= detection / 0.9 @ shares * 0.5 + 1e-6 * stake + 1e-5 * worst + 1e-12
    flat = best_rate(gain_usd=10.0, harm_usd=1e-5 * 10.0, pending=2, **terms)
    assert found.rho < flat.rho / 5  # one rate for all would be the largest value's


def test_values_that_nothing_backs_and_shares_that_are_none():
    terms = {"price_usd": 0.01, "proof_cost_usd": 0.5, "capital_cost_usd": 1e-6, "d": 0.9, "slash_fraction": 1.0}
    assert rates_by_value(gains_usd=[1.0, 1e6], shares=[0.5, 0.5], most_stake_usd=1e3, **terms) is None
    unslashed = {**terms, "slash_fraction": 0.0}
    assert rates_by_value(gains_usd=[1.0], shares=[1.0], **unslashed) is None
    with pytest.raises(ParameterError, match="summing to 1"):
        rates_by_value(gains_usd=[1.0, 2.0], shares=[0.5, 0.4], **terms)
    free = rates_by_value(gains_usd=[-1.0], shares=[1.0], **terms)
    assert (free.rho, free.stake_usd, free.worst_harm_usd) == (0.0, 0.0, np.inf)


def test_harm_per_query_by_hand():
    # 10 operators, each (1 - D)/D wrong answers that become final, at 2 USD, every other year
    expected = 0.5 * 2.0 * 10 * 99 / (1e6 * 100)
    assert harm_per_query(EXPOSURE, MARKET, FLOW, detection=0.01) == pytest.approx(expected, rel=1e-9)
    assert harm_weight(EXPOSURE, MARKET) * 99 == pytest.approx(expected, rel=1e-9)
    fused = replace(EXPOSURE, fuse=1.0)
    assert harm_per_query(fused, MARKET, FLOW, detection=0.01) == pytest.approx(expected / 10, rel=1e-9)
    assert harm_weight(fused, MARKET) * 99 == pytest.approx(expected / 10, rel=1e-9)
    # served besides: the caught one, and 30 until its verdict; with the fuse those of all ten
    served = harm_per_query(EXPOSURE, MARKET, FLOW, detection=0.01, provisional=True)
    assert served == pytest.approx(expected * (99 + 1 + 30) / 99, rel=1e-9)
    served = harm_per_query(fused, MARKET, FLOW, detection=0.01, provisional=True)
    assert served == pytest.approx(expected / 10 * (99 + 10 * 31) / 99, rel=1e-9)
    # a patch ends it where nothing else does
    assert harm_per_query(EXPOSURE, MARKET, FLOW, detection=0.0) == pytest.approx(0.5 * 2.0 * 10 * 1e6 / 1e8)
    assert harm_per_query(EXPOSURE, MARKET, FLOW, detection=1e-9) < harm_weight(EXPOSURE, MARKET) * 1e9


@pytest.mark.parametrize(
    ("name", "value"),
    [("cheating", 0), ("cheating", 101), ("cheating", 2.5), ("fuse", 0.5), ("harm_usd", float("nan")), ("harm_usd", -1),
     ("breaks_per_year", "5%"), ("operators", 0)],
)  # fmt: skip
def test_a_wrong_exposure_is_refused_by_field(name, value):
    with pytest.raises(ParameterError):
        replace(EXPOSURE, **{name: value})


def test_tests_and_the_stake_behind_them_are_as_cheap_as_attention_allows():
    attention = Attention(test_cost_usd=0.01, look_chance=0.9, bought_share=0.4)
    cost, capital, looks, number = 5e-4, 3e-9, 0.02, 5
    found = crew(attention, number, looks, check_cost_usd=cost, capital_cost_usd=capital)
    assert found.tested * found.stake_usd == pytest.approx(ATTENTION_MARGIN * cost)
    assert found.watched == pytest.approx(1 - (1 - looks * 0.9) ** 3)  # three of five are not bought
    grid = np.geomspace(1e-6, 1, 100_001)
    least = (looks * grid * 0.01 + capital * ATTENTION_MARGIN * cost / grid).min()
    assert found.cost_usd == pytest.approx(number * (looks * cost + least), rel=1e-6)
    assert found.cost_usd <= number * (looks * cost + least) * (1 + 1e-12)
    free = crew(replace(attention, test_cost_usd=0.0), number, looks, check_cost_usd=cost, capital_cost_usd=capital)
    assert (free.tested, free.stake_usd) == (1.0, ATTENTION_MARGIN * cost)
    assert crew(attention, 0, looks, check_cost_usd=cost, capital_cost_usd=capital) == NOBODY
    assert crew(attention, 5, 0.0, check_cost_usd=cost, capital_cost_usd=capital) == NOBODY
    with pytest.raises(ParameterError, match="look_rate"):
        crew(attention, 5, 2.0, check_cost_usd=cost, capital_cost_usd=capital)


def test_the_least_of_a_valley_inside_and_at_both_ends():
    assert least_at(lambda x: (np.log(x) - 2.0) ** 2, 1e-6, 1e6) == pytest.approx(np.exp(2.0), rel=1e-6)
    assert least_at(lambda x: x, 0.5, 9.0) == 0.5
    assert least_at(lambda x: -x, 0.5, 9.0) == 9.0


def spent(case, rho, stake, own):
    """Proofs, interest, looks and harm of a plan with its margins, or infinity where it does not deter."""
    limits = case.limits
    caught = 1 - (1 - rho * case.watch.d * limits.detection_margin) * (
        1 - own.watched * case.watch.w * limits.detection_margin
    )
    gain, price = case.answer.gain_usd * limits.gain_margin, case.answer.price_usd
    lost = price + case.bond.kept_share * stake - case.flow.pending * max(gain - price, 0)
    if caught * lost < gain * (1 - 1e-9) or stake > limits.most_stake_usd * (1 + 1e-8):
        return np.inf
    proofs = rho * case.market.proof_cost_usd * limits.proof_cost_margin
    harm = harm_per_query(case.exposure, case.market, case.flow, detection=caught)
    return proofs + case.market.capital_cost_usd * stake + own.cost_usd + harm


@pytest.mark.parametrize("name", ["chatbot", "defi_agent", "game_npc"])
@pytest.mark.parametrize("attentive", [False, True])
def test_no_plan_of_a_grid_is_cheaper_than_the_advice(cases, name, attentive):
    case = replace(cases[name], failing=frozenset()) if attentive else cases[name]
    case = replace(case, exposure=replace(case.exposure, harm_usd=20 * case.exposure.harm_usd))
    money = {"check_cost_usd": case.watch.check_cost_usd, "capital_cost_usd": case.market.capital_cost_usd}
    found = guide(case)
    assert found.deters
    assert bool(found.fishermen) == attentive
    own = crew(case.attention, found.fishermen, found.look_rate, **money) if attentive else NOBODY
    advised = spent(case, found.rho, found.stake_usd * (1 + 1e-9), own)
    assert advised == pytest.approx(found.cost_usd + found.harm_final_usd, rel=1e-6)
    crews = [NOBODY]
    if attentive:
        crews += [crew(case.attention, n, q, **money) for n in (1, 2, 3, 4, 6) for q in np.geomspace(1e-6, 1, 25)]
    stakes = np.geomspace(1e-3, 1, 25) * case.limits.most_stake_usd
    grid = [
        spent(case, rho, stake, one) for rho in (0.0, *np.geomspace(1e-7, 1, 25)) for stake in stakes for one in crews
    ]
    assert advised <= min(grid) * (1 + 1e-9)


def test_harm_moves_the_advice_and_the_users_part(cases):
    case = replace(cases["chatbot"], limits=replace(cases["chatbot"].limits, most_cost_usd=1.0, most_stake_usd=1e9))

    def with_harm(usd, **exposure):
        return guide(replace(case, exposure=replace(case.exposure, harm_usd=usd, **exposure)))

    bare, some, much = with_harm(0.0), with_harm(1.0), with_harm(1e3)
    assert bare.rho < some.rho < much.rho
    assert (bare.binds, much.binds) == (guidance.COST, guidance.HARM)
    assert with_harm(1.0, fuse=0.0).rho > some.rho  # ten operators are not stopped by one conviction
    # Acting early harms by what is served before the verdict: beyond the user's limit it has to wait.
    assert (bare.acts, much.acts) == (guidance.PROVISIONAL, guidance.LATE)
    assert much.harm_usd == much.harm_final_usd < much.harm_served_usd
    assert some.harm_served_usd < case.limits.most_harm_usd < much.harm_served_usd
    assert some.harm_usd == some.harm_served_usd
    patient = replace(case, limits=replace(case.limits, most_wait_s=1e6))
    assert guide(patient).acts == guidance.FINAL
    # Nothing to gain: checks for the users' sake alone, and none where nobody is harmed.
    free = replace(case, answer=replace(case.answer, outside_gain_usd=-1.0))
    assert guide(free).binds == guidance.HARM
    assert guide(free).rho > 0


def test_a_budget_buys_as_much_less_harm_as_it_can(cases):
    case = replace(cases["chatbot"], exposure=replace(cases["chatbot"].exposure, harm_usd=1e4))
    found = guide(case)
    assert (found.binds, found.deters) == (guidance.BUDGET, True)
    assert found.cost_usd <= case.limits.most_cost_usd
    assert found.cost_usd == pytest.approx(case.limits.most_cost_usd, rel=1e-3)
    poor = replace(case, limits=replace(case.limits, most_cost_usd=1e-7))
    assert (guide(poor).deters, guide(poor).binds) == (False, guidance.BUDGET)


def test_a_patch_that_comes_soon_leaves_little_to_pay_for(cases):
    case = cases["chatbot"]
    case = replace(case, limits=replace(case.limits, most_stake_usd=1e9))
    case = replace(case, exposure=replace(case.exposure, harm_usd=1.0), flow=replace(case.flow, patch_s=3.0))
    bare = guide(replace(case, exposure=replace(case.exposure, harm_usd=0.0)))
    assert guide(case).rho == bare.rho


def test_fishermen_count_only_where_their_attention_is_tested(cases):
    case = cases["chatbot"]
    assert guide(case).fishermen == 0  # H7 fails
    held = replace(case, failing=frozenset())
    assert guide(held).fishermen == 2  # of two one may be bought
    assert guide(replace(held, failing=frozenset({"H8"}))).fishermen == 0
    assert guide(replace(held, attention=None)).fishermen == 0
    assert guide(held).cost_usd < guide(case).cost_usd / 50
    assert "2 fishermen" in guide(held).statement
    # Where no stake within the limit deters by draws alone, looks are what makes it possible.
    scarce = replace(held, limits=replace(held.limits, provers=1e-9, most_stake_usd=100.0))
    assert not guide(replace(scarce, failing=frozenset({"H7"}))).deters
    assert guide(scarce).deters


def test_the_bearable_harm_is_where_acting_early_becomes_too_much(cases):
    """Where the plan does not move with harm, the advice flips there; elsewhere the plan that is advised would."""
    case = cases["defi_agent"]
    found = guide(case)
    assert found.acts == guidance.PROVISIONAL

    def with_harm(usd):
        return replace(case, exposure=replace(case.exposure, harm_usd=usd))

    below, above = guide(with_harm(0.999 * found.bearable_harm_usd)), guide(with_harm(1.001 * found.bearable_harm_usd))
    assert below.rho == above.rho == found.rho
    assert (below.acts, above.acts) == (guidance.PROVISIONAL, guidance.LATE)
    for one in cases.values():
        advice = guide(one)
        hurt = replace(one.exposure, harm_usd=advice.bearable_harm_usd)
        early = harm_per_query(hurt, one.market, one.flow, detection=advice.detection, provisional=True)
        assert early == pytest.approx(one.limits.most_harm_usd, rel=1e-12), one.name
        assert ("of harm a query" in advice.statement) == (advice.acts == guidance.PROVISIONAL), one.name


def test_the_chatbots_advice_by_hand(cases):
    """One break a year, ten of a hundred operators cheat, the class's first conviction ends it: so many false answers
    are served of three thousand million, at five cents each, and the users bear a tenth of the price."""
    found = guide(cases["chatbot"])
    served = 1 / found.detection + 10 * 1240 - 1
    assert found.harm_served_usd == pytest.approx(0.05 * served / (3e7 * 100), rel=1e-9)
    assert found.bearable_harm_usd == pytest.approx(0.000135 * 3e9 / served, rel=1e-9)
    assert found.bearable_harm_usd > 40 * 0.05


def test_nothing_is_advised_on_a_hypothesis_that_fails(cases):
    for case in cases.values():
        for name in guidance.RESTS_ON:
            found = guide(replace(case, failing=frozenset({name})))
            assert not found.deters
            assert found.acts == guidance.NEITHER
            assert f"hypothesis {name} fails" in found.binds
            assert found.binds in found.statement
    other = guide(replace(cases["chatbot"], failing=frozenset({"H7", "H9"})))
    assert other == guide(cases["chatbot"])


def test_where_the_judge_breaks_too_nobody_is_convicted_until_the_patch(cases):
    case = cases["chatbot"]
    broken = guide(replace(case, failing=case.failing | {"H12"}))
    assert broken.harm_served_usd == pytest.approx(0.05 * 10 * 2_592_000 / (3e7 * 100), rel=1e-9)
    assert broken.harm_final_usd == broken.harm_served_usd
    assert broken.deters  # who calculates is not told of the judge's break before it cheats
    assert broken.acts == guidance.LATE
    assert guide(case).acts == guidance.PROVISIONAL
