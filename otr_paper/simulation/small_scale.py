"""The simulation against the measured small run: 32 questions answered one at a time by SmolLM2 on
one CPU core.

The machine's law comes from other runs of the same lane on the same kind of machine
(``portable_lane``, ``trace_cost``), signing and checking from ``native_run``, gas of a move from
the disputes of notebook 03 and proof seconds from the fitted circuits. Nothing compared here was
fitted to the run that it is compared with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from statistics import mean
from typing import Any

import numpy as np

from otr_core.dispute.profile import own_profile
from otr_core.errors import DataError
from otr_paper.claims.published import smollm2
from otr_paper.simulation import inputs, run
from otr_paper.simulation.arrivals import Requests
from otr_paper.simulation.law import StepLaw
from otr_paper.simulation.systems import bare_system

LANE = "portable-1"
PREFILL_TOKENS = 256
"""Length of the prompt that ``portable_lane`` times, and divides its time by."""
GAP_S = 60.0
"""Between arrivals: far more than an answer takes, so nobody waits."""
SHAPES = {"gate": (8, 576), "down": (3, 1536)}
"""Operator -> rows and columns of the unit drawn in the run's two spot checks."""
#: Stored runs read here, beside ``inputs.RUNS``.
RUNS = ("four_systems", "portable_lane")


def step_law(portable_lane: Mapping[str, Any], trace_cost: Mapping[str, Any]) -> StepLaw:
    """The law of one CPU core at batch one: a token's step with its trace, and a prompt of
    ``PREFILL_TOKENS`` in one.

    Raises:
        DataError: a run lacks the lane or a number of it.
    """
    try:
        (lane,) = [row for row in portable_lane["cost"] if row["lane"] == LANE]
        (cost,) = [row for row in trace_cost["rows"] if row["lane"] == LANE]
        trace_s = cost["trace_cpu_ms"] / 1000.0
        step_s = cost["decode_cpu_ms"] / 1000.0 + trace_s
        token_s = lane["prefill_cpu_ms_per_token"] / 1000.0 + trace_s
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"stored runs: {error!r}, expected one row of {LANE} with decoding, prompt and trace"
        ) from error
    # the law's first step is a token's step and its prompt; the run timed both together
    return StepLaw(step_s, 0.0, 0.0, token_s - step_s / PREFILL_TOKENS, 0.0, 1e6, 1)


def comparison(measured: inputs.Measurements, runs: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Records of quantity, unit, predicted, measured, error (predicted over measured, less one),
    worst (largest error of one query either way; None where there is one value) and kind of
    prediction.

    A dispute is predicted as the simulation takes every dispute: as the mean one about a value of a
    layer, so that one about a token of the answer, which is shorter, is overpredicted.

    Args:
        runs: payloads of ``RUNS`` and of ``inputs.RUNS``, by name.

    Raises:
        DataError: a run lacks what is read from it.
    """
    try:
        return _latencies(measured, runs) + _disputes(measured, runs) + _proofs(runs)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"stored runs: {error!r} missing, expected the four systems' rows, disputes, proofs") from error


def _latencies(measured: inputs.Measurements, runs: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    rows = runs["four_systems"]["rows"]
    requests = Requests(
        np.array([GAP_S * number for number in range(len(rows))]),
        np.array([row["prompt_tokens"] for row in rows]),
        np.array([row["answer_tokens"] for row in rows]),
    )
    law = step_law(runs["portable_lane"], runs["trace_cost"])
    checked = measured.sign_s + measured.verify_s
    found = run.simulate(
        replace(bare_system("OTR", own_profile()), machines=1, after_s=checked), requests, law, 0
    ).latency_s
    spent = [row["cpu_s"] for row in rows]
    answers = np.array([one["answer"] for one in spent])
    until = np.array([one["answer"] + one["sign"] + one["verify"] for one in spent])
    again = [one["re-execution"] / one["re-executions"] / one["answer"] for one in spent]
    return [
        _record("answer, mean of the queries", "s", found["answer"], answers, "simulated"),
        _record("signed and checked answer, mean", "s", found["provisional"], until, "simulated"),
        _record("signing and checking alone, mean", "s", [checked], [(until - answers).mean()], "measured elsewhere"),
        _record("one re-execution, in inferences", "1", [1.0], [mean(again)], "assumption"),
    ]


def _disputes(measured: inputs.Measurements, runs: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    stored = runs["four_systems"]
    played = inputs.played_at(runs["disputes"])
    moves = inputs.game_moves(smollm2(), stored["rows"][0]["positions"], played)
    records = []
    for name, game in stored["disputes"].items():
        later = [move["gas"] for move in game["moves"] if move["move"] != "commit_batch"]
        records += [
            _record(f"moves of a dispute: {name}", "moves", [moves], [len(later)], "recomputed"),
            _record(f"dispute: {name}", "gas", [moves * measured.move.value], [sum(later)], "recomputed"),
        ]
    return records


def _proofs(runs: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    records = []
    for name, check in runs["four_systems"]["spot_checks"].items():
        rows, columns = SHAPES[check["operator"]]
        predicted = inputs.unit_seconds(runs["proof_cost"], rows, columns)
        label = f"proof of a unit of {rows} × {columns}: {name}"
        records.append(_record(label, "s", [predicted], [check["cpu_s"]["proof"]], "recomputed"))
    return records


def _record(quantity: str, unit: str, predicted: Any, measured: Any, kind: str) -> dict[str, Any]:
    """One row of the comparison, from as many predictions as measurements."""
    ours, theirs = np.asarray(predicted, float), np.asarray(measured, float)
    errors = ours / theirs - 1.0
    return {
        "quantity": quantity,
        "unit": unit,
        "predicted": float(ours.mean()),
        "measured": float(theirs.mean()),
        "error": float(ours.mean() / theirs.mean() - 1.0),
        "worst": float(errors[np.abs(errors).argmax()]) if len(errors) > 1 else None,
        "kind": kind,
    }
