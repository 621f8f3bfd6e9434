"""What proving a whole answer of SmolLM2-135M costs, measured: data/results/answer_proofs.json.

``otr bench proof`` at several numbers of positions, greedy, once with drawn tokens, once for a
verifier who holds a commitment to the model, and once under one that hides it; each in a process of
its own, so that its memory is its own. One thread; half an hour, and the largest takes 8 GB. With
numbers of positions as arguments only these run again, with --committed only those of that verifier;
others stay as they were stored.
"""

from __future__ import annotations

import json
from typing import Any

from otr_paper.producers import frame
from otr_paper.store.results import read_result

HELD = [(positions, milli, False, 0) for positions, milli in ((16, 0), (32, 0), (64, 0), (128, 0), (64, 700))]
RUNS = (*HELD, (64, 0, True, 0), (64, 0, True, 16))
"""Positions, the temperature in thousandths, whether the verifier holds a commitment to the model, and in how many
answers that hides it."""
NAME = "answer_proofs"


def measure_answer(positions: int, temperature_milli: int, committed: bool, hidden_answers: int) -> dict[str, Any]:
    """Figures of one run (``benches.proof.measure_proof``); an answer may end before it has as many
    positions as were asked."""
    words: tuple[str, ...] = (
        "bench",
        "proof",
        "--positions",
        str(positions),
        "--temperature",
        str(temperature_milli),
        "--json",
    )
    words += ("--committed",) * committed + ("--hide", str(hidden_answers)) * (hidden_answers > 0)
    found: dict[str, Any] = json.loads(frame.run_child("otr_core.cli", *words))
    del found["card"]  # the result's own says the same
    frame.progress(f"{positions} positions: {found['prove_cpu_s']:.0f} CPU s")
    return {"asked_positions": positions, **found}


def _which(run: dict[str, Any]) -> tuple[int, int, bool, int]:
    committed, hidden = run["commit_cpu_s"] is not None, run.get("hidden_answers", 0)
    return run["asked_positions"], run["temperature_milli"], committed, hidden


def main() -> None:
    parser = frame.arguments(__doc__)
    parser.add_argument("positions", nargs="*", type=int, help="numbers of positions; default: all")
    parser.add_argument("--committed", action="store_true", help="only for a verifier who holds no weights")
    given = parser.parse_args()
    named = given.positions or given.committed
    stored = read_result(frame.checkout().results, NAME)[1]["runs"] if named else []
    kept = {_which(run): run for run in stored}
    measure_answer(*RUNS[0])  # not counted: loops that have changed since are compiled in it
    for run in RUNS:
        if not named or run[0] in given.positions or (given.committed and run[2]):
            kept[run] = measure_answer(*run)
    runs = [kept[each] for each in sorted(kept)]
    frame.store(NAME, {"runs": runs}, seed=None, packages=("numpy", "numba"))


if __name__ == "__main__":
    main()
