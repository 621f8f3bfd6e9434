"""What spot checks cost: the parts of ``producers.spotchecks`` that measure time, memory, bytes and gas."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Any

import numpy as np

from otr_core.errors import ChainError
from otr_core.spotcheck import proofs
from otr_core.spotcheck.units import Unit, needed_rows
from otr_node import prover
from otr_node.chain.evm import Chain
from otr_node.models import model_folder
from otr_node.portable import load_portable
from otr_node.spotchecks import weight_points
from otr_paper.benches.proof import ProofPlan, measure_proof
from otr_paper.benches.spotchecks import PROMPTS, checked, measure_audit, run_again
from otr_paper.benches.workbench import Workbench, key_store
from otr_paper.labs.nonlinear import MOST, TOLERANCE, Block, prove_block
from otr_paper.labs.solidity import SOLC, compile_solidity, install_solc
from otr_paper.producers import frame

SEED = 20251223
SMALL = ((1, 64), (8, 64), (1, 576), (8, 192), (2, 576), (4, 576), (8, 576), (4, 1536), (16, 576), (8, 1536))
SHAPES = (*SMALL, (32, 576), (64, 576), (48, 1536))
REPEATS, STEPS = 3, ("witness", "prove", "verify")
SEEDS = tuple(SEED + number for number in range(REPEATS))
"""Where chance enters, it is drawn with each of these."""
EDITED = (200, 1500, -33)
"""Bytes of a proof's transaction of which one bit is changed."""


def _random_statement(shape: proofs.Shape, rng: np.random.Generator) -> proofs.Statement:
    """A statement that holds, with weights and activations as large as the real ones."""
    weights = rng.integers(-(2**17), 2**17, (shape.rows, shape.columns))
    activations = rng.integers(-(2**20), 2**20, shape.columns)
    half = 1 << (proofs.SHIFT - 1)
    return proofs.Statement(weights, activations, (weights @ activations + half) >> proofs.SHIFT)


def proof_cost() -> dict[str, Any]:
    """One row for each circuit shape: medians of three statements, each of a seed of its own."""
    rows = []
    for sides in SHAPES:
        shape = proofs.Shape(*sides)
        circuit = prover.make_circuit(shape, key_store(frame.checkout()))

        def proven(seed: int, shape: proofs.Shape = shape, circuit: prover.Circuit = circuit) -> dict[str, Any]:
            proof, ran = prover.prove_unit(circuit, _random_statement(shape, np.random.default_rng(seed)))
            times = {f"{step}_cpu_s": round(ran[step].cpu_s, 4) for step in STEPS}
            return {**times, "prove_peak_mb": round(ran["prove"].peak_mb, 4), "proof_bytes": len(proof.raw)}

        runs = frame.by_seed(SEEDS, proven)
        row: dict[str, Any] = {
            "rows": shape.rows,
            "columns": shape.columns,
            "k": circuit.k,
            "rows_used": circuit.rows_used,
            "setup_cpu_s": round(circuit.setup_cpu_s, 4),
            "setup_peak_mb": round(circuit.setup_peak_mb, 4),
            "vk_bytes": (circuit.folder / "vk.key").stat().st_size,
            "pk_bytes": (circuit.folder / "pk.key").stat().st_size,
        }
        rows.append({**row, **runs, "prove_peak_mb": runs["most"]["prove_peak_mb"]})
        frame.progress(f"{sides}: {runs['least']} to {runs['most']}")
    return {"rows": rows, "seeds": SEEDS}


def spot_links() -> dict[str, Any]:
    """CPU seconds; commitments inside one process, so that its start is not counted per vector."""
    bench = Workbench.of(frame.checkout())
    layout, small = bench.layout, bench.circuits[bench.layout.shape("gate").name]
    blocks = [(3, name, block) for name in layout.matrices for block in range(layout.blocks[name])]

    def per_vector(rng: np.random.Generator, size: int, count: int = 20) -> float:
        vectors = [rng.integers(-(2**20), 2**20, size).tolist() for _ in range(count)]
        _, many = prover.commit_vectors(small, vectors)
        _, one = prover.commit_vectors(small, vectors[:1])
        return (many.cpu_s - one.cpu_s) / (count - 1)

    def spent(seed: int) -> dict[str, float]:
        # an operator of its own: one that was asked before keeps its states
        rng, who = np.random.default_rng(seed), checked(bench, PROMPTS[0])
        rows, rerun_s = frame.timed(who.rows, 20, 3)
        _, commit_s = frame.timed(lambda: [who.commit(rows, 20, 3) for _ in range(10)])
        session = bench.portable.session()
        _, prefill_s = frame.timed(session.feed, who.answer.prompt_ids)
        _, decode_s = frame.timed(lambda: [session.feed([token]) for token in who.answer.token_ids[:-1]])
        frame.progress(f"{seed}: rows")
        return {
            **{f"kzg_{size}_s": per_vector(rng, size) for size in (8, 576, 1536, 4608, 8000)},
            "rows_rebuilt_s": rerun_s,
            "rows_committed_s": commit_s / 10,
            "decode_token_s": decode_s / (len(who.answer.token_ids) - 1),
            "prefill_token_s": prefill_s / len(who.answer.prompt_ids),
        }

    runs = [spent(seed) for seed in SEEDS]
    # what a verifier of a gate unit sees: one row and one block of outputs, salts left out
    opened = needed_rows(layout, Unit(0, 1, "gate", 0)).values()
    return {
        **{name: statistics.median(run[name] for run in runs) for name in runs[0]},
        "seeds": SEEDS,
        "runs": runs,
        "registry_layer_s": weight_points(bench.portable, layout, blocks, bench.circuits)[1],
        "registry_layer_entries": len(blocks),
        "layers": bench.portable.architecture.layers,
        "units_per_layer": sum(layout.blocks[name] for name in layout.matrices),
        "opened_bytes": 8 * sum(end - first for first, end in opened),
        "row_values": 576,
    }


def spot_freivalds() -> dict[str, Any]:
    model = Workbench.of(frame.checkout()).portable
    return measure_audit(model, given=44, chosen=21, seeds=[SEED + number for number in range(REPEATS)])


def spot_whole() -> dict[str, Any]:
    """The proof of a whole answer beside running an answer as long again, in one process; its sizes hang on
    no draw, and its times are medians."""
    folder = model_folder(frame.checkout(), report=frame.progress)
    model, runs = load_portable(folder), []
    for seed in SEEDS:
        run = measure_proof(folder, ProofPlan(), frame.progress)
        ids = np.random.default_rng(seed).integers(3, model.architecture.vocab, run["positions"]).tolist()
        given = run["positions"] + 1 - run["answer_tokens"]
        run_again(model, ids, given)  # warm
        run["again_cpu_s"] = frame.timed(run_again, model, ids, given)[1]
        runs.append(run)
        frame.progress(f"{seed}: {run}")
    times = [name for name in runs[0] if name.endswith("_cpu_s") and runs[0][name] is not None]
    found = {name: statistics.median(run[name] for run in runs) for name in times}
    found |= {"prove_over_inference": found["prove_cpu_s"] / found["inference_cpu_s"]}
    found |= {f"{name}_all": [round(run[name], 4) for run in runs] for name in times}
    # peak_mb is that of the first: later ones are made while the process holds what it made before
    return {**runs[0], **found, "seeds": SEEDS}


def spot_block() -> dict[str, Any]:
    """RMSNorm and SwiGLU on the first 16 values of real residual rows, with slices of the real
    matrices."""
    bench = Workbench.of(frame.checkout())
    who, model, rows, inconclusive = checked(bench, PROMPTS[0]), bench.portable, [], []
    for layer in range(2, 30, 3):
        row = who.rows(10, layer)["attention.residual"][:16] / 2.0**15
        if np.mean(row**2) > MOST:
            # as it stands; scaled by a power of two, which the norm does not see, it fits
            inconclusive.append(layer)
            row = row / 2.0 ** np.ceil(np.log2(np.sqrt(np.mean(row**2))))
        stack, down = (model.matrices[f"{layer}.{name}"].dense() / 2.0**16 for name in ("gate_up", "down"))
        block = Block(row, stack[:32, :16], stack[1536:1568, :16], down[:16, :32], np.zeros(16))
        for kind, off in (("honest", 0.0), ("off by 0.25", 0.25)):
            y = block.true_output()
            y[0] += off
            rows.append({"layer": layer, "case": kind, **prove_block(replace(block, y=y), key_store(frame.checkout()))})
            frame.progress(f"{rows[-1]}")
        if len(rows) == 6:
            break
    return {"rows": rows, "inconclusive_layers": inconclusive, "tolerance": TOLERANCE, "width": 16, "inner": 32}


def spot_onchain() -> dict[str, Any]:
    """Gas of the verifier contract, and edits of its call that it refuses."""
    rows = []
    solc = install_solc(frame.checkout().build / "solc")
    for sides in ((8, 576), (3, 1536), (64, 576)):
        circuit = prover.make_circuit(proofs.Shape(*sides), key_store(frame.checkout()))
        contract = compile_solidity(prover.contract_source(circuit), "Halo2Verifier", solc)
        chain = Chain(2)
        deployed, created = chain.deploy(contract)
        gas, refused = [], 0
        for rng in map(np.random.default_rng, SEEDS):
            proof, _ = prover.prove_unit(circuit, _random_statement(circuit.shape, rng))
            data = prover.contract_calldata(proof)
            gas.append(chain.transact_raw(deployed.address, data).gas)
            # a commitment, the middle of the proof, the public output
            for at in EDITED:
                at %= len(data)
                bad = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
                try:
                    chain.transact_raw(deployed.address, bad)
                except ChainError:
                    refused += 1
        row = {"shape": circuit.shape.name, "k": circuit.k, "runtime_bytes": contract.runtime_bytes}
        # a zero byte of a transaction costs less than another: the dearest of the proofs is what is told
        row |= {"deploy_gas": created.gas, "verify_gas": max(gas), "verify_gas_all": gas, "calldata_bytes": len(data)}
        rows.append(row | {"edits": len(EDITED) * len(SEEDS), "edits_refused": refused})
        frame.progress(f"{rows[-1]}")
    return {"seeds": SEEDS, "rows": rows, "solc": SOLC}
