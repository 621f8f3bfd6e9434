"""Sweeps: serial equals parallel equals Dask, cached points are not computed again, kills are
survived."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from otr_core.errors import InputError, SweepError
from otr_node.project import find_project
from otr_paper.studies.population import Population, summary_point
from otr_paper.studies.sweep import RETRIES, Point, code_hash, run_sweep

CONFIG = asdict(
    Population(
        operators=60, epochs=6, queries_per_epoch=10, rational_share=0.3, malicious_share=0.1, broken_share=1.0,
        break_epoch=1, patch_epoch=5, price_usd=0.5, compute_saved_usd=0.3, outside_gain_usd=0.1, stake_usd=20.0,
        slash_fraction=0.5, dispute_cost_usd=1.0, rho=0.05, d=0.9, w=1.0, fishermen=4, check_rate=0.01,
    )
)  # fmt: skip


def points(count):
    return [Point({**CONFIG, "rho": 0.001 * (number + 1)}, seed=number % 7) for number in range(count)]


def as_bytes(records):
    return json.dumps(records, sort_keys=True).encode()


def test_two_workers_give_the_bytes_of_one():
    assert as_bytes(run_sweep(summary_point, points(24))) == as_bytes(run_sweep(summary_point, points(24), workers=2))


def test_finished_points_are_not_computed_again(tmp_path):
    calls = []

    def counted(config, seed):
        calls.append(seed)
        return summary_point(config, seed)

    first = run_sweep(counted, points(8), cache=tmp_path)
    assert len(calls) == 8
    names = sorted(path.name for path in tmp_path.iterdir())
    (tmp_path / names[0]).unlink()
    (tmp_path / names[1]).write_text('{"result": ')  # cut off by a kill of something else than us
    seen = []
    again = run_sweep(counted, points(8), cache=tmp_path, report=lambda done, every: seen.append((done, every)))
    assert as_bytes(again) == as_bytes(first)
    assert len(calls) == 10
    assert seen == [(7, 8), (8, 8)]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_key_depends_on_function_code_parameters_and_seed():
    base = Point({"a": 1}, 0)
    keys = {
        base.key(summary_point, ""), base.key(as_bytes, ""), Point({"a": 2}, 0).key(summary_point, ""),
        Point({"a": 1}, 1).key(summary_point, ""), base.key(summary_point, "00"),
    }  # fmt: skip
    assert len(keys) == 5
    assert Point({"b": 1, "a": 2}).key(as_bytes, "") == Point({"a": 2, "b": 1}).key(as_bytes, "")


EDITED = """
import json, sys
from pathlib import Path
from otr_paper.studies.sweep import Point, code_hash, run_sweep
from otr_node import edited_outer
print(run_sweep(edited_outer.point, [Point({"x": 3})], cache=Path(sys.argv[1])), code_hash(edited_outer.point))
"""


def test_an_edit_of_the_function_or_of_what_it_calls_is_computed_again(tmp_path):
    """A copy of the packages' skeleton, in which one module is edited between two runs: the function's own,
    one that it imports inside, and one that nothing here imports."""
    root = tmp_path / "tree"
    for name in ("otr_core", "otr_paper", "otr_paper/studies"):
        (root / name).mkdir(parents=True)
        (root / name / "__init__.py").write_text("")
    project = find_project()
    for name in ("otr_core/encoding.py", "otr_core/errors.py", "otr_core/files.py", "otr_paper/studies/sweep.py"):
        (root / name).write_text((project.root / name).read_text())
    (root / "otr_node").mkdir()
    outer = "def point(config, seed):\n    from otr_node.edited_inner import double\n    return double(config['x'])\n"
    inner = "def double(x):\n    return 2 * x\n"
    (root / "otr_node" / "__init__.py").write_text("")

    def run(outer, inner, other=""):
        for name, text in (("outer", outer), ("inner", inner), ("other", other)):
            (root / "otr_node" / f"edited_{name}.py").write_text(text)
        command = [sys.executable, "-c", EDITED, str(tmp_path / "cache")]
        environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=tmp_path, env=environment, text=True)
        return tuple(done.stdout.split())

    first = run(outer, inner)
    assert first[0] == "[6]"
    assert run(outer, inner, "x = 1\n") == first  # nothing that it reaches
    assert run(outer, inner.replace("2", "5"))[0] == "[15]"
    assert run(outer.replace("['x']", "['x'] + 1"), inner)[0] == "[8]"
    assert run(outer, inner) == first
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_the_code_of_a_study_reaches_its_formulas_and_what_has_no_source_is_refused():
    assert code_hash(summary_point) != code_hash(as_bytes)
    with pytest.raises(InputError, match="without source"):
        run_sweep(len, [Point({"a": 1})], cache=Path("nowhere"))


def test_wrong_sweeps_are_refused():
    with pytest.raises(InputError, match="workers"):
        run_sweep(summary_point, points(1), workers=0)
    with pytest.raises(InputError, match="twice"):
        run_sweep(summary_point, points(1) * 2)


SCRIPT = """
import json, os, signal, sys
from pathlib import Path
from otr_paper.studies.population import summary_point
from otr_paper.studies.sweep import Point, run_sweep
config, cache = json.loads(sys.argv[1]), Path(sys.argv[2])
points = [Point({**config, "rho": 0.0009 * (n + 1)}, seed=n % 7) for n in range(1000)]
last = int(sys.argv[3])
def power_fails(done, every):
    if done == last:
        os.kill(os.getpid(), signal.SIGKILL)
records = run_sweep(summary_point, points, cache=cache, report=power_fails)
sys.stdout.write(json.dumps(records, sort_keys=True))
"""


@pytest.mark.slow
def test_a_killed_sweep_of_a_thousand_points_resumes(tmp_path):
    command = [sys.executable, "-c", SCRIPT, json.dumps(CONFIG), str(tmp_path / "cache")]
    assert subprocess.run([*command, "200"], stdout=subprocess.DEVNULL, check=False).returncode == -signal.SIGKILL
    assert len(list((tmp_path / "cache").glob("*.json"))) == 200
    resumed = subprocess.run([*command, "0"], stdout=subprocess.PIPE, check=True).stdout
    assert len(list((tmp_path / "cache").glob("*.json"))) == 1000
    fresh = [*command[:-1], str(tmp_path / "other"), "0"]
    assert resumed == subprocess.run(fresh, stdout=subprocess.PIPE, check=True).stdout


def slow_point(config, seed):
    time.sleep(0.05)
    return summary_point(config, seed)


def point_that_ends_its_worker(config, seed):
    """Ends the process that computes it, as long as a file says how many times more."""
    left = Path(config["left"])
    times = int(left.read_text())
    if times and seed == 3:
        left.write_text(str(times - 1))
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * seed


def test_a_killed_joblib_worker_costs_time_and_no_point(tmp_path):
    (tmp_path / "left").write_text("2")
    ends = [Point({"left": str(tmp_path / "left")}, seed=number) for number in range(8)]
    assert run_sweep(point_that_ends_its_worker, ends, workers=2) == [2 * number for number in range(8)]
    assert (tmp_path / "left").read_text() == "0"


@pytest.mark.slow
def test_workers_that_end_again_and_again_are_named(tmp_path):
    (tmp_path / "left").write_text("99")
    ends = [Point({"left": str(tmp_path / "left")}, seed=number) for number in range(4)]
    with pytest.raises(SweepError, match=f"{RETRIES + 1} workers were ended after . of 4 points"):
        run_sweep(point_that_ends_its_worker, ends, workers=2, cache=tmp_path / "kept")


@pytest.mark.slow
def test_a_scheduler_that_goes_is_named():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        client = distributed.Client(cluster.scheduler_address, timeout="5s")

        def close(done, every):
            if done == 5:
                cluster.close()

        with pytest.raises(SweepError, match=r"scheduler or workers went after \d+ of 60 points"):
            run_sweep(slow_point, points(60), client=client, report=close)
        client.close(timeout=1)


@pytest.mark.slow
def test_dask_gives_the_same_bytes_and_survives_a_killed_worker():
    distributed = pytest.importorskip("distributed")
    wanted = as_bytes(run_sweep(summary_point, points(60)))
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        killed = []

        def kill_one(done, every):
            if done == 10 and not killed:
                pids = client.run(os.getpid)
                killed.append(next(iter(pids.values())))
                os.kill(killed[0], signal.SIGKILL)

        found = run_sweep(slow_point, points(60), client=client, report=kill_one)
    assert killed
    assert as_bytes(found) == wanted
