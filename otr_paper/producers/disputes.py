"""Disputes about a real answer, on chain: data/results/disputes.json. About five minutes of one core.

For every operator of a layer, for what the trace holds, and for the choice of a token: an answer of
SmolLM2 with one value changed there (the smallest power of two that reaches the trace), disputed to
a verdict by transactions. Where, each of three seeds draws. Beside them one dispute, always about the same
value, with trees of several arities.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from random import Random
from typing import Any

from otr_core.lane import program as pr
from otr_paper.benches.disputes import PROMPT, TOKENS, TRACE_SECRET
from otr_paper.benches.workbench import Served, Workbench
from otr_paper.producers import frame
from otr_paper.studies import dispute_costs
from otr_paper.studies.dispute_costs import TERMS

SEEDS = (20251123, 20251124, 20251125)


def _changed_values(served: Served, positions: int, numbers: Iterable[int], random: Random) -> Iterator[dict[str, Any]]:
    """One dispute per operator of a layer: its row, the path to the step included."""
    d = served.trees.dims
    operators = pr.layer_program(d, positions - 1)
    for number in numbers:
        place = random.randrange(positions // 2, positions), random.randrange(1, d.layers)
        element = random.randrange(pr.layer_program(d, place[0])[number].length)
        if number in (pr.LayerOperator.SCORES, pr.LayerOperator.EXPS, pr.LayerOperator.WEIGHTS):
            # a place that attention has seen, not padding
            padded = d.padded(place[0] + 1)
            element = element // padded * padded + random.randrange(place[0] + 1)
        tamper = served.effective(*place, number, element)
        row = served.dispute(served.run(tamper))
        assert (row["position"], row["layer"], row["operator"]) == (*place, operators[number].name)
        assert row["verdict"] == "OPERATOR_LOSES"
        frame.progress(f"{number} {row['operator']} {row['verdict']} {row['rounds']} {row['gas']} {row['gas_leaf']}")
        yield {"cheat": operators[number].name, "delta": tamper.delta, **row}


def _replaced_token(served: Served, random: Random) -> dict[str, Any]:
    """The dispute about an answer that claims another token than the one chosen."""
    ids = served.answer.token_ids
    number = random.randrange(len(ids))
    false = served.with_token(number, ids[number] + 1)
    row = served.dispute(false, len(served.answer.prompt_ids) + number)
    frame.progress(f"token {row['verdict']} {row['gas']} {row['gas_leaf']}")
    return {"cheat": "token replaced", "delta": 1, **row}


def _arities(served: Served, positions: int, bits: Iterable[int]) -> Iterator[dict[str, Any]]:
    """The same dispute with trees of several arities, 2^bits."""
    tamper = served.effective(positions - 10, 17, pr.LayerOperator.OUTPUT, 123)
    for number in bits:
        row = served.dispute(served.run(tamper), 0, replace(TERMS, arity_bits=number))
        frame.progress(f"k {2**number} {row['rounds']} {row['payload_bytes']} {row['gas']}")
        yield row


def main() -> None:
    parser = frame.arguments(__doc__)
    parser.add_argument("--quick", action="store_true", help="three disputes, nothing stored")
    quick = parser.parse_args().quick
    bench = Workbench.of(frame.checkout(), report=frame.progress)
    served = bench.serve(PROMPT, TOKENS, trace_secret=TRACE_SECRET)
    _ = bench.model, served.salts  # loaded before the clock runs
    _, commit_cpu_s = frame.timed(lambda: served.trees)
    _, inference_cpu_s = frame.timed(lambda: served.answer)
    positions = served.answer.committed.shape.positions
    assert len(served.answer.token_ids) >= TOKENS
    frame.progress(f"{positions} positions, commitment {commit_cpu_s:.1f} CPU s")
    count = len(pr.layer_program(served.trees.dims, positions - 1))
    rows: list[dict[str, Any]] = []
    for seed in SEEDS[: 1 if quick else None]:
        random = Random(seed)
        found = [*_changed_values(served, positions, [15, 9, 14] if quick else range(count), random)]
        rows += [{"seed": seed, **row} for row in (*found, _replaced_token(served, random))]
    arities = list(_arities(served, positions, [4] if quick else [1, 2, 3, 4, 5, 6]))
    paths = [row.pop("path") for row in (*rows, *arities)]
    if quick:
        return
    payload = {
        "seeds": SEEDS,
        "prompt": PROMPT,
        "positions": positions,
        "prompt_tokens": len(served.answer.prompt_ids),
        "answer_tokens": len(served.answer.token_ids),
        "trace_values": dispute_costs.trace_values(served.trees.dims, positions),
        "commit_model_cpu_s": round(commit_cpu_s, 1),
        "inference_cpu_s": round(inference_cpu_s, 1),
        "disputes": rows,
        "path": paths[pr.LayerOperator.OUTPUT],  # of the dispute that the notebook draws
        "arity_sweep": arities,
    }
    libraries = ("numpy", "torch", "vyper", "py-evm", "eth-tester")
    frame.store("disputes", payload, seed=SEEDS[0], packages=libraries, cores=1)


if __name__ == "__main__":
    main()
