"""A prover that was ended goes on: its messages are kept beside the proof until that is whole.

Equal statements give equal messages, and every challenge follows from the messages before it. So a
prover that is started again commits again, finds what was said under that commitment, and makes
only what was not yet said.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from otr_core.errors import InputError
from otr_core.spotcheck.proof.field import Ext, Words
from otr_core.spotcheck.proof.transcript import Channel
from otr_core.spotcheck.proof.verify import HEADER

_KEY_BYTES = 32


class ProofJournal(Channel):
    """A sending side whose messages are kept in a file.

    Attributes:
        known: bytes that were found there for this commitment.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path, self._at = path, 0
        self._kept = b""

    @property
    def known(self) -> int:
        return len(self._kept)

    def begin(self, statement: bytes, root: bytes) -> None:
        """Find what was said of this statement under this commitment.

        Raises:
            InputError: the file cannot be read or written.
        """
        key = hashlib.sha256(HEADER + root + statement).digest()
        try:
            # Never through a link: a name that is known before may lead to another's file.
            number = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            self._file = os.fdopen(number, "r+b", buffering=0)
            held = self._file.readall()
            if held[:_KEY_BYTES] == key:
                self._kept = held[_KEY_BYTES:]
            else:
                self._file.seek(0)
                self._file.truncate()
                self._file.write(key)
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> InputError:
        return InputError(f"{self._path}: found no way to keep messages ({error.strerror}), expected a file to write")

    def data(self, label: str, size: int, make: Callable[[], bytes]) -> bytes:
        """A message as it was said, or made and kept."""
        message = super().data(label, size, lambda: self._said(size) or self.keep(make()))
        self._at += size
        return message

    def _said(self, size: int) -> bytes:
        """The next message, if all of it was kept."""
        return self._kept[self._at : self._at + size] if self._at + size <= len(self._kept) else b""

    def keep(self, message: bytes) -> bytes:
        try:
            self._file.seek(_KEY_BYTES + self._at)
            self._file.write(message)
            self._file.truncate()
        except OSError as error:
            raise self._unusable(error) from error
        return message

    def end(self) -> None:
        """Leave nothing: the proof is whole."""
        self._file.close()
        self._path.unlink(missing_ok=True)


class Later:
    """The prover's side of a sum-check or of a tree of fractions, made when it is first asked for a
    message; what was done to it before is done then."""

    def __init__(self, build: Callable[[], Any]) -> None:
        self._build, self._made = build, None
        self._before: list[Callable[[Any], object]] = []

    def _now(self) -> Any:
        if self._made is None:
            self._made = self._build()
            for step in self._before:
                step(self._made)
            self._before.clear()
        return self._made

    def _do(self, step: Callable[[Any], object]) -> None:
        if self._made is None:
            self._before.append(step)
        else:
            step(self._made)

    def bind(self, challenge: Ext) -> None:
        self._do(lambda made: made.bind(challenge))

    def level(self, number: int, point: list[Ext], mix: Ext) -> Later:
        self._do(lambda made: made.level(number, point, mix))
        return self

    def message(self) -> Words:
        found: Words = self._now().message()
        return found

    def root(self) -> Words:
        """Numerator and denominator of a tree."""
        found: Words = self._now().root()
        return found

    def ends(self) -> Words:
        """The four ends of a tree's level."""
        found: Words = self._now().ends()
        return found

    @property
    def last(self) -> Ext:
        """What the joining sum-check leaves."""
        found: Ext = self._now().last
        return found
