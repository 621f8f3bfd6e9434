"""Compilation of kernels, with a cache where one can be kept."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.compiler_lock import global_compiler_lock

Loop = TypeVar("Loop", bound=Callable[..., Any])


def compiled(loop: Loop) -> Loop:
    """``loop`` compiled at its first call, running without the interpreter's lock.

    The machine code is kept beside the module or in the user's cache folder, so that a second
    process pays no compilation; one that begins meanwhile waits for it. Where neither is writable,
    numba refuses to make a cache at all; the loop is then compiled in every process.
    """
    try:
        made = numba.njit(nogil=True, cache=True)(loop)
    except RuntimeError:
        return cast(Loop, numba.njit(nogil=True)(loop))
    if made is not loop:  # numba hands the function back where it is told not to compile
        _one_process_at_a_time(made)
    return cast(Loop, made)


def _one_process_at_a_time(made: Any) -> None:
    """Let only one process at a time look for ``made`` in the cache, and compile it where it is not there.

    Each loop has a lock of its own, so that two processes that need the same loops in one order share
    the work. A loop takes the locks of the loops that it calls, and none calls itself, so no two
    processes wait for each other. Numba's lock between threads comes first, since that is the order in
    which a loop meets the locks of those that it calls.
    """
    plain, folder = made.compile, Path(made.stats.cache_path)
    lock = folder / f".{made.__module__}.{made.__qualname__}.lock"

    def compile_alone(signature: Any) -> Any:
        with global_compiler_lock, _held(lock):
            return plain(signature)

    made.compile = compile_alone


@contextlib.contextmanager
def _held(lock: Path) -> Iterator[None]:
    """Hold a lock file; where none can be made or locked, go on without: machine code is then made twice."""
    try:
        file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError:
        yield
        return
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
