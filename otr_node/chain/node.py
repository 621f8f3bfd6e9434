"""A node's JSON-RPC door: requests, repeated while it does not answer, and what it answers.

Nothing that a node says is believed to have its form: what has not is an answer that cannot be used,
and is said as such.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from web3 import HTTPProvider
from web3.exceptions import Web3Exception

from otr_core.errors import ChainError, NodeError, one_line
from otr_node.chain.evm import revert_reason

_BUSY = -32005  # the JSON-RPC code of a node that has been asked too much


class RefusedError(NodeError):
    """The node has answered, with an error; check ``rpc``.

    Attributes:
        message: the node's. output: what a contract returned as it reverted, if that was said.
    """

    def __init__(self, error: Mapping[str, Any]) -> None:
        data = error.get("data")
        data = data.get("data") if isinstance(data, dict) else data
        self.message = one_line(Exception(error.get("message", error)))
        self.output = b""
        if isinstance(data, str) and re.fullmatch("0x([0-9a-fA-F]{2})*", data):
            self.output = bytes.fromhex(data[2:])
        super().__init__("rpc", f"a node that refuses ({self.message})", "an answer")

    @property
    def reverted(self) -> bool:
        """Whether a contract has refused, not the node."""
        return bool(self.output) or "revert" in self.message.lower()

    @property
    def as_chain_error(self) -> ChainError:
        """The contract's reason, or the node's."""
        if not self.reverted:
            return ChainError("transaction", self.message, "a call that the node takes")
        said = revert_reason(self.output) if self.output else self.message.rpartition("reverted: ")[2]
        return ChainError(said if said and " " not in said else "reverted", f"a revert ({self.message})", "success")


class RpcNode:
    """A node by its URL.

    Args:
        url: http or https. patience_s: how long a request is repeated.

    Raises:
        NodeError: ``rpc``: the URL is none.
    """

    def __init__(self, url: str, patience_s: float) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:  # a port that is no number, a bracket that is not closed
            raise NodeError("rpc", f"no URL ({one_line(error)})", "one such as http://127.0.0.1:8545") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise NodeError("rpc", repr(url), "a URL such as http://127.0.0.1:8545")
        # A provider's URL often ends in a secret: no message shows it.
        self._shown = f"{parts.scheme}://{parts.hostname}" + (f":{port}" if port else "")
        self._patience = patience_s
        how = {"timeout": min(patience_s, 30.0)}
        self._provider = HTTPProvider(url, request_kwargs=how, exception_retry_configuration=None)

    def ask(self, method: str, *params: Any, patience_s: float | None = None) -> Any:
        """One request, repeated while the node does not answer.

        Raises:
            NodeError: ``rpc``: it did not for ``patience_s``. RefusedError: it has, with an error.
        """
        end, wait = time.monotonic() + (self._patience if patience_s is None else patience_s), 0.1
        while True:
            try:
                answer: Any = self._provider.make_request(method, list(params))
                if isinstance(answer, dict) and "result" in answer:
                    return answer["result"]
                error = answer.get("error") if isinstance(answer, dict) else None
                if not isinstance(error, dict):
                    raise ValueError(f"{one_line(Exception(answer))}, no JSON-RPC answer")
                if error.get("code") != _BUSY or time.monotonic() >= end:
                    raise RefusedError(error)
            except (OSError, ValueError, Web3Exception) as error:
                if time.monotonic() >= end:
                    why = type(error).__name__
                    raise NodeError("rpc", f"no answer from {self._shown} ({why})", "a JSON-RPC node") from error
            time.sleep(max(0.0, min(wait, end - time.monotonic())))
            wait = min(2 * wait, 5.0)

    def number(self, method: str, *params: Any, patience_s: float | None = None) -> int:
        """A request whose answer is a number."""
        return quantity(self.ask(method, *params, patience_s=patience_s))

    def block(self, which: str) -> Mapping[str, Any]:
        """A block by number or name; nothing if there is none."""
        found = self.ask("eth_getBlockByNumber", which, False)
        return found if isinstance(found, dict) else {}

    def block_hash(self, number: int) -> str:
        """Hash of a block, hex; "" if there is none of this number."""
        return str(self.block(hex(number)).get("hash") or "")

    def head(self) -> int:
        """Number of the latest block."""
        return self.number("eth_blockNumber")

    def nonce(self, address: str, block: str = "latest") -> int:
        """How many transactions an account has sent; with ``pending`` those that wait, too."""
        return self.number("eth_getTransactionCount", address, block)

    def time_of(self, block_hash: Any) -> int:
        """Unix seconds of a block by its hash."""
        return quantity(record(self.ask("eth_getBlockByHash", block_hash, False)).get("timestamp"))


def quantity(found: Any) -> int:
    """A number as nodes write it, hex, at most 256 bits.

    Raises:
        NodeError: ``rpc``: it is none.
    """
    if not isinstance(found, str) or not re.fullmatch("0x[0-9a-fA-F]{1,64}", found):
        raise NodeError("rpc", f"a node that answers {found!r:.60}", "a number, hex")
    return int(found, 16)


def octets(found: Any) -> bytes:
    """Bytes as nodes write them, hex.

    Raises:
        NodeError: ``rpc``: they are none.
    """
    if not isinstance(found, str) or not re.fullmatch("0x(?:[0-9a-fA-F]{2})*", found):
        raise NodeError("rpc", f"a node that answers {found!r:.60}", "bytes, hex")
    return bytes.fromhex(found[2:])


def record(found: Any) -> Mapping[str, Any]:
    """An answer that is a JSON object.

    Raises:
        NodeError: ``rpc``: it is none.
    """
    if not isinstance(found, dict):
        raise NodeError("rpc", f"a node that answers {found!r:.60}", "an object")
    return found
