"""Disputes about a real answer, on chain: ``data/results/disputes.json``. About ten minutes on one core.

For every operator of a layer, for what the trace holds, and for the choice of a token: an answer of SmolLM2 with one
value changed there (the smallest power of two that reaches the trace), disputed to a verdict by transactions.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from otr_core.lane import program as pr
from otr_node.project import find_project
from otr_paper.benches.disputes import PROMPT, TERMS, TOKENS, TRACE_SECRET
from otr_paper.benches.workbench import Workbench
from otr_paper.store.results import Card, this_machine, versions, write_result
from otr_paper.studies import dispute_costs

SEED = 20251123


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="three disputes, nothing stored")
    quick = parser.parse_args().quick
    served = Workbench.of(find_project(Path(__file__)), report=print).serve(PROMPT, TOKENS, trace_secret=TRACE_SECRET)
    random = Random(SEED)
    _ = served.bench.model, served.salts  # loaded before the clock runs
    begin = time.process_time()
    d = served.trees.dims
    committed = time.process_time()
    _ = served.answer
    inference_cpu_s, commit_cpu_s = time.process_time() - committed, committed - begin
    positions = served.honest.trace.shape.positions
    print(f"{positions} positions, commitment {commit_cpu_s:.1f} CPU s", flush=True)
    rows: list[dict[str, Any]] = []
    sweep: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []  # the path of the dispute that the notebook draws
    operators = pr.layer_program(d, positions - 1)
    for number in [15, 9, 14] if quick else range(len(operators)):
        place = random.randrange(positions // 2, positions), random.randrange(1, d.layers)
        element = random.randrange(pr.layer_program(d, place[0])[number].length)
        if number in (pr.SCORES, pr.EXPS, pr.WEIGHTS):  # a place that was seen, not padding
            element = element // d.padded(place[0] + 1) * d.padded(place[0] + 1) + random.randrange(place[0] + 1)
        tamper = served.effective(*place, number, element)
        row = served.dispute(served.run(tamper))
        assert (row["position"], row["layer"], row["operator"]) == (*place, operators[number].name)
        path = row.pop("path")
        shown = path if number == pr.OUTPUT else shown
        rows.append({"cheat": operators[number].name, "delta": tamper.delta, **row})
        print(number, row["operator"], row["verdict"], row["rounds"], row["gas"], row["gas_leaf"], flush=True)
        assert row["verdict"] == "OPERATOR_LOSES"
    step = 40
    ids = served.answer.token_ids
    row = served.dispute(served.with_token(step, ids[step] + 1), len(served.answer.prompt_ids) + step)
    row.pop("path")
    rows.append({"cheat": "token replaced", "delta": 1, **row})
    print("token", row["verdict"], row["gas"], row["gas_leaf"], flush=True)
    tamper = served.effective(positions - 10, 17, pr.OUTPUT, 123)
    for bits in [4] if quick else [1, 2, 3, 4, 5, 6]:
        row = served.dispute(served.run(tamper), 0, replace(TERMS, arity_bits=bits))
        row.pop("path")
        sweep.append(row)
        print("k", 2**bits, row["rounds"], row["payload_bytes"], row["gas"], flush=True)
    assert len(ids) >= TOKENS
    if quick:
        return
    project = find_project(Path(__file__))
    card = Card(
        command="python -m otr_paper.producers.disputes", date=datetime.now(UTC).date().isoformat(),
        machine=this_machine(1), versions=versions(("numpy", "torch", "vyper", "py-evm", "eth-tester")), seed=SEED,
        kind="measured",
    )  # fmt: skip
    payload = {
        "prompt": PROMPT,
        "positions": positions,
        "prompt_tokens": len(served.answer.prompt_ids),
        "answer_tokens": len(ids),
        "trace_values": dispute_costs.trace_values(d, positions),
        "commit_model_cpu_s": round(commit_cpu_s, 1),
        "inference_cpu_s": round(inference_cpu_s, 1),
        "disputes": rows,
        "path": shown,
        "arity_sweep": sweep,
    }
    write_result(project.results, "disputes", card, payload)


if __name__ == "__main__":
    sys.exit(main())
