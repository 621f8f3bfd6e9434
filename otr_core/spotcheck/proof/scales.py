"""How a row of a norm is scaled, by the bit length of its peak; and how wide its numbers are.

All that the scaling depends on is that length, 0 to 31. Where rows are hidden, a column says which it
is, and whatever stands here by length becomes a weight of that column's claims.
"""

from __future__ import annotations

from math import isqrt

import numpy as np
from numpy.typing import NDArray

from otr_core.errors import AnswerProofError
from otr_core.lane import formats as bits
from otr_core.lane.dims import Dims

LENGTHS = bits.INT32.bit_length() + 1
"""Of a peak, from that of 0 on."""
REST_BITS = bits.INT32.bit_length() - bits.NORM_INPUT
"""By so many bits a row is scaled down at most."""
_ROOT_BITS, _PRODUCT_BITS = 31, 63


def norm_scales(peak: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """By how many bits rows of these peaks are scaled up, and down."""
    length = np.frexp(peak.astype(np.float64))[1].astype(np.int64)
    power = np.minimum(bits.NORM_INPUT - length, -bits.NORM_LEAST_SCALE)
    return np.maximum(power, 0), np.maximum(-power, 0)


def scaled_epsilon(epsilon: int, power: int) -> int:
    """A norm's epsilon beside squares of a row that is scaled by 2^power."""
    return epsilon << 2 * power if power >= 0 else (epsilon + (1 << (-2 * power - 1))) >> -2 * power


def least_peaks() -> list[int]:
    """The least peak of each length."""
    return [(1 << length) >> 1 for length in range(LENGTHS)]


def most_peaks() -> list[int]:
    """The largest peak of each length."""
    return [(1 << length) - 1 for length in range(LENGTHS)]


def by_length(name: str, d: Dims) -> list[int]:
    """A number of a row by the length of its peak.

    Args:
        name: up or down, by what the row is multiplied, and by what its result is; half, what is added
            before the result is divided; epsilon, as it is added to the squares.
    """
    ups, downs = (side.tolist() for side in norm_scales(np.array(least_peaks())))
    if name == "epsilon":
        return [scaled_epsilon(d.epsilon, up - down) for up, down in zip(ups, downs, strict=True)]
    return [1 << power if name != "half" else (1 << power) >> 1 for power in (ups if name == "up" else downs)]


def squares_bits(d: Dims) -> int:
    """Of a sum of squares of a scaled row, whose values are at most 2^19 in magnitude."""
    return (d.hidden << 2 * bits.NORM_INPUT).bit_length()


def root_bits(d: Dims) -> int:
    """Of the root of four times the squares and epsilon."""
    return isqrt(4 * ((d.hidden << 2 * bits.NORM_INPUT) + max(by_length("epsilon", d)))).bit_length()


def factor_bits(d: Dims) -> int:
    """Of a norm's factor: a row has its peak, so that its squares are at least the square of its length's least one."""
    names = (least_peaks(), by_length("up", d), by_length("down", d), by_length("epsilon", d))
    roots = [isqrt(4 * ((peak * up // down) ** 2 + epsilon)) for peak, up, down, epsilon in zip(*names, strict=True)]
    return max((d.numerator // max(min(roots), 1)).bit_length(), 1)


def refuse_unhidden(d: Dims) -> None:
    """What is not proven where rows are hidden, by the model alone.

    Raises:
        AnswerProofError: check "mode": a norm whose products could wrap around, or
            whose root could be 0, which the lane takes for 1.
    """
    if d.epsilon < 1:
        raise AnswerProofError("mode", f"a norm's epsilon of {d.epsilon} where rows are hidden", "at least 1")
    root, product = root_bits(d), root_bits(d) + factor_bits(d)
    if root > _ROOT_BITS or product > _PRODUCT_BITS:
        expected = f"at most {_ROOT_BITS} and {_PRODUCT_BITS}"
        raise AnswerProofError("mode", f"a norm's root of {root} bits, times its factor {product}", expected)
