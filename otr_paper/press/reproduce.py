"""The main job: model, notebooks, figures, ledger.

A notebook runs again only when something it depends on has changed. All of that (code, data, lock,
settings, its own source) is one digest, remembered in .otr/ with the digests of what it wrote.
As many run at a time as the machine has processors; each writes its figures into a folder of its own,
from which they come to their place when it has ended well.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from otr_core.errors import InputError, NotebookError
from otr_core.files import sha256_file, write_text
from otr_node import outside
from otr_node.models import model_folder
from otr_node.project import Project
from otr_paper.press.custody import manifest_path, write_manifest
from otr_paper.press.notebook import parameter_names
from otr_paper.press.pages import refresh_pages
from otr_paper.press.runner import Usage, read_notebook, source_text
from otr_paper.press.several import NotebookRun, at_a_time, run_several
from otr_paper.store.results import Card, this_machine, versions, write_result

Report = Callable[[str], None]
RECORD = "reproduce_run"
"""Stored result with the time and memory of a complete default run."""
_DRAWN = ".figures"
"""Ends the name of the folder in .otr/ that a notebook draws into."""
DEFAULT = {"mode": "stored", "profile": "paper", "device": "cpu"}
"""Settings of the run whose notebooks, figures and tables are committed."""


def notebook_names(project: Project) -> list[str]:
    """Names of all notebooks, in order."""
    return sorted(path.stem for path in project.notebooks.glob("[0-9][0-9]_*.ipynb"))


def choose_notebooks(project: Project, only: Iterable[str]) -> list[str]:
    """The notebooks whose number or name is in ``only``; all when it is empty.

    Raises:
        InputError: there is no such notebook.
    """
    names, chosen = notebook_names(project), []
    for wanted in only:
        found = [name for name in names if wanted in (name, name.split("_")[0], f"{name}.ipynb")]
        if not found:
            raise InputError(f"notebook: found {wanted!r}, expected one of {', '.join(names)}")
        chosen += found
    return sorted(set(chosen)) or names


@dataclass(frozen=True)
class _Step:
    """A notebook that has to run: what it is called in reports, what its outputs depend on, where that is kept."""

    label: str
    name: str
    key: str
    state: Path
    run: NotebookRun


def reproduce(
    project: Project,
    *,
    mode: str,
    profile: str,
    device: str,
    only: Iterable[str],
    force: bool,
    report: Report,
    jobs: int = 0,
) -> dict[str, Usage]:
    """Run the chosen notebooks and refresh what is generated from them; returns what each one took.

    ``force`` runs a notebook although nothing has changed; ``jobs`` of them run at a time (0: ``several.at_a_time``).
    The default run (stored, paper, cpu)
    writes notebooks/ and figures/ in place, and git keeps all of it but the SVG and PDF; any other
    run writes to build/<mode>-<profile>-<device>/.

    Raises:
        OtrError: the first failure; no other step begins then. Finished steps stay finished: the same command
            goes on from there.
    """
    names = choose_notebooks(project, only)
    settings = {"mode": mode, "profile": profile, "device": device}
    in_place = settings == DEFAULT
    home = project.root if in_place else project.build / f"{mode}-{profile}-{device}"
    _check_writable(home / "figures", home / "notebooks")
    _drop_half_written(home / "figures", home / "notebooks", project.state)
    if device == "cuda":
        from otr_node.lanes import check_device

        check_device(device)
    report(f"outside data: {outside.fetch(project, report=lambda line: report('  ' + line))} fetched")
    report("model:")
    model_folder(project, report=lambda line: report("  " + line))

    inputs = inputs_digest(project)
    due = list[_Step]()
    for number, name in enumerate(names, 1):
        label = f"[{number}/{len(names)}] {name}"
        source, target = project.notebooks / f"{name}.ipynb", home / "notebooks" / f"{name}.ipynb"
        key = run_key(inputs, settings, source)
        state = project.state / f"{home.name if not in_place else 'default'}-{name}.json"
        if not force and _is_done(state, key, home):
            report(f"{label}: nothing it depends on has changed, skipped")
            continue
        declared = parameter_names(read_notebook(source))
        chosen = {} if in_place else {key: value for key, value in settings.items() if key in declared}
        run = NotebookRun(source, target, project.state / f"{name}{_DRAWN}", chosen)
        due.append(_Step(label, name, key, state, run))
    used, failed = dict[str, Usage](), list[NotebookError]()
    runs = [each.run for each in due]
    begun = run_several(
        runs, jobs or at_a_time(), begun=lambda number: report(f"{due[number].label}: running"), go_on=False
    )
    for number, ended in begun:
        step = due[number]
        if isinstance(ended, NotebookError):
            failed.append(ended)
            continue
        used[step.name] = ended
        made = _take_over(home, step.run)
        write_text(step.state, json.dumps({"key": step.key, "made": made, "used": asdict(ended)}, indent=1))
        report(f"{step.label}: done in {ended.wall_s:.0f} s, {ended.peak_mb:.0f} MB at most")
    if failed:
        raise failed[0]
    if in_place:
        refresh_pages(project)
        report("README.md and docs: claims as computed")
    return used


def record_usage(project: Project, used: dict[str, Usage], *, date: str, cores: int) -> None:
    """Store what a complete default run took, for the table in docs/running.md, and, as the last act, the
    manifest of all that the run has recorded.

    Raises:
        InputError: some notebook was skipped, so that the table would be incomplete.
    """
    if missing := sorted(set(notebook_names(project)) - set(used)):
        raise InputError(f"--record: {', '.join(missing)} did not run; it goes with --force and without --only")
    steps = [
        {"step": name, "cpu_s": usage.cpu_s, "wall_s": round(usage.wall_s, 1), "peak_mb": usage.peak_mb}
        for name, usage in sorted(used.items())
    ]
    command = "otr reproduce --force --record"
    card = Card(command, date, this_machine(cores), versions(), seed=None, kind="measured")
    write_result(project.results, RECORD, card, {"steps": steps})
    refresh_pages(project)
    write_manifest(project)


def _check_writable(*folders: Path) -> None:
    """Make the folders; refuse one that cannot be written, before anything has run.

    Raises:
        InputError: names the folder.
    """
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot be made ({error.strerror}); make its parent writable") from error
        # The mode bits count too: root may write anywhere, but who marks a folder read-only means
        # it.
        if not (os.access(folder, os.W_OK | os.X_OK) and folder.stat().st_mode & 0o222):
            raise InputError(f"{folder}: read-only, and the run writes there; make it writable (chmod u+w)")


def _drop_half_written(*folders: Path) -> None:
    """Remove what a run that was killed in the middle of a file left (see ``whole_file``)."""
    for folder in folders:
        for part in folder.glob(".*.part"):
            part.unlink(missing_ok=True)
        for drawn in folder.glob(f"*{_DRAWN}"):
            shutil.rmtree(drawn, ignore_errors=True)


def inputs_digest(project: Project) -> str:
    """Digest of all that a notebook can depend on besides itself: code, data, stored results,
    lock."""
    digest = hashlib.sha256()
    files = [project.root / "requirements.lock"]
    for code in ("otr_*/**/*.py", "otr_core/**/*.vy"):
        files += project.root.glob(code)
    files += [path for path in project.data.rglob("*") if path.is_file() and not path.is_relative_to(project.external)]
    # no notebook reads these, and a recorded run writes them
    written = (project.results / f"{RECORD}.json", manifest_path(project))
    files = [path for path in files if path not in written]
    for path in sorted(files):
        digest.update(f"{path.relative_to(project.root)} {sha256_file(path)}\n".encode())
    return digest.hexdigest()


def run_key(inputs: str, settings: Mapping[str, str], source: Path) -> str:
    """What one notebook's outputs depend on, as a digest: equal keys, equal outputs."""
    text = json.dumps([inputs, dict(settings), source_text(read_notebook(source))])
    return hashlib.sha256(text.encode()).hexdigest()


def _take_over(home: Path, run: NotebookRun) -> dict[str, str]:
    """Bring what a run has drawn to its place; all that it wrote, with hashes."""
    drawn = [home / "figures" / path.name for path in run.figures.iterdir()]
    for path in drawn:
        shutil.move(run.figures / path.name, path)
    run.figures.rmdir()
    return {str(path.relative_to(home)): sha256_file(path) for path in (run.target, *sorted(drawn))}


def _is_done(state: Path, key: str, home: Path) -> bool:
    """Whether a run with the same key is remembered, and all that it wrote is there, unchanged."""
    try:
        stored: dict[str, Any] = json.loads(state.read_text())
        return stored["key"] == key and all(sha256_file(home / p) == h for p, h in stored["made"].items())
    except (OSError, ValueError, KeyError):
        return False  # no usable memory of an earlier run: run again
