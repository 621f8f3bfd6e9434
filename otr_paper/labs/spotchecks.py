"""The tamper table: every forgery an operator could try on one spot check, made for real and put to
the verifier."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from otr_core.errors import ProofError, SpotCheckError
from otr_core.spotcheck import proofs
from otr_core.spotcheck.units import Layout, Unit, unit_statement
from otr_core.spotcheck.verify import SpotCheckChallenge, SpotCheckResponse, Verifier, opened_values
from otr_node import prover
from otr_node.spotchecks import CheckedOperator, weights_of
from otr_paper.benches.workbench import Workbench

Case = tuple[SpotCheckChallenge, SpotCheckResponse]
LENIENT = 2**22
"""Slack of the circuit that a cheating operator would like to be judged by: four units of the last
bit."""


@dataclass
class Lab:
    """An honest operator and a cheating one who served another model, asked about one place of
    their answers.

    Attributes:
        bench: the honest operator's; its verifier holds the registered points.
        honest, cheat: both have answered the same prompt.
        position, layer: the drawn place. randomness: of the second round.
        operator: matrix whose units are drawn (a matrix of the small shape).
    """

    bench: Workbench
    honest: CheckedOperator
    cheat: CheckedOperator
    position: int
    layer: int
    randomness: bytes
    operator: str = "gate"

    @cached_property
    def verifier(self) -> Verifier:
        return self.bench.verifier

    @property
    def layout(self) -> Layout:
        return self.bench.layout

    def circuit(self, *, slack: int = 0, visibility: str = "polycommit") -> prover.Circuit:
        """A circuit of the drawn operator's shape as a cheat would like it: with slack, or with
        private inputs."""
        assert self.bench.store is not None  # a bench whose circuits are real has one
        shape = replace(self.layout.shape(self.operator), slack=slack)
        return prover.make_circuit(shape, self.bench.store, visibility=visibility)

    @cached_property
    def rows(self) -> dict[str, np.ndarray]:
        """The honest operator's rows at the place."""
        return self.honest.rows(self.position, self.layer)

    @cached_property
    def false_rows(self) -> dict[str, np.ndarray]:
        """The same, the drawn operator's outputs off by one in the last bit."""
        return self.rows | {self.operator: self.rows[self.operator] + 1}

    def challenge(
        self,
        rows: Mapping[str, np.ndarray] | None = None,
        *,
        who: CheckedOperator | None = None,
        operator: str = "",
        position: int | None = None,
    ) -> Case:
        """A challenge on committed rows (by default the honest ones), and the openings that answer
        it (no proof yet).

        Args:
            who: has committed; the honest operator unless said otherwise. operator: whose unit is
                drawn.
        """
        who, place = who or self.honest, self.position if position is None else position
        committed = who.commit(self.rows if rows is None else rows, place, self.layer)
        challenge = who.challenge(committed, place, self.layer, self.randomness)
        challenge = replace(challenge, shares={operator or self.operator: 1})
        return challenge, who.open_unit(challenge.unit(self.layout), committed)

    def cheating(self, operator: str = "") -> Case:
        """A challenge of the cheating operator, who has committed to what its own model gives."""
        return self.challenge(self.cheat.rows(self.position, self.layer), who=self.cheat, operator=operator)

    def weights(self, case: Case, who: CheckedOperator | None = None) -> np.ndarray:
        """The drawn unit's weights in the model of ``who``, by default the registered ones."""
        return weights_of(self.layout, (who or self.honest).model, case[1].unit)

    def statement(self, case: Case, weights: np.ndarray | None = None) -> proofs.Statement:
        """What an answer to the case has to prove, with the registered weights or others."""
        challenge, opening = case
        values = opened_values(self.layout, challenge, opening, self.verifier.embedding)
        return unit_statement(self.layout, opening.unit, self.weights(case) if weights is None else weights, values)

    def proven(self, case: Case, said: proofs.Statement | None = None, circuit: prover.Circuit | None = None) -> Case:
        """The case with a proof put to it: of ``said``, by default of what it has to prove."""
        challenge, opening = case
        own = self.honest.circuits[self.layout.shape(opening.unit.operator).name]
        proof, _ = prover.prove_unit(circuit or own, said or self.statement(case))
        return challenge, replace(opening, circuit=own.shape.name, proof=proof)


def honest_response(lab: Lab) -> Case:
    """No attack: must be accepted."""
    return lab.proven(lab.challenge())


def _with_proof(case: Case) -> tuple[SpotCheckChallenge, SpotCheckResponse, proofs.Proof]:
    challenge, response = case
    assert response.proof is not None
    return challenge, response, response.proof


def wrong_weights(lab: Lab) -> Case:
    """The block's lowest bits cleared, outputs computed with it."""
    case = lab.challenge()
    said = lab.statement(case, lab.weights(case) >> 8 << 8)
    return lab.proven(case, replace(said, outputs=_rounded(said.weights, said.activations)))


def wrong_activation(lab: Lab) -> Case:
    """A valid proof about another input row."""
    case = lab.challenge()
    said = lab.statement(case)
    x = said.activations + 1
    return lab.proven(case, replace(said, activations=x, outputs=_rounded(said.weights, x)))


def wrong_output(lab: Lab) -> Case:
    """Committed outputs off by one in the last bit, everything else right."""
    return lab.proven(lab.challenge(lab.false_rows))


def wrong_output_unproven(lab: Lab) -> Case:
    """Committed outputs off by one; the proof is about the right ones."""
    case = lab.challenge(lab.false_rows)
    said = lab.statement(case)
    return lab.proven(case, replace(said, outputs=_rounded(said.weights, said.activations)))


def other_unit(lab: Lab) -> Case:
    """A complete honest answer for the next block."""
    challenge, opening = lab.challenge()
    unit = opening.unit
    other = replace(unit, block=(unit.block + 1) % lab.layout.blocks[unit.operator])
    return challenge, _opened(lab, other, lab.rows)


def other_token(lab: Lab) -> Case:
    """A complete honest answer at another position, relabelled to the drawn one."""
    at = lab.position - 1
    challenge, opening = lab.challenge()
    _, other = lab.challenge(position=at)
    return challenge, replace(other, unit=opening.unit)


def other_model(lab: Lab) -> Case:
    """Served by a cheaper model, proven with that model's weights: consistent in itself."""
    case = lab.cheating()
    return lab.proven(case, lab.statement(case, lab.weights(case, lab.cheat)))


def other_model_true_weights(lab: Lab) -> Case:
    """Served by a cheaper model, proven with the registered weights."""
    return lab.proven(lab.cheating())


def other_circuit(lab: Lab) -> Case:
    """A valid proof of the down projection's circuit, put to a unit of the small shape."""
    _, proven = lab.proven(lab.challenge(operator="down"))
    challenge, opening = lab.challenge()
    return challenge, replace(opening, circuit=lab.layout.shape(lab.operator).name, proof=proven.proof)


def other_key(lab: Lab) -> Case:
    """The operator names the verifying key of another shape."""
    challenge, response = honest_response(lab)
    return challenge, replace(response, circuit=lab.layout.shape("down").name)


def lenient_circuit(lab: Lab) -> Case:
    """Wrong outputs, with a valid proof of a circuit that allows them."""
    return lab.proven(lab.challenge(lab.false_rows), circuit=lab.circuit(slack=LENIENT))


def private_parameters(lab: Lab) -> Case:
    """Other weights, with a valid proof of the circuit whose inputs are private: they could be
    any."""
    case = lab.cheating()
    return lab.proven(case, lab.statement(case, lab.weights(case, lab.cheat)), lab.circuit(visibility="private"))


def edited_instance(lab: Lab) -> Case:
    """Wrong outputs, the proof's violation edited to 0."""
    challenge, response, proof = _with_proof(wrong_output(lab))
    return challenge, replace(response, proof=replace(proof, violation=0))


def edited_proof(lab: Lab) -> Case:
    """One bit of the proof's last 32 bytes."""
    challenge, response, proof = _with_proof(honest_response(lab))
    return challenge, replace(response, proof=replace(proof, raw=proof.raw[:-1] + bytes([proof.raw[-1] ^ 1])))


def edited_commitment(lab: Lab) -> Case:
    """Other weights; their point in the proof overwritten with the registered one."""
    challenge, response, proof = _with_proof(other_model(lab))
    unit = response.unit
    point = lab.verifier.registered(unit.layer, unit.operator, unit.block)[0]
    return challenge, replace(response, proof=replace(proof, raw=point + proof.raw[64:]))


def edited_hex(lab: Lab) -> Case:
    """A document whose hex form, which the library ignores, is not its proof bytes."""
    challenge, response, proof = _with_proof(honest_response(lab))
    document = {"proof": list(proof.raw), "hex_proof": "0x" + proof.raw[::-1].hex(), "instances": [[proofs.felt(0)]]}
    try:
        return challenge, replace(response, proof=proofs.read_proof(document))
    except ProofError as error:
        raise SpotCheckError("proof", error, "one whose two forms agree") from error


def reused_proof(lab: Lab) -> Case:
    """The valid proof of the same weight block at an earlier position, put to the drawn one."""
    case = lab.challenge()
    unit, old = case[1].unit, lab.honest.rows(lab.position - 1, lab.layer)
    begin, end = lab.layout.span(unit)
    source = lab.layout.matrices[unit.operator].source
    return lab.proven(case, proofs.Statement(lab.weights(case), old[source], old[unit.operator][begin:end]))


def forged_witness(lab: Lab) -> Case:
    """Wrong outputs; the violation set to 0 in the witness file before proving, which the library
    does not mind."""
    challenge, opening = case = lab.challenge(lab.false_rows)
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
    challenge, opening = lab.challenge()
    return challenge, _opened(lab, opening.unit, lab.false_rows)


def wrong_operator(lab: Lab) -> Case:
    """A normalised row scaled up, everything after it consistent: caught at the operator that has
    no weights."""
    return lab.challenge(lab.rows | {"mlp.normed": lab.rows["mlp.normed"] * 2}, operator="mlp.norm")


def other_leaf(lab: Lab) -> Case:
    """Openings out of another answer's trace."""
    challenge, opening = lab.challenge(operator="attention.norm")
    _, other = lab.cheating("attention.norm")
    return challenge, replace(opening, leaves=other.leaves)


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


def run_spot_attacks(lab: Lab, names: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Rows of attack, what (words), expected, refused_by (empty: accepted).

    Args:
        names: of attacks; none: all of them, after an honest answer ("none").
    """
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
    """Whether the naive rule (the proof verifies and the violation is 0) takes other weights where
    they are private."""
    _, _, proof = _with_proof(private_parameters(lab))
    return lab.circuit(visibility="private").holds(proof) and proof.violation == 0


def _opened(lab: Lab, unit: Unit, rows: Mapping[str, np.ndarray]) -> SpotCheckResponse:
    """The honest operator's openings of a unit that nobody drew, or of rows that it did not
    commit."""
    who = lab.honest
    committed = who.commit(rows, lab.position, lab.layer)
    return who.open_unit(unit, committed)


def _rounded(weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The outputs that the circuit takes for right: weights (rows, columns) · x (columns,), int64,
    rounded."""
    return np.asarray((weights @ x + (1 << (proofs.SHIFT - 1))) >> proofs.SHIFT)
