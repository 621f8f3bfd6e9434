"""One notebook executed with papermill, and stored without anything that changes from run to run.

Papermill alone would let three failures pass, which are guarded against here: a misspelt
parameter, a notebook that leaves early, and a last cell that does not call ``finish()``.
"""

from __future__ import annotations

import base64
import contextlib
import html
import json
import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otr_core.errors import NotebookError
from otr_core.files import write_text
from otr_paper.press.notebook import FIGURES_VARIABLE, USAGE_VARIABLE, check_parameter_names, parameter_names
from otr_paper.press.parameters import check_parameters

_PICTURE = re.compile(r'<img alt="([^"]*)" src="data:image/png;base64,([^"]+)">')


@dataclass(frozen=True)
class Usage:
    """What one notebook took: wall-clock seconds, CPU seconds and peak memory (MB) of its
    kernel."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def read_notebook(path: Path) -> dict[str, Any]:
    """A notebook file.

    Raises:
        NotebookError: unreadable, or not a notebook of format 4.
    """
    try:
        notebook: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if notebook["nbformat"] != 4:
            raise NotebookError(f"{path.name}: found format {notebook['nbformat']}, expected 4")
        return notebook
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotebookError(f"{path}: not a readable notebook ({error})") from error


def run_notebook(source: Path, target: Path, figures: Path, parameters: Mapping[str, Any]) -> Usage:
    """Execute ``source`` with ``parameters`` and write it, normalised, to ``target``.

    Args:
        figures: folder the notebook's figures and tables go to.

    Raises:
        NotebookError: a parameter is unknown, a cell failed or never ran. ``target`` stays.
        InputError: a parameter is outside its range; no kernel was started.
    """
    notebook = read_notebook(source)
    check_parameter_names(set(parameters), parameter_names(notebook), source.name)
    check_parameters(parameters)
    figures.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="otr-") as folder:
        executed, usage = Path(folder) / source.name, Path(folder) / "usage.json"
        started = time.perf_counter()
        with _environment({FIGURES_VARIABLE: str(figures.resolve()), USAGE_VARIABLE: str(usage)}):
            _papermill(source, executed, dict(parameters))
        wall_s = time.perf_counter() - started
        result = read_notebook(executed)
        _check_all_ran(result, source.name)
        if not usage.is_file():
            raise NotebookError(f"{source.name}: its last cell must call finish()")
        write_text(target, notebook_text(normalise(result)))
        return Usage(wall_s=wall_s, **json.loads(usage.read_text()))


def _papermill(source: Path, target: Path, parameters: dict[str, Any]) -> None:
    """Execute ``source`` in the folder it lies in; a cell may take an hour.

    Raises:
        NotebookError: a cell failed; names the cell and the error.
    """
    import papermill

    logging.getLogger("papermill").setLevel(logging.ERROR)
    # traitlets would say at every start that the kernel talks over TCP.
    logging.getLogger("traitlets").setLevel(logging.CRITICAL)
    kernel = {"kernel_name": "python3", "language": "python", "cwd": str(source.parent)}
    # The kernel itself would say so, too: its socket is this machine's loopback.
    limits = {"start_timeout": 120, "execution_timeout": 3600, "extra_arguments": ["--log-level=ERROR"]}
    shown = {"progress_bar": sys.stderr.isatty()}
    try:
        papermill.execute_notebook(str(source), str(target), parameters=parameters, **kernel, **limits, **shown)
    except papermill.PapermillExecutionError as error:
        raise NotebookError(f"{source.name}, cell {error.exec_count}: {error.ename}: {error.evalue}") from error


@contextlib.contextmanager
def _environment(extra: Mapping[str, str]) -> Iterator[None]:
    """What the kernel inherits; hashes are fixed, so that no output hangs on the order of a set."""
    before = dict(os.environ)
    os.environ.update({**extra, "PYTHONHASHSEED": "0", "PYDEVD_DISABLE_FILE_VALIDATION": "1"})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _check_all_ran(notebook: Mapping[str, Any], name: str) -> None:
    """Refuse a notebook with a cell that never ran: papermill takes ``sys.exit`` for a good end."""
    for number, cell in enumerate(notebook["cells"], 1):
        if cell["cell_type"] == "code" and cell.get("execution_count") is None:
            raise NotebookError(f"{name}: cell {number} never ran (did an earlier one leave the notebook?)")


def normalise(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook as it is stored; changes and returns ``notebook``.

    Times, paths, papermill's notes and details of the kernel go; cells are counted from 1 to n, and
    their ids are stable.
    """
    count = 0
    for number, cell in enumerate(notebook["cells"]):
        cell["id"] = f"cell-{number:02d}"
        tags = [tag for tag in cell["metadata"].get("tags", []) if tag != "papermill-error-cell-tag"]
        cell["metadata"] = {"tags": tags} if tags else {}
        if cell["cell_type"] == "code":
            count += 1
            cell["execution_count"] = count
            cell["outputs"] = _joined(cell["outputs"])
            for output in cell["outputs"]:
                output.pop("execution_count", None)
                if output["output_type"] == "execute_result":
                    output["execution_count"] = count
                if "metadata" in output:
                    output["metadata"] = {}
                # The id of a live widget is random, and leads nowhere once the kernel has gone.
                output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    notebook["metadata"] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    notebook["nbformat_minor"] = 5
    return notebook


def _joined(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The outputs with printed text in one piece: timing decides how a kernel cuts it into
    messages."""
    joined: list[dict[str, Any]] = []
    for output in outputs:
        last = joined[-1] if joined else {}
        if output["output_type"] == last.get("output_type") == "stream" and output["name"] == last["name"]:
            last["text"] = [*last["text"], *output["text"]]
        else:
            joined.append(output)
    for output in joined:
        if output["output_type"] == "stream":
            output["text"] = "".join(output["text"]).splitlines(keepends=True)
    return joined


def shown_picture(output: Mapping[str, Any]) -> tuple[str, bytes] | None:
    """Text alternative and PNG of an output that is a picture (``notebook.picture_html``); None: it is none."""
    found = _PICTURE.fullmatch("".join(output.get("data", {}).get("text/html", "")))
    return None if found is None else (html.unescape(found[1]), base64.b64decode(found[2]))


def notebook_text(notebook: Mapping[str, Any]) -> str:
    """The one textual form notebooks are stored in."""
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def source_text(notebook: Mapping[str, Any]) -> str:
    """What a person wrote in the notebook: when this changes, the notebook must run again."""
    return json.dumps([(c["cell_type"], "".join(c["source"]), c["metadata"].get("tags")) for c in notebook["cells"]])
