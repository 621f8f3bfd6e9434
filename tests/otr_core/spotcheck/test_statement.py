"""What a receipt states of its trace is held against the model before anything is opened.

The operator of these tests holds the attested key: it signs the statement that suits it, commits to
rows and leaves that fit this statement, and answers what is drawn from it.
"""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from otr_core import merkle
from otr_core.errors import SpotCheckError
from otr_core.poea.receipt import Receipt
from otr_core.poea.trace import GIVEN, SALT_BYTES
from otr_core.spotcheck.rows import bound_root
from otr_core.spotcheck.selection import draw_place
from otr_core.spotcheck.verify import SpotCheckChallenge, TokenOpening

RANDOM = b"r" * 32


def answered(tiny_operator, receipt: Receipt, position: int, layer: int):
    """The answer to a unit of the gated product, at a place of the trace that ``receipt`` states:
    right rows, of another place if need be, committed for this place and under the stated root."""
    who = tiny_operator.operator
    committed = who.commit(who.rows(5, 1), 5, 1)
    root = bound_root(receipt.trace_root, position, layer, committed.tree.root)
    challenge = SpotCheckChallenge(receipt, position, layer, root, RANDOM, 0, {"product": 1})
    unit = challenge.unit(tiny_operator.layout)
    return challenge, replace(who.open_unit(replace(unit, position=5, layer=1), committed), unit=unit)


def refused_by(tiny_operator, challenge, response) -> str:
    with pytest.raises(SpotCheckError) as failure:
        tiny_operator.verifier.verify(challenge, response)
    return failure.value.check


FALSE = {
    "a trace of one leaf": {"prompt_tokens": 1, "answer_tokens": 1, "layers": 1},
    "a trace of layer 0 only": {"layers": 1},
    "more layers than the model has": {"layers": 4},
    "outputs half as long": {"output_bytes": 64},
    "keys and values half as long": {"kv_bytes": 32},
    "another lane": {"lane": "native-float32"},
    "more tokens than the context": {"answer_tokens": 45},
}


@pytest.mark.parametrize("lie", FALSE)
def test_a_statement_that_is_not_the_models_is_refused(tiny_operator, lie):
    """A unit of the gated product needs no leaf and no token: only this check stands against it."""
    stated = replace(tiny_operator.served.receipt, **FALSE[lie])
    place = draw_place(RANDOM, stated.trace_root, 0, stated)
    assert place[0] < stated.positions
    assert place[1] < stated.layers
    assert refused_by(tiny_operator, *answered(tiny_operator, stated, *place)) == "statement"


@pytest.mark.parametrize("place", [(10**6, 1), (11, 1), (-1, 1), (5, 3), (5, -1)])
def test_a_place_that_the_trace_does_not_have_is_refused(tiny_operator, place):
    """A trace of 6 + 6 tokens has positions 0 to 10."""
    honest = tiny_operator.served.receipt
    tiny_operator.verifier.verify(*answered(tiny_operator, honest, 5, 1))
    challenge, response = answered(tiny_operator, honest, *map(abs, place))
    position, layer = place
    unit = replace(response.unit, position=position, layer=layer)
    moved = replace(challenge, position=position, layer=layer)
    assert refused_by(tiny_operator, moved, replace(response, unit=unit)) == "statement"


@pytest.mark.parametrize(
    ("at", "content"),
    [(0, (64, GIVEN)), (0, (2**32 - 1, GIVEN)), (0, (1, 0)), (8, (7, GIVEN)), (8, (7, 3)), (8, (7, 1))],
)
def test_a_committed_token_is_one_of_the_model_at_its_own_place(tiny_operator, at, content):
    """The operator commits to a token outside the vocabulary, or to one that is called given where
    it was chosen, chosen where it was given, or chosen at another step; and signs that."""
    who, honest = tiny_operator.operator, tiny_operator.served.receipt
    leaves = list(who.trace.tokens)
    leaves[at] = leaves[at][:SALT_BYTES] + struct.pack("<II", *content)
    signed = replace(honest, tokens_root=merkle.root(leaves))
    rows = who.rows(at, 0)
    false = replace(who, answer=replace(who.answer, trace=replace(who.trace, tokens=tuple(leaves))), receipt=signed)
    committed = false.commit(rows, at, 0)
    challenge = replace(false.challenge(committed, at, 0, RANDOM), shares={"attention.norm": 1})
    response = false.open_unit(challenge.unit(tiny_operator.layout), committed)
    assert isinstance(response.token, TokenOpening)
    assert refused_by(tiny_operator, challenge, response) == "token"
