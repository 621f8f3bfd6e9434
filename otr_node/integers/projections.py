"""Whole projections replayed as blocks of a tensor core: on any processor the bits that the definition
gives (``otr_core.lane.blocks``), whatever runs beside them."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from otr_core.errors import InputError
from otr_node.integers import block_twins
from otr_node.integers.block_twins import TERMS

Words = NDArray[np.uint16]


def replay_projection(x: Words, w: Words, *, threads: int = 1, loops: ModuleType | None = None) -> NDArray[np.uint32]:
    """x · wᵀ: each element the blocks of 16 of its row in the order of columns, one accumulator that
    starts at +0, zeros after the last column.

    Args:
        x: bf16 words, (tokens, columns). w: (rows, columns). threads: that share the rows.
        loops: ``block_kernels`` or ``block_twins``; by default whichever runs here.

    Returns:
        Fp32 words, (tokens, rows). No bit depends on threads, loops, or the other tokens.

    Raises:
        InputError: other types or shapes, or no thread.
    """
    for name, array in (("x", x), ("w", w)):
        if array.dtype != np.uint16 or array.ndim != 2:
            raise InputError(f"{name}: found {array.dtype} of {array.ndim} dimensions, expected uint16 of 2")
    if x.shape[1] != w.shape[1]:
        raise InputError(f"columns: found {x.shape[1]} and {w.shape[1]}, expected as many")
    if threads < 1:
        raise InputError(f"threads: found {threads}, expected 1 or more")
    kernel = (loops or block_loops()).project
    x, w = _whole_blocks(x), _whole_blocks(w)

    def some_rows(own: Words) -> NDArray[np.uint32]:
        out = np.zeros((len(x), len(own)), np.uint32)
        kernel(x, own, out)
        return out

    if threads == 1:
        return some_rows(w)
    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate(list(pool.map(some_rows, np.array_split(w, threads))), axis=1)


def _whole_blocks(words: Words) -> Words:
    """As many columns as blocks hold, zeros at the end."""
    missing = -words.shape[1] % TERMS
    return np.pad(words, ((0, 0), (0, missing))) if missing else np.ascontiguousarray(words)


@functools.cache
def block_loops() -> ModuleType:
    """``block_kernels`` where they compile and give what the twins give; else ``block_twins``."""
    try:
        import numba

        from otr_node.integers import block_kernels

        if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
            return block_twins
        random = np.random.default_rng(1)
        x, w = (random.integers(0, 2**16, (count, 8 * TERMS)).astype(np.uint16) for count in (3, 40))
        w[8:] &= 0xBFFF  # no infinities there, and products of every size
        x[1] &= 0xBFFF
        x[2] = x[2] & 0x80FF | 0x3E00
        compiled, plain = (replay_projection(x, w, loops=loops) for loops in (block_kernels, block_twins))
        return block_kernels if np.array_equal(compiled, plain) else block_twins
    except Exception:  # whatever a compiler fails with here, the twins do not need it
        return block_twins
