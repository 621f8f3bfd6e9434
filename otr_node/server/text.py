"""The text of an answer while it grows."""

from __future__ import annotations

from collections.abc import Callable, Sequence


class GrowingText:
    """Text of token ids that come one by one; what it gives, joined, is the text of them all.

    A token may be a part of a character, and what precedes it may decide how it is written. So a text
    is given out when it no longer ends in an unfinished character, and is decoded with the tokens
    before it.

    Args:
        decode: token ids -> text, an unfinished character as U+FFFD.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._begin = self._known = 0  # what is decoded begins there; its text is given out up to there
        self._given = ""

    def add(self, token: int) -> str:
        """What can be given out with this token, perhaps nothing."""
        self._ids.append(token)
        before = self._decode(self._ids[self._begin : self._known]) if self._known else ""
        now = self._decode(self._ids[self._begin :])
        if now.endswith("\ufffd") or len(now) <= len(before) or not now.startswith(before):
            return ""
        self._begin, self._known = self._known, len(self._ids)
        more = now[len(before) :]
        self._given += more
        return more

    def rest(self) -> str:
        """What is left when no token follows."""
        whole = self._decode(self._ids)
        return whole[len(self._given) :] if whole.startswith(self._given) else ""
