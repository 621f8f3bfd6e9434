"""The lanes side by side, from stored results: what a court's rule lets through in each, what the lane costs,
and whom it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from otr_paper.series.tolerance import adversary
from otr_paper.store.records import Records, records

RESULTS = (
    *("lane_bench", "dispute_gas", "block_lane", "block_gas", "block_steps", "tolerance"),
    *("h100_blocks", "h100_record"),
)
"""The stored results that the table of lanes is made of."""
SEEN = ("h100_blocks", "h100_hunted", "h100_replayed", "h100_tolerance")
"""Those of what was seen on a GPU."""
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
            f"on an H100 its kernel {_alone(found['h100_blocks']['times'])} times cuBLAS for one token's layer, and "
            f"{_rate(found, 'h100-bf16')} tokens/s, where the native lane has {_rate(found, 'native-float32')}",
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


def _alone(times: Sequence[Mapping[str, Any]]) -> str:
    """Of all matrices of a layer together."""
    rows = [row for row in times if row["tokens"] == 1]
    return f"{sum(row['blocks'] for row in rows) / sum(row['library'] for row in rows):.2f}"


def _rate(found: Mapping[str, Mapping[str, Any]], lane: str) -> str:
    """Tokens a second of SmolLM2 as ``otr record`` measured them."""
    return f"{found['h100_record'][lane]['plain']['tokens_per_s']:.1f}"


def seen_on_gpu(found: Mapping[str, Mapping[str, Any]]) -> Records:
    """What was compared on an H100, and how much of it differed.

    Args:
        found: the results named in ``SEEN``.

    Returns:
        what, compared, differing, why.
    """
    blocks = found["h100_blocks"]
    hunt, words = blocks["hunt"], blocks["blocks"]["words"]
    again = found["h100_hunted"]
    vanishing = "a sum below zero of which nothing is left was -0, and is +0 now"
    explained = all(row["vanishing"] == row["differing"] and row["same_blocks"] for row in again["rows"])
    rows: list[tuple[str, int, int, str]] = [
        (
            "single blocks of any words, against the definition of that day",
            sum(row["blocks"] for row in hunt),
            sum(row["differing"] for row in hunt),
            vanishing if explained else "not explained",
        )
    ]
    for name, each in words.items():
        if name in again["checked"]:
            same = again["checked"][name] == each["differing"]
            why = (vanishing if same else "not explained") if each["differing"] else ""
            rows.append((f"{name}, as the lane's self-check draws them", each["words"], each["differing"], why))
    for name, what in (
        ("recorded blocks", "blocks that others recorded on an H100"),
        ("fp32 steps", "fp32 steps of the lane"),
        ("roundings to bf16", "roundings to bf16"),
    ):
        rows.append((what, words[name]["words"], words[name]["differing"], ""))
    for way, name in (
        ("blocks", "whole products, by mma.sync"),
        ("blocks, warp groups", "whole products, by wgmma"),
        ("library", "whole products, by cuBLAS"),
    ):
        own = [row for row in blocks["products"] if row["way"] == way]
        differing = sum(row["differing"] for row in own)
        why = "not looked into; another order of sums would do it" if differing else ""
        rows.append((name, sum(row["words"] for row in own), differing, why))
    answers = found["h100_replayed"]["answers"]
    wrong = [each for each in answers if not each["same_digest"]]
    rows.append(("answers of SmolLM2 in the lane, replayed on another machine's CPU", len(answers), len(wrong), ""))
    checks = [
        each for run in found["h100_tolerance"]["runs"] for ways in run["ways"].values() for each in ways.values()
    ]
    beyond = sum(each["violations"]["calibrated"] for each in checks)
    counted = sum(each["checks"] for each in checks)
    rows.append(("operators of honest native runs, under envelopes that CPUs gave", counted, beyond, ""))
    return records("what, compared, differing, why", rows)


def product_times(times: Sequence[Mapping[str, Any]]) -> Records:
    """Seconds of products on an H100 over those of cuBLAS.

    Args:
        times: of ``h100_blocks``.

    Returns:
        matrix, tokens, way ("mma.sync" or "wgmma", of which the fastest tile counts), times_library,
        same_words: whether cuBLAS gives the lane's bits.
    """
    rows = []
    for row in times:
        grouped = min(row[name] for name in ("blocks, warp groups", "blocks, two warp groups", "blocks, wide tiles"))
        for way, seconds in (("mma.sync", row["blocks"]), ("wgmma", grouped)):
            same = row["library: differing"] == 0
            rows.append((row["matrix"], row["tokens"], way, seconds / row["library"], same))
    return records("matrix, tokens, way, times_library, same_words", rows)
