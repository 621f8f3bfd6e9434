"""The hypotheses of the composed guarantee by name, and which theorem needs which.

A theorem whose hypothesis fails raises ``PremiseError`` with the name of it, instead of a number that
means nothing. ``guarantee`` and ``honesty`` hold the theorems; ``docs/guarantee.md`` says what of this
artifact supports which hypothesis.
"""

from __future__ import annotations

from collections.abc import Collection

from otr_core.errors import ParameterError, PremiseError

HYPOTHESES = {
    "H1": "a receipt fixes the statement: no second trace, no second draw after it was committed",
    "H2": "without a broken platform a false receipt is accepted with a known, small chance",
    "H3": "a draw follows the commitment, nobody biases it, and an answer signed and never committed convicts",
    "H4": "given all that was known when it was made, a cheat is detected at the stated rates",
    "H4 independent": "spot checks and fishermen detect independently of each other",
    "H5": "silence, time-out, a missing proof and conceding cost as much as losing",
    "H6": "a conviction voids every answer of the operator that is not final",
    "H6 freeze": "nothing of an operator becomes final while a challenge against it is open",
    "H7": "not looking costs each fisherman by itself more than a look",
    "H8": "who first committed a right challenge is paid more than it cost",
    "H9": "a lost bond pays the honest defender, and costs its owner ten times the harm",
    "H10": "gain of one cheat and answers in flight are bounded by the contract",
    "H11": "a transaction of the honest is included in time",
    "H12": "who judges or proves does not break together with the operator's platform",
}
"""What the theorems rest on, by name."""
NEEDS = {
    "safety": ("H1", "H2", "H3", "H4", "H5", "H6", "H6 freeze", "H11"),
    "deterrence": ("H1", "H3", "H4", "H5", "H6", "H10", "H11"),
    "attention": ("H7", "H8"),
    "class break": ("H1", "H3", "H4", "H5", "H6", "H11", "H12"),
    "cost of honesty": ("H5", "H9", "H11"),
}
"""Which hypotheses each theorem cannot do without. For those not named there is a formula: without
independence ``D`` is the larger rate, and without the freeze ``late`` answers become final."""


def require_premises(theorem: str, failing: Collection[str]) -> None:
    """Nothing, if ``theorem`` needs none of the hypotheses in ``failing``.

    Raises:
        ParameterError: no such theorem or hypothesis. PremiseError: one that it needs.
    """
    if theorem not in NEEDS:
        raise ParameterError("theorem", theorem, f"one of {sorted(NEEDS)}")
    for name in failing:
        if name not in HYPOTHESES:
            raise ParameterError("failing", name, f"of {list(HYPOTHESES)}")
    for name in NEEDS[theorem]:
        if name in failing:
            raise PremiseError(name, "not so", f"for {theorem}: {HYPOTHESES[name]}")
