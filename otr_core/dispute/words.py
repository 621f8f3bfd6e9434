"""A model's dimensions and programs as the words that the contract ``judge.vy`` is made with.

The contract knows primitives; which operators a model's layers have, and what each reads, it reads
from here: eight bytes an operator, four operators a word.
"""

from __future__ import annotations

from collections.abc import Sequence

from otr_core.errors import ModelError
from otr_core.lane.dims import Dims, Matrix
from otr_core.lane.program import Operator, layer_program, token_program
from otr_core.lane.tensor_program import TensorDims

WORDS = 83
"""Words in all; ``judge.vy`` names the place of each."""
_LAYER_WORDS, _TOKEN_WORDS = 12, 3
_FIRST, _SATURATES, _FOLLOWED = 1, 2, 4
_NONE = 255


def judge_words(d: Dims) -> list[int]:
    """The words, in the order in which ``judge.vy`` names them.

    Raises:
        ModelError: more layers than a word has bits, where layers differ.
    """
    if (d.sliding | d.second_turns) >> 256:
        raise ModelError(f"layers that differ: found {d.layers}, expected at most 256")
    words = [d.hidden, d.intermediate, d.layers, d.heads, d.kv_heads, d.tile, d.vocab, d.context]
    for norm in d.norms:
        words += [0] * 5 if norm is None else [norm.rows, norm.width, norm.epsilon, norm.numerator, norm.drop]
    words += [d.window, d.sliding, d.second_turns, d.score_cap, d.logit_cap]
    for matrix in (each for each in Matrix if each <= Matrix.DOWN_SCALE):
        words += [*d.matrix_shape(matrix), d.weight_leaf(matrix, 0, 0, 0)]
    words += [d.weight_leaf(Matrix.QKV, 1, 0, 0) - d.weight_leaf(Matrix.QKV, 0, 0, 0), d.weight_leaves]
    layer = layer_program(d, 0)
    names = [operator.name for operator in layer]
    words += [names.index("attention.key"), names.index("attention.qkv")]
    for operators, room in (
        (layer, _LAYER_WORDS),
        (token_program(d, 0), _TOKEN_WORDS),
        (token_program(d, 1), _TOKEN_WORDS),
    ):
        words += [len(operators), *_packed(operators, d, room)]
    assert len(words) == WORDS
    return words


def tensor_words(d: TensorDims) -> list[int]:
    """The words that ``tensor_judge.vy`` is made with: its programs it has itself."""
    return [d.hidden, d.intermediate, d.layers, d.heads, d.kv_heads, d.tile, d.vocab, d.context, d.epsilon]


def _packed(operators: Sequence[Operator], d: Dims, words: int) -> list[int]:
    lines = [_line(operator, d) for operator in operators]
    lines += [bytes(8)] * (4 * words - len(lines))
    return [int.from_bytes(b"".join(lines[4 * word : 4 * word + 4]), "big") for word in range(words)]


def _line(operator: Operator, d: Dims) -> bytes:
    """Kind, three operators that are read, matrix, norm, marks, shift: a byte each."""
    reads = [*operator.reads, _NONE, _NONE, _NONE][:3]
    marks = _FIRST * (operator.first > 0) + _SATURATES * operator.saturates
    followed = operator.name == "attention.normed" and d.biased
    matrix = _NONE if operator.matrix is None else operator.matrix
    return bytes([operator.kind, *reads, matrix, operator.norm, marks + _FOLLOWED * followed, operator.shift])
