"""What a witness keeps of its rows: as facts that stand in the clear, or as columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from otr_core.errors import ProverError
from otr_core.lane import formats as bits
from otr_core.spotcheck.proof.facts import Facts, exception_shape
from otr_core.spotcheck.proof.layout import DRAW_BITS, DRAW_LIMB, Sizes
from otr_core.spotcheck.proof.scales import LENGTHS, by_length, least_peaks, most_peaks
from otr_node.integers import twins

Int64 = NDArray[np.int64]
Change = Callable[[str, int, Int64], Int64]
"""(column, layer or site, values) → other values, from which the computation goes on: what a forger
does."""
Exceptions = dict[str, tuple[Int64, Int64]]


class Normed(NamedTuple):
    """The rows of one site, (positions, …): the stream, its peaks, the scaled rows, the remainders, by which power of
    two rows were scaled, and the largest value's place."""

    x: Int64
    peak: Int64
    scaled: Int64
    rest: Int64
    power: Int64

    @property
    def at(self) -> Int64:
        found: Int64 = np.abs(self.x).argmax(-1)
        return found


class WitnessRows(ABC):
    """Rows, in the order in which they are computed; what a method gives is what the computation goes on with."""

    @abstractmethod
    def norm(self, site: int, own: Normed) -> Int64:
        """The factor of each row, (positions,)."""

    @abstractmethod
    def top(self, row: int, scores: Int64) -> Int64:
        """The top of each row of scores (positions, positions), of which those not seen lie far below."""

    @abstractmethod
    def share(self, row: int, exps: Int64) -> Int64:
        """The share of each row of exponentials."""

    @abstractmethod
    def gate(self, layer: int, index: Int64) -> Int64:
        """What the column ``gate_index`` holds of indices that may lie beyond the table."""

    @abstractmethod
    def logit(self, logit: Int64) -> Int64:
        """The logits of greedily chosen tokens."""

    @abstractmethod
    def end(self, choices: dict[str, Int64], exceptions: Exceptions) -> Facts | None:
        """What stands in the clear.

        Args:
            choices: numbers of the choice. exceptions: values beyond their columns, by column.

        Raises:
            ProverError: there are some, and they have no place.
        """


class RowFacts(WitnessRows):
    """Facts in the clear."""

    def __init__(self, s: Sizes) -> None:
        stream, heads = (s.sites, s.positions), (s.d.layers * s.d.heads, s.positions)
        self._d = s.d
        self._kept = {name: np.zeros(stream, np.int64) for name in ("peak", "peak_at", "peak_sign", "squares")}
        self._kept |= {name: np.zeros(heads, np.int64) for name in ("top", "top_at", "total")}

    def norm(self, site: int, own: Normed) -> Int64:
        kept, squares = self._kept, (own.scaled * own.scaled).sum(-1)
        kept["peak"][site], kept["peak_at"][site], kept["squares"][site] = own.peak, own.at, squares
        kept["peak_sign"][site] = own.x[np.arange(len(own.x)), own.at] < 0
        return twins.norm_factor(squares, own.power, self._d.epsilon, self._d.numerator)

    def top(self, row: int, scores: Int64) -> Int64:
        top: Int64 = scores.max(-1)
        self._kept["top"][row], self._kept["top_at"][row] = top, scores.argmax(-1)
        return top

    def share(self, row: int, exps: Int64) -> Int64:
        total = exps.sum(-1)
        self._kept["total"][row] = total
        share: Int64 = bits.ONE_SHARE // np.maximum(total, 1)
        return share

    def gate(self, layer: int, index: Int64) -> Int64:
        return index

    def logit(self, logit: Int64) -> Int64:
        return logit

    def end(self, choices: dict[str, Int64], exceptions: Exceptions) -> Facts | None:
        return Facts(**self._kept, choices=choices, exceptions=exceptions)


class RowColumns(WitnessRows):
    """Columns (``rows_hidden``).

    Args:
        own: numbers of all columns. change: what a forger does; its rows of rows' numbers are sites, or heads.
            draws: of a drawn answer.
    """

    def __init__(self, s: Sizes, own: dict[str, Int64], change: Change | None, draws: tuple[int, ...]) -> None:
        self._sizes, self._own, self._change, self._draws = s, own, change, draws

    def norm(self, site: int, own: Normed) -> Int64:
        d, put = self._sizes.d, self._row
        lengths = np.frexp(own.peak.astype(np.float64))[1]
        length = put("length", site, (np.arange(LENGTHS)[:, None] == lengths).astype(np.int64))

        def of(values: list[int]) -> Int64:
            found: Int64 = np.array(values, np.int64) @ length
            return found

        low = put("peak_low", site, own.peak - of(least_peaks()))
        put("peak_high", site, of(most_peaks()) - of(least_peaks()) - low)
        taken = self._put("peak_at", site, (np.arange(d.hidden) == own.at[:, None]).astype(np.int64))
        put("peak_value", site, (taken * own.x).sum(-1))
        self._put("norm_room", site, of(by_length("down", d))[:, None] - 1 - own.rest)
        squares = put("squares", site, (own.scaled * own.scaled).sum(-1))
        whole = 4 * (squares + of(by_length("epsilon", d)))
        root = put("root", site, twins.square_root(whole))
        low = put("root_low", site, whole - root * root)
        put("root_high", site, 2 * root - low)
        factor = put("factor", site, d.numerator // np.maximum(root, 1))
        low = put("quotient_low", site, d.numerator - factor * root)
        put("quotient_room", site, root - 1 - low)
        return factor

    def top(self, row: int, scores: Int64) -> Int64:
        count = self._sizes.positions
        self._put("top_at", row, (np.arange(count) == scores.argmax(-1)[:, None]).astype(np.int64))
        return self._row("top", row, scores.max(-1))

    def share(self, row: int, exps: Int64) -> Int64:
        total = self._row("total", row, exps.sum(-1))
        share = self._row("share", row, bits.ONE_SHARE // np.maximum(total, 1))
        low = self._row("share_low", row, bits.ONE_SHARE - share * total)
        self._row("share_room", row, total - 1 - low)
        return share

    def gate(self, layer: int, index: Int64) -> Int64:
        end = bits.SIGMOID_ENTRIES - 1
        self._put("gate_above", layer, np.maximum(index - end, 0))
        self._put("gate_beneath", layer, np.maximum(-index, 0))
        return np.clip(index, 0, end)

    def logit(self, logit: Int64) -> Int64:
        return self._put("logit", 0, logit[:, None])[:, 0]

    def end(self, choices: dict[str, Int64], exceptions: Exceptions) -> Facts | None:
        if self._sizes.temperature_milli:
            self._draw(choices)
        else:
            self._put("chosen_room", 0, choices["room"][:, None])
        for name, (places, values) in exceptions.items() if self._change is None else ():
            if len(places):
                shape = exception_shape(self._sizes, name)
                row, t, j = (int(axis) for axis in np.unravel_index(places[0], shape))
                found = f"found one beyond its column by {values[0]} at row {row}, position {t}, place {j}"
                more = f" and {len(places) - 1} more" if len(places) > 1 else ""
                raise ProverError(f"values of {name}: {found}{more}, expected none where rows are hidden; not proven")
        return None

    def _draw(self, choices: dict[str, Int64]) -> None:
        """The part of all weights that each step draws, in limbs."""
        vocab, low = np.arange(self._sizes.d.vocab), 1 << DRAW_LIMB
        self._put("logit_at", 0, (vocab == choices["logit_at"][:, None]).astype(np.int64))

        def put(name: str, values: Int64) -> Int64:
            return self._put(name, 0, values[:, None])[:, 0]

        draws, chances, before = np.array(self._draws, np.int64), choices["chances"], choices["before"]
        t0, t1 = put("chances_low", chances % low), put("chances_high", chances // low)
        u0, u1 = draws % low, draws // low
        put("draw_low", u0 * t0 % low)
        carry = put("draw_carry", u0 * t0 // low)
        middle, unit = u0 * t1 + u1 * t0 + carry, 1 << (DRAW_BITS - DRAW_LIMB)
        put("draw_high", middle % unit)
        part = put("draw_more", middle // unit) + 2 * u1 * t1
        put("draw_room", part - before)
        put("draw_end", before + choices["chance"] - 1 - part)

    def _put(self, name: str, row: int, values: Int64) -> Int64:
        made = values if self._change is None else self._change(name, row, values)
        self._own[name][row] = made
        return made

    def _row(self, name: str, row: int, values: Int64) -> Int64:
        """Keep a number of the rows of one site or head, (positions,), or as many of each as there are lengths."""
        made = values if self._change is None else self._change(name, row, values)
        self._own[name][..., row] = made
        return made
