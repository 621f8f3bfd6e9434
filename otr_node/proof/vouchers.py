"""Whose word a verifier without weights takes: the options of its commands, and the policy that they make."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import typer

from otr_core.encoding import from_hex
from otr_core.errors import AnswerProofError, InputError
from otr_core.poea.order import Domain
from otr_core.spotcheck.proof.committed import ModelCommitment
from otr_core.spotcheck.proof.vouching import ADDRESS_BYTES, SignedStatement, VouchPolicy, read_contradiction
from otr_node.chain.access import followed_at
from otr_node.chain.backing import backed_signers
from otr_node.chain.options import wei


@dataclass(frozen=True, kw_only=True)
class VouchOptions:
    """Of a verifier who asks that somebody vouches for a commitment.

    Raises:
        InputError: a court is named in part.
    """

    vouched: Annotated[
        list[Path] | None, typer.Option(help="Signed statements that the commitment is the model's.")
    ] = None
    signer: Annotated[
        list[str] | None, typer.Option(help="Address whose statements count, hex; of the operator, or of a holder.")
    ] = None
    least: Annotated[
        int | None, typer.Option(help="How many must have signed; default: every --signer, or else one.")
    ] = None
    contradiction: Annotated[
        list[Path] | None,
        typer.Option(help="Two statements of one key that contradict each other, in one file: it vouches no more."),
    ] = None
    rpc: Annotated[str | None, typer.Option(help="URL of a node's JSON-RPC door: who vouches has a stake there.")] = (
        None
    )
    court: Annotated[Path | None, typer.Option(help="What otr chain deploy has written, of the order's court.")] = None
    least_stake: Annotated[
        str | None, typer.Option(help="Ether at that court, of an operator neither convicted nor leaving.")
    ] = None
    registered: Annotated[
        bool, typer.Option("--registered", help="And a key registered there for the model, which was not revoked.")
    ] = False

    def __post_init__(self) -> None:
        named = {"--rpc": self.rpc, "--court": self.court, "--least-stake": self.least_stake}
        found = [name for name, value in named.items() if value is not None]
        if (found or self.registered) and len(found) < len(named):
            raise InputError(f"{', '.join(named)}: found {', '.join(found) or 'none'}, expected all three together")

    @property
    def asked(self) -> bool:
        """Whether anybody's word is asked for."""
        return any(getattr(self, own.name) not in (None, [], False) for own in fields(self))


def vouched_signers(
    options: VouchOptions, committed: ModelCommitment, lane: str, domain: Domain, as_of: int
) -> tuple[bytes, ...]:
    """Who has vouched for a commitment, of those whose word the options take: the named ones, and, where a court is
    named, of these (or of all its operators) the ones with a stake there.

    Args:
        lane: of the model. domain: of the order that is answered. as_of: now, Unix seconds.

    Raises:
        AnswerProofError: as ``VouchPolicy.check``; ``vouched court``: the one followed is not the order's.
        InputError: options of another form; NodeError: the court cannot be followed. ReceiptError: a
            contradiction that is none.
    """
    keys = tuple(from_hex(each, length=ADDRESS_BYTES, what="--signer") for each in options.signer or [])
    left_out = {read_contradiction(path) for path in options.contradiction or []}
    least = len(keys) or 1
    if options.rpc is not None and options.court is not None:
        least_wei = wei(options.least_stake or "", "--least-stake")
        if not least_wei:
            raise InputError("--least-stake: found 0, expected ether above 0: who has left has none")
        followed = followed_at(options.rpc, options.court)
        if followed.chain.domain != domain:
            raise AnswerProofError("vouched court", followed.chain.domain.to_json(), domain.to_json())
        backed = backed_signers(followed.court, least_wei, committed.model_id if options.registered else None)
        keys = keys or tuple(bytes.fromhex(name.removeprefix("0x")) for name in followed.court.operators)
        left_out |= {key for key in keys if key not in backed}
    statements = [SignedStatement.read(path) for path in options.vouched or []]
    policy = VouchPolicy(keys, least if options.least is None else options.least, frozenset(left_out))
    return policy.check(committed, lane, domain, statements, as_of)
