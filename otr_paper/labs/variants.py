"""Cheaper or tampered copies of a checkpoint, as a dishonest operator would run them (``alter`` of
``load_model``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otr_core.errors import ParameterError

if TYPE_CHECKING:
    from torch import Tensor


def requantised(tensors: dict[str, Tensor], bits: int) -> dict[str, Tensor]:
    """All matrices rounded to ``bits``-bit integers with one scale per row (symmetric, to nearest),
    and back.

    Args:
        bits: 2 to 8.
    """
    if not 2 <= bits <= 8:
        raise ParameterError("bits", bits, "2 to 8")
    top = 2 ** (bits - 1) - 1

    def rounded(value: Tensor) -> Tensor:
        scale = value.abs().amax(-1, keepdim=True).clamp(min=1e-12) / top
        found: Tensor = ((value / scale).round() * scale).to(value.dtype)
        return found

    return {name: rounded(value) if value.ndim == 2 else value for name, value in tensors.items()}


def bit_flipped(tensors: dict[str, Tensor], name: str, index: int, bit: int = 20) -> dict[str, Tensor]:
    """One bit of one fp32 weight flipped: number ``index`` (row-major) of tensor ``name``."""
    import torch

    value = tensors[name].clone()
    value.view(torch.int32).view(-1)[index] ^= 1 << bit
    return {**tensors, name: value}
