"""What ``otr prove`` and ``otr check`` do: a proof of the answer in a receipt file, and its verdict."""

from __future__ import annotations

from collections.abc import Callable
from math import log2
from pathlib import Path

from otr_core.encoding import canonical_json
from otr_core.errors import AnswerProofError, InputError, ProverError
from otr_core.lane.dims import Matrix
from otr_core.lane.formats import PRODUCT_SHIFT, SCORE_SHIFT
from otr_core.poea.client import PlacedOrder, open_response
from otr_core.poea.document import ReceiptFile, load_receipt_file
from otr_core.poea.message import Query, Response
from otr_core.poea.order import Order
from otr_core.spotcheck.proof.facts import MOST_ADDED
from otr_core.spotcheck.proof.layout import BELOW_BITS, ROOM_BITS, Sizes
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
    check_reach(model, sizes)
    bits = soundness_bits(sizes)
    if bits < POLICY_BITS:
        raise AnswerProofError("soundness", f"{bits:.1f} bits", f"at least {POLICY_BITS}")
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
    if not isinstance(channel, ProofJournal):
        return channel.proof
    channel.end()
    if channel.known:
        report("checking the proof, of which a part was kept")
        try:
            verify_answer(model, channel.proof, file, said, response)
        except AnswerProofError as error:  # whoever can write there, or a disk that lost a part
            raise ProverError(f"messages kept in {kept}: found others than were said ({error}); removed") from error
    return channel.proof


def check_reach(model: PortableModel, sizes: Sizes) -> None:
    """Whether whatever the model computes has a place in the proof, by the bounds that are proven of
    it when it is loaded. It depends on model and temperature alone, so that both sides find the same.

    Two logits lie at most twice their bound apart, and 1 for rounding; what the down projection adds
    has a place in every model.

    Raises:
        AnswerProofError: check "mode": an honest value could lie beyond.
    """
    most = {
        "logits": 1 << (Matrix.HEAD.shift + (BELOW_BITS if sizes.temperature_milli else ROOM_BITS) - 2),
        "score": MOST_ADDED << (SCORE_SHIFT - 1),
        "gate": MOST_ADDED << Matrix.GATE_UP.shift,
        "up": MOST_ADDED << Matrix.GATE_UP.shift,
        "product": MOST_ADDED << PRODUCT_SHIFT,
        "output": MOST_ADDED << Matrix.OUT.shift,
    }
    for kind, below in most.items():
        found = model.bounds.accumulators[kind]
        if not found < below:
            raise AnswerProofError("mode", f"a bound of {kind} of 2^{log2(found):.1f}", f"below 2^{log2(below):.0f}")


def verify_answer(
    model: PortableModel,
    proof: bytes,
    file: ReceiptFile,
    said: Query,
    response: Response,
    order: Order | None = None,
) -> ProvenAnswer:
    """``check_proof`` by a holder of the model, who checks before that a proof can be asked for.

    Raises:
        AnswerProofError, ReceiptError: the first check that fails.
    """
    own, saturation = model.manifest.model_id, model.bounds.saturation
    check_reach(model, check_proven(file, said, response, model_id=own, saturation=saturation, order=order))
    parts = (proof, file, said, response)
    return check_proof(*parts, model=model, model_id=own, saturation=saturation, order=order)


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
    return verify_answer(model, proof, file, said, response, None if placed is None else placed.order)
