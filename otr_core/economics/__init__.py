"""When is honesty the only sensible strategy, and what should the spot-check rate be?

Everything is a pure function of keyword arguments that carry their unit in their name. Importing this package needs
nothing but numpy.
"""

from otr_core.economics.curves import detection_curves, detection_marks, rho_curves, stake_curves
from otr_core.economics.detection import (
    cheats_for_detection,
    coverage,
    detection_after,
    detection_probability,
    gated_detection,
    undetected_cheats,
)
from otr_core.economics.deterrence import (
    deterrence_threshold,
    deters,
    loss_if_caught,
    min_rho,
    min_stake,
    safe_value,
)
from otr_core.economics.rates import optimal_rho

__all__ = [
    "cheats_for_detection",
    "coverage",
    "detection_after",
    "detection_curves",
    "detection_marks",
    "detection_probability",
    "deterrence_threshold",
    "deters",
    "gated_detection",
    "loss_if_caught",
    "min_rho",
    "min_stake",
    "optimal_rho",
    "rho_curves",
    "safe_value",
    "stake_curves",
    "undetected_cheats",
]
