"""An adversary who knows the tolerance: every operator's output at the edge of its bound, in the
worst direction.

The direction is the gradient of the logit gap between a token and its runner-up, at every operator
output of every position up to the one attacked; to first order no other choice of signs moves the
gap further. The pushed run passes the leaf rule at every operator (each bound is taken at the
pushed inputs).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from otr_node.checkpoint import torch_threads
from otr_node.native import NativeModel
from otr_paper.labs.tolerance.native_operators import Referee, Run, State, watching
from otr_paper.labs.tolerance.tolerance import Format, Reference


@dataclass(frozen=True)
class BoundAwareAttack:
    """What pushing every operator did to the last position's logits.

    Attributes:
        first, second: the token that an honest run chooses, and its runner-up.
        gap: how far the first's logit lies above the second's in an honest run.
        drift: by how much the pushes closed that gap. largest_logit: the largest change of any
            logit.
        flipped: whether the pushed run chooses another token than the honest one.
    """

    first: int
    second: int
    gap: float
    drift: float
    largest_logit: float
    flipped: bool


def gradient(model: NativeModel, ids: Sequence[int], first: int, second: int) -> Run:
    """d(logit of ``second`` - logit of ``first`` at the last position) / d(each operator output),
    fp32.

    Args:
        model: of the float32 lane (its weights may be those of another lane).
    """
    kept: dict[tuple[int, str], torch.Tensor] = {}

    def keep(layer: int, name: str, value: torch.Tensor) -> None:
        if value.requires_grad:
            value.retain_grad()
            kept[layer, name] = value

    module = model.module
    with torch_threads(model.threads), torch.enable_grad(), watching(module, keep):
        embedded = module.model.embed_tokens(torch.tensor([list(ids)])).detach().requires_grad_()
        logits = module(inputs_embeds=embedded, use_cache=False).logits[0, -1]
        (logits[second] - logits[first]).backward()
    result: Run = [{} for _ in range(model.architecture.layers + 1)]
    for (layer, name), value in kept.items():
        if value.grad is not None:
            slope = value.grad[0]
            result[layer][name] = (slope.transpose(0, 1).flatten(1) if slope.ndim == 3 else slope).double().numpy()
    return result


def pushed(
    referee: Referee, ids: Sequence[int], direction: Sequence[Mapping[str, np.ndarray]], envelopes: Mapping[str, float]
) -> Run:
    """A run whose every operator output is at the edge of what ``envelopes`` (by operator) allow,
    along ``direction``.

    An empty direction gives the honest run: exact outputs, stored.
    """
    hidden = referee.tensors["model.embed_tokens.weight"][list(ids)]
    run: Run = []
    for layer in range(referee.architecture.layers + 1):
        state: State = {"in": hidden}
        for operator in referee.operators(layer):
            reference = referee.reference(operator, layer, state)
            slope = direction[layer].get(operator.output) if direction else None
            state[operator.output] = _edge(reference, slope, envelopes[operator.name], referee.fmt)
        hidden = state.get("out", hidden)
        run.append(state)
    return run


def _edge(reference: Reference, slope: np.ndarray | None, envelope: float, fmt: Format) -> np.ndarray:
    """The storable values nearest to the edge of the tolerance, (rows, width).

    Where storing such a value would step over the edge, the honest value stays.
    """
    honest = fmt.round(reference.value)
    if slope is None:
        return honest
    allowed = envelope * reference.bound
    edge = fmt.round(reference.value + np.sign(slope) * allowed * (1 - 2.0**-10))
    return np.where(np.abs(edge - reference.value) <= allowed, edge, honest)


def attack(
    model: NativeModel, referee: Referee, ids: Sequence[int], envelopes: Mapping[str, float]
) -> tuple[BoundAwareAttack, Run]:
    """Push the choice after ``ids`` towards the runner-up; returns what came of it and the pushed
    run."""
    honest = pushed(referee, ids, (), envelopes)[-1]["logits"][-1]
    second, first = (int(token) for token in np.argsort(honest)[-2:])
    run = pushed(referee, ids, gradient(model, ids, first, second), envelopes)
    logits = run[-1]["logits"][-1]
    gap = float(honest[first] - honest[second])
    result = BoundAwareAttack(
        first=first,
        second=second,
        gap=gap,
        drift=gap - float(logits[first] - logits[second]),
        largest_logit=float(np.abs(logits - honest).max()),
        flipped=int(logits.argmax()) != first,
    )
    return result, run
