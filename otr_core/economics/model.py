"""The parameters of the game as objects: units stand in the names, and ranges are checked.

``AnswerValue`` is what one query pays and costs, ``Bond`` what is at stake behind it, ``Watch`` who
checks, ``Market`` what proofs and capital cost, ``Flow`` how fast answers and verdicts come,
``Exposure`` whom a false answer harms, ``Attention`` what it takes that fishermen look.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from otr_core.economics import quantities as q
from otr_core.economics.detection import detection_probability
from otr_core.economics.deterrence import kept_share, loss_if_caught
from otr_core.economics.game import Equilibrium, equilibrium
from otr_core.errors import ParameterError

_CHECKS = {"_usd": q.amount, "_s": q.amount, "_per_s": q.amount, "_per_year": q.amount}


def _check(values: object, **special: Any) -> None:
    """Check every field as ``special`` says, else by its unit suffix, else as a probability."""
    for field in fields(values):  # type: ignore[arg-type]
        suffix = next((end for end in _CHECKS if field.name.endswith(end)), None)
        checked = special.get(field.name) or (_CHECKS[suffix] if suffix else q.probability)
        found = getattr(values, field.name)
        if checked(field.name, found).ndim:
            raise ParameterError(field.name, found, "one number, not an array")


@dataclass(frozen=True, kw_only=True)
class AnswerValue:
    """What one answer pays and costs: price v, cost c_H of an honest and c_L of a false answer.

    ``outside_gain_usd`` is what the false answer earns elsewhere.
    """

    price_usd: float
    honest_cost_usd: float
    cheat_cost_usd: float
    outside_gain_usd: float = 0.0

    def __post_init__(self) -> None:
        _check(self, outside_gain_usd=q.gain)

    @property
    def gain_usd(self) -> float:
        """g: compute saved plus outside gain."""
        return self.honest_cost_usd - self.cheat_cost_usd + self.outside_gain_usd


@dataclass(frozen=True, kw_only=True)
class Bond:
    """Stake S, slashed fraction sigma, dispute cost k; and how a slash is shared out.

    ``reward_share`` (alpha) goes to who caught the cheat, which may be a fisherman of the operator;
    ``burnt_share`` to nobody, the rest to the user; together at most 1.
    """

    stake_usd: float
    slash_fraction: float
    dispute_cost_usd: float = 0.0
    reward_share: float = 0.0
    burnt_share: float = 0.0

    def __post_init__(self) -> None:
        _check(self, stake_usd=q.positive)
        if self.reward_share + self.burnt_share > 1.0:
            total = self.reward_share + self.burnt_share
            raise ParameterError("reward_share + burnt_share", total, "shares of one slash, together at most 1")

    @property
    def kept_share(self) -> float:
        """Part of the stake that a caught operator is rid of for good."""
        return float(kept_share(slash_fraction=self.slash_fraction, reward_share=self.reward_share))

    @property
    def loss_usd(self) -> float:
        """What a caught operator loses when its own fisherman is paid: ``(1 - alpha) sigma S + k``."""
        return float(loss_if_caught(**self.slash))

    @property
    def slash(self) -> dict[str, float]:
        """The four numbers of the deterrence formulas."""
        names = ("stake_usd", "slash_fraction", "dispute_cost_usd", "reward_share")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Who checks: spot checks at rate rho that catch with d; n fishermen; planted faults.

    A fisherman pays ``check_cost_usd`` for a check and wins a dispute with probability w; whoever
    checks a planted fault gets a part of ``bounty_usd``.
    """

    rho: float
    d: float = 1.0
    w: float = 1.0
    fishermen: int = 0
    check_cost_usd: float = 0.0
    planted_rate: float = 0.0
    bounty_usd: float = 0.0

    def __post_init__(self) -> None:
        _check(self, fishermen=q.count)

    def detection(self, someone_checks: float) -> float:
        """D when at least one fisherman checks with probability ``someone_checks``."""
        return float(detection_probability(rho=self.rho, d=self.d, phi=someone_checks, w=self.w))


@dataclass(frozen=True, kw_only=True)
class Market:
    """What proofs and staked capital cost, and how many queries a year share a stake."""

    proof_cost_usd: float
    capital_rate_per_year: float
    queries_per_year: float

    def __post_init__(self) -> None:
        _check(self, queries_per_year=q.positive)

    @property
    def capital_cost_usd(self) -> float:
        """iota: cost of holding one dollar of stake for one query."""
        return self.capital_rate_per_year / self.queries_per_year


@dataclass(frozen=True, kw_only=True)
class Flow:
    """How fast one operator's queries come, and how long verdicts and patches of a break take.

    ``outage`` is the chance that an honest operator misses a duty, such as a proof that is due.
    """

    queries_per_s: float
    verdict_s: float
    patch_s: float
    outage: float = 0.0

    def __post_init__(self) -> None:
        _check(self)

    @property
    def in_flight(self) -> float:
        """M: answers out before the first verdict."""
        return self.queries_per_s * self.verdict_s

    @property
    def pending(self) -> int:
        """R: most answers of the operator after a caught one and before its verdict, ``M - 1`` or
        the next whole number."""
        return max(math.ceil(self.in_flight), 1) - 1

    @property
    def until_patch(self) -> float:
        """N: answers served while a break is open."""
        return self.queries_per_s * self.patch_s


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """Who is harmed by those that cheat whatever it costs them, once a break of their class is out.

    Attributes:
        harm_usd: h, harm of one wrong answer to its user. breaks_per_year: of the class.
        operators: I, of one class; cheating: those of them who then cheat on every answer, at most I.
        fuse: 1 where the first conviction holds up what is not final of the class, else 0.
    """

    harm_usd: float
    breaks_per_year: float
    operators: int
    cheating: int
    fuse: float = 0.0

    def __post_init__(self) -> None:
        _check(self, operators=q.count, cheating=q.count)
        if not 1 <= self.cheating <= self.operators:
            raise ParameterError("cheating", self.cheating, f"1 to operators = {self.operators:.0f}")
        if self.fuse not in (0.0, 1.0):
            raise ParameterError("fuse", self.fuse, "0 or 1")


@dataclass(frozen=True, kw_only=True)
class Attention:
    """What tests of each fisherman by itself cost, and how far fishermen can be relied on.

    Attributes:
        test_cost_usd: of one test, to whoever pays for it. look_chance: that an attentive fisherman
            is able to look. bought_share: of the fishermen, whom the adversary owns.
    """

    test_cost_usd: float
    look_chance: float = 1.0
    bought_share: float = 0.0

    def __post_init__(self) -> None:
        _check(self)


def play_strategies(answer: AnswerValue, bond: Bond, watch: Watch) -> Equilibrium:
    """The equilibrium of the game these parameters describe."""
    return equilibrium(
        gain_usd=answer.gain_usd,
        price_usd=answer.price_usd,
        **bond.slash,
        rho=watch.rho,
        d=watch.d,
        w=watch.w,
        fishermen=watch.fishermen,
        check_cost_usd=watch.check_cost_usd,
        planted_rate=watch.planted_rate,
        bounty_usd=watch.bounty_usd,
    )


Part = TypeVar("Part", AnswerValue, Bond, Watch, Market, Flow, Exposure, Attention)


def build(part: type[Part], values: Mapping[str, Any]) -> Part:
    """``part`` from a mapping; an unknown or missing key is an error that names it.

    Raises:
        ParameterError: such a key, or a value outside its range.
    """
    known = {field.name for field in fields(part)}
    for key in values:
        if key not in known:
            raise ParameterError(f"{part.__name__.lower()}.{key}", values[key], f"only the keys {sorted(known)}")
    try:
        return part(**values)
    except TypeError as error:
        raise ParameterError(part.__name__.lower(), sorted(values), f"all needed keys of {sorted(known)}") from error
