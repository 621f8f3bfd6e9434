"""Commands about evidence of machines: appraise what files hold, gather it, add what vendors say of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from otr_core.attestation import Policy, appraise, load_bundle
from otr_core.attestation.appraisal import Appraisal
from otr_core.attestation.bundle import MAX_FILE_BYTES, Bundle, NamedBytes
from otr_core.attestation.chain import VerifiedCache
from otr_core.cli import AsJson, File, Files, Words, instant, print_json, print_table, say
from otr_core.encoding import canonical_json, from_hex
from otr_core.errors import InputError
from otr_core.files import check_target, read_input, write_bytes
from otr_node.evidence.export import flat_input, result_claims, sign_token, signing_key
from otr_node.evidence.fetch import bundle_files, fetch_for
from otr_node.evidence.intake import read_evidence
from otr_node.evidence.outcome import Judgement, judge
from otr_node.evidence.pieces import as_nonce

evidence_commands = typer.Typer()


@evidence_commands.command("appraise")
def appraise_files(
    files: Annotated[
        Files, typer.Argument(help="Whatever holds evidence: a provider's response, vendor files, a kit, a folder.")
    ] = None,
    as_of: Annotated[
        Words, typer.Option(help="Instant of the appraisal, ISO 8601; UTC unless it says otherwise.")
    ] = None,
    gpu: Annotated[Files, typer.Option(help="GPU report: raw, hex, base64, or vendor JSON; may be repeated.")] = None,
    gpu_certs: Annotated[Files, typer.Option(help="Certificate chain of the report, PEM; may be repeated.")] = None,
    rim: Annotated[Files, typer.Option(help="Signed reference manifest (RIM); may be repeated.")] = None,
    ocsp: Annotated[Files, typer.Option(help="Stapled OCSP response; may be repeated.")] = None,
    quote: Annotated[File, typer.Option(help="TDX or SGX quote, or SEV-SNP report.")] = None,
    collateral: Annotated[File, typer.Option(help="Collateral of the quote, JSON, or AMD's certificates.")] = None,
    event_log: Annotated[File, typer.Option(help="Event log of the quote's run-time registers.")] = None,
    compose: Annotated[File, typer.Option(help="Compose file the quote's guest was started from.")] = None,
    nonce: Annotated[Words, typer.Option(help="Expected nonce, 32 bytes in hex, 0x or base64.")] = None,
    key: Annotated[Words, typer.Option(help="Key the quote must commit to, hex (see binding profiles).")] = None,
    policy: Annotated[
        File, typer.Option(help="Policy, TOML or JSON; default: otr_core/attestation/policies/default.toml.")
    ] = None,
    expect: Annotated[
        list[str] | None,
        typer.Option(help="Judge this kind of evidence alone: gpu, switch, cpu, tdx, sgx, snp, …; may be repeated."),
    ] = None,
    eat: Annotated[
        File, typer.Option(help="Also write the result as a signed token (EAT/EAR, JWT) to this file.")
    ] = None,
    eat_key: Annotated[
        File, typer.Option(help="Private key that signs it, PEM, P-256 or P-384; default: a new one.")
    ] = None,
    flat: Annotated[File, typer.Option(help="Also write it as one flat JSON object, for Rego or Cedar.")] = None,
    as_json: AsJson = False,
) -> None:
    """Appraise attestation evidence offline. Exit 0 accepted, 1 rejected, 2 unreadable."""
    for target in (eat, flat):
        check_target(target)
    if as_of is None:
        raise InputError("--as-of: found none, expected the instant of the appraisal, such as 2025-01-15")

    def one(path: Path | None, what: str) -> NamedBytes | None:
        return None if path is None else NamedBytes(read_input(path, what=what, limit_bytes=MAX_FILE_BYTES), str(path))

    def many(paths: Files, what: str) -> list[NamedBytes | None]:
        return [one(path, what) for path in paths or []]

    rules, moment = one(policy, "an appraisal policy"), instant(as_of)
    slots: dict[str, Any] = {
        "gpu": many(gpu, "a GPU report"),
        "gpu_certs": many(gpu_certs, "a certificate chain"),
        "rims": many(rim, "a RIM"),
        "ocsp": many(ocsp, "an OCSP response"),
        "quote": one(quote, "a quote"),
        "collateral": one(collateral, "collateral"),
        "event_log": one(event_log, "an event log"),
        "compose": one(compose, "a compose file"),
    }
    given = Policy.default() if rules is None else Policy.from_bytes(rules)
    given = given.expecting(*expect) if expect else given
    expected = None if nonce is None else as_nonce(nonce)
    if nonce is not None and expected is None:
        raise InputError(f"--nonce: found {nonce[:24]!r}, expected 32 bytes in hex, 0x or base64")
    known = None if key is None else from_hex(key, what="--key")
    cache = VerifiedCache()

    def appraise_one(bundle: Bundle) -> Appraisal:
        return appraise(bundle, given, moment, nonce=expected, key=known, cache=cache)

    if files:
        paths = [path for one_or_folder in files for path in bundle_files(one_or_folder)]
        read = ((str(path), read_input(path, what="evidence", limit_bytes=MAX_FILE_BYTES)) for path in paths)
        outcome = judge(read_evidence(read, beside=slots, cache=cache), appraise_one, moment)
    else:
        outcome = Judgement({"evidence": appraise_one(load_bundle(**slots, cache=cache))}, (), (), ())
    if eat is not None:
        token_key = signing_key(one(eat_key, "a private key (PEM)"))
        write_bytes(eat, sign_token(result_claims(outcome.appraisals), token_key).encode() + b"\n")
        if eat_key is None:
            say("token: signed with a key made for this call, whose public half is in it; name your own with --eat-key")
    if flat is not None:
        write_bytes(flat, canonical_json(flat_input(outcome.appraisals)) + b"\n")
    if as_json:
        document = outcome.document() if files else outcome.appraisals[0].as_json()
        sys.stdout.write(canonical_json(document).decode() + "\n")
    else:
        print_outcome(outcome)
    raise typer.Exit(0 if outcome.accepted else 1)


def print_outcome(outcome: Judgement) -> None:
    """Tables: what was taken from where, each node's claims, and what third parties say."""
    if outcome.taken:
        short = {name: f"node {number}" for number, name in enumerate(outcome.nodes)}
        uses = [*((row, short.get(row.use, row.use)) for row in outcome.taken)]
        uses += [(row, f"ignored: {row.use}") for row in outcome.ignored]
        print_table(
            ["found", "file", "place", "use"], [(row.what, Path(row.file).name, row.place, use) for row, use in uses]
        )
    for number, (name, appraisal) in enumerate(outcome.nodes.items()):
        if outcome.taken:
            print(f"\nnode {number}: {name}")
        print_table(["claim", "status", "source", "reason"], appraisal.table())
    if outcome.relayed:
        print("\nrelayed by third parties (no verdict rests on it)")
        rows = [(row.issuer, row.subject, row.claim, row.theirs, row.ours, row.outcome) for row in outcome.relayed]
        print_table(["issuer", "subject", "claim", "theirs", "ours", "outcome"], rows)


@evidence_commands.command("fetch")
def fetch_vendors_word(
    bundle: Annotated[Path, typer.Argument(help="Evidence: a file, or a folder of files.")], as_json: AsJson = False
) -> None:
    """Fetch manifests, revocation answers and collateral for a bundle; needs the network, once. Exit 1
    if some of it cannot be had; the same command goes on from there."""
    found = fetch_for(bundle)
    if as_json:
        print_json({"fetched": list(found.fetched), "kept": list(found.kept), "missing": dict(found.missing)})
    else:
        for name in found.fetched:
            print(name)
        for name, reason in found.missing.items():
            say(f"missing {name}: {reason}")
    raise typer.Exit(1 if found.missing else 0)
