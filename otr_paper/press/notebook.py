"""What a notebook calls: set-up, figures and tables that save themselves, claim lines, provenance.

The same notebook runs three ways: opened in JupyterLab, executed headless with papermill, and
compared by nbval. Files go to ``build/interactive/`` unless the reproduce run names another folder,
so that looking around changes nothing that is committed.
"""

from __future__ import annotations

import ast
import base64
import html
import json
import logging
import os
import resource
import types
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otr_core.errors import InputError, NotebookError
from otr_core.files import write_text
from otr_node.project import Project, find_project
from otr_node.worker import peak_kb
from otr_paper.press import figures
from otr_paper.press.claims_table import claim_lines
from otr_paper.press.form import show_parameters
from otr_paper.press.parameters import check_parameters
from otr_paper.store.records import spelled
from otr_paper.store.results import Card, read_result, versions

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FIGURES_VARIABLE = "OTR_FIGURES"
"""Environment variable by which the reproduce run tells a kernel where figures and tables go."""
USAGE_VARIABLE = "OTR_USAGE"
"""Environment variable by which it says where the kernel reports its use of CPU and memory."""
SETTINGS = ("mode", "profile", "seed", "device")
"""Parameters that a session holds, of those that a notebook declares: it declares what it uses."""
KINDS = ("measured", "recomputed", "simulated", "cited")


def parameter_names(notebook: Mapping[str, Any]) -> list[str]:
    """Names assigned in the cell tagged ``parameters``.

    Raises:
        NotebookError: there is no such cell, or more than one.
    """
    cells = [c for c in notebook["cells"] if "parameters" in c.get("metadata", {}).get("tags", [])]
    if len(cells) != 1:
        raise NotebookError(f"cells tagged parameters: found {len(cells)}, expected 1")
    names = []
    for node in ast.parse("".join(cells[0]["source"])).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names += [target.id for target in targets if isinstance(target, ast.Name)]
    return names


def check_parameter_names(given: set[str], known: list[str], notebook: str) -> None:
    """Refuse a misspelt parameter, which papermill alone would only log.

    Raises:
        NotebookError: ``given`` holds a name that the notebook does not declare.
    """
    unknown = sorted(given - set(known))
    if unknown:
        raise NotebookError(f"{notebook}: unknown parameter {', '.join(unknown)}; it has {', '.join(known)}")


@dataclass(frozen=True)
class NotebookSession:
    """One execution of one notebook.

    Attributes:
        name: the notebook, such as ``05_spot_check_economics``.
        mode: ``stored`` takes long measurements from data/results, ``fresh`` makes them again.
        profile: ``paper`` or ``smoke``: the same computation, smaller.
        seed: of its generators; None: nothing in it is random.
        device: where its model runs.
        folder: where figures and tables are written.
    """

    name: str
    project: Project
    folder: Path
    mode: str = "stored"
    profile: str = "paper"
    seed: int | None = None
    device: str = "cpu"

    @property
    def smoke(self) -> bool:
        """Whether the small profile is on."""
        return self.profile == "smoke"

    def result(self, name: str) -> dict[str, Any]:
        """Payload of a stored result (see ``card``)."""
        return read_result(self.project.results, name)[1]

    def card(self, name: str) -> Card:
        """How a stored result was made."""
        return read_result(self.project.results, name)[0]

    def figure(self, figure: Figure, name: str, data: pd.DataFrame, *, kind: str, caption: str) -> None:
        """Write the figure in four forms (png, svg, pdf, csv), show it, and print its caption.

        Args:
            data: what the figure draws: those columns and rows, and no others.
            kind: measured, recomputed, simulated, cited, or several of them joined by " + ".
            caption: one or two sentences that a reader can quote; it says what the sources are.
        """
        import matplotlib.pyplot as plt
        from IPython.display import HTML, Markdown, display

        caption, title = spelled(caption), spelled(figures.title(figure))
        note = _note(kind, caption)
        png = figures.save_figure(figure, self.folder, name, data, note=note)
        plt.close(figure)
        display(HTML(picture_html(png, f"{name}: {title or caption}")))
        display(Markdown(f"**{name}.** {caption} *({kind})*"))

    def table(self, name: str, data: pd.DataFrame, *, kind: str, caption: str) -> None:
        """Write the table as CSV and Markdown, and show it. Numbers are formatted by the caller."""
        from IPython.display import Markdown, display

        caption = spelled(caption)
        text = figures.save_table(self.folder, name, data, note=_note(kind, caption))
        display(Markdown(f"{text}\n**{name}.** {caption} *({kind})*"))

    def reading(self, text: str) -> None:
        """Show a paragraph whose numbers are filled in by the caller, from data."""
        from IPython.display import Markdown, display

        display(Markdown(spelled(" ".join(text.split()))))

    def claims(self, *ids: str) -> None:
        """Print one line of fixed format for each claim, recomputed now.

        Raises:
            ClaimsError: a stored verdict or number no longer matches what the code computes.
        """
        print("\n".join(claim_lines(self.project.data, list(ids))))

    def finish(self) -> None:
        """Print what the outputs were made with; tell the reproduce run what the kernel used."""
        pinned = ", ".join(f"{name} {version}" for name, version in versions().items())
        seeded = "" if self.seed is None else f", seed {self.seed}"
        print(f"notebook {self.name}: mode {self.mode}, profile {self.profile}{seeded}, device {self.device}")
        print(f"made with {pinned}")
        if target := os.environ.get(USAGE_VARIABLE):
            used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
            cpu_s = sum(u.ru_utime + u.ru_stime for u in used)
            peak_mb = max(peak_kb(), used[1].ru_maxrss) / 1024
            write_text(target, json.dumps({"cpu_s": round(cpu_s, 1), "peak_mb": round(peak_mb)}))


def picture_html(png: bytes, alt: str) -> str:
    """The picture with its text alternative, as JupyterLab shows it: of an output of type image/png it
    drops the text. The picture stays part of the document, so an untrusted notebook shows it too."""
    source = base64.b64encode(png).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{source}">'


def _note(kind: str, caption: str) -> str:
    """First line of a CSV: the kind of its numbers, and the caption.

    Raises:
        InputError: ``kind`` names something that is not one of ``KINDS``.
    """
    parts = kind.split(" + ")
    if not set(parts) <= set(KINDS):
        raise InputError(f"kind: found {kind!r}, expected some of {', '.join(KINDS)} joined by ' + '")
    return f"[{kind}] {caption}"


def start(name: str, namespace: Mapping[str, Any]) -> NotebookSession:
    """Begin a notebook: check its parameters and show them, set style and quiet, open the session.

    Args:
        name: the notebook's name without suffix.
        namespace: the notebook's ``globals()``; holds the parameters, papermill's included.

    Raises:
        NotebookError: a parameter the notebook does not declare was injected.
        InputError: a parameter is outside its range (``otr_paper.press.parameters``).
    """
    project = find_project()
    stored = json.loads((project.notebooks / f"{name}.ipynb").read_text("utf-8"))
    declared = parameter_names(stored)
    check_parameter_names(_values(namespace), declared, name)
    check_parameters({key: namespace.get(key) for key in declared})
    quiet()
    figures.use_style()
    show_parameters(project, name, {key: namespace[key] for key in declared})
    folder = Path(os.environ.get(FIGURES_VARIABLE) or project.build / "interactive" / "figures")
    return NotebookSession(name, project, folder, **{key: namespace[key] for key in SETTINGS if key in declared})


def quiet() -> None:
    """No warnings, progress bars or network look-ups of libraries in a notebook's output."""
    os.environ.update({"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"})
    os.environ.update({"HF_HUB_DISABLE_PROGRESS_BARS": "1", "OMP_WAIT_POLICY": "PASSIVE"})
    warnings.filterwarnings("ignore")
    # on a new machine it says that it builds its font cache
    logging.getLogger("matplotlib").setLevel(logging.ERROR)


_IPYTHON_NAMES = {"In", "Out", "exit", "quit", "open", "get_ipython", "papermill"}


def _values(namespace: Mapping[str, Any]) -> set[str]:
    """Names in a notebook's namespace that hold plain values: at the setup call, its parameters."""
    skipped = (types.ModuleType, types.FunctionType, types.MethodType, type)
    return {
        name
        for name, value in namespace.items()
        if not name.startswith("_") and name not in _IPYTHON_NAMES and not isinstance(value, skipped)
    }
