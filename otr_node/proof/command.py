"""Commands of proofs of whole answers: to make one, to check one, to commit to a model."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from otr_core.cli import AsJson, print_json, say
from otr_core.encoding import from_hex
from otr_core.errors import InputError, in_file
from otr_core.extras import need_extras
from otr_core.files import check_target, read_input, write_bytes
from otr_core.poea.client import opened
from otr_core.poea.document import load_receipt_file
from otr_core.poea.order import Domain
from otr_core.spotcheck.proof.committed import ModelCommitment, check_answers
from otr_core.spotcheck.proof.verify import HELD, MOST_PROOF_BYTES, check_committed
from otr_core.spotcheck.proof.vouching import ADDRESS_BYTES, CommitmentStatement, SignedStatement
from otr_node.chain.options import with_options
from otr_node.models import model_folder
from otr_node.options import Folder, own_order
from otr_node.project import find_home
from otr_node.proof.secret import SEED_BYTES, HidingSecret
from otr_node.proof.vouchers import VouchOptions, vouched_signers

proof_commands = typer.Typer()
ReceiptPath = Annotated[Path, typer.Argument(help="A receipt file that otr infer wrote.")]
OwnOrder = Annotated[Path | None, typer.Option(help="Your own copy of the order; opens a sealed answer.")]


@proof_commands.command("prove")
def prove_receipt(
    receipt: ReceiptPath,
    out: Annotated[Path, typer.Option(help="Where the proof is written, whole or not at all.")],
    order: OwnOrder = None,
    model: Folder = None,
    commitment: Annotated[
        Path | None, typer.Option(help="Prove to a verifier who holds this commitment to the model, not the model.")
    ] = None,
    zk: Annotated[
        bool, typer.Option("--zk", help="Only a proof that tells nothing of the weights: see commit-model --hide.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Prove the whole answer in a receipt of the portable lane: that every chosen token is what the
    model computes, greedy or drawn. For a verifier who holds the model, or a commitment to it
    (docs/proof.md). A prover that was ended goes on when it is started again; what it said is kept
    beside OUT until the proof is whole."""
    need_extras("node")
    check_target(out)
    from otr_node.proof.answers import prove_file

    hides = commitment is not None and ModelCommitment.read(commitment).answers > 0
    if zk and not hides:
        found = "no commitment" if commitment is None else f"{commitment}, which hides nothing"
        raise InputError(f"--zk: found {found}, expected --commitment of one that hides (otr commit-model --hide)")
    placed = own_order(order)
    start = time.process_time()
    raw, kept = read_input(receipt, what="a receipt file (JSON)"), out.with_name(f".{out.name}.begun")
    proof = prove_file(find_home(), raw, placed, model, say, kept, commitment)
    write_bytes(out, proof)
    how = "held" if commitment is None else "committed"
    spent, mode = time.process_time() - start, "zk" if hides else "succinct"
    summary = {"proof_bytes": len(proof), "cpu_s": spent, "mode": mode, "model": how}
    if as_json:
        print_json(summary)
    else:
        under = "" if commitment is None else f" --commitment {commitment}"
        print(f"proof: {out}, {len(proof)} bytes (check it with: otr check {out} --receipt {receipt}{under})")


@proof_commands.command("commit-model")
def commit_to_weights(
    out: Annotated[
        Path | None, typer.Option(help="Where the commitment is written; OUT.columns and OUT.secret are the prover's.")
    ] = None,
    model: Folder = None,
    sign: Annotated[
        Path | None, typer.Option(help="Encrypted key file: sign that this is the model's commitment, in OUT.signed.")
    ] = None,
    password_file: Annotated[Path | None, typer.Option(help="Else OTR_PASSWORD, or it is asked for.")] = None,
    chain_id: Annotated[int, typer.Option(help="Chain of the court that the statement is made under.")] = 0,
    court: Annotated[str, typer.Option(help="Address of that court, hex.")] = "00" * ADDRESS_BYTES,
    hide: Annotated[
        int, typer.Option(help="Hide the model, in so many proofs; OUT.secret counts them. 0: hide nothing.")
    ] = 0,
    against: Annotated[list[Path] | None, typer.Option(help="Signed statements: exit 1 if one is false.")] = None,
    as_json: AsJson = False,
) -> None:
    """Commit to a model of the portable lane, once: what a verifier of whole answers needs who does
    not hold the weights. Whoever holds them gets the same bytes, and can so vouch for its digest (--sign)
    or show that somebody's signed statement of it is false (--against). With --hide proofs under it are zero
    knowledge; nobody can make it again without OUT.secret, and nobody vouches for it."""
    need_extras("node", *(["chain"] if sign else []))
    if out is None and (sign or not against):
        raise InputError("--out: found none, expected where the commitment goes")
    if hide and (out is None or sign or against):
        raise InputError("--hide: found it with --sign or --against, or without --out, expected --out alone beside it")
    check_target(out)
    from otr_node.portable import load_portable
    from otr_node.proof.answers import commit_for_proofs, false_vouchers, hashes_beside, secret_beside

    seed = b""
    if hide and out is not None:
        check_answers(hide)
        seed = os.urandom(SEED_BYTES)
        if secret_beside(out).exists():
            raise InputError(f"{secret_beside(out)}: found a secret, expected none: it belongs to another commitment")
    given = [SignedStatement.read(path) for path in against or []]
    domain, secret = Domain(chain_id, from_hex(court, length=ADDRESS_BYTES, what="--court")), b""
    if sign is not None:
        from otr_node.chain.keys import load_key, read_password

        secret = bytes(load_key(sign, read_password(password_file)).key)
    held = load_portable(model or model_folder(find_home(), report=say))
    start = time.process_time()
    found = commit_for_proofs(held, say, seed, hide)
    own, lane = found.commitment, held.manifest.lane
    told = {**own.to_json(), "digest": own.digest.hex(), "cpu_s": time.process_time() - start}
    lines = []
    if out is not None:
        if seed:
            HidingSecret.create(secret_beside(out), seed, own.digest)
        write_bytes(hashes_beside(out), found.hashes)
        write_bytes(out, own.dump())
        lines.append(f"commitment: {out}, to model {own.model_id.hex()}, digest {own.digest.hex()}")
    if secret and out is not None:
        signed = SignedStatement.by(
            secret, CommitmentStatement(domain, own.model_id, own.digest, lane, int(time.time()))
        )
        beside = out.with_name(f"{out.name}.signed")
        write_bytes(beside, signed.dump())
        told["signer"] = signed.signer.hex()
        lines.append(f"signed: {beside}, by {signed.signer.hex()}")
    false = false_vouchers(held, own, given)
    told["false"] = [each.signer.hex() for each in false]
    for each in given:
        verdict = "false" if each in false else "true"
        lines.append(f"{verdict}: {each.signer.hex()} has signed {each.statement.commitment.hex()}")
    if as_json:
        print_json(told)
    else:
        print("\n".join(lines))
    raise typer.Exit(1 if false else 0)


@proof_commands.command("check")
@with_options
def check_receipt_proof(
    proof: Annotated[Path, typer.Argument(help="A proof that otr prove wrote.")],
    receipt: Annotated[Path, typer.Option(help="The receipt file whose answer is proven.")],
    vouching: VouchOptions,
    order: OwnOrder = None,
    model: Folder = None,
    commitment: Annotated[
        Path | None,
        typer.Option(
            help="A commitment to the model that you trust; no weights are needed. With --model it is made "
            "again from them first."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check the proof of a whole answer against its receipt, with the model at hand or a commitment to
    it. Who signed the receipt is checked by otr verify. Exit 1 if it is refused, by the check's name."""
    if commitment is None and vouching.asked:
        raise InputError("--commitment: found none, expected the one that is vouched for")
    placed = own_order(order)
    given = read_input(proof, what="a proof", limit_bytes=MOST_PROOF_BYTES)
    raw = read_input(receipt, what="a receipt file (JSON)")
    own = None if commitment is None else ModelCommitment.read(commitment)
    signers: tuple[bytes, ...] = ()
    with in_file(receipt):
        file = load_receipt_file(raw)
    if own is not None and vouching.asked:
        domain = (file if placed is None else placed).order.domain
        signers = vouched_signers(vouching, own, file.model.lane, domain, int(time.time()))
    if own is not None and model is None:
        ordered = None if placed is None else placed.order
        said = opened(file, placed)
        with in_file(proof):
            found = check_committed(given, file, *said, committed=own, order=ordered)
    else:
        need_extras("node")
        from otr_node.proof.answers import check_file, seed_of

        seed = b"" if own is None else seed_of(commitment, own)
        with in_file(proof):
            found = check_file(find_home(), given, raw, placed, model, say, own, seed)
    if as_json:
        by = {"vouched_by": [each.hex() for each in signers]}
        print_json({"accepted": True, **vars(found), **by, "order_from": "file" if placed is None else "client"})
        return
    whose = "the order in the file" if placed is None else "your order"
    how = f"drawn at temperature {found.temperature_milli / 1000}" if found.temperature_milli else "greedily"
    print(
        f"accepted: all {found.tokens} tokens are what the model of {whose} computes, {how}, from the prompt on "
        f"({found.positions} positions, {found.soundness_bits:.1f} bits)"
    )
    if found.model != HELD:
        whose = f"vouched for by {', '.join(each.hex() for each in signers)}" if signers else "trusted"
        again = "made again from the weights" if model else f"{whose}: no weights were looked at (docs/proof.md)"
        print(f"under the commitment {found.model} to the model, {again}")
    if own is not None and own.answers:
        print(f"zero knowledge: its prover could hide the weights, in {own.answers} proofs under this commitment")
