"""Products with a packed matrix as loops that numba compiles: for few tokens and for many.

Values that meet the matrix are cut into limbs, signed and lowest first, so that sums of their
products with int16 weights fit int32 for a while; then they go on in int64. How long that is
follows from what the values are: no sum is trusted that is not bounded.
"""

# Types of arguments stand in the descriptions.
# mypy: allow-untyped-defs, allow-untyped-calls
from __future__ import annotations

import numpy as np

from otr_node.integers import pairs
from otr_node.integers.compiled import compiled
from otr_node.integers.twins import UNIT

_UNIT, _PLANES, _DOT_LANES, _DOT_COLUMNS = UNIT, pairs.PLANES, pairs.DOT_LANES, 2 * pairs.DOT_LANES
_WIDE_ROWS, _WIDE_LANES = pairs.WIDE_ROWS, pairs.WIDE_LANES
_NARROW_ROWS, _NARROW_LANES = pairs.NARROW_ROWS, pairs.NARROW_LANES
_WEIGHT = 2**15  # no weight of the dense part is larger in magnitude
_ROOM = 2**31 - 1
_LANE_ROOM = _ROOM // _WEIGHT  # magnitudes that one lane may meet, whatever the weights are
_RESTS = 64  # rows whose sparse rest is summed in one loop
_STRETCH = 256  # columns laid out together, whole units
_PANEL = 48  # rows summed together: their sums and weights stay in a near cache


@compiled
def magnitude_bits(x):
    """Bits of the largest magnitude of int32 or int64 (columns,)."""
    most = np.int64(0)
    for k in range(len(x)):
        most = max(most, abs(np.int64(x[k])))
    count = 0
    while most >> count:
        count += 1
    return count


@compiled
def dots(a, b, c, d, x):
    """Sums of products of ``x`` with four int16 rows, of as many values."""
    first, second, third, fourth = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    for k in range(len(x)):
        value = np.int64(x[k])
        first += np.int64(a[k]) * value
        second += np.int64(b[k]) * value
        third += np.int64(c[k]) * value
        fourth += np.int64(d[k]) * value
    return first, second, third, fourth


@compiled
def rest_sums(x, starts, columns, extra):
    """Products of int32 or int64 (tokens, columns) with the sparse rest, int64 (tokens, rows): in the order in which
    the rest lies, so that it comes as one stream."""
    tokens, rows, most = x.shape[0], len(starts) - 1, 0
    sums = np.empty((tokens, rows), np.int64)
    for first in range(0, rows, _RESTS):
        most = max(most, starts[min(first + _RESTS, rows)] - starts[first])
    # Sums from the first value of some rows on, of which a row's is a difference: a loop that ends with every row
    # would be left in another round each time, which costs more than what it sums.
    running = np.zeros(most + 1, np.int64)
    for token in range(tokens):
        own, made = x[token], sums[token]
        for first in range(0, rows, _RESTS):
            # numbers without a sign are not looked at for counting from the end
            last, begin = min(first + _RESTS, rows), np.uint64(starts[first])
            total = np.int64(0)
            for j in range(np.uint64(starts[last]) - begin):
                total += np.int64(extra[begin + j]) * np.int64(own[np.uint32(columns[begin + j])])
                running[j + np.uint64(1)] = total
            for row in range(first, last):
                made[row] = running[np.uint64(starts[row + 1]) - begin] - running[np.uint64(starts[row]) - begin]
    return sums


@compiled
def cut_dots(planes, limbs, ends):
    """Where sums of one token's limbs with any row must leave int32: a lane has met a sum of magnitudes by then
    that could fill it.

    Args:
        planes: int16 (limbs, columns). limbs: of them used. ends: int64 (vectors of columns,), written: the vectors
            after which a stretch ends.

    Returns:
        how many stretches there are.
    """
    held, more = np.zeros((4, _DOT_LANES), np.int64), np.zeros((4, _DOT_LANES), np.int64)
    count = 0
    for vector in range(len(ends)):
        at, most = vector * _DOT_COLUMNS, np.int64(0)
        for limb in range(limbs):
            for lane in range(_DOT_LANES):
                more[limb, lane] = abs(np.int64(planes[limb, at + 2 * lane]))
                more[limb, lane] += abs(np.int64(planes[limb, at + 2 * lane + 1]))
                most = max(most, held[limb, lane] + more[limb, lane])
        if most > _LANE_ROOM:
            ends[count] = vector
            count += 1
            held[:] = 0
        held += more
    if len(ends):
        ends[count] = len(ends)
        count += 1
    return count


@compiled
def product(x, low, starts, columns, extra, shift, out):
    """x · matrixᵀ, rounded: int32 or int64 (tokens, columns) and a packed matrix to int64 (tokens,
    rows). Made for a few tokens."""
    tokens, width = x.shape
    vectors = width // _DOT_COLUMNS
    planes, ends = np.zeros((tokens, 4, width), np.int16), np.empty((tokens, vectors), np.int64)
    limbs, cuts, counts = np.zeros(tokens, np.int64), np.zeros(tokens, np.int64), np.zeros(tokens, np.int64)
    for token in range(tokens):
        size = magnitude_bits(x[token])
        # One limb, two, or four of eight bits; larger values than those hold are met as they are.
        limbs[token] = 1 if size <= 15 else 2 if size <= 26 else 4 if size <= 30 else 0
        cut = (size + 2) // 2 if limbs[token] == 2 else 8
        cuts[token] = cut
        half = np.int64(1) << (cut - 1)
        for k in range(width if limbs[token] else 0):
            value = np.int64(x[token, k])
            for limb in range(limbs[token] - 1):
                digit = ((value + half) & (2 * half - 1)) - half
                planes[token, limb, k] = digit
                value = (value - digit) >> cut
            planes[token, limbs[token] - 1, k] = value
        if limbs[token]:
            counts[token] = cut_dots(planes[token], limbs[token], ends[token])
    # Four rows far from each other at a time: memory delivers several streams faster than one.
    rows, some = low.shape[0], (low.shape[0] + 3) // 4
    rests = rest_sums(x, starts, columns, extra)
    rounding, last = np.int64(1) << np.int64(shift - 1), rows - 1
    for row in range(some):
        places = (row, min(row + some, last), min(row + 2 * some, last), min(row + 3 * some, last))
        a, b, c, d = places
        for token in range(tokens):
            first, second, third, fourth = rests[token, a], rests[token, b], rests[token, c], rests[token, d]
            done = np.int64(0)
            for number in range(counts[token]):
                end = ends[token, number]
                if limbs[token] == 1:
                    sums = pairs.one_limb_dot(planes, token, low, places, done, end, cuts[token])
                elif limbs[token] == 2:
                    sums = pairs.two_limbs_dot(planes, token, low, places, done, end, cuts[token])
                else:
                    sums = pairs.four_limbs_dot(planes, token, low, places, done, end, cuts[token])
                first, second, third, fourth = first + sums[0], second + sums[1], third + sums[2], fourth + sums[3]
                done = end
            met = done * _DOT_COLUMNS
            if met < width:
                left = dots(low[a, met:], low[b, met:], low[c, met:], low[d, met:], x[token, met:])
                first, second, third, fourth = first + left[0], second + left[1], third + left[2], fourth + left[3]
            out[token, a] = (first + rounding) >> shift
            out[token, b] = (second + rounding) >> shift
            out[token, c] = (third + rounding) >> shift
            out[token, d] = (fourth + rounding) >> shift


@compiled
def pack_tile(x, tokens, limbs, bits, lanes, packed, squares):
    """Cut some tokens into limbs and lay them out as a tile: for each pair of columns, for each
    limb, the pairs of all tokens.

    Args:
        x: int32 (…, columns). tokens: numbers of the tokens; missing ones are zeros.
        bits: of a limb. packed: int32, flat, written: pairs of int16. squares: int64 (limbs, units),
            written: the largest sum of squares of a token's limbs.
    """
    width, slots, cut, one = x.shape[1], _PLANES * lanes // limbs, np.int32(bits), np.int32(1)
    # Whole units that stay in a near cache, in rows that do not start at the same place of its pages.
    left, digits = np.empty((slots, _STRETCH), np.int32), np.zeros((slots, _STRETCH + 32), np.int16)
    together = digits.view(np.int32)
    for start in range(0, width, _STRETCH):
        some, first = min(_STRETCH, width - start), start // _UNIT
        units, whole = -(-some // _UNIT), some // 16 * 8  # pairs that are turned by eight
        for slot in range(len(tokens)):
            own = x[tokens[slot], start : start + some]
            for k in range(some):
                left[slot, k] = own[k]
            for k in range(some, units * _UNIT):
                digits[slot, k] = 0
        for limb in range(limbs):
            for unit in range(units):
                squares[limb, first + unit] = 0
            for slot in range(len(tokens)):
                if limb < limbs - 1:
                    for k in range(some):
                        value = left[slot, k]
                        # rounded to nearest, without a sum that could leave int32
                        above = (value >> cut) + ((value >> (cut - one)) & one)
                        left[slot, k] = above
                        digits[slot, k] = np.int16(value - (above << cut))
                else:
                    for k in range(some):
                        digits[slot, k] = np.int16(left[slot, k])
                for unit in range(units):
                    total, part = np.int64(0), digits[slot, unit * _UNIT : (unit + 1) * _UNIT]
                    for k in range(_UNIT):
                        digit = np.int32(part[k])
                        total += np.int32(digit * digit)
                    squares[limb, first + unit] = max(squares[limb, first + unit], total)
            for slot in range(0, slots, 8):
                at = start // 2 * _PLANES * lanes + limb * slots + slot
                for pair in range(0, whole, 8):
                    to = np.int64(at + pair * _PLANES * lanes)
                    pairs.turn_pairs(together, slot, pair, packed, to, np.int64(_PLANES * lanes))
                for pair in range(whole, some // 2):
                    for number in range(8):
                        packed[at + pair * _PLANES * lanes + number] = together[slot + number, pair]


@compiled
def cut_blocks(squares, units, limbs, ends):
    """Where sums must leave int32: ``ends`` bool (units,), written; whether no single unit of
    columns is too much.

    A sum over a unit, and any part of it, is at most the product of two lengths (Cauchy–Schwarz).
    """
    held = np.zeros(limbs)
    for unit in range(len(units)):
        ends[unit] = False
        over = False
        for limb in range(limbs):
            bound = np.sqrt(np.float64(squares[limb, unit])) * units[unit] * (1 + 1e-9)
            if bound >= _ROOM:
                return False
            held[limb] += bound
            over = over or held[limb] >= _ROOM
        if over:
            ends[unit - 1] = True
            for limb in range(limbs):
                held[limb] = np.sqrt(np.float64(squares[limb, unit])) * units[unit] * (1 + 1e-9)
    ends[len(units) - 1] = True
    return True


@compiled
def fit_whole(x, tokens, units):
    """Whether some tokens fit int16 as they are, and their sums over any unit of columns fit int32."""
    for token in tokens:
        for unit in range(len(units)):
            total, most = np.int64(0), np.int64(0)
            for k in range(unit * _UNIT, min((unit + 1) * _UNIT, x.shape[1])):
                value = np.int64(x[token, k])
                total += value * value
                most = max(most, abs(value))
            if most >= _WEIGHT or np.sqrt(np.float64(total)) * units[unit] * (1 + 1e-9) >= _ROOM:
                return False
    return True


@compiled
def many_product(x, low, starts, columns, extra, shift, units, wide, packed, turned, totals, out):
    """``product`` for many tokens, of int32, with an even number of columns.

    Args:
        units: float64, at least the length of any row within each ``UNIT`` of columns. wide: whether
            tiles are for wide registers; no bit depends on it. packed, turned, totals: memory to work
            in, flat int16, int32 and int64, as ``room_for`` says.
    """
    tokens, width = x.shape
    rows, lanes = low.shape[0], _WIDE_LANES if wide else _NARROW_LANES
    group, size = _WIDE_ROWS if wide else _NARROW_ROWS, width * _PLANES * lanes
    sizes = np.empty(tokens, np.int64)
    for token in range(tokens):
        sizes[token] = -magnitude_bits(x[token])
    # Tokens of like size share a tile, which has as many limbs as its largest token needs.
    order = np.argsort(sizes, kind="mergesort")
    room = -(-4 * tokens // (_PLANES * lanes)) + 1
    in_pairs = packed.view(np.int32)
    squares = np.empty((4, len(units)), np.int64)
    ends = np.empty((room, len(units)), np.bool_)
    limbs, cuts, firsts = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room + 1, np.int64)
    slots, used, tiles, placed, slot = np.empty(tokens, np.int64), np.empty(room, np.int64), 0, 0, 0
    while placed < tokens:
        largest = -sizes[order[placed]]
        firsts[tiles] = slot
        for count in (1, 2, 4):
            cut = largest // 2 if count == 2 else 8
            if (count == 1 and not fit_whole(x, order[placed : placed + _PLANES * lanes], units)) or (
                count == 2 and largest - cut > 14
            ):
                continue
            chosen = order[placed : min(placed + _PLANES * lanes // count, tokens)]
            own = in_pairs[tiles * size // 2 : (tiles + 1) * size // 2]
            pack_tile(x, chosen, count, max(cut, 2), lanes, own, squares)
            limbs[tiles], cuts[tiles] = count, max(cut, 2)
            if cut_blocks(squares, units, count, ends[tiles]):
                break
        for number in range(len(chosen)):
            slots[placed + number] = slot + number
        used[tiles] = len(chosen)
        placed += len(chosen)
        slot += _PLANES * lanes // count
        tiles += 1
    firsts[tiles] = slot
    slot = -(-slot // pairs.REST) * pairs.REST
    # whose slot it is; the first token's where it is nobody's
    owner = np.full(slot + 8, order[0])
    for place in range(tokens):
        owner[slots[place]] = order[place]
    # Where many columns meet a rest, all are laid out by columns once.
    dense = starts[rows] - starts[0] > width // 4
    by_column = turned[: width * slot if dense else 0].reshape((width if dense else 0, slot))
    for place in range(0, slot if dense else 0, 8):
        for k in range(width):
            for number in range(8):
                by_column[k, place + number] = x[owner[place + number], k]
    # Rows of sums do not start at the same place of a cache's pages.
    stride = slot + 8
    totals = totals[: _PANEL * stride].reshape((_PANEL, stride))
    rounding = np.int64(1) << np.int64(shift - 1)
    for first in range(0, rows, _PANEL):
        panel = min(_PANEL, rows - first)
        totals[:] = 0
        for tile in range(tiles):
            count, cut, to = limbs[tile], cuts[tile], firsts[tile]
            start = 0
            for unit in range(len(units)):
                if not ends[tile, unit]:
                    continue
                end = min((unit + 1) * _UNIT, width)
                at = tile * size + start * _PLANES * lanes
                for row in range(0, panel, group):
                    of = (packed, at, low, first + row, start, (end - start) // 2)
                    if wide:
                        pairs.wide_tile(*of, count, cut, totals, row, to)
                    else:
                        pairs.narrow_tile(*of, count, cut, totals, row, to)
                start = end
        for row in range(panel):
            begin, end = starts[first + row], starts[first + row + 1]
            if begin == end:
                continue
            if dense:
                for to in range(0, slot, pairs.REST):
                    pairs.add_rest(extra, columns, np.int64(begin), np.int64(end), by_column, totals, row, to)
                continue
            for j in range(begin, end):
                value, column = np.int64(extra[j]), columns[j]
                for to in range(slot):
                    totals[row, to] += value * np.int64(x[owner[to], column])
        for tile in range(tiles):
            to, end = firsts[tile], firsts[tile + 1]
            end = min(end, to + used[tile])
            for place in range(to, end, 8):
                for row in range(0, panel, 8):
                    if row + 8 <= panel and place + 8 <= end:
                        pairs.turn_block(totals, row, place, owner, np.int64(shift), out, first + row)
                        continue
                    for number in range(place, min(place + 8, end)):
                        for one in range(row, min(row + 8, panel)):
                            out[owner[number], first + one] = (totals[one, number] + rounding) >> shift


def room_for(tokens: int, width: int) -> tuple[int, int, int]:
    """Elements of the memory that ``many_product`` works in: packed, turned, totals."""
    slots = 4 * tokens + 2 * _PLANES * _WIDE_LANES
    return width * slots, width * slots, _PANEL * (slots + 8)


@compiled
def unit_lengths(low, out):
    """At least the length of any row of int16 (rows, columns) within each ``_UNIT`` of columns:
    ``out`` float64 (units,)."""
    rows, width = low.shape
    out[:] = 0
    for row in range(rows):
        for unit in range(len(out)):
            total = np.int64(0)
            for k in range(unit * _UNIT, min((unit + 1) * _UNIT, width)):
                total += np.int64(low[row, k]) * np.int64(low[row, k])
            out[unit] = max(out[unit], np.float64(total))
    for unit in range(len(out)):
        out[unit] = np.sqrt(out[unit]) * (1 + 1e-9)
