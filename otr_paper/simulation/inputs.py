"""Every number the four systems are built from, with its kind and source.

Gas of posting a root, of a dispute's moves and of checking a unit's proof is measured on this
project's own contracts; a proof of a whole inference is checked by the cited wrapper.
``Measurements`` reads the payloads of ``data/results``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

from otr_core.errors import DataError
from otr_core.lane.dims import Dims
from otr_core.lane.program import layer_program
from otr_paper.claims.published import Published, llama_70b
from otr_paper.simulation import SERVING_LAW
from otr_paper.simulation.law import StepLaw, stored_laws
from otr_paper.studies import dispute_costs
from otr_paper.studies.proving import circuit_k, fit_cost
from otr_paper.studies.tracing import trace_cost_projection

Measured = Mapping[str, Any]


@dataclass(frozen=True)
class Number:
    """A number with its unit, its kind (measured, recomputed, simulated, cited, assumption) and
    where it is from."""

    value: float
    unit: str
    kind: str
    source: str


@dataclass(frozen=True)
class Prover:
    """A prover: seconds for one batch of ``batch`` proofs on one machine, priced as one H100.

    Attributes:
        verify: gas of checking one of its proofs on chain. detects: chance that the proof of an
            answer of a substituted model comes out wrong, 1 where the whole inference is proved.
    """

    name: str
    batch_s: float
    batch: int
    kind: str
    source: str
    verify: Number
    detects: float = 1.0

    @property
    def machine_s(self) -> float:
        """Machine time of one proof."""
        return self.batch_s / self.batch


def provers(published: Published) -> dict[str, Prover]:
    """The provers of whole inferences.

    ``stated`` is the paper's "more than 20 minutes"; ``flashprove`` the fastest published in 2026;
    ``zkllm70b`` zkLLM's 13B time grown in proportion to the parameters. A proof is one forward pass
    in all three, whatever the answer's length, and is checked on chain at the published cost of an
    SP1 Groth16 proof: one of tens of megabytes has to be wrapped so.
    """
    size = published.number("model.llama_70b.params", "params") / published.number("model.llama_13b.params", "params")
    check = Number(published.number("quote.sp1_groth16", "gas"), "gas", "cited", "quote.sp1_groth16")

    def prover(name: str, row: str, kind: str = "cited", batch: int = 1, grown: float = 1.0) -> Prover:
        return Prover(name, published.number(row, "s") * grown, batch, kind, row, check)

    return {
        "stated": prover("paper: 20 min", "zkml.latency_7b"),
        "flashprove": prover("FlashProve 2026", "zk.flashprove.400b.batch", batch=24),
        "zkllm70b": prover("zkLLM, by size to 70B", "zk.zkllm.13b.prove", "recomputed", grown=size),
    }


def all_provers(published: Published, measured: Measurements) -> dict[str, Prover]:
    """``provers``, and ``ours``: the prover of one drawn unit. OTR can use any of them, ZKML only
    ``provers``."""
    return {**provers(published), "ours": measured.unit}


def unit_seconds(proof_cost: Measured, rows: int, columns: int) -> float:
    """CPU seconds of witness and proof of a unit of ``rows`` x ``columns`` weights, by the fit of
    ``proving.fit``."""
    both = [{**row, "prove_cpu_s": row["prove_cpu_s"] + row["witness_cpu_s"]} for row in proof_cost["rows"]]
    return fit_cost(both).seconds(circuit_k(rows, columns))


UNIT_ROWS = 8
ARITY_BITS = dispute_costs.TERMS.arity_bits
PROMPT_TOKENS, ANSWER_TOKENS = 1155, 211
"""The conversation trace's means: the answer whose dispute is priced."""
OPML_MOVES = 102
"""51 binary rounds: VM instructions of a 1,000-token 70B answer at 20 each multiply-add."""


def game_moves(d: Dims, positions: int, played: Sequence[Measured]) -> int:
    """Moves of a 16-ary dispute over an answer of ``positions`` fed tokens, the batch's posting not
    counted.

    Two for each round of the closed form (``measure.expected_rounds``), mean over a layer's
    operators at the last position, and what the ``played`` disputes took beside their rounds:
    challenge, opening, publishing, proof.
    """
    operators = range(len(layer_program(d, positions - 1)))
    rounds = mean(dispute_costs.expected_rounds(d, positions, each, positions - 1, ARITY_BITS) for each in operators)
    beside = mean(len(game["moves"]) - 1 - 2 * game["rounds"] for game in played)
    moves: int = round(2 * rounds + beside)
    return moves


def played_at(disputes: Measured, arity: int = 2**ARITY_BITS) -> list[Measured]:
    """The measured disputes of one arity.

    Raises:
        DataError: there is none.
    """
    played = [game for game in disputes["disputes"] if game["arity"] == arity]
    if not played:
        raise DataError(f"stored disputes: found none at arity {arity}, expected one or more")
    return played


def contract_gas(played: Sequence[Measured]) -> tuple[Number, Number]:
    """Gas of posting a batch's root (median), and of one later move (mean), over ``played``
    disputes."""
    posts = [move["gas"] for game in played for move in game["moves"] if move["move"] == "commit_batch"]
    later = sum(game["gas_dispute"] for game in played) / sum(len(game["moves"]) - 1 for game in played)
    source = "disputes.json, this project's contract"
    return Number(float(median(posts)), "gas", "measured", source), Number(later, "gas", "measured", source)


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """What this project measured on its own machine and chain.

    Attributes:
        sign_s: trace root, digests and signature of one receipt. verify_s: all checks of one
            receipt by a client.
        hash_s: hashing the last token's trace leaves of a 70B model on one core; all three in CPU
            seconds.
        commit, move: gas of a batch's root and of one move in a dispute. moves: of a dispute over a
            70B answer.
        unit: the prover of one drawn unit, 8 rows of a 70B model's width.
        laws: model -> the serving law that was fitted to its published runs.
    """

    sign_s: float
    verify_s: float
    hash_s: float
    commit: Number
    move: Number
    moves: int
    unit: Prover
    laws: Mapping[str, StepLaw]


#: Stored runs that ``measurements`` reads, by name.
RUNS = ("native_run", "trace_cost", "disputes", "spot_onchain", "proof_cost", "spot_detection", SERVING_LAW)


def measurements(published: Published, runs: Mapping[str, Measured]) -> Measurements:
    """From the payloads of the stored ``RUNS``, by name.

    The signature is that of a receipt over a 48-token answer of the small model; the trace of a 70B
    answer is hashed while it is written, so only its last token's leaves come after it. Gas of a
    move is that of disputes over the small model: a 70B answer has more moves of the same kinds.

    The prover ``unit`` proves one drawn unit of a proved answer, ezkl on one CPU core, at the
    seconds of the fitted circuits: priced as an H100 like the others, which is an upper bound. Its
    verifier's gas is that of 8 rows of the small model's width; the chance that one unit convicts a
    substituted model is that of 8-bit weights there.

    Raises:
        DataError: a run is absent or lacks what is read from it.
    """
    try:
        times = {name: milliseconds / 1000.0 for name, milliseconds, _ in runs["native_run"]["cpu"]}
        sign, verify = times["receipt signing"], times["receipt verification"]
        speed = float(runs["trace_cost"]["sha256_1kib_bytes_per_cpu_s"])
        played = played_at(runs["disputes"])
        commit, move = contract_gas(played)
        moves = game_moves(llama_70b(published), PROMPT_TOKENS + ANSWER_TOKENS - 1, played)
        laws = {model: law for model, (law, _) in stored_laws(runs[SERVING_LAW]).items()}
        checks = {row["shape"]: float(row["verify_gas"]) for row in runs["spot_onchain"]["rows"]}
        found = {(row["cheat"], row["units"]): row["computed"] for row in runs["spot_detection"]["rows"]}
        width = int(published.number("model.llama31_70b.width", "count"))
        unit = Prover(
            name=f"one drawn unit ({UNIT_ROWS} rows), ezkl, one CPU core",
            batch_s=unit_seconds(runs["proof_cost"], UNIT_ROWS, width),
            batch=1,
            kind="recomputed",
            source="proof_cost.json",
            verify=Number(checks["8x576"], "gas", "measured", "spot_onchain.json, this project's verifier"),
            detects=float(found["whole model, 8-bit weights", 1]),
        )
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise DataError(
            f"stored runs: {error!r} missing, expected signing, verification, hash speed, disputes, verifier and proofs"
        ) from error
    models = trace_cost_projection(published, hash_bytes_per_s=speed)
    large = next(record for record in models if record["model"].endswith("70B"))
    times = {"sign_s": sign, "verify_s": verify, "hash_s": large["hash_ms"] / 1000.0}
    return Measurements(**times, commit=commit, move=move, moves=moves, unit=unit, laws=laws)
