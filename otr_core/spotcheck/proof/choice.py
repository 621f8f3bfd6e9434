"""How each token of the answer is chosen: greedily, or by the draw of its step (``lane.step``'s LOGITS
to CHOICE).

A drawn token is the first at which the sum of weights, in the order of ids, passes u · total / 2^53.
The draw u is computed by the verifier from order, seed and step; total and the sums before the
chosen token stand in the clear and are proven, so that the comparison is made in plain integers.
"""

from __future__ import annotations

import numpy as np

from otr_core.lane import formats as bits
from otr_core.lane.dims import Matrix
from otr_core.spotcheck.proof.claims import PointWeights, RowWeights
from otr_core.spotcheck.proof.field import ONE, Ext, Words, dot, later_sums, outer, xtotal
from otr_core.spotcheck.proof.layout import TEMPER_END
from otr_core.spotcheck.proof.party import Party
from otr_core.spotcheck.proof.relations import constant, dot_relation, rows_of


def relate_choice(party: Party) -> None:
    """Run the relations of the head, by the order's temperature.

    Raises:
        AnswerProofError: the first relation that does not hold.
    """
    if party.sizes.temperature_milli:
        drawn_choice(party)
    else:
        greedy_choice(party)


def head_relation(p: Party, lhs: Ext, g: Words, j: Words) -> None:
    """lhs = Σ g[g] · j[i] · (accumulator of logit i of chosen token g)."""
    t = np.zeros((p.sizes.positions, 2), np.uint64)
    t[p.sizes.prompt - 1 :] = g
    dot_relation(p, Matrix.HEAD, lhs, "normed", [p.sizes.sites - 1], ONE.words[None], t, j)


def greedy_choice(p: Party) -> None:
    """LOGITS and CHOICE of a greedy answer: the first largest logit is the chosen token's.

    A logit rounds to L or less exactly if its accumulator + 2^17 is less than (L + 1) · 2^18, and
    to less than L if less than L · 2^18. ``room`` is how much less, minus one: of token i, with L
    the chosen token's logit and i before it held to less than L. The chosen token's own room is
    below 2^18, so that L is its logit.
    """
    s, known, up = p.sizes, rows_of(p), Matrix.HEAD.shift
    g, j = p.tables("logits", (s.answer, s.d.vocab))
    chosen = np.array(p.tokens[s.prompt :], np.int64)
    # Σ_g g · Σ_i j[i] · ((L_g + [i ≥ chosen_g]) · 2^18 − 1 − 2^17)
    begun = later_sums(j)[chosen]  # Σ of j from the chosen token on
    bound = known.logits(g) * Ext.of(xtotal(j)) + dot(g, begun)
    bound = bound * (1 << up) - Ext.of(xtotal(g)) * Ext.of(xtotal(j)) * (1 + (1 << (up - 1)))
    lhs = bound - p.claim("room", RowWeights(g[None], j))
    head_relation(p, lhs, g, j)
    (w,) = p.tables("choice", (s.answer,))
    order = np.arange(s.answer)
    found = p.claim("room", PointWeights((np.zeros_like(order), order, chosen), w))
    p.equal("choice", found, known.rooms(w))


def drawn_choice(p: Party) -> None:
    """LOGITS, TOP, WEIGHTS, TOTAL and CHOICE of a drawn answer."""
    s, up, known = p.sizes, Matrix.HEAD.shift, rows_of(p)
    g, j = p.tables("logits", (s.answer, s.d.vocab))
    chosen, rows = np.array(p.tokens[s.prompt :], np.int64), g[None]
    every = RowWeights(rows, j)
    # LOGITS, each as the largest less how far it is below: none is larger.
    below = p.claim("below_top", every)
    top = known.logits(g) * Ext.of(xtotal(j))
    lhs = (top - below) * (1 << up) + p.claim("logit_rest", every) - constant(rows, j, 1 << (up - 1))
    head_relation(p, lhs, g, j)
    # TOP: one logit of each step is not below.
    known.logit_taken()
    # TEMPER: below · factor divided by the temperature, the remainder below the divisor.
    index, far = p.claim("chance_index", every), p.claim("chance_far", every)
    high, unit = p.claim("temper_high", every), 1 << s.limb_bits
    right = (index + far) * s.temper + high * unit + p.claim("temper_low", every)
    p.equal("temper", below * bits.TEMPERATURE_FACTOR, right)
    p.equal("temper rest", high + p.claim("temper_room", every), constant(rows, j, s.temper // unit - 1))
    # What is farther than the table reaches has its last entry: far · (end − index) = 0.
    shape = s.columns["chance"].shape
    own = ONE.words[None]
    names = ("chance_far", "chance_index")
    (o2, g2, j2), value = p.reduce("far chance", ONE * 0, shape, own, g, j, *names)
    weights = RowWeights(outer(o2, g2), j2)
    far, index = p.claim("chance_far", weights), p.claim("chance_index", weights)
    there = dot(own, o2) * dot(g, g2) * dot(j, j2)
    p.equal("far chance", value, lambda: there * far * (weights.sum() * TEMPER_END - index))
    # WEIGHTS by table (look-ups); TOTAL, the sums before the chosen token and with it, and CHOICE.
    known.draws(g, chosen)
