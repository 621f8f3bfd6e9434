"""How much a measurement may be asked to do."""

from __future__ import annotations

from otr_core.errors import ParameterError

MOST = 10_000
"""Turns, clients or tokens: more than a run on one machine ends with."""


def check_counts(plan: object, *names: str) -> None:
    """Refuse a plan one of whose numbers is none to measure with.

    Raises:
        ParameterError: one of the attributes ``names`` is not from 1 to ``MOST``.
    """
    for name in names:
        if not 1 <= getattr(plan, name) <= MOST:
            raise ParameterError(name, getattr(plan, name), f"a whole number from 1 to {MOST:,}")
