"""PoEA end to end on the real model: the honest run, and the attacks that the model itself takes
part in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from otr_core.errors import InputError, ModelError, ReceiptError
from otr_core.lane.sampling import Decoding
from otr_core.poea import Message, order, verify_receipt
from otr_core.poea.document import ReceiptFile
from otr_core.poea.trace import open_piece, verify_opening
from otr_node.enclave import SimulatedEnclave
from otr_node.generate import rebuild_states
from otr_node.lanes import load_model
from otr_node.native import NativeModel
from otr_node.serve import serve, trace_seed
from tests.helpers.receipts import ALLOW, NOW

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def model(smollm2: Path) -> NativeModel:
    """SmolLM2, loaded in the native lane."""
    return load_model(smollm2)


def boot(loaded: NativeModel) -> SimulatedEnclave:
    return SimulatedEnclave(b"s" * 32, loaded.manifest.model_id, b"g" * 32, NOW)


def ask(prompt: str, loaded: NativeModel, ordered: bytes | None = None, number: int = 1) -> tuple[Any, Message]:
    return order(
        prompt,
        model_id=ordered or loaded.manifest.model_id,
        decoding=Decoding(12),
        job_id=bytes([number]) * 32,
        nonce=bytes([9, number]) * 16,
    )


@pytest.fixture(scope="module")
def honest(model: NativeModel) -> ReceiptFile:
    """A receipt that an honest enclave signed."""
    return serve(boot(model), model, *ask("What is the capital of France?", model))[0]


def rejected(file: ReceiptFile, **options: Any) -> str:
    with pytest.raises(ReceiptError) as caught:
        verify_receipt(file, policy=ALLOW, as_of=NOW, **options)
    return caught.value.check


def test_honest_answer_is_accepted_and_its_trace_opens(model: NativeModel) -> None:
    enclave = boot(model)
    job, query = ask("What is the capital of France?", model)
    file, answer = serve(enclave, model, job, query)
    verify_receipt(file, policy=ALLOW, as_of=NOW, job=job)
    assert answer.text == "The capital of France is Paris."
    assert file.receipt.trace_root == answer.trace.root
    assert file.receipt.trace.layers == 30
    seed = trace_seed(enclave, job)
    place = (len(answer.prompt_ids), 17)
    opening = open_piece(answer.trace, seed, *place, 3, rebuild_states(model, answer, [place])[place])
    verify_opening(file.receipt.trace_root, file.receipt.trace, opening)


def test_layers_dropped(smollm2: Path, model: NativeModel, honest: ReceiptFile) -> None:
    """A third of the layers left out: the enclave measures what it loads, so no path leads to an
    accepted receipt."""
    cheap = load_model(smollm2, drop_layers=range(10, 20))
    assert cheap.manifest.model_id != model.manifest.model_id
    enclave = boot(cheap)
    job, query = ask("What is the capital of France?", cheap, ordered=model.manifest.model_id)
    with pytest.raises(ModelError, match="expected the job's"):
        serve(enclave, cheap, job, query)
    file, _ = serve(enclave, cheap, replace(job, model_id=cheap.manifest.model_id), query)
    assert rejected(file, job=job) == "measured-model"  # says what it ran
    from eth_keys import keys

    from otr_core.poea.receipt import sign_receipt

    lie = sign_receipt(keys.PrivateKey(enclave.signing_key), replace(file.receipt, model_id=job.model_id))
    lying = replace(file, job=job, model=model.manifest, receipt=lie.receipt, signature=lie.signature)
    # says what was ordered: the event log disagrees
    assert rejected(lying, job=job) == "measured-model"


def test_replayed_edited_and_swapped(honest: ReceiptFile) -> None:
    accepted = verify_receipt(honest, policy=ALLOW, as_of=NOW)
    assert rejected(honest, seen={accepted.nonce}) == "freshness"
    text = Message("response", plain={**honest.response.plain, "text": "The capital of France is Lyon."})
    assert rejected(replace(honest, response=text)) == "response-digest"
    prompt = Message("query", plain={"prompt": "What is the capital of Spain?"})
    assert rejected(replace(honest, query=prompt)) == "query-digest"


def test_unusable_prompts_give_no_receipt(model: NativeModel) -> None:
    enclave = boot(model)
    for prompt in ("", "word " * 8300):
        with pytest.raises(InputError, match="prompt"):
            serve(enclave, model, *ask(prompt, model))
