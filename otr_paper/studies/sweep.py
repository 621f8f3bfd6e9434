"""Sweeps: many points, each a pure function of its parameters and seed, computed by one process or
many.

Serial, joblib and Dask give the same records in the order of the points. With a cache every
finished point is a file named by the hash of the function's code, its parameters and seed, written
whole: a killed sweep goes on where it stopped, and one whose code changed starts again. A worker
that is killed costs the time of its points: they are computed again. The code is
the source of the function's module and of every module of this project that it reaches by imports.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache as remembered
from pathlib import Path
from typing import Any

from otr_core.encoding import canonical_json
from otr_core.errors import InputError, SweepError
from otr_core.files import write_text

Function = Callable[[dict[str, Any], int], Any]
Job = tuple[int, dict[str, Any], int]
RETRIES = 5
"""Times that a point is tried again whose worker was ended."""
PROJECT = ("otr_core", "otr_node", "otr_paper")
"""Packages whose source a key covers; versions of libraries it does not."""


@remembered
def _source(module: str) -> bytes:
    """Source of a module, or nothing where there is no such module or it has no file."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return b""
    return Path(spec.origin).read_bytes() if spec and spec.origin and spec.origin.endswith(".py") else b""


def _imports(source: bytes) -> set[str]:
    """Modules of the project that a source names, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.partition(".")[0] in PROJECT}


def code_hash(function: Function) -> str:
    """Hex hash of the code that ``function`` runs: its module's source, and that of each module of the
    project it reaches by imports.

    Raises:
        InputError: its source cannot be read, so that nothing says whether a kept result is still right.
    """
    try:
        own = Path(inspect.getsourcefile(function) or "").read_bytes()
    except (OSError, TypeError) as error:
        raise InputError(f"sweep: found {function!r} without source, expected a function of a module") from error
    found, waiting = {function.__module__: own}, _imports(own)
    while waiting:
        name = waiting.pop()
        if name not in found and (source := _source(name)):
            found[name] = source
            waiting |= _imports(source)
    digest = hashlib.sha256()
    for name, source in sorted(found.items()):
        digest.update(f"{name}\0{len(source)}\0".encode() + source)
    return digest.hexdigest()


@dataclass(frozen=True)
class Point:
    """One point: parameters (plain JSON values) and a seed."""

    config: Mapping[str, Any]
    seed: int = 0

    def key(self, function: Function, code: str) -> str:
        """Hex name of this point under ``function``, whose ``code_hash`` is ``code``."""
        name = f"{function.__module__}.{function.__qualname__}"
        identity = {"function": name, "code": code, "config": dict(self.config), "seed": self.seed}
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
        yield from _on_dask(function, jobs, client)
    elif workers > 1:
        yield from _on_joblib(function, jobs, workers)
    else:
        for job in jobs:
            yield _compute(function, *job)


# Points are pure, so one lost with its worker is simply computed again elsewhere.
def _on_dask(function: Function, jobs: Sequence[Job], client: Any) -> Iterator[tuple[int, Any]]:
    from distributed import CancelledError, KilledWorker, as_completed

    futures = [client.submit(_compute, function, *job, pure=False, retries=RETRIES) for job in jobs]
    for ended, future in enumerate(as_completed(futures)):
        try:
            found = future.result()
        except (CancelledError, KilledWorker, TimeoutError, OSError) as error:
            raise _lost("scheduler or workers went", ended, len(jobs)) from error
        yield found


def _on_joblib(function: Function, jobs: Sequence[Job], workers: int) -> Iterator[tuple[int, Any]]:
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    left, lost = {job[0]: job for job in jobs}, 0
    while left:
        parallel = Parallel(n_jobs=workers, return_as="generator_unordered", batch_size="auto")
        try:
            for index, result in parallel([delayed(_compute)(function, *job) for job in left.values()]):
                del left[index]
                yield index, result
        except TerminatedWorkerError as error:
            lost += 1
            if lost > RETRIES:
                raise _lost(f"{lost} workers were ended", len(jobs) - len(left), len(jobs)) from error


def _lost(how: str, ended: int, every: int) -> SweepError:
    return SweepError(f"sweep: {how} after {ended} of {every} points, expected workers that live; a cache keeps points")


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
        InputError: fewer than one worker, or two points that are the same. SweepError: worker after
            worker was ended, or the scheduler was.
    """
    if workers < 1:
        raise InputError(f"workers: found {workers}, expected 1 or more")
    code = code_hash(function) if cache is not None else ""
    keys = [point.key(function, code) for point in points]
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
