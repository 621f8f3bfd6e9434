"""The desk: takes orders in, and lets the enclave answer for what comes out.

Requests become orders here: a client's own, or one that is written for a request that brings none.
Nothing is computed here; that is the engine's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace

from otr_core.dispute.duties import LeafPlace
from otr_core.encoding import tagged_hash
from otr_core.errors import InputError, JournalError, OtrError, ServiceError
from otr_core.poea.client import PlacedOrder, place_order
from otr_core.poea.message import Message, Query
from otr_core.poea.order import Domain, Order
from otr_core.poea.receipt import configuration_digest
from otr_node.chain.answers import dump_leaves
from otr_node.enclave import LIFETIME_S, SimulatedEnclave
from otr_node.generate import Answer, check_prompt
from otr_node.model import Model
from otr_node.recorder import TraceRecorder, open_recorder
from otr_node.serve import open_query, sign_answer, trace_seed
from otr_node.server.batches import BatchReader
from otr_node.server.journal import Begun, Journal
from otr_node.server.limits import CHARACTERS_PER_TOKEN, ServerLimits
from otr_node.server.wording import ChatRequest, SentOrder, decoding_asked, read_request

MOST_ATTEMPTS = 3
"""Starts of a server that try to answer one order: one that ends the program does not do so for ever."""


@dataclass(frozen=True)
class Task:
    """An order that may be answered.

    Attributes:
        said: what its query says. written: whether this server wrote the order for a request.
        request: how its client wants the answer; None after a restart.
    """

    order: Order
    query: Message
    said: Query
    written: bool = False
    request: ChatRequest | None = None

    @property
    def sent(self) -> bytes:
        """The order file, as its client sent it or would have."""
        return PlacedOrder(self.order, self.query, self.said).sent


@dataclass(frozen=True)
class Issued:
    """What the enclave has signed, and what goes beside it.

    Attributes:
        receipt: the receipt file. leaves: hashes of the leaves of the states, as ``dump_leaves`` joins
            them: with them a challenger names the state that differs. They are salted and tell nobody
            what was said.
    """

    receipt: bytes = b""
    leaves: bytes = b""


class Clerk:
    """What the engine asks of a desk: everything about an answer but its tokens. This one keeps no
    trace, no journal and no receipts: it is what their cost is measured against."""

    def begin(self, task: Task) -> Future[bool]:
        """Write down that an order is begun; the future says whether it may be answered."""
        future: Future[bool] = Future()
        future.set_result(True)
        return future

    def recorder(self, task: Task) -> TraceRecorder | None:
        """What records the trace of an answer."""
        return None

    def issue(self, task: Task, token_ids: tuple[int, ...], finish: str, recorder: TraceRecorder | None) -> Issued:
        """Sign an answer.

        Raises:
            RecorderError: the trace is lost.
        """
        return Issued()

    def keep(self, task: Task, issued: Issued) -> None:
        """Write it down; returns when it is written.

        Raises:
            JournalError: it is not.
        """


class Desk(Clerk):
    """The desk of one model, one enclave and one journal.

    Args:
        name: of the model, as it is listed. domain: court and chain of every order. now: Unix seconds.
            secret: gives that many secret random bytes.
    """

    def __init__(
        self,
        model: Model,
        enclave: SimulatedEnclave,
        journal: Journal,
        *,
        limits: ServerLimits,
        name: str,
        domain: Domain,
        now: Callable[[], int],
        secret: Callable[[int], bytes],
    ) -> None:
        self.model, self.journal, self.limits, self.domain = model, journal, limits, domain
        self.name, self.now = name, now
        self._enclave, self._secret = enclave, secret
        self._configuration = model.configuration()

    @property
    def enclave(self) -> SimulatedEnclave:
        """The enclave, whose evidence is renewed before it is out of date; its keys stay."""
        if self.now() - self._enclave.issued_at > LIFETIME_S // 2:
            self._enclave = replace(self._enclave, issued_at=self.now())
        return self._enclave

    @property
    def identity(self) -> bytes:
        """32 bytes that stand for what an answer's bits and receipt depend on: model, keys, and how it is
        computed. An order begun under another identity would get another receipt, and is left alone."""
        parts = (self.model.manifest.model_id, self._enclave.keys.digest, configuration_digest(self._configuration))
        return tagged_hash("serving", b"".join(parts))

    def take(self, raw: bytes) -> Task:
        """The task that a request's body asks for.

        Raises:
            ServiceError: it cannot be answered here; the status says why.
        """
        request = read_request(raw)
        if request.model is not None and request.model not in (self.name, self.model.manifest.model_id.hex()):
            raise self._other_model(repr(request.model[:80]))
        task = self._written(request) if request.sent is None else self._opened(request.sent)
        if task.said.reply_to is not None and request.stream:
            raise ServiceError(
                400, "invalid_value", "stream: found true, expected a sealed answer whole", param="stream"
            )
        self._refuse_old(task.order.id)
        return replace(task, request=request)

    def _other_model(self, found: str) -> ServiceError:
        served = f"{self.name} ({self.model.manifest.model_id.hex()})"
        return ServiceError(404, "model_not_found", f"model: found {found}, expected {served}", param="model")

    def _written(self, request: ChatRequest) -> Task:
        """A task whose order the server writes, as the client would."""
        room = self.limits.prompt_room(self.model.architecture)
        size = sum(len(message["content"]) for message in request.messages)
        if size > room * CHARACTERS_PER_TOKEN:
            raise _too_long(f"{size} characters", room)
        try:
            ids = self.model.tokenizer.prompt_ids(request.messages)
        except OtrError as error:
            raise ServiceError(400, "invalid_value", str(error), param="messages") from error
        if len(ids) > room:
            raise _too_long(f"{len(ids)} tokens", room)
        left = self.model.architecture.context - len(ids)
        drawn = int.from_bytes(self._secret(8), "big") >> 12
        decoding = decoding_asked(request, self.limits, left, drawn)
        fresh = {"job_id": self._secret(32), "nonce": self._secret(32), "client_secret": self._secret(32)}
        placed = place_order(ids, model_id=self.model.manifest.model_id, decoding=decoding, domain=self.domain, **fresh)
        task = Task(placed.order, placed.query, placed.said, written=True)
        self._check(task)
        return task

    def _opened(self, sent: SentOrder) -> Task:
        """The task of a client's own order."""
        order = sent.order
        if order.model_id != self.model.manifest.model_id:
            raise self._other_model(order.model_id.hex())
        if order.domain != self.domain:
            found = f"chain {order.domain.chain_id}, court {order.domain.court.hex()}"
            expected = f"chain {self.domain.chain_id}, court {self.domain.court.hex()}"
            message = f"otr_order domain: found {found}, expected {expected}"
            raise ServiceError(400, "invalid_order", message, param="otr_order")
        room = self.limits.prompt_room(self.model.architecture)
        if order.prompt_tokens > room:
            raise _too_long(f"{order.prompt_tokens} tokens", room)
        if order.decoding.max_tokens > self.limits.max_tokens:
            message = f"otr_order max_tokens: found {order.decoding.max_tokens}, expected 1 to {self.limits.max_tokens}"
            raise ServiceError(400, "invalid_value", message, param="otr_order")
        try:
            said = open_query(self.enclave, order, sent.query)
        except OtrError as error:
            raise ServiceError(400, "invalid_order", f"otr_order: {error}", param="otr_order") from error
        task = Task(order, sent.query, said)
        self._check(task)
        return task

    def _check(self, task: Task) -> None:
        try:
            check_prompt(self.model, task.said.prompt_ids, task.order.decoding.max_tokens)
        except InputError as error:
            raise ServiceError(400, "context_length_exceeded", str(error), param="messages") from error

    def _refuse_old(self, order_id: bytes) -> None:
        if self.journal.begun(order_id) is not None:
            raise order_taken(order_id)

    def left_over(self) -> list[Task]:
        """Orders begun by this same desk before a restart, without a receipt; each is to be answered once
        more, and gets the very tokens that may have been sent already."""
        return [self._task(begun) for begun in self.journal.unanswered() if self._can_go_on(begun)]

    def state(self, order_id: bytes) -> tuple[str, bytes]:
        """What became of an order: "answered" with its receipt file, "begun", "given up" or "unknown"."""
        if (receipt := self.journal.receipt(order_id)) is not None:
            return "answered", receipt
        begun = self.journal.begun(order_id)
        if begun is None:
            return "unknown", b""
        return ("begun" if self._can_go_on(begun) else "given up"), b""

    def place(self, order_id: bytes) -> LeafPlace | None:
        """Where its receipt lies in a batch that stands on chain, as the operator beside this server has
        written it down; None: in none yet, or nobody operates."""
        try:
            with BatchReader(self.journal.folder) as book:
                return book.place(order_id)
        except InputError:
            return None

    def waiting(self) -> int:
        """Receipts that its operator keeps out of batches because the court does not know their key."""
        try:
            with BatchReader(self.journal.folder) as book:
                return book.waiting
        except (InputError, JournalError):
            return 0

    def _can_go_on(self, begun: Begun) -> bool:
        return begun.begun_by == self.identity and begun.attempts < MOST_ATTEMPTS

    def _task(self, begun: Begun) -> Task:
        sent = SentOrder.parse(begun.sent)
        return Task(sent.order, sent.query, open_query(self._enclave, sent.order, sent.query))

    def begin(self, task: Task) -> Future[bool]:
        """As ``Clerk``."""
        if task.request is None:
            return self.journal.begin_again(task.order.id)
        return self.journal.begin(task.order.id, task.sent, self.identity)

    def recorder(self, task: Task) -> TraceRecorder | None:
        """As ``Clerk``."""
        return open_recorder(trace_seed(self._enclave, task.order))

    def issue(self, task: Task, token_ids: tuple[int, ...], finish: str, recorder: TraceRecorder | None) -> Issued:
        """As ``Clerk``."""
        assert recorder is not None
        ids = task.said.prompt_ids
        trace = recorder.finish((*ids, *token_ids), len(ids), task.said.prompt_seed)
        answer = Answer(ids, token_ids, finish, trace, self._configuration)
        file = sign_answer(self.enclave, self.model, task.order, task.query, task.said, answer)
        return Issued(file.dump(), dump_leaves(trace))

    def keep(self, task: Task, issued: Issued) -> None:
        """As ``Clerk``."""
        self.journal.add_receipt(task.order.id, issued.receipt, issued.leaves).result()

    def describe(self) -> Mapping[str, object]:
        """What ``/v1/models`` says of the model beside its name."""
        a = self.model.architecture
        return {"model_id": self.model.manifest.model_id.hex(), "lane": self.model.manifest.lane, "context": a.context}


def order_taken(order_id: bytes) -> ServiceError:
    """The refusal of an order that was begun before: its one answer is fetched by its id."""
    message = f"order {order_id.hex()}: found it begun before, expected one that never was; its answer: /v1/receipts"
    return ServiceError(409, "order_taken", message, param="otr_order")


def _too_long(found: str, room: int) -> ServiceError:
    message = f"messages: found {found}, expected a prompt of at most {room} tokens"
    return ServiceError(400, "context_length_exceeded", message, param="messages")
