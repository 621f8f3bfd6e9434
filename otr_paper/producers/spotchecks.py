"""Measure what notebook 04 shows. Parts, each stored as data/results/<part>.json:

* ``proof_cost``: one row per circuit shape: rows used, k, CPU seconds of set-up, witness, proof
  (median of three), verification, peak memory of the prover, bytes of proof and keys. Weights and
  activations are drawn in the ranges of SmolLM2's; no cost depends on their values.
* ``spot_honest``: 70 random places of real traces with each of three seeds, one unit drawn at each with
  the protocol's own draws: units without weights verified, matrix units put through the circuit
  (witness), some of them proven and verified; costs.
* ``spot_attacks``: the tamper table, at a place that each of three seeds draws.
* ``spot_detection``: broken units of real cheats at sampled places, and convictions by the
  protocol's draws, of three seeds.
* ``spot_cheats``: what drawn units, forged proofs of whole answers (on a tiny model) and running
  again make of structured cheats; each probability drawn with three seeds.
* ``spot_links``: CPU seconds of every way to tie a trace leaf to a proof, per token and per drawn
  query; the registry. Medians of three rounds, each with vectors of its own seed.
* ``spot_freivalds``: the audit of all products of one answer, the head's too, against running the
  answer again.
* ``spot_whole``: the proof of a whole answer, its check, and running the answer again; medians of three.
* ``spot_block``: one non-linear unit at small width, honest and off.
* ``spot_onchain``: gas of the verifier contract, from receipts, for three drawn statements of each
  shape; needs Node and npm.
"""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from otr_core.errors import SpotCheckError
from otr_core.spotcheck.selection import SHARES
from otr_node import prover
from otr_paper.benches.spotchecks import PROMPTS, checked
from otr_paper.benches.workbench import Workbench
from otr_paper.labs.cheats import CHEATS, WINDOW, broken_by, cheaper_refused, drafted_tokens, proof_refused
from otr_paper.labs.spotchecks import Lab, private_forgery_passes, run_spot_attacks
from otr_paper.labs.tiny import write_tiny
from otr_paper.producers import frame
from otr_paper.producers import spotcheck_costs as costs
from otr_paper.producers.spotcheck_costs import REPEATS, SEED, SEEDS, STEPS
from otr_paper.studies.detection import broken_units, per_query, per_unit, simulate_draws

PLACES, PROVEN = 70, 4
"""Of each seed: places that are looked at, and how many of them (the first) are proven."""
DRAWS = 2000
UNITS = (1, 4, 16, 64)


def _in_parallel(work: Callable[..., Any], items: list[Any], processes: int = 4) -> list[Any]:
    """``[work(item) for item in items]`` in forked processes that share the loaded model."""
    with multiprocessing.get_context("fork").Pool(processes, initializer=_one_thread, initargs=(work,)) as pool:
        found = []
        for number, result in enumerate(pool.imap(_call, items, chunksize=1)):
            found.append(result)
            if number % 20 == 19:
                frame.progress(f"{number + 1} of {len(items)}")
        return found


_WORK: list[Any] = []


def _one_thread(work: Any) -> None:
    torch.set_num_threads(1)
    _WORK[:] = [work]


def _call(item: Any) -> Any:
    return _WORK[0](item)


def _spot_honest() -> dict[str, Any]:
    bench = Workbench.of(frame.checkout())
    operators = [checked(bench, prompt) for prompt in PROMPTS]
    for who in operators:
        who.state(0, 0)  # every state once, before the processes part
    verifier = bench.verifier

    def check(item: tuple[int, int, tuple[int, int], bytes]) -> dict[str, Any]:
        number, index, place, randomness = item
        number, who = number % PLACES, operators[index]
        committed = who.commit(who.rows(*place), *place)
        challenge = who.challenge(committed, *place, randomness)
        unit = challenge.unit(bench.layout)
        found: dict[str, Any] = {"operator": unit.operator, "refused": False}
        opening = who.open_unit(unit, committed)
        if unit.operator in bench.layout.matrices:
            said = who.statement(challenge, opening)
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

    items: list[tuple[int, int, tuple[int, int], bytes]] = []
    for rng in map(np.random.default_rng, SEEDS):
        for _ in range(PLACES):
            index = int(rng.integers(len(operators)))
            shape = operators[index].trace.shape
            place = (int(rng.integers(shape.positions)), int(rng.integers(shape.layers)))
            items.append((len(items), index, place, rng.bytes(32)))
    found = _in_parallel(check, items)
    by_seed = [found[first : first + PLACES] for first in range(0, len(found), PLACES)]
    runs = [one["runs"] for one in found if "runs" in one]
    violations = [one["violation"] for one in found if "violation" in one]
    small = bench.circuits[bench.layout.shape("gate").name]
    costs = {f"{step}_cpu_s": round(statistics.median(ran[step].cpu_s for ran in runs), 4) for step in STEPS}
    return {
        "seeds": SEEDS,
        "places": len(found),
        "prompts": len(PROMPTS),
        "matrix_units_by_seed": [sum("violation" in one for one in some) for some in by_seed],
        "units_by_operator": dict(sorted(Counter(one["operator"] for one in found).items())),
        "matrix_units": len(violations),
        "proofs": len(runs),
        "nonzero_violations": sum(v != 0 for v in violations),
        "refused": sum(one["refused"] for one in found),
        "setup_cpu_s": round(small.setup_cpu_s, 3),
        **costs,
        "prove_peak_mb": round(max(ran["prove"].peak_mb for ran in runs)),
        "proof_bytes": 3616,
    }


def _spot_attacks() -> dict[str, Any]:
    bench = Workbench.of(frame.checkout())
    cheaper = bench.rounded(4)
    table: dict[str, dict[str, Any]] = {}
    for seed, prompt in zip(SEEDS, PROMPTS, strict=False):
        rng = np.random.default_rng(seed)
        honest, cheat = checked(bench, prompt), checked(cheaper, prompt)
        # the prompt is there in both traces
        position = int(rng.integers(2, len(honest.answer.prompt_ids)))
        lab = Lab(bench, honest, cheat, position, int(rng.integers(1, 30)), rng.bytes(32))
        for row in run_spot_attacks(lab):
            kept = table.setdefault(row["attack"], {**row, "trials": 0, "right": 0})
            kept["trials"] += 1
            kept["right"] += row["refused_by"] == row["expected"]
            frame.progress(f"{seed} {row['attack']}: expected {row['expected']}, refused by {row['refused_by']}")
        passes = private_forgery_passes(lab)
    return {"seeds": SEEDS, "rows": list(table.values()), "private_forgery_passes_naive_rule": passes}


def true_weights(bench: Workbench, layer: int) -> dict[str, np.ndarray]:
    """The registered matrices of a layer by operator, int64, unscaled."""
    return {
        m.name: bench.portable.matrices[f"{layer}.{m.stack}"].dense(m.first, m.first + m.rows).astype(np.int64)
        for m in bench.layout.matrices.values()
    }


def _spot_detection() -> dict[str, Any]:
    bench = Workbench.of(frame.checkout())
    layout, layers = bench.layout, bench.portable.architecture.layers
    sample = 30

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
            found = broken_units(layout, true_weights(bench, layer), who.rows(position, layer))
            return found if any(blocks.any() for blocks in found.values()) else None

        maps = _in_parallel(broken_at, list(range(sample)))
        deviating = [one for one in maps if one is not None]
        share = {name: float(np.mean([one[name].mean() for one in deviating])) for name in layout.matrices}
        # at each place, the probability that one unit drawn there is a broken one
        broken = [per_unit({name: blocks.mean() for name, blocks in (one or {}).items()}) for one in maps]
        for units in UNITS:
            by_place = [per_query(1.0, unit, units) for unit in broken]
            row = {"cheat": kind, "units": units, "places_share": len(deviating) / sample, "broken": share}
            caught = _convictions(maps, layout.blocks, units)
            rows.append(row | {"computed": float(np.mean(by_place)), "simulated": caught})
            frame.progress(f"{rows[-1]}")
    return {"seeds": SEEDS, "rows": rows, "draws": DRAWS, "places": sample, "leaves": who.trace.shape.leaves}


def _convictions(maps: list[Any], blocks: Mapping[str, int], units: int) -> list[float]:
    """Share of ``DRAWS`` drawn queries that convict, with each of three seeds."""
    secrets = [np.random.default_rng([SEED, seed, units]).bytes(32) for seed in range(REPEATS)]
    return [simulate_draws(maps, SHARES, blocks, units, DRAWS, secret) / DRAWS for secret in secrets]


def _spot_cheats() -> dict[str, Any]:
    bench = Workbench.of(frame.checkout())
    layout, layers, who = bench.layout, bench.portable.architecture.layers, checked(bench, PROMPTS[0])
    who.state(0, 0)
    positions, leaves = who.trace.shape.positions, who.trace.shape.leaves
    places = [(number * 7 % positions, number) for number in range(layers)]  # every layer once
    maps: dict[str, list[Any]] = {}
    for cheat in CHEATS:
        maps[cheat.name] = [broken_by(cheat, who, *place) for place in places]
        frame.progress(f"{cheat.name}: {sum(one is not None for one in maps[cheat.name])} of {layers} places deviate")
    one = next(found for found in maps["one value of one leaf"] if found is not None)
    maps["one value of one leaf"] = [one] + [None] * (leaves - 1)
    for bits in (8, 4):
        cheaper, name = checked(bench.rounded(bits), PROMPTS[0]), f"{bits}-bit weights"
        cheaper.state(0, 0)
        shape = cheaper.trace.shape
        own = [(number * 7 % shape.positions, number) for number in range(layers)]
        maps[name] = [broken_units(layout, true_weights(bench, layer), cheaper.rows(at, layer)) for at, layer in own]
        frame.progress(name)
    maps[DRAFT] = [None] * layers
    forged, draft_differs = _forged_proofs()
    rows = []
    for name, found in maps.items():
        shares = [
            0.0 if one is None else per_unit({key: blocks.mean() for key, blocks in one.items()}) for one in found
        ]
        row: dict[str, Any] = {"cheat": name, "places_share": float(np.mean([one is not None for one in found]))}
        # run again: whether any state that was looked at, or any token, is another
        row["again"] = float(any(one is not None for one in found) or (name == DRAFT and draft_differs))
        row["per_unit"] = float(np.mean([share for share in shares if share] or [0.0]))
        for units in UNITS:
            caught = _convictions(found, layout.blocks, units)
            computed = float(np.mean([per_query(1.0, share, units) for share in shares]))
            row[f"units_{units}"] = {"simulated": caught, "computed": computed}
        row |= {"proofs": len(forged[name]), "refused": sum(map(bool, forged[name])), "refused_by": forged[name]}
        rows.append(row)
        frame.progress(f"{row}")
    return {"rows": rows, "draws": DRAWS, "places": layers, "leaves": leaves, "window": WINDOW}


DRAFT = "another model's tokens, one prefill"


def _forged_proofs() -> tuple[dict[str, list[str]], bool]:
    """Cheat → what refused a proof with it in its witness, for each of some prompts of a tiny model; and
    whether all other tokens that were signed are not those that the model chooses after their prefix."""
    found: dict[str, list[str]] = {}
    differs = True
    with tempfile.TemporaryDirectory() as folder:
        tiny = Workbench(write_tiny(Path(folder) / "tiny"))
        for seed in range(REPEATS):
            words = np.random.default_rng([SEED, seed]).integers(3, 60, 8)
            served = tiny.serve(" ".join(f"w{word}" for word in words), 9, number=str(seed))
            for cheat in CHEATS:
                found.setdefault(cheat.name, []).append(proof_refused(served, cheat))
            for bits in (8, 4):
                cheaper = tiny.rounded(bits).portable
                found.setdefault(f"{bits}-bit weights", []).append(cheaper_refused(served, cheaper))
            ids = drafted_tokens(served)
            found.setdefault(DRAFT, []).append(proof_refused(served, None, ids))
            session = tiny.portable.session()
            logits = session.feed_batch([[*served.said.prompt_ids, *ids[:-1]]], all_logits=True)[0]
            differs &= logits[len(served.said.prompt_ids) - 1 :].argmax(-1).tolist() != list(ids)
    return found, differs


PARTS = {
    "proof_cost": costs.proof_cost,
    "spot_honest": _spot_honest,
    "spot_attacks": _spot_attacks,
    "spot_detection": _spot_detection,
    "spot_cheats": _spot_cheats,
    "spot_links": costs.spot_links,
    "spot_freivalds": costs.spot_freivalds,
    "spot_whole": costs.spot_whole,
    "spot_block": costs.spot_block,
    "spot_onchain": costs.spot_onchain,
}


def main() -> None:
    torch.set_num_threads(1)
    frame.store_parts(__doc__, PARTS, seed=SEED)


if __name__ == "__main__":
    main()
