"""What the trace costs, measured now: the same tokens computed with and without it, in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from otr_core.errors import ParameterError
from otr_core.poea.trace import TraceShape
from otr_node.hashing_process import HashingProcess, shared_process
from otr_node.model import Model
from otr_node.recorder import TraceRecorder
from otr_paper.benches.turns import check_counts

LANES = {"portable": "portable-1", "native": "native-float32"}
"""Name at the command line -> lane that is measured."""
PARTS = ("decode", "prefill", "answer")
"""What a share is of: ``share_of_<part>``."""
_SEED = bytes(range(32))


@dataclass(frozen=True)
class TracePlan:
    """How much is measured.

    Attributes:
        rounds: answers computed each way. prompt, tokens: length of their prompts, and tokens fed
            after these. stretch: tokens that one way decodes before the other has its turn; twice
            so many divide ``tokens``.

    Raises:
        ParameterError: nothing to measure, or tokens that do not fill the turns.
    """

    rounds: int = 6
    prompt: int = 256
    tokens: int = 32
    stretch: int = 8

    def __post_init__(self) -> None:
        check_counts(self, "rounds", "prompt", "tokens", "stretch")
        if self.tokens % (2 * self.stretch):
            raise ParameterError("tokens", self.tokens, f"a multiple of {2 * self.stretch}")


class _Clocks:
    """Seconds of the clock, of this program's CPU and of the hashing process's, so far."""

    def __init__(self, process: HashingProcess | None) -> None:
        self._process = process
        # Of an answer without states, the hashes are there when all that was sent before is hashed.
        self._idle = None if process is None else process.answer(_SEED, plain=False)

    def spent(self, work: Callable[[], object]) -> tuple[float, float, float]:
        """What ``work`` takes; hashing that is left over when it returns is waited for after the
        clock has stopped, and its CPU time counted."""
        before = self._hashing()
        cpu, clock = time.process_time(), time.perf_counter()
        work()
        clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
        return clock, cpu, self._hashing() - before

    def _hashing(self) -> float:
        if self._process is None or self._idle is None:
            return 0.0
        self._idle.collect()
        return self._process.cpu_s


@dataclass
class _Turns:
    """Per turn: what it took without the trace (clock, CPU), and what the trace added (clock, CPU,
    CPU of the process that hashes), in seconds."""

    plain: list[tuple[float, float]] = field(default_factory=list)
    added: list[tuple[float, float, float]] = field(default_factory=list)

    def take(self, clocks: _Clocks, count: int, plain: Callable[[], object], traced: Callable[[], object]) -> None:
        """One turn: without, with, with, without, so that a drift cancels.

        Args:
            count: units of work in one call of ``plain`` or ``traced``; times are of one unit.
        """
        first, *both, last = (clocks.spent(work) for work in (plain, traced, traced, plain))
        without = [(a + b) / 2 / count for a, b in zip(first, last, strict=True)]
        with_it = [(a + b) / 2 / count for a, b in zip(*both, strict=True)]
        self.plain.append((without[0], without[1]))
        self.added.append((with_it[0] - without[0], with_it[1] - without[1], with_it[2]))

    def medians(self) -> tuple[list[float], list[float]]:
        return [statistics.median(each) for each in zip(*self.plain, strict=True)], [
            statistics.median(each) for each in zip(*self.added, strict=True)
        ]


class _Answer:
    """An answer of given tokens, computed in parts; ``begin`` begins another one."""

    def __init__(self, model: Model, process: HashingProcess | None, *, traced: bool) -> None:
        self._model, self._process, self._traced = model, process, traced

    def begin(self, prompt: int) -> None:
        self.fed = [self._token(position) for position in range(prompt)]
        self._session = self._model.session()
        self._recorder = TraceRecorder(_SEED, process=self._process) if self._traced else None
        self._session.feed(self.fed, self._recorder)

    def go_on(self, count: int) -> None:
        for _ in range(count):
            self.fed.append(self._token(len(self.fed)))
            self._session.feed(self.fed[-1:], self._recorder)

    def finish(self, prompt: int) -> tuple[TraceShape, float]:
        """The trace's shape, and seconds until its root is known."""
        assert self._recorder is not None
        started = time.perf_counter()
        trace = self._recorder.finish([*self.fed, 0], prompt)
        _ = trace.root
        return trace.shape, time.perf_counter() - started

    def _token(self, position: int) -> int:
        return 17 * position % self._model.architecture.vocab


def measure_trace(model: Model, plan: TracePlan | None = None) -> dict[str, Any]:
    """Measure what recording adds to ``model``.

    Returns:
        JSON values; times are medians over all turns, in seconds. decode_s, prefill_s: a token, and
        the prompt, without the trace. trace_decode_s, trace_prefill_s: what the trace adds.
        finish_s: from the last state to the trace's root, once per answer. share_of_decode,
        share_of_prefill: what the trace adds, each position's part of finishing included, over the
        time without it. The same of CPU: decode_cpu_s and prefill_cpu_s without the trace,
        trace_decode_cpu_s and trace_prefill_cpu_s what it adds in both processes; and over the
        former cpu_share_… (what it adds in this program) and hashing_cpu_share_… (in the process that
        hashes; 0 where there is none). share_of_answer: of prompt, tokens and finishing together.
    """
    plan = plan or TracePlan()
    process = shared_process()
    clocks, prefill, decode = _Clocks(process), _Turns(), _Turns()
    plain, traced = (_Answer(model, process, traced=how) for how in (False, True))
    # The first answers also load kernels and fill caches: not counted.
    for answer in (plain, traced):
        answer.begin(plan.prompt)
        answer.go_on(2)
    ends = []
    for _ in range(plan.rounds):
        # Two prompts each way; decoding goes on from the second.
        prefill.take(clocks, 1, partial(plain.begin, plan.prompt), partial(traced.begin, plan.prompt))
        for _ in range(plan.tokens // (2 * plan.stretch)):
            decode.take(clocks, plan.stretch, partial(plain.go_on, plan.stretch), partial(traced.go_on, plan.stretch))
        shape, seconds = traced.finish(plan.prompt)
        ends.append(seconds)
    finish_s = statistics.median(ends)
    result: dict[str, Any] = {
        "lane": model.manifest.lane,
        "prompt_tokens": plan.prompt,
        "fed_tokens": plan.tokens,
        "rounds": plan.rounds,
        "hashing": "beside" if process else "within",
        "bytes_per_token": shape.layers * (shape.output_bytes + 2 * shape.kv_bytes),
        "finish_s": finish_s,
    }
    whole = added = 0.0
    for name, turns, positions, times in (("decode", decode, 1, plan.tokens), ("prefill", prefill, plan.prompt, 1)):
        (clock, cpu), (more, more_cpu, hashing) = turns.medians()
        with_finish = more + finish_s * positions / shape.positions
        whole, added = whole + times * clock, added + times * with_finish
        result |= {
            f"{name}_s": clock,
            f"trace_{name}_s": more,
            f"share_of_{name}": with_finish / clock,
            f"{name}_cpu_s": cpu,
            f"trace_{name}_cpu_s": more_cpu + hashing,
            f"cpu_share_of_{name}": more_cpu / cpu,
            f"hashing_cpu_share_of_{name}": hashing / cpu,
        }
    return result | {"share_of_answer": added / whole}
