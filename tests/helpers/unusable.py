"""Words for a judge of a model that no dispute fits."""

from __future__ import annotations

from dataclasses import replace

from otr_core.dispute.words import judge_words
from otr_core.lane.dims import Dims


def words_of(d: Dims) -> list[int]:
    """``judge_words`` of any dimensions, also of those without a tile, which no words are made of."""
    words = judge_words(replace(d, tile=d.tile or 1))
    words[5] = d.tile
    return words
