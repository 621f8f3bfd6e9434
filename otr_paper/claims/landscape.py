# ruff: noqa: N802 (a function is named after its claim)
"""Claims about the other systems: L34 (how ZKML grows) and L40 (what opML runs)."""

from __future__ import annotations

import math

from otr_paper.claims.grounds import Grounds
from otr_paper.claims.own_proofs import SHORT, own_proofs
from otr_paper.claims.published import Published
from otr_paper.claims.verdict import CITED, NOT_TESTABLE, Evaluation, Rule
from otr_paper.studies.proving import fitted_exponent


def proving_points(published: Published) -> list[tuple[str, str, float, float]]:
    """(row id, system, parameters, proving seconds) of every published whole-model proof with both
    numbers."""
    points = []
    for row in published.starting("zk."):
        whole = row.id.endswith(".prove") and row.unit in ("s", "h") and row.relation in ("=", "~")
        if whole and row.extra.get("params") and not row.id.startswith(("zk.project.", "zk.nanozk.llama3")):
            points.append((row.id, row.extra["system"], float(row.extra["params"]), row.number("s")))
    return points


def L34_zkml_scaling(grounds: Grounds) -> Evaluation:
    """L34: ZKML's proving grows as k N log N. What published times can say about it, and our own provers'."""
    published, proofs = grounds.published, own_proofs(grounds)
    points = proving_points(published)
    slope, error = fitted_exponent([size for *_, size, _ in points], [second for *_, second in points])
    zkllm = [point for point in points if point[1] == "zkLLM"]
    own, _ = fitted_exponent([size for *_, size, _ in zkllm], [second for *_, second in zkllm])
    sizes = [size for *_, size, _ in points]
    # What N log N looks like as a power law over the sizes at hand.
    expected, _ = fitted_exponent(sizes, [size * math.log(size) for size in sizes])
    own_rows = ("zk.project.growth", "zk.project.growth_error", "zk.project.growth_n_log_n")
    here, here_error, here_expected = (published.number(row, "1") for row in own_rows)
    # An upper bound on the growth is refuted by growth above it, two standard errors clear, and by
    # nothing less: below it, fixed costs hide the logarithm, and larger sizes stay unknown.
    power = published.number("read.n_log_n", "1")
    rule = Rule("1", "<=", power * here_expected)
    mixed = "one line through different systems, machines and token counts"
    fixed = "one system, two sizes: fixed costs still weigh"
    unit = "13 sizes of this project's unit, 2^8 to 2^17 rows, less two standard errors"
    whole = f"our prover, one layer each, {SHORT} positions, by weights, less two standard errors; asked: N log N there"
    readings = (
        rule.measured("one circuit on one machine", unit, here - 2 * here_error, *own_rows[:2]),
        Rule("1", "<=", power * proofs.n_log_n).measured(
            "whole answers, models of rising width", whole, proofs.exponent - 2 * proofs.exponent_error
        ),
        rule.recomputed("all systems", mixed, slope, *(point[0] for point in points)),
        rule.recomputed("zkLLM, 7B to 13B", fixed, own, *(point[0] for point in zkllm)),
    )
    computed = {
        "exponent_all_systems": slope,
        "exponent_all_systems_error": error,
        "exponent_zkllm": own,
        "exponent_of_n_log_n_here": expected,
        "points_count": float(len(points)),
        "exponent_own_circuits": here,
        "exponent_own_circuits_error": here_error,
        "exponent_whole_answers": proofs.exponent,
        "exponent_whole_answers_error": proofs.exponent_error,
        "exponent_of_n_log_n_whole_answers": proofs.n_log_n,
    }
    return Evaluation(computed, readings, settles=NOT_TESTABLE)


def L40_opml_on_a_pc(published: Published) -> Evaluation:
    """L40: opML runs a 7B model on a common PC, with one honest validator."""
    memory = published.number("opml.llama7b_memory", "B")
    nominal = published.number("opml.llama7b_params", "params")
    per_parameter = memory / nominal
    rule = Rule("B", "=", 4.0, slack=0.4)
    printed = "printed memory per nominal parameter, 4 bytes expected within 10 %"
    rows = ("opml.llama7b_memory", "opml.llama7b_params")
    reading = rule.recomputed("memory of 7B in fp32", printed, per_parameter, *rows)
    return Evaluation({"bytes_per_parameter": per_parameter, "memory_gb": memory / 1e9}, (reading,), settles=CITED)
