"""A local EVM chain (py-evm under eth-tester): deploy contracts, transact, read receipts.

Gas is what a receipt says (Prague rules, calldata floor of EIP-7623 included), never an estimate.
Accounts and block times are those of a test chain that starts at ``GENESIS_TIME``; nothing leaves
the process. The compiler and the chain take seconds to import, and are imported where they are
used.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_abi import decode, encode
from eth_abi.exceptions import EncodingError
from eth_utils import keccak, to_checksum_address

from otr_core.errors import ChainError

GAS_LIMIT = 16_777_216
"""Most gas one transaction may use (EIP-7825)."""
GENESIS_TIME = 1_800_000_000
"""Unix seconds of the test chain's first block; a constant, so that runs repeat."""


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
            seconds.
    """

    gas: int
    calldata_bytes: int
    events: tuple[LogEntry, ...]
    block_time: int


@functools.lru_cache(maxsize=16)
def _compiled(source: str, path: str) -> Contract:
    from vyper import compile_code
    from vyper.compiler.input_bundle import FilesystemInputBundle
    from vyper.exceptions import VyperException

    beside, formats = FilesystemInputBundle([Path(path).parent]), ["abi", "bytecode", "bytecode_runtime"]
    try:
        out = compile_code(source, contract_path=path, input_bundle=beside, output_formats=formats)
    except VyperException as error:
        raise ChainError("compile", str(error).splitlines()[0], "a contract that compiles") from error
    runtime = len(bytes.fromhex(out["bytecode_runtime"][2:]))
    return Contract(tuple(out["abi"]), bytes.fromhex(out["bytecode"][2:]), runtime)


def compile_source(source: str, path: str) -> Contract:
    """Compile a Vyper source as if it stood at ``path``.

    Raises:
        ChainError: as ``compile_vyper``.
    """
    return _compiled(source, path)


def compile_vyper(path: Path | str) -> Contract:
    """Compile a Vyper source file (cached by its text); what it imports lies beside it.

    Raises:
        ChainError: it does not compile; names the compiler's first line.
    """
    return _compiled(Path(path).read_text("utf-8"), str(path))


class Chain:
    """A fresh test chain with funded accounts.

    Args:
        accounts: how many. wei: that each of them holds.

    Attributes:
        accounts: their addresses (checksummed hex).
        id: EIP-155 number of the chain, which is the same for every chain of this kind.
    """

    def __init__(self, accounts: int = 10, wei: int = 10**24) -> None:
        from eth_tester import EthereumTester, PyEVMBackend

        genesis = PyEVMBackend.generate_genesis_params({"gas_limit": 60_000_000, "timestamp": GENESIS_TIME})
        phrase = "test test test test test test test test test test test junk"
        backend = PyEVMBackend.from_mnemonic(
            phrase, genesis_state_overrides={"balance": wei}, genesis_parameters=genesis, num_accounts=accounts
        )
        self._tester = EthereumTester(backend)
        self.accounts: tuple[str, ...] = tuple(self._tester.get_accounts())
        self.id = int(backend.chain.chain_id)

    @property
    def time(self) -> int:
        """Unix seconds of the block that the next transaction lands in."""
        return int(self._tester.get_block_by_number("pending")["timestamp"])

    def travel(self, to: int) -> None:
        """Move the next block's time forward to ``to`` (Unix seconds)."""
        if to > self.time:
            self._tester.time_travel(to)

    def balance(self, address: str) -> int:
        """Wei held by ``address``."""
        return int(self._tester.get_balance(address))

    def next_address(self, sender: str, after: int = 0) -> str:
        """Where a contract will stand that ``sender`` deploys next, or ``after`` so many more
        transactions."""
        nonce = self._tester.get_nonce(sender) + after
        number = nonce.to_bytes((nonce.bit_length() + 7) // 8, "big")
        # RLP of the pair (address, nonce): a number below 128 but 0 is its own byte.
        words = (
            b"\x94" + bytes.fromhex(sender[2:]) + (number if 0 < nonce < 128 else bytes([128 + len(number)]) + number)
        )
        return str(to_checksum_address(keccak(bytes([192 + len(words)]) + words)[12:]))

    def fund(self, address: str, value: int) -> None:
        """Give ``address`` an amount of wei, from the first account."""
        self._send({"to": address, "data": "0x", "value": value}, None, None)

    def deploy(self, contract: Contract, *args: Any, sender: str | None = None) -> tuple[Contract, TxReceipt]:
        """The deployed contract, and the receipt of its creation."""
        entry: Mapping[str, Any] = next((e for e in contract.abi if e["type"] == "constructor"), {"inputs": []})
        data = contract.bytecode + _encode(entry["inputs"], args)
        receipt, address = self._send({"data": "0x" + data.hex()}, sender, contract)
        return Contract(contract.abi, contract.bytecode, contract.runtime_bytes, address), receipt

    def transact(
        self, contract: Contract, function: str, *args: Any, sender: str | None = None, value: int = 0
    ) -> TxReceipt:
        """Send a transaction and return its receipt.

        Raises:
            ChainError: it reverted; ``check`` is the contract's reason. State and money are as
                before, gas apart.
        """
        data = _call_data(contract.entry(function), args)
        return self.transact_raw(contract.address, data, contract=contract, sender=sender, value=value)

    def transact_raw(
        self, to: str, data: bytes, *, contract: Contract | None = None, sender: str | None = None, value: int = 0
    ) -> TxReceipt:
        """``transact`` with calldata made elsewhere."""
        receipt, _ = self._send({"to": to, "data": "0x" + data.hex(), "value": value}, sender, contract)
        return receipt

    def reason_with(
        self,
        codes: Mapping[str, bytes],
        contract: Contract,
        function: str,
        *args: Any,
        sender: str | None = None,
        value: int = 0,
    ) -> str:
        """Why a call would revert now, if other code stood at some addresses; "" if it would not. It
        is a plain message call, no transaction: gas and fees are no part of it, and nothing stays.

        Args:
            codes: by address.
        """
        vm = self._tester.backend.chain.get_vm()
        state, to = vm.state, bytes.fromhex(contract.address[2:])
        before, caller = state.snapshot(), bytes.fromhex((sender or self.accounts[0])[2:])
        for address, code in codes.items():
            state.set_code(bytes.fromhex(address[2:]), code)
        state.delta_balance(to, value)
        data, gas = _call_data(contract.entry(function), args), GAS_LIMIT
        about = {"origin": caller, "gas_price": 0, "gas": gas, "to": to, "sender": caller, "value": value}
        done = vm.execute_bytecode(**about, data=data, code=state.get_code(to))
        state.revert(before)
        return _said(done.output) if done.is_error else ""

    def runtime_of(self, contract: Contract, *args: Any, address: str, sender: str | None = None) -> bytes:
        """The code that deploying ``contract`` would leave at ``address``.

        Raises:
            ChainError: the constructor refuses.
        """
        vm = self._tester.backend.chain.get_vm()
        entry: Mapping[str, Any] = next((e for e in contract.abi if e["type"] == "constructor"), {"inputs": []})
        caller, to = bytes.fromhex((sender or self.accounts[0])[2:]), bytes.fromhex(address[2:])
        before, gas = vm.state.snapshot(), 2 * GAS_LIMIT
        about = {"origin": caller, "gas_price": 0, "gas": gas, "to": to, "sender": caller, "value": 0}
        done = vm.execute_bytecode(**about, data=b"", code=contract.bytecode + _encode(entry["inputs"], args))
        vm.state.revert(before)
        if done.is_error:
            raise ChainError(_said(done.output), "a revert", "success")
        return bytes(done.output)

    def call(self, contract: Contract, function: str, *args: Any, sender: str | None = None) -> Any:
        """Value(s) that ``function`` returns, without a transaction.

        Raises:
            ChainError: it reverted; ``check`` is the contract's reason.
        """
        from eth_tester.exceptions import TransactionFailed

        entry = contract.entry(function)
        data = "0x" + _call_data(entry, args).hex()
        try:
            raw = self._tester.call(
                {"from": sender or self.accounts[0], "to": contract.address, "gas": GAS_LIMIT, "data": data}
            )
        except TransactionFailed as error:
            raise _reverted(error) from error
        values = decode([_type(o) for o in entry["outputs"]], bytes.fromhex(raw[2:]))
        return values[0] if len(values) == 1 else values

    def _reason(self, transaction: Mapping[str, Any]) -> ChainError:
        """Why a transaction just failed: it is run again on its block, whose state it left
        alone."""
        from eth_tester.exceptions import TransactionFailed

        try:
            self._tester.call({k: v for k, v in transaction.items() if "fee" not in k}, "latest")
        except TransactionFailed as error:
            return _reverted(error)
        return ChainError("reverted", "no reason", "success")

    def _send(
        self, transaction: dict[str, Any], sender: str | None, contract: Contract | None
    ) -> tuple[TxReceipt, str]:
        from eth_tester.exceptions import ValidationError

        data = bytes.fromhex(transaction["data"][2:])
        fees = {"max_fee_per_gas": 10**9, "max_priority_fee_per_gas": 0}
        full = {"from": sender or self.accounts[0], "gas": GAS_LIMIT, "value": 0, **fees, **transaction}
        try:
            raw = self._tester.get_transaction_receipt(self._tester.send_transaction(full))
        except ValidationError as error:
            raise ChainError("transaction", str(error), "a valid transaction") from error
        if raw["status"] != 1:
            raise self._reason(full)
        events = tuple(e for log in raw["logs"] if (e := _event(contract, log)) is not None)
        block_time = int(self._tester.get_block_by_number(raw["block_number"])["timestamp"])
        return TxReceipt(int(raw["gas_used"]), len(data), events, block_time), raw["contract_address"] or ""


def _type(entry: Mapping[str, Any]) -> str:
    """ABI type string; a tuple becomes (…) with its components."""
    kind = str(entry["type"])
    if kind.startswith("tuple"):
        return f"({','.join(_type(c) for c in entry['components'])}){kind[5:]}"
    return kind


def _encode(inputs: Sequence[Mapping[str, Any]], args: Sequence[Any]) -> bytes:
    try:
        return bytes(encode([_type(i) for i in inputs], args))
    except (EncodingError, ValueError) as error:  # ValueError: wrong number of arguments
        raise ChainError("arguments", str(error), f"{[_type(i) for i in inputs]}") from error


def _call_data(entry: Mapping[str, Any], args: Sequence[Any]) -> bytes:
    return _signature_hash(entry)[:4] + _encode(entry["inputs"], args)


def _signature_hash(entry: Mapping[str, Any]) -> bytes:
    """Keccak-256 of a function's or event's name and types, which names it in calldata and logs."""
    return bytes(keccak(text=f"{entry['name']}({','.join(_type(i) for i in entry['inputs'])})"))


def _event(contract: Contract | None, log: Mapping[str, Any]) -> LogEntry | None:
    """A log entry as an event of ``contract``; None if it is none of its events."""
    for entry in contract.abi if contract else ():
        if entry["type"] != "event":
            continue
        if log["topics"] and log["topics"][0] == "0x" + _signature_hash(entry).hex():
            indexed = [i for i in entry["inputs"] if i["indexed"]]
            plain = [i for i in entry["inputs"] if not i["indexed"]]
            topics = [bytes.fromhex(t[2:]) for t in log["topics"][1:]]
            args = {i["name"]: decode([_type(i)], t)[0] for i, t in zip(indexed, topics, strict=True)}
            values = decode([_type(i) for i in plain], bytes.fromhex(log["data"][2:]))
            return LogEntry(str(entry["name"]), args | dict(zip((i["name"] for i in plain), values, strict=True)))
    return None


def _said(output: bytes) -> str:
    """The reason in the output of a call that reverted: Solidity's Error(string)."""
    text = decode(["string"], output[4:])[0] if output[:4] == bytes.fromhex("08c379a0") else ""
    return str(text) or "reverted"


def _reverted(error: Exception) -> ChainError:
    """The contract's reason out of eth-tester's exception."""
    text = (str(error.args[0]) if error.args else str(error)).removeprefix("execution reverted: ").strip()
    return ChainError("reverted" if text in ("", "b''") else text, "a revert", "success")
