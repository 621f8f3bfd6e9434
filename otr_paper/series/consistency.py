"""The data of the figures on consistency: lists of records, each cell with its kind and source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from otr_paper.claims.cost import h100_usd
from otr_paper.claims.latency import largest_rho, slowest_proof, weighted_latency
from otr_paper.claims.published import Published
from otr_paper.claims.throughput import L18_throughput_vs_centralised, h100_throughput_rows
from otr_paper.claims.verdict import Evaluation

Records = list[dict[str, Any]]


def readings_table(evaluation: Evaluation) -> Records:
    """One record per reading of a claim: name, assumption, value, unit, kind, holds, replaces, sources."""
    return [
        {
            "claim": evaluation.claim,
            "name": reading.name,
            "assumption": reading.assumption,
            "value": reading.value,
            "unit": reading.unit,
            "kind": reading.kind,
            "holds": reading.holds,
            "replaces": reading.replaces,
            "sources": ", ".join(reading.sources),
        }
        for reading in evaluation.readings
    ]


def latency_consistency(published: Published, *, rhos: Sequence[float], proof_seconds: Sequence[float]) -> Records:
    """Weighted mean latency over rate and proof time: records of rho, proof_s, mean_s, stated_s, fits (recomputed)."""
    base, stated = published.number("otr.provisional", "s"), published.number("otr.latency_weighted", "s")
    records = []
    for rho in rhos:
        for proof in proof_seconds:
            mean = weighted_latency(base, proof, rho)
            records.append({"rho": rho, "proof_s": proof, "mean_s": mean, "stated_s": stated, "fits": mean <= stated})
    return records


def latency_points(published: Published) -> Records:
    """Marked points of the latency figure: what the texts state, the two solved limits, published provers at 1 %."""
    base, stated = published.number("otr.provisional", "s"), published.number("otr.latency_weighted", "s")
    rho, proof = published.number("otr.rho", "1"), published.number("zkml.latency_7b", "s")
    points = [
        ("stated inputs", rho, proof, "recomputed", "otr.rho, zkml.latency_7b"),
        ("slowest proof at 1 %", rho, slowest_proof(base, stated, rho), "recomputed", "otr.latency_weighted"),
        ("largest rate at 20 min", largest_rho(base, stated, proof), proof, "recomputed", "otr.latency_weighted"),
    ]
    provers = (
        ("zkLLM 7B, one A100", "zk.zkllm.7b.prove"),
        ("ZKTorch LLaMA-2-7B, 64 threads", "zk.zktorch.llama2_7b.prove"),
        ("FlashProve 400B, batch of 24", "zk.flashprove.400b.batch"),
        ("FlashProve 400B, amortised", "zk.flashprove.400b.prove"),
    )
    points += [(name, rho, published.number(row, "s"), "cited", row) for name, row in provers]
    return [
        {
            "name": name,
            "rho": rate,
            "proof_s": seconds,
            "mean_s": weighted_latency(base, seconds, rate),
            "kind": kind,
            "source": source,
        }
        for name, rate, seconds, kind, source in points
    ]


def cost_consistency(published: Published, *, rhos: Sequence[float], proof_usd: Sequence[float]) -> Records:
    """Proof cost per query over rate and price of a proof: records of rho, proof_usd, cost_usd, stated_usd, fits."""
    stated = published.number("otr.cost_query", "USD")
    return [
        {"rho": rho, "proof_usd": usd, "cost_usd": rho * usd, "stated_usd": stated, "fits": rho * usd <= stated}
        for rho in rhos
        for usd in proof_usd
    ]


def cost_points(published: Published) -> Records:
    """Marked points of the cost figure: stated inputs, solved limits, published provers at an H100's price, at 1 %."""
    stated, proof = published.number("otr.cost_query", "USD"), published.number("zkml.cost_query", "USD")
    rho = published.number("otr.rho", "1")
    points = [
        ("stated inputs", rho, proof, "recomputed", "otr.rho, zkml.cost_query"),
        ("dearest proof at 1 %", rho, stated / rho, "recomputed", "otr.cost_query"),
        ("largest rate at 45 USD", stated / proof, proof, "recomputed", "otr.cost_query"),
    ]
    for name, row in (
        ("zkLLM 7B", "zk.zkllm.7b.prove"),
        ("FlashProve 400B, amortised", "zk.flashprove.400b.prove"),
    ):
        usd = h100_usd(published, published.number(row, "s"))
        points.append((f"{name}, at an H100's price", rho, usd, "recomputed", f"{row}, gpu.h100_median"))
    return [
        {"name": name, "rho": rate, "proof_usd": usd, "cost_usd": rate * usd, "kind": kind, "source": source}
        for name, rate, usd, kind, source in points
    ]


def throughput_readings(published: Published) -> Records:
    """Throughput loss in confidential mode: every published H100 result (cited), the stated band and the stated 99 %.

    Records of name, group (published, stated, reading), low and high loss as a share of the baseline, kind, source.
    """
    records: Records = []
    for row in h100_throughput_rows(published):
        low, high = row.bounds("1")
        name = f"{row.source.split(';')[0]}: {row.subject}, {row.quantity.removeprefix('overhead: ')}"
        records.append(
            {"name": name, "group": "published", "low": low, "high": high, "kind": "cited", "source": row.id}
        )
    low, high = published.bounds("otr.tee_overhead", "1")
    loss = 1.0 - published.number("otr.throughput", "1")
    for name, least, most, source in (
        ("TEE overhead as stated", low, high, "otr.tee_overhead"),
        ("loss that 99 % throughput leaves", loss, loss, "otr.throughput"),
    ):
        records.append({"name": name, "group": "stated", "low": least, "high": most, "kind": "cited", "source": source})
    for reading in L18_throughput_vs_centralised(published).readings:
        lost = 1.0 - reading.value
        records.append(
            {
                "name": reading.name,
                "group": "reading",
                "low": lost,
                "high": lost,
                "kind": reading.kind,
                "source": ", ".join(reading.sources),
            }
        )
    return records


_BLOG = "DGrid blog 2026-01-14"
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


def trilemma_table(published: Published) -> Records:
    """The four systems by integrity, latency, cost and privacy, as published: T01 before anything is run side by side.

    Records of system, quantity, value (words or the number with its unit), number (or None), unit, kind, source.
    """
    pair = published.number("poq.judge_large_a100", "ms") / 1000.0 + published.number("poq.consensus", "ms")
    numbers: dict[tuple[str, str], tuple[float | None, str, str, str, str]] = {
        ("OTR", "latency"): (
            published.number("otr.provisional", "s"),
            "s",
            "provisional, below",
            "cited",
            "otr.provisional",
        ),
        ("ZKML", "latency"): (
            published.number("zkml.latency_7b", "s"),
            "s",
            "final, 7B, above",
            "cited",
            "zkml.latency_7b",
        ),
        ("opML", "latency"): (published.number("opml.window", "s"), "s", "final", "cited", "opml.window"),
        ("PoQ", "latency"): (
            pair / 1000.0,
            "s",
            "score after the answer",
            "recomputed",
            "poq.judge_large_a100, poq.consensus",
        ),
        ("OTR", "cost"): (published.number("otr.cost_query", "USD"), "USD", "", "cited", "otr.cost_query"),
        ("ZKML", "cost"): (published.number("zkml.cost_query", "USD"), "USD", "at least", "cited", "zkml.cost_query"),
        ("opML", "cost"): (published.number("opml.cost_query", "USD"), "USD", "", "cited", "opml.cost_query"),
        ("PoQ", "cost"): (None, "USD", "called cheap, no number", "cited", _BLOG),
    }
    records: Records = []
    for system in ("OTR", "ZKML", "opML", "PoQ"):
        for quantity in ("integrity", "latency", "cost", "privacy"):
            key = (system, quantity)
            if key in numbers:
                number, unit, words, kind, source = numbers[key]
            else:
                (words, source), number, unit, kind = _TRILEMMA_WORDS[key], None, "", "cited"
            value = words if number is None else f"{words} {number:g} {unit}".strip()
            records.append(
                {
                    "system": system,
                    "quantity": quantity,
                    "value": value,
                    "number": number,
                    "unit": unit,
                    "kind": kind,
                    "source": source,
                }
            )
    return records
