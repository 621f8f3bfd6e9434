"""Proof of Quality on the frauds that all four systems were given: what its judges see, and what it pays."""

from __future__ import annotations

from statistics import mean

from otr_paper.claims.trilemma import FRAUDS, JUDGE, Record, TrilemmaInputs, rejected, score_threshold, win_rate
from otr_paper.poq import payments, rewards


def separation(inputs: TrilemmaInputs) -> list[Record]:
    """PoQ's judges: records of judge, fraud, win_rate of the honest answer, caught, of, right (share of the false
    answers that are true all the same)."""
    rows, records = inputs.payload["rows"], []
    for judge, scores in inputs.payload["judges"]["scores"].items():
        least = score_threshold(scores["honest"])
        for fraud in FRAUDS:
            records.append({
                "judge": judge, "fraud": fraud, "win_rate": win_rate(scores["honest"], scores[fraud]),
                "caught": rejected(scores[fraud], least), "of": len(rows),
                "right": mean(row["frauds"][fraud]["right"] for row in rows),
            })  # fmt: skip
    return records


def pay(inputs: TrilemmaInputs, *, alpha: float = 2.0) -> list[Record]:
    """What PoQ pays a fraud, as a multiple of what it pays the honest answers: records of formula, fraud, ratio.

    Original formula under every published aggregation over five assessors, three of them with the light judge; then the
    cost-aware rule on the light judge's scores, quality - 0.5 cost, the cost being the share of layers run.
    """
    import numpy as np

    scores = inputs.payload["judges"]["scores"]
    panel = payments.PANELS["five, three of them light"]
    shares: dict[str, float] = dict.fromkeys(("honest", *FRAUDS), 1.0)
    shares |= {
        "layers dropped": inputs.payload["layers_kept"] / inputs.payload["layers"],
        "another answer replayed": 0.0,
    }

    def original(kind: str, aggregate: rewards.Aggregate) -> float:
        agreed = aggregate(np.array([scores[judge][kind] for judge in panel]))
        return float(mean(rewards.reward_share(score, alpha=alpha, upper=1.0) for score in agreed))

    def cost_aware(kind: str) -> float:
        cost = [shares[kind]] * len(scores[JUDGE][kind])
        return float(rewards.cost_aware_reward(scores[JUDGE][kind], cost, alpha=1.0, beta=0.5).mean())

    paid = {
        label: {kind: original(kind, aggregate) for kind in shares}
        for label, aggregate in payments.aggregations().items()
    } | {"cost-aware": {kind: cost_aware(kind) for kind in shares}}
    return [
        {"formula": label, "fraud": fraud, "ratio": of[fraud] / of["honest"]}
        for label, of in paid.items()
        for fraud in FRAUDS
    ]


def pay_table(inputs: TrilemmaInputs) -> list[Record]:
    """The table T07d, one record a fraud: right answers among it, how the light judge ranks and catches it, and its pay
    by each rule over the honest pay; all words."""
    paid = {(one["formula"], one["fraud"]): one["ratio"] for one in pay(inputs)}
    formulas = list(dict.fromkeys(formula for formula, _ in paid))
    return [
        {
            "fraud": one["fraud"], "right": f"{one['right']:.0%}",
            "honest answer scored above it": f"{one['win_rate']:.0%}", "caught": f"{one['caught']} of {one['of']}",
            **{f"pay, {formula}": f"{paid[formula, one['fraud']]:.2f}" for formula in formulas},
        }
        for one in separation(inputs)
        if one["judge"] == JUDGE
    ]  # fmt: skip
