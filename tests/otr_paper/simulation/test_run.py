"""The four systems: order of the latencies, same bytes again, and *unstable* wherever there is no
number."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from otr_core.errors import InputError, ParameterError
from otr_paper.series import simulation
from otr_paper.simulation import inputs, law, run, stats, study, systems
from otr_paper.simulation.arrivals import Requests

GAS = inputs.Number(60_000.0, "gas", "measured", "test")
UNIT = inputs.Prover("one drawn unit", 36.0, 1, "recomputed", "test", GAS, 0.5)
FITTED = law.FittedLengths((200, 20_000), (200, 2_000), (400, 22_000))
LAWS = {"llama33_70b": law.StepLaw(0.0182, 5.9e-5, 2.4e-8, 6.3e-5, 1.4e-9, 471_000, budget_tokens=1_100, fitted=FITTED)}
MEASURED = inputs.Measurements(
    sign_s=0.007, verify_s=0.006, hash_s=0.0014, commit=GAS, move=GAS, moves=24, unit=UNIT, laws=LAWS
)


@pytest.fixture(scope="module")
def requests():
    """3,000 requests, 5.5 a second."""
    rng = np.random.default_rng(2)
    times = np.cumsum(rng.exponential(1 / 5.5, 3000))
    return Requests(times - times[0], rng.integers(100, 2200, 3000), rng.integers(10, 400, 3000))


@pytest.fixture(scope="module")
def machine():
    """A serving law like that of the published runs."""
    return LAWS["llama33_70b"]


@pytest.fixture(scope="module")
def parts(cited, requests):
    """The four systems on these requests."""
    prover = inputs.provers(cited)["stated"]
    return systems.four(cited, MEASURED, prover, requests.rate_per_s, loss=0.1, first_overhead=0.2)


def test_latencies_come_in_order(parts, requests, machine):
    for name, system in parts.items():
        latency = run.simulate(system, requests, machine, 1).latency_s
        kinds = [kind for kind in ("first token", "answer", "provisional", "final") if kind in latency]
        for before, after in pairwise(kinds):
            assert (latency[before] <= latency[after] + 1e-9).all(), (name, before, after)
        assert ("provisional" in latency) == (name != "ZKML")
        assert ("proof" in latency) == (name in ("OTR", "ZKML"))
    assert len(run.simulate(parts["ZKML"], requests, machine, 1).latency_s["proof"]) == len(requests)


def test_proofs_blocks_and_windows_bound_the_latencies(parts, requests, machine):
    otr = run.simulate(parts["OTR"], requests, machine, 1)
    assert otr.latency_s["proof"].min() > parts["OTR"].proof_s
    assert 0.005 < len(otr.latency_s["proof"]) / len(requests) < 0.015
    assert otr.latency_s["final"].min() > parts["OTR"].window_s
    opml = run.simulate(parts["opML"], requests, machine, 1)
    assert opml.latency_s["final"].min() > 7 * 86400
    waits = opml.latency_s["provisional"] - opml.latency_s["answer"]
    assert waits.max() <= parts["opML"].batch_s + parts["opML"].block_s + 1e-6
    attested = otr.latency_s["provisional"] - otr.latency_s["answer"]
    assert attested == pytest.approx(np.full(len(requests), 0.0144))


def test_proofs_that_take_no_time_wait_for_the_beacon_and_the_block_alone(parts, requests, machine):
    at_once, slow = (replace(parts["OTR"], proof_s=seconds, provers=1) for seconds in (0.0, 10.0))
    found, later = (run.simulate(system, requests, machine, 1) for system in (at_once, slow))
    assert not found.unstable
    assert found.utilisation["provers"] == 0
    assert found.latency_s["proof"].mean() <= later.latency_s["proof"].mean() - 10


def test_the_mean_with_waiting_by_hand(parts, requests, machine):
    system = replace(parts["OTR"], rho=1.0)
    system = replace(system, provers=10**6)
    found = run.simulate(system, requests, machine, 3)
    assert found.waited_s == pytest.approx(found.latency_s["proof"].mean())
    none = replace(parts["OTR"], rho=0.0)
    assert run.simulate(none, requests, machine, 3).waited_s == pytest.approx(
        run.simulate(none, requests, machine, 3).latency_s["provisional"].mean()
    )


def test_same_arguments_same_bytes(parts, requests, machine):
    for system in parts.values():
        one, same, other = (run.simulate(system, requests, machine, seed) for seed in (5, 5, 6))
        for kind, values in one.latency_s.items():
            assert values.tobytes() == same.latency_s[kind].tobytes()
        assert one.latency_s["final"].tobytes() != other.latency_s["final"].tobytes()


def test_a_load_the_machines_cannot_carry_has_no_number(parts, requests, machine):
    rush = requests.at_load(6.0)
    for system in parts.values():
        found = run.simulate(system, rush, machine, 1)
        assert not found.latency_s
        assert found.waited_s is None
        assert "times as fast" in found.unstable["answer"]
        assert ("provisional" in found.unstable) == (system.name != "ZKML")
        rows = stats.table([found], 0)
        assert rows
        assert all(row["unstable"] and "mean" not in row for row in rows)
    enough = replace(parts["PoQ"], machines=12)
    assert not run.simulate(enough, rush, machine, 1).unstable


def test_a_request_beyond_the_context_is_refused_before_anything_is_served(parts, requests, machine):
    longest = int((requests.tokens_in + requests.tokens_out).max())
    assert run.simulate(parts["OTR"], requests, replace(machine, context_tokens=longest), 1).latency_s
    for load in (1.0, 50.0):  # a load that has no number anyway is refused as well
        with pytest.raises(ParameterError, match=f"at most {longest - 1} .*the model's context"):
            run.simulate(parts["OTR"], requests.at_load(load), replace(machine, context_tokens=longest - 1), 1)


def test_a_prover_pool_too_small_has_no_proof_and_no_final(parts, requests, machine):
    small = replace(parts["OTR"], provers=40)
    found = run.simulate(small, requests, machine, 1)
    assert set(found.unstable) == {"proof", "final"}
    assert {"first token", "answer", "provisional"} == set(found.latency_s)
    assert found.waited_s is None
    assert found.utilisation["provers"] >= 1
    rows = {row["kind"]: row for row in stats.table([found], 0)}
    assert rows["proof"]["unstable"]
    assert not rows["answer"]["unstable"]
    # one stable replication does not make an unstable one go away
    good = run.simulate(parts["OTR"], requests, machine, 1)
    assert {row["kind"] for row in stats.table([good, found], 0) if row["unstable"]} == {"proof", "final"}


def test_confidential_mode_is_never_faster(parts, requests, machine):
    means = []
    for loss in (0.0, 0.1, 0.25):
        found = run.simulate(replace(parts["OTR"], loss=loss, first_overhead=0.0), requests, machine, 1)
        means.append(found.latency_s["answer"].mean())
    assert means == sorted(means)
    plain = run.simulate(replace(parts["OTR"], loss=0.1, first_overhead=0.0), requests, machine, 1)
    late = run.simulate(replace(parts["OTR"], loss=0.1, first_overhead=0.3), requests, machine, 1)
    ratio = late.latency_s["first token"] / plain.latency_s["first token"]
    assert ratio == pytest.approx(np.full(len(requests), 1.3 * 0.9))
    # an overhead of the first token that the loss of throughput already makes is not counted twice
    same = run.simulate(replace(parts["OTR"], loss=0.1, first_overhead=0.1), requests, machine, 1)
    assert np.array_equal(same.latency_s["first token"], plain.latency_s["first token"])


@pytest.mark.parametrize(
    ("field", "bad"),
    [("machines", 0), ("rho", 1.1), ("block_s", -1.0), ("window_s", float("inf")), ("provers", 0), ("disputed", -0.1)],
)
def test_impossible_systems_are_refused(parts, field, bad):
    with pytest.raises(ParameterError, match=field):
        replace(parts["OTR"], **{field: bad})


def test_a_point_without_its_keys_is_refused(cited, requests):
    good = study.DEFAULT_CONFIG
    for bad in ({**good, "rhos": 1}, {k: v for k, v in good.items() if k != "rho"}):
        with pytest.raises(InputError, match="keys"):
            study.otr_point(cited, requests, MEASURED, bad, 1)
    with pytest.raises(InputError, match="model"):
        study.otr_point(cited, requests, MEASURED, {**good, "model": "gpt"}, 1)
    with pytest.raises(InputError, match="prover"):
        study.otr_point(cited, requests, MEASURED, {**good, "prover": "wizard"}, 1)
    with pytest.raises(ParameterError, match="overhead_level"):
        study.otr_point(cited, requests, MEASURED, {**good, "overhead_level": 1.5}, 1)


def test_a_point_says_what_its_inputs_do(cited, requests):
    good = study.DEFAULT_CONFIG

    def point(**changes):
        return study.otr_point(cited, requests, MEASURED, {**good, **changes}, 1)

    base = point()
    assert base["unstable"] == ""
    assert base["outside fit"] == pytest.approx((requests.tokens_out < 200).mean(), rel=1e-5)
    assert point(rho=0.05)["unstable"]
    assert "waited mean_s" in base
    assert point(rho=0.05)["waited mean_s"] is None
    assert point(rho=0.001)["cost_usd"] < base["cost_usd"] < point(proof_usd=45.0)["cost_usd"]
    assert base["detection"] == pytest.approx(1 - 0.99**100, rel=1e-5)
    assert base["deterred gain_usd"] == pytest.approx(0.01 * (50 + 0.00055), rel=1e-5)
    assert base["deters downgrade"]
    unit = point(prover="ours")
    assert unit["proof mean_s"] < 60 < base["proof mean_s"]
    assert unit["proofs_usd"] < base["proofs_usd"]
    assert unit["detection"] == pytest.approx(1 - 0.995**100, rel=1e-5)
    assert unit["provers utilisation"] < base["provers utilisation"]
    assert not point(stake_usd=0.01)["deters downgrade"]
    assert point(overhead_level=0.95)["kept"] < base["kept"] < point(overhead_level=0.05)["kept"]


def test_views(cited):
    found = {"kept": [0.8, 0.9, 0.95], "rate_per_s": 5.0}
    rows = {row["baseline"]: row for row in simulation.baselines(cited, found, serving_gpus=4, rho=0.01)}
    assert rows["same GPUs, bare metal"]["value"] == 0.9
    assert any(row["value"] == pytest.approx(4 / (4 + 75) * 0.9) for row in rows.values())
    grid = [{"rho": rho, "load": load} for load in (1, 2) for rho in (0.1, 0.01)]
    assert [point["rho"] for point in simulation.rho_curve(grid, load=2)] == [0.01, 0.1]
    with pytest.raises(InputError, match="no point"):
        simulation.rho_curve(grid, load=3)
    base = {"provisional p50_s": 4.0, "waited mean_s": 18.0, "cost_usd": 0.01, "kept": 0.94}
    points = [base, {**base, "load": 0.5, "provisional p50_s": 3.0}, {**base, "load": 2.0, "waited mean_s": None}]
    swings = simulation.tornado(points, {"load": ("load", 0.5, 2.0)}, cited)
    assert [(row["claim"], row["low"], row["high"]) for row in swings] == [("L01", 3.0, 4.0), ("L03", 18.0, None)]
