"""The whole way on the real model: a unit proven and verified, forgeries refused, weights' points,
stored tables."""

from __future__ import annotations

import pytest

from otr_core.spotcheck import proofs
from otr_node import prover
from otr_node.spotchecks import weight_points
from otr_paper.benches.spotchecks import checked
from otr_paper.labs import spotchecks
from otr_paper.store.results import read_result

pytestmark = [pytest.mark.model, pytest.mark.slow]


@pytest.fixture(scope="module")
def lab(bench):
    honest = checked(bench, "Ada lives in Lisbon. Where does Ada live?", tokens=3)
    return spotchecks.Lab(bench, honest, honest, 9, 4, b"r" * 32)


def test_an_honest_unit_is_proven_and_accepted(lab):
    challenge, response = spotchecks.honest_response(lab)
    lab.verifier.verify(challenge, response)
    assert len(response.proof.raw) <= 4096
    assert response.proof.violation == 0


FORGERIES = ("wrong output", "edited instance", "reused proof", "lenient circuit", "key of another shape")


@pytest.mark.parametrize("name", FORGERIES)
def test_forgeries_are_refused_for_their_reason(lab, name):
    row = spotchecks.run_spot_attacks(lab, [name])[0]
    assert row["refused_by"] == row["expected"]


def test_a_block_of_weights_has_its_own_points(bench):
    """The points of many blocks, made in one call, are those a verifier makes of each block's
    weights alone."""
    blocks = [(4, "v", block) for block in range(3)]
    points, _ = weight_points(bench.portable, bench.layout, blocks, bench.circuits)
    assert points == {block: bench.registered(*block) for block in blocks}
    assert len(set(points.values())) == len(blocks)


def test_without_a_second_draw_the_fault_goes_elsewhere(lab):
    """Why rows come before the unit: an operator who knows the unit puts the fault into another one
    and passes."""
    said = lab.statement(lab.challenge())
    elsewhere = {"up": lab.rows["up"] + 5, "mlp.product": lab.rows["mlp.product"] + 1}
    moved = lab.statement(lab.challenge(lab.rows | elsewhere))
    assert said.violation() == moved.violation() == 0


def test_the_stored_tables_say_what_the_code_says(project):
    rows = {row["attack"]: row for row in read_result(project.results, "spot_attacks")[1]["rows"]}
    assert set(rows) == {"none", *spotchecks.ATTACKS}
    for name, (_, expected) in spotchecks.ATTACKS.items():
        assert rows[name]["expected"] == expected
        assert rows[name]["right"] == rows[name]["trials"] >= 3
    honest = read_result(project.results, "spot_honest")[1]
    assert honest["places"] >= 200
    assert honest["proofs"] >= 5
    assert honest["nonzero_violations"] == honest["refused"] == 0
    costs = read_result(project.results, "proof_cost")[1]["rows"]
    assert len({row["rows_used"] for row in costs}) >= 8
    small = next(row for row in costs if (row["rows"], row["columns"]) == (8, 576))
    assert small["prove_cpu_s"] <= 8
    assert small["verify_cpu_s"] <= 0.1
    assert small["proof_bytes"] <= 4096
    assert small["prove_peak_mb"] <= 1024
    assert small["k"] == prover.make_circuit(proofs.Shape(8, 576), project.build / "spotcheck").k
