"""A chain, as the court needs one: what is deployed, sent, called and logged.

Two classes have this form: ``evm.Chain``, embedded, and ``rpc.RpcChain``, any node by its URL. A
court, its players and watchers are written against ``AnyChain`` alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from otr_core.errors import ChainError


@dataclass(frozen=True)
class Contract:
    """A compiled or deployed contract.

    Attributes:
        abi: the compiler's description of its functions and events. bytecode: what creates it.
        runtime_bytes: size of the code that stays on chain. address: "" until it is deployed.
    """

    abi: tuple[Mapping[str, Any], ...]
    bytecode: bytes
    runtime_bytes: int
    address: str = ""

    def entry(self, name: str) -> Mapping[str, Any]:
        """The ABI entry of function ``name``.

        Raises:
            ChainError: check ``abi``: there is no such function.
        """
        found = [e for e in self.abi if e["type"] == "function" and e["name"] == name]
        if len(found) != 1:
            raise ChainError("abi", f"{len(found)} functions named {name!r}", "one")
        return found[0]


@dataclass(frozen=True)
class LogEntry:
    """A decoded log entry: the event's name and its arguments by name."""

    name: str
    args: Mapping[str, Any]


@dataclass(frozen=True)
class TxReceipt:
    """What one transaction did.

    Attributes:
        gas: used. calldata_bytes: sent along. events: those of its contract. block_time: Unix
            seconds. transaction: its hash, hex.
    """

    gas: int
    calldata_bytes: int
    events: tuple[LogEntry, ...]
    block_time: int
    transaction: str = ""


@dataclass(frozen=True)
class Entry:
    """A log entry and where it stands.

    Attributes:
        block: its number. time: the block's, Unix seconds. transaction: its hash, hex.
    """

    block: int
    time: int
    transaction: str
    entry: LogEntry


@dataclass(frozen=True)
class InnerCall:
    """A call of one contract within a transaction, by an account or by another contract."""

    sender: str
    to: str
    data: bytes
    value: int


class AnyChain(Protocol):
    """What stands for a chain. Calls that fail raise ``ChainError`` with the contract's reason."""

    @property
    def accounts(self) -> tuple[str, ...]:
        """Addresses that can send here."""

    @property
    def id(self) -> int:
        """EIP-155 number of the chain."""

    @property
    def time(self) -> int:
        """Unix seconds of the block that the next transaction lands in, or somewhat less."""

    @property
    def head(self) -> int:
        """Number of the latest block."""

    def travel(self, to: int) -> None:
        """Move the next block's time forward; only chains that are made for tests can."""

    def block_hash(self, number: int) -> str:
        """Hash of a block, hex; "" if there is none of this number."""

    def check_same(self) -> None:
        """See that the chain is the one that this process began with."""

    def balance(self, address: str) -> int:
        """Wei held by ``address``."""

    def code(self, address: str) -> bytes:
        """The code at ``address``."""

    def next_address(self, sender: str, after: int = 0) -> str:
        """Where ``sender`` will deploy next, or ``after`` so many more transactions."""

    def runtime_of(self, contract: Contract, *args: Any, address: str, sender: str | None = None) -> bytes:
        """The code that deploying ``contract`` would leave at ``address``."""

    def deploy(self, contract: Contract, *args: Any, sender: str | None = None) -> tuple[Contract, TxReceipt]:
        """The deployed contract, and the receipt of its creation."""

    def transact(
        self, contract: Contract, function: str, *args: Any, sender: str | None = None, value: int = 0
    ) -> TxReceipt:
        """Send a transaction and wait for its receipt."""

    def call(self, contract: Contract, function: str, *args: Any, sender: str | None = None) -> Any:
        """What ``function`` returns, without a transaction."""

    def entries(self, contracts: Sequence[Contract], first: int, last: int) -> list[Entry]:
        """What ``contracts`` have logged in blocks ``first`` to ``last``, in order."""

    def calls(self, transaction: str, addresses: Sequence[str]) -> list[InnerCall]:
        """The calls of ``addresses`` in a transaction, in order; what was undone left out."""
