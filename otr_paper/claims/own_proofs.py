"""What our own prover of whole answers makes of the claims about ZKML: measured on SmolLM2-135M, extrapolated to
models of 7 and of 70 billion weights.

The law is a straight line in what a proof commits to and in the weights that it goes over once
(``studies.proving.AnswerFit``). It is fitted to SmolLM2's proofs at several lengths and to models of rising width and
number of layers (``data/results``: ``answer_proofs``, ``proof_growth``). Cells are counted for any model, so that only
seconds are extrapolated; the error of each is that of the fit there, or what a measured proof is missed by when it is
left out, whichever is larger. It covers noise and the law's bend over what was measured, not a machine with less
memory than such a proof takes.

Seconds are those of one thread of the machine at hand. Its verifier holds the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from otr_core.errors import DataError
from otr_core.lane.dims import Dims
from otr_paper.claims.grounds import Grounds
from otr_paper.claims.published import smollm2
from otr_paper.studies.proving import (
    AnswerCost,
    AnswerFit,
    committed_cells,
    fit_answers,
    fitted_exponent,
    multiplied_weights,
)

RUNS, GROWTH = "answer_proofs", "proof_growth"
SHORT, LONG = 64, 1000
"""Positions: of the measured proof that is shown, and near the most that a proof takes."""
MOST = 1024
"""Positions of one proof, at most (``otr_core.spotcheck.proof.verify``)."""


@dataclass(frozen=True)
class OwnProofs:
    """The measured proofs, and the law fitted to them.

    Attributes:
        short: the measured proof of SmolLM2 over ``SHORT`` positions, as ``benches.proof.measure_proof`` gives it.
        exponent, exponent_error: of seconds in weights, over models of one layer and rising width, ``SHORT``
            positions. n_log_n: what N log N looks like as a power law over the same weights.
    """

    fit: AnswerFit
    short: Mapping[str, Any]
    exponent: float
    exponent_error: float
    n_log_n: float

    @property
    def proof_s(self) -> float:
        """CPU seconds of the measured proof."""
        return float(self.short["prove_cpu_s"])

    @property
    def answer_s(self) -> float:
        """CPU seconds in which the same answer was computed, without a trace."""
        return float(self.short["inference_cpu_s"])

    def tokens(self, positions: int) -> tuple[int, int]:
        """Tokens given and chosen of an answer over so many positions, in the measured one's proportion."""
        chosen = max(round(positions * self.short["answer_tokens"] / self.short["positions"]), 1)
        return positions + 1 - chosen, chosen

    def cost(self, d: Dims, positions: int) -> AnswerCost:
        """One proof of an answer of a model over so many positions, extrapolated."""
        return self.fit.cost(committed_cells(d, *self.tokens(positions)), multiplied_weights(d))

    def longest(self, d: Dims, seconds: float) -> int:
        """Most positions that are proven in ``seconds``; ``MOST`` where those take less, 1 where none does."""
        low, high = 1, MOST
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.cost(d, middle).seconds <= seconds else (low, middle - 1)
        return low


def own_proofs(grounds: Grounds) -> OwnProofs:
    """The stored proofs and their law.

    Raises:
        DataError: a result is absent, lacks the proof of ``SHORT`` positions, or is no line.
    """
    return grounds.memo("own proofs", lambda: _read(grounds))


def _read(grounds: Grounds) -> OwnProofs:
    runs = [run for run in grounds.result(RUNS)["runs"] if not run["temperature_milli"] and run["commit_cpu_s"] is None]
    rows = grounds.result(GROWTH)["rows"]
    short = [run for run in runs if run["positions"] == SHORT]
    if not short:
        raise DataError(f"{RUNS}: found no greedy answer over {SHORT} positions; python -m otr_paper.producers.proof")
    weights = multiplied_weights(smollm2())
    points = [(run["cells"], weights, run["prove_cpu_s"]) for run in runs]
    points += [(row["cells"], row["weights"], row["prove_cpu_s"]) for row in rows]
    wider = [row for row in rows if row["layers"] == 1 and row["positions"] == SHORT]
    sizes, seconds = [float(row["weights"]) for row in wider], [float(row["prove_cpu_s"]) for row in wider]
    grown, error = fitted_exponent(sizes, seconds)
    expected, _ = fitted_exponent(sizes, [size * math.log(size) for size in sizes])
    return OwnProofs(fit_answers(points), short[0], grown, error, expected)


def said(cost: AnswerCost, positions: int) -> str:
    """What an extrapolated reading takes for granted, in words."""
    return f"{positions:,} positions, one core, the verifier holds the model; {cost.error:.0%} more or less"
