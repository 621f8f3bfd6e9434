"""The field's rows: made again from the recordings, and what they must and must not hold."""

from __future__ import annotations

import functools
import gc
import json
import warnings

import pytest

from otr_core.attestation.claims import CHECKS
from otr_core.errors import InputError, MissingDataError
from otr_paper.benches import appraise
from otr_paper.benches.appraise import AppraisePlan, bench_files, measure_appraise, threaded_stream
from otr_paper.store.results import read_result
from otr_paper.studies import field


@pytest.fixture(scope="module")
def stored(project):
    return read_result(project.results, field.RESULT)


def test_the_stored_rows_are_what_the_recordings_give(project, stored):
    try:
        answers = field.recorded_answers(project)
    except MissingDataError as error:
        pytest.skip(str(error))
    assert len(answers) == 23
    assert json.loads(json.dumps(field.field_rows(answers))) == stored[1]


def test_rows_are_facts_and_no_evidence(stored):
    """No device, platform, nonce, hash or certificate is named in them."""
    text = json.dumps(stored[1])
    longest = max((word for word in text.replace('"', " ").split()), key=len)
    assert len(longest) < 40, longest
    assert stored[0].kind == "recomputed"


def test_every_status_of_every_answer_is_shown(stored):
    cells = field.shown_statuses(stored[1])
    answers = {cell["answer"] for cell in cells}
    assert len(answers) == len(stored[1]["answers"]) == 12
    assert len(cells) == len(answers) * len({cell["check"] for cell in cells})
    assert {cell["check"] for cell in cells} == set(CHECKS)
    by_place = {(cell["answer"], cell["check"]): cell["status"] for cell in cells}
    assert {by_place[one, "gpu.signature"] for one in answers} == {"asserted"}
    assert {by_place[one, "binding.gpu_nonce"] for one in answers} == {"asserted"}
    assert by_place["NEAR cloud\n2026-06-10", "cpu.tcb"] == "refuted"
    assert stored[1]["events_that_name_weights"] == []


def test_a_refuted_device_outweighs_the_others():
    row = {"provider": "P", "date": "D", "check": "gpu.nonce", "asserted": 7, "refuted": 1, "unknown": 3, "not made": 2}
    assert field.shown_statuses({"claims": [row]})[0]["status"] == "refuted"
    assert field.shown_statuses({"claims": [row | {"refuted": 0}]})[0]["status"] == "unknown"
    assert field.shown_statuses({"claims": [row | {"refuted": 0, "unknown": 0}]})[0]["status"] == "asserted"


class TestBench:
    def test_all_figures_and_a_stream_in_flat_memory(self, project):
        try:
            raw = bench_files(project)
        except MissingDataError as error:
            pytest.skip(str(error))
        found = measure_appraise(raw, AppraisePlan(runs=3, stream=400, each=25))
        for name in ("gpu_cold_ms", "gpu_cached_ms", "node8_cached_ms", "tdx_over_dcap_qvl"):
            assert found[name] > 0
            assert 0 < found[name] <= found[f"{name}_median"] or name == "tdx_over_dcap_qvl"
        assert found["gpu_cached_ms"] < found["gpu_cold_ms"]
        assert found["node8_cached_ms"] < 12 * found["gpu_cached_ms"]
        assert found["stream_peak_at_end_mib"] - found["stream_peak_after_100_mib"] < 8
        assert found["bundles_per_minute"] > 5000  # of the 10,000 on two cores
        assert (found["threads"], found["threads_bundles"], found["hostile_files"]) == (16, 400, 19)
        assert 0 < found["hostile_s"] < 20
        assert found["threads_peak_at_end_mib"] - found["stream_peak_at_end_mib"] < 64

    def test_the_bench_counts_its_own_work_alone(self, monkeypatch):
        """A call is counted in full, the one that warms a block is not, what other threads burn is not,
        and of the blocks the least is told."""
        clock, calls = [0.0], {"a": list[float](), "b": list[float]()}
        monkeypatch.setattr(appraise.time, "thread_time", lambda: clock[0])
        monkeypatch.setattr(appraise.time, "process_time", None)
        costs = {"a": [9, 9, 7, 1, 5, 2, 5, 4], "b": [0.001] * 24}

        def call(name):
            calls[name].append(clock[0])
            clock[0] += costs[name][len(calls[name]) - 1]

        found = appraise.cpu_ms(3, {name: functools.partial(call, name) for name in calls})
        assert found == pytest.approx({"a": 1000, "a_median": 2000, "b": 1, "b_median": 1})
        assert calls["a"][2] > calls["b"][5] > calls["a"][1]  # in turns
        assert not gc.get_freeze_count()

    def test_a_stream_in_threads_tells_other_verdicts_and_other_filters(self):
        plan, ways = AppraisePlan(runs=1, stream=200, each=16), list[str]()
        assert threaded_stream(lambda cache: "rejected", lambda: ways.append("honest"), plan)["threads"] == 16
        assert len(ways) == 16
        with pytest.raises(InputError, match="forged report accepted"):
            threaded_stream(lambda cache: "accepted", lambda: None, plan)
        with warnings.catch_warnings(), pytest.raises(InputError, match="other warning filters"):
            threaded_stream(lambda cache: "rejected", lambda: warnings.simplefilter("always", UnicodeWarning), plan)

    @pytest.mark.parametrize(("runs", "stream", "each"), [(0, 1000, 16), (5, 100, 16), (10**5, 1000, 16), (5, 200, 15)])
    def test_plans_outside_their_domain(self, runs, stream, each):
        with pytest.raises(InputError, match="bench"):
            AppraisePlan(runs, stream, each)
