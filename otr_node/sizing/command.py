"""The command line of sizing: ``otr size`` and ``otr economics``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from otr_core.cli import AsJson, exit_with, print_json, print_table, say
from otr_core.economics import scenarios
from otr_core.errors import InputError, reported_as
from otr_core.files import check_target, data_folder, write_text
from otr_node.sizing import cases, page
from otr_node.sizing.claims import read_claims
from otr_node.sizing.profile import check_choices, profile_toml, sized_profile
from otr_node.sizing.size import size_network

sizing_commands = typer.Typer()


@sizing_commands.command("economics")
def show_economics(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Use cases, TOML as in data/scenarios; default: all of those.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """For each use case: the rate of spot checks and the stake at which cheating does not pay, and
    what sets them."""
    found = map(cases.read_scenario, files) if files else scenarios.load(data_folder()).values()
    sized = [cases.size_case(case) for case in found]
    if as_json:
        print_json([one.document() for one in sized])
        return
    for one in sized:
        print(f"{one.scenario.title}. {one.scenario.about}")
        print_table(cases.ROW_HEAD, one.rows())
        print(f"{one.sentence}\n")


@sizing_commands.command("size")
def size(
    network: Annotated[Path | None, typer.Argument(help="Network file, TOML as docs/example_network.toml.")] = None,
    claims: Annotated[Path | None, typer.Argument(help="Values of answers, CSV: value_usd, count, date.")] = None,
    network_option: Annotated[Path | None, typer.Option("--network", help="The network file, named.")] = None,
    claims_option: Annotated[Path | None, typer.Option("--claims", help="The values, named.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for report.md, report.json, terms.toml and OtrTerms.sol.")
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option(help="Where a deployment's profile of these terms goes, as otr chain deploy --profile takes it."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Stake, rate, penalty, bounty and fishermen for a network, as a report of one page and as constants.
    Exit 1 where no terms within its limits deter."""
    if (network and network_option) or (claims and claims_option):
        raise InputError("size: found a file both by place and by name, expected one network and one CSV of claims")
    network, claims = network or network_option, claims or claims_option
    if network is None:
        raise InputError("size: found no network file, expected one such as docs/example_network.toml")
    if out is not None and ((out.exists() and not out.is_dir()) or not out.parent.is_dir()):
        raise InputError(f"--out: found {str(out)!r}, expected a folder, or a name in one that exists")
    if out is not None and profile is not None and profile.resolve() == out.resolve():
        raise InputError(f"--profile: found {str(profile)!r}, which is the folder of --out; expected another name")
    check_target(profile)
    case = cases.read_scenario(network)
    if profile is not None:
        check_choices(case)
    values = read_claims(claims) if claims else None
    if out is not None:  # before anything is computed for it
        with reported_as(InputError, f"--out: found {str(out)!r}, which cannot be made", OSError):
            out.mkdir(exist_ok=True)
    report = size_network(case, values)
    if out is not None:
        write_text(out / "report.md", page.report_page(report))
        write_text(out / "report.json", json.dumps(report.document(), indent=1, sort_keys=True) + "\n")
        for name, constants in (("terms.toml", page.constants_toml), ("OtrTerms.sol", page.constants_solidity)):
            if report.terms.deters:
                write_text(out / name, constants(report))
            else:  # what an earlier run left would contradict the report beside it
                (out / name).unlink(missing_ok=True)
        say(f"written to {out}")
    if profile is not None and report.terms.deters:
        write_text(profile, profile_toml(sized_profile(report), report))
        say(f"profile written to {profile}")
    elif profile is not None:  # nor may a court be deployed by what an earlier run left
        profile.unlink(missing_ok=True)
    if as_json:
        print_json(report.document())
    elif out is None:
        print(page.report_page(report), end="")
    exit_with([] if report.terms.deters else [page.why_not(report)])
