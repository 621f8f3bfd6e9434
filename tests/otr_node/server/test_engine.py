"""The engine: whatever fails or is refused, an answer is the one that it is alone, or there is none."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from otr_core.errors import JournalError, RecorderError, ServiceError
from otr_core.lane.sampling import Decoding
from otr_core.poea import Domain, load_receipt_file
from otr_node.enclave import LIFETIME_S, SimulatedEnclave
from otr_node.generate import generate
from otr_node.model import Model
from otr_node.native import load_native
from otr_node.portable import PortableModel
from otr_node.serve import answer_order, sign_answer
from otr_node.server.desk import Clerk, Desk, Task
from otr_node.server.engine import MOST_RESTARTS, ChosenToken, Done, Engine, Event, Failed, Job
from otr_node.server.journal import Journal
from otr_node.server.limits import ServerLimits
from otr_node.server.turns import InTurn
from tests.helpers.serving import LONG, order_body, own_order, request

NOW = 1_800_000_000
LIMITS = ServerLimits(batch=4, queue=3, max_tokens=900)


def desk_of(model: Model, journal: Journal, **changes: Any) -> Desk:
    enclave = SimulatedEnclave(b"s" * 32, model.manifest.model_id, b"g" * 32, NOW)
    fields: dict[str, Any] = {
        "limits": LIMITS,
        "name": "m",
        "domain": Domain(),
        "now": lambda: NOW,
        "secret": lambda count: bytes(count),
    }
    return Desk(model, enclave, journal, **(fields | changes))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "state")
    yield opened
    opened.close()


@pytest.fixture
def desk(exact: PortableModel, journal: Journal) -> Desk:
    return desk_of(exact, journal)


@dataclass
class Heard:
    """What a client hears."""

    events: list[Event] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if not isinstance(event, ChosenToken):
            self.ended.set()

    @property
    def last(self) -> Event:
        assert self.ended.wait(60)
        return self.events[-1]

    @property
    def tokens(self) -> tuple[int, ...]:
        return tuple(event.token_id for event in self.events if isinstance(event, ChosenToken))


def job_of(desk: Desk, most: int = 30, *, ids: tuple[int, ...] = (1, 5, 6), **fields: Any) -> tuple[Job, Heard]:
    heard = Heard()
    placed = own_order(desk.model.manifest.model_id, ids, most, **fields)
    return Job(desk.take(json.dumps(order_body(placed)).encode()), heard), heard


def alone(desk: Desk, task: Task) -> bytes:
    """The receipt that is made without an engine."""
    answer = answer_order(desk.enclave, desk.model, task.order, task.said)
    return sign_answer(desk.enclave, desk.model, task.order, task.query, task.said, answer).dump()


def run(desk: Desk, clerk: Clerk | None = None, count: int = 3, **fields: Any) -> list[tuple[Job, Heard]]:
    engine = Engine(desk.model, clerk or desk, LIMITS)
    jobs = [job_of(desk, 30 + number, seed=number, temperature_milli=900, **fields) for number in range(count)]
    for job, _ in jobs:
        engine.submit(job)
    engine.start()
    for _, heard in jobs:
        _ = heard.last
    assert engine.close(60)
    return jobs


@dataclass
class Failing(Clerk):
    """A desk of which something fails ``times`` times."""

    desk: Desk
    what: str
    times: int
    error: Exception

    def _fail(self, what: str) -> None:
        if what == self.what and self.times:
            self.times -= 1
            raise self.error

    def begin(self, task: Task) -> Future[bool]:
        self._fail("begin")
        if self.what == "refused":
            future: Future[bool] = Future()
            future.set_result(False)
            return future
        if self.what == "unwritable":
            future = Future()
            future.set_exception(self.error)
            return future
        return self.desk.begin(task)

    def recorder(self, task: Task) -> Any:
        self._fail("recorder")
        inner = self.desk.recorder(task)
        if self.what != "absorb":
            return inner
        absorb, calls = inner.absorb, []

        def failing(*args: Any) -> None:
            calls.append(1)
            if len(calls) == 12:
                self._fail("absorb")
            absorb(*args)

        inner.absorb = failing
        return inner

    def issue(self, *args: Any) -> bytes:
        self._fail("issue")
        return self.desk.issue(*args)

    def keep(self, task: Task, receipt: bytes) -> None:
        self._fail("keep")
        self.desk.keep(task, receipt)


@pytest.mark.parametrize("what", ["", "recorder", "absorb", "issue", "keep", "begin"])
def test_an_answer_survives_what_fails_once(desk: Desk, what: str):
    error = JournalError("full") if what == "keep" else RecorderError("gone")
    for job, heard in run(desk, Failing(desk, what, 1, error)):
        assert isinstance(heard.last, Done)
        expected = generate(desk.model, job.task.said.prompt_ids, job.task.order.decoding, order_id=job.order_id)
        assert heard.tokens == expected.token_ids  # each once, also after a new start
        assert heard.last.receipt == alone(desk, job.task) == desk.journal.receipt(job.order_id)


def test_an_answer_that_fails_again_and_again_is_given_up_and_its_place_is_free(desk: Desk):
    jobs = run(desk, Failing(desk, "issue", 3 * (MOST_RESTARTS + 1), RecorderError("gone")))
    for job, heard in jobs:
        assert isinstance(heard.last, Failed)
        assert heard.last.why.status == 500
        assert desk.state(job.order_id)[0] == "begun"
    for job, heard in run(desk):
        assert isinstance(heard.last, Done)
        assert desk.journal.receipt(job.order_id)


@pytest.mark.parametrize(("what", "status"), [("refused", 409), ("unwritable", 503)])
def test_an_order_that_is_not_written_down_is_not_answered(desk: Desk, what: str, status: int):
    for job, heard in run(desk, Failing(desk, what, 0, JournalError("full"))):
        assert isinstance(heard.last, Failed)
        assert heard.last.why.status == status
        assert desk.journal.receipt(job.order_id) is None


def test_a_short_answer_that_is_refused_is_not_signed(desk: Desk):
    engine = Engine(desk.model, Failing(desk, "refused", 0, JournalError("")), LIMITS)
    job, heard = job_of(desk, 1)
    engine.submit(job)
    engine.start()
    assert isinstance(heard.last, Failed)
    engine.close()


def test_the_queue_is_bounded_and_an_order_is_in_it_once(desk: Desk):
    engine = Engine(desk.model, desk, LIMITS)
    jobs = [job_of(desk) for _ in range(LIMITS.queue + 1)]
    for job, _ in jobs[:-1]:
        engine.submit(job)
    with pytest.raises(ServiceError, match="queue") as error:
        engine.submit(jobs[-1][0])
    assert (error.value.status, error.value.retry_after_s > 0) == (429, True)
    assert engine.load == (LIMITS.queue, 0)
    assert engine.cancel(jobs[0][0])
    assert not engine.cancel(jobs[0][0])
    with pytest.raises(ServiceError, match="order") as error:
        engine.submit(jobs[1][0])
    assert error.value.status == 409
    engine.submit(jobs[0][0])  # what was taken back may come again
    engine.start()
    for _, heard in jobs[:-1]:
        assert isinstance(heard.last, Done)
    assert not engine.holds(jobs[1][0].order_id)
    engine.close()


def test_a_prompt_of_a_megabyte_is_refused_before_it_is_tokenised(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(type(desk.model.tokenizer), "prompt_ids", lambda *args: pytest.fail("it is tokenised"))
    with pytest.raises(ServiceError, match="characters") as error:
        desk.take(json.dumps(request("m", "w" * 2**20)).encode())
    assert (error.value.status, error.value.code) == (400, "context_length_exceeded")


def test_a_stopped_engine_says_so_to_those_who_wait(desk: Desk):
    engine = Engine(desk.model, desk, LIMITS)
    waiting, heard = job_of(desk)
    engine.submit(waiting)
    engine.refuse_new()
    assert isinstance(heard.last, Failed)
    assert heard.last.why.status == 503
    with pytest.raises(ServiceError, match="stopping"):
        engine.submit(job_of(desk)[0])
    assert desk.journal.begun(waiting.order_id) is None
    assert engine.close()


def test_what_is_begun_and_cut_off_is_answered_at_the_next_start(desk: Desk):
    engine = Engine(desk.model, desk, LIMITS)
    job, heard = job_of(desk, 900, ids=LONG)

    def held(event: Event) -> None:
        """From the third token on each takes so long that the answer would end after three minutes."""
        heard(event)
        if len(heard.events) >= 3:
            time.sleep(0.2)

    job.listen = held
    engine.submit(job)
    engine.start()
    while len(heard.events) < 3:
        time.sleep(0.001)
    assert not engine.close()
    assert job.begun is not None
    assert job.begun.result()
    assert desk.journal.receipt(job.order_id) is None
    (task,) = desk.left_over()
    again = Engine(desk.model, desk, LIMITS)
    again.start([task])
    while desk.journal.receipt(job.order_id) is None:
        time.sleep(0.01)
    assert again.close(60)
    file = load_receipt_file(desk.journal.receipt(job.order_id) or b"")
    assert file.response.plain is not None
    assert tuple(file.response.plain["token_ids"])[: len(heard.tokens)] == heard.tokens


def test_an_answer_in_the_native_lane_is_that_of_its_own(roomy: Path, journal: Journal):
    """Its bits depend on how tokens are fed: the engine feeds them as one answer alone."""
    native = load_native(roomy)
    desk = desk_of(native, journal)
    for what in ("", "absorb"):
        for job, heard in run(desk, Failing(desk, what, 1, RecorderError("gone"))):
            assert isinstance(heard.last, Done)
            assert heard.last.receipt == alone(desk, job.task)


def test_sequences_in_turn_come_and_go(exact: PortableModel):
    turns, session = InTurn(exact), exact.session()
    first, second = turns.add([1, 2, 3]), turns.add([4, 5])
    assert list(turns.step({})) == [first]
    made = turns.step({first: 7})
    assert sorted(made) == [first, second]
    session.feed([1, 2, 3])
    assert made[first].tolist() == session.feed([7]).tolist()
    turns.remove(second)
    assert turns.step({}) == {}
    assert list(turns.step({first: 8})) == [first]


def test_a_bare_clerk_gives_the_same_tokens_without_receipt(desk: Desk):
    for job, heard in run(desk, Clerk()):
        assert heard.last == Done(heard.last.finish, b"")
        assert desk.journal.begun(job.order_id) is None
        assert (
            heard.tokens
            == generate(desk.model, job.task.said.prompt_ids, job.task.order.decoding, order_id=job.order_id).token_ids
        )


def test_evidence_is_renewed_before_it_is_out_of_date(exact: PortableModel, journal: Journal):
    clock = [NOW]
    desk = desk_of(exact, journal, now=lambda: clock[0])
    keys, identity = desk.enclave.keys, desk.identity
    clock[0] += LIFETIME_S // 2 + 1
    assert desk.enclave.issued_at == clock[0]
    assert (desk.enclave.keys, desk.identity) == (keys, identity)
    clock[0] += LIFETIME_S // 2 - 1
    assert desk.enclave.evidence()["quote"]["expires_at"] > clock[0]


def test_another_configuration_is_another_identity(roomy: Path, journal: Journal):
    """Bits of the native lane depend on it, so that an order begun under one is not gone on with."""
    native = load_native(roomy)
    one, two = desk_of(native, journal), desk_of(replace(native, threads=2), journal)
    assert one.identity != two.identity
    job, _ = job_of(one)
    one.begin(job.task).result()
    assert [task.order.id for task in one.left_over()] == [job.order_id]
    assert two.left_over() == []
    assert (one.state(job.order_id)[0], two.state(job.order_id)[0]) == ("begun", "given up")


def test_an_order_is_written_down_as_it_was_sent(desk: Desk):
    """Sealed and plain."""
    for seal_to in (None, desk.enclave.keys.hpke):
        placed = own_order(desk.model.manifest.model_id, (1, 5, 6), 7, seed=3, temperature_milli=250, seal_to=seal_to)
        task = desk.take(json.dumps(order_body(placed)).encode())
        assert task.order.decoding == Decoding(7, 3, 250)
        assert desk.begin(task).result()
        begun = desk.journal.begun(placed.order.id)
        assert begun is not None
        assert begun.sent == task.sent == placed.sent
