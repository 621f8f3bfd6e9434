"""Hardhat for tests: a second node by another house, that starts where the embedded chain starts.

Its virtual machine (EDR, on revm) is not the embedded chain's (py-evm); its door, its mining, its errors and
its traces are not anvil's.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from otr_core.errors import NodeError
from otr_core.files import write_text
from otr_node.chain.anvil import PATH, PHRASE, free_port
from otr_node.chain.evm import GENESIS_TIME
from otr_node.chain.rpc import RpcChain
from otr_node.project import find_project
from tests.helpers.nodes import CHAIN_ID, ask

FOLDER = find_project(Path(__file__)).build / "hardhat"
PROGRAM = FOLDER / "node_modules" / "hardhat" / "internal" / "cli" / "bootstrap.js"
needs_hardhat = pytest.mark.skipif(
    not PROGRAM.is_file(),
    reason="hardhat is not here: npm install --ignore-scripts --prefix build/hardhat hardhat@2.29.1",
)
_START_S = 60.0
CONFIGURATION = {
    "chainId": CHAIN_ID,
    "hardfork": "osaka",
    "blockGasLimit": 60_000_000,
    "initialDate": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(GENESIS_TIME)),
    "accounts": {"mnemonic": PHRASE, "path": PATH, "accountsBalance": str(10**24)},
}


@dataclass(frozen=True)
class Hardhat:
    """A running node: its JSON-RPC door."""

    url: str


@contextmanager
def hardhat() -> Iterator[Hardhat]:
    """A node with the number, the first time and the accounts of the embedded chain."""
    # It must stand in a project of its own, whose configuration is a program.
    write_text(
        FOLDER / "hardhat.config.js", f"module.exports = {json.dumps({'networks': {'hardhat': CONFIGURATION}})}\n"
    )
    port = free_port()
    words = ["node", str(PROGRAM), "node", "--hostname", "127.0.0.1", "--port", str(port)]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    silent = {**os.environ, "HARDHAT_DISABLE_TELEMETRY_PROMPT": "true"}
    with subprocess.Popen(words, cwd=FOLDER, env=silent, **quiet) as child:  # type: ignore[call-overload]
        made, end = Hardhat(f"http://127.0.0.1:{port}"), time.monotonic() + _START_S
        try:
            while True:
                try:
                    RpcChain(made.url, chain_id=CHAIN_ID, patience_s=0.5)
                    break
                except NodeError:
                    if child.poll() is not None or time.monotonic() >= end:
                        raise
            yield made
        finally:
            child.kill()  # it keeps nothing


def proven_roots(node: Hardhat, *addresses: str) -> list[bytes]:
    """Roots of all that some contracts store, as the node proves them."""
    proofs = [ask(node, "eth_getProof", address, [], "latest") for address in addresses]
    return [bytes.fromhex(proof["storageHash"][2:]) for proof in proofs]
