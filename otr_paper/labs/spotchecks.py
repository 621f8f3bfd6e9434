"""The tamper table: every forgery an operator could try on one spot check, made for real and put to the verifier."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otr_core.errors import ProofError, SpotCheckError
from otr_core.spotcheck import proofs
from otr_core.spotcheck.units import Layout, unit_statement
from otr_core.spotcheck.verify import Response, SpotCheckChallenge, Verifier, opened_values
from otr_node import prover
from otr_node.spotchecks import CheckedOperator, weights_of

if TYPE_CHECKING:
    import numpy as np

Case = tuple[SpotCheckChallenge, Response]


@dataclass
class Lab:
    """An honest operator, a cheating one who served another model, and a verifier who holds the registered points.

    Attributes:
        honest, cheat: operators with an answer each, to the same prompt.
        lenient, private: circuits of the small shape with a wide slack, and with private inputs.
        position, layer: the drawn place; randomness: of the second round.
        operator: matrix whose units are drawn (a matrix of the small shape).
    """

    honest: CheckedOperator
    cheat: CheckedOperator
    verifier: Verifier
    lenient: prover.Circuit
    private: prover.Circuit
    position: int
    layer: int
    randomness: bytes
    operator: str = "gate"

    @property
    def layout(self) -> Layout:
        return self.verifier.layout

    def challenge(
        self, who: CheckedOperator, rows: Mapping[str, np.ndarray], *, operator: str = "", position: int | None = None
    ) -> Case:
        """A challenge on rows, and the openings that answer it (no proof yet)."""
        place = self.position if position is None else position
        committed = who.commit(rows, place, self.layer)
        shares = {operator or self.operator: 1}
        trace = who.trace
        challenge = SpotCheckChallenge(
            trace.root, trace.shape, place, self.layer, committed.root, self.randomness, 0, shares
        )
        unit = challenge.unit(self.layout)
        return challenge, who.open_unit(unit, committed)

    def statement(self, case: Case, weights: np.ndarray | None = None) -> proofs.Statement:
        """What an answer to the case has to prove, with the registered weights or others."""
        challenge, opening = case
        own = weights_of(self.layout, self.honest.model, opening.unit) if weights is None else weights
        return unit_statement(
            self.layout, opening.unit, own, opened_values(self.layout, challenge, opening, self.verifier.embedding)
        )

    def proven(self, case: Case, said: proofs.Statement, circuit: prover.Circuit | None = None) -> Case:
        """The case with a proof of ``said`` put to it."""
        challenge, opening = case
        own = self.honest.circuits[self.layout.shape(opening.unit.operator).name]
        proof, _ = prover.prove_unit(circuit or own, said)
        return challenge, replace(opening, circuit=own.shape.name, proof=proof)


def honest_response(lab: Lab) -> Case:
    """No attack: must be accepted."""
    case = lab.challenge(lab.honest, lab.honest.rows(lab.position, lab.layer))
    return lab.proven(case, lab.statement(case))


def _good(lab: Lab) -> tuple[Case, proofs.Proof]:
    case = honest_response(lab)
    assert case[1].proof is not None
    return case, case[1].proof


def wrong_weights(lab: Lab) -> Case:
    """The block's lowest bits cleared, outputs computed with it."""
    rows = lab.honest.rows(lab.position, lab.layer)
    case = lab.challenge(lab.honest, rows)
    weights = weights_of(lab.layout, lab.honest.model, case[1].unit) >> 8 << 8
    said = lab.statement(case, weights)
    half = 1 << (proofs.SHIFT - 1)
    return lab.proven(case, replace(said, outputs=(weights @ said.activations + half) >> proofs.SHIFT))


def wrong_activation(lab: Lab) -> Case:
    """A valid proof about another input row."""
    case = lab.challenge(lab.honest, lab.honest.rows(lab.position, lab.layer))
    said = lab.statement(case)
    x = said.activations + 1
    return lab.proven(case, replace(said, activations=x, outputs=_rounded(said.weights, x)))


def wrong_output(lab: Lab) -> Case:
    """Committed outputs off by one in the last bit, everything else right."""
    rows = lab.honest.rows(lab.position, lab.layer)
    case = lab.challenge(lab.honest, rows | {lab.operator: rows[lab.operator] + 1})
    return lab.proven(case, lab.statement(case))


def wrong_output_unproven(lab: Lab) -> Case:
    """Committed outputs off by one; the proof is about the right ones."""
    rows = lab.honest.rows(lab.position, lab.layer)
    case = lab.challenge(lab.honest, rows | {lab.operator: rows[lab.operator] + 1})
    said = lab.statement(case)
    return lab.proven(case, replace(said, outputs=_rounded(said.weights, said.activations)))


def other_unit(lab: Lab) -> Case:
    """A complete honest answer for the next block."""
    rows = lab.honest.rows(lab.position, lab.layer)
    challenge, opening = lab.challenge(lab.honest, rows)
    unit = opening.unit
    other = replace(unit, block=(unit.block + 1) % lab.layout.blocks[unit.operator])
    committed = lab.honest.commit(rows, lab.position, lab.layer)
    return challenge, lab.honest.open_unit(other, committed)


def other_token(lab: Lab) -> Case:
    """A complete honest answer at another position, relabelled to the drawn one."""
    at = lab.position - 1
    challenge, opening = lab.challenge(lab.honest, lab.honest.rows(lab.position, lab.layer))
    other = lab.challenge(lab.honest, lab.honest.rows(at, lab.layer), position=at)
    return challenge, replace(other[1], unit=opening.unit)


def other_model(lab: Lab) -> Case:
    """Served by a cheaper model, proven with that model's weights: consistent in itself."""
    case = lab.challenge(lab.cheat, lab.cheat.rows(lab.position, lab.layer))
    return lab.proven(case, lab.statement(case, weights_of(lab.layout, lab.cheat.model, case[1].unit)))


def other_model_true_weights(lab: Lab) -> Case:
    """Served by a cheaper model, proven with the registered weights."""
    case = lab.challenge(lab.cheat, lab.cheat.rows(lab.position, lab.layer))
    return lab.proven(case, lab.statement(case))


def other_circuit(lab: Lab) -> Case:
    """A valid proof of the down projection's circuit, put to a unit of the small shape."""
    rows = lab.honest.rows(lab.position, lab.layer)
    other = lab.challenge(lab.honest, rows, operator="down")
    challenge, opening = lab.challenge(lab.honest, rows)
    _, proven = lab.proven(other, lab.statement(other))
    return challenge, replace(opening, circuit=lab.layout.shape(lab.operator).name, proof=proven.proof)


def other_key(lab: Lab) -> Case:
    """The operator names the verifying key of another shape."""
    (challenge, response), _ = _good(lab)
    return challenge, replace(response, circuit=lab.layout.shape("down").name)


def lenient_circuit(lab: Lab) -> Case:
    """Wrong outputs, with a valid proof of a circuit that allows them."""
    rows = lab.honest.rows(lab.position, lab.layer)
    case = lab.challenge(lab.honest, rows | {lab.operator: rows[lab.operator] + 1})
    return lab.proven(case, lab.statement(case), lab.lenient)


def private_parameters(lab: Lab) -> Case:
    """Other weights, with a valid proof of the circuit whose inputs are private: they could be any."""
    case = lab.challenge(lab.cheat, lab.cheat.rows(lab.position, lab.layer))
    said = lab.statement(case, weights_of(lab.layout, lab.cheat.model, case[1].unit))
    return lab.proven(case, said, lab.private)


def edited_instance(lab: Lab) -> Case:
    """Wrong outputs, the proof's violation edited to 0."""
    challenge, response = wrong_output(lab)
    assert response.proof is not None
    return challenge, replace(response, proof=replace(response.proof, violation=0))


def edited_proof(lab: Lab) -> Case:
    """One bit of the proof's last 32 bytes."""
    (challenge, response), proof = _good(lab)
    return challenge, replace(response, proof=replace(proof, raw=proof.raw[:-1] + bytes([proof.raw[-1] ^ 1])))


def edited_commitment(lab: Lab) -> Case:
    """Other weights; their point in the proof overwritten with the registered one."""
    challenge, response = other_model(lab)
    assert response.proof is not None
    point = lab.verifier.registered(response.unit.layer, response.unit.operator, response.unit.block)[0]
    return challenge, replace(response, proof=replace(response.proof, raw=point + response.proof.raw[64:]))


def edited_hex(lab: Lab) -> Case:
    """A document whose hex form, which the library ignores, is not its proof bytes."""
    (challenge, response), proof = _good(lab)
    document = {"proof": list(proof.raw), "hex_proof": "0x" + proof.raw[::-1].hex(), "instances": [[proofs.felt(0)]]}
    try:
        return challenge, replace(response, proof=proofs.read_proof(document))
    except ProofError as error:
        raise SpotCheckError("proof", error, "one whose two forms agree") from error


def reused_proof(lab: Lab) -> Case:
    """The valid proof of the same weight block at an earlier position, put to the drawn one."""
    challenge, opening = lab.challenge(lab.honest, lab.honest.rows(lab.position, lab.layer))
    earlier = lab.position - 1
    old = lab.honest.rows(earlier, lab.layer)
    unit = opening.unit
    begin, end = lab.layout.span(unit)
    source = lab.layout.matrices[unit.operator].source
    said = proofs.Statement(weights_of(lab.layout, lab.honest.model, unit), old[source], old[unit.operator][begin:end])
    return lab.proven((challenge, opening), said)


def forged_witness(lab: Lab) -> Case:
    """Wrong outputs; the violation set to 0 in the witness file before proving, which the library does not mind."""
    rows = lab.honest.rows(lab.position, lab.layer)
    challenge, opening = case = lab.challenge(lab.honest, rows | {lab.operator: rows[lab.operator] + 1})
    circuit = lab.honest.circuits[lab.layout.shape(lab.operator).name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "witness.json"
        prover.write_witness(circuit, lab.statement(case), path)
        document = json.loads(path.read_text())
        document["outputs"] = [[proofs.felt(0)]]
        path.write_text(json.dumps(document))
        proof, _ = prover.prove_witness(circuit, path, 0)
    return challenge, replace(opening, circuit=circuit.shape.name, proof=proof)


def other_rows(lab: Lab) -> Case:
    """Rows changed after the unit is known, opened under a tree that was not committed."""
    rows = lab.honest.rows(lab.position, lab.layer)
    challenge, _ = lab.challenge(lab.honest, rows)
    changed = lab.honest.commit(rows | {lab.operator: rows[lab.operator] + 1}, lab.position, lab.layer)
    unit = challenge.unit(lab.layout)
    return challenge, lab.honest.open_unit(unit, changed)


def wrong_operator(lab: Lab) -> Case:
    """A normalised row scaled up, everything after it consistent: caught at the operator that has no weights."""
    rows = lab.honest.rows(lab.position, lab.layer)
    return lab.challenge(lab.honest, rows | {"mlp.normed": rows["mlp.normed"] * 2}, operator="mlp.norm")


def other_leaf(lab: Lab) -> Case:
    """Openings out of another answer's trace."""
    rows = lab.honest.rows(lab.position, lab.layer)
    challenge, opening = lab.challenge(lab.honest, rows, operator="attention.norm")
    other = lab.challenge(lab.cheat, lab.cheat.rows(lab.position, lab.layer), operator="attention.norm")
    return challenge, replace(opening, leaves=other[1].leaves)


#: Attack -> (what makes the forgery, the check that must refuse it).
ATTACKS: dict[str, tuple[Callable[[Lab], Case], str]] = {
    "wrong weights": (wrong_weights, "weights"),
    "wrong activation": (wrong_activation, "activations"),
    "wrong output": (wrong_output, "violation"),
    "wrong output, proof of the right one": (wrong_output_unproven, "outputs"),
    "other unit": (other_unit, "unit"),
    "other token": (other_token, "rows"),
    "other model, its own weights": (other_model, "weights"),
    "other model, registered weights": (other_model_true_weights, "violation"),
    "proof of another circuit": (other_circuit, "proof"),
    "key of another shape": (other_key, "circuit"),
    "lenient circuit": (lenient_circuit, "proof"),
    "private parameters": (private_parameters, "proof"),
    "edited instance": (edited_instance, "proof"),
    "edited proof bytes": (edited_proof, "proof"),
    "edited commitment": (edited_commitment, "proof"),
    "edited hex form only": (edited_hex, "proof"),
    "reused proof": (reused_proof, "activations"),
    "witness forged before proving": (forged_witness, "proof"),
    "rows changed after the draw": (other_rows, "rows"),
    "wrong operator without weights": (wrong_operator, "operator"),
    "leaf of another answer": (other_leaf, "leaf"),
}


def run_spot_attacks(lab: Lab, names: Iterator[str] | list[str] | None = None) -> list[dict[str, Any]]:
    """Rows of attack, what (words), expected, refused_by (empty: accepted); the honest answer first."""
    table = {"none": (honest_response, ""), **ATTACKS}
    rows = []
    for name in names or table:
        make, expected = table[name]
        refused = ""
        try:
            lab.verifier.verify(*make(lab))
        except SpotCheckError as error:
            refused = error.check
        what = (make.__doc__ or "").split("\n")[0]
        rows.append({"attack": name, "what": what, "expected": expected, "refused_by": refused})
    return rows


def private_forgery_passes(lab: Lab) -> bool:
    """Whether the naive rule (the proof verifies and the violation is 0) takes other weights where they are private."""
    _, response = private_parameters(lab)
    assert response.proof is not None
    return bool(prover.verify_proof(lab.private, response.proof).value) and response.proof.violation == 0


def _rounded(weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    result: np.ndarray = (weights @ x + (1 << (proofs.SHIFT - 1))) >> proofs.SHIFT
    return result
