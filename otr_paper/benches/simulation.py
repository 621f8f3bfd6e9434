"""The simulation on this checkout's data: hash-checked traces or their summaries, sweeps, and the
stored studies."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from otr_core.dispute.profile import FILE, DeploymentProfile, read_profile
from otr_core.encoding import canonical_json
from otr_core.errors import InputError, MissingDataError
from otr_node import outside
from otr_node.project import Project, find_project
from otr_paper.claims import published
from otr_paper.simulation import SIMULATION, SUMMARIES, arrivals, inputs, small_scale, study, summary
from otr_paper.simulation.arrivals import Requests
from otr_paper.store.results import read_result
from otr_paper.studies.sweep import Point, run_sweep

#: Trace -> (data source, file, parser).
TRACES: Mapping[str, tuple[str, str, Callable[[str], Requests]]] = {
    "azure_conv": ("azure-llm-2023", "azure_llm_2023_conv.csv", arrivals.parse_azure),
    "azure_code": ("azure-llm-2023", "azure_llm_2023_code.csv", arrivals.parse_azure),
    "mooncake_conv": ("mooncake", "mooncake_fast25_conversation.csv", arrivals.parse_mooncake),
}
#: Seed of the requests drawn from a summary: one stand-in per trace, whatever a point's own seed.
_SUMMARY_SEED = 2023


def _known(name: str) -> tuple[str, str, Callable[[str], Requests]]:
    if name not in TRACES:
        raise InputError(f"trace: found {name!r}, expected one of {', '.join(TRACES)}")
    return TRACES[name]


def trace(project: Project, name: str) -> Requests:
    """The requests of a public trace, its hash checked now.

    Raises:
        InputError: an unknown name. MissingDataError: the trace is not here. HashMismatchError: it
            is another file.
    """
    source, file, parse = _known(name)
    return parse(outside.get(project, source, file, mirror=outside.mirror_folder()).read_text("utf-8"))


def stand_in(project: Project, name: str) -> Requests:
    """Requests drawn from the trace's summary, which ships with the project; the same ones every
    time."""
    _known(name)
    return summary.draw_requests(read_result(project.results, SUMMARIES)[1][name], _SUMMARY_SEED)


def stored_measurements(project: Project, cited: published.Published) -> inputs.Measurements:
    """What this project measured, from its stored runs."""
    return inputs.measurements(cited, {name: read_result(project.results, name)[1] for name in inputs.RUNS})


def small_run(project: Project) -> list[dict[str, Any]]:
    """The simulation beside the measured small run (see ``small_scale.comparison``)."""
    runs = {name: read_result(project.results, name)[1] for name in (*inputs.RUNS, *small_scale.RUNS)}
    return small_scale.comparison(inputs.measurements(published.load_published(project.data), runs), runs)


def simulated_systems(project: Project, requests: Requests, *, seed: int, replications: int) -> dict[str, Any]:
    """The four systems on ``requests`` (see ``study.four_systems``)."""
    cited, profile = published.load_published(project.data), read_profile(project.data / FILE)
    measured = stored_measurements(project, cited)
    return study.four_systems(cited, requests, measured, seed=seed, replications=replications, profile=profile)


def conversation(project: Project, *, mode: str, seed: int, replications: int = study.REPLICATIONS) -> dict[str, Any]:
    """The four systems on the conversation trace: the stored study, or in ``fresh`` mode made now.

    Fresh and without the trace here, it is made from the summary; ``from`` says which.
    """
    if mode == "stored":
        return {**read_result(project.results, SIMULATION)[1], "from": "trace"}
    try:
        requests, origin = trace(project, "azure_conv"), "trace"
    except MissingDataError:
        requests, origin = stand_in(project, "azure_conv"), "summary"
    return {**simulated_systems(project, requests, seed=seed, replications=replications), "from": origin}


def digest(project: Project) -> str:
    """Digest of all data a sweep point depends on beside its own parameters; part of every point,
    so that a cache made from other data is never read."""
    files = sorted((project.data / "published").glob("*.csv"))
    files += [project.results / f"{name}.json" for name in (SUMMARIES, *inputs.RUNS)]
    files.append(project.data / FILE)
    return hashlib.sha256(canonical_json([hashlib.sha256(f.read_bytes()).hexdigest() for f in files])).hexdigest()


@lru_cache(maxsize=4)
def _prepared(
    root: Path, trace_name: str
) -> tuple[published.Published, Requests, inputs.Measurements, DeploymentProfile]:
    project = Project(root)
    cited, profile = published.load_published(project.data), read_profile(project.data / FILE)
    return cited, stand_in(project, trace_name), stored_measurements(project, cited), profile


def otr_sweep_point(config: dict[str, Any], seed: int) -> dict[str, Any]:
    """``study.otr_point`` as a sweep point: ``config`` also holds ``digest``, of the data it is
    computed from.

    Raises:
        InputError: the data here has another digest.
    """
    project = find_project()
    own = {key: value for key, value in config.items() if key != "digest"}
    if config.get("digest") != (here := digest(project)):
        raise InputError(
            f"sweep point: found data digest {config.get('digest')}, expected {here}; build the points anew"
        )
    cited, requests, measured, profile = _prepared(project.root, own["trace"])
    return study.otr_point(cited, requests, measured, own, seed, profile)


def sweep_points(project: Project, changes: Sequence[Mapping[str, Any]], seed: int) -> list[Point]:
    """Sweep points: the default configuration with each set of changes."""
    here, default = digest(project), study.default_config(read_profile(project.data / FILE))
    return [Point({**default, **change, "digest": here}, seed) for change in changes]


def sweep(project: Project, changes: Sequence[Mapping[str, Any]], *, seed: int, **how: Any) -> list[dict[str, Any]]:
    """One record per set of changes: these, and what ``study.otr_point`` found, over ``study.SEEDS`` seeds.

    Args:
        seed: the first of them; the others follow it.
        how: the sweep is run, as ``run_sweep`` takes it: cache, workers, client, report.
    """
    points = [point for number in range(study.SEEDS) for point in sweep_points(project, changes, seed + number)]
    found, count = run_sweep(otr_sweep_point, points, **how), len(changes)
    return [{**change, **study.over_seeds(found[at::count])} for at, change in enumerate(changes)]


GRID: Mapping[str, Sequence[Any]] = {
    "rho": (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
    "load": (1.0, 2.0),
    "prover": ("flashprove", "stated", "zkllm70b", "ours"),
    "overhead_level": (0.05, 0.5, 0.95),
    "stake_usd": (100.0, 10_000.0),
}
"""The sweep of the issue: rate, load, prover, overhead, stake; all combinations."""


def grid(axes: Mapping[str, Sequence[Any]] = GRID) -> list[dict[str, Any]]:
    """All combinations, the last axis fastest."""
    return [dict(zip(axes, one, strict=True)) for one in itertools.product(*axes.values())]


#: Input -> (label, low end, high end) of the tornado; the rest as in ``study.DEFAULT_CONFIG``.
ENDS: Mapping[str, tuple[str, Any, Any]] = {
    "trace": ("trace: code completion / chat", "azure_code", "azure_conv"),
    "model": ("model: 8B / 70B", "llama31_8b", "llama33_70b"),
    "load": ("load: half / double", 0.5, 2.0),
    "machines": ("serving machines: 4 / 1", 4, 1),
    "overhead_level": ("TEE overhead: 5th / 95th percentile", 0.05, 0.95),
    "rho": ("ρ: 0.1 % / 5 %", 0.001, 0.05),
    "prover": ("prover: FlashProve / zkLLM at 70B", "flashprove", "zkllm70b"),
    "proof_usd": ("price of a proof: 0.0076 / 45 USD", 0.00762083, 45.0),
    "chain": ("chain: Base / L1", "Base", "L1"),
    "provers": ("provers: 400 / 80", 400, 80),
    "stake_usd": ("stake: 1 / 10,000 USD", 1.0, 10_000.0),
}


def tornado_changes() -> list[dict[str, Any]]:
    """The default point, then each input at its low and at its high end, where that differs from
    the default."""
    base = study.DEFAULT_CONFIG
    changes: list[dict[str, Any]] = [{}]
    for name, (_, *ends) in ENDS.items():
        changes += [{name: end} for end in ends if end != base[name]]
    return changes
