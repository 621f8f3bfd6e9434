"""Tier 2: a dispute about one answer of the portable lane, down to one arithmetic step.

``state`` says where a game stands, ``game`` is the table of moves that leads it from the root to
the step (the moves themselves are in ``moves_trace``, ``moves_operators`` and ``moves_steps``, what
they share in ``rules``), ``judge`` says whether the step is right, ``court`` adds clocks, stakes and
money (its parameters and records are in ``records``; ``registry`` says what a receipt alone can be
false of).
``players`` are the honest strategies, ``openings`` what they need of a run, ``play`` lets two
players play. ``contracts`` holds game, judge and court once more as contracts for a chain.
"""

from otr_core.dispute.court import Court
from otr_core.dispute.play import play
from otr_core.dispute.records import Terms
from otr_core.dispute.state import Game, Verdict

__all__ = ["Court", "Game", "Terms", "Verdict", "play"]
