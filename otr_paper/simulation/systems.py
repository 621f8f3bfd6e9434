"""OTR, opML, ZKML and PoQ are one simulation with four sets of parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from otr_core.dispute.profile import DeploymentProfile, own_profile
from otr_core.errors import ParameterError
from otr_paper.claims.published import Published
from otr_paper.simulation import proof_pool
from otr_paper.simulation.inputs import OPML_MOVES, Measurements, Prover

NAMES = ("OTR", "opML", "ZKML", "PoQ")
OPML_CLOCK_S = 86_400.0
"""Of each side of one of opML's disputes: ours, as its texts give none. No part of our deployment."""


@dataclass(frozen=True, kw_only=True)
class System:
    """One system; times in s, shares in [0, 1].

    Attributes:
        machines: serving machines, each as in the published runs.
        loss: share of throughput that confidential mode costs; first_overhead: share of time that
            it adds to the first token, where that is more than the loss already makes.
        after_s: from the last token to the answer the client may act on: signing and checking, or
            judging.
        committed_first: the client waits for the commitment's block before acting.
        batch_s: a batch's root is posted this often, 0 for at once; block_s: time between blocks.
        rho: share of the answers proved; beacon_s: rounds of the beacon that picks them, 0 for no
            choice at all.
        proof_s, proof_batch, provers: seconds of one batch of proofs, its size, and the machines
            that make them.
        window_s: how long an answer can be challenged; 0 for never.
        disputed: share of the answers that are; moves, move_s, clock_s, silent: see
            ``settlement.dispute_s``.
    """

    name: str
    machines: int = 2
    loss: float = 0.0
    first_overhead: float = 0.0
    after_s: float = 0.0
    committed_first: bool = False
    batch_s: float
    block_s: float = 2.0
    rho: float = 0.0
    beacon_s: float = 0.0
    proof_s: float = 0.0
    proof_batch: int = 1
    provers: int = 0
    window_s: float = 0.0
    disputed: float = 0.0
    moves: int = 1
    move_s: float
    clock_s: float
    silent: float = 0.1

    def __post_init__(self) -> None:
        if self.machines < 1:
            raise ParameterError("machines", self.machines, "one or more")
        for name in ("rho", "disputed", "silent"):
            if not 0 <= getattr(self, name) <= 1:
                raise ParameterError(name, getattr(self, name), "a share in [0, 1]")
        for name in ("after_s", "batch_s", "block_s", "beacon_s", "proof_s", "window_s", "move_s"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ParameterError(name, getattr(self, name), "a finite time, zero or more")
        if self.rho > 0 and (self.provers < 1 or self.proof_batch < 1):
            raise ParameterError("provers", self.provers, "one or more where answers are proved")


def bare_system(name: str, profile: DeploymentProfile) -> System:
    """A system that adds nothing to serving, with the deployment's batches, moves and clock."""
    batch, move, clock = profile.parties.batch_s, profile.parties.move_s, profile.court.clock_s
    return System(name=name, batch_s=float(batch), move_s=float(move), clock_s=float(clock))


def with_prover(system: System, prover: Prover, rate_per_s: float, *, most_utilisation: float = 0.8) -> System:
    """The system with this prover, and as many machines of it as keep the pool below
    ``most_utilisation``."""
    count = proof_pool.servers_for(system.rho * rate_per_s, prover.batch_s, most_utilisation, prover.batch)
    return replace(system, proof_s=prover.batch_s, proof_batch=prover.batch, provers=count)


def four(
    published: Published,
    measured: Measurements,
    prover: Prover,
    rate_per_s: float,
    *,
    loss: float,
    first_overhead: float,
    rho: float | None = None,
    machines: int = 2,
    window_s: float | None = None,
    profile: DeploymentProfile | None = None,
) -> dict[str, System]:
    """The four systems at ``rate_per_s`` requests a second, by name.

    Window, batches, moves and clock of OTR are those of the deployment, and so are those of the
    others where no text gives theirs. Assumptions of ours beside it: one answer in 10,000 disputed,
    one accused in ten silent; opML's clock.

    Args:
        window_s: OTR's, None: the profile's. profile: of the deployment, None: the one that ships.
    """
    own = profile or own_profile()
    window_s = float(own.court.window_s) if window_s is None else window_s
    block, beacon = published.number("hw.base_block", "s"), published.number("hw.drand_period", "s")
    rho = published.number("otr.rho", "1") if rho is None else rho
    judge = published.number("poq.judge_large_cpu", "s") / 1000.0 + published.number("poq.consensus", "s")
    any_system = replace(bare_system("", own), machines=machines, block_s=block)
    checked_s = measured.hash_s + measured.sign_s + measured.verify_s
    otr = replace(any_system, name="OTR", loss=loss, first_overhead=first_overhead, after_s=checked_s)
    otr = replace(otr, beacon_s=beacon, disputed=1e-4, moves=measured.moves, window_s=window_s)
    if rho > 0:
        otr = with_prover(replace(otr, rho=rho, provers=1, proof_s=1.0), prover, rate_per_s)
    opml = replace(any_system, name="opML", disputed=1e-4, moves=OPML_MOVES, clock_s=OPML_CLOCK_S, committed_first=True)
    opml = replace(opml, window_s=published.number("opml.window", "s"))
    zkml = replace(any_system, name="ZKML", batch_s=0.0, rho=1.0, provers=1, proof_s=1.0)
    poq = replace(any_system, name="PoQ", after_s=judge)
    return {"OTR": otr, "opML": opml, "ZKML": with_prover(zkml, prover, rate_per_s), "PoQ": poq}
