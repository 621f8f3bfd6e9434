"""The nine operations of the portable lane, on integers held in float64 tensors.

Every value is an integer of magnitude below 2^52, so every product, sum and power-of-two scaling
here is exact, in any order, with or without fused multiply-add, on any machine whose float64 is
IEEE 754: no rounding ever happens that the definition does not ask for. That is why a BLAS may be
used for ``dot``. Each operation is simple enough to be judged step by step in a contract. Bounds
are proven per model when it is loaded (``rounding.check_bounds``).
"""

from __future__ import annotations

import torch
from torch import Tensor

#: 2^−64 to 2^63: a product with one of them is a scaling, and exact.
_POWERS_OF_TWO = torch.tensor([2.0**k for k in range(-64, 64)], dtype=torch.float64)


def dot(x: Tensor, matrix: Tensor) -> Tensor:
    """Dot products of the rows of ``x`` (…, n) with the rows of ``matrix`` (m, n): (…, m)."""
    return torch.nn.functional.linear(x, matrix)


def shift(x: Tensor, bits: int) -> Tensor:
    """⌊x / 2^bits + 1/2⌋, in place: division by a power of two, rounded to nearest, halves up."""
    return x.mul_(2.0**-bits).add_(0.5).floor_()


def scale(x: Tensor, bits: Tensor) -> Tensor:
    """⌊x · 2^bits + 1/2⌋ with a power per row, ``bits`` integer of shape (…, 1), −64 to 63."""
    return (x * _POWERS_OF_TWO.to(x.device)[bits + 64]).add_(0.5).floor_()


def saturate(x: Tensor, bound: int) -> Tensor:
    """x, or the nearer of ±bound beyond them, in place."""
    return x.clamp_(-bound, bound)


def lookup(table: Tensor, index: Tensor) -> Tensor:
    """table[⌊index⌋] with the index cut to the table; ``index`` is not negative, or is cut to 0."""
    whole = index.clamp_(0, len(table) - 1).to(torch.int32)
    return torch.index_select(table, 0, whole.reshape(-1)).reshape(index.shape)


def largest(x: Tensor) -> Tensor:
    """Largest value of each row, (…, n) to (…, 1)."""
    return x.amax(-1, keepdim=True)


def bit_length(x: Tensor) -> Tensor:
    """Number of binary digits of each x ≥ 0: the least k with x < 2^k, as int64."""
    return torch.frexp(x).exponent.to(torch.int64)


def divide(a: Tensor, b: Tensor) -> Tensor:
    """⌊a / b⌋ for 0 ≤ a, 0 < b. The hardware's quotient may be one off; the remainder, which is
    exact, says so."""
    quotient = (a / b).floor_()
    rest = a - quotient * b
    return quotient - (rest < 0).to(a.dtype) + (rest >= b).to(a.dtype)


def square_root(x: Tensor) -> Tensor:
    """⌊√x⌋ for x ≥ 0, put right by exact squares."""
    root = x.sqrt().floor_()
    root = root - (root * root > x).to(x.dtype)
    return root + ((root + 1) * (root + 1) <= x).to(x.dtype)
