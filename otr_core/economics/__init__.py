"""When is honesty the only sensible strategy, and what should the spot-check rate be?

The front door: seven names. Everything is a pure function of keyword arguments that carry their unit
in their name, but for ``guide``, which advises on one use case of ``scenarios``. Importing this package
needs nothing but numpy. What else there is stands in the modules: ``detection`` and ``deterrence`` of
one answer, ``guarantee``, ``honesty`` and ``premises`` of many answers on one stake, ``game`` of
operator and fishermen, ``rates``, ``values`` and ``harm`` of what is cheapest, ``model`` and
``scenarios`` of use cases.
"""

from otr_core.economics.detection import detection_probability
from otr_core.economics.deterrence import deterrence_threshold, min_rho, min_stake
from otr_core.economics.game import equilibrium
from otr_core.economics.guidance import guide
from otr_core.economics.rates import optimal_rho

__all__ = [
    "detection_probability",
    "deterrence_threshold",
    "equilibrium",
    "guide",
    "min_rho",
    "min_stake",
    "optimal_rho",
]
