"""What a real H100 computed, against the definition of its blocks (``otr_core.lane.blocks``).

The recordings are random dot products of numbers around 1: they fix how many bits are kept and how
the last rounding goes, and say nothing of subnormals, infinities and NaNs.
"""

from __future__ import annotations

import functools
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from otr_core.errors import DataError
from otr_core.lane.blocks import FP32, INSTRUCTIONS, FloatFormat, Instruction, block, parts, round_to

RECORDINGS = ("h100-mma-vectors", "h100_mma_vectors.tar.gz")
"""Source and file in data/sources.toml."""
RECORDED = 5000
"""Dot products in every recording."""
HELD_BACK = 1000
"""The last of each recording: nobody looked at them until the definition stood."""
_FOLDERS = {
    "bf16": ("bf16", "fp32", True),
    "fp16": ("fp16", "fp32", True),
    "fp16 to fp16": ("fp16", "fp16", True),
    "tf32": ("tf32", "fp32", True),
    "E4M3": ("E4M3", "fp32", False),
    "E5M2": ("E5M2", "fp32", False),
}
"""Of each instruction: folder of its recording, format of the results, and whether these contain the recorded
accumulator; those of FP8 are products from 0 on (taken with it, none agrees)."""


@dataclass(frozen=True)
class RecordedBlock:
    """One recorded dot product, as words: factors ``a`` and ``b``, accumulator, and the chip's
    result."""

    a: tuple[int, ...]
    b: tuple[int, ...]
    c: int
    result: int


def recordings(archive: Path, name: str) -> list[RecordedBlock]:
    """What an H100 made of blocks of instruction ``name``.

    Raises:
        DataError: the archive holds something else.
    """
    folder, results, accumulated = _FOLDERS[name]
    instruction = INSTRUCTIONS[name]
    form = instruction.result
    with tarfile.open(archive) as files:

        def lines(part: str, form: str) -> list[str]:
            member = files.extractfile(f"model_validation/H100/{folder}/{part}_H100_{form}.txt")
            return member.read().decode("ascii").splitlines() if member else []

        try:
            rows = zip(lines("a", folder), lines("b", folder), lines("c", "fp32"), lines("d", results), strict=True)
            found = []
            for a, b, c, d in rows:
                accumulator = _word(form, int(c, 2)) if accumulated else 0
                found.append(RecordedBlock(*_read(instruction, a, b), accumulator, _exact(form, int(d, 2))))
        except (KeyError, ValueError) as error:
            raise DataError(f"{archive.name}: not the recordings of {name} ({error!r})") from error
    if len(found) != RECORDED:
        raise DataError(f"{archive.name}, {name}: found {len(found)} dot products, expected {RECORDED}")
    return found


def _read(instruction: Instruction, a: str, b: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Both rows of factors, each number written as a fp32 word; zeros after the last, where the
    recording fills only a part of a block."""
    rows = ([_exact(instruction.operand, int(number, 16)) for number in row.split()] for row in (a, b))
    x, y = (tuple(row + [0] * (instruction.terms - len(row))) for row in rows)
    return x, y


def _word(form: FloatFormat, fp32: int) -> int:
    """The word nearest to a fp32 word; accumulators of fp16 are recorded before they are rounded."""
    x = parts(FP32, fp32)
    return round_to(form, x.sign * x.significand, x.exponent - FP32.fraction_bits)


@functools.cache
def _exact(form: FloatFormat, fp32: int) -> int:
    """The word of a number that the format holds.

    Raises:
        ValueError: it does not.
    """
    # E4M3's highest exponent holds numbers, which the recordings leave out.
    word, x = _word(form, fp32), parts(FP32, fp32)
    y = parts(form, word)
    scale = FP32.fraction_bits - form.fraction_bits - x.exponent + y.exponent
    if not y.finite or x.sign * x.significand != y.sign * y.significand * 2**scale:
        raise ValueError(f"found fp32 {fp32:08x}, expected a number of {form}")
    return word


Rule = Callable[[Sequence[int], Sequence[int], int], int]
"""(a, b, accumulator) → result, as words."""


def agreeing(records: Sequence[RecordedBlock], rule: Rule) -> int:
    """How many recorded results a rule gives."""
    return sum(rule(record.a, record.b, record.c) == record.result for record in records)


def rules() -> dict[str, Rule]:
    """The rule of each instruction, by its name."""
    return {name: functools.partial(block, instruction) for name, instruction in INSTRUCTIONS.items()}


def controls() -> dict[str, tuple[str, Rule]]:
    """Rules that are near the right ones and must fail: name → (instruction, rule)."""
    bf16, e4m3, e5m2 = INSTRUCTIONS["bf16"], INSTRUCTIONS["E4M3"], INSTRUCTIONS["E5M2"]
    half = replace(bf16, terms=bf16.terms // 2)

    def halves(a: Sequence[int], b: Sequence[int], c: int) -> int:
        return block(half, a[half.terms :], b[half.terms :], block(half, a[: half.terms], b[: half.terms], c))

    found: dict[str, tuple[str, Rule]] = {
        "bf16, 24 bits": ("bf16", functools.partial(block, replace(bf16, fraction=24)))
    }
    found["bf16, two halves of 8"] = ("bf16", halves)
    for name, right in (("E4M3", e4m3), ("E5M2", e5m2)):
        wider, longer = replace(right, fraction=25), replace(right, kept=23)
        found[f"{name}, 25 bits"] = (name, functools.partial(block, wider))
        found[f"{name}, result of 23 bits"] = (name, functools.partial(block, longer))
        found[f"{name}, 25 bits, result of 23"] = (name, functools.partial(block, replace(wider, kept=23)))
    return found


def agree_with_recordings(archive: Path) -> dict[str, Any]:
    """Of each instruction, and of each rule beside it, how many recorded results it gives.

    Returns:
        JSON values. known: by instruction, of those that the definition was written with. held_back:
        of the others. controls: by rule, of all. least_field, most_field: of the exponents of bf16
        factors, as they are stored: how little of their range is recorded.
    """
    records = {name: recordings(archive, name) for name in INSTRUCTIONS}
    fields = [word >> 7 & 255 for record in records["bf16"] for word in (*record.a, *record.b)]
    return {
        "recorded": RECORDED,
        "known": {name: agreeing(records[name][:-HELD_BACK], rule) for name, rule in rules().items()},
        "held_back": {name: agreeing(records[name][-HELD_BACK:], rule) for name, rule in rules().items()},
        "controls": {name: agreeing(records[of], rule) for name, (of, rule) in controls().items()},
        "least_field": min(fields),
        "most_field": max(fields),
    }
