"""The manifest: every field is in the model id, and only one way of writing each is read."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from otr_core.encoding import canonical_json
from otr_core.errors import ModelError
from otr_core.lane.architecture import Architecture
from otr_core.lane.rotary import RopeScaling
from otr_core.poea.manifest import ModelManifest
from otr_paper.labs.tiny import TINY

CONFIG = TINY.config()
MANIFEST = ModelManifest("11" * 32, 3, "22" * 32, CONFIG, "44" * 32, "native-float32")
SCALED = replace(TINY, rope_scaling=RopeScaling(8.0, 1.0, 4.0, 16))


def test_round_trip_through_canonical_json() -> None:
    for architecture in (TINY, SCALED, replace(TINY, stop_ids=(9, 2, 9))):
        manifest = replace(MANIFEST, config=architecture.config())
        read = ModelManifest.from_json(json.loads(canonical_json(manifest.to_json())))
        assert read == manifest
        assert read.model_id == manifest.model_id
        assert read.architecture.config() == architecture.config()
        assert canonical_json(read.to_json()) == canonical_json(manifest.to_json())


def test_every_field_is_in_the_model_id() -> None:
    changes: dict[str, Any] = {
        **{name: "66" * 32 for name in ("weights_root", "tokenizer", "chat_template")},
        **{"weights_leaves": 4, "lane": "portable-1", "config": SCALED.config()},
    }
    assert changes.keys() | {"model_id"} == MANIFEST.to_json().keys()
    others = {replace(MANIFEST, **{name: value}).model_id for name, value in changes.items()}
    assert len(others | {MANIFEST.model_id}) == len(changes) + 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("stop_ids", (3,)), ("vocab", 65), ("rms_eps", 1e-6), ("rope_theta", 5e5), ("tied", False), ("context", 49)),
        *(("layers", 4), ("heads", 2), ("kv_heads", 4), ("head_dim", 10), ("hidden", 36), ("intermediate", 50)),
    ],
)
def test_every_fact_of_the_decoder_is_in_the_model_id(name: str, value: Any) -> None:
    other: Architecture = replace(TINY, **{name: value})
    assert replace(MANIFEST, config=other.config()).model_id != MANIFEST.model_id


def test_a_caller_cannot_change_the_config_afterwards() -> None:
    mine = TINY.config()
    manifest = replace(MANIFEST, config=mine)
    mine["eos_token_id"].append(3)
    mine["vocab_size"] = 65
    assert manifest.model_id == MANIFEST.model_id


ROPE = CONFIG["rope_parameters"]
UNREAD = [
    *({"model_id": value} for value in ("00" * 32, None, MANIFEST.model_id)),
    *({"lane": value} for value in ("native-int8", "Native-float32", None, ["portable-1"], {})),
    *(
        {name: value}
        for name in ("weights_root", "tokenizer", "chat_template")
        for value in ("11", "0x" + "11" * 32, "AA" * 32, "11 " * 32, " " + "11" * 32, 11, None, b"1", ["11"])
    ),
    *({"weights_leaves": value} for value in (0, -1, 3.0, True, "3", None, 2**53)),
    *({"extra": 1}, {"source_sha256": None}, {"source_sha256": "55" * 32}),
    *({"config": value} for value in ("33" * 32, None, [], {}, 3)),
]
UNREAD_CONFIG = [
    *({"extra": None}, {"extra": 1}, {"torch_dtype": "float32"}, {3: 4}),
    *({name: None} for name in CONFIG),
    *({name: float(value)} for name, value in CONFIG.items() if type(value) is int),
    *({name: str(value)} for name, value in CONFIG.items() if type(value) in (int, float, bool)),
    *({name: int(value)} for name, value in CONFIG.items() if type(value) is bool),
    *({"eos_token_id": value} for value in (2, [], [2.0], [True], [2, 2], [3, 2], ["2"], [[2]], [64], [-1], None)),
    *({"rope_parameters": {**ROPE, **value}} for value in ({"x": 1}, {"type": "default"}, {"rope_theta": "1e4"})),
    *({"rope_parameters": value} for value in (5, [], "x", {}, {"rope_theta": 1e4}, {"rope_type": "default"})),
    *({"rope_parameters": {**ROPE, "rope_theta": value}} for value in (float("inf"), float("nan"), 10**400, None)),
    *({"rope_scaling": value} for value in (None, {}, 5)),
    *({"num_attention_heads": value} for value in (0, -4, 3, 2**53)),
    *({"architectures": value} for value in ([], "LlamaForCausalLM", ["MistralForCausalLM"])),
]


@pytest.mark.parametrize("change", UNREAD, ids=str)
def test_other_forms_of_a_manifest_are_refused(change: dict[str, Any]) -> None:
    document = MANIFEST.to_json() | change
    with pytest.raises(ModelError, match=next(iter(change)) if "source" not in next(iter(change)) else "manifest"):
        ModelManifest.from_json(document)


@pytest.mark.parametrize("change", UNREAD_CONFIG, ids=str)
def test_other_forms_of_a_config_are_refused(change: dict[Any, Any]) -> None:
    with pytest.raises(ModelError):
        replace(MANIFEST, config=CONFIG | change)


@pytest.mark.parametrize("name", [*MANIFEST.to_json()])
def test_a_field_that_is_missing_is_refused(name: str) -> None:
    document = MANIFEST.to_json()
    del document[name]
    with pytest.raises(ModelError, match="model manifest"):
        ModelManifest.from_json(document)


@pytest.mark.parametrize("name", CONFIG)
def test_an_entry_of_the_config_that_is_missing_is_refused(name: str) -> None:
    with pytest.raises(ModelError):
        replace(MANIFEST, config={key: value for key, value in CONFIG.items() if key != name})


@pytest.mark.parametrize("document", [None, [], "x", 3, {}, {"model_id": "00" * 32}])
def test_what_is_no_manifest_is_refused(document: Any) -> None:
    with pytest.raises(ModelError, match="model manifest"):
        ModelManifest.from_json(document)
