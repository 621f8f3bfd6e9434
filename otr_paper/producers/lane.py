"""What the portable lane costs and keeps, measured: data/results/NAME.json for each part of
``python -m otr_paper.producers.lane``.

* ``lane_bench``: ``otr bench lane`` of SmolLM2-135M and of one layer 4,096 wide, and how cost grows with
  context and width, and without instructions that this processor has; medians of three seeds of the tokens
  and of a layer's weights. Minutes; on a machine that does nothing else.
* ``lane_bits``: the same bits on every instruction set and in every way of feeding: SmolLM2-135M over
  80 positions, a tiny model over 40, without compilation too, and over 8,192.
* ``lane_steps``: 100,000 random steps of each primitive, of three seeds, the definition against the lane.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from otr_paper.benches.block_fuzz import summed_up
from otr_paper.benches.lane import LanePlan, measure_capped, measure_growth, measure_lane, measure_memory
from otr_paper.benches.lane_bits import MACHINES, measure_bits
from otr_paper.benches.lane_steps import compare_steps
from otr_paper.labs.tiny import TINY, tiny_tensors, write_tiny
from otr_paper.producers import frame

CONTEXTS, WIDTHS = (100, 400, 1600), (1024, 2048)
STEPS, SEEDS = 100_000, (1, 2, 3)
LONG = 8192


def _bench_of(seed: int) -> dict[str, Any]:
    folder, plan, fewer = frame.model_files(), LanePlan(seed=seed), LanePlan(rounds=5, seed=seed)
    measured = measure_lane(folder, plan)
    frame.progress(f"seed {seed}: lanes measured")
    growth = measure_growth(folder, CONTEXTS, WIDTHS, fewer)
    frame.progress(f"seed {seed}: growth measured")
    capped = measure_capped(folder, fewer, ("AVX-512 without VNNI", "AVX2", "SSE4.1"))
    return {**measured, "memory": measure_memory(folder), "growth": growth, "capped": capped}


def _lane_bits() -> dict[str, Any]:
    found = {}
    with TemporaryDirectory() as folder:
        for name, positions, machines in (
            ("tiny", 40, tuple(MACHINES)),
            ("long", LONG, ("as it is", "AVX2")),
        ):
            architecture = replace(TINY, context=max(TINY.context, positions + 100))
            at = write_tiny(Path(folder) / name, architecture, tiny_tensors(architecture, seed=4))
            found[name] = measure_bits(at, positions, machines)
            frame.progress(f"{name} compared")
    compiled = [name for name in MACHINES if name != "no compilation"]
    found["smollm2"] = measure_bits(frame.model_files(), 80, compiled)
    return found


def _lane_steps() -> dict[str, Any]:
    """The counts of all seeds, added up."""
    runs = [compare_steps(-(-STEPS // len(SEEDS)), seed) for seed in SEEDS]
    return {**summed_up(runs), "seeds": SEEDS}


PARTS = {
    "lane_steps": _lane_steps,
    "lane_bits": _lane_bits,
    "lane_bench": lambda: frame.by_seed(SEEDS, _bench_of),
}


def main() -> None:
    frame.store_parts(__doc__, PARTS, seed=1, packages=(*frame.MODEL_LIBRARIES, "numba"))


if __name__ == "__main__":
    main()
