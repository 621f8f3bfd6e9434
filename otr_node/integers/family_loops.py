"""In which form the operations that families add run here: as ``forms`` decides, once they are
needed."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from otr_node.integers import family_twins
from otr_node.integers.forms import EXP2, SIGMOID, Form


def family_loops(form: Form) -> ModuleType:
    """``family_kernels`` beside compiled loops, if they give what the twins give; else the twins."""
    return _tested_kernels() if form.compiled else family_twins


@functools.cache
def _tested_kernels() -> ModuleType:
    try:
        from otr_node.integers import family_kernels

        return family_kernels if _agree(family_kernels) else family_twins
    except Exception:  # whatever a compiler fails with here, the twins do not need it
        return family_twins


def _agree(kernels: ModuleType) -> bool:
    for name, *arguments in family_trials(np.random.default_rng(3)):
        given = [copy.deepcopy(arguments) for _ in range(2)]
        for loops, own in zip((kernels, family_twins), given, strict=True):
            getattr(loops, name)(*own)
        if not np.array_equal(given[0][-1], given[1][-1]):
            return False
    return True


def family_trials(random: np.random.Generator) -> Iterator[tuple[Any, ...]]:
    """Calls of every kernel, on values of every size: its name and arguments, of which it writes the
    last."""

    def some(most: int, *shape: int, dtype: Any = np.int32) -> np.ndarray:
        sizes = most * 2.0 ** -random.integers(0, 24, shape)
        return np.clip(np.rint(sizes * random.uniform(-1, 1, shape)), -most, most).astype(dtype)

    yield "weigh", some(2**25, 3, 16), some(2**20, 16), 19, np.zeros((3, 16), np.int64)
    gates = some(2**26, 6, 40, dtype=np.int64)
    gates[0] = some(2**31 - 1, 40, dtype=np.int64)
    yield "gelu", gates, SIGMOID, 2**24, np.zeros((6, 20), np.int32)
    for most in (1, 30 << 16, 2**36):
        yield "cap", some(2**51, 4, 64, dtype=np.int64), most, SIGMOID, np.zeros((4, 64), np.int64)
    query, keys, values = some(2**22, 2, 4, 3, 8), some(2**22, 2, 2, 12, 8), some(2**22, 2, 2, 12, 8)
    for window, most in ((0, 2**34), (1, 0), (3, 0), (3, 2**30), (99, 2**34)):
        extent = (6, np.array([0, 4]), window, most)
        yield "attend_within", query, keys, values, *extent, EXP2, SIGMOID, np.zeros((2, 3, 4, 8), np.int32)
