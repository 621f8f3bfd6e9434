"""The commands ``otr serve``, ``otr ask`` and ``otr operate``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from otr_core.cli import AsJson, print_json, receipt_policy, say
from otr_core.dispute.profile import own_profile
from otr_core.errors import InputError
from otr_core.extras import need_extras
from otr_core.files import check_target, read_input, write_bytes
from otr_node.ask import RemoteServer, ask
from otr_node.chain.access import go, until_late
from otr_node.chain.options import PartyOptions, with_options
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
from otr_node.project import find_home
from otr_node.server.limits import ServerLimits

server_commands = typer.Typer()
_MOST_EVERY_S = 86_400.0
_BATCH_S = float(own_profile().parties.batch_s)


@server_commands.command("serve")
def serve_model(
    lane: Lane = "portable",
    model: Folder = None,
    host: Annotated[str, typer.Option(help="Where to listen; by default only this machine reaches it.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: any that is free; the log names it.")] = 8000,
    state: Annotated[
        Path | None, typer.Option(help="Folder of journal and keys, of this server alone; default: build/serve.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Answers computed together.")] = 16,
    queue: Annotated[int, typer.Option(help="Orders that may wait; of more, each is told to come later.")] = 64,
    max_tokens: Annotated[int, typer.Option(help="Most tokens of an answer.")] = 1024,
    max_prompt_tokens: Annotated[int, typer.Option(help="Most tokens of a prompt.")] = 4096,
    max_body_bytes: Annotated[int, typer.Option(help="Most bytes of a request.")] = 2**20,
    queue_seconds: Annotated[int, typer.Option(help="How long an order waits, at most.")] = 60,
    answer_seconds: Annotated[int, typer.Option(help="How long a client is kept waiting, at most.")] = 600,
    stop_seconds: Annotated[int, typer.Option(help="How long a stopping server goes on, at most.")] = 30,
    key_file: Annotated[Path | None, typer.Option(help="Keys that clients may show, one a line.")] = None,
    chain_id: ChainId = 0,
    court: Court = NO_COURT,
    threads: Annotated[int, typer.Option(help="Of the computation.")] = 1,
) -> None:
    """Serve a model over the OpenAI API; every answer has a signed receipt (docs/serving.md). The TEE is
    typed *simulated*. SIGTERM or Ctrl-C ends it in order."""
    need_extras("node", "serve")
    from otr_node.answers import lane_name, load_lane, served_name
    from otr_node.server.program import ServerPlan, run_server

    project, named = find_home(), lane_name(lane)
    limits = ServerLimits(
        batch=batch,
        queue=queue,
        body_bytes=max_body_bytes,
        prompt_tokens=max_prompt_tokens,
        max_tokens=max_tokens,
        queue_s=queue_seconds,
        answer_s=answer_seconds,
        stop_s=stop_seconds,
    )
    plan = ServerPlan(
        state or project.build / "serve",
        host,
        port,
        limits,
        domain_of(chain_id, court),
        key_file,
    )
    run_server(
        plan,
        lambda: load_lane(project, lane=named, device="cpu", folder=model, threads=threads, report=say),
        name=lambda loaded: served_name(project, loaded, model),
    )


@server_commands.command("ask")
def ask_server(
    url: Annotated[str, typer.Argument(help="Of a server, such as http://127.0.0.1:8000.")],
    prompt: Prompt,
    lane: Lane = "portable",
    model: Folder = None,
    model_id: ModelId = None,
    max_tokens: MaxTokens = 64,
    seed: Seed = 0,
    temperature: Temperature = 0.0,
    seal: Annotated[bool, typer.Option("--seal", help="Seal prompt and answer to the attested enclave.")] = False,
    chain_id: ChainId = 0,
    court: Court = NO_COURT,
    key_file: Annotated[Path | None, typer.Option(help="The key to show, on the first line.")] = None,
    require_hardware: Annotated[bool, typer.Option("--require-hardware", help="Refuse a simulated TEE.")] = False,
    policy: Annotated[Path | None, typer.Option(help="Policy for evidence of hardware, then required.")] = None,
    nonce: Annotated[str | None, typer.Option(help="With --policy: your nonce, hex.")] = None,
    order_out: Annotated[
        Path | None, typer.Option(help="Where your copy of the order is written, before it is sent.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where the receipt is written.")] = None,
    leaves: Annotated[
        Path | None,
        typer.Option(help="Where the hashes of the states go, which make a dispute shorter (docs/network.md)."),
    ] = None,
    place: Annotated[
        Path | None,
        typer.Option(help="Where it is written where the receipt was committed, once it was (docs/network.md)."),
    ] = None,
    wait_seconds: Annotated[int, typer.Option(help="How long to wait for the answer, and for its place.")] = 600,
    as_json: AsJson = False,
) -> None:
    """Order an answer from a server, check its receipt against the order, and print it. Exit 1 if a check
    fails or the server refuses."""
    need_extras("node")
    for path in (out, order_out, leaves, place):
        check_target(path)
    from otr_node.answers import client_side, lane_name, order_prompt

    keys = [] if key_file is None else read_input(key_file, what="a file with a key").decode("latin-1").split()
    server = RemoteServer(url, keys[0] if keys else None, wait_seconds)
    rules = receipt_policy(policy, nonce, simulated=not require_hardware)
    project, named, wanted = find_home(), lane_name(lane), model_id_of(model_id)
    folder, ordered, decode = client_side(project, lane=named, folder=model, model_id=wanted, report=say)
    decoding = decoding_of(max_tokens, seed, temperature)
    domain = domain_of(chain_id, court)
    placed, file, checked = ask(
        server,
        lambda seal_to: order_prompt(
            project,
            prompt,
            lane=named,
            folder=folder,
            model_id=ordered,
            decoding=decoding,
            domain=domain,
            date=None,
            secret=os.urandom,
            report=say,
            seal_to=seal_to,
        ),
        model_id=ordered,
        sealed=seal,
        policy=rules,
        now=lambda: int(time.time()),
        decode=decode,
        keep=lambda placed: None if order_out is None else write_bytes(order_out, placed.dump()),
    )
    if out is not None:
        write_bytes(out, file.dump())
    tee = "simulated" if checked.verification.simulated else "hardware"
    summary = {
        "answer": checked.text,
        "finish": checked.finish,
        "answer_tokens": len(checked.token_ids),
        "prompt_tokens": placed.order.prompt_tokens,
        "order_id": placed.order.id.hex(),
        "model_id": ordered.hex(),
        "sealed": seal,
        "tee": tee,
    }
    if as_json:
        print_json(summary)
    else:
        print(checked.text)
        say(f"accepted: order {placed.order.id.hex()}, every check passed, {tee} TEE")
    if leaves is not None:  # last, because the answer is good without
        write_bytes(leaves, server.leaves(file))
    if place is not None:
        write_bytes(place, server.place(file))


@server_commands.command("operate")
@with_options
def operate_server(
    served: Annotated[Path, typer.Argument(help="State folder of otr serve.")],
    options: PartyOptions,
    every: Annotated[float, typer.Option(help="Seconds between two batches; default: the deployment's.")] = _BATCH_S,
    most: Annotated[int, typer.Option(help="Receipts of a batch; so many are committed without waiting.")] = 1024,
) -> None:
    """Beside a server: commits what it has answered in batches, tells it the places, shows what is
    demanded, defends what is challenged, finalises. What it does and why it says in JSON lines.
    Started again after a kill it goes on (docs/network.md)."""
    need_extras("node", "chain", "serve")
    from otr_node.server.operating import MOST_OF_A_BATCH, operator_beside

    if not 0 <= every <= _MOST_EVERY_S:
        raise InputError(f"--every: found {every}, expected 0 to {_MOST_EVERY_S:.0f} seconds")
    if not 1 <= most <= MOST_OF_A_BATCH:
        raise InputError(f"--most: found {most}, expected 1 to {MOST_OF_A_BATCH}")
    party = operator_beside(served, options, every_s=every, most=most)
    with party.book:
        go(party, until_late(options.seconds), options)
