"""How long one step of a serving machine takes: a law whose numbers come from published
measurements.

With n answers in progress over contexts of K tokens together, one step (a token for each answer)
that also reads pieces of new prompts, each from token s to token e, lasts

    base_s + each_s n + context_s K + sum over pieces of (prompt_s (e - s) + prompt2_s (e^2 - s^2))
    seconds.

A step has ``budget_tokens``: one for each answer in progress, the rest for prompts, which wait for
their turn; with ``whole_prompts`` one that fits into such a rest is not cut, and waits for a step that
has room for all of it; with ``prefill_first`` a step that reads prompts writes no answer on. A prompt is taken
up when it and its answer fit into ``kv_tokens`` beside the others. The tokens of a step are handed
out one after another, ``emit_s`` each: that is the rate at which an engine saturates whatever its
GPU could do, and first tokens then wait behind all others.

The numbers of a model are fitted by ``fit`` and stored; this module holds what they mean, and says
which requests lie outside of what they were fitted to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otr_core.errors import DataError, ParameterError
from otr_paper.claims.published import Published
from otr_paper.simulation.arrivals import Requests

#: Loads of the published runs that the law is fitted to; the others test it. Every second one,
#: fixed beforehand.
FITTED_CONCURRENCY = (1, 25, 100, 200)
MOST_ANSWERS = 256
"""Answers a machine works on at once: above every published load (250)."""
UNBOUNDED = 2**40
"""A budget or a context that binds nothing."""
MODELS = {"llama33_70b": 2, "llama31_8b": 1}
"""Model -> GPUs of one machine in the published runs."""


@dataclass(frozen=True)
class LoadGenerator:
    """The load generator of a published closed loop.

    Attributes:
        return_s: from a finished answer to the next request. send_s: least time between two
            requests. rounds_tokens: tokens that each user receives while means are taken, the first
            round among them; two answers at least.
    """

    return_s: float
    send_s: float
    rounds_tokens: float


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
class FittedLengths:
    """Shortest and longest prompt, answer, and both together, of the runs that a law was fitted to,
    tokens."""

    prompt: tuple[int, int] = (1, UNBOUNDED)
    answer: tuple[int, int] = (1, UNBOUNDED)
    both: tuple[int, int] = (2, 2 * UNBOUNDED)


@dataclass(frozen=True)
class StepLaw:
    """The coefficients, in seconds (per answer, per token of context, per prompt token, per its
    square, per token handed out), and the scheduler's limits.

    Attributes:
        kv_tokens: that prompts and answers in progress hold together. most_answers: in progress at
            once. budget_tokens: of one step, above ``most_answers``. context_tokens: of the model:
            the longest prompt with its answer. fitted: lengths of the runs behind the numbers.
    """

    base_s: float
    each_s: float
    context_s: float
    prompt_s: float
    prompt2_s: float
    kv_tokens: float
    most_answers: int = MOST_ANSWERS
    budget_tokens: int = UNBOUNDED
    emit_s: float = 0.0
    prefill_first: bool = False
    whole_prompts: bool = False
    context_tokens: int = UNBOUNDED
    fitted: FittedLengths = FittedLengths()

    def __post_init__(self) -> None:
        for name in ("each_s", "context_s", "prompt_s", "prompt2_s", "emit_s"):
            if not getattr(self, name) >= 0:
                raise ParameterError(name, getattr(self, name), "zero or more")
        for name in ("base_s", "kv_tokens", "most_answers", "context_tokens"):
            if not getattr(self, name) > 0:
                raise ParameterError(name, getattr(self, name), "above zero")
        if not self.budget_tokens > self.most_answers:
            raise ParameterError("budget_tokens", self.budget_tokens, f"more than the {self.most_answers} answers")

    def check_lengths(self, read: NDArray[np.int64], written: NDArray[np.int64]) -> None:
        """Refuse requests that no machine of this law can serve.

        Raises:
            ParameterError: the first request whose prompt and answer exceed the model's context or
                the machine's memory, and how many there are.
        """
        both = read + written
        for name, most in (("the model's context", self.context_tokens), ("the machine's memory", self.kv_tokens)):
            over = np.flatnonzero(both > most)
            if len(over):
                others = f" ({len(over)} of {len(both)} requests exceed it, the first is number {over[0] + 1})"
                expected = f"a prompt and answer of at most {most:.0f} tokens together, {name}{others}"
                raise ParameterError("tokens", int(both[over[0]]), expected)

    def outside_fit(self, requests: Requests) -> dict[str, float]:
        """Shares of the requests that lie outside of the lengths the law was fitted to, by what is
        extrapolated; what none exceeds is absent."""
        columns = {
            "prompt": requests.tokens_in,
            "answer": requests.tokens_out,
            "prompt and answer": requests.tokens_in + requests.tokens_out,
        }
        spans = (self.fitted.prompt, self.fitted.answer, self.fitted.both)
        found: dict[str, float] = {}
        for (name, tokens), (least, most) in zip(columns.items(), spans, strict=True):
            found[f"{name} above {most} tokens"] = float((tokens > most).mean())
            found[f"{name} below {least} tokens"] = float((tokens < least).mean())
        return {name: share for name, share in found.items() if share > 0}

    def slowed(self, loss: float) -> StepLaw:
        """The same machine in confidential mode, where it does ``1 - loss`` of the work in a
        second.

        Args:
            loss: share of throughput lost, below 1.
        """
        if not 0 <= loss < 1:
            raise ParameterError("loss", loss, "a share in [0, 1)")
        times = ("base_s", "each_s", "context_s", "prompt_s", "prompt2_s", "emit_s")
        return replace(self, **{name: getattr(self, name) / (1.0 - loss) for name in times})

    def capacity_per_s(self, requests: Requests) -> float:
        """Most requests per second one machine can finish of this mix: full batch, mean lengths,
        nothing idle.

        Where the token budget binds, every step is full: of its tokens the answers have the share
        that they have of all tokens. Never more than can be handed out.
        """
        read, written = requests.tokens_in.astype(float), requests.tokens_out.astype(float)
        reused = requests.reused.astype(float)
        # time-weighted: an answer occupies memory for as long as it is written
        held = float(((read + written) * written).sum() / written.sum())
        context = float(((read + written / 2) * written).sum() / written.sum())
        fresh, answer = float((read - reused).mean()), float(written.mean())
        n = min(float(self.most_answers), self.kv_tokens / held)
        prompts = self.prompt_s * fresh + self.prompt2_s * float((read**2 - reused**2).mean())
        steps = 1.0
        if self.prefill_first:
            # a step of prompts follows each that ends an answer, and more where the budget asks for more
            ends = n / answer
            steps += max(1.0 - math.exp(-ends), ends * fresh / self.budget_tokens)
        else:
            n = min(n, self.budget_tokens * answer / (answer + fresh))
        writing = steps * self.base_s + n * (self.each_s + self.context_s * context)
        engine = n / (answer * writing + n * prompts)
        return min(engine, 1.0 / (self.emit_s * answer)) if self.emit_s else engine


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


def split(runs: Sequence[ServingPoint]) -> tuple[list[ServingPoint], list[ServingPoint]]:
    """The runs the law is fitted to, and those it is tested on."""
    fitted = [run for run in runs if run.concurrency in FITTED_CONCURRENCY]
    return fitted, [run for run in runs if run not in fitted]


def stored_laws(stored: Mapping[str, Any]) -> dict[str, tuple[StepLaw, LoadGenerator]]:
    """Law and load generator of each model, from the stored fit (``data/results/serving_law.json``).

    Raises:
        DataError: a model or one of its numbers is absent.
    """
    try:
        found = {name: (dict(stored[name]["law"]), stored[name]["client"]) for name in MODELS}
        laws = {}
        for name, (law, client) in found.items():
            span = FittedLengths(**{key: (int(ends[0]), int(ends[1])) for key, ends in law.pop("fitted").items()})
            laws[name] = StepLaw(**law, fitted=span), LoadGenerator(**client)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"stored serving law: {error!r}, expected law and client of {', '.join(MODELS)}") from error
    return laws


def law_record(law: StepLaw, client: LoadGenerator) -> dict[str, Any]:
    """Both as plain JSON, as ``stored_laws`` reads them."""
    return {"law": asdict(law), "client": asdict(client)}


def span_of(runs: Sequence[ServingPoint]) -> FittedLengths:
    """The lengths of these runs."""
    read, written = ([getattr(run, name) for run in runs] for name in ("tokens_in", "tokens_out"))
    both = [run.tokens_in + run.tokens_out for run in runs]
    return FittedLengths((min(read), max(read)), (min(written), max(written)), (min(both), max(both)))
