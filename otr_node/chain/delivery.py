"""A signed transaction is brought to a node until its receipt stands.

It is sent again where the node forgets it, with higher fees where it waits, and by the next process
where this one is killed. Whichever of them is mined, it is one transaction: all have one number.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from eth_account.signers.local import LocalAccount
from eth_utils import keccak

from otr_core.errors import ChainError, NodeError
from otr_node.chain.node import RefusedError, RpcNode, quantity, record
from otr_node.chain.outbox import Outbox

GWEI = 10**9
_LOOKS = 5
"""So often in a row a number is seen to be taken without a receipt of ours before another's transaction has it: a node
under load tells that the number has moved a moment before it finds the receipt."""
_KNOWN = ("already known", "already imported", "known transaction", "nonce too low", "replacement")


@dataclass
class Delivery:
    """How transactions are brought to one node.

    Attributes:
        node, outbox, confirmations, max_fee_wei, patience_s, poll_s: as ``RpcChain`` has them.
        sent_again: how often a transaction had to be.
    """

    node: RpcNode
    outbox: Outbox | None
    confirmations: int
    max_fee_wei: int
    patience_s: float
    poll_s: float
    sent_again: int = field(default=0, init=False)
    _passed: int = field(default=0, init=False)

    def deliver(self, key: LocalAccount, fields: dict[str, Any]) -> Mapping[str, Any]:
        """Sign and send a transaction until a receipt stands, and give that.

        Args:
            fields: of the transaction, as EIP-1559 names them.

        Raises:
            NodeError: ``pending``: none does for ``patience_s``. ``funds``: the account cannot pay.
            ChainError: the node refuses it; ``nonce``: another of its number was mined.
        """
        end, bump = time.monotonic() + self.patience_s, time.monotonic() + self.patience_s / 3
        sender, nonce, signed = key.address.lower(), fields["nonce"], list[bytes]()
        self._passed = 0
        while True:
            raw = bytes(key.sign_transaction(fields).raw_transaction)
            signed.append(raw)
            if self.outbox is not None:
                self.outbox.put(sender, nonce, raw, str(self.node.block("latest").get("hash") or ""))
            while time.monotonic() < (end if len(signed) > 1 else bump):
                receipt = self._stands(key.address, nonce, signed)
                if receipt is not None:
                    if self.outbox is not None:
                        self.outbox.done(sender, nonce)
                    return receipt
                time.sleep(self.poll_s)
            if time.monotonic() >= end:
                raise NodeError("pending", f"no receipt for {self.patience_s:.0f} s", "a mined transaction")
            dearer = {name: fields[name] * 5 // 4 + 1 for name in ("maxFeePerGas", "maxPriorityFeePerGas")}
            if dearer["maxFeePerGas"] > self.max_fee_wei:
                bump = end
                continue
            fields = fields | dearer

    def finish(self, sender: str, nonce: int, raw: bytes) -> None:
        """A transaction that an earlier process has kept: wait for it, or see that its number is
        taken.

        Raises:
            NodeError: ``pending``: neither comes for ``patience_s``; or it cannot come now, because the
                chain lacks the block that it was signed behind and numbers before its own.
        """
        assert self.outbox is not None
        end, kept = time.monotonic() + self.patience_s, f"transaction {nonce} of {sender}, kept in {self.outbox.path}"
        while time.monotonic() < end:
            stands = self.node.nonce(sender)
            if self._receipt(raw) or stands > nonce:
                self.outbox.done(sender, nonce)
                return
            behind = self.outbox.behind(raw)
            if stands < nonce and behind and self.node.ask("eth_getBlockByHash", behind, False) is None:
                # Nothing is forgotten: a node that is behind, or blocks that were taken back, look the same.
                raise NodeError(
                    "pending",
                    f"{kept}, signed behind block {behind[:10]}…, which this chain lacks, as it does number {stands}",
                    "the chain of then: try again if its node is behind; if it was made anew, delete the file",
                )
            self._push(raw)
            time.sleep(self.poll_s)
        raise NodeError("pending", f"no receipt for {self.patience_s:.0f} s of {kept}", "a mined transaction")

    def _receipt(self, raw: bytes) -> Mapping[str, Any]:
        """The receipt of a signed transaction; nothing while there is none."""
        return record(self.node.ask("eth_getTransactionReceipt", hash_of(raw)) or {})

    def _stands(self, sender: str, nonce: int, signed: Sequence[bytes]) -> Mapping[str, Any] | None:
        """The receipt of one of these transactions of the same number, if it is deep enough."""
        for raw in signed:
            receipt = self._receipt(raw)
            if receipt:
                block = quantity(receipt.get("blockNumber"))
                deep = self.node.head() - block >= self.confirmations
                same = deep and self.node.block_hash(block) == receipt.get("blockHash")
                return receipt if same else None
        if self.node.ask("eth_getTransactionByHash", hash_of(signed[-1])) is None:
            self._push(signed[-1])
            self.sent_again += 1
            passed = self.node.nonce(sender) > nonce and not any(map(self._receipt, signed))
            self._passed = self._passed + 1 if passed else 0
            if self._passed == _LOOKS:
                raise ChainError("nonce", f"another transaction of number {nonce} was mined", "this one")
        return None

    def _push(self, raw: bytes) -> None:
        """Hand a signed transaction to the node; that it has it already is no failure."""
        try:
            self.node.ask("eth_sendRawTransaction", "0x" + raw.hex())
        except RefusedError as error:
            said = error.message.lower()
            if "funds" in said:
                raise NodeError("funds", error.message, "an account that can pay") from error
            if not any(each in said for each in _KNOWN):
                raise error.as_chain_error from error


def hash_of(raw: bytes) -> str:
    """What a signed transaction is known by, hex."""
    return "0x" + keccak(raw).hex()
