"""Connections of a server: as many as it can bear, and none that asks for nothing for long."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from otr_node.server.limits import ServerLimits


def bounded_protocol(limits: ServerLimits) -> type[H11Protocol]:
    """The HTTP protocol of a server with these limits.

    uvicorn waits for ever for the first request of a connection. Here a connection that has no request
    at work is idle: it is closed after ``idle_s``, however much of a request it has sent, and before
    that when a new one comes and ``connections`` are open; of the idle, the oldest goes.
    """
    idle: dict[Bounded, None] = {}

    class Bounded(H11Protocol):
        _clock: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._rest()
            if len(self.connections) > limits.connections:
                next(iter(idle)).give_up()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._wake()

        def on_response_complete(self) -> None:
            self._rest()
            super().on_response_complete()
            # a request that came right behind the last is at work already
            if self.cycle is not None and not self.cycle.response_complete:
                self._wake()

        def connection_lost(self, exc: Exception | None) -> None:
            self._wake()
            super().connection_lost(exc)

        def give_up(self) -> None:
            """Close what asks for nothing."""
            self._wake()
            self.transport.close()

        def _rest(self) -> None:
            self._wake()
            idle[self] = None
            self._clock = self.loop.call_later(limits.idle_s, self.give_up)

        def _wake(self) -> None:
            idle.pop(self, None)
            if self._clock is not None:
                self._clock.cancel()
                self._clock = None

    return Bounded
