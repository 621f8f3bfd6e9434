"""One deployment: another window in its profile moves the court, the simulation, the claims and the figures,
and a stored result of another window is refused by name."""

from __future__ import annotations

import dataclasses

import pytest

from otr_core import merkle
from otr_core.dispute.accounts import batch_id
from otr_core.dispute.profile import FILE, read_profile
from otr_core.errors import DataError, MoveError
from otr_node.project import Project
from otr_paper.benches import simulation as bench
from otr_paper.benches.network import stored_network_run
from otr_paper.claims.grounds import Grounds
from otr_paper.claims.latency import L08_speedup_over_opml
from otr_paper.claims.trilemma import moments, read_inputs
from otr_paper.series.simulation import latencies
from otr_paper.series.trilemma import systems_table
from otr_paper.simulation import SIMULATION, study
from tests.helpers.networks import OPERATOR, embedded

SEED, LONGER_S = 7, 7200
"""Two hours: above the window up to which L08 holds of final answers."""


@pytest.fixture(scope="module")
def longer(project, tmp_path_factory) -> Project:
    """The data of this checkout, with another window in its profile."""
    data = tmp_path_factory.mktemp("longer") / "data"
    data.mkdir()
    for path in project.data.iterdir():
        if path.name != FILE:
            (data / path.name).symlink_to(path)
    old = (project.data / FILE).read_text()
    (data / FILE).write_text(old.replace("window_s = { value = 3600", f"window_s = {{ value = {LONGER_S}", 1))
    assert read_profile(data / FILE).court.window_s == LONGER_S
    return Project(data.parent)


def simulated(project: Project) -> dict:
    return bench.simulated_systems(project, bench.stand_in(project, "azure_conv"), seed=SEED, replications=1)


@pytest.fixture(scope="module")
def here(project) -> dict:
    return simulated(project)


@pytest.fixture(scope="module")
def there(longer) -> dict:
    return simulated(longer)


def final_s(found: dict, system: str) -> float:
    """What F20 draws: the mean time to a final answer."""
    (row,) = (r for r in latencies(found) if (r["system"], r["kind"], r["statistic"]) == (system, "final", "mean"))
    return row["value_s"]


def test_the_times_of_the_four_systems_move_by_as_much(here, there):
    assert final_s(there, "OTR") - final_s(here, "OTR") == pytest.approx(LONGER_S - 3600, abs=2.0)
    for system in ("opML", "ZKML", "PoQ"):
        assert final_s(there, system) == final_s(here, system)
    assert there["deployment"]["court.window_s"] == LONGER_S


def test_the_claim_of_speed_moves_with_it(project, longer, here, there):
    def final_against_final(own: Project, found: dict):
        judged = L08_speedup_over_opml(Grounds(own.data, results={SIMULATION: found}))
        # the window is this project's choice, so that no reading, which is evidence, may hang on it
        assert not any(each.name.startswith("final") for each in judged.readings)
        (condition,) = judged.conditions
        assert not condition.rows
        longest = condition.rule.asked
        assert longest == judged.computed["longest_final_window_s"]
        return judged.computed["simulated_final_reduction"], judged.computed["deployed_window_s"], longest

    (before, window, longest), (after, other, _) = (
        final_against_final(project, here), final_against_final(longer, there)
    )  # fmt: skip
    assert (window, other) == (3600, LONGER_S)
    assert window < longest < other
    assert before > 0.99 > after
    assert before - after == pytest.approx((LONGER_S - 3600) / final_s(here, "opML"), rel=1e-3)


def test_the_comparison_of_the_four_systems_moves_with_it(project, longer):
    tables = []
    for own in (project, longer):
        inputs = read_inputs(Grounds(own.data))
        (row,) = (r for r in moments(inputs) if r["system"] == "OTR" and r["moment"].startswith("window over"))
        tables.append((row["latency_s"], systems_table(inputs)))
    assert tables[1][0] - tables[0][0] == pytest.approx(LONGER_S - 3600)
    words = [{each["latency"] for each in table} for _, table in tables]
    assert "1 h (s)" in words[0]
    assert "2 h (s)" in words[1]


def test_a_sweep_starts_from_it(project, longer):
    configs = [bench.sweep_points(own, [{}], SEED)[0].config for own in (project, longer)]
    assert [each["window_s"] for each in configs] == [3600.0, LONGER_S]
    assert configs[0]["digest"] != configs[1]["digest"]
    assert dict(study.DEFAULT_CONFIG) == {name: each for name, each in configs[0].items() if name != "digest"}


def test_what_was_stored_under_another_window_is_refused_by_name(project, longer):
    assert Grounds(project.data).simulation
    with pytest.raises(DataError, match=r"^simulation: made with court\.window_s 3600, the profile says 7200"):
        _ = Grounds(longer.data).simulation
    assert stored_network_run(project)["deployment"]["court.window_s"] == 3600
    with pytest.raises(DataError, match=r"^network_run: made with court\.window_s 3600, .*producers\.network"):
        stored_network_run(longer)


def test_a_deployed_court_has_it(project, longer, tmp_path):
    """A batch is final after the window of the profile that its court was deployed from, and no sooner."""
    leaves = [b"r" * 32]
    for own, folder in ((project, "here"), (longer, "there")):
        terms = dataclasses.replace(read_profile(own.data / FILE).court, arity_bits=2)
        (tmp_path / folder).mkdir()
        network = embedded(terms, tmp_path / folder)
        court, me = network.court(OPERATOR), OPERATOR.address.lower()
        root = merkle.root(leaves)
        court.call(None, me, "commit_batch", root, 1)
        batch = batch_id(me, root)
        network.later(terms.window_s + terms.reveal_s - 10)
        with pytest.raises(MoveError):
            court.call(None, me, "finalise", batch)
        network.later(20)
        court.call(None, me, "finalise", batch)


def test_every_number_of_a_result_can_be_asked_for(here):
    assert set(here["deployment"]) == set(study.DEPENDS_ON)
