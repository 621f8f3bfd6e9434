"""The command line, ``otr``: commands that read files, call the core, print, and set the exit
status.

Exit status: 0 good · 1 refused (a rejected receipt or evidence, a claim that no longer matches,
data that is wrong) · 2 unusable input (an unreadable file, an unknown name, a value outside its
domain). An error is one line on standard error. Rich is imported inside the function that uses it,
so that commands start sooner.

The commands here verify, and need neither a checkout nor an extra. The packages ``otr_node`` (for
whoever runs something) and ``otr_paper`` add theirs through the entry points ``otr.commands``.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

import otr_core
from otr_core.attestation import Policy
from otr_core.attestation.bundle import MAX_FILE_BYTES
from otr_core.attestation.chain import as_utc
from otr_core.encoding import from_hex
from otr_core.errors import InputError, OtrError, one_line
from otr_core.extras import missing_extra
from otr_core.files import data_folder, read_input
from otr_core.poea import OnceStore, load_order
from otr_core.poea.attested import appraise_evidence, appraiser_with
from otr_core.poea.audit import registered_models, verify_file
from otr_core.poea.tee import Appraiser, EvidencePolicy

HELP = """Verify what Optimistic TEE-Rollups leave behind: evidence of machines, receipts, the claims of the paper.

Exit status: 0 good; 1 refused (a rejected receipt or evidence, a claim that no longer matches, data that is wrong);
2 unusable input (an unreadable file, an unknown name, a part that is not installed). Errors are one line on standard
error. With --json, standard output is one JSON document.
"""
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=HELP)

Option = typer.Option
AsJson = Annotated[bool, Option("--json", help="One JSON document on standard output, nothing else there.")]
File = Path | None
Files = list[Path] | None
Words = str | None


QUIET, VERBOSE = "OTR_QUIET", "OTR_VERBOSE"
"""Environment variables that ``--quiet`` and ``--verbose`` set: a command's own processes do as it does."""
_INTERRUPTED = 130


def say(line: str) -> None:
    """Progress goes to standard error, so that standard output stays the result; ``--quiet`` leaves it out."""
    if not os.environ.get(QUIET):
        complain(line)


def complain(line: str) -> None:
    """An error goes to standard error, whatever was asked for."""
    print(line, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print the one JSON document that ``--json`` promises."""
    print(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False))


def print_version(wanted: bool) -> None:
    if wanted:
        print(f"otr {otr_core.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    quiet: Annotated[bool, Option("--quiet", help="No progress on standard error; errors still.")] = False,
    verbose: Annotated[bool, Option("--verbose", help="With an error, where in the code it arose.")] = False,
) -> None:
    """Options that stand before any command."""
    os.environ.update({name: "1" for name, asked in ((QUIET, quiet), (VERBOSE, verbose)) if asked})


@app.command("verify")
def verify_receipt_file(
    file: Annotated[Path, typer.Argument(help="A receipt written by otr infer.")],
    order: Annotated[File, Option(help="Your order, written by otr order; without it the file's is taken.")] = None,
    as_of: Annotated[Words, Option(help="Instant of the check, ISO 8601; default: now.")] = None,
    model_id: Annotated[Words, Option(help="The model you ordered, hex; default: any of data/models.toml.")] = None,
    seen: Annotated[File, Option(help="Your store of nonces: a replay is refused, a new one added.")] = None,
    require_hardware: Annotated[bool, Option("--require-hardware", help="Refuse a simulated TEE.")] = False,
    policy: Annotated[File, Option(help="Policy for evidence of hardware, then required; TOML or JSON.")] = None,
    nonce: Annotated[Words, Option(help="With --policy: your nonce, which the evidence must answer, hex.")] = None,
    evidence: Annotated[Files, Option(help="Evidence beside the receipt, such as collateral; repeatable.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check a receipt, naming the check that fails. Exit 0 accepted, 1 rejected, 2 unreadable."""
    raw = read_input(file, what="a receipt (JSON)")
    placed = None if order is None else load_order(read_input(order, what="an order (JSON)"))
    moment = dt.datetime.now(dt.UTC) if as_of is None else instant(as_of)
    rules = receipt_policy(policy, nonce, simulated=not require_hardware)
    appraise: Appraiser = appraise_evidence
    if evidence:
        appraise = appraiser_with([read_input(path, what="evidence", limit_bytes=MAX_FILE_BYTES) for path in evidence])
    verdict = verify_file(
        raw,
        policy=rules,
        appraise=appraise,
        as_of=int(moment.timestamp()),
        models=registered_models(data_folder()),
        model_id=None if model_id is None else from_hex(model_id, length=32, what="--model-id"),
        placed=placed,
        nonces=None if seen is None else OnceStore(seen),
    )
    if as_json:
        print_json(verdict.document())
    else:
        print_table(["check", "status", "meaning"], verdict.table)
        print(verdict.line)
    raise typer.Exit(0 if verdict.accepted else 1)


def receipt_policy(path: File, nonce: Words, *, simulated: bool) -> EvidencePolicy:
    """What evidence a receipt may come with, as ``otr verify`` was told.

    Raises:
        InputError: the policy cannot be used, or a nonce comes without one.
    """
    if path is None:
        if nonce is not None:
            raise InputError("--nonce: found one without --policy, expected the policy whose evidence must answer it")
        return EvidencePolicy(allow_simulated=simulated)
    hardware = Policy.from_bytes(read_input(path, what="a policy", limit_bytes=MAX_FILE_BYTES))
    own = None if nonce is None else from_hex(nonce, length=32, what="--nonce")
    return EvidencePolicy(allow_simulated=False, hardware=hardware, nonce=own)


def exit_with(problems: list[str]) -> None:
    """Print each problem as an error; with any, end with exit status 1."""
    for problem in problems:
        complain(f"error: {problem}")
    if problems:
        raise typer.Exit(1)


def instant(text: str) -> dt.datetime:
    """The moment that ``--as-of`` names, in UTC where it names no time zone.

    Raises:
        InputError: not ISO 8601.
    """
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError as error:
        example = "2025-01-15 or 2025-01-15T12:00:00Z"
        raise InputError(f"--as-of: found {text!r}, expected ISO 8601 such as {example}") from error
    return as_utc(moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC))


STATUS_STYLES = {
    **dict.fromkeys(("asserted", "passed", "reproduced", "agrees"), "green"),
    **dict.fromkeys(("refuted", "failed", "contradicted", "disagrees"), "red"),
    **dict.fromkeys(("unknown", "conditional", "not run", "not made"), "yellow"),
    "accepted": "bold green",
    "rejected": "bold red",
}


def print_table(head: list[str], rows: Iterable[Iterable[object]]) -> None:
    """Print rows under their head; a cell that is a status gets its colour."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*head, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(str(cell), style=STATUS_STYLES.get(str(cell), "")) for cell in row))
    console = Console()
    # A pipe or a log has no width to fit, so lines stay whole there.
    Console(width=None if console.is_terminal else 200).print(table)


def add_commands() -> None:
    """Add the commands that installed packages name in the entry-point group ``otr.commands``."""
    for entry in sorted(entry_points(group="otr.commands"), key=lambda one: one.name):
        entry.load()(app)


def main() -> NoReturn:
    """Entry point."""

    def act() -> None:
        add_commands()
        try:
            status = app(prog_name="otr", standalone_mode=False)
        except typer.Abort as error:
            raise InputError("found no answer to what was asked, expected one on standard input") from error
        except USAGE_ERROR as error:
            raise InputError(_usage(error)) from error
        if status == _INTERRUPTED:  # which typer has made of it without a word
            raise KeyboardInterrupt
        sys.exit(status if isinstance(status, int) else 0)

    run_reported(act)


#: A command, option or argument that is none, or is missing; typer names only those that derive from it.
USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]


def _usage(error: Any) -> str:
    """What is wrong with a command line, in one line; a group without a command shows its help, and ends here."""
    where = "otr" if error.ctx is None else error.ctx.command_path
    words = " ".join(error.format_message().split())
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        sys.exit(2)
    return f"{words.rstrip('.')} (see {where} --help)"


def run_reported(act: Callable[[], None]) -> NoReturn:
    """Do what a program is for, and exit: expected failures are one line and a status, never a traceback."""
    # What a library warns of, such as a name that is too long in somebody's certificate, is no line for the
    # user: what matters of it is checked.
    warnings.simplefilter("ignore")
    try:
        act()
    except OtrError as error:
        if os.environ.get(VERBOSE):
            traceback.print_exception(error)
        complain(f"error: {error}")
        sys.exit(2 if isinstance(error, InputError) else 1)
    except ModuleNotFoundError as error:
        missing = missing_extra(error)
        if missing is None:
            raise
        complain(f"error: {missing}")
        sys.exit(2)
    except OSError as error:  # of the machine: a disk that is full, a file that went, a server that refuses
        if os.environ.get(VERBOSE):
            traceback.print_exception(error)
        where = f"{error.filename}: " if error.filename else ""
        complain(f"error: {where}{error.strerror or one_line(error)}")
        sys.exit(1)
    except KeyboardInterrupt:
        say("interrupted: nothing is left half written; the same command goes on from here")
        sys.exit(_INTERRUPTED)
    sys.exit(0)


if __name__ == "__main__":
    main()
