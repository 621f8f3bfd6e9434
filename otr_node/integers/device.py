"""Products of the portable lane on a graphics processor: int8 limbs, summed in int32, put together
in int64. Nothing of this was run on one; the tests run the same code on the CPU."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from otr_core.errors import HardwareError, InputError
from otr_node.integers import twins
from otr_node.integers.packed import LEAST, MOST, Packed, pack

_TWINS: Any = twins
LEVELS, LIMBS = 4, 2
"""Limbs of eight bits that hold an int32, and an int16 of the dense part."""
LONGEST = 2**15
"""Columns up to which int32 holds the sum of two limbs' products."""
_MULTIPLE = 32  # int8 products on such devices take multiples of 8 alone, and 17 rows or more


class DeviceProducts:
    """Multiplies with matrices that stay on a device, two bytes a weight, from their first use on.

    Args:
        name: as torch takes it.

    Raises:
        InputError: no such device here, or one that is no processor of this kind.
        HardwareError: its products are not those of the integers; it must not be used.
    """

    def __init__(self, name: str) -> None:
        try:
            self._device = torch.device(name)
        except RuntimeError as error:
            raise InputError(f"device: found {name!r}, expected cpu or cuda") from error
        if self._device.type not in ("cpu", "cuda"):
            raise InputError(f"device: found {name!r}, expected cpu or cuda")
        if self._device.type == "cuda" and not torch.cuda.is_available():
            raise InputError(f"device: found {name!r}, but torch sees no such processor here; expected cpu")
        # The matrix is kept with its limbs, so that no other comes to lie where it lay.
        self._held: dict[int, tuple[np.ndarray, Tensor]] = {}
        self._test()

    def product(self, x: np.ndarray, matrix: Packed, shift: int, out: np.ndarray) -> np.ndarray:
        """As ``forms.Form.product``, of int32, for ``LONGEST`` columns at most."""
        tokens, rows = len(x), matrix.shape[0]
        width = _padded(x.shape[1])
        planes = np.zeros((_padded(tokens), LEVELS, width), np.int8)
        rest = x.astype(np.int64)
        for level in range(LEVELS - 1):
            planes[:tokens, level, : x.shape[1]] = ((rest + 128) & 255) - 128
            rest = (rest + 128) >> 8
        # What the highest limb cannot hold is 128, of values that end int32: met as 127 and 1 more.
        planes[:tokens, LEVELS - 1, : x.shape[1]] = np.minimum(rest, 127)
        left = torch.from_numpy(planes).to(self._device)
        right = self._limbs(matrix, width)
        total = torch.zeros((_padded(tokens), right.shape[0]), dtype=torch.int64, device=self._device)
        for level in range(LEVELS):
            for limb in range(LIMBS):
                part = torch._int_mm(left[:, level].contiguous(), right[:, limb].contiguous().t())
                total += part.long() << (8 * (level + limb))
        sums = total[:tokens, :rows].cpu().numpy()
        beyond = rest > 127
        if beyond.any():
            token, column = np.nonzero(beyond)
            for at, of in zip(token, column, strict=True):
                sums[at] += matrix.low[:, of].astype(np.int64) << 24
        if matrix.has_rest:
            extra = np.zeros((rows, tokens), np.int64)
            _TWINS.rest_products(np.ascontiguousarray(x.T), *matrix.parts[1:], extra)
            sums += extra.T
        out[:] = _TWINS.shift(sums, shift)
        return out

    def _limbs(self, matrix: Packed, width: int) -> Tensor:
        """The dense part's limbs, (rows, limbs, columns), lowest first, on the device."""
        key = matrix.low.ctypes.data
        if key not in self._held:
            rows, columns = matrix.shape
            limbs = np.zeros((_padded(rows), LIMBS, width), np.int8)
            low = matrix.low.astype(np.int32)
            limbs[:rows, 0, :columns] = ((low + 128) & 255) - 128
            limbs[:rows, 1, :columns] = (low + 128) >> 8
            self._held[key] = matrix.low, torch.from_numpy(limbs).to(self._device)
        return self._held[key][1]

    def _test(self) -> None:
        """Compare with the twin on operands that saturate wherever something can."""
        random = np.random.default_rng(5)
        for tokens, columns, rows in ((8, 64, 64), (40, 576, 96), (33, 331, 45)):
            weights = random.choice(np.array([LEAST, MOST, 2**20], np.int32), (rows, columns), p=(0.5, 0.49, 0.01))
            weights[0], weights[1] = LEAST, MOST
            x = random.choice(np.array([-(2**31) + 1, 2**31 - 1, 127, -128, 2**23], np.int32), (tokens, columns))
            x[0], x[1], x[2] = 0x7F7F7F7F, -0x7F7F7F80, 2**31 - 1
            found, expected = (np.zeros((tokens, rows), np.int64) for _ in range(2))
            packed = pack(weights)
            try:
                self.product(x, packed, 7, found)
            except RuntimeError as error:  # a build, or a processor, without this product
                why = (str(error).splitlines() or ["no word"])[0]
                raise HardwareError(f"device {self._device}: cannot multiply int8 ({why}); use cpu") from error
            _TWINS.product(x, *packed.parts, 7, expected)
            if not np.array_equal(found, expected):
                wrong = int((found != expected).sum())
                raise HardwareError(
                    f"device {self._device}: found {wrong} of {found.size} integer products wrong, expected 0; use cpu"
                )
        self._held.clear()


def _padded(count: int) -> int:
    return -(-count // _MULTIPLE) * _MULTIPLE


@functools.cache
def device_products(name: str) -> DeviceProducts:
    """The one of a device in this process, tested at the first call."""
    return DeviceProducts(name)
