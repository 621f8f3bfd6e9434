"""Queueing theory, and the plain line of one job at a time: what simulated lines are held
against."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from otr_core.errors import ParameterError


def start_times(arrivals: Sequence[float], service_s: Sequence[float], servers: int) -> NDArray[np.float64]:
    """When each job starts, first come first served, on equal servers; arrivals sorted, all in
    s."""
    if servers < 1:
        raise ParameterError("servers", servers, "one or more")
    free = [0.0] * servers
    starts = np.empty(len(arrivals))
    for job, (arrival, service) in enumerate(zip(arrivals, service_s, strict=True)):
        start = max(arrival, free[0])
        heapq.heapreplace(free, start + service)
        starts[job] = start
    return starts


def erlang_c(servers: int, load: float) -> float:
    """Probability of waiting in M/M/c; ``load`` = rate x service time, below ``servers`` (Erlang
    1917)."""
    _stable(load / servers)
    blocked = 1.0
    for k in range(1, servers + 1):  # Erlang B by its recursion, which does not overflow
        blocked = load * blocked / (k + load * blocked)
    share = load / servers
    return blocked / (1.0 - share + share * blocked)


def mmc_wait_s(rate_per_s: float, service_s: float, servers: int) -> float:
    """Mean wait in M/M/c."""
    load = rate_per_s * service_s
    return erlang_c(servers, load) * service_s / (servers - load)


def md1_wait_s(rate_per_s: float, service_s: float) -> float:
    """Mean wait in M/D/1 (Pollaczek 1930, Khinchine 1932)."""
    load = rate_per_s * service_s
    _stable(load)
    return load * service_s / (2.0 * (1.0 - load))


def _stable(share: float) -> None:
    if not 0 <= share < 1:
        raise ParameterError("utilisation", share, "a share in [0, 1): the line grows without end otherwise")


def mean_number(starts: NDArray[np.float64], ends: NDArray[np.float64], low: float, high: float) -> float:
    """Mean number of jobs between ``starts`` and ``ends``, over time from ``low`` to ``high``."""
    return float((np.minimum(ends, high) - np.maximum(starts, low)).clip(0.0).sum() / (high - low))
