"""Fits the serving law of a model to published closed-loop runs.

In a closed loop of c users with prompts of I and answers of O tokens, n = min(c, kv_tokens / (I +
O)) and every step carries n/O prompts, so that the published inter-token latency and the
first-token latency of a single user are linear in the coefficients: non-negative least squares on
relative errors. From there a seeded search moves coefficients, scheduler and load generator
together, and plays every fitted run through the machine itself: how long a first token waits for
others' prompts has no formula.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from otr_core.errors import DataError
from otr_paper.simulation.law import MOST_ANSWERS, LoadGenerator, ServingPoint, StepLaw, span_of
from otr_paper.simulation.replica import closed_loop

STEP_WEIGHT = 3.0
"""Weight of the inter-token latency beside first token and rate: every answer has hundreds of them."""
#: What is searched, and how far: natural logarithms, for the coefficients around the least squares.
BOUNDS = {
    "base_s": (-0.3, 0.3),
    "each_s": (-0.5, 0.5),
    "context_s": (-0.5, 0.5),
    "prompt_s": (-0.4, 0.3),
    "prompt2_s": (-1.0, 1.0),
    "budget_tokens": (math.log(512), math.log(36_000)),
    "return_s": (math.log(3e-4), math.log(0.14)),
    "send_s": (math.log(4.5e-5), math.log(0.011)),
    "emit_s": (math.log(1.7e-5), math.log(2e-4)),
    "rounds_tokens": (math.log(2_000), math.log(22_000)),
}
_COEFFICIENTS = ("base_s", "each_s", "context_s", "prompt_s", "prompt2_s")


def least_squares(runs: Sequence[ServingPoint]) -> StepLaw:
    """The coefficients by least squares, memory from the fullest run, no bound on budget and rate.

    Raises:
        DataError: fewer than eight runs, or than three of one user: the coefficients would not be
            determined.
    """
    from scipy.optimize import nnls

    if len(runs) < 8 or sum(run.concurrency == 1 for run in runs) < 3:
        raise DataError(f"serving runs: found {len(runs)}, expected eight or more, three of them of one user")
    kv_tokens = max(run.tokens_per_s * run.step_s * (run.tokens_in + run.tokens_out) for run in runs)
    rows = []
    for run in runs:
        read, written = run.tokens_in, run.tokens_out
        n = min(run.concurrency, kv_tokens / (read + written), MOST_ANSWERS)
        step = [1.0, n, n * (read + written / 2), n / written * read, n / written * read**2]
        rows.append(np.array(step) / run.step_s)
        if run.concurrency == 1:
            rows.append(np.array([1.0, 0.0, 0.0, read, read**2]) / run.first_token_s)
    matrix = np.array(rows)
    scale = matrix.max(axis=0)
    found, _ = nnls(matrix / scale, np.ones(len(rows)))
    base, each, context, prompt, prompt2 = (float(value) for value in found / scale)
    return StepLaw(base, each, context, prompt, prompt2, kv_tokens, fitted=span_of(runs))


def misfit(runs: Sequence[ServingPoint], law: StepLaw, client: LoadGenerator) -> float:
    """Mean over the runs of the absolute log errors of first token, rate, and (weighted) step."""
    total = 0.0
    for run in runs:
        found = closed_loop(run, law, client)
        total += abs(math.log(found.first_token_s / run.first_token_s))
        total += STEP_WEIGHT * abs(math.log(found.step_s / run.step_s))
        total += abs(math.log(found.tokens_per_s / run.tokens_per_s))
    return total / len(runs)


def fit_law(
    runs: Sequence[ServingPoint],
    *,
    seed: int,
    generations: int,
    emit_s: float | None = None,
    context_tokens: int,
    whole_prompts: bool = False,
) -> tuple[StepLaw, LoadGenerator, float]:
    """Law, load generator and misfit of these runs, by differential evolution.

    Args:
        emit_s: time to hand out a token, where these runs do not reach the rate that it sets and
            another model's runs on the same engine do; None to fit it. context_tokens: of the model.
            whole_prompts: as of ``StepLaw``.

    Raises:
        DataError: as ``least_squares``.
    """
    from scipy.optimize import differential_evolution

    start = least_squares(runs)
    names = [name for name in BOUNDS if emit_s is None or name != "emit_s"]

    def point(place: Sequence[float]) -> tuple[StepLaw, LoadGenerator]:
        at = {name: math.exp(value) for name, value in zip(names, place, strict=True)}
        moved = {name: getattr(start, name) * at[name] for name in _COEFFICIENTS}
        law = replace(start, **moved, budget_tokens=int(at["budget_tokens"]), emit_s=emit_s or at["emit_s"])
        law = replace(law, whole_prompts=whole_prompts)
        return law, LoadGenerator(at["return_s"], at["send_s"], at["rounds_tokens"])

    bounds = [BOUNDS[name] for name in names]
    how = {"maxiter": generations, "popsize": 8, "polish": False, "tol": 1e-4, "rng": np.random.default_rng(seed)}
    found = differential_evolution(lambda place: misfit(runs, *point(place)), bounds, **how)
    law, client = point(found.x)
    return replace(law, context_tokens=context_tokens), client, float(found.fun)
