"""The accuracy gate, and scales that fixed point must follow."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from otr_core.errors import AccuracyError
from otr_node import rounding
from otr_node.accuracy import LEAST_AGREEMENT, POSITIONS, check_accuracy, measure_accuracy, text_ids
from otr_node.answers import load_lane
from otr_node.native import load_native
from otr_node.portable import load_portable
from otr_node.project import Project
from otr_paper.labs.families import write_family
from otr_paper.labs.tiny import TINY, tiny_tensors, write_tiny

IDS = [int(i) for i in np.random.default_rng(3).integers(3, 64, 40)]


def bad_tensors() -> dict[str, np.ndarray]:
    """A model whose embedding fixed point cannot hold: the stream is so small that little of it is
    left, though for floats, which a norm follows, nothing changes."""
    tensors = tiny_tensors(TINY, seed=4)
    for name in tensors:
        if name == "model.embed_tokens.weight" or name.endswith(("o_proj.weight", "down_proj.weight")):
            tensors[name] *= np.float32(2.0**-15)
    return tensors


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("bad") / "m", replace(TINY, rms_eps=1e-14), bad_tensors())


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return write_family(tmp_path_factory.mktemp("good") / "m", "qwen3")


def test_a_model_that_integers_serve_badly_is_refused_with_the_number(bad, tmp_path):
    exact, lines = load_portable(bad), []
    with pytest.raises(
        AccuracyError, match=r"found \d+\.\d % of 48 choices as in fp32, expected at least 95"
    ) as refused:
        check_accuracy(exact, lambda: load_native(bad), tmp_path, report=lines.append)
    assert 0 <= refused.value.found < LEAST_AGREEMENT
    assert (refused.value.least, refused.value.positions) == (LEAST_AGREEMENT, 48)
    assert "measured now" in lines[0]
    # and so it is by the command that serves
    project = Project(tmp_path)
    with pytest.raises(AccuracyError):
        load_lane(project, lane="portable-1", device="cpu", folder=bad, report=lines.append)
    load_lane(project, lane="native-float32", device="cpu", folder=bad, report=lines.append)


def test_accuracy_is_measured_once_and_kept(good, tmp_path):
    exact, lines, loads = load_portable(good), [], []

    def native():
        loads.append(1)
        return load_native(good)

    first = check_accuracy(exact, native, tmp_path, report=lines.append)
    assert first.agreement >= LEAST_AGREEMENT
    assert first.positions == min(POSITIONS, exact.architecture.context)
    assert check_accuracy(exact, native, tmp_path, report=lines.append) == first
    assert len(loads) == 1
    assert lines[0].endswith("measured now")
    assert lines[1].endswith("kept")
    assert f"{100 * first.agreement:.1f} % of {first.positions}" in lines[0]
    # A stricter operator refuses by the number that is kept.
    with pytest.raises(AccuracyError):
        check_accuracy(exact, native, tmp_path, report=lines.append, least=1.01)
    assert len(loads) == 1


@pytest.mark.parametrize(
    "change",
    [{"model_id": "00"}, {"text_sha256": "00"}, {"agree": 99999}, {"positions": 0, "agree": 0}, {"more": 1}, None],
)
def test_what_is_kept_of_another_model_or_text_is_measured_again(change, good, tmp_path):
    exact = load_portable(good)
    first = check_accuracy(exact, lambda: load_native(good), tmp_path, report=lambda line: None)
    (path,) = tmp_path.iterdir()
    path.write_text("{" if change is None else json.dumps(json.loads(path.read_text()) | change))
    loads = []

    def native():
        loads.append(1)
        return load_native(good)

    assert check_accuracy(exact, native, tmp_path, report=lambda line: None) == first
    assert loads == [1]


def test_a_folder_that_cannot_be_written_keeps_nothing_and_refuses_nothing(good, tmp_path):
    (tmp_path / "file").write_text("")
    lines: list[str] = []
    check_accuracy(load_portable(good), lambda: load_native(good), tmp_path / "file" / "x", report=lines.append)
    assert "not kept" in lines[0]


def test_a_tokenizer_without_the_text_s_words_gets_many_ids(good):
    assert len(set(text_ids(load_portable(good)))) > 16


# --- scales


def rescaled(tensors: dict, power: int, pair: str) -> dict:
    """The same function: one matrix of a pair times 2^power, the other divided by it."""
    up, down = {
        "values": (("self_attn.v_proj",), ("self_attn.o_proj",)),
        "scores": (("self_attn.q_proj",), ("self_attn.k_proj",)),
        "mlp": (("mlp.up_proj",), ("mlp.down_proj",)),
        "norms": (
            ("input_layernorm", "post_attention_layernorm"),
            ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"),
        ),
    }[pair]
    out = {}
    for name, value in tensors.items():
        part = name.removesuffix(".weight").split(".", 3)[-1]
        out[name] = value * 2.0 ** (power * (part in up) - power * (part in down))
    return out


@pytest.mark.parametrize("pair", ["values", "scores", "mlp", "norms"])
@pytest.mark.parametrize("power", [-12, -8, 8, 12])
def test_rescaling_changes_no_choice(pair, power, tmp_path):
    folder = write_family(tmp_path / "m", "llama")
    plain = load_portable(folder).session().feed_batch([IDS], all_logits=True)[0].numpy()
    other = load_portable(folder, alter=lambda tensors: rescaled(tensors, power, pair))
    found = other.session().feed_batch([IDS], all_logits=True)[0].numpy()
    if pair == "norms":
        assert found.tolist() == plain.tolist()
        return
    assert (found.argmax(-1) == plain.argmax(-1)).all()
    # Wherever such a pair lies far apart, it comes to the same integers.
    farther = load_portable(folder, alter=lambda tensors: rescaled(tensors, power + (8 if power > 0 else -8), pair))
    assert farther.manifest.weights_root == other.manifest.weights_root


@pytest.mark.parametrize(("pair", "power"), [("values", -12), ("values", 12), ("mlp", 12)])
def test_without_its_scales_fixed_point_would_change_choices(pair, power, tmp_path, monkeypatch):
    folder = write_family(tmp_path / "m", "llama")
    plain = load_portable(folder).session().feed_batch([IDS], all_logits=True)[0].numpy()
    monkeypatch.setattr(rounding, "balance", lambda a, tensors: {})
    other = load_portable(folder, alter=lambda tensors: rescaled(tensors, power, pair))
    found = other.session().feed_batch([IDS], all_logits=True)[0].numpy()
    assert (found.argmax(-1) != plain.argmax(-1)).any()


def turned(tensors: dict, power: int, plus: float) -> dict:
    """The same function: the weights of the queries' norms times 2^power, those of the keys' divided by it."""
    powers = {"self_attn.q_norm": power, "self_attn.k_norm": -power}
    own = {name: powers.get(name.removesuffix(".weight").split(".", 3)[-1], 0) for name in tensors}
    return {
        name: ((value.double() + plus) * 2.0 ** own[name] - plus).to(value.dtype) if own[name] else value
        for name, value in tensors.items()
    }


@pytest.mark.parametrize("power", [-12, -8, -1, 1, 8, 12])
@pytest.mark.parametrize("name", ["qwen3", "gemma3", "olmo2"])
def test_rescaling_the_norms_of_queries_and_keys_changes_no_choice(name, power, tmp_path):
    folder, plus = write_family(tmp_path / "m", name), 1.0 * (name == "gemma3")
    # what transformers chooses for the very checkpoint that is rounded
    native = load_native(folder, alter=lambda tensors: turned(tensors, power, plus)).module
    with torch.no_grad():
        expected = native(input_ids=torch.tensor([IDS])).logits[0].numpy()
    other = load_portable(folder, alter=lambda tensors: turned(tensors, power, plus))
    found = other.session().feed_batch([IDS], all_logits=True)[0].numpy()
    assert (found.argmax(-1) == expected.argmax(-1)).all()
    assert np.abs(found / 2**16 - expected).max() < 0.01  # as without rescaling: 0.003 at most
    if not plus:  # 1 + w is rounded in the checkpoint itself
        assert other.manifest.weights_root == load_portable(folder).manifest.weights_root


@pytest.mark.parametrize("name", ["qwen3", "gemma3", "olmo2"])
def test_without_their_balance_such_norms_would_change_choices(name, tmp_path, monkeypatch):
    folder, plus = write_family(tmp_path / "m", name), 1.0 * (name == "gemma3")
    plain = load_portable(folder).session().feed_batch([IDS], all_logits=True)[0].numpy()
    monkeypatch.setattr(rounding, "balance", lambda a, tensors: {})
    other = load_portable(folder, alter=lambda tensors: turned(tensors, -12, plus))
    found = other.session().feed_batch([IDS], all_logits=True)[0].numpy()
    assert (found.argmax(-1) != plain.argmax(-1)).any()


@pytest.mark.slow
def test_rescaling_smollm2_changes_no_choice(smollm2):
    plain = load_portable(smollm2)
    assert plain.manifest.weights_root.startswith("b8c1959f")  # what receipts of portable-1 state
    ids = text_ids(plain)[:128]
    expected = plain.session().feed_batch([ids], all_logits=True)[0].numpy().argmax(-1)
    del plain
    for power in (8, -12):
        other = load_portable(smollm2, alter=lambda tensors, power=power: rescaled(tensors, -power, "values"))
        found = other.session().feed_batch([ids], all_logits=True)[0].numpy().argmax(-1)
        assert (found == expected).all()


@pytest.mark.slow
def test_smollm2_passes_the_gate(smollm2, tmp_path):
    found = measure_accuracy(load_portable(smollm2), load_native(smollm2))
    assert found.agreement >= 0.99
