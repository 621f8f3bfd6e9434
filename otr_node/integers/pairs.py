"""Sums of products of int16 pairs: the step that processors offer in their widest vectors.

LLVM finds such a step in whatever way the processor has it (``vpdpwssd``, ``vpmaddwd`` and a sum,
or plain products): what is written here are vectors of a fixed size, without a word on instruction
sets, so that any machine compiles them and none gets another sum. Sums are int32; that they fit is
the caller's proof.
"""

# Types of arguments stand in the descriptions.
# mypy: allow-untyped-defs, allow-untyped-calls
from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

PLANES = 4
"""Vectors of tokens, or of their limbs, that a tile holds."""
WIDE_ROWS, WIDE_LANES = 6, 16
NARROW_ROWS, NARROW_LANES = 2, 8
"""Rows and lanes of a tile: what thirty-two registers of 64 bytes, or sixteen of 32, hold."""
DOT_ROWS, DOT_LANES = 4, 16
AHEAD_BYTES = 1536
"""How far before their use weights are asked for, past a row's end too; of what was tried, 1024 to 2304 serve alike."""
REST = 32
"""Slots whose products with the rest are summed at once."""

_I16, _I32, _I64 = (ir.IntType(size) for size in (16, 32, 64))


def _pairs_product(builder, left, right, lanes):
    """Products of two vectors of 2 · ``lanes`` int16, neighbours added: ``lanes`` int32."""
    double = ir.VectorType(_I32, 2 * lanes)
    product = builder.mul(builder.sext(left, double), builder.sext(right, double))
    sides = (
        builder.shuffle_vector(
            product,
            ir.Constant(double, ir.Undefined),
            ir.Constant(ir.VectorType(_I32, lanes), [2 * lane + side for lane in range(lanes)]),
        )
        for side in (0, 1)
    )
    return builder.add(*sides)


def _loop(builder, count, zeros, step):
    """``count`` rounds of ``step(number, values)``, which gives the next values; the last ones."""
    entry, body = builder.block, builder.append_basic_block("round")
    done = builder.append_basic_block("done")
    builder.branch(body)
    builder.position_at_end(body)
    number = builder.phi(_I64)
    values = [builder.phi(zero.type) for zero in zeros]
    number.add_incoming(ir.Constant(_I64, 0), entry)
    for value, zero in zip(values, zeros, strict=True):
        value.add_incoming(zero, entry)
    following = step(number, values)
    counted = builder.add(number, ir.Constant(_I64, 1))
    number.add_incoming(counted, builder.block)
    for value, new in zip(values, following, strict=True):
        value.add_incoming(new, builder.block)
    builder.cbranch(builder.icmp_signed("<", counted, count), body, done)
    builder.position_at_end(done)
    return following


def _load(builder, base, at, kind):
    """The vector at element ``at`` of a pointer."""
    value = builder.load(builder.bitcast(builder.gep(base, [at]), kind.as_pointer()))
    value.align = 2
    return value


def _zeros(kind, count):
    return [ir.Constant(kind, [0] * kind.count)] * count


def _everywhere(builder, value, kind):
    """A vector that holds ``value`` in every lane."""
    nothing = ir.Constant(kind, ir.Undefined)
    one = builder.insert_element(nothing, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(_I32, kind.count), [0] * kind.count))


def _data(context, builder, kind, value):
    return cgutils.create_struct_proxy(kind)(context, builder, value).data


def _add_sums(context, builder, kind, arguments, sums, lanes):
    """Add int32 vectors (rows, planes) where ``tile`` says, those of higher limbs shifted up."""
    limbs, cut, totals, to, slot = arguments
    held = cgutils.create_struct_proxy(kind)(context, builder, totals)
    width = cgutils.unpack_tuple(builder, held.shape, 2)[1]
    wide = ir.VectorType(_I64, lanes)
    per_limb = builder.sdiv(ir.Constant(_I64, PLANES), limbs)
    ups, places = [], []
    for plane in range(PLANES):
        number = ir.Constant(_I64, plane)
        up = builder.mul(builder.sdiv(number, per_limb), cut)
        ups.append(_everywhere(builder, up, wide))
        own = builder.mul(builder.srem(number, per_limb), ir.Constant(_I64, lanes))
        places.append(builder.add(slot, own))
    for number, total in enumerate(sums):
        row, plane = divmod(number, PLANES)
        first = builder.mul(builder.add(to, ir.Constant(_I64, row)), width)
        pointer = builder.gep(held.data, [builder.add(first, places[plane])])
        pointer = builder.bitcast(pointer, wide.as_pointer())
        have = builder.load(pointer)
        have.align = 8
        more = builder.shl(builder.sext(total, wide), ups[plane])
        builder.store(builder.add(have, more), pointer).align = 8


def _tile_sums(rows: int, lanes: int) -> Any:
    @intrinsic
    def tile(_typing, packed, at, low, row, column, pairs, limbs, cut, totals, to, slot):
        """Add the sums of ``pairs`` pairs of columns, for some rows and the tokens of a tile.

        Args:
            packed: int16, flat; from ``at`` on, for each pair of columns, ``PLANES`` vectors of
                pairs. low: int16 (rows, columns), contiguous; from row ``row`` and column ``column``
                on; beyond its end the last row is taken again. limbs, cut: of each token, and
                their bits. totals: int64 (rows, slots), contiguous; added to from row ``to`` and
                slot ``slot`` on.
        """
        signature = types.void(packed, at, low, row, column, pairs, limbs, cut, totals, to, slot)

        def generate(context, builder, signature, arguments):
            kinds = signature.args
            x = builder.gep(_data(context, builder, kinds[0], arguments[0]), [arguments[1]])
            matrix = cgutils.create_struct_proxy(kinds[2])(context, builder, arguments[2])
            height, width = cgutils.unpack_tuple(builder, matrix.shape, 2)
            last = builder.sub(height, ir.Constant(_I64, 1))
            starts = []
            for number in range(rows):
                own = builder.add(arguments[3], ir.Constant(_I64, number))
                own = builder.select(builder.icmp_signed("<", own, last), own, last)
                starts.append(builder.gep(matrix.data, [builder.add(builder.mul(own, width), arguments[4])]))
            vector, half = ir.VectorType(_I32, lanes), ir.VectorType(_I16, 2 * lanes)

            def step(pair, sums):
                first = builder.mul(pair, ir.Constant(_I64, PLANES * 2 * lanes))
                planes = [
                    _load(builder, x, builder.add(first, ir.Constant(_I64, plane * 2 * lanes)), half)
                    for plane in range(PLANES)
                ]
                column = builder.mul(pair, ir.Constant(_I64, 2))
                made = []
                for number, start in enumerate(starts):
                    same = builder.bitcast(_everywhere(builder, _load(builder, start, column, _I32), vector), half)
                    for plane, x_pairs in enumerate(planes):
                        product = _pairs_product(builder, x_pairs, same, lanes)
                        made.append(builder.add(sums[number * PLANES + plane], product))
                return made

            sums = _loop(builder, arguments[5], _zeros(vector, rows * PLANES), step)
            _add_sums(context, builder, kinds[8], arguments[6:], sums, lanes)
            return context.get_dummy_value()

        return signature, generate

    return tile


def _asking_ahead(builder):
    """Gives a call that lets memory bring what a pointer points to, while other sums are made: it reads nothing, so
    no result depends on it, and any address will do."""
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
    fetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
    how = [ir.Constant(_I32, value) for value in (0, 3, 1)]  # to be read, into the nearest cache, as data
    return lambda place: builder.call(fetch, [builder.bitcast(place, byte), *how])


def _dot_sums(limbs: int) -> Any:
    @intrinsic
    def dot(_typing, planes, token, low, rows, first, end, cut):
        """Sums of products of ``DOT_ROWS`` rows with one token, over some vectors of 2 · ``DOT_LANES`` columns.

        Args:
            planes: int16 (tokens, 4, columns), contiguous: limbs of ``cut`` bits, lowest first. low: int16 (rows,
                columns), contiguous. rows: numbers of the rows. first, end: of the vectors; one at least.

        Returns:
            int64 of each row.
        """
        signature = types.UniTuple(types.int64, DOT_ROWS)(planes, token, low, rows, first, end, cut)

        def generate(context, builder, signature, arguments):
            kinds = signature.args
            held = cgutils.create_struct_proxy(kinds[0])(context, builder, arguments[0])
            matrix = cgutils.create_struct_proxy(kinds[2])(context, builder, arguments[2])
            columns = ir.Constant(_I64, 2 * DOT_LANES)
            begin = builder.mul(arguments[4], columns)
            above = builder.mul(arguments[1], ir.Constant(_I64, 4))
            sides = []
            for side, numbers in (
                (held, [builder.add(above, ir.Constant(_I64, limb)) for limb in range(limbs)]),
                (matrix, cgutils.unpack_tuple(builder, arguments[3], DOT_ROWS)),
            ):
                width = cgutils.unpack_tuple(builder, matrix.shape, 2)[1]
                firsts = [builder.add(builder.mul(number, width), begin) for number in numbers]
                sides.append([builder.gep(side.data, [place]) for place in firsts])
            vector, half = ir.VectorType(_I32, DOT_LANES), ir.VectorType(_I16, 2 * DOT_LANES)
            ask = _asking_ahead(builder)

            def step(number, sums):
                at = builder.mul(number, columns)
                x, weights = ([_load(builder, start, at, half) for start in starts] for starts in sides)
                for start in sides[1]:
                    ask(builder.gep(start, [builder.add(at, ir.Constant(_I64, AHEAD_BYTES // 2))]))
                products = [_pairs_product(builder, own, limb, DOT_LANES) for own in weights for limb in x]
                return [builder.add(total, product) for total, product in zip(sums, products, strict=True)]

            count = builder.sub(arguments[5], arguments[4])
            sums = _loop(builder, count, _zeros(vector, DOT_ROWS * limbs), step)
            wide = ir.VectorType(_I64, DOT_LANES)
            reduce = builder.module.declare_intrinsic(
                f"llvm.vector.reduce.add.v{DOT_LANES}i64", (), ir.FunctionType(_I64, [wide])
            )
            ups = [
                _everywhere(builder, builder.mul(arguments[6], ir.Constant(_I64, limb)), wide) for limb in range(limbs)
            ]
            made = []
            for row in range(DOT_ROWS):
                total = ir.Constant(wide, [0] * DOT_LANES)
                for up, own in zip(ups, sums[row * limbs : (row + 1) * limbs], strict=True):
                    total = builder.add(total, builder.shl(builder.sext(own, wide), up))
                made.append(builder.call(reduce, [total]))
            return context.make_tuple(builder, signature.return_type, made)

        return signature, generate

    return dot


def _add_rest(_typing, extra, columns, first, end, turned, totals, row, slot):
    """Add a row's products with its sparse rest, for ``REST`` slots.

    Args:
        extra, columns: int32, the rest, of which numbers ``first`` up to ``end`` are the row's; one
            at least. turned: int32 (columns, slots). totals: int64 (rows, slots), added to. Both
            contiguous, and of as many slots.
    """
    signature = types.void(extra, columns, first, end, turned, totals, row, slot)

    def generate(context, builder, signature, arguments):
        kinds = signature.args
        values, places = (_data(context, builder, kinds[at], arguments[at]) for at in (0, 1))
        x, held = (cgutils.create_struct_proxy(kinds[at])(context, builder, arguments[at]) for at in (4, 5))
        begin, end, row, slot = (arguments[at] for at in (2, 3, 6, 7))
        width, has = (cgutils.unpack_tuple(builder, side.shape, 2)[1] for side in (x, held))
        wide, half = ir.VectorType(_I64, 8), ir.VectorType(_I32, 8)
        to = builder.gep(held.data, [builder.add(builder.mul(row, has), slot)])

        def step(number, sums):
            at = builder.add(begin, number)
            value, column = (builder.sext(builder.load(builder.gep(side, [at])), _I64) for side in (values, places))
            same = _everywhere(builder, value, wide)
            first = builder.add(builder.mul(column, width), slot)
            made = []
            for part, total in enumerate(sums):
                own = _load(builder, x.data, builder.add(first, ir.Constant(_I64, 8 * part)), half)
                made.append(builder.add(total, builder.mul(builder.sext(own, wide), same)))
            return made

        parts = [ir.Constant(_I64, 8 * part) for part in range(REST // 8)]
        sums = _loop(builder, builder.sub(end, begin), _zeros(wide, len(parts)), step)
        for part, total in zip(parts, sums, strict=True):
            pointer = builder.bitcast(builder.gep(to, [part]), wide.as_pointer())
            have = builder.load(pointer)
            have.align = 8
            builder.store(builder.add(have, total), pointer).align = 8
        return context.get_dummy_value()

    return signature, generate


def _turned(builder, vectors):
    """Eight vectors of eight lanes, turned: of the first the first lane of each, and so on."""
    for apart in (1, 2, 4):  # lanes change places with vectors, bit after bit of their numbers
        turned = list(vectors)
        for number in range(8):
            if number & apart:
                continue
            one, other = vectors[number], vectors[number | apart]
            for to, mask in (
                (number, [lane if not lane & apart else 8 + lane - apart for lane in range(8)]),
                (number | apart, [lane + apart if not lane & apart else 8 + lane for lane in range(8)]),
            ):
                turned[to] = builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(_I32, 8), mask))
        vectors = turned
    return vectors


def _turn_pairs(_typing, pairs, slot, pair, packed, at, lanes):
    """Lay out a block of pairs as tiles have them: eight slots from ``slot`` on, eight pairs from
    ``pair`` on.

    Args:
        pairs: int32 (slots, pairs). packed: int32, flat; written from ``at`` on, the eight slots of
            a pair together, ``lanes`` after those of the pair before. Both contiguous.
    """
    signature = types.void(pairs, slot, pair, packed, at, lanes)

    def generate(context, builder, signature, arguments):
        held = cgutils.create_struct_proxy(signature.args[0])(context, builder, arguments[0])
        slot, pair, at, lanes = (arguments[number] for number in (1, 2, 4, 5))
        width = cgutils.unpack_tuple(builder, held.shape, 2)[1]
        made = _data(context, builder, signature.args[3], arguments[3])
        kind = ir.VectorType(_I32, 8)
        vectors = []
        for number in range(8):
            row = builder.mul(builder.add(slot, ir.Constant(_I64, number)), width)
            vectors.append(_load(builder, held.data, builder.add(row, pair), kind))
        for number, vector in enumerate(_turned(builder, vectors)):
            to = builder.add(at, builder.mul(ir.Constant(_I64, number), lanes))
            builder.store(vector, builder.bitcast(builder.gep(made, [to]), kind.as_pointer())).align = 4
        return context.get_dummy_value()

    return signature, generate


def _turn_block(_typing, totals, row, slot, tokens, shift, out, first):
    """Round a block of sums and write it by tokens: eight rows from ``row`` on, eight slots from
    ``slot`` on.

    Args:
        totals: int64 (rows, slots). tokens: int64, whose slots these are, from ``slot`` on. out:
            int64 (tokens, rows), written from row ``first`` on. Both contiguous.
    """
    signature = types.void(totals, row, slot, tokens, shift, out, first)

    def generate(context, builder, signature, arguments):
        kinds = signature.args
        held, made = (cgutils.create_struct_proxy(kinds[at])(context, builder, arguments[at]) for at in (0, 5))
        row, slot, shift, first = (arguments[at] for at in (1, 2, 4, 6))
        width, rows = (cgutils.unpack_tuple(builder, side.shape, 2)[1] for side in (held, made))
        numbers = _data(context, builder, kinds[3], arguments[3])
        wide = ir.VectorType(_I64, 8)
        down = _everywhere(builder, shift, wide)
        half = builder.shl(ir.Constant(_I64, 1), builder.sub(shift, ir.Constant(_I64, 1)))
        half = _everywhere(builder, half, wide)
        vectors = []
        for number in range(8):
            at = builder.add(builder.mul(builder.add(row, ir.Constant(_I64, number)), width), slot)
            vectors.append(builder.ashr(builder.add(_load(builder, held.data, at, wide), half), down))
        vectors = _turned(builder, vectors)
        for number, vector in enumerate(vectors):
            token = builder.load(builder.gep(numbers, [builder.add(slot, ir.Constant(_I64, number))]))
            at = builder.add(builder.mul(token, rows), first)
            pointer = builder.bitcast(builder.gep(made.data, [at]), wide.as_pointer())
            builder.store(vector, pointer).align = 8
        return context.get_dummy_value()

    return signature, generate


add_rest: Any = intrinsic(_add_rest)
turn_block: Any = intrinsic(_turn_block)
turn_pairs: Any = intrinsic(_turn_pairs)
wide_tile = _tile_sums(WIDE_ROWS, WIDE_LANES)
narrow_tile = _tile_sums(NARROW_ROWS, NARROW_LANES)
one_limb_dot, two_limbs_dot, four_limbs_dot = _dot_sums(1), _dot_sums(2), _dot_sums(4)
