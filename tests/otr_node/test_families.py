"""Families of decoders: tiny random checkpoints that transformers saved, run by it and by the
portable lane."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from otr_core import merkle
from otr_core.dispute.judge import verdict
from otr_core.dispute.openings import Openings
from otr_core.dispute.words import judge_words
from otr_core.errors import AnswerProofError, InputError, ModelError
from otr_core.lane.architecture import Architecture
from otr_core.lane.dims import Matrix
from otr_core.lane.element import LAYER, TOKEN, Place
from otr_core.lane.program import Kind, layer_program, token_program
from otr_core.lane.sampling import Decoding, draw
from otr_core.lane.step import right
from otr_core.poea.manifest import ModelManifest
from otr_core.spotcheck.units import Layout
from otr_node.commitment import commit_model
from otr_node.execution import Execution
from otr_node.generate import generate
from otr_node.integers import family_kernels, family_twins, kernels, twins
from otr_node.integers.family_loops import family_loops, family_trials
from otr_node.integers.forms import Form
from otr_node.lanes import load_model
from otr_node.portable import PortableModel, PortableSession, feed_together, load_portable
from otr_node.proof.answers import commit_for_proofs
from otr_node.run import Run
from otr_paper.labs.families import CASES, write_config, write_family
from tests.helpers.answer_proofs import provable
from tests.helpers.ends import ends_of

IDS = [int(i) for i in np.random.default_rng(3).integers(3, 96, 40)]
#: Most that a logit may differ from fp32; 0.04 was the most seen, of logits that deviate by 1.3 to 3.
MOST_ERROR = 0.05
ADDED = {"qwen3": Kind.SCALE, "gemma2": Kind.CAP, "gemma": Kind.GELU}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a case's checkpoint, written once."""
    made: dict[str, Path] = {}

    def find(name: str) -> Path:
        if name not in made:
            made[name] = write_family(tmp_path_factory.mktemp("family") / "m", name)
        return made[name]

    return find


@pytest.fixture(scope="module")
def loaded(folder):
    made: dict[str, PortableModel] = {}

    def find(name: str) -> PortableModel:
        return made.setdefault(name, made.get(name) or load_portable(folder(name)))

    return find


def by_transformers(folder: Path, ids: list[int]) -> np.ndarray:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].numpy()


@pytest.mark.parametrize("name", CASES)
def test_the_portable_lane_gives_what_transformers_gives(name, folder, loaded):
    expected, model = by_transformers(folder(name), IDS), loaded(name)
    logits = model.session().feed_batch([IDS], all_logits=True)[0].numpy()
    error = np.abs(logits / 2**16 - expected).max()
    assert error < MOST_ERROR
    # the same choice wherever two logits are not nearer to each other than the error reaches
    best = np.sort(expected, axis=-1)
    clear = best[:, -1] - best[:, -2] > 2 * error
    assert clear.mean() > 0.85
    assert (logits.argmax(-1) == expected.argmax(-1))[clear].all()


@pytest.mark.parametrize("name", CASES)
def test_no_bit_depends_on_form_cut_batch_or_padding(name, loaded):
    model = loaded(name)
    expected = model.session().feed_batch([IDS], all_logits=True)[0].tolist()
    for form in (Form(twins, 0), Form(kernels, 0), Form(kernels, 7)):
        other = replace(model, form=form)
        session, found = PortableSession(other), []
        for part in (IDS[:1], IDS[1:4], IDS[4:30], IDS[30:31], IDS[31:]):
            found += session.feed_batch([part], all_logits=True)[0].tolist()
        assert found == expected
        batch = PortableSession(other, padding=(3, 0)).feed_batch([[0, 0, 0, *IDS[:20]], IDS[:23]], all_logits=True)
        assert batch[0, 3:].tolist() == expected[:20]
        assert batch[1].tolist() == expected[:23]


@pytest.mark.parametrize("name", CASES)
def test_sequences_that_are_fed_together_have_the_bits_of_each_alone(name, loaded):
    model = loaded(name)
    expected = model.session().feed_batch([IDS], all_logits=True)[0].tolist()
    sessions, starts = [model.session(), model.session()], (9, 21)
    for session, start in zip(sessions, starts, strict=True):
        session.feed(IDS[:start])
    together = feed_together(sessions, [IDS[9:30], IDS[21:23]], [None, None])
    assert together.tolist() == [expected[29], expected[22]]
    assert feed_together(sessions, [IDS[30:31], IDS[23:24]], [None, None]).tolist() == [expected[30], expected[23]]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "mistral", "gemma3"])
def test_a_context_of_8192_tokens_has_the_same_bits_however_it_is_cut(name, tmp_path):
    changes = {"max_position_embeddings": 8192, "num_hidden_layers": 2, "sliding_window": 1000}
    model, random = load_portable(write_family(tmp_path / "m", name, changes)), np.random.default_rng(1)
    ids = random.integers(3, 96, 8192).tolist()
    expected, session, fed = model.session().feed(ids), model.session(), 0
    while fed < len(ids):
        some = min(int(random.integers(1, 900)), 8170 - fed) if fed < 8170 else 1
        logits = session.feed(ids[fed : fed + some])
        fed += some
    assert logits.tolist() == expected.tolist()


def test_the_compiled_operations_give_what_their_twins_give():
    assert family_loops(Form(kernels, 0)) is family_kernels
    seen = set()
    for seed in range(20):
        for name, *arguments in family_trials(np.random.default_rng(seed)):
            outs = []
            for loops in (family_kernels, family_twins):
                own = [np.copy(each) if isinstance(each, np.ndarray) else each for each in arguments]
                getattr(loops, name)(*own)
                outs.append(own[-1].tolist())
            assert outs[0] == outs[1], name
            seen.add(name)
    assert seen == {"weigh", "gelu", "cap", "attend_within"}


# --- the definition, the watched lane and the judge


@pytest.fixture(scope="module")
def runs(loaded):
    made: dict[tuple[str, int], Run] = {}

    def find(name: str, temperature: int = 0) -> Run:
        if (name, temperature) not in made:
            model = loaded(name)
            prompt, seed = tuple(IDS[:7]), bytes(range(32))
            decoding, session = Decoding(6, seed=5, temperature_milli=temperature), model.session()
            chosen, logits = [], session.feed(prompt)
            for step in range(6):
                chosen.append(model.choose(logits, temperature, draw(5, step, bytes(32))))
                logits = session.feed([chosen[-1]])
            made[name, temperature] = Run(
                model, commit_model(model), prompt, tuple(chosen), seed, decoding, order_id=bytes(32)
            )
        return made[name, temperature]

    return find


def executions(run: Run) -> list[Execution]:
    last = run.trees.dims.layers - 1
    layers = [(LAYER, 0, 0), (LAYER, 11, 0), (LAYER, 9, last)]
    return [run.execution(*where) for where in (*layers, (TOKEN, 8, last))]


def steps(done: Execution, random: Random, per_operator: int) -> list[Place]:
    found = []
    for number, op in enumerate(done.program):
        for _ in range(per_operator):
            element = random.randrange(op.length)
            at = random.randrange(op.steps + 1) if op.steps > 1 else 0
            value = int(done.vectors[number][element])
            place = (done.target, done.position, done.layer, number, element, at, value)
            found.append(Place(*place, token_step=done.token_step))
    return found


@pytest.mark.parametrize("name", CASES)
def test_definition_lane_and_judge_agree_on_steps_of_every_operator(name, runs):
    random, seen = Random(name), set()
    for temperature in (0, 900):
        run = runs(name, temperature)
        assert run.wrong_token == 0
        for done in executions(run):
            assert [len(values) for values in done.vectors] == [op.length for op in done.program]
            for place in steps(done, random, 3):
                op = done.program[place.operator]
                reader = Openings(done, place, piece=run.piece, token=run.token)
                assert right(done.dims, run.claim, place, reader), (op.name, place)
                roots = {
                    "weights_root": run.trees.weights_root,
                    "tables_root": run.trees.tables_root,
                    "operators_root": done.operators.root,
                    "ends": ends_of(done, place.operator, place.element, place.step),
                }
                assert verdict(done.dims, run.claim, place, reader.made, **roots)
                seen.add(op.kind)
                if op.steps == 1 or place.step == op.steps:
                    false = replace(place, value=place.value + 1)
                    assert not verdict(done.dims, run.claim, false, reader.made, **roots)
    assert ADDED.get(name, Kind.DOT) in seen


def test_every_operator_that_families_add_is_in_some_program(loaded):
    found = {op.kind for name in ADDED for op in _program(loaded(name))}
    assert {Kind.SCALE, Kind.CAP, Kind.GELU} <= found


def _program(model: PortableModel):
    return (*layer_program(model.dims, 3), *token_program(model.dims, 0))


@pytest.mark.parametrize("name", CASES)
def test_a_family_s_config_is_written_as_it_is_read(name, loaded):
    architecture = loaded(name).architecture
    assert Architecture.from_config(architecture.config()) == architecture
    assert loaded(name).manifest.architecture == architecture


# --- the native lane


NATIVE = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 96, "eos_token_id": 2},
    "mixtral": {"num_local_experts": 3, "num_experts_per_tok": 2, "sliding_window": None},
    "stablelm": {"layer_norm_eps": 1e-5},
}


@pytest.mark.parametrize("name", [*CASES, *NATIVE])
def test_the_native_lane_runs_what_transformers_runs(name, folder, tmp_path):
    place = folder(name) if name in CASES else write_config(tmp_path / "m", name, NATIVE[name])
    expected = by_transformers(place, IDS)
    model = load_model(place)
    session = model.session()
    found = np.stack([session.feed(IDS[:9]), *(session.feed([token]) for token in IDS[9:])])
    np.testing.assert_allclose(found, expected[8:], atol=2e-4)  # fp32: the same sums in another order
    again = ModelManifest.from_json(model.manifest.to_json())
    if name in CASES:  # a config as JSON does not tell 0 from 0.0
        assert again.architecture == model.architecture
    answer = generate(model, tuple(IDS[:6]), Decoding(4), trace_seed=bytes(32))
    assert answer == generate(model, tuple(IDS[:6]), Decoding(4), trace_seed=bytes(32))
    assert answer.trace.shape.layers == model.architecture.layers
    assert answer.trace.shape.positions == 5 + len(answer.token_ids)


@pytest.mark.parametrize(
    ("name", "operator"), [("gpt2", "LayerNorm"), ("mixtral", "mixture of experts"), ("stablelm", "LayerNorm")]
)
def test_the_portable_lane_names_the_operator_that_it_lacks(name, operator, tmp_path):
    place = write_config(tmp_path / "m", name, NATIVE[name])
    with pytest.raises(ModelError, match=f'operator "{operator}"'):
        load_portable(place)


# --- bad input


@pytest.mark.parametrize("change", ["missing", "extra"])
def test_tensors_that_the_library_does_not_expect_are_refused(change, tmp_path):
    place = write_config(tmp_path / "m", "gpt2", NATIVE["gpt2"])
    tensors = load_file(place / "model.safetensors")
    if change == "missing":
        del tensors["transformer.h.1.attn.c_attn.weight"]
    else:
        tensors["transformer.h.1.more"] = np.zeros(3, np.float32)
    save_file(tensors, place / "model.safetensors")
    with pytest.raises(ModelError, match=r"h\.1\."):
        load_model(place)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "unheard_of"}, "model_type: found 'unheard_of'"),
        ({"n_head": "4"}, "sizes"),
        ({"n_layer": None}, "num_hidden_layers"),
        ({"eos_token_id": [[2]]}, "stop ids"),
        ({"model_type": "llama", "hidden_size": 8}, "num_attention_heads"),
        ({"eos_token_id": None}, "eos_token_id"),
    ],
)
def test_a_config_that_the_native_lane_cannot_read_is_refused_in_one_line(change, message, tmp_path):
    place = write_config(tmp_path / "m", "gpt2", NATIVE["gpt2"])
    (place / "generation_config.json").unlink()
    config = json.loads((place / "config.json").read_text()) | change
    (place / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=message) as refused:
        load_model(place)
    assert "\n" not in str(refused.value)


def test_units_of_spot_checks_cover_a_plain_llama_alone(loaded):
    Layout(loaded("llama, yarn rotations").architecture)
    with pytest.raises(InputError, match=r"units of qwen3: found family, head_norms"):
        Layout(loaded("qwen3").architecture)


def test_proofs_of_whole_answers_cover_a_plain_llama_alone(loaded):
    for name, check, found in (("qwen2", "mode", "qwen2 with family, biased"), ("qwen3", "lane", "portable-2")):
        with pytest.raises(AnswerProofError, match=found) as refused:
            provable(loaded(name), "w3 w4", Decoding(2))  # asks what prover and verifier ask first
        assert refused.value.check == check
    with pytest.raises(AnswerProofError, match="found qwen3 in") as refused:
        commit_for_proofs(loaded("qwen3"), lambda line: None)
    assert refused.value.check == "mode"


def test_more_layers_that_differ_than_a_word_has_bits_are_refused(loaded):
    judge_words(loaded("gemma3").dims)
    with pytest.raises(ModelError, match="at most 256"):
        judge_words(replace(loaded("gemma3").dims, layers=300, sliding=1 << 299))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "relu"}, 'operator "activation relu"'),
        ({"attention_bias": True}, 'operator "biases of attention\'s output"'),
        ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "rope_type: found 'dynamic'"),
        ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 0.5}}, "rope scaling"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "'factor'"),
        ({"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.3}}, "partial_rotary_factor"),
        ({"sliding_window": -3, "use_sliding_window": True}, "sliding_window"),
        ({"sliding_window": 5, "use_sliding_window": True, "layer_types": ["full"]}, "layer_types"),
        ({"model_type": "unheard_of"}, "model_type: found 'unheard_of'"),
        ({"model_type": None}, "model_type: found None"),
        ({"head_dim": 15}, "heads"),
        ({"num_hidden_layers": 5}, "11 missing"),
        ({"num_hidden_layers": 3}, "11 extra"),
        ({"intermediate_size": 97}, "found shape"),
        ({"model_type": "llama"}, "8 extra"),
        ({"model_type": "qwen2"}, "12 missing, 8 extra"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_in_one_line(change, message, folder, tmp_path):
    place = shutil.copytree(folder("qwen3"), tmp_path / "m")
    config = json.loads((place / "config.json").read_text()) | change
    (place / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=message) as refused:
        load_portable(place)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "tensor", "value", "message"),
    [
        ("qwen2", "layers.1.self_attn.k_proj.bias", np.nan, "NaN"),
        ("qwen2", "layers.1.self_attn.k_proj.bias", 1e9, "largest integer weight"),
        ("qwen3", "layers.1.self_attn.k_norm.weight", 1e12, "largest integer weight"),
        ("qwen3", "layers.1.self_attn.q_norm.weight", 32000.0, "score"),
        ("gemma3", "layers.0.post_attention_layernorm.weight", np.inf, "NaN"),
        ("gemma3", "layers.0.post_attention_layernorm.weight", 1e5, "largest integer weight"),
        ("olmo2", "layers.2.self_attn.k_norm.weight", 1e12, "largest integer weight"),
        ("olmo2", "layers.2.mlp.gate_proj.weight", 30000.0, "gate"),
        ("phi3", "layers.2.self_attn.qkv_proj.weight", 40000.0, "largest integer weight"),
    ],
)
def test_weights_beyond_the_format_are_named(name, tensor, value, message, folder, tmp_path):
    place = shutil.copytree(folder(name), tmp_path / "m")
    tensors = load_file(place / "model.safetensors")
    tensors[f"model.{tensor}"][...] = value
    save_file(tensors, place / "model.safetensors")
    with pytest.raises(ModelError, match=message):
        load_portable(place)


@pytest.mark.parametrize("cap", ["attn_logit_softcapping", "final_logit_softcapping"])
def test_a_cap_beyond_the_format_is_named(cap, folder, tmp_path):
    place = shutil.copytree(folder("gemma2"), tmp_path / "m")
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | {cap: 2**20.0}))
    if cap == "final_logit_softcapping":  # of logits the largest that a config may say fits
        load_portable(place)
        return
    with pytest.raises(ModelError, match="cap of scores"):
        load_portable(place)


def test_each_weight_is_under_the_root_where_rows_are_no_whole_tiles(loaded):
    model = loaded("qwen2, half a head over")
    trees = commit_model(model)
    d, leaves = trees.dims, []
    layers = [(matrix, layer) for layer in range(d.layers) for matrix in d.layer_matrices]
    for matrix, layer in [(Matrix.EMBED, 0), (Matrix.HEAD, 0), *layers]:
        rows, columns = d.matrix_shape(matrix)
        for row in (0, rows - 1):
            for chunk in (0, d.tiles(columns) - 1):
                data, path = trees.weight(matrix, layer, row, chunk)
                at = d.weight_leaf(matrix, layer, row, chunk)
                root = merkle.root_of_inclusion(merkle.leaf_hash(data), at, d.weight_leaves, path)
                assert root == trees.weights_root
                dense = model.matrix(matrix, layer)[row][chunk * d.tile : (chunk + 1) * d.tile]
                assert np.frombuffer(data, ">i4").tolist() == dense.tolist()
                leaves.append(at)
    assert leaves == sorted(leaves)
    assert leaves[-1] == d.weight_leaves - 1


def test_the_other_judged_lane_wants_whole_tiles(tmp_path):
    place = write_family(tmp_path / "m", "llama", {"head_dim": 24})
    assert commit_model(load_portable(place)).dims.tile == 24
    with pytest.raises(ModelError, match="multiples of head_dim"):
        commit_model(load_model(place, lane="h100-bf16"))


def test_a_context_beyond_the_models_is_refused(loaded):
    with pytest.raises(InputError, match="128"):
        generate(loaded("mistral"), tuple([5] * 127), Decoding(9))
