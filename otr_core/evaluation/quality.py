# ruff: noqa: N802 (a function is named after its claim)
# fmt: off
"""Claims about Proof of Quality: L19 to L22 and L35 to L39. Formulas of arXiv 2405.17934."""

from __future__ import annotations

import math

from otr_core.evaluation.published import Published
from otr_core.evaluation.verdict import NOT_TESTABLE, Assumption, Evaluation, Reading, judged, solved

_MODELS = ("gpt-3.5", "gpt-4", "mistral-7b", "mixtral", "llama3-70b")
_Z95 = 1.959963984540054  # 97.5 % point of the normal distribution


def reward_share(mean_score: float, *, alpha: float, upper: float) -> float:
    """What PoQ pays an answer, as a share of the full reward: ``exp(-alpha (U - mean score))``."""
    return math.exp(-alpha * (upper - mean_score))


def pearson_interval(r: float, n: float) -> tuple[float, float]:
    """95 % interval of a correlation by Fisher's z transform."""
    half = _Z95 / math.sqrt(n - 3.0)
    return math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)


def correlation(first: list[float], second: list[float]) -> float:
    """Pearson correlation of two lists of the same length."""
    mean_1, mean_2 = sum(first) / len(first), sum(second) / len(second)
    product = sum((a - mean_1) * (b - mean_2) for a, b in zip(first, second, strict=True))
    return product / math.sqrt(sum((a - mean_1) ** 2 for a in first) * sum((b - mean_2) ** 2 for b in second))


def L21_judge_gap(published: Published) -> Evaluation:
    """L21 (derived): the judge sees a gap of 0.02, or 2.2 %, between the cheat and the honest model."""
    cheat, honest = published.number("otr.judge_adversary", "score"), published.number("otr.judge_honest", "score")
    gap, n = honest - cheat, published.number("poq.questions", "count")
    spread = solved(gap * math.sqrt(n / 2.0) / _Z95, lambda sd: _Z95 * sd * math.sqrt(2.0 / n) - gap, 0.0, 10.0)
    readings = (
        Reading("difference", "as stated", gap, "score", "recomputed", round(gap, 2) == 0.02,
                ("otr.judge_adversary", "otr.judge_honest")),
        Reading("relative", "of the honest score", gap / honest, "1", "recomputed", round(gap / honest, 3) == 0.022,
                ("otr.judge_adversary", "otr.judge_honest")),
    )
    return judged(
        "L21",
        {"gap_score": gap, "relative_gap": gap / honest, "largest_sd_told_apart_at_n100_score": spread},
        readings,
        note="Whether the gap differs from nothing cannot be said: neither n nor the spread of the scores is stated. "
        "With 100 answers each it would, if a score's standard deviation is below the computed one.",
    )


def L22_human_drop(published: Published) -> Evaluation:
    """L22: people rate the tuned 8B model 40 % lower. No human raters here."""
    return Evaluation(
        "L22",
        NOT_TESTABLE,
        {"stated_drop": published.number("otr.human_drop", "1")},
        note="Needs human raters and the paper's rubric; an independent automatic judge is a proxy, not a test.",
    )


def L35_poq_latency(published: Published) -> Evaluation:
    """L35: PoQ answers in milliseconds."""
    pair = {
        (size, where): published.number(f"poq.judge_{size}_{where}", "ms") / 1000.0
        for size in ("small", "medium", "large")
        for where in ("a100", "cpu")
    }
    consensus = published.number("poq.consensus", "ms")
    rate = published.number("poq.judge_large_rate", "pairs/s")

    def reading(name: str, text: str, value: float, source: str) -> Reading:
        return Reading(name, text, value, "ms", "recomputed", value < 1000.0, (source,))

    readings = (
        reading("slowest judge, A100", "one pair of a batch of 1,000", pair["large", "a100"], "poq.judge_large_a100"),
        reading("slowest judge, CPU", "one pair of a batch of 1,000", pair["large", "cpu"], "poq.judge_large_cpu"),
        reading(
            "judge and consensus, A100", "one pair and one round", pair["large", "a100"] + consensus, "poq.consensus"
        ),
        reading(
            "judge and consensus, CPU", "one pair and one round", pair["large", "cpu"] + consensus, "poq.consensus"
        ),
    )
    return judged(
        "L35",
        {"fastest_pair_a100_ms": pair["small", "a100"], "slowest_pair_a100_ms": pair["large", "a100"],
         "slowest_pair_cpu_ms": pair["large", "cpu"], "with_consensus_a100_ms": pair["large", "a100"] + consensus,
         "table_against_rate_ratio": 1000.0 / pair["large", "a100"] / rate},
        readings,
        note="Amortised over a batch, and after the answer exists: PoQ adds this to the inference, it does not replace "
        "it.",
    )


def L36_poq_judge(published: Published) -> Evaluation:
    """L36: PoQ's judge hardly follows quality: its correlation with GPT-4 scores is -0.06 to 0.35."""
    n = published.number("poq.questions", "count")
    values = {model: published.number(f"poq.{model}.pearson", "ratio") for model in _MODELS}
    best, worst = max(values, key=values.__getitem__), min(values, key=values.__getitem__)
    ranks = {
        kind: sorted(_MODELS, key=lambda model: published.number(f"poq.{model}.{kind}", "score"))
        for kind in ("gpt4_score", "judge_score")
    }
    swaps = sum(
        (ranks["gpt4_score"].index(a) < ranks["gpt4_score"].index(b))
        != (ranks["judge_score"].index(a) < ranks["judge_score"].index(b))
        for i, a in enumerate(_MODELS)
        for b in _MODELS[i + 1 :]
    )
    means = correlation(*([published.number(f"poq.{model}.{kind}", "score") for model in _MODELS]
                          for kind in ("gpt4_score", "judge_score")))
    readings = (
        Reading("best judged model", f"{best}: share of the GPT-4 score's variance explained", values[best] ** 2, "1",
                "recomputed", values[best] ** 2 < 0.5, (f"poq.{best}.pearson",)),
        Reading("best judged model, upper end", "95 % interval for 100 questions", pearson_interval(values[best], n)[1],
                "1", "recomputed", pearson_interval(values[best], n)[1] ** 2 < 0.5, (f"poq.{best}.pearson",)),
        Reading("worst judged model, upper end", f"{worst}: 95 % interval for 100 questions",
                pearson_interval(values[worst], n)[1], "1", "recomputed",
                pearson_interval(values[worst], n)[1] ** 2 < 0.5, (f"poq.{worst}.pearson",)),
        Reading("order of the models", "pairs of models that judge and GPT-4 order differently, of 10", float(swaps),
                "count", "recomputed", swaps > 0, tuple(f"poq.{model}.judge_score" for model in _MODELS)),
        Reading("means of the models", "share of variance explained between the five models' mean scores", means**2,
                "1", "recomputed", means**2 < 0.5, tuple(f"poq.{model}.gpt4_score" for model in _MODELS)),
    )
    return judged(
        "L36",
        {"least_pearson": values[worst], "most_pearson": values[best], "most_variance_explained": values[best] ** 2,
         "pairs_ordered_differently_count": float(swaps), "correlation_of_model_means": means},
        readings,
        note="The weakness is in telling one model's answers apart: between the five models the mean scores do follow "
             "GPT-4's, over a range of 0.3 of 10 points. GPT-4's scores are themselves no truth.",
    )


def L37_poq_pays_the_cheat(published: Published) -> Evaluation:
    """L37 (derived): PoQ pays the tuned 8B model almost what it pays the honest 70B model."""
    cheat, honest = published.number("otr.judge_adversary", "score"), published.number("otr.judge_honest", "score")
    almost = 0.95  # 'almost fully' is ours
    alphas = [row.number("ratio") for row in published.starting("poq.alpha_")]

    def share(alpha: float, scale: float) -> float:
        return reward_share(cheat * scale, alpha=alpha, upper=scale) / reward_share(
            honest * scale, alpha=alpha, upper=scale
        )

    steepest = solved(-math.log(almost) / (honest - cheat), lambda product: share(product, 1.0) - almost, 0.0, 1e3)
    combos = [(alpha, scale) for scale in (10.0, 1.0) for alpha in sorted(alphas, reverse=True)]
    readings = tuple(
        Reading(f"alpha {alpha:g}, scores to {scale:g}", "cheat's reward over honest reward", share(alpha, scale), "1",
                "recomputed", share(alpha, scale) >= almost,
                ("otr.judge_adversary", "otr.judge_honest", f"poq.alpha_{alpha:g}"))
        for alpha, scale in combos
    )
    return judged(
        "L37",
        {"share_alpha2_unit_scale": share(2.0, 1.0), "share_alpha05_unit_scale": share(0.5, 1.0),
         "share_alpha2_ten_scale": share(2.0, 10.0), "most_alpha_times_scale": steepest},
        readings,
        Assumption(
            "most_alpha_times_scale",
            steepest,
            "1",
            "reward exponent times score range stays below this; the "
            "published score range is 10, where only a smaller alpha qualifies",
        ),
        "Even the steepest published setting pays the cheat two thirds of the reward for an eighth of the compute.",
    )
