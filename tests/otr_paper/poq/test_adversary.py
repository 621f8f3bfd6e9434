"""The adversary's parts on a tiny random model: what is drawn, learnt and measured is what the
names say."""

import numpy as np
import pytest

from otr_core.lane.sampling import Decoding
from otr_node.generate import generate, prompt_tokens
from otr_node.native import load_native
from otr_paper.labs.tiny import write_tiny
from otr_paper.poq import adversary, experiment, names, questions

torch = pytest.importorskip("torch")
RECIPE = adversary.Recipe(
    layers=(0, 2), read_steps=3, read_batch=4, bought=4, max_tokens=5, batch=4, distil_steps=3, rounds=2, prompts=2,
    samples=3, tune_steps=2,
)  # fmt: skip
ASKED = questions.draw_questions(5, "training", 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Checkpoint of a tiny random model."""
    return write_tiny(tmp_path_factory.mktemp("poq"))


@pytest.fixture(scope="module")
def honest(folder):
    """The tiny model, loaded: the adversary starts from it."""
    return load_native(folder)


def test_batched_greedy_answers_are_those_of_generate(honest):
    prompts = [prompt_tokens(honest, one.prompt, 5) for one in ASKED]
    together = adversary.answer_batches(honest, prompts, 5, batch=3)
    assert together == [generate(honest, ids, Decoding(5)).token_ids for ids in prompts]


def test_samples_are_of_their_prompt_end_at_the_stop_token_and_repeat(honest):
    prompts = [prompt_tokens(honest, one.prompt, 5) for one in ASKED[:2]]
    options = {"stop_ids": honest.architecture.stop_ids, "samples": 4, "max_tokens": 5, "temperature": 2.0}
    drawn = adversary.sample_answers(honest.module, prompts, seed=1, **options)
    assert len(drawn) == 8
    assert len(set(drawn)) > 2
    assert all(1 <= len(row) <= 5 and 2 not in row[:-1] for row in drawn)
    assert drawn == adversary.sample_answers(honest.module, prompts, seed=1, **options)
    assert drawn != adversary.sample_answers(honest.module, prompts, seed=2, **options)


def test_training_lowers_the_loss_and_leaves_embeddings_and_the_honest_model_alone(honest):
    before = {name: value.clone() for name, value in honest.module.state_dict().items()}
    module = adversary.trainable_copy(honest)
    prompt = prompt_tokens(honest, ASKED[0].prompt, 5)
    examples = [adversary.Example(prompt, (7, 9, 2)), adversary.Example(prompt[:4], (8, 2))]
    losses = adversary.train(module, examples, steps=40, batch=2, rate=1e-2, seed=1, decay=False)
    assert losses[-1] < 0.5 * losses[0]
    assert all(torch.equal(before[name], value) for name, value in honest.module.state_dict().items())
    learnt = adversary.tensors_of(module)
    assert torch.equal(learnt["model.embed_tokens.weight"], before["model.embed_tokens.weight"])
    assert not torch.equal(learnt["model.layers.0.mlp.up_proj.weight"], before["model.layers.0.mlp.up_proj.weight"])
    assert "lm_head.weight" not in learnt


def test_the_loss_is_that_of_the_answer_alone(honest):
    prompt = prompt_tokens(honest, ASKED[0].prompt, 5)
    short, long = adversary.Example(prompt[:6], (7, 9)), adversary.Example(prompt, (5, 6, 2))
    with torch.no_grad():
        found = float(adversary.answer_loss(honest.module, [short, long]))
        parts = []
        for one in (short, long):
            ids = torch.tensor([[*one.prompt_ids, *one.answer_ids]])
            odds = torch.log_softmax(honest.module(input_ids=ids).logits[0].float(), -1)
            parts += [-float(odds[len(one.prompt_ids) + k - 1, token]) for k, token in enumerate(one.answer_ids)]
    assert found == pytest.approx(np.mean(parts), rel=1e-4)


def test_likelihoods_by_a_plain_forward_pass(honest):
    answers = [[(7, 9, 2), (5,)], [(4, 4), (6, 6, 6, 2)]]
    asked = ASKED[:2]
    found = experiment.likelihoods(honest, asked, answers, report=lambda line: None)
    for model, rows in enumerate(answers):
        for number, tokens in enumerate(rows):
            prompt = prompt_tokens(honest, asked[number].prompt, 1)
            with torch.no_grad():
                logits = honest.module(input_ids=torch.tensor([[*prompt, *tokens]])).logits[0].float()
            odds = torch.log_softmax(logits, -1)
            wanted = np.mean([-float(odds[len(prompt) + k - 1, token]) for k, token in enumerate(tokens)])
            assert found[model][number] == pytest.approx(wanted, rel=1e-4)


def test_an_adversary_is_made_kept_and_served_as_another_model(folder, honest, tmp_path):
    seen, lines = [], []

    def judge(asked, answers):
        scores = np.array([len(answer) for answer in answers], float)
        seen.append(scores)
        return scores

    history = experiment.make_adversary(folder, tmp_path, judge, RECIPE, seed=1, report=lines.append)
    assert [len(seen), len(history["rounds"])] == [2, 2]
    for scores, row in zip(seen, history["rounds"], strict=True):
        # the best of each prompt
        assert row["selected"] == pytest.approx(scores.reshape(2, 3).max(1).mean())
        assert row["mean"] == pytest.approx(scores.mean())
    again = experiment.make_adversary(folder, tmp_path, None, RECIPE, seed=1, report=lines.append)
    assert again == history
    assert len(seen) == 2
    stages = {stage: experiment.load_adversary(folder, tmp_path, stage, RECIPE) for stage in experiment.STAGES}
    identities = {honest.manifest.model_id, *(model.manifest.model_id for model in stages.values())}
    assert len(identities) == 3
    assert stages["tuned"].architecture.layers == 2
    rows = experiment.adversary_answers(stages["tuned"], ASKED, 5)
    assert len(rows) == 5
    assert all(row["token_ids"] for row in rows)


def test_serving_cost_is_told_for_every_model(honest):
    cost = experiment.serving_cost({"a": honest, "b": honest}, ASKED[:2], 3)
    assert cost.keys() == {"a", "b"}
    assert all(value >= 0 for row in cost.values() for value in row.values())


def test_answers_go_on_where_a_stopped_run_was(honest, tmp_path):
    store = tmp_path / "answers.json"
    whole = experiment.answer_all(honest, ASKED, 4, store, report=lambda line: None)
    import json

    store.write_text(json.dumps([{"text": "kept", "token_ids": [1]}, *whole[1:3]]))
    again = experiment.answer_all(honest, ASKED, 4, store, report=lambda line: None)
    assert again[0]["text"] == "kept"
    assert again[1:] == whole[1:]


def test_made_up_names_are_many_of_both_kinds_and_none_is_held_out():
    held_out = questions.words("name", "held-out")
    vocabulary = [f"Ġ{name}" for name in held_out] + ["ĠTable", "ĠBeta", "Ġtable", "Gamma", "ĠIX", "ĠÉva", "Ġ"]
    found = names.made_up_names(vocabulary, 1)
    assert found[:2] == ["Beta", "Table"]
    assert not set(found) & set(held_out)
    assert found == names.made_up_names(reversed(vocabulary), 1)
    assert found != names.made_up_names(vocabulary, 2)
    many = names.made_up_names([f"Ġ{a}{b}" for a in ("Bal", "Ter", "Som") for b in "aeiou"], 3)
    assert len(many) > 20


def test_questions_about_given_names():
    asked = questions.draw_questions(20, "training", 1, ["Beta", "Table"])
    assert {question.name for question in asked} == {"Beta", "Table"}
    assert all(question.name in question.context and question.name in question.question for question in asked)
    assert {question.name for question in questions.draw_questions(20, "training", 1)} - {"Beta", "Table"}
