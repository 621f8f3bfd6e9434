"""The kernel of the lane h100-bf16 in Triton's interpreter, with the block's rule in place of its dot.

The interpreter's own dot is a matrix product of NumPy, which is no tensor core. Here each ``tl.dot`` is what
the instruction is: blocks of 16 in the order of columns, each from the replay's NumPy twin. All else of the
kernel runs as it is written: addresses, masks, tiles, the order of tiles, accumulators that are loaded and
stored. What is not shown is that a GPU's instruction is that rule: that is the self-check's to find.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from otr_node.integers import block_twins
from otr_node.tensor_device import BlockDevice

Rule = Callable[[np.ndarray, np.ndarray, np.ndarray], None]
"""As ``block_twins.project``."""


def triton() -> Any:
    """Triton, or a skipped test: it is no part of the default environment."""
    return pytest.importorskip("triton", reason="Triton is not installed (extra cuda, docs/h100.md)")


@contextmanager
def interpreted(rule: Rule = block_twins.project) -> Iterator[BlockDevice]:
    """The CPU as a device for blocks, with ``rule`` as its instruction."""
    knobs = triton().knobs
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    def dot(self: Any, a: Any, b: Any, d: Any, *_: Any) -> Any:
        out = np.ascontiguousarray(d.data).view(np.uint32).copy()
        assert (a.data.dtype, b.data.dtype) == (np.uint16, np.uint16)
        rule(np.ascontiguousarray(a.data), np.ascontiguousarray(b.data.T), out)
        return TensorHandle(out.view(np.float32), d.dtype.scalar)

    name = "interpreted_block_triton"
    spec = importlib.util.find_spec("otr_node.integers.block_triton")
    assert spec is not None
    assert spec.origin is not None
    own = importlib.util.spec_from_file_location(name, spec.origin)
    assert own is not None
    assert own.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(own)
    interpret, knobs.runtime.interpret = knobs.runtime.interpret, True
    try:
        own.loader.exec_module(module)
    finally:
        knobs.runtime.interpret = interpret
        del sys.modules[name]
    kept, InterpreterBuilder.create_dot = InterpreterBuilder.create_dot, dot
    try:
        yield BlockDevice("cpu", module.project_blocks)
    finally:
        InterpreterBuilder.create_dot = kept
