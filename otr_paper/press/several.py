"""Several notebooks at a time, each run in a process of its own: a run changes its process's environment."""

from __future__ import annotations

import logging
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from otr_core.errors import NotebookError, OtrError
from otr_node.children import die_with_parent
from otr_paper.press.runner import Usage, run_notebook

MOST = 4
"""At once, on a machine of any size: a notebook takes up to 3 GB."""


@dataclass(frozen=True)
class NotebookRun:
    """What ``run_notebook`` takes."""

    source: Path
    target: Path
    figures: Path
    parameters: Mapping[str, Any]


def at_a_time() -> int:
    """How many notebooks this machine runs at a time: as many as this process may use processors, ``MOST`` at most."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, MOST)


def run_several(
    runs: Sequence[NotebookRun], most: int, *, begun: Callable[[int], None], go_on: bool
) -> Iterator[tuple[int, Usage | NotebookError]]:
    """Run notebooks, ``most`` at a time.

    Args:
        begun: is told the number of each as it begins. go_on: whether others begin after one has failed; those
            that run then end in any case.

    Yields:
        the number of each, in the order in which they end, and what it took or in what it failed.
    """
    waiting, running = deque(enumerate(runs)), dict[Future[Usage | NotebookError], int]()
    with ProcessPoolExecutor(most, mp_context=get_context("spawn"), initializer=_become_child) as pool:
        while waiting or running:
            while waiting and len(running) < most:
                number, run = waiting.popleft()
                begun(number)
                with _hearing(signal.SIG_IGN):  # a worker that the pool starts now is so from its first moment
                    running[pool.submit(_run, run)] = number
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                number, ended = running.pop(future), future.result()
                if isinstance(ended, NotebookError) and not go_on:
                    waiting.clear()
                yield number, ended


@contextmanager
def _hearing(how: Any) -> Iterator[None]:
    """What this process does at an interrupt within the block, and a child that is started there if it is nothing."""
    before = signal.signal(signal.SIGINT, how)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _become_child() -> None:
    die_with_parent()
    logging.disable(logging.CRITICAL)  # what fails is told as an error, and once


def _run(run: NotebookRun) -> Usage | NotebookError:
    with _hearing(signal.default_int_handler):
        try:
            return run_notebook(run.source, run.target, run.figures, run.parameters)
        except OtrError as error:
            return NotebookError(str(error))
