"""Many sequences in one portable model: they come and go, and every step feeds whoever has tokens.

Integers make this free of doubt: no bit of a sequence depends on who else was fed with it, on how
its prompt was cut, or on when it came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from otr_core.errors import InputError
from otr_core.poea.trace import Recorder
from otr_node.portable import PortableModel, PortableSession, feed_together


@dataclass
class _Sequence:
    session: PortableSession
    recorder: Recorder | None
    waiting: list[int]
    fed: int = 0


class ContinuousBatch:
    """Sequences being computed together; not to be shared between threads.

    Args:
        most_tokens: fed in one step. Every sequence that is given a token is fed; prompts share what
            is left, those that came first first.

    Raises:
        InputError: no tokens a step.
    """

    def __init__(self, model: PortableModel, most_tokens: int = 256) -> None:
        if most_tokens < 1:
            raise InputError(f"most_tokens: found {most_tokens}, expected at least 1")
        self._model, self._most = model, most_tokens
        self._sequences: dict[int, _Sequence] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._sequences)

    def add(self, ids: Sequence[int], recorder: Recorder | None = None) -> int:
        """Let a sequence join; the following steps feed its prompt.

        Args:
            ids: the prompt. recorder: of its trace.

        Returns:
            its number, which no other sequence of this batch ever has.

        Raises:
            InputError: an empty prompt, one beyond the model's context, or an id beyond its vocabulary.
        """
        self._check(ids, 0)
        self._sequences[self._next] = _Sequence(self._model.session(), recorder, list(ids))
        self._next += 1
        return self._next - 1

    def remove(self, number: int) -> None:
        """Let a sequence go, at any time; its memory is free."""
        self._sequence(number)
        del self._sequences[number]

    def step(self, tokens: Mapping[int, int]) -> dict[int, np.ndarray]:
        """Feed the next token of some sequences, and prompts that wait.

        Args:
            tokens: by number of the sequence, of those whose prompt was fed; the others rest.

        Returns:
            logits (vocab,), int64, by number: of those that were given a token, and of those whose
            prompt came to its end. Nothing where nobody had anything to feed.

        Raises:
            InputError: an unknown sequence, one whose prompt still waits, or a token that ``add`` would
                not take. Nothing was fed then.
        """
        pieces: dict[int, list[int]] = {}
        for number, token in tokens.items():
            sequence = self._sequence(number)
            if sequence.waiting:
                raise InputError(f"sequence {number}: found a token, expected none before its prompt was fed")
            self._check([token], sequence.fed)
            pieces[number] = [token]
        left = self._most - len(pieces)
        for number, sequence in self._sequences.items():
            if sequence.waiting and left > 0:
                pieces[number] = sequence.waiting[:left]
                left -= len(pieces[number])
        if not pieces:
            return {}
        chosen = [self._sequences[number] for number in pieces]
        logits = feed_together(
            [each.session for each in chosen], [*pieces.values()], [each.recorder for each in chosen]
        )
        for each, piece in zip(chosen, pieces.values(), strict=True):
            each.fed += len(piece)
            del each.waiting[: len(piece)]
        ended = zip(pieces, chosen, logits, strict=True)
        return {number: row for number, each, row in ended if not each.waiting}

    def _sequence(self, number: int) -> _Sequence:
        if number not in self._sequences:
            raise InputError(f"sequence: found {number}, expected one of {[*self._sequences]}")
        return self._sequences[number]

    def _check(self, ids: Sequence[int], fed: int) -> None:
        a = self._model.architecture
        if not ids or fed + len(ids) > a.context:
            raise InputError(f"tokens: found {fed + len(ids)}, expected 1 to {a.context}, the model's context")
        if not all(0 <= token < a.vocab for token in ids):
            raise InputError(f"tokens: found ids {min(ids)} to {max(ids)}, expected 0 to {a.vocab - 1}")
