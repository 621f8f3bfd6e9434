"""Light judges: an embedding model that scores an answer by likeness, and a lexical judge of
another kind.

PoQ pays by what such a judge says (arXiv 2405.17934 uses cross-encoders, 2512.16317 also
bi-encoders). Three judges:

* ``question``: cosine of question and answer, the context unseen. The adversary is tuned against
  this one.
* ``context``: the control: cosine of answer and context with question. Same network; sees what the
  answer must rest on.
* ``lexical``: held out and of another kind: the share of the answer's content words that context or
  question holds. No network, so nothing of the attacked judge's weights is in it; the adversary is
  never selected by it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otr_core.errors import ModelError
from otr_paper.poq.questions import Question

if TYPE_CHECKING:
    import numpy as np

JUDGES = ("question", "context", "lexical")
ATTACKED = "question"

# Words that say nothing about an answer's matter.
_FUNCTION_WORDS = """a an the is are was be been and or of in on at to for from by with as it its his her their he she
    they who whose which that this these what where does do did has have had s"""


@dataclass(frozen=True)
class Embedder:
    """A sentence embedding model: mean of the last layer over the tokens, unit length
    (all-MiniLM-L6-v2)."""

    tokenizer: Any
    module: Any

    def embed(self, texts: Sequence[str], batch: int = 64) -> np.ndarray:
        """Unit vectors, shape (texts, 384), float32. One thread; a text's vector hardly depends on
        its batch (1e-6)."""
        import numpy as np
        import torch

        from otr_node.checkpoint import torch_threads

        # like lengths: little padding
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        result: np.ndarray = np.empty((len(texts), self.module.config.hidden_size), np.float32)
        with torch_threads(1), torch.inference_mode():
            for start in range(0, len(order), batch):
                rows = order[start : start + batch]
                tokens = self.tokenizer(
                    [texts[row] for row in rows], padding=True, truncation=True, max_length=256, return_tensors="pt"
                )
                states = self.module(**tokens).last_hidden_state
                mask = tokens["attention_mask"].unsqueeze(-1)
                means = (states * mask).sum(1) / mask.sum(1)
                result[rows] = torch.nn.functional.normalize(means, dim=-1).numpy()
        return result


def load_embedder(folder: Path) -> Embedder:
    """The embedding model in ``folder`` (config, safetensors, tokenizer), offline.

    Raises:
        ModelError: not there or not readable.
    """
    from transformers import AutoTokenizer, BertModel

    from otr_node.quiet import quiet_transformers

    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
            module = BertModel.from_pretrained(str(folder), local_files_only=True, add_pooling_layer=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder}: embedding model not readable ({str(error).splitlines()[0]})") from error
    module.eval().requires_grad_(False)
    return Embedder(tokenizer, module)


Judge = Callable[[Sequence[Question], Sequence[str]], "np.ndarray"]
"""(questions, answers) -> scores in [0, 1], shape (answers,)."""


def question_judge(embedder: Embedder) -> Judge:
    """The light judge: likeness of answer and question alone."""
    return _cosine(embedder, lambda question: question.question)


def context_judge(embedder: Embedder) -> Judge:
    """The control judge: likeness of answer and context with question."""
    return _cosine(embedder, lambda question: f"{question.context} {question.question}")


def lexical_judge(questions: Sequence[Question], answers: Sequence[str]) -> np.ndarray:
    """The held-out judge: share of the answer's content words that stand in context or question; 0
    without any."""
    import numpy as np

    empty, scores = set(_words(_FUNCTION_WORDS)), []
    for question, answer in zip(questions, answers, strict=True):
        known = set(_words(f"{question.context} {question.question}"))
        said = [word for word in _words(answer) if word not in empty]
        scores.append(sum(word in known for word in said) / len(said) if said else 0.0)
    return np.array(scores)


def reference_likeness(embedder: Embedder) -> Judge:
    """Likeness of the answer to a right one: no judge of PoQ, which has no right answer to compare
    with (L39 only)."""
    return _cosine(embedder, lambda question: question.reference)


def all_judges(embedder: Embedder) -> dict[str, Judge]:
    """The three judges by name, in the order of ``JUDGES``."""
    return dict(zip(JUDGES, (question_judge(embedder), context_judge(embedder), lexical_judge), strict=True))


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def _cosine(embedder: Embedder, asked: Callable[[Question], str]) -> Judge:
    def judge(questions: Sequence[Question], answers: Sequence[str]) -> np.ndarray:
        texts = [asked(question) for question in questions]
        # the many samples of one prompt share its vector
        distinct = sorted(set(texts) | set(answers))
        vectors = dict(zip(distinct, embedder.embed(distinct), strict=True))
        import numpy as np

        cosines = [float(vectors[text] @ vectors[answer]) for text, answer in zip(texts, answers, strict=True)]
        clipped: np.ndarray = np.clip(np.array(cosines), 0.0, 1.0)
        return clipped

    return judge
