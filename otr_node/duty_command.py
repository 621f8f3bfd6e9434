"""``otr spotcheck``: a check from a signed receipt to a verdict, between two parties who exchange files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from otr_core.cli import AsJson, print_json, receipt_policy, say
from otr_core.dispute.accounts import batch_id
from otr_core.encoding import canonical_json, from_hex, parse_json
from otr_core.errors import InputError, OtrError, SpotCheckError, in_file
from otr_core.extras import need_extras
from otr_core.files import check_target, read_input, write_bytes
from otr_core.poea.client import PlacedOrder, opened
from otr_core.spotcheck.opening import load_check, open_check
from otr_core.spotcheck.proof.committed import ModelCommitment
from otr_core.spotcheck.proof.verify import MOST_PROOF_BYTES
from otr_core.spotcheck.protocol import SpotCheck, Stage, committed_judge
from otr_core.spotcheck.wire import CheckTerms, CommittedBatch
from otr_node.chain.options import with_options
from otr_node.chain.places import load_place
from otr_node.options import Folder, own_order
from otr_node.project import find_home
from otr_node.proof.vouchers import VouchOptions, vouched_signers

spotcheck_app = typer.Typer(no_args_is_help=True, help="A spot check of a signed answer, through files.")
spotcheck_commands = typer.Typer()
spotcheck_commands.add_typer(spotcheck_app, name="spotcheck")

CheckFile = Annotated[Path, typer.Argument(help="The check, as otr spotcheck open has written it.")]
Own = Annotated[Path | None, typer.Option("--order", help="Your own copy of the order; opens a sealed answer.")]
Rules = Annotated[Path | None, typer.Option("--policy", help="Policy for evidence of hardware, then required.")]
At = Annotated[int | None, typer.Option("--at", help="When it was taken, Unix seconds; default: now.")]
KeyFile = Annotated[Path, typer.Option("--key", help="Encrypted key file of the account that committed the batch.")]
Password = Annotated[Path | None, typer.Option("--password-file", help="Else OTR_PASSWORD, or it is asked for.")]
Store = Annotated[Path | None, typer.Option("--store", help="Folder of circuits' keys; default: build/spotcheck.")]
TermsFile = Annotated[Path, typer.Option("--terms", help="Terms that both sides agreed to, your own copy (JSON).")]
BatchFile = Annotated[Path, typer.Option("--batch", help="The batch as you have read it from the chain (JSON).")]
Commitment = Annotated[
    Path | None, typer.Option(help="The commitment to the model that the terms name; whoever judges needs no weights.")
]
Out = Annotated[Path, typer.Option("--out", help="Where it is written, whole or not at all.")]


def _loaded(path: Path, order: Path | None, policy: Path | None) -> tuple[SpotCheck, PlacedOrder | None]:
    placed = own_order(order)
    rules = receipt_policy(policy, None, simulated=policy is None)
    whose = None if placed is None else placed.order
    with in_file(path):
        return load_check(read_input(path, what="a spot check (JSON)"), policy=rules, order=whose), placed


def _agreed(terms: Path, batch: Path) -> tuple[CheckTerms, CommittedBatch]:
    """What this party itself holds."""
    with in_file(terms):
        agreed = CheckTerms.from_json(parse_json(read_input(terms, what="terms (JSON)"), what="terms"))
    with in_file(batch):
        return agreed, CommittedBatch.from_json(parse_json(read_input(batch, what="a batch (JSON)"), what="batch"))


def _committed_to(check: SpotCheck, commitment: Path | None) -> ModelCommitment | None:
    """The commitment to the model under which a proof is made, if the terms demand one."""
    if commitment is not None and check.terms.demand != "proof":
        raise InputError(f"--commitment: found {commitment}, expected none: the terms demand {check.terms.demand}")
    return None if commitment is None else ModelCommitment.read(commitment)


def _show(check: SpotCheck, as_json: bool, out: Path | None = None) -> NoReturn:
    """Say where a check stands, in a file too if one is named; exit status 1 for a conviction."""
    awaited = check.round if check.stage in (Stage.INCLUDED, Stage.COMMITTED) else None
    told = {"stage": check.stage.name, "round": awaited, "until": check.until, "refused_by": check.refused_by}
    told |= {"position": check.position, "layer": check.layer, "why": check.why}
    if out is not None:
        write_bytes(out, canonical_json(told) + b"\n")
    if as_json:
        print_json(told)
    else:
        print(
            f"{check.stage.name.lower()}: {check.stage.value}"
            + (f" ({check.refused_by}: {check.why})" * bool(check.why))
        )
        if awaited is not None:
            print(f"round awaited: {awaited}")
    raise typer.Exit(1 if check.stage is Stage.CONVICTED else 0)


@spotcheck_app.command("open")
def open_spot_check(
    receipt: Annotated[Path, typer.Argument(help="A receipt file that otr infer wrote.")],
    terms: TermsFile,
    batch: BatchFile,
    place: Annotated[Path, typer.Option(help="Where the receipt is in it: a place file.")],
    out: Out,
    order: Own = None,
    policy: Rules = None,
    as_json: AsJson = False,
) -> None:
    """Begin a check: show that the receipt was ordered, signed and committed."""
    need_extras("node")
    check_target(out)
    placed = own_order(order)
    agreed, committed = _agreed(terms, batch)
    with in_file(place):
        where = load_place(read_input(place, what="a place file (JSON)"))
    if where.batch != batch_id("0x" + committed.operator.hex(), committed.root):
        raise InputError(f"--place: found batch {where.batch.hex()}, expected the one of --batch")
    rules = receipt_policy(policy, None, simulated=policy is None)
    whose = None if placed is None else placed.order
    with in_file(receipt):
        raw = read_input(receipt, what="a receipt file (JSON)")
        check = open_check(agreed, raw, committed, where.at, tuple(where.path), policy=rules, order=whose)
    write_bytes(out, check.dump())
    _show(check, as_json)


@spotcheck_app.command("round")
def take_round(
    file: CheckFile,
    signature: Annotated[str, typer.Option(help="The beacon's signature of the awaited round, hex.")],
    order: Own = None,
    policy: Rules = None,
    as_json: AsJson = False,
) -> None:
    """Take the round that draws the answer and its place, or the units of committed rows."""
    check, _ = _loaded(file, order, policy)
    given = from_hex(signature, length=48, what="--signature")
    check = check.draw(given) if check.stage is Stage.INCLUDED else check.draw_units(given)
    write_bytes(file, check.dump())
    _show(check, as_json)


@spotcheck_app.command("answer")
def answer_spot_check(
    file: CheckFile,
    key: KeyFile,
    terms: TermsFile,
    batch: BatchFile,
    out: Out,
    proof_out: Annotated[Path | None, typer.Option(help="Where a proof is written, if one is demanded.")] = None,
    password_file: Password = None,
    order: Own = None,
    policy: Rules = None,
    model: Folder = None,
    store: Store = None,
    commitment: Commitment = None,
) -> None:
    """Say, as the operator, what is due now: the rows of a drawn place, answers to its units, or a proof.

    The check is another's file: with a beacon or a batch of its own it could draw what it likes to see."""
    need_extras("node", "chain")
    for target in (out, proof_out):
        check_target(target)
    if out == proof_out:
        raise InputError(f"--proof-out: found {out}, expected another file than the message's")
    from otr_node import duty
    from otr_node.chain.keys import load_key, read_password
    from otr_node.proof.answers import check_commitment, held_model, kept_commitment, seed_of

    check, placed = _loaded(file, order, policy)
    for name, found, own in zip(("terms", "batch"), (check.terms, check.batch), _agreed(terms, batch), strict=True):
        if found != own:
            raise InputError(f"{file}: found other {name} than those of --{name}")
    if check.terms.demand == "proof" and proof_out is None:
        raise InputError("--proof-out: found none, expected where the demanded proof goes")
    under = _committed_to(check, commitment)
    if check.terms.demand == "proof":
        with in_file(commitment or terms):
            duty.check_named(check, under)
    secret = bytes(load_key(key, read_password(password_file)).key)
    if (address := duty.key_address(secret)) != check.batch.operator:
        expected = f"{check.batch.operator.hex()}, who committed the batch"
        raise InputError(f"{key}: found the key of {address.hex()}, expected that of {expected}")
    project = find_home()
    said, response = opened(check.file, placed)
    held = held_model(project, check.file, model, say)
    if check.terms.demand == "proof":
        if under is not None:
            seed = seed_of(commitment, under)
            with in_file(commitment):
                check_commitment(held, under, say, seed)  # what is signed is said of one's own weights
        kept = None if commitment is None or under is None else kept_commitment(held, commitment, under, say)
        message, proof = duty.proof_message(check, held, said, response, secret, say, kept)
        write_bytes(proof_out or out, proof)
    else:
        circuits = duty.circuits_for(held, check.terms.shares, store or project.build / "spotcheck")
        who = duty.operator_of(held, check.file, said, response, circuits)
        message = (duty.rows_message if check.stage is Stage.PLACED else duty.units_message)(check, who, secret)
    write_bytes(out, message)
    print(f"message: {out}, {len(message)} bytes")


@contextmanager
def _judging() -> Iterator[None]:
    """What cannot be judged is no verdict: whatever fails here is unusable, exit status 2, and no conviction."""
    try:
        yield
    except InputError:
        raise
    except OtrError as error:
        raise InputError(f"{error}; nothing was judged") from error


@spotcheck_app.command("take")
@with_options
@_judging()
def take_message(
    file: CheckFile,
    vouching: VouchOptions,
    message: Annotated[Path | None, typer.Argument(help="The operator's message; none: its clock ran out.")] = None,
    proof: Annotated[Path | None, typer.Option(help="The proof that the message names.")] = None,
    at: At = None,
    order: Own = None,
    policy: Rules = None,
    model: Folder = None,
    store: Store = None,
    commitment: Commitment = None,
    out: Annotated[Path | None, typer.Option(help="Where it says what --json prints, whole or not at all.")] = None,
    as_json: AsJson = False,
) -> None:
    """Take what the operator sent, or its silence: rows bring the check on, an answer is judged. Exit 1 if the
    operator is convicted, 2 if nothing was judged. With --model beside --commitment that is made again from the
    weights first."""
    check_target(out)
    check, placed = _loaded(file, order, policy)
    if commitment is None and vouching.asked:
        raise InputError("--commitment: found none, expected the one that is vouched for")
    under = _committed_to(check, commitment)
    now = int(time.time()) if at is None else at
    if message is None:
        check = check.lapse(now)
        write_bytes(file, check.dump())
        _show(check, as_json, out)
    raw = read_input(message, what="a message (JSON)")
    if check.stage is Stage.PLACED:
        with in_file(message):
            check = check.commit_rows(now, raw)
        write_bytes(file, check.dump())
        _show(check, as_json, out)
    said, response = opened(check.file, placed)
    shown = b"" if proof is None else read_input(proof, what="a proof", limit_bytes=MOST_PROOF_BYTES)
    if under is not None:
        if vouching.asked:
            vouched_signers(vouching, under, check.file.model.lane, check.terms.domain, int(time.time()))
        judge = committed_judge(under, said, response, None if placed is None else placed.order)
    if under is None or model is not None:
        need_extras("node")
        from otr_node import duty
        from otr_node.proof.answers import check_commitment, held_model, seed_of

        project = find_home()
        held = held_model(project, check.file, model, say)
        if under is None:
            circuits = duty.circuits_for(held, check.terms.shares, store or project.build / "spotcheck")
            judge = duty.drawn_judge(check, held, said, response, circuits)
        else:
            seed = seed_of(commitment, under)
            with in_file(commitment):
                check_commitment(held, under, say, seed)
    try:
        _show(check.answer(now, raw, judge, shown), as_json, out)
    except SpotCheckError as error:
        about = {"stage": file, "proof bytes": proof, "held model": commitment, "held circuits": commitment}
        with in_file(about.get(error.check) or message):
            raise
