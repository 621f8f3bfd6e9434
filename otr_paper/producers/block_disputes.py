"""Disputes about a real answer in the lane h100-bf16, on chain: data/results/block_disputes.json. About
six minutes of one core.

SmolLM2-135M answers in this lane, replayed. Of two matrix products of a layer one block is false, and
all that follows from it is computed from it, at a place that each of three seeds draws: the game must come
down to that very block, and the contract convict. Beside it the honest answer, against a challenger that
points at one of its blocks. The other kinds of steps are disputed on a tiny model, in tests.
"""

from __future__ import annotations

import hashlib
from itertools import product
from random import Random

from otr_core.lane.element import LAYER, program
from otr_core.lane.tensor_steps import LANE
from otr_paper.benches.block_disputes import dispute_block, false_block, honest_block, knowing
from otr_paper.benches.workbench import Workbench
from otr_paper.producers import frame

SEEDS = (20251126, 20251127, 20251128)
PROMPT, TOKENS = "What is the capital of France?", 2
BLOCKS = ("attention.qkv", "output")
"""Matrix products of which one block is disputed."""


def main() -> None:
    parser = frame.arguments(__doc__)
    parser.add_argument("--quick", action="store_true", help="one dispute of a shorter answer, nothing stored")
    quick = parser.parse_args().quick
    bench = Workbench.of(frame.checkout(), report=frame.progress, lane=LANE)
    served = bench.serve(PROMPT, 1 if quick else TOKENS, trace_secret=hashlib.sha256(b"blocks").digest())
    _, inference_cpu_s = frame.timed(lambda: served.answer)
    _, commit_cpu_s = frame.timed(lambda: served.trees)
    d, positions = served.trees.dims, served.answer.committed.shape.positions
    position, layer = positions - 2, 2 * d.layers // 3
    honest = knowing(served.run(), position, layer)
    _, replay_cpu_s = frame.timed(lambda: honest.trace)
    assert honest.trace == served.answer.trace
    frame.progress(f"{positions} positions, answered in {inference_cpu_s:.0f} CPU s, committed in {commit_cpu_s:.1f}")
    operators, rows = program(d, LAYER, position, 0), []
    names = [operator.name for operator in operators]
    draws = {seed: Random(seed) for seed in SEEDS[: 1 if quick else None]}
    for (seed, random), name in product(draws.items(), BLOCKS[: 1 if quick else None]):
        number = names.index(name)
        element, step = random.randrange(operators[number].length), random.randrange(operators[number].steps)
        false = false_block(honest, LAYER, position, layer, number, element, step)
        row = dispute_block(served, honest, false)
        frame.progress(f"{name} {row['verdict']} {row['step']} of {operators[number].steps} gas {row['gas_dispute']}")
        assert (row["operator"], row["element"], row["step"]) == (name, element, step)
        assert row["verdict"] == "OPERATOR_LOSES"
        rows.append({"seed": seed, "blocks": operators[number].steps, "change": false.tamper.delta, **row})
    right = honest_block(served, honest, position, layer, "mlp.gate_up", SEEDS[0])
    frame.progress(f"honest: {right['verdict']} gas {right['gas_dispute']}")
    assert right["verdict"] == "CHALLENGER_LOSES"
    if quick:
        return
    for each in (*rows, right):
        del each["path"], each["inferences_fisherman"], each["inferences_operator"]
    payload = {
        "seeds": SEEDS,
        "prompt": PROMPT,
        "positions": positions,
        "answer_tokens": len(served.answer.token_ids),
        "inference_cpu_s": round(inference_cpu_s, 1),
        "replay_cpu_s": round(replay_cpu_s, 1),
        "commit_model_cpu_s": round(commit_cpu_s, 1),
        "disputes": rows,
        "honest": right,
    }
    libraries = ("numpy", "numba", "torch", "vyper", "py-evm", "eth-tester")
    frame.store("block_disputes", payload, seed=SEEDS[0], packages=libraries, cores=1)


if __name__ == "__main__":
    main()
