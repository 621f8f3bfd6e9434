"""Calibrated tolerance: how far inside the IEEE bound honest runs stay, what narrowing it to that
risks and catches.

Every honest check gives one number, the worst error of its elements over the IEEE bound. A rule
accepts up to an *envelope*: a quantile of those numbers on calibration runs, or ``MARGIN`` times
the largest. What it risks is counted on runs of other prompts: with x violations in n checks the
false-slash probability of a check is, at 95 % confidence, at most the Clopper-Pearson limit (3 / n
for x = 0). That limit assumes independent checks, and that a disputed check is drawn as the counted
ones were; for a challenger who picks the worst of an answer's checks, runs of whole answers are
what must be counted (same function).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from otr_core.errors import ParameterError
from otr_paper.labs.tolerance.tolerance import Format, Reference

MARGIN = 2.0
"""The calibrated rule's envelope over the largest honest ratio seen; fixed before anything was
measured."""
QUANTILES = {"90 %": 0.9, "99 %": 0.99, "99.9 %": 0.999, "largest": 1.0}
SIZES = tuple(2.0 ** (half / 2) for half in range(-52, 9))
"""Perturbations tried, over the output's root mean square: 2^-26 to 2^4 in half octaves."""


def envelopes(ratios: np.ndarray, margin: float = MARGIN) -> dict[str, float]:
    """Envelope of each rule, from the honest ratios of one operator: quantiles, "calibrated", and
    "IEEE" (1).

    Raises:
        ParameterError: no ratios, or one outside [0, 1]: then the run broke the bound's
            assumptions.
    """
    if not len(ratios) or not 0 <= ratios.min() <= ratios.max() <= 1:
        raise ParameterError("ratios", f"{len(ratios)} up to {max(ratios, default=0)}", "some, all within 0 and 1")
    found = {name: float(np.quantile(ratios, q, method="higher")) for name, q in QUANTILES.items()}
    return {**found, "calibrated": min(1.0, margin * float(ratios.max())), "IEEE": 1.0}


CONFIDENCE = 0.95
"""Of the limits that are stated for a probability."""


def false_slash_limit(violations: int, checks: int, confidence: float = CONFIDENCE) -> float:
    """Upper Clopper-Pearson limit of a probability after ``violations`` in ``checks`` independent
    trials.

    Raises:
        ParameterError: more violations than checks, no checks, or a confidence outside (0, 1).
    """
    if not 0 <= violations <= checks or checks < 1:
        raise ParameterError("violations", f"{violations} of {checks}", "0 to the number of checks, at least one check")
    if not 0 < confidence < 1:
        raise ParameterError("confidence", confidence, "between 0 and 1")
    if violations == checks:
        return 1.0
    if violations == 0:
        return float(1 - (1 - confidence) ** (1 / checks))
    from scipy.stats import beta

    return float(beta.ppf(confidence, violations + 1, checks - violations))


def left_out(maxima: Mapping[str, Sequence[float]], margin: float) -> dict[str, int]:
    """Per group: how many of its ratios exceed ``margin`` times the largest of all *other* groups
    (capped at 1).

    Args:
        maxima: group (an instruction set, a schedule, …) -> honest ratios of one operator. At least
            two groups.
    """
    counts = {}
    for group, values in maxima.items():
        limit = min(1.0, margin * max(max(others) for name, others in maxima.items() if name != group))
        counts[group] = int(np.sum(np.asarray(values) > limit))
    return counts


def perturbed_ratios(
    reference: Reference,
    claimed: np.ndarray,
    fmt: Format,
    rng: np.random.Generator,
    sizes: Sequence[float] = SIZES,
) -> tuple[np.ndarray, np.ndarray]:
    """Each row cheated by each size: one random element moved, or all moved by normal noise; then
    stored again.

    Sizes are over the root mean square of the row.

    Returns:
        worst ratios, each (sizes, rows): of the moved element's row, and of the noisy row.
    """
    rows, width = claimed.shape
    rms = np.sqrt(np.mean(claimed * claimed, -1))
    at, pick = np.arange(rows), rng.integers(0, width, rows)
    sign, noise = rng.choice([-1.0, 1.0], rows), rng.standard_normal(claimed.shape)
    honest = reference.ratios(claimed)
    honest[at, pick] = 0
    rest = honest.max(-1)
    value, bound = reference.value[at, pick], reference.bound[at, pick]
    single, whole = np.empty((len(sizes), rows)), np.empty((len(sizes), rows))
    for number, size in enumerate(sizes):
        moved = fmt.round(claimed[at, pick] + sign * size * rms)
        single[number] = np.maximum(rest, np.abs(moved - value) / bound)
        whole[number] = reference.ratios(fmt.round(claimed + size * rms[:, None] * noise)).max(-1)
    return single, whole


def smallest_caught(ratios: np.ndarray, envelope: float, share: float, sizes: Sequence[float] = SIZES) -> float | None:
    """The least size from which on at least ``share`` of the trials are caught; None: not even the
    largest.

    Args:
        ratios: (sizes, trials) of ``perturbed_ratios``. share: 1 for every trial, 0.5 for the
            median.
    """
    enough = np.mean(ratios > envelope, 1) >= share
    missed = np.flatnonzero(~enough)
    first = int(missed[-1]) + 1 if len(missed) else 0
    return None if first == len(sizes) else float(sizes[first])
