"""The table of peers, by hand and as stored."""

from __future__ import annotations

import math

import pytest

from otr_core.errors import DataError
from otr_paper.claims import published
from otr_paper.series import peers
from otr_paper.store.results import read_result


def row(system="ezkl", **changes):
    given = {"system": system, "work": "a", "positions": 4, "weights": 500, "prove_cpu_s": 2.0, "check_cpu_s": 0.5}
    return {**given, "proof_bytes": 3000, "peak_mb": 9.0, "setup_cpu_s": 1.5, "setup_bytes": 2e6, **changes}


def test_a_row_by_hand():
    (found,) = peers.peers({"rows": [row()]})
    assert (found["products"], found["us_weight"], found["us_product"]) == (2000, 4000.0, 1000.0)
    assert found["work"] == "a, 4 positions"
    assert (found["proof_kb"], found["setup_mb"]) == (3.0, 2.0)
    assert found["set_up"].startswith("trusted")
    with pytest.raises(DataError, match="found another"):
        peers.peers({"rows": [row("another")]})


def test_every_stored_row_is_in_the_table(project):
    found = read_result(project.results, "proof_peers")[1]
    assert len(peers.peers(found)) == len(found["rows"])


def test_what_others_printed_is_as_published(project):
    rows = peers.printed(published.load_published(project.data))
    zkllm = next(r for r in rows if r["system"] == "zkLLM" and "7B" in r["model"])
    assert (zkllm["prove_s"], zkllm["check_s"], zkllm["proof_kb"]) == (620.0, 2.36, 183.0)
    assert zkllm["us_weight"] == pytest.approx(620 / 7e9 * 1e6)
    assert "A100" in zkllm["hardware"]
    assert all(r["hardware"] for r in rows)
    assert any(math.isnan(r["proof_kb"]) for r in rows)
