"""Rows about free opponents: all seeds and both lanes are in them, and no game is left out."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from otr_core.lane.dims import Dims
from otr_core.lane.tensor_steps import LANE
from otr_paper.labs.disputes.campaign import SHAPES
from otr_paper.producers.dispute_adversaries import GAMES, SEEDS
from otr_paper.series import adversaries
from otr_paper.store.results import read_result


@pytest.fixture(scope="module")
def stored(project):
    return read_result(project.results, "dispute_adversaries")[1]


def test_games_of_all_seeds_and_both_lanes_are_counted(stored):
    counted: Counter[tuple[str, str, int]] = Counter()
    for row in adversaries.random_games(stored):
        counted[row["model"], row["lane"], row["temperature_milli"]] += row["games"]
    answers = [("tiny", Dims.lane, GAMES), ("tiny", LANE, GAMES), ("SmolLM2-135M", Dims.lane, GAMES // 2)]
    assert counted == {
        (model, lane, milli): games * len(SEEDS) for model, lane, games in answers for milli in (0, 1500)
    }


def test_the_stored_games_are_of_three_seeds_and_none_was_lost(stored):
    for row in stored["random"]:
        assert [each["seed"] for each in row["by_seed"]] == stored["seeds"] == list(SEEDS)
        assert sum(each["games"] for each in row["by_seed"]) == row["games"]
        for end in adversaries.ENDS:
            assert sum(each.get(end, 0) for each in row["by_seed"]) == sum(
                found.get(end, 0) for found in row["reached"].values()
            )
        assert max(each["most_moves"] for each in row["by_seed"]) == row["most_moves"] <= row["bound_moves"]
        assert row["losses"] == 0
    assert {row["shape"] for row in adversaries.searches(stored)} == {*SHAPES} >= {LANE}
    assert all(row["losses"] == 0 < row["places"] for row in adversaries.searches(stored))


def test_the_title_counts_the_games_that_its_figure_draws(stored, project):
    """The bars are of the games about a real answer, by how they ended: every end has a bar."""
    games, searched = adversaries.random_games(stored), adversaries.searches(stored)
    drawn = [row for row in games if row["model"] != "tiny"]
    assert {row["end"] for row in games} <= adversaries.ENDS.keys()
    bars = sum(row["games"] for row in drawn if row["end"] in adversaries.ENDS)
    assert adversaries.games_title(searched, drawn).startswith(f"{bars:,} games ")
    drawn[0]["losses"] = 2
    assert adversaries.games_title(searched, drawn).endswith("the honest side lost 2")
    (cell,) = (
        "".join(cell["source"])
        for cell in json.loads((project.notebooks / "03_dispute_bisection.ipynb").read_text())["cells"]
        if "F28_free_opponents" in "".join(cell["source"])
    )
    assert 'adversary_views.games_title(\n    searched.to_dict("records"), real.to_dict("records"))' in cell
    assert 'run.figure(fig, "F28_free_opponents", real,' in cell
