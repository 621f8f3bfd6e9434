"""Random steps of every primitive: what the definition makes of values, and what the lane makes.

Values enter layers as no model would send them, and on the way some are replaced; the lane's
operators (kernels and their twins) and the definition (``otr_core.lane.step``) then start from the
same values, operator by operator. The compiled layer as a whole is held against the same results
where nothing was replaced.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from otr_core.lane import formats
from otr_core.lane.element import LAYER, TOKEN, Element, Place, TraceClaim
from otr_core.lane.held import HeldValues
from otr_core.lane.program import PORTABLE_KINDS, Kind, Operator, layer_program, token_program
from otr_core.lane.sampling import draw
from otr_core.lane.step import value
from otr_core.lane.tables import turns
from otr_node.integers.layers import Layers
from otr_node.portable import PortableModel, PortableSession, load_portable, sampling_weights
from otr_paper.labs.families import write_family
from otr_paper.labs.tiny import TINY, tiny_tensors, write_tiny

SCALES = (1.0, 0.05, 12.0)
"""By how much the tiny model's matrices are larger than usual."""
FAMILIES = ("qwen3", "gemma2")
"""Cases of ``labs.families`` whose programs have, between them, the primitives that a plain Llama's
has not."""
_POSITIONS = 16
_ALTERED = 2**20  # what replaces values stays below this, so that no sum of 64 bits is left
_REPLACED = {Kind.NORM, Kind.DOT, Kind.ROTATE, Kind.SCORE, Kind.MIX, Kind.GATE, Kind.GELU, Kind.SCALE}
"""Whose values are replaced: any are possible there. A peak below its row's values is not."""
_CLAIM = TraceClaim(bytes(32), bytes(32), bytes(32), _POSITIONS, bytes(32), 0, 0)


def compare_steps(each: int, seed: int = 1) -> dict[str, Any]:
    """Compare until every kind of primitive had ``each`` steps, in programs drawn from ``seed``.

    Copies of what enters a program are not among them: nothing is computed there.

    Returns:
        JSON values. steps: compared, by kind. differing: of them, those whose element's value was
        another. layers, layers_differing: compiled layers compared as a whole.
    """
    random = np.random.default_rng(seed)
    campaign = _Campaign(each)
    with TemporaryDirectory() as folder:
        models = []
        for number, factor in enumerate(SCALES):
            tensors = tiny_tensors(TINY, seed=number)
            for name, tensor in tensors.items():
                if "proj" in name:
                    tensor *= np.float32(factor)
            models.append(load_portable(write_tiny(Path(folder) / str(number), TINY, tensors)))
        models += [load_portable(write_family(Path(folder) / name, name)) for name in FAMILIES]
        while campaign.wanting:
            model = models[int(random.integers(len(models)))]
            campaign.layer(model, random)
            campaign.token(model, random)
    return {
        "each": each,
        "steps": {kind.name.lower(): count for kind, count in sorted(campaign.steps.items())},
        "differing": campaign.differing,
        "layers": campaign.layers,
        "layers_differing": campaign.layers_differing,
    }


def _some(random: np.random.Generator, most: int, *shape: int) -> np.ndarray:
    """Int64 values up to ±``most`` of every order of magnitude."""
    size = random.uniform(-1, 1, shape) * most * 2.0 ** -random.integers(0, most.bit_length(), shape)
    return np.rint(size * 2.0 ** -random.integers(0, most.bit_length())).astype(np.int64)


def _sides(model: PortableModel, layer: int, position: int) -> tuple[Any, Any]:
    """Cosines and sines by which a layer turns heads, up to a position: (positions, head_dim / 2)."""
    tables = turns(model.architecture, position + 1)
    cosines, sines = tables[model.dims.second_turns >> layer & 1]
    return cosines, sines


class _Campaign:
    """Counts of what was compared."""

    def __init__(self, each: int) -> None:
        self._each = each
        self.steps: Counter[Kind] = Counter({kind: 0 for kind in PORTABLE_KINDS if kind != Kind.COPY})
        self.differing = self.layers = self.layers_differing = 0

    @property
    def wanting(self) -> bool:
        return min(self.steps.values()) < self._each

    def layer(self, model: PortableModel, random: np.random.Generator) -> None:
        """One layer at one position, on random states, with some values replaced or none."""
        d, at = model.dims, int(random.integers(_POSITIONS))
        layer = int(random.integers(d.layers))
        stream, keys, values = _some(random, 2**31 - 1, d.hidden), *(_some(random, 2**21, at, d.kv) for _ in range(2))
        program, chance = layer_program(d, at), random.choice([0.0, 0.15])
        kinds = {number: operator.kind for number, operator in enumerate(program)}

        found: dict[int, np.ndarray] = {}  # what the lane made, whatever then took its place

        def alter(number: int, made: np.ndarray) -> np.ndarray:
            found[number] = made
            if kinds[number] in _REPLACED and random.random() < chance:
                return _some(random, _ALTERED, len(made))
            return made

        session = PortableSession(model, alter=alter)
        session.run_layer(at, layer, stream, keys, values)
        turn = np.array([x for side in _sides(model, layer, at) for x in side[at]])
        saturation = model.bounds.saturation[layer].bit_length() - 1
        vectors = dict(session.operators)
        held = HeldValues(d, vectors, keys, values, turn, saturation, lambda matrix: model.matrix(matrix, layer))
        self._elements(held, program, Place(LAYER, at, layer, 0, 0, 0, 0), _CLAIM, found, random)
        if not chance:
            made = {operator.name: vectors[number] for number, operator in enumerate(program)}
            self._compiled(model, layer, stream, keys, values, made)

    def token(self, model: PortableModel, random: np.random.Generator) -> None:
        """The choice of a token after a random state, drawn and greedy, from random logits too."""
        session, d = PortableSession(model), model.dims
        stream = _some(random, 2**31 - 1, d.hidden)
        session.run_head(stream)
        session.operators[0] = stream
        made = dict(session.operators)
        last = max(made)  # the logits, capped where the family caps them
        if random.random() < 0.5:
            session.operators[last] = _some(random, 2 ** int(random.integers(10, 40)), d.vocab)
        logits = session.operators[last]
        none, seed = np.empty((0, d.kv), np.int64), int(random.integers(2**40))
        for milli in (0, int(random.integers(1, 3000))):
            claim = replace(_CLAIM, seed=seed, temperature_milli=milli)
            program = token_program(d, milli)
            chosen = model.choose(logits, milli, draw(seed, 0, claim.order_id))
            vectors = dict(session.operators)
            if milli:
                weights = sampling_weights(logits, milli)
                drawn = (logits.max(keepdims=True), weights, weights.sum(keepdims=True))
                vectors |= {last + 1 + number: row for number, row in enumerate(drawn)}
            vectors[len(program) - 1] = np.array([chosen])
            held = HeldValues(d, vectors, none, none, np.empty(0, np.int64), 0, lambda matrix: model.matrix(matrix, 0))
            self._elements(held, program, Place(TOKEN, 0, d.layers - 1, 0, 0, 0, 0), claim, {**vectors, **made}, random)

    def _elements(
        self,
        held: HeldValues,
        program: tuple[Operator, ...],
        place: Place,
        claim: TraceClaim,
        found: Mapping[int, np.ndarray],
        random: np.random.Generator,
    ) -> None:
        """Compare some elements of every operator whose kind still wants steps."""
        for number, operator in enumerate(program):
            if operator.kind == Kind.COPY or self.steps[operator.kind] >= self._each:
                continue
            for element in {int(random.integers(operator.length)) for _ in range(min(operator.length, 8))}:
                at = replace(place, operator=number, element=element)
                defined = value(Element(held.d, claim, at, operator, held))
                self.differing += defined != int(found[number][element])
                self.steps[operator.kind] += operator.steps

    def _compiled(
        self,
        model: PortableModel,
        layer: int,
        stream: np.ndarray,
        keys: np.ndarray,
        values: np.ndarray,
        made: Mapping[str, np.ndarray],
    ) -> None:
        """The same layer in one compiled call."""
        d, at = model.dims, len(keys)
        cosines, sines = (np.array(side, np.int32) for side in _sides(model, layer, at))
        kept = [np.zeros((1, d.kv_heads, at + 1, d.tile), np.int32) for _ in range(2)]
        for store, rows in zip(kept, (keys, values), strict=True):
            store[0, :, :at] = rows.reshape(at, d.kv_heads, d.tile).swapaxes(0, 1)
        fits = model.bounds.accumulators["attention"] < formats.LIMIT
        layers = Layers(d, model.matrix, model.bounds.saturation, fits, model.form)
        hidden, out = stream.astype(np.int32).reshape(1, 1, -1), np.empty((1, 1, d.hidden), np.int32)
        layers.layer(layer, hidden, kept[0], kept[1], at, np.zeros(1, np.int64), (cosines, sines), out)
        self.layers += 1
        same = (out.reshape(-1) == made["output"]).all()
        same &= (kept[0][0, :, at].reshape(-1) == made["attention.key"]).all()
        self.layers_differing += not same
