"""Anvil for tests: a node that starts where the embedded chain starts, and what it stores."""

from __future__ import annotations

import gzip
import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
from eth_utils import keccak
from rlp import encode as encode_rlp
from trie import HexaryTrie

from otr_node.chain.anvil import Anvil, find_anvil, known_keys
from otr_node.chain.door import EmbeddedDoor
from otr_node.chain.embedded import EmbeddedChain
from otr_node.chain.evm import GENESIS_TIME, Chain
from otr_node.chain.rpc import RpcChain
from otr_node.project import find_project

PROGRAM = find_anvil(find_project(Path(__file__)).build / "node")
needs_anvil = pytest.mark.skipif(
    PROGRAM is None, reason="anvil is not here: npm install --prefix build/node @foundry-rs/anvil@1.7.1"
)
CHAIN_ID = Chain(accounts=1).id


@contextmanager
def anvil(**more: Any) -> Iterator[Anvil]:
    """A node with the number and the first time of the embedded chain."""
    assert PROGRAM is not None
    with Anvil(PROGRAM, **{"chain_id": CHAIN_ID, "timestamp": GENESIS_TIME, **more}) as node:
        yield node


class Door(Protocol):
    """Whatever has a JSON-RPC door."""

    @property
    def url(self) -> str: ...


def moved_chain(node: Door, accounts: int = 6, **more: Any) -> RpcChain:
    """The node with the embedded chain's accounts, and time that is moved as there."""
    return RpcChain(node.url, known_keys(accounts), chain_id=CHAIN_ID, moved=True, poll_s=0.01, **more)


@contextmanager
def embedded_door(journal: Path | None = None, **more: Any) -> Iterator[EmbeddedDoor]:
    """The embedded chain behind its JSON-RPC door, in this process."""
    with EmbeddedDoor(EmbeddedChain(journal, **more)) as door:
        threading.Thread(target=door.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield door
        finally:
            door.shutdown()


def forward(url: str, request: Any) -> Any:
    """A JSON-RPC request as it is, and the whole answer."""
    body = json.dumps(request).encode()
    with urllib.request.urlopen(
        urllib.request.Request(url, body, {"content-type": "application/json"}), timeout=10
    ) as answer:
        return json.load(answer)


def ask(node: Door, method: str, *params: Any) -> Any:
    """One request to the node, without the class under test."""
    return forward(node.url, {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)})["result"]


def storage_roots(node: Anvil, *addresses: str) -> list[bytes]:
    """Roots over all that the node stores for some contracts.

    They are made here from its dump: anvil's own ``eth_getProof`` counts slots that hold nothing.
    """
    state = json.loads(gzip.decompress(bytes.fromhex(ask(node, "anvil_dumpState")[2:])))
    held = {address.lower(): account["storage"] for address, account in state["accounts"].items()}
    roots = []
    for address in addresses:
        made = HexaryTrie({})
        for slot, value in held[address.lower()].items():
            word = bytes.fromhex(value[2:]).lstrip(b"\0")
            if word:
                made[keccak(bytes.fromhex(slot[2:]).rjust(32, b"\0"))] = encode_rlp(word)
        roots.append(bytes(made.root_hash))
    return roots
