"""Blocks of tensor cores (``otr_core.lane.blocks``) on an H100: a kernel in Triton's language, and what it is
compiled to.

The instruction that is meant is ``mma.sync`` of 16 products, bf16 to fp32. Triton chooses instructions by
itself; ``instructions`` reads them from the compiled code, which takes no GPU, and whoever opens a device
refuses others. Beside it the kernel has no step in floating point: there is nothing to fuse and no order
but that of the blocks. On an H100 it gave the replay's bits (``otr_paper.producers.h100``); the tests run it in
Triton's interpreter.
"""

# Triton reads types of arguments from what is passed; mypy knows no kernel.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, allow-incomplete-defs
from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from otr_core.errors import HardwareError

INSTRUCTION = "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"
"""16 products of bf16 to each of 16 by 8 accumulators of fp32."""
OPTIONS = {"num_warps": 4, "num_stages": 3, "enable_fp_fusion": False}
FEW, MANY = (16, 32, 128), (32, 64, 64)
"""Tokens, rows and columns of a tile, for up to 16 tokens and for more. From 64 tokens on Triton would take
``wgmma``. No tile divides a row's columns among accumulators."""
_POINTERS = {"x": "*bf16", "w": "*bf16", "out": "*fp32"}


@triton.jit
def blocks_kernel(
    x, w, out, tokens, rows, columns, x_batch, x_token, w_batch, w_row,
    TOKENS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """One tile of ``project_blocks``. Arguments with a low line in their names are strides."""
    batch = tl.program_id(2).to(tl.int64)
    token = tl.program_id(1) * TOKENS + tl.arange(0, TOKENS).to(tl.int64)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS).to(tl.int64)
    place = out + (batch * tokens + token[:, None]) * rows + row[None, :]
    inside = (token[:, None] < tokens) & (row[None, :] < rows)
    total = tl.load(place, mask=inside, other=0.0)
    for first in range(0, columns, COLUMNS):
        column = first + tl.arange(0, COLUMNS).to(tl.int64)
        left = tl.load(
            x + batch * x_batch + token[:, None] * x_token + column[None, :],
            mask=(token[:, None] < tokens) & (column[None, :] < columns),
            other=0.0,
        )
        right = tl.load(
            w + batch * w_batch + row[None, :] * w_row + column[:, None],
            mask=(row[None, :] < rows) & (column[:, None] < columns),
            other=0.0,
        )
        total = tl.dot(left, right, total)
    tl.store(place, total, mask=inside)


def project_blocks(x: Tensor, w: Tensor, out: Tensor) -> None:
    """x · wᵀ of each of a batch, as ``block_twins.project`` computes it; zeros after the last column.

    Args:
        x: bfloat16, (batch, tokens, columns). w: bfloat16, (batch, rows, columns). The columns of both lie
            side by side.
        out: float32, (batch, tokens, rows), without gaps: the accumulators to start from, and the results.

    Raises:
        HardwareError: the kernel was compiled to other instructions.
    """
    batch, tokens, columns = x.shape
    rows = w.shape[1]
    tile = FEW if tokens <= FEW[0] else MANY
    grid = (-(-rows // tile[1]), -(-tokens // tile[0]), batch)
    strides = *x.stride()[:2], *w.stride()[:2]
    made = blocks_kernel[grid](x, w, out, tokens, rows, columns, *strides, *tile, **OPTIONS)
    # None of Triton's interpreter; else what was launched, compiled once for each alignment of its arguments.
    if made is not None and made.hash not in _READ:
        check_instructions(instructions(made.asm["ptx"]))
        _READ.add(made.hash)


_READ: set[str] = set()
"""What was compiled, and found to have the one instruction."""


def compiled_code(tile: tuple[int, int, int]) -> str:
    """What the kernel of a tile is compiled to for sm_90, as PTX; needs no GPU."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = blocks_kernel.arg_names
    types = {name: _POINTERS.get(name, "i64" if "_" in name else "i32") for name in names[:-3]}
    types |= dict.fromkeys(names[-3:], "constexpr")
    constants: dict[Any, int] = {(len(names) - 3 + place,): size for place, size in enumerate(tile)}
    source = ASTSource(blocks_kernel, types, constexprs=constants)
    made: str = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=OPTIONS).asm["ptx"]
    return made


def instructions(ptx: str) -> Counter[str]:
    """The instructions of compiled code that compute in floating point, and how many of each."""
    found = re.findall(r"^\s*(?:@!?%\S+\s+)?([a-z]\w*(?:\.\w+)*)\s[^;]*;", ptx, re.MULTILINE)
    moves = ("ld.", "st.", "mov.", "cp.", "selp.", "setp.", "ldmatrix.", "stmatrix.", "cvt.u", "cvt.s", "cvta.")
    return Counter(
        name
        for name in found
        if re.search(r"mma|\.(f|bf|tf|e)\d+", name) and not name.startswith(moves)
    )  # fmt: skip


def check_instructions(found: Mapping[str, int]) -> None:
    """
    Raises:
        HardwareError: something else than ``INSTRUCTION`` computes in floating point, or nothing does.
    """
    if set(found) != {INSTRUCTION}:
        others = ", ".join(sorted(set(found) - {INSTRUCTION})) or "none"
        raise HardwareError(f"instructions of the compiled kernel: found {others}, expected {INSTRUCTION} alone")
