"""The lanes side by side, from stored results: what a court's rule lets through in each, what the lane costs,
and whom it needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otr_paper.series.tolerance import adversary
from otr_paper.store.records import Records, records

RESULTS = ("lane_bench", "dispute_gas", "block_lane", "block_gas", "block_steps", "tolerance")
"""The stored results that the table is made of."""
_SHORT = {"native-float32": "native, fp32", "native-bfloat16": "native, bf16"}


def lanes(found: Mapping[str, Mapping[str, Any]]) -> Records:
    """One row a lane, in words with the numbers in them.

    Args:
        found: the results named in ``RESULTS``.

    Returns:
        lane, lets_through (of false values, past the court's rule), costs, needs (who must act
        honestly, and with what), dispute (the dearest whole one that was measured, and its last move).
    """
    bench, blocks, steps = found["lane_bench"], found["block_lane"], found["block_steps"]
    perplexity = blocks["perplexity"]
    further = perplexity["h100-bf16"] / perplexity["native-float32"] - 1
    gas = found["dispute_gas"]
    plain = max(gas["gas_135m"], gas["walked"]["135m"]["gas"])
    last = next(spent for call, spent, _ in gas["moves"]["135m"] if call == "prove")
    ways = [found["block_gas"]["sizes"]["135m"][way] for way in ("named", "walked")]
    whole, leaf = (max(way[name] for way in ways) for name in ("gas", "leaf"))
    rows = [
        (
            "portable-1",
            "nothing: each step is judged to the bit",
            f"{bench['decode_over_fp32']:.2f} of the CPU time of fp32 a token; integers of its own",
            "one honest fisherman with any CPU",
            f"{plain:,} gas, its last move {last:,}",
        ),
        (
            "h100-bf16",
            "nothing of its definition: each block and each fp32 step is judged to the bit; "
            f"{steps['blocks']['differing']['contract']} of {steps['blocks']['blocks']:,} blocks judged otherwise",
            f"{blocks['decode_cpu_s']:.2f} CPU s a token to replay; perplexity {further:+.2%} beside fp32; "
            "its kernel for an H100 was run on none",
            "one honest fisherman with any CPU; kernels that keep the order of its steps",
            f"{whole:,} gas, its last move {leaf:,}; a block alone {steps['gas']['most']:,}",
        ),
    ]
    for row in adversary(found["tolerance"]):
        if row["rule"] == "calibrated" and row["position"] == "closest":
            rows.append(
                (
                    _SHORT[row["lane"]],
                    f"what stays within bounds: {row['flipped']} of {row['attacks']} close calls turned",
                    "nothing: a library's kernels as they are",
                    "honest machines to calibrate on, and a judge off chain",
                    "no contract judges it",
                )
            )
    return records("lane, lets_through, costs, needs, dispute", rows)
