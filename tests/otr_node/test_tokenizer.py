"""The tokenizer of a checkpoint: what the library's gives, from hashed bytes alone."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otr_core.encoding import tagged_hash
from otr_core.errors import InputError, ModelError
from otr_node.checkpoint import read_checkpoint
from otr_node.tokenizer import ChatTokenizer

SETTINGS = {"eos_token": "<end>", "unk_token": "<unk>"}
TEMPLATE = "{{ eos_token }} {{ messages[0].content }} <user>"


@pytest.fixture(scope="module")
def raw(tiny: Path) -> bytes:
    """The tiny tokenizer's file."""
    return (tiny / "tokenizer.json").read_bytes()


def altered(raw: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    document = json.loads(raw)
    change(document)
    return json.dumps(document).encode()


def test_digests_cover_what_is_used(raw: bytes) -> None:
    plain = ChatTokenizer(raw, SETTINGS, TEMPLATE)
    assert plain.template_digest == tagged_hash("chat-template", TEMPLATE.encode())
    assert plain.prompt_ids("w5 what") == (2, 5, 0, 1)
    unused = {"model_max_length": 9, "tokenizer_class": "Any", "chat_template": "x", "auto_map": {"AutoTokenizer": "x"}}
    same = ChatTokenizer(raw, {**SETTINGS, **unused, "pad_token": None}, TEMPLATE)
    assert same.tokenizer_digest == plain.tokenizer_digest
    written = ChatTokenizer(raw, {"eos_token": {"content": "<end>", "lstrip": True}, "unk_token": "<unk>"}, TEMPLATE)
    assert written.tokenizer_digest == plain.tokenizer_digest
    assert written.prompt_ids("w5  <end> w6") == plain.prompt_ids("w5  <end> w6")
    others = [
        ChatTokenizer(raw, {**SETTINGS, "pad_token": "w9"}, TEMPLATE),
        ChatTokenizer(raw, {**SETTINGS, "eos_token": "w9"}, TEMPLATE),
        ChatTokenizer(altered(raw, lambda d: d["model"]["vocab"].update(w9=10, w10=9)), SETTINGS, TEMPLATE),
    ]
    assert len({one.tokenizer_digest for one in (plain, *others)}) == 4
    assert ChatTokenizer(raw, SETTINGS, TEMPLATE + " ").template_digest != plain.template_digest
    assert [one.decode([9, 2, 5]) for one in (plain, *others)] == ["w9 w5", "w5", "<end> w5", "w10 w5"]


def test_what_settings_may_not_say(raw: bytes) -> None:
    wrong = [
        ({"bos_token": "nowhere"}, "nowhere"),
        ({"bos_token": ""}, "bos_token"),
        ({"bos_token": ["<end>"]}, "bos_token"),
        ({"bos_token": {"content": 3}}, "bos_token"),
        ({"added_tokens_decoder": {"3": {"content": "w4"}}}, "'w4' with id 3"),
        ({"added_tokens_decoder": {"64": {"content": "w64"}}}, "w64"),
        ({"added_tokens_decoder": [1]}, "added_tokens_decoder"),
        ({"added_tokens_decoder": {"x": {"content": "w4"}}}, "added_tokens_decoder"),
    ]
    for change, reason in wrong:
        with pytest.raises(ModelError, match=reason):
            ChatTokenizer(raw, {**SETTINGS, **change}, TEMPLATE)
    right = {"added_tokens_decoder": {"4": {"content": "w4"}}}
    assert ChatTokenizer(raw, {**SETTINGS, **right}, TEMPLATE).decode([4]) == "w4"


def test_a_tokenizer_that_cuts_at_random_is_refused_and_others_never_cut_off(raw: bytes) -> None:
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}

    def bpe(dropout: float | None) -> bytes:
        return altered(raw, lambda d: d.update(model={**model, "dropout": dropout}, pre_tokenizer=None))

    for dropout in (None, 0.0):
        assert ChatTokenizer(bpe(dropout), {}, "{{ 'ab' }}").prompt_ids("x") == (2,)
    with pytest.raises(ModelError, match="its model has dropout"):
        ChatTokenizer(bpe(0.5), {}, "{{ 'ab' }}")

    short = {"max_length": 2, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    long = {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None}
    long |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>"}
    for part in ({"truncation": short}, {"padding": long}):
        tokenizer = ChatTokenizer(altered(raw, lambda d, part=part: d.update(part)), SETTINGS, TEMPLATE)
        assert tokenizer.encode("w5 w6 w7") == (5, 6, 7)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"model": {"type": "BPE"}}']
)
def test_what_is_no_tokenizer_is_refused(content: bytes) -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.json: not readable"):
        ChatTokenizer(content, {}, TEMPLATE)


def test_ids_and_texts_that_are_none(raw: bytes) -> None:
    tokenizer = ChatTokenizer(raw, SETTINGS, TEMPLATE)
    assert tokenizer.decode([5, 64, 2**32 - 1, 6]) == "w5 w6"  # as the library: nothing for no token
    for token in (-1, 2**32, 10**400, True, 5.0, "5", None):
        with pytest.raises(InputError, match="token id"):
            tokenizer.decode([5, token])  # type: ignore[list-item]
    for call in (tokenizer.encode, tokenizer.prompt_ids):
        with pytest.raises(InputError, match="lone surrogate"):
            call("w5 \ud800")
    with pytest.raises(ModelError, match="no tokens"):
        ChatTokenizer(raw, SETTINGS, "").prompt_ids("w5")


# ---- the real one -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(smollm2: Path) -> tuple[ChatTokenizer, Any]:
    """SmolLM2's tokenizer, ours and the library's."""
    from transformers import AutoTokenizer

    return read_checkpoint(smollm2).tokenizer, AutoTokenizer.from_pretrained(str(smollm2), local_files_only=True)


TEXTS = st.one_of(
    st.text(max_size=80),
    st.lists(
        st.sampled_from(["<|im_end|>", "<|im_start|>user\n", " don't", "é", "👩‍👩‍👧", "\n\n", "  x , y .", "的"])
    ).map("".join),
)


@pytest.mark.model
@given(text=TEXTS)
def test_ids_are_the_librarys(pair: tuple[ChatTokenizer, Any], text: str) -> None:
    ours, theirs = pair
    assert list(ours.encode(text)) == theirs(text)["input_ids"]
    chat = theirs.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
    )
    assert list(ours.prompt_ids(text)) == chat
    assert ours.decode(chat) == theirs.decode(chat, skip_special_tokens=True)


@pytest.mark.model
def test_texts_are_the_librarys(pair: tuple[ChatTokenizer, Any]) -> None:
    """Any ids, those within a character of several bytes included."""
    ours, theirs = pair
    draws = random.Random(5)
    assert ours.vocab() == theirs.get_vocab()
    for _ in range(2000):
        most = draws.choice((20, 300, 49_152))
        ids = [draws.randrange(most) for _ in range(draws.randrange(40))]
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)


def recorded(value: Any) -> Iterator[tuple[list[int], str]]:
    """Ids and text of every answer in a stored result, single or in columns."""
    if isinstance(value, dict):
        ids = value.get("token_ids")
        if isinstance(ids, list) and isinstance(value.get("text"), str):
            yield ids, value["text"]
        elif isinstance(ids, list) and isinstance(value.get("texts"), list):
            yield from zip(([*map(int, line.split())] for line in ids), value["texts"], strict=True)
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from recorded(item)


@pytest.mark.model
def test_recorded_answers_read_as_they_were_recorded(pair: tuple[ChatTokenizer, Any], project: Any) -> None:
    answers = []
    for path in sorted((project.data / "results").glob("*.json")):
        answers += recorded(json.loads(path.read_text("utf-8")))
    assert len(answers) > 2000
    for ids, text in answers:
        assert pair[0].decode(ids) == text
