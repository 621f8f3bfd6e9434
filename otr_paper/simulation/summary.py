"""A trace boiled down to figures that may ship with the project, and requests drawn from them when
it is absent.

Kept: the number of requests in each ten seconds, quantiles of prompt and answer lengths, and the
rank correlation of the two. Drawn requests reproduce the load over time and both length
distributions; the order inside ten seconds, and any dependence between consecutive requests, is
lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

import numpy as np

from otr_core.errors import TraceError
from otr_paper.simulation.arrivals import Requests

BIN_S = 10.0
#: Where the length distributions are kept: every per cent, and the tails.
LEVELS = tuple(sorted({0.0, 0.0005, 0.001, 0.005, 0.995, 0.999, 0.9995, 1.0, *(k / 100 for k in range(1, 100))}))
_KEYS = ("requests", "duration_s", "per_bin", "tokens_in", "tokens_out", "rank_correlation")


def summarise(requests: Requests) -> dict[str, Any]:
    """The figures kept of a trace (plain JSON): counts per bin, quantiles at ``LEVELS``, Spearman's
    correlation."""
    from scipy.stats import spearmanr

    edges = np.arange(0.0, requests.duration_s + BIN_S, BIN_S)
    gaps = np.diff(requests.arrival_s)
    return {
        "requests": len(requests),
        "duration_s": round(requests.duration_s, 6),
        "gap_cv2": round(float(gaps.var() / gaps.mean() ** 2), 6),
        "mean_tokens_in": round(float(requests.tokens_in.mean()), 6),
        "mean_tokens_out": round(float(requests.tokens_out.mean()), 6),
        "per_bin": [int(n) for n in np.histogram(requests.arrival_s, bins=edges)[0]],
        "tokens_in": [round(float(v), 3) for v in np.quantile(requests.tokens_in, LEVELS)],
        "tokens_out": [round(float(v), 3) for v in np.quantile(requests.tokens_out, LEVELS)],
        "rank_correlation": round(float(spearmanr(requests.tokens_in, requests.tokens_out).statistic), 6),
    }


def draw_requests(summary: Mapping[str, Any], seed: int) -> Requests:
    """Requests with the load and the lengths of a summary: uniform inside each bin, lengths by a
    Gaussian copula.

    Raises:
        TraceError: a key is missing, or the counts do not add up.
    """
    if missing := [key for key in _KEYS if key not in summary]:
        raise TraceError("columns", 0, f"{missing} missing", f"a summary with {', '.join(_KEYS)}")
    counts, total = np.array(summary["per_bin"]), int(summary["requests"])
    if (counts < 0).any() or counts.sum() != total:
        raise TraceError("length", 0, f"counts of {counts.sum()} requests", f"{total}")
    rng = np.random.default_rng([seed, 1])
    starts = np.repeat(np.arange(len(counts)) * BIN_S, counts)
    span = np.minimum(BIN_S, summary["duration_s"] - starts)
    times = np.sort(starts + span * rng.random(total))
    # Spearman's r of a Gaussian copula is 6/pi asin(rho/2)
    rho = 2.0 * np.sin(np.pi * summary["rank_correlation"] / 6.0)
    first = rng.standard_normal(total)
    second = rho * first + np.sqrt(1.0 - rho**2) * rng.standard_normal(total)
    # the normal distribution function on a grid: a copula needs no more, and scipy stays out
    grid = np.linspace(-8.0, 8.0, 1601)
    levels = np.array([NormalDist().cdf(z) for z in grid])
    tokens = [
        np.maximum(1, np.rint(np.interp(np.interp(z, grid, levels), LEVELS, summary[key]))).astype(np.int64)
        for z, key in ((first, "tokens_in"), (second, "tokens_out"))
    ]
    return Requests(times - times[0], tokens[0], tokens[1])
