"""Who looks, and what honesty costs: the theorems of the composed guarantee about the honest.

``watched_share`` is the chance that somebody honest looks at an answer, given that looking is worth
it to each fisherman by itself; ``honesty_cost`` is what an honest operator and an honest fisherman
can lose, and what a griefer pays for it. ``guarantee`` has the theorems about who cheats.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from otr_core.economics import quantities as q
from otr_core.economics.premises import require_premises
from otr_core.errors import PremiseError

GRIEF_RATIO = 10.0
"""What a griefer loses over what it costs the honest, at least: the ratio that Arbitrum's BoLD sets."""


def watched_share(
    *,
    fishermen: int,
    bought_share: float,
    look_chance: float,
    tested: float,
    lost_usd: float,
    check_cost_usd: float,
    reward_usd: float,
    gas_usd: float,
    failing: Collection[str] = (),
) -> float:
    """phi: chance that somebody looks whom the adversary does not own,
    ``1 - (1 - x)^(n (1 - r))``, where looking is each fisherman's only sensible choice.

    Looking brings at least ``-c_F`` and the chance of a reward; not looking ``-psi a``. Then it does
    so whatever the others do and however rare cheats are.

    Args:
        fishermen: n. bought_share: r; a part of one counts as bought. look_chance: x, that an
            attentive one is able to look.
        tested: psi, chance that a fisherman is tested, by itself, on one answer; lost_usd: a, what
            it loses if it cannot respond. check_cost_usd: c_F.
        reward_usd, gas_usd: what a right challenge brings, and what it costs.

    Raises:
        PremiseError: a test costs no more than a look (H7), or a right challenge does not pay (H8).
    """
    require_premises("attention", failing)
    stick = float(q.probability("tested", tested) * q.amount("lost_usd", lost_usd))
    cost = float(q.amount("check_cost_usd", check_cost_usd))
    if stick <= cost:
        raise PremiseError("H7", f"not looking costs {stick:.3g} USD", f"more than a look, {cost:.3g} USD")
    paid, spent = float(q.amount("reward_usd", reward_usd)), float(q.amount("gas_usd", gas_usd))
    if paid < spent:
        raise PremiseError("H8", f"a right challenge is paid {paid:.3g} USD", f"at least its {spent:.3g} USD of gas")
    own = np.floor(q.whole("fishermen", fishermen) * (1.0 - float(q.probability("bought_share", bought_share))) + 1e-9)
    return float(1.0 - (1.0 - q.probability("look_chance", look_chance)) ** own)


@dataclass(frozen=True)
class HonestyCost:
    """What being honest can cost.

    Attributes:
        operator_usd: expected loss of an honest operator per answer.
        challenge_usd: what each false challenge changes its wealth by, 0 or more.
        finality_s: longest time until an answer is final, whatever the number of challengers.
        fisherman_usd: most that an honest fisherman loses per answer it looks at.
        grief_ratio: what a griefer loses over what it costs the operator.
    """

    operator_usd: float
    challenge_usd: float
    finality_s: float
    fisherman_usd: float
    grief_ratio: float


def honesty_cost(
    *,
    slash_usd: float,
    price_usd: float,
    unfinal: int,
    rho: float,
    outage: float,
    false_conviction: float,
    bond_usd: float,
    compensation_share: float,
    defence_usd: float,
    attack_usd: float,
    window_s: float,
    reveal_s: float,
    clock_s: float,
    increment_s: float,
    moves: int,
    check_cost_usd: float,
    tested: float,
    lost_usd: float,
    failing: Collection[str] = (),
) -> HonestyCost:
    """What an honest operator and an honest fisherman can lose.

    An honest operator has no fisherman that convicts it, so an outage costs it the *whole* slash,
    ``sigma S + k``, and the price of all answers that are not final.

    Args:
        slash_usd: sigma S + k. unfinal: answers of one operator that are not final at a time.
        outage: chance that it misses a duty; false_conviction: that the lane convicts an honest
            answer (0 in an exact one).
        bond_usd, compensation_share: of a challenge, and what of a lost one goes to the operator.
        defence_usd: what defending once costs the operator; attack_usd: what playing once costs the
            challenger besides the bond.
        clock_s, increment_s, moves: a side's chess clock, and what it gains by each of at most
            ``moves``.
        tested, lost_usd, check_cost_usd: as in ``watched_share``, of an attentive fisherman with the
            same ``outage``.

    Raises:
        PremiseError: a false challenge costs the defender (H9), or the griefer less than
            ``GRIEF_RATIO`` times the defence.
    """
    require_premises("cost of honesty", failing)
    given = {name: value for name, value in locals().items() if name.endswith(("_usd", "_s"))}
    amounts = {name: float(q.amount(name, value)) for name, value in given.items()}
    defence = amounts["defence_usd"]
    paid = float(q.probability("compensation_share", compensation_share)) * amounts["bond_usd"]
    if paid < defence:
        raise PremiseError("H9", f"a lost bond pays {paid:.3g} USD", f"at least the defence, {defence:.3g} USD")
    spent = amounts["bond_usd"] + amounts["attack_usd"]
    if spent < GRIEF_RATIO * defence:
        raise PremiseError("H9", f"griefing costs {spent:.3g} USD", f"{GRIEF_RATIO:g} times {defence:.3g} USD")
    missed, wrongly = float(q.probability("outage", outage)), float(q.probability("false_conviction", false_conviction))
    due = float(q.probability("rho", rho)) * missed
    ruined = amounts["slash_usd"] + q.whole("unfinal", unfinal) * amounts["price_usd"]
    clocks = 2.0 * amounts["clock_s"] + q.whole("moves", moves) * amounts["increment_s"]
    return HonestyCost(
        operator_usd=(due + wrongly - due * wrongly) * ruined,
        challenge_usd=paid - defence,
        finality_s=amounts["window_s"] + amounts["reveal_s"] + clocks,
        fisherman_usd=amounts["check_cost_usd"] + float(q.probability("tested", tested)) * missed * amounts["lost_usd"],
        grief_ratio=spent / defence if defence else np.inf,
    )
