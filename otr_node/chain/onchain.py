"""``Court`` as a contract on a chain: one transaction per call, the same reasons, and gas.

The contract's structs have the fields of the Python records in the same order, so that ``astuple``
is their encoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

from eth_abi import encode
from eth_utils import keccak

from otr_core.dispute import contracts
from otr_core.dispute.court import Court
from otr_core.dispute.game import MOVES
from otr_core.dispute.openings import CommittedModel
from otr_core.dispute.records import ChallengeStatus, Terms
from otr_core.dispute.registry import NOTICE_S, Key
from otr_core.dispute.state import Verdict
from otr_core.dispute.words import judge_words, tensor_words
from otr_core.errors import ChainError, MoveError, NodeError
from otr_core.lane.tensor_program import TensorDims
from otr_core.poea.equivocation import Equivocation
from otr_core.poea.order import Domain, Order, type_hash, typed_words
from otr_core.poea.receipt import Receipt
from otr_node.chain.deployment import Deployment
from otr_node.chain.evm import compile_vyper
from otr_node.chain.interface import AnyChain, Contract, TxReceipt
from otr_node.chain.logs import FromLogs

TENSOR_JUDGE, STEP_JUDGES = "tensor_judge", ("blocks", "floats")
"""The judge of the lane h100-bf16, and the contracts that it asks, in the order of its arguments."""
FOLDER = Path(contracts.__file__).parent
NOBODY = "0x" + "00" * 20
"""The address of nobody: no payer, no arbiter."""
#: ABI types of the contract's structs, and what stands for a game that is over.
GAME = "(uint256,uint256,uint256,uint256,int256,bytes32,bytes32)"
REST = "(uint256,uint256,bytes32,bytes32,bytes32)"
CLAIM = "(bytes32,bytes32,bytes32,uint256,bytes32,uint256,uint256,bytes32,uint256,uint256,uint256)"
NO_CLAIM = (*[bytes(32)] * 3, 0, bytes(32), 0, 0, bytes(32), 0, 0, 0)
OVER = (1).to_bytes(32, "big")
FIRST_COURT = Domain(131_277_322_940_537, bytes.fromhex("bcf7fffd8b256ec51a36782a52d0c34f6474d951"))
"""Domain of the first court on a fresh ``Chain``: all of them have the same number and accounts, so
that orders for a court can be made before it stands."""
AT_TABLE = {*MOVES, "arbitrate", "timeout"}
"""Calls that the table takes; all others are the court's."""
AT_REGISTRY = {"revoke", "name_heir", "inherit"}
"""Calls that the registry takes."""
#: Fields of a game in the order of the contract's ``Spot``, and how far up each is packed.
SPOT = {
    **{"level": 0, "turn": 8, "target": 16, "height": 24, "operator": 32, "index": 40, "size": 72, "leaf": 104},
    **{"piece": 136, "element": 160, "step": 192},
}
#: What moves bring beside the game: what was committed to on the way down, and the claim.
BRINGS_REST = ("choose_last", "choose_kept", "choose_token", "expand_operator", "publish", "misquoted")
BRINGS_CLAIM = (
    *("reveal_seed", "dispute", "expand_layer", "expand_first", "show_given", "expand_token", "accuse_salt", "prove"),
    "arbitrate",
)


def deploy_arbiter(chain: AnyChain, first: str, second: str, sender: str | None = None) -> str:
    """The address of a contract that accepts what both keys have signed (``duties.two_keys``).

    Args:
        first, second: addresses. sender: who deploys it; None: the chain's first account.

    Raises:
        ChainError: ``keys``: it is one key twice.
    """
    return chain.deploy(compile_vyper(FOLDER / "arbiter.vy"), first, second, sender=sender)[0].address


def standing_contract(chain: AnyChain, source: Path, address: str, *args: Any) -> Contract:
    """A contract that stands at ``address``, compiled from a source here for these arguments.

    Raises:
        NodeError: ``contract``: other code stands there, or none.
    """
    contract = compile_vyper(source)
    expected, found = chain.runtime_of(contract, *args, address=address), chain.code(address)
    if found != expected:
        what = f"code of hash {keccak(found).hex()} for the {source.stem}" if found else "no code"
        said = f"{what} at {address}"
        raise NodeError("contract", said, f"{keccak(expected).hex()}, what these sources and terms make")
    return replace(contract, address=address)


@dataclass(frozen=True)
class Spent:
    """One transaction: what it was for, its gas, and the bytes of its calldata."""

    call: str
    gas: int
    calldata_bytes: int


@dataclass
class ChainCourt:
    """Deployed contracts, and a ledger of what every call cost.

    They are deployed when the object is made, unless ``stands`` says where they are.

    A call that reverts raises ``MoveError`` with the contract's reason, as the same call of
    ``Court`` does.

    Attributes:
        registrar: the account that deploys and registers. arbiter: address of the arbiter's
            contract, or ``NOBODY``. stands: a court that was deployed before.
        ledger: every transaction so far. registry, court, table: the contracts. block: at or before
            their deployment. domain: of the
            court's orders and receipts. judges: by model id, one for each model. step_judges: what is
            deployed here to judge blocks, and steps of fp32. logs: the state as the logs of all
            transactions here tell it, which are all there are on an embedded chain.

    Raises:
        NodeError: ``contract``: at the addresses of ``stands`` other code stands.
    """

    chain: AnyChain
    terms: Terms
    registrar: str
    arbiter: str = NOBODY
    stands: Deployment | None = None
    ledger: list[Spent] = field(default_factory=list)
    registry: Contract = field(init=False)
    court: Contract = field(init=False)
    table: Contract = field(init=False)
    block: int = field(init=False)
    judges: dict[bytes, Contract] = field(default_factory=dict, init=False)
    step_judges: dict[str, Contract] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if self.stands is None:
            self._deploy_all()
        else:
            self._attach(self.stands)
        # One transaction may log in several of them: each reads the events of all.
        events = tuple(e for c in (self.registry, self.court, self.table) for e in c.abi if e["type"] == "event")
        for name in ("registry", "court", "table"):
            own = getattr(self, name)
            calls = tuple(e for e in own.abi if e["type"] != "event")
            setattr(self, name, replace(own, abi=(*calls, *events)))
        self.logs = FromLogs(self.terms)
        self.domain = Domain(self.chain.id, bytes.fromhex(self.court.address[2:]))

    def _made_with(self, registry: str, court: str, table: str) -> dict[str, tuple[Any, ...]]:
        """What the contracts' constructors take."""
        types = type_hash("Order", Order.members), type_hash("Receipt", Receipt.members)
        clocks = self.terms.arity_bits, self.terms.clock_s, self.terms.increment_s
        return {
            "registry": (*types, self.terms.exit_s, NOTICE_S),
            "court": (astuple(self.terms), registry, table, self.arbiter),
            "table": (court, *clocks, self.arbiter),
        }

    def _deploy_all(self) -> None:
        # Court and table name each other for good: the table's address, which follows from who
        # deploys it as which transaction, is known before it stands.
        self.block = self.chain.head
        registry, court, table = (self.chain.next_address(self.registrar, number) for number in range(3))
        for name, args in self._made_with(registry, court, table).items():
            setattr(self, name, self._deploy(name, *args))

    def _attach(self, stands: Deployment) -> None:
        self.block = stands.block
        for name, args in self._made_with(stands.registry, stands.court, stands.table).items():
            setattr(self, name, standing_contract(self.chain, FOLDER / f"{name}.vy", getattr(stands, name), *args))

    def attach_judge(self, model_id: bytes, address: str, trees: CommittedModel) -> None:
        """Use the judge at ``address`` for a model that is known here.

        Raises:
            NodeError: ``contract``: it is not that model's.
        """
        name, args = judge_of(trees)
        if name == TENSOR_JUDGE:
            # The contracts that judge steps are where the judge says, which is part of its code.
            judge = replace(compile_vyper(FOLDER / f"{name}.vy"), address=address)
            if not self.chain.code(address):
                raise NodeError("contract", f"no code at {address}", f"a {name}")
            for step in STEP_JUDGES:
                try:
                    at = str(self.chain.call(judge, f"JUDGE_OF_{step.upper()}"))
                except ChainError as error:
                    raise NodeError("contract", f"code at {address} that names no {step}", f"a {name}") from error
                standing_contract(self.chain, FOLDER / f"{step}.vy", at)
                args = (*args, at)
        self.judges[model_id] = standing_contract(self.chain, FOLDER / f"{name}.vy", address, *args)

    @property
    def contracts(self) -> tuple[Contract, ...]:
        """Registry, court and table, each of which reads the events of all."""
        return self.registry, self.court, self.table

    @property
    def deployment(self) -> Deployment:
        """Where the contracts stand."""
        registry, court, table = (each.address for each in self.contracts)
        judges = dict(self.stands.judges) if self.stands else {}
        judges |= {model_id.hex(): judge.address for model_id, judge in self.judges.items()}
        people = self.registrar, self.arbiter
        return Deployment(self.chain.id, self.block, self.terms, *people, registry, court, table, judges)

    def _deploy(self, name: str, *args: Any) -> Contract:
        contract, receipt = self.chain.deploy(compile_vyper(FOLDER / f"{name}.vy"), *args, sender=self.registrar)
        self.ledger.append(Spent(f"deploy {name}", receipt.gas, receipt.calldata_bytes))
        return contract

    def _at(self, now: int | None) -> None:
        if now is None:
            return
        if now < self.chain.time:
            raise MoveError("time", now, f"at least {self.chain.time}, the next block's")
        if now > self.chain.time:
            self.chain.travel(now)

    def _send(self, sender: str, call: str, *args: Any, value: int = 0, to: Contract | None = None) -> TxReceipt:
        home = self.table if call in AT_TABLE else self.registry if call in AT_REGISTRY else self.court
        to = to or home
        try:
            receipt = self.chain.transact(to, call, *args, sender=sender, value=value)
        except ChainError as error:
            raise MoveError(error.check, "a revert", "success") from error
        self.ledger.append(Spent(call, receipt.gas, receipt.calldata_bytes))
        if self.stands is None:
            self.logs.read(receipt.events)
        return receipt

    def register_model(self, model_id: bytes, trees: CommittedModel) -> None:
        """Deploy the judge of a model and register it; once for all models of the lane h100-bf16 what
        judges its steps."""
        name, args = judge_of(trees)
        if name == TENSOR_JUDGE:
            for step in STEP_JUDGES:
                if step not in self.step_judges:
                    self.step_judges[step] = self._deploy(step)
            args = (*args, *(self.step_judges[step].address for step in STEP_JUDGES))
        judge = self._deploy(name, *args)
        self.judges[model_id] = judge
        self._send(self.registrar, "register_model", model_id, judge.address, to=self.registry)

    def register_key(self, key_id: bytes, key: Key) -> None:
        """As ``Court.register_key``, by the registrar."""
        args = (key_id, key.operator, key.model_id, "0x" + key.address.hex(), key.platform)
        self._send(self.registrar, "register_key", *args, to=self.registry)

    def call(self, now: int | None, sender: str, name: str, *args: Any, value: int = 0) -> TxReceipt:
        """Any other function of court, table or registry, at time ``now``; None: whenever it lands.

        Raises:
            MoveError: it reverted, with the contract's reason.
        """
        self._at(now)
        return self._send(sender, name, *args, value=value)

    def open(
        self,
        now: int | None,
        sender: str,
        number: int,
        *,
        batch: bytes,
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
        return self.call(now, sender, "open", number, batch, index, token, salt, *shown)

    def equivocation(
        self, now: int | None, sender: str, number: int, operator: str, evidence: Equivocation, salt: bytes
    ) -> TxReceipt:
        """As ``Court.equivocation``."""
        shown = [
            part for each in (evidence.first, evidence.second) for part in (struct_words(each.receipt), each.signature)
        ]
        return self.call(now, sender, "equivocation", number, operator, *shown, salt)

    def demand(
        self, now: int | None, sender: str, operator: str, receipt: Receipt, signature: bytes, *, value: int
    ) -> TxReceipt:
        """As ``Court.demand``."""
        return self.call(now, sender, "demand", operator, struct_words(receipt), signature, value=value)

    def move(self, now: int | None, sender: str, court: Court, number: int, name: str, *args: Any) -> TxReceipt:
        """As ``Court.move``, in the game as ``court`` has it.

        The contract keeps a hash of where a game stands: the mover brings it.
        """
        brought = self.standing_words(court, number)
        count = 3 if name in BRINGS_CLAIM else 2 if name in BRINGS_REST else 1
        return self.call(now, sender, name, number, *brought[:count], *_arguments(name, args))

    def timeout(self, now: int | None, sender: str, court: Court, number: int) -> TxReceipt:
        """As ``Court.timeout``, in the game as ``court`` has it."""
        return self.call(now, sender, "timeout", number, self.standing_words(court, number)[0])

    def arbitrate(
        self, now: int | None, sender: str, court: Court, number: int, verdict: Verdict, proof: bytes
    ) -> TxReceipt:
        """As ``Court.arbitrate``; anyone may bring the proof."""
        brought = self.standing_words(court, number)
        return self.call(now, sender, "arbitrate", number, *brought, int(verdict), proof)

    def standing_words(self, court: Court, number: int) -> tuple[tuple[Any, ...], ...]:
        """A game of ``court`` as the contract's ``Game``, ``Rest`` and ``Claim``."""
        challenge = court.challenges[number - 1] if 1 <= number <= len(court.challenges) else None
        if challenge is None or challenge.game is None:
            return (*[0] * 5, bytes(32), bytes(32)), (0, 0, *[bytes(32)] * 3), NO_CLAIM
        game = challenge.game
        claim = (*astuple(game.claim), game.model.dims.layers)
        model_id = next(own for own, model in court.models.items() if model == game.model)
        judge, milli = self.judges[model_id].address, game.claim.temperature_milli
        rest = int(judge, 16), milli, keccak(encode([CLAIM], [claim])), game.operators_root, game.kept
        spot = sum(int(getattr(game, name)) << up for name, up in SPOT.items()) | game.interval + 1 << 224
        clock = challenge.last_time | challenge.left_s[0] << 64 | challenge.left_s[1] << 96
        stands = (
            int(challenge.operator, 16),
            int(challenge.challenger, 16),
            spot,
            clock,
            game.value,
            game.node,
            keccak(encode([REST], [rest])),
        )
        return stands, rest, claim

    def standing(self, court: Court, number: int) -> tuple[list[Any], list[Any]]:
        """What the contract and ``court`` hold of a challenge, its operator, batches and money.

        Two lists of the same values in the same order, where both agree.
        """

        def read(name: str, *args: Any) -> Any:
            return self.chain.call(self.court, name, *args)

        kept = read("challenges", number)
        stored = self.chain.call(self.table, "games", number)
        challenge = court.challenges[number - 1]
        known = [challenge.operator] if challenge.operator else []
        names = sorted({*court.credits, *known, challenge.challenger})
        # The contract packs what changes together into one word; of an answer it knows the operator by the batch.
        state, subject, against, _ = kept
        if int(against, 16) == 0:
            against = _address(read("batches", subject)[0])
        theirs = [_address(state >> 96), against, state & 255, state >> 8 & 1, state >> 16 & 2**40 - 1]
        ours: list[Any] = [challenge.challenger, challenge.operator or NOBODY, int(challenge.status)]
        ours += [int(challenge.opened), challenge.time]
        theirs += [each for who in known for each in operator_fields(read("operators", who))]
        ours += [each for who in known for each in astuple(court.operators[who])]
        for batch, held in court.batches.items():
            place, root, platform, payment = read("batches", batch)
            size, time, closed = place >> 160 & 2**40 - 1, place >> 200 & 2**40 - 1, place >> 240 == 1
            theirs += [_address(place), root, size, time, platform, payment, closed]
            ours += astuple(held)
        theirs += [read("payments", *key) for key in court.payments]
        ours += court.payments.values()
        theirs += [*(read("credits", who) for who in names), read("burnt"), self.chain.balance(self.court.address)]
        ours += [*(court.credits.get(who, 0) for who in names), court.burnt_wei, court.held_wei]
        if challenge.game is not None:
            over = challenge.status != ChallengeStatus.OPEN
            theirs.append(stored)
            ours.append(OVER if over else keccak(encode([GAME], [self.standing_words(court, number)[0]])))
        return theirs, ours


def judge_of(trees: CommittedModel) -> tuple[str, tuple[Any, ...]]:
    """The contract that judges a model's disputes, by name, and what it is made with, but for the
    addresses of the contracts that judge steps."""
    about = trees.weights_root, trees.tables_root, list(trees.stop_ids)
    if isinstance(trees.dims, TensorDims):
        return TENSOR_JUDGE, (tensor_words(trees.dims), *about)
    return "judge", (judge_words(trees.dims), *about)


def operator_fields(words: Sequence[int]) -> tuple[int, ...]:
    """An operator as the court contract packs it, as the fields of ``StakedOperator``."""
    standing, in_flight, due = words
    stake, convicted_at, exit_at = standing & 2**96 - 1, standing >> 96 & 2**40 - 1, standing >> 136 & 2**40 - 1
    games = standing >> 176 & 2**24 - 1, standing >> 200 & 2**24 - 1, standing >> 224
    return stake, exit_at, *games, in_flight, convicted_at, due & 2**96 - 1, due >> 96 & 2**96 - 1, due >> 192


def _address(word: int) -> str:
    """The address in the lowest bits of a word."""
    return "0x" + (word & 2**160 - 1).to_bytes(20, "big").hex()


def struct_words(value: Order | Receipt) -> tuple[bytes | int, ...]:
    """An order or a receipt as the contracts take it: the words of its typed data, counts as
    integers."""
    kinds = [kind for _, kind, _ in value.members]
    words = zip(kinds, typed_words(value), strict=True)
    return tuple(int.from_bytes(word, "big") if kind.startswith("uint") else word for kind, word in words)


def _arguments(name: str, args: Sequence[Any]) -> list[Any]:
    """A move's arguments as the contract takes them."""
    if name == "prove":
        points, openings = args
        return [points, [(opening.data, list(opening.proof)) for opening in openings]]
    return [list(arg) if isinstance(arg, tuple) else arg for arg in args]
