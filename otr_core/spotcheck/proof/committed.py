"""A model as whoever does not hold it knows it: the commitment to its matrices, and what was proven
of them when the commitment was made.

The six matrices are the columns of one layout, over (layers, rows, columns), and are committed to
like a witness (``commitment``). Nothing here shows that a root is of the model with this id: whoever
holds the weights makes the same commitment again, and a verifier trusts whoever did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from otr_core.encoding import canonical_json, parse_canonical, strict_hex, tagged_json_hash
from otr_core.errors import AnswerProofError, InputError, in_file
from otr_core.files import read_input
from otr_core.lane.architecture import Architecture
from otr_core.lane.dims import Dims, Matrix
from otr_core.lane.formats import PRODUCT_SHIFT, SCORE_SHIFT
from otr_core.spotcheck.proof.blocks import QUERIES, CellLayout, Column
from otr_core.spotcheck.proof.facts import MOST_ADDED
from otr_core.spotcheck.proof.field import Words, add
from otr_core.spotcheck.proof.layout import BELOW_BITS, ROOM_BITS, Sizes

COMMITTED = (Matrix.EMBED, Matrix.HEAD, Matrix.QKV, Matrix.OUT, Matrix.GATE_UP, Matrix.DOWN)
"""All matrices of a plain Llama, in the order of their cells; norms' weights are part of them."""
SHARED = (Matrix.EMBED, Matrix.HEAD)
"""Of them those that no layer has."""
_FORM = "otr-model-commitment/1"
_HIDING_FORM = "otr-model-commitment/2"
_MOST_ANSWERS = 64  # the tails of so many fit the rows that SmolLM2 has anyway
_MOST_BYTES = 2**20  # of a file
_MOST_BLOCK = 64  # of either side of a block
_SATURATION_BITS = range(21, 31)
"""Of the power of two at which a layer's product saturates (``otr_node.rounding``)."""
REACH = ("gate", "logits", "output", "product", "score", "up")
"""Kinds of accumulators whose bounds a proof depends on."""
_MOST_BITS = 63  # accumulators are int64


@dataclass(frozen=True)
class WeightLayout(CellLayout):
    """Where the cells of a model's matrices lie.

    Attributes:
        answers: proofs that are to tell nothing of them (``ModelCommitment``).
    """

    d: Dims
    answers: int = 0

    @cached_property
    def block(self) -> tuple[int, int]:
        """(rows, columns): whole blocks across every matrix, so that a matrix row has no cells of padding."""
        across = self.d.hidden | self.d.heads * self.d.tile | self.d.intermediate
        return _MOST_BLOCK, min(_MOST_BLOCK, across & -across)

    @property
    def least_row_bits(self) -> int:
        """Where they are hidden, tails take about an eighth of a row at most."""
        tails = (8 * self.answers * QUERIES - 1).bit_length() if self.answers else 0
        return max(super().least_row_bits, tails)

    @cached_property
    def columns(self) -> dict[str, Column]:
        """A column a matrix, by its name in lower case."""
        found = {}
        for matrix in COMMITTED:
            name = matrix.name.lower()
            found[name] = Column(name, (1 if matrix in SHARED else self.d.layers, *self.d.matrix_shape(matrix)))
        return found


@dataclass(frozen=True)
class ModelCommitment:
    """What a verifier without weights takes for granted of a model.

    Attributes:
        model_id: of the manifest. root: of the tree over the code words' columns.
        saturation_bits: per layer, the product saturates at that power of two. bound_bits: by kind
            (``REACH``), no accumulator of it reaches that power of two.
        answers: how many proofs can be made under it that tell nothing of the weights (``hiding``); 0 of
            a commitment that hides nothing.

    Raises:
        InputError: numbers that no model of the lane has.
    """

    model_id: bytes
    root: bytes
    saturation_bits: tuple[int, ...]
    bound_bits: Mapping[str, int]
    answers: int = 0

    def __post_init__(self) -> None:
        if not all(type(bit) is int and bit in _SATURATION_BITS for bit in self.saturation_bits):
            raise InputError(f"model commitment saturation_bits: found {self.saturation_bits}, expected 21 to 30 each")
        bounds = self.bound_bits.values()
        if set(self.bound_bits) != set(REACH) or not all(type(b) is int and 0 <= b <= _MOST_BITS for b in bounds):
            found = f"found {dict(self.bound_bits)}, expected 0 to {_MOST_BITS} of each of {', '.join(REACH)}"
            raise InputError(f"model commitment bound_bits: {found}")

        check_answers(self.answers)

    @property
    def saturation(self) -> tuple[int, ...]:
        """Where each layer's product saturates."""
        return tuple(1 << bit for bit in self.saturation_bits)

    def layout(self, architecture: Architecture) -> WeightLayout:
        """Where the cells lie.

        Raises:
            AnswerProofError: check "commitment": it is of another number of layers.
        """
        if len(self.saturation_bits) != architecture.layers:
            raise AnswerProofError("commitment", f"{len(self.saturation_bits)} layers", f"{architecture.layers}")
        return WeightLayout(Dims.of(architecture), self.answers)

    def to_json(self) -> dict[str, Any]:
        hiding = {"answers": self.answers} if self.answers else {}
        return {
            "format": _HIDING_FORM if hiding else _FORM,
            **hiding,
            "model_id": self.model_id.hex(),
            "root": self.root.hex(),
            "saturation_bits": list(self.saturation_bits),
            "bound_bits": dict(self.bound_bits),
        }

    @cached_property
    def digest(self) -> bytes:
        """32 bytes, of all of it: what is compared with someone who holds the weights."""
        return tagged_json_hash("model-commitment", self.to_json())

    def dump(self) -> bytes:
        """The file: canonical JSON and a line end."""
        return canonical_json(self.to_json()) + b"\n"

    @classmethod
    def load(cls, raw: bytes) -> ModelCommitment:
        """Read ``dump``'s file.

        Raises:
            InputError: it is another file, or has numbers that no model of the lane has.
        """
        what = "model commitment"
        keys = ["format", "model_id", "root", "saturation_bits", "bound_bits"]
        hiding = raw.startswith(b'{"answers":')  # members stand in order
        own = parse_canonical(raw, _HIDING_FORM if hiding else _FORM, ["answers"] * hiding + keys, what=what)
        if hiding and own["answers"] == 0:
            raise InputError(f"{what} answers: found 0, expected 1 to {_MOST_ANSWERS}")
        for name, kind in (("saturation_bits", list), ("bound_bits", dict)):
            if not isinstance(own[name], kind):
                raise InputError(f"{what} {name}: found {type(own[name]).__name__}, expected {kind.__name__}")
        model_id, root = (strict_hex(own[name], length=32, what=f"{what} {name}") for name in ("model_id", "root"))
        return cls(model_id, root, tuple(own["saturation_bits"]), own["bound_bits"], own.get("answers", 0))

    @classmethod
    def read(cls, path: Path) -> ModelCommitment:
        """A commitment from its file.

        Raises:
            InputError: as ``load``.
        """
        with in_file(path):
            return cls.load(read_input(path, what="a commitment to a model (JSON)", limit_bytes=_MOST_BYTES))


def check_answers(count: int) -> None:
    """
    Raises:
        InputError: no commitment hides a model in so many proofs.
    """
    if type(count) is not int or not 0 <= count <= _MOST_ANSWERS:
        raise InputError(f"model commitment answers: found {count!r}, expected 0 to {_MOST_ANSWERS}")


def fed_rows(tokens: tuple[int, ...], vocab: int, t: Words) -> Words:
    """Weights of the embedding's rows (vocab, 2): of each the sum of t where it is the token's."""
    rows = np.zeros((vocab, 2), np.uint64)
    for token, own in zip(tokens, t, strict=True):
        rows[token] = add(rows[token], own)
    return rows


def check_reach(bound_bits: Mapping[str, int], sizes: Sizes) -> None:
    """Whether whatever the model computes has a place in the proof, by the bounds that are proven of
    it when it is loaded. It depends on model and temperature alone, so that both sides find the same.

    Two logits lie at most twice their bound apart, and 1 for rounding; what the down projection adds
    has a place in every model.

    Args:
        bound_bits: as in ``ModelCommitment``.

    Raises:
        AnswerProofError: check "mode": an honest value could lie beyond.
    """
    added = MOST_ADDED.bit_length() - 1
    most = {
        "logits": Matrix.HEAD.shift + (BELOW_BITS if sizes.temperature_milli else ROOM_BITS) - 2,
        "score": added + SCORE_SHIFT - 1,
        "gate": added + Matrix.GATE_UP.shift,
        "up": added + Matrix.GATE_UP.shift,
        "product": added + PRODUCT_SHIFT,
        "output": added + Matrix.OUT.shift,
    }
    for kind, bits in most.items():
        if bound_bits[kind] > bits:
            raise AnswerProofError("mode", f"a bound of {kind} of 2^{bound_bits[kind]}", f"at most 2^{bits}")
