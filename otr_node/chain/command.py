"""The command line of a court on a chain: ``otr chain …`` and ``otr watch``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from otr_core import merkle
from otr_core.cli import AsJson, print_json, print_table, say
from otr_core.dispute.accounts import batch_id
from otr_core.dispute.profile import own_profile, read_profile
from otr_core.dispute.registry import Key
from otr_core.dispute.state import NOTHING
from otr_core.encoding import from_hex
from otr_core.errors import InputError, OtrError, ReceiptError
from otr_core.extras import need_extras
from otr_core.files import check_target, read_input, write_bytes
from otr_core.poea.document import load_receipt_file
from otr_core.poea.tee import EvidencePolicy
from otr_core.poea.verify import verify_receipt
from otr_node.chain.access import (
    answer_folder,
    connect,
    entered,
    fisherman_of,
    followed_at,
    go,
    load_models,
    print_gas,
    reporter,
    until_late,
    with_models,
)
from otr_node.chain.committing import batches_of
from otr_node.chain.options import (
    CourtFile,
    CourtOptions,
    JudgedLane,
    Models,
    PartyOptions,
    Password,
    Rpc,
    SenderOptions,
    wei,
    with_options,
)
from otr_node.chain.verdict_command import verdict_app

Budget = Annotated[str, typer.Option("--budget", help="Most ether in bonds, lost and at stake.")]

chain_app = typer.Typer(no_args_is_help=True, help="A court on a chain, by a node's URL.")
chain_app.add_typer(verdict_app)
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
@with_options
def deploy_court(
    options: SenderOptions,
    out: Annotated[Path, typer.Option(help="Where it is written what stands where.")],
    profile: Annotated[
        Path | None,
        typer.Option(help="The deployment's profile, whose terms the court has; default: data/deployment.toml."),
    ] = None,
    model: Models = None,
    lane: JudgedLane = "portable",
    arbiter: Annotated[
        list[str] | None, typer.Option(help="Address that signs verdicts on drawn answers; two, or none.")
    ] = None,
) -> None:
    """Deploy the contracts, and a judge for each model; the account becomes registrar. With two arbiters
    the beacon draws answers whose verdicts are due; without, none is."""
    need_extras("chain")
    check_target(out)
    from otr_node.chain.onchain import NOBODY, ChainCourt, deploy_arbiter

    signers = ["0x" + from_hex(each, length=20, what="--arbiter").hex() for each in arbiter or ()]
    if (signers and len(set(signers)) != len(signers)) or len(signers) not in (0, 2):
        raise InputError(f"--arbiter: found {signers}, expected two different addresses, or none")
    deployed = own_profile() if profile is None else read_profile(profile)
    owned = load_models(model or [], lane)
    chain = connect(options)
    judges = deploy_arbiter(chain, signers[0], signers[1]) if signers else NOBODY
    court = ChainCourt(chain, deployed.court, chain.accounts[0].lower(), judges)
    write_bytes(out, court.deployment.dump())
    for own in owned:
        court.register_model(own.id, own.trees)
        write_bytes(out, court.deployment.dump())
    print_gas(court.ledger)
    print(f"court: {court.court.address} (told in {out})")


@chain_app.command("register")
@with_options
def register_here(
    options: CourtOptions,
    stake: Annotated[str | None, typer.Option(help="As operator: ether to stake.")] = None,
    model: Models = None,
    lane: JudgedLane = "portable",
    receipt: Annotated[Path | None, typer.Option(help="As registrar: a receipt whose key is registered.")] = None,
    operator: Annotated[str | None, typer.Option(help="With --receipt: the operator's address.")] = None,
    platform: Annotated[
        str | None,
        typer.Option(help="With --receipt: the class of its platform (32 bytes, hex), revoked and held up as one."),
    ] = None,
) -> None:
    """Stake as an operator; or, as the registrar, register models, and the key of a TEE whose receipt
    and (simulated) evidence hold."""
    if stake is None and not model and receipt is None:
        raise InputError("register: expected --stake, --model or --receipt")
    if (receipt is None) != (operator is None):
        raise InputError("register: expected --receipt and --operator together")
    if platform is not None and receipt is None:
        raise InputError("register: expected --platform with --receipt")
    kind = NOTHING if platform is None else from_hex(platform, length=32, what="--platform")
    staked = None if stake is None else wei(stake, "--stake")
    named = None if operator is None else "0x" + from_hex(operator, length=20, what="--operator").hex()
    at, me = entered(options)
    for own in load_models(model or [], lane):
        at.register_model(own.id, own.trees)
        write_bytes(options.court, at.deployment.dump())
    if receipt is not None and named is not None:
        file = load_receipt_file(read_input(receipt, what="a receipt file (JSON)"))
        try:
            verify_receipt(file, policy=EvidencePolicy(allow_simulated=True), as_of=at.chain.time, order_from="file")
        except ReceiptError as error:
            raise OtrError(f"--receipt: rejected by check {error}") from error
        at.register_key(file.keys.digest, Key(named, file.order.model_id, file.keys.address, kind))
        print(f"key: {file.keys.digest.hex()} of {operator}")
    if staked is not None:
        at.call(None, me, "register", value=staked)
        print(f"staked: {stake} ether by {me}")
    print_gas(at.ledger)


@chain_app.command("commit")
@with_options
def commit_answers(
    answers: Annotated[Path, typer.Argument(help="Folder with NAME.order.json and NAME.receipt.json.")],
    options: CourtOptions,
) -> None:
    """Commit the answers of a folder that lie in no batch yet as one, and write their places. One that was
    planned before, and did not come to the chain, is sent again as it was. Answers whose key the court does
    not know are named, and left for later."""
    at, me = entered(options)
    from otr_node.chain.answers import answers_in
    from otr_node.chain.followed import Followed

    folder, followed = answer_folder(answers), Followed(at, {})
    followed.read()
    read = list(answers_in(folder, lambda name, error: say(f"{name}: {error}")))
    keyless = [each.name for each in read if each.file.receipt.key_id not in followed.court.keys]
    found = [each for each in read if each.name not in keyless]
    if keyless:
        say(f"left for later, because the court does not know their key: {', '.join(keyless)}")
    made = list(batches_of(folder, found, at.domain, me, followed.court.batches))
    if not made:
        raise InputError(f"{answers}: found no answer without a place whose key is registered, expected at least one")
    for leaves in made:
        root = merkle.root(leaves)
        at.call(None, me, "commit_batch", root, len(leaves))
        print(f"batch: {batch_id(me, root).hex()} of {len(leaves)} receipts")
    print_gas(at.ledger)


@chain_app.command("challenge")
@with_options
def challenge_answers(
    answers: Annotated[Path, typer.Argument(help="Folder of answers, with their orders and places.")],
    options: PartyOptions,
    budget: Budget = "1",
) -> None:
    """Run the answers of a folder again, challenge what is false, and play until nothing is open. Exit
    1 if a challenge was lost."""
    fisherman = fisherman_of(answers, options, budget)
    late = until_late(options.seconds)

    def over(acted: bool) -> bool:
        own = [each for each in fisherman.followed.court.challenges if each.challenger == fisherman.me]
        return late(acted) or (not acted and not any(each.status.name in ("COMMITTED", "OPEN") for each in own))

    go(fisherman, over, options)
    print_gas(fisherman.chain.ledger)
    own = [each for each in fisherman.followed.court.challenges if each.challenger == fisherman.me]
    raise typer.Exit(1 if any(each.status.name == "LOST" for each in own) else 0)


@chain_commands.command("watch")
@with_options
def watch_court(
    orders: Annotated[Path, typer.Option(help="Folder of own orders and what came back (docs/network.md).")],
    options: PartyOptions,
    budget: Budget = "1",
) -> None:
    """A fisherman: follows a court's logs, runs own orders again, challenges, plays and claims. What it
    does and why it says in JSON lines. Started again after a kill it goes on."""
    fisherman = fisherman_of(orders, options, budget)
    go(fisherman, until_late(options.seconds), options)


@chain_app.command("defend")
@with_options
def defend_answers(
    answers: Annotated[Path, typer.Argument(help="Folder of answers given, with their orders and places.")],
    options: PartyOptions,
) -> None:
    """The operator's side: answers challenges, shows what is demanded, finalises. Started again after
    a kill it goes on."""
    need_extras("node", "chain")
    from otr_node.chain.defender import Defender

    folder = answer_folder(answers)
    at, owned, chain = with_models(options)
    go(
        Defender(at, chain.accounts[0].lower(), owned, folder, reporter("operator")),
        until_late(options.seconds),
        options,
    )


@chain_app.command("withdraw")
@with_options
def withdraw_here(
    options: CourtOptions,
    stake: Annotated[bool, typer.Option("--stake", help="Ask for the stake, or take it once it is free.")] = False,
) -> None:
    """Take back payments of void batches, and what the court owes; with --stake the stake as well."""
    at, me = entered(options)
    from otr_node.chain.followed import Followed

    followed = Followed(at, {})
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
    print_gas(at.ledger)


@chain_app.command("status")
def show_status(rpc: Rpc, court: CourtFile, as_json: AsJson = False) -> None:
    """A court's operators, batches and challenges, from its logs alone."""
    followed = followed_at(rpc, court)
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
