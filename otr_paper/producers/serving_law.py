"""Fit the serving law of each model to half of its published loads, and store it with its errors on
the other half.

The search is seeded; every seed's errors are stored, and the law of the smallest misfit on the
fitted half is the one that serves. Only the 8B model's loads reach the rate at which the engine
hands tokens out; the 70B model takes that time from there. A trace that is not here (OTR_DATA_MIRROR)
leaves its part as it was stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from otr_core.errors import MissingDataError
from otr_paper.benches import simulation
from otr_paper.claims import published
from otr_paper.producers import frame
from otr_paper.simulation import SERVING_LAW, accuracy, fit, law
from otr_paper.store.results import read_result

SEEDS = (1, 2, 3)
GENERATIONS = 80
#: The model whose loads reach the engine's own rate comes first.
ORDER = ("llama31_8b", "llama33_70b")


def _fitted(cited: published.Published, model: str, emit_s: float | None, seeds: Sequence[int]) -> dict[str, Any]:
    """The best law of one model, as stored, and what each seed found."""
    points, context = law.split(law.law_points(cited, model))[0], int(cited.number("hw.llama31_context", "tok"))
    how: dict[str, Any] = {"generations": GENERATIONS, "emit_s": emit_s, "context_tokens": context}
    found = []
    for seed in seeds:
        machine, client, misfit = fit.fit_law(points, seed=seed, **how)
        errors = accuracy.mean_errors(accuracy.runs(cited, model, machine, client, half="tested"), "tested")
        found.append((misfit, {"seed": seed, "misfit": misfit, "tested": errors}, machine, client))
        frame.progress(f"{model}, seed {seed}: misfit {misfit:.4f}, {errors}")
    best = min(found, key=lambda one: one[0])
    return {**law.law_record(best[2], best[3]), "misfit": best[0], "seeds": [one[1] for one in found]}


def main() -> None:
    frame.arguments(__doc__).parse_args()
    project = frame.checkout()
    cited = published.load_published(project.data)
    payload: dict[str, Any] = {}
    emit_s = None
    for model in ORDER:
        payload[model] = _fitted(cited, model, emit_s, SEEDS)
        emit_s = payload[model]["law"]["emit_s"]
    known = law.stored_laws(payload)
    payload["errors"] = {
        model: {half: accuracy.mean_errors(records, half) for half in ("fitted", "tested")}
        for model, records in ((model, accuracy.runs(cited, model, *known[model])) for model in ORDER)
    }
    payload["other_engines"] = accuracy.other_engines(cited, known)
    try:
        payload["prefix"] = accuracy.prefix_study(simulation.trace(project, "mooncake_conv"), known["llama33_70b"][0])
    except MissingDataError as error:
        frame.progress(f"skipped, the stored study of prefixes stays: {error}")
        payload["prefix"] = read_result(project.results, SERVING_LAW)[1]["prefix"]
    frame.store(SERVING_LAW, payload, seed=SEEDS[0], packages=("numpy", "scipy", "numba"), kind="simulated", cores=1)


if __name__ == "__main__":
    main()
