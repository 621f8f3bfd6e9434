"""The contract that judges one block of a tensor core, on a local EVM."""

from __future__ import annotations

from collections.abc import Sequence

from otr_node.chain.evm import Chain, compile_vyper
from otr_node.chain.interface import Contract, TxReceipt
from otr_node.chain.onchain import FOLDER

SOURCE = FOLDER / "blocks.vy"


class BlockJudge:
    """``blocks.vy``, deployed.

    Attributes:
        contract: as deployed. deployment: what that cost.
    """

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self.contract: Contract
        self.deployment: TxReceipt
        self.contract, self.deployment = chain.deploy(compile_vyper(SOURCE))

    def result(self, a: Sequence[int], b: Sequence[int], c: int) -> int:
        """What the contract makes of bf16 words (16,) each and a fp32 word."""
        return int(self._chain.call(self.contract, "result", packed_words(a), packed_words(b), c))

    def right(self, a: Sequence[int], b: Sequence[int], c: int, claimed: int) -> bool:
        """Whether it holds ``claimed`` for the result."""
        return bool(self._chain.call(self.contract, "right", packed_words(a), packed_words(b), c, claimed))

    def judge(self, a: Sequence[int], b: Sequence[int], c: int, claimed: int) -> TxReceipt:
        """``right`` as a transaction, for its gas."""
        return self._chain.transact(self.contract, "right", packed_words(a), packed_words(b), c, claimed)


def packed_words(words: Sequence[int]) -> int:
    """Words of 16 bits as the contract takes them: the first in the highest bits."""
    return int.from_bytes(b"".join(word.to_bytes(2, "big") for word in words), "big")
