"""``otr sweep``: one process, two and a resumed cache give the same lines, and bad input one."""

from __future__ import annotations

import json

import pytest

from otr_core.economics.scenarios import parse
from otr_core.errors import InputError
from otr_node.sizing.size import sweep_point
from otr_paper.studies.networks import network_point, network_points
from otr_paper.studies.sweep import run_sweep
from tests.helpers.command_line import assert_one_line, fresh_otr, otr


@pytest.fixture(scope="module")
def file(project):
    return project.root / "docs" / "example_network.toml"


def test_every_combination_is_sized_as_by_itself(file):
    text = file.read_text()
    points = network_points(text, ["watch.w=0.5,0.9", "flow.verdict_s=60,600"])
    changes = [point.config["changes"] for point in points]
    assert changes[1] == {"watch.w": 0.5, "flow.verdict_s": 600.0}
    assert len(changes) == 4
    records = run_sweep(network_point, points)
    assert records[2] == sweep_point(parse("network", text))(changes[2])
    assert len({record["stake_usd"] for record in records}) == 4


def test_the_command_gives_the_same_lines_serially_by_two_and_from_its_cache(file, tmp_path):
    call = ("sweep", file, "--vary", "watch.d=0.5,0.9")
    one = fresh_otr(*call, "--cache", tmp_path / "kept")
    assert one.returncode == 0, one.stderr
    assert [json.loads(line)["watch.d"] for line in one.stdout.splitlines()] == [0.5, 0.9]
    kept = sorted((tmp_path / "kept").iterdir())
    assert len(kept) == 2
    kept[0].unlink()
    assert otr(*call, "--workers", 2, "--cache", tmp_path / "kept").stdout == one.stdout
    assert sorted((tmp_path / "kept").iterdir()) == kept


@pytest.mark.parametrize(
    ("varied", "word"),
    [("watch.d", "watch.d"), ("watch.d=x", "form"), ("watch.d=0.5,0.5", "once"), ("watch.d=2", "probability"),
     ("watch.d=nan", "finite"), ("exposure.harm_usd=1e300", "1e.300, allowed: at most 1e.15"),
     ("flow.queries_per_s=1e9", "queries_per_s . patch_s: found 2.592e"),
     ("watch.none=1", "watch.none"), ("d=1", "part.key")],
)  # fmt: skip
def test_what_cannot_vary_is_named(file, varied, word):
    with pytest.raises(InputError, match=word):
        network_points(file.read_text(), [varied])
    wide = "market.proof_cost_usd=" + ",".join(map(str, range(1, 1001)))
    with pytest.raises(InputError, match="points"):
        network_points(file.read_text(), [wide, wide.replace("proof_cost_usd", "queries_per_year")])


def test_numbers_that_only_fit_together_or_do_not_are_told_before_any_is_sized(file):
    text = file.read_text()
    assert len(network_points(text, ["exposure.operators=5,20", "exposure.cheating=2"])) == 2
    with pytest.raises(InputError, match="cheating: found 80"):
        network_points(text, ["exposure.cheating=80", "exposure.operators=90,50"])


def test_the_command_refuses_in_one_line(file, tmp_path):
    for cache in (file, tmp_path / "none" / "cache"):
        assert_one_line(otr("sweep", file, "--vary", "watch.d=1", "--cache", cache), 2, "--cache: found")
    assert_one_line(otr("sweep", tmp_path / "none.toml", "--vary", "watch.d=1"), 2, "none.toml")
    assert_one_line(otr("sweep", file, "--vary", "watch.d=2"), 2, "d: found 2.0")
    assert_one_line(otr("sweep", file, "--vary", "watch.d=1", "--workers", 0), 2, "--workers")
    assert_one_line(otr("sweep", file, "--vary", "watch.d=1", "--scheduler", "tcp://127.0.0.1:9"), 2, "--scheduler")
