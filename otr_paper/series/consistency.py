"""The data of the figures that set the paper's own numbers against each other: rate, proof,
latency, cost, loss."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

from otr_paper.claims.cost import h100_usd
from otr_paper.claims.grounds import Grounds
from otr_paper.claims.latency import largest_rho, slowest_proof, weighted_latency
from otr_paper.claims.published import Published
from otr_paper.claims.throughput import L18_throughput_vs_centralised, h100_throughput_rows
from otr_paper.store.records import Records, records
from otr_paper.studies import overhead


def latency_consistency(
    published: Published, *, rhos: Sequence[float], proof_seconds: Sequence[float], base_s: float | None = None
) -> Records:
    """Weighted mean latency over rate and proof time: records of rho, proof_s, mean_s, stated_s,
    fits (recomputed).

    Args:
        base_s: time of an answer without a proof, s; default: the stated one.
    """
    base = published.number("otr.provisional", "s") if base_s is None else base_s
    stated = published.number("otr.latency_weighted", "s")
    points = ((rho, proof, weighted_latency(base, proof, rho)) for rho, proof in product(rhos, proof_seconds))
    return records("rho, proof_s, mean_s, stated_s, fits", ((*point, stated, point[2] <= stated) for point in points))


def latency_points(published: Published) -> Records:
    """Marked points of the latency figure: what the texts state, the two solved limits, published
    provers at 1 %."""
    base, stated = published.number("otr.provisional", "s"), published.number("otr.latency_weighted", "s")
    rho, proof = published.number("otr.rho", "1"), published.number("zkml.latency_7b", "s")
    points = [
        ("stated inputs", rho, proof, "recomputed", "otr.rho, zkml.latency_7b"),
        (
            f"slowest proof at {rho * 100:.3g} %",
            rho,
            slowest_proof(base, stated, rho),
            "recomputed",
            "otr.latency_weighted",
        ),
        (
            f"largest rate at {proof / 60:.3g} min",
            largest_rho(base, stated, proof),
            proof,
            "recomputed",
            "otr.latency_weighted",
        ),
    ]
    provers = (
        ("zkLLM 7B, one A100", "zk.zkllm.7b.prove"),
        ("ZKTorch LLaMA-2-7B, 64 threads", "zk.zktorch.llama2_7b.prove"),
        ("FlashProve 400B, batch of 24", "zk.flashprove.400b.batch"),
        ("FlashProve 400B, amortised", "zk.flashprove.400b.prove"),
    )
    points += [(name, rho, published.number(row, "s"), "cited", row) for name, row in provers]
    rows = ((*point[:3], weighted_latency(base, point[2], point[1]), *point[3:]) for point in points)
    return records("name, rho, proof_s, mean_s, kind, source", rows)


def latency_case(*, base_s: float, proof_s: float, rho: float) -> dict[str, Any]:
    """A case of one's own, in the form of ``latency_points``."""
    mean = weighted_latency(base_s, proof_s, rho)
    head = "name, rho, proof_s, mean_s, kind, source"
    return records(head, [("your case", rho, proof_s, mean, "recomputed", "parameters")])[0]


def cost_case(*, proof_usd: float, rho: float) -> dict[str, Any]:
    """A case of one's own, in the form of ``cost_points``."""
    head = "name, rho, proof_usd, cost_usd, kind, source"
    return records(head, [("your case", rho, proof_usd, rho * proof_usd, "recomputed", "parameters")])[0]


def cost_consistency(published: Published, *, rhos: Sequence[float], proof_usd: Sequence[float]) -> Records:
    """Proof cost per query over rate and price of a proof: records of rho, proof_usd, cost_usd,
    stated_usd, fits."""
    stated = published.number("otr.cost_query", "USD")
    points = ((rho, usd, rho * usd, stated, rho * usd <= stated) for rho, usd in product(rhos, proof_usd))
    return records("rho, proof_usd, cost_usd, stated_usd, fits", points)


def cost_points(published: Published) -> Records:
    """Marked points of the cost figure: stated inputs, solved limits, published provers at an
    H100's price, at 1 %."""
    stated, proof = published.number("otr.cost_query", "USD"), published.number("zkml.cost_query", "USD")
    rho = published.number("otr.rho", "1")
    points = [
        ("stated inputs", rho, proof, "recomputed", "otr.rho, zkml.cost_query"),
        (f"dearest proof at {rho * 100:.3g} %", rho, stated / rho, "recomputed", "otr.cost_query"),
        (f"largest rate at {proof:g} USD", stated / proof, proof, "recomputed", "otr.cost_query"),
    ]
    for name, row in (("zkLLM 7B", "zk.zkllm.7b.prove"), ("FlashProve 400B, amortised", "zk.flashprove.400b.prove")):
        usd = h100_usd(published, published.number(row, "s"))
        points.append((f"{name}, at an H100's price", rho, usd, "recomputed", f"{row}, gpu.h100_median"))
    rows = ((*point[:3], point[1] * point[2], *point[3:]) for point in points)
    return records("name, rho, proof_usd, cost_usd, kind, source", rows)


def throughput_readings(grounds: Grounds) -> Records:
    """Throughput loss in confidential mode: every published H100 result (cited), those of other GPUs
    beside them, the stated band and the stated 99 %.

    Records of name, group (published, other GPU, stated, reading), low and high loss as a share of the
    baseline, kind, source.
    """
    published = grounds.published
    rows: list[tuple[str, str, float, float, str, str]] = []
    for row in h100_throughput_rows(published):
        name = f"{row.source.split(';')[0]}: {row.subject}, {row.quantity.removeprefix('overhead: ')}"
        rows.append((name, "published", *row.bounds("1"), "cited", row.id))
    for other in overhead.other_gpus(published):
        row = published[other.row]
        name = f"{other.gpu}: {other.source}, {row.subject}, {row.quantity.removeprefix('overhead: ')}"
        rows.append((name, "other GPU", other.low, other.high, "cited", other.row))
    band, loss = published.bounds("otr.tee_overhead", "1"), 1.0 - published.number("otr.throughput", "1")
    rows.append(("TEE overhead as stated", "stated", *band, "cited", "otr.tee_overhead"))
    rows.append(("loss that 99 % throughput leaves", "stated", loss, loss, "cited", "otr.throughput"))
    for reading in L18_throughput_vs_centralised(grounds).readings:
        lost = 1.0 - reading.value
        rows.append((reading.name, "reading", lost, lost, reading.kind, ", ".join(reading.sources)))
    return records("name, group, low, high, kind, source", rows)
