"""Spot checks on the default model: what is asked of it, the beacon's recorded rounds, and what an
audit of its products costs beside running the answer again."""

from __future__ import annotations

import hashlib
import time
import tomllib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from otr_core.errors import ModelError
from otr_core.lane.dims import Matrix
from otr_core.spotcheck.selection import SHARES
from otr_node.integers.forms import Scratch
from otr_node.portable import PortableModel
from otr_node.project import Project
from otr_node.proof.witness import exact_sums
from otr_node.spotchecks import CheckedOperator
from otr_paper.benches.workbench import Workbench, derive
from otr_paper.labs.freivalds import prepare

PROMPTS = (
    "Ada lives in Lisbon and works as a baker. Where does Ada live?",
    "Name three colours of the rainbow.",
    "What is the capital of Portugal?",
    "Write one sentence about rain.",
    "How many legs does a spider have?",
)
MATRICES = (Matrix.QKV, Matrix.OUT, Matrix.GATE_UP, Matrix.DOWN)
"""Of every layer; the head is one more."""


def load_beacon(project: Project) -> tuple[dict[str, Any], dict[int, bytes]]:
    """drand's quicknet chain information and the recorded rounds of data/beacon.toml."""
    document = tomllib.loads((project.data / "beacon.toml").read_text("utf-8"))
    return document["chain"], {entry["round"]: bytes.fromhex(entry["signature"]) for entry in document["rounds"]}


def checked(bench: Workbench, prompt: str, tokens: int = 12) -> CheckedOperator:
    """An operator who has answered a prompt. The trace's salts depend on the prompt alone, because
    they decide what a beacon round draws, and stored draws have to repeat."""
    return bench.serve(prompt, tokens, trace_secret=derive("spot-check-seed", prompt)).checked


def measure_audit(model: PortableModel, given: int, chosen: int, seeds: Sequence[int]) -> dict[str, Any]:
    """The audit of all products of one answer, the head's among them, against running it again.

    Both sides are timed once for each seed, after a round that is not counted, in CPU seconds of one
    thread; what is returned is their medians. The audit reads every accumulator and hashes it, as
    whoever ties it to a commitment must; what the operators without weights take is not counted for
    the audit, and neither is making the accumulators or sending them.

    Args:
        given, chosen: tokens of prompt and answer. seeds: of inputs and challenges.

    Returns:
        products_s and again_s (products alone, and the whole answer again with its choices),
        audit_s of which hash_s, bytes (that the audit must be sent), accumulators (count),
        weights (count), false_rows and false_accepted (rows with every output false put to it),
        soundness_error, prepare_s (folding all matrices, once per model).
    """
    positions, scratch = given + chosen - 1, Scratch()
    sites = [(which, layer) for layer in range(model.dims.layers) for which in MATRICES] + [(Matrix.HEAD, 0)]
    spent: dict[str, list[float]] = {"products_s": [], "again_s": [], "audit_s": [], "hash_s": [], "prepare_s": []}
    accumulators = weights = size = rows_put = accepted = 0
    error = 0.0
    for seed in (seeds[0], *seeds):
        rng = np.random.default_rng(seed)
        taken = dict.fromkeys(spent, 0.0)
        accumulators = weights = size = 0
        for which, layer in sites:
            matrix = model.matrix(which, layer)
            rows, columns = matrix.shape
            count = chosen if which == Matrix.HEAD else positions
            x = rng.integers(-(2**19), 2**19, (count, columns)).astype(np.int32)
            out = np.empty((count, rows), np.int64)
            _add(taken, "products_s", model.form.product, x, matrix, which.shift, scratch, out)
            dense = matrix.dense()
            audit = _add(taken, "prepare_s", prepare, dense, rng)
            sums = exact_sums(x.astype(np.int64), matrix)
            wide = x.astype(np.int64)
            _add(taken, "hash_s", lambda raw: hashlib.sha256(raw).digest(), sums)
            held = _add(taken, "audit_s", audit.holds, wide, sums)
            if not held.all():
                raise ModelError(f"audit of {which.name} {layer}: found honest rows refused, expected all accepted")
            accepted += int(audit.holds(wide, sums + 1).sum())
            rows_put += count
            error = audit.soundness_error
            accumulators, weights, size = accumulators + sums.size, weights + dense.size, size + sums.nbytes
        ids = rng.integers(3, model.architecture.vocab, positions).tolist()
        _add(taken, "again_s", run_again, model, ids, given)
        taken["audit_s"] += taken["hash_s"]
        for name, seconds in taken.items():
            spent[name].append(seconds)
    counted: dict[str, Any] = {name: float(np.median(seconds[1:])) for name, seconds in spent.items()}
    counted |= {f"{name}_all": [round(s, 4) for s in seconds[1:]] for name, seconds in spent.items()}
    found = {"positions": positions, "chosen": chosen, "bytes": size, "accumulators": accumulators, "weights": weights}
    return counted | found | {"false_rows": rows_put, "false_accepted": accepted, "soundness_error": error}


def run_again(model: PortableModel, ids: list[int], given: int) -> None:
    """Run an answer again on its tokens: logits at the places where a token was chosen.

    Args:
        ids: the tokens that were fed. given: how many of them the prompt has.
    """
    session = model.session()
    if given > 1:
        session.feed(ids[: given - 1])
    session.feed_batch([ids[given - 1 :]], all_logits=True)


def _add(taken: dict[str, float], name: str, call: Callable[..., Any], *given: Any) -> Any:
    """What ``call`` gives; its CPU seconds are added to ``name``."""
    start = time.process_time()
    result = call(*given)
    taken[name] += time.process_time() - start
    return result


__all__ = ["PROMPTS", "SHARES", "checked", "load_beacon", "measure_audit", "run_again"]
