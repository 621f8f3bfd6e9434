"""Pieces of a growing text are the text, for every way in which tokens can cut it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otr_node.checkpoint import read_checkpoint
from otr_node.server.text import GrowingText

PIECES = [bytes([number]) for number in range(256)] + [
    "é".encode(),
    "漢字".encode(),
    b" a",
    b"\xf0\x9f",
    "\ufffd".encode(),
]


def bytes_decoded(ids: Sequence[int]) -> str:
    """As a tokenizer of bytes: any token may be a part of a character, and number 300 is special."""
    return b"".join(PIECES[token] for token in ids if token < len(PIECES)).decode("utf-8", "replace")


def words_decoded(ids: Sequence[int]) -> str:
    """As a tokenizer of words, whose space depends on what stands before; 0 is special."""
    return " ".join(f"w{token}" for token in ids if token)


def grown(decode: Callable[[Sequence[int]], str], ids: Sequence[int]) -> list[str]:
    text = GrowingText(decode)
    return [*(text.add(token) for token in ids), text.rest()]


@given(st.lists(st.integers(0, len(PIECES) + 2), max_size=40))
def test_of_bytes(ids: list[int]):
    assert "".join(grown(bytes_decoded, ids)) == bytes_decoded(ids)


@given(st.lists(st.integers(0, 5), max_size=40))
def test_of_words(ids: list[int]):
    assert "".join(grown(words_decoded, ids)) == words_decoded(ids)


@pytest.mark.parametrize("text", ["a é 漢字 👩‍👩‍👧 end", "plain words only"])
def test_no_piece_ends_within_a_character(text: str):
    pieces = grown(bytes_decoded, list(text.encode()))
    assert "".join(pieces) == text
    assert all("\ufffd" not in piece for piece in pieces)
    assert not pieces[-1]
    assert len(pieces) == len(text.encode()) + 1


def test_each_piece_comes_as_soon_as_it_can():
    assert grown(words_decoded, [1, 2, 3]) == ["w1", " w2", " w3", ""]
    assert grown(bytes_decoded, [*"é".encode(), 300, 97]) == ["", "é", "", "a", ""]


def test_few_tokens_are_decoded_again():
    """However long the answer, a token costs the decoding of a few."""
    seen = []

    def decode(ids: Sequence[int]) -> str:
        seen.append(len(ids))
        return words_decoded(ids)

    text = GrowingText(decode)
    for _ in range(200):
        text.add(1)
    assert max(seen) <= 3


@pytest.mark.model
@given(st.lists(st.integers(0, 49151), max_size=30))
def test_of_the_default_model(smollm2: Path, ids: list[int]):
    tokenizer = _tokenizer(smollm2)
    assert "".join(grown(tokenizer.decode, ids)) == tokenizer.decode(ids)


_KEPT: dict[Path, object] = {}


def _tokenizer(folder: Path):
    if folder not in _KEPT:
        _KEPT[folder] = read_checkpoint(folder).tokenizer
    return _KEPT[folder]
