"""The table of what it costs to tell nothing, by hand and as stored."""

from __future__ import annotations

import pytest

from otr_core.errors import DataError
from otr_paper.series import spotchecks
from otr_paper.store.results import read_result


def run(**changes):
    given = {"asked_positions": 64, "temperature_milli": 0, "commit_cpu_s": None, "prove_cpu_s": 10.0}
    return {**given, "check_cpu_s": 0.5, "proof_bytes": 4e6, "soundness_bits": 101.0, **changes}


def test_each_verifier_has_its_row_beside_the_one_who_holds_the_model():
    hidden = run(commit_cpu_s=7.0, prove_cpu_s=15.0, hidden_answers=16)
    others = [run(asked_positions=32), run(temperature_milli=700)]
    rows = spotchecks.hiding({"runs": [run(), run(commit_cpu_s=5.0), hidden, *others]}, positions=64)
    assert [row["tells"] for row in rows] == ["facts of rows, columns", "facts of rows, columns", "nothing"]
    assert [row["over"] for row in rows] == [1.0, 1.0, 1.5]
    assert [row["commit_s"] for row in rows] == [0.0, 5.0, 7.0]
    assert rows[2]["holds"] == "a commitment that hides, for 16 proofs"
    with pytest.raises(DataError, match="with the model held"):
        spotchecks.hiding({"runs": [hidden]}, positions=64)


def test_the_stored_runs_have_all_three(project):
    found = read_result(project.results, "answer_proofs")[1]
    rows = spotchecks.hiding(found, positions=64)
    assert [row["tells"] for row in rows].count("nothing") == 1
    assert len(rows) == 3
    assert all(row["soundness_bits"] >= 100 for row in rows)
