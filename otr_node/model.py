"""What every lane's model and session can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from otr_core.lane.architecture import Architecture
from otr_core.poea.manifest import ModelManifest
from otr_core.poea.trace import Recorder

if TYPE_CHECKING:
    import numpy as np


class Session(Protocol):
    """One sequence being computed: feed tokens, get the logits of the last one, keep keys and values inside."""

    def feed(self, ids: Sequence[int], recorder: Recorder | None = None) -> np.ndarray:
        """Logits, shape (vocab,), after the tokens ``ids`` at the next positions."""


class Model(Protocol):
    """A loaded model of any lane, as ``generate`` and the receipt see it."""

    @property
    def architecture(self) -> Architecture: ...
    @property
    def manifest(self) -> ModelManifest: ...
    @property
    def tokenizer(self) -> Any: ...
    def session(self) -> Session: ...
    def choose(self, logits: np.ndarray, decoding: Any, step: int) -> int: ...
    def configuration(self) -> dict[str, Any]: ...
