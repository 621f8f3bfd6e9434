"""The program behind ``otr serve``: binds, loads, serves, and stops in order."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import resource
import secrets
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType

import uvicorn

from otr_core.errors import InputError
from otr_core.files import read_input, write_bytes
from otr_core.lane.sampling import Decoding
from otr_core.poea.order import Domain
from otr_node.enclave import SimulatedEnclave
from otr_node.generate import generate
from otr_node.model import Model
from otr_node.server.app import Service, make_app
from otr_node.server.connections import bounded_protocol
from otr_node.server.desk import Clerk, Desk
from otr_node.server.engine import Engine
from otr_node.server.journal import Journal
from otr_node.server.limits import ServerLimits
from otr_node.server.observe import Metrics, Reporter, start_log

LOOPBACK = ("127.0.0.1", "localhost")
"""Where a server listens that only this machine reaches; by another name it is not called then, so that
no web page reaches it under its own."""
_FILES_BESIDE = 128
"""Open files that a server needs beside its connections."""


@dataclass(frozen=True)
class ServerPlan:
    """How to serve.

    Attributes:
        state: folder of journal and keys. host, port: where to listen; port 0: any that is free.
        keys: file with the keys that clients may show, one a line; None: nobody needs one.
        desk: makes the desk, which takes orders and signs; it is called as ``Desk`` is.
        clerk: takes the place of the desk in the engine; None: the desk itself.
    """

    state: Path
    host: str = "127.0.0.1"
    port: int = 8000
    limits: ServerLimits = field(default_factory=ServerLimits)
    domain: Domain = field(default_factory=Domain)
    keys: Path | None = None
    desk: Callable[..., Desk] = Desk
    clerk: Clerk | None = None


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens for connections to ``host`` and ``port``.

    Raises:
        InputError: the port is in use, or the host is none of this machine.
    """
    if not 0 <= port < 2**16:
        raise InputError(f"--port: found {port}, expected 0 to {2**16 - 1}")
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, number)
    except OSError as error:
        raise InputError(
            f"--host: found {host[:80]!r} ({error.strerror}), expected an address of this machine"
        ) from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(2048)
    except OSError as error:
        bound.close()
        raise InputError(
            f"--port: {host}:{port} cannot be listened on ({error.strerror}), expected a free one"
        ) from error
    return bound


def read_keys(path: Path | None) -> frozenset[bytes]:
    """SHA-256 of each key in a file.

    Raises:
        InputError: unreadable, or without a key of at least 16 characters.
    """
    if path is None:
        return frozenset()
    lines = [line.strip() for line in read_input(path, what="a file of keys", limit_bytes=2**20).splitlines()]
    keys = [line for line in lines if line]
    if not keys or min(map(len, keys)) < 16:
        raise InputError(f"{path}: found no key, or a short one, expected one of at least 16 characters a line")
    return frozenset(hashlib.sha256(key).digest() for key in keys)


def kept_secret(state: Path) -> bytes:
    """The simulated enclave's secret, which outlives a restart as a real one's sealed storage would, so
    that an order begun before is answered with the same receipt after."""
    path = state / "enclave.secret"
    if not path.exists():
        before = os.umask(0o077)
        try:
            write_bytes(path, secrets.token_bytes(32))
        finally:
            os.umask(before)
    path.chmod(0o600)
    secret = read_input(path, what="a secret of 32 bytes")
    if len(secret) != 32:
        raise InputError(f"{path}: found {len(secret)} bytes, expected a secret of 32")
    return secret


def room_for_connections(limits: ServerLimits) -> ServerLimits:
    """``limits`` with as many connections as this process may have files open, which is raised as far
    as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.connections + _FILES_BESIDE
    if soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return replace(limits, connections=max(1, min(limits.connections, soft - _FILES_BESIDE)))


class _Server(uvicorn.Server):
    """uvicorn's, which tells the service of a signal at once."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # a handler runs in the middle of anything: the loop refuses when it comes to it
        asyncio.get_running_loop().call_soon_threadsafe(self._service.refuse_new)
        super().handle_exit(sig, frame)


def run_server(
    plan: ServerPlan,
    load: Callable[[], Model],
    *,
    name: Callable[[Model], str],
    secret: Callable[[int], bytes] = secrets.token_bytes,
) -> None:
    """Serve until a signal ends it. Returns when all that is begun is answered or journalled.

    Args:
        load: loads the model. name: what it is called in requests. secret: gives that many secret
            random bytes.

    Raises:
        InputError: port, state folder, keys or model cannot be used.
    """
    keys, limits = read_keys(plan.keys), room_for_connections(plan.limits)
    bound = bind(plan.host, plan.port)
    new = not plan.state.exists()
    journal = Journal(plan.state)
    metrics = Metrics()
    reporter = Reporter(start_log(), metrics)
    model = load()
    generate(model, [0], Decoding(1), trace_seed=bytes(32))  # compiles, and starts the process that hashes
    enclave = SimulatedEnclave(kept_secret(plan.state), model.manifest.model_id, secret(32), int(time.time()))
    desk = plan.desk(
        model,
        enclave,
        journal,
        limits=limits,
        name=name(model),
        domain=plan.domain,
        now=lambda: int(time.time()),
        secret=secret,
    )
    journal.spent = metrics.seconds["commit"].observe
    engine = Engine(model, plan.clerk or desk, limits, report=reporter.failed)
    service = Service(desk, engine, metrics, reporter, keys=keys, receipts=plan.clerk is None)
    config = uvicorn.Config(
        make_app(service, hosts=LOOPBACK if plan.host in LOOPBACK else ("*",)),
        http=bounded_protocol(limits),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=limits.idle_s,
        timeout_graceful_shutdown=limits.stop_s,
        backlog=2048,
    )
    server = _Server(config, service)
    metrics.watch(lambda: engine.load, lambda: len(server.server_state.connections), desk.waiting)
    left_over = desk.left_over()
    engine.start(left_over)
    host, port = bound.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    facts = {"url": url, "model": desk.name, "lane": model.manifest.lane, "left_over": len(left_over)}
    reporter.note("listening", **facts, state=str(plan.state), state_made=new)
    # Until uvicorn has its own handlers a signal stops it as soon as it runs; when it has stopped it
    # raises the signal again, which is no failure then.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: setattr(server, "should_exit", True))
    server.run(sockets=[bound])
