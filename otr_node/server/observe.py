"""What a server tells of itself: metrics for Prometheus, and lines of JSON for its log.

Neither holds a word of a prompt or an answer, a key, or an order's whole id: who knows that id can
fetch the answer.
"""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Callable
from typing import Any, TextIO

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

LOGGER = "otr.server"
SHOWN_HEX = 16
"""Digits of an order's id in a log: enough to find a line, too few to fetch an answer."""
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The counters and histograms of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        common: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter(
            "otr_requests", "Requests answered, by route and status.", ["route", "status"], **common
        )
        self.answers = Counter(
            "otr_answers", "Answers whose receipt is written, by how they ended.", ["finish"], **common
        )
        self.tokens = Counter("otr_tokens", "Tokens of answered orders.", ["kind"], **common)
        self.failures = Counter("otr_failures", "Failures that the log names.", ["event"], **common)
        spans = {"first": "from a request to its first token", "answer": "from a request to its written receipt"}
        spans |= {"commit": "of a commit to the journal"}
        self.seconds = {
            name: Histogram(f"otr_{name}_seconds", f"Seconds {words}.", buckets=_SECONDS, **common)
            for name, words in spans.items()
        }

    def watch(
        self, load: Callable[[], tuple[int, int]], connections: Callable[[], int], keyless: Callable[[], int]
    ) -> None:
        """Let the metrics say what waits, runs and is connected when they are asked for."""

        class Loads:
            def collect(self) -> list[GaugeMetricFamily]:
                waiting, running = load()
                shown = {
                    "otr_waiting": (waiting, "Orders that wait."),
                    "otr_running": (running, "Orders being answered, those whose receipt is being written included."),
                    "otr_connections": (connections(), "Connections that are open."),
                    "otr_receipts_without_key": (keyless(), "Receipts in no batch: the court does not know their key."),
                }
                return [GaugeMetricFamily(name, words, value=value) for name, (value, words) in shown.items()]

        self.registry.register(Loads())

    def text(self) -> bytes:
        """In the text format of Prometheus."""
        return generate_latest(self.registry)


class JsonLines(logging.Formatter):
    """One JSON object a line. Of an exception it tells the class and the place, never the message: that
    may quote what somebody asked."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        facts: dict[str, Any] = {"time": round(record.created, 3), "level": record.levelname.lower()}
        facts |= getattr(record, "facts", None) or {"event": "library", "logger": record.name, "message": _said(record)}
        if record.exc_info and record.exc_info[1] is not None:
            facts |= error_facts(record.exc_info[1])
        return json.dumps(facts, ensure_ascii=True, default=str)


def _said(record: logging.LogRecord) -> str:
    # what a library says with an exception is the exception; without one, its own fixed words
    return str(record.msg).splitlines()[0][:200] if record.exc_info else record.getMessage()[:200]


def error_facts(error: BaseException) -> dict[str, Any]:
    """Class and place of an exception."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}" if frames else None
    return {"error": type(error).__name__, "at": place}


def start_log(stream: TextIO | None = None) -> logging.Logger:
    """Send this server's log, and its libraries', to ``stream`` (None: standard error) as lines of JSON."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    for name, level in ((LOGGER, logging.INFO), ("uvicorn", logging.WARNING), ("asyncio", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
    return logging.getLogger(LOGGER)


class Reporter:
    """Writes what happens to the log, and counts what fails."""

    def __init__(self, logger: logging.Logger, metrics: Metrics) -> None:
        self._logger, self._metrics = logger, metrics
        self._last: dict[str, float] = {}

    def note(self, event: str, **facts: Any) -> None:
        """A line of the log."""
        self._logger.info("", extra={"facts": {"event": event, **facts}})

    def failed(self, event: str, error: BaseException) -> None:
        """A failure: counted always, written once a second."""
        self._metrics.failures.labels(event).inc()
        if (now := time.monotonic()) - self._last.get(event, -1e9) >= 1:
            self._last[event] = now
            self._logger.error("", extra={"facts": {"event": event, **error_facts(error)}})
