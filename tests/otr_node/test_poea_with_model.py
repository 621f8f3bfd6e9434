"""PoEA end to end on the real model: the honest run, and the attacks that the model itself takes
part in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from otr_core import merkle
from otr_core.errors import InputError, ModelError, ReceiptError
from otr_core.lane.sampling import Decoding
from otr_core.poea import Message, OnceStore, PlacedOrder, check_answer, place_order
from otr_core.poea.document import ReceiptFile
from otr_core.poea.tee import EvidencePolicy
from otr_core.poea.trace import open_piece, verify_opening
from otr_node.enclave import SimulatedEnclave
from otr_node.generate import prompt_tokens, rebuild_states
from otr_node.lanes import load_model
from otr_node.native import NativeModel
from otr_node.serve import answer_order, open_query, serve, sign_answer, trace_seed

pytestmark = pytest.mark.model

NOW = 1_800_000_000
FRANCE = "What is the capital of France?"


@pytest.fixture(scope="module")
def model(smollm2: Path) -> NativeModel:
    """SmolLM2, loaded in the native lane."""
    return load_model(smollm2)


def boot(loaded: NativeModel) -> SimulatedEnclave:
    return SimulatedEnclave(b"s" * 32, loaded.manifest.model_id, b"g" * 32, NOW)


def ask(prompt: str, loaded: NativeModel, *, sealed: bool = False) -> PlacedOrder:
    return place_order(
        prompt_tokens(loaded, prompt, 12),
        model_id=loaded.manifest.model_id,
        decoding=Decoding(12),
        job_id=b"j" * 32,
        nonce=b"n" * 32,
        client_secret=b"c" * 32,
        seal_to=boot(loaded).keys.hpke if sealed else None,
    )


def served(loaded: NativeModel, placed: PlacedOrder) -> ReceiptFile:
    return serve(boot(loaded), loaded, placed.order, placed.query, served=OnceStore())[0]


def rejected(file: ReceiptFile, placed: PlacedOrder, nonces: OnceStore | None = None) -> str:
    with pytest.raises(ReceiptError) as caught:
        check_answer(file, placed, policy=EvidencePolicy(allow_simulated=True), as_of=NOW, nonces=nonces)
    return caught.value.check


@pytest.mark.parametrize("sealed", [False, True])
def test_honest_answer_is_accepted_and_its_trace_opens(model: NativeModel, sealed: bool) -> None:
    enclave, placed = boot(model), ask(FRANCE, model, sealed=sealed)
    file, answer = serve(enclave, model, placed.order, placed.query, served=OnceStore())
    found = check_answer(
        file,
        placed,
        policy=EvidencePolicy(allow_simulated=True),
        as_of=NOW,
        nonces=OnceStore(),
        decode=model.tokenizer.decode,
    )
    assert (found.text, found.finish) == ("The capital of France is Paris.", "stop")
    assert found.token_ids == answer.token_ids
    receipt = file.receipt
    assert receipt.trace_root == answer.committed.root
    assert (receipt.layers, receipt.positions) == (30, len(answer.prompt_ids) + len(answer.token_ids) - 1)
    assert placed.order.prompt_root == merkle.root(answer.committed.tokens[: receipt.prompt_tokens])
    place = (len(answer.prompt_ids), 17)
    state = rebuild_states(model, answer, [place])[place]
    opening = open_piece(answer.committed, trace_seed(enclave, placed.order), *place, 3, state)
    verify_opening(receipt.trace_root, receipt.trace, opening)


def test_layers_dropped(smollm2: Path, model: NativeModel) -> None:
    """A third of the layers left out: the enclave measures what it loads, so no path leads to an
    accepted receipt."""
    cheap = load_model(smollm2, drop_layers=range(10, 20))
    assert cheap.manifest.model_id != model.manifest.model_id
    enclave, placed = boot(cheap), ask(FRANCE, model)
    order, query = placed.order, placed.query
    with pytest.raises(ModelError, match="expected the order's"):
        serve(enclave, cheap, order, query, served=OnceStore())
    own = replace(order, model_id=cheap.manifest.model_id)
    file, _ = serve(enclave, cheap, own, query, served=OnceStore())
    assert rejected(file, placed) == "measured-model"  # says what it ran
    said = open_query(enclave, order, query)
    lying = sign_answer(enclave, model, order, query, said, answer_order(enclave, cheap, order, said))
    # says what was ordered: the event log disagrees
    assert rejected(lying, placed) == "measured-model"


def test_replayed_edited_and_swapped(model: NativeModel) -> None:
    placed = ask(FRANCE, model)
    honest, nonces = served(model, placed), OnceStore()
    check_answer(honest, placed, policy=EvidencePolicy(allow_simulated=True), as_of=NOW, nonces=nonces)
    assert rejected(honest, placed, nonces) == "freshness"
    ids = list(model.tokenizer.encode("The capital of France is Lyon."))
    text = Message("response", plain={**honest.response.plain, "token_ids": ids})
    assert rejected(replace(honest, response=text), placed) == "response-digest"
    assert rejected(replace(honest, query=ask("What is the capital of Spain?", model).query), placed) == "query-digest"


def test_two_enclaves_of_one_secret_sign_the_same_bytes(model: NativeModel) -> None:
    """An honest enclave that has lost its store of served orders gives no evidence against itself."""
    placed = ask(FRANCE, model, sealed=True)
    assert served(model, placed).dump() == served(model, placed).dump()


def test_unusable_prompts_give_no_order_and_no_receipt(model: NativeModel) -> None:
    for prompt in ("", "word " * 8300):
        with pytest.raises(InputError, match="prompt"):
            ask(prompt, model)
    order: dict[str, Any] = {"model_id": model.manifest.model_id, "decoding": Decoding(12), "job_id": b"j" * 32}
    for ids in ([49_152], [1] * 8192):
        placed = place_order(ids, nonce=b"n" * 32, client_secret=b"c" * 32, **order)
        with pytest.raises(InputError, match="prompt"):
            served(model, placed)
