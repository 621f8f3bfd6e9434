"""Plain rows of the stored tolerance measurement (``data/results/tolerance.json``), for figures and
tables."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from math import inf
from statistics import median
from typing import Any

from otr_paper.labs.tolerance.calibration import false_slash_limit
from otr_paper.store.records import Records, records


def tradeoff(result: Mapping[str, Any]) -> Records:
    """Per lane, operator and rule: what it risks and the smallest cheat it catches.

    Returns:
        lane, operator, rule, envelope (share of the IEEE bound), checks and violations (held-out
        prompts), false_slash (a check's probability: 0 by proof where the whole IEEE bound is
        allowed, else the limit at 95 % confidence), and the smallest perturbation over the output's
        root mean square that is caught in every trial and in half of them, of one element and of
        the whole output (None: not even the largest tried; the smallest tried is 2^-26).
    """
    rows = []
    for lane, found in result["lanes"].items():
        for name, operator in found["operators"].items():
            for rule, envelope in operator["envelopes"].items():
                violations, checks = operator["held_out_violations"][rule], operator["held_out_checks"]
                slashed = 0.0 if envelope == 1 else false_slash_limit(violations, checks)
                sizes = [
                    found["sizes"][name][kind][rule][caught]
                    for kind in ("element", "output")
                    for caught in ("every", "half")
                ]
                rows.append((lane, name, rule, envelope, checks, violations, slashed, *sizes))
    head = "lane, operator, rule, envelope, checks, violations, false_slash"
    return records(f"{head}, element_every, element_half, output_every, output_half", rows)


def caught_by_seed(result: Mapping[str, Any]) -> Records:
    """Per lane and seed of the perturbations: the smallest change of one element, over its output's root mean square,
    that the calibrated rule catches in every trial whatever the operator (infinity: not even the largest tried)."""
    rows = []
    for lane, found in result["lanes"].items():
        for drawn in found.get("sizes_by_seed", ()):  # none where one seed alone was drawn
            least = [sizes["element"]["calibrated"]["every"] for sizes in drawn["sizes"].values()]
            rows.append((lane, drawn["seed"], max(inf if size is None else size for size in least)))
    return records("lane, seed, element_every", rows)


def cheats(result: Mapping[str, Any]) -> Records:
    """Per lane, cheat, operator and rule: caught and trials (a trial is one position of one
    layer)."""
    return [{"lane": lane, **row} for lane, found in result["lanes"].items() for row in found["cheats"]]


def pushes(result: Mapping[str, Any]) -> Records:
    """Every attack of the bound-aware adversary: lane, rule, position, gap, drift, largest_logit
    (logits), flipped."""
    return [{"lane": lane, **row} for lane, found in result["lanes"].items() for row in found["adversary"]]


def adversary(result: Mapping[str, Any]) -> Records:
    """Per lane, rule and kind of position: how far an adversary inside every bound moves the choice
    of a token.

    Returns:
        lane, rule, position ("closest" calls of each answer or "random" ones), attacks, flipped
        (counts), and logits: median and largest drift of the gap to the runner-up, median honest
        gap.
    """
    rows = []
    for lane, rule, position in product(result["lanes"], ("IEEE", "calibrated"), ("closest", "random")):
        attacks = [a for a in pushes(result) if (a["lane"], a["rule"], a["position"]) == (lane, rule, position)]
        drifts, flipped = [a["drift"] for a in attacks], sum(a["flipped"] for a in attacks)
        gap = median(a["gap"] for a in attacks)
        rows.append((lane, rule, position, len(attacks), flipped, median(drifts), max(drifts), gap))
    return records("lane, rule, position, attacks, flipped, median_drift, largest_drift, median_gap", rows)
