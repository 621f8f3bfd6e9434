"""Disputes about a real answer in the lane h100-bf16, on chain: data/results/block_disputes.json. About
ten minutes on one core.

SmolLM2-135M answers in this lane, replayed. Of two matrix products of a layer one block is false, and
all that follows from it is computed from it: the game must come down to that very block, and the contract
convict. Beside it the honest answer, against a challenger that points at one of its blocks. The other
kinds of steps are disputed on a tiny model, in tests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from random import Random
from typing import Any

from otr_core.lane.element import LAYER, program
from otr_core.lane.tensor_steps import LANE
from otr_paper.benches.block_disputes import dispute_block, false_block, honest_block
from otr_paper.benches.workbench import Served, Workbench
from otr_paper.producers import frame

SEED = 20251126
TOKENS = 64
PROMPT, TOKENS = "What is the capital of France?", 8
BLOCKS = ("attention.qkv", "output")
"""Matrix products of which one block is disputed."""


def _rows(served: Served, positions: int) -> Iterator[dict[str, Any]]:
    """One position and layer for all, so that a run of the answer rebuilds what all of them need."""
    random, d = Random(SEED), served.trees.dims
    position, layer = positions - 7, 2 * d.layers // 3
    operators = program(d, LAYER, position, 0)
    names = [operator.name for operator in operators]
    for name in BLOCKS:
        number = names.index(name)
        element = random.randrange(operators[number].length)
        step = random.randrange(operators[number].steps)
        false = false_block(served.honest, LAYER, position, layer, number, element, step)
        row = dispute_block(served, false)
        assert (row["operator"], row["element"], row["step"]) == (name, element, step)
        yield {"blocks": operators[number].steps, "change": false.value - false.honest, **row}


def main() -> None:
    parser = frame.arguments(__doc__)
    parser.add_argument("--quick", action="store_true", help="the first dispute, nothing stored")
    quick = parser.parse_args().quick
    bench = Workbench.of(frame.checkout(), report=frame.progress, lane=LANE)
    served = bench.serve(PROMPT, 2 if quick else TOKENS, trace_secret=hashlib.sha256(b"blocks").digest())
    _, inference_cpu_s = frame.timed(lambda: served.answer)
    _, commit_cpu_s = frame.timed(lambda: served.trees)
    positions = served.answer.committed.shape.positions
    frame.progress(f"{positions} positions, answered in {inference_cpu_s:.0f} CPU s, committed in {commit_cpu_s:.1f}")
    rows = []
    for row in _rows(served, positions):
        frame.progress(
            f"{row['operator']} {row['verdict']} step {row['step']} gas {row['gas_dispute']} {row['gas_leaf']}"
        )
        assert row["verdict"] == "OPERATOR_LOSES"
        rows.append({name: value for name, value in row.items() if name != "path"})
        if quick:
            return
    honest = honest_block(served, positions - 7, 2 * served.trees.dims.layers // 3, "mlp.gate_up", SEED)
    frame.progress(f"honest: {honest['verdict']} {honest['gas_dispute']}")
    assert honest["verdict"] == "CHALLENGER_LOSES"
    payload = {
        "prompt": PROMPT,
        "positions": positions,
        "answer_tokens": len(served.answer.token_ids),
        "inference_cpu_s": round(inference_cpu_s, 1),
        "commit_model_cpu_s": round(commit_cpu_s, 1),
        "disputes": rows,
        "honest": {name: value for name, value in honest.items() if name != "path"},
    }
    libraries = ("numpy", "numba", "torch", "vyper", "py-evm", "eth-tester")
    frame.store("block_disputes", payload, seed=SEED, packages=libraries, cores=1)


if __name__ == "__main__":
    main()
