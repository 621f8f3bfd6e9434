"""Measure the economics: data/results/economics_run.json.

Import time, decisions per CPU second and peak memory of a scenario of ten million queries, a sweep
of a thousand points by one process and by two, and the regimes of the simulated population against
the closed form; what is drawn with three seeds.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, replace
from functools import partial

import numpy as np

from otr_core import economics as eco
from otr_core.economics.deterrence import deters
from otr_paper.producers import frame
from otr_paper.studies.population import Population, simulate_population, summary_point
from otr_paper.studies.sweep import Point, run_sweep

SEEDS = (20251223, 20251224, 20251225)
POINTS = 1000
#: More than ten million queries: a break from epoch 10 to 30, fishermen who come and go.
BIG = Population(
    operators=2000,
    epochs=60,
    queries_per_epoch=100,
    rational_share=0.3,
    malicious_share=0.02,
    broken_share=0.5,
    break_epoch=10,
    patch_epoch=30,
    price_usd=0.00135,
    compute_saved_usd=0.0004675,
    outside_gain_usd=0.0005,
    stake_usd=0.1,
    slash_fraction=1.0,
    dispute_cost_usd=0.0,
    rho=0.01,
    d=0.99,
    w=0.9,
    fishermen=5,
    check_rate=0.001,
    enter_per_epoch=0.2,
    leave_rate=0.04,
    verdict_epochs=2,
    false_conviction=1e-4,
)
#: Rational operators alone, all of whom have the break, and the same fishermen throughout.
SMALL = replace(BIG, operators=40, epochs=3, queries_per_epoch=5, break_epoch=0, patch_epoch=3)
RATIONAL = replace(SMALL, rational_share=1.0, malicious_share=0.0, broken_share=1.0, outside_gain_usd=0.0)
RATIONAL = replace(RATIONAL, enter_per_epoch=0.0, leave_rate=0.0, false_conviction=0.0)


def _import_seconds() -> float:
    """CPU seconds of importing the package in a fresh interpreter, least of five."""
    code = "import time; s = time.process_time(); import otr_core.economics; print(time.process_time() - s)"
    run = [sys.executable, "-c", code]
    return min(float(subprocess.run(run, capture_output=True, text=True, check=True).stdout) for _ in range(5))


def _regimes(seed: int) -> int:
    """Random populations: in how many the rational operator cheats exactly where the closed form says."""
    draws, agree = np.random.default_rng(seed), 0
    for number in range(POINTS):
        rho, stake_usd = float(draws.uniform(0, 0.2)), float(10 ** draws.uniform(-3, 1))
        people = replace(RATIONAL, rho=rho, stake_usd=stake_usd)
        someone = 1 - (1 - people.check_rate) ** people.fishermen
        detection = eco.detection_probability(rho=rho, d=people.d, phi=someone, w=people.w)
        threshold = eco.deterrence_threshold(
            gain_usd=people.compute_saved_usd,
            price_usd=people.price_usd,
            stake_usd=stake_usd,
            slash_fraction=1.0,
            dispute_cost_usd=0.0,
        )
        cheats = simulate_population(people, seed=seed + number).summary["cheats"] > 0
        agree += cheats != deters(detection=detection, threshold=threshold)
    return agree


def main() -> None:
    frame.arguments(__doc__).parse_args()
    runs = [frame.timed(partial(simulate_population, BIG, seed=seed)) for seed in SEEDS]
    decisions, cpu_s = [run.summary["decisions"] for run, _ in runs], [spent for _, spent in runs]
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    small = asdict(replace(BIG, operators=200, epochs=20, queries_per_epoch=20, break_epoch=4, patch_epoch=12))
    points = [Point({**small, "rho": 0.0002 * (n + 1)}, seed=n % 10) for n in range(POINTS)]
    one, serial_s = frame.timed(run_sweep, summary_point, points, clock=time.perf_counter)
    two, parallel_s = frame.timed(partial(run_sweep, workers=2), summary_point, points, clock=time.perf_counter)
    payload = {
        "import_cpu_s": round(_import_seconds(), 3),
        "seeds": SEEDS,
        "decisions": decisions,
        "decisions_per_cpu_s": [round(made / spent) for made, spent in zip(decisions, cpu_s, strict=True)],
        "ten_million_queries_cpu_s": round(statistics.median(cpu_s), 3),
        "peak_memory_mb": round(peak_mb, 1),
        "sweep_points": len(points),
        "sweep_serial_s": round(serial_s, 2),
        "sweep_two_workers_s": round(parallel_s, 2),
        "two_workers_same_bytes": json.dumps(one) == json.dumps(two),
        "regimes": {"points": POINTS, "agreeing": [_regimes(seed) for seed in SEEDS]},
    }
    frame.progress(json.dumps(payload))
    frame.store("economics_run", payload, seed=SEEDS[0], packages=("numpy", "joblib"))


if __name__ == "__main__":
    main()
