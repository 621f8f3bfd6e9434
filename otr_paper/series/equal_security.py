"""Four systems that buy the same security, and where a proof overtakes a challenge window.

Equal security: whoever cheats is found with the same chance, and can be challenged for the same time.
A share of the answers is looked at after they are committed, by a proof or by running them again, so
that ``target`` of the cheats are found; who proves every answer finds what its proof finds, whatever is
asked; judges find what they find, and no more. Costs are beside the inference itself.

The crossover: an answer proved is final when its proof is there, one that can be challenged when its
window is over. Proving time is linear in parameters and positions, ``kappa N T / P`` on P machines of
the source's kind, so that the window comes first for models above ``W P / (kappa T)`` parameters. Who
waits forgoes interest on what the answer decides about: a proof is the cheaper from a value of
``C / (r W)`` on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from otr_core.economics import quantities as q
from otr_core.errors import ParameterError
from otr_paper.claims.cost import h100_usd
from otr_paper.claims.published import Published
from otr_paper.store.records import Records, records

YEAR_S = 365 * 86400.0
BY_PROOF, BY_RERUN, OPML, ZKML, POQ = "OTR, drawn proofs", "OTR, re-run", "opML", "ZKML", "PoQ"
SYSTEMS = (BY_PROOF, BY_RERUN, OPML, ZKML, POQ)
#: Row of a proving time -> parameters that take part in a position, and positions, as its source says.
SOURCE_POINTS = {
    "zk.zktorch.llama2_7b.prove": ("ZKTorch, 64 threads", 7e9, 1),
    "zk.deepprove1.gpt2_1024tok.prove": ("DeepProve-1, a server", 124e6, 1024),
    "zk.zkllm.13b.prove": ("zkLLM, an A100", 13e9, 2048),
    "zk.flashprove.400b.batch": ("FlashProve, an H100", 17e9, 1024),
}


@dataclass(frozen=True)
class Means:
    """What each way to look costs and finds.

    Attributes:
        proof_usd, proof_s: of one answer. proof_finds: share of the cheats that a proof shows.
        rerun_usd: of running an answer again. rerun_finds: share of the cheats that this convicts.
        judge_usd, judge_s: of all judges of one answer. judge_finds: share of the cheats they reject.
        provisional_s: until an answer may be acted on before it is final.
    """

    proof_usd: float
    proof_s: float
    rerun_usd: float
    judge_usd: float
    judge_s: float
    judge_finds: float
    proof_finds: float = 1.0
    rerun_finds: float = 1.0
    provisional_s: float = 0.5

    def __post_init__(self) -> None:
        for name in ("proof_usd", "proof_s", "rerun_usd", "judge_usd", "judge_s", "provisional_s"):
            q.amount(name, getattr(self, name))
        for name in ("judge_finds", "proof_finds", "rerun_finds"):
            q.probability(name, getattr(self, name))


def means_of(
    published: Published,
    *,
    proving_s: float,
    item_usd: Mapping[tuple[str, str], float],
    frauds: Iterable[Mapping[str, Any]],
) -> Means:
    """What each way to look costs and finds, from a prover's time, simulated costs and tried frauds.

    Args:
        proving_s: of one answer; priced as an H100. item_usd: of one query, by system and item.
        frauds: caught, of (counts), and judge, of each kind of fraud; the best judge counts.
    """
    caught: dict[str, list[int]] = {}
    for row in frauds:
        found = caught.setdefault(row["judge"], [0, 0])
        found[0], found[1] = found[0] + row["caught"], found[1] + row["of"]
    return Means(
        proof_usd=h100_usd(published, proving_s),
        proof_s=proving_s,
        rerun_usd=item_usd["opML", "validator"],
        judge_usd=item_usd["PoQ", "judges"],
        judge_s=published.number("poq.consensus", "s"),
        judge_finds=max(found / of for found, of in caught.values()),
    )


def looked_at(target: float, finds: float) -> float:
    """Share of the answers to look at so that ``target`` of the cheats are found; infinity where that is
    more than all."""
    wanted, share = float(q.probability("target", target)), float(q.probability("finds", finds))
    return 0.0 if wanted == 0 else wanted / share if wanted <= share else math.inf


def cost_at(system: str, target: float, means: Means) -> float:
    """USD a query, beside the inference, at which ``system`` finds ``target`` of the cheats; infinity where
    it never does.

    Raises:
        ParameterError: no such system.
    """
    if system == BY_PROOF:
        return looked_at(target, means.proof_finds) * means.proof_usd
    if system in (BY_RERUN, OPML):
        return looked_at(target, means.rerun_finds) * means.rerun_usd
    if system == ZKML:
        return means.proof_usd if target <= means.proof_finds else math.inf
    if system == POQ:
        return means.judge_usd if target <= means.judge_finds else math.inf
    raise ParameterError("system", system, f"one of {SYSTEMS}")


def final_at(system: str, window_s: float, means: Means) -> float:
    """Seconds until an answer is final, where it can be challenged for ``window_s``; infinity where drawn
    proofs do not come within it.

    Raises:
        ParameterError: no such system.
    """
    window = float(q.amount("window_s", window_s))
    if system == BY_PROOF:
        return window if means.proof_s <= window else math.inf
    if system in (BY_RERUN, OPML):
        return window
    if system == ZKML:
        return means.proof_s
    if system == POQ:
        return means.judge_s
    raise ParameterError("system", system, f"one of {SYSTEMS}")


def cost_frontier(targets: Sequence[float], means: Means) -> Records:
    """Records of system, target, usd; NaN where the system does not reach the target."""
    rows = [(system, float(target), cost_at(system, target, means)) for system in SYSTEMS for target in targets]
    return records("system, target, usd", [(s, t, usd if math.isfinite(usd) else np.nan) for s, t, usd in rows])


def time_frontier(windows_s: Sequence[float], means: Means) -> Records:
    """Records of system, window_s, final_s; NaN where drawn proofs come too late."""
    rows = [(system, float(window), final_at(system, window, means)) for system in SYSTEMS for window in windows_s]
    return records("system, window_s, final_s", [(s, w, t if math.isfinite(t) else np.nan) for s, w, t in rows])


@dataclass(frozen=True)
class ProvingLaw:
    """A published prover: seconds of one parameter at one position, on one machine of its source."""

    name: str
    kappa_s: float

    def seconds(self, *, parameters: float, positions: float, machines: float = 1.0) -> float:
        """``kappa N T / P``, for ``machines`` that share a proof without loss."""
        size = float(q.amount("parameters", parameters)) * float(q.amount("positions", positions))
        return self.kappa_s * size / float(q.positive("machines", machines))

    def crossing_parameters(self, *, window_s: float, positions: float, machines: float = 1.0) -> float:
        """N*: models above it are final by their window before their proof is there."""
        return float(q.amount("window_s", window_s)) / self.seconds(
            parameters=1.0, positions=float(q.positive("positions", positions)), machines=machines
        )


def proving_laws(published: Published) -> list[ProvingLaw]:
    """One law for each of ``SOURCE_POINTS``, slowest first."""
    laws = [
        ProvingLaw(name, published.number(row, "s") / (parameters * positions))
        for row, (name, parameters, positions) in SOURCE_POINTS.items()
    ]
    return sorted(laws, key=lambda law: -law.kappa_s)


def crossing_value_usd(*, proof_usd: float, rate_per_year: float, window_s: float) -> float:
    """V*: an answer that decides about more is cheaper to prove than to wait for, ``C / (r W)``; infinity
    where waiting costs nothing."""
    waiting = float(q.amount("rate_per_year", rate_per_year)) * float(q.amount("window_s", window_s)) / YEAR_S
    return float(q.amount("proof_usd", proof_usd)) / waiting if waiting > 0 else math.inf


def proving_curves(laws: Sequence[ProvingLaw], *, parameters: Sequence[float], positions: float) -> Records:
    """Records of prover, parameters, proof_s."""
    pairs = ((law, float(number)) for law in laws for number in parameters)
    rows = [(law.name, number, law.seconds(parameters=number, positions=positions)) for law, number in pairs]
    return records("prover, parameters, proof_s", rows)


def crossing_curves(proofs_usd: Sequence[float], *, rate_per_year: float, windows_s: Sequence[float]) -> Records:
    """Records of proof_usd, window_s, value_usd."""
    pairs = [(float(cost), float(window)) for cost in proofs_usd for window in windows_s]
    return records(
        "proof_usd, window_s, value_usd",
        [(c, w, crossing_value_usd(proof_usd=c, rate_per_year=rate_per_year, window_s=w)) for c, w in pairs],
    )
