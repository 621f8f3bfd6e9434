"""Structured cheats: an operator who saves or changes something in a regular way, and what each kind
of check makes of it.

Each cheat changes what one operator gives and goes on from there as the model says, so that it
breaks the units of that operator alone: no other way of telling it breaks fewer. It is laid into the
operator whose units are seldom drawn where there is a choice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from otr_core.errors import AnswerProofError, ReceiptError
from otr_core.lane.dims import Dims
from otr_core.lane.formats import SIGMOID_ZERO
from otr_core.lane.program import LayerOperator, layer_program
from otr_core.poea.message import Response
from otr_core.spotcheck.proof.transcript import Channel
from otr_core.spotcheck.proof.verify import (
    ProvenAnswer,
    check_committed,
    check_proof,
    check_proven,
    converse,
    proven_statement,
)
from otr_core.spotcheck.recompute import recompute
from otr_core.spotcheck.units import Unit, needed_rows
from otr_node.portable import PortableModel, PortableSession
from otr_node.proof.answers import commit_for_proofs, prove_answer
from otr_node.proof.prover import AnswerProver
from otr_node.proof.witness import make_witness
from otr_node.proof.witness_rows import Change
from otr_node.spotchecks import CheckedOperator, named_rows
from otr_paper.benches.workbench import Served
from otr_paper.studies.detection import Blocks, broken_units

WINDOW = 8
"""Positions that a windowed head still sees."""

AlterAt = Callable[[Dims, int, int, np.ndarray], np.ndarray]
"""(sizes, position, number of the operator, its values) → the values claimed."""


@dataclass(frozen=True)
class StructuredCheat:
    """One cheat.

    Attributes:
        name: in tables. layers: whether it touches a layer, of so many. at: what it claims in place
            of an operator's values there. column, claim: the same in the witness of a whole answer's
            proof: (name of a column, sizes, its row, values) → values.
    """

    name: str
    layers: Callable[[int, int], bool]
    at: AlterAt
    column: str
    claim: Callable[[Dims, int, np.ndarray], np.ndarray]


def _every(layer: int, layers: int) -> bool:
    return True


def _middle(layer: int, layers: int) -> bool:
    return layer == layers // 2


def _fifth(layer: int, layers: int) -> bool:
    return layer % 5 == 4 or layers < 5


def _pruned(d: Dims, position: int, operator: int, values: np.ndarray) -> np.ndarray:
    if operator == LayerOperator.GATE_UP:
        values = values.copy()
        values[d.intermediate - d.intermediate // 5 : d.intermediate] = 0
    return values


def _pruned_claim(d: Dims, row: int, values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values[:, d.intermediate - d.intermediate // 5 :] = SIGMOID_ZERO
    return values


def _windowed(heads: Callable[[Dims], int]) -> AlterAt:
    def alter(d: Dims, position: int, operator: int, values: np.ndarray) -> np.ndarray:
        if operator == LayerOperator.WEIGHTS and position >= WINDOW:
            values = values.copy()
            each = values.reshape(d.heads, -1)
            each[: heads(d), : position + 1 - WINDOW] = 0
        return values

    return alter


def _windowed_claim(heads: Callable[[Dims], int]) -> Callable[[Dims, int, np.ndarray], np.ndarray]:
    def claim(d: Dims, row: int, values: np.ndarray) -> np.ndarray:
        if row % d.heads >= heads(d):
            return values
        t = np.arange(len(values))
        return np.where(t[None, : values.shape[1]] + 4 <= t[:, None], 0, values)

    return claim


def _skipped(d: Dims, position: int, operator: int, values: np.ndarray) -> np.ndarray:
    both = (LayerOperator.ATTENTION_NORMED, LayerOperator.MLP_NORMED)
    return np.zeros_like(values) if operator in both else values


def _steered(d: Dims, position: int, operator: int, values: np.ndarray) -> np.ndarray:
    return values + 2**15 if operator == LayerOperator.OUTPUT else values


def _one(d: Dims, position: int, operator: int, values: np.ndarray) -> np.ndarray:
    if operator == LayerOperator.OUTPUT:
        values = values.copy()
        values[0] += 1
    return values


def _one_claim(d: Dims, row: int, values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values[0, 0] += 1
    return values


ALL_HEADS, THIRD = (lambda d: d.heads), (lambda d: max(1, d.heads // 3))
CHEATS = (
    StructuredCheat("a fifth of the MLP pruned", _every, _pruned, "gate_index", _pruned_claim),
    StructuredCheat("windowed attention, every head", _every, _windowed(ALL_HEADS), "exp", _windowed_claim(ALL_HEADS)),
    StructuredCheat("sparse attention, a third of the heads", _every, _windowed(THIRD), "exp", _windowed_claim(THIRD)),
    StructuredCheat("every fifth layer skipped", _fifth, _skipped, "normed", lambda d, row, v: np.zeros_like(v)),
    StructuredCheat("one layer steered", _middle, _steered, "normed", lambda d, row, v: v + 2**10),
    StructuredCheat("one value of one leaf", _middle, _one, "mixed", _one_claim),
)


def broken_by(cheat: StructuredCheat, who: CheckedOperator, position: int, layer: int) -> Blocks | None:
    """Which units the cheat breaks at a place: operator → bool (blocks,); None where it is not
    there, or changes nothing.

    Args:
        who: the honest operator of the answer.
    """
    model, layout = who.model, who.layout
    if not cheat.layers(layer, model.dims.layers):
        return None
    honest = who.rows(position, layer)
    session = PortableSession(
        model,
        watch=(position, layer),
        alter=lambda operator, values: cheat.at(model.dims, position, operator, values),
    )
    session.feed([*who.answer.prompt_ids, *who.answer.token_ids][: position + 1])
    done = {op.name: session.operators[number] for number, op in enumerate(layer_program(model.dims, position))}
    rows = named_rows(layout, done, honest["input"])
    if all(np.array_equal(rows[name], honest[name]) for name in ("output", "key", "value")):
        return None
    weights = {
        m.name: model.matrices[f"{layer}.{m.stack}"].dense(m.first, m.first + m.rows).astype(np.int64)
        for m in layout.matrices.values()
    }
    found = dict(broken_units(layout, weights, rows))
    kv = {}
    for name in ("key", "value"):
        earlier = [np.frombuffer(getattr(who.state(p, layer), name), "<i4") for p in range(position)]
        kv[name] = np.stack([*earlier, rows[name]]).astype(np.int64)
    for name, blocks in layout.blocks.items():
        if name not in layout.matrices:
            found[name] = np.array([_broken(who, Unit(position, layer, name, at), rows, kv) for at in range(blocks)])
    return found


def _broken(who: CheckedOperator, unit: Unit, rows: dict[str, np.ndarray], kv: dict[str, np.ndarray]) -> bool:
    """Whether a unit without weights is not what its operator gives on the claimed rows."""
    layout = who.layout
    values = {name: rows[name][slice(*span)] for name, span in needed_rows(layout, unit).items()}
    if unit.operator == "attention":
        span = slice(*layout.group(unit))
        values |= {"keys": kv["key"][:, span], "values": kv["value"][:, span]}
    result, name = recompute(layout, unit, values, who.model.bounds.saturation[unit.layer])
    return bool(result != values[name].tolist())


def proof_refused(served: Served, cheat: StructuredCheat | None, token_ids: Sequence[int] = ()) -> str:
    """Forge a proof of a whole answer whose witness has the cheat in it, and put it to the verifier.

    Args:
        cheat: None for a witness of the cheat's own model, or of other tokens. token_ids: the answer
            that is signed and proven; none: the served one.

    Returns:
        The check that refuses it; empty: accepted.
    """
    file = served.sign(served.claiming(token_ids)) if token_ids else served.file
    model = served.bench.portable
    response = Response(tuple(token_ids) or served.answer.token_ids, served.salts)
    return _refused(served, file, model, model, response, None if cheat is None else _change(cheat, model.dims))


def proven_hidden(served: Served, seed: bytes) -> ProvenAnswer:
    """What a verifier says of the served answer who holds a commitment alone that hides the model, for one proof.

    Args:
        seed: of what hides it.
    """
    model, response = served.bench.portable, Response(served.answer.token_ids, served.salts)
    under = commit_for_proofs(model, lambda line: None, seed, 1)
    proof = prove_answer(model, served.file, served.said, response, lambda line: None, under=under)
    return check_committed(proof, served.file, served.said, response, committed=under.commitment)


def cheaper_refused(served: Served, cheaper: PortableModel) -> str:
    """The same for a prover who has run a cheaper model, and proves what it gives as the ordered one's."""
    response = Response(served.answer.token_ids, served.salts)
    return _refused(served, served.file, served.bench.portable, cheaper, response, None)


def _change(cheat: StructuredCheat, d: Dims) -> Change:
    return lambda name, row, values: cheat.claim(d, row, values) if name == cheat.column else values


def _refused(
    served: Served, file: Any, model: PortableModel, proven: PortableModel, response: Response, change: Change | None
) -> str:
    own, saturation = model.manifest.model_id, model.bounds.saturation
    sizes = check_proven(file, served.said, response, model_id=own, saturation=saturation)
    tokens = (*served.said.prompt_ids, *response.token_ids)
    witness = make_witness(proven, sizes, tokens, change or (lambda name, row, values: values))
    side = AnswerProver(Channel(), sizes, model.architecture, proven, tokens)
    converse(side, proven_statement(file, served.said, response), side.commit(witness), witness.facts)
    try:
        parts = (side.channel.proof, file, served.said, response)
        check_proof(*parts, model=model, model_id=own, saturation=saturation)
    except (AnswerProofError, ReceiptError) as error:
        return error.check
    return ""


def drafted_tokens(served: Served) -> tuple[int, ...]:
    """The served answer with its last but one token replaced, as a draft model might have it: the
    ordered model's own prefill over it gives a trace in which every unit holds."""
    ids, stops = list(served.answer.token_ids), served.bench.model.architecture.stop_ids
    at = max(len(ids) - 2, 0)
    ids[at] = next(t for t in range(3, 3 + len(stops) + 2) if t != ids[at] and t not in stops)
    return tuple(ids)
