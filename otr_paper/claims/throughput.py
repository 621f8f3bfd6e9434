# ruff: noqa: N802 (a function is named after its claim)
# fmt: off
# (Readings and computed numbers are tables, set by hand.)
"""Claims about throughput: L17 and L18.

An overhead is a share of time added, ``t_on / t_off - 1``, unless the source prints a loss of
throughput, ``1 - r_on / r_off``. Both are shown where they matter; 15 % more time is 13 % less
throughput.
"""

from __future__ import annotations

from statistics import median

from otr_paper.claims.grounds import Grounds
from otr_paper.claims.published import Published, Row
from otr_paper.claims.verdict import Condition, Evaluation, Rule
from otr_paper.studies import overhead

#: GPUs that serve the stored simulation: two machines of two.
_SERVING_GPUS = 4

_THROUGHPUT = ("tps", "qps", "global token throughput", "throughput loss range")


def h100_throughput_rows(published: Published) -> list[Row]:
    """Published throughput overheads of an H100 in confidential mode, without model swapping, in
    file order."""
    rows = published.starting("cc")
    return [
        row
        for row in rows
        if row.extra.get("gpu", "").startswith("H100")
        and row.extra["metric"] in _THROUGHPUT
        and row.quantity.startswith("overhead")
    ]


def _band(row: Row, low: float, high: float) -> bool:
    """Whether what the row prints, a number or a range, touches the band from ``low`` to
    ``high``."""
    least, most = row.bounds("1")
    return most >= low and least <= high


def L17_tee_overhead(grounds: Grounds) -> Evaluation:
    """L17: an H100 in confidential mode is 15 to 20 % slower than bare metal."""
    published = grounds.published
    low, high = published.bounds("otr.tee_overhead", "1")
    rows = h100_throughput_rows(published)
    served = [row for row in rows if row.subject != "Llama-3.1-70B"]
    middles = sorted(sum(row.bounds("1")) / 2 for row in served)
    first = [
        row
        for row in published.starting("cc")
        if row.extra.get("gpu", "").startswith("H100") and row.extra["metric"] == "ttft" and row.unit == "pct"
    ]
    inside, first_inside = ([row for row in group if _band(row, low, high)] for group in (rows, first))
    losses = grounds.memo("losses", lambda: [one for one, _ in overhead.draw_overhead(published, 2000, 0)])
    within = sum(low <= loss <= high for loss in losses) / len(losses)

    # A share of results holds when it is all of them; a single result when the band contains its middle.
    every, single = Rule("1", "=", 1.0), Rule("1", "in", low, top=high)
    readings = (
        every.recomputed("throughput, every published H100 result", "share of the results that touch the band",
                         len(inside) / len(rows), *(row.id for row in rows)),
        every.recomputed("first token, published H100 results", "share of the results that lie in the band",
                         len(first_inside) / len(first), *(row.id for row in first)),
        every.simulated("every source with the same weight", "share of 2,000 draws from the published losses of an "
                        "H100 that lie in the band", within, *_loss_rows(published)),
    )
    workload = Condition(
        "throughput_loss", "the workload is like one of those measured that lie in the band: a small dense model under "
        "TDX", single,
        tuple(single.cited(f"{row.subject}, {row.quantity.removeprefix('overhead: ')} ({row.id})", row.setting,
                           sum(row.bounds("1")) / 2, row.id) for row in rows),
    )
    return Evaluation(
        {"results_count": float(len(rows)), "results_in_band_count": float(len(inside)),
         "median_without_70b": median(middles), "least_without_70b": middles[0], "most_without_70b": middles[-1],
         "first_token_results_count": float(len(first)), "first_token_in_band_count": float(len(first_inside)),
         "draws_in_band": within},
        readings,
        (workload,),
    )


def _loss_rows(published: Published) -> tuple[str, ...]:
    """Ids of the published throughput losses that overheads are drawn from."""
    return tuple(loss.row for loss in overhead.throughput_losses(published))


def machines_factor(overhead: float, throughput: float) -> float:
    """Machines needed per machine of the baseline to reach ``throughput`` of it, when each does
    ``1/(1+overhead)``."""
    return throughput * (1.0 + overhead)


def L18_throughput_vs_centralised(grounds: Grounds) -> Evaluation:
    """L18: 99 % of the throughput of centralised serving, with a TEE overhead of 15 to 20 %."""
    published, simulation = grounds.published, grounds.simulation
    stated, rho = published.number("otr.throughput", "1"), published.number("otr.rho", "1")
    low, high = published.bounds("otr.tee_overhead", "1")
    base, proof = published.number("otr.provisional", "s"), published.number("zkml.latency_7b", "s")
    most = 1.0 / stated - 1.0
    same_gpu = base / (base + rho * proof)
    machines_low, machines_high = (machines_factor(share, stated) for share in (low, high))
    kept = sorted(simulation.payload["kept"])
    losses = grounds.memo("loss quantiles", lambda: [q for q, _ in overhead.quantiles(published, (0.05, 0.5, 0.95))])
    busy = simulation.payload["provers"]["OTR"]
    together = 1.0 / (1.0 + busy / _SERVING_GPUS)

    rule, little, as_slow = Rule("1", ">=", stated), Rule("1", "<=", most), Rule("1", ">=", stated * (1.0 + low) - 1.0)
    own, loss_rows = ("otr.tee_overhead",), _loss_rows(published)
    readings = (
        rule.follows("15 % more time", "bare metal is the baseline", 1.0 / (1.0 + low), *own),
        rule.follows("20 % more time", "bare metal is the baseline", 1.0 / (1.0 + high), *own),
        rule.follows("15 % less throughput", "bare metal is the baseline", 1.0 - low, *own),
        rule.follows("20 % less throughput", "bare metal is the baseline", 1.0 - high, *own),
        rule.follows("proving on the serving GPU", "1 % of the queries proved for 20 min", same_gpu, "otr.rho",
                     "zkml.latency_7b", "otr.provisional"),
        rule.recomputed("Mozilla 2026, 7B", "published H100 loss", 1.0 - published.number("cc26", "1"), "cc26"),
        rule.simulated("simulated, bare metal is the baseline", "median over draws from all published overheads of "
                       "an H100, the trace's mix of requests, full machines", median(kept), *loss_rows),
        rule.simulated("simulated, GPUs counted with the provers'", f"{busy} provers of one H100 beside "
                       f"{_SERVING_GPUS} that serve the trace", together, "otr.rho", "zkml.latency_7b",
                       "trace.azure23_conv.requests"),
    )
    conditions = (
        Condition("most_overhead", "of the time added no more than this costs throughput", little,
                  (little.cited("tuned engine", "B200, 1 GPU, CUDA graphs: below this",
                                published.number("cc37.gpu1", "1"), "cc37.gpu1"),
                   little.cited("tuned engine, 4 GPUs", "B200, CUDA graphs", published.number("cc37.tp4", "1"),
                                "cc37.tp4")), "TEE overhead 15 to 20 %"),
        Condition("baseline_overhead", "the centralised baseline is as slow as that itself; no row says that one runs "
                  "in confidential mode", as_slow),
        Condition("machines_ratio", "so many machines serve for each of the baseline; no text says so",
                  Rule("ratio", ">=", machines_low)),
    )
    return Evaluation(
        {"at_15pct": 1.0 / (1.0 + low), "at_20pct": 1.0 / (1.0 + high), "most_overhead": most,
         "machines_at_15pct_ratio": machines_low, "machines_at_20pct_ratio": machines_high,
         "proving_on_same_gpu": same_gpu, "simulated_median": median(kept), "simulated_best": kept[-1],
         "published_5th_percentile": 1 - losses[2], "published_median": 1 - losses[1],
         "published_95th_percentile": 1 - losses[0], "simulated_with_provers": together},
        readings,
        conditions,
    )
