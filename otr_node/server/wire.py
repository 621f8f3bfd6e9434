"""How answers go over the wire: documents, streams of events, refusals; and what is noted of each."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message as Sent
from starlette.types import Receive, Scope, Send

from otr_core.errors import ServiceError
from otr_node.server.observe import Metrics, Reporter
from otr_node.server.wording import RECEIPT_HEADER, error_document

LAST_S = 5.0
"""Seconds that the end of a stream may take to be sent."""


class EventStream(Response):
    """Server-sent events: each document as ``data:``, ``[DONE]`` behind the last of a whole answer.

    Args:
        until: of ``time.monotonic``: a client that has not taken everything by then is left alone.
    """

    def __init__(self, documents: AsyncIterator[Mapping[str, Any]], headers: Mapping[str, str], until: float) -> None:
        super().__init__(None, headers={**headers, "cache-control": "no-store"}, media_type="text/event-stream")
        self._documents, self._until = documents, until
        self.raw_headers = [each for each in self.raw_headers if each[0] != b"content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all of it."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        last = "[DONE]"
        try:
            async with asyncio.timeout(max(0.0, self._until - time.monotonic())):
                async for document in self._documents:
                    last = "" if "error" in document else last
                    await send(_event(json.dumps(document)))
        except TimeoutError:
            message = "answer: not complete in time; it goes on: fetch its receipt"
            last = json.dumps(error_document(ServiceError(504, "timeout", message)))
        # A client that does not read is left without its end: the connection is closed.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_S):
                if last:
                    await send(_event(last))
                await send({"type": "http.response.body", "body": b"", "more_body": False})


def _event(data: str) -> Sent:
    return {"type": "http.response.body", "body": f"data: {data}\n\n".encode(), "more_body": True}


async def client_gone(request: Request) -> None:
    """Returns when the client is."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def json_response(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A document as an answer."""
    raw = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return Response(raw, status, headers=dict(headers or {}), media_type="application/json")


def _refusal(request: Request, error: ServiceError) -> Response:
    headers = {"retry-after": str(error.retry_after_s)} if error.retry_after_s else {}
    if (order_id := getattr(request.state, "order_id", None)) and error.status in (500, 504):
        headers[RECEIPT_HEADER] = order_id
    return json_response(error_document(error), status=error.status, headers=headers)


async def _on_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    return _refusal(request, error)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    return _refusal(request, ServiceError(error.status_code, code, str(error.detail)))


async def _on_disconnect(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it; the log does


async def _on_any(request: Request, error: Exception) -> Response:
    return _refusal(request, ServiceError(500, "internal_error", "server: something failed that should not"))


class Noted:
    """Every request in the metrics, and in the log, by its route and never by what it says."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Any], metrics: Metrics, reporter: Reporter) -> None:
        self._app, self._metrics, self._reporter = app, metrics, reporter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As an ASGI application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.monotonic(), 0

        async def noted(message: Sent) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as error:
            self._reporter.failed("request_failed", error)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, str(status)).inc()
            if route != "/healthz" and route != "/metrics":
                took = round(time.monotonic() - start, 4)
                self._reporter.note("request", route=route, status=status, seconds=took)


HANDLERS: Mapping[Any, Any] = {
    ServiceError: _on_refusal,
    HTTPException: _on_http,
    ClientDisconnect: _on_disconnect,
    Exception: _on_any,
}
"""What becomes of an exception in a route."""
