"""The client's side of one query: to place an order, and to check the answer that comes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from otr_core.encoding import canonical_json, json_object, parse_canonical, strict_hex, tagged_hash
from otr_core.errors import InputError, ReceiptError, SealError
from otr_core.lane.sampling import Decoding
from otr_core.poea.attested import appraise_evidence
from otr_core.poea.document import ReceiptFile
from otr_core.poea.message import Message, Query, Response, pad, token_ids, unpad
from otr_core.poea.once import OnceStore
from otr_core.poea.order import Domain, Order
from otr_core.poea.sealing import derive_secret, hpke_public, open_sealed, seal
from otr_core.poea.tee import Appraiser, EvidencePolicy
from otr_core.poea.trace import prompt_root
from otr_core.poea.verify import Verification, check_answered, claim_nonce, verify_receipt

FORMAT = "otr-order/1"


@dataclass(frozen=True)
class PlacedOrder:
    """An order with its query, and what the client keeps for itself.

    Attributes:
        order, query: what the operator gets (``sent``).
        said: what the query says. secret: 32-byte X25519 key that the answer comes sealed to; None
            for a plain query.
    """

    order: Order
    query: Message
    said: Query
    secret: bytes | None = None

    @property
    def sent(self) -> bytes:
        """The order file for the operator: canonical JSON and a line end."""
        return self._file(None)

    def dump(self) -> bytes:
        """The client's own copy: with what a sealed query says, and the key to its answer."""
        kept = {"query": self.said.to_json(), "secret": self.secret.hex()} if self.secret else None
        return self._file(kept)

    def _file(self, kept: dict[str, Any] | None) -> bytes:
        parts = {"format": FORMAT, "order": self.order.to_json(), "query": self.query.to_json(), "kept": kept}
        return canonical_json(parts) + b"\n"


def place_order(
    prompt_ids: Sequence[int],
    *,
    model_id: bytes,
    decoding: Decoding,
    job_id: bytes,
    nonce: bytes,
    client_secret: bytes,
    domain: Domain | None = None,
    seal_to: bytes | None = None,
) -> PlacedOrder:
    """Order an answer to a prompt, tokenised by the client.

    Args:
        model_id: the model that is paid for. job_id, nonce: 32 bytes each, never used before.
        client_secret: 32 secret bytes, from which the prompt's salts and the key to the answer
            derive.
        domain: court and chain; None: no court.
        seal_to: the enclave's attested HPKE key; without it the query travels in the clear.

    Raises:
        InputError: no token, or one of the byte strings has another length.
    """
    ids = token_ids(list(prompt_ids), what="prompt_ids")
    if len(client_secret) != 32:
        raise InputError(f"client secret: found {len(client_secret)} bytes, expected 32")
    seed = tagged_hash("prompt-seed", client_secret + nonce)
    secret = None if seal_to is None else derive_secret(tagged_hash("client-key", client_secret + nonce))
    said = Query(ids, seed, None if secret is None else hpke_public(secret))
    # The query is bound to the rest of the order, so the order is written without it first.
    root = prompt_root(ids, seed)
    order = Order(domain or Domain(), job_id, nonce, model_id, root, len(ids), bytes(32), decoding)
    if seal_to is None:
        query = Message("query", plain=said.to_json())
    else:
        plaintext = pad(said, ids)
        # An ephemeral key must never seal two messages. Should a client reuse a nonce by mistake,
        # the plaintext, which is hashed in as well, still makes the keys differ.
        ephemeral = tagged_hash("client-ephemeral", client_secret + order.sealed_part + plaintext)
        query = Message("query", sealed=seal(seal_to, plaintext, info=query_info(order), ephemeral=ephemeral))
    order = replace(order, query_digest=query.digest)
    return PlacedOrder(order, query, said, secret)


def load_order(raw: bytes) -> PlacedOrder:
    """Read an order file, the client's copy or the one that was sent.

    Raises:
        InputError: not such a file, or query and order do not belong together.
    """
    document = parse_canonical(raw, FORMAT, ("format", "order", "query", "kept"), what="order file")
    order, query = Order.from_json(document["order"]), Message.from_json("query", document["query"])
    if query.digest != order.query_digest:
        found, expected = query.digest.hex(), order.query_digest.hex()
        raise InputError(f"order file query: found digest {found}, expected the order's {expected}")
    kept = document["kept"]
    if query.plain is not None:
        if kept is not None:
            raise InputError("order file kept: found something, expected null beside a plain query")
        placed = PlacedOrder(order, query, Query.from_json(query.plain, sealed=False))
    else:
        if kept is None:
            raise InputError("order file kept: found null, expected the client's own copy of a sealed order")
        kept = json_object(kept, ("query", "secret"), what="order file kept")
        secret = strict_hex(kept["secret"], length=32, what="order file secret")
        placed = PlacedOrder(order, query, Query.from_json(kept["query"], sealed=True), secret)
        if hpke_public(secret) != placed.said.reply_to:
            raise InputError("order file secret: found another key than the query's reply_to, expected its secret")
    ids = placed.said.prompt_ids
    if (prompt_root(ids, placed.said.prompt_seed), len(ids)) != (order.prompt_root, order.prompt_tokens):
        raise InputError("order file query: found ids of another prompt, expected those of the order's prompt_root")
    return placed


@dataclass(frozen=True)
class CheckedAnswer:
    """An answer that has passed every check against the client's own order.

    Attributes:
        token_ids, finish: the chosen tokens, and how the answer ended.
        text: what the client's decoder makes of them; None without one.
        verification: what was shown about the receipt.
    """

    token_ids: tuple[int, ...]
    finish: str
    text: str | None
    verification: Verification


def check_answer(
    file: ReceiptFile,
    placed: PlacedOrder,
    *,
    policy: EvidencePolicy,
    as_of: int,
    nonces: OnceStore | None,
    appraise: Appraiser = appraise_evidence,
    decode: Callable[[Sequence[int]], str] | None = None,
) -> CheckedAnswer:
    """What a client calls: the answer, or the name of the check that failed.

    Every check of ``verify_receipt`` is made against the client's order, then the response is
    opened and held against the statement (``verify.check_answered``), and last the nonce is
    claimed.

    Args:
        policy, as_of, appraise: as in ``verify_receipt``.
        nonces: the client's own store; None: that the answer is new is not checked.
        decode: the tokenizer of the ordered model: token ids -> text.

    Raises:
        ReceiptError: the first check that fails, with what was found and expected.
    """
    # The response is opened here, so that its content is judged by the client's own key.
    verification = verify_receipt(file, policy=policy, as_of=as_of, order=placed.order, appraise=appraise)
    response = open_response(file, placed)
    # What travelled in the open is checked by now, if the client said what its query says.
    if not verification.content or placed.said.to_json() != file.query.plain:
        check_answered(file, placed.said, response)
    if nonces is not None:
        claim_nonce(nonces, placed.order)
    text = None if decode is None else decode(response.token_ids)
    return CheckedAnswer(response.token_ids, file.receipt.finish, text, replace(verification, content=True))


def open_response(file: ReceiptFile, placed: PlacedOrder) -> Response:
    """What the response says, for the client that ordered it.

    Raises:
        ReceiptError: check "response": not for this client, or not a response.
    """
    try:
        if file.response.sealed is None or placed.secret is None:
            return Response.from_json(file.response.plain)
        info = response_info(placed.order)
        return Response.from_json(unpad(open_sealed(placed.secret, file.response.sealed, info=info), what="response"))
    except (SealError, InputError) as error:
        raise ReceiptError("response", error, "a response to this order that its client can open") from error


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


def query_info(order: Order) -> bytes:
    """HPKE ``info`` of a sealed query: it opens for an order that says all the same."""
    return b"otr/2/query" + order.sealed_part


def response_info(order: Order) -> bytes:
    """HPKE ``info`` of a sealed response: it opens as the answer to this order only."""
    return b"otr/2/response" + order.id
