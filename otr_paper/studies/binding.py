"""What each field of an order and of a receipt binds, and which check holds it (claim L24).

The rows are data for a table and a diagram. A test holds that they name every signed field, and
that each check named exists; the campaign of mutations holds that the check notices a change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from otr_core.poea.client import PlacedOrder
    from otr_node.generate import Answer

RUN_AGAIN = "only by running again"
"""What no check of a receipt sees: a dispute or a proof decides it."""


class Bound(NamedTuple):
    """One signed field.

    Attributes:
        document: "order" or "receipt". field: its name there.
        binds: what it stands for, in words. source: where a verifier has that from.
        check: name of the check that compares the two; ``RUN_AGAIN`` where none can.
    """

    document: str
    field: str
    binds: str
    source: str
    check: str


BINDINGS = (
    Bound("order", "domain", "chain and court", "client", "order"),
    Bound("order", "job_id", "the job", "client", "order"),
    Bound("order", "nonce", "one answer, once", "client", "freshness"),
    Bound("order", "model_id", "weights, tokenizer, lane", "manifest", "measured-model"),
    Bound("order", "prompt_root", "every prompt token", "query", "prompt-tokens"),
    Bound("order", "prompt_tokens", "length of the prompt", "client", "order"),
    Bound("order", "query_digest", "the query's bytes", "query", "query-digest"),
    Bound("order", "decoding", "length, temperature, seed", "client", "order"),
    Bound("receipt", "order_id", "all of the order", "client", "order"),
    Bound("receipt", "prompt_tokens", "length of the prompt", "client", "prompt"),
    Bound("receipt", "answer_tokens", "length of the answer", "response", "answer-tokens"),
    Bound("receipt", "finish", "how the answer ended", "response", "stop"),
    Bound("receipt", "states_root", "every layer's state", "execution", RUN_AGAIN),
    Bound("receipt", "tokens_root", "every token", "response", "tokens-root"),
    Bound("receipt", "seed_hash", "salts of the trace", "response", "trace-seed"),
    Bound("receipt", "response_digest", "the response's bytes", "response", "response-digest"),
    Bound("receipt", "lane", "arithmetic", "manifest", "lane"),
    Bound("receipt", "layers", "depth of the trace", "manifest", "trace-shape"),
    Bound("receipt", "output_bytes", "width of a state", "manifest", "trace-shape"),
    Bound("receipt", "kv_bytes", "width of keys, values", "manifest", "trace-shape"),
    Bound("receipt", "configuration_digest", "how it was computed", "configuration", "configuration-digest"),
    Bound("receipt", "key_id", "keys of the TEE", "evidence", "keys-bound"),
)
"""In the order in which the documents have them."""

SOURCES = {
    "client": "the client's own copy of the order",
    "query": "query: token ids, salts",
    "manifest": "manifest of the model",
    "response": "response: token ids, trace seed",
    "configuration": "configuration",
    "evidence": "evidence of the machine",
    "execution": "the execution itself",
}
"""What a verifier compares with."""


def order_and_answer(placed: PlacedOrder, answer: Answer, finish: str) -> list[tuple[str, str]]:
    """Of one order and its answer what anybody may see, as (what, value).

    Args:
        answer: with its trace.
    """
    order, leaves = placed.order, answer.trace.shape.leaves if answer.trace else 0
    return [
        ("order id", order.id.hex()),
        ("prompt root", order.prompt_root.hex()),
        ("tokens of the prompt", str(order.prompt_tokens)),
        ("most tokens of the answer", str(order.decoding.max_tokens)),
        ("bytes of the sealed query", str(len(placed.query.sealed or b""))),
        ("tokens of the answer", str(len(answer.token_ids))),
        ("end of the answer", finish),
        ("leaves of the trace", str(leaves)),
    ]
