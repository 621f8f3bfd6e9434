"""Operators of the choice of a token, numbered as a plain Llama's program lists them from the last layer's output on;
CHOICE is the token's id."""

from __future__ import annotations

from enum import IntEnum

_HEAD = {
    "INPUT": "input",
    "PEAK": "head.peak",
    "SQUARES": "head.squares",
    "FACTOR": "head.factor",
    "NORMED": "head.normed",
    "LOGITS": "logits",
}
GREEDY = {**_HEAD, "CHOICE": "choice"}
"""At temperature 0: number's name -> the operator's name in results and messages."""
SAMPLED = {**_HEAD, "TOP": "choice.top", "WEIGHTS": "choice.weights", "TOTAL": "choice.total", "CHOICE": "choice"}
"""By a draw."""
SampledOperator = IntEnum("SampledOperator", list(SAMPLED), start=0)
