"""A prefix cache that forgets: which prompts' beginnings are still there when they are asked for.

A trace says how many of a prompt's first blocks some earlier prompt had, and not which prompt, so that what
a cache of some size holds cannot be replayed. Two guesses bound it, both of which take a prompt to go on
from one whose whole blocks it begins with, once that one's answer can have been read: the *latest* such
prompt (every conversation goes on at once), or the *oldest* (each waits for as long as it can).
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from otr_core.errors import ParameterError
from otr_paper.claims.published import Published
from otr_paper.simulation.arrivals import BLOCK_TOKENS, Requests

GUESSES = ("latest", "oldest")
"""Which of the prompts that fit a prompt goes on from."""


def room_tokens(published: Published, model: str, gpus: int) -> float:
    """Tokens whose keys and values (a byte each) fit on so many H100s beside weights of a byte each; what an
    engine needs for anything else comes off this.

    Args:
        model: of Llama 3.1, "8b" or "70b".
    """
    memory = gpus * published.number("hw.h100_memory", "GB") * 1e9
    layers, width = (published.number(f"model.llama31_{model}.{name}", "count") for name in ("layers", "kv_width"))
    return (memory - published.number(f"model.llama_{model}.params", "params")) / (2 * layers * width)


def parents(requests: Requests, step_s: float, guess: str) -> NDArray[np.int64]:
    """The number of the request that each goes on from, -1 for none: where more than one block of its prompt
    is known, the latest or oldest whose whole blocks are as many and that nothing has gone on from yet.

    Args:
        step_s: least time between two tokens of an answer, which has to be read first. guess: one of
            ``GUESSES``.

    Raises:
        ParameterError: another guess.
    """
    if guess not in GUESSES:
        raise ParameterError("guess", guess, " or ".join(GUESSES))
    found = np.full(len(requests), -1)
    read_at = requests.arrival_s + step_s * requests.tokens_out
    known = -(-requests.reused // BLOCK_TOKENS)
    waiting: defaultdict[int, deque[int]] = defaultdict(deque)
    order, next_read = np.argsort(read_at, kind="stable"), 0
    for number, now in enumerate(requests.arrival_s):
        while next_read < len(order) and read_at[order[next_read]] <= now:
            done = int(order[next_read])
            waiting[int(requests.tokens_in[done]) // BLOCK_TOKENS].append(done)
            next_read += 1
        fits = waiting[int(known[number])]
        if known[number] > 1 and fits:
            found[number] = fits.pop() if guess == "latest" else fits.popleft()
    return found


def remembered(requests: Requests, capacity_tokens: float, step_s: float, guess: str) -> Requests:
    """The same requests, of whose known beginnings only those are reused that a cache of ``capacity_tokens``
    still holds: the conversation that was used longest ago goes first, as a whole.

    The first block, which nearly all prompts share, is always there, and so is what fits no earlier prompt:
    that is some other shared beginning.

    Raises:
        ParameterError: a capacity below 0, or as ``parents``.
    """
    if not capacity_tokens >= 0:
        raise ParameterError("capacity_tokens", capacity_tokens, "zero or more")
    size = requests.tokens_in + requests.tokens_out
    held: OrderedDict[int, int] = OrderedDict()
    used, reused = 0, requests.reused.copy()
    for number, parent in enumerate(parents(requests, step_s, guess).tolist()):
        if parent >= 0:
            if parent in held:
                used -= held.pop(parent)
            else:
                reused[number] = min(reused[number], BLOCK_TOKENS)
        held[number] = int(size[number])
        used += held[number]
        while used > capacity_tokens:
            used -= held.popitem(last=False)[1]
    return replace(requests, reused=reused)
