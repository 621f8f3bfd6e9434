"""How wrong the fitted law is: it simulates every published run, and is compared with what was
published.

Half of the runs were fitted; the errors that count are those of the other half. Beside them stand
published whole-batch latencies of another engine, and the runs of earlier releases of the same one,
which nothing was fitted to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from otr_paper.claims.published import Published
from otr_paper.simulation import law as laws
from otr_paper.simulation.arrivals import Requests
from otr_paper.simulation.prefix_cache import GUESSES, remembered
from otr_paper.simulation.replica import closed_loop, serve_pool, serve_requests

QUANTITIES = {"first_token_s": "first token", "step_s": "inter-token", "answer_s": "answer", "tokens_per_s": "rate"}
GOAL = 0.15
"""Mean error of the first token that was aimed for."""
#: Row of another engine -> (law, users, tokens in, tokens out, how it differs): batches that start at
#: once. No published first token of another engine was found with its load and lengths.
OTHERS = {
    "cc43": ("llama33_70b", 8, 32, 128, "vLLM, 16-bit weights on four GPUs: as many bytes a GPU as were fitted"),
    "cc44": ("llama31_8b", 8, 32, 128, "vLLM, 16-bit weights on one GPU: twice the bytes that were fitted"),
}
#: Published runs of an earlier release -> (law, release). Their lengths are inferred, as their rows say.
EARLIER = {
    "llama33_70b_nim150": ("llama33_70b", "NIM 1.5.0"),
    "llama31_8b_nim130": ("llama31_8b", "NIM 1.3.0"),
}
BUSY = 0.8
"""Utilisation below which ``prefix_study`` keeps its machines."""


def runs(
    published: Published, model: str, law: laws.StepLaw, client: laws.LoadGenerator, *, half: str | None = None
) -> list[dict[str, Any]]:
    """One record a published run: half (fitted or tested), lengths, users, and published,
    simulated, error of each quantity (error: simulated over published, minus one).

    Args:
        half: that half alone; None for both.
    """
    known = laws.law_points(published, model)
    fitted, _ = laws.split(known)
    records = []
    for run in known:
        own = "fitted" if run in fitted else "tested"
        if half not in (None, own):
            continue
        records.append({"model": model, "half": own, **_compared(run, law, client)})
    return records


def _compared(run: laws.ServingPoint, law: laws.StepLaw, client: laws.LoadGenerator) -> dict[str, Any]:
    """Lengths and users of a run, and what was published of it beside what the law makes of it."""
    found = closed_loop(run, law, client)
    record: dict[str, Any] = {name: getattr(run, name) for name in ("tokens_in", "tokens_out", "concurrency")}
    for name in QUANTITIES:
        printed, simulated = getattr(run, name), getattr(found, name)
        record |= {f"{name}.published": printed, f"{name}.simulated": simulated}
        record[f"{name}.error"] = simulated / printed - 1.0
    return record


def mean_errors(records: Sequence[Mapping[str, Any]], half: str) -> dict[str, float]:
    """Mean absolute relative error of each quantity over one half."""
    chosen = [record for record in records if record["half"] == half]
    return {name: sum(abs(r[f"{name}.error"]) for r in chosen) / len(chosen) for name in QUANTITIES}


def errors_by_model(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """``mean_errors`` over the tested half, of each model."""
    models = {record["model"]: [each for each in records if each["model"] == record["model"]] for record in records}
    return {model: mean_errors(own, "tested") for model, own in models.items()}


def accuracy_statement(records: Sequence[Mapping[str, Any]]) -> str:
    """The sentence that goes under every figure which uses the law."""
    error = mean_errors(records, "tested")
    tested = sum(record["half"] == "tested" for record in records)
    return (
        f"Serving law fitted to {len(records) - tested} published runs; on the other {tested} its mean error is "
        f"{error['answer_s']:.0%} for the answer and {error['first_token_s']:.0%} for the first token."
    )


def outside_statement(shares: Mapping[str, float]) -> str:
    """The sentence that says which requests lie outside of the fitted lengths."""
    if not shares:
        return "Every request lies inside the fitted lengths."
    named = ", ".join(f"{name} in {100 * share:.1f} %" for name, share in shares.items())
    return f"Extrapolated: {named} of the requests."


def other_engines(
    published: Published, known: Mapping[str, tuple[laws.StepLaw, laws.LoadGenerator]]
) -> list[dict[str, Any]]:
    """Records of row, model, differs, published_s, simulated_s, error: whole answers of a batch that
    starts at once."""
    records = []
    for row, (model, users, read, written, differs) in OTHERS.items():
        served = serve_requests([0.0] * users, [read] * users, [written] * users, known[model][0])
        printed, simulated = published.number(row, "s"), float(served.done_s.mean())
        record = {"row": row, "model": model, "differs": differs, "published_s": printed, "simulated_s": simulated}
        records.append({**record, "error": simulated / printed - 1.0})
    return records


def earlier_releases(
    published: Published, known: Mapping[str, tuple[laws.StepLaw, laws.LoadGenerator]]
) -> list[dict[str, Any]]:
    """Records of model, release, errors (mean absolute relative ones), runs, as ``runs`` has them, and moved: closed
    loops of releases that no law was fitted to, and by how much (mean, relative) their first tokens differ from those
    that the later release has at the same loads."""
    records = []
    for rows, (model, release) in EARLIER.items():
        loads = laws.law_points(published, rows)
        found = [{"half": release, **_compared(run, *known[model])} for run in loads]
        later = {
            (run.tokens_in, run.tokens_out, run.concurrency): run.first_token_s
            for run in laws.law_points(published, model)
        }
        apart = [run.first_token_s / later[run.tokens_in, run.tokens_out, run.concurrency] - 1 for run in loads]
        record = {"model": model, "release": release, "errors": mean_errors(found, release), "runs": found}
        records.append({**record, "moved": sum(map(abs, apart)) / len(apart)})
    return records


def prefix_study(requests: Requests, law: laws.StepLaw) -> dict[str, Any]:
    """What prefix reuse makes of a trace: share of prompt tokens reused, machines that carry it below
    ``BUSY`` without reuse, and mean and median first token with and without on as many machines.

    *With*: a cache that forgets nothing. ``forgetting``: one of the memory that all machines have for keys
    and values, under either guess of ``prefix_cache``; ``capacities``: what is reused in caches of other sizes.
    A prefix counts as cached on all machines, wherever it was read.

    Raises:
        ParameterError: a request beyond the model's context, or the machine's memory.
    """
    plain = requests.without_reuse()
    law.check_lengths(requests.tokens_in, requests.tokens_out)
    machines = int(requests.rate_per_s / (BUSY * law.capacity_per_s(plain))) + 1
    found: dict[str, Any] = {"requests": len(requests), "reused": requests.reused_share, "machines": machines}

    def served(some: Requests) -> dict[str, float]:
        waits = serve_pool(some, law, machines).first_s - some.arrival_s
        busy = requests.rate_per_s / (machines * law.capacity_per_s(some))
        return {"mean_s": float(waits.mean()), "median_s": float(sorted(waits)[len(waits) // 2]), "busy": busy}

    def kept(tokens: float) -> dict[str, Requests]:
        return {guess: remembered(requests, tokens, law.base_s, guess) for guess in GUESSES}

    for name, some in (("with", requests), ("without", plain)):
        found |= {f"{name}_{what}": value for what, value in served(some).items()}
    found["capacity_tokens"] = machines * law.kv_tokens
    found["forgetting"] = {
        guess: {"reused": some.reused_share, **served(some)} for guess, some in kept(machines * law.kv_tokens).items()
    }
    found["capacities"] = [
        {"machines": times, **{guess: some.reused_share for guess, some in kept(times * law.kv_tokens).items()}}
        for times in (1, machines, 4 * machines, 16 * machines)
    ]
    return {**found, "outside": law.outside_fit(requests)}
