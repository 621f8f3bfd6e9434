"""What the server answers: the same tokens and the same receipt as alone, whoever asks beside."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest

from otr_core import merkle
from otr_core.errors import ReceiptError
from otr_core.poea import check_answer, load_receipt_file
from otr_core.poea.document import ReceiptFile
from otr_core.poea.message import Response
from otr_core.poea.tee import EvidencePolicy
from otr_node.chain.answers import answers_in, dump_leaves
from otr_node.enclave import SimulatedEnclave
from otr_node.portable import PortableModel
from otr_node.serve import answer_order, sign_answer
from tests.helpers.serving import LONG, Server, order_body, own_order, request

NAME = "roomy@portable-1"
POLICY = EvidencePolicy(allow_simulated=True)


def checked(raw: bytes, placed, server: Server):
    as_of = json.loads(raw)["evidence"]["quote"]["issued_at"] + 1
    return check_answer(load_receipt_file(raw), placed, policy=POLICY, as_of=as_of, nonces=None)


def alone(server: Server, exact: PortableModel, placed, as_sent: ReceiptFile) -> ReceiptFile:
    """The receipt that the same enclave gives when nobody else is answered, without any server."""
    issued_at = as_sent.evidence["quote"]["issued_at"]
    nonce = bytes.fromhex(as_sent.evidence["gpu_report"]["nonce"])
    secret = (server.state / "enclave.secret").read_bytes()
    enclave = SimulatedEnclave(secret, exact.manifest.model_id, nonce, issued_at)
    answer = answer_order(enclave, exact, placed.order, placed.said)
    return sign_answer(enclave, exact, placed.order, placed.query, placed.said, answer)


def test_the_openai_client_works_unmodified(server: Server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == [NAME]
        asked = {"model": NAME, "messages": [{"role": "user", "content": "w5 w9 w12"}], "max_tokens": 12, "seed": 3}
        plain = client.chat.completions.create(**asked)
        assert plain.choices[0].message.content
        assert plain.usage.completion_tokens == 12
        raw = server.receipt(plain.otr["receipt_id"])
        file = load_receipt_file(raw)
        assert json.loads(raw)["order"] == plain.otr["order"]["order"]
        assert file.receipt.answer_tokens == 12
        chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == plain.choices[0].message.content
        assert chunks[-1].usage.completion_tokens == 12
        assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"
        with pytest.raises(openai.NotFoundError, match="gpt-4") as refused:
            client.chat.completions.create(**{**asked, "model": "gpt-4"})
        assert refused.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError, match="top_p"):
            client.chat.completions.create(**asked, top_p=0.5)


@pytest.mark.parametrize("ids", [(1, 5, 6), (9, 9, 10), (1, 44, 3, 17)])
def test_a_stream_says_what_a_whole_answer_says(server: Server, ids):
    text = " ".join(f"w{number}" for number in ids if number > 2)
    more = {"max_tokens": 150, "temperature": 0}
    status, whole, headers = server.chat(request(NAME, text, **more))
    assert status == 200
    assert headers["otr-receipt-id"] == whole["otr"]["receipt_id"] == whole["id"].removeprefix("chatcmpl-")
    documents = list(server.stream(request(NAME, text, **more, stream=True)))
    assert documents.pop() == "[DONE]"
    pieces = [each["choices"][0]["delta"].get("content", "") for each in documents]
    assert "".join(pieces) == whole["choices"][0]["message"]["content"]
    assert len([piece for piece in pieces if piece]) > 3
    assert documents[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert documents[-1]["otr"]["receipt_id"] == documents[0]["otr"]["receipt_id"]
    file = load_receipt_file(server.receipt(documents[0]["otr"]["receipt_id"]))
    assert file.receipt.finish == whole["choices"][0]["finish_reason"]
    assert file.order.to_json() == documents[0]["otr"]["order"]["order"]


def test_sixteen_answers_together_have_the_receipts_of_each_alone(server: Server, exact: PortableModel):
    """Lengths, temperatures, seeds and sealing differ; all are in one batch for most of the time."""
    key = bytes.fromhex(server.ask("/v1/attestation")[1]["keys"]["hpke"])
    orders = [
        own_order(
            exact.manifest.model_id,
            tuple(3 + (7 * number + at) % 60 for at in range(1 + 11 * number)),
            120 + 5 * number,
            temperature_milli=(0, 900, 3000)[number % 3],
            seed=number,
            seal_to=key if number % 4 == 0 else None,
        )
        for number in range(16)
    ]
    ready = threading.Barrier(16)

    def send(placed):
        ready.wait()
        return server.chat(order_body(placed))

    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(send, orders))
    for placed, (status, reply, _) in zip(orders, replies, strict=True):
        assert status == 200, reply
        raw = server.receipt(placed.order.id.hex())
        file = load_receipt_file(raw)
        expected = alone(server, exact, placed, file)
        assert file == expected
        answer = checked(raw, placed, server)
        content = reply["choices"][0]["message"]["content"]
        assert content == (None if placed.secret else exact.tokenizer.decode(answer.token_ids))
        other = own_order(exact.manifest.model_id, placed.said.prompt_ids)
        with pytest.raises(ReceiptError, match=r"^order"):
            checked(raw, other, server)


def test_a_fisherman_has_the_leaves_of_an_answer_beside_its_receipt(
    server: Server, exact: PortableModel, tmp_path: Path
):
    placed = own_order(exact.manifest.model_id, LONG, 60)
    assert server.chat(order_body(placed))[0] == 200
    order_id = placed.order.id.hex()
    raw = server.receipt(order_id)
    status, hashes, headers = server.ask(f"/v1/receipts/{order_id}/leaves")
    assert (status, headers["content-type"]) == (200, "application/octet-stream")
    secret = (server.state / "enclave.secret").read_bytes()
    enclave = SimulatedEnclave(secret, exact.manifest.model_id, bytes(32), 0)  # salts follow from the secret alone
    assert hashes == dump_leaves(answer_order(enclave, exact, placed.order, placed.said).committed)
    for ending, content in (("order.json", placed.dump()), ("receipt.json", raw), ("leaves", hashes)):
        (tmp_path / f"a.{ending}").write_bytes(content)
    (files,) = answers_in(tmp_path, lambda name, error: pytest.fail(f"{name}: {error}"))
    assert len(files.leaves) == files.file.receipt.trace.leaves > 0
    assert merkle.root_of_hashes(files.leaves) == files.file.receipt.states_root


def test_an_order_has_one_answer_whoever_sends_it_again(server: Server, exact: PortableModel):
    placed = own_order(exact.manifest.model_id, LONG, 600)
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: server.chat(order_body(placed)), range(8)))
    assert sorted(status for status, _, _ in replies) == [200, *[409] * 7]
    assert all(reply["error"]["code"] == "order_taken" for status, reply, _ in replies if status == 409)
    first = server.receipt(placed.order.id.hex())
    status, reply, _ = server.chat(order_body(placed))
    assert (status, reply["error"]["code"]) == (409, "order_taken")
    assert server.receipt(placed.order.id.hex()) == first


def test_a_client_that_goes_away_in_mid_stream_finds_its_receipt(server: Server, exact: PortableModel):
    placed = own_order(exact.manifest.model_id, LONG, 800)
    stream = server.stream(order_body(placed, stream=True))
    for _ in range(5):
        next(stream)
    stream.close()
    answer = checked(server.receipt(placed.order.id.hex()), placed, server)
    assert len(answer.token_ids) == 800
    assert server.ask("/healthz")[0] == 200


def test_a_conversation_is_what_its_template_makes_of_it(server: Server, exact: PortableModel):
    messages = [
        {"role": "system", "content": "w9"},
        {"role": "user", "content": [{"type": "text", "text": "w5 "}, {"type": "text", "text": "w6"}]},
        {"role": "assistant", "content": "w7"},
        {"role": "user", "content": "w8"},
    ]
    status, reply, _ = server.chat({"model": exact.manifest.model_id.hex(), "messages": messages, "max_tokens": 4})
    assert status == 200
    expected = exact.tokenizer.encode("<user> w9 <end> <user> w5 w6 <end> <user> w7 <end> <user> w8 <end>")
    assert tuple(reply["otr"]["order"]["query"]["plain"]["prompt_ids"]) == expected


def test_two_requests_alike_are_two_orders(server: Server):
    """Greedy, so that the text is the same; a drawn answer has a seed of its own unless it names one."""
    replies = [server.chat(request(NAME, max_tokens=6))[1] for _ in range(2)]
    assert len({reply["otr"]["receipt_id"] for reply in replies}) == 2
    assert len({reply["choices"][0]["message"]["content"] for reply in replies}) == 1
    seeds = [reply["otr"]["order"]["order"]["decoding"]["seed"] for reply in replies]
    assert len(set(seeds)) == 2
    named = server.chat(request(NAME, max_tokens=6, temperature=1, seed=5))[1]["otr"]["order"]["order"]["decoding"]
    assert named == {"max_tokens": 6, "seed": 5, "temperature_milli": 1000}


def test_attestation_binds_the_keys_that_sign(server: Server, exact: PortableModel):
    _, shown, _ = server.ask("/v1/attestation")
    assert shown["model_id"] == exact.manifest.model_id.hex()
    reply = server.chat(request(NAME, max_tokens=3))[1]
    file = load_receipt_file(server.receipt(reply["otr"]["receipt_id"]))
    assert (file.keys.to_json(), file.evidence["quote"]) == (shown["keys"], shown["evidence"]["quote"])
    said = Response.from_json(file.response.plain)
    assert reply["choices"][0]["message"]["content"] == exact.tokenizer.decode(said.token_ids)
