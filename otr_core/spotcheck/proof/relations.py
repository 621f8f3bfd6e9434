"""The relations of the lane's layers, one for each kind of operator, as both sides run them; how a
token is chosen stands in ``choice``.

``lane.step`` says how each value is made; here stands what is proven of it. A relation that is
linear in committed columns becomes claims at random weights; a product becomes a sum-check first.
Every number is range-checked by look-ups (``lookups``), and where a relation is over the field the
ranges rule out that both sides differ by a multiple of p: what is true stays below 2^62 by the
bounds that are proven of the model when it is loaded, and what is claimed below 2^62 by its range
(``docs/proof.md`` has the table).

Row facts (peaks, places, sums) stand in the clear, or are columns, and are proven like everything else
(``rows``).
"""

from __future__ import annotations

import numpy as np

from otr_core.lane import formats as bits
from otr_core.lane.dims import Matrix
from otr_core.spotcheck.proof.claims import PlaneWeights, RowWeights, spread
from otr_core.spotcheck.proof.field import (
    ONE,
    Ext,
    Words,
    add,
    dot,
    ones,
    outer,
    residues,
    sub,
    xmul,
    xscale,
    xtotal,
)
from otr_core.spotcheck.proof.party import Party
from otr_core.spotcheck.proof.rows import KnownRows, seen
from otr_core.spotcheck.proof.rows_hidden import HiddenRows
from otr_core.spotcheck.proof.rows_open import OpenRows


def relate(party: Party, cosines: np.ndarray, sines: np.ndarray) -> None:
    """Run every relation of the layers.

    Args:
        cosines, sines: (positions, tile / 2), the lane's rotary table.

    Raises:
        AnswerProofError: the first relation that does not hold.
    """
    embed_tokens(party)
    norms(party)
    matrix_qkv(party)
    rotations(party, cosines, sines)
    scores(party)
    softmax(party)
    mix(party)
    matrix_out(party)
    matrix_gate_up(party)
    gated(party)
    matrix_down(party)


def rows_of(p: Party) -> KnownRows:
    """What is known of rows."""
    return HiddenRows(p) if p.sizes.hidden else OpenRows(p)


def constant(rows: Words, across: Words, value: int) -> Ext:
    """Σ rows · across · value."""
    return Ext.of(xtotal(rows.reshape(-1, 2))) * Ext.of(xtotal(across)) * value


def unit(length: int, at: int, weights: Words) -> Words:
    """Rows (length, positions, 2) that hold ``weights`` (positions, 2) at one place."""
    rows = np.zeros((length, *weights.shape), np.uint64)
    rows[at] = weights
    return rows


# --- COPY: what enters


def embed_tokens(p: Party) -> None:
    """Site 0 of the stream is the embedding of the tokens that were fed."""
    t, j = p.tables("embedding", (p.sizes.positions, p.sizes.d.hidden))
    found = rows_of(p).stream(RowWeights(unit(p.sizes.sites, 0, t), j))
    fed = p.tokens[: p.sizes.positions]
    p.equal("embedding", found, p.embedded(fed, t, j))


# --- PEAK, SQUARES, FACTOR, NORM


def norms(p: Party) -> None:
    """All norms: sites are an axis."""
    s, own = p.sizes, rows_of(p)
    shape = (s.sites, s.positions, s.d.hidden)
    n, t, j = p.tables("norm", shape)
    rows = outer(n, t)
    every = RowWeights(rows, j)
    # PEAK: no value is beyond the peak on either side, and one has it.
    both = p.claim("below", every) + p.claim("above", every)
    p.equal("peak", both, own.peaks(rows) * ones(j) * 2)
    own.peak_taken()
    # The scaled row: x · 2^power, rounded where the power is negative.
    sides = (1, "up", "stream"), (-1, "down", "scaled")
    own.products("scaled", lambda: own.rests(every), (n, t), j, *sides)
    # SQUARES: of each row as it is known.
    (n3, t3, j3), value = p.reduce("squares", own.squares(rows), shape, rows)
    z = p.claim("scaled", RowWeights(outer(n3, t3), j3))
    p.equal("squares", value, lambda: dot(n, n3) * dot(t, t3) * ones(j3) * z * z)
    # FACTOR follows from both; NORM: scaled · factor, rounded.
    own.factors(n, t)

    def normed() -> Ext:
        rounded = p.claim("normed", every) * (1 << s.d.drop) + p.claim("normed_rest", every)
        return rounded - constant(rows, j, 1 << (s.d.drop - 1))

    own.products("normed", normed, (n, t), j, (1, "factor", "scaled"))


# --- DOT


def dot_relation(
    p: Party, matrix: Matrix, lhs: Ext, source: str, sites: list[int], layer: Words, t: Words, rows: Words
) -> None:
    """lhs = Σ layer[l] · t[t] · rows[j] · Σ_k source[sites[l], t, k] · W_l[j, k].

    Args:
        source: column that is multiplied. sites: its row for each layer.
    """
    columns = p.sizes.columns[source].shape
    name = matrix.name.lower()
    (l2, k2), value = p.reduce(f"dot {name}", lhs, (len(layer), columns[2]), matrix, source, sites, layer, t, rows)
    weights = np.zeros((*columns[:2], 2), np.uint64)
    weights[sites] = outer(l2, t)
    x = p.claim(source, RowWeights(weights, k2))
    w = p.weight(matrix, l2, rows, k2)
    p.equal(f"dot {name}", value, lambda: dot(layer, l2) * ones(k2) * x * w())


def matrix_qkv(p: Party) -> None:
    """QKV: normed · matrix, rounded."""
    layer, t, j = p.tables("qkv", p.sizes.columns["qkv"].shape)
    rows, up = outer(layer, t), Matrix.QKV.shift
    lhs = p.claim("qkv", RowWeights(rows, j)) * (1 << up) + p.claim("qkv_rest", RowWeights(rows, j))
    lhs = lhs - constant(rows, j, 1 << (up - 1))
    dot_relation(p, Matrix.QKV, lhs, "normed", [2 * at for at in range(len(layer))], layer, t, j)


def added(p: Party, name: str, matrix: Matrix, first: int) -> tuple[Ext, Words, Words, Words]:
    """The accumulator of a product that is added to the stream: from the step that the stream takes
    to site ``first`` + 2 · layer, what a saturation cut off, and the remainder."""
    s = p.sizes
    layer, t, j = p.tables(name, s.columns[f"{name}_rest"].shape)
    rows, up = outer(layer, t), matrix.shift
    steps = np.zeros((s.sites, s.positions, 2), np.uint64)
    steps[first : first + 2 * len(layer) : 2] = rows
    steps[first - 1 : first - 1 + 2 * len(layer) : 2] = sub(np.zeros_like(rows), rows)
    excess = np.zeros((s.sites - 1, s.positions, 2), np.uint64)
    excess[first - 1 : first - 1 + 2 * len(layer) : 2] = rows
    step = rows_of(p).stream(RowWeights(steps, j)) + rows_of(p).cut_off("stream", RowWeights(excess, j))
    lhs = step * (1 << up) + p.claim(f"{name}_rest", RowWeights(rows, j)) - constant(rows, j, 1 << (up - 1))
    return lhs, layer, t, j


def matrix_out(p: Party) -> None:
    """RESIDUAL_SUM: the stream steps by mixed · matrix, rounded; saturated at int32."""
    lhs, layer, t, j = added(p, "out", Matrix.OUT, 1)
    dot_relation(p, Matrix.OUT, lhs, "mixed", list(range(len(layer))), layer, t, j)


def matrix_down(p: Party) -> None:
    """OUTPUT: the stream steps by product · matrix, rounded; saturated at int32."""
    lhs, layer, t, j = added(p, "down", Matrix.DOWN, 2)
    dot_relation(p, Matrix.DOWN, lhs, "product", list(range(len(layer))), layer, t, j)
    rows_of(p).stream_ends()


def matrix_gate_up(p: Party) -> None:
    """GATE_UP: normed · matrix, rounded; gates first, then ups."""
    s, up = p.sizes, Matrix.GATE_UP.shift
    width = s.d.intermediate
    layer, t, j = p.tables("gate_up", (s.d.layers, s.positions, 2 * width))
    rows, own, other = outer(layer, t), j[:width], j[width:]
    value = gate_value(p, RowWeights(rows, own)) + p.claim("up", RowWeights(rows, other))
    rest = p.claim("gate_rest", RowWeights(rows, own)) + p.claim("up_rest", RowWeights(rows, other))
    lhs = value * (1 << up) + rest - constant(rows, j, 1 << (up - 1))
    dot_relation(p, Matrix.GATE_UP, lhs, "normed", [2 * at + 1 for at in range(len(layer))], layer, t, j)


# --- ROTATE


def rotations(p: Party, cosines: np.ndarray, sines: np.ndarray) -> None:
    """QUERY and KEY: two products with sine and cosine, rounded."""
    s, up = p.sizes, bits.ROTARY
    d, half = s.d, s.d.tile // 2
    layer, t, j = p.tables("turned", s.columns["turned"].shape)
    rows = outer(layer, t)
    lhs = p.claim("turned", RowWeights(rows, j)) * (1 << up) + p.claim("turned_rest", RowWeights(rows, j))
    lhs = lhs - constant(rows, j, 1 << (up - 1))
    heads = j.reshape(d.heads + d.kv_heads, 2, half, 2)
    cos, sin = (xscale(t[:, None], residues(side)) for side in (cosines, sines))  # (positions, half, 2)
    first, second = heads[None, :, 0], heads[None, :, 1]
    cos, sin = cos[:, None], sin[:, None]
    plane = np.zeros((s.positions, s.columns["qkv"].shape[2], 2), np.uint64)
    turned = [add(xmul(first, cos), xmul(second, sin)), sub(xmul(second, cos), xmul(first, sin))]
    plane[:, : len(j)] = np.stack(turned, 2).reshape(s.positions, len(j), 2)
    found = p.claim("qkv", PlaneWeights(layer, plane))
    p.equal("turned", lhs, found)


# --- SCORE, TOP, EXP, SUM, SHARE, WEIGHT, MIX


def by_group(p: Party, heads: Words) -> Words:
    """Σ over the query heads that share a key: (heads, 2) to (kv_heads, 2)."""
    return xtotal(heads.reshape(p.sizes.d.kv_heads, -1, 2), 1)


def scores(p: Party) -> None:
    """SCORES, as the row's top less a distance (distance + far) · 2^15 + distance_low; TOPS: no
    distance is negative, one is 0."""
    s, d = p.sizes, p.sizes.d
    layer, head, t, j = p.tables("scores", (d.layers, d.heads, s.positions, s.positions))
    own, plane = spread([layer, head]), seen(t, j)
    tops = rows_of(p).tops(outer(own, xtotal(plane, 1)))
    weights = PlaneWeights(own, plane)
    away = (p.claim("distance", weights) + p.claim("far", weights)) * (1 << bits.SCORE_SHIFT)
    lhs = tops - away - p.claim("distance_low", weights)
    shape = (d.layers, s.positions, d.heads, d.tile)
    (l2, t2, h2, d2), value = p.reduce("scores", lhs, shape, layer, t, head, j)
    width = s.columns["turned"].shape[2]
    query, key = np.zeros((width, 2), np.uint64), np.zeros((width, 2), np.uint64)
    query[: d.heads * d.tile] = spread([h2, d2])
    key[d.heads * d.tile :] = spread([by_group(p, h2), d2])
    later = xtotal(np.where(np.tri(len(t), dtype=bool)[..., None], t2[:, None], np.uint64(0)), 0)
    q = p.claim("turned", RowWeights(outer(l2, t2), query))
    k = p.claim("turned", RowWeights(outer(l2, xmul(j, later)), key))
    p.equal("scores", value, lambda: dot(layer, l2) * dot(t, t2) * dot(head, h2) * ones(d2) * q * k)
    rows_of(p).top_taken()  # TOPS


def softmax(p: Party) -> None:
    """EXPS by table (look-ups), cut off at its end; TOTALS, SHARES, WEIGHTS."""
    s, known = p.sizes, rows_of(p)
    shape = s.columns["exp"].shape
    own, t, j = p.tables("exp", shape)
    # What is farther than the table reaches has its last entry: far · (end − distance) = 0.
    end = bits.EXP2_ENTRIES - 1
    (o2, t2, j2), value = p.reduce("far", ONE * 0, shape, own, t, j)
    weights = RowWeights(outer(o2, t2), j2)
    left, near = p.claim("far", weights), p.claim("distance", weights)
    p.equal("far", value, lambda: dot(own, o2) * dot(t, t2) * dot(j, j2) * left * (weights.sum() * end - near))
    # What is not seen weighs nothing.
    beyond = PlaneWeights(own, sub(outer(t, j), seen(t, j)))
    p.equal("mask", p.claim("exp", beyond), ONE * 0)
    # TOTALS, from which SHARES follow.
    rows = outer(own, t)
    summed = np.broadcast_to(ONE.words, (shape[2], 2))
    p.equal("total", p.claim("exp", RowWeights(rows, summed)), known.totals(rows))
    known.shares(own, t)
    every = RowWeights(rows, j)
    known.products(
        "weight",
        lambda: p.claim("weight", every) * (1 << bits.EXP) + p.claim("weight_rest", every),
        (own, t),
        j,
        (1, "share", "exp"),
    )


def mix(p: Party) -> None:
    """MIXED: Σ weight · value over the positions, rounded."""
    s, d, up = p.sizes, p.sizes.d, bits.PROBABILITY
    layer, t, head, c = p.tables("mixed", (d.layers, s.positions, d.heads, d.tile))
    rows, j = outer(layer, t), spread([head, c])
    lhs = p.claim("mixed", RowWeights(rows, j)) * (1 << up) + p.claim("mixed_rest", RowWeights(rows, j))
    lhs = lhs - constant(rows, j, 1 << (up - 1))
    (l2, h2, s2), value = p.reduce("mix", lhs, (d.layers, d.heads, s.positions), layer, t, head, c)
    w = p.claim("weight", RowWeights(outer(spread([l2, h2]), t), s2))
    own = np.zeros((s.columns["qkv"].shape[2], 2), np.uint64)
    own[(d.heads + d.kv_heads) * d.tile :] = spread([by_group(p, h2), c])
    v = p.claim("qkv", RowWeights(outer(l2, s2), own))
    p.equal("mix", value, lambda: dot(layer, l2) * dot(head, h2) * ones(s2) * w * v)


# --- GATE


def gate_value(p: Party, weights: RowWeights) -> Ext:
    """Σ weight · gate: (gate_index − zero) · 8 + gate_low − 4, the index as it is before it is cut
    to the table."""
    shift = bits.SIGMOID_SHIFT
    away = weights.sum() * (bits.SIGMOID_ZERO * (1 << shift) + (1 << (shift - 1)))
    return rows_of(p).gate_index(weights) * (1 << shift) + p.claim("gate_low", weights) - away


def gated(p: Party) -> None:
    """PRODUCT: gate · sigmoid(gate), rounded; times up, rounded and saturated."""
    shape = p.sizes.columns["up"].shape
    layer, t, j = p.tables("silu", shape)
    rows = outer(layer, t)
    claim = p.claim("silu", RowWeights(rows, j)) * (1 << bits.SIGMOID) + p.claim("silu_rest", RowWeights(rows, j))
    claim = claim - constant(rows, j, 1 << (bits.SIGMOID - 1))
    (l2, t2, j2), value = p.reduce("silu", claim, shape, layer, t, j)
    at = RowWeights(outer(l2, t2), j2)
    sigmoid, own = p.claim("sigmoid", at), gate_value(p, at)
    p.equal("silu", value, lambda: dot(layer, l2) * dot(t, t2) * dot(j, j2) * sigmoid * own)

    up = bits.PRODUCT_SHIFT
    whole = p.claim("product", RowWeights(rows, j)) + rows_of(p).cut_off("product", RowWeights(rows, j))
    claim = whole * (1 << up) + p.claim("product_rest", RowWeights(rows, j)) - constant(rows, j, 1 << (up - 1))
    (l2, t2, j2), value = p.reduce("product", claim, shape, layer, t, j)
    at = RowWeights(outer(l2, t2), j2)
    silu, other = p.claim("silu", at), p.claim("up", at)
    p.equal("product", value, lambda: dot(layer, l2) * dot(t, t2) * dot(j, j2) * silu * other)

    rows_of(p).gate_ends()
