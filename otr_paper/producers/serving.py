"""What trace, journal and receipts cost a server of SmolLM2 in the portable lane: data/results/serving.json,
as ``otr bench serve`` measures it; some ten minutes. What else runs on the machine meets both servers, but
falls on the second core, where the trace is hashed: the load before and after is stored beside."""

from __future__ import annotations

import os

from otr_paper.benches.serving import ServingPlan, measure_serving
from otr_paper.producers import frame


def main() -> None:
    parser = frame.arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each server")
    rounds = parser.parse_args().rounds
    before = os.getloadavg()[0]
    found = measure_serving(frame.model_files(), ServingPlan(rounds))
    load = {"before": before, "after": os.getloadavg()[0]}
    frame.store(
        "serving", {**found, "load": load}, seed=None, packages=frame.MODEL_LIBRARIES, given=f"--rounds {rounds}"
    )


if __name__ == "__main__":
    main()
