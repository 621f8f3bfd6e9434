"""The serving law: known coefficients are found again, the tested half is never looked at, errors
are as printed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from otr_core.errors import DataError, ParameterError
from otr_paper.simulation import accuracy, law
from otr_paper.simulation.law import ServingPoint, StepLaw

KNOWN = StepLaw(0.02, 6e-5, 2e-8, 6e-5, 1.5e-9, 0, 400_000)


def runs_of(known, waits=0.0):
    """Runs exactly as the law has them, by its formula."""
    found = []
    for read, written in ((200, 200), (1000, 1000), (5000, 500), (20000, 2000)):
        for users in law.FITTED_CONCURRENCY:
            n = min(users, known.kv_tokens / (read + written))
            step = known.base_s + n * known.each_s + n * known.context_s * (read + written / 2)
            step += n / written * (known.prompt_s * read + known.prompt2_s * read**2)
            first = known.base_s + known.prompt_s * read + known.prompt2_s * read**2
            first += waits * step if users > 1 else 0.0
            found.append(ServingPoint("x", read, written, users, first, step, n / step))
    return found


@pytest.mark.parametrize("waits", [0, 5])
def test_known_coefficients_are_found_again(waits):
    found = law.fit_law(runs_of(KNOWN, waits))
    for name in ("base_s", "each_s", "context_s", "prompt_s", "prompt2_s", "kv_tokens"):
        assert getattr(found, name) == pytest.approx(getattr(KNOWN, name), rel=1e-6), name
    assert found.wait_steps == waits


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


def test_the_tested_half_is_never_looked_at(cited):
    runs = law.law_points(cited, "llama33_70b")
    fitted, tested = law.split(runs)
    assert (len(fitted), len(tested)) == (20, 19)
    assert {run.concurrency for run in tested} == {5, 50, 150, 250}
    moved = [replace(run, step_s=2 * run.step_s) if run in tested else run for run in runs]
    assert law.fit_law(law.split(moved)[0]) == law.fitted_law(cited)
    moved = [replace(run, step_s=1.1 * run.step_s) if run in fitted else run for run in runs]
    assert law.fit_law(law.split(moved)[0]) != law.fitted_law(cited)


def test_errors_on_the_tested_half(cited):
    """The issue's bars, reached by the 70B law: 15 % for answers, 25 % for first tokens. Measured,
    then pinned."""
    records = accuracy.runs(cited, "llama33_70b")
    tested = accuracy.mean_errors(records, "tested")
    assert tested["answer_s"] == pytest.approx(0.033, abs=0.001)
    assert tested["first_token_s"] == pytest.approx(0.184, abs=0.001)
    assert tested["answer_s"] <= 0.15
    assert tested["first_token_s"] <= 0.25
    assert "3%" in accuracy.accuracy_statement(records)
    assert "18%" in accuracy.accuracy_statement(records)
    by_hand = [abs(r["answer_s.simulated"] / r["answer_s.published"] - 1) for r in records if r["half"] == "tested"]
    assert tested["answer_s"] == pytest.approx(np.mean(by_hand))


def test_too_few_runs_are_refused(cited):
    runs = law.law_points(cited, "llama33_70b")
    with pytest.raises(DataError, match="eight"):
        law.fit_law(runs[:7])
    with pytest.raises(DataError, match="one user"):
        law.fit_law([run for run in runs if run.concurrency > 1])


def test_a_run_without_one_of_its_numbers_is_refused(cited):
    class Without(dict):
        pass

    rows = Without({key: row for key, row in cited.items() if not key.endswith("1000_1000.c50.itl")})
    with pytest.raises(DataError, match="1000, 50"):
        law.law_points(rows, "llama33_70b")


def test_confidential_mode_scales_every_time():
    slower = KNOWN.slowed(0.2)
    for name in ("base_s", "each_s", "context_s", "prompt_s", "prompt2_s"):
        assert getattr(slower, name) == pytest.approx(getattr(KNOWN, name) / 0.8)
    assert KNOWN.slowed(0.0) == KNOWN
    for bad in (1.0, -0.1, float("nan")):
        with pytest.raises(ParameterError, match="loss"):
            KNOWN.slowed(bad)


@pytest.mark.parametrize(("field", "bad"), [("base_s", 0.0), ("each_s", -1.0), ("kv_tokens", 0.0), ("wait_steps", -1)])
def test_a_law_is_checked_when_built(field, bad):
    with pytest.raises(ParameterError, match=field):
        replace(KNOWN, **{field: bad})
