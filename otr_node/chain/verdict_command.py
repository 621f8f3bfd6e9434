"""The command line of drawn answers: ``otr chain draw``, ``vouch`` and ``attest``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from otr_core.cli import say
from otr_core.dispute.state import Verdict
from otr_core.encoding import from_hex
from otr_core.errors import InputError
from otr_core.extras import need_extras
from otr_core.files import check_target, read_input, write_bytes
from otr_core.poea.document import load_receipt_file
from otr_core.spotcheck.proof.verify import MOST_PROOF_BYTES
from otr_node.chain.access import entered, print_gas, with_models
from otr_node.chain.options import CourtOptions, PartyOptions, with_options
from otr_node.chain.places import load_place
from otr_node.chain.verdicts import summons, vouch
from otr_node.options import own_order
from otr_node.project import find_home

PlaceFile = Annotated[Path, typer.Option("--place", help="Where the receipt was committed.")]
_SIGNATURE_BYTES = 65

verdict_app = typer.Typer()


@verdict_app.command("draw")
@with_options
def post_draw(
    value: Annotated[str, typer.Argument(help="Randomness of a round of the beacon, 32 bytes as hex.")],
    options: CourtOptions,
) -> None:
    """As the registrar: post a value of the beacon; it draws from the batches that were committed before."""
    drawn = from_hex(value, length=32, what="value")
    at, me = entered(options)
    at.call(None, me, "post_draw", drawn)
    print_gas(at.ledger)
    print(f"posted: {drawn.hex()}")


@verdict_app.command("vouch")
@with_options
def vouch_for(
    proof: Annotated[Path, typer.Argument(help="Of the whole answer, as otr prove writes it.")],
    options: PartyOptions,
    receipt: Annotated[Path, typer.Option(help="The receipt that is drawn.")],
    place: PlaceFile,
    out: Annotated[Path, typer.Option(help="Where the signature is written.")],
    order: Annotated[Path | None, typer.Option(help="The client's copy, where the order is sealed.")] = None,
) -> None:
    """As an arbiter: check the proof of a drawn answer against the chain, and sign that it is right."""
    need_extras("node", "chain")
    check_target(out)
    from otr_node.chain.followed import Followed
    from otr_node.proof.answers import check_file

    raw, where = read_input(receipt, what="a receipt file (JSON)"), load_place(read_input(place, what="a place (JSON)"))
    placed = own_order(order)
    given, folders = read_input(proof, what="a proof", limit_bytes=MOST_PROOF_BYTES), options.model or []
    if len(folders) != 1:
        raise InputError(f"--model: found {len(folders)}, expected the one that was ordered")
    at, owned, chain = with_models(options)
    followed = Followed(at, {own: each.registered for own, each in owned.items()})
    followed.read()
    signature = vouch(
        followed.court,
        load_receipt_file(raw),
        where,
        lambda: check_file(find_home(), given, raw, placed, folders[0], say),
        chain.sign_hash,
    )
    write_bytes(out, signature)
    print(f"vouched: answer {where.at} of batch {where.batch.hex()} by {chain.accounts[0]}")


@verdict_app.command("attest")
@with_options
def attest_drawn(
    signatures: Annotated[list[Path], typer.Argument(help="Of the two arbiters, in the court's order.")],
    options: CourtOptions,
    place: PlaceFile,
) -> None:
    """Show the court the verdict on a drawn answer."""
    from otr_node.chain.followed import Followed

    shown = [read_input(each, what="a signature (65 bytes)") for each in signatures]
    if [len(each) for each in shown] != [_SIGNATURE_BYTES] * 2:
        raise InputError(f"signatures: found {[len(each) for each in shown]} bytes, expected two of {_SIGNATURE_BYTES}")
    where = load_place(read_input(place, what="a place (JSON)"))
    at, me = entered(options)
    followed = Followed(at, {})
    followed.read()
    at.call(None, me, "attest", summons(followed.court, where), Verdict.CHALLENGER_LOSES.value, b"".join(shown))
    print_gas(at.ledger)
    print(f"attested: answer {where.at} of batch {where.batch.hex()}")
