"""What ``otr prove`` and ``otr check`` do: a proof of the answer in a receipt file, and its verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from otr_core.encoding import canonical_json
from otr_core.errors import AnswerProofError, InputError, ProverError
from otr_core.files import read_input
from otr_core.merkle import HASH_BYTES
from otr_core.poea.client import PlacedOrder, opened
from otr_core.poea.document import ReceiptFile, load_receipt_file
from otr_core.poea.message import Query, Response
from otr_core.poea.order import Order
from otr_core.spotcheck.proof.committed import ModelCommitment, WeightLayout, check_reach
from otr_core.spotcheck.proof.soundness import POLICY_BITS, soundness_bits
from otr_core.spotcheck.proof.transcript import Channel
from otr_core.spotcheck.proof.verify import (
    LANE,
    ProvenAnswer,
    check_committed,
    check_proof,
    check_proven,
    converse,
    draws_of,
    proven_statement,
)
from otr_core.spotcheck.proof.vouching import SignedStatement
from otr_node.models import model_folder
from otr_node.portable import PortableModel, load_portable
from otr_node.project import Project
from otr_node.proof.cells import tree_over
from otr_node.proof.hiding import HidingProver
from otr_node.proof.journal import ProofJournal
from otr_node.proof.model_cells import bound_bits, commit_to_model
from otr_node.proof.prover import AnswerProver
from otr_node.proof.secret import HidingSecret
from otr_node.proof.witness import make_witness

BYTES_PER_CELL, BYTES_FOR_TREES, BYTES_TO_HIDE = 14, 500_000_000, 500_000_000
"""Of the prover's memory at its most, measured: cells and the numbers they come from; a tree of fractions, whose
size has a bound; and where it hides rows beside their tails, with the salts of all columns."""


@dataclass(frozen=True)
class KeptCommitment:
    """A commitment to a model, and what its prover keeps beside it.

    Attributes:
        hashes: of the columns of the model's code words, the leaves under the commitment's root.
        seed: of what hides them; empty where nothing does. count: counts a proof under it, before it is said.

    Raises:
        InputError: they are not.
    """

    commitment: ModelCommitment
    hashes: bytes
    seed: bytes = b""
    count: Callable[[], object] = lambda: None

    def __post_init__(self) -> None:
        count = len(self.hashes) // HASH_BYTES
        if not count or count * HASH_BYTES != len(self.hashes):
            raise InputError(f"column hashes: found {len(self.hashes)} bytes, expected {HASH_BYTES} a column")
        if (root := tree_over(self.hashes).root) != self.commitment.root:
            raise InputError(f"column hashes: found root {root.hex()}, expected {self.commitment.root.hex()}")


def commit_for_proofs(
    model: PortableModel, report: Callable[[str], None], seed: bytes = b"", answers: int = 0
) -> KeptCommitment:
    """The commitment to a model, of the same seed the same bytes on every machine.

    Args:
        seed, answers: of one that hides the model, in so many proofs.

    Raises:
        AnswerProofError: check "mode": a family that is not proven.
    """
    if not model.dims.plain or model.manifest.lane != LANE:
        raise AnswerProofError("mode", f"{model.architecture.family} in {model.manifest.lane}", f"a Llama in {LANE}")
    layout = WeightLayout(model.dims, answers)
    report(f"encoding {layout.rows} rows of 2^{layout.row_bits} weights and hashing their columns")
    return KeptCommitment(*commit_to_model(model, layout, seed), seed)


def check_commitment(
    model: PortableModel, committed: ModelCommitment, report: Callable[[str], None], seed: bytes = b""
) -> None:
    """Make a commitment again from the weights, and where it hides them from its seed.

    Raises:
        AnswerProofError: check "commitment": it is another.
    """
    own = commit_for_proofs(model, report, seed, committed.answers).commitment
    if own != committed:
        raise AnswerProofError("commitment", committed.digest.hex(), f"{own.digest.hex()}, as the weights give it")


def false_vouchers(
    model: PortableModel, own: ModelCommitment, given: Sequence[SignedStatement]
) -> list[SignedStatement]:
    """Which statements about a model are false, as a holder of its weights finds.

    Args:
        own: the commitment that the weights give.

    Raises:
        InputError: one is about another model or lane, of which these weights say nothing.
        ReceiptError: check "signature": one is no key's.
    """
    for each in given:
        told, held = (each.statement.model_id.hex(), each.statement.lane), (own.model_id.hex(), model.manifest.lane)
        by = each.signer.hex()  # whose false word would otherwise be nobody's
        if told != held:
            raise InputError(f"statement by {by}: found model {told}, expected {held}, which is held")
    return [each for each in given if each.statement.commitment != own.digest]


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
    under: KeptCommitment | None = None,
) -> bytes:
    """A proof of the answer.

    Args:
        under: for a verifier who holds this commitment to the model; None: one who holds the model.
        kept: where messages are kept until the proof is whole, so that a prover that was ended goes
            on; None: nowhere.

    Raises:
        AnswerProofError, ReceiptError: receipt, tokens and model do not belong together, or a
            statement beyond what is proven. ProverError: the answer is not the model's. InputError:
            ``kept``, or the folder for temporary files, cannot be written.
    """
    committed = None if under is None else under.commitment
    hides = committed is not None and committed.answers > 0
    own = model.manifest.model_id
    sizes = check_proven(file, said, response, model_id=own, saturation=model.bounds.saturation, hidden=hides)
    check_reach(bound_bits(model), sizes)
    layout = None if committed is None else WeightLayout(model.dims, committed.answers)
    if committed is not None and committed.model_id != model.manifest.model_id:
        raise AnswerProofError("model", f"a commitment to {committed.model_id.hex()}", model.manifest.model_id.hex())
    bits = soundness_bits(sizes, layout)
    if bits < POLICY_BITS:
        raise AnswerProofError("soundness", f"{bits:.1f} bits", f"at least {POLICY_BITS}")
    tokens, bound = (*said.prompt_ids, *response.token_ids), proven_statement(file, said, response, committed)
    draws = draws_of(file.order, sizes.answer)
    # A prover that hides draws anew, and has nothing to go on from.
    channel = Channel() if kept is None or hides else ProofJournal(kept)
    prover = HidingProver if hides else AnswerProver
    side = prover(channel, sizes, model.architecture, model, tokens, draws, committed)
    if under is not None:
        side.column_hashes, side.seed = under.hashes, under.seed
    side.report = report
    side.refuse_beyond()
    cells = sizes.rows << sizes.row_bits
    needed = cells * BYTES_PER_CELL + BYTES_FOR_TREES + BYTES_TO_HIDE * hides
    report(f"{cells / 1e6:.1f} million cells: about {needed / 1e9:.1f} GB beside the model")
    report(f"running {sizes.positions} positions once more")
    witness = make_witness(model, sizes, tokens, progress=report, draws=draws)
    facts = witness.facts
    if under is not None:
        under.count()
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
            if committed is None:
                verify_answer(model, channel.proof, file, said, response)
            else:
                check_committed(channel.proof, file, said, response, committed=committed)
        except AnswerProofError as error:  # whoever can write there, or a disk that lost a part
            raise ProverError(f"messages kept in {kept}: found others than were said ({error}); removed") from error
    return channel.proof


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
    sizes = check_proven(file, said, response, model_id=own, saturation=saturation, order=order)
    check_reach(bound_bits(model), sizes)
    parts = (proof, file, said, response)
    return check_proof(*parts, model=model, model_id=own, saturation=saturation, order=order)


def prove_file(
    project: Project,
    raw: bytes,
    placed: PlacedOrder | None,
    folder: Path | None,
    report: Callable[[str], None],
    kept: Path | None = None,
    commitment: Path | None = None,
) -> bytes:
    """A proof of the answer in a receipt file.

    Args:
        commitment: file of the commitment that the verifier holds; the hashes beside it are made
            again where they are not there.
    """
    file = load_receipt_file(raw)
    said, response = opened(file, placed)
    stated = None if commitment is None else ModelCommitment.read(commitment)
    model = held_model(project, file, folder, report)
    under = None if commitment is None or stated is None else kept_commitment(model, commitment, stated, report)
    return prove_answer(model, file, said, response, report, kept, under)


def kept_commitment(
    model: PortableModel, path: Path, stated: ModelCommitment, report: Callable[[str], None]
) -> KeptCommitment:
    """A commitment with what its prover keeps beside its file: the secret of one that hides the model, and hashes,
    which are made again where they are not there.

    Raises:
        InputError: there is no secret, or none that can be used.
    """
    beside, secret = hashes_beside(path), secret_of(path, stated)
    seed = b"" if secret is None else secret.seed
    if beside.exists():
        hashes = read_input(beside, what="column hashes")
    else:
        report(f"{beside} is not there: making it again")
        hashes = commit_for_proofs(model, report, seed, stated.answers).hashes
    if secret is None:
        return KeptCommitment(stated, hashes)
    return KeptCommitment(stated, hashes, seed, lambda: secret.count(stated.answers))


def hashes_beside(commitment: Path) -> Path:
    """Where the prover keeps the column hashes of a commitment."""
    return commitment.with_name(f"{commitment.name}.columns")


def secret_of(path: Path, stated: ModelCommitment) -> HidingSecret | None:
    """What hides a commitment, from beside its file; None of one that hides nothing.

    Raises:
        InputError: there is none.
    """
    return HidingSecret.read(secret_beside(path), stated.digest) if stated.answers else None


def seed_of(path: Path | None, stated: ModelCommitment) -> bytes:
    """The seed of what hides a commitment; empty of one that hides nothing.

    Raises:
        InputError: there is none beside its file.
    """
    secret = None if path is None else secret_of(path, stated)
    return b"" if secret is None else secret.seed


def secret_beside(commitment: Path) -> Path:
    """Where the prover keeps what hides a commitment."""
    return commitment.with_name(f"{commitment.name}.secret")


def check_file(
    project: Project,
    proof: bytes,
    raw: bytes,
    placed: PlacedOrder | None,
    folder: Path | None,
    report: Callable[[str], None],
    commitment: ModelCommitment | None = None,
    seed: bytes = b"",
) -> ProvenAnswer:
    """The verdict on a proof of the answer in a receipt file.

    Args:
        commitment: to the model, which is made again from the weights before. seed: of what hides it.

    Raises:
        AnswerProofError, ReceiptError: the first check that fails.
    """
    file = load_receipt_file(raw)
    said, response = opened(file, placed)
    order = None if placed is None else placed.order
    model = held_model(project, file, folder, report)
    if commitment is None:
        return verify_answer(model, proof, file, said, response, order)
    check_commitment(model, commitment, report, seed)
    return check_committed(proof, file, said, response, committed=commitment, order=order)
