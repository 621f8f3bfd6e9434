"""The command line of pledges: ``otr pledge …``, for who vouches for a commitment, and who catches a false word."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otr_core.cli import AsJson, print_json, print_table, say
from otr_core.encoding import from_hex
from otr_core.errors import InputError, in_file
from otr_core.extras import need_extras
from otr_core.files import check_target, read_input, write_bytes
from otr_core.spotcheck.proof.pledges import MOST_REWARD_BPS, PledgeTerms, refutation
from otr_core.spotcheck.proof.vouching import ADDRESS_BYTES, SignedStatement, read_contradiction
from otr_node.chain.access import attached, connect, pledges_at, pledges_behind, print_gas
from otr_node.chain.options import CourtOptions, Password, Rpc, SenderOptions, wei, with_options
from otr_node.models import model_folder
from otr_node.options import Folder
from otr_node.project import find_home

if TYPE_CHECKING:
    from otr_node.chain.pledges import ChainPledges

_SIGNATURE_BYTES = 65
_NOTICE_S = 14 * 86_400

pledge_app = typer.Typer(
    no_args_is_help=True, help="What whoever vouches for a commitment to a model has to lose (docs/proof.md)."
)
pledge_commands = typer.Typer()
pledge_commands.add_typer(pledge_app, name="pledge")
PledgesFile = Annotated[Path, typer.Option("--pledges", help="What otr pledge deploy has written.")]
Statement = Annotated[Path, typer.Argument(help="A signed statement, as otr commit-model --sign writes it.")]


@dataclass(frozen=True, kw_only=True)
class PledgeOptions(SenderOptions):
    """Of whoever acts where pledges are put down."""

    pledges: PledgesFile


def _entered(options: PledgeOptions) -> tuple[ChainPledges, str]:
    """The pledges that the options name, and the address that acts there."""
    chain = connect(options)
    return pledges_at(chain, options.pledges), chain.accounts[0].lower()


@pledge_app.command("deploy")
@with_options
def deploy_pledges(
    options: CourtOptions,
    out: Annotated[Path, typer.Option(help="Where it is written where they stand.")],
    notice: Annotated[int, typer.Option(help="Seconds for which one that was asked back can be lost.")] = _NOTICE_S,
    reward: Annotated[
        int, typer.Option(help="The catcher's share of a pledge that is lost, in 10,000; the rest is burnt.")
    ] = MOST_REWARD_BPS,
) -> None:
    """Deploy a place for pledges beside a court, whose arbiter's word on a statement it takes."""
    check_target(out)
    terms = PledgeTerms(notice, reward)
    chain = connect(options)
    court = attached(chain, options.court)
    from otr_node.chain.pledges import ChainPledges

    made = ChainPledges.deploy(chain, court.domain, terms, court.arbiter)
    write_bytes(out, made.stands.dump())
    print_gas(made.ledger)
    print(f"pledges: 0x{made.stands.address.hex()} (told in {out})")


@pledge_app.command("put")
@with_options
def put_pledge(
    ether: Annotated[str, typer.Argument(help="Ether that is put down, or added.")], options: PledgeOptions
) -> None:
    """Put down a pledge behind whatever this account signs about commitments."""
    value = wei(ether, "ETHER")
    _act(options, "put", value=value)


@pledge_app.command("ask-back")
@with_options
def ask_pledge_back(options: PledgeOptions) -> None:
    """Begin the notice of this account's pledge; from now on no verifier counts it."""
    _act(options, "ask_back")


@pledge_app.command("take-back")
@with_options
def take_pledge_back(options: PledgeOptions) -> None:
    """Take the pledge back, once its notice is over."""
    _act(options, "take_back", "withdraw")


@pledge_app.command("withdraw")
@with_options
def withdraw_share(options: PledgeOptions) -> None:
    """Take what is owed to this account for a false word that it has caught."""
    _act(options, "withdraw")


def _act(options: PledgeOptions, *calls: str, value: int = 0) -> None:
    at, me = _entered(options)
    for call in calls:
        at.send(me, call, value=value)
    print_gas(at.ledger)
    print(f"done: {', '.join(calls)} by {me}")


@pledge_app.command("contradict")
@with_options
def contradict_signer(
    evidence: Annotated[Path, typer.Argument(help="Two signed statements, one behind the other.")],
    options: PledgeOptions,
) -> None:
    """Show that one key has signed two commitments to one model: it loses its pledge, and a share is yours."""
    first, second = read_contradiction(evidence)
    at, me = _entered(options)
    with in_file(evidence):
        at.check_at_stake(first)
    at.contradict(me, first, second, secrets.token_bytes(32))
    print_gas(at.ledger)
    print(f"lost: the pledge of {first.signer.hex()} (otr pledge withdraw takes your share)")


@pledge_app.command("judge")
def judge_statement(
    statement: Statement,
    key: Annotated[Path, typer.Option(help="Encrypted key file of the arbiter.")],
    catcher: Annotated[str, typer.Option(help="Address that is paid for it, hex.")],
    out: Annotated[Path, typer.Option(help="Where the signature is written.")],
    model: Folder = None,
    password_file: Password = None,
) -> None:
    """As an arbiter: make the commitment again from the weights, and sign that a statement is false. Exit 1 if it
    is true, and nothing is signed."""
    need_extras("node", "chain")
    check_target(out)
    from otr_node.chain.keys import load_key, read_password, sign_hash
    from otr_node.portable import load_portable
    from otr_node.proof.answers import commit_for_proofs, false_vouchers

    signed, paid = SignedStatement.read(statement), from_hex(catcher, length=ADDRESS_BYTES, what="--catcher")
    if not any(paid):
        raise InputError("--catcher: found zeros, expected the address of whoever is to show it")
    account = load_key(key, read_password(password_file))
    held = load_portable(model or model_folder(find_home(), report=say))
    with in_file(statement):
        false = false_vouchers(held, commit_for_proofs(held, say).commitment, [signed])
    if not false:
        print(f"true: {signed.signer.hex()} has signed what the weights give; nothing is signed")
        raise typer.Exit(1)
    write_bytes(out, sign_hash(account, refutation(signed, paid)))
    print(f"false: {signed.signer.hex()} has signed another commitment; {account.address} says so in {out}")


@pledge_app.command("refute")
@with_options
def refute_statement(
    statement: Statement,
    signatures: Annotated[list[Path], typer.Argument(help="Of the two arbiters, in the court's order.")],
    options: PledgeOptions,
) -> None:
    """Show the arbiters' word that a statement is false: its signer loses its pledge, and a share is yours."""
    signed = SignedStatement.read(statement)
    shown = [read_input(each, what="a signature (65 bytes)", limit_bytes=_SIGNATURE_BYTES + 1) for each in signatures]
    if [len(each) for each in shown] != [_SIGNATURE_BYTES] * 2:
        raise InputError(f"signatures: found {[len(each) for each in shown]} bytes, expected two of {_SIGNATURE_BYTES}")
    at, me = _entered(options)
    with in_file(statement):
        at.check_at_stake(signed)
    at.refute(me, signed, b"".join(shown))
    print_gas(at.ledger)
    print(f"lost: the pledge of {signed.signer.hex()} (otr pledge withdraw takes your share)")


@pledge_app.command("show")
def show_pledges(
    addresses: Annotated[list[str], typer.Argument(help="Of signers, hex.")],
    rpc: Rpc,
    pledges: PledgesFile,
    as_json: AsJson = False,
) -> None:
    """What stands behind the word of some signers."""
    signers = [from_hex(each, length=ADDRESS_BYTES, what="address") for each in addresses]
    at = pledges_behind(rpc, pledges)
    rows = [{"signer": each.hex(), **asdict(at.pledge_of(each))} for each in signers]
    if as_json:
        print_json(rows)
    else:
        print_table(list(rows[0]), [list(row.values()) for row in rows])
