"""What is known of tensor-core blocks, computed: data/results/NAME.json for each part of
``python -m otr_paper.producers.blocks``.

* ``block_recordings``: the definition, and rules beside it, against what an H100 recorded (needs
  OTR_DATA_MIRROR). The recordings are others'; which of them a rule gives is computed here.
* ``block_fuzz``: 100,000 blocks of each of three seeds, at the ends of their range, the definition against its
  replays.
* ``block_contract``: the contract on the recorded bf16 blocks, on 10,000 others like those, of three seeds,
  and its gas (needs OTR_DATA_MIRROR; the EVM takes some 8 CPU ms a block).
* ``block_projections``: one token through every matrix of SmolLM2-135M, replayed, for each of three seeds: bits and
  CPU time.
* ``block_lane``: SmolLM2-135M in the lane h100-bf16, replayed: bits, CPU time, and distance from fp32.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from otr_node import outside
from otr_paper.benches.block_fuzz import compare_blocks, contract, judge_recordings, replays, summed_up
from otr_paper.benches.block_projections import measure_projections
from otr_paper.benches.blocks import RECORDINGS, agree_with_recordings, recordings
from otr_paper.benches.tensor_lane import measure_tensor_lane
from otr_paper.producers import frame

BLOCKS, JUDGED, TRANSACTIONS = 100_000, 10_000, 400
SEEDS = (1, 2, 3)


def _archive() -> Path:
    return outside.get(frame.checkout(), *RECORDINGS, mirror=outside.mirror_folder())


def _recordings() -> dict[str, Any]:
    return agree_with_recordings(_archive())


def _contract() -> dict[str, Any]:
    recorded = judge_recordings(recordings(_archive(), "bf16"), TRANSACTIONS)
    judges, each = {"contract": contract()}, -(-JUDGED // len(SEEDS))
    extreme = summed_up([compare_blocks(each, judges, seed) for seed in SEEDS])
    return {"recorded": recorded, "extreme": extreme, "seeds": SEEDS}


def _fuzz() -> dict[str, Any]:
    """The counts of all seeds, added up."""
    runs = [compare_blocks(BLOCKS, replays(), seed) for seed in SEEDS]
    added: dict[str, Any] = {name: sum(run[name] for run in runs) for name in ("blocks", "laid_by_floor")}
    for name in ("differing", "results"):
        added[name] = {key: sum(run[name][key] for run in runs) for key in runs[0][name]}
    return added | {"seeds": list(SEEDS)}


def _projections() -> dict[str, Any]:
    """What was checked of all seeds, added up; the time of one token, their median."""
    runs = [measure_projections(frame.model_files(), seed=seed) for seed in SEEDS]
    added = {name: sum(run[name] for run in runs) for name in ("checked", "differing", "threads_differing")}
    times = {name: median(run[name] for run in runs) for name in ("cpu_s", "ns_per_block")}
    return runs[0] | added | times | {"seeds": list(SEEDS)}


def _lane() -> dict[str, Any]:
    return measure_tensor_lane(frame.model_files())


PARTS = {
    "block_recordings": _recordings,
    "block_fuzz": _fuzz,
    "block_contract": _contract,
    "block_projections": _projections,
    "block_lane": _lane,
}


def main() -> None:
    frame.store_parts(__doc__, PARTS, seed=1, packages=("numpy", "numba", "torch", "vyper", "eth-tester", "py-evm"))


if __name__ == "__main__":
    main()
