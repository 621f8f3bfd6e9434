"""Requests: when each arrives and how many tokens it reads and writes; from a public trace, checked
line by line."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from otr_core.errors import ParameterError, TraceError

#: A trace with a hole this long was cut, or is two traces.
LONGEST_GAP_S = 86_400.0
_AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_MOONCAKE = ("timestamp_ms", "input_tokens", "output_tokens")
_PREFIX = ("prefix_blocks", "first_new_block")
BLOCK_TOKENS = 512
"""Tokens of a block of Mooncake's traces: a prompt's beginning is reused block by block."""


@dataclass(frozen=True, eq=False)
class Requests:
    """Arrival times (s, sorted, the first at 0), prompt tokens and answer tokens (1 or more), and
    tokens of the prompt's beginning that an earlier request brought (fewer than the prompt's; none
    where a trace does not say), one entry a request."""

    arrival_s: NDArray[np.float64]
    tokens_in: NDArray[np.int64]
    tokens_out: NDArray[np.int64]
    reused: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        if not len(self.reused):
            object.__setattr__(self, "reused", np.zeros(len(self.arrival_s), np.int64))
        if len(self.arrival_s) < 2:
            raise TraceError("length", 0, f"{len(self.arrival_s)} requests", "two or more")
        if len({len(self.arrival_s), len(self.tokens_in), len(self.tokens_out), len(self.reused)}) > 1:
            raise TraceError("length", 0, "columns of different lengths", "one entry a request in each")
        gaps = np.diff(self.arrival_s)
        bad = np.flatnonzero(~(gaps >= 0) | (gaps >= LONGEST_GAP_S))
        if len(bad):
            name = "gap" if gaps[bad[0]] >= LONGEST_GAP_S else "times"
            raise TraceError(name, int(bad[0]) + 3, f"{gaps[bad[0]]:g} s after the request before", _TIMES[name])
        for tokens in (self.tokens_in, self.tokens_out):
            if (tokens < 1).any():
                line = int(np.flatnonzero(tokens < 1)[0])
                raise TraceError("tokens", line + 2, int(tokens[line]), "one token or more")
        wrong = np.flatnonzero((self.reused < 0) | (self.reused >= self.tokens_in))
        if len(wrong):
            found = f"{self.reused[wrong[0]]} of {self.tokens_in[wrong[0]]} tokens reused"
            raise TraceError("prefix", int(wrong[0]) + 2, found, "fewer than the prompt has")

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def duration_s(self) -> float:
        """From the first arrival to the last."""
        return float(self.arrival_s[-1] - self.arrival_s[0])

    @property
    def rate_per_s(self) -> float:
        """Mean arrival rate."""
        if self.duration_s == 0:
            return math.inf
        return (len(self) - 1) / self.duration_s

    def at_load(self, factor: float) -> Requests:
        """The same requests arriving ``factor`` times as fast."""
        if not 0 < factor < math.inf:
            raise ParameterError("load", factor, "a finite number above 0")
        return replace(self, arrival_s=self.arrival_s / factor)

    @property
    def reused_share(self) -> float:
        """Share of all prompt tokens that an earlier request brought."""
        return float(self.reused.sum() / self.tokens_in.sum())

    def without_reuse(self) -> Requests:
        """The same requests on machines that cache no prefix."""
        return replace(self, reused=np.zeros(len(self), np.int64))


_TIMES = {"gap": f"gaps below {LONGEST_GAP_S:g} s", "times": "finite times in order, none before the one above it"}


def _parse(text: str, columns: Sequence[str], seconds: Callable[[str], float], prefix: Sequence[str] = ()) -> Requests:
    reader = csv.reader(io.StringIO(text))
    header = next(reader, [])
    if missing := [name for name in columns if name not in header]:
        raise TraceError("columns", 1, f"{missing} missing", f"a header with {', '.join(columns)}")
    places = [header.index(name) for name in columns]
    known = [header.index(name) for name in prefix] if all(name in header for name in prefix) else []
    times, tokens_in, tokens_out, reused = [], [], [], []
    for cells in reader:
        if not cells:
            continue
        if len(cells) < len(header):
            raise TraceError("columns", reader.line_num, f"{len(cells)} cells", f"{len(header)}")
        try:
            time, read, written = (cells[place] for place in places)
            times.append(seconds(time))
            tokens_in.append(int(read))
            tokens_out.append(int(written))
            blocks, new = (int(cells[place]) for place in known) if known else (0, 0)
        except ValueError as error:
            raise TraceError("number", reader.line_num, f"{error}", "a time and whole numbers") from error
        if times[-1] < 0:
            raise TraceError("times", reader.line_num, f"{times[-1]:g} s", "a time of zero or more")
        if min(tokens_in[-1], tokens_out[-1]) < 1:
            raise TraceError("tokens", reader.line_num, min(tokens_in[-1], tokens_out[-1]), "one token or more")
        if not 0 <= new <= blocks or (known and blocks != -(-tokens_in[-1] // BLOCK_TOKENS)):
            found = f"{tokens_in[-1]} tokens, {blocks} blocks, the first new one {new}"
            expected = f"blocks of {BLOCK_TOKENS} tokens, and a number of them that are known"
            raise TraceError("prefix", reader.line_num, found, expected)
        # the last token of a prompt is always read: what follows it is computed from it
        reused.append(min(new * BLOCK_TOKENS, tokens_in[-1] - 1))
        if len(times) > 1 and (name := _wrong_gap(times[-1] - times[-2])):
            raise TraceError(name, reader.line_num, f"{times[-1] - times[-2]:g} s", _TIMES[name])
    if len(times) < 2:
        raise TraceError("length", 0, f"{len(times)} requests", "two or more")
    start = times[0]
    counts = (np.array(column, dtype=np.int64) for column in (tokens_in, tokens_out, reused))
    return Requests(np.array(times) - start, *counts)


def _wrong_gap(gap_s: float) -> str:
    if gap_s >= LONGEST_GAP_S:
        return "gap"
    return "" if gap_s >= 0 else "times"


def _azure_seconds(text: str) -> float:
    # seven digits behind the point: more than datetime reads
    whole, _, part = text.partition(".")
    moment = datetime.fromisoformat(whole)
    return (moment - datetime(2023, 1, 1)).total_seconds() + (float(f"0.{part}") if part else 0.0)


def parse_azure(text: str) -> Requests:
    """A trace of the Azure LLM inference data set 2023: TIMESTAMP, ContextTokens, GeneratedTokens.

    Raises:
        TraceError: a missing column, a cell that is no number, times out of order, no tokens, or a
            gap of a day.
    """
    return _parse(text, _AZURE, _azure_seconds)


def parse_mooncake(text: str) -> Requests:
    """A Mooncake trace as CSV: timestamp_ms, input_tokens, output_tokens, and, where it has them,
    prefix_blocks and first_new_block, which say how much of a prompt earlier ones began with.

    Raises as ``parse_azure``, and where the blocks do not cover the prompt.
    """
    return _parse(text, _MOONCAKE, lambda cell: int(cell) / 1000.0, _PREFIX)
