"""``Court`` as a contract on a local EVM: one transaction per call, the same reasons, and gas.

The contract's structs have the fields of the Python records in the same order, so that ``astuple``
is their encoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

from otr_core.dispute import contracts
from otr_core.dispute.court import Court
from otr_core.dispute.openings import CommittedModel
from otr_core.dispute.records import Terms
from otr_core.dispute.registry import Key
from otr_core.dispute.state import Verdict
from otr_core.dispute.words import judge_words
from otr_core.errors import ChainError, MoveError
from otr_core.lane.element import TraceClaim
from otr_core.poea.order import Domain, Order, type_hash, typed_words
from otr_core.poea.receipt import Receipt
from otr_node.chain.evm import Chain, Contract, TxReceipt, compile_vyper

FOLDER = Path(contracts.__file__).parent
NOBODY = "0x" + "00" * 20
"""The address of nobody: no payer, no arbiter."""
FIRST_COURT = Domain(131_277_322_940_537, bytes.fromhex("bcf7fffd8b256ec51a36782a52d0c34f6474d951"))
"""Domain of the first court on a fresh ``Chain``: all of them have the same number and accounts, so
that orders for a court can be made before it stands."""
#: Fields of a game in the order of the contract's ``Spot``.
SPOT = "level turn target height operator index size leaf piece element step token_step"


@dataclass(frozen=True)
class Spent:
    """One transaction: what it was for, its gas, and the bytes of its calldata."""

    call: str
    gas: int
    calldata_bytes: int


@dataclass
class ChainCourt:
    """Deployed contracts, and a ledger of what every call cost.

    A call that reverts raises ``MoveError`` with the contract's reason, as the same call of
    ``Court`` does.

    Attributes:
        registrar: the account that deploys and registers. arbiter: address of the arbiter's
            contract, or ``NOBODY``.
        ledger: every transaction so far. registry, court: the contracts. domain: of the court's
            orders and receipts. judges: by model id, one for each model.
    """

    chain: Chain
    terms: Terms
    registrar: str
    arbiter: str = NOBODY
    ledger: list[Spent] = field(default_factory=list)

    def __post_init__(self) -> None:
        types = type_hash("Order", Order.members), type_hash("Receipt", Receipt.members)
        self.registry = self._deploy("registry", *types)
        self.court = self._deploy("court", astuple(self.terms), self.registry.address, self.arbiter)
        self.domain = Domain(self.chain.id, bytes.fromhex(self.court.address[2:]))
        self.judges: dict[bytes, Contract] = {}

    def _deploy(self, name: str, *args: Any) -> Contract:
        contract, receipt = self.chain.deploy(compile_vyper(FOLDER / f"{name}.vy"), *args, sender=self.registrar)
        self.ledger.append(Spent(f"deploy {name}", receipt.gas, receipt.calldata_bytes))
        return contract

    def _at(self, now: int) -> None:
        if now < self.chain.time:
            raise MoveError("time", now, f"at least {self.chain.time}, the next block's")
        if now > self.chain.time:
            self.chain.travel(now)

    def _send(self, sender: str, call: str, *args: Any, value: int = 0, to: Contract | None = None) -> TxReceipt:
        try:
            receipt = self.chain.transact(to or self.court, call, *args, sender=sender, value=value)
        except ChainError as error:
            raise MoveError(error.check, "a revert", "success") from error
        self.ledger.append(Spent(call, receipt.gas, receipt.calldata_bytes))
        return receipt

    def register_model(self, model_id: bytes, trees: CommittedModel) -> None:
        """Deploy the judge of a model and register it."""
        judge = self._deploy("judge", judge_words(trees.dims), trees.weights_root, trees.tables_root)
        self.judges[model_id] = judge
        self._send(self.registrar, "register_model", model_id, judge.address, to=self.registry)

    def register_key(self, key_id: bytes, key: Key) -> None:
        """As ``Court.register_key``, by the registrar."""
        args = (key_id, key.operator, key.model_id, "0x" + key.address.hex())
        self._send(self.registrar, "register_key", *args, to=self.registry)

    def call(self, now: int, sender: str, name: str, *args: Any, value: int = 0) -> TxReceipt:
        """Any other function of the contract, at time ``now``.

        Raises:
            MoveError: it reverted, with the contract's reason.
        """
        self._at(now)
        return self._send(sender, name, *args, value=value)

    def open(
        self,
        now: int,
        sender: str,
        number: int,
        *,
        index: int,
        token: int,
        salt: bytes,
        order: Order,
        receipt: Receipt,
        signature: bytes,
        path: Sequence[bytes],
    ) -> TxReceipt:
        """As ``Court.open``."""
        shown = struct_words(order), struct_words(receipt), signature, list(path)
        return self.call(now, sender, "open", number, index, token, salt, *shown)

    def move(self, now: int, sender: str, number: int, claim: TraceClaim, name: str, *args: Any) -> TxReceipt:
        """As ``Court.move``. The contract keeps a hash of the game's claim only: the mover brings
        it."""
        return self.call(now, sender, name, number, *_arguments(claim, name, args))

    def arbitrate(self, now: int, sender: str, number: int, verdict: Verdict, proof: bytes) -> TxReceipt:
        """As ``Court.arbitrate``; anyone may bring the proof."""
        return self.call(now, sender, "arbitrate", number, int(verdict), proof)

    def standing(self, court: Court, number: int) -> tuple[list[Any], list[Any]]:
        """What the contract and ``court`` hold of a challenge, its batch, its operator and money.

        Two lists of the same values in the same order, where both agree.
        """

        def read(name: str, *args: Any) -> Any:
            return self.chain.call(self.court, name, *args)

        spot, node, clock = read("spot", number)
        challenge = court.challenges[number - 1]
        batch = court.batches[challenge.batch]
        names = sorted({*court.credits, batch.operator, challenge.challenger})
        # The contract packs status, opened, last time and both clocks into one word
        # (``_set_clock``).
        theirs = [clock & 255, clock >> 8 & 1, *read("batches", challenge.batch), *read("operators", batch.operator)]
        theirs += [*(read("credits", who) for who in names), read("burnt"), self.chain.balance(self.court.address)]
        ours: list[Any] = [int(challenge.status), int(challenge.opened)]
        ours += [*astuple(replace(batch, payer=batch.payer or NOBODY)), *astuple(court.operators[batch.operator])]
        ours += [*(court.credits.get(who, 0) for who in names), court.burnt_wei, court.held_wei]
        if challenge.game is not None:
            theirs += [*spot, node, clock >> 16 & 2**64 - 1, clock >> 80 & 2**32 - 1, clock >> 112 & 2**32 - 1]
            ours += [int(getattr(challenge.game, name)) for name in SPOT.split()]
            ours += [challenge.game.node, challenge.last_time, *challenge.left_s]
        return theirs, ours


def struct_words(value: Order | Receipt) -> tuple[bytes | int, ...]:
    """An order or a receipt as the contracts take it: the words of its typed data, counts as
    integers."""
    kinds = [kind for _, kind, _ in value.members]
    words = zip(kinds, typed_words(value), strict=True)
    return tuple(int.from_bytes(word, "big") if kind.startswith("uint") else word for kind, word in words)


def _arguments(claim: TraceClaim, name: str, args: Sequence[Any]) -> list[Any]:
    """A move's arguments as the contract takes them, with the claim where it needs it."""
    if name == "prove":
        return [astuple(claim), [(opening.data, list(opening.proof)) for opening in args[0]]]
    plain = [list(arg) if isinstance(arg, tuple) else arg for arg in args]
    with_claim = name in ("expand_token", "expand_operator", "publish", "element", "accuse_salt")
    return [astuple(claim), *plain] if with_claim else plain
