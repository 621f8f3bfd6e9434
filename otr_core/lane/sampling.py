"""How the next token is chosen: greedy, or by a seed alone and no library's random numbers."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from otr_core.encoding import tagged_hash
from otr_core.errors import ParameterError

MAX_TEMPERATURE_MILLI = 5000


@dataclass(frozen=True)
class Decoding:
    """Decoding parameters, as ordered by the client and bound by the receipt.

    Attributes:
        max_tokens: most tokens in the answer, at least 1.
        seed: 64-bit seed of the draws; without effect at temperature 0.
        temperature_milli: temperature in thousandths, 0 (greedy) to 5000. An integer, so that it
            has one encoding.
    """

    max_tokens: int
    seed: int = 0
    temperature_milli: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("max_tokens", 1, 2**31 - 1),
            ("seed", 0, 2**53 - 1),
            ("temperature_milli", 0, MAX_TEMPERATURE_MILLI),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise ParameterError(name, value, f"an integer, {low} to {high}")

    def to_json(self) -> dict[str, Any]:
        return {"max_tokens": self.max_tokens, "seed": self.seed, "temperature_milli": self.temperature_milli}


def draw(seed: int, step: int, order_id: bytes = b"") -> int:
    """The draw of one step (from 0): an integer, uniform in [0, 2^53).

    Args:
        order_id: 32 bytes of the order that is answered. Nobody can choose among draws by choosing
            a seed alone, and no two orders share them. Empty where nothing was ordered.
    """
    return int.from_bytes(tagged_hash("sample", order_id + struct.pack("<QQ", seed, step))[:8], "little") >> 11


def choose_token(logits: np.ndarray, temperature_milli: int, drawn: int) -> int:
    """Next token id from floating-point logits (vocab,): the first largest, or where ``drawn``
    falls.

    That is the first id at which the cumulated probabilities, in order of ids, pass drawn / 2^53.
    Probabilities are float64 softmax at the temperature. The draw is exact; the probabilities are
    as portable as the logits are, which in a native lane is not bit for bit.
    """
    if temperature_milli == 0:
        return int(np.argmax(logits))
    scaled = logits.astype(np.float64) * (1000.0 / temperature_milli)
    cumulative = np.cumsum(np.exp(scaled - scaled.max()))
    target = drawn / 2.0**53 * cumulative[-1]
    return int(min(np.searchsorted(cumulative, target, side="right"), len(logits) - 1))
