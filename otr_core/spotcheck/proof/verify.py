"""Check the proof of a whole answer: that every chosen token of a receipt is what the portable lane
of the ordered model computes from the tokens before it.

This verifier holds the model and evaluates its matrices itself. It says nothing about who signed
the receipt: that is ``poea.verify_receipt``'s.
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
from otr_core.spotcheck.proof.facts import Facts, exchange_facts
from otr_core.spotcheck.proof.field import P
from otr_core.spotcheck.proof.layout import Sizes
from otr_core.spotcheck.proof.lookups import lookups
from otr_core.spotcheck.proof.party import HeldModel, Party
from otr_core.spotcheck.proof.relations import relate
from otr_core.spotcheck.proof.soundness import POLICY_BITS, soundness_bits
from otr_core.spotcheck.proof.transcript import Channel

HEADER = b"otr-answer-proof/2 succinct, model held by the verifier\n"
"""First bytes of a proof: its version and mode; any other is refused."""
LANE = "portable-1"
MOST_POSITIONS = 1024
"""More are refused: weights of attention take this verifier 16 bytes a pair of positions."""

CHECKS = {
    "header": "the proof is of this version and mode",
    "lane": "the receipt's lane is the one that is proven, and the model's",
    "model": "the model held = the manifest's = the order's",
    "order": "the receipt answers the order, query and response are the ones signed for",
    "tokens": "the response's tokens are those of the receipt, ended as it says",
    "mode": "a statement that this proof covers",
    "soundness": "the statement's sizes give the policy's soundness",
    "relations": "every message and relation, each by its own name",
}


@dataclass(frozen=True)
class ProvenAnswer:
    """An answer that has passed every check.

    Attributes:
        positions, tokens: fed and chosen tokens. temperature_milli: 0 of a greedy answer.
        soundness_bits: as computed from the sizes.
        proof_bytes: length of the proof.
    """

    positions: int
    tokens: int
    temperature_milli: int
    soundness_bits: float
    proof_bytes: int


def proven_statement(file: ReceiptFile, said: Query, response: Response) -> dict[str, Any]:
    """What is proven, as both sides bind it before any message."""
    return {
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
    channel.data("header", len(HEADER), lambda: HEADER)
    channel.absorb("statement", canonical_json(bound))
    root = channel.data("commitment", 32, lambda: root)
    party.facts = exchange_facts(channel, s, own)
    relate(party, *(np.array(side, np.int64)[: s.positions] for side in rotary_tables(party.architecture, s.positions)))
    relate_choice(party)
    lookups(party)
    open_claims(party, root)
    channel.finish()


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
) -> Sizes:
    """The checks that need no proof; sizes come from manifest, model and receipt alone.

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
    return Sizes(Dims.of(a), receipt.prompt_tokens, receipt.answer_tokens, saturation, milli)


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
    if proof[: len(HEADER)] != HEADER:
        raise AnswerProofError("header", ascii(proof[: len(HEADER)]), ascii(HEADER))
    sizes = check_proven(file, said, response, model_id=model_id, saturation=saturation, order=order)
    if soundness_bits(sizes) < least_bits:
        raise AnswerProofError("soundness", f"{soundness_bits(sizes):.1f} bits", f"at least {least_bits}")
    tokens = (*said.prompt_ids, *response.token_ids)
    draws = draws_of(file.order if order is None else order, sizes.answer)
    party = Party(Channel(proof), sizes, file.model.architecture, model, tokens, draws)
    converse(party, proven_statement(file, said, response), b"", None)
    return ProvenAnswer(sizes.positions, sizes.answer, sizes.temperature_milli, soundness_bits(sizes), len(proof))
