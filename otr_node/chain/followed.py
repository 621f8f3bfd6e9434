"""Games and accounts of a court as its logs tell them: what whoever watches or plays goes by.

Logs say that a game was opened or moved, and by which transaction; what was shown is that
transaction's calldata. Both are replayed by the rules of ``otr_core.dispute``, so that a game here
is the very value that the honest strategy takes. A player keeps nothing else: after a restart, or
when the chain has changed its mind about the latest blocks, all is read again from the deployment
on.

A game can be followed where its model is at hand. Others show in the accounts alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from eth_utils import keccak

from otr_core.dispute.court import Court
from otr_core.dispute.duties import TWO_ANSWERS
from otr_core.dispute.game import MOVES, open_game
from otr_core.dispute.judge import Opening
from otr_core.dispute.players import Move
from otr_core.dispute.records import Batch, Challenge, ChallengeStatus, StakedOperator
from otr_core.dispute.registry import Key
from otr_core.dispute.state import RegisteredModel, Turn
from otr_core.errors import MoveError, NodeError
from otr_core.lane.formats import PORTABLE
from otr_core.lane.sampling import Decoding
from otr_core.lane.tensor_program import TensorDims
from otr_core.poea.order import Domain, Order
from otr_core.poea.receipt import FINISHES, Receipt
from otr_node.chain.evm import read_call
from otr_node.chain.interface import Entry, InnerCall
from otr_node.chain.logs import FromLogs
from otr_node.chain.onchain import ChainCourt

BROUGHT = ("game", "at", "rest", "claim")
"""Parameters of a move on chain that say where the game stands; the others are the move's own."""


@dataclass
class Followed:
    """A court as far as it was read.

    Attributes:
        chain: the court's contracts. models: registered models whose games can be followed, by id.
        court: of it the challenges, batches, operators, models and the last pause are kept; a
            challenge whose game is not followed has none. logs: accounts, to the wei.
        shown: the operator's last move, by number of the challenge. seeds: that were revealed in
            games. opened: order and receipt, by number. height, tip: number and hash of the last block
            read. times_over: how often all was read again because the chain had changed.
    """

    chain: ChainCourt
    models: Mapping[bytes, RegisteredModel]
    court: Court = field(init=False)
    logs: FromLogs = field(init=False)
    shown: dict[int, Move] = field(init=False)
    seeds: dict[int, bytes] = field(init=False)
    opened: dict[int, tuple[Order, Receipt]] = field(init=False)
    height: int = field(init=False)
    tip: str = field(init=False)
    times_over: int = 0
    _calls: dict[str, Sequence[InnerCall]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.logs, self.shown = FromLogs(self.chain.terms), {}
        self.seeds, self.opened = {}, {}
        known = {model_id: model for model_id, model in self.models.items() if model_id in self.chain.judges}
        self.court = Court(self.chain.terms, self.chain.domain, self.chain.registrar, models=known)
        self.height, self.tip, self._starting = self.chain.block - 1, "", set[int]()
        self._taken: Counter[tuple[str, int]] = Counter()

    def read(self) -> list[Entry]:
        """Read on to the chain's latest block.

        Returns:
            what was read; all from the deployment on when the chain has changed.

        Raises:
            NodeError: ``chain-id``: it has changed from its first block on. Else as the chain's questions.
        """
        node = self.chain.chain
        if self.tip and node.block_hash(self.height) != self.tip:
            node.check_same()
            self.times_over += 1
            self._begin()
        head = node.head
        tip = node.block_hash(head)
        entries = node.entries(self.chain.contracts, max(self.height + 1, 0), head)
        if not tip or node.block_hash(head) != tip:
            return []  # the chain changes just now; nothing of this is taken
        try:
            for entry in entries:
                self._take(entry)
        except (NodeError, KeyError, IndexError) as error:
            # Half of them would be taken twice. What the node has shown of transactions is kept, so that each
            # further try gets farther.
            self._begin()
            if isinstance(error, NodeError):
                raise
            raise NodeError("logs", f"entries of which one lacks what is before it ({error!r})", "all") from error
        self.height, self.tip = head, tip
        self._calls.clear()
        return entries

    def _take(self, entry: Entry) -> None:
        self.logs.read([entry.entry])
        take = getattr(self, f"_{entry.entry.name.lower()}", None)
        if take is not None:
            take(entry, **entry.entry.args)

    # --- what each kind of log changes

    def _staked(self, entry: Entry, operator: str, stake: int) -> None:
        self._set_operator(operator, stake_wei=stake)

    def _leaving(self, entry: Entry, operator: str) -> None:
        self._set_operator(operator, exit_at=entry.time)

    def _left(self, entry: Entry, operator: str, stake: int) -> None:
        self._set_operator(operator, stake_wei=0)

    def _convicted(self, entry: Entry, operator: str, game: int, slashed: int, **about: Any) -> None:
        old = self.court.operators.get(operator, StakedOperator(0))
        self._set_operator(operator, convicted_at=entry.time, stake_wei=old.stake_wei - slashed)

    def _committed(self, entry: Entry, operator: str, batch: bytes, root: bytes, size: int, platform: bytes) -> None:
        made = Batch(operator, root, size, entry.time, platform)
        self.court = replace(self.court, batches={**self.court.batches, batch: made})

    def _finalised(self, entry: Entry, batch: bytes, paid: int) -> None:
        closed = replace(self.court.batches[batch], closed=True)
        self.court = replace(self.court, batches={**self.court.batches, batch: closed})

    def _keyregistered(
        self, entry: Entry, key_id: bytes, operator: str, model_id: bytes, key: str, platform: bytes
    ) -> None:
        known = Key(operator, model_id, bytes.fromhex(key[2:]), platform)
        platforms = {**self.court.platforms, operator: platform}
        self.court = replace(self.court, keys={**self.court.keys, key_id: known}, platforms=platforms)

    def _revoked(self, entry: Entry, subject: bytes, since: int) -> None:
        self.court = replace(self.court, revoked={**self.court.revoked, subject: since})

    def _fused(self, entry: Entry, platform: bytes) -> None:
        self.court = replace(self.court, fuses={platform: entry.time, **self.court.fuses})

    def _drawn(self, entry: Entry, draw: int, beacon: bytes) -> None:
        self.court = replace(self.court, draws=(*self.court.draws, (beacon, entry.time)))

    def _paused(self, entry: Entry, until: int) -> None:
        self.court = replace(self.court, pause=(entry.time, until))

    def _challenged(self, entry: Entry, number: int, challenger: str, commitment: bytes) -> None:
        self._add(Challenge(challenger, commitment, entry.time))

    def _due(self, entry: Entry, number: int, operator: str, challenger: str, status: int, **about: Any) -> None:
        kind, place = ChallengeStatus(status), (about["batch"], about["index"])
        self._add(Challenge(challenger, about["subject"], entry.time, kind, True, operator, *place))
        if kind == ChallengeStatus.SPOT:
            self.court = replace(self.court, drawn=self.court.drawn | {about["subject"]})

    def _opened(self, entry: Entry, number: int, operator: str, subject: bytes, index: int, **about: Any) -> None:
        self._set(number, opened=True, operator=operator, batch=subject, index=index)
        if about["fault"] or about["token"] >= TWO_ANSWERS:  # false by itself, or two receipts side by side
            return
        self._starting.add(number)  # the game is logged as it begins, too
        shown = self._call_behind(entry, number, ("open",))[1]
        order, receipt = _order(self.court.domain, shown["order"]), receipt_shown(shown["receipt"])
        self.opened[number] = order, receipt
        model, terms = self.court.models.get(order.model_id), self.court.terms
        game = None if model is None else open_game(order, receipt, model, terms.arity_bits, about["token"])
        clocks = (terms.clock_s, terms.clock_s)
        self._set(number, status=ChallengeStatus.OPEN, game=game, left_s=clocks, last_time=entry.time)

    def _moved(self, entry: Entry, game: int) -> None:
        at = self.court.challenges[game - 1].game
        if game in self._starting or at is None:
            self._starting.discard(game)
            return
        name, args = self._call_behind(entry, game, MOVES)
        move = (name, *_own_arguments(name, [value for key, value in args.items() if key not in BROUGHT]))
        try:
            self.court = self.court.move(entry.time, self.court.player(game, at.turn), game, *move)
        except MoveError as error:
            raise NodeError("contract", f"move {name} of game {game} ({error})", "one that the rules allow") from error
        if at.turn == Turn.OPERATOR:
            self.shown[game] = move
        if name == "reveal_seed":
            self.seeds[game] = move[1]

    def _ended(self, entry: Entry, number: int, status: int) -> None:
        self._set(number, status=ChallengeStatus(status))

    # --- inside

    def _add(self, challenge: Challenge) -> None:
        self.court = replace(self.court, challenges=(*self.court.challenges, challenge))

    def _set(self, number: int, **changes: Any) -> None:
        old = self.court.challenges
        new = replace(old[number - 1], **changes)
        self.court = replace(self.court, challenges=(*old[: number - 1], new, *old[number:]))

    def _set_operator(self, name: str, **changes: Any) -> None:
        old = self.court.operators.get(name, StakedOperator(0))
        self.court = replace(self.court, operators={**self.court.operators, name: replace(old, **changes)})

    def _call_behind(self, entry: Entry, number: int, names: Collection[str]) -> tuple[str, dict[str, Any]]:
        """The call that made a log entry of game ``number``: the first of its transaction that was
        not taken for an earlier entry.

        Raises:
            NodeError: ``trace``: the node does not show it.
        """
        contracts = {each.address.lower(): each for each in self.chain.contracts}
        if entry.transaction not in self._calls:
            self._calls[entry.transaction] = self.chain.chain.calls(entry.transaction, list(contracts))
        found = []
        for call in self._calls[entry.transaction]:
            read = read_call(contracts[call.to.lower()], call.data)
            if read is not None and read[0] in names and read[1].get("game", read[1].get("number")) == number:
                found.append(read)
        taken = self._taken[entry.transaction, number]
        self._taken[entry.transaction, number] += 1
        if taken >= len(found):
            del self._calls[entry.transaction]
            raise NodeError("trace", f"no call in transaction {entry.transaction}", f"a move of game {number}")
        return found[taken]


def _own_arguments(name: str, args: Sequence[Any]) -> tuple[Any, ...]:
    """A move's arguments as ``otr_core.dispute.game`` takes them."""
    if name == "prove":
        points, openings = args
        return points, tuple(Opening(data, tuple(proof)) for data, proof in openings)
    return tuple(args)


def _order(domain: Domain, words: Sequence[Any]) -> Order:
    """The order whose struct was shown."""
    members = dict(zip((path for _, _, path in Order.members), words, strict=True))
    how = {own.name: members.pop(f"decoding.{own.name}") for own in fields(Decoding)}
    return Order(domain=domain, decoding=Decoding(**how), **members)


def receipt_shown(words: Sequence[Any]) -> Receipt:
    """The receipt whose struct was shown; one that opens a game has a lane that is judged."""
    members = dict(zip((path for _, _, path in Receipt.members), words, strict=True))
    finish = FINISHES[members.pop("finish_number")]
    lanes = {keccak(text=lane): lane for lane in (*PORTABLE, TensorDims.lane)}
    return Receipt(**{**members, "finish": finish, "lane": lanes[members["lane"]]})
