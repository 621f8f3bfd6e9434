"""What the notebook's sliders show: a state in, everything drawn out; no widget, no clock, no
randomness."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from otr_core.economics import quantities as q
from otr_core.economics.detection import cheats_for_detection, detection_after, undetected_cheats
from otr_core.economics.deterrence import kept_share, min_rho, min_stake
from otr_core.economics.game import equilibrium
from otr_paper.store.records import records


@dataclass(frozen=True, kw_only=True)
class State:
    """The sliders; the defaults are the paper's rate and a downgrade at market prices behind 100
    USD, no fishermen."""

    rho: float = 0.01
    stake_usd: float = 100.0
    gain_usd: float = 0.0004675
    price_usd: float = 0.00055
    slash_fraction: float = 1.0
    d: float = 1.0
    w: float = 1.0
    fishermen: int = 0
    check_cost_usd: float = 0.00055
    reward_share: float = 0.3
    planted_rate: float = 0.0
    bounty_usd: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "fishermen":
                q.whole(field.name, value)
            elif field.name == "stake_usd":
                q.positive(field.name, value)
            elif field.name == "gain_usd":
                q.gain(field.name, value)
            elif field.name.endswith("_usd"):
                q.amount(field.name, value)
            else:
                q.probability(field.name, value)


def render(state: State) -> dict[str, Any]:
    """Everything the interactive figure shows for ``state``.

    Returns:
        ``numbers`` (name with unit to value), ``equilibrium``, ``sentence``, and two curves:
        ``detection`` over the number of cheats, and ``boundary``, the least rate over a range of
        stakes around the state's.
    """
    given = vars(state) | {"dispute_cost_usd": 0.0}
    game = equilibrium(**given)
    names = ("gain_usd", "price_usd", "slash_fraction", "dispute_cost_usd", "reward_share", "d", "w")
    terms = {name: given[name] for name in names} | {"phi": game.someone_checks}
    kept = kept_share(slash_fraction=state.slash_fraction, reward_share=state.reward_share)
    stakes = state.stake_usd * np.geomspace(1e-3, 1e3, 61)
    rates = min_rho(**terms, stake_usd=stakes)
    cheats = np.unique(np.geomspace(1, 10_000, 41).round())
    caught = detection_after(cheats=cheats, rho=game.detection)
    numbers = {
        "detection": game.detection,
        "threshold": game.threshold,
        "surplus_usd": game.detection * (state.price_usd + kept * state.stake_usd) - state.gain_usd,
        "least_rho": min_rho(**terms, stake_usd=state.stake_usd),
        "least_stake_usd": min_stake(**terms, rho=state.rho),
        "undetected_count": undetected_cheats(detection=game.detection),
        "cheats_for_99pct_count": cheats_for_detection(probability=0.99, rho=game.detection),
    }
    verb = {"honest": "honesty pays", "cheat": "cheating pays", "mixed": "the operator mixes"}
    key = "honest" if game.cheat_rate == 0 else "cheat" if game.cheat_rate == 1 else "mixed"
    sentence = (
        f"{game.regime.capitalize()}: a cheat is caught with probability {game.detection:.3g}, "
        f"{game.threshold:.3g} is needed, so {verb[key]}"
    )
    return {
        "numbers": numbers,
        "equilibrium": game,
        "sentence": sentence,
        "detection": records("cheats, detection", zip(cheats.tolist(), caught.tolist(), strict=True)),
        "boundary": records("stake_usd, rho", zip(stakes.tolist(), rates.tolist(), strict=True)),
    }
