"""What proving a whole answer of SmolLM2-135M costs, measured: data/results/answer_proofs.json.

``otr bench proof`` at several numbers of positions, greedy, and once with drawn tokens; each in a
process of its own, so that its memory is its own. One thread; half an hour, and the largest takes 8 GB.
"""

from __future__ import annotations

import json
from typing import Any

from otr_paper.producers import frame

POSITIONS = (64, 16, 32, 128)
DRAWN = (64, 700)


def measure_answers() -> list[dict[str, Any]]:
    """Figures of each run (``benches.proof.measure_proof``), in the order in which they ran."""
    found = []
    for positions, milli in [*((n, 0) for n in POSITIONS), DRAWN]:
        words = ("bench", "proof", "--positions", str(positions), "--temperature", str(milli), "--json")
        measured = json.loads(frame.run_child("otr_core.cli", *words))
        del measured["card"]  # the result's own says the same
        found.append(measured)
        frame.progress(f"{positions} positions: {measured['prove_cpu_s']:.0f} CPU s")
    return found


def main() -> None:
    frame.arguments(__doc__).parse_args()
    runs = measure_answers()
    frame.store("answer_proofs", {"runs": runs}, seed=1, packages=("numpy", "numba"), cores=1)


if __name__ == "__main__":
    main()
