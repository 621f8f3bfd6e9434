# ruff: noqa: N802 (a function is named after its claim)
# fmt: off
# (Readings and computed numbers are tables, set by hand.)
"""Claims about security: L27, L29 to L33 and L41. The economics are those of
``otr_core.economics``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal, localcontext
from fractions import Fraction

from otr_core import economics as eco
from otr_core.economics import scenarios
from otr_core.economics.detection import cheats_for_detection, served_before_verdict, undetected_cheats
from otr_core.economics.deterrence import safe_value
from otr_core.economics.guarantee import deterring_loss
from otr_core.economics.guidance import Guidance
from otr_paper.claims.cost import TOKENS_IN, TOKENS_OUT, inference_usd
from otr_paper.claims.grounds import Grounds
from otr_paper.claims.published import Published
from otr_paper.claims.verdict import ARITHMETIC, Condition, Evaluation, Rule

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
    rule = Rule("ratio", "=", published.number("read.rounds", "ratio"), slack=1e-9)
    readings = tuple(
        rule.recomputed(f"a 1000-token answer of 70B, by {name.replace('_', ' ')}",
                        f"halving {steps:.3g} steps; rounds over the logarithm, rounded up",
                        bisection_rounds(steps) / math.ceil(math.log2(steps)), "model.llama_70b.params")
        for name, steps in units.items()
    )
    return Evaluation(
        {f"{name}_rounds": float(bisection_rounds(steps)) for name, steps in units.items()},
        readings,
    )


def _scenarios(grounds: Grounds) -> Mapping[str, scenarios.Scenario]:
    return grounds.memo("scenarios", lambda: scenarios.load(grounds.data))


def _assumed(grounds: Grounds, name: str = "chatbot") -> scenarios.Scenario:
    """The use case whose assumptions stand in for what no text states: which share of a slash goes to
    who caught the cheat, who may be the operator's own fisherman, and what is in flight."""
    return _scenarios(grounds)[name]


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


def _assumed_stake(grounds: Grounds) -> float:
    """The largest stake that the chatbot use case of data/scenarios allows, USD."""
    return _assumed(grounds).limits.most_stake_usd


def L29_spot_checks_deter(grounds: Grounds) -> Evaluation:
    """L29: spot checks deter rational cheating. With what stake, at 1 %? No text says."""
    published = grounds.published
    price, saved = downgrade(published)
    slash = published.bounds("dgrid.slash", "1")[0]
    stake = _least_stake(grounds, saved, price_usd=price)
    little = _least_stake(grounds, saved, slash_fraction=slash, price_usd=price)
    outside = _least_stake(grounds, 10_000.0, price_usd=price)
    flying = _assumed(grounds, "defi_agent").flow.pending
    rolling = _least_stake(grounds, 10_000.0, price_usd=price, pending=flying)
    largest, deters = _assumed_stake(grounds), Rule("USD", ">", 0.0)
    readings = (
        deters.recomputed("payment alone", "no stake: honest minus cheating pay", _surplus(grounds, 0.0), *_PRICES,
                          "otr.rho"),
        deters.recomputed("the stake of the chatbot use case", f"{largest:,.0f} USD behind each answer, all of it "
                          "slashed: honest minus cheating pay of a downgrade", _surplus(grounds, largest), *_PRICES,
                          "otr.rho"),
    )
    return Evaluation(
        {"downgrade_gain_usd": saved, "least_stake_usd": stake, "least_stake_slash5pct_usd": little,
         "least_stake_outside_10000_usd": outside, "least_stake_until_verdict_10000_usd": rolling,
         "least_stake_per_gain_ratio": _least_stake(grounds, 1.0, price_usd=1.0)},
        readings,
        (Condition("least_stake_usd", "at least this can be slashed behind all unfinalised answers, and an operator "
                   "gains no more than a downgrade saves; no text states a stake", Rule("USD", ">=", stake)),),
        meanings=2,
    )


def L30_transient_break(grounds: Grounds) -> Evaluation:
    """L30: safe while a hardware vulnerability is open, as spot checks remain. From whom, at what stake?"""
    published = grounds.published
    rho = published.number("otr.rho", "1")
    price, saved = downgrade(published)
    stake, largest = _least_stake(grounds, saved, price_usd=price), _assumed_stake(grounds)
    undetected = float(undetected_cheats(detection=rho))
    patched = float(undetected_cheats(detection=rho, attempts=100))
    flying = _assumed(grounds).flow.pending
    served = float(served_before_verdict(detection=rho, pending=flying))
    safe, deters = Rule("count", "<", 1.0), Rule("USD", ">", 0.0)
    readings = (
        safe.recomputed("an operator who cheats regardless", "undetected wrong answers per stake, never patched",
                        undetected, "otr.rho"),
        deters.recomputed("a rational operator, downgrade", "honest minus cheating pay at the stake of the "
                          "chatbot use case, with the break open", _surplus(grounds, largest), *_PRICES, "otr.rho"),
        safe.recomputed("an operator who cheats regardless, for who acts at once",
                        f"wrong answers served before the verdict, {flying} of them while it is pending, as in the "
                        "chatbot use case", served, "otr.rho"),
        safe.recomputed("an operator who cheats regardless, patched", "undetected wrong answers in 100 queries",
                        patched, "otr.rho"),
    )
    return Evaluation(
        {"undetected_unpatched_count": undetected, "served_unpatched_count": served,
         "undetected_in_100_queries_count": patched, "least_stake_usd": stake},
        readings,
        (Condition("least_stake_usd", "every operator is rational, has no outside gain, and this can be slashed per "
                   "extracted identity; no text states a stake", Rule("USD", ">=", stake)),),
        meanings=2,
    )


def L31_byzantine_tolerance(grounds: Grounds) -> Evaluation:
    """L31: Byzantine fault tolerance against rational adversaries. A Byzantine node need not be
    rational."""
    published = grounds.published
    rho, (_, saved) = published.number("otr.rho", "1"), downgrade(published)
    undetected = float(undetected_cheats(detection=rho))
    share = _assumed(grounds).bond.reward_share
    limit = float(safe_value(price_usd=0.0, stake_usd=1.0, slash_fraction=1.0, dispute_cost_usd=0.0,
                                 compute_saved_usd=0.0, detection=rho, reward_share=share))
    tolerant, bounded = Rule("count", "<", 1.0), Rule("USD per USD", "<", limit)
    readings = (
        tolerant.recomputed("arbitrary behaviour",
                            "wrong answers expected before the first catch; tolerance would be none", undetected,
                            "otr.rho"),
        bounded.recomputed("rational behaviour, bounded gain", "gain of a downgrade per dollar of the stake of the "
                           "chatbot use case, below the largest that is deterred", saved / _assumed_stake(grounds),
                           *_PRICES, "otr.rho"),
    )
    return Evaluation(
        {"undetected_count": undetected, "largest_gain_per_slashable_usd": limit}, readings, meanings=2
    )


def L32_detection_after(published: Published) -> Evaluation:
    """L32 (derived): 1 - (1 - rho)^K; at 1 % it takes 459 cheats for 99 %."""
    rho = published.number("otr.rho", "1")
    kept = Fraction(1) - Fraction(rho).limit_denominator(10**6)

    def exactly(wanted: Fraction) -> int:
        # Decimal digits beside which the rounding of a product is nothing: the count is that of exact fractions.
        with localcontext() as context:
            context.prec = 60
            number, undetected, left = 0, Decimal(1), Decimal(1) - _decimal(wanted)
            while undetected > left:
                number, undetected = number + 1, undetected * _decimal(kept)
            return number

    wanted = {"50": Fraction(1, 2), "90": Fraction(9, 10), "95": Fraction(19, 20), "99": Fraction(99, 100)}
    computed = {
        name: float(cheats_for_detection(probability=float(share), rho=rho)) for name, share in wanted.items()
    }
    stated = Rule("cheats", "=", published.number("derived.cheats_99", "count"))
    readings = (stated.follows("99 % detection", "counted", exactly(wanted["99"]), "otr.rho"),)
    return Evaluation(
        {f"cheats_for_{name}pct_count": value for name, value in computed.items()},
        readings,
        settles=ARITHMETIC,
    )


def _decimal(number: Fraction) -> Decimal:
    return Decimal(number.numerator) / Decimal(number.denominator)


def L33_rho_guidance(grounds: Grounds) -> Evaluation:
    """L33: there is guidance for choosing rho by use case. Ours, over four use cases, against 1 %
    for all."""
    published = grounds.published
    rho = published.number("otr.rho", "1")
    cases, guides = grounds.memo("guides", lambda: _guides(grounds))

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
        return float(guides[name].worst_gain_usd / (lost * case.watch.d * case.limits.detection_margin))

    share = sum(deterred_at(name, rho) for name in cases) / len(cases)
    rule = Rule("1", "<=", published.number("read.guidance", "1"))
    needed = {name: at_risk(name) for name in cases}
    readings = (
        rule.recomputed("every use case", "the largest rate that any of them needs, at its largest stake",
                        max(needed.values())),
        Rule("1", ">=", 1.0).recomputed("1 % for every use case", "share of the use cases it deters in, with the "
                                        "largest stake of each", share, "otr.rho"),
    )
    within = Condition(
        "gain_over_losable_ratio", "a cheat gains less than a caught cheat can lose, price and slashed stake together",
        rule, tuple(rule.recomputed(guides[name].title, "rate that the use case needs at its largest stake", rate)
                    for name, rate in needed.items()),
    )
    return Evaluation(
        {"deterred_at_1pct_share": share}
        | {f"{name}_rho": guide.rho for name, guide in guides.items()}
        | {f"{name}_stake_usd": guide.stake_usd for name, guide in guides.items()}
        | {f"{name}_gain_over_losable_ratio": rate for name, rate in needed.items()},
        readings,
        (within,),
    )


def _guides(grounds: Grounds) -> tuple[Mapping[str, scenarios.Scenario], Mapping[str, Guidance]]:
    """The use cases, and our guidance for each."""
    cases = _scenarios(grounds)
    return cases, {name: eco.guide(case) for name, case in cases.items()}


def L41_slash_range(grounds: Grounds) -> Evaluation:
    """L41: DGrid slashes 5 to 20 % of the stake. What stake does that make necessary at 1 %?"""
    published = grounds.published
    low, high = published.bounds("dgrid.slash", "1")
    price, saved = downgrade(published)
    whole = _least_stake(grounds, saved, price_usd=price)
    at_low, at_high = (_least_stake(grounds, saved, slash_fraction=share, price_usd=price) for share in (low, high))
    pays, own = Rule("USD", ">=", -1e-12), ("dgrid.slash", "otr.rho", *_PRICES)
    readings = (
        pays.recomputed("the stake that suffices where all is slashed", "smallest slash: honest minus cheating pay",
                        _surplus(grounds, whole, low), *own),
        pays.recomputed("the stake of the chatbot use case", "smallest slash: honest minus cheating pay",
                        _surplus(grounds, _assumed_stake(grounds), low), *own),
        pays.recomputed("the same, largest slash", "the stake that suffices where all is slashed",
                        _surplus(grounds, whole, high), *own),
    )
    return Evaluation(
        {"least_stake_at_5pct_usd": at_low, "least_stake_at_20pct_usd": at_high,
         "stake_factor_at_5pct_ratio": at_low / whole, "stake_factor_at_20pct_ratio": at_high / whole},
        readings,
        (Condition("least_stake_at_5pct_usd", "at least this stake stands behind every unfinalised answer of the "
                   "downgrade type; no text states a stake", Rule("USD", ">=", at_low)),),
        meanings=2,
    )
