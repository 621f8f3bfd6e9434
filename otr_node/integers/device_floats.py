"""Arrays of fp32 on a device, for the lines of ``otr_core.lane.tensor_steps``: every step is one operation of
torch, which rounds by itself, and nothing compiles two of them into one.

Three of torch's short cuts are not steps of IEEE 754 and are gone round. A quotient by a number of the host
is a product with its reciprocal on a GPU, and so is a number of the host over an array: every operand is
therefore an array on the device. And torch 2.13 gives another fp32 root than the nearest on some CPUs (one in
six of random numbers where this was written): roots are taken in fp64 and rounded once more, which gives the
nearest of fp32, because fp64 has more than twice its digits and two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from otr_core.errors import InputError


def _root(x: Tensor) -> Tensor:
    return torch.sqrt(x.double()).float()


STEPS: dict[Any, Any] = {
    np.add: torch.add,
    np.subtract: torch.subtract,
    np.multiply: torch.multiply,
    np.divide: torch.divide,
    np.sqrt: _root,
    np.negative: torch.negative,
    np.greater: torch.greater,
    np.greater_equal: torch.greater_equal,
    np.less: torch.less,
}


class DeviceFloats(np.lib.mixins.NDArrayOperatorsMixin):
    """A tensor in the place of a NumPy array: its operators, and NumPy's functions on it, are torch's.

    Args:
        tensor: float32, or what comparisons and conversions make of it.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    def __getitem__(self, key: Any) -> DeviceFloats:
        return DeviceFloats(self.tensor[key])

    def reshape(self, *shape: int) -> DeviceFloats:
        return DeviceFloats(self.tensor.reshape(*shape))

    def max(self, axis: int, keepdims: bool) -> DeviceFloats:
        return DeviceFloats(self.tensor.amax(dim=axis, keepdim=keepdims))

    def astype(self, dtype: type[np.int64]) -> DeviceFloats:
        """Whole numbers as integers; no other conversion is a step of the lane."""
        return DeviceFloats(self.tensor.to(torch.int64))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> DeviceFloats:
        if ufunc not in STEPS or method != "__call__" or options:
            raise InputError(f"step: found {ufunc} {method}, expected one of the lane's")
        kind = self.tensor.dtype
        return DeviceFloats(STEPS[ufunc](*(self._there(each, kind) for each in inputs)))

    def __array_function__(self, function: Any, types: Any, args: Sequence[Any], options: dict[str, Any]) -> Any:
        if function is np.where:
            condition, one, other = (self._there(each) for each in args)
            return DeviceFloats(torch.where(condition, one, other))
        if function is np.concatenate:
            return DeviceFloats(torch.cat([self._there(each) for each in args[0]], dim=options.get("axis", 0)))
        if function is np.full_like:
            return DeviceFloats(torch.full_like(args[0].tensor, float(args[1])))
        if function is np.take_along_axis:
            return DeviceFloats(self._there(args[0])[self._there(args[1])])
        raise InputError(f"step: found {function.__name__}, expected one of the lane's")

    def _there(self, value: Any, kind: torch.dtype | None = None) -> Tensor:
        """An operand on the device, as a tensor."""
        if isinstance(value, DeviceFloats):
            return value.tensor
        if isinstance(value, np.ndarray):
            return torch.from_numpy(value).to(self.tensor.device)
        return torch.full((), value.item() if isinstance(value, np.generic) else value,
                          dtype=kind or torch.float32, device=self.tensor.device)  # fmt: skip


def bf16_tensor(values: DeviceFloats) -> Tensor:
    """Fp32 numbers rounded to bf16, to nearest even (``blocks.fp32_to_bf16``), in integers."""
    words = values.tensor.contiguous().view(torch.int32)
    near = (words + 0x7FFF + (words >> 16 & 1)) >> 16
    nan = (words & 0x7FFFFFFF) > 0x7F800000
    return torch.where(nan, 0x7FFF, near).to(torch.int16).view(torch.bfloat16)
