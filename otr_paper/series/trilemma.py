"""Figures and tables of the four systems compared: T01, T01a, T01b and F01 of notebook 00, T07d of
notebook 06."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from statistics import mean
from typing import Any, TypeAlias

import numpy as np

from otr_paper.claims.published import Published
from otr_paper.claims.trilemma import (
    FRAUDS,
    JUDGE,
    TrilemmaInputs,
    costs,
    integrity,
    moments,
    rejected,
    score_threshold,
    win_rate,
)
from otr_paper.poq import rewards
from otr_paper.series import network, poq
from otr_paper.store.records import Records, records


def shares_table(inputs: TrilemmaInputs) -> Records:
    """Records of check and, for each fraud, the share that it catches, in words."""
    table: dict[str, dict[str, str]] = {}
    for one in integrity(inputs):
        check = f"{one['system']}{', TEE ' + one['tee'] if one['system'] == 'OTR' else ''}: {one['check']}"
        share = one["share"]
        small = 0 < share < 0.01
        words = f"{100 * share:.2g} %" if small else f"{share:.0%}".replace("%", " %")
        table.setdefault(check, {"check": check})[one["fraud"]] = words
    return list(table.values())


_SEES = {
    "OTR": "the enclave alone; whoever runs it again or disputes must be shown it",
    "opML": "the operator and every verifier",
    "ZKML": "the operator, who proves",
    "PoQ": "the operator and every judge",
}


def duration(seconds: float) -> str:
    """Seconds in words, two significant digits."""
    for name, size in (("days", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= size:
            value = float(f"{seconds / size:.2g}")
            return f"{value:g} {name.removesuffix('s') if value == 1 else name}"
    return f"{float(f'{seconds:.2g}'):g} s" if seconds >= 0.1 else f"{float(f'{1000 * seconds:.2g}'):g} ms"


def systems_table(inputs: TrilemmaInputs) -> Records:
    """The table T01: records of system, counts when, integrity, latency, cost, privacy and goals,
    all words; each number followed by its kind (m measured, r recomputed or extrapolated, s set as
    a parameter)."""
    c, rows = costs(inputs), inputs.payload["rows"]
    frauds = len(rows) * len(FRAUDS)
    chain = inputs.batch_gas / inputs.batch_receipts
    spots = inputs.rho * inputs.units * inputs.verify_gas
    evidence = {
        "OTR": f"{c['receipt_bytes']:,.0f} B (m); {chain:,.0f} gas (m) and {spots:,.0f} if proofs go on chain (r)",
        "opML": f"32 B root (m); {chain:,.0f} gas (m)",
        "ZKML": f"{c['zkml_proofs'] * inputs.unit_bytes / 1e6:,.0f} MB, "
        f"{c['zkml_proofs'] * inputs.verify_gas / 1e9:,.1f} G gas (r)",
        "PoQ": f"{c['plain_bytes']:,.0f} B to each judge (m); no contract here",
    }
    rows = []
    for one in moments(inputs):
        letter = "r" if one["kind"] == "recomputed" else "m"
        counted = one["integrity"] in (0.0, 1.0) or one["kind"] == "measured"
        caught = f"{one['integrity'] * frauds:.0f} of {frauds}" if counted else f"{100 * one['integrity']:.2g} % of the"
        tee = {"working": ", TEE works", "broken": ", TEE broken"}.get(one["tee"], "")
        late = f"{duration(one['latency_s'])} ({'s' if 'set' in one['kind'] else letter})"
        cost = f"{_times(one['compute'])} the CPU of answering ({letter}); {evidence[one['system']]}"
        sees = "the operator too" if one["tee"] == "broken" else _SEES[one["system"]]
        met = f"{one['goals']} of 3"
        rows.append((one["system"] + tee, one["moment"], f"{caught} frauds caught ({letter})", late, cost, sees, met))
    return records("system, counts when, integrity, latency, cost, privacy, goals", rows)


def _times(value: float) -> str:
    return f"{value:.2f} times" if value < 100 else f"{float(f'{value:.2g}'):,.0f} times"


def timeline(inputs: TrilemmaInputs, run: Mapping[str, Any]) -> Records:
    """The figure F01: records of answer, tier, event, start_s, end_s (since the order), kind, in order.

    An honest and a cheated answer are those of one run of the network (``network.tiers``). In that run
    no answer was drawn, so the spot check is the one measured for the four systems (CPU seconds of
    SmolLM2), from the commitment of the honest answer on; the beacon's rounds are waited for, hence
    *simulated*.

    Args:
        run: of ``benches.network``.
    """
    rows = network.tiers(run)
    now = next(row["start_s"] for row in rows if row["event"].startswith("window over"))
    spot = inputs.payload["spot_checks"]["honest"]["cpu_s"]
    for event, seconds, kind in (
        ("beacon: query and place drawn", inputs.round_s, "simulated"),
        ("answer run again, rows committed", spot["rows again"], "measured"),
        ("beacon: unit drawn", inputs.round_s, "simulated"),
        ("unit proven", spot["proof"], "measured"),
        ("proof verified: verdict", spot["verification"], "measured"),
    ):
        row = {"answer": "spot check", "tier": "3 spot check", "event": event, "start_s": now}
        rows.append({**row, "end_s": now + seconds, "kind": kind})
        now += seconds
    return rows


def timeline_finding(rows: Records) -> str:
    """What the figure F01 shows, in one sentence."""
    ends = {(row["answer"], row["event"].rpartition(": ")[2]): float(row["end_s"]) for row in rows}
    convicted = duration(ends["cheated", "convicted"] - ends["cheated", "provisional"])
    final = duration(ends["honest", "final"])
    return f"A false answer convicts its operator {convicted} after its receipt; a true one is final after {final}"


# ---- Proof of Quality on the same frauds


def judged_frauds(inputs: TrilemmaInputs) -> Records:
    """What Proof of Quality's judges see: records of judge, fraud, win_rate (share of the questions
    on which the honest answer scores higher), caught, of, right (share of the false answers that
    are true all the same)."""
    questions, rows = inputs.payload["rows"], []
    for judge, scores in inputs.payload["judges"]["scores"].items():
        honest, least = scores["honest"], score_threshold(scores["honest"])
        for fraud in FRAUDS:
            won, caught = win_rate(honest, scores[fraud]), rejected(scores[fraud], least)
            right = mean(row["frauds"][fraud]["right"] for row in questions)
            rows.append((judge, fraud, won, caught, len(questions), right))
    return records("judge, fraud, win_rate, caught, of, right", rows)


COST_WEIGHT = 0.5
"""Weight of cost beside quality in the cost-aware rule."""


def pay(inputs: TrilemmaInputs, *, alpha: float = 2.0) -> Records:
    """What PoQ pays a fraud, as a multiple of what it pays the honest answers: records of formula,
    fraud, ratio.

    Original formula under every published aggregation over five assessors, three of them with the
    light judge; then the cost-aware rule on the light judge's scores (``COST_WEIGHT``), the cost
    being the share of layers run.
    """
    scores = inputs.payload["judges"]["scores"]
    panel = poq.PANELS["five, three of them light"]
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
        return float(rewards.cost_aware_reward(scores[JUDGE][kind], cost, alpha=1.0, beta=COST_WEIGHT).mean())

    paid = {
        label: {kind: original(kind, aggregate) for kind in shares} for label, aggregate in poq.aggregations().items()
    } | {"cost-aware": {kind: cost_aware(kind) for kind in shares}}
    return [
        {"formula": label, "fraud": fraud, "ratio": of[fraud] / of["honest"]}
        for label, of in paid.items()
        for fraud in FRAUDS
    ]


def pay_table(inputs: TrilemmaInputs) -> Records:
    """The table T07d, one record a fraud: right answers among it, how the light judge ranks and
    catches it, and its pay by each rule over the honest pay; all words."""
    paid = {(one["formula"], one["fraud"]): one["ratio"] for one in pay(inputs)}
    formulas = list(dict.fromkeys(formula for formula, _ in paid))
    rows = []
    for one in judged_frauds(inputs):
        if one["judge"] == JUDGE:
            shares = (f"{one['right']:.0%}", f"{one['win_rate']:.0%}", f"{one['caught']} of {one['of']}")
            rows.append((one["fraud"], *shares, *(f"{paid[formula, one['fraud']]:.2f}" for formula in formulas)))
    head = ["fraud", "right", "honest answer scored above it", "caught", *(f"pay, {formula}" for formula in formulas)]
    return [dict(zip(head, row, strict=True)) for row in rows]


# ---- what others have published

_BLOG = "DGrid blog 2026-01-14"
#: Number (None: none is given), unit, words beside it, kind and source.
Numbered: TypeAlias = tuple[float | None, str, str, str, str]
_TRILEMMA_WORDS = {
    ("OTR", "integrity"): ("hardware attestation, then fraud proofs and sampled ZK proofs", _BLOG),
    ("ZKML", "integrity"): ("proof of every answer", _BLOG),
    ("opML", "integrity"): ("re-execution, one honest validator", "opml.honest_validators"),
    ("PoQ", "integrity"): ("execution not verified; a judge scores the output", _BLOG),
    ("OTR", "privacy"): ("query encrypted in the TEE; diverging states opened in a dispute", _BLOG),
    ("ZKML", "privacy"): ("parameters stay private", "zk.zkllm.13b_bound.prove"),
    ("opML", "privacy"): ("whole trace exposed in a dispute", _BLOG),
    ("PoQ", "privacy"): ("not discussed", _BLOG),
}


def published_table(published: Published) -> Records:
    """The four systems by integrity, latency, cost and privacy, as others have published them:
    T01b.

    Records of system, quantity, value (words or the number with its unit), number (or None), unit,
    kind, source.
    """
    # The judge's figure is of a batch of 1,000 pairs: one pair, then one round of consensus.
    pair_ms = published.number("poq.judge_large_a100", "ms") / 1000.0 + published.number("poq.consensus", "ms")
    pair = "poq.judge_large_a100, poq.consensus"

    def cited(row: str, unit: str, words: str = "") -> Numbered:
        return published.number(row, unit), unit, words, "cited", row

    numbers: dict[tuple[str, str], Numbered] = {
        ("OTR", "latency"): cited("otr.provisional", "s", "provisional, below"),
        ("ZKML", "latency"): cited("zkml.latency_7b", "s", "final, 7B, above"),
        ("opML", "latency"): cited("opml.window", "s", "final"),
        ("PoQ", "latency"): (pair_ms / 1000.0, "s", "score after the answer", "recomputed", pair),
        ("OTR", "cost"): cited("otr.cost_query", "USD"),
        ("ZKML", "cost"): cited("zkml.cost_query", "USD", "at least"),
        ("opML", "cost"): cited("opml.cost_query", "USD"),
        ("PoQ", "cost"): (None, "USD", "called cheap, no number", "cited", _BLOG),
    }
    rows = []
    for key in product(("OTR", "ZKML", "opML", "PoQ"), ("integrity", "latency", "cost", "privacy")):
        if key in numbers:
            number, unit, words, kind, source = numbers[key]
        else:
            (words, source), number, unit, kind = _TRILEMMA_WORDS[key], None, "", "cited"
        value = words if number is None else f"{words} {number:g} {unit}".strip()
        rows.append((*key, value, number, unit, kind, source))
    return records("system, quantity, value, number, unit, kind, source", rows)
