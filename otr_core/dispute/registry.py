"""What the court's registry knows of keys, and what it can tell by that from a receipt alone.

``registry.vy`` has the same conditions under the same names, in the same order. A receipt that
breaks one is false whatever was computed: its signer has put a statement under an order that no
answer to this order can make.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from otr_core.dispute.state import MOST_STOP_IDS, NOTHING, RegisteredModel
from otr_core.errors import ReceiptError
from otr_core.lane.blocks import BF16_BLOCK, FP32
from otr_core.lane.dims import PIECE_VALUES, Dims
from otr_core.lane.tensor_program import LEAST_TILE, TensorDims
from otr_core.poea.order import Domain, Order
from otr_core.poea.receipt import Receipt, configuration_digest, recover_signer

NOTICE_S = 3_600
"""Seconds after which a revocation counts: a batch of answers by that key may be on its way."""


MOST_TILE = 256
"""Values of a tile, which an opening of the contract can hold."""


@functools.cache
def configuration_of(lane: str) -> bytes:
    """Digest of the only configuration of a lane that the court judges: no other fact changes a bit of
    an answer."""
    return configuration_digest({"lane": lane})


def judgeable(d: Dims, stop_ids: Sequence[int] = ()) -> bool:
    """Whether the contracts can hold every place, tile and opening of a model's disputes.

    Without it the honest side of some dispute has no move that the contract takes, and loses by its
    clock: a tile of 512 values is longer than an opening, an odd one has no halves to turn, and a
    number that has more bits than its place in a packed word would be another number. What ends an
    answer is of the vocabulary.
    """
    if len(stop_ids) > MOST_STOP_IDS or not all(0 <= token < d.vocab for token in stop_ids):
        return False
    counts = (d.hidden, d.intermediate, d.layers, d.heads, d.kv_heads, d.vocab, d.context)
    norms = [norm for norm in d.norms if norm is not None]
    if isinstance(d, TensorDims) and not _whole_blocks(d):
        return False
    small = min(counts) > 0 and all(0 <= each < 2**62 for each in (*counts, d.score_cap, d.logit_cap))
    if not small or not 2 <= d.tile <= MOST_TILE or d.tile % 2 or d.heads % d.kv_heads:
        return False
    longest = max(d.hidden + d.tile, 2 * d.intermediate, d.vocab, d.heads * (d.context + d.tile))
    packed = longest // d.tile < 2**24 and d.layers * d.context < 2**32 and (d.sliding | d.second_turns) < 2**256
    return packed and all(
        0 <= norm.epsilon < 2**62 and 0 <= norm.numerator < 2**52 and 0 <= norm.drop < 64 for norm in norms
    )


def _whole_blocks(d: TensorDims) -> bool:
    """Whether each step of the lane ``h100-bf16`` reads four openings at most, of places that fit."""
    terms, longest = BF16_BLOCK.terms, d.kv * (d.context + d.tile)  # the values by column
    # Its rows are whole tiles, and no key lies in two pieces.
    if PIECE_VALUES % d.tile or d.hidden % d.tile or d.intermediate % d.tile:
        return False
    fits = d.tile >= LEAST_TILE and d.hidden % terms == d.intermediate % terms == 0
    # A product of one block is judged with what it is added to: five openings where it takes two tiles.
    fits = fits and (d.tile >= terms or terms not in (d.heads * d.tile, d.intermediate))
    return fits and d.hidden < 2**24 and d.epsilon < FP32.infinity and longest // d.tile < 2**24


@dataclass(frozen=True)
class Key:
    """A key of an operator's TEE: the model it was attested for, its 20-byte address, and the class
    of the platform that it was attested on (vendor, generation and firmware: what breaks
    together)."""

    operator: str
    model_id: bytes
    address: bytes
    platform: bytes = NOTHING


def receipt_fault(
    domain: Domain,
    operator: str,
    key: Key | None,
    model: RegisteredModel | None,
    order: Order,
    receipt: Receipt,
    signature: bytes,
    revoked: bool = False,
    platform: bytes = NOTHING,
) -> str:
    """Name of the first of these conditions that a receipt of ``operator`` breaks, "" if none:

    * ``model``: the ordered model is registered.
    * ``key``: the key that the receipt names is registered, for this operator.
    * ``revoked``: neither it nor its class of platforms was revoked when the batch was committed.
    * ``platform``: the key's class of platforms, if it has one, is the one that the batch was
      committed under: so a class that is revoked, or held up, reopens every answer by its keys.
    * ``measured-model``: that key was attested for the ordered model.
    * ``lane``: the lane is the model's, which the court can judge.
    * ``trace-shape``: layers and rows of the trace are the model's. Of another shape it has no
      program that it could be judged by.
    * ``configuration``: it was computed as everything in this lane is.
    * ``prompt``: as many tokens were given as the client has ordered.
    * ``length``: a token was given and one was chosen, no more than were ordered, and all fit the
      model's context.
    * ``finish``: an answer that ended for its length has all the tokens ordered.
    * ``signature``: that key has signed the receipt, in canonical form, under the court's domain.

    Args:
        domain: of the court. key, model: what is registered under the receipt's key id and the
            order's model id. order: the one whose id the receipt holds. revoked: whether the key
            was revoked by then. platform: class of platforms that the batch was committed under.
    """
    if model is None:
        return "model"
    if key is None or key.operator != operator:
        return "key"
    if revoked:
        return "revoked"
    if key.platform not in (NOTHING, platform):
        return "platform"
    if key.model_id != order.model_id:
        return "measured-model"
    d, most = model.dims, order.decoding.max_tokens
    if receipt.lane != d.lane:
        return "lane"
    if (receipt.layers, receipt.output_bytes, receipt.kv_bytes) != (d.layers, 4 * d.hidden, 4 * d.kv):
        return "trace-shape"
    if receipt.configuration_digest != configuration_of(d.lane):
        return "configuration"
    if receipt.prompt_tokens != order.prompt_tokens:
        return "prompt"
    if receipt.prompt_tokens < 1 or not 1 <= receipt.answer_tokens <= most:
        return "length"
    if receipt.prompt_tokens + receipt.answer_tokens > d.context:
        return "length"
    if receipt.finish == "length" and receipt.answer_tokens != most:
        return "finish"
    try:
        signer = recover_signer(domain, receipt, signature)
    except ReceiptError:
        return "signature"
    return "" if signer == key.address else "signature"
