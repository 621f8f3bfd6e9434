"""Scalings of the rotary embedding: by how much each rotation is stretched for long contexts.

Decimals of 50 digits are used for what is not rational: their logarithms are correctly rounded on
every machine. Sources: the functions of the same names in transformers' ``modeling_rope_utils``.
"""

from __future__ import annotations

import decimal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from otr_core.errors import ModelError, OperatorError

Number = decimal.Decimal
_TWO_PI = Number("6.28318530717958647692528676655900576839433879875021")


@dataclass(frozen=True)
class RopeScaling:
    """Rotary scaling "llama3" (Llama 3.1 and later): only slow rotations are stretched.

    Attributes:
        factor: stretch of the slow rotations, at least 1.
        low_freq_factor, high_freq_factor: where the transition between the two begins and ends, low
            below high.
        original_context: positions the unscaled model was trained for.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: int

    def __post_init__(self) -> None:
        if not (self.factor >= 1 and 0 < self.low_freq_factor < self.high_freq_factor and self.original_context >= 1):
            raise ModelError(f"config rope scaling: found {self}, expected factor >= 1 and 0 < low < high")

    @classmethod
    def from_config(cls, rope: Mapping[str, Any]) -> RopeScaling:
        """Read the "llama3" entries of ``rope_parameters`` or ``rope_scaling``."""
        return cls(
            factor=float(rope["factor"]),
            low_freq_factor=float(rope["low_freq_factor"]),
            high_freq_factor=float(rope["high_freq_factor"]),
            original_context=int(rope["original_max_position_embeddings"]),
        )

    def config(self) -> dict[str, Any]:
        """The entries as transformers reads them."""
        return {
            "rope_type": "llama3",
            "factor": self.factor,
            "low_freq_factor": self.low_freq_factor,
            "high_freq_factor": self.high_freq_factor,
            "original_max_position_embeddings": self.original_context,
        }

    def attention_factor(self) -> float:
        """By what queries and keys are multiplied."""
        return 1.0

    def stretched(self, frequency: Number, pair: int, pairs: int, theta: float) -> Number:
        """The frequency of rotation number ``pair`` of ``pairs``: quick ones stay, slow ones are
        divided by the factor. What is quick is counted in turns within the original context; in
        between the two blend."""
        factor, low, high = (Number(value) for value in (self.factor, self.low_freq_factor, self.high_freq_factor))
        turns = self.original_context * frequency / _TWO_PI
        kept = min(max((turns - low) / (high - low), Number(0)), Number(1))
        return frequency * ((1 - kept) / factor + kept)


@dataclass(frozen=True)
class LinearScaling:
    """Rotary scaling "linear": all rotations are stretched by ``factor``, at least 1."""

    factor: float

    def __post_init__(self) -> None:
        if not self.factor >= 1:
            raise ModelError(f"config rope scaling: found {self}, expected factor >= 1")

    def config(self) -> dict[str, Any]:
        """As ``RopeScaling.config``."""
        return {"rope_type": "linear", "factor": self.factor}

    def attention_factor(self) -> float:
        """As ``RopeScaling.attention_factor``."""
        return 1.0

    def stretched(self, frequency: Number, pair: int, pairs: int, theta: float) -> Number:
        """As ``RopeScaling.stretched``."""
        return frequency / Number(self.factor)


@dataclass(frozen=True)
class YarnScaling:
    """Rotary scaling "yarn": rotations are stretched by their number, and attention is sharpened.

    Attributes:
        factor: stretch of the slow rotations, at least 1. original_context: as ``RopeScaling``.
        beta_fast, beta_slow: turns within the original context at which the transition between
            kept and stretched rotations begins and ends.
        attention: by what queries and keys are multiplied; where a config does not say, 1 +
            ln(factor) / 10.
    """

    factor: float
    original_context: int
    beta_fast: float
    beta_slow: float
    attention: float

    def __post_init__(self) -> None:
        if not (
            self.factor >= 1 and self.original_context >= 1 and self.beta_fast > self.beta_slow > 0 < self.attention
        ):
            raise ModelError(f"config rope scaling: found {self}, expected factor >= 1 and 0 < slow < fast")

    @classmethod
    def from_config(cls, rope: Mapping[str, Any]) -> YarnScaling:
        """Read the "yarn" entries of ``rope_parameters`` or ``rope_scaling``."""
        if rope.get("mscale") or rope.get("mscale_all_dim") or rope.get("truncate", True) is not True:
            raise OperatorError("config rope scaling: found yarn with mscale or without truncation, expected neither")
        factor, attention = float(rope["factor"]), rope.get("attention_factor")
        with decimal.localcontext(decimal.Context(prec=50)):
            usual = float(1 + Number(factor).ln() / 10) if factor > 1 else 1.0
        return cls(
            factor=factor,
            original_context=int(rope["original_max_position_embeddings"]),
            beta_fast=float(rope.get("beta_fast") or 32.0),
            beta_slow=float(rope.get("beta_slow") or 1.0),
            attention=usual if attention is None else float(attention),
        )

    def config(self) -> dict[str, Any]:
        """As ``RopeScaling.config``."""
        return {
            "rope_type": "yarn",
            "factor": self.factor,
            "original_max_position_embeddings": self.original_context,
            "beta_fast": self.beta_fast,
            "beta_slow": self.beta_slow,
            "attention_factor": self.attention,
        }

    def attention_factor(self) -> float:
        """As ``RopeScaling.attention_factor``."""
        return self.attention

    def stretched(self, frequency: Number, pair: int, pairs: int, theta: float) -> Number:
        """As ``RopeScaling.stretched``."""

        def place(turns: float) -> Number:
            """Number of the rotation that turns so often within the original context."""
            return pairs * (self.original_context / (Number(turns) * _TWO_PI)).ln() / Number(theta).ln()

        low = max(place(self.beta_fast).to_integral_value(decimal.ROUND_FLOOR), Number(0))
        high = min(place(self.beta_slow).to_integral_value(decimal.ROUND_CEILING), Number(2 * pairs - 1))
        ramp = (pair - low) / (high - low if high != low else Number("0.001"))
        slow = min(max(ramp, Number(0)), Number(1))
        return frequency * (slow / Number(self.factor) + 1 - slow)


Scaling = RopeScaling | LinearScaling | YarnScaling


def scaling_of(rope: Mapping[str, Any]) -> Scaling | None:
    """The scaling that ``rope_parameters`` or ``rope_scaling`` state; None for plain rotations.

    Raises:
        OperatorError: a scaling that is not computed here.
    """
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "llama3":
        return RopeScaling.from_config(rope)
    if kind == "linear":
        return LinearScaling(float(rope["factor"]))
    if kind == "yarn":
        return YarnScaling.from_config(rope)
    if kind != "default":
        raise OperatorError(
            f"config rope_type: found {kind!r}, expected 'default', 'llama3', 'linear' or 'yarn'; the portable lane "
            "does not have the operator of other scalings"
        )
    return None
