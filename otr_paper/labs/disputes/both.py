"""The Python court and the contract side by side: every call goes to both, and both must say and
hold the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from otr_core import merkle
from otr_core.dispute.accounts import batch_id
from otr_core.dispute.court import Court
from otr_core.dispute.duties import challenge_hash
from otr_core.dispute.play import Step
from otr_core.dispute.records import Terms
from otr_core.dispute.state import Verdict
from otr_core.errors import ChainError, MoveError
from otr_core.poea.receipt import SignedReceipt
from otr_node.chain.evm import Chain
from otr_node.chain.onchain import NOBODY, ChainCourt
from otr_node.run import Run
from otr_paper.labs.disputes.parties import (
    CLIENT,
    FISHERMAN,
    KEY_ID,
    OPERATOR,
    OTHER,
    REGISTRAR,
    leaf_of,
    new_court,
    registered_key,
)


@dataclass
class Both:
    """A court in Python and one on chain.

    Attributes:
        court: the Python one. chain: the deployed one. names: a caller of ``parties`` -> its
            address on chain.
        number: of the challenge whose state is compared after every call; 0: of all.
        calls: compared so far.
        lenient: whether a call that Python refuses may fail on chain without a reason, as one does whose
            arguments the contract's types cannot hold. undecoded: how many did.
    """

    court: Court
    chain: ChainCourt
    names: dict[str, str]
    number: int = 0
    calls: int = 0
    lenient: bool = False
    undecoded: int = 0

    def do(self, now: int, sender: str, name: str, *args: Any, value: int | None = None, **more: Any) -> str:
        """Make a call in both; "" when both accept it, else the reason that both give.

        Raises:
            ChainError: they differ in the reason, or in what they hold afterwards.
        """
        who = self.names[sender]
        args = tuple(self.names.get(arg, arg) if isinstance(arg, str) else arg for arg in args)
        return self._agreed(
            name,
            lambda: self._in_python(now, who, name, *args, *(() if value is None else (value,)), **more),
            lambda: self._on_chain(now, who, name, *args, value=value or 0, **more),
        )

    def _in_python(self, now: int, who: str, name: str, *args: Any, **more: Any) -> Court:
        """The Python court asks only what a rule depends on: not every call has a time or a
        sender."""
        call: Callable[..., Court] = getattr(self.court, name)
        if name == "withdraw":
            return self.court.withdraw(who)[0]
        if name in ("refund", "close", "register_model"):
            return call(who, *args, **more)
        if name in ("finalise", "expire", "timeout", "pay_reward", "lapse", "attest", "show"):
            return call(now, *args)
        return call(now, who, *args, **more)

    def _on_chain(self, now: int, who: str, name: str, *args: Any, value: int, **more: Any) -> None:
        if name in ("open", "equivocation", "demand"):
            more |= {"value": value} if name == "demand" else {}
            getattr(self.chain, name)(now, who, *args, **more)
        elif name == "move":
            self.chain.move(now, who, self.court, *args)
        elif name == "timeout":
            self.chain.timeout(now, who, self.court, *args)
        else:
            self.chain.call(now, who, name, *args, value=value)

    def open_challenge(
        self, signed: SignedReceipt, others: Sequence[bytes], *, token: int, salt: bytes, index: int = 0, pay: int = 0
    ) -> tuple[int, int]:
        """A batch with a receipt in it, paid for if ``pay`` (wei) says so; then a challenge of the
        receipt, opened.

        Args:
            others: leaves of the batch's other receipts. index: of the receipt among them. token:
                as ``Court.open``.

        Returns:
            number of the challenge, whose state alone is compared from here on; time of the last
            call, one second after the one before.

        Raises:
            ChainError: both courts refuse a call.
        """
        leaves = [*others[:index], leaf_of(signed), *others[index:]]
        number, bond = len(self.court.challenges) + 1, self.court.terms.bond_wei
        batch = batch_id(self.names[OPERATOR], merkle.root(leaves))
        commitment = challenge_hash(self.names[FISHERMAN], batch, index, token, salt)
        opening = {
            "batch": batch,
            "index": index,
            "token": token,
            "salt": salt,
            "path": tuple(merkle.inclusion_proof(leaves, index)),
        }
        calls: list[tuple[str, str, tuple[Any, ...], dict[str, Any]]] = [
            (OPERATOR, "commit_batch", (merkle.root(leaves), len(leaves)), {}),
            (CLIENT, "escrow", (batch,), {"value": pay}),
            (FISHERMAN, "challenge", (commitment,), {"value": bond}),
            (FISHERMAN, "open", (number,), {**opening, **vars(signed)}),
        ]
        now, self.number = self.chain.chain.time, 0
        for sender, name, args, more in calls:
            if name == "escrow" and not pay:
                continue
            now += 1
            if reason := self.do(now, sender, name, *args, **more):
                raise ChainError(name, f"refused for {reason!r}", "a call that both courts accept")
        self.number = number
        return number, now

    def arbitrate(self, now: int, sender: str, number: int, verdict: Verdict, proof: bytes) -> str:
        """As ``do``, for an arbiter's verdict."""
        return self._agreed(
            "arbitrate",
            lambda: self.court.arbitrate(now, number, verdict, proof),
            lambda: self.chain.arbitrate(now, self.names[sender], self.court, number, verdict, proof),
        )

    def observe(self, step: Step, court: Court) -> None:
        """For ``play``, which has made the move in Python already: make it on chain too."""
        challenge = court.challenges[self.number - 1]
        assert challenge.game is not None
        name, *args = step.move
        sender = challenge.operator if step.who == "operator" else challenge.challenger
        if name == "timeout":
            self.chain.timeout(step.now, sender, self.court, self.number)
        else:
            self.chain.move(step.now, sender, self.court, self.number, name, *args)
        self.court = court
        self._compare()

    def _agreed(self, name: str, in_python: Callable[[], Court], on_chain: Callable[[], Any]) -> str:
        ours, after = _reason(in_python)
        theirs, _ = _reason(on_chain)  # a move on chain brings the game as it was before
        self.court = after or self.court
        undecoded = self.lenient and ours and theirs in ("reverted", "arguments")
        self.undecoded += bool(undecoded)
        if ours != theirs and not undecoded:
            raise ChainError(name, f"reason {theirs!r}", f"the Python court's {ours!r}")
        self._compare()
        return ours

    def _compare(self) -> None:
        """Both hold the same state and the same money, to the wei."""
        self.calls += 1
        for number in [self.number] if self.number else range(1, len(self.court.challenges) + 1):
            theirs, ours = ([str(each).lower() for each in held] for held in self.chain.standing(self.court, number))
            if theirs != ours:
                raise ChainError(f"challenge {number}", theirs, f"what the Python court holds, {ours}")


def _reason(call: Callable[[], Any]) -> tuple[str, Any]:
    """Why a call is refused, "" if it is not, and what it gives."""
    try:
        return "", call()
    except MoveError as error:
        return error.reason, None


def both(
    honest: Run,
    terms: Terms,
    *,
    stake_wei: int | None = None,
    arbiter: Any = None,
    arbiter_address: str = NOBODY,
    chain: Chain | None = None,
) -> Both:
    """Both courts, each with a staked operator who serves the model that ``honest`` runs.

    Args:
        stake_wei: three times the least when not given. arbiter, arbiter_address: as the Python
            court and the contract take one.
    """
    chain = chain or Chain(accounts=6)
    accounts = (account.lower() for account in chain.accounts)
    names = dict(zip((REGISTRAR, OPERATOR, FISHERMAN, CLIENT, OTHER), accounts, strict=False))
    registrar, operator = names[REGISTRAR], names[OPERATOR]
    stake, model_id = stake_wei or 3 * terms.least_stake_wei, honest.model.manifest.model_id
    deployed = ChainCourt(chain, terms, registrar, arbiter_address)
    now = chain.time + 20
    deployed.register_model(model_id, honest.trees)
    deployed.register_key(KEY_ID, registered_key(operator, model_id))
    deployed.call(now, operator, "register", value=stake)
    people: dict[str, Any] = {"registrar": registrar, "operator": operator, "arbiter": arbiter}
    court = new_court(honest, terms, deployed.domain, now=now, stake_wei=stake, **people)
    return Both(court, deployed, names)
