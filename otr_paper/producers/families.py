"""Families of decoders in the portable lane: data/results/families.json. A minute on one core.

Tiny random checkpoints of each family, saved by transformers, run by it in fp32 and by the portable
lane: at how many positions both choose the same token, and how far two logits lie apart.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from otr_core.lane.architecture import Architecture
from otr_core.lane.formats import LOGIT
from otr_core.lane.program import LayerOperator, layer_program, token_program
from otr_node.portable import load_portable
from otr_paper.labs.families import CASES, write_family
from otr_paper.producers import frame

SEEDS = (1, 2, 3)
POSITIONS = 96
TEXT_SEED = 20251125


def added_operators(a: Architecture) -> list[str]:
    """What a family adds to a plain Llama, in words."""
    scaling = "" if a.rope_scaling is None else f"{a.rope_scaling.config()['rope_type']} rotations"
    multiplied = a.embedding_scale != 1 or a.residual_scale != 1 or a.logit_divisor != 1 or a.attention_scale
    words = {
        scaling: bool(scaling),
        "window": bool(a.window),
        "biases of q, k, v": a.biased,
        "norms of each q and k": a.head_norms == "head",
        "one norm of all q, one of all k": a.head_norms == "all",
        "tanh GELU": a.gelu,
        "norms of 1 + w": a.one_plus,
        "embedding scale": a.scaled_by_width,
        "norms after": a.normed_after,
        "no norms before": not a.normed_before,
        "cap of scores": bool(a.score_cap),
        "cap of logits": bool(a.logit_cap),
        "other rotations in some layers": bool(a.second_turns and a.second_theta),
        "no rotations in some layers": bool(a.second_turns and not a.second_theta),
        "partial rotations": a.rotary < a.head_dim,
        "fused q, k, v and gate, up": a.fused,
        "multipliers": bool(multiplied),
    }
    return [word for word, there in words.items() if there]


def _row(name: str) -> dict[str, Any]:
    from transformers import AutoModelForCausalLM

    agree, worst, deviation, positions = 0, 0.0, 0.0, 0
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            place = write_family(Path(folder) / "m", name, seed=seed)
            exact = load_portable(place)
            library = AutoModelForCausalLM.from_pretrained(place, attn_implementation="eager", dtype=torch.float32)
            a = exact.architecture
            ids = np.random.default_rng(TEXT_SEED + seed).integers(3, a.vocab, POSITIONS).tolist()
            with torch.no_grad():
                expected = library.eval()(torch.tensor([ids])).logits[0].double().numpy()
            found = exact.session().feed_batch([ids], all_logits=True)[0].numpy() / 2.0**LOGIT
        agree += int((found.argmax(-1) == expected.argmax(-1)).sum())
        worst, deviation = max(worst, float(np.abs(found - expected).max())), max(deviation, float(expected.std()))
        positions += POSITIONS
    plain = {operator.label for operator in LayerOperator}
    programs = (*layer_program(exact.dims, POSITIONS - 1), *token_program(exact.dims, 0))
    more = [
        op.name for op in programs if op.name not in plain and not op.name.startswith(("head.", "choice", "logits"))
    ]
    return {
        "case": name,
        "family": a.family,
        "added": added_operators(a),
        "operators": len(layer_program(exact.dims, POSITIONS - 1)),
        "operators_added": len(more) + bool(a.logit_cap),
        "positions": positions,
        "agree": agree,
        "worst_logit": worst,
        "logit_std": deviation,
    }


def main() -> None:
    frame.arguments(__doc__).parse_args()
    rows = []
    for name in CASES:
        rows.append(_row(name))
        frame.progress(f"{name}: {rows[-1]['agree']} of {rows[-1]['positions']}")
    frame.store("families", {"rows": rows}, seed=TEXT_SEED, packages=frame.MODEL_LIBRARIES, cores=1)


if __name__ == "__main__":
    main()
