"""Thousands of operators and a changing crowd of fishermen, query by query, through a TEE break and
its patch.

Everything here is simulated. Time runs in epochs; in each every active operator serves the same
number of queries. A query carries its own gain for a cheat: the compute saved plus an outside gain
drawn from an exponential law. While the break is open, an operator who has it may cheat: the
malicious always does, the rational on each query whose gain exceeds ``D (v + L)``, the rule for one
answer by itself, with ``L = (1 - alpha) sigma S + k``: a fisherman of its own may be the one that is
paid. The honest, wrongly convicted, have none and lose ``sigma S + k``.
Without the break the attestation gate stops every cheat. A caught cheat, or an honest answer
wrongly convicted, marks the operator; after the verdict's delay it is slashed and evicted, and
serves on until then.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from otr_core.economics import quantities as q
from otr_core.economics.detection import detection_probability
from otr_core.economics.model import play_strategies
from otr_core.economics.scenarios import Scenario
from otr_core.errors import ParameterError

HONEST, RATIONAL, MALICIOUS = 0, 1, 2
Column: TypeAlias = NDArray[Any]  # one entry per operator
Series: TypeAlias = dict[str, list[float]]  # one entry per epoch
#: Queries drawn at once. Part of the definition of a run: it fixes the order of the random draws.
_BLOCK = 1 << 18
_MOST = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Population:
    """One population and its history.

    Attributes:
        operators: how many start; rational_share and malicious_share of them, the rest honest;
            broken_share: share of the dishonest who get hold of the break.
        epochs, queries_per_epoch: of each operator; the break is open from break_epoch up to before
            patch_epoch.
        price_usd, compute_saved_usd, outside_gain_usd: per query; the last is the mean of an
            exponential law.
        stake_usd, slash_fraction, dispute_cost_usd, reward_share: as in ``deterrence``.
        rho, d, w: as in ``detection``.
        fishermen: at the start; enter_per_epoch join on average, each leaves with probability
            leave_rate per epoch; check_rate: how often each checks a query.
        verdict_epochs: from catch to eviction; void: whether a catch voids the payments still in
            escrow.
        false_conviction: probability that a checked honest answer is convicted (tolerance, outage).
    """

    operators: int
    epochs: int
    queries_per_epoch: int
    rational_share: float
    malicious_share: float
    broken_share: float
    break_epoch: int
    patch_epoch: int
    price_usd: float
    compute_saved_usd: float
    outside_gain_usd: float
    stake_usd: float
    slash_fraction: float
    dispute_cost_usd: float
    rho: float
    d: float
    w: float
    fishermen: int
    check_rate: float
    enter_per_epoch: float = 0.0
    leave_rate: float = 0.0
    verdict_epochs: int = 0
    void: bool = True
    false_conviction: float = 0.0
    reward_share: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if name in ("operators", "epochs", "queries_per_epoch"):
                if q.whole(name, value, least=1) > _MOST:
                    raise ParameterError(name, value, f"a whole number, 1 to {_MOST}")
            elif name in ("break_epoch", "patch_epoch", "fishermen", "verdict_epochs"):
                q.whole(name, value)
            elif name == "stake_usd":
                q.positive(name, value)
            elif name.endswith(("_usd", "_per_epoch")):
                q.amount(name, value)
            elif name != "void":
                q.probability(name, value)
        if self.rational_share + self.malicious_share > 1.0:
            total = self.rational_share + self.malicious_share
            raise ParameterError("rational_share + malicious_share", total, "shares of one population, at most 1")
        if self.patch_epoch < self.break_epoch:
            raise ParameterError("patch_epoch", self.patch_epoch, f"break_epoch = {self.break_epoch} or later")

    @property
    def loss_usd(self) -> float:
        """``(1 - alpha) sigma S + k``, of a cheat."""
        return self.slash_usd - self.reward_share * self.slash_fraction * self.stake_usd

    @property
    def slash_usd(self) -> float:
        """``sigma S + k``, of an honest operator."""
        return self.slash_fraction * self.stake_usd + self.dispute_cost_usd


def population_of(case: Scenario, *, queries_per_epoch: int, **history: Any) -> Population:
    """The population of a use case: its prices, bond and rate; fishermen check as its equilibrium
    says.

    Args:
        history: the other fields of ``Population``: sizes, shares, when the break opens and closes.

    An epoch lasts ``queries_per_epoch / queries_per_s``; the verdict's delay is rounded up to whole
    epochs.
    """
    answer, watch, epoch_s = case.answer, case.watch, queries_per_epoch / case.flow.queries_per_s
    return Population(
        queries_per_epoch=queries_per_epoch,
        price_usd=answer.price_usd,
        compute_saved_usd=max(answer.honest_cost_usd - answer.cheat_cost_usd, 0.0),
        outside_gain_usd=max(answer.outside_gain_usd, 0.0),
        rho=watch.rho,
        d=watch.d,
        w=watch.w,
        fishermen=watch.fishermen,
        check_rate=play_strategies(answer, case.bond, watch).check_rate,
        verdict_epochs=int(np.ceil(case.flow.verdict_s / epoch_s)),
        **{**case.bond.slash, **history},
    )


def tempting(people: Population) -> tuple[float, float]:
    """The largest gain of one answer that deters a rational operator at the start, USD, and the share
    of the queries that are worth more to it."""
    someone = 1.0 - (1.0 - people.check_rate) ** people.fishermen
    detection = detection_probability(rho=people.rho, d=people.d, phi=someone, w=people.w)
    most = float(detection * (people.price_usd + people.loss_usd))
    over = most - people.compute_saved_usd
    if people.outside_gain_usd == 0:
        return most, float(over < 0)
    return most, float(np.exp(-max(over, 0.0) / people.outside_gain_usd))


@dataclass(frozen=True)
class History:
    """What happened: ``series`` per epoch (columns of equal length), ``summary`` over the run."""

    series: Series
    summary: dict[str, float]


def stream(config: dict[str, Any], seed: int) -> np.random.Generator:
    """The random stream of one point: set by its parameters and seed alone, never by who computes
    it or when."""
    from otr_core.encoding import canonical_json

    digest = hashlib.sha256(canonical_json({"config": config, "seed": seed})).digest()
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(int.from_bytes(digest, "big"))))


def simulate_population(population: Population, *, seed: int) -> History:
    """Play ``population`` once. Same parameters and seed, same history, on any machine."""
    # Who is who, and what is kept of every operator: whether it serves, the epoch of its verdict
    # (-1: none is pending), of its first cheat and of its eviction, its cheats before the first
    # catch, its profit over honesty.
    draws = stream(asdict(population), seed)
    people, size = population, population.operators
    dishonest = np.array([people.rational_share, people.malicious_share])
    counts = np.floor(size * dishonest + 0.5).astype(int)
    kind = np.zeros(size, dtype=np.int8)
    kind[: counts[0]], kind[counts[0] : counts.sum()] = RATIONAL, MALICIOUS
    broken = (kind != HONEST) & (draws.random(size) < people.broken_share)
    active, verdict = np.ones(size, dtype=bool), np.full(size, -1)
    first_cheat, evicted_at = np.full(size, -1), np.full(size, -1)
    before, profit = np.zeros(size), np.zeros(size)
    fishermen, names = people.fishermen, ("cheats", "caught", "undetected", "stolen_usd", "evicted", "evicted_honest")
    series: Series = {name: [] for name in (*names, "active", "fishermen", "detection", "open")}
    for epoch in range(people.epochs):
        # The crowd of fishermen changes, and with it the detection that a cheat faces in this
        # epoch.
        fishermen += int(draws.poisson(people.enter_per_epoch)) - int(draws.binomial(fishermen, people.leave_rate))
        someone = 1.0 - (1.0 - people.check_rate) ** fishermen
        sampled, convicted = people.rho * people.d, someone * people.w
        detection = sampled + convicted - sampled * convicted
        wrongly = (people.rho + someone - people.rho * someone) * people.false_conviction
        is_open = people.break_epoch <= epoch < people.patch_epoch
        totals = dict.fromkeys(names, 0.0)
        serving = np.flatnonzero(active)
        series["active"].append(float(serving.size))
        # Every serving operator answers its queries, some operators at a time to bound the memory.
        rows = max(_BLOCK // people.queries_per_epoch, 1)
        for start in range(0, serving.size, rows):
            block = serving[start : start + rows]
            played = _serve(people, draws, kind[block], broken[block] & is_open, detection, wrongly)
            cheats, caught, undetected, gains, stolen, unpaid, marked, early = played
            fresh = marked & (verdict[block] < 0)
            unmarked = verdict[block] < 0
            before[block] += np.where(unmarked, np.where(fresh, early, cheats), 0)
            # With voiding nothing is paid from the epoch of the catch on: it is all still in escrow
            # at the verdict.
            pending = marked | ~unmarked
            voided = pending * (people.queries_per_epoch * people.price_usd)
            profit[block] += gains - (voided if people.void else unpaid * people.price_usd)
            verdict[block] = np.where(fresh, epoch + people.verdict_epochs, verdict[block])
            first_cheat[block] = np.where((first_cheat[block] < 0) & (cheats > 0), epoch, first_cheat[block])
            for name, values in zip(names, (cheats, caught, undetected, stolen), strict=False):
                totals[name] += float(values.sum())
        # Verdicts of this epoch: slashed and evicted.
        out = active & (verdict == epoch)
        active &= ~out
        evicted_at[out] = epoch
        profit[out] -= np.where(kind[out] == HONEST, people.slash_usd, people.loss_usd)
        totals["evicted"], totals["evicted_honest"] = float(out.sum()), float((out & (kind == HONEST)).sum())
        for name in names:
            series[name].append(totals[name])
        for name, value in (("fishermen", fishermen), ("detection", detection), ("open", is_open)):
            series[name].append(float(value))
    return History(series, _summary(people, series, kind, first_cheat, evicted_at, before, profit))


def _serve(
    people: Population, draws: np.random.Generator, kind: Column, able: Column, detection: float, wrongly: float
) -> tuple[Column, ...]:
    """One epoch of a block of operators: per operator cheats, caught, undetected, gains, stolen,
    unpaid, marked, early.

    ``early`` counts the cheats before the first caught one. Every query is decided by its own two
    draws.
    """
    shape = (kind.size, people.queries_per_epoch)
    luck = draws.random(shape)
    gain = draws.standard_exponential(shape)
    gain *= people.outside_gain_usd
    gain += people.compute_saved_usd
    least = detection * (people.price_usd + people.loss_usd)
    cheat = gain > least
    cheat |= (kind == MALICIOUS)[:, None]
    cheat &= able[:, None]
    convicted = luck < np.where(cheat, detection, wrongly)
    caught = convicted & cheat
    missed = cheat & ~convicted
    cheats, hits = cheat.sum(1, dtype=np.float64), caught.sum(1, dtype=np.float64)
    marked = np.asarray(convicted.any(1))
    first = np.where(hits > 0, caught.argmax(1), people.queries_per_epoch)
    ordered: Column = np.cumsum(cheat, axis=1) - cheat
    early: Column = ordered[np.arange(kind.size), np.minimum(first, people.queries_per_epoch - 1)]
    early = np.where(hits > 0, early, cheats)
    gains = np.einsum("ij,ij->i", gain, cheat.astype(np.float64))
    stolen = np.einsum("ij,ij->i", gain, missed.astype(np.float64))
    unpaid = convicted.sum(1, dtype=np.float64)
    return cheats, hits, missed.sum(1, dtype=np.float64), gains, stolen, unpaid, marked, early


def _summary(people: Population, series: Series, *operators: Column) -> dict[str, float]:
    """What the run came to: counts, USD, and means over those who cheated (0 where nobody did).

    Args:
        operators: per operator its kind, the epochs of its first cheat and of its eviction (-1:
            never), its cheats before the first catch, and its profit over honesty, USD.
    """
    kind, first_cheat, evicted_at, before, profit = operators
    cheated = first_cheat >= 0
    gone = cheated & (evicted_at >= 0)
    honest_gone = (kind == HONEST) & (evicted_at >= 0)

    def mean(values: Column) -> float:
        return float(values.mean()) if values.size else 0.0

    found = {
        "decisions": sum(series["active"]) * people.queries_per_epoch,
        **{name: sum(series[name]) for name in ("cheats", "undetected", "stolen_usd")},
        "cheaters": cheated.sum(),
        "cheaters_evicted": gone.sum(),
        "honest_evicted": honest_gone.sum(),
        "honest_slashed_usd": honest_gone.sum() * people.slash_usd,
        "epochs_to_eviction": mean((evicted_at - first_cheat)[gone].astype(np.float64)),
        "cheats_before_catch": mean(before[gone]),
        "profit_per_cheater_usd": mean(profit[cheated]),
        "rational_cheaters": (cheated & (kind == RATIONAL)).sum(),
    }
    return {name: float(value) for name, value in found.items()}


def simulate_point(config: dict[str, Any], seed: int) -> dict[str, Any]:
    """``simulate`` as a sweep point: parameters as a mapping in, plain JSON out."""
    history = simulate_population(Population(**config), seed=seed)
    return {"series": history.series, "summary": history.summary}


def summary_point(config: dict[str, Any], seed: int) -> dict[str, float]:
    """``simulate_point`` without the series."""
    return simulate_population(Population(**config), seed=seed).summary
