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
from otr_core.spotcheck.proof.pledges import PledgePolicy
from otr_core.spotcheck.proof.vouching import ADDRESS_BYTES, SignedStatement, VouchPolicy, read_contradiction
from otr_node.chain.access import followed_at, pledges_behind
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
    pledges: Annotated[Path | None, typer.Option(help="What otr pledge deploy has written, of the order's court.")] = (
        None
    )
    least_pledge: Annotated[
        str | None, typer.Option(help="Ether in a pledge there, of who vouches, that was neither lost nor asked back.")
    ] = None
    least_notice: Annotated[
        int | None, typer.Option(help="Seconds for which a pledge there can still be lost once it was asked back.")
    ] = None
    pledge_arbiter: Annotated[
        str | None, typer.Option(help="Address of the contract whose word costs a pledge there; default: any, or none.")
    ] = None

    def __post_init__(self) -> None:
        stake = {"--court": self.court, "--least-stake": self.least_stake}
        pledge = {"--pledges": self.pledges, "--least-pledge": self.least_pledge}
        more = (self.registered or None,), (self.least_notice, self.pledge_arbiter)
        groups = zip((stake, pledge), more, strict=True)
        asked = [each for each, beside in groups if any(value is not None for value in (*each.values(), *beside))]
        if self.rpc is not None and not asked:
            asked = [stake]
        for named in ({"--rpc": self.rpc, **each} for each in asked):
            found = [name for name, value in named.items() if value is not None]
            if len(found) < len(named):
                raise InputError(f"{', '.join(named)}: found {', '.join(found) or 'none'}, expected all three together")

    @property
    def asked(self) -> bool:
        """Whether anybody's word is asked for."""
        return any(getattr(self, own.name) not in (None, [], False) for own in fields(self))


def vouched_signers(
    options: VouchOptions, committed: ModelCommitment, lane: str, domain: Domain, as_of: int
) -> tuple[bytes, ...]:
    """Who has vouched for a commitment, of those whose word the options take: the named ones; where a court is
    named, of these (or of all its operators) the ones with a stake there; where pledges are, of these (or of all that
    have signed) the ones with a pledge there.

    Args:
        lane: of the model. domain: of the order that is answered. as_of: now, Unix seconds.

    Raises:
        AnswerProofError: as ``VouchPolicy.check`` and ``PledgePolicy.check_place``; ``vouched court``: the one
            followed, or the one that the pledges stand beside, is not the order's.
        InputError: options of another form; NodeError: the court cannot be followed. ReceiptError: a
            contradiction that is none.
    """
    keys = tuple(from_hex(each, length=ADDRESS_BYTES, what="--signer") for each in options.signer or [])
    left_out = {each.signer for path in options.contradiction or [] for each in read_contradiction(path)}
    least = len(keys) or 1
    statements = [SignedStatement.read(path) for path in options.vouched or []]
    if options.rpc is not None and options.court is not None:
        least_wei = _above_zero(options.least_stake, "--least-stake")
        followed = followed_at(options.rpc, options.court)
        if followed.chain.domain != domain:
            raise AnswerProofError("vouched court", followed.chain.domain.to_json(), domain.to_json())
        backed = backed_signers(followed.court, least_wei, committed.model_id if options.registered else None)
        keys = keys or tuple(bytes.fromhex(name.removeprefix("0x")) for name in followed.court.operators)
        left_out |= {key for key in keys if key not in backed}
    if options.rpc is not None and options.pledges is not None:
        judge = options.pledge_arbiter
        arbiter = None if judge is None else from_hex(judge, length=ADDRESS_BYTES, what="--pledge-arbiter")
        notice_s = 1 if options.least_notice is None else options.least_notice
        own = PledgePolicy(_above_zero(options.least_pledge, "--least-pledge"), notice_s, arbiter)
        at = pledges_behind(options.rpc, options.pledges)
        if at.stands.domain != domain:
            raise AnswerProofError("vouched court", at.stands.domain.to_json(), domain.to_json())
        own.check_place(at.stands.notice_s, at.stands.arbiter)  # part of the code that was found there
        keys = keys or tuple(sorted({each.signer for each in statements}))
        left_out |= {key for key in keys if not own.takes(at.pledge_of(key))}
    least = least if options.least is None else options.least
    if options.rpc is not None and not options.signer and len(keys) < least:
        raise AnswerProofError("vouched keys", f"{len(keys)} who may vouch", f"at least {least}")
    policy = VouchPolicy(keys, least, frozenset(left_out))
    return policy.check(committed, lane, domain, statements, as_of)


def _above_zero(ether: str | None, option: str) -> int:
    value = wei(ether or "", option)
    if not value:
        raise InputError(f"{option}: found 0, expected ether above 0: who has left has none")
    return value
