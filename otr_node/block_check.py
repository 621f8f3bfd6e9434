"""The self-check of the lane ``h100-bf16``: does a processor give the definition's bits, at the start.

``check_steps`` is for every processor: the fp32 steps of the lane against the definition in integers, numbers
below the normal ones among them, so that one that flushes those to zero or rounds another way is refused.
``compare_device`` sets a GPU beside the replay; ``open_block_device`` refuses it for one differing bit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from otr_core.errors import HardwareError
from otr_core.extras import need_extras
from otr_core.lane.fp32 import as_objects
from otr_core.lane.tensor_steps import LANE, exponential, gated_silu, normed, turned, weighed_scores
from otr_node.integers.device_floats import DeviceFloats, bf16_tensor
from otr_node.integers.projections import block_loops
from otr_node.tensor_device import BlockDevice, check_generation
from otr_node.tensor_values import to_words

Words = np.ndarray
"""Of bits: uint16 for bf16, uint32 for fp32."""
_SHAPES = ((1, 576, 96), (3, 333, 45), (17, 200, 70), (40, 64, 33))
"""Tokens, columns and rows of whole products: every tile, and ends inside a tile on each side."""


@dataclass(frozen=True)
class Compared:
    """How many words were compared, and how many differ."""

    words: int
    differing: int


def check_steps(where: str, make: Callable[[np.ndarray], Any], read: Callable[[Any], np.ndarray]) -> None:
    """The fp32 steps that a processor makes, against the definition in integers.

    Args:
        where: for the error. make, read: an array of float32 to what the processor computes with, and back.

    Raises:
        HardwareError: a word differs.
    """
    x, y = (make(words.view(np.float32)) for words in _operands())
    with np.errstate(all="ignore"):
        found = np.concatenate([read(each).reshape(-1) for each in _sample(x, y)]).view(np.uint32)
    differing = int((found != _defined()).sum())
    if differing:
        raise HardwareError(
            f"{where}: found {differing} of {found.size} fp32 steps other than those of IEEE 754, expected 0 for {LANE}"
            " (numbers flushed to zero, or another rounding mode?)"
        )


def _sample(x: Any, y: Any) -> list[Any]:
    """Each kind of step, on rows (rows, 2 n)."""
    least = x * x  # numbers from which a root can be taken
    half = x.shape[-1] // 2
    steps = [x + y, x - y, x * y, x / y, np.sqrt(least), exponential(x), gated_silu(x, y)]
    return [*steps, normed(y, x, np.float32(1e-5)), turned(x, y[..., :half], x[..., :half]), *weighed_scores(x, 64)]


@functools.cache
def _operands() -> tuple[Words, Words]:
    """Two arrays of fp32 words, (4, 8): ordinary numbers, and some around the least normal one."""
    random = np.random.default_rng(11)
    made = random.standard_normal((2, 4, 8)).astype(np.float32).view(np.uint32)
    made[:, 2] &= np.uint32(0x807FFFFF)  # below the normal numbers
    made[:, 3] = made[:, 3] & np.uint32(0x807FFFFF) | np.uint32(0x00800000)
    made[1, 3, :4] = made[0, 3, :4] + np.uint32(0x80000003)  # whose sums are below the normal numbers
    return made[0], made[1]


@functools.cache
def _defined() -> Words:
    """What the definition makes of the sample, in integers alone."""
    x, y = (as_objects(words.reshape(-1).tolist()).reshape(words.shape) for words in _operands())
    return np.array([number.word for each in _sample(x, y) for number in each.reshape(-1)], np.uint32)


def compare_device(
    device: BlockDevice, *, products: int = 10, recorded: Sequence[tuple[Words, Words, int, int]] = ()
) -> dict[str, Compared]:
    """A device beside the replay (``integers.projections``, ``otr_core.lane.tensor_steps`` on NumPy).

    Args:
        products: of each kind of numbers, of 2,048 blocks each. recorded: blocks that an H100 has computed
            before: factors of 16 words each, accumulator, result.

    Returns:
        Compared words by what they are: "blocks of numbers", "at the ends" of the range of exponents,
        "of any words" (infinities and NaNs among them), "recorded blocks", "products" of whole rows,
        "roundings to bf16" and "fp32 steps".
    """
    random = np.random.default_rng(7)
    found: dict[str, Compared] = {}
    for name, draw in (("blocks of numbers", _numbers), ("blocks at the ends", _ends), ("blocks of any words", _any)):
        parts = [_blocks(device, draw(random, (32, 16)), draw(random, (64, 16)), random) for _ in range(products)]
        found[name] = Compared(2048 * products, sum(parts))
    if recorded:
        a, b = (np.array([block[side] for block in recorded], np.uint16)[:, None] for side in (0, 1))
        out = np.array([block[2] for block in recorded], np.uint32)[:, None, None]
        made = _run(device, a, b, out)
        differing = int((made.reshape(-1) != np.array([block[3] for block in recorded], np.uint32)).sum())
        found["recorded blocks"] = Compared(len(recorded), differing)
    wrong = [_blocks(device, _numbers(random, (t, c)), _numbers(random, (r, c)), random) for t, c, r in _SHAPES]
    found["products"] = Compared(sum(tokens * rows for tokens, _, rows in _SHAPES), sum(wrong))
    return found | _compare_steps(device, random)


def _compare_steps(device: BlockDevice, random: np.random.Generator) -> dict[str, Compared]:
    wild = random.integers(0, 2**32, (64, 128), dtype=np.uint32).view(np.float32)
    x, y = random.standard_normal((2, 33, 576)).astype(np.float32) * 3
    wild = np.where(np.isfinite(wild), wild, x[0, 0])
    with np.errstate(all="ignore"):
        near = bf16_tensor(device.floats(wild)).view(torch.int16).cpu().numpy().view(np.uint16)
        result = {"roundings to bf16": Compared(wild.size, int((near != to_words(wild)).sum()))}
        words = differing = 0
        for sample in ((x, y), (wild[:, :64], wild[:, 64:])):
            theirs = _sample(*map(device.floats, map(np.ascontiguousarray, sample)))
            for one, other in zip(_sample(*sample), theirs, strict=True):
                words, differing = words + one.size, differing + _differing(one, other)
    return {**result, "fp32 steps": Compared(words, differing)}


def _differing(ours: np.ndarray, theirs: DeviceFloats) -> int:
    """Differing words; NaNs are one number, which no state of the lane may be."""
    found = theirs.tensor.cpu().numpy()
    same = np.ascontiguousarray(ours).view(np.uint32) == np.ascontiguousarray(found).view(np.uint32)
    return int((~same & ~(np.isnan(ours) & np.isnan(found))).sum())


def _blocks(device: BlockDevice, x: Words, w: Words, random: np.random.Generator) -> int:
    """How many results of x · wᵀ, on accumulators near their first products, differ from the replay's."""
    columns = -(-x.shape[1] // 16) * 16
    padded = [np.pad(each, ((0, 0), (0, columns - each.shape[1]))) for each in (x, w)]
    out = np.zeros((len(x), len(w)), np.uint32)
    block_loops().project(padded[0][:, :16], padded[1][:, :16], out)
    out = np.where(random.random(out.shape) < 0.5, out ^ np.uint32(0x80000003), np.uint32(0))
    found = _run(device, x[None], w[None], out[None])[0]
    block_loops().project(*padded, out)
    return int((found != out).sum())


def _run(device: BlockDevice, x: Words, w: Words, out: Words) -> Words:
    """The device's words of a batch, from the accumulators ``out`` on."""
    made: Tensor = device.floats(np.ascontiguousarray(out).view(np.float32)).tensor.clone()
    device.kernel(device.words(x), device.words(w), made)
    return made.cpu().numpy().view(np.uint32)


def _numbers(random: np.random.Generator, shape: tuple[int, int]) -> Words:
    return to_words(random.standard_normal(shape).astype(np.float32))


def _ends(random: np.random.Generator, shape: tuple[int, int]) -> Words:
    """Exponents from the ends and the middle of their range, a few next to each other in a row."""
    base = random.choice(np.array([0, 60, 124, 190, 249], np.uint16), (shape[0], 1))
    exponent = base + random.integers(0, 6, shape).astype(np.uint16)
    return random.integers(0, 2**16, shape).astype(np.uint16) & np.uint16(0x807F) | exponent << np.uint16(7)


def _any(random: np.random.Generator, shape: tuple[int, int]) -> Words:
    """Any words; in most rows only some are infinite or no numbers."""
    words = random.integers(0, 2**16, shape).astype(np.uint16)
    tame = words & np.uint16(0xBFFF)
    return np.where(random.random(shape) < random.choice([0.0, 0.05, 1.0], (shape[0], 1)), words, tame)


def require_replayed(where: str, found: Mapping[str, Compared]) -> None:
    """
    Raises:
        HardwareError: a word differs; the lane is refused.
    """
    wrong = [f"{each.differing} of {each.words} {name}" for name, each in found.items() if each.differing]
    if wrong:
        raise HardwareError(f"{where}: found {', '.join(wrong)} other than the replay's, expected 0; {LANE} is refused")


def unchecked_block_device(name: str) -> BlockDevice:
    """A GPU of this lane's generation. What it computes is compared with nothing yet: ``open_block_device``.

    Raises:
        MissingExtraError: Triton is not installed. HardwareError: a GPU of another generation.
    """
    need_extras("cuda")
    from otr_node.integers.block_triton import project_blocks

    check_generation(torch.cuda.get_device_name(name), torch.cuda.get_device_capability(name))
    return BlockDevice(name, project_blocks)


@functools.cache
def open_block_device(name: str) -> BlockDevice:
    """A GPU for this lane, checked once in this process.

    Raises:
        MissingExtraError, HardwareError: as ``unchecked_block_device``; a kernel compiled to another instruction;
            a bit that is not the replay's.
    """
    device = unchecked_block_device(name)
    check_device_steps(device)
    require_replayed(f"device {name}", compare_device(device))
    return device


def check_device_steps(device: BlockDevice) -> None:
    """``check_steps`` of a device."""
    check_steps(f"device {device.name}", device.floats, lambda made: made.tensor.cpu().numpy())


def check_host_steps() -> None:
    """``check_steps`` of this thread of this processor, with NumPy."""
    check_steps("this processor", np.array, np.ascontiguousarray)
