"""The steps of a serving machine as one compiled loop.

A hundred thousand steps take a few hundredths of a second, so that every step is made: nothing is
summed up over steps that look alike. SimPy checks the loop in the tests.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from otr_node.integers.compiled import compiled


@compiled
def serve_steps(
    arrival: Any,
    users: int,
    send_s: float,
    return_s: float,
    read: Any,
    written: Any,
    reused: Any,
    times: tuple[float, ...],
    kv_tokens: float,
    most: int,
    budget: int,
    prefill_first: bool,
    whole: bool,
) -> Any:
    """First and last token of every request: fills in ``arrival`` and gives (first, done).

    Each pass of the loop is one step. Prompts are read in order of arrival, in pieces that fit into
    the step's budget beside one token for each answer in progress; with ``prefill_first`` a step
    that reads prompts writes no answer on. The tokens of a step are then handed out one after
    another, behind those of earlier steps: ``handed`` is when that is done.

    Answers end after as many writing steps as they have tokens. ``last`` and ``following`` hold, for
    each coming writing step, the answers that end with it, oldest first.

    Args:
        arrival: s, float64, one entry a request. In a closed loop (``users`` above 0) the first
            ``users`` are 0, and the others are filled in: a finished answer brings the next request
            ``return_s`` later, and requests are sent at least ``send_s`` apart; ``arrival`` is when
            its user begins to wait, which is at once.
        read, written, reused: int64: tokens of prompt and answer, and of the prompt's beginning that
            the cache holds. times: base_s, each_s, context_s, prompt_s, prompt2_s, emit_s.
        kv_tokens: that prompts and answers in progress may hold together. most: answers at once.
        budget: most tokens of a step, above ``most``. whole: a prompt that an empty step would hold beside
            the answers in progress is read in one step, and waits for it.
    """
    base, each, context_s, prompt_s, prompt2_s, emit = times
    count = len(read)
    first, done, seen_at = np.zeros(count), np.zeros(count), arrival.copy()
    ring = written.max() + 1
    oldest, last = np.full(ring, -1), np.full(ring, -1)
    following = np.full(count, -1)
    issued = users if users > 0 else count
    for request in range(users):
        seen_at[request] = send_s * (request + 1)
    sent = send_s * users
    now = handed = 0.0
    tick = active = context = held = 0
    seen = taken = finished = at = 0
    begun = False
    while finished < count:
        if active == 0 and taken == seen:
            now = max(now, seen_at[seen])
        while seen < issued and seen_at[seen] <= now:
            seen += 1
        # Read prompts, oldest first, as far as budget and memory go.
        room = budget if prefill_first else budget - active
        start, cost, pieces, empty = taken, 0.0, False, room
        while taken < seen and room > 0:
            if not begun:
                need = read[taken] + written[taken]
                if held + need > kv_tokens or active + (taken - start) >= most:
                    break
                held += need
                at, begun = reused[taken], True
            piece = min(room, read[taken] - at)
            if whole and piece < read[taken] - at <= empty:
                break
            cost += prompt_s * piece + prompt2_s * (float(at + piece) ** 2 - float(at) ** 2)
            at += piece
            room -= piece
            pieces = True
            if at < read[taken]:
                break
            taken += 1
            begun = False
        writes = active > 0 and not (prefill_first and pieces)
        now += base + cost + (each * active + context_s * context if writes else 0.0)
        handed = max(handed, now) + emit * ((active if writes else 0) + taken - start)
        # The answers that end with this step leave, the new ones have their first token.
        if writes:
            tick += 1
            context += active
            request = oldest[tick % ring]
            oldest[tick % ring] = last[tick % ring] = -1
            while request >= 0:
                active -= 1
                context -= read[request] + written[request]
                held -= read[request] + written[request]
                done[request] = handed
                finished += 1
                if issued < count:
                    arrival[issued] = handed
                    sent = max(sent, handed + return_s) + send_s
                    seen_at[issued] = sent
                    issued += 1
                request = following[request]
        for request in range(start, taken):
            first[request] = handed
            if written[request] == 1:
                held -= read[request] + 1
                done[request] = handed
                finished += 1
                if issued < count:
                    arrival[issued] = handed
                    sent = max(sent, handed + return_s) + send_s
                    seen_at[issued] = sent
                    issued += 1
                continue
            active += 1
            context += read[request] + 1
            slot = (tick + written[request] - 1) % ring
            if last[slot] >= 0:
                following[last[slot]] = request
            else:
                oldest[slot] = request
            last[slot] = request
    return first, done
