"""Fit the serving law of each model to half of its published loads, and store it with its errors on
the other half.

The search is seeded; every seed's errors are stored, and the law of the smallest misfit on the
fitted half is the one that serves. Prompts are cut to fill a step, or read whole: both are searched, and
the engine is taken to have the rule that fits the fitted halves of both models better. Only the 8B
model's loads reach the rate at which the engine hands tokens out; the 70B model takes that time from
there. A trace that is not here (OTR_DATA_MIRROR) leaves its part as it was stored. With --compared
the laws stay as they are stored, and only what they are compared with beside the fitted release is made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from otr_core.errors import MissingDataError
from otr_node.project import Project
from otr_paper.benches import simulation
from otr_paper.claims import published
from otr_paper.producers import frame
from otr_paper.simulation import SERVING_LAW, accuracy, fit, law
from otr_paper.store.results import read_result

SEEDS = (1, 2, 3)
GENERATIONS = 80
#: The model whose loads reach the engine's own rate comes first.
ORDER = ("llama31_8b", "llama33_70b")


Found = tuple[float, int, law.StepLaw, law.LoadGenerator]
"""Misfit, seed, and what the search found with it."""


def _searched(cited: published.Published, whole: bool) -> dict[str, list[Found]]:
    """What every seed finds for each model, with one rule of how prompts are read."""
    context, emit_s = int(cited.number("hw.llama31_context", "tok")), None
    found: dict[str, list[Found]] = {}
    for model in ORDER:
        points, found[model] = law.split(law.law_points(cited, model))[0], []
        for seed in SEEDS:
            how: dict[str, Any] = {"emit_s": emit_s, "context_tokens": context, "whole_prompts": whole}
            machine, client, misfit = fit.fit_law(points, seed=seed, generations=GENERATIONS, **how)
            found[model].append((misfit, seed, machine, client))
            frame.progress(f"{model}, whole prompts {whole}, seed {seed}: misfit {misfit:.4f}")
        emit_s = min(found[model], key=lambda one: one[0])[2].emit_s
    return found


def _record(cited: published.Published, model: str, found: Sequence[Found]) -> dict[str, Any]:
    """The best law of one model, as stored, and each seed's errors on the loads held back."""
    seeds = []
    for misfit, seed, machine, client in found:
        errors = accuracy.mean_errors(accuracy.runs(cited, model, machine, client, half="tested"), "tested")
        seeds.append({"seed": seed, "misfit": misfit, "tested": errors})
        frame.progress(f"{model}, seed {seed}: {errors}")
    misfit, _, machine, client = min(found, key=lambda one: one[0])
    return {**law.law_record(machine, client), "misfit": misfit, "seeds": seeds}


def _fitted(project: Project, cited: published.Published) -> dict[str, Any]:
    """The laws of both models with their errors, and what reused prefixes make of a trace."""
    rules = {name: _searched(cited, name == "whole") for name in ("cut", "whole")}
    misfits = {name: {model: min(each[0] for each in one[model]) for model in ORDER} for name, one in rules.items()}
    served = rules[min(misfits, key=lambda name: sum(misfits[name].values()))]
    payload: dict[str, Any] = {model: _record(cited, model, served[model]) for model in ORDER}
    payload["misfits"] = misfits
    known = law.stored_laws(payload)
    payload["errors"] = {
        model: {half: accuracy.mean_errors(records, half) for half in ("fitted", "tested")}
        for model, records in ((model, accuracy.runs(cited, model, *known[model])) for model in ORDER)
    }
    try:
        payload["prefix"] = accuracy.prefix_study(simulation.trace(project, "mooncake_conv"), known["llama33_70b"][0])
    except MissingDataError as error:
        frame.progress(f"skipped, the stored study of prefixes stays: {error}")
        payload["prefix"] = read_result(project.results, SERVING_LAW)[1]["prefix"]
    return payload


def main() -> None:
    parser = frame.arguments(__doc__)
    parser.add_argument("--compared", action="store_true", help="only the comparisons, with the stored laws")
    project, given = frame.checkout(), parser.parse_args()
    cited = published.load_published(project.data)
    payload = dict(read_result(project.results, SERVING_LAW)[1]) if given.compared else _fitted(project, cited)
    known = law.stored_laws(payload)
    payload["other_engines"] = accuracy.other_engines(cited, known)
    payload["earlier_releases"] = accuracy.earlier_releases(cited, known)
    frame.store(SERVING_LAW, payload, seed=SEEDS[0], packages=("numpy", "scipy", "numba"), kind="simulated", cores=1)


if __name__ == "__main__":
    main()
