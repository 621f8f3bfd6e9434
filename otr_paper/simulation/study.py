"""The studies whose results are stored: four systems on a trace, one point of a sweep, one input
moved at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from otr_core import economics as eco
from otr_core.dispute.profile import DeploymentProfile, own_profile, profile_numbers
from otr_core.dispute.records import BASIS
from otr_core.economics.deterrence import safe_value
from otr_core.errors import InputError, ParameterError
from otr_paper.claims.published import Published
from otr_paper.claims.security import downgrade
from otr_paper.simulation import inputs, law, money, run, stats, systems
from otr_paper.simulation.arrivals import Requests
from otr_paper.simulation.replica import saturated_rate
from otr_paper.store.records import Records
from otr_paper.studies import overhead
from otr_paper.studies.dispute_costs import TERMS

MODEL = "llama33_70b"
REPLICATIONS = 12
SEEDS = 3
"""Seeds of a point of a sweep, and of the three systems that feel no drawn overhead."""
#: Cheated answers after which detection is stated.
CHEATS = 100
REWARD_SHARE = TERMS.reward_bps / BASIS
"""Share of a slash that the court pays to the catcher, who may be the operator's own fisherman."""


DEPENDS_ON = ("court.window_s", "court.clock_s", "parties.batch_s", "parties.move_s", "parties.stake_usd")
"""Numbers of the deployment that the four systems depend on."""

#: Case of ``four_systems``' cost -> (chain, whether a proof costs what the paper says instead of
#: its machine time).
STATED_PRICE = "Base, proofs at 45 USD"
"""The case in which a proof costs what the paper says."""
CASES = {"Base": ("Base", False), "L1": ("L1", False), STATED_PRICE: ("Base", True)}


def four_systems(
    published: Published,
    requests: Requests,
    measured: inputs.Measurements,
    *,
    seed: int,
    replications: int,
    profile: DeploymentProfile | None = None,
) -> dict[str, Any]:
    """Latencies by kind, throughput and cost of the four systems on one sequence of requests; plain
    JSON.

    The prover is the paper's, 20 minutes a proof. OTR is run once for each of ``replications``
    draws of the overhead of confidential mode; the others draw nothing but phases and disputes, and
    run with ``SEEDS`` seeds. ``unit_proofs`` is OTR once more with the prover of one drawn unit, which proves no
    whole inference and therefore has no place in ZKML. ``deployment`` is what of ``profile`` (None:
    the one that ships) they depend on; ``outside_fit`` which requests the serving law extrapolates to.
    """
    own = profile or own_profile()
    machine, prover, unit = measured.laws[MODEL], inputs.provers(published)["stated"], measured.unit
    rate, draws = requests.rate_per_s, overhead.draw_overhead(published, replications, seed)

    def simulated(name: str, made: inputs.Prover) -> list[run.SimulationRun]:
        """One system with one prover, once for each draw of the overhead that it feels."""
        found = []
        for number, (loss, first) in enumerate(draws if name == "OTR" else draws[:1] * SEEDS):
            system = systems.four(published, measured, made, rate, loss=loss, first_overhead=first, profile=own)[name]
            found.append(run.simulate(system, requests, machine, seed + number))
        return found

    runs = {name: simulated(name, prover) for name in systems.NAMES}
    unit_runs = simulated("OTR", unit)

    # What the machines can carry at most, and the share of it that each draw of the overhead
    # leaves.
    plain = saturated_rate(requests, machine)
    kept = [saturated_rate(requests, machine.slowed(loss)) / plain for loss, _ in draws]

    def costs(made: inputs.Prover) -> Records:
        """The items of every case at the median overhead."""
        items: Records = []
        for case, (chain, stated) in CASES.items():
            usd = published.number("zkml.cost_query", "USD") if stated else None
            carried: dict[str, Any] = {"capacity_per_s": plain, "kept": float(np.median(kept)), "rate_per_s": rate}
            carried |= {"batch_s": float(own.parties.batch_s), "stake_usd": float(own.parties.stake_usd)}
            at = prices(published, measured, made, chain=chain, proof_usd=usd, **carried)
            items += [{"case": case, **asdict(item)} for item in money.items(published, at)]
        return items

    latencies = [one.latency_s for one in runs["OTR"]]
    limit, mean = published.number("otr.provisional", "s"), published.number("otr.latency_weighted", "s")
    waited = [one.waited_s for one in runs["OTR"] if one.waited_s is not None]
    chains = ("Base", "L1")
    return {
        "deployment": {name: profile_numbers(own)[name] for name in DEPENDS_ON},
        "requests": len(requests),
        "rate_per_s": rate,
        "prover": prover.name,
        "seed": seed,
        "latency": [record for name in systems.NAMES for record in stats.table(runs[name], seed)],
        "utilisation": {name: dict(found[0].utilisation) for name, found in runs.items()},
        "provers": {name: found[0].system.provers for name, found in runs.items()},
        "otr": {
            "first_token_below_500ms": _share(latencies, "first token", limit),
            "provisional_below_500ms": _share(latencies, "provisional", limit),
            "provisional_below_800ms": _share(latencies, "provisional", mean),
            "waited_mean_s": float(np.mean(waited)) if len(waited) == len(latencies) else None,
        },
        "capacity_per_s": plain,
        "outside_fit": machine.outside_fit(requests),
        "kept": kept,
        "cost": costs(prover),
        "unit_proofs": {
            "prover": unit.name,
            "proof_s": unit.batch_s,
            "provers": unit_runs[0].system.provers,
            "latency": stats.table(unit_runs, seed),
            "cost": [item for item in costs(unit) if item["system"] == "OTR" and item["case"] in chains],
        },
        "draws": [list(pair) for pair in draws],
    }


def _share(latencies: list[Mapping[str, Any]], kind: str, limit_s: float) -> float | None:
    """Share of the answers below a limit, mean over the replications; None where one has no such
    latency."""
    if not all(kind in latency for latency in latencies):
        return None
    return float(np.mean([np.mean(latency[kind] < limit_s) for latency in latencies]))


def prices(
    published: Published,
    measured: inputs.Measurements,
    prover: inputs.Prover,
    *,
    chain: str = "Base",
    model: str = MODEL,
    **case: Any,
) -> money.Prices:
    """Prices of one case: gas of one chain, of our contracts as measured and of the prover's
    verifier.

    Args:
        case: the other fields of ``money.Prices``. Unless given, a proof costs its machine time,
            and the paper's share of the answers is proved.
    """
    usual = {"proof_usd": money.proof_price_usd(published, prover), "rho": published.number("otr.rho", "1")}
    return money.Prices(
        gpus=law.MODELS[model],
        gas_eth=money.gas_price_eth(published, chain),
        commit=measured.commit,
        verify=prover.verify,
        move=measured.move,
        moves=measured.moves,
        judge_s=published.number("poq.judge_large_a100", "s") / 1000.0,
        **{**usual, **{name: value for name, value in case.items() if value is not None}},
    )


def default_config(profile: DeploymentProfile) -> dict[str, Any]:
    """The point everything else is compared with: rate, stake and window of the deployment, the
    paper's prover, the median overhead, 70B, chat."""
    return {
        "rho": profile.court.spot_bps / BASIS,
        "load": 1.0,
        "prover": "stated",
        "proof_usd": None,
        "proof_s": None,
        "overhead_level": 0.5,
        "stake_usd": float(profile.parties.stake_usd),
        "provers": 100,
        "window_s": float(profile.court.window_s),
        "machines": 2,
        "chain": "Base",
        "model": MODEL,
        "trace": "azure_conv",
    }


DEFAULT_CONFIG: Mapping[str, Any] = default_config(own_profile())
"""That of the profile that ships."""


def otr_point(
    published: Published,
    requests: Requests,
    measured: inputs.Measurements,
    config: Mapping[str, Any],
    seed: int,
    profile: DeploymentProfile | None = None,
) -> dict[str, Any]:
    """OTR at one point of a sweep: latencies, utilisation, cost, detection, deterrence, to six
    significant digits. ``unstable`` names the kinds of latency that have no number, and why; empty
    if all have. ``outside fit`` is the largest share of the requests beyond one end of the lengths that
    the serving law was fitted to.

    Args:
        requests: those of ``config["trace"]``.
        config: rho, load (arrivals that many times as fast), prover (a key of
            ``inputs.all_provers``), proof_usd (None: its machine time), proof_s (time of one proof on
            one machine; None: the prover's own), overhead_level (of the
            published distribution, 0 to 1), stake_usd, provers (machines), window_s, machines,
            chain, model, trace. profile: of the deployment, for what ``config`` does not say (None: the
            one that ships).

    Raises:
        InputError: a missing or unknown key, an unknown prover. ParameterError: a value outside its
            domain.
    """
    if set(config) != set(DEFAULT_CONFIG):
        raise InputError(f"sweep point: found keys {sorted(config)}, expected {sorted(DEFAULT_CONFIG)}")
    known = inputs.all_provers(published, measured)
    if config["prover"] not in known:
        raise InputError(f"prover: found {config['prover']!r}, expected one of {', '.join(known)}")
    if not 0 <= config["overhead_level"] <= 1:
        raise ParameterError("overhead_level", config["overhead_level"], "a share in [0, 1]")
    rho, stake, model = float(config["rho"]), config["stake_usd"], config["model"]
    if model not in measured.laws:
        raise InputError(f"model: found {model!r}, expected one of {', '.join(measured.laws)}")
    machine, prover = measured.laws[model], known[config["prover"]]
    if config["proof_s"] is not None:
        prover = replace(prover, batch_s=config["proof_s"], batch=1)
    arriving = requests.at_load(config["load"])
    rate = arriving.rate_per_s

    # Latencies: OTR at the chosen quantile of both overheads, with the chosen number of provers.
    ((loss, first),) = overhead.quantiles(published, [config["overhead_level"]])
    own = profile or own_profile()
    size = {"rho": rho, "machines": config["machines"], "window_s": config["window_s"], "profile": own}
    otr = systems.four(published, measured, prover, rate, loss=loss, first_overhead=first, **size)["OTR"]
    found = run.simulate(replace(otr, provers=config["provers"]) if rho else otr, arriving, machine, seed)

    # Costs: of the capacity that the overhead leaves.
    capacity = machine.capacity_per_s(requests)
    kept = machine.slowed(loss).capacity_per_s(requests) / capacity
    case = {name: config[name] for name in ("chain", "model", "proof_usd", "stake_usd")}
    carried: dict[str, Any] = {"capacity_per_s": capacity, "kept": kept, "rate_per_s": rate}
    carried["batch_s"] = float(own.parties.batch_s)
    costs = money.items(published, prices(published, measured, prover, rho=rho, **carried, **case))
    proofs = [item.usd for item in costs if item.system == "OTR" and item.item.startswith(("sampled", "proof"))]

    # Deterrence of the downgrade by this rate and stake, fishermen not counted.
    price, gain = downgrade(published)
    detection = eco.detection_probability(rho=rho, d=prover.detects, phi=0.0, w=0.0)
    bond = {"stake_usd": stake, "slash_fraction": 1.0, "dispute_cost_usd": 0.0, "reward_share": REWARD_SHARE}
    tau = eco.deterrence_threshold(gain_usd=gain, price_usd=price, **bond)
    record: dict[str, Any] = {
        "unstable": "; ".join(f"{kind}: {why}" for kind, why in found.unstable.items()),
        "outside fit": max(machine.outside_fit(requests).values(), default=0.0),
        **{f"{part} utilisation": share for part, share in found.utilisation.items()},
        "kept": kept,
        "waited mean_s": found.waited_s,
        "cost_usd": money.total_usd(costs, "OTR"),
        "proofs_usd": sum(proofs),
        "plain_usd": money.total_usd(costs, "centralised"),
        "detection": float(1.0 - (1.0 - detection) ** CHEATS),
        "deters downgrade": bool(detection > tau),
        "deterred gain_usd": safe_value(price_usd=price, compute_saved_usd=0.0, detection=detection, **bond),
    }
    for kind, values in found.latency_s.items():
        p50, p99 = np.quantile(values, (0.5, 0.99))
        record |= {f"{kind} mean_s": float(values.mean()), f"{kind} p50_s": float(p50), f"{kind} p99_s": float(p99)}
    return {name: float(f"{v:.6g}") if isinstance(v, float) else v for name, v in record.items()}


def over_seeds(records: Records) -> dict[str, Any]:
    """One point of a sweep, from ``otr_point`` with several seeds: of each number the mean (over the seeds
    that have it: with few proofs one may draw none), to six significant digits. ``spread`` is the largest
    difference between two seeds in a latency, over its mean."""
    found: dict[str, Any] = {}
    spread = 0.0
    for name in dict.fromkeys(name for record in records for name in record):
        values = [record[name] for record in records if record.get(name) is not None]
        if not values or not isinstance(values[0], float):
            found[name] = values[0] if values else None
            continue
        found[name] = float(f"{np.mean(values):.6g}")
        if name.endswith("_s"):
            spread = max(spread, (max(values) - min(values)) / found[name])
    return {**found, "spread": float(f"{spread:.3g}")}
