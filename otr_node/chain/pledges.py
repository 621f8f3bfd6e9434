"""``Pledges`` as a contract on a chain: its place as a file, one transaction a call, the same reasons, and gas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from otr_core.dispute.rules import require
from otr_core.encoding import canonical_json, parse_canonical
from otr_core.errors import ChainError, MoveError, NodeError, OtrError, in_file
from otr_core.files import read_input
from otr_core.poea.order import Document, Domain, type_hash
from otr_core.spotcheck import contracts
from otr_core.spotcheck.proof.pledges import Pledge, PledgeTerms, announcement, check_about
from otr_core.spotcheck.proof.vouching import CommitmentStatement, SignedStatement
from otr_node.chain.evm import compile_vyper
from otr_node.chain.interface import AnyChain, Contract
from otr_node.chain.onchain import NOBODY, Spent, standing_contract

FORMAT = "otr-pledges/1"
SOURCE = Path(contracts.__file__).parent / "pledges.vy"


@dataclass(frozen=True)
class PledgesAt(Document):
    """Where pledges are put down. Nothing in it is believed: it is part of the contract's code.

    Attributes:
        domain: chain and court whose statements count. address: of the contract. arbiter: of the arbiter's; zeros:
            none. notice_s, reward_bps: as ``PledgeTerms``.
    """

    what = "pledges"
    lengths: ClassVar[Mapping[str, int]] = {"address": 20, "arbiter": 20}
    domain: Domain
    address: bytes
    arbiter: bytes
    notice_s: int
    reward_bps: int

    @property
    def made_with(self) -> tuple[Any, ...]:
        """What the contract's constructor takes."""
        kind = type_hash("ModelCommitment", CommitmentStatement.members)
        return _hex(self.domain.court), _hex(self.arbiter), self.notice_s, self.reward_bps, kind

    def dump(self) -> bytes:
        """The file: canonical JSON and a line end."""
        return canonical_json({"format": FORMAT, **self.to_json()}) + b"\n"

    @classmethod
    def read(cls, path: Path) -> Self:
        """From the file that ``otr pledge deploy`` has written.

        Raises:
            NodeError: ``deployment``: it is none.
        """
        with in_file(path):
            raw = read_input(path, what="where pledges are put down (JSON)")
            names = ("domain", "address", "arbiter", "notice_s", "reward_bps")
            try:
                own = parse_canonical(raw, FORMAT, ("format", *names), what="pledges")
                own.pop("format")
                found = cls.from_json(own)
                PledgeTerms(found.notice_s, found.reward_bps)
            except OtrError as error:
                raise NodeError("deployment", error, "a file of otr pledge deploy") from error
            return found


@dataclass
class ChainPledges:
    """The contract of pledges on a chain.

    A call that reverts raises ``MoveError`` with the contract's reason, as the same call of ``Pledges`` does.

    Attributes:
        stands: where it does. ledger: every transaction so far.

    Raises:
        NodeError: ``chain-id``: it stands on another chain. ``contract``: other code stands there.
    """

    chain: AnyChain
    stands: PledgesAt
    ledger: list[Spent] = field(default_factory=list)
    contract: Contract = field(init=False)

    def __post_init__(self) -> None:
        if self.stands.domain.chain_id != self.chain.id:
            raise NodeError("chain-id", f"{self.chain.id} behind --rpc", f"{self.stands.domain.chain_id}, the pledges'")
        self.contract = standing_contract(self.chain, SOURCE, _hex(self.stands.address), *self.stands.made_with)

    @classmethod
    def deploy(
        cls, chain: AnyChain, domain: Domain, terms: PledgeTerms, arbiter: str = NOBODY, sender: str | None = None
    ) -> ChainPledges:
        """A new place for pledges beside a court.

        Args:
            domain: of the court. arbiter: address of its arbiter's contract. sender: who deploys it; None: the
                chain's first account.
        """
        about = domain, bytes(20), bytes.fromhex(arbiter[2:]), terms.notice_s, terms.reward_bps
        made, receipt = chain.deploy(compile_vyper(SOURCE), *PledgesAt(*about).made_with, sender=sender)
        spent = [Spent("deploy pledges", receipt.gas, receipt.calldata_bytes)]
        return cls(chain, PledgesAt(domain, bytes.fromhex(made.address[2:]), *about[2:]), spent)

    def pledge_of(self, signer: bytes) -> Pledge:
        """A signer's pledge in the latest block."""
        return Pledge(*self.chain.call(self.contract, "pledges", _hex(signer)))

    def check_at_stake(self, signed: SignedStatement) -> None:
        """Whether it would cost a pledge here if a statement were false, asked before anything is paid for.

        Raises:
            MoveError: ``about``: it is of another court. ``pledge``: its signer has none. ReceiptError: check
                "signature": no key's.
        """
        check_about(signed, self.stands.domain)
        value = self.pledge_of(signed.signer).value
        require(value > 0, "pledge", value, f"one of {signed.signer.hex()}")

    def send(self, sender: str, call: str, *args: Any, value: int = 0) -> None:
        """One transaction.

        Args:
            call: a function of the contract that changes something.

        Raises:
            MoveError: the contract refuses; reasons as those of ``Pledges``.
        """
        try:
            receipt = self.chain.transact(self.contract, call, *args, sender=sender, value=value)
        except ChainError as error:
            raise MoveError(error.check, "a revert", "success") from error
        self.ledger.append(Spent(call, receipt.gas, receipt.calldata_bytes))

    def contradict(self, sender: str, first: SignedStatement, second: SignedStatement, salt: bytes) -> None:
        """Announce two statements that contradict each other, and show them.

        Args:
            salt: 32 secret bytes, new for this.

        Raises:
            MoveError: as ``Pledges.contradict``.
        """
        self.send(sender, "announce", announcement(bytes.fromhex(sender[2:]), first, second, salt))
        self.show_contradiction(sender, first, second, salt)

    def show_contradiction(self, sender: str, first: SignedStatement, second: SignedStatement, salt: bytes) -> None:
        """Show what was announced before.

        Raises:
            MoveError: as ``Pledges.contradict``.
        """
        told = first.statement
        self.send(sender, "contradict", told.model_id, told.lane, _word(first), _word(second), salt)

    def refute(self, sender: str, signed: SignedStatement, proof: bytes) -> None:
        """Show the arbiter's word that a statement is false.

        Raises:
            MoveError: as ``Pledges.refute``.
        """
        self.send(sender, "refute", signed.statement.model_id, signed.statement.lane, _word(signed), proof)


def _word(signed: SignedStatement) -> tuple[bytes, int, bytes]:
    return signed.statement.commitment, signed.statement.date, signed.signature


def _hex(address: bytes) -> str:
    return "0x" + address.hex()
