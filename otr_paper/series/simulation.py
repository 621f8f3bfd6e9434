"""The data of the figures on the simulation: lists of flat records from stored or fresh studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from otr_core.errors import InputError
from otr_paper.claims.published import Published
from otr_paper.simulation import inputs, proof_pool
from otr_paper.simulation.run import KINDS

Records = list[dict[str, Any]]
_LEAST_SWING = 1.03
"""Inputs that move a number by less than 3 % are left out of its tornado."""
STATISTICS = ("mean", "p50", "p99")
#: Claim -> (the number of a sweep point that its verdict hangs on, axis label, row of the stated number, its unit).
VERDICTS = {
    "L01": ("provisional p50_s", "median attested answer (s)", "otr.provisional", "s"),
    "L03": ("waited mean_s", "mean latency, proofs awaited (s)", "otr.latency_weighted", "s"),
    "L09": ("cost_usd", "cost of a query, all payers (USD)", "otr.cost_query", "USD"),
    "L18": ("kept", "throughput over bare metal", "otr.throughput", "1"),
}


def latencies(found: Mapping[str, Any]) -> Records:
    """Flat latency records: system, kind, statistic, value_s, low_s, high_s; or the reason why there is none."""
    records: Records = []
    for record in found["latency"]:
        head = {"system": record["system"], "kind": record["kind"], "unstable": record["unstable"]}
        if record["unstable"]:
            records.append({**head, "statistic": "", "value_s": None, "low_s": None, "high_s": None})
        for name in STATISTICS:
            if name in record:
                records.append({**head, "statistic": name, **{f"{k}_s": v for k, v in record[name].items()}})
    return sorted(records, key=lambda r: (r["system"], KINDS.index(r["kind"])))


def cost_rows(found: Mapping[str, Any], case: str) -> Records:
    """Items of one case that cost anything, the dearest first in each system."""
    chosen = [item for item in found["cost"] if item["case"] == case and item["usd"] > 0]
    order = list(dict.fromkeys(item["system"] for item in found["cost"]))
    return sorted(chosen, key=lambda item: (order.index(item["system"]), -item["usd"]))


def provers_beside(published: Published, prover: str, *, rho: float, rate_per_s: float) -> int:
    """Machines of a prover that keep up with the sampled answers, loaded to at most 80 %."""
    made = inputs.provers(published)[prover]
    return proof_pool.servers_for(rho * rate_per_s, made.batch_s, 0.8, made.batch)


def baselines(published: Published, found: Mapping[str, Any], *, serving_gpus: int, rho: float) -> Records:
    """OTR's throughput over that of named baselines: records of baseline, low, value, high (share), kind, note."""
    kept = sorted(found["kept"])
    rate = found["rate_per_s"]
    records: Records = [
        {"baseline": "same GPUs, bare metal", "low": kept[0], "value": median(kept), "high": kept[-1],
         "note": f"{len(kept)} draws of the published overhead"},
        {"baseline": "same GPUs, confidential mode too", "low": 1.0, "value": 1.0, "high": 1.0,
         "note": "proofs on other machines"},
    ]  # fmt: skip
    for prover, name in (("flashprove", "FlashProve"), ("stated", "20 min")):
        beside = provers_beside(published, prover, rho=rho, rate_per_s=rate)
        share = serving_gpus / (serving_gpus + beside)
        records.append(
            {"baseline": f"all GPUs, with {beside} to prove ({name})", "low": share * kept[0],
             "value": share * median(kept), "high": share * kept[-1], "note": f"{serving_gpus} GPUs serve"}
        )  # fmt: skip
    return [{**record, "kind": "simulated"} for record in records]


def rho_curve(grid: Sequence[Mapping[str, Any]], **fixed: Any) -> Records:
    """The points of a sweep in which every axis but rho is as given, in order of rho.

    Raises:
        InputError: there are none.
    """
    chosen = [dict(point) for point in grid if all(point[name] == value for name, value in fixed.items())]
    if not chosen:
        raise InputError(f"sweep: found no point with {fixed}")
    return sorted(chosen, key=lambda point: float(point["rho"]))


def tornado(
    points: Sequence[Mapping[str, Any]], ends: Mapping[str, tuple[str, Any, Any]], published: Published
) -> Records:
    """How far each input alone moves what a verdict hangs on: records of claim, input, low, high, base, stated,
    unstable; the widest first. An end without a stable value is None.

    Args:
        points: the default point first, then one with each changed input. ends: input -> (label, low end, high end).
    """
    base, others = points[0], points[1:]
    records: Records = []
    for claim, (quantity, _, row, unit) in VERDICTS.items():
        rows: Records = []
        for name, (label, *values) in ends.items():
            found = []
            for value in values:
                changed = [point for point in others if name in point and point[name] == value]
                found.append((changed[0] if changed else base).get(quantity))
            rows.append(
                {"claim": claim, "input": label, "low": found[0], "high": found[1], "base": base[quantity],
                 "stated": published.number(row, unit)}
            )  # fmt: skip
        records += sorted((one for one in rows if _swing(one) > _LEAST_SWING), key=_swing, reverse=True)
    return records


def baseline_swings(records: Sequence[Mapping[str, Any]], published: Published) -> Records:
    """Other baselines as inputs of L18: ``baselines`` in the form of ``tornado``, the first one being the base."""
    stated = published.number("otr.throughput", "1")
    base = float(records[0]["value"])
    return [
        {"claim": "L18", "input": f"baseline: {one['baseline']}", "low": one["value"], "high": base, "base": base,
         "stated": stated}
        for one in records[1:]
    ]  # fmt: skip


def _swing(record: Mapping[str, Any]) -> float:
    if record["low"] is None or record["high"] is None:
        return float("inf")
    return float(max(record["low"], record["high"]) / min(record["low"], record["high"]))


def small_run_table(records: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """``small_scale.comparison`` as text: quantity, simulated, measured, error, widest error of one query, where the
    prediction is from."""

    def number(value: float, unit: str) -> str:
        text = f"{value:,.0f}" if unit in ("gas", "moves") else f"{value:.3g}"
        return text if unit in ("1", "moves") else f"{text} {unit}"

    return [
        {
            "quantity": one["quantity"], "predicted": number(one["predicted"], one["unit"]),
            "measured": number(one["measured"], one["unit"]), "error": f"{one['error']:+.0%}",
            "widest": "" if one["worst"] is None else f"{one['worst']:+.0%}", "prediction": one["kind"],
        }
        for one in records
    ]  # fmt: skip
