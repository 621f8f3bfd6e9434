"""What a proof says in the clear about its rows, and the exceptions of its columns.

Each fact is proven by a relation; here is only what it may look like. In the mode ``succinct``
nothing is hidden, so that these stand beside the commitment.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from otr_core.errors import AnswerProofError
from otr_core.lane.formats import INT32
from otr_core.spotcheck.proof.layout import Sizes
from otr_core.spotcheck.proof.transcript import Channel

Int64 = NDArray[np.int64]

EXCEPTIONS = ("scaled", "far", "up", "silu", "gate_index", "product", "stream")
"""Columns with exceptions. An exception is added to the number that the cells hold, but for two:
of ``stream`` it is what a saturation cut off; of ``product`` likewise, and one more above, where the
bound itself is no value of the cells: a number there is the bound, or minus it, and its cells 0."""
MOST_ADDED = 2**39
"""Magnitude of an exception: far from where a relation could wrap around, and beyond whatever a step
of the stream is cut off by where the down projection's sums stay below 2^52."""
_MOST_EXCEPTIONS = 2**20


@dataclass(frozen=True)
class Facts:
    """Facts of rows, int64.

    Attributes:
        peak, peak_at, peak_sign, squares: (sites, positions): largest magnitude of the residual
            stream, the first place that has it (any will do) and whether it is negative there; the
            sum of squares of the scaled row.
        top, top_at, total: (layers · heads, positions): largest score and its place, the sum of
            exponentials.
        choices: by name, (answer,). Of a greedy answer logit, the chosen token's, and room, by how
            much its accumulator stays below the end of what rounds to it. Of a drawn one logit, the
            largest, and logit_at, a token that has it; chances, the sum of all weights in the draw;
            before and chance, those of the tokens before the chosen one, and its own.
        exceptions: by column, (places, values): numbers of the cells in increasing order, and what
            is added there.
    """

    peak: Int64
    peak_at: Int64
    peak_sign: Int64
    squares: Int64
    top: Int64
    top_at: Int64
    total: Int64
    choices: dict[str, Int64]
    exceptions: dict[str, tuple[Int64, Int64]]

    def added(self, s: Sizes, name: str) -> Int64:
        """What is added to the numbers that the cells of an open column hold, in its exceptions."""
        places, values = self.exceptions[name]
        if name != "product":
            return values
        bound = np.array(s.saturation, np.int64)[places // (s.positions * s.d.intermediate)]
        return np.where(values > 0, 2 * bound, 0)

    def cut_off(self, name: str) -> Int64:
        """What a saturation cut off in the exceptions of ``stream`` or ``product``."""
        values = self.exceptions[name][1]
        return values - (values > 0) if name == "product" else values

    def places(self, name: str, shape: tuple[int, int, int]) -> tuple[Int64, Int64, Int64]:
        """Places of a column's exceptions along its axes."""
        a, t, j = np.unravel_index(self.exceptions[name][0], shape)
        return a.astype(np.int64), t.astype(np.int64), j.astype(np.int64)


def fact_shapes(s: Sizes) -> dict[str, tuple[tuple[int, ...], int, int]]:
    """Shape of each fact, and its least and largest value."""
    stream, heads = (s.sites, s.positions), (s.d.layers * s.d.heads, s.positions)
    return {
        "peak": (stream, 0, INT32),
        "peak_at": (stream, 0, s.d.hidden - 1),
        "peak_sign": (stream, 0, 1),
        "squares": (stream, 0, 2**60),
        "top": (heads, -(2**53), 2**53),
        "top_at": (heads, 0, s.positions - 1),
        "total": (heads, 0, 2**48),
        **{name: ((s.answer,), *ends) for name, ends in _choice_ends(s).items()},
    }


def _choice_ends(s: Sizes) -> dict[str, tuple[int, int]]:
    if not s.temperature_milli:
        return {"logit": (-(2**43), 2**43), "room": (0, 2**18 - 1)}
    weights = dict.fromkeys(("chances", "before", "chance"), (0, 2**48))
    return {"logit": (-(2**43), 2**43), "logit_at": (0, s.d.vocab - 1), **weights}


def exception_shape(s: Sizes, name: str) -> tuple[int, int, int]:
    """Axes of a column with exceptions; those of the stream are counted from its second site on."""
    if name == "stream":
        return s.sites - 1, s.positions, s.d.hidden
    return s.columns[name].shape


def _bytes(own: Facts | None, name: str) -> bytes:
    assert own is not None
    return np.ascontiguousarray(own.choices.get(name, getattr(own, name, None)), "<i8").tobytes()


def exchange_facts(channel: Channel, s: Sizes, own: Facts | None) -> Facts:
    """Send or read the facts.

    Raises:
        AnswerProofError: check "facts": one is out of its range, or exceptions are not in order.
    """
    found: dict[str, Int64] = {}
    for name, (shape, least, most) in fact_shapes(s).items():
        count = int(np.prod(shape))
        raw = channel.data(name, 8 * count, partial(_bytes, own, name))
        found[name] = np.frombuffer(raw, "<i8").astype(np.int64).reshape(shape)
        if own is None and ((found[name] < least).any() or (found[name] > most).any()):
            raise AnswerProofError("facts", f"{name} beyond its range", f"{least} to {most}")
    if own is None and (found["top_at"] > np.arange(s.positions)).any():
        raise AnswerProofError("facts", "top_at after its position", "a position seen")
    exceptions = {}
    for name in EXCEPTIONS:
        places, values = own.exceptions[name] if own is not None else (np.empty(0, np.int64),) * 2
        raw = channel.data(f"{name} count", 8, partial(len(places).to_bytes, 8, "little"))
        count = int.from_bytes(raw, "little")
        if count > _MOST_EXCEPTIONS:
            raise AnswerProofError("facts", f"{count} exceptions of {name}", f"at most {_MOST_EXCEPTIONS}")
        given = np.ascontiguousarray(np.stack([places, values]), "<i8").tobytes()
        raw = channel.data(name, 16 * count, partial(bytes, given))
        places, values = np.frombuffer(raw, "<i8").astype(np.int64).reshape(2, count)
        size = int(np.prod(exception_shape(s, name)))
        if own is None and count and (places[0] < 0 or places[-1] >= size or (np.diff(places) <= 0).any()):
            raise AnswerProofError("facts", f"exceptions of {name} out of order", "increasing places of the column")
        least = 1 if name == "far" else -MOST_ADDED
        if own is None and ((values < least).any() or (values > MOST_ADDED).any() or not values.all()):
            raise AnswerProofError("facts", f"an exception of {name} beyond its range", f"at most {MOST_ADDED}, not 0")
        exceptions[name] = (places, values)
    choices = {name: found.pop(name) for name in _choice_ends(s)}
    return Facts(**found, choices=choices, exceptions=exceptions)
