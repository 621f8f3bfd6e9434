"""How long one step of a serving machine takes: a law with five coefficients, fitted to published
measurements.

With n answers in progress over contexts of K tokens together, one step (a token for each answer)
that also takes up new prompts of I1, I2 ... tokens lasts

    base_s + each_s n + context_s K + sum over new prompts of (prompt_s I + prompt2_s I^2)
    seconds.

A prompt that comes while the machine is busy is taken up ``wait_steps`` steps later (the
scheduler's pipeline), and only when its prompt and answer fit into ``kv_tokens`` beside the others.
In a closed loop of c users with prompts of I and answers of O tokens, n = min(c, kv_tokens / (I +
O)) and every step carries n/O prompts, so that the published inter-token latency and the
first-token latency of a single user are linear in the coefficients: one non-negative least squares,
on relative errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from otr_core.errors import DataError, ParameterError
from otr_paper.claims.published import Published
from otr_paper.simulation.arrivals import Requests

#: Loads of the published runs that the law is fitted to; the others test it. Every second one,
#: fixed beforehand.
FITTED_CONCURRENCY = (1, 25, 100, 200)
MOST_ANSWERS = 256
"""Answers a machine works on at once: above every published load (250)."""
MODELS = {"llama33_70b": 2, "llama31_8b": 1}
"""Model -> GPUs of one machine in the published runs."""


@dataclass(frozen=True)
class ServingPoint:
    """One published closed-loop run: c users, prompts and answers of fixed length, latencies in s,
    rate in tokens/s."""

    model: str
    tokens_in: int
    tokens_out: int
    concurrency: int
    first_token_s: float
    step_s: float
    tokens_per_s: float

    @property
    def answer_s(self) -> float:
        """Mean time of a whole answer."""
        return self.first_token_s + (self.tokens_out - 1) * self.step_s


@dataclass(frozen=True)
class StepLaw:
    """The coefficients, in seconds (per answer, per token of context, per prompt token, per its
    square)."""

    base_s: float
    each_s: float
    context_s: float
    prompt_s: float
    prompt2_s: float
    wait_steps: int
    kv_tokens: float
    most_answers: int = MOST_ANSWERS

    def __post_init__(self) -> None:
        for name in ("each_s", "context_s", "prompt_s", "prompt2_s", "wait_steps"):
            if not getattr(self, name) >= 0:
                raise ParameterError(name, getattr(self, name), "zero or more")
        for name in ("base_s", "kv_tokens", "most_answers"):
            if not getattr(self, name) > 0:
                raise ParameterError(name, getattr(self, name), "above zero")

    def slowed(self, loss: float) -> StepLaw:
        """The same machine in confidential mode, where it does ``1 - loss`` of the work in a
        second.

        Args:
            loss: share of throughput lost, below 1.
        """
        if not 0 <= loss < 1:
            raise ParameterError("loss", loss, "a share in [0, 1)")
        times = ("base_s", "each_s", "context_s", "prompt_s", "prompt2_s")
        return replace(self, **{name: getattr(self, name) / (1.0 - loss) for name in times})

    def prompt_time_s(self, tokens: float) -> float:
        """What taking up a prompt adds to a step."""
        return self.prompt_s * tokens + self.prompt2_s * tokens * tokens

    def capacity_per_s(self, requests: Requests) -> float:
        """Most requests per second one machine can finish of this mix: full batch, mean lengths,
        nothing idle."""
        read, written = requests.tokens_in.astype(float), requests.tokens_out.astype(float)
        # time-weighted: an answer occupies memory for as long as it is written
        held = float(((read + written) * written).sum() / written.sum())
        context = float(((read + written / 2) * written).sum() / written.sum())
        n = min(float(self.most_answers), self.kv_tokens / held)
        prompts = self.prompt_s * float(read.mean()) + self.prompt2_s * float((read**2).mean())
        return n / (float(written.mean()) * (self.base_s + n * (self.each_s + self.context_s * context)) + n * prompts)


def law_points(published: Published, model: str) -> list[ServingPoint]:
    """The published runs of one model, in file order.

    Raises:
        DataError: no such model, or a run that lacks one of its three numbers.
    """
    runs: dict[tuple[int, int, int], dict[str, float]] = {}
    for row in published.values():
        if row.extra.get("model") == model:
            key = (int(row.extra["tokens_in"]), int(row.extra["tokens_out"]), int(row.extra["concurrency"]))
            runs.setdefault(key, {})[row.extra["metric"]] = row.number("tok/s" if row.unit == "tok/s" else "s")
    if not runs:
        raise DataError(f"serving runs: found none of {model!r}, expected one of {', '.join(MODELS)}")
    for key, run in runs.items():
        if set(run) != {"ttft", "itl", "tps"}:
            raise DataError(f"serving run {model} {key}: found {sorted(run)}, expected ttft, itl and tps")
    return [ServingPoint(model, *key, run["ttft"], run["itl"], run["tps"]) for key, run in runs.items()]


def fit_law(runs: Sequence[ServingPoint], most_answers: int = MOST_ANSWERS) -> StepLaw:
    """The law of these runs: memory from the fullest run, coefficients by least squares, the wait
    as a median.

    Raises:
        DataError: fewer than eight runs, or than three of one user: the coefficients would not be
            determined.
    """
    from scipy.optimize import nnls

    if len(runs) < 8 or sum(run.concurrency == 1 for run in runs) < 3:
        raise DataError(f"serving runs: found {len(runs)}, expected eight or more, three of them of one user")
    kv_tokens = max(run.tokens_per_s * run.step_s * (run.tokens_in + run.tokens_out) for run in runs)
    rows, wanted = [], []
    for run in runs:
        read, written = run.tokens_in, run.tokens_out
        n = min(run.concurrency, kv_tokens / (read + written), most_answers)
        step = [1.0, n, n * (read + written / 2), n / written * read, n / written * read**2]
        rows.append(np.array(step) / run.step_s)
        wanted.append(1.0)
        if run.concurrency == 1:
            rows.append(np.array([1.0, 0.0, 0.0, read, read**2]) / run.first_token_s)
            wanted.append(1.0)
    matrix = np.array(rows)
    scale = matrix.max(axis=0)
    found, _ = nnls(matrix / scale, np.array(wanted))
    base, each, context, prompt, prompt2 = (float(value) for value in found / scale)
    # what a busy machine adds to the first token, in steps, where nobody waits for memory
    waits = [
        (run.first_token_s - base - prompt * run.tokens_in - prompt2 * run.tokens_in**2) / run.step_s
        for run in runs
        if run.concurrency > 1 and run.concurrency * (run.tokens_in + run.tokens_out) < kv_tokens
    ]
    return StepLaw(base, each, context, prompt, prompt2, max(0, round(median(waits))), kv_tokens, most_answers)


def split(runs: Sequence[ServingPoint]) -> tuple[list[ServingPoint], list[ServingPoint]]:
    """The runs the law is fitted to, and those it is tested on."""
    fitted = [run for run in runs if run.concurrency in FITTED_CONCURRENCY]
    return fitted, [run for run in runs if run not in fitted]


def fitted_law(published: Published, model: str = "llama33_70b") -> StepLaw:
    """The law of one model, from the fitted half of its published runs."""
    return fit_law(split(law_points(published, model))[0])
