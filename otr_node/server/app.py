"""The routes of the server, as a Starlette application."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from otr_core.encoding import from_hex
from otr_core.errors import JournalError, OtrError, ServiceError
from otr_node.chain.places import dump_place
from otr_node.server.desk import Desk, order_taken
from otr_node.server.engine import ChosenToken, Done, Engine, Event, Failed, Job, stopping
from otr_node.server.observe import SHOWN_HEX, Metrics, Reporter
from otr_node.server.text import GrowingText
from otr_node.server.wire import HANDLERS, EventStream, Noted, client_gone, json_response
from otr_node.server.wording import MODEL_HEADER, RECEIPT_HEADER, Wording, error_document

LATER_S = 1
"""When to ask again for a receipt that is on its way."""


class Service:
    """What the routes share.

    Args:
        keys: SHA-256 of each key that a client may show; empty: none is asked for.

    Attributes:
        receipts: whether answers have any; False beside a ``Clerk`` that keeps none.
    """

    def __init__(
        self,
        desk: Desk,
        engine: Engine,
        metrics: Metrics,
        reporter: Reporter,
        *,
        keys: frozenset[bytes],
        receipts: bool,
    ) -> None:
        self.desk, self.engine, self.metrics, self.reporter = desk, engine, metrics, reporter
        self.limits, self.receipts = desk.limits, receipts
        self._keys, self._busy, self._stopping = keys, 0, False
        # One thread reads requests: templates limit the depth of Python's stack for the whole program
        # while they run, which must not happen twice at once.
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="otr-desk")
        self._started = int(time.time())

    def refuse_new(self) -> None:
        """From now on every request for an answer is told to come again."""
        self._stopping = True
        self.engine.refuse_new()

    async def close(self) -> None:
        """Let what is begun end, as long as ``limits.stop_s`` allows, and write all down."""
        self.refuse_new()
        ended = await asyncio.to_thread(self.engine.close, self.limits.stop_s)
        self._reading.shutdown(wait=True)
        await asyncio.to_thread(self.desk.journal.close)
        self.reporter.note("stopped", all_answered=ended)

    # routes

    async def chat(self, request: Request) -> Response:
        """``POST /v1/chat/completions``."""
        self._check_key(request)
        if self._stopping:
            raise stopping()
        if self._busy >= self.limits.requests:
            message = f"server: found {self._busy} requests at work, expected fewer than {self.limits.requests}"
            raise ServiceError(503, "overloaded", message, retry_after_s=LATER_S)
        self._busy += 1
        try:
            return await self._chat(request)
        finally:
            self._busy -= 1

    async def _chat(self, request: Request) -> Response:
        raw = await self._body(request)
        task = await asyncio.get_running_loop().run_in_executor(self._reading, self.desk.take, raw)
        del raw
        assert task.request is not None
        events: asyncio.Queue[Event] = asyncio.Queue()
        job = Job(task)
        job.listen = self._teller(job, events, tokens=task.request.stream)
        request.state.order_id = job.order_id.hex()
        self.engine.submit(job)
        self.reporter.note("taken", order=job.order_id.hex()[:SHOWN_HEX], prompt_tokens=len(task.said.prompt_ids))
        wording = Wording(job.order_id.hex(), self.desk.name, int(time.time()), self._extra(job))
        first = await self._first(request, job, events)
        headers = {RECEIPT_HEADER: wording.order_id, MODEL_HEADER: self.desk.model.manifest.model_id.hex()}
        if isinstance(first, Done) and not task.request.stream:
            return json_response(self._whole(job, first, wording), headers=headers)
        return EventStream(self._stream(job, first, events, wording), headers, job.asked + self.limits.answer_s)

    async def receipt(self, request: Request) -> Response:
        """``GET /v1/receipts/{id}``."""
        found = await self._answered(request)
        return found if isinstance(found, Response) else Response(found[1], media_type="application/json")

    async def leaves(self, request: Request) -> Response:
        """``GET /v1/receipts/{id}/leaves``."""
        found = await self._answered(request)
        if isinstance(found, Response):
            return found
        hashes = await asyncio.to_thread(self.desk.journal.leaves, found[0])
        if hashes is None:
            message = "leaves: found none beside this receipt, expected one that was written since they are kept"
            raise ServiceError(404, "no_leaves", message)
        return Response(hashes, media_type="application/octet-stream")

    async def place(self, request: Request) -> Response:
        """``GET /v1/receipts/{id}/place``."""
        found = await self._answered(request)
        if isinstance(found, Response):
            return found
        place = await asyncio.to_thread(self.desk.place, found[0])
        if place is None:
            message = "place: found the receipt in no batch that stands on chain, expected one (otr operate commits it)"
            raise ServiceError(404, "no_place", message, retry_after_s=LATER_S)
        return Response(dump_place(place), media_type="application/json")

    async def _answered(self, request: Request) -> Response | tuple[bytes, bytes]:
        """Id and file of the receipt that is asked for; while it is being made, the answer that says so."""
        self._check_key(request)
        try:
            order_id = from_hex(request.path_params["id"], length=32, what="receipt id")
        except OtrError as error:
            raise ServiceError(404, "not_found", str(error)) from error
        state, raw = await asyncio.to_thread(self.desk.state, order_id)
        running = self.engine.holds(order_id)
        if state in ("begun", "given up") and not running:
            # Its receipt may have been written between the two questions: an order leaves the engine
            # after that, and never comes back, so that what the journal says now is final.
            state, raw = await asyncio.to_thread(self.desk.state, order_id)
        if state == "answered":
            return order_id, raw
        if running:
            later = {"retry-after": str(LATER_S)}
            return json_response({"receipt_id": order_id.hex(), "status": "running"}, status=202, headers=later)
        if state == "begun":
            message = (
                "receipt: found its order begun and not at work, expected the next start of this server to answer it"
            )
            raise ServiceError(503, "not_answered", message, retry_after_s=30)
        if state == "given up":
            message = "receipt: found its order given up: other keys or another set-up began it, or too many starts did"
            raise ServiceError(410, "given_up", message)
        raise ServiceError(
            404, "not_found", "receipt: found none with this id, expected the id of an order answered here"
        )

    async def models(self, request: Request) -> Response:
        """``GET /v1/models``."""
        self._check_key(request)
        common = {"object": "model", "created": self._started, "owned_by": "otr"}
        return json_response(
            {"object": "list", "data": [{"id": self.desk.name, **common, "otr": self.desk.describe()}]}
        )

    async def attestation(self, request: Request) -> Response:
        """``GET /v1/attestation``."""
        self._check_key(request)
        enclave, domain = self.desk.enclave, self.desk.domain
        return json_response(
            {
                **self.desk.describe(),
                "keys": enclave.keys.to_json(),
                "evidence": enclave.evidence(),
                "domain": domain.to_json(),
            }
        )

    async def health(self, request: Request) -> Response:
        """``GET /healthz``."""
        parts = {
            "engine": self.engine.healthy,
            "journal": self.desk.journal.healthy,
            "taking orders": not self._stopping,
        }
        return json_response(
            {"status": "ok" if all(parts.values()) else "failing", **parts}, status=200 if all(parts.values()) else 503
        )

    async def show_metrics(self, request: Request) -> Response:
        """``GET /metrics``."""
        return Response(self.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    # parts of an answer

    def _check_key(self, request: Request) -> None:
        if not self._keys:
            return
        kind, _, key = request.headers.get("authorization", "").partition(" ")
        shown = hashlib.sha256(key.strip().encode()).digest()
        known = [hmac.compare_digest(shown, each) for each in self._keys]
        if kind.lower() != "bearer" or not any(known):
            raise ServiceError(401, "invalid_api_key", "authorization: found no key that is known here")

    async def _body(self, request: Request) -> bytes:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            # A web page can send anything else to a server on its reader's machine without being asked.
            raise ServiceError(415, "unsupported_media_type", "content-type: expected application/json")
        most, parts, size = self.limits.body_bytes, [], 0
        try:
            stated = int(request.headers.get("content-length") or 0)
            async with asyncio.timeout(self.limits.body_s):
                if stated <= most:
                    async for part in request.stream():
                        parts.append(part)
                        size += len(part)
                        if size > most:
                            break
        except ValueError as error:
            raise ServiceError(400, "invalid_header", "content-length: expected a whole number") from error
        except TimeoutError as error:
            raise ServiceError(408, "timeout", f"body: not complete after {self.limits.body_s} s") from error
        if max(size, stated) > most:
            raise ServiceError(413, "request_too_large", f"body: found more than {most} bytes")
        return b"".join(parts)

    def _teller(self, job: Job, events: asyncio.Queue[Event], *, tokens: bool) -> Callable[[Event], None]:
        """What carries events from the engine's threads to a request, and counts answers."""
        loop = asyncio.get_running_loop()

        def tell(event: Event) -> None:
            if isinstance(event, Done):
                self._count(job, event)
            if tokens or not isinstance(event, ChosenToken):
                # the loop may be gone when a server stops: then nobody listens
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(events.put_nowait, event)

        return tell

    def _extra(self, job: Job) -> dict[str, Any]:
        extra: dict[str, Any] = {"model_id": self.desk.model.manifest.model_id.hex()}
        if self.receipts:
            extra["receipt_id"] = job.order_id.hex()
        if self.receipts and job.task.written:
            extra["order"] = json.loads(job.task.sent)
        return extra

    async def _first(self, request: Request, job: Job, events: asyncio.Queue[Event]) -> Event:
        """The first event of a job that may be told. Nothing was sent before, so that a refusal has its
        status; a client that goes away while its order waits takes it back."""
        gone = asyncio.ensure_future(client_gone(request))
        first = asyncio.ensure_future(events.get())
        try:
            waited = 0.0
            while not first.done():
                if gone.done() and self.engine.cancel(job):
                    raise ClientDisconnect
                waited = time.monotonic() - job.asked
                if waited > self.limits.answer_s:
                    raise self._late()
                if waited > self.limits.queue_s and self.engine.cancel(job):
                    message = f"queue: found no place within {self.limits.queue_s} s; the order was not begun"
                    raise ServiceError(503, "queue_timeout", message, retry_after_s=LATER_S)
                watched = {first} if gone.done() else {first, gone}
                left = max(
                    0.0, (self.limits.queue_s if waited <= self.limits.queue_s else self.limits.answer_s) - waited
                )
                await asyncio.wait(watched, timeout=min(left, 1.0) + 0.01, return_when=asyncio.FIRST_COMPLETED)
            event = first.result()
            if isinstance(event, ChosenToken):
                await self._written_down(job)
        finally:
            gone.cancel()
            first.cancel()
        if isinstance(event, Failed):
            raise event.why
        return event

    async def _written_down(self, job: Job) -> None:
        """Wait until an order is written down as begun, before anything of its answer is told."""
        assert job.begun is not None
        try:
            async with asyncio.timeout(max(0.0, job.asked + self.limits.answer_s - time.monotonic())):
                if not await asyncio.shield(asyncio.wrap_future(job.begun)):
                    raise order_taken(job.order_id)
        except TimeoutError as error:
            raise self._late() from error
        except JournalError as error:
            raise ServiceError(503, "journal_unavailable", "journal: not writable", retry_after_s=5) from error

    def _late(self) -> ServiceError:
        message = f"answer: not complete after {self.limits.answer_s} s; it goes on: fetch its receipt"
        return ServiceError(504, "timeout", message)

    def _count(self, job: Job, done: Done) -> None:
        self.metrics.answers.labels(done.finish).inc()
        self.metrics.tokens.labels("prompt").inc(len(job.task.said.prompt_ids))
        self.metrics.tokens.labels("chosen").inc(len(job.chosen))
        self.metrics.seconds["first"].observe(job.first_s)
        self.metrics.seconds["answer"].observe(time.monotonic() - job.asked)
        self.reporter.note("answered", order=job.order_id.hex()[:SHOWN_HEX], tokens=len(job.chosen), finish=done.finish)

    def _whole(self, job: Job, done: Done, wording: Wording) -> dict[str, Any]:
        sealed = job.task.said.reply_to is not None
        text = None if sealed else self.desk.model.tokenizer.decode(job.chosen)
        return wording.whole(text, done.finish, len(job.task.said.prompt_ids), len(job.chosen))

    async def _stream(
        self, job: Job, event: Event, events: asyncio.Queue[Event], wording: Wording
    ) -> AsyncIterator[dict[str, Any]]:
        """The chunks of an answer, from its first event on."""
        growing = GrowingText(self.desk.model.tokenizer.decode)
        yield wording.first()
        while isinstance(event, ChosenToken):
            if text := growing.add(event.token_id):
                yield wording.piece(text)
            event = await events.get()
        if isinstance(event, Failed):
            yield error_document(event.why)
            return
        if text := growing.rest():
            yield wording.piece(text)
        yield wording.last(event.finish)
        if job.task.request is not None and job.task.request.usage:
            yield wording.counts(len(job.task.said.prompt_ids), len(job.chosen))


def make_app(service: Service, *, hosts: Sequence[str]) -> Noted:
    """The application; its lifespan ends with what ``Service.close`` does.

    Args:
        hosts: names by which it may be called; "*": any.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await service.close()

    routes = [
        Route("/v1/chat/completions", service.chat, methods=["POST"]),
        Route("/v1/models", service.models),
        Route("/v1/receipts/{id}", service.receipt),
        Route("/v1/receipts/{id}/leaves", service.leaves),
        Route("/v1/receipts/{id}/place", service.place),
        Route("/v1/attestation", service.attestation),
        Route("/healthz", service.health),
        Route("/metrics", service.show_metrics),
    ]
    named = Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=dict(HANDLERS), middleware=[named])
    return Noted(app, service.metrics, service.reporter)
