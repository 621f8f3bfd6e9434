"""The embedded chain, asked as a node is: what stands behind the JSON-RPC door of ``door``.

It answers what ``RpcChain`` asks, and refuses the rest by name; above all it traces nothing. A block is
made for each transaction, and blocks and their hashes follow from the file of what was sent and when, so that
a node that was killed is the same again.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from eth_utils import ValidationError, keccak
from rlp.exceptions import RLPException

from otr_core.errors import InputError, NodeError, one_line, reported_as
from otr_core.files import read_input
from otr_node.chain.evm import GAS_LIMIT, created_address, fresh_tester, revert_reason
from otr_node.chain.node import octets, quantity, record

_NOBODY = bytes(20)
_NO_METHOD, _NO_PARAMETERS, _REFUSED, _REVERTED = -32601, -32602, -32000, 3


class RefusalError(Exception):
    """The door's answer is an error, as JSON-RPC has them.

    Attributes:
        error: ``code``, ``message``, and for a call that reverted ``data``.
    """

    def __init__(self, code: int, message: str, data: bytes | None = None) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message} | ({} if data is None else {"data": _hexed(data)})


class EmbeddedChain:
    """A test chain of which JSON-RPC is asked. Its accounts and its first block are those of ``evm.Chain``.

    Args:
        journal: file of what was sent, a JSON object a line; a chain goes on from it. None: kept nowhere.
        clock: Unix seconds; the chain's time goes on as it does, from its latest block on.

    Raises:
        InputError: the file is no journal of such a chain.
    """

    def __init__(self, journal: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        self.tester = fresh_tester(accounts=10, wei=10**24)
        self._chain: Any = self.tester.backend.chain
        self._journal, self._clock, self._lock = journal, clock, threading.Lock()
        self._blocks: list[dict[str, Any]] = []
        self._logs: list[dict[str, Any]] = []
        self._receipts: dict[str, dict[str, Any]] = {}
        self._transactions: dict[str, dict[str, Any]] = {}
        self._note(self._chain.get_canonical_block_by_number(0))
        kept = read_input(journal, what="a chain's journal", limit_bytes=2**30) if journal and journal.exists() else b""
        whole = kept[: kept.rfind(b"\n") + 1]  # whoever is killed as it writes leaves half a line
        with reported_as(
            InputError,
            f"{journal} cannot be used",
            ValueError,
            KeyError,
            TypeError,
            RefusalError,
            expected="its journal",
        ):
            for line in whole.splitlines():
                entry = json.loads(line)
                self._mine(int(entry["time"]), bytes.fromhex(entry["raw"]), keep=False)
        if journal is not None and whole != kept:
            os.truncate(journal, len(whole))
        self._shift, self._fixed = self._latest - self._clock(), 0

    # --- blocks

    @property
    def _latest(self) -> int:
        """Unix seconds of the latest block."""
        return quantity(self._blocks[-1]["timestamp"])

    @property
    def _next(self) -> int:
        """Unix seconds of the block that the next transaction lands in, if it comes now."""
        return self._fixed or max(self._latest + 1, int(self._clock() + self._shift))

    def _mine(self, moment: int, raw: bytes, *, keep: bool = True) -> None:
        """Make a block, with a signed transaction or (b"") with none, once that is kept."""
        before, done = self._chain.header, None
        try:
            self._chain.set_header_timestamp(moment)
            if raw:
                done = self._applied(raw)
            if keep and self._journal is not None:
                with self._journal.open("a") as file:
                    file.write(json.dumps({"time": moment, "raw": raw.hex()}) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
        except (OSError, RefusalError) as error:
            self._chain.header = before
            if isinstance(error, RefusalError):
                raise
            raise RefusalError(_REFUSED, f"the journal cannot be written ({error.strerror})") from error
        seed = keccak(before.block_number.to_bytes(8, "big"))  # where others draw: blocks are to repeat
        self._note(self._chain.mine_block(coinbase=_NOBODY, mix_hash=seed, blob_gas_used=0), done)
        self._fixed = 0

    def _applied(self, raw: bytes) -> tuple[Any, Any, Any]:
        """A signed transaction, its receipt, and what it did."""
        if raw[0] != 2:
            raise RefusalError(_REFUSED, "a transaction of another type than that of EIP-1559")
        try:
            sent = self._chain.get_transaction_builder().decode(raw)
            if sent.chain_id != self._chain.chain_id:  # which the machine below does not look at
                raise RefusalError(_REFUSED, f"invalid chain id {sent.chain_id}: this is {self._chain.chain_id}")
            stands = self._chain.get_vm().state.get_nonce(sent.sender)
            if sent.nonce != stands:
                raise RefusalError(_REFUSED, f"nonce too {'low' if sent.nonce < stands else 'high'}: next is {stands}")
            if sent.gas > GAS_LIMIT:
                raise RefusalError(_REFUSED, f"gas limit too high: at most {GAS_LIMIT} (EIP-7825)")
            _, receipt, done = self._chain.apply_transaction(sent)
        except (ValidationError, RLPException, ValueError) as error:
            raise _invalid(error) from error
        return sent, receipt, done

    def _note(self, block: Any, done: tuple[Any, Any, Any] | None = None) -> None:
        """Keep what is asked of a block and its transaction."""
        header, mark = block.header, _hexed(block.hash)
        where = {"blockNumber": hex(header.block_number), "blockHash": mark}
        names = [_hexed(done[0].hash)] if done else []
        self._blocks.append(
            {
                "number": where["blockNumber"],
                "hash": mark,
                "parentHash": _hexed(header.parent_hash),
                "stateRoot": _hexed(header.state_root),
                "timestamp": hex(header.timestamp),
                "gasLimit": hex(header.gas_limit),
                "gasUsed": hex(header.gas_used),
                "baseFeePerGas": hex(header.base_fee_per_gas),
                "transactions": names,
            }
        )
        if done is None:
            return
        sent, receipt, computation = done
        to = _hexed(sent.to) if sent.to else None
        base = {"from": _hexed(sent.sender), "to": to, "type": "0x2", "transactionIndex": "0x0", **where}
        made = created_address(_hexed(sent.sender), sent.nonce) if to is None and computation.is_success else None
        logs = [
            {
                "address": _hexed(log.address),
                "topics": [f"0x{topic:064x}" for topic in log.topics],
                "data": _hexed(log.data),
                "logIndex": hex(index),
                "removed": False,
                "transactionHash": names[0],
                "blockTimestamp": hex(header.timestamp),
                **where,
            }
            for index, log in enumerate(receipt.logs)
        ]
        self._logs += logs
        about = {"status": hex(int(computation.is_success)), "gasUsed": hex(receipt.gas_used), "logs": logs}
        self._receipts[names[0]] = {"transactionHash": names[0], "contractAddress": made, **base, **about}
        self._transactions[names[0]] = {
            "hash": names[0],
            "nonce": hex(sent.nonce),
            "gas": hex(sent.gas),
            "value": hex(sent.value),
            "input": _hexed(sent.data),
            **base,
        }

    # --- what is asked

    def answer(self, method: object, params: object) -> Any:
        """The result of one request.

        Raises:
            RefusalError: the chain, or a contract, refuses, or the request is none.
        """
        named = re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", method) if isinstance(method, str) else ""
        asked = getattr(self, f"_do_{named}", None)
        if asked is None:
            raise RefusalError(_NO_METHOD, f"{method!r:.60}: found no such method, expected one of RpcChain's")
        try:
            given = list(params) if isinstance(params, list) else []
            inspect.signature(asked).bind(*given)
        except TypeError as error:
            raise RefusalError(_NO_PARAMETERS, one_line(error)) from error
        try:
            with self._lock:
                return asked(*given)
        except (NodeError, ValueError) as error:
            raise RefusalError(_NO_PARAMETERS, one_line(error)) from error

    def _at(self, which: object) -> int:
        """Number of a block; that of ``pending`` is the next."""
        named = {"earliest": 0, "latest": len(self._blocks) - 1, "pending": len(self._blocks)}
        return named[which] if isinstance(which, str) and which in named else quantity(which)

    def _vm(self, which: object) -> Any:
        """The virtual machine behind a block, or in the one that is made next."""
        number = self._at(which)
        if number >= len(self._blocks):
            return self._chain.get_vm(self._chain.header.copy(timestamp=self._next))
        return self._chain.get_vm(self._chain.get_canonical_block_header_by_number(number))

    def _do_eth_chain_id(self) -> str:
        return hex(self._chain.chain_id)

    def _do_eth_block_number(self) -> str:
        return hex(len(self._blocks) - 1)

    def _do_eth_max_priority_fee_per_gas(self) -> str:
        return hex(10**9)

    def _do_eth_get_block_by_number(self, which: object, whole: object = False) -> dict[str, Any] | None:
        if which == "pending":
            last, number = self._blocks[-1], hex(len(self._blocks))
            about: dict[str, Any] = {"number": number, "parentHash": last["hash"], "timestamp": hex(self._next)}
            return last | about | {"hash": None, "transactions": []}
        at = self._at(which)
        return self._blocks[at] if at < len(self._blocks) else None

    def _do_eth_get_block_by_hash(self, mark: object, whole: object = False) -> dict[str, Any] | None:
        return next((each for each in reversed(self._blocks) if each["hash"] == mark), None)

    def _do_eth_get_transaction_by_hash(self, mark: object) -> dict[str, Any] | None:
        return self._transactions.get(str(mark))

    def _do_eth_get_transaction_receipt(self, mark: object) -> dict[str, Any] | None:
        return self._receipts.get(str(mark))

    def _do_eth_get_transaction_count(self, address: object, which: object = "latest") -> str:
        return hex(self._vm(which).state.get_nonce(_address(address)))

    def _do_eth_get_balance(self, address: object, which: object = "latest") -> str:
        return hex(self._vm(which).state.get_balance(_address(address)))

    def _do_eth_get_code(self, address: object, which: object = "latest") -> str:
        return _hexed(self._vm(which).state.get_code(_address(address)))

    def _do_eth_get_logs(self, about: object) -> list[dict[str, Any]]:
        asked = record(about)
        if asked.keys() - {"address", "fromBlock", "toBlock"}:
            raise RefusalError(_NO_PARAMETERS, f"{sorted(asked)}: expected address, fromBlock and toBlock alone")
        given = asked.get("address")
        own = {str(each).lower() for each in (given if isinstance(given, list) else [given])}
        first, last = (self._at(asked.get(name, "latest")) for name in ("fromBlock", "toBlock"))
        return [
            log
            for log in self._logs
            if first <= quantity(log["blockNumber"]) <= last and (given is None or log["address"] in own)
        ]

    def _do_eth_call(self, about: object, which: object = "latest") -> str:
        """A message call: no transaction, so that gas and fees are no part of it."""
        asked, vm = record(about), self._vm(which)
        caller, data, value = _call_of(asked)
        made = created_address(_hexed(caller), vm.state.get_nonce(caller))
        to = _address(asked.get("to") or made)
        vm.state.delta_balance(to, value)
        code, data = (vm.state.get_code(to), data) if asked.get("to") else (data, b"")
        gas = min(GAS_LIMIT, quantity(asked.get("gas") or hex(GAS_LIMIT)))
        about_it = {"origin": caller, "gas_price": 0, "gas": gas, "to": to, "sender": caller, "value": value}
        done = vm.execute_bytecode(**about_it, data=data, code=code)
        if done.is_error:
            raise _reverted(done)
        return _hexed(done.output)

    def _do_eth_estimate_gas(self, about: object, which: object = "pending") -> str:
        """Gas that the call was seen to do with: what it used, refunds left aside, and a 64th more as often
        as it needs, because a call within it is given no more than all but a 64th."""
        asked = record(about)
        vm, (sent, done) = self._tried(asked, GAS_LIMIT)
        found = vm.finalize_gas_used(sent, done) + done.get_gas_refund()
        while found < GAS_LIMIT and self._fails(asked, found):
            found = found * 65 // 64 + 1
        return hex(min(found, GAS_LIMIT))

    def _fails(self, asked: Mapping[str, Any], gas: int) -> bool:
        try:
            self._tried(asked, gas)
        except RefusalError:
            return True
        return False

    def _tried(self, asked: Mapping[str, Any], gas: int) -> tuple[Any, tuple[Any, Any]]:
        """What a call would do as a transaction in the next block, of which nothing stays."""
        from eth_tester.backends.pyevm.main import EVMSpoofTransaction

        vm, (caller, data, value) = self._vm("pending"), _call_of(asked)
        builder = self._chain.get_transaction_builder()
        fee, to = vm.state.base_fee, _address(asked["to"]) if asked.get("to") else b""
        about = {"chain_id": self._chain.chain_id, "nonce": vm.state.get_nonce(caller), "access_list": ()}
        about |= {"max_priority_fee_per_gas": 0, "max_fee_per_gas": fee, "gas": gas, "to": to}
        unsigned = builder.new_unsigned_dynamic_fee_transaction(**about, value=value, data=data)
        spoofed = EVMSpoofTransaction(unsigned, from_=caller)
        try:
            done = vm.state.apply_transaction(spoofed)
        except ValidationError as error:
            raise _invalid(error) from error
        if done.is_error:
            raise _reverted(done)
        return vm, (spoofed, done)

    def _do_eth_send_raw_transaction(self, raw: object) -> str:
        sent = octets(raw)
        if not sent:
            raise RefusalError(_REFUSED, "an empty transaction")
        mark = "0x" + keccak(sent).hex()
        if mark in self._transactions:
            raise RefusalError(_REFUSED, "already known")
        self._mine(self._next, sent)
        return mark

    # --- time, as nodes for tests let it be moved

    def _do_evm_increase_time(self, seconds: object) -> str:
        self._shift += _seconds(seconds)
        return hex(int(self._shift))

    def _do_evm_set_next_block_timestamp(self, moment: object) -> None:
        wanted = _seconds(moment)
        if wanted <= self._latest:
            raise RefusalError(_NO_PARAMETERS, f"time {wanted}: expected one after the latest block's, {self._latest}")
        self._fixed, self._shift = wanted, wanted - self._clock()

    def _do_evm_mine(self) -> str:
        self._mine(self._next, b"")
        return "0x0"


def _hexed(raw: bytes) -> str:
    return "0x" + raw.hex()


def _address(found: object) -> bytes:
    made = octets(found)
    if len(made) != 20:
        raise ValueError(f"{found!r:.60}: expected an address of 20 bytes")
    return made


def _seconds(found: object) -> int:
    made = found if type(found) is int else quantity(found)
    if not 0 <= made < 2**40:
        raise ValueError(f"{made}: expected seconds, fewer than 2^40")
    return made


def _call_of(asked: Mapping[str, Any]) -> tuple[bytes, bytes, int]:
    """Sender, data and value of a call."""
    sender = _address(asked["from"]) if asked.get("from") else _NOBODY
    return sender, octets(asked.get("data") or asked.get("input") or "0x"), quantity(asked.get("value") or "0x0")


def _reverted(done: Any) -> RefusalError:
    return RefusalError(_REVERTED, f"execution reverted: {revert_reason(done.output)}", bytes(done.output))


def _invalid(error: Exception) -> RefusalError:
    """What the chain says of a transaction, in the words that other nodes use."""
    said = one_line(error)
    poor = "enough balance" in said or "cannot afford" in said
    return RefusalError(_REFUSED, f"insufficient funds: {said}" if poor else said)
