"""The simulation beside the measured small run: its law, its errors by hand, and runs it
refuses."""

from __future__ import annotations

from statistics import mean

import pytest

from otr_core.errors import DataError
from otr_paper.benches import simulation
from otr_paper.claims import published
from otr_paper.series import simulation as views
from otr_paper.simulation import inputs, small_scale
from otr_paper.store.results import read_result


@pytest.fixture(scope="module")
def runs(project):
    """The stored runs, those of the small comparison included."""
    return {name: read_result(project.results, name)[1] for name in (*inputs.RUNS, *small_scale.RUNS)}


@pytest.fixture(scope="module")
def measured(project, runs):
    """What this project measured, as the simulation reads it."""
    return inputs.measurements(published.load_published(project.data), runs)


def by_quantity(records):
    return {record["quantity"]: record for record in records}


def test_the_law_gives_back_the_two_runs_it_is_from(runs):
    law = small_scale.step_law(runs["portable_lane"], runs["trace_cost"])
    (lane,) = [row for row in runs["portable_lane"]["cost"] if row["lane"] == "portable-1"]
    (cost,) = [row for row in runs["trace_cost"]["rows"] if row["lane"] == "portable-1"]
    assert law.base_s == pytest.approx((cost["decode_cpu_ms"] + cost["trace_cpu_ms"]) / 1000)
    whole = 256 * (lane["prefill_cpu_ms_per_token"] + cost["trace_cpu_ms"]) / 1000
    assert law.base_s + law.prompt_s * 256 == pytest.approx(whole)


def test_answers_by_hand(runs, measured):
    """Alone on the machine, an answer is its prompt's step and one step more for each further
    token."""
    law = small_scale.step_law(runs["portable_lane"], runs["trace_cost"])
    rows = runs["four_systems"]["rows"]
    found = by_quantity(small_scale.comparison(measured, runs))
    expected = mean(row["answer_tokens"] * law.base_s + row["prompt_tokens"] * law.prompt_s for row in rows)
    answer = found["answer, mean of the queries"]
    assert answer["predicted"] == pytest.approx(expected)
    assert answer["measured"] == pytest.approx(mean(row["cpu_s"]["answer"] for row in rows))
    assert answer["error"] == pytest.approx(answer["predicted"] / answer["measured"] - 1)
    assert abs(answer["worst"]) >= abs(answer["error"])
    later = found["signed and checked answer, mean"]["predicted"] - answer["predicted"]
    assert later == pytest.approx(measured.sign_s + measured.verify_s)


def test_disputes_and_proofs_are_those_of_the_run(runs, measured):
    found = by_quantity(small_scale.comparison(measured, runs))
    for name, game in runs["four_systems"]["disputes"].items():
        assert found[f"dispute: {name}"]["measured"] == game["gas"] - game["moves"][0]["gas"]
        assert found[f"moves of a dispute: {name}"]["measured"] == len(game["moves"]) - 1
    proofs = [record for name, record in found.items() if name.startswith("proof")]
    times = {check["cpu_s"]["proof"] for check in runs["four_systems"]["spot_checks"].values()}
    assert {record["measured"] for record in proofs} == times


def test_a_slower_machine_is_predicted_slower(runs, measured):
    rows = [{**row, "decode_cpu_ms": 2 * row["decode_cpu_ms"]} for row in runs["trace_cost"]["rows"]]
    per_token = "prefill_cpu_ms_per_token"
    lanes = [{**row, per_token: 2 * row[per_token]} for row in runs["portable_lane"]["cost"]]
    twice = {**runs, "trace_cost": {"rows": rows}, "portable_lane": {**runs["portable_lane"], "cost": lanes}}
    slower = small_scale.comparison(measured, twice)
    for name in ("answer, mean of the queries", "signed and checked answer, mean"):
        known = by_quantity(small_scale.comparison(measured, runs))[name]["predicted"]
        assert by_quantity(slower)[name]["predicted"] > 1.5 * known


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("portable_lane", {"cost": []}),
        ("trace_cost", {"rows": [{"lane": "portable-1"}]}),
        ("four_systems", {"rows": [{"prompt_tokens": 3}] * 2}),
        ("proof_cost", {}),
    ],
)
def test_runs_that_lack_a_number_are_refused(runs, measured, name, bad):
    with pytest.raises(DataError, match="stored runs"):
        small_scale.comparison(measured, {**runs, name: bad})


def test_the_view_of_the_checkout_is_the_comparison(project, runs, measured):
    assert simulation.small_run(project) == small_scale.comparison(measured, runs)


def test_the_table_shows_every_error_with_its_sign(runs, measured):
    records = small_scale.comparison(measured, runs)
    table = views.small_run_table(records)
    assert [row["quantity"] for row in table] == [record["quantity"] for record in records]
    for row, record in zip(table, records, strict=True):
        assert row["error"][0] == ("+" if record["error"] >= 0 else "-")
        assert abs(float(row["error"].rstrip("%")) / 100 - record["error"]) <= 0.005 + 1e-9
        assert (row["widest"] == "") == (record["worst"] is None)
        assert row["predicted"].endswith(" gas") == (record["unit"] == "gas")
