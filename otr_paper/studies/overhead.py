"""What confidential mode costs, as a distribution: published results, each source with the same
weight.

Drawn from are throughput losses of language model serving on an H100, the GPU that is simulated, and
first-token overheads of the same sources. Results of other GPUs stand beside them where a figure
shows them, and enter no number. Left out of both, with the reason:

* the 70B rows of the 2024 table, served at 2.5 to 4.2 tokens/s: not a serving rate;
* CPU-only systems, model swapping, kernel microbenchmarks, server start, whole-request latencies:
  other quantities;
* inter-token latencies of Tinfoil 2026 (30 % to over 100 %): latency at fixed concurrency, no
  throughput;
* the paper's own 15 to 20 %: it is what is tested.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from otr_core.errors import DataError
from otr_paper.claims.published import Published, Row

_THROUGHPUT = ("tps", "qps", "global token throughput", "throughput loss range", "throughput")
_OUT = ("llama-3.1-70b", "model swapping")
GPU = "H100"
"""What overheads are drawn for: the GPU of the published serving runs."""


@dataclass(frozen=True)
class Result:
    """One published overhead: its row, its source, its GPU, and the bounds of the share lost or
    added."""

    row: str
    source: str
    gpu: str
    low: float
    high: float


def _source(row: Row) -> str:
    return row.source.split(";")[0]


def _kept(row: Row, metrics: Sequence[str]) -> bool:
    return (
        row.quantity.startswith("overhead")
        and row.level != "claim"
        and row.extra.get("metric") in metrics
        and not row.extra["gpu"].startswith("CPU")
        and not any(word in row.subject.lower() for word in _OUT)
    )


def _results(published: Published, metrics: Sequence[str], *, others: bool = False) -> tuple[Result, ...]:
    found = []
    for row in published.starting("cc"):
        if _kept(row, metrics) and row.extra["gpu"].startswith(GPU) != others:
            low, high = row.bounds("1")
            low = 0.0 if row.relation == "<" else low
            found.append(Result(row.id, _source(row), row.extra["gpu"], max(0.0, low), high))
    if not found:
        raise DataError(f"published overheads: found no row of {GPU} with metric {', '.join(metrics)}, expected some")
    return tuple(found)


def throughput_losses(published: Published) -> tuple[Result, ...]:
    """Share of throughput lost on an H100, every result kept."""
    return _results(published, _THROUGHPUT)


def other_gpus(published: Published) -> tuple[Result, ...]:
    """Share of throughput lost on other GPUs: shown beside, never drawn."""
    return _results(published, _THROUGHPUT, others=True)


def first_token_overheads(published: Published) -> tuple[Result, ...]:
    """Share of time added to the first token on an H100, every result kept."""
    return _results(published, ("ttft",))


def by_source(results: Sequence[Result]) -> Mapping[str, tuple[Result, ...]]:
    """Results of each source, sources in file order."""
    sources = dict.fromkeys(result.source for result in results)
    return {source: tuple(r for r in results if r.source == source) for source in sources}


def draw_overhead(published: Published, count: int, seed: int) -> list[tuple[float, float]]:
    """(throughput loss, first-token overhead) of ``count`` deployments.

    Each draw takes a source, one of its results, and a value inside that result's bounds, all with
    equal chance. The first token's overhead comes from the same source where it printed one, else
    from any source. The draws are stratified over the sources, so that already a few of them meet
    every source.
    """
    rng = np.random.default_rng([seed, 2])
    losses, firsts = by_source(throughput_losses(published)), by_source(first_token_overheads(published))
    sources = list(losses)
    places = (np.arange(count) + rng.random(count)) / count * len(sources)
    pairs = []
    for place in rng.permutation(places):
        source = sources[min(int(place), len(sources) - 1)]
        of_first = firsts.get(source) or firsts[list(firsts)[int(rng.integers(len(firsts)))]]
        pairs.append((_one(losses[source], rng), _one(of_first, rng)))
    return pairs


def _one(results: Sequence[Result], rng: np.random.Generator) -> float:
    result = results[int(rng.integers(len(results)))]
    return float(rng.uniform(result.low, result.high))


def quantiles(published: Published, levels: Sequence[float], seed: int = 0) -> list[tuple[float, float]]:
    """Both overheads at these levels, each of its own distribution (2,000 draws)."""
    pairs = np.array(draw_overhead(published, 2000, seed))
    return [(float(loss), float(first)) for loss, first in zip(*np.quantile(pairs, levels, axis=0).T, strict=True)]
