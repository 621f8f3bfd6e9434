# ruff: noqa: N802 (a function is named after its claim)
# fmt: off
# (Readings and computed numbers are tables, set by hand.)
"""Claims about Proof of Quality: L19 to L22 and L35 to L39. Formulas of arXiv 2405.17934 and
2512.16317.

The paper's models, prompts, judge and raters are not public to us. Beside the arithmetic of its
numbers stand those of our own experiment (``otr_paper.poq``): a 135 M model, cheap adversaries,
exact ground truth.
"""

from __future__ import annotations

import math
from itertools import combinations
from statistics import correlation

from otr_paper.claims.grounds import Grounds
from otr_paper.claims.published import Published
from otr_paper.claims.verdict import ARITHMETIC, NOT_TESTABLE, Condition, Evaluation, Reading, Rule
from otr_paper.poq.rewards import reward_share

_MODELS = ("gpt-3.5", "gpt-4", "mistral-7b", "mixtral", "llama3-70b")
# 97.5 % point of the normal distribution; the standard library's last digit differs
_Z95 = 1.959963984540054
_STATED_SCORES = ("otr.judge_adversary", "otr.judge_honest")
_TOP = 1.0
"""Of a score, a share and a correlation: beyond it a stated number refutes itself."""


def pearson_interval(r: float, n: float) -> tuple[float, float]:
    """95 % interval of a correlation of ``n`` pairs, by Fisher's z transform."""
    half = _Z95 / math.sqrt(n - 3.0)
    return math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)


def stated_scores(published: Published) -> tuple[float, float]:
    """The paper's judge scores of the tuned 8B model and of the honest 70B model."""
    cheat, honest = (published.number(row, "score") for row in _STATED_SCORES)
    return cheat, honest


def _possible(what: str, stated: float, unit: str = "1") -> Reading:
    """Whether a number can be at all, where nothing here can test it: the top of its scale against it."""
    return Rule(unit, ">=", stated).recomputed("a number that can be", f"the highest {what} there is", _TOP)


def L19_adversary_score(grounds: Grounds) -> Evaluation:
    """L19: a tuned 8B model gets a judge score of 0.89. Neither that model nor that judge is to be had."""
    measured = grounds.poq
    cheat, honest = stated_scores(grounds.published)
    share, least = cheat / honest, min(measured.adversary_scores)
    rule = Rule("1", ">=", share)
    readings = (
        _possible("judge score", cheat, "score"),
        rule.measured("our adversaries, share of the honest score",
                      "the least; the score is read relative to the honest model's", least / measured.honest_score),
        rule.measured("an answer that repeats the question",
                      "no model at all; share of the honest score, by a judge that does not see the context",
                      measured.echo_score / measured.honest_score),
    )
    return Evaluation(
        {"least_tuned_score": least, "most_tuned_score": max(measured.adversary_scores),
         "echo_score": measured.echo_score, "least_share_of_honest": least / measured.honest_score,
         "stated_share_of_honest": share},
        readings,
        settles=NOT_TESTABLE,
    )


def L20_honest_score(grounds: Grounds) -> Evaluation:
    """L20: the honest 70B model gets a judge score of 0.91. Neither that model nor that judge is to
    be had."""
    published, measured = grounds.published, grounds.poq
    stated = published.number("otr.judge_honest", "score")
    cross = published.number("poq.llama3-70b.judge_score", "score") / 10.0
    rule = Rule("score", "=", stated, slack=0.02)
    readings = (
        _possible("judge score", stated, "score"),
        rule.measured("our honest model, light judge", "135 M parameters, question and answer",
                      measured.honest_score),
        rule.measured("our honest model, control judge", "the judge sees the context", measured.control_scores[0]),
        rule.cited("Llama3-70B, PoQ's cross-encoder", "published mean of 100 questions, score over 10", cross,
                   "poq.llama3-70b.judge_score"),
    )
    return Evaluation(
        {"our_honest_score": measured.honest_score, "control_judge_score": measured.control_scores[0],
         "published_70b_score": cross},
        readings,
        settles=NOT_TESTABLE,
    )


def L21_judge_gap(grounds: Grounds) -> Evaluation:
    """L21 (derived): the judge sees a gap of 0.02, or 2.2 %, between the cheat and the honest
    model."""
    published, measured = grounds.published, grounds.poq
    cheat, honest = stated_scores(published)
    gap, n = honest - cheat, published.number("poq.questions", "count")
    stated = published.number("derived.judge_gap", "score")
    rule, as_small = Rule("score", "=", stated, slack=0.005), Rule("1", "<=", stated / honest)
    readings = (
        rule.follows("difference", "as stated", gap, *_STATED_SCORES),
        as_small.measured("our adversaries", "largest gap, share of the honest score; below 0: scored above it",
                          max(measured.gaps)),
    )
    return Evaluation(
        {"gap_score": gap, "relative_gap": gap / honest,
         "largest_sd_told_apart_at_n100_score": gap * math.sqrt(n / 2.0) / _Z95,
         "our_largest_relative_gap": max(measured.gaps), "our_least_relative_gap": min(measured.gaps)},
        readings,
        settles=ARITHMETIC,
    )


def L22_human_drop(grounds: Grounds) -> Evaluation:
    """L22: people rate the tuned 8B model 40 % lower. No human raters here; exact answers are our
    proxy."""
    measured, stated = grounds.poq, grounds.published.number("otr.human_drop", "1")
    points = measured.honest_accuracy - max(measured.adversary_accuracies)
    rule = Rule("1", ">=", stated)
    readings = (
        _possible("drop", stated),
        rule.measured("exact answers, relative", "least loss of the seeds, share of the honest accuracy",
                      min(measured.losses)),
        rule.measured("exact answers, absolute", "least loss of the seeds, points of accuracy", points),
    )
    return Evaluation(
        {"stated_drop": stated, "least_accuracy_loss": min(measured.losses), "least_accuracy_loss_points": points},
        readings,
        settles=NOT_TESTABLE,
    )


def L35_poq_latency(grounds: Grounds) -> Evaluation:
    """L35: PoQ answers in milliseconds."""
    published, measured = grounds.published, grounds.poq
    fastest, slowest, slowest_cpu = (
        published.number(f"poq.judge_{judge}", "ms") / 1000.0 for judge in ("small_a100", "large_a100", "large_cpu")
    )
    consensus = published.number("poq.consensus", "ms")
    rate = published.number("poq.judge_large_rate", "pairs/s")
    rule = Rule("ms", "<", published.number("read.milliseconds", "ms"))
    readings = (
        rule.recomputed("judge and consensus, CPU", "the slowest published judge, one pair and one round",
                        slowest_cpu + consensus, "poq.judge_large_cpu", "poq.consensus"),
        rule.recomputed("judge and consensus, A100", "one pair and one round", slowest + consensus,
                        "poq.judge_large_a100", "poq.consensus"),
        rule.recomputed("slowest judge, A100", "one pair of a batch of 1,000", slowest, "poq.judge_large_a100"),
        rule.measured("our judge, one CPU thread", "22.7 M parameters, one answer alone", measured.judge_single_ms),
    )
    return Evaluation(
        {"fastest_pair_a100_ms": fastest, "slowest_pair_a100_ms": slowest, "slowest_pair_cpu_ms": slowest_cpu,
         "with_consensus_a100_ms": slowest + consensus, "table_against_rate_ratio": 1000.0 / slowest / rate,
         "our_judge_ms": measured.judge_ms, "our_judge_alone_ms": measured.judge_single_ms},
        readings,
    )


def L36_poq_judge(grounds: Grounds) -> Evaluation:
    """L36: PoQ's judge hardly follows quality: its correlation with GPT-4 scores is -0.06 to
    0.35."""
    published, measured = grounds.published, grounds.poq
    n = published.number("poq.questions", "count")
    values = {model: published.number(f"poq.{model}.pearson", "ratio") for model in _MODELS}
    best, worst = max(values, key=values.__getitem__), min(values, key=values.__getitem__)
    gpt4, judge = (
        {model: published.number(f"poq.{model}.{kind}", "score") for model in _MODELS}
        for kind in ("gpt4_score", "judge_score")
    )
    swaps = float(sum((gpt4[a] < gpt4[b]) != (judge[a] < judge[b]) for a, b in combinations(_MODELS, 2)))
    means = correlation(list(gpt4.values()), list(judge.values()))
    best_end = pearson_interval(values[best], n)[1]
    # "Hardly follows": the judge explains less than half of the variance. Within one model's answers and
    # between the means of the models are two questions, and the words leave open which is meant.
    explained = Rule("1", "<", 0.5)
    readings = (
        explained.recomputed("within one model's answers", f"{best}, followed best: share of the GPT-4 score's "
                             "variance explained", values[best] ** 2, f"poq.{best}.pearson"),
        explained.recomputed("between the models", "share of variance explained between the five models' mean scores",
                             means**2, *(f"poq.{model}.gpt4_score" for model in _MODELS),
                             *(f"poq.{model}.judge_score" for model in _MODELS)),
        explained.recomputed("within, upper end", f"{best}: 95 % interval for 100 questions", best_end**2,
                             f"poq.{best}.pearson"),
        explained.measured("our light judge, our honest model",
                           f"share of being right explained, {measured.answers} answers", measured.judge_follows**2),
    )
    return Evaluation(
        {"least_pearson": values[worst], "most_pearson": values[best], "most_variance_explained": values[best] ** 2,
         "pairs_ordered_differently_count": swaps, "correlation_of_model_means": means,
         "our_judge_pearson": measured.judge_follows},
        readings,
        meanings=2,
    )


def L37_poq_pays_the_cheat(grounds: Grounds) -> Evaluation:
    """L37 (derived): PoQ pays the tuned 8B model almost what it pays the honest 70B model."""
    published, measured = grounds.published, grounds.poq
    cheat, honest = stated_scores(published)
    almost = published.number("read.almost", "1")
    alphas = [row.number("ratio") for row in published.starting("poq.alpha_")]

    def share(alpha: float, scale: float) -> float:
        """Cheat's reward over honest reward, with scores from 0 to ``scale``."""
        cheated, earned = (reward_share(score * scale, alpha=alpha, upper=scale) for score in (cheat, honest))
        return cheated / earned

    steepest = -math.log(almost) / (honest - cheat)
    steep = max(alphas)
    rule, slow = Rule("1", ">=", almost), Rule("1", "<=", steepest)
    readings = (
        rule.recomputed(f"alpha {steep:g}, scores to 10", "cheat's reward over honest reward, on the published scale",
                        share(steep, 10.0), *_STATED_SCORES, f"poq.alpha_{steep:g}"),
        *(rule.measured(f"ours, alpha {alpha:g}, scores to {scale:g}",
                        "measured scores, by answer; least paid adversary", measured.pay[alpha, scale],
                        f"poq.alpha_{alpha:g}") for scale in (10.0, 1.0) for alpha in sorted(alphas, reverse=True)),
    )
    unit = Condition(
        "most_alpha_times_scale", "reward exponent times score range stays below this, as with scores on the scale "
        "from 0 to 1 on which the two are stated", slow,
        tuple(slow.cited(f"alpha {alpha:g}, scores to 1", "published exponent", alpha, f"poq.alpha_{alpha:g}")
              for alpha in sorted(alphas)),
    )
    return Evaluation(
        {"share_alpha2_unit_scale": share(2.0, 1.0), "share_alpha05_unit_scale": share(0.5, 1.0),
         "share_alpha2_ten_scale": share(2.0, 10.0), "most_alpha_times_scale": steepest,
         "our_share_alpha2_unit_scale": measured.pay[2.0, 1.0], "our_share_alpha2_ten_scale": measured.pay[2.0, 10.0]},
        readings,
        (unit,),
    )


def L38_cost_aware_rewards(published: Published) -> Evaluation:
    """L38: cost-aware PoQ rewards Llama-3.2-3B with 0.62 and Phi-3-mini with 0.13."""
    sources = ("poq.cost_aware.llama3.2-3b", "poq.cost_aware.phi-3-mini")
    high, low = (published.number(row, "ratio") for row in sources)
    # R = (1 - beta) q - beta c with q, c in [0, 1]. Cost alone can part two models by beta at most,
    # and a reward of `high` at no cost needs q = high / (1 - beta) <= 1, so beta <= 1 - high.
    by_cost = 1.0 - high
    least = (high - low - by_cost) / high
    apart = Rule("1", ">=", high - low)
    readings = (
        _possible("normalised reward", high),
        apart.recomputed("equal quality", "weights that sum to 1; the most that cost alone can part the rewards, while "
                         "the better one reaches its reward", by_cost, *sources),
    )
    return Evaluation(
        {"reward_gap": high - low, "most_gap_by_cost": by_cost, "least_quality_gap": least,
         "quality_gap_without_cost": high - low},
        readings,
        settles=NOT_TESTABLE,
    )


def L39_similarity_judge(grounds: Grounds) -> Evaluation:
    """L39: a similarity judge correlates with token F1 at 0.66 and with a GPT judge at 0.29."""
    published, measured = grounds.published, grounds.poq
    f1, gpt = published.number("poq.sts_f1", "ratio"), published.number("poq.sts_gpt", "ratio")
    near_f1, near_gpt = Rule("1", "=", f1, slack=0.1), Rule("1", "=", gpt, slack=0.1)
    readings = (
        _possible("correlation", max(f1, gpt)),
        near_f1.measured("honest answers, against token F1", "likeness to a right answer; one model's answers",
                         measured.likeness_f1_honest),
        near_f1.measured("all answers, against token F1",
                         "likeness to a right answer; honest and adversaries' together", measured.likeness_f1),
        near_gpt.measured("all answers, against being right", "exact truth in the place of a GPT judge",
                          measured.likeness_right),
    )
    return Evaluation(
        {"our_correlation_f1_honest": measured.likeness_f1_honest, "our_correlation_f1": measured.likeness_f1,
         "our_correlation_right": measured.likeness_right, "stated_f1": f1, "stated_gpt": gpt},
        readings,
        settles=NOT_TESTABLE,
    )
