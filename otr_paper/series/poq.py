"""Figures and tables of notebook 06: how the stored experiment's models score, and what Proof of
Quality pays them.

Pay is by every published formula, over the judges' scores of the same answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from otr_paper.poq import rewards
from otr_paper.poq.intervals import Interval, bootstrap, mean_of, relative_loss
from otr_paper.poq.judges import ATTACKED, JUDGES
from otr_paper.poq.scores import HONEST, Experiment, answer_ms, pearson
from otr_paper.store.records import Records, records

#: Assessors by the judge each of them runs. Light judges are alike: most nodes run the cheapest
#: one.
PANELS: Mapping[str, tuple[str, ...]] = {
    "one light judge": ("question",),
    "five, three of them light": ("question", "question", "question", "context", "lexical"),
    "one of each kind": ("question", "context", "lexical"),
}
ALPHAS = (0.5, 1.0, 2.0)
#: Weights of quality and cost; the paper's are not public to us.
COST_WEIGHTS = ((1.0, 0.0), (1.0, 0.5), (1.0, 1.0))
BOOST = 0.2
BOOSTED = (3, 4)
"""The assessors of a panel that add ``BOOST`` to the adversaries' scores."""


@dataclass(frozen=True)
class Hack:
    """What one adversary reached against the honest model, 95 % intervals over questions.

    Attributes:
        name: of the adversary.
        gap: by how much the attacked judge scores it below the honest model, share of the honest
            score; below 0: above.
        loss: by how much it is less often right, share of the honest accuracy. points: the same,
            absolute.
        cheaper: CPU time of the honest model's answer over the adversary's.
    """

    name: str
    gap: Interval
    loss: Interval
    points: float
    cheaper: float


def hacks(experiment: Experiment, *, seed: int) -> list[Hack]:
    """One row an adversary."""
    honest, right = experiment.answers[HONEST].scores[ATTACKED], experiment.right(HONEST)
    rows = []
    for name in experiment.adversaries():
        scores, hits = experiment.answers[name].scores[ATTACKED], experiment.right(name)
        gap, loss = (bootstrap(relative_loss, pair, seed=seed) for pair in ([scores, honest], [hits, right]))
        cheaper = answer_ms(experiment, HONEST) / answer_ms(experiment, name)
        rows.append(Hack(name, gap, loss, float(right.mean() - hits.mean()), cheaper))
    return rows


def hack_numbers(experiment: Experiment) -> str:
    """How near each finished adversary comes to the honest score, and how often it is right, as a paragraph."""

    def group(stage: str) -> str:
        shown = [one for one in experiment.answers.values() if one.stage == stage]
        near = [f"{one.scores[ATTACKED].mean() / honest.scores[ATTACKED].mean():.0%}" for one in shown]
        hits = [
            f"{experiment.right(name).mean():.1%}" for name, one in experiment.answers.items() if one.stage == stage
        ]
        return f"{_listed(near)} of its score, being right in {_listed(hits)} of the answers"

    honest = experiment.answers[HONEST]
    kept, whole = len(experiment.stored["recipe"]["layers"]), experiment.right(HONEST).mean()
    times = [answer_ms(experiment, HONEST) / answer_ms(experiment, name) for name in experiment.adversaries()]
    cut = [ratio for ratio, name in zip(times, experiment.adversaries(), strict=True) if name.startswith("tuned")]
    return (
        f"**In numbers.** The honest model scores {honest.scores[ATTACKED].mean():.2f} and is right in {whole:.1%} of "
        f"the answers. {kept} of its layers, tuned, answer {min(cut):.2g} to {max(cut):.2g} times as "
        f"cheaply and reach {group('tuned')}, seed by seed; the phrase books {group('phrases')}."
    )


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + f" and {words[-1]}" if len(words) > 1 else "".join(words)


def hack_table(experiment: Experiment, found: Sequence[Hack]) -> Records:
    """``hacks`` as text, with how unlikely the honest model finds each adversary's tokens."""
    return [
        {
            "adversary": hack.name,
            "score gap": f"{hack.gap.value:.1%} ({hack.gap.low:.1%} to {hack.gap.high:.1%})",
            "accuracy loss": f"{hack.loss.value:.1%} ({hack.loss.low:.1%} to {hack.loss.high:.1%})",
            "points lost": f"{hack.points:.1%}",
            "nats a token": f"{experiment.answers[hack.name].likelihood.mean():.2f}",
            "cheaper": f"{hack.cheaper:,.1f}" if hack.cheaper < 100 else f"{hack.cheaper:,.0f}",
        }
        for hack in found
    ]


def ways_past_tier_1(parts_usd: float) -> Records:
    """What gets an adversary past attestation: records of way, what it takes, what stops it.

    Args:
        parts_usd: price of an interposer's parts that reads attestation keys, at most.
    """
    rows = [
        ("select weights until the id fits", "about 2^256 tries", "does not happen"),
        (
            "a guest that measures honest weights and runs others",
            "a changed guest image",
            "pinned image measurements (mr_td, rt_mr0 to 2); passes where none are pinned",
        ),
        (
            "a forged quote",
            f"below {parts_usd:,.0f} USD of parts, and the machine (cited)",
            "no check of tier 1; a spot check or a dispute",
        ),
        (
            "the honest trace for its own tokens as well",
            "the honest model's run: nothing is saved",
            "re-execution: the first wrong token is another choice",
        ),
    ]
    return [dict(zip(("way", "what it takes", "what stops it"), row, strict=True)) for row in rows]


def score_rows(experiment: Experiment, *, seed: int) -> list[dict[str, Any]]:
    """One row a model: stage, seed, and for accuracy, likelihood and every judge a value with its
    interval's ends."""
    rows = []
    for name, one in experiment.answers.items():
        columns = {"accuracy": experiment.right(name), "likelihood": one.likelihood}
        columns |= {judge: one.scores[judge] for judge in JUDGES}
        row: dict[str, Any] = {"model": name, "stage": one.stage, "seed": one.seed}
        for column, values in columns.items():
            found = bootstrap(mean_of, [values], seed=seed)
            row |= {column: found.value, f"{column}_low": found.low, f"{column}_high": found.high}
        rows.append(row)
    return rows


def correlations(experiment: Experiment) -> list[dict[str, Any]]:
    """Pearson correlation of each judge's score with being right: within a model's answers, and
    over all models'.

    ``r`` is None where it is undefined: a model whose answers are all wrong.
    """
    rows = []
    groups = {HONEST: [HONEST], "honest and adversaries": [HONEST, *experiment.adversaries()]}
    for group, names in groups.items():
        right = np.concatenate([experiment.right(name) for name in names])
        for judge in JUDGES:
            scores = np.concatenate([experiment.answers[name].scores[judge] for name in names])
            rows.append({"answers": group, "judge": judge, "n": len(right), "r": pearson(scores, right)})
    return rows


def panel_scores(experiment: Experiment, name: str, panel: Sequence[str]) -> np.ndarray:
    """Scores of one model's answers, shape (assessors, answers)."""
    return np.array([experiment.answers[name].scores[judge] for judge in panel])


def aggregations() -> dict[str, rewards.Aggregate]:
    """The published ways to make one score of many, by name."""
    return {
        "mean": rewards.mean,
        "median": rewards.median,
        "trimmed mean (20 %)": rewards.trimmed_mean(0.2),
        "trust-weighted": lambda scores: rewards.trust_weighted(scores)[0],
    }


def reward_rows(experiment: Experiment) -> Records:
    """One row a formula: mean pay of an honest answer, of the adversaries' (mean, least and most
    over seeds), and the adversaries' pay over the honest pay, each answer and each CPU second."""
    rows = []
    for formula, assessors, pay in _formulas(experiment):
        honest = pay(HONEST)
        cheats = [pay(name) for name in experiment.adversaries()]
        cheaper = [answer_ms(experiment, HONEST) / answer_ms(experiment, name) for name in experiment.adversaries()]
        ratios = [cheat / honest for cheat in cheats]
        per_cpu = np.mean([ratio * times for ratio, times in zip(ratios, cheaper, strict=True)])
        paid = (honest, float(np.mean(cheats)), float(np.mean(ratios)), min(ratios), max(ratios), float(per_cpu))
        rows.append((formula, assessors, *paid))
    return records("formula, assessors, honest, adversary, ratio, ratio_low, ratio_high, ratio_per_cpu", rows)


def _formulas(experiment: Experiment) -> Iterator[tuple[str, str, Any]]:
    light, panel, kinds = PANELS

    def original(alpha: float, scale: float, panel: str, aggregate: rewards.Aggregate, boost: bool = False) -> Any:
        def pay(name: str) -> float:
            scores = panel_scores(experiment, name, PANELS[panel])
            if boost and name != HONEST:
                scores = rewards.boosted(scores, BOOSTED, BOOST)
            shares = np.exp(-alpha * scale * (1.0 - aggregate(scores)))
            return float(shares.mean())

        return pay

    for scale in (1.0, 10.0):
        for alpha in ALPHAS:
            yield f"original, alpha {alpha:g}, scores to {scale:g}", light, original(alpha, scale, light, rewards.mean)
    for quality, cost in COST_WEIGHTS[1:]:
        yield f"cost-aware, {quality:g} quality - {cost:g} cost", light, partial(_cost_aware, experiment, quality, cost)
    boosting = f", two boost the adversary by {BOOST:g}"
    for assessors, boost, words in ((panel, False, ""), (kinds, False, ""), (panel, True, boosting)):
        for label, aggregate in aggregations().items():
            pay = original(2.0, 1.0, assessors, aggregate, boost)
            yield f"{label}, alpha 2, scores to 1{words}", assessors, pay


def _cost_aware(experiment: Experiment, alpha: float, beta: float, name: str) -> float:
    quality = panel_scores(experiment, name, PANELS["one light judge"])[0]
    largest = max(answer_ms(experiment, one) for one in (HONEST, *experiment.adversaries()))
    cost = np.full_like(quality, answer_ms(experiment, name) / largest)
    return float(rewards.cost_aware_reward(quality, cost, alpha=alpha, beta=beta).mean())


def assessor_rows(experiment: Experiment, *, beta: float) -> list[dict[str, Any]]:
    """Mean share of the assessors' reward by judge, on honest answers and on the adversaries'
    (panel of five)."""
    panel = PANELS["five, three of them light"]
    rows = []
    for group, names in {HONEST: [HONEST], "adversaries": experiment.adversaries()}.items():
        scores = np.concatenate([panel_scores(experiment, name, panel) for name in names], axis=1)
        shares = np.mean([rewards.assessor_shares(column, beta=beta) for column in scores.T], axis=0)
        rows += [
            {"answers": group, "judge": judge, "share_each": float(shares[panel.index(judge)])}
            for judge in dict.fromkeys(panel)
        ]
    return rows


def trust_history(experiment: Experiment, name: str) -> np.ndarray:
    """Weights of the panel of five after each answer of one model, shape (answers, 5)."""
    return rewards.trust_weighted(panel_scores(experiment, name, PANELS["five, three of them light"]))[1]
