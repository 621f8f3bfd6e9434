"""The adversary: a few layers of the honest model, distilled from bought answers, then tuned
against the judge.

What a rational operator has: the honest model's public weights, answers it paid for, questions it
makes up, and its own copy of the judge. It keeps six of thirty layers, three early ones, two that
copy, and the last; learns to read on made-up questions; learns to imitate the bought answers; and
then, round by round, samples several answers to each training prompt, keeps the one the judge likes
best, and learns that one. Embeddings stay frozen. It never looks at whether an answer is right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otr_node.checkpoint import Tensors
from otr_node.generate import prompt_tokens
from otr_node.native import NativeModel
from otr_paper.poq.questions import Question, draw_questions

if TYPE_CHECKING:
    import numpy as np

Ids = tuple[int, ...]
"""A text as token ids."""
PAD = 0
"""Fills up shorter rows of a batch. Any token will do: the attention mask hides it."""
Report = Callable[[str], None]
Scores = Callable[[Sequence[Question], Sequence[str]], "np.ndarray"]


@dataclass(frozen=True)
class Recipe:
    """How the adversary is made.

    It was chosen on questions about a third set of persons, places and things, which are neither
    trained on nor held out, and fixed before any answer of it to a held-out question was seen. Two
    recipes with four layers and a few real names to learn from were given up before it: the first
    got 0.17 of the judge on names it had not seen, the second still 0.29 on its own training
    questions in the second round. They could not look up a name that the tokenizer cuts into
    pieces.

    Attributes:
        layers: decoder layers kept, 0-based. In the honest model layers 17 and 18 look up what
            followed an earlier occurrence of a word; layers 0 to 2 tell them what precedes it.
        read_steps, read_batch, read_rate: steps on made-up questions, loss on the question after
            its context; nothing is bought. Rates are Adam's; they fall linearly to 0 except in
            tuning.
        bought: honest answers paid for. max_tokens: of any answer. distil_steps: of ``batch``
            answers, at ``rate``.
        rounds: of best-of-n tuning, each with ``prompts`` prompts, ``samples`` answers a prompt at
            ``temperature``, then ``tune_steps`` steps at ``tune_rate`` on the best answers.
    """

    layers: tuple[int, ...] = (0, 1, 2, 17, 18, 29)
    read_steps: int = 160
    read_batch: int = 32
    read_rate: float = 1e-3
    bought: int = 256
    max_tokens: int = 24
    batch: int = 16
    distil_steps: int = 96
    rate: float = 5e-4
    rounds: int = 4
    prompts: int = 32
    samples: int = 16
    temperature: float = 1.0
    tune_steps: int = 12
    tune_rate: float = 5e-4


#: A few steps of everything: whether the pipeline runs, never whether the attack works.
SMOKE = Recipe(
    read_steps=2,
    read_batch=2,
    bought=4,
    max_tokens=6,
    batch=4,
    distil_steps=2,
    rounds=1,
    prompts=2,
    samples=2,
    tune_steps=1,
)


@dataclass(frozen=True)
class Example:
    """A prompt and an answer to be learnt, as token ids; the answer ends in the stop token if it
    came to one."""

    prompt_ids: Ids
    answer_ids: Ids


def trainable_copy(model: NativeModel) -> Any:
    """A module with its own weights to train in; embeddings stay frozen (they are most of it and
    fit already)."""
    from transformers import LlamaForCausalLM

    config = type(model.module.config)(**{**model.architecture.config(), "attn_implementation": "sdpa"})
    module = LlamaForCausalLM(config)
    module.load_state_dict({name: value.clone() for name, value in model.module.state_dict().items()})
    module.requires_grad_(True)
    module.model.embed_tokens.requires_grad_(False)
    module.lm_head.requires_grad_(False)
    return module.train()


def tensors_of(module: Any) -> Tensors:
    """The module's tensors by checkpoint name, the tied output matrix left out."""
    return {name: value.detach() for name, value in module.state_dict().items() if name != "lm_head.weight"}


def train(
    module: Any, examples: Sequence[Example], *, steps: int, batch: int, rate: float, seed: int, decay: bool
) -> list[float]:
    """Supervised steps on ``examples`` (reshuffled every pass); gives each step's loss, nats a
    token."""
    import random

    import torch

    parameters = [value for value in module.parameters() if value.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    draws, losses = random.Random(f"poq training {seed}"), []
    queue: list[Example] = []
    for step in range(steps):
        while len(queue) < batch:
            queue += draws.sample(list(examples), len(examples))
        chosen, queue = queue[:batch], queue[batch:]
        for group in optimiser.param_groups:
            group["lr"] = rate * (1 - step / steps) if decay else rate
        with torch.autocast("cpu", torch.bfloat16):
            loss = answer_loss(module, chosen)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


def answer_loss(module: Any, examples: Sequence[Example]) -> Any:
    """Mean negative log likelihood of the answer tokens, nats (a tensor with gradients)."""
    import torch

    rows = [(*example.prompt_ids, *example.answer_ids) for example in examples]
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[PAD] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    states = module.model(input_ids=ids, attention_mask=mask).last_hidden_state
    # The state at a position predicts the token after it: (row, position) before each token of an
    # answer.
    wanted = [(at, p - 1) for at, one in enumerate(examples) for p in range(len(one.prompt_ids), len(rows[at]))]
    first, second = (torch.tensor(side) for side in zip(*wanted, strict=True))
    logits = module.lm_head(states[first, second]).float()
    return torch.nn.functional.cross_entropy(logits, ids[first, second + 1])


def sample_answers(
    module: Any, prompts: Sequence[Ids], stop_ids: Ids, *, samples: int, max_tokens: int, temperature: float, seed: int
) -> list[Ids]:
    """``samples`` drawn answers to each prompt, prompt by prompt: token ids, the stop token
    included.

    Temperature 0 is greedy, in fp32; above it draws are made in bf16, whose rounding is small
    against the drawing.
    """
    import torch

    # Prompts end together: shorter ones are filled up on the left, and the mask hides what fills
    # them.
    generator = torch.Generator().manual_seed(seed)
    width = max(map(len, prompts))
    ids = torch.tensor([[*[PAD] * (width - len(row)), *row] for row in prompts])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts])
    chosen: list[Any] = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=temperature > 0):
        # Each prompt is read once; its cache is then repeated for all answers to it.
        places = (mask.cumsum(-1) - 1).clamp(min=0)
        step = module(input_ids=ids, attention_mask=mask, position_ids=places, use_cache=True, logits_to_keep=1)
        cache, logits = step.past_key_values, step.logits[:, -1].repeat_interleave(samples, 0)
        cache.batch_repeat_interleave(samples)
        mask, last = mask.repeat_interleave(samples, 0), places[:, -1:].repeat_interleave(samples, 0)
        stops, done = torch.tensor(list(stop_ids)), torch.zeros(len(mask), dtype=torch.bool)
        # One token for every answer a round; an answer that has its stop token goes on as -1, which
        # is dropped.
        while True:
            if temperature == 0:
                token = logits.argmax(-1, keepdim=True)
            else:
                odds = torch.softmax(logits.float() / temperature, -1)
                token = torch.multinomial(odds, 1, generator=generator)
            chosen.append(torch.where(done, -1, token[:, 0]))
            done |= torch.isin(token[:, 0], stops)
            if len(chosen) == max_tokens or bool(done.all()):
                break
            mask, last = torch.cat([mask, mask.new_ones(len(mask), 1)], -1), last + 1
            step = module(
                input_ids=token, attention_mask=mask, position_ids=last, past_key_values=cache, use_cache=True
            )
            logits = step.logits[:, -1]
    rows = torch.stack(chosen, -1).tolist()
    return [tuple(token for token in row if token >= 0) for row in rows]


def tune_against(
    module: Any, model: NativeModel, pool: list[Question], judge: Scores, recipe: Recipe, *, seed: int, report: Report
) -> list[dict[str, float]]:
    """``recipe.rounds`` of best-of-n tuning on a ``pool`` of training questions; ``module`` is
    changed.

    One record a round: mean judge score of all samples and of the selected ones.
    """
    import numpy as np

    history = []
    how: dict[str, Any] = {name: getattr(recipe, name) for name in ("samples", "max_tokens", "temperature")}
    for number in range(recipe.rounds):
        draws = 1000 * seed + number
        asked = pool[number * recipe.prompts : (number + 1) * recipe.prompts]
        given = [prompt_tokens(model, question.prompt, recipe.max_tokens) for question in asked]
        module.eval()
        drawn = sample_answers(module, given, model.architecture.stop_ids, seed=draws, **how)
        texts = [model.tokenizer.decode(row) for row in drawn]
        repeated = [question for question in asked for _ in range(recipe.samples)]
        scores = judge(repeated, texts).reshape(len(asked), recipe.samples)
        best = scores.argmax(1)
        examples = [Example(given[row], drawn[row * recipe.samples + int(best[row])]) for row in range(len(asked))]
        history.append({"mean": float(np.mean(scores)), "selected": float(np.mean(scores.max(1)))})
        report(f"judge round {number + 1} of {recipe.rounds}: {history[-1]}")
        module.train()
        steps: dict[str, Any] = {"steps": recipe.tune_steps, "batch": recipe.batch, "rate": recipe.tune_rate}
        train(module, examples, seed=draws, decay=False, **steps)
    return history


def read(module: Any, model: NativeModel, recipe: Recipe, names: Sequence[str], *, seed: int) -> list[float]:
    """Steps on made-up training questions about persons of such ``names``, no prompt twice.

    The loss is that of the question after its context, which can only be low for who looks up the
    name.
    """
    made_up = draw_questions(recipe.read_steps * recipe.read_batch, "training", seed + 2_000_000, names)
    ids = model.tokenizer.encode
    examples = [Example(ids(q.context), ids(f" {q.question}")) for q in made_up]
    steps: dict[str, Any] = {"steps": recipe.read_steps, "batch": recipe.read_batch, "rate": recipe.read_rate}
    return train(module, examples, seed=seed, decay=True, **steps)


def distil(module: Any, bought: Sequence[Example], recipe: Recipe, *, seed: int) -> list[float]:
    """Imitation of the bought answers; returns the loss of each step."""
    steps: dict[str, Any] = {"steps": recipe.distil_steps, "batch": recipe.batch, "rate": recipe.rate}
    return train(module, bought, seed=seed, decay=True, **steps)


def answer_batches(model: NativeModel, prompts: Sequence[Ids], max_tokens: int, batch: int = 16) -> list[Ids]:
    """Greedy answers to ``prompts``, token ids; several at a time, which is cheaper and rounds a
    little differently."""
    found: list[Ids] = []
    greedy: dict[str, Any] = {"samples": 1, "max_tokens": max_tokens, "temperature": 0.0, "seed": 0}
    for start in range(0, len(prompts), batch):
        found += sample_answers(model.module, prompts[start : start + batch], model.architecture.stop_ids, **greedy)
    return found
