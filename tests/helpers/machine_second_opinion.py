"""The serving machine once more, step by step with SimPy: slow, and written from the description
alone."""

from __future__ import annotations


def serve_by_steps(arrivals, tokens_in, tokens_out, law):
    """(first token times, last token times) of every request."""
    import simpy

    env = simpy.Environment()
    first, done = {}, {}
    arrived, waiting, running = [], [], {}
    steps_made = 0
    wake = env.event()

    def source():
        nonlocal wake
        for time in sorted(set(arrivals)):
            yield env.timeout(max(0.0, time - env.now))
            arrived.extend(request for request, other in enumerate(arrivals) if other == time)
            if not wake.triggered:
                wake.succeed()

    def machine():
        nonlocal steps_made, wake
        while len(done) < len(tokens_in):
            if not arrived and not waiting and not running:
                wake = env.event()
                yield wake
            # noticed between two steps, and ready that many steps later
            waiting.extend((request, steps_made + (law.wait_steps if running else 0)) for request in arrived)
            arrived.clear()
            taken = []
            held = sum(tokens_in[r] + tokens_out[r] for r in running)
            while waiting and len(running) + len(taken) < law.most_answers:
                request, ready = waiting[0]
                need = tokens_in[request] + tokens_out[request]
                if (ready > steps_made and running) or held + need > law.kv_tokens:
                    break
                held += need
                taken.append(waiting.pop(0)[0])
            context = sum(tokens_in[r] + written for r, written in running.items())
            last = law.base_s + law.each_s * len(running) + law.context_s * context
            last += sum(law.prompt_s * tokens_in[r] + law.prompt2_s * tokens_in[r] ** 2 for r in taken)
            yield env.timeout(last)
            steps_made += 1
            for request in list(running):
                running[request] += 1
            for request in taken:
                running[request] = 1
                first[request] = env.now
            for request in [r for r, written in running.items() if written == tokens_out[r]]:
                del running[request]
                done[request] = env.now

    env.process(source())
    env.process(machine())
    env.run()
    order = range(len(tokens_in))
    return [first[r] for r in order], [done[r] for r in order]
