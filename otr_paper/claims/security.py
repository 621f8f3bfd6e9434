# ruff: noqa: N802 (a function is named after its claim)
# fmt: off
# (Readings and computed numbers are tables, set by hand.)
"""Claims about security: L27, L29 to L33 and L41. The economics are those of
``otr_core.economics``."""

from __future__ import annotations

import math
from fractions import Fraction

from otr_core import economics as eco
from otr_core.economics import scenarios
from otr_core.economics.detection import cheats_for_detection, served_before_verdict, undetected_cheats
from otr_core.economics.deterrence import safe_value
from otr_core.economics.guarantee import deterring_loss
from otr_paper.claims.cost import TOKENS_IN, TOKENS_OUT, inference_usd
from otr_paper.claims.grounds import Grounds
from otr_paper.claims.published import Published
from otr_paper.claims.verdict import Evaluation, Reading, Rule, solved

#: Ids of the price rows behind the downgrade gain: one provider, one date.
_LARGE, _SMALL = "llama31_70b_deepinfra_2025", "llama31_8b_deepinfra_2025"
_PRICES = tuple(f"price.{model}.{side}" for model in (_LARGE, _SMALL) for side in ("in", "out"))


def downgrade(published: Published) -> tuple[float, float]:
    """Price of a 70B answer and gain of serving 8B for it, USD, at market prices of one provider
    and date."""
    price = inference_usd(published, _LARGE, TOKENS_IN, TOKENS_OUT)
    return price, price - inference_usd(published, _SMALL, TOKENS_IN, TOKENS_OUT)


def bisection_rounds(steps: int, ways: int = 2) -> int:
    """Rounds to single out one of ``steps``, each cutting the range into ``ways`` parts (by
    counting, not by logs)."""
    rounds, reach = 0, 1
    while reach < steps:
        rounds, reach = rounds + 1, reach * ways
    return rounds


def L27_bisection_rounds(published: Published) -> Evaluation:
    """L27: a dispute over n steps takes log2 n rounds."""
    tokens = 1000
    layers = int(published.number("model.llama_70b.layers", "count"))
    macs = int(published.number("model.llama_70b.params", "params")) * tokens
    units = {"tokens": tokens, "token_layers": tokens * layers, "multiply_adds": macs}
    readings = tuple(
        Reading(f"a 1000-token answer of 70B, by {name.replace('_', ' ')}", f"halving {steps:.3g} steps",
                float(bisection_rounds(steps)), "rounds", "recomputed",
                bisection_rounds(steps) == math.ceil(math.log2(steps)), ("model.llama_70b.params",))
        for name, steps in units.items()
    )
    return Evaluation(
        {f"{name}_rounds": float(bisection_rounds(steps)) for name, steps in units.items()},
        readings,
    )


def _assumed(grounds: Grounds, name: str = "chatbot") -> scenarios.Scenario:
    """The use case whose assumptions stand in for what no text states: which share of a slash goes to
    who caught the cheat, who may be the operator's own fisherman, and what is in flight."""
    return scenarios.load(grounds.data)[name]


def _least_stake(grounds: Grounds, gain_usd: float, *, slash_fraction: float = 1.0, price_usd: float,
                 pending: int = 0, reward_share: float | None = None) -> float:
    """Least stake at which no schedule of cheats pays at the stated rate, when every sampled cheat is
    caught, USD; ``pending`` answers of the operator are served before its verdict."""
    share = _assumed(grounds).bond.reward_share if reward_share is None else reward_share
    loss = deterring_loss(gain_usd=gain_usd, price_usd=price_usd, pending=pending,
                              detection=grounds.published.number("otr.rho", "1"))
    return float(loss) / (slash_fraction * (1.0 - share))


def _surplus(grounds: Grounds, stake_usd: float, slash_fraction: float = 1.0) -> float:
    """What honesty earns over a downgrade at the stated rate, USD: ``rho (v + (1 - alpha) sigma S) - g``."""
    price, saved = downgrade(grounds.published)
    lost = (1.0 - _assumed(grounds).bond.reward_share) * slash_fraction * stake_usd
    return grounds.published.number("otr.rho", "1") * (price + lost) - saved


def L29_spot_checks_deter(grounds: Grounds) -> Evaluation:
    """L29: spot checks deter rational cheating. With what stake, at 1 %?"""
    published = grounds.published
    price, saved = downgrade(published)
    slash = published.bounds("dgrid.slash", "1")[0]
    stake = solved(_least_stake(grounds, saved, price_usd=price), lambda usd: _surplus(grounds, usd), 1e-9, 1e6)
    little = _least_stake(grounds, saved, slash_fraction=slash, price_usd=price)
    outside = _least_stake(grounds, 10_000.0, price_usd=price)
    flying = _assumed(grounds, "defi_agent").flow.pending
    rolling = _least_stake(grounds, 10_000.0, price_usd=price, pending=flying)
    lost = _least_stake(grounds, saved, price_usd=price, reward_share=0.0)

    # A solved stake deters by its making: a millionth more leaves honesty ahead.
    paid, deters = Rule("USD", lambda usd: usd > 0), Rule("USD", lambda usd: True)
    solved_stake = Rule("USD", lambda usd: _surplus(grounds, usd * 1.000001) > 0)
    readings = (
        paid.recomputed("payment alone", "no stake: honest minus cheating pay", _surplus(grounds, 0.0), *_PRICES),
        solved_stake.recomputed("downgrade, stake as solved",
                                "8B served for 70B, sampled cheats always caught, all of it slashed; an own fisherman "
                                "takes the catcher's share of data/scenarios", stake, *_PRICES, "otr.rho"),
        paid.recomputed("the stake that would do if nothing came back", "honest minus cheating pay",
                        _surplus(grounds, lost), *_PRICES, "otr.rho"),
        deters.recomputed("downgrade, 5 % slash", "DGrid's smallest slash", little, *_PRICES, "otr.rho",
                          "dgrid.slash"),
        deters.recomputed("outside gain of 10,000 USD", "the answer moves money elsewhere", outside, "otr.rho"),
        deters.recomputed("the same, cheating until the verdict",
                          f"{flying} more answers are served before a verdict, as in the DeFi use case", rolling,
                          "otr.rho"),
    )
    return Evaluation(
        {"downgrade_gain_usd": saved, "least_stake_usd": stake, "least_stake_slash5pct_usd": little,
         "least_stake_outside_10000_usd": outside, "least_stake_until_verdict_10000_usd": rolling,
         "least_stake_per_gain_ratio": _least_stake(grounds, 1.0, price_usd=1.0)},
        readings,
        ("least_stake_usd", stake),
    )


def L30_transient_break(grounds: Grounds) -> Evaluation:
    """L30: safe while a hardware vulnerability is open, as spot checks remain."""
    published = grounds.published
    rho = published.number("otr.rho", "1")
    price, saved = downgrade(published)
    stake = _least_stake(grounds, saved, price_usd=price)
    undetected = float(undetected_cheats(detection=rho))
    patched = float(undetected_cheats(detection=rho, attempts=100))
    flying = _assumed(grounds).flow.pending
    served = float(served_before_verdict(detection=rho, pending=flying))
    safe, deters = Rule("count", lambda answers: answers < 1.0), Rule("USD", lambda usd: usd > 0)
    readings = (
        safe.recomputed("an operator who cheats regardless", "undetected wrong answers per stake, never patched",
                        undetected, "otr.rho"),
        safe.recomputed("an operator who cheats regardless, for who acts at once",
                        f"wrong answers served before the verdict, {flying} of them while it is pending, as in the "
                        "chatbot use case", served, "otr.rho"),
        safe.recomputed("an operator who cheats regardless, patched", "undetected wrong answers in 100 queries",
                        patched, "otr.rho"),
        deters.recomputed("a rational operator, downgrade",
                          "stake as in L29: cheating does not pay even with the break open", stake, *_PRICES,
                          "otr.rho"),
    )
    return Evaluation(
        {"undetected_unpatched_count": undetected, "served_unpatched_count": served,
         "undetected_in_100_queries_count": patched, "least_stake_usd": stake},
        readings,
        ("least_stake_usd", stake),
    )


def L31_byzantine_tolerance(grounds: Grounds) -> Evaluation:
    """L31: Byzantine fault tolerance against rational adversaries. A Byzantine node need not be
    rational."""
    rho = grounds.published.number("otr.rho", "1")
    undetected = float(undetected_cheats(detection=rho))
    share = _assumed(grounds).bond.reward_share
    value = safe_value(price_usd=0.0, stake_usd=1.0, slash_fraction=1.0, dispute_cost_usd=0.0,
                           compute_saved_usd=0.0, detection=rho, reward_share=share)
    limit = solved(float(value), lambda gain: rho * (1.0 - share) - gain, 0.0, 1.0)
    tolerant, bounded = Rule("count", lambda answers: answers == 0.0), Rule("USD per USD", lambda gain: True)
    readings = (
        tolerant.recomputed("arbitrary behaviour",
                            "wrong answers expected before the first catch; tolerance would be none", undetected,
                            "otr.rho"),
        bounded.recomputed("rational, bounded gain",
                           "largest deterred gain of one answer per dollar that can be slashed", limit, "otr.rho"),
    )
    return Evaluation(
        {"undetected_count": undetected, "largest_gain_per_slashable_usd": limit},
        readings,
        ("largest_gain_per_slashable_usd", limit),
    )


def L32_detection_after(published: Published) -> Evaluation:
    """L32 (derived): 1 - (1 - rho)^K; at 1 % it takes 459 cheats for 99 %."""
    rho = published.number("otr.rho", "1")
    kept = Fraction(1) - Fraction(rho).limit_denominator(10**6)

    def exactly(wanted: Fraction) -> int:
        number, undetected = 0, Fraction(1)
        while 1 - undetected < wanted:
            number, undetected = number + 1, undetected * kept
        return number

    wanted = {"50": Fraction(1, 2), "90": Fraction(9, 10), "95": Fraction(19, 20), "99": Fraction(99, 100)}
    computed = {
        name: float(cheats_for_detection(probability=float(share), rho=rho)) for name, share in wanted.items()
    }
    readings = tuple(
        Reading(f"{name} % detection", "counted with exact fractions", computed[name], "cheats", "recomputed",
                computed[name] == exactly(wanted[name]), ("otr.rho",))
        for name in ("99", "95", "90", "50")
    )
    return Evaluation(
        {f"cheats_for_{name}pct_count": value for name, value in computed.items()},
        readings,
    )


def L33_rho_guidance(grounds: Grounds) -> Evaluation:
    """L33: there is guidance for choosing rho by use case. Ours, over four use cases, against 1 %
    for all."""
    published = grounds.published
    rho = published.number("otr.rho", "1")
    cases = scenarios.load(grounds.data)
    guides = {name: eco.guide(case) for name, case in cases.items()}

    def losable(name: str) -> float:
        """What a caught operator of the use case loses for good, at the largest stake, USD."""
        bond = cases[name].bond
        return bond.slash_fraction * (1.0 - bond.reward_share) * cases[name].limits.most_stake_usd

    def deterred_at(name: str, rate: float) -> bool:
        """Whether ``rate`` with the largest stake of the use case deters every schedule, margins
        included."""
        case = cases[name]
        least = deterring_loss(gain_usd=guides[name].worst_gain_usd, price_usd=case.answer.price_usd,
                                   detection=rate * case.watch.d * case.limits.detection_margin,
                                   pending=case.flow.pending)
        return bool(losable(name) > least)

    def at_risk(name: str) -> float:
        """Gain of a cheat over what a caught cheat can lose, at the largest stake and with the
        worst margins."""
        case = cases[name]
        lost = case.answer.price_usd + losable(name)
        return guides[name].worst_gain_usd / (lost * case.watch.d * case.limits.detection_margin)

    share = sum(deterred_at(name, rho) for name in cases) / len(cases)
    readings = (
        Reading("1 % for every use case", "share of the use cases it deters in, with the largest stake of each", share,
                "1", "recomputed", share == 1.0, ("otr.rho",)),
        *(Reading(guide.title, guide.statement, guide.rho, "1", "recomputed", guide.deters, ("otr.rho",))
          for guide in guides.values()),
    )
    return Evaluation(
        {"deterred_at_1pct_share": share}
        | {f"{name}_rho": guide.rho for name, guide in guides.items()}
        | {f"{name}_stake_usd": guide.stake_usd for name, guide in guides.items()}
        | {f"{name}_gain_over_losable_ratio": at_risk(name) for name in guides},
        readings,
        ("gain_over_losable_ratio", 1.0),
    )


def L41_slash_range(grounds: Grounds) -> Evaluation:
    """L41: DGrid slashes 5 to 20 % of the stake. What stake does that make necessary at 1 %?"""
    published = grounds.published
    low, high = published.bounds("dgrid.slash", "1")
    price, saved = downgrade(published)
    whole = _least_stake(grounds, saved, price_usd=price)

    def stake(slash_fraction: float) -> float:
        least = _least_stake(grounds, saved, slash_fraction=slash_fraction, price_usd=price)
        return solved(least, lambda usd: _surplus(grounds, usd, slash_fraction), 1e-9, 1e6)

    at_low, at_high = stake(low), stake(high)
    pays, deters = Rule("USD", lambda usd: usd >= 0), Rule("USD", lambda usd: True)
    own = ("dgrid.slash", "otr.rho", *_PRICES)
    readings = (
        pays.recomputed("5 % of the stake that suffices whole", "honest minus cheating pay",
                        _surplus(grounds, whole, low), *own),
        pays.recomputed("20 % of the stake that suffices whole", "honest minus cheating pay",
                        _surplus(grounds, whole, high), *own),
        deters.recomputed("stake for 5 %", "as solved", at_low, *own),
        deters.recomputed("stake for 20 %", "as solved", at_high, *own),
    )
    return Evaluation(
        {"least_stake_at_5pct_usd": at_low, "least_stake_at_20pct_usd": at_high,
         "stake_factor_at_5pct_ratio": at_low / whole, "stake_factor_at_20pct_ratio": at_high / whole},
        readings,
        ("least_stake_at_5pct_usd", at_low),
    )
