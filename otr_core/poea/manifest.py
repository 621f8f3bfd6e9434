"""What a model is: weights, configuration, tokenizer, template and lane under one ``model_id``."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from otr_core.encoding import from_hex, parse_json, tagged_hash, tagged_json_hash
from otr_core.errors import ModelError
from otr_core.lane.architecture import Architecture

#: How inference is computed. *native* lanes are fast and not portable bit for bit, *portable* gives
#: the same bits on any machine; the version counts changes of its arithmetic.
LANES = ("native-float32", "native-bfloat16", "portable-1")

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class ModelManifest:
    """What a model is, as 64-digit hex digests; ``model_id`` is their hash.

    Attributes:
        weights_root: of ``weights.commit_weights`` over the tensors that are executed (portable
            lane: the integers).
        weights_leaves: number of leaves under that root, needed to open one.
        tokenizer, config, chat_template: ``tokenizer_digest``, ``config_digest``,
            ``chat_template_digest``.
        lane: one of ``LANES``.
        source_sha256: hash of the file the tensors were converted from (a GGUF file), recorded
            beside the model and not part of its identity: the same tensors from another container
            are the same model.
    """

    weights_root: str
    weights_leaves: int
    tokenizer: str
    config: str
    chat_template: str
    lane: str
    source_sha256: str | None = None

    def __post_init__(self) -> None:
        for name in ("weights_root", "tokenizer", "config", "chat_template"):
            from_hex(getattr(self, name), length=32, what=f"model manifest {name}")
        if self.source_sha256 is not None:
            from_hex(self.source_sha256, length=32, what="model manifest source_sha256")
        if self.lane not in LANES:
            raise ModelError(f"lane: found {self.lane!r}, expected one of {', '.join(LANES)}")
        if self.weights_leaves < 1:
            raise ModelError(f"weights_leaves: found {self.weights_leaves}, expected at least 1")

    @property
    def model_id(self) -> bytes:
        """32 bytes: H("model", {weights_root, tokenizer, config, chat_template, lane})."""
        names = ("weights_root", "tokenizer", "config", "chat_template", "lane")
        return tagged_json_hash("model", {name: getattr(self, name) for name in names})

    def to_json(self) -> dict[str, Any]:
        return {"model_id": self.model_id.hex(), **asdict(self)}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> ModelManifest:
        """Read ``to_json``'s document.

        Raises:
            ModelError: fields missing or extra, or a ``model_id`` that is not the hash of the rest.
        """
        fields = dict(document)
        stated = fields.pop("model_id", None)
        try:
            manifest = cls(**fields)
        except TypeError as error:
            raise ModelError(f"model manifest: {error}") from error
        if stated != manifest.model_id.hex():
            raise ModelError(f"model manifest: found model_id {stated}, expected {manifest.model_id.hex()}")
        return manifest


def config_digest(architecture: Architecture) -> bytes:
    """H("config", …) over what defines the decoder; what a library adds to the file is left out."""
    return tagged_json_hash("config", architecture.config())


def tokenizer_digest(folder: Path) -> bytes:
    """H("tokenizer", SHA-256 of each tokenizer file)."""
    hashes = {name: hashlib.sha256(_read(folder / name)).hexdigest() for name in _TOKENIZER_FILES}
    return tagged_json_hash("tokenizer", hashes)


def chat_template_digest(template: str) -> bytes:
    """H("chat-template", the Jinja text)."""
    return tagged_hash("chat-template", template.encode("utf-8"))


def read_architecture(folder: Path) -> Architecture:
    """The decoder described by ``folder/config.json``.

    Raises:
        ModelError: absent, or not a plain Llama decoder.
    """
    config = parse_json(_read(folder / "config.json"), what=str(folder / "config.json"))
    if not isinstance(config, dict):
        raise ModelError(f"{folder / 'config.json'}: found {type(config).__name__}, expected a JSON object")
    generation = folder / "generation_config.json"
    if config.get("eos_token_id") is None and generation.is_file():
        config = {**config, "eos_token_id": json.loads(generation.read_bytes()).get("eos_token_id")}
    return Architecture.from_config(config)


def read_chat_template(folder: Path) -> str:
    """The chat template of a checkpoint: its own file, or the older place in the tokenizer's."""
    own = folder / "chat_template.jinja"
    if own.is_file():
        return own.read_text("utf-8")
    template = json.loads(_read(folder / "tokenizer_config.json")).get("chat_template")
    if not isinstance(template, str):
        raise ModelError(f"{folder}: no chat template, expected chat_template.jinja (an instruction-tuned model)")
    return template


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{path}: {error.strerror}, expected a file of a checkpoint folder; run: otr data fetch"
        ) from error
