"""What the simulation takes from the stored runs, and runs that lack a number."""

from __future__ import annotations

import pytest

from otr_core.errors import DataError
from otr_paper.claims.security import bisection_rounds
from otr_paper.simulation import inputs


def test_the_moves_of_a_dispute_are_those_of_its_tree():
    assert 2 * bisection_rounds(20 * 1000 * 70_000_000_000, 2) == inputs.OPML_MOVES


def test_a_unit_of_the_large_model_costs_what_a_measured_circuit_of_its_size_does(measured, runs):
    """8 x 8192 needs 2^17 rows, as the largest measured circuit does."""
    (like,) = [row for row in runs["proof_cost"]["rows"] if row["k"] == 17]
    assert measured.unit.batch_s == pytest.approx(like["prove_cpu_s"] + like["witness_cpu_s"], rel=0.15)
    assert measured.unit.batch == 1
    assert measured.unit.kind == "recomputed"
    assert "one drawn unit" in measured.unit.name
    assert 0 < measured.unit.detects < 1


def test_moves_of_a_game_follow_its_rounds(measured, runs):
    """The closed form gives the measured games' own number of moves; a longer answer and a larger
    model take more."""
    from otr_paper.simulation.small_scale import smollm2

    played = inputs.played_at(runs["disputes"])
    about_a_value = [len(game["moves"]) - 1 for game in played if game["cheat"] != "token replaced"]
    small = inputs.game_moves(smollm2(), runs["disputes"]["positions"], played)
    assert small == pytest.approx(sum(about_a_value) / len(about_a_value), abs=1)
    assert small < measured.moves <= small + 8
    assert inputs.game_moves(smollm2(), 8000, played) > small
    with pytest.raises(DataError, match="arity 3"):
        inputs.played_at(runs["disputes"], 3)


def test_measurements_come_from_the_stored_runs(cited, measured, runs):
    by_name = {name: ms for name, ms, _ in runs["native_run"]["cpu"]}
    assert measured.sign_s == pytest.approx(by_name["receipt signing"] / 1000)
    assert measured.verify_s == pytest.approx(by_name["receipt verification"] / 1000)
    assert measured.hash_s == pytest.approx(80 * (8192 + 2048) * 2 / runs["trace_cost"]["sha256_1kib_bytes_per_cpu_s"])


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("native_run", {"cpu": []}),
        ("trace_cost", {}),
        ("disputes", {"disputes": []}),
        ("disputes", {"disputes": [{"arity": 16, "moves": [], "gas_dispute": 1, "rounds": 1}]}),
        ("disputes", {"disputes": [{"arity": 16, "moves": [{"move": "commit_batch", "gas": 1}], "rounds": 0}]}),
        ("spot_onchain", {"rows": []}),
        ("proof_cost", {"rows": [{"k": 17}]}),
        ("spot_detection", {"rows": []}),
        ("serving_law", {"llama31_8b": {}}),
    ],
)
def test_runs_that_lack_a_number_are_refused(cited, runs, name, bad):
    with pytest.raises(DataError, match="stored"):
        inputs.measurements(cited, {**runs, name: bad})
    with pytest.raises(DataError, match="stored"):
        inputs.measurements(cited, {key: run for key, run in runs.items() if key != name})
