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

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from eth_account.signers.local import LocalAccount
from eth_utils import keccak, to_checksum_address
from web3 import HTTPProvider
from web3.exceptions import Web3Exception

from otr_core.errors import ChainError, NodeError, one_line
from otr_node.chain.evm import (
    GAS_LIMIT,
    call_data,
    created_address,
    creation_data,
    event_of,
    returned,
    revert_reason,
)
from otr_node.chain.interface import Contract, Entry, InnerCall, TxReceipt
from otr_node.chain.outbox import Outbox

GWEI = 10**9
MOST_BLOCKS = 2_000
"""Blocks whose logs are asked for at once; public nodes refuse more, and some fewer."""
_KNOWN = ("already known", "already imported", "known transaction", "nonce too low", "replacement")


class _RefusedError(Exception):
    """The node has answered, with an error."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        data = error.get("data")
        data = data.get("data") if isinstance(data, dict) else data
        self.message = one_line(Exception(error.get("message", error)))
        self.output = bytes.fromhex(data[2:]) if isinstance(data, str) and data[:2] == "0x" else b""
        super().__init__(self.message)

    @property
    def reverted(self) -> bool:
        return bool(self.output) or "revert" in self.message.lower()

    @property
    def as_chain_error(self) -> ChainError:
        """The contract's reason, or the node's."""
        if not self.reverted:
            return ChainError("transaction", self.message, "a call that the node takes")
        said = revert_reason(self.output) if self.output else self.message.rpartition("reverted: ")[2]
        return ChainError(said if said and " " not in said else "reverted", f"a revert ({self.message})", "success")


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
        sent_again: how often a transaction had to be. outbox: as given.

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
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise NodeError("rpc", repr(url), "a URL such as http://127.0.0.1:8545")
        # A provider's URL often ends in a secret: no message shows it.
        self._shown = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
        how = {"timeout": min(patience_s, 30.0)}
        self._node = HTTPProvider(url, request_kwargs=how, exception_retry_configuration=None)
        self._keys = {key.address.lower(): key for key in keys}
        self.accounts: tuple[str, ...] = tuple(key.address for key in keys)
        self._moved, self._next = moved, 0
        self._confirmations, self._max_fee = confirmations, max_fee_wei
        self._patience, self._poll = patience_s, poll_s
        self._times: dict[str, int] = {}
        self.outbox = outbox
        self.sent_again = 0
        self.id = int(self._ask("eth_chainId", patience_s=min(patience_s, 5.0)), 16)
        if chain_id is not None and self.id != chain_id:
            raise NodeError("chain-id", self.id, chain_id)
        for kept in outbox.waiting() if outbox else ():
            self._finish(*kept)

    @property
    def secret(self) -> bytes:
        """32 bytes that only the owner of the first key has."""
        return bytes(next(iter(self._keys.values())).key)

    # --- questions

    def _ask(self, method: str, *params: Any, patience_s: float | None = None) -> Any:
        """One request, repeated while the node does not answer.

        Raises:
            NodeError: ``rpc``: it did not for ``patience_s``. _RefusedError: it has, with an error.
        """
        end, wait = time.monotonic() + (self._patience if patience_s is None else patience_s), 0.1
        while True:
            try:
                answer: Any = self._node.make_request(method, list(params))
                if isinstance(answer, dict) and "result" in answer:
                    return answer["result"]
                error = answer.get("error") if isinstance(answer, dict) else None
                if not isinstance(error, dict):
                    raise ValueError(f"{one_line(Exception(answer))}, no JSON-RPC answer")
                if error.get("code") != -32005 or time.monotonic() >= end:  # -32005: too many requests
                    raise _RefusedError(error)
            except (OSError, ValueError, Web3Exception) as error:
                if time.monotonic() >= end:
                    why = type(error).__name__
                    raise NodeError("rpc", f"no answer from {self._shown} ({why})", "a JSON-RPC node") from error
            time.sleep(max(0.0, min(wait, end - time.monotonic())))
            wait = min(2 * wait, 5.0)

    def _block(self, which: str) -> Mapping[str, Any]:
        found = self._ask("eth_getBlockByNumber", which, False)
        return found if isinstance(found, dict) else {}

    @property
    def time(self) -> int:
        """Unix seconds of the block that the next transaction lands in, or somewhat less."""
        if self._moved:
            return self._next or int(self._block("latest")["timestamp"], 16) + 1
        block = self._block("pending")
        return int((block if block.get("timestamp") else self._block("latest"))["timestamp"], 16)

    @property
    def head(self) -> int:
        """Number of the latest block."""
        return int(self._ask("eth_blockNumber"), 16)

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
            self._ask("evm_increaseTime", seconds)
            self._ask("evm_mine")
        except _RefusedError as error:
            raise NodeError("time", error.message, "a node whose clock can be moved") from error

    def block_hash(self, number: int) -> str:
        """Hash of a block, hex; "" if there is none of this number."""
        return str(self._block(hex(number)).get("hash") or "")

    def balance(self, address: str) -> int:
        """Wei held by ``address``."""
        return int(self._ask("eth_getBalance", address, "latest"), 16)

    def code(self, address: str) -> bytes:
        """The code at ``address``."""
        return bytes.fromhex(self._ask("eth_getCode", address, "latest")[2:])

    def next_address(self, sender: str, after: int = 0) -> str:
        """Where ``sender`` will deploy next, or ``after`` so many more transactions."""
        return created_address(sender, self._nonce(sender, "pending") + after)

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
            return bytes.fromhex(self._ask("eth_call", about, block)[2:])
        except _RefusedError as error:
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
                raw = self._ask("eth_getLogs", about)
            except _RefusedError as error:
                if span == 1:
                    raise NodeError("rpc", f"no logs ({error.message})", "those of one block") from error
                span = max(1, span // 4)
                continue
            for log in sorted(raw, key=lambda each: (int(each["blockNumber"], 16), int(each["logIndex"], 16))):
                entry = event_of(by_address.get(log["address"].lower()), log["topics"], log["data"])
                if entry is not None and not log.get("removed"):
                    where = int(log["blockNumber"], 16), self._time_of(log), log["transactionHash"]
                    found.append(Entry(*where, entry))
            first = end + 1
        return found

    def _time_of(self, log: Mapping[str, Any]) -> int:
        if log.get("blockTimestamp"):
            return int(log["blockTimestamp"], 16)
        place = log["blockHash"]
        if place not in self._times:
            self._times[place] = int(self._ask("eth_getBlockByHash", place, False)["timestamp"], 16)
        return self._times[place]

    def calls(self, transaction: str, addresses: Sequence[str]) -> list[InnerCall]:
        """The calls of ``addresses`` in a transaction, in order; what was undone left out.

        A call by an account is the transaction itself. For calls by other contracts the node has to
        trace: whoever plays by a contract could otherwise hide its moves from a watcher.

        Raises:
            NodeError: ``trace``: the node does not.
        """
        own = {each.lower() for each in addresses}
        raw = self._ask("eth_getTransactionByHash", transaction)
        if raw is None:
            return []
        if str(raw["to"]).lower() in own:
            return [InnerCall(raw["from"], raw["to"], bytes.fromhex(raw["input"][2:]), int(raw["value"], 16))]
        try:
            traced = self._ask("debug_traceTransaction", transaction, {"tracer": "callTracer"})
        except _RefusedError as error:
            raise NodeError("trace", error.message, f"the calls in transaction {transaction}") from error
        return list(_inner(traced, own))

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

    def _nonce(self, address: str, block: str = "latest") -> int:
        return int(self._ask("eth_getTransactionCount", address, block), 16)

    def _fees(self) -> tuple[int, int]:
        """Most wei for a unit of gas, and of it for the block's maker."""
        base = self._block("latest").get("baseFeePerGas")
        if base is None:
            raise NodeError("fee", "blocks without a base fee", "a chain with the fees of EIP-1559")
        try:
            tip = int(self._ask("eth_maxPriorityFeePerGas"), 16)
        except _RefusedError:
            tip = GWEI
        needed = int(base, 16) * 9 // 8 + 1  # what the next block may ask for
        if needed > self._max_fee:
            raise NodeError("fee", f"{needed} wei for a unit of gas", f"at most {self._max_fee}")
        most = min(2 * int(base, 16) + tip, self._max_fee)
        return most, min(tip, most)

    def _send(
        self, to: str | None, data: bytes, sender: str | None, value: int, contract: Contract | None
    ) -> tuple[TxReceipt, str]:
        sender = (sender or next(iter(self.accounts), "")).lower()
        key = self._keys.get(sender)
        if key is None:
            raise NodeError("key", f"none of account {sender or 'at all'}", "the key of who sends")
        about: dict[str, Any] = {"from": sender, "data": "0x" + data.hex(), "value": hex(value)}
        about |= {} if to is None else {"to": to}
        gas = GAS_LIMIT if self._moved else self._estimated(about)
        most, tip = self._fees()
        has, needs = self.balance(sender), value + gas * most
        if has < needs:
            raise NodeError("funds", f"{has} wei on {key.address}", f"{needs}: {value} to send and {gas} gas at most")
        fields: dict[str, Any] = {"type": 2, "chainId": self.id, "nonce": self._nonce(sender, "pending"), "gas": gas}
        fields |= {"data": data, "value": value, "maxFeePerGas": most, "maxPriorityFeePerGas": tip}
        fields |= {} if to is None else {"to": to_checksum_address(to)}
        if self._moved:
            self._ask("evm_setNextBlockTimestamp", self.time)
            self._next = 0
        raw = self._delivered(key, fields)
        if int(raw["status"], 16) != 1:
            raise self._reason(about, raw)
        events = tuple(
            found for log in raw["logs"] if (found := event_of(contract, log["topics"], log["data"])) is not None
        )
        block_time = int(self._ask("eth_getBlockByHash", raw["blockHash"], False)["timestamp"], 16)
        receipt = TxReceipt(int(raw["gasUsed"], 16), len(data), events, block_time, raw["transactionHash"])
        return receipt, raw.get("contractAddress") or ""

    def _estimated(self, about: Mapping[str, Any]) -> int:
        """The gas limit for a call: an estimate with room, under the cap of EIP-7825."""
        try:
            found = int(self._ask("eth_estimateGas", about), 16)
        except _RefusedError as error:
            if "funds" in error.message.lower():
                raise NodeError("funds", error.message, "an account that can pay") from error
            raise error.as_chain_error from error
        if found > GAS_LIMIT:
            raise ChainError("gas", found, f"at most {GAS_LIMIT} (EIP-7825)")
        return min(found * 5 // 4 + 10_000, GAS_LIMIT)

    def _reason(self, about: Mapping[str, Any], receipt: Mapping[str, Any]) -> ChainError:
        """Why a mined transaction has failed: it is called again on its block."""
        try:
            self._called({**about, "gas": hex(GAS_LIMIT)}, receipt["blockNumber"])
        except ChainError as error:
            return error
        return ChainError("reverted", "no reason", "success")

    def _delivered(self, key: LocalAccount, fields: dict[str, Any]) -> Mapping[str, Any]:
        """Send until a receipt stands: again where the node forgets, with higher fees where it
        waits."""
        end, bump = time.monotonic() + self._patience, time.monotonic() + self._patience / 3
        signed: list[bytes] = []
        while True:
            raw = bytes(key.sign_transaction(fields).raw_transaction)
            signed.append(raw)
            if self.outbox is not None:
                self.outbox.put(key.address.lower(), fields["nonce"], raw)
            while time.monotonic() < (end if len(signed) > 1 else bump):
                receipt = self._stands(key.address, fields["nonce"], signed)
                if receipt is not None:
                    if self.outbox is not None:
                        self.outbox.done(key.address.lower(), fields["nonce"])
                    return receipt
                time.sleep(self._poll)
            if time.monotonic() >= end:
                raise NodeError("pending", f"no receipt for {self._patience:.0f} s", "a mined transaction")
            dearer = {name: fields[name] * 5 // 4 + 1 for name in ("maxFeePerGas", "maxPriorityFeePerGas")}
            if dearer["maxFeePerGas"] > self._max_fee:
                bump = end
                continue
            fields = fields | dearer

    def _stands(self, sender: str, nonce: int, signed: Sequence[bytes]) -> Mapping[str, Any] | None:
        """The receipt of one of these transactions of the same number, if it is deep enough."""
        for raw in signed:
            receipt = self._ask("eth_getTransactionReceipt", hash_of(raw))
            if receipt:
                deep = self.head - int(receipt["blockNumber"], 16) >= self._confirmations
                same = deep and self.block_hash(int(receipt["blockNumber"], 16)) == receipt["blockHash"]
                return receipt if same else None
        if self._ask("eth_getTransactionByHash", hash_of(signed[-1])) is None:
            self.sent_again += self._push(signed[-1])
            if self._nonce(sender) > nonce and not any(
                self._ask("eth_getTransactionReceipt", hash_of(raw)) for raw in signed
            ):
                raise ChainError("nonce", f"another transaction of number {nonce} was mined", "this one")
        return None

    def _push(self, raw: bytes) -> bool:
        """Hand a signed transaction to the node; that it has it already is no failure."""
        try:
            self._ask("eth_sendRawTransaction", "0x" + raw.hex())
        except _RefusedError as error:
            said = error.message.lower()
            if "funds" in said:
                raise NodeError("funds", error.message, "an account that can pay") from error
            if not any(each in said for each in _KNOWN):
                raise error.as_chain_error from error
        return True

    def _finish(self, sender: str, nonce: int, raw: bytes) -> None:
        """A transaction that an earlier process has kept: wait for it, or see that its number is
        taken."""
        assert self.outbox is not None
        end = time.monotonic() + self._patience
        while time.monotonic() < end:
            if self._ask("eth_getTransactionReceipt", hash_of(raw)) or self._nonce(sender) > nonce:
                self.outbox.done(sender, nonce)
                return
            self._push(raw)
            time.sleep(self._poll)
        raise NodeError("pending", f"no receipt for {self._patience:.0f} s", "a mined transaction")


def hash_of(raw: bytes) -> str:
    """What a signed transaction is known by, hex."""
    return "0x" + keccak(raw).hex()


def _inner(call: Mapping[str, Any], own: set[str]) -> Iterable[InnerCall]:
    """Calls of ``own`` contracts by others, in the order in which they were made."""
    if call.get("error"):
        return
    here = str(call.get("to")).lower()
    if here in own and call.get("type") == "CALL":
        value = int(call.get("value") or "0x0", 16)
        yield InnerCall(call["from"], here, bytes.fromhex(call["input"][2:]), value)
        return  # what they call of each other is part of it
    for each in call.get("calls") or ():
        yield from _inner(each, own)
