"""Simulate again what data/results stores: trace summaries, the four systems on the traces, the
sweep, the tornado.

Without the traces (OTR_DATA_MIRROR) the first two stay as they are. The sweep resumes from
build/simulation.
"""

from __future__ import annotations

import resource

from otr_core.errors import MissingDataError
from otr_node.project import Project
from otr_paper.benches import simulation
from otr_paper.producers import frame
from otr_paper.simulation import SIMULATION, SUMMARIES, SWEEP, study, summary

SEED = 20251223
LIBRARIES = ("numpy", "scipy", "joblib")


def _replay_traces(project: Project) -> None:
    """The summaries and the four systems, which need the traces themselves."""
    try:
        traces = {name: simulation.trace(project, name) for name in simulation.TRACES}
    except MissingDataError as error:
        frame.progress(f"skipped, the stored summaries and studies stay: {error}")
        return
    payload = {name: summary.summarise(requests) for name, requests in traces.items()}
    frame.store(SUMMARIES, payload, seed=None, packages=LIBRARIES, kind="recomputed", cores=2)

    drawn = {"seed": SEED, "replications": study.REPLICATIONS}
    found, cpu_s = frame.timed(lambda: simulation.simulated_systems(project, traces["azure_conv"], **drawn))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    code = simulation.simulated_systems(project, traces["azure_code"], **drawn)
    usage = {"cpu_s": round(cpu_s, 2), "peak_mb": round(peak_mb, 1)}
    frame.progress(f"four systems on {len(traces['azure_conv'])} requests: {usage}")
    payload = {**found, "code": code, "usage": usage}
    frame.store(SIMULATION, payload, seed=SEED, packages=LIBRARIES, kind="simulated", cores=2)


def _report(done: int, all_points: int) -> None:
    if done % 50 == 0 or done == all_points:
        frame.progress(f"sweep: {done} of {all_points}")


def main() -> None:
    frame.arguments(__doc__).parse_args()
    project = frame.checkout()
    _replay_traces(project)
    cache = project.build / "simulation"
    found = {
        name: simulation.sweep(project, changes, seed=SEED, cache=cache, workers=2, report=_report)
        for name, changes in (("grid", simulation.grid()), ("tornado", simulation.tornado_changes()))
    }
    frame.store(SWEEP, found, seed=SEED, packages=LIBRARIES, kind="simulated", cores=2)


if __name__ == "__main__":
    main()
