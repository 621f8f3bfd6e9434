"""False statements: what an operator with the attested key can sign, each as the file that its
client is shown.

The forger chooses every message, root and count, and signs them; it keeps whatever else a check
would look at first right, so that each statement is stopped by the check that is about it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from otr_core import merkle
from otr_core.encoding import canonical_json
from otr_core.errors import InputError, ReceiptError
from otr_core.poea.document import ReceiptFile
from otr_core.poea.equivocation import Equivocation
from otr_core.poea.message import Response
from otr_core.poea.once import OnceStore
from otr_core.poea.order import Domain
from otr_core.poea.receipt import Receipt, SignedReceipt, configuration_digest, sign_receipt
from otr_core.poea.trace import seed_hash, token_leaf, token_leaves
from otr_node.serve import response_message, serve
from otr_paper.benches.workbench import Served, resigned
from otr_paper.claims.receipts import SECOND_ANSWER

Forgery = ReceiptFile | bytes
"""A file, or its bytes where no object can say what they say."""


def false_statements(ordered: Served) -> Iterator[tuple[str, Forgery]]:
    """Each false statement about the answer to ``ordered``: what it is, and the signed file.

    Raises:
        InputError: an answer of one token or of one token again and again, or an order of less than
            four: some statements would not be false.
    """
    ids, most = ordered.answer.token_ids, ordered.decoding.max_tokens
    if len(set(ids)) < 2 or most < 4:
        found = f"{len(set(ids))} different tokens in an answer of at most {most}"
        raise InputError(f"answer to be forged: found {found}, expected 2 in one of at least 4; ask something else")
    yield from _of_another_length(ordered)
    yield from _of_another_shape(ordered)
    yield from _of_another_order(ordered)
    yield from _of_other_tokens(ordered)


def _filled(ordered: Served, length: int) -> tuple[int, ...]:
    """The answer's tokens over and over, up to ``length``, no stop token among them."""
    stops = ordered.bench.model.architecture.stop_ids
    ids = [token for token in ordered.answer.token_ids if token not in stops]
    return tuple((ids * length)[:length])


def _of_another_length(ordered: Served) -> Iterator[tuple[str, Forgery]]:
    """More, fewer or no tokens, and another end than there was."""
    most, stop = ordered.decoding.max_tokens, ordered.bench.model.architecture.stop_ids[0]
    full, honest = _filled(ordered, most), ordered.file

    def signed(ids: Sequence[int], finish: str = "") -> ReceiptFile:
        return ordered.sign(ordered.claiming(ids, finish))

    yield f"{2 * most} tokens for {most} ordered", signed(_filled(ordered, 2 * most))
    yield f"ended for its length after 2 of {most} tokens", signed(full[:2], "length")
    yield "stopped after 2 tokens, without a stop token", signed(full[:2], "stop")
    yield "a stop token hidden in the middle", signed((*full[:1], stop, *full[2:]), "length")
    yield "a stop token at the end, ended for its length", signed((*full[:-1], stop), "length")
    yield "an empty answer, its statement kept", _responding(ordered, ())
    yield "an empty answer, stated", _unsaid(honest, ordered.enclave.signing_key, answer_tokens=0)


def _of_another_shape(ordered: Served) -> Iterator[tuple[str, Forgery]]:
    """A trace that leaves nothing to be checked, and another lane than the model's."""
    answer, layers = ordered.answer, ordered.bench.model.architecture.layers
    cheap = ordered.bench.other(drop_layers=range(1, layers, 3))
    yield "layers dropped, trace of the cheap run", ordered.sign(ordered.answered_by(cheap))
    tokens, states = answer.committed.tokens[:2], answer.committed.leaves
    alone: dict[str, Any] = {"prompt_tokens": 1, "answer_tokens": 1, "finish": "stop"}
    alone["tokens_root"] = merkle.root(tokens)
    short = replace(ordered.file, prompt_proof=tuple(merkle.consistency_proof(tokens, 1)))
    for attack, count in (("a trace of one leaf", 1), ("a trace of one position", layers)):
        root = merkle.root(states[:count])
        yield attack, resigned(short, ordered.enclave, layers=count, states_root=root, **alone)
    half = ordered.receipt.output_bytes // 2
    yield "a trace of rows half as long", resigned(ordered.file, ordered.enclave, output_bytes=half)
    lane = "portable-1" if ordered.bench.lane != "portable-1" else "native-float32"
    other = {**answer.configuration, "lane": lane}
    digest = configuration_digest(other)
    for attack, stated in (
        ("configuration of another lane", ordered.bench.lane),
        ("another lane, stated", lane),
    ):
        file = replace(ordered.file, configuration=other)
        yield attack, resigned(file, ordered.enclave, configuration_digest=digest, lane=stated)


def _of_another_order(ordered: Served) -> Iterator[tuple[str, Forgery]]:
    """The order is another in the file than with its client."""
    order, honest = ordered.order, ordered.file
    longer = replace(order, decoding=replace(order.decoding, max_tokens=2 * order.decoding.max_tokens))
    yield "order rewritten in the file", replace(honest, order=longer)
    rewritten = replace(honest, order=longer)
    yield "order rewritten in the file, and signed", resigned(rewritten, ordered.enclave, order_id=longer.id)
    elsewhere = replace(order, domain=Domain(order.domain.chain_id + 1, order.domain.court))
    signed = sign_receipt(ordered.enclave.signing_key, elsewhere, honest.receipt)
    yield "signed for another chain", replace(honest, signature=signed.signature)


def _of_other_tokens(ordered: Served) -> Iterator[tuple[str, Forgery]]:
    """Tokens, or salts, that are not those of the prompt, the vocabulary, the trace or the
    response."""
    answer, said, vocab = ordered.answer, ordered.said, ordered.bench.model.architecture.vocab
    ids, prompt = answer.token_ids, said.prompt_ids
    beyond = (*ids[:-2], vocab, ids[-1])
    yield "a token outside the vocabulary", _under(ordered, _leaves(ordered, prompt, beyond), beyond)
    swapped = (*prompt[:-2], prompt[-1], prompt[-2])
    yield "prompt tokens swapped inside the trace", _under(ordered, _leaves(ordered, swapped, ids), ids)
    leaves = _leaves(ordered, prompt, ids)
    leaves[-1] = token_leaf(ordered.salts, len(leaves) - 1, ids[-1], -1)
    yield "a chosen token said to be given", _under(ordered, leaves, ids)
    other = next(at for at, token in enumerate(ids) if token != ids[0])
    response = (ids[other], *ids[1:other], ids[0], *ids[other + 1 :])
    yield "tokens swapped in the response, and signed", _responding(ordered, response)
    yield "another trace seed shown", _responding(ordered, ids, seed=seed_hash(ordered.salts))


def _leaves(ordered: Served, prompt_ids: Sequence[int], token_ids: Sequence[int]) -> list[bytes]:
    """The trace's token leaves with other tokens, under the salts of the order."""
    return token_leaves(prompt_ids, ordered.said.prompt_seed, token_ids, ordered.salts)


def _under(ordered: Served, leaves: Sequence[bytes], token_ids: Sequence[int]) -> ReceiptFile:
    """The honest receipt over another token tree, with what the response and the proof must be."""
    proof = tuple(merkle.consistency_proof(leaves, len(ordered.said.prompt_ids)))
    file = _responding(ordered, token_ids, tokens_root=merkle.root(leaves))
    return replace(file, prompt_proof=proof)


def _responding(ordered: Served, token_ids: Sequence[int], *, seed: bytes | None = None, **changes: Any) -> ReceiptFile:
    """The honest receipt, but for ``changes``, over a response of these tokens and this seed."""
    response = Response(tuple(token_ids), seed or ordered.salts)
    message = response_message(ordered.enclave, ordered.order, ordered.said, response)
    file = replace(ordered.file, response=message)
    return resigned(file, ordered.enclave, response_digest=message.digest, **changes)


def _unsaid(file: ReceiptFile, signing_key: bytes, **changes: Any) -> bytes:
    """A file whose receipt says what no ``Receipt`` says, signed all the same."""
    receipt = object.__new__(Receipt)
    for name, content in {**vars(file.receipt), **changes}.items():
        object.__setattr__(receipt, name, content)
    signature = sign_receipt(signing_key, file.order, receipt).signature
    document = json.loads(file.dump())
    document["receipt"] |= changes
    return canonical_json({**document, "signature": signature.hex()}) + b"\n"


def twice_answered(ordered: Served) -> tuple[str, str]:
    """What comes of an order, in the open, that two enclaves of one operator answer: who catches
    it, and what is found.

    Each enclave does what it should, and its client would take either answer. The two receipts
    together convict whoever holds both keys.
    """
    enclaves = (ordered.enclave, ordered.bench.enclave("second"))
    parts = (ordered.bench.model, ordered.order, ordered.query)
    files = [serve(enclave, *parts, served=OnceStore())[0] for enclave in enclaves]
    taken = [ordered.rejection(file) for file in files]
    evidence = Equivocation(*(SignedReceipt(file.order, file.receipt, file.signature) for file in files))
    try:
        evidence.check((files[0].keys.address, files[1].keys.address))
    except ReceiptError as error:
        return error.check, str(error)
    found = "either answer is accepted" if taken == [None, None] else f"rejected: {taken}"
    return SECOND_ANSWER, f"{found}; the two receipts under order {ordered.order.id.hex()} differ"
