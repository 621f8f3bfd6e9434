"""Fleets, exact and played: data/results/fleet.json. A few CPU seconds.

Each of the fleets is drawn at random from wide ranges; the exact means of what becomes final, is served,
slashed, earned and left uninsured stand against those of plays in which every party draws its answers.
"""

from __future__ import annotations

import json

from otr_paper.producers import frame
from otr_paper.studies.fleet import agreement, fleet_point
from otr_paper.studies.sweep import Point, run_sweep

FLEETS, RUNS = 1200, 400


def main() -> None:
    frame.arguments(__doc__).parse_args()
    points = [Point({"runs": RUNS}, seed=seed) for seed in range(FLEETS)]
    payload = {"runs": RUNS, **agreement(run_sweep(fleet_point, points))}
    frame.progress(json.dumps(payload))
    frame.store("fleet", payload, seed=0, packages=("numpy",), kind="simulated", cores=1)


if __name__ == "__main__":
    main()
