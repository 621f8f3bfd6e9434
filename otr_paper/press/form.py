"""The parameters of a notebook as a form, and as a table for readers who have no kernel.

Both are made from ``press.parameters``. The form runs the notebook again in a process of its own,
with papermill, into a file beside the checkout's other products: nothing that is committed changes,
and the notebook that shows the form keeps its state.
"""

from __future__ import annotations

import ast
import contextlib
import html
import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from otr_core.errors import InputError
from otr_node.project import Project
from otr_paper.press.parameters import PARAMETERS, check_parameters

COLUMNS = ("parameter", "value", "unit", "what it may be", "range or meaning from")


def parameters_html(values: Mapping[str, Any]) -> str:
    """Names, values, units and ranges of a notebook's parameters: a table that is opened by a click, and
    needs neither a kernel nor JavaScript."""
    rows = [COLUMNS] + [
        (name, _text(value), PARAMETERS[name].unit, PARAMETERS[name].domain(), PARAMETERS[name].source)
        for name, value in values.items()
    ]
    tags = ["th"] + ["td"] * len(values)
    lines = [
        "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>"
        for tag, row in zip(tags, rows, strict=True)
    ]
    return f"<details><summary>Parameters of this run</summary><table>{''.join(lines)}</table></details>"


def parsed(texts: Mapping[str, str]) -> dict[str, Any]:
    """Values from what was typed: words as they are, numbers and truth values as Python writes them.

    Raises:
        InputError: one is not of its parameter's kind, or outside its range.
    """
    values: dict[str, Any] = {}
    for name, text in texts.items():
        values[name] = text
        if PARAMETERS[name].kind is not str:
            # What is no number stays a text, which the check names with what was expected.
            with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
                values[name] = ast.literal_eval(text.strip().replace(",", ""))
    check_parameters(values)
    return values


def papermill_words(project: Project, notebook: str, values: Mapping[str, Any], target: Path) -> list[str]:
    """The command that executes a notebook with these values and writes it to ``target``."""
    source = project.notebooks / f"{notebook}.ipynb"
    given = [word for name, value in values.items() for word in ("-y", json.dumps({name: value}, ensure_ascii=False))]
    return ["papermill", str(source), str(target), "--cwd", str(source.parent), *given]


def execute_beside(project: Project, notebook: str, values: Mapping[str, Any]) -> str:
    """Execute a notebook with these values; what to tell, in one line of HTML."""
    target = project.build / "runs" / f"{notebook}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    words = papermill_words(project, notebook, values, target)
    done = subprocess.run([sys.executable, "-m", *words, "--no-progress-bar"], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or "no reason was given").splitlines()[-1]
        return f"not run: {html.escape(last)}"
    return f'done: <a href="../build/runs/{notebook}.ipynb" target="_blank">build/runs/{notebook}.ipynb</a>'


def parameter_form(project: Project, notebook: str, values: Mapping[str, Any]) -> Any:
    """One field for each parameter, a button that runs the notebook with what stands in them, and the command
    that does the same in a terminal."""
    import ipywidgets as widgets

    looks: dict[str, Any] = {"style": {"description_width": "9em"}, "layout": {"width": "34em"}}
    fields: dict[str, Any] = {}
    for name, value in values.items():
        about = PARAMETERS[name]
        about_it = {"description": name, "tooltip": f"{about.domain()}; {about.source}", **looks}
        choices = (True, False) if about.kind is bool else about.choices
        if choices:
            fields[name] = widgets.Dropdown(options=[str(each) for each in choices], value=str(value), **about_it)
        else:
            fields[name] = widgets.Text(value=_text(value), placeholder=about.domain(), **about_it)
    button, said = widgets.Button(description="Run with these values"), widgets.HTML()

    def typed() -> dict[str, Any]:
        found = parsed({name: field.value for name, field in fields.items()})
        return {name: value for name, value in found.items() if value != values[name]}

    def show(_: object = None) -> None:
        try:
            words = papermill_words(project, notebook, typed(), project.build / "runs" / f"{notebook}.ipynb")
            said.value = f"<code>{html.escape(shlex.join(words))}</code>"
        except InputError as error:
            said.value = html.escape(str(error))
        button.disabled = not said.value.startswith("<code>")

    def press(_: object) -> None:
        changed, button.disabled = typed(), True
        said.value = "running; the notebooks take from seconds to a few minutes"
        said.value = execute_beside(project, notebook, changed)
        button.disabled = False

    for field in fields.values():
        field.observe(show, names="value")
    button.on_click(press)
    show()
    body = widgets.VBox([*fields.values(), button, said])
    return widgets.Accordion([body], titles=["Parameters: change them and run the notebook again"], selected_index=None)


def show_parameters(project: Project, notebook: str, values: Mapping[str, Any]) -> None:
    """The form where a kernel is alive, the table wherever its outputs are read without one, as one output."""
    from IPython import get_ipython
    from IPython.display import display

    if get_ipython() is None:
        return
    bundle = dict(parameter_form(project, notebook, values)._repr_mimebundle_())
    bundle |= {"text/html": parameters_html(values), "text/plain": f"parameters of {notebook}"}
    display(bundle, raw=True)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
