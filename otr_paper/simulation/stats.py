"""Mean, median and 99th percentile with confidence intervals that respect how requests hang
together in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from otr_core.errors import ParameterError
from otr_paper.simulation.run import KINDS, SimulationRun

LEVEL = 0.95
_STATISTICS = ("mean", "p50", "p99")


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval, s."""

    value: float
    low: float
    high: float


def _statistics(values: NDArray[np.float64]) -> tuple[float, float, float]:
    p50, p99 = np.quantile(values, (0.5, 0.99))
    return float(values.mean()), float(p50), float(p99)


def estimates(replications: Sequence[NDArray[np.float64]], seed: int, resamples: int = 100) -> dict[str, Estimate]:
    """Mean, p50 and p99 over one or more replications, each a series in order of time.

    The value is the mean of the replications' own values. The interval covers the differences
    between replications as well as the chance within each: circular blocks of sqrt(n) consecutive
    values are drawn again, so that requests which waited for one another stay together (Politis and
    Romano 1992).

    Raises:
        ParameterError: no replication, or an empty one.
    """
    if not replications or min(len(series) for series in replications) == 0:
        raise ParameterError(
            "replications", [len(series) for series in replications], "one or more, none of them empty"
        )
    rng = np.random.default_rng([seed, 4])
    each = max(1, round(resamples / len(replications)))
    drawn: list[tuple[float, float, float]] = []
    for series in replications:
        count = len(series)
        block = max(1, round(count**0.5))
        steps = np.arange(block)
        for _ in range(each):
            starts = rng.integers(0, count, -(-count // block))
            drawn.append(_statistics(series[(starts[:, None] + steps).ravel()[:count] % count]))
    values = np.mean([_statistics(series) for series in replications], axis=0)
    tails = np.quantile(np.array(drawn), ((1 - LEVEL) / 2, (1 + LEVEL) / 2), axis=0)
    return {
        name: Estimate(float(value), float(min(low, value)), float(max(high, value)))
        for name, value, low, high in zip(_STATISTICS, values, *tails, strict=True)
    }


def table(runs: Sequence[SimulationRun], seed: int) -> list[dict[str, object]]:
    """One record a kind of latency, over one system's replications: value, low, high of mean, p50,
    p99; or why not.

    A kind that is unstable in any replication is unstable.
    """
    records: list[dict[str, object]] = []
    for kind in KINDS:
        reasons = [run.unstable[kind] for run in runs if kind in run.unstable]
        series = [run.latency_s[kind] for run in runs if kind in run.latency_s]
        if reasons:
            records.append({"system": runs[0].system.name, "kind": kind, "unstable": reasons[0]})
        elif len(series) == len(runs):
            found: Mapping[str, Estimate] = estimates(series, seed)
            record: dict[str, object] = {"system": runs[0].system.name, "kind": kind, "unstable": ""}
            records.append(record | {name: asdict(estimate) for name, estimate in found.items()})
    return records
