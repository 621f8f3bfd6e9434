"""The witness: every operator's values for a whole answer, as the columns of the proof hold them.

The portable lane is run once more over all fed tokens, layer by layer, in exact integers, and the
remainders of its roundings are kept beside the values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otr_core.errors import ProverError
from otr_core.lane import formats as bits
from otr_core.lane.dims import Matrix
from otr_core.spotcheck.proof.facts import EXCEPTIONS, Facts
from otr_core.spotcheck.proof.layout import TEMPER_END, Sizes
from otr_core.spotcheck.proof.verify import rotary_tables
from otr_node.integers import twins
from otr_node.integers.forms import EXP2, SIGMOID
from otr_node.integers.packed import Packed
from otr_node.portable import PortableModel
from otr_node.proof.witness_rows import Change, Exceptions, Normed, RowColumns, RowFacts, WitnessRows

Int64 = NDArray[np.int64]
Put = Callable[[str, int, Int64], Int64]
"""Keeps the values of a column's row, and gives those from which the computation goes on."""

_ROWS = 4096  # of a matrix, made dense at once


@dataclass
class Witness:
    """Numbers of every column, int64 (rows, positions, values), and the facts of rows; None where these are columns."""

    numbers: dict[str, Int64]
    facts: Facts | None


def exact_sums(x: Int64, packed: Packed) -> Int64:
    """x · matrixᵀ, exact: int64 (positions, columns) to (positions, rows)."""
    found = np.empty((len(x), packed.shape[0]), np.int64)
    for first in range(0, packed.shape[0], _ROWS):
        end = min(first + _ROWS, packed.shape[0])
        dense = packed.dense(first, end)
        if packed.in_floats:
            found[:, first:end] = x.astype(np.float64) @ dense.astype(np.float64).T
        else:
            found[:, first:end] = x @ dense.astype(np.int64).T
    return found


def with_rests(sums: Int64, shift: int) -> tuple[Int64, Int64]:
    """Sums rounded, and the remainders."""
    whole = sums + (1 << (shift - 1))
    return whole >> shift, whole & ((1 << shift) - 1)


def make_witness(
    model: PortableModel,
    s: Sizes,
    tokens: tuple[int, ...],
    change: Change | None = None,
    progress: Callable[[str], None] = lambda line: None,
    draws: tuple[int, ...] = (),
) -> Witness:
    """Run the lane over the tokens that were fed.

    Args:
        tokens: those of the prompt, then the chosen ones. change: None in an honest run. draws: one a
            chosen token, of a drawn answer.

    Raises:
        ProverError: a chosen token is not the lane's; or a value leaves its column where rows are hidden.
    """
    d, count = s.d, s.positions
    own = {name: np.zeros(column.shape, np.int64) for name, column in s.columns.items() if "count" not in name}
    known: WitnessRows = RowColumns(s, own, change, draws) if s.hidden else RowFacts(s)
    lists: dict[str, list[tuple[Int64, Int64]]] = {name: [] for name in ("stream", "product")}

    def put(name: str, row: int, values: Int64) -> Int64:
        own[name][row] = values if change is None else change(name, row, values)
        made: Int64 = own[name][row]
        return made

    def norm(site: int, x: Int64) -> Int64:
        peak = twins.norm_peak(x)
        put("below", site, peak - x)
        put("above", site, peak + x)
        scaled, power = twins.norm_scaled(x, peak)
        scaled = put("scaled", site, scaled)
        down = np.maximum(-power, 0)
        rest = ((x << np.maximum(power, 0)) + ((np.ones_like(down) << down) >> 1)) - (scaled << down)
        rest = put("norm_rest", site, rest)
        factor = known.norm(site, Normed(x, peak[:, 0], scaled, rest, power[:, 0]))[:, None]
        y, rest = with_rests(scaled * factor, d.drop)
        put("normed_rest", site, rest)
        return put("normed", site, y)

    def step(x: Int64, name: str, layer: int, site: int, sums: Int64) -> Int64:
        y, rest = with_rests(sums, Matrix[name.upper()].shift)
        put(f"{name}_rest", layer, rest)
        whole = x + y
        cut: Int64 = np.clip(whole, -bits.INT32, bits.INT32)
        note("stream", site - 1, whole - cut)
        return cut

    def note(name: str, row: int, excess: Int64) -> None:
        if excess.any():
            at = np.flatnonzero(excess)
            lists[name].append((at + row * excess.size, excess.ravel()[at]))

    cosines, sines = _turns(model, count)
    x = model.matrix(Matrix.EMBED, 0).gather(np.array(tokens[:count])).astype(np.int64)
    for layer in range(d.layers):
        x = _attention(model, s, layer, x, known, put, norm, step, (cosines, sines))
        normed = norm(2 * layer + 1, x)
        values, rest = with_rests(exact_sums(normed, model.matrix(Matrix.GATE_UP, layer)), Matrix.GATE_UP.shift)
        gate, up = np.split(values, 2, -1)
        put("gate_rest", layer, rest[:, : d.intermediate])
        put("up_rest", layer, rest[:, d.intermediate :])
        whole = gate + (1 << (bits.SIGMOID_SHIFT - 1))
        index = put("gate_index", layer, known.gate(layer, (whole >> bits.SIGMOID_SHIFT) + bits.SIGMOID_ZERO))
        put("gate_low", layer, whole & ((1 << bits.SIGMOID_SHIFT) - 1))
        up = put("up", layer, up)
        sigmoid = put("sigmoid", layer, twins.looked_up(SIGMOID, index))
        silu, rest = with_rests(sigmoid * gate, bits.SIGMOID)
        silu = put("silu", layer, silu)
        put("silu_rest", layer, rest)
        product, rest = with_rests(silu * up, bits.PRODUCT_SHIFT)
        bound = model.bounds.saturation[layer]
        cut = put("product", layer, np.clip(product, -bound, bound))
        put("product_rest", layer, rest)
        # the bound itself is listed as well, one more than what is cut off (``facts.EXCEPTIONS``)
        note("product", layer, np.maximum(product - bound + 1, 0) + np.minimum(product + bound, 0))
        x = step(x, "down", layer, 2 * layer + 2, exact_sums(cut, model.matrix(Matrix.DOWN, layer)))
        if (layer + 1) % 10 == 0:
            progress(f"  witness: {layer + 1} of {d.layers} layers")
    normed = norm(s.sites - 1, x)[s.prompt - 1 :]
    sums = exact_sums(normed, model.matrix(Matrix.HEAD, 0))
    chosen = np.array(tokens[s.prompt :], np.int64)
    choices = _drawn(s, sums, chosen, put, known) if s.temperature_milli else _greedy(s, sums, chosen, put, known)
    if change is None:
        _check_choice(model, s, with_rests(sums, Matrix.HEAD.shift)[0], chosen, draws)
    return Witness(own, known.end(choices, _exceptions(s, own, lists)))


def _check_choice(model: PortableModel, s: Sizes, logits: Int64, chosen: Int64, draws: tuple[int, ...]) -> None:
    """
    Raises:
        ProverError: a chosen token is not the lane's.
    """
    for at, row in enumerate(logits):
        expected = model.choose(row, s.temperature_milli, draws[at] if draws else 0)
        if expected != chosen[at]:
            raise ProverError(f"token {at}: found {chosen[at]} in the answer, expected {expected}; not proven")


def _greedy(s: Sizes, sums: Int64, chosen: Int64, put: Put, known: WitnessRows) -> dict[str, Int64]:
    shift = Matrix.HEAD.shift
    order = np.arange(s.answer)
    logit = known.logit(with_rests(sums[order, chosen], shift)[0])
    after = np.arange(s.d.vocab) >= chosen[:, None]
    room = put("room", 0, ((logit[:, None] + after) << shift) - 1 - (1 << (shift - 1)) - sums)
    return {"logit": logit, "room": room[order, chosen]}


def _drawn(s: Sizes, sums: Int64, chosen: Int64, put: Put, known: WitnessRows) -> dict[str, Int64]:
    logits, rest = with_rests(sums, Matrix.HEAD.shift)
    put("logit_rest", 0, rest)
    top = known.logit(logits.max(-1))
    below = put("below_top", 0, top[:, None] - logits)
    index, rest = np.divmod(below * bits.TEMPERATURE_FACTOR, s.temper)
    near = put("chance_index", 0, np.minimum(index, TEMPER_END))
    put("chance_far", 0, np.maximum(index - TEMPER_END, 0))
    put("temper_low", 0, rest & ((1 << s.limb_bits) - 1))
    high = put("temper_high", 0, rest >> s.limb_bits)
    put("temper_room", 0, (s.temper >> s.limb_bits) - 1 - high)
    chances = put("chance", 0, twins.looked_up(EXP2, near))
    order, sums = np.arange(s.answer), chances.cumsum(-1)
    own = chances[order, chosen]
    found = {"logit": top, "logit_at": logits.argmax(-1), "chances": sums[:, -1]}
    return found | {"before": sums[order, chosen] - own, "chance": own}


def _turns(model: PortableModel, count: int) -> tuple[Int64, Int64]:
    cosines, sines = rotary_tables(model.architecture, count)
    return np.array(cosines[:count], np.int64), np.array(sines[:count], np.int64)


def _attention(
    model: PortableModel,
    s: Sizes,
    layer: int,
    x: Int64,
    known: WitnessRows,
    put: Put,
    norm: Callable[[int, Int64], Int64],
    step: Callable[[Int64, str, int, int, Int64], Int64],
    turns: tuple[Int64, Int64],
) -> Int64:
    """Everything up to RESIDUAL_SUM: what the MLP gets."""
    d, count = s.d, s.positions
    normed = norm(2 * layer, x)
    qkv, rest = with_rests(exact_sums(normed, model.matrix(Matrix.QKV, layer)), Matrix.QKV.shift)
    qkv = put("qkv", layer, qkv)
    put("qkv_rest", layer, rest)
    heads = qkv.reshape(count, -1, d.tile)
    first, second = np.split(heads[:, : d.heads + d.kv_heads], 2, -1)
    cosine, sine = (side[:, None] for side in turns)
    sums = np.concatenate([first * cosine - second * sine, second * cosine + first * sine], -1).reshape(count, -1)
    turned, rest = with_rests(sums, bits.ROTARY)
    turned = put("turned", layer, turned)
    put("turned_rest", layer, rest)
    query, key = np.split(turned.reshape(count, -1, d.tile), [d.heads], 1)
    value = heads[:, d.heads + d.kv_heads :]
    share_of = d.heads // d.kv_heads
    mixed = np.empty((count, d.heads, d.tile), np.int64)
    seen = np.tri(count, dtype=bool)
    end = bits.EXP2_ENTRIES - 1
    for head in range(d.heads):
        row, group = layer * d.heads + head, head // share_of
        # below 2^52 by the model's bounds, so that float64 sums are exact
        scores = (query[:, head].astype(np.float64) @ key[:, group].T.astype(np.float64)).astype(np.int64)
        masked = np.where(seen, scores, -(2**62))
        top = known.top(row, masked)
        away = np.where(seen, top[:, None] - scores, 0)
        put("distance_low", row, away & ((1 << bits.SCORE_SHIFT) - 1))
        index = away >> bits.SCORE_SHIFT
        near = put("distance", row, np.where(seen, np.minimum(index, end), end))
        put("far", row, np.where(seen, np.maximum(index - end, 0), 0))
        exps = put("exp", row, twins.looked_up(EXP2, near))
        whole = exps * known.share(row, exps)[:, None]
        weight = put("weight", row, whole >> bits.EXP)
        put("weight_rest", row, whole & ((1 << bits.EXP) - 1))
        mixed[:, head] = weight @ value[:, group]
    sums, rest = with_rests(mixed.reshape(count, -1), bits.PROBABILITY)
    made = put("mixed", layer, sums)
    put("mixed_rest", layer, rest)
    return step(x, "out", layer, 2 * layer + 1, exact_sums(made, model.matrix(Matrix.OUT, layer)))


def _exceptions(s: Sizes, own: dict[str, Int64], lists: dict[str, list[tuple[Int64, Int64]]]) -> Exceptions:
    """What the cells of columns cannot hold, and what saturations cut off."""
    none = np.empty(0, np.int64)
    found: Exceptions = {}
    for name in (*EXCEPTIONS, *(("gate_above", "gate_beneath") if s.hidden else ())):
        if name in lists:
            parts = lists[name]
            places, values = (np.concatenate([none, *(part[side] for part in parts)]) for side in (0, 1))
            found[name] = places, values
            continue
        column = s.columns[name]
        if name == "gate_index":
            cut = np.clip(own[name], 0, bits.SIGMOID_ENTRIES - 1)
        else:
            low = -column.offset
            cut = np.clip(own[name], low, low + (1 << sum(column.widths)) - 1)
        excess = (own[name] - cut).ravel()
        at = np.flatnonzero(excess)
        found[name] = at, excess[at]
    return found
