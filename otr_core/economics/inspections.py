"""A budget of checks instead of a rate: m proofs for n answers, to be spent where the cheat does not expect them.

Dresher's inspection game (RAND RM-2972, 1962; von Stengel, arXiv 1412.0129): the operator may cheat at most once in n
answers, the inspector may check at most m of them, both decide answer by answer. The inspector gets +1 for a caught
cheat, -1 for one that is not caught, 0 if there is none.
"""

from __future__ import annotations

from math import comb

from otr_core.economics import quantities as q


def inspection_value(*, answers: int, checks: int) -> float:
    """Value of the game to the inspector: ``-C(n-1, m) / sum_{i<=m} C(n, i)``, between -1 and 0.

    Args:
        answers: n, at least 1; checks: m, as many as n or more make cheating pointless (value 0).
    """
    stages, budget = q.whole("answers", answers, least=1), q.whole("checks", checks)
    if budget >= stages:
        return 0.0
    return -comb(stages - 1, budget) / sum(comb(stages, used) for used in range(budget + 1))


def first_check_probability(*, answers: int, checks: int) -> float:
    """How often the inspector should check the next answer, [0, 1].

    The rate at which the operator is indifferent between cheating now and going on:
    ``(1 + I(n-1, m)) / (2 + I(n-1, m) - I(n-1, m-1))`` with the values I of the games that remain. It is 1 where every
    answer can be checked, 0 without a budget.
    """
    stages, budget = q.whole("answers", answers, least=1), q.whole("checks", checks)
    if budget == 0:
        return 0.0
    if budget >= stages:
        return 1.0
    skipped = inspection_value(answers=stages - 1, checks=budget)
    spent = inspection_value(answers=stages - 1, checks=budget - 1)
    return (1.0 + skipped) / (2.0 + skipped - spent)
