"""In which form the operations run here: compiled or not, and by which product of matrices.

A test in the running process decides, with operands that saturate wherever something can. Libraries
say that their products of int8 matrices are exact, and on processors without instructions for them
they are not: pairs of products are added in sixteen bits. What a processor says it can do is not
asked, because a library may use less of it.
"""

from __future__ import annotations

import copy
import functools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import torch

from otr_core.lane.dims import Dims, Matrix
from otr_core.lane.tables import exp2_entries, sigmoid_entries
from otr_node.integers import twins
from otr_node.integers.device import LONGEST, DeviceProducts
from otr_node.integers.packed import LEAST, MOST, Packed, pack

LAYER_MATRICES = (Matrix.QKV, Matrix.OUT, Matrix.GATE_UP, Matrix.DOWN)
"""The matrices of a layer, in the order of their use."""
EXP2 = np.array(exp2_entries(), np.int32)
SIGMOID = np.array(sigmoid_entries(), np.int32)

FEW = 8
"""Fewer rows than this are multiplied by the loops; from here on a library's product is quicker."""
_NARROW_TOKENS = 16  # what one tile for narrow registers holds
_LIMB_WIDTHS = (8, 7)
_LIMB_ROOM = 2**30  # the magnitude up to which values are cut into limbs
_AT_ONCE = 2**19  # weights taken from a matrix at once: they stay in the processor's cache


class Scratch:
    """Memory that is used again by the next call; not to be shared between threads."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, Any], np.ndarray] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array whose content is whatever it is; valid until the name is taken again."""
        size = math.prod(shape)
        have = self._kept.get((name, dtype))
        if have is None or have.size < size:
            have = self._kept[name, dtype] = np.empty(size, dtype)
        return have[:size].reshape(shape)


@dataclass(frozen=True)
class Form:
    """How operations run. No bit depends on it.

    Attributes:
        loops: ``kernels`` or ``twins``.
        limb_bits: 8 or 7, the widest limbs of weights whose int8 products the library sums exactly;
            0 if it does not.
        tiles: whether compiled products of many tokens are made for wide registers or for narrow
            ones; None if a library's products are quicker, or nothing is compiled.
        device: where products of many tokens are made instead, if anywhere.
    """

    loops: ModuleType = field(repr=False)
    limb_bits: int
    tiles: bool | None = None
    device: DeviceProducts | None = None

    @property
    def compiled(self) -> bool:
        """Whether the loops are compiled."""
        return self.loops is not twins

    def describe(self) -> dict[str, Any]:
        """What a reader of a measurement wants to know of it."""
        return {"compiled": self.compiled, "limb_bits": self.limb_bits, "tiles": self.tiles}

    def product(self, x: np.ndarray, matrix: Packed, shift: int, scratch: Scratch, out: np.ndarray) -> np.ndarray:
        """Products of int32 (tokens, columns) with a matrix's rows, rounded: ``out``, int64 (tokens,
        rows)."""
        if self.device is not None and len(x) >= FEW and x.shape[1] <= LONGEST:
            return self.device.product(x, matrix, shift, out)
        few = len(x) < FEW and self.compiled
        if not few and self.tiles is not None and x.shape[1] % 2 == 0:
            wide = self.tiles and len(x) > _NARROW_TOKENS
            memory = _memory(self.loops, scratch, *x.shape)
            self.loops.many_product(x, *matrix.parts, shift, matrix.units, wide, *memory, out)
            return out
        if not few and self.limb_bits == 8 and _fits(x):
            return self._by_limbs(x, matrix, shift, scratch, out)
        if not few and matrix.in_floats:
            return self._by_floats(x, matrix, shift, scratch, out)
        if not few and self.limb_bits and _fits(x):
            return self._by_limbs(x, matrix, shift, scratch, out)
        self.loops.product(x, *matrix.parts, shift, out)
        return out

    def _by_floats(self, x: np.ndarray, matrix: Packed, shift: int, scratch: Scratch, out: np.ndarray) -> np.ndarray:
        """By float64, block after block; for a matrix whose sums stay below 2^52."""
        tokens, width = x.shape
        wide = torch.from_numpy(x).double()
        for first, end in _blocks(matrix):
            own = matrix.rows(first, end)
            dense = scratch.take("dense", (end - first, width), np.float64)
            self.loops.widen(*own.parts, dense)
            sums = scratch.take("sums", (tokens, end - first), np.float64)
            torch.mm(wide, torch.from_numpy(dense).t(), out=torch.from_numpy(sums))
            self.loops.round_sums(sums, shift, out[:, first:end])
        return out

    def _by_limbs(self, x: np.ndarray, matrix: Packed, shift: int, scratch: Scratch, out: np.ndarray) -> np.ndarray:
        """By int8 limbs: each limb of the tokens times each limb of the weights.

        With limbs of eight bits on both sides, products that stand for the same power of two are
        summed by the library: the tokens' limbs go up while the weights' go down.
        """
        tokens, width = x.shape
        levels = self._levels_by_token(x)
        most = int(levels.max())
        outliers = np.flatnonzero(levels == most)
        if most > 1 and len(outliers) <= tokens // 2:
            # A few tokens need one limb more than the others do.
            for chosen in (outliers, np.flatnonzero(levels < most)):
                some = np.empty((len(chosen), len(matrix.low)), np.int64)
                out[chosen] = self._by_limbs(x[chosen], matrix, shift, scratch, some)
            return out
        limbs = -(-16 // self.limb_bits)
        planes = scratch.take("planes", (tokens, most, width), np.int8)
        self.loops.split_tokens(x, planes)
        left = torch.from_numpy(planes.reshape(tokens, -1))
        spans = list(_spans(most, limbs, self.limb_bits))
        ups = np.array([up for _, _, up in spans], np.int64)
        turned = np.ascontiguousarray(x.T) if len(matrix.extra) else x
        for first, end in _blocks(matrix):
            own, rows = matrix.rows(first, end), end - first
            digits = scratch.take("limbs", (rows, limbs, width), np.int8)
            self.loops.split_weights(own.low, self.limb_bits, digits)
            right = torch.from_numpy(digits.reshape(rows, -1))
            parts = scratch.take("parts", (len(spans), tokens, rows), np.int32)
            for part, (ours, theirs, _) in zip(torch.from_numpy(parts), spans, strict=True):
                a, b = (side[:, of.start * width : of.stop * width] for side, of in ((left, ours), (right, theirs)))
                torch._int_mm(a, b.t(), out=part)
            rest = scratch.take("rest", (rows if own.has_rest else 0, tokens), np.int64)
            if own.has_rest:
                self.loops.rest_products(turned, *own.parts[1:], rest)
            self.loops.gather(parts, ups, rest, shift, out[:, first:end])
        return out

    @staticmethod
    def _levels_by_token(x: np.ndarray) -> np.ndarray:
        """Limbs of eight bits that each token needs: (tokens,)."""
        largest = np.abs(x).max(-1)
        levels: np.ndarray = 1 + np.searchsorted([127 * (256**level - 1) // 255 for level in (1, 2, 3)], largest)
        return levels


def _spans(levels: int, limbs: int, width: int) -> Iterator[tuple[slice, slice, int]]:
    """Which limbs are multiplied in one product: of the tokens, lowest first; of the weights, highest
    first; and by how many bits the sum of their products is shifted up."""
    if width != 8:
        for level in range(levels):
            for limb in range(limbs):
                yield slice(level, level + 1), slice(limbs - 1 - limb, limbs - limb), 8 * level + width * limb
        return
    for power in range(levels + limbs - 1):
        first, last = max(0, power - limbs + 1), min(levels - 1, power)
        highest = limbs - 1 - (power - first)
        yield slice(first, last + 1), slice(highest, highest + last - first + 1), 8 * power


def _memory(loops: ModuleType, scratch: Scratch, tokens: int, width: int) -> tuple[np.ndarray, ...]:
    """What ``many_product`` works in."""
    kinds = zip(
        ("packed", "turned", "totals"), loops.room_for(tokens, width), (np.int16, np.int32, np.int64), strict=True
    )
    return tuple(scratch.take(name, (size,), kind) for name, size, kind in kinds)


def _fits(x: np.ndarray) -> bool:
    return x.shape[1] <= LONGEST and int(np.abs(x).max(initial=0)) <= _LIMB_ROOM


def _blocks(matrix: Packed) -> Iterator[tuple[int, int]]:
    rows, width = matrix.shape
    step = max(64, _AT_ONCE // width)
    for first in range(0, rows, step):
        yield first, min(first + step, rows)


@functools.cache
def chosen_form() -> Form:
    """The quickest form that is exact in this process. The first call tests; it takes under a second,
    and some seconds where kernels have to be compiled."""
    limb_bits = next((width for width in _LIMB_WIDTHS if exact_limbs(width)), 0)
    loops = compiled_loops()
    forms = [Form(loops, limb_bits)]
    return (
        forms[0] if loops is twins else _quickest([*forms, Form(loops, limb_bits, True), Form(loops, limb_bits, False)])
    )


def _quickest(forms: list[Form]) -> Form:
    """The form that takes least of the processor for a product as a model has them."""
    random = np.random.default_rng(3)
    matrix = pack(np.rint(random.normal(0, 2**12, (384, 576))).astype(np.int32))
    x = np.rint(random.normal(0, 2**18, (128, 576))).astype(np.int32)
    out, scratch = np.empty((128, 384), np.int64), Scratch()
    spent = []
    for form in forms * 4:
        before = time.process_time()
        form.product(x, matrix, 19, scratch, out)
        spent.append(time.process_time() - before)
    return min(forms, key=lambda form: min(spent[forms.index(form) :: len(forms)]))


def exact_limbs(width: int) -> bool:
    """Whether the library's int8 product is exact here for any int8 on the left and limbs of
    ``width`` bits on the right."""
    most = 2 ** (width - 1)
    random = np.random.default_rng(1)
    for tokens, columns, rows in ((FEW, 64, 64), (FEW, 576, 256), (96, 576, 64), (64, 2048, 32), (17, 331, 45)):
        for low, high in ((127, most - 1), (127, -most), (-128, most - 1), (-128, -most), (0, 0)):
            left = np.full((tokens, columns), low, np.int8)
            right = np.full((rows, columns), high, np.int8)
            if not low:  # extreme values in any order
                left = random.choice(np.array([-128, 127], np.int8), left.shape)
                right = random.choice(np.array([-most, most - 1], np.int8), right.shape)
            try:
                found = torch._int_mm(torch.from_numpy(left), torch.from_numpy(right).t()).numpy()
            except RuntimeError:  # a build of the library without this product
                return False
            # Float64 holds such sums exactly.
            if not np.array_equal(found, left.astype(np.float64) @ right.astype(np.float64).T):
                return False
    return True


def compiled_loops() -> ModuleType:
    """``kernels`` where they compile and give what the twins give; else ``twins``."""
    try:
        import numba

        from otr_node.integers import kernels

        if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
            return twins
        return kernels if _agree(kernels) else twins
    except Exception:  # whatever a compiler fails with here, the twins do not need it
        return twins


def _agree(kernels: ModuleType) -> bool:
    """Whether every kernel gives here what its twin gives, on values of every size.

    Machine code may come from a cache; numba makes it anew when ``kernels`` changes, not when a
    number does that ``kernels`` has from elsewhere.
    """
    for call in _trials(kernels, np.random.default_rng(2)):
        results = []
        for loops in (kernels, twins):
            name, arguments = call[0], copy.deepcopy(list(call[1:]))
            value = getattr(loops, name)(*arguments)
            if name == "many_product":  # what it works in holds whatever it is
                del arguments[-4:-1]
            results.append([value, *arguments])
        if not _same(*results):
            return False
    return True


def _same(one: Any, other: Any) -> bool:
    """Whether two arguments or results are equal throughout."""
    if isinstance(one, list | tuple):
        return all(_same(a, b) for a, b in zip(one, other, strict=True))
    return bool(np.array_equal(one, other))


def _trials(kernels: ModuleType, random: np.random.Generator) -> Iterator[tuple[Any, ...]]:
    """Calls of every kernel: its name and arguments."""

    def some(most: int, *shape: int, dtype: Any = np.int32) -> np.ndarray:
        sizes = most * 2.0 ** -random.integers(0, 24, shape)
        return np.clip(np.rint(sizes * random.uniform(-1, 1, shape)), -most, most).astype(dtype)

    d = Dims(32, 48, 1, 4, 2, 8, 64, 64, 10**9, math.isqrt(32 << 86), 24)
    matrices = [pack(some(2**17, *d.matrix_shape(matrix))) for matrix in LAYER_MATRICES]
    x, weights = some(2**30, 3, 32), matrices[0]
    yield "product", x, *weights.parts, 19, np.zeros((3, len(weights.low)), np.int64)
    for most in (2**12, 2**22, 2**29, 2**31 - 1):
        # one token less than fills a tile, and one more, some of them smaller than the others
        some_x, out = some(most, 65, 98), np.zeros((65, 13), np.int64)
        some_x[::3] >>= 12
        other = pack(np.concatenate([some(2**17, 9, 98), np.full((4, 98), LEAST, np.int32)]))
        for wide in (True, False):
            memory = _memory(kernels, Scratch(), *some_x.shape)
            yield "many_product", some_x, *other.parts, 19, other.units, wide, *memory, out
        for x_few in (some_x[:2], some_x[:2].astype(np.int64) * 2**9):
            yield "product", x_few, *other.parts, 19, out[:2]
    yield "unit_lengths", weights.low, np.zeros(1)
    for width in _LIMB_WIDTHS:
        yield "split_weights", weights.low, width, np.zeros((len(weights.low), -(-16 // width), 32), np.int8)
    yield "split_tokens", x, np.zeros((3, 4, 32), np.int8)
    yield "rest_products", np.ascontiguousarray(x.T), *weights.parts[1:], np.zeros((len(weights.low), 3), np.int64)
    for products in (2, 3, 4, 9):
        rest = some(2**40, 5, 3, dtype=np.int64)
        ups = 8 * np.arange(products) % 32
        yield "gather", some(2**24, products, 3, 5), ups, rest, 19, np.zeros((3, 5), np.int64)
    yield "widen", *weights.parts, np.zeros(weights.shape)
    yield "round_sums", some(2**50, 3, 5, dtype=np.float64), 19, np.zeros((3, 5), np.int64)
    hidden = some(2**31 - 1, 3, 32)
    hidden[0] >>= 20
    yield "norm", hidden, d.epsilon, d.numerator, d.drop, np.zeros((3, 32), np.int32)
    pads, begin, count, room = np.array([0, 6]), 4, 3, 8
    turns = some(2**20, room, 4), some(2**20, room, 4)
    query, keys, values = some(2**22, 2, 4, count, 8), some(2**22, 2, 2, room, 8), some(2**22, 2, 2, room, 8)
    yield "turn", some(2**22, 2, count, 8, 8, dtype=np.int64), begin, pads, *turns, query, keys, values
    yield "attend", query, keys, values, begin, pads, EXP2, np.zeros((2, count, 4, 8), np.int32)
    yield "soften", some(2**40, 4, count, begin + count, dtype=np.float64), begin, 1, EXP2
    yield "settle", some(2**50, 4, 3, 6, dtype=np.float64), np.zeros((3, 4, 6), np.int32)
    yield "gate", some(2**26, 3, 20, dtype=np.int64), SIGMOID, 2**24, np.zeros((3, 10), np.int32)
    yield "add", hidden, some(2**32, 3, 32, dtype=np.int64), np.zeros((3, 32), np.int32)
    stream = some(2**24, 2, count, 32)
    shifts = tuple(matrix.shift for matrix in LAYER_MATRICES)
    parts = tuple(matrix.parts for matrix in matrices)
    constants, where = (d.epsilon, d.numerator, d.drop), (begin, pads, turns, keys, values)
    yield "layer", stream, parts, constants, shifts, *where, (EXP2, SIGMOID), 2**28, np.zeros_like(stream)
    source, columns = some(2**10, 4, 9, dtype=np.float32), random.uniform(0.5, 2, 9)
    found = np.zeros((4, 9), np.int32), np.zeros((4, 9), np.int16), np.zeros(4, np.int32)
    yield "round_rows", source, columns, 99.0, LEAST, MOST, *found, np.zeros(4), np.zeros(4)
    yield "cut_rest", weights.dense(), weights.low, weights.starts, weights.columns * 0, weights.extra * 0
