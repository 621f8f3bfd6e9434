"""The simulation on this checkout's data: sweeps repeat byte for byte, and what is stored is what
the code makes."""

from __future__ import annotations

import json
import shutil

import pytest

from otr_core.dispute.profile import FILE
from otr_core.errors import DataError, InputError
from otr_node.project import Project
from otr_paper.benches import simulation
from otr_paper.claims.grounds import Grounds
from otr_paper.simulation import SIMULATION, SUMMARIES, SWEEP, inputs, study
from otr_paper.store.results import read_result

SEED = 20251223
CHANGES = simulation.grid({"rho": (0.001, 0.01), "prover": ("flashprove", "stated"), "load": (1.0, 2.0)})


def as_bytes(records):
    return json.dumps(records, sort_keys=True).encode()


@pytest.mark.slow
def test_two_workers_give_the_bytes_of_one_and_a_cache_resumes(project, tmp_path):
    one = simulation.sweep(project, CHANGES, seed=SEED)
    assert as_bytes(simulation.sweep(project, CHANGES, seed=SEED, workers=2, cache=tmp_path)) == as_bytes(one)
    files = sorted(tmp_path.iterdir())
    assert len(files) == study.SEEDS * len(CHANGES)
    files[0].unlink()
    seen = []
    again = simulation.sweep(project, CHANGES, seed=SEED, cache=tmp_path, report=lambda done, every: seen.append(done))
    assert as_bytes(again) == as_bytes(one)
    assert seen == [study.SEEDS * len(CHANGES)]


def test_a_point_is_the_mean_of_its_seeds_and_tells_their_spread():
    one = {"unstable": "", "kept": 0.9, "final mean_s": 10.0, "deters": True, "waited mean_s": None}
    found = study.over_seeds([one, {**one, "final mean_s": 12.0, "proof mean_s": 5.0}, {**one, "final mean_s": 11.0}])
    means = {"final mean_s": 11.0, "proof mean_s": 5.0}
    assert found == {**one, **means, "spread": pytest.approx(2 / 11, rel=1e-2)}
    alone = study.over_seeds([one])
    assert alone == {**one, "spread": 0.0}


def test_the_seed_and_the_data_are_part_of_a_point(project):
    (one,), (other,) = (simulation.sweep_points(project, [{}], seed) for seed in (1, 2))
    assert one.key(simulation.otr_sweep_point, "code") != other.key(simulation.otr_sweep_point, "code")
    with pytest.raises(InputError, match="digest"):
        simulation.otr_sweep_point({**study.DEFAULT_CONFIG, "digest": "other data"}, 1)


def test_every_stored_run_that_a_point_reads_changes_its_digest(project, tmp_path):
    for folder in ("published", "results"):
        shutil.copytree(project.data / folder, tmp_path / "data" / folder)
    shutil.copy(project.data / FILE, tmp_path / "data")
    copy = Project(tmp_path)
    seen = {simulation.digest(copy)}
    assert seen == {simulation.digest(project)}
    for path in (*(copy.results / f"{name}.json" for name in (SUMMARIES, *inputs.RUNS)), copy.data / FILE):
        path.write_bytes(path.read_bytes() + b" ")
        seen.add(simulation.digest(copy))
    assert len(seen) == 3 + len(inputs.RUNS)


def test_stored_points_are_what_the_code_makes(project):
    sweep = read_result(project.results, SWEEP)[1]
    assert len(sweep["grid"]) == len(simulation.grid())
    chosen = sweep["grid"][:: 1 + len(sweep["grid"]) // 5]
    changes = [{axis: point[axis] for axis in simulation.GRID} for point in chosen]
    assert as_bytes(simulation.sweep(project, changes, seed=SEED)) == as_bytes(chosen)
    changes = simulation.tornado_changes()
    assert len(sweep["tornado"]) == len(changes)
    assert as_bytes(simulation.sweep(project, changes[:2], seed=SEED)) == as_bytes(sweep["tornado"][:2])
    assert any(point["unstable"] for point in sweep["grid"])
    assert all(point["waited mean_s"] is None for point in sweep["grid"] if point["unstable"])


@pytest.mark.outside
@pytest.mark.slow
def test_the_stored_study_is_what_the_trace_gives(project, outside_file):
    outside_file("traces/azure_llm_2023_conv.csv")
    kept = read_result(project.results, SIMULATION)[1]
    found = simulation.simulated_systems(
        project, simulation.trace(project, "azure_conv"), seed=SEED, replications=study.REPLICATIONS
    )
    assert as_bytes(found) == as_bytes({key: kept[key] for key in found})


def test_the_summary_stands_in_for_the_trace(project):
    """Means on requests drawn from the summary lie within 5 % of those on the trace itself."""
    kept = {
        (r["system"], r["kind"]): r["mean"]["value"] for r in read_result(project.results, SIMULATION)[1]["latency"]
    }
    live = simulation.simulated_systems(project, simulation.stand_in(project, "azure_conv"), seed=SEED, replications=12)
    for record in live["latency"]:
        assert record["mean"]["value"] == pytest.approx(kept[record["system"], record["kind"]], rel=0.05)


def test_unknown_traces_and_missing_results_are_named(project, tmp_path):
    with pytest.raises(InputError, match="azure_conv"):
        simulation.stand_in(project, "burst")
    with pytest.raises(DataError, match=r"simulation\.json"):
        Grounds(tmp_path).result(SIMULATION)


def test_the_bars_of_the_issue_as_measured(project):
    """An hour of the trace under four systems: 20 CPU seconds and 500 MB at most, as the stored run
    measured it."""
    usage = read_result(project.results, SIMULATION)[1]["usage"]
    assert usage["cpu_s"] <= 20
    assert usage["peak_mb"] <= 500
