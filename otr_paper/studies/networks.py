"""Networks of one's own as points of a sweep: a file, and the numbers in it that vary."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

from otr_core.economics.quantities import given
from otr_core.economics.scenarios import parse
from otr_core.errors import InputError, ParameterError
from otr_node.sizing.size import sweep_point
from otr_node.sizing.terms import changed
from otr_paper.studies.sweep import Point

MOST_POINTS = 100_000


def network_point(config: dict[str, Any], seed: int) -> dict[str, Any]:
    """``otr_node.sizing.size.sweep_point`` of ``config["network"]``, the text of a network file, with the
    numbers in ``config["changes"]``. What is without bound comes as the word "inf"."""
    found = sweep_point(parse("network", config["network"]))(config["changes"])
    return {name: value if abs(value) < float("inf") else "inf" for name, value in found.items()}


def network_points(text: str, varied: Sequence[str]) -> list[Point]:
    """A point for each combination of values, each ``varied`` such as ``watch.d=0.5,0.9``.

    Raises:
        InputError: not of that form, too many points. ParameterError: the file is none of a network, or a
            number that it does not have or that, beside the others of a combination, is outside its range.
    """
    base, names, values = parse("network", text), [], []
    for words in varied:
        name, equals, listed = words.partition("=")
        try:
            numbers = [float(word) for word in listed.split(",")]
        except ValueError as error:
            raise InputError(f"--vary: found {words!r}, expected a form such as watch.d=0.5,0.9") from error
        if not equals or name in names or len(set(numbers)) != len(numbers):
            raise InputError(f"--vary: found {words!r}, expected each name and each of its values once")
        for number in numbers:
            if number != number or abs(number) == float("inf"):
                raise ParameterError(name, number, "a finite number")
            given(name, number)
        names.append(name)
        values.append(numbers)
    combinations = 1
    for numbers in values:
        combinations *= len(numbers)
    if combinations > MOST_POINTS:
        raise InputError(f"--vary: found {combinations} points, expected at most {MOST_POINTS}")
    points = [dict(zip(names, each, strict=True)) for each in product(*values)]
    for changes in points:  # together: what is in range alone may not be beside the others
        changed(base, changes)
    return [Point({"network": text, "changes": changes}) for changes in points]
