"""Number formats of the portable lane: how many fraction bits each kind of value carries."""

from __future__ import annotations

from otr_core.lane.architecture import Architecture

#: All magnitudes stay below this; one bit below 2^53, for the half that ``shift`` adds.
LIMIT = 2**52


# Fraction bits, chosen by measured accuracy against fp32; the bounds decide whether a model fits.
RESIDUAL = 15  # residual stream; int32 then holds ±65,536 (SmolLM2 reaches 26,000)


WEIGHT = 16  # all matrices


NORMED = 18  # output of RMSNorm


HEAD = 14  # queries (in log2 units), keys, values, attention output


SCORE = 13  # index of the 2^−x table


PROBABILITY = 24  # normalised attention weights


GATE = 16  # gate and up projections


SIGMOID_INDEX, SIGMOID = 13, 20  # index and value of the sigmoid table


MLP = 13  # product that enters the down projection


ROTARY = 20  # cosines and sines


LOGIT = 16


INT32 = 2**31 - 1


NORM_INPUT = 19  # a row is scaled to this many bits before it is squared


NORM_LEAST_SCALE = -8  # … but is not enlarged by more than 2^8, so that the epsilon term stays below 2^52


EXP = 20  # value bits of the 2^−x table


SIGMOID_LIMIT = 20


LOG2E = 1.4426950408889634


def norm_epsilon(architecture: Architecture) -> int:
    """The norm's epsilon times the row's length, as a sum of squares of residual values."""
    return round(architecture.rms_eps * architecture.hidden * 2.0 ** (2 * RESIDUAL))
