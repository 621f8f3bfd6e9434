"""What committing the trace would cost on an H100's host: bytes from published shapes, hash speed
as measured here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from otr_paper.claims.published import Published
from otr_paper.store.records import Records, records

ACTIVATION_BYTES = 2
"""bf16."""
#: Name -> (rows of the model's shape, row of a whole answer's time): the answer's time over its
#: tokens is one step.
MODELS = {"Llama 3.1 8B": ("model.llama31_8b", "cc44"), "Llama 3.1 70B": ("model.llama31_70b", "cc43")}


def trace_cost_projection(published: Published, *, hash_bytes_per_s: float) -> list[dict[str, Any]]:
    """Records of model, bytes_per_token, hash_ms (one core), step_ms and share: hashing time over
    one decoding step.

    A leaf holds a layer's output and its new key and value rows. Steps are those of the published
    serving runs (vLLM, 4 H100 for 70B, 1 for 8B, a batch of requests each): every token of the
    batch is hashed, so the share is of one core per concurrent request.

    Args:
        hash_bytes_per_s: SHA-256 speed of one core on leaf-sized buffers, bytes per CPU second.
    """
    tokens = published.number("anchor.vllm_ci.output", "tok")
    records = []
    for name, (model, answer) in MODELS.items():
        layers, width, kv = (published.number(f"{model}.{part}", "count") for part in ("layers", "width", "kv_width"))
        size = layers * (width + 2 * kv) * ACTIVATION_BYTES
        hash_ms, step_ms = 1000 * size / hash_bytes_per_s, 1000 * published.number(answer, "s") / tokens
        records.append(
            {"model": name, "bytes_per_token": size, "hash_ms": hash_ms, "step_ms": step_ms, "share": hash_ms / step_ms}
        )
    return records


def trace_cost_rows(
    measured: Mapping[str, Any], machines: Sequence[Mapping[str, Any]], larger: Sequence[Mapping[str, Any]]
) -> Records:
    """Rows of the figure of the trace's cost: model, bytes_per_token, share, kind.

    Args:
        measured: the stored result trace_cost. machines: of ``otr record``. larger: of ``trace_cost_projection``.
    """
    rows = [
        (f"SmolLM2-135M, {row['lane']}, {part}", row["bytes_per_token"], row[f"share_of_{part}"], "measured")
        for row in measured["rows"]
        for part in ("prefill", "decode")
    ]
    rows += [(one["name"], one["bytes_per_token"], one["share"], "measured") for one in machines]
    rows += [(f"{one['model']}, bf16", one["bytes_per_token"], one["share"], "recomputed") for one in larger]
    return records("model, bytes_per_token, share, kind", rows)
