"""Tier 2: a dispute about one answer of the portable lane, from its trace root down to one arithmetic step.

``program`` cuts a layer into operators and steps, ``judge`` says whether one step is right, ``game`` is the table of
moves that leads to it, ``court`` adds clocks, stakes and money, ``onchain`` is the court as a contract. ``run``,
``execution`` and ``players`` are what an operator and a fisherman do. ``tolerance`` is the other leaf rule, for
floating-point lanes.
"""

from otr_core.dispute.court import Court
from otr_core.dispute.game import Game, Verdict
from otr_core.dispute.play import play
from otr_core.dispute.records import Terms

__all__ = ["Court", "Game", "Terms", "Verdict", "play"]
