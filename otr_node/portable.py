"""The portable lane: a whole Llama decoder in exact integers. Same bits on any machine, thread
count, batch, padding, instruction set, and for any way of cutting a sequence into pieces.

Fixed point throughout: a value v with b fraction bits is the integer v · 2^b. The norms' weights
and the factor log2(e)/√head_dim are multiplied into the matrices that follow them before those are
rounded to integers, so that a layer is nothing but dot products, shifts, table look-ups, one
division and one square root per row (``primitives``). The integer matrices are what is executed and
what ``weights_root`` commits to. What stays between steps (residual stream, keys, values) fits
int32 and is what the trace's leaves hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from otr_core.errors import InputError
from otr_core.lane import formats as bits
from otr_core.lane.architecture import Architecture
from otr_core.lane.dims import Dims, Matrix
from otr_core.lane.element import LAYER, TOKEN
from otr_core.lane.program import layer_program, token_program
from otr_core.lane.tables import turns
from otr_core.poea.manifest import ModelManifest
from otr_core.poea.trace import Recorder
from otr_node.checkpoint import make_manifest, open_variant, read_checkpoint, torch_threads
from otr_node.integers import twins
from otr_node.integers.device import device_products
from otr_node.integers.forms import EXP2, Form, chosen_form
from otr_node.integers.layers import Layers, Stretch
from otr_node.integers.packed import Packed
from otr_node.integers.watched import Watched
from otr_node.model import ROWS_AT_ONCE
from otr_node.rounding import Bounds, matrix_name, round_model
from otr_node.tokenizer import ChatTokenizer

LANE = Dims.lane

_BLOCK = 256  # positions computed at once; bounds memory, changes no bit
_FARTHEST = 2**32  # a distance of logits that weighs 0 at every temperature

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class PortableModel:
    """A checkpoint in integers.

    Attributes:
        matrices: packed integers by name, stacked as they are used (``qkv``, ``gate_up``).
        bounds: what was proven about its accumulators.
        form: how its operations run here; no bit depends on it.
    """

    architecture: Architecture
    manifest: ModelManifest
    tokenizer: ChatTokenizer
    matrices: dict[str, Packed]
    bounds: Bounds
    threads: int
    form: Form = field(default_factory=chosen_form)

    @cached_property
    def dims(self) -> Dims:
        """Sizes and constants of the operators' program."""
        return Dims.of(self.architecture)

    def matrix(self, which: Matrix, layer: int) -> Packed:
        """A matrix of a layer, or of the model."""
        return self.matrices[matrix_name(which, layer)]

    def session(self) -> PortableSession:
        return PortableSession(self)

    def choose(self, logits: np.ndarray, temperature_milli: int, drawn: int) -> int:
        """Next token from integer logits, LOGIT fraction bits: the first largest, or where
        ``drawn`` falls; in integers alone."""
        return int(np.argmax(logits)) if temperature_milli == 0 else chosen_token(logits, temperature_milli, drawn)

    def configuration(self) -> dict[str, Any]:
        """Nothing but the lane: no other fact changes a bit."""
        return {"lane": self.dims.lane}


def load_portable(folder: Path | str, *, device: str = "cpu", threads: int = 1, **variant: Any) -> PortableModel:
    """Load a checkpoint into the portable lane: round its matrices, prove the accumulators' bounds,
    commit to them.

    Needs little more than two bytes per weight, and while loading hardly more.

    Args:
        device: "cpu", or "cuda" for products of many tokens (never run on one so far).
        threads: as ``lanes.load_model`` takes them.
        variant: its ``drop_layers`` and ``alter``; altered weights are held whole while loading.

    Raises:
        ModelError: as ``load_model``, or a bound that the weights do not keep.
        InputError: a device that is not here.
        HardwareError: one whose integer products are wrong.
    """
    form = chosen_form()
    if device != "cpu":
        form = replace(form, device=device_products(device))
    checkpoint = read_checkpoint(Path(folder))
    architecture, tensors = open_variant(checkpoint, **variant)
    with torch_threads(threads):
        matrices, bounds, commitment = round_model(architecture, tensors, form)
    manifest = make_manifest(checkpoint, architecture, Dims.of(architecture).lane, commitment)
    return PortableModel(architecture, manifest, checkpoint.tokenizer, matrices, bounds, threads, form)


Alter = Callable[[int, np.ndarray], np.ndarray]
"""(number of an operator, its values) → other values, from which the computation goes on: what a
cheat does."""


class PortableSession:
    """One or more sequences being computed in integers.

    Args:
        padding: per sequence, how many of its first tokens are padding (left); they are computed
            and seen by nobody.
        watch: (position, layer) at which every operator's values are kept in ``operators``, int64
            by the operator's number (``program.LayerOperator``); for a session of one sequence.
        alter: changes the watched operators' values as they are made; None in an honest run.
    """

    def __init__(
        self,
        model: PortableModel,
        padding: Sequence[int] = (0,),
        *,
        watch: tuple[int, int] | None = None,
        alter: Alter | None = None,
    ) -> None:
        d = model.dims
        self._model, self._padding = model, tuple(padding)
        self._pads = np.array(self._padding, np.int64)
        self._watch, self._alter = watch, alter
        self.operators: dict[int, np.ndarray] = {}
        self._seen = 0  # tokens fed so far, padding included
        # (layers, batch, kv_heads, places, head_dim), so that all layers' new rows are one slice
        self._keys = self._values = np.empty((d.layers, len(self._padding), d.kv_heads, 0, d.tile), np.int32)
        # (positions, head_dim / 2): cosines and sines; a second pair where layers differ in them
        self._turns: tuple[tuple[Int32, Int32], ...] = ((np.empty((0, 0), np.int32),) * 2,)
        fits = model.bounds.accumulators["attention"] < bits.LIMIT
        self._layers = Layers(d, model.matrix, model.bounds.saturation, fits, model.form)

    def feed(self, ids: Sequence[int], recorder: Recorder | None = None) -> np.ndarray:
        """Logits (vocab,), int64 with LOGIT fraction bits, after the tokens ``ids``; for a session of
        one sequence."""
        logits: np.ndarray = self._feed([ids], [recorder], all_logits=False)[0, -1]
        return logits

    def feed_batch(
        self,
        rows: Sequence[Sequence[int]],
        recorders: Sequence[Recorder | None] = (),
        *,
        all_logits: bool = False,
    ) -> Tensor:
        """Feed each sequence the same number of tokens.

        Returns:
            integers in float64, (sequences, 1 or tokens, vocab): logits of the last or of all
            tokens.
        """
        return torch.from_numpy(self._feed(rows, recorders, all_logits=all_logits)).double()

    def _feed(self, rows: Sequence[Sequence[int]], recorders: Sequence[Recorder | None], *, all_logits: bool) -> Int64:
        """``feed_batch`` in int64."""
        if len(rows) != len(self._padding) or len({len(row) for row in rows}) != 1 or not rows[0]:
            raise InputError(
                f"batch: found {[len(row) for row in rows]} tokens, expected {len(self._padding)} equal rows"
            )
        ids = np.array([list(row) for row in rows], np.int64)
        logits = []
        with torch_threads(self._model.threads), torch.inference_mode():
            for block in self._blocks(ids):
                hidden = self._block(block, recorders)
                if all_logits:
                    logits.append(self._logits(hidden))
            return np.concatenate(logits, axis=1) if all_logits else self._logits(hidden[:, -1:])

    def run_layer(self, position: int, layer: int, stream: np.ndarray, keys: np.ndarray, values: np.ndarray) -> None:
        """Watch one layer at one position, computed from what a trace holds, in a session that has
        fed nothing.

        Args:
            stream: (hidden,) what enters the layer. keys, values: (position, kv) of earlier
                positions; all int64.
        """
        d = self._model.dims
        self._watch = (position, layer)
        self._grow(position + 1)
        for store, rows in ((self._keys, keys), (self._values, values)):
            store[layer][0, :, :position] = rows.reshape(position, d.kv_heads, d.tile).swapaxes(0, 1)
        self._watched_layer(layer, stream.reshape(1, 1, -1), position)

    def run_head(self, stream: np.ndarray) -> None:
        """Watch norm and logits of one position, from the last layer's output (hidden,), int64."""
        model, d = self._model, self._model.dims
        operators = token_program(d, 0)[:-1]  # all but the choice
        watched = Watched(d, model.form.loops, TOKEN, lambda which: model.matrix(which, 0), self._note)
        watched.run(operators, stream)

    def _blocks(self, ids: Int64) -> list[Int64]:
        """(batch, tokens) cut into what is computed at once; the watched position comes alone."""
        count = ids.shape[1]
        cuts = set(range(0, count, _BLOCK))
        if self._watch is not None:
            at = self._watch[0] - self._seen
            cuts |= {cut for cut in (at, at + 1) if 0 <= cut < count}
        return np.split(ids, sorted(cuts)[1:], axis=1)

    def _block(self, ids: Int64, recorders: Sequence[Recorder | None]) -> Int32:
        model, begin = self._model, self._seen
        batch, count = ids.shape
        self._grow(begin + count)
        # (layers + 1, batch, tokens, hidden): the embeddings, then what each layer leaves
        streams = np.empty((model.dims.layers + 1, batch, count, model.dims.hidden), np.int32)
        streams[0] = model.matrices["embed"].gather(ids.reshape(-1)).reshape(streams.shape[1:])
        recording = [(row, recorder) for row, recorder in enumerate(recorders) if recorder is not None]
        first, end = 0, model.dims.layers
        for layer in range(end):
            if self._watch == (begin, layer):
                streams[layer + 1] = self._watched_layer(layer, streams[layer].astype(np.int64), begin)
            else:
                own = self._layer_turns(layer)
                self._layers.layer(
                    layer, streams[layer], *self._kept(layer), begin, self._pads, own, streams[layer + 1]
                )
            if (layer + 1 - first) * count >= ROWS_AT_ONCE or layer + 1 == end:
                if recording:
                    self._record(recording, begin, first, streams[first + 1 : layer + 2])
                first = layer + 1
        self._seen = begin + count
        last: Int32 = streams[-1]
        return last

    def _logits(self, hidden: Int32) -> Int64:
        """Logits of (batch, count, hidden): (batch, count, vocab)."""
        return self._layers.logits(hidden.reshape(-1, hidden.shape[-1])).reshape(*hidden.shape[:2], -1)

    def _watched_layer(self, layer: int, hidden: Int64, at: int) -> Int64:
        """One layer on (1, 1, hidden), the token at position ``at``: operator by operator as in the
        program, each noted. Attention is in whole tiles, as there; places beyond weigh nothing."""
        model, d = self._model, self._model.dims
        cosines, sines = self._layer_turns(layer)
        watched = Watched(
            d,
            model.form.loops,
            LAYER,
            lambda which: model.matrix(which, layer),
            self._note,
            at,
            layer,
            self._keys[layer][0],
            self._values[layer][0],
            (cosines[at], sines[at]),
            model.bounds.saturation[layer],
        )
        made = watched.run(layer_program(d, at), hidden.reshape(-1))
        return made[len(made) - 1].reshape(1, 1, -1)

    def _note(self, operator: int, values: Int64) -> Int64:
        """Keep an operator's values. What comes back is what the computation goes on with."""
        made = values.copy() if self._alter is None else self._alter(operator, values.copy())
        self.operators[operator] = made
        return made

    def _kept(self, layer: int) -> tuple[Int32, Int32]:
        """Keys and values of a layer."""
        return self._keys[layer], self._values[layer]

    def _layer_turns(self, layer: int) -> tuple[Int32, Int32]:
        """Cosines and sines by which a layer turns heads."""
        return self._turns[self._model.dims.second_turns >> layer & 1]

    def _grow(self, needed: int) -> None:
        """Room for ``needed`` tokens in cache and rotary table; doubled, so that growing costs
        little per token."""
        have = len(self._turns[0][0])
        if needed <= have:
            return
        a = self._model.architecture
        room = max(_BLOCK, 1 << (needed - 1).bit_length())
        shape = (a.layers, len(self._padding), a.kv_heads, room, a.head_dim)
        for name in ("_keys", "_values"):
            grown, old = np.zeros(shape, np.int32), getattr(self, name)
            grown[:, :, :, : self._seen] = old[:, :, :, : self._seen]
            setattr(self, name, grown)
        self._turns = tuple((np.array(table[0], np.int32), np.array(table[1], np.int32)) for table in turns(a, room))

    def _record(self, recording: Sequence[tuple[int, Recorder]], begin: int, layer: int, outputs: Int32) -> None:
        """Hand over what the layers from ``layer`` on left behind, for each sequence that is
        recorded.

        Args:
            outputs: (layers, batch, count, hidden).
        """
        count, last = outputs.shape[2], layer + len(outputs)
        for row, recorder in recording:
            unseen = max(self._padding[row] - begin, 0)
            if unseen >= count:
                continue
            # (kv_heads, positions, head_dim) of each layer to (layers, positions, kv_heads · head_dim)
            keys, values = (
                np.ascontiguousarray(store[layer:last, row, :, begin + unseen : begin + count].swapaxes(1, 2))
                for store in (self._keys, self._values)
            )
            rows = (outputs[:, row, unseen:], *(each.reshape(*each.shape[:2], -1) for each in (keys, values)))
            recorder.absorb(layer, begin + unseen - self._padding[row], *map(_int32_bytes, rows))


def feed_together(
    sessions: Sequence[PortableSession], pieces: Sequence[Sequence[int]], recorders: Sequence[Recorder | None]
) -> Int64:
    """Feed several sessions of one model in one pass, each its own tokens; no bit differs from alone.

    Args:
        sessions: each of one sequence, none twice. pieces: of each, its next tokens. recorders: of
            each, or None.

    Returns:
        logits after each piece: (sessions, vocab).

    Raises:
        InputError: no tokens, or sessions that cannot be fed together.
    """
    model = sessions[0]._model if sessions else None
    if model is None or not all(pieces) or len({*map(id, sessions)}) < len(sessions):
        raise InputError(f"batch: found pieces of {[*map(len, pieces)]} tokens, expected some of as many sessions")
    if any(each._model is not model or len(each._padding) > 1 or each._watch for each in sessions):
        raise InputError("batch: found sessions of other models, batches or watched, expected single ones of one model")
    ends = np.cumsum([len(piece) for piece in pieces])
    with torch_threads(model.threads), torch.inference_mode():
        streams = np.empty((model.dims.layers + 1, ends[-1], model.dims.hidden), np.int32)
        streams[0] = model.matrices["embed"].gather(np.concatenate([np.array(piece, np.int64) for piece in pieces]))
        for each, piece in zip(sessions, pieces, strict=True):
            each._grow(each._seen + len(piece))
        for layer in range(model.dims.layers):
            stretches = [
                Stretch(len(piece), each._seen, each._pads, each._layer_turns(layer), *each._kept(layer))
                for each, piece in zip(sessions, pieces, strict=True)
            ]
            sessions[0]._layers.together(layer, streams[layer], stretches, streams[layer + 1])
        for each, piece, recorder, end in zip(sessions, pieces, recorders, ends, strict=True):
            if recorder is not None:
                each._record([(0, recorder)], each._seen, 0, streams[1:, None, end - len(piece) : end])
            each._seen += len(piece)
        return sessions[0]._layers.logits(streams[-1, ends - 1])


def chosen_token(logits: np.ndarray, temperature_milli: int, drawn: int) -> int:
    """The token at which ``drawn`` falls, of integer logits with LOGIT fraction bits."""
    cumulative = np.cumsum(sampling_weights(logits, temperature_milli))
    target = drawn * int(cumulative[-1]) >> 53
    return int(np.searchsorted(cumulative, target, side="right"))


def sampling_weights(logits: np.ndarray, temperature_milli: int) -> Int64:
    """Each token's weight in the draw, int64: 2^−x of its distance to the largest logit over the
    temperature."""
    # Cut first: the product with the factor would leave int64. The distance does not: logits stay below
    # the bound of their sums, 2^62 (``rounding.check_bounds``).
    below = np.minimum((logits.max() - logits).astype(np.int64), _FARTHEST)
    index = below * bits.TEMPERATURE_FACTOR // (temperature_milli << bits.TEMPERATURE_SHIFT)
    return twins.looked_up(EXP2, index)


def _int32_bytes(rows: Int32) -> np.ndarray:
    """(layers, positions, values) to (layers, positions, bytes), little-endian int32."""
    return np.ascontiguousarray(rows, "<i4").view("u1")
