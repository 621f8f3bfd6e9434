"""The serving law: known coefficients are found again, the tested half is never looked at, errors
are as printed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from otr_core.errors import DataError, ParameterError
from otr_paper.series.simulation import serving_law_table
from otr_paper.simulation import SERVING_LAW, accuracy, fit, law
from otr_paper.simulation.arrivals import Requests
from otr_paper.simulation.law import LoadGenerator, ServingPoint, StepLaw
from otr_paper.simulation.replica import closed_loop
from otr_paper.store.results import read_result

KNOWN = StepLaw(0.02, 6e-5, 2e-8, 6e-5, 1.5e-9, 400_000)
CLIENT = LoadGenerator(0.001, 0.0005, 2_000.0)


def runs_of(known):
    """Runs exactly as the least squares have them, by their formula."""
    found = []
    for read, written in ((200, 200), (1000, 1000), (5000, 500), (20000, 2000)):
        for users in law.FITTED_CONCURRENCY:
            n = min(users, known.kv_tokens / (read + written))
            step = known.base_s + n * known.each_s + n * known.context_s * (read + written / 2)
            step += n / written * (known.prompt_s * read + known.prompt2_s * read**2)
            first = known.base_s + known.prompt_s * read + known.prompt2_s * read**2
            found.append(ServingPoint("x", read, written, users, first, step, n / step))
    return found


def test_known_coefficients_are_found_again():
    found = fit.least_squares(runs_of(KNOWN))
    for name in ("base_s", "each_s", "context_s", "prompt_s", "prompt2_s", "kv_tokens"):
        assert getattr(found, name) == pytest.approx(getattr(KNOWN, name), rel=1e-6), name


def test_the_search_finds_a_machine_that_made_the_runs():
    """Runs that a known machine played: it fits them exactly, the least squares alone do not, and a
    short search comes closer than those."""
    truth = replace(KNOWN, budget_tokens=2_000, emit_s=1.5e-4)
    shapes = [(read, written, users) for read, written in ((200, 20), (1000, 40), (4000, 50)) for users in (1, 25, 100)]
    runs = [closed_loop(ServingPoint("x", *shape, 1.0, 1.0, 1.0), truth, CLIENT) for shape in shapes]
    assert fit.misfit(runs, truth, CLIENT) == 0.0
    assert fit.misfit(runs, replace(truth, budget_tokens=20_000), CLIENT) > 0.03
    start = fit.misfit(runs, fit.least_squares(runs), CLIENT)
    found, client, left = fit.fit_law(runs, seed=1, generations=6, context_tokens=9_000)
    assert left == pytest.approx(fit.misfit(runs, found, client))
    assert left < 0.5 * start
    assert found.context_tokens == 9_000
    assert found.fitted == law.FittedLengths((200, 4000), (20, 50), (220, 4050))
    assert fit.fit_law(runs, seed=1, generations=6, context_tokens=9_000)[0] == found
    assert fit.fit_law(runs, seed=1, generations=1, emit_s=1e-5, context_tokens=9)[0].emit_s == 1e-5


def test_all_published_runs_are_there(cited):
    assert {model: len(law.law_points(cited, model)) for model in law.MODELS} == {"llama33_70b": 39, "llama31_8b": 40}
    with pytest.raises(DataError, match="gpt"):
        law.law_points(cited, "gpt")


def test_published_rates_and_latencies_hang_together(cited):
    """Little's law in the source itself: users = rate x (answer time / tokens), where all of them
    are counted."""
    for run in law.law_points(cited, "llama33_70b"):
        users = run.tokens_per_s / run.tokens_out * (run.first_token_s + run.tokens_out * run.step_s)
        # runs of 20,000 and 2,000 tokens last longest, and their printed averages cover filling and
        # draining too
        assert users == pytest.approx(run.concurrency, rel=0.03 if run.tokens_in < 20_000 else 0.1)


def test_the_halves(cited):
    runs = law.law_points(cited, "llama33_70b")
    fitted, tested = law.split(runs)
    assert (len(fitted), len(tested)) == (20, 19)
    assert {run.concurrency for run in tested} == {5, 50, 150, 250}
    assert {run.concurrency for run in fitted} == set(law.FITTED_CONCURRENCY)


@pytest.fixture(scope="module")
def stored(project):
    """The stored fit."""
    return read_result(project.results, SERVING_LAW)[1]


def test_the_stored_law_fits_the_fitted_half_and_its_errors_are_those_of_today(cited, stored):
    """Its misfit, seed by seed errors, and both halves' errors are what the machine gives now; the
    least misfit serves, though a seed with a smaller error on the tested half may exist."""
    laws = law.stored_laws(stored)
    for model, (machine, client) in laws.items():
        fitted, _ = law.split(law.law_points(cited, model))
        assert fit.misfit(fitted, machine, client) == pytest.approx(stored[model]["misfit"])
        assert stored[model]["misfit"] == min(seed["misfit"] for seed in stored[model]["seeds"])
        assert len({seed["seed"] for seed in stored[model]["seeds"]}) >= 3
        assert machine.fitted == law.span_of(fitted)
        records = accuracy.runs(cited, model, machine, client)
        for half in ("fitted", "tested"):
            assert accuracy.mean_errors(records, half) == pytest.approx(stored["errors"][model][half])
        assert machine.context_tokens == 131_072
        rule = "whole" if machine.whole_prompts else "cut"
        assert stored["misfits"][rule][model] == stored[model]["misfit"]
        assert sum(stored["misfits"][rule].values()) == min(sum(each.values()) for each in stored["misfits"].values())
    # 70B's own loads do not reach the engine's rate: it is the 8B model's
    assert laws["llama33_70b"][0].emit_s == laws["llama31_8b"][0].emit_s


def test_first_tokens_on_the_tested_half(cited, stored):
    """The goal, 15 %, is met for 70B and missed for 8B by less than two points; answers by far."""
    errors = {model: stored["errors"][model]["tested"] for model in law.MODELS}
    assert errors["llama33_70b"]["first_token_s"] <= accuracy.GOAL
    assert accuracy.GOAL < errors["llama31_8b"]["first_token_s"] < accuracy.GOAL + 0.02
    assert max(each["answer_s"] for each in errors.values()) <= 0.05
    known = law.stored_laws(stored)["llama33_70b"]
    records = accuracy.runs(cited, "llama33_70b", *known)
    by_hand = [
        abs(r["first_token_s.simulated"] / r["first_token_s.published"] - 1) for r in records if r["half"] == "tested"
    ]
    assert errors["llama33_70b"]["first_token_s"] == pytest.approx(np.mean(by_hand))
    assert f"{errors['llama33_70b']['first_token_s']:.0%} for the first token" in accuracy.accuracy_statement(records)
    assert accuracy.runs(cited, "llama33_70b", *known, half="tested") == [r for r in records if r["half"] == "tested"]


def test_the_8b_engine_saturates_as_published(cited, stored):
    """At 200 and 250 users of short prompts 8B gives 13 k tokens/s, within 5 %; the GPU alone would
    give a fifth more."""
    machine, client = law.stored_laws(stored)["llama31_8b"]
    for run in law.law_points(cited, "llama31_8b"):
        if (run.tokens_in, run.concurrency) in ((200, 200), (200, 250)):
            assert closed_loop(run, machine, client).tokens_per_s == pytest.approx(run.tokens_per_s, rel=0.05)
            assert closed_loop(run, replace(machine, emit_s=0.0), client).tokens_per_s > 1.1 * run.tokens_per_s


def test_other_engines_are_compared_and_not_fitted(cited, stored):
    """Whole answers of another engine: as many bytes a GPU come out within 15 %, twice as many do
    not."""
    found = {one["row"]: one for one in accuracy.other_engines(cited, law.stored_laws(stored))}
    assert list(found.values()) == [pytest.approx(one) for one in stored["other_engines"]]
    assert abs(found["cc43"]["error"]) < 0.15
    assert found["cc44"]["error"] < -0.2


def test_the_lengths_of_earlier_releases_are_those_their_own_numbers_agree_with(cited):
    """Little's law: of the mixes that the page has, the one whose answers give back users from rate and latencies."""
    mixes = {(run.tokens_in, run.tokens_out) for run in law.law_points(cited, "llama33_70b")}
    for rows in accuracy.EARLIER:
        runs = law.law_points(cited, rows)
        assert [run.concurrency for run in runs] == [1, 5, 25, 50, 100, 150, 200]
        apart = {}
        for mix in mixes:
            users = [
                run.tokens_per_s / mix[1] * (run.first_token_s + (mix[1] - 1) * run.step_s) / run.concurrency
                for run in runs
            ]
            apart[mix] = sum(abs(each - 1) for each in users)
        assert {(run.tokens_in, run.tokens_out) for run in runs} == {min(apart, key=apart.get)}
        assert min(apart.values()) / len(runs) < 0.05


def test_earlier_releases_are_compared_and_not_fitted(cited, stored):
    found = accuracy.earlier_releases(cited, law.stored_laws(stored))
    assert [one["release"] for one in found] == ["NIM 1.5.0", "NIM 1.3.0"]
    for one, kept in zip(found, stored["earlier_releases"], strict=True):
        assert one["errors"] == pytest.approx(kept["errors"])
        off = [abs(run["first_token_s.simulated"] / run["first_token_s.published"] - 1) for run in kept["runs"]]
        assert kept["errors"]["first_token_s"] == pytest.approx(np.mean(off))
    later = {run.concurrency: run.first_token_s for run in law.law_points(cited, "llama31_8b") if run.tokens_in == 200}
    moved = [run["first_token_s.published"] / later[run["concurrency"]] - 1 for run in found[1]["runs"]]
    assert stored["earlier_releases"][1]["moved"] == pytest.approx(np.mean(np.abs(moved)))


def test_the_table_shows_every_seed_and_every_comparison(stored):
    table = serving_law_table(stored)
    errors = [seed["tested"]["first_token_s"] for model in law.MODELS for seed in stored[model]["seeds"]]
    assert [row["error"] for row in table[: len(errors)]] == [f"{error:.1%}" for error in errors]
    apart = [f"{one['errors']['first_token_s']:.1%}" for one in stored["earlier_releases"]]
    apart += [f"{one['error']:+.1%}" for one in stored["other_engines"]]
    assert [row["error"] for row in table[len(errors) : -4]] == apart
    for one, row in zip(stored["earlier_releases"], table[len(errors) :], strict=False):
        assert one["release"] in row["what"]
        assert row["published"].endswith(f"{one['runs'][-1]['first_token_s.published']:.3g} s")
    more, less = (stored["prefix"][f"{side}_mean_s"] for side in ("without", "with"))
    assert table[-4]["simulated"] == f"{more:.3g} s, {less:.3g} s"
    assert table[-4]["error"] == f"{less / more - 1:+.0%}"
    for row, (guess, one) in zip(table[-2:], stored["prefix"]["forgetting"].items(), strict=True):
        assert guess in row["what"]
        assert row["error"] == f"{one['mean_s'] / more - 1:+.0%}"


def test_a_stored_law_that_lacks_a_number_is_refused(stored):
    assert law.stored_laws({**stored, "llama31_8b": stored["llama31_8b"]})
    for bad in (
        {},
        {**stored, "llama31_8b": {}},
        {**stored, "llama31_8b": {**stored["llama31_8b"], "law": {"base_s": 1.0}}},
        {**stored, "llama31_8b": {**stored["llama31_8b"], "client": None}},
    ):
        with pytest.raises(DataError, match="serving law"):
            law.stored_laws(bad)


def test_what_lies_outside_the_fitted_lengths_is_named():
    machine = replace(KNOWN, fitted=law.FittedLengths((200, 1000), (10, 50), (210, 1050)))
    inside = Requests(np.array([0.0, 1.0]), np.array([200, 1000]), np.array([10, 50]))
    assert machine.outside_fit(inside) == {}
    assert accuracy.outside_statement({}) == "Every request lies inside the fitted lengths."
    other = Requests(np.arange(4.0), np.array([199, 1001, 500, 500]), np.array([10, 50, 9, 51]))
    found = machine.outside_fit(other)
    assert set(found) == {
        "prompt above 1000 tokens",
        "prompt below 200 tokens",
        "answer above 50 tokens",
        "answer below 10 tokens",
        "prompt and answer above 1050 tokens",
        "prompt and answer below 210 tokens",
    }
    assert set(found.values()) == {0.25}
    assert "prompt above 1000 tokens in 25.0 %" in accuracy.outside_statement(found)


def test_reuse_shortens_first_tokens_and_a_trace_beyond_the_context_is_refused_at_once():
    rng = np.random.default_rng(4)
    read = rng.integers(500, 3000, 400)
    requests = Requests(np.sort(rng.random(400)) * 60, read, rng.integers(10, 90, 400), read // 2)
    found = accuracy.prefix_study(requests, replace(KNOWN, budget_tokens=2_000))
    assert found["reused"] == pytest.approx(0.5, abs=0.01)
    assert found["with_mean_s"] < found["without_mean_s"]
    assert found["with_median_s"] < found["without_median_s"]
    assert found["with_busy"] < found["without_busy"] < accuracy.BUSY
    with pytest.raises(ParameterError, match="the model's context"):
        accuracy.prefix_study(requests, replace(KNOWN, context_tokens=2_999))


def test_too_few_runs_are_refused(cited):
    runs = law.law_points(cited, "llama33_70b")
    with pytest.raises(DataError, match="eight"):
        fit.least_squares(runs[:7])
    with pytest.raises(DataError, match="one user"):
        fit.least_squares([run for run in runs if run.concurrency > 1])


def test_a_run_without_one_of_its_numbers_is_refused(cited):
    class Without(dict):
        pass

    rows = Without({key: row for key, row in cited.items() if not key.endswith("1000_1000.c50.itl")})
    with pytest.raises(DataError, match="1000, 50"):
        law.law_points(rows, "llama33_70b")


def test_confidential_mode_scales_every_time():
    known = replace(KNOWN, emit_s=1e-4)
    slower = known.slowed(0.2)
    for name in ("base_s", "each_s", "context_s", "prompt_s", "prompt2_s", "emit_s"):
        assert getattr(slower, name) == pytest.approx(getattr(known, name) / 0.8)
    assert KNOWN.slowed(0.0) == KNOWN
    for bad in (1.0, -0.1, float("nan")):
        with pytest.raises(ParameterError, match="loss"):
            KNOWN.slowed(bad)


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("base_s", 0.0),
        ("each_s", -1.0),
        ("kv_tokens", 0.0),
        ("emit_s", -1),
        ("budget_tokens", 256),
        ("context_tokens", 0),
    ],
)
def test_a_law_is_checked_when_built(field, bad):
    with pytest.raises(ParameterError, match=field):
        replace(KNOWN, **{field: bad})


def test_errors_are_of_each_model_over_the_loads_that_were_held_back():
    rows = [
        {"model": model, "half": half, **{f"{name}.error": error for name in accuracy.QUANTITIES}}
        for model, half, error in (
            ("a", "tested", -0.5),
            ("a", "fitted", 9.0),
            ("b", "tested", 0.1),
            ("a", "tested", 0.1),
        )
    ]
    found = accuracy.errors_by_model(rows)
    assert {model: errors["first_token_s"] for model, errors in found.items()} == {"a": 0.3, "b": 0.1}
