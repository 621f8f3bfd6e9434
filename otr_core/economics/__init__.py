"""When is honesty the only sensible strategy, and what should the spot-check rate be?

Everything is a pure function of keyword arguments that carry their unit in their name. Importing
this package needs nothing but numpy. What else there is (the composed guarantee with its premises,
the use cases as files) stands in the modules.
"""

from otr_core.economics.detection import (
    cheats_for_detection,
    coverage,
    detection_after,
    detection_probability,
    served_before_verdict,
    undetected_cheats,
)
from otr_core.economics.deterrence import deterrence_threshold, deters, min_rho, min_stake, safe_value
from otr_core.economics.game import equilibrium
from otr_core.economics.guarantee import attack_profit, deterring_loss
from otr_core.economics.guidance import guidance_table, guide
from otr_core.economics.model import AnswerValue, Bond, Watch, play_strategies
from otr_core.economics.rates import best_rate, optimal_rho

__all__ = [
    "AnswerValue",
    "Bond",
    "Watch",
    "attack_profit",
    "best_rate",
    "cheats_for_detection",
    "coverage",
    "detection_after",
    "detection_probability",
    "deterrence_threshold",
    "deterring_loss",
    "deters",
    "equilibrium",
    "guidance_table",
    "guide",
    "min_rho",
    "min_stake",
    "optimal_rho",
    "play_strategies",
    "safe_value",
    "served_before_verdict",
    "undetected_cheats",
]
