# pragma version 0.4.3
# pragma optimize gas
"""
@title Judge of one block of a tensor core: 16 pairs of bf16 words and a fp32 accumulator
@notice The definition of otr_core/lane/blocks.py once more, for the instruction "bf16"; see there for what it means and
        what of it was seen on a chip. Every input has a result, infinities, NaNs and subnormal numbers too: nothing
        reverts, so that nobody is acquitted because a block is refused. Both are compared on recorded and drawn blocks.
"""

# Exponents are held as the sum of the two that factors store: 254 above the product's. A word's own is 127 above.
FLOOR: constant(uint256) = 121  # lane.blocks.FLOOR
NAN: constant(uint256) = 2 ** 31 - 1
INFINITY: constant(uint256) = 255 << 23
SIGN: constant(uint256) = 2 ** 31


@pure
@external
def result(a: uint256, b: uint256, c: uint256) -> uint256:
    """
    @param a Sixteen words, the first in the highest bits
    @param b As many
    @param c The accumulator, in the lowest 32 bits; those above are not read
    @return The fp32 word
    """
    return self._result(a, b, c)


@pure
@external
def right(a: uint256, b: uint256, c: uint256, claimed: uint256) -> bool:
    """
    @return Whether the block's result is ``claimed``, as number of 256 bits
    """
    return self._result(a, b, c) == claimed


@pure
@internal
def _result(a: uint256, b: uint256, c: uint256) -> uint256:
    # The terms: 2^11 · product of significands, below their sum; which one is which does not matter.
    products: uint256[16] = empty(uint256[16])
    exponents: uint256[16] = empty(uint256[16])
    field: uint256 = (c >> 23) & 255
    added: uint256 = c & (2 ** 23 - 1)
    if field == 0:
        field = 1
    else:
        added |= 2 ** 23
    top: uint256 = FLOOR
    if added != 0:
        top = max(top, field + 127)
    special: bool = field == 255
    left: uint256 = a
    right: uint256 = b
    for k: uint256 in range(16):
        x: uint256 = (left >> 7) & 255
        y: uint256 = (right >> 7) & 255
        product: uint256 = left & 127
        if x == 0:
            x = 1
        else:
            product |= 128
        other: uint256 = right & 127
        if y == 0:
            y = 1
        else:
            other |= 128
        if x == 255 or y == 255:
            special = True
        product = unsafe_mul(product, other)
        if product != 0:
            exponent: uint256 = unsafe_add(x, y)
            if exponent > top:
                top = exponent
            exponents[k] = exponent
            products[k] = (product << 11) | (((left ^ right) & 2 ** 15) << 12)
        left >>= 16
        right >>= 16
    if special:
        return self._special(a, b, c)

    total: int256 = convert((added << 2) >> unsafe_sub(top, field + 127), int256) if added != 0 else 0
    if c & SIGN != 0:
        total = unsafe_sub(0, total)
    for k: uint256 in range(16):
        product: uint256 = products[k]
        if product != 0:
            cut: int256 = convert((product & (2 ** 27 - 1)) >> unsafe_sub(top, exponents[k]), int256)
            if product >= 2 ** 27:
                total = unsafe_sub(total, cut)
            else:
                total = unsafe_add(total, cut)
    if total == 0:
        return 0

    # The sum, below 2^32, is rounded toward zero to 24 bits, fewer for subnormal numbers.
    sign: uint256 = 0
    if total < 0:
        sign = SIGN
        total = unsafe_sub(0, total)
    magnitude: uint256 = convert(total, uint256)
    length: uint256 = 1
    rest: uint256 = magnitude
    if rest >= 2 ** 16:
        length = 17
        rest >>= 16
    if rest >= 2 ** 8:
        length = unsafe_add(length, 8)
        rest >>= 8
    if rest >= 2 ** 4:
        length = unsafe_add(length, 4)
        rest >>= 4
    if rest >= 2 ** 2:
        length = unsafe_add(length, 2)
        rest >>= 2
    if rest >= 2:
        length = unsafe_add(length, 1)
    above: uint256 = unsafe_add(length, top)  # 153 above the exponent that the result stores
    word: uint256 = 0
    if above > 153:
        word = magnitude >> unsafe_sub(length, 24) if length > 24 else magnitude << unsafe_sub(24, length)
        word = unsafe_add(word, unsafe_sub(above, 154) << 23)
    else:
        word = magnitude >> unsafe_sub(130, top) if top < 130 else magnitude << unsafe_sub(top, 130)
    # 0 has no sign, as an H100 gives it, though something below zero was rounded to it.
    return min(word, INFINITY) | sign if word != 0 else 0


@pure
@internal
def _special(a: uint256, b: uint256, c: uint256) -> uint256:
    """The result where a factor or the accumulator is infinite or a NaN."""
    accumulator: uint256 = c & NAN
    up: bool = accumulator == INFINITY and c & SIGN == 0
    down: bool = accumulator == INFINITY and c & SIGN != 0
    if accumulator > INFINITY:
        return NAN
    left: uint256 = a
    right: uint256 = b
    for k: uint256 in range(16):
        x: uint256 = left & (2 ** 15 - 1)
        y: uint256 = right & (2 ** 15 - 1)
        if max(x, y) > 255 << 7:
            return NAN
        if max(x, y) == 255 << 7:
            if min(x, y) == 0:
                return NAN
            if (left ^ right) & 2 ** 15 != 0:
                down = True
            else:
                up = True
        left >>= 16
        right >>= 16
    if up and down:
        return NAN
    return INFINITY | (SIGN if down else 0)
