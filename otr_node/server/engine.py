"""The engine: one thread that computes all answers of a server together.

An order waits until there is a place, is written down as begun while its prompt is already being
computed, and gives nothing away before it is written. Its receipt is made and written in a second
thread, so that the others go on; the place is free only then.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from otr_core.errors import JournalError, ServiceError
from otr_core.lane.sampling import draw
from otr_node.batching import ContinuousBatch
from otr_node.model import Model
from otr_node.portable import PortableModel
from otr_node.recorder import TraceRecorder
from otr_node.server.desk import Clerk, Issued, Task, order_taken
from otr_node.server.limits import ServerLimits
from otr_node.server.turns import InTurn, Sequences

MOST_RESTARTS = 2
"""Times that an answer is computed anew because something failed, such as the process that hashes."""
_PAUSE_S = 1.0  # between two attempts to write a receipt down


@dataclass(frozen=True)
class ChosenToken:
    """A token was chosen; whoever shows it waits for ``Job.begun`` first."""

    token_id: int


@dataclass(frozen=True)
class Done:
    """The answer is complete and its receipt written."""

    finish: str
    receipt: bytes


@dataclass(frozen=True)
class Failed:
    """There will be no answer now."""

    why: ServiceError


Event = ChosenToken | Done | Failed


@dataclass(eq=False)
class Job:
    """An order on its way through the engine.

    Attributes:
        listen: gets every event, in the engine's threads.
        asked: when it came, of ``time.monotonic``. begun: whether it is written down and may be
            answered; unset while it waits.
        chosen: tokens so far. cancelled: nobody waits for it; heeded until it is begun.
    """

    task: Task
    listen: Callable[[Event], None] = lambda event: None
    asked: float = field(default_factory=time.monotonic)
    begun: Future[bool] | None = None
    chosen: list[int] = field(default_factory=list)
    first_s: float = 0.0
    cancelled: bool = False
    recorder: TraceRecorder | None = None
    fed: int = 0  # of the chosen tokens, since the prompt was last fed
    restarts: int = 0

    @property
    def order_id(self) -> bytes:
        return self.task.order.id


class Engine:
    """Computes what is submitted, at most ``limits.batch`` answers at once.

    Args:
        report: gets the name of what happened and what it is about, for the log.

    Attributes:
        tokens: chosen since the start, read by the metrics.
    """

    def __init__(
        self,
        model: Model,
        clerk: Clerk,
        limits: ServerLimits,
        *,
        report: Callable[..., None] = lambda event, **facts: None,
    ) -> None:
        self._model, self._clerk, self._limits, self._report = model, clerk, limits, report
        self._waiting: deque[Job] = deque()
        self._running: dict[int, Job] = {}
        self._next: dict[int, int] = {}  # token to be fed next, by number
        self._ending: set[Job] = set()
        self._taken: set[bytes] = set()
        self._change = threading.Condition()
        self._stopping = self._closed = False
        self._sequences = self._new_sequences()
        self._finisher = ThreadPoolExecutor(1, thread_name_prefix="otr-receipts")
        self._thread = threading.Thread(target=self._run, name="otr-engine", daemon=True)
        self.tokens = 0

    def _new_sequences(self) -> Sequences:
        return ContinuousBatch(self._model) if isinstance(self._model, PortableModel) else InTurn(self._model)

    def start(self, left_over: Sequence[Task] = ()) -> None:
        """Begin to compute, first of all what an earlier start has left."""
        for task in left_over:
            self._taken.add(task.order.id)
            self._waiting.append(Job(task))
        self._thread.start()

    @property
    def load(self) -> tuple[int, int]:
        """Orders that wait, and that are being answered."""
        return len(self._waiting), len(self._running) + len(self._ending)

    @property
    def healthy(self) -> bool:
        """Whether the thread that computes is there."""
        return self._thread.is_alive()

    def holds(self, order_id: bytes) -> bool:
        """Whether an order waits or is being answered."""
        return order_id in self._taken

    def submit(self, job: Job) -> None:
        """Let a job wait for its turn.

        Raises:
            ServiceError: 429 where too many wait, 503 while stopping, 409 for an order that is here already.
        """
        with self._change:
            if self._stopping:
                raise stopping()
            if job.order_id in self._taken:
                raise order_taken(job.order_id)
            if len(self._waiting) >= self._limits.queue:
                message = f"queue: found {len(self._waiting)} orders waiting, expected fewer than {self._limits.queue}"
                raise ServiceError(429, "queue_full", message, kind="rate_limit_error", retry_after_s=1)
            self._taken.add(job.order_id)
            self._waiting.append(job)
            self._change.notify()

    def cancel(self, job: Job) -> bool:
        """Take back a job that still waits; one that is begun goes on to its end. Whether it was taken
        back."""
        with self._change:
            if job not in self._waiting:
                return False
            self._waiting.remove(job)
            self._taken.discard(job.order_id)
            return True

    def refuse_new(self) -> None:
        """Take no more jobs and let go those that wait; what is begun goes on."""
        with self._change:
            self._stopping = True
            gone = [job for job in self._waiting if job.task.request is not None]
            self._waiting.clear()
            for job in gone:
                self._taken.discard(job.order_id)
        for job in gone:
            job.listen(Failed(stopping()))

    def close(self, within_s: float = 0.0) -> bool:
        """Stop computing, when all that is begun has ended or after so many seconds. Whether all has."""
        self.refuse_new()
        deadline = time.monotonic() + within_s
        while (self._running or self._ending) and time.monotonic() < deadline and self._thread.is_alive():
            time.sleep(0.02)
        with self._change:
            self._closed = True
            self._change.notify()
        if self._thread.ident is not None:
            self._thread.join()
        self._finisher.shutdown(wait=True)
        return not self._running and not self._ending

    def _run(self) -> None:
        while True:
            with self._change:
                while not (self._closed or self._running or self._waiting):
                    self._change.wait()
                if self._closed:
                    return
                admitted = self._places()
            for job in admitted:
                self._admit(job)
            try:
                if self._running:
                    self._step()
                elif not admitted:
                    time.sleep(0.002)  # all places are taken by receipts being written
            except Exception as error:
                self._report("engine_failed", error=error)
                self._start_over()

    def _places(self) -> list[Job]:
        """Jobs that get a place now."""
        free = self._limits.batch - len(self._running) - len(self._ending)
        return [self._waiting.popleft() for _ in range(min(free, len(self._waiting)))]

    def _admit(self, job: Job) -> None:
        try:
            if job.begun is None:
                job.begun = self._clerk.begin(job.task)
            job.recorder, job.fed = self._clerk.recorder(job.task), 0
            number = self._sequences.add(job.task.said.prompt_ids, job.recorder)
        except Exception as error:
            self._report("engine_failed", error=error)
            self._again(job)
        else:
            self._running[number] = job

    def _step(self) -> None:
        """Feed everybody once, and choose the next tokens."""
        for number in [number for number, job in self._running.items() if _refused(job)]:
            self._fail(self._leave(number))
        tokens, self._next = {number: t for number, t in self._next.items() if number in self._running}, {}
        for number, logits in self._sequences.step(tokens).items():
            job = self._running[number]
            token = self._choose(job, logits)
            if token in self._model.architecture.stop_ids or job.fed == job.task.order.decoding.max_tokens:
                self._leave(number)
                self._ending.add(job)
                self._finisher.submit(self._finish, job)
            else:
                self._next[number] = token

    def _choose(self, job: Job, logits: np.ndarray) -> int:
        """The job's next token; after a failure those that were chosen before are fed again."""
        decoding, at = job.task.order.decoding, job.fed
        job.fed += 1
        if at < len(job.chosen):
            return job.chosen[at]
        drawn = draw(decoding.seed, at, job.order_id) if decoding.temperature_milli else 0
        job.chosen.append(self._model.choose(logits, decoding.temperature_milli, drawn))
        if at == 0:
            job.first_s = time.monotonic() - job.asked
        self.tokens += 1
        job.listen(ChosenToken(job.chosen[-1]))
        return job.chosen[-1]

    def _leave(self, number: int) -> Job:
        self._sequences.remove(number)
        return self._running.pop(number)

    def _fail(self, job: Job, why: ServiceError | None = None) -> None:
        self._forget(job)
        job.listen(Failed(why or _why_refused(job)))

    def _forget(self, job: Job) -> None:
        with self._change:
            self._ending.discard(job)
            self._taken.discard(job.order_id)
            self._change.notify()

    def _start_over(self) -> None:
        """After a failure within a step no sequence can be trusted: all that run are computed anew, and
        keep the tokens that they have."""
        jobs = list(self._running.values())
        self._running, self._next, self._sequences = {}, {}, self._new_sequences()
        for job in jobs:
            self._again(job)

    def _again(self, job: Job) -> None:
        job.restarts += 1
        if job.restarts > MOST_RESTARTS:
            self._fail(job, _broken())
            return
        with self._change:
            self._ending.discard(job)
            self._waiting.appendleft(job)
            self._change.notify()

    def _finish(self, job: Job) -> None:
        """Make the receipt and write it down, in the finisher's thread."""
        try:
            finish = "stop" if job.chosen[-1] in self._model.architecture.stop_ids else "length"
            assert job.begun is not None
            if not job.begun.result():
                self._fail(job)
                return
            issued = self._clerk.issue(job.task, tuple(job.chosen), finish, job.recorder)
            while not self._kept(job, issued):
                if self._closed:  # it stays begun, and is answered at the next start
                    self._fail(job, stopping())
                    return
                time.sleep(_PAUSE_S)
            self._forget(job)
            job.listen(Done(finish, issued.receipt))
        except JournalError:
            self._fail(job)
        except Exception as error:
            self._report("receipt_failed", error=error)
            self._again(job)

    def _kept(self, job: Job, issued: Issued) -> bool:
        try:
            self._clerk.keep(job.task, issued)
        except JournalError as error:
            self._report("journal_failed", error=error)
            return False
        return True


def _refused(job: Job) -> bool:
    """Whether it is known that a job may not be answered."""
    begun = job.begun
    return begun is not None and begun.done() and (begun.exception() is not None or not begun.result())


def _why_refused(job: Job) -> ServiceError:
    if job.begun is not None and job.begun.exception() is None:
        return order_taken(job.order_id)
    message = "journal: found it not writable, expected to write the order down before it is answered"
    return ServiceError(503, "journal_unavailable", message, retry_after_s=5)


def _broken() -> ServiceError:
    return ServiceError(500, "internal_error", "the answer could not be computed; its order is not answered again now")


def stopping() -> ServiceError:
    """The refusal of a server that stops."""
    return ServiceError(503, "stopping", "server: found it stopping, expected one that goes on", retry_after_s=5)
