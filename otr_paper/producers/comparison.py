"""The same 32 questions under four systems: ``data/results/four_systems.json``. About six minutes on one core.

Each question is ordered under seal and answered by SmolLM2 in the portable lane, with trace and receipt. Five frauds
are injected into every answer and put to the receipt's checks (working and broken TEE), to a fisherman's re-execution
and to the light judges. Three frauds are disputed by transactions, and two answers spot-checked with a proof.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

import torch

from otr_node.project import find_project
from otr_paper.benches.comparison import COSTED, Comparison, cpu_seconds
from otr_paper.claims.trilemma import FRAUDS
from otr_paper.poq.questions import comparison_questions
from otr_paper.press.notebook import quiet
from otr_paper.store.results import Card, this_machine, versions, write_result

SEED, TOKENS = 20251223, 12


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--questions", type=int, default=32, help="fewer: nothing is stored")
    count = parser.parse_args().questions
    quiet()
    torch.set_num_threads(1)
    project = find_project(Path(__file__))
    questions = comparison_questions(SEED)[:count]
    work = Comparison(project, questions[0], TOKENS, report=lambda line: print(line, flush=True))
    cases = [work.honest(question, number) for number, question in enumerate(questions)]
    rows = []
    for number, case in enumerate(cases):
        rows.append(work.row(case, cases[(number + 1) % count], number))
        case.runs.clear()
        print(number, rows[-1]["text"], f"{cpu_seconds():.0f} CPU s", flush=True)
    texts = {"honest": [row["text"] for row in rows]}
    texts |= {name: [row["frauds"][name]["text"] for row in rows] for name in FRAUDS}
    judged = work.judged(questions, texts)
    print(judged["cpu_s"], f"{cpu_seconds():.0f} CPU s", flush=True)
    disputes = work.disputes()
    print(f"{cpu_seconds():.0f} CPU s", flush=True)
    spot = {"honest": work.spot_check(work.bench), "8-bit weights": work.spot_check(work.cheap["8-bit weights"])}
    print(spot, f"{cpu_seconds():.0f} CPU s", flush=True)
    payload = {
        "question_seed": SEED, "most_tokens": TOKENS, "costed": COSTED, "layers": work.bench.model.architecture.layers,
        "layers_kept": work.cheap["layers dropped"].model.architecture.layers, "units": work.units(),
        "rows": rows, "judges": judged,
        "disputes": disputes, "spot_checks": spot,
    }  # fmt: skip
    if count < 32:
        return
    card = Card(
        command="python -m otr_paper.producers.comparison", date=datetime.now(UTC).date().isoformat(),
        machine=this_machine(1), versions=versions(("numpy", "torch", "transformers", "ezkl", "vyper", "py-evm")),
        seed=SEED, kind="measured",
    )  # fmt: skip
    write_result(project.results, "four_systems", card, payload)


if __name__ == "__main__":
    sys.exit(main())
