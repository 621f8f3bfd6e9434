# ruff: noqa: N802 (a function is named after its claim)
# fmt: off
"""Claims about Proof of Quality: L19 to L22 and L35 to L39. Formulas of arXiv 2405.17934 and 2512.16317.

The paper's models, prompts, judge and raters are not public to us. Beside the arithmetic of its numbers stand those of
our own experiment (``evaluation.poq``): a 135 M model, cheap adversaries, exact ground truth.
"""

from __future__ import annotations

import math

from otr_paper.claims.grounds import Grounds
from otr_paper.claims.published import Published
from otr_paper.claims.verdict import NOT_TESTABLE, Assumption, Evaluation, Reading, judged, solved
from otr_paper.poq.rewards import reward_share

_MODELS = ("gpt-3.5", "gpt-4", "mistral-7b", "mixtral", "llama3-70b")
_Z95 = 1.959963984540054  # 97.5 % point of the normal distribution




def pearson_interval(r: float, n: float) -> tuple[float, float]:
    """95 % interval of a correlation by Fisher's z transform."""
    half = _Z95 / math.sqrt(n - 3.0)
    return math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)


def correlation(first: list[float], second: list[float]) -> float:
    """Pearson correlation of two lists of the same length."""
    mean_1, mean_2 = sum(first) / len(first), sum(second) / len(second)
    product = sum((a - mean_1) * (b - mean_2) for a, b in zip(first, second, strict=True))
    return product / math.sqrt(sum((a - mean_1) ** 2 for a in first) * sum((b - mean_2) ** 2 for b in second))


def L19_adversary_score(grounds: Grounds) -> Evaluation:
    """L19: a tuned 8B model gets a judge score of 0.89."""
    published, measured = grounds.published, grounds.poq
    cheat, honest = published.number("otr.judge_adversary", "score"), published.number("otr.judge_honest", "score")
    share = cheat / honest
    least = min(measured.adversary_scores)
    readings = (
        Reading("the paper's models and judge", "not public: nothing to score", 0.0, "score", "cited", False,
                ("otr.judge_adversary",)),
        Reading("our adversaries, share of the honest score", "the least; the score is read relative to the honest "
                "model's", least / measured.honest_score, "1", "measured",
                least / measured.honest_score >= share, ("otr.judge_adversary", "otr.judge_honest")),
        Reading("an answer that repeats the question", "no model at all; share of the honest score, by a judge that "
                "does not see the context", measured.echo_score / measured.honest_score, "1", "measured",
                measured.echo_score / measured.honest_score >= share, ("otr.judge_adversary", "otr.judge_honest")),
    )
    return judged(
        "L19",
        {"least_tuned_score": least, "most_tuned_score": max(measured.adversary_scores),
         "echo_score": measured.echo_score, "least_share_of_honest": least / measured.honest_score,
         "stated_share_of_honest": share},
        readings,
        Assumption("stated_share_of_honest", share, "1",
                   "the score is read as at least this share of the honest model's, and the judge scores an answer "
                   "against the question alone"),
        "The paper's models, prompts and judge are not public. Ours are cheap adversaries against a 135 M model and, "
        "simplest of all, the question given back as the answer. That a score of ours lies near 0.89 or not says "
        "nothing: another judge, other questions.",
    )


def L20_honest_score(grounds: Grounds) -> Evaluation:
    """L20: the honest 70B model gets a judge score of 0.91. Neither that model nor that judge is to be had."""
    published, measured = grounds.published, grounds.poq
    stated = published.number("otr.judge_honest", "score")
    cross = published.number("poq.llama3-70b.judge_score", "score") / 10.0
    readings = (
        Reading("our honest model, light judge", "135 M parameters, question and answer", measured.honest_score,
                "score", "measured", abs(measured.honest_score - stated) <= 0.02, ("otr.judge_honest",)),
        Reading("our honest model, control judge", "the judge sees the context", measured.control_scores[0], "score",
                "measured", abs(measured.control_scores[0] - stated) <= 0.02, ("otr.judge_honest",)),
        Reading("Llama3-70B, PoQ's cross-encoder", "published mean of 100 questions, score over 10", cross, "score",
                "cited", abs(cross - stated) <= 0.02, ("poq.llama3-70b.judge_score",)),
    )
    return Evaluation(
        "L20",
        NOT_TESTABLE,
        {"our_honest_score": measured.honest_score, "control_judge_score": measured.control_scores[0],
         "published_70b_score": cross},
        readings,
        note="Needs the 70B model, the prompts and the judge, none of which is public; a score has no meaning apart "
        "from its judge. Two judges of ours and PoQ's own published one give lower values.",
    )


def L21_judge_gap(grounds: Grounds) -> Evaluation:
    """L21 (derived): the judge sees a gap of 0.02, or 2.2 %, between the cheat and the honest model."""
    published, measured = grounds.published, grounds.poq
    cheat, honest = published.number("otr.judge_adversary", "score"), published.number("otr.judge_honest", "score")
    gap, n = honest - cheat, published.number("poq.questions", "count")
    spread = solved(gap * math.sqrt(n / 2.0) / _Z95, lambda sd: _Z95 * sd * math.sqrt(2.0 / n) - gap, 0.0, 10.0)
    readings = (
        Reading("difference", "as stated", gap, "score", "recomputed", round(gap, 2) == 0.02,
                ("otr.judge_adversary", "otr.judge_honest")),
        Reading("relative", "of the honest score", gap / honest, "1", "recomputed", round(gap / honest, 3) == 0.022,
                ("otr.judge_adversary", "otr.judge_honest")),
        Reading("our adversaries", "largest gap, share of the honest score; below 0: scored above it",
                max(measured.gaps), "1", "measured", max(measured.gaps) <= gap / honest, ()),
    )
    return judged(
        "L21",
        {"gap_score": gap, "relative_gap": gap / honest, "largest_sd_told_apart_at_n100_score": spread,
         "our_largest_relative_gap": max(measured.gaps), "our_least_relative_gap": min(measured.gaps)},
        readings,
        note="Arithmetic of the stated scores. Whether the gap differs from nothing cannot be said: neither n nor the "
        "spread of the scores is stated. With 100 answers each it would, if a score's standard deviation is below the "
        "computed one. Our own gaps are those of cheap adversaries against a 135 M model.",
    )


def L22_human_drop(grounds: Grounds) -> Evaluation:
    """L22: people rate the tuned 8B model 40 % lower. No human raters here; exact answers are our proxy."""
    published, measured = grounds.published, grounds.poq
    stated = published.number("otr.human_drop", "1")
    points = measured.honest_accuracy - max(measured.adversary_accuracies)
    readings = (
        Reading("exact answers, relative", "least loss of the seeds, share of the honest accuracy",
                min(measured.losses), "1", "measured", min(measured.losses) >= stated, ("otr.human_drop",)),
        Reading("exact answers, absolute", "least loss of the seeds, points of accuracy", points, "1", "measured",
                points >= stated, ("otr.human_drop",)),
    )
    return Evaluation(
        "L22",
        NOT_TESTABLE,
        {"stated_drop": stated, "least_accuracy_loss": min(measured.losses), "least_accuracy_loss_points": points},
        readings,
        note="Needs human raters and the paper's rubric. Being right on questions with one right answer is a proxy, "
        "not a test: there our adversaries lose this much.",
    )


def L35_poq_latency(grounds: Grounds) -> Evaluation:
    """L35: PoQ answers in milliseconds."""
    published, measured = grounds.published, grounds.poq
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
        Reading("our judge, one CPU thread", "22.7 M parameters, one answer alone", measured.judge_single_ms, "ms",
                "measured", measured.judge_single_ms < 1000.0, ()),
    )
    return judged(
        "L35",
        {"fastest_pair_a100_ms": pair["small", "a100"], "slowest_pair_a100_ms": pair["large", "a100"],
         "slowest_pair_cpu_ms": pair["large", "cpu"], "with_consensus_a100_ms": pair["large", "a100"] + consensus,
         "table_against_rate_ratio": 1000.0 / pair["large", "a100"] / rate, "our_judge_ms": measured.judge_ms,
         "our_judge_alone_ms": measured.judge_single_ms},
        readings,
        note="Amortised over a batch, and after the answer exists: PoQ adds this to the inference, it does not replace "
        "it.",
    )


def L36_poq_judge(grounds: Grounds) -> Evaluation:
    """L36: PoQ's judge hardly follows quality: its correlation with GPT-4 scores is -0.06 to 0.35."""
    published, measured = grounds.published, grounds.poq
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
        Reading("our light judge, our honest model", f"share of being right explained, {measured.answers} answers",
                measured.judge_follows**2, "1", "measured", measured.judge_follows**2 < 0.5, ()),
    )
    return judged(
        "L36",
        {"least_pearson": values[worst], "most_pearson": values[best], "most_variance_explained": values[best] ** 2,
         "pairs_ordered_differently_count": float(swaps), "correlation_of_model_means": means,
         "our_judge_pearson": measured.judge_follows},
        readings,
        note="The weakness is in telling one model's answers apart: between the five models the mean scores do follow "
             "GPT-4's, over a range of 0.3 of 10 points. GPT-4's scores are themselves no truth.",
    )


def L37_poq_pays_the_cheat(grounds: Grounds) -> Evaluation:
    """L37 (derived): PoQ pays the tuned 8B model almost what it pays the honest 70B model."""
    published, measured = grounds.published, grounds.poq
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
    readings += tuple(
        Reading(f"ours, alpha {alpha:g}, scores to {scale:g}", "measured scores, by answer; least paid adversary",
                measured.pay[alpha, scale], "1", "measured", measured.pay[alpha, scale] >= almost,
                (f"poq.alpha_{alpha:g}",))
        for alpha, scale in combos
    )
    return judged(
        "L37",
        {"share_alpha2_unit_scale": share(2.0, 1.0), "share_alpha05_unit_scale": share(0.5, 1.0),
         "share_alpha2_ten_scale": share(2.0, 10.0), "most_alpha_times_scale": steepest,
         "our_share_alpha2_unit_scale": measured.pay[2.0, 1.0], "our_share_alpha2_ten_scale": measured.pay[2.0, 10.0]},
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


def L38_cost_aware_rewards(published: Published) -> Evaluation:
    """L38: cost-aware PoQ rewards Llama-3.2-3B with 0.62 and Phi-3-mini with 0.13."""
    high = published.number("poq.cost_aware.llama3.2-3b", "ratio")
    low = published.number("poq.cost_aware.phi-3-mini", "ratio")
    sources = ("poq.cost_aware.llama3.2-3b", "poq.cost_aware.phi-3-mini")
    # R = (1 - beta) q - beta c with q, c in [0, 1]. Cost alone can part two models by beta at most, and a reward of
    # `high` at no cost needs q = high / (1 - beta) <= 1, so beta <= 1 - high.
    by_cost = 1.0 - high
    least = solved((high - low - by_cost) / high, lambda q: (1 - by_cost) * q + by_cost - (high - low), 0.0, 1.0)
    without_cost = high - low
    readings = (
        Reading("equal quality", "weights that sum to 1; the most that cost alone can part the rewards, while the "
                "better one reaches 0.62", by_cost, "1", "recomputed", by_cost >= high - low, sources),
        Reading("quality apart, cost as far apart as can be", "least quality gap that gives both rewards", least, "1",
                "recomputed", True, sources),
        Reading("quality apart, equal cost", "no weight on cost; quality gap that gives both rewards", without_cost,
                "1", "recomputed", True, sources),
    )
    return judged(
        "L38",
        {"reward_gap": high - low, "most_gap_by_cost": by_cost, "least_quality_gap": least,
         "quality_gap_without_cost": without_cost},
        readings,
        Assumption("least_quality_gap", least, "1",
                   "the light judges' normalised qualities of the two models lie at least this far apart; the two "
                   "weights sum to 1"),
        "Qualities, latencies and weights behind the two rewards are not public: what they must satisfy is computed.",
    )


def L39_similarity_judge(grounds: Grounds) -> Evaluation:
    """L39: a similarity judge correlates with token F1 at 0.66 and with a GPT judge at 0.29."""
    published, measured = grounds.published, grounds.poq
    f1, gpt = published.number("poq.sts_f1", "ratio"), published.number("poq.sts_gpt", "ratio")
    near = 0.1  # the ledger's tolerance
    readings = (
        Reading("honest answers, against token F1", "likeness to a right answer; one model's answers",
                measured.likeness_f1_honest, "1", "measured", abs(measured.likeness_f1_honest - f1) <= near,
                ("poq.sts_f1",)),
        Reading("all answers, against token F1", "likeness to a right answer; honest and adversaries' together",
                measured.likeness_f1, "1", "measured", abs(measured.likeness_f1 - f1) <= near, ("poq.sts_f1",)),
        Reading("all answers, against being right", "exact truth in the place of a GPT judge", measured.likeness_right,
                "1", "measured", abs(measured.likeness_right - gpt) <= near, ("poq.sts_gpt",)),
    )
    return Evaluation(
        "L39",
        NOT_TESTABLE,
        {"our_correlation_f1_honest": measured.likeness_f1_honest, "our_correlation_f1": measured.likeness_f1,
         "our_correlation_right": measured.likeness_right, "stated_f1": f1, "stated_gpt": gpt},
        readings,
        note="Needs their 400 prompts, five models and a GPT judge. On our questions a similarity judge with the right "
        "answer in hand correlates as computed; how high depends on the mix of answers, so that nearness to the stated "
        "values says little. PoQ has no right answer in hand.",
    )
