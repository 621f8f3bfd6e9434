"""A chain behind a node's JSON-RPC door: any node by its URL, with accounts whose keys are here.

What a node may do to whoever talks to it is taken as given: it does not answer for a while, answers
twice, forgets a transaction, or changes its mind about the latest blocks. So every request is
repeated within a bounded time, a transaction is sent again until its receipt stands under
``confirmations`` blocks, and whoever wants to know what is so reads it off the chain again.

A transaction's gas is estimated before it is sent: what would revert raises with the contract's
reason and costs nothing. Fees are those of EIP-1559, twice the base fee of the latest block and the
node's priority fee at most, and never above the owner's cap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from eth_abi.exceptions import DecodingError
from eth_account.signers.local import LocalAccount
from eth_utils import to_checksum_address

from otr_core.errors import ChainError, NodeError, one_line
from otr_node.chain.delivery import GWEI, Delivery
from otr_node.chain.evm import GAS_LIMIT, call_data, created_address, creation_data, event_of, returned
from otr_node.chain.interface import Contract, Entry, InnerCall, LogEntry, TxReceipt
from otr_node.chain.keys import sign_hash
from otr_node.chain.node import RefusedError, RpcNode, octets, quantity, record
from otr_node.chain.outbox import Outbox

MOST_BLOCKS = 2_000
"""Blocks whose logs are asked for at once; public nodes refuse more, and some fewer."""
_PLACE = ("blockNumber", "logIndex")


class RpcChain:
    """A node by its URL.

    Args:
        url: http or https. keys: accounts that can send. chain_id: expected; None: whichever it is.
        moved: whether the node's clock is moved by ``travel`` and stands still otherwise, as in
            tests: then gas is not estimated, and a call that reverts is mined, as on the embedded
            chain.
        confirmations: blocks that must stand on a transaction's before its receipt counts.
        max_fee_wei: most that a unit of gas may cost. patience_s: how long a request or a
            transaction is repeated. poll_s: between two looks. outbox: where transactions are kept
            before they are sent.

    Attributes:
        id: EIP-155 number of the chain. accounts: addresses of the keys. outbox: as given.
        elsewhere: how many transactions it keeps for other chains of this number.

    Raises:
        NodeError: ``rpc``: nothing answers there. ``chain-id``: another chain.
    """

    def __init__(
        self,
        url: str,
        keys: Sequence[LocalAccount] = (),
        *,
        chain_id: int | None = None,
        moved: bool = False,
        confirmations: int = 0,
        max_fee_wei: int = 500 * GWEI,
        patience_s: float = 120.0,
        poll_s: float = 0.2,
        outbox: Outbox | None = None,
    ) -> None:
        self._node = RpcNode(url, patience_s)
        self._keys = {key.address.lower(): key for key in keys}
        self.accounts: tuple[str, ...] = tuple(key.address for key in keys)
        self._moved, self._next = moved, 0
        self._max_fee = max_fee_wei
        self._times: dict[str, int] = {}
        self.outbox = outbox
        self._delivery = Delivery(self._node, outbox, confirmations, max_fee_wei, patience_s, poll_s)
        self.id = self._node.number("eth_chainId", patience_s=min(patience_s, 5.0))
        if chain_id is not None and self.id != chain_id:
            raise NodeError("chain-id", self.id, chain_id)
        self._first = "" if outbox is None else self.block_hash(0)
        self.elsewhere = 0 if outbox is None else outbox.stand_on(self._first)
        self._finish_kept()

    @property
    def sent_again(self) -> int:
        """How often a transaction had to be sent again."""
        return self._delivery.sent_again

    @property
    def secret(self) -> bytes:
        """32 bytes that only the owner of the first key has."""
        return bytes(next(iter(self._keys.values())).key)

    def sign_hash(self, hashed: bytes) -> bytes:
        """The signature (65 bytes: r, s, v) of the first account under 32 bytes, as a contract recovers it."""
        return sign_hash(next(iter(self._keys.values())), hashed)

    # --- questions

    @property
    def time(self) -> int:
        """Unix seconds of the block that the next transaction lands in, or somewhat less.

        A block is later than the one before it, whatever the node's clock says: one that has just started
        again may tell of a pending block in the past.
        """
        if self._next:
            return self._next
        least = quantity(self._node.block("latest").get("timestamp")) + 1
        if self._moved:
            return least
        pending = self._node.block("pending").get("timestamp")
        return max(least, quantity(pending)) if pending else least

    @property
    def head(self) -> int:
        """Number of the latest block."""
        return self._node.head()

    def travel(self, to: int) -> None:
        """Move the next block's time forward to ``to`` (Unix seconds).

        Raises:
            NodeError: ``time``: the node's clock is not moved from here.
        """
        if not self._moved:
            raise NodeError("time", "a node with a clock of its own", "one whose clock is moved")
        self._next = max(to, self.time)

    def advance(self, seconds: int) -> None:
        """Move the clock of a node that is made for tests, and have it make a block.

        Raises:
            NodeError: ``time``: the node does not let it be moved.
        """
        try:
            self._node.ask("evm_increaseTime", seconds)
            self._node.ask("evm_mine")
        except RefusedError as error:
            raise NodeError("time", error.message, "a node whose clock can be moved") from error

    def block_hash(self, number: int) -> str:
        """Hash of a block, hex; "" if there is none of this number."""
        return self._node.block_hash(number)

    def check_same(self) -> None:
        """See that the chain is the one that this process began with, as far as first blocks tell.

        Raises:
            NodeError: ``chain-id``: another one stands behind the URL now.
        """
        first = self.block_hash(0) if self._first else ""
        if first and first != self._first:
            begins = f"a chain that begins with block {first}"
            raise NodeError("chain-id", begins, f"{self._first}, with which this process began")

    def balance(self, address: str) -> int:
        """Wei held by ``address``."""
        return self._node.number("eth_getBalance", address, "latest")

    def code(self, address: str) -> bytes:
        """The code at ``address``."""
        return octets(self._node.ask("eth_getCode", address, "latest"))

    def next_address(self, sender: str, after: int = 0) -> str:
        """Where ``sender`` will deploy next, or ``after`` so many more transactions."""
        return created_address(sender, self._node.nonce(sender, "pending") + after)

    def runtime_of(self, contract: Contract, *args: Any, address: str, sender: str | None = None) -> bytes:
        """The code that deploying ``contract`` would leave, wherever that is.

        Raises:
            ChainError: the constructor refuses.
        """
        about = {"data": "0x" + creation_data(contract, args).hex()}
        return self._called(about if sender is None else about | {"from": sender})

    def call(self, contract: Contract, function: str, *args: Any, sender: str | None = None) -> Any:
        """What ``function`` returns, without a transaction.

        Raises:
            ChainError: it reverted; ``check`` is the contract's reason.
        """
        entry = contract.entry(function)
        about = {"to": contract.address, "data": "0x" + call_data(entry, args).hex()}
        return returned(entry, self._called(about if sender is None else about | {"from": sender}))

    def _called(self, about: Mapping[str, Any], block: str = "latest") -> bytes:
        try:
            return octets(self._node.ask("eth_call", about, block))
        except RefusedError as error:
            raise error.as_chain_error from error

    def entries(self, contracts: Sequence[Contract], first: int, last: int) -> list[Entry]:
        """What ``contracts`` have logged in blocks ``first`` to ``last``, in order.

        The range is asked for in parts, smaller ones where the node refuses.
        """
        by_address = {contract.address.lower(): contract for contract in contracts}
        found: list[Entry] = []
        span = MOST_BLOCKS
        while first <= last:
            end = min(last, first + span - 1)
            about = {"address": list(by_address), "fromBlock": hex(first), "toBlock": hex(end)}
            try:
                raw = self._node.ask("eth_getLogs", about)
            except RefusedError as error:
                if span == 1:
                    raise NodeError("rpc", f"no logs ({error.message})", "those of one block") from error
                span = max(1, span // 4)
                continue
            if not isinstance(raw, list):
                raise NodeError("rpc", f"a node that answers {raw!r:.60}", "logs")
            for log in sorted(map(record, raw), key=lambda each: tuple(quantity(each.get(own)) for own in _PLACE)):
                entry = event_in(log, by_address.get(str(log.get("address")).lower()))
                if entry is not None and not log.get("removed"):
                    where = quantity(log.get("blockNumber")), self._time_of(log), str(log.get("transactionHash"))
                    found.append(Entry(*where, entry))
            first = end + 1
        return found

    def _time_of(self, log: Mapping[str, Any]) -> int:
        if log.get("blockTimestamp"):
            return quantity(log.get("blockTimestamp"))
        place = str(log.get("blockHash"))
        if place not in self._times:
            self._times[place] = self._node.time_of(place)
        return self._times[place]

    def calls(self, transaction: str, addresses: Sequence[str]) -> list[InnerCall]:
        """The calls of ``addresses`` in a transaction, in order; what was undone left out.

        A call by an account is the transaction itself. For calls by other contracts the node has to
        trace: whoever plays by a contract could otherwise hide its moves from a watcher.

        Raises:
            NodeError: ``trace``: the node does not.
        """
        own = {each.lower() for each in addresses}
        raw = self._node.ask("eth_getTransactionByHash", transaction)
        if raw is None:
            return []
        if str(record(raw).get("to")).lower() in own:
            return [_inner_call(raw)]
        try:
            traced = self._node.ask("debug_traceTransaction", transaction, {"tracer": "callTracer"})
        except RefusedError as error:
            raise NodeError("trace", error.message, f"the calls in transaction {transaction}") from error
        return list(_inner(record(traced), own))

    # --- transactions

    def fund(self, address: str, value: int, sender: str | None = None) -> TxReceipt:
        """Give ``address`` an amount of wei, from the first account unless a sender is named."""
        return self._send(address, b"", sender, value, None)[0]

    def deploy(self, contract: Contract, *args: Any, sender: str | None = None) -> tuple[Contract, TxReceipt]:
        """The deployed contract, and the receipt of its creation.

        Raises:
            ChainError: the constructor refuses. NodeError: as ``transact``.
        """
        receipt, address = self._send(None, creation_data(contract, args), sender, 0, contract)
        return replace(contract, address=to_checksum_address(address)), receipt

    def transact(
        self, contract: Contract, function: str, *args: Any, sender: str | None = None, value: int = 0
    ) -> TxReceipt:
        """Send a transaction and wait for its receipt.

        Raises:
            ChainError: it reverts; ``check`` is the contract's reason. NodeError: ``funds``, ``fee``:
                the account or its cap does not allow it. ``pending``: not mined for ``patience_s``.
                ``key``: of another account.
        """
        data = call_data(contract.entry(function), args)
        return self._send(contract.address, data, sender, value, contract)[0]

    def _finish_kept(self) -> None:
        """See to what was signed and has no receipt yet. Nothing else is signed before: it would be decided
        on a chain without the former, and be mined behind it."""
        if self.outbox is None:
            return
        self.check_same()
        for kept in self.outbox.waiting():
            self._delivery.finish(*kept)

    def _fees(self) -> tuple[int, int]:
        """Most wei for a unit of gas, and of it for the block's maker."""
        base = self._node.block("latest").get("baseFeePerGas")
        if base is None:
            raise NodeError("fee", "blocks without a base fee", "a chain with the fees of EIP-1559")
        try:
            tip = self._node.number("eth_maxPriorityFeePerGas")
        except RefusedError:
            tip = GWEI
        needed = quantity(base) * 9 // 8 + 1  # what the next block may ask for
        if needed > self._max_fee:
            raise NodeError("fee", f"{needed} wei for a unit of gas", f"at most {self._max_fee}")
        most = min(2 * quantity(base) + tip, self._max_fee)
        return most, min(tip, most)

    def _send(
        self, to: str | None, data: bytes, sender: str | None, value: int, contract: Contract | None
    ) -> tuple[TxReceipt, str]:
        sender = (sender or next(iter(self.accounts), "")).lower()
        key = self._keys.get(sender)
        if key is None:
            raise NodeError("key", f"none of account {sender or 'at all'}", "the key of who sends")
        self._finish_kept()
        about: dict[str, Any] = {"from": sender, "data": "0x" + data.hex(), "value": hex(value)}
        about |= {} if to is None else {"to": to}
        gas = GAS_LIMIT if self._moved else self._estimated(about)
        most, tip = self._fees()
        has, needs = self.balance(sender), value + gas * most
        if has < needs:
            raise NodeError("funds", f"{has} wei on {key.address}", f"{needs}: {value} to send and {gas} gas at most")
        fields: dict[str, Any] = {
            "type": 2,
            "chainId": self.id,
            "nonce": self._node.nonce(sender, "pending"),
            "gas": gas,
        }
        fields |= {"data": data, "value": value, "maxFeePerGas": most, "maxPriorityFeePerGas": tip}
        fields |= {} if to is None else {"to": to_checksum_address(to)}
        if self._moved:
            self._node.ask("evm_setNextBlockTimestamp", self.time)
            self._next = 0
        raw = self._delivery.deliver(key, fields)
        if quantity(raw.get("status")) != 1:
            raise self._reason(about, raw)
        events = tuple(found for log in raw.get("logs") or () if (found := event_in(record(log), contract)) is not None)
        block_time = self._node.time_of(raw.get("blockHash"))
        about_it = quantity(raw.get("gasUsed")), len(data), events, block_time, str(raw.get("transactionHash"))
        return TxReceipt(*about_it), str(raw.get("contractAddress") or "")

    def _estimated(self, about: Mapping[str, Any]) -> int:
        """The gas limit for a call: an estimate with room, under the cap of EIP-7825."""
        try:
            found = self._node.number("eth_estimateGas", about)
        except RefusedError as error:
            if "funds" in error.message.lower():
                raise NodeError("funds", error.message, "an account that can pay") from error
            raise error.as_chain_error from error
        if found > GAS_LIMIT:
            raise ChainError("gas", found, f"at most {GAS_LIMIT} (EIP-7825)")
        return min(found * 5 // 4 + 10_000, GAS_LIMIT)

    def _reason(self, about: Mapping[str, Any], receipt: Mapping[str, Any]) -> ChainError:
        """Why a mined transaction has failed: it is called again on its block."""
        try:
            self._called({**about, "gas": hex(GAS_LIMIT)}, hex(quantity(receipt.get("blockNumber"))))
        except ChainError as error:
            return error
        return ChainError("reverted", "no reason", "success")


def _inner(call: Mapping[str, Any], own: set[str]) -> Iterable[InnerCall]:
    """Calls of ``own`` contracts by others, in the order in which they were made."""
    if call.get("error"):
        return
    here = str(call.get("to")).lower()
    if here in own and call.get("type") == "CALL":
        yield _inner_call(call)
        return  # what they call of each other is part of it
    for each in call.get("calls") or ():
        yield from _inner(record(each), own)


def _inner_call(call: Mapping[str, Any]) -> InnerCall:
    """A transaction, or a call in a trace, as the call that it makes."""
    data, value = octets(call.get("input")), quantity(call.get("value") or "0x0")
    return InnerCall(str(call.get("from")), str(call.get("to")), data, value)


def event_in(log: Mapping[str, Any], contract: Contract | None) -> LogEntry | None:
    """The decoded log entry, if it is one of the contract's."""
    topics = log.get("topics")
    if not isinstance(topics, list):
        raise NodeError("rpc", f"a node that answers a log with topics {topics!r:.60}", "a list")
    words, data = ["0x" + octets(each).hex() for each in topics], "0x" + octets(log.get("data")).hex()
    try:
        return event_of(contract, words, data)
    except (ValueError, DecodingError) as error:
        raise NodeError("rpc", f"a node that answers a log ({one_line(error)})", "an event of its contract") from error
