"""Fits, extrapolations and tables of notebook 04; this project's published rows are what its stored
results give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otr_paper.claims import published
from otr_paper.series import spotchecks
from otr_paper.store.results import read_result
from otr_paper.studies import proving


@pytest.fixture(scope="module")
def cited(project):
    return published.load_published(project.data)


@pytest.fixture(scope="module")
def stored(project):
    return lambda name: read_result(project.results, name)[1]


def rows(seconds):
    return [{"k": k, "prove_cpu_s": seconds(k), "rows": 2, "columns": 2 ** (k - 2)} for k in range(8, 18)]


def test_the_closed_form_gives_the_k_of_every_measured_circuit(stored):
    rows = stored("proof_cost")["rows"]
    assert [proving.circuit_k(row["rows"], row["columns"]) for row in rows] == [row["k"] for row in rows]
    assert proving.circuit_k(8, 8192) == 17


@given(fixed=st.floats(0.01, 10), each=st.floats(1e-6, 1e-2))
def test_a_straight_line_is_found_again(fixed, each):
    found = proving.fit_cost(rows(lambda k: fixed + each * 2.0**k))
    assert found.fixed_s == pytest.approx(fixed, rel=1e-6, abs=1e-9)
    assert found.per_row_s == pytest.approx(each, rel=1e-6)
    assert found.seconds(20) == pytest.approx(fixed + each * 2.0**20)


def test_n_log_n_is_told_from_n_where_there_is_no_noise():
    linear, log_linear = (proving.fit_cost(rows(f)) for f in (lambda k: 2.0**k, lambda k: k * 2.0**k))
    assert (linear.linear_rms, log_linear.log_linear_rms) == pytest.approx((0, 0), abs=1e-12)
    assert linear.log_linear_rms > 0.1 < log_linear.linear_rms
    assert linear.exponent == pytest.approx(1)
    assert log_linear.exponent == pytest.approx(log_linear.log_exponent)


def test_the_residual_is_that_of_the_best_factor():
    uneven = rows(lambda k: 2.0**k * (1 + 0.2 * (k % 3)))
    sizes, seconds = (
        np.array(column) for column in zip(*((2.0 ** r["k"], r["prove_cpu_s"]) for r in uneven), strict=True)
    )
    best = min(np.sqrt(np.mean((1 - factor * sizes / seconds) ** 2)) for factor in np.linspace(0.5, 2.0, 30_001))
    assert proving.fit_cost(uneven).linear_rms == pytest.approx(best, rel=1e-6)


def test_published_rows_of_this_project_are_its_stored_results(cited, stored):
    measured = stored("proof_cost")["rows"]
    found = proving.fit_cost(measured)
    for name, value in (("growth", found.exponent), ("growth_error", found.exponent_error),
                        ("growth_n_log_n", found.log_exponent)):  # fmt: skip
        assert cited.number(f"zk.project.{name}", "1") == pytest.approx(value, rel=1e-5)
    for row in spotchecks.extrapolated(found):
        if row["model"] != "SmolLM2-135M":
            size = row["model"].lower()
            assert cited.number(f"zk.project.extrapolated_{size}_token.prove", "core-s") == pytest.approx(
                row["core_s"], rel=1e-3
            )
    for sides in ((8, 576), (64, 576)):
        row = next(r for r in measured if (r["rows"], r["columns"]) == sides)
        name = f"zk.project.{sides[0]}x{sides[1]}"
        assert cited.number(f"{name}.prove", "core-s") == pytest.approx(row["prove_cpu_s"], rel=1e-3)
        assert cited.number(f"{name}.verify", "core-s") == pytest.approx(row["verify_cpu_s"], rel=1e-3)
        assert cited.number(f"{name}.proof", "B") == row["proof_bytes"]


def test_the_stated_bounds_hold_for_some_systems_and_not_for_others(cited, stored):
    found = {
        (r["system"], r["setting"]): r
        for r in spotchecks.where_it_holds(cited, proving.fit_cost(stored("proof_cost")["rows"]))
    }
    assert {r["over_20min"] for r in found.values()} == {True, False}
    llama = found["ZKTorch", "7B, 1 token, 64 CPU threads"]
    assert (llama["seconds"], llama["over_20min"], llama["over_45usd"]) == (2645.5, True, False)
    assert llama["usd"] == pytest.approx(2645.5 / 3600 * 2.95)


def test_the_link_table_by_hand():
    measured = {"layers": 2, "units_per_layer": 10, "kzg_8_s": 0.01, "kzg_576_s": 0.02, "kzg_1536_s": 0.03,
                "kzg_8000_s": 0.05, "rows_rebuilt_s": 0.5, "rows_committed_s": 0.1, "decode_token_s": 0.2}  # fmt: skip
    found = spotchecks.links(measured)
    assert [r["token_s"] for r in found] == pytest.approx([2 * (0.06 + 0.03 + 0.1), 0.1, 0, 0, 0])
    assert [r["share"] for r in found][:2] == pytest.approx([1.9, 0.5])
    assert [r["drawn_s"] for r in found] == pytest.approx([0, 0, 0.6, 0.6, 0.6])
    assert [r["missed"] for r in found] == pytest.approx([0, 0, 0, 1, 1 - 0.3688], abs=1e-4)


def test_gas_in_money_by_hand(cited):
    measured = {"rows": [{"shape": "8x576", "k": 13, "verify_gas": 600_000, "deploy_gas": 3_000_000}]}
    unit, deploy, *others = spotchecks.onchain(measured, cited, rho=0.01)
    assert (unit["l1_low_usd"], unit["l1_high_usd"]) == pytest.approx((0.12, 0.6))
    assert unit["per_query_usd"] == pytest.approx(0.006)
    assert deploy["gas"] == 3_000_000
    assert {r["kind"] for r in others} == {"cited", "recomputed"}
