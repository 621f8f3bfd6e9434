"""How the cost of a proof of a whole answer grows with a model, measured: data/results/proof_growth.json.

Models of random weights, of rising width and number of layers, up to one layer of a Llama of 7 billion weights over
64 positions; each in a process of its own, so that its memory is its own. One thread; five minutes, 4 GB.
"""

from __future__ import annotations

import json
import os
from typing import Any

from otr_paper.benches.proof import ShapePlan, measure_shape
from otr_paper.producers import frame

SHAPES = ((512, 1, 64), (1024, 1, 16), (1024, 1, 64), (1024, 4, 64), (2048, 1, 64), (4096, 1, 16), (4096, 1, 64))
"""Width, layers, positions."""
NAME = "proof_growth"


def measure(shape: tuple[int, ...]) -> dict[str, Any]:
    """Figures of one shape (``benches.proof.measure_shape``), measured in another process."""
    load = os.getloadavg()[0]
    words = (str(number) for number in shape)
    found: dict[str, Any] = json.loads(frame.run_child("otr_paper.producers.proof_growth", "--shape", *words))
    frame.progress(f"{shape}: {found['prove_cpu_s']:.1f} CPU s")
    return {**found, "load_before": load}


def main() -> None:
    parser = frame.arguments(__doc__)
    parser.add_argument("--shape", nargs=3, type=int, help="measure this one alone, and print it")
    shape = parser.parse_args().shape
    if shape:
        print(json.dumps(measure_shape(ShapePlan(*shape), frame.progress)))
        return
    rows = [measure(each) for each in SHAPES]
    frame.store(NAME, {"rows": rows}, seed=0, packages=("numpy", "numba"))


if __name__ == "__main__":
    main()
