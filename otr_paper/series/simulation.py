"""The data of the figures and tables on the simulation, as records, from a stored study or one made
now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from otr_core.errors import InputError
from otr_paper.claims.latency import largest_rho, slowest_proof, stated_mean, weighted_latency
from otr_paper.claims.published import Published
from otr_paper.series.trilemma import duration
from otr_paper.simulation import inputs, proof_pool
from otr_paper.simulation.law import MODELS
from otr_paper.simulation.run import KINDS
from otr_paper.store.records import Records, records

_LEAST_SWING = 1.03
"""Inputs that move a number by less than 3 % are left out of its tornado."""
TORNADO = "claim, input, low, high, base, stated"
"""Columns of a tornado."""
OTR_ATTESTED = ("OTR", "provisional")
"""System and kind of the latency after which OTR's answer counts provisionally."""
STATISTICS = ("mean", "p50", "p99")
#: Claim -> (the number of a sweep point that its verdict hangs on, axis label, row of the stated
#: number, its unit).
VERDICTS = {
    "L01": ("provisional p50_s", "median attested answer (s)", "otr.provisional", "s"),
    "L03": ("waited mean_s", "mean latency, proofs awaited (s)", "otr.latency_weighted", "s"),
    "L09": ("cost_usd", "cost of a query, all payers (USD)", "otr.cost_query", "USD"),
    "L18": ("kept", "throughput over bare metal", "otr.throughput", "1"),
}


def stated(published: Published) -> dict[str, float]:
    """The paper's numbers that the figures of notebook 07 show, by a short name with its unit."""
    rows = {
        "first_s": ("otr.provisional", "s"),
        "mean_s": ("otr.latency_weighted", "s"),
        "rho": ("otr.rho", "1"),
        "query_usd": ("otr.cost_query", "USD"),
        "throughput": ("otr.throughput", "1"),
        "proof_s": ("zkml.latency_7b", "s"),
        "proof_usd": ("zkml.cost_query", "USD"),
        "window_s": ("opml.window", "s"),
    }
    return {name: published.number(*row) for name, row in rows.items()}


def headline_numbers(published: Published, found: Mapping[str, Any]) -> str:
    """The paper's headline numbers beside what the stated parts and the simulation give, as a paragraph."""
    said, (least, most) = stated(published), published.bounds("otr.tee_overhead", "1")
    (attested,) = (one["p50"]["value"] for one in found["latency"] if (one["system"], one["kind"]) == OTR_ATTESTED)
    return (
        f"**In numbers.** Mean latency: {said['mean_s']:g} s stated, {stated_mean(published):.3g} s by the stated "
        f"parts. Cost of a query: {said['query_usd']:g} USD stated, {said['rho'] * said['proof_usd']:.2g} USD for its "
        f"share of proofs alone. Throughput: {said['throughput']:.0%} stated, {1 / (1 + most):.0%} to "
        f"{1 / (1 + least):.0%} left by the stated overhead. Simulated: an attested answer takes {attested:.2g} s in "
        f"the median."
    )


def serving_law_table(stored: Mapping[str, Any]) -> Records:
    """What the stored serving law is worth, as text: records of what, published, simulated, error, kind.

    Args:
        stored: the payload of ``SERVING_LAW``.
    """
    rows = []
    for model in MODELS:
        for seed in stored[model]["seeds"]:
            off = seed["tested"]["first_token_s"]
            rows.append(
                (f"first token, {model}, loads held back, seed {seed['seed']}", "", "", f"{off:.1%}", "simulated")
            )
    for one in stored["earlier_releases"]:
        users = [run["concurrency"] for run in one["runs"]]
        sides = ([run[f"first_token_s.{side}"] for run in one["runs"]] for side in ("published", "simulated"))
        printed, made = (f"{min(waits):.3g} to {max(waits):.3g} s" for waits in sides)
        loads = f"{len(users)} loads of {min(users)} to {max(users)} users"
        what = f"first token, {one['model']}, {one['release']} (lengths inferred, GPUs assumed), {loads}"
        rows.append((what, printed, made, f"{one['errors']['first_token_s']:.1%}", "simulated"))
    for one in stored["other_engines"]:
        printed, made = (f"{one[side]:.3g} s" for side in ("published_s", "simulated_s"))
        rows.append(
            (f"whole batch, {one['model']}, {one['differs']}", printed, made, f"{one['error']:+.1%}", "simulated")
        )
    found = stored["prefix"]
    for name in ("mean", "median"):
        less, more = (found[f"{side}_{name}_s"] for side in ("with", "without"))
        what = f"first token, {name}: prefixes read anew, and reused ({found['reused']:.0%} of the tokens)"
        rows.append((what, "", f"{more:.3g} s, {less:.3g} s", f"{less / more - 1:+.0%}", "simulated"))
    held = f"a cache of {found['capacity_tokens'] / 1e6:.1f} million tokens"
    for guess, one in found["forgetting"].items():
        what = f"first token, mean: {held}, prompts go on from the {guess} that fits ({one['reused']:.0%} reused)"
        more, less = found["without_mean_s"], one["mean_s"]
        rows.append((what, "", f"{more:.3g} s, {less:.3g} s", f"{less / more - 1:+.0%}", "simulated"))
    return records("what, published, simulated, error, kind", rows)


def sweep_provers(published: Published, measured: inputs.Measurements) -> dict[str, str]:
    """The provers of the stored sweep, and what a legend calls them: name and time."""
    known = inputs.all_provers(published, measured)
    return {
        name: f"{known[name].name.split(':')[0]}: "
        + (f"{known[name].batch} in " if known[name].batch > 1 else "")
        + duration(known[name].batch_s)
        for name in ("flashprove", "stated", "zkllm70b", "ours")
    }


def your_case(case: Mapping[str, float], found: Mapping[str, Any], published: Published) -> Records:
    """One case in numbers, as text: records of quantity, yours, stated, kind.

    Args:
        case: rho, base_s, proof_s, proof_usd, load and provers. found: what the simulation found at it
            (``study.otr_point``).
    """
    said, rho = stated(published), case["rho"]
    both = (case["base_s"], case["proof_s"])
    mean_s, unstable = said["mean_s"], found["unstable"]
    rows = [
        (
            "mean latency if proofs are awaited, by the law",
            f"{weighted_latency(*both, rho):.4g} s",
            f"{mean_s:g} s",
            "recomputed",
        ),
        (
            f"slowest proof for {mean_s:g} s at this rate",
            f"{max(slowest_proof(case['base_s'], mean_s, rho), 0):.4g} s" if rho else "any",
            duration(said["proof_s"]),
            "recomputed",
        ),
        (
            f"largest rate for {mean_s:g} s at this proof time",
            f"{min(max(largest_rho(case['base_s'], mean_s, case['proof_s']), 0), 1) * 100:.4g} %"
            if case["proof_s"] > case["base_s"]
            else "any",
            f"{said['rho'] * 100:g} %",
            "recomputed",
        ),
        (
            "proofs, a query",
            f"{rho * case['proof_usd']:.4g} USD",
            f"{said['rho'] * said['proof_usd']:.4g} USD",
            "recomputed",
        ),
        (
            f"attested answer at {case['load']:g} times the trace's load, median",
            _or_why(found, "provisional p50_s", "s"),
            f"{said['first_s']:g} s",
            "simulated",
        ),
        (
            f"mean latency with {case['provers']:,} provers",
            _or_why(found, "waited mean_s", "s"),
            f"{mean_s:g} s",
            "simulated",
        ),
        ("cost of a query, all payers", f"{found['cost_usd']:.4g} USD", f"{said['query_usd']:g} USD", "simulated"),
        ("too much load for", unstable or "nothing", "", "simulated"),
    ]
    return records("quantity, yours, stated, kind", rows)


def _or_why(found: Mapping[str, Any], name: str, unit: str) -> str:
    value = found.get(name)
    return "no number" if value is None else f"{value:.4g} {unit}"


def latencies(found: Mapping[str, Any]) -> Records:
    """Flat latency records: system, kind, statistic, value_s, low_s, high_s; or the reason why
    there is none."""
    rows: Records = []
    for record in found["latency"]:
        head = {"system": record["system"], "kind": record["kind"], "unstable": record["unstable"]}
        if record["unstable"]:
            rows.append({**head, "statistic": "", "value_s": None, "low_s": None, "high_s": None})
        for name in STATISTICS:
            if name in record:
                rows.append({**head, "statistic": name, **{f"{k}_s": v for k, v in record[name].items()}})
    return sorted(rows, key=lambda r: (r["system"], KINDS.index(r["kind"])))


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
    """OTR's throughput over that of named baselines: records of baseline, low, value, high (share),
    kind, note."""
    kept = sorted(found["kept"])
    span, draws = np.array((kept[0], median(kept), kept[-1])), f"{len(kept)} draws of the published overhead"
    rows = [
        ("same GPUs, bare metal", *span.tolist(), draws),
        ("same GPUs, confidential mode too", 1.0, 1.0, 1.0, "proofs on other machines"),
    ]
    for prover, name in (("flashprove", "FlashProve"), ("stated", "20 min")):
        beside = provers_beside(published, prover, rho=rho, rate_per_s=found["rate_per_s"])
        share = serving_gpus / (serving_gpus + beside)
        case = f"all GPUs, with {beside} to prove ({name})"
        rows.append((case, *(share * span).tolist(), f"{serving_gpus} GPUs serve"))
    return records("baseline, low, value, high, note, kind", ((*row, "simulated") for row in rows))


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
    """How far each input alone moves what a verdict hangs on: records of claim, input, low, high,
    base, stated, unstable; the widest first. An end without a stable value is None.

    Args:
        points: the default point first, then one with each changed input. ends: input -> (label,
            low end, high end).
    """
    base, others = points[0], points[1:]
    found: Records = []
    for claim, (quantity, _, row, unit) in VERDICTS.items():
        stated, rows = published.number(row, unit), []
        for name, (label, *values) in ends.items():
            changed = [next((p for p in others if name in p and p[name] == value), base) for value in values]
            rows.append((claim, label, *(point.get(quantity) for point in changed), base[quantity], stated))
        swings = [one for one in records(TORNADO, rows) if _swing(one) > _LEAST_SWING]
        found += sorted(swings, key=_swing, reverse=True)
    return found


def baseline_swings(baselines: Sequence[Mapping[str, Any]], published: Published) -> Records:
    """Other baselines as inputs of L18: ``baselines`` in the form of ``tornado``, the first one
    being the base."""
    stated = published.number("otr.throughput", "1")
    base = float(baselines[0]["value"])
    rows = (("L18", f"baseline: {one['baseline']}", one["value"], base, base, stated) for one in baselines[1:])
    return records(TORNADO, rows)


def _swing(record: Mapping[str, Any]) -> float:
    if record["low"] is None or record["high"] is None:
        return float("inf")
    return float(max(record["low"], record["high"]) / min(record["low"], record["high"]))


def small_run_table(comparison: Sequence[Mapping[str, Any]]) -> Records:
    """``small_scale.comparison`` as text: quantity, simulated, measured, error, widest error of one
    query, where the prediction is from."""

    def number(value: float, unit: str) -> str:
        text = f"{value:,.0f}" if unit in ("gas", "moves") else f"{value:.3g}"
        return text if unit in ("1", "moves") else f"{text} {unit}"

    rows = []
    for one in comparison:
        both = (number(one[side], one["unit"]) for side in ("predicted", "measured"))
        widest = "" if one["worst"] is None else f"{one['worst']:+.0%}"
        rows.append((one["quantity"], *both, f"{one['error']:+.0%}", widest, one["kind"]))
    return records("quantity, predicted, measured, error, widest, prediction", rows)
