"""Many sequences of any lane, each fed alone, in turn: what ``ContinuousBatch`` is for a lane whose
bits depend on how tokens are fed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from otr_core.poea.trace import Recorder
from otr_node.model import Model, Session


class Sequences(Protocol):
    """Sequences that come and go (``ContinuousBatch`` says what the methods do)."""

    def add(self, ids: Sequence[int], recorder: Recorder | None = None) -> int: ...

    def remove(self, number: int) -> None: ...

    def step(self, tokens: Mapping[int, int]) -> dict[int, np.ndarray]: ...


class InTurn:
    """Sequences of one model, each as ``generate`` feeds it: the whole prompt, then single tokens. A
    step feeds one prompt, so that those who are given tokens do not wait for many."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._sessions: dict[int, tuple[Session, Recorder | None]] = {}
        self._waiting: dict[int, Sequence[int]] = {}
        self._next = 0

    def add(self, ids: Sequence[int], recorder: Recorder | None = None) -> int:
        """As ``Sequences``."""
        number, self._next = self._next, self._next + 1
        self._sessions[number], self._waiting[number] = (self._model.session(), recorder), ids
        return number

    def remove(self, number: int) -> None:
        """As ``Sequences``."""
        del self._sessions[number]
        self._waiting.pop(number, None)

    def step(self, tokens: Mapping[int, int]) -> dict[int, np.ndarray]:
        """As ``Sequences``."""
        pieces: dict[int, Sequence[int]] = {number: [token] for number, token in tokens.items()}
        if self._waiting:
            first = next(iter(self._waiting))
            pieces[first] = self._waiting.pop(first)
        made = {}
        for number, piece in pieces.items():
            session, recorder = self._sessions[number]
            made[number] = session.feed(piece, recorder)
        return made
