"""How wrong the fitted law is: it simulates every published run, and is compared with what was
published.

Half of the runs were fitted; the errors that count are those of the other half.
"""

from __future__ import annotations

from typing import Any

from otr_paper.claims.published import Published
from otr_paper.simulation import law as laws
from otr_paper.simulation.replica import closed_loop

QUANTITIES = {"first_token_s": "first token", "step_s": "inter-token", "answer_s": "answer", "tokens_per_s": "rate"}


def runs(published: Published, model: str, seed: int = 0) -> list[dict[str, Any]]:
    """One record a published run: half (fitted or tested), lengths, users, and published,
    simulated, error of each quantity (error: simulated over published, minus one)."""
    known = laws.law_points(published, model)
    fitted, _ = laws.split(known)
    law = laws.fit_law(fitted)
    records = []
    for run in known:
        found = closed_loop(run, law, seed)
        record: dict[str, Any] = {"model": model, "half": "fitted" if run in fitted else "tested"}
        record |= {name: getattr(run, name) for name in ("tokens_in", "tokens_out", "concurrency")}
        for name in QUANTITIES:
            printed, simulated = getattr(run, name), getattr(found, name)
            record |= {f"{name}.published": printed, f"{name}.simulated": simulated}
            record[f"{name}.error"] = simulated / printed - 1.0
        records.append(record)
    return records


def mean_errors(records: list[dict[str, Any]], half: str) -> dict[str, float]:
    """Mean absolute relative error of each quantity over one half."""
    chosen = [record for record in records if record["half"] == half]
    return {name: sum(abs(r[f"{name}.error"]) for r in chosen) / len(chosen) for name in QUANTITIES}


def accuracy_statement(records: list[dict[str, Any]]) -> str:
    """The sentence that goes under every figure which uses the law."""
    error = mean_errors(records, "tested")
    tested = sum(record["half"] == "tested" for record in records)
    return (
        f"Serving law fitted to {len(records) - tested} published runs; on the other {tested} its mean error is "
        f"{error['answer_s']:.0%} for the answer and {error['first_token_s']:.0%} for the first token."
    )
