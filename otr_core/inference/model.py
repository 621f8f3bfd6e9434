"""The native lanes: a Llama checkpoint run by transformers in fp32 or bf16, offline, in one exactly described way.

Eager attention, one thread unless told otherwise, batch 1, no padding, the prompt in one piece and then one token at a
time. On one machine this repeats bit for bit; across thread counts, batches and instruction sets it does not (that is
what the portable lane is for).
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from otr_core.errors import ModelError
from otr_core.inference import registry, weights
from otr_core.inference.architecture import Architecture
from otr_core.inference.convert import read_source_sha256
from otr_core.inference.registry import ModelManifest
from otr_core.inference.trace import Recorder

if TYPE_CHECKING:
    import numpy as np
    import torch

Tensors = dict[str, "torch.Tensor"]

_DTYPES = {"native-float32": "float32", "native-bfloat16": "bfloat16"}
# Below this many rows, one transfer for all layers; above, layer by layer, so that memory stays small.
_ROWS_AT_ONCE = 64


class Session(Protocol):
    """One sequence being computed: feed tokens, get the logits of the last one, keep keys and values inside."""

    def feed(self, ids: Sequence[int], recorder: Recorder | None = None) -> np.ndarray:
        """Logits, shape (vocab,), after the tokens ``ids`` at the next positions."""


class Model(Protocol):
    """A loaded model of any lane, as ``generate`` and the receipt see it."""

    @property
    def architecture(self) -> Architecture: ...
    @property
    def manifest(self) -> ModelManifest: ...
    @property
    def tokenizer(self) -> Any: ...
    def session(self) -> Session: ...
    def choose(self, logits: np.ndarray, decoding: Any, step: int) -> int: ...
    def configuration(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class NativeModel:
    """A checkpoint loaded by ``load_native``.

    Attributes:
        manifest: what was really loaded, variants included: digests are over the executed tensors.
        module: the transformers model. threads: of each forward pass.
    """

    architecture: Architecture
    manifest: ModelManifest
    tokenizer: Any
    module: Any
    device: str
    threads: int

    def session(self) -> Session:
        return _NativeSession(self)

    def choose(self, logits: np.ndarray, decoding: Any, step: int) -> int:
        from otr_core.inference.sampling import choose

        return choose(logits, decoding, step)

    def configuration(self) -> dict[str, Any]:
        """Everything besides the model that the bits of a native lane depend on; goes into the receipt."""
        import torch
        import transformers

        cuda = self.device.startswith("cuda")
        return {
            "lane": self.manifest.lane,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "attention": "eager",
            "schedule": "whole prompt, then single tokens; batch 1; no padding",
            "threads": self.threads,
            "device": torch.cuda.get_device_name(self.device) if cuda else platform.machine(),
            "kernels": f"sm_{''.join(map(str, torch.cuda.get_device_capability(self.device)))}"
            if cuda
            else torch.backends.cpu.get_cpu_capability(),
        }


def load_model(
    folder: Path | str,
    *,
    lane: str = "native-float32",
    device: str = "cpu",
    threads: int = 1,
    drop_layers: Sequence[int] = (),
    alter: Callable[[Tensors], Tensors] | None = None,
) -> Model:
    """Load a Llama checkpoint offline and commit to the tensors that will be executed.

    Args:
        folder: ``config.json``, safetensors weights, tokenizer and chat template.
        lane: one of ``LANES``.
        drop_layers: decoder layers (0-based) left out: the layer-dropping downgrade attack.
        alter: replaces the tensors after loading and checking: re-quantised or tampered weights. Like dropped layers it
            changes ``model_id``, because what is hashed is what runs.

    Raises:
        ModelError: no such folder, corrupted or unfitting checkpoint, NaN or infinite weights, or an unknown lane.
    """
    from otr_core.inference.portable import load_portable

    if lane not in registry.LANES:
        raise ModelError(f"lane: found {lane!r}, expected one of {', '.join(registry.LANES)}")
    options: dict[str, Any] = {"device": device, "threads": threads, "drop_layers": drop_layers, "alter": alter}
    if lane in _DTYPES:
        return load_native(folder, lane=lane, **options)
    return load_portable(folder, **options)


def load_native(
    folder: Path | str,
    *,
    lane: str = "native-float32",
    device: str = "cpu",
    threads: int = 1,
    drop_layers: Sequence[int] = (),
    alter: Callable[[Tensors], Tensors] | None = None,
) -> NativeModel:
    """``load_model`` for the native lanes: "native-float32" or "native-bfloat16"."""
    folder = Path(folder)
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    architecture, tensors = read_variant(folder, drop_layers, alter)
    tensors = {name: value.to(getattr(torch, _DTYPES[lane])) for name, value in tensors.items()}
    manifest = make_manifest(folder, architecture, lane, commit_tensors(tensors))
    config = LlamaConfig(**{**architecture.config(), "attn_implementation": "eager"})
    with torch.device("meta"):
        module = LlamaForCausalLM(config)
    module.load_state_dict(tensors, assign=True, strict=False)
    if architecture.tied:
        module.tie_weights()
    module.model.rotary_emb = LlamaRotaryEmbedding(config)  # its table is no tensor of the checkpoint
    module.eval().requires_grad_(False)
    module.to(torch.device(device))  # type: ignore[arg-type]
    return NativeModel(architecture, manifest, load_tokenizer(folder), module, device, threads)


def read_variant(
    folder: Path, drop_layers: Sequence[int] = (), alter: Callable[[Tensors], Tensors] | None = None
) -> tuple[Architecture, Tensors]:
    """A checkpoint's decoder and checked tensors, or those of a variant of it (arguments as ``load_model``)."""
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder, expected a checkpoint; get the default model with: otr data fetch")
    architecture = registry.read_architecture(folder)
    tensors = read_checked(folder, architecture)
    if drop_layers:
        architecture, tensors = without_layers(architecture, tensors, drop_layers)
    if alter is not None:
        tensors = alter(tensors)
        architecture.check_tensors({name: tuple(value.shape) for name, value in tensors.items()})
    return architecture, tensors


def read_checked(folder: Path, architecture: Architecture) -> Tensors:
    """The checkpoint's tensors as torch tensors, in their stored dtype.

    Raises:
        ModelError: missing, extra or wrongly shaped tensors, NaN or infinite values, a file that does not parse.
    """
    import torch

    result: Tensors = {}
    stored = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
    found = {}
    for tensor in weights.read_tensors(folder):
        if architecture.tied and tensor.name == "lm_head.weight":
            continue
        found[tensor.name] = tensor
    architecture.check_tensors({name: tensor.shape for name, tensor in found.items()})
    for name, tensor in found.items():
        if tensor.dtype not in stored:
            raise ModelError(f"tensor {name}: found dtype {tensor.dtype}, expected one of {', '.join(stored)}")
        value = torch.frombuffer(bytearray(tensor.data), dtype=stored[tensor.dtype]).reshape(tensor.shape)
        # A sum is finite only if every value is (and none is near the format's limit): one pass instead of a mask.
        if not torch.isfinite(value.sum(dtype=torch.float64 if value.numel() < 4096 else torch.float32)):
            raise ModelError(f"tensor {name}: holds NaN or infinite values, expected finite weights")
        result[name] = value
    return result


def without_layers(
    architecture: Architecture, tensors: Tensors, dropped: Sequence[int]
) -> tuple[Architecture, Tensors]:
    """The decoder with some layers left out and the rest renumbered.

    Raises:
        ModelError: a layer that is not there, or none left.
    """
    from dataclasses import replace

    gone = set(dropped)
    kept = [layer for layer in range(architecture.layers) if layer not in gone]
    if not kept or gone - set(range(architecture.layers)):
        raise ModelError(f"drop_layers: found {sorted(gone)}, expected some of 0 to {architecture.layers - 1}, not all")
    result = {name: value for name, value in tensors.items() if not name.startswith("model.layers.")}
    for new, old in enumerate(kept):
        prefix = f"model.layers.{old}."
        result |= {
            f"model.layers.{new}.{name.removeprefix(prefix)}": value
            for name, value in tensors.items()
            if name.startswith(prefix)
        }
    return replace(architecture, layers=len(kept)), result


def commit_tensors(tensors: Tensors) -> weights.WeightCommitment:
    """Weight commitment of tensors in memory, in the bytes that are executed."""
    import torch

    names = {
        torch.float32: "F32",
        torch.bfloat16: "BF16",
        torch.float16: "F16",
        torch.int32: "I32",
        torch.int16: "I16",
        torch.int64: "I64",
    }
    return weights.commit(
        weights.Tensor(
            name,
            names[value.dtype],
            tuple(value.shape),
            value.contiguous().cpu().reshape(-1).view(torch.uint8).numpy().data,
        )
        for name, value in sorted(tensors.items())
    )


def make_manifest(
    folder: Path, architecture: Architecture, lane: str, commitment: weights.WeightCommitment
) -> ModelManifest:
    """Manifest of executed tensors together with the tokenizer and template of ``folder``."""
    return ModelManifest(
        weights_root=commitment.root.hex(),
        weights_leaves=len(commitment.leaf_hashes),
        tokenizer=registry.tokenizer_digest(folder).hex(),
        config=registry.config_digest(architecture).hex(),
        chat_template=registry.chat_template_digest(registry.read_chat_template(folder)).hex(),
        lane=lane,
        source_sha256=read_source_sha256(folder),
    )


def load_tokenizer(folder: Path) -> Any:
    """The checkpoint's tokenizer, with its chat template.

    Raises:
        ModelError: the files do not parse.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder}: tokenizer not readable ({str(error).splitlines()[0]})") from error
    tokenizer.chat_template = registry.read_chat_template(folder)
    return tokenizer


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run a block with ``count`` torch threads, and put back what was set before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _NativeSession:
    def __init__(self, model: NativeModel) -> None:
        from transformers import DynamicCache

        self._model = model
        self._cache = DynamicCache()
        self._position = 0

    def feed(self, ids: Sequence[int], recorder: Recorder | None = None) -> np.ndarray:
        import torch

        model, count = self._model, len(ids)
        with torch_threads(model.threads), torch.inference_mode(), contextlib.ExitStack() as stack:
            if recorder is not None:
                stack.enter_context(_capture(model.module.model.layers, self._cache, self._position, count, recorder))
            result = model.module(
                input_ids=torch.tensor([list(ids)], device=model.device),
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
            self._position += count
            logits: np.ndarray = result.logits[0, -1].float().cpu().numpy()
            return logits


@contextlib.contextmanager
def _capture(layers: Any, cache: Any, position: int, count: int, recorder: Recorder) -> Iterator[None]:
    """Hand each layer's output and new cache rows to ``recorder`` during one forward pass."""
    import torch

    pending: list[tuple[int, Any]] = []

    def as_bytes(rows: Any) -> np.ndarray:
        return rows.contiguous().view(torch.uint8).cpu().numpy()

    def new_rows(side: str) -> Any:
        # (layers, 1, heads, positions, values) to (layers, positions, heads × values): one row per position
        rows = [getattr(cache.layers[layer], side).narrow(2, position, count) for layer, _ in pending]
        return torch.cat(rows).transpose(1, 2).flatten(2)

    def watched(layer: int, forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            output = forward(*args, **kwargs)
            pending.append((layer, output[0] if isinstance(output, tuple) else output))
            if len(pending) * count >= _ROWS_AT_ONCE or layer == len(layers) - 1:
                outputs = torch.cat([rows for _, rows in pending])
                recorder.absorb(
                    pending[0][0], position, as_bytes(outputs), as_bytes(new_rows("keys")), as_bytes(new_rows("values"))
                )
                pending.clear()
            return output

        return run

    # Not forward hooks: with them torch takes a slower way through every layer, a third of the trace's cost.
    for number, layer in enumerate(layers):
        layer.forward = watched(number, layer.forward)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class's own comes back
