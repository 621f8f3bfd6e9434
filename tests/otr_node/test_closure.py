"""A checkpoint folder is read and never executed: what lies in it is in the model's identity, changes
nothing, or is refused by its name."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otr_core.errors import ModelError
from otr_core.lane.sampling import Decoding
from otr_node.checkpoint import read_checkpoint
from otr_node.generate import generate
from otr_node.lanes import load_model
from otr_node.model import Model
from otr_paper.labs.tiny import TINY, tiny_tensors

PROMPT = "w5 w9 not <end> w17"
READ = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
INERT = ("special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model")


def behaviour(model: Model) -> tuple[Any, ...]:
    """What a client sees of a model: prompt ids, text of every token, stop ids, chosen tokens."""
    every = range(model.architecture.vocab)
    ids = model.tokenizer.prompt_ids(PROMPT)
    chosen = generate(model, model.tokenizer.prompt_ids(PROMPT), Decoding(4)).token_ids
    texts = (model.tokenizer.decode([token]) for token in every)
    return ids, tuple(texts), model.tokenizer.decode([*every]), model.architecture.stop_ids, chosen


def names_in_the_libraries() -> list[str]:
    """Names of files that transformers' sources speak of where they load tokenizers, templates,
    configurations, weights, adapters and code."""
    (root,) = importlib.util.find_spec("transformers").submodule_search_locations  # type: ignore[union-attr]
    patterns = ("models/*/tokenization*.py", "tokenization*.py", "models/auto/*.py", "utils/__init__.py")
    patterns += (
        "utils/hub.py",
        "utils/peft_utils.py",
        "convert_slow_tokenizer.py",
        "modeling_utils.py",
        "modelcard.py",
    )
    patterns += ("configuration_utils.py", "generation/*.py", "integrations/*.py", "processing_utils.py")
    endings = "json|model|txt|bpe|jinja|vocab|bin|safetensors|h5|msgpack|pth|pt|spm|tiktoken|py|yaml|codes|gguf"
    found = set()
    for pattern in patterns:
        for path in Path(root).glob(pattern):
            found |= set(re.findall(rf'"([\w-][\w.-]*\.(?:{endings}))"', path.read_text("utf-8")))
    return sorted(found)


OTHERS = [
    *("tf_model.h5", "flax_model.msgpack", "model.ckpt.index", "model.gguf", "consolidated.00.pth", "params.json"),
    *("pytorch_model-00001-of-00002.bin", "model-00001-of-00002.safetensors", "consolidated.safetensors"),
    *("adapter_config.json", "adapter_model.safetensors", "quantize_config.json", "quantization_config.json"),
    *("quant_config.json", "hf_quant_config.json", "compression_config.json", "tokenizer.4.0.0.json", "tekken.json"),
    *("modeling_llama.py", "tokenization_llama.py", "configuration_llama.py", "__init__.py", "setup.py", "run.sh"),
    *("spiece.model", "sentencepiece.model", "merges.txt", "vocab.txt", "normalizer.json", "tokenizer_config.json.bak"),
    *(
        "Config.json",
        "config.json ",
        "config.json.",
        "TOKENIZER.JSON",
        ".config.json",
        "README.md",
        "LICENSE",
        "NOTICE",
    ),
    *("USE_POLICY.md", ".gitattributes", "conversion.json", "trainer_state.json", "training_args.bin", "é\u202e.json"),
]
FOLDERS = [
    *("additional_chat_templates/tool.jinja", "original/params.json", "custom_generate/generate.py", "onnx/model.onnx"),
    *("chat_templates/default.jinja", "__pycache__/x.pyc", "1_Pooling/config.json", "tokenizer.json/x", "README.md/x"),
]


def test_the_libraries_are_looked_through() -> None:
    names = names_in_the_libraries()
    expected = {*READ, *INERT, "chat_template.json", "processor_config.json", "pytorch_model.bin.index.json"}
    expected |= {"adapter_model.bin", "preprocessor_config.json", "spiece.model", "model.safetensors.index.json"}
    assert expected <= set(names)
    assert len(names) > 45


def token(text: str, number: int) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": text, "special": True, **flags}


ADVERSARIAL = [
    # the word "not" (w9 in this vocabulary) becomes a token that is never shown
    json.dumps({"additional_special_tokens": ["w9"], "extra_special_tokens": ["w9"], "eos_token": "w9"}),
    json.dumps({"added_tokens_decoder": {"9": {**token("w9", 9), "id": 9}}, "unk_token": "<unk>"}),
    # "w5 w9" becomes one token, or w9 another one
    json.dumps({"w5 w9": 63, "w9": 7, "not": 8}),
    json.dumps({"eos_token_id": [5, 9], "bad_words_ids": [[9]], "suppress_tokens": [9], "chat_template": "w7 w7"}),
    json.dumps({"weight_map": {"model.norm.weight": "model.safetensors"}}),
    json.dumps({"auto_map": {"AutoTokenizer": "tokenization_llama.Evil"}, "use_fast": False, "chat_template": "w3"}),
    "raise SystemExit('this file was executed')\n",
    "{{ strftime_now('%s') }} w7 {% for m in messages %}{{ m['content'] }}{% endfor %}",
    "",
    "\x00\xff not a document",
]


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint, to drop files into."""
    return Path(shutil.copytree(tiny, tmp_path / "m"))


@pytest.fixture(scope="module")
def honest(tiny: Path) -> tuple[bytes, tuple[Any, ...]]:
    """Model id and behaviour of the tiny checkpoint."""
    model = load_model(tiny)
    return model.manifest.model_id, behaviour(model)


def outcome(folder: Path) -> tuple[bytes, tuple[Any, ...]] | str:
    """Model id and behaviour, or the reason of the refusal."""
    try:
        model = load_model(folder)
        return model.manifest.model_id, behaviour(model)
    except ModelError as error:
        return str(error)


def check_drop(folder: Path, name: str, honest: tuple[bytes, tuple[Any, ...]]) -> str:
    """A file was dropped: refused, or without effect, or another model under another id."""
    found = outcome(folder)
    part = name.partition("/")[0]
    if isinstance(found, str):
        # a message shows each character that cannot be printed as its number
        shown = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in part)
        assert part in READ or shown in found or ascii(part)[1:-1] in found
        return "refused"
    assert (found[0] == honest[0]) == (found[1] == honest[1]), f"{name}: id or behaviour changed alone"
    if found == honest:
        return "nothing"
    assert part in READ
    return "both"


@pytest.mark.parametrize("name", sorted({*names_in_the_libraries(), *OTHERS, *FOLDERS}), ids=ascii)
def test_no_file_changes_id_or_behaviour_alone(name: str, folder: Path, honest: tuple[bytes, tuple[Any, ...]]) -> None:
    path = folder / name
    if path.parent != folder and path.parent.exists():
        path.parent.unlink()
    path.parent.mkdir(exist_ok=True)
    kept = path.read_bytes() if path.is_file() else None
    seen = set()
    for content in ADVERSARIAL:
        path.write_bytes(content.encode("latin-1"))
        seen.add(check_drop(folder, name, honest))
    known = name in READ or name in ("model.safetensors", "model.safetensors.index.json")
    assert known or len(seen) == 1  # what is not read cannot matter by its content
    if kept is not None:
        path.write_bytes(kept)
        assert outcome(folder) == honest


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    name=st.one_of(
        st.sampled_from([*READ, *INERT]),
        st.from_regex(r"[A-Za-z_.-]{1,12}\.(json|py|txt|model|jinja|bin|safetensors)", fullmatch=True),
    ),
    content=st.one_of(
        st.sampled_from(ADVERSARIAL).map(lambda text: text.encode("latin-1")),
        st.binary(max_size=40),
        st.dictionaries(
            st.sampled_from(["eos_token_id", "eos_token", "unk_token", "chat_template", "added_tokens", "w9"]),
            st.one_of(st.integers(-2, 70), st.sampled_from(["w9", "<end>", "w7 w7", "{{ messages[0].content }}"])),
        ).map(lambda value: json.dumps(value).encode()),
    ),
)
def test_dropped_files_of_any_name_and_content(
    tiny: Path, tmp_path: Path, honest: tuple[bytes, tuple[Any, ...]], name: str, content: bytes
) -> None:
    folder = tmp_path / "m"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(tiny, folder)
    (folder / name).write_bytes(content)
    found = outcome(folder)
    if not isinstance(found, str):
        # settings that name a token may be in the identity and show nothing; never the other way round
        assert found[1] == honest[1] or found[0] != honest[0]
        if name not in READ:
            assert found == honest


def test_the_issues_examples(folder: Path, honest: tuple[bytes, tuple[Any, ...]]) -> None:
    """A file beside the checkpoint made the library's tokenizer drop a word, another one cut the
    prompt otherwise; the library is asked as well, so that this stays an attack."""
    from transformers import AutoTokenizer

    plain = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    (folder / "special_tokens_map.json").write_text(json.dumps({"additional_special_tokens": ["w9"]}))
    (folder / "added_tokens.json").write_text(json.dumps({"w5 w9": 64}))
    library = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    ids = [5, 9, 17]
    assert plain.decode(ids, skip_special_tokens=True) == "w5 w9 w17"
    changed = library.decode(ids, skip_special_tokens=True) != "w5 w9 w17"
    assert changed or library("w5 w9 w17")["input_ids"] != plain("w5 w9 w17")["input_ids"]
    assert outcome(folder) == honest
    assert load_model(folder).tokenizer.decode(ids) == "w5 w9 w17"


def test_weights_beside_the_weights_are_refused(
    folder: Path, write_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    other = write_checkpoint(tmp_path / "other", TINY, tiny_tensors(TINY, seed=2))
    shutil.copy(other / "model.safetensors", folder / "model-2.safetensors")
    with pytest.raises(ModelError, match=r"model-2.safetensors: found a file that is no part.*move it out"):
        load_model(folder)
    index = {"weight_map": dict.fromkeys(TINY.tensors(), "model-2.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"model\.safetensors: found a file"):
        load_model(folder)
    (folder / "model.safetensors").unlink()
    assert load_model(folder).manifest == load_model(other).manifest


# ---- bytes are read once ------------------------------------------------------------------------------------------

_watched: dict[str, Any] = {}


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _watched and isinstance(arguments[0], str | bytes | os.PathLike):
        path = Path(os.fsdecode(arguments[0]))
        if path.parent == _watched["folder"]:
            _watched["opened"].append(path.name)
            swap = _watched["swaps"].pop(path.name, None)
            if swap is not None:
                swap()


sys.addaudithook(_audit)


@pytest.fixture
def opened(folder: Path) -> Iterator[list[str]]:
    """Names of the files below ``folder`` in the order in which Python opens them."""
    names: list[str] = []
    _watched.update(folder=folder, opened=names, swaps={})
    yield names
    _watched.clear()


def fill(folder: Path) -> None:
    for name in (*INERT, "README.md", ".gitattributes"):
        (folder / name).write_text(ADVERSARIAL[0])
    (folder / "generation_config.json").write_text("{}")


def test_each_small_file_is_opened_once_and_inert_ones_never(folder: Path, opened: list[str]) -> None:
    fill(folder)
    opened.clear()
    load_model(folder)
    assert sorted(name for name in opened if name != "model.safetensors") == sorted(READ)


def test_files_swapped_while_the_model_is_loaded_have_no_effect(
    folder: Path, opened: list[str], honest: tuple[bytes, tuple[Any, ...]]
) -> None:
    """Whoever changes the folder after the last small file is opened comes too late, whichever
    library reads."""
    fill(folder)
    opened.clear()
    load_model(folder)
    small = [name for name in opened if name in READ]

    def swap() -> None:
        words = json.loads((folder / "tokenizer.json").read_text())
        vocabulary = words["model"]["vocab"]
        vocabulary["w9"], vocabulary["w10"] = vocabulary["w10"], vocabulary["w9"]
        changed = {"tokenizer.json": json.dumps(words), "chat_template.jinja": "w7", "config.json": "{}"}
        changed |= {"generation_config.json": '{"eos_token_id": 5}', "tokenizer_config.json": '{"eos_token": "w9"}'}
        for name in small[:-1]:
            (folder / name).write_text(changed[name])

    _watched["swaps"][small[-1]] = swap
    assert outcome(folder) == honest
    assert json.loads((folder / "config.json").read_text()) == {}  # it was swapped
    assert isinstance(outcome(folder), str)


@pytest.mark.parametrize("lane", ["native-float32", "portable-1"])
def test_files_changed_after_loading_have_no_effect(folder: Path, lane: str) -> None:
    model = load_model(folder, lane=lane)
    before, logits = behaviour(model), model.session().feed([1, 5, 9])
    for path in sorted(folder.iterdir()):
        size = path.stat().st_size
        with open(path, "r+b") as stream:  # the same file, so that a mapping of it would see this
            stream.write(b"\xff" * size)
    assert behaviour(model) == before
    np.testing.assert_array_equal(model.session().feed([1, 5, 9]), logits)
    shutil.rmtree(folder)
    assert behaviour(model) == before


def test_the_decoder_is_built_from_the_architecture_alone(folder: Path, tiny: Path) -> None:
    """Settings that the library would act on change nothing, the module's own included."""
    config = json.loads((folder / "config.json").read_text())
    more = {"attention_dropout": 0.5, "pretraining_tp": 2, "torch_dtype": "float16", "initializer_range": 9.0}
    more |= {"auto_map": {"AutoModelForCausalLM": "modeling_llama.Evil"}, "_attn_implementation": "sdpa"}
    more |= {"output_attentions": True, "bos_token_id": 7, "id2label": {"0": "x"}}
    (folder / "config.json").write_text(json.dumps(config | more))
    model, plain = load_model(folder), load_model(tiny)
    assert model.manifest == plain.manifest
    assert behaviour(model) == behaviour(plain)
    assert model.module.config.to_dict() == plain.module.config.to_dict()  # type: ignore[attr-defined]


# ---- unusable folders -----------------------------------------------------------------------------------------------


def test_links_and_pipes(folder: Path, tiny: Path, honest: tuple[bytes, tuple[Any, ...]], tmp_path: Path) -> None:
    for name in ("tokenizer.json", "model.safetensors"):
        (folder / name).unlink()
        (folder / name).symlink_to(tiny / name)
    (folder / "vocab.json").symlink_to(tmp_path / "nowhere")
    assert outcome(folder) == honest
    for name in ("config.json", "chat_template.jinja"):
        kept = (folder / name).read_bytes()
        for target in (tmp_path / "nowhere", Path("/dev/zero"), tmp_path):
            (folder / name).unlink()
            (folder / name).symlink_to(target)
            with pytest.raises(ModelError, match=name):
                read_checkpoint(folder)
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(ModelError, match=f"{name}: not a regular file"):
            read_checkpoint(folder)
        (folder / name).unlink()
        (folder / name).write_bytes(kept)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "tokenizer.json").write_text("{}")
    assert outcome(folder) == honest


@pytest.mark.parametrize("name", READ)
def test_giant_and_wrongly_encoded_files_are_refused(name: str, folder: Path) -> None:
    kept = (folder / name).read_bytes() if (folder / name).exists() else b"{}"
    for content, reason in (
        (kept.decode().encode("utf-16"), "utf-8|not readable"),
        (b"\xef\xbb\xbf" + kept, None if name == "chat_template.jinja" else "readable|BOM"),
        (b" " * (2**26 + 1), "found more than"),
    ):
        (folder / name).write_bytes(content)
        if reason:
            with pytest.raises(ModelError, match=reason):
                read_checkpoint(folder)
