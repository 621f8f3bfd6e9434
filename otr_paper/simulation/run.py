"""Simulate one system on one sequence of requests, and give each kind of latency by itself.

A kind of latency is *unstable*, and has no number, where a line of waiting requests or proofs only
grows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otr_paper.simulation import proof_pool, settlement
from otr_paper.simulation.arrivals import Requests
from otr_paper.simulation.law import StepLaw
from otr_paper.simulation.replica import serve_pool
from otr_paper.simulation.systems import System

#: Latencies in the order in which they end; all count from the request's arrival.
KINDS = ("first token", "answer", "provisional", "proof", "final")
UNSTABLE = 1.0
"""Offered work over capacity from which a line has no steady state."""


@dataclass(frozen=True, eq=False)
class SimulationRun:
    """The latencies of one simulated system.

    Attributes:
        latency_s: kind -> one value a request (a proved request for *proof*), in order of arrival.
            A kind the system does not have, or has no stable value of, is absent.
        utilisation: of the serving machines and of the provers, offered work over capacity.
        unstable: kind -> why it has no number.
        waited_s: mean wait over all requests, where the user of a proved request waits for its
            proof and every other user for the provisional answer; None where it is unstable.
    """

    system: System
    latency_s: Mapping[str, NDArray[np.float64]]
    utilisation: Mapping[str, float]
    unstable: Mapping[str, str]
    waited_s: float | None


def serving_utilisation(system: System, requests: Requests, law: StepLaw) -> float:
    """Offered requests over what the machines can finish of this mix, in confidential mode where
    the system is."""
    return requests.rate_per_s / (system.machines * law.slowed(system.loss).capacity_per_s(requests))


def simulate(system: System, requests: Requests, law: StepLaw, seed: int) -> SimulationRun:
    """All latencies of ``system`` on ``requests``. Same arguments, same bytes.

    1. Refuse what no machine can serve, and compare the work offered with what machines and provers
       can do: too much has no latency.
    2. Serve the requests: first tokens and answers.
    3. Let the answers be signed and checked, and included in a batch and a block.
    4. Prove the sampled answers, in the order in which the beacon picks them.
    5. Dispute a few answers inside the window. An answer is final when window, proof and dispute
       are over.

    Raises:
        ParameterError: a request beyond the model's context, or one that fits into no machine.
    """
    # 1. Refuse what no machine can serve; compare the work offered with what machines and provers do.
    law.check_lengths(requests.tokens_in, requests.tokens_out)
    rng = np.random.default_rng([seed, 3])
    load = {"serving": serving_utilisation(system, requests, law)}
    if system.rho > 0:
        load["provers"] = proof_pool.utilisation(
            system.rho * requests.rate_per_s, system.proof_s, system.provers, system.proof_batch
        )
    if load["serving"] >= UNSTABLE:
        why = f"requests come {load['serving']:.2f} times as fast as {system.machines} machines can answer them"
        return SimulationRun(system, {}, load, dict.fromkeys(_kinds(system), why), None)

    # 2. Serve the requests: first tokens and answers.
    served = serve_pool(requests, law.slowed(system.loss), system.machines)
    start = requests.arrival_s
    # Confidential mode slows every step (``slowed``) and adds more to the first token than that.
    # What it adds beyond the slower steps delays the request, yet keeps no part of the machine
    # busy, so that others do not wait for it.
    late = (served.first_s - start) * max(0.0, (1.0 + system.first_overhead) * (1.0 - system.loss) - 1.0)
    first, answer = served.first_s + late, served.done_s + late

    # 3. Signed and checked, then included. Batches, blocks and the beacon tick from phases drawn
    #    for this run.
    phases = rng.random(3)
    ready = answer + system.after_s
    included = settlement.next_tick(settlement.next_tick(ready, system.batch_s, phases[0]), system.block_s, phases[1])
    latency = {"first token": first - start, "answer": answer - start}
    has_provisional = system.rho < 1.0
    provisional = included if system.committed_first else ready
    if has_provisional:
        latency["provisional"] = provisional - start

    # 4. Prove the sampled answers. Their users wait for the proof (``until``), all others do not.
    unstable: dict[str, str] = {}
    final = included + system.window_s
    waited: float | None = float((provisional - start).mean())
    picked = np.flatnonzero(rng.random(len(requests)) < system.rho)
    if system.rho > 0 and load["provers"] >= UNSTABLE:
        why = f"proofs are asked for {load['provers']:.2f} times as fast as {system.provers} provers make them"
        unstable = {"proof": why, "final": why}
        waited = None
    elif len(picked):
        asked = (
            settlement.next_round(included[picked], system.beacon_s, phases[2]) if system.beacon_s else ready[picked]
        )
        proved = _proofs(asked, system)
        latency["proof"] = proved - start[picked]
        posted = settlement.next_tick(proved, system.block_s, phases[1])
        final[picked] = np.maximum(final[picked], posted)
        until = provisional.copy()
        until[picked] = proved
        waited = float((until - start).mean())

    # 5. Dispute a few answers: each dispute opens at any time inside the window.
    if system.window_s > 0:
        disputed = np.flatnonzero(rng.random(len(requests)) < system.disputed)
        opened = included[disputed] + system.window_s * rng.random(len(disputed))
        terms = {name: getattr(system, name) for name in ("moves", "move_s", "block_s", "clock_s", "silent")}
        lasts = settlement.dispute_s(len(disputed), rng=rng, **terms)
        final[disputed] = np.maximum(final[disputed], opened + lasts)
    if "final" not in unstable:
        latency["final"] = final - start
    return SimulationRun(system, latency, load, unstable, waited)


def _kinds(system: System) -> list[str]:
    """The kinds of latency that the system has: no proof where none is sampled, nothing provisional
    where all are."""
    return [
        kind for kind in KINDS if not (kind == "provisional" and system.rho == 1) and (kind != "proof" or system.rho)
    ]


def _proofs(asked: NDArray[np.float64], system: System) -> NDArray[np.float64]:
    """When each proof is done, in the order asked for."""
    order = np.argsort(asked, kind="stable")
    done = np.empty(len(asked))
    done[order] = proof_pool.batch_end_times(asked[order].tolist(), system.proof_s, system.proof_batch, system.provers)
    return done
