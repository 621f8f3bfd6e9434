"""A serving machine with continuous batching, simulated step by step: one machine, several, and the
closed loop of a published run.

Prompts are taken up in order of arrival and read in pieces that fit into a step's token budget, or whole;
memory for prompt and answer is reserved when a prompt is taken up, so no answer is ever thrown out.
Answer lengths are known beforehand, which a real scheduler can only bound. A prefix that the cache
holds costs no reading, and is charged its memory; what it holds, the requests say (``prefix_cache``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from otr_core.errors import ParameterError
from otr_paper.simulation.arrivals import Requests
from otr_paper.simulation.law import LoadGenerator, ServingPoint, StepLaw


@dataclass(frozen=True, eq=False)
class ServedRequest:
    """When each request arrived, got its first token and its last, s."""

    arrival_s: NDArray[np.float64]
    first_s: NDArray[np.float64]
    done_s: NDArray[np.float64]


def serve_requests(
    arrivals: ArrayLike,
    tokens_in: ArrayLike,
    tokens_out: ArrayLike,
    law: StepLaw,
    reused: ArrayLike | None = None,
    *,
    loop: LoadGenerator | None = None,
    users: int = 0,
) -> ServedRequest:
    """When one machine gives the first and the last token of each request.

    Args:
        arrivals: sorted, s; not looked at in a loop. reused: tokens of each prompt's beginning that
            the cache holds, below the prompt's; None for none.
        loop: the ``users`` of a closed loop send the requests: each finished answer brings the next.

    Raises:
        ParameterError: a request that does not fit into the model's context, or into the machine's
            memory even alone.
    """
    from otr_paper.simulation.machine import serve_steps

    read, written = (np.array(tokens, dtype=np.int64) for tokens in (tokens_in, tokens_out))
    if not len(read):
        return ServedRequest(np.zeros(0), np.zeros(0), np.zeros(0))
    law.check_lengths(read, written)
    kept = np.zeros(len(read), np.int64) if reused is None else np.array(reused, dtype=np.int64)
    start = np.zeros(len(read)) if loop else np.array(arrivals, dtype=float)
    client, count = loop or LoadGenerator(0.0, 0.0, 1.0), min(users, len(read)) if loop else 0
    times = (law.base_s, law.each_s, law.context_s, law.prompt_s, law.prompt2_s, law.emit_s)
    limits = (float(law.kv_tokens), law.most_answers, law.budget_tokens, law.prefill_first, law.whole_prompts)
    first, done = serve_steps(start, count, client.send_s, client.return_s, read, written, kept, times, *limits)
    return ServedRequest(start, first, done)


def serve_pool(requests: Requests, law: StepLaw, machines: int) -> ServedRequest:
    """Several machines that take the requests in turn. A prefix counts as cached on all of them."""
    if machines < 1:
        raise ParameterError("machines", machines, "one or more")
    first, done = np.empty(len(requests)), np.empty(len(requests))
    for machine in range(machines):
        mine = slice(machine, None, machines)
        times, read, written = requests.arrival_s[mine], requests.tokens_in[mine], requests.tokens_out[mine]
        served = serve_requests(times, read, written, law, requests.reused[mine])
        first[mine], done[mine] = served.first_s, served.done_s
    return ServedRequest(requests.arrival_s, first, done)


def saturated_rate(requests: Requests, law: StepLaw) -> float:
    """Requests per second of one machine that never has to wait for the next one."""
    served = serve_requests([0.0] * len(requests), requests.tokens_in, requests.tokens_out, law, requests.reused)
    # between the first and the last tenth of the answers: neither filling nor draining
    order = np.sort(served.done_s)
    low, high = len(order) // 10, len(order) - len(order) // 10 - 1
    return float((high - low) / (order[high] - order[low]))


def closed_loop(run: ServingPoint, law: StepLaw, client: LoadGenerator) -> ServingPoint:
    """What the law makes of a published run: the same users and lengths, means over all requests.

    All users begin together and nothing is drawn: equal answers keep them in step, as far as budget
    and client let them, and the wait behind one another is most of a published first token.
    """
    users, written = run.concurrency, run.tokens_out
    count = max(3, round(users * max(2.0, client.rounds_tokens / written)))
    served = serve_requests([], [run.tokens_in] * count, [written] * count, law, loop=client, users=users)
    first = served.first_s - served.arrival_s
    steps = (served.done_s - served.first_s) / (written - 1)
    rate = count * written / served.done_s.max()
    return ServingPoint(run.model, run.tokens_in, written, users, float(first.mean()), float(steps.mean()), float(rate))
