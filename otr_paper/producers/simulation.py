"""Simulate again what data/results stores: trace summaries, the four systems on the traces, the sweep, the tornado.

``python -m otr_paper.producers.simulation`` (`make bench`). Without the traces (OTR_DATA_MIRROR) the first two stay as
they are. The sweep resumes from build/simulation.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

from otr_core.errors import MissingDataError
from otr_node.project import Project, find_project
from otr_paper.benches import simulation
from otr_paper.simulation import SIMULATION, SUMMARIES, SWEEP, study, summary
from otr_paper.store.results import Card, this_machine, versions, write_result

SEED = 20251223
COMMAND = "python -m otr_paper.producers.simulation"


def card(kind: str, seed: int | None) -> Card:
    date = time.strftime("%Y-%m-%d", time.gmtime())
    return Card(COMMAND, date, this_machine(2), versions(("numpy", "scipy", "joblib")), seed, kind)


def replay_trace(project: Project) -> None:
    """The summaries and the four systems, which need the traces themselves."""
    try:
        traces = {name: simulation.trace(project, name) for name in simulation.TRACES}
    except MissingDataError as error:
        print(f"skipped, the stored summaries and studies stay: {error}")
        return
    payload = {name: summary.summarise(requests) for name, requests in traces.items()}
    write_result(project.results, SUMMARIES, card("recomputed", None), payload)

    before = time.process_time()
    found = simulation.simulated_systems(project, traces["azure_conv"], seed=SEED, replications=study.REPLICATIONS)
    cpu_s = time.process_time() - before
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    code = simulation.simulated_systems(project, traces["azure_code"], seed=SEED, replications=study.REPLICATIONS)
    print(f"four systems on {len(traces['azure_conv'])} requests: {cpu_s:.1f} CPU s, {peak_mb:.0f} MB at most")
    usage = {"cpu_s": round(cpu_s, 2), "peak_mb": round(peak_mb, 1)}
    write_result(project.results, SIMULATION, card("simulated", SEED), {**found, "code": code, "usage": usage})


def main() -> None:
    project = find_project(Path(__file__).parent)
    replay_trace(project)

    def report(done: int, all_points: int) -> None:
        if done % 50 == 0 or done == all_points:
            print(f"sweep: {done} of {all_points}", file=sys.stderr)

    cache = project.build / "simulation"
    found = {
        name: simulation.sweep(project, changes, seed=SEED, cache=cache, workers=2, report=report)
        for name, changes in (("grid", simulation.grid()), ("tornado", simulation.tornado_changes()))
    }
    write_result(project.results, SWEEP, card("simulated", SEED), found)


if __name__ == "__main__":
    main()
