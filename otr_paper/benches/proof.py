"""What proving a whole answer costs, measured now: CPU time, memory and bytes of proof and check, beside the answer's
own inference in the same run."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from otr_core.errors import ParameterError
from otr_core.lane.dims import Dims
from otr_core.lane.sampling import Decoding
from otr_core.poea import OnceStore
from otr_core.poea.client import place_order
from otr_core.poea.message import Response
from otr_core.spotcheck.proof.sumcheck import sum_fractions
from otr_core.spotcheck.proof.transcript import Channel
from otr_core.spotcheck.proof.verify import MOST_POSITIONS, check_committed, check_proof, check_proven
from otr_node.enclave import SimulatedEnclave
from otr_node.generate import generate, prompt_tokens
from otr_node.portable import load_portable
from otr_node.proof.answers import commit_for_proofs, prove_answer
from otr_node.proof.prover import Fractions
from otr_node.serve import serve
from otr_paper.benches.lane import WIDE
from otr_paper.labs.tiny import write_tiny
from otr_paper.studies.proving import multiplied_weights

PROMPT = "What is the capital of France, and what is it known for?"


@dataclass(frozen=True)
class ProofPlan:
    """How much is measured.

    Attributes:
        positions: tokens fed, prompt and answer; eleven sixteenths of them are the prompt's.
        temperature_milli: 0 for a greedy answer, else tokens are drawn.
        committed: whether the verifier holds a commitment to the model, and not the model.
        hidden_answers: proofs in which that commitment hides the model; 0: it hides nothing.

    Raises:
        ParameterError: fewer than 2, more than a proof takes, or no temperature; what hides is no commitment.
    """

    positions: int = 64
    temperature_milli: int = 0
    committed: bool = False
    hidden_answers: int = 0

    def __post_init__(self) -> None:
        if self.hidden_answers and not self.committed:
            raise ParameterError("hidden_answers", self.hidden_answers, "0 where the verifier holds the model")
        if not 2 <= self.positions <= MOST_POSITIONS:
            raise ParameterError("positions", self.positions, f"a whole number from 2 to {MOST_POSITIONS}")
        Decoding(self.positions, 1, self.temperature_milli)


def measure_proof(folder: Path, plan: ProofPlan, report: Callable[[str], None]) -> dict[str, Any]:
    """Prove and check one answer, loops compiled before; CPU seconds of the process.

    The prompt is a question's first tokens, again from the first where it is too short.

    Returns:
        prove_cpu_s, check_cpu_s; inference_cpu_s of the same answer without a trace, and prove_over_inference;
        peak_mb of the process; proof_bytes; soundness_bits. commit_cpu_s of committing to the model
        before, None where the verifier holds it. positions, answer_tokens, temperature_milli, hidden_answers: of
        what. cells: that are committed to, without masks.
    """
    model = load_portable(folder)
    ids = prompt_tokens(model, PROMPT, 1)
    given = max(plan.positions * 11 // 16, 1)
    prompt = (ids * -(-given // len(ids)))[:given]
    decoding = Decoding(plan.positions + 1 - given, 1, plan.temperature_milli)
    fresh = b"\7" * 32
    placed = place_order(
        prompt, model_id=model.manifest.model_id, decoding=decoding, job_id=fresh, nonce=fresh, client_secret=fresh
    )
    enclave = SimulatedEnclave(b"s" * 32, model.manifest.model_id, b"g" * 32, 1)
    file, _ = serve(enclave, model, placed.order, placed.query, served=OnceStore(None))
    start = time.process_time()
    generate(model, placed.said.prompt_ids, decoding, order_id=placed.order.id)
    inference = time.process_time() - start
    response = Response.from_json(file.response.plain)
    held: dict[str, Any] = {"model_id": model.manifest.model_id, "saturation": model.bounds.saturation}
    sizes = check_proven(file, placed.said, response, **held, hidden=plan.hidden_answers > 0)
    start = time.process_time()
    under = commit_for_proofs(model, report, b"k" * 32, plan.hidden_answers) if plan.committed else None
    committing = time.process_time() - start
    start = time.process_time()
    proof = prove_answer(model, file, placed.said, response, report, under=under)
    proving = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.process_time()
    if under is None:
        found = check_proof(proof, file, placed.said, response, model=model, **held)
    else:
        found = check_committed(proof, file, placed.said, response, committed=under.commitment)
    return {
        "prove_cpu_s": proving,
        "inference_cpu_s": inference,
        "prove_over_inference": proving / inference,
        "peak_mb": peak,
        "proof_bytes": len(proof),
        "check_cpu_s": time.process_time() - start,
        "commit_cpu_s": committing if plan.committed else None,
        "soundness_bits": found.soundness_bits,
        "positions": found.positions,
        "answer_tokens": found.tokens,
        "temperature_milli": found.temperature_milli,
        "hidden_answers": plan.hidden_answers,
        "cells": sizes.rows << sizes.row_bits,
    }


@dataclass(frozen=True)
class ShapePlan:
    """A model of random weights, shaped as ``benches.lane.WIDE``: its width, a multiple of 128, its layers, and the
    positions that are proven.

    Raises:
        ParameterError: another width, or no layer.
    """

    hidden: int
    layers: int
    positions: int

    def __post_init__(self) -> None:
        if self.hidden < WIDE.head_dim or self.hidden % WIDE.head_dim:
            raise ParameterError("hidden", self.hidden, f"a multiple of {WIDE.head_dim}")
        if self.layers < 1:
            raise ParameterError("layers", self.layers, "at least 1")


def measure_shape(plan: ShapePlan, report: Callable[[str], None]) -> dict[str, Any]:
    """``measure_proof`` of a model that is as large as is asked; its weights are drawn with a seed made of the plan.
    What comes out is no language; what a proof costs hangs on sizes alone.

    Returns:
        those figures with hidden, layers and weights (those that are multiplied with).
    """
    heads = plan.hidden // WIDE.head_dim
    inner = WIDE.intermediate * plan.hidden // WIDE.hidden
    a = replace(WIDE, hidden=plan.hidden, intermediate=inner, layers=plan.layers, heads=heads, kv_heads=heads)
    rng = np.random.default_rng((plan.hidden, plan.layers, plan.positions))
    tensors = {}
    for name, size in a.tensors().items():
        tensors[name] = np.ones(size, np.float32)
        if len(size) == 2:
            tensors[name] = rng.standard_normal(size, np.float32) * np.float32(size[1] ** -0.5)
    with TemporaryDirectory() as folder:
        small = write_tiny(Path(folder) / "tiny")
        measure_proof(small, ProofPlan(4), lambda line: None)  # loops are compiled here
        # those of a tree without a gap at its end, of which so short an answer has none
        sum_fractions(Channel(), "tree", 2, lambda: Fractions(np.ones((2, 4), np.uint64)))
        large = write_tiny(Path(folder) / "shape", a, tensors)
        tensors.clear()
        found = measure_proof(large, ProofPlan(plan.positions), report)
    return {"hidden": plan.hidden, "layers": plan.layers, "weights": multiplied_weights(Dims.of(a)), **found}
