"""The machines that make proofs.

Proofs wait in one line, first come first served; a machine makes one batch of them at a time.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from otr_core.errors import ParameterError


def batch_end_times(arrivals: Sequence[float], service_s: float, size: int, servers: int) -> NDArray[np.float64]:
    """When each job ends if a server takes up to ``size`` waiting jobs at once and needs
    ``service_s`` for any batch.

    A free server starts with whoever waits; it does not wait for the batch to fill.
    """
    if size < 1 or servers < 1:
        raise ParameterError("size, servers", (size, servers), "one or more each")
    free = [0.0] * servers
    ends = np.empty(len(arrivals))
    job = 0
    while job < len(arrivals):
        start = max(arrivals[job], free[0])
        batch = job + 1
        while batch < len(arrivals) and batch - job < size and arrivals[batch] <= start:
            batch += 1
        ends[job:batch] = start + service_s
        heapq.heapreplace(free, start + service_s)
        job = batch
    return ends


def utilisation(rate_per_s: float, service_s: float, servers: int, size: int = 1) -> float:
    """Offered work over what the servers can do; 1 or more cannot be carried."""
    return rate_per_s * service_s / (servers * size)


def servers_for(rate_per_s: float, service_s: float, most_utilisation: float, size: int = 1) -> int:
    """Fewest servers that stay at or below ``most_utilisation``."""
    if not 0 < most_utilisation < 1:
        raise ParameterError("most_utilisation", most_utilisation, "a share in (0, 1)")
    return max(1, math.ceil(rate_per_s * service_s / (size * most_utilisation) - 1e-9))
