"""The Python court and the contract side by side: every call goes to both, and both must say and hold the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from otr_core.dispute.court import Court
from otr_core.dispute.game import Verdict
from otr_core.dispute.play import Step
from otr_core.dispute.records import Key, Terms
from otr_core.errors import MoveError
from otr_node.chain.evm import Chain
from otr_node.chain.onchain import NOBODY, ChainCourt
from otr_paper.labs.disputes.world import CLIENT, FISHERMAN, KEY, KEY_ID, OPERATOR, OTHER, REGISTRAR, TinyAnswer


@dataclass
class Both:
    """A court in Python and one on chain.

    Attributes:
        court: the Python one. chain: the deployed one. names: addresses on chain by those in Python.
    """

    court: Court
    chain: ChainCourt
    names: dict[str, str]
    number: int = 0
    calls: int = field(default=0)

    def _named(self, args: tuple[Any, ...]) -> list[Any]:
        return [self.names.get(arg, arg) if isinstance(arg, str) else arg for arg in args]

    def do(self, now: int, sender: str, name: str, *args: Any, value: int | None = None, **more: Any) -> str:
        """Make a call in both; "" when both accept it, else the reason that both give."""
        reasons = []
        timed = name not in ("refund", "withdraw", "close")
        try:
            given = args if value is None else (*args, value)
            if name == "open":
                self.court = self.court.open(now, self.names[sender], *args, **more)
            elif name in ("finalise", "expire", "timeout", "claim_reward", "pay_reward"):
                self.court = getattr(self.court, name)(now, *self._named(given))
            elif name in ("refund", "close"):
                self.court = getattr(self.court, name)(*given)
            elif name == "withdraw":
                self.court, _ = self.court.withdraw(self.names[sender])
            elif timed:
                self.court = getattr(self.court, name)(now, self.names[sender], *given)
            reasons.append("")
        except MoveError as error:
            reasons.append(error.reason)
        try:
            if name == "open":
                self.chain.open(now, self.names[sender], *args, **more)
            elif name == "move":
                number, move, *rest = args
                game = self.court.challenges[number - 1].game if 1 <= number <= len(self.court.challenges) else None
                assert game is not None
                self.chain.move(now, self.names[sender], number, game.claim, move, *rest)
            else:
                self.chain.call(now, self.names[sender], name, *self._named(args), value=value or 0)
            reasons.append("")
        except MoveError as error:
            reasons.append(error.reason)
        self.calls += 1
        assert reasons[0] == reasons[1], f"{name}: Python says {reasons[0]!r}, the contract {reasons[1]!r}"
        self.compare()
        return reasons[0]

    def compare(self) -> None:
        """Both hold the same state and the same money, to the wei."""
        for number in [self.number] if self.number else range(1, len(self.court.challenges) + 1):
            theirs, ours = self.chain.standing(self.court, number)
            assert [_plain(x) for x in theirs] == [_plain(x) for x in ours]

    def arbitrate(self, now: int, sender: str, number: int, verdict: Verdict, proof: bytes) -> str:
        """As ``do``, for an arbiter's verdict."""
        reasons = []
        for call in (
            lambda: self.court.arbitrate(now, number, verdict, proof),
            lambda: self.chain.arbitrate(now, self.names[sender], number, verdict, proof),
        ):
            try:
                after = call()
                reasons.append("")
                self.court = after if isinstance(after, Court) else self.court
            except MoveError as error:
                reasons.append(error.reason)
        assert reasons[0] == reasons[1]
        self.compare()
        return reasons[0]

    def observe(self, step: Step, court: Court) -> None:
        """For ``play``: make the move on chain too."""
        challenge = court.challenges[self.number - 1]
        assert challenge.game is not None
        name, *args = step.move
        batch = court.batches[challenge.batch]
        sender = batch.operator if step.who == "operator" else challenge.challenger
        if name == "timeout":
            self.chain.call(step.now, sender, "timeout", self.number)
        else:
            self.chain.move(step.now, sender, self.number, challenge.game.claim, name, *args)
        self.calls += 1
        self.court = court
        self.compare()


def _plain(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def both(
    served: TinyAnswer, terms: Terms, *, arbiter: Any = None, arbiter_address: str = NOBODY, chain: Chain | None = None
) -> Both:
    """A staked operator with a registered key and model, in both courts."""
    chain = chain or Chain(accounts=6)
    names = dict(
        zip((REGISTRAR, OPERATOR, FISHERMAN, CLIENT, OTHER), (a.lower() for a in chain.accounts), strict=False)
    )
    deployed = ChainCourt(chain, terms, names[REGISTRAR], arbiter_address)
    court = Court(terms, names[REGISTRAR], arbiter)
    model_id, stake = b"m" * 32, 3 * terms.least_stake_wei
    key = Key(names[OPERATOR], model_id, bytes(KEY.public_key.to_canonical_address()))
    now = chain.time + 20
    deployed.register_model(model_id, served.trees)
    deployed.register_key(KEY_ID, key)
    deployed.call(now, names[OPERATOR], "register", value=stake)
    court = court.register(now, names[OPERATOR], stake)
    court = court.register_model(names[REGISTRAR], model_id, served.court_model)
    court = court.register_key(names[REGISTRAR], KEY_ID, key)
    return Both(court, deployed, names)
