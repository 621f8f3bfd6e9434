"""Measure what notebook 04 shows: ``python -m otr_paper.producers.spotchecks [part …]`` (`make bench`).

Parts, each written to data/results/<part>.json with its card:

* ``proof_cost``: one row per circuit shape: rows used, k, CPU seconds of set-up, witness, proof (median of three),
  verification, peak memory of the prover, bytes of proof and keys. Weights and activations are drawn in the ranges of
  SmolLM2's; no cost depends on their values.
* ``spot_honest``: 200 random places of real traces, one unit drawn at each with the protocol's own draws: units without
  weights verified, matrix units put through the circuit (witness), six of them proven and verified; costs.
* ``spot_attacks``: the tamper table, three trials at different places.
* ``spot_detection``: broken units of real cheats at sampled places, and convictions by the protocol's draws.
* ``spot_links``: CPU seconds of every way to tie a trace leaf to a proof, per token and per drawn query; the registry.
* ``spot_freivalds``: the audit of one layer's products against computing them.
* ``spot_block``: one non-linear unit at small width, honest and off.
* ``spot_onchain``: gas of the verifier contract, from receipts; needs Node and npm.
"""

from __future__ import annotations

import datetime as dt
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from otr_core.errors import ChainError, SpotCheckError
from otr_core.spotcheck import prover
from otr_core.spotcheck.selection import SHARES
from otr_core.spotcheck.units import Layout, Unit, needed_rows, unit_statement
from otr_core.spotcheck.verify import SpotCheckChallenge, open_unit, opened_values
from otr_node.chain.evm import Chain
from otr_node.project import Project, find_project
from otr_node.spotchecks import register, weights_of
from otr_paper.benches.spotchecks import PROMPTS, checked
from otr_paper.benches.workbench import Workbench, key_store
from otr_paper.labs.freivalds import prepare
from otr_paper.labs.nonlinear import MOST, TOLERANCE, Block, prove_block
from otr_paper.labs.solidity import SOLC, compile_solidity, install_solc
from otr_paper.labs.spotchecks import Lab, private_forgery_passes, run_spot_attacks
from otr_paper.press.notebook import quiet
from otr_paper.store import results
from otr_paper.studies.detection import broken_units, per_query, per_unit, simulate_draws

SEED = 20251223
SHAPES = (
    (1, 64),
    (8, 64),
    (1, 576),
    (8, 192),
    (2, 576),
    (4, 576),
    (8, 576),
    (4, 1536),
    (16, 576),
    (8, 1536),
    (32, 576),
    (64, 576),
    (48, 1536),
)
REPEATS = 3
PLACES, PROVEN = 200, 12


def random_statement(shape: prover.Shape, rng: np.random.Generator) -> prover.Statement:
    """A statement that holds, with weights and activations as large as the real ones."""
    weights = rng.integers(-(2**17), 2**17, (shape.rows, shape.columns))
    activations = rng.integers(-(2**20), 2**20, shape.columns)
    half = 1 << (prover.SHIFT - 1)
    return prover.Statement(weights, activations, (weights @ activations + half) >> prover.SHIFT)


def proof_cost(store: Path) -> dict[str, Any]:
    rng = np.random.default_rng(SEED)
    rows = []
    for sides in SHAPES:
        shape = prover.Shape(*sides)
        circuit = prover.make_circuit(shape, store)
        runs = []
        for _ in range(REPEATS):
            proof, ran = prover.prove_unit(circuit, random_statement(shape, rng))
            runs.append(ran)
        row = {"rows": shape.rows, "columns": shape.columns, "k": circuit.k, "rows_used": circuit.rows_used,
               "setup_cpu_s": circuit.setup_cpu_s, "setup_peak_mb": circuit.setup_peak_mb,
               "proof_bytes": len(proof.raw), "vk_bytes": os.path.getsize(circuit.path("vk.key")),
               "pk_bytes": os.path.getsize(circuit.path("pk.key"))}  # fmt: skip
        for step in ("witness", "prove", "verify"):
            row[f"{step}_cpu_s"] = statistics.median(ran[step].cpu_s for ran in runs)
        row["prove_cpu_s_all"] = [round(ran["prove"].cpu_s, 4) for ran in runs]
        row["prove_peak_mb"] = max(ran["prove"].peak_mb for ran in runs)
        rows.append({name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()})
        print(rows[-1], file=sys.stderr, flush=True)
    return {"rows": rows}


def challenge_at(bench: Workbench, who: Any, rows: dict[str, np.ndarray], position: int, layer: int, randomness: bytes):
    committed = who.commit(rows, position, layer)
    challenge = SpotCheckChallenge(
        who.trace.root, who.trace.shape, position, layer, committed.root, randomness, 0, SHARES
    )
    return challenge, committed


def in_parallel(work: Any, items: list[Any], processes: int = 4) -> list[Any]:
    """``[work(item) for item in items]`` in forked processes that share the loaded model."""
    with multiprocessing.get_context("fork").Pool(processes, initializer=_one_thread, initargs=(work,)) as pool:
        results = []
        for number, result in enumerate(pool.imap(_call, items, chunksize=1)):
            results.append(result)
            if number % 20 == 19:
                print(f"{number + 1} of {len(items)}", file=sys.stderr, flush=True)
        return results


_WORK: list[Any] = []


def _one_thread(work: Any) -> None:
    torch.set_num_threads(1)
    _WORK[:] = [work]


def _call(item: Any) -> Any:
    return _WORK[0](item)


def spot_honest(project: Project) -> dict[str, Any]:
    bench, rng = Workbench.of(project), np.random.default_rng(SEED)
    operators = [checked(bench, prompt) for prompt in PROMPTS]
    for who in operators:
        who.state(0, 0)  # every state once, before the processes part
    verifier = bench.verifier

    def check(item: tuple[int, int, int, int, bytes]) -> dict[str, Any]:
        number, index, position, layer, randomness = item
        who = operators[index]
        challenge, committed = challenge_at(bench, who, who.rows(position, layer), position, layer, randomness)
        unit = challenge.unit(bench.layout)
        found: dict[str, Any] = {"operator": unit.operator, "refused": False}
        opening = open_unit(bench.layout, who.trace, who.trace_seed, unit, committed, who.state)
        if unit.operator in bench.layout.matrices:
            said = unit_statement(bench.layout, unit, weights_of(bench.layout, bench.portable, unit),
                             opened_values(bench.layout, challenge, opening, verifier.embedding))  # fmt: skip
            circuit = bench.circuits[bench.layout.shape(unit.operator).name]
            if number >= PROVEN:
                with tempfile.TemporaryDirectory() as folder:
                    found["violation"] = prover.write_witness(circuit, said, Path(folder) / "witness.json")[0]
                return found
            proof, found["runs"] = prover.prove_unit(circuit, said)
            found["violation"] = proof.violation
            opening = replace(opening, circuit=circuit.shape.name, proof=proof)
        try:
            verifier.verify(challenge, opening)
        except SpotCheckError:
            found["refused"] = True
        return found

    items = []
    for number in range(PLACES):
        index = int(rng.integers(len(operators)))
        shape = operators[index].trace.shape
        place = (int(rng.integers(shape.positions)), int(rng.integers(shape.layers)))
        items.append((number, index, *place, rng.bytes(32)))
    found = in_parallel(check, items)
    runs = [one["runs"] for one in found if "runs" in one]
    violations = [one["violation"] for one in found if "violation" in one]
    small = bench.circuits[bench.layout.shape("gate").name]
    return {
        "places": PLACES, "prompts": len(PROMPTS),
        "units_by_operator": dict(sorted(Counter(one["operator"] for one in found).items())),
        "matrix_units": len(violations), "proofs": len(runs), "nonzero_violations": sum(v != 0 for v in violations),
        "refused": sum(one["refused"] for one in found), "setup_cpu_s": round(small.setup_cpu_s, 3),
        **{f"{step}_cpu_s": round(statistics.median(r[step].cpu_s for r in runs), 4)
           for step in ("witness", "prove", "verify")},
        "prove_peak_mb": round(max(r["prove"].peak_mb for r in runs)), "proof_bytes": 3616,
    }  # fmt: skip


def spot_attacks(project: Project) -> dict[str, Any]:
    bench, rng = Workbench.of(project), np.random.default_rng(SEED)
    cheaper = bench.rounded(4)
    table: dict[str, dict[str, Any]] = {}
    trials = 3
    for trial in range(trials):
        prompt = PROMPTS[trial]
        honest, cheat = checked(bench, prompt), checked(cheaper, prompt)
        position = int(rng.integers(2, len(honest.answer.prompt_ids)))  # the prompt is there in both traces
        lab = Lab(bench, honest, cheat, position, int(rng.integers(1, 30)), rng.bytes(32))
        for row in run_spot_attacks(lab):
            kept = table.setdefault(row["attack"], {**row, "trials": 0, "right": 0})
            kept["trials"] += 1
            kept["right"] += row["refused_by"] == row["expected"]
            print(trial, row["attack"], row["expected"], row["refused_by"], file=sys.stderr, flush=True)
        passes = private_forgery_passes(lab)
    return {"rows": list(table.values()), "private_forgery_passes_naive_rule": passes}


def spot_detection(project: Project) -> dict[str, Any]:
    bench, rng = Workbench.of(project), np.random.default_rng(SEED)
    layout, model, layers = bench.layout, bench.portable, bench.portable.architecture.layers
    sample = 30

    def true_weights(layer: int) -> dict[str, np.ndarray]:
        return {
            m.name: model.matrices[f"{layer}.{m.stack}"][m.first : m.first + m.rows].long().numpy()
            for m in layout.matrices.values()
        }

    rows = []
    for kind, cheaper in (
        ("whole model, 4-bit weights", bench.rounded(4)),
        ("whole model, 8-bit weights", bench.rounded(8)),
        ("one layer, 4-bit weights", bench.rounded(4, layer=3)),
    ):
        who = checked(cheaper, PROMPTS[0])
        who.state(0, 0)

        def broken_at(number: int, who: Any = who) -> Any:
            layer = number * layers // sample  # every layer equally often
            position = number * 7 % who.trace.shape.positions
            found = broken_units(layout, true_weights(layer), who.rows(position, layer))
            return found if any(blocks.any() for blocks in found.values()) else None

        maps = in_parallel(broken_at, list(range(sample)))
        deviating = [one for one in maps if one is not None]
        share = {name: float(np.mean([one[name].mean() for one in deviating])) for name in layout.matrices}
        for units in (1, 4, 16, 64):
            computed = float(np.mean([
                0.0 if one is None else per_query(1.0, per_unit({n: b.mean() for n, b in one.items()}), units)
                for one in maps
            ]))  # fmt: skip
            caught = simulate_draws(maps, SHARES, layout.blocks, units, 2000, rng.bytes(32))
            rows.append({"cheat": kind, "units": units, "places_share": len(deviating) / sample, "computed": computed,
                         "simulated": caught / 2000, "broken": share})  # fmt: skip
            print(rows[-1], file=sys.stderr, flush=True)
    return {"rows": rows, "draws": 2000, "places": sample, "leaves": who.trace.shape.leaves}


def spot_links(project: Project) -> dict[str, Any]:
    """CPU seconds; commitments inside one process, so that its start is not counted per vector."""
    bench, rng = Workbench.of(project), np.random.default_rng(SEED)
    layout, who = bench.layout, checked(bench, PROMPTS[0])
    small = bench.circuits[layout.shape("gate").name]

    def per_vector(size: int, count: int = 20) -> float:
        vectors = [rng.integers(-(2**20), 2**20, size).tolist() for _ in range(count)]
        _, many = prover.commit_vectors(small, vectors)
        _, one = prover.commit_vectors(small, vectors[:1])
        return (many.cpu_s - one.cpu_s) / (count - 1)

    started = time.process_time()
    rows = who.rows(20, 3)
    rerun_s = time.process_time() - started
    started = time.process_time()
    for _ in range(10):
        who.commit(rows, 20, 3)
    commit_s = (time.process_time() - started) / 10
    started = time.process_time()
    session = bench.portable.session()
    session.feed(who.answer.prompt_ids)
    prefill_s = (time.process_time() - started) / len(who.answer.prompt_ids)
    started = time.process_time()
    for token in who.answer.token_ids[:-1]:
        session.feed([token])
    decode_s = (time.process_time() - started) / (len(who.answer.token_ids) - 1)
    blocks = [(3, name, block) for name in layout.matrices for block in range(layout.blocks[name])]
    registry, registry_s = register(bench.portable, layout, blocks, bench.circuits)
    units = sum(layout.blocks[name] for name in layout.matrices)
    return {
        "kzg_8_s": per_vector(8), "kzg_576_s": per_vector(576), "kzg_1536_s": per_vector(1536),
        "kzg_4608_s": per_vector(4608), "kzg_8000_s": per_vector(8000),
        "rows_rebuilt_s": rerun_s, "rows_committed_s": commit_s, "decode_token_s": decode_s,
        "prefill_token_s": prefill_s,
        "registry_layer_s": registry_s, "registry_layer_entries": len(registry.points),
        "layers": bench.portable.architecture.layers, "units_per_layer": units,
        "opened_bytes": opened_bytes(layout), "row_values": 576,
    }  # fmt: skip


def opened_bytes(layout: Layout) -> int:
    """Values a verifier of a gate unit sees, in bytes: one row and one block of outputs, salts left out."""
    return 8 * sum(end - first for first, end in needed_rows(layout, Unit(0, 1, "gate", 0)).values())


def spot_freivalds(project: Project) -> dict[str, Any]:
    bench, rng = Workbench.of(project), np.random.default_rng(SEED)
    model, layout, rows = bench.portable, bench.layout, []
    for positions in (1, 32, 256):
        for name in ("gate", "down"):
            m = layout.matrices[name]
            weights = model.matrices[f"3.{m.stack}"][m.first : m.first + m.rows]
            w = weights.long().numpy()
            x = rng.integers(-(2**20), 2**20, (positions, m.columns))
            accumulators = x @ w.T
            audit = prepare(w, rng)
            xf = torch.tensor(x, dtype=torch.float64)
            again = median_s(lambda xf=xf, weights=weights: torch.nn.functional.linear(xf, weights))
            check = median_s(lambda audit=audit, x=x, a=accumulators: audit.holds(x, a))
            wrong = accumulators.copy()
            wrong[0, 0] += 1
            rows.append({"matrix": name, "positions": positions, "recompute_s": again, "check_s": check,
                         "honest_holds": bool(audit.holds(x, accumulators).all()),
                         "off_by_one_holds": bool(audit.holds(x, wrong)[0]),
                         "soundness_error": audit.soundness_error})  # fmt: skip
    fold = median_s(lambda: prepare(w, rng))
    return {"rows": rows, "fold_s": fold}


def spot_block(project: Project) -> dict[str, Any]:
    """RMSNorm and SwiGLU on the first 16 values of real residual rows, with slices of the real matrices."""
    bench = Workbench.of(project)
    who, model, rows, inconclusive = checked(bench, PROMPTS[0]), bench.portable, [], []
    for layer in range(2, 30, 3):
        row = who.rows(10, layer)["attention.residual"][:16] / 2.0**15
        if np.mean(row**2) > MOST:
            inconclusive.append(layer)  # as it stands; scaled by a power of two, which the norm does not see, it fits
            row = row / 2.0 ** np.ceil(np.log2(np.sqrt(np.mean(row**2))))
        stack, down = (model.matrices[f"{layer}.{name}"].numpy() / 2.0**16 for name in ("gate_up", "down"))
        block = Block(row, stack[:32, :16], stack[1536:1568, :16], down[:16, :32], np.zeros(16))
        for kind, off in (("honest", 0.0), ("off by 0.25", 0.25)):
            y = block.true_output()
            y[0] += off
            rows.append({"layer": layer, "case": kind, **prove_block(replace(block, y=y), key_store(project))})
            print(rows[-1], file=sys.stderr, flush=True)
        if len(rows) == 6:
            break
    return {"rows": rows, "inconclusive_layers": inconclusive, "tolerance": TOLERANCE, "width": 16, "inner": 32}


def spot_onchain(project: Project) -> dict[str, Any]:
    rng, rows = np.random.default_rng(SEED), []
    solc = install_solc(project.build / "solc")
    for sides in ((8, 576), (3, 1536), (64, 576)):
        circuit = prover.make_circuit(prover.Shape(*sides), key_store(project))
        contract = compile_solidity(prover.contract_source(circuit), "Halo2Verifier", solc)
        proof, _ = prover.prove_unit(circuit, random_statement(circuit.shape, rng))
        chain = Chain(2)
        deployed, created = chain.deploy(contract)
        data = prover.contract_calldata(proof)
        gas = chain.transact_raw(deployed.address, data).gas
        refused = 0
        for at in (200, 1500, len(data) - 33):  # a commitment, the middle of the proof, the public output
            bad = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            try:
                chain.transact_raw(deployed.address, bad)
            except ChainError:
                refused += 1
        rows.append({"shape": circuit.shape.name, "k": circuit.k, "runtime_bytes": contract.runtime_bytes,
                     "deploy_gas": created.gas, "verify_gas": gas, "calldata_bytes": len(data), "edits": 3,
                     "edits_refused": refused})  # fmt: skip
        print(rows[-1], file=sys.stderr, flush=True)
    return {"rows": rows, "solc": SOLC}


def median_s(call: Any, repeats: int = 15) -> float:
    times = []
    for _ in range(repeats):
        started = time.process_time()
        call()
        times.append(time.process_time() - started)
    return statistics.median(times)


PARTS = {
    "proof_cost": lambda project: proof_cost(key_store(project)),
    "spot_honest": spot_honest,
    "spot_attacks": spot_attacks,
    "spot_detection": spot_detection,
    "spot_links": spot_links,
    "spot_freivalds": spot_freivalds,
    "spot_block": spot_block,
    "spot_onchain": spot_onchain,
}


def main(names: list[str]) -> None:
    quiet()
    project = find_project()
    torch.set_num_threads(1)
    for name in names or list(PARTS):
        payload = PARTS[name](project)
        card = results.Card(
            command="make bench", date=dt.date.today().isoformat(), machine=results.this_machine(os.cpu_count() or 1),
            versions=results.versions(), seed=SEED, kind="measured",
        )  # fmt: skip
        print(results.write_result(project.results, name, card, payload).name, file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
