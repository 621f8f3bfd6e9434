"""The operator's end of one query: the enclave opens it, answers, and signs the receipt."""

from __future__ import annotations

from collections.abc import Callable

from otr_core import merkle
from otr_core.errors import InputError, ModelError, ReceiptError
from otr_core.poea.client import query_info, response_info
from otr_core.poea.document import ReceiptFile
from otr_core.poea.message import Message, Query, Response, pad, unpad
from otr_core.poea.once import OnceStore
from otr_core.poea.order import Order
from otr_core.poea.receipt import make_receipt, sign_receipt
from otr_core.poea.sealing import open_sealed, seal
from otr_core.poea.trace import prompt_root
from otr_node.enclave import SimulatedEnclave
from otr_node.generate import Answer, check_prompt, generate
from otr_node.model import Model


def serve(
    enclave: SimulatedEnclave,
    model: Model,
    order: Order,
    query: Message,
    *,
    served: OnceStore,
    digest: bool = False,
    on_token: Callable[[int], None] | None = None,
) -> tuple[ReceiptFile, Answer]:
    """Answer ``query`` inside the (simulated) TEE, sealed if it was sealed, and issue the receipt.

    Args:
        served: orders that were answered before. An operator that asks again gets nothing, so that
            an enclave is no oracle for what a sealed query says.
        digest: whether the answer comes with its ``execution_digest``.

    Raises:
        ModelError: the order is for another model than the one measured at boot, or that is not the
            one loaded.
        InputError: the query is not the one ordered, or the prompt cannot be used. Nothing has run
            then.
        SealError: the query was sealed for another key or order.
        ReceiptError: check "served": the order was answered before.
    """
    if not order.model_id == enclave.model_id == model.manifest.model_id:
        raise ModelError(
            f"model: found {model.manifest.model_id.hex()} loaded and {enclave.model_id.hex()} measured, "
            f"expected the order's {order.model_id.hex()}"
        )
    said = open_query(enclave, order, query)
    check_prompt(model, said.prompt_ids, order.decoding.max_tokens)
    if not served.claim(order.id):
        raise ReceiptError("served", f"order {order.id.hex()} answered before", "an order never answered")
    answer = answer_order(enclave, model, order, said, digest=digest, on_token=on_token)
    return sign_answer(enclave, model, order, query, said, answer), answer


def answer_order(
    enclave: SimulatedEnclave,
    model: Model,
    order: Order,
    said: Query,
    *,
    digest: bool = False,
    on_token: Callable[[int], None] | None = None,
) -> Answer:
    """The answer to an opened query, under the salts and draws of its order."""
    return generate(
        model,
        said.prompt_ids,
        order.decoding,
        order_id=order.id,
        trace_seed=trace_seed(enclave, order),
        prompt_seed=said.prompt_seed,
        digest=digest,
        on_token=on_token,
    )


def response_message(enclave: SimulatedEnclave, order: Order, said: Query, response: Response) -> Message:
    """A response as it travels: sealed to where the query says, or plain where it says nothing."""
    if said.reply_to is None:
        return Message("response", plain=response.to_json())
    padded = pad(response, response.token_ids)
    ephemeral = enclave.derive("response", order.id + padded)
    return Message("response", sealed=seal(said.reply_to, padded, info=response_info(order), ephemeral=ephemeral))


def sign_answer(
    enclave: SimulatedEnclave,
    model: Model,
    order: Order,
    query: Message,
    said: Query,
    answer: Answer,
    *,
    seed: bytes | None = None,
) -> ReceiptFile:
    """The receipt file for an ``answer`` that the enclave vouches for.

    Args:
        seed: from which the salts of the answer's trace derive; None: the enclave's own.

    Raises:
        InputError: the answer has no trace.
    """
    response, trace = Response(answer.token_ids, seed or trace_seed(enclave, order)), answer.committed
    message = response_message(enclave, order, said, response)
    receipt = make_receipt(
        order,
        trace,
        prompt_tokens=len(answer.prompt_ids),
        finish=answer.finish,
        response=message,
        configuration=answer.configuration,
        keys=enclave.keys,
    )
    return ReceiptFile(
        order=order,
        model=model.manifest,
        query=query,
        response=message,
        prompt_proof=tuple(merkle.consistency_proof(trace.tokens, len(answer.prompt_ids))),
        configuration=answer.configuration,
        receipt=receipt,
        signature=sign_receipt(enclave.signing_key, order, receipt).signature,
        keys=enclave.keys,
        evidence=enclave.evidence(),
    )


def open_query(enclave: SimulatedEnclave, order: Order, query: Message) -> Query:
    """What the query says.

    Raises:
        SealError: sealed for another key or order. InputError: not the query ordered, or one whose
            token ids are not the prompt ordered.
    """
    if query.digest != order.query_digest:
        raise InputError(f"query: found digest {query.digest.hex()}, expected the order's {order.query_digest.hex()}")
    if query.sealed is None:
        said = Query.from_json(query.plain, sealed=False)
    else:
        padded = open_sealed(enclave.hpke_key, query.sealed, info=query_info(order))
        said = Query.from_json(unpad(padded, what="sealed query"), sealed=True)
    if len(said.prompt_ids) != order.prompt_tokens:
        raise InputError(f"query prompt_ids: found {len(said.prompt_ids)}, expected the order's {order.prompt_tokens}")
    root = prompt_root(said.prompt_ids, said.prompt_seed)
    if root != order.prompt_root:
        raise InputError(f"query prompt_ids: found root {root.hex()}, expected the order's {order.prompt_root.hex()}")
    return said


def trace_seed(enclave: SimulatedEnclave, order: Order) -> bytes:
    """32 secret bytes from which the salts of this order's trace derive; the same at every call."""
    return enclave.derive("trace", order.id)
