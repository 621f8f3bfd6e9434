"""The same court as a contract on a local EVM: one transaction per call, the same reasons, and the gas of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

from otr_core.dispute import contracts
from otr_core.dispute.court import Court
from otr_core.dispute.game import Verdict
from otr_core.dispute.judge import Opening
from otr_core.dispute.openings import CommittedModel
from otr_core.dispute.records import Key, Terms
from otr_core.errors import ChainError, MoveError
from otr_core.lane.program import Dims
from otr_core.lane.step import TraceClaim
from otr_core.poea.receipt import Receipt, domain_separator, type_hash
from otr_node.chain.evm import Chain, Contract, TxReceipt, compile_vyper

FOLDER = Path(contracts.__file__).parent
NOBODY = "0x" + "00" * 20


@dataclass(frozen=True)
class Spent:
    """One transaction: what it was for, its gas, and the bytes of its calldata."""

    call: str
    gas: int
    calldata_bytes: int


@dataclass
class ChainCourt:
    """Deployed contracts, and a ledger of what every call cost.

    Attributes:
        registrar: the account that deploys and registers. arbiter: address of the arbiter's contract.
    """

    chain: Chain
    terms: Terms
    registrar: str
    arbiter: str = NOBODY
    ledger: list[Spent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.registry = self._deploy("registry", type_hash(), domain_separator())
        self.court = self._deploy("court", astuple(self.terms), self.registry.address, self.arbiter)
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
        judge = self._deploy("judge", dims_words(trees.dims), trees.weights_root, trees.tables_root)
        self.judges[model_id] = judge
        self._send(self.registrar, "register_model", model_id, judge.address, to=self.registry)

    def register_key(self, key_id: bytes, key: Key) -> None:
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
        self, now: int, sender: str, number: int, *, index: int, token: int, salt: bytes, receipt: Receipt,
        signature: bytes, path: Sequence[bytes],
    ) -> TxReceipt:  # fmt: skip
        """As ``Court.open``."""
        words = tuple(receipt.typed_values().values())
        return self.call(now, sender, "open", number, index, token, salt, words, signature, list(path))

    def move(self, now: int, sender: str, number: int, claim: TraceClaim, name: str, *args: Any) -> TxReceipt:
        """As ``Court.move``; ``claim`` is the game's, which the contract holds only the hash of."""
        return self.call(now, sender, name, number, *_arguments(claim, name, args))

    def arbitrate(self, now: int, sender: str, number: int, verdict: Verdict, proof: bytes) -> TxReceipt:
        return self.call(now, sender, "arbitrate", number, int(verdict), proof)

    def standing(self, court: Court, number: int) -> tuple[list[Any], list[Any]]:
        """What the contract and ``court`` each hold of a challenge, its batch, its operator and the money."""
        spot, node, clock = self.chain.call(self.court, "spot", number)
        challenge = court.challenges[number - 1]
        name = court.batches[challenge.batch].operator
        batch = self.chain.call(self.court, "batches", challenge.batch)
        operator = self.chain.call(self.court, "operators", name)
        names = sorted({*court.credits, name, challenge.challenger})
        theirs = [clock & 255, clock >> 8 & 1, *batch, *operator]
        theirs += [self.chain.call(self.court, "credits", who) for who in names]
        theirs += [self.chain.call(self.court, "burnt"), self.chain.balance(self.court.address)]
        b, o = court.batches[challenge.batch], court.operators[name]
        ours: list[Any] = [int(challenge.status), int(challenge.opened)]
        ours += [b.operator, b.root, b.size, b.time, b.payer or NOBODY, b.payment_wei, b.open_games, b.closed]
        ours += [o.stake_wei, o.exit_at, o.open_games, o.live_batches, o.convicted, o.convicted_batch]
        ours += [o.convicted_index, o.reward_wei, o.best_game, o.claims_until]
        ours += [court.credits.get(who, 0) for who in names] + [court.burnt_wei, court.held_wei]
        game = challenge.game
        if game is not None:
            theirs += [*spot, node, clock >> 16 & 2**64 - 1, clock >> 80 & 2**32 - 1, clock >> 112 & 2**32 - 1]
            ours += [int(game.level), int(game.turn), game.target, game.height, game.operator, game.index, game.size]
            ours += [game.leaf, game.piece, game.element, game.step, game.token_step, game.node, challenge.last_time]
            ours += challenge.left_s
        return theirs, ours


def dims_words(d: Dims) -> list[int]:
    """The judge's constructor argument."""
    return [
        d.hidden, d.intermediate, d.layers, d.heads, d.kv_heads, d.tile, d.vocab, d.context, d.epsilon, d.numerator,
        d.drop,
    ]  # fmt: skip


def _claim(claim: TraceClaim) -> tuple[Any, ...]:
    return (
        claim.states_root, claim.tokens_root, claim.seed_hash, claim.positions, claim.seed, claim.temperature_milli,
    )  # fmt: skip


def _openings(openings: Sequence[Opening]) -> list[tuple[bytes, list[bytes]]]:
    return [(opening.data, list(opening.proof)) for opening in openings]


def _arguments(claim: TraceClaim, name: str, args: Sequence[Any]) -> list[Any]:
    """A move's arguments as the contract takes them, with the claim where it needs it."""
    plain = [list(arg) if isinstance(arg, tuple) else arg for arg in args]
    if name == "show_roots":
        shown = (*args, claim.positions, claim.seed, claim.temperature_milli)
        return [shown]
    if name in ("expand_token", "expand_operator", "publish", "element", "accuse_salt"):
        return [_claim(claim), *plain]
    if name == "prove":
        return [_claim(claim), _openings(args[0])]
    return plain
