"""What one server takes on: how many, how much, how long."""

from __future__ import annotations

from dataclasses import dataclass, fields

from otr_core.errors import InputError
from otr_core.lane.architecture import Architecture

CHARACTERS_PER_TOKEN = 64
"""Longer than any token is in the mean: a prompt with more characters for the tokens that may be is
refused before it is tokenised."""


@dataclass(frozen=True)
class ServerLimits:
    """Bounds of a server, all of them whole numbers from 1 on.

    Attributes:
        batch: answers computed together. queue: orders that wait for a place among them.
        body_bytes: of a request. prompt_tokens, max_tokens: of a prompt, and of an answer.
        default_tokens: of an answer whose request does not say.
        queue_s: seconds that an order waits. answer_s: from its request on, until its client is told to
            fetch the receipt later. body_s: for a request to come in whole. idle_s: that a connection
            may be open and ask for nothing. stop_s: that a stopping server goes on with what it has.
        connections: open at once; of more, those that ask for nothing are closed, the oldest first.

    Raises:
        InputError: one of them is no such number.
    """

    batch: int = 16
    queue: int = 64
    body_bytes: int = 2**20
    prompt_tokens: int = 4096
    max_tokens: int = 1024
    default_tokens: int = 256
    queue_s: int = 60
    answer_s: int = 600
    body_s: int = 10
    idle_s: int = 15
    stop_s: int = 30
    connections: int = 8192

    def __post_init__(self) -> None:
        for own in fields(self):
            value = getattr(self, own.name)
            if type(value) is not int or not 1 <= value < 2**31:
                raise InputError(f"{own.name}: found {value!r}, expected a whole number from 1 on")

    @property
    def requests(self) -> int:
        """Requests for an answer that are looked at at once: those that may run and wait, and as many
        again that are told to come later."""
        return 2 * (self.batch + self.queue)

    def prompt_room(self, model: Architecture) -> int:
        """Most tokens of a prompt of ``model``, which leave room for one token of an answer."""
        return min(self.prompt_tokens, model.context - 1)
