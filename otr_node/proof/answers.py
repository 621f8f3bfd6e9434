"""What ``otr prove`` and ``otr check`` do: a proof of the answer in a receipt file, and its verdict."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from otr_core.encoding import canonical_json
from otr_core.errors import InputError
from otr_core.poea.client import PlacedOrder, open_response
from otr_core.poea.document import ReceiptFile, load_receipt_file
from otr_core.poea.message import Query, Response
from otr_core.spotcheck.proof.soundness import POLICY_BITS, soundness_bits
from otr_core.spotcheck.proof.transcript import Channel
from otr_core.spotcheck.proof.verify import (
    LANE,
    ProvenAnswer,
    check_proof,
    check_proven,
    converse,
    draws_of,
    proven_statement,
)
from otr_node.models import model_folder
from otr_node.portable import PortableModel, load_portable
from otr_node.project import Project
from otr_node.proof.journal import ProofJournal
from otr_node.proof.prover import AnswerProver
from otr_node.proof.witness import make_witness

MOST_PROOF_BYTES = 2**28
"""Of a proof file; a larger one is refused unread."""
BYTES_PER_CELL = 36
"""Of the prover's memory at its most, measured: cells, claims' weights, and both bound once."""


def opened(file: ReceiptFile, placed: PlacedOrder | None) -> tuple[Query, Response]:
    """What query and response say.

    Args:
        placed: the client's own order; None: both travelled in the open.

    Raises:
        InputError: they are sealed, and no order opens them.
    """
    if placed is not None:
        return placed.said, open_response(file, placed)
    if file.query.plain is None or file.response.plain is None:
        raise InputError("receipt file: found a sealed query or response, expected --order, which opens it")
    return Query.from_json(file.query.plain, sealed=False), Response.from_json(file.response.plain)


def held_model(
    project: Project, file: ReceiptFile, folder: Path | None, report: Callable[[str], None]
) -> PortableModel:
    """The model of a receipt's lane, from ``folder`` (default: SmolLM2).

    Raises:
        InputError: another lane's receipt. ModelError: not a usable checkpoint.
    """
    if file.receipt.lane != LANE:
        raise InputError(f"receipt lane: found {file.receipt.lane}, expected {LANE}, the only one that is proven")
    report("loading the model, rounding it and proving its bounds")
    return load_portable(folder or model_folder(project, report=report))


def prove_answer(
    model: PortableModel,
    file: ReceiptFile,
    said: Query,
    response: Response,
    report: Callable[[str], None],
    kept: Path | None = None,
) -> bytes:
    """A proof of the answer.

    Args:
        kept: where messages are kept until the proof is whole, so that a prover that was ended goes
            on; None: nowhere.

    Raises:
        AnswerProofError, ReceiptError: receipt, tokens and model do not belong together, or a
            statement beyond what is proven. ProverError: the answer is not the model's. InputError:
            ``kept``, or the folder for temporary files, cannot be written.
    """
    sizes = check_proven(file, said, response, model_id=model.manifest.model_id, saturation=model.bounds.saturation)
    bits = soundness_bits(sizes)
    if bits < POLICY_BITS:
        raise InputError(f"answer of {sizes.positions} positions: {bits:.1f} bits of soundness, expected {POLICY_BITS}")
    tokens, bound = (*said.prompt_ids, *response.token_ids), proven_statement(file, said, response)
    draws = draws_of(file.order, sizes.answer)
    channel = Channel() if kept is None else ProofJournal(kept)
    side = AnswerProver(channel, sizes, model.architecture, model, tokens, draws)
    side.report = report
    side.refuse_beyond()
    cells = sizes.rows << sizes.row_bits
    report(f"{cells / 1e6:.1f} million cells: about {cells * BYTES_PER_CELL / 1e9:.1f} GB beside the model")
    report(f"running {sizes.positions} positions once more")
    witness = make_witness(model, sizes, tokens, progress=report, draws=draws)
    facts = witness.facts
    report("committing to the cells")
    root = side.commit(witness)
    del witness  # the prover lets go of it before its memory is at its most
    if isinstance(channel, ProofJournal):
        channel.begin(canonical_json(bound), root)
        if channel.known:
            report(f"going on after {channel.known} bytes of a proof that was begun")
    report("proving the relations")
    converse(side, bound, root, facts)
    if isinstance(channel, ProofJournal):
        channel.end()
    return channel.proof


def prove_file(
    project: Project,
    raw: bytes,
    placed: PlacedOrder | None,
    folder: Path | None,
    report: Callable[[str], None],
    kept: Path | None = None,
) -> bytes:
    """A proof of the answer in a receipt file."""
    file = load_receipt_file(raw)
    said, response = opened(file, placed)
    return prove_answer(held_model(project, file, folder, report), file, said, response, report, kept)


def check_file(
    project: Project,
    proof: bytes,
    raw: bytes,
    placed: PlacedOrder | None,
    folder: Path | None,
    report: Callable[[str], None],
) -> ProvenAnswer:
    """The verdict on a proof of the answer in a receipt file.

    Raises:
        AnswerProofError, ReceiptError: the first check that fails.
    """
    file = load_receipt_file(raw)
    said, response = opened(file, placed)
    model = held_model(project, file, folder, report)
    return check_proof(
        proof,
        file,
        said,
        response,
        model=model,
        model_id=model.manifest.model_id,
        saturation=model.bounds.saturation,
        order=None if placed is None else placed.order,
    )
