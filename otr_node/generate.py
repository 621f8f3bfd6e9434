"""Answer a prompt and commit to the trace; run an answer again to rebuild states for a dispute."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from otr_core.errors import InputError
from otr_core.lane.program import layer_program
from otr_core.lane.sampling import Decoding, draw
from otr_core.poea.trace import LayerState, Recorder, Trace, check_state
from otr_node.checkpoint import Checkpoint
from otr_node.model import Model, Session
from otr_node.portable import PortableModel, PortableSession
from otr_node.recorder import StateKeeper, open_recorder


@dataclass(frozen=True)
class Answer:
    """An answer and what is known of how it came about.

    Attributes:
        prompt_ids, token_ids: the prompt as fed, and the chosen tokens, stop token included.
        finish: "stop" (the model ended the answer) or "length" (``max_tokens`` reached).
        trace: committed trace, or None when it was not asked for.
        configuration: how it was computed (lane, libraries, threads, kernels).
        execution_digest: ``Trace``-free digest of the unsalted states (``recorder``), or None when
            it was not asked for.
    """

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    finish: str
    trace: Trace | None
    configuration: dict[str, Any] = field(compare=False)
    execution_digest: bytes | None = field(default=None, compare=False)

    @property
    def committed(self) -> Trace:
        """The trace of an answer that was generated with one.

        Raises:
            InputError: it was not.
        """
        if self.trace is None:
            raise InputError("answer: found no trace, expected one committed while generating")
        return self.trace


def check_prompt(model: Model | Checkpoint, prompt_ids: Sequence[int], max_tokens: int) -> None:
    """Refuse a prompt that cannot be answered.

    Raises:
        InputError: no token, one outside the vocabulary, or prompt and answer together beyond the
            model's context.
    """
    context, vocab = model.architecture.context, model.architecture.vocab
    if not prompt_ids:
        raise InputError("prompt: found no token, expected at least one")
    if beyond := [token for token in prompt_ids if not 0 <= token < vocab]:
        raise InputError(f"prompt: found token {beyond[0]}, expected ids below {vocab}")
    if len(prompt_ids) + max_tokens > context:
        raise InputError(
            f"prompt: found {len(prompt_ids)} tokens and {max_tokens} to answer, expected at most {context} in all; "
            "shorten the prompt or lower max_tokens"
        )


def prompt_tokens(
    model: Model | Checkpoint, prompt: str, max_tokens: int, date: datetime.date | None = None
) -> tuple[int, ...]:
    """Token ids of ``prompt`` as one user message under the model's chat template: what a client
    orders.

    Args:
        date: for a template that asks for today's.

    Raises:
        InputError: empty prompt, or prompt and answer together beyond the model's context.
    """
    if not isinstance(prompt, str) or not prompt.strip():
        raise InputError("prompt: found nothing but space, expected a question")
    # Each token covers at least one character of a bounded length; a giant prompt is refused before
    # it is tokenized.
    context = model.architecture.context
    if len(prompt) > context * 64:
        raise InputError(f"prompt: found {len(prompt)} characters, expected to fit a context of {context} tokens")
    ids = model.tokenizer.prompt_ids(prompt, date=date)
    check_prompt(model, ids, max_tokens)
    return tuple(ids)


def generate(
    model: Model,
    prompt_ids: Sequence[int],
    decoding: Decoding,
    *,
    order_id: bytes = b"",
    trace_seed: bytes | None = None,
    prompt_seed: bytes | None = None,
    digest: bool = False,
    on_token: Callable[[int], None] | None = None,
) -> Answer:
    """Answer a prompt. Equal arguments give equal answers (native lanes: on one machine).

    Args:
        order_id: of the order that is answered, which its draws depend on; empty where nothing was
            ordered.
        trace_seed: 32 secret bytes; salts of the trace derive from it. None: no trace.
        prompt_seed: 32 bytes of the client, for the salts of the prompt's leaves; None: the
            trace's seed.
        digest: whether to make the ``execution_digest`` as well; needs a trace.
        on_token: called with each chosen token id, for streaming.

    Raises:
        InputError: the prompt is empty or does not fit the context; nothing has run then.
    """
    check_prompt(model, prompt_ids, decoding.max_tokens)
    recorder = None if trace_seed is None else open_recorder(trace_seed, digest=digest)
    session = model.session()
    logits = session.feed(prompt_ids, recorder)
    chosen: list[int] = []
    while True:
        drawn = draw(decoding.seed, len(chosen), order_id) if decoding.temperature_milli else 0
        chosen.append(model.choose(logits, decoding.temperature_milli, drawn))
        if on_token is not None:
            on_token(chosen[-1])
        if chosen[-1] in model.architecture.stop_ids or len(chosen) == decoding.max_tokens:
            break
        logits = session.feed(chosen[-1:], recorder)
    ids = (*prompt_ids, *chosen)
    return Answer(
        prompt_ids=tuple(prompt_ids),
        token_ids=tuple(chosen),
        finish="stop" if chosen[-1] in model.architecture.stop_ids else "length",
        trace=None if recorder is None else recorder.finish(ids, len(prompt_ids), prompt_seed),
        configuration=model.configuration(),
        execution_digest=recorder.execution_digest if recorder is not None and digest else None,
    )


def replay(model: Model, prompt_ids: Sequence[int], token_ids: Sequence[int], recorder: Recorder) -> Session:
    """Feed a recorded answer again as ``generate`` did: the prompt at once, then token by token.

    Args:
        recorder: gets what every layer leaves behind. The last token of an answer is chosen, and
            never fed.
    """
    session = model.session()
    session.feed(prompt_ids, recorder)
    for token in token_ids[:-1]:
        session.feed([token], recorder)
    return session


def rebuild_states(
    model: Model, answer: Answer, wanted: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], LayerState]:
    """States at the ``wanted`` (position, layer) pairs, rebuilt by running ``answer`` again.

    A trace holds hashes only. The wanted states are all that is kept in memory here.
    """
    keeper = StateKeeper(wanted)
    last = max(position for position, _ in wanted)
    replay(model, answer.prompt_ids, answer.token_ids[: max(1, last - len(answer.prompt_ids) + 2)], keeper)
    return keeper.states


def rebuild_operators(
    model: PortableModel, answer: Answer, trace_seed: bytes, position: int, layer: int
) -> dict[str, np.ndarray]:
    """Results of the operators of one layer at one position: int64 rows by name, in order.

    The answer is run again up to there, in one piece; no bit of the portable lane depends on that.
    The state that the operators lead to is checked against the committed leaf, so that nobody
    argues from states of another run.

    Raises:
        InputError: no trace, or no such position or layer.
        ProofError: the layer's state is not the committed one.
    """
    shape = answer.committed.shape
    if not (0 <= position < shape.positions and 0 <= layer < shape.layers):
        raise InputError(f"leaf ({position}, {layer}): expected below ({shape.positions}, {shape.layers})")
    session = PortableSession(model, watch=(position, layer))
    session.feed([*answer.prompt_ids, *answer.token_ids][: position + 1])
    operators = layer_program(model.dims, position)
    done = {operator.name: session.operators[number] for number, operator in enumerate(operators)}
    kv_heads = model.architecture.kv_heads * model.architecture.head_dim
    rows = (done["output"], done["attention.key"], done["attention.qkv"][-kv_heads:])
    state = LayerState(*(row.astype(np.dtype("<i4")).tobytes() for row in rows))
    check_state(answer.committed, trace_seed, position, layer, state)
    return done
