from __future__ import annotations

import pytest

from otr_core.lane import formats
from otr_core.lane.program import PORTABLE_KINDS
from otr_node.integers import twins
from otr_node.project import Project
from otr_paper.benches.lane_steps import compare_steps
from otr_paper.producers.lane import SEEDS, STEPS
from otr_paper.store.results import read_result


def test_random_steps_are_the_definitions() -> None:
    found = compare_steps(60)
    assert found["differing"] == found["layers_differing"] == 0
    assert {*found["steps"]} == {kind.name.lower() for kind in PORTABLE_KINDS} - {"copy"}
    assert all(60 <= count < 200 for count in found["steps"].values())
    assert found["layers"] > 0


def test_a_lane_that_rounds_otherwise_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = twins.attention_weights
    monkeypatch.setattr(twins, "attention_weights", lambda exps, share: whole(exps + 1, share))
    assert compare_steps(60)["differing"] > 0
    monkeypatch.undo()
    monkeypatch.setattr(formats, "ONE_SHARE", 2 * formats.ONE_SHARE)
    assert compare_steps(60)["layers_differing"] > 0


def test_the_stored_steps_are_of_every_primitive_and_three_seeds(project: Project) -> None:
    found = read_result(project.results, "lane_steps")[1]
    assert found["differing"] == found["layers_differing"] == 0
    assert {*found["steps"]} == {kind.name.lower() for kind in PORTABLE_KINDS} - {"copy"}
    assert min(found["steps"].values()) >= found["each"] >= STEPS
    assert found["seeds"] == list(SEEDS)
