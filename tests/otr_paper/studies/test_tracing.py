"""Trace cost on larger models: the arithmetic by hand, and what it depends on."""

import pytest

from otr_paper.claims import published
from otr_paper.studies import tracing


@pytest.fixture(scope="module")
def cited(project):
    return published.load_published(project.data)


def test_bytes_are_those_counted_by_hand(cited):
    small, large = tracing.trace_cost_projection(cited, hash_bytes_per_s=1e9)
    assert small["bytes_per_token"] == 32 * (4096 + 1024 + 1024) * 2
    assert large["bytes_per_token"] == 80 * (8192 + 1024 + 1024) * 2
    assert small["hash_ms"] == pytest.approx(0.393216)
    assert large["hash_ms"] == pytest.approx(1.6384)


def test_share_is_hashing_over_a_published_step(cited):
    for record in tracing.trace_cost_projection(cited, hash_bytes_per_s=1e9):
        assert record["share"] == pytest.approx(record["hash_ms"] / record["step_ms"])
        assert 5 < record["step_ms"] < 25
    twice = tracing.trace_cost_projection(cited, hash_bytes_per_s=2e9)
    assert twice[0]["share"] == pytest.approx(
        tracing.trace_cost_projection(cited, hash_bytes_per_s=1e9)[0]["share"] / 2
    )
