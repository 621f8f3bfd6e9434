# pragma version 0.4.3
# pragma optimize codesize
"""
@title Judge of the steps of fp32 that stand between blocks: words in, a word out
@notice The definitions of otr_core/lane/blocks.py (``fp32_add`` and so on), tensor_steps.py and tensor_primitives.py once
        more; each external function is one step of a program. Every step of IEEE 754 is rounded to nearest even by itself.
        Every word has a result, infinities, NaNs and subnormal numbers too: nothing reverts. A word lies in the lowest 32
        bits; those above must be 0.
"""

NAN: constant(uint256) = 2 ** 31 - 1
INFINITY: constant(uint256) = 255 << 23
SIGN: constant(uint256) = 2 ** 31
# Of tensor_steps.exponential: 88, -87, log2(e), 1.5 · 2^23, both parts of ln 2, and 1/6!, 1/5!, 1/4!, 1/3!, 1/2, 1.
MOST: constant(uint256) = 1118830592
LEAST: constant(uint256) = 1118699520  # its magnitude
LOG2E: constant(uint256) = 1069066811
ROUND: constant(uint256) = 1262485504
LN2_HIGH: constant(uint256) = 1060208640
LN2_LOW: constant(uint256) = 3109978243
TERM6: constant(uint256) = 985008993
TERM5: constant(uint256) = 1007192201
TERM4: constant(uint256) = 1026206379
TERM3: constant(uint256) = 1042983595
TERM2: constant(uint256) = 1056964608
ONE: constant(uint256) = 1065353216
INT32: constant(uint256) = 2 ** 31 - 1


# --- steps

@pure
@external
def fold(words: uint256[32]) -> uint256:
    """32 running sums to one."""
    sums: uint256[32] = words
    half: uint256 = 16
    for _: uint256 in range(5):
        for i: uint256 in range(half, bound=16):
            sums[i] = self._add(sums[i], sums[i + half])
        half = half >> 1
    return sums[0]


@pure
@external
def added(total: uint256, words: DynArray[uint256, 8], squared: bool) -> uint256:
    """A running sum and the next values of it, or their squares."""
    found: uint256 = total
    for x: uint256 in words:
        found = self._add(found, self._multiply(x, x) if squared else x)
    return found


@pure
@external
def root(squares: uint256, count: uint256, least: uint256) -> uint256:
    """A norm's factor."""
    return self._divide(ONE, self._root(self._add(self._divide(squares, count), least)))


@pure
@external
def scaled(x: uint256, factor: uint256, weight: uint256) -> uint256:
    return self._narrow(self._multiply(self._multiply(x, factor), weight))


@pure
@external
def turned(first: uint256, second: uint256, cosine: uint256, sine: uint256, other: bool) -> uint256:
    """A value of a head's first half turned against the second, or, ``other``, of the second."""
    if other:
        return self._narrow(self._add(self._multiply(second, cosine), self._multiply(first, sine)))
    return self._narrow(self._add(self._multiply(first, cosine), self._multiply(second, sine) ^ SIGN))


@pure
@external
def power(score: uint256, top: uint256) -> uint256:
    """e^(score - top)."""
    return self._exponential(self._add(score, top ^ SIGN))


@pure
@external
def quotient(a: uint256, b: uint256) -> uint256:
    return self._narrow(self._divide(a, b))


@pure
@external
def silu(gate: uint256, up: uint256) -> uint256:
    below: uint256 = self._add(self._exponential(gate ^ SIGN), ONE)
    return self._narrow(self._multiply(self._divide(gate, below), up))


@pure
@external
def narrow(a: uint256) -> uint256:
    return self._narrow(a)


@pure
@external
def add(a: uint256, b: uint256) -> uint256:
    return self._add(a, b)


@pure
@external
def multiply(a: uint256, b: uint256) -> uint256:
    return self._multiply(a, b)


@pure
@external
def fixed(a: uint256) -> int256:
    """A logit with 16 fraction bits, to nearest even, saturated; a NaN as what is too large."""
    magnitude: uint256 = a & NAN
    if magnitude > INFINITY:
        return convert(INT32, int256)
    significand: uint256 = 0
    field: int256 = 0
    significand, field = self._parts(magnitude)
    drop: int256 = 134 - field
    found: uint256 = INT32
    if drop > 25:
        found = 0
    elif drop > 0:
        bits: uint256 = convert(drop, uint256)
        unit: uint256 = 1 << bits
        found = significand >> bits
        if 2 * (significand & (unit - 1)) + (found & 1) > unit:
            found += 1
    elif drop > -9:
        found = min(significand << convert(-drop, uint256), INT32)
    return convert(found, int256) if a < SIGN else -convert(found, int256)


@pure
@external
def whole(count: uint256) -> uint256:
    """The word of a whole number above 0."""
    return self._rounded(0, count, 0)


@pure
@external
def score_scale(width: uint256) -> uint256:
    """1 / √width."""
    return self._divide(ONE, self._root(self._rounded(0, width, 0)))


# --- inside


@pure
@internal
def _rounded(sign: uint256, magnitude: uint256, exponent: int256) -> uint256:
    """The word of magnitude · 2^exponent, the magnitude above 0 and below 2^128."""
    length: int256 = 1
    rest: uint256 = magnitude
    if rest >= 2 ** 64:
        length = 65
        rest >>= 64
    if rest >= 2 ** 32:
        length = unsafe_add(length, 32)
        rest >>= 32
    if rest >= 2 ** 16:
        length = unsafe_add(length, 16)
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
    leading: int256 = max(unsafe_add(unsafe_sub(length, 1), exponent), -126)
    drop: int256 = unsafe_sub(unsafe_sub(leading, 23), exponent)
    significand: uint256 = 0
    if drop <= 0:
        significand = magnitude << convert(unsafe_sub(0, drop), uint256)
    elif drop <= length:  # further down everything is less than half of the last place
        bits: uint256 = convert(drop, uint256)
        unit: uint256 = 1 << bits
        significand = magnitude >> bits
        rest = magnitude & unsafe_sub(unit, 1)
        if unsafe_add(rest << 1, significand & 1) > unit:
            significand = unsafe_add(significand, 1)
    return min(unsafe_add(significand, convert(unsafe_add(leading, 126), uint256) << 23), INFINITY) | sign


@pure
@internal
def _parts(magnitude: uint256) -> (uint256, int256):
    """Significand and stored exponent, that of subnormal numbers as 1."""
    field: uint256 = magnitude >> 23
    if field == 0:
        return magnitude, 1
    return (magnitude & (2 ** 23 - 1)) | 2 ** 23, convert(field, int256)


@pure
@internal
def _add(a: uint256, b: uint256) -> uint256:
    more: uint256 = a
    less: uint256 = b
    if b & NAN > a & NAN:
        more = b
        less = a
    if more & NAN >= INFINITY:
        if more & NAN > INFINITY or (less & NAN == INFINITY and more != less):
            return NAN
        return more
    if less & NAN == 0:
        return more if more & NAN != 0 else more & less
    x: uint256 = 0
    y: uint256 = 0
    high: int256 = 0
    low: int256 = 0
    x, high = self._parts(more & NAN)
    y, low = self._parts(less & NAN)
    up: int256 = unsafe_sub(high, low)
    if up > 60:
        # So far below, it only says on which side of the larger number the sum lies.
        up = 60
        y = 1
    x = x << convert(up, uint256)
    x = unsafe_add(x, y) if more & SIGN == less & SIGN else unsafe_sub(x, y)
    if x == 0:
        return 0
    return self._rounded(more & SIGN, x, unsafe_sub(unsafe_sub(high, up), 150))


@pure
@internal
def _multiply(a: uint256, b: uint256) -> uint256:
    sign: uint256 = (a ^ b) & SIGN
    x: uint256 = a & NAN
    y: uint256 = b & NAN
    if x >= INFINITY or y >= INFINITY:
        return NAN if x > INFINITY or y > INFINITY or x == 0 or y == 0 else sign | INFINITY
    if x == 0 or y == 0:
        return sign
    high: int256 = 0
    low: int256 = 0
    x, high = self._parts(x)
    y, low = self._parts(y)
    return self._rounded(sign, unsafe_mul(x, y), unsafe_sub(unsafe_add(high, low), 300))


@pure
@internal
def _divide(a: uint256, b: uint256) -> uint256:
    sign: uint256 = (a ^ b) & SIGN
    x: uint256 = a & NAN
    y: uint256 = b & NAN
    if x > INFINITY or y > INFINITY or (x == INFINITY and y == INFINITY) or (x == 0 and y == 0):
        return NAN
    if x == INFINITY or y == 0:
        return sign | INFINITY
    if x == 0 or y == INFINITY:
        return sign
    high: int256 = 0
    low: int256 = 0
    x, high = self._parts(x)
    y, low = self._parts(y)
    x = x << 64
    # One bit more says whether something is left.
    quotient: uint256 = unsafe_mul(2, unsafe_div(x, y))
    if x % y > 0:
        quotient = unsafe_add(quotient, 1)
    return self._rounded(sign, quotient, unsafe_sub(unsafe_sub(high, low), 65))


@pure
@internal
def _root(a: uint256) -> uint256:
    if a & NAN == 0 or a == INFINITY:
        return a
    if a >= INFINITY:
        return NAN
    x: uint256 = 0
    field: int256 = 0
    x, field = self._parts(a)
    odd: uint256 = convert(field, uint256) & 1
    square: uint256 = x << unsafe_add(64, odd)
    root: uint256 = isqrt(square)
    found: uint256 = unsafe_mul(2, root)
    if unsafe_mul(root, root) != square:
        found = unsafe_add(found, 1)
    return self._rounded(0, found, unsafe_sub(unsafe_sub(unsafe_sub(field, 214), convert(odd, int256)) // 2, 1))


@pure
@internal
def _narrow(a: uint256) -> uint256:
    """Rounded to bf16, as a word of fp32 whose lower half is 0."""
    if a & NAN > INFINITY:
        return 32767 << 16
    return (unsafe_add(a, unsafe_add(32767, (a >> 16) & 1)) >> 16) << 16


@pure
@internal
def _exponential(x: uint256) -> uint256:
    if x & NAN > INFINITY:
        return NAN
    if x > SIGN and x & NAN > LEAST:
        return 0
    cut: uint256 = x
    if x < SIGN and x > MOST:
        cut = MOST
    power: uint256 = self._add(self._add(self._multiply(cut, LOG2E), ROUND), ROUND | SIGN)
    rest: uint256 = self._add(cut, self._multiply(power, LN2_HIGH) ^ SIGN)
    rest = self._add(rest, self._multiply(power, LN2_LOW) ^ SIGN)
    total: uint256 = self._add(self._multiply(rest, TERM6), TERM5)
    for term: uint256 in [TERM4, TERM3, TERM2, ONE, ONE]:
        total = self._add(self._multiply(total, rest), term)
    # The power is a whole number from -126 to 127.
    whole: uint256 = 0
    if power & NAN != 0:
        whole = ((power & (2 ** 23 - 1)) | 2 ** 23) >> unsafe_sub(150, (power >> 23) & 255)
    field: uint256 = unsafe_sub(127, whole) if power & SIGN != 0 else unsafe_add(127, whole)
    return self._multiply(total, field << 23)
