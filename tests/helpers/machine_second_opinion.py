"""The serving machine once more, step by step with SimPy: slow, and written from the description
alone."""

from __future__ import annotations


def serve_by_steps(arrivals, tokens_in, tokens_out, law, reused=None):
    """(first token times, last token times) of every request."""
    import simpy

    env = simpy.Environment()
    first, done = {}, {}
    arrived, waiting, running = [], [], {}
    known = list(reused) if reused is not None else [0] * len(tokens_in)
    wake = env.event()

    def source():
        nonlocal wake
        for time in sorted(set(arrivals)):
            yield env.timeout(max(0.0, time - env.now))
            arrived.extend(request for request, other in enumerate(arrivals) if other == time)
            if not wake.triggered:
                wake.succeed()

    def machine():
        nonlocal wake
        begun, handed_until = {}, 0.0
        while len(done) < len(tokens_in):
            if not arrived and not waiting and not running:
                wake = env.event()
                yield wake
            waiting.extend(arrived)
            arrived.clear()
            left = law.budget_tokens if law.prefill_first else law.budget_tokens - len(running)
            complete, cost, pieces = [], 0.0, 0
            held = sum(tokens_in[r] + tokens_out[r] for r in [*running, *begun])
            all_of_it = left
            while waiting and left:
                request = waiting[0]
                if request not in begun:
                    need = tokens_in[request] + tokens_out[request]
                    if len(running) + len(complete) == law.most_answers or held + need > law.kv_tokens:
                        break
                    held += need
                    begun[request] = known[request]
                if law.whole_prompts and left < tokens_in[request] - begun[request] <= all_of_it:
                    break
                # token by token: the n-th of a prompt costs prompt_s and its share of the square
                while left and begun[request] < tokens_in[request]:
                    begun[request] += 1
                    cost += law.prompt_s + law.prompt2_s * (2 * begun[request] - 1)
                    left -= 1
                    pieces += 1
                if begun[request] == tokens_in[request]:
                    complete.append(waiting.pop(0))
            writing = [] if pieces and law.prefill_first else list(running)
            lasts = law.base_s + cost + law.each_s * len(writing)
            lasts += law.context_s * sum(tokens_in[r] + running[r] for r in writing)
            yield env.timeout(lasts)
            handed_until = max(handed_until, env.now) + law.emit_s * (len(writing) + len(complete))
            for request in complete:
                del begun[request]
                first[request] = handed_until
            for request in writing:
                running[request] += 1
            running.update(dict.fromkeys(complete, 1))
            for request in [r for r, written in running.items() if written == tokens_out[r]]:
                del running[request]
                done[request] = handed_until

    env.process(source())
    env.process(machine())
    env.run()
    order = range(len(tokens_in))
    return [first[r] for r in order], [done[r] for r in order]
