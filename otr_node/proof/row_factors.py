"""Factors of the sum-checks that stand for rows' numbers where rows are hidden
(``spotcheck.proof.rows_hidden``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otr_core.spotcheck.proof.field import Words, residues, xmul, xscale
from otr_core.spotcheck.proof.layout import Sizes
from otr_core.spotcheck.proof.rows import Factor
from otr_core.spotcheck.proof.scales import by_length, least_peaks
from otr_node.proof.products import Products, combined_integers, lifted, pointwise, spread_to, words_apart

Int64 = NDArray[np.int64]


def row_factors(kind: str, tables: tuple[Any, ...], own: dict[str, Int64], s: Sizes) -> Products | None:
    """Factors of a sum-check by its kind; None of one that is not about rows.

    Args:
        tables: as ``Party.reduce`` is given them. own: the witness' numbers.
    """
    found = RowFactors(own, s)
    if kind in ("scaled", "normed", "weight"):
        return found.products(*tables)
    if kind in ("root", "factor", "share"):
        return found.row_product(*tables)
    makers: dict[str, Callable[..., Products]]
    makers = {
        "peak place": found.taken,
        "peak value": found.at_peak,
        "top": found.top,
        "gate ends": found.gates,
        "choice top": found.logits,
    }
    return makers[kind](*tables) if kind in makers else None


class RowFactors:
    """Factors, from the numbers of a witness; a row's number is an array (rows, positions)."""

    def __init__(self, own: dict[str, Int64], s: Sizes) -> None:
        self._own, self._sizes = own, s

    def _row(self, name: str) -> Int64:
        if name in ("up", "down"):
            return self._by_length(by_length(name, self._sizes.d))
        return np.ascontiguousarray(self._own[name][0].T)

    def _by_length(self, values: list[int]) -> Int64:
        return np.ascontiguousarray(np.tensordot(np.array(values, np.int64), self._own["length"], 1).T)

    def _peaks(self) -> Int64:
        return self._by_length(least_peaks()) + self._row("peak_low")

    def _column(self, name: str) -> Int64:
        return self._peaks()[..., None] - self._own["below"] if name == "stream" else self._own[name]

    def products(self, n: Words, t: Words, across: Words, factors: tuple[Factor, ...]) -> Products:
        """Rows' numbers, and sums of columns across the rows."""
        sides: tuple[list[Words], ...] = ([], [], [])
        for sign, number, column in factors:
            values = self._column(column)
            sums = combined_integers(np.ascontiguousarray(values.reshape(-1, values.shape[2]).T), across)
            weights = xscale(xmul(n[:, None], t), residues(np.array(sign)))
            made = (words_apart(weights), lifted(self._row(number)), words_apart(sums.reshape(len(n), len(t), 2)))
            for side, own in zip(sides, made, strict=True):
                side.append(own)
        shape = (len(factors), len(n), len(t))
        return Products([np.stack(side, 1) for side in sides], shape)

    def row_product(self, n: Words, t: Words, f: str, g: str) -> Products:
        """Two rows' numbers."""
        return self._weighted(xmul(n[:, None], t), self._row(f), self._row(g))

    def taken(self, rows: Words) -> Products:
        """Where a row's peak is, and the stream."""
        return self._weighted(rows[:, :, None], self._own["peak_at"], self._column("stream"))

    def at_peak(self, rows: Words) -> Products:
        """peak − value and peak + value."""
        peak, value = self._peaks(), self._row("peak_value")
        return self._weighted(rows, peak - value, peak + value)

    def top(self, o: Words, t: Words) -> Products:
        """Where a row's top is, and how far each place is from it."""
        away = self._own["distance"] + self._own["far"] + self._own["distance_low"]
        return self._weighted(xmul(o[:, None], t)[:, :, None], self._own["top_at"], away)

    def logits(self, w: Words) -> Products:
        """Where a step's largest logit is, and how far each is below it."""
        return self._weighted(w[:, None], self._own["logit_at"][0], self._own["below_top"][0])

    def gates(self, layer: Words, t: Words, j: Words) -> Products:
        """By how much less than the table's a gate's index is, and that of the table."""
        less = self._own["gate_beneath"] - self._own["gate_above"]
        return pointwise((layer, t, j), lifted(less), lifted(self._own["gate_index"]))

    def _weighted(self, weights: Words, f: Int64, g: Int64) -> Products:
        left = lifted(f)
        return Products([spread_to(weights, left), left, lifted(g)], f.shape)
