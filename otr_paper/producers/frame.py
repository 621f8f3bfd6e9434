"""What all producers share: their arguments, a clock of CPU time, and the card under which a result
is stored."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from otr_core.errors import DataError
from otr_node.models import model_folder
from otr_node.project import Project, find_project
from otr_paper.press.notebook import quiet
from otr_paper.store.results import VERSIONED, card_of_now, write_result

T = TypeVar("T")
Payload = Mapping[str, Any]

ATTESTATION_LIBRARIES = ("cryptography", "signxml", "lxml", "dcap-qvl")
MODEL_LIBRARIES = ("numpy", "torch", "transformers")
#: Settings under which the libraries use no kernels wider than AVX2, as on an older processor.
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}


def checkout() -> Project:
    """The checkout that this producer belongs to."""
    return find_project(Path(__file__).parent)


def model_files() -> Path:
    """Folder of the model that is measured."""
    return model_folder(checkout(), report=progress)


def progress(line: str) -> None:
    """One line on standard error, with the CPU time of this process so far."""
    print(f"{line} ({time.process_time():.0f} CPU s)", file=sys.stderr, flush=True)


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The producer's arguments, to be added to; ``--help`` prints its docstring. Silences the
    libraries."""
    quiet()
    return argparse.ArgumentParser(
        prog=f"python -m {_program()}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def _program() -> str:
    """Dotted name of the module that was started with ``-m``."""
    started = sys.modules["__main__"].__spec__
    return started.name if started else Path(sys.argv[0]).name


def store(
    name: str,
    payload: Payload,
    *,
    seed: int | None,
    packages: tuple[str, ...] = VERSIONED,
    kind: str = "measured",
    cores: int | None = None,
    given: str = "",
) -> None:
    """Write data/results/``name``.json with its card.

    Args:
        packages: whose versions the card states. cores: how many were used, None for all.
        given: the arguments with which the same command makes this result again.

    A payload that says on which GPU it was made (facts: gpu) has it in its card.
    """
    command = f"python -m {_program()} {given}".strip()
    card = card_of_now(command, packages=packages, seed=seed, kind=kind, cores=cores)
    if "facts" in payload:
        card = replace(card, machine=f"{payload['facts']['gpu']}, {card.machine}")
    progress(f"wrote {write_result(checkout().results, name, card, payload).name}")


def store_parts(
    description: str | None,
    parts: Mapping[str, Callable[[], Payload]],
    *,
    seed: int | None,
    packages: tuple[str, ...] = VERSIONED,
) -> None:
    """Make and store the parts that the command line names, or all of them."""
    parser = arguments(description)
    parser.add_argument("part", nargs="*", help=", ".join(parts))
    named = parser.parse_args().part
    if unknown := set(named) - parts.keys():
        parser.error(f"part: found {', '.join(sorted(unknown))}, expected some of {', '.join(parts)}")
    for name in named or parts:
        store(name, parts[name](), seed=seed, packages=packages, given=name)


def timed(call: Callable[..., T], *given: Any, clock: Callable[[], float] = time.process_time) -> tuple[T, float]:
    """What ``call(*given)`` returned, and how long it took, in seconds of ``clock``."""
    started = clock()
    result = call(*given)
    return result, clock() - started


def median_cpu_ms(runs: int, call: Callable[..., object], *given: Any, warm_up: int = 0) -> float:
    """Median CPU milliseconds of ``runs`` calls, after ``warm_up`` calls that are not counted."""
    return 1000 * statistics.median([timed(call, *given)[1] for _ in range(warm_up + runs)][warm_up:])


def by_seed(seeds: Sequence[int], run: Callable[[int], Payload]) -> dict[str, Any]:
    """What ``run(seed)`` measured with each seed, under its own names the medians.

    Returns:
        every name of a run with the median of its numbers, at whatever depth; least, most: the same names with the
        least and the largest; seeds; runs: what each measured.

    Raises:
        DataError: runs that do not have one form, or differ in what is no number.
    """
    runs = [run(seed) for seed in seeds]
    ends = {"least": of_all_runs(runs, min), "most": of_all_runs(runs, max)}
    return {**of_all_runs(runs, statistics.median), **ends, "seeds": list(seeds), "runs": runs}


def of_all_runs(runs: Sequence[Any], pick: Callable[[Sequence[Any]], Any]) -> Any:
    """One value of the runs' form, each number of it picked from those of all runs.

    Raises:
        DataError: runs that do not have one form, or differ in what is no number.
    """
    first = runs[0]
    if all(isinstance(run, Mapping) and run.keys() == first.keys() for run in runs):
        return {name: of_all_runs([run[name] for run in runs], pick) for name in first}
    if all(isinstance(run, list) and len(run) == len(first) for run in runs):
        return [of_all_runs(parts, pick) for parts in zip(*runs, strict=True)]
    if all(isinstance(run, int | float) and not isinstance(run, bool) for run in runs):
        return pick(runs)
    if any(run != first for run in runs):
        found = f"{runs!r:.200}"
        raise DataError(f"runs of several seeds: found {found}, expected one form, and one value of what is no number")
    return first


def run_child(module: str, *words: str, **settings: str) -> str:
    """Standard output of ``python -m module words…`` in a process of its own, with ``settings`` in
    its environment."""
    command = [sys.executable, "-m", module, *words]
    environment = os.environ | settings
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
