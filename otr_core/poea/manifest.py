"""What a model is: weights, configuration, tokenizer, template and lane under one ``model_id``."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from otr_core.encoding import canonical_json, from_hex, json_object, tagged_json_hash
from otr_core.errors import InputError, ModelError, reported_as
from otr_core.lane.architecture import Architecture
from otr_core.lane.dims import Dims
from otr_core.lane.formats import PORTABLE

#: How inference is computed. *native* lanes are fast and not portable bit for bit, *portable* gives
#: the same bits on any machine, under the name that its family has (``lane.formats``). *h100-bf16* names an
#: instruction of a tensor core and the order of its blocks: any machine can replay it to the bit.
LANES = ("native-float32", "native-bfloat16", *PORTABLE, "h100-bf16")


@dataclass(frozen=True)
class ModelManifest:
    """What a model is; ``model_id`` is the hash of all of it.

    Attributes:
        weights_root: RFC 6962 root over the tensors that are executed (portable lane: the
            integers), 64 hex digits in lower case as all digests here.
        weights_leaves: number of leaves under that root, needed to open one.
        tokenizer: digest of everything that turns text into token ids and back.
        config: the decoder and its stop ids, as ``Architecture.config`` writes them.
        chat_template: digest of the template's text.
        lane: one of ``LANES``.

    Raises:
        ModelError: a field of another type or form; a config that says more, less or something
            else than the decoder it describes; a portable lane that its family does not have.
    """

    weights_root: str
    weights_leaves: int
    tokenizer: str
    config: Mapping[str, Any]
    chat_template: str
    lane: str

    def __post_init__(self) -> None:
        for name in ("weights_root", "tokenizer", "chat_template"):
            value = getattr(self, name)
            with reported_as(ModelError, f"model manifest {name}", InputError):
                if from_hex(value, length=32, what="digest").hex() != value:
                    raise ModelError(f"model manifest {name}: found {value!r}, expected hex digits in lower case")
        if self.lane not in LANES:
            raise ModelError(f"lane: found {self.lane!r}, expected one of {', '.join(LANES)}")
        if type(self.weights_leaves) is not int or not 1 <= self.weights_leaves < 2**53:
            raise ModelError(f"weights_leaves: found {self.weights_leaves!r}, expected an integer of at least 1")
        with reported_as(ModelError, "model manifest config", InputError):
            config = self._read(json_object(self.config, what="model manifest config")).config()
            for name, found in json_object(self.config, config, what="model manifest config").items():
                if not _same(found, config[name]):
                    raise ModelError(f"model manifest config {name}: found {found!r}, expected {config[name]!r}")
            canonical_json(config)  # infinite constants have no place in a document
        if self.lane in PORTABLE and self.lane != (own := Dims.of(self._read(config)).lane):
            expected = f"{own!r}, by which {config['model_type']} models are rounded"
            raise ModelError(f"lane: found {self.lane!r}, expected {expected}")
        object.__setattr__(self, "config", config)  # nobody holds it to change it later

    @functools.cached_property
    def architecture(self) -> Architecture:
        """The decoder that ``config`` describes."""
        return self._read(self.config)

    def _read(self, config: Mapping[str, Any]) -> Architecture:
        """A native lane leaves decoders to a library; the portable lane knows all operators."""
        return Architecture.outlined(config) if self.lane.startswith("native") else Architecture.from_config(config)

    @functools.cached_property
    def model_id(self) -> bytes:
        """32 bytes: H("model", the manifest's fields as canonical JSON)."""
        return tagged_json_hash("model", self._fields())

    def _fields(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def to_json(self) -> dict[str, Any]:
        return {"model_id": self.model_id.hex(), **self._fields()}

    @classmethod
    def from_json(cls, document: Any) -> ModelManifest:
        """Read ``to_json``'s document.

        Raises:
            ModelError: fields missing, extra or of another form, or a ``model_id`` that is not the
                hash of the rest.
        """
        with reported_as(ModelError, "model manifest", InputError):
            fields = dict(json_object(document, ("model_id", *cls.__dataclass_fields__), what="model manifest"))
        stated = fields.pop("model_id")
        manifest = cls(**fields)
        if stated != manifest.model_id.hex():
            raise ModelError(f"model manifest: found model_id {stated}, expected {manifest.model_id.hex()}")
        return manifest


def _same(found: Any, expected: Any) -> bool:
    """Equal, and of the same types; JSON writes a float that is a whole number as an integer."""
    if isinstance(expected, dict):
        return (
            isinstance(found, dict)
            and found.keys() == expected.keys()
            and all(_same(found[key], expected[key]) for key in expected)
        )
    if isinstance(expected, list):
        return isinstance(found, list) and len(found) == len(expected) and all(map(_same, found, expected))
    numbers = (float, int) if isinstance(expected, float) else (type(expected),)
    return type(found) in numbers and bool(found == expected)
