"""Check the proof of a whole answer: that every chosen token of a receipt is what the portable lane
of the ordered model computes from the tokens before it.

A verifier who holds the model evaluates its matrices itself (``check_proof``). One who holds a
commitment to it alone has them opened (``check_committed``), and trusts whoever made or vouched for
that commitment that it is of the model with its id. Neither says who signed the receipt: that is
``poea.verify_receipt``'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from otr_core.encoding import canonical_json
from otr_core.errors import AnswerProofError
from otr_core.lane.architecture import Architecture
from otr_core.lane.dims import Dims
from otr_core.lane.sampling import draw
from otr_core.lane.tables import turns
from otr_core.poea.document import ReceiptFile
from otr_core.poea.message import Query, Response
from otr_core.poea.order import Order
from otr_core.poea.verify import check_answered
from otr_core.spotcheck.proof.choice import relate_choice
from otr_core.spotcheck.proof.commitment import open_claims
from otr_core.spotcheck.proof.committed import ModelCommitment, check_reach
from otr_core.spotcheck.proof.facts import Facts, exchange_facts
from otr_core.spotcheck.proof.field import P
from otr_core.spotcheck.proof.hiding import open_hidden, say_hidden
from otr_core.spotcheck.proof.layout import Sizes
from otr_core.spotcheck.proof.lookups import lookups
from otr_core.spotcheck.proof.masked import Book
from otr_core.spotcheck.proof.party import HeldModel, Party
from otr_core.spotcheck.proof.relations import relate
from otr_core.spotcheck.proof.soundness import POLICY_BITS, soundness_bits
from otr_core.spotcheck.proof.transcript import Channel

HEADER = b"otr-answer-proof/2 succinct, model held by the verifier\n"
"""First bytes of a proof: its version and mode; any other is refused."""
COMMITTED_HEADER = b"otr-answer-proof/2 succinct, model committed to\n"
"""The same where the verifier holds a commitment to the model."""
HIDING_HEADER = b"otr-answer-proof/2 zero knowledge, model committed to\n"
"""The same where that commitment hides the model."""
MOST_PROOF_BYTES = 2**28
"""Of a proof file; a larger one is refused unread."""
HELD = "held"
"""How a verifier knew the model who evaluated its matrices."""
LANE = "portable-1"
MOST_POSITIONS = 1024
"""More are refused: weights of attention take this verifier 16 bytes a pair of positions."""

CHECKS = {
    "header": "the proof is of this version and mode",
    "lane": "the receipt's lane is the one that is proven, and the model's",
    "model": "the model held, or committed to, = the manifest's = the order's",
    "commitment": "a commitment is of as many layers as the manifest says",
    "order": "the receipt answers the order, query and response are the ones signed for",
    "tokens": "the response's tokens are those of the receipt, ended as it says",
    "mode": "a statement that this proof covers",
    "soundness": "the statement's sizes give the policy's soundness",
    "relations": "every message and relation, each by its own name",
    "ledger": "no claim is left that nothing vouches for",
}


@dataclass(frozen=True)
class ProvenAnswer:
    """An answer that has passed every check.

    Attributes:
        positions, tokens: fed and chosen tokens. temperature_milli: 0 of a greedy answer.
        soundness_bits: as computed from the sizes.
        proof_bytes: length of the proof.
        model: how the verifier knew the model: ``HELD``, or by which commitment, in hex.
    """

    positions: int
    tokens: int
    temperature_milli: int
    soundness_bits: float
    proof_bytes: int
    model: str


def proven_statement(
    file: ReceiptFile, said: Query, response: Response, committed: ModelCommitment | None = None
) -> dict[str, Any]:
    """What is proven, as both sides bind it before any message.

    Args:
        committed: to the model; None where the verifier holds it.
    """
    under = {} if committed is None else {"model_commitment": committed.digest.hex()}
    return {
        **under,
        "format": "otr-answer-statement/1",
        "field": str(P),
        "model_id": file.model.model_id.hex(),
        "order_id": file.order.id.hex(),
        "receipt": file.receipt.signing_hash(file.order.domain).hex(),
        "lane": file.receipt.lane,
        "decoding": file.order.decoding.to_json(),
        "prompt": list(said.prompt_ids),
        "answer": list(response.token_ids),
    }


def draws_of(order: Order, count: int) -> tuple[int, ...]:
    """The draws of an answer's first steps; none of a greedy one."""
    if not order.decoding.temperature_milli:
        return ()
    return tuple(draw(order.decoding.seed, step, order.id) for step in range(count))


def converse(party: Party, bound: dict[str, Any], root: bytes, own: Facts | None) -> None:
    """The whole conversation, as both sides run it.

    Args:
        bound: ``statement``. root: of the committed cells, if this side sends. own: facts, likewise.

    Raises:
        AnswerProofError: the first check that fails.
    """
    channel, s = party.channel, party.sizes
    party.refuse_beyond()
    header = header_of(party.committed)
    channel.data("header", len(header), lambda: header)
    channel.absorb("statement", canonical_json(bound))
    root = channel.data("commitment", 32, lambda: root)
    mask_root = b""
    if party.hides:
        mask_root = channel.data("mask commitment", 32, lambda: party.hider.mask_root)
        channel.book = party.hider.book if channel.sends else Book()
    if not s.hidden:
        party.facts = exchange_facts(channel, s, own)
    relate_all(party)
    opened = [party.ledger]
    if party.hides:
        say_hidden(party, mask_root)
        open_hidden(party, root)
    else:
        open_claims(party, party.ledger, root, lambda: party.sender)
    if party.committed is not None and party.weight_ledger is not None:
        opened.append(party.weight_ledger)
        if not party.hides:
            opener = lambda: party.sender.weight_opener()  # noqa: E731
            open_claims(party, party.weight_ledger, party.committed.root, opener, "weights ")
    channel.finish()
    for ledger in opened:
        if ledger.open and not channel.sends:
            raise AnswerProofError("ledger", f"{ledger.open} open claims", "none")


def relate_all(party: Party) -> None:
    """Every relation and look-up."""
    positions = party.sizes.positions
    relate(party, *(np.array(side, np.int64)[:positions] for side in rotary_tables(party.architecture, positions)))
    relate_choice(party)
    lookups(party)


def header_of(committed: ModelCommitment | None) -> bytes:
    """The first bytes of a proof of this mode."""
    if committed is None:
        return HEADER
    return HIDING_HEADER if committed.answers else COMMITTED_HEADER


def rotary_tables(a: Architecture, positions: int) -> tuple[list[list[int]], list[list[int]]]:
    """Cosines and sines; in few sizes, so that the table is seldom made anew."""
    room = 1 << max(8, (positions - 1).bit_length())
    return turns(a, room)[0]


def check_proven(
    file: ReceiptFile,
    said: Query,
    response: Response,
    *,
    model_id: bytes,
    saturation: tuple[int, ...],
    order: Order | None = None,
    hidden: bool = False,
) -> Sizes:
    """The checks that need no proof; sizes come from manifest, model, commitment and receipt alone.

    Args:
        hidden: whether the commitment to the model hides it, so that nothing stands in the clear.

    Raises:
        AnswerProofError, ReceiptError: the first that fails.
    """
    receipt, ordered, a = file.receipt, file.order if order is None else order, file.model.architecture
    if not receipt.lane == file.model.lane == LANE:
        raise AnswerProofError("lane", f"{receipt.lane} of a model of {file.model.lane}", LANE)
    if not model_id == file.model.model_id == ordered.model_id:
        found = f"{model_id.hex()} held, {file.model.model_id.hex()} in the manifest"
        raise AnswerProofError("model", found, ordered.model_id.hex())
    if not receipt.order_id == ordered.id == file.order.id:
        raise AnswerProofError("order", receipt.order_id.hex(), ordered.id.hex())
    if file.query.digest != ordered.query_digest or file.response.digest != receipt.response_digest:
        raise AnswerProofError("order", "another query or response", "those of order and receipt")
    check_answered(file, said, response)
    if not Dims.of(a).plain:
        found = f"{a.family} with {', '.join(a.added)}"
        raise AnswerProofError("mode", found, "a plain Llama's operators")
    chosen, most = receipt.answer_tokens, ordered.decoding.max_tokens
    if chosen > most or (receipt.finish == "length" and chosen != most):
        raise AnswerProofError("tokens", f"{chosen} tokens, ended by {receipt.finish!r}", f"{most}, or a stop before")
    if receipt.positions >= a.context or receipt.positions > MOST_POSITIONS:
        raise AnswerProofError("mode", f"{receipt.positions} positions", f"at most {min(a.context, MOST_POSITIONS)}")
    milli = ordered.decoding.temperature_milli
    return Sizes(Dims.of(a), receipt.prompt_tokens, receipt.answer_tokens, saturation, milli, hidden)


def check_proof(
    proof: bytes,
    file: ReceiptFile,
    said: Query,
    response: Response,
    *,
    model: HeldModel,
    model_id: bytes,
    saturation: tuple[int, ...],
    order: Order | None = None,
    least_bits: float = POLICY_BITS,
) -> ProvenAnswer:
    """Check a proof, in the order of ``CHECKS``.

    Args:
        said, response: the opened query and response. model, model_id, saturation: the model as its
            holder loaded it. order: the reader's own copy; None: the file's is taken.
        least_bits: of soundness.

    Raises:
        AnswerProofError, ReceiptError: the first check that fails.
    """
    _check_header(proof, HEADER)
    sizes = check_proven(file, said, response, model_id=model_id, saturation=saturation, order=order)
    bound = proven_statement(file, said, response)
    party = Party(Channel(proof), sizes, file.model.architecture, model, *_tokens_and_draws(file, bound))
    return _conclude(party, bound, least_bits, len(proof))


def check_committed(
    proof: bytes,
    file: ReceiptFile,
    said: Query,
    response: Response,
    *,
    committed: ModelCommitment,
    order: Order | None = None,
    least_bits: float = POLICY_BITS,
) -> ProvenAnswer:
    """Check a proof against a commitment to the model, without any of its weights.

    What is accepted is true of the model that was committed to. That it is the one with this id, and
    that its bounds are as said, is the word of whoever vouches for the commitment's digest.

    Args:
        as ``check_proof``, but for committed: the commitment that this verifier trusts.

    Raises:
        AnswerProofError, ReceiptError: the first check that fails.
    """
    _check_header(proof, header_of(committed))
    own, saturation, hidden = committed.model_id, committed.saturation, committed.answers > 0
    sizes = check_proven(file, said, response, model_id=own, saturation=saturation, order=order, hidden=hidden)
    check_reach(committed.bound_bits, sizes)
    bound = proven_statement(file, said, response, committed)
    party = Party(Channel(proof), sizes, file.model.architecture, None, *_tokens_and_draws(file, bound), committed)
    return _conclude(party, bound, least_bits, len(proof))


def _check_header(proof: bytes, header: bytes) -> None:
    if proof[: len(header)] != header:
        raise AnswerProofError("header", ascii(proof[: len(header)]), ascii(header))


def _tokens_and_draws(file: ReceiptFile, bound: dict[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """All tokens of a statement, and the draws of its answer; the file's order is the reader's own, by its id."""
    return (*bound["prompt"], *bound["answer"]), draws_of(file.order, len(bound["answer"]))


def _conclude(party: Party, bound: dict[str, Any], least_bits: float, proof_bytes: int) -> ProvenAnswer:
    """What all that is said comes to."""
    sizes, layout = party.sizes, party.layout
    bits = soundness_bits(sizes, layout)
    if bits < least_bits:
        raise AnswerProofError("soundness", f"{bits:.1f} bits", f"at least {least_bits}")
    converse(party, bound, b"", None)
    how = HELD if party.committed is None else party.committed.digest.hex()
    return ProvenAnswer(sizes.positions, sizes.answer, sizes.temperature_milli, bits, proof_bytes, how)
