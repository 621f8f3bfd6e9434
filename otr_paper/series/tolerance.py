"""Plain rows of the stored tolerance measurement (``data/results/tolerance.json``), for figures and tables."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from otr_paper.labs.tolerance.calibration import false_slash_limit

Records = list[dict[str, Any]]


def tradeoff(result: Mapping[str, Any]) -> Records:
    """Per lane, operator and rule: what it risks and the smallest cheat it catches.

    Returns:
        lane, operator, rule, envelope (share of the IEEE bound), checks and violations (held-out prompts), false_slash
        (a check's probability: 0 by proof where the whole IEEE bound is allowed, else the limit at 95 % confidence),
        and the smallest perturbation over the output's root mean square that is caught in every trial and in half of
        them, of one element and of the whole output (None: not even the largest tried; the smallest tried is 2^-26).
    """
    rows = []
    for lane, found in result["lanes"].items():
        for name, operator in found["operators"].items():
            for rule, envelope in operator["envelopes"].items():
                violations, checks = operator["held_out_violations"][rule], operator["held_out_checks"]
                sizes = {kind: found["sizes"][name][kind][rule] for kind in ("element", "output")}
                rows.append(
                    {
                        "lane": lane,
                        "operator": name,
                        "rule": rule,
                        "envelope": envelope,
                        "checks": checks,
                        "violations": violations,
                        "false_slash": 0.0 if envelope == 1 else false_slash_limit(violations, checks),
                        "element_every": sizes["element"]["every"],
                        "element_half": sizes["element"]["half"],
                        "output_every": sizes["output"]["every"],
                        "output_half": sizes["output"]["half"],
                    }
                )
    return rows


def cheats(result: Mapping[str, Any]) -> Records:
    """Per lane, cheat, operator and rule: caught and trials (a trial is one position of one layer)."""
    return [{"lane": lane, **row} for lane, found in result["lanes"].items() for row in found["cheats"]]


def pushes(result: Mapping[str, Any]) -> Records:
    """Every attack of the bound-aware adversary: lane, rule, position, gap, drift, largest_logit (logits), flipped."""
    return [{"lane": lane, **row} for lane, found in result["lanes"].items() for row in found["adversary"]]


def adversary(result: Mapping[str, Any]) -> Records:
    """Per lane, rule and kind of position: how far an adversary inside every bound moves the choice of a token.

    Returns:
        lane, rule, position ("closest" calls of each answer or "random" ones), attacks, flipped (counts), and logits:
        median and largest drift of the gap to the runner-up, median honest gap.
    """
    rows = []
    for lane in result["lanes"]:
        for rule in ("IEEE", "calibrated"):
            for position in ("closest", "random"):
                wanted = (lane, rule, position)
                attacks = [a for a in pushes(result) if (a["lane"], a["rule"], a["position"]) == wanted]
                drifts = [a["drift"] for a in attacks]
                rows.append(
                    {
                        "lane": lane,
                        "rule": rule,
                        "position": position,
                        "attacks": len(attacks),
                        "flipped": sum(a["flipped"] for a in attacks),
                        "median_drift": median(drifts),
                        "largest_drift": max(drifts),
                        "median_gap": median(a["gap"] for a in attacks),
                    }
                )
    return rows
