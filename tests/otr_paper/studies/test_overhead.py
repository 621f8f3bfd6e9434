"""Published overheads of confidential computing: which count, and how they are drawn."""

from __future__ import annotations

import pytest

from otr_core.errors import DataError
from otr_paper.claims import published
from otr_paper.studies import overhead


@pytest.fixture(scope="module")
def cited(project):
    """The published numbers."""
    return published.load_published(project.data)


def test_overheads_kept_and_left_out(cited):
    kept = {result.row for result in overhead.throughput_losses(cited)}
    assert {"cc01", "cc26", "cc28", "cc29", "cc30"} <= kept
    assert all(result.gpu.startswith("H100") for result in overhead.throughput_losses(cited))
    others = {result.row for result in overhead.other_gpus(cited)}
    assert {"cc13", "cc33", "cc37.gpu1", "cc39"} <= others
    assert not kept & others
    left_out = {
        "cc09",
        "cc10",
        "cc21",
        "cc22",
        "cc31.throughput",
        "cc32",
        "cc35",
        "cc40",
        "cc42",
        "cc34.high_concurrency",
    }
    assert not left_out & (kept | others)
    firsts = {result.row for result in overhead.first_token_overheads(cited)}
    assert "cc25" in firsts
    assert not {"cc11", "cc15", "cc23", "cc38", "cc47.ttft"} & firsts


def test_overhead_draws_lie_in_the_published_bounds_and_give_sources_one_weight(cited):
    pairs = overhead.draw_overhead(cited, 6000, 3)
    losses = overhead.throughput_losses(cited)
    assert all(any(r.low <= loss <= r.high for r in losses) for loss, _ in pairs)
    sources = overhead.by_source(losses)
    small = sum(loss <= 0.04 for loss, _ in pairs) / len(pairs)
    # two of the four results of one source lie at or below 4 %, and no other's
    assert [sum(r.high <= 0.04 for r in results) / len(results) for results in sources.values()] == [0.5, 0, 0]
    assert small == pytest.approx(0.5 / len(sources), rel=0.08)
    assert overhead.draw_overhead(cited, 5, 3) == overhead.draw_overhead(cited, 5, 3)
    assert overhead.draw_overhead(cited, 5, 3) != overhead.draw_overhead(cited, 5, 4)


def test_without_published_overheads_nothing_is_drawn(cited):
    class Empty:
        def starting(self, prefix):
            return []

    with pytest.raises(DataError, match="overheads"):
        overhead.throughput_losses(Empty())
