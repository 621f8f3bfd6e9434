"""Sweeps: many points, each a pure function of its parameters and seed, computed by one process or
many.

Serial, joblib and Dask give the same records in the order of the points. With a cache every
finished point is a file named by the hash of function, parameters and seed, written whole: a killed
sweep goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otr_core.encoding import canonical_json
from otr_core.errors import InputError
from otr_core.files import write_text

Function = Callable[[dict[str, Any], int], Any]


@dataclass(frozen=True)
class Point:
    """One point: parameters (plain JSON values) and a seed."""

    config: Mapping[str, Any]
    seed: int = 0

    def key(self, function: Function) -> str:
        """Hex name of this point under ``function``."""
        name = f"{function.__module__}.{function.__qualname__}"
        identity = {"function": name, "config": dict(self.config), "seed": self.seed}
        return hashlib.sha256(canonical_json(identity)).hexdigest()


def _cached(path: Path) -> tuple[bool, Any]:
    try:
        return True, json.loads(path.read_text(encoding="utf-8"))["result"]
    except (OSError, ValueError, KeyError, TypeError):
        return False, None  # absent or damaged: computed again


def _compute(function: Function, index: int, config: dict[str, Any], seed: int) -> tuple[int, Any]:
    # Through JSON and back, so that a fresh record equals a cached one.
    return index, json.loads(json.dumps(function(config, seed)))


def _results(
    function: Function, todo: Sequence[tuple[int, Point]], workers: int, client: Any
) -> Iterator[tuple[int, Any]]:
    jobs = [(index, dict(point.config), point.seed) for index, point in todo]
    if client is not None:
        from distributed import as_completed

        # Points are pure, so one lost with its worker is simply computed again elsewhere.
        futures = [client.submit(_compute, function, *job, pure=False, retries=5) for job in jobs]
        for future in as_completed(futures):
            yield future.result()
    elif workers > 1:
        from joblib import Parallel, delayed

        parallel = Parallel(n_jobs=workers, return_as="generator_unordered", batch_size="auto")
        yield from parallel(delayed(_compute)(function, *job) for job in jobs)
    else:
        for job in jobs:
            yield _compute(function, *job)


def run_sweep(
    function: Function,
    points: Sequence[Point],
    *,
    cache: Path | None = None,
    workers: int = 1,
    client: Any = None,
    report: Callable[[int, int], None] | None = None,
) -> list[Any]:
    """``function`` of every point, in the order of ``points``.

    Args:
        function: importable, pure, ``(config, seed) -> JSON value``.
        cache: folder for finished points; None computes all.
        workers: joblib processes, 1 for this one only.
        client: a Dask client, which then does the work instead.
        report: called with (done, all) after each point.

    Raises:
        InputError: fewer than one worker, or two points that are the same.
    """
    if workers < 1:
        raise InputError(f"workers: found {workers}, expected 1 or more")
    keys = [point.key(function) for point in points]
    if len(set(keys)) != len(keys):
        raise InputError(f"sweep: found {len(keys) - len(set(keys))} points twice, expected each once")
    records: dict[int, Any] = {}
    for index, key in enumerate(keys):
        if cache is not None:
            known, result = _cached(cache / f"{key}.json")
            if known:
                records[index] = result
    todo = [(index, point) for index, point in enumerate(points) if index not in records]
    for index, result in _results(function, todo, workers, client):
        records[index] = result
        if cache is not None:
            point = points[index]
            entry = {"config": dict(point.config), "seed": point.seed, "result": result}
            write_text(cache / f"{keys[index]}.json", json.dumps(entry, sort_keys=True) + "\n")
        if report is not None:
            report(len(records), len(points))
    return [records[index] for index in range(len(points))]
