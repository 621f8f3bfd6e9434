"""A serving machine with continuous batching, simulated exactly: from event to event, not from step
to step.

Between two events (a prompt taken up, an answer finished) each step differs from the last by one
token of context an answer, so the time of k steps is a closed form and k is found by solving a
quadratic. An hour of 19,366 requests takes a tenth of a CPU second; a general event library, which
resumes a coroutine at every step, takes many times that. That is why SimPy is not used here; it
checks this code in the tests.

Prompts are taken up in order of arrival, as many at a time as fit; memory for prompt and answer is
reserved when a prompt is taken up, so no answer is ever thrown out. Answer lengths are known
beforehand, which a real scheduler can only bound.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otr_core.errors import ParameterError
from otr_paper.simulation.arrivals import Requests
from otr_paper.simulation.law import ServingPoint, StepLaw


@dataclass(frozen=True, eq=False)
class ServedRequest:
    """When each request arrived, got its first token and its last, s."""

    arrival_s: NDArray[np.float64]
    first_s: NDArray[np.float64]
    done_s: NDArray[np.float64]


def serve_requests(
    arrivals: Sequence[float], tokens_in: Sequence[int], tokens_out: Sequence[int], law: StepLaw, *, loop: bool = False
) -> ServedRequest:
    """When one machine gives the first and the last token of each request.

    ``step`` counts the machine's steps; ``ends`` holds the step at which each answer in progress
    gets its last token. ``active`` answers are in progress, over ``context`` tokens together, in
    ``held`` tokens of reserved memory. Of all requests ``seen`` have arrived and ``taken`` are
    taken up.

    Args:
        arrivals: sorted, s. In a ``loop`` those of the first users only: each finished answer
            brings the next request.

    Raises:
        ParameterError: a request that does not fit into the machine's memory even alone.
    """
    count = len(tokens_in)
    base, each, context_s, wait = law.base_s, law.each_s, law.context_s, law.wait_steps
    needs = [read + written for read, written in zip(tokens_in, tokens_out, strict=True)]
    if count and max(needs) > law.kv_tokens:
        raise ParameterError(
            "tokens", max(needs), f"a prompt and answer of at most {law.kv_tokens:.0f} tokens together"
        )
    coming = list(arrivals)
    first, done, ready = [0.0] * count, [0.0] * count, [0] * count
    ends: list[tuple[int, int]] = []  # (step at which it ends, request)
    now = 0.0
    step = active = context = held = 0
    seen = taken = finished = 0

    def finish(request: int) -> None:
        nonlocal finished, held
        done[request] = now
        held -= needs[request]
        finished += 1
        if loop and len(coming) < count:
            coming.append(now)

    while finished < count:
        # An idle machine waits for the next request; what has arrived by now may be taken up
        # ``wait`` steps later.
        if not active and taken == seen:
            now = max(now, coming[seen])
        while seen < len(coming) and coming[seen] <= now:
            ready[seen] = step + wait if active else step
            seen += 1
        # Take up prompts in order of arrival, as long as answer and prompt find room.
        prompts, new = 0.0, list[int]()
        while taken < seen and active + len(new) < law.most_answers and (ready[taken] <= step or not active):
            if held + needs[taken] > law.kv_tokens:
                break
            held += needs[taken]
            prompts += law.prompt_time_s(tokens_in[taken])
            new.append(taken)
            taken += 1
        # Either one step that also reads the new prompts, or all the equal steps until something
        # happens: an answer ends, a waiting prompt may be taken up, or a request arrives.
        if new:
            now += base + each * active + context_s * context + prompts
            step += 1
            context += active
        else:
            steps = ends[0][0] - step
            if taken < seen and ready[taken] > step:
                steps = min(steps, ready[taken] - step)
            if seen < len(coming):
                steps = min(steps, _steps_until(coming[seen] - now, base + each * active, context_s, active, context))
            now += steps * (base + each * active + context_s * context) + context_s * active * steps * (steps - 1) / 2
            step += steps
            context += active * steps
        # The answers that end with this step leave; the new ones have their first token.
        while ends and ends[0][0] == step:
            _, request = heapq.heappop(ends)
            active -= 1
            context -= needs[request]
            finish(request)
        for request in new:
            first[request] = now
            if tokens_out[request] == 1:
                finish(request)
            else:
                active += 1
                context += tokens_in[request] + 1
                heapq.heappush(ends, (step + tokens_out[request] - 1, request))
    return ServedRequest(np.array(coming), np.array(first), np.array(done))


def _steps_until(gap_s: float, step_s: float, context_s: float, active: int, context: int) -> int:
    """Fewest steps, one or more, that take ``gap_s``: k step + context (k K + n k (k-1) / 2) >=
    gap."""
    half = context_s * active / 2
    linear = step_s + context_s * context - half
    steps = (math.sqrt(linear * linear + 4 * half * gap_s) - linear) / (2 * half) if half > 0 else gap_s / linear
    return max(1, math.ceil(steps - 1e-9))


def serve_pool(requests: Requests, law: StepLaw, machines: int) -> ServedRequest:
    """Several machines that take the requests in turn."""
    if machines < 1:
        raise ParameterError("machines", machines, "one or more")
    first, done = np.empty(len(requests)), np.empty(len(requests))
    columns = (requests.arrival_s, requests.tokens_in, requests.tokens_out)
    for machine in range(machines):
        mine = slice(machine, None, machines)
        times, read, written = (column[mine].tolist() for column in columns)
        served = serve_requests(times, read, written, law)
        first[mine], done[mine] = served.first_s, served.done_s
    return ServedRequest(requests.arrival_s, first, done)


def saturated_rate(requests: Requests, law: StepLaw) -> float:
    """Requests per second of one machine that never has to wait for the next one."""
    served = serve_requests([0.0] * len(requests), requests.tokens_in.tolist(), requests.tokens_out.tolist(), law)
    # between the first and the last tenth of the answers: neither filling nor draining
    order = np.sort(served.done_s)
    low, high = len(order) // 10, len(order) - len(order) // 10 - 1
    return float((high - low) / (order[high] - order[low]))


def closed_loop(run: ServingPoint, law: StepLaw, seed: int) -> ServingPoint:
    """What the law makes of a published run: the same users and lengths, means over three rounds
    after two.

    The first answers have random lengths, so that the users do not march in step.
    """
    users, written = run.concurrency, run.tokens_out
    lengths = np.random.default_rng(seed).integers(1, written + 1, users).tolist() + [written] * max(5 * users, 20)
    served = serve_requests([0.0] * users, [run.tokens_in] * len(lengths), lengths, law, loop=True)
    low, high = 2 * users, min(5 * users, len(lengths))
    part = slice(low, high)
    order = np.sort(served.done_s)
    first = served.first_s[part] - served.arrival_s[part]
    steps = (served.done_s[part] - served.first_s[part]) / (written - 1)
    rate = (high - low) * written / (order[high - 1] - order[low - 1])
    return ServingPoint(run.model, run.tokens_in, written, users, float(first.mean()), float(steps.mean()), float(rate))
