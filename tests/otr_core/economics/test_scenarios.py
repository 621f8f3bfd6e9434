"""Parameters, scenarios and guidance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from otr_core import economics as eco
from otr_core.economics import guidance, scenarios
from otr_core.economics.guarantee import attack_profit
from otr_core.economics.model import AnswerValue, Bond, Flow, Market, Watch, build, play_strategies
from otr_core.errors import InputError, MissingDataError, ParameterError
from otr_paper.claims import published


@pytest.fixture(scope="module")
def cases(project):
    return scenarios.load(project.root / "data")


@pytest.fixture(scope="module")
def text(project):
    return (project.root / "data" / "scenarios" / "chatbot.toml").read_text()


def test_the_four_use_cases_load_with_a_source_for_every_number(cases):
    assert list(cases) == ["chatbot", "defi_agent", "game_npc", "oracle"]
    for case in cases.values():
        assert len(case.sources) >= 25
        assert case.answer.gain_usd > 0


def test_scenario_prices_follow_from_the_published_rows(cases, project):
    rows = published.load_published(project.root / "data")
    for name, tokens_in, tokens_out in (
        ("chatbot", 1000, 500),
        ("game_npc", 300, 80),
        ("defi_agent", 2000, 300),
        ("oracle", 4000, 500),
    ):
        for field, size in (("honest_cost_usd", "70b"), ("cheat_cost_usd", "8b")):
            model = f"price.llama31_{size}_deepinfra_2025"
            cost = tokens_in * rows.number(f"{model}.in", "USD/tok") + tokens_out * rows.number(
                f"{model}.out", "USD/tok"
            )
            assert getattr(cases[name].answer, field) == pytest.approx(cost, rel=1e-9)
        proof = rows.number("zk.zkllm.7b.prove", "s") / 3600 * rows.number("gpu.h100_median", "USD/GPU-h")
        assert cases[name].market.proof_cost_usd == pytest.approx(proof, rel=1e-3)
        assert cases[name].watch.rho == rows.number("otr.rho", "1")


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ("[watch]", "[watch]\ncolour = { value = 1, source = 's', date = 'd' }", "watch.colour"),
        ("[watch]", "[speed]\nx = 1\n[watch]", "speed"),
        ("rho = { value = 0.01", "rho = { value = 1.01", "rho"),
        ("rho = { value = 0.01", "rho = { value = 'one'", "rho"),
        ("rho = { value = 0.01", "rho = { value = [0.1, 0.2]", "rho"),
        ("rho = { value = 0.01, source = \"otr.rho\"", "rho = { value = 0.01, source = \" \"", "chatbot.watch.rho"),
        ("rho = { value = 0.01, source = \"otr.rho\", ", "rho = { value = 0.01, ", "chatbot.watch.rho"),
        ("price_usd = { value = 0.00135", "price_usd = { value = -0.00135", "price_usd"),
        ("price_usd =", "price_cents =", "price_cents"),
        ("stake_usd = { value = 100", "stake_usd = { value = 0", "stake_usd"),
        ("burnt_share = { value = 0.5", "burnt_share = { value = 0.8", "reward_share"),
        ("gain_margin = { value = 2.0", "gain_margin = { value = 0.5", "gain_margin"),
        ("detection_margin = { value = 0.9", "detection_margin = { value = 0.0", "detection_margin"),
        ("queries_per_year = { value = 30000000.0", "queries_per_year = { value = inf", "queries_per_year"),
        ("date = \"2025\"", "date = \"yesterday\"", "chatbot.answer.price_usd: found 'yesterday'"),
        ("date = \"2025\"", "date = \"2025-13\"", "chatbot.answer.price_usd: found '2025-13'"),
        ("date = \"2025\"", "date = \"2025, 2026-02-30\"", "2026-02-30"),
        ("queries_per_s = { value = 1.0", "queries_per_s = { value = 1e9", "queries_per_s"),
        ("cheating = { value = 10,", "cheating = { value = 9007199254740993,", "cheating"),
        ("title = \"Chatbot\"", "title = \"\"", "title"),
    ],
)  # fmt: skip
def test_a_wrong_scenario_is_refused_by_field(text, old, new, names):
    assert old in text
    scenarios.parse("chatbot", text)
    with pytest.raises(ParameterError, match=names):
        scenarios.parse("chatbot", text.replace(old, new, 1))


def test_a_missing_key_a_missing_part_and_no_toml(text, tmp_path):
    with pytest.raises(ParameterError, match="market"):
        scenarios.parse("x", "\n".join(line for line in text.split("\n") if not line.startswith("proof_cost_usd")))
    with pytest.raises(ParameterError, match="flow"):
        scenarios.parse("x", text.split("[flow]")[0])
    with pytest.raises(InputError, match="TOML"):
        scenarios.parse("x", "title = ")
    with pytest.raises(MissingDataError, match="scenarios"):
        scenarios.load(tmp_path)


def test_parts_are_checked_when_built():
    bond = {"stake_usd": 10.0, "slash_fraction": 0.5, "reward_share": 0.6, "burnt_share": 0.4}
    assert Bond(**bond).loss_usd == 2.0  # of 5 slashed 3 can come back
    with pytest.raises(ParameterError, match="burnt_share"):
        Bond(**{**bond, "burnt_share": 0.41})
    with pytest.raises(ParameterError, match="fishermen"):
        Watch(rho=0.1, fishermen=1.5)
    with pytest.raises(ParameterError, match="one number"):
        AnswerValue(price_usd=np.array([1.0, 2.0]), honest_cost_usd=1.0, cheat_cost_usd=0.5)
    with pytest.raises(ParameterError, match="keys"):
        build(Flow, {"queries_per_s": 1.0})
    answer = AnswerValue(price_usd=1, honest_cost_usd=0.5, cheat_cost_usd=0.2, outside_gain_usd=np.inf)
    assert answer.gain_usd == np.inf
    market = Market(proof_cost_usd=1, capital_rate_per_year=0.1, queries_per_year=1e6)
    assert market.capital_cost_usd == pytest.approx(1e-7)
    flow = Flow(queries_per_s=2.0, verdict_s=10.0, patch_s=100.0)
    assert (flow.in_flight, flow.pending) == (20.0, 19)
    assert Flow(queries_per_s=2.0, verdict_s=10.2, patch_s=1.0).pending == 20
    assert Flow(queries_per_s=0.1, verdict_s=1.0, patch_s=1.0).pending == 0


def test_playing_strategies_passes_every_number_on(cases):
    case = cases["defi_agent"]
    money = dict(gain_usd=case.answer.gain_usd, price_usd=0.05, stake_usd=10_000.0, dispute_cost_usd=0.0)
    shares = dict(slash_fraction=1.0, reward_share=0.3, rho=0.01, d=0.99, w=0.9)
    checking = dict(fishermen=5, check_cost_usd=case.watch.check_cost_usd, planted_rate=0.001, bounty_usd=0.5)
    direct = eco.equilibrium(**money, **shares, **checking)
    assert play_strategies(case.answer, case.bond, case.watch) == direct


@pytest.fixture
def case(cases):
    return cases["defi_agent"]


def test_guidance_deters_with_all_margins(cases):
    for found in (eco.guide(case) for case in cases.values()):
        case = cases[found.name]
        if not found.deters:
            continue
        # Worst of the stated uncertainty: gain larger, catch rarer; and a stake a billionth above
        # the bound.
        detection = found.rho * case.watch.d * case.limits.detection_margin
        loss = found.stake_usd * (1 + 1e-8) * case.bond.slash_fraction * (1 - case.bond.reward_share)
        terms = {"gain_usd": found.worst_gain_usd, "price_usd": case.answer.price_usd, "loss_usd": loss}
        assert attack_profit(**terms, detection=detection, pending=int(found.in_flight) - 1) < 0
        assert detection * (case.answer.price_usd + loss) > case.answer.gain_usd * case.limits.gain_margin
        assert found.stake_usd <= case.limits.most_stake_usd


def play_until_the_verdict(draws, runs, *, gain, price, loss, detection, pending):
    """Cheat on every answer until the verdict on the first caught one, answer by answer: profit over
    honesty."""
    profit, since = np.zeros(runs), np.full(runs, -1)
    playing = np.ones(runs, bool)
    while playing.any():
        caught = playing & (since < 0) & (draws.random(runs) < detection)
        void = caught | (playing & (since >= 0))
        profit += playing * gain - void * price
        since[void] += 1
        playing &= since < pending
    return profit - loss


def test_nobody_earns_against_the_recommended_pair_by_cheating_until_the_verdict(cases):
    case, found = cases["defi_agent"], eco.guide(cases["defi_agent"])
    detection = found.rho * case.watch.d * case.limits.detection_margin
    terms = {"gain": found.worst_gain_usd, "price": case.answer.price_usd, "detection": detection, "pending": 61}
    kept = case.bond.slash_fraction * (1 - case.bond.reward_share)
    played = play_until_the_verdict(np.random.default_rng(5), 4000, loss=kept * found.stake_usd, **terms)
    half = 2.576 * played.std() / np.sqrt(played.size)
    assert abs(played.mean()) < half  # the pair just deters
    short = play_until_the_verdict(np.random.default_rng(6), 4000, loss=0.9 * kept * found.stake_usd, **terms)
    assert short.mean() > half


def test_the_old_recommendation_for_the_defi_agent_loses_what_the_audit_found():
    """It was called deterring: cheating until the verdict earned 2,982 USD, and with 30 % of the slash
    back to the own fisherman 17,982 USD."""
    detection = 0.00239385 * 0.99 * 0.9
    terms = {"gain_usd": 100.0, "price_usd": 0.05, "detection": detection, "pending": 61}
    assert attack_profit(**terms, loss_usd=50_000.0) == pytest.approx(2_982, abs=5)
    assert attack_profit(**terms, loss_usd=35_000.0) == pytest.approx(17_982, abs=5)


def test_guidance_holds_over_the_whole_stated_uncertainty(cases):
    draws = np.random.default_rng(11)
    for found in (eco.guide(case) for case in cases.values()):
        case = cases[found.name]
        gains = case.answer.gain_usd * draws.uniform(1, case.limits.gain_margin, 1000)
        catches = case.watch.d * draws.uniform(case.limits.detection_margin, 1, 1000)
        kept = case.bond.slash_fraction * (1 - case.bond.reward_share)
        lost = case.answer.price_usd + kept * found.stake_usd * (1 + 1e-9)
        over = (found.in_flight - 1) * np.maximum(gains - case.answer.price_usd, 0)
        if found.deters:
            assert (found.rho * catches * (lost - over) > gains).all()


def test_guidance_of_the_use_cases(cases):
    found = {name: eco.guide(case) for name, case in cases.items()}
    assert [found[name].deters for name in cases] == [True, True, True, False]
    assert found["oracle"].binds == guidance.VALUE
    assert "cannot deter" in found["oracle"].statement
    assert found["chatbot"].rho < 1e-4 < 1e-3 < found["defi_agent"].rho


def limited(case, **limits):
    return replace(case, limits=replace(case.limits, **limits))


def test_each_limit_can_bind(case):
    assert eco.guide(case).binds == guidance.FLIGHT
    slow = replace(case, flow=replace(case.flow, verdict_s=1.0))
    assert eco.guide(slow).binds == guidance.STAKE
    harmless = replace(slow, exposure=replace(slow.exposure, harm_usd=0.0))
    assert eco.guide(limited(harmless, most_stake_usd=1e7)).binds == guidance.COST
    assert eco.guide(limited(slow, most_stake_usd=1e7)).binds == guidance.HARM
    few = eco.guide(limited(slow, most_stake_usd=1e7, provers=6e-3, most_cost_usd=1.0))
    assert (few.binds, few.deters) == (guidance.PROVERS, True)
    starved = eco.guide(limited(slow, provers=1e-9))
    assert (starved.binds, starved.deters) == (guidance.PROVERS, False)
    assert "provers" in starved.statement
    poor = eco.guide(limited(case, most_cost_usd=1e-6))
    assert (poor.binds, poor.deters, poor.acts) == (guidance.BUDGET, False, guidance.NEITHER)
    assert eco.guide(limited(case, most_stake_usd=50.0)).binds == guidance.VALUE
    crowded = eco.guide(replace(case, flow=replace(case.flow, verdict_s=1e6)))
    assert (crowded.binds, crowded.deters) == (guidance.FLIGHT, False)
    free = replace(harmless, answer=replace(case.answer, outside_gain_usd=-1.0))
    assert (eco.guide(free).binds, eco.guide(free).deters) == (guidance.NOTHING, True)
    assert eco.guide(limited(case, most_wait_s=1e6)).acts == guidance.FINAL
    assert eco.guide(case).acts == guidance.PROVISIONAL


def test_guidance_rises_with_what_is_at_risk(case):
    gains = [0.0, 1.0, 10.0, 50.0, 500.0]
    found = [eco.guide(replace(case, answer=replace(case.answer, outside_gain_usd=gain))) for gain in gains]
    rates = [guide.rho for guide in found]
    assert rates == sorted(rates)
    assert [guide.safe_value_usd >= gain for guide, gain in zip(found, gains, strict=True)] == [True] * 5
