"""Compilation of kernels, with a cache where one can be kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Loop = TypeVar("Loop", bound=Callable[..., Any])


def compiled(loop: Loop) -> Loop:
    """``loop`` compiled at its first call, running without the interpreter's lock.

    The machine code is kept beside the module or in the user's cache folder, so that a second
    process pays no compilation. Where neither is writable, numba refuses to make a cache at all;
    the loop is then compiled in every process.
    """
    try:
        return cast(Loop, numba.njit(nogil=True, cache=True)(loop))
    except RuntimeError:
        return cast(Loop, numba.njit(nogil=True)(loop))
