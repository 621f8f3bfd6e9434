"""The command line of a court on a chain: ``otr chain …`` and ``otr watch``."""

from __future__ import annotations

import hmac
import json
import time
import tomllib
from collections.abc import Callable
from dataclasses import fields
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otr_core import merkle
from otr_core.cli import AsJson, print_json, print_table, say
from otr_core.dispute.accounts import batch_id
from otr_core.dispute.court import receipt_leaf
from otr_core.dispute.records import Terms
from otr_core.dispute.registry import Key
from otr_core.errors import InputError, NodeError, OtrError, ReceiptError
from otr_core.extras import need_extras
from otr_core.files import check_target, read_input, write_bytes
from otr_core.poea.document import load_receipt_file
from otr_core.poea.tee import EvidencePolicy
from otr_core.poea.verify import verify_receipt
from otr_node.chain.deployment import load_deployment
from otr_node.chain.outbox import Outbox

if TYPE_CHECKING:
    from otr_node.chain.answers import OwnModel
    from otr_node.chain.onchain import ChainCourt
    from otr_node.chain.party import ChainParty

Rpc = Annotated[str, typer.Option("--rpc", help="URL of a node's JSON-RPC door.")]
KeyFile = Annotated[Path, typer.Option("--key", help="Encrypted key file of the account that acts.")]
Password = Annotated[Path | None, typer.Option("--password-file", help="Else OTR_PASSWORD, or it is asked for.")]
CourtFile = Annotated[Path, typer.Option("--court", help="What otr chain deploy has written.")]
Models = Annotated[list[Path] | None, typer.Option("--model", help="Folder of a checkpoint; repeatable.")]
MaxFee = Annotated[float, typer.Option("--max-fee", help="Most gwei for a unit of gas.")]
Depth = Annotated[int, typer.Option("--confirmations", help="Blocks on a transaction's before it counts.")]
Seconds = Annotated[float | None, typer.Option("--seconds", help="Stop after so long; default: never.")]
Poll = Annotated[float, typer.Option("--poll", help="Seconds between two looks at the chain.")]
State = Annotated[Path | None, typer.Option("--state", help="File that survives a kill; default: beside the key.")]

chain_app = typer.Typer(no_args_is_help=True, help="A court on a chain, by a node's URL.")
chain_commands = typer.Typer()
chain_commands.add_typer(chain_app, name="chain")


@chain_app.command("key")
def make_key(
    out: Annotated[Path, typer.Option(help="Where the key file is written.")], password_file: Password = None
) -> None:
    """Make an account, and keep its key in an encrypted file."""
    need_extras("chain")
    from otr_node.chain.keys import read_password, write_key

    print(write_key(out, read_password(password_file)).address)


@chain_app.command("deploy")
def deploy_court(
    rpc: Rpc,
    key: KeyFile,
    terms: Annotated[Path, typer.Option(help="The court's terms, TOML (docs/terms.toml).")],
    out: Annotated[Path, typer.Option(help="Where it is written what stands where.")],
    model: Models = None,
    password_file: Password = None,
    max_fee: MaxFee = 500.0,
    confirmations: Depth = 0,
) -> None:
    """Deploy the contracts, and a judge for each model; the account becomes registrar."""
    need_extras("chain")
    check_target(out)
    from otr_node.chain.onchain import ChainCourt

    stated, owned = read_terms(terms), load_models(model or [])
    chain = connect(rpc, key, password_file, max_fee, confirmations)
    court = ChainCourt(chain, stated, chain.accounts[0].lower())
    write_bytes(out, court.deployment.dump())
    for own in owned:
        court.register_model(own.id, own.trees)
        write_bytes(out, court.deployment.dump())
    print_gas(court)
    print(f"court: {court.court.address} (told in {out})")


@chain_app.command("register")
def register_here(
    rpc: Rpc,
    key: KeyFile,
    court: CourtFile,
    stake: Annotated[str | None, typer.Option(help="As operator: ether to stake.")] = None,
    model: Models = None,
    receipt: Annotated[Path | None, typer.Option(help="As registrar: a receipt whose key is registered.")] = None,
    operator: Annotated[str | None, typer.Option(help="With --receipt: the operator's address.")] = None,
    password_file: Password = None,
    max_fee: MaxFee = 500.0,
    confirmations: Depth = 0,
) -> None:
    """Stake as an operator; or, as the registrar, register models, and the key of a TEE whose receipt
    and (simulated) evidence hold."""
    if stake is None and not model and receipt is None:
        raise InputError("register: expected --stake, --model or --receipt")
    if (receipt is None) != (operator is None):
        raise InputError("register: expected --receipt and --operator together")
    at = attached(connect(rpc, key, password_file, max_fee, confirmations), court)
    me = at.chain.accounts[0].lower()
    for own in load_models(model or []):
        at.register_model(own.id, own.trees)
        write_bytes(court, at.deployment.dump())
    if receipt is not None and operator is not None:
        file = load_receipt_file(read_input(receipt, what="a receipt file (JSON)"))
        try:
            verify_receipt(file, policy=EvidencePolicy(allow_simulated=True), as_of=int(time.time()), order_from="file")
        except ReceiptError as error:
            raise OtrError(f"--receipt: rejected by check {error}") from error
        named = Key(operator.lower(), file.order.model_id, file.keys.address)
        at.register_key(file.keys.digest, named)
        print(f"key: {file.keys.digest.hex()} of {operator}")
    if stake is not None:
        at.call(None, me, "register", value=wei(stake, "--stake"))
        print(f"staked: {stake} ether by {me}")
    print_gas(at)


@chain_app.command("commit")
def commit_answers(
    answers: Annotated[Path, typer.Argument(help="Folder with NAME.order.json and NAME.receipt.json.")],
    rpc: Rpc,
    key: KeyFile,
    court: CourtFile,
    password_file: Password = None,
    max_fee: MaxFee = 500.0,
    confirmations: Depth = 0,
) -> None:
    """Commit the answers of a folder that have no place yet as one batch, and write their places."""
    at = attached(connect(rpc, key, password_file, max_fee, confirmations), court)
    from otr_node.chain.answers import answers_in, write_places

    new = [each for each in answers_in(answers, lambda name, error: say(f"{name}: {error}")) if each.place is None]
    if not new:
        raise InputError(f"{answers}: found no answer without a place, expected at least one")
    leaves = [receipt_leaf(at.domain, each.file.receipt, each.file.signature) for each in new]
    root, me = merkle.root(leaves), at.chain.accounts[0].lower()
    at.call(None, me, "commit_batch", root, len(leaves))
    batch = batch_id(me, root)
    write_places(answers, [each.name for each in new], batch, leaves)
    print_gas(at)
    print(f"batch: {batch.hex()} of {len(leaves)} receipts")


@chain_app.command("challenge")
def challenge_answers(
    answers: Annotated[Path, typer.Argument(help="Folder of answers, with their orders and places.")],
    rpc: Rpc,
    key: KeyFile,
    court: CourtFile,
    model: Models = None,
    budget: Annotated[str, typer.Option(help="Most ether in bonds.")] = "1",
    state: State = None,
    seconds: Seconds = None,
    poll: Poll = 2.0,
    password_file: Password = None,
    max_fee: MaxFee = 500.0,
    confirmations: Depth = 0,
) -> None:
    """Run the answers of a folder again, challenge what is false, and play until nothing is open. Exit
    1 if a challenge was lost."""
    fisherman = fisherman_of(answers, rpc, key, court, model, budget, state, password_file, max_fee, confirmations)
    end = None if seconds is None else time.monotonic() + seconds

    def over(acted: bool) -> bool:
        own = [each for each in fisherman.followed.court.challenges if each.challenger == fisherman.me]
        late = end is not None and time.monotonic() >= end
        return late or (not acted and not any(each.status.name in ("COMMITTED", "OPEN") for each in own))

    go(fisherman, over, poll)
    print_gas(fisherman.chain)
    own = [each for each in fisherman.followed.court.challenges if each.challenger == fisherman.me]
    raise typer.Exit(1 if any(each.status.name == "LOST" for each in own) else 0)


@chain_commands.command("watch")
def watch_court(
    orders: Annotated[Path, typer.Option(help="Folder of own orders and what came back (docs/network.md).")],
    rpc: Rpc,
    key: KeyFile,
    court: CourtFile,
    model: Models = None,
    budget: Annotated[str, typer.Option(help="Most ether in bonds, lost and at stake.")] = "1",
    state: State = None,
    seconds: Seconds = None,
    poll: Poll = 2.0,
    password_file: Password = None,
    max_fee: MaxFee = 500.0,
    confirmations: Depth = 0,
) -> None:
    """A fisherman: follows a court's logs, runs own orders again, challenges, plays and claims. What it
    does and why it says in JSON lines. Started again after a kill it goes on."""
    fisherman = fisherman_of(orders, rpc, key, court, model, budget, state, password_file, max_fee, confirmations)
    go(fisherman, until_late(seconds), poll)


@chain_app.command("defend")
def defend_answers(
    answers: Annotated[Path, typer.Argument(help="Folder of answers given, with their orders and places.")],
    rpc: Rpc,
    key: KeyFile,
    court: CourtFile,
    model: Models = None,
    state: State = None,
    seconds: Seconds = None,
    poll: Poll = 2.0,
    password_file: Password = None,
    max_fee: MaxFee = 500.0,
    confirmations: Depth = 0,
) -> None:
    """The operator's side: answers challenges, shows what is demanded, finalises. Started again after
    a kill it goes on."""
    need_extras("node", "chain")
    from otr_node.chain.defender import Defender

    at, owned = with_models(rpc, key, court, model, state, password_file, max_fee, confirmations)
    me = at.chain.accounts[0].lower()
    go(Defender(at, me, owned, answers, reporter("operator")), until_late(seconds), poll)


@chain_app.command("withdraw")
def withdraw_here(
    rpc: Rpc,
    key: KeyFile,
    court: CourtFile,
    stake: Annotated[bool, typer.Option("--stake", help="Ask for the stake, or take it once it is free.")] = False,
    password_file: Password = None,
    max_fee: MaxFee = 500.0,
    confirmations: Depth = 0,
) -> None:
    """Take back payments of void batches, and what the court owes; with --stake the stake as well."""
    at = attached(connect(rpc, key, password_file, max_fee, confirmations), court)
    from otr_node.chain.followed import Followed

    me, followed = at.chain.accounts[0].lower(), Followed(at, {})
    followed.read()
    for (batch, payer), paid in followed.logs.payments.items():
        if payer == me and paid and followed.logs.batches[batch][0] in followed.logs.convicted:
            at.call(None, me, "refund", batch)
            print(f"refunded: {paid} wei of batch {batch.hex()}")
    if stake:
        leaving = me in followed.logs.leaving
        at.call(None, me, "withdraw_stake" if leaving else "request_exit")
        print("stake: taken" if leaving else f"stake: asked for, free after {at.terms.exit_s} s")
    followed.read()
    owed = followed.logs.credits.get(me, 0)
    if owed:
        at.call(None, me, "withdraw")
    print(f"withdrawn: {owed} wei")
    print_gas(at)


@chain_app.command("status")
def show_status(rpc: Rpc, court: CourtFile, as_json: AsJson = False) -> None:
    """A court's operators, batches and challenges, from its logs alone."""
    need_extras("chain")
    from otr_node.chain.followed import Followed
    from otr_node.chain.rpc import RpcChain

    followed = Followed(attached(RpcChain(rpc), court), {})
    followed.read()
    held, logs = followed.court, followed.logs
    operators = [
        {"operator": name, "stake_wei": each.stake_wei, "convicted": each.convicted, "leaving": each.exit_at > 0}
        for name, each in held.operators.items()
    ]
    batches = [
        {
            "batch": batch.hex(),
            "operator": each.operator,
            "receipts": each.size,
            "time": each.time,
            "final": each.closed,
        }
        for batch, each in held.batches.items()
    ]
    challenges = [
        {"number": number, "challenger": each.challenger, "operator": each.operator, "status": each.status.name}
        for number, each in enumerate(held.challenges, 1)
    ]
    money = {"burnt_wei": logs.burnt_wei, "owed_wei": {who: each for who, each in sorted(logs.credits.items()) if each}}
    if as_json:
        tables = {"operators": operators, "batches": batches, "challenges": challenges}
        print_json({"court": followed.chain.court.address, "block": followed.height, **tables, **money})
        return
    for rows in (operators, batches, challenges):
        if rows:
            print_table(list(rows[0]), [list(row.values()) for row in rows])
    print(f"block {followed.height}; burnt: {logs.burnt_wei} wei; owed: {sum(logs.credits.values())} wei")


# --- what the commands have in common


def read_terms(path: Path) -> Terms:
    """A court's terms, from TOML with the names of ``Terms``.

    Raises:
        InputError: a name is missing or unknown, or a value out of its range.
    """
    try:
        stated = tomllib.loads(read_input(path, what="terms (TOML)").decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"--terms: {path} is not TOML ({error})") from error
    names = {own.name for own in fields(Terms)}
    if stated.keys() != names:
        raise InputError(f"--terms: missing or unknown {sorted(stated.keys() ^ names)}, expected {sorted(names)}")
    if not all(type(value) is int for value in stated.values()):
        raise InputError("--terms: expected whole numbers")
    return Terms(**stated)


def load_models(folders: list[Path]) -> list[OwnModel]:
    """Models of the portable lane, with the trees that their disputes are judged by.

    Raises:
        ModelError: not a usable checkpoint.
    """
    need_extras("node", "chain")
    from otr_node.chain.answers import OwnModel
    from otr_node.commitment import commit_model
    from otr_node.lanes import load_model
    from otr_node.portable import LANE, PortableModel

    found = []
    for folder in folders:
        model = load_model(folder, lane=LANE)
        assert isinstance(model, PortableModel)
        found.append(OwnModel(model, commit_model(model)))
    return found


def connect(
    rpc: str, key: Path, password_file: Path | None, max_fee: float, confirmations: int, state: Path | None = None
) -> Any:
    """A node, with the account of a key file.

    Raises:
        NodeError: as ``RpcChain`` and ``load_key``.
    """
    need_extras("chain")
    from otr_node.chain.keys import load_key, read_password
    from otr_node.chain.delivery import GWEI
    from otr_node.chain.rpc import RpcChain

    RpcChain(rpc)  # a wrong URL is said before a password is asked for
    account = load_key(key, read_password(password_file))
    box = Outbox(state or key.with_name(f"{key.name}.state"))
    about: dict[str, Any] = {"max_fee_wei": int(max_fee * GWEI), "confirmations": confirmations}
    return RpcChain(rpc, [account], outbox=box, **about)


def attached(chain: Any, court: Path) -> ChainCourt:
    """The court of a deployment's file.

    Raises:
        NodeError: ``chain-id``: it stands on another chain. ``contract``: other code stands there.
    """
    from otr_node.chain.onchain import ChainCourt

    stands = load_deployment(read_input(court, what="a deployment (JSON)"))
    if stands.chain_id != chain.id:
        raise NodeError("chain-id", f"{chain.id} behind --rpc", f"{stands.chain_id}, the court's")
    return ChainCourt(chain, stands.terms, stands.registrar, stands.arbiter, stands)


def with_models(
    rpc: str,
    key: Path,
    court: Path,
    model: list[Path] | None,
    state: Path | None,
    password_file: Path | None,
    max_fee: float,
    confirmations: int,
) -> tuple[ChainCourt, dict[bytes, OwnModel]]:
    """A court, and the models at hand whose judges stand there.

    Raises:
        NodeError: ``model``: none of them does.
    """

    at = attached(connect(rpc, key, password_file, max_fee, confirmations, state), court)
    judges = load_deployment(read_input(court, what="a deployment (JSON)")).judges
    owned = {own.id: own for own in load_models(model or []) if own.id.hex() in judges}
    if not owned:
        raise NodeError("model", f"none of {sorted(judges)}", "--model with a registered one")
    for own in owned.values():
        at.attach_judge(own.id, judges[own.id.hex()], own.trees)
    return at, owned


def fisherman_of(
    folder: Path,
    rpc: str,
    key: Path,
    court: Path,
    model: list[Path] | None,
    budget: str,
    state: Path | None,
    password_file: Path | None,
    max_fee: float,
    confirmations: int,
) -> Any:
    """A fisherman by the commands' options."""
    need_extras("node", "chain")
    from otr_node.chain.fisherman import Fisherman

    most = wei(budget, "--budget")
    at, owned = with_models(rpc, key, court, model, state, password_file, max_fee, confirmations)
    chain: Any = at.chain
    me = chain.accounts[0].lower()
    secret = hmac.digest(chain.secret, b"otr/1/fisherman", "sha256")
    return Fisherman(at, me, owned, folder, reporter("fisherman"), secret, most, chain.outbox)


def go(party: ChainParty, until: Callable[[bool], bool], poll_s: float) -> None:
    """Let a party act until it is told to stop."""
    from otr_node.chain.party import run_party

    party.report("started", court=party.chain.court.address, account=party.me)
    run_party(party, until=until, poll_s=poll_s)
    party.report("stopped")


def until_late(seconds: float | None) -> Callable[[bool], bool]:
    """Whether a party has had its time."""
    end = None if seconds is None else time.monotonic() + seconds
    return lambda acted: end is not None and time.monotonic() >= end


def reporter(who: str) -> Callable[..., None]:
    """Prints events as JSON lines."""

    def report(event: str, **about: Any) -> None:
        print(json.dumps({"at": round(time.time(), 3), "who": who, "event": event, **about}), flush=True)

    return report


def wei(ether: str, option: str) -> int:
    """A sum in ether as wei.

    Raises:
        InputError: no sum.
    """
    try:
        value = Decimal(ether) * 10**18
        if not 0 <= value <= 2**96 or value != int(value):
            raise InputError(f"{option}: found {ether!r}, expected ether, such as 0.05")
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise InputError(f"{option}: found {ether!r}, expected ether, such as 0.05") from error
    return int(value)


def print_gas(court: ChainCourt) -> None:
    """What each transaction has cost."""
    for spent in court.ledger:
        say(f"  {spent.call}: {spent.gas:,} gas")
