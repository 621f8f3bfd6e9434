"""Rows whose numbers stand in the clear (``facts``): each use of one is a weight of a claim."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from otr_core.lane import formats as bits
from otr_core.spotcheck.proof.claims import PointWeights, PrefixWeights, RowWeights, by_rows
from otr_core.spotcheck.proof.facts import Facts, exception_shape
from otr_core.spotcheck.proof.field import ONE, ZERO, Ext, Words, dot_base, ones, outer, residues, xtotal
from otr_core.spotcheck.proof.layout import DRAW_BITS
from otr_core.spotcheck.proof.party import Party
from otr_core.spotcheck.proof.rows import Factor, KnownRows
from otr_core.spotcheck.proof.scales import norm_scales, scaled_epsilon

Int64 = NDArray[np.int64]


class OpenRows(KnownRows):
    """Rows of a proof whose facts were sent."""

    def __init__(self, party: Party) -> None:
        super().__init__(party)
        self.facts: Facts = party.facts

    def peaks(self, rows: Words) -> Ext:
        return dot_base(rows, residues(self.facts.peak))

    def peak_taken(self) -> None:
        p, f = self.party, self.facts
        site, at = np.indices(f.peak.shape)
        places = (site.ravel(), at.ravel(), f.peak_at.ravel())
        n2, t2 = p.tables("peak place", f.peak.shape)
        found = p.claim("below", PointWeights(places, outer(n2, t2).reshape(-1, 2)))
        p.equal("peak place", found, lambda: dot_base(outer(n2, t2), residues(2 * f.peak * f.peak_sign)))

    def products(
        self, check: str, rest: Callable[[], Ext], rows: tuple[Words, Words], across: Words, *factors: Factor
    ) -> None:
        p, left = self.party, ZERO
        for sign, number, column in factors:
            weights = RowWeights(by_rows(outer(*rows), self._numbers(number)), across)
            left = left + (self.stream(weights) if column == "stream" else p.claim(column, weights)) * sign
        p.equal(check, left, rest())

    def _numbers(self, name: str) -> Int64:
        if name == "share":
            return bits.ONE_SHARE // np.maximum(self.facts.total, 1)
        if name == "factor":
            return self.norm_factors()
        powers = norm_scales(self.facts.peak)[name == "down"]
        return np.ones_like(powers) << powers

    def norm_factors(self) -> Int64:
        """The norm's factor of each row, by exact integers."""
        d, found = self.party.sizes.d, np.empty(self.facts.peak.shape, np.int64)
        up, down = norm_scales(self.facts.peak)
        for place, squares in np.ndenumerate(self.facts.squares):
            epsilon = scaled_epsilon(d.epsilon, int(up[place] - down[place]))
            found[place] = d.numerator // math.isqrt(max(4 * (int(squares) + epsilon), 1))
        return found

    def rests(self, weights: RowWeights) -> Ext:
        half = self._numbers("down") >> 1
        return self.party.claim("norm_rest", weights) - dot_base(weights.rows, residues(half)) * ones(weights.across)

    def squares(self, rows: Words) -> Ext:
        return dot_base(rows, residues(self.facts.squares))

    def factors(self, n: Words, t: Words) -> None:
        """Each side computes them."""

    def tops(self, rows: Words) -> Ext:
        return dot_base(rows, residues(self.facts.top))

    def top_taken(self) -> None:
        p, f = self.party, self.facts
        row, at = np.indices(f.top.shape)
        o2, t3 = p.tables("top", f.top.shape)
        places = PointWeights((row.ravel(), at.ravel(), f.top_at.ravel()), outer(o2, t3).reshape(-1, 2))
        for name in ("distance", "far", "distance_low"):  # none of the three is negative
            p.equal("top", p.claim(name, places), ONE * 0)

    def totals(self, rows: Words) -> Ext:
        return dot_base(rows, residues(self.facts.total))

    def shares(self, o: Words, t: Words) -> None:
        """Each side computes them."""

    def gate_index(self, weights: RowWeights) -> Ext:
        return self.party.claim("gate_index", weights)

    def cut_off(self, name: str, weights: RowWeights) -> Ext:
        places = self.facts.places(name, exception_shape(self.party.sizes, name))
        return Ext.of(xtotal(by_rows(weights.at(places), self.facts.cut_off(name))))

    def gate_ends(self) -> None:
        p, f, s = self.party, self.facts, self.party.sizes
        for name in ("gate_index", "product"):
            places, values = f.places(name, s.columns[name].shape), f.exceptions[name][1]
            if len(values):
                (w,) = p.tables(f"{name} end", (len(values),))
                if name == "product":
                    ends = np.sign(values) * np.array(s.saturation, np.int64)[places[0]]
                else:
                    ends = np.where(values > 0, bits.SIGMOID_ENTRIES - 1, 0) + values
                p.equal(f"{name} end", p.claim(name, PointWeights(places, w)), dot_base(w, residues(ends)))

    def stream_ends(self) -> None:
        """There the stream is ±int32's largest."""
        p, f = self.party, self.facts
        places, values = f.places("stream", exception_shape(p.sizes, "stream")), f.exceptions["stream"][1]
        if len(values):
            (w,) = p.tables("stream saturation", (len(values),))
            site = places[0] + 1
            peaks = f.peak[site, places[1]]
            found = p.claim("below", PointWeights((site, places[1], places[2]), w))
            p.equal("stream saturation", found, lambda: dot_base(w, residues(peaks - np.sign(values) * bits.INT32)))

    def logits(self, g: Words) -> Ext:
        return dot_base(g, residues(self.facts.choices["logit"]))

    def logit_taken(self) -> None:
        p, s = self.party, self.party.sizes
        (w,) = p.tables("choice top", (s.answer,))
        at = (np.zeros(s.answer, np.int64), np.arange(s.answer), self.facts.choices["logit_at"])
        p.equal("choice top", p.claim("below_top", PointWeights(at, w)), ONE * 0)

    def draws(self, g: Words, chosen: NDArray[np.int64]) -> None:
        """Sums of weights as they stand in the clear, compared as plain integers."""
        p, s, f = self.party, self.party.sizes, self.facts.choices
        whole = RowWeights(g[None], np.broadcast_to(ONE.words, (s.d.vocab, 2)))
        p.equal("chances", p.claim("chance", whole), dot_base(g, residues(f["chances"])))
        p.equal("before", p.claim("chance", PrefixWeights(g, chosen)), dot_base(g, residues(f["before"])))
        at = PointWeights((np.zeros_like(chosen), np.arange(s.answer), chosen), g)
        p.equal("chance", p.claim("chance", at), dot_base(g, residues(f["chance"])))
        targets = [u * total >> DRAW_BITS for u, total in zip(p.draws, f["chances"].tolist(), strict=True)]
        p.between("draw", targets, f["before"].tolist(), (f["before"] + f["chance"]).tolist())

    def rooms(self, w: Words) -> Ext:
        return dot_base(w, residues(self.facts.choices["room"]))
