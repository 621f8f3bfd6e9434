# ruff: noqa: N802 (a function is named after its claim)
"""The trilemma, measured: OTR, opML, ZKML and Proof of Quality on the same answers and the same
injected frauds; L42.

The rules were set before the 32 questions were judged. *Integrity* is met when every injected fraud
is caught and no honest answer is rejected; *low latency* when that holds within ``FAST`` times what
answering alone takes; *low cost* when answering and checking take at most ``CHEAP`` times the CPU
seconds of answering alone. All three are asked at the same moment: a verdict that comes after a
window does not make the answer before it trustworthy. The figures and tables of the comparison are
in ``otr_paper.series.trilemma``.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from otr_core.dispute.records import BASIS
from otr_paper.claims.grounds import Grounds
from otr_paper.claims.verdict import Condition, Evaluation, Reading, Rule
from otr_paper.store.records import Records, records
from otr_paper.studies.detection import per_query, per_unit
from otr_paper.studies.proving import fit_cost

FRAUDS = ("layers dropped", "8-bit weights", "one value altered", "answer replaced", "another answer replayed")
"""Frauds injected into every answer: two downgraded models, one output value of one layer raised by
one unit of the last bit, the true value in the text exchanged for a false one, the answer to
another question."""
FAST, CHEAP = 2.0, 2.0
FALSE_ALARMS = 0.05
"""Share of honest answers that a judge's threshold may reject, at most."""
JUDGE = "question"
"""The light judge by which PoQ is read; the others are reported beside it."""
RESULT = "four_systems"
"""Name of the stored comparison: every question answered, every fraud injected, every check
made."""
BATCH_RECEIPTS, UNITS = 256, 4
"""Receipts in the measured batch; units that a spot check draws of one answer."""


@dataclass(frozen=True)
class TrilemmaInputs:
    """The measured payload and what it is combined with.

    Attributes:
        payload: of data/results/four_systems.json. proofs: rows of proof_cost.json. detection: rows
            of spot_detection.json. batch_gas, batch_receipts: gas of committing a batch, and
            receipts in it.
        verify_gas: of one proof. unit_bytes: of one proof. window_s: challenge window. slot_s:
            until a transaction is included. round_s: period of the beacon. rho: share of answers
            drawn. units: drawn in each. goals: that OTR is said to reach at once, and no other system.
    """

    payload: Mapping[str, Any]
    proofs: Sequence[Mapping[str, Any]]
    detection: Sequence[Mapping[str, Any]]
    batch_gas: float
    batch_receipts: int
    verify_gas: float
    unit_bytes: float
    window_s: float
    slot_s: float
    round_s: float
    rho: float
    units: int
    goals: float = 3.0


def read_inputs(grounds: Grounds) -> TrilemmaInputs:
    """The stored measurements and published rows that the four systems are judged by.

    Raises:
        DataError: one is absent.
    """
    moves = grounds.result("disputes")["disputes"][0]["moves"]
    beacon = tomllib.loads((grounds.data / "beacon.toml").read_text("utf-8"))["chain"]
    return TrilemmaInputs(
        payload=grounds.result(RESULT),
        proofs=grounds.result("proof_cost")["rows"],
        detection=grounds.result("spot_detection")["rows"],
        batch_gas=next(move["gas"] for move in moves if move["move"] == "commit_batch"),
        batch_receipts=BATCH_RECEIPTS,
        verify_gas=max(row["verify_gas"] for row in grounds.result("spot_onchain")["rows"]),
        unit_bytes=grounds.result("spot_honest")["proof_bytes"],
        window_s=grounds.profile.court.window_s,
        slot_s=grounds.published.number("hw.ethereum_slot", "s"),
        round_s=beacon["period"],
        rho=grounds.profile.court.spot_bps / BASIS,
        units=UNITS,
        goals=grounds.published.number("read.goals", "count"),
    )


# ---- integrity


def score_threshold(honest: Sequence[float], false_alarms: float = FALSE_ALARMS) -> float:
    """The highest threshold below which at most a share ``false_alarms`` of the honest scores
    lie."""
    return sorted(honest)[math.floor(false_alarms * len(honest))]


def rejected(scores: Sequence[float], least: float) -> int:
    """Answers whose score is below the threshold."""
    return sum(score < least for score in scores)


def win_rate(honest: Sequence[float], false: Sequence[float]) -> float:
    """Share of questions on which the honest answer scores higher than the false one; ties count
    half."""
    return mean((h > f) + 0.5 * (h == f) for h, f in zip(honest, false, strict=True))


def drawn_detection(inputs: TrilemmaInputs, fraud: str) -> float:
    """Probability that a spot check of a drawn answer convicts, with ``inputs.units`` units.

    For 8-bit weights the share of broken units was measured (``spot_detection``); for the other
    frauds it is computed from the units that they break. A replaced or replayed answer can carry
    the honest model's own trace of its tokens, and no unit checks how a token was chosen: no spot
    check sees such a fraud.
    """
    broken = next(r["broken"] for r in inputs.detection if r["cheat"] == "whole model, 8-bit weights")
    if fraud == "8-bit weights":
        return per_query(1.0, per_unit(broken), inputs.units)
    if fraud == "layers dropped":
        # A trace of fewer layers than the model has is refused. The one that breaks fewest units
        # has each kept layer where the model has it, and stands still where one was left out.
        layers, kept = inputs.payload["layers"], inputs.payload["layers_kept"]
        return per_query((layers - kept) / layers, per_unit(broken), inputs.units)
    if fraud == "one value altered":
        leaves = mean(row["positions"] for row in inputs.payload["rows"]) * inputs.payload["layers"]
        return per_query(1 / leaves, per_unit({"down": 1 / inputs.payload["units"]["down_blocks"]}), inputs.units)
    return 0.0


def integrity(inputs: TrilemmaInputs) -> Records:
    """Records of system, tee, check, fraud, caught, of (answers), share and kind: every fraud under
    every check."""
    questions, found = inputs.payload["rows"], []
    for fraud in FRAUDS:
        outcomes = [row["frauds"][fraud] for row in questions]
        working, broken, again = (
            sum(bool(outcome[check]) for outcome in outcomes) for check in ("working_tee", "broken_tee", "re_execution")
        )
        drawn = len(questions) * drawn_detection(inputs, fraud)
        found += [
            ("OTR", "working", "receipt", fraud, working, "measured"),
            ("OTR", "broken", "receipt", fraud, broken, "measured"),
            ("OTR", "broken", "re-execution", fraud, again, "measured"),
            ("OTR", "broken", "spot check, drawn", fraud, drawn, "recomputed"),
            ("OTR", "broken", "spot check", fraud, inputs.rho * drawn, "recomputed"),
            ("opML", "none", "commitment alone", fraud, 0, "measured"),
            ("opML", "none", "re-execution", fraud, again, "measured"),
            ("ZKML", "none", "proof of every unit", fraud, len(questions), "recomputed"),
        ]
        for judge, scores in inputs.payload["judges"]["scores"].items():
            caught = rejected(scores[fraud], score_threshold(scores["honest"]))
            found.append(("PoQ", "none", f"judge: {judge}", fraud, caught, "measured"))
    columns, of = "system, tee, check, fraud, caught, of, share, kind", len(questions)
    return records(columns, ((*row[:5], of, row[4] / of, row[5]) for row in found))


def caught_share(records: Records, system: str, tee: str, check: str) -> float:
    """Share of all injected frauds that a check catches."""
    found = [float(r["share"]) for r in records if (r["system"], r["tee"], r["check"]) == (system, tee, check)]
    return mean(found)


def false_alarms(inputs: TrilemmaInputs) -> dict[str, int]:
    """Honest answers rejected, by check."""
    rows, scores = inputs.payload["rows"], inputs.payload["judges"]["scores"]
    return {
        "receipt": sum(bool(row["receipt_check"]) for row in rows),
        "re-execution": sum(bool(row["re_execution"]) for row in rows),
        **{f"judge: {name}": rejected(one["honest"], score_threshold(one["honest"])) for name, one in scores.items()},
    }


# ---- what it costs


def costs(inputs: TrilemmaInputs) -> dict[str, float]:
    """CPU seconds per answer by step (means over the answers measured), and bytes.

    ``plain``: answering without a trace; ``answer``: with it, over the same questions; ``zkml``:
    proving every weight block and the output matrix of every chosen token at our best measured cost
    per weight, extrapolated, a lower bound.
    """
    rows, payload = inputs.payload["rows"], inputs.payload
    twice = [row["cpu_s"] for row in rows if "answer without trace" in row["cpu_s"]]
    runs = sum(row["cpu_s"]["re-executions"] for row in rows)
    per_weight = fit_cost(inputs.proofs).per_weight_s
    weights = mean(
        row["positions"] * payload["layers"] * payload["units"]["layer_weights"]
        + row["answer_tokens"] * payload["units"]["head_weights"]
        for row in rows
    )
    spot = payload["spot_checks"]["honest"]["cpu_s"]
    large = max(inputs.proofs, key=lambda row: int(row["rows"] * row["columns"]))
    return {
        "plain_s": mean(each["answer without trace"] for each in twice),
        "answer_s": mean(each["answer"] for each in twice),
        "sign_s": mean(row["cpu_s"]["sign"] + row["cpu_s"]["open"] for row in rows),
        "verify_s": mean(row["cpu_s"]["verify"] for row in rows),
        "re_execution_s": sum(row["cpu_s"]["re-execution"] for row in rows) / runs,
        "judge_s": payload["judges"]["cpu_s"][JUDGE],
        # every drawn unit is opened from one run of the answer and proven by itself
        "spot_check_s": spot["rows again"] + inputs.units * (spot["proof"] + spot["verification"]),
        "zkml_s": weights * per_weight,
        "zkml_proofs": weights / (large["rows"] * large["columns"]),
        "receipt_bytes": mean(row["receipt_bytes"] for row in rows),
        "plain_bytes": mean(row["plain_bytes"] for row in rows),
    }


def moments(inputs: TrilemmaInputs) -> Records:
    """Each system at each moment at which its answer may be said to count: records of system, tee,
    moment, integrity (share of frauds caught), latency and compute (multiples of answering alone),
    latency_s, compute_s, kind, met (goals met) and goals (how many)."""
    c, found, alarms = costs(inputs), integrity(inputs), false_alarms(inputs)
    served = c["answer_s"] + c["sign_s"] + c["verify_s"]
    otr = served + inputs.rho * c["spot_check_s"]
    window, again = inputs.window_s, c["re_execution_s"]
    proved, scored = c["plain_s"] + c["zkml_s"], c["plain_s"] + c["judge_s"]
    answered, final = c["answer_s"], "window over, every answer run again"
    judge, drawn = f"judge: {JUDGE}", f"spot checks at {inputs.rho:.0%} done"
    checked = served + 2 * inputs.round_s + c["spot_check_s"]
    alarm, late = alarms["receipt"], alarms["re-execution"]
    # System, TEE, check, moment, latency and CPU of an answer (s), honest answers rejected, kind of
    # number.
    table = [
        ("OTR", "working", "receipt", "receipt verified", served, otr, alarm, "measured"),
        ("OTR", "broken", "receipt", "receipt verified", served, otr, alarm, "measured"),
        ("OTR", "broken", "spot check", drawn, checked, otr, 0, "recomputed"),
        ("OTR", "broken", "re-execution", final, served + window, otr + again, late, "measured + set"),
        ("opML", "none", "commitment alone", "answer committed", answered, answered, 0, "measured"),
        ("opML", "none", "re-execution", final, answered + window, answered + again, late, "measured + set"),
        ("ZKML", "none", "proof of every unit", "all proofs verified", proved, proved, 0, "recomputed"),
        ("PoQ", "none", judge, "scored", scored, scored, 0, "measured"),
    ]
    plain, rows = c["plain_s"], []
    for system, tee, check, moment, latency, compute, alarmed, kind in table:
        share = caught_share(found, system, tee, check)
        holds = (share == 1.0 and not alarmed, latency <= FAST * plain, compute <= CHEAP * plain)
        met = [goal for goal, reached in zip(("integrity", "latency", "cost"), holds, strict=True) if reached]
        cost = (latency / plain, compute / plain, latency, compute)
        rows.append((system, tee, check, moment, share, *cost, kind, met, len(met)))
    columns = "system, tee, check, moment, integrity, latency, compute, latency_s, compute_s, kind, met, goals"
    return records(columns, rows)


# ---- the claim


def L42_trilemma(grounds: Grounds) -> Evaluation:
    """L42: a system can have at most two of integrity, low latency and low cost; OTR has all
    three."""
    return judge_trilemma(read_inputs(grounds))


def judge_trilemma(inputs: TrilemmaInputs) -> Evaluation:
    """L42 on these measurements.

    A reading holds when OTR meets all three goals at one moment, and none of the other systems ever
    does.
    """
    at = {(one["system"], one["tee"], one["check"]): one for one in moments(inputs)}
    others = max(one["goals"] for one in at.values() if one["system"] != "OTR")
    # Where another system reaches as many goals, OTR's would have to be more than there are.
    rule = Rule("goals", ">=", inputs.goals if others < inputs.goals else others + 1.0 + inputs.goals)

    def reading(name: str, assumption: str, tee: str, check: str, kind: str = "measured") -> Reading:
        goals = float(at["OTR", tee, check]["goals"])
        return (
            rule.recomputed(name, assumption, goals) if kind == "recomputed" else rule.measured(name, assumption, goals)
        )

    broken, working = at["OTR", "broken", "receipt"], at["OTR", "working", "receipt"]
    late, poq = at["OTR", "broken", "re-execution"], at["PoQ", "none", f"judge: {JUDGE}"]
    opml, zkml = at["opML", "none", "re-execution"], at["ZKML", "none", "proof of every unit"]
    stated = "all three at the provisional answer, whether or not the operator's TEE is broken"
    works = "all three at the provisional answer; a simulated TEE that measures the weights it runs"
    drawn = f"{inputs.rho:.0%} of the answers drawn, {inputs.units} units each"
    final = "the window is over and an honest fisherman has run every answer again"
    readings = (
        reading("as stated", stated, "broken", "receipt"),
        reading("broken TEE, spot checks", drawn, "broken", "spot check", "recomputed"),
        reading("broken TEE, final", final, "broken", "re-execution"),
    )
    intact = Condition(
        "goals_with_an_intact_tee",
        "no operator's TEE is broken: a broken one's provisional answers carry none of the integrity",
        rule,
        (reading("TEE works", works, "working", "receipt"),),
    )
    computed = {
        "goals_working_tee_count": working["goals"],
        "goals_broken_tee_count": broken["goals"],
        "goals_broken_tee_final_count": late["goals"],
        "most_goals_of_others_count": others,
        "caught_working_tee": working["integrity"],
        "caught_broken_tee": broken["integrity"],
        "caught_broken_tee_final": late["integrity"],
        "caught_poq": poq["integrity"],
        "compute_otr_ratio": working["compute"],
        "compute_opml_ratio": opml["compute"],
        "compute_zkml_ratio": zkml["compute"],
    }
    return Evaluation(computed, readings, (intact,))
