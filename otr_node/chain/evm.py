"""A local EVM chain (py-evm under eth-tester): deploy contracts, transact, read receipts and logs.

It is the default of two chains of one form (``interface.AnyChain``); the other is a node by URL,
``rpc.RpcChain``, which encodes calls and reads events with the functions here.

Gas is what a receipt says (Prague rules, calldata floor of EIP-7623 included), never an estimate.
Accounts and block times are those of a test chain that starts at ``GENESIS_TIME``; nothing leaves
the process. The compiler and the chain take seconds to import, and are imported where they are
used.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from eth_abi import decode, encode
from eth_abi.exceptions import DecodingError, EncodingError
from eth_utils import keccak, to_checksum_address
from rlp import decode as decode_rlp
from trie import HexaryTrie

from otr_core.errors import ChainError, InputError
from otr_core.files import write_text
from otr_node.chain.interface import Contract, Entry, InnerCall, LogEntry, TxReceipt
from otr_node.project import find_project

GAS_LIMIT = 16_777_216
"""Most gas one transaction may use (EIP-7825)."""
GENESIS_TIME = 1_800_000_000
"""Unix seconds of the test chain's first block; a constant, so that runs repeat."""


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
    """Compile a Vyper source file; what it imports lies beside it.

    A process that starts again must not need half a minute for that: in a checkout the outcome is kept,
    under the hash of the compiler's version and of all sources beside it.

    Raises:
        ChainError: it does not compile; names the compiler's first line.
    """
    source = Path(path)
    text = source.read_text("utf-8")
    kept = _kept(source)
    if kept is not None and kept.is_file():
        with contextlib.suppress(ValueError, KeyError, TypeError):  # a file that was cut short is made again
            found = json.loads(kept.read_text("utf-8"))
            return Contract(tuple(found["abi"]), bytes.fromhex(found["bytecode"]), int(found["runtime_bytes"]))
    made = _compiled(text, str(path))
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        about = {"abi": made.abi, "bytecode": made.bytecode.hex(), "runtime_bytes": made.runtime_bytes}
        write_text(kept, json.dumps(about))
    return made


def _kept(source: Path) -> Path | None:
    """Where the compiled form of a source is kept; None where there is no checkout."""
    try:
        folder = find_project().build / "contracts"
    except InputError:
        return None
    beside = "".join(f"{each.name}\n{each.read_text('utf-8')}" for each in sorted(source.parent.glob("*.vy")))
    name = sha256(f"{version('vyper')}\n{source.name}\n{beside}".encode()).hexdigest()
    return folder / f"{name}.json"


def fresh_tester(accounts: int, wei: int) -> Any:
    """A fresh ``EthereumTester``, of which everything but the accounts' number and money is fixed."""
    from eth_tester import EthereumTester, PyEVMBackend

    genesis = PyEVMBackend.generate_genesis_params({"gas_limit": 60_000_000, "timestamp": GENESIS_TIME})
    phrase = "test test test test test test test test test test test junk"
    backend = PyEVMBackend.from_mnemonic(
        phrase, genesis_state_overrides={"balance": wei}, genesis_parameters=genesis, num_accounts=accounts
    )
    return EthereumTester(backend)


def storage_root_of(tester: Any, address: str) -> bytes:
    """Root of a contract's storage (32 bytes): of equal roots every stored word is equal."""
    chain = tester.backend.chain
    accounts = HexaryTrie(chain.chaindb.db, chain.get_canonical_head().state_root)
    return bytes(decode_rlp(accounts[keccak(hexstr=address)])[2])


class Chain:
    """A fresh test chain with funded accounts.

    Args:
        accounts: how many. wei: that each of them holds.

    Attributes:
        accounts: their addresses (checksummed hex).
        id: EIP-155 number of the chain, which is the same for every chain of this kind.
    """

    def __init__(self, accounts: int = 10, wei: int = 10**24) -> None:
        self._tester = fresh_tester(accounts, wei)
        self.accounts: tuple[str, ...] = tuple(self._tester.get_accounts())
        self.id = int(self._tester.backend.chain.chain_id)

    @property
    def time(self) -> int:
        """Unix seconds of the block that the next transaction lands in."""
        return int(self._tester.get_block_by_number("pending")["timestamp"])

    def travel(self, to: int) -> None:
        """Move the next block's time forward to ``to`` (Unix seconds)."""
        if to > self.time:
            self._tester.time_travel(to)

    def check_same(self) -> None:
        """It is: the chain lives and ends with this process."""

    def balance(self, address: str) -> int:
        """Wei held by ``address``."""
        return int(self._tester.get_balance(address))

    def next_address(self, sender: str, after: int = 0) -> str:
        """Where a contract will stand that ``sender`` deploys next, or ``after`` so many more
        transactions."""
        return created_address(sender, self._tester.get_nonce(sender) + after)

    def fund(self, address: str, value: int) -> None:
        """Give ``address`` an amount of wei, from the first account."""
        self._send({"to": address, "data": "0x", "value": value}, None, None)

    def deploy(self, contract: Contract, *args: Any, sender: str | None = None) -> tuple[Contract, TxReceipt]:
        """The deployed contract, and the receipt of its creation."""
        data = creation_data(contract, args)
        receipt, address = self._send({"data": "0x" + data.hex()}, sender, contract)
        return replace(contract, address=address), receipt

    def transact(
        self, contract: Contract, function: str, *args: Any, sender: str | None = None, value: int = 0
    ) -> TxReceipt:
        """Send a transaction and return its receipt.

        Raises:
            ChainError: it reverted; ``check`` is the contract's reason. State and money are as
                before, gas apart.
        """
        data = call_data(contract.entry(function), args)
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
        data, gas = call_data(contract.entry(function), args), GAS_LIMIT
        about = {"origin": caller, "gas_price": 0, "gas": gas, "to": to, "sender": caller, "value": value}
        done = vm.execute_bytecode(**about, data=data, code=state.get_code(to))
        state.revert(before)
        return revert_reason(done.output) if done.is_error else ""

    def runtime_of(self, contract: Contract, *args: Any, address: str, sender: str | None = None) -> bytes:
        """The code that deploying ``contract`` would leave at ``address``.

        Raises:
            ChainError: the constructor refuses.
        """
        vm = self._tester.backend.chain.get_vm()
        caller, to = bytes.fromhex((sender or self.accounts[0])[2:]), bytes.fromhex(address[2:])
        before, gas = vm.state.snapshot(), 2 * GAS_LIMIT
        about = {"origin": caller, "gas_price": 0, "gas": gas, "to": to, "sender": caller, "value": 0}
        done = vm.execute_bytecode(**about, data=b"", code=creation_data(contract, args))
        vm.state.revert(before)
        if done.is_error:
            raise ChainError(revert_reason(done.output), "a revert", "success")
        return bytes(done.output)

    def call(self, contract: Contract, function: str, *args: Any, sender: str | None = None) -> Any:
        """Value(s) that ``function`` returns, without a transaction.

        Raises:
            ChainError: it reverted; ``check`` is the contract's reason.
        """
        from eth_tester.exceptions import TransactionFailed

        entry = contract.entry(function)
        data = "0x" + call_data(entry, args).hex()
        try:
            raw = self._tester.call(
                {"from": sender or self.accounts[0], "to": contract.address, "gas": GAS_LIMIT, "data": data}
            )
        except TransactionFailed as error:
            raise _reverted(error) from error
        return returned(entry, bytes.fromhex(raw[2:]))

    @property
    def head(self) -> int:
        """Number of the latest block."""
        return int(self._tester.get_block_by_number("latest")["number"])

    def block_hash(self, number: int) -> str:
        """Hash of a block, hex; "" if there is none of this number."""
        from eth_tester.exceptions import BlockNotFound

        try:
            return str(self._tester.get_block_by_number(number)["hash"])
        except BlockNotFound:
            return ""

    def code(self, address: str) -> bytes:
        """The code at ``address``."""
        return bytes.fromhex(self._tester.get_code(address)[2:])

    def storage_root(self, address: str) -> bytes:
        """As ``storage_root_of``."""
        return storage_root_of(self._tester, address)

    def entries(self, contracts: Sequence[Contract], first: int, last: int) -> list[Entry]:
        """What ``contracts`` have logged in blocks ``first`` to ``last``, in order."""
        found: list[Entry] = []
        by_address = {contract.address.lower(): contract for contract in contracts}
        raw = self._tester.get_logs(from_block=first, to_block=last, address=list(by_address)) if first <= last else []
        for log in raw:
            entry = event_of(by_address[log["address"].lower()], log["topics"], log["data"])
            block = self._tester.get_block_by_number(log["block_number"])
            if entry is not None:
                found.append(Entry(block["number"], int(block["timestamp"]), log["transaction_hash"], entry))
        return found

    def calls(self, transaction: str, addresses: Sequence[str]) -> list[InnerCall]:
        """The calls of ``addresses`` that a transaction made. This chain keeps no trace of calls
        within calls."""
        raw = self._tester.get_transaction_by_hash(transaction)
        if str(raw["to"]).lower() not in {each.lower() for each in addresses}:
            return []
        return [InnerCall(raw["from"], raw["to"], bytes.fromhex(raw["data"][2:]), int(raw["value"]))]

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
        events = tuple(e for log in raw["logs"] if (e := event_of(contract, log["topics"], log["data"])) is not None)
        block_time = int(self._tester.get_block_by_number(raw["block_number"])["timestamp"])
        gas, where = int(raw["gas_used"]), raw["contract_address"] or ""
        return TxReceipt(gas, len(data), events, block_time, raw["transaction_hash"]), where


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


def creation_data(contract: Contract, args: Sequence[Any]) -> bytes:
    """What creates a contract with these constructor arguments.

    Raises:
        ChainError: check ``arguments``: the constructor takes others.
    """
    entry: Mapping[str, Any] = next((e for e in contract.abi if e["type"] == "constructor"), {"inputs": []})
    return contract.bytecode + _encode(entry["inputs"], args)


def call_data(entry: Mapping[str, Any], args: Sequence[Any]) -> bytes:
    """Calldata of a call of the function that an ABI entry describes.

    Raises:
        ChainError: check ``arguments``: it takes others.
    """
    return signature_hash(entry)[:4] + _encode(entry["inputs"], args)


def read_call(contract: Contract, data: bytes) -> tuple[str, dict[str, Any]] | None:
    """Name and arguments, by name, of a call of ``contract`` with this calldata; None: of no function
    of it, or not its arguments."""
    for entry in contract.abi:
        if entry["type"] == "function" and signature_hash(entry)[:4] == data[:4]:
            try:
                values = decode([_type(i) for i in entry["inputs"]], data[4:])
            except (DecodingError, OverflowError):
                return None
            return str(entry["name"]), dict(zip((i["name"] for i in entry["inputs"]), values, strict=True))
    return None


def returned(entry: Mapping[str, Any], raw: bytes) -> Any:
    """The value, or tuple of values, that a call of the described function has given back.

    Raises:
        ChainError: check ``abi``: other bytes, as from an address where no such contract stands.
    """
    try:
        values = decode([_type(o) for o in entry["outputs"]], raw)
    except DecodingError as error:
        raise ChainError("abi", f"{len(raw)} bytes from {entry['name']}", "what its contract returns") from error
    return values[0] if len(values) == 1 else values


def created_address(sender: str, nonce: int) -> str:
    """Where a contract stands that ``sender`` deploys as its transaction number ``nonce``."""
    number = nonce.to_bytes((nonce.bit_length() + 7) // 8, "big")
    # RLP of the pair (address, nonce): a number below 128 but 0 is its own byte.
    words = b"\x94" + bytes.fromhex(sender[2:]) + (number if 0 < nonce < 128 else bytes([128 + len(number)]) + number)
    return str(to_checksum_address(keccak(bytes([192 + len(words)]) + words)[12:]))


def signature_hash(entry: Mapping[str, Any]) -> bytes:
    """Keccak-256 of a function's or event's name and types, which names it in calldata and logs."""
    return bytes(keccak(text=f"{entry['name']}({','.join(_type(i) for i in entry['inputs'])})"))


def event_of(contract: Contract | None, topics: Sequence[str], data: str) -> LogEntry | None:
    """A log entry (words and bytes as hex with 0x) as an event of ``contract``; None if it is none."""
    for entry in contract.abi if contract else ():
        if entry["type"] != "event":
            continue
        if topics and topics[0] == "0x" + signature_hash(entry).hex():
            indexed = [i for i in entry["inputs"] if i["indexed"]]
            plain = [i for i in entry["inputs"] if not i["indexed"]]
            words = [bytes.fromhex(t[2:]) for t in topics[1:]]
            args = {i["name"]: decode([_type(i)], t)[0] for i, t in zip(indexed, words, strict=True)}
            values = decode([_type(i) for i in plain], bytes.fromhex(data[2:]))
            return LogEntry(str(entry["name"]), args | dict(zip((i["name"] for i in plain), values, strict=True)))
    return None


def revert_reason(output: bytes) -> str:
    """The reason in the output of a call that reverted: Solidity's Error(string)."""
    try:
        text = decode(["string"], output[4:])[0] if output[:4] == bytes.fromhex("08c379a0") else ""
    except (ValueError, DecodingError):  # whoever reverts chooses the bytes
        text = ""
    return str(text) or "reverted"


def _reverted(error: Exception) -> ChainError:
    """The contract's reason out of eth-tester's exception."""
    text = (str(error.args[0]) if error.args else str(error)).removeprefix("execution reverted: ").strip()
    return ChainError("reverted" if text in ("", "b''") else text, "a revert", "success")
