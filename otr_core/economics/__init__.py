"""When is honesty the only sensible strategy, and what should the spot-check rate be?

Everything is a pure function of keyword arguments that carry their unit in their name. Importing this package needs
nothing but numpy.
"""

from otr_core.economics.bursts import (
    burst_loss,
    burst_surplus,
    expected_harm,
    in_flight,
    most_in_flight,
    voiding_suffices,
)
from otr_core.economics.detection import (
    cheats_for_detection,
    coverage,
    detection_after,
    detection_probability,
    gated_detection,
    undetected_cheats,
)
from otr_core.economics.deterrence import deterrence_threshold, deters, loss_if_caught, min_rho, min_stake, safe_value
from otr_core.economics.game import Equilibrium, equilibrium
from otr_core.economics.guidance import Guidance, guidance_table, guide
from otr_core.economics.incentives import (
    effective_loss,
    griefing_factor,
    least_bribe_proof_share,
    least_challenge_bond,
    least_price,
    most_reward_share,
    outage_cost,
    self_report_loss,
)
from otr_core.economics.model import AnswerValue, Bond, Flow, Market, Watch, play_strategies, threshold
from otr_core.economics.rates import Rate, best_rate, optimal_rho, rates_by_value
from otr_core.economics.scenarios import Limits, Scenario

__all__ = [
    "AnswerValue",
    "Bond",
    "Equilibrium",
    "Flow",
    "Guidance",
    "Limits",
    "Market",
    "Rate",
    "Scenario",
    "Watch",
    "best_rate",
    "burst_loss",
    "burst_surplus",
    "cheats_for_detection",
    "coverage",
    "detection_after",
    "detection_probability",
    "deterrence_threshold",
    "deters",
    "effective_loss",
    "equilibrium",
    "expected_harm",
    "gated_detection",
    "griefing_factor",
    "guidance_table",
    "guide",
    "in_flight",
    "least_bribe_proof_share",
    "least_challenge_bond",
    "least_price",
    "loss_if_caught",
    "min_rho",
    "min_stake",
    "most_in_flight",
    "most_reward_share",
    "optimal_rho",
    "outage_cost",
    "play_strategies",
    "rates_by_value",
    "safe_value",
    "self_report_loss",
    "threshold",
    "undetected_cheats",
    "voiding_suffices",
]
