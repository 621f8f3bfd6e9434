"""Both sides of a spot check that was drawn (``otr_core.spotcheck.protocol``): what an operator signs
and sends, and what a verifier judges it with. They exchange files alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from coincurve import PrivateKey

from otr_core.errors import AnswerProofError, InputError, SpotCheckError
from otr_core.poea.document import ReceiptFile
from otr_core.poea.message import Query, Response
from otr_core.poea.order import keccak256
from otr_core.spotcheck.proof.committed import ModelCommitment
from otr_core.spotcheck.proof.verify import COMMITTED_HEADER, HEADER
from otr_core.spotcheck.protocol import BEYOND, Judge, SpotCheck, Stage, proof_body, proof_judge, unit_judge
from otr_core.spotcheck.query import examine
from otr_core.spotcheck.units import Layout
from otr_core.spotcheck.verify import SpotCheckResponse, Verifier
from otr_core.spotcheck.wire import OperatorMessage, answers_json, message_hash
from otr_node import prover
from otr_node.generate import Answer, replay
from otr_node.portable import PortableModel
from otr_node.proof.answers import KeptCommitment, prove_answer, verify_answer
from otr_node.recorder import TraceRecorder
from otr_node.spotchecks import CheckedOperator, embedding, weight_points

Circuits = Mapping[str, prover.Circuit]
Report = Callable[[str], None]


def key_address(key: bytes) -> bytes:
    """20-byte address of a 32-byte secret scalar."""
    return keccak256(PrivateKey(key).public_key.format(compressed=False)[1:])[12:]


def sign_message(key: bytes, duty: bytes, kind: str, body: Any) -> bytes:
    """A message about a duty, signed with a 32-byte secret scalar: the bytes that travel."""
    raw = PrivateKey(key).sign_recoverable(message_hash(duty, kind, body), hasher=None)
    return OperatorMessage(duty, kind, body, raw[:64] + bytes([27 + raw[64]])).dump()


def circuits_for(model: PortableModel, shares: Mapping[str, int], store: Path) -> Circuits:
    """A circuit for each shape that units of these operators have, out of ``store``."""
    layout = Layout(model.architecture)
    shapes = {layout.shape(name) for name in shares if name in layout.matrices}
    return {shape.name: prover.make_circuit(shape, store) for shape in sorted(shapes, key=repr)}


def verifier_of(model: PortableModel, circuits: Circuits) -> Verifier:
    """A verifier who holds the model, and makes the points of its weights itself."""
    layout = Layout(model.architecture)

    def registered(layer: int, operator: str, block: int) -> tuple[bytes, ...]:
        return weight_points(model, layout, [(layer, operator, block)], circuits)[0][layer, operator, block]

    return Verifier(layout, circuits, registered, model.bounds.saturation, partial(embedding, model))


def operator_of(
    model: PortableModel, file: ReceiptFile, said: Query, response: Response, circuits: Circuits
) -> CheckedOperator:
    """The operator of an answer, out of its receipt file: the answer is run again for its trace.

    Raises:
        InputError: the run gives another trace than the one that was signed.
    """
    recorder = TraceRecorder(response.trace_seed)
    replay(model, said.prompt_ids, response.token_ids, recorder)
    trace = recorder.finish((*said.prompt_ids, *response.token_ids), len(said.prompt_ids), said.prompt_seed)
    if trace.root != file.receipt.trace_root:
        raise InputError(
            f"trace: found root {trace.root.hex()}, expected the receipt's {file.receipt.trace_root.hex()}"
        )
    answer = Answer(said.prompt_ids, response.token_ids, file.receipt.finish, trace, dict(file.configuration))
    return CheckedOperator(model, answer, file.receipt, response.trace_seed, Layout(model.architecture), circuits)


def rows_message(check: SpotCheck, who: CheckedOperator, key: bytes) -> bytes:
    """What an operator publishes when the place of a check is drawn.

    Raises:
        SpotCheckError: check ``stage``.
    """
    _at(check, Stage.PLACED)
    return sign_message(key, check.duty, "rows", _committed(check, who).root.hex())


def units_message(check: SpotCheck, who: CheckedOperator, key: bytes) -> bytes:
    """The answer to the units that were drawn.

    Raises:
        SpotCheckError: check ``stage``. ProverError: the prover failed.
    """
    _at(check, Stage.DUE)
    committed, answers = _committed(check, who), list[SpotCheckResponse]()

    def unit(number: int) -> None:
        challenge = check.challenge(number)
        answers.append(who.respond(challenge, committed))
        if answers[-1].unit.operator in who.layout.matrices:
            who.statement(challenge, answers[-1])  # tells whether it can be decided

    examine(check.terms.units, unit)
    return sign_message(key, check.duty, "units", answers_json(tuple(answers)))


def check_named(check: SpotCheck, under: ModelCommitment | None) -> None:
    """
    Raises:
        SpotCheckError: check ``commitment``: not the one that the terms name, or none though they name one.
    """
    own = bytes(32) if under is None else under.digest
    if own != check.terms.circuits:
        raise SpotCheckError("commitment", own.hex(), f"{check.terms.circuits.hex()}, which the terms name")


def proof_message(
    check: SpotCheck,
    model: PortableModel,
    said: Query,
    response: Response,
    key: bytes,
    report: Report,
    under: KeptCommitment | None = None,
) -> tuple[bytes, bytes]:
    """The answer where a proof is demanded: the message, and the proof that it names.

    Where no proof covers the answer (``BEYOND``), an empty one says so; a dispute decides then.

    Args:
        under: the commitment that the terms name; None where they name none.

    Raises:
        SpotCheckError: checks ``stage``, and ``commitment``: the terms name another. ProverError: the answer
            is not the model's.
    """
    _at(check, Stage.DUE)
    check_named(check, None if under is None else under.commitment)
    try:
        proof = prove_answer(model, check.file, said, response, report, under=under)
    except AnswerProofError as error:
        if error.check not in BEYOND:
            raise
        proof = HEADER if under is None else COMMITTED_HEADER
    return sign_message(key, check.duty, "proof", proof_body(proof)), proof


def drawn_judge(check: SpotCheck, model: PortableModel, said: Query, response: Response, circuits: Circuits) -> Judge:
    """A judge who holds the model, and circuits where units are demanded."""
    if check.terms.demand == "units":
        return unit_judge(verifier_of(model, circuits), model.manifest.model_id)

    def verify(file: ReceiptFile, proof: bytes) -> None:
        verify_answer(model, proof, file, said, response)

    return proof_judge(verify, model.manifest.model_id)


def _committed(check: SpotCheck, who: CheckedOperator) -> Any:
    place = (check.position, check.layer)
    return who.commit(who.rows(*place), *place)


def _at(check: SpotCheck, stage: Stage) -> None:
    if check.stage is not stage:
        raise SpotCheckError("stage", check.stage.name, stage.name)
