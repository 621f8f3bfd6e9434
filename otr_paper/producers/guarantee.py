"""The composed guarantee checked: data/results/guarantee.json and docs/guarantee.md. Some minutes on
one core.

z3 proves each lemma and finds a counter-example for each hypothesis left out; value iteration over all
strategies stands against the closed form on both sides of the threshold; hill climbing looks for a
better attack; operators and classes are played event by event. All points are drawn from three seeds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import z3

from otr_core.economics.guarantee import Cheat, Setting, attack_profit, class_break, deterring_loss
from otr_paper.producers import frame
from otr_paper.series import guarantee
from otr_paper.studies.lemmas import LEMMAS, Lemma, conjuncts
from otr_paper.studies.schedules import Schedules, best_value, draw_game, play_class, play_operator, searched_value

SEED, SEEDS = 20251223, (1, 2, 3)
POINTS = 1200
"""Random points of each table and seed; a single kind is tried on both sides of its threshold."""
AWAY = 0.02
"""How far from the threshold."""
PLAYED = 600
"""Random classes, each played so many times."""
RUNS = 400


def refute(lemma: Lemma, dropped: str = "") -> dict[str, str] | None:
    """Numbers that meet all but one hypothesis and not the claim, or None: there are none.

    Raises:
        RuntimeError: z3 gives up.
    """
    solver = z3.Solver()
    solver.set("timeout", 60_000)
    real = {name: z3.Real(name) for name in lemma.variables.split()}
    x = SimpleNamespace(**real)
    for test in (*lemma.given, *(test for name, test in lemma.hypotheses.items() if name != dropped)):
        solver.add(*conjuncts(test(x)))
    solver.add(z3.Not(z3.And(*conjuncts(lemma.claim(x)))))
    answer = solver.check()
    if answer == z3.unsat:
        return None
    if answer != z3.sat:
        raise RuntimeError(f"{lemma.name}: z3 says {answer}")
    model = solver.model()
    found = {}
    for name, variable in real.items():
        value = model.eval(variable, model_completion=True)
        value = value.approx(30) if z3.is_algebraic_value(value) else value
        found[name] = str(value.as_fraction())
    return found


def _lemmas() -> list[dict[str, Any]]:
    rows = []
    for lemma in LEMMAS:
        whole = refute(lemma)
        assert (whole is None) != lemma.false, lemma.name
        dropped = {} if lemma.false else {name: refute(lemma, name) for name in lemma.hypotheses}
        assert None not in dropped.values(), lemma.name
        rows.append(
            {"name": lemma.name, "says": lemma.says, "false": lemma.false, "refuted": whole, "dropped": dropped}
        )
    return rows


def _single(draws: np.random.Generator) -> Iterator[dict[str, Any]]:
    """One kind of cheat, on both sides of its threshold."""
    for _ in range(POINTS):
        given = draw_game(draws, most_pending=6)
        terms = {"gain_usd": given["gains_usd"][0], "detection": given["detections"][0]}
        terms |= {"price_usd": given["price_usd"], "pending": given["pending"]}
        needed = float(deterring_loss(**terms))
        for side in (1 - AWAY, 1 + AWAY) if needed > 0 else (1.0,):
            game = Schedules(**given, loss_usd=needed * side)
            bound = max(float(attack_profit(**terms, loss_usd=needed * side)), 0.0)
            yield {"game": game, "bound": bound, "pays": side < 1 and needed > 0}


def _exact(draws: np.random.Generator) -> dict[str, Any]:
    right, worst, searched, found, above = 0, 0.0, 0, 0, 0
    points = list(_single(draws))
    for point in points:
        game, bound = point["game"], point["bound"]
        value = best_value(game)
        scale = game.price_usd + game.loss_usd + game.gains_usd[0]
        right += bool(value > 1e-9 * scale) is point["pays"]
        worst = max(worst, abs(value - bound) / scale)
        if game.states <= 16:
            climbed = searched_value(game, draws)
            searched += 1
            found += bool(climbed >= bound * (1 - AWAY) - 1e-9 * scale)
            above += bool(climbed > bound + 1e-9 * scale)
    return {
        "points": len(points), "right": right, "largest_gap": worst, "searched": searched, "search_within": found,
        "search_above": above,
    }  # fmt: skip


def _mixed(draws: np.random.Generator) -> dict[str, Any]:
    """Two or three kinds, windows longer and shorter than a verdict: L* is enough; by how much."""
    enough, slack = 0, []
    for _ in range(POINTS // 4):
        kinds, price = int(draws.integers(2, 4)), float(10 ** draws.uniform(-3, 2))
        gains = tuple(float(price * 10 ** draws.uniform(-1.5, 2)) for _ in range(kinds))
        caught = tuple(float(draws.uniform(0.1, 0.95)) for _ in range(kinds))
        pending = int(draws.integers(0, 4))
        late = int(draws.integers(0, pending + 1)) if draws.random() < 0.5 else 0
        kept = 0 if late else int(draws.integers(0, 2))
        cheats = tuple(
            Cheat(name=str(n), gain_usd=g, drawn=c, looked=0.0)
            for n, (g, c) in enumerate(zip(gains, caught, strict=True))
        )
        setting = Setting(price_usd=price, loss_usd=0.0, rho=1.0, phi=0.0, pending=pending, late=late, cheats=cheats)
        needed = setting.deterring_loss_usd()
        game: dict[str, Any] = {"gains_usd": gains, "detections": caught, "price_usd": price, "pending": pending}
        game |= {"late": late, "kept": kept}
        scale = price + needed + max(gains)
        enough += bool(best_value(Schedules(**game, loss_usd=needed * (1 + 1e-9))) <= 1e-8 * scale)
        low, high = 0.0, needed
        for _ in range(12):
            middle = (low + high) / 2
            low, high = (
                (middle, high) if best_value(Schedules(**game, loss_usd=middle)) > 1e-9 * scale else (low, middle)
            )
        slack.append(needed / high if high > 0 else 1.0)
    return {"points": len(slack), "enough": enough, "slack_median": float(np.median(slack)), "slack_most": max(slack)}


def _classes(draws: np.random.Generator) -> dict[str, Any]:
    """Classes of operators, played by events, against the counts."""
    above, points = 0, 0
    for number in range(PLAYED):
        terms: dict[str, Any] = {
            "detection": float(draws.uniform(0.03, 0.6)), "operators": int(draws.integers(1, 9)),
            "attempts": int(draws.integers(1, 80)), "answers_per_s": 1.0, "verdict_s": float(draws.uniform(0.5, 9)),
            "window_s": float(draws.uniform(0.5, 9)), "fuse": bool(number % 2), "freeze": bool(number % 3),
        }  # fmt: skip
        bound = class_break(**terms)
        played = np.array([play_class(draws, **terms) for _ in range(RUNS)])
        for most, column in zip((bound.final, bound.served), played.T, strict=True):
            points += 1
            above += bool(column.mean() > most + 4 * column.std() / np.sqrt(RUNS) + 1e-9)
    return {"points": points, "above": above}


def _operators(draws: np.random.Generator) -> dict[str, Any]:
    """One operator that cheats until its verdict, played by events, against the closed form: with
    the freeze, and where the window is shorter and nothing freezes."""
    inside, points = 0, 0
    for number in range(PLAYED):
        price, detection = float(10 ** draws.uniform(-3, 1)), float(draws.uniform(0.05, 0.9))
        gain, verdict = price * float(1 + 10 ** draws.uniform(-1, 1)), float(draws.integers(0, 12) + 0.5)
        pending, late = int(verdict), int(draws.integers(0, int(verdict) + 1)) if number % 2 else 0
        bond: dict[str, Any] = {
            "price_usd": price,
            "loss_usd": gain * float(draws.uniform(0, 20)),
            "detection": detection,
        }
        # The threshold is where the expected profit is 0, and the loss enters the profit as it is.
        exact = deterring_loss(gain_usd=gain, price_usd=price, detection=detection, pending=pending, late=late)
        times: dict[str, Any] = {
            "answers_per_s": 1.0,
            "verdict_s": verdict,
            "window_s": verdict - late,
            "freeze": not number % 2,
        }
        played = np.array([play_operator(draws, gain_usd=gain, **bond, **times) for _ in range(RUNS)])
        half = 4 * played.std() / np.sqrt(RUNS) + 1e-9 * gain
        points += 1
        inside += bool(abs(played.mean() - (float(exact) - bond["loss_usd"])) <= half)
    return {"points": points, "inside": inside}


def _of_all_seeds(part: Callable[[np.random.Generator], dict[str, Any]]) -> dict[str, Any]:
    """Counts added up, the largest gap and slack of all seeds, and the median of their medians."""
    runs = [part(np.random.default_rng([SEED, seed])) for seed in SEEDS]
    how: dict[str, Any] = {"largest_gap": max, "slack_most": max, "slack_median": np.median}
    found = {name: how.get(name, sum)([run[name] for run in runs]) for name in runs[0]}
    return {**found, "by_seed": [{"seed": seed, **run} for seed, run in zip(SEEDS, runs, strict=True)]}


def main() -> None:
    frame.arguments(__doc__).parse_args()
    payload: dict[str, Any] = {"away": AWAY, "seeds": SEEDS}
    for name, part in (("exact", _exact), ("mixed", _mixed), ("operators", _operators), ("classes", _classes)):
        payload[name] = _of_all_seeds(part)
        frame.progress(f"{name}: {json.dumps(payload[name])}")
    payload["lemmas"] = _lemmas()
    frame.progress(f"{len(payload['lemmas'])} lemmas")
    frame.store("guarantee", payload, seed=SEED, packages=("numpy", "z3-solver"), kind="recomputed", cores=1)
    project = frame.checkout()
    (project.root / guarantee.PAGE).write_text(guarantee.breaking_page(project), "utf-8")


if __name__ == "__main__":
    main()
