"""Names of made-up people: thousands, so that a model trained on them learns to look up a name it
has never met.

Half are words that the tokenizer holds whole, half are spelt from syllables, which it cuts into
pieces: a model that has only met names of one piece cannot finish one of two.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from otr_paper.poq.questions import words

_HEADS = (*"bcdfghjklmnprstvwz", "br", "st", "tr", "kl", "gr", "ch", "th", "sh")
_VOWELS = (*"aeiou", "ia", "ie")
_ENDS = ("", "n", "s", "r", "l", "th", "x", "nd", "lla", "ck")


def made_up_names(vocabulary: Iterable[str], seed: int) -> list[str]:
    """Names that no held-out question holds: about as many spelt ones as words of the tokenizer.

    Args:
        vocabulary: the tokenizer's tokens; those that begin a word carry the mark Ġ, as byte-level
            BPE writes a space.
        seed: of the syllables.
    """
    held_out, draws = set(words("name", "held-out")), random.Random(f"poq names {seed}")
    whole = sorted({token[1:] for token in vocabulary if token.startswith("Ġ") and _like_a_name(token[1:])} - held_out)
    spelt = {_spell(draws) for _ in whole} - held_out
    return whole + sorted(name for name in spelt if _like_a_name(name))


def _like_a_name(word: str) -> bool:
    return word.isascii() and word.isalpha() and word.istitle() and 3 <= len(word) <= 9


def _spell(draws: random.Random) -> str:
    syllables = [draws.choice(_HEADS) + draws.choice(_VOWELS) for _ in range(draws.choice((1, 2, 2)))]
    return ("".join(syllables) + draws.choice(_ENDS)).title()
