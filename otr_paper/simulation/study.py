"""The studies whose results are stored: four systems on a trace, one point of a sweep, one input moved at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from otr_core import economics as eco
from otr_core.errors import InputError, ParameterError
from otr_paper.claims.published import Published
from otr_paper.claims.security import downgrade
from otr_paper.simulation import inputs, law, money, run, stats, systems
from otr_paper.simulation.arrivals import Requests
from otr_paper.simulation.replica import saturated_rate
from otr_paper.studies import overhead

MODEL = "llama33_70b"
REPLICATIONS = 12
#: Cheated answers after which detection is stated.
CHEATS = 100


def four_systems(
    published: Published, requests: Requests, measured: inputs.Measurements, *, seed: int, prover: str = "stated",
    replications: int = REPLICATIONS,
) -> dict[str, Any]:  # fmt: skip
    """Latencies by kind, throughput and cost of the four systems on one sequence of requests; plain JSON.

    OTR is replicated with as many draws of the confidential overhead; the others draw nothing but phases and disputes
    and run once.
    """
    machine = law.fitted_law(published, MODEL)
    made = inputs.provers(published)[prover]
    draws = overhead.draw_overhead(published, replications, seed)
    runs: dict[str, list[run.SimulationRun]] = {name: [] for name in systems.NAMES}
    for number, (loss, first) in enumerate(draws):
        parts = systems.four(published, measured, made, requests.rate_per_s, loss=loss, first_overhead=first)
        for name, system in parts.items():
            if name == "OTR" or number == 0:
                runs[name].append(run.simulate(system, requests, machine, seed + number))
    plain = saturated_rate(requests, machine)
    kept = [saturated_rate(requests, machine.slowed(loss)) / plain for loss, _ in draws]
    otr = [one.latency_s for one in runs["OTR"]]
    limit, mean = published.number("otr.provisional", "s"), published.number("otr.latency_weighted", "s")
    waited = [one.waited_s for one in runs["OTR"] if one.waited_s is not None]
    return {
        "requests": len(requests), "rate_per_s": requests.rate_per_s, "prover": made.name, "seed": seed,
        "latency": [record for name in systems.NAMES for record in stats.table(runs[name], seed)],
        "utilisation": {name: dict(found[0].utilisation) for name, found in runs.items()},
        "provers": {name: found[0].system.provers for name, found in runs.items()},
        "otr": {
            "first_token_below_500ms": _share(otr, "first token", limit),
            "provisional_below_500ms": _share(otr, "provisional", limit),
            "provisional_below_800ms": _share(otr, "provisional", mean),
            "waited_mean_s": float(np.mean(waited)) if len(waited) == len(otr) else None,
        },
        "capacity_per_s": plain,
        "kept": kept,
        "cost": _costs(published, measured, made, plain, float(np.median(kept)), requests.rate_per_s),
        "unit_proofs": _unit_proofs(
            published, requests, measured, machine, draws, seed, plain, float(np.median(kept))
        ),
        "draws": [list(pair) for pair in draws],
    }  # fmt: skip


def _share(latencies: list[Mapping[str, Any]], kind: str, limit_s: float) -> float | None:
    if not all(kind in latency for latency in latencies):
        return None
    return float(np.mean([np.mean(latency[kind] < limit_s) for latency in latencies]))


#: Case of ``four_systems``' cost -> (chain, whether a proof costs what the paper says instead of its machine time).
CASES = {"Base": ("Base", False), "L1": ("L1", False), "Base, proofs at 45 USD": ("Base", True)}


def _costs(
    published: Published, measured: inputs.Measurements, prover: inputs.Prover, capacity_per_s: float, kept: float,
    rate_per_s: float,
) -> list[dict[str, Any]]:  # fmt: skip
    """The items of every case, median overhead."""
    records = []
    for case, (chain, stated) in CASES.items():
        made = prices(
            published, measured, prover, capacity_per_s=capacity_per_s, kept=kept, rate_per_s=rate_per_s, chain=chain,
            proof_usd=published.number("zkml.cost_query", "USD") if stated else None,
        )  # fmt: skip
        records += [{"case": case, **record} for record in money.as_records(money.items(published, made))]
    return records


def _unit_proofs(
    published: Published, requests: Requests, measured: inputs.Measurements, machine: law.StepLaw,
    draws: list[tuple[float, float]], seed: int, plain: float, kept: float,
) -> dict[str, Any]:  # fmt: skip
    """OTR once more with ``measured.unit``, which proves one drawn unit and so has no place in ZKML."""
    rate, unit = requests.rate_per_s, measured.unit
    runs = [
        run.simulate(
            systems.four(published, measured, unit, rate, loss=loss, first_overhead=first)["OTR"],
            requests, machine, seed + number,
        )
        for number, (loss, first) in enumerate(draws)
    ]  # fmt: skip
    costs = _costs(published, measured, unit, plain, kept, rate)
    return {
        "prover": unit.name, "proof_s": unit.batch_s, "provers": runs[0].system.provers,
        "latency": stats.table(runs, seed),
        "cost": [one for one in costs if one["system"] == "OTR" and one["case"] in ("Base", "L1")],
    }  # fmt: skip


def prices(
    published: Published, measured: inputs.Measurements, prover: inputs.Prover, *, capacity_per_s: float, kept: float,
    rate_per_s: float, chain: str = "Base", proof_usd: float | None = None, rho: float | None = None,
    model: str = MODEL, **changes: float,
) -> money.Prices:  # fmt: skip
    """Prices of one case: gas of one chain, of our contracts as measured and of the prover's verifier.

    Args:
        proof_usd: price of one proof; None: the prover's machine time.
    """
    return money.Prices(
        capacity_per_s=capacity_per_s, gpus=law.MODELS[model], kept=kept, rate_per_s=rate_per_s,
        gas_eth=money.gas_price_eth(published, chain), commit=measured.commit, verify=prover.verify, move=measured.move,
        moves=measured.moves, proof_usd=money.proof_price_usd(published, prover) if proof_usd is None else proof_usd,
        rho=published.number("otr.rho", "1") if rho is None else rho,
        judge_s=published.number("poq.judge_large_a100", "s") / 1000.0, **changes,  # type: ignore[arg-type]
    )  # fmt: skip


def default_config() -> dict[str, Any]:
    """The point everything else is compared with: the paper's rate and prover, the median overhead, 70B, chat."""
    return {
        "rho": 0.01, "load": 1.0, "prover": "stated", "proof_usd": None, "overhead_level": 0.5, "stake_usd": 100.0,
        "provers": 100, "window_s": 3600.0, "machines": 2, "chain": "Base", "model": MODEL, "trace": "azure_conv",
    }  # fmt: skip


def otr_point(
    published: Published, requests: Requests, measured: inputs.Measurements, config: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """OTR at one point of a sweep: latencies, utilisation, cost, detection, deterrence, to six significant digits.
    ``unstable`` names the kinds of latency that have no number, and why; empty if all have.

    Args:
        requests: those of ``config["trace"]``.
        config: rho, load (arrivals that many times as fast), prover (a key of ``inputs.all_provers``), proof_usd (None:
            its machine time), overhead_level (of the published distribution, 0 to 1), stake_usd, provers (machines),
            window_s, machines, chain, model, trace.

    Raises:
        InputError: a missing or unknown key, an unknown prover. ParameterError: a value outside its domain.
    """
    if set(config) != set(default_config()):
        raise InputError(f"sweep point: found keys {sorted(config)}, expected {sorted(default_config())}")
    known = inputs.all_provers(published, measured)
    if config["prover"] not in known:
        raise InputError(f"prover: found {config['prover']!r}, expected one of {', '.join(known)}")
    if not 0 <= config["overhead_level"] <= 1:
        raise ParameterError("overhead_level", config["overhead_level"], "a share in [0, 1]")
    machine, prover = law.fitted_law(published, config["model"]), known[config["prover"]]
    rho = float(config["rho"])
    arriving = requests.at_load(config["load"])
    ((loss, first),) = overhead.quantiles(published, [config["overhead_level"]])
    base = systems.four(
        published, measured, prover, arriving.rate_per_s, loss=loss, first_overhead=first, rho=rho,
        machines=config["machines"], window_s=config["window_s"],
    )["OTR"]  # fmt: skip
    system = replace(base, provers=config["provers"]) if rho else base
    found = run.simulate(system, arriving, machine, seed)
    capacity = machine.capacity_per_s(requests)
    kept = machine.slowed(loss).capacity_per_s(requests) / capacity
    case = prices(
        published, measured, prover, capacity_per_s=capacity, kept=kept, rate_per_s=arriving.rate_per_s,
        chain=config["chain"], proof_usd=config["proof_usd"], rho=rho, stake_usd=config["stake_usd"],
        model=config["model"],
    )  # fmt: skip
    costs = money.items(published, case)
    proofs = [item.usd for item in costs if item.system == "OTR" and item.item.startswith(("sampled", "proof"))]
    price, gain = downgrade(published)
    detection = eco.detection_probability(rho=rho, d=prover.detects, phi=0.0, w=0.0)
    tau = eco.deterrence_threshold(
        gain_usd=gain, price_usd=price, stake_usd=config["stake_usd"], slash_fraction=1.0, dispute_cost_usd=0.0
    )
    record: dict[str, Any] = {
        "unstable": "; ".join(f"{kind}: {why}" for kind, why in found.unstable.items()),
        **{f"{part} utilisation": share for part, share in found.utilisation.items()},
        "kept": kept, "waited mean_s": found.waited_s, "cost_usd": money.total_usd(costs, "OTR"),
        "proofs_usd": sum(proofs), "plain_usd": money.total_usd(costs, "centralised"),
        "detection": float(1.0 - (1.0 - detection) ** CHEATS), "deters downgrade": bool(detection > tau),
        "deterred gain_usd": float(detection * (price + config["stake_usd"])),
    }  # fmt: skip
    for kind, values in found.latency_s.items():
        p50, p99 = np.quantile(values, (0.5, 0.99))
        record |= {f"{kind} mean_s": float(values.mean()), f"{kind} p50_s": float(p50), f"{kind} p99_s": float(p99)}
    return {name: float(f"{v:.6g}") if isinstance(v, float) else v for name, v in record.items()}
