"""What every lane's model and session can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from otr_core.lane.architecture import Architecture
from otr_core.poea.manifest import ModelManifest
from otr_core.poea.trace import Recorder
from otr_node.tokenizer import ChatTokenizer

ROWS_AT_ONCE = 64
"""Rows (layers × positions) that a recorder takes at once. Single tokens come with all layers in one
transfer; a long prompt comes layer by layer, so that little memory is held and its hashing overlaps
with its computation."""


class Session(Protocol):
    """One sequence being computed, with the keys and values of what was fed so far inside."""

    def feed(self, ids: Sequence[int], recorder: Recorder | None = None) -> np.ndarray:
        """Logits, shape (vocab,), after the tokens ``ids`` at the next positions.

        Args:
            ids: token ids, at least one. recorder: gets what every layer leaves behind at these
                positions.
        """


class Model(Protocol):
    """A loaded model of any lane, as ``generate`` and the receipt see it."""

    @property
    def architecture(self) -> Architecture:
        """Dimensions and constants of the decoder."""

    @property
    def manifest(self) -> ModelManifest:
        """What the model id hashes: weights as executed, tokenizer, template, lane."""

    @property
    def tokenizer(self) -> ChatTokenizer:
        """Text to token ids and back, with the chat template."""

    def session(self) -> Session:
        """A new, empty sequence."""

    def choose(self, logits: np.ndarray, temperature_milli: int, drawn: int) -> int:
        """The next token, from logits of shape (vocab,).

        Args:
            temperature_milli: thousandths; 0 takes the largest logit. drawn: ``sampling.draw`` of
                the step; without effect at temperature 0.
        """

    def configuration(self) -> dict[str, Any]:
        """What the bits of an answer depend on besides the model; goes into the receipt."""
