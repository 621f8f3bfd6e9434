"""Numbers of the field that nobody can guess: from the machine's source, or all of them from one secret."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import numpy as np

from otr_core.spotcheck.proof.field import P, Words

Source = Callable[[int], bytes]
"""Gives so many bytes, each time other ones or each time those of one secret."""
_MORE = 64  # words that are drawn beyond those that are needed: one in 2^32 is no number of the field


def field_numbers(shape: tuple[int, ...], source: Source) -> Words:
    """Numbers of the field, every one as likely as any other."""
    count = math.prod(shape)
    drawn = np.frombuffer(source(8 * (count + _MORE)), "<u8").astype(np.uint64)
    found = drawn[drawn < np.uint64(P)][:count]
    if len(found) < count:
        raise AssertionError(f"{_MORE} words of {count} beyond the field: no random source")
    return found.reshape(shape)


def seeded(secret: bytes, label: str) -> Source:
    """A source whose bytes follow from a secret, other ones for each label."""
    return hashlib.shake_256(b"otr/1/proof randomness" + secret + label.encode()).digest
