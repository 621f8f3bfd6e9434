"""Nodes for tests and demonstrations, as child processes on this machine's loopback: anvil, and where
there is none the embedded chain behind a door of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from eth_account import Account
from eth_account.signers.local import LocalAccount

from otr_core.errors import InputError, NodeError, reported_as
from otr_node.chain.node import RpcNode, quantity
from otr_node.chain.rpc import RpcChain
from otr_node.children import die_with_parent

PHRASE = "test test test test test test test test test test test junk"
"""The published phrase behind the funded accounts of test chains: whoever has it has them."""
PATH = "m/44'/60'/0'"
"""Where below the phrase the accounts lie: the same as on the embedded chain."""
VARIABLE = "OTR_ANVIL"
"""Environment variable that names the program."""
_START_S, _PYTHON_START_S = 20.0, 120.0


def find_anvil(*folders: Path) -> Path | None:
    """The program: what ``OTR_ANVIL`` names, what npm has put below one of ``folders``, or what is on
    the path; None where there is none."""
    named = os.environ.get(VARIABLE)
    found = [Path(named)] if named else []
    for folder in folders:
        # npm's own link starts a second process that outlives it; the program itself lies beside.
        found += sorted(folder.glob("node_modules/@foundry-rs/anvil-*/bin/anvil"))
    on_path = shutil.which("anvil")
    found += [Path(on_path)] if on_path else []
    return next((each for each in found if each.is_file()), None)


class LocalNode:
    """A running node. Leave it by ``stop``, or as a context.

    Args:
        words: what starts it. port: that it listens on. chain_id: expected. start_s: most that it may take.

    Attributes:
        port: as given. url: of its JSON-RPC door.

    Raises:
        NodeError: ``rpc``: it does not start.
    """

    rules: str
    """Those of its virtual machine, by name."""

    def __init__(self, words: Sequence[str], port: int, chain_id: int, start_s: float) -> None:
        self.port, self.url = port, f"http://127.0.0.1:{port}"
        # A node is this process's own: one that was killed would leave it behind, with its port.
        null = subprocess.DEVNULL
        self._process = subprocess.Popen(words, stdout=null, stderr=null, preexec_fn=die_with_parent)
        end = time.monotonic() + start_s
        while True:
            try:
                RpcChain(self.url, chain_id=chain_id, patience_s=0.5)
                return
            except NodeError as error:
                if self._process.poll() is not None or time.monotonic() >= end or error.check == "chain-id":
                    self.stop()
                    raise NodeError("rpc", f"{Path(words[0]).name} that does not start", "a node") from error

    @property
    def pid(self) -> int:
        """Number of the child process."""
        return self._process.pid

    def stop(self) -> None:
        """End the node; what it has kept in ``state`` is written first."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *about: object) -> None:
        self.stop()


class Anvil(LocalNode):
    """Anvil, running.

    Args:
        program: ``find_anvil``. chain_id, timestamp: of its first block; None: now. hardfork: rules
            of the virtual machine. state: file that the chain is kept in from one start to the next: with its
            first block, and a clock that does not go back.
        block_s: seconds between blocks; None: a block for each transaction. port: None: a free one.
    """

    def __init__(
        self,
        program: Path,
        *,
        chain_id: int,
        timestamp: int | None = None,
        hardfork: str = "osaka",
        state: Path | None = None,
        block_s: int | None = None,
        port: int | None = None,
    ) -> None:
        self.rules, port = hardfork, port or free_port()
        words = [str(program), "--silent", "--host", "127.0.0.1", "--port", str(port)]
        words += ["--chain-id", str(chain_id), "--hardfork", hardfork, "--gas-limit", "60000000", "--mnemonic", PHRASE]
        words += ["--derivation-path", f"{PATH}/"]
        first, latest = (None, 0) if state is None or not state.exists() else _times(state)
        # Anvil makes a first block at each start, by its clock of then: of another time it is another chain's.
        timestamp = first if first is not None else timestamp
        words += [] if timestamp is None else ["--timestamp", str(timestamp)]
        words += [] if state is None else ["--state", str(state)]
        words += [] if block_s is None else ["--block-time", str(block_s)]
        super().__init__(words, port, chain_id, _START_S)
        if first is not None:
            node = RpcNode(self.url, _START_S)
            # What its clock says, and not what a chain makes of it, whose time does not go back.
            ahead = max(latest, int(time.time())) - quantity(node.block("pending").get("timestamp"))
            node.ask("evm_increaseTime", max(ahead, 0))


def _times(state: Path) -> tuple[int, int]:
    """Times of the first and of the latest block of a chain that anvil has kept.

    Raises:
        InputError: the file is none of anvil's.
    """
    causes = ValueError, KeyError, TypeError
    with reported_as(InputError, f"{state} cannot be used", *causes, expected="a chain that anvil has kept"):
        headers = [block["header"] for block in json.loads(state.read_bytes())["blocks"]]
        times = {quantity(each["number"]): quantity(each["timestamp"]) for each in headers}
        return times[0], times[max(times)]


class EmbeddedNode(LocalNode):
    """The embedded chain behind its door (``door``), in a process of its own.

    Args:
        chain_id: expected; it has one alone. state, port: as ``Anvil``.
    """

    rules = "prague"

    def __init__(self, *, chain_id: int, state: Path | None = None, port: int | None = None) -> None:
        port = port or free_port()
        words = [sys.executable, "-m", "otr_node.chain.door", str(port), "" if state is None else str(state)]
        super().__init__(words, port, chain_id, _PYTHON_START_S)


def known_keys(count: int) -> list[LocalAccount]:
    """Keys of the first ``count`` funded accounts of test chains, which everybody knows."""
    Account.enable_unaudited_hdwallet_features()
    return [Account.from_mnemonic(PHRASE, account_path=f"{PATH}/{number}") for number in range(count)]


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])
