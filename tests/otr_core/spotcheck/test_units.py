"""Every unit of a layer, honest and broken, without proofs: integers decide."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from otr_core.errors import InconclusiveError, InputError, ProofError, SpotCheckError
from otr_core.poea.trace import check_state
from otr_core.spotcheck import verify
from otr_core.spotcheck.units import Unit, needed_rows, unit_statement
from otr_node.spotchecks import weights_of
from otr_paper.studies.detection import broken_units

RANDOM = b"r" * 32
#: Committed row -> the operator whose result it is.
MAKERS = {"attention.normed": "attention.norm", "attention.query": "query", "attention.mixed": "attention"}
MAKERS |= {"attention.residual": "o", "mlp.normed": "mlp.norm", "mlp.product": "product"}
MAKERS |= {name: name for name in ("q", "k", "gate", "up")}


def case(tiny_operator, operator, position=5, layer=1, rows=None, number=0):
    who = tiny_operator.operator
    rows = who.rows(position, layer) if rows is None else rows
    committed = who.commit(rows, position, layer)
    challenge = verify.SpotCheckChallenge(who.receipt, position, layer, committed.root, RANDOM, number, {operator: 1})
    unit = challenge.unit(tiny_operator.layout)
    return challenge, who.open_unit(unit, committed)


def violation(tiny_operator, operator, **options):
    challenge, response = case(tiny_operator, operator, **options)
    values = verify.opened_values(tiny_operator.layout, challenge, response, tiny_operator.verifier.embedding)
    weights = weights_of(tiny_operator.layout, tiny_operator.model, response.unit)
    return unit_statement(tiny_operator.layout, response.unit, weights, values).violation()


def opened_operators(tiny_operator):
    return [name for name in tiny_operator.layout.blocks if name not in tiny_operator.layout.matrices]


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("position", [0, 4, 8])
def test_every_honest_unit_holds(tiny_operator, layer, position):
    for operator, blocks in tiny_operator.layout.blocks.items():
        for number in range(min(blocks, 3)):
            if operator in tiny_operator.layout.matrices:
                assert violation(tiny_operator, operator, position=position, layer=layer, number=number) == 0, operator
            else:
                tiny_operator.verifier.verify(
                    *case(tiny_operator, operator, position=position, layer=layer, number=number)
                )


@pytest.mark.parametrize("row", MAKERS)
def test_a_committed_row_off_by_one_breaks_the_units_around_it(tiny_operator, row):
    """Each intermediate row is the output of one operator: changing it breaks that one."""
    rows = tiny_operator.operator.rows(5, 1)
    rows = rows | {row: rows[row] + 1}
    operator = MAKERS[row]
    if operator in tiny_operator.layout.matrices:
        assert violation(tiny_operator, operator, rows=rows) > 0
    else:
        challenge, response = case(tiny_operator, operator, rows=rows)
        with pytest.raises(SpotCheckError) as failure:
            tiny_operator.verifier.verify(challenge, response)
        assert failure.value.check == "operator"


def refused_by(tiny_operator, challenge, response):
    with pytest.raises(SpotCheckError) as failure:
        tiny_operator.verifier.verify(challenge, response)
    return failure.value.check


@pytest.mark.parametrize("operator", ["attention.norm", "attention", "product"])
def test_rows_chosen_after_the_unit_is_known_are_refused(tiny_operator, operator):
    """An operator publishes one root between the draws, and then answers with the rows of another tree.

    All that it opens is right, so that nothing but the published root stands against it.
    """
    who = tiny_operator.operator
    challenge, honest = case(tiny_operator, operator)
    false = who.rows(5, 1)
    published = who.commit(false | {"up": false["up"] + 1}, 5, 1)
    assert refused_by(tiny_operator, replace(challenge, rows_root=published.root), honest) == "rows"


@pytest.mark.parametrize("place", [(4, 1), (5, 2)])
def test_rows_published_for_another_place_are_refused(tiny_operator, place):
    """The tree is the right one, and its published root is bound to another position or layer."""
    who = tiny_operator.operator
    challenge, honest = case(tiny_operator, "product")
    elsewhere = who.commit(who.rows(5, 1), *place)
    assert refused_by(tiny_operator, replace(challenge, rows_root=elsewhere.root), honest) == "rows"


def test_a_piece_whose_salt_takes_some_of_its_values_is_refused(tiny_operator):
    """The leaf hash is over salt and values together, and does not tell where one ends."""
    challenge, honest = case(tiny_operator, "attention.norm")
    first, *others = honest.pieces
    for cut in (8, -8):
        both, border = first.salt + first.data, len(first.salt) + cut
        moved = replace(first, salt=both[:border], data=both[border:])
        assert refused_by(tiny_operator, challenge, replace(honest, pieces=(moved, *others))) == "rows"


def test_the_whole_chain_from_leaf_to_leaf_is_covered(tiny_operator):
    """Every row a unit reads is committed or in a leaf, and every committed row is read."""
    layout = tiny_operator.layout
    read = set()
    for operator in layout.blocks:
        read |= set(needed_rows(layout, Unit(5, 1, operator, 0)))
    assert MAKERS.keys() == layout.row_lengths().keys()
    assert read == {*layout.row_lengths(), "input", "key", "value", "output"}


def test_blocks_tile_each_matrix(tiny_operator):
    layout = tiny_operator.layout
    for name, matrix in layout.matrices.items():
        spans = [layout.span(Unit(0, 0, name, block)) for block in range(layout.blocks[name])]
        assert [begin for begin, _ in spans] == [0, *(end for _, end in spans[:-1])]
        assert spans[-1][1] == matrix.rows


@pytest.mark.parametrize("unit", [Unit(0, 0, "gate", 10**6), Unit(0, 99, "gate", 0), Unit(0, 0, "router", 0)])
def test_a_unit_that_does_not_exist_is_a_named_error(tiny_operator, unit):
    with pytest.raises(InputError, match="unit"):
        needed_rows(tiny_operator.layout, unit)


def test_openings_of_another_place_or_root_or_length_are_refused(tiny_operator):
    challenge, response = case(tiny_operator, "mlp.norm")
    for forged, check in (
        (replace(response, tree_root=bytes(32)), "rows"),
        (replace(response, pieces=response.pieces[:-1]), "rows"),
        (replace(response, pieces=response.pieces[1:] + response.pieces[:1]), "rows"),
        (replace(response, pieces=(replace(response.pieces[0], data=bytes(64)), *response.pieces[1:])), "rows"),
        (replace(response, unit=replace(response.unit, layer=2)), "unit"),
    ):
        with pytest.raises(SpotCheckError) as failure:
            tiny_operator.verifier.verify(challenge, forged)
        assert failure.value.check == check
    challenge, response = case(tiny_operator, "attention")
    emptied = replace(response.leaves[0], data=bytes(len(response.leaves[0].data)))
    for forged in (response.leaves[:-1], response.leaves[::-1], (emptied, *response.leaves[1:])):
        with pytest.raises(SpotCheckError) as failure:
            tiny_operator.verifier.verify(challenge, replace(response, leaves=forged))
        assert failure.value.check == "leaf"


def test_values_beyond_the_lane_are_refused(tiny_operator):
    rows = tiny_operator.operator.rows(5, 1)
    challenge, response = case(tiny_operator, "mlp.norm", rows=rows | {"mlp.normed": rows["mlp.normed"] + 2**53})
    with pytest.raises(SpotCheckError, match="beyond 2\\^52"):
        tiny_operator.verifier.verify(challenge, response)


def test_a_saturated_residual_is_inconclusive_not_guilty(tiny_operator):
    unit = Unit(5, 1, "o", 0)
    spans = needed_rows(tiny_operator.layout, unit)
    values = {name: np.zeros(end - begin, np.int64) for name, (begin, end) in spans.items()}
    values["attention.residual"][:] = 2**31 - 1
    with pytest.raises(InconclusiveError, match="saturates"):
        unit_statement(tiny_operator.layout, unit, weights_of(tiny_operator.layout, tiny_operator.model, unit), values)


def test_layer_0_reads_the_committed_token(tiny_operator):
    challenge, response = case(tiny_operator, "attention.norm", layer=0)
    tiny_operator.verifier.verify(challenge, response)
    _, other = case(tiny_operator, "attention.norm", layer=0, position=4)
    token = response.token
    for forged in (
        None,
        other.token,
        replace(token, content=token.content[:32] + bytes(8)),
        replace(token, content=token.content[:-1]),
        replace(token, proof=token.proof[:-1]),
    ):
        with pytest.raises(SpotCheckError) as failure:
            tiny_operator.verifier.verify(challenge, replace(response, token=forged))
        assert failure.value.check == "token"
    assert case(tiny_operator, "mlp.norm", layer=0)[1].token is None


def test_rows_are_those_of_the_leaf(tiny_operator):
    state = tiny_operator.operator.state(5, 1)
    rows = tiny_operator.operator.rows(5, 1)
    check_state(tiny_operator.operator.trace, tiny_operator.operator.trace_seed, 5, 1, state)
    assert rows["output"].astype("<i4").tobytes() == state.output
    assert rows["value"].astype("<i4").tobytes() == state.value
    with pytest.raises(ProofError):
        check_state(tiny_operator.operator.trace, tiny_operator.operator.trace_seed, 5, 2, state)


def test_broken_units_agree_with_the_statements(tiny_operator):
    """The fast integer map of broken units says what each unit's own statement says."""
    rows = tiny_operator.operator.rows(5, 1)
    rows = rows | {"up": rows["up"] + (np.arange(len(rows["up"])) == 3), "value": rows["value"]}
    weights = {
        m.name: tiny_operator.model.matrices[f"1.{m.stack}"].dense(m.first, m.first + m.rows).astype(np.int64)
        for m in tiny_operator.layout.matrices.values()
    }
    found = broken_units(tiny_operator.layout, weights, rows)
    for name, blocks in found.items():
        for block, broken in enumerate(blocks):
            unit = Unit(5, 1, name, block)
            values = {
                row: rows[row][begin:end] for row, (begin, end) in needed_rows(tiny_operator.layout, unit).items()
            }
            said = unit_statement(
                tiny_operator.layout, unit, weights_of(tiny_operator.layout, tiny_operator.model, unit), values
            )
            assert (said.violation() > 0) == broken
    assert [name for name, blocks in found.items() if blocks.any()] == ["up"]
