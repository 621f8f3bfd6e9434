"""What proving a whole answer of SmolLM2-135M costs, measured: data/results/answer_proofs.json.

``otr bench proof`` at several numbers of positions, greedy, and once with drawn tokens; each in a
process of its own, so that its memory is its own. One thread; half an hour, and the largest takes 8 GB.
With numbers of positions as arguments only these run again, and the others stay as they were stored.
"""

from __future__ import annotations

import json
from typing import Any

from otr_paper.producers import frame
from otr_paper.store.results import read_result

RUNS = ((16, 0), (32, 0), (64, 0), (128, 0), (64, 700))
"""Positions, and the temperature in thousandths."""
NAME = "answer_proofs"


def measure_answer(positions: int, temperature_milli: int) -> dict[str, Any]:
    """Figures of one run (``benches.proof.measure_proof``); an answer may end before it has as many
    positions as were asked."""
    words = ("bench", "proof", "--positions", str(positions), "--temperature", str(temperature_milli), "--json")
    found: dict[str, Any] = json.loads(frame.run_child("otr_core.cli", *words))
    del found["card"]  # the result's own says the same
    frame.progress(f"{positions} positions: {found['prove_cpu_s']:.0f} CPU s")
    return {"asked_positions": positions, **found}


def main() -> None:
    parser = frame.arguments(__doc__)
    parser.add_argument("positions", nargs="*", type=int, help="numbers of positions; default: all")
    named = parser.parse_args().positions
    stored = read_result(frame.checkout().results, NAME)[1]["runs"] if named else []
    kept = {(run["asked_positions"], run["temperature_milli"]): run for run in stored}
    for positions, milli in RUNS:
        if not named or positions in named:
            kept[(positions, milli)] = measure_answer(positions, milli)
    runs = [kept[each] for each in sorted(kept)]
    frame.store(NAME, {"runs": runs}, seed=None, packages=("numpy", "numba"))


if __name__ == "__main__":
    main()
