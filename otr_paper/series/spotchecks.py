"""Tables of notebook 04, out of stored measurements, published prices and the detection
formulas."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from otr_core.errors import DataError
from otr_paper.claims.landscape import proving_points
from otr_paper.claims.published import Published
from otr_paper.store.records import Records, records
from otr_paper.studies.detection import element_link, per_query, per_unit
from otr_paper.studies.proving import CostFit

ROW_VALUES = 576
"""Values of the input row of a unit of the default size, and its outputs: what an opened unit
shows."""
OUTPUTS = 8


def links(measured: Mapping[str, Any], *, elements: int = 32) -> Records:
    """Ways to tie a trace leaf to a proof: records of link, token_s (CPU seconds added to every
    token answered), share (of a decoded token's own CPU), drawn_s (added per drawn query), reveals,
    and missed (how often a false row passes).

    Args:
        measured: payload of ``spot_links``. elements: how many values the element link opens.
    """
    layers, units = measured["layers"], measured["units_per_layer"]
    per_layer = 3 * measured["kzg_576_s"] + measured["kzg_1536_s"] + units * measured["kzg_8_s"]
    on_demand = measured["rows_rebuilt_s"] + measured["rows_committed_s"]
    some, missed = f"{elements} inputs, {OUTPUTS} outputs", 1 - element_link(ROW_VALUES, OUTPUTS, elements)
    opened = f"{ROW_VALUES} inputs, {OUTPUTS} outputs of one unit"
    rows = [
        ("a KZG point per row and block, while answering", layers * per_layer, 0.0, "nothing", 0.0),
        ("a KZG point per layer, while answering", layers * measured["kzg_8000_s"], 0.0, "nothing", 0.0),
        ("rows committed before the unit is drawn, then opened", 0.0, on_demand, opened, 0.0),
        ("unit drawn first, rows committed after, then opened", 0.0, on_demand, opened, 1.0),
        (f"unit drawn first, then {elements} elements opened", 0.0, on_demand, some, missed),
    ]
    decode = measured["decode_token_s"]
    with_share = ((link, token, token / decode, *rest) for link, token, *rest in rows)
    return records("link, token_s, share, drawn_s, reveals, missed", with_share)


def unit_detection_curves(
    measured: Mapping[str, Any], *, units: Sequence[int], worst: float, leaves: int, down_blocks: int
) -> Records:
    """Records of cheat, units, detection: probability that one drawn query convicts.

    Args:
        measured: payload of ``spot_detection``. worst: ``detection.worst_fault``'s probability per
            unit.
        leaves: of the trace. down_blocks: units of the down projection in a layer.
    """
    broken = {row["cheat"]: (row["places_share"], row["broken"]) for row in measured["rows"]}
    rows = []
    for number in units:
        cheats = {cheat: (places, per_unit(shares)) for cheat, (places, shares) in broken.items()} | {
            "whole model, fault laid best": (1, worst),
            "one layer, fault laid best": (1 / 30, worst),
            "one value of one leaf": (1 / leaves, per_unit({"down": 1 / down_blocks})),
        }
        rows += [(cheat, number, per_query(places, unit, number)) for cheat, (places, unit) in cheats.items()]
    return records("cheat, units, detection", rows)


def checks(
    whole: Mapping[str, Any],
    freivalds: Mapping[str, Any],
    costs: Mapping[str, Any],
    *,
    proofs_per_unit: float,
) -> Records:
    """What it takes to check one answer: records of check, bearer, cost_s (CPU seconds of one core),
    sent_bytes, and needs (what its verifier must hold).

    Args:
        whole, freivalds, costs: payloads of ``spot_whole``, ``spot_freivalds`` and ``spot_honest``.
        proofs_per_unit: share of drawn units that need a proof.
    """
    rest = freivalds["again_s"] - freivalds["products_s"]
    rows = [
        ("run the answer again", "fisherman", whole["again_cpu_s"], 0.0, "the model"),
        ("audit every product, the rest again", "fisherman", freivalds["audit_s"] + rest, freivalds["bytes"], "sums"),
        ("check a proof of the answer", "verifier", whole["check_cpu_s"], whole["proof_bytes"], "the model"),
        ("prove the answer", "operator", whole["prove_cpu_s"], whole["proof_bytes"], "the model"),
    ]
    for units in (1, 16, 64):
        proofs = units * proofs_per_unit
        cost = proofs * (costs["prove_cpu_s"] + costs["witness_cpu_s"])
        label = f"prove {units} drawn unit" + "s" * (units > 1)
        rows.append((label, "operator", cost, proofs * costs["proof_bytes"], "keys, and points of the weights"))
    return records("check, bearer, cost_s, sent_bytes, needs", rows)


def hiding(proofs: Mapping[str, Any], *, positions: int) -> Records:
    """What it takes to prove one greedy answer, by what its verifier holds and what that tells: records of holds,
    tells, commit_s, prove_s, over (the model held), check_s (CPU seconds), proof_bytes, soundness_bits.

    Args:
        proofs: payload of ``answer_proofs``. positions: as they were asked.

    Raises:
        DataError: no such answer was proven to who holds the model.
    """
    runs = [run for run in proofs["runs"] if run["asked_positions"] == positions and not run["temperature_milli"]]
    held = [run for run in runs if run["commit_cpu_s"] is None]
    if not held:
        raise DataError(f"answer_proofs: found no run of {positions} positions with the model held, expected one")
    rows = []
    for run in runs:
        hidden = run.get("hidden_answers", 0)
        committed = "a commitment" + f" that hides, for {hidden} proofs" * bool(hidden)
        holds = "the model" if run["commit_cpu_s"] is None else committed
        tells = "nothing" if hidden else "facts of rows, columns"
        over = run["prove_cpu_s"] / held[0]["prove_cpu_s"]
        costs = (run["commit_cpu_s"] or 0.0, run["prove_cpu_s"], over, run["check_cpu_s"])
        rows.append((holds, tells, *costs, run["proof_bytes"], run["soundness_bits"]))
    return records("holds, tells, commit_s, prove_s, over, check_s, proof_bytes, soundness_bits", rows)


#: Checks of the figure of cheats, in its order: the columns of ``spot_cheats`` behind them.
UNITS = (1, 16, 64)


def cheats_under_checks(measured: Mapping[str, Any]) -> Records:
    """Each structured cheat under each check: records of cheat, check, least, detected, most (of the
    seeds), computed (where a formula says it too).

    A proof of the whole answer is about its tokens: forged ones were refused or not. Whoever runs
    the answer again compares all states and tokens, and finds what differs anywhere.

    Args:
        measured: payload of ``spot_cheats``.
    """
    rows = []
    for row in measured["rows"]:
        for units in UNITS:
            seeds = row[f"units_{units}"]["simulated"]
            mean = sum(seeds) / len(seeds)
            label = f"{units} drawn unit" + "s" * (units > 1)
            computed = row[f"units_{units}"]["computed"]
            rows.append((row["cheat"], label, min(seeds), mean, max(seeds), computed))
        share = row["refused"] / row["proofs"]
        rows.append((row["cheat"], "proof of the whole answer", share, share, share, math.nan))
        rows.append((row["cheat"], "running it again", *[row["again"]] * 3, math.nan))
    return records("cheat, check, least, detected, most, computed", rows)


def onchain(measured: Mapping[str, Any], published: Published, *, rho: float) -> Records:
    """Records of what, when, gas, l1_low_usd, l1_high_usd, base_usd, kind, and per_query_usd: what
    is paid per drawn query, spread over all at rate ``rho``; per query, as it is; NaN for the rest
    (L1, high)."""
    eth = published.number("gas.eth_usd", "USD")
    low, high = published.bounds("gas.l1_price", "ETH")
    base = published.number("gas.base_floor", "ETH")
    full = sum(published.bounds("quote.onchain", "gas")) / 2
    wrapped = {name: published.number(f"quote.{name}_groth16", "gas") for name in ("sp1", "risc0")}
    signature = published.number("evm.transaction", "gas") + published.number("evm.ecrecover", "gas")
    checked = [
        *(
            (f"unit proof {row['shape']} (k = {row['k']})", "per drawn query", float(row["verify_gas"]), "measured")
            for row in measured["rows"]
        ),
        ("its contract, any model", "once per shape", float(measured["rows"][0]["deploy_gas"]), "measured"),
        ("TDX quote by SP1 Groth16", "per session", wrapped["sp1"], "cited"),
        ("TDX quote by RISC Zero Groth16", "per session", wrapped["risc0"], "cited"),
        ("TDX quote fully on chain", "per session", full, "cited"),
        ("one signature by a registered key", "per query", signature, "recomputed"),
    ]
    spread, rows = {"per drawn query": rho, "per query": 1.0}, []
    for what, when, gas, kind in checked:
        usd = [gas * price * eth for price in (low, high, base)]
        rows.append((what, when, gas, *usd, spread.get(when, math.nan) * gas * high * eth, kind))
    return records("what, when, gas, l1_low_usd, l1_high_usd, base_usd, per_query_usd, kind", rows)


#: Weights that enter a matrix product once per token: SmolLM2-135M's own count (its embedding is
#: its output matrix), and the nominal sizes of the paper.
MODELS: Mapping[str, float] = {"SmolLM2-135M": 134.5e6, "7B": 7e9, "70B": 70e9}
CORES = 64
"""Cores of the CPU server that published figures and extrapolations are compared on."""


def extrapolated(found: CostFit) -> Records:
    """Records of model, weights, core_s (CPU seconds to prove every weight block for one token),
    core_h, machine_h (64 perfectly used cores)."""
    rows = []
    for name, weights in MODELS.items():
        core_s = weights * found.per_weight_s
        rows.append((name, weights, core_s, core_s / 3600, core_s / 3600 / CORES))
    return records("model, weights, core_s, core_h, machine_h", rows)


def published_points(published: Published) -> Records:
    """Records of system, params, seconds, setting: every published whole-model proof with a
    size."""
    rows = []
    for row, *point in proving_points(published):
        rows.append((*point, published[row].setting or "not stated", published[row].level, row))
    return records("system, params, seconds, setting, level, id", rows)


def where_it_holds(published: Published, found: CostFit) -> Records:
    """The stated 20 minutes and 45 USD for 7B, system by system: records of system, hardware,
    seconds, over_20min, usd, over_45usd and kind. Every machine is taken at the published hourly
    price of one H100."""
    stated_s, stated_usd = published.number("zkml.latency_7b", "s"), published.number("zkml.cost_query", "USD")
    hourly = published.number("gpu.h100_median", "USD/GPU-h")
    llama = published.number("zk.zktorch.llama2_7b.prove", "s")
    core_s = MODELS["7B"] * found.per_weight_s
    token = published.number("zk.zkpytorch.llama3_8b.prove", "s")
    flash = published.number("zk.flashprove.400b.prove", "s")
    zkllm = published.number("zk.zkllm.7b.prove", "s")
    provers = [
        ("zkLLM", "7B, 2048 positions, one A100", zkllm, "cited"),
        ("ZKTorch", "7B, 1 token, 64 CPU threads", llama, "cited"),
        ("zkPyTorch", "8B, 1 token, CPU", token, "cited"),
        ("zkPyTorch", "8B, 100 tokens, CPU", 100 * token, "recomputed"),
        ("FlashProve", "400B, one token of a batch of 24, one H100", flash, "cited"),
        ("ezkl (this circuit)", "7B, 1 token, 64 cores, extrapolated", core_s / CORES, "recomputed"),
    ]
    rows = []
    for system, setting, seconds, kind in provers:
        usd = seconds / 3600 * hourly
        rows.append((system, setting, seconds, seconds > stated_s, usd, usd >= stated_usd, kind))
    return records("system, setting, seconds, over_20min, usd, over_45usd, kind", rows)
