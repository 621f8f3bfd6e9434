"""The same 32 questions under four systems: data/results/four_systems.json. About six minutes on
one core.

They are drawn with three seeds. Each question is ordered under seal and answered by SmolLM2 in the
portable lane, with trace and receipt. Five frauds are injected into every answer and put to the
receipt's checks (working and broken TEE), to a fisherman's re-execution and to the light judges.
Three frauds are disputed by transactions, and two answers spot-checked with a proof.
"""

from __future__ import annotations

import torch

from otr_paper.benches.comparison import COSTED, Comparison, cpu_seconds
from otr_paper.claims.trilemma import FRAUDS
from otr_paper.poq.questions import COMPARISON, comparison_questions
from otr_paper.producers import frame

SEEDS, TOKENS = (20251223, 20251224, 20251225), 12


def main() -> None:
    parser = frame.arguments(__doc__)
    parser.add_argument("--questions", type=int, default=sum(COMPARISON), help="fewer: nothing is stored")
    count = parser.parse_args().questions
    torch.set_num_threads(1)
    questions = comparison_questions(SEEDS)[:count]
    work = Comparison(frame.checkout(), questions[0], TOKENS, report=frame.progress)
    cases = [work.honest(question, number) for number, question in enumerate(questions)]
    rows = []
    for number, case in enumerate(cases):
        rows.append(work.row(case, cases[(number + 1) % count], number))
        case.runs.clear()
        frame.progress(f"{number} {rows[-1]['text']}, {cpu_seconds():.0f} CPU s with the prover's")
    texts = {"honest": [row["text"] for row in rows]}
    texts |= {name: [row["frauds"][name]["text"] for row in rows] for name in FRAUDS}
    payload = {
        "seeds": SEEDS,
        "most_tokens": TOKENS,
        "costed": COSTED,
        "layers": work.bench.model.architecture.layers,
        "layers_kept": work.cheap["layers dropped"].model.architecture.layers,
        "units": work.units(),
        "rows": rows,
        "judges": work.judged(questions, texts),
        "disputes": work.disputes(),
        "spot_checks": {
            "honest": work.spot_check(work.bench),
            "8-bit weights": work.spot_check(work.cheap["8-bit weights"]),
        },
    }
    frame.progress(f"judged, disputed and spot-checked: {payload['spot_checks']}")
    if count >= sum(COMPARISON):
        libraries = ("numpy", "torch", "transformers", "ezkl", "vyper", "py-evm")
        frame.store("four_systems", payload, seed=SEEDS[0], packages=libraries, cores=1)


if __name__ == "__main__":
    main()
