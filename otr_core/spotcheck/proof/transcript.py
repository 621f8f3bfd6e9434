"""The conversation of prover and verifier as one hash chain, and the bytes of a proof.

Every message, the statement first, enters a SHA-256 chain under a label of its own; every challenge
comes out of it. The same class sends and reads: the prover's channel makes messages and writes
them, the verifier's reads them from the proof. An element of the field has one encoding.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable

import numpy as np

from otr_core.errors import AnswerProofError
from otr_core.spotcheck.proof.field import ONE, Ext, P, Words, sub
from otr_core.spotcheck.proof.masked import Book, Masked


class Channel:
    """One side of the conversation.

    Args:
        proof: the bytes to read; None: this side sends.

    Attributes:
        book: of the masks that numbers are sent under; None: they are sent as they are.
    """

    book: Book | None = None

    def __init__(self, proof: bytes | None = None) -> None:
        self._state = hashlib.sha256(b"otr/1/answer-proof").digest()
        self._given, self._at = proof, 0
        self._sent: list[bytes] = []

    @property
    def sends(self) -> bool:
        return self._given is None

    @property
    def proof(self) -> bytes:
        """All that was sent."""
        return b"".join(self._sent)

    def absorb(self, label: str, data: bytes) -> None:
        """Bind what both sides know: later challenges depend on it."""
        name = label.encode()
        self._state = hashlib.sha256(self._state + struct.pack("<IQ", len(name), len(data)) + name + data).digest()

    def challenge(self, label: str) -> Ext:
        """A number of the extension, out of all that was said."""
        self.absorb(label, b"challenge")
        wide = self._state + hashlib.sha256(b"wide" + self._state).digest()
        return Ext(int.from_bytes(wide[:32], "little") % P, int.from_bytes(wide[32:], "little") % P)

    def point(self, label: str, count: int) -> list[Ext]:
        return [self.challenge(label) for _ in range(count)]

    def places(self, label: str, count: int, below_bits: int) -> list[int]:
        """So many numbers below 2^bits, in increasing order without repetition: fewer where some
        are drawn twice."""
        drawn = set()
        for _ in range(count):
            self.absorb(label, b"place")
            drawn.add(int.from_bytes(self._state[:8], "little") & ((1 << below_bits) - 1))
        return sorted(drawn)

    def data(self, label: str, size: int, make: Callable[[], bytes]) -> bytes:
        """A message of ``size`` bytes, which enters the chain.

        Raises:
            AnswerProofError: check "length": the proof ends before it.
        """
        if self._given is None:
            message = make()
            if len(message) != size:
                raise AssertionError(f"{label}: made {len(message)} bytes, expected {size}")
            self._sent.append(message)
        else:
            message = self._given[self._at : self._at + size]
            if len(message) != size:
                raise AnswerProofError("length", f"{len(self._given)} bytes, ended in {label}", "all messages")
            self._at += size
        self.absorb(label, message)
        return message

    def words(self, label: str, shape: tuple[int, ...], make: Callable[[], Words]) -> Words:
        """A message of elements of the field.

        Raises:
            AnswerProofError: check "encoding": an element of another encoding than its own.
        """
        count = math.prod(shape)
        raw = self.data(label, 8 * count, lambda: np.ascontiguousarray(make(), "<u8").tobytes())
        found = np.frombuffer(raw, "<u8").astype(np.uint64).reshape(shape)
        self._refuse_beyond(label, int(found.max(initial=0)))
        return found

    def exts(self, label: str, count: int, make: Callable[[], Words]) -> list[Ext]:
        """A message of numbers of the extension; where there is a book, each less a mask.

        Raises:
            AnswerProofError: as ``words``.
        """
        book = self.book
        if book is None:
            return self.clear(label, count, make)
        first = book.take(count)
        said = self.clear(label, count, lambda: sub(make(), book.masks[first : first + count]))
        return [Masked(each.a, each.b, {first + i: ONE}, book) for i, each in enumerate(said)]

    def same(self, check: str, found: Ext, expected: Ext, what: tuple[str, str]) -> None:
        """Hold two numbers against each other: now, or with all others where one is masked.

        Args:
            what: what was found, and what was expected, for the error.

        Raises:
            AnswerProofError: ``check``: they differ; not on a side that sends, whose lie is not its own to stop.
        """
        difference = found - expected
        if isinstance(difference, Masked):
            difference.book.zeros.append(difference)
        elif difference and not self.sends:
            raise AnswerProofError(check, *what)

    def clear(self, label: str, count: int, make: Callable[[], Words]) -> list[Ext]:
        """A message of numbers of the extension as they are.

        Raises:
            AnswerProofError: as ``words``.
        """
        raw = self.data(label, 16 * count, lambda: np.ascontiguousarray(make(), "<u8").tobytes())
        numbers = struct.unpack(f"<{2 * count}Q", raw)
        self._refuse_beyond(label, max(numbers))
        return [Ext(*pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)]

    def _refuse_beyond(self, label: str, largest: int) -> None:
        if not self.sends and largest >= P:
            raise AnswerProofError("encoding", f"{label} with an element of p or more", "elements below p")

    def finish(self) -> None:
        """
        Raises:
            AnswerProofError: check "length": bytes after the last message.
        """
        if self._given is not None and self._at != len(self._given):
            raise AnswerProofError("length", f"{len(self._given)} bytes", f"{self._at}")
