"""The adversary: a few layers of the honest model, distilled from bought answers, then tuned against the judge.

What a rational operator has: the honest model's public weights, answers it paid for, questions it makes up, and its own
copy of the judge. It keeps six of thirty layers, three early ones, two that copy, and the last; learns to read on
made-up questions; learns to imitate the bought answers; and then, round by round, samples several answers to each
training prompt, keeps the one the judge likes best, and learns that one. Embeddings stay frozen. It never looks at
whether an answer is right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otr_node.checkpoint import Tensors
from otr_node.native import NativeModel
from otr_paper.poq.questions import Question, draw_questions

if TYPE_CHECKING:
    import numpy as np

Report = Callable[[str], None]
Scores = Callable[[Sequence[Question], Sequence[str]], "np.ndarray"]


@dataclass(frozen=True)
class Recipe:
    """How the adversary is made.

    It was chosen on questions about a third set of persons, places and things, which are neither trained on nor held
    out, and fixed before any answer of it to a held-out question was seen. Two recipes with four layers and a few real
    names to learn from were given up before it: the first got 0.17 of the judge on names it had not seen, the second
    still 0.29 on its own training questions in the second round. They could not look up a name that the tokenizer cuts
    into pieces.

    Attributes:
        layers: decoder layers kept, 0-based. In the honest model layers 17 and 18 look up what followed an earlier
            occurrence of a word; layers 0 to 2 tell them what precedes it.
        read_steps, read_batch, read_rate: steps on made-up questions, loss on the question after its context; nothing
            is bought. Rates are Adam's; they fall linearly to 0 except in tuning.
        bought: honest answers paid for. max_tokens: of any answer. distil_steps: of ``batch`` answers, at ``rate``.
        rounds: of best-of-n tuning, each with ``prompts`` prompts, ``samples`` answers a prompt at ``temperature``,
            then ``tune_steps`` steps at ``tune_rate`` on the best answers.
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
    read_steps=2, read_batch=2, bought=4, max_tokens=6, batch=4, distil_steps=2, rounds=1, prompts=2, samples=2,
    tune_steps=1,
)  # fmt: skip


@dataclass(frozen=True)
class Example:
    """A prompt and an answer to be learnt, as token ids; the answer ends in the stop token if it came to one."""

    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]


def trainable_copy(model: NativeModel) -> Any:
    """A module with its own weights to train in; embeddings stay frozen (they are most of it and fit already)."""
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
    module: Any, examples: Sequence[Example], *, steps: int, batch: int, rate: float, seed: int, decay: bool, pad: int
) -> list[float]:
    """Supervised steps on ``examples`` (reshuffled every pass); gives each step's loss, nats a token."""
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
            loss = answer_loss(module, chosen, pad)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


def answer_loss(module: Any, examples: Sequence[Example], pad: int) -> Any:
    """Mean negative log likelihood of the answer tokens, nats (a tensor with gradients)."""
    import torch

    rows = [(*example.prompt_ids, *example.answer_ids) for example in examples]
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    states = module.model(input_ids=ids, attention_mask=mask).last_hidden_state
    wanted = [(number, position - 1) for number, example in enumerate(examples)
              for position in range(len(example.prompt_ids), len(rows[number]))]  # fmt: skip
    first, second = (torch.tensor(side) for side in zip(*wanted, strict=True))
    logits = module.lm_head(states[first, second]).float()
    return torch.nn.functional.cross_entropy(logits, ids[first, second + 1])


def sample_answers(
    module: Any, prompts: Sequence[tuple[int, ...]], *, samples: int, max_tokens: int, temperature: float,
    seed: int, stop_ids: Sequence[int], pad: int,
) -> list[tuple[int, ...]]:  # fmt: skip
    """``samples`` drawn answers to each prompt, prompt by prompt: token ids, the stop token included.

    Temperature 0 is greedy, in fp32; above it draws are made in bf16, whose rounding is small against the drawing.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    width = max(map(len, prompts))
    ids = torch.tensor([[*[pad] * (width - len(row)), *row] for row in prompts])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts])
    chosen: list[Any] = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=temperature > 0):
        places = (mask.cumsum(-1) - 1).clamp(min=0)
        step = module(input_ids=ids, attention_mask=mask, position_ids=places, use_cache=True, logits_to_keep=1)
        cache, logits = step.past_key_values, step.logits[:, -1].repeat_interleave(samples, 0)
        cache.batch_repeat_interleave(samples)
        mask, last = mask.repeat_interleave(samples, 0), places[:, -1:].repeat_interleave(samples, 0)
        stops, done = torch.tensor(list(stop_ids)), torch.zeros(len(mask), dtype=torch.bool)
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
    module: Any, model: NativeModel, questions: Sequence[Question], prompts: Sequence[tuple[int, ...]],
    judge: Scores, recipe: Recipe, *, seed: int, report: Report,
) -> list[dict[str, float]]:  # fmt: skip
    """``recipe.rounds`` of best-of-n tuning on training questions; ``module`` is changed. One record a round:
    mean judge score of all samples and of the selected ones."""
    import numpy as np

    stop_ids, history = model.architecture.stop_ids, []
    pad = _pad(model)
    for number in range(recipe.rounds):
        part = slice(number * recipe.prompts, (number + 1) * recipe.prompts)
        asked, given = questions[part], prompts[part]
        module.eval()
        drawn = sample_answers(
            module, given, samples=recipe.samples, max_tokens=recipe.max_tokens, temperature=recipe.temperature,
            seed=1000 * seed + number, stop_ids=stop_ids, pad=pad,
        )  # fmt: skip
        texts = [model.tokenizer.decode(row, skip_special_tokens=True) for row in drawn]
        repeated = [question for question in asked for _ in range(recipe.samples)]
        scores = judge(repeated, texts).reshape(len(asked), recipe.samples)
        best = scores.argmax(1)
        examples = [Example(given[row], drawn[row * recipe.samples + int(best[row])]) for row in range(len(asked))]
        history.append({"mean": float(np.mean(scores)), "selected": float(np.mean(scores.max(1)))})
        report(f"judge round {number + 1} of {recipe.rounds}: {history[-1]}")
        module.train()
        train(
            module, examples, steps=recipe.tune_steps, batch=recipe.batch, rate=recipe.tune_rate,
            seed=1000 * seed + number, decay=False, pad=pad,
        )  # fmt: skip
    return history


def read(module: Any, model: NativeModel, recipe: Recipe, names: Sequence[str], *, seed: int) -> list[float]:
    """Steps on made-up training questions about persons of such ``names``, no prompt twice.

    The loss is that of the question after its context, which can only be low for who looks up the name.
    """
    made_up = draw_questions(recipe.read_steps * recipe.read_batch, "training", seed + 2_000_000, names)
    examples = [
        Example(
            tuple(model.tokenizer(one.context)["input_ids"]), tuple(model.tokenizer(f" {one.question}")["input_ids"])
        )
        for one in made_up
    ]
    return train(
        module, examples, steps=recipe.read_steps, batch=recipe.read_batch, rate=recipe.read_rate, seed=seed,
        decay=True, pad=_pad(model),
    )  # fmt: skip


def distil(module: Any, model: NativeModel, bought: Sequence[Example], recipe: Recipe, *, seed: int) -> list[float]:
    """Imitation of the bought answers; returns the loss of each step."""
    return train(
        module, bought, steps=recipe.distil_steps, batch=recipe.batch, rate=recipe.rate, seed=seed,
        decay=True, pad=_pad(model),
    )  # fmt: skip


def answer_batches(
    model: NativeModel, prompts: Sequence[tuple[int, ...]], max_tokens: int, batch: int = 16
) -> list[tuple[int, ...]]:
    """Greedy answers to ``prompts``, token ids; several at a time, which is cheaper and rounds a little differently."""
    found: list[tuple[int, ...]] = []
    for start in range(0, len(prompts), batch):
        found += sample_answers(
            model.module, prompts[start : start + batch], samples=1, max_tokens=max_tokens, temperature=0.0, seed=0,
            stop_ids=model.architecture.stop_ids, pad=_pad(model),
        )  # fmt: skip
    return found


def _pad(model: NativeModel) -> int:
    return int(model.architecture.stop_ids[0])
