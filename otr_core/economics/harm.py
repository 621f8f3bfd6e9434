"""What users lose to those who cheat whatever it costs them, and the fishermen who limit it.

Deterrence counts only who calculates. Once a break of a class of platforms is out, some of its
operators cheat on every answer until they are convicted: ``(1 - D)/D`` of their false answers become
final, and all they serve until the verdict hits whoever acts on provisional answers
(``guarantee.class_break``). Spread over all queries of the class that is an expected harm per query,
which falls as the odds of detection rise, as proofs and looks do cost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from otr_core.economics import quantities as q
from otr_core.economics.guarantee import class_break
from otr_core.economics.honesty import watched_share
from otr_core.economics.model import Attention, Exposure, Flow, Market

ATTENTION_MARGIN = 2.0
"""What not looking costs a fisherman, over what a look costs: above 1, so that looking is strictly
better (hypothesis H7)."""
MOST_FISHERMEN = 32


def harm_weight(exposure: Exposure, market: Market) -> float:
    """eta, USD: expected harm per query is at most ``eta (1 - D)/D`` where users wait for finality.

    ``mu h I_m / (Q I)``, of which a fuse leaves ``mu h / (Q I)``.
    """
    together = 1.0 if exposure.fuse else float(exposure.cheating)
    queries = market.queries_per_year * exposure.operators
    return exposure.breaks_per_year * exposure.harm_usd * together / queries


def harm_per_query(
    exposure: Exposure, market: Market, flow: Flow, *, detection: float, provisional: bool = False
) -> float:
    """Expected harm per query, USD, with a patch at the end of each break.

    Args:
        detection: D of one cheat. provisional: whether users act before their answers are final.
    """
    times = {"answers_per_s": flow.queries_per_s, "verdict_s": flow.verdict_s, "window_s": flow.verdict_s}
    known = {"detection": detection, "attempts": np.floor(flow.until_patch), **times}
    found = class_break(operators=int(exposure.cheating), fuse=bool(exposure.fuse), **known)
    count = found.served if provisional else found.final
    return exposure.breaks_per_year * exposure.harm_usd * count / (market.queries_per_year * exposure.operators)


def bearable_harm(
    exposure: Exposure, market: Market, flow: Flow, *, detection: float, most_harm_usd: float, provisional: bool = True
) -> float:
    """Largest harm of one false answer, USD, at which the expected harm per query is at most ``most_harm_usd``, the
    detection as it is; infinity where no false answer is expected."""
    unit = replace(exposure, harm_usd=1.0)
    each = harm_per_query(unit, market, flow, detection=detection, provisional=provisional)
    return float(q.amount("most_harm_usd", most_harm_usd)) / each if each > 0 else np.inf


@dataclass(frozen=True)
class Crew:
    """Fishermen, and what they cost.

    Attributes:
        fishermen: n. look_rate: share of the answers that each looks at, drawn by its own coin.
        tested: psi, chance that a look is followed by a test of that fisherman; stake_usd: what it
            loses if it cannot respond.
        watched: phi, chance that an answer is looked at by one whom the adversary does not own.
        cost_usd: looks, tests and interest on their stakes, per answer.
    """

    fishermen: int
    look_rate: float
    tested: float
    stake_usd: float
    watched: float
    cost_usd: float


NOBODY = Crew(0, 0.0, 0.0, 0.0, 0.0, 0.0)


def crew(
    attention: Attention, fishermen: int, look_rate: float, *, check_cost_usd: float, capital_cost_usd: float
) -> Crew:
    """``fishermen`` of whom each looks at ``look_rate`` of the answers, tested as cheaply as attention
    allows.

    Tests and the stake behind them trade off by a square root: ``psi a = m c_F`` has to hold, and
    ``q psi t + iota a`` is least at ``psi = sqrt(iota m c_F / (q t))``, at most 1.

    Args:
        check_cost_usd: c_F of one look, above 0. capital_cost_usd: iota, as in ``rates.optimal_rho``.
    """
    looks, cost = float(q.probability("look_rate", look_rate)), float(q.positive("check_cost_usd", check_cost_usd))
    if looks == 0 or fishermen == 0:
        return NOBODY
    capital, test = float(q.amount("capital_cost_usd", capital_cost_usd)), looks * attention.test_cost_usd
    due = ATTENTION_MARGIN * cost
    tested = min(np.sqrt(capital * due / test), 1.0) if test > 0 else 1.0
    tested = max(tested, due / np.finfo(float).max ** 0.5)  # free capital: hardly any test, a huge stake
    stake = due / tested
    watched = watched_share(
        fishermen=fishermen,
        bought_share=attention.bought_share,
        look_chance=looks * attention.look_chance,
        tested=tested,
        lost_usd=stake,
        check_cost_usd=cost,
        reward_usd=0.0,
        gas_usd=0.0,
    )
    paid = fishermen * (looks * cost + test * tested + capital * stake)
    return Crew(fishermen, looks, float(tested), float(stake), watched, float(paid))
