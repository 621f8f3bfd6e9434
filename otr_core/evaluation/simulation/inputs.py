"""Every number the four systems are built from, with its kind and source; one function where a measurement enters.

``measured`` arguments are payloads of ``data/results`` files. Where a part of this project measures what is cited here,
its function takes that payload and prefers it: ``commit_gas``, ``move_gas``, ``verify_gas`` and ``provers``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from otr_core.errors import DataError
from otr_core.evaluation.cost import commitment_gas
from otr_core.evaluation.published import Published
from otr_core.evaluation.tracing import trace_cost_projection

Measured = Mapping[str, Any]


@dataclass(frozen=True)
class Number:
    """A number with its unit, its kind (measured, recomputed, simulated, cited, assumption) and where it is from."""

    value: float
    unit: str
    kind: str
    source: str


@dataclass(frozen=True)
class Prover:
    """A prover: seconds for one batch of ``batch`` proofs on one machine, priced as one H100."""

    name: str
    batch_s: float
    batch: int
    kind: str
    source: str

    @property
    def machine_s(self) -> float:
        """Machine time of one proof."""
        return self.batch_s / self.batch


def provers(published: Published, measured: Measured | None = None) -> dict[str, Prover]:
    """The provers compared. ``measured``: a result with ``proof_s``, seconds of one of this project's proofs.

    ``stated`` is the paper's "more than 20 minutes"; ``flashprove`` the fastest published in 2026; ``zkllm70b`` zkLLM's
    13B time grown in proportion to the parameters. A proof is one forward pass in all three, whatever the answer's
    length.
    """
    size = published.number("model.llama_70b.params", "params") / published.number("model.llama_13b.params", "params")
    stated, flash, zkllm = "zkml.latency_7b", "zk.flashprove.400b.batch", "zk.zkllm.13b.prove"
    found = {
        "stated": Prover("paper: 20 min", published.number(stated, "s"), 1, "cited", stated),
        "flashprove": Prover("FlashProve 2026", published.number(flash, "s"), 24, "cited", flash),
        "zkllm70b": Prover("zkLLM, by size to 70B", published.number(zkllm, "s") * size, 1, "recomputed", zkllm),
    }
    if measured is not None:
        found["ours"] = Prover("ours", float(measured["proof_s"]), 1, "measured", "this project's spot-check proofs")
    return found


def commit_gas(published: Published, measured: Measured | None = None) -> Number:
    """Gas of posting one batch's root. ``measured``: a result with ``commit_gas`` from the project's own contract."""
    if measured is not None:
        return Number(float(measured["commit_gas"]), "gas", "measured", "this project's contract")
    return Number(commitment_gas(published), "gas", "recomputed", "evm.transaction, evm.sstore_new")


def move_gas(published: Published, measured: Measured | None = None) -> Number:
    """Gas of one move in a dispute. ``measured``: a result with ``move_gas`` from the project's own contract.

    Without it: a transaction that changes one slot and carries 15 hashes, as a 16-ary search does.
    """
    if measured is not None:
        return Number(float(measured["move_gas"]), "gas", "measured", "this project's contract")
    hashes = 15 * 32 * published.number("evm.calldata_nonzero", "gas")
    gas = published.number("evm.transaction", "gas") + published.number("evm.sstore_change", "gas") + hashes
    return Number(gas, "gas", "recomputed", "evm.transaction, evm.sstore_change, evm.calldata_nonzero")


def verify_gas(published: Published, measured: Measured | None = None) -> Number:
    """Gas of checking one proof on chain. ``measured``: a result with ``verify_gas`` from the project's verifier.

    Without it: the published cost of an SP1 Groth16 proof; a proof of tens of megabytes has to be wrapped so.
    """
    if measured is not None:
        return Number(float(measured["verify_gas"]), "gas", "measured", "this project's verifier contract")
    return Number(published.number("quote.sp1_groth16", "gas"), "gas", "cited", "quote.sp1_groth16")


DISPUTE_MOVES = 8
"""A 211-token answer of 80 layers is 16,880 leaves; cut 16 ways that is four rounds of two moves."""
OPML_MOVES = 102
"""51 binary rounds: VM instructions of a 1,000-token 70B answer at 20 each multiply-add."""


@dataclass(frozen=True)
class Measurements:
    """What this project measured on its own machine: CPU seconds.

    Attributes:
        sign_s: trace root, digests and signature of one receipt. verify_s: all checks of one receipt by a client.
        hash_s: hashing the last token's trace leaves of a 70B model on one core.
    """

    sign_s: float
    verify_s: float
    hash_s: float


def measurements(published: Published, native_run: Measured, trace_cost: Measured) -> Measurements:
    """From the stored runs ``native_run`` and ``trace_cost``.

    The signature is that of a receipt over a 48-token answer of the small model; the trace of a 70B answer is hashed
    while it is written, so only its last token's leaves come after it.

    Raises:
        DataError: a run lacks what is read from it.
    """
    try:
        times = {name: milliseconds / 1000.0 for name, milliseconds, _ in native_run["cpu"]}
        sign, verify = times["receipt signing"], times["receipt verification"]
        speed = float(trace_cost["sha256_1kib_bytes_per_cpu_s"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"stored runs: {error!r} missing, expected signing, verification and hash speed") from error
    models = trace_cost_projection(published, hash_bytes_per_s=speed)
    large = next(record for record in models if record["model"].endswith("70B"))
    return Measurements(sign, verify, large["hash_ms"] / 1000.0)
