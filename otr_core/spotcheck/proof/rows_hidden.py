"""Rows whose numbers are columns: each use of one is a claim, and where one multiplies a column, a
sum-check over the rows alone.

A row's number has the shape (1, positions, rows), so that a block holds those of many rows. What is
compared are sums of range-checked cells, so that an equality modulo p is one of integers; each
premise stands where it is used, and a model that has not got them is refused
(``scales.refuse_unhidden``). No value leaves its column here: the prover of one that does refuses.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from otr_core.lane import formats as bits
from otr_core.spotcheck.proof.claims import PlaneWeights, PointWeights, PrefixWeights, RowWeights
from otr_core.spotcheck.proof.field import ONE, ZERO, Ext, Words, dot, ones, outer, residues, xscale, xtotal
from otr_core.spotcheck.proof.layout import DRAW_BITS, DRAW_LIMB
from otr_core.spotcheck.proof.rows import Factor, KnownRows, seen
from otr_core.spotcheck.proof.scales import by_length, least_peaks, most_peaks

_ONE = ONE.words[None]  # weights of an axis of one value
_END = bits.SIGMOID_ENTRIES - 1


def _every(count: int) -> Words:
    """Weights of one each."""
    return np.broadcast_to(ONE.words, (count, 2))


class HiddenRows(KnownRows):
    """Rows of a proof that says nothing about them in the clear."""

    def _number(self, name: str, rows: Words) -> Ext:
        """Σ row · a number of rows, which is a column, or follows from the length of the row's peak."""
        if name in ("up", "down", "half", "epsilon"):
            return self._by_length(rows, by_length(name, self.party.sizes.d))
        return self.party.claim(name, PlaneWeights(_ONE, rows.swapaxes(0, 1)))

    def _by_length(self, rows: Words, values: list[int]) -> Ext:
        """Σ row · the value that belongs to the length of its peak."""
        first = xscale(_every(len(values)), residues(np.array(values, np.int64)))
        return self.party.claim("length", PlaneWeights(first, rows.swapaxes(0, 1)))

    def _row_product(self, check: str, claim: Ext, rows: tuple[Words, Words], f: str, g: str) -> None:
        """Σ of rows · f · g, two numbers of rows, is ``claim``."""
        (n2, t2), value = self.party.reduce(check, claim, (len(rows[0]), len(rows[1])), *rows, f, g)
        at = outer(n2, t2)
        left, right = self._number(f, at), self._number(g, at)
        self.party.equal(check, value, lambda: dot(rows[0], n2) * dot(rows[1], t2) * left * right)

    # --- norms

    def peaks(self, rows: Words) -> Ext:
        """A peak is the least one of its length, and ``peak_low``."""
        return self._by_length(rows, least_peaks()) + self._number("peak_low", rows)

    def peak_taken(self) -> None:
        p, s = self.party, self.party.sizes
        n, t = p.tables("peak place", (s.sites, s.positions))
        rows, there = outer(n, t), ones(n) * ones(t)
        # Cells are 0 or 1 and their sum is 1, so that one is 1: of the lengths, and of the places of a row.
        p.equal("length", self._by_length(rows, [1] * len(least_peaks())), there)
        p.equal("peak one", p.claim("peak_at", RowWeights(rows, _every(s.d.hidden))), there)
        # The peak has that length: it is not below the least one, nor beyond the largest.
        most = self._by_length(rows, most_peaks())
        p.equal("peak length", self.peaks(rows) + self._number("peak_high", rows), most)
        # ``peak_value`` stands at the place, and is the peak or minus that: (peak − value) (peak + value) = 0.
        found = self._number("peak_value", rows)
        (n2, t2, j2), value = p.reduce("peak place", found, (s.sites, s.positions, s.d.hidden), rows)
        weights = RowWeights(outer(n2, t2), j2)
        taken, own = p.claim("peak_at", weights), self.stream(weights)
        p.equal("peak place", value, lambda: dot(n, n2) * dot(t, t2) * ones(j2) * taken * own)
        (n3, t3), value = p.reduce("peak value", ZERO, (s.sites, s.positions), rows)
        at = outer(n3, t3)
        peak, own = self.peaks(at), self._number("peak_value", at)
        p.equal("peak value", value, lambda: dot(n, n3) * dot(t, t3) * (peak - own) * (peak + own))

    def products(
        self, check: str, rest: Callable[[], Ext], rows: tuple[Words, Words], across: Words, *factors: Factor
    ) -> None:
        """What a whole row is multiplied by is multiplied by the row's sum over ``across``: a sum-check over (factors,
        rows, positions)."""
        p, (n, t) = self.party, rows
        (o2, n2, t2), value = p.reduce(check, rest(), (len(factors), len(n), len(t)), n, t, across, factors)
        at = outer(n2, t2)
        weights, signs, number, sums = RowWeights(at, across), ZERO, ZERO, ZERO
        for own, (sign, name, column) in zip(o2, factors, strict=True):
            share = Ext.of(own)
            signs = signs + share * sign
            number = number + share * self._number(name, at)
            sums = sums + share * (self.stream(weights) if column == "stream" else p.claim(column, weights))
        p.equal(check, value, lambda: signs * dot(n, n2) * dot(t, t2) * number * sums)

    def rests(self, weights: RowWeights) -> Ext:
        """A remainder and its room are both ranged, and sum to what the row is divided by, less one."""
        p, across = self.party, ones(weights.across)
        rest = p.claim("norm_rest", weights)
        below = self._number("down", weights.rows) - Ext.of(xtotal(weights.rows.reshape(-1, 2)))
        p.equal("scaled rest", rest + p.claim("norm_room", weights), below * across)
        return rest - self._number("half", weights.rows) * across

    def squares(self, rows: Words) -> Ext:
        return self._number("squares", rows)

    def factors(self, n: Words, t: Words) -> None:
        """root² ≤ 4 (squares + epsilon) ≤ root² + 2 root, and numerator = factor · root + what is less than the root.

        The first is below 2^63 as the root has at most 31 bits, the second as both together have at most 63.
        """
        p, d, rows, there = self.party, self.party.sizes.d, outer(n, t), ones(n) * ones(t)
        root, low = self._number("root", rows), self._number("root_low", rows)
        whole = (self._number("squares", rows) + self._number("epsilon", rows)) * 4
        self._row_product("root", whole - low, (n, t), "root", "root")
        p.equal("root end", root * 2 - low, self._number("root_high", rows))
        rest = self._number("quotient_low", rows)
        self._row_product("factor", there * d.numerator - rest, (n, t), "factor", "root")
        p.equal("factor end", root - there - rest, self._number("quotient_room", rows))

    # --- attention

    def tops(self, rows: Words) -> Ext:
        return self._number("top", rows)

    def top_taken(self) -> None:
        """One of the places that are seen, and there all of the distance is 0; none of its parts is negative."""
        p, s = self.party, self.party.sizes
        shape = s.columns["top_at"].shape
        o, t = p.tables("top", shape[:2])
        found = p.claim("top_at", PlaneWeights(o, seen(t, _every(s.positions))))
        p.equal("top one", found, ones(o) * ones(t))
        (o2, t2, s2), value = p.reduce("top", ZERO, shape, o, t)
        weights = RowWeights(outer(o2, t2), s2)
        taken = p.claim("top_at", weights)
        away = p.claim("distance", weights) + p.claim("far", weights) + p.claim("distance_low", weights)
        p.equal("top", value, lambda: dot(o, o2) * dot(t, t2) * ones(s2) * taken * away)

    def totals(self, rows: Words) -> Ext:
        return self._number("total", rows)

    def shares(self, o: Words, t: Words) -> None:
        """2^44 = share · total + what is less than the total; below 2^60. A total is no less than 2^20, as its top is
        seen, at distance 0."""
        p, rows, there = self.party, outer(o, t), ones(o) * ones(t)
        rest = self._number("share_low", rows)
        self._row_product("share", there * bits.ONE_SHARE - rest, (o, t), "share", "total")
        p.equal("share end", self._number("total", rows) - there - rest, self._number("share_room", rows))

    # --- what leaves a column

    def gate_index(self, weights: RowWeights) -> Ext:
        p = self.party
        return p.claim("gate_index", weights) + p.claim("gate_above", weights) - p.claim("gate_beneath", weights)

    def cut_off(self, name: str, weights: RowWeights) -> Ext:
        return ZERO

    def gate_ends(self) -> None:
        """above · (end − index) + beneath · index = 0: neither is negative, as the index is one of the table, so that
        an index is above at the table's end alone, and beneath at its beginning."""
        p = self.party
        shape = p.sizes.columns["gate_index"].shape
        layer, t, j = p.tables("gate ends", shape)
        found = p.claim("gate_above", RowWeights(outer(layer, t), j)) * -_END
        (l2, t2, j2), value = p.reduce("gate ends", found, shape, layer, t, j)
        at = RowWeights(outer(l2, t2), j2)
        less, index = p.claim("gate_beneath", at) - p.claim("gate_above", at), p.claim("gate_index", at)
        p.equal("gate ends", value, lambda: dot(layer, l2) * dot(t, t2) * dot(j, j2) * less * index)

    def stream_ends(self) -> None:
        """There is none."""

    # --- the choice

    def logits(self, g: Words) -> Ext:
        return self.party.claim("logit", RowWeights(g[None], _ONE))

    def logit_taken(self) -> None:
        p, s = self.party, self.party.sizes
        (w,) = p.tables("choice top", (s.answer,))
        p.equal("choice one", p.claim("logit_at", RowWeights(w[None], _every(s.d.vocab))), ones(w))
        (g2, j2), value = p.reduce("choice top", ZERO, (s.answer, s.d.vocab), w)
        weights = RowWeights(g2[None], j2)
        taken, below = p.claim("logit_at", weights), p.claim("below_top", weights)
        p.equal("choice top", value, lambda: dot(w, g2) * ones(j2) * taken * below)

    def draws(self, g: Words, chosen: NDArray[np.int64]) -> None:
        """u · total = part · 2^53 + a rest below 2^53, in limbs of 27 bits; before ≤ part < before + own.

        With u = u1 · 2^27 + u0 and total likewise: u0 · t0 = low + carry · 2^27; u0 · t1 + u1 · t0 + carry = high +
        more · 2^26; and part = more + 2 · u1 · t1, as 2^54 is 2 · 2^53. Both sides of each stay below 2^57.
        """
        p, s = self.party, self.party.sizes
        draws = np.array(p.draws, np.int64)
        u0, u1 = (xscale(g, residues(own)) for own in (draws & ((1 << DRAW_LIMB) - 1), draws >> DRAW_LIMB))

        def step(name: str, weights: Words = g) -> Ext:
            return p.claim(name, RowWeights(weights[None], _ONE))

        whole = p.claim("chance", RowWeights(g[None], _every(s.d.vocab)))
        p.equal("chances", whole, step("chances_low") + step("chances_high") * (1 << DRAW_LIMB))
        carry = step("draw_carry")
        p.equal("draw low", step("chances_low", u0), step("draw_low") + carry * (1 << DRAW_LIMB))
        more, middle = step("draw_more"), step("chances_high", u0) + step("chances_low", u1) + carry
        p.equal("draw high", middle, step("draw_high") + more * (1 << (DRAW_BITS - DRAW_LIMB)))
        part = more + step("chances_high", u1) * 2
        before = p.claim("chance", PrefixWeights(g, chosen))
        p.equal("draw", before + step("draw_room"), part)
        own = p.claim("chance", PointWeights((np.zeros_like(chosen), np.arange(s.answer), chosen), g))
        p.equal("draw end", part + step("draw_end") + ones(g), before + own)

    def rooms(self, w: Words) -> Ext:
        return self.party.claim("chosen_room", RowWeights(w[None], _ONE))
