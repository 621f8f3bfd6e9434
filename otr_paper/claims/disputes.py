# ruff: noqa: N802 (a function is named after its claim)
"""Claims about disputes, L26 and L28: what the stored ones did, played by transactions about a real
answer."""

from __future__ import annotations

from otr_paper.claims.grounds import Grounds
from otr_paper.claims.verdict import Condition, Evaluation, Rule

ONE_STEP = 1e-4
"""Largest share of a trace that one step and its operands may be: ours, a tile of 256 of millions of values."""


def L26_false_answer_slashed(grounds: Grounds) -> Evaluation:
    """L26: a fisherman who sees a false answer has its author slashed.

    Judged from the stored disputes about a real answer (one false value in every operator, and a
    false token), and from the stored attacks on the tolerance rule of floating-point lanes.
    """
    lanes = grounds.result("tolerance")["lanes"].values()
    attacks = [a for lane in lanes for a in lane["adversary"] if a["rule"] == "calibrated"]
    tried, flipped = len(attacks), sum(bool(a["flipped"]) for a in attacks)
    caught = 1 - flipped / tried
    rows = grounds.result("disputes")["disputes"]
    slashed = sum(row["verdict"] == "OPERATOR_LOSES" for row in rows)
    rule = Rule("1", ">=", grounds.published.number("read.slashed", "1"))
    any_lane = rule.measured(
        "any lane, outputs compared",
        "floating-point lane with tolerance: share of bound-aware cheats that a dispute convicts",
        caught,
    )
    exact = Condition(
        "slashed_share",
        "the answer is of a lane whose bits anyone can reproduce, and its fisherman holds query and trace seed",
        rule,
        (
            rule.measured(
                "portable lane, judged on one step",
                "share of false answers whose author is slashed by the contract",
                slashed / len(rows),
            ),
        ),
    )
    return Evaluation(
        {
            "disputes_count": len(rows),
            "slashed_count": slashed,
            "dearest_dispute_gas": max(row["gas_dispute"] for row in rows),
            "dearest_leaf_gas": max(row["gas_leaf"] for row in rows),
            "most_inferences_of_a_player": max(
                max(row["inferences_fisherman"], row["inferences_operator"]) for row in rows
            ),
            "bound_aware_cheats_count": tried,
            "bound_aware_cheats_caught_count": tried - flipped,
        },
        (any_lane,),
        (exact,),
    )


def L28_only_diverging_opened(grounds: Grounds) -> Evaluation:
    """L28: a dispute opens only the diverging intermediate states."""
    disputes = grounds.result("disputes")
    rows = [row for row in disputes["disputes"] if row["cheat"] != "token replaced"]
    values = disputes["trace_values"]
    most = max(row["published"] for row in rows)
    alone = Rule("count", "<=", grounds.published.number("read.only_diverging", "count"))
    step = Rule("1", "<=", ONE_STEP)
    plain = alone.measured("the diverging value alone", "values opened at the last step", float(most))
    states = Condition(
        "share_opened",
        "'states' are the diverging tile and the operands of its step: at most this share of what the answer computed",
        step,
        (step.measured("played disputes", "the most opened in one, over the values of its trace", most / values),),
    )
    return Evaluation(
        {
            "most_values_opened_count": most,
            "trace_values_count": values,
            "share_opened": most / values,
            "most_bytes_on_chain_count": max(sum(m["calldata_bytes"] for m in row["moves"]) for row in rows),
        },
        (plain,),
        (states,),
    )
