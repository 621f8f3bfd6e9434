"""Number formats of the portable lane: how many fraction bits each kind of value carries.

A value v with b fraction bits is held as the integer v · 2^b. The numbers of bits were chosen by
measured accuracy against fp32; whether a model fits in them is proven from its weights
(``otr_node.rounding.check_bounds``).
"""

from __future__ import annotations

#: Names of the portable lane. ``portable-2`` is ``portable-1`` of models whose queries and keys have
#: norms, the weights of which are brought together by a power of two before they are rounded
#: (``otr_node.rounding.balance``); from there on both compute alike.
PORTABLE = ("portable-1", "portable-2")

# Scores, and what the down projection sums, stay below this in every model: the score of a place that
# is not there lies beyond. Other sums may be as large as int64 holds; those below this can be made in
# float64 as well, which holds every integer up to 2^53.
LIMIT = 2**52
INT32 = 2**31 - 1  # the residual stream saturates here, as keys, values and weights must fit int32

# Fraction bits of what passes between operators.
RESIDUAL = 15  # residual stream; int32 then holds ±65,536 (SmolLM2 reaches 26,000)
WEIGHT = 16  # all matrices but the embedding, which is residual stream
NORMED = 18  # output of RMSNorm
HEAD = 14  # queries (in log2 units), keys, values, attention output
PROBABILITY = 24  # normalised attention weights
GATE = 16  # gate and up projections
MLP = 13  # product that enters the down projection
LOGIT = 16

# RMSNorm: a row is scaled to 19 bits before it is squared, but enlarged by 2^8 at most: its
# epsilon, which is enlarged with it, then stays below 2^52.
NORM_INPUT = 19
NORM_LEAST_SCALE = -8

# Tables: fraction bits of the index and of the entries, and how far a table reaches.
SCORE, EXP = 13, 20  # 2^−x
SIGMOID_INDEX, SIGMOID = 13, 20
SIGMOID_LIMIT = 20  # the sigmoid's table covers −20 to 20
ROTARY = 20  # cosines and sines
EXP2_ENTRIES = ((EXP + 1) << SCORE) + 1  # down to where 2^−x rounds to 0
SIGMOID_ENTRIES = (2 * SIGMOID_LIMIT << SIGMOID_INDEX) + 1
SIGMOID_ZERO = SIGMOID_LIMIT << SIGMOID_INDEX  # entry of sigmoid(0)

# Bits that a shift drops from one format to the next; those after a matrix stand with it
# (``dims.Matrix.shift``).
SCORE_SHIFT = 2 * HEAD - SCORE  # distance of two scores (products of heads' values) → index of 2^−x
SIGMOID_SHIFT = GATE - SIGMOID_INDEX  # gate → index of the sigmoid
PRODUCT_SHIFT = 2 * GATE - MLP  # gate · up → product
ONE_SHARE = 1 << (EXP + PROBABILITY)  # divided by the sum of 2^−x it gives the share of one

# The GELU: 2√(2/π) and that times 0.044715, with 20 fraction bits; the gate's value is cut at ±8.
GELU = 20
GELU_LINEAR: int = round(1.5957691216057308 * 2**GELU)
GELU_CUBIC: int = round(1.5957691216057308 * 0.044715 * 2**GELU)
GELU_MOST: int = 8 << GATE

# A cap: bits of the index of the sigmoid's table beyond its entries, bits of the sigmoid beyond
# theirs, and what the slope between two entries drops.
CAP_REST, CAP_MORE = 8, 4
CAP_SLOPE = SIGMOID + SIGMOID_INDEX + CAP_REST - CAP_MORE
CAP_MOST = 2**36  # 10 · cap · 2^22 and cap · 2^25 then stay below 2^62

# Sampling: 2^−(distance of two logits · log2(e) · 1000 / temperature in thousandths). The factor
# has 20 fraction bits.
LOG2E = 1.4426950408889634
TEMPERATURE_FACTOR = round(LOG2E * 1000 * 2**20)
TEMPERATURE_SHIFT = 20 + LOGIT - SCORE  # logit · factor → index of 2^−x
