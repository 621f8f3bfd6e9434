"""``otr size``: terms that deter, constants that say the same, losses as the closed forms have them, and
bad input by name in the first second."""

from __future__ import annotations

import json
import re
import time
import tomllib
from dataclasses import replace

import numpy as np
import pytest

from otr_core.economics.guarantee import deterring_loss
from otr_core.economics.harm import harm_per_query
from otr_core.economics.premises import HYPOTHESES
from otr_core.errors import InputError, OtrError, ParameterError
from otr_node.sizing import page
from otr_node.sizing.cases import read_scenario
from otr_node.sizing.claims import KINDS, grouped, read_claims
from otr_node.sizing.losses import outage_cost, yearly_losses
from otr_node.sizing.size import NetworkReport, sensitivity, sweep_point, what_breaks
from otr_node.sizing.terms import changed, losses_of, mean_harm, set_terms
from tests.helpers.command_line import assert_one_line, otr


@pytest.fixture(scope="module")
def files(project):
    return project.root / "docs" / "example_network.toml", project.root / "docs" / "example_claims.csv"


@pytest.fixture(scope="module")
def network(files):
    return read_scenario(files[0])


@pytest.fixture(scope="module")
def claims(files):
    return read_claims(files[1])


@pytest.fixture(scope="module")
def terms(network, claims):
    return set_terms(network, claims)


@pytest.fixture(scope="module")
def report(network, claims, terms):
    return NetworkReport(
        scenario=network,
        claims=claims,
        terms=terms,
        final=losses_of(network, terms, provisional=False, years=500),
        served=losses_of(network, terms, provisional=True, years=500),
        outage=outage_cost(network, rho=terms.rho, stake_usd=terms.stake_usd),
        changes=[("no change", terms)],
        breaks=what_breaks(network, terms),
    )


def surplus(case, terms, *, stake, values, gain_margin=None):
    """What a cheat on each value loses in expectation beyond what it gains, the largest value in flight."""
    answer, limits, watch = case.answer, case.limits, case.watch
    margin = limits.gain_margin if gain_margin is None else gain_margin
    gains = (values + answer.honest_cost_usd - answer.cheat_cost_usd) * margin
    kept = case.bond.slash_fraction * (1 - case.bond.reward_share)
    over = case.flow.pending * max(gains.max() - answer.price_usd, 0)
    bought = int(np.floor(terms.fishermen * (1 - case.attention.bought_share) + 1e-9))
    looked = 1 - (1 - terms.look_rate * case.attention.look_chance) ** bought
    drawn = terms.rhos * watch.d * limits.detection_margin
    caught = 1 - (1 - drawn) * (1 - looked * watch.w * limits.detection_margin)
    return caught * (answer.price_usd + kept * stake - over) - gains


def test_the_terms_deter_at_every_value_and_a_little_less_stake_does_not(network, terms):
    assert terms.deters
    assert (surplus(network, terms, stake=terms.stake_usd, values=terms.values_usd) > 0).all()
    assert surplus(network, terms, stake=0.999 * terms.stake_usd, values=terms.values_usd).min() < 0
    assert terms.stake_usd <= network.limits.most_stake_usd * (1 + 1e-8)
    assert terms.penalty_usd == pytest.approx(network.bond.slash_fraction * terms.stake_usd)
    assert terms.reward_usd == pytest.approx(network.bond.reward_share * terms.penalty_usd, rel=1e-6)
    assert terms.burnt_usd == pytest.approx(network.bond.burnt_share * terms.penalty_usd, rel=1e-6)
    assert terms.bounty_usd * network.watch.planted_rate == pytest.approx(network.watch.check_cost_usd)


def test_rates_rise_with_the_value_and_what_nothing_backs_is_refused(network, claims, terms):
    assert (np.diff(terms.rhos) >= 0).all()
    assert terms.rhos[-1] > terms.rhos[0]
    kept = claims.values_usd <= terms.cap_usd
    assert terms.refused == pytest.approx(claims.shares[~kept].sum())
    assert 0 < terms.refused < 0.01
    # One value more, and no stake within the limit backs it: even with every answer checked.
    above = claims.values_usd[kept.sum()]
    everything = replace(terms, rhos=np.ones(1))
    assert surplus(network, everything, stake=network.limits.most_stake_usd, values=np.array([above])) < 0
    richer = changed(network, {"limits.most_stake_usd": 1e9, "limits.most_cost_usd": 1e6})
    assert set_terms(richer, claims).refused == 0


def test_without_claims_one_rate_for_all(network):
    found = set_terms(network)
    assert found.deters
    assert (found.values_usd, found.shares) == (np.array([10.0]), np.ones(1))
    assert surplus(network, found, stake=found.stake_usd, values=found.values_usd) > 0
    assert found.refused == 0


def test_a_network_where_nothing_deters_says_what_is_in_the_way(network, claims, report):
    small = changed(network, {"limits.most_stake_usd": 0.01})
    found = set_terms(small, claims)
    assert (found.deters, found.binds, found.refused) == (False, "value at risk", 1.0)
    assert (found.acts, found.cap_usd) == ("do not rely on spot checks", 0.0)
    text = page.report_page(replace(report, scenario=small, terms=found, final=None, served=None, outage=None))
    assert "No terms within the limits deter" in text
    poor = set_terms(changed(network, {"limits.most_cost_usd": 1e-9}), claims)
    assert (poor.deters, poor.binds) == (False, "budget")


def test_a_budget_that_harm_exceeds_buys_what_deters_alone(network, claims):
    case = changed(network, {"exposure.breaks_per_year": 1e3, "market.capital_rate_per_year": 1e-3})
    case = replace(case, failing=frozenset({"H7"}))
    rich = set_terms(changed(case, {"limits.most_cost_usd": 1e9}), claims)
    found = set_terms(changed(case, {"limits.most_cost_usd": 0.5 * rich.cost_usd}), claims)
    assert found.deters
    assert found.cost_usd < 0.5 * rich.cost_usd
    assert surplus(case, found, stake=found.stake_usd, values=found.values_usd).min() > 0


def classes_at_random(draws, case):
    exposure = replace(
        case.exposure,
        harm_usd=float(10 ** draws.uniform(-2, 2)),
        breaks_per_year=float(draws.uniform(0.3, 3)),
        cheating=int(draws.integers(1, 8)),
        fuse=float(draws.integers(0, 2)),
    )
    flow = replace(case.flow, patch_s=float(10 ** draws.uniform(2, 5)), verdict_s=float(draws.uniform(0, 400)))
    return replace(case, exposure=exposure, flow=flow)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("provisional", [False, True])
def test_simulated_losses_have_the_mean_of_the_closed_form(network, seed, provisional):
    draws = np.random.default_rng(seed)
    case, caught = classes_at_random(draws, network), float(draws.choice([0.0, 0.003, 0.1, 0.7, 1.0]))
    found = yearly_losses(case, detections=np.array([caught]), shares=np.ones(1), provisional=provisional,
                          harms_usd=np.array([case.exposure.harm_usd]), seed=seed)  # fmt: skip
    each = harm_per_query(case.exposure, case.market, case.flow, detection=caught, provisional=provisional)
    year = each * case.market.queries_per_year * case.exposure.operators
    assert abs(found.mean_usd - year) <= 4.5 * found.standard_error_usd + 1e-9 * year
    levels = list(found.at_risk_usd.values())
    assert levels == sorted(levels)
    assert found.beyond_usd >= levels[-1]


def test_losses_over_many_values_are_those_that_slip_through(network):
    detections, shares, harms = np.array([0.5, 0.01]), np.array([0.5, 0.5]), np.array([1.0, 100.0])
    case = changed(network, {"flow.patch_s": 1e9, "exposure.cheating": 1, "exposure.fuse": 0.0})
    found = yearly_losses(case, detections=detections, shares=shares, harms_usd=harms, provisional=False)
    mean = float(detections @ shares)
    missed = (shares * (1 - detections)) @ harms / mean  # per break, until the first caught one
    assert found.mean_usd == pytest.approx(missed, abs=4.5 * found.standard_error_usd)


@pytest.mark.parametrize("provisional", [False, True])
def test_the_mean_of_the_terms_losses_in_closed_form(network, terms, provisional):
    year = network.market.queries_per_year * network.exposure.operators
    drawn = losses_of(network, terms, provisional=provisional)
    assert mean_harm(network, terms, provisional=provisional) * year == pytest.approx(
        drawn.mean_usd, abs=4.5 * drawn.standard_error_usd
    )


def test_breaks_without_number_cost_no_memory(network, terms):
    often = changed(network, {"exposure.breaks_per_year": 15_000.0})
    losses_of(often, terms, provisional=False)
    with pytest.raises(ParameterError, match="breaks_per_year"):
        losses_of(changed(network, {"exposure.breaks_per_year": 1e9}), terms, provisional=False)


def test_what_an_outage_costs_by_hand(network):
    case = changed(network, {"flow.outage": 0.01, "market.queries_per_year": 1000.0})
    found = outage_cost(case, rho=0.1, stake_usd=500.0)
    ruined = 500.0 + 62 * 0.05
    assert found.slash_usd == pytest.approx(ruined)
    assert found.answer_usd == pytest.approx(0.001 * ruined)
    assert found.slashed_in_a_year == pytest.approx(1 - 0.999**1000)
    assert found.year_usd == pytest.approx((1 - 0.999**1000) * ruined)
    assert outage_cost(changed(case, {"flow.outage": 1.0}), rho=1.0, stake_usd=500.0).slashed_in_a_year == 1.0


def test_constants_say_what_the_terms_say_rounded_to_the_side_that_deters(report, terms):
    document = tomllib.loads(page.constants_toml(report))
    assert 0 <= document["stake_usd6"] / 1e6 - terms.stake_usd < 1e-6
    assert document["value_cap_usd6"] == terms.cap_usd * 1e6
    assert document["fishermen"] == terms.fishermen
    for value, rho in zip(terms.values_usd, terms.rhos, strict=True):
        rate = next(row["spot_ppb"] for row in document["rates"] if value * 1e6 <= row["value_up_to_usd6"])
        assert 0 <= rate / 1e9 - rho < 1e-9
    text = page.constants_solidity(report)
    named = {name.lower(): int(number) for name, number in re.findall(r"constant (\w+) = (\d+);", text)}
    assert named == {name: number for name, number in document.items() if name != "rates"}
    steps = [tuple(map(int, pair)) for pair in re.findall(r"valueUsd6 <= (\d+)\) return (\d+);", text)]
    assert steps == [(row["value_up_to_usd6"], row["spot_ppb"]) for row in document["rates"]]
    assert text.count("revert") == 1
    assert steps == sorted(steps)


def test_a_networks_name_cannot_leave_its_comment(report, network):
    evil = replace(report, scenario=replace(network, name="x\n} contract Y { // */"))
    assert page.constants_solidity(evil).count("\n") == page.constants_solidity(report).count("\n")
    tomllib.loads(page.constants_toml(evil))


def test_the_page_holds_every_part_of_the_report(report, network):
    text = page.report_page(report)
    for word in (
        "stake of an operator",
        "penalty",
        "bounty",
        "VaR",
        "What honesty costs",
        "Had one number",
        "What breaks",
    ):
        assert word in text
    for name in HYPOTHESES:
        assert f"| {name} |" in text
    assert text.count("taken to hold") == len(HYPOTHESES)
    assert "fails here" in page.report_page(replace(report, scenario=replace(network, failing=frozenset({"H11"}))))
    assert len(text.splitlines()) < 75  # one page


def test_what_breaks_is_computed_where_there_is_a_formula(network, terms):
    found = {name: without for name, _, without in what_breaks(network, terms)}
    stakes = {
        name: float(re.search(r"be ([\d,]{5,}) USD", text).group(1).replace(",", ""))
        for name, text in found.items()
        if "stake" in text
    }
    assert stakes.keys() == {"H4 independent", "H6 freeze", "H7", "H8"}
    assert stakes["H7"] == stakes["H8"] > stakes["H4 independent"] > terms.stake_usd
    alone = set_terms(replace(network, failing=frozenset({"H7"})))
    without = {name: text for name, _, text in what_breaks(network, alone)}
    assert "nothing changes" in without["H7"]


def test_what_the_rate_alone_buys_is_a_row_without_fishermen(network, claims, terms):
    """The row is what those pay whose fishermen do not count (H7), and dearer in proofs; under the advised terms
    the largest value that the rate deters by itself is where the theorem's loss is what a conviction takes."""
    bare = dict(sensitivity(network, claims))["no fishermen: spot checks alone"]
    lost = set_terms(replace(network, failing=frozenset({"H7"})), claims)
    assert (bare.fishermen, bare.rho, bare.stake_usd, bare.cost_usd) == (0, lost.rho, lost.stake_usd, lost.cost_usd)
    assert terms.fishermen > 0
    assert bare.rho > 2 * terms.rho
    assert bare.cost_usd > terms.cost_usd
    words = {name: text for name, _, text in what_breaks(network, terms)}["H7"]
    value = float(re.search(r"the rate alone deters up to ([\d,.]+) USD", words).group(1).replace(",", ""))
    drawn = float(terms.rhos[-1]) * network.watch.d * network.limits.detection_margin
    saved = network.answer.honest_cost_usd - network.answer.cheat_cost_usd
    given = {"price_usd": network.answer.price_usd, "detection": drawn, "pending": network.flow.pending}
    needed = float(deterring_loss(gain_usd=value + saved, **given))
    assert needed == pytest.approx(network.bond.kept_share * terms.stake_usd, rel=0.01)
    assert value < terms.safe_usd
    alone = replace(network, attention=None)
    assert "no fishermen" not in " ".join(name for name, _ in sensitivity(alone, claims))


def test_a_sweep_point_is_a_plain_function_of_its_parameters(network, claims, terms):
    point = sweep_point(network, claims)
    found = point({})
    assert all(type(value) is float for value in found.values())
    assert found["stake_usd"] == terms.stake_usd
    assert point({"watch.d": 0.5}) == point({"watch.d": 0.5}) != found
    assert point({}) == found
    for name in ("watch.nothing", "nothing.d", "d", "sources.x"):
        with pytest.raises(ParameterError, match=name):
            point({name: 1.0})
    with pytest.raises(ParameterError, match="rho"):
        point({"watch.rho": 2.0})
    assert point({"limits.most_stake_usd": 0.01})["deters"] == 0.0


def test_many_values_are_grouped_on_the_safe_side():
    draws = np.random.default_rng(1)
    values, counts = draws.exponential(10, 5000), draws.integers(1, 9, 5000).astype(float)
    found = grouped(values, counts, ("2026-01-01", "2026-01-02"))
    assert found.values_usd.size == KINDS
    assert found.values_usd[-1] == values.max()
    assert found.shares.sum() == pytest.approx(1)
    for edge in np.quantile(values, [0.1, 0.5, 0.9, 0.999]):
        assert found.shares[found.values_usd >= edge].sum() >= counts[values >= edge].sum() / counts.sum() - 1e-12
    few = grouped(np.array([3.0, 1.0, 3.0]), np.array([1.0, 2.0, 1.0]), ("2026-01-01", "2026-01-01"))
    assert (few.values_usd.tolist(), few.shares.tolist(), few.answers) == ([1.0, 3.0], [0.5, 0.5], 4.0)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("rho = { value = 0.01", "rho = { value = 2", ("rho", "2")),
        ("rho = { value = 0.01", 'rho = { value = "5%"', ("rho", "5%")),
        ("rho = { value = 0.01", "rho = { value = nan", ("rho", "nan")),
        ("[watch]", "[watch]\ncolour = { value = 1, source = 's', date = '2026' }", ("watch.colour",)),
        ("[market]", "[speed]\n[market]", ("speed",)),
        ('failing = []', 'failing = ["H99"]', ("failing", "H99")),
        ('failing = []', 'failing = "H7"', ("failing",)),
        ('failing = []', 'failing = [["H7"]]', ("failing",)),
        ('date = "2025" }\nhonest', 'date = "lately" }\nhonest', ("answer.price_usd", "lately")),
        ('"assumption: a premium price for a decision", date = "2025" }', '"assumption" }', ("price_usd", "date")),
        ("fuse = { value = 1", "fuse = { value = 0.5", ("fuse",)),
        ("fuse = { value = 1", f"fuse = {{ value = {'1' * 5000}", ("scenario mine", "digits")),
        ("fuse = { value = 1", f"fuse = {{ value = {'[' * 100_000}", ("scenario mine", "recursion depth")),
        ("cheating = { value = 10", "cheating = { value = 101", ("cheating", "operators")),
        ("harm_usd = { value = 10.0", "harm_usd = { value = 1e300", ("mine.exposure.harm_usd", "1e+300", "1e+15")),
        ("price_usd = { value = 0.05", "price_usd = { value = 1e300", ("mine.answer.price_usd", "1e+300", "1e+15")),
        ("gain_margin = { value = 2.0", "gain_margin = { value = 1e16", ("mine.limits.gain_margin", "1e+16")),
    ],
)  # fmt: skip
def test_a_wrong_network_file_is_refused_by_name_in_the_first_second(files, tmp_path, old, new, words):
    text = files[0].read_text()
    assert old in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new, 1))
    start = time.process_time()
    with pytest.raises(InputError) as error:
        read_scenario(path)
    assert time.process_time() - start < 1
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("value_usd,count\n1,2\n", ("columns", "date")),
        ("value_usd,count,date,colour\n1,2,2026-01-01,red\n", ("columns", "colour")),
        ("value_usd,count,date\n1,2,\n", ("line 2", "date")),
        ("value_usd,count,date\n1,2,soon\n", ("line 2", "soon")),
        ("value_usd,count,date\n1,2,2026-01-01\nnan,2,2026-01-01\n", ("line 3", "value_usd", "nan")),
        ("value_usd,count,date\n5%,2,2026-01-01\n", ("line 2", "5%")),
        ("value_usd,count,date\n-1,2,2026-01-01\n", ("line 2", "value_usd")),
        ("value_usd,count,date\ninf,2,2026-01-01\n", ("line 2", "inf")),
        ("value_usd,count,date\n1e15,1,2026-01-01\n1e300,2,2026-01-01\n", ("line 3", "1e+300", "at most 1e+15")),
        ("value_usd,count,date\n1,0,2026-01-01\n", ("line 2", "count")),
        ("value_usd,count,date\n1,1.5,2026-01-01\n", ("line 2", "count")),
        ("value_usd,count,date\n1,2\n", ("line 2", "2 values")),
        ("value_usd,count,date\n", ("0 rows",)),
        ("", ("columns",)),
        ("value_usd,count,date\n\xff", ("UTF-8",)),
        ('value_usd,count,date\n"1,2', ("CSV",)),
    ],
)
def test_wrong_claims_are_refused_by_line(tmp_path, text, words):
    path = tmp_path / "claims.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(OtrError) as error:
        read_claims(path)
    for word in words:
        assert word in str(error.value)


def test_a_table_program_may_begin_the_claims_with_its_mark(tmp_path, files, claims):
    """The mark of UTF-8 that table programs write is no part of a column's name."""
    (tmp_path / "marked.csv").write_bytes(b"\xef\xbb\xbf" + files[1].read_bytes())
    found = read_claims(tmp_path / "marked.csv")
    assert found.values_usd.tolist() == claims.values_usd.tolist()
    assert found.shares.tolist() == claims.shares.tolist()


def test_the_command_writes_a_report_and_constants(files, tmp_path):
    run = otr("size", *files, "--out", tmp_path / "out", "--json")
    assert run.returncode == 0, run.stderr
    document = json.loads(run.stdout, parse_constant=pytest.fail)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "OtrTerms.sol",
        "report.json",
        "report.md",
        "terms.toml",
    ]
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == document
    assert document["terms"]["deters"] is True
    assert len(document["breaks"]) == len(HYPOTHESES)
    assert len(document["sensitivity"]) == 10
    assert len(document["sources"]) > 35


def test_no_constants_of_an_earlier_run_stay_beside_a_report_without_terms(files, tmp_path):
    call = ("--out", tmp_path / "out", "--profile", tmp_path / "profile.toml")
    assert otr("size", files[0], *call).returncode == 0
    assert (tmp_path / "out" / "OtrTerms.sol").is_file()
    assert (tmp_path / "profile.toml").is_file()
    lost = tmp_path / "lost.toml"
    lost.write_text(files[0].read_text().replace("slash_fraction = { value = 1.0", "slash_fraction = { value = 0.0"))
    assert otr("size", lost, *call).returncode == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.json", "report.md"]
    assert not (tmp_path / "profile.toml").exists()


def test_the_command_refuses_in_one_line(files, tmp_path):
    bad = tmp_path / "bad.csv"
    bad.write_text("value_usd,count\n1,2\n")
    assert_one_line(otr("size", files[0], bad), 2, "columns")
    assert_one_line(otr("size"), 2, "network")
    assert_one_line(otr("size", files[0], "--network", files[0]), 2, "by name")
    assert_one_line(otr("size", files[0], "--out", tmp_path / "no" / "such"), 2, "--out")
    assert_one_line(otr("size", files[0], "--out", "/proc/otr"), 2, "--out", "cannot be made")
    both = tmp_path / "both"
    assert_one_line(otr("size", files[0], "--out", both, "--profile", both), 2, "--profile", "folder of --out")
    assert not both.exists()
    small = tmp_path / "small.toml"
    small.write_text(
        files[0].read_text().replace("most_stake_usd = { value = 50000.0", "most_stake_usd = { value = 0.01")
    )
    run = otr("size", "--network", small, "--claims", files[1], "--out", tmp_path / "out")
    assert_one_line(run, 1, "small", "no terms")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.json", "report.md"]


def test_a_failing_hypothesis_leaves_no_terms_with_claims_or_without(network, claims, report):
    for name in ("H3", "H6 freeze"):
        case = replace(network, failing=frozenset({name}))
        for some in (claims, None):
            found = set_terms(case, some)
            assert not found.deters
            assert found.acts == "do not rely on spot checks"
            assert found.binds == f"hypothesis {name} fails"
    said = page.report_page(replace(report, scenario=case, terms=set_terms(case, claims)))
    assert "**No terms within the limits deter** (in the way: hypothesis H6 freeze fails)" in said
    assert "Who acts early" not in said


def test_the_page_says_what_acting_early_costs_and_until_when_it_is_borne(network, claims, report, terms):
    assert terms.deters
    early = mean_harm(network, terms, provisional=True)
    assert terms.early_usd == early > 0
    assert terms.bearable * early == pytest.approx(network.limits.most_harm_usd, rel=1e-12)
    said = page.report_page(report)
    assert (
        f"loses {page.usd(early)} a query in expectation, of at most {page.usd(network.limits.most_harm_usd)}" in said
    )
    assert f"until a false answer does {terms.bearable:.3g} times the harm" in said
    free = replace(network, exposure=replace(network.exposure, breaks_per_year=0.0))
    assert set_terms(free, claims).bearable == float("inf")


@pytest.mark.parametrize("provisional", [False, True])
def test_losses_where_the_judge_breaks_too_are_all_that_is_answered(network, terms, provisional):
    broken = replace(network, failing=network.failing | {"H12"})
    exposure, flow = network.exposure, network.flow
    harm = mean_harm(broken, terms, provisional=provisional)
    assert harm > 1.5 * mean_harm(network, terms, provisional=provisional)
    every = exposure.cheating * np.floor(flow.until_patch)
    mean = float(terms.shares @ terms.harms_usd) if provisional else None
    if mean is not None:
        queries = network.market.queries_per_year * exposure.operators
        assert harm == pytest.approx(exposure.breaks_per_year * every * mean / queries, rel=1e-9)
    year = losses_of(broken, terms, provisional=provisional).mean_usd
    queries = network.market.queries_per_year * exposure.operators
    assert harm * queries == pytest.approx(year, rel=0.1)
