"""The native lanes on the tiny checkpoint: loading, refusing, generating, tracing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from otr_core.errors import InputError, ModelError
from otr_core.lane.formats import LOGIT
from otr_core.lane.rotary import RopeScaling
from otr_core.lane.sampling import Decoding
from otr_core.poea.trace import open_piece, verify_opening
from otr_node.checkpoint import torch_threads
from otr_node.generate import generate, prompt_tokens, rebuild_states
from otr_node.lanes import load_model
from otr_paper.labs.tiny import TINY, tiny_tensors

SEED = bytes(range(32))
PROMPT = "w5 w9 w17 w33"


def test_logits_agree_with_a_plain_transformers_run(tiny: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = load_model(tiny)
    ids = prompt_tokens(model, PROMPT, 1)
    assert ids == (1, 5, 9, 17, 33, 2)
    session = model.session()
    logits = [session.feed(ids), session.feed([7]), session.feed([8])]
    reference = AutoModelForCausalLM.from_pretrained(str(tiny), attn_implementation="eager")
    expected = reference(torch.tensor([[*ids, 7, 8]])).logits[0].detach().numpy()
    for row, position in zip(logits, (5, 6, 7), strict=True):
        # fp32: the same sums in another order; logits are of order 10
        np.testing.assert_allclose(row, expected[position], atol=1e-4)


def test_llama3_positions_agree_with_a_plain_transformers_run(
    tmp_path: Path, write_checkpoint: Callable[..., Path]
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    scaled = replace(TINY, rope_scaling=RopeScaling(8.0, 1.0, 4.0, 16))
    folder = write_checkpoint(tmp_path / "scaled", scaled)
    model, plain = load_model(folder), load_model(write_checkpoint(tmp_path / "plain", TINY))
    ids = [1, 5, 9, 17, 33, 2, 7, 8]
    found = model.session().feed(ids)
    reference = AutoModelForCausalLM.from_pretrained(str(folder), attn_implementation="eager")
    expected = reference(torch.tensor([ids])).logits[0, -1].detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)  # fp32: the same sums in another order
    assert np.abs(found - plain.session().feed(ids)).max() > 1e-2
    portable = load_model(folder, lane="portable-1").session().feed(ids) / 2**LOGIT
    np.testing.assert_allclose(portable, expected, atol=0.05)  # integers of 14 to 20 fraction bits


@pytest.mark.parametrize("lane", ["native-float32", "native-bfloat16"])
def test_generate_repeats_and_trace_holds_what_layers_computed(tiny: Path, lane: str) -> None:
    import torch
    from transformers import DynamicCache

    model = load_model(tiny, lane=lane)
    decoding = Decoding(12, seed=3, temperature_milli=900)
    asked = prompt_tokens(model, PROMPT, 12)
    answer = generate(model, asked, decoding, trace_seed=SEED)
    again = generate(model, asked, decoding, trace_seed=SEED)
    assert answer == again
    assert answer.trace is not None
    # tracing does not change the answer
    assert generate(model, asked, decoding).token_ids == answer.token_ids
    assert answer.trace.shape.positions == len(answer.prompt_ids) + len(answer.token_ids) - 1
    assert answer.configuration["lane"] == lane

    # Second opinion: hidden states and cache as the library itself reports them.
    wanted = [(0, 0), (4, 2), (answer.trace.shape.positions - 1, 1)]
    states = rebuild_states(model, answer, wanted)
    cache = DynamicCache()
    hidden = []
    with torch_threads(1), torch.inference_mode():
        for ids in (answer.prompt_ids, *([token] for token in answer.token_ids[:-1])):
            result = model.module.model(torch.tensor([list(ids)]), past_key_values=cache, output_hidden_states=True)
            hidden.append(torch.stack(result.hidden_states))
    rows = torch.cat(hidden, dim=2)
    for position, layer in wanted:
        state = states[position, layer]
        if layer < 2:  # the library's last hidden state is after the final norm
            assert state.output == rows[layer + 1, 0, position].contiguous().view(torch.uint8).numpy().tobytes()
        key = cache.layers[layer].keys[0, :, position].contiguous().view(torch.uint8).numpy().tobytes()
        assert state.key == key
        opening = open_piece(answer.trace, SEED, position, layer, 1, state)
        verify_opening(answer.trace.root, answer.trace.shape, opening)


def test_prefill_by_layers_and_decode_by_positions_give_one_order(tiny: Path) -> None:
    """A long prompt is recorded layer by layer, a short one in one piece; the same rules hold for
    both."""
    model = load_model(tiny)
    long = " ".join(["w5"] * 40)
    for prompt in ("w5", long):
        answer = generate(model, prompt_tokens(model, prompt, 3), Decoding(3), trace_seed=SEED)
        assert answer.trace is not None
        positions = answer.trace.shape.positions
        wanted = [(position, layer) for position in (0, positions - 1) for layer in range(3)]
        for (position, layer), state in rebuild_states(model, answer, wanted).items():
            open_piece(answer.trace, SEED, position, layer, 0, state)


def test_stop_token_ends_the_answer(tiny: Path, write_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    model = load_model(tiny)
    asked = prompt_tokens(model, PROMPT, 8)
    free = generate(model, asked, Decoding(8))
    stop = free.token_ids[0]
    folder = write_checkpoint(tmp_path / "m", replace(TINY, stop_ids=(stop,)), tiny_tensors(TINY))
    answer = generate(load_model(folder), asked, Decoding(8))
    assert (answer.token_ids, answer.finish) == ((stop,), "stop")
    assert free.finish == "length"
    assert len(free.token_ids) == 8


@pytest.mark.parametrize("prompt", ["", "  \n", "w5 " * 50, "x" * 4000])
def test_unusable_prompts_are_refused_before_anything_runs(tiny: Path, prompt: str) -> None:
    model = load_model(tiny)
    with pytest.raises(InputError, match="prompt"):
        prompt_tokens(replace(model, module=None), prompt, 4)


@pytest.mark.parametrize("ids", [(), (1, 64), (-1, 5), (1,) * 45])
def test_unusable_token_ids_are_refused_before_anything_runs(tiny: Path, ids: tuple[int, ...]) -> None:
    """None, one outside the vocabulary of 64, more than a context of 48 with 4 to come."""
    model = load_model(tiny)
    with pytest.raises(InputError, match="prompt"):
        generate(replace(model, module=None), ids, Decoding(4))


def test_context_counts_prompt_and_answer(tiny: Path) -> None:
    model = load_model(tiny)
    prompt_tokens(model, PROMPT, 42)
    with pytest.raises(InputError, match="found 6 tokens and 43 to answer, expected at most 48"):
        prompt_tokens(model, PROMPT, 43)


def test_variants_have_other_model_ids(tiny: Path, tmp_path: Path) -> None:
    honest = load_model(tiny).manifest
    dropped = load_model(tiny, drop_layers=[1])
    assert dropped.architecture.layers == 2
    assert generate(dropped, prompt_tokens(dropped, PROMPT, 4), Decoding(4), trace_seed=SEED).trace.shape.layers == 2

    def flip(tensors: dict) -> dict:
        changed = tensors["model.layers.0.mlp.up_proj.weight"].clone()
        changed.view(dtype=__import__("torch").int32)[3, 5] ^= 1
        return tensors | {"model.layers.0.mlp.up_proj.weight": changed}

    others = [
        dropped.manifest,
        load_model(tiny, alter=flip).manifest,
        load_model(tiny, lane="native-bfloat16").manifest,
    ]
    for part, name in (("chat_template.jinja", "chat_template"), ("tokenizer.json", "tokenizer")):
        folder = tmp_path / name
        shutil.copytree(tiny, folder)
        text = (folder / part).read_text()
        (folder / part).write_text(text.replace("<user> {{", "<user> w3 {{").replace('"w3"', '"w3x"'))
        others.append(load_model(folder).manifest)
        assert getattr(others[-1], name) != getattr(honest, name)
    ids = [manifest.model_id for manifest in (honest, *others)]
    assert len(set(ids)) == len(ids)
    assert load_model(tiny).manifest == honest


def test_the_kept_layers_are_the_right_ones(tiny: Path, write_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    tensors = tiny_tensors(TINY)
    two = {name: value for name, value in tensors.items() if ".layers." not in name}
    for new, old in ((0, 0), (1, 2)):
        mine = f"layers.{old}."
        two |= {name.replace(mine, f"layers.{new}."): value for name, value in tensors.items() if mine in name}
    folder = write_checkpoint(tmp_path / "m", replace(TINY, layers=2), two)
    assert load_model(folder).manifest.weights_root == load_model(tiny, drop_layers=[1]).manifest.weights_root
    for bad in ([3], [0, 1, 2], [-1]):
        with pytest.raises(ModelError, match="drop_layers"):
            load_model(tiny, drop_layers=bad)


def test_unfit_checkpoints_are_named_errors(write_checkpoint: Callable[..., Path], tmp_path: Path, tiny: Path) -> None:
    tensors = tiny_tensors(TINY)
    name = "model.layers.2.self_attn.k_proj.weight"
    nan, infinite = tensors[name].copy(), tensors[name].copy()
    nan[1, 2], infinite[0, 0] = np.nan, -np.inf
    cases = {
        "missing": ({key: value for key, value in tensors.items() if key != name}, "k_proj.weight missing"),
        "extra": (tensors | {"model.layers.3.mlp.up_proj.weight": tensors[name]}, "layers.3.mlp.up_proj.weight extra"),
        "shape": (tensors | {name: tensors[name].T.copy()}, r"found shape \(32, 16\), expected \(16, 32\)"),
        "nan": (tensors | {name: nan}, "NaN or infinite"),
        "inf": (tensors | {name: infinite}, "NaN or infinite"),
        "dtype": (tensors | {name: tensors[name].astype(np.int32)}, "found dtype I32"),
    }
    for case, (content, reason) in cases.items():
        with pytest.raises(ModelError, match=reason):
            load_model(write_checkpoint(tmp_path / case, TINY, content))
    with pytest.raises(ModelError, match="no such folder"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="lane"):
        load_model(tiny, lane="native-int4")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", None),
        ("config.json", "[]"),
        ("tokenizer.json", None),
        ("tokenizer.json", "{}"),
        ("tokenizer.json", '{"model": '),
        ("tokenizer_config.json", None),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"3": {"content": "nowhere"}}}'),
        ("tokenizer_config.json", '{"eos_token": "nowhere"}'),
        ("tokenizer_config.json", '{"eos_token": 2}'),
        ("chat_template.jinja", "{% if %}"),
        ("generation_config.json", '{"eos_token_id": [64]}'),
        ("generation_config.json", '{"eos_token_id": 2.0}'),
    ],
)
def test_damaged_side_files_are_named_errors(tiny: Path, tmp_path: Path, file: str, content: str | None) -> None:
    folder = tmp_path / "m"
    shutil.copytree(tiny, folder)
    (folder / file).unlink(missing_ok=True)
    if content is not None:
        (folder / file).write_text(content)
    with pytest.raises(ModelError):
        load_model(folder)


def test_chat_template_in_its_older_place(tiny: Path, tmp_path: Path) -> None:
    import json

    folder = tmp_path / "m"
    shutil.copytree(tiny, folder)
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="no chat template"):
        load_model(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text()) | {"chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert load_model(folder).manifest.chat_template == load_model(tiny).manifest.chat_template


def test_stop_ids_of_the_generation_config_hold(tiny: Path, tmp_path: Path) -> None:
    """As in the library's own ``generate``; where it has none, those of config.json hold."""
    import json

    from transformers import AutoModelForCausalLM

    folder = tmp_path / "m"
    shutil.copytree(tiny, folder)
    honest = load_model(tiny)
    asked = prompt_tokens(honest, PROMPT, 8)
    first = generate(honest, asked, Decoding(8)).token_ids[0]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [first, 2, first]}))
    model = load_model(folder)
    assert model.architecture.stop_ids == tuple(sorted({first, 2}))
    assert model.manifest.architecture == model.architecture
    assert model.manifest.model_id != honest.manifest.model_id
    answer = generate(model, asked, Decoding(8))
    assert (answer.token_ids, answer.finish) == ((first,), "stop")
    library = AutoModelForCausalLM.from_pretrained(str(folder), attn_implementation="eager")
    theirs = library.generate(__import__("torch").tensor([answer.prompt_ids]), max_new_tokens=8, do_sample=False)
    assert theirs[0, len(answer.prompt_ids) :].tolist() == [first]

    config = json.loads((folder / "config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({"temperature": 0.2}))
    assert load_model(folder).manifest == honest.manifest
    del config["eos_token_id"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="eos_token_id"):
        load_model(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 2}))
    assert load_model(folder).manifest == honest.manifest


def test_threads_are_put_back(tiny: Path) -> None:
    import torch

    before = torch.get_num_threads()
    load_model(tiny, threads=before + 1).session().feed([3])
    assert torch.get_num_threads() == before
